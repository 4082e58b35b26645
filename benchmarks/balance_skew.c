/* skew and balanced: a layer with and without balancing, turn by turn.
 *
 * For skew there are two turns with balancing: `sent` starts without guests, so
 * that weights travel with the step; `held` repeats the step, so that they are
 * there. Between them and the turn without balancing stand two more that say
 * what these cores can do at all: an expert's rows on rank 0 alone, and the
 * same on all ranks at once. Two cores that share a memory bus or a socket's
 * power take longer together, and no plan can win that back: `cores` is how
 * many cores' worth of work is done at once. */
#include "benchmarks/balance.h"

#include "runtime/base/memory.h"
#include "runtime/base/timer.h"

#include <string.h>

enum { PLAIN, SENT, HELD, ALONE, TOGETHER, TURNS, WARM_UP = 2 };

typedef struct skew {
  bench_layer layer;
  moerun_session *plain;
  moerun_session *balanced;
  double *seconds; /* [TURNS][repetitions] */
} skew;

/* ---- What the cores can do ----------------------------------------------- */

/* An even share of the rows through one expert, on this rank. */
static void compute(skew *s) {
  moerun__moe *moe = &s->plain->moe;
  const moerun__layer *layer = &s->layer.model->layers[0];
  const int32_t H = s->layer.model->config.hidden_width;
  for (int32_t i = 0; i < s->layer.tokens; i += MOERUN_FFN_TILE) {
    const int32_t left = s->layer.tokens - i;
    const int32_t M = left < MOERUN_FFN_TILE ? left : MOERUN_FFN_TILE;
    const int32_t offset[] = {0, M};
    moerun__ffn ffn = moerun__moe_ffn(moe, &layer->experts[0], 1, offset);
    ffn.x = s->layer.x + (size_t)i * (size_t)H;
    moe->kernels->ffn(moe->queue, &ffn);
  }
}

static moerun_status time_cores(double *seconds, skew *s, int alone) {
  moerun_status status = MOERUN_OK;
  moerun_comm *comm = s->layer.comm;
  MOERUN_TRY(bench_together(comm));
  *seconds = -moerun__now();
  if (comm->rank == 0 || !alone) compute(s);
  *seconds += moerun__now();
  MOERUN_TRY(bench_slowest(seconds, comm));
done:
  return status;
}

/* ---- skew ---------------------------------------------------------------- */

/* What one step with balancing moved, over all ranks. */
typedef struct moved {
  int64_t rows;
  int64_t experts;
  int64_t row_bytes; /* of dispatch and combine */
} moved;

static moved moved_so_far(const skew *s) {
  const moerun__stats *stats = &s->balanced->stats;
  return (moved){stats->rows_moved, stats->weights_out,
                 s->layer.comm->count.row_bytes};
}

static moerun_status since(moved *out, const skew *s, const moved *before) {
  moerun_status status = MOERUN_OK;
  const moved now = moved_so_far(s);
  *out = (moved){now.rows - before->rows, now.experts - before->experts,
                 now.row_bytes - before->row_bytes};
  MOERUN_TRY(bench_sum(&out->rows, s->layer.comm));
  MOERUN_TRY(bench_sum(&out->experts, s->layer.comm));
  MOERUN_TRY(bench_sum(&out->row_bytes, s->layer.comm));
done:
  return status;
}

static moerun_status repeat(moved *out, bench *b, skew *s) {
  moerun_status status = MOERUN_OK;
  const int64_t n = b->options.repetitions;
  double time[TURNS];
  for (int64_t i = -WARM_UP; i < n; i++) {
    MOERUN_TRY(
        bench_layer_time(&time[PLAIN], &s->layer, s->plain, s->layer.tokens));
    moerun__guest_table_clear(
        moerun__store_guest_table(&s->balanced->moe.store));
    const moved before = moved_so_far(s);
    MOERUN_TRY(
        bench_layer_time(&time[SENT], &s->layer, s->balanced, s->layer.tokens));
    MOERUN_TRY(since(out, s, &before));
    MOERUN_TRY(
        bench_layer_time(&time[HELD], &s->layer, s->balanced, s->layer.tokens));
    MOERUN_TRY(time_cores(&time[ALONE], s, 1));
    MOERUN_TRY(time_cores(&time[TOGETHER], s, 0));
    for (int turn = 0; turn < TURNS && i >= 0; turn++) {
      s->seconds[turn * n + i] = time[turn];
    }
  }
done:
  return status;
}

static const char *const skew_names[] = {
    "plain_ms", "sent_ms", "held_ms", "before",   "after",
    "sent_x",   "held_x",  "least_x", "of_ideal", "cores",
    "of_cores", "experts", "MB",      "rows",     "row_MB"};
enum { SKEW_NAMES = sizeof skew_names / sizeof *skew_names };

