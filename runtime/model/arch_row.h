/* One row of the feature table. For what reads or writes the files of an
 * architecture; the decoder only knows moerun__model_config. */
#ifndef MOERUN_MODEL_ARCH_ROW_H
#define MOERUN_MODEL_ARCH_ROW_H

#include "runtime/model/arch.h"

/* Which layers have no experts. */
typedef enum moerun__dense_rule {
  MOERUN_DENSE_NONE = 0, /* all have                                         */
  MOERUN_DENSE_LISTED,   /* mlp_only_layers, decoder_sparse_step             */
  MOERUN_DENSE_LEADING,  /* the first first_k_dense_replace                  */
  MOERUN_DENSE_TYPES,    /* by mlp_layer_types; without it the first         */
  MOERUN_DENSE_RANGE,    /* but every moe_layer_interval-th one between
                            moe_layer_start_index and moe_layer_end_index    */
  MOERUN_DENSE_RULES,
} moerun__dense_rule;

/* Which layers see a window only. */
typedef enum moerun__window_rule {
  MOERUN_WINDOW_NONE = 0, /* none: a window in force is refused             */
  MOERUN_WINDOW_ALL,      /* all where sliding_window is in force            */
  MOERUN_WINDOW_TYPES,    /* those of layer_types; without it, a pattern     */
} moerun__window_rule;

/* Without layer_types, where a window is in force: from layer `first` on, but
 * for one of `every` layers, which see everything. */
typedef struct moerun__window_pattern {
  moerun__window_rule rule;
  const char *on_key;    /* sliding_window counts only when this key is true;
                         NULL: whenever it is set                           */
  const char *first_key; /* these keys have the numbers; NULL: there is none */
  const char *end_key;
  const char *every_key;
  int64_t first;
  int64_t end;      /* only with its key: this layer and those behind it see
                  everything                                                */
  int64_t every;    /* 0: all from `first` on have windows */
  int64_t turn;     /* layer l sees everything if l % every is this, */
  int from_the_end; /* or, if this is set, every - 1                */
  int last_sees_all;
  int64_t usual; /* what released models set sliding_window to; 0: null */
} moerun__window_pattern;

/* Rotary positions without rope_parameters. */
typedef struct moerun__usual_rope {
  double theta; /* 0: there is none                   */
  double part;  /* of each head that is rotated; 0: 1 */
} moerun__usual_rope;

/* How a checkpoint spells its tensors; NULL: as usual. */
typedef struct moerun__arch_spelling {
  const char *block;       /* the MoE block, behind "model.layers.N."; NULL:
                              there is no such spelling                      */
  const char *gate;        /* within the block: "gate"                       */
  const char *choice_bias; /* "gate.e_score_correction_bias"                 */
  const char *fused[2];    /* "experts.gate_up_proj", "experts.down_proj"    */
  const char *shared;      /* behind "model.layers.N."; NULL: there are none */
  const char *shared_fused[2]; /* gate and up as one, down; NULL: the names of
                                  the projections                            */
  const char *embedding; /* "model.embed_tokens"                           */
  const struct moerun__attention_tensor
      *attention; /* up to one without a suffix; what is not among them is as
                     the kind of attention has it                            */
} moerun__arch_spelling;

/* Another name of a key. */
typedef struct moerun__key_alias {
  const char *alias;
  const char *key;
} moerun__key_alias;

struct moerun__arch {
  const char *name;        /* model_type in config.json */
  const char *class_name;  /* its entry in "architectures" */
  const char *other_class; /* one that computes the same; NULL: none */

  /* Keys. */
  moerun__key_alias alias[3]; /* up to one without a name */
  const char *experts_key;
  const char *top_k_key;        /* K; NULL: num_experts_per_tok */
  const char *width_key;        /* F                                          */
  const char *renormalise_key;  /* NULL: the K weights are always renormalised;
                                  else a boolean                             */
  const char *scale_key;        /* of the gate weights; NULL: 1              */
  const char *shared_width_key; /* width of the shared expert; NULL: none    */
  const char *shared_count_key; /* or the number of those of width F         */
  const char *qkv_bias_key;     /* a boolean; NULL: false                    */
  const char *qk_norm_key;      /* a boolean; NULL: true                     */
  const char *bias_switch;      /* biases of feed-forward blocks, which are not
                                   implemented; NULL: no such key            */
  const char *rotary_dim_key;   /* the part of a head that is rotated, where
                                   partial_rotary_factor is not there        */
  moerun__window_pattern window;
  int rotates_windows_only;    /* layers that see everything are not rotated */
  const char *layer_theta_key; /* a base for each layer, 0: it is not rotated */
  int ignores_attention_bias;  /* whatever the key says, the product behind the
                                 heads has none                              */
  moerun__dense_rule dense;    /* these are of width intermediate_size        */
  int has_groups;              /* n_group, topk_group */
  const char *least_sum_key;   /* the least that gate weights are divided by;
                                NULL: 0 */
  int has_clip_qkv;
  int has_multipliers; /* of embedding, residual, attention, logits */
  int may_lack_shared; /* shared_width_key may be 0 */
  int has_head_dim;    /* 0: head_dim is always H / heads */
  int has_part_rotary; /* partial_rotary_factor counts */

  /* What a missing key means in this family. */
  int64_t default_kv_heads; /* 0: as many as heads */
  int64_t default_positions;
  int64_t default_window; /* 0: none */
  double default_theta;
  double default_eps;
  int64_t default_bos; /* -1: none; also ignored when outside V */
  int64_t default_eos;
  int64_t default_head_dim;         /* 0: H / heads */
  int64_t default_leading;          /* first_k_dense_replace */
  int default_qkv_bias;             /* qkv_bias_key */
  int default_qk_norm;              /* qk_norm_key */
  int default_tied;                 /* tie_word_embeddings */
  int default_renormalised;         /* renormalise_key */
  double default_scale;             /* scale_key; 0: 1 */
  double default_rotary;            /* partial_rotary_factor; 0: 1 */
  moerun__usual_rope usual_rope[2]; /* of layers that see everything, and of
                                       those with a window, where the family
                                       has rope_parameters by kind of layer */
  int usually_renormalised; /* what released models set renormalise_key to */
  double usual_scale;       /* and scale_key */

  /* Decoder and tensor names. */
  const struct moerun__attention_kind *attention; /* attention.h */
  moerun__qk_norm qk_norm;
  moerun__gate_score gate_score;
  int has_choice_bias;
  int shared_is_weighted;
  int choice_bias_is_row; /* its shape is [1][E] */
  int rotates_pairs;      /* neighbours of a head, not elements of its halves */
  int norms_after;
  int experts_fused;      /* published checkpoints have fused experts */
  int experts_transposed; /* fused experts lie [inputs][outputs] */
  moerun__arch_spelling spelling[2]; /* the hub's first */
  const char *projection[3];         /* gate, up, down of an expert */
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

/* moe_layer, num_moe_layers and dense_width (arch_layers.c). */
moerun_status moerun__arch_read_layers(moerun__model_config *config,
                                       const json_t *root, const char *origin);

/* Which layers see a window (arch_windows.c), before their rotary positions are
 * read; then, once max_positions is known, how far that reaches. */
moerun_status moerun__arch_read_layer_types(moerun__model_config *config,
                                            const json_t *root,
                                            const char *origin);
moerun_status moerun__arch_read_windows(moerun__model_config *config,
                                        const json_t *root, const char *origin);

/* Rotary positions (arch_rope.c), once head_dim is known. */
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
