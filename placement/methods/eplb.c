/* Replication and packing as in DeepSeek's EPLB (github.com/deepseek-ai/EPLB),
 * step by step, so that its published example comes out slot by slot:
 *
 *   1 groups of experts onto nodes, heaviest first onto the lightest node;
 *   2 on each node one replica after the other for the expert with the most
 *     load per replica;
 *   3 replicas onto the node's ranks, heaviest first onto the lightest rank.
 *
 * Each with equal counts, ties to the lower index, and what is one a bin left
 * in its order. It balances loads on the assumption that replicas share evenly
 * and looks at no traffic. Three departures: counts may differ by one where
 * they do not divide, ranks may differ in speed, and a rank holds an expert
 * once at most, because a second replica beside the first takes no load off the
 * rank. So an expert has no more replicas than its node has ranks, and step 3
 * passes over ranks that hold the expert already. Where only such ranks have
 * room left, another replica makes room: it moves to one of them, and of all
 * that could, the one does whose two ranks are the least full afterwards. There
 * always is one: a full rank holds more than one with room, and so an expert
 * that the other lacks. */
#include "placement/methods/eplb.h"

#include "placement/judge/packing.h"
#include "runtime/base/memory.h"

#include <assert.h>
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
  int64_t *filled;       /* [ranks of a node] */
  int32_t *count;        /* [ranks of a node] replicas held */
  uint8_t *holds;        /* [ranks of a node][members of a node] */
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
  const size_t ranks = (size_t)(b->shape.num_ranks / b->shape.num_nodes);
  const size_t members = E / (size_t)b->shape.num_nodes;
  MOERUN_TRY(moerun__alloc(&b->filled, ranks, sizeof *b->filled));
  MOERUN_TRY(moerun__alloc(&b->count, ranks, sizeof *b->count));
  MOERUN_TRY(moerun__alloc(&b->holds, ranks * members, sizeof *b->holds));
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
  moerun__free(b->filled);
  moerun__free(b->count);
  moerun__free(b->holds);
}

/* The order in which `count` weights are packed into bins; 0: one each, in
 * their order, so that bin_of is known. */
