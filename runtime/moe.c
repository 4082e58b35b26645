/* Follow one token: gate (ids and weights at home) -> route (which ranks) ->
 * dispatch (its row goes once to each of those ranks, with the slots wanted
 * there) -> experts (rows grouped by slot, three GEMMs: experts.c) -> combine
 * (K result rows come home and are summed in gate order). Then what home.c
 * keeps from dispatch is added, and last the outputs of shared experts, which
 * work while rows travel.
 *
 * A row carries its own slots, so the count exchange is one integer per peer
 * and chunk, and one status word. With balancing it also tells everyone what
 * each rank wants of each host; all ranks make the same plan of it (balance/),
 * and only if that moves rows are they routed and counted a second time. Own
 * rows never move: the expert stage reads them where dispatch packed them and
 * writes their results where combine reads.
 *
 * Memory is bounded for any skew: a rank receives in waves of peers whose rows
 * fit its buffer, and asks for the next wave when one is worked off. Senders
 * need no buffer beyond their own copies, because a rendezvous message waits
 * for its receive. No deadlock: every rank posts the receives of its result
 * rows before it waits for anything, and waits for its sends last. */
#include "runtime/balance/calibrate.h"
#include "runtime/experts.h"

#include "runtime/base/number.h"
#include "runtime/base/timer.h"

#include <string.h>

/* What a rank tells all others of itself when it balances. */
enum {
  TOLD_SPEED,  /* as in moerun__demand */
  TOLD_BUSY,   /* microseconds of the expert stage of the layer before */
  TOLD_DEMAND, /* from here on: rows for each host */
};

/* Of a row, where speeds are counted and not measured. */
#define COUNTED_SECONDS 1e-4

/* ---- Buffers ---------------------------------------------------------------- */

static int32_t chunk_copies(const moerun__moe *moe) {
  return moerun__route_max_copies(moe->chunk_tokens, moe->gate.width,
                                  moe->model->comm->size);
}

static void lay_out_chunk(moerun__moe *moe, moerun__moe_chunk *chunk,
                          moerun__arena *arena) {
  const size_t R = (size_t)moe->model->comm->size;
  const int32_t K = moe->gate.width;
  const size_t copies = (size_t)chunk_copies(moe);
  const size_t capacity = (size_t)moe->receive_capacity;
  const size_t home_results = (size_t)moe->chunk_tokens * (size_t)K;
  moerun__route_lay_out(&chunk->route, arena, moe->chunk_tokens, K,
                        moe->model->comm->size);
  chunk->rows = moerun__arena_take(arena, copies + capacity, moe->row_bytes);
  chunk->results = moerun__arena_take(
      arena, home_results + capacity * (size_t)moe->terms, moe->result_bytes);
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
  return padded(H * moerun__dtype_bytes(wire) +
                (size_t)width * sizeof(int16_t));
}

size_t moerun__copy_bytes(const moerun__model_config *config,
                          moerun__dtype wire) {
  return row_bytes(config, wire, config->experts_per_token);
}

size_t moerun__result_bytes(const moerun__model_config *config,
                            moerun__dtype wire) {
  return padded((size_t)config->hidden_width * moerun__dtype_bytes(wire));
}

/* Of any rank and layer: what rows may carry is the same everywhere. */
int32_t moerun__moe_most_slots(const moerun_model *model,
                               int32_t slots_wanted) {
  int32_t most = slots_wanted;
  for (int32_t r = 0; r < model->comm->size; r++) {
    const int32_t slots = moerun__placement_max_slots(model->placement, r);
    if (slots > most) most = slots;
  }
  return most;
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
  const int64_t wanted = moe->slots_wanted * ranks;
  if (wanted > most) most = wanted;
  return moerun__to_int(most < E * ranks ? most : E * ranks);
}

