/* Follow one token: gate (ids and weights at home) -> route (which ranks) ->
 * dispatch (its row goes once to each of those ranks, with the slots wanted
 * there) -> experts (rows grouped by slot, three GEMMs: experts.c) -> combine
 * (K result rows come home and are summed in gate order). Then what home.c
 * keeps from dispatch is added, and last the outputs of shared experts, which
 * work while rows travel.
 *
 * Before dispatch the ranks agree on counts and, with balancing, on a plan
 * (agree.c). Own rows never move: the expert stage reads them where they are
 * sent from and writes their results where combine reads. If the plan is to
 * slice, dispatch and experts are those of sliced.c.
 *
 * Memory is bounded for any skew: a rank receives in waves of peers whose rows
 * fit its buffer, and asks for the next wave when one is worked off. Senders
 * need no buffer beyond their own copies, which the transport keeps, because a rendezvous message waits
 * for its receive. No deadlock: every rank posts the receives of its result
 * rows before it waits for anything, and waits for its sends last. */
#include "runtime/moe/agree.h"
#include "runtime/moe/calibrate.h"
#include "runtime/moe/experts.h"
#include "runtime/moe/sliced.h"

#include "runtime/base/number.h"
#include "runtime/base/timer.h"

#include <string.h>

/* ---- Buffers ---------------------------------------------------------------- */

static int32_t chunk_copies(const moerun__moe *moe) {
  return moerun__route_max_copies(moe->shape.chunk_tokens, moe->gate.width,
                                  moe->model->comm->size);
}

static void lay_out_chunk(moerun__moe *moe, moerun__moe_chunk *chunk,
                          moerun__arena *arena) {
  const size_t R = (size_t)moe->model->comm->size;
  const int32_t K = moe->gate.width;
  const size_t own = (size_t)moe->shape.chunk_tokens;
  const size_t capacity = (size_t)moe->shape.receive_capacity;
  const size_t home_results = (size_t)moe->shape.chunk_tokens * (size_t)K;
  moerun__route_lay_out(&chunk->route, arena, moe->shape.chunk_tokens, K,
                        moe->model->comm->size);
  chunk->rows = moerun__arena_take(arena, own + capacity, moe->shape.row_bytes);
  chunk->results = moerun__arena_take(
      arena, home_results + capacity * (size_t)moe->shape.terms,
      moe->shape.result_bytes);
  chunk->receive_offset = moerun__arena_take(arena, R + 1, sizeof(int32_t));
  chunk->reply_offset = moerun__arena_take(arena, R + 1, sizeof(int32_t));
}

static size_t padded(size_t bytes) {
  return (size_t)moerun__round_up((int64_t)bytes, 16);
}

/* A row and the slots of its terms. */
static size_t row_bytes(const moerun__model_config *config, moerun__dtype wire,
                        int32_t width) {
  const size_t H = (size_t)config->hidden_width;
  return padded(moerun__dtype_bytes(wire, H) + (size_t)width * sizeof(int16_t));
}

size_t moerun__copy_bytes(const moerun__model_config *config,
                          moerun__dtype wire) {
  return row_bytes(config, wire, config->experts_per_token);
}

size_t moerun__result_bytes(const moerun__model_config *config,
                            moerun__dtype wire) {
  return padded(moerun__dtype_bytes(wire, (size_t)config->hidden_width));
}

/* Of any rank and layer: what rows may carry is the same everywhere. */
int32_t moerun__moe_most_slots(const moerun_model *model,
                               int32_t slots_wanted) {
  const int32_t most = model->placement->most_slots;
  return most > slots_wanted ? most : slots_wanted;
}

/* Of any layer, with room for placements to come. */
static int32_t most_hosts(const moerun__moe *moe) {
  const moerun_placement *placement = moe->model->placement;
  const int32_t E = placement->num_experts;
  int64_t most = 0;
  for (int32_t l = 0; l < placement->num_layers; l++) {
    const int32_t *offset = placement->replica_offset + (size_t)l * (size_t)E;
    if (offset[E] - offset[0] > most) most = offset[E] - offset[0];
  }
  const int64_t ranks = placement->num_ranks;
  const int64_t wanted = moe->shape.slots_wanted * ranks;
  if (wanted > most) most = wanted;
  return moerun__to_int(most < E * ranks ? most : E * ranks);
}

/* Of any product here. */
static int32_t most_inputs(const moerun__model_config *config) {
  int32_t most = config->hidden_width;
  if (config->expert_width > most) most = config->expert_width;
  if (config->shared_width > most) most = config->shared_width;
  return most;
}

