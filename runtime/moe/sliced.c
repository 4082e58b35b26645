/* A round: all ranks' rows go to all ranks, grouped by expert everywhere alike;
 * each rank computes its columns of h, h goes round, each computes its columns
 * of the results, and these go home. Rounds bound the memory for any step. */
#include "runtime/moe/sliced.h"

#include "runtime/base/number.h"
#include "runtime/base/timer.h"
#include "runtime/moe/experts.h"

#include <string.h>

/* ---- Rows ------------------------------------------------------------------ */

/* The part of ranks' tokens, numbered one rank after another, that is in
 * [first, first + MOERUN_SLICED_ROWS); own ones begin at token *own. */
static void cut_round(moerun__moe *moe, int64_t first, int32_t *own) {
  moerun__slices *s = &moe->store.slices;
  const int64_t last = first + MOERUN_SLICED_ROWS;
  int64_t begin = 0; /* of the rank's tokens */
  s->row_offset[0] = 0;
  for (int32_t r = 0; r < moe->model->comm->size; r++) {
    const int64_t end = begin + s->tokens[r];
    const int64_t from = begin > first ? begin : first;
    const int64_t to = end < last ? end : last;
    const int64_t count = to > from ? to - from : 0;
    if (r == moe->model->comm->rank) *own = moerun__to_int(from - begin);
    s->row_offset[r + 1] = moerun__to_int(s->row_offset[r] + count);
    begin = end;
  }
}

/* Own rows, with the experts that they want behind them. */
static void pack(moerun__moe *moe, const float *x, int32_t token) {
  moerun__slices *s = &moe->store.slices;
  const int32_t H = moe->model->config.hidden_width;
  const int32_t K = moe->gate.width;
  const int32_t rank = moe->model->comm->rank;
  const moerun__wire_rows rows =
      moerun__moe_rows(moe, s->rows, moe->shape.row_bytes);
  for (int32_t i = s->row_offset[rank]; i < s->row_offset[rank + 1]; i++) {
    const int32_t *ids = moe->gate.ids + (size_t)token * (size_t)K;
    char *behind =
        s->rows + (size_t)i * moe->shape.row_bytes + moerun__moe_slots_at(moe);
    moe->kernels->scatter(&rows, &i, x + (size_t)token * (size_t)H, 1, H);
    for (int32_t j = 0; j < K; j++) {
      const int16_t id = (int16_t)ids[j];
      memcpy(behind + (size_t)j * sizeof id, &id, sizeof id);
    }
    token++;
  }
}

static int32_t id_of(const moerun__moe *moe, int32_t row, int32_t j) {
  int16_t id = 0;
  memcpy(&id,
         moe->store.slices.rows + (size_t)row * moe->shape.row_bytes +
             moerun__moe_slots_at(moe) + (size_t)j * sizeof id,
         sizeof id);
  return id;
}

/* Terms by rank, and of each expert how many; then their lists. */
static moerun_status group_terms(moerun__moe *moe) {
  moerun_status status = MOERUN_OK;
  moerun__slices *s = &moe->store.slices;
  const int32_t R = moe->model->comm->size;
  const int32_t E = moe->model->config.num_experts;
  const int32_t K = moe->gate.width;
  int32_t term = 0;
  memset(s->expert_offset, 0, ((size_t)E + 1) * sizeof(int32_t));
  s->term_offset[0] = 0;
  for (int32_t r = 0; r < R; r++) {
    for (int32_t i = s->row_offset[r] * K; i < s->row_offset[r + 1] * K; i++) {
      const int32_t id = id_of(moe, i / K, i % K);
      MOERUN_REQUIRE(id >= -1 && id < E, MOERUN_ERR_COMM,
                     "rank %d asked for expert %d: expected below %d", r, id,
                     E);
      if (id < 0) continue;
      s->expert_offset[id + 1]++;
      term++;
    }
    s->term_offset[r + 1] = term;
  }
  for (int32_t e = 0; e < E; e++) {
    s->expert_offset[e + 1] += s->expert_offset[e];
  }
  term = 0;
  for (int32_t i = 0; i < s->row_offset[R] * K; i++) {
    const int32_t id = id_of(moe, i / K, i % K);
    if (id < 0) continue;
    const int32_t at = s->expert_offset[id]++;
    s->row_of[at] = i / K;
    s->term_of[at] = term++;
  }
  /* Each offset has become that of the next expert. */
  memmove(s->expert_offset + 1, s->expert_offset, (size_t)E * sizeof(int32_t));
  s->expert_offset[0] = 0;
done:
  return status;
}

