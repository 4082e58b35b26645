/* Replication and packing as in DeepSeek's EPLB (github.com/deepseek-ai/EPLB),
 * step by step, so that its published example comes out slot by slot:
 *
 *   1 groups of experts onto nodes, heaviest first onto the lightest node;
 *   2 on each node one replica after the other for the expert with the most
 *     load per replica;
 *   3 replicas onto the node's ranks, heaviest first onto the lightest rank.
 *
 * Each with equal counts, ties to the lower index, and what is one a bin left in
 * its order. It balances loads on the assumption that replicas share evenly and
 * looks at no traffic. Two departures: counts may differ by one where they do
 * not divide, and ranks may differ in speed. And a placement here holds an expert
 * once on a rank at most: of two replicas that were packed onto one rank the
 * second gives its slot, afterwards, to the expert that adds the least load:
 * the balance stays, and so do equal counts. */
#include "placement/eplb.h"
#include "placement/methods.h"

#include "placement/packing.h"
#include "runtime/base/memory.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

/* Loads per replica are fractions: counted in units of 2^-20 tokens, or in
 * larger ones where their sum would pass 2^52 and lose bits as a double. */
enum { FRACTION_BITS = 20, SUM_BITS = 52 };

typedef struct balancer {
  moerun__eplb_shape shape;
  const int64_t *load;
  int64_t unit;          /* of packed loads, in tokens: 1 / unit */
  int32_t *member;       /* [E] experts, node by node */
  int32_t *copies;       /* [E] replicas of members */
  int32_t *replica;      /* [P] member, of one node */
  int64_t *weight;       /* [P] of what is packed */
  int32_t *bin_of;       /* [P] */
  int32_t *order;        /* [P] */
  double *speed_of_node; /* [nodes] */
} balancer;

static moerun_status prepare(balancer *b) {
  moerun_status status = MOERUN_OK;
  const size_t E = (size_t)b->shape.num_experts;
  const size_t P = (size_t)b->shape.num_replicas;
  int64_t total = 1;
  for (size_t e = 0; e < E; e++) {
    total += b->load[e];
  }
  b->unit = 1;
  for (int i = 0; i < FRACTION_BITS && total < INT64_C(1) << (SUM_BITS - 1);
       i++) {
    b->unit *= 2;
    total *= 2;
  }
  MOERUN_TRY(moerun__alloc(&b->member, E, sizeof *b->member));
  MOERUN_TRY(moerun__alloc(&b->copies, E, sizeof *b->copies));
  MOERUN_TRY(moerun__alloc(&b->replica, P, sizeof *b->replica));
  MOERUN_TRY(moerun__alloc(&b->weight, P, sizeof *b->weight));
  MOERUN_TRY(moerun__alloc(&b->bin_of, P, sizeof *b->bin_of));
  MOERUN_TRY(moerun__alloc(&b->order, P, sizeof *b->order));
  MOERUN_TRY(moerun__alloc(&b->speed_of_node, (size_t)b->shape.num_nodes,
                           sizeof *b->speed_of_node));
done:
  return status;
}

static void clear(balancer *b) {
  moerun__free(b->member);
  moerun__free(b->copies);
  moerun__free(b->replica);
  moerun__free(b->weight);
  moerun__free(b->bin_of);
  moerun__free(b->order);
  moerun__free(b->speed_of_node);
}

/* weight[count] into bins: bin_of, and the order in which they got there. */
static moerun_status pack(balancer *b, int32_t count, const double *speed,
                          int32_t num_bins) {
  if (count != num_bins || speed != NULL) {
    moerun__heaviest_first(b->order, b->weight, count);
    const moerun__bins bins = moerun__even_bins(count, num_bins, speed, NULL);
    return moerun__pack(b->bin_of, b->weight, count, &bins);
  }
  for (int32_t i = 0; i < count; i++) {
    b->bin_of[i] = i;
    b->order[i] = i;
  }
  return MOERUN_OK;
}

