/* A few milliseconds when a session is made: the fastest rank's rows, so that
 * speeds of all ranks are told against one number, and the slowest link. The
 * shortest of some tries is taken, because everything that disturbs one makes
 * it longer. */
#include "runtime/moe/calibrate.h"

#include "runtime/base/timer.h"
#include "runtime/moe/exchange_sliced.h"

#include <math.h>

/* What takes longer is disturbed for a small part of it. */
#define LONG_SECONDS 0.05

enum {
  TRIES = 3,        /* of what moves weights or takes long, at least */
  MOST_TRIES = 12,  /* of what moves weights */
  SHORT_TRIES = 9,  /* of what may be over in microseconds */
  THRESHOLD = 1300, /* lambda of the LLEP paper */
  THRESHOLD_HELD = 1100,
  SLACK = 1000,
  COUNTED_WEIGHTS = 12, /* rows in whose time an expert's weights arrive, where
                           nothing is measured                             */
  FEWEST_ROWS = 32,     /* to a rank that must be sent the weights */
  FEWEST_ROWS_HELD = 8, /* to one that has them */
  MOST_DOUBLINGS = 12,
};

/* Number i of this rank's experts, in rounds; NULL: it has none. Different
 * ones are timed, because a step finds none of them in the caches. */
static const moerun__expert *own_expert(const moerun__moe *moe, int32_t i) {
  const moerun_model *model = moe->model;
  int32_t all = 0;
  for (int32_t l = 0; l < model->config.num_layers; l++) {
    const moerun__layer *layer = &model->layers[l];
    if (layer->moe_layer >= 0) all += layer->num_slots;
  }
  for (int32_t l = 0; all > 0 && l < model->config.num_layers; l++) {
    const moerun__layer *layer = &model->layers[l];
    if (layer->moe_layer < 0) continue;
    const int32_t slot = i % all;
    if (slot < layer->num_slots) {
      return moerun__store_get(&moe->store, layer, slot);
    }
    i = slot - layer->num_slots;
  }
  return NULL;
}

static const moerun__expert *own_slice(const moerun__moe *moe, int32_t i) {
  const int32_t E = moe->model->config.num_experts;
  const int32_t all = moerun__store_sliced_layers(&moe->store) * E;
  const moerun__layer *layer = moerun__model_layer(moe->model, i % all / E);
  return moerun__store_get(&moe->store, layer, moerun__slice_slot(i % E));
}

typedef const moerun__expert *pick(const moerun__moe *moe, int32_t i);

/* Seconds for M rows through an expert; 0: there is none. */
static double time_rows(moerun__moe *moe, pick *nth, int32_t M) {
  const size_t H = (size_t)moe->model->config.hidden_width;
  const size_t F = (size_t)moe->model->config.expert_width;
  const int32_t offset[] = {0, M};
  double best = 0;
  const moerun__device *device = moe->queue->device;
  device->clear(moe->queue, moe->work.tile_x,
                MOERUN_FFN_TILE * H * sizeof *moe->work.tile_x);
  device->clear(moe->queue, moe->work.tile_h,
                MOERUN_FFN_TILE * F * sizeof *moe->work.tile_h);
  for (int try = 0; try < SHORT_TRIES; try++) {
    const moerun__expert *e = nth(moe, moe->balance.timed++);
    if (e == NULL) break;
    const moerun__ffn ffn = moerun__moe_ffn(moe, e, 1, offset);
    const double began = moerun__now();
    moe->kernels->ffn(moe->queue, &ffn);
    if (device->wait(moe->queue) != MOERUN_OK) break;
    const double seconds = moerun__now() - began;
    if (try == 0 || seconds < best) best = seconds;
    if (best > LONG_SECONDS && try + 1 >= TRIES) break;
    if (best > 10 * LONG_SECONDS) break;
  }
  return best;
}

double moerun__calibrate_row(moerun__moe *moe) {
  return time_rows(moe, own_expert, 1);
}

/* Seconds for the weights of one expert from the rank before, while this one
 * sends as much to the rank behind; until the shortest two agree everywhere. */
static moerun_status time_weights(double *best, moerun__moe *moe) {
  moerun_status status = MOERUN_OK;
  moerun_comm *comm = moe->model->comm;
  double second = INFINITY;
  *best = INFINITY;
  for (int try = 0; try < MOST_TRIES; try++) {
    int64_t agree = try >= TRIES && second < 1.2 * *best;
    MOERUN_TRY(comm->ops->minimum(comm, &agree)); /* and all are here */
    if (agree) break;
    const double began = moerun__now();
    MOERUN_TRY(moerun__store_pass(&moe->store));
    const double seconds = moerun__now() - began;
    second = fmin(second, fmax(seconds, *best));
    *best = fmin(*best, seconds);
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

/* On the rank that takes longest. */
static moerun_status time_share(double *most, moerun__moe *moe, size_t bytes) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__sliced_time_share(most, moe, bytes));
  MOERUN_TRY(longest(most, moe->model->comm, *most));
done:
  return status;
}

