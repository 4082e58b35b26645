/* Tiers are asked in turn, and the first that has the weights here gives them;
 * where none has, the first for which they can be waited. So a faster copy goes
 * before a slower one, and what is added stands in front of what was there. A
 * slot is asked for once a wave: the tier that answered stays the one until the
 * slot's release. A tier without room is not there, so that nobody asks it.
 *
 * Experts whose weights are here are computed first, while those of others
 * still come. Each wanted slot is given exactly once a wave, whenever its
 * weights come: the turn is decided when it is wanted. */
#include "runtime/moe/store.h"

#include <assert.h>
#include <string.h>

/* ---- Memory -------------------------------------------------------------- */

void moerun__store_init(moerun__store *store, const moerun_model *model,
                        int32_t max_slots, size_t guest_bytes,
                        int64_t slice_bytes) {
  memset(store, 0, sizeof *store);
  store->model = model;
  moerun__own_init(&store->own, model, max_slots);
  moerun__guests_init(&store->guests, model, &store->guest_table, guest_bytes);
  moerun__slices_init(&store->slices, model, slice_bytes);
  moerun__store_add_tier(store, (moerun__tier){&moerun__own_ops, &store->own});
  if (store->guests.most_guests > 0) {
    moerun__store_add_tier(store,
                           (moerun__tier){&moerun__guests_ops, &store->guests});
  }
  if (moerun__slices_are_on(&store->slices)) {
    moerun__store_add_tier(store,
                           (moerun__tier){&moerun__slices_ops, &store->slices});
  }
  store->num_init_tiers = store->num_tiers;
}

void moerun__store_add_tier(moerun__store *store, moerun__tier tier) {
  assert(store->num_tiers < MOERUN_MAX_TIERS);
  memmove(store->tier + 1, store->tier,
          (size_t)store->num_tiers * sizeof *store->tier);
  store->tier[0] = tier;
  store->num_tiers++;
}

int moerun__store_has_all_weights(const moerun__store *store) {
  return store->num_tiers == store->num_init_tiers;
}

void moerun__store_lay_out(moerun__store *store, moerun__arenas *arenas) {
  const moerun_model *model = store->model;
  moerun__arena *arena = &arenas->host;
  moerun__guest_table_lay_out(&store->guest_table, arena, model->comm->size,
                              model->config.num_moe_layers,
                              store->guests.most_guests);
  for (int32_t t = store->num_tiers - 1; t >= 0; t--) {
    const moerun__tier *tier = &store->tier[t];
    if (tier->ops->lay_out != NULL) tier->ops->lay_out(tier->self, arenas);
  }
  const size_t E = (size_t)model->config.num_experts;
  size_t slots = (size_t)moerun__store_most_slots(store);
  if (moerun__store_has_slices(store) && slots < E) slots = E;
  store->wanted = moerun__arena_take(arena, slots, sizeof *store->wanted);
  store->here = moerun__arena_take(arena, slots, sizeof *store->here);
}

void moerun__store_adopt_placement(moerun__store *store) {
  for (int32_t t = store->num_tiers - 1; t >= 0; t--) {
    const moerun__tier *tier = &store->tier[t];
    if (tier->ops->adopt_placement != NULL) {
      tier->ops->adopt_placement(tier->self);
    }
  }
}

moerun_status moerun__store_adopt_device(moerun__store *store,
                                         const moerun__device *device) {
  moerun_status status = MOERUN_OK;
  for (int32_t t = store->num_tiers - 1; t >= 0; t--) {
    const moerun__tier *tier = &store->tier[t];
    if (tier->ops->adopt_device == NULL) continue;
    MOERUN_TRY(tier->ops->adopt_device(tier->self, device));
  }
done:
  return status;
}

int32_t moerun__store_num_transfers(const moerun__store *store) {
  int32_t sum = 0;
  for (int32_t t = 0; t < store->num_tiers; t++) {
    const moerun__tier *tier = &store->tier[t];
    if (tier->ops->num_transfers != NULL) {
      sum += tier->ops->num_transfers(tier->self);
    }
  }
  return sum;
}

