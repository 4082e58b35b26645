/* How long a row takes to compute and an expert's weights take to arrive, here
 * and now: when it pays to move rows. */
#ifndef MOERUN_MOE_CALIBRATE_H
#define MOERUN_MOE_CALIBRATE_H

#include "runtime/moe/moe.h"

/* Seconds that a row is taken to need where speeds are counted and not
 * measured. */
#define MOERUN_COUNTED_SECONDS 1e-4

/* [collective] Fills moe->balance.options, the same on all ranks: the fastest
 * rank's rows against the slowest link; fixed numbers where speeds are
 * counted. */
moerun_status moerun__calibrate(moerun__moe *moe);

/* [collective] At the end of a layer: measures again how long weights take if
 * that has often enough kept rows from moving, the first time at once, then
 * after twice as many layers each time. What was measured while the machine was
 * busy is too long; the shortest counts. */
moerun_status moerun__calibrate_again(moerun__moe *moe);

/* [collective] After that: moe->balance.slice_costs, as a way measures; with
 * fixed numbers where speeds are counted. */
moerun_status moerun__calibrate_slices(moerun__moe *moe, double weights,
                                       int is_counted);

/* Seconds of one row through an expert of this rank; 0: it has none. */
double moerun__calibrate_row(moerun__moe *moe);

#endif
