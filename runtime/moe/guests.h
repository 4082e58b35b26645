/* Experts of other ranks that this one holds for a while: memory for their
 * weights, and the messages that bring them. Who holds what is in the guest
 * table of the plans. */
#ifndef MOERUN_MOE_GUESTS_H
#define MOERUN_MOE_GUESTS_H

#include "runtime/model/model.h"
#include "runtime/plan/plan.h"

enum {
  MOERUN_GUEST_SENDS = 16, /* messages with weights that leave at once */
};

typedef struct moerun__guests {
  const moerun_model *model; /* borrowed */
  size_t room_bytes;         /* for weights, as asked for */
  int32_t per_layer;         /* guests of a plan at most; 0: none */
  moerun__guest_table table;
  char *room;
  moerun__expert_shape *shape; /* [num_moe_layers] of the layer's experts */
  moerun__expert *expert;      /* [per_layer] of the layer under way */
  size_t each_bytes;           /* of room for one guest: the largest expert */
  /* Of the layer under way, borrowed; NULL: no weights move. */
  const moerun__plan *plan;
  const moerun__layer *layer;
  int32_t next;         /* plan->sends before it have left here, if they do */
  int32_t piece;        /* moerun__expert_piece of it that leaves next */
  int32_t num_in;       /* experts that come here */
  int32_t num_out;      /* messages that have left */
  int32_t *send_of_in;  /* [per_layer] number among plan->sends */
  int32_t *in_of_guest; /* [per_layer] number of num_in; -1: it does not come */
  int64_t bytes_sent;   /* since the session began */
  int32_t *offset;      /* [transfers][R + 1] */
  moerun__transfer **in; /* [per_layer][MOERUN_EXPERT_PIECES] */
  moerun__transfer *out[MOERUN_GUEST_SENDS];
} moerun__guests;

/* Bytes for guests that a rank needs if a quarter of the ranks, one at least,
 * give all their experts away to the others, evenly: more than ranks of any
 * slowness will. */
size_t moerun__guests_default(const moerun_placement *placement,
                              const moerun__expert_shape *expert);

/* Reads guests->model and room_bytes; a room_bytes of 0 means no guests. */
void moerun__guests_lay_out(moerun__guests *guests, moerun__arena *arena);
/* The expert that this rank has as this guest of the layer. */
static inline int32_t moerun__guests_expert(const moerun__guests *guests,
                                            int32_t moe_layer, int32_t guest) {
  const int64_t key = guests->table.key[moerun__guest_table_entry(
      &guests->table, guests->model->comm->rank, moe_layer, guest)];
  return (int32_t)(key % guests->model->config.num_experts);
}

/* Transfers that moerun__guests_create_transfers creates. */
int32_t moerun__guests_transfers(const moerun__guests *guests);
moerun_status moerun__guests_create_transfers(moerun__guests *guests);
void moerun__guests_destroy_transfers(moerun__guests *guests);
/* [collective] The weights' types, known where there are experts, everywhere. */
moerun_status moerun__guests_open(moerun__guests *guests);

/* Bytes of the weights of an expert of this MoE layer; after open. */
int64_t moerun__guests_expert_bytes(const moerun__guests *guests,
                                    int32_t moe_layer);

/* Begins the messages with weights that the plan has for this rank: those to it
 * all, so that no rank waits before it has asked for what it is sent, and those
 * from it as far as the weights are here. Borrows plan and layer until the
 * end. */
moerun_status moerun__guests_begin(moerun__guests *guests,
                                   const moerun__plan *plan,
                                   const moerun__layer *layer);
/* Sends on what has come since, without waiting. */
moerun_status moerun__guests_forward(moerun__guests *guests);
/* Sends on what comes until this transfer, which depends on no weights, is
 * over. */
moerun_status moerun__guests_forward_until(moerun__guests *guests,
                                           moerun__transfer *transfer);
/* 1: the guest's weights come in this layer. */
int moerun__guests_comes(const moerun__guests *guests, int32_t guest);
/* The guest whose weights come as number i of num_in. */
int32_t moerun__guests_arrival(const moerun__guests *guests, int32_t i);
/* Until the weights of the guest are here. */
moerun_status moerun__guests_await(moerun__guests *guests, int32_t guest);
/* Until all that is to leave has begun to: others may wait for it, so before
 * anything that depends on their work. */
moerun_status moerun__guests_forward_all(moerun__guests *guests);
/* Until all messages are over. */
moerun_status moerun__guests_end(moerun__guests *guests);

#endif
