/* The engine's dealing and endings: every request once, work spread over the
 * ranks, stops, requests under way, failing sources, requests that never
 * fit. */
#include "runtime/base/memory.h"
#include "runtime/serve/dealer.h"
#include "support/engine_run.h"
#include "support/mpi_test.h"

#include <moerun/moerun_mpi.h>

#define MODEL MOERUN_TEST_DATA "/hf/mixtral_bf16"

static moerun_comm *comm;
static moerun_placement *placement;
static moerun_model *model;
static const moerun_session_options options = {
    SIZED(options), .max_tokens = 16, .max_sequences = 2, .kv_tokens = 96};

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
                                    .sampling.top_p = 1};
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

/* ---- Every request once, and again in the same session ------------------- */

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
    assert_all_ranks(session->cache->num_free == session->kv.num_pages);
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
    const moerun__engine_options how = {.record_trace = trace,
                                        .stop_bytes = 99 * trace};
    const moerun__engine_callbacks callbacks = {.next = dry_source,
                                                .finished = run_finished,
                                                .stop_requested = see_alive};
    const size_t before = moerun__alloc_live_bytes();
    moerun__progress progress;
    int stopped = 0;
    assert_all_ok(run_engine(session, &how, &callbacks, &progress, &stopped));
    assert_all_ranks(alive - before == moerun__engine_bytes(session, &how));
    assert_all_ranks(moerun__alloc_live_bytes() == before);
  }
  moerun_session_destroy(session);
}

/* ---- Stop ---------------------------------------------------------------- */

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
  const moerun__engine_callbacks callbacks = {.context = &run,
                                              .next = run_next,
                                              .finished = run_finished,
                                              .stop_requested = stop_now};
  assert_all_ok(moerun_session_create(&session, model, &options));
  assert_all_ok(run_engine(session, &how, &callbacks, &progress, &stopped));
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

/* ---- Requests under way -------------------------------------------------- */

typedef struct parts {
  run_state run;
  int32_t turns, asked; /* step boundaries, and those that `always` saw */
  int32_t last_turn;    /* at which the last rank asks to stop; 0: never */
  int32_t ends;         /* step boundaries at which requests have come */
  run_result part[RUN_REQUESTS];
} parts;

static moerun_status parts_next(void *context, moerun__request *request,
                                int *has) {
  parts *p = context;
  return run_next(&p->run, request, has);
}

static moerun_status parts_finished(void *context,
                                    const moerun__completion *done) {
  parts *p = context;
  return run_finished(&p->run, done);
}

static moerun_status take_part(void *context, const moerun__completion *part) {
  parts *p = context;
  run_result *result = &p->part[part->index];
  if (part->finish != MOERUN_FINISH_NOT || part->num_traced != 0 ||
      part->num_tokens <= result->num_tokens) {
    return MOERUN_ERR_INVALID;
  }
  result->num_tokens = part->num_tokens;
  memcpy(result->token, part->token,
         (size_t)part->num_tokens * sizeof *part->token);
  return MOERUN_OK;
}

static moerun_status end_parts(void *context) {
  parts *p = context;
  p->ends++;
  return MOERUN_OK;
}

static moerun_status part_is_lost(void *context,
                                  const moerun__completion *part) {
  (void)context;
  (void)part;
  return moerun__fail(MOERUN_ERR_NOMEM, __FILE__, __LINE__, "no room is left");
}

static int stop_in_time(void *context) {
  parts *p = context;
  p->turns++;
  return p->last_turn > 0 && p->turns >= p->last_turn && stop_now(NULL);
}

static int always(void *context) {
  ((parts *)context)->asked++;
  return 1;
}

static const moerun__engine_callbacks with_parts = {
    .next = parts_next,
    .finished = parts_finished,
    .stop_requested = stop_in_time,
    .unfinished = take_part,
    .unfinished_end = end_parts};

