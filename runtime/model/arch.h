/* Architectures as rows of a feature table (arch_rows.c): which config keys and
 * tensor names each uses and where its decoder differs. A new architecture is
 * a row, and a small function where a feature is new; the decoder has no
 * branch on a model's name. Source of the facts: the Hugging Face
 * implementations named in arch_rows.c. */
#ifndef MOERUN_MODEL_ARCH_H
#define MOERUN_MODEL_ARCH_H

#include "kernels/kernels.h"
#include "runtime/base/text.h"

#include <jansson.h>

typedef enum moerun__qk_norm {
  MOERUN_QK_NORM_NONE = 0,
  MOERUN_QK_NORM_HEAD,  /* RMSNorm of each head, before RoPE               */
  MOERUN_QK_NORM_WHOLE, /* RMSNorm of the whole q and k rows, before RoPE  */
} moerun__qk_norm;

typedef struct moerun__arch moerun__arch; /* one row of the table */

enum { MOERUN_MAX_EOS = 8, MOERUN_TENSOR_NAME = 128, MOERUN_OWN_SIZES = 8 };

/* Experts that are computed where the token is, without dispatch (home.h). */
typedef enum moerun__home_kind {
  MOERUN_HOME_NULL = 0, /* nothing, and its weight goes to the others        */
  MOERUN_HOME_ZERO,     /* nothing                                           */
  MOERUN_HOME_COPY,     /* the row itself                                    */
  MOERUN_HOME_CONSTANT, /* a mixture of the row and a trained vector         */
  MOERUN_HOME_KINDS,
} moerun__home_kind;

/* Sizes beyond these are refused. */
enum {
  MOERUN_MAX_LAYERS = 1024,
  MOERUN_MAX_WIDTH = 1 << 17, /* H, F, heads * head_dim, shared experts */
  MOERUN_MAX_HEAD_DIM = 4096,
  MOERUN_MAX_EXPERTS = INT16_MAX, /* ids are int16 in traces */
  MOERUN_MAX_VOCAB = 1 << 24,
  MOERUN_MAX_POSITIONS = 1 << 24,
};

/* Most experts of one token, those of an expansion included. A row carries
 * its slots, and who serves it lists them in an array of this length. */
enum { MOERUN_MAX_TERMS = 64 };

/* Their two mixing rows each fill one packed panel. */
enum { MOERUN_MAX_CONSTANTS = MOERUN_PANEL / 2 };

typedef struct moerun__rope_kind moerun__rope_kind; /* rope_kinds.h */

/* How far q and k of a position are rotated, and how that is scaled; what a
 * rule of scaling does not have is 0. */
typedef struct moerun__rope {
  int32_t width; /* of each head, its first elements are rotated */
  double theta;
  const moerun__rope_kind *kind; /* of scaling; NULL: none */
  double factor;
  double amplitude; /* of sines and cosines */
  double original;  /* positions of the training's context */
  double low;
  double high;
  int32_t truncate;
  double *each; /* [width / 2] or NULL; freed with the configuration */
} moerun__rope;

/* What the attention of a layer has for itself. */
typedef struct moerun__attention_layer {
  int32_t window; /* so many positions are seen, the row's own the last of
                     them; 0: all up to it                                 */
  int32_t rope;   /* which of the model's; -1: nothing is rotated          */
} moerun__attention_layer;

enum { MOERUN_MAX_ROPES = 8 };

