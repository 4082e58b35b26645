/* Monotonic wall-clock seconds, for statistics, time limits and the balance of
 * work only: no result depends on them. */
#ifndef MOERUN_BASE_TIMER_H
#define MOERUN_BASE_TIMER_H

#include <stdint.h>
#include <time.h>

static inline double moerun__now(void) {
  struct timespec t;
  (void)clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Processor time of this thread: a call of the kernel, unlike the above. */
static inline double moerun__thread_seconds(void) {
  struct timespec t;
  (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static inline void moerun__pause(int64_t microseconds) {
  if (microseconds <= 0) return;
  const struct timespec t = {(time_t)(microseconds / 1000000),
                             (long)(microseconds % 1000000) * 1000};
  (void)nanosleep(&t, NULL);
}

#endif
