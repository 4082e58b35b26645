/* An expert: what its two products multiply by, and what stands between them.
 * Dense feed-forward blocks and shared experts are experts that every row goes
 * through. How many bytes an expert takes is computed here and nowhere else. */
#ifndef MOERUN_MODEL_EXPERT_H
#define MOERUN_MODEL_EXPERT_H

#include "kernels/kernels.h"
#include "runtime/model/arch.h"

/* An expert's weights; each lies and travels as a whole. */
typedef enum moerun__expert_piece {
  MOERUN_PIECE_GATE_UP = 0,
  MOERUN_PIECE_DOWN,
  MOERUN_EXPERT_PIECES,
} moerun__expert_piece;

/* What an expert's bytes depend on. Of a slice of an expert gate_up computes
 * some columns of h, and down some columns of a result; of a whole expert,
 * all. */
typedef struct moerun__expert_shape {
  moerun__expert_kind kind;
  moerun__dtype dtype[MOERUN_EXPERT_PIECES];
  int32_t hidden_width; /* H: inputs of gate_up                 */
  int32_t width;        /* F: inputs of down                    */
  int32_t columns;      /* of h, that gate_up gives; whole: F   */
  int32_t outputs;      /* of down; whole: H                    */
} moerun__expert_shape;

/* Outputs of gate_up of the model's experts for so many columns of h. */
int64_t moerun__gate_up_outputs(const moerun__model_config *config,
                                int32_t columns);
/* Of both weights of an expert of the model with this width. */
int64_t moerun__expert_elements(const moerun__model_config *config,
                                int32_t width);

/* A routed expert of the model with weights of this type. */
moerun__expert_shape moerun__expert_whole(const moerun__model_config *config,
                                          moerun__dtype dtype);
/* What gives these columns of h and of a result. */
moerun__expert_shape moerun__expert_slice(const moerun__expert_shape *whole,
                                          int32_t columns, int32_t outputs);

size_t moerun__expert_piece_bytes(const moerun__expert_shape *shape,
                                  moerun__expert_piece piece);
/* Of all pieces, one behind the other. */
size_t moerun__expert_bytes(const moerun__expert_shape *shape);

/* The expert whose pieces lie there, one behind the other. */
moerun__expert moerun__expert_at(const moerun__expert_shape *shape,
                                 const void *block);

/* Experts of one shape in a list, all their gate_up in one block and all their
 * down in another, so that neighbours are neighbours in memory. The panels are
 * not set. A count of 0: *out is NULL. */
moerun_status moerun__experts_create(moerun__expert **out,
                                     const moerun__expert_shape *shape,
                                     size_t count);
void moerun__experts_destroy(moerun__expert *experts);
/* What that allocates. */
size_t moerun__experts_bytes(const moerun__expert_shape *shape, size_t count);

/* An expert's outputs in bands: each column of h takes one of every band before
 * the last, each column of a result one of the last. A slice of an expert takes
 * of every band a stretch that is contiguous in the whole. */
enum { MOERUN_EXPERT_MOST_BANDS = 3 };
typedef struct moerun__expert_band {
  moerun__expert_piece piece;
  int32_t first; /* output of the piece with which it begins */
  int32_t count; /* outputs */
} moerun__expert_band;

int moerun__expert_num_bands(const moerun__expert_shape *shape);
moerun__expert_band moerun__expert_band_at(const moerun__expert_shape *shape,
                                           int i);

static inline const moerun__weight *
moerun__expert_weight(const moerun__expert *expert,
                      moerun__expert_piece piece) {
  return piece == MOERUN_PIECE_GATE_UP ? &expert->gate_up : &expert->down;
}

/* moerun__expert_bytes of an expert as it is held: whole or a slice. */
static inline size_t moerun__expert_held_bytes(const moerun__expert *expert) {
  size_t bytes = 0;
  for (int p = 0; p < MOERUN_EXPERT_PIECES; p++) {
    const moerun__weight *weight =
        moerun__expert_weight(expert, (moerun__expert_piece)p);
    bytes += moerun__weight_bytes(weight->dtype, weight->num_outputs,
                                  weight->num_inputs);
  }
  return bytes;
}

#endif