/* Greedy and sampled in turn. */
static void sample_some(void) {
  for (int32_t i = 1; i < RUN_REQUESTS; i += 2) {
    requests[i].sampling.temperature = 1.5;
    requests[i].sampling.seed = (uint64_t)i;
  }
}

static void run_undisturbed(moerun_session *session, run_result *expected) {
  run_state run = all_requests();
  int stopped = 0;
  memset(expected, 0, RUN_REQUESTS * sizeof *expected);
  run.result = expected;
  assert_all_ok(run_requests(session, &run, 0, 0, &stopped));
}

/* Those that have not finished, in their order; what they have so far. */
static void begin_again(parts *p) {
  p->turns = 0;
  p->run.handed_out = 0;
  p->run.count = 0;
  for (int32_t i = 0; i < RUN_REQUESTS; i++) {
    p->run.kept[i] = p->part[i].num_tokens;
    if (results[i].seen == 0) order[p->run.count++] = i;
  }
}

/* Stopped after 4 steps each time, before any request of 6 tokens can end:
 * every token is generated once, and is what it is undisturbed. */
static void stops_before_the_first_end_go_on(void **state) {
  (void)state;
  enum { TURNS = 5, MOST_STARTS = 60 };
  static run_result expected[RUN_REQUESTS];
  static parts p;
  moerun_session *session = NULL;
  moerun__progress progress;
  const moerun__engine_options how = {0};
  int64_t generated = 0;
  int64_t tokens = 0;
  int starts = 0;
  int shown = 0;
  int stopped = 1;
  p = (parts){.run = all_requests(), .last_turn = TURNS};
  p.run.before = p.part;
  sample_some();
  assert_all_ok(moerun_session_create(&session, model, &options));
  run_undisturbed(session, expected);
  for (; stopped && starts < MOST_STARTS; starts++) {
    moerun__engine_callbacks callbacks = with_parts;
    callbacks.context = &p;
    begin_again(&p);
    /* A new session, as in a new process. */
    moerun_session_destroy(session);
    assert_all_ok(moerun_session_create(&session, model, &options));
    assert_all_ok(run_engine(session, &how, &callbacks, &progress, &stopped));
    generated += progress.generated_tokens;
    assert_all_ranks(on_root(starts > 0 || progress.finished == 0));
    assert_all_ranks(
        on_root(progress.generated_tokens > 0 || p.run.count == 0));
    shown += stopped && progress.active > 0;
    assert_all_ranks(on_root(p.ends == shown));
  }
  assert_int_equal(stopped, 0);
  assert_in_range(starts, 2, MOST_STARTS);
  for (int32_t i = 0; i < RUN_REQUESTS; i++) {
    tokens += expected[i].num_tokens;
    assert_all_ranks(
        on_root(results[i].seen == 1 &&
                results[i].num_tokens == expected[i].num_tokens &&
                memcmp(results[i].token, expected[i].token,
                       (size_t)expected[i].num_tokens * sizeof(int32_t)) == 0));
  }
  assert_all_ranks(on_root(generated == tokens));
  moerun_session_destroy(session);
}

/* Asked for after each step: nothing changes but that they come. */
static void asking_changes_nothing(void **state) {
  (void)state;
  static run_result expected[RUN_REQUESTS];
  static parts p;
  moerun_session *session = NULL;
  moerun__progress progress;
  const moerun__engine_options how = {0};
  int stopped = 1;
  moerun__engine_callbacks callbacks = with_parts;
  p = (parts){.run = all_requests()};
  callbacks.context = &p;
  callbacks.unfinished_wanted = always;
  sample_some();
  assert_all_ok(moerun_session_create(&session, model, &options));
  run_undisturbed(session, expected);
  assert_all_ok(run_engine(session, &how, &callbacks, &progress, &stopped));
  assert_all_ranks(on_root(p.ends == p.asked && p.ends < progress.steps));
  for (int32_t i = 0; i < RUN_REQUESTS; i++) {
    const size_t bytes = (size_t)p.part[i].num_tokens * sizeof(int32_t);
    assert_all_ranks(
        on_root(results[i].seen == 1 &&
                memcmp(results[i].token, expected[i].token,
                       (size_t)expected[i].num_tokens * sizeof(int32_t)) == 0 &&
                p.part[i].num_tokens == expected[i].num_tokens - 1 &&
                memcmp(p.part[i].token, expected[i].token, bytes) == 0));
  }
  moerun_session_destroy(session);
}

