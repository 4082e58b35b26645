/* The experts that this rank can compute with, whole or in slices, and their
 * way here. The expert stage asks for a slot and gets its expert, or learns
 * that its weights still come; where they are and how they come is a tier's
 * matter.
 *
 * Around a layer whose rows a plan moves: begin, forward now and then, end.
 * Around the rows of a wave: begin it, want every slot that has rows, then take
 * the slots and experts that next gives until there is no more, wait where
 * there is no expert yet, and release each. */
#ifndef MOERUN_MOE_STORE_H
#define MOERUN_MOE_STORE_H

#include "runtime/moe/guests.h"
#include "runtime/moe/own.h"
#include "runtime/moe/slices.h"

enum { MOERUN_MAX_TIERS = 8 };

/* A slot of a wave. */
typedef struct moerun__wanted {
  const moerun__tier *tier;     /* that answered for it */
  const moerun__expert *expert; /* NULL: its weights come */
  int32_t is_awaited;           /* 1: they come, and it has not had its turn */
} moerun__wanted;

typedef struct moerun__store {
  const moerun_model *model; /* borrowed */
  moerun__tier
      tier[MOERUN_MAX_TIERS]; /* in the order in which they are asked */
  int32_t num_tiers;
  int32_t num_init_tiers;          /* of them, by moerun__store_init */
  moerun__guest_table guest_table; /* for plans; empty where none is a tier */
  moerun__own own;
  moerun__guests guests;
  moerun__slices slices;
  /* Of the wave under way. */
  int32_t first;          /* slots first .. first + count - 1 */
  int32_t count;          /* may be wanted */
  moerun__wanted *wanted; /* [slots] from `first` on */
  int32_t *here;          /* [slots] those wanted whose weights are here */
  int32_t num_here;
  int32_t num_given; /* of them, by next */
  int32_t num_awaited;
  int32_t coming_tier; /* where next goes on among those that come */
  int32_t coming;      /* and the number there */
} moerun__store;

/* A store of own experts, and of guests and slices if there is room for any.
 * `max_slots`: most experts of a layer that a placement may put here;
 * `guest_bytes`: for weights of guests, 0: none; `slice_bytes`: for weights of
 * slices, 0: none, below 0: as much as all layers take. The store must not be
 * copied or moved: tiers keep its address. */
void moerun__store_init(moerun__store *store, const moerun_model *model,
                        int32_t max_slots, size_t guest_bytes,
                        int64_t slice_bytes);
/* Whether all experts of this rank are in the model's own slots, from where
 * they can be sent to others: no tier has been added. */
int moerun__store_has_all_weights(const moerun__store *store);
/* A tier that is asked before all others; before memory is laid out. */
void moerun__store_add_tier(moerun__store *store, moerun__tier tier);

/* What tier.h says of each, for all tiers; from the one that is asked last to
 * the first, so that what a tier stands before is there. */
void moerun__store_lay_out(moerun__store *store, moerun__arenas *arenas);
void moerun__store_adopt_placement(moerun__store *store);
moerun_status moerun__store_adopt_device(moerun__store *store,
                                         const moerun__device *device);
int32_t moerun__store_num_transfers(const moerun__store *store);
moerun_status moerun__store_create_transfers(moerun__store *store);
moerun_status moerun__store_open(moerun__store *store, double row_seconds);
size_t moerun__store_open_bytes(const moerun__store *store,
                                const moerun__expert_shape *whole);
/* After moerun__store_init; the other way round. */
void moerun__store_close(moerun__store *store);

/* ---- A layer ---- */

/* `plan` moves rows of the layer: their weights come and leave from now on.
 * Both are borrowed until the end. */
moerun_status moerun__store_begin(moerun__store *store,
                                  const moerun__layer *layer,
                                  const moerun__plan *plan);
/* Moves weights on as far as nothing must be waited for. */
moerun_status moerun__store_forward(moerun__store *store);
/* Moves weights on until this transfer, which depends on none, has received
 * all. */
moerun_status moerun__store_forward_until(moerun__store *store,
                                          moerun__transfer *transfer);
/* Until all that is to leave has begun to: others may wait for it, so before
 * anything that depends on their work. */
moerun_status moerun__store_forward_all(moerun__store *store);
/* Until nothing moves any more. */
moerun_status moerun__store_end(moerun__store *store);

