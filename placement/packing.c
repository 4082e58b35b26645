/* Longest processing time first (Graham, 1969) with counts: no bin may hold
 * more than ceil(n / bins) items, and only n mod bins of them that many, so
 * that none ends with fewer than floor(n / bins). DeepSeek's EPLB packs by the
 * same rule where all speeds are equal. */
#include "placement/packing.h"

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

moerun_status moerun__pack_evenly(int32_t *bin_of, const int64_t *load,
                                  int32_t num_items, const double *speed,
                                  int32_t num_bins) {
  moerun_status status = MOERUN_OK;
  int32_t *order = NULL;
  int64_t *filled = NULL;
  int32_t *count = NULL;
  const int32_t fewest = num_items / num_bins;
  int32_t extra = num_items % num_bins; /* bins that may still exceed it */
  MOERUN_TRY(moerun__alloc(&order, (size_t)num_items, sizeof *order));
  MOERUN_TRY(moerun__alloc(&filled, (size_t)num_bins, sizeof *filled));
  MOERUN_TRY(moerun__alloc(&count, (size_t)num_bins, sizeof *count));
  moerun__heaviest_first(order, load, num_items);
  for (int32_t i = 0; i < num_items; i++) {
    const int32_t item = order[i];
    int32_t best = -1;
    double least = 0;
    for (int32_t b = 0; b < num_bins; b++) {
      if (count[b] > fewest || (count[b] == fewest && extra == 0)) continue;
      const double full =
          (double)(filled[b] + load[item]) / (speed != NULL ? speed[b] : 1.0);
      if (best >= 0 && full >= least) continue;
      best = b;
      least = full;
    }
    if (count[best] == fewest) extra--;
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

/* The bin that exceeds its cap the most, or -1. */
static int32_t fullest_bin(const int64_t *filled, const int64_t *cap,
                           int32_t num_bins) {
  int32_t worst = -1;
  for (int32_t b = 0; b < num_bins; b++) {
    if (filled[b] <= cap[b]) continue;
    if (worst < 0 || filled[b] - cap[b] > filled[worst] - cap[worst]) worst = b;
  }
  return worst;
}

typedef struct relief {
  int32_t out; /* of the bin; -1: there is none */
  int32_t in;
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

/* Swaps an item of the bin for a lighter one and overfills no other bin. 0: no
 * swap does. */
static int relieve(int32_t *bin_of, int64_t *filled, const int64_t *load,
                   int32_t num_items, const int64_t *cap, int32_t bin,
                   int32_t bins_per_group) {
  const int64_t excess = filled[bin] - cap[bin];
  relief best = {.out = -1};
  for (int32_t i = 0; i < num_items; i++) {
    for (int32_t k = 0; bin_of[i] == bin && k < num_items; k++) {
      const int64_t moved = load[i] - load[k];
      const int32_t b = bin_of[k];
      if (b == bin || moved <= 0 || filled[b] + moved > cap[b]) continue;
      const relief found = {i, k, b / bins_per_group != bin / bins_per_group,
                            moved, load[i] + load[k]};
      if (is_better(&found, &best, excess)) best = found;
    }
  }
  if (best.out < 0) return 0;
  filled[bin] -= best.moved;
  filled[bin_of[best.in]] += best.moved;
  bin_of[best.out] = bin_of[best.in];
  bin_of[best.in] = bin;
  return 1;
}

moerun_status moerun__pack_repair(int32_t *bin_of, int32_t *overfull,
                                  const int64_t *load, int32_t num_items,
                                  const int64_t *cap, int32_t num_bins,
                                  int32_t bins_per_group) {
  moerun_status status = MOERUN_OK;
  int64_t *filled = NULL;
  MOERUN_TRY(moerun__alloc(&filled, (size_t)num_bins, sizeof *filled));
  for (int32_t i = 0; i < num_items; i++) {
    filled[bin_of[i]] += load[i];
  }
  for (;;) {
    *overfull = fullest_bin(filled, cap, num_bins);
    if (*overfull < 0) break;
    if (!relieve(bin_of, filled, load, num_items, cap, *overfull,
                 bins_per_group)) {
      break;
    }
  }
done:
  moerun__free(filled);
  return status;
}

moerun_status moerun__pack_within(int32_t *bin_of, int32_t *overfull,
                                  const int64_t *load, int32_t num_items,
                                  const double *speed, const int64_t *cap,
                                  int32_t num_bins) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__pack_evenly(bin_of, load, num_items, speed, num_bins));
  MOERUN_TRY(moerun__pack_repair(bin_of, overfull, load, num_items, cap,
                                 num_bins, num_bins));
done:
  return status;
}
