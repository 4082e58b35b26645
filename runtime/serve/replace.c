/* The loop from routing to placement within a run.
 *
 * Each rank keeps the routing of its latest rows. At a look all ranks get all
 * of it, by way of rank 0, and each decides for the layers number rank, rank +
 * R, …: it solves for the older half of every rank's rows and judges by the
 * newer one, so that what is predicted has been foretold, not learnt by heart
 * (replace_decide.c). Ranks decide beside their steps (replace_solve.c); after
 * the first step in which all of them have, rank 0 puts the layers together and
 * broadcasts the outcome (replace_join.c). Then one layer that changes moves
 * after each step, so that no step waits for more than that.
 *
 * Not beside the steps, a look ends in the step that it began in: then the
 * steps in which experts move depend on no clock. */
#include "runtime/serve/replacer.h"

#include "placement/methods/replan.h"
#include "runtime/base/arena.h"
#include "runtime/base/memory.h"
#include "runtime/serve/migrate.h"

#include <string.h>

/* ---- Create -------------------------------------------------------------- */

int32_t moerun__replacer_slots(const moerun_placement *placement,
                               int32_t spare_slots) {
  const int32_t E = placement->num_experts;
  const int32_t entries = placement->num_layers * E;
  int32_t slots = (E - 1) / placement->num_ranks + 1;
  slots = spare_slots < E - slots ? slots + spare_slots : E;
  if (placement->replica_offset[entries] == entries) return slots;
  return placement->most_slots > slots ? placement->most_slots : slots;
}

int32_t moerun__replacer_spare(int32_t num_experts, int32_t num_ranks) {
  const int32_t slow = (num_ranks + 7) / 8;
  const int32_t even = (num_experts - 1) / num_ranks + 1;
  if (slow >= num_ranks) return 0;
  const int32_t spare = (slow * even - 1) / (num_ranks - slow) + 1;
  return spare < num_experts - even ? spare : num_experts - even;
}

int32_t moerun__replacer_layers(const moerun_placement *placement,
                                int32_t rank) {
  const int32_t R = placement->num_ranks;
  return (placement->num_layers - rank + R - 1) / R;
}

static void size_replacer(moerun__replacer *r,
                          const moerun__model_config *config,
                          const moerun_placement *placement, int32_t rank,
                          const moerun__replace_options *options) {
  const int32_t R = placement->num_ranks;
  r->options = *options;
  r->capacity = (options->window - 1) / R + 1;
  r->row_bytes = (size_t)config->num_moe_layers *
                 (size_t)moerun__config_terms(config) * sizeof(int16_t);
  r->box_bytes = sizeof(moerun__box_head) + (size_t)r->capacity * r->row_bytes;
  r->slots = moerun__replacer_slots(placement, options->spare_slots);
  r->spare_slots = r->slots - (placement->num_experts - 1) / R - 1;
  r->own_layers = moerun__replacer_layers(placement, rank);
  r->layer_ints = 1 + (size_t)R * (size_t)r->slots;
  r->part_bytes = sizeof(moerun__part_head) +
                  (size_t)moerun__replacer_layers(placement, 0) *
                      r->layer_ints * sizeof(int32_t);
}

static void lay_out(moerun__replacer *r, int32_t num_ranks, int32_t rank,
                    moerun__arena *arena) {
  const size_t R = (size_t)num_ranks;
  r->box = moerun__arena_take(arena, r->box_bytes, 1);
  r->boxes = moerun__arena_take(arena, R, r->box_bytes);
  r->part = moerun__arena_take(arena, r->part_bytes, 1);
  r->parts = moerun__arena_take(arena, rank == 0 ? R : 0, r->part_bytes);
  r->expert_bytes =
      moerun__arena_take(arena, (size_t)r->own_layers, sizeof *r->expert_bytes);
  moerun__lasting_lay_out(&r->lasting, arena, num_ranks);
}

size_t moerun__replacer_bytes(const moerun__model_config *config,
                              const moerun_placement *placement, int32_t rank,
                              const moerun__replace_options *options) {
  moerun__replacer r;
  moerun__arena arena = {NULL, 0};
  size_replacer(&r, config, placement, rank, options);
  lay_out(&r, placement->num_ranks, rank, &arena);
  return moerun__alloc_bytes(1, sizeof r) + moerun__alloc_bytes(arena.used, 1);
}

