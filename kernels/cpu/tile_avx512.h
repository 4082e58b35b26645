/* A tile of `linear` in AVX-512: up to 12 rows by a panel, or 6 by two: 24
 * accumulators.
 *
 * 16-bit weights are widened in the loop. One load brings a panel's 32 bf16 of
 * one input; those with even outputs are moved up by a shift, those with odd
 * outputs kept by a mask, which is half the work of widening them in order.
 * The accumulators therefore hold even and odd outputs and are interleaved
 * where they meet y.
 *
 * The processor's own prefetcher keeps up where memory is the limit, and
 * instructions only disturb it there (1 or 2 rows); with more rows it
 * falls behind the arithmetic, and a line is asked for 64 inputs ahead. */
#ifndef MOERUN_KERNELS_TILE_AVX512_H
#define MOERUN_KERNELS_TILE_AVX512_H

enum { TILE_ROWS = 12, STREAM_ROWS = 12, PREFETCH_INPUTS = 64 };

/* Panels at a time for so many rows: enough chains to hide the latency of the
 * multiply-add, few enough for the registers. */
static int tile_panels(int rows) {
  return rows <= 6 ? 2 : 1;
}

typedef struct weight_pair {
  __m512 a;
  __m512 b;
} weight_pair;

/* The weights of a panel and one input: even and odd outputs for BF16, lower
 * and upper for the others. */
ALWAYS_INLINE weight_pair load_weights(const char *p,
                                       const moerun__dtype dtype) {
  if (dtype == MOERUN_DTYPE_F32) {
    const float *f = (const float *)(const void *)p;
    return (weight_pair){_mm512_load_ps(f), _mm512_load_ps(f + 16)};
  }
  if (dtype == MOERUN_DTYPE_BF16) {
    const __m512i both = _mm512_load_si512(p);
    const __m512i odd = _mm512_set1_epi32((int)0xffff0000U);
    return (weight_pair){_mm512_castsi512_ps(_mm512_slli_epi32(both, 16)),
                         _mm512_castsi512_ps(_mm512_and_si512(both, odd))};
  }
  const __m256i *half = (const __m256i *)(const void *)p;
  return (weight_pair){_mm512_cvtph_ps(_mm256_load_si256(half)),
                       _mm512_cvtph_ps(_mm256_load_si256(half + 1))};
}

/* 32 outputs of y as load_weights orders them, and back. */
ALWAYS_INLINE weight_pair load_outputs(const float *y, __mmask32 mask,
                                       const moerun__dtype dtype) {
  const __m512 low = _mm512_maskz_loadu_ps((__mmask16)mask, y);
  const __m512 high = _mm512_maskz_loadu_ps((__mmask16)(mask >> 16), y + 16);
  if (dtype != MOERUN_DTYPE_BF16) return (weight_pair){low, high};
  const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20,
                                         22, 24, 26, 28, 30);
  const __m512i odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21,
                                        23, 25, 27, 29, 31);
  return (weight_pair){_mm512_permutex2var_ps(low, even, high),
                       _mm512_permutex2var_ps(low, odd, high)};
}

ALWAYS_INLINE void store_outputs(float *y, weight_pair sum, __mmask32 mask,
                                 const moerun__dtype dtype) {
  __m512 low = sum.a;
  __m512 high = sum.b;
  if (dtype == MOERUN_DTYPE_BF16) {
    const __m512i first = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20,
                                            5, 21, 6, 22, 7, 23);
    const __m512i last = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28,
                                           13, 29, 14, 30, 15, 31);
    low = _mm512_permutex2var_ps(sum.a, first, sum.b);
    high = _mm512_permutex2var_ps(sum.a, last, sum.b);
  }
  _mm512_mask_storeu_ps(y, (__mmask16)mask, low);
  _mm512_mask_storeu_ps(y + 16, (__mmask16)(mask >> 16), high);
}

ALWAYS_INLINE __mmask32 panel_mask(const linear_tile *job, int panel,
                                   int panels) {
  return panel + 1 < panels ? 0xffffffffU
                            : (__mmask32)((1ULL << job->columns) - 1);
}

