/* Tells one model folder from another by all that is not weights, so that
 * results of different models are not mixed: config.json,
 * generation_config.json and tokenizer.json. Neither the folder's place nor its
 * times count, so a copy on another machine has the same one. */
#ifndef MOERUN_RUN_FINGERPRINT_H
#define MOERUN_RUN_FINGERPRINT_H

#include "runtime/base/config.h"

moerun_status moerun__fingerprint(uint64_t *out, const char *model_dir);

/* The same of a run: all that every result depends on, the requests themselves
 * and the weights excepted. */
moerun_status moerun__run_digest(uint64_t *out, const moerun__config *config,
                                 const char *kernels, int has_tokenizer);

#endif