static moerun_status check(const moerun_session *session,
                           const moerun_model *model,
                           const moerun__replace_options *options) {
  moerun_status status = MOERUN_OK;
  const int32_t slots =
      moerun__replacer_slots(model->placement, options->spare_slots);
  MOERUN_REQUIRE(moerun__store_has_all_weights(&session->moe.store),
                 MOERUN_ERR_UNSUPPORTED,
                 "replace: expected all weights in the model's own slots, from "
                 "where experts move, found a tier of others");
  MOERUN_REQUIRE(session->model == model && session->trace != NULL,
                 MOERUN_ERR_INVALID,
                 "replace: expected a session of this model that records its "
                 "routing");
  MOERUN_REQUIRE(options->every >= 0 && options->window >= 1 &&
                     options->spare_slots >= 0,
                 MOERUN_ERR_INVALID,
                 "replace: expected steps from 0, 1 token or more and spare "
                 "slots from 0, found %d, %d and %d",
                 options->every, options->window, options->spare_slots);
  MOERUN_REQUIRE(session->moe.shape.max_slots >= slots, MOERUN_ERR_INVALID,
                 "replace: expected a session with room for %d experts of a "
                 "layer, found %d",
                 slots, session->moe.shape.max_slots);
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
  size_replacer(r, &model->config, model->placement, comm->rank, options);
  lay_out(r, comm->size, comm->rank, &arena);
  MOERUN_TRY(moerun__alloc_unset(&r->block, arena.used, 1));
  arena = (moerun__arena){r->block, 0};
  lay_out(r, comm->size, comm->rank, &arena);
  moerun__lasting_clear(&r->lasting);
done:
  return status;
}

