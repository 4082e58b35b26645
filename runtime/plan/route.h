/* Where each token's rows go in one layer: pure functions of integers. */
#ifndef MOERUN_PLAN_ROUTE_H
#define MOERUN_PLAN_ROUTE_H

#include "placement/map/placement.h"
#include "runtime/base/arena.h"

/* The rows of one chunk on their home rank. W: entries that a token has for its
 * experts (gate.h). A token's row goes once to each rank
 * that has experts for it, which is a copy, with the slots wanted there; each
 * (token, j) pair with an expert brings one result row back. A rank gets its
 * copies in the order of tokens, and results are ordered by (rank, token, j):
 * so both sides can number them alike. */
typedef struct moerun__route {
  int32_t *to_offset;     /* [T + 1] copies of each token                     */
  int32_t *to;            /* [copies] rank of each, ascending within a token  */
  int16_t *slots;         /* [copies][W] slot there of term j; -1: not there  */
  int32_t *copy_offset;   /* [R + 1] copies by rank, own rank's included      */
  int32_t *own_copy;      /* [T] the copy to the own rank; -1: none           */
  int32_t *result_offset; /* [R + 1] result rows from each rank               */
  int32_t *result_of;     /* [T][W] index of the result row; -1: none         */
  int32_t *replica_of;    /* [T][W] replica of the placement; -1: none        */
  int32_t *rank_of;       /* [T][W] rank that serves a term, and its slot     */
  int32_t *slot_of;       /* [T][W] there                                     */
  int32_t *copy_of_rank;  /* [R] scratch                                      */
} moerun__route;

/* Most copies of `tokens` tokens. */
int32_t moerun__route_max_copies(int32_t tokens, int32_t W, int32_t num_ranks);

void moerun__route_lay_out(moerun__route *route, moerun__arena *arena,
                           int32_t max_tokens, int32_t W, int32_t num_ranks);

/* First step, replica_of, rank_of and slot_of: ids[T][W] are distinct expert
 * ids per token, or -1 for none; of an expert's replicas
 * moerun__placement_choose picks one. Balancing may then change rank_of and
 * slot_of. */
void moerun__route_choose(moerun__route *route,
                          const moerun_placement *placement, int32_t layer,
                          int32_t home, const int32_t *ids, int32_t T,
                          int32_t W);

/* Second step: the rows, from replica_of, rank_of and slot_of. */
void moerun__route_solve(moerun__route *route, int32_t num_ranks, int32_t home,
                         int32_t T, int32_t W);

#endif
