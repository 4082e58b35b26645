#!/usr/bin/env python3
"""Make the frozen fixtures of this folder with Hugging Face transformers.

For each model below: random weights in the layout of published checkpoints,
an fp32 forward pass of transformers (eager attention, eager experts) on those
very files, and what it computed. README.md, one folder up, describes the
files. check_fixtures.py must pass on whatever this writes.

The weights are drawn so that mistakes show: norm weights far from 1, routers
with strong preferences, logits with a spread of several units, biases that
change the choice of experts. Seeds are tried in order until no two neighbours
among the k + 1 largest of what any token's experts are chosen by are closer
than MIN_GATE_MARGIN, so that rounding cannot change an id.

usage: make_fixtures.py [NAME …]       all of them, or some by name
"""

import itertools
import json
import pathlib
import sys

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from models import FAMILIES, FIXTURES, LAYOUTS, SWIGLU

HERE = pathlib.Path(__file__).resolve().parent
DEMO_MODEL = HERE.parents[2] / "launch/demo/model"

# Difference of the logarithms of two scores; of two biased scores, or sums of
# two, where a bias takes part in the choice.
MIN_GATE_MARGIN = 1e-3
DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}

NEW_TOKENS = 32  # of the greedy continuations
MIN_LOGIT_MARGIN = 0.01

# Prompts of the demo model, one of them with bytes beyond ASCII.
DEMO_PROMPTS = (
    "And the man of the city said unto his servant, Rise up,",
    "def count_lines(path):\n    with open(path, 'rb') as f:\n  ",
    "Die Datei wird für jeden Prozess nur einmal geöffnet",
)
DEMO_NEW_TOKENS = 40
DEMO_MIN_GATE_MARGIN = 1e-4
DEMO_MIN_LOGIT_MARGIN = 0.02  # best against second best, greedy continuation

# ---- Random weights ----------------------------------------------------------


