/* Slowness on demand, for tests and measurements: which rank, how, and in which
 * steps. Outputs stay what they are. */
#ifndef MOERUN_PLAN_FAULT_H
#define MOERUN_PLAN_FAULT_H

#include "runtime/base/status.h"

enum { MOERUN_MOST_FAULTS = 8 };

typedef struct moerun__fault {
  int32_t rank;
  int32_t compute;  /* times each expert product is computed */
  int32_t sleep_us; /* in the expert stage of each layer */
  int32_t stall_ms; /* once, in the first step */
  int64_t from;     /* steps from .. to - 1, counted from 0 */
  int64_t to;
  int64_t flap; /* so many steps on, as many off; 0: always on */
} moerun__fault;

typedef struct moerun__faults {
  int32_t count;
  int32_t counted; /* 1: speeds follow from the faults, not from a clock, so
                      that every plan is the same in every run              */
  moerun__fault fault[MOERUN_MOST_FAULTS];
} moerun__faults;

/* "rank=2,compute=4x,from=100,to=250", several with ';' between; the other keys
 * are sleep=200us, stall=500ms, flap=10 and, once, clock=counted. Each has
 * a rank, and one at least does something. ERR_INVALID names the key. */
moerun_status moerun__faults_parse(moerun__faults *out, const char *text);

/* ERR_INVALID if one is of a rank that there is not. */
moerun_status moerun__faults_check(const moerun__faults *faults,
                                   int32_t num_ranks);

/* What a rank suffers in a step: products are computed `compute` times; then it
 * sleeps, per layer, and stalls, at the step's start. */
typedef struct moerun__slowness {
  int32_t compute;
  int32_t sleep_us;
  int32_t stall_ms;
} moerun__slowness;
moerun__slowness moerun__faults_at(const moerun__faults *faults, int32_t rank,
                                   int64_t step);

#endif
