"""Tensors of a checkpoint by the names that most families have, as float64."""

import json

import numpy as np

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


def split_tensors(kind, config, tensors):
    """Tensors of layouts of their own by the names that the others have."""
    out = {}
    for name, tensor in tensors.items():
        if kind.startswith("granitemoe"):
            name = name.replace("input_linear.weight", "experts.gate_up_proj")
            name = name.replace("output_linear.weight", "experts.down_proj")
            name = name.replace("router.layer.", "router.")
            if name.endswith("shared_mlp.experts.gate_up_proj"):
                at = name.removesuffix("experts.gate_up_proj").replace(
                    "shared_mlp", "block_sparse_moe.shared_mlp")
                half = len(tensor) // 2
                out[at + "gate_proj.weight"] = tensor[:half]
                out[at + "up_proj.weight"] = tensor[half:]
                continue
            name = name.replace("shared_mlp.experts.down_proj",
                                "block_sparse_moe.shared_mlp.down_proj.weight")
        if kind == "aria_text":
            name = name.replace("fc1.weight", "gate_up_proj").replace(
                "fc2.weight", "down_proj")
            if ".mlp.experts." in name:
                tensor = np.transpose(tensor, (0, 2, 1))
        if kind == "sarvam_moe":
            name = name.replace("word_embeddings", "embed_tokens").replace(
                ".attention.", ".self_attn.").replace(
                    "self_attn.dense", "self_attn.o_proj").replace(
                        "query_layernorm", "q_norm").replace(
                            "key_layernorm", "k_norm").replace(
                                "expert_bias", "e_score_correction_bias")
            if "query_key_value" in name:
                q, kv = (config["head_dim"] * config[key] for key in (
                    "num_attention_heads", "num_key_value_heads"))
                for which, rows in zip("qkv", np.split(tensor, [q, q + kv])):
                    out[name.replace("query_key_value", which + "_proj")] = rows
                continue
        out[name] = tensor
    return out
