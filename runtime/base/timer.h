/* Monotonic wall-clock seconds, for statistics and time limits only. */
#ifndef MOERUN_BASE_TIMER_H
#define MOERUN_BASE_TIMER_H

#include <time.h>

static inline double moerun__now(void) {
  struct timespec t;
  (void)clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#endif
