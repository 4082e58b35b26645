/* Private to the tokenizer: tokens that are found in a text before its model
 * sees it, and cut it into pieces that the model never merges across. The
 * Hugging Face library looks twice: for those that are not normalized, which
 * special tokens are by default, and, in what is left and is normalized then,
 * for the others, normalized too; each time the leftmost counts, and of those
 * the longest. */
#ifndef MOERUN_TEXT_ADDED_TOKENS_H
#define MOERUN_TEXT_ADDED_TOKENS_H

#include "runtime/text/normalize.h"

#include <stdint.h>

typedef struct moerun__added_token {
  const char *content; /* what is looked for, in the set's pool */
  size_t start;        /* of it in the pool */
  size_t bytes;
  int32_t id;
  int pass;
  int is_changed;  /* by the normalizer: what is looked for is its spelling */
  int order;       /* of two that are looked for alike, the lower one counts */
  int single_word; /* found only where no letter, mark or digit is beside it */
  int lstrip;      /* takes white space before it */
  int rstrip;      /* and behind it */
} moerun__added_token;

enum {
  MOERUN_ADDED_AS_IS = 0,  /* the first pass */
  MOERUN_ADDED_NORMALIZED, /* the second */
  MOERUN_ADDED_PASSES,
};

typedef struct moerun__added_set {
  size_t count;
  moerun__added_token *token; /* by pass and first byte, the longest first */
  moerun__text pool;
  size_t first[MOERUN_ADDED_PASSES][257]; /* by first byte, into token */
  int looks_at_characters; /* a token has a flag: texts have to be UTF-8 */
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
moerun_status moerun__added_set_end(moerun__added_set *set,
                                    const moerun__normalizer *normalizer,
                                    const char *origin);
void moerun__added_set_clear(moerun__added_set *set);

/* A search through a text; all zero before the first call but for `text` and
 * `bytes`. */
typedef struct moerun__added_search {
  const char *text;
  size_t bytes;
  size_t at;   /* where the next search begins */
  size_t from; /* the end of the token before */
  size_t start;
  size_t end;
} moerun__added_search;

/* The next token of this pass: it takes [start, end), and [from, start) is left
 * for the model. NULL if there is none: [from, bytes) is left. */
const moerun__added_token *moerun__added_set_next(const moerun__added_set *set,
                                                  int pass,
                                                  moerun__added_search *search);

#endif
