/* The ways that weights take: ranks that have been sent an expert send it on,
 * so that the rank of a hot expert is not alone in sending it to all others. n
 * copies of one expert leave in ceil(log2(n + 1)) turns and not in n. */
#ifndef MOERUN_PLAN_TREE_H
#define MOERUN_PLAN_TREE_H

#include "runtime/plan/plan.h"

/* Counts, or hands out, what moerun__tree_grow writes in. */
void moerun__tree_lay_out(moerun__plan *plan, moerun__arena *arena,
                          int32_t num_ranks, int32_t max_moves);

/* Fills plan->sends for the moves of the plan, in an order in which an expert
 * comes to a rank before it leaves it. In one turn each rank sends one expert
 * and receives one at most. */
void moerun__tree_grow(moerun__plan *plan, const moerun__demand *demand);

#endif
