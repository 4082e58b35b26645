/* replay_slow: what plans and speeds make of slow ranks, from 2 to 64 of them,
 * by counted times (support/slow_ranks.h), beside the true optimum: all ranks
 * end at once and rows can be divided at will. Nothing but the time that a plan
 * takes to make depends on the machine.
 *
 * A step has 256 tokens of each rank with 8 experts each. A rank computes 100
 * GFLOP/s and sends 10 GB/s, beginning after 20 us: an expert's weights take as
 * long as 11 or 12 rows, whatever its size, which decides how many guests there
 * is memory for: as many as a session takes by default, if 512 MB for each
 * layer hold them. --weight-rows N puts a slower link in place of that one. */
#include "benchmarks/balance.h"

#include "runtime/base/memory.h"
#include "support/slow_ranks.h"

#include <math.h>

enum {
  STEPS = 200,
  TIMES = SLOW_LAYERS * (STEPS - SLOW_JUDGED),
  ROWS = 2048,     /* of each rank and layer */
  LAYER_MB = 512,  /* for guests of a layer */
  LATENCY_US = 20, /* of weights */
  MB_US = 100,     /* that each MB of them takes */
  ROW_MB_US = 10,  /* that a row takes for each MB of its expert */
};

/* The same of all cases: ranks with slow ones among them, experts. */
static const int32_t rank_counts[] = {2, 4, 8, 16, 64};
static const int32_t expert_counts[] = {16, 64, 256};
static const int32_t factors[] = {2, 4, 8};
static const int32_t sizes_mb[] = {1, 12, 50};

static const char *const names[] = {
    "ranks", "experts", "slow", "MB",      "guests",  "fits",    "plain",
    "mean",  "p99",     "hit",  "of_held", "plan_us", "plan_p99"};
enum { NAMES = sizeof names / sizeof *names };

typedef struct replay_slow {
  slow_ranks world;
  double over[TIMES];    /* the optimum */
  double held[TIMES];    /* the optimum within the memory */
  double plain[TIMES];   /* over the optimum, as routed */
  double seconds[TIMES]; /* of the processor, to make a plan */
  int32_t rows;          /* of the table, of ranks that stay slow */
  int32_t misses;
  int32_t poor; /* such rows without enough memory */
  int32_t poor_misses;
} replay_slow;

static moerun_status run_case(replay_slow *s, const slow_case *of,
                              int32_t weight_rows) {
  moerun_status status = MOERUN_OK;
  int32_t count = 0;
  MOERUN_TRY(slow_ranks_create(&s->world, of));
  s->world.options.weight_rows = weight_rows;
  if (weight_rows > s->world.options.min_rows) { /* as sessions have it */
    s->world.options.min_rows = weight_rows;
  }
  for (int32_t step = 0; step < STEPS; step++) {
    slow_times times[SLOW_LAYERS];
    slow_ranks_step(&s->world, times);
    for (int32_t i = 0; i < SLOW_LAYERS && step >= SLOW_JUDGED; i++) {
      s->over[count] = times[i].end / times[i].best;
      s->held[count] = times[i].end / times[i].best_held;
      s->plain[count] = times[i].plain / times[i].best;
      s->seconds[count++] = times[i].seconds;
    }
  }
done:
  slow_ranks_destroy(&s->world);
  return status;
}

