/* The default of most runtimes, and the baseline of all tables: expert e on
 * rank floor(e * R / E). Experts that a router uses together are neighbours in
 * no published model, so this is about as good as chance. */
#include "placement/methods/methods.h"

#include "runtime/base/blocks.h"

moerun_status moerun__solve_contiguous(moerun__solution *solution,
                                       const moerun__problem *problem,
                                       const moerun__method_options *options) {
  (void)options;
  const int32_t E = problem->num_experts;
  for (int32_t n = 0; n < problem->num_layers * E; n++) {
    solution->rank_of[n] = moerun__block_rank(n % E, E, problem->num_ranks);
  }
  return MOERUN_OK;
}
