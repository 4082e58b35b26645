/* Routing statistics and load caps. The counts are 64-bit integers, so that
 * they stay exact for any trace, and are collected layer by layer: one layer's
 * E x E counters fit in a cache where all of them would not. */
#include "placement/judge/problem.h"

#include "placement/judge/packing.h"
#include "runtime/base/memory.h"
#include "runtime/base/number.h"
#include "runtime/base/text.h"

#include <math.h>
#include <string.h>

static moerun_status check_arguments(int32_t num_layers,
                                     const moerun__topology *topology,
                                     const moerun__problem_options *options) {
  moerun_status status = MOERUN_OK;
  char found[MOERUN_NUMBER_TEXT];
  MOERUN_REQUIRE((int64_t)num_layers * topology->num_ranks <=
                     MOERUN_PLACEMENT_MAX_ENTRIES,
                 MOERUN_ERR_INVALID,
                 "placement: layers x ranks: expected at most %d, found %lld",
                 MOERUN_PLACEMENT_MAX_ENTRIES,
                 (long long)num_layers * topology->num_ranks);
  MOERUN_REQUIRE(options->slack >= 0 && options->slack <= 1e6,
                 MOERUN_ERR_INVALID,
                 "placement: slack: expected 0 to 1000000, found %s",
                 moerun__number_text(found, options->slack));
  MOERUN_REQUIRE(options->node_weight >= 0 && options->node_weight <= 1e6 &&
                     options->far_weight >= 0 && options->far_weight <= 1e6,
                 MOERUN_ERR_INVALID,
                 "placement: weights of distances: expected 0 to 1000000, "
                 "found %g and %g",
                 options->node_weight, options->far_weight);
done:
  return status;
}

/* Pairs cost what their link takes for a row: 1 between nodes, less within. */
static moerun_status choose_weights(moerun__problem *problem,
                                    const moerun__problem_options *options) {
  moerun_status status = MOERUN_OK;
  const moerun__topology *topology = problem->topology;
  problem->far_weight = options->far_weight > 0 ? options->far_weight : 1;
  problem->node_weight = options->node_weight;
  if (!(problem->node_weight > 0)) {
    const int known = topology->intra_bytes_per_second > 0 &&
                      topology->inter_bytes_per_second > 0;
    problem->node_weight =
        problem->far_weight * (known ? topology->inter_bytes_per_second /
                                           topology->intra_bytes_per_second
                                     : 1);
  }
  MOERUN_REQUIRE(problem->node_weight <= problem->far_weight,
                 MOERUN_ERR_INVALID,
                 "placement: weights of distances: expected no more within a "
                 "node than between nodes, found %g and %g",
                 problem->node_weight, problem->far_weight);
done:
  return status;
}

moerun__bins moerun__problem_bins(const moerun__problem *problem,
                                  int32_t layer) {
  return (moerun__bins){.count = problem->num_ranks,
                        .fewest = problem->fewest_slots,
                        .most = problem->most_slots,
                        .speed = problem->topology->speed,
                        .cap = problem->cap +
                               (size_t)layer * (size_t)problem->num_ranks};
}

static const int16_t *terms_of(const moerun__trace *trace, int64_t token,
                               int32_t layer) {
  return trace->ids +
         (size_t)(token * trace->num_layers + layer) * (size_t)trace->num_terms;
}

static void count_layer(moerun__problem *problem, int32_t layer) {
  const moerun__trace *trace = problem->trace;
  const size_t E = (size_t)problem->num_experts;
  int64_t *load = problem->load + (size_t)layer * E;
  int64_t *together = problem->together + (size_t)layer * E * E;
  for (int64_t t = 0; t < trace->num_tokens; t++) {
    const int16_t *ids = terms_of(trace, t, layer);
    for (int32_t a = 0; a < trace->num_terms; a++) {
      if (ids[a] < 0) continue;
      load[ids[a]]++;
      for (int32_t b = 0; b < a; b++) {
        if (ids[b] < 0) continue;
        together[(size_t)ids[a] * E + (size_t)ids[b]]++;
        together[(size_t)ids[b] * E + (size_t)ids[a]]++;
      }
    }
  }
}

