/* What comes from another rank is checked before it is used: a slot that does
 * not exist, a plan that differs. The rank that sees it says what it saw, and
 * no rank goes on; every wait of these comms ends after a few seconds. */
#include "runtime/base/rng.h"
#include "runtime/decoder/session.h"
#include "support/mpi_test.h"

#include <moerun/moerun_mpi.h>
#include <stdlib.h>
#include <string.h>

#define MODEL MOERUN_TEST_DATA "/hf/qwen3_moe_bf16"

enum { T = 24, H = 64, LAYER = 1 };

static const moerun__plan_options eager = {
    .threshold = 1000, .slack = 1000, .min_rows = 1, .min_rows_held = 1};

typedef struct rig {
  moerun_comm *comm; /* no use after a failure: each test has its own */
  moerun_placement *placement;
  moerun_model *model;
  moerun_session *session;
} rig;

/* Of each layer so many experts on the last rank, the others on rank 0. */
static void set_up_with(rig *r, moerun_balance balance, int32_t on_last) {
  moerun_model_shape shape = {.struct_size = sizeof shape};
  const moerun_mpi_options limits = {.struct_size = sizeof limits,
                                     .timeout_s = 3};
  const moerun_session_options options = {
      .max_tokens = T, .balance = balance, .guest_bytes = 1 << 20};
  const moerun__session_extra extra = {.plan = &eager};
  int32_t rank_of[64 * 4];
  memset(r, 0, sizeof *r);
  assert_all_ok(moerun_comm_create_mpi(&r->comm, MPI_COMM_WORLD, &limits));
  assert_all_ok(moerun_model_shape_load(&shape, MODEL));
  for (int32_t i = 0; i < shape.num_moe_layers * shape.num_experts; i++) {
    rank_of[i] = i % shape.num_experts < on_last ? test_size() - 1 : 0;
  }
  assert_all_ok(moerun_placement_create(&r->placement, shape.num_moe_layers,
                                        shape.num_experts, test_size(),
                                        rank_of));
  assert_all_ok(
      moerun_model_load(&r->model, r->comm, r->placement, MODEL, NULL));
  assert_all_ok(
      moerun__session_create_with(&r->session, r->model, &options, &extra));
}

/* All experts of all layers on the last rank. */
static void set_up(rig *r, moerun_balance balance) {
  set_up_with(r, balance, INT32_MAX);
}

/* Messages may be under way when a comm has failed: nobody leaves before all
 * have given up. */
static void tear_down(rig *r) {
  (void)MPI_Barrier(MPI_COMM_WORLD);
  moerun_session_destroy(r->session);
  moerun_model_destroy(r->model);
  moerun_placement_destroy(r->placement);
  moerun_comm_destroy(r->comm);
}

/* A step of random rows. */
static moerun_status step(rig *r) {
  static float x[T * H];
  static float y[T * H];
  for (size_t i = 0; i < (size_t)T * H; i++) {
    x[i] = (float)(moerun__uniform(7, (uint64_t)test_rank(), i) - 0.5);
  }
  return moerun_moe_forward(r->session, LAYER, T, x, y);
}

static int says(const char *words) {
  return strstr(moerun_last_error(), words) != NULL;
}

/* Rank 0 asks the last rank for a slot that it has not. */
static void slots_that_do_not_exist_are_refused(void **state) {
  (void)state;
  rig r;
  set_up(&r, MOERUN_BALANCE_OFF);
  const moerun_placement *p = r.placement;
  const int32_t first = p->replica_offset[0];
  const int32_t end = p->replica_offset[p->num_layers * p->num_experts];
  for (int32_t i = first; i < end && test_rank() == 0; i++) {
    p->slot_of[i] = p->num_experts;
  }
  const moerun_status found = step(&r);
  assert_all_ranks(found != MOERUN_OK);
  if (test_rank() == test_size() - 1) {
    assert_int_equal(found, MOERUN_ERR_COMM);
    assert_true(says("rank 0 asked for expert slot"));
  }
  tear_down(&r);
}

/* Each other rank announces as many rows as there are tokens; the last one has
 * room for one less. */
