#include "runtime/decoder/kv_cache.h"

int32_t moerun__kv_pages(int64_t positions) {
  return (int32_t)((positions + MOERUN_PAGE_POSITIONS - 1) /
                   MOERUN_PAGE_POSITIONS);
}

moerun__kv_sizes moerun__kv_sizes_of(const moerun__model_config *config,
                                     int32_t max_sequences, int64_t positions,
                                     int64_t longest) {
  const int32_t num_pages = moerun__kv_pages(positions);
  const int32_t pages = moerun__kv_pages(longest);
  return (moerun__kv_sizes){
      .num_layers = config->num_layers,
      .page_floats =
          MOERUN_PAGE_POSITIONS * config->attention->position_floats(config),
      .max_sequences = max_sequences,
      .max_pages = pages < num_pages ? pages : num_pages,
      .num_pages = num_pages,
  };
}

size_t moerun__kv_bytes(const moerun__kv_sizes *sizes) {
  return sizeof(float) * (size_t)sizes->num_layers * (size_t)sizes->num_pages *
         sizes->page_floats;
}

/* The cache stands at the front of a block of the host; its pages are apart. */
static moerun__kv_cache *lay_out(const moerun__kv_sizes *sizes,
                                 moerun__arena *arena) {
  const size_t pages = (size_t)sizes->num_pages;
  const size_t sequences = (size_t)sizes->max_sequences;
  moerun__kv_cache *cache = moerun__arena_take(arena, 1, sizeof *cache);
  moerun__kv_cache taken = {.sizes = *sizes};
  taken.free_pages = moerun__arena_take(arena, pages, sizeof(int32_t));
  taken.page = moerun__arena_take(arena, sequences * (size_t)sizes->max_pages,
                                  sizeof(int32_t));
  taken.length = moerun__arena_take(arena, sequences, sizeof(int32_t));
  if (cache != NULL) *cache = taken;
  return cache;
}

size_t moerun__kv_create_bytes(const moerun__device *device,
                               const moerun__kv_sizes *sizes) {
  moerun__arena arena = {NULL, 0};
  (void)lay_out(sizes, &arena);
  return moerun__alloc_bytes(arena.used, 1) +
         device->memory_bytes(moerun__kv_bytes(sizes));
}

moerun_status moerun__kv_create(moerun__kv_cache **out,
                                const moerun__device *device,
                                const moerun__kv_sizes *sizes) {
  moerun_status status = MOERUN_OK;
  moerun__arena arena = {NULL, 0};
  void *block = NULL;
  void *floats = NULL;
  *out = NULL;
  (void)lay_out(sizes, &arena);
  MOERUN_TRY(moerun__alloc_unset(&block, arena.used, 1));
  MOERUN_TRY(device->memory_create(&floats, moerun__kv_bytes(sizes)));
  arena = (moerun__arena){block, 0};
  moerun__kv_cache *cache = lay_out(sizes, &arena);
  block = NULL;
  cache->device = device;
  cache->floats = floats;
  cache->num_free = sizes->num_pages;
  for (int32_t i = 0; i < sizes->num_pages; i++) {
    cache->free_pages[i] = sizes->num_pages - 1 - i; /* page 0 is taken first */
  }
  for (int32_t s = 0; s < sizes->max_sequences; s++) {
    cache->length[s] = 0;
  }
  *out = cache;
done:
  moerun__free(block);
  return status;
}

void moerun__kv_destroy(moerun__kv_cache *cache) {
  if (cache == NULL) return;
  cache->device->memory_destroy(cache->floats);
  moerun__free(cache);
}

void moerun__kv_shrink(moerun__kv_cache *cache, int32_t sequence,
                       int32_t count) {
  const int32_t length = cache->length[sequence];
  const int32_t *page =
      cache->page + (size_t)sequence * (size_t)cache->sizes.max_pages;
  const int32_t kept = moerun__kv_pages(length - count);
  for (int32_t i = moerun__kv_pages(length) - 1; i >= kept; i--) {
    cache->free_pages[cache->num_free++] = page[i];
  }
  cache->length[sequence] = length - count;
}

void moerun__kv_reset(moerun__kv_cache *cache, int32_t sequence) {
  moerun__kv_shrink(cache, sequence, cache->length[sequence]);
}

moerun_status moerun__kv_extend(moerun__kv_cache *cache, int32_t sequence,
                                int32_t count) {
  moerun_status status = MOERUN_OK;
  int32_t *page =
      cache->page + (size_t)sequence * (size_t)cache->sizes.max_pages;
  const int32_t have = moerun__kv_pages(cache->length[sequence]);
  const int32_t want =
      moerun__kv_pages((int64_t)cache->length[sequence] + count);
  MOERUN_REQUIRE(want <= cache->sizes.max_pages, MOERUN_ERR_OVERFLOW,
                 "sequence %d: expected at most %d positions, found %lld",
                 sequence, cache->sizes.max_pages * MOERUN_PAGE_POSITIONS,
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
  const size_t stride = cache->sizes.page_floats;
  const size_t first = (size_t)layer * (size_t)cache->sizes.num_pages * stride;
  return (moerun__kv_place){cache->floats + first, stride,
                            cache->page + (size_t)sequence *
                                              (size_t)cache->sizes.max_pages};
}
