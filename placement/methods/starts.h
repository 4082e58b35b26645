/* Several starts of a search, of which the best counts. */
#ifndef MOERUN_METHODS_STARTS_H
#define MOERUN_METHODS_STARTS_H

#include "placement/methods/method.h"

/* Writes rank_of[L][E], within the caps. */
typedef moerun_status (*moerun__searcher)(int32_t *rank_of,
                                          const moerun__problem *problem,
                                          const moerun__method_options *options,
                                          const moerun__deadline *deadline);

/* How often a search of so few layers is begun anew; 1 for all others. */
int32_t moerun__starts_count(const moerun__problem *problem);

/* Searches from that many seeds, the first of which is that of the options, and
 * keeps the best by the judged objective: contiguous blocks, where they are
 * within the caps and cost less than any. With several nodes a later start has
 * to be no worse between nodes either. */
moerun_status moerun__starts_search(int32_t *rank_of,
                                    const moerun__problem *problem,
                                    const moerun__method_options *options,
                                    const moerun__deadline *deadline,
                                    moerun__searcher search);

#endif
