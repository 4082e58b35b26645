/* The public solve: the placements of the private one from each of its three
 * inputs, and what it refuses. */
#include "placement/methods/method.h"
#include "runtime/base/timer.h"
#include "support/cmocka.h"
#include "support/synthetic_trace.h"
#include "support/temp_dir.h"
#include "support/trace_save.h"

#include <string.h>

enum { TOKENS = 600, LAYERS = 3, E = 8, K = 2, R = 4 };

static moerun__trace trace;
static int32_t ids[TOKENS * LAYERS * K];
static int64_t counts[LAYERS * E];

static int set_up(void **state) {
  (void)state;
  const synthetic make = {.tokens = TOKENS,
                          .sequence_tokens = 50,
                          .layers = LAYERS,
                          .experts = E,
                          .terms = K,
                          .classes = 4,
                          .affinity = 1.8,
                          .seed = 3,
                          .sample = 4};
  trace = synthetic_create(&make);
  for (int32_t i = 0; i < TOKENS * LAYERS * K; i++) {
    ids[i] = trace.ids[i];
    counts[i / K % LAYERS * E + ids[i]]++;
  }
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  synthetic_free(&trace);
  return 0;
}

static moerun_placement_problem from_ids(void) {
  return (moerun_placement_problem){.struct_size =
                                        sizeof(moerun_placement_problem),
                                    .ids = ids,
                                    .num_tokens = TOKENS,
                                    .num_layers = LAYERS,
                                    .num_experts = E,
                                    .experts_per_token = K,
                                    .topology = "2 nodes x 2 ranks",
                                    .objective = "cut",
                                    .seed = 11};
}

static moerun_placement_problem from_counts(void) {
  return (moerun_placement_problem){.struct_size =
                                        sizeof(moerun_placement_problem),
                                    .counts = counts,
                                    .num_layers = LAYERS,
                                    .num_experts = E,
                                    .num_ranks = R};
}

static int same(const moerun_placement *a, const moerun_placement *b) {
  const size_t n = LAYERS * E;
  return memcmp(a->replica_offset, b->replica_offset,
                (n + 1) * sizeof(int32_t)) == 0 &&
         memcmp(a->rank_of, b->rank_of,
                (size_t)a->replica_offset[n] * sizeof(int32_t)) == 0;
}

/* What the method gives by the private interface. */
static moerun_placement *privately_in(const moerun__problem *problem,
                                      const char *method, uint64_t seed,
                                      int32_t spare_slots, double seconds) {
  moerun_placement *placement = NULL;
  const moerun__method_options options = {.seed = seed,
                                          .time_limit_s = seconds,
                                          .clock = moerun__now,
                                          .spare_slots = spare_slots};
  assert_int_equal(moerun__place(&placement, NULL, NULL, problem,
                                 moerun__method_find(method), &options),
                   MOERUN_OK);
  return placement;
}

static moerun_placement *privately(const moerun__problem *problem,
                                   const char *method, uint64_t seed,
                                   int32_t spare_slots) {
  return privately_in(problem, method, seed, spare_slots, 0);
}

/* The same by both interfaces, and another placement than `usual`. */
static void is_heeded(const moerun_placement_problem *asked,
                      const moerun_placement *usual) {
  moerun__topology *topology = NULL;
  moerun__problem *problem = NULL;
  moerun_placement *found = NULL;
  const moerun__problem_options options = {.objective = MOERUN_OBJECTIVE_CUT,
                                           .slack = asked->slack,
                                           .spare_slots = asked->spare_slots};
  assert_int_equal(moerun_placement_solve(&found, asked), MOERUN_OK);
  assert_int_equal(moerun__topology_parse(&topology, asked->topology),
                   MOERUN_OK);
  assert_int_equal(moerun__problem_create(&problem, &trace, topology, &options),
                   MOERUN_OK);
  moerun_placement *expected =
      privately_in(problem, asked->method != NULL ? asked->method : "cd",
                   asked->seed, asked->spare_slots, asked->seconds);
  assert_true(same(found, expected));
  assert_false(same(found, usual));
  moerun_placement_destroy(expected);
  moerun_placement_destroy(found);
  moerun__problem_destroy(problem);
  moerun__topology_destroy(topology);
}

