#!/usr/bin/env python3
"""Frozen answers of the Hugging Face tokenizers library (pip install tokenizers==0.23.3) on added tokens.

Writes added.json: tokenizers whose added tokens overlap, some normalized and some not, each with texts over four
letters and the ids that the library gives.
"""
import json
import os
import random

from tokenizers import Tokenizer

HERE = os.path.dirname(os.path.abspath(__file__))
LETTERS = "abcd"
WORDS = 7  # added tokens of a tokenizer


def tokenizer(draw):
    vocab = {letter: i for i, letter in enumerate(LETTERS)}
    vocab["ab"], vocab["cd"] = 4, 5
    words = set()
    while len(words) < WORDS:
        words.add("".join(draw.choice(LETTERS) for _ in range(draw.randint(1, 4))))
    words = sorted(words - set(vocab))
    draw.shuffle(words)
    stage = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None, "pre_tokenizer": stage,
        "post_processor": None, "decoder": stage,
        "added_tokens": [
            {"id": 6 + i, "content": word, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": draw.random() < 0.5, "special": draw.random() < 0.3}
            for i, word in enumerate(words)],
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": vocab, "merges": [["a", "b"], ["c", "d"]]},
    }


def main():
    draw = random.Random(9)
    sets = []
    for _ in range(12):
        described = tokenizer(draw)
        library = Tokenizer.from_str(json.dumps(described))
        texts = ["".join(draw.choice(LETTERS) for _ in range(draw.randint(1, 14))) for _ in range(25)]
        sets.append({"tokenizer": described, "cases": [[text, library.encode(text).ids] for text in texts]})
    with open(os.path.join(HERE, "added.json"), "w") as out:
        json.dump({"made_by": "tokenizers 0.23.3", "sets": sets}, out, separators=(",", ":"))
        out.write("\n")


main()
