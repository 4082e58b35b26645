/* The merges of byte-pair encoding: of the adjacent pairs of a list of tokens,
 * that of the lowest rank is joined, the leftmost first, until none can be. */
#ifndef MOERUN_TEXT_MERGES_H
#define MOERUN_TEXT_MERGES_H

#include "runtime/base/status.h"

#include <stddef.h>
#include <stdint.h>

typedef struct moerun__merges moerun__merges;

typedef struct moerun__merge {
  int32_t left;
  int32_t right;
  int32_t joined;
} moerun__merge;

/* merge[count] by ascending rank; copied. Where a pair stands twice the later
 * one counts, as in the Hugging Face library. */
moerun_status moerun__merges_create(moerun__merges **out,
                                    const moerun__merge *merge, size_t count);
void moerun__merges_destroy(moerun__merges *merges);

/* Joins id[*count] in place; *count becomes smaller. */
moerun_status moerun__merges_apply(const moerun__merges *merges, int32_t *id,
                                   int32_t *count);

#endif
