/* The objective tail: of each boundary between two layers the busiest link from
 * one rank to another, in pairs. */
#ifndef MOERUN_SEARCH_TAIL_H
#define MOERUN_SEARCH_TAIL_H

#include "placement/judge/solution.h"

/* Pairs over the busiest links, summed over the boundaries. */
moerun_status moerun__tail_count(int64_t *out, const moerun__problem *problem,
                                 const int32_t *rank_of);

/* Improves rank_of[L][E], within the caps before and after, by swaps of
 * experts; the result is never worse. */
moerun_status moerun__tail_search(int32_t *rank_of,
                                  const moerun__problem *problem,
                                  const moerun__method_options *options,
                                  const moerun__deadline *deadline);

#endif
