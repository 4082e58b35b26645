/* The loop from routing to placement within a run.
 *
 * Each rank keeps the routing of its latest rows. At a look rank 0 gathers them,
 * solves for the older half of every rank's rows and judges by the newer one;
 * so what is predicted has been foretold, not learnt by heart. It decides alone
 * and broadcasts the verdict: all ranks do the same whatever their clocks and
 * processors are, and the verdict is a function of the routing. Solving takes
 * the steps it takes, no time limit is involved; meanwhile the others wait, for
 * as long as the transport lets them. */
#include "runtime/replace.h"

#include "placement/replan.h"
#include "runtime/base/arena.h"
#include "runtime/migrate.h"

#include <math.h>
#include <string.h>

/* In front of a rank's rows. */
typedef struct box_head {
  int64_t rows_fed; /* since the last look */
} box_head;

/* Rank 0's verdict. */
typedef struct verdict {
  int32_t status;
  int32_t moves;
  int64_t num_replicas; /* of the new placement */
  moerun__replace_count count;
} verdict;

struct moerun__replacer {
  moerun_session *session;
  moerun_model *model;
  moerun__replace_options options;
  int32_t capacity;    /* rows kept of this rank */
  int32_t spare_slots; /* beyond ceil(E / R) */
  size_t row_bytes;    /* of one row: L * K ids */
  size_t box_bytes;    /* head and rows */
  void *block;
  char *box;             /* own; rows in a ring */
  char *boxes;           /* [R][box_bytes], on rank 0 */
  int64_t *expert_bytes; /* [L] of packed weights */
  int64_t rows_fed;
  int32_t steps; /* since the last look */
  moerun__replace_count count;
  moerun_placement *current;      /* NULL: the one the model came with */
  moerun_placement *retired;      /* the one before, if it was made here */
  const moerun_placement *before; /* placement before the move of the last look;
                                     NULL: nothing moved                     */
};

/* ---- Create ------------------------------------------------------------------- */

static void size_replacer(moerun__replacer *r,
                          const moerun__model_config *config, int32_t num_ranks,
                          const moerun__replace_options *options) {
  r->options = *options;
  r->capacity = (options->window - 1) / num_ranks + 1;
  r->row_bytes = (size_t)config->num_moe_layers *
                 (size_t)config->experts_per_token * sizeof(int16_t);
  r->box_bytes = sizeof(box_head) + (size_t)r->capacity * r->row_bytes;
}

static void lay_out(moerun__replacer *r, const moerun__model_config *config,
                    int32_t num_ranks, int32_t rank, moerun__arena *arena) {
  r->box = moerun__arena_take(arena, r->box_bytes, 1);
  r->expert_bytes = moerun__arena_take(arena, (size_t)config->num_moe_layers,
                                       sizeof *r->expert_bytes);
  r->boxes = moerun__arena_take(arena, rank == 0 ? (size_t)num_ranks : 0,
                                r->box_bytes);
}

int32_t moerun__replacer_slots(const moerun_placement *placement) {
  const int32_t entries = placement->num_layers * placement->num_experts;
  int32_t slots = (placement->num_experts - 1) / placement->num_ranks + 1;
  if (placement->replica_offset[entries] == entries) return slots;
  for (int32_t r = 0; r < placement->num_ranks; r++) {
    const int32_t most = moerun__placement_max_slots(placement, r);
    if (most > slots) slots = most;
  }
  return slots;
}

size_t moerun__replacer_bytes(const moerun__model_config *config,
                              int32_t num_ranks, int32_t rank,
                              const moerun__replace_options *options) {
  moerun__replacer r;
  moerun__arena arena = {NULL, 0};
  size_replacer(&r, config, num_ranks, options);
  lay_out(&r, config, num_ranks, rank, &arena);
  return moerun__alloc_bytes(1, sizeof r) + moerun__alloc_bytes(arena.used, 1);
}

static moerun_status check(const moerun_session *session,
                           const moerun_model *model,
                           const moerun__replace_options *options) {
  moerun_status status = MOERUN_OK;
  const int32_t slots = moerun__replacer_slots(model->placement);
  MOERUN_REQUIRE(session->model == model && session->trace != NULL,
                 MOERUN_ERR_INVALID,
                 "replace: expected a session of this model that records its "
                 "routing");
  MOERUN_REQUIRE(options->every >= 1 && options->window >= 1,
                 MOERUN_ERR_INVALID,
                 "replace: expected 1 step and 1 token or more, found %d and "
                 "%d",
                 options->every, options->window);
  MOERUN_REQUIRE(session->moe.max_slots >= slots, MOERUN_ERR_INVALID,
                 "replace: expected a session with room for %d experts of a "
                 "layer, found %d",
                 slots, session->moe.max_slots);
done:
  return status;
}

