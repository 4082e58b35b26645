/* Follow one token: gate (ids and weights at home) -> agree (which ranks, how
 * many rows; with balancing a plan) -> exchange (its row goes once to each of
 * those ranks, with the slots wanted there) -> experts (rows grouped by slot,
 * two products) -> combine (W result rows come home and are summed in gate
 * order). Then what home.c keeps from dispatch is added, and last the outputs
 * of shared experts, which work while rows travel. Of the ways to exchange and
 * compute, each layer takes the one that its plan says.
 *
 * Own rows of whole experts never move: the stage reads them where they are
 * sent from and writes their results where combine reads. */
#include "runtime/moe/agree.h"
#include "runtime/moe/calibrate.h"
#include "runtime/moe/experts.h"

#include "runtime/base/number.h"
#include "runtime/base/timer.h"

#include <string.h>

/* ---- Buffers ------------------------------------------------------------- */

static int32_t chunk_copies(const moerun__moe *moe) {
  return moerun__route_max_copies(moe->shape.chunk_tokens, moe->gate.width,
                                  moe->model->comm->size);
}

/* Room for the rows of an even load, and for all rows of any one peer; where
 * an exchange has no waves, for all rows that there can be. */
static int32_t receive_capacity(const moerun__moe *moe) {
  const moerun_comm *comm = moe->model->comm;
  if (comm->size == 1 || moe->shape.terms == 0) return 0;
  if (!comm->ops->begins_at_once) return chunk_copies(moe);
  return (comm->size - 1) * moe->shape.chunk_tokens;
}

/* Of any rank and layer: what rows may carry is the same everywhere. */
int32_t moerun__moe_most_slots(const moerun_model *model,
                               int32_t slots_wanted) {
  const int32_t most = model->placement->most_slots;
  return most > slots_wanted ? most : slots_wanted;
}

