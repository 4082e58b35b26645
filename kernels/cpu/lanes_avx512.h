/* Sixteen floats in one AVX-512 register. */
#ifndef MOERUN_KERNELS_LANES_AVX512_H
#define MOERUN_KERNELS_LANES_AVX512_H

#include <immintrin.h>

typedef __m512 lanes;

static inline __mmask16 lanes_mask(int count) {
  return (__mmask16)((1U << count) - 1U);
}

static inline lanes lanes_set(float value) {
  return _mm512_set1_ps(value);
}

static inline lanes lanes_load(const float *p) {
  return _mm512_loadu_ps(p);
}

static inline lanes lanes_load_part(const float *p, int count) {
  return _mm512_maskz_loadu_ps(lanes_mask(count), p);
}

static inline void lanes_store(float *p, lanes a) {
  _mm512_storeu_ps(p, a);
}

static inline void lanes_store_part(float *p, lanes a, int count) {
  _mm512_mask_storeu_ps(p, lanes_mask(count), a);
}

static inline lanes widen_bf16(__m256i half) {
  const __m512i wide = _mm512_cvtepu16_epi32(half);
  return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

static inline lanes lanes_load_bf16(const uint16_t *p) {
  return widen_bf16(_mm256_loadu_si256((const __m256i *)(const void *)p));
}

static inline lanes lanes_load_bf16_part(const uint16_t *p, int count) {
  return widen_bf16(_mm256_maskz_loadu_epi16(lanes_mask(count), p));
}

/* Rounds as moerun__f32_to_bf16 does. (The bf16 instructions of some
 * processors flush subnormals, so they are not used.) */
static inline __m256i round_bf16(lanes value) {
  const __m512i bits = _mm512_castps_si512(value);
  const __m512i high = _mm512_srli_epi32(bits, 16);
  const __m512i odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
  const __m512i up = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
  const __m512i near = _mm512_srli_epi32(_mm512_add_epi32(bits, up), 16);
  const __mmask16 is_nan = _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
  const __m512i both =
      _mm512_mask_or_epi32(near, is_nan, high, _mm512_set1_epi32(0x40));
  return _mm512_cvtepi32_epi16(both);
}

static inline void lanes_store_bf16(uint16_t *p, lanes a) {
  _mm256_storeu_si256((__m256i *)(void *)p, round_bf16(a));
}

static inline void lanes_store_bf16_part(uint16_t *p, lanes a, int count) {
  _mm256_mask_storeu_epi16(p, lanes_mask(count), round_bf16(a));
}

static inline lanes lanes_add(lanes a, lanes b) {
  return _mm512_add_ps(a, b);
}

static inline lanes lanes_sub(lanes a, lanes b) {
  return _mm512_sub_ps(a, b);
}

static inline lanes lanes_mul(lanes a, lanes b) {
  return _mm512_mul_ps(a, b);
}

static inline lanes lanes_div(lanes a, lanes b) {
  return _mm512_div_ps(a, b);
}

static inline lanes lanes_fma(lanes a, lanes b, lanes c) {
  return _mm512_fmadd_ps(a, b, c);
}

static inline lanes lanes_fms(lanes a, lanes b, lanes c) {
  return _mm512_fmsub_ps(a, b, c);
}

static inline lanes lanes_max(lanes a, lanes b) {
  return _mm512_max_ps(a, b);
}

static inline lanes lanes_min(lanes a, lanes b) {
  return _mm512_min_ps(a, b);
}

static inline lanes lanes_keep(lanes a, int count, float rest) {
  return _mm512_mask_mov_ps(_mm512_set1_ps(rest), lanes_mask(count), a);
}

static inline lanes lanes_exponent(lanes a) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(a), 23));
}

static inline float lanes_sum(lanes a) {
  const __m256 eight =
      _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight),
                                 _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}

static inline float lanes_highest(lanes a) {
  const __m256 eight =
      _mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight),
                                 _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps(two, two, 1)));
}

#endif