static void lay_out_counts(moerun__moe *moe, moerun__arena *arena) {
  const size_t R = (size_t)moe->model->comm->size;
  const size_t hosts = moe->balances ? (size_t)moe->max_hosts : 0;
  const size_t width =
      1 + (size_t)moe->num_chunks + (moe->balances ? TOLD_DEMAND + hosts : 0);
  if (moe->balances) {
    moerun__plan_lay_out(&moe->plan, arena, (int32_t)R, moe->max_hosts);
    moerun__ledger_lay_out(&moe->ledger, arena,
                           moe->model->config.num_moe_layers, (int32_t)R);
  }
  moe->told = moerun__arena_take(arena, TOLD_DEMAND + hosts, sizeof(int32_t));
  moe->count_out = moerun__arena_take(arena, R * width, sizeof(int32_t));
  moe->count_in = moerun__arena_take(arena, R * width, sizeof(int32_t));
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
  moerun__gate_lay_out(&moe->gate, arena,
                       moerun__moe_most_slots(moe->model, moe->slots_wanted));
  moe->row_bytes = row_bytes(config, moe->wire, moe->gate.width);
  moe->result_bytes = moerun__result_bytes(config, moe->wire);
  moe->max_slots = moerun__placement_max_slots(moe->model->placement,
                                               moe->model->comm->rank);
  if (moe->max_slots < moe->slots_wanted) moe->max_slots = moe->slots_wanted;
  moe->max_hosts = most_hosts(moe);
  moerun__guests_lay_out(&moe->guests, arena);
  const int32_t slots = moe->max_slots + moe->guests.capacity;
  moe->terms = slots < moe->gate.width ? slots : moe->gate.width;
  moe->chunk_tokens = (moe->max_tokens + moe->num_chunks - 1) / moe->num_chunks;
  /* Room for the rows of an even load, and for all rows of any one peer. */
  moe->receive_capacity = R > 1 && moe->terms > 0 ? chunk_copies(moe) : 0;
  for (int32_t c = 0; c < moe->num_chunks; c++) {
    lay_out_chunk(moe, &moe->chunk[c], arena);
  }
  lay_out_counts(moe, arena);
  moe->expert_of_slot = moerun__arena_take(
      arena, (size_t)config->num_moe_layers * (size_t)moe->max_slots,
      sizeof(int32_t));
  const size_t pairs =
      ((size_t)chunk_copies(moe) + (size_t)moe->receive_capacity) *
      (size_t)moe->terms;
  moe->slot_offset =
      moerun__arena_take(arena, (size_t)slots + 1, sizeof(int32_t));
  moe->row_index = moerun__arena_take(arena, pairs, sizeof(int32_t));
  moe->result_index = moerun__arena_take(arena, pairs, sizeof(int32_t));
  moerun__shared_lay_out(&moe->shared, arena, moe->max_tokens, MOERUN_FFN_TILE);
  const size_t tile = MOERUN_FFN_TILE;
  moe->tile_x = moerun__arena_take(arena, tile * H, sizeof(float));
  moe->tile_gate_up = moerun__arena_take(arena, tile * 2 * F, sizeof(float));
  moe->tile_h = moerun__arena_take(arena, tile * F, sizeof(float));
  moe->tile_y = moerun__arena_take(arena, tile * H, sizeof(float));
  moe->scratch = moerun__arena_take(
      arena, moerun__linear_scratch(most_inputs(config)), sizeof(float));
}

moerun_status moerun__moe_open(moerun__moe *moe,
                               const moerun__plan_options *plan) {
  moerun_status status = MOERUN_OK;
  if (!moe->balances) goto done;
  moerun__ledger_clear(&moe->ledger);
  MOERUN_TRY(moerun__guests_open(&moe->guests));
  if (plan == NULL) MOERUN_TRY(moerun__calibrate(moe));
  if (moe->faults != NULL && moe->faults->counted) {
    moerun__speed_expect(&moe->speed, COUNTED_SECONDS,
                         MOERUN_FFN_TILE * COUNTED_SECONDS, MOERUN_FFN_TILE);
  }
done:
  return status;
}

void moerun__moe_begin_step(moerun__moe *moe, int64_t step) {
  moerun__speed_step(&moe->speed);
  if (moe->balances) moerun__ledger_begin_step(&moe->ledger);
  moe->slowness = (moerun__slowness){.compute = 1};
  if (moe->faults == NULL) return;
  moe->slowness = moerun__faults_at(moe->faults, moe->model->comm->rank, step);
  moerun__pause(1000 * (int64_t)moe->slowness.stall_ms);
}

void moerun__moe_adopt_placement(moerun__moe *moe) {
  for (int32_t l = 0; l < moe->model->config.num_moe_layers; l++) {
    (void)moerun__placement_experts(
        moe->model->placement, l, moe->model->comm->rank,
        moe->expert_of_slot + (size_t)l * (size_t)moe->max_slots);
  }
}

