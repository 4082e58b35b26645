/* Metrics and the table of a made-up run. */
#include "launch/options/options.h"
#include "launch/run/metrics.h"
#include "runtime/base/json.h"
#include "runtime/base/memory.h"
#include "support/json_number.h"
#include "support/scratch.h"

#include <math.h>

enum { R = 2, LAYERS = 2, E = 3 };

static int64_t expert_rows[LAYERS * E] = {2, 2, 2, 4, 1, 1};
static int64_t rank_rows[LAYERS * R] = {5, 1, 4, 2};
static int32_t moe_layer[] = {0, -1, 1};
static const moerun__prediction predicted[R] = {
    {1 << 20, 4 << 20, 3 << 19, 40960, 0, 1 << 17, 0, 0, 0},
    {1 << 20, 2 << 20, 3 << 19, 40960, 0, 5 << 20, 0, 0, 0}};
static moerun__model_config model = {.num_layers = 3,
                                     .num_moe_layers = LAYERS,
                                     .num_experts = E,
                                     .experts_per_token = 1,
                                     .moe_layer = moe_layer};
static moerun_placement placement = {.method = "block"};
static moerun__config *config;
static moerun__report report;
static moerun__quantiles layer_time[MOERUN_NUM_LAYER_TIMES * R];
static double wall_over_cpu[R] = {1, 4};
static moerun__gate_counts gate_of_layer[LAYERS] = {
    {.capacity = {.candidates = 6, .dropped = 1}},
    {.capacity = {.candidates = 6, .dropped = 2}}};
static const moerun__replace_count replaced = {4,    2,     10, 5000,
                                               7000, -6000, 900};
static moerun__run_facts facts;

static int set_up(void **state) {
  (void)state;
  static const char *const arguments[] = {"--model", "m \"x\"", "--prompts",
                                          "p"};
  static const char *const environment[] = {NULL};
  if (moerun__config_load(&config, &moerun__options, "run", 4, arguments,
                          environment) != MOERUN_OK) {
    return -1;
  }
  model.arch = moerun__arch_at(0);
  report = (moerun__report){.num_ranks = R,
                            .num_moe_layers = LAYERS,
                            .num_experts = E,
                            .resident_bytes = {1048576, 2097152, 3145728, 1},
                            .home_rows = 12,
                            .rows_out = 5,
                            .rows_local = 13,
                            .results_out = 14,
                            .waves = 15,
                            .count = {.row_bytes = 3000,
                                      .rows = 19,
                                      .messages = 16,
                                      .count_bytes = 17,
                                      .control_bytes = 18},
                            .expert_rows = expert_rows,
                            .rank_rows = rank_rows,
                            .layer_time = layer_time,
                            .wall_over_cpu = wall_over_cpu,
                            .is_lossy = 1,
                            .gate_of_layer = gate_of_layer};
  report.gate.capacity.dropped = 3;
  for (int32_t i = 0; i < MOERUN_NUM_LAYER_TIMES * R; i++) {
    layer_time[i] = (moerun__quantiles){i, i + 0.125, i + 0.25, i + 0.5};
  }
  moerun__histogram_add(&report.first_token, 0.5);
  moerun__histogram_add(&report.first_token, 0.25);
  for (int i = 0; i < 100; i++) { /* those of 85, 93, 98 and 100 % */
    moerun__histogram_add(&report.per_token, i < 85   ? 0.0625
                                             : i < 93 ? 0.125
                                             : i < 98 ? 0.25
                                                      : 1);
  }
  report.gate.home = (moerun__home_counts){
      .rows = 200,
      .terms = 400,
      .chosen = {[MOERUN_HOME_ZERO] = 40, [MOERUN_HOME_COPY] = 6},
      .rows_alone = 10};
  report.seconds[MOERUN_STAGE_EXPERTS] = (moerun__spread){0.25, 0.5, 0.75, 1};
  facts = (moerun__run_facts){.subcommand = "run",
                              .config = config,
                              .model = &model,
                              .placement = &placement,
                              .kernels = "avx2",
                              .transport = "mpi",
                              .num_ranks = R,
                              .predicted = predicted,
                              .ended = {.requests = 9,
                                        .resumed = 2,
                                        .stopped = 1,
                                        .unfinished = {21, 22, 23, 24}},
                              .load_seconds = 1.5,
                              .run_seconds = 4,
                              .progress = {.steps = 7,
                                           .prompt_tokens = 30,
                                           .reused_tokens = 90,
                                           .generated_tokens = 20,
                                           .finished = 3,
                                           .prefill_seconds = 2,
                                           .decode_seconds = 0.5,
                                           .decode_tokens = 16},
                              .report = &report,
                              .replaced = &replaced};
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  moerun__config_destroy(config);
  return 0;
}

