/* Whether numbers are sound: finite, and not so large that sums of their
 * squares are not, because a norm would make zeros of such a row. Nothing that
 * a model computes comes near. Told by the exponents: adding what the limit
 * lacks to 256 carries into the sign's place for numbers that reach it. No
 * branch in the loop, so that it runs at the speed of the cache. */
#ifndef MOERUN_BASE_FINITE_H
#define MOERUN_BASE_FINITE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { MOERUN_SOUND_POWER = 55 }; /* squares of 2^17 of them add up to 2^127 */

/* 1: all of x[count] are below 2^55 (3.6e16) in size; NaN never is. */
static inline int moerun__all_sound(const float *x, size_t count) {
  const uint32_t lack = (uint32_t)(256 - 127 - MOERUN_SOUND_POWER) << 23;
  uint32_t carried = 0;
  for (size_t i = 0; i < count; i++) {
    uint32_t bits = 0;
    memcpy(&bits, &x[i], sizeof bits);
    carried |= (bits & 0x7f800000U) + lack;
  }
  return carried >> 31 == 0;
}

#endif
