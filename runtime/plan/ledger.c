#include "runtime/plan/ledger.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Behind the last, the other ways by their numbers. */
enum { KIND_UNKNOWN = -1, AS_ROUTED, MOVED };

/* ---- Memory -------------------------------------------------------------- */

void moerun__ledger_lay_out(moerun__ledger *ledger, moerun__arena *arena,
                            int32_t num_layers, int32_t num_ranks,
                            int32_t num_experts) {
  const size_t R = (size_t)num_ranks;
  const size_t layers = (size_t)num_layers;
  ledger->num_layers = num_layers;
  ledger->num_ranks = num_ranks;
  ledger->num_experts = num_experts;
  ledger->steps =
      moerun__arena_take(arena, MOERUN_LEDGER_STEPS, sizeof *ledger->steps);
  ledger->layers = moerun__arena_take(arena, layers, sizeof *ledger->layers);
  ledger->last_count = moerun__arena_take(arena, R, sizeof *ledger->last_count);
  ledger->duration = moerun__arena_take(arena, R, sizeof *ledger->duration);
  ledger->changes =
      moerun__arena_take(arena, MOERUN_LEDGER_CHANGES, sizeof *ledger->changes);
  ledger->speed = moerun__arena_take(arena, R, sizeof *ledger->speed);
  ledger->kind = moerun__arena_take(arena, layers, sizeof *ledger->kind);
  ledger->planned = moerun__arena_take(arena, R, sizeof *ledger->planned);
}

void moerun__ledger_clear(moerun__ledger *ledger) {
  const size_t R = (size_t)ledger->num_ranks;
  const size_t layers = (size_t)ledger->num_layers;
  ledger->num_steps = 0;
  ledger->num_changes = 0;
  ledger->layer = -1;
  memset(ledger->layers, 0, layers * sizeof *ledger->layers);
  memset(ledger->last_count, 0, R * sizeof *ledger->last_count);
  memset(ledger->duration, 0, R * sizeof *ledger->duration);
  for (int32_t l = 0; l < ledger->num_layers; l++) {
    ledger->kind[l] = KIND_UNKNOWN;
  }
}

void moerun__ledger_begin_step(moerun__ledger *ledger) {
  memset(&ledger->steps[ledger->num_steps++ % MOERUN_LEDGER_STEPS], 0,
         sizeof *ledger->steps);
}

/* ---- One plan ------------------------------------------------------------ */

static void add_up(moerun__ledger_entry *sum,
                   const moerun__ledger_entry *more) {
  sum->plans += more->plans;
  sum->moved += more->moved;
  for (int32_t w = 0; w < MOERUN_MOST_WAYS; w++) {
    sum->way[w].plans += more->way[w].plans;
    sum->way[w].bytes += more->way[w].bytes;
  }
  sum->rows += more->rows;
  sum->peak_expert += more->peak_expert;
  sum->empty += more->empty;
  sum->peak_routed += more->peak_routed;
  sum->peak_planned += more->peak_planned;
  sum->deviation_routed += more->deviation_routed;
  sum->deviation_planned += more->deviation_planned;
  sum->rows_told += more->rows_told;
  sum->peak_told += more->peak_told;
  sum->unplanned += more->unplanned;
  sum->time_routed += more->time_routed;
  sum->time_planned += more->time_planned;
  sum->rows_moved += more->rows_moved;
  sum->weights_sent += more->weights_sent;
  sum->weight_bytes += more->weight_bytes;
  sum->uneven += more->uneven;
  sum->no_room += more->no_room;
  sum->waiting_rows += more->waiting_rows;
  sum->room_rows += more->room_rows;
  sum->price_rows += more->price_rows;
  sum->kind_changes += more->kind_changes;
  sum->speed_changes += more->speed_changes;
  sum->offered += more->offered;
  sum->dropped += more->dropped;
  sum->mass += more->mass;
  sum->mass_dropped += more->mass_dropped;
  sum->busy_most_us += more->busy_most_us;
  sum->busy_sum_us += more->busy_sum_us;
  sum->last = more->last;
}

