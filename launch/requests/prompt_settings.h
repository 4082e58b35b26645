/* What a request may settle for itself, as a key of its line, and an option
 * settles for those that do not: one table of both. */
#ifndef MOERUN_REQUESTS_PROMPT_SETTINGS_H
#define MOERUN_REQUESTS_PROMPT_SETTINGS_H

#include "launch/requests/prompts.h"
#include "runtime/base/json.h"

/* The key of a line, and of the option. */
const char *moerun__setting_key(moerun__prompt_setting setting);
/* The setting of that key; MOERUN_SETTINGS: there is none. */
moerun__prompt_setting moerun__setting_of(const char *key);

/* What settings are called in the lines of a file; NULL: they have none. */
typedef struct moerun__setting_names {
  const char *key[MOERUN_SETTINGS];
} moerun__setting_names;

/* Gives the request the settings that the object has, by these names (NULL: by
 * their own), but where a bit of `fixed` has those of out->request hold: what
 * differs there is noted in `overruled`. */
moerun_status moerun__settings_read(moerun__prompt *out, const json_t *object,
                                    const moerun__setting_names *names,
                                    unsigned fixed, const char *origin);
/* Takes back what `fixed` settles, where other values than `given` has were set
 * since, as settings_read does. */
void moerun__settings_overrule(moerun__prompt *out,
                               const moerun__request *given, unsigned fixed);

/* Adds all settings to a digest. */
uint64_t moerun__settings_digest(uint64_t digest,
                                 const moerun__request *request);

#endif
