/* Rows of all ranks to all ranks, in rounds, which bound the memory for any
 * step: a round's rows with the experts that they want behind them, a wave of
 * one part for each rank; then whatever the stage shares; then, home, the
 * columns of each result. */
#include "runtime/moe/exchange_sliced.h"

#include "runtime/base/number.h"
#include "runtime/base/timer.h"
#include "runtime/moe/moe.h"

#include <string.h>

/* ---- Memory -------------------------------------------------------------- */

/* A round of a step in slices. Its rows are a range of all ranks' tokens; a
 * term is a row and one of its experts, numbered as (row, place in gate
 * order). */
typedef struct sliced_round {
  int64_t next_row;     /* of all tokens, where the next round begins */
  int32_t own_token;    /* this rank's first in the round */
  int32_t *row_offset;  /* [R + 1] the round's rows of each rank */
  int32_t *term_offset; /* [R + 1] the round's terms of each rank */
  int32_t *home_offset; /* [R + 1] own terms from each rank, at home */
  char *ids; /* [MOERUN_SLICED_ROWS][W] of 16 bits, of the rows: the host's */
  /* In memory as moe->shape has it. */
  char *rows;         /* [MOERUN_SLICED_ROWS], as they are dispatched */
  char *columns;      /* [terms][column_bytes] this rank's columns of results */
  char *home_columns; /* [R][own terms][column_bytes] the columns of all ranks
                           for the results of own terms                       */
} sliced_round;

size_t moerun__sliced_columns_bytes(const moerun__moe *moe) {
  return moerun__dtype_bytes(moe->shape.wire,
                             (size_t)moerun__slices_most_outputs(
                                 &moe->model->config, moe->model->comm->size));
}

/* The buffers of a round, where there may be slices. */
static void *lay_out(moerun__moe *moe, moerun__arenas *arenas) {
  moerun__arena *arena = &arenas->host;
  moerun__arena *travels = &arenas->rows;
  const size_t R = (size_t)moe->model->comm->size;
  const size_t terms = MOERUN_SLICED_ROWS * (size_t)moe->gate.width;
  const size_t bytes = moerun__sliced_columns_bytes(moe);
  const size_t ints = sizeof(int32_t);
  if (!moerun__store_has_slices(&moe->store)) return NULL;
  sliced_round *s = moerun__arena_take(arena, 1, sizeof *s);
  const sliced_round taken = {
      .row_offset = moerun__arena_take(arena, R + 1, ints),
      .term_offset = moerun__arena_take(arena, R + 1, ints),
      .home_offset = moerun__arena_take(arena, R + 1, ints),
      .ids =
          moerun__arena_take(arena, MOERUN_SLICED_ROWS, moe->shape.slots_bytes),
      .rows =
          moerun__arena_take(travels, MOERUN_SLICED_ROWS, moe->shape.row_bytes),
      .columns = moerun__arena_take(travels, terms, bytes),
      .home_columns = moerun__arena_take(travels, terms * R, bytes)};
  if (s != NULL) *s = taken;
  return s;
}

/* ---- Rows ---------------------------------------------------------------- */

/* The part of ranks' tokens, numbered one rank after another, that is in
 * [first, first + MOERUN_SLICED_ROWS); own ones begin at own_token. */
static void cut_round(moerun__moe *moe, int64_t first) {
  sliced_round *s = moe->exchange.work;
  const int64_t last = first + MOERUN_SLICED_ROWS;
  int64_t begin = 0; /* of the rank's tokens */
  s->row_offset[0] = 0;
  for (int32_t r = 0; r < moe->model->comm->size; r++) {
    const int64_t end = begin + moerun__balance_tokens(&moe->balance, r);
    const int64_t from = begin > first ? begin : first;
    const int64_t to = end < last ? end : last;
    const int64_t count = to > from ? to - from : 0;
    if (r == moe->model->comm->rank)
      s->own_token = moerun__to_int(from - begin);
    s->row_offset[r + 1] = moerun__to_int(s->row_offset[r] + count);
    begin = end;
  }
}

