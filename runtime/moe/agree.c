/* A row carries its own slots, so a rank needs to know no more than how many
 * rows of each chunk come from where, and that all ranks are well. With
 * balancing the ranks also add up what they want of each replica, and each
 * tells of itself how fast it is; all of them make the same plan of it (plan/).
 * Only if that moves rows are they routed and counted a second time, after the
 * ranks have added up how many of the rows stay where they are. No rank ever
 * learns what another wants of each replica. */
#include "runtime/moe/agree.h"

#include "runtime/base/number.h"

#include <string.h>

/* What ranks add up; behind it the words of the ways but whole experts, then
 * the rows for each replica. What may not fit 32 bits is added up in two
 * halves. */
enum {
  SUM_OFFERED, /* as in moerun__told_sums */
  SUM_DROPPED,
  SUM_MASS, /* low half, high half */
  SUM_MASS_DROPPED = SUM_MASS + 2,
  SUM_WAYS = SUM_MASS_DROPPED + 2,
};

/* What is the least of all ranks: the verdict, and, where callers name the
 * layer, two that are each other's complement if all ranks are in the same. */
enum { LEAST_VERDICT, LEAST_LAYER, LEAST_NOT_LAYER, NUM_LEAST };

/* Sums of halves fit for as many ranks as MOERUN_BALANCE_MOST_RANKS. */
enum { HALF_BITS = 15 };

/* What it means if ranks that know the same do not go on together. */
static const char other_plan[] =
    "has made another plan of the same counts: are all ranks of one build?";

static int32_t sum_of_way(int32_t way) {
  return SUM_WAYS + way - 1;
}

static int32_t sum_of_demand(const moerun__moe *moe) {
  return sum_of_way(moe->ways.table->count);
}

/* ---- Memory -------------------------------------------------------------- */

/* Counts and scratch are sent from and received into as they are. */
void moerun__agree_lay_out(moerun__moe *moe, moerun__arena *arena,
                           moerun__arena *traffic) {
  moerun__exchange *x = &moe->exchange;
  moerun__balance_news *news = &moe->balance.news;
  const int32_t R = moe->model->comm->size;
  const size_t counts = (size_t)R * (size_t)moe->shape.num_chunks;
  const size_t ints = sizeof(int32_t);
  moerun__news most = {.num_least = NUM_LEAST,
                       .count_width = moe->shape.num_chunks};
  x->count_out = moerun__arena_take(traffic, counts, ints);
  x->count_in = moerun__arena_take(arena, counts, ints);
  if (moe->balance.is_on) {
    const size_t sums =
        (size_t)sum_of_demand(moe) + (size_t)moe->shape.max_replicas;
    moerun__plan_lay_out(&moe->balance.plan, arena, R, moe->shape.max_replicas);
    moerun__ledger_lay_out(&moe->balance.ledger, arena,
                           moe->model->config.num_moe_layers, R,
                           moe->model->config.num_experts);
    most.num_sums = moerun__to_int((int64_t)sums);
    if (most.num_sums < 2 * moe->balance.plan.max_moves) {
      most.num_sums = 2 * moe->balance.plan.max_moves;
    }
    most.width = MOERUN_TOLD_WORDS;
    news->told = moerun__arena_take(arena, (size_t)R * MOERUN_TOLD_WORDS, ints);
    news->sum = moerun__arena_take(arena, sums, ints);
    news->before = moerun__arena_take(arena, sums, ints);
    news->own =
        moerun__arena_take(arena, (size_t)moe->shape.max_replicas, ints);
    news->speed = moerun__arena_take(arena, (size_t)R, ints);
  }
  x->room = moerun__news_room(R, &most);
  x->scratch =
      moerun__arena_take(traffic, moerun__news_scratch(R, &most), ints);
}

/* ---- Routes and counts --------------------------------------------------- */

/* Cuts T tokens into chunks and solves each chunk's route. */
static void route_chunks(moerun__moe *moe, int32_t moe_layer, int32_t T) {
  const int32_t W = moe->gate.width;
  const int32_t C = moe->shape.num_chunks;
  for (int32_t c = 0; c < C; c++) {
    moerun__moe_chunk *chunk = &moe->exchange.chunk[c];
    chunk->first_token = moerun__to_int((int64_t)T * c / C);
    chunk->num_tokens =
        moerun__to_int((int64_t)T * (c + 1) / C) - chunk->first_token;
    moerun__route_choose(&chunk->route, moe->model->placement, moe_layer,
                         moe->model->comm->rank,
                         moe->gate.ids + (size_t)chunk->first_token * (size_t)W,
                         chunk->num_tokens, W);
    moerun__route_solve(&chunk->route, moe->model->comm->size,
                        moe->model->comm->rank, chunk->num_tokens, W);
  }
}

