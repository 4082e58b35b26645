/* Subnormal numbers taken as zero, going in and coming out, while linear works
 * on rounded rows: what the instructions on pairs of BF16 do by themselves.
 * Elsewhere than on x86 the portable tile does it number by number. */
#ifndef MOERUN_KERNELS_FLUSH_H
#define MOERUN_KERNELS_FLUSH_H

#include <math.h>

#if defined(__x86_64__)
#include <xmmintrin.h>

enum { FLUSH_TO_ZERO = 0x8000, SUBNORMALS_ARE_ZERO = 0x40, FLUSH_BY_HAND = 0 };

static inline unsigned flush_begin(void) {
  const unsigned before = _mm_getcsr();
  _mm_setcsr(before | FLUSH_TO_ZERO | SUBNORMALS_ARE_ZERO);
  return before;
}

/* Subnormals as they are, until flush_end. */
static inline unsigned flush_pause(void) {
  const unsigned before = _mm_getcsr();
  _mm_setcsr(before & ~(unsigned)(FLUSH_TO_ZERO | SUBNORMALS_ARE_ZERO));
  return before;
}

static inline void flush_end(unsigned before) {
  _mm_setcsr(before);
}
#else
enum { FLUSH_BY_HAND = 1 };

static inline unsigned flush_begin(void) {
  return 0;
}

static inline unsigned flush_pause(void) {
  return 0;
}

static inline void flush_end(unsigned before) {
  (void)before;
}
#endif

static inline float flushed(float value) {
  return fabsf(value) < 0x1p-126F ? copysignf(0.0F, value) : value;
}

#endif