moerun_status moerun__store_create_transfers(moerun__store *store) {
  moerun_status status = MOERUN_OK;
  for (int32_t t = store->num_tiers - 1; t >= 0; t--) {
    const moerun__tier *tier = &store->tier[t];
    if (tier->ops->create_transfers == NULL) continue;
    MOERUN_TRY(tier->ops->create_transfers(tier->self));
  }
done:
  return status;
}

moerun_status moerun__store_open(moerun__store *store, double row_seconds) {
  moerun_status status = MOERUN_OK;
  moerun__guest_table_clear(&store->guest_table);
  for (int32_t t = store->num_tiers - 1; t >= 0; t--) {
    const moerun__tier *tier = &store->tier[t];
    if (tier->ops->open == NULL) continue;
    MOERUN_TRY(tier->ops->open(tier->self, row_seconds));
  }
done:
  return status;
}

size_t moerun__store_open_bytes(const moerun__store *store,
                                const moerun__expert_shape *whole) {
  size_t sum = 0;
  for (int32_t t = 0; t < store->num_tiers; t++) {
    const moerun__tier *tier = &store->tier[t];
    if (tier->ops->open_bytes != NULL) {
      sum += tier->ops->open_bytes(tier->self, whole);
    }
  }
  return sum;
}

void moerun__store_close(moerun__store *store) {
  for (int32_t t = 0; t < store->num_tiers; t++) {
    const moerun__tier *tier = &store->tier[t];
    if (tier->ops->close != NULL) tier->ops->close(tier->self);
  }
}

/* ---- Moves of experts ---------------------------------------------------- */

moerun_status moerun__store_create_experts(moerun__expert **out,
                                           const moerun__store *store,
                                           const moerun__expert_shape *shape,
                                           size_t count) {
  return moerun__own_create(out, &store->own, shape, count);
}

void moerun__store_destroy_experts(const moerun__store *store,
                                   moerun__expert *experts) {
  moerun__own_destroy(&store->own, experts);
}

const moerun__expert *moerun__store_own(const moerun__layer *layer,
                                        int32_t slot) {
  return moerun__own_at(layer, slot);
}

int moerun__store_is_alone(const moerun__store *store) {
  return moerun__own_is_alone(&store->own);
}

void moerun__store_adopt_experts(const moerun__store *store,
                                 moerun__layer *layer, moerun__expert *experts,
                                 int32_t num_slots) {
  moerun__own_destroy(&store->own, layer->experts);
  layer->experts = experts;
  layer->num_slots = num_slots;
}

/* ---- A layer ------------------------------------------------------------- */

moerun_status moerun__store_begin(moerun__store *store,
                                  const moerun__layer *layer,
                                  const moerun__plan *plan) {
  moerun_status status = MOERUN_OK;
  for (int32_t t = 0; t < store->num_tiers; t++) {
    const moerun__tier *tier = &store->tier[t];
    if (tier->ops->begin == NULL) continue;
    MOERUN_TRY(tier->ops->begin(tier->self, layer, plan));
  }
  MOERUN_TRY(moerun__store_forward(store));
done:
  return status;
}

/* *obstacle: what one tier cannot go on before, or NULL if none waits. */
static moerun_status forward(moerun__store *store,
                             moerun__transfer **obstacle) {
  moerun_status status = MOERUN_OK;
  *obstacle = NULL;
  for (int32_t t = 0; t < store->num_tiers; t++) {
    const moerun__tier *tier = &store->tier[t];
    moerun__transfer *found = NULL;
    if (tier->ops->forward == NULL) continue;
    MOERUN_TRY(tier->ops->forward(tier->self, &found));
    if (*obstacle == NULL) *obstacle = found;
  }
done:
  return status;
}

