/* With isolation a request's output is a function of the request alone even
 * where experts are dropped: alone on one rank, or among any others, in any
 * order, on any number of ranks, whatever is balanced, and after a stop: some
 * go on after a part of their tokens. The control: the same worlds without
 * isolation do change outputs, so the test could fail. MOERUN_TEST_SEED sets
 * the seed. */
#include "runtime/base/rng.h"
#include "support/engine_run.h"
#include "support/mpi_test.h"

#include <moerun/moerun_mpi.h>
#include <stdio.h>

#define MODEL MOERUN_TEST_DATA "/hf/qwen3_moe_bf16"

enum { WORLDS = 24, WINDOW = 8, MOST_PROMPT = 40 };

static uint64_t seed = 20261122;
static uint64_t counter;

static int32_t draw(int32_t below) {
  return (int32_t)(moerun__uniform(seed, 5, counter++) * below);
}

static int32_t prompts[RUN_REQUESTS][MOST_PROMPT];
static moerun__request requests[RUN_REQUESTS];

/* Prompts of few different tokens: they want the same experts. */
static void make_requests(void) {
  for (int32_t i = 0; i < RUN_REQUESTS; i++) {
    const int32_t length = 1 + draw(MOST_PROMPT);
    const int32_t score = i % 3 == 2;
    for (int32_t t = 0; t < length; t++) {
      prompts[i][t] = draw(6);
    }
    requests[i] = (moerun__request){.index = i,
                                    .num_prompt = length,
                                    .prompt = prompts[i],
                                    .max_new_tokens = score ? 0 : 1 + draw(8),
                                    .score_only = score,
                                    .sampling.top_p = 1,
                                    .priority = draw(3)};
  }
}

static moerun__gate_options gate_of(moerun__capacity_scope scope,
                                    moerun__capacity_metric metric,
                                    int decode) {
  return (moerun__gate_options){.capacity = {.gamma = 700,
                                             .scope = scope,
                                             .metric = metric,
                                             .window = WINDOW,
                                             .decode = decode,
                                             .seed = 11}};
}

static moerun_status run_world(moerun_comm *comm, run_state *state,
                               const moerun_session_options *options,
                               const moerun__gate_options *gate,
                               moerun__gate_counts *counts) {
  static const moerun__plan_options eager = {
      .threshold = 1000, .slack = 1000, .min_rows = 1, .min_rows_held = 1};
  moerun_status status = MOERUN_OK;
  moerun_placement *placement = NULL;
  moerun_model *model = NULL;
  moerun_session *session = NULL;
  moerun_model_shape shape = {.struct_size = sizeof shape};
  int stopped = 0;
  const moerun__session_extra extra = {.plan = &eager, .gate = *gate};
  MOERUN_TRY(moerun_model_shape_load(&shape, MODEL));
  MOERUN_TRY(moerun_placement_create_block(&placement, shape.num_moe_layers,
                                           shape.num_experts, comm->size));
  MOERUN_TRY(moerun_model_load(&model, comm, placement, MODEL, NULL));
  MOERUN_TRY(moerun__session_create_with(&session, model, options, &extra));
  MOERUN_TRY(run_requests(session, state, 0, 0, &stopped));
  *counts = session->moe.gate.counts;
done:
  moerun_session_destroy(session);
  moerun_model_destroy(model);
  moerun_placement_destroy(placement);
  return status;
}

/* Each request by itself, on rank 0. */
static int64_t run_alone(run_result *result, const moerun__gate_options *gate) {
  moerun_comm *self = NULL;
  int64_t dropped = 0;
  assert_int_equal(moerun_comm_create_self(&self), MOERUN_OK);
  for (int32_t i = 0; i < RUN_REQUESTS; i++) {
    run_state state = {
        .request = requests, .order = &i, .count = 1, .result = result};
    const moerun_session_options options = {
        .max_tokens = 64, .max_sequences = 1, .kv_tokens = 64};
    moerun__gate_counts counts;
    assert_int_equal(run_world(self, &state, &options, gate, &counts),
                     MOERUN_OK);
    dropped += counts.capacity.dropped;
  }
  moerun_comm_destroy(self);
  return dropped;
}

static int differs(const run_result *a, const run_result *b) {
  return a->num_tokens != b->num_tokens ||
         memcmp(a->token, b->token, (size_t)a->num_tokens * sizeof *a->token) !=
             0 ||
         memcmp(&a->log_probability, &b->log_probability,
                sizeof a->log_probability) != 0;
}

