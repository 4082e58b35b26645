/* Topology-driven placement (2025, arXiv 2508.09229): expert e of layer l on
 * rank s costs its load times (distance from the layer's attention to s + from
 * s to where results are collected), with room for so many experts of a layer
 * and of all layers on a rank. The hosts being fixed, that is linear; the two
 * kinds of room are nested, which makes it a flow with whole vertices, so that
 * a linear program without integers is enough.
 *
 * The paper's hosts come from its cluster. moerun has attention on every rank,
 * which would make all ranks alike: so the method assumes what the paper does,
 * layers spread over the ranks in blocks like the stages of a pipeline. Layer
 * l's attention is on rank floor(l * R / L) and its results are collected by
 * the host of layer l + 1, the last layer's by its own. Where E divides by R
 * the room of all layers follows from that of each, and each is a program of
 * its own. */
#include "placement/methods/methods.h"

#include "placement/methods/program.h"

#include <math.h>

enum { MOST_COLUMNS = 100000 }; /* of one program: about a minute */

static double distance(const moerun__problem *p, int32_t a, int32_t b) {
  if (a == b) return 0;
  return moerun__topology_same_node(p->topology, a, b) ? p->node_weight
                                                       : p->far_weight;
}

static int32_t host_of(const moerun__problem *p, int32_t layer) {
  const int64_t last = p->num_layers - 1;
  const int64_t l = layer < last ? layer : last;
  return (int32_t)(l * p->num_ranks / p->num_layers);
}

static void set_costs(moerun__program *program, const moerun__problem *p,
                      int32_t layer, int32_t first_column) {
  const int32_t R = p->num_ranks;
  const int64_t *load = p->load + (size_t)layer * (size_t)p->num_experts;
  const int32_t from = host_of(p, layer);
  const int32_t to = host_of(p, layer + 1);
  for (int32_t e = 0; e < p->num_experts; e++) {
    for (int32_t r = 0; r < R; r++) {
      const double way = distance(p, from, r) + distance(p, r, to);
      moerun__program_set_cost(program, first_column + e * R + r,
                               way * (double)load[e]);
    }
  }
}

/* Each expert once, and most_slots of them on a rank. */
static moerun_status add_layer(moerun__program *program,
                               const moerun__problem *p, int32_t layer) {
  moerun_status status = MOERUN_OK;
  const int32_t E = p->num_experts;
  const int32_t R = p->num_ranks;
  int32_t first = 0;
  MOERUN_TRY(moerun__program_add_columns(&first, program, E * R, 0, 1, 0));
  set_costs(program, p, layer, first);
  for (int32_t e = 0; e < E; e++) {
    MOERUN_TRY(moerun__program_add_row(program, 1, 1));
    for (int32_t r = 0; r < R; r++) {
      MOERUN_TRY(moerun__program_add_term(program, first + e * R + r, 1));
    }
  }
  for (int32_t r = 0; r < R; r++) {
    MOERUN_TRY(moerun__program_add_row(program, 0, p->most_slots));
    for (int32_t e = 0; e < E; e++) {
      MOERUN_TRY(moerun__program_add_term(program, first + e * R + r, 1));
    }
  }
done:
  return status;
}

/* Room of `layers` layers on each rank. */
static moerun_status add_totals(moerun__program *program,
                                const moerun__problem *p, int32_t layers) {
  moerun_status status = MOERUN_OK;
  const int32_t R = p->num_ranks;
  const int32_t entries = layers * p->num_experts;
  const int32_t room = (entries + R - 1) / R;
  for (int32_t r = 0; r < R; r++) {
    MOERUN_TRY(moerun__program_add_row(program, 0, room));
    for (int32_t n = 0; n < entries; n++) {
      MOERUN_TRY(moerun__program_add_term(program, n * R + r, 1));
    }
  }
done:
  return status;
}

static moerun_status place_layers(int32_t *rank_of, const moerun__problem *p,
                                  int32_t first_layer, int32_t layers,
                                  double time_limit_s) {
  moerun_status status = MOERUN_OK;
  moerun__program *program = NULL;
  moerun__program_result result = {0};
  const moerun__program_options options = {.time_limit_s = time_limit_s};
  const int32_t E = p->num_experts;
  const int32_t R = p->num_ranks;
  const int64_t columns = (int64_t)layers * E * R;
  MOERUN_REQUIRE(columns <= MOST_COLUMNS, MOERUN_ERR_UNSUPPORTED,
                 "placement: method topo: expected a program of at most %d "
                 "columns, found %lld: solve fewer layers, experts or ranks, "
                 "or by another method",
                 MOST_COLUMNS, (long long)columns);
  MOERUN_TRY(moerun__program_create(&program));
  for (int32_t l = 0; l < layers; l++) {
    MOERUN_TRY(add_layer(program, p, first_layer + l));
  }
  if (layers > 1) MOERUN_TRY(add_totals(program, p, layers));
  MOERUN_TRY(moerun__program_solve(&result, program, &options));
  MOERUN_REQUIRE(result.outcome == MOERUN_OUTCOME_OPTIMAL,
                 MOERUN_ERR_UNSUPPORTED,
                 "placement: topo: layer %d was not solved within the time "
                 "limit",
                 first_layer);
  for (int32_t n = 0; n < layers * E * R; n++) {
    if (moerun__program_value(program, n) < 0.5) continue;
    rank_of[(size_t)first_layer * (size_t)E + (size_t)(n / R)] = n % R;
  }
done:
  moerun__program_destroy(program);
  return status;
}

moerun_status moerun__solve_topo(moerun__solution *solution,
                                 const moerun__problem *problem,
                                 const moerun__method_options *options) {
  moerun_status status = MOERUN_OK;
  const moerun__deadline deadline =
      moerun__deadline_after(options->clock, options->time_limit_s);
  const int32_t L = problem->num_layers;
  const int32_t at_once = problem->fewest_slots == problem->most_slots ? 1 : L;
  for (int32_t l = 0; l < L; l += at_once) {
    MOERUN_TRY(place_layers(solution->rank_of, problem, l, at_once,
                            moerun__deadline_left(&deadline)));
  }
done:
  return status;
}
