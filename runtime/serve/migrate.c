/* A new placement between two steps: experts move rank to rank.
 *
 * Layer by layer, so that no more than one layer's experts exist twice. Each
 * rank makes the block of its new slots, copies what stays, and takes part in
 * the moves of its own experts. Moves are walked in one order (expert, then
 * rank) on all ranks, one message at a time per rank: whoever comes first in
 * that order has both its sides there, so nothing can wait in a circle, and
 * pairs of ranks that do not meet move at the same time. Packed weights travel
 * as they are, so the new owner computes the same bits. */
#include "runtime/serve/migrate.h"

#include "placement/methods/replan.h"
#include "runtime/base/memory.h"

#include <string.h>

typedef struct migration {
  moerun_model *model;
  moerun__store *store; /* has the experts */
  const moerun_placement *from;
  const moerun_placement *to;
  moerun__transfer *transfer;
  int32_t *old_experts; /* [E] of this rank and layer, by slot */
  int32_t *new_experts;
  int64_t moved; /* experts that came here */
} migration;

/* What a layer is about to hold. */
typedef struct new_layer {
  int32_t num_slots;
  moerun__expert_shape shape; /* of each expert */
  moerun__expert *experts;    /* [num_slots] own */
} new_layer;

/* The slot of `expert` in a list ascending by expert, or -1. */
static int32_t slot_of(const int32_t *experts, int32_t count, int32_t expert) {
  int32_t low = 0;
  int32_t high = count;
  while (low < high) {
    const int32_t middle = low + (high - low) / 2;
    if (experts[middle] < expert) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low < count && experts[low] == expert ? low : -1;
}

/* Whether a rank has a replica of (layer, expert). */
static int has_replica(const moerun_placement *placement, int32_t layer,
                       int32_t expert, int32_t rank) {
  const size_t at =
      (size_t)layer * (size_t)placement->num_experts + (size_t)expert;
  for (int32_t i = placement->replica_offset[at];
       i < placement->replica_offset[at + 1]; i++) {
    if (placement->rank_of[i] == rank) return 1;
  }
  return 0;
}

/* Which of the old replicas feeds `rank`: one after the other. */
static int32_t source_of(const moerun_placement *placement, int32_t layer,
                         int32_t expert, int32_t rank) {
  const size_t at =
      (size_t)layer * (size_t)placement->num_experts + (size_t)expert;
  const int32_t first = placement->replica_offset[at];
  const int32_t count = placement->replica_offset[at + 1] - first;
  return placement->rank_of[first + rank % count];
}

static void copy_piece(const moerun__expert *to, const moerun__expert *from,
                       const moerun__expert_shape *shape,
                       moerun__expert_piece piece) {
  memcpy((void *)moerun__expert_weight(to, piece)->panels,
         moerun__expert_weight(from, piece)->panels,
         moerun__expert_piece_bytes(shape, piece));
}

/* The experts that stay, at their new slots. */
static void copy_kept(const migration *m, const moerun__layer *layer,
                      new_layer *next) {
  for (int32_t s = 0; s < next->num_slots; s++) {
    const int32_t old =
        slot_of(m->old_experts, layer->num_slots, m->new_experts[s]);
    if (old < 0) continue;
    const moerun__expert *from = moerun__store_own(layer, old);
    copy_piece(&next->experts[s], from, &next->shape, MOERUN_PIECE_GATE_UP);
    copy_piece(&next->experts[s], from, &next->shape, MOERUN_PIECE_DOWN);
  }
}

/* ---- Moves --------------------------------------------------------------- */

/* An expert's pieces one after the other, each as one row to or from `peer`. */
static moerun_status pass(migration *m, int receives, int32_t peer,
                          const moerun__expert *expert,
                          const moerun__expert_shape *shape) {
  moerun_status status = MOERUN_OK;
  const moerun__comm_ops *ops = m->model->comm->ops;
  for (int i = 0; i < MOERUN_EXPERT_PIECES; i++) {
    const moerun__expert_piece piece = (moerun__expert_piece)i;
    const moerun__row_list list = moerun__one_row(
        moerun__expert_weight(expert, piece)->panels,
        moerun__expert_piece_bytes(shape, piece), peer, MOERUN_MEMORY_WEIGHTS);
    MOERUN_TRY(receives
                   ? ops->receive_begin(m->transfer, MOERUN_TAG_EXPERTS, &list)
                   : ops->send_begin(m->transfer, MOERUN_TAG_EXPERTS, &list));
    MOERUN_TRY(ops->wait(m->transfer));
  }
done:
  return status;
}

/* This rank's part in giving `expert` to `rank`, which lacks it. */
static moerun_status move_expert(migration *m, const moerun__layer *layer,
                                 new_layer *next, int32_t expert,
                                 int32_t rank) {
  moerun_status status = MOERUN_OK;
  const int32_t own = m->model->comm->rank;
  const int32_t source = source_of(m->from, layer->moe_layer, expert, rank);
  if (own == rank) {
    const int32_t s = slot_of(m->new_experts, next->num_slots, expert);
    m->moved++;
    MOERUN_TRY(pass(m, 1, source, &next->experts[s], &next->shape));
  } else if (own == source) {
    const int32_t s = slot_of(m->old_experts, layer->num_slots, expert);
    MOERUN_TRY(pass(m, 0, rank, moerun__store_own(layer, s), &next->shape));
  }
done:
  return status;
}

static moerun_status move_experts(migration *m, const moerun__layer *layer,
                                  new_layer *next) {
  moerun_status status = MOERUN_OK;
  const int32_t E = m->to->num_experts;
  for (int32_t e = 0; e < E; e++) {
    const size_t at = (size_t)layer->moe_layer * (size_t)E + (size_t)e;
    for (int32_t i = m->to->replica_offset[at];
         i < m->to->replica_offset[at + 1]; i++) {
      const int32_t rank = m->to->rank_of[i];
      if (has_replica(m->from, layer->moe_layer, e, rank)) continue;
      MOERUN_TRY(move_expert(m, layer, next, e, rank));
    }
  }
done:
  return status;
}

/* ---- Layers -------------------------------------------------------------- */

static moerun_status migrate_layer(migration *m, moerun__layer *layer) {
  moerun_status status = MOERUN_OK;
  moerun_model *model = m->model;
  new_layer next = {0};
  const int32_t rank = model->comm->rank;
  (void)moerun__placement_experts(m->from, layer->moe_layer, rank,
                                  m->old_experts);
  next.num_slots =
      moerun__placement_experts(m->to, layer->moe_layer, rank, m->new_experts);
  const size_t before = (size_t)layer->num_slots;
  const size_t after = (size_t)next.num_slots;
  MOERUN_TRY(moerun__model_expert_shape(&next.shape, model, layer->moe_layer));
  MOERUN_TRY(moerun__comm_agree(
      model->comm, moerun__store_create_experts(&next.experts, m->store,
                                                &next.shape, after)));
  copy_kept(m, layer, &next);
  MOERUN_TRY(move_experts(m, layer, &next));
  moerun__store_adopt_experts(m->store, layer, next.experts, next.num_slots);
  next.experts = NULL;
  /* Unsigned: wraps back for fewer. */
  const size_t more = moerun__experts_bytes(&next.shape, after) -
                      moerun__experts_bytes(&next.shape, before);
  model->expert_bytes += more;
  model->weight_bytes += more;
done:
  moerun__store_destroy_experts(m->store, next.experts);
  return status;
}

/* Of any layer. */
static int32_t most_replicas(const moerun_placement *placement) {
  int32_t most = 0;
  for (int32_t l = 0; l < placement->num_layers; l++) {
    const int32_t *offset =
        placement->replica_offset + (size_t)l * (size_t)placement->num_experts;
    const int32_t count = offset[placement->num_experts] - offset[0];
    if (count > most) most = count;
  }
  return most;
}

static moerun_status check(const moerun_session *session,
                           const moerun_model *model,
                           const moerun_placement *to) {
  moerun_status status = MOERUN_OK;
  const moerun_placement *from = model->placement;
  MOERUN_REQUIRE(session->model == model, MOERUN_ERR_INVALID,
                 "the session is of another model");
  MOERUN_REQUIRE(moerun__store_is_alone(&session->moe.store),
                 MOERUN_ERR_INVALID,
                 "placement: expected one session of the model, found others: "
                 "destroy them before experts move");
  MOERUN_TRY(moerun__placement_check(to));
  MOERUN_REQUIRE(to->num_layers == from->num_layers &&
                     to->num_experts == from->num_experts &&
                     to->num_ranks == from->num_ranks,
                 MOERUN_ERR_SHAPE,
                 "placement: expected %d layers x %d experts on %d ranks, "
                 "found %d x %d on %d",
                 from->num_layers, from->num_experts, from->num_ranks,
                 to->num_layers, to->num_experts, to->num_ranks);
  const int32_t slots = moerun__placement_max_slots(to, model->comm->rank);
  MOERUN_REQUIRE(slots <= session->moe.shape.max_slots, MOERUN_ERR_OVERFLOW,
                 "placement: expected at most %d experts of a layer on rank "
                 "%d, found %d",
                 session->moe.shape.max_slots, model->comm->rank, slots);
  MOERUN_REQUIRE(most_replicas(to) <= session->moe.shape.max_replicas,
                 MOERUN_ERR_OVERFLOW,
                 "placement: expected at most %d replicas in a layer, found %d",
                 session->moe.shape.max_replicas, most_replicas(to));
done:
  return status;
}

moerun_status moerun__session_replace(moerun_session *session,
                                      moerun_model *model,
                                      const moerun_placement *placement,
                                      int64_t *moved) {
  moerun_status status = MOERUN_OK;
  migration m = {.model = model,
                 .store = &session->moe.store,
                 .from = model->placement,
                 .to = placement};
  const size_t E = (size_t)model->config.num_experts;
  *moved = 0;
  MOERUN_TRY(moerun__comm_agree(model->comm, check(session, model, placement)));
  status = moerun__alloc(&m.old_experts, E, sizeof *m.old_experts);
  if (status == MOERUN_OK) {
    status = moerun__alloc(&m.new_experts, E, sizeof *m.new_experts);
  }
  if (status == MOERUN_OK) {
    status = model->comm->ops->transfer_create(&m.transfer, model->comm, 0,
                                               MOERUN_MEMORY_WEIGHTS);
  }
  MOERUN_TRY(moerun__comm_agree(model->comm, status));
  for (int32_t l = 0; l < model->config.num_layers; l++) {
    const int32_t moe_layer = model->layers[l].moe_layer;
    if (moe_layer < 0 || moerun__replan_same(m.from, m.to, moe_layer)) continue;
    MOERUN_TRY(migrate_layer(&m, &model->layers[l]));
  }
  model->placement = placement;
  moerun__store_adopt_placement(m.store);
  *moved = m.moved;
done:
  model->comm->ops->transfer_destroy(m.transfer);
  moerun__free(m.old_experts);
  moerun__free(m.new_experts);
  return status;
}
