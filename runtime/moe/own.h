/* The experts that the placement puts on this rank: their weights are the
 * model's, in blocks that are locked for the session's device. */
#ifndef MOERUN_MOE_OWN_H
#define MOERUN_MOE_OWN_H

#include "runtime/moe/tier.h"

typedef struct moerun__own {
  const moerun_model *model; /* borrowed */
  int32_t max_slots;         /* of any layer, now or after a move of experts */
  int32_t *expert_of_slot;   /* [num_moe_layers][max_slots] */
  const moerun__device *device; /* NULL: nothing is locked yet */
  int32_t num_locked;           /* layers of the model, from the first */
} moerun__own;

extern const moerun__tier_ops moerun__own_ops;

/* `max_slots`: most experts of a layer that a placement may put here. */
void moerun__own_init(moerun__own *own, const moerun_model *model,
                      int32_t max_slots);

/* The expert in this slot of the placement's, where its weights may be sent
 * from. Guests and slices, which are made of these, ask here too. */
static inline const moerun__expert *moerun__own_at(const moerun__layer *layer,
                                                   int32_t slot) {
  return &layer->experts[slot];
}

/* What store.h says of is_alone, create_experts and destroy_experts. */
int moerun__own_is_alone(const moerun__own *own);
moerun_status moerun__own_create(moerun__expert **out, const moerun__own *own,
                                 const moerun__expert_shape *shape,
                                 size_t count);
void moerun__own_destroy(const moerun__own *own, moerun__expert *experts);

static inline int32_t moerun__own_expert(const moerun__own *own,
                                         int32_t moe_layer, int32_t slot) {
  return own->expert_of_slot[(size_t)moe_layer * (size_t)own->max_slots +
                             (size_t)slot];
}

#endif
