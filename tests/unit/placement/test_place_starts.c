/* The best of several starts, by the judge: a search that is made up returns
 * what is planned for each of them. */
#include "placement/methods/starts.h"
#include "placement/search/visits.h"
#include "support/place_world.h"

enum { MOST = 16 };

/* What the made-up search was called with, and what it returns: experts moved
 * by shift[call] places against blocks. */
static struct {
  int32_t calls;
  uint64_t seed[MOST];
  int32_t shift[MOST];
} plan;

static moerun_status made_up(int32_t *rank_of, const moerun__problem *problem,
                             const moerun__method_options *options,
                             const moerun__deadline *deadline) {
  (void)deadline;
  assert_in_range(plan.calls, 0, MOST - 1);
  const int32_t E = problem->num_experts;
  plan.seed[plan.calls] = options->seed;
  for (int32_t n = 0; n < problem->num_layers * E; n++) {
    const int32_t moved = (n % E + plan.shift[plan.calls]) % E;
    rank_of[n] = moved * problem->num_ranks / E;
  }
  plan.calls++;
  return MOERUN_OK;
}

/* Every token of 8 experts takes a pair 2g, 2g + 1 in all layers: on 4 ranks
 * blocks and shifts by 2 have a fan-out of 1, odd shifts one of 2. `hot`: of
 * all tokens half take pair 0, which no even load allows. */
static void make_pairs(place_world *w, int32_t num_layers, int hot,
                       const char *topology) {
  const moerun__problem_options options = {0};
  enum { TOKENS = 64 };
  memset(w, 0, sizeof *w);
  w->trace = (moerun__trace){.num_tokens = TOKENS,
                             .num_layers = num_layers,
                             .num_experts = 8,
                             .num_terms = 2,
                             .num_sequences = 1};
  const size_t rows = TOKENS * (size_t)num_layers;
  assert_int_equal(moerun__alloc(&w->trace.ids, rows * 2, sizeof *w->trace.ids),
                   MOERUN_OK);
  assert_int_equal(moerun__alloc(&w->trace.sequence_offset, 2,
                                 sizeof *w->trace.sequence_offset),
                   MOERUN_OK);
  w->trace.sequence_offset[1] = TOKENS;
  for (size_t row = 0; row < rows; row++) {
    const size_t token = row / (size_t)num_layers;
    const size_t pair = hot && token % 2 == 0 ? 0 : token / 2 % 4;
    w->trace.ids[row * 2] = (int16_t)(2 * pair);
    w->trace.ids[row * 2 + 1] = (int16_t)(2 * pair + 1);
  }
  assert_int_equal(moerun__topology_parse(&w->topology, topology), MOERUN_OK);
  assert_int_equal(
      moerun__problem_create(&w->problem, &w->trace, w->topology, &options),
      MOERUN_OK);
}

static void clear(place_world *w) {
  moerun__problem_destroy(w->problem);
  moerun__topology_destroy(w->topology);
  moerun__free(w->trace.ids);
  moerun__free(w->trace.sequence_offset);
}

/* rank_of[] is that of experts moved by `shift`. */
static void assert_shift(const int32_t *rank_of, int32_t shift) {
  for (int32_t e = 0; e < 8; e++) {
    assert_int_equal(rank_of[e], (e + shift) % 8 / 2);
  }
}

static void few_layers_have_several_starts(void **state) {
  (void)state;
  static const int32_t layers[] = {1, 2, 3, 4, 5, 26};
  static const int32_t starts[] = {8, 4, 2, 2, 1, 1};
  for (size_t i = 0; i < sizeof layers / sizeof *layers; i++) {
    moerun__problem problem = {.num_layers = layers[i], .num_experts = 16};
    assert_int_equal(moerun__starts_count(&problem), starts[i]);
    problem.num_experts = 256;
    assert_int_equal(moerun__starts_count(&problem), layers[i] < 5 ? 2 : 1);
  }
  moerun__problem largest = {.num_layers = 1, .num_experts = 128};
  assert_int_equal(moerun__starts_count(&largest), 8);
  largest.num_experts = 129;
  assert_int_equal(moerun__starts_count(&largest), 2);
}

static void the_best_start_counts(void **state) {
  (void)state;
  place_world w;
  int32_t rank_of[8];
  const moerun__method_options options = {.seed = 5};
  const moerun__deadline never = {NULL, 0};
  make_pairs(&w, 1, 0, "4 ranks");
  memset(&plan, 0, sizeof plan);
  for (int32_t s = 0; s < MOST; s++) {
    plan.shift[s] = s == 3 || s == 6 ? 2 : 1;
  }
  assert_int_equal(
      moerun__starts_search(rank_of, w.problem, &options, &never, made_up),
      MOERUN_OK);
  assert_int_equal(plan.calls, 8);
  assert_shift(rank_of, 2);
  for (int32_t s = 0; s < 8;
       s++) { /* the first is the one that was asked for */
    assert_int_equal(plan.seed[s] & 0xffff, 5);
    for (int32_t t = 0; t < s; t++) {
      assert_int_not_equal(plan.seed[s], plan.seed[t]);
    }
  }
  assert_int_equal(plan.seed[0], 5);
  clear(&w);
}

