/* The experts that the placement puts on this rank: their weights are the
 * model's. */
#ifndef MOERUN_MOE_OWN_H
#define MOERUN_MOE_OWN_H

#include "runtime/moe/tier.h"

typedef struct moerun__own {
  const moerun_model *model; /* borrowed */
  int32_t max_slots;         /* of any layer, now or after a move of experts */
  int32_t *expert_of_slot;   /* [num_moe_layers][max_slots] */
} moerun__own;

extern const moerun__tier_ops moerun__own_ops;

/* `max_slots`: most experts of a layer that a placement may put here. */
void moerun__own_init(moerun__own *own, const moerun_model *model,
                      int32_t max_slots);

static inline int32_t moerun__own_expert(const moerun__own *own,
                                         int32_t moe_layer, int32_t slot) {
  return own->expert_of_slot[(size_t)moe_layer * (size_t)own->max_slots +
                             (size_t)slot];
}

#endif
