/* Which rank a request is sent to by what was dealt before: the last one that
 * had at least half of its prompt, by whole pages, whatever stands behind. */
#include "kernels/kernels.h"
#include "runtime/serve/alike.h"
#include "support/cmocka.h"

#include <stdlib.h>

enum { P = MOERUN_PAGE_POSITIONS, LONGEST = 8 * P };

static moerun__alike alike;
static void *block;
static int32_t token[LONGEST];

static int set_up(void **state) {
  (void)state;
  moerun__arena arena = {NULL, 0};
  moerun__alike_lay_out(&alike, &arena);
  block = malloc(arena.used);
  if (block == NULL) return -1;
  arena = (moerun__arena){block, 0};
  moerun__alike_lay_out(&alike, &arena);
  moerun__alike_clear(&alike);
  for (int32_t t = 0; t < LONGEST; t++) {
    token[t] = 3 * t;
  }
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  free(block);
  return 0;
}

static moerun__request prompt(int32_t count) {
  return (moerun__request){.num_prompt = count, .prompt = token};
}

static int32_t rank_for(int32_t count) {
  const moerun__request request = prompt(count);
  return moerun__alike_rank(&alike, &request);
}

static void deal(int32_t count, int32_t rank) {
  const moerun__request request = prompt(count);
  moerun__alike_dealt(&alike, &request, rank);
}

static void half_of_a_prompt_is_enough(void **state) {
  (void)state;
  assert_int_equal(rank_for(LONGEST), -1);
  /* Two pages; the last token of a third is not there. */
  deal(3 * P, 5);
  assert_int_equal(rank_for(P), -1);
  assert_int_equal(rank_for(P + 1), 5);
  assert_int_equal(rank_for(4 * P), 5);
  assert_int_equal(rank_for(4 * P + 1), -1);
  moerun__alike_clear(&alike);
  assert_int_equal(rank_for(4 * P), -1);
}

static void the_longest_and_the_last_count(void **state) {
  (void)state;
  deal(4 * P + 1, 1);
  deal(3 * P + 1, 2);
  assert_int_equal(rank_for(3 * P + 1), 2);
  assert_int_equal(rank_for(4 * P + 2), 1);
  /* What differs in a page differs in all behind it. */
  token[P]++;
  assert_int_equal(rank_for(2 * P), 2); /* by the first page */
  assert_int_equal(rank_for(4 * P + 1), -1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(half_of_a_prompt_is_enough, set_up,
                                      tear_down),
      cmocka_unit_test_setup_teardown(the_longest_and_the_last_count, set_up,
                                      tear_down),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
