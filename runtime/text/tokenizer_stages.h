/* Private to the tokenizer: the stages of a tokenizer.json around its model. */
#ifndef MOERUN_TEXT_TOKENIZER_STAGES_H
#define MOERUN_TEXT_TOKENIZER_STAGES_H

#include "runtime/base/status.h"

#include <jansson.h>

/* Refuses what is not understood; *front is the token that the post-processor
 * puts in front of a text, -1: none. */
moerun_status moerun__tokenizer_check_stages(int32_t *front, const json_t *root,
                                             const char *origin);

/* The flag must be `wanted`; a missing one counts as `fallback`. */
moerun_status moerun__tokenizer_expect_flag(const json_t *object,
                                            const char *key, int wanted,
                                            int fallback, const char *stage,
                                            const char *origin);

#endif
