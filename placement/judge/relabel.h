/* Names of ranks. */
#ifndef MOERUN_JUDGE_RELABEL_H
#define MOERUN_JUDGE_RELABEL_H

#include "placement/judge/problem.h"

/* What is together in a layer of rank_of[L][E] stays together, but changes
 * ranks, layer by layer, so that the pairs with the layer before cost the least
 * by the problem's objective. Exact for cut and tail where all ranks have the
 * same caps; a group never goes where its load exceeds the cap. */
moerun_status moerun__relabel(int32_t *rank_of, const moerun__problem *problem);

#endif