static void more_rows_than_there_is_room_for_are_refused(void **state) {
  (void)state;
  rig r;
  const int last = test_rank() == test_size() - 1;
  set_up(&r, MOERUN_BALANCE_OFF);
  if (last) r.session->moe.shape.chunk_tokens = T - 1;
  const moerun_status found = step(&r);
  assert_all_ranks(found != MOERUN_OK);
  if (last) {
    assert_int_equal(found, MOERUN_ERR_COMM);
    assert_true(says("rank 0 announced 24 rows: expected at most 23"));
  }
  tear_down(&r);
}

/* The last rank has room for a term less of each row than rank 0 asks for. */
static void more_experts_of_a_row_than_there_are_are_refused(void **state) {
  (void)state;
  rig r;
  moerun_model_shape shape = {.struct_size = sizeof shape};
  if (test_size() == 1) skip();
  assert_all_ok(moerun_model_shape_load(&shape, MODEL));
  const int32_t K = shape.experts_per_token;
  set_up_with(&r, MOERUN_BALANCE_OFF, K - 1);
  const moerun_placement *p = r.placement;
  const int32_t first = p->replica_offset[0];
  const int32_t end = p->replica_offset[p->num_layers * p->num_experts];
  for (int32_t i = first; i < end && test_rank() == 0; i++) {
    p->rank_of[i] = test_size() - 1;
    p->slot_of[i] = 0;
  }
  const moerun_status found = step(&r);
  assert_all_ranks(found != MOERUN_OK);
  if (test_rank() == test_size() - 1) {
    char words[96];
    (void)snprintf(words, sizeof words,
                   "rank 0 asked for %d experts of a row: expected at most %d",
                   K, K - 1);
    assert_int_equal(found, MOERUN_ERR_COMM);
    assert_true(says(words));
  }
  tear_down(&r);
}

/* ---- What is told is changed on its way ---------------------------------- */

static const moerun__comm_ops *honest;
static void (*change)(moerun__moe *moe, const moerun__news *news);
static moerun__moe *liar; /* of this rank */

static moerun_status tell_changed(moerun_comm *comm, const moerun__news *news) {
  if (liar != NULL) change(liar, news);
  return honest->tell(comm, news);
}

/* A step in which rank `who` tells what `lie` makes of its words. */
static moerun_status step_with_lie(rig *r, int who,
                                   void (*lie)(moerun__moe *,
                                               const moerun__news *)) {
  static moerun__comm_ops ops;
  honest = r->comm->ops;
  ops = *honest;
  ops.tell = tell_changed;
  r->comm->ops = &ops;
  change = lie;
  liar = test_rank() == who ? &r->session->moe : NULL;
  const moerun_status found = step(r);
  r->comm->ops = honest;
  return found;
}

static void tell_negative_tokens(moerun__moe *moe, const moerun__news *news) {
  if (news->width != MOERUN_TOLD_WORDS) return;
  news->words[moe->model->comm->rank * news->width + MOERUN_TOLD_TOKENS] = -5;
}

static void a_step_of_less_than_no_tokens_is_refused(void **state) {
  (void)state;
  rig r;
  if (test_size() == 1) skip();
  for (int who = 0; who < test_size(); who++) {
    char words[96];
    set_up(&r, MOERUN_BALANCE_AUTO);
    assert_all_ok(step(&r));
    const moerun_status found = step_with_lie(&r, who, tell_negative_tokens);
    (void)snprintf(words, sizeof words, "rank %d announced a step of -5 tokens",
                   who);
    assert_all_ranks(found == MOERUN_ERR_COMM);
    assert_all_ranks(says(words));
    tear_down(&r);
  }
}

static void announce_a_row_to_rank_0(moerun__moe *moe,
                                     const moerun__news *news) {
  if (news->count_width > 0) moe->exchange.count_out[0] = 1;
}

/* Rank 0 has no expert, and so no room for rows of others. */
static void rows_for_a_rank_without_room_are_refused(void **state) {
  (void)state;
  rig r;
  if (test_size() == 1) skip();
  set_up(&r, MOERUN_BALANCE_OFF);
  const moerun_status found =
      step_with_lie(&r, test_size() - 1, announce_a_row_to_rank_0);
  if (test_rank() == 0) {
    char words[96];
    (void)snprintf(words, sizeof words,
                   "rank %d announced 1 rows: expected at most 0",
                   test_size() - 1);
    assert_int_equal(found, MOERUN_ERR_COMM);
    assert_true(says(words));
  }
  tear_down(&r);
}

