/* Packed weights travel as they are, gate_up and down as one message each, so a
 * guest computes the same bits as the expert at home. Pieces are sent on one by
 * one, so that down is still coming while gate_up leaves. */
#include "runtime/moe/guests.h"

#include <string.h>

enum { SLOW_SHARE = 4 }; /* of the ranks one may be slow by default */

/* Of an expert of the model with weights of any type that there is. */
static void bytes_range(size_t *least, size_t *most,
                        const moerun__model_config *config) {
  *least = SIZE_MAX;
  *most = 0;
  for (int d = 0; moerun__dtype_at((moerun__dtype)d) != NULL; d++) {
    const moerun__expert_shape shape =
        moerun__expert_whole(config, (moerun__dtype)d);
    const size_t bytes = moerun__expert_bytes(&shape);
    if (bytes < *least) *least = bytes;
    if (bytes > *most) *most = bytes;
  }
}

/* ---- Memory -------------------------------------------------------------- */

size_t moerun__guests_default(const moerun_placement *placement,
                              const moerun__expert_shape *expert) {
  const int64_t R = placement->num_ranks;
  const int64_t slow = (R + SLOW_SHARE - 1) / SLOW_SHARE;
  int64_t most = 0;
  if (R < 2) return 0;
  for (int64_t i = 0; i < placement->num_layers * R; i++) {
    if (placement->slot_count[i] > most) most = placement->slot_count[i];
  }
  const int64_t of_layer = (most * slow + R - slow - 1) / (R - slow);
  const int64_t all = of_layer * placement->num_layers + MOERUN_SHARED_GUESTS;
  return (size_t)all * moerun__expert_bytes(expert);
}

/* A rank has use for no more guests than there are experts, and slots are
 * 16-bit numbers. */
static int32_t most_entries(const moerun_model *model, size_t room_bytes,
                            size_t least_bytes) {
  const moerun__model_config *config = &model->config;
  const int64_t L = config->num_moe_layers;
  int64_t of_layer = INT16_MAX - L - MOERUN_SHARED_GUESTS - config->num_experts;
  if (of_layer > config->num_experts) of_layer = config->num_experts;
  if (of_layer < 0) of_layer = 0;
  const int64_t useful = L * of_layer + MOERUN_SHARED_GUESTS;
  const size_t fit = least_bytes > 0 ? room_bytes / least_bytes : 0;
  if (model->comm->size < 2 || L == 0) return 0;
  return (int32_t)(fit < (size_t)useful ? (int64_t)fit : useful);
}

void moerun__guests_init(moerun__guests *guests, const moerun_model *model,
                         moerun__guest_table *table, size_t room_bytes) {
  size_t least = 0;
  size_t most = 0;
  bytes_range(&least, &most, &model->config);
  const int32_t guests_at_most = most_entries(model, room_bytes, least);
  const size_t useful = (size_t)guests_at_most * most;
  *guests =
      (moerun__guests){.model = model,
                       .table = table,
                       .most_guests = guests_at_most,
                       .room_bytes = room_bytes < useful ? room_bytes : useful};
}

/* Messages in a layer that bring guests, at most. */
static int32_t num_receives(const moerun__guests *guests) {
  return MOERUN_EXPERT_PIECES * guests->per_layer;
}

static int32_t num_transfers(const void *self) {
  return num_receives(self) + MOERUN_GUEST_SENDS;
}

static void lay_out(void *self, moerun__arenas *arenas) {
  moerun__guests *guests = self;
  moerun__arena *arena = &arenas->host;
  const moerun__model_config *config = &guests->model->config;
  guests->per_layer = guests->table->per_layer;
  const size_t most = (size_t)guests->per_layer;
  const size_t receives = (size_t)num_receives(guests);
  guests->room = moerun__arena_take(&arenas->traffic, guests->room_bytes, 1);
  guests->shape = moerun__arena_take(arena, (size_t)config->num_moe_layers,
                                     sizeof *guests->shape);
  guests->expert = moerun__arena_take(arena, most, sizeof *guests->expert);
  guests->presence = moerun__arena_take(arena, most, sizeof *guests->presence);
  guests->send_of_in =
      moerun__arena_take(arena, most, sizeof *guests->send_of_in);
  guests->in_of_guest =
      moerun__arena_take(arena, most, sizeof *guests->in_of_guest);
  guests->in = moerun__arena_take(arena, receives, sizeof(void *));
  for (size_t i = 0; guests->in != NULL && i < receives; i++) {
    guests->in[i] = NULL;
  }
}