int32_t moerun__moe_transfers(const moerun__moe *moe) {
  return 4 * moe->num_chunks + moerun__guests_transfers(&moe->guests);
}

moerun_status moerun__moe_create_transfers(moerun__moe *moe) {
  moerun_status status = MOERUN_OK;
  moerun_comm *comm = moe->model->comm;
  MOERUN_TRY(moerun__guests_create_transfers(&moe->guests));
  for (int32_t c = 0; c < moe->num_chunks; c++) {
    moerun__moe_chunk *chunk = &moe->chunk[c];
    MOERUN_TRY(comm->ops->transfer_create(&chunk->dispatch_out, comm));
    MOERUN_TRY(comm->ops->transfer_create(&chunk->dispatch_in, comm));
    MOERUN_TRY(comm->ops->transfer_create(&chunk->combine_out, comm));
    MOERUN_TRY(comm->ops->transfer_create(&chunk->combine_in, comm));
  }
done:
  return status;
}

void moerun__moe_destroy_transfers(moerun__moe *moe) {
  const moerun__comm_ops *ops = moe->model->comm->ops;
  moerun__guests_destroy_transfers(&moe->guests);
  for (int32_t c = 0; c < moe->num_chunks; c++) {
    moerun__moe_chunk *chunk = &moe->chunk[c];
    ops->transfer_destroy(chunk->dispatch_out);
    ops->transfer_destroy(chunk->dispatch_in);
    ops->transfer_destroy(chunk->combine_out);
    ops->transfer_destroy(chunk->combine_in);
  }
}

/* ---- Gate and counts ---------------------------------------------------------- */

/* Cuts T tokens into chunks and solves each chunk's route. */
static void route_chunks(moerun__moe *moe, int32_t moe_layer, int32_t T) {
  const int32_t K = moe->gate.width;
  const int32_t C = moe->num_chunks;
  for (int32_t c = 0; c < C; c++) {
    moerun__moe_chunk *chunk = &moe->chunk[c];
    chunk->first_token = moerun__to_int((int64_t)T * c / C);
    chunk->num_tokens =
        moerun__to_int((int64_t)T * (c + 1) / C) - chunk->first_token;
    moerun__route_choose(&chunk->route, moe->model->placement, moe_layer,
                         moe->model->comm->rank,
                         moe->gate.ids + (size_t)chunk->first_token * (size_t)K,
                         chunk->num_tokens, K);
    moerun__route_solve(&chunk->route, moe->model->comm->size,
                        chunk->num_tokens, K);
  }
}

/* Status, rows by chunk, and what stands behind them[count]. */
static void write_counts(moerun__moe *moe, moerun_status failed,
                         const int32_t *behind, int32_t count) {
  const int32_t C = moe->num_chunks;
  moe->count_width = 1 + C + count;
  for (int32_t r = 0; r < moe->model->comm->size; r++) {
    int32_t *words = moe->count_out + (size_t)r * (size_t)moe->count_width;
    words[0] = (int32_t)failed;
    for (int32_t c = 0; c < C; c++) {
      const int32_t *offset = moe->chunk[c].route.copy_offset;
      words[1 + c] = failed != MOERUN_OK ? 0 : offset[r + 1] - offset[r];
    }
    if (count > 0) {
      memcpy(words + 1 + C, behind, (size_t)count * sizeof *behind);
    }
  }
}

/* Tells every rank what was written, and learns the same. */
static moerun_status exchange_counts(moerun__moe *moe, moerun_status failed) {
  moerun_status status = MOERUN_OK;
  moerun_comm *comm = moe->model->comm;
  moerun__stage_end(moe->stats, MOERUN_STAGE_DISPATCH);
  MOERUN_TRY(comm->ops->exchange_counts(comm, moe->count_in, moe->count_out,
                                        moe->count_width));
  moerun__stage_end(moe->stats, MOERUN_STAGE_COUNT_WAIT);
  if (failed != MOERUN_OK) return failed; /* its message is already written */
  for (int32_t r = 0; r < comm->size; r++) {
    const int32_t *count = moe->count_in + (size_t)r * (size_t)moe->count_width;
    MOERUN_REQUIRE(count[0] == MOERUN_OK, MOERUN_ERR_PEER,
                   "rank %d reported: %s", r,
                   moerun_status_string((moerun_status)count[0]));
    for (int32_t c = 0; c < moe->num_chunks; c++) {
      MOERUN_REQUIRE(count[1 + c] >= 0 && count[1 + c] <= moe->chunk_tokens,
                     MOERUN_ERR_COMM,
                     "rank %d announced %d rows: expected at most %d", r,
                     count[1 + c], moe->chunk_tokens);
    }
  }
done:
  return status;
}

