/* slow: the last of the ranks computes every product several times, by the
 * clock, so that nobody is told of it. Three sessions take turns step by step:
 * without balancing; with it; and the oracle, which balances by speeds that are
 * right in every step because they are written where the estimate would be.
 * The routing is even and the same in all steps. What the oracle loses against
 * ranks that all end at once is the plan's doing, what auto loses against the
 * oracle is the estimate's. */
#include "benchmarks/balance.h"

#include "runtime/base/memory.h"

#include <math.h>
#include <string.h>

enum {
  PLAIN,
  AUTO,
  ORACLE,
  WAYS,
  EXPERTS = 16, /* a rank then has few experts with many rows each */
  FROM = 10,    /* first slow step; the first readings are over */
  SETTLED = 4,  /* steps in which slowness may be found */
};

typedef struct slowness {
  const char *name;
  int32_t compute;
  int32_t flap;
} slowness;

static const slowness scenarios[] = {
    {"none", 1, 0}, {"2x", 2, 0},       {"4x", 4, 0},
    {"8x", 8, 0},   {"4x,flap", 4, 10},
};

typedef struct slow {
  bench_layer layer;
  moerun__faults faults;
  moerun_session *session[WAYS];
  double *seconds; /* [WAYS][steps] */
  double *sorted;  /* [steps] */
} slow;

/* ---- Series -------------------------------------------------------------------- */

/* Speeds of this step, and nothing that an estimate could be made of. */
static void tell_oracle(slow *s, int64_t step) {
  const int32_t rank = s->layer.comm->rank;
  const int32_t compute = moerun__faults_at(&s->faults, rank, step).compute;
  const double logarithm = -log2((double)compute) * MOERUN_SPEED_OCTAVE;
  s->session[ORACLE]->moe.speed =
      (moerun__speed){.last = 1, .applied = (int32_t)lround(logarithm)};
}

static moerun_status run_series(bench *b, slow *s) {
  moerun_status status = MOERUN_OK;
  const int64_t n = b->options.steps;
  for (int64_t i = 0; i < n; i++) {
    for (int turn = 0; turn < WAYS; turn++) {
      const int way = (int)((i + turn) % WAYS);
      tell_oracle(s, i);
      MOERUN_TRY(bench_layer_time(&s->seconds[way * n + i], &s->layer,
                                  s->session[way], s->layer.tokens));
    }
  }
done:
  return status;
}

static moerun_status write_series(bench *b, const slow *s, const char *name) {
  moerun_status status = MOERUN_OK;
  const int64_t n = b->options.steps;
  if (b->comm->rank != 0) goto done;
  MOERUN_TRY(moerun__text_print(&b->series,
                                "%s# %s\n# step plain_ms auto_ms oracle_ms\n",
                                b->series.count > 0 ? "\n\n" : "", name));
  for (int64_t i = 0; i < n; i++) {
    MOERUN_TRY(moerun__text_print(
        &b->series, "%lld %.3f %.3f %.3f\n", (long long)i, 1e3 * s->seconds[i],
        1e3 * s->seconds[n + i], 1e3 * s->seconds[2 * n + i]));
  }
done:
  return status;
}

/* ---- Scenarios -------------------------------------------------------------------- */

static const char *const slow_names[] = {
    "plain_ms",  "auto_ms",  "oracle_ms", "mean",    "p99",  "plain_x",
    "peak_auto", "peak_orc", "changes",   "experts", "least"};
enum { SLOW_NAMES = sizeof slow_names / sizeof *slow_names };

/* Time of the rank that would end last over that of ranks which all end at
 * once, mean over the settled steps: by the plan's own account. */
static double planned_over_best(const moerun_session *session, int64_t steps) {
  int64_t sum = 0;
  int64_t count = 0;
  for (int64_t i = FROM + SETTLED; i < steps; i++) {
    const moerun__ledger_entry *step = &session->moe.ledger.steps[i];
    sum += step->time_planned;
    count += step->plans;
  }
  return 1e-3 * (double)sum / (double)count;
}