/* Requests whose output in a drawn world is not what it is alone. */
static int32_t count_changed(const run_result *alone,
                             const moerun__gate_options *gate) {
  static run_result found[RUN_REQUESTS];
  int32_t order[RUN_REQUESTS];
  const int32_t R = 1 + draw(test_size());
  const int32_t count = 2 + draw(RUN_REQUESTS - 1);
  const moerun_session_options options = {.max_tokens = 12 + draw(60),
                                          .max_sequences = 1 + draw(6),
                                          .kv_tokens = 96 + draw(200),
                                          .chunks = 1 + draw(3)};
  int32_t changed = 0;
  for (int32_t i = 0; i < RUN_REQUESTS; i++) {
    order[i] = i;
  }
  for (int32_t i = RUN_REQUESTS - 1; i > 0; i--) {
    const int32_t j = draw(i + 1);
    const int32_t moved = order[i];
    order[i] = order[j];
    order[j] = moved;
  }
  int32_t thousandths[RUN_REQUESTS]; /* of its tokens, that one comes with */
  for (int32_t i = 0; i < RUN_REQUESTS; i++) {
    thousandths[i] = draw(2) * draw(1000);
  }
  MPI_Comm members = MPI_COMM_NULL;
  MPI_Comm_split(MPI_COMM_WORLD, test_rank() < R ? 0 : MPI_UNDEFINED, 0,
                 &members);
  if (test_rank() < R) {
    moerun_comm *comm = NULL;
    run_state state = {.request = requests,
                       .order = order,
                       .count = count,
                       .before = alone,
                       .result = found};
    moerun__gate_counts counts;
    for (int32_t i = 0; i < RUN_REQUESTS; i++) {
      state.kept[i] = alone[i].num_tokens * thousandths[i] / 1000;
    }
    memset(found, 0, sizeof found);
    assert_int_equal(moerun_comm_create_mpi(&comm, members, NULL), MOERUN_OK);
    assert_int_equal(run_world(comm, &state, &options, gate, &counts),
                     MOERUN_OK);
    for (int32_t i = 0; test_rank() == 0 && i < count; i++) {
      changed += differs(&alone[order[i]], &found[order[i]]);
    }
    moerun_comm_destroy(comm);
    MPI_Comm_free(&members);
  }
  return changed;
}

static int32_t changed_in_worlds(const moerun__gate_options *gate) {
  static run_result alone[RUN_REQUESTS];
  int64_t dropped = 1;
  int32_t changed = 0;
  memset(alone, 0, sizeof alone);
  make_requests();
  if (test_rank() == 0) dropped = run_alone(alone, gate);
  assert_all_ranks(dropped > 0);
  for (int i = 0; i < WORLDS; i++) {
    changed += count_changed(alone, gate);
  }
  (void)MPI_Bcast(&changed, 1, MPI_INT32_T, 0, MPI_COMM_WORLD);
  return changed;
}

static void nothing_changes_with_isolation(void **state) {
  (void)state;
  if (test_rank() == 0) {
    print_message("seed %llu\n", (unsigned long long)seed);
  }
  for (int metric = MOERUN_METRIC_SCORE; metric <= MOERUN_METRIC_WEIGHT;
       metric++) {
    const moerun__gate_options gate = gate_of(
        MOERUN_SCOPE_REQUEST, (moerun__capacity_metric)metric, metric % 2);
    assert_int_equal(changed_in_worlds(&gate), 0);
  }
}

static void something_changes_without(void **state) {
  (void)state;
  for (int scope = MOERUN_SCOPE_SOURCE; scope <= MOERUN_SCOPE_GLOBAL; scope++) {
    const moerun__gate_options gate =
        gate_of((moerun__capacity_scope)scope, MOERUN_METRIC_SCORE, 0);
    assert_true(changed_in_worlds(&gate) > 0);
  }
}

/* Scope global: two rounds of exchanges for a fill, with ranks that have no
 * rows and ranks that lost nothing; all see the same experts over their
 * capacity. */
static void ranks_expand_together(void **state) {
  (void)state;
  static run_result found[RUN_REQUESTS];
  int32_t order[RUN_REQUESTS];
  const moerun_session_options options = {
      .max_tokens = 64, .max_sequences = 4, .kv_tokens = 256};
  moerun_comm *comm = NULL;
  assert_int_equal(moerun_comm_create_mpi(&comm, MPI_COMM_WORLD, NULL),
                   MOERUN_OK);
  make_requests();
  for (int32_t i = 0; i < RUN_REQUESTS; i++) {
    order[i] = i;
  }
  for (int fill = 0; fill <= 1; fill++) {
    for (int32_t most = 0; most <= 1; most++) {
      run_state state_of = {.request = requests,
                            .order = order,
                            .count = RUN_REQUESTS,
                            .result = found};
      moerun__gate_options gate =
          gate_of(MOERUN_SCOPE_GLOBAL, MOERUN_METRIC_WEIGHT, 1);
      moerun__gate_counts counts;
      gate.capacity.expansion =
          fill ? MOERUN_EXPANSION_FILL : MOERUN_EXPANSION_PAPER;
      gate.capacity.most_added = most;
      memset(found, 0, sizeof found);
      assert_all_ranks(run_world(comm, &state_of, &options, &gate, &counts) ==
                       MOERUN_OK);
      int64_t sums[] = {counts.capacity.dropped, counts.capacity.added};
      int64_t over[] = {counts.capacity.over, -counts.capacity.over};
      (void)MPI_Allreduce(MPI_IN_PLACE, sums, 2, MPI_INT64_T, MPI_SUM,
                          MPI_COMM_WORLD);
      (void)MPI_Allreduce(MPI_IN_PLACE, over, 2, MPI_INT64_T, MPI_MAX,
                          MPI_COMM_WORLD);
      assert_true(sums[0] > 0 && sums[1] > 0);
      assert_int_equal(over[0], -over[1]);
      if (fill && most == 0) assert_true(sums[1] <= sums[0]);
    }
  }
  moerun_comm_destroy(comm);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(nothing_changes_with_isolation),
      cmocka_unit_test(something_changes_without),
      cmocka_unit_test(ranks_expand_together),
  };
  const char *text = getenv("MOERUN_TEST_SEED");
  if (text != NULL) seed = strtoull(text, NULL, 10);
  if (MPI_Init(&argc, &argv) != MPI_SUCCESS) return EXIT_FAILURE;
  const int failed = cmocka_run_group_tests(tests, NULL, NULL);
  (void)MPI_Finalize();
  return failed;
}