/* Of any layer, with room for placements to come. */
static int32_t most_replicas(const moerun__moe *moe) {
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

/* The most inputs that any product of a layer has. */
static int32_t most_inputs(const moerun__model_config *config) {
  int32_t most = config->hidden_width;
  if (config->expert_width > most) most = config->expert_width;
  if (config->shared_width > most) most = config->shared_width;
  return most;
}

void moerun__moe_init(moerun__moe *moe, const moerun__moe_setting *setting) {
  const moerun_model *model = setting->model;
  *moe = (moerun__moe){.model = model,
                       .kernels = setting->kernels,
                       .queue = setting->queue,
                       .stats = setting->stats,
                       .faults = setting->faults,
                       .shape = {.wire = setting->wire,
                                 .max_tokens = setting->max_tokens,
                                 .memory = setting->memory,
                                 .num_chunks = setting->num_chunks,
                                 .slots_wanted = setting->slots_wanted},
                       .ways = {.table = setting->ways},
                       .balance = {.is_on = setting->is_balanced,
                                   .always_slices = setting->always_slices,
                                   .options = setting->plan,
                                   .slice_costs = setting->slice_costs}};
  moerun__gate_init(&moe->gate, model, setting->kernels, setting->queue,
                    &setting->gate, setting->max_tokens);
  moerun__shared_init(&moe->shared, &model->config, setting->kernels,
                      setting->queue);
  const int32_t present =
      moerun__placement_max_slots(model->placement, model->comm->rank);
  moe->shape.max_slots =
      present > setting->slots_wanted ? present : setting->slots_wanted;
  moerun__store_init(&moe->store, model, moe->shape.max_slots,
                     setting->guest_bytes, setting->slice_bytes);
  if (setting->tier != NULL) {
    moerun__store_add_tier(&moe->store, *setting->tier);
  }
}

void moerun__moe_lay_out(moerun__moe *moe, moerun__arenas *arenas) {
  moerun__arena *arena = &arenas->host;
  moerun__arena *traffic = &arenas->traffic;
  moerun__arena *device = &arenas->device;
  const moerun__model_config *config = &moe->model->config;
  const size_t H = (size_t)config->hidden_width;
  const size_t F = (size_t)config->expert_width;
  moerun__gate_lay_out(
      &moe->gate, arena,
      moerun__moe_most_slots(moe->model, moe->shape.slots_wanted));
  moe->shape.slots_at = moerun__elements_bytes(config, moe->shape.wire);
  moe->shape.slots_bytes = moerun__slots_bytes(moe->gate.width);
  moe->shape.row_bytes =
      moerun__row_bytes(config, moe->shape.wire, moe->gate.width);
  moe->shape.result_bytes = moerun__result_bytes(config, moe->shape.wire);
  moe->shape.max_replicas = most_replicas(moe);
  moerun__store_lay_out(&moe->store, arenas);
  const int32_t slots = moerun__store_most_slots(&moe->store);
  moe->shape.terms = slots < moe->gate.width ? slots : moe->gate.width;
  moe->shape.chunk_tokens =
      (moe->shape.max_tokens + moe->shape.num_chunks - 1) /
      moe->shape.num_chunks;
  moe->shape.receive_capacity = receive_capacity(moe);
  moerun__exchange_lay_out(moe, arenas);
  moerun__ways_lay_out(moe, arenas);
  moerun__agree_lay_out(moe, arena, traffic);
  moerun__shared_lay_out(&moe->shared, device, moe->shape.max_tokens,
                         MOERUN_FFN_TILE);
  const size_t tile = MOERUN_FFN_TILE;
  const size_t gate_up =
      (size_t)moerun__gate_up_outputs(config, config->expert_width);
  moe->work.tile_x = moerun__arena_take(device, tile * H, sizeof(float));
  moe->work.tile_gate_up =
      moerun__arena_take(device, tile * gate_up, sizeof(float));
  moe->work.tile_h = moerun__arena_take(device, tile * F, sizeof(float));
  moe->work.tile_y = moerun__arena_take(device, tile * H, sizeof(float));
  moe->work.scratch = moerun__arena_take(
      device, moerun__linear_scratch(most_inputs(config)), sizeof(float));
}

/* Of one row through an expert here. That is the speed of reading weights,
 * which slices follow: few rows are what they are for. */
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
  const double row_seconds = moe->balance.is_on ? time_row(moe) : 0;
  MOERUN_TRY(moerun__store_open(&moe->store, row_seconds));
  if (!moe->balance.is_on) goto done;
  moerun__ledger_clear(&moe->balance.ledger);
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

size_t moerun__moe_transfer_bytes(const moerun__moe *moe) {
  const moerun_comm *comm = moe->model->comm;
  return moerun__exchange_bytes(moe) +
         (size_t)moerun__store_num_transfers(&moe->store) *
             comm->ops->transfer_bytes(comm, 0, MOERUN_MEMORY_HOST);
}

moerun_status moerun__moe_create_transfers(moerun__moe *moe) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__store_create_transfers(&moe->store));
  MOERUN_TRY(moerun__exchange_create(moe));
done:
  return status;
}

void moerun__moe_destroy_transfers(moerun__moe *moe) {
  moerun__store_close(&moe->store);
  moerun__exchange_destroy(moe);
}

/* ---- Shared experts ------------------------------------------------------ */

/* Every row goes through the shared experts while rows travel to others. */
static moerun_status run_shared(moerun__moe *moe,
                                const moerun__layer_call *call) {
  moerun_status status = MOERUN_OK;
  const int32_t T = call->T;
  if (moe->model->config.shared_width == 0) goto done;
  for (int32_t t = 0; t < T; t += MOERUN_FFN_TILE) {
    const int32_t M = T - t < MOERUN_FFN_TILE ? T - t : MOERUN_FFN_TILE;
    moerun__shared_compute(&moe->shared, call->layer, call->x, t, M,
                           moe->work.scratch);
    MOERUN_TRY(moe->exchange.now->progress(moe));
  }
  moerun__stage_end(moe->stats, MOERUN_STAGE_SHARED);
done:
  return status;
}

