/* Longest processing time first (Graham, 1969) with counts: no bin may hold
 * more items than the most, and as many items as the bins are still short of
 * their fewest are kept back for them. DeepSeek's EPLB packs even bins by the
 * same rule where all speeds are equal. */
#include "placement/judge/packing.h"

#include "runtime/base/memory.h"

#include <stddef.h>

/* Order of the sort; the index as second key makes it total, so that the heap
 * sort below gives the same order everywhere. */
static int is_before(const int64_t *load, int32_t a, int32_t b) {
  return load[a] != load[b] ? load[a] > load[b] : a < b;
}

/* Moves order[root] down until nothing below it comes later. */
static void sift(int32_t *order, const int64_t *load, int32_t root, int32_t n) {
  for (int32_t child = 2 * root + 1; child < n; child = 2 * root + 1) {
    if (child + 1 < n && is_before(load, order[child], order[child + 1])) {
      child++;
    }
    if (is_before(load, order[child], order[root])) return;
    const int32_t moved = order[root];
    order[root] = order[child];
    order[child] = moved;
    root = child;
  }
}

void moerun__heaviest_first(int32_t *order, const int64_t *load, int32_t n) {
  for (int32_t i = 0; i < n; i++) {
    order[i] = i;
  }
  for (int32_t root = n / 2 - 1; root >= 0; root--) {
    sift(order, load, root, n);
  }
  for (int32_t last = n - 1; last > 0; last--) {
    const int32_t latest = order[0];
    order[0] = order[last];
    order[last] = latest;
    sift(order, load, 0, last);
  }
}

moerun_status moerun__pack(int32_t *bin_of, const int64_t *load,
                           int32_t num_items, const moerun__bins *bins) {
  moerun_status status = MOERUN_OK;
  int32_t *order = NULL;
  int64_t *filled = NULL;
  int32_t *count = NULL;
  const size_t num_bins = (size_t)bins->count;
  /* Items that may still exceed the fewest of their bins. */
  int32_t extra = num_items - bins->count * bins->fewest;
  MOERUN_TRY(moerun__alloc(&order, (size_t)num_items, sizeof *order));
  MOERUN_TRY(moerun__alloc(&filled, num_bins, sizeof *filled));
  MOERUN_TRY(moerun__alloc(&count, num_bins, sizeof *count));
  moerun__heaviest_first(order, load, num_items);
  for (int32_t i = 0; i < num_items; i++) {
    const int32_t item = order[i];
    int32_t best = -1;
    double least = 0;
    for (int32_t b = 0; b < bins->count; b++) {
      if (count[b] >= bins->most) continue;
      if (count[b] >= bins->fewest && extra == 0) continue;
      const double full = (double)(filled[b] + load[item]) /
                          (bins->speed != NULL ? bins->speed[b] : 1.0);
      if (best >= 0 && full >= least) continue;
      best = b;
      least = full;
    }
    if (count[best] >= bins->fewest) extra--;
    bin_of[item] = best;
    filled[best] += load[item];
    count[best]++;
  }
done:
  moerun__free(order);
  moerun__free(filled);
  moerun__free(count);
  return status;
}

/* What a repair knows. */
typedef struct state {
  const moerun__bins *bins;
  const int64_t *load;
  int32_t num_items;
  int32_t *bin_of;
  int64_t *filled;
  int32_t *count;
} state;

/* The bin that exceeds its cap the most, or -1. */
static int32_t fullest_bin(const state *s) {
  const int64_t *cap = s->bins->cap;
  int32_t worst = -1;
  for (int32_t b = 0; b < s->bins->count; b++) {
    if (s->filled[b] <= cap[b]) continue;
    if (worst < 0 || s->filled[b] - cap[b] > s->filled[worst] - cap[worst]) {
      worst = b;
    }
  }
  return worst;
}

typedef struct relief {
  int32_t out; /* of the bin; -1: there is none */
  int32_t in;  /* -1: nothing comes for it */
  int32_t bin; /* that it goes to */
  int leaves_group;
  int64_t moved;
  int64_t weight; /* of both items */
} relief;

