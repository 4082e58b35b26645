/* The experts that the placement puts on this rank: their weights are the
 * model's. */
#ifndef MOERUN_MOE_OWN_H
#define MOERUN_MOE_OWN_H

#include "runtime/base/arena.h"
#include "runtime/moe/tier.h"

typedef struct moerun__own {
  const moerun_model *model; /* borrowed */
  int32_t max_slots;         /* of any layer, now or after a move of experts */
  int32_t *expert_of_slot;   /* [num_moe_layers][max_slots] */
} moerun__own;

extern const moerun__tier_ops moerun__own_ops;

void moerun__own_lay_out(moerun__own *own, moerun__arena *arena,
                         const moerun_model *model, int32_t max_slots);
/* After the model's placement has changed, and before the first step. */
void moerun__own_adopt_placement(moerun__own *own);

static inline int32_t moerun__own_expert(const moerun__own *own,
                                         int32_t moe_layer, int32_t slot) {
  return own->expert_of_slot[(size_t)moe_layer * (size_t)own->max_slots +
                             (size_t)slot];
}

#endif
