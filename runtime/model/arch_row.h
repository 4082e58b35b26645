/* One row of the feature table. For what reads or writes the files of an
 * architecture; the decoder only knows moerun__model_config. */
#ifndef MOERUN_MODEL_ARCH_ROW_H
#define MOERUN_MODEL_ARCH_ROW_H

#include "runtime/model/arch.h"

struct moerun__arch {
  const char *name;       /* model_type in config.json */
  const char *class_name; /* its entry in "architectures" */

  /* Keys. */
  const char *experts_key;
  const char *width_key;       /* F                                          */
  const char *renormalise_key; /* NULL: the K weights are always renormalised;
                                  else a boolean, false when missing         */
  const char *scale_key; /* of the gate weights, 1 when missing; NULL: 1 */
  const char *shared_width_key; /* width of the shared expert; NULL: none    */
  const char *shared_count_key; /* or the number of those of width F         */
  const char *qkv_bias_key;     /* a boolean, true when missing; NULL: false */
  const char *window_switch;    /* sliding_window counts only when this key is
                                  true; NULL: whenever it is set             */
  int has_window_layers;        /* it counts from layer max_window_layers on */
  int types_decide_windows; /* layer_types alone, where it is there           */
  int ignores_attention_bias; /* whatever the key says, there are none        */
  int has_dense_layers;  /* mlp_only_layers and decoder_sparse_step name dense
                            layers, of width intermediate_size               */
  int has_leading_dense; /* the first first_k_dense_replace are dense, of width
                            intermediate_size                                */
  int has_groups;        /* n_group, topk_group */
  int has_clip_qkv;
  int has_head_dim; /* 0: head_dim is always H / heads */

  /* What a missing key means in this family. */
  int64_t default_kv_heads; /* 0: as many as heads */
  int64_t default_positions;
  int64_t default_window; /* 0: none */
  double default_theta;
  double default_eps;
  int64_t default_bos; /* -1: none; also ignored when outside V */
  int64_t default_eos;
  int usually_renormalised; /* what released models set renormalise_key to */
  double usual_scale;       /* and scale_key */

  /* Decoder and tensor names. */
  const struct moerun__attention_kind *attention; /* attention.h */
  moerun__qk_norm qk_norm;
  moerun__gate_score gate_score;
  int has_choice_bias;
  int shared_is_weighted;
  const char *shared_name;   /* within the MoE block */
  const char *moe_prefix[2]; /* hub spelling first; NULL: no second one */
  const char *projection[3]; /* gate, up, down of an expert */
};

enum { MOERUN_MAX_CONFIG_BYTES = 4 << 20 }; /* of config.json and the like */

/* A size in 1..high; a missing key means *fallback, or is an error without
 * one. */
moerun_status moerun__arch_read_size(int32_t *out, const json_t *root,
                                     const char *key, int64_t high,
                                     const int64_t *fallback,
                                     const char *origin);

/* num_home (arch_home.c), once num_experts is known. */
moerun_status moerun__arch_read_home(moerun__model_config *config,
                                     const json_t *root, const char *origin);

/* The gate's rule and the shared experts (arch_moe.c), once E, K and F are
 * known. */
moerun_status moerun__arch_read_moe(moerun__model_config *config,
                                    const json_t *root, const char *origin);

/* rope_theta (arch_rope.c); every other rule of rotary positions is refused. */
moerun_status moerun__arch_read_rope(moerun__model_config *config,
                                     const json_t *root, const char *origin);

/* bos_token and eos_token (arch_tokens.c), once vocab_size is known: the
 * family's, unless config.json says otherwise. */
moerun_status moerun__arch_read_tokens(moerun__model_config *config,
                                       const json_t *root, const char *origin);
/* The same from a generation_config.json, which may be missing. */
moerun_status moerun__arch_load_generation(moerun__model_config *config,
                                           const char *file);

#endif