static moerun_status create_transfers(void *self) {
  moerun_status status = MOERUN_OK;
  moerun__guests *guests = self;
  moerun_comm *comm = guests->model->comm;
  for (int32_t i = 0; i < num_receives(guests); i++) {
    MOERUN_TRY(comm->ops->transfer_create(&guests->in[i], comm, 0,
                                          MOERUN_MEMORY_WEIGHTS));
  }
  for (int i = 0; i < MOERUN_GUEST_SENDS; i++) {
    MOERUN_TRY(comm->ops->transfer_create(&guests->out[i], comm, 0,
                                          MOERUN_MEMORY_WEIGHTS));
  }
done:
  return status;
}

static void destroy_transfers(void *self) {
  moerun__guests *guests = self;
  const moerun__comm_ops *ops = guests->model->comm->ops;
  for (int32_t i = 0; guests->in != NULL && i < num_receives(guests); i++) {
    ops->transfer_destroy(guests->in[i]);
  }
  for (int i = 0; i < MOERUN_GUEST_SENDS; i++) {
    ops->transfer_destroy(guests->out[i]);
  }
}

/* Of the last two guests. */
static char *last_room(const moerun__guests *guests) {
  return guests->room +
         ((size_t)guests->table->per_rank - 2) * guests->each_bytes;
}

/* No weights move. */
static void forget_layer(moerun__guests *guests) {
  for (int32_t g = 0; g < guests->per_layer; g++) {
    guests->in_of_guest[g] = -1;
    guests->presence[g] = MOERUN_ABSENT;
  }
  guests->num_in = 0;
  guests->num_out = 0;
  guests->plan = NULL;
}

/* ---- Shapes -------------------------------------------------------------- */

/* [collective] The experts' shapes, known where there are any, everywhere. */
static moerun_status open(void *self, double row_seconds) {
  moerun_status status = MOERUN_OK;
  moerun__guests *guests = self;
  const moerun__model_config *config = &guests->model->config;
  size_t most = 0;
  (void)row_seconds;
  forget_layer(guests);
  for (int32_t l = 0; l < config->num_moe_layers; l++) {
    MOERUN_TRY(moerun__model_expert_shape(&guests->shape[l], guests->model, l));
    const size_t bytes = moerun__expert_bytes(&guests->shape[l]);
    if (bytes > most) most = bytes;
  }
  guests->each_bytes = most;
  if (most == 0) goto done; /* no MoE layer */
  const size_t fit = guests->room_bytes / most;
  moerun__guest_table_shrink(guests->table,
                             fit < (size_t)guests->table->per_rank
                                 ? (int32_t)fit
                                 : guests->table->per_rank);
  if (moerun__guests_can_pass(guests)) {
    memset(last_room(guests), 0, 2 * most); /* so that passes find it there */
  }
done:
  return status;
}

int64_t moerun__guests_expert_bytes(const moerun__guests *guests,
                                    int32_t moe_layer) {
  if (guests->table->per_layer == 0) return 0;
  return (int64_t)moerun__expert_bytes(&guests->shape[moe_layer]);
}

/* ---- Messages ------------------------------------------------------------ */

static const moerun__expert_shape *shape_of(const moerun__guests *guests) {
  return &guests->shape[guests->layer->moe_layer];
}

/* A piece of an expert to or from `peer`. */
static moerun__row_list one_piece(const moerun__guests *guests,
                                  const moerun__expert *expert, int32_t peer,
                                  moerun__expert_piece piece) {
  return moerun__one_row(moerun__expert_weight(expert, piece)->panels,
                         moerun__expert_piece_bytes(shape_of(guests), piece),
                         peer, MOERUN_MEMORY_WEIGHTS);
}

/* The next piece of number `at` among those that come, from `peer`. */
static moerun_status begin_receive(moerun__guests *guests, int32_t at,
                                   int32_t guest, int32_t peer,
                                   moerun__expert_piece piece) {
  const int32_t message = MOERUN_EXPERT_PIECES * at + (int32_t)piece;
  const moerun__row_list list =
      one_piece(guests, &guests->expert[guest], peer, piece);
  return guests->model->comm->ops->receive_begin(
      guests->in[message], MOERUN_TAG_EXPERTS + (int)piece, &list);
}

static moerun_status begin_send(moerun__guests *guests, int32_t place,
                                const moerun__expert *from, int32_t peer,
                                moerun__expert_piece piece) {
  const moerun__row_list list = one_piece(guests, from, peer, piece);
  guests->bytes_sent += (int64_t)list.row_bytes;
  return guests->model->comm->ops->send_begin(
      guests->out[place], MOERUN_TAG_EXPERTS + (int)piece, &list);
}

