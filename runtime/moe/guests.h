/* Experts of other ranks that this one holds for a while: memory for their
 * weights, and the messages that bring them. Who holds what is in the guest
 * table, which plans go by. */
#ifndef MOERUN_MOE_GUESTS_H
#define MOERUN_MOE_GUESTS_H

#include "runtime/moe/own.h"

enum {
  MOERUN_GUEST_SENDS = 16, /* messages with weights that leave at once */
};

typedef struct moerun__guests {
  const moerun_model *model;  /* borrowed */
  size_t room_bytes;          /* for weights */
  int32_t most_guests;        /* that there is room for; 0: none */
  int32_t per_layer;          /* guests of a plan at most */
  moerun__guest_table *table; /* borrowed */
  char *room;
  moerun__expert_shape *shape; /* [num_moe_layers] of the layer's experts */
  size_t each_bytes;           /* of room for one guest: the largest expert */
  /* Of the layer under way, borrowed; NULL: no weights move. */
  const moerun__plan *plan;
  const moerun__layer *layer;
  moerun__expert *expert; /* [per_layer] */
  int32_t *presence;      /* [per_layer] moerun__presence */
  int32_t next;           /* plan->sends before it have left here, if they do */
  int32_t piece;          /* moerun__expert_piece of it that leaves next */
  int32_t num_in;         /* experts that come here */
  int32_t num_out;        /* messages that have left */
  int32_t *send_of_in;    /* [per_layer] number among plan->sends */
  int32_t *in_of_guest;   /* [per_layer] number of num_in; -1: does not come */
  int64_t bytes_sent;     /* since the count was cleared */
  moerun__transfer **in;  /* [per_layer][MOERUN_EXPERT_PIECES] */
  moerun__transfer *out[MOERUN_GUEST_SENDS];
} moerun__guests;

/* A plan's weights come from begin on, in the order of its sends. */
extern const moerun__tier_ops moerun__guests_ops;

/* Bytes for guests that a rank needs if a quarter of the ranks, one at least,
 * give all their experts away to the others, evenly: more than ranks of any
 * slowness will. */
size_t moerun__guests_default(const moerun_placement *placement,
                              const moerun__expert_shape *expert);

/* Guests whose weights have this much room, of which no more is taken than
 * there is use for. `table` is for most_guests on each rank, and is laid out
 * before the tier is; it is borrowed. */
void moerun__guests_init(moerun__guests *guests, const moerun_model *model,
                         moerun__guest_table *table, size_t room_bytes);

/* Bytes of the weights of an expert of this MoE layer; after open. */
int64_t moerun__guests_expert_bytes(const moerun__guests *guests,
                                    int32_t moe_layer);
/* The expert that this rank has as this guest of the layer. */
static inline int32_t moerun__guests_expert(const moerun__guests *guests,
                                            int32_t moe_layer, int32_t guest) {
  const int64_t key = guests->table->key[moerun__guest_table_entry(
      guests->table, guests->model->comm->rank, moe_layer, guest)];
  return (int32_t)(key % guests->model->config.num_experts);
}

/* Whether there is room to pass weights round, so that it can be timed. */
int moerun__guests_can_pass(const moerun__guests *guests);
/* [collective] As many bytes as the largest expert has from the rank before,
 * while as many leave for the rank behind. They come to the last guest, which
 * no layer owns and which nobody holds any more. */
moerun_status moerun__guests_pass(moerun__guests *guests);

#endif