typedef struct moerun__model_config {
  const moerun__arch *arch;
  const struct moerun__attention_kind *attention; /* attention.h */
  int32_t num_layers;
  int32_t hidden_width; /* H */
  int32_t num_heads;
  int32_t num_kv_heads;
  int32_t head_dim;
  int32_t num_experts; /* E, the placed ones */
  int32_t num_home[MOERUN_HOME_KINDS];
  int32_t experts_per_token;  /* K */
  int32_t expert_width;       /* F */
  int32_t dense_width;        /* FFN width of dense layers */
  int32_t shared_width;       /* of all shared experts together; 0: none */
  int32_t shared_is_weighted; /* 1: times sigmoid(its own product with x) */
  int32_t vocab_size;         /* V */
  int32_t max_positions;
  int32_t num_prediction_layers; /* behind num_layers in a checkpoint; they
                                    predict more tokens at once, left out   */
  double norm_eps;
  int32_t num_ropes; /* sets of rotary positions */
  moerun__rope rope[MOERUN_MAX_ROPES];
  moerun__attention_layer *attention_layer; /* [num_layers], or NULL: all see
                          everything and have rope 0; freed as moe_layer is */
  double clip_qkv; /* 0: none; else q, k, v are clamped to +- this */
  moerun__qk_norm qk_norm;
  int32_t has_qkv_bias;
  int32_t norms_after;    /* 1: a block's output is normed, not its input */
  double embedding_scale; /* 1: rows of the embedding as they are */
  double residual_scale;  /* of what a block adds; 1: as it is */
  double attention_scale; /* of scores; 0: 1 / sqrt(head_dim) */
  double logit_divisor;
  int32_t own[MOERUN_OWN_SIZES]; /* what a kind of attention reads for itself */
  moerun__gate_rule gate_rule;
  int32_t has_choice_bias; /* of the gate's choice, see kernels.h */
  int32_t tied_head;
  int32_t num_moe_layers;
  int32_t bos_token; /* -1: none */
  int32_t num_eos;
  int32_t eos_token[MOERUN_MAX_EOS]; /* config.json, generation_config.json */
  int32_t *moe_layer; /* [num_layers] index among MoE layers, -1 dense;
                                freed by moerun__model_config_clear         */
} moerun__model_config;

/* path/config.json (and generation_config.json when it is there). */
moerun_status moerun__model_config_load(moerun__model_config *out,
                                        const char *path);
moerun_status moerun__model_config_parse(moerun__model_config *out,
                                         const json_t *root,
                                         const char *origin);
/* Appends the name of the model in the folder `path`: that of the folder, whose
 * place is of no use elsewhere. */
moerun_status moerun__model_name(moerun__text *out, const char *path);
void moerun__model_config_clear(moerun__model_config *config);

/* Whether the token ends a sequence. */
int moerun__config_is_eos(const moerun__model_config *config, int32_t token);
moerun__attention_layer
moerun__config_attention_layer(const moerun__model_config *config,
                               int32_t layer);
/* What the gate chooses among: E and all of num_home. */
int32_t moerun__config_choices(const moerun__model_config *config);
/* Most placed experts of a token: min(K, E). */
int32_t moerun__config_terms(const moerun__model_config *config);
/* "null", …; and the key that has their number, "num_null_experts", … */
const char *moerun__home_name(moerun__home_kind kind);
const char *moerun__home_key(moerun__home_kind kind);

/* "Qwen3MoeForCausalLM", …: the class of transformers. */
const char *moerun__arch_class(const moerun__arch *arch);
/* "qwen3_moe", … */
const char *moerun__arch_name(const moerun__arch *arch);
/* Row i of the table, or NULL beyond the last. */
const moerun__arch *moerun__arch_at(int i);
/* The row of that name, or NULL. */
const moerun__arch *moerun__arch_find(const char *name);
/* Whether its models may have shared experts; layers without experts. */
int moerun__arch_has_shared(const moerun__arch *arch);
int moerun__arch_has_dense(const moerun__arch *arch);

/* Name number i of all rows, or of those whose models may have that; NULL
 * beyond the last. */
const char *moerun__arch_name_at(int i);
const char *moerun__arch_with_shared_at(int i);
const char *moerun__arch_with_dense_at(int i);

/* ---- Tensors of a checkpoint (arch_tensors.c) ---------------------------- */

/* What a tensor is for; shapes as the file has them (row = one output). Those
 * of attention are what moerun__attention_gqa makes of them; other kinds may
 * give them other shapes, or have roles of their own. */
