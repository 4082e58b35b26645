/* Names and shapes of a checkpoint's tensors. Those of attention are what its
 * kind says. The families agree on all other names outside the MoE block; there
 * the block's prefix and the names of projections and shared experts come from
 * the row. Two layouts of experts exist: the hub's, one tensor per expert and
 * projection, and the fused one that transformers 5 keeps in memory and may
 * save (Hugging Face conversion_mapping.py): gate_up_proj [E][2F][H] and
 * down_proj [E][H][F], for Mixtral under "mlp" instead of "block_sparse_moe". A
 * prefix may occur with either layout. */
#include "runtime/model/arch_row.h"
#include "runtime/model/attention.h"
#include "runtime/model/expert.h"

#include <stdio.h>

/* Suffixes after "model.layers.N." that all rows share. */
static const char *const common_suffix[] = {
    [MOERUN_ROLE_ATTENTION_NORM] = "input_layernorm",
    [MOERUN_ROLE_FFN_NORM] = "post_attention_layernorm",
    [MOERUN_ROLE_DENSE_GATE] = "mlp.gate_proj",
    [MOERUN_ROLE_DENSE_UP] = "mlp.up_proj",
    [MOERUN_ROLE_DENSE_DOWN] = "mlp.down_proj",
    [MOERUN_ROLE_ATTENTION_AFTER] = "post_attention_layernorm",
    [MOERUN_ROLE_FFN_AFTER] = "post_feedforward_layernorm",
};

static const char *or_usual(const char *name, const char *usual) {
  return name != NULL ? name : usual;
}

/* What this spelling of the family calls a tensor of attention, or NULL. */
static const char *spelt(const moerun__arch_spelling *spelling,
                         moerun__role role) {
  const moerun__attention_tensor *tensor = spelling->attention;
  while (tensor != NULL && tensor->suffix != NULL && tensor->role != role) {
    tensor++;
  }
  return tensor != NULL ? tensor->suffix : NULL;
}

/* Suffix of a tensor of attention; NULL beyond the last spelling, and for other
 * tensors. The family's own spelling comes before that of the kind. */
static const char *attention_suffix(const moerun__arch *arch, moerun__role role,
                                    int variant) {
  const moerun__attention_tensor *usual =
      moerun__attention_find(arch->attention, role);
  const char *own = spelt(&arch->spelling[0], role);
  if (own != NULL && variant == 0) return own;
  if (variant > (own != NULL)) return NULL;
  return usual != NULL ? usual->suffix : NULL;
}

static int is_of_attention(const moerun__arch *arch, moerun__role role) {
  return role == MOERUN_ROLE_QKV || role == MOERUN_ROLE_QKV_BIAS ||
         moerun__attention_find(arch->attention, role) != NULL;
}

/* Whether the family's second spelling may be another one for this role. */
static int has_variants(const moerun__arch *arch, moerun__role role) {
  return arch->spelling[1].block != NULL &&
         (role >= MOERUN_ROLE_GATE || (role == MOERUN_ROLE_EMBEDDING &&
                                       arch->spelling[0].embedding != NULL));
}

/* A projection of the shared experts; 0: there is none of this role. */
static int shared_name(char out[MOERUN_TENSOR_NAME], const moerun__arch *arch,
                       moerun__role role, int32_t layer,
                       const moerun__arch_spelling *spelling) {
  const char *name = NULL;
  switch (role) {
  case MOERUN_ROLE_SHARED_GATE_UP: name = spelling->shared_fused[0]; break;
  case MOERUN_ROLE_SHARED_DOWN:
    name = or_usual(spelling->shared_fused[1], arch->projection[2]);
    break;
  default: name = arch->projection[role - MOERUN_ROLE_SHARED_GATE]; break;
  }
  if (name == NULL) return 0;
  (void)snprintf(out, MOERUN_TENSOR_NAME, "model.layers.%d.%s.%s.weight", layer,
                 spelling->shared, name);
  return 1;
}

