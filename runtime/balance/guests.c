/* Packed weights travel as they are, gate_up and down as one message each, so a
 * guest computes the same bits as the expert at home. Pieces are sent on one by
 * one, so that down is still coming while gate_up leaves. */
#include "runtime/balance/guests.h"

#include <string.h>

static size_t weights_bytes(const moerun__model_config *config,
                            moerun__dtype dtype, int down) {
  return down ? moerun__weight_bytes(dtype, config->hidden_width,
                                     config->expert_width)
              : moerun__weight_bytes(dtype, 2 * config->expert_width,
                                     config->hidden_width);
}

static size_t expert_bytes(const moerun__model_config *config,
                           moerun__dtype dtype) {
  return weights_bytes(config, dtype, 0) + weights_bytes(config, dtype, 1);
}

/* ---- Memory ---------------------------------------------------------------- */

void moerun__guests_lay_out(moerun__guests *guests, moerun__arena *arena) {
  const moerun__model_config *config = &guests->model->config;
  const int32_t R = guests->model->comm->size;
  const size_t fit =
      R > 1 ? guests->room_bytes / expert_bytes(config, MOERUN_DTYPE_BF16) : 0;
  guests->capacity = fit < MOERUN_MAX_GUESTS ? (int32_t)fit : MOERUN_MAX_GUESTS;
  const size_t room = guests->capacity > 0 ? guests->room_bytes : 0;
  const size_t messages =
      guests->capacity > 0 ? 2 * MOERUN_MOST_GUESTS + MOERUN_GUEST_SENDS : 0;
  moerun__guest_table_lay_out(&guests->table, arena, R, guests->capacity);
  guests->room = moerun__arena_take(arena, room, 1);
  guests->dtype_of_layer = moerun__arena_take(
      arena, (size_t)config->num_moe_layers, sizeof *guests->dtype_of_layer);
  guests->gate_up = moerun__arena_take(arena, (size_t)guests->capacity,
                                       sizeof *guests->gate_up);
  guests->down =
      moerun__arena_take(arena, (size_t)guests->capacity, sizeof *guests->down);
  guests->offset = moerun__arena_take(arena, messages * ((size_t)R + 1),
                                      sizeof *guests->offset);
}

int32_t moerun__guests_transfers(const moerun__guests *guests) {
  return guests->capacity > 0 ? 2 * MOERUN_MOST_GUESTS + MOERUN_GUEST_SENDS : 0;
}

moerun_status moerun__guests_create_transfers(moerun__guests *guests) {
  moerun_status status = MOERUN_OK;
  moerun_comm *comm = guests->model->comm;
  if (guests->capacity == 0) goto done;
  for (int i = 0; i < 2 * MOERUN_MOST_GUESTS; i++) {
    MOERUN_TRY(comm->ops->transfer_create(&guests->in[i], comm));
  }
  for (int i = 0; i < MOERUN_GUEST_SENDS; i++) {
    MOERUN_TRY(comm->ops->transfer_create(&guests->out[i], comm));
  }
done:
  return status;
}

void moerun__guests_destroy_transfers(moerun__guests *guests) {
  const moerun__comm_ops *ops = guests->model->comm->ops;
  for (int i = 0; i < 2 * MOERUN_MOST_GUESTS; i++) {
    ops->transfer_destroy(guests->in[i]);
  }
  for (int i = 0; i < MOERUN_GUEST_SENDS; i++) {
    ops->transfer_destroy(guests->out[i]);
  }
}

/* ---- Types ------------------------------------------------------------------- */

moerun_status moerun__guests_open(moerun__guests *guests) {
  moerun_status status = MOERUN_OK;
  const moerun__model_config *config = &guests->model->config;
  size_t most = 0;
  guests->per_rank = 0;
  if (guests->capacity == 0) goto done;
  for (int32_t l = 0; l < config->num_moe_layers; l++) {
    moerun__dtype dtype = MOERUN_DTYPE_F32;
    MOERUN_TRY(moerun__model_expert_type(&dtype, guests->model, l));
    guests->dtype_of_layer[l] = (int32_t)dtype;
    const size_t bytes = expert_bytes(config, dtype);
    if (bytes <= most) continue;
    most = bytes;
    guests->bytes[0] = weights_bytes(config, dtype, 0);
    guests->bytes[1] = weights_bytes(config, dtype, 1);
  }
  if (most == 0) goto done; /* no MoE layer */
  const size_t fit = guests->room_bytes / most;
  guests->per_rank =
      fit < (size_t)guests->capacity ? (int32_t)fit : guests->capacity;
  guests->table.per_rank = guests->per_rank;
  moerun__guest_table_clear(&guests->table);
done:
  return status;
}

