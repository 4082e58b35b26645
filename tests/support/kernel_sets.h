/* Sets of kernels against each other. */
#ifndef MOERUN_TESTS_KERNEL_SETS_H
#define MOERUN_TESTS_KERNEL_SETS_H

#include "kernels/kernels.h"
#include "support/cmocka.h"

#include <math.h>

enum { FIRST_SET = 1 }; /* whose bits all sets but the oracle have */

static inline const moerun__kernels *ref(void) {
  return moerun__kernels_at(0);
}

static inline void assert_same_bits(const float *a, const float *b,
                                    size_t count, const char *set,
                                    const char *what) {
  for (size_t i = 0; i < count; i++) {
    if (moerun__f32_to_bits(a[i]) != moerun__f32_to_bits(b[i]) &&
        !(isnan(a[i]) && isnan(b[i]))) {
      fail_msg("%s, set %s: element %zu is %a, expected %a", what, set, i, a[i],
               b[i]);
    }
  }
}

#endif
