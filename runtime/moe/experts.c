/* The expert stage: the rows of a wave are grouped by slot and go through their
 * experts. */
#include "runtime/moe/experts.h"

#include "runtime/base/timer.h"

#include <string.h>

/* The weights of a group that are read between two calls of the transport. */
#define GROUP_BYTES ((size_t)8 << 20)

/* ---- The rows of a wave, by slot ----------------------------------------- */

/* The stage's own. */
typedef struct lists {
  int32_t *slot_offset;  /* [own slots + guests + 1] */
  int32_t *row_index;    /* rows of a wave, by slot */
  int32_t *result_index; /* and their results */
} lists;

static void *lay_out(const moerun__moe *moe, moerun__arenas *arenas) {
  moerun__arena *arena = &arenas->host;
  const size_t slots = (size_t)moerun__store_most_slots(&moe->store);
  const size_t pairs =
      ((size_t)moe->shape.chunk_tokens + (size_t)moe->shape.receive_capacity) *
      (size_t)moe->shape.terms;
  lists *l = moerun__arena_take(arena, 1, sizeof *l);
  const lists taken = {
      .slot_offset = moerun__arena_take(arena, slots + 1, sizeof(int32_t)),
      .row_index = moerun__arena_take(arena, pairs, sizeof(int32_t)),
      .result_index = moerun__arena_take(arena, pairs, sizeof(int32_t))};
  if (l != NULL) *l = taken;
  return l;
}

/* The slots that row i of the part wants; NULL: none. */
static const char *slots_of(const moerun__wave_part *part, int32_t i) {
  const int32_t at = part->copy != NULL ? part->copy[i] : i;
  return at < 0 ? NULL : part->slots + (size_t)at * part->stride_bytes;
}

/* Adds the rows of the part to those of the slots, and counts its results. */
static moerun_status count_part(moerun__moe *moe, moerun__wave_part *part,
                                int32_t num_slots) {
  moerun_status status = MOERUN_OK;
  const lists *l = moe->stage.work;
  const int32_t W = moe->gate.width;
  int16_t slots[MOERUN_MAX_TERMS];
  part->num_results = 0;
  for (int32_t i = 0; i < part->count; i++) {
    const char *wanted = slots_of(part, i);
    if (wanted == NULL) continue;
    memcpy(slots, wanted, (size_t)W * sizeof *slots);
    int32_t terms = 0;
    for (int32_t j = 0; j < W; j++) {
      if (slots[j] < 0) continue;
      terms++;
      MOERUN_REQUIRE(slots[j] < num_slots, MOERUN_ERR_COMM,
                     "rank %d asked for expert slot %d: expected below %d",
                     part->peer, slots[j], num_slots);
      l->slot_offset[slots[j] + 1]++;
    }
    /* What the lists of this rank have room for. */
    MOERUN_REQUIRE(terms <= moe->shape.terms, MOERUN_ERR_COMM,
                   "rank %d asked for %d experts of a row: expected at most "
                   "%d",
                   part->peer, terms, moe->shape.terms);
    part->num_results += terms;
  }
done:
  return status;
}

/* Pass 1: rows per slot, and where the results of each part begin. */
static moerun_status count_slots(moerun__moe *moe, int32_t num_slots) {
  moerun_status status = MOERUN_OK;
  const lists *l = moe->stage.work;
  moerun__wave *wave = &moe->exchange.wave;
  int32_t reply = wave->first_reply;
  memset(l->slot_offset, 0, ((size_t)num_slots + 1) * sizeof(int32_t));
  for (int32_t p = 0; p < wave->num_parts; p++) {
    moerun__wave_part *part = &wave->part[p];
    MOERUN_TRY(count_part(moe, part, num_slots));
    if (part->peer == moe->model->comm->rank) continue;
    part->first_result = reply;
    reply += part->num_results;
  }
  for (int32_t s = 0; s < num_slots; s++) {
    l->slot_offset[s + 1] += l->slot_offset[s];
  }
done:
  return status;
}

/* Pass 2: the rows and result rows of each slot, grouped. Afterwards
 * slot_offset[s] is the end of slot s. */
static void group_by_slot(moerun__moe *moe) {
  const lists *l = moe->stage.work;
  const moerun__wave *wave = &moe->exchange.wave;
  const int32_t W = moe->gate.width;
  int16_t slots[MOERUN_MAX_TERMS];
  for (int32_t p = 0; p < wave->num_parts; p++) {
    const moerun__wave_part *part = &wave->part[p];
    int32_t result = part->first_result;
    for (int32_t i = 0; i < part->count; i++) {
      const char *wanted = slots_of(part, i);
      if (wanted == NULL) continue;
      memcpy(slots, wanted, (size_t)W * sizeof *slots);
      for (int32_t j = 0; j < W; j++) {
        if (slots[j] < 0) continue;
        const int32_t at = l->slot_offset[slots[j]]++;
        l->row_index[at] = part->first_row + i;
        l->result_index[at] = result++;
      }
    }
  }
}

