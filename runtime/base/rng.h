/* Philox4x32-10 (Salmon et al., SC'11): a counter-based generator. A draw is a
 * pure function of (key, counter), so that a request's samples depend on its
 * seed and its token index alone, never on its neighbours. */
#ifndef MOERUN_BASE_RNG_H
#define MOERUN_BASE_RNG_H

#include <stdint.h>

static inline void moerun__philox(uint32_t out[4], uint64_t key,
                                  uint64_t counter_high, uint64_t counter_low) {
  uint32_t c[4] = {(uint32_t)counter_low, (uint32_t)(counter_low >> 32),
                   (uint32_t)counter_high, (uint32_t)(counter_high >> 32)};
  uint32_t k0 = (uint32_t)key;
  uint32_t k1 = (uint32_t)(key >> 32);
  for (int round = 0; round < 10; round++) {
    const uint64_t p0 = (uint64_t)0xD2511F53U * c[0];
    const uint64_t p1 = (uint64_t)0xCD9E8D57U * c[2];
    const uint32_t next0 = (uint32_t)(p1 >> 32) ^ c[1] ^ k0;
    const uint32_t next2 = (uint32_t)(p0 >> 32) ^ c[3] ^ k1;
    c[1] = (uint32_t)p1;
    c[3] = (uint32_t)p0;
    c[0] = next0;
    c[2] = next2;
    k0 += 0x9E3779B9U;
    k1 += 0xBB67AE85U;
  }
  for (int i = 0; i < 4; i++) {
    out[i] = c[i];
  }
}

/* Uniform in [0, 1), 53 bits. */
static inline double moerun__uniform(uint64_t key, uint64_t counter_high,
                                     uint64_t counter_low) {
  uint32_t r[4];
  moerun__philox(r, key, counter_high, counter_low);
  const uint64_t bits = ((uint64_t)r[1] << 32 | r[0]) >> 11;
  return (double)bits * 0x1p-53;
}

#endif
