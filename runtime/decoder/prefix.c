#include "runtime/decoder/prefix.h"

#include "kernels/kernels.h"

#include <assert.h>
#include <string.h>
#include <xxhash.h>

static const size_t token_bytes = MOERUN_PAGE_POSITIONS * sizeof(int32_t);

/* As many as pages at least. */
static int32_t buckets_for(int32_t num_pages) {
  int32_t buckets = 1;
  while (buckets < num_pages && buckets < 1 << 30) {
    buckets *= 2;
  }
  return buckets;
}

void moerun__prefixes_lay_out(moerun__prefixes *out, int32_t num_pages,
                              moerun__arena *arena) {
  const size_t pages = (size_t)num_pages;
  out->num_pages = num_pages;
  out->num_buckets = buckets_for(num_pages);
  out->bucket =
      moerun__arena_take(arena, (size_t)out->num_buckets, sizeof *out->bucket);
  out->next = moerun__arena_take(arena, pages, sizeof *out->next);
  out->before = moerun__arena_take(arena, pages, sizeof *out->before);
  out->token = moerun__arena_take(arena, pages, token_bytes);
  out->earlier = moerun__arena_take(arena, pages, sizeof *out->earlier);
  out->later = moerun__arena_take(arena, pages, sizeof *out->later);
}

void moerun__prefixes_clear(moerun__prefixes *prefixes) {
  for (int32_t b = 0; b < prefixes->num_buckets; b++) {
    prefixes->bucket[b] = MOERUN_PAGE_NONE;
  }
  for (int32_t p = 0; p < prefixes->num_pages; p++) {
    prefixes->before[p] = MOERUN_PAGE_UNKNOWN;
  }
  prefixes->first = MOERUN_PAGE_NONE;
  prefixes->last = MOERUN_PAGE_NONE;
}

/* ---- What is known ------------------------------------------------------- */

static int32_t *bucket_of(const moerun__prefixes *prefixes, int32_t before,
                          const int32_t *token) {
  const uint64_t hash =
      XXH3_64bits_withSeed(token, token_bytes, (uint64_t)(int64_t)before);
  return prefixes->bucket + (hash & ((uint64_t)prefixes->num_buckets - 1));
}

static int32_t *tokens_of(const moerun__prefixes *prefixes, int32_t page) {
  return prefixes->token + (size_t)page * MOERUN_PAGE_POSITIONS;
}

int32_t moerun__prefixes_find(const moerun__prefixes *prefixes, int32_t before,
                              const int32_t *token) {
  int32_t page = *bucket_of(prefixes, before, token);
  while (page != MOERUN_PAGE_NONE &&
         (prefixes->before[page] != before ||
          memcmp(tokens_of(prefixes, page), token, token_bytes) != 0)) {
    page = prefixes->next[page];
  }
  return page;
}

void moerun__prefixes_add(moerun__prefixes *prefixes, int32_t page,
                          int32_t before, const int32_t *token) {
  int32_t *bucket = bucket_of(prefixes, before, token);
  prefixes->before[page] = before;
  memcpy(tokens_of(prefixes, page), token, token_bytes);
  prefixes->next[page] = *bucket;
  *bucket = page;
}

int moerun__prefixes_knows(const moerun__prefixes *prefixes, int32_t page) {
  return prefixes->before[page] != MOERUN_PAGE_UNKNOWN;
}

/* ---- What rests ---------------------------------------------------------- */

void moerun__prefixes_rest(moerun__prefixes *prefixes, int32_t page) {
  prefixes->earlier[page] = prefixes->last;
  prefixes->later[page] = MOERUN_PAGE_NONE;
  if (prefixes->last == MOERUN_PAGE_NONE) {
    prefixes->first = page;
  } else {
    prefixes->later[prefixes->last] = page;
  }
  prefixes->last = page;
}

void moerun__prefixes_wake(moerun__prefixes *prefixes, int32_t page) {
  const int32_t earlier = prefixes->earlier[page];
  const int32_t later = prefixes->later[page];
  if (earlier == MOERUN_PAGE_NONE) {
    prefixes->first = later;
  } else {
    prefixes->later[earlier] = later;
  }
  if (later == MOERUN_PAGE_NONE) {
    prefixes->last = earlier;
  } else {
    prefixes->earlier[later] = earlier;
  }
}

int32_t moerun__prefixes_forget(moerun__prefixes *prefixes) {
  const int32_t page = prefixes->first;
  assert(page != MOERUN_PAGE_NONE);
  int32_t *link =
      bucket_of(prefixes, prefixes->before[page], tokens_of(prefixes, page));
  while (*link != page) {
    link = &prefixes->next[*link];
  }
  *link = prefixes->next[page];
  prefixes->before[page] = MOERUN_PAGE_UNKNOWN;
  moerun__prefixes_wake(prefixes, page);
  return page;
}
