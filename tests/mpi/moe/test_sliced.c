/* Experts in slices: the same bits as whole ones, for any shares, any number of
 * rows and rounds, and a choice between the two that follows the costs. The
 * widths are no multiples of one another, so that shares of h and of results
 * differ and some ranks have none. */
#include "runtime/base/rng.h"
#include "runtime/decoder/session.h"
#include "runtime/model/synth.h"
#include "runtime/moe/exchange_sliced.h"
#include "runtime/report/report.h"
#include "support/comm_rows.h"
#include "support/mpi_test.h"
#include "support/temp_dir.h"

#include <moerun/moerun_mpi.h>
#include <stdlib.h>
#include <string.h>

enum { LAYERS = 2, EXPERTS = 5, K = 2, H = 72, F = 96, MOST = 160 };
enum { SLICED = 1 }; /* number of the way */

static temp_dir dir;
static char path[TEMP_PATH];
static moerun_comm *comm;
static moerun_placement *placement;
static moerun_model *model;

static const moerun__plan_options eager = {
    .threshold = 1000, .slack = 1000, .min_rows = 1, .min_rows_held = 1};

static moerun_session *open_session(const moerun_session_options *options,
                                    const moerun__slice_costs *costs,
                                    const moerun__faults *faults) {
  moerun_session *session = NULL;
  const moerun__session_extra extra = {
      .plan = &eager, .slice_costs = costs, .faults = faults};
  assert_all_ok(moerun__session_create_with(&session, model, options, &extra));
  return session;
}

/* Speeds that no clock has measured. */
static moerun__faults equal_speeds(void) {
  moerun__faults faults;
  assert_int_equal(
      moerun__faults_parse(&faults, "rank=0,compute=1x,clock=counted"),
      MOERUN_OK);
  return faults;
}

static moerun_session *plain_session(moerun_session_options options) {
  options.balance = MOERUN_BALANCE_OFF;
  return open_session(&options, NULL, NULL);
}

/* Rows of this rank in step `key`: ranks differ, one has none. */
static int32_t rows_of(int most, uint64_t key) {
  const int turn = (int)((uint64_t)test_rank() + key) % test_size();
  return turn == 1 ? 0 : most * (turn + 1) / test_size();
}

static void run(moerun_session *session, int32_t layer, int32_t T, float *y,
                uint64_t key) {
  static float x[MOST * H];
  for (size_t i = 0; i < (size_t)T * H; i++) {
    x[i] = (float)(moerun__uniform(key, (uint64_t)test_rank(), i) - 0.5);
  }
  assert_all_ok(moerun_moe_forward(session, layer, T, x, y));
}

static void assert_same_bits(moerun_session *a, moerun_session *b, int most) {
  static float want[MOST * H];
  static float found[MOST * H];
  for (uint64_t key = 0; key < 4; key++) {
    const int32_t T = rows_of(most, key);
    for (int32_t layer = 0; layer < LAYERS; layer++) {
      run(a, layer, T, want, key);
      run(b, layer, T, found, key);
      assert_all_ranks(memcmp(want, found, (size_t)T * H * sizeof *want) == 0);
    }
  }
}

static int64_t sum_over_ranks(int64_t value) {
  int64_t sum = 0;
  (void)MPI_Allreduce(&value, &sum, 1, MPI_INT64_T, MPI_SUM, MPI_COMM_WORLD);
  return sum;
}

static int64_t sliced_layers(const moerun_session *session) {
  int64_t sum = 0;
  for (int32_t l = 0; test_size() > 1 && l < LAYERS; l++) {
    sum += session->moe.balance.ledger.layers[l].way[SLICED].plans;
  }
  return sum;
}

/* ---- Tests --------------------------------------------------------------- */