typedef struct wanted {
  const char *path;
  double value;
} wanted;

static const wanted numbers[] = {
    {"version", 1},
    {"model.experts", E},
    {"ranks", R},
    {"requests.total", 9},
    {"requests.resumed", 2},
    {"requests.finished", 3},
    {"requests.kept_before", 21},
    {"requests.kept", 23},
    {"tokens.prompt", 30},
    {"tokens.prompt_reused", 90},
    {"tokens.generated", 20},
    {"tokens.generated_in_decode_steps", 16},
    {"tokens.kept_before", 22},
    {"tokens.kept", 24},
    {"steps", 7},
    {"seconds.load", 1.5},
    {"seconds.run", 4},
    {"seconds.prefill_steps", 2},
    {"seconds.decode_steps", 0.5},
    {"tokens_per_second.prefill", 15},
    {"tokens_per_second.decode", 32},
    {"exchange.row_bytes", 3000},
    {"exchange.row_bytes_per_token", 500},
    {"exchange.rows", 19},
    {"exchange.messages", 16},
    {"exchange.count_bytes", 17},
    {"exchange.control_bytes", 18},
    {"exchange.home_rows", 12},
    {"exchange.copies_sent", 5},
    {"exchange.copies_kept", 13},
    {"exchange.results_sent", 14},
    {"exchange.waves", 15},
    {"replacement.looks", 4},
    {"replacement.moves", 2},
    {"replacement.experts_moved", 10},
    {"replacement.bytes_moved", 5000},
    {"replacement.row_bytes_saved_predicted", 7000},
    {"replacement.row_bytes_saved_counted", -6000},
    {"replacement.last_rank_rows_saved_predicted", 900},
    {"stage_seconds.experts.min", 0.25},
    {"stage_seconds.experts.rank_of_max", 1},
    {"stage_seconds.head.max", 0},
    {"latency_seconds.first_token.requests", 2},
    {"latency_seconds.first_token.max", 0.5},
    {"latency_seconds.first_token.p50", 0.2684},
    {"latency_seconds.per_token.requests", 100},
    {"latency_seconds.per_token.p50", 0.06711},
    {"latency_seconds.per_token.p90", 0.1342},
    {"latency_seconds.per_token.p99", 1},
    {"latency_seconds.per_token.max", 1},
    {"home_experts.assignments", 400},
    {"home_experts.zero", 40},
    {"home_experts.copy", 6},
    {"home_experts.rows", 200},
    {"home_experts.rows_without_others", 10},
    {"lossy.capacity.dropped", 3},
    {"memory_bytes.predicted.min", (13 << 19) + 40960 + (1 << 17)},
    {"memory_bytes.predicted.mean", (16 << 19) + 40960 + (1 << 16)},
    {"memory_bytes.predicted.max", (19 << 19) + 40960},
    {"memory_bytes.predicted.rank_of_max", 1},
    {"memory_bytes.peak_resident.mean", 2097152},
};

