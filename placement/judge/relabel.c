/* Groups of experts to ranks, one boundary after the other: an assignment
 * problem for each. With distances that are all alike the boundaries do not
 * touch each other, because any renaming of a layer can be undone in the next
 * one, so the sum is least overall; with other distances each step is best for
 * the one boundary that it looks back to.
 *
 * The busiest link of a boundary (MoETuner's objective, for which it takes an
 * integer program of R^4 rows) needs no more than that. A renaming keeps R
 * links inside ranks, no two of one group; the busiest of the others is least
 * if the heaviest links are kept as long as no two of them collide. Among all
 * renamings that keep those, the one that keeps most is taken. */
#include "placement/judge/relabel.h"

#include "placement/judge/assignment.h"
#include "placement/judge/packing.h"
#include "runtime/base/memory.h"

#include <math.h>
#include <string.h>

/* Weights of distances become whole in this unit; 2^48 / UNIT pairs fit. */
enum { UNIT = 1 << 16 };

/* More than any sum of pairs. */
#define MUST_KEEP (INT64_C(1) << 40)

typedef struct relabelling {
  const moerun__problem *problem;
  int64_t *pairs; /* [R][R] from a rank of the layer before to a group */
  int64_t *gain;  /* [R][R] of a group on a rank */
  int64_t *load;  /* [R] of a group */
  int32_t *rank;  /* [R] of a group */
  int32_t *room;  /* [R] 1 */
  int32_t *order; /* [R * R] scratch */
  int32_t *taken; /* [2][R] scratch */
} relabelling;

static int64_t distance(const moerun__problem *problem, int32_t a, int32_t b) {
  if (a == b) return 0;
  if (problem->objective != MOERUN_OBJECTIVE_WEIGHTED) return UNIT;
  return llround(UNIT * (moerun__topology_same_node(problem->topology, a, b)
                             ? problem->node_weight
                             : problem->far_weight));
}

static void count_pairs(const relabelling *s, const int32_t *rank_of,
                        int32_t layer) {
  const size_t E = (size_t)s->problem->num_experts;
  const size_t R = (size_t)s->problem->num_ranks;
  const int32_t *before = rank_of + (size_t)layer * E;
  const int32_t *after = before + E;
  const int64_t *follow = s->problem->follow + (size_t)layer * E * E;
  memset(s->pairs, 0, R * R * sizeof *s->pairs);
  memset(s->load, 0, R * sizeof *s->load);
  for (size_t i = 0; i < E; i++) {
    for (size_t j = 0; j < E; j++) {
      s->pairs[(size_t)before[i] * R + (size_t)after[j]] += follow[i * E + j];
    }
    s->load[after[i]] += s->problem->load[((size_t)layer + 1) * E + i];
  }
}

static int is_allowed(const relabelling *s, int32_t layer, int32_t group,
                      int32_t rank) {
  const size_t R = (size_t)s->problem->num_ranks;
  return s->load[group] <=
         s->problem->cap[((size_t)layer + 1) * R + (size_t)rank];
}

static void set_gains(const relabelling *s, int32_t layer) {
  const int32_t R = s->problem->num_ranks;
  for (int32_t g = 0; g < R; g++) {
    for (int32_t r = 0; r < R; r++) {
      int64_t cost = 0;
      for (int32_t q = 0; q < R; q++) {
        cost += distance(s->problem, q, r) * s->pairs[q * R + g];
      }
      s->gain[g * R + r] =
          is_allowed(s, layer, g, r) ? -cost : -MOERUN_FORBIDDEN;
    }
  }
}

/* The heaviest link that cannot be kept together with all heavier ones. taken
 * [2][R] is scratch: ranks and groups of those. */
static int64_t heaviest_in_the_way(const relabelling *s, int32_t layer) {
  const int32_t R = s->problem->num_ranks;
  int32_t *taken_group = s->taken + R;
  memset(s->taken, 0, 2 * (size_t)R * sizeof *s->taken);
  moerun__heaviest_first(s->order, s->pairs, R * R);
  for (int32_t n = 0; n < R * R; n++) {
    const int32_t q = s->order[n] / R;
    const int32_t g = s->order[n] % R;
    if (s->taken[q] || taken_group[g] || !is_allowed(s, layer, g, q)) {
      return s->pairs[s->order[n]];
    }
    s->taken[q] = 1;
    taken_group[g] = 1;
  }
  return 0;
}

static void set_tail_gains(const relabelling *s, int32_t layer) {
  const int32_t R = s->problem->num_ranks;
  const int64_t limit = heaviest_in_the_way(s, layer);
  for (int32_t g = 0; g < R; g++) {
    for (int32_t r = 0; r < R; r++) {
      const int64_t pairs = s->pairs[r * R + g];
      s->gain[g * R + r] = !is_allowed(s, layer, g, r)
                               ? -MOERUN_FORBIDDEN
                               : pairs + (pairs > limit ? MUST_KEEP : 0);
    }
  }
}

static moerun_status allocate(relabelling *s) {
  moerun_status status = MOERUN_OK;
  const size_t R = (size_t)s->problem->num_ranks;
  MOERUN_TRY(moerun__alloc(&s->pairs, R * R, sizeof *s->pairs));
  MOERUN_TRY(moerun__alloc(&s->gain, R * R, sizeof *s->gain));
  MOERUN_TRY(moerun__alloc(&s->load, R, sizeof *s->load));
  MOERUN_TRY(moerun__alloc(&s->rank, R, sizeof *s->rank));
  MOERUN_TRY(moerun__alloc(&s->room, R, sizeof *s->room));
  MOERUN_TRY(moerun__alloc(&s->order, R * R, sizeof *s->order));
  MOERUN_TRY(moerun__alloc(&s->taken, 2 * R, sizeof *s->taken));
  for (size_t r = 0; r < R; r++) {
    s->room[r] = 1;
  }
done:
  return status;
}

moerun_status moerun__relabel(int32_t *rank_of,
                              const moerun__problem *problem) {
  moerun_status status = MOERUN_OK;
  relabelling s = {.problem = problem};
  const int32_t E = problem->num_experts;
  const int32_t R = problem->num_ranks;
  MOERUN_TRY(allocate(&s));
  for (int32_t l = 0; l + 1 < problem->num_layers; l++) {
    count_pairs(&s, rank_of, l);
    if (problem->objective == MOERUN_OBJECTIVE_TAIL) {
      set_tail_gains(&s, l);
    } else {
      set_gains(&s, l);
    }
    MOERUN_TRY(moerun__transport(s.rank, s.gain, R, R, s.room));
    for (int32_t e = 0; e < E; e++) {
      int32_t *at = rank_of + ((size_t)l + 1) * (size_t)E + (size_t)e;
      *at = s.rank[*at];
    }
  }
done:
  moerun__free(s.pairs);
  moerun__free(s.gain);
  moerun__free(s.load);
  moerun__free(s.rank);
  moerun__free(s.room);
  moerun__free(s.order);
  moerun__free(s.taken);
  return status;
}
