/* An exchange that the program does not have, to show that the expert stage
 * computes whatever rows an exchange brings: all rows of a chunk go to all ranks,
 * in memory of its own; then comes one peer a wave, the last rank's rows first,
 * among them rows that want nothing here. */
#ifndef MOERUN_TESTS_GATHERED_EXCHANGE_H
#define MOERUN_TESTS_GATHERED_EXCHANGE_H

#include "runtime/moe/moe.h"

#include <string.h>

typedef struct gathered_exchange {
  char *rows;      /* [R * chunk_tokens][row_bytes], by rank          */
  int16_t *ranks;  /* [R * chunk_tokens][K] that serve a term         */
  int16_t *slots;  /* [R * chunk_tokens][K] here; -1: not here        */
  char *results;   /* [chunk_tokens * K][result_bytes] for one peer   */
  int32_t *offset; /* [R + 1] rows of each rank                       */
  int32_t *reply;  /* [R + 1] */
  int32_t *tokens; /* [R]     */
  int32_t *scratch;
  int32_t waves;
} gathered_exchange;

static gathered_exchange gathered;

static inline void gathered_lay_out(moerun__moe *moe, moerun__arena *arena,
                                    moerun__arena *traffic) {
  const size_t R = (size_t)moe->model->comm->size;
  const size_t K = (size_t)moe->gate.width;
  const size_t T = (size_t)moe->shape.chunk_tokens;
  const moerun__news news = {.width = 1};
  gathered.rows = moerun__arena_take(traffic, R * T, moe->shape.row_bytes);
  gathered.ranks = moerun__arena_take(traffic, R * T * K, sizeof(int16_t));
  gathered.slots = moerun__arena_take(arena, R * T * K, sizeof(int16_t));
  gathered.results =
      moerun__arena_take(traffic, T * K, moe->shape.result_bytes);
  gathered.offset = moerun__arena_take(arena, R + 1, sizeof(int32_t));
  gathered.reply = moerun__arena_take(arena, R + 1, sizeof(int32_t));
  gathered.tokens = moerun__arena_take(arena, R, sizeof(int32_t));
  gathered.scratch = moerun__arena_take(
      arena, moerun__news_scratch((int32_t)R, &news), sizeof(int32_t));
}

static inline moerun_status gathered_begin(moerun__moe *moe, const float *x) {
  moerun_status status = MOERUN_OK;
  const moerun_comm *comm = moe->model->comm;
  (void)x;
  moe->exchange.wave.chunk = -1;
  moe->exchange.wave.next_peer = -1;
  for (int32_t c = 0; c < moe->shape.num_chunks; c++) {
    const moerun__moe_chunk *chunk = &moe->exchange.chunk[c];
    const moerun__row_list home = {chunk->results, moe->shape.result_bytes,
                                   chunk->route.result_offset, 0, comm->size};
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
  moerun_comm *comm = moe->model->comm;
  gathered.tokens[comm->rank] = chunk->num_tokens;
  MOERUN_TRY(
      moerun__comm_share_words(comm, gathered.tokens, 1, gathered.scratch));
  gathered.offset[0] = 0;
  for (int32_t r = 0; r < comm->size; r++) {
    gathered.offset[r + 1] = gathered.offset[r] + gathered.tokens[r];
  }
done:
  return status;
}

static inline moerun_status gathered_gather(moerun__moe *moe, const float *x,
                                            const moerun__moe_chunk *chunk) {
  moerun_status status = MOERUN_OK;
  moerun_comm *comm = moe->model->comm;
  const int32_t H = moe->model->config.hidden_width;
  const int32_t K = moe->gate.width;
  const size_t row_bytes = moe->shape.row_bytes;
  MOERUN_TRY(gathered_count(moe, chunk));
  const size_t own = (size_t)gathered.offset[comm->rank];
  const moerun__wire_rows rows =
      moerun__moe_rows(moe, gathered.rows + own * row_bytes, row_bytes);
  const moerun__dispatch what = {
      .x = x + (size_t)chunk->first_token * (size_t)H,
      .num_rows = chunk->num_tokens,
      .row_width = H,
      .ids = chunk->route.slot_of,
      .K = K,
  };
  moe->kernels->dispatch(moe->queue, &rows, &what);
  MOERUN_TRY(moe->queue->device->wait(moe->queue));
  for (int32_t i = 0; i < chunk->num_tokens * K; i++) {
    gathered.ranks[own * (size_t)K + (size_t)i] =
        (int16_t)chunk->route.rank_of[i];
  }
  MOERUN_TRY(
      comm->ops->share_rows(comm, gathered.rows, row_bytes, gathered.offset));
  MOERUN_TRY(comm->ops->share_rows(
      comm, gathered.ranks, (size_t)K * sizeof(int16_t), gathered.offset));
  for (int32_t i = 0; i < gathered.offset[comm->size] * K; i++) {
    int16_t slot;
    memcpy(&slot,
           gathered.rows + (size_t)(i / K) * row_bytes + moe->shape.slots_at +
               (size_t)(i % K) * sizeof slot,
           sizeof slot);
    gathered.slots[i] = gathered.ranks[i] == comm->rank ? slot : -1;
  }
done:
  return status;
}

static inline moerun_status gathered_next_wave(moerun__moe *moe, const float *x,
                                               int *more) {
  moerun_status status = MOERUN_OK;
  const moerun_comm *comm = moe->model->comm;
  moerun__wave *wave = &moe->exchange.wave;
  if (wave->next_peer < 0) {
    wave->next_peer = comm->size - 1;
    *more = ++wave->chunk < moe->shape.num_chunks;
    if (!*more) goto done;
    MOERUN_TRY(gathered_gather(moe, x, &moe->exchange.chunk[wave->chunk]));
  }
  *more = 1;
  const moerun__moe_chunk *chunk = &moe->exchange.chunk[wave->chunk];
  const int32_t peer = wave->next_peer--;
  const int32_t first = gathered.offset[peer];
  wave->rows = gathered.rows;
  wave->results = peer == comm->rank ? chunk->results : gathered.results;
  wave->first_reply = 0;
  wave->num_parts = 1;
  wave->part[0] = (moerun__wave_part){
      .peer = peer,
      .first_row = first,
      .count = gathered.tokens[peer],
      .slots = (const char *)(gathered.slots + first * moe->gate.width),
      .stride_bytes = (size_t)moe->gate.width * sizeof(int16_t),
      .first_result = chunk->route.result_offset[comm->rank]};
  moe->stats->waves++;
  gathered.waves++;
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
  const moerun_comm *comm = moe->model->comm;
  const moerun__wave *wave = &moe->exchange.wave;
  const moerun__wave_part *part = &wave->part[0];
  const moerun__moe_chunk *chunk = &moe->exchange.chunk[wave->chunk];
  if (part->peer == comm->rank) goto done;
  gathered.reply[part->peer] = 0;
  gathered.reply[part->peer + 1] = part->num_results;
  const moerun__row_list out = {gathered.results, moe->shape.result_bytes,
                                gathered.reply, part->peer, part->peer + 1};
  MOERUN_TRY(comm->ops->send_begin(chunk->combine,
                                   MOERUN_TAG_COMBINE + wave->chunk, &out));
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
    .name = "gathered",
    .lay_out = gathered_lay_out,
    .begin = gathered_begin,
    .next_wave = gathered_next_wave,
    .progress = gathered_progress,
    .reply = gathered_reply,
    .collect = gathered_collect,
    .finish = gathered_finish,
};

#endif