void moerun__moe_lay_out(moerun__moe *moe, moerun__arena *arena) {
  const moerun__model_config *config = &moe->model->config;
  const int32_t R = moe->model->comm->size;
  const size_t H = (size_t)config->hidden_width;
  const size_t F = (size_t)config->expert_width;
  moerun__gate_lay_out(
      &moe->gate, arena,
      moerun__moe_most_slots(moe->model, moe->shape.slots_wanted));
  moe->shape.row_bytes = row_bytes(config, moe->shape.wire, moe->gate.width);
  moe->shape.result_bytes = moerun__result_bytes(config, moe->shape.wire);
  moe->shape.max_slots = moerun__placement_max_slots(moe->model->placement,
                                                     moe->model->comm->rank);
  if (moe->shape.max_slots < moe->shape.slots_wanted)
    moe->shape.max_slots = moe->shape.slots_wanted;
  moe->shape.max_hosts = most_hosts(moe);
  moerun__store_lay_out(&moe->store, arena, moe->shape.max_slots,
                        moe->shape.row_bytes, moe->gate.width, moe->shape.wire);
  const int32_t slots = moerun__store_most_slots(&moe->store);
  moe->shape.terms = slots < moe->gate.width ? slots : moe->gate.width;
  moe->shape.chunk_tokens =
      (moe->shape.max_tokens + moe->shape.num_chunks - 1) /
      moe->shape.num_chunks;
  /* Room for the rows of an even load, and for all rows of any one peer. */
  moe->shape.receive_capacity =
      R > 1 && moe->shape.terms > 0 ? chunk_copies(moe) : 0;
  for (int32_t c = 0; c < moe->shape.num_chunks; c++) {
    lay_out_chunk(moe, &moe->exchange.chunk[c], arena);
  }
  moerun__agree_lay_out(moe, arena);
  const size_t pairs =
      ((size_t)moe->shape.chunk_tokens + (size_t)moe->shape.receive_capacity) *
      (size_t)moe->shape.terms;
  moe->work.slot_offset =
      moerun__arena_take(arena, (size_t)slots + 1, sizeof(int32_t));
  moe->work.row_index = moerun__arena_take(arena, pairs, sizeof(int32_t));
  moe->work.result_index = moerun__arena_take(arena, pairs, sizeof(int32_t));
  moerun__shared_lay_out(&moe->shared, arena, moe->shape.max_tokens,
                         MOERUN_FFN_TILE);
  const size_t tile = MOERUN_FFN_TILE;
  moe->work.tile_x = moerun__arena_take(arena, tile * H, sizeof(float));
  moe->work.tile_gate_up =
      moerun__arena_take(arena, tile * 2 * F, sizeof(float));
  moe->work.tile_h = moerun__arena_take(arena, tile * F, sizeof(float));
  moe->work.tile_y = moerun__arena_take(arena, tile * H, sizeof(float));
  moe->work.scratch = moerun__arena_take(
      arena, moerun__linear_scratch(most_inputs(config)), sizeof(float));
}

/* Of one row through an expert here. That is the speed of reading weights, which
 * slices follow: few rows are what they are for. */
static double time_row(moerun__moe *moe) {
  double seconds = MOERUN_COUNTED_SECONDS;
  if (moe->faults == NULL || !moe->faults->counted) {
    seconds = moerun__calibrate_row(moe);
  }
  if (moe->faults != NULL) {
    seconds *=
        moerun__faults_at(moe->faults, moe->model->comm->rank, 0).compute;
  }
  return seconds;
}

moerun_status moerun__moe_open(moerun__moe *moe,
                               const moerun__plan_options *plan) {
  moerun_status status = MOERUN_OK;
  if (!moe->balance.is_on) goto done;
  moerun__ledger_clear(&moe->balance.ledger);
  MOERUN_TRY(moerun__store_open(&moe->store, time_row(moe)));
  if (plan == NULL) MOERUN_TRY(moerun__calibrate(moe));
  if (moe->faults != NULL && moe->faults->counted) {
    moerun__speed_expect(&moe->balance.speed, MOERUN_COUNTED_SECONDS,
                         MOERUN_FFN_TILE * MOERUN_COUNTED_SECONDS,
                         MOERUN_FFN_TILE);
  }
  moe->balance.ledger.row_seconds = moe->balance.speed.row_seconds;
done:
  return status;
}

void moerun__moe_begin_step(moerun__moe *moe, int64_t step) {
  moerun__speed_step(&moe->balance.speed);
  if (moe->balance.is_on) moerun__ledger_begin_step(&moe->balance.ledger);
  moe->step.slowness = (moerun__slowness){.compute = 1};
  if (moe->faults != NULL) {
    moe->step.slowness =
        moerun__faults_at(moe->faults, moe->model->comm->rank, step);
    moerun__pause(1000 * (int64_t)moe->step.slowness.stall_ms);
  }
  if (moe->balance.is_on && moerun__speed_starves(&moe->balance.speed)) {
    moerun__experts_probe(moe);
  }
}

