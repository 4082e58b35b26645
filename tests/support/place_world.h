/* A trace, a topology and the problem they make, for tests of placement. */
#ifndef MOERUN_TESTS_PLACE_WORLD_H
#define MOERUN_TESTS_PLACE_WORLD_H

#include "placement/methods/method.h"
#include "runtime/base/memory.h"
#include "support/cmocka.h"
#include "support/synthetic_trace.h"

#include <string.h>

typedef struct place_world {
  moerun__trace trace;
  moerun__topology *topology;
  moerun__problem *problem;
} place_world;

static inline void place_world_create(place_world *w, const synthetic *make,
                                      const char *topology,
                                      moerun__problem_options options) {
  memset(w, 0, sizeof *w);
  w->trace = synthetic_create(make);
  assert_int_equal(moerun__topology_parse(&w->topology, topology), MOERUN_OK);
  assert_int_equal(
      moerun__problem_create(&w->problem, &w->trace, w->topology, &options),
      MOERUN_OK);
}

static inline void place_world_destroy(place_world *w) {
  moerun__problem_destroy(w->problem);
  moerun__topology_destroy(w->topology);
  synthetic_free(&w->trace);
}

/* Solved by the method of this name and judged on `trace`. */
static inline moerun__judgement
place_and_judge(moerun_placement **placement, const place_world *w,
                const char *method, const moerun__trace *trace,
                moerun__method_options options) {
  moerun__judgement judged;
  int32_t proven = 0;
  double bound = 0;
  memset(&judged, 0, sizeof judged);
  const moerun__method *found = moerun__method_find(method);
  if (found == NULL) {
    fail_msg("no method %s", method);
    return judged;
  }
  if (moerun__place(placement, &proven, &bound, w->problem, found, &options) !=
      MOERUN_OK) {
    fail_msg("%s: %s", method, moerun_last_error());
    return judged;
  }
  assert_int_equal(moerun__placement_check(*placement), MOERUN_OK);
  assert_int_equal(moerun__judge(&judged, *placement, trace, w->topology,
                                 w->problem->node_weight,
                                 w->problem->far_weight, NULL),
                   MOERUN_OK);
  return judged;
}

/* The problem's objective of a placement, judged on what it was trained on. */
static inline double judged_value(const place_world *w,
                                  const int32_t *rank_of) {
  moerun_placement *p = NULL;
  moerun__judgement j = {0};
  assert_int_equal(moerun_placement_create(&p, w->problem->num_layers,
                                           w->problem->num_experts,
                                           w->problem->num_ranks, rank_of),
                   MOERUN_OK);
  assert_int_equal(moerun__judge(&j, p, &w->trace, w->topology,
                                 w->problem->node_weight,
                                 w->problem->far_weight, NULL),
                   MOERUN_OK);
  moerun_placement_destroy(p);
  return moerun__judged(w->problem, &j);
}

static inline void assert_close(double found, double want) {
  if (fabs(found - want) > 1e-9 * (1 + fabs(want))) {
    fail_msg("found %.12g, wanted %.12g", found, want);
  }
}

#endif
