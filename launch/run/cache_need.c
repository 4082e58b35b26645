/* Rank 0 deals a request to the rank with the fewest sequences, or to one with
 * less than an even share, so with N requests on R ranks none ever has more
 * than ceil(N / R), nor more than max_sequences. The cache has room for that
 * many of the longest ones, in whole pages, whichever of them meet. */
#include "launch/run/cache_need.h"

#include "runtime/base/number.h"
#include "runtime/decoder/kv_cache.h"

#include <stdlib.h>

enum { ASSUMED_POSITIONS = 2048 };

static int longest_first(const void *a, const void *b) {
  const int32_t x = *(const int32_t *)a;
  const int32_t y = *(const int32_t *)b;
  return (x < y) - (x > y);
}

moerun__cache_need moerun__cache_need_of(int32_t *positions, int64_t count,
                                         int32_t max_sequences,
                                         int32_t num_ranks) {
  if (count == 0)
    return (moerun__cache_need){.kv_tokens = 1, .max_positions = 1};
  const int64_t share = (count + num_ranks - 1) / num_ranks;
  const int64_t together = share < max_sequences ? share : max_sequences;
  int64_t tokens = 0;
  qsort(positions, (size_t)count, sizeof *positions, longest_first);
  for (int64_t i = 0; i < together; i++) {
    tokens += (int64_t)moerun__kv_pages(positions[i]) * MOERUN_PAGE_POSITIONS;
  }
  const int64_t most =
      INT32_MAX / MOERUN_PAGE_POSITIONS * MOERUN_PAGE_POSITIONS;
  return (moerun__cache_need){.kv_tokens =
                                  moerun__to_int(tokens < most ? tokens : most),
                              .max_positions = positions[0]};
}

moerun__cache_need moerun__cache_need_assumed(int32_t max_positions) {
  return (moerun__cache_need){.max_positions = max_positions < ASSUMED_POSITIONS
                                                   ? max_positions
                                                   : ASSUMED_POSITIONS};
}