int moerun__arch_tensor_name(char out[MOERUN_TENSOR_NAME],
                             const moerun__arch *arch, moerun__role role,
                             int32_t layer, int32_t expert, int variant) {
  enum { BYTES = MOERUN_TENSOR_NAME };
  out[0] = '\0';
  if (is_of_attention(arch, role)) {
    const char *suffix = attention_suffix(arch, role, variant);
    if (suffix == NULL) return 0;
    (void)snprintf(out, BYTES, "model.layers.%d.%s", layer, suffix);
    return 1;
  }
  if (variant > has_variants(arch, role)) return 0;
  const moerun__arch_spelling *spelling = &arch->spelling[variant];
  const char *prefix = spelling->block;
  switch (role) {
  case MOERUN_ROLE_CHOICE_BIAS:
    (void)snprintf(
        out, BYTES, "model.layers.%d.%s.%s", layer, prefix,
        or_usual(spelling->choice_bias, "gate.e_score_correction_bias"));
    break;
  case MOERUN_ROLE_SHARED_GATE_UP:
  case MOERUN_ROLE_SHARED_GATE:
  case MOERUN_ROLE_SHARED_UP:
  case MOERUN_ROLE_SHARED_DOWN:
    return shared_name(out, arch, role, layer, spelling);
  case MOERUN_ROLE_SHARED_WEIGHT:
    (void)snprintf(out, BYTES, "model.layers.%d.%s_gate.weight", layer,
                   spelling->shared);
    break;
  case MOERUN_ROLE_EMBEDDING:
    (void)snprintf(out, BYTES, "%s.weight",
                   or_usual(spelling->embedding, "model.embed_tokens"));
    break;
  case MOERUN_ROLE_FINAL_NORM:
    (void)snprintf(out, BYTES, "model.norm.weight");
    break;
  case MOERUN_ROLE_HEAD: (void)snprintf(out, BYTES, "lm_head.weight"); break;
  case MOERUN_ROLE_GATE:
    (void)snprintf(out, BYTES, "model.layers.%d.%s.%s.weight", layer, prefix,
                   or_usual(spelling->gate, "gate"));
    break;
  case MOERUN_ROLE_EXPERT_GATE:
  case MOERUN_ROLE_EXPERT_UP:
  case MOERUN_ROLE_EXPERT_DOWN:
    (void)snprintf(out, BYTES, "model.layers.%d.%s.experts.%d.%s.weight", layer,
                   prefix, expert,
                   arch->projection[role - MOERUN_ROLE_EXPERT_GATE]);
    break;
  case MOERUN_ROLE_FUSED_GATE_UP:
    (void)snprintf(out, BYTES, "model.layers.%d.%s.%s", layer, prefix,
                   or_usual(spelling->fused[0], "experts.gate_up_proj"));
    break;
  case MOERUN_ROLE_FUSED_DOWN:
    (void)snprintf(out, BYTES, "model.layers.%d.%s.%s", layer, prefix,
                   or_usual(spelling->fused[1], "experts.down_proj"));
    break;
  case MOERUN_ROLE_CONSTANT_MIX:
    (void)snprintf(out, BYTES,
                   "model.layers.%d.%s.constant_experts.%d.gate.weight", layer,
                   prefix, expert);
    break;
  case MOERUN_ROLE_CONSTANT:
    (void)snprintf(out, BYTES, "model.layers.%d.%s.constant_experts.%d.vector",
                   layer, prefix, expert);
    break;
  default:
    if ((size_t)role >= sizeof common_suffix / sizeof *common_suffix ||
        common_suffix[role] == NULL) {
      return 0;
    }
    (void)snprintf(out, BYTES, "model.layers.%d.%s.weight", layer,
                   common_suffix[role]);
    break;
  }
  return 1;
}

int moerun__arch_spells(const moerun__arch *arch, moerun__role role) {
  char name[MOERUN_TENSOR_NAME];
  return moerun__arch_tensor_name(name, arch, role, 0, 0, 0);
}

int moerun__config_has_norm(const moerun__model_config *config,
                            moerun__role role) {
  const int after =
      role == MOERUN_ROLE_ATTENTION_AFTER || role == MOERUN_ROLE_FFN_AFTER;
  return after == (config->norms_after != 0);
}

