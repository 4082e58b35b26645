/* Memory that is left on this node, and what of it goes to guests of balancing
 * if nobody says how much. */
#ifndef MOERUN_LAUNCH_NODE_MEMORY_H
#define MOERUN_LAUNCH_NODE_MEMORY_H

#include "comm/comm.h"
#include "launch/prediction.h"

/* Bytes that this process can still take: the node's available memory, or what
 * the limits of its control groups leave, whichever is less. INT64_MAX: the
 * system does not say. */
int64_t moerun__node_memory_left(void);

/* Bytes for guests on every rank, `wanted` or less: on no node may the guests of
 * its ranks take more than half of what is left when the rest of the prediction
 * is taken. node[R]: a number of each rank's node; left[R]: what it says of
 * moerun__node_memory_left. */
int64_t moerun__guests_that_fit(int64_t wanted, const moerun__prediction *ranks,
                                const uint64_t *node, const int64_t *left,
                                int32_t num_ranks);

/* [collective] Sets guest_bytes of the predictions, which are rank 0's (NULL
 * elsewhere), to what fits, and *bytes, everywhere, to the guest_bytes of a
 * session. */
moerun_status moerun__guests_agree(int64_t *bytes,
                                   moerun__prediction *predicted,
                                   const moerun__config *config,
                                   moerun_comm *comm);

#endif
