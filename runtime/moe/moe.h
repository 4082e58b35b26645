/* One MoE layer over all ranks: dispatch, experts, combine. */
#ifndef MOERUN_MOE_MOE_H
#define MOERUN_MOE_MOE_H

#include "runtime/moe/balance.h"
#include "runtime/moe/gate.h"
#include "runtime/moe/shared.h"
#include "runtime/moe/store.h"
#include "runtime/moe/way.h"
#include "runtime/plan/fault.h"

enum {
  MOERUN_FFN_TILE = 256, /* rows of one expert computed at a time */
};

/* The sizes of a layer on this rank. */
typedef struct moerun__moe_shape {
  moerun__dtype wire;
  moerun__memory memory; /* of rows and results on their way */
  int32_t max_tokens;
  int32_t num_chunks;
  int32_t chunk_tokens;     /* ceil(max_tokens / num_chunks) */
  int32_t receive_capacity; /* rows received at once, per chunk */
  int32_t slots_wanted;     /* room for placements to come */
  int32_t max_slots;        /* largest L of this rank over layers, or that */
  int32_t max_replicas;     /* most replicas of a layer, all ranks together */
  int32_t terms;       /* most terms of a row served here: min(W, L + guests) */
  size_t slots_at;     /* bytes of a row's H wire elements */
  size_t slots_bytes;  /* of the W slots behind them */
  size_t row_bytes;    /* those, W int16 slots, padded to 16 */
  size_t result_bytes; /* H wire elements, padded to 16 */
} moerun__moe_shape;

/* Of the step under way. */
typedef struct moerun__moe_step {
  moerun__slowness slowness;
  double busy_seconds;   /* of the expert stage of this layer */
  int64_t computed_rows; /* by this rank's experts in this layer */
} moerun__moe_step;

/* What experts are computed in, the device's; one caller after another has
 * it. */
typedef struct moerun__moe_work {
  float *tile_x;       /* [tile][H]  */
  float *tile_gate_up; /* [tile][outputs of gate_up] */
  float *tile_h;       /* [tile][F]  */
  float *tile_y;       /* [tile][H]  */
  float *scratch;      /* for linear */
} moerun__moe_work;

struct moerun__moe {
  const moerun_model *model; /* borrowed, as all here */
  const moerun__kernels *kernels;
  moerun__queue *queue;
  moerun__stats *stats;
  const moerun__faults *faults; /* NULL: none */
  moerun__moe_shape shape;
  moerun__moe_step step;
  moerun__gate gate;
  moerun__exchange exchange;
  moerun__current_stage stage;
  moerun__ways ways;
  moerun__store store;
  moerun__balance balance;
  moerun__shared shared;
  moerun__moe_work work;
};

/* Rows of this wire type that begin at `base`. */
static inline moerun__wire_rows
moerun__moe_rows(const moerun__moe *moe, char *base, size_t stride_bytes) {
  return (moerun__wire_rows){base, stride_bytes, moe->shape.wire};
}

/* Rows of tile_x, offset[e] .. offset[e + 1] - 1 of each, through experts or
 * slices of experts, of one shape, to tile_y. */
static inline moerun__ffn moerun__moe_ffn(const moerun__moe *moe,
                                          const moerun__expert *expert,
                                          int32_t num_experts,
                                          const int32_t *offset) {
  return (moerun__ffn){
      .y = moe->work.tile_y,
      .y_stride = (size_t)expert->down.num_outputs,
      .x = moe->work.tile_x,
      .x_stride = (size_t)expert->gate_up.num_inputs,
      .num_experts = num_experts,
      .expert = expert,
      .offset = offset,
      .room = {MOERUN_FFN_TILE, moe->work.tile_gate_up, moe->work.tile_h,
               moe->work.scratch},
  };
}

/* Most experts of a layer on any rank, slots_wanted at least. */
int32_t moerun__moe_most_slots(const moerun_model *model, int32_t slots_wanted);

/* What a layer is made for. */
typedef struct moerun__moe_setting {
  const moerun_model *model; /* borrowed, as all pointers here */
  const moerun__kernels *kernels;
  moerun__queue *queue;
  moerun__stats *stats;
  const moerun__faults *faults; /* NULL: none */
  const moerun__tier *tier; /* of experts, before the store's own; NULL: none */
  moerun__gate_options gate;
  const moerun__way_table *ways;
  moerun__dtype wire;
  moerun__memory memory; /* of rows and results: one that the comm carries */
  int32_t max_tokens;
  int32_t num_chunks;
  int32_t slots_wanted;  /* room for so many experts of a layer here at least */
  int32_t is_balanced;   /* 1: rows may move to other ranks                   */
  int32_t always_slices; /* 1: wherever there are slices                      */
  moerun__plan_options plan; /* what is 0 is measured or has its default      */
  moerun__slice_costs slice_costs;
  size_t guest_bytes; /* as moerun__store_init has it, like the next */
  int64_t slice_bytes;
} moerun__moe_setting;

/* A layer without buffers. */
void moerun__moe_init(moerun__moe *moe, const moerun__moe_setting *setting);
/* Counts into the arenas when their bases are NULL; else hands the buffers out
 * and fills what never changes. */
void moerun__moe_lay_out(moerun__moe *moe, moerun__arenas *arenas);
/* Bytes of what moerun__moe_create_transfers makes. */
size_t moerun__moe_transfer_bytes(const moerun__moe *moe);
/* [collective] Learns what balancing needs to know of the other ranks: the
 * weights' types, their slices, and unless `plan` says when moving rows pays,
 * how long rows and weights take here. */
moerun_status moerun__moe_open(moerun__moe *moe,
                               const moerun__plan_options *plan);
/* At the start of each step; `step` counts from 0. */
void moerun__moe_begin_step(moerun__moe *moe, int64_t step);
moerun_status moerun__moe_create_transfers(moerun__moe *moe);
void moerun__moe_destroy_transfers(moerun__moe *moe);

/* [collective] y[T][H] = MoE(x[T][H]) of the call: the experts' results summed
 * in gate order, then what the shared experts gave. What the gate said of the T
 * tokens stays in moe->gate until the next call. */
moerun_status moerun__moe_forward(float *y, moerun__moe *moe,
                                  const moerun__layer_call *call);

#endif
