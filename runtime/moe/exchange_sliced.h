/* Rounds of rows for experts in slices. */
#ifndef MOERUN_MOE_EXCHANGE_SLICED_H
#define MOERUN_MOE_EXCHANGE_SLICED_H

#include "runtime/moe/exchange.h"

enum {
  MOERUN_SLICED_ROWS = 256, /* of all ranks together in one round */
};

/* Of this rank's columns of a result as they travel: as many as any rank may
 * have. */
size_t moerun__sliced_columns_bytes(const moerun__moe *moe);

/* [collective] *best: seconds of this rank's shortest of some exchanges of
 * `bytes` bytes, of all ranks together, to all ranks; no more than the rows of
 * a round. After moerun__ways_take. */
moerun_status moerun__sliced_time_share(double *best, moerun__moe *moe,
                                        size_t bytes);

#endif
