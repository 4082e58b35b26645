/* Rows of a step on their way to experts, and their results on the way home. */
#ifndef MOERUN_MOE_EXCHANGE_H
#define MOERUN_MOE_EXCHANGE_H

#include "comm/comm.h"
#include "runtime/plan/route.h"

enum { MOERUN_MAX_CHUNKS = 8 };

/* The rows of a step are cut into chunks so that one chunk's rows travel while
 * another's are computed. Each chunk has buffers of its own. */
typedef struct moerun__moe_chunk {
  int32_t first_token;
  int32_t num_tokens;
  moerun__route route;
  /* [chunk_tokens own, as they are sent | received][row_bytes]: own rows at
   * the token's number, if they go anywhere; their slots are in the route. */
  char *rows;
  char *results;           /* [T * K home | for others][result_bytes] */
  int32_t *receive_offset; /* [R + 1] rows from each rank behind the own; own
                              rank's are not received                         */
  int32_t *reply_offset;   /* [R + 1] result rows for each rank               */
  moerun__transfer *dispatch; /* rows to experts */
  moerun__transfer *combine;  /* results home    */
} moerun__moe_chunk;

typedef struct moerun__exchange {
  moerun__moe_chunk chunk[MOERUN_MAX_CHUNKS];
  int32_t *count_out; /* [R][chunks] rows of each chunk for each rank */
  int32_t *count_in;  /* [R][chunks] and from each */
  int32_t *told;      /* [R][MOERUN_TOLD_WORDS] of each rank by itself */
  int32_t *sum;       /* [P and a few] of all ranks together, see agree.c */
  int32_t *before;    /* [P and a few] of the ranks below this one together */
  int32_t *own;       /* [P] rows of this rank for each host, as routed */
  int32_t *speed;     /* [R] as in moerun__demand */
  int32_t *scratch;   /* to tell and hear all that */
  size_t room;        /* words of a message that it is for */
} moerun__exchange;

#endif
