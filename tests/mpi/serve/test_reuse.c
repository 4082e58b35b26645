/* What requests begin with in common is fed once on a rank, and nothing that
 * they produce changes by a bit: mixes of requests, drawn, with and without. */
#include "support/draw.h"
#include "support/engine_run.h"
#include "support/mpi_test.h"

#include <moerun/moerun_mpi.h>

#define MODEL MOERUN_TEST_DATA "/hf/mixtral_bf16"

enum { PAGE = MOERUN_PAGE_POSITIONS, SEATS = 4, VOCABULARY = 90, LONGEST = 48 };

static moerun_comm *comm;
static moerun_placement *placement;
static moerun_model *model;

static int32_t prompt[RUN_REQUESTS][LONGEST];
static moerun__request requests[RUN_REQUESTS];
static int32_t order[RUN_REQUESTS];
static run_result want[RUN_REQUESTS];
static run_result found[RUN_REQUESTS];

static int on_root(int verdict) {
  return test_rank() != 0 || verdict;
}

static moerun_session *open_session(int32_t rows, int32_t positions) {
  moerun_session *session = NULL;
  const moerun_session_options options = {.struct_size = sizeof options,
                                          .max_tokens = rows,
                                          .max_sequences = SEATS,
                                          .kv_tokens = positions};
  assert_all_ok(moerun_session_create(&session, model, &options));
  return session;
}

/* ---- Mixes --------------------------------------------------------------- */

/* Grows out of an earlier one, from anywhere in it; often at the end of a page,
 * and sometimes it is the same. */
static void draw_prompt(draw *from, int32_t i) {
  int32_t count = 0;
  if (i > 0 && draw_int(from, 0, 5) > 0) {
    const int32_t parent = draw_int(from, 0, i - 1);
    count = draw_int(from, 0, requests[parent].num_prompt);
    if (draw_int(from, 0, 2) == 0) count -= count % PAGE;
    if (draw_int(from, 0, 4) == 0) count = requests[parent].num_prompt;
    memcpy(prompt[i], prompt[parent], (size_t)count * sizeof(int32_t));
  }
  int32_t end = count + draw_int(from, count > 0 ? 0 : 1, LONGEST - count);
  if (draw_int(from, 0, 2) == 0 && end > PAGE) end -= end % PAGE;
  for (; count < end; count++) {
    prompt[i][count] = draw_int(from, 0, VOCABULARY - 1);
  }
  requests[i].num_prompt = count;
}

static void draw_requests(draw *from) {
  for (int32_t i = 0; i < RUN_REQUESTS; i++) {
    order[i] = i;
    requests[i] = (moerun__request){.index = i,
                                    .prompt = prompt[i],
                                    .max_new_tokens = draw_int(from, 1, 16),
                                    .sampling.temperature = i % 2 ? 0.9 : 0,
                                    .sampling.top_p = 0.95,
                                    .sampling.seed = 5,
                                    .sampling.stream = (uint64_t)i};
    draw_prompt(from, i);
    const int32_t kind = draw_int(from, 0, 9);
    requests[i].logprobs.generated = kind == 0 || kind == 1;
    requests[i].logprobs.prompt = kind == 1 || kind == 2;
    requests[i].logprobs.top = kind == 1;
    if (kind == 3) {
      requests[i].score_only = 1;
      requests[i].max_new_tokens = 0;
    }
  }
}

static void run_mix(run_result *result, moerun_session *session,
                    const moerun__engine_options *how,
                    moerun__progress *progress, const run_state *before) {
  int stopped = 1;
  run_state run = {.request = requests,
                   .order = order,
                   .count = RUN_REQUESTS,
                   .result = result};
  if (before != NULL) {
    run.before = before->result;
    memcpy(run.kept, before->kept, sizeof run.kept);
  }
  const moerun__engine_callbacks callbacks = {
      .context = &run, .next = run_next, .finished = run_finished};
  memset(result, 0, RUN_REQUESTS * sizeof *result);
  assert_all_ok(run_engine(session, how, &callbacks, progress, &stopped));
  assert_int_equal(stopped, 0);
  assert_all_ranks(session->cache->num_free == session->kv.num_pages);
}

