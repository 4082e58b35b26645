/* What `place` prints of a placement and writes as JSON, of facts made by hand
 * in which no two numbers are alike. */
#include "launch/place/place_table.h"
#include "runtime/base/json.h"
#include "support/json_number.h"
#include "support/scratch.h"

#include <math.h>

/* Values base + 0.01, base + 0.02, … in the order of the table. */
static moerun__judgement judgement(double base) {
  return (moerun__judgement){
      .fanout = base + 0.01,
      .remote = base + 0.02,
      .returned = base + 0.03,
      .node_fanout = base + 0.04,
      .cut = base + 0.05,
      .node_cut = base + 0.06,
      .weighted = base + 0.07,
      .tail = base + 0.08,
      .load = base + 0.09,
      .worst_load = base + 0.1,
      .row_load = base + 0.11,
      .worst_row_load = base + 0.12,
      .rows_out = (int64_t)(1000 * base) + 1,
      .rows_back = (int64_t)(1000 * base) + 2,
  };
}

static char topology[] = "2 nodes x 2 ranks, speed 1 1 1 0.5";
static char objective[] = "fanout";
static char train[] = "even";
static moerun__certificate certificate = {.topology = topology,
                                          .objective = objective,
                                          .train = train,
                                          .seed = 7,
                                          .slack = 0.05,
                                          .seconds = 1.5,
                                          .cost = 2.75,
                                          .bound = 2.5,
                                          .gap = 0.125,
                                          .has_held_out = 1};
static moerun_placement placement = {.num_layers = 6,
                                     .num_experts = 32,
                                     .num_ranks = 4,
                                     .method = "cd",
                                     .certificate = &certificate};
static const moerun__trace all = {
    .num_tokens = 900, .num_sequences = 17, .num_terms = 3};
static const moerun__trace trained = {.num_tokens = 500, .num_sequences = 9};
static const moerun__trace others = {.num_tokens = 400, .num_sequences = 8};
static moerun__place_facts facts;

static int set_up(void **state) {
  (void)state;
  for (int half = 0; half < MOERUN_NUM_HALVES; half++) {
    certificate.before[half] = judgement(1 + 2 * half);
    certificate.after[half] = judgement(2 + 2 * half);
  }
  facts = (moerun__place_facts){.trace_name = "t.npy",
                                .trace = &all,
                                .train = &trained,
                                .held_out = &others,
                                .placement = &placement,
                                .is_uneven = 1,
                                .is_solved = 1,
                                .has_homes = 1,
                                .copy_bytes = 100,
                                .result_bytes = 7,
                                .before_at_home = judgement(5),
                                .after_at_home = judgement(6),
                                .has_even = 1,
                                .even_load = {1.7, 1.8},
                                .even_worst = {1.9, 2.1}};
  return 0;
}

static void print(char *text, size_t room) {
  FILE *stream = tmpfile();
  assert_non_null(stream);
  moerun__place_print(stream, &facts);
  rewind(stream);
  const size_t got = fread(text, 1, room - 1, stream);
  text[got] = '\0';
  (void)fclose(stream);
}

static const char *const table =
    "placement of 6 MoE layers of 32 experts on 2 nodes x 2 ranks, speed 1 1 1 "
    "0.5\n"
    "  t.npy: 900 tokens in 17 sequences, 3 experts a token\n"
    "  solved for 500 tokens in 9 sequences, judged by the other 8 too\n"
    "\n"
    "                               sequences solved for         other "
    "sequences\n"
    "                              contiguous         cd   contiguous         "
    "cd\n"
    "  ranks a token visits            1.0100     2.0100       3.0100     "
    "4.0100\n"
    "    of them remote (rows out)     1.0200     2.0200       3.0200     "
    "4.0200\n"
    "  results from remote ranks       1.0300     2.0300       3.0300     "
    "4.0300\n"
    "  nodes a token visits            1.0400     2.0400       3.0400     "
    "4.0400\n"
    "  pairs on different ranks        1.0500     2.0500       3.0500     "
    "4.0500\n"
    "  pairs on different nodes        1.0600     2.0600       3.0600     "
    "4.0600\n"
    "  pairs by distance               1.0700     2.0700       3.0700     "
    "4.0700\n"
    "  busiest links, over even        1.0800     2.0800       3.0800     "
    "4.0800\n"
    "  rank load max/mean              1.0900     2.0900       3.0900     "
    "4.0900\n"
    "    in the worst layer            1.1000     2.1000       3.1000     "
    "4.1000\n"
    "    in rows, speeds aside         1.1100     2.1100       3.1100     "
    "4.1100\n"
    "    in the worst layer            1.1200     2.1200       3.1200     "
    "4.1200\n"
    "    replicas sharing evenly                  1.7000                  "
    "1.8000\n"
    "    in the worst layer                       1.9000                  "
    "2.1000\n"
    "\n"
    "  the recorded run again          copies    results          bytes\n"
    "  contiguous                        5001       5002         535114\n"
    "  cd                                6001       6002         642114\n"
    "\n"
    "  cd: fanout, slack 0.05, seed 7, 1.50 s: 2.75; bound 2.5: certified gap "
    "12.5 %\n"
    "  of what can be avoided\n";