ALWAYS_INLINE void fetch_ahead(const char *at, const size_t step) {
  for (size_t line = 0; line < step; line += 64) {
    _mm_prefetch(at + PREFETCH_INPUTS * step + line, _MM_HINT_T0);
  }
}

ALWAYS_INLINE void tile(const linear_tile *job, const moerun__dtype dtype,
                        const int rows, const int panels) {
  weight_pair sum[TILE_ROWS];
  UNROLL for (int i = 0; i < rows * panels; i++) {
    sum[i] = (weight_pair){_mm512_setzero_ps(), _mm512_setzero_ps()};
    if (job->resume) {
      sum[i] = load_outputs(job->y + (size_t)(i % rows) * job->y_stride +
                                (size_t)(i / rows) * MOERUN_PANEL,
                            panel_mask(job, i / rows, panels), dtype);
    }
  }
  const size_t step = MOERUN_PANEL * (dtype == MOERUN_DTYPE_F32 ? 4UL : 2UL);
  const char *panel = job->panel;
  const float *x = job->x;
  for (size_t k = 0; k < job->count; k++, panel += step, x += rows) {
    UNROLL for (int p = 0; p < panels; p++) {
      const char *at = panel + (size_t)p * job->panel_bytes;
      if (rows > 2) fetch_ahead(at, step);
      const weight_pair w = load_weights(at, dtype);
      UNROLL for (int r = 0; r < rows; r++) {
        const __m512 v = _mm512_set1_ps(x[r]);
        sum[p * rows + r].a = _mm512_fmadd_ps(v, w.a, sum[p * rows + r].a);
        sum[p * rows + r].b = _mm512_fmadd_ps(v, w.b, sum[p * rows + r].b);
      }
    }
  }
  UNROLL for (int i = 0; i < rows * panels; i++) {
    store_outputs(job->y + (size_t)(i % rows) * job->y_stride +
                      (size_t)(i / rows) * MOERUN_PANEL,
                  sum[i], panel_mask(job, i / rows, panels), dtype);
  }
}

#ifdef SET_BF16_PAIRS
enum { HAS_PAIRS = 1 };

/* Two inputs of a panel as pairs: even outputs, odd outputs; the first input
 * above the second. */
typedef struct pair_weights {
  __m512bh a;
  __m512bh b;
} pair_weights;

ALWAYS_INLINE pair_weights pair_up(__m512i first, __m512i second) {
  const __m512i upper = _mm512_set1_epi32((int)0xffff0000U);
  const __m512i even = _mm512_or_si512(_mm512_slli_epi32(first, 16),
                                       _mm512_andnot_si512(upper, second));
  const __m512i odd = _mm512_or_si512(_mm512_and_si512(first, upper),
                                      _mm512_srli_epi32(second, 16));
  return (pair_weights){(__m512bh)even, (__m512bh)odd};
}

/* As tile, two inputs a step. The instruction adds the product of the upper
 * halves to the sum, rounds, then that of the lower halves, and rounds: two
 * links of the chain. */
