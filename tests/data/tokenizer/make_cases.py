#!/usr/bin/env python3
"""Frozen answers of the Hugging Face tokenizers library (pip install tokenizers==0.20.3).

Writes a small byte-level BPE tokenizer.json (merges trained on the text below) and cases.json:
texts with the ids that the library gives and the text it decodes them to.
"""
import json
import os

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

HERE = os.path.dirname(os.path.abspath(__file__))
TRAINING = [
    "the quick brown fox jumps over the lazy dog, and then the other dog jumps back",
    "for (int i = 0; i < count; i++) {\n    total += value[i];\n}\n",
    "def area(width, height):\n    return width * height\n",
    "Der schnelle braune Fuchs springt über den faulen Hund. Größe, Maß, Straße.",
    "Le cœur a ses raisons que la raison ne connaît point ; où êtes-vous ?",
    "日本語のテキストと中文文本 and some emoji 🙂🙃🙂",
    "aaaaaaaaaaaaaaaa bbbbbbbb abababababab",
]
TEXTS = [
    "",
    " ",
    "the other dog",
    "aaaaaaa",
    "aaaaabababbbaaab",
    "Größe über Maß où êtes-vous",
    "<bos>the<eos>the",
    "<eos><eos>a<bos",
    "[long][long er]x[long",
    "a\u0000b\u0001\u007f\u00ad",
    "🙂🙃 文本 日本",
    "for (int i = 0; i < total; i++) {\n\treturn width * i;\n}\n\n\n",
    "\u0120\u0121 \u00a0 \u2003 \ufffd \U0010ffff",
    TRAINING[0] * 5,
]


def main():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    # Trained word by word so that merges nest; used on unsplit text.
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    trained.train_from_iterator(TRAINING, trainers.BpeTrainer(
        vocab_size=420, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    model = json.loads(trained.to_str())["model"]
    tokenizer.model = models.BPE(vocab=model["vocab"], merges=[tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in model["merges"]])
    tokenizer.add_special_tokens([AddedToken("<bos>", normalized=False), AddedToken("<eos>", normalized=False)])
    tokenizer.add_tokens([AddedToken("[long]", normalized=False), AddedToken("[long er]", normalized=False)])
    tokenizer.save(os.path.join(HERE, "tokenizer.json"), pretty=False)
    cases = []
    for text in TEXTS:
        ids = tokenizer.encode(text).ids
        # JSON strings in the tests carry no NUL, so texts are given as bytes.
        cases.append({"bytes": list(text.encode()), "ids": ids,
                      "decoded": list(tokenizer.decode(ids).encode())})
    with open(os.path.join(HERE, "cases.json"), "w") as out:
        json.dump({"made_by": "tokenizers 0.20.3", "cases": cases}, out, separators=(",", ":"))
        out.write("\n")


main()
