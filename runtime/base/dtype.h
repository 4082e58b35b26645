/* Element types of weights, rows and files: one row of a table each, and the
 * conversions of the types that processors know. Whoever stores, reads or sends
 * elements asks the table; a type that is not in it cannot be taken for
 * another. */
#ifndef MOERUN_BASE_DTYPE_H
#define MOERUN_BASE_DTYPE_H

#include "runtime/base/status.h"

#include <stdint.h>
#include <string.h>

typedef enum moerun__dtype {
  MOERUN_DTYPE_F32 = 0,
  MOERUN_DTYPE_BF16,
  MOERUN_DTYPE_F16,
} moerun__dtype;

enum {
  MOERUN_MAX_DTYPES = 16,
  MOERUN_DTYPE_NAMES = 12 * MOERUN_MAX_DTYPES, /* bytes */
  MOERUN_MAX_BLOCK = 256, /* elements of a block, or that share a factor */
  MOERUN_MAX_BLOCK_BYTES = 4 * MOERUN_MAX_BLOCK,
};

/* A row of a matrix is stored as blocks of neighbouring elements; the last one
 * may be filled up. */
typedef struct moerun__dtype_row {
  const char *name;       /* as safetensors spells it, at most 7 characters */
  const char *torch_name; /* as config.json spells it; NULL: it does not */
  const char *option;     /* as options spell it, in lower case; NULL: models
                             of random weights are not written in it         */
  int32_t block;          /* elements of a block; divides MOERUN_MAX_BLOCK */
  int32_t block_bytes;
  int32_t scale_block; /* elements of a row that share a factor, beside the
                          blocks; divides MOERUN_MAX_BLOCK; 0: none */
  /* out[num_blocks * block] = the blocks' elements, before any factor. */
  void (*widen)(float *out, const void *blocks, size_t num_blocks);
  /* Rounds values[num_blocks * block] to nearest; NULL: nothing is written in
   * this type. */
  void (*narrow)(void *blocks, const float *values, size_t num_blocks);
  /* Number of the first element that is NaN or infinite, or of all; NULL: all
   * elements of this type are finite. */
  size_t (*first_unsound)(const void *blocks, size_t num_blocks);
} moerun__dtype_row;

/* The row of a type; NULL beyond the last. */
const moerun__dtype_row *moerun__dtype_at(moerun__dtype dtype);
/* Whether there is a type of this name, spelt as in the files; *out is it. */
int moerun__dtype_find(moerun__dtype *out, const char *name);
/* `option` of the i-th row that has one; NULL beyond the last. */
const char *moerun__dtype_written_at(int i);
/* All names, for messages: "F32, BF16 or F16". */
void moerun__dtype_names(char out[MOERUN_DTYPE_NAMES]);
/* Appends a row, which is borrowed, before any model is read. No type of the
 * program comes in this way: it is for tests, which show by types of their own
 * that whatever is particular to a type stands in its row. ERR_INVALID for a
 * row that breaks what is said above, or whose name is taken. */
moerun_status moerun__dtype_add(moerun__dtype *out,
                                const moerun__dtype_row *row);

const char *moerun__dtype_name(moerun__dtype dtype);
/* Bytes of a row of `count` elements, without factors beside them. */
size_t moerun__dtype_bytes(moerun__dtype dtype, size_t count);
/* Factors of a row of `count` elements; 0: the type has none. */
size_t moerun__dtype_scales(moerun__dtype dtype, size_t count);
/* Elements first .. first + count - 1 of a row = values[count], rounded;
 * `first` begins a block, and the last block is filled up with zeros. The
 * type's row has `narrow`. */
void moerun__narrow(void *row, moerun__dtype dtype, size_t first,
                    const float *values, size_t count);
/* out[count] = elements first .. first + count - 1 of a row, before any
 * factor. */
void moerun__widen(float *out, moerun__dtype dtype, const void *row,
                   size_t first, size_t count);
/* The element with number i of a row, before any factor. */
float moerun__element(const void *row, moerun__dtype dtype, size_t i);

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

#endif