/* ---- Computing ----------------------------------------------------------- */

void moerun__experts_note(moerun__moe *moe, int32_t experts, int32_t rows,
                          double fraction, double seconds) {
  if (moe->faults != NULL && moe->faults->counted) {
    seconds = moe->step.slowness.compute * fraction *
              moerun__speed_expected(&moe->balance.speed, experts, rows);
  }
  if (moe->balance.is_on) {
    moerun__speed_add(&moe->balance.speed, experts, rows, fraction, seconds);
  }
  moe->step.busy_seconds += seconds;
}

/* Rows offset[0] .. offset[num_experts] - 1 of tile_x through experts to
 * tile_y. A failure of the device shows where its results are waited for. */
static void compute_tile(moerun__moe *moe, const moerun__expert *expert,
                         int32_t num_experts, const int32_t *offset) {
  const moerun__ffn ffn = moerun__moe_ffn(moe, expert, num_experts, offset);
  const double began = moerun__now();
  for (int32_t times = 0; times < moe->step.slowness.compute; times++) {
    moe->kernels->ffn(moe->queue, &ffn);
  }
  (void)moe->queue->device->wait(moe->queue);
  moerun__experts_note(moe, num_experts, offset[num_experts], 1,
                       moerun__now() - began);
}

void moerun__experts_probe(moerun__moe *moe) {
  const moerun_model *model = moe->model;
  const size_t H = (size_t)model->config.hidden_width;
  for (int32_t l = 0; l < model->config.num_layers; l++) {
    const moerun__layer *layer = &model->layers[l];
    if (layer->moe_layer < 0 || layer->num_slots == 0) continue;
    moe->queue->device->clear(moe->queue, moe->work.tile_x,
                              MOERUN_SPEED_LEAST_ROWS * H *
                                  sizeof *moe->work.tile_x);
    const moerun__expert *expert = moerun__store_get(&moe->store, layer, 0);
    if (expert == NULL) continue;
    const int32_t offset[] = {0, MOERUN_SPEED_LEAST_ROWS};
    compute_tile(moe, expert, 1, offset);
    break;
  }
}

void moerun__experts_sleep(moerun__moe *moe) {
  if (moe->step.slowness.sleep_us == 0) return;
  const double seconds = 1e-6 * moe->step.slowness.sleep_us;
  moerun__pause(moe->step.slowness.sleep_us);
  moe->balance.speed.seconds += seconds;
  moe->step.busy_seconds += seconds;
}

/* ---- Slots in their turn ------------------------------------------------- */

static moerun_status await_expert(const moerun__expert **out, moerun__moe *moe,
                                  const moerun__layer *layer, int32_t slot) {
  moerun_status status = MOERUN_OK;
  moerun__stage_end(moe->stats, MOERUN_STAGE_EXPERTS);
  moerun__cpu_end(moe->stats);
  MOERUN_TRY(moerun__store_wait(out, &moe->store, layer, slot));
  moerun__stage_end(moe->stats, MOERUN_STAGE_WEIGHTS_WAIT);
  moerun__cpu_begin(moe->stats);
done:
  return status;
}

/* Whether the expert, with rows first .. last - 1 of the lists, may join the
 * group. */
static int may_join(const moerun__expert_group *group,
                    const moerun__expert *expert, int32_t first, int32_t last) {
  return group->count < MOERUN_MAX_GROUP &&
         first == group->first + moerun__group_rows(group) &&
         last - group->first <= MOERUN_FFN_TILE &&
         group->weight_bytes + moerun__expert_held_bytes(expert) <= GROUP_BYTES;
}

/* Computes with the group, if there is one, and begins an empty one. */
static moerun_status finish_group(moerun__moe *moe, const moerun__layer *layer,
                                  moerun__expert_group *group,
                                  moerun__run_group *run) {
  moerun_status status = MOERUN_OK;
  if (group->count == 0) goto done;
  MOERUN_TRY(run(moe, layer, group));
  for (int32_t i = 0; i < group->count; i++) {
    MOERUN_TRY(moerun__store_release(&moe->store, layer, group->slot[i]));
  }
  group->count = 0;
done:
  return status;
}

static void join(moerun__expert_group *group, const moerun__expert *expert,
                 int32_t slot, int32_t first, int32_t last) {
  const int32_t i = group->count++;
  if (i == 0) {
    group->first = first;
    group->offset[0] = 0;
    group->weight_bytes = 0;
  }
  group->slot[i] = slot;
  group->expert[i] = *expert;
  group->weight_bytes += moerun__expert_held_bytes(expert);
  group->offset[i + 1] = last - group->first;
}