/* Step 1: member[E]. */
static moerun_status pack_groups(balancer *b) {
  moerun_status status = MOERUN_OK;
  const int32_t groups = b->shape.num_groups;
  const int32_t nodes = b->shape.num_nodes;
  const int32_t size = b->shape.num_experts / groups;
  const int32_t per_node = b->shape.num_ranks / nodes;
  for (int32_t g = 0; g < groups; g++) {
    b->weight[g] = 0;
    for (int32_t i = 0; i < size; i++) {
      b->weight[g] += b->load[g * size + i];
    }
  }
  for (int32_t r = 0; b->shape.speed != NULL && r < b->shape.num_ranks; r++) {
    b->speed_of_node[r / per_node] += b->shape.speed[r];
  }
  MOERUN_TRY(
      pack(b, groups, b->shape.speed != NULL ? b->speed_of_node : NULL, nodes));
  int32_t next = 0;
  for (int32_t n = 0; n < nodes; n++) {
    for (int32_t i = 0; i < groups; i++) {
      const int32_t g = b->order[i];
      for (int32_t j = 0; b->bin_of[g] == n && j < size; j++) {
        b->member[next++] = g * size + j;
      }
    }
  }
done:
  return status;
}

/* Step 2, for the members [first, first + count): replica[total]. */
static void replicate(balancer *b, int32_t first, int32_t count,
                      int32_t total) {
  for (int32_t i = 0; i < count; i++) {
    b->replica[i] = first + i;
    b->copies[first + i] = 1;
  }
  for (int32_t p = count; p < total; p++) {
    int32_t hottest = first;
    double most = -1;
    for (int32_t m = first; m < first + count; m++) {
      const double each = (double)b->load[b->member[m]] / b->copies[m];
      if (each <= most) continue;
      hottest = m;
      most = each;
    }
    b->replica[p] = hottest;
    b->copies[hottest]++;
  }
}

/* Steps 2 and 3 of one node. */
static moerun_status place_node(balancer *b, int32_t node, int32_t *expert_of,
                                int32_t *rank_of) {
  moerun_status status = MOERUN_OK;
  const int32_t members = b->shape.num_experts / b->shape.num_nodes;
  const int32_t total = b->shape.num_replicas / b->shape.num_nodes;
  const int32_t ranks = b->shape.num_ranks / b->shape.num_nodes;
  const double *speed = b->shape.speed;
  replicate(b, node * members, members, total);
  for (int32_t p = 0; p < total; p++) {
    const int32_t m = b->replica[p];
    b->weight[p] = b->load[b->member[m]] * b->unit / b->copies[m];
  }
  MOERUN_TRY(pack(
      b, total, speed != NULL ? speed + (ptrdiff_t)node * ranks : NULL, ranks));
  int32_t next = node * total;
  for (int32_t r = 0; r < ranks; r++) {
    for (int32_t i = 0; i < total; i++) {
      const int32_t p = b->order[i];
      if (b->bin_of[p] != r) continue;
      expert_of[next] = b->member[b->replica[p]];
      rank_of[next++] = node * ranks + r;
    }
  }
done:
  return status;
}

moerun_status moerun__eplb_layer(int32_t *expert_of, int32_t *rank_of,
                                 const int64_t *load,
                                 const moerun__eplb_shape *shape) {
  moerun_status status = MOERUN_OK;
  balancer b = {.shape = *shape, .load = load};
  if (shape->num_groups % shape->num_nodes != 0) {
    b.shape.num_groups = 1;
    b.shape.num_nodes = 1;
  }
  MOERUN_TRY(prepare(&b));
  MOERUN_TRY(pack_groups(&b));
  for (int32_t n = 0; n < b.shape.num_nodes; n++) {
    MOERUN_TRY(place_node(&b, n, expert_of, rank_of));
  }
done:
  clear(&b);
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
  const int64_t replicas =
      E + (int64_t)problem->num_ranks * options->spare_slots;
  MOERUN_REQUIRE(E % groups == 0, MOERUN_ERR_INVALID,
                 "placement: expert groups: expected a divisor of %d experts, "
                 "found %d",
                 E, groups);
  MOERUN_REQUIRE(replicas <= MOERUN_PLACEMENT_MAX_ENTRIES, MOERUN_ERR_INVALID,
                 "placement: expected at most %d replicas of a layer, found "
                 "%lld",
                 MOERUN_PLACEMENT_MAX_ENTRIES, (long long)replicas);
  *out = (moerun__eplb_shape){.num_experts = E,
                              .num_replicas = (int32_t)replicas,
                              .num_groups = groups,
                              .num_nodes = topology->num_ranks /
                                           topology->ranks_per_node,
                              .num_ranks = topology->num_ranks};
  for (int32_t r = 1; r < topology->num_ranks; r++) {
    if (topology->speed[r] != topology->speed[0]) out->speed = topology->speed;
  }
done:
  return status;
}

