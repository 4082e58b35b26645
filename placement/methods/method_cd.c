/* The default. For pairs of layers: a chain from an even packing, coordinate
 * descent with exact steps of one layer, annealing, exact re-splits of two
 * parts; with several nodes by levels. The first two steps take milliseconds
 * and find the structure, which annealing from a random start would take most
 * of its time to find; annealing then leaves the local optimum they end in.
 * For fan-out: descent and annealing on the tokens' visits (visits.h), by
 * levels too. Nodes of different sizes are no equal parts, so there the ranks
 * are split at once, and their nodes are looked at when levels would be joined.
 * Few layers are searched several times (starts.h). Problems so small that they
 * can be solved exactly in that time are. */
#include "placement/methods/methods.h"

#include "placement/judge/relabel.h"
#include "placement/methods/starts.h"
#include "placement/search/chain.h"
#include "placement/search/sharing.h"
#include "placement/search/states.h"
#include "placement/search/tail.h"
#include "placement/search/visits.h"
#include "runtime/base/memory.h"

#include <math.h>

enum {
  STEPS_PER_SWAP = 700,  /* proposals of a round for a possible swap */
  FEWEST_STEPS = 100000, /* for a layer */
  MOST_STEPS = 1280000,
};

/* Shares of random swaps that are taken when annealing begins: from what the
 * descent found, and from what the levels found. */
#define HEAT      0.05
#define JOIN_HEAT 0.01

/* What a pair within a node costs of one between nodes if only the cut counts:
 * something, so that ranks are told apart, but nodes come first. */
#define NODE_COST 0.1

/* All nodes together may take as many steps for their ranks as the split into
 * nodes did before. */
static int64_t steps_of_round(const moerun__chain *chain, int32_t num_experts) {
  const int64_t n = chain->num_items;
  const int64_t most =
      n < num_experts ? MOST_STEPS * n / num_experts : MOST_STEPS;
  int64_t steps = STEPS_PER_SWAP * n * (n - chain->per_part) / 2;
  if (steps < FEWEST_STEPS) steps = FEWEST_STEPS;
  if (steps > most) steps = most;
  return steps * chain->num_layers;
}

/* One round, and `polish` more in lots that double, so that a time limit costs
 * at most the last lot and long runs are not bound to short schedules. */
static moerun_status refine(moerun__chain *chain, int32_t num_experts,
                            double heat, const moerun__method_options *options,
                            const moerun__deadline *deadline) {
  moerun_status status = MOERUN_OK;
  const int64_t steps = steps_of_round(chain, num_experts);
  int64_t rounds = 1;
  int64_t left = options->polish;
  for (uint64_t lot = 0; rounds > 0; lot++) {
    const uint64_t seed = options->seed + (lot << 32);
    if (moerun__deadline_passed(deadline)) break;
    MOERUN_TRY(
        moerun__chain_anneal(chain, seed, rounds * steps, heat, deadline));
    MOERUN_TRY(moerun__chain_resplit(chain, seed, deadline));
    rounds = lot == 0 ? 1 : 2 * rounds;
    if (rounds > left) rounds = left;
    left -= rounds;
  }
done:
  return status;
}

static moerun_status split_chain(moerun__split *split,
                                 const moerun__problem *problem,
                                 const moerun__method_options *options,
                                 const moerun__deadline *deadline) {
  moerun_status status = MOERUN_OK;
  moerun__chain *chain = NULL;
  MOERUN_TRY(moerun__chain_create(&chain, problem, split));
  MOERUN_TRY(moerun__chain_forward(chain, deadline));
  MOERUN_TRY(moerun__chain_sweep(chain, deadline));
  MOERUN_TRY(refine(chain, problem->num_experts, HEAT, options, deadline));
  moerun__chain_keep(split, chain);
done:
  moerun__chain_destroy(chain);
  return status;
}

/* All ranks at once with pairs by distance: what the first level could not know
 * of the caps of ranks comes back, and for the objective weighted what one
 * level took from the other. */
static moerun_status join_levels(int32_t *rank_of,
                                 const moerun__problem *problem,
                                 const moerun__method_options *options,
                                 const moerun__deadline *deadline) {
  moerun_status status = MOERUN_OK;
  moerun__split *split = NULL;
  moerun__chain *chain = NULL;
  const int weighted = problem->objective == MOERUN_OBJECTIVE_WEIGHTED;
  const double near = weighted ? problem->node_weight : NODE_COST;
  const double far = weighted ? problem->far_weight : 1;
  MOERUN_TRY(moerun__split_of_ranks(&split, problem, rank_of));
  MOERUN_TRY(moerun__chain_create(&chain, problem, split));
  MOERUN_TRY(moerun__chain_set_groups(chain, problem->topology->node_of,
                                      problem->topology->num_nodes, near,
                                      far - near));
  MOERUN_TRY(moerun__chain_sweep(chain, deadline));
  MOERUN_TRY(refine(chain, problem->num_experts, weighted ? HEAT : JOIN_HEAT,
                    options, deadline));
  moerun__chain_keep(split, chain);
  moerun__split_to_ranks(rank_of, split, problem->num_experts);
done:
  moerun__chain_destroy(chain);
  moerun__split_destroy(split);
  return status;
}

