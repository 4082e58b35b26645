#!/usr/bin/env python3
"""The peer of the whole-model benchmark: Hugging Face transformers on CPU.

Times three cases on one checkpoint, with the KV cache and in inference mode,
and prints JSON:

    prefill_N   one sequence of N new tokens, logits of the last one
    decode_1    one new token of one sequence
    decode_16   one new token of each of 16 sequences

To be a fair opponent it tries what transformers offers and quotes the fastest
for each case and dtype. Attention is scaled_dot_product_attention. Experts:
"eager" loops over the experts that were hit, "batched_mm" copies the weights
of every row together, "grouped_mm" makes one grouped product, "compiled" is
grouped_mm under torch.compile with a static cache. Not tried, because it could
only lose: batched_mm where it would copy more than GATHER_LIMIT_BYTES a layer,
and compiled steps of many rows (ten times slower with 16) or in fp32 (grouped
products are not compiled there).

The implementations take turns, several rounds, so that a neighbour's load does
not hit one of them alone. Steps are timed one by one after a warm-up. Token
ids are random with a fixed seed, so that all do the same work. "median_ms" of
"best" is the number to compare with; the load average before and after says
how far the machine was ours.

usage: transformers_peer.py MODEL_DIR [--threads N] [--dtype bf16 fp32] …
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import sys
import time

import torch
import transformers
from transformers import AutoModelForCausalLM, DynamicCache, StaticCache

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
IMPLEMENTATIONS = ("eager", "batched_mm", "grouped_mm", "compiled")
GATHER_LIMIT_BYTES = 512 << 20


def cpu_name():
    with open("/proc/cpuinfo", encoding="utf-8") as stream:
        for line in stream:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.machine()


class Case:
    """Steps of `length` new tokens for each of `batch` sequences that hold
    `context` positions at the start of a round."""

    def __init__(self, model, name, batch, length, context):
        self.model, self.name, self.rows = model, name, batch * length
        self.context = context
        self.compiled = None
        generator = torch.Generator().manual_seed(0)
        draw = lambda width: torch.randint(
            model.config.vocab_size, (batch, width), generator=generator)
        self.ids, self.context_ids = draw(length), draw(context)

    def refusal(self, implementation):
        """Why an implementation is not tried, or None."""
        if implementation == "batched_mm":
            weight = next(module.gate_up_proj
                          for name, module in self.model.named_modules()
                          if name.endswith("mlp.experts"))
            pairs = self.rows * self.model.config.num_experts_per_tok
            size = pairs * weight[0].numel() * weight.element_size()
            if size > GATHER_LIMIT_BYTES:
                return f"would copy {size / 2**30:.1f} GiB of weights a layer"
        if implementation == "compiled" and self.rows > 1:
            return "compiled steps are for one row"
        if implementation == "compiled" and self.model.dtype != torch.bfloat16:
            return "compiled grouped products are for bf16"
        return None

    def step(self, forward, ids, cache):
        began = time.perf_counter()
        forward(ids, use_cache=True, past_key_values=cache, logits_to_keep=1)
        return time.perf_counter() - began

    def prepare(self, implementation, num_steps):
        """The function that makes steps, and the cache that it extends."""
        compiled = implementation == "compiled"
        self.model.set_experts_implementation(
            "grouped_mm" if compiled else implementation)
        if not compiled:
            cache = DynamicCache(config=self.model.config)
            forward = self.model
        else:
            cache = StaticCache(config=self.model.config,
                                max_cache_len=self.context + num_steps)
            self.compiled = self.compiled or torch.compile(self.model.forward)
            forward = self.compiled
        if self.context:
            self.step(self.model, self.context_ids, cache)
        return forward, cache

    def round(self, implementation, warm_up, steps):
        """Seconds of `steps` steps. Decode steps follow each other as in a
        generation; prefill steps each start from nothing."""
        forward, cache = self.prepare(implementation, warm_up + steps)
        seconds = []
        for _ in range(warm_up + steps):
            if not self.context:
                cache = DynamicCache(config=self.model.config)
            seconds.append(self.step(forward, self.ids, cache))
        return seconds[warm_up:]


def summary(rows, seconds):
    median = statistics.median(seconds)
    return {"median_ms": round(median * 1e3, 3),
            "min_ms": round(min(seconds) * 1e3, 3),
            "max_ms": round(max(seconds) * 1e3, 3),
            "steps": len(seconds),
            "tokens_per_s": round(rows / median, 2)}


def time_case(case, options):
    refusals = {name: case.refusal(name) for name in IMPLEMENTATIONS}
    seconds = {name: [] for name, why in refusals.items() if why is None}
    for round_number in range(options.rounds):
        for name in seconds:
            seconds[name] += case.round(name, options.warm_up, options.steps)
        print(f"{case.name}: round {round_number + 1} of {options.rounds}",
              file=sys.stderr)
    results = {name: summary(case.rows, times)
               for name, times in seconds.items()}
    best = min(results, key=lambda name: results[name]["median_ms"])
    return {"rows": case.rows, "context": case.context,
            "best": {"implementation": best, **results[best]},
            "all": results,
            "not_tried": {name: why for name, why in refusals.items() if why}}


@torch.inference_mode()
def time_dtype(name, options):
    model = AutoModelForCausalLM.from_pretrained(
        options.model_dir, dtype=DTYPES[name], attn_implementation="sdpa")
    model.eval()
    cases = ((f"prefill_{options.prefill}", 1, options.prefill, 0),
             ("decode_1", 1, 1, options.context),
             ("decode_16", 16, 1, options.context))
    return {case[0]: time_case(Case(model, *case), options) for case in cases}


def parse_options():
    parser = argparse.ArgumentParser(
        description="Time transformers on CPU: prefill and decode steps.")
    parser.add_argument("model_dir", type=pathlib.Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", nargs="+", choices=DTYPES,
                        default=list(DTYPES))
    parser.add_argument("--prefill", type=int, default=512,
                        help="tokens of the prefill case (default 512)")
    parser.add_argument("--context", type=int, default=64,
                        help="positions before the first decode step "
                             "(default 64)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5,
                        help="timed steps of each implementation a round "
                             "(default 5)")
    parser.add_argument("--warm-up", type=int, default=2,
                        help="steps before them, not timed (default 2)")
    options = parser.parse_args()
    if not (options.model_dir / "config.json").is_file():
        parser.error(f"{options.model_dir}: expected a model folder, found no "
                     "config.json")
    return options


def main():
    options = parse_options()
    torch.set_num_threads(options.threads)
    torch.set_num_interop_threads(1)
    transformers.utils.logging.disable_progress_bar()
    report = {
        "model": str(options.model_dir),
        "threads": options.threads,
        "cpu": cpu_name(),
        "cpus_seen": os.cpu_count(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "attention": "sdpa",
        "load_average_before": os.getloadavg()}
    report["results"] = {name: time_dtype(name, options)
                         for name in options.dtype}
    report["load_average_after"] = os.getloadavg()
    json.dump(report, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
