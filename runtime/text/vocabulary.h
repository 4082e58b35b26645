/* The tokens of a tokenizer.json, spelt as the file spells them, by id and by
 * spelling. */
#ifndef MOERUN_TEXT_VOCABULARY_H
#define MOERUN_TEXT_VOCABULARY_H

#include "runtime/text/token_file.h"

typedef struct moerun__vocabulary {
  int32_t size;     /* ids 0..size-1 */
  char *pool;       /* all spellings */
  size_t pool_used; /* bytes of it */
  size_t *start;    /* [size] into pool */
  int32_t *length;  /* [size]; -1: no token has this id */
  size_t mask;      /* places - 1, a power of two minus one */
  int32_t *place;   /* an id of the model by its spelling; -1: empty */
} moerun__vocabulary;

/* Takes the model's tokens from the file, and makes room for its added tokens,
 * the array `added` (NULL: none), which moerun__vocabulary_add enters. All zero
 * before; cleared by the caller, also after a failure. */
moerun_status moerun__vocabulary_read(moerun__vocabulary *vocabulary,
                                      const moerun__token_file *file,
                                      const json_t *added, const char *origin);
/* Gives `id` the spelling of an added token, whose content and id
 * moerun__vocabulary_read has seen; *spelling is borrowed. The model does not
 * find it by that, unless it had it before. */
void moerun__vocabulary_add(moerun__vocabulary *vocabulary, int32_t id,
                            const char *content, size_t bytes,
                            const char **spelling);
void moerun__vocabulary_clear(moerun__vocabulary *vocabulary);

/* The id of the model's token spelt so; -1: none. */
int32_t moerun__vocabulary_find(const moerun__vocabulary *vocabulary,
                                const char *spelling, size_t bytes);
/* *bytes bytes that spell the token, or NULL and 0 if there is none. */
const char *moerun__vocabulary_text(const moerun__vocabulary *vocabulary,
                                    int32_t id, size_t *bytes);
/* The first token, added or not, that is spelt so; -1: none. Looks at all. */
int32_t moerun__vocabulary_search(const moerun__vocabulary *vocabulary,
                                  const char *spelling);

#endif