class Draw:
    """Random tensors; `gain` is the output's size against the input's."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def linear(self, num_outputs, num_inputs, gain=1.0):
        scale = gain / np.sqrt(num_inputs)
        return self.rng.standard_normal((num_outputs, num_inputs)) * scale

    def norm(self, width):
        return self.rng.uniform(0.4, 1.6, width)


def draw_ffn(draw, hidden, width, prefix, names):
    gate, up, down = names
    return {f"{prefix}{gate}.weight": draw.linear(width, hidden),
            f"{prefix}{up}.weight": draw.linear(width, hidden),
            f"{prefix}{down}.weight": draw.linear(hidden, width, gain=1.5)}


def draw_attention(draw, config, prefix):
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    kv_heads = config["num_key_value_heads"]
    head_dim = config.get("head_dim", hidden // heads)
    if config["model_type"] == "solar_open":
        head_dim = config.get("head_dim", 128)
    tensors = {
        prefix + "q_proj.weight": draw.linear(heads * head_dim, hidden, 1.5),
        prefix + "k_proj.weight": draw.linear(kv_heads * head_dim, hidden, 1.5),
        prefix + "v_proj.weight": draw.linear(kv_heads * head_dim, hidden),
        prefix + "o_proj.weight": draw.linear(hidden, heads * head_dim)}
    family = FAMILIES[config["model_type"]]
    if family["qkv_bias"](config) or config.get("use_qkv_bias"):
        for name, rows in (("q", heads), ("k", kv_heads), ("v", kv_heads)):
            tensors[f"{prefix}{name}_proj.bias"] = 0.7 * (
                draw.rng.standard_normal(rows * head_dim))
    qk_norm = family["qk_norm"]
    if qk_norm == "head" or config.get(qk_norm):  # per head
        tensors[prefix + "q_norm.weight"] = draw.norm(head_dim) * 1.5
        tensors[prefix + "k_norm.weight"] = draw.norm(head_dim) * 1.5
    if qk_norm == "row":  # over the whole row
        tensors[prefix + "q_norm.weight"] = draw.norm(heads * head_dim) * 1.5
        tensors[prefix + "k_norm.weight"] = draw.norm(kv_heads * head_dim) * 1.5
    return tensors


def is_dense(config, layer):
    """The rules of all families; the others have none of the keys."""
    if config["model_type"] == "hy_v3":
        return config.get("mlp_layer_types", ["dense"] + ["sparse"] * layer)[
            layer] == "dense"
    if config["model_type"] == "ernie4_5_moe":
        return not (config.get("moe_layer_start_index", 1) <= layer
                    <= config.get("moe_layer_end_index", layer)
                    and (layer + 1) % config.get("moe_layer_interval", 1) == 0)
    return (layer in config.get("mlp_only_layers", [])
            or (layer + 1) % config.get("decoder_sparse_step", 1) != 0
            or layer < config.get("first_k_dense_replace", 0))


def count_of(config):
    """Of experts; sarvam_moe has two names for it, as for the shared ones."""
    if config["model_type"] == "sarvam_moe":
        return config["num_experts"]
    return config[FAMILIES[config["model_type"]]["count"]]


def draw_shared(draw, config, block):
    """What beside its experts an MoE block has."""
    hidden, family = config["hidden_size"], FAMILIES[config["model_type"]]
    tensors = {}
    if config["model_type"] == "qwen2_moe":
        return draw_ffn(draw, hidden, config["shared_expert_intermediate_size"],
                        block + "shared_expert.", SWIGLU) | {
            block + "shared_expert_gate.weight": draw.linear(1, hidden, 1.5)}
    if family["shared"] and config.get("shared_intermediate_size") != 0:
        name, number = family["shared"]
        if config["model_type"] == "sarvam_moe":
            number = "num_shared_experts"
        width = (config[number] * config[family["width"]] if number
                 else config["shared_intermediate_size"])
        tensors = draw_ffn(draw, hidden, width, block + name, family["names"])
    if family["bias"]:
        tensors[block + family["bias"]] = (
            0.3 * draw.rng.standard_normal(count_of(config)))
    return tensors


def draw_experts(draw, config, prefix):
    hidden, family = config["hidden_size"], FAMILIES[config["model_type"]]
    experts, width = count_of(config), config[family["width"]]
    block = prefix + family["block"]
    tensors = {f"{block}{family['gate']}.weight":
               draw.linear(experts, hidden, gain=2.0)}
    for expert in range(experts):
        tensors |= draw_ffn(draw, hidden, width, f"{block}experts.{expert}.",
                            family["names"])
    return tensors | draw_shared(draw, config, block)


def draw_model(seed, config, embedding_deviation):
    """Checkpoint name -> float64 array, in the names of published files."""
    draw, hidden = Draw(seed), config["hidden_size"]
    vocabulary = config["vocab_size"]
    tensors = {
        "model.embed_tokens.weight":
            draw.rng.standard_normal((vocabulary, hidden))
            * embedding_deviation,
        "model.norm.weight": draw.norm(hidden)}
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        tensors[at + "input_layernorm.weight"] = draw.norm(hidden)
        tensors[at + "post_attention_layernorm.weight"] = draw.norm(hidden)
        tensors |= draw_attention(draw, config, at + "self_attn.")
        if is_dense(config, layer):
            tensors |= draw_ffn(draw, hidden, config["intermediate_size"],
                                at + "mlp.",
                                ("gate_proj", "up_proj", "down_proj"))
        else:
            tensors |= draw_experts(draw, config, at)
    if not config["tie_word_embeddings"]:
        tensors["lm_head.weight"] = draw.linear(vocabulary, hidden, gain=2.5)
    LAYOUTS.get(config["model_type"], lambda tensors: None)(tensors)
    return tensors


def draw_tokens(seed, lengths, vocabulary):
    """int32 [sequences][longest], -1 after the end of a sequence"""
    rng = np.random.default_rng([seed, 1])
    tokens = np.full((len(lengths), max(lengths)), -1, dtype=np.int32)
    for row, length in zip(tokens, lengths):
        row[:length] = rng.integers(vocabulary, size=length)
    return tokens


# ---- Files -------------------------------------------------------------------


def write_json(path, content):
    path.write_text(json.dumps(content, indent=2) + "\n", "utf-8")


def write_tensors(folder, tensors, num_shards):
    """model.safetensors, or shards with an index; tensors go to the shards in
    turn, so that one layer's lie in several."""
    metadata = {"format": "pt"}
    for stale in folder.glob("model*.safetensors*"):
        stale.unlink()
    if num_shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata)
        return
    shard_of = {}
    for shard in range(num_shards):
        names = sorted(tensors)[shard::num_shards]
        file = f"model-{shard + 1:05}-of-{num_shards:05}.safetensors"
        save_file({name: tensors[name] for name in names}, folder / file,
                  metadata)
        shard_of |= dict.fromkeys(names, file)
    size = sum(t.numel() * t.element_size() for t in tensors.values())
    write_json(folder / "model.safetensors.index.json",
               {"metadata": {"total_size": size},
                "weight_map": dict(sorted(shard_of.items()))})


