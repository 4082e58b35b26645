/* Certified lower bounds: what no placement within the caps and counts, and
 * without replicas, can cost less than. */
#ifndef MOERUN_BOUND_BOUND_H
#define MOERUN_BOUND_BOUND_H

#include "placement/judge/deadline.h"
#include "placement/judge/problem.h"

typedef enum moerun__bound_kind {
  MOERUN_BOUND_NONE = 0,
  MOERUN_BOUND_SDP, /* the semidefinite relaxation of relax.h */
} moerun__bound_kind;

typedef struct moerun__bound_options {
  moerun__bound_kind kind;
  double time_limit_s; /* 0: until it hardly grows */
  moerun__clock clock; /* NULL: time limits are off */
  int32_t most_steps;  /* iterations; 0: no limit but the others */
  int32_t width;       /* layers a window, 2 or 3, at most; 0: 2, then 3 as
                          soon as 2 hardly grows                            */
  double cost;         /* of a placement: growing beyond it would prove
                          nothing more; 0: unknown                          */
  /* Called with each bound that was computed, whether or not it is better than
   * the ones before; NULL: not wanted. */
  void (*observe)(void *context, int64_t step, double bound);
  void *context;
} moerun__bound_options;

/* *bound: the best of all that were computed; -1: none (kind NONE, a
 * problem of loads alone, or one layer where only neighbouring ones matter).
 * Every step is a function of the problem alone; how many there are depends on
 * the clock if there is one. */
moerun_status moerun__bound(double *bound, const moerun__problem *problem,
                            const moerun__bound_options *options);

#endif