/* From `layer` to the next one. */
static void count_boundary(moerun__problem *problem, int32_t layer) {
  const moerun__trace *trace = problem->trace;
  const size_t E = (size_t)problem->num_experts;
  int64_t *follow = problem->follow + (size_t)layer * E * E;
  for (int64_t t = 0; t < trace->num_tokens; t++) {
    const int16_t *from = terms_of(trace, t, layer);
    const int16_t *to = terms_of(trace, t, layer + 1);
    for (int32_t a = 0; a < trace->num_terms; a++) {
      if (from[a] < 0) continue;
      int64_t *row = follow + (size_t)from[a] * E;
      for (int32_t b = 0; b < trace->num_terms; b++) {
        if (to[b] >= 0) row[to[b]]++;
      }
    }
  }
}

/* One layer, packed. */
typedef struct packed {
  int32_t *rank_of; /* [E] */
  int64_t *filled;  /* [R] load */
  int32_t *count;   /* [R] experts */
  int32_t *is_held; /* [R] 1: has no less than this */
} packed;

static moerun_status pack_layer(packed *by, const moerun__problem *problem,
                                int32_t layer) {
  moerun_status status = MOERUN_OK;
  const int32_t E = problem->num_experts;
  const size_t R = (size_t)problem->num_ranks;
  const int64_t *load = problem->load + (size_t)layer * (size_t)E;
  const moerun__bins bins = moerun__problem_bins(problem, layer);
  MOERUN_TRY(moerun__pack(by->rank_of, load, E, &bins));
  memset(by->filled, 0, R * sizeof *by->filled);
  memset(by->count, 0, R * sizeof *by->count);
  memset(by->is_held, 0, R * sizeof *by->is_held);
  for (int32_t e = 0; e < E; e++) {
    by->filled[by->rank_of[e]] += load[e];
    by->count[by->rank_of[e]]++;
  }
done:
  return status;
}

/* Holds a slow rank that is over `share` with as few experts as it may have:
 * the packing has left it the coldest. 0: there is none. */
static int hold_one(packed *by, const moerun__problem *problem, double share) {
  const double *speed = problem->topology->speed;
  for (int32_t r = 0; r < problem->num_ranks; r++) {
    if (by->is_held[r] || speed[r] >= 1 ||
        by->count[r] > problem->fewest_slots ||
        (double)by->filled[r] <= share * speed[r]) {
      continue;
    }
    by->is_held[r] = 1;
    return 1;
  }
  return 0;
}

/* (1 + slack) times the mean per unit of speed of the ranks that are not
 * held. */
static double share_of(const packed *by, const moerun__problem *problem) {
  double total = 0;
  double speed = 0;
  for (int32_t r = 0; r < problem->num_ranks; r++) {
    total += by->is_held[r] ? 0 : (double)by->filled[r];
    speed += by->is_held[r] ? 0 : problem->topology->speed[r];
  }
  return (1 + problem->slack) * total / speed;
}

/* cap[r] = max((1 + slack) * mean, LPT's fullest rank per unit of speed) *
 * speed[r]; slow ranks that are held to what LPT gives them count in
 * neither. */
static moerun_status set_caps(moerun__problem *problem, int32_t layer,
                              packed *by) {
  moerun_status status = MOERUN_OK;
  const int32_t R = problem->num_ranks;
  const double *speed = problem->topology->speed;
  int64_t *cap = problem->cap + (size_t)layer * (size_t)R;
  MOERUN_TRY(pack_layer(by, problem, layer));
  double share = share_of(by, problem);
  while (hold_one(by, problem, share)) {
    share = share_of(by, problem);
  }
  for (int32_t r = 0; r < R; r++) {
    if (by->is_held[r]) continue;
    share = fmax(share, (double)by->filled[r] / speed[r]);
  }
  for (int32_t r = 0; r < R; r++) {
    /* No load comes near the bound, but a slack may go beyond. */
    cap[r] =
        by->is_held[r] ? 0 : (int64_t)floor(fmin(share * speed[r], 0x1p62));
    if (cap[r] < by->filled[r]) cap[r] = by->filled[r]; /* held, or rounded */
  }
done:
  return status;
}

/* A slow rank cannot be relieved of more than its hot experts while all ranks
 * hold as many; with room elsewhere it can. */
static void set_counts(moerun__problem *problem, int32_t spare_slots) {
  const int32_t E = problem->num_experts;
  const int32_t R = problem->num_ranks;
  problem->fewest_slots = E / R;
  problem->even_slots = problem->fewest_slots + (E % R != 0);
  problem->most_slots = problem->even_slots;
  if (spare_slots == 0 || !moerun__topology_is_uneven(problem->topology)) {
    return;
  }
  problem->most_slots = E - problem->even_slots < spare_slots
                            ? E
                            : problem->even_slots + spare_slots;
  if (problem->fewest_slots > 1) problem->fewest_slots = 1;
}

