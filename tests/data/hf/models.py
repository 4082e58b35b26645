"""The models of this folder: what make_fixtures.py makes, family by family."""

import itertools

import numpy as np

QWEN3_MOE = {
    "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe",
    "attention_bias": False, "decoder_sparse_step": 1, "hidden_act": "silu",
    "max_position_embeddings": 64, "mlp_only_layers": [],
    "rms_norm_eps": 1e-6, "rope_scaling": None, "rope_theta": 1000000.0,
    "sliding_window": None, "tie_word_embeddings": False,
    "use_sliding_window": False, "bos_token_id": 1, "eos_token_id": 2}
MIXTRAL = {
    "architectures": ["MixtralForCausalLM"], "model_type": "mixtral",
    "attention_dropout": 0.0, "bos_token_id": 1, "eos_token_id": 2,
    "hidden_act": "silu", "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5, "rope_theta": 1000000.0, "sliding_window": None,
    "tie_word_embeddings": False}
OLMOE = {
    "architectures": ["OlmoeForCausalLM"], "model_type": "olmoe",
    "attention_bias": False, "clip_qkv": None, "hidden_act": "silu",
    "max_position_embeddings": 64, "pad_token_id": 1, "eos_token_id": 2,
    "rms_norm_eps": 1e-5, "rope_scaling": None, "rope_theta": 10000.0,
    "tie_word_embeddings": False}
QWEN2_MOE = {
    "architectures": ["Qwen2MoeForCausalLM"], "model_type": "qwen2_moe",
    "attention_dropout": 0.0, "decoder_sparse_step": 1, "hidden_act": "silu",
    "max_position_embeddings": 64, "max_window_layers": 1,
    "mlp_only_layers": [], "rms_norm_eps": 1e-6, "rope_theta": 1000000.0,
    "sliding_window": 4, "tie_word_embeddings": False,
    "use_sliding_window": False, "bos_token_id": 1, "eos_token_id": 2}
