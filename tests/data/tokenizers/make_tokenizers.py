"""Writes NAME.json and NAME.cases.json for each tokenizer: usage, README.md.

A vocabulary is pruned to what the texts of strings.json need: the tokens that
come out, and every pair that could have been joined on the way, so that merging
meets the very candidates that it meets in the whole vocabulary. The ids are the
original ones. That the pruned file answers like the whole one is checked here by
the Hugging Face library, whose answers are frozen.
"""

import argparse
import json
import pathlib
import re
import subprocess
import tempfile

import tokenizers
import xxhash

from sources import NOT_FROZEN, PUBLISHED
from trained import LIKE

FOLDER = pathlib.Path(__file__).parent
BYTE = re.compile(r"^<0x([0-9A-F]{2})>$")
SHOWN = 40  # texts whose ids are frozen in full


def texts():
    return json.loads((FOLDER / "strings.json").read_text())["strings"]


def load(tree):
    return tokenizers.Tokenizer.from_str(json.dumps(tree))


# ---- Pruning --------------------------------------------------------------------------


def words_of(tokenizer, texts, has_bytes):
    """The words that the model was given, as it spells them."""
    out = set()
    for text in texts:
        encoding = tokenizer.encode(text, add_special_tokens=False)
        word, last = [], None
        for token, number in zip(encoding.tokens + [None], encoding.word_ids + [None]):
            if token is None or number != last:
                if word:
                    out.add(spelling(word, has_bytes))
                word = []
            word.append(token)
            last = number
    return out


def spelling(tokens, has_bytes):
    if not has_bytes:
        return "".join(tokens)
    out = bytearray()
    for token in tokens:
        match = BYTE.match(token)
        out += bytes([int(match.group(1), 16)]) if match else token.encode()
    return out.decode()


def prune(tree, texts):
    model = tree["model"]
    vocab = model["vocab"]
    merges = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in model["merges"]]
    rank = {pair: i for i, pair in enumerate(merges)}
    tokenizer = load(tree)
    has_bytes = bool(model.get("byte_fallback"))
    kept = {id for text in texts for id in tokenizer.encode(text).ids}
    pairs = set()
    spellings = {token["content"] for token in tree["added_tokens"]}
    for word in words_of(tokenizer, texts, has_bytes):
        if word in spellings or (model.get("ignore_merges") and word in vocab):
            continue
        symbols = list(word)
        while len(symbols) > 1:
            best = None
            for at, pair in enumerate(zip(symbols, symbols[1:])):
                r = rank.get(pair)
                if r is not None:
                    pairs.add(pair)
                    if best is None or r < best[0]:
                        best = (r, at)
            if best is None:
                break
            at = best[1]
            symbols[at:at + 2] = [symbols[at] + symbols[at + 1]]
    needed = {token for pair in pairs for token in (*pair, pair[0] + pair[1])}
    normal = "\0".join(tokenizer.normalizer.normalize_str(text) if tokenizer.normalizer else text for text in texts)
    plain = "\0".join(texts)
    out = json.loads(json.dumps({key: value for key, value in tree.items() if key not in ("model", "added_tokens")}))
    out["added_tokens"] = [t for t in tree["added_tokens"]
                           if t["id"] in kept or t["content"] in plain or t["content"] in normal or len(tree["added_tokens"]) <= 32]
    # An added token is in the vocabulary too: the library gives it another id otherwise.
    words = {token: id for token, id in vocab.items()
             if id in kept or token in needed or len(token) == 1 and is_base(token, has_bytes, plain) or BYTE.match(token)}
    words.update({t["content"]: t["id"] for t in out["added_tokens"]})
    out["model"] = {key: value for key, value in model.items() if key not in ("vocab", "merges")}
    out["model"]["vocab"] = dict(sorted(words.items(), key=lambda entry: entry[1]))
    out["model"]["merges"] = [m for m, pair in zip(model["merges"], merges) if pair in pairs]
    return out


def is_base(token, has_bytes, plain):
    return token in plain or token == "▁" if has_bytes else True


# ---- Freezing -------------------------------------------------------------------------


def digest(ids):
    return f"{xxhash.xxh3_64_intdigest(b''.join(id.to_bytes(4, 'little') for id in ids)):016x}"


def rows(digests):
    """Eight a string."""
    return ["".join(digests[i:i + 8]) for i in range(0, len(digests), 8)]


def answers(tokenizer, texts):
    """ids, and decodings without and with special tokens."""
    ids = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    return ids, tokenizer.decode_batch(ids, skip_special_tokens=True), tokenizer.decode_batch(ids, skip_special_tokens=False)


def around(tokenizer):
    """What the post-processor puts in front and behind."""
    bare = tokenizer.encode("x", add_special_tokens=False).ids
    full = tokenizer.encode("x").ids
    at = next(i for i in range(len(full)) if full[i:i + len(bare)] == bare)
    return full[:at], full[at + len(bare):]


