/* Sixteen fp32 lanes, the unit in which every small operation is written once
 * for all sets. Each function is one IEEE operation per lane, so the bits
 * depend on the order of calls alone and not on how wide the registers are.
 * That order is spelt out here instead of left to the compiler's vectoriser,
 * which may keep a plain loop's bits but not its speed.
 *
 *   _part(p, n)          only the first n lanes (0..16) are touched; others 0
 *   fma, fms             a b + c, a b - c, rounded once
 *   max, min             the second argument if either is NaN
 *   keep(a, n, rest)     the first n lanes of a, `rest` in the others
 *   exponent(a)          2^(i - 127) from a = 2^23 + i, 0 <= i <= 255
 *   sum                  the fixed tree of kernels.h                        */
#ifndef MOERUN_KERNELS_LANES_H
#define MOERUN_KERNELS_LANES_H

#include "kernels/kernels.h"

#include <math.h>

enum { LANES = 16 };

/* For functions whose constant arguments choose the registers they use: their
 * loops over small arrays must disappear. */
#define ALWAYS_INLINE static inline __attribute__((always_inline))
/* For loops that lose their registers where they are inlined. */
#define NEVER_INLINE static __attribute__((noinline))
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif

#if defined(SET_AVX512)
#include "kernels/cpu/lanes_avx512.h"
#elif defined(SET_AVX2)
#include "kernels/cpu/lanes_avx2.h"
#else
#include "kernels/cpu/lanes_portable.h"
#endif

/* e^x. x = n ln 2 + r with |r| <= ln 2 / 2: n comes out of an addition that
 * pushes the fraction out of the significand, r is exact up to the last bits
 * of ln 2 (its leading part has 16 bits), and e^r is a polynomial of degree 6
 * fitted with relative error 4e-9. 2^n is applied in two factors, so that
 * results below the normal range are rounded once. -inf gives 0, beyond
 * 88.72 infinity, NaN NaN; the error is at most 2 units in the last place. */
static inline lanes lanes_exp(lanes x) {
  const lanes magic = lanes_set(0x1.8p23F);
  x = lanes_min(lanes_set(89.0F), lanes_max(lanes_set(-104.0F), x));
  const lanes n =
      lanes_sub(lanes_fma(x, lanes_set(0x1.715476p+0F), magic), magic);
  lanes r = lanes_fma(n, lanes_set(-0x1.62e4p-1F), x);
  r = lanes_fma(n, lanes_set(-0x1.7f7d1cp-20F), r);
  lanes p = lanes_set(0x1.687bcap-10F);
  p = lanes_fma(p, r, lanes_set(0x1.123baep-7F));
  p = lanes_fma(p, r, lanes_set(0x1.555b5ap-5F));
  p = lanes_fma(p, r, lanes_set(0x1.55548ep-3F));
  p = lanes_fma(p, r, lanes_set(0x1.fffff8p-2F));
  p = lanes_fma(p, r, lanes_set(1.0F));
  p = lanes_fma(p, r, lanes_set(1.0F));
  const lanes half = lanes_sub(lanes_fma(n, lanes_set(0.5F), magic), magic);
  const lanes bias = lanes_set(0x1p23F + 127.0F);
  p = lanes_mul(p, lanes_exponent(lanes_add(half, bias)));
  return lanes_mul(p, lanes_exponent(lanes_add(lanes_sub(n, half), bias)));
}

#endif
