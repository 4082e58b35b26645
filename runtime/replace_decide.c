/* What one rank decides at a look, for its share of the layers: from the rows of
 * all ranks, the older half of each to solve for and the newer to judge by. */
#include "runtime/replacer.h"

#include "placement/replan.h"
#include "runtime/base/memory.h"

#include <math.h>
#include <string.h>

/* ---- The routing of late ------------------------------------------------------- */

/* Rows first .. end of a box in the order of time, of this rank's layers. */
static void copy_rows(const moerun__replacer *r, int16_t *ids, const char *box,
                      int64_t rows_fed, int32_t first, int32_t end) {
  const int64_t start = rows_fed > r->capacity ? rows_fed % r->capacity : 0;
  const size_t bytes =
      (size_t)moerun__config_terms(&r->model->config) * sizeof(int16_t);
  char *to = (char *)ids;
  for (int32_t i = first; i < end; i++) {
    const size_t row = (size_t)((start + i) % r->capacity);
    const char *from = box + sizeof(moerun__box_head) + row * r->row_bytes;
    for (int32_t l = 0; l < r->own_layers; l++) {
      const int32_t layer = l * r->model->comm->size + r->model->comm->rank;
      memcpy(to, from + (size_t)layer * bytes, bytes);
      to += bytes;
    }
  }
}

/* What a rank sees for its layers. */
typedef struct view {
  const moerun__replacer *r;
  size_t stride; /* of boxes */
  int64_t rows_fed;
  moerun_placement *now; /* own layers of the present one */
  moerun__trace *older;  /* NULL: no rows */
  moerun__trace *newer;
} view;

static const char *box_of(const view *v, int32_t rank, int64_t *rows_fed) {
  const char *box = v->r->boxes + (size_t)rank * v->stride;
  moerun__box_head head;
  memcpy(&head, box, sizeof head);
  *rows_fed = head.rows_fed;
  return box;
}

/* One half of every rank's rows: a sequence each, at home there. */
static moerun_status make_half(moerun__trace **out, const view *v, int newer) {
  moerun_status status = MOERUN_OK;
  const moerun__replacer *r = v->r;
  const moerun__model_config *config = &r->model->config;
  const int32_t R = r->model->comm->size;
  const size_t width =
      (size_t)r->own_layers * (size_t)moerun__config_terms(config);
  int64_t *offset = NULL;
  int64_t rows_fed = 0;
  MOERUN_TRY(moerun__alloc(&offset, (size_t)R + 1, sizeof *offset));
  for (int32_t rank = 0; rank < R; rank++) {
    (void)box_of(v, rank, &rows_fed);
    const int32_t kept = moerun__replacer_kept(r, rows_fed);
    offset[rank + 1] = offset[rank] + (newer ? kept - kept / 2 : kept / 2);
  }
  if (offset[R] == 0) goto done;
  MOERUN_TRY(moerun__trace_create(out, offset[R], r->own_layers,
                                  config->num_experts,
                                  moerun__config_terms(config)));
  MOERUN_TRY(moerun__trace_set_sequences(*out, R, offset));
  MOERUN_TRY(moerun__alloc(&(*out)->home, (size_t)R, sizeof *(*out)->home));
  (*out)->num_ranks = R;
  for (int32_t rank = 0; rank < R; rank++) {
    const char *box = box_of(v, rank, &rows_fed);
    const int32_t kept = moerun__replacer_kept(r, rows_fed);
    (*out)->home[rank] = rank;
    copy_rows(r, (*out)->ids + (size_t)offset[rank] * width, box, rows_fed,
              newer ? kept / 2 : 0, newer ? kept : kept / 2);
  }
done:
  moerun__free(offset);
  return status;
}

/* This rank's layers of a placement. */
static moerun_status take_own(moerun_placement **out,
                              const moerun_placement *placement, int32_t rank) {
  moerun_status status = MOERUN_OK;
  int32_t *offset = NULL;
  int32_t *rank_of = NULL;
  const int32_t E = placement->num_experts;
  const int32_t R = placement->num_ranks;
  const int32_t own = moerun__replacer_layers(placement, rank) * E;
  const int32_t entries = placement->num_layers * E;
  MOERUN_TRY(moerun__alloc(&offset, (size_t)own + 1, sizeof *offset));
  MOERUN_TRY(moerun__alloc(&rank_of, (size_t)placement->replica_offset[entries],
                           sizeof *rank_of));
  int32_t next = 0;
  for (int32_t n = 0; n < own; n++) {
    const int32_t from = (n / E * R + rank) * E + n % E;
    offset[n] = next;
    for (int32_t i = placement->replica_offset[from];
         i < placement->replica_offset[from + 1]; i++) {
      rank_of[next++] = placement->rank_of[i];
    }
  }
  offset[own] = next;
  MOERUN_TRY(moerun__placement_create(out, own / E, E, R, offset, rank_of, ""));
done:
  moerun__free(offset);
  moerun__free(rank_of);
  return status;
}