def cases(tokenizer, texts, source):
    ids, plain, whole = answers(tokenizer, texts)
    front, behind = around(tokenizer)
    step = max(1, len(texts) // SHOWN)
    lines = [
        '"package": ' + json.dumps(source.package),
        '"library": ' + json.dumps("tokenizers " + tokenizers.__version__),
        '"front": ' + json.dumps(front),
        '"behind": ' + json.dumps(behind),
        '"shown": {\n' + ",\n".join(f'"{i}": {json.dumps(ids[i])}' for i in range(0, len(texts), step)) + "}",
        # A decoding that is the text itself is left out, and the second where it is the first.
        '"decoded": {\n' + ",\n".join(f'"{i}": {json.dumps(d)}' for i, d in enumerate(plain) if d != texts[i]) + "}",
        '"decoded_with_special": {\n' +
        ",\n".join(f'"{i}": {json.dumps(d)}' for i, d in enumerate(whole) if d != plain[i]) + "}",
        '"digests": [\n' + ",\n".join(f'"{row}"' for row in rows([digest(one) for one in ids])) + "]",
    ]
    return "{" + ",\n".join(lines) + "}\n"


def check_against_own_library(name, source, tokenizer, texts):
    if source.encode is None:
        print(f"  {name}: {source.package}")
        return
    spellings = [t["content"] for t in source.tree["added_tokens"]]
    tried, different = 0, []
    for text in texts:
        if not source.parses_added and any(s in text for s in spellings):
            continue
        tried += 1
        if source.encode(text) != tokenizer.encode(text, add_special_tokens=False).ids:
            different.append(text)
    print(f"  {name}: as {source.original} in {tried - len(different)} of {tried} texts", [d[:40] for d in different[:6]])


def make(name, source, strings):
    whole = load(source.tree)
    check_against_own_library(name, source, whole, strings)
    pruned_tree = prune(source.tree, strings) if source.tree["model"]["type"] == "BPE" else source.tree
    pruned = load(pruned_tree)
    wanted = answers(whole, strings)
    if answers(pruned, strings) != wanted or around(pruned) != around(whole):
        raise SystemExit(name + ": the pruned tokenizer answers otherwise")
    content = json.dumps(pruned_tree, ensure_ascii=False, separators=(",", ":")) + "\n"
    (FOLDER / f"{name}.json").write_text(content)
    frozen = cases(pruned, strings, source)
    (FOLDER / f"{name}.cases.json").write_text(frozen)
    model = pruned_tree["model"]
    print(f"  {name}: {len(source.tree['model']['vocab'])} tokens pruned to {len(model['vocab'])}, "
          f"{len(model.get('merges', []))} merges; {len(content.encode())} + {len(frozen)} bytes", flush=True)


def try_whole(name, source, strings, program):
    """The whole vocabulary, which is nowhere frozen, against the program, which takes no NUL."""
    strings = [text for text in strings if "\0" not in text]
    wanted = answers(load(source.tree), strings)[0]
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "tokenizer.json").write_text(json.dumps(source.tree, ensure_ascii=False))
        lines = "".join(json.dumps(dict(prompt=text)) + "\n" for text in strings)
        ran = subprocess.run([program, "tokenize", "--model", folder, "--add-bos", "no", "--prompts", "-"],
                             input=lines, stdout=subprocess.PIPE, text=True, check=True)
    found = [json.loads(line)["tokens"] for line in ran.stdout.splitlines()]
    different = [i for i, (a, b) in enumerate(zip(wanted, found, strict=True)) if a != b]
    print(f"  {name}: {len(source.tree['model']['vocab'])} tokens, the same ids in {len(strings) - len(different)} of "
          f"{len(strings)} texts", different[:6], flush=True)
    return not different


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("wheels", help="the folder that pip download wrote wheels into")
    parser.add_argument("names", nargs="*", help="those to make; all if there are none")
    parser.add_argument("--show", type=int, help="only print the ids of this text")
    parser.add_argument("--against", metavar="MOERUN", help="make nothing: try the whole vocabularies against this program")
    options = parser.parse_args()
    strings = texts()
    print("tokenizers", tokenizers.__version__)
    if options.against is not None:
        same = [try_whole(name, PUBLISHED[name](options.wheels), strings, options.against)
                for name in options.names or sorted(PUBLISHED)]
        raise SystemExit(0 if all(same) else 1)
    for name in options.names or sorted({**PUBLISHED, **LIKE}.keys() - NOT_FROZEN):
        if options.show is not None:
            tokenizer = load(json.loads((FOLDER / f"{name}.json").read_text()))
            encoding = tokenizer.encode(strings[options.show], add_special_tokens=False)
            print(name, repr(strings[options.show]), list(zip(encoding.ids, encoding.tokens)))
            continue
        make(name, LIKE[name](strings) if name in LIKE else PUBLISHED[name](options.wheels), strings)


if __name__ == "__main__":
    main()
