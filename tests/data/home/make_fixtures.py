#!/usr/bin/env python3
"""Make the frozen fixtures of this folder: models whose gates may also choose
null (AdaMoE, arXiv 2406.13233), zero, copy and constant experts (MoE++, arXiv
2410.07348), and what a float64 forward pass of numpy computes from their very
files. Everything but the experts is that of ../hf/check_fixtures.py, which is
checked against Hugging Face transformers.

Seeds are tried in order until no two neighbouring gate scores among the k + 1
largest of any token are closer than MIN_GATE_MARGIN, and until some rows choose
no placed expert, some one, and some nothing else. Each misreading in MISTAKES
must move the logits by MIN_EFFECT of the largest at least: the C tests allow
1e-4.

usage: make_fixtures.py [--check]     --check: that the stored files agree
"""

import itertools
import json
import pathlib
import sys

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "hf"))
import check_fixtures as hf  # noqa: E402

MIN_GATE_MARGIN = 1e-3
MIN_EFFECT = 1e-2
TOLERANCE = 1e-6  # of stored logits, which are fp32
KINDS = ("null", "zero", "copy", "constant")  # in the order of the gate's rows

COMMON = {
    "hidden_act": "silu", "max_position_embeddings": 64, "rope_scaling": None,
    "sliding_window": None, "bos_token_id": 1, "eos_token_id": 2,
    "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2,
    "tie_word_embeddings": False, "vocab_size": 96}
FIXTURES = {
    # Weights add up to 1 without the null experts' and with the zero ones'.
    "renormalised": dict(dtype="F32", lengths=(17, 41, 1), config=COMMON | {
        "model_type": "mixtral", "architectures": ["MixtralForCausalLM"],
        "num_hidden_layers": 2, "num_local_experts": 6,
        "num_experts_per_tok": 4, "intermediate_size": 12,
        "rms_norm_eps": 1e-5, "rope_theta": 1000000.0, "num_null_experts": 2,
        "num_zero_experts": 1, "num_copy_experts": 1,
        "num_constant_experts": 2}),
    # Plain softmax weights, more choices than there are placed experts, and a
    # dense layer between two others.
    "plain": dict(dtype="BF16", lengths=(23, 38, 1), config=COMMON | {
        "model_type": "qwen3_moe", "architectures": ["Qwen3MoeForCausalLM"],
        "num_hidden_layers": 3, "num_experts": 3, "num_experts_per_tok": 4,
        "moe_intermediate_size": 12, "intermediate_size": 36, "head_dim": 16,
        "mlp_only_layers": [1], "decoder_sparse_step": 1,
        "norm_topk_prob": False, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
        "num_null_experts": 1, "num_zero_experts": 1, "num_copy_experts": 2,
        "num_constant_experts": 3}),
}
MISTAKES = ("null is zero", "zero is null", "copy is zero",
            "copy of the residual", "constant is zero", "shares swapped",
            "constant without the row", "kinds in reverse", "placed experts "
            "behind the others")

# ---- Models and files --------------------------------------------------------