/* Rank r shares (r * 2) mod 3 rows, so that some have none. */
static void rows_are_shared(void **state) {
  (void)state;
  enum { ROW = 17 };
  const int R = test_size();
  const moerun__comm_count before = comm->count;
  unsigned char shared[2 * MAX_RANKS * ROW] = {0};
  int32_t offset[MAX_RANKS + 1] = {0};
  for (int r = 0; r < R; r++) {
    offset[r + 1] = offset[r] + r * 2 % 3;
  }
  const int32_t first = offset[test_rank()];
  const int32_t own = offset[test_rank() + 1] - first;
  for (size_t i = 0; i < (size_t)own * ROW; i++) {
    shared[(size_t)first * ROW + i] = letter(test_rank(), i);
  }
  const moerun__row_list list = {shared, ROW,         offset,
                                 0,      test_size(), MOERUN_MEMORY_HOST};
  assert_all_ok(comm->ops->share_rows(comm, &list));
  int ok = 1;
  for (int r = 0; r < R; r++) {
    ok = ok && holds(shared + (size_t)offset[r] * ROW,
                     (size_t)(offset[r + 1] - offset[r]) * ROW, r);
  }
  assert_all_ranks(ok);
  const int64_t sent = (int64_t)own * (R - 1);
  assert_all_ranks(comm->count.rows - before.rows == sent);
  assert_all_ranks(comm->count.row_bytes - before.row_bytes == sent * ROW);
  assert_all_ranks(comm->count.messages - before.messages ==
                   (own > 0 ? R - 1 : 0));
}

static void whatever_travels_and_multiplies(void **state) {
  (void)state;
  for (int i = 0; i < 8; i++) {
    const moerun_session_options options = {
        .max_tokens = MOST,
        .wire = i % 2 == 0 ? MOERUN_WIRE_FP32 : MOERUN_WIRE_BF16,
        .compute = i / 2 % 2 == 0 ? MOERUN_COMPUTE_FP32 : MOERUN_COMPUTE_BF16,
        .chunks = i / 4 == 0 ? 1 : 3,
        .balance = MOERUN_BALANCE_SLICED};
    moerun_session *whole = plain_session(options);
    moerun_session *sliced = open_session(&options, NULL, NULL);
    assert_same_bits(whole, sliced, 7);
    const int64_t steps = test_size() > 1 ? 4 * LAYERS : 0;
    assert_all_ranks(sliced_layers(sliced) == steps);
    moerun_session_destroy(whole);
    moerun_session_destroy(sliced);
  }
}

/* More rows than one round takes; and what is counted of them. */
static void many_rounds(void **state) {
  (void)state;
  const moerun_session_options options = {.max_tokens = MOST,
                                          .balance = MOERUN_BALANCE_SLICED};
  moerun_session *whole = plain_session(options);
  moerun_session *sliced = open_session(&options, NULL, NULL);
  assert_same_bits(whole, sliced, MOST);
  int64_t own = 0;
  for (int32_t i = 0; i < LAYERS * EXPERTS; i++) {
    const int64_t executed = sliced->stats.expert_rows[i];
    own += executed;
    assert_int_equal(sum_over_ranks(executed),
                     sum_over_ranks(whole->stats.expert_rows[i]));
  }
  /* A round leaves at most one row of an expert over for a rank. */
  const int64_t all = sum_over_ranks(own);
  const int64_t rounds = test_size() > 1 ? 4 * LAYERS * 5 : 0;
  assert_all_ranks(llabs(own * test_size() - all) <=
                   rounds * EXPERTS * test_size());
  moerun_session_destroy(whole);
  moerun_session_destroy(sliced);
}

/* One row more than whole rounds have, which is the last rank's; and none
 * more. */
static void a_last_round_may_have_one_row(void **state) {
  (void)state;
  static float want[MOST * H];
  static float found[MOST * H];
  const int R = test_size();
  const int me = test_rank();
  if (R == 1) skip(); /* more rows than it has room for */
  const moerun_session_options options = {.max_tokens = MOST,
                                          .balance = MOERUN_BALANCE_SLICED};
  moerun_session *whole = plain_session(options);
  moerun_session *sliced = open_session(&options, NULL, NULL);
  for (int more = 0; more < 2; more++) {
    const int32_t T = MOERUN_SLICED_ROWS * (me + 1) / R -
                      MOERUN_SLICED_ROWS * me / R + (me == R - 1 ? more : 0);
    assert_all_ranks(T <= MOST);
    memset(found, 0xA5, sizeof found);
    run(whole, 0, T, want, (uint64_t)more);
    run(sliced, 0, T, found, (uint64_t)more);
    assert_all_ranks(memcmp(want, found, (size_t)T * H * sizeof *want) == 0);
  }
  moerun_session_destroy(whole);
  moerun_session_destroy(sliced);
}

/* The last rank takes twice as long from the start: its slices are about half
 * as large. */
