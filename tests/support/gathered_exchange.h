/* An exchange that the program does not have, to show that the expert stage
 * computes whatever rows an exchange brings, and the way of a layer that has
 * it: all rows of a chunk go to all
 * ranks, in memory of its own; then comes one peer a wave, the last rank's rows
 * first, among them rows that want nothing here. */
#ifndef MOERUN_TESTS_GATHERED_EXCHANGE_H
#define MOERUN_TESTS_GATHERED_EXCHANGE_H

#include "runtime/moe/experts.h"

#include <string.h>

typedef struct gathered_exchange {
  char *rows;      /* [R * chunk_tokens][row_bytes], by rank          */
  int16_t *ranks;  /* [R * chunk_tokens][W] that serve a term         */
  int16_t *slots;  /* [R * chunk_tokens][W] here; -1: not here        */
  char *results;   /* [chunk_tokens * W][result_bytes] for one peer   */
  int32_t *offset; /* [R + 1] rows of each rank                       */
  int32_t *reply;  /* [R + 1] */
  int32_t *tokens; /* [R]     */
  int32_t *scratch;
} gathered_exchange;

static inline void *gathered_lay_out(moerun__moe *moe, moerun__arenas *arenas) {
  moerun__arena *arena = &arenas->host;
  moerun__arena *traffic = &arenas->traffic;
  const size_t R = (size_t)moe->model->comm->size;
  const size_t W = (size_t)moe->gate.width;
  const size_t T = (size_t)moe->shape.chunk_tokens;
  const size_t ints = sizeof(int32_t);
  const moerun__news news = {.width = 1};
  gathered_exchange *g = moerun__arena_take(arena, 1, sizeof *g);
  const gathered_exchange taken = {
      .rows = moerun__arena_take(traffic, R * T, moe->shape.row_bytes),
      .ranks = moerun__arena_take(traffic, R * T * W, sizeof(int16_t)),
      .slots = moerun__arena_take(arena, R * T * W, sizeof(int16_t)),
      .results = moerun__arena_take(traffic, T * W, moe->shape.result_bytes),
      .offset = moerun__arena_take(arena, R + 1, ints),
      .reply = moerun__arena_take(arena, R + 1, ints),
      .tokens = moerun__arena_take(arena, R, ints),
      .scratch = moerun__arena_take(
          arena, moerun__news_scratch((int32_t)R, &news), ints)};
  if (g != NULL) *g = taken;
  return g;
}

static inline moerun_status gathered_begin(moerun__moe *moe,
                                           const moerun__layer_call *call) {
  moerun_status status = MOERUN_OK;
  const moerun_comm *comm = moe->model->comm;
  (void)call;
  moe->exchange.wave.chunk = -1;
  moe->exchange.wave.next_peer = -1;
  for (int32_t c = 0; c < moe->shape.num_chunks; c++) {
    const moerun__moe_chunk *chunk = &moe->exchange.chunk[c];
    const moerun__row_list home = {
        chunk->results, moe->shape.result_bytes, chunk->route.result_offset, 0,
        comm->size,     moe->shape.memory};
    moe->stats->rows_local += chunk->num_tokens;
    moe->stats->rows_out += (int64_t)chunk->num_tokens * (comm->size - 1);
    MOERUN_TRY(comm->ops->receive_begin(chunk->combine, MOERUN_TAG_COMBINE + c,
                                        &home));
  }
done:
  return status;
}

/* Where this rank stands among all. */
static inline moerun_status gathered_count(moerun__moe *moe,
                                           const moerun__moe_chunk *chunk) {
  moerun_status status = MOERUN_OK;
  gathered_exchange *g = moe->exchange.work;
  moerun_comm *comm = moe->model->comm;
  g->tokens[comm->rank] = chunk->num_tokens;
  MOERUN_TRY(moerun__comm_share_words(comm, g->tokens, 1, g->scratch));
  g->offset[0] = 0;
  for (int32_t r = 0; r < comm->size; r++) {
    g->offset[r + 1] = g->offset[r] + g->tokens[r];
  }
done:
  return status;
}

