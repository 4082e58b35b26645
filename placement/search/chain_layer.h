/* One layer of a chain with its neighbours fixed: linear gains, counts,
 * caps. */
#ifndef MOERUN_SEARCH_CHAIN_LAYER_H
#define MOERUN_SEARCH_CHAIN_LAYER_H

#include "placement/search/chain.h"

typedef struct moerun__chain_layer {
  const moerun__chain *chain;
  int32_t layer;
  int32_t num_columns; /* of the transport problem: P, or 2P with blanks */
  int64_t *gain;       /* [n][num_columns] */
  int32_t *room;       /* [num_columns] */
  int32_t *part_of;    /* [n] being worked on */
  int64_t *part_load;  /* [P] */
  int32_t *blanks;     /* [P] */
} moerun__chain_layer;

moerun_status moerun__chain_layer_create(moerun__chain_layer **out,
                                         const moerun__chain *chain);
void moerun__chain_layer_destroy(moerun__chain_layer *at);

/* Gains of `layer` with both neighbours, or with the layer before only. */
void moerun__chain_layer_load(moerun__chain_layer *at, int32_t layer);
void moerun__chain_layer_load_back(moerun__chain_layer *at, int32_t layer);

/* The best split by counts; caps are not looked at. The chain's own if the
 * deadline passes before it is found. */
moerun_status moerun__chain_layer_transport(moerun__chain_layer *at,
                                            const moerun__deadline *deadline);
/* Expert by expert, heaviest first, to the best part with room; never long. */
moerun_status moerun__chain_layer_greedy(moerun__chain_layer *at,
                                         const moerun__deadline *deadline);
/* Swaps out of overfull parts, the least loss per excess removed first; 0: some
 * part remains overfull. */
int moerun__chain_layer_repair(moerun__chain_layer *at);
/* Swaps within the caps, as long as one gains. */
void moerun__chain_layer_climb(moerun__chain_layer *at);

/* Takes part_of[n] from outside; loads and blanks are derived. */
void moerun__chain_layer_set(moerun__chain_layer *at, const int32_t *part_of);
int64_t moerun__chain_layer_kept(const moerun__chain_layer *at,
                                 const int32_t *part_of);

#endif
