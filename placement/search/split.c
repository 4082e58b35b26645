/* Ranks by levels: links between nodes are the slow ones, so the experts are
 * first split into nodes, as if each were one large rank, and each node's into
 * its ranks then. A flat search for ranks leaves more pairs between nodes than
 * this does, because it does not know which ranks are neighbours.
 *
 * A node's cap leaves room for its ranks: with rank caps of 1.05 times the mean
 * a node that is full to 1.05 could be split only if its parts came out exactly
 * even, so half of the slack is kept back for the second level. Where a node's
 * experts do not fit its ranks all the same (a hot one may leave room for the
 * lightest of all only), light experts change nodes until they do; if that
 * fails, the layer starts its second level from the even packing that the first
 * began with. */
#include "placement/search/split.h"

#include "placement/judge/packing.h"
#include "runtime/base/memory.h"

#include <string.h>

static moerun_status create_split(moerun__split **out, int32_t num_layers,
                                  int32_t num_items, int32_t num_parts,
                                  int32_t most_blanks) {
  moerun_status status = MOERUN_OK;
  moerun__split *split = NULL;
  *out = NULL;
  MOERUN_TRY(moerun__alloc(&split, 1, sizeof *split));
  split->num_layers = num_layers;
  split->num_items = num_items;
  split->num_parts = num_parts;
  split->most_blanks = most_blanks;
  const size_t entries = (size_t)num_layers * (size_t)num_items;
  const size_t caps = (size_t)num_layers * (size_t)num_parts;
  MOERUN_TRY(
      moerun__alloc(&split->expert_of, entries, sizeof *split->expert_of));
  MOERUN_TRY(moerun__alloc(&split->cap, caps, sizeof *split->cap));
  MOERUN_TRY(moerun__alloc(&split->part_of, entries, sizeof *split->part_of));
  *out = split;
  split = NULL;
done:
  moerun__split_destroy(split);
  return status;
}

void moerun__split_destroy(moerun__split *split) {
  if (split == NULL) return;
  moerun__free(split->expert_of);
  moerun__free(split->cap);
  moerun__free(split->part_of);
  moerun__free(split);
}

/* Experts of one layer that are on ranks first .. first + P * width - 1 become
 * its items, in ascending order, rank first + i being in part i / width; blanks
 * go where parts are short. */
static void take_layer(moerun__split *split, int32_t layer,
                       const int32_t *rank_of, int32_t num_experts,
                       int32_t first, int32_t width) {
  const size_t row = (size_t)layer * (size_t)split->num_items;
  int32_t *expert_of = split->expert_of + row;
  int32_t *part_of = split->part_of + row;
  const int32_t per_part = split->num_items / split->num_parts;
  int32_t n = 0;
  for (int32_t e = 0; e < num_experts; e++) {
    const int32_t rank =
        rank_of[(size_t)layer * (size_t)num_experts + (size_t)e];
    if (rank < first || rank >= first + split->num_parts * width) continue;
    expert_of[n] = e;
    part_of[n++] = (rank - first) / width;
  }
  for (int32_t p = 0; n < split->num_items; p++) {
    int32_t count = 0;
    for (int32_t i = 0; i < n; i++) {
      count += part_of[i] == p;
    }
    for (; count < per_part; count++) {
      expert_of[n] = -1;
      part_of[n++] = p;
    }
  }
}

/* ---- Ranks --------------------------------------------------------------- */

static int32_t blanks_per_rank(const moerun__problem *problem) {
  return problem->most_slots - problem->fewest_slots;
}

moerun_status moerun__split_of_ranks(moerun__split **out,
                                     const moerun__problem *problem,
                                     const int32_t *rank_of) {
  moerun_status status = MOERUN_OK;
  const int32_t R = problem->num_ranks;
  MOERUN_TRY(create_split(out, problem->num_layers, R * problem->most_slots, R,
                          blanks_per_rank(problem)));
  memcpy((*out)->cap, problem->cap,
         (size_t)problem->num_layers * (size_t)R * sizeof *problem->cap);
  for (int32_t l = 0; l < problem->num_layers; l++) {
    take_layer(*out, l, rank_of, problem->num_experts, 0, 1);
  }
done:
  return status;
}

void moerun__split_to_ranks(int32_t *rank_of, const moerun__split *split,
                            int32_t num_experts) {
  for (int32_t l = 0; l < split->num_layers; l++) {
    const size_t row = (size_t)l * (size_t)split->num_items;
    int32_t *layer = rank_of + (size_t)l * (size_t)num_experts;
    for (size_t i = row; i < row + (size_t)split->num_items; i++) {
      if (split->expert_of[i] >= 0) {
        layer[split->expert_of[i]] = split->part_of[i];
      }
    }
  }
}

