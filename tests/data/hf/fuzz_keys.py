#!/usr/bin/env python3
"""Change every key of config.json, one at a time, and compare two programs.

For each fixture, each key that its config.json has or that transformers has a
default for, and each of some values: transformers and moerun read the same
weights with the changed file. Found is one of

  same       both run, log-probabilities agree
  differ     both run, and they do not: a difference in silence
  refused    moerun refuses, transformers gives other numbers than before
  needless   moerun refuses, transformers gives the same numbers as before
  lenient    transformers refuses, moerun runs
  both       both refuse

Of values that transformers refuses, null is not printed: it is mostly a missing
key here.

usage: fuzz_keys.py PROGRAM [NAME …]   exit status 1 if anything differs
"""

import collections
import copy
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import warnings

import numpy as np
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

HERE = pathlib.Path(__file__).resolve().parent
TOLERANCE = 1e-3
LIMIT_S = 60

# What changes how a program works and not what a model is.
OTHERS = {
    "_name_or_path", "transformers_version", "return_dict", "output_attentions",
    "output_hidden_states", "output_router_logits", "torchscript", "dtype",
    "torch_dtype", "use_cache", "architectures", "id2label", "label2id",
    "problem_type", "chunk_size_feed_forward", "is_encoder_decoder",
    "router_aux_loss_coef", "router_jitter_noise", "initializer_range",
    "attention_dropout", "vocab_size", "model_type"}


def changes(value):
    """Other values of the kind of one value."""
    if isinstance(value, bool):
        return [not value, None]
    if isinstance(value, int):
        return [value + 1, value - 1, value * 2, 0, 1, -1, None]
    if isinstance(value, float):
        return [value * 2, value / 2, 0.0, 1.0, -value, None]
    if isinstance(value, str):
        return ["other", "gelu", "sliding_attention", "sparse", "yarn", None]
    if isinstance(value, list):
        return [value[:-1], value[::-1], value + value[:1], [0], [], None]
    if value is None:
        return [True, 2, 0.5, [0]]
    return []


def variants(config, defaults):
    """(path of keys, value) of every change"""
    everything = {**defaults, **config}
    for key, value in everything.items():
        if key in OTHERS:
            continue
        if isinstance(value, dict):
            for inner, old in value.items():
                for new in changes(old):
                    yield (key, inner), new
            yield (key,), None
        for new in changes(value):
            yield (key,), new


def changed(config, defaults, path, new):
    result = copy.deepcopy(config)
    if len(path) == 2:
        result[path[0]] = {**(result.get(path[0]) or defaults.get(path[0]) or {}),
                           path[1]: new}
    else:
        result[path[0]] = new
    return result


def theirs(folder, tokens):
    """Log-probabilities of each sequence, or a text that says why not."""
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager",
            experts_implementation="eager", output_loading_info=True)
        wrong = [f"{kind}: {names}" for kind, names in report.items() if names]
        if wrong:
            return "; ".join(wrong)[:200]
        model.eval()
        found = []
        with torch.inference_mode():
            for row in tokens:
                ids = torch.tensor([[t for t in row if t >= 0]])
                logits = model(ids, use_cache=False).logits[0].double()
                logs = logits.log_softmax(dim=-1)[:-1]
                found.append(logs.gather(1, ids[0, 1:, None])[:, 0].numpy())
        found = np.concatenate(found)
        return found if np.isfinite(found).all() else "numbers are not finite"
    except Exception as error:  # whatever it is, it does not run
        return f"{type(error).__name__}: {error}"[:200]


def ours(program, folder, tokens_file):
    run = subprocess.run(
        [program, "run", "--model", folder, "--tokens", tokens_file,
         "--prompt-logprobs", "--max-new-tokens", "1", "--progress", "off"],
        capture_output=True, text=True, timeout=LIMIT_S, check=False)
    if run.returncode != 0:
        lines = [line for line in run.stderr.splitlines()
                 if line.startswith("moerun: ") and "predicted" not in line]
        assert lines and run.returncode in (1, 2, 65), (
            f"exit code {run.returncode}: {run.stderr[-300:]}")
        return lines[-1]
    return np.concatenate([
        np.array(json.loads(line)["prompt_logprobs"][1:], dtype=float)
        for line in run.stdout.splitlines() if line.startswith("{")])


def judge(mine, other, before):
    if isinstance(mine, str):
        if isinstance(other, str):
            return "both"
        return "needless" if close(other, before) else "refused"
    if isinstance(other, str):
        return "lenient"
    return "same" if close(mine, other) else "differ"


def close(a, b):
    return len(a) == len(b) and np.abs(a - b).max() <= TOLERANCE * max(
        1.0, np.abs(b).max())


def fuzz(program, name, scratch):
    source = HERE / name
    config = json.loads((source / "config.json").read_text())
    defaults = AutoConfig.from_pretrained(source).to_dict()
    tokens = np.load(source / "tokens.npy")
    folder = scratch / name
    folder.mkdir()
    for file in source.glob("*.safetensors*"):
        shutil.copy(file, folder)
    shutil.copy(source / "tokens.npy", scratch / f"{name}.npy")
    target = folder / "config.json"

    def both(content):
        target.write_text(json.dumps(content))
        return (ours(program, folder, scratch / f"{name}.npy"),
                theirs(folder, tokens))

    mine, before = both(config)
    assert judge(mine, before, before) == "same", f"{name}: {mine} {before}"
    counts, failures = collections.Counter(), 0
    for path, new in variants(config, defaults):
        mine, other = both(changed(config, defaults, path, new))
        found = judge(mine, other, before)
        counts[found] += 1
        key = ".".join(path)
        failures += found == "differ"
        if found == "differ" or new is not None and found in ("lenient",
                                                              "needless"):
            why = {"differ": "", "lenient": other, "needless": mine}[found]
            print(f"{name}: {found}: {key} = {json.dumps(new)} {why}",
                  flush=True)
    print(f"{name}:", ", ".join(f"{found} {count}" for found, count
                                in sorted(counts.items())), flush=True)
    return failures


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__.rsplit("\n\n", 1)[1].strip())
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    warnings.simplefilter("ignore")
    names = sys.argv[2:] or sorted(
        path.parent.name for path in HERE.glob("*/tokens.npy")
        if path.parent.name != "demo")
    with tempfile.TemporaryDirectory() as scratch:
        failures = sum(fuzz(sys.argv[1], name, pathlib.Path(scratch))
                       for name in names)
    print(f"{failures} differ")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