static void each_setting_is_heeded(void **state) {
  (void)state;
  moerun_placement *usual = NULL;
  moerun_placement *drawn = NULL;
  moerun_placement_problem asked = from_ids();
  assert_int_equal(moerun_placement_solve(&usual, &asked), MOERUN_OK);
  asked.slack = 0.6;
  is_heeded(&asked, usual);
  asked = from_ids();
  asked.spare_slots = 1;
  is_heeded(&asked, usual);
  asked = from_ids();
  asked.seconds = 1e-9; /* over at once */
  is_heeded(&asked, usual);
  asked = from_ids();
  asked.topology = "2 nodes x 2 ranks, speed 1 1 1 0.5";
  asked.spare_slots = 2; /* a slow rank may have fewer experts then */
  is_heeded(&asked, usual);
  asked = from_ids();
  asked.method = "random";
  assert_int_equal(moerun_placement_solve(&drawn, &asked), MOERUN_OK);
  asked.seed++;
  is_heeded(&asked, drawn);
  moerun_placement_destroy(drawn);
  moerun_placement_destroy(usual);
}

static void ids_and_files_give_the_same(void **state) {
  (void)state;
  temp_dir dir;
  char path[TEMP_PATH];
  moerun__topology *topology = NULL;
  moerun__problem *problem = NULL;
  moerun_placement *by_ids = NULL;
  moerun_placement *by_file = NULL;
  const moerun__problem_options options = {.objective = MOERUN_OBJECTIVE_CUT};
  moerun_placement_problem asked = from_ids();
  assert_true(temp_dir_create(&dir));
  assert_int_equal(trace_save(&trace, temp_path(path, &dir, "trace.npy")),
                   MOERUN_OK);
  assert_int_equal(moerun_placement_solve(&by_ids, &asked), MOERUN_OK);
  asked.ids = NULL;
  asked.trace_path = path;
  assert_int_equal(moerun_placement_solve(&by_file, &asked), MOERUN_OK);
  assert_int_equal(moerun__topology_parse(&topology, asked.topology),
                   MOERUN_OK);
  assert_int_equal(moerun__problem_create(&problem, &trace, topology, &options),
                   MOERUN_OK);
  moerun_placement *expected = privately(problem, "cd", 11, 0);
  assert_true(same(by_ids, expected));
  assert_true(same(by_file, expected));
  assert_string_equal(by_file->model, trace.model);
  assert_string_equal(by_file->method, "cd");
  moerun_placement_destroy(expected);
  moerun_placement_destroy(by_ids);
  moerun_placement_destroy(by_file);
  moerun__problem_destroy(problem);
  moerun__topology_destroy(topology);
  temp_dir_remove(&dir);
}

static void counts_are_balanced(void **state) {
  (void)state;
  moerun__topology *topology = NULL;
  moerun__problem *problem = NULL;
  moerun_placement *found = NULL;
  moerun_placement_problem asked = from_counts();
  asked.spare_slots = 1;
  assert_int_equal(moerun_placement_solve(&found, &asked), MOERUN_OK);
  assert_int_equal(moerun__topology_parse(&topology, "4 ranks"), MOERUN_OK);
  assert_int_equal(
      moerun__problem_create_loads(&problem, counts, LAYERS, E, topology, 0),
      MOERUN_OK);
  moerun_placement *expected = privately(problem, "eplb", 0, 1);
  assert_true(same(found, expected));
  assert_int_equal(found->replica_offset[LAYERS * E], LAYERS * (E + R));
  moerun_placement_destroy(expected);
  moerun_placement_destroy(found);
  moerun__problem_destroy(problem);
  moerun__topology_destroy(topology);
}

/* A limit that is over at once still gives a placement. */
static void time_limits_give_what_there_is(void **state) {
  (void)state;
  moerun_placement *found = NULL;
  moerun_placement_problem asked = from_ids();
  asked.seconds = 1e-9;
  assert_int_equal(moerun_placement_solve(&found, &asked), MOERUN_OK);
  assert_int_equal(moerun__placement_check(found), MOERUN_OK);
  moerun_placement_destroy(found);
}

static void refused(const moerun_placement_problem *asked, moerun_status code,
                    const char *text) {
  moerun_placement *found = NULL;
  assert_int_equal(moerun_placement_solve(&found, asked), code);
  assert_null(found);
  if (strstr(moerun_last_error(), text) == NULL) {
    fail_msg("expected \"%s\", found \"%s\"", text, moerun_last_error());
  }
}

