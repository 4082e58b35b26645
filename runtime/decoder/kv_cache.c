#include "runtime/decoder/kv_cache.h"

#include <assert.h>

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
  taken.unused = moerun__arena_take(arena, pages, sizeof(int32_t));
  taken.holders = moerun__arena_take(arena, pages, sizeof(int32_t));
  taken.page = moerun__arena_take(arena, sequences * (size_t)sizes->max_pages,
                                  sizeof(int32_t));
  taken.length = moerun__arena_take(arena, sequences, sizeof(int32_t));
  taken.num_known = moerun__arena_take(arena, sequences, sizeof(int32_t));
  moerun__prefixes_lay_out(&taken.prefixes, sizes->num_pages, arena);
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
  cache->num_unused = sizes->num_pages;
  for (int32_t i = 0; i < sizes->num_pages; i++) {
    cache->unused[i] = sizes->num_pages - 1 - i; /* page 0 is taken first */
    cache->holders[i] = 0;
  }
  for (int32_t s = 0; s < sizes->max_sequences; s++) {
    cache->length[s] = 0;
    cache->num_known[s] = 0;
  }
  moerun__prefixes_clear(&cache->prefixes);
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

/* ---- Pages --------------------------------------------------------------- */

static int32_t *pages_of(const moerun__kv_cache *cache, int32_t sequence) {
  return cache->page + (size_t)sequence * (size_t)cache->sizes.max_pages;
}

/* One that nobody holds: what is known goes only when there is no other. */
static int32_t take_page(moerun__kv_cache *cache) {
  const int32_t page = cache->num_unused > 0
                           ? cache->unused[--cache->num_unused]
                           : moerun__prefixes_forget(&cache->prefixes);
  cache->num_free--;
  cache->holders[page] = 1;
  return page;
}

static void hold_known(moerun__kv_cache *cache, int32_t page) {
  if (cache->holders[page]++ > 0) return;
  moerun__prefixes_wake(&cache->prefixes, page);
  cache->num_free--;
}

static void let_go(moerun__kv_cache *cache, int32_t page) {
  if (--cache->holders[page] > 0) return;
  cache->num_free++;
  if (moerun__prefixes_knows(&cache->prefixes, page)) {
    moerun__prefixes_rest(&cache->prefixes, page);
  } else {
    cache->unused[cache->num_unused++] = page;
  }
}

void moerun__kv_shrink(moerun__kv_cache *cache, int32_t sequence,
                       int32_t count) {
  const int32_t length = cache->length[sequence];
  const int32_t *page = pages_of(cache, sequence);
  const int32_t kept = moerun__kv_pages(length - count);
  for (int32_t i = moerun__kv_pages(length) - 1; i >= kept; i--) {
    let_go(cache, page[i]);
  }
  if (cache->num_known[sequence] > kept) cache->num_known[sequence] = kept;
  cache->length[sequence] = length - count;
  assert(cache->num_known[sequence] * MOERUN_PAGE_POSITIONS <= length - count);
}

void moerun__kv_reset(moerun__kv_cache *cache, int32_t sequence) {
  moerun__kv_shrink(cache, sequence, cache->length[sequence]);
  cache->num_known[sequence] = 0;
}

moerun_status moerun__kv_extend(moerun__kv_cache *cache, int32_t sequence,
                                int32_t count) {
  moerun_status status = MOERUN_OK;
  int32_t *page = pages_of(cache, sequence);
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
    page[i] = take_page(cache);
  }
  cache->length[sequence] += count;
done:
  return status;
}

/* ---- What sequences share ------------------------------------------------ */

/* Page number `at` of a sequence goes on from this one. */
static int32_t page_before(const moerun__kv_cache *cache, int32_t sequence,
                           int32_t at) {
  return at == 0 ? MOERUN_PAGE_NONE : pages_of(cache, sequence)[at - 1];
}

void moerun__kv_keep(moerun__kv_cache *cache, int32_t sequence,
                     const int32_t *token) {
  int32_t *page = pages_of(cache, sequence);
  const int32_t full = cache->length[sequence] / MOERUN_PAGE_POSITIONS;
  if (cache->num_known[sequence] < 0) return;
  for (int32_t i = cache->num_known[sequence]; i < full; i++) {
    const int32_t before = page_before(cache, sequence, i);
    const int32_t *own = token + (size_t)i * MOERUN_PAGE_POSITIONS;
    const int32_t same = moerun__prefixes_find(&cache->prefixes, before, own);
    if (same == MOERUN_PAGE_NONE) {
      moerun__prefixes_add(&cache->prefixes, page[i], before, own);
    } else {
      hold_known(cache, same);
      let_go(cache, page[i]);
      page[i] = same;
    }
    cache->num_known[sequence] = i + 1;
  }
}

/* The sequence holds nothing but known pages, to their last positions. */
static int is_all_known(const moerun__kv_cache *cache, int32_t sequence) {
  return cache->length[sequence] ==
         cache->num_known[sequence] * MOERUN_PAGE_POSITIONS;
}

int32_t moerun__kv_reuse(moerun__kv_cache *cache, int32_t sequence,
                         const int32_t *token, int32_t count) {
  const int32_t length = cache->length[sequence];
  int32_t *page = pages_of(cache, sequence);
  int32_t i = cache->num_known[sequence];
  if (!is_all_known(cache, sequence)) return 0;
  for (; i < count / MOERUN_PAGE_POSITIONS; i++) {
    const int32_t known =
        moerun__prefixes_find(&cache->prefixes, page_before(cache, sequence, i),
                              token + (size_t)i * MOERUN_PAGE_POSITIONS);
    if (known == MOERUN_PAGE_NONE) break;
    hold_known(cache, known);
    page[i] = known;
  }
  cache->num_known[sequence] = i;
  cache->length[sequence] = i * MOERUN_PAGE_POSITIONS;
  return cache->length[sequence] - length;
}

int moerun__kv_meets(const moerun__kv_cache *cache, int32_t sequence,
                     int32_t other) {
  const int32_t at = cache->num_known[sequence];
  return is_all_known(cache, sequence) && cache->num_known[other] == at &&
         page_before(cache, sequence, at) == page_before(cache, other, at);
}

void moerun__kv_forget(moerun__kv_cache *cache) {
  while (cache->prefixes.first != MOERUN_PAGE_NONE) {
    cache->unused[cache->num_unused++] =
        moerun__prefixes_forget(&cache->prefixes);
  }
  moerun__prefixes_clear(&cache->prefixes);
  for (int32_t s = 0; s < cache->sizes.max_sequences; s++) {
    cache->num_known[s] = cache->length[s] > 0 ? -1 : 0;
  }
}

moerun__kv_place moerun__kv_place_of(const moerun__kv_cache *cache,
                                     int32_t layer, int32_t sequence) {
  const size_t stride = cache->sizes.page_floats;
  const size_t first = (size_t)layer * (size_t)cache->sizes.num_pages * stride;
  return (moerun__kv_place){cache->floats + first, stride,
                            pages_of(cache, sequence)};
}
