/* What config.json says of the MoE block beyond its plain experts: how the gate
 * chooses and weighs, and the shared experts. */
#include "runtime/model/arch_row.h"

#include "runtime/base/json.h"
#include "runtime/base/number.h"

/* n_group, topk_group: the choice is limited to the experts of some groups. */
static moerun_status read_groups(moerun__model_config *config,
                                 const json_t *root, const char *origin) {
  moerun_status status = MOERUN_OK;
  const int32_t E = config->num_experts;
  const int64_t one = 1;
  int64_t groups = 1;
  int64_t best = 1;
  MOERUN_TRY(
      moerun__json_int(&groups, root, "n_group", 1, INT32_MAX, &one, origin));
  MOERUN_TRY(
      moerun__json_int(&best, root, "topk_group", 1, groups, &one, origin));
  if (best == groups) goto done; /* all experts */
  MOERUN_REQUIRE(moerun__config_choices(config) == E, MOERUN_ERR_UNSUPPORTED,
                 "%s: key \"n_group\": expected 1 beside null, zero, copy and "
                 "constant experts, found %lld",
                 origin, (long long)groups);
  MOERUN_REQUIRE(groups <= MOERUN_MAX_GROUPS, MOERUN_ERR_UNSUPPORTED,
                 "%s: key \"n_group\": expected at most %d groups, found %lld",
                 origin, MOERUN_MAX_GROUPS, (long long)groups);
  MOERUN_REQUIRE(E % groups == 0 && E / groups >= 2, MOERUN_ERR_FORMAT,
                 "%s: key \"n_group\": expected equal groups of at least 2 of "
                 "the %d experts, found %lld groups",
                 origin, E, (long long)groups);
  MOERUN_REQUIRE(best * (E / groups) >= config->experts_per_token,
                 MOERUN_ERR_FORMAT,
                 "%s: key \"topk_group\": expected groups with the %d experts "
                 "of a token or more, found %lld of %d experts each",
                 origin, config->experts_per_token, (long long)best,
                 moerun__to_int(E / groups));
  config->gate_rule.num_groups = moerun__to_int(groups);
  config->gate_rule.best_groups = moerun__to_int(best);
done:
  return status;
}

static moerun_status read_gate_rule(moerun__model_config *config,
                                    const json_t *root, const char *origin) {
  moerun_status status = MOERUN_OK;
  const moerun__arch *arch = config->arch;
  moerun__gate_rule *rule = &config->gate_rule;
  const double usual = arch->default_scale > 0.0 ? arch->default_scale : 1.0;
  double scale = 1.0;
  *rule = (moerun__gate_rule){.score = arch->gate_score, .renormalise = 1};
  if (arch->renormalise_key != NULL) {
    MOERUN_TRY(moerun__json_bool(&rule->renormalise, root,
                                 arch->renormalise_key,
                                 &arch->default_renormalised, origin));
  }
  if (arch->scale_key != NULL) {
    MOERUN_TRY(moerun__json_double(&scale, root, arch->scale_key, 1e-6, 1e6,
                                   &usual, origin));
  }
  rule->scale = (float)scale;
  if (arch->least_sum_key != NULL) {
    /* No sum of weights that is one in fp32 is as small. */
    const double none = 0.0;
    double least = 0.0;
    MOERUN_TRY(moerun__json_double(&least, root, arch->least_sum_key, 0.0,
                                   1e-12, &none, origin));
  }
  config->has_choice_bias = arch->has_choice_bias;
  if (arch->has_groups) MOERUN_TRY(read_groups(config, root, origin));
done:
  return status;
}

/* None, one of a width of its own, or some of the experts' width, which are one
 * of the sum of their widths. */
static moerun_status read_shared(moerun__model_config *config,
                                 const json_t *root, const char *origin) {
  moerun_status status = MOERUN_OK;
  const moerun__arch *arch = config->arch;
  int64_t width = 0;
  if (arch->shared_width_key != NULL) {
    MOERUN_TRY(moerun__json_int(&width, root, arch->shared_width_key,
                                arch->may_lack_shared ? 0 : 1, MOERUN_MAX_WIDTH,
                                NULL, origin));
  } else if (arch->shared_count_key != NULL) {
    MOERUN_TRY(moerun__json_int(&width, root, arch->shared_count_key, 0,
                                MOERUN_MAX_WIDTH / config->expert_width, NULL,
                                origin));
    width *= config->expert_width;
  }
  config->shared_width = moerun__to_int(width);
  config->shared_is_weighted = arch->shared_is_weighted;
done:
  return status;
}

moerun_status moerun__arch_read_moe(moerun__model_config *config,
                                    const json_t *root, const char *origin) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(read_gate_rule(config, root, origin));
  MOERUN_TRY(read_shared(config, root, origin));
done:
  return status;
}
