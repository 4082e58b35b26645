/* Private to the tokenizer: tokens that are found in a text before its model
 * sees it, and cut it into pieces that the model never merges across. The
 * Hugging Face library looks twice: for those that are not normalized, which
 * special tokens are by default, and in what is left for the others; each time
 * the leftmost counts, and of those the longest. */
#ifndef MOERUN_TEXT_ADDED_TOKENS_H
#define MOERUN_TEXT_ADDED_TOKENS_H

#include "runtime/base/status.h"

#include <jansson.h>

typedef struct moerun__added_token {
  const char *content; /* borrowed */
  size_t bytes;
  int32_t id;
  int pass;
} moerun__added_token;

enum {
  MOERUN_ADDED_AS_IS = 0,  /* the first pass */
  MOERUN_ADDED_NORMALIZED, /* the second */
  MOERUN_ADDED_PASSES,
};

typedef struct moerun__added_set {
  size_t count;
  moerun__added_token *token; /* by pass and first byte, the longest first */
  size_t first[MOERUN_ADDED_PASSES][257]; /* by first byte, into token */
} moerun__added_set;

/* Room for `most` tokens; all zero before. */
moerun_status moerun__added_set_begin(moerun__added_set *set, size_t most,
                                      const char *origin);
/* Adds one whose flags stand in the object `value` of tokenizer.json. */
moerun_status moerun__added_set_add(moerun__added_set *set, const json_t *value,
                                    int is_special, const char *content,
                                    size_t bytes, int32_t id,
                                    const char *origin);
/* Once all are there, before the first search. */
moerun_status moerun__added_set_end(moerun__added_set *set, const char *origin);
void moerun__added_set_clear(moerun__added_set *set);

/* The first token of this pass in the text and its place; NULL and *at = bytes
 * if there is none. */
const moerun__added_token *moerun__added_set_find(const moerun__added_set *set,
                                                  int pass, size_t *at,
                                                  const char *text,
                                                  size_t bytes);

#endif
