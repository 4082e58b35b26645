/* What a layer costs before any row travels, in bytes of this rank. All experts
 * are on the last rank, so that nobody has rows for any other. */
#include "runtime/base/rng.h"
#include "runtime/decoder/session.h"
#include "support/mpi_test.h"

#include <moerun/moerun_mpi.h>
#include <stdlib.h>

#define MODEL MOERUN_TEST_DATA "/hf/qwen3_moe_bf16"

enum { T = 7, H = 64, LAYER = 1 };

typedef struct rig {
  moerun_comm *comm;
  moerun_placement *placement;
  moerun_model *model;
  moerun_session *session;
} rig;

static void set_up(rig *r, moerun_balance balance, int32_t chunks) {
  moerun_model_shape shape = {.struct_size = sizeof shape};
  const moerun_session_options options = {.struct_size = sizeof options,
                                          .max_tokens = T,
                                          .balance = balance,
                                          .chunks = chunks};
  static const moerun__plan_options idle = {.threshold = 1 << 20,
                                            .threshold_held = 1 << 20,
                                            .slack = 1000,
                                            .min_rows = 1,
                                            .min_rows_held = 1};
  const moerun__session_extra extra = {.plan = &idle};
  int32_t rank_of[64 * 4];
  assert_all_ok(moerun_comm_create_mpi(&r->comm, MPI_COMM_WORLD, NULL));
  assert_all_ok(moerun_model_shape_load(&shape, MODEL));
  for (int32_t i = 0; i < shape.num_moe_layers * shape.num_experts; i++) {
    rank_of[i] = test_size() - 1;
  }
  assert_all_ok(moerun_placement_create(&r->placement, shape.num_moe_layers,
                                        shape.num_experts, test_size(),
                                        rank_of));
  assert_all_ok(
      moerun_model_load(&r->model, r->comm, r->placement, MODEL, NULL));
  assert_all_ok(
      moerun__session_create_with(&r->session, r->model, &options, &extra));
}

static void tear_down(rig *r) {
  moerun_session_destroy(r->session);
  moerun_model_destroy(r->model);
  moerun_placement_destroy(r->placement);
  moerun_comm_destroy(r->comm);
}

/* Bytes of a layer of random rows. */
static int64_t count_bytes(rig *r) {
  static float x[T * H];
  static float y[T * H];
  const int64_t was = r->comm->count.count_bytes;
  for (size_t i = 0; i < (size_t)T * H; i++) {
    x[i] = (float)(moerun__uniform(7, (uint64_t)test_rank(), i) - 0.5);
  }
  assert_all_ok(moerun_moe_forward(r->session, LAYER, T, x, y));
  return r->comm->count.count_bytes - was;
}

static int32_t rounds_of(int32_t R) {
  int32_t rounds = 0;
  while (1 << rounds < R) {
    rounds++;
  }
  return rounds;
}

/* Each message begins with the number of its words, and says that all are well
 * and, in two words, in which layer; R - 1 words say how many ranks have counts
 * for each. Counts go to the last rank alone. */
static void rows_are_counted_to_those_that_get_some(void **state) {
  (void)state;
  const int R = test_size();
  const int is_last = test_rank() == R - 1;
  for (int32_t chunks = 1; chunks <= 3; chunks++) {
    rig r = {0};
    set_up(&r, MOERUN_BALANCE_OFF, chunks);
    assert_all_ranks(count_bytes(&r) ==
                     4 * rounds_of(R) + R - 1 + (is_last ? 0 : 4 * chunks));
    tear_down(&r);
  }
}

/* Beside that a sum for each expert, of one byte or two, in each round; a few
 * sums more, and four words that each rank tells of itself: of five bytes at
 * most. */
static void experts_are_summed(void **state) {
  (void)state;
  enum { SUMS = 7, TOLD = 4 };
  const int R = test_size();
  const int is_last = test_rank() == R - 1;
  rig r = {0};
  if (R == 1) skip(); /* nothing to balance */
  set_up(&r, MOERUN_BALANCE_AUTO, 1);
  const int64_t E = r.model->config.num_experts;
  const int64_t least =
      (4 + SUMS + E) * rounds_of(R) + (TOLD + 1) * (R - 1) + (is_last ? 0 : 4);
  const int64_t most = (9 + 5 * SUMS + 2 * E) * rounds_of(R) +
                       (5 * TOLD + 1) * (R - 1) + (is_last ? 0 : 4);
  const int64_t found = count_bytes(&r);
  assert_all_ranks(found >= least && found <= most);
  assert_all_ranks(r.session->moe.balance.plan.num_moves == 0);
  tear_down(&r);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(rows_are_counted_to_those_that_get_some),
      cmocka_unit_test(experts_are_summed),
  };
  if (MPI_Init(&argc, &argv) != MPI_SUCCESS) return EXIT_FAILURE;
  const int failed = cmocka_run_group_tests(tests, NULL, NULL);
  (void)MPI_Finalize();
  return failed;
}
