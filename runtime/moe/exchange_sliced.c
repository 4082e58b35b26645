/* Rows of all ranks to all ranks, in rounds, which bound the memory for any
 * step: a round's rows with the experts that they want behind them; then h, of
 * which each rank has computed its columns; then, home, the columns of each
 * result. */
#include "runtime/base/number.h"
#include "runtime/moe/sliced.h"

/* ---- Memory -------------------------------------------------------------- */

/* The buffers of a round, where there may be slices. They are the stage's of
 * slices as well, and so stand in moe->round. */
static void *lay_out(moerun__moe *moe, moerun__arenas *arenas) {
  moerun__arena *arena = &arenas->host;
  moerun__arena *traffic = &arenas->traffic;
  const moerun__model_config *config = &moe->model->config;
  moerun__slice_round *s = &moe->round;
  const size_t R = (size_t)moe->model->comm->size;
  const size_t terms = MOERUN_SLICED_ROWS * (size_t)moe->gate.width;
  const size_t ints = sizeof(int32_t);
  if (!moerun__store_has_slices(&moe->store)) return NULL;
  s->offset = moerun__arena_take(arena, R + 1, ints);
  s->row_offset = moerun__arena_take(arena, R + 1, ints);
  s->term_offset = moerun__arena_take(arena, R + 1, ints);
  s->expert_offset =
      moerun__arena_take(arena, (size_t)config->num_experts + 1, ints);
  s->row_of = moerun__arena_take(arena, terms, ints);
  s->term_of = moerun__arena_take(arena, terms, ints);
  s->rows =
      moerun__arena_take(traffic, MOERUN_SLICED_ROWS, moe->shape.row_bytes);
  s->h =
      moerun__arena_take(traffic, terms, (size_t)moerun__sliced_h_bytes(moe));
  s->piece_bytes = moerun__dtype_bytes(
      moe->shape.wire,
      (size_t)moerun__slices_most_outputs(config, moe->model->comm->size));
  s->pieces = moerun__arena_take(traffic, terms, s->piece_bytes);
  s->home_pieces = moerun__arena_take(traffic, terms * R, s->piece_bytes);
  return NULL;
}

/* ---- Rows ---------------------------------------------------------------- */

/* The part of ranks' tokens, numbered one rank after another, that is in
 * [first, first + MOERUN_SLICED_ROWS); own ones begin at own_token. */
