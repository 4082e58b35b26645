/* A search over many layers has many chances; one of a single layer ends in one
 * local optimum, a percent or two above the best. So a search of few layers is
 * begun several times, which takes a fraction of a second: their number follows
 * from the sizes and never from a clock, so that the same seed gives the same
 * placement. And whatever the search: where blocks are allowed, nothing that
 * costs more than blocks is returned. */
#include "placement/methods/starts.h"

#include "runtime/base/blocks.h"
#include "runtime/base/memory.h"

#include <string.h>

enum {
  MOST_LAYERS = 4, /* that are few */
  MOST_STARTS = 8, /* of one layer */
  SMALL = 16384,   /* L * E^2: larger ones take longer and differ less */
};

int32_t moerun__starts_count(const moerun__problem *problem) {
  const int64_t L = problem->num_layers;
  const int64_t E = problem->num_experts;
  if (L > MOST_LAYERS) return 1;
  return L * E * E <= SMALL ? (int32_t)(MOST_STARTS / L) : 2;
}

/* Of a placement, by the problem's objective and between its nodes. */
typedef struct value {
  double objective;
  double nodes;
} value;

static moerun_status judge(value *out, const moerun__problem *problem,
                           const int32_t *rank_of) {
  moerun_status status = MOERUN_OK;
  moerun_placement *placement = NULL;
  moerun__judgement judged = {0};
  MOERUN_TRY(moerun_placement_create(&placement, problem->num_layers,
                                     problem->num_experts, problem->num_ranks,
                                     rank_of));
  MOERUN_TRY(moerun__judge(&judged, placement, problem->trace,
                           problem->topology, problem->node_weight,
                           problem->far_weight, NULL));
  *out =
      (value){moerun__judged(problem, &judged),
              problem->objective == MOERUN_OBJECTIVE_FANOUT ? judged.node_fanout
                                                            : judged.node_cut};
done:
  moerun_placement_destroy(placement);
  return status;
}

static void fill_blocks(int32_t *rank_of, const moerun__problem *problem) {
  const int32_t E = problem->num_experts;
  for (int32_t l = 0; l < problem->num_layers; l++) {
    for (int32_t e = 0; e < E; e++) {
      rank_of[l * E + e] = moerun__block_rank(e, E, problem->num_ranks);
    }
  }
}

moerun_status moerun__starts_search(int32_t *rank_of,
                                    const moerun__problem *problem,
                                    const moerun__method_options *options,
                                    const moerun__deadline *deadline,
                                    moerun__searcher search) {
  moerun_status status = MOERUN_OK;
  int32_t *other = NULL;
  value best;
  value found;
  const int32_t starts = moerun__starts_count(problem);
  const size_t entries =
      (size_t)problem->num_layers * (size_t)problem->num_experts;
  MOERUN_TRY(moerun__alloc(&other, entries, sizeof *other));
  MOERUN_TRY(search(rank_of, problem, options, deadline));
  MOERUN_TRY(judge(&best, problem, rank_of));
  for (int32_t s = 1; s < starts; s++) {
    moerun__method_options for_start = *options;
    for_start.seed += (uint64_t)s << 48U;
    if (moerun__deadline_passed(deadline)) break;
    MOERUN_TRY(search(other, problem, &for_start, deadline));
    MOERUN_TRY(judge(&found, problem, other));
    if (found.objective >= best.objective || found.nodes > best.nodes) continue;
    best = found;
    memcpy(rank_of, other, entries * sizeof *rank_of);
  }
  fill_blocks(other, problem);
  int allowed = 0;
  MOERUN_TRY(moerun__solution_allowed(&allowed, problem, other));
  if (!allowed) goto done;
  MOERUN_TRY(judge(&found, problem, other));
  if (found.objective < best.objective) {
    memcpy(rank_of, other, entries * sizeof *rank_of);
  }
done:
  moerun__free(other);
  return status;
}
