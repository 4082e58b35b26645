/* The loop from routing to placement within a run.
 *
 * Each rank keeps the routing of its latest rows. At a look all ranks get all of
 * it, by way of rank 0, and each decides for the layers number rank, rank + R,
 * …: it solves for the older half of every rank's rows and judges by the newer
 * one, so that what is predicted has been foretold, not learnt by heart. Rank 0
 * puts the layers together and broadcasts the outcome: all ranks do the same
 * whatever their clocks and processors are. Solving takes the steps it takes, no
 * time limit is involved; ranks that are done wait for the others for as long as
 * the transport lets them. */
#include "runtime/replacer.h"

#include "runtime/base/arena.h"
#include "runtime/migrate.h"

#include <string.h>

/* Rank 0's verdict. */
typedef struct verdict {
  int32_t status;
  int32_t moves;
  int64_t num_replicas; /* of the new placement */
  moerun__replace_count count;
} verdict;

/* ---- Create ------------------------------------------------------------------- */

int32_t moerun__replacer_slots(const moerun_placement *placement,
                               int32_t spare_slots) {
  const int32_t E = placement->num_experts;
  const int32_t entries = placement->num_layers * E;
  int32_t slots = (E - 1) / placement->num_ranks + 1;
  slots = spare_slots < E - slots ? slots + spare_slots : E;
  if (placement->replica_offset[entries] == entries) return slots;
  for (int32_t r = 0; r < placement->num_ranks; r++) {
    const int32_t most = moerun__placement_max_slots(placement, r);
    if (most > slots) slots = most;
  }
  return slots;
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
  MOERUN_REQUIRE(session->model == model && session->trace != NULL,
                 MOERUN_ERR_INVALID,
                 "replace: expected a session of this model that records its "
                 "routing");
  MOERUN_REQUIRE(options->every >= 1 && options->window >= 1 &&
                     options->spare_slots >= 0,
                 MOERUN_ERR_INVALID,
                 "replace: expected 1 step and 1 token or more and spare slots "
                 "from 0, found %d, %d and %d",
                 options->every, options->window, options->spare_slots);
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
  size_replacer(r, &model->config, model->placement, comm->rank, options);
  lay_out(r, comm->size, comm->rank, &arena);
  MOERUN_TRY(moerun__alloc_unset(&r->block, arena.used, 1));
  arena = (moerun__arena){r->block, 0};
  lay_out(r, comm->size, comm->rank, &arena);
  moerun__lasting_clear(&r->lasting);
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
    if (layer->moe_layer % comm->size != comm->rank) continue;
    r->expert_bytes[layer->moe_layer / comm->size] =
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

/* ---- What all ranks see ------------------------------------------------------------ */

/* All ranks' rows on all ranks, as many as the fullest ring has. */
static moerun_status gather(moerun__replacer *r, size_t *stride) {
  moerun_status status = MOERUN_OK;
  moerun_comm *comm = r->model->comm;
  const moerun__speed *own = &r->session->moe.speed;
  const moerun__box_head head = {r->rows_fed, own->applied, own->changes};
  int64_t most = -(int64_t)moerun__replacer_kept(r, r->rows_fed);
  memcpy(r->box, &head, sizeof head);
  MOERUN_TRY(comm->ops->minimum(comm, &most));
  *stride = sizeof head + (size_t)-most * r->row_bytes;
  MOERUN_TRY(comm->ops->gather(comm, r->boxes, r->box, *stride));
  MOERUN_TRY(
      comm->ops->broadcast(comm, r->boxes, (size_t)comm->size * *stride));
done:
  return status;
}

static void see_speeds(moerun__replacer *r, size_t stride) {
  for (int32_t rank = 0; rank < r->model->comm->size; rank++) {
    moerun__box_head head;
    memcpy(&head, r->boxes + (size_t)rank * stride, sizeof head);
    moerun__lasting_see(&r->lasting, rank, (int32_t)head.speed,
                        head.speed_changes);
  }
  moerun__lasting_conclude(&r->lasting);
}

/* ---- What rank 0 makes of it --------------------------------------------------------- */

/* The first status that is not OK, and the sums. */
static moerun_status add_parts(const moerun__replacer *r,
                               moerun__replace_count *count) {
  moerun_status first = MOERUN_OK;
  for (int32_t rank = 0; rank < r->model->comm->size; rank++) {
    moerun__part_head head;
    memcpy(&head, r->parts + (size_t)rank * r->part_bytes, sizeof head);
    if (first == MOERUN_OK) first = (moerun_status)head.status;
    count->experts_moved += head.count.experts_moved;
    count->bytes_moved += head.count.bytes_moved;
    count->bytes_predicted += head.count.bytes_predicted;
    count->bytes_counted += head.count.bytes_counted;
    count->rows_predicted += head.count.rows_predicted;
  }
  return first;
}

/* changes and hosted[R][slots] of a layer. */
static const int32_t *layer_of_part(const moerun__replacer *r, int32_t layer) {
  const int32_t R = r->model->comm->size;
  const char *part = r->parts + (size_t)(layer % R) * r->part_bytes;
  return (const int32_t *)(part + sizeof(moerun__part_head)) +
         (size_t)(layer / R) * r->layer_ints;
}

/* Ranks of an expert in a layer that changes: ascending; returns how many. */
static int32_t ranks_of(const moerun__replacer *r, const int32_t *hosted,
                        int32_t expert, int32_t *ranks) {
  int32_t count = 0;
  for (int32_t rank = 0; rank < r->model->comm->size; rank++) {
    for (int32_t s = 0; s < r->slots; s++) {
      if (hosted[rank * r->slots + s] == expert) ranks[count++] = rank;
    }
  }
  return count;
}

/* *next: all layers together; NULL if none changes. */
static moerun_status assemble(moerun_placement **next,
                              const moerun__replacer *r) {
  moerun_status status = MOERUN_OK;
  const moerun_placement *now = r->model->placement;
  const int32_t E = now->num_experts;
  const int32_t entries = now->num_layers * E;
  int32_t *offset = NULL;
  int32_t *rank_of = NULL;
  size_t most = (size_t)now->replica_offset[entries];
  int changes = 0;
  for (int32_t l = 0; l < now->num_layers; l++) {
    if (layer_of_part(r, l)[0] == 0) continue;
    changes = 1;
    most += r->layer_ints;
  }
  if (!changes) return MOERUN_OK;
  MOERUN_TRY(moerun__alloc(&offset, (size_t)entries + 1, sizeof *offset));
  MOERUN_TRY(moerun__alloc(&rank_of, most, sizeof *rank_of));
  int32_t count = 0;
  for (int32_t n = 0; n < entries; n++) {
    const int32_t *part = layer_of_part(r, n / E);
    const int32_t first = now->replica_offset[n];
    offset[n] = count;
    if (part[0] != 0) {
      count += ranks_of(r, part + 1, n % E, rank_of + count);
      continue;
    }
    for (int32_t i = first; i < now->replica_offset[n + 1]; i++) {
      rank_of[count++] = now->rank_of[i];
    }
  }
  offset[entries] = count;
  MOERUN_TRY(moerun__placement_create(next, now->num_layers, E, now->num_ranks,
                                      offset, rank_of, "replaced"));
done:
  moerun__free(offset);
  moerun__free(rank_of);
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

/* Own part to rank 0, its verdict to all; *next on rank 0. */
static moerun_status agree(moerun__replacer *r, moerun_placement **next,
                           verdict *word, const moerun__part_head *head,
                           int decides) {
  moerun_status status = MOERUN_OK;
  moerun_comm *comm = r->model->comm;
  memcpy(r->part, head, sizeof *head);
  MOERUN_TRY(comm->ops->gather(comm, r->parts, r->part, r->part_bytes));
  if (comm->rank == 0) {
    moerun_status found = add_parts(r, &word->count);
    if (found == MOERUN_OK) found = assemble(next, r);
    word->status = (int32_t)found;
    word->moves = *next != NULL;
    word->count.looks += decides;
    word->count.moves += word->moves;
    if (word->moves) {
      const int32_t entries = (*next)->num_layers * (*next)->num_experts;
      word->num_replicas = (*next)->replica_offset[entries];
    }
  }
  MOERUN_TRY(comm->ops->broadcast(comm, word, sizeof *word));
done:
  return status;
}

/* Accounts for the last move, and with `decides` makes the next one. */
static moerun_status look(moerun__replacer *r, int decides) {
  moerun_status status = MOERUN_OK;
  moerun_placement *next = NULL;
  size_t stride = 0;
  verdict word = {.count = r->count};
  moerun__part_head head = {0};
  moerun__stage_begin(&r->session->stats);
  MOERUN_TRY(gather(r, &stride));
  see_speeds(r, stride);
  const moerun_status own =
      moerun__replacer_decide(r, &head.count, stride, decides);
  head.status = (int64_t)own;
  MOERUN_TRY(agree(r, &next, &word, &head, decides));
  MOERUN_TRY(own);
  MOERUN_REQUIRE(word.status == MOERUN_OK, MOERUN_ERR_PEER,
                 "a look at the routing failed on another rank: %s",
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
    memcpy(r->box + sizeof(moerun__box_head) + row * r->row_bytes,
           (const char *)r->session->trace + (size_t)t * r->row_bytes,
           r->row_bytes);
  }
  return ++r->steps < r->options.every ? MOERUN_OK : look(r, 1);
}

moerun_status moerun__replacer_end(moerun__replacer *r) {
  return r->before != NULL ? look(r, 0) : MOERUN_OK;
}
