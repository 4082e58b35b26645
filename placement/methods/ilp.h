/* The whole of a small problem as one integer program; see method_ilp.c. */
#ifndef MOERUN_METHODS_ILP_H
#define MOERUN_METHODS_ILP_H

#include "placement/methods/method.h"

typedef enum moerun__ilp_form {
  MOERUN_ILP_CUT, /* a column for each pair of experts: on different ranks */
  MOERUN_ILP_RLT, /* a column for each pair and rank: both on this rank */
} moerun__ilp_form;

/* Minimises the cut within counts and caps. start[L][E] is what the search has
 * to beat and returns if it does not; NULL: none, and then ERR_UNSUPPORTED if
 * time runs out before anything is found. */
moerun_status moerun__ilp(moerun__solution *solution,
                          const moerun__problem *problem, moerun__ilp_form form,
                          const int32_t *start,
                          const moerun__deadline *deadline);

#endif