static void slow_ranks_have_small_slices(void **state) {
  (void)state;
  const int R = test_size();
  if (R == 1) skip();
  moerun__faults faults;
  char text[64];
  (void)snprintf(text, sizeof text, "rank=%d,compute=2x,clock=counted", R - 1);
  assert_int_equal(moerun__faults_parse(&faults, text), MOERUN_OK);
  const moerun_session_options options = {.max_tokens = MOST,
                                          .balance = MOERUN_BALANCE_SLICED};
  moerun_session *whole = plain_session(options);
  moerun_session *sliced = open_session(&options, NULL, &faults);
  int64_t share[8];
  int32_t speed[8];
  for (int r = 0; r < R; r++) {
    speed[r] = r == R - 1 ? MOERUN_SPEED_ONE / 2 : MOERUN_SPEED_ONE;
  }
  moerun__plan_shares(share, F / MOERUN_PANEL, speed, R);
  const moerun__slice_shares *shares = moerun__store_shares(&sliced->moe.store);
  for (int r = 0; r < R; r++) {
    assert_all_ranks(moerun__slice_h(shares, r) == share[r] * MOERUN_PANEL);
  }
  assert_all_ranks(moerun__slice_h(shares, R - 1) <= F / 3);
  assert_same_bits(whole, sliced, 7);
  moerun_session_destroy(whole);
  moerun_session_destroy(sliced);
}

/* Every rank's bytes and results by hand, ranks without columns among them; and
 * what all ranks foretell of them together. */
static void bytes_of_slices_are_counted(void **state) {
  (void)state;
  enum { STEPS = 3, ROWS = 37 };
  const int R = test_size();
  if (R == 1) skip();
  const moerun__faults faults = equal_speeds();
  const moerun_session_options options = {.max_tokens = MOST,
                                          .balance = MOERUN_BALANCE_SLICED};
  static float y[MOST * H];
  moerun_session *session = open_session(&options, NULL, &faults);
  int64_t own = 0; /* tokens, over layers */
  int64_t waves = 0;
  for (uint64_t key = 0; key < STEPS; key++) {
    for (int32_t layer = 0; layer < LAYERS; layer++) {
      own += rows_of(ROWS, key);
      waves += (sum_over_ranks(rows_of(ROWS, key)) + 255) / 256;
      run(session, layer, rows_of(ROWS, key), y, key);
    }
  }
  const moerun__slice_shares *shares =
      moerun__store_shares(&session->moe.store);
  const int64_t all = sum_over_ranks(own);
  const int64_t row =
      (int64_t)moerun__row_bytes(&model->config, MOERUN_DTYPE_F32, K);
  const int64_t piece =
      4 * (int64_t)moerun__slices_most_outputs(&model->config, R);
  const int64_t h = 4 * (int64_t)moerun__slice_h(shares, test_rank());
  const int holds = moerun__slice_holds_y(shares, test_rank());
  const int64_t results = holds ? K * (all - own) : 0;
  const int64_t sent = (R - 1) * (own * row + K * all * h) + results * piece;
  const int64_t holders = sum_over_ranks(holds);
  assert_all_ranks(holders == (R < 3 ? R : 3)); /* H is of three panels */
  assert_all_ranks(session->stats.results_out == results);
  assert_all_ranks(session->stats.rows_local == own &&
                   session->stats.rows_out == (R - 1) * own &&
                   session->stats.rows_in == all - own &&
                   session->stats.waves == waves);
  assert_all_ranks(session->stats.way_bytes[SLICED] == sent);
  const moerun__ledger_entry total =
      moerun__ledger_total(&session->moe.balance.ledger);
  const int64_t sum = sum_over_ranks(sent);
  assert_all_ranks(total.way[SLICED].bytes == sum);
  moerun__report *report = NULL;
  assert_all_ok(moerun__report_collect(&report, session, 1));
  assert_all_ranks(report == NULL || report->way_bytes[SLICED] == sum);
  moerun__report_destroy(report);
  moerun_session_destroy(session);
}

/* Room for the slices of one layer: the other is computed whole. */
static void layers_without_room_stay_whole(void **state) {
  (void)state;
  if (test_size() == 1) skip();
  const moerun__expert_shape expert =
      moerun__expert_whole(&model->config, MOERUN_DTYPE_BF16);
  const size_t all =
      moerun__slices_bytes(&model->config, &expert, test_size(), 0, -1);
  const moerun_session_options options = {.max_tokens = MOST,
                                          .slice_bytes = (int64_t)all * 2 / 3,
                                          .balance = MOERUN_BALANCE_SLICED};
  const moerun__faults faults = equal_speeds();
  moerun_session *whole = plain_session(options);
  moerun_session *sliced = open_session(&options, NULL, &faults);
  assert_all_ranks(moerun__store_sliced_layers(&sliced->moe.store) == 1);
  assert_null(moerun__store_get(&sliced->moe.store, &model->layers[1],
                                moerun__slice_slot(0)));
  assert_same_bits(whole, sliced, 7);
  assert_all_ranks(sliced_layers(sliced) == 4);
  moerun_session_destroy(whole);
  moerun_session_destroy(sliced);
}