/* What the choice of slices goes by. `weights`: seconds to send an expert. */
static moerun_status time_slices(moerun__moe *moe, double weights) {
  moerun_status status = MOERUN_OK;
  moerun_comm *comm = moe->model->comm;
  moerun__slice_costs *costs = &moe->balance.slice_costs;
  const size_t most = MOERUN_SLICED_ROWS * moe->shape.row_bytes;
  const size_t least = 64 * (size_t)comm->size; /* one row from each rank */
  const size_t few = least < most ? least : most;
  double small = 0;
  double large = 0;
  for (int i = 0; i < MOERUN_COST_POINTS; i++) {
    /* Beyond a while twice as many rows take twice as long. */
    if (i > 0 && costs->whole[i - 1] > (int64_t)(1e9 * LONG_SECONDS)) {
      costs->whole[i] = 2 * costs->whole[i - 1];
      costs->slice[i] = 2 * costs->slice[i - 1];
      continue;
    }
    double whole = time_rows(moe, own_expert, 1 << i);
    double slice = time_rows(moe, own_slice, 1 << i);
    MOERUN_TRY(shortest(&whole, comm, whole));
    MOERUN_TRY(longest(&slice, comm, slice));
    costs->whole[i] = (int64_t)(1e9 * whole);
    costs->slice[i] = (int64_t)(1e9 * slice);
  }
  costs->weights = (int64_t)(1e9 * weights);
  MOERUN_TRY(time_share(&small, moe, few));
  costs->spread = (int64_t)(1e9 * small);
  if (most == few) goto done;
  MOERUN_TRY(time_share(&large, moe, most));
  if (large > small) {
    costs->spread_kib =
        (int64_t)(1e9 * 1024 * (large - small) / (double)(most - few));
  }
done:
  return status;
}

static void set_default(int32_t *value, int32_t otherwise) {
  if (*value == 0) *value = otherwise;
}

/* Seconds of the fastest rank's rows and of the slowest rank's weights. */
static moerun_status measure(moerun__moe *moe, double *row, double *tile,
                             double *weights) {
  moerun_status status = MOERUN_OK;
  moerun_comm *comm = moe->model->comm;
  MOERUN_TRY(shortest(row, comm, time_rows(moe, own_expert, 1)));
  MOERUN_TRY(shortest(tile, comm, time_rows(moe, own_expert, MOERUN_FFN_TILE)));
  *weights = 0;
  if (moerun__store_can_pass(&moe->store)) {
    MOERUN_TRY(time_weights(weights, moe));
  }
  MOERUN_TRY(longest(weights, comm, *weights));
done:
  return status;
}

/* As if reading an expert took as long as COUNTED_WEIGHTS rows, a slice its
 * part of that, and sharing rows as long as a row. */
static void count_slices(moerun__moe *moe) {
  moerun__slice_costs *costs = &moe->balance.slice_costs;
  const double row = 1e9 * MOERUN_COUNTED_SECONDS;
  for (int i = 0; i < MOERUN_COST_POINTS; i++) {
    costs->whole[i] = (int64_t)(row * ((1 << i) + COUNTED_WEIGHTS));
    costs->slice[i] = costs->whole[i] / moe->model->comm->size;
  }
  costs->weights = (int64_t)(row * COUNTED_WEIGHTS);
  costs->spread = (int64_t)row;
}

moerun_status moerun__calibrate_slices(moerun__moe *moe, double weights,
                                       int is_counted) {
  if (moerun__store_sliced_layers(&moe->store) == 0) return MOERUN_OK;
  if (!is_counted) return time_slices(moe, weights);
  count_slices(moe);
  return MOERUN_OK;
}

/* In rows of the fastest rank; what nobody has asked for. */
static void price_weights(moerun__moe *moe, double weights) {
  moerun__plan_options *options = &moe->balance.options;
  const moerun__calibration *c = &moe->balance.calibration;
  const double rows = weights * MOERUN_FFN_TILE / c->tile_seconds;
  options->weight_rows =
      rows < INT32_MAX / 2 ? (int32_t)ceil(rows) : INT32_MAX / 2;
  options->min_rows = c->min_rows;
  set_default(&options->min_rows, options->weight_rows > FEWEST_ROWS
                                      ? options->weight_rows
                                      : FEWEST_ROWS);
}

moerun_status moerun__calibrate(moerun__moe *moe) {
  moerun_status status = MOERUN_OK;
  moerun__plan_options *options = &moe->balance.options;
  const int counted = moe->faults != NULL && moe->faults->counted;
  double row = MOERUN_COUNTED_SECONDS;
  double tile = MOERUN_FFN_TILE * MOERUN_COUNTED_SECONDS;
  double weights = COUNTED_WEIGHTS * MOERUN_COUNTED_SECONDS;
  if (!counted) MOERUN_TRY(measure(moe, &row, &tile, &weights));
  moerun__speed_expect(&moe->balance.speed, row, tile, MOERUN_FFN_TILE);
  moe->balance.calibration = (moerun__calibration){
      .tile_seconds = tile,
      .min_rows = options->min_rows,
      .repeats = !counted && moerun__store_can_pass(&moe->store)};
  price_weights(moe, weights);
  set_default(&options->threshold, THRESHOLD);
  set_default(&options->threshold_held, THRESHOLD_HELD);
  set_default(&options->slack, SLACK);
  set_default(&options->min_rows_held, FEWEST_ROWS_HELD);
  for (int32_t w = 0; w < moe->ways.table->count; w++) {
    const moerun__way *way = moe->ways.table->way[w];
    if (way->measure == NULL) continue;
    moerun__ways_take(moe, w);
    MOERUN_TRY(way->measure(moe, weights, counted));
  }
done:
  return status;
}

moerun_status moerun__calibrate_again(moerun__moe *moe) {
  moerun_status status = MOERUN_OK;
  moerun__calibration *c = &moe->balance.calibration;
  double weights = 0;
  if (c->too_dear < 1 << c->again) goto done;
  c->too_dear = 0;
  c->again += c->again < MOST_DOUBLINGS;
  MOERUN_TRY(time_weights(&weights, moe));
  MOERUN_TRY(longest(&weights, moe->model->comm, weights));
  if (weights * MOERUN_FFN_TILE <
      moe->balance.options.weight_rows * c->tile_seconds) {
    price_weights(moe, weights);
  }
done:
  return status;
}