int moerun__arch_is_transposed(const moerun__arch *arch) {
  return arch->experts_transposed;
}

int moerun__arch_rotates_pairs(const moerun__arch *arch) {
  return arch->rotates_pairs;
}

int moerun__arch_is_fused(const moerun__arch *arch) {
  return arch->experts_fused;
}

int moerun__config_tensor_shape(int64_t *shape,
                                const moerun__model_config *config,
                                moerun__role role) {
  const int64_t H = config->hidden_width;
  const int64_t E = config->num_experts;
  const int64_t F = config->expert_width;
  const int64_t V = config->vocab_size;
  const int64_t dense = config->dense_width;
  const int64_t choices = moerun__config_choices(config);
  const int is_row = config->arch != NULL && config->arch->choice_bias_is_row;
  const int64_t shared = config->shared_width;
  const int64_t gate_up = moerun__gate_up_outputs(config, config->expert_width);
  const int transposed =
      config->arch != NULL && config->arch->experts_transposed;
  if (role == MOERUN_ROLE_QKV || role == MOERUN_ROLE_QKV_BIAS ||
      moerun__attention_find(config->attention, role) != NULL) {
    return config->attention->shape(shape, config, role);
  }
  const struct {
    int num_dims;
    int64_t shape[MOERUN_MAX_DIMS];
  } table[] = {
      [MOERUN_ROLE_EMBEDDING] = {2, {V, H}},
      [MOERUN_ROLE_FINAL_NORM] = {1, {H}},
      [MOERUN_ROLE_HEAD] = {2, {V, H}},
      [MOERUN_ROLE_ATTENTION_NORM] = {1, {H}},
      [MOERUN_ROLE_FFN_NORM] = {1, {H}},
      [MOERUN_ROLE_DENSE_GATE] = {2, {dense, H}},
      [MOERUN_ROLE_DENSE_UP] = {2, {dense, H}},
      [MOERUN_ROLE_DENSE_DOWN] = {2, {H, dense}},
      [MOERUN_ROLE_GATE] = {2, {choices, H}},
      [MOERUN_ROLE_EXPERT_GATE] = {2, {F, H}},
      [MOERUN_ROLE_EXPERT_UP] = {2, {F, H}},
      [MOERUN_ROLE_EXPERT_DOWN] = {2, {H, F}},
      [MOERUN_ROLE_FUSED_GATE_UP] = {3,
                                     {E, transposed ? H : gate_up,
                                      transposed ? gate_up : H}},
      [MOERUN_ROLE_FUSED_DOWN] = {3,
                                  {E, transposed ? F : H, transposed ? H : F}},
      [MOERUN_ROLE_CONSTANT_MIX] = {2, {2, H}},
      [MOERUN_ROLE_CONSTANT] = {1, {H}},
      [MOERUN_ROLE_CHOICE_BIAS] = {is_row ? 2 : 1,
                                   {is_row ? 1 : choices,
                                    is_row ? choices : 0}},
      [MOERUN_ROLE_SHARED_GATE] = {2, {shared, H}},
      [MOERUN_ROLE_SHARED_UP] = {2, {shared, H}},
      [MOERUN_ROLE_SHARED_DOWN] = {2, {H, shared}},
      [MOERUN_ROLE_SHARED_WEIGHT] = {2, {1, H}},
      [MOERUN_ROLE_SHARED_GATE_UP] =
          {2, {moerun__gate_up_outputs(config, config->shared_width), H}},
      [MOERUN_ROLE_ATTENTION_AFTER] = {1, {H}},
      [MOERUN_ROLE_FFN_AFTER] = {1, {H}},
  };
  const size_t row =
      (size_t)role < sizeof table / sizeof *table
          ? (size_t)role
          : MOERUN_ROLE_Q; /* of attention, and not this kind's */
  for (int d = 0; d < MOERUN_MAX_DIMS; d++) {
    shape[d] = table[row].shape[d];
  }
  return table[row].num_dims;
}
