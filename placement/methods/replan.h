/* Whether another placement is worth moving to, by the routing of late. Pure:
 * nothing is moved here. */
#ifndef MOERUN_METHODS_REPLAN_H
#define MOERUN_METHODS_REPLAN_H

#include "placement/judge/problem.h"

/* What crosses between ranks, and what time is worth. */
typedef struct moerun__replan_costs {
  int64_t copy_bytes;          /* of a token's row to another rank       */
  int64_t result_bytes;        /* of a result row home                   */
  const int64_t *expert_bytes; /* [L] weights of one expert of a layer   */
  double horizon;              /* a placement is kept for so many times the
                                  tokens of the trace that it is judged by */
  int32_t spare_slots; /* experts that a rank has room for in each layer beyond
                          an even share: replicas, or those of slow ranks   */
  const double *speed; /* [R] borrowed, by their ratios; NULL: not looked at,
                          and neither are loads                             */
  double rows_per_expert; /* with speeds, above 0: of one expert's rows so many
                             are computed by the fastest rank in the time that
                             sending its weights is worth                   */
  int32_t is_quick; /* 1: no replicas are looked for unless there are some,
                       which takes most of the time where there are spare
                       slots: enough where a speed has changed             */
} moerun__replan_costs;

typedef struct moerun__replan_verdict {
  moerun_placement *placement; /* the caller's; NULL: stay */
  int64_t experts_moved;       /* replicas that a rank lacks now */
  int64_t bytes_moved;         /* their weights */
  int64_t bytes_saved;         /* of rows, over the horizon: predicted */
  int64_t rows_saved;          /* of the rank that ends last in each layer, as
                                  rows of the fastest rank, over the horizon:
                                  predicted; 0 without speeds                */
} moerun__replan_verdict;

/* The rule, for each layer that changes: bytes_saved, and rows_saved times
 * expert_bytes / rows_per_expert, are together more than bytes_moved. */

/* Solves for `train` with loads by speed, names ranks so that little moves and
 * tokens find experts at home, and takes those layers that repay their move by
 * that rule, counted on `judge`:
 * other routing than that solved for, or every prediction would be too good.
 * Both have homes. The same input gives the same verdict. */
moerun_status moerun__replan(moerun__replan_verdict *out,
                             const moerun_placement *current,
                             const moerun__trace *train,
                             const moerun__trace *judge,
                             const moerun__replan_costs *costs);

/* Whether a layer's replicas are on the same ranks. */
int moerun__replan_same(const moerun_placement *a, const moerun_placement *b,
                        int32_t layer);

/* Replicas of a layer that `to` has and ranks lack in `now`. */
int64_t moerun__replan_lacking(const moerun_placement *now,
                               const moerun_placement *to, int32_t layer);

/* bytes[L] of rows between ranks for the trace, once, home mode. */
moerun_status moerun__replan_bytes(int64_t *bytes,
                                   const moerun_placement *placement,
                                   const moerun__trace *trace,
                                   const moerun__replan_costs *costs);

#endif