/* The layer's guests that are here, new or not, as slots of this layer. */
static void shape_guest(moerun__guests *guests, int32_t guest,
                        int32_t moe_layer) {
  const size_t entry =
      moerun__guest_table_entry(guests->table, 0, moe_layer, guest);
  guests->expert[guest] = moerun__expert_at(
      &guests->shape[moe_layer], guests->room + entry * guests->each_bytes);
}

/* ---- Sending on ---------------------------------------------------------- */

/* *found: what must be over before the next piece of a send can leave: the
 * message that brings it here, or the one that last left in its place. NULL:
 * nothing any more. */
static moerun_status find_obstacle(moerun__transfer **found,
                                   const moerun__guests *guests,
                                   const moerun__send *next) {
  moerun_status status = MOERUN_OK;
  const moerun__comm_ops *ops = guests->model->comm->ops;
  const moerun__plan *plan = guests->plan;
  const int32_t in =
      next->from_move < 0
          ? -1
          : guests->in_of_guest[plan->moves[next->from_move].guest];
  int over = 1;
  *found = NULL;
  if (in >= 0) {
    *found = guests->in[MOERUN_EXPERT_PIECES * in + guests->piece];
    MOERUN_TRY(ops->test(*found, &over));
  }
  if (over) {
    *found = guests->out[guests->num_out % MOERUN_GUEST_SENDS];
    MOERUN_TRY(ops->test(*found, &over));
  }
  if (over) *found = NULL;
done:
  return status;
}

static moerun_status send_piece(moerun__guests *guests,
                                const moerun__send *send) {
  const moerun__plan *plan = guests->plan;
  const moerun__expert_piece piece = (moerun__expert_piece)guests->piece;
  const moerun__expert *from =
      send->from_move < 0 ? moerun__own_at(guests->layer, send->from_slot)
                          : &guests->expert[plan->moves[send->from_move].guest];
  guests->piece = (guests->piece + 1) % MOERUN_EXPERT_PIECES;
  guests->next += guests->piece == 0;
  return begin_send(guests, guests->num_out++ % MOERUN_GUEST_SENDS, from,
                    plan->moves[send->move].rank, piece);
}

/* The next of the plan's sends before number `end` that leaves here. */
static const moerun__send *next_send(moerun__guests *guests, int32_t end) {
  const int32_t own = guests->model->comm->rank;
  for (; guests->next < end; guests->next++) {
    const moerun__send *next = &guests->plan->sends[guests->next];
    if (next->from == own) return next;
  }
  return NULL;
}

/* Begins the sends before number `end` that leave here, in their order, until
 * it would have to wait for *obstacle; NULL: all have begun. What they wait for
 * comes of sends with lower numbers, so the lowest that has not begun anywhere
 * can always begin: no deadlock. */
static moerun_status send_before(moerun__guests *guests, int32_t end,
                                 moerun__transfer **obstacle) {
  moerun_status status = MOERUN_OK;
  const moerun__send *next;
  *obstacle = NULL;
  while ((next = next_send(guests, end)) != NULL) {
    MOERUN_TRY(find_obstacle(obstacle, guests, next));
    if (*obstacle != NULL) break;
    MOERUN_TRY(send_piece(guests, next));
  }
done:
  return status;
}

static moerun_status forward(void *self, moerun__transfer **obstacle) {
  moerun__guests *guests = self;
  const int32_t end = guests->plan != NULL ? guests->plan->num_sends : 0;
  return send_before(guests, end, obstacle);
}

/* ---- A layer ------------------------------------------------------------- */

/* All receives begin at once, so that no rank waits before it has asked for
 * what it is sent. */
static moerun_status begin(void *self, const moerun__layer *layer,
                           const moerun__plan *plan) {
  moerun_status status = MOERUN_OK;
  moerun__guests *guests = self;
  const int32_t own = guests->model->comm->rank;
  guests->plan = plan;
  guests->layer = layer;
  guests->next = 0;
  guests->piece = 0;
  for (int32_t m = 0; m < plan->num_moves; m++) {
    const moerun__move *move = &plan->moves[m];
    if (move->rank != own || move->guest == MOERUN_NO_GUEST) continue;
    shape_guest(guests, move->guest, layer->moe_layer);
    guests->presence[move->guest] = MOERUN_HERE;
  }
  for (int32_t i = 0; i < plan->num_sends; i++) {
    const moerun__send *send = &plan->sends[i];
    const moerun__move *move = &plan->moves[send->move];
    if (move->rank != own) continue;
    const int32_t at = guests->num_in++;
    guests->send_of_in[at] = i;
    guests->in_of_guest[move->guest] = at;
    guests->presence[move->guest] = MOERUN_COMING;
    MOERUN_TRY(begin_receive(guests, at, move->guest, send->from,
                             MOERUN_PIECE_GATE_UP));
    MOERUN_TRY(
        begin_receive(guests, at, move->guest, send->from, MOERUN_PIECE_DOWN));
  }
done:
  return status;
}

