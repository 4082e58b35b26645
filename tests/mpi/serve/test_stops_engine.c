/* Requests with stops: they end where a search of the undisturbed tokens says,
 * on any number of ranks, with any tokens that they come with. */
#include "support/engine_run.h"
#include "support/mpi_test.h"

#include <moerun/moerun_mpi.h>

#define MODEL MOERUN_TEST_DATA "/hf/mixtral_bf16"

enum { NEW_TOKENS = 14, STOP_BYTES = 32 };

static moerun_comm *comm;
static moerun_placement *placement;
static moerun_model *model;
static moerun__tokenizer *tokenizer;
static moerun_session *session;
static const moerun_session_options options = {
    SIZED(options), .max_tokens = 16, .max_sequences = 2, .kv_tokens = 96};

static int32_t prompt[80];
static int32_t order[RUN_REQUESTS];
static moerun__request requests[RUN_REQUESTS];
static char stop_text[RUN_REQUESTS][STOP_BYTES];
static int32_t stop_token[RUN_REQUESTS];
static run_result free_ones[RUN_REQUESTS]; /* without stops */
static run_result results[RUN_REQUESTS];

/* Token 12 is spelt "t12 ". */
static moerun__tokenizer *make_tokenizer(int32_t vocab_size) {
  moerun__text file = {0};
  moerun__tokenizer *t = NULL;
  moerun_status status = moerun__text_print(
      &file, "{\"decoder\":{\"type\":\"Fuse\"},\"model\":{\"type\":\"BPE\","
             "\"merges\":[],\"vocab\":{");
  for (int32_t i = 0; status == MOERUN_OK && i < vocab_size; i++) {
    status = moerun__text_print(&file, "%s\"t%d \":%d", i > 0 ? "," : "", i, i);
  }
  if (status == MOERUN_OK) status = moerun__text_print(&file, "}}}");
  if (status == MOERUN_OK) {
    status = moerun__tokenizer_parse(&t, file.bytes, file.count, "t");
  }
  moerun__text_clear(&file);
  return status == MOERUN_OK ? t : NULL;
}

/* What has come token by token, on rank 0. */
static int32_t streamed[RUN_REQUESTS][NEW_TOKENS];
static int32_t num_streamed[RUN_REQUESTS];

static moerun_status take_token(void *context, const moerun__completion *next) {
  const run_state *state = context;
  const int64_t i = next->index;
  if (next->num_tokens != 1 || next->num_traced != 0 || state->result[i].seen ||
      num_streamed[i] >= NEW_TOKENS) {
    return MOERUN_ERR_INVALID;
  }
  streamed[i][num_streamed[i]++] = next->token[0];
  return MOERUN_OK;
}

/* [collective] Runs all with `kept` of what they generate. */
static void run_all(run_result *out, const run_result *before, int32_t kept) {
  run_state run = {.request = requests,
                   .order = order,
                   .count = RUN_REQUESTS,
                   .result = out,
                   .before = before};
  const moerun__engine_options how = {
      .streams = kept % 2, .stop_bytes = STOP_BYTES, .tokenizer = tokenizer};
  const moerun__engine_callbacks callbacks = {.context = &run,
                                              .next = run_next,
                                              .streamed = take_token,
                                              .finished = run_finished};
  moerun__progress progress;
  int stopped = 1;
  memset(num_streamed, 0, sizeof num_streamed);
  memset(out, 0, RUN_REQUESTS * sizeof *out);
  for (int32_t i = 0; before != NULL && i < RUN_REQUESTS; i++) {
    const int32_t most = before[i].num_tokens - 1;
    run.kept[i] = kept < most ? kept : most;
  }
  assert_all_ok(run_engine(session, &how, &callbacks, &progress, &stopped));
  assert_int_equal(stopped, 0);
}

static void make_requests(void) {
  for (int32_t i = 0; i < RUN_REQUESTS; i++) {
    order[i] = i;
    requests[i] = (moerun__request){
        .index = i,
        .num_prompt = 3 + i,
        .prompt = prompt,
        .max_new_tokens = NEW_TOKENS,
        .sampling = {
            .temperature = 1.5, .top_p = 1, .seed = 5, .stream = (uint64_t)i}};
  }
}

/* From the middle of a token that was generated to that of the next; or the
 * token itself. */
static void ask_for_stops(void) {
  for (int32_t i = 0; i < RUN_REQUESTS; i++) {
    moerun__stops *stops = &requests[i].stops;
    const int32_t at = 1 + i % 5;
    const int32_t *token = free_ones[i].token;
    requests[i].min_new_tokens = i % 4 == 3 ? 2 : 0;
    if (i % 3 == 2) {
      stop_token[i] = token[at];
      stops->num_tokens = 1;
      stops->token = &stop_token[i];
      continue;
    }
    (void)snprintf(stop_text[i], STOP_BYTES, "%d t%d", token[at] % 10,
                   token[at + 1]);
    stops->num_texts = 1;
    stops->text = stop_text[i];
    stops->text_bytes = (int32_t)strlen(stop_text[i]) + 1;
  }
}

