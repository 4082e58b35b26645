/* Greedy filling of spare slots. Every copy that could be made has a key: what
 * it can save at most, from statistics, until it is counted once, and what it
 * saved when it was counted from then on. The copy with the largest key is
 * counted anew and made if it still is the best; keys of the others only
 * became too large since (Minoux, 1978), for copies compete for the same
 * tokens. With more ranks than homes that are tried while counting, loads are
 * estimates until a layer is full: copies that a count with all homes finds too
 * much for their rank are taken away again. */
#include "placement/search/replicas.h"

#include "placement/search/visits.h"
#include "runtime/base/memory.h"

#include <math.h>
#include <string.h>

enum { SAMPLE = 256 }; /* tokens of an expert that a copy is estimated from */

/* Of the second best key: what a copy must save to be made. */
#define GOOD_ENOUGH 0.9

/* Added to the keys of experts beyond a rank's fair share. */
#define HOT 1e30

typedef struct filling {
  const moerun__problem *problem;
  const moerun__deadline *deadline;
  moerun__replicas *replicas;
  const int32_t *rank_of; /* [L][E] of the primaries */
  moerun__split *split;   /* the primaries; fan-out only */
  moerun__visits *visits; /* fan-out only */
  double *key;            /* [E][R] of the layer; -INFINITY: not possible */
  moerun__change change;
} filling;

/* ---- Keys ---------------------------------------------------------------- */

/* Visits that end if every token that can goes to the copy instead. */
static void set_visit_keys(filling *by, int32_t layer) {
  const size_t R = (size_t)by->problem->num_ranks;
  const moerun__visits *visits = by->visits;
  moerun__visits_load(by->visits, layer);
  for (int32_t i = 0; i < visits->num_items; i++) {
    if (visits->expert_of[i] < 0) continue;
    for (int32_t r = 0; r < (int32_t)R; r++) {
      if (visits->part_of[i] == r) continue;
      by->key[(size_t)visits->expert_of[i] * R + (size_t)r] =
          (double)by->replicas->num_homes * moerun__visits_saved(visits, i, r);
    }
  }
}

/* Pairs with the experts on the copy's rank. */
static void add_pair_keys(filling *by, const int64_t *follow, int32_t other,
                          size_t step, size_t other_step) {
  const moerun__problem *problem = by->problem;
  const size_t E = (size_t)problem->num_experts;
  const size_t R = (size_t)problem->num_ranks;
  const double far = problem->objective == MOERUN_OBJECTIVE_WEIGHTED
                         ? fmax(problem->far_weight, problem->node_weight)
                         : 1;
  const int32_t *offset = by->replicas->map.replica_offset + (size_t)other * E;
  for (size_t e = 0; e < E; e++) {
    for (size_t j = 0; j < E; j++) {
      const double pairs = (double)follow[e * step + j * other_step] * far;
      for (int32_t x = offset[j]; x < offset[j + 1]; x++) {
        by->key[e * R + (size_t)by->replicas->map.rank_of[x]] +=
            pairs * by->replicas->num_homes;
      }
    }
  }
}

static void set_keys(filling *by, int32_t layer) {
  const moerun__problem *problem = by->problem;
  const size_t E = (size_t)problem->num_experts;
  const size_t R = (size_t)problem->num_ranks;
  memset(by->key, 0, E * R * sizeof *by->key);
  if (problem->objective == MOERUN_OBJECTIVE_FANOUT) {
    set_visit_keys(by, layer);
  } else {
    const int64_t *follow = problem->follow + (size_t)layer * E * E;
    if (layer > 0) add_pair_keys(by, follow - E * E, layer - 1, 1, E);
    if (layer + 1 < problem->num_layers) {
      add_pair_keys(by, follow, layer + 1, E, 1);
    }
  }
}

/* ---- Copies -------------------------------------------------------------- */

typedef struct copy {
  int32_t expert; /* -1: none */
  int32_t rank;
  double key; /* HOT included */
} copy;

/* Its replicas have more than a fair share of a rank each. */
static int is_hot(const filling *by, int32_t expert, double fair) {
  const moerun__problem *problem = by->problem;
  int32_t count = 0;
  (void)moerun__replicas_of(by->replicas, expert, &count);
  const int64_t *load = problem->load + (size_t)by->replicas->layer *
                                            (size_t)problem->num_experts;
  return (double)load[expert] > fair * count;
}

static double fair_share(const filling *by, int32_t layer) {
  const moerun__problem *problem = by->problem;
  const size_t E = (size_t)problem->num_experts;
  double total = 0;
  for (size_t e = 0; e < E; e++) {
    total += (double)problem->load[(size_t)layer * E + e];
  }
  return (1 + problem->slack) * total / problem->num_ranks;
}

/* The best copy and, in *next, the second best key. */
static copy best_copy(const filling *by, double *next, double fair) {
  const moerun__replicas *replicas = by->replicas;
  const int32_t R = replicas->map.num_ranks;
  const int32_t *held =
      replicas->slot_count + (size_t)replicas->layer * (size_t)R;
  copy best = {.expert = -1, .key = 0};
  *next = 0;
  for (int32_t e = 0; e < replicas->map.num_experts; e++) {
    const double bonus = is_hot(by, e, fair) ? HOT : 0;
    for (int32_t r = 0; r < R; r++) {
      const double key = by->key[(size_t)e * (size_t)R + (size_t)r] + bonus;
      if (key <= *next || held[r] >= replicas->room) continue;
      if (moerun__replicas_holds(replicas, e, r)) continue;
      if (key <= best.key) {
        *next = key;
        continue;
      }
      *next = best.key;
      best = (copy){e, r, key};
    }
  }
  return best;
}

