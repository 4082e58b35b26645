/* Whole operations from the small ones that they consist of, for sets of the
 * host that do no better: their operations are over when they return, and these
 * lean on it. A set of a device that is late brings its own. */
#ifndef MOERUN_KERNELS_PARTS_H
#define MOERUN_KERNELS_PARTS_H

#include "kernels/kernels.h"

/* How h follows from gate_up, by the kind of expert. */
typedef void moerun__activate(moerun__queue *queue, float *h,
                              const float *gate_up, int32_t M, int32_t F);

static inline void
moerun__ffn_tile(moerun__linear *linear, moerun__activate *const *activate,
                 moerun__queue *queue, const moerun__ffn *ffn,
                 const moerun__expert *expert, size_t first, int32_t M) {
  const moerun__ffn_room *room = &ffn->room;
  float *h =
      ffn->y == NULL ? room->h + first * (size_t)expert->columns : room->h;
  linear(queue, room->gate_up, (size_t)expert->gate_up.num_outputs,
         ffn->x + first * ffn->x_stride, ffn->x_stride, M, &expert->gate_up,
         room->scratch);
  activate[expert->kind](queue, h, room->gate_up, M, expert->columns);
  if (ffn->y == NULL) return;
  linear(queue, ffn->y + first * ffn->y_stride, ffn->y_stride, h,
         (size_t)expert->down.num_inputs, M, &expert->down, room->scratch);
}

/* Product, activation, product, tile by tile. */
static inline void moerun__ffn_of_parts(moerun__linear *linear,
                                        moerun__activate *const *activate,
                                        moerun__queue *queue,
                                        const moerun__ffn *ffn) {
  for (int32_t e = 0; e < ffn->num_experts; e++) {
    const int32_t end = ffn->offset[e + 1];
    for (int32_t i = ffn->offset[e]; i < end; i += ffn->room.rows) {
      const int32_t M = end - i < ffn->room.rows ? end - i : ffn->room.rows;
      moerun__ffn_tile(linear, activate, queue, ffn, &ffn->expert[e], (size_t)i,
                       M);
    }
  }
}

typedef void moerun__scatter(moerun__queue *queue,
                             const moerun__wire_rows *rows,
                             const int32_t *index, const float *x, int32_t M,
                             int32_t H);

/* Writes row by row, each with its ids behind it. The host reads ids and
 * offsets and writes ids at once, and `t` is gone when this returns: `scatter`
 * must have happened by then. */
static inline void moerun__dispatch_of_parts(moerun__scatter *scatter,
                                             moerun__queue *queue,
                                             const moerun__wire_rows *rows,
                                             const moerun__dispatch *what) {
  const size_t K = (size_t)what->K;
  const size_t ids_at = moerun__ids_at(rows->dtype, what->row_width);
  for (int32_t t = 0; t < what->num_rows; t++) {
    const size_t row = (size_t)t;
    if (what->to_offset != NULL &&
        what->to_offset[t + 1] == what->to_offset[t]) {
      continue;
    }
    scatter(queue, rows, &t, what->x + row * (size_t)what->row_width, 1,
            what->row_width);
    char *behind = (char *)rows->base + row * rows->stride_bytes + ids_at;
    for (size_t j = 0; what->ids != NULL && j < K; j++) {
      const int16_t id = (int16_t)what->ids[row * K + j];
      memcpy(behind + j * sizeof id, &id, sizeof id);
    }
  }
}

#endif
