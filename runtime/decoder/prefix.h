/* Which pages of a cache hold which tokens, so that what sequences begin with
 * in common is computed once.
 *
 * A page is known by the page before it and its 16 tokens, both compared as
 * they stand: a hash says only where to look. So a known page stands for all
 * tokens from position 0 to its last. Pages that nobody holds rest in the order
 * in which they were let go, and the one that has rested longest is forgotten
 * first. Whoever lets go of pages lets the later positions go first: then no
 * page is forgotten before those that go on from it. */
#ifndef MOERUN_DECODER_PREFIX_H
#define MOERUN_DECODER_PREFIX_H

#include "runtime/base/arena.h"

#include <stdint.h>

enum { MOERUN_PAGE_NONE = -1, MOERUN_PAGE_UNKNOWN = -2 };

typedef struct moerun__prefixes {
  int32_t num_pages;
  int32_t num_buckets; /* a power of two */
  int32_t *bucket;     /* [num_buckets] a page, or MOERUN_PAGE_NONE */
  int32_t *next;       /* [num_pages] of the same bucket */
  int32_t *before;  /* [num_pages] the page before; MOERUN_PAGE_NONE: the page
                          begins sequences; MOERUN_PAGE_UNKNOWN: not known */
  int32_t *token;   /* [num_pages][MOERUN_PAGE_POSITIONS] */
  int32_t *earlier; /* [num_pages] of those that rest */
  int32_t *later;   /* [num_pages] */
  int32_t first;    /* that has rested longest; MOERUN_PAGE_NONE: none does */
  int32_t last;
} moerun__prefixes;

/* Counts, or hands out, the buffers for so many pages. */
void moerun__prefixes_lay_out(moerun__prefixes *out, int32_t num_pages,
                              moerun__arena *arena);
/* No page is known, and none rests. */
void moerun__prefixes_clear(moerun__prefixes *prefixes);

/* The page that goes on from `before` with token[MOERUN_PAGE_POSITIONS], or
 * MOERUN_PAGE_NONE. */
int32_t moerun__prefixes_find(const moerun__prefixes *prefixes, int32_t before,
                              const int32_t *token);
/* Makes a page known that find does not find; `before` is known. */
void moerun__prefixes_add(moerun__prefixes *prefixes, int32_t page,
                          int32_t before, const int32_t *token);
int moerun__prefixes_knows(const moerun__prefixes *prefixes, int32_t page);

/* A known page is held by nobody from now on, or by somebody again. */
void moerun__prefixes_rest(moerun__prefixes *prefixes, int32_t page);
void moerun__prefixes_wake(moerun__prefixes *prefixes, int32_t page);
/* Forgets the page that has rested longest, of which there is one, and returns
 * it. */
int32_t moerun__prefixes_forget(moerun__prefixes *prefixes);

#endif
