#!/usr/bin/env python3
"""Write text that the demo model was not trained on, to measure quality with.

Blocks that make_corpus.py holds out, in turns one of each domain, from four
domains: prose, dictionary, french and german. Their packages decide their
text to the byte, and the model's bits per byte on their held-out blocks here
are those of its train.log; C and Python come from whatever is installed, so
that nobody can tell what of it was trained on. Characters that a block cuts
are left out. The same packages give the same bytes; the digest of them is
printed.

usage: make_held_out.py OUT_FILE [--kib N]
"""

import argparse
import hashlib
import pathlib
import sys

import make_corpus

DOMAINS = ("prose", "dictionary", "french", "german")
DEFAULT_KIB = 96


def held_out_blocks(name):
    """The whole held-out blocks of a domain."""
    limit = make_corpus.DEFAULT_LIMIT_KIB * 1024
    _, text = make_corpus.split_blocks(make_corpus.DOMAINS[name](limit))
    size = make_corpus.BLOCK_BYTES
    return [text[i:i + size] for i in range(0, len(text) - size + 1, size)]


def evenly(blocks, count):
    """`count` of the blocks, from all over the text."""
    if count > len(blocks):
        sys.exit(f"make_held_out.py: --kib: expected at most "
                 f"{len(blocks) * len(DOMAINS) * make_corpus.BLOCK_BYTES // 1024}")
    return [blocks[i * len(blocks) // count] for i in range(count)]


def main():
    parser = argparse.ArgumentParser(
        description="Write text that the demo model was not trained on.")
    parser.add_argument("out_file", type=pathlib.Path)
    parser.add_argument("--kib", type=int, default=DEFAULT_KIB,
                        help="size, a multiple of 16 (default %(default)s)")
    options = parser.parse_args()
    each = options.kib * 1024 // make_corpus.BLOCK_BYTES // len(DOMAINS)
    if each < 1:
        sys.exit("make_held_out.py: --kib: expected at least 16")
    try:
        parts = [evenly(held_out_blocks(name), each) for name in DOMAINS]
    except make_corpus.MissingSource as error:
        sys.exit(f"make_held_out.py: {error}")
    text = b"".join(block.decode("utf-8", "ignore").encode()
                    for turn in zip(*parts) for block in turn)
    options.out_file.write_bytes(text)
    print(f"{len(text)} bytes, sha256 {hashlib.sha256(text).hexdigest()}")


if __name__ == "__main__":
    main()