static void cut_round(moerun__moe *moe, int64_t first) {
  moerun__slice_round *s = &moe->round;
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
  moerun__slice_round *s = &moe->round;
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

static moerun_status begin(moerun__moe *moe, const float *x) {
  const moerun_comm *comm = moe->model->comm;
  const int64_t own = moerun__balance_tokens(&moe->balance, comm->rank);
  (void)x; /* rows leave round by round */
  moe->stats->rows_local += own;
  moe->stats->rows_out += own * (comm->size - 1);
  moe->exchange.wave.chunk = 0;
  moe->round.next_row = 0;
  return MOERUN_OK;
}

/* Rows of row_bytes to all, own ones filled; counted as bytes of slices. */
static moerun_status share(moerun__moe *moe, void *rows, size_t row_bytes,
                           const int32_t *offset) {
  moerun_status status = MOERUN_OK;
  moerun_comm *comm = moe->model->comm;
  const int64_t sent = comm->count.row_bytes;
  MOERUN_TRY(comm->ops->share_rows(comm, rows, row_bytes, offset));
  moe->stats->slice_bytes += comm->count.row_bytes - sent;
  moerun__stage_end(moe->stats, MOERUN_STAGE_ROWS_WAIT);
done:
  return status;
}

static moerun_status next_wave(moerun__moe *moe, const float *x, int *more) {
  moerun_status status = MOERUN_OK;
  moerun__slice_round *s = &moe->round;
  int64_t rows = 0;
  for (int32_t r = 0; r < moe->model->comm->size; r++) {
    rows += moerun__balance_tokens(&moe->balance, r);
  }
  *more = s->next_row < rows;
  if (!*more) goto done;
  cut_round(moe, s->next_row);
  moe->stats->waves++;
  moe->stats->rows_in += s->row_offset[moe->model->comm->size] -
                         (s->row_offset[moe->model->comm->rank + 1] -
                          s->row_offset[moe->model->comm->rank]);
  s->next_row += MOERUN_SLICED_ROWS;
  pack(moe, x);
  MOERUN_TRY(moe->queue->device->wait(moe->queue));
  moerun__stage_end(moe->stats, MOERUN_STAGE_DISPATCH);
  MOERUN_TRY(share(moe, s->rows, moe->shape.row_bytes, s->row_offset));
done:
  return status;
}

moerun_status moerun__sliced_share_h(moerun__moe *moe, int32_t terms) {
  moerun__slice_round *s = &moe->round;
  const moerun__slice_shares *shares = moerun__store_shares(&moe->store);
  for (int32_t r = 0; r <= moe->model->comm->size; r++) {
    s->offset[r] = shares->h_panel[r] * terms;
  }
  return share(moe, s->h, MOERUN_PANEL * sizeof(float), s->offset);
}

/* ---- Results ------------------------------------------------------------- */

/* Columns of this rank's terms come from every rank. */
static moerun_status exchange_pieces(moerun__moe *moe) {
  moerun_status status = MOERUN_OK;
  moerun__slice_round *s = &moe->round;
  const moerun__slice_shares *shares = moerun__store_shares(&moe->store);
  moerun__moe_chunk *chunk = &moe->exchange.chunk[0];
  moerun_comm *comm = moe->model->comm;
  const int32_t own =
      s->term_offset[comm->rank + 1] - s->term_offset[comm->rank];
  s->offset[0] = 0;
  for (int32_t r = 0; r < comm->size; r++) {
    s->offset[r + 1] =
        s->offset[r] + (moerun__slice_y(shares, r) > 0 ? own : 0);
  }
  const moerun__row_list in = {s->home_pieces, s->piece_bytes,    s->offset, 0,
                               comm->size,     MOERUN_MEMORY_HOST};
  const moerun__row_list out = {s->pieces, s->piece_bytes, s->term_offset,
                                0,         comm->size,     MOERUN_MEMORY_HOST};
  MOERUN_TRY(comm->ops->receive_begin(chunk->combine, MOERUN_TAG_COMBINE, &in));
  if (moerun__slice_y(shares, comm->rank) > 0) {
    MOERUN_TRY(comm->ops->send_begin(chunk->combine, MOERUN_TAG_COMBINE, &out));
    moe->stats->results_out += s->term_offset[comm->size] - own;
  }
  MOERUN_TRY(comm->ops->wait(chunk->combine));
  moerun__stage_end(moe->stats, MOERUN_STAGE_RESULTS_WAIT);
done:
  return status;
}

/* A result row from its columns, by the queue, for it may lie in the device's
 * memory; `term` counts this rank's. */
static void assemble(const moerun__moe *moe, char *result, int32_t term) {
  const moerun__slice_round *s = &moe->round;
  const moerun__slice_shares *shares = moerun__store_shares(&moe->store);
  const int32_t rank = moe->model->comm->rank;
  const moerun__dtype wire = moe->shape.wire;
  for (int32_t r = 0; r < moe->model->comm->size; r++) {
    const size_t y = (size_t)moerun__slice_y(shares, r);
    const char *piece =
        r == rank
            ? s->pieces + (size_t)(s->term_offset[r] + term) * s->piece_bytes
            : s->home_pieces + (size_t)(s->offset[r] + term) * s->piece_bytes;
    if (y == 0) continue;
    const size_t before = (size_t)shares->y_panel[r] * MOERUN_PANEL;
    moe->queue->device->copy(moe->queue,
                             result + moerun__dtype_bytes(wire, before), piece,
                             moerun__dtype_bytes(wire, y));
  }
}

/* The results of the round's own tokens, where combine looks for them. */
static void place_results(moerun__moe *moe) {
  const moerun__slice_round *s = &moe->round;
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
      const int is_none = moerun__sliced_id(moe, i, j - first) < 0;
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
  const moerun_comm *comm = moe->model->comm;
  const int64_t sent = comm->count.row_bytes;
  MOERUN_TRY(exchange_pieces(moe));
  moe->stats->slice_bytes += comm->count.row_bytes - sent;
  place_results(moe);
  MOERUN_TRY(moe->queue->device->wait(moe->queue)); /* pieces come again */
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
    .name = "sliced",
    .lay_out = lay_out,
    .begin = begin,
    .next_wave = next_wave,
    .progress = no_progress,
    .reply = reply,
    .collect = nothing,
    .finish = nothing,
};

/* ---- Bytes --------------------------------------------------------------- */

int64_t moerun__sliced_h_bytes(const moerun__moe *moe) {
  return moe->model->config.expert_width * (int64_t)sizeof *moe->round.h;
}

int64_t moerun__sliced_bytes(const moerun__moe *moe, int64_t terms,
                             int64_t terms_of_holders) {
  const moerun__slice_round *s = &moe->round;
  const moerun__slice_shares *shares = moerun__store_shares(&moe->store);
  const int32_t R = moe->model->comm->size;
  const int64_t h_bytes = moerun__sliced_h_bytes(moe);
  int64_t holders = 0; /* of columns of results */
  int64_t tokens = 0;
  for (int32_t r = 0; r < R; r++) {
    holders += moerun__slice_y(shares, r) > 0;
    tokens += moerun__balance_tokens(&moe->balance, r);
  }
  /* Nobody sends itself pieces of its own terms. */
  return (R - 1) * (tokens * (int64_t)moe->shape.row_bytes + terms * h_bytes) +
         (holders * terms - terms_of_holders) * (int64_t)s->piece_bytes;
}
