#!/usr/bin/env python3
"""Train the demo model: a byte-level mixture-of-experts decoder in the
qwen3_moe layout of Hugging Face.

The corpus is what make_corpus.py writes. OUT_DIR receives config.json,
generation_config.json, tokenizer.json, model.safetensors (bfloat16, one tensor
per expert, the names that published checkpoints use) and train.log. Tokens
0..255 are the bytes of the text; 256 is <bos> and 257 is <eos>; ids up to 271
are padding of the vocabulary and never trained.

Training stops after --minutes (or --max-steps); the learning rate follows a
cosine over that span. --start goes on from an earlier OUT_DIR with a fresh
optimiser. About two hours on two CPU cores give a usable model; a GPU needs
minutes. Needs PyTorch, numpy and safetensors.

usage: train.py CORPUS_DIR OUT_DIR [options]
"""

import argparse
import json
import math
import pathlib
import time

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

BOS, EOS = 256, 257

CONFIG = {
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": BOS,
    "eos_token_id": EOS,
    "decoder_sparse_step": 1,
    "head_dim": 32,
    "hidden_act": "silu",
    "hidden_size": 128,
    "initializer_range": 0.02,
    "intermediate_size": 256,
    "max_position_embeddings": 1024,
    "max_window_layers": 6,
    "mlp_only_layers": [],
    "moe_intermediate_size": 64,
    "norm_topk_prob": True,
    "num_attention_heads": 4,
    "num_experts": 32,
    "num_experts_per_tok": 4,
    "num_hidden_layers": 6,
    "num_key_value_heads": 2,
    "output_router_logits": False,
    "rms_norm_eps": 1e-6,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    "router_aux_loss_coef": 0.003,
    "sliding_window": None,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "use_sliding_window": False,
    "vocab_size": 272,
}

HIDDEN = CONFIG["hidden_size"]
HEADS = CONFIG["num_attention_heads"]
KV_HEADS = CONFIG["num_key_value_heads"]
HEAD_DIM = CONFIG["head_dim"]
EXPERTS = CONFIG["num_experts"]
TOP_K = CONFIG["num_experts_per_tok"]
EXPERT_WIDTH = CONFIG["moe_intermediate_size"]
LAYERS = CONFIG["num_hidden_layers"]

WARM_UP_STEPS = 200
REPORT_EVERY = 50
SAVE_EVERY = 500


# ---- The model ---------------------------------------------------------------


def normal(*shape, fan_in, scale=1.0):
    """A weight whose output is about `scale` times as large as its input."""
    return nn.Parameter(torch.randn(*shape) * (scale / math.sqrt(fan_in)))


def rms_norm(x, weight):
    return F.rms_norm(x, weight.shape, weight, CONFIG["rms_norm_eps"])


def rotation(num_positions, device):
    """cos and sin of every position and channel, [positions, head_dim]"""
    exponent = torch.arange(0, HEAD_DIM, 2, device=device) / HEAD_DIM
    position = torch.arange(num_positions, device=device, dtype=torch.float32)
    angle = torch.outer(position, CONFIG["rope_theta"] ** -exponent)
    angle = torch.cat((angle, angle), dim=-1)
    return angle.cos(), angle.sin()


def rotate(x, rotations):
    """Rotary embedding of [.., positions, head_dim], halves as the pairs."""
    cos, sin = rotations
    low, high = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-high, low), dim=-1) * sin