static int32_t word(const int32_t *told, int32_t rank, int32_t which) {
  return told[(size_t)rank * MOERUN_TOLD_WORDS + (size_t)which];
}

static double deviation(const int64_t *rows, int32_t n, int64_t total) {
  const double mean = (double)total / n;
  double sum = 0;
  for (int32_t i = 0; i < n; i++) {
    const double d = (double)rows[i] - mean;
    sum += d * d;
  }
  return sqrt(sum / n);
}

static void see_experts(moerun__ledger_entry *entry, const moerun__plan *plan,
                        const moerun__demand *demand) {
  int32_t replica = 0;
  for (int32_t e = 0; e < demand->num_experts; e++) {
    const int32_t end =
        demand->replica_of_expert[e + 1] - demand->first_replica;
    int64_t rows = 0;
    for (; replica < end; replica++) {
      rows += plan->replica_rows[replica];
    }
    if (rows > entry->peak_expert) entry->peak_expert = rows;
    entry->empty += rows == 0;
  }
}

static void see_obstacle(moerun__ledger_entry *entry,
                         const moerun__plan_obstacle *obstacle) {
  entry->uneven = obstacle->waiting_rows > 0;
  entry->no_room = obstacle->is_room;
  entry->waiting_rows = obstacle->waiting_rows;
  if (obstacle->is_room) {
    entry->room_rows = obstacle->waiting_rows;
  } else {
    entry->price_rows = obstacle->weight_rows;
  }
}

static void see_plan(moerun__ledger_entry *entry, const moerun__plan *plan,
                     const moerun__plan_bytes *bytes) {
  const moerun__plan_peaks peaks = moerun__plan_peaks_of(plan);
  entry->plans = 1;
  entry->moved = plan->num_moves > 0;
  entry->way[plan->way] =
      (moerun__way_count){1, plan->way != MOERUN_WAY_WHOLE ? bytes->way : 0};
  entry->rows = peaks.total;
  entry->peak_routed = peaks.rows_before;
  entry->peak_planned = peaks.rows_after;
  entry->time_routed = peaks.time_before;
  entry->time_planned = peaks.time_after;
  entry->deviation_routed =
      deviation(plan->before, plan->num_ranks, peaks.total);
  entry->deviation_planned =
      deviation(plan->load, plan->num_ranks, peaks.total);
  for (int32_t m = 0; m < plan->num_moves; m++) {
    entry->rows_moved += plan->moves[m].rows;
  }
  see_obstacle(entry, &plan->obstacle);
  entry->weights_sent = plan->num_sends;
  entry->weight_bytes = plan->num_sends * bytes->expert;
}

/* Words of this layer. The first time a speed is told is not a change. */
static void see_words(moerun__ledger_entry *entry, moerun__ledger *ledger,
                      const int32_t *told, const moerun__told_sums *sums) {
  entry->offered = sums->offered;
  entry->dropped = sums->dropped;
  entry->mass = sums->mass;
  entry->mass_dropped = sums->mass_dropped;
  for (int32_t r = 0; r < ledger->num_ranks; r++) {
    const int32_t speed = word(told, r, MOERUN_TOLD_SPEED);
    const int is_first = ledger->num_changes < ledger->num_ranks;
    if (!is_first && speed == ledger->speed[r]) continue;
    entry->speed_changes += !is_first;
    ledger->speed[r] = speed;
    ledger->changes[ledger->num_changes++ % MOERUN_LEDGER_CHANGES] =
        (moerun__speed_change){ledger->num_steps - 1, r, speed};
  }
}

static void see_kind(moerun__ledger_entry *entry, moerun__ledger *ledger,
                     const moerun__plan *plan, int32_t layer) {
  int32_t kind = plan->num_moves > 0 ? MOVED : AS_ROUTED;
  if (plan->way != MOERUN_WAY_WHOLE) kind = MOVED + plan->way;
  entry->kind_changes =
      ledger->kind[layer] != KIND_UNKNOWN && ledger->kind[layer] != kind;
  ledger->kind[layer] = kind;
}

