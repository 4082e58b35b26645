/* The lowest tier: what no other has is here, or nowhere. An expert without
 * panels is one whose weights are not in memory: a tier above has to bring them. */
#include "runtime/moe/own.h"

static moerun__presence get(const void *self, const moerun__expert **out,
                            const moerun__layer *layer, int32_t slot) {
  (void)self;
  if (slot >= layer->num_slots || layer->experts[slot].gate_up.panels == NULL) {
    return MOERUN_ABSENT;
  }
  *out = &layer->experts[slot];
  return MOERUN_HERE;
}

const moerun__tier_ops moerun__own_ops = {.name = "own", .get = get};

void moerun__own_lay_out(moerun__own *own, moerun__arena *arena,
                         const moerun_model *model, int32_t max_slots) {
  own->model = model;
  own->max_slots = max_slots;
  own->expert_of_slot = moerun__arena_take(
      arena, (size_t)model->config.num_moe_layers * (size_t)max_slots,
      sizeof *own->expert_of_slot);
}

void moerun__own_adopt_placement(moerun__own *own) {
  const moerun_model *model = own->model;
  for (int32_t l = 0; l < model->config.num_moe_layers; l++) {
    (void)moerun__placement_experts(model->placement, l, model->comm->rank,
                                    own->expert_of_slot +
                                        (size_t)l * (size_t)own->max_slots);
  }
}
