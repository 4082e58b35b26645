/* Every page of a prompt has a place by a number for all tokens up to its end;
 * where two numbers meet, the later one stays. A wrong rank costs the rows of a
 * prompt, and never a result, so that tokens need not be compared here. */
#include "runtime/serve/alike.h"

#include "kernels/kernels.h"

#include <string.h>
#include <xxhash.h>

enum { PLACES = 1 << 14 }; /* pages of 16 tokens */

void moerun__alike_lay_out(moerun__alike *out, moerun__arena *arena) {
  out->place = moerun__arena_take(arena, PLACES, sizeof *out->place);
}

void moerun__alike_clear(moerun__alike *alike) {
  memset(alike->place, 0, PLACES * sizeof *alike->place);
}

/* Pages of a request that others may have; the last token has to be fed. */
static int32_t pages_of(const moerun__request *request) {
  return (request->num_prompt - 1) / MOERUN_PAGE_POSITIONS;
}

/* The number of one page more. */
static uint64_t go_on(uint64_t prefix, const moerun__request *request,
                      int32_t page) {
  const int32_t *token = request->prompt + (size_t)page * MOERUN_PAGE_POSITIONS;
  const uint64_t next = XXH3_64bits_withSeed(
      token, MOERUN_PAGE_POSITIONS * sizeof *token, prefix);
  return next != 0 ? next : 1;
}

int32_t moerun__alike_rank(const moerun__alike *alike,
                           const moerun__request *request) {
  uint64_t prefix = 0;
  int32_t rank = -1;
  for (int32_t page = 0; page < pages_of(request); page++) {
    prefix = go_on(prefix, request, page);
    const moerun__alike_place *place = &alike->place[prefix % PLACES];
    const int32_t end = (page + 1) * MOERUN_PAGE_POSITIONS;
    if (place->prefix == prefix && 2 * end >= request->num_prompt) {
      rank = place->rank;
    }
  }
  return rank;
}

void moerun__alike_dealt(moerun__alike *alike, const moerun__request *request,
                         int32_t rank) {
  uint64_t prefix = 0;
  for (int32_t page = 0; page < pages_of(request); page++) {
    prefix = go_on(prefix, request, page);
    alike->place[prefix % PLACES] = (moerun__alike_place){prefix, rank};
  }
}
