/* Which tokens --add-bos puts in front of texts and of given ids. */
#ifndef MOERUN_OPTIONS_BOS_H
#define MOERUN_OPTIONS_BOS_H

#include "launch/requests/prompts.h"
#include "runtime/base/config.h"

/* Sets text_bos and tokens_bos by options->tokenizer, which may be NULL, and
 * `model_bos`, the bos_token_id of config.json, or -1. has_text: whether texts
 * are read. ERR_INVALID if a token is asked for and there is none. */
moerun_status moerun__bos_choose(moerun__prompt_options *options,
                                 const moerun__config *config,
                                 const char *model_path, int32_t model_bos,
                                 int has_text);

#endif