/* Own rows, with the experts that they want behind them. */
static void pack(moerun__moe *moe, const float *x) {
  const sliced_round *s = moe->exchange.work;
  const size_t token = (size_t)s->own_token;
  const int32_t H = moe->model->config.hidden_width;
  const int32_t W = moe->gate.width;
  const int32_t *first = s->row_offset + moe->model->comm->rank;
  const moerun__wire_rows rows =
      moerun__moe_rows(moe, s->rows + (size_t)first[0] * moe->shape.row_bytes,
                       moe->shape.row_bytes);
  const moerun__dispatch own = {
      .x = x + token * (size_t)H,
      .num_rows = first[1] - first[0],
      .row_width = H,
      .ids = moe->gate.ids + token * (size_t)W,
      .K = W,
  };
  moe->kernels->dispatch(moe->queue, &rows, &own);
}

static moerun_status begin(moerun__moe *moe, const moerun__layer_call *call) {
  sliced_round *s = moe->exchange.work;
  const moerun_comm *comm = moe->model->comm;
  const int64_t own = moerun__balance_tokens(&moe->balance, comm->rank);
  (void)call; /* rows leave round by round */
  moe->stats->rows_local += own;
  moe->stats->rows_out += own * (comm->size - 1);
  moe->exchange.wave.chunk = 0;
  s->next_row = 0;
  return MOERUN_OK;
}

static moerun_status share(moerun__moe *moe, void *rows, size_t row_bytes,
                           const int32_t *offset) {
  moerun_status status = MOERUN_OK;
  moerun_comm *comm = moe->model->comm;
  const moerun__row_list list = {rows, row_bytes,  offset,
                                 0,    comm->size, moe->shape.memory};
  MOERUN_TRY(comm->ops->share_rows(comm, &list));
  moerun__stage_end(moe->stats, MOERUN_STAGE_ROWS_WAIT);
done:
  return status;
}

/* The experts that the rows of the round want, to where the host reads them. */
static moerun_status fetch_ids(moerun__moe *moe) {
  const sliced_round *s = moe->exchange.work;
  const size_t bytes = moe->shape.slots_bytes;
  const moerun__copies ids = {.to = s->ids,
                              .to_stride = bytes,
                              .from = s->rows + moe->shape.slots_at,
                              .from_stride = moe->shape.row_bytes,
                              .bytes = bytes,
                              .count = s->row_offset[moe->model->comm->size]};
  moe->queue->device->copy_rows(moe->queue, &ids);
  return moe->queue->device->wait(moe->queue);
}

/* All ranks' rows of the round, in a part for each, and this rank's columns of
 * their results. */
static void make_wave(moerun__moe *moe) {
  const sliced_round *s = moe->exchange.work;
  moerun__wave *wave = &moe->exchange.wave;
  const size_t slots_bytes = moe->shape.slots_bytes;
  wave->rows = s->rows;
  wave->results = s->columns;
  wave->result_bytes = moerun__sliced_columns_bytes(moe);
  wave->first_reply = 0;
  wave->num_parts = moe->model->comm->size;
  for (int32_t r = 0; r < wave->num_parts; r++) {
    const int32_t first = s->row_offset[r];
    wave->part[r] =
        (moerun__wave_part){.peer = r,
                            .first_row = first,
                            .count = s->row_offset[r + 1] - first,
                            .slots = s->ids + (size_t)first * slots_bytes,
                            .stride_bytes = slots_bytes};
  }
}

