/* gamma: what a capacity costs in quality and gains in time, on a model and a
 * text. Quality and counts are of the whole text, batch by batch, against the
 * logits of a session without a capacity; then the two take turns with the
 * first batch. Drop, gate mass and rows do not depend on the machine. Balancing
 * is off, so that the rows of the busiest expert and rank are those that the
 * capacity leaves. */
#include "benchmarks/balance.h"

#include "runtime/base/memory.h"

#include <string.h>

static const int32_t gammas[] = {3000, 2000, 1500, 1250, 1000, 750};
enum { GAMMAS = sizeof gammas / sizeof *gammas, ANY = 64 };

typedef struct mode {
  const char *name;
  moerun__capacity_level level;
  moerun__capacity_metric metric;
  moerun__capacity_expansion expansion;
  moerun__weight_rule rule;
  int32_t most_added;
} mode;

/* First what the options stand for, then the same by other metrics, weights and
 * numbers. What was published goes by score. */
static const mode modes[] = {
    {"drop", MOERUN_LEVEL_EXPERT, MOERUN_METRIC_WEIGHT, MOERUN_EXPANSION_OFF,
     MOERUN_WEIGHT_PRE, 0},
    {"paper", MOERUN_LEVEL_EXPERT, MOERUN_METRIC_SCORE, MOERUN_EXPANSION_PAPER,
     MOERUN_WEIGHT_PRE, 0},
    {"fill", MOERUN_LEVEL_EXPERT, MOERUN_METRIC_WEIGHT, MOERUN_EXPANSION_FILL,
     MOERUN_WEIGHT_PRE, 0},
    {"rank_drop", MOERUN_LEVEL_RANK, MOERUN_METRIC_WEIGHT, MOERUN_EXPANSION_OFF,
     MOERUN_WEIGHT_PRE, 0},
    {"rank_paper", MOERUN_LEVEL_RANK, MOERUN_METRIC_SCORE,
     MOERUN_EXPANSION_PAPER, MOERUN_WEIGHT_PRE, 0},
    {"rank_fill", MOERUN_LEVEL_RANK, MOERUN_METRIC_WEIGHT,
     MOERUN_EXPANSION_FILL, MOERUN_WEIGHT_PRE, 0},
    {"drop_score", MOERUN_LEVEL_EXPERT, MOERUN_METRIC_SCORE,
     MOERUN_EXPANSION_OFF, MOERUN_WEIGHT_PRE, 0},
    {"paper_weight", MOERUN_LEVEL_EXPERT, MOERUN_METRIC_WEIGHT,
     MOERUN_EXPANSION_PAPER, MOERUN_WEIGHT_PRE, 0},
    {"fill_score", MOERUN_LEVEL_EXPERT, MOERUN_METRIC_SCORE,
     MOERUN_EXPANSION_FILL, MOERUN_WEIGHT_PRE, 0},
    {"fill_post", MOERUN_LEVEL_EXPERT, MOERUN_METRIC_WEIGHT,
     MOERUN_EXPANSION_FILL, MOERUN_WEIGHT_POST, 0},
    {"fill_any", MOERUN_LEVEL_EXPERT, MOERUN_METRIC_WEIGHT,
     MOERUN_EXPANSION_FILL, MOERUN_WEIGHT_PRE, ANY},
    {"rank_score", MOERUN_LEVEL_RANK, MOERUN_METRIC_SCORE, MOERUN_EXPANSION_OFF,
     MOERUN_WEIGHT_PRE, 0},
};

typedef struct sweep {
  bench_prompts prompts;
  moerun_session *plain;
  moerun_session *lossy;
  float *logits;   /* [batches][rows][V] without a capacity */
  float *found;    /* [rows][V] with it */
  double *seconds; /* [2][repetitions] */
} sweep;

/* ---- Settings ------------------------------------------------------------ */

static const char *const names[] = {
    "gamma",  "drop_%",     "mass_%",  "added_%", "ppl_x",
    "KL",     "top1_%",     "time_x",  "least_x", "expert_x",
    "rank_x", "expert_max", "rank_max"};
enum { NAMES = sizeof names / sizeof *names };

static moerun_status take_turns(sweep *s, int64_t n) {
  moerun_status status = MOERUN_OK;
  bench_prompts *p = &s->prompts;
  bench_prompts_write_batch(p, 0);
  for (int64_t i = 0; i < n; i++) {
    for (int turn = 0; turn < 2; turn++) {
      const int lossy = (i & 1) != 0 ? turn : 1 - turn;
      MOERUN_TRY(bench_prompts_time(&s->seconds[lossy * n + i], p,
                                    lossy ? s->lossy : s->plain, p->length,
                                    s->found));
    }
  }
done:
  return status;
}

