/* Where each token's rows go in one layer: pure functions of integers. */
#ifndef MOERUN_PLAN_ROUTE_H
#define MOERUN_PLAN_ROUTE_H

#include "placement/map/placement.h"
#include "runtime/base/arena.h"

/* The plan of one chunk on its home rank. A copy is a row sent to one rank,
 * however many of the token's experts live there; each (token, j) pair with an
 * expert brings one result row back. Copies are ordered by (rank, token),
 * results by (rank, token, j): so both sides can number them alike. */
typedef struct moerun__route {
  int32_t *copy_offset;   /* [R + 1] copies to each rank, own rank's included */
  int32_t *copy_token;    /* [copies] token index within the chunk            */
  int16_t *copy_slot;     /* [copies][K] slot there of term j; -1: not there  */
  int32_t *result_offset; /* [R + 1] result rows from each rank               */
  int32_t *result_of;     /* [T][K] index of the result row; -1: none         */
  int32_t *host_of;       /* [T][K] replica of the placement; -1: none        */
  int32_t *rank_of;       /* [T][K] rank that serves a term, and its slot     */
  int32_t *slot_of;       /* [T][K] there                                     */
  int32_t *last_token;    /* [R] scratch                                      */
} moerun__route;

/* Most copies of `tokens` tokens. */
int32_t moerun__route_max_copies(int32_t tokens, int32_t K, int32_t num_ranks);

void moerun__route_lay_out(moerun__route *route, moerun__arena *arena,
                           int32_t max_tokens, int32_t K, int32_t num_ranks);

/* First step, host_of, rank_of and slot_of: ids[T][K] are distinct expert ids
 * per token, or -1 for none; of an expert's replicas moerun__placement_choose
 * picks one. Balancing may then change rank_of and slot_of. */
void moerun__route_choose(moerun__route *route,
                          const moerun_placement *placement, int32_t layer,
                          int32_t home, const int32_t *ids, int32_t T,
                          int32_t K);

/* Second step: the rows, from host_of, rank_of and slot_of. */
void moerun__route_solve(moerun__route *route, int32_t num_ranks, int32_t T,
                         int32_t K);

#endif
