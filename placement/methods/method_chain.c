/* One pass over the layers: each is placed by its pairs with the one before, by
 * a transport problem and a repair of the loads. The first layer is an even
 * packing. Looks at pairs whatever the objective. */
#include "placement/methods/methods.h"

#include "placement/search/chain.h"

static moerun_status split_chain(moerun__split *split,
                                 const moerun__problem *problem,
                                 const moerun__method_options *options,
                                 const moerun__deadline *deadline) {
  moerun_status status = MOERUN_OK;
  moerun__chain *chain = NULL;
  (void)options;
  MOERUN_TRY(moerun__chain_create(&chain, problem, split));
  MOERUN_TRY(moerun__chain_forward(chain, deadline));
  moerun__chain_keep(split, chain);
done:
  moerun__chain_destroy(chain);
  return status;
}

moerun_status moerun__solve_chain(moerun__solution *solution,
                                  const moerun__problem *problem,
                                  const moerun__method_options *options) {
  moerun__deadline never = {0};
  return moerun__place_by_levels(solution->rank_of, problem, options, &never,
                                 split_chain);
}