/* Waits only when all that is here has been computed and released: what is
 * waited for may need its room. */
moerun_status moerun__experts_run(moerun__moe *moe, const moerun__layer *layer,
                                  int32_t first, int32_t count,
                                  const int32_t *end, moerun__run_group *run) {
  moerun_status status = MOERUN_OK;
  moerun__store *store = &moe->store;
  moerun__expert_group group;
  const moerun__expert *expert;
  int32_t slot;
  group.count = 0;
  moerun__store_begin_wave(store, first, count);
  for (int32_t i = 0; i < count; i++) {
    if (end[i] == (i > 0 ? end[i - 1] : 0)) continue;
    MOERUN_TRY(moerun__store_want(store, layer, first + i));
  }
  while ((slot = moerun__store_next(&expert, store, layer)) != MOERUN_NO_SLOT) {
    const int32_t i = slot - first;
    const int32_t from = i > 0 ? end[i - 1] : 0;
    if (group.count > 0 &&
        (expert == NULL || !may_join(&group, expert, from, end[i]))) {
      MOERUN_TRY(finish_group(moe, layer, &group, run));
    }
    if (expert == NULL) MOERUN_TRY(await_expert(&expert, moe, layer, slot));
    join(&group, expert, slot, from, end[i]);
  }
  MOERUN_TRY(finish_group(moe, layer, &group, run));
done:
  return status;
}

/* ---- Whole experts ------------------------------------------------------- */

/* Rows from where they lie to where their results are sent from, in tiles: only
 * one expert alone has more rows than a tile. */
static moerun_status run_rows(moerun__moe *moe, const moerun__layer *layer,
                              const moerun__expert_group *group) {
  moerun_status status = MOERUN_OK;
  const lists *l = moe->stage.work;
  const moerun__kernels *k = moe->kernels;
  const moerun__wave *wave = &moe->exchange.wave;
  const int32_t H = moe->model->config.hidden_width;
  const int32_t last = group->first + moerun__group_rows(group);
  const moerun__wire_rows rows =
      moerun__moe_rows(moe, wave->rows, moe->shape.row_bytes);
  const moerun__wire_rows results =
      moerun__moe_rows(moe, wave->results, wave->result_bytes);
  int64_t *expert_rows =
      moe->stats->expert_rows +
      (size_t)layer->moe_layer * (size_t)moe->model->config.num_experts;
  for (int32_t i = group->first; i < last; i += MOERUN_FFN_TILE) {
    const int32_t M = last - i < MOERUN_FFN_TILE ? last - i : MOERUN_FFN_TILE;
    const int32_t alone[] = {0, M};
    k->gather(moe->queue, moe->work.tile_x, &rows, l->row_index + i, M, H);
    compute_tile(moe, group->expert, group->count,
                 group->count == 1 ? alone : group->offset);
    k->scatter(moe->queue, &results, l->result_index + i, moe->work.tile_y, M,
               H);
    MOERUN_TRY(moerun__store_forward(&moe->store));
  }
  for (int32_t i = 0; i < group->count; i++) {
    expert_rows[moerun__store_expert(&moe->store, layer, group->slot[i])] +=
        group->offset[i + 1] - group->offset[i];
  }
  moe->step.computed_rows += last - group->first;
  MOERUN_TRY(moe->exchange.now->progress(moe));
done:
  return status;
}

static moerun_status run_wave(moerun__moe *moe, const moerun__layer *layer) {
  moerun_status status = MOERUN_OK;
  const lists *l = moe->stage.work;
  const int32_t slots = moerun__store_slots(&moe->store, layer);
  MOERUN_TRY(count_slots(moe, slots));
  group_by_slot(moe);
  moerun__experts_sleep(moe);
  MOERUN_TRY(
      moerun__experts_run(moe, layer, 0, slots, l->slot_offset, run_rows));
  MOERUN_TRY(moe->queue->device->wait(moe->queue)); /* results are where they
                                                       leave from */
done:
  return status;
}

static moerun_status compute(moerun__moe *moe, const moerun__layer *layer,
                             int32_t wave) {
  moerun_status status = MOERUN_OK;
  (void)wave; /* each is like the first */
  moerun__cpu_begin(moe->stats);
  MOERUN_TRY(run_wave(moe, layer));
  moerun__stage_end(moe->stats, MOERUN_STAGE_EXPERTS);
  moerun__cpu_end(moe->stats);
done:
  return status;
}

const moerun__expert_stage moerun__stage_whole = {
    .lay_out = lay_out,
    .compute = compute,
};
