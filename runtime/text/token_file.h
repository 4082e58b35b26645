/* A tokenizer.json, read: its tokens and merges, which are hundreds of
 * thousands of short texts, as arrays, and all else as JSON. */
#ifndef MOERUN_TEXT_TOKEN_FILE_H
#define MOERUN_TEXT_TOKEN_FILE_H

#include "runtime/base/status.h"

#include <jansson.h>
#include <stdint.h>

/* A member of "vocab": {spelling: id}, or [spelling, score]. */
typedef struct moerun__file_token {
  size_t start; /* of the spelling in the pool; NUL behind it */
  size_t bytes;
  int64_t id;
  double score;
} moerun__file_token;

/* A member of "merges": both spellings, one behind the other. */
typedef struct moerun__file_merge {
  size_t start; /* in the pool */
  size_t left_bytes;
  size_t bytes; /* of both */
} moerun__file_merge;

typedef struct moerun__token_file {
  json_t *root; /* with an empty vocab and empty merges in the model */
  char *pool;
  moerun__file_token *token; /* [num_tokens] in the order of the file */
  size_t num_tokens;
  moerun__file_merge *merge; /* [num_merges] in the order of the file */
  size_t num_merges;
  int has_scores; /* vocab is an array of pairs */
} moerun__token_file;

/* All zero before; cleared by the caller, also after a failure. `origin` names
 * the file in messages. */
moerun_status moerun__token_file_read(moerun__token_file *file,
                                      const char *text, size_t bytes,
                                      const char *origin);
void moerun__token_file_clear(moerun__token_file *file);

#endif