typedef enum moerun__role {
  MOERUN_ROLE_EMBEDDING = 0,   /* [V][H]                                     */
  MOERUN_ROLE_FINAL_NORM,      /* [H]                                        */
  MOERUN_ROLE_HEAD,            /* [V][H]                                     */
  MOERUN_ROLE_ATTENTION_NORM,  /* [H]; from here on one per layer            */
  MOERUN_ROLE_Q,               /* [heads * head_dim][H]                      */
  MOERUN_ROLE_K,               /* [kv_heads * head_dim][H]                   */
  MOERUN_ROLE_V,               /* [kv_heads * head_dim][H]                   */
  MOERUN_ROLE_O,               /* [H][heads * head_dim]                      */
  MOERUN_ROLE_Q_NORM,          /* [head_dim] or [heads * head_dim]           */
  MOERUN_ROLE_K_NORM,          /* [head_dim] or [kv_heads * head_dim]        */
  MOERUN_ROLE_FFN_NORM,        /* [H]                                        */
  MOERUN_ROLE_DENSE_GATE,      /* [dense_width][H]                           */
  MOERUN_ROLE_DENSE_UP,        /* [dense_width][H]                           */
  MOERUN_ROLE_DENSE_DOWN,      /* [H][dense_width]                           */
  MOERUN_ROLE_GATE,            /* [choices][H]                               */
  MOERUN_ROLE_EXPERT_GATE,     /* [F][H], one per expert                     */
  MOERUN_ROLE_EXPERT_UP,       /* [F][H], one per expert                     */
  MOERUN_ROLE_EXPERT_DOWN,     /* [H][F], one per expert                     */
  MOERUN_ROLE_FUSED_GATE_UP,   /* [E][2F][H]: F gate rows, then F up rows; or
                                 transposed, [E][H][2F]                     */
  MOERUN_ROLE_FUSED_DOWN,      /* [E][H][F]; or [E][F][H]                    */
  MOERUN_ROLE_CONSTANT_MIX,    /* [2][H], one per constant expert            */
  MOERUN_ROLE_CONSTANT,        /* [H], one per constant expert               */
  MOERUN_ROLE_Q_BIAS,          /* [heads * head_dim]                         */
  MOERUN_ROLE_K_BIAS,          /* [kv_heads * head_dim]                      */
  MOERUN_ROLE_V_BIAS,          /* [kv_heads * head_dim]                      */
  MOERUN_ROLE_CHOICE_BIAS,     /* [E], home experts too                      */
  MOERUN_ROLE_SHARED_GATE,     /* [shared_width][H]                          */
  MOERUN_ROLE_SHARED_UP,       /* [shared_width][H]                          */
  MOERUN_ROLE_SHARED_DOWN,     /* [H][shared_width]                          */
  MOERUN_ROLE_SHARED_WEIGHT,   /* [1][H]                                     */
  MOERUN_ROLE_ATTENTION_AFTER, /* [H]: norm of what attention gave        */
  MOERUN_ROLE_FFN_AFTER,       /* [H]: of what the other block gave       */
  MOERUN_ROLE_SHARED_GATE_UP,  /* [2 * shared_width][H]: gate, then up    */
  MOERUN_ROLE_QKV,      /* [(heads + 2 * kv_heads) * head_dim][H]: q, k, v  */
  MOERUN_ROLE_QKV_BIAS, /* [(heads + 2 * kv_heads) * head_dim]              */
  MOERUN_ROLE_OWN = 64, /* from here on what a kind of attention names */
} moerun__role;

enum { MOERUN_MAX_DIMS = 3 }; /* of a tensor that a model uses */

/* Spelling number `variant` of the tensor's name, 0 being that of the hub's
 * checkpoints; returns 0 and an empty name when there is no such spelling. */
int moerun__arch_tensor_name(char out[MOERUN_TENSOR_NAME],
                             const moerun__arch *arch, moerun__role role,
                             int32_t layer, int32_t expert, int variant);
/* Whether the family's checkpoints may have a tensor of this role. */
int moerun__arch_spells(const moerun__arch *arch, moerun__role role);
/* Whether the layers of such a model have this norm: ATTENTION_NORM, FFN_NORM,
 * ATTENTION_AFTER or FFN_AFTER. */
int moerun__config_has_norm(const moerun__model_config *config,
                            moerun__role role);
/* Whether an expert's fused tensors lie [inputs][outputs], and whether the
 * family's published checkpoints have no others. */
int moerun__arch_is_transposed(const moerun__arch *arch);
int moerun__arch_is_fused(const moerun__arch *arch);
/* Whether neighbours of a head are rotated together: rows of q and k are then
 * read so that they are elements of its halves, which no score can tell. */
int moerun__arch_rotates_pairs(const moerun__arch *arch);
/* Fills shape[MOERUN_MAX_DIMS] and returns the number of dimensions, 0 for a
 * role that the kind of attention does not have. */
int moerun__config_tensor_shape(int64_t *shape,
                                const moerun__model_config *config,
                                moerun__role role);

#endif
