/* gamma: what a capacity costs in quality and gains in time, on a model and a
 * text. Each setting takes turns with a session
 * without a capacity, which also gives the logits that its own are compared
 * with. Drop, gate mass and rows are counted and do not depend on the machine.
 * Balancing is off, so that the rows of the busiest expert and rank are those
 * that the capacity leaves. */
#include "benchmarks/balance.h"

#include "runtime/base/memory.h"

#include <math.h>
#include <string.h>

static const int32_t gammas[] = {3000, 2000, 1500, 1250, 1000, 750};
enum { GAMMAS = sizeof gammas / sizeof *gammas };

typedef struct mode {
  const char *name;
  moerun__capacity_level level;
  moerun__capacity_expansion expansion;
} mode;

static const mode modes[] = {
    {"drop", MOERUN_LEVEL_EXPERT, MOERUN_EXPANSION_OFF},
    {"paper", MOERUN_LEVEL_EXPERT, MOERUN_EXPANSION_PAPER},
    {"fill", MOERUN_LEVEL_EXPERT, MOERUN_EXPANSION_FILL},
    {"device", MOERUN_LEVEL_DEVICE, MOERUN_EXPANSION_OFF},
};

typedef struct sweep {
  bench_prompts prompts;
  moerun_session *plain;
  moerun_session *lossy;
  float *logits;   /* [rows][V] without a capacity */
  float *found;    /* [rows][V] with it */
  double *seconds; /* [2][repetitions] */
} sweep;

/* ---- Quality -------------------------------------------------------------------- */

/* Sums over rows; parts of 2^32, so that ranks can add them up. */
typedef struct quality {
  int64_t rows; /* that have a next token */
  int64_t surprise;
  int64_t divergence;
  int64_t agree;
} quality;

static const double unit = 4294967296.0;

static double log_sum(const float *logits, int32_t V) {
  double most = logits[0];
  double sum = 0;
  for (int32_t v = 1; v < V; v++) {
    if (logits[v] > most) most = logits[v];
  }
  for (int32_t v = 0; v < V; v++) {
    sum += exp(logits[v] - most);
  }
  return most + log(sum);
}

static int32_t best_of(const float *logits, int32_t V) {
  int32_t best = 0;
  for (int32_t v = 1; v < V; v++) {
    if (logits[v] > logits[best]) best = v;
  }
  return best;
}

/* One row: KL of `found` from `exact`, surprise at the next token in it. */
static void judge_row(quality *q, const float *exact, const float *found,
                      int32_t V, int32_t next) {
  const double of_exact = log_sum(exact, V);
  const double of_found = log_sum(found, V);
  double divergence = 0;
  for (int32_t v = 0; v < V; v++) {
    const double log_p = exact[v] - of_exact;
    divergence += exp(log_p) * (log_p - (found[v] - of_found));
  }
  q->rows++;
  q->surprise += (int64_t)(unit * (of_found - found[next]));
  q->divergence += (int64_t)(unit * divergence);
  q->agree += best_of(exact, V) == best_of(found, V);
}

static moerun_status judge(quality *q, const sweep *s, const float *found) {
  moerun_status status = MOERUN_OK;
  const bench_prompts *p = &s->prompts;
  const int32_t V = p->model->config.vocab_size;
  *q = (quality){0};
  for (int32_t row = 0; row < BENCH_PROMPTS * p->length; row++) {
    if ((row + 1) % p->length == 0) continue;
    const size_t at = (size_t)row * (size_t)V;
    judge_row(q, s->logits + at, found + at, V, p->token[row + 1]);
  }
  MOERUN_TRY(bench_sum(&q->rows, p->comm));
  MOERUN_TRY(bench_sum(&q->surprise, p->comm));
  MOERUN_TRY(bench_sum(&q->divergence, p->comm));
  MOERUN_TRY(bench_sum(&q->agree, p->comm));
done:
  return status;
}

static double mean_of(int64_t sum, const quality *q) {
  return (double)sum / unit / (double)q->rows;
}

/* ---- Loads ------------------------------------------------------------------------ */

/* Rows of the busiest expert and of the busiest rank, summed over layers, and
 * of all: since the session was made. */
typedef struct loads {
  int64_t expert;
  int64_t rank;
  int64_t all;
} loads;

static moerun_status busiest(int64_t *rows, moerun_comm *comm) {
  *rows = -*rows;
  const moerun_status status = comm->ops->minimum(comm, rows);
  *rows = -*rows;
  return status;
}

static moerun_status count_loads(loads *out, const sweep *s,
                                 const moerun_session *session) {
  moerun_status status = MOERUN_OK;
  const moerun__model_config *config = &s->prompts.model->config;
  const int32_t E = config->num_experts;
  *out = (loads){0};
  for (int32_t l = 0; l < config->num_moe_layers; l++) {
    const int64_t *rows = session->stats.expert_rows + (size_t)l * (size_t)E;
    int64_t most = 0;
    int64_t sum = 0;
    for (int32_t e = 0; e < E; e++) {
      sum += rows[e];
      if (rows[e] > most) most = rows[e];
    }
    out->all += sum;
    MOERUN_TRY(busiest(&most, s->prompts.comm));
    MOERUN_TRY(busiest(&sum, s->prompts.comm));
    out->expert += most;
    out->rank += sum;
  }
  MOERUN_TRY(bench_sum(&out->all, s->prompts.comm));
done:
  return status;
}