/* All ranks learn of it, though the run was about to stop. */
static void a_part_that_is_lost_ends_all(void **state) {
  (void)state;
  static parts p;
  moerun_session *session = NULL;
  moerun__progress progress;
  const moerun__engine_options how = {0};
  int stopped = 1;
  moerun__engine_callbacks callbacks = with_parts;
  p = (parts){.run = all_requests(), .last_turn = 4};
  callbacks.context = &p;
  callbacks.unfinished = part_is_lost;
  assert_all_ok(moerun_session_create(&session, model, &options));
  const moerun_status status =
      run_engine(session, &how, &callbacks, &progress, &stopped);
  assert_all_ranks(status ==
                   (test_rank() == 0 ? MOERUN_ERR_NOMEM : MOERUN_ERR_PEER));
  moerun_session_destroy(session);
}

/* The whole is what it asked for: there is nothing to go on with. */
static void a_request_with_all_its_tokens_is_refused(void **state) {
  (void)state;
  moerun_session *session = NULL;
  int stopped = 0;
  run_state run = all_requests();
  run.before = results;
  run.kept[3] = requests[3].max_new_tokens;
  assert_all_ok(moerun_session_create(&session, model, &options));
  const moerun_status status = run_requests(session, &run, 0, 0, &stopped);
  assert_all_ranks(status ==
                   (test_rank() == 0 ? MOERUN_ERR_INVALID : MOERUN_ERR_PEER));
  moerun_session_destroy(session);
}

/* ---- Failures ------------------------------------------------------------ */

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
        .context = &run,
        .next = which == 0 ? next_fails : run_next,
        .finished = which == 0 ? run_finished : sink_fails};
    memset(results, 0, sizeof results);
    assert_all_ok(moerun_session_create(&session, model, &options));
    const moerun_status status =
        run_engine(session, &how, &callbacks, &progress, &stopped);
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
  const moerun_session_options few_rows = {SIZED(few_rows), .max_tokens = 2,
                                           .max_sequences = 3, .kv_tokens = 96};
  int stopped = 0;
  run_state run = all_requests();
  assert_all_ok(moerun_session_create(&session, model, &few_rows));
  assert_all_ranks(run_requests(session, &run, 0, 0, &stopped) ==
                   MOERUN_ERR_INVALID);
  moerun_session_destroy(session);
}

/* ---- Spread -------------------------------------------------------------- */

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
  const moerun__engine_callbacks callbacks = {
      .context = &run, .next = run_next, .finished = note_rank};
  assert_all_ok(moerun_session_create(&session, model, &options));
  assert_all_ok(run_engine(session, &how, &callbacks, &progress, &stopped));
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

/* ---- Words of other ranks ------------------------------------------------ */

static const moerun__comm_ops *true_ops;
static int64_t claimed;

/* The last rank announces completions that it has not. */
static moerun_status gather_lie(moerun_comm *on, void *receive,
                                const void *send, size_t bytes) {
  moerun__rank_word word;
  if (bytes != sizeof word || test_rank() != test_size() - 1) {
    return true_ops->gather(on, receive, send, bytes);
  }
  memcpy(&word, send, sizeof word);
  word.finished_units = claimed;
  return true_ops->gather(on, receive, &word, sizeof word);
}