static void bad_problems_are_refused(void **state) {
  (void)state;
  moerun_placement_problem asked = from_ids();
  asked.struct_size = 0;
  refused(&asked, MOERUN_ERR_INVALID, "moerun_placement_problem: struct_size");
  asked = from_ids();
  asked.counts = counts;
  refused(&asked, MOERUN_ERR_INVALID,
          "one of trace_path, ids and counts, found 2");
  asked = from_ids();
  asked.num_ranks = 4;
  refused(&asked, MOERUN_ERR_INVALID,
          "one of topology and num_ranks, found both");
  static const int32_t ranks[] = {-4, INT32_MIN, INT32_MAX};
  for (size_t i = 0; i < sizeof ranks / sizeof *ranks; i++) {
    asked.topology = NULL;
    asked.num_ranks = ranks[i];
    refused(&asked, MOERUN_ERR_INVALID, "num_ranks: expected 1 to 1048576, ");
  }
  asked = from_ids();
  asked.method = "best";
  refused(&asked, MOERUN_ERR_INVALID,
          "placement: method: expected one of contiguous, ");
  asked = from_ids();
  asked.objective = "speed";
  refused(&asked, MOERUN_ERR_INVALID, "objective: expected fanout, cut, ");
  asked = from_ids();
  asked.seconds = -1;
  refused(&asked, MOERUN_ERR_INVALID, "seconds");
  asked = from_ids();
  asked.trace_path = "nowhere.npy";
  asked.ids = NULL;
  refused(&asked, MOERUN_ERR_IO, "nowhere.npy");
  asked.trace_path = "";
  refused(&asked, MOERUN_ERR_INVALID, "trace_path: expected a path");
  asked = from_counts();
  asked.method = "cd";
  refused(&asked, MOERUN_ERR_UNSUPPORTED, "method cd needs the routing");
  refused(NULL, MOERUN_ERR_INVALID, "moerun_placement_problem is NULL");
}

/* What could have no effect, or contradicts what is given, does not pass in
 * silence. */
static void settings_without_effect_are_refused(void **state) {
  (void)state;
  moerun_placement_problem asked = from_counts();
  asked.objective = "tail";
  refused(&asked, MOERUN_ERR_INVALID,
          "objective: expected none beside counts, which say loads alone");
  asked = from_counts();
  asked.num_tokens = -5;
  refused(&asked, MOERUN_ERR_INVALID, "expected 0 beside counts, found -5 and");
  asked = from_counts();
  asked.experts_per_token = K;
  refused(&asked, MOERUN_ERR_INVALID,
          "expected 0 beside counts, found 0 and 2");
  temp_dir dir;
  char path[TEMP_PATH];
  assert_true(temp_dir_create(&dir));
  assert_int_equal(trace_save(&trace, temp_path(path, &dir, "trace.npy")),
                   MOERUN_OK);
  static const struct {
    int64_t num_tokens;
    int32_t num_layers;
    int32_t experts_per_token;
    const char *words;
  } others[] = {
      {TOKENS + 1, 0, 0, "num_tokens: expected 0 or 600, found 601"},
      {0, LAYERS + 1, 0, "num_layers: expected 0 or 3, found 4"},
      {0, 0, -1, "experts_per_token: expected 0 or 2, found -1"},
  };
  for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
    asked = from_ids();
    asked.ids = NULL;
    asked.trace_path = path;
    asked.num_tokens = others[i].num_tokens;
    asked.num_layers = others[i].num_layers;
    asked.experts_per_token = others[i].experts_per_token;
    refused(&asked, MOERUN_ERR_SHAPE, others[i].words);
  }
  temp_dir_remove(&dir);
}

/* The most rows of a layer are placed by any method of loads and any slack; one
 * more is refused, however many layers and experts share in it. */
static void counts_beyond_the_most_are_refused(void **state) {
  (void)state;
  static const char *const methods[] = {"eplb", "lpt"};
  static int64_t most[LAYERS * E];
  moerun_placement_problem asked = from_counts();
  asked.counts = most;
  for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
    moerun_placement *found = NULL;
    asked.method = methods[i];
    asked.slack = 1e6;
    for (int32_t l = 0; l < LAYERS; l++) {
      memset(most + l * E, 0, E * sizeof *most);
      most[l * E + l] = (INT64_C(1) << 53) - 7;
      most[l * E + E - 1] = 7;
    }
    assert_int_equal(moerun_placement_solve(&found, &asked), MOERUN_OK);
    assert_int_equal(moerun__placement_check(found), MOERUN_OK);
    moerun_placement_destroy(found);
    most[E + 4]++;
    refused(&asked, MOERUN_ERR_INVALID,
            "counts: layer 1: expected at most 2^53 rows in all");
    most[E + 3] = INT64_MAX;
    refused(&asked, MOERUN_ERR_INVALID, "counts: layer 1: expected at most");
    for (int32_t n = 0; n < LAYERS * E; n++) {
      most[n] = INT64_MAX;
    }
    refused(&asked, MOERUN_ERR_INVALID, "counts: layer 0: expected at most");
  }
}