/* Rows of each chunk for each rank. */
static void write_counts(moerun__moe *moe) {
  const int32_t C = moe->shape.num_chunks;
  for (int32_t r = 0; r < moe->model->comm->size; r++) {
    int32_t *rows = moe->exchange.count_out + (size_t)r * (size_t)C;
    for (int32_t c = 0; c < C; c++) {
      const int32_t *offset = moe->exchange.chunk[c].route.copy_offset;
      rows[c] = offset[r + 1] - offset[r];
    }
  }
}

/* Tells and hears the news, with the counts that are written. */
static moerun_status exchange_counts(moerun__moe *moe, moerun__news *news) {
  moerun_status status = MOERUN_OK;
  moerun__exchange *x = &moe->exchange;
  moerun_comm *comm = moe->model->comm;
  news->count_width = moe->shape.num_chunks;
  news->count_out = x->count_out;
  news->count_in = x->count_in;
  news->scratch = x->scratch;
  news->room = x->room;
  moerun__stage_end(moe->stats, MOERUN_STAGE_DISPATCH);
  MOERUN_TRY(comm->ops->tell(comm, news));
  moerun__stage_end(moe->stats, MOERUN_STAGE_COUNT_WAIT);
done:
  return status;
}

static moerun_status check_counts(const moerun__moe *moe) {
  moerun_status status = MOERUN_OK;
  const int32_t C = moe->shape.num_chunks;
  const int32_t rank = moe->model->comm->rank;
  for (int32_t i = 0; i < moe->model->comm->size * C; i++) {
    const int32_t rows = moe->exchange.count_in[i];
    /* Who computes nothing has no room for rows of others either. */
    const int32_t most = i / C == rank || moe->shape.receive_capacity > 0
                             ? moe->shape.chunk_tokens
                             : 0;
    MOERUN_REQUIRE(rows >= 0 && rows <= most, MOERUN_ERR_COMM,
                   "rank %d announced %d rows: expected at most %d", i / C,
                   rows, most);
  }
done:
  return status;
}

/* The least of these names the lowest rank that failed, and why; 0: all are
 * well. Statuses are above -VERDICTS. */
enum { VERDICTS = 64 };

static int32_t verdict_of(const moerun_comm *comm, moerun_status failed) {
  if (failed == MOERUN_OK) return 0;
  return (comm->rank - comm->size) * VERDICTS - (int32_t)failed;
}

static moerun_status heed_verdict(const moerun_comm *comm, int32_t verdict) {
  moerun_status status = MOERUN_OK;
  const int32_t code = (verdict % VERDICTS + VERDICTS) % VERDICTS;
  MOERUN_REQUIRE(verdict == 0, MOERUN_ERR_PEER, "rank %d reported: %s",
                 (verdict - code) / VERDICTS + comm->size,
                 moerun_status_string((moerun_status)-code));
done:
  return status;
}

static moerun_status check_layer(const int32_t *least, int32_t layer) {
  moerun_status status = MOERUN_OK;
  const int32_t lowest = least[LEAST_LAYER];
  const int32_t highest = ~least[LEAST_NOT_LAYER];
  MOERUN_REQUIRE(lowest == highest, MOERUN_ERR_INVALID,
                 "layer %d: expected the same layer on all ranks, found %d on "
                 "another",
                 layer, lowest != layer ? lowest : highest);
done:
  return status;
}

/* ---- Balance ------------------------------------------------------------- */

/* Replicas of the layer are numbered from 0: first replica and their number. */
static int32_t replicas_of(const moerun__moe *moe, int32_t moe_layer,
                           int32_t *first) {
  const moerun_placement *placement = moe->model->placement;
  const size_t E = (size_t)placement->num_experts;
  const int32_t *offset = placement->replica_offset + (size_t)moe_layer * E;
  *first = offset[0];
  return offset[E] - offset[0];
}

