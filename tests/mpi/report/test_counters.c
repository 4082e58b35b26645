/* What a program is told of its session: every row is somewhere, bytes are
 * those of the rows, and counts of experts make a placement. */
#include "runtime/base/rng.h"
#include "runtime/moe/agree.h"
#include "runtime/report/report.h"
#include "support/mpi_test.h"

#include <moerun/moerun_mpi.h>
#include <stdlib.h>
#include <string.h>

enum { T = 48, STEPS = 3, FIELDS = 8, CONTROL = 24, MAX_R = 8 };

static moerun_comm *comm;
static const char model_path[] = MOERUN_TEST_DATA "/hf/qwen3_moe";

typedef struct rig {
  moerun_model_shape shape;
  moerun_placement *placement;
  moerun_model *model;
  moerun_session *session;
  float *x;
  float *y;
} rig;

static void set_up(rig *r, const moerun_placement *placement,
                   moerun_balance balance) {
  const moerun_model_options layers_only = {.struct_size = sizeof layers_only,
                                            .moe_only = 1};
  const moerun_session_options options = {.struct_size = sizeof options,
                                          .max_tokens = T,
                                          .chunks = 2,
                                          .balance = balance};
  memset(r, 0, sizeof *r);
  r->shape.struct_size = sizeof r->shape;
  assert_all_ok(moerun_model_shape_load(&r->shape, model_path));
  if (placement == NULL) {
    assert_all_ok(
        moerun_placement_create_block(&r->placement, r->shape.num_moe_layers,
                                      r->shape.num_experts, test_size()));
    placement = r->placement;
  }
  assert_all_ok(
      moerun_model_load(&r->model, comm, placement, model_path, &layers_only));
  assert_all_ok(moerun_session_create(&r->session, r->model, &options));
  const size_t count = T * (size_t)r->shape.hidden_width;
  r->x = calloc(count, sizeof *r->x);
  r->y = calloc(count, sizeof *r->y);
  for (size_t i = 0; i < count; i++) {
    r->x[i] = (float)(4 * moerun__uniform(5, (uint64_t)test_rank(), i) - 2);
  }
}

static void tear_down(rig *r) {
  moerun_session_destroy(r->session);
  moerun_model_destroy(r->model);
  moerun_placement_destroy(r->placement);
  free(r->x);
  free(r->y);
}

static int32_t rows_of(int32_t rank) {
  return T / (1 + rank % 3);
}

static moerun_counters step(const rig *r) {
  moerun_counters c = {.struct_size = sizeof c};
  for (int32_t l = 0; l < r->shape.num_layers * STEPS; l++) {
    assert_all_ok(moerun_moe_forward(r->session, l % r->shape.num_layers,
                                     rows_of(test_rank()), r->x, r->y));
  }
  assert_all_ok(moerun_session_counters(r->session, &c));
  return c;
}

/* sum[FIELDS] over ranks. */
static void add_up(int64_t *sum, const moerun_counters *c) {
  const int64_t own[FIELDS] = {c->home_rows, c->rows_local,  c->rows_out,
                               c->rows_in,   c->results_out, c->expert_rows,
                               c->row_bytes, c->messages};
  (void)MPI_Allreduce(own, sum, FIELDS, MPI_INT64_T, MPI_SUM, MPI_COMM_WORLD);
}

static void every_row_is_somewhere(void **state) {
  (void)state;
  rig r;
  int64_t sum[FIELDS];
  set_up(&r, NULL, MOERUN_BALANCE_OFF);
  const moerun_counters c = step(&r);
  const int64_t layers = (int64_t)r.shape.num_layers * STEPS;
  int64_t tokens = 0;
  for (int32_t i = 0; i < test_size(); i++) {
    tokens += rows_of(i);
  }
  add_up(sum, &c);
  assert_all_ranks(c.steps == layers);
  assert_all_ranks(c.home_rows == layers * rows_of(test_rank()));
  assert_all_ranks(sum[0] == layers * tokens);
  assert_all_ranks(sum[5] == sum[0] * r.shape.experts_per_token);
  assert_all_ranks(sum[2] == sum[3]);
  assert_all_ranks(test_size() > 2 || c.rows_in == sum[2] - c.rows_out);
  assert_all_ranks(sum[1] + sum[2] >= sum[0]);
  assert_all_ranks(sum[1] + sum[2] <= sum[5]);
  const moerun__model_config *config = &r.model->config;
  assert_all_ranks(
      sum[6] ==
      sum[2] * (int64_t)moerun__copy_bytes(config, MOERUN_DTYPE_F32) +
          sum[4] * (int64_t)moerun__result_bytes(config, MOERUN_DTYPE_F32));
  /* At most one message for each chunk, peer, way and layer. */
  assert_all_ranks((sum[7] > 0) == (test_size() > 1));
  assert_all_ranks(c.messages <= 2 * 2 * (test_size() - 1) * layers);
  assert_all_ranks((c.other_bytes > 0) == (test_size() > 1));
  assert_all_ranks(c.rows_moved == 0 && c.weights_out == 0);
  tear_down(&r);
}