DOTS1 = {
    "architectures": ["Dots1ForCausalLM"], "model_type": "dots1",
    "attention_bias": False, "hidden_act": "silu",
    "max_position_embeddings": 64, "n_group": 1, "topk_group": 1,
    "rms_norm_eps": 1e-6, "rope_scaling": None, "rope_theta": 1000000.0,
    "routed_scaling_factor": 2.5, "sliding_window": None,
    "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2}

GATED = {  # what the families with sigmoid scores have in common
    "hidden_act": "silu", "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5, "rope_scaling": None, "rope_theta": 10000.0,
    "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": None}
SOLAR_OPEN = GATED | {
    "architectures": ["SolarOpenForCausalLM"], "model_type": "solar_open"}
HY_V3 = GATED | {
    "architectures": ["HYV3ForCausalLM"], "model_type": "hy_v3",
    "attention_bias": False, "mlp_bias": False}
GLM4_MOE = GATED | {
    "architectures": ["Glm4MoeForCausalLM"], "model_type": "glm4_moe"}
MINIMAX_M2 = GATED | {
    "architectures": ["MiniMaxM2ForCausalLM"], "model_type": "minimax_m2",
    "rms_norm_eps": 1e-6}

GRANITE = {
    "hidden_act": "silu", "max_position_embeddings": 128,
    "rms_norm_eps": 1e-6, "rope_scaling": None, "rope_theta": 10000.0,
    "attention_bias": False, "tie_word_embeddings": False, "bos_token_id": 1,
    "eos_token_id": None}
GRANITEMOE = GRANITE | {
    "architectures": ["GraniteMoeForCausalLM"], "model_type": "granitemoe"}
GRANITEMOESHARED = GRANITE | {
    "architectures": ["GraniteMoeSharedForCausalLM"],
    "model_type": "granitemoeshared"}
SARVAM_MOE = GATED | {
    "architectures": ["SarvamMoEForCausalLM"], "model_type": "sarvam_moe",
    "rms_norm_eps": 1e-6}
ARIA_TEXT = GRANITE | {
    "architectures": ["AriaTextForCausalLM"], "model_type": "aria_text"}
FLEX_OLMO = GRANITE | {
    "architectures": ["FlexOlmoForCausalLM"], "model_type": "flex_olmo",
    "pad_token_id": None}

ERNIE = GRANITE | {
    "architectures": ["Ernie4_5_MoeForCausalLM"], "model_type": "ernie4_5_moe",
    "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "use_bias": False}

# What make_fixtures.py goes by: keys of the number of experts and of their
# width, the name of the MoE block, its projections, the gate and the bias of its
# choice, shared experts (name, number), biases of q, k and v.
SWIGLU = ("gate_proj", "up_proj", "down_proj")
PLAIN = dict(count="num_experts", width="intermediate_size", block="mlp.",
             names=SWIGLU, gate="gate", bias=None, shared=None, qk_norm=None,
             qkv_bias=lambda config: False)
ROUTED = PLAIN | dict(
    count="n_routed_experts", width="moe_intermediate_size",
    bias="gate.e_score_correction_bias",
    shared=("shared_experts.", "n_shared_experts"),
    qkv_bias=lambda config: config.get("attention_bias", False))
FAMILIES = {
    "qwen3_moe": PLAIN | dict(width="moe_intermediate_size", qk_norm="head"),
    "mixtral": PLAIN | dict(count="num_local_experts",
                            block="block_sparse_moe.", names=("w1", "w3", "w2")),
    "olmoe": PLAIN | dict(qk_norm="row"),
    "qwen2_moe": PLAIN | dict(width="moe_intermediate_size",
                              qkv_bias=lambda config: True),
    "dots1": ROUTED | dict(qk_norm="head"),
    "solar_open": ROUTED,
    "hy_v3": ROUTED | dict(
        count="num_experts", gate="router.gate", bias="expert_bias",
        shared=("shared_mlp.", "num_shared_experts"), qk_norm="head"),
    "glm4_moe": ROUTED | dict(qk_norm="use_qk_norm"),
    "minimax_m2": ROUTED | dict(
        count="num_local_experts", width="intermediate_size",
        block="block_sparse_moe.", names=("w1", "w3", "w2"), shared=None,
        bias="e_score_correction_bias", qk_norm="row",
        qkv_bias=lambda config: False),
    "granitemoe": PLAIN | dict(count="num_local_experts",
                               block="block_sparse_moe.", gate="router.layer"),
    "granitemoeshared": PLAIN | dict(
        count="num_local_experts", block="block_sparse_moe.",
        gate="router.layer", shared=("shared_mlp.", None)),
    "sarvam_moe": ROUTED | dict(qk_norm="head", bias="gate.expert_bias"),
    "aria_text": PLAIN | dict(
        count="moe_num_experts", gate="router",
        shared=("shared_experts.", "moe_num_shared_experts")),
    "flex_olmo": PLAIN | dict(qk_norm="row"),
    "ernie4_5_moe": PLAIN | dict(
        count="moe_num_experts", width="moe_intermediate_size",
        shared=("shared_experts.", "moe_num_shared_experts"),
        bias="moe_statics.e_score_correction_bias"),
}


# ---- Layouts -----------------------------------------------------------------


def join_experts(tensors, block, transposed, names):
    """Experts of all blocks (behind the layer) as two tensors each."""
    for layer in itertools.count():
        at = f"model.layers.{layer}.{block}"
        if at + "experts.0.up_proj.weight" not in tensors:
            return
        parts = {name: [] for name in SWIGLU}
        for expert in itertools.count():
            if f"{at}experts.{expert}.up_proj.weight" not in tensors:
                break
            for name in SWIGLU:
                parts[name].append(
                    tensors.pop(f"{at}experts.{expert}.{name}.weight"))
        gate, up, down = (np.stack(parts[name]) for name in SWIGLU)
        for name, joined in zip(names, (np.concatenate((gate, up), 1), down)):
            tensors[at + name] = (
                np.ascontiguousarray(joined.swapaxes(1, 2)) if transposed
                else joined)


def rename(tensors, old, new):
    for name in [name for name in tensors if old in name]:
        tensors[name.replace(old, new)] = tensors.pop(name)


def as_granite(tensors):
    join_experts(tensors, "block_sparse_moe.", False,
                 ("input_linear.weight", "output_linear.weight"))
    rename(tensors, "block_sparse_moe.shared_mlp.", "shared_mlp.")
    rename(tensors, "shared_mlp.down_proj", "shared_mlp.output_linear")
    for name in [n for n in tensors if n.endswith("shared_mlp.up_proj.weight")]:
        gate = tensors.pop(name.replace("up_proj", "gate_proj"))
        tensors[name.replace("up_proj", "input_linear")] = np.concatenate(
            (gate, tensors.pop(name)))


def as_sarvam(tensors):
    for ending in ("weight", "bias"):
        for name in [n for n in tensors if n.endswith("q_proj." + ending)]:
            tensors[name.replace("q_proj", "query_key_value")] = np.concatenate(
                [tensors.pop(name.replace("q_proj", f"{which}_proj"))
                 for which in "qkv"])
    rename(tensors, "model.embed_tokens", "model.word_embeddings")
    rename(tensors, "self_attn.o_proj", "self_attn.dense")
    rename(tensors, "self_attn.q_norm", "self_attn.query_layernorm")
    rename(tensors, "self_attn.k_norm", "self_attn.key_layernorm")
    rename(tensors, ".self_attn.", ".attention.")


def as_flex_olmo(tensors):
    rename(tensors, "post_attention_layernorm", "post_feedforward_layernorm")
    rename(tensors, "input_layernorm", "post_attention_layernorm")


def as_ernie(tensors):
    for name in [n for n in tensors if n.endswith("e_score_correction_bias")]:
        tensors[name] = 0.2 * tensors[name][None]


# What changes the names and shapes that the families share to their own.
LAYOUTS = {
    "granitemoe": as_granite,
    "granitemoeshared": as_granite,
    "sarvam_moe": as_sarvam,
    "aria_text": lambda tensors: join_experts(
        tensors, "mlp.", True, ("experts.fc1.weight", "experts.fc2.weight")),
    "flex_olmo": as_flex_olmo,
    "ernie4_5_moe": as_ernie,
}

# ---- The models --------------------------------------------------------------


# config: on top of the architecture's; lengths: of the sequences; embedding:
# standard deviation of its rows (small ones make rms_norm_eps matter); greedy: the
# first sequence has a greedy continuation.
FIXTURES = {
    # The plain case: heads * head_dim = 96 is not the hidden width.
    "qwen3_moe": dict(
        base=QWEN3_MOE, dtype="F32", lengths=(17, 41, 1), config=dict(
            hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, head_dim=24, num_experts=8,
            num_experts_per_tok=3, moe_intermediate_size=12,
            intermediate_size=40, norm_topk_prob=True, vocab_size=96)),
    # A dense layer between two MoE layers, tied head, no renormalisation,
    # unusual eps and theta, files in three shards.
    "qwen3_moe_dense": dict(
        base=QWEN3_MOE, dtype="F32", lengths=(13, 33, 1), shards=3,
        embedding=0.1, config=dict(
            hidden_size=64, num_hidden_layers=3, num_attention_heads=4,
            num_key_value_heads=1, head_dim=20, num_experts=8,
            num_experts_per_tok=2, moe_intermediate_size=8,
            intermediate_size=36, mlp_only_layers=[1], norm_topk_prob=False,
            tie_word_embeddings=True, rms_norm_eps=3e-3, rope_theta=500.0,
            vocab_size=96)),
    # MoE in every second layer only, ten experts, odd vocabulary.
    "qwen3_moe_bf16": dict(
        base=QWEN3_MOE, dtype="BF16", lengths=(17, 41, 1), config=dict(
            hidden_size=64, num_hidden_layers=3, num_attention_heads=6,
            num_key_value_heads=3, head_dim=16, num_experts=10,
            num_experts_per_tok=4, moe_intermediate_size=20,
            intermediate_size=28, decoder_sparse_step=2, norm_topk_prob=True,
            vocab_size=97)),
    # Experts of a layer in two stacked tensors and config.json in the form
    # that transformers 5 gives them.
    "qwen3_moe_fused": dict(
        base=QWEN3_MOE, dtype="BF16", lengths=(9, 19), fused=True, config=dict(
            hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, head_dim=12, num_experts=8,
            num_experts_per_tok=2, moe_intermediate_size=8,
            intermediate_size=16, norm_topk_prob=False, vocab_size=80)),
    "mixtral": dict(
        base=MIXTRAL, dtype="F32", lengths=(17, 41, 1), config=dict(
            hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, num_local_experts=8, num_experts_per_tok=2,
            intermediate_size=12, vocab_size=96)),
    # Odd numbers everywhere: three heads on one key/value head, head_dim given
    # and not hidden / heads, six experts.
    "mixtral_bf16": dict(
        base=MIXTRAL, dtype="BF16", lengths=(17, 41, 1), embedding=0.2,
        config=dict(
            hidden_size=64, num_hidden_layers=3, num_attention_heads=3,
            num_key_value_heads=1, head_dim=22, num_local_experts=6,
            num_experts_per_tok=3, intermediate_size=20, rms_norm_eps=4e-3,
            rope_theta=300.0, vocab_size=97)),
    # The same in transformers' own form: prefix, router and experts renamed.
    "mixtral_fused": dict(
        base=MIXTRAL, dtype="BF16", lengths=(9, 19), fused=True, config=dict(
            hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, num_local_experts=8, num_experts_per_tok=2,
            intermediate_size=8, vocab_size=80)),
    # As many key/value heads as heads; q, k and v clipped after the norm.
    "olmoe": dict(
        base=OLMOE, dtype="F32", lengths=(17, 41, 1), config=dict(
            hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=4, num_experts=8, num_experts_per_tok=3,
            intermediate_size=10, norm_topk_prob=False, clip_qkv=0.9,
            vocab_size=96)),
    # Fewer key/value heads, renormalised weights.
    "olmoe_gqa_f16": dict(
        base=OLMOE, dtype="F16", lengths=(17, 41, 1), config=dict(
            hidden_size=64, num_hidden_layers=3, num_attention_heads=4,
            num_key_value_heads=2, num_experts=8, num_experts_per_tok=2,
            intermediate_size=14, norm_topk_prob=True, vocab_size=96)),
    # A shared expert of an odd width, a dense layer, biases of q, k and v.
    "qwen2_moe": dict(
        base=QWEN2_MOE, dtype="F32", lengths=(17, 41, 1), config=dict(
            hidden_size=64, num_hidden_layers=3, num_attention_heads=4,
            num_key_value_heads=2, num_experts=8, num_experts_per_tok=3,
            moe_intermediate_size=8, shared_expert_intermediate_size=27,
            intermediate_size=36, mlp_only_layers=[0], norm_topk_prob=False,
            vocab_size=96)),
    "qwen2_moe_fused": dict(
        base=QWEN2_MOE, dtype="BF16", lengths=(9, 19), fused=True, config=dict(
            hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=4, num_experts=8, num_experts_per_tok=2,
            moe_intermediate_size=8, shared_expert_intermediate_size=16,
            intermediate_size=16, norm_topk_prob=True, vocab_size=80)),
    # Two shared experts; chosen by biased scores, weighed by plain ones.
    "dots1": dict(
        base=DOTS1, dtype="F32", lengths=(17, 41, 1), embedding=0.2,
        config=dict(
            hidden_size=64, num_hidden_layers=3, num_attention_heads=4,
            num_key_value_heads=2, head_dim=24, rms_norm_eps=3e-3, n_routed_experts=8,
            n_shared_experts=2, num_experts_per_tok=3, moe_intermediate_size=8,
            intermediate_size=36, first_k_dense_replace=1,
            norm_topk_prob=True, vocab_size=96)),
    # The choice is limited to two of four groups; no renormalisation.
    "dots1_fused": dict(
        base=DOTS1, dtype="BF16", lengths=(9, 19), fused=True, config=dict(
            hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, n_routed_experts=12, n_shared_experts=1,
            num_experts_per_tok=4, moe_intermediate_size=8, n_group=4,
            topk_group=2, intermediate_size=16, norm_topk_prob=False,
            vocab_size=80)),
    # No norms of q and k, but biases; two of three groups; a head width that
    # is not hidden / heads.
    "solar_open": dict(
        base=SOLAR_OPEN, dtype="BF16", lengths=(17, 29, 1), greedy=True,
        config=dict(
            hidden_size=48, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, head_dim=14, n_routed_experts=9,
            n_shared_experts=1, num_experts_per_tok=3, moe_intermediate_size=11,
            n_group=3, topk_group=2, norm_topk_prob=True, attention_bias=True,
            routed_scaling_factor=1.7, vocab_size=83)),
    # Defaults that stand in no key: head width 128, renormalised, scale 1.
    "solar_open_fused": dict(
        base=SOLAR_OPEN, dtype="BF16", lengths=(9, 19), fused=True, greedy=True,
        config=dict(
            hidden_size=24, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=1, n_routed_experts=6, n_shared_experts=2,
            num_experts_per_tok=2, moe_intermediate_size=8, vocab_size=80)),
    # A dense layer behind one with experts, as mlp_layer_types says.
    "hy_v3": dict(
        base=HY_V3, dtype="BF16", lengths=(17, 29, 1), greedy=True,
        embedding=0.2, config=dict(
            hidden_size=48, num_hidden_layers=3, num_attention_heads=4,
            num_key_value_heads=2, head_dim=18, num_experts=7,
            num_shared_experts=2, num_experts_per_tok=3, rms_norm_eps=3e-3,
            moe_intermediate_size=9, intermediate_size=26, vocab_size=83,
            mlp_layer_types=["sparse", "dense", "sparse"],
            router_scaling_factor=1.9)),
    # Without that key the first layer is dense.
    "hy_v3_fused": dict(
        base=HY_V3, dtype="BF16", lengths=(9, 19), fused=True, greedy=True,
        config=dict(
            hidden_size=40, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=4, head_dim=12, num_experts=8,
            num_shared_experts=1, num_experts_per_tok=2,
            moe_intermediate_size=8, intermediate_size=24, vocab_size=80)),
    # Half of each head is rotated; biases, norms, a dense layer, groups.
    "glm4_moe": dict(
        base=GLM4_MOE, dtype="BF16", lengths=(17, 29, 1), greedy=True,
        embedding=0.2, config=dict(
            hidden_size=48, num_hidden_layers=3, num_attention_heads=4,
            num_key_value_heads=2, head_dim=20, n_routed_experts=8,
            n_shared_experts=1, num_experts_per_tok=3, moe_intermediate_size=9,
            intermediate_size=26, first_k_dense_replace=1, n_group=4,
            topk_group=2, norm_topk_prob=True, attention_bias=True,
            use_qk_norm=True, routed_scaling_factor=2.5, rms_norm_eps=3e-3,
            partial_rotary_factor=0.5, vocab_size=83)),
    # A quarter of each head, without norms; the part stands among the
    # parameters of the rotation.
    "glm4_moe_fused": dict(
        base=GLM4_MOE, dtype="BF16", lengths=(9, 19), fused=True, greedy=True,
        config=dict(
            hidden_size=40, num_hidden_layers=2, num_attention_heads=3,
            num_key_value_heads=1, head_dim=24, n_routed_experts=8,
            n_shared_experts=1, num_experts_per_tok=2, moe_intermediate_size=8,
            intermediate_size=24, first_k_dense_replace=0,
            norm_topk_prob=False, partial_rotary_factor=0.25, vocab_size=80)),
    # The part that is rotated is rotary_dim; norms over whole rows.
    "minimax_m2": dict(
        base=MINIMAX_M2, dtype="BF16", lengths=(17, 29, 1), greedy=True,
        embedding=0.2, config=dict(
            hidden_size=48, num_hidden_layers=2, num_attention_heads=6,
            num_key_value_heads=2, head_dim=14, rotary_dim=6,
            num_local_experts=9, num_experts_per_tok=3, intermediate_size=11,
            rms_norm_eps=3e-3, vocab_size=83)),
    "minimax_m2_fused": dict(
        base=MINIMAX_M2, dtype="BF16", lengths=(9, 19), fused=True, greedy=True,
        config=dict(
            hidden_size=40, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=4, head_dim=10, rotary_dim=10,
            num_local_experts=8, num_experts_per_tok=2, intermediate_size=8,
            vocab_size=80)),
    # Four multipliers; a head width that its keys do not lead to.
    "granitemoe": dict(
        base=GRANITEMOE, dtype="BF16", lengths=(17, 29, 1), greedy=True,
        embedding=0.05, config=dict(
            hidden_size=48, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, num_local_experts=7, num_experts_per_tok=3,
            intermediate_size=11, embedding_multiplier=5.5,
            attention_multiplier=0.17, residual_multiplier=0.6,
            logits_scaling=1.7, rms_norm_eps=3e-3, vocab_size=83)),
    # Tied, only some of the multipliers; the others are 1.
    "granitemoe_fused": dict(
        base=GRANITEMOE, dtype="BF16", lengths=(9, 19), fused=True, greedy=True,
        embedding=0.3, config=dict(
            hidden_size=40, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=4, num_local_experts=8, num_experts_per_tok=2,
            intermediate_size=8, embedding_multiplier=3.0,
            tie_word_embeddings=True, vocab_size=80)),
    "granitemoeshared": dict(
        base=GRANITEMOESHARED, dtype="BF16", lengths=(17, 29, 1), greedy=True,
        embedding=0.05, config=dict(
            hidden_size=48, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=1, num_local_experts=6, num_experts_per_tok=2,
            intermediate_size=9, shared_intermediate_size=13,
            embedding_multiplier=5.5, attention_multiplier=0.17,
            residual_multiplier=0.6, logits_scaling=1.7, rms_norm_eps=3e-3,
            vocab_size=83)),
    # None shared.
    "granitemoeshared_fused": dict(
        base=GRANITEMOESHARED, dtype="BF16", lengths=(9, 19), fused=True,
        greedy=True, config=dict(
            hidden_size=40, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, num_local_experts=8, num_experts_per_tok=2,
            intermediate_size=8, shared_intermediate_size=0,
            attention_multiplier=0.25, vocab_size=80)),
    # q, k and v in one tensor of unequal parts, with biases.
    "sarvam_moe": dict(
        base=SARVAM_MOE, dtype="BF16", lengths=(17, 29, 1), greedy=True,
        embedding=0.2, config=dict(
            hidden_size=48, num_hidden_layers=3, num_attention_heads=6,
            num_key_value_heads=2, head_dim=14, num_experts=8,
            num_shared_experts=1, num_experts_per_tok=3,
            moe_intermediate_size=9, intermediate_size=26,
            first_k_dense_replace=1, n_group=4, topk_group=2,
            use_qkv_bias=True, norm_topk_prob=True, rms_norm_eps=3e-3,
            routed_scaling_factor=1.9, vocab_size=83)),
    "sarvam_moe_fused": dict(
        base=SARVAM_MOE, dtype="BF16", lengths=(9, 19), fused=True, greedy=True,
        config=dict(
            hidden_size=40, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=1, head_dim=16, num_experts=8,
            num_shared_experts=2, num_experts_per_tok=2,
            moe_intermediate_size=8, intermediate_size=24, vocab_size=80)),
    # Experts lie transposed; two shared ones.
    "aria_text": dict(
        base=ARIA_TEXT, dtype="BF16", lengths=(17, 29, 1), greedy=True,
        embedding=0.2, config=dict(
            hidden_size=48, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, head_dim=18, moe_num_experts=7, moe_topk=3,
            moe_num_shared_experts=2, intermediate_size=9, rms_norm_eps=3e-3,
            vocab_size=83)),
    "aria_text_fused": dict(
        base=ARIA_TEXT, dtype="BF16", lengths=(9, 19), fused=True, greedy=True,
        config=dict(
            hidden_size=40, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=4, moe_num_experts=8, moe_topk=2,
            moe_num_shared_experts=1, intermediate_size=8, vocab_size=80)),
    # Norms behind the blocks alone.
    "flex_olmo": dict(
        base=FLEX_OLMO, dtype="BF16", lengths=(17, 29, 1), greedy=True,
        embedding=0.5, config=dict(
            hidden_size=48, num_hidden_layers=3, num_attention_heads=4,
            num_key_value_heads=2, num_experts=7, num_experts_per_tok=3,
            intermediate_size=9, rms_norm_eps=3e-3, vocab_size=83)),
    "flex_olmo_fused": dict(
        base=FLEX_OLMO, dtype="BF16", lengths=(9, 19), fused=True, greedy=True,
        config=dict(
            hidden_size=40, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=4, num_experts=8, num_experts_per_tok=2,
            intermediate_size=8, norm_topk_prob=True, vocab_size=80)),
    # Neighbours are rotated, a bias of softmax scores, experts in layers 1 and 3
    # of five.
    "ernie4_5_moe": dict(
        base=ERNIE, dtype="BF16", lengths=(17, 29, 1), greedy=True,
        embedding=0.2, config=dict(
            hidden_size=48, num_hidden_layers=5, num_attention_heads=4,
            num_key_value_heads=2, head_dim=14, moe_num_experts=7, moe_k=3,
            moe_num_shared_experts=1, moe_intermediate_size=9,
            intermediate_size=14, moe_layer_start_index=1,
            moe_layer_end_index=3, moe_layer_interval=2, rms_norm_eps=3e-3,
            rope_theta=700.0, vocab_size=83)),
    # Tied, without the keys of layers: the first is dense.
    "ernie4_5_moe_fused": dict(
        base=ERNIE, dtype="BF16", lengths=(9, 19), fused=True, greedy=True,
        embedding=0.3, config=dict(
            hidden_size=40, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=4, moe_num_experts=8, moe_k=2,
            moe_num_shared_experts=2, moe_intermediate_size=8,
            intermediate_size=24, tie_word_embeddings=True, vocab_size=80)),
}
