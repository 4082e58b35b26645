/* Guests, slices, moves, placements and predictions all reckon with the bytes
 * of an expert. They must not differ by a byte, because blocks and messages are
 * cut by them; so shapes say what differs, and the sum is made in one place. */
#include "runtime/model/expert.h"

#include "runtime/base/memory.h"

/* Outputs of gate_up for each column of h; the first of all columns come before
 * the second. */
static const int32_t outputs_of_column[] = {[MOERUN_EXPERT_SWIGLU] = 2};

/* Of all experts of a model, dense blocks and shared ones too. */
static moerun__expert_kind kind_of(const moerun__model_config *config) {
  (void)config; /* nothing else is in a file yet */
  return MOERUN_EXPERT_SWIGLU;
}

int64_t moerun__gate_up_outputs(const moerun__model_config *config,
                                int32_t columns) {
  return (int64_t)outputs_of_column[kind_of(config)] * columns;
}

int64_t moerun__expert_elements(const moerun__model_config *config,
                                int32_t width) {
  return (moerun__gate_up_outputs(config, width) + width) *
         config->hidden_width;
}

static moerun__weight weight_of(const moerun__expert_shape *shape,
                                moerun__expert_piece piece,
                                const void *panels) {
  return piece == MOERUN_PIECE_GATE_UP
             ? moerun__weight_at(panels, shape->dtype[piece],
                                 outputs_of_column[shape->kind] *
                                     shape->columns,
                                 shape->hidden_width)
             : moerun__weight_at(panels, shape->dtype[piece], shape->outputs,
                                 shape->width);
}

moerun__expert_shape moerun__expert_whole(const moerun__model_config *config,
                                          moerun__dtype dtype) {
  return (moerun__expert_shape){.kind = kind_of(config),
                                .dtype = {dtype, dtype},
                                .hidden_width = config->hidden_width,
                                .width = config->expert_width,
                                .columns = config->expert_width,
                                .outputs = config->hidden_width};
}

moerun__expert_shape moerun__expert_slice(const moerun__expert_shape *whole,
                                          int32_t columns, int32_t outputs) {
  moerun__expert_shape slice = *whole;
  slice.columns = columns;
  slice.outputs = outputs;
  return slice;
}

size_t moerun__expert_piece_bytes(const moerun__expert_shape *shape,
                                  moerun__expert_piece piece) {
  const moerun__weight weight = weight_of(shape, piece, NULL);
  return moerun__weight_bytes(weight.dtype, weight.num_outputs,
                              weight.num_inputs);
}

size_t moerun__expert_bytes(const moerun__expert_shape *shape) {
  return moerun__expert_piece_bytes(shape, MOERUN_PIECE_GATE_UP) +
         moerun__expert_piece_bytes(shape, MOERUN_PIECE_DOWN);
}

static moerun__expert expert_of(const moerun__expert_shape *shape,
                                const void *gate_up, const void *down) {
  return (moerun__expert){.kind = shape->kind,
                          .columns = shape->columns,
                          .gate_up =
                              weight_of(shape, MOERUN_PIECE_GATE_UP, gate_up),
                          .down = weight_of(shape, MOERUN_PIECE_DOWN, down)};
}

moerun__expert moerun__expert_at(const moerun__expert_shape *shape,
                                 const void *block) {
  const size_t first = moerun__expert_piece_bytes(shape, MOERUN_PIECE_GATE_UP);
  return expert_of(shape, block, (const char *)block + first);
}

int moerun__expert_num_bands(const moerun__expert_shape *shape) {
  return outputs_of_column[shape->kind] + 1;
}

moerun__expert_band moerun__expert_band_at(const moerun__expert_shape *shape,
                                           int i) {
  return i < outputs_of_column[shape->kind]
             ? (moerun__expert_band){MOERUN_PIECE_GATE_UP, i * shape->columns,
                                     shape->columns}
             : (moerun__expert_band){MOERUN_PIECE_DOWN, 0, shape->outputs};
}

/* ---- Lists --------------------------------------------------------------- */

size_t moerun__experts_bytes(const moerun__expert_shape *shape, size_t count) {
  if (count == 0) return 0;
  return moerun__alloc_bytes(count, sizeof(moerun__expert)) +
         moerun__alloc_bytes(
             count, moerun__expert_piece_bytes(shape, MOERUN_PIECE_GATE_UP)) +
         moerun__alloc_bytes(
             count, moerun__expert_piece_bytes(shape, MOERUN_PIECE_DOWN));
}

moerun_status moerun__experts_create(moerun__expert **out,
                                     const moerun__expert_shape *shape,
                                     size_t count) {
  moerun_status status = MOERUN_OK;
  moerun__expert *experts = NULL;
  char *gate_up = NULL;
  char *down = NULL;
  *out = NULL;
  if (count == 0) goto done;
  const size_t first = moerun__expert_piece_bytes(shape, MOERUN_PIECE_GATE_UP);
  const size_t second = moerun__expert_piece_bytes(shape, MOERUN_PIECE_DOWN);
  MOERUN_TRY(moerun__alloc(&experts, count, sizeof *experts));
  MOERUN_TRY(moerun__alloc_streamed(&gate_up, count, first));
  MOERUN_TRY(moerun__alloc_streamed(&down, count, second));
  for (size_t i = 0; i < count; i++) {
    experts[i] = expert_of(shape, gate_up + i * first, down + i * second);
  }
  *out = experts;
done:
  if (status != MOERUN_OK) {
    moerun__free(experts);
    moerun__free(gate_up);
    moerun__free(down);
  }
  return status;
}

void moerun__experts_destroy(moerun__expert *experts) {
  if (experts == NULL) return;
  /* The first one's panels begin the blocks. */
  moerun__free((void *)experts[0].gate_up.panels);
  moerun__free((void *)experts[0].down.panels);
  moerun__free(experts);
}
