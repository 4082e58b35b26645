/* Packed weights travel as they are, gate_up and down as one message each, so a
 * guest computes the same bits as the expert at home. */
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

static moerun_status learn_types(moerun__guests *guests) {
  moerun_status status = MOERUN_OK;
  const moerun_model *model = guests->model;
  moerun_comm *comm = model->comm;
  for (int32_t l = 0; l < model->config.num_layers; l++) {
    const moerun__layer *layer = &model->layers[l];
    if (layer->moe_layer < 0) continue;
    int64_t dtype =
        layer->num_slots > 0 ? (int64_t)layer->gate_up[0].dtype : INT32_MAX;
    MOERUN_TRY(comm->ops->minimum(comm, &dtype));
    guests->dtype_of_layer[layer->moe_layer] = (int32_t)dtype;
  }
done:
  return status;
}

moerun_status moerun__guests_open(moerun__guests *guests) {
  moerun_status status = MOERUN_OK;
  const moerun__model_config *config = &guests->model->config;
  size_t most = 0;
  guests->per_rank = 0;
  if (guests->capacity == 0) goto done;
  MOERUN_TRY(learn_types(guests));
  for (int32_t l = 0; l < config->num_moe_layers; l++) {
    const moerun__dtype dtype = (moerun__dtype)guests->dtype_of_layer[l];
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

static moerun_status receive(moerun__guests *guests, const moerun__weight *into,
                             int32_t peer, int down) {
  const int32_t at = guests->num_in++;
  const size_t bytes =
      moerun__weight_bytes(into->dtype, into->num_outputs, into->num_inputs);
  const moerun__row_list list = one_row(guests, at, peer, into->panels, bytes);
  return guests->model->comm->ops->receive_begin(
      guests->in[at], MOERUN_TAG_EXPERTS + down, &list);
}

/* With all places taken the next message waits for the oldest: its receiver
 * has asked for it already. */
static moerun_status send(moerun__guests *guests, const moerun__weight *from,
                          int32_t peer, int down) {
  moerun_status status = MOERUN_OK;
  const moerun__comm_ops *ops = guests->model->comm->ops;
  const int32_t at = guests->num_out++ % MOERUN_GUEST_SENDS;
  const size_t bytes =
      moerun__weight_bytes(from->dtype, from->num_outputs, from->num_inputs);
  MOERUN_TRY(ops->wait(guests->out[at]));
  const moerun__row_list list =
      one_row(guests, 2 * MOERUN_MOST_GUESTS + at, peer, from->panels, bytes);
  MOERUN_TRY(
      ops->send_begin(guests->out[at], MOERUN_TAG_EXPERTS + down, &list));
done:
  return status;
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

moerun_status moerun__guests_begin(moerun__guests *guests,
                                   const moerun__plan *plan,
                                   const moerun__layer *layer,
                                   const int32_t *rank_of_host,
                                   const int32_t *slot_of_host) {
  moerun_status status = MOERUN_OK;
  const int32_t own = guests->model->comm->rank;
  for (int32_t m = 0; m < plan->num_moves; m++) {
    const moerun__move *move = &plan->moves[m];
    if (move->rank != own || move->guest == MOERUN_NO_GUEST) continue;
    shape_guest(guests, move->guest, layer->moe_layer);
    if (!move->sends) continue;
    const int32_t peer = rank_of_host[move->host];
    MOERUN_TRY(receive(guests, &guests->gate_up[move->guest], peer, 0));
    MOERUN_TRY(receive(guests, &guests->down[move->guest], peer, 1));
  }
  for (int32_t m = 0; m < plan->num_moves; m++) {
    const moerun__move *move = &plan->moves[m];
    if (!move->sends || rank_of_host[move->host] != own) continue;
    const int32_t slot = slot_of_host[move->host];
    MOERUN_TRY(send(guests, &layer->gate_up[slot], move->rank, 0));
    MOERUN_TRY(send(guests, &layer->down[slot], move->rank, 1));
  }
done:
  return status;
}

moerun_status moerun__guests_await(moerun__guests *guests) {
  moerun_status status = MOERUN_OK;
  for (; guests->num_in > 0; guests->num_in--) {
    MOERUN_TRY(guests->model->comm->ops->wait(guests->in[guests->num_in - 1]));
  }
done:
  return status;
}

moerun_status moerun__guests_end(moerun__guests *guests) {
  moerun_status status = MOERUN_OK;
  const int32_t count = guests->num_out < MOERUN_GUEST_SENDS
                            ? guests->num_out
                            : MOERUN_GUEST_SENDS;
  MOERUN_TRY(moerun__guests_await(guests));
  for (int32_t i = 0; i < count; i++) {
    MOERUN_TRY(guests->model->comm->ops->wait(guests->out[i]));
  }
  guests->num_out = 0;
done:
  return status;
}
