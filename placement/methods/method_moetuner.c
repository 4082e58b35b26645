/* MoETuner (Go and Mahajan 2025, arXiv 2502.06643), as described there:
 *
 * 1. groups of experts with even loads, each layer by an integer program:
 *    minimise the sum over groups of |load - share|, within 2.5 % of the bound;
 * 2. groups to ranks, so that the pairs of neighbouring layers travel little.
 *
 * Where we depart from it: groups have equal counts and stay within the load
 * caps (the printed form asks for one expert a group at least); the first stage
 * starts from the even packing, because GLPK alone finds nothing better than
 * that in the time for more than some 16 experts; the second is relabel.h's,
 * which needs no solver. */
#include "placement/methods/methods.h"

#include "placement/judge/relabel.h"
#include "placement/methods/program.h"
#include "placement/search/split.h"
#include "runtime/base/memory.h"

#include <math.h>
#include <string.h>

enum { MOST_NODES = 200 }; /* of a layer's search */

#define TOLERANCE 0.025

/* Columns: x[E][R], then |load - share| of each of the R groups. */
typedef struct grouping {
  const moerun__problem *problem;
  int32_t layer;
  moerun__program *program;
  double *start; /* [E * R + R] */
  double *share; /* [R] */
} grouping;

static moerun_status add_group(const grouping *g, int32_t rank,
                               int32_t excess) {
  moerun_status status = MOERUN_OK;
  const moerun__problem *p = g->problem;
  const int32_t E = p->num_experts;
  const int32_t R = p->num_ranks;
  const int64_t *load = p->load + (size_t)g->layer * (size_t)E;
  const int64_t cap = p->cap[(size_t)g->layer * (size_t)R + (size_t)rank];
  MOERUN_TRY(
      moerun__program_add_row(g->program, p->fewest_slots, p->most_slots));
  for (int32_t e = 0; e < E; e++) {
    MOERUN_TRY(moerun__program_add_term(g->program, e * R + rank, 1));
  }
  /* load <= cap; load - excess <= share; load + excess >= share */
  for (int side = -1; side <= 1; side++) {
    const double low = side > 0 ? g->share[rank] : -INFINITY;
    const double high = side == 0  ? (double)cap
                        : side < 0 ? g->share[rank]
                                   : INFINITY;
    MOERUN_TRY(moerun__program_add_row(g->program, low, high));
    for (int32_t e = 0; e < E; e++) {
      MOERUN_TRY(
          moerun__program_add_term(g->program, e * R + rank, (double)load[e]));
    }
    if (side != 0) {
      MOERUN_TRY(moerun__program_add_term(g->program, excess + rank, side));
    }
  }
done:
  return status;
}

static moerun_status build(grouping *g) {
  moerun_status status = MOERUN_OK;
  const int32_t E = g->problem->num_experts;
  const int32_t R = g->problem->num_ranks;
  int32_t first = 0;
  int32_t excess = 0;
  MOERUN_TRY(moerun__program_create(&g->program));
  MOERUN_TRY(moerun__program_add_columns(&first, g->program, E * R, 0, 1, 1));
  MOERUN_TRY(
      moerun__program_add_columns(&excess, g->program, R, 0, INFINITY, 0));
  for (int32_t e = 0; e < E; e++) {
    MOERUN_TRY(moerun__program_add_row(g->program, 1, 1));
    for (int32_t r = 0; r < R; r++) {
      MOERUN_TRY(moerun__program_add_term(g->program, e * R + r, 1));
    }
  }
  for (int32_t r = 0; r < R; r++) {
    moerun__program_set_cost(g->program, excess + r, 1);
    MOERUN_TRY(add_group(g, r, excess));
  }
done:
  return status;
}

/* Shares of the load, and the columns of rank_of[E]. */
static void set_start(const grouping *g, const int32_t *rank_of) {
  const moerun__problem *p = g->problem;
  const size_t E = (size_t)p->num_experts;
  const size_t R = (size_t)p->num_ranks;
  const int64_t *load = p->load + (size_t)g->layer * E;
  double *excess = g->start + E * R;
  double total = 0;
  memset(g->start, 0, (E + 1) * R * sizeof *g->start);
  for (size_t e = 0; e < E; e++) {
    g->start[e * R + (size_t)rank_of[e]] = 1;
    excess[rank_of[e]] += (double)load[e];
    total += (double)load[e];
  }
  for (size_t r = 0; r < R; r++) {
    g->share[r] = total * p->topology->speed[r] / (double)R;
    excess[r] = fabs(excess[r] - g->share[r]);
  }
}

/* Even groups of one layer: rank_of[E], within the caps before and after. */
static moerun_status group_layer(grouping *g, int32_t *rank_of,
                                 double time_limit_s) {
  moerun_status status = MOERUN_OK;
  const int32_t E = g->problem->num_experts;
  const int32_t R = g->problem->num_ranks;
  moerun__program_result result = {0};
  const moerun__program_options options = {.time_limit_s = time_limit_s,
                                           .node_limit = MOST_NODES,
                                           .relative_gap = TOLERANCE,
                                           .start = g->start};
  set_start(g, rank_of);
  MOERUN_TRY(build(g));
  MOERUN_TRY(moerun__program_solve(&result, g->program, &options));
  const int found = result.outcome == MOERUN_OUTCOME_OPTIMAL ||
                    result.outcome == MOERUN_OUTCOME_FEASIBLE;
  for (int32_t n = 0; found && n < E * R; n++) {
    if (moerun__program_value(g->program, n) > 0.5) rank_of[n / R] = n % R;
  }
done:
  moerun__program_destroy(g->program);
  g->program = NULL;
  return status;
}

moerun_status moerun__solve_moetuner(moerun__solution *solution,
                                     const moerun__problem *problem,
                                     const moerun__method_options *options) {
  moerun_status status = MOERUN_OK;
  grouping g = {.problem = problem};
  const moerun__deadline deadline =
      moerun__deadline_after(options->clock, options->time_limit_s);
  const int32_t L = problem->num_layers;
  const size_t E = (size_t)problem->num_experts;
  const size_t R = (size_t)problem->num_ranks;
  MOERUN_TRY(moerun__alloc(&g.start, (E + 1) * R, sizeof *g.start));
  MOERUN_TRY(moerun__alloc(&g.share, R, sizeof *g.share));
  MOERUN_TRY(moerun__start_ranks(solution->rank_of, problem));
  for (int32_t l = 0; l < L && !moerun__deadline_passed(&deadline); l++) {
    g.layer = l;
    MOERUN_TRY(group_layer(&g, solution->rank_of + (size_t)l * E,
                           moerun__deadline_left(&deadline) / (L - l)));
  }
  MOERUN_TRY(moerun__relabel(solution->rank_of, problem));
done:
  moerun__free(g.start);
  moerun__free(g.share);
  return status;
}
