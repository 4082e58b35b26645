#!/usr/bin/env python3
"""Check the fixtures of this folder with a second, independent forward pass:
float64, numpy only, from the files alone (its own safetensors reader included).

For every fixture
  - expert ids must be the stored ones, in gate order;
  - logits and hidden states must agree within TOLERANCE of the largest one;
  - no two neighbours among the k + 1 largest of what a token's experts are
    chosen by may be closer than rounding could bring them;
  - every known misreading of the model (MISTAKES) that applies to it must move
    the logits by at least MIN_EFFECT: a fixture that would forgive it is no
    use.

usage: check_fixtures.py [NAME …]      exit status 1 if anything fails
"""

import dataclasses
import json
import pathlib
import sys

import numpy as np

from tensors import read_tensors, split_tensors

HERE = pathlib.Path(__file__).resolve().parent
DEMO_MODEL = HERE.parents[2] / "launch/demo/model"

TOLERANCE = 5e-6   # the C tests allow 1e-4
MIN_EFFECT = 1e-2  # a hundred times what the C tests allow
# Difference of the logarithms of two gate scores; of two biased ones, or sums
# of two, where there is a bias.
MIN_MARGIN = 1e-4

# ---- What config.json means --------------------------------------------------


@dataclasses.dataclass
class Reading:
    """One reading of a model: the right one, or with a mistake in it."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    k: int
    experts: int
    eps: float
    theta: float
    renormalise: bool
    clip: float | None
    qk_norm: str | None           # "head", "row" or None
    moe_layers: list              # of booleans
    moe_block: str
    expert_names: tuple
    scale: float
    sigmoid: bool                 # scores, and a bias of the choice
    weight_scale: float
    groups: int
    best_groups: int
    shared: str | None            # name of the shared experts
    qkv_bias: bool
    # Where mistakes are made on purpose:
    default_eps: float = 1e-5
    rotary: int = 0               # of each head
    gate: str = "gate"
    embedding_scale: float = 1.0
    residual_scale: float = 1.0
    logit_divisor: float = 1.0
    norms: tuple = ("input_layernorm", "post_attention_layernorm")
    norms_after: bool = False     # of what blocks give, not of what they read
    choice_bias_name: str | None = None
    rotary_end: bool = False      # the last elements of each head instead
    rotate_pairs: bool = False    # (2i, 2i+1) instead of (i, i + d/2)
    norm_after_rotation: bool = False
    clip_before_norm: bool = False
    interleaved_kv: bool = False  # head h reads h % kv_heads
    causal: bool = True
    swapped_gate_up: bool = False
    wrong_score: bool = False     # softmax for sigmoid, sigmoid for softmax
    choice_bias: bool = True
    biased_weights: bool = False
    group_of_one: bool = False    # groups by their best expert alone
    shared_weighted: bool = True
    shared_scaled: bool = False   # as the experts' weights are
    reversed_weights: bool = False
    norm_weights: bool = True
    norm_before_experts: bool = True


def read_config(config, tensors):
    kind = config["model_type"]
    heads = config["num_attention_heads"]
    # Checkpoints of old have rope_theta, transformers 5 writes rope_parameters
    # and num_local_experts.
    rope = config.get("rope_parameters") or config
    count = next(config[key] for key in (
        "num_local_experts", "num_experts", "n_routed_experts",
        "moe_num_experts")
        if key in config)
    layers = config["num_hidden_layers"]
    head_dim = config.get("head_dim") or (
        128 if kind == "solar_open" else config["hidden_size"] // heads)
    part = 1.0
    if kind == "glm4_moe":
        part = config.get("partial_rotary_factor", 0.5)
    if kind == "minimax_m2":
        part = config.get("rotary_dim", head_dim) / head_dim
    part = rope.get("partial_rotary_factor", part)
    step, dense = config.get("decoder_sparse_step", 1), config.get(
        "mlp_only_layers", [])
    fused = any(".experts.gate_up_proj" in name for name in tensors)
    leading = config.get("first_k_dense_replace", 0)
    mixtral = kind in ("mixtral", "minimax_m2") and not fused
    types = config.get("mlp_layer_types") or (
        ["dense"] * (kind == "hy_v3") + ["sparse"] * layers)
    biased = kind in ("dots1", "solar_open", "hy_v3", "glm4_moe", "minimax_m2",
                      "sarvam_moe", "ernie4_5_moe")
    first, last = (config.get(key, usual) for key, usual in (
        ("moe_layer_start_index", kind == "ernie4_5_moe"),
        ("moe_layer_end_index", -1)))
    step = config.get("moe_layer_interval", step)
    granite = kind.startswith("granitemoe")
    after = kind == "flex_olmo"
    by_block = kind in ("hy_v3", "minimax_m2")
    return Reading(
        layers=layers, hidden=config["hidden_size"], heads=heads,
        head_dim=head_dim,
        kv_heads=config["num_key_value_heads"],
        k=config.get("moe_topk") or config.get("moe_k") or config["num_experts_per_tok"], experts=count,
        eps=config["rms_norm_eps"], theta=rope["rope_theta"],
        renormalise=config.get("norm_topk_prob", kind in (
            "mixtral", "hy_v3", "minimax_m2", "solar_open", "sarvam_moe",
            "aria_text", "ernie4_5_moe") or granite),
        clip=config.get("clip_qkv"),
        qk_norm={"qwen3_moe": "head", "dots1": "head", "olmoe": "row",
                 "hy_v3": "head", "minimax_m2": "row", "sarvam_moe": "head",
                 "flex_olmo": "row"}.get(
                     kind, "head" if config.get("use_qk_norm") else None),
        moe_layers=[layer not in dense and (layer + 1) % step == 0
                    and first <= layer <= (layers if last == -1 else last)
                    and layer >= leading and types[layer] == "sparse"
                    for layer in range(layers)],
        moe_block="block_sparse_moe." if mixtral or granite else "mlp.",
        expert_names=(("w1", "w3", "w2") if mixtral
                      else ("gate_proj", "up_proj", "down_proj")),
        scale=(config.get("attention_multiplier", 1.0) if granite
               else head_dim ** -0.5),
        embedding_scale=config.get("embedding_multiplier", 1.0),
        residual_scale=config.get("residual_multiplier", 1.0),
        logit_divisor=config.get("logits_scaling", 1.0),
        norms=(("post_attention_layernorm", "post_feedforward_layernorm")
               if after else ("input_layernorm", "post_attention_layernorm")),
        norms_after=after,
        sigmoid=biased and kind != "ernie4_5_moe",
        rotate_pairs=kind == "ernie4_5_moe",
        weight_scale=config.get("routed_scaling_factor",
                                config.get("router_scaling_factor",
                                           {"hy_v3": 2.826, "sarvam_moe": 2.5
                                            }.get(kind, 1.0))),
        rotary=int(head_dim * part),
        gate=("router.gate" if kind == "hy_v3" and not fused
              else "router" if granite or kind == "aria_text" else "gate"),
        choice_bias_name=(
            None if not biased else
            ("gate." if fused else "") + "moe_statics.e_score_correction_bias"
            if kind == "ernie4_5_moe" else "expert_bias"
            if kind == "hy_v3" and not fused else "e_score_correction_bias"
            if by_block else "gate.e_score_correction_bias"),
        groups=config.get("n_group", 1),
        best_groups=config.get("topk_group", 1),
        shared={"qwen2_moe": "shared_expert", "dots1": "shared_experts",
                "solar_open": "shared_experts", "glm4_moe": "shared_experts",
                "sarvam_moe": "shared_experts", "aria_text": "shared_experts",
                "ernie4_5_moe": "shared_experts",
                "granitemoeshared": (
                    "shared_mlp" if config.get("shared_intermediate_size")
                    else None),
                "hy_v3": "shared_experts" if fused else "shared_mlp"}.get(kind),
        qkv_bias=config.get("qkv_bias", kind == "qwen2_moe" or (
            kind in ("solar_open", "glm4_moe")
            and config.get("attention_bias", False))
            or config.get("use_qkv_bias", False)),
        default_eps=1e-5 if kind in ("mixtral", "olmoe", "solar_open", "hy_v3",
                                     "glm4_moe", "ernie4_5_moe") else 1e-6)


# ---- The forward pass --------------------------------------------------------


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def sigmoid(x):
    return (1 + np.tanh(x / 2)) / 2  # 1 / (1 + exp(-x)) without overflow


class Forward:
    """One sequence through one reading of a model. Keeps experts
    [T][layers][k], hidden [T][layers + 1][H] and the smallest gate margin."""

    def __init__(self, reading, tensors):
        self.reading, self.tensors = reading, tensors
        self.experts, self.hidden, self.margin = [], [], np.inf

    def norm(self, x, name):
        weight = self.tensors[name] if self.reading.norm_weights else 1.0
        mean = (x * x).mean(axis=-1, keepdims=True)
        return x / np.sqrt(mean + self.reading.eps) * weight

    def rotate(self, x):
        """x [T][heads][head_dim]"""
        first, last = np.split(x, [x.shape[-1] - self.reading.rotary
                                   if self.reading.rotary_end
                                   else self.reading.rotary], axis=-1)
        if self.reading.rotary_end:
            return np.concatenate((first, self.rotate_all(last)), axis=-1)
        return np.concatenate((self.rotate_all(first), last), axis=-1)

    def rotate_all(self, x):
        """x [T][heads][width]"""
        length, _, width = x.shape
        frequency = self.reading.theta ** (-np.arange(0, width, 2) / width)
        angle = np.outer(np.arange(length), frequency)[:, None, :]
        cos, sin = np.cos(angle), np.sin(angle)
        if self.reading.rotate_pairs:
            low, high = x[..., 0::2], x[..., 1::2]
            out = np.empty_like(x)
            out[..., 0::2] = low * cos - high * sin
            out[..., 1::2] = high * cos + low * sin
            return out
        low, high = np.split(x, 2, axis=-1)
        return np.concatenate((low * cos - high * sin, high * cos + low * sin),
                              axis=-1)

    def project(self, x, at, which):
        row = x @ self.tensors[f"{at}{which}_proj.weight"].T
        if self.reading.qkv_bias:
            row = row + self.tensors[f"{at}{which}_proj.bias"]
        return row

    def query_or_key(self, x, at, which):
        r = self.reading
        row = self.project(x, at, which)
        if r.clip and r.clip_before_norm:
            row = row.clip(-r.clip, r.clip)
        heads = lambda a: a.reshape(len(a), -1, r.head_dim)
        norm = f"{at}{which}_norm.weight"
        if r.qk_norm == "row":
            row = self.norm(row, norm)
        if r.clip and not r.clip_before_norm:
            row = row.clip(-r.clip, r.clip)
        if r.qk_norm == "head of row":  # the row's weights, statistics per head
            unit = heads(row)
            unit = unit / np.sqrt((unit ** 2).mean(-1, keepdims=True) + r.eps)
            return self.rotate(unit * heads(self.tensors[norm][None]))
        if r.qk_norm == "row of heads":  # the other way round
            unit = row / np.sqrt((row ** 2).mean(-1, keepdims=True) + r.eps)
            return self.rotate(heads(unit) * self.tensors[norm])
        if r.qk_norm == "head" and r.norm_after_rotation:
            return self.norm(self.rotate(heads(row)), norm)
        if r.qk_norm == "head":
            return self.rotate(self.norm(heads(row), norm))
        return self.rotate(heads(row))

    def attention(self, x, at):
        r, length = self.reading, len(x)
        q, k = (self.query_or_key(x, at, which) for which in "qk")
        v = self.project(x, at, "v")
        if r.clip:
            v = v.clip(-r.clip, r.clip)
        v = v.reshape(length, r.kv_heads, r.head_dim)
        head = np.arange(r.heads)
        source = (head % r.kv_heads if r.interleaved_kv
                  else head // (r.heads // r.kv_heads))
        scores = np.einsum("ihd,jhd->hij", q, k[:, source]) * r.scale
        if r.causal:
            scores += np.triu(np.full((length, length), -np.inf), 1)
        mixed = np.einsum("hij,jhd->ihd", softmax(scores), v[:, source])
        return mixed.reshape(length, -1) @ self.tensors[at + "o_proj.weight"].T

    def swiglu(self, x, gate, up, down):
        if self.reading.swapped_gate_up:
            gate, up = up, gate
        a = x @ gate.T
        return (a * sigmoid(a) * (x @ up.T)) @ down.T

    def expert(self, x, block, e):
        fused = self.tensors.get(block + "experts.gate_up_proj")
        if fused is not None:
            gate, up = np.split(fused[e], 2)
            down = self.tensors[block + "experts.down_proj"][e]
        else:
            gate, up, down = (
                self.tensors[f"{block}experts.{e}.{name}.weight"]
                for name in self.reading.expert_names)
        return self.swiglu(x, gate, up, down)

    def see_margin(self, ordered, k):
        gaps = np.diff(ordered[:, :k + 1], axis=-1)
        self.margin = min(self.margin, -gaps.max(initial=-np.inf))

    def close_groups(self, choice):
        """choice [T][experts] with -9 in the groups that are not open"""
        r = self.reading
        grouped = choice.reshape(len(choice), r.groups, -1)
        best = -np.sort(-grouped, axis=-1)[..., :1 if r.group_of_one else 2]
        sums = best.sum(axis=-1)
        order = np.argsort(-sums, axis=-1, kind="stable")
        self.see_margin(np.take_along_axis(sums, order, axis=-1),
                        r.best_groups)
        is_open = np.zeros(sums.shape, bool)
        np.put_along_axis(is_open, order[:, :r.best_groups], True, axis=-1)
        return np.where(is_open[..., None], grouped, -9.0).reshape(choice.shape)

    def route(self, x, block):
        """ids [T][k] and weights [T][k], best first, ties to the lower id"""
        r = self.reading
        logits = x @ self.tensors[f"{block}{r.gate}.weight"].T
        score = (sigmoid(logits) if r.sigmoid != r.wrong_score
                 else softmax(logits))
        choice = score
        if r.choice_bias_name and r.choice_bias:
            choice = score + self.tensors[block + r.choice_bias_name].ravel()
        if r.groups > r.best_groups:
            choice = self.close_groups(choice)
        seen = choice if r.choice_bias_name else logits
        order = np.argsort(-choice, axis=-1, kind="stable")
        self.see_margin(np.take_along_axis(seen, order, axis=-1), r.k)
        ids = order[:, :r.k]
        weight = np.take_along_axis(choice if r.biased_weights else score, ids,
                                    axis=-1)
        if r.renormalise:
            weight = weight / (weight.sum(axis=-1, keepdims=True) + 1e-20)
        weight = weight * r.weight_scale
        return ids, weight[:, ::-1] if r.reversed_weights else weight

    def shared(self, x, block):
        r = self.reading
        at = block + r.shared
        out = self.swiglu(x, *(self.tensors[f"{at}.{name}_proj.weight"]
                               for name in ("gate", "up", "down")))
        weight = self.tensors.get(at + "_gate.weight")
        if weight is not None and r.shared_weighted:
            out = out * sigmoid(x @ weight.T)
        return out * r.weight_scale if r.shared_scaled else out

    def ffn(self, x, at, layer):
        r = self.reading
        if not r.moe_layers[layer]:
            return self.swiglu(x, *(self.tensors[f"{at}mlp.{name}_proj.weight"]
                                    for name in ("gate", "up", "down")))
        ids, weight = self.route(x, at + r.moe_block)
        self.experts.append(ids)
        out = np.zeros_like(x)
        for e in range(r.experts):
            row, place = np.nonzero(ids == e)
            if len(row):
                out[row] += (weight[row, place, None]
                             * self.expert(x[row], at + r.moe_block, e))
        return out + self.shared(x, at + r.moe_block) if r.shared else out

    def around(self, x, name, with_norm, block):
        """A block's output, with the norm where the family has it."""
        if not with_norm:
            return block(x)
        if self.reading.norms_after:
            return self.norm(block(x), name)
        return block(self.norm(x, name))

    def run(self, tokens):
        """logits [T][V]"""
        r = self.reading
        x = self.tensors["model.embed_tokens.weight"][tokens]
        x = x * r.embedding_scale
        self.hidden.append(x)
        for layer in range(r.layers):
            at = f"model.layers.{layer}."
            x = x + r.residual_scale * self.around(
                x, at + r.norms[0] + ".weight", True,
                lambda y: self.attention(y, at + "self_attn."))
            x = x + r.residual_scale * self.around(
                x, at + r.norms[1] + ".weight", r.norm_before_experts,
                lambda y: self.ffn(y, at, layer))
            self.hidden.append(x)
        self.experts = np.stack(self.experts, axis=1)
        self.hidden = np.stack(self.hidden, axis=1)
        head = self.tensors.get("lm_head.weight",
                                self.tensors["model.embed_tokens.weight"])
        return self.norm(x, "model.norm.weight") @ head.T / r.logit_divisor