static moerun_status run_routing(bench *b, skew *s,
                                 const bench_routing *routing) {
  moerun_status status = MOERUN_OK;
  const int64_t n = b->options.repetitions;
  const int32_t R = s->layer.comm->size;
  char label[32] = "balanced";
  moved all = {0};
  double ms[TURNS];
  if (routing->hot > 0) {
    (void)snprintf(label, sizeof label, "%.0f%%:%d", 100 * routing->share,
                   routing->hot);
  }
  bench_layer_steer(&s->layer, routing);
  MOERUN_TRY(repeat(&all, b, s));
  for (int turn = 0; turn < TURNS; turn++) {
    ms[turn] = 1e3 * bench_quantile(s->seconds + turn * n, n, 0.5);
  }
  const double before = bench_peak(s->balanced, 0);
  const double cores = R * ms[ALONE] / ms[TOGETHER];
  const double speed_up = ms[PLAIN] / ms[HELD];
  const double values[SKEW_NAMES] = {
      ms[PLAIN],
      ms[SENT],
      ms[HELD],
      before,
      bench_peak(s->balanced, 1),
      ms[PLAIN] / ms[SENT],
      speed_up,
      s->seconds[PLAIN * n] / s->seconds[HELD * n], /* sorted by now */
      speed_up / before,
      cores,
      speed_up / (before * cores / R > 1 ? before * cores / R : 1),
      (double)all.experts,
      1e-6 * (double)all.experts *
          (double)moerun__store_expert_bytes(&s->balanced->moe.store, 0),
      (double)all.rows,
      1e-6 * (double)all.row_bytes};
  MOERUN_TRY(bench_line(b, label, skew_names, values, SKEW_NAMES));
done:
  return status;
}

static moerun_status create(skew *s, bench *b) {
  moerun_status status = MOERUN_OK;
  memset(s, 0, sizeof *s);
  MOERUN_TRY(bench_layer_create(&s->layer, b, (int32_t)b->options.experts));
  MOERUN_TRY(bench_layer_session(&s->plain, b, &s->layer, MOERUN_BALANCE_OFF, 0,
                                 NULL));
  MOERUN_TRY(bench_layer_session(&s->balanced, b, &s->layer,
                                 MOERUN_BALANCE_AUTO, 0, NULL));
  MOERUN_TRY(moerun__alloc(&s->seconds, TURNS * (size_t)b->options.repetitions,
                           sizeof *s->seconds));
done:
  return status;
}

static void destroy(skew *s) {
  moerun__free(s->seconds);
  moerun_session_destroy(s->plain);
  moerun_session_destroy(s->balanced);
  bench_layer_destroy(&s->layer);
}

moerun_status bench_skew(bench *b) {
  moerun_status status = MOERUN_OK;
  static const double share[] = {0.3, 0.5, 0.8, 0.95};
  static const int32_t hot[] = {1, 4, 16};
  static const bench_routing even = {0};
  skew s;
  MOERUN_TRY(create(&s, b));
  MOERUN_TRY(bench_list_begin(b, "skew"));
  bench_heading(b, skew_names, SKEW_NAMES);
  MOERUN_TRY(run_routing(b, &s, &even));
  for (size_t n = 0; n < sizeof hot / sizeof *hot; n++) {
    for (size_t p = 0; p < sizeof share / sizeof *share; p++) {
      const bench_routing routing = {share[p], hot[n]};
      if (hot[n] < b->options.experts) MOERUN_TRY(run_routing(b, &s, &routing));
    }
  }
  MOERUN_TRY(bench_list_end(b));
done:
  destroy(&s);
  return status;
}

/* ---- balanced ------------------------------------------------------------ */

static const char *const balanced_names[] = {
    "rows", "plain_ms", "auto_ms", "ratio", "min_ratio", "before", "moved"};
enum { BALANCED_NAMES = sizeof balanced_names / sizeof *balanced_names };

/* More of the short ones. */
static int64_t turns_of(const bench *b, int32_t tokens) {
  const int64_t times = b->options.tokens / tokens;
  return b->options.repetitions * (times < 4 ? 4 : times < 40 ? times : 40);
}

/* Both orders by turns, so that neither always comes second. */
static moerun_status run_size(bench *b, skew *s, int32_t tokens) {
  moerun_status status = MOERUN_OK;
  const int64_t n = turns_of(b, tokens);
  double *seconds = NULL;
  moerun_session *const session[] = {s->plain, s->balanced};
  char label[32];
  int64_t rows = -s->balanced->stats.rows_moved;
  MOERUN_TRY(moerun__alloc(&seconds, 2 * (size_t)n, sizeof *seconds));
  for (int64_t i = -WARM_UP; i < n; i++) {
    for (int turn = 0; turn < 2; turn++) {
      const int way = (i & 1) != 0 ? turn : 1 - turn;
      double time = 0;
      MOERUN_TRY(bench_layer_time(&time, &s->layer, session[way], tokens));
      if (i >= 0) seconds[way * n + i] = time;
    }
  }
  rows += s->balanced->stats.rows_moved;
  MOERUN_TRY(bench_sum(&rows, s->layer.comm));
  const double plain = bench_quantile(seconds, n, 0.5);
  const double balanced = bench_quantile(seconds + n, n, 0.5);
  const double values[BALANCED_NAMES] = {tokens,
                                         1e3 * plain,
                                         1e3 * balanced,
                                         balanced / plain,
                                         seconds[n] /
                                             seconds[0], /* sorted by now */
                                         bench_peak(s->balanced, 0),
                                         (double)rows};
  (void)snprintf(label, sizeof label, "%d", tokens);
  MOERUN_TRY(bench_line(b, label, balanced_names, values, BALANCED_NAMES));
done:
  moerun__free(seconds);
  return status;
}

moerun_status bench_balanced(bench *b) {
  moerun_status status = MOERUN_OK;
  static const bench_routing even = {0};
  skew s;
  MOERUN_TRY(create(&s, b));
  bench_layer_steer(&s.layer, &even);
  MOERUN_TRY(bench_list_begin(b, "balanced"));
  bench_heading(b, balanced_names, BALANCED_NAMES);
  for (int32_t tokens = s.layer.tokens; tokens > 0; tokens /= 8) {
    MOERUN_TRY(run_size(b, &s, tokens));
  }
  MOERUN_TRY(bench_list_end(b));
done:
  destroy(&s);
  return status;
}
