/* Sixteen floats in two AVX2 registers. */
#ifndef MOERUN_KERNELS_LANES_AVX2_H
#define MOERUN_KERNELS_LANES_AVX2_H

#include <immintrin.h>

typedef struct lanes {
  __m256 a; /* lanes 0 .. 7  */
  __m256 b; /* lanes 8 .. 15 */
} lanes;

/* All ones in the lanes first .. first + 7 that are below count. */
static inline __m256i lanes_mask(int first, int count) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(count - first), lane);
}

static inline lanes lanes_set(float value) {
  return (lanes){_mm256_set1_ps(value), _mm256_set1_ps(value)};
}

static inline lanes lanes_load(const float *p) {
  return (lanes){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}

static inline lanes lanes_load_part(const float *p, int count) {
  return (lanes){_mm256_maskload_ps(p, lanes_mask(0, count)),
                 _mm256_maskload_ps(p + 8, lanes_mask(8, count))};
}

static inline void lanes_store(float *p, lanes r) {
  _mm256_storeu_ps(p, r.a);
  _mm256_storeu_ps(p + 8, r.b);
}

static inline void lanes_store_part(float *p, lanes r, int count) {
  _mm256_maskstore_ps(p, lanes_mask(0, count), r.a);
  _mm256_maskstore_ps(p + 8, lanes_mask(8, count), r.b);
}

static inline __m256 widen_bf16(__m128i half) {
  const __m256i wide = _mm256_cvtepu16_epi32(half);
  return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}

static inline lanes lanes_load_bf16(const uint16_t *p) {
  return (lanes){
      widen_bf16(_mm_loadu_si128((const __m128i *)(const void *)p)),
      widen_bf16(_mm_loadu_si128((const __m128i *)(const void *)(p + 8)))};
}

static inline lanes lanes_load_bf16_part(const uint16_t *p, int count) {
  uint16_t whole[LANES] = {0};
  memcpy(whole, p, (size_t)count * sizeof *p);
  return lanes_load_bf16(whole);
}

/* The upper halves after rounding as moerun__f32_to_bf16 does. */
static inline __m256i round_bf16(__m256 value) {
  const __m256i bits = _mm256_castps_si256(value);
  const __m256i high = _mm256_srli_epi32(bits, 16);
  const __m256i odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
  const __m256i up = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
  const __m256i near = _mm256_srli_epi32(_mm256_add_epi32(bits, up), 16);
  const __m256i nan = _mm256_or_si256(high, _mm256_set1_epi32(0x40));
  const __m256 is_nan = _mm256_cmp_ps(value, value, _CMP_UNORD_Q);
  return _mm256_blendv_epi8(near, nan, _mm256_castps_si256(is_nan));
}

static inline void lanes_store_bf16(uint16_t *p, lanes r) {
  const __m256i pairs = _mm256_packus_epi32(round_bf16(r.a), round_bf16(r.b));
  _mm256_storeu_si256((__m256i *)(void *)p,
                      _mm256_permute4x64_epi64(pairs, 0xd8));
}

static inline void lanes_store_bf16_part(uint16_t *p, lanes r, int count) {
  uint16_t whole[LANES];
  lanes_store_bf16(whole, r);
  memcpy(p, whole, (size_t)count * sizeof *p);
}

static inline lanes lanes_add(lanes x, lanes y) {
  return (lanes){_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)};
}

static inline lanes lanes_sub(lanes x, lanes y) {
  return (lanes){_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)};
}

static inline lanes lanes_mul(lanes x, lanes y) {
  return (lanes){_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)};
}

static inline lanes lanes_div(lanes x, lanes y) {
  return (lanes){_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)};
}

static inline lanes lanes_fma(lanes x, lanes y, lanes z) {
  return (lanes){_mm256_fmadd_ps(x.a, y.a, z.a),
                 _mm256_fmadd_ps(x.b, y.b, z.b)};
}

static inline lanes lanes_fms(lanes x, lanes y, lanes z) {
  return (lanes){_mm256_fmsub_ps(x.a, y.a, z.a),
                 _mm256_fmsub_ps(x.b, y.b, z.b)};
}

static inline lanes lanes_max(lanes x, lanes y) {
  return (lanes){_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)};
}

static inline lanes lanes_min(lanes x, lanes y) {
  return (lanes){_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)};
}

static inline lanes lanes_keep(lanes x, int count, float rest) {
  const __m256 fill = _mm256_set1_ps(rest);
  const __m256 low = _mm256_castsi256_ps(lanes_mask(0, count));
  const __m256 high = _mm256_castsi256_ps(lanes_mask(8, count));
  return (lanes){_mm256_blendv_ps(fill, x.a, low),
                 _mm256_blendv_ps(fill, x.b, high)};
}

static inline lanes lanes_exponent(lanes x) {
  const __m256i a = _mm256_slli_epi32(_mm256_castps_si256(x.a), 23);
  const __m256i b = _mm256_slli_epi32(_mm256_castps_si256(x.b), 23);
  return (lanes){_mm256_castsi256_ps(a), _mm256_castsi256_ps(b)};
}

static inline float lanes_sum(lanes x) {
  const __m256 eight = _mm256_add_ps(x.a, x.b);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight),
                                 _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}

static inline float lanes_highest(lanes x) {
  const __m256 eight = _mm256_max_ps(x.a, x.b);
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight),
                                 _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps(two, two, 1)));
}

#endif