static moerun_status next_wave(moerun__moe *moe, const moerun__layer_call *call,
                               int *more) {
  moerun_status status = MOERUN_OK;
  sliced_round *s = moe->exchange.work;
  *more = s->next_row < moe->balance.news.tokens;
  if (!*more) goto done;
  cut_round(moe, s->next_row);
  moe->stats->waves++;
  moe->stats->rows_in += s->row_offset[moe->model->comm->size] -
                         (s->row_offset[moe->model->comm->rank + 1] -
                          s->row_offset[moe->model->comm->rank]);
  s->next_row += MOERUN_SLICED_ROWS;
  pack(moe, call->x);
  MOERUN_TRY(moe->queue->device->wait(moe->queue));
  moerun__stage_end(moe->stats, MOERUN_STAGE_DISPATCH);
  MOERUN_TRY(share(moe, s->rows, moe->shape.row_bytes, s->row_offset));
  MOERUN_TRY(fetch_ids(moe));
  make_wave(moe);
done:
  return status;
}

/* ---- Results ------------------------------------------------------------- */

/* Own terms come home from every rank that has columns of results. */
static void count_columns(moerun__moe *moe) {
  sliced_round *s = moe->exchange.work;
  const moerun__slice_shares *shares = moerun__store_shares(&moe->store);
  const moerun__wave *wave = &moe->exchange.wave;
  const int32_t own = wave->part[moe->model->comm->rank].num_results;
  s->term_offset[0] = 0;
  s->home_offset[0] = 0;
  for (int32_t r = 0; r < wave->num_parts; r++) {
    s->term_offset[r + 1] = s->term_offset[r] + wave->part[r].num_results;
    s->home_offset[r + 1] =
        s->home_offset[r] + (moerun__slice_holds_y(shares, r) ? own : 0);
  }
}

/* Columns of this rank's terms come from every rank. */
static moerun_status exchange_columns(moerun__moe *moe) {
  moerun_status status = MOERUN_OK;
  const sliced_round *s = moe->exchange.work;
  const moerun__slice_shares *shares = moerun__store_shares(&moe->store);
  const moerun__moe_chunk *chunk = &moe->exchange.chunk[0];
  const moerun_comm *comm = moe->model->comm;
  const size_t bytes = moerun__sliced_columns_bytes(moe);
  const int holds = moerun__slice_holds_y(shares, comm->rank);
  const moerun__row_list in = {
      s->home_columns, bytes, s->home_offset, 0, comm->size, moe->shape.memory};
  const moerun__row_list out = {
      s->columns,       bytes, s->term_offset, 0, holds ? comm->size : 0,
      moe->shape.memory};
  MOERUN_TRY(comm->ops->receive_begin(chunk->combine, MOERUN_TAG_COMBINE, &in));
  MOERUN_TRY(comm->ops->send_begin(chunk->combine, MOERUN_TAG_COMBINE, &out));
  if (holds) {
    moe->stats->results_out +=
        s->term_offset[comm->size] -
        (s->term_offset[comm->rank + 1] - s->term_offset[comm->rank]);
  }
  MOERUN_TRY(comm->ops->wait(chunk->combine));
  moerun__stage_end(moe->stats, MOERUN_STAGE_RESULTS_WAIT);
done:
  return status;
}

/* A result row from its columns, by the queue, for it may lie in the device's
 * memory; `term` counts this rank's. */
static void assemble(const moerun__moe *moe, char *result, int32_t term) {
  const sliced_round *s = moe->exchange.work;
  const moerun__slice_shares *shares = moerun__store_shares(&moe->store);
  const size_t column_bytes = moe->exchange.wave.result_bytes;
  const int32_t rank = moe->model->comm->rank;
  const moerun__dtype wire = moe->shape.wire;
  for (int32_t r = 0; r < moe->model->comm->size; r++) {
    const size_t y = (size_t)moerun__slice_y(shares, r);
    const char *columns =
        r == rank
            ? s->columns + (size_t)(s->term_offset[r] + term) * column_bytes
            : s->home_columns +
                  (size_t)(s->home_offset[r] + term) * column_bytes;
    if (y == 0) continue;
    const size_t before = (size_t)shares->y_panel[r] * MOERUN_PANEL;
    moe->queue->device->copy(moe->queue,
                             result + moerun__dtype_bytes(wire, before),
                             columns, moerun__dtype_bytes(wire, y));
  }
}

