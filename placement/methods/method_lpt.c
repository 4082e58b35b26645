/* Even loads and nothing else: longest processing time first, within the
 * counts and by the speeds of ranks. What DeepSeek's EPLB does when there are
 * no spare slots. */
#include "placement/methods/methods.h"

#include "placement/judge/packing.h"

moerun_status moerun__solve_lpt(moerun__solution *solution,
                                const moerun__problem *problem,
                                const moerun__method_options *options) {
  moerun_status status = MOERUN_OK;
  (void)options;
  const size_t E = (size_t)problem->num_experts;
  for (int32_t l = 0; l < problem->num_layers; l++) {
    const moerun__bins bins = moerun__problem_bins(problem, l);
    MOERUN_TRY(moerun__pack(solution->rank_of + (size_t)l * E,
                            problem->load + (size_t)l * E, problem->num_experts,
                            &bins));
  }
done:
  return status;
}
