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

/* ---- Locks --------------------------------------------------------------- */

/* Of a list, each piece of all experts is one block, which begins with the
 * first expert's. Without panels there is none. */
static void *block(const moerun__expert *experts, int piece) {
  return (void *)moerun__expert_weight(experts, (moerun__expert_piece)piece)
      ->panels;
}

static size_t block_bytes(const moerun__expert *experts, int piece,
                          size_t count) {
  const moerun__weight *weight =
      moerun__expert_weight(experts, (moerun__expert_piece)piece);
  return count * moerun__weight_bytes(weight->dtype, weight->num_outputs,
                                      weight->num_inputs);
}

static void unlock_pieces(const moerun__own *own, const moerun__expert *experts,
                          int num_pieces) {
  for (int p = 0; p < num_pieces && experts != NULL; p++) {
    own->device->unlock(block(experts, p));
  }
}

static moerun_status lock_experts(const moerun__own *own,
                                  const moerun__expert *experts, size_t count) {
  moerun_status status = MOERUN_OK;
  int locked = 0;
  for (; locked < MOERUN_EXPERT_PIECES && count > 0; locked++) {
    if (block(experts, locked) == NULL) continue;
    MOERUN_TRY(own->device->lock(block(experts, locked),
                                 block_bytes(experts, locked, count)));
  }
done:
  if (status != MOERUN_OK) unlock_pieces(own, experts, locked);
  return status;
}

static moerun_status adopt_device(void *self, const moerun__device *device) {
  moerun_status status = MOERUN_OK;
  moerun__own *own = self;
  own->device = device;
  for (; own->num_locked < own->model->config.num_layers; own->num_locked++) {
    moerun__layer *layer = &own->model->layers[own->num_locked];
    MOERUN_TRY(lock_experts(own, layer->experts, (size_t)layer->num_slots));
    layer->num_locks++;
  }
done:
  return status;
}

static void close(void *self) {
  moerun__own *own = self;
  while (own->num_locked > 0) {
    moerun__layer *layer = &own->model->layers[--own->num_locked];
    unlock_pieces(own, layer->experts, MOERUN_EXPERT_PIECES);
    layer->num_locks--;
  }
}

int moerun__own_is_alone(const moerun__own *own) {
  for (int32_t l = 0; l < own->num_locked; l++) {
    if (own->model->layers[l].num_locks > 1) return 0;
  }
  return 1;
}

moerun_status moerun__own_create(moerun__expert **out, const moerun__own *own,
                                 const moerun__expert_shape *shape,
                                 size_t count) {
  moerun_status status = MOERUN_OK;
  moerun__expert *experts = NULL;
  *out = NULL;
  MOERUN_TRY(moerun__experts_create(&experts, shape, count));
  MOERUN_TRY(lock_experts(own, experts, count));
  *out = experts;
  experts = NULL;
done:
  moerun__experts_destroy(experts);
  return status;
}

void moerun__own_destroy(const moerun__own *own, moerun__expert *experts) {
  unlock_pieces(own, experts, MOERUN_EXPERT_PIECES);
  moerun__experts_destroy(experts);
}

/* ---- The tier ------------------------------------------------------------ */

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
                                          .adopt_device = adopt_device,
                                          .close = close,
                                          .get = get};
