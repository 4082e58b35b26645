/* Weights of guests on their way through several ranks: who sends how many, and
 * that outputs keep every bit whatever is sent on, in any order and through any
 * number of ranks. One expert per token, and rows that are the gate's own rows
 * of the experts that they shall go to. */
#include "runtime/base/rng.h"
#include "runtime/decoder/session.h"
#include "runtime/model/synth.h"
#include "runtime/report/report.h"
#include "support/mpi_test.h"
#include "support/temp_dir.h"

#include <moerun/moerun_mpi.h>
#include <stdlib.h>
#include <string.h>

enum { T = 48, H = 64, E = 32, LAYER = 0, MAX_R = 8 };

static moerun_comm *comm;
static temp_dir folder;
static char model_path[TEMP_PATH];

typedef struct rig {
  moerun_placement *placement;
  moerun_model *model;
  moerun_session *plain;
  moerun_session *balanced;
  int64_t weights_out; /* before the last step */
  int64_t waves;
} rig;

typedef enum layout { BLOCKS, ALL_ON_FIRST } layout;

static const moerun__plan_options eager = {
    .threshold = 1000, .slack = 1000, .min_rows = 1, .min_rows_held = 1};

static moerun__transfer *waited[256];
static int num_waited;
static const moerun__comm_ops *plain_ops;
static moerun_status note_wait(moerun__transfer *t) {
  if (num_waited < 256) waited[num_waited++] = t;
  return plain_ops->wait(t);
}
static int was_waited(const moerun__transfer *t) {
  for (int i = 0; i < num_waited; i++) {
    if (waited[i] == t) return 1;
  }
  return 0;
}

static void set_up(rig *r, layout where, int32_t chunks,
                   const moerun__plan_options *plan) {
  int32_t rank_of[E] = {0};
  moerun_session_options options = {.max_tokens = T,
                                    .chunks = chunks,
                                    .balance = MOERUN_BALANCE_OFF,
                                    .guest_bytes = 1 << 20};
  const moerun__session_extra extra = {.plan = plan};
  memset(r, 0, sizeof *r);
  for (int32_t e = 0; e < E && where == BLOCKS; e++) {
    rank_of[e] = e * test_size() / E;
  }
  assert_all_ok(
      moerun_placement_create(&r->placement, 1, E, test_size(), rank_of));
  const moerun_model_options model = {.struct_size = sizeof model,
                                      .moe_only = 1};
  assert_all_ok(
      moerun_model_load(&r->model, comm, r->placement, model_path, &model));
  assert_all_ok(
      moerun__session_create_with(&r->plain, r->model, &options, &extra));
  options.balance = MOERUN_BALANCE_AUTO;
  assert_all_ok(
      moerun__session_create_with(&r->balanced, r->model, &options, &extra));
}

static void tear_down(rig *r) {
  moerun_session_destroy(r->plain);
  moerun_session_destroy(r->balanced);
  moerun_model_destroy(r->model);
  moerun_placement_destroy(r->placement);
}

/* One step with and without balancing; token t wants expert wanted[t]. */
static void step(rig *r, int32_t tokens, const int32_t wanted[T],
                 uint64_t key) {
  static float x[T * H];
  static float want[T * H];
  static float found[T * H];
  const size_t bytes = (size_t)tokens * H * sizeof(float);
  for (int32_t t = 0; t < tokens; t++) {
    moerun__weight_row(x + t * H, &r->model->layers[LAYER].gate, wanted[t]);
    for (int32_t i = 0; i < H; i++) {
      const uint64_t at = (uint64_t)(t * H + i);
      x[t * H + i] *= 64;
      x[t * H + i] +=
          0.1F * (float)moerun__uniform(key, (uint64_t)test_rank(), at);
    }
  }
  r->weights_out = r->balanced->stats.weights_out;
  r->waves = r->balanced->stats.waves;
  assert_all_ok(moerun_moe_forward(r->plain, LAYER, tokens, x, want));
  static moerun__comm_ops ops;
  plain_ops = comm->ops;
  ops = *plain_ops;
  ops.wait = note_wait;
  comm->ops = &ops;
  num_waited = 0;
  assert_all_ok(moerun_moe_forward(r->balanced, LAYER, tokens, x, found));
  comm->ops = plain_ops;
  const moerun__guests *g = &r->balanced->moe.store.guests;
  const int64_t pieces =
      MOERUN_EXPERT_PIECES * (r->balanced->stats.weights_out - r->weights_out);
  int all_waited = 1;
  for (int i = 0; i < pieces && i < MOERUN_GUEST_SENDS; i++) {
    all_waited = all_waited && was_waited(g->out[i]);
  }
  assert_all_ranks(all_waited);
  assert_all_ranks((size_t)g->table->per_rank * g->each_bytes <= g->room_bytes);
  assert_all_ranks(g->room_bytes < 1 << 20);
  assert_all_ranks(memcmp(want, found, bytes) == 0);
  int steered = 1;
  for (int32_t t = 0; t < tokens; t++) {
    steered &= r->balanced->moe.gate.ids[t] == wanted[t];
  }
  assert_all_ranks(steered);
}

