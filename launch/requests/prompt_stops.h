/* What a line, and --stop, say of texts and tokens that end a completion. */
#ifndef MOERUN_REQUESTS_PROMPT_STOPS_H
#define MOERUN_REQUESTS_PROMPT_STOPS_H

#include "launch/requests/prompts.h"
#include "runtime/base/json.h"

/* Reads "stop", a text or a list of texts, and "stop_token_ids". */
moerun_status moerun__prompt_read_stops(moerun__prompt *out,
                                        const json_t *object,
                                        const char *origin);
/* Adds the text of --stop to a request that is to generate, and checks the
 * whole. */
moerun_status moerun__prompt_end_stops(moerun__prompt *prompt,
                                       const moerun__prompt_options *options,
                                       const char *origin);
/* Adds them to a digest; nothing if there are none. */
uint64_t moerun__stops_digest(uint64_t digest, const moerun__stops *stops);

#endif
