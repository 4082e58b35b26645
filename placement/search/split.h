/* What all searches are given: items of every layer to be split into parts of
 * equal counts within load caps. Parts are ranks, or nodes, or the ranks of one
 * node; items are experts, or blanks that fill up the counts where the experts
 * do not divide evenly. */
#ifndef MOERUN_SEARCH_SPLIT_H
#define MOERUN_SEARCH_SPLIT_H

#include "placement/judge/solution.h"

/* Letters: L layers, n items of a layer, P parts. */
typedef struct moerun__split {
  int32_t num_layers;  /* L */
  int32_t num_items;   /* n, a multiple of P */
  int32_t num_parts;   /* P */
  int32_t most_blanks; /* in one part of one layer; 0: there are none */
  int32_t *expert_of;  /* [L][n] expert or -1: blank */
  int64_t *cap;        /* [L][P] */
  int32_t *part_of;    /* [L][n] within the caps before a search and after */
} moerun__split;

void moerun__split_destroy(moerun__split *split);

/* Improves split->part_of. */
typedef moerun_status (*moerun__splitter)(moerun__split *split,
                                          const moerun__problem *problem,
                                          const moerun__method_options *options,
                                          const moerun__deadline *deadline);

/* rank_of[L][E] by one splitter: into nodes first and each node into ranks then
 * if there are several nodes of as many ranks each, and more than one, else
 * into ranks. */
moerun_status moerun__place_by_levels(int32_t *rank_of,
                                      const moerun__problem *problem,
                                      const moerun__method_options *options,
                                      const moerun__deadline *deadline,
                                      moerun__splitter splitter);

/* The split of all experts into all ranks that rank_of[L][E] is, and back. */
moerun_status moerun__split_of_ranks(moerun__split **out,
                                     const moerun__problem *problem,
                                     const int32_t *rank_of);
void moerun__split_to_ranks(int32_t *rank_of, const moerun__split *split,
                            int32_t num_experts);

/* Even loads within the caps: rank_of[L][E]; ERR_INFEASIBLE names the layer and
 * rank for which none was found. */
moerun_status moerun__start_ranks(int32_t *rank_of,
                                  const moerun__problem *problem);

#endif
