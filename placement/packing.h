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

/* Indices 0 .. n - 1 by load, heaviest first, ties in ascending order. */
void moerun__heaviest_first(int32_t *order, const int64_t *load, int32_t n);

#endif
