/* The engine's dealing and endings: every request once, work spread over the
 * ranks, stop at a step boundary, a failing source or sink, requests that can
 * never fit, cache pages given back. (That the results are the same bits is
 * test_same_bits.c.) */
#include "runtime/base/memory.h"
#include "support/engine_run.h"
#include "support/mpi_test.h"

#include <moerun/moerun_mpi.h>

#define MODEL MOERUN_TEST_DATA "/hf/mixtral_bf16"

static moerun_comm *comm;
static moerun_placement *placement;
static moerun_model *model;
static const moerun_session_options options = {
    .max_tokens = 16, .max_sequences = 2, .kv_tokens = 96};

static int32_t prompt[80];
static moerun__request requests[RUN_REQUESTS];
static run_result results[RUN_REQUESTS];
static int32_t order[RUN_REQUESTS];

static int set_up(void **state) {
  (void)state;
  memset(results, 0, sizeof results);
  for (int32_t i = 0; i < RUN_REQUESTS; i++) {
    order[i] = i;
    requests[i] = (moerun__request){.index = i,
                                    .num_prompt = 5 + i,
                                    .prompt = prompt,
                                    .max_new_tokens = 6,
                                    .top_p = 1};
  }
  return 0;
}

static run_state all_requests(void) {
  return (run_state){.request = requests,
                     .order = order,
                     .count = RUN_REQUESTS,
                     .result = results};
}

static int on_root(int verdict) {
  return test_rank() != 0 || verdict;
}

/* ---- Every request once, and again in the same session ------------------------- */

static int all_seen(void) {
  for (int32_t i = 0; i < RUN_REQUESTS; i++) {
    if (results[i].seen != 1 || results[i].num_tokens < 1) return 0;
  }
  return 1;
}

static void every_request_once_and_pages_come_back(void **state) {
  (void)state;
  moerun_session *session = NULL;
  assert_all_ok(moerun_session_create(&session, model, &options));
  for (int round = 0; round < 2; round++) {
    int stopped = 1;
    run_state run = all_requests();
    memset(results, 0, sizeof results);
    assert_all_ok(run_requests(session, &run, 0, 0, &stopped));
    assert_int_equal(stopped, 0);
    assert_all_ranks(on_root(all_seen()));
    assert_all_ranks(session->kv.num_free == session->kv.num_pages);
  }
  moerun_session_destroy(session);
}

/* What is alive while the engine runs, seen from inside its source. */
static size_t alive;

static moerun_status dry_source(void *context, moerun__request *request,
                                int *has) {
  (void)context;
  (void)request;
  alive = moerun__alloc_live_bytes();
  *has = 0;
  return MOERUN_OK;
}

static int see_alive(void *context) {
  (void)context;
  alive = moerun__alloc_live_bytes();
  return 0;
}

static void engine_bytes_are_those_taken(void **state) {
  (void)state;
  moerun_session *session = NULL;
  const moerun__session_extra extra = {.record_trace = 1};
  assert_all_ok(moerun__session_create_with(&session, model, &options, &extra));
  for (int trace = 0; trace < 2; trace++) {
    const moerun__engine_options how = {.record_trace = trace};
    const moerun__engine_callbacks callbacks = {NULL, dry_source, run_finished,
                                                NULL, see_alive};
    const size_t before = moerun__alloc_live_bytes();
    moerun__progress progress;
    int stopped = 0;
    assert_all_ok(
        moerun__engine_run(session, &how, &callbacks, &progress, &stopped));
    assert_all_ranks(alive - before == moerun__engine_bytes(session, &how));
    assert_all_ranks(moerun__alloc_live_bytes() == before);
  }
  moerun_session_destroy(session);
}

/* ---- Stop ---------------------------------------------------------------------------- */

/* Only the last rank is asked to stop; all end together, and what finished
 * before stays reported. */
static int stop_now(void *context) {
  (void)context;
  return test_rank() == test_size() - 1;
}

static void one_rank_stops_all(void **state) {
  (void)state;
  moerun_session *session = NULL;
  int stopped = 0;
  moerun__progress progress;
  const moerun__engine_options how = {0};
  run_state run = all_requests();
  const moerun__engine_callbacks callbacks = {&run, run_next, run_finished,
                                              NULL, stop_now};
  assert_all_ok(moerun_session_create(&session, model, &options));
  assert_all_ok(
      moerun__engine_run(session, &how, &callbacks, &progress, &stopped));
  assert_all_ranks(stopped == 1);
  assert_all_ranks(on_root(progress.finished == 0));
  moerun_session_destroy(session);
}

static void finished_ones_survive_a_stop(void **state) {
  (void)state;
  moerun_session *session = NULL;
  int stopped = 0;
  run_state run = all_requests();
  run.stop_after = 3;
  assert_all_ok(moerun_session_create(&session, model, &options));
  assert_all_ok(run_requests(session, &run, 0, 0, &stopped));
  int32_t seen = 0;
  for (int32_t i = 0; i < RUN_REQUESTS; i++) {
    seen += results[i].seen;
  }
  assert_all_ranks(stopped == 1);
  /* With 2 sequences a rank, no step finishes all. */
  assert_all_ranks(on_root(
      seen >= 3 && (seen < RUN_REQUESTS || 2 * test_size() >= RUN_REQUESTS)));
  moerun_session_destroy(session);
}

/* ---- Failures -------------------------------------------------------------------------- */

