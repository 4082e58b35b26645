/* DeepSeek's expert-parallel load balancer: which experts get further replicas,
 * and which rank holds what, by loads alone. */
#ifndef MOERUN_METHODS_EPLB_H
#define MOERUN_METHODS_EPLB_H

#include "runtime/base/status.h"

/* Letters: E experts, P replicas in all, R ranks. */
typedef struct moerun__eplb_shape {
  int32_t num_experts;  /* E */
  int32_t num_replicas; /* P, from E to moerun__eplb_most */
  int32_t num_groups;   /* of E / num_groups neighbouring experts each */
  int32_t num_nodes;    /* of R / num_nodes neighbouring ranks each */
  int32_t num_ranks;    /* R */
  const double *speed;  /* [R] borrowed; NULL: all the same */
} moerun__eplb_shape;

/* Whether the nodes divide the groups: then each group stays on one node. Else
 * there is one group, and nodes count for nothing. */
int moerun__eplb_has_levels(const moerun__eplb_shape *shape);
/* Replicas that ranks have, each with all experts that it may hold. */
int64_t moerun__eplb_most(const moerun__eplb_shape *shape);

/* expert_of[P], rank by rank, and rank_of[P] beside it, for one layer's
 * load[E]. Ranks have equal counts, or such as differ by one; no rank has two
 * replicas of one expert. */
moerun_status moerun__eplb_layer(int32_t *expert_of, int32_t *rank_of,
                                 const int64_t *load,
                                 const moerun__eplb_shape *shape);

#endif
