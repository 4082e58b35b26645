/* DeepSeek's expert-parallel load balancer: which experts get further replicas,
 * and which rank holds what, by loads alone. */
#ifndef MOERUN_PLACEMENT_EPLB_H
#define MOERUN_PLACEMENT_EPLB_H

#include "runtime/base/status.h"

/* Letters: E experts, P replicas in all, R ranks. */
typedef struct moerun__eplb_shape {
  int32_t num_experts;  /* E */
  int32_t num_replicas; /* P >= E */
  int32_t num_groups;   /* of E / num_groups neighbouring experts each */
  int32_t num_nodes;    /* of R / num_nodes neighbouring ranks each */
  int32_t num_ranks;    /* R */
  const double *speed;  /* [R] borrowed; NULL: all the same */
} moerun__eplb_shape;

/* expert_of[P], rank by rank, and rank_of[P] beside it, for one layer's
 * load[E]. If the nodes divide the groups, each group stays on one node, else
 * nodes count for nothing. A rank can get two replicas of one expert. */
moerun_status moerun__eplb_layer(int32_t *expert_of, int32_t *rank_of,
                                 const int64_t *load,
                                 const moerun__eplb_shape *shape);

#endif
