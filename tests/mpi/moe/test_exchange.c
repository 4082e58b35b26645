/* Another exchange under the same expert stage: a layer takes whatever brings
 * its rows, with guests as without, and no bit of it changes. */
#include "runtime/decoder/session.h"
#include "support/draw.h"
#include "support/gathered_exchange.h"
#include "support/model_world.h"

enum { T = 37, STEPS = 6, LAYER = 1 };

static const moerun__plan_options eager = {
    .threshold = 1000, .slack = 1000, .min_rows = 1, .min_rows_held = 1};

/* Speeds by count: both sessions make the same plans. */
static moerun__faults slow;

typedef struct setting {
  int32_t chunks;
  moerun_wire wire;
  moerun_balance balance;
} setting;

static moerun_session *open_session(const moerun_model *model,
                                    const setting *of,
                                    const moerun__exchange_ops *exchange) {
  moerun_session *session = NULL;
  const moerun_session_options options = {.struct_size = sizeof options,
                                          .max_tokens = T,
                                          .chunks = of->chunks,
                                          .wire = of->wire,
                                          .balance = of->balance};
  const moerun__session_extra extra = {
      .plan = &eager, .faults = &slow, .exchange = exchange};
  assert_all_ok(moerun__session_create_with(&session, model, &options, &extra));
  return session;
}

/* More rows on higher ranks; in one step on the last rank alone. */
static int32_t tokens_of(int step) {
  if (step == 2) return test_rank() == test_size() - 1 ? T : 0;
  return T * (test_rank() + 1) / test_size();
}

static void compare(const moerun_model *model, const setting *of, draw *from) {
  moerun_session *whole = open_session(model, of, NULL);
  moerun_session *other = open_session(model, of, &gathered_ops);
  /* A third comes and goes, and a fourth is asked for its size. */
  moerun_session_destroy(open_session(model, of, &gathered_ops));
  const size_t counts = (size_t)LAYERS * EXPERTS * sizeof(int64_t);
  int64_t rows = 0;
  for (int step = 0; step < STEPS; step++) {
    float x[T * H];
    float expected[T * H];
    float found[T * H];
    const int32_t tokens = tokens_of(step);
    const size_t bytes = (size_t)tokens * H * sizeof *x;
    rows += tokens;
    draw_floats(from, x, (size_t)T * H, -1, 1);
    assert_all_ok(moerun_moe_forward(whole, LAYER, tokens, x, expected));
    assert_all_ok(moerun_moe_forward(other, LAYER, tokens, x, found));
    assert_all_ranks(memcmp(found, expected, bytes) == 0);
  }
  assert_all_ranks(other->stats.waves == STEPS * of->chunks * test_size() &&
                   other->stats.results_out == whole->stats.results_out &&
                   other->stats.rows_out == rows * (test_size() - 1) &&
                   other->stats.rows_local == rows);
  assert_all_ranks(
      memcmp(whole->stats.expert_rows, other->stats.expert_rows, counts) == 0);
  /* Rank 0 is slow, and others have computed for it. */
  assert_all_ranks(other->stats.rows_moved == whole->stats.rows_moved &&
                   (of->balance == MOERUN_BALANCE_OFF || test_rank() > 0 ||
                    test_size() == 1 || other->stats.rows_moved > 0));
  moerun_session_destroy(whole);
  moerun_session_destroy(other);
}

static void another_exchange_gives_the_same_bits(void **state) {
  static const setting settings[] = {
      {1, MOERUN_WIRE_FP32, MOERUN_BALANCE_OFF},
      {3, MOERUN_WIRE_BF16, MOERUN_BALANCE_OFF},
      {2, MOERUN_WIRE_FP32, MOERUN_BALANCE_AUTO},
  };
  world w;
  moerun_model *model = NULL;
  draw from = {53, (uint64_t)(1000 * test_rank())};
  (void)state;
  assert_all_ok(moerun__faults_parse(&slow, "rank=0,compute=3x,clock=counted"));
  moerun__synth_options shape = small;
  shape.arch = "qwen3_moe";
  open_world(&w, shape);
  assert_all_ok(moerun_model_load(&model, w.comm, w.placement, w.path, NULL));
  for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
    compare(model, &settings[i], &from);
  }
  moerun_model_destroy(model);
  close_world(&w);
}

/* By a clock that counts calls of experts and no rows. */
static void each_expert_of_a_group_is_a_call(void **state) {
  static const setting plain = {1, MOERUN_WIRE_FP32, MOERUN_BALANCE_OFF};
  world w;
  moerun_model *model = NULL;
  float x[T * H] = {0};
  float y[T * H];
  int64_t called = 0;
  (void)state;
  if (test_size() > 1) skip(); /* there may be several waves */
  assert_all_ok(moerun__faults_parse(&slow, "rank=0,compute=3x,clock=counted"));
  moerun__synth_options shape = small;
  shape.arch = "qwen3_moe";
  open_world(&w, shape);
  assert_all_ok(moerun_model_load(&model, w.comm, w.placement, w.path, NULL));
  moerun_session *session = open_session(model, &plain, NULL);
  draw from = {59, 0};
  draw_floats(&from, x, (size_t)T * H, -1, 1);
  session->moe.balance.speed.call_seconds = 1;
  session->moe.balance.speed.row_seconds = 0;
  assert_all_ok(moerun_moe_forward(session, LAYER, T, x, y));
  for (int e = 0; e < LAYERS * EXPERTS; e++) {
    called += session->stats.expert_rows[e] > 0;
  }
  assert_true(called > 1);
  assert_true(session->moe.step.busy_seconds == 3 * (double)called);
  moerun_session_destroy(session);
  moerun_model_destroy(model);
  close_world(&w);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(another_exchange_gives_the_same_bits),
      cmocka_unit_test(each_expert_of_a_group_is_a_call),
  };
  if (MPI_Init(&argc, &argv) != MPI_SUCCESS) return EXIT_FAILURE;
  const int failed = cmocka_run_group_tests(tests, NULL, NULL);
  (void)MPI_Finalize();
  return failed;
}
