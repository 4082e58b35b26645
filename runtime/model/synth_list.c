/* Which tensors a checkpoint has, in the order in which synth writes them: as
 * the hub's checkpoints of the family spell and join them. */
#include "runtime/model/synth_list.h"

#include "runtime/model/attention.h"

#include <limits.h>

static const int64_t most_bytes = (int64_t)1 << 50;

/* Counts the tensor, or also notes it where the list exists by now. */
static moerun_status add_entry(moerun__synth_list *list, moerun__role role,
                               int32_t layer, int32_t expert) {
  moerun_status status = MOERUN_OK;
  int64_t shape[MOERUN_MAX_DIMS];
  const int num_dims = moerun__config_tensor_shape(shape, list->config, role);
  int64_t bytes = list->element_bytes;
  for (int d = 0; d < num_dims; d++) {
    bytes *= shape[d];
  }
  list->total_bytes += bytes;
  MOERUN_REQUIRE(list->total_bytes <= most_bytes, MOERUN_ERR_INVALID,
                 "synth: expected at most %lld bytes of weights, found more",
                 (long long)most_bytes);
  if (list->entries != NULL) {
    list->entries[list->num_entries] =
        (moerun__synth_entry){role, layer, expert, 0, bytes};
  }
  list->num_entries++;
done:
  return status;
}

/* The part of attention that the tensor belongs to has a name of its own. */
static moerun__role joined_of(const moerun__attention_kind *kind,
                              const moerun__arch *arch,
                              const moerun__attention_tensor *tensor) {
  const moerun__attention_part *part = kind->parts;
  while (tensor - kind->tensors >= part->first + part->count) {
    part++;
  }
  const int is_joined = part->joined != MOERUN_ROLE_EMBEDDING &&
                        moerun__arch_spells(arch, part->joined);
  return is_joined ? part->joined : tensor->role;
}

/* The tensors of attention whose roles are below `end` and not below
 * `first`; what is joined comes once. */
static moerun_status list_attention(moerun__synth_list *list, int32_t l,
                                    moerun__role first, int end) {
  moerun_status status = MOERUN_OK;
  const moerun__model_config *config = list->config;
  const moerun__attention_tensor *tensor = NULL;
  moerun__role last = MOERUN_ROLE_EMBEDDING;
  for (int32_t i = 0; (tensor = moerun__attention_at(config, i)) != NULL; i++) {
    if (tensor->role < first || (int)tensor->role >= end) continue;
    const moerun__role role =
        joined_of(config->attention, config->arch, tensor);
    if (role != last) MOERUN_TRY(add_entry(list, role, l, 0));
    last = role;
  }
done:
  return status;
}

/* Norms around the block whose roles these are. */
static moerun_status list_norms(moerun__synth_list *list, int32_t l,
                                moerun__role before, moerun__role after) {
  moerun_status status = MOERUN_OK;
  const moerun__role norms[] = {before, after};
  for (int i = 0; i < 2; i++) {
    if (!moerun__config_has_norm(list->config, norms[i])) continue;
    MOERUN_TRY(add_entry(list, norms[i], l, 0));
  }
done:
  return status;
}

/* What some architectures have beside the rest of a layer. */
static moerun_status list_extras(moerun__synth_list *list, int32_t l) {
  moerun_status status = MOERUN_OK;
  const moerun__model_config *config = list->config;
  const int moe = config->moe_layer[l] >= 0;
  const int shared = moe && config->shared_width > 0;
  const int fused =
      moerun__arch_spells(config->arch, MOERUN_ROLE_SHARED_GATE_UP);
  const struct {
    moerun__role first;
    moerun__role last;
    int wanted;
  } extras[] = {
      {MOERUN_ROLE_CHOICE_BIAS, MOERUN_ROLE_CHOICE_BIAS,
       moe && config->has_choice_bias},
      {MOERUN_ROLE_SHARED_GATE, MOERUN_ROLE_SHARED_UP, shared && !fused},
      {MOERUN_ROLE_SHARED_GATE_UP, MOERUN_ROLE_SHARED_GATE_UP, shared && fused},
      {MOERUN_ROLE_SHARED_DOWN, MOERUN_ROLE_SHARED_DOWN, shared},
      {MOERUN_ROLE_SHARED_WEIGHT, MOERUN_ROLE_SHARED_WEIGHT,
       shared && config->shared_is_weighted},
  };
  for (size_t i = 0; i < sizeof extras / sizeof *extras; i++) {
    for (int r = extras[i].first; extras[i].wanted && r <= (int)extras[i].last;
         r++) {
      MOERUN_TRY(add_entry(list, (moerun__role)r, l, 0));
    }
  }
done:
  return status;
}

static moerun_status list_layer(moerun__synth_list *list, int32_t l) {
  moerun_status status = MOERUN_OK;
  const moerun__model_config *config = list->config;
  static const moerun__role fused[] = {MOERUN_ROLE_FUSED_GATE_UP,
                                       MOERUN_ROLE_FUSED_DOWN};
  const int moe = config->moe_layer[l] >= 0;
  MOERUN_TRY(list_norms(list, l, MOERUN_ROLE_ATTENTION_NORM,
                        MOERUN_ROLE_ATTENTION_AFTER));
  MOERUN_TRY(list_attention(list, l, MOERUN_ROLE_ATTENTION_NORM,
                            MOERUN_ROLE_FFN_NORM));
  MOERUN_TRY(list_norms(list, l, MOERUN_ROLE_FFN_NORM, MOERUN_ROLE_FFN_AFTER));
  for (int r = MOERUN_ROLE_DENSE_GATE; r <= MOERUN_ROLE_GATE; r++) {
    if ((r == MOERUN_ROLE_GATE) != moe) continue;
    MOERUN_TRY(add_entry(list, (moerun__role)r, l, 0));
  }
  MOERUN_TRY(list_attention(list, l, MOERUN_ROLE_FFN_NORM, INT_MAX));
  MOERUN_TRY(list_extras(list, l));
  if (!moe) goto done;
  for (int32_t e = 0; e < config->num_home[MOERUN_HOME_CONSTANT]; e++) {
    MOERUN_TRY(add_entry(list, MOERUN_ROLE_CONSTANT_MIX, l, e));
    MOERUN_TRY(add_entry(list, MOERUN_ROLE_CONSTANT, l, e));
  }
  const int is_fused = list->fused || moerun__arch_is_fused(config->arch);
  for (int i = 0; is_fused && i < 2; i++) {
    MOERUN_TRY(add_entry(list, fused[i], l, 0));
  }
  if (is_fused) goto done;
  for (int32_t e = 0; e < config->num_experts; e++) {
    for (int r = MOERUN_ROLE_EXPERT_GATE; r <= MOERUN_ROLE_EXPERT_DOWN; r++) {
      MOERUN_TRY(add_entry(list, (moerun__role)r, l, e));
    }
  }
done:
  return status;
}

moerun_status moerun__synth_list_make(moerun__synth_list *list) {
  moerun_status status = MOERUN_OK;
  list->num_entries = 0;
  list->total_bytes = 0;
  MOERUN_TRY(add_entry(list, MOERUN_ROLE_EMBEDDING, 0, 0));
  for (int32_t l = 0; l < list->config->num_layers; l++) {
    MOERUN_TRY(list_layer(list, l));
  }
  MOERUN_TRY(add_entry(list, MOERUN_ROLE_FINAL_NORM, 0, 0));
  if (!list->config->tied_head) {
    MOERUN_TRY(add_entry(list, MOERUN_ROLE_HEAD, 0, 0));
  }
done:
  return status;
}