/* ---- A wave ---- */

/* Slots that rows of the layer may name: own ones, then guests. */
static inline int32_t moerun__store_slots(const moerun__store *store,
                                          const moerun__layer *layer) {
  return layer->num_slots + store->guest_table.per_layer;
}
/* The most slots that rows of any layer may name. */
static inline int32_t moerun__store_most_slots(const moerun__store *store) {
  return store->own.max_slots + store->guests.per_layer;
}

/* Nothing is wanted any more; slots first .. first + count - 1 may be from now
 * on: those of moerun__store_slots, or slices. */
void moerun__store_begin_wave(moerun__store *store, int32_t first,
                              int32_t count);
/* Rows for the slot are here. ERR_COMM: there is no expert in it. Once a
 * wave. */
moerun_status moerun__store_want(moerun__store *store,
                                 const moerun__layer *layer, int32_t slot);
/* The wanted slot whose turn it is: those whose weights are here in their
 * order, then those whose weights come in the order in which they do;
 * MOERUN_NO_SLOT after all. *out: its expert, borrowed until its release; NULL:
 * it must be waited for. */
int32_t moerun__store_next(const moerun__expert **out, moerun__store *store,
                           const moerun__layer *layer);
/* The expert of the slot that next has given without, once its weights have
 * come. */
moerun_status moerun__store_wait(const moerun__expert **out,
                                 moerun__store *store,
                                 const moerun__layer *layer, int32_t slot);
/* The rows of the slot have gone through its expert. */
moerun_status moerun__store_release(moerun__store *store,
                                    const moerun__layer *layer, int32_t slot);

/* Between waves: the expert, borrowed until the next call; NULL: its weights
 * are not here. */
const moerun__expert *moerun__store_get(const moerun__store *store,
                                        const moerun__layer *layer,
                                        int32_t slot);

/* Which of the model's experts is in the slot. */
int32_t moerun__store_expert(const moerun__store *store,
                             const moerun__layer *layer, int32_t slot);

/* ---- Moves of experts between two steps ---- */

/* A list of experts for a layer's new slots, as moerun__experts_create makes
 * it, in memory that kernels may use. A count of 0: *out is NULL. */
moerun_status moerun__store_create_experts(moerun__expert **out,
                                           const moerun__store *store,
                                           const moerun__expert_shape *shape,
                                           size_t count);
/* Accepts NULL. */
void moerun__store_destroy_experts(const moerun__store *store,
                                   moerun__expert *experts);
/* The expert that the placement puts in this slot, where its weights may be
 * sent from; borrowed until adopt_experts. */
const moerun__expert *moerun__store_own(const moerun__layer *layer,
                                        int32_t slot);
/* Whether no other session has the model's experts in use. */
int moerun__store_is_alone(const moerun__store *store);
/* The layer has these experts from now on, and they are the store's; those that
 * it had go. */
void moerun__store_adopt_experts(const moerun__store *store,
                                 moerun__layer *layer, moerun__expert *experts,
                                 int32_t num_slots);

/* ---- Slices ---- */

/* Whether there may be any: before open. */
int moerun__store_has_slices(const moerun__store *store);
/* MoE layers 0 .. so many - 1 are held in slices: after open. */
int32_t moerun__store_sliced_layers(const moerun__store *store);
/* Who computes which columns. Borrowed. */
const moerun__slice_shares *moerun__store_shares(const moerun__store *store);

/* ---- For plans and reports ---- */

/* Whether weights can be passed round, so that it can be timed; and the passing
 * of one expert's. [collective] */
int moerun__store_can_pass(const moerun__store *store);
moerun_status moerun__store_pass(moerun__store *store);

/* Who holds whose weights for a while; plans bring it up to date. */
moerun__guest_table *moerun__store_guest_table(moerun__store *store);
/* Of an expert of this MoE layer, as it moves; 0 where none does. */
int64_t moerun__store_expert_bytes(const moerun__store *store,
                                   int32_t moe_layer);
/* Memory for weights of guests. */
size_t moerun__store_guest_bytes(const moerun__store *store);
/* Weights that have left here since the count was cleared. */
int64_t moerun__store_bytes_sent(const moerun__store *store);
void moerun__store_clear_count(moerun__store *store);

#endif
