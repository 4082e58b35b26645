/* Balancing in a session: what it counts, that outputs keep every bit, that
 * slow ranks get less and that nothing waits for ever. The model has 10 experts
 * of which a token takes 4, so a step of 24 rows a rank is 96 rows a rank to
 * compute. */
#include "runtime/base/rng.h"
#include "runtime/decoder/session.h"
#include "runtime/moe/calibrate.h"
#include "support/mpi_test.h"

#include <moerun/moerun_mpi.h>
#include <stdlib.h>
#include <string.h>

static moerun_comm *comm;

#define MODEL MOERUN_TEST_DATA "/hf/qwen3_moe_bf16"

enum { T = 24, K = 4, H = 64, ROWS = T * K, LAYER = 1 };

static const moerun__plan_options eager = {
    .threshold = 1000, .slack = 1000, .min_rows = 1, .min_rows_held = 1};

typedef struct rig {
  moerun_placement *placement;
  moerun_model *model;
  moerun_session *session;
  int64_t executed; /* rows on this rank before the last step */
} rig;

typedef enum layout { BLOCKS, ALL_ON_LAST } layout;

static void set_up(rig *r, layout where, moerun_balance balance,
                   const moerun__faults *faults) {
  moerun_model_shape shape = {.struct_size = sizeof shape};
  const moerun_session_options options = {.struct_size = sizeof options,
                                          .max_tokens = T,
                                          .balance = balance,
                                          .guest_bytes = 1 << 20};
  const moerun__session_extra extra = {.plan = &eager, .faults = faults};
  memset(r, 0, sizeof *r);
  assert_all_ok(moerun_model_shape_load(&shape, MODEL));
  if (where == BLOCKS) {
    assert_all_ok(moerun_placement_create_block(
        &r->placement, shape.num_moe_layers, shape.num_experts, test_size()));
  } else {
    int32_t rank_of[64 * 4];
    for (int32_t i = 0; i < shape.num_moe_layers * shape.num_experts; i++) {
      rank_of[i] = test_size() - 1;
    }
    assert_all_ok(moerun_placement_create(&r->placement, shape.num_moe_layers,
                                          shape.num_experts, test_size(),
                                          rank_of));
  }
  assert_all_ok(moerun_model_load(&r->model, comm, r->placement, MODEL, NULL));
  assert_all_ok(
      moerun__session_create_with(&r->session, r->model, &options, &extra));
}

static void tear_down(rig *r) {
  moerun_session_destroy(r->session);
  moerun_model_destroy(r->model);
  moerun_placement_destroy(r->placement);
}

static void fill(float *x, uint64_t key) {
  for (size_t i = 0; i < (size_t)T * H; i++) {
    x[i] = (float)(moerun__uniform(key, (uint64_t)test_rank(), i) - 0.5);
  }
}

static int64_t executed(const rig *r) {
  const moerun__model_config *config = &r->model->config;
  int64_t sum = 0;
  for (int32_t i = 0; i < config->num_moe_layers * config->num_experts; i++) {
    sum += r->session->stats.expert_rows[i];
  }
  return sum;
}

/* One step of random rows; returns the rows that this rank computed. */
static int64_t step(rig *r, float *y, uint64_t key) {
  float x[T * H];
  fill(x, key);
  r->executed = executed(r);
  assert_all_ok(moerun_moe_forward(r->session, LAYER, T, x, y));
  return executed(r) - r->executed;
}

static int64_t sum_over_ranks(int64_t value) {
  int64_t sum = 0;
  (void)MPI_Allreduce(&value, &sum, 1, MPI_INT64_T, MPI_SUM, MPI_COMM_WORLD);
  return sum;
}