/* ---- Experts ----------------------------------------------------------------- */

/* Terms first .. first + M - 1 by expert, all of one expert. */
typedef struct tile {
  const moerun__expert *slice;
  int32_t first;
  int32_t M;
} tile;

/* This rank's columns of h for a tile. */
static void compute_h(moerun__moe *moe, const tile *of, int32_t terms) {
  moerun__slices *s = &moe->store.slices;
  const moerun__kernels *k = moe->kernels;
  const int32_t rank = moe->model->comm->rank;
  const int32_t H = moe->model->config.hidden_width;
  const int32_t f = moerun__slice_h(s, rank);
  const moerun__wire_rows rows =
      moerun__moe_rows(moe, s->rows, moe->shape.row_bytes);
  float *h = s->h + (size_t)s->h_panel[rank] * MOERUN_PANEL * (size_t)terms +
             (size_t)of->first * (size_t)f;
  k->gather(moe->work.tile_x, &rows, s->row_of + of->first, of->M, H);
  const double began = moerun__now();
  for (int32_t run = 0; run < moe->step.slowness.compute; run++) {
    moe->linear(moe->work.tile_gate_up, 2 * (size_t)f, moe->work.tile_x,
                (size_t)H, of->M, &of->slice->gate_up, moe->work.scratch);
    k->swiglu(h, moe->work.tile_gate_up, of->M, f);
  }
  const double part = 2.0 * f / (3.0 * moe->model->config.expert_width);
  moerun__experts_note(moe, of->M, part, moerun__now() - began);
}

/* Rows of h, of which every rank has computed some columns. */
static void gather_h(moerun__moe *moe, const tile *of, int32_t terms) {
  const moerun__slices *s = &moe->store.slices;
  const size_t F = (size_t)moe->model->config.expert_width;
  for (int32_t r = 0; r < moe->model->comm->size; r++) {
    const size_t column = (size_t)s->h_panel[r] * MOERUN_PANEL;
    const size_t f = (size_t)moerun__slice_h(s, r);
    const float *from = s->h + column * (size_t)terms + (size_t)of->first * f;
    for (size_t i = 0; i < (size_t)of->M; i++) {
      memcpy(moe->work.tile_h + i * F + column, from + i * f, f * sizeof *from);
    }
  }
}

/* This rank's columns of the results of a tile. */
static void compute_y(moerun__moe *moe, const tile *of, int32_t terms) {
  moerun__slices *s = &moe->store.slices;
  const int32_t y = moerun__slice_y(s, moe->model->comm->rank);
  const int32_t F = moe->model->config.expert_width;
  const moerun__wire_rows pieces =
      moerun__moe_rows(moe, s->pieces, s->piece_bytes);
  gather_h(moe, of, terms);
  const double began = moerun__now();
  for (int32_t run = 0; run < moe->step.slowness.compute; run++) {
    moe->linear(moe->work.tile_y, (size_t)y, moe->work.tile_h, (size_t)F, of->M,
                &of->slice->down, moe->work.scratch);
  }
  const double part = y / (3.0 * moe->model->config.hidden_width);
  moerun__experts_note(moe, of->M, part, moerun__now() - began);
  moe->kernels->scatter(&pieces, s->term_of + of->first, moe->work.tile_y,
                        of->M, y);
}

typedef void compute(moerun__moe *moe, const tile *of, int32_t terms);

