/* Element types of weights, rows and files, and their conversions. */
#ifndef MOERUN_BASE_TENSOR_H
#define MOERUN_BASE_TENSOR_H

#include <stdint.h>
#include <string.h>

typedef enum moerun__dtype {
  MOERUN_DTYPE_F32 = 0,
  MOERUN_DTYPE_BF16,
  MOERUN_DTYPE_F16,
} moerun__dtype;

static inline size_t moerun__dtype_bytes(moerun__dtype dtype) {
  return dtype == MOERUN_DTYPE_F32 ? 4 : 2;
}

static inline const char *moerun__dtype_name(moerun__dtype dtype) {
  return dtype == MOERUN_DTYPE_F32    ? "F32"
         : dtype == MOERUN_DTYPE_BF16 ? "BF16"
                                      : "F16";
}

static inline float moerun__bits_to_f32(uint32_t bits) {
  float value = 0.0F;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static inline uint32_t moerun__f32_to_bits(float value) {
  uint32_t bits = 0;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

static inline float moerun__bf16_to_f32(uint16_t half) {
  return moerun__bits_to_f32((uint32_t)half << 16);
}

/* Round to nearest, ties to even; NaN stays a (quiet) NaN. */
static inline uint16_t moerun__f32_to_bf16(float value) {
  const uint32_t bits = moerun__f32_to_bits(value);
  if ((bits & 0x7fffffffU) > 0x7f800000U) {
    return (uint16_t)((bits >> 16) | 0x40U);
  }
  return (uint16_t)((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
}

static inline float moerun__f16_to_f32(uint16_t half) {
  const uint32_t sign = (uint32_t)(half & 0x8000U) << 16;
  const uint32_t exponent = (half >> 10) & 0x1fU;
  const uint32_t mantissa = half & 0x3ffU;
  if (exponent == 0x1fU) { /* infinity or NaN (quieted as hardware does) */
    const uint32_t quiet = mantissa != 0 ? 0x400000U : 0U;
    return moerun__bits_to_f32(sign | 0x7f800000U | quiet | (mantissa << 13));
  }
  if (exponent != 0) {
    return moerun__bits_to_f32(sign | ((exponent + 112U) << 23) |
                               (mantissa << 13));
  }
  /* Zero or subnormal: mantissa * 2^-24 is exact in fp32. */
  const float magnitude = (float)mantissa * 0x1p-24F;
  return moerun__bits_to_f32(sign | moerun__f32_to_bits(magnitude));
}

/* Round to nearest, ties to even; too large: infinity; NaN stays a NaN. */
static inline uint16_t moerun__f32_to_f16(float value) {
  const uint32_t bits = moerun__f32_to_bits(value);
  const uint32_t sign = (bits >> 16) & 0x8000U;
  const uint32_t magnitude = bits & 0x7fffffffU;
  if (magnitude > 0x7f800000U) return (uint16_t)(sign | 0x7e00U);
  if (magnitude >= 0x477ff000U) return (uint16_t)(sign | 0x7c00U); /* 65520 */
  if (magnitude < 0x38800000U) { /* below 2^-14: a multiple of 2^-24 */
    /* 0.5 has steps of 2^-24, so that the sum is rounded as it should be. */
    const float sum = moerun__bits_to_f32(magnitude) + 0.5F;
    return (uint16_t)(sign | (moerun__f32_to_bits(sum) - 0x3f000000U));
  }
  const uint32_t rounded = magnitude + 0xfffU + ((magnitude >> 13) & 1U);
  return (uint16_t)(sign | ((rounded - 0x38000000U) >> 13));
}

/* The fp32 value of element i of an array of `dtype`. */
static inline float moerun__element(const void *array, moerun__dtype dtype,
                                    size_t i) {
  if (dtype == MOERUN_DTYPE_F32) {
    float value = 0.0F;
    memcpy(&value, (const char *)array + 4 * i, sizeof value);
    return value;
  }
  uint16_t half = 0;
  memcpy(&half, (const char *)array + 2 * i, sizeof half);
  return dtype == MOERUN_DTYPE_BF16 ? moerun__bf16_to_f32(half)
                                    : moerun__f16_to_f32(half);
}

#endif