/* All experts on one rank: every rank ends up with the same number of rows. */
static void overload_is_shared(void **state) {
  (void)state;
  rig plain;
  rig balanced;
  float want[T * H];
  float found[T * H];
  set_up(&plain, ALL_ON_LAST, MOERUN_BALANCE_OFF, NULL);
  set_up(&balanced, ALL_ON_LAST, MOERUN_BALANCE_AUTO, NULL);
  const int last = test_rank() == test_size() - 1;
  assert_all_ranks(step(&plain, want, 1) == (last ? ROWS * test_size() : 0));
  assert_all_ranks(step(&balanced, found, 1) == ROWS);
  assert_all_ranks(memcmp(want, found, sizeof want) == 0);
  const moerun__stats *stats = &balanced.session->stats;
  if (test_size() > 1) {
    const moerun__ledger_entry *seen =
        balanced.session->moe.balance.ledger.steps;
    assert_all_ranks(seen->plans == 1 && seen->moved == 1);
    assert_all_ranks(seen->rows == ROWS * test_size());
    assert_all_ranks(seen->peak_routed == ROWS * test_size());
    assert_all_ranks(seen->peak_planned == ROWS);
    assert_all_ranks(llabs(seen->time_routed - 1000 * test_size()) <= 1);
    assert_all_ranks(seen->time_planned == 1000);
  }
  assert_int_equal(sum_over_ranks(stats->rows_moved), ROWS * (test_size() - 1));
  assert_true(sum_over_ranks(stats->weights_out) >= test_size() - 1);
  tear_down(&plain);
  tear_down(&balanced);
}

/* The same rows again: the weights are there. */
static void guests_stay(void **state) {
  (void)state;
  rig r;
  float y[T * H];
  set_up(&r, ALL_ON_LAST, MOERUN_BALANCE_AUTO, NULL);
  (void)step(&r, y, 1);
  const int64_t sent = sum_over_ranks(r.session->stats.weights_out);
  for (int i = 0; i < 3; i++) {
    assert_all_ranks(step(&r, y, 1) == ROWS);
  }
  assert_int_equal(sum_over_ranks(r.session->stats.weights_out), sent);
  for (int i = 0; i < 4 && test_size() > 1; i++) {
    assert_all_ranks(r.session->moe.balance.ledger.steps[i].moved == 1);
  }
  tear_down(&r);
}

/* Two readings are skipped, two are slow: after them the slow rank has its
 * share by speed, to the row; and when it is over, its share of before. */
static void a_slow_rank_gets_its_share(void **state) {
  (void)state;
  const int R = test_size();
  if (R == 1) skip();
  rig r;
  float y[T * H];
  moerun__faults faults;
  char text[64];
  (void)snprintf(text, sizeof text, "rank=%d,compute=4x,clock=counted,to=30",
                 R - 1);
  assert_int_equal(moerun__faults_parse(&faults, text), MOERUN_OK);
  set_up(&r, BLOCKS, MOERUN_BALANCE_AUTO, &faults);
  int32_t speed[8];
  int64_t share[8];
  for (int32_t i = 0; i < R; i++) {
    speed[i] = i == R - 1 ? MOERUN_SPEED_ONE / 4 : MOERUN_SPEED_ONE;
  }
  moerun__plan_shares(share, (int64_t)ROWS * R, speed, R);
  for (int i = 0; i < 30; i++) {
    const int64_t rows = step(&r, y, 1);
    if (i >= 4) assert_all_ranks(rows <= share[test_rank()]);
  }
  assert_all_ranks(r.session->moe.balance.speed.changes ==
                   (test_rank() == R - 1));
  assert_all_ranks(r.session->moe.balance.speed.applied ==
                   (test_rank() == R - 1 ? -2 * MOERUN_SPEED_OCTAVE : 0));
  for (int i = 0; i < 60; i++) { /* the fault is over */
    (void)step(&r, y, 1);
  }
  assert_all_ranks(r.session->moe.balance.speed.applied == 0);
  assert_all_ranks(step(&r, y, 1) <= ROWS);
  tear_down(&r);
}

/* A slow rank that gets no rows any more would be slow for ever: it works for
 * the sake of readings, and sixteen of those say that it has recovered. */