/* Whether a replica of `expert` is among expert_of[first .. end). */
static int is_among(const int32_t *expert_of, int32_t first, int32_t end,
                    int32_t expert) {
  for (int32_t p = first; p < end; p++) {
    if (expert_of[p] == expert) return 1;
  }
  return 0;
}

/* Beside the packing of a layer. */
typedef struct gaps {
  const moerun__eplb_shape *shape;
  const int64_t *load;
  int32_t *copies;  /* [E] */
  int32_t *node_of; /* [E] the one node that may hold it, or -1: all may */
} gaps;

/* Second replicas on a rank become -1. */
static void find_seconds(gaps *g, int32_t *expert_of, const int32_t *rank_of) {
  const moerun__eplb_shape *shape = g->shape;
  const int levels = shape->num_groups % shape->num_nodes == 0;
  const int32_t per_node = shape->num_ranks / shape->num_nodes;
  int32_t first = 0; /* of this rank */
  memset(g->copies, 0, (size_t)shape->num_experts * sizeof *g->copies);
  for (int32_t p = 0; p < shape->num_replicas; p++) {
    const int32_t e = expert_of[p];
    if (rank_of[p] != rank_of[first]) first = p;
    g->node_of[e] = levels ? rank_of[p] / per_node : -1;
    if (is_among(expert_of, first, p, e)) {
      expert_of[p] = -1;
    } else {
      g->copies[e]++;
    }
  }
}

/* The lightest replica that a rank on `node` with [first, end) lacks; -1: it has
 * all that it may hold. */
static int32_t lightest(const gaps *g, const int32_t *expert_of, int32_t first,
                        int32_t end, int32_t node) {
  int32_t best = -1;
  double least = HUGE_VAL;
  for (int32_t e = 0; e < g->shape->num_experts; e++) {
    const double each = (double)g->load[e] / (g->copies[e] + 1);
    if (each >= least || (g->node_of[e] >= 0 && g->node_of[e] != node))
      continue;
    if (is_among(expert_of, first, end, e)) continue;
    best = e;
    least = each;
  }
  return best;
}

static void replace_seconds(gaps *g, int32_t *expert_of,
                            const int32_t *rank_of) {
  const int32_t P = g->shape->num_replicas;
  const int32_t per_node = g->shape->num_ranks / g->shape->num_nodes;
  int32_t first = 0;
  find_seconds(g, expert_of, rank_of);
  for (int32_t p = 0; p < P; p++) {
    if (rank_of[p] != rank_of[first]) first = p;
    if (expert_of[p] >= 0) continue;
    int32_t end = p + 1;
    while (end < P && rank_of[end] == rank_of[p]) {
      end++;
    }
    expert_of[p] = lightest(g, expert_of, first, end, rank_of[p] / per_node);
    if (expert_of[p] >= 0) g->copies[expert_of[p]]++;
  }
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
    if (expert_of[p] < 0) continue;
    solution->copies[(rows + (size_t)rank_of[p]) * width + slot] = expert_of[p];
    ranks[expert_of[p]] = rank_of[p];
  }
}

moerun_status moerun__solve_eplb(moerun__solution *solution,
                                 const moerun__problem *problem,
                                 const moerun__method_options *options) {
  moerun_status status = MOERUN_OK;
  moerun__eplb_shape shape = {0};
  gaps g = {.shape = &shape};
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
  MOERUN_TRY(moerun__alloc(&g.copies, E, sizeof *g.copies));
  MOERUN_TRY(moerun__alloc(&g.node_of, E, sizeof *g.node_of));
  MOERUN_TRY(
      moerun__alloc(&solution->copies, places, sizeof *solution->copies));
  memset(solution->copies, 0xff, places * sizeof *solution->copies);
  for (int32_t l = 0; l < problem->num_layers; l++) {
    g.load = problem->load + (size_t)l * E;
    MOERUN_TRY(moerun__eplb_layer(expert_of, rank_of, g.load, &shape));
    replace_seconds(&g, expert_of, rank_of);
    keep_layer(solution, l, &shape, expert_of, rank_of);
  }
done:
  moerun__free(expert_of);
  moerun__free(rank_of);
  moerun__free(g.copies);
  moerun__free(g.node_of);
  return status;
}
