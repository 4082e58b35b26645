/* What a request may settle for itself, as a key of its line, and an option
 * settles for those that do not: one table of both. */
#ifndef MOERUN_RUN_PROMPT_SETTINGS_H
#define MOERUN_RUN_PROMPT_SETTINGS_H

#include "launch/run/prompts.h"
#include "runtime/base/json.h"

/* The key of a line, and of the option. */
const char *moerun__setting_key(moerun__prompt_setting setting);
/* The setting of that key; MOERUN_SETTINGS: there is none. */
moerun__prompt_setting moerun__setting_of(const char *key);

/* Gives the request the settings that the object has, but where a bit of
 * `fixed` has those of out->request hold: what differs there is noted in
 * `overruled`. */
moerun_status moerun__settings_read(moerun__prompt *out, const json_t *object,
                                    unsigned fixed, const char *origin);

/* Adds all settings to a digest. */
uint64_t moerun__settings_digest(uint64_t digest,
                                 const moerun__request *request);

#endif
