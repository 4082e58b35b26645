/* config.json: what is accepted keeps the bounds that the runtime relies on. */
#include "runtime/base/json.h"
#include "runtime/base/log.h"
#include "runtime/model/arch.h"
#include "support/fuzz.h"

static void check_tokens(const moerun__model_config *c) {
  fuzz_require(c->bos_token >= -1 && c->bos_token < c->vocab_size);
  fuzz_require(c->num_eos >= 0 && c->num_eos <= MOERUN_MAX_EOS);
  for (int32_t i = 0; i < c->num_eos; i++) {
    fuzz_require(c->eos_token[i] >= 0 && c->eos_token[i] < c->vocab_size);
  }
}

static void check_layers(const moerun__model_config *c) {
  int32_t moe = 0;
  for (int32_t l = 0; l < c->num_layers; l++) {
    fuzz_require(c->moe_layer[l] == -1 || c->moe_layer[l] == moe);
    moe += c->moe_layer[l] == moe;
  }
  fuzz_require(moe == c->num_moe_layers && moe > 0);
  fuzz_require(moe == c->num_layers || c->dense_width > 0);
}

static void check_gate(const moerun__model_config *c) {
  const moerun__gate_rule *rule = &c->gate_rule;
  fuzz_require(rule->scale > 0 && rule->num_groups >= 0);
  fuzz_require(c->shared_width >= 0);
  if (rule->num_groups < 2) return;
  const int32_t choices = moerun__config_choices(c);
  const int32_t size = choices / rule->num_groups;
  fuzz_require(rule->num_groups <= MOERUN_MAX_GROUPS);
  fuzz_require(size >= 2 && size * rule->num_groups == choices);
  fuzz_require(rule->best_groups >= 1);
  fuzz_require(rule->best_groups < rule->num_groups);
  fuzz_require(rule->best_groups * size >= c->experts_per_token);
}

static void check(const moerun__model_config *c) {
  fuzz_require(c->num_experts > 0 && c->experts_per_token > 0);
  for (int kind = 0; kind < MOERUN_HOME_KINDS; kind++) {
    fuzz_require(c->num_home[kind] >= 0);
  }
  fuzz_require(c->num_home[MOERUN_HOME_CONSTANT] <= MOERUN_MAX_CONSTANTS);
  fuzz_require(moerun__config_choices(c) <= INT16_MAX);
  fuzz_require(c->experts_per_token <= moerun__config_choices(c));
  fuzz_require(c->num_kv_heads > 0 && c->num_heads % c->num_kv_heads == 0);
  fuzz_require(c->head_dim > 0 && c->head_dim % 2 == 0);
  fuzz_require(c->norm_eps > 0 && c->rope[0].theta >= 1 && c->clip_qkv >= 0);
  fuzz_require(c->max_positions > 0);
  check_layers(c);
  check_tokens(c);
  check_gate(c);
  for (int r = 0; r <= MOERUN_ROLE_SHARED_WEIGHT; r++) {
    const moerun__role role = (moerun__role)r;
    if (role >= MOERUN_ROLE_SHARED_GATE && c->shared_width == 0) continue;
    const int dense =
        role >= MOERUN_ROLE_DENSE_GATE && role <= MOERUN_ROLE_DENSE_DOWN;
    char name[MOERUN_TENSOR_NAME];
    int64_t shape[MOERUN_MAX_DIMS];
    const int num_dims = moerun__config_tensor_shape(shape, c, role);
    int64_t bytes = 4;
    for (int d = 0; d < num_dims; d++) {
      fuzz_require(shape[d] > 0 || (dense && c->dense_width == 0));
      fuzz_require(shape[d] <= INT32_MAX);
      fuzz_require(!__builtin_mul_overflow(bytes, shape[d], &bytes));
    }
    for (int v = 0; moerun__arch_tensor_name(name, c->arch, role, c->num_layers,
                                             c->num_experts, v);
         v++) {
      fuzz_require(name[0] != '\0' && strlen(name) + 1 < sizeof name);
    }
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  json_t *root = NULL;
  moerun__model_config config;
  moerun__log_set_level(MOERUN_LOG_ERROR); /* ids outside the vocabulary */
  moerun_status status =
      moerun__json_parse(&root, (const char *)bytes, size, "fuzz");
  if (status == MOERUN_OK) {
    status = moerun__model_config_parse(&config, root, "fuzz");
    if (status == MOERUN_OK) check(&config);
    moerun__model_config_clear(&config);
  }
  fuzz_verdict(status);
  json_decref(root);
  return 0;
}
