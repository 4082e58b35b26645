/* What the parts of moerun_bench_balance share: options, output, a model of one
 * MoE layer whose routing the input rows decide, and the clock. */
#ifndef MOERUN_BENCHMARKS_BALANCE_H
#define MOERUN_BENCHMARKS_BALANCE_H

#include "runtime/base/text.h"
#include "runtime/decoder/session.h"
#include "runtime/text/tokenizer.h"

#include <stdio.h>

typedef struct bench_options {
  const char *case_name; /* NULL: all */
  int64_t repetitions;   /* of each time */
  int64_t steps;         /* of each series of slow */
  int64_t tokens;        /* of each rank */
  int64_t experts;       /* of skew, balanced */
  int64_t hidden_width;  /* H */
  int64_t expert_width;  /* F */
  int64_t guests;        /* of other ranks' experts, room on each; -1: as much
                            as sessions take by default                      */
  int64_t batches;       /* of the text at most, gamma and isolation; 0: all */
  int64_t weight_rows;   /* of replay; 0: measured */
  const char *model;  /* of attack, gamma, isolation; NULL: they are left out */
  const char *text;   /* file, for the same */
  const char *json;   /* NULL: none */
  const char *series; /* file for the steps of slow; NULL: none */
  int help;
} bench_options;

typedef struct bench {
  bench_options options;
  moerun_comm *comm;
  moerun__text json;   /* on rank 0 */
  moerun__text series; /* on rank 0 */
} bench;

/* ---- One layer (balance_layer.c) ----------------------------------------- */

typedef struct bench_layer {
  moerun_comm *comm;
  moerun_placement *placement;
  moerun_model *model;
  int32_t tokens;  /* T of this rank */
  int32_t *wanted; /* [T] expert of each row */
  float *x;        /* [T][H] */
  float *y;        /* [T][H] */
} bench_layer;

/* Share of the tokens that want one of the first n experts; the others are
 * spread over the rest. n = 0: over all. */
typedef struct bench_routing {
  double share;
  int32_t hot;
} bench_routing;

/* An expert by a uniform number. */
int32_t bench_draw(const bench_routing *routing, int32_t num_experts,
                   double uniform);

/* [collective] Random weights, one expert per token, experts in blocks. */
moerun_status bench_layer_create(bench_layer *layer, bench *b,
                                 int32_t num_experts);
void bench_layer_destroy(bench_layer *layer);
/* Rows that the gate sends where the routing says. */
void bench_layer_steer(bench_layer *layer, const bench_routing *routing);
/* [collective] With the benchmark's room for guests. */
moerun_status bench_layer_session(moerun_session **out, bench *b,
                                  const bench_layer *layer,
                                  moerun_balance balance, int64_t slice_bytes,
                                  const moerun__faults *faults);
/* [collective] One step of `tokens` rows a rank: seconds of the slowest rank,
 * from when all were there. Fails if the gate did not do as steered. */
moerun_status bench_layer_time(double *seconds, bench_layer *layer,
                               moerun_session *session, int32_t tokens);

/* ---- Prompts for a real model (balance_prompts.c) ------------------------ */

enum { BENCH_PROMPTS = 2 }; /* of each rank, in one step */

typedef struct bench_prompts {
  moerun_comm *comm;
  moerun_placement *placement;
  moerun_model *model;
  moerun__token_list text;
  int32_t longest; /* prompt */
  int32_t length;  /* of those in the batch */
  int32_t batches; /* that the text is dealt to; 1 unless set */
  int32_t *token;  /* [BENCH_PROMPTS * longest], like the next three */
  int32_t *sequence;
  int32_t *position;
  int32_t *logit_row;
} bench_prompts;

/* [collective] The model and the text of the options. */
moerun_status bench_prompts_create(bench_prompts *p, bench *b);
void bench_prompts_destroy(bench_prompts *p);
/* [collective] */
moerun_status bench_prompts_session(moerun_session **out,
                                    const bench_prompts *p,
                                    moerun_balance balance,
                                    const moerun__gate_options *gate);
/* Prompts of so many tokens: `repeated`, or each its own part of the text if
 * that is negative. */
void bench_prompts_write(bench_prompts *p, int32_t length, int32_t repeated);
/* Sets length and batches so that the text is read once, but no more than
 * `most` batches if that is not 0; then writes the first. */
void bench_prompts_deal(bench_prompts *p, int32_t most);
/* Prompts of the text, from all over it in every batch. */
void bench_prompts_write_batch(bench_prompts *p, int32_t batch);
/* Numbers that the logits of all rows of a batch are. */
size_t bench_prompts_logits(const bench_prompts *p);
/* [collective] Prefill of the prompts; the logits of the last `num_logits` rows
 * of each. Seconds of the slowest rank. */
moerun_status bench_prompts_time(double *seconds, bench_prompts *p,
                                 moerun_session *session, int32_t num_logits,
                                 float *logits);

/* ---- What dropping costs (balance_lossy.c) ------------------------------- */

/* Sums over rows that have a next token; in parts of 2^32. */
typedef struct bench_quality {
  int64_t rows;
  int64_t surprise_exact;
  int64_t surprise;
  int64_t divergence;
  int64_t agree;
  /* Of all ranks. */
  double perplexity;
  double perplexity_x; /* over that of the exact logits */
  double kl;           /* from the exact logits, nats */
  double top1;         /* share of rows with the same likeliest token */
} bench_quality;

/* Of all ranks. Masses in parts of 2^20. */
typedef struct bench_lossy {
  int64_t expert; /* rows of the busiest, summed over layers and steps */
  int64_t rank;
  int64_t all;
  int64_t candidates;
  int64_t dropped;
  int64_t added;
  int64_t mass;
  int64_t mass_dropped;
} bench_lossy;

/* [collective] Every batch of the text once. exact[batches][rows][V]: logits
 * without dropping, to compare found[rows][V] with; written if found is
 * NULL. */
moerun_status bench_read_text(bench_quality *quality, bench_lossy *lossy,
                              bench_prompts *p, moerun_session *session,
                              float *exact, float *found);
double bench_percent(int64_t part, int64_t whole);

/* ---- Clock and numbers --------------------------------------------------- */

/* [collective] */
moerun_status bench_together(moerun_comm *comm);
moerun_status bench_slowest(double *seconds, moerun_comm *comm);
moerun_status bench_sum(int64_t *value, moerun_comm *comm);

/* Sorts seconds[n]; the share 0.5 is the median. */
double bench_quantile(double *seconds, int64_t n, double share);
double bench_mean(const double *seconds, int64_t n);
/* Of the busiest rank over the mean, as counted in the session's last step. */
double bench_peak(const moerun_session *session, int planned);

/* ---- Output -------------------------------------------------------------- */

/* On rank 0; the first of a list has no comma before it. */
moerun_status bench_list_begin(bench *b, const char *name);
moerun_status bench_list_end(bench *b);
/* A line for people, and the same as an object: `names` are the keys of
 * values[count], `label` its first column. */
moerun_status bench_line(bench *b, const char *label, const char *const *names,
                         const double *values, int count);
void bench_heading(const bench *b, const char *const *names, int count);

/* ---- The cases ----------------------------------------------------------- */

moerun_status bench_skew(bench *b);
moerun_status bench_balanced(bench *b);
moerun_status bench_slices(bench *b);
moerun_status bench_slow(bench *b);
moerun_status bench_replay(bench *b);
moerun_status bench_replay_slow(bench *b);
moerun_status bench_attack(bench *b);
moerun_status bench_gamma(bench *b);
moerun_status bench_isolation(bench *b);

#endif
