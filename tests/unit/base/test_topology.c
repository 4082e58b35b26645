/* The line that says what a cluster is: what is read, and where the finger
 * points when it cannot be. */
#include "runtime/base/topology.h"
#include "support/cmocka.h"

#include <math.h>
#include <string.h>

static void topologies_are_read(void **state) {
  (void)state;
  moerun__topology *t = NULL;
  assert_int_equal(
      moerun__topology_parse(&t, "2 nodes x 2 ranks, intra 40 GB/s 2 us, inter "
                                 "2.5 GB/s, speed 1 1 1 0.5"),
      MOERUN_OK);
  assert_int_equal(t->num_ranks, 4);
  assert_int_equal(t->ranks_per_node, 2);
  assert_true(t->intra_bytes_per_second == 40e9);
  assert_true(fabs(t->intra_seconds - 2e-6) < 1e-15);
  assert_true(t->inter_bytes_per_second == 2.5e9);
  assert_true(t->inter_seconds == 0);
  assert_true(fabs(t->speed[0] - 4 / 3.5) < 1e-12);
  assert_true(fabs(t->speed[3] - 2 / 3.5) < 1e-12);
  moerun__topology_destroy(t);
  assert_int_equal(moerun__topology_parse(&t, " 8 ranks"), MOERUN_OK);
  assert_int_equal(t->num_ranks, 8);
  assert_int_equal(t->ranks_per_node, 8);
  assert_int_equal(t->num_nodes, 1);
  assert_true(t->speed[7] == 1);
  moerun__topology_destroy(t);
  assert_int_equal(moerun__topology_parse(&t, "1 node x 1 rank,inter 1 MB/s"),
                   MOERUN_OK);
  assert_true(t->inter_bytes_per_second == 1e6);
  moerun__topology_destroy(t);
  moerun__topology_destroy(NULL);
}

static void bad_topologies_are_refused(void **state) {
  (void)state;
  static const struct {
    const char *text;
    const char *line;
  } bad[] = {
      {"", "topology \"\": expected a whole number from 1 to 1048576 at "
           "character 1, found \"\""},
      {"0 ranks", "topology \"0 ranks\": expected a whole number from 1 to "
                  "1048576 at character 1, found \"0 ranks\""},
      {"4 + 0 ranks", "topology \"4 + 0 ranks\": expected a whole number from "
                      "1 to 1048576 at character 5, found \"0 ranks\""},
      {"4 + ranks", "topology \"4 + ranks\": expected a whole number from 1 to "
                    "1048576 at character 5, found \"ranks\""},
      {"4 + 4", "topology \"4 + 4\": expected \"ranks\" at character 6, found "
                "\"\""},
      {"2 ranks, intra 0 GB/s",
       "topology \"2 ranks, intra 0 GB/s\": expected a bandwidth above 0 at "
       "character 16, found \"0 GB/s\""},
      {"1.5 ranks", "topology \"1.5 ranks\": expected a whole number from 1 to "
                    "1048576 at character 1, found \"1.5 ranks\""},
      {"-4 ranks", "topology \"-4 ranks\": expected a whole number from 1 to "
                   "1048576 at character 1, found \"-4 ranks\""},
      {"2 nodes 4 ranks", "topology \"2 nodes 4 ranks\": expected \"x\" at "
                          "character 9, found \"4 ranks\""},
      {"4 rankss", "topology \"4 rankss\": expected \"ranks\" at character 3, "
                   "found \"rankss\""},
      {"4096 nodes x 4096 ranks",
       "topology \"4096 nodes x 4096 ranks\": expected at most 1048576 ranks, "
       "found 16777216"},
      {"1048576 + 1 ranks",
       "topology \"1048576 + 1 ranks\": expected at most 1048576 ranks, found "
       "1048577"},
      {"2 ranks, intra 4 furlongs",
       "topology \"2 ranks, intra 4 furlongs\": expected TB/s, GB/s or MB/s at "
       "character 18, found \"furlongs\""},
      {"2 ranks, inter 4 GB/s 3 s",
       "topology \"2 ranks, inter 4 GB/s 3 s\": expected ns, us or ms at "
       "character 25, found \"s\""},
      {"2 ranks, speed 1",
       "topology \"2 ranks, speed 1\": expected one speed above 0 for each "
       "rank at character 17, found \"\""},
      {"2 ranks, speed 1 0",
       "topology \"2 ranks, speed 1 0\": expected one speed above 0 for each "
       "rank at character 18, found \"0\""},
      {"2 ranks, speed 1 1, speed 1 1",
       "topology \"2 ranks, speed 1 1, speed 1 1\": expected intra, inter or "
       "speed, each once at character 21, found \"speed 1 1\""},
      {"2 ranks and more", "topology \"2 ranks and more\": expected a comma or "
                           "the end at character 9, found \"and more\""},
  };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    moerun__topology *t = NULL;
    assert_int_equal(moerun__topology_parse(&t, bad[i].text),
                     MOERUN_ERR_FORMAT);
    assert_null(t);
    const char *rest = "; the whole is [NODES nodes x] RANKS ranks [+ more of";
    const size_t length = strlen(bad[i].line);
    const char *line = moerun_last_error();
    assert_memory_equal(line, bad[i].line, length);
    /* All but the number of ranks say what a topology is. */
    assert_true(line[length] == '\0' ? strstr(line, "at most") != NULL
                                     : strstr(line, rest) == line + length);
  }
}

/* Nodes of different sizes, added up with or without their words. */
static void nodes_of_different_sizes_are_read(void **state) {
  (void)state;
  static const char *const lines[] = {
      "4 + 4 + 2 ranks, inter 1 GB/s", "2 nodes x 4 + 2 ranks",
      "2 nodes x 4 ranks+1 node x 2 ranks", "4 ranks +4 ranks + 2 ranks"};
  static const int32_t node_of[10] = {0, 0, 0, 0, 1, 1, 1, 1, 2, 2};
  static const int32_t first[4] = {0, 4, 8, 10};
  moerun__topology *t = NULL;
  for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
    assert_int_equal(moerun__topology_parse(&t, lines[i]), MOERUN_OK);
    assert_int_equal(t->num_ranks, 10);
    assert_int_equal(t->num_nodes, 3);
    assert_int_equal(t->ranks_per_node, 0);
    assert_memory_equal(t->node_of, node_of, sizeof node_of);
    assert_memory_equal(t->first_rank, first, sizeof first);
    moerun__topology_destroy(t);
  }
  assert_int_equal(moerun__topology_parse(&t, "3 + 3 ranks"), MOERUN_OK);
  assert_int_equal(t->ranks_per_node, 3);
  moerun__topology_destroy(t);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(topologies_are_read),
      cmocka_unit_test(bad_topologies_are_refused),
      cmocka_unit_test(nodes_of_different_sizes_are_read),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
