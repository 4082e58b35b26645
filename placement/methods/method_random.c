/* Blocks of a shuffled order (Fisher and Yates), another one in each layer:
 * what chance gives at equal counts, a cut of about 1 - 1/R. */
#include "placement/methods/methods.h"

#include "runtime/base/number.h"
#include "runtime/base/rng.h"

moerun_status moerun__solve_random(moerun__solution *solution,
                                   const moerun__problem *problem,
                                   const moerun__method_options *options) {
  const int64_t E = problem->num_experts;
  for (int32_t l = 0; l < problem->num_layers; l++) {
    int32_t *rank_of = solution->rank_of + (size_t)l * (size_t)E;
    for (int64_t e = 0; e < E; e++) {
      rank_of[e] = moerun__to_int(e * problem->num_ranks / E);
    }
    for (int64_t e = E - 1; e > 0; e--) {
      const double u = moerun__uniform(options->seed, (uint64_t)l, (uint64_t)e);
      const int64_t other = (int64_t)(u * (double)(e + 1));
      const int32_t moved = rank_of[e];
      rank_of[e] = rank_of[other];
      rank_of[other] = moved;
    }
  }
  return MOERUN_OK;
}
