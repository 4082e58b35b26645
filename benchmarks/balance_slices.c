/* slices: steps of few rows, even routing: experts whole where they live, in
 * slices on all ranks, and whatever the plan takes for the sooner, turn by
 * turn. Every repetition has rows of its own, because which experts meet on a
 * rank is what this is about. */
#include "benchmarks/balance.h"

#include "runtime/base/memory.h"

#include <string.h>

enum { PLAIN, AUTO, SLICED, WAYS, WARM_UP = 3 };

typedef struct slices {
  bench_layer layer;
  moerun_session *session[WAYS];
  double *seconds; /* [WAYS][repetitions] */
} slices;

static const char *const names[] = {"rows",      "plain_ms", "auto_ms",
                                    "sliced_ms", "auto_x",   "sliced_x",
                                    "ratio",     "taken",    "read_x"};
enum { NAMES = sizeof names / sizeof *names };

/* Experts that the busiest rank reads whole, and a rank's part of all. */
typedef struct reads {
  int64_t busiest;
  double even;
} reads;

/* Of the step that has just been counted everywhere. */
static void count_reads(reads *sum, const moerun_session *session) {
  const moerun__moe *moe = &session->moe;
  const moerun_placement *placement = moe->model->placement;
  const int32_t R = placement->num_ranks;
  int64_t most = 0;
  int64_t all = 0;
  for (int32_t r = 0; r < R; r++) {
    int64_t count = 0;
    for (int32_t h = 0; h < placement->num_experts; h++) {
      count +=
          placement->rank_of[h] == r && moe->balance.plan.replica_rows[h] > 0;
    }
    if (count > most) most = count;
    all += count;
  }
  sum->busiest += most;
  sum->even += (double)all / R;
}

static int64_t layers_sliced(const moerun_session *session) {
  return session->moe.balance.ledger.layers[0].way[1].plans;
}

/* `rows` of all ranks together, the first of them on rank 0. */
static moerun_status run_size(bench *b, slices *s, int32_t rows) {
  moerun_status status = MOERUN_OK;
  const int64_t n = b->options.repetitions;
  const int32_t R = s->layer.comm->size;
  const int32_t rank = s->layer.comm->rank;
  const int32_t own = rows / R + (rank < rows % R);
  const size_t H = (size_t)b->options.hidden_width;
  const int64_t taken = layers_sliced(s->session[AUTO]);
  reads sum = {0};
  char label[32];
  double ms[WAYS];
  for (int64_t i = -WARM_UP; i < n; i++) {
    bench_layer part = s->layer;
    const int32_t first = (int32_t)((i + WARM_UP) * own % (part.tokens - own));
    part.x += (size_t)first * H;
    part.wanted += first;
    for (int turn = 0; turn < WAYS; turn++) {
      const int way = (int)((i + WARM_UP + turn) % WAYS);
      double time = 0;
      MOERUN_TRY(bench_layer_time(&time, &part, s->session[way], own));
      if (i >= 0) s->seconds[way * n + i] = time;
    }
    count_reads(&sum, s->session[SLICED]);
  }
  for (int way = 0; way < WAYS; way++) {
    ms[way] = 1e3 * bench_quantile(s->seconds + way * n, n, 0.5);
  }
  const double least = ms[PLAIN] < ms[SLICED] ? ms[PLAIN] : ms[SLICED];
  const int64_t steps = n + WARM_UP;
  const double values[NAMES] = {
      rows,
      ms[PLAIN],
      ms[AUTO],
      ms[SLICED],
      ms[PLAIN] / ms[AUTO],
      ms[PLAIN] / ms[SLICED],
      ms[AUTO] / least,
      (double)(layers_sliced(s->session[AUTO]) - taken) / (double)steps,
      (double)sum.busiest / sum.even};
  (void)snprintf(label, sizeof label, "%d", rows);
  MOERUN_TRY(bench_line(b, label, names, values, NAMES));
done:
  return status;
}

static moerun_status create(slices *s, bench *b) {
  moerun_status status = MOERUN_OK;
  static const moerun_balance balance[WAYS] = {
      MOERUN_BALANCE_OFF, MOERUN_BALANCE_AUTO, MOERUN_BALANCE_SLICED};
  static const bench_routing even = {0};
  memset(s, 0, sizeof *s);
  MOERUN_TRY(bench_layer_create(&s->layer, b, (int32_t)b->options.experts));
  for (int way = 0; way < WAYS; way++) {
    MOERUN_TRY(bench_layer_session(&s->session[way], b, &s->layer, balance[way],
                                   way == PLAIN ? 0 : -1, NULL));
  }
  MOERUN_TRY(moerun__alloc(&s->seconds, WAYS * (size_t)b->options.repetitions,
                           sizeof *s->seconds));
  bench_layer_steer(&s->layer, &even);
done:
  return status;
}

static void destroy(slices *s) {
  moerun__free(s->seconds);
  for (int way = 0; way < WAYS; way++) {
    moerun_session_destroy(s->session[way]);
  }
  bench_layer_destroy(&s->layer);
}

moerun_status bench_slices(bench *b) {
  moerun_status status = MOERUN_OK;
  static const int32_t sizes[] = {1, 2, 3, 4, 8, 16, 64, 256};
  slices s;
  MOERUN_TRY(create(&s, b));
  MOERUN_TRY(bench_list_begin(b, "slices"));
  bench_heading(b, names, NAMES);
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    if (sizes[i] > b->options.tokens / 2) continue;
    MOERUN_TRY(run_size(b, &s, sizes[i]));
  }
  MOERUN_TRY(bench_list_end(b));
done:
  destroy(&s);
  return status;
}
