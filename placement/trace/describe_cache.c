/* What a cache that holds some of a layer's experts could serve.
 *
 * Four caches of the same size: two that never change within their span (the
 * whole trace, a segment) and two that change with every miss (least recently
 * used; the best possible, which looks ahead). The distance of a term from the
 * front of a move-to-front list says for all sizes at once whether LRU has its
 * expert (Mattson et al., 1970); the look-ahead cache is replayed per size. */
#include "placement/trace/describe_cache.h"

#include "runtime/base/memory.h"
#include "runtime/base/number.h"

#include <stdlib.h>
#include <string.h>

/* ---- Caches that change -------------------------------------------------- */

moerun_status moerun__count_recent(int64_t *hits_by_size, const int16_t *access,
                                   int64_t count, int32_t num_experts) {
  moerun_status status = MOERUN_OK;
  int16_t *list = NULL; /* used last in front */
  int32_t used = 0;
  const size_t E = (size_t)num_experts;
  memset(hits_by_size, 0, (E + 1) * sizeof *hits_by_size);
  MOERUN_TRY(moerun__alloc(&list, E, sizeof *list));
  for (int64_t i = 0; i < count; i++) {
    int32_t at = 0;
    while (at < used && list[at] != access[i]) {
      at++;
    }
    if (at < used) {
      hits_by_size[at + 1]++;
    } else {
      used++;
    }
    memmove(list + 1, list, (size_t)at * sizeof *list);
    list[0] = access[i];
  }
  for (size_t s = 1; s <= E; s++) {
    hits_by_size[s] += hits_by_size[s - 1];
  }
done:
  moerun__free(list);
  return status;
}

/* next[i]: the place after i where access[i] comes again; count: never. */
static moerun_status find_next(int64_t *next, const int16_t *access,
                               int64_t count, int32_t num_experts) {
  moerun_status status = MOERUN_OK;
  int64_t *seen = NULL;
  MOERUN_TRY(moerun__alloc(&seen, (size_t)num_experts, sizeof *seen));
  for (int32_t e = 0; e < num_experts; e++) {
    seen[e] = count;
  }
  for (int64_t i = count - 1; i >= 0; i--) {
    next[i] = seen[access[i]];
    seen[access[i]] = i;
  }
done:
  moerun__free(seen);
  return status;
}

/* An expert in the cache, and where it comes next. */
typedef struct kept {
  int64_t next;
  int32_t expert;
} kept;

/* Number of the entry that comes again last. */
static int32_t find_last(const kept *cache, int32_t used) {
  int32_t last = 0;
  for (int32_t c = 1; c < used; c++) {
    if (cache[c].next > cache[last].next) last = c;
  }
  return last;
}

static int64_t replay_best(kept *cache, int32_t size, const int16_t *access,
                           const int64_t *next, int64_t count) {
  int64_t hits = 0;
  int32_t used = 0;
  for (int64_t i = 0; i < count; i++) {
    int32_t at = 0;
    while (at < used && cache[at].expert != access[i]) {
      at++;
    }
    hits += at < used;
    if (at == used && used < size) {
      used++;
    } else if (at == used) {
      at = find_last(cache, used);
    }
    cache[at] = (kept){.next = next[i], .expert = access[i]};
  }
  return hits;
}

moerun_status moerun__count_best(int64_t *hits, const int16_t *access,
                                 int64_t count, int32_t num_experts,
                                 int32_t size) {
  moerun_status status = MOERUN_OK;
  int64_t *next = NULL;
  kept *cache = NULL;
  MOERUN_TRY(moerun__alloc_unset(&next, (size_t)count, sizeof *next));
  MOERUN_TRY(moerun__alloc(&cache, (size_t)size, sizeof *cache));
  MOERUN_TRY(find_next(next, access, count, num_experts));
  *hits = replay_best(cache, size, access, next, count);
done:
  moerun__free(next);
  moerun__free(cache);
  return status;
}

/* ---- Sets that stay ------------------------------------------------------ */

static int compare_descending(const void *a, const void *b) {
  const int64_t x = *(const int64_t *)a;
  const int64_t y = *(const int64_t *)b;
  return (x < y) - (x > y);
}

/* served[s] += the sum of the s largest of counts[E], which are sorted. */
static void add_largest(int64_t *served, int64_t *counts, int32_t E) {
  int64_t sum = 0;
  qsort(counts, (size_t)E, sizeof *counts, compare_descending);
  for (int32_t s = 1; s <= E; s++) {
    sum += counts[s - 1];
    served[s] += sum;
  }
}

/* ---- One layer ----------------------------------------------------------- */

typedef struct layer_caches {
  const moerun__trace *trace;
  int32_t segment_tokens;
  int64_t num_segments;
  int16_t *access;      /* [N * K] of the layer */
  int64_t num_accesses; /* of the layer */
  int64_t *counts;      /* [E] scratch */
  int64_t *fixed;       /* [E + 1] terms served by each size, all layers */
  int64_t *segment;     /* [E + 1] */
  int64_t *recent;      /* [E + 1] of the layer */
} layer_caches;