static int64_t weights_out(const rig *r) {
  return r->balanced->stats.weights_out - r->weights_out;
}

static int64_t sum_over_ranks(int64_t value) {
  int64_t sum = 0;
  (void)MPI_Allreduce(&value, &sum, 1, MPI_INT64_T, MPI_SUM, MPI_COMM_WORLD);
  return sum;
}

/* Every rank knows the same of who holds what. */
static void assert_one_table(const rig *r) {
  const moerun__guest_table *table =
      moerun__store_guest_table(&r->balanced->moe.store);
  const int32_t count = table->num_ranks * table->per_rank;
  int64_t *first = NULL;
  assert_all_ranks((first = malloc((size_t)count * sizeof *first)) != NULL);
  memcpy(first, table->key, (size_t)count * sizeof *first);
  (void)MPI_Bcast(first, count, MPI_INT64_T, 0, MPI_COMM_WORLD);
  assert_all_ranks(memcmp(first, table->key, (size_t)count * sizeof *first) ==
                   0);
  free(first);
}

static int32_t log2_up(int32_t n) {
  int32_t log = 0;
  while ((1 << log) < n) {
    log++;
  }
  return log;
}

/* ---- Counts -------------------------------------------------------------- */

/* What rank 0 reports of the balanced session. */
static void assert_report(rig *r, int64_t rows_moved, int64_t weights) {
  const int64_t bytes =
      moerun__store_expert_bytes(&r->balanced->moe.store, LAYER);
  moerun__report *report = NULL;
  assert_all_ok(moerun__report_collect(&report, r->balanced, 1));
  assert_all_ranks(report == NULL || (report->rows_moved == rows_moved &&
                                      report->weights_sent == weights &&
                                      report->weight_bytes == weights * bytes));
  moerun__report_destroy(report);
}

/* All rows want expert 0: rank r has it from turn ceil(log2(r + 1)) on and
 * sends it in every turn after that; in the last one only if somebody wants
 * it. */
static void one_hot_expert(void **state) {
  (void)state;
  const int32_t R = test_size();
  const int32_t wanted[T] = {0};
  rig r;
  set_up(&r, BLOCKS, 1, &eager);
  step(&r, T, wanted, 1);
  assert_int_equal(sum_over_ranks(weights_out(&r)), R - 1);
  const int64_t turns_left = log2_up(R) - log2_up(test_rank() + 1);
  assert_all_ranks(weights_out(&r) <= turns_left);
  assert_all_ranks((R & (R - 1)) != 0 || weights_out(&r) == turns_left);
  int32_t from[MAX_R] = {0};
  const moerun__plan *plan = &r.balanced->moe.balance.plan;
  for (int32_t i = 0; i < plan->num_sends; i++) {
    from[plan->sends[i].from]++;
  }
  assert_all_ranks(weights_out(&r) == from[test_rank()]);
  /* Rank 0 gives all of its rows but an even share. */
  const int64_t given = test_rank() == 0 ? T * (R - 1) : 0;
  moerun_counters c = {SIZED(c)};
  assert_all_ok(moerun_session_counters(r.balanced, &c));
  assert_all_ranks(r.balanced->stats.rows_moved == given);
  assert_all_ranks(c.rows_moved == given);
  assert_all_ranks(c.weights_out == from[test_rank()]);
  assert_report(&r, T * (R - 1), R - 1);
  assert_one_table(&r);
  step(&r, T, wanted, 2); /* they are guests by now */
  assert_all_ranks(weights_out(&r) == 0);
  tear_down(&r);
}

/* Expert 0 is hot for the first half of the ranks, then for all of them: those
 * that hold it send it to the others, all in one turn. */
static void holders_send(void **state) {
  (void)state;
  const int32_t R = test_size();
  if (R % 2 != 0) skip();
  rig r;
  int32_t wanted[T] = {0};
  set_up(&r, BLOCKS, 1, &eager);
  /* Ranks of the second half are busy with experts of their own. */
  for (int32_t t = 0; t < T; t++) {
    const int32_t owner = R / 2 + t % (R / 2);
    wanted[t] = t < T / 2 ? 0 : (owner * E + R - 1) / R;
  }
  step(&r, T, wanted, 1);
  assert_int_equal(sum_over_ranks(weights_out(&r)), R / 2 - 1);
  memset(wanted, 0, sizeof wanted);
  step(&r, T, wanted, 2);
  assert_all_ranks(weights_out(&r) == (test_rank() < R / 2));
  assert_one_table(&r);
  tear_down(&r);
}

/* All experts on one rank, and more of them leave it than messages at once. */
static void many_hot_experts(void **state) {
  (void)state;
  const int32_t R = test_size();
  rig r;
  int32_t wanted[T];
  for (int32_t t = 0; t < T; t++) {
    wanted[t] = t % E;
  }
  set_up(&r, ALL_ON_FIRST, 2, &eager);
  step(&r, T, wanted, 1);
  assert_true(sum_over_ranks(weights_out(&r)) >= R - 1);
  if (R == MAX_R) {
    int64_t first = weights_out(&r);
    (void)MPI_Bcast(&first, 1, MPI_INT64_T, 0, MPI_COMM_WORLD);
    assert_true(2 * first > MOERUN_GUEST_SENDS);
  }
  assert_one_table(&r);
  tear_down(&r);
}

