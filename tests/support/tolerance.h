/* How far a kernel set may be from the oracle: one table. An error is
 * |found - expected| / (scale + |expected|), where the caller names the scale
 * of the terms that were summed. `warn` is what is seen plus a margin of two;
 * `fail` is what the operation's rounding can explain. */
#ifndef MOERUN_TESTS_TOLERANCE_H
#define MOERUN_TESTS_TOLERANCE_H

#include "support/cmocka.h"

#include <math.h>
#include <stdio.h>

enum {
  TOLERANCE_LINEAR, /* scale: inputs D, terms within -1 .. 1 */
  TOLERANCE_SWIGLU,
  TOLERANCE_RMSNORM,
  TOLERANCE_ROPE,
  TOLERANCE_SOFTMAX,
  TOLERANCE_GATE,
  TOLERANCE_ATTENTION,
  TOLERANCE_COMBINE,
  TOLERANCE_EXP,
  TOLERANCE_SIGMOID,
};

static const struct {
  const char *operation;
  double warn;
  double fail;
} tolerance_table[] = {
    [TOLERANCE_LINEAR] = {"linear", 1e-7, 2e-7},
    [TOLERANCE_SWIGLU] = {"swiglu", 4e-7, 8e-7},
    [TOLERANCE_RMSNORM] = {"rmsnorm", 4e-7, 8e-7},
    [TOLERANCE_ROPE] = {"rope", 1.2e-7, 2.4e-7},
    [TOLERANCE_SOFTMAX] = {"softmax", 3e-6, 6e-6},
    [TOLERANCE_GATE] = {"gate", 1e-6, 3e-6},
    [TOLERANCE_ATTENTION] = {"attention", 1e-6, 4e-6},
    [TOLERANCE_COMBINE] = {"combine", 2e-7, 1e-6},
    [TOLERANCE_SIGMOID] = {"sigmoid", 2e-7, 4e-7},
    [TOLERANCE_EXP] = {"exp", 1.2e-7, 2.4e-7},
};

/* Fails the test, or prints one line where only the warning is exceeded. */
static inline void assert_within(int operation, double found, double expected,
                                 double scale) {
  if (isnan(found) && isnan(expected)) return;
  if (found == expected) return; /* infinities */
  const double error = fabs(found - expected) / (scale + fabs(expected));
  if (error <= tolerance_table[operation].warn) return;
  const char *name = tolerance_table[operation].operation;
  if (!(error <= tolerance_table[operation].fail)) {
    fail_msg("%s: found %.9g expected %.9g, error %.2g exceeds %.2g", name,
             found, expected, error, tolerance_table[operation].fail);
  }
  printf("warning: %s: found %.9g expected %.9g, error %.2g exceeds %.2g\n",
         name, found, expected, error, tolerance_table[operation].warn);
}

#endif