/* ---- Settings ----------------------------------------------------------------------- */

static const char *const names[] = {
    "gamma",  "drop_%",     "mass_%",  "added_%", "ppl_x",
    "KL",     "top1_%",     "time_x",  "least_x", "expert_x",
    "rank_x", "expert_max", "rank_max"};
enum { NAMES = sizeof names / sizeof *names };

static double percent(double part, double whole) {
  return whole > 0 ? 100 * part / whole : 0;
}

/* Masses in parts of 2^20, added up over the ranks. */
static moerun_status sum_counts(moerun__capacity_counts *counts,
                                moerun_comm *comm) {
  moerun_status status = MOERUN_OK;
  int64_t mass = (int64_t)(counts->mass * 1048576);
  int64_t dropped = (int64_t)(counts->mass_dropped * 1048576);
  MOERUN_TRY(bench_sum(&counts->candidates, comm));
  MOERUN_TRY(bench_sum(&counts->dropped, comm));
  MOERUN_TRY(bench_sum(&counts->added, comm));
  MOERUN_TRY(bench_sum(&mass, comm));
  MOERUN_TRY(bench_sum(&dropped, comm));
  counts->mass = (double)mass;
  counts->mass_dropped = (double)dropped;
done:
  return status;
}

static moerun_status repeat(sweep *s, int64_t n) {
  moerun_status status = MOERUN_OK;
  bench_prompts *p = &s->prompts;
  for (int64_t i = 0; i < n; i++) {
    for (int turn = 0; turn < 2; turn++) {
      const int lossy = (i & 1) != 0 ? turn : 1 - turn;
      MOERUN_TRY(bench_prompts_time(&s->seconds[lossy * n + i], p,
                                    lossy ? s->lossy : s->plain, p->length,
                                    lossy ? s->found : s->logits));
    }
  }
done:
  return status;
}

static moerun_status run_setting(bench *b, sweep *s, const mode *m,
                                 int32_t gamma, const loads *even) {
  moerun_status status = MOERUN_OK;
  const int64_t n = b->options.repetitions;
  const moerun__model_config *config = &s->prompts.model->config;
  const moerun__gate_options options = {
      .capacity = {
          .gamma = gamma, .level = m->level, .expansion = m->expansion}};
  double first = 0;
  quality exact;
  quality found;
  loads after;
  MOERUN_TRY(bench_prompts_session(&s->lossy, &s->prompts, MOERUN_BALANCE_OFF,
                                   &options));
  MOERUN_TRY(bench_prompts_time(&first, &s->prompts, s->lossy,
                                s->prompts.length, s->found));
  moerun__capacity_counts counts = s->lossy->moe.gate.counts.capacity;
  MOERUN_TRY(sum_counts(&counts, b->comm));
  MOERUN_TRY(count_loads(&after, s, s->lossy));
  MOERUN_TRY(repeat(s, n));
  MOERUN_TRY(judge(&exact, s, s->logits));
  MOERUN_TRY(judge(&found, s, s->found));
  const double candidates = (double)counts.candidates;
  const double time[2] = {bench_quantile(s->seconds, n, 0.5),
                          bench_quantile(s->seconds + n, n, 0.5)};
  const double values[NAMES] = {
      1e-3 * gamma,
      percent((double)counts.dropped, candidates),
      percent(counts.mass_dropped, counts.mass),
      percent((double)counts.added, candidates),
      exp(mean_of(found.surprise, &found) - mean_of(exact.surprise, &exact)),
      mean_of(found.divergence, &found),
      percent((double)found.agree, (double)found.rows),
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

/* ---- gamma ------------------------------------------------------------------------------ */

static moerun_status create(sweep *s, bench *b) {
  moerun_status status = MOERUN_OK;
  bench_prompts *p = &s->prompts;
  MOERUN_TRY(bench_prompts_create(p, b));
  MOERUN_TRY(bench_prompts_session(&s->plain, p, MOERUN_BALANCE_OFF, NULL));
  const size_t parts = p->text.count / (BENCH_PROMPTS * (size_t)b->comm->size);
  const size_t longest = (size_t)p->longest;
  bench_prompts_write(p, (int32_t)(parts < longest ? parts : longest), -1);
  const size_t rows = BENCH_PROMPTS * (size_t)p->length;
  const size_t V = (size_t)p->model->config.vocab_size;
  MOERUN_TRY(moerun__alloc(&s->logits, rows * V, sizeof *s->logits));
  MOERUN_TRY(moerun__alloc(&s->found, rows * V, sizeof *s->found));
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
  double seconds = 0;
  quality exact;
  loads even;
  sweep s;
  memset(&s, 0, sizeof s);
  MOERUN_TRY(create(&s, b));
  MOERUN_TRY(bench_prompts_time(&seconds, &s.prompts, s.plain, s.prompts.length,
                                s.logits));
  MOERUN_TRY(count_loads(&even, &s, s.plain));
  MOERUN_TRY(judge(&exact, &s, s.logits));
  MOERUN_TRY(bench_list_begin(b, "gamma"));
  if (b->comm->rank == 0) {
    (void)printf("# %d prompts of %d tokens a rank; without a capacity: "
                 "perplexity %.4f, rows of the busiest expert over the mean "
                 "%.2f, of the busiest rank %.2f\n",
                 BENCH_PROMPTS, s.prompts.length,
                 exp(mean_of(exact.surprise, &exact)),
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
