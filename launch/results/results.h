/* The file of results: one JSON object a line, appended as requests finish and
 * rewritten in input order when all have. What is in it survives the process;
 * --resume goes on from it. Rank 0 only. */
#ifndef MOERUN_RESULTS_RESULTS_H
#define MOERUN_RESULTS_RESULTS_H

#include "launch/results/result_line.h"
#include "runtime/base/config.h"
#include "runtime/base/output.h"

#include <stdio.h>

typedef struct moerun__results moerun__results;

/* Whether --resume is given. profile has it not: the routing of requests that
 * are finished would be missing from the trace. */
int moerun__results_resume(const moerun__config *config);

typedef struct moerun__results_options {
  const char *path; /* NULL: no file                                     */
  FILE *stream;     /* without a file: takes the lines as they come; NULL:
                       numbers only (score)                              */
  const moerun__model_config *model; /* borrowed; for resume alone */
  int resume;     /* keep the results that the file holds already */
  int overwrite;  /* replace an existing file */
  int is_passing; /* nobody resumes it: a file without a line is not kept */
} moerun__results_options;

/* Looks at what is there and changes nothing: an existing file without resume
 * or overwrite, results of other requests, lines that this run would not have
 * written, and a torn one that is not the start of such a line are errors. A
 * device or a pipe takes the lines as they come. prompts and tokenizer (NULL:
 * no "text" in the results) are borrowed. */
moerun_status moerun__results_open(moerun__results **out,
                                   const moerun__prompts *prompts,
                                   const moerun__tokenizer *tokenizer,
                                   const moerun__results_options *options);
/* Creates the file, or takes a torn last line off it; results of other weights
 * than those of this digest are an error before. NULL: no weights were read,
 * and no result will be appended. */
moerun_status moerun__results_begin(moerun__results *results,
                                    const uint64_t *weights);
/* Appends the line of a finished request; in a batch file, once all requests of
 * the line are finished. It is written at once, and brought to
 * disk at most twice a second; without a further line the last ones wait for
 * the end. A request that is broken has no line. */
moerun_status moerun__results_append(moerun__results *results,
                                     const moerun__completion *completion);
/* Appends what is wrong with request `index` in place of a result. --resume
 * does not keep such lines: the request may have been mended. */
moerun_status moerun__results_append_error(moerun__results *results,
                                           int64_t index, const char *id,
                                           const char *reason);
/* Brings all to disk; a complete file that is not in input order is written in
 * that order, as one of the outputs. */
moerun_status moerun__results_end(moerun__results *results,
                                  moerun__outputs *outputs);
/* After the end: the error that names the first request that was broken, if
 * any was. */
moerun_status moerun__results_check(moerun__results *results);
void moerun__results_destroy(moerun__results *results);

/* Whether the file has the result of request `index`, and how many it has. */
int moerun__results_has(const moerun__results *results, int64_t index);
int64_t moerun__results_count(const moerun__results *results);

/* Whether request `index` is finished and waits for others of its line: that is
 * in memory alone. */
int moerun__results_waits(const moerun__results *results, int64_t index);

/* Sums over all scored windows that the file has, in input order. */
typedef struct moerun__score {
  int64_t tokens;         /* that were scored */
  double log_probability; /* natural logarithms, summed */
} moerun__score;

moerun__score moerun__results_score(const moerun__results *results);

#endif