/* All terms of the round, tile by tile. */
static void for_tiles(moerun__moe *moe, int32_t moe_layer, compute *run) {
  const moerun__slices *s = &moe->store.slices;
  const int32_t E = moe->model->config.num_experts;
  const int32_t terms = s->expert_offset[E];
  for (int32_t e = 0; e < E; e++) {
    const size_t i = (size_t)moe_layer * (size_t)E + (size_t)e;
    const int32_t end = s->expert_offset[e + 1];
    for (int32_t t = s->expert_offset[e]; t < end; t += MOERUN_FFN_TILE) {
      const tile of = {&s->expert[i], t,
                       end - t < MOERUN_FFN_TILE ? end - t : MOERUN_FFN_TILE};
      run(moe, &of, terms);
    }
  }
}

/* Every rank computes a part of every row: of R of an expert each counts one. */
static void count_terms(moerun__moe *moe, int32_t moe_layer) {
  const moerun__slices *s = &moe->store.slices;
  const int32_t E = moe->model->config.num_experts;
  const int32_t R = moe->model->comm->size;
  const int32_t rank = moe->model->comm->rank;
  int64_t *rows = moe->stats->expert_rows + (size_t)moe_layer * (size_t)E;
  for (int32_t e = 0; e < E; e++) {
    const int32_t from = s->expert_offset[e] + R - 1 - rank;
    const int32_t to = s->expert_offset[e + 1] + R - 1 - rank;
    rows[e] += to / R - from / R;
    moe->step.computed_rows += to / R - from / R;
  }
}

static moerun_status compute_round(moerun__moe *moe, int32_t moe_layer) {
  moerun_status status = MOERUN_OK;
  moerun__slices *s = &moe->store.slices;
  moerun_comm *comm = moe->model->comm;
  const int32_t terms = s->expert_offset[moe->model->config.num_experts];
  for (int32_t r = 0; r <= comm->size; r++) {
    s->offset[r] = s->h_panel[r] * terms;
  }
  if (moerun__slice_h(s, comm->rank) > 0) for_tiles(moe, moe_layer, compute_h);
  moerun__stage_end(moe->stats, MOERUN_STAGE_EXPERTS);
  moerun__cpu_end(moe->stats);
  MOERUN_TRY(comm->ops->share_rows(comm, s->h, MOERUN_PANEL * sizeof(float),
                                   s->offset));
  moerun__stage_end(moe->stats, MOERUN_STAGE_ROWS_WAIT);
  moerun__cpu_begin(moe->stats);
  if (moerun__slice_y(s, comm->rank) > 0) for_tiles(moe, moe_layer, compute_y);
  count_terms(moe, moe_layer);
  moerun__stage_end(moe->stats, MOERUN_STAGE_EXPERTS);
  moerun__cpu_end(moe->stats);
done:
  return status;
}

/* ---- Results ------------------------------------------------------------------- */

/* Columns of this rank's terms come from every rank. */
static moerun_status exchange_pieces(moerun__moe *moe) {
  moerun_status status = MOERUN_OK;
  moerun__slices *s = &moe->store.slices;
  moerun__moe_chunk *chunk = &moe->exchange.chunk[0];
  moerun_comm *comm = moe->model->comm;
  const int32_t own =
      s->term_offset[comm->rank + 1] - s->term_offset[comm->rank];
  s->offset[0] = 0;
  for (int32_t r = 0; r < comm->size; r++) {
    s->offset[r + 1] = s->offset[r] + (moerun__slice_y(s, r) > 0 ? own : 0);
  }
  const moerun__row_list in = {s->home_pieces, s->piece_bytes, s->offset, 0,
                               comm->size};
  const moerun__row_list out = {s->pieces, s->piece_bytes, s->term_offset, 0,
                                comm->size};
  MOERUN_TRY(comm->ops->receive_begin(chunk->combine, MOERUN_TAG_COMBINE, &in));
  if (moerun__slice_y(s, comm->rank) > 0) {
    MOERUN_TRY(comm->ops->send_begin(chunk->combine, MOERUN_TAG_COMBINE, &out));
    moe->stats->results_out += s->term_offset[comm->size] - own;
  }
  MOERUN_TRY(comm->ops->wait(chunk->combine));
  moerun__stage_end(moe->stats, MOERUN_STAGE_RESULTS_WAIT);
done:
  return status;
}