/* Rows of this rank for each replica, as routed; returns how many in all. */
static int32_t count_demand(moerun__moe *moe, int32_t first, int32_t replicas) {
  const int32_t W = moe->gate.width;
  int32_t *own = moe->balance.news.own;
  int32_t terms = 0;
  memset(own, 0, (size_t)replicas * sizeof *own);
  for (int32_t c = 0; c < moe->shape.num_chunks; c++) {
    const moerun__moe_chunk *chunk = &moe->exchange.chunk[c];
    for (int32_t i = 0; i < chunk->num_tokens * W; i++) {
      const int32_t replica = chunk->route.replica_of[i];
      if (replica < 0) continue;
      own[replica - first]++;
      terms++;
    }
  }
  return terms;
}

static moerun__demand demand_of(const moerun__moe *moe, int32_t moe_layer,
                                int32_t first, int32_t replicas) {
  const moerun_placement *placement = moe->model->placement;
  const int32_t at = sum_of_demand(moe);
  return (moerun__demand){
      .layer = moe_layer,
      .num_ranks = placement->num_ranks,
      .num_replicas = replicas,
      .num_experts = placement->num_experts,
      .first_replica = first,
      .replica_of_expert = placement->replica_offset +
                           (size_t)moe_layer * (size_t)placement->num_experts,
      .rank_of = placement->rank_of + first,
      .slot_of = placement->slot_of + first,
      .rows = moe->balance.news.sum + at,
      .own = moe->balance.news.own,
      .before = moe->balance.news.before + at,
      .speed = moe->balance.news.speed};
}

/* Gives every term whose replica's rows are moved its place in the plan, and
 * routes again. */
static void redirect(moerun__moe *moe, int32_t moe_layer, int32_t first) {
  const moerun_placement *placement = moe->model->placement;
  const int32_t *slot_count =
      placement->slot_count + (size_t)moe_layer * (size_t)placement->num_ranks;
  const int32_t W = moe->gate.width;
  for (int32_t c = 0; c < moe->shape.num_chunks; c++) {
    moerun__moe_chunk *chunk = &moe->exchange.chunk[c];
    moerun__route *route = &chunk->route;
    for (int32_t i = 0; i < chunk->num_tokens * W; i++) {
      if (route->replica_of[i] < 0) continue;
      const moerun__portion *portion =
          moerun__plan_next(&moe->balance.plan, route->replica_of[i] - first);
      if (portion == NULL) continue;
      route->rank_of[i] = portion->rank;
      route->slot_of[i] = portion->guest == MOERUN_NO_GUEST
                              ? portion->slot
                              : slot_count[portion->rank] + portion->guest;
    }
    moerun__route_solve(route, placement->num_ranks, moe->model->comm->rank,
                        chunk->num_tokens, W);
  }
}

static int64_t halves_at(const int32_t *sum) {
  return sum[0] + ((int64_t)sum[1] << HALF_BITS);
}

static void write_halves(int32_t *sum, int32_t value) {
  sum[0] = value & ((1 << HALF_BITS) - 1);
  sum[1] = value >> HALF_BITS;
}

/* Foretold of the way that the plan has chosen. */
static int64_t way_bytes(const moerun__moe *moe, const moerun__demand *demand) {
  const int32_t w = moe->balance.plan.way;
  const moerun__way *way = moe->ways.table->way[w];
  int64_t terms = 0;
  if (way->bytes == NULL) return 0;
  for (int32_t h = 0; h < demand->num_replicas; h++) {
    terms += demand->rows[h];
  }
  return way->bytes(moe, terms, moe->balance.news.sum[sum_of_way(w)]);
}

static void count_plan(moerun__moe *moe, const moerun__demand *demand) {
  const moerun__plan *plan = &moe->balance.plan;
  const int32_t *sum = moe->balance.news.sum;
  const moerun__told_sums sums = {sum[SUM_OFFERED], sum[SUM_DROPPED],
                                  halves_at(sum + SUM_MASS),
                                  halves_at(sum + SUM_MASS_DROPPED)};
  const moerun__plan_bytes bytes = {
      moerun__store_expert_bytes(&moe->store, demand->layer),
      way_bytes(moe, demand)};
  moerun__ledger_add(&moe->balance.ledger, plan, demand, moe->balance.news.told,
                     &sums, &bytes);
  for (int32_t m = 0; m < plan->num_moves; m++) {
    const moerun__move *move = &plan->moves[m];
    if (demand->rank_of[move->replica] != moe->model->comm->rank) continue;
    moe->stats->rows_moved += move->rows;
  }
  for (int32_t i = 0; i < plan->num_sends; i++) {
    moe->stats->weights_out += plan->sends[i].from == moe->model->comm->rank;
  }
}

