#!/usr/bin/env python3
"""The peer of the text benchmark: the Hugging Face library on one thread.

Runs moerun_bench_text and the library by turns over English, code and Chinese
texts, a few rounds each, and prints what each does in MB/s of processor time
(the fastest round), and how long the tokenizer.json takes to read. The library
encodes with encode_batch_fast, its fastest call, with threads switched off;
documents are the same. It ends with an error if the ids differ in number.

English is the documentation that comes with Python, code is Python's library;
both need no download. Chinese is made up: tokens of the tokenizer's own
vocabulary that are Chinese, drawn with the frequencies 1 / rank, with
punctuation; so it has words, but no sense.

usage: text_peer.py PROGRAM TOKENIZER_FOLDER [--megabytes N] [--rounds N]
"""

import argparse
import json
import os
import pathlib
import pydoc_data.topics
import random
import re
import subprocess
import sysconfig
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"

import tokenizers  # noqa: E402

DOCUMENT = 4096


def english():
    return "\n".join(pydoc_data.topics.topics.values())


def code():
    folder = pathlib.Path(sysconfig.get_paths()["stdlib"])
    return "\n".join(file.read_text(errors="ignore") for file in sorted(folder.glob("*.py")))


def chinese(tokenizer):
    decoded = (tokenizer.decode([id]) for id in range(tokenizer.get_vocab_size()))
    words = [w for w in decoded if re.fullmatch("[\u4e00-\u9fff]{1,6}", w)]
    rng = random.Random(1)
    rng.shuffle(words)
    weights = [1 / (rank + 1) for rank in range(len(words))]
    out = []
    for _ in range(30000):
        count = rng.randint(4, 14)
        out.append("".join(rng.choices(words, weights, k=count)) + rng.choice("，，。；！？\n"))
    return "".join(out)


def cut(text, megabytes):
    """Repeated or cut to size, in whole characters."""
    raw = text.encode()
    size = int(megabytes * 1e6)
    return (raw * (size // len(raw) + 1))[:size].decode(errors="ignore").encode()


def documents(raw):
    out = []
    while raw:
        end = raw.find(b"\n", DOCUMENT) + 1 if len(raw) > DOCUMENT else 0
        out.append(raw[:end or None].decode())
        raw = raw[end:] if end else b""
    return out


def ours(program, folder, files):
    lines = subprocess.run([program, folder, "1", *files], check=True, capture_output=True, text=True).stdout.splitlines()
    return [json.loads(line) for line in lines]


def theirs(folder, texts):
    start = time.thread_time()
    tokenizer = tokenizers.Tokenizer.from_file(str(pathlib.Path(folder) / "tokenizer.json"))
    out = [dict(load_s=time.thread_time() - start)]
    for docs in texts:
        start = time.process_time()
        encodings = tokenizer.encode_batch_fast(docs, add_special_tokens=False)
        middle = time.process_time()
        ids = [e.ids for e in encodings]
        before = time.process_time()
        tokenizer.decode_batch(ids)
        end = time.process_time()
        out.append(dict(ids=sum(map(len, ids)), encode_s=middle - start, decode_s=end - before))
    return out


def best(rounds, i, key):
    return min(r[i][key] for r in rounds)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("folder")
    parser.add_argument("--megabytes", type=float, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    tokenizer = tokenizers.Tokenizer.from_file(str(pathlib.Path(options.folder) / "tokenizer.json"))
    texts = {"English": english(), "code": code(), "Chinese": chinese(tokenizer)}
    raw = {name: cut(text, options.megabytes) for name, text in texts.items()}
    with tempfile.TemporaryDirectory() as place:
        files = []
        for name, content in raw.items():
            files.append(os.path.join(place, name))
            pathlib.Path(files[-1]).write_bytes(content)
        docs = [documents(content) for content in raw.values()]
        a, b = [], []
        for _ in range(options.rounds):
            a.append(ours(options.program, options.folder, files))
            b.append(theirs(options.folder, docs))
    print(f"tokenizers {tokenizers.__version__}, {tokenizer.get_vocab_size()} tokens; load average {os.getloadavg()[0]:.1f}")
    print(f"{'':16}{'moerun':>12}{'tokenizers':>14}{'ratio':>8}")
    load = best(a, 0, "load_s"), best(b, 0, "load_s")
    print(f"{'read':16}{load[0]:>10.3f} s{load[1]:>12.3f} s{load[1] / load[0]:>8.2f}")
    for what in ("encode_s", "decode_s"):
        for i, (name, content) in enumerate(raw.items(), 1):
            if a[0][i]["ids"] != b[0][i]["ids"]:
                raise SystemExit(f"{name}: {a[0][i]['ids']} ids, {b[0][i]['ids']} of the library")
            mine, other = (len(content) / 1e6 / best(r, i, what) for r in (a, b))
            print(f"{what[:6] + ' ' + name:16}{mine:>7.1f} MB/s{other:>9.1f} MB/s{mine / other:>8.2f}", flush=True)


if __name__ == "__main__":
    main()