moerun_status moerun__store_forward(moerun__store *store) {
  moerun__transfer *obstacle;
  return forward(store, &obstacle);
}

moerun_status moerun__store_forward_until(moerun__store *store,
                                          moerun__transfer *transfer) {
  moerun_status status = MOERUN_OK;
  const moerun__comm_ops *ops = store->model->comm->ops;
  moerun__transfer *obstacle;
  int over = 0;
  MOERUN_TRY(forward(store, &obstacle));
  while (obstacle != NULL && !over) {
    MOERUN_TRY(ops->wait_either(transfer, obstacle));
    MOERUN_TRY(ops->test_received(transfer, &over));
    MOERUN_TRY(forward(store, &obstacle));
  }
  MOERUN_TRY(ops->wait_received(transfer));
done:
  return status;
}

moerun_status moerun__store_forward_all(moerun__store *store) {
  moerun_status status = MOERUN_OK;
  const moerun__comm_ops *ops = store->model->comm->ops;
  moerun__transfer *obstacle;
  MOERUN_TRY(forward(store, &obstacle));
  while (obstacle != NULL) {
    MOERUN_TRY(ops->wait(obstacle));
    MOERUN_TRY(forward(store, &obstacle));
  }
done:
  return status;
}

moerun_status moerun__store_end(moerun__store *store) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__store_forward_all(store));
  for (int32_t t = 0; t < store->num_tiers; t++) {
    const moerun__tier *tier = &store->tier[t];
    if (tier->ops->end != NULL) MOERUN_TRY(tier->ops->end(tier->self));
  }
done:
  return status;
}

/* ---- A wave -------------------------------------------------------------- */

/* The tier that answers for the slot; NULL: none does. *out: the expert, NULL
 * while its weights come. */
static const moerun__tier *find(const moerun__expert **out,
                                const moerun__store *store,
                                const moerun__layer *layer, int32_t slot) {
  const moerun__tier *awaited = NULL;
  *out = NULL;
  for (int32_t t = 0; t < store->num_tiers; t++) {
    const moerun__tier *tier = &store->tier[t];
    const moerun__presence now = tier->ops->get(tier->self, out, layer, slot);
    if (now == MOERUN_HERE) return tier;
    if (now == MOERUN_COMING && awaited == NULL) awaited = tier;
  }
  return awaited;
}

void moerun__store_begin_wave(moerun__store *store, int32_t first,
                              int32_t count) {
  store->first = first;
  store->count = count;
  store->num_here = 0;
  store->num_given = 0;
  store->num_awaited = 0;
  store->coming_tier = 0;
  store->coming = 0;
  memset(store->wanted, 0, (size_t)count * sizeof *store->wanted);
}

moerun_status moerun__store_want(moerun__store *store,
                                 const moerun__layer *layer, int32_t slot) {
  moerun_status status = MOERUN_OK;
  const moerun__expert *expert;
  const moerun__tier *tier = find(&expert, store, layer, slot);
  MOERUN_REQUIRE(tier != NULL, MOERUN_ERR_COMM,
                 "rows came for slot %d of MoE layer %d, where no expert is",
                 slot, layer->moe_layer);
  if (tier->ops->want != NULL) {
    MOERUN_TRY(tier->ops->want(tier->self, layer, slot));
  }
  store->wanted[slot - store->first] =
      (moerun__wanted){tier, expert, expert == NULL};
  if (expert == NULL) {
    store->num_awaited++;
  } else {
    store->here[store->num_here++] = slot;
  }
done:
  return status;
}

/* The next slot that comes, wanted or not: as the tiers say, then all in their
 * order. */
static int32_t next_coming(moerun__store *store, const moerun__layer *layer) {
  for (; store->coming_tier < store->num_tiers; store->coming_tier++) {
    const moerun__tier *tier = &store->tier[store->coming_tier];
    if (tier->ops->coming != NULL) {
      const int32_t slot =
          tier->ops->coming(tier->self, layer, store->coming++);
      if (slot != MOERUN_NO_SLOT) return slot;
    }
    store->coming = 0;
  }
  return store->first + store->coming++;
}

