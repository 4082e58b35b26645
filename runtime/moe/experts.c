/* The expert stage: the rows of a wave are grouped by slot and go through their
 * experts. */
#include "runtime/moe/experts.h"

#include "runtime/base/timer.h"
#include "runtime/moe/exchange_whole.h"

#include <string.h>

/* Pass 1 over the wave's rows: rows per slot, result rows per peer. */
static moerun_status count_slots(moerun__moe *moe, int32_t num_slots) {
  moerun_status status = MOERUN_OK;
  const moerun__wave *wave = &moe->exchange.wave;
  const moerun__moe_chunk *chunk = &moe->exchange.chunk[wave->chunk];
  const int32_t K = moe->gate.width;
  int16_t slots[MOERUN_MAX_TERMS];
  memset(moe->work.slot_offset, 0, ((size_t)num_slots + 1) * sizeof(int32_t));
  chunk->reply_offset[wave->first] = 0;
  for (int32_t p = wave->first; p < wave->last; p++) {
    const moerun__peer_rows rows = moerun__peer_rows_of(moe, p);
    int32_t results = 0;
    for (int32_t i = 0; i < rows.count; i++) {
      const void *wanted = moerun__peer_slots(moe, &rows, i);
      if (wanted == NULL) continue;
      memcpy(slots, wanted, (size_t)K * sizeof *slots);
      int32_t terms = 0;
      for (int32_t j = 0; j < K; j++) {
        if (slots[j] < 0) continue;
        terms++;
        MOERUN_REQUIRE(slots[j] < num_slots, MOERUN_ERR_COMM,
                       "rank %d asked for expert slot %d: expected below %d", p,
                       slots[j], num_slots);
        moe->work.slot_offset[slots[j] + 1]++;
      }
      /* What the lists of this rank have room for. */
      MOERUN_REQUIRE(terms <= moe->shape.terms, MOERUN_ERR_COMM,
                     "rank %d asked for %d experts of a row: expected at most "
                     "%d",
                     p, terms, moe->shape.terms);
      results += terms;
    }
    if (p == moe->model->comm->rank) results = 0; /* they are home already */
    chunk->reply_offset[p + 1] = chunk->reply_offset[p] + results;
  }
  for (int32_t s = 0; s < num_slots; s++) {
    moe->work.slot_offset[s + 1] += moe->work.slot_offset[s];
  }
done:
  return status;
}

/* Pass 2: the rows and result rows of each slot, grouped. Afterwards
 * slot_offset[s] is the end of slot s. */
static void group_by_slot(moerun__moe *moe) {
  const moerun__wave *wave = &moe->exchange.wave;
  const int32_t K = moe->gate.width;
  int16_t slots[MOERUN_MAX_TERMS];
  for (int32_t p = wave->first; p < wave->last; p++) {
    const moerun__peer_rows rows = moerun__peer_rows_of(moe, p);
    int32_t result = rows.first_result;
    for (int32_t i = 0; i < rows.count; i++) {
      const void *wanted = moerun__peer_slots(moe, &rows, i);
      if (wanted == NULL) continue;
      memcpy(slots, wanted, (size_t)K * sizeof *slots);
      for (int32_t j = 0; j < K; j++) {
        if (slots[j] < 0) continue;
        const int32_t at = moe->work.slot_offset[slots[j]]++;
        moe->work.row_index[at] = rows.first_row + i;
        moe->work.result_index[at] = result++;
      }
    }
  }
}

void moerun__experts_note(moerun__moe *moe, int32_t rows, double part,
                          double seconds) {
  if (moe->faults != NULL && moe->faults->counted) {
    seconds = moe->step.slowness.compute * part *
              moerun__speed_expected(&moe->balance.speed, rows);
  }
  moerun__speed_add(&moe->balance.speed, rows, part, seconds);
  moe->step.busy_seconds += seconds;
}

/* M rows of tile_x through one expert to tile_y. A failure of the device shows
 * where its results are waited for. */
