/* A few milliseconds when a session is made. The shortest of some runs is
 * taken, because everything that disturbs a run makes it longer. */
#include "runtime/balance/calibrate.h"

#include "runtime/base/number.h"
#include "runtime/base/timer.h"

#include <math.h>
#include <string.h>

enum {
  RUNS = 3,
  THRESHOLD = 1300, /* lambda of the LLEP paper */
  SLACK = 1000,
  FEWEST_ROWS = 32,     /* to a rank that must be sent the weights */
  FEWEST_ROWS_HELD = 8, /* to one that has them */
};

/* Seconds for a full tile of rows through this rank's first expert; 0: it has
 * none. */
static double time_tile(const moerun__moe *moe) {
  const moerun_model *model = moe->model;
  const size_t H = (size_t)model->config.hidden_width;
  const size_t F = (size_t)model->config.expert_width;
  double best = 0;
  memset(moe->tile_x, 0, MOERUN_FFN_TILE * H * sizeof *moe->tile_x);
  for (int32_t l = 0; l < model->config.num_layers; l++) {
    const moerun__layer *layer = &model->layers[l];
    if (layer->moe_layer < 0 || layer->num_slots == 0) continue;
    for (int run = 0; run < RUNS; run++) {
      const double began = moerun__now();
      moe->linear(moe->tile_gate_up, 2 * F, moe->tile_x, H, MOERUN_FFN_TILE,
                  &layer->gate_up[0], moe->scratch);
      moe->kernels->swiglu(moe->tile_h, moe->tile_gate_up, MOERUN_FFN_TILE,
                           (int32_t)F);
      moe->linear(moe->tile_y, H, moe->tile_h, F, MOERUN_FFN_TILE,
                  &layer->down[0], moe->scratch);
      const double seconds = moerun__now() - began;
      if (run == 0 || seconds < best) best = seconds;
    }
    break;
  }
  return best;
}

/* Seconds for the weights of one expert from the rank before, while this one
 * sends as much to the rank behind. */
static moerun_status time_weights(double *best, moerun__moe *moe) {
  moerun_status status = MOERUN_OK;
  moerun__guests *guests = &moe->guests;
  moerun_comm *comm = moe->model->comm;
  const moerun__comm_ops *ops = comm->ops;
  const size_t bytes = guests->bytes[0] + guests->bytes[1];
  const int32_t behind = (comm->rank + 1) % comm->size;
  const int32_t before = (comm->rank + comm->size - 1) % comm->size;
  int32_t *in = guests->offset;
  int32_t *out = guests->offset + comm->size + 1;
  memset(in, 0, ((size_t)comm->size + 1) * sizeof *in);
  memset(out, 0, ((size_t)comm->size + 1) * sizeof *out);
  in[before + 1] = 1;
  out[behind + 1] = 1;
  const moerun__row_list from = {guests->room, bytes, in, before, before + 1};
  const moerun__row_list to = {guests->room + bytes, bytes, out, behind,
                               behind + 1};
  memset(guests->room, 0, 2 * bytes);
  for (int run = 0; run < RUNS; run++) {
    int64_t all_are_here = 0;
    MOERUN_TRY(ops->minimum(comm, &all_are_here));
    const double began = moerun__now();
    MOERUN_TRY(ops->receive_begin(guests->in[0], MOERUN_TAG_EXPERTS, &from));
    MOERUN_TRY(ops->send_begin(guests->out[0], MOERUN_TAG_EXPERTS, &to));
    MOERUN_TRY(ops->wait(guests->in[0]));
    MOERUN_TRY(ops->wait(guests->out[0]));
    const double seconds = moerun__now() - began;
    if (run == 0 || seconds < *best) *best = seconds;
  }
done:
  return status;
}

static int64_t nanoseconds(double seconds) {
  return (int64_t)ceil(seconds * 1e9);
}

moerun_status moerun__calibrate(moerun__moe *moe) {
  moerun_status status = MOERUN_OK;
  moerun_comm *comm = moe->model->comm;
  const double tile_seconds = time_tile(moe);
  double weight_seconds = 0;
  int64_t tile = tile_seconds > 0 ? nanoseconds(tile_seconds) : INT64_MAX;
  MOERUN_TRY(comm->ops->minimum(comm, &tile));
  if (moe->guests.per_rank >= 2) {
    MOERUN_TRY(time_weights(&weight_seconds, moe));
  }
  int64_t weights = -nanoseconds(weight_seconds);
  MOERUN_TRY(comm->ops->minimum(comm, &weights));
  const double rows = (double)-weights * MOERUN_FFN_TILE / (double)tile;
  const int32_t weight_rows =
      rows < INT32_MAX / 2 ? (int32_t)ceil(rows) : INT32_MAX / 2;
  moe->plan_options = (moerun__plan_options){
      .threshold = THRESHOLD,
      .slack = SLACK,
      .min_rows = weight_rows > FEWEST_ROWS ? weight_rows : FEWEST_ROWS,
      .min_rows_held = FEWEST_ROWS_HELD,
      .weight_rows = weight_rows};
done:
  return status;
}