static inline moerun_status gathered_gather(moerun__moe *moe, const float *x,
                                            const moerun__moe_chunk *chunk) {
  moerun_status status = MOERUN_OK;
  gathered_exchange *g = moe->exchange.work;
  moerun_comm *comm = moe->model->comm;
  const int32_t H = moe->model->config.hidden_width;
  const int32_t W = moe->gate.width;
  const size_t row_bytes = moe->shape.row_bytes;
  MOERUN_TRY(gathered_count(moe, chunk));
  const size_t own = (size_t)g->offset[comm->rank];
  const moerun__wire_rows rows =
      moerun__moe_rows(moe, g->rows + own * row_bytes, row_bytes);
  const moerun__dispatch what = {
      .x = x + (size_t)chunk->first_token * (size_t)H,
      .num_rows = chunk->num_tokens,
      .row_width = H,
      .ids = chunk->route.slot_of,
      .K = W,
  };
  moe->kernels->dispatch(moe->queue, &rows, &what);
  MOERUN_TRY(moe->queue->device->wait(moe->queue));
  for (int32_t i = 0; i < chunk->num_tokens * W; i++) {
    g->ranks[own * (size_t)W + (size_t)i] = (int16_t)chunk->route.rank_of[i];
  }
  const moerun__row_list all = {g->rows, row_bytes,  g->offset,
                                0,       comm->size, MOERUN_MEMORY_HOST};
  const moerun__row_list ranks = {g->ranks,   (size_t)W * sizeof(int16_t),
                                  g->offset,  0,
                                  comm->size, MOERUN_MEMORY_HOST};
  MOERUN_TRY(comm->ops->share_rows(comm, &all));
  MOERUN_TRY(comm->ops->share_rows(comm, &ranks));
  for (int32_t i = 0; i < g->offset[comm->size] * W; i++) {
    int16_t slot;
    memcpy(&slot,
           g->rows + (size_t)(i / W) * row_bytes + moe->shape.slots_at +
               (size_t)(i % W) * sizeof slot,
           sizeof slot);
    g->slots[i] = g->ranks[i] == comm->rank ? slot : -1;
  }
done:
  return status;
}

static inline moerun_status gathered_next_wave(moerun__moe *moe,
                                               const moerun__layer_call *call,
                                               int *more) {
  moerun_status status = MOERUN_OK;
  gathered_exchange *g = moe->exchange.work;
  const moerun_comm *comm = moe->model->comm;
  moerun__wave *wave = &moe->exchange.wave;
  if (wave->next_peer < 0) {
    wave->next_peer = comm->size - 1;
    *more = ++wave->chunk < moe->shape.num_chunks;
    if (!*more) goto done;
    MOERUN_TRY(
        gathered_gather(moe, call->x, &moe->exchange.chunk[wave->chunk]));
  }
  *more = 1;
  const moerun__moe_chunk *chunk = &moe->exchange.chunk[wave->chunk];
  const int32_t peer = wave->next_peer--;
  const int32_t first = g->offset[peer];
  wave->rows = g->rows;
  wave->results = peer == comm->rank ? chunk->results : g->results;
  wave->result_bytes = moe->shape.result_bytes;
  wave->first_reply = 0;
  wave->num_parts = 1;
  wave->part[0] = (moerun__wave_part){
      .peer = peer,
      .first_row = first,
      .count = g->tokens[peer],
      .slots = (const char *)(g->slots + first * moe->gate.width),
      .stride_bytes = (size_t)moe->gate.width * sizeof(int16_t),
      .first_result = chunk->route.result_offset[comm->rank]};
  moe->stats->waves++;
  if (peer != comm->rank) moe->stats->rows_in += g->tokens[peer];
done:
  return status;
}

static inline moerun_status gathered_progress(moerun__moe *moe) {
  int done;
  return moe->model->comm->ops->test_received(moe->exchange.chunk[0].combine,
                                              &done);
}

static inline moerun_status gathered_reply(moerun__moe *moe) {
  moerun_status status = MOERUN_OK;
  gathered_exchange *g = moe->exchange.work;
  const moerun_comm *comm = moe->model->comm;
  const moerun__wave *wave = &moe->exchange.wave;
  const moerun__wave_part *part = &wave->part[0];
  const moerun__moe_chunk *chunk = &moe->exchange.chunk[wave->chunk];
  if (part->peer == comm->rank) goto done;
  g->reply[part->peer] = 0;
  g->reply[part->peer + 1] = part->num_results;
  const moerun__row_list out = {
      g->results, moe->shape.result_bytes, g->reply + part->peer,
      part->peer, part->peer + 1,          MOERUN_MEMORY_HOST};
  MOERUN_TRY(comm->ops->send_begin(chunk->combine,
                                   MOERUN_TAG_COMBINE + wave->chunk, &out));
  moe->stats->results_out += part->num_results;
  MOERUN_TRY(comm->ops->wait_sent(chunk->combine));
done:
  return status;
}

static inline moerun_status gathered_collect(moerun__moe *moe, int32_t c) {
  return moe->model->comm->ops->wait_received(moe->exchange.chunk[c].combine);
}

static inline moerun_status gathered_finish(moerun__moe *moe, int32_t c) {
  return moe->model->comm->ops->wait(moe->exchange.chunk[c].combine);
}

static const moerun__exchange_ops gathered_ops = {
    .lay_out = gathered_lay_out,
    .begin = gathered_begin,
    .next_wave = gathered_next_wave,
    .progress = gathered_progress,
    .reply = gathered_reply,
    .collect = gathered_collect,
    .finish = gathered_finish,
};

/* In the place of whole experts as they come. */
static const moerun__way gathered_whole = {
    .name = "gathered",
    .exchange = &gathered_ops,
    .stage = &moerun__stage_whole,
};
static const moerun__way_table gathered_ways = {
    .way = {&gathered_whole, &moerun__way_sliced}, .count = 2};

#endif
