/* Byte-pair encoding: starting from one token per byte, the adjacent pair of
 * the lowest rank is joined, the leftmost first, until no pair can be. */
#ifndef MOERUN_TEXT_BPE_H
#define MOERUN_TEXT_BPE_H

#include "runtime/text/tokenizer.h"

typedef struct moerun__bpe moerun__bpe;

typedef struct moerun__bpe_merge {
  int32_t left;
  int32_t right;
  int32_t joined;
} moerun__bpe_merge;

/* byte_token[b] = the id of byte b alone, -1: none. merge[num_merges] by
 * ascending rank; copied. Where a pair stands twice the later one counts, as
 * in the Hugging Face library. */
moerun_status moerun__bpe_create(moerun__bpe **out,
                                 const int32_t byte_token[256],
                                 const moerun__bpe_merge *merge,
                                 size_t num_merges);
void moerun__bpe_destroy(moerun__bpe *bpe);

/* Appends the ids of text[bytes]. */
moerun_status moerun__bpe_encode(const moerun__bpe *bpe,
                                 moerun__token_list *out, const char *text,
                                 size_t bytes, const char *origin);

#endif
