/* Attention over a paged cache, for a tile of queries that read the same kv
 * head: neighbouring rows and all heads of the group, so that a page is loaded
 * once for all of them.
 *
 * Bits: a score is one chain over head_dim, lanes over the positions of a
 * page; the softmax is that of rows.h over the query's own visible positions,
 * the first of which is its element 0, and the sink; an output is one chain
 * over its own visible positions in ascending order, divided by the sum at the
 * end. Queries of a tile may see different positions: the shared loop runs over
 * those that all see, and each query begins and finishes its own chain. Lanes
 * of a page that a query does not see are cut off by selection, never by
 * multiplying with 0: they may hold anything. */
#ifndef MOERUN_KERNELS_ATTENTION_H
#define MOERUN_KERNELS_ATTENTION_H

#include "kernels/cpu/rows.h"
#include "kernels/cpu/sizes.h"
#include "runtime/base/number.h"

typedef struct attention_tile {
  const moerun__kv_view *view;
  size_t block; /* floats from a page's start to the kv head */
  size_t width; /* head_dim */
  float scale;
  float *score; /* [queries][score_stride]: dot products, then exponentials */
  size_t score_stride;
  float *q;                                /* [width][queries] */
  int32_t begin[MOERUN_ATTENTION_QUERIES]; /* what is visible */
  int32_t end[MOERUN_ATTENTION_QUERIES];
  const float *sink[MOERUN_ATTENTION_QUERIES]; /* or NULL */
  float sum[MOERUN_ATTENTION_QUERIES];
  float *out[MOERUN_ATTENTION_QUERIES];
} attention_tile;

static inline int32_t lowest(const int32_t *of, int count) {
  int32_t found = of[0];
  for (int i = 1; i < count; i++) {
    if (of[i] < found) found = of[i];
  }
  return found;
}

static inline int32_t highest(const int32_t *of, int count) {
  int32_t found = of[0];
  for (int i = 1; i < count; i++) {
    if (of[i] > found) found = of[i];
  }
  return found;
}

/* The tile's part of page number `number`, in floats from the cache's start. */
static inline size_t page_start(const attention_tile *tile, size_t number) {
  const size_t page = (size_t)tile->view->page[number];
  return page * tile->view->page_stride + tile->block;
}

/* Dot products of all queries with `pages` pages from page number `first`. */
ALWAYS_INLINE void score_pages(const attention_tile *tile, size_t first,
                               const int queries, const int pages) {
  lanes sum[MOERUN_ATTENTION_QUERIES];
  const float *key[4];
  UNROLL for (int p = 0; p < pages; p++) {
    key[p] = tile->view->keys + page_start(tile, first + (size_t)p);
  }
  UNROLL for (int i = 0; i < queries * pages; i++) {
    sum[i] = lanes_set(0.0F);
  }
  const float *q = tile->q;
  for (size_t d = 0; d < tile->width; d++, q += queries) {
    UNROLL for (int p = 0; p < pages; p++) {
      const lanes k = lanes_load(key[p] + d * LANES);
      UNROLL for (int i = 0; i < queries; i++) {
        sum[p * queries + i] =
            lanes_fma(lanes_set(q[i]), k, sum[p * queries + i]);
      }
    }
  }
  UNROLL for (int p = 0; p < pages; p++) {
    UNROLL for (int i = 0; i < queries; i++) {
      lanes_store(tile->score + (size_t)i * tile->score_stride +
                      (first + (size_t)p) * LANES,
                  sum[p * queries + i]);
    }
  }
}

/* Adds position t, whose value is at `value`, to the chains of all queries. */
ALWAYS_INLINE void mix_position(lanes *sum, const attention_tile *tile,
                                const float *value, int32_t t,
                                const int queries, const int vectors,
                                const int left) {
  UNROLL for (int v = 0; v < vectors; v++) {
    const lanes x = lanes_fetch(value + (size_t)v * LANES, left);
    UNROLL for (int i = 0; i < queries; i++) {
      const float p = tile->score[(size_t)i * tile->score_stride + (size_t)t];
      sum[i * vectors + v] = lanes_fma(lanes_set(p), x, sum[i * vectors + v]);
    }
  }
}

/* Adds positions first .. last - 1 to the chains of query i alone. */
ALWAYS_INLINE void mix_own(lanes *sum, const attention_tile *tile,
                           const float *values, const int i, int32_t first,
                           int32_t last, const int vectors, const int left) {
  const float *p = tile->score + (size_t)i * tile->score_stride;
  for (int32_t t = first; t < last; t++) {
    const float *value = values + page_start(tile, (size_t)(t / LANES)) +
                         (size_t)(t % LANES) * tile->width;
    UNROLL for (int v = 0; v < vectors; v++) {
      sum[i * vectors + v] = lanes_fma(
          lanes_set(p[t]), lanes_fetch(value + (size_t)v * LANES, left),
          sum[i * vectors + v]);
    }
  }
}

/* Output elements d .. of all queries, `vectors` lanes wide; `left` of them in
 * the last when that is cut short (vectors = 1 then). */