static moerun_status create_local(moerun__replacer **out,
                                  moerun_session *session, moerun_model *model,
                                  const moerun__replace_options *options) {
  moerun_status status = MOERUN_OK;
  moerun__replacer *r = NULL;
  moerun__arena arena = {NULL, 0};
  const moerun_comm *comm = model->comm;
  MOERUN_TRY(check(session, model, options));
  MOERUN_TRY(moerun__alloc(&r, 1, sizeof *r));
  *out = r;
  r->session = session;
  r->model = model;
  r->spare_slots = moerun__replacer_slots(model->placement) -
                   (model->config.num_experts - 1) / comm->size - 1;
  size_replacer(r, &model->config, comm->size, options);
  lay_out(r, &model->config, comm->size, comm->rank, &arena);
  MOERUN_TRY(moerun__alloc_unset(&r->block, arena.used, 1));
  arena = (moerun__arena){r->block, 0};
  lay_out(r, &model->config, comm->size, comm->rank, &arena);
done:
  return status;
}

/* As packed; ranks that hold no expert of a layer learn its type. */
static moerun_status find_expert_bytes(moerun__replacer *r) {
  moerun_status status = MOERUN_OK;
  moerun_comm *comm = r->model->comm;
  const int32_t F = r->model->config.expert_width;
  const int32_t H = r->model->config.hidden_width;
  for (int32_t l = 0; l < r->model->config.num_layers; l++) {
    const moerun__layer *layer = &r->model->layers[l];
    if (layer->moe_layer < 0) continue;
    int64_t dtype =
        layer->num_slots > 0 ? (int64_t)layer->gate_up[0].dtype : INT32_MAX;
    MOERUN_TRY(comm->ops->minimum(comm, &dtype));
    r->expert_bytes[layer->moe_layer] =
        (int64_t)(moerun__weight_bytes((moerun__dtype)dtype, 2 * F, H) +
                  moerun__weight_bytes((moerun__dtype)dtype, H, F));
  }
done:
  return status;
}

moerun_status moerun__replacer_create(moerun__replacer **out,
                                      moerun_session *session,
                                      moerun_model *model,
                                      const moerun__replace_options *options) {
  *out = NULL;
  moerun_status status = moerun__comm_agree(
      model->comm, create_local(out, session, model, options));
  if (status == MOERUN_OK) status = find_expert_bytes(*out);
  if (status != MOERUN_OK) {
    moerun__replacer_destroy(*out);
    *out = NULL;
  }
  return status;
}

void moerun__replacer_destroy(moerun__replacer *r) {
  if (r == NULL) return;
  moerun_placement_destroy(r->current);
  moerun_placement_destroy(r->retired);
  moerun__free(r->block);
  moerun__free(r);
}

moerun__replace_count moerun__replacer_count(const moerun__replacer *r) {
  return r->count;
}

/* ---- What rank 0 sees ------------------------------------------------------------ */

static int32_t rows_kept(const moerun__replacer *r, int64_t rows_fed) {
  return rows_fed < r->capacity ? (int32_t)rows_fed : r->capacity;
}

/* All ranks' rows on rank 0, as many as the fullest ring has. */
static moerun_status gather(moerun__replacer *r, size_t *stride) {
  moerun_status status = MOERUN_OK;
  moerun_comm *comm = r->model->comm;
  const box_head head = {r->rows_fed};
  int64_t most = -(int64_t)rows_kept(r, r->rows_fed);
  memcpy(r->box, &head, sizeof head);
  MOERUN_TRY(comm->ops->minimum(comm, &most));
  *stride = sizeof head + (size_t)-most * r->row_bytes;
  MOERUN_TRY(comm->ops->gather(comm, r->boxes, r->box, *stride));
done:
  return status;
}

/* Rows first .. end of a box in the order of time, of `kept` that there are. */
static void copy_rows(const moerun__replacer *r, int16_t *ids, const char *box,
                      int64_t rows_fed, int32_t first, int32_t end) {
  const int64_t start = rows_fed > r->capacity ? rows_fed % r->capacity : 0;
  char *to = (char *)ids;
  for (int32_t i = first; i < end; i++) {
    const size_t row = (size_t)((start + i) % r->capacity);
    memcpy(to, box + sizeof(box_head) + row * r->row_bytes, r->row_bytes);
    to += r->row_bytes;
  }
}