/* ---- Balance ------------------------------------------------------------------- */

/* Hosts of the layer are numbered from 0: first replica and their number. */
static int32_t hosts_of(const moerun__moe *moe, int32_t moe_layer,
                        int32_t *first) {
  const moerun_placement *placement = moe->model->placement;
  const size_t E = (size_t)placement->num_experts;
  const int32_t *offset = placement->replica_offset + (size_t)moe_layer * E;
  *first = offset[0];
  return offset[E] - offset[0];
}

/* Rows of this rank for each host, as routed. */
static void count_demand(moerun__moe *moe, int32_t first, int32_t hosts) {
  const int32_t K = moe->gate.width;
  int32_t *demand = moe->told + TOLD_DEMAND;
  memset(demand, 0, (size_t)hosts * sizeof *demand);
  for (int32_t c = 0; c < moe->num_chunks; c++) {
    const moerun__moe_chunk *chunk = &moe->chunk[c];
    for (int32_t i = 0; i < chunk->num_tokens * K; i++) {
      const int32_t host = chunk->route.host_of[i];
      if (host >= 0) demand[host - first]++;
    }
  }
}

static moerun__demand demand_of(const moerun__moe *moe, int32_t moe_layer,
                                int32_t first, int32_t hosts) {
  const moerun_placement *placement = moe->model->placement;
  const int32_t C = moe->num_chunks;
  return (moerun__demand){.layer = moe_layer,
                          .num_ranks = placement->num_ranks,
                          .num_hosts = hosts,
                          .num_experts = placement->num_experts,
                          .first_host = first,
                          .host_of_expert = placement->replica_offset +
                                            (size_t)moe_layer *
                                                (size_t)placement->num_experts,
                          .rank_of = placement->rank_of + first,
                          .slot_of = placement->slot_of + first,
                          .rows = moe->count_in + 1 + C + TOLD_DEMAND,
                          .speed = moe->count_in + 1 + C + TOLD_SPEED,
                          .stride = (size_t)moe->count_width};
}

/* Gives every term whose host's rows are moved its place in the plan, and
 * routes again. */
static void redirect(moerun__moe *moe, int32_t moe_layer, int32_t first) {
  const moerun_placement *placement = moe->model->placement;
  const int32_t *slot_count =
      placement->slot_count + (size_t)moe_layer * (size_t)placement->num_ranks;
  const int32_t K = moe->gate.width;
  for (int32_t c = 0; c < moe->num_chunks; c++) {
    moerun__moe_chunk *chunk = &moe->chunk[c];
    moerun__route *route = &chunk->route;
    for (int32_t i = 0; i < chunk->num_tokens * K; i++) {
      if (route->host_of[i] < 0) continue;
      const moerun__part *part =
          moerun__plan_next(&moe->plan, route->host_of[i] - first);
      if (part == NULL) continue;
      route->rank_of[i] = part->rank;
      route->slot_of[i] = part->guest == MOERUN_NO_GUEST
                              ? part->slot
                              : slot_count[part->rank] + part->guest;
    }
    moerun__route_solve(route, placement->num_ranks, chunk->num_tokens, K);
  }
}

/* That all ranks have made the same plan: else rows would go astray. */
static moerun_status compare_digests(const moerun__moe *moe) {
  moerun_status status = MOERUN_OK;
  const int32_t *own = moe->count_out + 1 + moe->num_chunks;
  for (int32_t r = 0; r < moe->model->comm->size; r++) {
    const int32_t *digest = moe->count_in +
                            (size_t)r * (size_t)moe->count_width + 1 +
                            moe->num_chunks;
    MOERUN_REQUIRE(*digest == *own, MOERUN_ERR_COMM,
                   "rank %d has made another plan of the same counts: are all "
                   "ranks of one build?",
                   r);
  }
done:
  return status;
}

