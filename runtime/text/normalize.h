/* The normalizer of a tokenizer.json: steps that change a text before it is cut
 * into words. */
#ifndef MOERUN_TEXT_NORMALIZE_H
#define MOERUN_TEXT_NORMALIZE_H

#include "runtime/base/text.h"

#include <jansson.h>

typedef struct moerun__normal_step moerun__normal_step;

typedef struct moerun__normalizer {
  size_t count;
  moerun__normal_step *step;
} moerun__normalizer;

/* From the value of key "normalizer": null, one stage or a Sequence. `where`
 * names it in messages. All zero before; cleared by the caller, also after a
 * failure. ERR_UNSUPPORTED names a stage that is not known. */
moerun_status moerun__normalizer_read(moerun__normalizer *normalizer,
                                      const json_t *value, const char *where);
void moerun__normalizer_clear(moerun__normalizer *normalizer);

/* Two texts that steps write in turns. */
typedef struct moerun__normal_room {
  moerun__text text[2];
} moerun__normal_room;

/* *out[*out_bytes] is the normalized text: text[bytes] itself where nothing was
 * to be done, else in the room, until its next use. The text is valid UTF-8. */
moerun_status moerun__normalizer_run(const moerun__normalizer *normalizer,
                                     moerun__normal_room *room,
                                     const char **out, size_t *out_bytes,
                                     const char *text, size_t bytes,
                                     const char *origin);
void moerun__normal_room_clear(moerun__normal_room *room);

#endif
