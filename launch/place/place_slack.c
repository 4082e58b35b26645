/* Caps on the load of ranks may forbid what costs the least traffic, and
 * nothing in a table of traffic shows it. The smallest slack with which blocks
 * are allowed follows from their loads; what the method makes of it is solved
 * for once more, because it may be better than blocks by then. */
#include "launch/place/place_slack.h"

#include "runtime/base/memory.h"

#include <math.h>

enum { TRIES = 4 };

/* Slack is said in steps that people type. */
static const double step = 0.001;

/* How far blocks exceed a rank's share at most, over all layers. */
static moerun_status find_excess(double *out, const moerun__problem *problem,
                                 const moerun_placement *blocks) {
  moerun_status status = MOERUN_OK;
  double *load = NULL; /* [R] */
  const int32_t E = problem->num_experts;
  const int32_t R = problem->num_ranks;
  *out = 0;
  MOERUN_TRY(moerun__alloc(&load, (size_t)R, sizeof *load));
  for (int32_t l = 0; l < problem->num_layers; l++) {
    double total = 0;
    for (int32_t r = 0; r < R; r++) {
      load[r] = 0;
    }
    for (int32_t n = l * E; n < (l + 1) * E; n++) {
      load[blocks->rank_of[n]] += (double)problem->load[n];
      total += (double)problem->load[n];
    }
    for (int32_t r = 0; r < R; r++) {
      const double share = total / R * problem->topology->speed[r];
      *out = fmax(*out, load[r] / share - 1);
    }
  }
done:
  moerun__free(load);
  return status;
}

/* The problem with a slack for which blocks are within the caps; NULL: there is
 * none, because a slow rank is held to fewer. */
static moerun_status widen(moerun__problem **out, double *slack,
                           const moerun__problem *problem,
                           const moerun__method_options *how,
                           const moerun_placement *blocks) {
  moerun_status status = MOERUN_OK;
  moerun__problem *wider = NULL;
  double excess = 0;
  MOERUN_TRY(find_excess(&excess, problem, blocks));
  for (int i = 0; i < TRIES && *out == NULL; i++) {
    /* Rounding may cost a step, which the check below sees. */
    *slack = (ceil(excess / step - 1e-6) + i) * step;
    const moerun__problem_options options = {.objective = problem->objective,
                                             .slack = *slack,
                                             .spare_slots = how->spare_slots,
                                             .node_weight =
                                                 problem->node_weight,
                                             .far_weight = problem->far_weight};
    MOERUN_TRY(moerun__problem_create(&wider, problem->trace, problem->topology,
                                      &options));
    int allowed = 0;
    MOERUN_TRY(moerun__solution_allowed(&allowed, wider, blocks->rank_of));
    if (allowed) {
      *out = wider;
      wider = NULL;
    }
    moerun__problem_destroy(wider);
    wider = NULL;
  }
done:
  moerun__problem_destroy(wider);
  return status;
}

static moerun_status solve(double *cost, const moerun__problem *problem,
                           const moerun__method *method,
                           const moerun__method_options *options) {
  moerun_status status = MOERUN_OK;
  moerun_placement *placement = NULL;
  moerun__judgement judged = {0};
  MOERUN_TRY(moerun__place(&placement, NULL, NULL, problem, method, options));
  MOERUN_TRY(moerun__judge(&judged, placement, problem->trace,
                           problem->topology, problem->node_weight,
                           problem->far_weight, NULL));
  *cost = moerun__judged(problem, &judged);
done:
  moerun_placement_destroy(placement);
  return status;
}

moerun_status moerun__place_slack_find(moerun__place_slack *out,
                                       const moerun__problem *problem,
                                       const moerun__method *method,
                                       const moerun__method_options *options,
                                       const moerun_placement *blocks,
                                       double cost, double blocks_cost) {
  moerun_status status = MOERUN_OK;
  moerun__problem *wider = NULL;
  *out = (moerun__place_slack){.blocks_cost = blocks_cost, .slack = -1};
  if (!method->keeps_caps || method->by_loads || cost <= blocks_cost) goto done;
  int allowed = 0;
  MOERUN_TRY(moerun__solution_allowed(&allowed, problem, blocks->rank_of));
  if (allowed) goto done;
  out->is_worse = 1;
  double slack = 0;
  MOERUN_TRY(widen(&wider, &slack, problem, options, blocks));
  if (wider == NULL) goto done;
  MOERUN_TRY(solve(&out->cost, wider, method, options));
  out->slack = slack;
done:
  moerun__problem_destroy(wider);
  return status;
}
