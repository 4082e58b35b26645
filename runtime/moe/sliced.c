/* A wave: all ranks have all rows, grouped by expert everywhere alike; each
 * computes its columns of h, h goes round, and each computes its columns of the
 * results. */
#include "runtime/moe/sliced.h"

#include "runtime/base/timer.h"
#include "runtime/moe/exchange_sliced.h"
#include "runtime/moe/experts.h"

#include <string.h>

/* ---- Memory -------------------------------------------------------------- */

/* The stage's own. A term is a row of the wave and one of its experts, numbered
 * as (row, place in gate order). */
typedef struct sliced_terms {
  int32_t *expert_offset; /* [E + 1] terms by expert               */
  int32_t *row_of;        /* [terms] by expert: row */
  int32_t *term_of;       /* [terms] by expert: term */
  int32_t *h_offset;      /* [R + 1] panels of h of each rank */
  float *h;               /* [R][terms][f of the rank], by expert */
  moerun__slice_offer offer;
} sliced_terms;

moerun__slice_offer *moerun__sliced_offer_room(void *work) {
  return work != NULL ? &((sliced_terms *)work)->offer : NULL;
}

int64_t moerun__sliced_h_bytes(const moerun__moe *moe) {
  return moe->model->config.expert_width * (int64_t)sizeof(float);
}

/* Nothing where there are no slices. */
static void *lay_out(const moerun__moe *moe, moerun__arenas *arenas) {
  const size_t R = (size_t)moe->model->comm->size;
  const size_t E = (size_t)moe->model->config.num_experts;
  const size_t terms = MOERUN_SLICED_ROWS * (size_t)moe->gate.width;
  const size_t ints = sizeof(int32_t);
  moerun__arena *arena = &arenas->host;
  if (!moerun__store_has_slices(&moe->store)) return NULL;
  sliced_terms *s = moerun__arena_take(arena, 1, sizeof *s);
  const sliced_terms taken = {
      .expert_offset = moerun__arena_take(arena, E + 1, ints),
      .row_of = moerun__arena_take(arena, terms, ints),
      .term_of = moerun__arena_take(arena, terms, ints),
      .h_offset = moerun__arena_take(arena, R + 1, ints),
      .h = moerun__arena_take(&arenas->rows, terms,
                              (size_t)moerun__sliced_h_bytes(moe)),
      .offer.time = moerun__arena_take(arena, R, sizeof(int64_t))};
  if (s != NULL) *s = taken;
  return s;
}

/* ---- Terms --------------------------------------------------------------- */

/* The expert that row i of the part wants as number j; -1: none. */
static int32_t expert_of(const moerun__wave_part *part, int32_t i, int32_t j) {
  int16_t id = 0;
  memcpy(&id,
         part->slots + (size_t)i * part->stride_bytes + (size_t)j * sizeof id,
         sizeof id);
  return id;
}

/* Terms of each part, and of each expert how many. */
static moerun_status count_terms(moerun__moe *moe) {
  moerun_status status = MOERUN_OK;
  const sliced_terms *s = moe->stage.work;
  moerun__wave *wave = &moe->exchange.wave;
  const int32_t E = moe->model->config.num_experts;
  const int32_t W = moe->gate.width;
  int32_t term = 0;
  memset(s->expert_offset, 0, ((size_t)E + 1) * sizeof(int32_t));
  for (int32_t p = 0; p < wave->num_parts; p++) {
    moerun__wave_part *part = &wave->part[p];
    part->first_result = term;
    for (int32_t i = 0; i < part->count * W; i++) {
      const int32_t id = expert_of(part, i / W, i % W);
      MOERUN_REQUIRE(id >= -1 && id < E, MOERUN_ERR_COMM,
                     "rank %d asked for expert %d: expected below %d",
                     part->peer, id, E);
      if (id < 0) continue;
      s->expert_offset[id + 1]++;
      term++;
    }
    part->num_results = term - part->first_result;
  }
  for (int32_t e = 0; e < E; e++) {
    s->expert_offset[e + 1] += s->expert_offset[e];
  }
done:
  return status;
}

