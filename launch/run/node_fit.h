/* What `info` says of whether a run would fit: its ranks are not started, and
 * which of them will share a node is not known. */
#ifndef MOERUN_RUN_NODE_FIT_H
#define MOERUN_RUN_NODE_FIT_H

#include "launch/run/memory_left.h"
#include "launch/tools/prediction.h"

typedef struct moerun__node_fit {
  int32_t num_ranks;
  size_t wanted;  /* bytes of all ranks together */
  size_t needed;  /* without what a run gives up where memory is short */
  size_t largest; /* the most that one rank needs */
  int is_given;   /* whether --node-memory says what is left */
  moerun__memory_left left;
} moerun__node_fit;

/* ranks[R], as predicted for these options and `need`, on one node. */
moerun_status moerun__node_fit_find(moerun__node_fit *out,
                                    const moerun__prediction *ranks,
                                    const moerun__config *config,
                                    const moerun_placement *placement,
                                    const moerun__cache_need *need);

/* How many ranks, whichever they are, one such node holds. */
int32_t moerun__node_fit_ranks(const moerun__node_fit *fit);

void moerun__node_fit_print(FILE *stream, const moerun__node_fit *fit);

#endif