static moerun_status open_view(view *v) {
  moerun_status status = MOERUN_OK;
  for (int32_t rank = 0; rank < v->r->model->comm->size; rank++) {
    int64_t rows_fed = 0;
    (void)box_of(v, rank, &rows_fed);
    v->rows_fed += rows_fed;
  }
  MOERUN_TRY(
      take_own(&v->now, v->r->model->placement, v->r->model->comm->rank));
  MOERUN_TRY(make_half(&v->older, v, 0));
  MOERUN_TRY(make_half(&v->newer, v, 1));
done:
  return status;
}

static void close_view(view *v) {
  moerun_placement_destroy(v->now);
  moerun__trace_destroy(v->older);
  moerun__trace_destroy(v->newer);
}

/* ---- What a rank decides ----------------------------------------------------------- */

static moerun__replan_costs costs_of(const moerun__replacer *r) {
  const moerun__model_config *config = &r->model->config;
  const int32_t rows = r->session->moe.plan_options.min_rows;
  return (moerun__replan_costs){
      .copy_bytes = (int64_t)moerun__copy_bytes(config, r->session->moe.wire),
      .result_bytes =
          (int64_t)moerun__result_bytes(config, r->session->moe.wire),
      .expert_bytes = r->expert_bytes,
      .spare_slots = r->spare_slots,
      .speed = r->lasting.counts ? r->lasting.relative : NULL,
      .rows_per_expert = rows > 1 ? rows : 1};
}

/* *bytes += sign * bytes of rows of the placement, of own layers. */
static moerun_status add_bytes(int64_t *bytes, const moerun__replacer *r,
                               const moerun_placement *placement,
                               const moerun__trace *trace, int64_t sign) {
  moerun_status status = MOERUN_OK;
  const moerun__replan_costs costs = costs_of(r);
  const size_t L = (size_t)placement->num_layers;
  int64_t *of_layer = NULL;
  MOERUN_TRY(moerun__alloc(&of_layer, L, sizeof *of_layer));
  MOERUN_TRY(moerun__replan_bytes(of_layer, placement, trace, &costs));
  for (size_t l = 0; l < L; l++) {
    *bytes += sign * of_layer[l];
  }
done:
  moerun__free(of_layer);
  return status;
}

/* What the last move has saved since: exact where the window held all rows. */
static moerun_status count_saved(const view *v, moerun__replace_count *count) {
  moerun_status status = MOERUN_OK;
  const moerun__trace *const halves[] = {v->older, v->newer};
  moerun_placement *before = NULL;
  int64_t bytes = 0;
  int64_t kept = 0;
  if (v->r->before == NULL) return MOERUN_OK;
  MOERUN_TRY(take_own(&before, v->r->before, v->r->model->comm->rank));
  for (int h = 0; h < 2; h++) {
    if (halves[h] == NULL) continue;
    kept += halves[h]->num_tokens;
    MOERUN_TRY(add_bytes(&bytes, v->r, before, halves[h], 1));
    MOERUN_TRY(add_bytes(&bytes, v->r, v->now, halves[h], -1));
  }
  if (kept == 0) goto done;
  count->bytes_counted =
      llround((double)bytes * (double)v->rows_fed / (double)kept);
done:
  moerun_placement_destroy(before);
  return status;
}

/* The layers of `next` that differ from what there is, into own part. */
static void write_layers(const view *v, const moerun_placement *next) {
  const moerun__replacer *r = v->r;
  int32_t *ints = (int32_t *)(r->part + sizeof(moerun__part_head));
  for (int32_t l = 0; l < r->own_layers; l++) {
    int32_t *hosted = ints + (size_t)l * r->layer_ints + 1;
    memset(hosted, 0xff, (r->layer_ints - 1) * sizeof *hosted);
    hosted[-1] = 0;
    if (next == NULL || moerun__replan_same(next, v->now, l)) continue;
    hosted[-1] = 1;
    for (int32_t rank = 0; rank < next->num_ranks; rank++) {
      (void)moerun__placement_experts(next, l, rank,
                                      hosted + (size_t)rank * (size_t)r->slots);
    }
  }
}

moerun_status moerun__replacer_decide(moerun__replacer *r,
                                      moerun__replace_count *count,
                                      size_t stride, int decides) {
  moerun_status status = MOERUN_OK;
  moerun__replan_verdict found = {0};
  moerun__replan_costs costs = costs_of(r);
  view v = {.r = r, .stride = stride};
  write_layers(&v, NULL);
  if (r->own_layers == 0) goto done;
  MOERUN_TRY(open_view(&v));
  MOERUN_TRY(count_saved(&v, count));
  if (!decides || v.older == NULL || v.newer == NULL) goto done;
  costs.horizon = (double)v.rows_fed / (double)v.newer->num_tokens;
  MOERUN_TRY(moerun__replan(&found, v.now, v.older, v.newer, &costs));
  count->experts_moved = found.experts_moved;
  count->bytes_moved = found.bytes_moved;
  count->bytes_predicted = found.bytes_saved;
  count->rows_predicted = found.rows_saved;
  if (found.placement != NULL) write_layers(&v, found.placement);
done:
  close_view(&v);
  moerun_placement_destroy(found.placement);
  return status;
}
