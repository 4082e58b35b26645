/* The cluster that ranks run on. */
#ifndef MOERUN_BASE_TOPOLOGY_H
#define MOERUN_BASE_TOPOLOGY_H

#include "runtime/base/status.h"

/* The ranks and the nodes that they are on, neighbours together. Written as one
 * line, e.g. "2 nodes x 4 ranks, intra 40 GB/s 2 us, inter 3 GB/s 8 us, speed 1
 * 1 1 0.5 1 1 1 1"; everything after the first part may be left out. Nodes of
 * different sizes are added up: "4 + 4 + 2 ranks". */
typedef struct moerun__topology {
  int32_t num_ranks; /* R */
  int32_t num_nodes;
  int32_t ranks_per_node;        /* 0: nodes differ */
  int32_t *node_of;              /* [R] ascending */
  int32_t *first_rank;           /* [num_nodes + 1], R at the end */
  double intra_bytes_per_second; /* 0: not said */
  double inter_bytes_per_second;
  double intra_seconds; /* latency */
  double inter_seconds;
  double *speed; /* [R] relative, mean 1 */
} moerun__topology;

moerun_status moerun__topology_parse(moerun__topology **out, const char *text);
void moerun__topology_destroy(moerun__topology *topology);
static inline int moerun__topology_same_node(const moerun__topology *topology,
                                             int32_t a, int32_t b) {
  return topology->node_of[a] == topology->node_of[b];
}
/* Whether any two ranks differ in speed. */
int moerun__topology_is_uneven(const moerun__topology *topology);

#endif
