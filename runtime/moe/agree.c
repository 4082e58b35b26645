/* A row carries its own slots, so the count exchange is one integer per peer
 * and chunk, and one status word. With balancing it also tells everyone what
 * each rank wants of each host; all ranks make the same plan of it (balance/),
 * and only if that moves rows are they routed and counted a second time. */
#include "runtime/moe/agree.h"

#include "runtime/base/number.h"
#include "runtime/moe/sliced.h"

#include <string.h>

/* ---- Routes and counts ---------------------------------------------------------- */

/* Cuts T tokens into chunks and solves each chunk's route. */
static void route_chunks(moerun__moe *moe, int32_t moe_layer, int32_t T) {
  const int32_t K = moe->gate.width;
  const int32_t C = moe->shape.num_chunks;
  for (int32_t c = 0; c < C; c++) {
    moerun__moe_chunk *chunk = &moe->exchange.chunk[c];
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
  const int32_t C = moe->shape.num_chunks;
  moe->exchange.count_width = 1 + C + count;
  for (int32_t r = 0; r < moe->model->comm->size; r++) {
    int32_t *words =
        moe->exchange.count_out + (size_t)r * (size_t)moe->exchange.count_width;
    words[0] = (int32_t)failed;
    for (int32_t c = 0; c < C; c++) {
      const int32_t *offset = moe->exchange.chunk[c].route.copy_offset;
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
  MOERUN_TRY(comm->ops->exchange_counts(comm, moe->exchange.count_in,
                                        moe->exchange.count_out,
                                        moe->exchange.count_width));
  moerun__stage_end(moe->stats, MOERUN_STAGE_COUNT_WAIT);
  if (failed != MOERUN_OK) return failed; /* its message is already written */
  for (int32_t r = 0; r < comm->size; r++) {
    const int32_t *count =
        moe->exchange.count_in + (size_t)r * (size_t)moe->exchange.count_width;
    MOERUN_REQUIRE(count[0] == MOERUN_OK, MOERUN_ERR_PEER,
                   "rank %d reported: %s", r,
                   moerun_status_string((moerun_status)count[0]));
    for (int32_t c = 0; c < moe->shape.num_chunks; c++) {
      MOERUN_REQUIRE(
          count[1 + c] >= 0 && count[1 + c] <= moe->shape.chunk_tokens,
          MOERUN_ERR_COMM, "rank %d announced %d rows: expected at most %d", r,
          count[1 + c], moe->shape.chunk_tokens);
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
  int32_t *demand = moe->exchange.told + MOERUN_TOLD_DEMAND;
  memset(demand, 0, (size_t)hosts * sizeof *demand);
  for (int32_t c = 0; c < moe->shape.num_chunks; c++) {
    const moerun__moe_chunk *chunk = &moe->exchange.chunk[c];
    for (int32_t i = 0; i < chunk->num_tokens * K; i++) {
      const int32_t host = chunk->route.host_of[i];
      if (host >= 0) demand[host - first]++;
    }
  }
}

static moerun__demand demand_of(const moerun__moe *moe, int32_t moe_layer,
                                int32_t first, int32_t hosts) {
  const moerun_placement *placement = moe->model->placement;
  const int32_t C = moe->shape.num_chunks;
  return (moerun__demand){
      .layer = moe_layer,
      .num_ranks = placement->num_ranks,
      .num_hosts = hosts,
      .num_experts = placement->num_experts,
      .first_host = first,
      .host_of_expert = placement->replica_offset +
                        (size_t)moe_layer * (size_t)placement->num_experts,
      .rank_of = placement->rank_of + first,
      .slot_of = placement->slot_of + first,
      .rows = moe->exchange.count_in + 1 + C + MOERUN_TOLD_DEMAND,
      .speed = moe->exchange.count_in + 1 + C + MOERUN_TOLD_SPEED,
      .stride = (size_t)moe->exchange.count_width};
}

/* Gives every term whose host's rows are moved its place in the plan, and
 * routes again. */
static void redirect(moerun__moe *moe, int32_t moe_layer, int32_t first) {
  const moerun_placement *placement = moe->model->placement;
  const int32_t *slot_count =
      placement->slot_count + (size_t)moe_layer * (size_t)placement->num_ranks;
  const int32_t K = moe->gate.width;
  for (int32_t c = 0; c < moe->shape.num_chunks; c++) {
    moerun__moe_chunk *chunk = &moe->exchange.chunk[c];
    moerun__route *route = &chunk->route;
    for (int32_t i = 0; i < chunk->num_tokens * K; i++) {
      if (route->host_of[i] < 0) continue;
      const moerun__part *part =
          moerun__plan_next(&moe->balance.plan, route->host_of[i] - first);
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
  const int32_t *own = moe->exchange.count_out + 1 + moe->shape.num_chunks;
  for (int32_t r = 0; r < moe->model->comm->size; r++) {
    const int32_t *digest = moe->exchange.count_in +
                            (size_t)r * (size_t)moe->exchange.count_width + 1 +
                            moe->shape.num_chunks;
    MOERUN_REQUIRE(*digest == *own, MOERUN_ERR_COMM,
                   "rank %d has made another plan of the same counts: are all "
                   "ranks of one build?",
                   r);
  }
done:
  return status;
}

static void count_plan(moerun__moe *moe, const moerun__demand *demand) {
  const moerun__plan *plan = &moe->balance.plan;
  const moerun__plan_bytes bytes = {
      moerun__guests_expert_bytes(&moe->store.guests, demand->layer),
      plan->sliced ? moerun__sliced_bytes(moe, demand) : 0};
  moerun__ledger_add(&moe->balance.ledger, plan, demand,
                     moe->exchange.count_in + 1 + moe->shape.num_chunks,
                     &bytes);
  for (int32_t m = 0; m < plan->num_moves; m++) {
    const moerun__move *move = &plan->moves[m];
    if (demand->rank_of[move->host] != moe->model->comm->rank) continue;
    moe->stats->rows_moved += move->rows;
  }
  for (int32_t i = 0; i < plan->num_sends; i++) {
    moe->stats->weights_out += plan->sends[i].from == moe->model->comm->rank;
  }
}

/* What slices would take of the step whose counts are known. */
static moerun__slice_offer offer_of(moerun__moe *moe) {
  moerun__slices *s = &moe->store.slices;
  int64_t rows = 0;
  for (int32_t r = 0; s->num_layers > 0 && r < moe->model->comm->size; r++) {
    const int32_t *told = moe->exchange.count_in +
                          (size_t)r * (size_t)moe->exchange.count_width + 1 +
                          moe->shape.num_chunks;
    s->tokens[r] = told[MOERUN_TOLD_TOKENS];
    rows += s->tokens[r];
  }
  return (moerun__slice_offer){
      .costs = &moe->balance.slice_costs,
      .always = moe->balance.always_slices,
      .speed = s->speed,
      .rows = rows,
      .rounds = (rows + MOERUN_SLICED_ROWS - 1) / MOERUN_SLICED_ROWS,
      .row_bytes = (int64_t)moe->shape.row_bytes,
      .h_bytes =
          (int64_t)moe->model->config.expert_width * (int64_t)sizeof(float),
      .result_bytes = (int64_t)moe->shape.result_bytes,
      .time = s->share};
}

static moerun_status balance(moerun__moe *moe, const moerun__layer *layer,
                             int32_t first, int32_t hosts) {
  moerun_status status = MOERUN_OK;
  moerun__demand demand = demand_of(moe, layer->moe_layer, first, hosts);
  const moerun__slice_offer offer = offer_of(moe);
  if (layer->moe_layer < moe->store.slices.num_layers) demand.slices = &offer;
  moerun__plan_solve(&moe->balance.plan, &moe->store.guests.table, &demand,
                     &moe->balance.options);
  count_plan(moe, &demand);
  moe->balance.calibration.too_dear +=
      moe->balance.plan.obstacle.weight_rows > 0 &&
      !moe->balance.plan.obstacle.is_room;
  if (moe->balance.plan.num_moves > 0) {
    moerun__plan_split(&moe->balance.plan, &demand, moe->model->comm->rank);
    redirect(moe, layer->moe_layer, first);
  }
  moerun__stage_end(moe->stats, MOERUN_STAGE_PLAN);
  if (moe->balance.plan.num_moves == 0) goto done;
  const int32_t digest = (int32_t)moerun__plan_digest(&moe->balance.plan);
  write_counts(moe, MOERUN_OK, &digest, 1);
  MOERUN_TRY(
      moerun__guests_begin(&moe->store.guests, &moe->balance.plan, layer));
  MOERUN_TRY(exchange_counts(moe, MOERUN_OK));
  MOERUN_TRY(compare_digests(moe));
done:
  return status;
}

void moerun__tell_of_layer(const moerun__moe *moe, int32_t *told) {
  const double us = 1e6 * moe->step.busy_seconds;
  told[MOERUN_TOLD_BUSY] = us < INT32_MAX ? (int32_t)us : INT32_MAX;
  told[MOERUN_TOLD_ROWS] = moerun__to_int(moe->step.computed_rows);
}

static int32_t mass_of(double mass) {
  const double units = mass * MOERUN_MASS_ONE + 0.5;
  return units < INT32_MAX ? (int32_t)units : INT32_MAX;
}

/* But for the demand. */
static void write_told(moerun__moe *moe, int32_t T, moerun_status failed) {
  const moerun__capacity_counts *c = &moe->gate.now.capacity;
  int32_t *told = moe->exchange.told;
  told[MOERUN_TOLD_SPEED] = moe->balance.speed.applied;
  moerun__tell_of_layer(moe, told);
  moe->step.busy_seconds = 0;
  moe->step.computed_rows = 0;
  told[MOERUN_TOLD_TOKENS] = failed == MOERUN_OK ? T : 0;
  told[MOERUN_TOLD_OFFERED] = moerun__to_int(c->candidates);
  told[MOERUN_TOLD_DROPPED] = moerun__to_int(c->dropped);
  told[MOERUN_TOLD_MASS] = mass_of(c->mass);
  told[MOERUN_TOLD_MASS_DROPPED] = mass_of(c->mass_dropped);
}

moerun_status moerun__agree_on_rows(moerun__moe *moe,
                                    const moerun__layer *layer, int32_t T,
                                    moerun_status failed) {
  moerun_status status = MOERUN_OK;
  int32_t first = 0;
  int32_t hosts = hosts_of(moe, layer->moe_layer, &first);
  if (!moe->balance.is_on) hosts = 0;
  if (failed == MOERUN_OK) route_chunks(moe, layer->moe_layer, T);
  if (failed != MOERUN_OK) {
    memset(moe->exchange.told + MOERUN_TOLD_DEMAND, 0,
           (size_t)hosts * sizeof *moe->exchange.told);
  } else if (hosts > 0) {
    count_demand(moe, first, hosts);
  }
  write_told(moe, T, failed);
  write_counts(moe, failed, moe->exchange.told,
               hosts > 0 ? MOERUN_TOLD_DEMAND + hosts : 0);
  MOERUN_TRY(exchange_counts(moe, failed));
  if (hosts > 0) MOERUN_TRY(balance(moe, layer, first, hosts));
done:
  return status;
}
