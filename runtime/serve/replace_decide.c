/* What one rank decides at a look, for one layer of its share: from the rows of
 * all ranks, the older half of each to solve for and the newer to judge by. */
#include "runtime/serve/replacer.h"

#include "placement/methods/replan.h"
#include "runtime/base/memory.h"

#include <math.h>
#include <string.h>

/* ---- The routing of late ------------------------------------------------- */

/* What is seen of a layer. */
typedef struct view {
  const moerun__replacer *r;
  int32_t layer;         /* MoE layer */
  int64_t rows_fed;      /* since the last look */
  int64_t rows_calm;     /* since a speed changed */
  moerun_placement *now; /* this layer alone, as the next two */
  moerun__trace *older;  /* NULL: no rows */
  moerun__trace *newer;
} view;

/* Rows first .. end of a box in the order of time. */
static void copy_rows(const view *v, int16_t *ids, const char *box,
                      int64_t rows_fed, int32_t first, int32_t end) {
  const moerun__replacer *r = v->r;
  const int64_t start = rows_fed > r->capacity ? rows_fed % r->capacity : 0;
  const size_t bytes =
      (size_t)moerun__config_terms(&r->model->config) * sizeof(int16_t);
  char *to = (char *)ids;
  for (int32_t i = first; i < end; i++) {
    const size_t row = (size_t)((start + i) % r->capacity);
    const char *from = box + sizeof(moerun__box_head) + row * r->row_bytes;
    memcpy(to, from + (size_t)v->layer * bytes, bytes);
    to += bytes;
  }
}

static const char *box_of(const view *v, int32_t rank, moerun__box_head *head) {
  const char *box = v->r->boxes + (size_t)rank * v->r->stride;
  memcpy(head, box, sizeof *head);
  return box;
}

/* One half of every rank's rows: a sequence each, at home there. */
static moerun_status make_half(moerun__trace **out, const view *v, int newer) {
  moerun_status status = MOERUN_OK;
  const moerun__replacer *r = v->r;
  const moerun__model_config *config = &r->model->config;
  const int32_t R = r->model->comm->size;
  const size_t width = (size_t)moerun__config_terms(config);
  int64_t *offset = NULL;
  moerun__box_head head;
  MOERUN_TRY(moerun__alloc(&offset, (size_t)R + 1, sizeof *offset));
  for (int32_t rank = 0; rank < R; rank++) {
    (void)box_of(v, rank, &head);
    const int32_t kept = moerun__replacer_kept(r, head.rows_fed);
    offset[rank + 1] = offset[rank] + (newer ? kept - kept / 2 : kept / 2);
  }
  if (offset[R] == 0) goto done;
  MOERUN_TRY(moerun__trace_create(out, offset[R], 1, config->num_experts,
                                  moerun__config_terms(config)));
  MOERUN_TRY(moerun__trace_set_sequences(*out, R, offset));
  MOERUN_TRY(moerun__alloc(&(*out)->home, (size_t)R, sizeof *(*out)->home));
  (*out)->num_ranks = R;
  for (int32_t rank = 0; rank < R; rank++) {
    const char *box = box_of(v, rank, &head);
    const int32_t kept = moerun__replacer_kept(r, head.rows_fed);
    (*out)->home[rank] = rank;
    copy_rows(v, (*out)->ids + (size_t)offset[rank] * width, box, head.rows_fed,
              newer ? kept / 2 : 0, newer ? kept : kept / 2);
  }
done:
  moerun__free(offset);
  return status;
}