static void completions_that_cannot_be_are_refused(void **state) {
  (void)state;
  const moerun__sequences largest = {.max_sequences = options.max_sequences,
                                     .max_positions = options.kv_tokens,
                                     .logprobs_width = RUN_WIDTH};
  const int64_t room = (int64_t)moerun__finished_box_bytes(&largest) / 8;
  const int64_t claims[] = {-1, room + 1, INT64_C(1) << 40};
  if (test_size() == 1) skip();
  true_ops = comm->ops;
  moerun__comm_ops lying = *true_ops;
  lying.gather = gather_lie;
  for (size_t i = 0; i < 3; i++) {
    moerun_session *session = NULL;
    run_state run = all_requests();
    int stopped = 0;
    char line[96];
    claimed = claims[i];
    assert_all_ok(moerun_session_create(&session, model, &options));
    comm->ops = &lying;
    const moerun_status status = run_requests(session, &run, 0, 0, &stopped);
    comm->ops = true_ops;
    assert_all_ranks(status ==
                     (test_rank() == 0 ? MOERUN_ERR_COMM : MOERUN_ERR_PEER));
    (void)snprintf(line, sizeof line,
                   "rank %d announced completions of %lld words: expected",
                   test_size() - 1, (long long)claimed);
    assert_all_ranks(on_root(strstr(moerun_last_error(), line) != NULL));
    moerun_session_destroy(session);
  }
}

/* A rank that comes late to a step misses the sleep in its first layer, but
 * none of those before the counts of the others. */
static void a_token_takes_as_long_as_its_step(void **state) {
  (void)state;
  static const double step_s = (3 - 1) * 0.01; /* of 3 layers */
  moerun__faults faults;
  moerun_session *session = NULL;
  moerun__progress progress;
  const moerun__engine_options how = {0};
  int stopped = 0;
  run_state run = all_requests();
  const moerun__engine_callbacks callbacks = {
      .context = &run, .next = run_next, .finished = run_finished};
  char text[64];
  (void)snprintf(text, sizeof text, "rank=%d,sleep=10000us", test_size() - 1);
  assert_all_ok(moerun__faults_parse(&faults, text));
  const moerun__session_extra extra = {.faults = &faults};
  for (int32_t i = 0; i < RUN_REQUESTS; i++) {
    requests[i].max_new_tokens = 2;
  }
  assert_all_ok(moerun__session_create_with(&session, model, &options, &extra));
  assert_all_ok(run_engine(session, &how, &callbacks, &progress, &stopped));
  const moerun__stats *stats = &session->stats;
  assert_all_ranks(moerun__histogram_total(&stats->first_token) == 0 ||
                   stats->first_token.longest >= step_s);
  assert_all_ranks(moerun__histogram_total(&stats->per_token) == 0 ||
                   stats->per_token.longest >= step_s);
  /* The line of progress shows what the ledger has. */
  const moerun__ledger *ledger = &session->moe.balance.ledger;
  if (session->moe.balance.is_on && test_rank() == 0) {
    const int64_t last = ledger->num_steps - 1;
    const moerun__ledger_entry *routed = &ledger->steps[last];
    const moerun__ledger_entry *told = &ledger->steps[last - 1];
    assert_true(last > 0 && last < MOERUN_LEDGER_STEPS);
    assert_int_equal(progress.last_rank, told->last);
    assert_true(progress.idle == moerun__ledger_idle(ledger, told));
    assert_true(progress.load == moerun__peak_over_mean(routed->peak_planned,
                                                        routed->rows,
                                                        test_size()));
    assert_true(
        progress.load_routed ==
        moerun__peak_over_mean(routed->peak_routed, routed->rows, test_size()));
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
      TEST(stops_before_the_first_end_go_on),
      TEST(asking_changes_nothing),
      TEST(a_part_that_is_lost_ends_all),
      TEST(a_request_with_all_its_tokens_is_refused),
      TEST(failures_of_rank_0_end_all),
      TEST(a_request_that_never_fits_is_refused),
      TEST(more_sequences_than_rows_are_refused),
      TEST(requests_go_to_all_ranks),
      TEST(completions_that_cannot_be_are_refused),
      TEST(a_token_takes_as_long_as_its_step),
  };
#undef TEST
  moerun_model_shape shape = {.struct_size = sizeof shape};
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
