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