static void count_plan(moerun__moe *moe, const moerun__demand *demand) {
  const moerun__plan *plan = &moe->plan;
  moerun__ledger_add(&moe->ledger, demand->layer, plan,
                     moe->count_in + 1 + moe->num_chunks + TOLD_BUSY,
                     (size_t)moe->count_width);
  for (int32_t m = 0; m < plan->num_moves; m++) {
    const moerun__move *move = &plan->moves[m];
    if (demand->rank_of[move->host] != moe->model->comm->rank) continue;
    moe->stats->rows_moved += move->rows;
  }
  for (int32_t i = 0; i < plan->num_sends; i++) {
    moe->stats->weights_out += plan->sends[i].from == moe->model->comm->rank;
  }
}

static moerun_status balance(moerun__moe *moe, const moerun__layer *layer,
                             int32_t first, int32_t hosts) {
  moerun_status status = MOERUN_OK;
  const moerun__demand demand = demand_of(moe, layer->moe_layer, first, hosts);
  moerun__plan_solve(&moe->plan, &moe->guests.table, &demand,
                     &moe->plan_options);
  count_plan(moe, &demand);
  if (moe->plan.num_moves == 0) goto done;
  moerun__plan_split(&moe->plan, &demand, moe->model->comm->rank);
  redirect(moe, layer->moe_layer, first);
  const int32_t digest = (int32_t)moerun__plan_digest(&moe->plan);
  write_counts(moe, MOERUN_OK, &digest, 1);
  MOERUN_TRY(moerun__guests_begin(&moe->guests, &moe->plan, layer));
  MOERUN_TRY(exchange_counts(moe, MOERUN_OK));
  MOERUN_TRY(compare_digests(moe));
done:
  return status;
}

/* Of the layer before, and from 0 again. */
static int32_t busy_us(moerun__moe *moe) {
  const double us = 1e6 * moe->busy_seconds;
  moe->busy_seconds = 0;
  return us < INT32_MAX ? (int32_t)us : INT32_MAX;
}

/* Routes and counts, balanced or not: afterwards every rank knows the rows that
 * come to it. */
static moerun_status agree_on_rows(moerun__moe *moe, const moerun__layer *layer,
                                   moerun_status failed) {
  moerun_status status = MOERUN_OK;
  int32_t first = 0;
  int32_t hosts = hosts_of(moe, layer->moe_layer, &first);
  if (!moe->balances) hosts = 0;
  if (failed != MOERUN_OK) {
    memset(moe->told + TOLD_DEMAND, 0, (size_t)hosts * sizeof *moe->told);
  } else if (hosts > 0) {
    count_demand(moe, first, hosts);
  }
  moe->told[TOLD_SPEED] = moe->speed.applied;
  moe->told[TOLD_BUSY] = busy_us(moe);
  write_counts(moe, failed, moe->told, hosts > 0 ? TOLD_DEMAND + hosts : 0);
  MOERUN_TRY(exchange_counts(moe, failed));
  if (hosts > 0) MOERUN_TRY(balance(moe, layer, first, hosts));
done:
  return status;
}

/* ---- Dispatch ------------------------------------------------------------------ */

/* Writes the copies of a chunk with their slots behind the row. */
static void pack(moerun__moe *moe, moerun__moe_chunk *chunk, const float *x) {
  const int32_t H = moe->model->config.hidden_width;
  const size_t K = (size_t)moe->gate.width;
  const size_t slots_at = (size_t)H * moerun__dtype_bytes(moe->wire);
  const int32_t copies = chunk->route.copy_offset[moe->model->comm->size];
  const moerun__wire_rows rows =
      moerun__moe_rows(moe, chunk->rows, moe->row_bytes);
  for (int32_t i = 0; i < copies; i++) {
    const int32_t token = chunk->first_token + chunk->route.copy_token[i];
    moe->kernels->scatter(&rows, &i, x + (size_t)token * (size_t)H, 1, H);
    memcpy(chunk->rows + (size_t)i * moe->row_bytes + slots_at,
           chunk->route.copy_slot + (size_t)i * K, K * sizeof(int16_t));
  }
}