/* Then their lists. */
static void group_terms(moerun__moe *moe) {
  const sliced_terms *s = moe->stage.work;
  const moerun__wave *wave = &moe->exchange.wave;
  const int32_t E = moe->model->config.num_experts;
  const int32_t W = moe->gate.width;
  int32_t term = 0;
  for (int32_t p = 0; p < wave->num_parts; p++) {
    const moerun__wave_part *part = &wave->part[p];
    for (int32_t i = 0; i < part->count * W; i++) {
      const int32_t id = expert_of(part, i / W, i % W);
      if (id < 0) continue;
      const int32_t at = s->expert_offset[id]++;
      s->row_of[at] = part->first_row + i / W;
      s->term_of[at] = term++;
    }
  }
  /* Each offset has become that of the next expert. */
  memmove(s->expert_offset + 1, s->expert_offset, (size_t)E * sizeof(int32_t));
  s->expert_offset[0] = 0;
}

/* ---- Experts ------------------------------------------------------------- */

/* Terms first .. first + M - 1 by expert, those of some slices, or a tile of
 * those of one, and of so many in the round. */
typedef struct tile {
  const moerun__expert *slice;
  const int32_t *offset; /* [num_slices + 1] of their terms, from first on */
  int32_t num_slices;
  int32_t first;
  int32_t M;
  int32_t terms;
} tile;

typedef void compute_tile(moerun__moe *moe, const tile *of);

static int32_t terms_of(const moerun__moe *moe) {
  const sliced_terms *s = moe->stage.work;
  return s->expert_offset[moe->model->config.num_experts];
}

/* The terms of a group, tile by tile: only a slice alone has more than one. */
static void for_tiles(moerun__moe *moe, const moerun__expert_group *group,
                      compute_tile *run) {
  const int32_t last = group->first + moerun__group_rows(group);
  int32_t alone[] = {0, 0};
  tile of = {.slice = group->expert,
             .offset = group->count == 1 ? alone : group->offset,
             .num_slices = group->count,
             .terms = terms_of(moe)};
  for (of.first = group->first; of.first < last; of.first += of.M) {
    of.M =
        last - of.first < MOERUN_FFN_TILE ? last - of.first : MOERUN_FFN_TILE;
    alone[1] = of.M;
    run(moe, &of);
  }
}

/* This rank's columns of h for a tile. */
static void compute_h(moerun__moe *moe, const tile *of) {
  const sliced_terms *s = moe->stage.work;
  const moerun__slice_shares *shares = moerun__store_shares(&moe->store);
  const moerun__kernels *k = moe->kernels;
  const int32_t rank = moe->model->comm->rank;
  const int32_t H = moe->model->config.hidden_width;
  const int32_t f = moerun__slice_h(shares, rank);
  const moerun__wire_rows rows =
      moerun__moe_rows(moe, moe->exchange.wave.rows, moe->shape.row_bytes);
  float *h = s->h +
             (size_t)shares->h_panel[rank] * MOERUN_PANEL * (size_t)of->terms +
             (size_t)of->first * (size_t)f;
  moerun__ffn ffn = moerun__moe_ffn(moe, of->slice, of->num_slices, of->offset);
  ffn.y = NULL;
  ffn.room.h = h;
  k->gather(moe->queue, moe->work.tile_x, &rows, s->row_of + of->first, of->M,
            H);
  const double began = moerun__now();
  for (int32_t times = 0; times < moe->step.slowness.compute; times++) {
    k->ffn(moe->queue, &ffn);
  }
  (void)moe->queue->device->wait(moe->queue);
  const moerun__model_config *config = &moe->model->config;
  const double fraction =
      (double)moerun__gate_up_outputs(config, f) * H /
      (double)moerun__expert_elements(config, config->expert_width);
  moerun__experts_note(moe, of->num_slices, of->M, fraction,
                       moerun__now() - began);
}

/* Rows of h, of which every rank has computed some columns. */
static void gather_h(moerun__moe *moe, const tile *of) {
  const sliced_terms *s = moe->stage.work;
  const moerun__slice_shares *shares = moerun__store_shares(&moe->store);
  const size_t F = (size_t)moe->model->config.expert_width;
  for (int32_t r = 0; r < moe->model->comm->size; r++) {
    const size_t column = (size_t)shares->h_panel[r] * MOERUN_PANEL;
    const size_t f = (size_t)moerun__slice_h(shares, r);
    const float *from =
        s->h + column * (size_t)of->terms + (size_t)of->first * f;
    const moerun__copies rows = {.to = moe->work.tile_h + column,
                                 .to_stride = F * sizeof *from,
                                 .from = from,
                                 .from_stride = f * sizeof *from,
                                 .bytes = f * sizeof *from,
                                 .count = of->M};
    moe->queue->device->copy_rows(moe->queue, &rows);
  }
}