ALWAYS_INLINE void mix_values(const attention_tile *tile, size_t d,
                              const int queries, const int vectors,
                              const int left) {
  lanes sum[MOERUN_ATTENTION_QUERIES * 2];
  const float *values = tile->view->values + d;
  const int32_t common = lowest(tile->end, queries);
  int32_t t = highest(tile->begin, queries);
  if (t > common) t = common;
  UNROLL for (int i = 0; i < queries * vectors; i++) {
    sum[i] = lanes_set(0.0F);
  }
  UNROLL for (int i = 0; i < queries && t > 0; i++) {
    mix_own(sum, tile, values, i, tile->begin[i], t, vectors, left);
  }
  while (t < common) {
    const int32_t next = t - t % LANES + LANES;
    const int32_t end = next < common ? next : common;
    const float *value = values + page_start(tile, (size_t)(t / LANES)) +
                         (size_t)(t % LANES) * tile->width;
    for (; t < end; t++, value += tile->width) {
      mix_position(sum, tile, value, t, queries, vectors, left);
    }
  }
  UNROLL for (int i = 0; i < queries; i++) {
    const int32_t first = tile->begin[i] > common ? tile->begin[i] : common;
    mix_own(sum, tile, values, i, first, tile->end[i], vectors, left);
    UNROLL for (int v = 0; v < vectors; v++) {
      const lanes mixed =
          lanes_div(sum[i * vectors + v], lanes_set(tile->sum[i]));
      lanes_put(tile->out[i] + d + (size_t)v * LANES, mixed, left);
    }
  }
}

ALWAYS_INLINE void attend(attention_tile *tile, const int queries,
                          const int pages, const int vectors) {
  const size_t num_pages =
      ((size_t)highest(tile->end, queries) + LANES - 1) / LANES;
  size_t page = (size_t)lowest(tile->begin, queries) / LANES;
  for (; page + (size_t)pages <= num_pages; page += (size_t)pages) {
    score_pages(tile, page, queries, pages);
  }
  for (; page < num_pages; page++) {
    score_pages(tile, page, queries, 1);
  }
  for (int i = 0; i < queries; i++) {
    const size_t begin = (size_t)tile->begin[i];
    float *score = tile->score + (size_t)i * tile->score_stride + begin;
    tile->sum[i] = exponentials(score, score, (size_t)tile->end[i] - begin,
                                tile->scale, tile->sink[i]);
  }
  const size_t wide = (size_t)vectors * LANES;
  size_t d = 0;
  for (; d + wide <= tile->width; d += wide) {
    mix_values(tile, d, queries, vectors, LANES);
  }
  for (; d + LANES <= tile->width; d += LANES) {
    mix_values(tile, d, queries, 1, LANES);
  }
  if (d < tile->width) {
    mix_values(tile, d, queries, 1, (int)(tile->width - d));
  }
}

/* How many of `left` queries the next tile takes. */
static size_t tile_queries(size_t left) {
#if defined(SET_AVX512)
  return left >= 12 ? 12 : left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
#else
  return left >= 6 ? 6 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
#endif
}

/* Registers: queries * pages and queries * vectors accumulators at a time. */
static void attend_tile(attention_tile *tile, int queries) {
  switch (queries) {
#if defined(SET_AVX512)
  case 12: attend(tile, 12, 1, 2); break;
  case 8: attend(tile, 8, 1, 2); break;
  case 4: attend(tile, 4, 2, 4); break;
  case 2: attend(tile, 2, 4, 4); break;
  default: attend(tile, 1, 4, 8); break;
#else
  case 6: attend(tile, 6, 1, 1); break;
  case 4: attend(tile, 4, 1, 1); break;
  case 2: attend(tile, 2, 2, 2); break;
  default: attend(tile, 1, 4, 4); break;
#endif
  }
}

/* The rows a call works on, and how they split into heads. */
typedef struct attention_rows {
  const moerun__attention_rows *of;
  size_t out_stride;
  size_t group; /* query heads of a kv head */
} attention_rows;

/* Points the tile at `queries` queries of kv head `head` from number `first`
 * on, counting the group's heads of a row, then the next row's. */
static void take_queries(attention_tile *tile, const attention_rows *rows,
                         size_t head, size_t first, size_t queries) {
  for (size_t i = 0; i < queries; i++) {
    const size_t row = (first + i) / rows->group;
    const size_t q_head = head * rows->group + (first + i) % rows->group;
    const size_t column = q_head * tile->width;
    const int32_t position = rows->of->first_position + (int32_t)row;
    tile->begin[i] = moerun__first_seen(position, rows->of->window);
    tile->end[i] = position + 1;
    tile->sink[i] = rows->of->sinks != NULL ? rows->of->sinks + q_head : NULL;
    tile->out[i] = rows->of->out + row * rows->out_stride + column;
    const float *q = rows->of->q + row * rows->of->q_stride + column;
    for (size_t d = 0; d < tile->width; d++) {
      tile->q[d * queries + i] = q[d];
    }
  }
}

static void set_attention(moerun__queue *queue,
                          const moerun__attention_rows *of,
                          const moerun__kv_view *view,
                          const moerun__attention_shape *shape,
                          float *scratch) {
  const size_t width = (size_t)shape->head_dim;
  const attention_rows rows = {
      .of = of,
      .out_stride = (size_t)shape->num_heads * width,
      .group = (size_t)(shape->num_heads / shape->num_kv_heads),
  };
  const int64_t positions = (int64_t)of->first_position + of->num_rows;
  (void)queue;
  const size_t num_queries = (size_t)of->num_rows * rows.group;
  attention_tile tile = {.view = view, .width = width, .scale = shape->scale};
  tile.score_stride = (size_t)moerun__round_up(positions, LANES) + LANES;
  tile.score = scratch;
  tile.q = scratch + MOERUN_ATTENTION_QUERIES * tile.score_stride;
  for (size_t head = 0; head < (size_t)shape->num_kv_heads; head++) {
    tile.block = head * width * MOERUN_PAGE_POSITIONS;
    size_t queries = 0;
    for (size_t first = 0; first < num_queries; first += queries) {
      queries = tile_queries(num_queries - first);
      take_queries(&tile, &rows, head, first, queries);
      attend_tile(&tile, (int)queries);
    }
  }
}

#endif