static void seconds_go_to_stages(void **state) {
  (void)state;
  rig r;
  set_up(&r, NULL, MOERUN_BALANCE_OFF);
  const moerun_counters c = step(&r);
  double experts = 0;
  double sum = 0;
  int32_t stages = 0;
  while (moerun_stage_name(stages) != NULL) {
    if (strcmp(moerun_stage_name(stages), "experts") == 0) {
      experts = c.seconds[stages];
    }
    sum += c.seconds[stages++];
  }
  assert_all_ranks(stages > 0 && stages <= MOERUN_MAX_STAGES);
  assert_all_ranks(moerun_stage_name(-1) == NULL);
  assert_all_ranks((experts > 0) == (c.expert_rows > 0));
  for (int32_t i = stages; i < MOERUN_MAX_STAGES; i++) {
    assert_all_ranks(c.seconds[i] == 0);
  }
  assert_all_ranks(sum < 60);
  tear_down(&r);
}

/* A session begins at 0, whatever its comm has sent before. */
static void sessions_count_for_themselves(void **state) {
  (void)state;
  rig first;
  rig second;
  moerun_counters c = {.struct_size = sizeof c, .steps = 9};
  set_up(&first, NULL, MOERUN_BALANCE_OFF);
  (void)step(&first);
  set_up(&second, NULL, MOERUN_BALANCE_AUTO);
  assert_all_ok(moerun_session_counters(second.session, &c));
  assert_all_ranks(c.steps == 0 && c.row_bytes == 0 && c.messages == 0 &&
                   c.other_bytes == 0 && c.expert_rows == 0);
  c.struct_size = 0;
  assert_all_ranks(moerun_session_counters(second.session, &c) ==
                   MOERUN_ERR_INVALID);
  tear_down(&second);
  tear_down(&first);
}

/* A report of all ranks says the same as their counters, and as little of what
 * was sent before the session. */
static void the_report_counts_the_same(void **state) {
  (void)state;
  rig first;
  rig second;
  moerun__report *report = NULL;
  int64_t sum[FIELDS];
  set_up(&first, NULL, MOERUN_BALANCE_OFF);
  (void)step(&first);
  set_up(&second, NULL, MOERUN_BALANCE_AUTO);
  for (int steps = 0; steps < 2; steps++) {
    moerun_counters c = {.struct_size = sizeof c};
    if (steps > 0) c = step(&second);
    assert_all_ok(moerun_session_counters(second.session, &c));
    int64_t other = c.other_bytes;
    add_up(sum, &c);
    (void)MPI_Allreduce(MPI_IN_PLACE, &other, 1, MPI_INT64_T, MPI_SUM,
                        MPI_COMM_WORLD);
    assert_all_ok(moerun__report_collect(&report, second.session, 1));
    const moerun__report none = {.count = {0}};
    const moerun__report *found = report != NULL ? report : &none;
    const moerun__comm_count *count = &found->count;
    const int is_root = test_rank() == 0;
    assert_all_ranks(is_root == (report != NULL));
    assert_all_ranks(!is_root ||
                     (count->row_bytes == sum[6] && count->messages == sum[7] &&
                      count->count_bytes + count->control_bytes == other));
    assert_all_ranks(!is_root || (found->home_rows == sum[0] &&
                                  found->rows_local == sum[1] &&
                                  found->rows_out == sum[2] &&
                                  found->results_out == sum[4]));
    assert_all_ranks((sum[6] > 0) == (steps > 0 && test_size() > 1));
    moerun__report_destroy(report);
  }
  tear_down(&second);
  tear_down(&first);
}

/* A message of CONTROL bytes from each rank to each other one, as those of
 * requests. */
static void send_control(void) {
  static char from[MAX_R * CONTROL];
  static char to[MAX_R * CONTROL];
  int32_t offset[MAX_R + 1] = {0};
  moerun__transfer *transfer = NULL;
  for (int32_t r = 0; r < test_size(); r++) {
    offset[r + 1] = r + 1;
  }
  const moerun__row_list in = {from, CONTROL,     offset,
                               0,    test_size(), MOERUN_MEMORY_HOST};
  const moerun__row_list out = {to, CONTROL,     offset,
                                0,  test_size(), MOERUN_MEMORY_HOST};
  assert_all_ok(
      comm->ops->transfer_create(&transfer, comm, 0, MOERUN_MEMORY_HOST));
  assert_all_ok(comm->ops->receive_begin(transfer, MOERUN_TAG_CONTROL, &in));
  assert_all_ok(comm->ops->send_begin(transfer, MOERUN_TAG_CONTROL, &out));
  assert_all_ok(comm->ops->wait(transfer));
  comm->ops->transfer_destroy(transfer);
}