/* Those of set_up, of time number i. */
static void expect_quantiles(const json_t *times, const char *name, int32_t i) {
  const json_t *time = json_object_get(times, name);
  assert_non_null(time);
  for (int32_t r = 0; r < R; r++) {
    const double p50 = i * R + r;
    const json_t *of[] = {
        json_object_get(time, "p50"), json_object_get(time, "p90"),
        json_object_get(time, "p99"), json_object_get(time, "max")};
    const double wanted_of[] = {p50, p50 + 0.125, p50 + 0.25, p50 + 0.5};
    for (int q = 0; q < 4; q++) {
      const double found = json_number_value(json_array_get(of[q], (size_t)r));
      assert_true(fabs(found - wanted_of[q]) < 0.01);
    }
  }
}

static void metrics_hold_the_numbers(void **state) {
  (void)state;
  moerun__text text = {0};
  json_t *root = NULL;
  assert_int_equal(moerun__metrics_print(&text, &facts), MOERUN_OK);
  assert_int_equal(moerun__json_parse(&root, text.bytes, text.count, "m"),
                   MOERUN_OK);
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
    assert_true(fabs(number_at(root, numbers[i].path) - numbers[i].value) <
                1e-6);
  }
  assert_true(json_is_true(
      json_object_get(json_object_get(root, "requests"), "stopped")));
  const json_t *settings = json_object_get(root, "configuration");
  assert_string_equal(json_string_value(json_object_get(settings, "model")),
                      "m \"x\"");
  assert_string_equal(
      json_string_value(json_object_get(settings, "max_tokens")), "256");
  const json_t *load = json_object_get(root, "load");
  const json_t *layer = json_array_get(json_object_get(load, "expert_rows"), 1);
  assert_int_equal(json_integer_value(json_array_get(layer, 0)), 4);
  layer = json_array_get(json_object_get(load, "rank_rows"), 1);
  assert_int_equal(json_integer_value(json_array_get(layer, 1)), 2);
  const json_t *imbalance = json_object_get(load, "expert_max_over_mean");
  assert_true(json_number_value(json_array_get(imbalance, 0)) == 1);
  assert_true(json_number_value(json_array_get(imbalance, 1)) == 2);
  const json_t *times = json_object_get(root, "layer_seconds");
  assert_int_equal(json_object_size(times), MOERUN_NUM_LAYER_TIMES);
  expect_quantiles(times, "gate", 0);
  expect_quantiles(times, "combine", MOERUN_LAYER_WAITS - 1);
  expect_quantiles(times, "waits", MOERUN_LAYER_WAITS);
  expect_quantiles(times, "layer", MOERUN_LAYER_WHOLE);
  const json_t *ratio = json_object_get(root, "experts_wall_over_cpu");
  assert_true(json_number_value(json_array_get(ratio, 1)) == 4);
  const json_t *lossy = json_object_get(root, "lossy");
  layer = json_array_get(json_object_get(lossy, "layers"), 1);
  assert_true(number_at(layer, "capacity.dropped") == 2);
  assert_null(json_object_get(root, "score"));
  json_decref(root);
  moerun__text_clear(&text);
}

static void metrics_without_a_run(void **state) {
  (void)state;
  moerun__text text = {0};
  json_t *root = NULL;
  moerun__run_facts none = facts;
  none.report = NULL;
  none.progress = (moerun__progress){0};
  none.is_scored = 1;
  none.score = (moerun__score){.tokens = 8, .log_probability = -8 * log(2)};
  none.scored_bytes = 16;
  none.ended.bad = 6;
  assert_int_equal(moerun__metrics_print(&text, &none), MOERUN_OK);
  assert_int_equal(moerun__json_parse(&root, text.bytes, text.count, "m"),
                   MOERUN_OK);
  assert_true(fabs(number_at(root, "score.perplexity") - 2) < 1e-6);
  assert_true(fabs(number_at(root, "score.bits_per_byte") - 0.5) < 1e-6);
  assert_true(number_at(root, "tokens_per_second.prefill") == 0);
  assert_true(number_at(root, "requests.bad") == 6);
  assert_null(json_object_get(root, "load"));
  json_decref(root);
  moerun__text_clear(&text);
}

