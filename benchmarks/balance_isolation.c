/* isolation: what it costs that no request changes another's output. Without a
 * capacity nothing has to be done for it, since arithmetic never depends on
 * other rows; that is measured all the same, with sessions made as each setting
 * makes them. With a capacity each request and window has one of its own.
 * Prefill of the same prompts, all settings turn by turn. */
#include "benchmarks/balance.h"

#include "runtime/base/memory.h"

#include <string.h>

enum { OFF, ROUTE, BITWISE, WINDOW = 128, MOST_WAYS = 4, WARM_UP = 1 };

static const int32_t gammas[] = {0, 2000, 1500, 1000};

/* What `--isolation` and `--capacity-level` stand for. */
typedef struct way {
  const char *name;
  int isolation;
  moerun__capacity_level level;
} way;

static const way ways[MOST_WAYS] = {
    {"off", OFF, MOERUN_LEVEL_EXPERT},
    {"route", ROUTE, MOERUN_LEVEL_EXPERT},
    {"bitwise", BITWISE, MOERUN_LEVEL_EXPERT},
    {"off_rank", OFF, MOERUN_LEVEL_RANK},
};

typedef struct comparison {
  bench_prompts prompts;
  moerun_session *plain;
  moerun_session *session[MOST_WAYS];
  bench_quality quality[MOST_WAYS];
  bench_lossy lossy[MOST_WAYS];
  float *logits;   /* [batches][rows][V] without a capacity */
  float *found;    /* [rows][V] */
  double *seconds; /* [MOST_WAYS][repetitions] */
} comparison;

static moerun__gate_options options_of(const way *w, int32_t gamma) {
  if (gamma == 0) return (moerun__gate_options){0};
  return (moerun__gate_options){
      .capacity = {.gamma = gamma,
                   .scope = w->isolation == OFF ? MOERUN_SCOPE_SOURCE
                                                : MOERUN_SCOPE_REQUEST,
                   .level = w->level,
                   .metric = MOERUN_METRIC_WEIGHT,
                   .window = WINDOW}};
}

static moerun_status take_turns(comparison *c, int count, int64_t n) {
  moerun_status status = MOERUN_OK;
  bench_prompts *p = &c->prompts;
  for (int64_t i = -WARM_UP; i < n; i++) {
    bench_prompts_write_batch(p, (int32_t)((i + WARM_UP) % p->batches));
    for (int turn = 0; turn < count; turn++) {
      const int at = (int)((turn + i + WARM_UP) % count);
      double seconds = 0;
      MOERUN_TRY(bench_prompts_time(&seconds, p, c->session[at], 1, c->found));
      if (i >= 0) c->seconds[(int64_t)at * n + i] = seconds;
    }
  }
done:
  return status;
}

static const char *const names[] = {
    "gamma",  "tokens_s", "time_x", "least_x",    "rows_x",  "drop_%",
    "mass_%", "ppl_x",    "KL",     "expert_max", "rank_max"};
enum { NAMES = sizeof names / sizeof *names };

static moerun_status print_ways(bench *b, comparison *c, int32_t gamma,
                                int count) {
  moerun_status status = MOERUN_OK;
  const int64_t n = b->options.repetitions;
  const bench_prompts *p = &c->prompts;
  const double tokens = (double)BENCH_PROMPTS * p->length * b->comm->size;
  const double E = p->model->config.num_experts;
  double median[MOST_WAYS];
  for (int w = 0; w < count; w++) {
    median[w] = bench_quantile(c->seconds + w * n, n, 0.5);
  }
  for (int w = 0; w < count; w++) {
    const bench_lossy *lossy = &c->lossy[w];
    const double values[NAMES] = {
        1e-3 * gamma,
        tokens / median[w],
        median[w] / median[0],
        c->seconds[w * n] / c->seconds[0], /* sorted by now */
        (double)lossy->all / (double)c->lossy[0].all,
        bench_percent(lossy->dropped, lossy->candidates),
        bench_percent(lossy->mass_dropped, lossy->mass),
        c->quality[w].perplexity_x,
        c->quality[w].kl,
        (double)lossy->expert * E / (double)lossy->all,
        (double)lossy->rank * b->comm->size / (double)lossy->all};
    MOERUN_TRY(bench_line(b, ways[w].name, names, values, NAMES));
  }
done:
  return status;
}

static void close_sessions(comparison *c) {
  for (int w = 0; w < MOST_WAYS; w++) {
    moerun_session_destroy(c->session[w]);
    c->session[w] = NULL;
  }
}

static moerun_status compare(bench *b, comparison *c, int32_t gamma) {
  moerun_status status = MOERUN_OK;
  const int count = gamma == 0 ? MOST_WAYS - 1 : MOST_WAYS; /* no level */
  for (int w = 0; w < count; w++) {
    const moerun__gate_options options = options_of(&ways[w], gamma);
    MOERUN_TRY(bench_prompts_session(&c->session[w], &c->prompts,
                                     MOERUN_BALANCE_OFF, &options));
    MOERUN_TRY(bench_read_text(&c->quality[w], &c->lossy[w], &c->prompts,
                               c->session[w], c->logits, c->found));
  }
  MOERUN_TRY(take_turns(c, count, b->options.repetitions));
  MOERUN_TRY(print_ways(b, c, gamma, count));
done:
  close_sessions(c);
  return status;
}

static moerun_status create(comparison *c, bench *b) {
  moerun_status status = MOERUN_OK;
  bench_prompts *p = &c->prompts;
  MOERUN_TRY(bench_prompts_create(p, b));
  bench_prompts_deal(p, (int32_t)b->options.batches);
  const size_t logits = bench_prompts_logits(p);
  MOERUN_TRY(moerun__alloc(&c->logits, (size_t)p->batches * logits,
                           sizeof *c->logits));
  MOERUN_TRY(moerun__alloc(&c->found, logits, sizeof *c->found));
  MOERUN_TRY(moerun__alloc(&c->seconds,
                           MOST_WAYS * (size_t)b->options.repetitions,
                           sizeof *c->seconds));
  MOERUN_TRY(bench_prompts_session(&c->plain, p, MOERUN_BALANCE_OFF, NULL));
  MOERUN_TRY(bench_read_text(&c->quality[0], &c->lossy[0], p, c->plain,
                             c->logits, NULL));
done:
  return status;
}

static void destroy(comparison *c) {
  moerun__free(c->logits);
  moerun__free(c->found);
  moerun__free(c->seconds);
  moerun_session_destroy(c->plain);
  close_sessions(c);
  bench_prompts_destroy(&c->prompts);
}

moerun_status bench_isolation(bench *b) {
  moerun_status status = MOERUN_OK;
  comparison c;
  memset(&c, 0, sizeof c);
  MOERUN_TRY(create(&c, b));
  MOERUN_TRY(bench_list_begin(b, "isolation"));
  if (b->comm->rank == 0) {
    (void)printf("# %d batches of %d prompts of %d tokens a rank, windows of "
                 "%d; x: over off\n",
                 c.prompts.batches, BENCH_PROMPTS, c.prompts.length, WINDOW);
  }
  bench_heading(b, names, NAMES);
  for (size_t g = 0; g < sizeof gammas / sizeof *gammas; g++) {
    MOERUN_TRY(compare(b, &c, gammas[g]));
  }
  MOERUN_TRY(bench_list_end(b));
done:
  destroy(&c);
  return status;
}