# ---- Known misreadings -------------------------------------------------------

# name -> the changed fields, or None where the model cannot show it
MISTAKES = {
    "default theta": lambda r: {"theta": 1e4} if r.theta != 1e4 else {
        "theta": 1e6},
    "no embedding scale": lambda r: {"embedding_scale": 1.0} if (
        r.embedding_scale != 1) else None,
    "no residual scale": lambda r: {"residual_scale": 1.0} if (
        r.residual_scale != 1) else None,
    "logits as they are": lambda r: {"logit_divisor": 1.0} if (
        r.logit_divisor != 1) else None,
    "scale by head width": lambda r: {"scale": r.head_dim ** -0.5} if (
        r.scale != r.head_dim ** -0.5) else None,
    "norms before for after": lambda r: {"norms_after": False} if (
        r.norms_after) else None,
    "whole heads rotated": lambda r: {"rotary": r.head_dim} if (
        r.rotary != r.head_dim) else None,
    "ends of heads rotated": lambda r: {"rotary_end": True} if (
        r.rotary != r.head_dim) else None,
    "default eps": lambda r: {"eps": r.default_eps} if (
        r.eps != r.default_eps) else None,
    "other rotary pairs": lambda r: {"rotate_pairs": not r.rotate_pairs},
    "no scale": lambda r: {"scale": 1.0} if r.scale != 1 else None,
    "scale of hidden/heads": lambda r: {
        "scale": (r.hidden / r.heads) ** -0.5} if (
            r.hidden != r.heads * r.head_dim) else None,
    "no causal mask": lambda r: {"causal": False},
    "kv head h % kv_heads": lambda r: {"interleaved_kv": True} if (
        1 < r.kv_heads < r.heads) else None,
    "other renormalisation": lambda r: {"renormalise": not r.renormalise} if (
        not r.norms_after) else None,  # which makes up for it
    "sigmoid for softmax": lambda r: {"wrong_score": True} if (
        not r.sigmoid) else None,
    "softmax for sigmoid": lambda r: {"wrong_score": True} if (
        r.sigmoid) else None,
    "choice by score": lambda r: {"choice_bias": False} if (
        r.choice_bias_name) else None,
    "weights with bias": lambda r: {"biased_weights": True} if (
        r.choice_bias_name) else None,
    "no weight scale": lambda r: {"weight_scale": 1.0} if (
        r.weight_scale != 1) else None,
    "no groups": lambda r: {"groups": 1, "best_groups": 1} if (
        r.groups > r.best_groups) else None,
    "groups by one": lambda r: {"group_of_one": True} if (
        r.groups > r.best_groups) else None,
    "no shared experts": lambda r: {"shared": None} if r.shared else None,
    "shared expert without weight": lambda r: {"shared_weighted": False} if (
        r.shared == "shared_expert") else None,
    "shared experts scaled": lambda r: {"shared_scaled": True} if (
        r.shared and r.weight_scale != 1) else None,
    "no q, k, v biases": lambda r: {"qkv_bias": False} if (
        r.qkv_bias) else None,
    "weights in reverse": lambda r: {"reversed_weights": True},
    "one expert fewer": lambda r: {"k": r.k - 1},
    "gate and up swapped": lambda r: {"swapped_gate_up": True},
    "norms without weights": lambda r: {"norm_weights": False},
    "no norm before experts": lambda r: {"norm_before_experts": False},
    "no clip": lambda r: {"clip": None} if r.clip else None,
    "clip before norm": lambda r: {"clip_before_norm": True} if (
        r.clip) else None,
    "no q/k norm": lambda r: {"qk_norm": None} if r.qk_norm else None,
    "q/k norm of the row": lambda r: {"qk_norm": "row of heads"} if (
        r.qk_norm == "head") else None,
    "q/k norm per head": lambda r: {"qk_norm": "head of row"} if (
        r.qk_norm == "row") else None,
    "norm after rotation": lambda r: {"norm_after_rotation": True} if (
        r.qk_norm == "head") else None,
}

