/* The schedule shared by the annealing searches. */
#ifndef MOERUN_SEARCH_COOLING_H
#define MOERUN_SEARCH_COOLING_H

#include "placement/search/random.h"

#include <math.h>

enum {
  MOERUN_COOLING_SAMPLES = 4096, /* swaps that the start is found from */
  MOERUN_COOLING_BLOCK = 4096,   /* proposals at one temperature */
};

/* Start over end temperature. */
#define MOERUN_COOLING_RANGE 10.0

/* Temperature at which swaps of these losses would be taken with probability
 * `share` on average, by bisection of its logarithm. */
static inline double moerun__cooling_temperature(const double *loss, int count,
                                                 double share) {
  double low = 1e-6;
  double high = 1e15;
  for (int step = 0; step < 80; step++) {
    const double middle = sqrt(low * high);
    double taken = 0;
    for (int s = 0; s < count; s++) {
      taken += loss[s] > 0 ? exp(-loss[s] / middle) : 1;
    }
    if (taken < share * count) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

/* By block, so that `steps` proposals cover the range. */
static inline double moerun__cooling_factor(int64_t steps) {
  return pow(1 / MOERUN_COOLING_RANGE,
             (double)MOERUN_COOLING_BLOCK / (double)steps);
}

/* Metropolis' rule: the change is made if it loses less than this draw. */
static inline double moerun__cooling_most(double temperature,
                                          moerun__random *random) {
  const uint64_t bits = moerun__random_bits(random) >> 12;
  return -temperature * log(((double)bits + 0.5) * 0x1p-52);
}

static inline int moerun__cooling_takes(double loss, double temperature,
                                        moerun__random *random) {
  if (loss <= 0) return 1;
  if (loss > 30 * temperature) return 0; /* one in 10^13 would be taken */
  /* Taken with probability exp(-x): most draws are so far above it that the
   * first terms of exp(x) say so, without a logarithm. */
  const uint64_t bits = moerun__random_bits(random) >> 12;
  const double draw = ((double)bits + 0.5) * 0x1p-52;
  const double x = loss / temperature;
  if (draw * (1 + x * (1 + x * (0.5 + x / 6))) > 1.001) return 0;
  return x < -log(draw);
}

#endif
