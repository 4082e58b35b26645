/* The rows of a round for the stage of slices. */
#ifndef MOERUN_MOE_EXCHANGE_SLICED_H
#define MOERUN_MOE_EXCHANGE_SLICED_H

#include "runtime/moe/exchange.h"

enum {
  MOERUN_SLICED_ROWS = 256, /* of all ranks together in one round */
};

/* A round of a step in slices. Its rows are a range of all ranks' tokens; a
 * term is a row and one of its experts, numbered as (row, place in gate order).
 * NULLs where there are no slices. */
typedef struct moerun__slice_round {
  int64_t next_row;       /* of all tokens, where the next round begins */
  int32_t own_token;      /* this rank's first in the round */
  int32_t *offset;        /* [R + 1] scratch                       */
  int32_t *row_offset;    /* [R + 1] the round's rows of each rank */
  int32_t *term_offset;   /* [R + 1] the round's terms of each rank */
  int32_t *expert_offset; /* [E + 1] terms by expert               */
  int32_t *row_of;        /* [terms] by expert: row */
  int32_t *term_of;       /* [terms] by expert: term */
  char *rows;             /* [MOERUN_SLICED_ROWS], as they are dispatched */
  float *h;               /* [R][terms][f of the rank], by expert */
  char *pieces;      /* [terms][piece_bytes] this rank's columns of results */
  char *home_pieces; /* [R][own terms][piece_bytes] the columns of
                         all ranks for the results of own terms        */
  size_t piece_bytes;
} moerun__slice_round;

/* [collective] h of so many terms, of which every rank has computed its
 * columns, to all ranks. */
moerun_status moerun__sliced_share_h(moerun__moe *moe, int32_t terms);

/* Of h of one term. */
int64_t moerun__sliced_h_bytes(const moerun__moe *moe);
/* Bytes that all ranks together send for a step: rows, inner activations and
 * results, of so many terms in all and of the ranks that hold slices of
 * results. The news of moe->balance say the T of all ranks. */
int64_t moerun__sliced_bytes(const moerun__moe *moe, int64_t terms,
                             int64_t terms_of_holders);

#endif
