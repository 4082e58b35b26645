/* The method eplb: every layer by moerun__eplb_layer, as many slots as were
 * asked for. */
#include "placement/methods/eplb.h"
#include "placement/methods/methods.h"

#include "runtime/base/memory.h"

#include <stddef.h>
#include <string.h>

/* Slots in all: as given, or those of all experts and the spare ones of each
 * rank, as far as there is an expert for each. */
static moerun_status count_slots(int32_t *out, const moerun__eplb_shape *shape,
                                 const moerun__method_options *options) {
  moerun_status status = MOERUN_OK;
  const int64_t R = shape->num_ranks;
  const int64_t most = moerun__eplb_most(shape);
  int64_t slots = shape->num_experts + R * options->spare_slots;
  if (options->slots > 0) {
    MOERUN_REQUIRE(options->slots <= most, MOERUN_ERR_INVALID,
                   "placement: slots: expected at most %lld, because a rank "
                   "holds each expert that it may hold once, found %d",
                   (long long)most, options->slots);
    slots = options->slots;
  }
  if (slots > most) slots = most;
  MOERUN_REQUIRE(slots <= MOERUN_PLACEMENT_MAX_ENTRIES, MOERUN_ERR_INVALID,
                 "placement: expected at most %d replicas of a layer, found "
                 "%lld",
                 MOERUN_PLACEMENT_MAX_ENTRIES, (long long)slots);
  *out = (int32_t)slots;
done:
  return status;
}

static moerun_status make_shape(moerun__eplb_shape *out,
                                const moerun__problem *problem,
                                const moerun__method_options *options) {
  moerun_status status = MOERUN_OK;
  const moerun__topology *topology = problem->topology;
  const int32_t E = problem->num_experts;
  const int32_t groups =
      options->expert_groups > 0 ? options->expert_groups : 1;
  MOERUN_REQUIRE(E % groups == 0, MOERUN_ERR_INVALID,
                 "placement: expert groups: expected a divisor of %d experts, "
                 "found %d",
                 E, groups);
  MOERUN_REQUIRE(groups == 1 || topology->ranks_per_node > 0,
                 MOERUN_ERR_UNSUPPORTED,
                 "placement: expert groups: expected nodes of as many ranks "
                 "each, found %d nodes that differ",
                 topology->num_nodes);
  *out = (moerun__eplb_shape){
      .num_experts = E,
      .num_groups = groups,
      .num_nodes = topology->ranks_per_node > 0 ? topology->num_nodes : 1,
      .num_ranks = topology->num_ranks};
  for (int32_t r = 1; r < topology->num_ranks; r++) {
    if (topology->speed[r] != topology->speed[0]) out->speed = topology->speed;
  }
  MOERUN_TRY(count_slots(&out->num_replicas, out, options));
done:
  return status;
}

/* solution->rank_of and the rank's lists in solution->copies, of one layer. */
static void keep_layer(moerun__solution *solution, int32_t layer,
                       const moerun__eplb_shape *shape,
                       const int32_t *expert_of, const int32_t *rank_of) {
  const size_t width = (size_t)solution->copies_per_rank;
  const size_t rows = (size_t)layer * (size_t)shape->num_ranks;
  int32_t *ranks =
      solution->rank_of + (size_t)layer * (size_t)shape->num_experts;
  size_t slot = 0;
  for (int32_t p = 0; p < shape->num_replicas; p++) {
    slot = p > 0 && rank_of[p] == rank_of[p - 1] ? slot + 1 : 0;
    solution->copies[(rows + (size_t)rank_of[p]) * width + slot] = expert_of[p];
    ranks[expert_of[p]] = rank_of[p];
  }
}

moerun_status moerun__solve_eplb(moerun__solution *solution,
                                 const moerun__problem *problem,
                                 const moerun__method_options *options) {
  moerun_status status = MOERUN_OK;
  moerun__eplb_shape shape = {0};
  int32_t *expert_of = NULL;
  int32_t *rank_of = NULL;
  const int32_t R = problem->num_ranks;
  MOERUN_TRY(make_shape(&shape, problem, options));
  const size_t E = (size_t)shape.num_experts;
  const size_t P = (size_t)shape.num_replicas;
  solution->copies_per_rank = (shape.num_replicas - 1) / R + 1;
  const size_t places = (size_t)problem->num_layers * (size_t)R *
                        (size_t)solution->copies_per_rank;
  MOERUN_TRY(moerun__alloc(&expert_of, P, sizeof *expert_of));
  MOERUN_TRY(moerun__alloc(&rank_of, P, sizeof *rank_of));
  MOERUN_TRY(
      moerun__alloc(&solution->copies, places, sizeof *solution->copies));
  memset(solution->copies, 0xff, places * sizeof *solution->copies);
  for (int32_t l = 0; l < problem->num_layers; l++) {
    MOERUN_TRY(moerun__eplb_layer(expert_of, rank_of,
                                  problem->load + (size_t)l * E, &shape));
    keep_layer(solution, l, &shape, expert_of, rank_of);
  }
done:
  moerun__free(expert_of);
  moerun__free(rank_of);
  return status;
}