static void bad_arrays_are_refused(void **state) {
  (void)state;
  static const int32_t sizes[] = {-1, 0, 32768, INT32_MAX};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    moerun_placement_problem asked = from_ids();
    asked.num_layers = sizes[i];
    refused(&asked, MOERUN_ERR_INVALID, "layers of 1 to ");
    asked = from_counts();
    asked.num_experts = sizes[i];
    refused(&asked, MOERUN_ERR_INVALID, "layers of 1 to ");
  }
  moerun_placement_problem asked = from_ids();
  const int32_t kept = ids[5 * LAYERS * K + 1];
  ids[5 * LAYERS * K + 1] = E;
  refused(&asked, MOERUN_ERR_INVALID,
          "token 5, layer 0: expected experts -1 to 7, found 8");
  ids[5 * LAYERS * K + 1] = ids[5 * LAYERS * K];
  refused(&asked, MOERUN_ERR_INVALID, "ids: token 5");
  ids[5 * LAYERS * K + 1] = kept;
  asked.num_tokens = 0;
  refused(&asked, MOERUN_ERR_INVALID, "at least one token");
  counts[E + 3] -= 1000000;
  asked = from_counts();
  refused(&asked, MOERUN_ERR_INVALID, "layer 1, expert 3: expected 0 or more");
  counts[E + 3] += 1000000;
}

/* Each expert has hosts, and the slots of a rank are 0, 1, …, experts
 * ascending; beyond the sizes there is nothing. */
static void a_solution_can_be_read(void **state) {
  (void)state;
  moerun_placement_problem problem = from_counts();
  moerun_placement *placement = NULL;
  problem.spare_slots = 1;
  assert_int_equal(moerun_placement_solve(&placement, &problem), MOERUN_OK);
  assert_int_equal(moerun_placement_num_layers(placement), LAYERS);
  assert_int_equal(moerun_placement_num_experts(placement), E);
  assert_int_equal(moerun_placement_num_ranks(placement), R);
  for (int32_t l = 0; l < LAYERS; l++) {
    int32_t hosts[E] = {0};
    int32_t replicas = 0;
    for (int32_t r = 0; r < R; r++) {
      int32_t slots = 0;
      for (int32_t e = 0; e < E; e++) {
        const int32_t slot = moerun_placement_slot(placement, l, e, r);
        if (slot == -1) continue;
        assert_int_equal(slot, slots++);
        hosts[e]++;
      }
      replicas += slots;
      assert_in_range(slots, 1, E / R + 1);
    }
    for (int32_t e = 0; e < E; e++) {
      assert_in_range(hosts[e], 1, R);
    }
    assert_int_equal(replicas, E + R);
  }
  assert_int_equal(moerun_placement_slot(placement, -1, 0, 0), -1);
  assert_int_equal(moerun_placement_slot(placement, LAYERS, 0, 0), -1);
  assert_int_equal(moerun_placement_slot(placement, 0, -1, 0), -1);
  assert_int_equal(moerun_placement_slot(placement, 0, E, 0), -1);
  assert_int_equal(moerun_placement_slot(placement, 0, 0, R), -1);
  assert_int_equal(moerun_placement_slot(placement, 0, 0, -1), -1);
  moerun_placement_destroy(placement);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(ids_and_files_give_the_same),
      cmocka_unit_test(each_setting_is_heeded),
      cmocka_unit_test(counts_are_balanced),
      cmocka_unit_test(a_solution_can_be_read),
      cmocka_unit_test(time_limits_give_what_there_is),
      cmocka_unit_test(bad_problems_are_refused),
      cmocka_unit_test(settings_without_effect_are_refused),
      cmocka_unit_test(counts_beyond_the_most_are_refused),
      cmocka_unit_test(bad_arrays_are_refused),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