/* The counts that come after moving are those without any other news. */
static void announce_too_many_moved(moerun__moe *moe,
                                    const moerun__news *news) {
  if (news->count_width == 0 || news->num_least > 0) return;
  moe->exchange.count_out[(moe->model->comm->size - 1) * news->count_width] =
      T + 1;
}

static void counts_after_moving_are_checked(void **state) {
  (void)state;
  rig r;
  if (test_size() == 1) skip();
  set_up(&r, MOERUN_BALANCE_AUTO);
  assert_all_ok(step(&r));
  const moerun_status found = step_with_lie(&r, 0, announce_too_many_moved);
  if (test_rank() == test_size() - 1) {
    assert_int_equal(found, MOERUN_ERR_COMM);
    assert_true(says("rank 0 announced 25 rows: expected at most 24"));
  }
  tear_down(&r);
}

/* ---- Plans --------------------------------------------------------------- */

/* The last rank gives away no more than it must, the others reckon
 * otherwise. */
static void plans_that_differ_are_noticed(void **state) {
  (void)state;
  rig r;
  if (test_size() == 1) skip();
  set_up(&r, MOERUN_BALANCE_AUTO);
  assert_all_ok(step(&r)); /* alike */
  if (test_rank() == 0) r.session->moe.balance.options.slack = 1500;
  const moerun_status found = step(&r);
  assert_all_ranks(found == MOERUN_ERR_COMM);
  assert_all_ranks(says("has made another plan of the same counts"));
  tear_down(&r);
}

/* Of as many moves: first in what all compare, then in what names the rank. */
static void tell_another_digest(moerun__moe *moe, const moerun__news *news) {
  if (news->width == 1) news->words[moe->model->comm->rank] ^= 1;
  if (news->num_least != 2) return;
  news->least[0] ^= 1;
  news->least[1] = ~news->least[0];
}

static void a_plan_of_as_many_moves_is_named(void **state) {
  (void)state;
  rig r;
  if (test_size() == 1) skip();
  for (int who = 0; who < test_size(); who++) {
    char words[96];
    set_up(&r, MOERUN_BALANCE_AUTO);
    assert_all_ok(step(&r));
    const moerun_status found = step_with_lie(&r, who, tell_another_digest);
    (void)snprintf(words, sizeof words,
                   "rank %d has made another plan of the same counts", who);
    assert_all_ranks(found == MOERUN_ERR_COMM);
    assert_all_ranks(says(words));
    tear_down(&r);
  }
}

/* A step is refused on all ranks, and not for the limit, if `rank` makes
 * another plan. */
static void refuse_other_plan_of(int rank, void (*alter)(moerun__balance *)) {
  rig r;
  set_up(&r, MOERUN_BALANCE_AUTO);
  assert_all_ok(step(&r)); /* alike */
  if (test_rank() == rank) alter(&r.session->moe.balance);
  const moerun_status found = step(&r);
  assert_all_ranks(found == MOERUN_ERR_COMM);
  assert_all_ranks(says("has made another plan of the same counts"));
  tear_down(&r);
}

static void never_move(moerun__balance *balance) {
  balance->options.threshold = INT32_MAX;
  balance->options.threshold_held = INT32_MAX;
}

/* A rank that moves nothing has nothing to compare: it waits for rows, or where
 * it needs none, tells of the next layer. */
static void a_plan_without_moves_is_noticed(void **state) {
  (void)state;
  if (test_size() == 1) skip();
  for (int rank = 0; rank < test_size(); rank++) {
    refuse_other_plan_of(rank, never_move);
  }
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(slots_that_do_not_exist_are_refused),
      cmocka_unit_test(more_rows_than_there_is_room_for_are_refused),
      cmocka_unit_test(more_experts_of_a_row_than_there_are_are_refused),
      cmocka_unit_test(a_step_of_less_than_no_tokens_is_refused),
      cmocka_unit_test(rows_for_a_rank_without_room_are_refused),
      cmocka_unit_test(counts_after_moving_are_checked),
      cmocka_unit_test(plans_that_differ_are_noticed),
      cmocka_unit_test(a_plan_of_as_many_moves_is_named),
      cmocka_unit_test(a_plan_without_moves_is_noticed),
  };
  if (MPI_Init(&argc, &argv) != MPI_SUCCESS) return EXIT_FAILURE;
  const int failed = cmocka_run_group_tests(tests, NULL, NULL);
  (void)MPI_Finalize();
  return failed;
}
