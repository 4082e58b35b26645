#!/usr/bin/env python3
"""Build the demo model's training text from what Debian packages install.

Six domains that look nothing alike, one byte to a token, so that the routers
have something to specialise on:

    domain      text                                     package
    prose       the King James Bible                     bible-kjv
    c           header files under /usr/include          (any -dev packages)
    python      the standard library of python3          (python3)
    dictionary  nouns and verbs with their glosses       wordnet-base
    french      manual pages                             manpages-fr
    german      manual pages                             manpages-de

Each domain becomes OUT_DIR/NAME.train and OUT_DIR/NAME.eval: the text is cut
into blocks of 4 KiB, and every 50th block is held out for evaluation.
Everything is sorted or shuffled with a fixed seed, so the same packages give
the same bytes. Only Python's standard library is needed.

usage: make_corpus.py OUT_DIR [--limit-kib N]
"""

import argparse
import gzip
import pathlib
import random
import re
import subprocess
import sys

BLOCK_BYTES = 4096
HELD_OUT_EVERY = 50
DEFAULT_LIMIT_KIB = 8192


class MissingSource(Exception):
    """A source is not installed; the text says which package brings it."""


def read_bytes(path):
    """The contents of a file, unpacked if it is a .gz."""
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else data


def plain_from_roff(page):
    """A manual page without its markup: macros go, their arguments stay."""
    kept = []
    for line in page.split(b"\n"):
        if line.startswith((b'.\\"', b"'\\\"", b"..")):
            continue  # a comment, or the end of a macro definition
        if line.startswith(b"."):
            line = re.sub(rb"^\.[A-Za-z]+ ?", b"", line).replace(b'"', b"")
        line = re.sub(rb"\\f[A-Z(][A-Z]?|\\&|\\c", b"", line)
        line = line.replace(b"\\-", b"-").replace(b"\\(aq", b"'")
        if line.strip():
            kept.append(line)
    return b"\n".join(kept) + b"\n\n"


def files_below(root, pattern, package, limit, convert=lambda data: data):
    """Files that match, in shuffled order, joined until `limit` is reached."""
    paths = sorted(p for p in pathlib.Path(root).glob(pattern) if p.is_file())
    if not paths:
        raise MissingSource(
            f"no {pattern} under {root}: expected the package {package}")
    random.Random(0).shuffle(paths)
    parts, size = [], 0
    for path in paths:
        parts.append(convert(read_bytes(path)))
        size += len(parts[-1])
        if size >= limit:
            break
    return b"".join(parts)[:limit]


def prose(limit):
    """The whole Bible by its command-line reader, verse numbers removed."""
    try:
        text = subprocess.run(["bible", "gen1:1-rev22:21"], check=True,
                              stdout=subprocess.PIPE).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise MissingSource("the command `bible` does not run: expected the "
                            "package bible-kjv") from error
    return re.sub(rb"\n +\d+ ", b"\n", text)[:limit]


def dictionary(limit):
    """One line per meaning: "word, synonym: gloss; example"."""
    lines = []
    for part in ("noun", "verb"):
        path = pathlib.Path("/usr/share/wordnet") / f"data.{part}"
        if not path.is_file():
            raise MissingSource(f"no {path}: expected the package wordnet-base")
        for row in path.read_text("latin-1").split("\n"):
            if row.startswith("  ") or "|" not in row:
                continue  # the licence at the top
            head, gloss = row.split("|", 1)
            fields = head.split()
            num_words = int(fields[3], 16)  # each word, then its sense number
            words = fields[4:4 + 2 * num_words:2]
            lines.append(", ".join(word.replace("_", " ") for word in words)
                         + ": " + gloss.strip())
    random.Random(1).shuffle(lines)
    return "\n".join(lines).encode()[:limit]


DOMAINS = {
    "prose": prose,
    "c": lambda limit: files_below(
        "/usr/include", "**/*.h", "libc6-dev", limit),
    "python": lambda limit: files_below(
        "/usr/lib", "python3*/**/*.py", "python3", limit),
    "dictionary": dictionary,
    "french": lambda limit: files_below(
        "/usr/share/man/fr", "man*/*", "manpages-fr", limit, plain_from_roff),
    "german": lambda limit: files_below(
        "/usr/share/man/de", "man*/*", "manpages-de", limit, plain_from_roff),
}


def split_blocks(text):
    """(training bytes, held-out bytes)"""
    blocks = [text[i:i + BLOCK_BYTES] for i in range(0, len(text), BLOCK_BYTES)]
    train = [b for i, b in enumerate(blocks) if i % HELD_OUT_EVERY != 0]
    return b"".join(train), b"".join(blocks[::HELD_OUT_EVERY])


def main():
    parser = argparse.ArgumentParser(
        description="Build the training text of the demo model.")
    parser.add_argument("out_dir", type=pathlib.Path)
    parser.add_argument("--limit-kib", type=int, default=DEFAULT_LIMIT_KIB,
                        help="most KiB per domain (default %(default)s)")
    options = parser.parse_args()
    options.out_dir.mkdir(parents=True, exist_ok=True)
    for name, build in DOMAINS.items():
        try:
            train, held_out = split_blocks(build(options.limit_kib * 1024))
        except MissingSource as error:
            sys.exit(f"make_corpus.py: {name}: {error}")
        (options.out_dir / f"{name}.train").write_bytes(train)
        (options.out_dir / f"{name}.eval").write_bytes(held_out)
        print(f"{name}: {len(train)} bytes to train on, "
              f"{len(held_out)} held out")


if __name__ == "__main__":
    main()
