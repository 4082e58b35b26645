/* Even packing of loads: what load caps are made of, and what methods start
 * from. */
#ifndef MOERUN_JUDGE_PACKING_H
#define MOERUN_JUDGE_PACKING_H

#include "runtime/base/status.h"

typedef struct moerun__bins {
  int32_t count;
  int32_t fewest;      /* items of a bin: fewest * count <= items */
  int32_t most;        /*                   most * count >= items */
  const double *speed; /* [count]; NULL: all 1 */
  const int64_t *cap;  /* [count]; not looked at by moerun__pack */
} moerun__bins;

/* Bins of floor to ceil(num_items / num_bins) items each. */
static inline moerun__bins moerun__even_bins(int32_t num_items,
                                             int32_t num_bins,
                                             const double *speed,
                                             const int64_t *cap) {
  const int32_t fewest = num_items / num_bins;
  return (moerun__bins){num_bins, fewest, fewest + (num_items % num_bins != 0),
                        speed, cap};
}

/* Heaviest first, each onto the bin that it fills the least per unit of speed
 * and that has room (Graham's LPT with counts): bin_of[num_items]. Ties go to
 * the lower index. */
moerun_status moerun__pack(int32_t *bin_of, const int64_t *load,
                           int32_t num_items, const moerun__bins *bins);

/* Swaps items out of bins that exceed their caps, or moves them where counts
 * allow, until none does: within a group of bins_per_group neighbouring bins if
 * that helps, else the lightest items that do. *overfull: a bin that is left
 * over its cap, or -1. */
moerun_status moerun__pack_repair(int32_t *bin_of, int32_t *overfull,
                                  const int64_t *load, int32_t num_items,
                                  const moerun__bins *bins,
                                  int32_t bins_per_group);

/* moerun__pack, then moerun__pack_repair with one group. */
moerun_status moerun__pack_within(int32_t *bin_of, int32_t *overfull,
                                  const int64_t *load, int32_t num_items,
                                  const moerun__bins *bins);

/* Indices 0 .. n - 1 by load, heaviest first, ties in ascending order. */
void moerun__heaviest_first(int32_t *order, const int64_t *load, int32_t n);

#endif
