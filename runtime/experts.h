/* The expert stage of a MoE layer: rows in, results out. */
#ifndef MOERUN_RUNTIME_EXPERTS_H
#define MOERUN_RUNTIME_EXPERTS_H

#include "runtime/moe.h"

/* Posts the receives of chunk c's first wave. The counts are known. */
moerun_status moerun__experts_begin(moerun__moe *moe, int32_t c);

/* All waves of chunk c: receive, compute, send the results home. */
moerun_status moerun__experts_work_off(moerun__moe *moe, int32_t c,
                                       const moerun__layer *layer);

#endif