static void a_starved_rank_recovers(void **state) {
  (void)state;
  const int R = test_size();
  if (R == 1) skip();
  rig r;
  float y[T * H];
  moerun__faults faults;
  assert_int_equal(
      moerun__faults_parse(&faults, "rank=0,compute=4x,clock=counted,to=10"),
      MOERUN_OK);
  set_up(&r, BLOCKS, MOERUN_BALANCE_AUTO, &faults);
  for (int i = 0; i < 10; i++) {
    (void)step(&r, y, 1);
  }
  const moerun__speed *speed = &r.session->moe.balance.speed;
  assert_all_ranks((speed->applied < 0) == (test_rank() == 0));
  const int64_t rows = executed(&r);
  int steps = 0;
  int64_t slow = 1;
  for (; slow > 0 && steps < 400; steps++) {
    float none[1];
    assert_all_ok(moerun_moe_forward(r.session, LAYER, 0, none, none));
    slow = sum_over_ranks(speed->applied < 0);
  }
  assert_all_ranks(slow == 0);
  assert_all_ranks(steps >= MOERUN_SPEED_FAST * MOERUN_SPEED_STARVED);
  assert_all_ranks(executed(&r) == rows); /* nobody's rows */
  tear_down(&r);
}

/* Whatever happens to ranks, everybody ends and nothing else changes. */
static void faults_change_no_bit(void **state) {
  (void)state;
  rig plain;
  rig faulty;
  float want[T * H];
  float found[T * H];
  moerun__faults faults;
  assert_int_equal(
      moerun__faults_parse(&faults,
                           "rank=0,compute=3x,flap=3;rank=1,sleep=300us,from=2;"
                           "rank=0,stall=30ms,from=7"),
      MOERUN_OK);
  set_up(&plain, BLOCKS, MOERUN_BALANCE_OFF, NULL);
  set_up(&faulty, BLOCKS, MOERUN_BALANCE_AUTO, &faults);
  for (uint64_t i = 0; i < 12; i++) {
    (void)step(&plain, want, i);
    (void)step(&faulty, found, i);
    assert_all_ranks(memcmp(want, found, sizeof want) == 0);
  }
  tear_down(&plain);
  tear_down(&faulty);
}

/* Without room for guests only replicas can help, and here there are none. */
static void no_room_no_moves(void **state) {
  (void)state;
  rig r;
  float y[T * H];
  set_up(&r, ALL_ON_LAST, MOERUN_BALANCE_AUTO, NULL);
  moerun_session_destroy(r.session);
  const moerun_session_options options = {
      .struct_size = sizeof options, .max_tokens = T, .guest_bytes = -1};
  const moerun__session_extra extra = {.plan = &eager};
  assert_all_ok(
      moerun__session_create_with(&r.session, r.model, &options, &extra));
  (void)step(&r, y, 1);
  assert_all_ranks(r.session->stats.rows_moved == 0);
  tear_down(&r);
}

/* Measured thresholds: the numbers are the machine's, their order is not. */
static void calibration_agrees(void **state) {
  (void)state;
  rig r;
  float y[T * H];
  set_up(&r, BLOCKS, MOERUN_BALANCE_AUTO, NULL);
  moerun_session_destroy(r.session);
  const moerun_session_options options = {.struct_size = sizeof options,
                                          .max_tokens = T};
  assert_all_ok(moerun_session_create(&r.session, r.model, &options));
  const moerun__plan_options *plan = &r.session->moe.balance.options;
  if (test_size() > 1) {
    assert_all_ranks(plan->threshold == 1300 && plan->slack == 1000);
    assert_all_ranks(plan->min_rows >= plan->weight_rows);
    assert_all_ranks(plan->weight_rows > 0 && plan->min_rows_held > 0);
    assert_all_ranks(r.session->moe.balance.speed.row_seconds > 0);
  }
  (void)step(&r, y, 1);
  tear_down(&r);
}