/* Without balancing all numbers follow from the rows: ranks' counters, and the
 * report as the sum of them. */
static void the_report_adds_up(void **state) {
  (void)state;
  enum { WAVES, ROWS, CONTROLS, SUMS };
  rig r;
  moerun__report *report = NULL;
  int64_t sum[SUMS];
  set_up(&r, NULL, MOERUN_BALANCE_OFF);
  const moerun_counters before = step(&r);
  send_control();
  moerun_counters c = {SIZED(c)};
  assert_all_ok(moerun_session_counters(r.session, &c));
  const int64_t control = CONTROL * (test_size() - 1);
  assert_all_ranks(c.other_bytes - before.other_bytes == control);
  /* A wave for each chunk: there is room for the rows of all. */
  const int64_t waves = 2 * (int64_t)r.shape.num_layers * STEPS;
  assert_all_ranks(r.session->stats.waves == waves);
  const int64_t own[SUMS] = {r.session->stats.waves, c.rows_out + c.results_out,
                             control};
  (void)MPI_Allreduce(own, sum, SUMS, MPI_INT64_T, MPI_SUM, MPI_COMM_WORLD);
  assert_all_ok(moerun__report_collect(&report, r.session, 1));
  int ok = (report != NULL) == (test_rank() == 0);
  if (report != NULL) {
    ok = ok && report->waves == sum[WAVES] && report->count.rows == sum[ROWS] &&
         report->count.control_bytes == sum[CONTROLS];
  }
  assert_all_ranks(ok);
  moerun__report_destroy(report);
  tear_down(&r);
}

/* What a rank tells of its layer is in microseconds. */
static void busy_time_is_told_in_microseconds(void **state) {
  (void)state;
  rig r;
  int32_t told[MOERUN_TOLD_WORDS] = {0};
  set_up(&r, NULL, MOERUN_BALANCE_OFF);
  r.session->moe.step.busy_seconds = 0.25;
  r.session->moe.step.computed_rows = 7;
  moerun__tell_of_layer(&r.session->moe, told);
  assert_all_ranks(told[MOERUN_TOLD_BUSY] == 250000);
  assert_all_ranks(told[MOERUN_TOLD_ROWS] == 7);
  r.session->moe.step.busy_seconds = 1e9;
  moerun__tell_of_layer(&r.session->moe, told);
  assert_all_ranks(told[MOERUN_TOLD_BUSY] == INT32_MAX);
  tear_down(&r);
}

/* The loop of a program: run, add up, solve, run again with the same bits. */
static void counts_make_a_placement(void **state) {
  (void)state;
  rig r;
  rig placed;
  moerun_placement *placement = NULL;
  set_up(&r, NULL, MOERUN_BALANCE_OFF);
  const moerun_counters c = step(&r);
  const int32_t experts = r.shape.num_moe_layers * r.shape.num_experts;
  int64_t *counts = calloc((size_t)experts, sizeof *counts);
  (void)MPI_Allreduce(c.rows_of_expert, counts, experts, MPI_INT64_T, MPI_SUM,
                      MPI_COMM_WORLD);
  const moerun_placement_problem problem = {.struct_size = sizeof problem,
                                            .counts = counts,
                                            .num_layers =
                                                r.shape.num_moe_layers,
                                            .num_experts = r.shape.num_experts,
                                            .num_ranks = test_size(),
                                            .method = "lpt"};
  assert_all_ok(moerun_placement_solve(&placement, &problem));
  set_up(&placed, placement, MOERUN_BALANCE_OFF);
  const moerun_counters after = step(&placed);
  assert_all_ranks(memcmp(r.y, placed.y,
                          (size_t)rows_of(test_rank()) *
                              (size_t)r.shape.hidden_width * sizeof *r.y) == 0);
  int64_t most[2] = {c.expert_rows, after.expert_rows};
  (void)MPI_Allreduce(MPI_IN_PLACE, most, 2, MPI_INT64_T, MPI_MAX,
                      MPI_COMM_WORLD);
  assert_all_ranks(most[1] <= most[0]);
  tear_down(&placed);
  moerun_placement_destroy(placement);
  free(counts);
  tear_down(&r);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_row_is_somewhere),
      cmocka_unit_test(seconds_go_to_stages),
      cmocka_unit_test(sessions_count_for_themselves),
      cmocka_unit_test(the_report_counts_the_same),
      cmocka_unit_test(the_report_adds_up),
      cmocka_unit_test(busy_time_is_told_in_microseconds),
      cmocka_unit_test(counts_make_a_placement),
  };
  (void)MPI_Init(&argc, &argv);
  if (moerun_comm_create_mpi(&comm, MPI_COMM_WORLD, NULL) != MOERUN_OK) {
    return 1;
  }
  const int failed = cmocka_run_group_tests(tests, NULL, NULL);
  moerun_comm_destroy(comm);
  (void)MPI_Finalize();
  return failed;
}
