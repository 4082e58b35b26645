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
};

static const char *or_usual(const char *name, const char *usual) {
  return name != NULL ? name : usual;
}

int moerun__arch_tensor_name(char out[MOERUN_TENSOR_NAME],
                             const moerun__arch *arch, moerun__role role,
                             int32_t layer, int32_t expert, int variant) {
  enum { BYTES = MOERUN_TENSOR_NAME };
  const moerun__attention_tensor *tensor =
      moerun__attention_find(arch->attention, role);
  out[0] = '\0';
  if (tensor != NULL) {
    if (variant > 0) return 0;
    (void)snprintf(out, BYTES, "model.layers.%d.%s", layer, tensor->suffix);
    return 1;
  }
  const int num_variants =
      role >= MOERUN_ROLE_GATE && arch->spelling[1].block != NULL ? 2 : 1;
  if (variant >= num_variants) return 0;
  const moerun__arch_spelling *spelling = &arch->spelling[variant];
  const char *prefix = spelling->block;
  switch (role) {
  case MOERUN_ROLE_CHOICE_BIAS:
    (void)snprintf(
        out, BYTES, "model.layers.%d.%s.%s", layer, prefix,
        or_usual(spelling->choice_bias, "gate.e_score_correction_bias"));
    break;
  case MOERUN_ROLE_SHARED_GATE:
  case MOERUN_ROLE_SHARED_UP:
  case MOERUN_ROLE_SHARED_DOWN:
    (void)snprintf(out, BYTES, "model.layers.%d.%s.%s.%s.weight", layer, prefix,
                   spelling->shared,
                   arch->projection[role - MOERUN_ROLE_SHARED_GATE]);
    break;
  case MOERUN_ROLE_SHARED_WEIGHT:
    (void)snprintf(out, BYTES, "model.layers.%d.%s.%s_gate.weight", layer,
                   prefix, spelling->shared);
    break;
  case MOERUN_ROLE_EMBEDDING:
    (void)snprintf(out, BYTES, "model.embed_tokens.weight");
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
    (void)snprintf(out, BYTES, "model.layers.%d.%s.experts.gate_up_proj", layer,
                   prefix);
    break;
  case MOERUN_ROLE_FUSED_DOWN:
    (void)snprintf(out, BYTES, "model.layers.%d.%s.experts.down_proj", layer,
                   prefix);
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
    if (role > MOERUN_ROLE_DENSE_DOWN || common_suffix[role] == NULL) return 0;
    (void)snprintf(out, BYTES, "model.layers.%d.%s.weight", layer,
                   common_suffix[role]);
    break;
  }
  return 1;
}

int moerun__config_tensor_shape(int64_t *shape,
                                const moerun__model_config *config,
                                moerun__role role) {
  const int64_t H = config->hidden_width;
  const int64_t E = config->num_experts;
  const int64_t F = config->expert_width;
  const int64_t V = config->vocab_size;
  const int64_t dense = config->dense_width;
  const int64_t shared = config->shared_width;
  if (moerun__attention_find(config->attention, role) != NULL) {
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
      [MOERUN_ROLE_GATE] = {2, {moerun__config_choices(config), H}},
      [MOERUN_ROLE_EXPERT_GATE] = {2, {F, H}},
      [MOERUN_ROLE_EXPERT_UP] = {2, {F, H}},
      [MOERUN_ROLE_EXPERT_DOWN] = {2, {H, F}},
      [MOERUN_ROLE_FUSED_GATE_UP] =
          {3, {E, moerun__gate_up_outputs(config, config->expert_width), H}},
      [MOERUN_ROLE_FUSED_DOWN] = {3, {E, H, F}},
      [MOERUN_ROLE_CONSTANT_MIX] = {2, {2, H}},
      [MOERUN_ROLE_CONSTANT] = {1, {H}},
      [MOERUN_ROLE_CHOICE_BIAS] = {1, {moerun__config_choices(config)}},
      [MOERUN_ROLE_SHARED_GATE] = {2, {shared, H}},
      [MOERUN_ROLE_SHARED_UP] = {2, {shared, H}},
      [MOERUN_ROLE_SHARED_DOWN] = {2, {H, shared}},
      [MOERUN_ROLE_SHARED_WEIGHT] = {2, {1, H}},
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
