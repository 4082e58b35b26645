/* A few milliseconds when a session is made: the fastest rank's rows, so that
 * speeds of all ranks are told against one number, and the slowest link. The shortest of some runs is
 * taken, because everything that disturbs a run makes it longer. */
#include "runtime/balance/calibrate.h"

#include "runtime/base/timer.h"

#include <math.h>
#include <string.h>

enum {
  RUNS = 3,
  THRESHOLD = 1300, /* lambda of the LLEP paper */
  THRESHOLD_HELD = 1100,
  SLACK = 1000,
  FEWEST_ROWS = 32,     /* to a rank that must be sent the weights */
  FEWEST_ROWS_HELD = 8, /* to one that has them */
};

/* Seconds for M rows through this rank's first expert; 0: it has none. */
static double time_rows(const moerun__moe *moe, int32_t M) {
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
      moe->linear(moe->tile_gate_up, 2 * F, moe->tile_x, H, M,
                  &layer->gate_up[0], moe->scratch);
      moe->kernels->swiglu(moe->tile_h, moe->tile_gate_up, M, (int32_t)F);
      moe->linear(moe->tile_y, H, moe->tile_h, F, M, &layer->down[0],
                  moe->scratch);
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

/* *least: the shortest over the ranks, those that know none left out. */
static moerun_status shortest(double *least, moerun_comm *comm,
                              double seconds) {
  int64_t value = seconds > 0 ? (int64_t)ceil(seconds * 1e9) : INT64_MAX;
  const moerun_status status = comm->ops->minimum(comm, &value);
  *least = 1e-9 * (double)value;
  return status;
}

static moerun_status longest(double *most, moerun_comm *comm, double seconds) {
  int64_t value = -(int64_t)ceil(seconds * 1e9);
  const moerun_status status = comm->ops->minimum(comm, &value);
  *most = -1e-9 * (double)value;
  return status;
}

static void set_default(int32_t *value, int32_t otherwise) {
  if (*value == 0) *value = otherwise;
}

moerun_status moerun__calibrate(moerun__moe *moe) {
  moerun_status status = MOERUN_OK;
  moerun_comm *comm = moe->model->comm;
  moerun__plan_options *options = &moe->plan_options;
  double row = time_rows(moe, 1);
  double tile = time_rows(moe, MOERUN_FFN_TILE);
  double weights = 0;
  MOERUN_TRY(shortest(&row, comm, row));
  MOERUN_TRY(shortest(&tile, comm, tile));
  if (moe->guests.per_rank >= 2) MOERUN_TRY(time_weights(&weights, moe));
  MOERUN_TRY(longest(&weights, comm, weights));
  moerun__speed_expect(&moe->speed, row, tile, MOERUN_FFN_TILE);
  const double rows = weights * MOERUN_FFN_TILE / tile;
  options->weight_rows =
      rows < INT32_MAX / 2 ? (int32_t)ceil(rows) : INT32_MAX / 2;
  set_default(&options->threshold, THRESHOLD);
  set_default(&options->threshold_held, THRESHOLD_HELD);
  set_default(&options->slack, SLACK);
  set_default(&options->min_rows, options->weight_rows > FEWEST_ROWS
                                      ? options->weight_rows
                                      : FEWEST_ROWS);
  set_default(&options->min_rows_held, FEWEST_ROWS_HELD);
done:
  return status;
}
