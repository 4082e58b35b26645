/* The part of describe.c that is about caches. */
#ifndef MOERUN_TRACE_DESCRIBE_CACHE_H
#define MOERUN_TRACE_DESCRIBE_CACHE_H

#include "placement/trace/describe.h"

/* Fills cache[], num_caches and num_segments; load[L][E]. */
moerun_status moerun__describe_caches(moerun__description *out,
                                      const moerun__trace *trace,
                                      const int64_t *load);

#endif