/* What is counted in place of measured is always the same. */
static void counted_numbers_are_fixed(void **state) {
  (void)state;
  static const moerun__faults counted = {.counted = 1};
  rig r;
  set_up(&r, BLOCKS, MOERUN_BALANCE_AUTO, NULL);
  moerun_session_destroy(r.session);
  const moerun_session_options options = {
      .struct_size = sizeof options, .max_tokens = T, .guest_bytes = 1 << 20};
  const moerun__session_extra extra = {.faults = &counted};
  assert_all_ok(
      moerun__session_create_with(&r.session, r.model, &options, &extra));
  const moerun__moe *moe = &r.session->moe;
  const moerun__plan_options *plan = &moe->balance.options;
  if (test_size() > 1) {
    assert_all_ranks(plan->threshold == 1300 && plan->threshold_held == 1100);
    assert_all_ranks(plan->slack == 1000);
    assert_all_ranks(plan->weight_rows == 12);
    assert_all_ranks(plan->min_rows == 32 && plan->min_rows_held == 8);
    assert_all_ranks(!moe->balance.calibration.repeats);
  }
  tear_down(&r);
}

/* After 1, 2, 4 layers that weights seem too dear for, and so on; what they
 * cost only falls. */
static void weights_are_measured_ever_more_rarely(void **state) {
  (void)state;
  rig r;
  set_up(&r, BLOCKS, MOERUN_BALANCE_AUTO, NULL);
  moerun_session_destroy(r.session);
  const moerun_session_options options = {
      .struct_size = sizeof options, .max_tokens = T, .guest_bytes = 1 << 20};
  assert_all_ok(moerun_session_create(&r.session, r.model, &options));
  moerun__moe *moe = &r.session->moe;
  if (test_size() > 1) {
    moerun__calibration *c = &moe->balance.calibration;
    assert_all_ranks(c->repeats && c->again == 0);
    c->again = 2;
    c->too_dear = 3;
    moe->balance.options.weight_rows = 1 << 30;
    assert_all_ok(moerun__calibrate_again(moe));
    assert_all_ranks(c->again == 2 && c->too_dear == 3);
    assert_all_ranks(moe->balance.options.weight_rows == 1 << 30);
    c->too_dear = 4;
    assert_all_ok(moerun__calibrate_again(moe));
    assert_all_ranks(c->again == 3 && c->too_dear == 0);
    assert_all_ranks(moe->balance.options.weight_rows < 1 << 30);
    moe->balance.options.weight_rows = 0;
    c->too_dear = 8;
    assert_all_ok(moerun__calibrate_again(moe));
    assert_all_ranks(c->again == 4 && moe->balance.options.weight_rows == 0);
    c->again = 12;
    c->too_dear = 1 << 12;
    assert_all_ok(moerun__calibrate_again(moe));
    assert_all_ranks(c->again == 12 && c->too_dear == 0);
  }
  tear_down(&r);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(overload_is_shared),
      cmocka_unit_test(guests_stay),
      cmocka_unit_test(a_slow_rank_gets_its_share),
      cmocka_unit_test(a_starved_rank_recovers),
      cmocka_unit_test(faults_change_no_bit),
      cmocka_unit_test(no_room_no_moves),
      cmocka_unit_test(calibration_agrees),
      cmocka_unit_test(counted_numbers_are_fixed),
      cmocka_unit_test(weights_are_measured_ever_more_rarely),
  };
  if (MPI_Init(&argc, &argv) != MPI_SUCCESS) return EXIT_FAILURE;
  if (moerun_comm_create_mpi(&comm, MPI_COMM_WORLD, NULL) != MOERUN_OK) {
    return EXIT_FAILURE;
  }
  const int failed = cmocka_run_group_tests(tests, NULL, NULL);
  moerun_comm_destroy(comm);
  (void)MPI_Finalize();
  return failed;
}