/* Loads of tokens begin .. end - 1 in layer l into counts[E]. */
static void count_span(layer_caches *in, int32_t l, int64_t begin,
                       int64_t end) {
  const moerun__trace *trace = in->trace;
  const int64_t K = trace->num_terms;
  memset(in->counts, 0, (size_t)trace->num_experts * sizeof *in->counts);
  for (int64_t t = begin; t < end; t++) {
    const int16_t *ids = trace->ids + (t * trace->num_layers + l) * K;
    for (int64_t k = 0; k < K; k++) {
      if (ids[k] >= 0) in->counts[ids[k]]++;
    }
  }
}

static void add_segments(layer_caches *in, int32_t l) {
  const moerun__trace *trace = in->trace;
  in->num_segments = 0;
  for (int64_t s = 0; s < trace->num_sequences; s++) {
    const int64_t end = trace->sequence_offset[s + 1];
    int64_t stop = 0;
    for (int64_t t = trace->sequence_offset[s]; t < end; t = stop) {
      const int64_t left = end - t;
      stop = t + (left < in->segment_tokens ? left : in->segment_tokens);
      count_span(in, l, t, stop);
      add_largest(in->segment, in->counts, trace->num_experts);
      in->num_segments++;
    }
  }
}

static void gather_accesses(layer_caches *in, int32_t l) {
  const moerun__trace *trace = in->trace;
  const int64_t K = trace->num_terms;
  in->num_accesses = 0;
  for (int64_t t = 0; t < trace->num_tokens; t++) {
    const int16_t *ids = trace->ids + (t * trace->num_layers + l) * K;
    for (int64_t k = 0; k < K; k++) {
      if (ids[k] >= 0) in->access[in->num_accesses++] = ids[k];
    }
  }
}

/* cache[].recent and .best count terms until they are divided at the end. */
static moerun_status add_layer(moerun__description *out, layer_caches *in,
                               int32_t l, const int64_t *load) {
  moerun_status status = MOERUN_OK;
  const int32_t E = in->trace->num_experts;
  memcpy(in->counts, load, (size_t)E * sizeof *load);
  add_largest(in->fixed, in->counts, E);
  add_segments(in, l);
  gather_accesses(in, l);
  MOERUN_TRY(moerun__count_recent(in->recent, in->access, in->num_accesses, E));
  for (int32_t c = 0; c < out->num_caches; c++) {
    moerun__cache_facts *cache = &out->cache[c];
    int64_t hits = 0;
    MOERUN_TRY(moerun__count_best(&hits, in->access, in->num_accesses, E,
                                  cache->size));
    cache->recent += (double)in->recent[cache->size];
    cache->best += (double)hits;
  }
done:
  return status;
}

/* ---- All ----------------------------------------------------------------- */

/* 1/8, 1/4, 3/8 … 7/8 of E, each once. */
static void choose_sizes(moerun__description *out, int32_t E) {
  for (int32_t eighths = 1; eighths < MOERUN_DESCRIBE_ROWS; eighths++) {
    const int32_t size = moerun__to_int((int64_t)E * eighths / 8);
    const int32_t n = out->num_caches;
    if (size < 1 || (n > 0 && size == out->cache[n - 1].size)) continue;
    out->cache[n].size = size;
    out->num_caches++;
  }
}

moerun_status moerun__describe_caches(moerun__description *out,
                                      const moerun__trace *trace,
                                      const int64_t *load) {
  moerun_status status = MOERUN_OK;
  layer_caches in = {.trace = trace, .segment_tokens = out->segment_tokens};
  const size_t E = (size_t)trace->num_experts;
  const size_t accesses = (size_t)trace->num_tokens * (size_t)trace->num_terms;
  double terms = 0;
  MOERUN_TRY(moerun__alloc(&in.access, accesses, sizeof *in.access));
  MOERUN_TRY(moerun__alloc(&in.counts, E, sizeof *in.counts));
  MOERUN_TRY(moerun__alloc(&in.fixed, E + 1, sizeof *in.fixed));
  MOERUN_TRY(moerun__alloc(&in.segment, E + 1, sizeof *in.segment));
  MOERUN_TRY(moerun__alloc(&in.recent, E + 1, sizeof *in.recent));
  choose_sizes(out, trace->num_experts);
  for (int32_t l = 0; l < trace->num_layers; l++) {
    MOERUN_TRY(add_layer(out, &in, l, load + (size_t)l * E));
    terms += (double)in.num_accesses;
  }
  for (int32_t c = 0; c < out->num_caches; c++) {
    moerun__cache_facts *cache = &out->cache[c];
    cache->fixed = (double)in.fixed[cache->size] / terms;
    cache->segment = (double)in.segment[cache->size] / terms;
    cache->recent /= terms;
    cache->best /= terms;
  }
  out->num_segments = in.num_segments;
done:
  moerun__free(in.access);
  moerun__free(in.counts);
  moerun__free(in.fixed);
  moerun__free(in.segment);
  moerun__free(in.recent);
  return status;
}
