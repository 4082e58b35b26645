/* What the parts of moerun_bench_exchange share. */
#ifndef MOERUN_BENCHMARKS_EXCHANGE_H
#define MOERUN_BENCHMARKS_EXCHANGE_H

#include "comm/comm.h"
#include "runtime/base/text.h"

#include <moerun/moerun_mpi.h>

/* comm's way, and MPI's with one call. */
enum { WAYS = 2, EXCHANGE = 0, ALLTOALLV = 1 };

typedef struct options {
  int64_t first_bytes; /* to each other rank */
  int64_t last_bytes;
  int64_t factor;
  int64_t iterations;
  int64_t warmup;
  int64_t row_bytes;
  const char *json; /* NULL: none */
  int help;
} options;

typedef struct bench {
  moerun_comm *comm;
  moerun__transfer *both; /* ways */
  int R;
  int rank;
  unsigned char *send;    /* [R][rows][row_bytes] */
  unsigned char *receive; /* the same */
  int32_t *offset;        /* [R + 1] rows, for both directions */
  int *count;             /* [R] rows, for MPI_Alltoallv; none for itself */
  double *seconds;        /* [WAYS][iterations], of this rank */
  double *slowest;        /* [WAYS][iterations], on rank 0 */
} bench;

typedef struct summary {
  double min, median, p99; /* microseconds */
} summary;

/* times[WAYS] on rank 0, in b->seconds those of each iteration and way. */
void bench_summarise(summary *times, bench *b, const options *o);

moerun_status bench_json_times(moerun__text *text, const char *name,
                               const summary *time);

/* [collective] Times and prints what ranks tell each other before rows travel;
 * on rank 0 also as elements of an array of JSON. */
moerun_status bench_tellings(bench *b, const options *o, moerun__text *json);

#endif
