#!/usr/bin/env python3
"""Write cases.json: what sampling settings leave of made-up logits.

The expected probabilities are those of transformers' logits processors, in the
order of vLLM's sampler: repetition penalty, frequency and presence penalty,
temperature, min_p, top_k, top_p. transformers has no frequency and presence
penalty; they are computed as OpenAI's API reference defines them. Made with
transformers 5.24 and torch 2.15; run it with the folder of the output.
"""

import json
import pathlib
import random
import sys

import torch
from transformers import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

V = 24
SEED = 20261130


def expected(case):
    """Kept ids with their probabilities, and the greedy id.

    The likeliest come first, as moerun's draws have it; in the order of ids where
    nothing cuts.
    """
    history = case["prompt"] + case["completion"]
    ids = torch.tensor([history])
    scores = torch.tensor([case["logits"]], dtype=torch.float32)
    if case["repetition_penalty"] != 1:
        scores = RepetitionPenaltyLogitsProcessor(case["repetition_penalty"])(ids, scores)
    counts = torch.zeros(V)
    for token in case["completion"]:
        counts[token] += 1
    scores = scores - case["frequency_penalty"] * counts
    scores = scores - case["presence_penalty"] * (counts > 0)
    greedy = int(scores.argmax())
    if case["temperature"] > 0:
        scores = TemperatureLogitsWarper(float(case["temperature"]))(ids, scores)
    if case["min_p"] > 0:
        scores = MinPLogitsWarper(case["min_p"])(ids, scores)
    if case["top_k"] > 0:
        scores = TopKLogitsWarper(case["top_k"])(ids, scores)
    if case["top_p"] < 1:
        scores = TopPLogitsWarper(case["top_p"])(ids, scores)
    p = torch.softmax(scores[0].double(), 0).tolist()
    kept = [i for i in range(V) if p[i] > 0]
    if case["min_p"] > 0 or case["top_k"] > 0 or case["top_p"] < 1:
        kept.sort(key=lambda i: (-p[i], i))
    return [[i, p[i]] for i in kept], greedy


def main():
    r = random.Random(SEED)
    cases = []
    for number in range(160):
        # Quarters bring ties; the others have none.
        step = 4 if number % 5 == 0 else 4096
        case = {
            "logits": [r.randrange(-5 * step, 5 * step) / step for _ in range(V)],
            "prompt": [r.randrange(V) for _ in range(r.randrange(1, 6))],
            "completion": [r.randrange(V) for _ in range(r.randrange(0, 9))],
            "temperature": 0 if number % 8 == 7 else r.choice([0.5, 0.75, 1, 1.5, 3]),
            "top_k": r.choice([0, 0, 1, 2, 5, 12, V, 100]),
            "top_p": r.choice([1, 1, 0.3, 0.61, 0.9, 0.99]),
            "min_p": r.choice([0, 0, 0.02, 0.1, 0.4, 1]),
            "repetition_penalty": r.choice([1.0, 1.0, 1.25, 2.0, 0.5]),
            "presence_penalty": r.choice([0, 0, 0.5, 2, -1.5]),
            "frequency_penalty": r.choice([0, 0, 0.25, 2, -0.75]),
        }
        if number % 5 == 0:
            case["top_p"] = 1  # which of equals it cuts is an accident of the sort
        case["kept"], case["greedy"] = expected(case)
        cases.append(case)
    lines = ",\n".join(json.dumps(case) for case in cases)
    folder = pathlib.Path(sys.argv[1])
    (folder / "cases.json").write_text('{"cases": [\n' + lines + "\n]}\n")


if __name__ == "__main__":
    main()