/* Completions that came with tokens have what they had without, and the
 * log-probabilities of those tokens again. */
static void expect_same(const char *when, uint64_t seed) {
  for (int32_t i = 0; i < RUN_REQUESTS; i++) {
    if (on_root(want[i].seen == 1 &&
                memcmp(&want[i], &found[i], sizeof *want) == 0)) {
      continue;
    }
    print_error("seed %llu: request %d %s\n", (unsigned long long)seed, i,
                when);
    fail();
  }
}

/* Each request goes on after some of the tokens that it generates. */
static void keep_some(run_state *state, draw *from) {
  *state = (run_state){.result = want};
  for (int32_t i = 0; i < RUN_REQUESTS; i++) {
    const int32_t most = want[i].num_tokens - 1;
    const int32_t kept = draw_int(from, 0, RUN_TOKENS);
    state->kept[i] = test_rank() == 0 && most > 0 ? kept % (most + 1) : 0;
  }
}

static void mixes_are_the_same(void **state) {
  (void)state;
  enum { MIXES = 10 };
  int64_t reused = 0;
  for (uint64_t seed = 1; seed <= MIXES; seed++) {
    draw from = {seed, 0};
    moerun__progress alone;
    moerun__progress shared;
    run_state before;
    /* Room for one request, or for hardly all. */
    const int32_t positions = draw_int(&from, 1, 2) == 1 ? 64 : 192;
    moerun_session *session =
        open_session(draw_int(&from, SEATS, 60), positions);
    moerun__engine_options how = {.prefill_chunk =
                                      draw_int(&from, 0, 1) ? 7 : 0,
                                  .logprobs_width = RUN_WIDTH};
    draw_requests(&from);
    run_mix(want, session, &how, &alone, NULL);
    assert_all_ranks(on_root(alone.reused_tokens == 0));
    how.shares_prefixes = 1;
    run_mix(found, session, &how, &shared, NULL);
    expect_same("changed", seed);
    assert_all_ranks(on_root(shared.prompt_tokens + shared.reused_tokens ==
                             alone.prompt_tokens));
    reused += shared.reused_tokens;
    keep_some(&before, &from);
    run_mix(found, session, &how, &shared, &before);
    expect_same("changed when it went on", seed);
    moerun_session_destroy(session);
  }
  assert_all_ranks(on_root(reused > 100));
}

/* ---- Rows are counted ---------------------------------------------------- */

enum { QUESTIONS = 24, DOCUMENT = 3 * PAGE, ASKED = 7, ROOM = SEATS * 64 };

typedef struct crowd {
  int32_t questions;
  int32_t documents; /* asked of in turn */
  int32_t asked;     /* tokens of a question behind its document */
  int32_t handed_out;
  int32_t token[DOCUMENT + ASKED];
  int32_t per_rank[64];
} crowd;

static moerun_status next_question(void *context, moerun__request *request,
                                   int *has) {
  crowd *c = context;
  *has = c->handed_out < c->questions;
  if (!*has) return MOERUN_OK;
  for (int32_t t = 0; t < DOCUMENT; t++) {
    c->token[t] = (7 * t + c->handed_out % c->documents) % VOCABULARY;
  }
  for (int32_t t = 0; t < c->asked; t++) {
    c->token[DOCUMENT + t] = (c->handed_out + 3 * t) % VOCABULARY;
  }
  *request = (moerun__request){.index = c->handed_out++,
                               .num_prompt = DOCUMENT + c->asked,
                               .prompt = c->token,
                               .max_new_tokens = 2,
                               .sampling.top_p = 1};
  return MOERUN_OK;
}

static moerun_status count_rank(void *context, const moerun__completion *done) {
  crowd *c = context;
  c->per_rank[done->rank]++;
  return MOERUN_OK;
}