moerun_status moerun__start_ranks(int32_t *rank_of,
                                  const moerun__problem *problem) {
  moerun_status status = MOERUN_OK;
  const size_t E = (size_t)problem->num_experts;
  for (int32_t l = 0; l < problem->num_layers; l++) {
    int32_t overfull = -1;
    const moerun__bins bins = moerun__problem_bins(problem, l);
    MOERUN_TRY(moerun__pack_within(rank_of + (size_t)l * E, &overfull,
                                   problem->load + (size_t)l * E,
                                   problem->num_experts, &bins));
    MOERUN_REQUIRE(overfull < 0, MOERUN_ERR_INFEASIBLE,
                   "placement: layer %d, rank %d: no packing within the load "
                   "caps was found",
                   l, overfull);
  }
done:
  return status;
}

/* ---- Nodes --------------------------------------------------------------- */

typedef struct levels {
  const moerun__problem *problem;
  const moerun__method_options *options;
  const moerun__deadline *deadline;
  moerun__splitter splitter;
  int32_t num_nodes;
  int32_t per_node;     /* ranks of a node */
  const int32_t *start; /* [L][E] ranks within the caps */
  int32_t *node_of;     /* [L][E] */
  int64_t *load;        /* [E] scratch: of a node's experts */
  int32_t *expert;      /* [E] scratch: those experts */
  int32_t *packed;      /* [E] scratch */
} levels;

/* As much above its share as half of what its ranks may be, but no more than
 * the slack; never below what it starts with. */
static void set_node_caps(const levels *by, moerun__split *nodes,
                          int32_t layer) {
  const moerun__problem *problem = by->problem;
  const size_t E = (size_t)problem->num_experts;
  const int64_t *load = problem->load + (size_t)layer * E;
  const int32_t *start = by->start + (size_t)layer * E;
  const int64_t *rank_cap =
      problem->cap + (size_t)layer * (size_t)problem->num_ranks;
  int64_t *cap = nodes->cap + (size_t)layer * (size_t)by->num_nodes;
  double total = 0;
  for (size_t e = 0; e < E; e++) {
    total += (double)load[e];
  }
  for (int32_t node = 0; node < by->num_nodes; node++) {
    double speed = 0;
    double caps = 0;
    int64_t started = 0;
    for (int32_t r = node * by->per_node; r < (node + 1) * by->per_node; r++) {
      speed += problem->topology->speed[r];
      caps += (double)rank_cap[r];
    }
    for (size_t e = 0; e < E; e++) {
      if (start[e] / by->per_node == node) started += load[e];
    }
    const double share = total * speed / problem->num_ranks;
    double most = share + (caps - share) / 2;
    if (most > (1 + problem->slack) * share)
      most = (1 + problem->slack) * share;
    if (most > caps) most = caps; /* other nodes have ranks that are held */
    cap[node] = most > (double)started ? (int64_t)most : started;
  }
}

/* One node's experts of a layer packed into its ranks; 0 in *fits: not within
 * the caps. */
static moerun_status pack_node(const levels *by, int32_t *rank_of,
                               int32_t layer, int32_t node, int *fits) {
  moerun_status status = MOERUN_OK;
  const moerun__problem *problem = by->problem;
  const size_t row = (size_t)layer * (size_t)problem->num_experts;
  const int32_t first = node * by->per_node;
  int32_t count = 0;
  int32_t overfull = -1;
  moerun__bins ranks = moerun__problem_bins(problem, layer);
  ranks.count = by->per_node;
  ranks.speed += first;
  ranks.cap += first;
  for (int32_t e = 0; e < problem->num_experts; e++) {
    if (by->node_of[row + (size_t)e] != node) continue;
    by->expert[count] = e;
    by->load[count++] = problem->load[row + (size_t)e];
  }
  MOERUN_TRY(
      moerun__pack_within(by->packed, &overfull, by->load, count, &ranks));
  for (int32_t i = 0; i < count; i++) {
    rank_of[row + (size_t)by->expert[i]] = first + by->packed[i];
  }
  if (overfull >= 0) *fits = 0;
done:
  return status;
}

static moerun_status repair_layer(const levels *by, int32_t *rank_of,
                                  int32_t layer) {
  moerun_status status = MOERUN_OK;
  const moerun__problem *problem = by->problem;
  const size_t E = (size_t)problem->num_experts;
  const size_t row = (size_t)layer * E;
  int32_t overfull = -1;
  const moerun__bins bins = moerun__problem_bins(problem, layer);
  MOERUN_TRY(moerun__pack_repair(rank_of + row, &overfull, problem->load + row,
                                 problem->num_experts, &bins, by->per_node));
  if (overfull >= 0) {
    memcpy(rank_of + row, by->start + row, E * sizeof *rank_of);
  }
done:
  return status;
}