static moerun_status open_view(view *v) {
  moerun_status status = MOERUN_OK;
  for (int32_t rank = 0; rank < v->r->model->comm->size; rank++) {
    moerun__box_head head;
    (void)box_of(v, rank, &head);
    v->rows_fed += head.rows_fed;
    v->rows_calm += head.rows_calm;
  }
  MOERUN_TRY(moerun__placement_join(&v->now, 1, &v->r->model->placement,
                                    &v->layer, ""));
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

/* ---- What a rank decides ------------------------------------------------- */

static moerun__replan_costs costs_of(const view *v) {
  const moerun__replacer *r = v->r;
  const moerun__model_config *config = &r->model->config;
  return (moerun__replan_costs){
      .copy_bytes =
          (int64_t)moerun__copy_bytes(config, r->session->moe.shape.wire),
      .result_bytes =
          (int64_t)moerun__result_bytes(config, r->session->moe.shape.wire),
      .expert_bytes = &r->expert_bytes[v->layer / r->model->comm->size],
      .spare_slots = r->spare_slots,
      .speed = r->lasting.is_weighed ? r->lasting.relative : NULL,
      .rows_per_expert = r->rows_per_expert,
      .is_quick = r->is_quick};
}

/* *bytes += sign * bytes of rows of the placement, of this layer. */
static moerun_status add_bytes(int64_t *bytes, const view *v,
                               const moerun_placement *placement,
                               const moerun__trace *trace, int64_t sign) {
  moerun_status status = MOERUN_OK;
  const moerun__replan_costs costs = costs_of(v);
  int64_t of_layer = 0;
  MOERUN_TRY(moerun__replan_bytes(&of_layer, placement, trace, &costs));
  *bytes += sign * of_layer;
done:
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
  MOERUN_TRY(moerun__placement_join(&before, 1, &v->r->before, &v->layer, ""));
  for (int h = 0; h < 2; h++) {
    if (halves[h] == NULL) continue;
    kept += halves[h]->num_tokens;
    MOERUN_TRY(add_bytes(&bytes, v, before, halves[h], 1));
    MOERUN_TRY(add_bytes(&bytes, v, v->now, halves[h], -1));
  }
  if (kept == 0) goto done;
  count->bytes_counted +=
      llround((double)bytes * (double)v->rows_fed / (double)kept);
done:
  moerun_placement_destroy(before);
  return status;
}

/* What was to move to r->next and has not. */
static void take_back(const view *v, moerun__replace_count *count) {
  const moerun__replacer *r = v->r;
  if (r->next == NULL) return;
  const int64_t lacking =
      moerun__replan_lacking(r->model->placement, r->next, v->layer);
  count->experts_moved -= lacking;
  count->bytes_moved -=
      lacking * r->expert_bytes[v->layer / r->model->comm->size];
}

/* The layer as it is in `next`, into own part. */
static void write_layer(const view *v, const moerun_placement *next) {
  const moerun__replacer *r = v->r;
  int32_t *hosted = moerun__replacer_hosted(r, r->part, v->layer);
  for (int32_t rank = 0; rank < next->num_ranks; rank++) {
    (void)moerun__placement_experts(next, 0, rank,
                                    hosted + (size_t)rank * (size_t)r->slots);
  }
  hosted[-1] = 1;
}

moerun_status moerun__replacer_decide(moerun__replacer *r,
                                      moerun__replace_count *count,
                                      int32_t layer) {
  moerun_status status = MOERUN_OK;
  moerun__replan_verdict found = {0};
  view v = {.r = r, .layer = layer};
  MOERUN_TRY(open_view(&v));
  MOERUN_TRY(count_saved(&v, count));
  take_back(&v, count);
  if (!r->decides || v.older == NULL || v.newer == NULL) goto done;
  moerun__replan_costs costs = costs_of(&v);
  const int64_t rows = r->options.every > 0 ? v.rows_fed : v.rows_calm;
  costs.horizon = (double)rows / (double)v.newer->num_tokens;
  MOERUN_TRY(moerun__replan(&found, v.now, v.older, v.newer, &costs));
  count->experts_moved += found.experts_moved;
  count->bytes_moved += found.bytes_moved;
  count->bytes_predicted += found.bytes_saved;
  count->rows_predicted += found.rows_saved;
  if (found.placement != NULL) write_layer(&v, found.placement);
done:
  close_view(&v);
  moerun_placement_destroy(found.placement);
  return status;
}
