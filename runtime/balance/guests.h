/* Experts of other ranks that this one holds for a while: memory for their
 * weights, and the messages that bring them. Who holds what is in the guest
 * table of the plans. */
#ifndef MOERUN_RUNTIME_BALANCE_GUESTS_H
#define MOERUN_RUNTIME_BALANCE_GUESTS_H

#include "runtime/balance/plan.h"
#include "runtime/model.h"

enum {
  MOERUN_MAX_GUESTS = 1024, /* on one rank */
  MOERUN_GUEST_SENDS = 8,   /* messages with weights that leave at once */
};

typedef struct moerun__guests {
  const moerun_model *model; /* borrowed */
  size_t room_bytes;         /* for weights, as asked for */
  int32_t capacity;          /* guests if every weight took 2 bytes */
  int32_t per_rank; /* guests of the type that the weights have; 0: none */
  moerun__guest_table table;
  char *room;
  int32_t *dtype_of_layer; /* [num_moe_layers] the experts' moerun__dtype */
  moerun__weight *gate_up; /* [capacity] */
  moerun__weight *down;
  size_t bytes[2]; /* of one expert's gate_up and down, as laid out in room */
  int32_t num_in;  /* messages in flight to here */
  int32_t num_out; /* and from here */
  int32_t *offset; /* [2 * MOERUN_MOST_GUESTS + MOERUN_GUEST_SENDS][R + 1] */
  moerun__transfer *in[2 * MOERUN_MOST_GUESTS];
  moerun__transfer *out[MOERUN_GUEST_SENDS];
} moerun__guests;

/* model and room_bytes are set before; a room_bytes of 0 means no guests. */
void moerun__guests_lay_out(moerun__guests *guests, moerun__arena *arena);
/* The expert that this rank has as this guest. */
static inline int32_t moerun__guests_expert(const moerun__guests *guests,
                                            int32_t guest) {
  const int32_t own = guests->model->comm->rank;
  const int64_t key = guests->table.key[own * guests->table.per_rank + guest];
  return (int32_t)(key % guests->model->config.num_experts);
}

/* Transfers that moerun__guests_create_transfers creates. */
int32_t moerun__guests_transfers(const moerun__guests *guests);
moerun_status moerun__guests_create_transfers(moerun__guests *guests);
void moerun__guests_destroy_transfers(moerun__guests *guests);
/* [collective] The weights' types, known where there are experts, everywhere. */
moerun_status moerun__guests_open(moerun__guests *guests);

/* Begins all messages with weights that the plan has for this rank. All ranks
 * post what they receive before they wait for anything. */
moerun_status moerun__guests_begin(moerun__guests *guests,
                                   const moerun__plan *plan,
                                   const moerun__layer *layer,
                                   const int32_t *rank_of_host,
                                   const int32_t *slot_of_host);
/* Until the weights of all guests are here; at once if none are coming. */
moerun_status moerun__guests_await(moerun__guests *guests);
/* Until all that was begun is over. */
moerun_status moerun__guests_end(moerun__guests *guests);

#endif
