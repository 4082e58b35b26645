/* The lowest tier: what no other has is here, or nowhere. An expert without
 * panels is one whose weights are not in memory: a tier above has to bring
 * them. */
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

void moerun__own_init(moerun__own *own, const moerun_model *model,
                      int32_t max_slots) {
  own->model = model;
  own->max_slots = max_slots;
}

static void lay_out(void *self, moerun__arenas *arenas) {
  moerun__own *own = self;
  own->expert_of_slot = moerun__arena_take(
      &arenas->host,
      (size_t)own->model->config.num_moe_layers * (size_t)own->max_slots,
      sizeof *own->expert_of_slot);
}

static void adopt_placement(void *self) {
  moerun__own *own = self;
  const moerun_model *model = own->model;
  for (int32_t l = 0; l < model->config.num_moe_layers; l++) {
    (void)moerun__placement_experts(model->placement, l, model->comm->rank,
                                    own->expert_of_slot +
                                        (size_t)l * (size_t)own->max_slots);
  }
}

const moerun__tier_ops moerun__own_ops = {.name = "own",
                                          .lay_out = lay_out,
                                          .adopt_placement = adopt_placement,
                                          .get = get};
