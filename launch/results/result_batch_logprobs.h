/* Log-probabilities in an answer of a batch file. */
#ifndef MOERUN_RESULTS_RESULT_BATCH_LOGPROBS_H
#define MOERUN_RESULTS_RESULT_BATCH_LOGPROBS_H

#include "launch/results/result_line.h"

/* Appends to line->text the value of "logprobs" of one choice, null if the
 * request did not ask: of line->prompt, which is the request. */
moerun_status
moerun__batch_logprobs_print(moerun__result_line *line,
                             const moerun__completion *completion);

#endif