/* What lies on rank 0 after the gathering. */
typedef struct view {
  const moerun__replacer *r;
  size_t stride; /* of boxes */
  int64_t rows_fed;
  moerun__trace *older; /* NULL: no rows */
  moerun__trace *newer;
} view;

static const char *box_of(const view *v, int32_t rank, int64_t *rows_fed) {
  const char *box = v->r->boxes + (size_t)rank * v->stride;
  box_head head;
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
  const size_t width = r->row_bytes / sizeof(int16_t);
  int64_t *offset = NULL;
  int64_t rows_fed = 0;
  MOERUN_TRY(moerun__alloc(&offset, (size_t)R + 1, sizeof *offset));
  for (int32_t rank = 0; rank < R; rank++) {
    (void)box_of(v, rank, &rows_fed);
    const int32_t kept = rows_kept(r, rows_fed);
    offset[rank + 1] = offset[rank] + (newer ? kept - kept / 2 : kept / 2);
  }
  if (offset[R] == 0) goto done;
  MOERUN_TRY(moerun__trace_create(out, offset[R], config->num_moe_layers,
                                  config->num_experts,
                                  config->experts_per_token));
  MOERUN_TRY(moerun__trace_set_sequences(*out, R, offset));
  MOERUN_TRY(moerun__alloc(&(*out)->home, (size_t)R, sizeof *(*out)->home));
  (*out)->num_ranks = R;
  for (int32_t rank = 0; rank < R; rank++) {
    const char *box = box_of(v, rank, &rows_fed);
    const int32_t kept = rows_kept(r, rows_fed);
    (*out)->home[rank] = rank;
    copy_rows(r, (*out)->ids + (size_t)offset[rank] * width, box, rows_fed,
              newer ? kept / 2 : 0, newer ? kept : kept / 2);
  }
done:
  moerun__free(offset);
  return status;
}

static moerun_status open_view(view *v) {
  moerun_status status = MOERUN_OK;
  for (int32_t rank = 0; rank < v->r->model->comm->size; rank++) {
    int64_t rows_fed = 0;
    (void)box_of(v, rank, &rows_fed);
    v->rows_fed += rows_fed;
  }
  MOERUN_TRY(make_half(&v->older, v, 0));
  MOERUN_TRY(make_half(&v->newer, v, 1));
done:
  return status;
}

static void close_view(view *v) {
  moerun__trace_destroy(v->older);
  moerun__trace_destroy(v->newer);
}

/* ---- The verdict of rank 0 --------------------------------------------------------- */

static moerun__replan_costs costs_of(const moerun__replacer *r) {
  const moerun__model_config *config = &r->model->config;
  return (moerun__replan_costs){
      .copy_bytes = (int64_t)moerun__copy_bytes(config, r->session->moe.wire),
      .result_bytes =
          (int64_t)moerun__result_bytes(config, r->session->moe.wire),
      .expert_bytes = r->expert_bytes,
      .spare_slots = r->spare_slots};
}

/* *bytes += sign * bytes of rows of all layers. */
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
  const moerun__replacer *r = v->r;
  const moerun__trace *const halves[] = {v->older, v->newer};
  int64_t bytes = 0;
  int64_t kept = 0;
  for (int h = 0; h < 2 && r->before != NULL; h++) {
    if (halves[h] == NULL) continue;
    kept += halves[h]->num_tokens;
    MOERUN_TRY(add_bytes(&bytes, r, r->before, halves[h], 1));
    MOERUN_TRY(add_bytes(&bytes, r, r->model->placement, halves[h], -1));
  }
  if (kept == 0) goto done;
  count->bytes_counted +=
      llround((double)bytes * (double)v->rows_fed / (double)kept);
done:
  return status;
}

/* *next: the placement to move to, or NULL. */
static moerun_status decide(const view *v, moerun__replace_count *count,
                            moerun_placement **next) {
  moerun_status status = MOERUN_OK;
  moerun__replan_verdict found;
  moerun__replan_costs costs = costs_of(v->r);
  count->looks++;
  if (v->older == NULL || v->newer == NULL) goto done;
  costs.horizon = (double)v->rows_fed / (double)v->newer->num_tokens;
  MOERUN_TRY(moerun__replan(&found, v->r->model->placement, v->older, v->newer,
                            &costs));
  *next = found.placement;
  if (*next == NULL) goto done;
  count->moves++;
  count->experts_moved += found.experts_moved;
  count->bytes_moved += found.bytes_moved;
  count->bytes_predicted += found.bytes_saved;
done:
  return status;
}

/* ---- All ranks ---------------------------------------------------------------------- */

