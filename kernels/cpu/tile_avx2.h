/* A tile of `linear` in AVX2: up to 6 rows by half a panel, or up to 3 rows by
 * a panel; 12 accumulators of 8 outputs.
 *
 * BF16 weights are widened as in the AVX-512 tile: even outputs by a shift,
 * odd ones by a mask, interleaved where they meet y; prefetching likewise. */
#ifndef MOERUN_KERNELS_TILE_AVX2_H
#define MOERUN_KERNELS_TILE_AVX2_H

enum {
  TILE_ROWS = 6,
  STREAM_ROWS = 3,
  PREFETCH_INPUTS = 64,
  HALF_PANEL = MOERUN_PANEL / 2,
  HAS_PAIRS = 0
};

static int tile_panels(int rows) {
  (void)rows;
  return 1;
}

/* The weights of half a panel and one input: even and odd outputs for BF16,
 * lower and upper for the others. */
ALWAYS_INLINE lanes load_weights(const char *p, const moerun__dtype dtype) {
  if (dtype == MOERUN_DTYPE_F32) {
    return lanes_load((const float *)(const void *)p);
  }
  if (dtype == MOERUN_DTYPE_BF16) {
    const __m256i both = _mm256_load_si256((const __m256i *)(const void *)p);
    const __m256i odd = _mm256_set1_epi32((int)0xffff0000U);
    return (lanes){_mm256_castsi256_ps(_mm256_slli_epi32(both, 16)),
                   _mm256_castsi256_ps(_mm256_and_si256(both, odd))};
  }
  const __m128i *half = (const __m128i *)(const void *)p;
  return (lanes){_mm256_cvtph_ps(_mm_load_si128(half)),
                 _mm256_cvtph_ps(_mm_load_si128(half + 1))};
}

/* 16 outputs of y as load_weights orders them, and back. */
ALWAYS_INLINE lanes load_outputs(const float *y, int columns,
                                 const moerun__dtype dtype) {
  const lanes r =
      columns == HALF_PANEL ? lanes_load(y) : lanes_load_part(y, columns);
  if (dtype != MOERUN_DTYPE_BF16) return r;
  const __m256 even = _mm256_shuffle_ps(r.a, r.b, 0x88);
  const __m256 odd = _mm256_shuffle_ps(r.a, r.b, 0xdd);
  return (lanes){
      _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(even), 0xd8)),
      _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(odd), 0xd8))};
}

ALWAYS_INLINE void store_outputs(float *y, lanes sum, int columns,
                                 const moerun__dtype dtype) {
  lanes r = sum;
  if (dtype == MOERUN_DTYPE_BF16) {
    const __m256 low = _mm256_unpacklo_ps(sum.a, sum.b);
    const __m256 high = _mm256_unpackhi_ps(sum.a, sum.b);
    r.a = _mm256_permute2f128_ps(low, high, 0x20);
    r.b = _mm256_permute2f128_ps(low, high, 0x31);
  }
  if (columns == HALF_PANEL) {
    lanes_store(y, r);
  } else {
    lanes_store_part(y, r, columns);
  }
}

/* Half panels first .. first + halves - 1 of the job's panel. */
ALWAYS_INLINE void tile(const linear_tile *job, const moerun__dtype dtype,
                        const int rows, int first, const int halves) {
  lanes sum[TILE_ROWS];
  const size_t step = MOERUN_PANEL * (dtype == MOERUN_DTYPE_F32 ? 4UL : 2UL);
  float *y = job->y + (size_t)first * HALF_PANEL;
  int columns[2];
  for (int h = 0; h < halves; h++) {
    const int left = job->columns - (first + h) * HALF_PANEL;
    columns[h] = left < 0 ? 0 : left < HALF_PANEL ? left : HALF_PANEL;
  }
  UNROLL for (int i = 0; i < rows * halves; i++) {
    sum[i] = lanes_set(0.0F);
    if (job->resume) {
      sum[i] = load_outputs(y + (size_t)(i % rows) * job->y_stride +
                                (size_t)(i / rows) * HALF_PANEL,
                            columns[i / rows], dtype);
    }
  }
  const char *panel = job->panel + (size_t)first * (step / 2);
  const float *x = job->x;
  for (size_t k = 0; k < job->count; k++, panel += step, x += rows) {
    if (rows > 2) {
      _mm_prefetch(panel + PREFETCH_INPUTS * step, _MM_HINT_T0);
    }
    UNROLL for (int h = 0; h < halves; h++) {
      const lanes w = load_weights(panel + (size_t)h * (step / 2), dtype);
      UNROLL for (int r = 0; r < rows; r++) {
        const __m256 v = _mm256_set1_ps(x[r]);
        sum[h * rows + r].a = _mm256_fmadd_ps(v, w.a, sum[h * rows + r].a);
        sum[h * rows + r].b = _mm256_fmadd_ps(v, w.b, sum[h * rows + r].b);
      }
    }
  }
  UNROLL for (int i = 0; i < rows * halves; i++) {
    store_outputs(y + (size_t)(i % rows) * job->y_stride +
                      (size_t)(i / rows) * HALF_PANEL,
                  sum[i], columns[i / rows], dtype);
  }
}

ALWAYS_INLINE void halves(const linear_tile *job, const moerun__dtype dtype,
                          const int rows) {
  tile(job, dtype, rows, 0, 1);
  if (job->columns > HALF_PANEL) tile(job, dtype, rows, 1, 1);
}

ALWAYS_INLINE void tile_of(const linear_tile *job, const moerun__dtype dtype,
                           int rows) {
  switch (rows) {
  case 1: tile(job, dtype, 1, 0, 2); break;
  case 2: tile(job, dtype, 2, 0, 2); break;
  case 3: tile(job, dtype, 3, 0, 2); break;
  case 4: halves(job, dtype, 4); break;
  case 5: halves(job, dtype, 5); break;
  default: halves(job, dtype, 6); break;
  }
}

static void tile_f32(const linear_tile *job, int rows) {
  tile_of(job, MOERUN_DTYPE_F32, rows);
}

static void tile_bf16(const linear_tile *job, int rows) {
  tile_of(job, MOERUN_DTYPE_BF16, rows);
}

static void tile_f16(const linear_tile *job, int rows) {
  tile_of(job, MOERUN_DTYPE_F16, rows);
}

static void run_tile(const linear_tile *job, moerun__dtype dtype, int rows,
                     int panels) {
  (void)panels;
  if (dtype == MOERUN_DTYPE_BF16) {
    tile_bf16(job, rows);
  } else if (dtype == MOERUN_DTYPE_F16) {
    tile_f16(job, rows);
  } else {
    tile_f32(job, rows);
  }
}

#endif
