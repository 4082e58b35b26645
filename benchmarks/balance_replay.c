/* replay: what the same plans would do with more ranks than there
 * are cores here. No ranks run: the routing of skew is drawn for R ranks and
 * goes through moerun__plan_solve; a rank then needs the measured time for each
 * expert called and each row, and the weights of an expert the measured time of
 * the link between two ranks here. A rank sends and receives one expert after
 * another, those that it sends on when they have come, and rows of a guest wait
 * for its weights. Gate, dispatch and combine are left out: they are the same
 * with and without balancing, so all ratios are those of the expert stage. */
#include "benchmarks/balance.h"

#include "runtime/base/memory.h"
#include "runtime/base/rng.h"
#include "runtime/base/timer.h"
#include "support/slow_ranks.h"

#include <string.h>

enum {
  EXPERTS = 256,
  MOST_RANKS = 64,
  MOST_MOVES = 4 * EXPERTS,
  DRAW_SEED = 21,
};

static const int32_t rank_counts[] = {4, 8, 16, 32, 64};
enum { COUNTS = sizeof rank_counts / sizeof *rank_counts };

/* ---- Skew ---------------------------------------------------------------- */

typedef struct replay {
  moerun__speed rates;   /* seconds of calls and rows */
  double weight_seconds; /* of one expert's weights on their way */
  moerun__plan_options options;
  moerun_placement *placement;
  moerun__plan plan;
  moerun__guest_table guests;
  void *block;
  int32_t rows[EXPERTS];
  int32_t speed[MOST_RANKS]; /* 0: as fast as the others */
  double busy[MOST_RANKS];
  double out[MOST_RANKS]; /* when the last weights so far have left */
  double in[MOST_RANKS];  /* and have come */
  double came[MOST_MOVES];
} replay;

/* The same numbers on any machine. */
static void use_rows(replay *r, int32_t weight_rows) {
  moerun__speed_expect(&r->rates, 1e-6, MOERUN_FFN_TILE * 1e-6,
                       MOERUN_FFN_TILE);
  r->options.weight_rows = weight_rows;
  r->options.min_rows = weight_rows > 32 ? weight_rows : 32;
}

/* A session of the same widths is made, and calibrates itself. */
static moerun_status measure(replay *r, bench *b) {
  moerun_status status = MOERUN_OK;
  bench_layer layer = {0};
  moerun_session *session = NULL;
  MOERUN_TRY(bench_layer_create(&layer, b, 2 * b->comm->size));
  MOERUN_TRY(
      bench_layer_session(&session, b, &layer, MOERUN_BALANCE_AUTO, 0, NULL));
  r->rates = session->moe.balance.speed;
  r->options = session->moe.balance.options;
  if (b->options.weight_rows > 0) {
    use_rows(r, (int32_t)b->options.weight_rows);
  }
  r->weight_seconds = r->options.weight_rows *
                      moerun__speed_expected(&r->rates, 1, MOERUN_FFN_TILE) /
                      MOERUN_FFN_TILE;
done:
  moerun_session_destroy(session);
  bench_layer_destroy(&layer);
  return status;
}

static void lay_out(replay *r, moerun__arena *arena, int32_t R,
                    int32_t guests) {
  moerun__plan_lay_out(&r->plan, arena, R, EXPERTS);
  moerun__guest_table_lay_out(&r->guests, arena, R, 1, guests);
}

static moerun_status set_up(replay *r, const bench *b, int32_t R) {
  moerun_status status = MOERUN_OK;
  moerun__arena arena = {NULL, 0};
  const int32_t guests =
      b->options.guests >= 0
          ? (int32_t)b->options.guests
          : slow_default_guests(R, EXPERTS) + MOERUN_SHARED_GUESTS;
  MOERUN_TRY(moerun_placement_create_block(&r->placement, 1, EXPERTS, R));
  lay_out(r, &arena, R, guests);
  MOERUN_TRY(moerun__alloc(&r->block, arena.used, 1));
  arena = (moerun__arena){r->block, 0};
  lay_out(r, &arena, R, guests);
  moerun__guest_table_clear(&r->guests);
done:
  return status;
}

static void tear_down(replay *r) {
  moerun__free(r->block);
  moerun_placement_destroy(r->placement);
  r->block = NULL;
  r->placement = NULL;
}

static void draw(replay *r, const bench *b, const bench_routing *routing,
                 int32_t R) {
  memset(r->rows, 0, sizeof r->rows);
  for (int32_t s = 0; s < R; s++) {
    for (int64_t t = 0; t < b->options.tokens; t++) {
      const double uniform =
          moerun__uniform(DRAW_SEED, (uint64_t)s, (uint64_t)t);
      r->rows[bench_draw(routing, EXPERTS, uniform)]++;
    }
  }
}

static double call(const replay *r, int64_t rows) {
  return rows > 0 ? moerun__speed_expected(&r->rates, 1, rows) : 0;
}

static double later(double a, double b) {
  return a > b ? a : b;
}