def draw_model(seed, config):
    """Tensor name -> float64 array."""
    rng = np.random.default_rng(seed)

    def linear(outputs, inputs, gain=1.0):
        return rng.standard_normal((outputs, inputs)) * gain / np.sqrt(inputs)

    hidden = config["hidden_size"]
    heads, kv_heads = (config[f"num_{kind}_heads"]
                       for kind in ("attention", "key_value"))
    width = config.get("head_dim", hidden // heads)
    mixtral = config["model_type"] == "mixtral"
    experts = config["num_local_experts" if mixtral else "num_experts"]
    names = (("w1", "w3", "w2") if mixtral
             else ("gate_proj", "up_proj", "down_proj"))
    choices = experts + sum(config[f"num_{kind}_experts"] for kind in KINDS)
    tensors = {"model.embed_tokens.weight":
               rng.standard_normal((config["vocab_size"], hidden)),
               "model.norm.weight": rng.uniform(0.4, 1.6, hidden),
               "lm_head.weight": linear(config["vocab_size"], hidden, 2.5)}

    def ffn(at, names, inner):
        for name in names[:2]:
            tensors[f"{at}{name}.weight"] = linear(inner, hidden)
        tensors[f"{at}{names[2]}.weight"] = linear(hidden, inner, 1.5)

    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{at}{norm}.weight"] = rng.uniform(0.4, 1.6, hidden)
        for name, count in zip("qkv", (heads, kv_heads, kv_heads)):
            tensors[f"{at}self_attn.{name}_proj.weight"] = linear(
                count * width, hidden, 1.5)
        tensors[f"{at}self_attn.o_proj.weight"] = linear(hidden, heads * width)
        if not mixtral:
            for name in "qk":
                tensors[f"{at}self_attn.{name}_norm.weight"] = rng.uniform(
                    0.6, 2.4, width)
        if layer in config.get("mlp_only_layers", []):
            ffn(at + "mlp.", names, config["intermediate_size"])
            continue
        at += "block_sparse_moe." if mixtral else "mlp."
        tensors[at + "gate.weight"] = linear(choices, hidden, 1.5)
        for expert in range(experts):
            ffn(f"{at}experts.{expert}.", names, 12)
        for number in range(config["num_constant_experts"]):
            expert = f"{at}constant_experts.{number}."
            tensors[expert + "gate.weight"] = linear(2, hidden)
            tensors[expert + "vector"] = rng.standard_normal(hidden)
    return tensors


def write_model(folder, config, dtype, arrays):
    folder.mkdir(exist_ok=True)
    header, blobs, end = {}, [], 0
    for name, array in sorted(arrays.items()):
        bits = array.astype("<f4").view("<u4")
        blob = bits.tobytes()
        if dtype == "BF16":
            rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16
            blob = rounded.astype("<u2").tobytes()
        header[name] = {"dtype": dtype, "shape": list(array.shape),
                        "data_offsets": [end, end + len(blob)]}
        blobs.append(blob)
        end += len(blob)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (folder / "model.safetensors").write_bytes(
        len(text).to_bytes(8, "little") + text + b"".join(blobs))
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


# ---- The forward pass --------------------------------------------------------


class Forward(hf.Forward):
    """With the other kinds of experts, and with at most one mistake."""

    def __init__(self, config, reading, tensors, mistake=None):
        super().__init__(reading, tensors)
        self.numbers = [config[f"num_{kind}_experts"] for kind in KINDS]
        self.mistake = mistake
        self.counts = np.zeros(len(KINDS) + 2, int)  # kinds, rows, alone

    def norm(self, x, name):
        if "post_attention" in name:
            self.residual = x
        return super().norm(x, name)

    def kind_of(self, choice):
        """kind (None: placed) and number within it"""
        number, experts = int(choice), self.reading.experts
        kinds = list(zip(KINDS, self.numbers))
        if self.mistake == "kinds in reverse":
            kinds.reverse()
        parts = [(None, experts)] + kinds
        if self.mistake == "placed experts behind the others":
            parts = kinds + [(None, experts)]
        for kind, count in parts:
            if number < count:
                return kind, number
            number -= count
        raise AssertionError

    def output(self, x, residual, block, kind, number):
        if kind is None:
            return self.expert(x[None], block, number)[0]
        if kind == "copy" and self.mistake != "copy is zero":
            return residual if self.mistake == "copy of the residual" else x
        if kind == "constant" and self.mistake != "constant is zero":
            at = f"{block}constant_experts.{number}."
            own, other = hf.softmax(self.tensors[at + "gate.weight"] @ x)
            if self.mistake == "shares swapped":
                own, other = other, own
            if self.mistake == "constant without the row":
                own = 0
            return own * x + other * self.tensors[at + "vector"]
        return 0 * x

    def ffn(self, x, at, layer):
        r = self.reading
        if not r.moe_layers[layer]:
            return super().ffn(x, at, layer)
        block = at + r.moe_block
        logits = x @ self.tensors[block + "gate.weight"].T
        order = np.argsort(-logits, axis=-1, kind="stable")
        ordered = np.take_along_axis(logits, order, axis=-1)[:, :r.k + 1]
        self.margin = min(self.margin, -np.diff(ordered, axis=-1).max())
        left_out = {"null is zero": (), "zero is null": ("null", "zero")}.get(
            self.mistake, ("null",))
        out = np.zeros_like(x)
        placed = np.full((len(x), min(r.k, r.experts)), -1)
        for t, (row, score) in enumerate(zip(x, hf.softmax(logits))):
            terms = [(score[c], *self.kind_of(c)) for c in order[t, :r.k]]
            counted = [term for term in terms if term[1] not in left_out]
            sum_ = sum(w for w, *_ in counted) if r.renormalise else 1
            for w, kind, number in counted:
                out[t] += w / sum_ * self.output(row, self.residual[t], block,
                                                 kind, number)
            own = [number for _, kind, number in terms if kind is None]
            placed[t, :len(own)] = own
            for _, kind, _ in terms:
                if kind is not None:
                    self.counts[KINDS.index(kind)] += 1
            self.counts[-2] += 1
            self.counts[-1] += not own
        self.experts.append(placed)
        return out


# ---- Fixtures ----------------------------------------------------------------


def compute(folder, config, tokens, mistake=None):
    """logits, experts, counts and the smallest gate margin"""
    tensors = hf.read_tensors(folder)
    reading = hf.read_config(
        json.loads((folder / "config.json").read_text()), tensors)
    moe_layers = sum(reading.moe_layers)
    logits = np.zeros((*tokens.shape, config["vocab_size"]))
    experts = np.full((*tokens.shape, moe_layers,
                       min(reading.k, reading.experts)), -1)
    counts, margin = 0, np.inf
    for s, row in enumerate(tokens):
        row = row[row >= 0]
        forward = Forward(config, reading, tensors, mistake)
        logits[s, :len(row)] = forward.run(row)
        experts[s, :len(row)] = forward.experts
        counts = counts + forward.counts
        margin = min(margin, forward.margin)
    return logits, experts, counts, margin


def is_varied(experts, tokens, k):
    terms = (experts[tokens >= 0] >= 0).sum(axis=-1)
    return {0, 1, min(k, experts.shape[-1])} <= set(terms.flat)


def check_mistakes(name, folder, config, tokens, right):
    for mistake in MISTAKES:
        effect = hf.relative(compute(folder, config, tokens, mistake)[0], right)
        renormalises = config.get("norm_topk_prob", True)
        expected = renormalises or mistake not in ("null is zero",
                                                   "zero is null")
        assert (effect >= MIN_EFFECT) == expected, (name, mistake, effect)


def make(name, spec):
    folder, config = HERE / name, spec["config"]
    for seed in itertools.count():
        write_model(folder, config, spec["dtype"], draw_model(seed, config))
        rng = np.random.default_rng([seed, 1])
        tokens = np.full((len(spec["lengths"]), max(spec["lengths"])), -1,
                         dtype=np.int32)
        for row, length in zip(tokens, spec["lengths"]):
            row[:length] = rng.integers(config["vocab_size"], size=length)
        logits, experts, counts, margin = compute(folder, config, tokens)
        if margin >= MIN_GATE_MARGIN and is_varied(
                experts, tokens, config["num_experts_per_tok"]):
            break
    check_mistakes(name, folder, config, tokens, logits)
    np.save(folder / "tokens.npy", tokens)
    np.save(folder / "logits.npy", logits.astype(np.float32))
    np.save(folder / "experts.npy", experts.astype(np.int16))
    np.save(folder / "counts.npy", counts.astype(np.int32))
    print(f"{name}: seed {seed}, gate margin {margin:.1e}, counts {counts}")


def check(name, spec):
    folder = HERE / name
    tokens, logits, experts, counts = (
        np.load(folder / f"{array}.npy")
        for array in ("tokens", "logits", "experts", "counts"))
    found = compute(folder, spec["config"], tokens)
    assert hf.relative(logits, found[0]) < TOLERANCE, name
    assert (experts == found[1]).all() and (counts == found[2]).all(), name
    assert is_varied(experts, tokens, spec["config"]["num_experts_per_tok"])
    check_mistakes(name, folder, spec["config"], tokens, found[0])
    print(f"{name}: agrees")


if __name__ == "__main__":
    for fixture in FIXTURES.items():
        (check if "--check" in sys.argv else make)(*fixture)