static moerun_status run_setting(bench *b, sweep *s, const mode *m,
                                 int32_t gamma, const bench_lossy *even) {
  moerun_status status = MOERUN_OK;
  const int64_t n = b->options.repetitions;
  const moerun__model_config *config = &s->prompts.model->config;
  const moerun__gate_options options = {
      .capacity = {.gamma = gamma,
                   .level = m->level,
                   .metric = m->metric,
                   .expansion = m->expansion,
                   .rule = m->rule,
                   .most_added = m->most_added}};
  bench_quality quality;
  bench_lossy after;
  MOERUN_TRY(bench_prompts_session(&s->lossy, &s->prompts, MOERUN_BALANCE_OFF,
                                   &options));
  MOERUN_TRY(bench_read_text(&quality, &after, &s->prompts, s->lossy, s->logits,
                             s->found));
  MOERUN_TRY(take_turns(s, n));
  const double time[2] = {bench_quantile(s->seconds, n, 0.5),
                          bench_quantile(s->seconds + n, n, 0.5)};
  const double values[NAMES] = {
      1e-3 * gamma,
      bench_percent(after.dropped, after.candidates),
      bench_percent(after.mass_dropped, after.mass),
      bench_percent(after.added, after.candidates),
      quality.perplexity_x,
      quality.kl,
      100 * quality.top1,
      time[0] / time[1],
      s->seconds[0] / s->seconds[n], /* sorted by now */
      (double)even->expert / (double)after.expert,
      (double)even->rank / (double)after.rank,
      (double)after.expert * config->num_experts / (double)after.all,
      (double)after.rank * b->comm->size / (double)after.all};
  MOERUN_TRY(bench_line(b, m->name, names, values, NAMES));
done:
  moerun_session_destroy(s->lossy);
  s->lossy = NULL;
  return status;
}

/* ---- gamma --------------------------------------------------------------- */

static moerun_status create(sweep *s, bench *b) {
  moerun_status status = MOERUN_OK;
  bench_prompts *p = &s->prompts;
  MOERUN_TRY(bench_prompts_create(p, b));
  MOERUN_TRY(bench_prompts_session(&s->plain, p, MOERUN_BALANCE_OFF, NULL));
  bench_prompts_deal(p, (int32_t)b->options.batches);
  const size_t logits = bench_prompts_logits(p);
  MOERUN_TRY(moerun__alloc(&s->logits, (size_t)p->batches * logits,
                           sizeof *s->logits));
  MOERUN_TRY(moerun__alloc(&s->found, logits, sizeof *s->found));
  MOERUN_TRY(moerun__alloc(&s->seconds, 2 * (size_t)b->options.repetitions,
                           sizeof *s->seconds));
done:
  return status;
}

static void destroy(sweep *s) {
  moerun__free(s->logits);
  moerun__free(s->found);
  moerun__free(s->seconds);
  moerun_session_destroy(s->plain);
  moerun_session_destroy(s->lossy);
  bench_prompts_destroy(&s->prompts);
}

moerun_status bench_gamma(bench *b) {
  moerun_status status = MOERUN_OK;
  bench_quality exact;
  bench_lossy even;
  sweep s;
  memset(&s, 0, sizeof s);
  MOERUN_TRY(create(&s, b));
  MOERUN_TRY(
      bench_read_text(&exact, &even, &s.prompts, s.plain, s.logits, NULL));
  MOERUN_TRY(bench_list_begin(b, "gamma"));
  if (b->comm->rank == 0) {
    (void)printf("# %d batches of %d prompts of %d tokens a rank; without a "
                 "capacity: perplexity %.4f, rows of the busiest expert over "
                 "the mean %.2f, of the busiest rank %.2f\n",
                 s.prompts.batches, BENCH_PROMPTS, s.prompts.length,
                 exact.perplexity,
                 (double)even.expert * s.prompts.model->config.num_experts /
                     (double)even.all,
                 (double)even.rank * b->comm->size / (double)even.all);
  }
  bench_heading(b, names, NAMES);
  for (size_t m = 0; m < sizeof modes / sizeof *modes; m++) {
    for (int g = 0; g < GAMMAS; g++) {
      MOERUN_TRY(run_setting(b, &s, &modes[m], gammas[g], &even));
    }
  }
  MOERUN_TRY(bench_list_end(b));
done:
  destroy(&s);
  return status;
}
