/* Experts that a gate may choose beside the E that are placed on ranks: null
 * (AdaMoE, arXiv 2406.13233), zero, copy and constant ones (MoE++, arXiv
 * 2410.07348). No family of the table has them by itself, so the keys and the
 * tensors' names are moerun's own and may stand in the files of any (what
 * LongCat-Flash calls zero experts of the type identity are copy experts here).
 * Outputs of the gate come in the order: E placed ones, then kind by kind. */
#include "runtime/model/arch_row.h"

#include "runtime/base/json.h"
#include "runtime/base/number.h"

enum { MAX_CHOICES = INT16_MAX }; /* as many as placed experts at most */

static const struct {
  const char *name;
  const char *key;
  int64_t high;
} kinds[MOERUN_HOME_KINDS] = {
    [MOERUN_HOME_NULL] = {"null", "num_null_experts", MAX_CHOICES},
    [MOERUN_HOME_ZERO] = {"zero", "num_zero_experts", MAX_CHOICES},
    [MOERUN_HOME_COPY] = {"copy", "num_copy_experts", MAX_CHOICES},
    [MOERUN_HOME_CONSTANT] = {"constant", "num_constant_experts",
                              MOERUN_MAX_CONSTANTS},
};

const char *moerun__home_name(moerun__home_kind kind) {
  return kinds[kind].name;
}

const char *moerun__home_key(moerun__home_kind kind) {
  return kinds[kind].key;
}

int32_t moerun__config_choices(const moerun__model_config *config) {
  int32_t sum = config->num_experts;
  for (int kind = 0; kind < MOERUN_HOME_KINDS; kind++) {
    sum += config->num_home[kind];
  }
  return sum;
}

int32_t moerun__config_terms(const moerun__model_config *config) {
  return config->experts_per_token < config->num_experts
             ? config->experts_per_token
             : config->num_experts;
}

moerun_status moerun__arch_read_home(moerun__model_config *config,
                                     const json_t *root, const char *origin) {
  moerun_status status = MOERUN_OK;
  const int64_t none = 0;
  for (int kind = 0; kind < MOERUN_HOME_KINDS; kind++) {
    int64_t value = 0;
    MOERUN_TRY(moerun__json_int(&value, root, kinds[kind].key, 0,
                                kinds[kind].high, &none, origin));
    config->num_home[kind] = moerun__to_int(value);
  }
  const int32_t choices = moerun__config_choices(config);
  MOERUN_REQUIRE(choices <= MAX_CHOICES, MOERUN_ERR_UNSUPPORTED,
                 "%s: placed, null, zero, copy and constant experts: expected "
                 "at most %d together, found %d",
                 origin, MAX_CHOICES, choices);
done:
  return status;
}
