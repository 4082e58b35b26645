#include "runtime/decoder/kv_cache.h"

int32_t moerun__kv_pages(int64_t positions) {
  return (int32_t)((positions + MOERUN_PAGE_POSITIONS - 1) /
                   MOERUN_PAGE_POSITIONS);
}

void moerun__kv_lay_out(moerun__kv_cache *cache, moerun__arena *arena) {
  const size_t pages = (size_t)cache->num_pages;
  const size_t sequences = (size_t)cache->max_sequences;
  const size_t pool = (size_t)cache->num_layers * pages * cache->page_floats;
  cache->free_pages = moerun__arena_take(arena, pages, sizeof(int32_t));
  cache->page = moerun__arena_take(arena, sequences * (size_t)cache->max_pages,
                                   sizeof(int32_t));
  cache->length = moerun__arena_take(arena, sequences, sizeof(int32_t));
  cache->floats = moerun__arena_take(arena, pool, sizeof(float));
}

size_t moerun__kv_bytes(const moerun__kv_cache *cache) {
  return sizeof(float) * (size_t)cache->num_layers * (size_t)cache->num_pages *
         cache->page_floats;
}

void moerun__kv_clear(moerun__kv_cache *cache) {
  cache->num_free = cache->num_pages;
  for (int32_t i = 0; i < cache->num_pages; i++) {
    cache->free_pages[i] = cache->num_pages - 1 - i; /* page 0 is taken first */
  }
  for (int32_t s = 0; s < cache->max_sequences; s++) {
    cache->length[s] = 0;
  }
}

void moerun__kv_reset(moerun__kv_cache *cache, int32_t sequence) {
  const int32_t pages = moerun__kv_pages(cache->length[sequence]);
  const int32_t *page =
      cache->page + (size_t)sequence * (size_t)cache->max_pages;
  for (int32_t i = pages - 1; i >= 0; i--) {
    cache->free_pages[cache->num_free++] = page[i];
  }
  cache->length[sequence] = 0;
}

moerun_status moerun__kv_extend(moerun__kv_cache *cache, int32_t sequence,
                                int32_t count) {
  moerun_status status = MOERUN_OK;
  int32_t *page = cache->page + (size_t)sequence * (size_t)cache->max_pages;
  const int32_t have = moerun__kv_pages(cache->length[sequence]);
  const int32_t want =
      moerun__kv_pages((int64_t)cache->length[sequence] + count);
  MOERUN_REQUIRE(want <= cache->max_pages, MOERUN_ERR_OVERFLOW,
                 "sequence %d: expected at most %d positions, found %lld",
                 sequence, cache->max_pages * MOERUN_PAGE_POSITIONS,
                 (long long)cache->length[sequence] + count);
  MOERUN_REQUIRE(want - have <= cache->num_free, MOERUN_ERR_OVERFLOW,
                 "KV cache: %d pages of %d positions needed, %d left (raise "
                 "kv_tokens)",
                 want - have, MOERUN_PAGE_POSITIONS, cache->num_free);
  for (int32_t i = have; i < want; i++) {
    page[i] = cache->free_pages[--cache->num_free];
  }
  cache->length[sequence] += count;
done:
  return status;
}

moerun__kv_place moerun__kv_place_of(const moerun__kv_cache *cache,
                                     int32_t layer, int32_t sequence) {
  const size_t stride = cache->page_floats;
  const size_t first = (size_t)layer * (size_t)cache->num_pages * stride;
  return (moerun__kv_place){cache->floats + first, stride,
                            cache->page +
                                (size_t)sequence * (size_t)cache->max_pages};
}