/* Enough is better than too little; then within the group; then by light items
 * if it is enough, by the most moved if not. */
static int is_better(const relief *a, const relief *b, int64_t excess) {
  if (b->out < 0) return 1;
  const int a_enough = a->moved >= excess;
  const int b_enough = b->moved >= excess;
  if (a_enough != b_enough) return a_enough;
  if (a->leaves_group != b->leaves_group) return b->leaves_group;
  return a_enough ? a->weight < b->weight : a->moved > b->moved;
}

/* The best of all swaps and moves of one item of the bin, if better than
 * *best. */
static void try_item(relief *best, const state *s, int32_t item,
                     int32_t bins_per_group) {
  const moerun__bins *bins = s->bins;
  const int32_t bin = s->bin_of[item];
  const int64_t excess = s->filled[bin] - bins->cap[bin];
  for (int32_t k = 0; k < s->num_items + bins->count; k++) {
    const int is_move = k >= s->num_items;
    const int32_t b = is_move ? k - s->num_items : s->bin_of[k];
    const int64_t back = is_move ? 0 : s->load[k];
    const int64_t moved = s->load[item] - back;
    if (b == bin || moved <= 0 || s->filled[b] + moved > bins->cap[b]) continue;
    if (is_move &&
        (s->count[b] >= bins->most || s->count[bin] <= bins->fewest)) {
      continue;
    }
    const relief found = {.out = item,
                          .in = is_move ? -1 : k,
                          .bin = b,
                          .leaves_group =
                              b / bins_per_group != bin / bins_per_group,
                          .moved = moved,
                          .weight = s->load[item] + back};
    if (is_better(&found, best, excess)) *best = found;
  }
}

/* Swaps an item of the bin for a lighter one, or moves it, and overfills no
 * other bin. 0: nothing does. */
static int relieve(const state *s, int32_t bin, int32_t bins_per_group) {
  relief best = {.out = -1};
  for (int32_t i = 0; i < s->num_items; i++) {
    if (s->bin_of[i] == bin) try_item(&best, s, i, bins_per_group);
  }
  if (best.out < 0) return 0;
  s->filled[bin] -= best.moved;
  s->filled[best.bin] += best.moved;
  s->bin_of[best.out] = best.bin;
  if (best.in >= 0) {
    s->bin_of[best.in] = bin;
  } else {
    s->count[bin]--;
    s->count[best.bin]++;
  }
  return 1;
}

moerun_status moerun__pack_repair(int32_t *bin_of, int32_t *overfull,
                                  const int64_t *load, int32_t num_items,
                                  const moerun__bins *bins,
                                  int32_t bins_per_group) {
  moerun_status status = MOERUN_OK;
  state s = {
      .bins = bins, .load = load, .num_items = num_items, .bin_of = bin_of};
  const size_t num_bins = (size_t)bins->count;
  MOERUN_TRY(moerun__alloc(&s.filled, num_bins, sizeof *s.filled));
  MOERUN_TRY(moerun__alloc(&s.count, num_bins, sizeof *s.count));
  for (int32_t i = 0; i < num_items; i++) {
    s.filled[bin_of[i]] += load[i];
    s.count[bin_of[i]]++;
  }
  for (;;) {
    *overfull = fullest_bin(&s);
    if (*overfull < 0) break;
    if (!relieve(&s, *overfull, bins_per_group)) break;
  }
done:
  moerun__free(s.filled);
  moerun__free(s.count);
  return status;
}

moerun_status moerun__pack_within(int32_t *bin_of, int32_t *overfull,
                                  const int64_t *load, int32_t num_items,
                                  const moerun__bins *bins) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__pack(bin_of, load, num_items, bins));
  MOERUN_TRY(moerun__pack_repair(bin_of, overfull, load, num_items, bins,
                                 bins->count));
done:
  return status;
}