/* Slices that take half of what they should in theory are taken, unless sharing
 * rows takes longer than everything else. */
static void the_cheaper_way_is_taken(void **state) {
  (void)state;
  const int R = test_size();
  if (R == 1) skip();
  const moerun_session_options options = {
      .max_tokens = MOST, .guest_bytes = -1, .slice_bytes = -1};
  moerun__slice_costs costs = {.spread = 10};
  for (int i = 0; i < MOERUN_COST_POINTS; i++) {
    costs.whole[i] = 1000 + (1 << i);
    costs.slice[i] = costs.whole[i] / R / 2;
  }
  static float y[MOST * H];
  moerun_session *session = open_session(&options, &costs, NULL);
  run(session, 0, test_rank() == 0, y, 1);
  const moerun__store *store = &session->moe.store;
  assert_all_ranks((size_t)((char *)store->here - (char *)store->wanted) >=
                   EXPERTS * sizeof *store->wanted);
  assert_all_ranks(session->moe.balance.plan.way == SLICED);
  moerun_session_destroy(session);
  costs.spread = 100000;
  session = open_session(&options, &costs, NULL);
  run(session, 0, test_rank() == 0, y, 1);
  assert_all_ranks(session->moe.balance.plan.way == MOERUN_WAY_WHOLE);
  moerun_session_destroy(session);
}

/* Of what a rank takes, every byte is foretold, if speeds are equal. */
static void bytes_are_foretold(void **state) {
  (void)state;
  const moerun__faults faults = equal_speeds();
  const moerun_session_options options = {
      .max_tokens = MOST, .guest_bytes = -1, .slice_bytes = -1};
  const moerun__session_extra extra = {.plan = &eager};
  const size_t before = moerun__alloc_live_bytes();
  moerun_session *session = open_session(&options, NULL, &faults);
  const moerun__expert_shape expert =
      moerun__expert_whole(&model->config, MOERUN_DTYPE_BF16);
  const size_t expected = moerun__session_bytes_with(model, &options, &extra) +
                          moerun__slices_bytes(&model->config, &expert,
                                               test_size(), test_rank(), -1);
  assert_all_ranks(moerun__alloc_live_bytes() - before == expected);
  moerun_session_destroy(session);
}

static const moerun__kernels *base_set;

static void dispatch_of_none(moerun__queue *queue, const moerun__wire_rows *to,
                             const moerun__dispatch *what) {
  static int32_t ids[MOST * K];
  moerun__dispatch changed = *what;
  for (int32_t i = 0; i < what->num_rows * K; i++) {
    ids[i] = EXPERTS;
  }
  changed.ids = ids;
  base_set->dispatch(queue, to, &changed);
}

static void experts_that_do_not_exist_are_refused(void **state) {
  (void)state;
  static float x[MOST * H];
  static float y[MOST * H];
  if (test_size() == 1) skip();
  const moerun__faults faults = equal_speeds();
  const moerun_session_options options = {.max_tokens = MOST,
                                          .balance = MOERUN_BALANCE_SLICED};
  moerun_session *session = open_session(&options, NULL, &faults);
  base_set = session->moe.kernels;
  moerun__kernels set = *base_set;
  set.dispatch = dispatch_of_none;
  if (test_rank() == 0) session->moe.kernels = &set;
  const moerun_status found = moerun_moe_forward(session, 0, 3, x, y);
  assert_all_ranks(found == MOERUN_ERR_COMM);
  assert_all_ranks(strstr(moerun_last_error(),
                          "rank 0 asked for expert 5: expected below 5") !=
                   NULL);
  moerun_session_destroy(session);
}