/* Everything but the statistics. */
static moerun_status create_empty(moerun__problem **out, int32_t num_layers,
                                  int32_t num_experts,
                                  const moerun__topology *topology,
                                  const moerun__problem_options *options) {
  moerun_status status = MOERUN_OK;
  moerun__problem *problem = NULL;
  const size_t L = (size_t)num_layers;
  MOERUN_TRY(check_arguments(num_layers, topology, options));
  MOERUN_TRY(moerun__alloc(&problem, 1, sizeof *problem));
  *out = problem;
  problem->topology = topology;
  problem->num_layers = num_layers;
  problem->num_experts = num_experts;
  problem->num_ranks = topology->num_ranks;
  problem->objective = options->objective;
  problem->slack = options->slack > 0 ? options->slack : 0.05;
  set_counts(problem, options->spare_slots);
  MOERUN_TRY(choose_weights(problem, options));
  MOERUN_TRY(moerun__alloc(&problem->load, L * (size_t)num_experts,
                           sizeof *problem->load));
  MOERUN_TRY(moerun__alloc(&problem->cap, L * (size_t)topology->num_ranks,
                           sizeof *problem->cap));
done:
  return status;
}

static moerun_status set_all_caps(moerun__problem *problem) {
  moerun_status status = MOERUN_OK;
  packed by = {0};
  const size_t R = (size_t)problem->num_ranks;
  MOERUN_TRY(moerun__alloc(&by.rank_of, (size_t)problem->num_experts,
                           sizeof *by.rank_of));
  MOERUN_TRY(moerun__alloc(&by.filled, R, sizeof *by.filled));
  MOERUN_TRY(moerun__alloc(&by.count, R, sizeof *by.count));
  MOERUN_TRY(moerun__alloc(&by.is_held, R, sizeof *by.is_held));
  for (int32_t l = 0; l < problem->num_layers; l++) {
    MOERUN_TRY(set_caps(problem, l, &by));
  }
done:
  moerun__free(by.rank_of);
  moerun__free(by.filled);
  moerun__free(by.count);
  moerun__free(by.is_held);
  return status;
}

moerun_status moerun__problem_create(moerun__problem **out,
                                     const moerun__trace *trace,
                                     const moerun__topology *topology,
                                     const moerun__problem_options *options) {
  moerun_status status = MOERUN_OK;
  moerun__problem *problem = NULL;
  const size_t L = (size_t)trace->num_layers;
  const size_t E = (size_t)trace->num_experts;
  *out = NULL;
  MOERUN_REQUIRE(trace->num_tokens >= 1, MOERUN_ERR_INVALID,
                 "placement: expected a trace with tokens, found none");
  MOERUN_TRY(create_empty(&problem, trace->num_layers, trace->num_experts,
                          topology, options));
  problem->trace = trace;
  MOERUN_TRY(moerun__alloc(&problem->follow, (L - 1) * E * E,
                           sizeof *problem->follow));
  MOERUN_TRY(
      moerun__alloc(&problem->together, L * E * E, sizeof *problem->together));
  for (int32_t l = 0; l < problem->num_layers; l++) {
    count_layer(problem, l);
    if (l + 1 < problem->num_layers) count_boundary(problem, l);
  }
  MOERUN_TRY(set_all_caps(problem));
  *out = problem;
  problem = NULL;
done:
  moerun__problem_destroy(problem);
  return status;
}

moerun_status
moerun__problem_create_loads(moerun__problem **out, const int64_t *load,
                             int32_t num_layers, int32_t num_experts,
                             const moerun__topology *topology, double slack) {
  moerun_status status = MOERUN_OK;
  moerun__problem *problem = NULL;
  const moerun__problem_options options = {.slack = slack};
  *out = NULL;
  MOERUN_TRY(
      create_empty(&problem, num_layers, num_experts, topology, &options));
  memcpy(problem->load, load,
         (size_t)num_layers * (size_t)num_experts * sizeof *load);
  MOERUN_TRY(set_all_caps(problem));
  *out = problem;
  problem = NULL;
done:
  moerun__problem_destroy(problem);
  return status;
}

void moerun__problem_destroy(moerun__problem *problem) {
  if (problem == NULL) return;
  moerun__free(problem->load);
  moerun__free(problem->follow);
  moerun__free(problem->together);
  moerun__free(problem->cap);
  moerun__free(problem);
}
