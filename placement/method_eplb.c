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
 * not divide, and ranks may differ in speed. A placement here holds an expert
 * once on a rank at most, so of two replicas on one rank one is dropped after
 * the packing and its slot stays empty. */
#include "placement/eplb.h"
#include "placement/methods.h"

#include "placement/packing.h"
#include "runtime/base/memory.h"

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
    return moerun__pack_evenly(b->bin_of, b->weight, count, speed, num_bins);
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

moerun_status moerun__solve_eplb(moerun__solution *solution,
                                 const moerun__problem *problem,
                                 const moerun__method_options *options) {
  moerun_status status = MOERUN_OK;
  moerun__eplb_shape shape = {0};
  int32_t *expert_of = NULL;
  int32_t *rank_of = NULL;
  MOERUN_TRY(make_shape(&shape, problem, options));
  const size_t E = (size_t)shape.num_experts;
  const size_t P = (size_t)shape.num_replicas;
  const size_t R = (size_t)shape.num_ranks;
  const size_t L = (size_t)problem->num_layers;
  const size_t width = (P + R - 1) / R;
  solution->copies_per_rank = (int32_t)width;
  MOERUN_TRY(moerun__alloc(&expert_of, P, sizeof *expert_of));
  MOERUN_TRY(moerun__alloc(&rank_of, P, sizeof *rank_of));
  MOERUN_TRY(moerun__alloc(&solution->copies, L * R * width,
                           sizeof *solution->copies));
  memset(solution->copies, 0xff, L * R * width * sizeof *solution->copies);
  for (size_t l = 0; l < L; l++) {
    int32_t *copies = solution->copies + l * R * width;
    size_t slot = 0;
    MOERUN_TRY(
        moerun__eplb_layer(expert_of, rank_of, problem->load + l * E, &shape));
    for (size_t p = 0; p < P; p++) {
      slot = p > 0 && rank_of[p] == rank_of[p - 1] ? slot + 1 : 0;
      copies[(size_t)rank_of[p] * width + slot] = expert_of[p];
      solution->rank_of[l * E + (size_t)expert_of[p]] = rank_of[p];
    }
  }
done:
  moerun__free(expert_of);
  moerun__free(rank_of);
  return status;
}
