/* What unfinished requests have generated, kept beside the file of results as
 * NAME.unfinished, so that --resume goes on after it: a run that is stopped
 * before its first request is finished has made progress all the same. The file
 * is gone when all requests are finished. Rank 0 only. */
#ifndef MOERUN_RESULTS_UNFINISHED_H
#define MOERUN_RESULTS_UNFINISHED_H

#include "launch/results/results.h"

#define MOERUN_UNFINISHED_ENDING ".unfinished"

typedef struct moerun__unfinished moerun__unfinished;

typedef struct moerun__unfinished_options {
  const char *path; /* of the results */
  int resume;       /* go on with what is there already */
  int overwrite;    /* replace it */
  int32_t vocab_size;
  double interval_s; /* between two savings while the run goes on; 0: none */
} moerun__unfinished_options;

typedef struct moerun__unfinished_counts {
  int64_t requests_before; /* that were there when the run began */
  int64_t tokens_before;
  int64_t requests; /* that are in the file now */
  int64_t tokens;
} moerun__unfinished_counts;

/* Looks at what is there and changes nothing. A file without resume or
 * overwrite, one that is something else, and tokens of other requests are
 * errors; lines that are damaged are left out with a warning. *out = NULL where
 * the results go to a device or a pipe, beside which nothing can be kept.
 * prompts and results are borrowed. */
moerun_status moerun__unfinished_open(
    moerun__unfinished **out, const moerun__prompts *prompts,
    const moerun__results *results, const moerun__unfinished_options *options);
/* Removes what is to be replaced; tokens of other weights than those of this
 * digest are an error. NULL: no weights were read, and nothing will be put. */
moerun_status moerun__unfinished_begin(moerun__unfinished *unfinished,
                                       const uint64_t *weights);
/* Puts what the request has generated behind its prompt. */
moerun_status moerun__unfinished_continue(const moerun__unfinished *unfinished,
                                          moerun__prompt *prompt);

/* What a request under way has generated, in place of what is there of it. */
moerun_status moerun__unfinished_put(moerun__unfinished *unfinished,
                                     const moerun__completion *so_far);
/* The request is finished. */
void moerun__unfinished_drop(moerun__unfinished *unfinished, int64_t index);
/* Asks for those under way, to be put and saved: whether it is time for that.
 * Saving, from the asking on, takes at most a fiftieth of the time, however
 * short the interval and large the file are. */
int moerun__unfinished_ask(moerun__unfinished *unfinished);
/* Writes the file anew. If that fails the run goes on: it is a warning. */
void moerun__unfinished_save(moerun__unfinished *unfinished);
/* Ends: saves what has changed if the run was stopped, else removes the
 * file. */
void moerun__unfinished_end(moerun__unfinished *unfinished, int stopped);

/* NULL: zeros. */
moerun__unfinished_counts
moerun__unfinished_count(const moerun__unfinished *unfinished);
void moerun__unfinished_destroy(moerun__unfinished *unfinished);

#endif