static int needs_packing(balancer *b, int32_t count, const double *speed,
                         int32_t num_bins) {
  if (count != num_bins || speed != NULL) {
    moerun__heaviest_first(b->order, b->weight, count);
    return 1;
  }
  for (int32_t i = 0; i < count; i++) {
    b->bin_of[i] = i;
    b->order[i] = i;
  }
  return 0;
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
  const double *speed = b->shape.speed != NULL ? b->speed_of_node : NULL;
  if (needs_packing(b, groups, speed, nodes)) {
    const moerun__bins bins = moerun__even_bins(groups, nodes, speed, NULL);
    MOERUN_TRY(moerun__pack(b->bin_of, b->weight, groups, &bins));
  }
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

/* Step 2, for the members [first, first + count): replica[total], at most
 * `ranks` of each. */
static void replicate(balancer *b, int32_t first, int32_t count, int32_t total,
                      int32_t ranks) {
  for (int32_t i = 0; i < count; i++) {
    b->replica[i] = first + i;
    b->copies[first + i] = 1;
  }
  for (int32_t p = count; p < total; p++) {
    int32_t hottest = first;
    double most = -1;
    for (int32_t m = first; m < first + count; m++) {
      const double each = (double)b->load[b->member[m]] / b->copies[m];
      if (each <= most || b->copies[m] >= ranks) continue;
      hottest = m;
      most = each;
    }
    b->replica[p] = hottest;
    b->copies[hottest]++;
  }
}

/* ---- Step 3 -------------------------------------------------------------- */

/* The ranks of one node, while its replicas are packed onto them. */
typedef struct shelf {
  balancer *b;
  int32_t first_member;
  int32_t num_members;
  int32_t num_ranks;
  int32_t fewest;      /* replicas of a rank */
  int32_t most;        /* fewest, or one more */
  int32_t extra;       /* ranks that may still have the one more */
  const double *speed; /* [num_ranks]; NULL: all the same */
} shelf;

static uint8_t *held(const shelf *s, int32_t rank, int32_t replica) {
  return s->b->holds + (size_t)rank * (size_t)s->num_members +
         (s->b->replica[replica] - s->first_member);
}

static int has_room(const shelf *s, int32_t rank) {
  const int32_t count = s->b->count[rank];
  return count < s->fewest || (count < s->most && s->extra > 0);
}

/* With `more` on it, per unit of speed. */
static double fullness(const shelf *s, int32_t rank, int64_t more) {
  return (double)(s->b->filled[rank] + more) /
         (s->speed != NULL ? s->speed[rank] : 1.0);
}

static void put(shelf *s, int32_t replica, int32_t rank) {
  if (s->b->count[rank] >= s->fewest) s->extra--;
  s->b->count[rank]++;
  s->b->filled[rank] += s->b->weight[replica];
  s->b->bin_of[replica] = rank;
  *held(s, rank, replica) = 1;
}

/* The rank with room that lacks the expert and is the least full with it, or
 * -1. */
static int32_t lightest_rank(const shelf *s, int32_t replica) {
  int32_t best = -1;
  double least = HUGE_VAL;
  for (int32_t r = 0; r < s->num_ranks; r++) {
    if (!has_room(s, r) || *held(s, r, replica)) continue;
    const double full = fullness(s, r, s->b->weight[replica]);
    if (full >= least) continue;
    best = r;
    least = full;
  }
  return best;
}

/* Only ranks that hold the expert have room for b->order[at]: another replica
 * goes to one of these and leaves it its place. */
static void make_room(shelf *s, int32_t at) {
  balancer *b = s->b;
  const int32_t p = b->order[at];
  int32_t moved = -1;
  int32_t to = -1;
  double least = HUGE_VAL;
  for (int32_t i = 0; i < at; i++) {
    const int32_t q = b->order[i];
    const int32_t from = b->bin_of[q];
    if (*held(s, from, p)) continue;
    const double left = fullness(s, from, b->weight[p] - b->weight[q]);
    for (int32_t r = 0; left < least && r < s->num_ranks; r++) {
      if (!has_room(s, r) || *held(s, r, q)) continue;
      const double full = fmax(left, fullness(s, r, b->weight[q]));
      if (full >= least) continue;
      moved = q;
      to = r;
      least = full;
    }
  }
  assert(moved >= 0); /* see the top */
  const int32_t from = b->bin_of[moved];
  *held(s, from, moved) = 0;
  *held(s, from, p) = 1;
  b->filled[from] += b->weight[p] - b->weight[moved];
  b->bin_of[p] = from;
  put(s, moved, to);
}

/* replica[total] onto the ranks: bin_of. */
static void pack_apart(shelf *s, int32_t total) {
  balancer *b = s->b;
  const size_t ranks = (size_t)s->num_ranks;
  memset(b->filled, 0, ranks * sizeof *b->filled);
  memset(b->count, 0, ranks * sizeof *b->count);
  memset(b->holds, 0, ranks * (size_t)s->num_members);
  s->fewest = total / s->num_ranks;
  s->extra = total % s->num_ranks;
  s->most = s->fewest + (s->extra > 0);
  for (int32_t at = 0; at < total; at++) {
    const int32_t rank = lightest_rank(s, b->order[at]);
    if (rank >= 0) {
      put(s, b->order[at], rank);
    } else {
      make_room(s, at);
    }
  }
}

/* ---- A layer ------------------------------------------------------------- */

/* Steps 2 and 3 of one node. */
static void place_node(balancer *b, int32_t node, int32_t *expert_of,
                       int32_t *rank_of) {
  const int32_t members = b->shape.num_experts / b->shape.num_nodes;
  const int32_t total = b->shape.num_replicas / b->shape.num_nodes;
  const int32_t ranks = b->shape.num_ranks / b->shape.num_nodes;
  const double *speed = b->shape.speed;
  shelf s = {.b = b,
             .first_member = node * members,
             .num_members = members,
             .num_ranks = ranks,
             .speed = speed != NULL ? speed + (ptrdiff_t)node * ranks : NULL};
  replicate(b, node * members, members, total, ranks);
  for (int32_t p = 0; p < total; p++) {
    const int32_t m = b->replica[p];
    b->weight[p] = b->load[b->member[m]] * b->unit / b->copies[m];
  }
  if (needs_packing(b, total, s.speed, ranks)) pack_apart(&s, total);
  int32_t next = node * total;
  for (int32_t r = 0; r < ranks; r++) {
    for (int32_t i = 0; i < total; i++) {
      const int32_t p = b->order[i];
      if (b->bin_of[p] != r) continue;
      expert_of[next] = b->member[b->replica[p]];
      rank_of[next++] = node * ranks + r;
    }
  }
}

int moerun__eplb_has_levels(const moerun__eplb_shape *shape) {
  return shape->num_groups % shape->num_nodes == 0;
}

int64_t moerun__eplb_most(const moerun__eplb_shape *shape) {
  const int32_t nodes = moerun__eplb_has_levels(shape) ? shape->num_nodes : 1;
  return (int64_t)shape->num_experts * (shape->num_ranks / nodes);
}

moerun_status moerun__eplb_layer(int32_t *expert_of, int32_t *rank_of,
                                 const int64_t *load,
                                 const moerun__eplb_shape *shape) {
  moerun_status status = MOERUN_OK;
  balancer b = {.shape = *shape, .load = load};
  if (!moerun__eplb_has_levels(shape)) {
    b.shape.num_groups = 1;
    b.shape.num_nodes = 1;
  }
  MOERUN_TRY(prepare(&b));
  MOERUN_TRY(pack_groups(&b));
  for (int32_t n = 0; n < b.shape.num_nodes; n++) {
    place_node(&b, n, expert_of, rank_of);
  }
done:
  clear(&b);
  return status;
}