int64_t moerun__guests_expert_bytes(const moerun__guests *guests,
                                    int32_t moe_layer) {
  if (guests->per_rank == 0) return 0;
  return (int64_t)expert_bytes(
      &guests->model->config, (moerun__dtype)guests->dtype_of_layer[moe_layer]);
}

/* ---- Messages ------------------------------------------------------------------ */

/* One row of weights to or from `peer`. */
static moerun__row_list one_row(const moerun__guests *guests, int32_t message,
                                int32_t peer, const void *panels,
                                size_t bytes) {
  const size_t R = (size_t)guests->model->comm->size;
  int32_t *offset = guests->offset + (size_t)message * (R + 1);
  memset(offset, 0, (R + 1) * sizeof *offset);
  offset[peer + 1] = 1;
  return (moerun__row_list){(void *)panels, bytes, offset, peer, peer + 1};
}

/* One of an expert's two weights: gate_up, or as piece 1 down. */
static moerun_status begin_receive(moerun__guests *guests, int32_t message,
                                   const moerun__weight *into, int32_t peer,
                                   int32_t piece) {
  const size_t bytes =
      moerun__weight_bytes(into->dtype, into->num_outputs, into->num_inputs);
  const moerun__row_list list =
      one_row(guests, message, peer, into->panels, bytes);
  return guests->model->comm->ops->receive_begin(
      guests->in[message], MOERUN_TAG_EXPERTS + piece, &list);
}

static moerun_status begin_send(moerun__guests *guests, int32_t place,
                                const moerun__weight *from, int32_t peer,
                                int32_t piece) {
  const size_t bytes =
      moerun__weight_bytes(from->dtype, from->num_outputs, from->num_inputs);
  const moerun__row_list list = one_row(guests, 2 * MOERUN_MOST_GUESTS + place,
                                        peer, from->panels, bytes);
  guests->bytes_sent += (int64_t)bytes;
  return guests->model->comm->ops->send_begin(
      guests->out[place], MOERUN_TAG_EXPERTS + piece, &list);
}

/* The layer's guests that are here, new or not, as slots of this layer. */
static void shape_guest(moerun__guests *guests, int32_t guest,
                        int32_t moe_layer) {
  const moerun__model_config *config = &guests->model->config;
  const moerun__dtype dtype = (moerun__dtype)guests->dtype_of_layer[moe_layer];
  char *room =
      guests->room + (size_t)guest * (guests->bytes[0] + guests->bytes[1]);
  guests->gate_up[guest] = (moerun__weight){
      room, dtype, 2 * config->expert_width, config->hidden_width};
  guests->down[guest] =
      (moerun__weight){room + guests->bytes[0], dtype, config->hidden_width,
                       config->expert_width};
}

/* ---- Sending on ------------------------------------------------------------- */

int32_t moerun__guests_arrival(const moerun__guests *guests, int32_t i) {
  const moerun__plan *plan = guests->plan;
  return plan->moves[plan->sends[guests->send_of_in[i]].move].guest;
}

/* Which of the experts that come here is the guest; -1: none. */
static int32_t coming(const moerun__guests *guests, int32_t guest) {
  for (int32_t i = 0; i < guests->num_in; i++) {
    if (moerun__guests_arrival(guests, i) == guest) return i;
  }
  return -1;
}

/* *found: what must be over before the next piece of a send can leave: the
 * message that brings it here, or the one that last left in its place. NULL:
 * nothing any more. */