# ---- The checks --------------------------------------------------------------


def relative(found, expected):
    return np.abs(found - expected).max() / np.abs(expected).max()


def check_mistakes(name, reading, tensors, tokens, right):
    """Failures, and the smallest effect with the mistake that has it."""
    failures, effects = [], []
    for mistake, change in MISTAKES.items():
        fields = change(reading)
        if fields is None:
            continue
        forward = Forward(dataclasses.replace(reading, **fields), tensors)
        effects.append((relative(forward.run(tokens), right), mistake))
        if effects[-1][0] < MIN_EFFECT:
            failures.append(f"{name}: blind to the mistake '{mistake}': "
                            f"effect {effects[-1][0]:.1e}")
    return failures, min(effects)


def check_greedy(folder, tokens, reading, tensors):
    failures, name = [], folder.name
    if not (folder / "greedy.npy").exists():
        return failures
    greedy, margins = (np.load(folder / f"{name}.npy")
                       for name in ("greedy", "greedy_margin"))
    for s, row in enumerate(tokens[:len(greedy)]):
        prompt = row[row >= 0]
        logits = Forward(reading, tensors).run(
            np.concatenate((prompt, greedy[s][:-1])))[len(prompt) - 1:]
        best = np.sort(logits, axis=-1)
        if (logits.argmax(axis=-1) != greedy[s]).any():
            failures.append(f"{name}: greedy continuation {s} differs")
        if np.abs(best[:, -1] - best[:, -2] - margins[s]).max() > 1e-3:
            failures.append(f"{name}: greedy margins {s} differ")
    return failures