static moerun__presence get(const void *self, const moerun__expert **out,
                            const moerun__layer *layer, int32_t slot) {
  const moerun__guests *guests = self;
  const int32_t guest = slot - layer->num_slots;
  if (guest < 0 || guest >= guests->per_layer || guests->plan == NULL) {
    return MOERUN_ABSENT;
  }
  const moerun__presence now = (moerun__presence)guests->presence[guest];
  if (now == MOERUN_HERE) *out = &guests->expert[guest];
  return now;
}

/* The guest whose weights come as number i of num_in. */
static int32_t arrival(const moerun__guests *guests, int32_t i) {
  const moerun__plan *plan = guests->plan;
  return plan->moves[plan->sends[guests->send_of_in[i]].move].guest;
}

static int32_t coming(const void *self, const moerun__layer *layer, int32_t i) {
  const moerun__guests *guests = self;
  if (i >= guests->num_in) return MOERUN_NO_SLOT;
  return layer->num_slots + arrival(guests, i);
}

/* Sends of lower numbers leave first: others wait for them. */
static moerun_status wait(void *self, const moerun__layer *layer,
                          int32_t slot) {
  moerun_status status = MOERUN_OK;
  moerun__guests *guests = self;
  const moerun__comm_ops *ops = guests->model->comm->ops;
  const int32_t guest = slot - layer->num_slots;
  const int32_t i = guests->in_of_guest[guest];
  moerun__transfer *obstacle = NULL;
  MOERUN_TRY(send_before(guests, guests->send_of_in[i], &obstacle));
  while (obstacle != NULL) {
    MOERUN_TRY(ops->wait(obstacle));
    MOERUN_TRY(send_before(guests, guests->send_of_in[i], &obstacle));
  }
  for (int32_t piece = 0; piece < MOERUN_EXPERT_PIECES; piece++) {
    MOERUN_TRY(ops->wait(guests->in[MOERUN_EXPERT_PIECES * i + piece]));
  }
  guests->presence[guest] = MOERUN_HERE;
  MOERUN_TRY(forward(guests, &obstacle));
done:
  return status;
}

static moerun_status end(void *self) {
  moerun_status status = MOERUN_OK;
  moerun__guests *guests = self;
  const moerun__comm_ops *ops = guests->model->comm->ops;
  if (guests->plan == NULL) goto done;
  for (int32_t i = 0; i < MOERUN_EXPERT_PIECES * guests->num_in; i++) {
    MOERUN_TRY(ops->wait(guests->in[i]));
  }
  for (int32_t i = 0; i < guests->num_out && i < MOERUN_GUEST_SENDS; i++) {
    MOERUN_TRY(ops->wait(guests->out[i]));
  }
  forget_layer(guests);
done:
  return status;
}

const moerun__tier_ops moerun__guests_ops = {
    .name = "guests",
    .lay_out = lay_out,
    .num_transfers = num_transfers,
    .create_transfers = create_transfers,
    .open = open,
    .close = destroy_transfers,
    .get = get,
    .begin = begin,
    .coming = coming,
    .wait = wait,
    .forward = forward,
    .end = end,
};

/* ---- Passing round ------------------------------------------------------- */

int moerun__guests_can_pass(const moerun__guests *guests) {
  return guests->table->per_rank >= 2;
}

moerun_status moerun__guests_pass(moerun__guests *guests) {
  moerun_status status = MOERUN_OK;
  const moerun_comm *comm = guests->model->comm;
  const moerun__comm_ops *ops = comm->ops;
  const int32_t behind = (comm->rank + 1) % comm->size;
  const int32_t before = (comm->rank + comm->size - 1) % comm->size;
  const size_t bytes = guests->each_bytes;
  char *room = last_room(guests);
  const moerun__row_list from =
      moerun__one_row(room + bytes, bytes, before, MOERUN_MEMORY_WEIGHTS);
  const moerun__row_list to =
      moerun__one_row(room, bytes, behind, MOERUN_MEMORY_WEIGHTS);
  moerun__guest_table_forget_last(guests->table);
  MOERUN_TRY(ops->receive_begin(guests->in[0], MOERUN_TAG_EXPERTS, &from));
  MOERUN_TRY(ops->send_begin(guests->out[0], MOERUN_TAG_EXPERTS, &to));
  MOERUN_TRY(ops->wait(guests->in[0]));
  MOERUN_TRY(ops->wait(guests->out[0]));
done:
  return status;
}