/* Whether row `row` of the round wants no expert as number j. */
static int wants_none(const moerun__moe *moe, int32_t row, int32_t j) {
  const sliced_round *s = moe->exchange.work;
  int16_t id = 0;
  memcpy(&id,
         s->ids + (size_t)row * moe->shape.slots_bytes + (size_t)j * sizeof id,
         sizeof id);
  return id < 0;
}

/* The results of the round's own tokens, where combine looks for them. */
static void place_results(moerun__moe *moe) {
  const sliced_round *s = moe->exchange.work;
  int32_t token = s->own_token;
  const int32_t rank = moe->model->comm->rank;
  const int32_t W = moe->gate.width;
  int32_t term = 0;
  int32_t c = 0;
  for (int32_t i = s->row_offset[rank]; i < s->row_offset[rank + 1]; i++) {
    while (token >= moe->exchange.chunk[c].first_token +
                        moe->exchange.chunk[c].num_tokens) {
      c++;
    }
    moerun__moe_chunk *chunk = &moe->exchange.chunk[c];
    const int32_t first = (token - chunk->first_token) * W;
    for (int32_t j = first; j < first + W; j++) {
      const int is_none = wants_none(moe, i, j - first);
      chunk->route.result_of[j] = is_none ? -1 : j;
      if (is_none) continue;
      assemble(moe, chunk->results + (size_t)j * moe->shape.result_bytes,
               term++);
    }
    token++;
  }
}

static moerun_status reply(moerun__moe *moe) {
  moerun_status status = MOERUN_OK;
  count_columns(moe);
  MOERUN_TRY(exchange_columns(moe));
  place_results(moe);
  MOERUN_TRY(moe->queue->device->wait(moe->queue)); /* columns come again */
  moerun__stage_end(moe->stats, MOERUN_STAGE_COMBINE);
done:
  return status;
}

/* Between rounds nothing is on its way. */
static moerun_status no_progress(moerun__moe *moe) {
  (void)moe;
  return MOERUN_OK;
}

/* Each round brings its results home. */
static moerun_status nothing(moerun__moe *moe, int32_t c) {
  (void)moe;
  (void)c;
  return MOERUN_OK;
}

const moerun__exchange_ops moerun__exchange_sliced = {
    .lay_out = lay_out,
    .begin = begin,
    .next_wave = next_wave,
    .progress = no_progress,
    .reply = reply,
    .share = share,
    .collect = nothing,
    .finish = nothing,
};

/* ---- Time ---------------------------------------------------------------- */

moerun_status moerun__sliced_time_share(double *best, moerun__moe *moe,
                                        size_t bytes) {
  moerun_status status = MOERUN_OK;
  enum { ROW = 64, RUNS = 9 };
  const sliced_round *s = moe->exchange.work;
  moerun_comm *comm = moe->model->comm;
  const int64_t rows = (int64_t)(bytes / ROW);
  for (int32_t r = 0; r <= comm->size; r++) {
    s->row_offset[r] = (int32_t)(rows * r / comm->size);
  }
  const moerun__row_list list = {s->rows, ROW,        s->row_offset,
                                 0,       comm->size, moe->shape.memory};
  moe->queue->device->clear(moe->queue, s->rows, bytes);
  MOERUN_TRY(moe->queue->device->wait(moe->queue));
  for (int run = 0; run < RUNS; run++) {
    int64_t all_are_here = 0;
    MOERUN_TRY(comm->ops->minimum(comm, &all_are_here));
    const double began = moerun__now();
    MOERUN_TRY(comm->ops->share_rows(comm, &list));
    const double seconds = moerun__now() - began;
    if (run == 0 || seconds < *best) *best = seconds;
  }
done:
  return status;
}