static void the_table_is_in_its_columns(void **state) {
  (void)state;
  char text[8192];
  print(text, sizeof text);
  assert_string_equal(text, table);
}

static void verdicts_differ(void **state) {
  (void)state;
  char text[8192];
  certificate.proven = 1;
  print(text, sizeof text);
  assert_non_null(strstr(text, ": 2.75; optimal, proven\n"));
  certificate.proven = 0;
  certificate.bound = -1;
  print(text, sizeof text);
  assert_non_null(strstr(text, ": 2.75; no bound\n"));
  facts.breaks_caps = 1;
  print(text, sizeof text);
  assert_non_null(strstr(text, "2.75; no bound applies, because the\n"
                               "  placement breaks the load caps of slack "
                               "0.05 or the counts of experts\n"));
  facts.breaks_caps = 0;
  facts.is_solved = 0;
  print(text, sizeof text);
  assert_non_null(strstr(text, "slack 0.05: 2.75; given, not solved here;"));
  facts.is_solved = 1;
  certificate.bound = 2.5;
}

static void json_has_the_same_numbers(void **state) {
  (void)state;
  static const struct {
    const char *path;
    double value;
  } numbers[] = {
      {"num_layers", 6},
      {"num_experts", 32},
      {"experts_per_token", 3},
      {"num_ranks", 4},
      {"tokens", 900},
      {"sequences", 17},
      {"sequences_trained_on", 9},
      {"sequences_held_out", 8},
      {"recorded_run.contiguous.copies_sent", 5001},
      {"recorded_run.contiguous.results_sent", 5002},
      {"recorded_run.placed.row_bytes", 642114},
      {"row_load.train.contiguous.load", 1.11},
      {"row_load.train.placed.worst_load", 2.12},
      {"row_load.held_out.contiguous.worst_load", 3.12},
      {"row_load.held_out.placed.load", 4.11},
      {"replicas_sharing_evenly.train.load", 1.7},
      {"replicas_sharing_evenly.train.worst_load", 1.9},
      {"replicas_sharing_evenly.held_out.load", 1.8},
      {"replicas_sharing_evenly.held_out.worst_load", 2.1},
      {"certificate.train.contiguous.tail", 1.08},
      {"certificate.train.placed.worst_load", 2.1},
      {"certificate.held_out.contiguous.remote", 3.02},
      {"certificate.held_out.placed.cut", 4.05},
      {"certificate.gap", 0.125},
  };
  moerun__text text = {0};
  json_t *root = NULL;
  assert_int_equal(moerun__place_json(&text, &facts), MOERUN_OK);
  assert_int_equal(moerun__json_parse(&root, text.bytes, text.count, "t"),
                   MOERUN_OK);
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
    const double found = number_at(root, numbers[i].path);
    if (!(fabs(found - numbers[i].value) < 1e-6)) {
      fail_msg("%s: expected %g, found %g", numbers[i].path, numbers[i].value,
               found);
    }
  }
  assert_null(json_object_get(root, "breaks_caps"));
  json_decref(root);
  moerun__text_clear(&text);
  facts.breaks_caps = 1;
  assert_int_equal(moerun__place_json(&text, &facts), MOERUN_OK);
  assert_int_equal(moerun__json_parse(&root, text.bytes, text.count, "t"),
                   MOERUN_OK);
  assert_true(json_is_true(json_object_get(root, "breaks_caps")));
  facts.breaks_caps = 0;
  json_decref(root);
  moerun__text_clear(&text);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_table_is_in_its_columns),
      cmocka_unit_test(verdicts_differ),
      cmocka_unit_test(json_has_the_same_numbers),
  };
  return cmocka_run_group_tests(tests, set_up, NULL);
}
