/* The rows of a wave for the stage of whole experts. */
#ifndef MOERUN_MOE_EXCHANGE_WHOLE_H
#define MOERUN_MOE_EXCHANGE_WHOLE_H

#include "runtime/moe/moe.h"

/* A peer's rows in the wave, own ones included: where they and their results
 * are, as row numbers of chunk->rows and chunk->results. */
typedef struct moerun__peer_rows {
  int is_own; /* then only the rows with an expert here count */
  int32_t first_row;
  int32_t count;
  int32_t first_result;
} moerun__peer_rows;

/* Results of others follow chunk->reply_offset up to this peer. */
moerun__peer_rows moerun__peer_rows_of(const moerun__moe *moe, int32_t peer);

/* The K slots, of 16 bits, that row i of these wants; NULL: none here. */
const void *moerun__peer_slots(const moerun__moe *moe,
                               const moerun__peer_rows *rows, int32_t i);

#endif
