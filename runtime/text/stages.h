/* What the stages of a tokenizer.json have in common: each is an object with a
 * "type", and one of the type "Sequence" is a list of others, which work one
 * after another. */
#ifndef MOERUN_TEXT_STAGES_H
#define MOERUN_TEXT_STAGES_H

#include "runtime/base/json.h"

/* The kinds of one stage. */
typedef struct moerun__stage_kinds {
  const char *list; /* key of what a Sequence has */
  const void *kind; /* [count], of `size` bytes each, which begin with the
                          type, a const char *                             */
  size_t count;
  size_t size;
  size_t most;         /* that are taken */
  const char *instead; /* behind the error that names an unknown type */
  /* Takes the next stage, which is of this kind. */
  moerun_status (*take)(void *self, const void *kind, const json_t *stage,
                        const char *where);
} moerun__stage_kinds;

/* Gives all stages to `take`, Sequences laid out flat; none of null. `where`
 * is the file and the stage, for messages. ERR_UNSUPPORTED if a type is not
 * known, or too many are there. */
moerun_status moerun__stages_read(void *self, const moerun__stage_kinds *kinds,
                                  const json_t *value, const char *where);

#endif