/* As packed. */
static moerun_status find_expert_bytes(moerun__replacer *r) {
  moerun_status status = MOERUN_OK;
  const moerun_comm *comm = r->model->comm;
  for (int32_t l = 0; l < r->model->config.num_moe_layers; l++) {
    moerun__expert_shape shape;
    MOERUN_TRY(moerun__model_expert_shape(&shape, r->model, l));
    if (l % comm->size != comm->rank) continue;
    r->expert_bytes[l / comm->size] = (int64_t)moerun__expert_bytes(&shape);
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

void moerun__replacer_stop(moerun__replacer *r) {
  moerun__replacer_join(r, 1);
}

void moerun__replacer_destroy(moerun__replacer *r) {
  if (r == NULL) return;
  moerun__replacer_stop(r);
  moerun_placement_destroy(r->next);
  moerun_placement_destroy(r->current);
  moerun_placement_destroy(r->retired);
  moerun__free(r->block);
  moerun__free(r);
}

moerun__replace_count moerun__replacer_count(const moerun__replacer *r) {
  return r->count;
}

/* ---- What all ranks see -------------------------------------------------- */

/* All ranks' rows on all ranks, as many as the fullest ring has. */
static moerun_status gather(moerun__replacer *r) {
  moerun_status status = MOERUN_OK;
  moerun_comm *comm = r->model->comm;
  const moerun__speed *own = &r->session->moe.balance.speed;
  const moerun__box_head head = {r->rows_fed, r->rows_calm, own->applied,
                                 own->changes};
  int64_t most = -(int64_t)moerun__replacer_kept(r, r->rows_fed);
  memcpy(r->box, &head, sizeof head);
  MOERUN_TRY(comm->ops->minimum(comm, &most));
  r->stride = sizeof head + (size_t)-most * r->row_bytes;
  MOERUN_TRY(comm->ops->gather(comm, r->boxes, r->box, r->stride));
  MOERUN_TRY(
      comm->ops->broadcast(comm, r->boxes, (size_t)comm->size * r->stride));
done:
  return status;
}

/* Looks that speeds have called for come after they have lasted. */
static void see_speeds(moerun__replacer *r) {
  for (int32_t rank = 0; rank < r->model->comm->size; rank++) {
    moerun__box_head head;
    memcpy(&head, r->boxes + (size_t)rank * r->stride, sizeof head);
    moerun__lasting_see(&r->lasting, rank, (int32_t)head.speed,
                        r->options.every > 0 ? head.speed_changes
                                             : r->lasting.changes[rank]);
  }
  const int changes = moerun__lasting_conclude(&r->lasting);
  r->is_quick = changes || r->options.every == 0;
}

/* ---- Moves --------------------------------------------------------------- */

/* Adopts a placement made here. That before the first move of a look is kept
 * until the next look has counted by it. */
static moerun_status adopt(moerun__replacer *r, moerun_placement *placement) {
  moerun_status status = MOERUN_OK;
  int64_t moved = 0;
  const moerun_placement *now = r->model->placement;
  MOERUN_TRY(moerun__session_replace(r->session, r->model, placement, &moved));
  if (r->before == NULL) {
    r->before = now;
    r->retired = r->current;
  } else {
    moerun_placement_destroy(r->current);
  }
  r->current = placement;
  placement = NULL;
done:
  moerun_placement_destroy(placement);
  return status;
}

static void end_moves(moerun__replacer *r) {
  moerun_placement_destroy(r->next);
  r->next = NULL;
  r->rows_fed = 0;
  r->steps = 0;
  r->phase = MOERUN_REPLACER_WATCHES;
}

/* The first layer that is not yet as in r->next, or L. */
static int32_t next_change(const moerun__replacer *r) {
  const moerun_placement *now = r->model->placement;
  int32_t l = 0;
  while (l < now->num_layers && moerun__replan_same(r->next, now, l)) {
    l++;
  }
  return l;
}

/* One layer. */
static moerun_status move_layer(moerun__replacer *r) {
  moerun_status status = MOERUN_OK;
  const moerun_placement **from = NULL;
  moerun_placement *mixed = NULL;
  const int32_t L = r->next->num_layers;
  const int32_t layer = next_change(r);
  status = moerun__alloc(&from, (size_t)L, sizeof(moerun_placement *));
  for (int32_t l = 0; l < L && status == MOERUN_OK; l++) {
    from[l] = l == layer ? r->next : r->model->placement;
  }
  if (status == MOERUN_OK) {
    status = moerun__placement_join(&mixed, L, from, NULL, "replaced");
  }
  MOERUN_TRY(moerun__comm_agree(r->model->comm, status));
  moerun_placement *taken = mixed;
  mixed = NULL;
  MOERUN_TRY(adopt(r, taken));
  if (next_change(r) == L) end_moves(r);
done:
  moerun_placement_destroy(mixed);
  moerun__free((void *)from);
  return status;
}

/* All at once. */
static moerun_status move_all(moerun__replacer *r) {
  moerun_status status = MOERUN_OK;
  moerun_placement *taken = r->next;
  r->next = NULL;
  MOERUN_TRY(adopt(r, taken));
  end_moves(r);
done:
  return status;
}

/* ---- Looks --------------------------------------------------------------- */

static moerun_status begin_look(moerun__replacer *r, int decides) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(gather(r));
  see_speeds(r);
  const int32_t rows = r->session->moe.balance.options.min_rows;
  r->rows_per_expert = rows > 1 ? rows : 1;
  r->decides = decides;
  r->phase = MOERUN_REPLACER_DECIDES;
  moerun__replacer_start(r);
done:
  return status;
}

/* After all ranks have decided; the last move is accounted for. */
static moerun_status end_look(moerun__replacer *r) {
  moerun_status status = MOERUN_OK;
  moerun__replacer_join(r, 0);
  moerun_placement_destroy(r->next); /* what did not come to move */
  r->next = NULL;
  MOERUN_TRY(moerun__replacer_agree(r, &r->next));
  moerun_placement_destroy(r->retired);
  r->retired = NULL;
  r->before = NULL;
  r->phase = MOERUN_REPLACER_MOVES;
  if (r->next == NULL) {
    end_moves(r);
  } else if (!r->options.is_beside) {
    MOERUN_TRY(move_all(r));
  }
done:
  return status;
}

static void keep_rows(moerun__replacer *r, int32_t T) {
  for (int32_t t = 0; t < T; t++) {
    const size_t row = (size_t)(r->rows_fed++ % r->capacity);
    memcpy(r->box + sizeof(moerun__box_head) + row * r->row_bytes,
           (const char *)r->session->trace + (size_t)t * r->row_bytes,
           r->row_bytes);
  }
  r->rows_calm += T;
}

/* Whether a look should begin after this step: the same on all ranks, since
 * what they were told of speeds is. */
static int is_due(moerun__replacer *r) {
  const moerun__ledger *ledger = &r->session->moe.balance.ledger;
  r->steps++;
  if (r->options.every > 0) return r->steps >= r->options.every;
  if (!r->session->moe.balance.is_on || ledger->num_steps == 0) return 0;
  const int due = moerun__lasting_watch(&r->lasting, ledger->speed);
  if (r->lasting.calm == 1) r->rows_calm = 0;
  return due;
}

static moerun_status go_on(moerun__replacer *r, int due) {
  moerun_status status = MOERUN_OK;
  int ended = 0;
  switch (r->phase) {
  case MOERUN_REPLACER_WATCHES:
    if (!due) break;
    MOERUN_TRY(begin_look(r, 1));
    if (!r->options.is_beside) MOERUN_TRY(end_look(r));
    break;
  case MOERUN_REPLACER_DECIDES:
    MOERUN_TRY(moerun__replacer_ended(r, &ended));
    if (ended) MOERUN_TRY(end_look(r));
    break;
  case MOERUN_REPLACER_MOVES: MOERUN_TRY(move_layer(r)); break;
  }
done:
  return status;
}

moerun_status moerun__replacer_step(moerun__replacer *r, int32_t T) {
  moerun_status status = MOERUN_OK;
  if (r->model->comm->size == 1) return MOERUN_OK; /* all rows are at home */
  keep_rows(r, T);
  const int due = is_due(r);
  moerun__stage_begin(&r->session->stats);
  MOERUN_TRY(go_on(r, due));
  moerun__stage_end(&r->session->stats, MOERUN_STAGE_REPLACE);
done:
  return status;
}

/* A look under way decides no more; what the last move has saved is counted by
 * what it has seen, and layers that were to move and have not are taken
 * back. */
moerun_status moerun__replacer_end(moerun__replacer *r) {
  moerun_status status = MOERUN_OK;
  if (r->phase == MOERUN_REPLACER_DECIDES) {
    moerun__replacer_join(r, 1);
    r->decides = 0;
    moerun__replacer_start(r);
    MOERUN_TRY(end_look(r));
  } else if (r->before != NULL || r->next != NULL) {
    if (r->before == NULL) r->count.moves--; /* not even one layer has */
    MOERUN_TRY(begin_look(r, 0));
    MOERUN_TRY(end_look(r));
  }
done:
  return status;
}