/* All splits of a layer are so few that the proven optimum takes less than the
 * search would: a fraction of a second. */
static int is_tiny(const moerun__problem *problem) {
  const double work = 3e8 / problem->num_layers;
  const double count = moerun__states_count(problem);
  if (count > MOERUN_MOST_STATES) return 0;
  if (problem->objective == MOERUN_OBJECTIVE_FANOUT) {
    if (problem->num_experts > MOERUN_MOST_SET_BITS) return 0;
    return count * ldexp(1, problem->num_experts) < work;
  }
  if (problem->objective == MOERUN_OBJECTIVE_TAIL) {
    return count * count * problem->num_experts < work;
  }
  return count * count < work;
}

/* Which rank a layer's part is called after says nothing of fan-out: the names
 * that cut the fewest pairs are chosen, where ranks are all alike. */
static moerun_status name_parts(int32_t *rank_of,
                                const moerun__problem *problem,
                                const moerun__deadline *deadline) {
  moerun_status status = MOERUN_OK;
  moerun__split *split = NULL;
  moerun__chain *chain = NULL;
  if (problem->topology->num_nodes > 1) goto done;
  if (moerun__deadline_passed(deadline)) goto done;
  MOERUN_TRY(moerun__split_of_ranks(&split, problem, rank_of));
  MOERUN_TRY(moerun__chain_create(&chain, problem, split));
  MOERUN_TRY(moerun__chain_relabel(chain, deadline));
  moerun__chain_keep(split, chain);
  moerun__split_to_ranks(rank_of, split, problem->num_experts);
done:
  moerun__chain_destroy(chain);
  moerun__split_destroy(split);
  return status;
}

static moerun_status place_primaries(int32_t *rank_of,
                                     const moerun__problem *problem,
                                     const moerun__method_options *options,
                                     const moerun__deadline *deadline) {
  moerun_status status = MOERUN_OK;
  const int32_t nodes = problem->topology->num_nodes;
  const int has_levels = nodes > 1 && nodes < problem->num_ranks;
  moerun__method_options first = *options;
  if (problem->objective == MOERUN_OBJECTIVE_FANOUT) {
    MOERUN_TRY(moerun__place_by_levels(rank_of, problem, options, deadline,
                                       moerun__visits_search));
    /* With spare slots the search for both begins here and moves them all. */
    if (options->spare_slots == 0)
      MOERUN_TRY(name_parts(rank_of, problem, deadline));
    goto done;
  }
  /* Polish is for what is whole: a time limit that it used up among the nodes
   * would leave nothing for their ranks. */
  if (has_levels || problem->objective == MOERUN_OBJECTIVE_TAIL) {
    first.polish = 0;
  }
  MOERUN_TRY(
      moerun__place_by_levels(rank_of, problem, &first, deadline, split_chain));
  if (problem->objective == MOERUN_OBJECTIVE_TAIL) {
    MOERUN_TRY(moerun__relabel(rank_of, problem));
    MOERUN_TRY(moerun__tail_search(rank_of, problem, options, deadline));
    goto done;
  }
  if (has_levels) {
    MOERUN_TRY(join_levels(rank_of, problem, options, deadline));
  }
done:
  return status;
}

/* For fan-out all slots are searched together; what stays empty is filled one
 * by one, as it is for the other objectives. */
static moerun_status place_replicas(moerun__solution *solution,
                                    const moerun__problem *problem,
                                    const moerun__method_options *options,
                                    const moerun__deadline *deadline) {
  moerun_status status = MOERUN_OK;
  moerun__replicas *replicas = NULL;
  MOERUN_TRY(moerun__replicas_create(&replicas, problem, NULL,
                                     solution->rank_of, options->spare_slots));
  if (problem->objective == MOERUN_OBJECTIVE_FANOUT) {
    MOERUN_TRY(
        moerun__sharing_search(replicas, solution->rank_of, options, deadline));
  }
  MOERUN_TRY(moerun__replicas_fill(replicas, solution->rank_of, deadline));
  MOERUN_TRY(moerun__replicas_to_copies(solution, replicas));
done:
  moerun__replicas_destroy(replicas);
  return status;
}

/* With spare slots the primaries have half of the time limit. */
moerun_status moerun__solve_cd(moerun__solution *solution,
                               const moerun__problem *problem,
                               const moerun__method_options *options) {
  moerun_status status = MOERUN_OK;
  moerun__method_options for_search = *options;
  if (options->spare_slots > 0) for_search.time_limit_s /= 2;
  const moerun__deadline deadline =
      moerun__deadline_after(options->clock, options->time_limit_s);
  const moerun__deadline half =
      moerun__deadline_after(for_search.clock, for_search.time_limit_s);
  const int is_exact = is_tiny(problem);
  if (is_exact) status = moerun__solve_exact(solution, problem, &for_search);
  /* A proof that the time was too short for leaves what the search has by
   * then. */
  if (!is_exact ||
      (status == MOERUN_ERR_UNSUPPORTED && moerun__deadline_passed(&half))) {
    status = moerun__starts_search(solution->rank_of, problem, &for_search,
                                   &half, place_primaries);
  }
  MOERUN_TRY(status);
  if (options->spare_slots > 0) {
    MOERUN_TRY(place_replicas(solution, problem, options, &deadline));
  }
done:
  return status;
}
