/* Seeded random numbers for tests. */
#ifndef MOERUN_TESTS_DRAW_H
#define MOERUN_TESTS_DRAW_H

#include "runtime/base/dtype.h"
#include "runtime/base/rng.h"

typedef struct draw {
  uint64_t seed;
  uint64_t next;
} draw;

/* Uniform in [low, high). */
static inline float draw_float(draw *from, double low, double high) {
  const double u = moerun__uniform(from->seed, 1, from->next++);
  return (float)(low + (high - low) * u);
}

/* Uniform in low .. high, both included. */
static inline int32_t draw_int(draw *from, int32_t low, int32_t high) {
  const double u = moerun__uniform(from->seed, 2, from->next++);
  return low + (int32_t)(u * (high - low + 1));
}

static inline void draw_floats(draw *from, float *out, size_t count, double low,
                               double high) {
  for (size_t i = 0; i < count; i++) {
    out[i] = draw_float(from, low, high);
  }
}

/* `count` elements of `dtype` (one in a block) in [-1, 1); F16 from a grid that
 * it holds. */
static inline void draw_elements(draw *from, void *out, size_t count,
                                 moerun__dtype dtype) {
  for (size_t i = 0; i < count; i++) {
    const float value = draw_float(from, -1, 1);
    if (dtype != MOERUN_DTYPE_F16) {
      moerun__narrow(out, dtype, i, &value, 1);
      continue;
    }
    /* subnormals too; one draw a statement: operands have no order */
    const int32_t exponent = draw_int(from, 0, 14);
    const int32_t mantissa = draw_int(from, 0, 1023);
    const int32_t sign = draw_int(from, 0, 1);
    const uint16_t half = (uint16_t)(sign << 15 | exponent << 10 | mantissa);
    memcpy((char *)out + 2 * i, &half, sizeof half);
  }
}

#endif