/* Copies that leave this rank, the largest chunk's. */
static size_t dispatch_bytes(const moerun__moe *moe) {
  const int32_t others = moe->model->comm->size - 1;
  return (size_t)moerun__route_max_copies(moe->shape.chunk_tokens,
                                          moe->gate.width, others) *
         moe->shape.row_bytes;
}

size_t moerun__moe_transfer_bytes(const moerun__moe *moe) {
  const moerun_comm *comm = moe->model->comm;
  const int32_t plain =
      moe->shape.num_chunks + moerun__store_transfers(&moe->store);
  return (size_t)moe->shape.num_chunks *
             comm->ops->transfer_bytes(comm, dispatch_bytes(moe)) +
         (size_t)plain * comm->ops->transfer_bytes(comm, 0);
}

moerun_status moerun__moe_create_transfers(moerun__moe *moe) {
  moerun_status status = MOERUN_OK;
  moerun_comm *comm = moe->model->comm;
  MOERUN_TRY(moerun__store_create_transfers(&moe->store));
  for (int32_t c = 0; c < moe->shape.num_chunks; c++) {
    moerun__moe_chunk *chunk = &moe->exchange.chunk[c];
    MOERUN_TRY(comm->ops->transfer_create(&chunk->dispatch, comm,
                                          dispatch_bytes(moe)));
    MOERUN_TRY(comm->ops->transfer_create(&chunk->combine, comm, 0));
  }
done:
  return status;
}

void moerun__moe_destroy_transfers(moerun__moe *moe) {
  const moerun__comm_ops *ops = moe->model->comm->ops;
  moerun__store_close(&moe->store);
  for (int32_t c = 0; c < moe->shape.num_chunks; c++) {
    ops->transfer_destroy(moe->exchange.chunk[c].dispatch);
    ops->transfer_destroy(moe->exchange.chunk[c].combine);
  }
}

/* ---- Dispatch ------------------------------------------------------------------ */

/* Rows of a chunk that go anywhere, as they are sent. */
static void write_rows(moerun__moe *moe, moerun__moe_chunk *chunk,
                       const float *x) {
  const int32_t H = moe->model->config.hidden_width;
  const int32_t *to_offset = chunk->route.to_offset;
  const moerun__wire_rows rows =
      moerun__moe_rows(moe, chunk->rows, moe->shape.row_bytes);
  x += (size_t)chunk->first_token * (size_t)H;
  for (int32_t t = 0; t < chunk->num_tokens; t++) {
    if (to_offset[t + 1] == to_offset[t]) continue;
    moe->kernels->scatter(&rows, &t, x + (size_t)t * (size_t)H, 1, H);
  }
}

static moerun_status begin_dispatch(moerun__moe *moe, int32_t c,
                                    const float *x) {
  moerun_status status = MOERUN_OK;
  moerun__moe_chunk *chunk = &moe->exchange.chunk[c];
  const moerun__comm_ops *ops = moe->model->comm->ops;
  const moerun__route *route = &chunk->route;
  const int32_t R = moe->model->comm->size;
  const moerun__row_list home = {chunk->results, moe->shape.result_bytes,
                                 route->result_offset, 0, R};
  const moerun__row_list in = moerun__experts_first_wave(moe, c);
  const moerun__row_plan out = {.rows = chunk->rows,
                                .stride_bytes = moe->shape.row_bytes,
                                .row_bytes = moerun__moe_slots_at(moe),
                                .num_rows = chunk->num_tokens,
                                .to_offset = route->to_offset,
                                .to = route->to,
                                .tails = route->slots,
                                .tail_bytes =
                                    (size_t)moe->gate.width * sizeof(int16_t),
                                .wire_bytes = moe->shape.row_bytes};
  write_rows(moe, chunk, x);
  MOERUN_TRY(ops->receive_begin(chunk->combine, MOERUN_TAG_COMBINE + c, &home));
  MOERUN_TRY(
      ops->exchange_begin(chunk->dispatch, MOERUN_TAG_DISPATCH + c, &out, &in));
done:
  return status;
}

/* ---- Shared experts ------------------------------------------------------------ */