static moerun_status begin_dispatch(moerun__moe *moe, int32_t c,
                                    const float *x) {
  moerun_status status = MOERUN_OK;
  moerun__moe_chunk *chunk = &moe->chunk[c];
  const moerun__comm_ops *ops = moe->model->comm->ops;
  const int32_t R = moe->model->comm->size;
  pack(moe, chunk, x);
  const moerun__row_list home = {chunk->results, moe->result_bytes,
                                 chunk->route.result_offset, 0, R};
  const moerun__row_list out = {chunk->rows, moe->row_bytes,
                                chunk->route.copy_offset, 0, R};
  MOERUN_TRY(
      ops->receive_begin(chunk->combine_in, MOERUN_TAG_COMBINE + c, &home));
  MOERUN_TRY(
      ops->send_begin(chunk->dispatch_out, MOERUN_TAG_DISPATCH + c, &out));
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
    moerun__shared_compute(&moe->shared, layer, x, t, M, moe->scratch);
    MOERUN_TRY(ops->test(moe->chunk[0].dispatch_in, &arrived));
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
  moerun__moe_chunk *chunk = &moe->chunk[c];
  const moerun__comm_ops *ops = moe->model->comm->ops;
  const int32_t H = moe->model->config.hidden_width;
  const int32_t K = moe->gate.width;
  const size_t first = (size_t)chunk->first_token;
  MOERUN_TRY(ops->wait(chunk->combine_in));
  moerun__stage_end(moe->stats, MOERUN_STAGE_RESULTS_WAIT);
  const moerun__wire_rows results =
      moerun__moe_rows(moe, chunk->results, moe->result_bytes);
  moe->kernels->combine(y + first * (size_t)H, &results, chunk->route.result_of,
                        moe->gate.weight + first * (size_t)K, chunk->num_tokens,
                        K, H);
  moerun__home_add(&moe->gate.home, layer, y, x, chunk->first_token,
                   chunk->num_tokens);
  moerun__shared_add(&moe->shared, y, chunk->first_token, chunk->num_tokens);
  moerun__stage_end(moe->stats, MOERUN_STAGE_COMBINE);
  MOERUN_TRY(ops->wait(chunk->dispatch_out));
  MOERUN_TRY(ops->wait(chunk->combine_out));
  moerun__stage_end(moe->stats, MOERUN_STAGE_RESULTS_WAIT);
done:
  return status;
}

static void count_rows(moerun__moe *moe, int32_t T) {
  const int32_t R = moe->model->comm->size;
  const int32_t rank = moe->model->comm->rank;
  moe->stats->home_rows += T;
  for (int32_t c = 0; c < moe->num_chunks; c++) {
    const int32_t *offset = moe->chunk[c].route.copy_offset;
    const int32_t local = offset[rank + 1] - offset[rank];
    moe->stats->rows_local += local;
    moe->stats->rows_out += offset[R] - local;
  }
}

moerun_status moerun__moe_forward(moerun__moe *moe, int32_t layer_index,
                                  int32_t T, const float *x, float *y,
                                  moerun_status failed) {
  moerun_status status = MOERUN_OK;
  const moerun__layer *layer = &moe->model->layers[layer_index];
  MOERUN_TRY(
      moerun__gate_choose(&moe->gate, layer, T, x, moe->scratch, failed));
  moerun__stage_end(moe->stats, MOERUN_STAGE_GATE);
  if (failed == MOERUN_OK) route_chunks(moe, layer->moe_layer, T);
  MOERUN_TRY(agree_on_rows(moe, layer, failed));
  count_rows(moe, T);
  for (int32_t c = 0; c < moe->num_chunks; c++) {
    MOERUN_TRY(moerun__experts_begin(moe, c));
    MOERUN_TRY(begin_dispatch(moe, c, x));
    moerun__stage_end(moe->stats, MOERUN_STAGE_DISPATCH);
  }
  MOERUN_TRY(run_shared(moe, layer, T, x));
  for (int32_t c = 0; c < moe->num_chunks; c++) {
    MOERUN_TRY(moerun__experts_work_off(moe, c, layer));
  }
  MOERUN_TRY(moerun__guests_forward_all(&moe->guests));
  for (int32_t c = 0; c < moe->num_chunks; c++) {
    MOERUN_TRY(combine(moe, c, layer, x, y));
  }
  MOERUN_TRY(moerun__guests_end(&moe->guests));
done:
  return status;
}