/* Half of the ranks have no rows of their own and take up to three times an
 * even share, which does not fit their buffers at once. */
static void in_waves(void **state) {
  (void)state;
  const int32_t R = test_size();
  if (R < 3) skip();
  const moerun__plan_options uneven = {
      .threshold = 1000, .slack = 3000, .min_rows = 1, .min_rows_held = 1};
  const int32_t wanted[T] = {0};
  rig r;
  set_up(&r, BLOCKS, 2, &uneven);
  for (uint64_t key = 1; key <= 3; key++) {
    step(&r, test_rank() % 2 == 0 ? T : 0, wanted, key);
    const int64_t more = r.balanced->stats.waves - r.waves - 2;
    assert_true(R < 8 || sum_over_ranks(more) > 0);
  }
  assert_one_table(&r);
  tear_down(&r);
}

/* ---- Any order ----------------------------------------------------------- */

static uint64_t seed = 20261122;
static uint64_t counter;

static int32_t draw(int32_t below) {
  return (int32_t)(moerun__uniform(seed, 7, counter++) * below);
}

/* Up to four hot experts, others at random; the same draws on all ranks. */
static void draw_wanted(int32_t *wanted) {
  const int32_t num_hot = 1 + draw(4);
  int32_t hot[4];
  const int32_t share = draw(101);
  for (int32_t i = 0; i < num_hot; i++) {
    hot[i] = draw(E);
  }
  for (int32_t i = 0; i < T * test_size(); i++) {
    const int32_t e = draw(100) < share ? hot[draw(num_hot)] : draw(E);
    if (i / T == test_rank()) wanted[i % T] = e;
  }
}

static void random_steps(void **state) {
  (void)state;
  int64_t forwarded = 0;
  if (test_rank() == 0) {
    print_message("seed %llu\n", (unsigned long long)seed);
  }
  for (int32_t world = 0; world < 8; world++) {
    rig r;
    const moerun__plan_options plan = {.threshold = 1000 + draw(3) * 100,
                                       .slack = 1000 + draw(3) * 200,
                                       .min_rows = 1 + draw(16),
                                       .min_rows_held = 1 + draw(4),
                                       .weight_rows = draw(8)};
    set_up(&r, world % 4 == 3 ? ALL_ON_FIRST : BLOCKS, 1 + draw(3), &plan);
    for (uint64_t key = 0; key < 12; key++) {
      int32_t wanted[T];
      int32_t tokens[MAX_R];
      draw_wanted(wanted);
      for (int32_t i = 0; i < test_size(); i++) {
        tokens[i] = draw(3) > 0 ? T : draw(T + 1);
      }
      step(&r, tokens[test_rank()], wanted, key);
      const moerun__plan *made = &r.balanced->moe.balance.plan;
      for (int32_t i = 0; i < made->num_sends; i++) {
        forwarded += made->sends[i].from_move >= 0;
      }
    }
    assert_one_table(&r);
    tear_down(&r);
  }
  assert_true(forwarded > (test_size() < 4 ? -1 : 10));
}

/* ---- The model ----------------------------------------------------------- */

static moerun_status make_model(void) {
  int made = test_rank() != 0 || temp_dir_create(&folder);
  (void)MPI_Bcast(&made, 1, MPI_INT, 0, MPI_COMM_WORLD);
  if (!made) return MOERUN_ERR_IO;
  (void)MPI_Bcast(folder.path, sizeof folder.path, MPI_CHAR, 0, MPI_COMM_WORLD);
  (void)temp_path(model_path, &folder, "model");
  const moerun__synth_options options = {.path = model_path,
                                         .arch = "qwen3_moe",
                                         .seed = 3,
                                         .dtype = MOERUN_DTYPE_BF16,
                                         .num_layers = 1,
                                         .hidden_width = H,
                                         .heads = {.num_heads = 4},
                                         .num_experts = E,
                                         .experts_per_token = 1,
                                         .expert_width = 32,
                                         .vocab_size = 16};
  const moerun_status status =
      test_rank() == 0 ? moerun__synth_write(&options) : MOERUN_OK;
  return moerun__comm_agree(comm, status);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(one_hot_expert),   cmocka_unit_test(holders_send),
      cmocka_unit_test(many_hot_experts), cmocka_unit_test(in_waves),
      cmocka_unit_test(random_steps),
  };
  if (MPI_Init(&argc, &argv) != MPI_SUCCESS) return EXIT_FAILURE;
  if (moerun_comm_create_mpi(&comm, MPI_COMM_WORLD, NULL) != MOERUN_OK ||
      make_model() != MOERUN_OK) {
    return EXIT_FAILURE;
  }
  const int failed = cmocka_run_group_tests(tests, NULL, NULL);
  if (test_rank() == 0) temp_dir_remove(&folder);
  moerun_comm_destroy(comm);
  (void)MPI_Finalize();
  return failed;
}