/* Messages of all chunks move only when the library is called. */
static moerun_status run_shared(moerun__moe *moe, const moerun__layer *layer,
                                int32_t T, const float *x) {
  moerun_status status = MOERUN_OK;
  const moerun__comm_ops *ops = moe->model->comm->ops;
  if (moe->model->config.shared_width == 0) goto done;
  for (int32_t t = 0; t < T; t += MOERUN_FFN_TILE) {
    const int32_t M = T - t < MOERUN_FFN_TILE ? T - t : MOERUN_FFN_TILE;
    int arrived = 0;
    moerun__shared_compute(&moe->shared, layer, x, t, M, moe->work.scratch);
    MOERUN_TRY(ops->test_received(moe->exchange.chunk[0].dispatch, &arrived));
  }
  moerun__stage_end(moe->stats, MOERUN_STAGE_SHARED);
done:
  return status;
}

/* ---- Combine and the whole ------------------------------------------------------ */

static moerun_status combine(moerun__moe *moe, int32_t c,
                             const moerun__layer *layer, const float *x,
                             float *y) {
  moerun_status status = MOERUN_OK;
  moerun__moe_chunk *chunk = &moe->exchange.chunk[c];
  const moerun__comm_ops *ops = moe->model->comm->ops;
  const int32_t H = moe->model->config.hidden_width;
  const int32_t K = moe->gate.width;
  const size_t first = (size_t)chunk->first_token;
  MOERUN_TRY(ops->wait_received(chunk->combine));
  moerun__stage_end(moe->stats, MOERUN_STAGE_RESULTS_WAIT);
  const moerun__wire_rows results =
      moerun__moe_rows(moe, chunk->results, moe->shape.result_bytes);
  moe->kernels->combine(y + first * (size_t)H, &results, chunk->route.result_of,
                        moe->gate.weight + first * (size_t)K, chunk->num_tokens,
                        K, H);
  moerun__home_add(&moe->gate.home, layer, y, x, chunk->first_token,
                   chunk->num_tokens);
  moerun__shared_add(&moe->shared, y, chunk->first_token, chunk->num_tokens);
  moerun__stage_end(moe->stats, MOERUN_STAGE_COMBINE);
  MOERUN_TRY(ops->wait(chunk->dispatch));
  MOERUN_TRY(ops->wait(chunk->combine));
  moerun__stage_end(moe->stats, MOERUN_STAGE_RESULTS_WAIT);
done:
  return status;
}

static void count_rows(moerun__moe *moe) {
  const int32_t R = moe->model->comm->size;
  const int32_t rank = moe->model->comm->rank;
  for (int32_t c = 0; c < moe->shape.num_chunks; c++) {
    const int32_t *offset = moe->exchange.chunk[c].route.copy_offset;
    const int32_t local = offset[rank + 1] - offset[rank];
    moe->stats->rows_local += local;
    moe->stats->rows_out += offset[R] - local;
  }
}

/* Rows to the ranks of their experts, and through these. */
static moerun_status compute_whole(moerun__moe *moe, const moerun__layer *layer,
                                   int32_t T, const float *x) {
  moerun_status status = MOERUN_OK;
  count_rows(moe);
  for (int32_t c = 0; c < moe->shape.num_chunks; c++) {
    MOERUN_TRY(begin_dispatch(moe, c, x));
    moerun__stage_end(moe->stats, MOERUN_STAGE_DISPATCH);
  }
  MOERUN_TRY(run_shared(moe, layer, T, x));
  for (int32_t c = 0; c < moe->shape.num_chunks; c++) {
    MOERUN_TRY(moerun__experts_work_off(moe, c, layer));
  }
  MOERUN_TRY(moerun__store_forward_all(&moe->store));
done:
  return status;
}

moerun_status moerun__moe_forward(moerun__moe *moe, int32_t layer_index,
                                  int32_t T, const float *x,
                                  const moerun__own_choice *own, float *y,
                                  moerun_status failed) {
  moerun_status status = MOERUN_OK;
  const moerun__layer *layer = &moe->model->layers[layer_index];
  MOERUN_TRY(moerun__gate_choose(&moe->gate, layer, T, x, own,
                                 moe->work.scratch, failed));
  moerun__stage_end(moe->stats, MOERUN_STAGE_GATE);
  MOERUN_TRY(moerun__agree_on_rows(moe, layer, T, failed));
  moe->stats->home_rows += T;
  if (moe->balance.is_on && moe->balance.plan.sliced) {
    MOERUN_TRY(run_shared(moe, layer, T, x));
    MOERUN_TRY(moerun__sliced_forward(moe, layer->moe_layer, x));
  } else {
    MOERUN_TRY(compute_whole(moe, layer, T, x));
  }
  for (int32_t c = 0; c < moe->shape.num_chunks; c++) {
    MOERUN_TRY(combine(moe, c, layer, x, y));
  }
  MOERUN_TRY(moerun__store_end(&moe->store));
  if (moe->balance.calibration.repeats)
    MOERUN_TRY(moerun__calibrate_again(moe));
done:
  return status;
}