static void expect_table(const moerun__run_facts *f, const char *const *words,
                         size_t count) {
  char text[4096] = "";
  FILE *stream = tmpfile();
  assert_non_null(stream);
  assert_int_equal(moerun__summary_print(stream, f), MOERUN_OK);
  rewind(stream);
  assert_true(fread(text, 1, sizeof text - 1, stream) > 0);
  (void)fclose(stream);
  for (const char *line = text; *line != '\0';
       line += strcspn(line, "\n") + 1) {
    if (strcspn(line, "\n") > 80) {
      print_error("expected at most 80 columns, found in\n%s", text);
      fail();
    }
  }
  for (size_t i = 0; i < count; i++) {
    if (strstr(text, words[i]) == NULL) {
      print_error("no '%s' in\n%s", words[i], text);
      fail();
    }
  }
}

/* The table of `facts` as a run leaves it that has an output, after a stop in
 * the middle of requests; with an option more. */
static void expect_stopped(const char *key, const char *value, int keeps,
                           moerun__unfinished_counts unfinished,
                           int64_t finished, const char *words) {
  char text[4096] = "";
  char one_line[4096] = "";
  const char *const arguments[] = {"--model", "m", "--prompts",
                                   "p",       key, value};
  static const char *const environment[] = {NULL};
  moerun__config *with = NULL;
  FILE *stream = tmpfile();
  moerun__run_facts f = facts;
  assert_int_equal(moerun__config_load(&with, &moerun__options, "run",
                                       key[0] != '\0' ? 6 : 4, arguments,
                                       environment),
                   MOERUN_OK);
  f.config = with;
  f.ended.is_resumable = 1;
  f.ended.keeps = keeps;
  f.ended.unfinished = unfinished;
  f.progress.finished = finished;
  assert_non_null(stream);
  assert_int_equal(moerun__summary_print(stream, &f), MOERUN_OK);
  rewind(stream);
  assert_true(fread(text, 1, sizeof text - 1, stream) > 0);
  (void)fclose(stream);
  size_t n = 0;
  for (const char *c = text; *c != '\0'; c++) {
    const int is_blank = *c == ' ' || *c == '\n';
    if (!is_blank || (n > 0 && one_line[n - 1] != ' ')) {
      one_line[n] = *c;
      if (is_blank) one_line[n] = ' ';
      n++;
    }
  }
  if (strstr(one_line, words) == NULL) {
    print_error("no '%s' in\n%s", words, one_line);
    fail();
  }
  moerun__config_destroy(with);
}

static void a_stop_says_what_is_kept(void) {
#define STOPPED "; stopped by a signal; the same command with --resume goes on"
#define NONE    "; none was finished in this run: give it more "
  const moerun__unfinished_counts more = {4, 100, 3, 120};
  const moerun__unfinished_counts same = {3, 100, 3, 100};
  const moerun__unfinished_counts none = {0};
  expect_stopped("", "", 1, more, 0,
                 STOPPED
                 "; 120 tokens of 3 unfinished requests are kept ranks");
  expect_stopped("", "", 1, same, 0,
                 STOPPED
                 "; 100 tokens of 3 unfinished requests are kept; nothing "
                 "was generated in this run: give it more time, or "
                 "fewer requests at once (--max-sequences) ranks");
  expect_stopped("", "", 1, same, 1,
                 "; 100 tokens of 3 unfinished requests are kept ranks");
  expect_stopped("", "", 1, none, 1, STOPPED " ranks");
  expect_stopped("--capacity", "2", 0, none, 1,
                 STOPPED "; what unfinished ones have generated is not kept, "
                         "because with --capacity it depends on those computed "
                         "beside them: --isolation route would change that "
                         "ranks");
  expect_stopped(
      "--capacity", "2", 0, none, 0,
      NONE "time, or fewer requests at once (--max-sequences), or less to "
           "generate (--max-new-tokens) ranks");
  expect_stopped("--score", "t", 0, none, 0,
                 STOPPED NONE
                 "time, or fewer requests at once (--max-sequences), or "
                 "shorter windows (--window) ranks");
#undef STOPPED
#undef NONE
}