static moerun_status report(bench *b, slow *s, const slowness *scenario) {
  moerun_status status = MOERUN_OK;
  const int64_t n = b->options.steps;
  const int64_t first = FROM + SETTLED;
  double mean[WAYS];
  double p99[WAYS];
  double least[WAYS];
  int64_t changes = s->session[AUTO]->moe.speed.changes;
  int64_t experts = s->session[AUTO]->stats.weights_out;
  MOERUN_TRY(write_series(b, s, scenario->name));
  MOERUN_TRY(bench_sum(&changes, s->layer.comm));
  MOERUN_TRY(bench_sum(&experts, s->layer.comm));
  for (int way = 0; way < WAYS; way++) {
    memcpy(s->sorted, s->seconds + way * n + first,
           (size_t)(n - first) * sizeof *s->sorted);
    mean[way] = bench_mean(s->sorted, n - first);
    p99[way] = bench_quantile(s->sorted, n - first, 0.99);
    least[way] = bench_quantile(s->sorted, n - first, 0.1);
  }
  const double values[SLOW_NAMES] = {1e3 * mean[PLAIN],
                                     1e3 * mean[AUTO],
                                     1e3 * mean[ORACLE],
                                     mean[AUTO] / mean[ORACLE],
                                     p99[AUTO] / p99[ORACLE],
                                     mean[PLAIN] / mean[AUTO],
                                     planned_over_best(s->session[AUTO], n),
                                     planned_over_best(s->session[ORACLE], n),
                                     (double)changes,
                                     (double)experts,
                                     least[AUTO] / least[ORACLE]};
  MOERUN_TRY(bench_line(b, scenario->name, slow_names, values, SLOW_NAMES));
done:
  return status;
}

static moerun_status run_scenario(bench *b, slow *s, const slowness *scenario) {
  moerun_status status = MOERUN_OK;
  static const moerun_balance balance[WAYS] = {
      MOERUN_BALANCE_OFF, MOERUN_BALANCE_AUTO, MOERUN_BALANCE_AUTO};
  char fault[128];
  (void)snprintf(fault, sizeof fault, "rank=%d,compute=%dx,from=%d,flap=%d",
                 s->layer.comm->size - 1, scenario->compute, FROM,
                 scenario->flap);
  MOERUN_TRY(moerun__faults_parse(&s->faults, fault));
  for (int way = 0; way < WAYS; way++) {
    MOERUN_TRY(bench_layer_session(&s->session[way], b, &s->layer, balance[way],
                                   0, &s->faults));
  }
  MOERUN_TRY(run_series(b, s));
  MOERUN_TRY(report(b, s, scenario));
done:
  for (int way = 0; way < WAYS; way++) {
    moerun_session_destroy(s->session[way]);
    s->session[way] = NULL;
  }
  return status;
}

moerun_status bench_slow(bench *b) {
  moerun_status status = MOERUN_OK;
  static const bench_routing even = {0};
  const size_t n = (size_t)b->options.steps;
  slow s;
  memset(&s, 0, sizeof s);
  MOERUN_TRY(bench_layer_create(&s.layer, b, EXPERTS));
  MOERUN_TRY(moerun__alloc(&s.seconds, WAYS * n, sizeof *s.seconds));
  MOERUN_TRY(moerun__alloc(&s.sorted, n, sizeof *s.sorted));
  bench_layer_steer(&s.layer, &even);
  MOERUN_TRY(bench_list_begin(b, "slow"));
  bench_heading(b, slow_names, SLOW_NAMES);
  for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++) {
    MOERUN_TRY(run_scenario(b, &s, &scenarios[i]));
  }
  MOERUN_TRY(bench_list_end(b));
done:
  moerun__free(s.seconds);
  moerun__free(s.sorted);
  bench_layer_destroy(&s.layer);
  return status;
}