static moerun_status split_into_nodes(const levels *by, int32_t *rank_of) {
  moerun_status status = MOERUN_OK;
  moerun__split *nodes = NULL;
  const moerun__problem *problem = by->problem;
  const int32_t E = problem->num_experts;
  MOERUN_TRY(create_split(
      &nodes, problem->num_layers, problem->num_ranks * problem->most_slots,
      by->num_nodes, blanks_per_rank(problem) * by->per_node));
  for (int32_t l = 0; l < problem->num_layers; l++) {
    take_layer(nodes, l, by->start, E, 0, by->per_node);
    set_node_caps(by, nodes, l);
  }
  MOERUN_TRY(by->splitter(nodes, problem, by->options, by->deadline));
  moerun__split_to_ranks(by->node_of, nodes, E);
  for (int32_t l = 0; l < problem->num_layers; l++) {
    int fits = 1;
    for (int32_t node = 0; node < by->num_nodes; node++) {
      MOERUN_TRY(pack_node(by, rank_of, l, node, &fits));
    }
    if (!fits) MOERUN_TRY(repair_layer(by, rank_of, l));
  }
done:
  moerun__split_destroy(nodes);
  return status;
}

static moerun_status split_node(const levels *by, int32_t *rank_of,
                                int32_t node) {
  moerun_status status = MOERUN_OK;
  moerun__split *ranks = NULL;
  const moerun__problem *problem = by->problem;
  const int32_t E = problem->num_experts;
  const int32_t first = node * by->per_node;
  MOERUN_TRY(create_split(&ranks, problem->num_layers,
                          by->per_node * problem->most_slots, by->per_node,
                          blanks_per_rank(problem)));
  for (int32_t l = 0; l < problem->num_layers; l++) {
    take_layer(ranks, l, rank_of, E, first, 1);
    memcpy(ranks->cap + (size_t)l * (size_t)by->per_node,
           problem->cap + (size_t)l * (size_t)problem->num_ranks +
               (size_t)first,
           (size_t)by->per_node * sizeof *ranks->cap);
  }
  MOERUN_TRY(by->splitter(ranks, problem, by->options, by->deadline));
  for (size_t i = 0; i < (size_t)ranks->num_layers * (size_t)ranks->num_items;
       i++) {
    ranks->part_of[i] += first;
  }
  moerun__split_to_ranks(rank_of, ranks, E);
done:
  moerun__split_destroy(ranks);
  return status;
}

static moerun_status place_nodes(levels *by, int32_t *rank_of) {
  moerun_status status = MOERUN_OK;
  const size_t E = (size_t)by->problem->num_experts;
  const size_t entries = (size_t)by->problem->num_layers * E;
  MOERUN_TRY(moerun__alloc(&by->node_of, entries, sizeof *by->node_of));
  MOERUN_TRY(moerun__alloc(&by->load, E, sizeof *by->load));
  MOERUN_TRY(moerun__alloc(&by->expert, E, sizeof *by->expert));
  MOERUN_TRY(moerun__alloc(&by->packed, E, sizeof *by->packed));
  MOERUN_TRY(split_into_nodes(by, rank_of));
  for (int32_t node = 0; node < by->num_nodes; node++) {
    MOERUN_TRY(split_node(by, rank_of, node));
  }
done:
  moerun__free(by->node_of);
  moerun__free(by->load);
  moerun__free(by->expert);
  moerun__free(by->packed);
  return status;
}

moerun_status moerun__place_by_levels(int32_t *rank_of,
                                      const moerun__problem *problem,
                                      const moerun__method_options *options,
                                      const moerun__deadline *deadline,
                                      moerun__splitter splitter) {
  moerun_status status = MOERUN_OK;
  int32_t *start = NULL;
  moerun__split *flat = NULL;
  const int32_t per_node = problem->topology->ranks_per_node;
  const int32_t nodes = problem->topology->num_nodes;
  const size_t entries =
      (size_t)problem->num_layers * (size_t)problem->num_experts;
  levels by = {.problem = problem,
               .options = options,
               .deadline = deadline,
               .splitter = splitter,
               .num_nodes = nodes,
               .per_node = per_node};
  MOERUN_TRY(moerun__alloc(&start, entries, sizeof *start));
  MOERUN_TRY(moerun__start_ranks(start, problem));
  if (nodes > 1 && per_node > 1) {
    by.start = start;
    MOERUN_TRY(place_nodes(&by, rank_of));
    goto done;
  }
  MOERUN_TRY(moerun__split_of_ranks(&flat, problem, start));
  MOERUN_TRY(splitter(flat, problem, options, deadline));
  moerun__split_to_ranks(rank_of, flat, problem->num_experts);
done:
  moerun__free(start);
  moerun__split_destroy(flat);
  return status;
}
