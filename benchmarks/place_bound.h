/* The certified bound of moerun_bench_place against the seconds it took. */
#ifndef MOERUN_BENCHMARKS_PLACE_BOUND_H
#define MOERUN_BENCHMARKS_PLACE_BOUND_H

#include "placement/judge/problem.h"
#include "runtime/base/text.h"

typedef struct place_bound_case {
  const char *name;
  const char *trace_name;
  const moerun__problem *problem;
  double cost; /* of the best placement at hand within the caps */
  double seconds;
} place_bound_case;

/* A line, and a row of the JSON, whenever the time has doubled, and at the
 * end. *num_rows: of the JSON so far. */
moerun_status place_bound_run(moerun__text *json, int *num_rows,
                              const place_bound_case *of);

#endif