static void room_is_used_up(void **state) {
  (void)state;
  if (test_size() == 1) skip();
  const moerun__faults faults = equal_speeds();
  moerun_session_options options = {
      .max_tokens = MOST, .slice_bytes = -1, .balance = MOERUN_BALANCE_SLICED};
  moerun_session *session = open_session(&options, NULL, &faults);
  int64_t all =
      LAYERS * EXPERTS *
      (int64_t)moerun__expert_bytes(&session->moe.store.slices.shape[0]);
  moerun_session_destroy(session);
  (void)MPI_Allreduce(MPI_IN_PLACE, &all, 1, MPI_INT64_T, MPI_MAX,
                      MPI_COMM_WORLD);
  for (int less = 0; less < 2; less++) {
    options.slice_bytes = all - less;
    session = open_session(&options, NULL, &faults);
    assert_all_ranks(moerun__store_sliced_layers(&session->moe.store) ==
                     LAYERS - less);
    moerun_session_destroy(session);
  }
  options.balance = MOERUN_BALANCE_OFF;
  options.slice_bytes = -1;
  options.guest_bytes = 1 << 20;
  session = open_session(&options, NULL, NULL);
  assert_all_ranks(!moerun__store_has_slices(&session->moe.store) &&
                   moerun__store_guest_bytes(&session->moe.store) == 0);
  moerun_session_destroy(session);
}

static void shares_follow_a_factor_of_2_at_most(void **state) {
  (void)state;
  if (test_size() == 1) skip();
  moerun__faults faults;
  assert_int_equal(
      moerun__faults_parse(&faults, "rank=0,compute=4x,clock=counted"),
      MOERUN_OK);
  const moerun_session_options options = {.max_tokens = MOST,
                                          .balance = MOERUN_BALANCE_SLICED};
  moerun_session *session = open_session(&options, NULL, &faults);
  const moerun__slice_shares *shares =
      moerun__store_shares(&session->moe.store);
  assert_all_ranks(shares->speed[0] == MOERUN_SPEED_ONE / 2 &&
                   shares->speed[1] == MOERUN_SPEED_ONE);
  moerun_session_destroy(session);
}

/* Where a rank knows no speed, no rank goes by its own. */
static void unknown_speeds_are_equal(void **state) {
  (void)state;
  const int R = test_size();
  if (R < 3) skip();
  moerun_placement *some = NULL;
  moerun_model *other = NULL;
  moerun_session *session = NULL;
  moerun__faults faults;
  int32_t rank_of[LAYERS * EXPERTS];
  for (int i = 0; i < LAYERS * EXPERTS; i++) {
    rank_of[i] = 1 + i % 2;
  }
  assert_int_equal(moerun__faults_parse(&faults, "rank=1,compute=4x"),
                   MOERUN_OK);
  const moerun_model_options moe_only = {.struct_size = sizeof moe_only,
                                         .moe_only = 1};
  assert_all_ok(moerun_placement_create(&some, LAYERS, EXPERTS, R, rank_of));
  assert_all_ok(moerun_model_load(&other, comm, some, path, &moe_only));
  const moerun_session_options options = {.max_tokens = MOST,
                                          .balance = MOERUN_BALANCE_SLICED};
  const moerun__session_extra extra = {.plan = &eager, .faults = &faults};
  assert_all_ok(moerun__session_create_with(&session, other, &options, &extra));
  for (int r = 0; r < R; r++) {
    assert_all_ranks(moerun__store_shares(&session->moe.store)->speed[r] ==
                     MOERUN_SPEED_ONE);
  }
  moerun_session_destroy(session);
  moerun_model_destroy(other);
  moerun_placement_destroy(some);
}

/* By a clock that counts rows: parts of all ranks are the whole. */
static void parts_add_up(void **state) {
  (void)state;
  if (test_size() == 1) skip();
  const moerun__faults faults = equal_speeds();
  const moerun_session_options options = {.max_tokens = MOST,
                                          .balance = MOERUN_BALANCE_SLICED};
  static float y[MOST * H];
  double sum = 0;
  moerun_session *session = open_session(&options, NULL, &faults);
  session->moe.balance.speed.call_seconds = 0;
  session->moe.balance.speed.row_seconds = 1;
  run(session, 0, 5, y, 1);
  (void)MPI_Allreduce(&session->moe.step.busy_seconds, &sum, 1, MPI_DOUBLE,
                      MPI_SUM, MPI_COMM_WORLD);
  assert_all_ranks(sum > 5 * K * test_size() * 0.999 &&
                   sum < 5 * K * test_size() * 1.001);
  moerun_session_destroy(session);
}

