/* Entries are found by looking at all that a layer may use on a rank: they are
 * as many as experts have moved to that rank, so few where there are many
 * ranks. */
#include "runtime/plan/guest_table.h"

static int32_t reserved_of(int32_t num_layers, int32_t per_rank) {
  if (num_layers < 1 || per_rank <= MOERUN_SHARED_GUESTS) return 0;
  return (per_rank - MOERUN_SHARED_GUESTS) / num_layers;
}

static void split(moerun__guest_table *table, int32_t per_rank) {
  table->per_rank = per_rank;
  table->reserved = reserved_of(table->num_layers, per_rank);
  table->shared = per_rank - table->reserved * table->num_layers;
  table->per_layer = table->reserved + table->shared;
}

void moerun__guest_table_lay_out(moerun__guest_table *table,
                                 moerun__arena *arena, int32_t num_ranks,
                                 int32_t num_layers, int32_t per_rank) {
  const size_t entries = (size_t)num_ranks * (size_t)per_rank;
  table->num_ranks = num_ranks;
  table->num_layers = num_layers;
  split(table, per_rank);
  table->key = moerun__arena_take(arena, entries, sizeof *table->key);
  table->used = moerun__arena_take(arena, entries, sizeof *table->used);
  table->patience =
      moerun__arena_take(arena, (size_t)num_layers, sizeof *table->patience);
}

void moerun__guest_table_shrink(moerun__guest_table *table, int32_t per_rank) {
  const int32_t most = table->per_layer;
  split(table, per_rank);
  if (table->per_layer > most) { /* for what a session was laid out */
    table->shared -= table->per_layer - most;
    table->per_layer = most;
  }
  moerun__guest_table_clear(table);
}

void moerun__guest_table_clear(moerun__guest_table *table) {
  table->plans = 0;
  for (int32_t i = 0; i < table->num_ranks * table->per_rank; i++) {
    table->key[i] = -1;
    table->used[i] = 0;
  }
  for (int32_t l = 0; l < table->num_layers; l++) {
    table->patience[l] = 0;
  }
}

void moerun__guest_table_forget_last(moerun__guest_table *table) {
  for (int32_t r = 0; r < table->num_ranks; r++) {
    table->key[(size_t)(r + 1) * (size_t)table->per_rank - 1] = -1;
  }
}

int32_t moerun__guest_table_find(const moerun__guest_table *table, int32_t rank,
                                 int32_t layer, int64_t key) {
  for (int32_t g = 0; g < table->per_layer; g++) {
    if (table->key[moerun__guest_table_entry(table, rank, layer, g)] == key) {
      return g;
    }
  }
  return MOERUN_NO_GUEST;
}

void moerun__guest_table_use(moerun__guest_table *table, int32_t rank,
                             int32_t layer, int32_t guest, int64_t key) {
  const size_t at = moerun__guest_table_entry(table, rank, layer, guest);
  table->key[at] = key;
  table->used[at] = table->plans;
}

int32_t moerun__guest_table_oldest(const moerun__guest_table *table,
                                   int32_t rank, int32_t layer) {
  int32_t oldest = 0;
  for (int32_t g = 1; g < table->per_layer; g++) {
    const int64_t used =
        table->used[moerun__guest_table_entry(table, rank, layer, g)];
    const int64_t least =
        table->used[moerun__guest_table_entry(table, rank, layer, oldest)];
    if (used < least) oldest = g;
  }
  return oldest;
}