/* Pairs on two ranks of one node at first, then some on one rank, and others on
 * two nodes. */
static moerun_status made_up_nodes(int32_t *rank_of,
                                   const moerun__problem *problem,
                                   const moerun__method_options *options,
                                   const moerun__deadline *deadline) {
  static const int32_t ranks[2][8] = {{0, 1, 0, 1, 2, 3, 2, 3},
                                      {0, 0, 2, 2, 1, 3, 1, 3}};
  (void)problem;
  (void)options;
  (void)deadline;
  memcpy(rank_of, ranks[plan.calls > 0], sizeof ranks[0]);
  plan.calls++;
  return MOERUN_OK;
}

/* What costs less by the objective does not win where it costs nodes. */
static void no_start_wins_by_more_traffic_between_nodes(void **state) {
  (void)state;
  place_world w;
  int32_t rank_of[8];
  const moerun__method_options options = {.seed = 5};
  const moerun__deadline never = {NULL, 0};
  make_pairs(&w, 1, 1, "2 nodes x 2 ranks"); /* blocks are not allowed */
  memset(&plan, 0, sizeof plan);
  assert_int_equal(moerun__starts_search(rank_of, w.problem, &options, &never,
                                         made_up_nodes),
                   MOERUN_OK);
  assert_int_equal(plan.calls, 8);
  for (int32_t e = 0; e < 8; e++) {
    assert_int_equal(rank_of[e], e / 4 * 2 + e % 2);
  }
  clear(&w);
}

/* In any number of layers; and only where their loads are allowed. */
static void nothing_costs_more_than_blocks_that_are_allowed(void **state) {
  (void)state;
  const moerun__method_options options = {0};
  const moerun__deadline never = {NULL, 0};
  for (int i = 0; i < 4; i++) {
    place_world w;
    int32_t rank_of[6 * 8];
    const int hot = i % 2;
    make_pairs(&w, i < 2 ? 1 : 6, hot, "4 ranks");
    memset(&plan, 0, sizeof plan);
    for (int32_t s = 0; s < MOST; s++) {
      plan.shift[s] = 1;
    }
    /* What a search returns is within the caps; this one is not asked. */
    assert_int_equal(
        moerun__starts_search(rank_of, w.problem, &options, &never, made_up),
        MOERUN_OK);
    assert_shift(rank_of, hot ? 1 : 0);
    clear(&w);
  }
}

/* Fan-out of one start, from this seed. */
static double fanout_of(const place_world *w, uint64_t seed) {
  int32_t rank_of[64];
  moerun_placement *p = NULL;
  moerun__judgement judged;
  const moerun__method_options options = {.seed = seed};
  const moerun__deadline never = {NULL, 0};
  assert_int_equal(moerun__place_by_levels(rank_of, w->problem, &options,
                                           &never, moerun__visits_search),
                   MOERUN_OK);
  assert_int_equal(moerun_placement_create(&p, 1, 64, 8, rank_of), MOERUN_OK);
  assert_int_equal(
      moerun__judge(&judged, p, &w->trace, w->topology, 1, 1, NULL), MOERUN_OK);
  moerun_placement_destroy(p);
  return judged.fanout;
}

/* One layer of 64 experts, where each seed ends elsewhere. */
static void the_default_method_has_the_best_of_its_starts(void **state) {
  (void)state;
  place_world w;
  moerun_placement *p = NULL;
  const synthetic make = {.tokens = 1500,
                          .layers = 1,
                          .experts = 64,
                          .terms = 6,
                          .classes = 16,
                          .seed = 7,
                          .affinity = 1.5};
  const moerun__method_options options = {.seed = 1};
  place_world_create(&w, &make, "8 ranks", (moerun__problem_options){0});
  const double found = place_and_judge(&p, &w, "cd", &w.trace, options).fanout;
  double best = 64;
  for (uint64_t s = 0; s < 8; s++) {
    const double each = fanout_of(&w, 1 + (s << 48U));
    if (each < best) best = each;
  }
  assert_true(found == best);
  assert_true(best < fanout_of(&w, 1)); /* the first one was not the best */
  moerun_placement_destroy(p);
  place_world_destroy(&w);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(few_layers_have_several_starts),
      cmocka_unit_test(the_best_start_counts),
      cmocka_unit_test(no_start_wins_by_more_traffic_between_nodes),
      cmocka_unit_test(nothing_costs_more_than_blocks_that_are_allowed),
      cmocka_unit_test(the_default_method_has_the_best_of_its_starts),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