def check(name):
    folder = HERE / name
    model_folder = DEMO_MODEL if name == "demo" else folder
    config = json.loads((model_folder / "config.json").read_text())
    tensors = split_tensors(config["model_type"], config,
                            read_tensors(model_folder))
    reading = read_config(config, tensors)
    tokens, logits, experts = (np.load(folder / f"{array}.npy")
                               for array in ("tokens", "logits", "experts"))
    failures, error, margin = [], 0.0, np.inf
    for s, row in enumerate(tokens):
        length = int((row >= 0).sum())
        forward = Forward(reading, tensors)
        mine = forward.run(row[:length])
        if (experts[s, :length] != forward.experts).any():
            failures.append(f"{name}: expert ids of sequence {s} differ")
        if (row[length:] != -1).any() or (experts[s, length:] != -1).any() or (
                logits[s, length:] != 0).any():
            failures.append(f"{name}: sequence {s} is not padded as it should")
        error = max(error, relative(logits[s, :length], mine))
        if s == 0 and name != "demo":
            hidden = np.load(folder / "hidden.npy")
            error = max(error, relative(hidden, forward.hidden))
        margin = min(margin, forward.margin)
    if error > TOLERANCE:
        failures.append(
            f"{name}: logits or hidden states differ by {error:.1e}")
    if margin < MIN_MARGIN:
        failures.append(f"{name}: two gate scores only {margin:.1e} apart")
    longest = max(tokens, key=lambda row: (row >= 0).sum())
    longest = longest[longest >= 0]
    right = Forward(reading, tensors).run(longest)
    blind, (effect, mistake) = check_mistakes(name, reading, tensors, longest,
                                              right)
    # The demo model is for its own logits; not all mistakes show in it.
    failures += check_greedy(folder, tokens, reading, tensors)
    failures += [] if name == "demo" else blind
    print(f"{name}: {tokens.shape[0]} sequences, error {error:.1e}, gate "
          f"margin {margin:.1e}, logits +-{np.abs(logits).max():.1f}, least visible "
          f"mistake '{mistake}' {effect:.1e}")
    return failures


def main():
    names = sys.argv[1:] or sorted(
        path.parent.name for path in HERE.glob("*/tokens.npy"))
    if not names:
        sys.exit(f"check_fixtures.py: no */tokens.npy in {HERE}")
    failures = [failure for name in names for failure in check(name)]
    print("\n".join(failures) if failures else f"{len(names)} fixtures agree")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