/* A result row from its columns; `term` counts this rank's. */
static void assemble(const moerun__moe *moe, char *result, int32_t term) {
  const moerun__slices *s = &moe->store.slices;
  const int32_t rank = moe->model->comm->rank;
  const moerun__dtype wire = moe->shape.wire;
  for (int32_t r = 0; r < moe->model->comm->size; r++) {
    const size_t y = (size_t)moerun__slice_y(s, r);
    const char *piece =
        r == rank
            ? s->pieces + (size_t)(s->term_offset[r] + term) * s->piece_bytes
            : s->home_pieces + (size_t)(s->offset[r] + term) * s->piece_bytes;
    if (y == 0) continue;
    const size_t before = (size_t)s->y_panel[r] * MOERUN_PANEL;
    memcpy(result + moerun__dtype_bytes(wire, before), piece,
           moerun__dtype_bytes(wire, y));
  }
}

/* The results of own tokens from `token` on, where combine looks for them. */
static void place_results(moerun__moe *moe, int32_t token) {
  const moerun__slices *s = &moe->store.slices;
  const int32_t rank = moe->model->comm->rank;
  const int32_t K = moe->gate.width;
  int32_t term = 0;
  int32_t c = 0;
  for (int32_t i = s->row_offset[rank]; i < s->row_offset[rank + 1]; i++) {
    while (token >= moe->exchange.chunk[c].first_token +
                        moe->exchange.chunk[c].num_tokens) {
      c++;
    }
    moerun__moe_chunk *chunk = &moe->exchange.chunk[c];
    const int32_t first = (token - chunk->first_token) * K;
    for (int32_t j = first; j < first + K; j++) {
      const int is_none = id_of(moe, i, j - first) < 0;
      chunk->route.result_of[j] = is_none ? -1 : j;
      if (is_none) continue;
      assemble(moe, chunk->results + (size_t)j * moe->shape.result_bytes,
               term++);
    }
    token++;
  }
}

int64_t moerun__sliced_bytes(const moerun__moe *moe, int64_t terms,
                             int64_t terms_of_holders) {
  const moerun__slices *s = &moe->store.slices;
  const int32_t R = moe->model->comm->size;
  const int64_t h_bytes =
      s->h_panel[R] * (int64_t)(MOERUN_PANEL * sizeof(float));
  int64_t holders = 0; /* of columns of results */
  int64_t tokens = 0;
  for (int32_t r = 0; r < R; r++) {
    holders += moerun__slice_y(s, r) > 0;
    tokens += s->tokens[r];
  }
  /* Nobody sends itself pieces of its own terms. */
  return (R - 1) * (tokens * (int64_t)moe->shape.row_bytes + terms * h_bytes) +
         (holders * terms - terms_of_holders) * (int64_t)s->piece_bytes;
}

/* ---- The whole --------------------------------------------------------------------- */

moerun_status moerun__sliced_forward(moerun__moe *moe, int32_t moe_layer,
                                     const float *x) {
  moerun_status status = MOERUN_OK;
  moerun__slices *s = &moe->store.slices;
  moerun_comm *comm = moe->model->comm;
  const int64_t sent = comm->count.row_bytes;
  int64_t rows = 0;
  for (int32_t r = 0; r < comm->size; r++) {
    rows += s->tokens[r];
  }
  moerun__experts_sleep(moe);
  for (int64_t first = 0; first < rows; first += MOERUN_SLICED_ROWS) {
    int32_t own = 0;
    cut_round(moe, first, &own);
    pack(moe, x, own);
    moerun__stage_end(moe->stats, MOERUN_STAGE_DISPATCH);
    MOERUN_TRY(comm->ops->share_rows(comm, s->rows, moe->shape.row_bytes,
                                     s->row_offset));
    moerun__stage_end(moe->stats, MOERUN_STAGE_ROWS_WAIT);
    moerun__cpu_begin(moe->stats);
    MOERUN_TRY(group_terms(moe));
    MOERUN_TRY(compute_round(moe, moe_layer));
    MOERUN_TRY(exchange_pieces(moe));
    place_results(moe, own);
    moerun__stage_end(moe->stats, MOERUN_STAGE_COMBINE);
  }
  moe->stats->slice_bytes += comm->count.row_bytes - sent;
done:
  return status;
}
