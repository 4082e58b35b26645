/* Paged cache of what attention keeps of positions (keys and values, as a
 * rule): a page holds 16 positions of one sequence in every layer. Pages are
 * taken as positions come and given back by reset; the pool is sized up front.
 *
 * Sequences may share pages that are full, and never those that they write to.
 * What is known of pages (prefix.h) outlives the sequences that computed them,
 * until their room is needed.
 *
 * A cache stands by itself: a session works on it, and another session, of
 * other sizes or on another communicator, goes on with what is in it. */
#ifndef MOERUN_DECODER_KV_CACHE_H
#define MOERUN_DECODER_KV_CACHE_H

#include "kernels/kernels.h"
#include "runtime/base/arena.h"
#include "runtime/decoder/prefix.h"
#include "runtime/model/attention.h"

/* What a cache has room for. */
typedef struct moerun__kv_sizes {
  int32_t num_layers;
  size_t page_floats;    /* of one layer, a multiple of 32 */
  int32_t max_sequences; /* seats */
  int32_t max_pages;     /* of one sequence */
  int32_t num_pages;     /* of the pool     */
} moerun__kv_sizes;

typedef struct moerun__kv_cache {
  moerun__kv_sizes sizes;
  int32_t num_free;   /* pages that no sequence holds, those that rest too */
  int32_t num_unused; /* of them, that are not known */
  int32_t *unused;    /* [num_pages], the first num_unused of it */
  int32_t *holders;   /* [num_pages] sequences */
  int32_t *page;      /* [max_sequences][max_pages] */
  int32_t *length;    /* [max_sequences] positions stored */
  int32_t *num_known; /* [max_sequences] pages from the first one on that are
                          known; negative: none is to be */
  moerun__prefixes prefixes;
  const moerun__device *device; /* borrowed */
  float *floats; /* of the device: [num_layers][num_pages][page_floats] */
} moerun__kv_cache;

/* Pages that `positions` positions take. */
int32_t moerun__kv_pages(int64_t positions);

/* Room for `positions` positions of `max_sequences` sequences together, as a
 * model of this configuration keeps them, and for `longest` positions of one
 * sequence as far as there is room for them. */
moerun__kv_sizes moerun__kv_sizes_of(const moerun__model_config *config,
                                     int32_t max_sequences, int64_t positions,
                                     int64_t longest);
/* Bytes of the pages alone. */
size_t moerun__kv_bytes(const moerun__kv_sizes *sizes);

/* All pages are free, and untouched until they are used, in memory of the
 * device. The caller owns *out and ends it with moerun__kv_destroy. */
moerun_status moerun__kv_create(moerun__kv_cache **out,
                                const moerun__device *device,
                                const moerun__kv_sizes *sizes);
/* Bytes that moerun__kv_create takes. */
size_t moerun__kv_create_bytes(const moerun__device *device,
                               const moerun__kv_sizes *sizes);
void moerun__kv_destroy(moerun__kv_cache *cache);

void moerun__kv_reset(moerun__kv_cache *cache, int32_t sequence);
/* Makes room for positions length .. length + count - 1 of a sequence. */
moerun_status moerun__kv_extend(moerun__kv_cache *cache, int32_t sequence,
                                int32_t count);

/* Takes the last `count` positions of a sequence back; none of a page that is
 * known and keeps others. */
void moerun__kv_shrink(moerun__kv_cache *cache, int32_t sequence,
                       int32_t count);

/* Makes the full pages of a sequence known, which holds these tokens from
 * position 0 on: they have been computed, and are right. Where the cache has
 * the same already the sequence goes on with that. */
void moerun__kv_keep(moerun__kv_cache *cache, int32_t sequence,
                     const int32_t *token);
/* Gives a sequence, which has whole pages or nothing so far, the known pages
 * that go on with its tokens, token[count] from position 0 on, as far as they
 * reach. Returns how many positions it has gained. */
int32_t moerun__kv_reuse(moerun__kv_cache *cache, int32_t sequence,
                         const int32_t *token, int32_t count);
/* Whether the page that `other` makes known next goes on where `sequence` ends,
 * if their next tokens are the same: both share all pages that are known of
 * them, and `sequence` has no others. */
int moerun__kv_meets(const moerun__kv_cache *cache, int32_t sequence,
                     int32_t other);
/* Nothing is known any more, and what sequences hold now never will be: for
 * steps that compute other numbers. */
void moerun__kv_forget(moerun__kv_cache *cache);

/* Where a sequence's positions are in a layer: position t is number
 * t % MOERUN_PAGE_POSITIONS of the page that begins at
 * floats + page[t / MOERUN_PAGE_POSITIONS] * page_floats. */
typedef struct moerun__kv_place {
  float *floats; /* of the layer; 64-byte aligned like each page */
  size_t page_floats;
  const int32_t *page;
} moerun__kv_place;

moerun__kv_place moerun__kv_place_of(const moerun__kv_cache *cache,
                                     int32_t layer, int32_t sequence);

#endif