/* When each move's weights are there. */
static void send_weights(replay *r) {
  const moerun__plan *plan = &r->plan;
  memset(r->out, 0, sizeof r->out);
  memset(r->in, 0, sizeof r->in);
  memset(r->came, 0, sizeof r->came);
  for (int32_t i = 0; i < plan->num_sends; i++) {
    const moerun__send *send = &plan->sends[i];
    double *in = &r->in[plan->moves[send->move].rank];
    double *out = &r->out[send->from];
    double start = later(*in, *out);
    if (send->from_move >= 0) start = later(start, r->came[send->from_move]);
    *in = *out = r->came[send->move] = start + r->weight_seconds;
  }
}

/* When the last rank ends. */
static double end_of(replay *r, int32_t R) {
  const moerun__plan *plan = &r->plan;
  double end = 0;
  memset(r->busy, 0, sizeof r->busy);
  send_weights(r);
  for (int32_t h = 0; h < EXPERTS; h++) {
    int64_t kept = plan->replica_rows[h];
    for (int32_t m = 0; m < plan->num_moves; m++) {
      if (plan->moves[m].replica == h) kept -= plan->moves[m].rows;
    }
    r->busy[r->placement->rank_of[h]] += call(r, kept);
  }
  for (int32_t m = 0; m < plan->num_moves; m++) {
    const moerun__move *move = &plan->moves[m];
    double *busy = &r->busy[move->rank];
    *busy = later(*busy, r->came[m]) + call(r, move->rows);
  }
  for (int32_t i = 0; i < R; i++) {
    end = later(end, r->busy[i]);
  }
  return end;
}

static const char *const replay_names[] = {
    "ranks",  "before",   "after",   "sent_x", "sent_of_ideal",
    "held_x", "of_ideal", "experts", "plan_us"};
enum { REPLAY_NAMES = sizeof replay_names / sizeof *replay_names };

static moerun_status replay_routing(bench *b, replay *r,
                                    const bench_routing *routing, int32_t R) {
  char label[32];
  double end[3]; /* plain, weights sent, weights there */
  draw(r, b, routing, R);
  moerun__demand demand = {.num_ranks = R,
                           .num_replicas = EXPERTS,
                           .num_experts = EXPERTS,
                           .replica_of_expert = r->placement->replica_offset,
                           .rank_of = r->placement->rank_of,
                           .slot_of = r->placement->slot_of,
                           .rows = r->rows,
                           .speed = r->speed};
  moerun__guest_table_clear(&r->guests);
  double seconds = -moerun__now();
  moerun__plan_solve(&r->plan, &r->guests, &demand, &r->options);
  seconds += moerun__now();
  const moerun__plan_peaks peaks = moerun__plan_peaks_of(&r->plan);
  const double sent = (double)r->plan.num_sends;
  end[1] = end_of(r, R);
  moerun__plan_solve(&r->plan, &r->guests, &demand, &r->options);
  end[2] = end_of(r, R);
  r->plan.num_moves = 0;
  r->plan.num_sends = 0;
  end[0] = end_of(r, R);
  const double before = (double)peaks.rows_before * R / (double)peaks.total;
  const double values[REPLAY_NAMES] = {R,
                                       before,
                                       (double)peaks.rows_after * R /
                                           (double)peaks.total,
                                       end[0] / end[1],
                                       end[0] / end[1] / before,
                                       end[0] / end[2],
                                       end[0] / end[2] / before,
                                       sent,
                                       1e6 * seconds};
  (void)snprintf(label, sizeof label, "%.0f%%:%d", 100 * routing->share,
                 routing->hot);
  return bench_line(b, label, replay_names, values, REPLAY_NAMES);
}

moerun_status bench_replay(bench *b) {
  moerun_status status = MOERUN_OK;
  static const double share[] = {0.3, 0.5, 0.8, 0.95};
  static const int32_t hot[] = {1, 4, 16};
  static replay r;
  MOERUN_TRY(measure(&r, b));
  MOERUN_TRY(bench_list_begin(b, "replay_skew"));
  if (b->comm->rank == 0) {
    (void)printf("# %d experts; a row %.1f us, a call %.1f us, weights of an "
                 "expert %.0f us; sent for at least %d rows\n",
                 EXPERTS, 1e6 * r.rates.row_seconds, 1e6 * r.rates.call_seconds,
                 1e6 * r.weight_seconds, r.options.min_rows);
  }
  bench_heading(b, replay_names, REPLAY_NAMES);
  for (int i = 0; i < COUNTS; i++) {
    MOERUN_TRY(set_up(&r, b, rank_counts[i]));
    for (size_t n = 0; n < sizeof hot / sizeof *hot; n++) {
      for (size_t p = 0; p < sizeof share / sizeof *share; p++) {
        const bench_routing routing = {share[p], hot[n]};
        MOERUN_TRY(replay_routing(b, &r, &routing, rank_counts[i]));
      }
    }
    tear_down(&r);
  }
  MOERUN_TRY(bench_list_end(b));
done:
  tear_down(&r);
  return status;
}