static void the_table_says_the_same(void **state) {
  (void)state;
  static const char *const words[] = {
      "5 of 9 finished, 2 of them before this run; stopped by a signal\n",
      "2, transport mpi, kernels avx2, placement block\n",
      "15.0 tokens/s",
      "32.0 tokens/s",
      "first token 0.268 / 0.500 s, then 67.11 / 1000.00 ms a token",
      "500.0 bytes/token",
      "expert load      max/mean 1.50 on average over layers, 2.00 in layer 2",
      "rank load        max/mean 1.50 over all layers; by rank 75.0 %, 25.0 %",
      "1.0 / 2.0 / 3.0 MiB min/mean/max a rank (most on rank 1)",
      "9.5 MiB and the program\n",
      "home experts     10.00 % zero, 1.50 % copy of assignments, none of them",
      "5.00 % of rows had no others\n",
      "replacement      moves after 2 of 4 looks, 10 experts (0.00 MiB); rows",
      "next look: 0.01 MiB predicted, -0.01 MiB counted; for",
      "ranks: 900 rows of time predicted\n",
      "experts               0.250      0.500      0.750  1",
  };
  static const char *const counted[] = {"memory ", "dropped ", "latency ",
                                        "requests "};
  static const char *const scored[] = {
      "perplexity       2.0000 over 8 tokens; 0.5000 bits per byte over 16"};
  expect_table(&facts, words, sizeof words / sizeof *words);
  moerun__run_facts text = facts;
  text.is_scored = 1;
  text.score = (moerun__score){.tokens = 8, .log_probability = -8 * log(2)};
  text.scored_bytes = 16;
  expect_table(&text, scored, 1);
  a_stop_says_what_is_kept();
  /* Numbers of a long run of a large model on many ranks. */
  text.ended.requests = 123456789;
  text.ended.resumed = 100000000;
  text.progress.finished = 23456789;
  text.score.tokens = 1234567890123;
  text.scored_bytes = 1234567890123;
  report.resident_bytes = (moerun__spread){1e12, 2e12, 3e12, 1023};
  report.count.row_bytes = (int64_t)1 << 50;
  report.gate.capacity.candidates = (int64_t)1 << 60;
  report.gate.capacity.added = (int64_t)1 << 60;
  report.gate.capacity.lost_all = (int64_t)1 << 60;
  expect_table(&text, counted, sizeof counted / sizeof *counted);
}

static void nth_allocation_fails_cleanly(void **state) {
  (void)state;
  char path[SCRATCH_PATH];
  const size_t live = moerun__alloc_live();
  moerun_status status = MOERUN_ERR_NOMEM;
  moerun__outputs outputs = {0};
  scratch_create(path);
  long nth = 0;
  for (; status != MOERUN_OK && nth < 100; nth++) {
    moerun__alloc_fail_nth(nth);
    status = moerun__metrics_put(&outputs, path, &facts);
    if (status == MOERUN_OK) status = moerun__outputs_commit(&outputs);
    moerun__outputs_clear(&outputs);
    moerun__alloc_fail_nth(-1);
    assert_true(status == MOERUN_OK || status == MOERUN_ERR_NOMEM);
    assert_int_equal(moerun__alloc_live(), live);
  }
  assert_int_equal(status, MOERUN_OK);
  assert_true(nth > 4);
  (void)unlink(path);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(metrics_hold_the_numbers),
      cmocka_unit_test(metrics_without_a_run),
      cmocka_unit_test(the_table_says_the_same),
      cmocka_unit_test(nth_allocation_fails_cleanly),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