/* No rank gets more and has more than its cap then. */
static int keeps_caps(const filling *by) {
  const moerun__replicas *replicas = by->replicas;
  const int32_t R = replicas->map.num_ranks;
  const int64_t *cap = by->problem->cap + (size_t)replicas->layer * (size_t)R;
  for (int32_t r = 0; r < R; r++) {
    const int64_t load = replicas->load[r] + by->change.load[r];
    if (by->change.load[r] > 0 && load > cap[r] * replicas->num_homes) {
      return 0;
    }
  }
  return 1;
}

/* Counts the copy: it is made, or gets a new key. A sample of the tokens tells
 * most of those that are not the best any more, or too much for a rank. */
static void try_copy(filling *by, const copy *best, double next) {
  double *key = by->key +
                (size_t)best->expert * (size_t)by->problem->num_ranks +
                (size_t)best->rank;
  const double bonus = best->key >= HOT ? HOT : 0;
  const int64_t samples[] = {SAMPLE, INT64_MAX};
  for (int i = 0; i < 2; i++) {
    moerun__replicas_estimate(by->replicas, &by->change, best->expert,
                              best->rank, samples[i]);
    const double gain = -by->change.cost;
    if ((bonus > 0 || gain > 0) && keeps_caps(by)) {
      *key = gain;
      if (gain + bonus < GOOD_ENOUGH * next) return;
    } else {
      *key = -INFINITY;
      return;
    }
  }
  moerun__replicas_add(by->replicas, &by->change, best->expert, best->rank);
}

/* ---- Layers -------------------------------------------------------------- */

/* The heaviest copy on the rank, or -1. */
static int32_t heaviest_copy(const filling *by, int32_t rank) {
  const moerun__problem *problem = by->problem;
  const size_t row = (size_t)by->replicas->layer * (size_t)problem->num_experts;
  int32_t found = -1;
  int32_t count = 0;
  for (int32_t e = 0; e < problem->num_experts; e++) {
    if (by->rank_of[row + (size_t)e] == rank) continue;
    if (!moerun__replicas_holds(by->replicas, e, rank)) continue;
    (void)moerun__replicas_of(by->replicas, e, &count);
    if (count < 2) continue;
    if (found >= 0 &&
        problem->load[row + (size_t)e] <= problem->load[row + (size_t)found]) {
      continue;
    }
    found = e;
  }
  return found;
}

/* A rank whose load, of `homes` homes, is over its cap because of copies, or
 * -1. */
static int32_t overfull_rank(const filling *by, int32_t homes) {
  const int32_t R = by->problem->num_ranks;
  const int64_t *cap =
      by->problem->cap + (size_t)by->replicas->layer * (size_t)R;
  for (int32_t r = 0; r < R; r++) {
    if (by->change.load[r] > cap[r] * homes && heaviest_copy(by, r) >= 0) {
      return r;
    }
  }
  return -1;
}

/* With all homes; change.load is scratch. */
static void trim_layer(filling *by) {
  for (;;) {
    double cost = 0;
    const int32_t homes =
        moerun__replicas_count(by->replicas, &cost, by->change.load);
    const int32_t rank = overfull_rank(by, homes);
    if (homes == by->replicas->num_homes || rank < 0) return;
    moerun__replicas_take(by->replicas, heaviest_copy(by, rank), rank);
  }
}

static int has_room(const moerun__replicas *replicas, int32_t layer) {
  const int32_t R = replicas->map.num_ranks;
  for (int32_t n = layer * R; n < (layer + 1) * R; n++) {
    if (replicas->slot_count[n] < replicas->room) return 1;
  }
  return 0;
}

static void fill_layer(filling *by, int32_t layer) {
  const double fair = fair_share(by, layer);
  double next = 0;
  moerun__replicas_enter(by->replicas, layer);
  set_keys(by, layer);
  while (!moerun__deadline_passed(by->deadline)) {
    const copy best = best_copy(by, &next, fair);
    if (best.expert < 0) break;
    try_copy(by, &best, next);
  }
  if (by->replicas->num_homes < by->problem->num_ranks) trim_layer(by);
}

moerun_status moerun__replicas_fill(moerun__replicas *replicas,
                                    const int32_t *rank_of,
                                    const moerun__deadline *deadline) {
  moerun_status status = MOERUN_OK;
  const moerun__problem *problem = replicas->problem;
  filling by = {.problem = problem,
                .deadline = deadline,
                .replicas = replicas,
                .rank_of = rank_of};
  const size_t R = (size_t)problem->num_ranks;
  MOERUN_TRY(
      moerun__alloc(&by.key, (size_t)problem->num_experts * R, sizeof *by.key));
  MOERUN_TRY(moerun__alloc(&by.change.load, R, sizeof *by.change.load));
  if (problem->objective == MOERUN_OBJECTIVE_FANOUT) {
    MOERUN_TRY(moerun__split_of_ranks(&by.split, problem, rank_of));
    MOERUN_TRY(moerun__visits_create(&by.visits, problem, by.split));
  }
  for (int32_t l = 0; l < problem->num_layers; l++) {
    if (moerun__deadline_passed(deadline)) break;
    if (has_room(replicas, l)) fill_layer(&by, l);
  }
done:
  moerun__visits_destroy(by.visits);
  moerun__split_destroy(by.split);
  moerun__free(by.key);
  moerun__free(by.change.load);
  return status;
}