static moerun_status next_fails(void *context, moerun__request *request,
                                int *has) {
  run_state *run = context;
  if (run->handed_out == 4) {
    return moerun__fail(MOERUN_ERR_IO, __FILE__, __LINE__, "source is gone");
  }
  return run_next(context, request, has);
}

static moerun_status sink_fails(void *context,
                                const moerun__completion *completion) {
  (void)context;
  (void)completion;
  return moerun__fail(MOERUN_ERR_IO, __FILE__, __LINE__, "disk is full");
}

static void failures_of_rank_0_end_all(void **state) {
  (void)state;
  const moerun__engine_options how = {0};
  for (int which = 0; which < 2; which++) {
    moerun_session *session = NULL;
    moerun__progress progress;
    int stopped = 0;
    run_state run = all_requests();
    const moerun__engine_callbacks callbacks = {
        &run, which == 0 ? next_fails : run_next,
        which == 0 ? run_finished : sink_fails, NULL, NULL};
    memset(results, 0, sizeof results);
    assert_all_ok(moerun_session_create(&session, model, &options));
    const moerun_status status =
        moerun__engine_run(session, &how, &callbacks, &progress, &stopped);
    assert_all_ranks(status ==
                     (test_rank() == 0 ? MOERUN_ERR_IO : MOERUN_ERR_PEER));
    moerun_session_destroy(session);
  }
}

static void a_request_that_never_fits_is_refused(void **state) {
  (void)state;
  moerun_session *session = NULL;
  int stopped = 0;
  run_state run = all_requests();
  requests[7].num_prompt = 80;
  requests[7].max_new_tokens = 17; /* 97 of 96 positions */
  assert_all_ok(moerun_session_create(&session, model, &options));
  const moerun_status status = run_requests(session, &run, 0, 0, &stopped);
  assert_all_ranks(status ==
                   (test_rank() == 0 ? MOERUN_ERR_OVERFLOW : MOERUN_ERR_PEER));
  moerun_session_destroy(session);
}

static void more_sequences_than_rows_are_refused(void **state) {
  (void)state;
  moerun_session *session = NULL;
  const moerun_session_options few_rows = {
      .max_tokens = 2, .max_sequences = 3, .kv_tokens = 96};
  int stopped = 0;
  run_state run = all_requests();
  assert_all_ok(moerun_session_create(&session, model, &few_rows));
  assert_all_ranks(run_requests(session, &run, 0, 0, &stopped) ==
                   MOERUN_ERR_INVALID);
  moerun_session_destroy(session);
}

/* ---- Spread ----------------------------------------------------------------------------- */

static int32_t ran_on[RUN_REQUESTS];

static moerun_status note_rank(void *context,
                               const moerun__completion *completion) {
  (void)context;
  ran_on[completion->index] = completion->rank;
  return MOERUN_OK;
}

/* 12 requests, 2 sequences a rank: the first 2 R go round all ranks. */
static void requests_go_to_all_ranks(void **state) {
  (void)state;
  const moerun__engine_options how = {0};
  moerun_session *session = NULL;
  moerun__progress progress;
  int stopped = 0;
  int32_t per_rank[64] = {0};
  run_state run = all_requests();
  const moerun__engine_callbacks callbacks = {&run, run_next, note_rank, NULL,
                                              NULL};
  assert_all_ok(moerun_session_create(&session, model, &options));
  assert_all_ok(
      moerun__engine_run(session, &how, &callbacks, &progress, &stopped));
  const int32_t first =
      2 * test_size() < RUN_REQUESTS ? 2 * test_size() : RUN_REQUESTS;
  for (int32_t i = 0; i < first; i++) {
    per_rank[ran_on[i]]++;
  }
  for (int32_t r = 0; r < test_size(); r++) {
    const int32_t low = first / test_size();
    assert_all_ranks(on_root(per_rank[r] == low || per_rank[r] == low + 1));
  }
  moerun_session_destroy(session);
}

int main(int argc, char **argv) {
#define TEST(name) cmocka_unit_test_setup(name, set_up)
  const struct CMUnitTest tests[] = {
      TEST(every_request_once_and_pages_come_back),
      TEST(engine_bytes_are_those_taken),
      TEST(one_rank_stops_all),
      TEST(finished_ones_survive_a_stop),
      TEST(failures_of_rank_0_end_all),
      TEST(a_request_that_never_fits_is_refused),
      TEST(more_sequences_than_rows_are_refused),
      TEST(requests_go_to_all_ranks),
  };
#undef TEST
  moerun_model_shape shape;
  if (MPI_Init(&argc, &argv) != MPI_SUCCESS) return EXIT_FAILURE;
  int failed =
      moerun_comm_create_mpi(&comm, MPI_COMM_WORLD, NULL) != MOERUN_OK ||
      moerun_model_shape_load(&shape, MODEL) != MOERUN_OK ||
      moerun_placement_create_block(&placement, shape.num_moe_layers,
                                    shape.num_experts,
                                    test_size()) != MOERUN_OK ||
      moerun_model_load(&model, comm, placement, MODEL, NULL) != MOERUN_OK;
  if (!failed) failed = cmocka_run_group_tests(tests, NULL, NULL);
  moerun_model_destroy(model);
  moerun_placement_destroy(placement);
  moerun_comm_destroy(comm);
  (void)MPI_Finalize();
  return failed;
}