static void compute_tile(moerun__moe *moe, const moerun__expert *of,
                         int32_t M) {
  const int32_t offset[] = {0, M};
  const moerun__ffn ffn = moerun__moe_ffn(moe, of, offset);
  const double began = moerun__now();
  for (int32_t run = 0; run < moe->step.slowness.compute; run++) {
    moe->kernels->ffn(moe->queue, &ffn);
  }
  (void)moe->queue->device->wait(moe->queue);
  moerun__experts_note(moe, M, 1, moerun__now() - began);
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
    compute_tile(moe, expert, MOERUN_SPEED_LEAST_ROWS);
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

/* ---- Slots in their turn ----------------------------------------------------- */

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

/* Where the rows of slot number i begin. */
static int32_t begin_of(const int32_t *end, int32_t i) {
  return i > 0 ? end[i - 1] : 0;
}

moerun_status moerun__experts_run(moerun__moe *moe, const moerun__layer *layer,
                                  int32_t first, int32_t count,
                                  const int32_t *end, moerun__run_rows *run) {
  moerun_status status = MOERUN_OK;
  moerun__store *store = &moe->store;
  moerun__slot_rows rows = {0};
  moerun__store_begin_wave(store, first, count);
  for (int32_t i = 0; i < count; i++) {
    if (end[i] == begin_of(end, i)) continue;
    MOERUN_TRY(moerun__store_want(store, layer, first + i));
  }
  while ((rows.slot = moerun__store_next(&rows.expert, store, layer)) !=
         MOERUN_NO_SLOT) {
    rows.first = begin_of(end, rows.slot - first);
    rows.last = end[rows.slot - first];
    if (rows.expert == NULL) {
      MOERUN_TRY(await_expert(&rows.expert, moe, layer, rows.slot));
    }
    MOERUN_TRY(run(moe, layer, &rows));
    MOERUN_TRY(moerun__store_release(store, layer, rows.slot));
  }
done:
  return status;
}

/* ---- Whole experts ----------------------------------------------------------- */

/* Rows of one slot from where they lie to where their results are sent from. */
static moerun_status run_rows(moerun__moe *moe, const moerun__layer *layer,
                              const moerun__slot_rows *of) {
  moerun_status status = MOERUN_OK;
  const moerun__kernels *k = moe->kernels;
  const moerun__moe_chunk *chunk =
      &moe->exchange.chunk[moe->exchange.wave.chunk];
  const int32_t H = moe->model->config.hidden_width;
  const moerun__wire_rows rows =
      moerun__moe_rows(moe, chunk->rows, moe->shape.row_bytes);
  const moerun__wire_rows results =
      moerun__moe_rows(moe, chunk->results, moe->shape.result_bytes);
  int64_t *expert_rows =
      moe->stats->expert_rows +
      (size_t)layer->moe_layer * (size_t)moe->model->config.num_experts;
  for (int32_t i = of->first; i < of->last; i += MOERUN_FFN_TILE) {
    const int32_t M =
        of->last - i < MOERUN_FFN_TILE ? of->last - i : MOERUN_FFN_TILE;
    k->gather(moe->queue, moe->work.tile_x, &rows, moe->work.row_index + i, M,
              H);
    compute_tile(moe, of->expert, M);
    k->scatter(moe->queue, &results, moe->work.result_index + i,
               moe->work.tile_y, M, H);
    MOERUN_TRY(moe->queue->device->wait(moe->queue));
    MOERUN_TRY(moerun__store_forward(&moe->store));
  }
  expert_rows[moerun__store_expert(&moe->store, layer, of->slot)] +=
      of->last - of->first;
  moe->step.computed_rows += of->last - of->first;
  MOERUN_TRY(moerun__exchange_progress(moe));
done:
  return status;
}

static moerun_status run_wave(moerun__moe *moe, const moerun__layer *layer) {
  moerun_status status = MOERUN_OK;
  const int32_t slots = moerun__store_slots(&moe->store, layer);
  MOERUN_TRY(count_slots(moe, slots));
  group_by_slot(moe);
  moerun__experts_sleep(moe);
  MOERUN_TRY(moerun__experts_run(moe, layer, 0, slots, moe->work.slot_offset,
                                 run_rows));
done:
  return status;
}

moerun_status moerun__experts_compute(moerun__moe *moe,
                                      const moerun__layer *layer) {
  moerun_status status = MOERUN_OK;
  moerun__cpu_begin(moe->stats);
  MOERUN_TRY(run_wave(moe, layer));
  moerun__stage_end(moe->stats, MOERUN_STAGE_EXPERTS);
  moerun__cpu_end(moe->stats);
done:
  return status;
}