def write_model(folder, spec, seed):
    folder.mkdir(parents=True, exist_ok=True)
    config = spec["base"] | spec["config"]
    arrays = draw_model(seed, config, spec.get("embedding", 1.0))
    dtype = DTYPES[spec["dtype"]]
    tensors = {name: torch.from_numpy(array).to(torch.float32).to(dtype)
               for name, array in arrays.items()}
    write_tensors(folder, tensors, spec.get("shards", 1))
    torch_dtype = str(dtype).removeprefix("torch.")
    write_json(folder / "config.json", config | {"torch_dtype": torch_dtype})


def rewrite_fused(folder, dtype):
    """Replaces the files by what transformers itself holds: the names and the
    shapes of its modules, and its own config.json."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    tensors = {name: tensor.contiguous()
               for name, tensor in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        del tensors["lm_head.weight"]
    assert any(name.endswith("experts.gate_up_proj") for name in tensors)
    write_tensors(folder, tensors, 1)
    model.config.save_pretrained(folder)


# ---- The forward pass of transformers ----------------------------------------


def smallest_gap(scores, k):
    """Between neighbours among the k + 1 largest of any row."""
    scores = scores.sort(dim=-1, descending=True).values[..., :k + 1]
    return -scores.diff(dim=-1).max().item()


class Oracle:
    """A model in fp32 that remembers what its routers and layers returned."""

    def __init__(self, folder):
        self.model, report = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager",
            experts_implementation="eager", output_loading_info=True)
        for kind, names in report.items():
            assert not names, f"{folder}: {kind}: {names}"
        self.model.eval()
        self.margins, self.experts, self.hidden = [], [], []
        self.num_routed = 0   # rows whose choice knows a bias
        self.num_changed = 0  # of them, with other experts than by score
        for layer in self.model.model.layers:
            layer.register_forward_hook(
                lambda module, inputs, output: self.hidden.append(output))
            block = getattr(layer, "mlp", None) or layer.block_sparse_moe
            gate = getattr(block, "gate", None) or getattr(block, "router",
                                                           None)
            if gate is not None:
                gate.register_forward_hook(self.keep_routing)

    def keep_routing(self, module, inputs, output):
        logits, _, ids = output
        bias = getattr(module, "e_score_correction_bias", None)
        statics = getattr(module, "moe_statics", None)
        if statics is not None:
            bias = statics.e_score_correction_bias[0]
        if bias is None and len(inputs) > 1:  # that of the block
            bias = inputs[1]
        if bias is None:
            self.margins.append(smallest_gap(logits.double(), ids.shape[-1]))
            self.experts.append(ids)
            return
        score = (logits.double().sigmoid() if statics is None
                 else logits.double().softmax(dim=-1))
        choice = score + bias.double()
        if getattr(module, "topk_group", 1) < getattr(module, "num_group", 1):
            grouped = choice.unflatten(-1, (module.num_group, -1))
            sums = grouped.topk(2, dim=-1).values.sum(dim=-1)
            self.margins.append(smallest_gap(sums, module.topk_group))
            closed = sums < sums.topk(module.topk_group).values[:, -1:]
            choice = grouped.masked_fill(closed[..., None], -9.0).flatten(-2)
        self.margins.append(smallest_gap(choice, ids.shape[-1]))
        # These routers return their choice in no order.
        order = choice.gather(1, ids).argsort(dim=-1, descending=True)
        self.experts.append(ids.gather(1, order))
        by_score = score.topk(ids.shape[-1]).indices.sort(dim=-1).values
        differs = (by_score != ids.sort(dim=-1).values).any(dim=-1)
        self.num_routed += len(ids)
        self.num_changed += differs.sum().item()

    @torch.inference_mode()
    def run(self, tokens):
        """tokens [T] -> logits [T][V], experts [T][layers][k], hidden
        [T][layers + 1][H] (first the embedding), smallest gate margin"""
        self.margins, self.experts = [], []
        ids = torch.tensor([list(tokens)])
        self.hidden = [
            self.model.model.embed_tokens(ids)
            * getattr(self.model.config, "embedding_multiplier", 1.0)]
        logits = self.model(ids, use_cache=False).logits[0]
        experts = torch.stack(self.experts, dim=1)
        hidden = torch.stack([h[0] for h in self.hidden], dim=1)
        return (logits.numpy(), experts.numpy().astype(np.int16),
                hidden.numpy(), min(self.margins))

    @torch.inference_mode()
    def continue_greedily(self, tokens, count):
        ids = torch.tensor([list(tokens)])
        out = self.model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False,
            max_new_tokens=count, pad_token_id=0)
        return out[0, len(tokens):].numpy().astype(np.int32)


def run_all(oracle, tokens):
    """The arrays of a fixture for tokens [S][T], and the smallest margin."""
    arrays, margins = {"tokens": tokens}, []
    for s, row in enumerate(tokens):
        length = int((row >= 0).sum())
        logits, experts, hidden, margin = oracle.run(row[:length])
        if s == 0:
            shape = tokens.shape
            arrays["logits"] = np.zeros((*shape, logits.shape[-1]), np.float32)
            arrays["experts"] = np.full((*shape, *experts.shape[1:]), -1,
                                        np.int16)
            arrays["hidden"] = hidden
        arrays["logits"][s, :length] = logits
        arrays["experts"][s, :length] = experts
        margins.append(margin)
    return arrays, min(margins)


def save_arrays(folder, arrays):
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)


def add_greedy(oracle, arrays):
    """Adds the continuation of the first sequence; returns its smallest gate
    margin, 0 where two tokens are too close."""
    prompt = [token for token in arrays["tokens"][0] if token >= 0]
    greedy = oracle.continue_greedily(prompt, NEW_TOKENS)
    logits, _, _, margin = oracle.run([*prompt, *greedy[:-1]])
    best = np.sort(logits[len(prompt) - 1:], axis=-1)[:, -2:]
    closest = (best[:, 1] - best[:, 0]).min()
    arrays["greedy"] = greedy[None]
    arrays["greedy_margin"] = (best[:, 1] - best[:, 0])[None]
    return margin if closest >= MIN_LOGIT_MARGIN else 0.0


def make_random(name):
    spec, folder = FIXTURES[name], HERE / name
    vocabulary = spec["config"]["vocab_size"]
    for seed in itertools.count():
        write_model(folder, spec, seed)
        if spec.get("fused"):
            rewrite_fused(folder, DTYPES[spec["dtype"]])
        tokens = draw_tokens(seed, spec["lengths"], vocabulary)
        oracle = Oracle(folder)
        arrays, margin = run_all(oracle, tokens)
        if margin >= MIN_GATE_MARGIN and spec.get("greedy"):
            margin = min(margin, add_greedy(oracle, arrays))
        if margin >= MIN_GATE_MARGIN:
            break
    if FAMILIES[spec["base"]["model_type"]]["bias"]:
        changed = oracle.num_changed / oracle.num_routed
        print(f"{name}: {changed:.0%} of rows have other experts than by score")
        assert changed > 0.25
    save_arrays(folder, arrays)
    print(f"{name}: seed {seed}, smallest gate margin {margin:.2e}, logits "
          f"within +-{np.abs(arrays['logits']).max():.1f}")


def make_demo():
    folder = HERE / "demo"
    folder.mkdir(exist_ok=True)
    oracle = Oracle(DEMO_MODEL)
    prompts = [[256, *prompt.encode()] for prompt in DEMO_PROMPTS]
    tokens = np.full((len(prompts), max(map(len, prompts))), -1, np.int32)
    greedy = np.zeros((len(prompts), DEMO_NEW_TOKENS), np.int32)
    logit_margin = np.zeros(greedy.shape, np.float32)
    for s, prompt in enumerate(prompts):
        tokens[s, :len(prompt)] = prompt
        greedy[s] = oracle.continue_greedily(prompt, DEMO_NEW_TOKENS)
        logits, _, _, margin = oracle.run([*prompt, *greedy[s][:-1]])
        logits = logits[len(prompt) - 1:]
        best = np.sort(logits, axis=-1)[:, -2:]
        logit_margin[s] = best[:, 1] - best[:, 0]
        text = bytes(greedy[s].astype(np.uint8)).decode("utf-8", "replace")
        print(f"demo {s}: {len(prompt)} tokens, gate margin {margin:.2e}, "
              f"logit margin {logit_margin[s].min():.3f}, {text!r}")
        assert (logits.argmax(axis=-1) == greedy[s]).all()
        assert greedy[s].max() < 256, "the continuation ends early"
        assert margin >= DEMO_MIN_GATE_MARGIN
        assert logit_margin[s].min() >= DEMO_MIN_LOGIT_MARGIN
    arrays, _ = run_all(oracle, tokens)
    del arrays["hidden"]  # large, and the random models show as much
    save_arrays(folder, arrays | {"greedy": greedy,
                                  "greedy_margin": logit_margin})
    with open(folder / "prompts.jsonl", "w", encoding="utf-8") as stream:
        for s, prompt in enumerate(DEMO_PROMPTS):
            print(json.dumps({"id": f"demo-{s}", "prompt": prompt,
                              "max_new_tokens": DEMO_NEW_TOKENS},
                             ensure_ascii=False), file=stream)


def main():
    torch.set_num_threads(1)
    for name in sys.argv[1:] or [*FIXTURES, "demo"]:
        make_demo() if name == "demo" else make_random(name)


if __name__ == "__main__":
    main()
