/* Whether a solution keeps the counts and the load caps of its problem. */
#include "placement/judge/solution.h"

#include "runtime/base/memory.h"

#include <string.h>

/* count[R] and load[R] are scratch. */
static moerun_status check_layer(const moerun__problem *problem, int32_t layer,
                                 const int32_t *rank_of, int32_t *count,
                                 int64_t *load) {
  moerun_status status = MOERUN_OK;
  const int32_t R = problem->num_ranks;
  const int32_t E = problem->num_experts;
  const int64_t *cap = problem->cap + (size_t)layer * (size_t)R;
  memset(count, 0, (size_t)R * sizeof *count);
  memset(load, 0, (size_t)R * sizeof *load);
  for (int32_t e = 0; e < E; e++) {
    const int32_t n = layer * E + e;
    MOERUN_REQUIRE(rank_of[n] >= 0 && rank_of[n] < R, MOERUN_ERR_INFEASIBLE,
                   "placement: layer %d, expert %d: expected a rank from 0 to "
                   "%d, found %d",
                   layer, e, R - 1, rank_of[n]);
    count[rank_of[n]]++;
    load[rank_of[n]] += problem->load[n];
  }
  for (int32_t r = 0; r < R; r++) {
    MOERUN_REQUIRE(
        count[r] >= problem->fewest_slots && count[r] <= problem->most_slots,
        MOERUN_ERR_INFEASIBLE,
        "placement: layer %d, rank %d: expected %d to %d experts, found %d",
        layer, r, problem->fewest_slots, problem->most_slots, count[r]);
    MOERUN_REQUIRE(load[r] <= cap[r], MOERUN_ERR_INFEASIBLE,
                   "placement: layer %d, rank %d: expected a load of at most "
                   "%lld, found %lld",
                   layer, r, (long long)cap[r], (long long)load[r]);
  }
done:
  return status;
}

moerun_status moerun__solution_check(const moerun__problem *problem,
                                     const int32_t *rank_of) {
  moerun_status status = MOERUN_OK;
  int32_t *count = NULL;
  int64_t *load = NULL;
  const size_t R = (size_t)problem->num_ranks;
  MOERUN_TRY(moerun__alloc(&count, R, sizeof *count));
  MOERUN_TRY(moerun__alloc(&load, R, sizeof *load));
  for (int32_t l = 0; l < problem->num_layers; l++) {
    MOERUN_TRY(check_layer(problem, l, rank_of, count, load));
  }
done:
  moerun__free(count);
  moerun__free(load);
  return status;
}

moerun_status moerun__solution_allowed(int *allowed,
                                       const moerun__problem *problem,
                                       const int32_t *rank_of) {
  const moerun_status status = moerun__solution_check(problem, rank_of);
  *allowed = status == MOERUN_OK;
  return status == MOERUN_ERR_INFEASIBLE ? MOERUN_OK : status;
}
