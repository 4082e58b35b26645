/* Architectures as rows of a feature table (arch.c): which config keys and
 * tensor names each uses and where its decoder differs. A new architecture is
 * a row, and a small function where a feature is new; the decoder has no
 * branch on a model's name. Source of the facts: the Hugging Face
 * implementations named in arch.c. */
#ifndef MOERUN_RUNTIME_ARCH_H
#define MOERUN_RUNTIME_ARCH_H

#include "kernels/kernels.h"

#include <jansson.h>

typedef enum moerun__qk_norm {
  MOERUN_QK_NORM_NONE = 0,
  MOERUN_QK_NORM_HEAD,  /* RMSNorm of each head, before RoPE               */
  MOERUN_QK_NORM_WHOLE, /* RMSNorm of the whole q and k rows, before RoPE  */
} moerun__qk_norm;

typedef struct moerun__arch moerun__arch; /* one row of the table */

enum { MOERUN_MAX_EOS = 8, MOERUN_TENSOR_NAME = 128 };

typedef struct moerun__model_config {
  const moerun__arch *arch;
  int32_t num_layers;
  int32_t hidden_width;      /* H */
  int32_t num_heads;
  int32_t num_kv_heads;
  int32_t head_dim;
  int32_t num_experts;       /* E */
  int32_t experts_per_token; /* K */
  int32_t expert_width;      /* F */
  int32_t dense_width;       /* FFN width of dense layers */
  int32_t vocab_size;        /* V */
  int32_t max_positions;
  double norm_eps;
  double rope_theta;
  double clip_qkv;           /* 0: none; else q, k, v are clamped to +- this */
  moerun__qk_norm qk_norm;
  moerun__gate_rule gate_rule;
  int32_t tied_head;
  int32_t num_moe_layers;
  int32_t bos_token;         /* -1: none */
  int32_t num_eos;
  int32_t eos_token[MOERUN_MAX_EOS]; /* config.json, generation_config.json */
  int32_t *moe_layer;        /* [num_layers] index among MoE layers, -1 dense;
                                freed by moerun__model_config_clear         */
} moerun__model_config;

/* path/config.json (and generation_config.json when it is there). */
moerun_status moerun__model_config_load(moerun__model_config *out,
                                        const char *path);
moerun_status moerun__model_config_parse(moerun__model_config *out,
                                         const json_t *root,
                                         const char *origin);
void moerun__model_config_clear(moerun__model_config *config);

/* "qwen3_moe", … */
const char *moerun__arch_name(const moerun__arch *arch);

#endif
