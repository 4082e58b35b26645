/* The pre-tokenizer of a tokenizer.json: steps that cut a text into the words
 * across which no model merges. */
#ifndef MOERUN_TEXT_SPLIT_H
#define MOERUN_TEXT_SPLIT_H

#include "runtime/base/text.h"

#include <jansson.h>

enum { MOERUN_SPLIT_STEPS = 16 };

typedef struct moerun__split_step moerun__split_step;

typedef struct moerun__splitter {
  size_t count;
  moerun__split_step *step;
  int is_bytewise;         /* words are bytes that the vocabulary spells as
                      characters: the last step is ByteLevel */
  int looks_at_characters; /* a step does: texts have to be UTF-8 */
} moerun__splitter;

/* From the value of key "pre_tokenizer": null, one stage or a Sequence. `where`
 * names it in messages. All zero before; cleared by the caller, also after a
 * failure. ERR_UNSUPPORTED names a stage that is not known. */
moerun_status moerun__splitter_read(moerun__splitter *splitter,
                                    const json_t *value, const char *where);
void moerun__splitter_clear(moerun__splitter *splitter);

/* Takes one word, never an empty one, in the order of the text. */
typedef struct moerun__word_sink {
  moerun_status (*take)(void *self, const char *word, size_t bytes,
                        const char *origin);
  void *self;
} moerun__word_sink;

/* What steps that change a text write. */
typedef struct moerun__split_room {
  moerun__text text[MOERUN_SPLIT_STEPS];
} moerun__split_room;

/* Gives the words of text[bytes] to the sink. is_start: nothing of the text
 * that is encoded stands before it. */
moerun_status moerun__splitter_run(const moerun__splitter *splitter,
                                   moerun__split_room *room,
                                   const moerun__word_sink *sink,
                                   const char *text, size_t bytes, int is_start,
                                   const char *origin);
void moerun__split_room_clear(moerun__split_room *room);

#endif
