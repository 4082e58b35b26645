/* Whether the ranks of a node fit its memory, and what of that goes to guests
 * of balancing and to spare slots if nobody says how much. */
#ifndef MOERUN_RUN_NODE_MEMORY_H
#define MOERUN_RUN_NODE_MEMORY_H

#include "comm/comm.h"
#include "launch/run/memory_left.h"
#include "launch/tools/prediction.h"

/* Bytes for something on every rank, `wanted` or less: on no node may its ranks
 * take more for that than half of what is left when the predictions are taken.
 * node[R]: a number of each rank's node; left[R]: what it says of
 * moerun__memory_left_read. */
int64_t moerun__bytes_that_fit(int64_t wanted, const moerun__prediction *ranks,
                               const uint64_t *node, const int64_t *left,
                               int32_t num_ranks);

/* What a run takes where the options leave it open. */
typedef struct moerun__settled {
  int64_t guest_bytes; /* of a session; -1: none */
  int32_t spare_slots;
  int replaces; /* whether experts may move */
  unsigned how; /* MOERUN_RUN_* */
} moerun__settled;

/* [collective] Gives guests and spare slots what fits beside the rest of the
 * predictions, which are rank 0's (*predicted is NULL elsewhere) and follow.
 * Where even the rest does not fit, and nobody asked that experts move, they
 * stay. `placement` is the one that the run begins with, `need` and `how` are
 * what was predicted for. */
moerun_status moerun__memory_settle(moerun__settled *out,
                                    moerun__prediction **predicted,
                                    const moerun__config *config,
                                    const moerun_placement *placement,
                                    const moerun__cache_need *need,
                                    unsigned how, moerun_comm *comm);

/* What the ranks of this node may take together: as --node-memory says, or the
 * system. */
moerun_status moerun__node_memory_left(moerun__memory_left *left,
                                       const moerun__config *config);

/* out[r] = the prediction of a rank of r's node that takes most; node[R]: the
 * lowest rank of each rank's node. */
void moerun__largest_of_nodes(moerun__prediction *out,
                              const moerun__prediction *ranks,
                              const int32_t *node, int32_t num_ranks);

/* ERR_NOMEM, with the numbers and the options, if the ranks of a node together
 * take more than is left. `largest` is one of the ranks that take most. */
moerun_status moerun__node_memory_compare(const moerun__node *node,
                                          const moerun__prediction *largest,
                                          const moerun__memory_left *left);

/* [collective] The same for all nodes, before anything is allocated;
 * predicted[R] on rank 0. One rank of a node that is too small fails. */
moerun_status moerun__node_memory_check(moerun_comm *comm,
                                        const moerun__config *config,
                                        const moerun__prediction *predicted);

/* `status`; where memory was short, with the options that need less in the
 * message. */
moerun_status moerun__memory_advise(moerun_status status, const char *options);

#endif