class Layer(nn.Module):
    """One decoder layer. The residual branches start small, so that the sum
    over all layers starts at the size of one."""

    def __init__(self):
        super().__init__()
        ones = lambda width: nn.Parameter(torch.ones(width))
        small = 1 / math.sqrt(2 * LAYERS)
        self.attention_norm, self.expert_norm = ones(HIDDEN), ones(HIDDEN)
        self.q_norm, self.k_norm = ones(HEAD_DIM), ones(HEAD_DIM)
        self.q = normal(HEADS * HEAD_DIM, HIDDEN, fan_in=HIDDEN)
        self.k = normal(KV_HEADS * HEAD_DIM, HIDDEN, fan_in=HIDDEN)
        self.v = normal(KV_HEADS * HEAD_DIM, HIDDEN, fan_in=HIDDEN)
        self.o = normal(HIDDEN, HEADS * HEAD_DIM, fan_in=HEADS * HEAD_DIM,
                        scale=small)
        self.router = normal(EXPERTS, HIDDEN, fan_in=HIDDEN)
        self.gate_up = normal(EXPERTS, 2 * EXPERT_WIDTH, HIDDEN, fan_in=HIDDEN)
        self.down = normal(EXPERTS, HIDDEN, EXPERT_WIDTH, fan_in=EXPERT_WIDTH,
                           scale=small)

    def attention(self, x, rotations):
        batch, length, _ = x.shape
        heads = lambda weight: F.linear(x, weight).view(
            batch, length, -1, HEAD_DIM).transpose(1, 2)
        q = rotate(rms_norm(heads(self.q), self.q_norm), rotations)
        k = rotate(rms_norm(heads(self.k), self.k_norm), rotations)
        mixed = F.scaled_dot_product_attention(
            q, k, heads(self.v), is_causal=True, enable_gqa=True)
        return F.linear(mixed.transpose(1, 2).reshape(batch, length, -1), self.o)

    def experts(self, x):
        """Output, and the load-balancing loss of Switch Transformers (Fedus
        2021, eq. 4): E * sum over experts of share of rows * mean score."""
        rows = x.reshape(-1, HIDDEN)
        scores = F.linear(rows, self.router).softmax(dim=-1)
        weight, expert = scores.topk(TOP_K, dim=-1)
        weight = weight / weight.sum(dim=-1, keepdim=True)

        flat = expert.reshape(-1)
        by_expert = flat.argsort(stable=True)
        count = torch.bincount(flat, minlength=EXPERTS)
        row = by_expert // TOP_K
        outputs = []
        for e, block in enumerate(rows[row].split(count.tolist())):
            gate, up = F.linear(block, self.gate_up[e]).chunk(2, dim=-1)
            outputs.append(F.linear(F.silu(gate) * up, self.down[e]))
        weighted = torch.cat(outputs) * weight.reshape(-1)[by_expert, None]
        mixed = torch.zeros_like(rows).index_add(0, row, weighted)

        share = count.float() / flat.numel()
        balance = EXPERTS * (share * scores.mean(dim=0)).sum()
        return mixed.view(x.shape), balance

    def forward(self, x, rotations):
        x = x + self.attention(rms_norm(x, self.attention_norm), rotations)
        mixed, balance = self.experts(rms_norm(x, self.expert_norm))
        return x + mixed, balance


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Parameter(
            torch.randn(CONFIG["vocab_size"], HIDDEN)
            * CONFIG["initializer_range"])
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.norm = nn.Parameter(torch.ones(HIDDEN))

    def forward(self, tokens):
        """Logits [batch, positions, vocabulary] and the mean balance loss."""
        rotations = rotation(tokens.shape[1], tokens.device)
        x, balance = self.embedding[tokens], 0.0
        for layer in self.layers:
            x, layer_balance = layer(x, rotations)
            balance = balance + layer_balance / LAYERS
        return F.linear(rms_norm(x, self.norm), self.embedding), balance


# ---- Files -------------------------------------------------------------------


def checkpoint_views(model):
    """Checkpoint name -> view of the parameter (or of its part)."""
    views = {"model.embed_tokens.weight": model.embedding,
             "model.norm.weight": model.norm}
    for i, layer in enumerate(model.layers):
        at = f"model.layers.{i}."
        views |= {
            at + "input_layernorm.weight": layer.attention_norm,
            at + "post_attention_layernorm.weight": layer.expert_norm,
            at + "self_attn.q_norm.weight": layer.q_norm,
            at + "self_attn.k_norm.weight": layer.k_norm,
            at + "self_attn.q_proj.weight": layer.q,
            at + "self_attn.k_proj.weight": layer.k,
            at + "self_attn.v_proj.weight": layer.v,
            at + "self_attn.o_proj.weight": layer.o,
            at + "mlp.gate.weight": layer.router,
        }
        for e in range(EXPERTS):
            gate, up = layer.gate_up[e].chunk(2)
            views |= {
                at + f"mlp.experts.{e}.gate_proj.weight": gate,
                at + f"mlp.experts.{e}.up_proj.weight": up,
                at + f"mlp.experts.{e}.down_proj.weight": layer.down[e],
            }
    return views