/* ---- Combine and the whole ----------------------------------------------- */

static moerun_status combine(float *y, moerun__moe *moe,
                             const moerun__layer_call *call, int32_t c) {
  moerun_status status = MOERUN_OK;
  const moerun__moe_chunk *chunk = &moe->exchange.chunk[c];
  const int32_t H = moe->model->config.hidden_width;
  const int32_t W = moe->gate.width;
  const size_t first = (size_t)chunk->first_token;
  const moerun__wire_rows results =
      moerun__moe_rows(moe, chunk->results, moe->shape.result_bytes);
  moe->kernels->combine(
      moe->queue, y + first * (size_t)H, &results, chunk->route.result_of,
      moe->gate.weight + first * (size_t)W, chunk->num_tokens, W, H);
  if (moe->gate.home.is_used) {
    moerun__home_add(&moe->gate.home, call->layer, y, call->x,
                     chunk->first_token, chunk->num_tokens);
  }
  if (moe->model->config.shared_width > 0) {
    moerun__shared_add(&moe->shared, y, chunk->first_token, chunk->num_tokens);
  }
  MOERUN_TRY(moe->queue->device->wait(moe->queue)); /* the results are read */
  moerun__stage_end(moe->stats, MOERUN_STAGE_COMBINE);
done:
  return status;
}

static int32_t way_of(const moerun__moe *moe) {
  return moe->balance.is_on ? moe->balance.plan.way : MOERUN_WAY_WHOLE;
}

static moerun_status run_experts(moerun__moe *moe,
                                 const moerun__layer_call *call) {
  moerun_status status = MOERUN_OK;
  const moerun__exchange_ops *exchange = moe->exchange.now;
  for (int32_t wave = 0;; wave++) {
    int more = 0;
    MOERUN_TRY(exchange->next_wave(moe, call, &more));
    if (!more) break;
    MOERUN_TRY(moe->stage.now->compute(moe, call->layer, wave));
    MOERUN_TRY(exchange->reply(moe));
  }
  MOERUN_TRY(moerun__store_forward_all(&moe->store));
done:
  return status;
}

/* From rows to summed results, the way that has been taken. */
static moerun_status go(float *y, moerun__moe *moe,
                        const moerun__layer_call *call) {
  moerun_status status = MOERUN_OK;
  const moerun__exchange_ops *exchange = moe->exchange.now;
  MOERUN_TRY(exchange->begin(moe, call));
  MOERUN_TRY(run_shared(moe, call));
  MOERUN_TRY(run_experts(moe, call));
  for (int32_t c = 0; c < moe->shape.num_chunks; c++) {
    MOERUN_TRY(exchange->collect(moe, c));
    MOERUN_TRY(combine(y, moe, call, c));
    MOERUN_TRY(exchange->finish(moe, c));
  }
done:
  return status;
}

moerun_status moerun__moe_forward(float *y, moerun__moe *moe,
                                  const moerun__layer_call *call) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__gate_choose(&moe->gate, call, moe->work.scratch));
  moerun__stage_end(moe->stats, MOERUN_STAGE_GATE);
  MOERUN_TRY(moerun__agree_on_rows(moe, call));
  moe->stats->home_rows += call->T;
  if (way_of(moe) != moe->ways.now) moerun__ways_take(moe, way_of(moe));
  const int64_t sent = moe->model->comm->count.row_bytes;
  MOERUN_TRY(go(y, moe, call));
  if (moe->ways.now != MOERUN_WAY_WHOLE) {
    moe->stats->way_bytes[moe->ways.now] +=
        moe->model->comm->count.row_bytes - sent;
  }
  MOERUN_TRY(moerun__store_end(&moe->store));
  if (moe->balance.calibration.repeats)
    MOERUN_TRY(moerun__calibrate_again(moe));
done:
  return status;
}