/* What ranks have told of themselves, where plans look for it, and the tokens
 * of all. */
static moerun_status read_told(moerun__moe *moe) {
  moerun_status status = MOERUN_OK;
  int64_t *tokens = &moe->balance.news.tokens;
  *tokens = 0;
  for (int32_t r = 0; r < moe->model->comm->size; r++) {
    const int32_t *told =
        moe->balance.news.told + (size_t)r * MOERUN_TOLD_WORDS;
    moe->balance.news.speed[r] = told[MOERUN_TOLD_SPEED];
    MOERUN_REQUIRE(told[MOERUN_TOLD_TOKENS] >= 0, MOERUN_ERR_COMM,
                   "rank %d announced a step of %d tokens: expected none or "
                   "more",
                   r, told[MOERUN_TOLD_TOKENS]);
    *tokens += told[MOERUN_TOLD_TOKENS];
  }
done:
  return status;
}

/* What the ways but whole experts offer for the layer; returns how many do. */
static int32_t collect_offers(moerun__way_offer *offers, moerun__moe *moe,
                              int32_t moe_layer) {
  int32_t count = 0;
  for (int32_t w = 1; w < moe->ways.table->count; w++) {
    const moerun__way *way = moe->ways.table->way[w];
    if (!way->offer(moe->ways.stage_work[w], &offers[count], moe, moe_layer,
                    moe->balance.news.tokens)) {
      continue;
    }
    offers[count++].way = w;
  }
  return count;
}

/* The least digest of all plans and the greatest are not the same. */
static moerun_status name_other_plan(moerun__moe *moe, int32_t own) {
  moerun_status status = MOERUN_OK;
  moerun_comm *comm = moe->model->comm;
  int32_t *told = moe->balance.news.told; /* [R] here */
  told[comm->rank] = own;
  MOERUN_TRY(moerun__comm_share_words(comm, told, 1, moe->exchange.scratch));
  for (int32_t r = 0; r < comm->size; r++) {
    MOERUN_REQUIRE(told[r] == own, MOERUN_ERR_COMM, "rank %d %s", r,
                   other_plan);
  }
done:
  return status;
}

/* Which of this rank's rows the plan moves, and where. All ranks must have made
 * the same plan: else rows would go astray. */
static moerun_status split(moerun__moe *moe, const moerun__demand *demand) {
  moerun_status status = MOERUN_OK;
  moerun_comm *comm = moe->model->comm;
  moerun__plan *plan = &moe->balance.plan;
  const int32_t digest = (int32_t)moerun__plan_digest(plan);
  int32_t least[2] = {digest, ~digest};
  const moerun__news news = {.num_least = 2,
                             .least = least,
                             .num_sums =
                                 moerun__plan_stay(plan, demand, comm->rank),
                             .sum = plan->staying,
                             .scratch = moe->exchange.scratch,
                             .room = moe->exchange.room,
                             .is_bound = 1,
                             .doubt = other_plan};
  moerun__stage_end(moe->stats, MOERUN_STAGE_PLAN);
  MOERUN_TRY(comm->ops->tell(comm, &news));
  moerun__stage_end(moe->stats, MOERUN_STAGE_COUNT_WAIT);
  if (least[0] != ~least[1]) return name_other_plan(moe, digest);
  moerun__plan_split(plan, demand, comm->rank);
done:
  return status;
}

/* Counts what goes where now. */
static moerun_status count_again(moerun__moe *moe) {
  moerun_status status = MOERUN_OK;
  moerun__news news = {0};
  write_counts(moe);
  MOERUN_TRY(exchange_counts(moe, &news));
  MOERUN_TRY(check_counts(moe));
done:
  return status;
}

