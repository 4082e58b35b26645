/* slow: the last of the ranks computes every product several times, by the
 * clock, so that nobody is told of it. Two sessions take turns step by step,
 * without balancing and with it; the routing is even and the same in all steps.
 *
 * Balancing is judged by the true optimum: all ranks end at once. It follows
 * from the times without balancing alone. Of a step of t0 seconds before the
 * slowness and t1 with it, (t1 - t0) / (factor - 1) are experts; these are
 * shared by speed, the rest stays. How plans are made has no part in it. */
#include "benchmarks/balance.h"

#include "runtime/base/memory.h"
#include "support/slow_ranks.h"

#include <string.h>

enum {
  PLAIN,
  AUTO,
  WAYS,
  FROM = 10,   /* first slow step */
  WARM = 2,    /* steps before that which are not timed */
  SETTLED = 4, /* steps in which slowness may be found */
};

static const int32_t expert_counts[] = {16, 64};

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

/* ---- Series -------------------------------------------------------------- */

static moerun_status run_series(bench *b, slow *s) {
  moerun_status status = MOERUN_OK;
  const int64_t n = b->options.steps;
  for (int64_t i = 0; i < n; i++) {
    for (int turn = 0; turn < WAYS; turn++) {
      const int way = (int)((i + turn) % WAYS);
      MOERUN_TRY(bench_layer_time(&s->seconds[way * n + i], &s->layer,
                                  s->session[way], s->layer.tokens));
    }
  }
done:
  return status;
}

/* ---- The optimum --------------------------------------------------------- */

static int is_slow(const slow *s, int64_t step) {
  return moerun__faults_at(&s->faults, s->layer.comm->size - 1, step).compute >
         1;
}

/* Of the plain steps from `first` on in which the last rank is slow or not. */
static double median_plain(const slow *s, int64_t first, int64_t end,
                           int slow_ones) {
  int64_t count = 0;
  for (int64_t i = first; i < end; i++) {
    if (is_slow(s, i) == slow_ones) s->sorted[count++] = s->seconds[i];
  }
  return count > 0 ? bench_quantile(s->sorted, count, 0.5) : 0;
}

/* best[0]: of a step in which no rank is slow; best[1]: the last one is. */
static void find_optimum(double best[2], const slow *s, int64_t steps,
                         int32_t factor) {
  double slow_by[SLOW_MAX_RANKS];
  const int32_t R = s->layer.comm->size;
  best[0] = factor > 1 ? median_plain(s, WARM, FROM, 0)
                       : median_plain(s, FROM + SETTLED, steps, 0);
  best[1] = best[0];
  if (factor <= 1) return;
  const double plain = median_plain(s, FROM + SETTLED, steps, 1);
  const double experts = (plain - best[0]) / (factor - 1);
  for (int32_t r = 0; r < R; r++) {
    slow_by[r] = r == R - 1 ? factor : 1;
  }
  best[1] += slow_optimum(experts * R, slow_by, R) - experts;
}

/* ---- Scenarios ----------------------------------------------------------- */

static moerun_status write_series(bench *b, const slow *s, const char *name,
                                  const double best[2]) {
  moerun_status status = MOERUN_OK;
  const int64_t n = b->options.steps;
  if (b->comm->rank != 0) goto done;
  MOERUN_TRY(moerun__text_print(
      &b->series, "%s# %s, %d experts\n# step plain_ms auto_ms best_ms\n",
      b->series.count > 0 ? "\n\n" : "", name,
      s->layer.model->config.num_experts));
  for (int64_t i = 0; i < n; i++) {
    MOERUN_TRY(moerun__text_print(
        &b->series, "%lld %.3f %.3f %.3f\n", (long long)i, 1e3 * s->seconds[i],
        1e3 * s->seconds[n + i], 1e3 * best[is_slow(s, i)]));
  }
done:
  return status;
}

