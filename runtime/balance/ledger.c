#include "runtime/balance/ledger.h"

#include <math.h>
#include <string.h>

void moerun__ledger_lay_out(moerun__ledger *ledger, moerun__arena *arena,
                            int32_t num_layers, int32_t num_ranks) {
  const size_t R = (size_t)num_ranks;
  ledger->num_layers = num_layers;
  ledger->num_ranks = num_ranks;
  ledger->steps =
      moerun__arena_take(arena, MOERUN_LEDGER_STEPS, sizeof *ledger->steps);
  ledger->layers =
      moerun__arena_take(arena, (size_t)num_layers, sizeof *ledger->layers);
  ledger->last_count = moerun__arena_take(arena, R, sizeof *ledger->last_count);
  ledger->duration = moerun__arena_take(arena, R * MOERUN_LEDGER_BUCKETS,
                                        sizeof *ledger->duration);
}

void moerun__ledger_clear(moerun__ledger *ledger) {
  const size_t R = (size_t)ledger->num_ranks;
  ledger->num_steps = 0;
  ledger->layer = -1;
  memset(ledger->layers, 0,
         (size_t)ledger->num_layers * sizeof *ledger->layers);
  memset(ledger->last_count, 0, R * sizeof *ledger->last_count);
  memset(ledger->duration, 0,
         R * MOERUN_LEDGER_BUCKETS * sizeof *ledger->duration);
}

void moerun__ledger_begin_step(moerun__ledger *ledger) {
  memset(&ledger->steps[ledger->num_steps++ % MOERUN_LEDGER_STEPS], 0,
         sizeof *ledger->steps);
}

static void add_plan(moerun__ledger_entry *entry, const moerun__plan *plan,
                     const moerun__plan_peaks *peaks) {
  entry->plans++;
  entry->moved += plan->num_moves > 0;
  entry->sliced += plan->sliced;
  entry->rows += peaks->total;
  entry->peak_routed += peaks->rows_before;
  entry->peak_planned += peaks->rows_after;
  entry->time_routed += peaks->time_before;
  entry->time_planned += peaks->time_after;
}

static void add_busy(moerun__ledger_entry *entry, int64_t most, int64_t sum,
                     int32_t last) {
  entry->busy_most_us += most;
  entry->busy_sum_us += sum;
  entry->last = last;
}

/* From a quarter of a microsecond on. */
static int32_t bucket_of(int32_t us) {
  const int32_t bucket = (int32_t)(4 * log2((double)us + 1));
  return bucket < MOERUN_LEDGER_BUCKETS ? bucket : MOERUN_LEDGER_BUCKETS - 1;
}

/* The first layer of a step tells of the last one of the step before. */
static void add_durations(moerun__ledger *ledger, int32_t layer,
                          const int32_t *busy_us, size_t stride) {
  int64_t sum = 0;
  int32_t last = 0;
  for (int32_t r = 0; r < ledger->num_ranks; r++) {
    const int32_t us = busy_us[(size_t)r * stride];
    sum += us;
    if (us > busy_us[(size_t)last * stride]) last = r;
    ledger->duration[r * MOERUN_LEDGER_BUCKETS + bucket_of(us)]++;
  }
  const int64_t most = busy_us[(size_t)last * stride];
  const int64_t step = ledger->num_steps - (layer > ledger->layer ? 1 : 2);
  ledger->last_count[last]++;
  add_busy(&ledger->layers[ledger->layer], most, sum, last);
  if (step < 0) return;
  add_busy(&ledger->steps[step % MOERUN_LEDGER_STEPS], most, sum, last);
}

void moerun__ledger_add(moerun__ledger *ledger, int32_t layer,
                        const moerun__plan *plan, const int32_t *busy_us,
                        size_t stride) {
  if (ledger->layer >= 0) add_durations(ledger, layer, busy_us, stride);
  ledger->layer = layer;
  const moerun__plan_peaks peaks = moerun__plan_peaks_of(plan);
  add_plan(&ledger->layers[layer], plan, &peaks);
  if (ledger->num_steps == 0) return;
  add_plan(&ledger->steps[(ledger->num_steps - 1) % MOERUN_LEDGER_STEPS], plan,
           &peaks);
}

double moerun__ledger_quantile(const moerun__ledger *ledger, int32_t rank,
                               double share) {
  const int32_t *duration =
      ledger->duration + (size_t)rank * MOERUN_LEDGER_BUCKETS;
  int64_t total = 0;
  int64_t below = 0;
  for (int32_t b = 0; b < MOERUN_LEDGER_BUCKETS; b++) {
    total += duration[b];
  }
  for (int32_t b = 0; b < MOERUN_LEDGER_BUCKETS; b++) {
    below += duration[b];
    if (total > 0 && (double)below >= share * (double)total) {
      return 1e-6 * (exp2((b + 1) / 4.0) - 1);
    }
  }
  return 0;
}
