#!/usr/bin/env python3
"""Check the fixtures of this folder with a second, independent forward pass:
float64, numpy only, from the files alone (its own safetensors reader included).

For every fixture
  - expert ids must be the stored ones, in gate order;
  - logits and hidden states must agree within TOLERANCE of the largest one;
  - no two neighbours among the k + 1 largest gate scores of a token may be
    closer than rounding could bring them;
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

HERE = pathlib.Path(__file__).resolve().parent
DEMO_MODEL = HERE.parents[2] / "launch/demo/model"

TOLERANCE = 5e-6   # the C tests allow 1e-4
MIN_EFFECT = 1e-2  # a hundred times what the C tests allow
MIN_MARGIN = 1e-4  # difference of the logarithms of two gate scores

# ---- Files -------------------------------------------------------------------


def bfloat16(raw):
    return (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4")


DECODE = {"F32": lambda raw: np.frombuffer(raw, "<f4"),
          "F16": lambda raw: np.frombuffer(raw, "<f2"),
          "BF16": bfloat16}


def read_safetensors(path):
    raw = path.read_bytes()
    header_end = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:header_end])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = (header_end + offset for offset in entry["data_offsets"])
        values = DECODE[entry["dtype"]](raw[begin:end])
        tensors[name] = values.astype(np.float64).reshape(entry["shape"])
    return tensors


def read_tensors(folder):
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return read_safetensors(folder / "model.safetensors")
    weight_map = json.loads(index.read_text())["weight_map"]
    tensors = {}
    for file in sorted(set(weight_map.values())):
        shard = read_safetensors(folder / file)
        assert all(weight_map[name] == file for name in shard)
        tensors |= shard
    assert tensors.keys() == weight_map.keys()
    return tensors


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
    # Where mistakes are made on purpose:
    default_eps: float = 1e-5
    rotate_pairs: bool = False    # (2i, 2i+1) instead of (i, i + d/2)
    norm_after_rotation: bool = False
    clip_before_norm: bool = False
    interleaved_kv: bool = False  # head h reads h % kv_heads
    causal: bool = True
    swapped_gate_up: bool = False
    softmax_of_logits: bool = True
    reversed_weights: bool = False
    norm_weights: bool = True
    norm_before_experts: bool = True


def read_config(folder, tensors):
    config = json.loads((folder / "config.json").read_text())
    kind = config["model_type"]
    heads = config["num_attention_heads"]
    # Checkpoints of old have rope_theta, transformers 5 writes rope_parameters
    # and (for all three) num_local_experts.
    rope = config.get("rope_parameters") or config
    count = config.get("num_local_experts", config.get("num_experts"))
    layers = config["num_hidden_layers"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    step, dense = config.get("decoder_sparse_step", 1), config.get(
        "mlp_only_layers", [])
    fused = any(".experts.gate_up_proj" in name for name in tensors)
    published_mixtral = kind == "mixtral" and not fused
    return Reading(
        layers=layers, hidden=config["hidden_size"], heads=heads,
        head_dim=head_dim,
        kv_heads=config["num_key_value_heads"],
        k=config["num_experts_per_tok"], experts=count,
        eps=config["rms_norm_eps"], theta=rope["rope_theta"],
        renormalise=kind == "mixtral" or config["norm_topk_prob"],
        clip=config.get("clip_qkv"),
        qk_norm={"qwen3_moe": "head", "olmoe": "row", "mixtral": None}[kind],
        moe_layers=[layer not in dense and (layer + 1) % step == 0
                    for layer in range(layers)],
        moe_block="block_sparse_moe." if published_mixtral else "mlp.",
        expert_names=(("w1", "w3", "w2") if published_mixtral
                      else ("gate_proj", "up_proj", "down_proj")),
        scale=head_dim ** -0.5,
        default_eps=1e-6 if kind == "qwen3_moe" else 1e-5)


# ---- The forward pass --------------------------------------------------------


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


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

    def query_or_key(self, x, at, which):
        r = self.reading
        row = x @ self.tensors[f"{at}{which}_proj.weight"].T
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
        v = x @ self.tensors[at + "v_proj.weight"].T
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
        silu = a * (1 + np.tanh(a / 2)) / 2  # a / (1 + exp(-a)), no overflow
        return (silu * (x @ up.T)) @ down.T

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

    def route(self, x, block):
        """ids [T][k] and weights [T][k], largest first, ties to the lower id"""
        r = self.reading
        logits = x @ self.tensors[block + "gate.weight"].T
        score = (softmax(logits) if r.softmax_of_logits
                 else (1 + np.tanh(logits / 2)) / 2)
        order = np.argsort(-score, axis=-1, kind="stable")
        ordered = np.take_along_axis(logits, order, axis=-1)[:, :r.k + 1]
        self.margin = min(self.margin, -np.diff(ordered, axis=-1).max())
        ids = order[:, :r.k]
        weight = np.take_along_axis(score, ids, axis=-1)
        if r.renormalise:
            weight = weight / weight.sum(axis=-1, keepdims=True)
        return ids, weight[:, ::-1] if r.reversed_weights else weight

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
        return out

    def run(self, tokens):
        """logits [T][V]"""
        x = self.tensors["model.embed_tokens.weight"][tokens]
        self.hidden.append(x)
        for layer in range(self.reading.layers):
            at = f"model.layers.{layer}."
            x = x + self.attention(self.norm(x, at + "input_layernorm.weight"),
                                   at + "self_attn.")
            y = x
            if self.reading.norm_before_experts:
                y = self.norm(x, at + "post_attention_layernorm.weight")
            x = x + self.ffn(y, at, layer)
            self.hidden.append(x)
        self.experts = np.stack(self.experts, axis=1)
        self.hidden = np.stack(self.hidden, axis=1)
        head = self.tensors.get("lm_head.weight",
                                self.tensors["model.embed_tokens.weight"])
        return self.norm(x, "model.norm.weight") @ head.T


# ---- Known misreadings -------------------------------------------------------

# name -> the changed fields, or None where the model cannot show it
MISTAKES = {
    "default theta": lambda r: {"theta": 1e4} if r.theta != 1e4 else {
        "theta": 1e6},
    "default eps": lambda r: {"eps": r.default_eps} if (
        r.eps != r.default_eps) else None,
    "rotary pairs": lambda r: {"rotate_pairs": True},
    "no scale": lambda r: {"scale": 1.0},
    "scale of hidden/heads": lambda r: {
        "scale": (r.hidden / r.heads) ** -0.5} if (
            r.hidden != r.heads * r.head_dim) else None,
    "no causal mask": lambda r: {"causal": False},
    "kv head h % kv_heads": lambda r: {"interleaved_kv": True} if (
        1 < r.kv_heads < r.heads) else None,
    "other renormalisation": lambda r: {"renormalise": not r.renormalise},
    "sigmoid scores": lambda r: {"softmax_of_logits": False},
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
    failures = []
    greedy, margins = (np.load(folder / f"{name}.npy")
                       for name in ("greedy", "greedy_margin"))
    for s, row in enumerate(tokens):
        prompt = row[row >= 0]
        logits = Forward(reading, tensors).run(
            np.concatenate((prompt, greedy[s][:-1])))[len(prompt) - 1:]
        best = np.sort(logits, axis=-1)
        if (logits.argmax(axis=-1) != greedy[s]).any():
            failures.append(f"demo: greedy continuation {s} differs")
        if np.abs(best[:, -1] - best[:, -2] - margins[s]).max() > 1e-3:
            failures.append(f"demo: greedy margins {s} differ")
    return failures


def check(name):
    folder = HERE / name
    model_folder = DEMO_MODEL if name == "demo" else folder
    tensors = read_tensors(model_folder)
    reading = read_config(model_folder, tensors)
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
    failures += check_greedy(folder, tokens, reading, tensors) if (
        name == "demo") else blind
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