static int is_cut(const run_result *found, const run_result *whole) {
  return found->seen == 1 && found->num_tokens <= whole->num_tokens &&
         memcmp(found->token, whole->token,
                (size_t)found->num_tokens * sizeof(int32_t)) == 0;
}

static int is_same(const run_result *a, const run_result *b) {
  return is_cut(a, b) && a->num_tokens == b->num_tokens &&
         a->finish == b->finish;
}

static void stops_end_requests_wherever_they_run(void **state) {
  (void)state;
  static run_result first[RUN_REQUESTS];
  int stopped = 0;
  make_requests();
  run_all(free_ones, NULL, 0);
  if (test_rank() == 0) ask_for_stops();
  run_all(first, NULL, 0);
  for (int32_t i = 0; test_rank() == 0 && i < RUN_REQUESTS; i++) {
    moerun__stop_watch watch = {0};
    int ends = 0;
    const moerun__request *r = &requests[i];
    /* What is forbidden before min_new_tokens changes the draws. */
    const int is_free = r->min_new_tokens == 0;
    if (is_free) assert_true(is_cut(&first[i], &free_ones[i]));
    stopped += first[i].finish == MOERUN_FINISH_STOP;
    assert_int_equal(moerun__stop_watch_begin(&watch, &r->stops,
                                              r->min_new_tokens, tokenizer),
                     MOERUN_OK);
    for (int32_t k = 0; k < first[i].num_tokens; k++) {
      assert_int_equal(ends, 0);
      assert_int_equal(moerun__stop_watch_put(&watch, &ends, first[i].token[k]),
                       MOERUN_OK);
    }
    assert_int_equal(ends, first[i].finish == MOERUN_FINISH_STOP);
    moerun__stop_watch_clear(&watch);
  }
  if (test_rank() == 0) assert_in_range(stopped, 8, RUN_REQUESTS);
  for (int32_t kept = 1; kept < NEW_TOKENS; kept++) {
    run_all(results, first, kept);
    for (int32_t i = 0; test_rank() == 0 && i < RUN_REQUESTS; i++) {
      assert_true(is_same(&results[i], &first[i]));
      const int32_t all = results[i].num_tokens;
      const int32_t began = kept < all - 1 ? kept : all - 1;
      /* All but the last, with which its completion came. */
      const int32_t came = kept % 2 == 1 ? all - 1 - began : 0;
      assert_int_equal(num_streamed[i], came);
      assert_memory_equal(streamed[i], results[i].token + began,
                          (size_t)came * sizeof(int32_t));
    }
  }
}

/* The source is asked on rank 0 alone, and its mistakes end all. */
static void stops_that_do_not_fit_are_refused(void **state) {
  (void)state;
  static const char *const words[] = {"expected stops of at most 4 bytes",
                                      "stop texts need a tokenizer"};
  for (int i = 0; i < 2; i++) {
    run_state run = {.request = requests,
                     .order = order,
                     .count = RUN_REQUESTS,
                     .result = results};
    const moerun__engine_options how = {.stop_bytes = i == 0 ? 4 : STOP_BYTES,
                                        .tokenizer = i == 0 ? tokenizer : NULL};
    const moerun__engine_callbacks callbacks = {
        .context = &run, .next = run_next, .finished = run_finished};
    moerun_session *again = NULL;
    moerun__progress progress;
    int stopped = 0;
    memset(results, 0, sizeof results);
    assert_all_ok(moerun_session_create(&again, model, &options));
    const moerun_status status =
        run_engine(again, &how, &callbacks, &progress, &stopped);
    assert_int_equal(status,
                     test_rank() == 0 ? MOERUN_ERR_INVALID : MOERUN_ERR_PEER);
    if (test_rank() == 0) {
      assert_non_null(strstr(moerun_last_error(), words[i]));
    }
    moerun_session_destroy(again);
  }
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(stops_end_requests_wherever_they_run),
      cmocka_unit_test(stops_that_do_not_fit_are_refused),
  };
  moerun_model_shape shape = {.struct_size = sizeof shape};
  if (MPI_Init(&argc, &argv) != MPI_SUCCESS) return EXIT_FAILURE;
  int failed =
      moerun_comm_create_mpi(&comm, MPI_COMM_WORLD, NULL) != MOERUN_OK ||
      moerun_model_shape_load(&shape, MODEL) != MOERUN_OK ||
      moerun_placement_create_block(&placement, shape.num_moe_layers,
                                    shape.num_experts,
                                    test_size()) != MOERUN_OK ||
      moerun_model_load(&model, comm, placement, MODEL, NULL) != MOERUN_OK ||
      moerun_session_create(&session, model, &options) != MOERUN_OK;
  if (!failed) {
    tokenizer = make_tokenizer(model->config.vocab_size);
    failed = tokenizer == NULL || cmocka_run_group_tests(tests, NULL, NULL);
  }
  moerun__tokenizer_destroy(tokenizer);
  moerun_session_destroy(session);
  moerun_model_destroy(model);
  moerun_placement_destroy(placement);
  moerun_comm_destroy(comm);
  (void)MPI_Finalize();
  return failed;
}
