/* Whether another placement is worth moving to, by the routing of late. Pure:
 * nothing is moved here. */
#ifndef MOERUN_PLACEMENT_REPLAN_H
#define MOERUN_PLACEMENT_REPLAN_H

#include "placement/problem.h"

/* What crosses between ranks. */
typedef struct moerun__replan_costs {
  int64_t copy_bytes;          /* of a token's row to another rank       */
  int64_t result_bytes;        /* of a result row home                   */
  const int64_t *expert_bytes; /* [L] weights of one expert of a layer   */
  double horizon;              /* a placement is kept for so many times the
                                  tokens of the trace that it is judged by */
  int32_t spare_slots; /* replicas that a rank has room for in each layer */
} moerun__replan_costs;

typedef struct moerun__replan_verdict {
  moerun_placement *placement; /* the caller's; NULL: stay */
  int64_t experts_moved;       /* replicas that a rank lacks now */
  int64_t bytes_moved;         /* their weights */
  int64_t bytes_saved;         /* of rows, over the horizon: predicted, and in
                                  every layer that changes more than it moves */
} moerun__replan_verdict;

/* Solves for `train`, names ranks so that little moves and tokens find experts
 * at home, and takes those layers where `judge` says that it repays the move:
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

/* bytes[L] of rows between ranks for the trace, once, home mode. */
moerun_status moerun__replan_bytes(int64_t *bytes,
                                   const moerun_placement *placement,
                                   const moerun__trace *trace,
                                   const moerun__replan_costs *costs);

#endif