int32_t moerun__store_next(const moerun__expert **out, moerun__store *store,
                           const moerun__layer *layer) {
  *out = NULL;
  if (store->num_given < store->num_here) {
    const int32_t slot = store->here[store->num_given++];
    *out = store->wanted[slot - store->first].expert;
    return slot;
  }
  while (store->num_awaited > 0) {
    const int32_t slot = next_coming(store, layer);
    const int32_t i = slot - store->first;
    if (i < 0 || i >= store->count) continue; /* of no matter to this wave */
    moerun__wanted *wanted = &store->wanted[i];
    if (!wanted->is_awaited) continue;
    wanted->is_awaited = 0;
    store->num_awaited--;
    (void)wanted->tier->ops->get(wanted->tier->self, out, layer, slot);
    return slot;
  }
  return MOERUN_NO_SLOT;
}

moerun_status moerun__store_wait(const moerun__expert **out,
                                 moerun__store *store,
                                 const moerun__layer *layer, int32_t slot) {
  moerun_status status = MOERUN_OK;
  const moerun__tier *tier = store->wanted[slot - store->first].tier;
  *out = NULL;
  if (tier->ops->wait != NULL) {
    MOERUN_TRY(tier->ops->wait(tier->self, layer, slot));
  }
  (void)tier->ops->get(tier->self, out, layer, slot);
  MOERUN_REQUIRE(*out != NULL, MOERUN_ERR_COMM,
                 "slot %d of MoE layer %d: its weights have not come", slot,
                 layer->moe_layer);
done:
  return status;
}

moerun_status moerun__store_release(moerun__store *store,
                                    const moerun__layer *layer, int32_t slot) {
  const moerun__tier *tier = store->wanted[slot - store->first].tier;
  if (tier->ops->release == NULL) return MOERUN_OK;
  return tier->ops->release(tier->self, layer, slot);
}

const moerun__expert *moerun__store_get(const moerun__store *store,
                                        const moerun__layer *layer,
                                        int32_t slot) {
  const moerun__expert *expert;
  (void)find(&expert, store, layer, slot);
  return expert;
}

int32_t moerun__store_expert(const moerun__store *store,
                             const moerun__layer *layer, int32_t slot) {
  return slot < layer->num_slots
             ? moerun__own_expert(&store->own, layer->moe_layer, slot)
             : moerun__guests_expert(&store->guests, layer->moe_layer,
                                     slot - layer->num_slots);
}

/* ---- Slices -------------------------------------------------------------- */

int moerun__store_has_slices(const moerun__store *store) {
  return moerun__slices_are_on(&store->slices);
}

int32_t moerun__store_sliced_layers(const moerun__store *store) {
  return store->slices.num_layers;
}

const moerun__slice_shares *moerun__store_shares(const moerun__store *store) {
  return &store->slices.shares;
}

/* ---- For plans and reports ----------------------------------------------- */

int moerun__store_can_pass(const moerun__store *store) {
  return moerun__guests_can_pass(&store->guests);
}

moerun_status moerun__store_pass(moerun__store *store) {
  return moerun__guests_pass(&store->guests);
}

moerun__guest_table *moerun__store_guest_table(moerun__store *store) {
  return &store->guest_table;
}

int64_t moerun__store_expert_bytes(const moerun__store *store,
                                   int32_t moe_layer) {
  return moerun__guests_expert_bytes(&store->guests, moe_layer);
}

size_t moerun__store_guest_bytes(const moerun__store *store) {
  return store->guests.room_bytes;
}

int64_t moerun__store_bytes_sent(const moerun__store *store) {
  return store->guests.bytes_sent;
}

void moerun__store_clear_count(moerun__store *store) {
  store->guests.bytes_sent = 0;
}