/* A rank sleeps once in a layer, whatever its rounds. */
static void ranks_sleep_once_a_layer(void **state) {
  (void)state;
  if (test_size() == 1) skip();
  moerun__faults faults;
  assert_int_equal(
      moerun__faults_parse(&faults, "rank=0,sleep=1000us,clock=counted"),
      MOERUN_OK);
  const moerun_session_options options = {.max_tokens = MOST,
                                          .balance = MOERUN_BALANCE_SLICED};
  static float y[MOST * H];
  moerun_session *session = open_session(&options, NULL, &faults);
  session->moe.balance.speed.call_seconds = 0;
  session->moe.balance.speed.row_seconds = 0;
  const int64_t before = session->stats.waves;
  const double seconds = session->moe.balance.speed.seconds;
  run(session, 0, MOST, y, 1);
  assert_all_ranks(session->moe.balance.speed.seconds - seconds ==
                   (test_rank() == 0 ? 1e-3 : 0));
  assert_all_ranks(session->stats.waves - before > 1);
  assert_all_ranks(session->moe.step.busy_seconds ==
                   (test_rank() == 0 ? 1e-3 : 0));
  moerun_session_destroy(session);
}

static int set_up(void **state) {
  (void)state;
  const moerun__synth_options options = {
      .path = path,
      .arch = "qwen3_moe",
      .seed = 11,
      .dtype = MOERUN_DTYPE_BF16,
      .num_layers = LAYERS,
      .hidden_width = H,
      .heads = {.num_heads = 4, .num_kv_heads = 4},
      .num_experts = EXPERTS,
      .experts_per_token = K,
      .expert_width = F,
      .vocab_size = 259};
  const moerun_model_options moe_only = {.struct_size = sizeof moe_only,
                                         .moe_only = 1};
  assert_all_ranks(temp_dir_create(&dir));
  (void)temp_path(path, &dir, "model");
  assert_all_ok(moerun__synth_write(&options));
  assert_all_ok(
      moerun_placement_create_block(&placement, LAYERS, EXPERTS, test_size()));
  assert_all_ok(moerun_model_load(&model, comm, placement, path, &moe_only));
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  moerun_model_destroy(model);
  moerun_placement_destroy(placement);
  temp_dir_remove(&dir);
  return 0;
}

/* What is counted in place of measured: reading an expert takes as long as 12
 * rows, a slice its part, sharing as long as one. */
static void counted_costs_are_fixed(void **state) {
  (void)state;
  const moerun__faults faults = equal_speeds();
  const moerun_session_options options = {
      .max_tokens = MOST, .guest_bytes = 1 << 20, .slice_bytes = -1};
  const moerun__session_extra extra = {.faults = &faults};
  moerun_session *session = NULL;
  assert_all_ok(moerun__session_create_with(&session, model, &options, &extra));
  if (test_size() > 1) {
    const moerun__slice_costs *costs = &session->moe.balance.slice_costs;
    const int64_t row =
        (int64_t)(1e9 * session->moe.balance.speed.row_seconds + 0.5);
    assert_all_ranks(costs->whole[0] == 13 * row);
    assert_all_ranks(costs->whole[2] == 16 * row);
    assert_all_ranks(costs->slice[2] == 16 * row / test_size());
    assert_all_ranks(costs->weights == 12 * row);
    assert_all_ranks(costs->spread == row && costs->spread_kib == 0);
  }
  moerun_session_destroy(session);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(rows_are_shared),
      cmocka_unit_test(counted_costs_are_fixed),
      cmocka_unit_test(whatever_travels_and_multiplies),
      cmocka_unit_test(many_rounds),
      cmocka_unit_test(a_last_round_may_have_one_row),
      cmocka_unit_test(slow_ranks_have_small_slices),
      cmocka_unit_test(bytes_of_slices_are_counted),
      cmocka_unit_test(layers_without_room_stay_whole),
      cmocka_unit_test(the_cheaper_way_is_taken),
      cmocka_unit_test(bytes_are_foretold),
      cmocka_unit_test(unknown_speeds_are_equal),
      cmocka_unit_test(parts_add_up),
      cmocka_unit_test(room_is_used_up),
      cmocka_unit_test(shares_follow_a_factor_of_2_at_most),
      cmocka_unit_test(experts_that_do_not_exist_are_refused),
      cmocka_unit_test(ranks_sleep_once_a_layer),
  };
  if (MPI_Init(&argc, &argv) != MPI_SUCCESS) return EXIT_FAILURE;
  if (moerun_comm_create_mpi(&comm, MPI_COMM_WORLD, NULL) != MOERUN_OK) {
    return EXIT_FAILURE;
  }
  const int failed = cmocka_run_group_tests(tests, set_up, tear_down);
  moerun_comm_destroy(comm);
  (void)MPI_Finalize();
  return failed;
}