ALWAYS_INLINE void tile_pairs(const linear_tile *job, const int rows,
                              const int panels) {
  weight_pair sum[TILE_ROWS];
  UNROLL for (int i = 0; i < rows * panels; i++) {
    sum[i] = (weight_pair){_mm512_setzero_ps(), _mm512_setzero_ps()};
    if (job->resume) {
      sum[i] =
          load_outputs(job->y + (size_t)(i % rows) * job->y_stride +
                           (size_t)(i / rows) * MOERUN_PANEL,
                       panel_mask(job, i / rows, panels), MOERUN_DTYPE_BF16);
    }
  }
  const size_t step = MOERUN_PANEL * 2UL;
  const char *panel = job->panel;
  const float *x = job->x;
  for (size_t k = 0; k < job->count; k += 2, panel += 2 * step, x += rows) {
    UNROLL for (int p = 0; p < panels; p++) {
      const char *at = panel + (size_t)p * job->panel_bytes;
      if (rows > 2) fetch_ahead(at, 2 * step);
      const __m512i second = k + 1 < job->count ? _mm512_load_si512(at + step)
                                                : _mm512_setzero_si512();
      const pair_weights w = pair_up(_mm512_load_si512(at), second);
      UNROLL for (int r = 0; r < rows; r++) {
        const __m512bh v = (__m512bh)_mm512_castps_si512(_mm512_set1_ps(x[r]));
        sum[p * rows + r].a = _mm512_dpbf16_ps(sum[p * rows + r].a, v, w.a);
        sum[p * rows + r].b = _mm512_dpbf16_ps(sum[p * rows + r].b, v, w.b);
      }
    }
  }
  UNROLL for (int i = 0; i < rows * panels; i++) {
    store_outputs(job->y + (size_t)(i % rows) * job->y_stride +
                      (size_t)(i / rows) * MOERUN_PANEL,
                  sum[i], panel_mask(job, i / rows, panels), MOERUN_DTYPE_BF16);
  }
}
#else
enum { HAS_PAIRS = 0 };
#endif

ALWAYS_INLINE void any_tile(const linear_tile *job, const moerun__dtype dtype,
                            const int rows, const int panels, const int pairs) {
#ifdef SET_BF16_PAIRS
  if (pairs) {
    tile_pairs(job, rows, panels);
    return;
  }
#endif
  (void)pairs;
  tile(job, dtype, rows, panels);
}

/* Every number of rows has a tile of its own. */
ALWAYS_INLINE void tile_of(const linear_tile *job, const moerun__dtype dtype,
                           int rows, const int panels, const int pairs) {
  switch (rows) {
  case 1: any_tile(job, dtype, 1, panels, pairs); return;
  case 2: any_tile(job, dtype, 2, panels, pairs); return;
  case 3: any_tile(job, dtype, 3, panels, pairs); return;
  case 4: any_tile(job, dtype, 4, panels, pairs); return;
  case 5: any_tile(job, dtype, 5, panels, pairs); return;
  case 6: any_tile(job, dtype, 6, panels, pairs); return;
  case 7: any_tile(job, dtype, 7, 1, pairs); return;
  case 8: any_tile(job, dtype, 8, 1, pairs); return;
  case 9: any_tile(job, dtype, 9, 1, pairs); return;
  case 10: any_tile(job, dtype, 10, 1, pairs); return;
  case 11: any_tile(job, dtype, 11, 1, pairs); return;
  default: any_tile(job, dtype, 12, 1, pairs); return;
  }
}

ALWAYS_INLINE void tiles_of(const linear_tile *job, const moerun__dtype dtype,
                            int rows, int panels, const int pairs) {
  if (panels == 2) {
    tile_of(job, dtype, rows, 2, pairs);
  } else {
    tile_of(job, dtype, rows, 1, pairs);
  }
}

static void tile_f32(const linear_tile *job, int rows, int panels) {
  tiles_of(job, MOERUN_DTYPE_F32, rows, panels, 0);
}

static void tile_bf16(const linear_tile *job, int rows, int panels) {
  tiles_of(job, MOERUN_DTYPE_BF16, rows, panels, 0);
}

static void tile_f16(const linear_tile *job, int rows, int panels) {
  tiles_of(job, MOERUN_DTYPE_F16, rows, panels, 0);
}

#ifdef SET_BF16_PAIRS
static void tile_bf16_pairs(const linear_tile *job, int rows, int panels) {
  tiles_of(job, MOERUN_DTYPE_BF16, rows, panels, 1);
}
#endif

static void run_tile(const linear_tile *job, moerun__dtype dtype, int rows,
                     int panels) {
#ifdef SET_BF16_PAIRS
  if (job->pairs) {
    tile_bf16_pairs(job, rows, panels);
    return;
  }
#endif
  if (dtype == MOERUN_DTYPE_BF16) {
    tile_bf16(job, rows, panels);
  } else if (dtype == MOERUN_DTYPE_F16) {
    tile_f16(job, rows, panels);
  } else {
    tile_f32(job, rows, panels);
  }
}

#endif