/* A document is fed once on each rank that is asked of it: of a question that
 * is the document itself the last page is fed, which has to answer. */
static void a_document_is_fed_once(void **state) {
  (void)state;
  for (int32_t asked = 0; asked <= ASKED; asked += ASKED) {
    static crowd c;
    moerun__progress progress;
    int stopped = 1;
    int64_t ranks = 0;
    const moerun__engine_options how = {.shares_prefixes = 1};
    const moerun__engine_callbacks callbacks = {
        .context = &c, .next = next_question, .finished = count_rank};
    moerun_session *session = open_session(50, ROOM);
    c = (crowd){.questions = QUESTIONS, .documents = 1, .asked = asked};
    assert_all_ok(run_engine(session, &how, &callbacks, &progress, &stopped));
    for (int32_t r = 0; r < test_size(); r++) {
      ranks += c.per_rank[r] > 0;
    }
    const int64_t once = asked == 0 ? DOCUMENT - PAGE : DOCUMENT;
    const int64_t each = DOCUMENT + asked - once;
    assert_all_ranks(
        on_root(progress.prompt_tokens == ranks * once + QUESTIONS * each &&
                progress.reused_tokens == (QUESTIONS - ranks) * once));
    moerun_session_destroy(session);
  }
}

/* As many documents as ranks, asked of in turn: each is fed on one rank, and
 * all ranks have as much to do. */
static void a_document_goes_to_one_rank(void **state) {
  (void)state;
  static crowd c;
  moerun__progress progress;
  int stopped = 1;
  const int32_t R = test_size();
  const moerun__engine_options how = {.shares_prefixes = 1};
  const moerun__engine_callbacks callbacks = {
      .context = &c, .next = next_question, .finished = count_rank};
  moerun_session *session = open_session(50, ROOM);
  c = (crowd){.questions = SEATS * R, .documents = R, .asked = ASKED};
  assert_all_ok(run_engine(session, &how, &callbacks, &progress, &stopped));
  assert_all_ranks(
      on_root(progress.prompt_tokens == R * (DOCUMENT + SEATS * ASKED)));
  for (int32_t r = 0; r < R; r++) {
    assert_all_ranks(on_root(c.per_rank[r] == SEATS));
  }
  moerun_session_destroy(session);
}

/* ---- Where every row is fed ---------------------------------------------- */

static void run_counted(moerun__progress *progress,
                        const moerun__session_extra *extra,
                        const moerun__engine_options *how) {
  static crowd c;
  moerun_session *session = NULL;
  int stopped = 1;
  const moerun_session_options options = {.struct_size = sizeof options,
                                          .max_tokens = 64,
                                          .max_sequences = SEATS,
                                          .kv_tokens = ROOM};
  const moerun__engine_callbacks callbacks = {
      .context = &c, .next = next_question, .finished = count_rank};
  c = (crowd){.questions = 3, .documents = 1, .asked = ASKED};
  assert_all_ok(moerun__session_create_with(&session, model, &options, extra));
  assert_all_ok(run_engine(session, how, &callbacks, progress, &stopped));
  moerun_session_destroy(session);
}

static void traces_and_capacities_feed_all(void **state) {
  (void)state;
  static const moerun__session_extra traced = {.record_trace = 1};
  static const moerun__session_extra limited = {.gate.capacity.gamma = 8000};
  const moerun__session_extra *const extras[] = {&traced, &limited};
  for (int i = 0; i < 2; i++) {
    moerun__progress progress;
    const moerun__engine_options how = {.record_trace = i == 0,
                                        .shares_prefixes = 1};
    run_counted(&progress, extras[i], &how);
    assert_all_ranks(on_root(progress.reused_tokens == 0 &&
                             progress.prompt_tokens == 3 * (DOCUMENT + ASKED)));
  }
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(mixes_are_the_same),
      cmocka_unit_test(a_document_is_fed_once),
      cmocka_unit_test(a_document_goes_to_one_rank),
      cmocka_unit_test(traces_and_capacities_feed_all),
  };
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
