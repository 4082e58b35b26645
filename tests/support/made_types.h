/* Two element types that nobody has, to show what the table of types carries:
 * M8, a byte for each element with a factor for 32 of them beside the bytes,
 * and M4, blocks of 32 elements of half a byte behind the factor that they
 * share. */
#ifndef MOERUN_TESTS_MADE_TYPES_H
#define MOERUN_TESTS_MADE_TYPES_H

#include "runtime/base/dtype.h"
#include "support/cmocka.h"

enum { MADE_BLOCK = 32, M4_BYTES = 4 + MADE_BLOCK / 2 };

static inline void widen_m8(float *out, const void *blocks, size_t num_blocks) {
  const signed char *bytes = blocks;
  for (size_t b = 0; b < num_blocks; b++) {
    out[b] = (float)bytes[b] * 0.125F;
  }
}

static inline void narrow_m8(void *blocks, const float *values,
                             size_t num_blocks) {
  signed char *bytes = blocks;
  for (size_t b = 0; b < num_blocks; b++) {
    bytes[b] = (signed char)(values[b] * 127);
  }
}

static inline void widen_m4(float *out, const void *blocks, size_t num_blocks) {
  const unsigned char *bytes = blocks;
  for (size_t b = 0; b < num_blocks; b++, bytes += M4_BYTES) {
    float factor = 0;
    memcpy(&factor, bytes, sizeof factor);
    for (size_t i = 0; i < MADE_BLOCK; i++) {
      const int nibble = bytes[4 + i / 2] >> 4 * (i % 2) & 15;
      out[b * MADE_BLOCK + i] = factor * (float)(nibble - 8);
    }
  }
}

/* -128 is what this type has for a number that is none. */
static inline size_t unsound_m8(const void *blocks, size_t num_blocks) {
  const signed char *bytes = blocks;
  size_t i = 0;
  while (i < num_blocks && bytes[i] != -128) {
    i++;
  }
  return i;
}

static const moerun__dtype_row made_m8 = {.name = "M8",
                                          .block = 1,
                                          .block_bytes = 1,
                                          .scale_block = MADE_BLOCK,
                                          .widen = widen_m8,
                                          .narrow = narrow_m8,
                                          .first_unsound = unsound_m8};

static const moerun__dtype_row made_m4 = {.name = "M4",
                                          .block = MADE_BLOCK,
                                          .block_bytes = M4_BYTES,
                                          .widen = widen_m4};

/* The type with this row, which is in the table from the first call on. */
static inline moerun__dtype made_type(const moerun__dtype_row *row) {
  moerun__dtype dtype = MOERUN_DTYPE_F32;
  if (!moerun__dtype_find(&dtype, row->name)) {
    assert_int_equal(moerun__dtype_add(&dtype, row), MOERUN_OK);
  }
  return dtype;
}

#endif