def byte_tokenizer():
    """tokenizer.json of a byte-level BPE without merges: token id = byte.
    Byte-level BPE writes bytes as printable characters: those that are
    printable in Latin-1 stand for themselves, the others for U+0100 on."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    stand_ins = iter(range(256, 512))
    vocabulary = {chr(byte if byte in printable else next(stand_ins)): byte
                  for byte in range(256)}
    special = [{"id": token, "content": content, "single_word": False,
                "lstrip": False, "rstrip": False, "normalized": False,
                "special": True}
               for token, content in ((BOS, "<bos>"), (EOS, "<eos>"))]
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": special,
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False,
                          "trim_offsets": True, "use_regex": False},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True,
                    "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None,
                  "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False,
                  "byte_fallback": False, "vocab": vocabulary, "merges": []},
    }


def save(model, out_dir):
    tensors = {name: view.detach().to("cpu", torch.bfloat16).contiguous()
               for name, view in checkpoint_views(model).items()}
    unfinished = out_dir / "model.safetensors.tmp"
    save_file(tensors, unfinished, metadata={"format": "pt"})
    unfinished.replace(out_dir / "model.safetensors")
    generation = {"bos_token_id": BOS, "eos_token_id": EOS, "do_sample": False}
    for name, content, indent in (
            ("config.json", CONFIG, 2),
            ("generation_config.json", generation, 2),
            ("tokenizer.json", byte_tokenizer(), 1)):
        (out_dir / name).write_text(
            json.dumps(content, ensure_ascii=False, indent=indent), "utf-8")


def restore(model, model_dir):
    stored = load_file(model_dir / "model.safetensors")
    with torch.no_grad():
        for name, view in checkpoint_views(model).items():
            view.copy_(stored[name])


# ---- Training ----------------------------------------------------------------


def draw(texts, count, length, rng, device):
    """`count` windows of `length` bytes after a <bos>, from random texts."""
    rows = np.full((count, length + 1), BOS, dtype=np.int64)
    for row in rows:
        text = texts[rng.integers(len(texts))]
        start = rng.integers(len(text) - length)
        row[1:] = text[start:start + length]
    return torch.from_numpy(rows).to(device)


def next_byte_loss(model, windows):
    """Mean negative log-likelihood in bits per byte, and the balance loss."""
    logits, balance = model(windows[:, :-1])
    nats = F.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())
    return nats / math.log(2), balance


@torch.no_grad()
def evaluate(model, held_out, options):
    """"domain bits-per-byte …", the same 16 windows of a domain each time"""
    words = []
    for name, text in held_out.items():
        windows = draw([text], 16, options.seq, np.random.default_rng(1),
                       options.device)
        words.append(f"{name} {next_byte_loss(model, windows)[0].item():.3f}")
    return "held-out bits/byte: " + " ".join(words)


def learning_rate(peak, step, done):
    """Linear warm-up, then a cosine from the peak to a twentieth of it."""
    cosine = 0.5 * (1 + math.cos(math.pi * done))
    return peak * min(1, (step + 1) / WARM_UP_STEPS) * (0.05 + 0.95 * cosine)


def make_optimizer(model):
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() <= 1]
    return torch.optim.AdamW([{"params": matrices, "weight_decay": 0.1},
                              {"params": vectors, "weight_decay": 0.0}],
                             betas=(0.9, 0.95))


def train(model, corpus, held_out, options, log):
    optimizer = make_optimizer(model)
    rng = np.random.default_rng(options.seed)
    began, step, smooth = time.monotonic(), 0, None
    while True:
        minutes = (time.monotonic() - began) / 60
        done = max(minutes / options.minutes, step / options.max_steps)
        if done >= 1:
            break
        rate = learning_rate(options.lr, step, done)
        for group in optimizer.param_groups:
            group["lr"] = rate
        windows = draw(corpus, options.batch, options.seq, rng, options.device)
        bits, balance = next_byte_loss(model, windows)
        loss = bits * math.log(2) + CONFIG["router_aux_loss_coef"] * balance
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

        smooth = bits.item() if smooth is None else (
            0.98 * smooth + 0.02 * bits.item())
        if step % REPORT_EVERY == 0:
            log(f"step {step} min {minutes:.1f} bits/byte {smooth:.3f} "
                f"aux {balance.item():.3f} lr {rate:.2e}")
        step += 1
        if step % SAVE_EVERY == 0:
            log(evaluate(model, held_out, options))
            save(model, options.out_dir)
    log(evaluate(model, held_out, options))
    save(model, options.out_dir)


def parse_options():
    parser = argparse.ArgumentParser(description="Train the demo model.")
    parser.add_argument("corpus_dir", type=pathlib.Path)
    parser.add_argument("out_dir", type=pathlib.Path)
    parser.add_argument("--minutes", type=float, default=90)
    parser.add_argument("--max-steps", type=float, default=math.inf)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--start", type=pathlib.Path,
                        help="folder of a checkpoint to go on from")
    parser.add_argument("--batch", type=int, default=16, help="windows a step")
    parser.add_argument("--seq", type=int, default=256, help="bytes a window")
    parser.add_argument("--lr", type=float, default=3e-3, help="its peak")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def read_texts(corpus_dir, suffix):
    paths = sorted(corpus_dir.glob(f"*.{suffix}"))
    if not paths:
        raise SystemExit(f"train.py: {corpus_dir}: expected *.{suffix} files, "
                         "found none (make_corpus.py writes them)")
    return {path.stem: np.fromfile(path, np.uint8) for path in paths}


def main():
    options = parse_options()
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(options.seed)
    corpus = list(read_texts(options.corpus_dir, "train").values())
    held_out = read_texts(options.corpus_dir, "eval")
    options.out_dir.mkdir(parents=True, exist_ok=True)
    model = Decoder().to(options.device)
    if options.start:
        restore(model, options.start)
    with open(options.out_dir / "train.log", "w", encoding="utf-8") as stream:
        train(model, corpus, held_out, options,
              lambda line: print(line, file=stream, flush=True))


if __name__ == "__main__":
    main()