/* Rank 0's `next` everywhere. */
static moerun_status share(moerun__replacer *r, moerun_placement **next,
                           int64_t num_replicas) {
  moerun_status status = MOERUN_OK;
  moerun_comm *comm = r->model->comm;
  const moerun_placement *now = r->model->placement;
  const size_t entries = (size_t)now->num_layers * (size_t)now->num_experts + 1;
  const size_t replicas = (size_t)num_replicas;
  int32_t *offset = NULL;
  int32_t *rank_of = NULL;
  status = moerun__alloc(&offset, entries, sizeof *offset);
  if (status == MOERUN_OK) {
    status = moerun__alloc(&rank_of, replicas, sizeof *rank_of);
  }
  MOERUN_TRY(moerun__comm_agree(comm, status));
  if (*next != NULL) {
    memcpy(offset, (*next)->replica_offset, entries * sizeof *offset);
    memcpy(rank_of, (*next)->rank_of, replicas * sizeof *rank_of);
  }
  MOERUN_TRY(comm->ops->broadcast(comm, offset, entries * sizeof *offset));
  MOERUN_TRY(comm->ops->broadcast(comm, rank_of, replicas * sizeof *rank_of));
  if (*next == NULL) {
    status =
        moerun__placement_create(next, now->num_layers, now->num_experts,
                                 now->num_ranks, offset, rank_of, "replaced");
  }
  MOERUN_TRY(moerun__comm_agree(comm, status));
done:
  moerun__free(offset);
  moerun__free(rank_of);
  return status;
}

/* The last move has been accounted for. */
static void retire(moerun__replacer *r) {
  moerun_placement_destroy(r->retired);
  r->retired = NULL;
  r->before = NULL;
}

/* Takes `next`. */
static moerun_status move(moerun__replacer *r, moerun_placement *next) {
  moerun_status status = MOERUN_OK;
  int64_t moved = 0;
  const moerun_placement *before = r->model->placement;
  MOERUN_TRY(moerun__session_replace(r->session, r->model, next, &moved));
  r->before = before;
  r->retired = r->current;
  r->current = next;
  next = NULL;
done:
  moerun_placement_destroy(next);
  return status;
}

/* Accounts for the last move, and with `decides` makes the next one. */
static moerun_status look(moerun__replacer *r, int decides) {
  moerun_status status = MOERUN_OK;
  moerun_comm *comm = r->model->comm;
  moerun_placement *next = NULL;
  view v = {.r = r};
  verdict word = {.count = r->count};
  moerun__stage_begin(&r->session->stats);
  MOERUN_TRY(gather(r, &v.stride));
  if (comm->rank == 0) {
    moerun_status found = open_view(&v);
    if (found == MOERUN_OK) found = count_saved(&v, &word.count);
    if (found == MOERUN_OK && decides) found = decide(&v, &word.count, &next);
    close_view(&v);
    word.status = (int32_t)found;
    word.moves = next != NULL;
    if (next != NULL) {
      const int32_t entries = next->num_layers * next->num_experts;
      word.num_replicas = next->replica_offset[entries];
    }
  }
  MOERUN_TRY(comm->ops->broadcast(comm, &word, sizeof word));
  if (comm->rank == 0) MOERUN_TRY((moerun_status)word.status);
  MOERUN_REQUIRE(word.status == MOERUN_OK, MOERUN_ERR_PEER,
                 "rank 0 reported: %s",
                 moerun_status_string((moerun_status)word.status));
  r->count = word.count;
  r->rows_fed = 0;
  r->steps = 0;
  retire(r);
  if (word.moves) {
    MOERUN_TRY(share(r, &next, word.num_replicas));
    moerun_placement *taken = next;
    next = NULL;
    MOERUN_TRY(move(r, taken));
  }
  moerun__stage_end(&r->session->stats, MOERUN_STAGE_REPLACE);
done:
  moerun_placement_destroy(next);
  return status;
}

moerun_status moerun__replacer_step(moerun__replacer *r, int32_t T) {
  if (r->model->comm->size == 1) return MOERUN_OK; /* all rows are at home */
  for (int32_t t = 0; t < T; t++) {
    const size_t row = (size_t)(r->rows_fed++ % r->capacity);
    memcpy(r->box + sizeof(box_head) + row * r->row_bytes,
           (const char *)r->session->trace + (size_t)t * r->row_bytes,
           r->row_bytes);
  }
  return ++r->steps < r->options.every ? MOERUN_OK : look(r, 1);
}

moerun_status moerun__replacer_end(moerun__replacer *r) {
  return r->before != NULL ? look(r, 0) : MOERUN_OK;
}
