/* The layer in slices: every rank a part of every expert. */
#ifndef MOERUN_MOE_SLICED_H
#define MOERUN_MOE_SLICED_H

#include "runtime/moe/moe.h"

#include <string.h>

/* The rows of a round through this rank's part of their experts. h goes round
 * in between, so all ranks come here in each round. */
moerun_status moerun__sliced_compute(moerun__moe *moe,
                                     const moerun__layer *layer);

/* The expert that row `row` of the round wants as number j; -1: none. */
static inline int32_t moerun__sliced_id(const moerun__moe *moe, int32_t row,
                                        int32_t j) {
  int16_t id = 0;
  memcpy(&id,
         moe->round.rows + (size_t)row * moe->shape.row_bytes +
             moe->shape.slots_at + (size_t)j * sizeof id,
         sizeof id);
  return id;
}

#endif