static moerun_status balance(moerun__moe *moe, const moerun__layer *layer,
                             int32_t first, int32_t replicas) {
  moerun_status status = MOERUN_OK;
  moerun__plan *plan = &moe->balance.plan;
  moerun__demand demand = demand_of(moe, layer->moe_layer, first, replicas);
  moerun__way_offer offers[MOERUN_MOST_WAYS];
  MOERUN_TRY(read_told(moe));
  demand.offers = offers;
  demand.num_offers = collect_offers(offers, moe, layer->moe_layer);
  moerun__plan_solve(plan, moerun__store_guest_table(&moe->store), &demand,
                     &moe->balance.options);
  count_plan(moe, &demand);
  moe->balance.calibration.too_dear +=
      plan->obstacle.weight_rows > 0 && !plan->obstacle.is_room;
  if (plan->num_moves > 0) {
    MOERUN_TRY(split(moe, &demand));
    redirect(moe, layer->moe_layer, first);
  }
  moerun__stage_end(moe->stats, MOERUN_STAGE_PLAN);
  if (plan->num_moves == 0) goto done;
  MOERUN_TRY(moerun__store_begin(&moe->store, layer, plan));
  MOERUN_TRY(count_again(moe));
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

/* The words of the ways. */
static void write_words(moerun__moe *moe, int32_t terms) {
  for (int32_t w = 1; w < moe->ways.table->count; w++) {
    const moerun__way *way = moe->ways.table->way[w];
    moe->balance.news.sum[sum_of_way(w)] =
        way->word != NULL ? way->word(moe, terms) : 0;
  }
}

/* What this rank tells of itself, and its part of the sums. */
static void write_told(moerun__moe *moe, int32_t T, int32_t replicas,
                       int32_t terms) {
  const moerun__capacity_counts *c = &moe->gate.now.capacity;
  const int32_t rank = moe->model->comm->rank;
  int32_t *told = moe->balance.news.told + (size_t)rank * MOERUN_TOLD_WORDS;
  int32_t *sum = moe->balance.news.sum;
  told[MOERUN_TOLD_SPEED] = moe->balance.speed.applied;
  moerun__tell_of_layer(moe, told);
  told[MOERUN_TOLD_TOKENS] = T;
  sum[SUM_OFFERED] = moerun__to_int(c->candidates);
  sum[SUM_DROPPED] = moerun__to_int(c->dropped);
  write_halves(sum + SUM_MASS, mass_of(c->mass));
  write_halves(sum + SUM_MASS_DROPPED, mass_of(c->mass_dropped));
  write_words(moe, terms);
  memcpy(sum + sum_of_demand(moe), moe->balance.news.own,
         (size_t)replicas * sizeof *sum);
}

/* Layers have different numbers of replicas, and where callers name layers,
 * ranks may name different ones: they hear of that if all tell as many words.
 * Returns how many. */
static int32_t pad_demand(moerun__moe *moe, int32_t replicas) {
  const int32_t most = moe->shape.max_replicas;
  const int32_t at = sum_of_demand(moe);
  memset(moe->balance.news.sum + at + replicas, 0,
         (size_t)(most - replicas) * sizeof(int32_t));
  return at + most;
}

moerun_status moerun__agree_on_rows(moerun__moe *moe,
                                    const moerun__layer_call *call) {
  moerun_status status = MOERUN_OK;
  moerun_comm *comm = moe->model->comm;
  const moerun__layer *layer = call->layer;
  const int32_t T = moerun__call_rows(call);
  int32_t first = 0;
  const int32_t replicas = replicas_of(moe, layer->moe_layer, &first);
  const int32_t index = moerun__to_int(layer - moe->model->layers);
  int32_t least[NUM_LEAST] = {verdict_of(comm, call->failed), index, ~index};
  moerun__news news = {.num_least =
                           call->names_layer ? NUM_LEAST : LEAST_VERDICT + 1,
                       .least = least};
  route_chunks(moe, layer->moe_layer, T);
  if (moe->balance.is_on) {
    const int32_t terms = count_demand(moe, first, replicas);
    write_told(moe, T, replicas, terms);
    news.num_sums = sum_of_demand(moe) + replicas;
    if (call->names_layer) news.num_sums = pad_demand(moe, replicas);
    news.sum = moe->balance.news.sum;
    news.before = moe->balance.news.before;
    news.width = MOERUN_TOLD_WORDS;
    news.words = moe->balance.news.told;
    news.doubt = other_plan;
  }
  moe->step.busy_seconds = 0;
  moe->step.computed_rows = 0;
  write_counts(moe);
  MOERUN_TRY(exchange_counts(moe, &news));
  if (call->failed != MOERUN_OK) return call->failed; /* it has said why */
  MOERUN_TRY(heed_verdict(comm, least[LEAST_VERDICT]));
  MOERUN_TRY(check_layer(least, index));
  MOERUN_TRY(check_counts(moe));
  if (moe->balance.is_on) MOERUN_TRY(balance(moe, layer, first, replicas));
done:
  return status;
}
