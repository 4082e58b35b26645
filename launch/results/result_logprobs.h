/* Log-probabilities in a line of results. */
#ifndef MOERUN_RESULTS_RESULT_LOGPROBS_H
#define MOERUN_RESULTS_RESULT_LOGPROBS_H

#include "runtime/base/json.h"
#include "runtime/base/text.h"
#include "runtime/serve/engine.h"

/* Prints the keys that the request asked for, each with a comma behind it. */
moerun_status moerun__logprobs_print(moerun__text *out,
                                     const moerun__completion *completion,
                                     const moerun__request *request);

/* Reads them back: of a completion whose token and num_tokens are known, and of
 * its request, whose prompt is there. They are put into (*buffer)[*room], which
 * grows, and completion->logprob points there. */
moerun_status moerun__logprobs_read(moerun__completion *completion,
                                    moerun__logprob **buffer, size_t *room,
                                    const moerun__request *request,
                                    const json_t *object, const char *origin);

#endif