/* ---- What ranks say afterwards ------------------------------------------- */

static void see_computed(moerun__ledger_entry *entry,
                         const moerun__ledger *ledger, const int32_t *told) {
  int64_t planned = 0;
  for (int32_t r = 0; r < ledger->num_ranks; r++) {
    const int64_t rows = word(told, r, MOERUN_TOLD_ROWS);
    entry->rows_told += rows;
    if (rows > entry->peak_told) entry->peak_told = rows;
    planned += ledger->planned[r];
    if (ledger->is_spread) continue;
    entry->unplanned += llabs(rows - ledger->planned[r]);
  }
  if (ledger->is_spread) entry->unplanned = llabs(entry->rows_told - planned);
}

/* Of the layer before; the first layer of a step tells of the last one of the
 * step before. */
static void add_told(moerun__ledger *ledger, const int32_t *told) {
  moerun__ledger_entry entry = {0};
  for (int32_t r = 0; r < ledger->num_ranks; r++) {
    const int32_t us = word(told, r, MOERUN_TOLD_BUSY);
    entry.busy_sum_us += us;
    if (r == 0 || us > entry.busy_most_us) {
      entry.busy_most_us = us;
      entry.last = r;
    }
    moerun__histogram_add(&ledger->duration[r], 1e-6 * us);
  }
  see_computed(&entry, ledger, told);
  ledger->last_count[entry.last]++;
  add_up(&ledger->layers[ledger->layer], &entry);
  if (ledger->step < 0) return;
  add_up(&ledger->steps[ledger->step % MOERUN_LEDGER_STEPS], &entry);
}

void moerun__ledger_add(moerun__ledger *ledger, const moerun__plan *plan,
                        const moerun__demand *demand, const int32_t *told,
                        const moerun__told_sums *sums,
                        const moerun__plan_bytes *bytes) {
  moerun__ledger_entry entry = {0};
  moerun__ledger_entry *layer = &ledger->layers[demand->layer];
  if (ledger->layer >= 0) add_told(ledger, told);
  ledger->layer = demand->layer;
  ledger->step = ledger->num_steps - 1;
  ledger->is_spread = plan->is_spread;
  memcpy(ledger->planned, plan->load,
         (size_t)ledger->num_ranks * sizeof *ledger->planned);
  see_experts(&entry, plan, demand);
  see_plan(&entry, plan, bytes);
  see_words(&entry, ledger, told, sums);
  see_kind(&entry, ledger, plan, demand->layer);
  entry.last = layer->last;
  add_up(layer, &entry);
  if (ledger->step < 0) return;
  moerun__ledger_entry *step =
      &ledger->steps[ledger->step % MOERUN_LEDGER_STEPS];
  entry.last = step->last;
  add_up(step, &entry);
}

void moerun__ledger_end(moerun__ledger *ledger, const int32_t *told) {
  if (ledger->layer >= 0) add_told(ledger, told);
  ledger->layer = -1;
}

/* ---- Derived numbers ----------------------------------------------------- */

moerun__ledger_entry moerun__ledger_total(const moerun__ledger *ledger) {
  moerun__ledger_entry total = {0};
  for (int32_t l = 0; l < ledger->num_layers; l++) {
    add_up(&total, &ledger->layers[l]);
  }
  return total;
}

double moerun__peak_over_mean(int64_t peak, int64_t rows, int32_t n) {
  return rows > 0 ? (double)peak * n / (double)rows : 0;
}

double moerun__ledger_idle(const moerun__ledger *ledger,
                           const moerun__ledger_entry *entry) {
  const double all = (double)entry->busy_most_us * (double)ledger->num_ranks;
  return all > 0 ? 1 - (double)entry->busy_sum_us / all : 0;
}
