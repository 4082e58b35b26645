/* Even packing of loads: what load caps are made of, and what methods start
 * from. */
#ifndef MOERUN_PLACEMENT_PACKING_H
#define MOERUN_PLACEMENT_PACKING_H

#include "runtime/base/status.h"

/* Heaviest first, each onto the bin that it fills the least per unit of speed
 * and that has room (Graham's LPT with counts): bin_of[num_items]. Every bin
 * gets floor or ceil(num_items / num_bins) items. speed may be NULL (all 1).
 * Ties go to the lower index. */
moerun_status moerun__pack_evenly(int32_t *bin_of, const int64_t *load,
                                  int32_t num_items, const double *speed,
                                  int32_t num_bins);

/* Swaps items out of bins that exceed cap[num_bins] until none does: within a
 * group of bins_per_group neighbouring bins if one helps, else the lightest
 * items that do. *overfull: a bin that is left over its cap, or -1. */
moerun_status moerun__pack_repair(int32_t *bin_of, int32_t *overfull,
                                  const int64_t *load, int32_t num_items,
                                  const int64_t *cap, int32_t num_bins,
                                  int32_t bins_per_group);

/* moerun__pack_evenly, then moerun__pack_repair with one group. */
moerun_status moerun__pack_within(int32_t *bin_of, int32_t *overfull,
                                  const int64_t *load, int32_t num_items,
                                  const double *speed, const int64_t *cap,
                                  int32_t num_bins);

/* Indices 0 .. n - 1 by load, heaviest first, ties in ascending order. */
void moerun__heaviest_first(int32_t *order, const int64_t *load, int32_t n);

#endif
