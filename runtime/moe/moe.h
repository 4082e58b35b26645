/* One MoE layer over all ranks: dispatch, experts, combine. */
#ifndef MOERUN_MOE_MOE_H
#define MOERUN_MOE_MOE_H

#include "runtime/model/model.h"
#include "runtime/moe/gate.h"
#include "runtime/moe/guests.h"
#include "runtime/moe/shared.h"
#include "runtime/moe/slices.h"
#include "runtime/plan/fault.h"
#include "runtime/plan/ledger.h"
#include "runtime/plan/route.h"
#include "runtime/plan/slice_costs.h"
#include "runtime/plan/speed.h"
#include "runtime/report/counters.h"

enum {
  MOERUN_MAX_CHUNKS = 8,
  MOERUN_FFN_TILE = 256, /* rows of one expert computed at a time */
};

/* The rows of a step are cut into chunks so that one chunk's rows travel while
 * another's are computed. Each chunk has buffers of its own. */
typedef struct moerun__moe_chunk {
  int32_t first_token;
  int32_t num_tokens;
  moerun__route route;
  char *rows;    /* [copies out | received][row_bytes] rows to experts        */
  char *results; /* [T * K home | for others][result_bytes]                   */
  int32_t *receive_offset; /* [R + 1] rows from each rank, placed behind the
                              copies out; own rank's are not received         */
  int32_t *reply_offset;   /* [R + 1] result rows for each rank               */
  moerun__transfer *dispatch_out;
  moerun__transfer *dispatch_in;
  moerun__transfer *combine_out;
  moerun__transfer *combine_in;
} moerun__moe_chunk;

/* What a copy of a token's row and what a result row take on the wire. */
size_t moerun__copy_bytes(const moerun__model_config *config,
                          moerun__dtype wire);
size_t moerun__result_bytes(const moerun__model_config *config,
                            moerun__dtype wire);

/* When moving rows pays, see moe/calibrate.h. */
typedef struct moerun__calibration {
  double tile_seconds; /* of MOERUN_FFN_TILE rows through an expert */
  int32_t min_rows;    /* asked for; 0: as measured */
  int32_t repeats;     /* 1: measured again where weights seem too dear */
  int32_t too_dear;    /* layers since then in which they did */
  int32_t again;       /* times so far */
} moerun__calibration;

typedef struct moerun__moe {
  const moerun_model *model;
  const moerun__kernels *kernels;
  moerun__linear *linear;
  moerun__stats *stats;
  moerun__dtype wire;
  int32_t max_tokens;
  int32_t num_chunks;
  int32_t chunk_tokens;     /* ceil(max_tokens / num_chunks) */
  int32_t receive_capacity; /* rows received at once, per chunk */
  int32_t slots_wanted;     /* room for placements to come */
  int32_t max_slots;        /* largest L of this rank over layers, or that */
  int32_t max_hosts;        /* most replicas of a layer, all ranks together */
  int32_t terms;       /* most terms of a row served here: min(K, L + guests) */
  size_t row_bytes;    /* H wire elements, K int16 slots, padded to 16 */
  size_t result_bytes; /* H wire elements, padded to 16 */
  moerun__moe_chunk chunk[MOERUN_MAX_CHUNKS];
  int32_t balances; /* 1: rows may move to other ranks, see balance/ */
  moerun__plan_options plan_options;
  moerun__calibration calibration;
  moerun__plan plan;
  moerun__ledger ledger;
  moerun__guests guests;
  moerun__slices slices;
  moerun__slice_costs slice_costs;
  int32_t always_slices;        /* 1: wherever there are slices */
  moerun__speed speed;          /* of this rank */
  const moerun__faults *faults; /* borrowed; NULL: none */
  moerun__slowness slowness;    /* of the step under way */
  double busy_seconds;          /* of the expert stage of this layer */
  int64_t computed_rows;        /* by this rank's experts in this layer */
  int32_t timed;                /* experts looked at by calibration */
  int32_t *told;                /* what this rank tells the others of itself */
  int32_t count_width;          /* of the last exchange */
  int32_t *count_out; /* [R][count_width]: status, rows of each chunk; then
                            balancing, first: speed, demand; second: digest  */
  int32_t *count_in;
  moerun__gate gate;
  moerun__shared shared;
  int32_t *expert_of_slot; /* [num_moe_layers][max_slots] */
  int32_t *slot_offset;    /* [L + 1] */
  int32_t *row_index;      /* rows of a wave, by slot */
  int32_t *result_index;
  float *tile_x;       /* [tile][H]  */
  float *tile_gate_up; /* [tile][2F] */
  float *tile_h;       /* [tile][F]  */
  float *tile_y;       /* [tile][H]  */
  float *scratch;      /* for linear */
} moerun__moe;

/* Rows of this wire type that begin at `base`. */
static inline moerun__wire_rows
moerun__moe_rows(const moerun__moe *moe, char *base, size_t stride_bytes) {
  return (moerun__wire_rows){base, stride_bytes, moe->wire};
}

/* Most experts of a layer on any rank, slots_wanted at least. */
int32_t moerun__moe_most_slots(const moerun_model *model, int32_t slots_wanted);

/* Counts into `arena` when its base is NULL, else hands the buffers out and
 * fills what never changes. Reads of moe: model, kernels, linear, stats, wire,
 * max_tokens, num_chunks, slots_wanted, balances, always_slices, plan_options,
 * and model and room_bytes of guests and slices. */
void moerun__moe_lay_out(moerun__moe *moe, moerun__arena *arena);
/* Transfers that moerun__moe_create_transfers makes. */
int32_t moerun__moe_transfers(const moerun__moe *moe);
/* [collective] Learns what balancing needs to know of the other ranks: the weights'
 * types, their slices, and unless `plan` says when moving rows pays, how long
 * rows and weights take here. */
moerun_status moerun__moe_open(moerun__moe *moe,
                               const moerun__plan_options *plan);
/* At the start of each step; `step` counts from 0. */
void moerun__moe_begin_step(moerun__moe *moe, int64_t step);
/* After the model's placement has changed. */
void moerun__moe_adopt_placement(moerun__moe *moe);
moerun_status moerun__moe_create_transfers(moerun__moe *moe);
void moerun__moe_destroy_transfers(moerun__moe *moe);

/* [collective] y[T][H] = MoE(x[T][H]) of MoE layer `layer` (a decoder layer
 * index): the experts' results summed in gate order, then what the shared
 * experts gave. `failed` is this rank's status so far: a rank that is not OK sends
 * no rows but tells the others, who then return MOERUN_ERR_PEER. What the gate
 * said of the T tokens stays in moe->gate until the next call. */
moerun_status moerun__moe_forward(moerun__moe *moe, int32_t layer, int32_t T,
                                  const float *x, float *y,
                                  moerun_status failed);

#endif
