/* What is in a file is read before the weights are, so that most mistakes cost
 * no loading; so a file's weights are first compared with each other, and with
 * those of the run when those are known. */
#include "launch/results/result_digest.h"

#include <stdio.h>
#include <string.h>

moerun_status moerun__result_digest_check(moerun__weights_digits *weights,
                                          const json_t *object,
                                          const moerun__prompts *prompts,
                                          int64_t index, const char *what,
                                          const char *origin) {
  moerun_status status = MOERUN_OK;
  const char *found = NULL;
  char expected[MOERUN_REQUEST_DIGITS + 1];
  (void)snprintf(expected, sizeof expected, "%016llx",
                 (unsigned long long)moerun__prompts_digest(prompts, index));
  MOERUN_TRY(moerun__json_text(&found, object, "digest", 1, origin));
  MOERUN_REQUIRE(strlen(found) == MOERUN_RESULT_DIGITS, MOERUN_ERR_FORMAT,
                 "%s: cannot resume: digest: expected %d digits, found %zu: "
                 "results of earlier versions do not tell the weights that "
                 "made them; --overwrite starts afresh",
                 origin, (int)MOERUN_RESULT_DIGITS, strlen(found));
  MOERUN_REQUIRE(
      memcmp(found, expected, MOERUN_REQUEST_DIGITS) == 0, MOERUN_ERR_FORMAT,
      "%s: cannot resume: %s made by another request "
      "than number %lld of this run (model, prompt, --add-bos, "
      "--max-new-tokens, sampling, --wire, --compute, --kernels, "
      "--gate-top-k or --capacity differ); --overwrite starts afresh",
      origin, what, (long long)index);
  const char *of_weights = found + MOERUN_REQUEST_DIGITS;
  if (weights->text[0] == '\0') {
    (void)snprintf(weights->text, sizeof weights->text, "%s", of_weights);
  }
  MOERUN_REQUIRE(strcmp(of_weights, weights->text) == 0, MOERUN_ERR_FORMAT,
                 "%s: cannot resume: %s made with other weights "
                 "than those before it; --overwrite starts afresh",
                 origin, what);
done:
  return status;
}

moerun_status moerun__result_weights_check(moerun__weights_digits *weights,
                                           uint64_t digest, const char *what,
                                           const char *path) {
  moerun_status status = MOERUN_OK;
  moerun__weights_digits mine;
  (void)snprintf(mine.text, sizeof mine.text, "%016llx",
                 (unsigned long long)digest);
  MOERUN_REQUIRE(weights->text[0] == '\0' ||
                     strcmp(mine.text, weights->text) == 0,
                 MOERUN_ERR_FORMAT,
                 "%s: cannot resume: %s made with other "
                 "weights than the model has now; --overwrite starts afresh",
                 path, what);
  *weights = mine;
done:
  return status;
}