static moerun_status find_obstacle(moerun__transfer **found,
                                   const moerun__guests *guests,
                                   const moerun__send *next) {
  moerun_status status = MOERUN_OK;
  const moerun__comm_ops *ops = guests->model->comm->ops;
  const moerun__plan *plan = guests->plan;
  const int32_t in = next->from_move < 0
                         ? -1
                         : coming(guests, plan->moves[next->from_move].guest);
  int over = 1;
  *found = NULL;
  if (in >= 0) {
    *found = guests->in[2 * in + guests->piece];
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
  const int32_t piece = guests->piece;
  const moerun__move *move = &guests->plan->moves[send->move];
  const moerun__weight *weight =
      piece == 0 ? guests->layer->gate_up : guests->layer->down;
  int32_t at = send->from_slot;
  if (send->from_move >= 0) {
    weight = piece == 0 ? guests->gate_up : guests->down;
    at = guests->plan->moves[send->from_move].guest;
  }
  guests->next += piece;
  guests->piece = 1 - piece;
  return begin_send(guests, guests->num_out++ % MOERUN_GUEST_SENDS, weight + at,
                    move->rank, piece);
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

/* Begins the sends before number `end` that leave here, in their order. What
 * they wait for comes of sends with lower numbers, so the lowest that has not
 * begun anywhere can always begin: no deadlock. Without `waits` it stops where
 * it would have to wait. */
static moerun_status forward(moerun__guests *guests, int32_t end, int waits) {
  moerun_status status = MOERUN_OK;
  const moerun__send *next;
  while ((next = next_send(guests, end)) != NULL) {
    moerun__transfer *obstacle;
    MOERUN_TRY(find_obstacle(&obstacle, guests, next));
    if (obstacle == NULL) {
      MOERUN_TRY(send_piece(guests, next));
    } else if (waits) {
      MOERUN_TRY(guests->model->comm->ops->wait(obstacle));
    } else {
      break;
    }
  }
done:
  return status;
}

static int32_t num_sends(const moerun__guests *guests) {
  return guests->plan != NULL ? guests->plan->num_sends : 0;
}

moerun_status moerun__guests_forward(moerun__guests *guests) {
  return forward(guests, num_sends(guests), 0);
}

moerun_status moerun__guests_forward_all(moerun__guests *guests) {
  return forward(guests, num_sends(guests), 1);
}

moerun_status moerun__guests_forward_until(moerun__guests *guests,
                                           moerun__transfer *transfer) {
  moerun_status status = MOERUN_OK;
  const moerun__comm_ops *ops = guests->model->comm->ops;
  const moerun__send *next;
  int over = 0;
  while ((next = next_send(guests, num_sends(guests))) != NULL && !over) {
    moerun__transfer *obstacle;
    MOERUN_TRY(find_obstacle(&obstacle, guests, next));
    if (obstacle == NULL) {
      MOERUN_TRY(send_piece(guests, next));
    } else {
      MOERUN_TRY(ops->wait_either(transfer, obstacle));
      MOERUN_TRY(ops->test(transfer, &over));
    }
  }
  MOERUN_TRY(ops->wait(transfer));
done:
  return status;
}

int moerun__guests_comes(const moerun__guests *guests, int32_t guest) {
  return coming(guests, guest) >= 0;
}

/* ---- A layer --------------------------------------------------------------------- */

moerun_status moerun__guests_begin(moerun__guests *guests,
                                   const moerun__plan *plan,
                                   const moerun__layer *layer) {
  moerun_status status = MOERUN_OK;
  const int32_t own = guests->model->comm->rank;
  guests->plan = plan;
  guests->layer = layer;
  guests->next = 0;
  guests->piece = 0;
  for (int32_t m = 0; m < plan->num_moves; m++) {
    const moerun__move *move = &plan->moves[m];
    if (move->rank != own || move->guest == MOERUN_NO_GUEST) continue;
    shape_guest(guests, move->guest, layer->moe_layer);
  }
  for (int32_t i = 0; i < plan->num_sends; i++) {
    const moerun__send *send = &plan->sends[i];
    const moerun__move *move = &plan->moves[send->move];
    if (move->rank != own) continue;
    const int32_t at = guests->num_in++;
    guests->send_of_in[at] = i;
    MOERUN_TRY(begin_receive(guests, 2 * at, &guests->gate_up[move->guest],
                             send->from, 0));
    MOERUN_TRY(begin_receive(guests, 2 * at + 1, &guests->down[move->guest],
                             send->from, 1));
  }
  MOERUN_TRY(moerun__guests_forward(guests));
done:
  return status;
}

moerun_status moerun__guests_await(moerun__guests *guests, int32_t guest) {
  moerun_status status = MOERUN_OK;
  const moerun__comm_ops *ops = guests->model->comm->ops;
  const int32_t i = coming(guests, guest);
  if (i < 0) goto done;
  MOERUN_TRY(forward(guests, guests->send_of_in[i], 1));
  for (int32_t piece = 0; piece < 2; piece++) {
    MOERUN_TRY(ops->wait(guests->in[2 * i + piece]));
  }
  MOERUN_TRY(moerun__guests_forward(guests));
done:
  return status;
}

moerun_status moerun__guests_end(moerun__guests *guests) {
  moerun_status status = MOERUN_OK;
  const moerun__comm_ops *ops = guests->model->comm->ops;
  MOERUN_TRY(moerun__guests_forward_all(guests));
  for (int32_t i = 0; i < 2 * guests->num_in; i++) {
    MOERUN_TRY(ops->wait(guests->in[i]));
  }
  for (int32_t i = 0; i < guests->num_out && i < MOERUN_GUEST_SENDS; i++) {
    MOERUN_TRY(ops->wait(guests->out[i]));
  }
  guests->num_in = 0;
  guests->num_out = 0;
  guests->plan = NULL;
done:
  return status;
}
