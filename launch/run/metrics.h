/* What a run did, as JSON (schema in launch/README.md) and as the table on
 * stdout. Rank 0 only. */
#ifndef MOERUN_RUN_METRICS_H
#define MOERUN_RUN_METRICS_H

#include "launch/results/unfinished.h"
#include "launch/tools/prediction.h"
#include "runtime/model/model.h"
#include "runtime/report/report.h"
#include "runtime/serve/replace.h"

/* What every file of metrics begins with. */
#define MOERUN_METRICS_START "{\"format\": \"moerun-metrics\""

/* What became of the requests. */
typedef struct moerun__run_ended {
  int64_t requests; /* in the input                          */
  int64_t resumed;  /* of them finished before this run      */
  int64_t bad;      /* of them wrong, and reported as such   */
  int stopped;      /* by a signal, before all were finished */
  int is_resumable; /* --resume goes on with what is finished */
  int keeps;        /* and with requests in the middle       */
  moerun__unfinished_counts unfinished;
} moerun__run_ended;

/* All borrowed. */
typedef struct moerun__run_facts {
  const char *subcommand;
  const moerun__config *config;
  const moerun__model_config *model;
  const moerun_placement *placement;
  const char *kernels;
  const char *transport;
  int32_t num_ranks;
  const moerun__prediction *predicted; /* [num_ranks] */
  moerun__run_ended ended;
  double load_seconds; /* weights read, buffers made         */
  double run_seconds;  /* the steps                          */
  moerun__progress progress;
  const moerun__report *report;          /* NULL: there was nothing to run */
  const moerun__replace_count *replaced; /* NULL: experts stayed */
  int is_scored;                         /* all of a text's windows have been */
  moerun__score score;
  int64_t scored_bytes; /* 0: unknown */
} moerun__run_facts;

moerun_status moerun__metrics_print(moerun__text *out,
                                    const moerun__run_facts *facts);
/* The file of this name for reading, if metrics of a run are in it, else -1. */
int moerun__metrics_open(const char *path);
/* With --resume in place of the metrics of the run before, as well. */
moerun_status moerun__metrics_put(moerun__outputs *outputs, const char *path,
                                  const moerun__run_facts *facts);
/* The table for people. */
moerun_status moerun__summary_print(FILE *stream,
                                    const moerun__run_facts *facts);

/* Derived numbers, 0 where there is nothing to divide by. */
double moerun__prefill_rate(const moerun__run_facts *facts);
double moerun__decode_rate(const moerun__run_facts *facts);
double moerun__bytes_per_token(const moerun__run_facts *facts);
double moerun__perplexity(const moerun__run_facts *facts);
double moerun__bits_per_byte(const moerun__run_facts *facts);
/* out[R] = rows that each rank's experts computed, all layers together. */
void moerun__rows_of_ranks(int64_t *out, const moerun__report *report);

#endif