static const char *const slow_names[] = {
    "experts", "plain_ms", "auto_ms", "best_ms", "mean", "p99",
    "least",   "plain_x",  "best_x",  "changes", "sent"};
enum { SLOW_NAMES = sizeof slow_names / sizeof *slow_names };

static moerun_status report(bench *b, slow *s, const slowness *scenario) {
  moerun_status status = MOERUN_OK;
  const int64_t n = b->options.steps;
  const int64_t first = FROM + SETTLED;
  double best[2];
  double best_sum = 0;
  int64_t changes = s->session[AUTO]->moe.balance.speed.changes;
  int64_t sent = s->session[AUTO]->stats.weights_out;
  find_optimum(best, s, n, scenario->compute);
  MOERUN_TRY(write_series(b, s, scenario->name, best));
  MOERUN_TRY(bench_sum(&changes, s->layer.comm));
  MOERUN_TRY(bench_sum(&sent, s->layer.comm));
  const double *plain = s->seconds + PLAIN * n;
  const double *balanced = s->seconds + AUTO * n;
  for (int64_t i = first; i < n; i++) {
    best_sum += best[is_slow(s, i)];
    s->sorted[i - first] = balanced[i] / best[is_slow(s, i)];
  }
  const double plain_mean = bench_mean(plain + first, n - first);
  const double mean = bench_mean(balanced + first, n - first);
  const double best_mean = best_sum / (double)(n - first);
  const double values[SLOW_NAMES] = {s->layer.model->config.num_experts,
                                     1e3 * plain_mean,
                                     1e3 * mean,
                                     1e3 * best_mean,
                                     mean / best_mean,
                                     bench_quantile(s->sorted, n - first, 0.99),
                                     bench_quantile(s->sorted, n - first, 0.1),
                                     plain_mean / mean,
                                     plain_mean / best_mean,
                                     (double)changes,
                                     (double)sent};
  MOERUN_TRY(bench_line(b, scenario->name, slow_names, values, SLOW_NAMES));
done:
  return status;
}

static moerun_status run_scenario(bench *b, slow *s, const slowness *scenario) {
  moerun_status status = MOERUN_OK;
  static const moerun_balance balance[WAYS] = {MOERUN_BALANCE_OFF,
                                               MOERUN_BALANCE_AUTO};
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

static moerun_status run_scenarios(bench *b, slow *s, int32_t experts) {
  moerun_status status = MOERUN_OK;
  static const bench_routing even = {0};
  MOERUN_TRY(bench_layer_create(&s->layer, b, experts));
  bench_layer_steer(&s->layer, &even);
  for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++) {
    MOERUN_TRY(run_scenario(b, s, &scenarios[i]));
  }
done:
  bench_layer_destroy(&s->layer);
  memset(&s->layer, 0, sizeof s->layer);
  return status;
}

moerun_status bench_slow(bench *b) {
  moerun_status status = MOERUN_OK;
  const size_t n = (size_t)b->options.steps;
  slow s;
  memset(&s, 0, sizeof s);
  MOERUN_REQUIRE(b->comm->size <= SLOW_MAX_RANKS, MOERUN_ERR_INVALID,
                 "slow: expected at most %d ranks, found %d", SLOW_MAX_RANKS,
                 b->comm->size);
  MOERUN_TRY(moerun__alloc(&s.seconds, WAYS * n, sizeof *s.seconds));
  MOERUN_TRY(moerun__alloc(&s.sorted, n, sizeof *s.sorted));
  MOERUN_TRY(bench_list_begin(b, "slow"));
  bench_heading(b, slow_names, SLOW_NAMES);
  for (size_t i = 0; i < sizeof expert_counts / sizeof *expert_counts; i++) {
    MOERUN_TRY(run_scenarios(b, &s, expert_counts[i]));
  }
  MOERUN_TRY(bench_list_end(b));
done:
  moerun__free(s.seconds);
  moerun__free(s.sorted);
  return status;
}