/* A row of the table. A hit is within a tenth of the optimum, mean and p99. */
static moerun_status add_row(bench *b, replay_slow *s, slow_case of, int32_t mb,
                             const char *label) {
  moerun_status status = MOERUN_OK;
  const int32_t needed = slow_default_guests(of.ranks, of.experts);
  const int32_t counted =
      (LATENCY_US + MB_US * mb + ROW_MB_US * mb - 1) / (ROW_MB_US * mb);
  const int32_t weight_rows =
      b->options.weight_rows > 0 ? (int32_t)b->options.weight_rows : counted;
  of.guests = needed * mb <= LAYER_MB ? needed : LAYER_MB / mb;
  of.rows = ROWS * of.ranks / of.experts;
  MOERUN_TRY(run_case(s, &of, weight_rows));
  const int fits = of.guests == needed;
  const double mean = bench_mean(s->over, TIMES);
  const double p99 = bench_quantile(s->over, TIMES, 0.99);
  const int hit = mean <= 1.1 && p99 <= 1.1;
  const double held = bench_quantile(s->held, TIMES, 0.99);
  if (of.flap == 0 && fits) {
    s->rows++;
    s->misses += !hit;
  } else if (of.flap == 0) {
    s->poor++;
    s->poor_misses += !hit;
  }
  const double values[NAMES] = {of.ranks,
                                of.experts,
                                of.slow,
                                mb,
                                of.guests,
                                fits,
                                bench_mean(s->plain, TIMES),
                                mean,
                                p99,
                                hit,
                                held,
                                1e6 * bench_mean(s->seconds, TIMES),
                                1e6 * bench_quantile(s->seconds, TIMES, 0.99)};
  MOERUN_TRY(bench_line(b, label, names, values, NAMES));
done:
  return status;
}

/* One slow rank, or a quarter of them. */
static moerun_status add_rows(bench *b, replay_slow *s, slow_case of) {
  moerun_status status = MOERUN_OK;
  char label[16];
  (void)snprintf(label, sizeof label, "%dx%s%s", of.factor,
                 of.flap > 0 ? ",flap" : "", of.noise > 0 ? ",noise" : "");
  for (int several = 0; several < 2; several++) {
    of.slow = several ? of.ranks / 4 : 1;
    if (several && of.slow < 2) continue;
    for (size_t i = 0; i < sizeof sizes_mb / sizeof *sizes_mb; i++) {
      const int is_plain = of.flap == 0 && !(of.noise > 0);
      if (!is_plain && sizes_mb[i] != 12) continue;
      MOERUN_TRY(add_row(b, s, of, sizes_mb[i], label));
    }
  }
done:
  return status;
}

static moerun_status add_factors(bench *b, replay_slow *s, slow_case of) {
  moerun_status status = MOERUN_OK;
  for (size_t i = 0; i < sizeof factors / sizeof *factors; i++) {
    of.factor = factors[i];
    MOERUN_TRY(add_rows(b, s, of));
  }
done:
  return status;
}

/* By turns of ten steps, and with times that are up to 5 % off. */
static moerun_status add_unsteady(bench *b, replay_slow *s, slow_case of) {
  moerun_status status = MOERUN_OK;
  of.factor = 4;
  of.flap = 10;
  MOERUN_TRY(add_rows(b, s, of));
  of.flap = 0;
  of.noise = 0.05;
  MOERUN_TRY(add_rows(b, s, of));
done:
  return status;
}

moerun_status bench_replay_slow(bench *b) {
  moerun_status status = MOERUN_OK;
  static replay_slow s;
  if (b->comm->rank != 0) return MOERUN_OK;
  MOERUN_TRY(bench_list_begin(b, "replay_slow"));
  bench_heading(b, names, NAMES);
  for (size_t i = 0; i < sizeof rank_counts / sizeof *rank_counts; i++) {
    for (size_t k = 0; k < sizeof expert_counts / sizeof *expert_counts; k++) {
      const slow_case of = {
          .ranks = rank_counts[i], .experts = expert_counts[k], .spread = 0.25};
      if (of.experts < of.ranks) continue;
      MOERUN_TRY(add_factors(b, &s, of));
      if (of.experts == 64) MOERUN_TRY(add_unsteady(b, &s, of));
    }
  }
  (void)printf("# ranks that stay slow, over 1.1 of the optimum in the mean or "
               "at the 99th percentile: %d of %d rows where memory suffices, "
               "%d of %d where it does not\n",
               s.misses, s.rows, s.poor_misses, s.poor);
  MOERUN_TRY(bench_list_end(b));
done:
  return status;
}