/* This rank's columns of the results of a tile. */
static void compute_y(moerun__moe *moe, const tile *of) {
  const sliced_terms *s = moe->stage.work;
  const moerun__slice_shares *shares = moerun__store_shares(&moe->store);
  const int32_t y = moerun__slice_y(shares, moe->model->comm->rank);
  const int32_t F = moe->model->config.expert_width;
  const moerun__wave *wave = &moe->exchange.wave;
  const moerun__wire_rows columns =
      moerun__moe_rows(moe, wave->results, wave->result_bytes);
  gather_h(moe, of);
  const double began = moerun__now();
  for (int32_t times = 0; times < moe->step.slowness.compute; times++) {
    for (int32_t i = 0; i < of->num_slices; i++) {
      const size_t first = (size_t)of->offset[i];
      moe->kernels->linear(moe->queue, moe->work.tile_y + first * (size_t)y,
                           (size_t)y, moe->work.tile_h + first * (size_t)F,
                           (size_t)F, of->offset[i + 1] - of->offset[i],
                           &of->slice[i].down, moe->work.scratch);
    }
  }
  (void)moe->queue->device->wait(moe->queue);
  const double fraction =
      (double)y * F / (double)moerun__expert_elements(&moe->model->config, F);
  moerun__experts_note(moe, of->num_slices, of->M, fraction,
                       moerun__now() - began);
  moe->kernels->scatter(moe->queue, &columns, s->term_of + of->first,
                        moe->work.tile_y, of->M, y);
}

static moerun_status run_h(moerun__moe *moe, const moerun__layer *layer,
                           const moerun__expert_group *group) {
  (void)layer;
  for_tiles(moe, group, compute_h);
  return MOERUN_OK;
}

static moerun_status run_y(moerun__moe *moe, const moerun__layer *layer,
                           const moerun__expert_group *group) {
  (void)layer;
  for_tiles(moe, group, compute_y);
  return MOERUN_OK;
}

/* A wave of slices: each is wanted twice in a round, because h goes round in
 * between. */
static moerun_status run_slices(moerun__moe *moe, const moerun__layer *layer,
                                moerun__run_group *run) {
  const sliced_terms *s = moe->stage.work;
  return moerun__experts_run(moe, layer, moerun__slice_slot(0),
                             moe->model->config.num_experts,
                             s->expert_offset + 1, run);
}

/* Every rank computes a part of every row: of R of an expert each counts
 * one. */
static void count_rows(moerun__moe *moe, int32_t moe_layer) {
  const sliced_terms *s = moe->stage.work;
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

/* Columns of h of all ranks to all ranks. */
static moerun_status share_h(moerun__moe *moe) {
  const sliced_terms *s = moe->stage.work;
  const moerun__slice_shares *shares = moerun__store_shares(&moe->store);
  for (int32_t r = 0; r <= moe->model->comm->size; r++) {
    s->h_offset[r] = shares->h_panel[r] * terms_of(moe);
  }
  return moe->exchange.now->share(moe, s->h, MOERUN_PANEL * sizeof(float),
                                  s->h_offset);
}

static moerun_status run_wave(moerun__moe *moe, const moerun__layer *layer,
                              int32_t wave) {
  moerun_status status = MOERUN_OK;
  const moerun__slice_shares *shares = moerun__store_shares(&moe->store);
  const int32_t rank = moe->model->comm->rank;
  moerun__cpu_begin(moe->stats);
  if (wave == 0) moerun__experts_sleep(moe);
  MOERUN_TRY(count_terms(moe));
  group_terms(moe);
  if (moerun__slice_h(shares, rank) > 0) {
    MOERUN_TRY(run_slices(moe, layer, run_h));
  }
  MOERUN_TRY(moe->queue->device->wait(moe->queue));
  moerun__stage_end(moe->stats, MOERUN_STAGE_EXPERTS);
  moerun__cpu_end(moe->stats);
  MOERUN_TRY(share_h(moe));
  moerun__cpu_begin(moe->stats);
  if (moerun__slice_holds_y(shares, rank)) {
    MOERUN_TRY(run_slices(moe, layer, run_y));
  }
  MOERUN_TRY(moe->queue->device->wait(moe->queue));
  count_rows(moe, layer->moe_layer);
  moerun__stage_end(moe->stats, MOERUN_STAGE_EXPERTS);
  moerun__cpu_end(moe->stats);
done:
  return status;
}

const moerun__expert_stage moerun__stage_sliced = {
    .lay_out = lay_out,
    .compute = run_wave,
};
