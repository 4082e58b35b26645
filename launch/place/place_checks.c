/* What `moerun place` was asked for and cannot do, said before it takes the
 * time of a solve. */
#include "launch/place/place_checks.h"

#include "launch/run/trace_file.h"
#include "placement/map/export.h"

#include <string.h>

static const char *text_of(const moerun__config *config, const char *key) {
  return moerun__config_text(config, key);
}

static int given(const moerun__config *config, const char *key) {
  return text_of(config, key)[0] != '\0';
}

moerun_status moerun__place_check_slots(const moerun__config *config) {
  moerun_status status = MOERUN_OK;
  const int64_t slots = moerun__config_int(config, "slots");
  const int64_t spare = moerun__config_int(config, "spare_slots");
  MOERUN_REQUIRE(
      slots == 0 || spare == 0, MOERUN_ERR_INVALID,
      "expected one of --slots, which counts the slots of all ranks, "
      "and --spare-slots, which counts those of one rank beyond an "
      "even share, found both: %lld and %lld",
      (long long)slots, (long long)spare);
done:
  return status;
}

moerun_status moerun__place_check_bound(const moerun__config *config) {
  moerun_status status = MOERUN_OK;
  static const char *const keys[] = {"spare_slots", "slots"};
  static const char *const flags[] = {"--spare-slots", "--slots"};
  for (int i = 0; i < 2 && strcmp(text_of(config, "bound"), "sdp") == 0; i++) {
    const int64_t found = moerun__config_int(config, keys[i]);
    MOERUN_REQUIRE(found == 0, MOERUN_ERR_INVALID,
                   "--bound: bounds are of placements without replicas, found "
                   "%s %lld",
                   flags[i], (long long)found);
  }
done:
  return status;
}

moerun_status moerun__place_check_export(const moerun__config *config,
                                         int32_t num_ranks,
                                         int32_t num_experts) {
  moerun_status status = MOERUN_OK;
  const int has_spare = moerun__config_int(config, "slots") > 0 ||
                        moerun__config_int(config, "spare_slots") > 0;
  MOERUN_REQUIRE(
      given(config, "placement") || has_spare || num_experts % num_ranks == 0 ||
          !moerun__export_is_even(text_of(config, "export")),
      MOERUN_ERR_INVALID,
      "--export: expected as many experts on every rank, found %d experts for "
      "%d ranks; --method eplb --slots N makes it so",
      num_experts, num_ranks);
done:
  return status;
}

moerun_status moerun__place_check_outputs(const moerun__config *config) {
  moerun_status status = MOERUN_OK;
  if (given(config, "convert")) {
    MOERUN_TRY(
        moerun__trace_file_check(text_of(config, "convert"), "--convert"));
  }
  if (given(config, "export")) {
    MOERUN_TRY(moerun__export_check(text_of(config, "export")));
    MOERUN_REQUIRE(!moerun__export_needs_rows(text_of(config, "export")) ||
                       given(config, "model") || given(config, "loads"),
                   MOERUN_ERR_INVALID,
                   "--export: expected --model with sglang:, because the file "
                   "has a row for each decoder layer of a model, found none");
  }
done:
  return status;
}
