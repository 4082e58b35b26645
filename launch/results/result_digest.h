/* What a line of results, or of unfinished requests, says of what made it: 32
 * hexadecimal digits, 16 of the request and all that its output depends on but
 * the weights, then 16 of the weights. --resume goes on with nothing else. */
#ifndef MOERUN_RESULTS_RESULT_DIGEST_H
#define MOERUN_RESULTS_RESULT_DIGEST_H

#include "launch/requests/prompts.h"
#include "runtime/base/json.h"

enum {
  MOERUN_REQUEST_DIGITS = 16,
  MOERUN_RESULT_DIGITS = 32,
};

/* The second half of all digests of a file; "" before one is known. */
typedef struct moerun__weights_digits {
  char text[MOERUN_RESULT_DIGITS - MOERUN_REQUEST_DIGITS + 1];
} moerun__weights_digits;

/* Checks the key "digest" of a line against request `index`, and its weights
 * against *weights, which it sets if they are the first. `what` is the subject
 * of messages: "this result was". */
moerun_status moerun__result_digest_check(moerun__weights_digits *weights,
                                          const json_t *object,
                                          const moerun__prompts *prompts,
                                          int64_t index, const char *what,
                                          const char *origin);
/* Checks *weights, unless it is "", against the weights of this run, and sets
 * it to those. */
moerun_status moerun__result_weights_check(moerun__weights_digits *weights,
                                           uint64_t digest, const char *what,
                                           const char *path);

#endif
