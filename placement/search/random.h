/* The random numbers of the searches: xoroshiro128+ (Blackman and Vigna, 2018),
 * a nanosecond a draw, seeded by one block of the counter-based generator, so
 * that streams of one seed are independent. */
#ifndef MOERUN_SEARCH_RANDOM_H
#define MOERUN_SEARCH_RANDOM_H

#include "runtime/base/rng.h"

typedef struct moerun__random {
  uint64_t a;
  uint64_t b;
} moerun__random;

static inline moerun__random moerun__random_start(uint64_t seed,
                                                  uint64_t stream) {
  uint32_t r[4];
  moerun__philox(r, seed, stream, 0);
  const moerun__random random = {(uint64_t)r[1] << 32 | r[0],
                                 (uint64_t)r[3] << 32 | r[2] | 1};
  return random;
}

static inline uint64_t moerun__random_bits(moerun__random *random) {
  const uint64_t a = random->a;
  const uint64_t b = random->b ^ a;
  const uint64_t sum = a + random->b;
  random->a = (a << 24 | a >> 40) ^ b ^ (b << 16);
  random->b = b << 37 | b >> 27;
  return sum;
}

/* 0 .. bound - 1 from the upper half of `bits`; bound < 2^31. */
static inline int32_t moerun__random_below(uint64_t bits, int32_t bound) {
  return (int32_t)((bits >> 32) * (uint64_t)bound >> 32);
}

#endif
