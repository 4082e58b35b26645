/* The slack with which blocks are allowed: of loads whose excess is known. */
#include "launch/place/place_slack.h"
#include "runtime/base/memory.h"
#include "support/cmocka.h"

#include <math.h>
#include <string.h>

enum { TOKENS = 64, EXPERTS = 8, RANKS = 4 };

/* Half of all tokens take experts 0 and 1, the others another pair each. */
static int16_t ids[TOKENS * 2];
static int64_t offset[] = {0, TOKENS};
static const moerun__trace trace = {.num_tokens = TOKENS,
                                    .num_layers = 1,
                                    .num_experts = EXPERTS,
                                    .num_terms = 2,
                                    .num_sequences = 1,
                                    .ids = ids,
                                    .sequence_offset = offset};

static int set_up(void **state) {
  (void)state;
  for (int t = 0; t < TOKENS; t++) {
    const int pair = t % 2 == 0 ? 0 : t / 2 % 4;
    ids[2 * t] = (int16_t)(2 * pair);
    ids[2 * t + 1] = (int16_t)(2 * pair + 1);
  }
  return 0;
}

static moerun__place_slack find(const char *cluster, double slack,
                                const char *method, double cost) {
  moerun__place_slack found;
  moerun__topology *topology = NULL;
  moerun__problem *problem = NULL;
  moerun_placement *blocks = NULL;
  const moerun__problem_options options = {.slack = slack};
  const moerun__method_options how = {.seed = 1};
  assert_int_equal(moerun__topology_parse(&topology, cluster), MOERUN_OK);
  assert_int_equal(moerun__problem_create(&problem, &trace, topology, &options),
                   MOERUN_OK);
  assert_int_equal(moerun_placement_create_block(&blocks, 1, EXPERTS, RANKS),
                   MOERUN_OK);
  assert_int_equal(moerun__place_slack_find(&found, problem,
                                            moerun__method_find(method), &how,
                                            blocks, cost, 1),
                   MOERUN_OK);
  moerun_placement_destroy(blocks);
  moerun__problem_destroy(problem);
  moerun__topology_destroy(topology);
  return found;
}

/* Rank 0 has 80 of 128 rows where its share is 32, or 25.6 where another rank
 * is twice as fast: 1.5 and 2.125 times as many too many. */
static void it_is_what_blocks_exceed_a_share_by(void **state) {
  (void)state;
  moerun__place_slack found = find("4 ranks", 0.05, "cd", 2);
  assert_int_equal(found.is_worse, 1);
  assert_true(fabs(found.slack - 1.5) < 1e-9);
  assert_true(found.cost == 1 && found.blocks_cost == 1);
  found = find("4 ranks, speed 1 1 1 2", 0.05, "cd", 2);
  assert_int_equal(found.is_worse, 1);
  assert_true(fabs(found.slack - 2.125) < 1e-9);
}

static void there_is_none_where_blocks_do_not_lack_it(void **state) {
  (void)state;
  assert_int_equal(find("4 ranks", 0.05, "cd", 1).is_worse, 0);
  assert_int_equal(find("4 ranks", 0.05, "lpt", 2).is_worse, 0);
  assert_int_equal(find("4 ranks", 1.5, "cd", 2).is_worse, 0);
  assert_true(find("4 ranks", 0.05, "cd", 1).slack < 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(it_is_what_blocks_exceed_a_share_by),
      cmocka_unit_test(there_is_none_where_blocks_do_not_lack_it),
  };
  return cmocka_run_group_tests(tests, set_up, NULL);
}
