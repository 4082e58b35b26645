/* The feature table: one row an architecture. Facts are from the Hugging Face
 * implementations configuration_X.py and modeling_X.py, X being the name of the
 * row. A missing key means what it means there. */
#include "runtime/arch_row.h"

static const moerun__arch rows[] = {
    {
        .name = "qwen3_moe",
        .class_name = "Qwen3MoeForCausalLM",
        .usually_renormalised = 1,
        .experts_key = "num_experts",
        .width_key = "moe_intermediate_size",
        .renormalise_key = "norm_topk_prob",
        .window_switch = "use_sliding_window",
        .has_dense_layers = 1,
        .has_head_dim = 1,
        .default_kv_heads = 4,
        .default_positions = 32768,
        .default_theta = 1e4,
        .default_eps = 1e-6,
        .default_bos = -1,
        .default_eos = -1,
        .qk_norm = MOERUN_QK_NORM_HEAD,
        .moe_prefix = {"mlp", NULL},
        .projection = {"gate_proj", "up_proj", "down_proj"},
    },
    {
        .name = "mixtral",
        .class_name = "MixtralForCausalLM",
        .experts_key = "num_local_experts",
        .width_key = "intermediate_size",
        .has_head_dim = 1,
        .default_kv_heads = 8,
        .default_positions = 131072,
        .default_theta = 1e6,
        .default_eps = 1e-5,
        .default_bos = 1,
        .default_eos = 2,
        .qk_norm = MOERUN_QK_NORM_NONE,
        .moe_prefix = {"block_sparse_moe", "mlp"},
        .projection = {"w1", "w3", "w2"},
    },
    {
        .name = "olmoe",
        .class_name = "OlmoeForCausalLM",
        .experts_key = "num_experts",
        .width_key = "intermediate_size",
        .renormalise_key = "norm_topk_prob",
        .has_clip_qkv = 1,
        .default_kv_heads = 0,
        .default_positions = 4096,
        .default_theta = 1e4,
        .default_eps = 1e-5,
        .default_bos = -1,
        .default_eos = 50279,
        .qk_norm = MOERUN_QK_NORM_WHOLE,
        .moe_prefix = {"mlp", NULL},
        .projection = {"gate_proj", "up_proj", "down_proj"},
    },
};

enum { NUM_ROWS = sizeof rows / sizeof *rows };

const char *moerun__arch_name(const moerun__arch *arch) {
  return arch->name;
}

const moerun__arch *moerun__arch_at(int i) {
  return i >= 0 && i < NUM_ROWS ? &rows[i] : NULL;
}
