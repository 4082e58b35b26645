/* The worked example has 6 tokens, 4 experts and K = 2; S are softmax scores:
 *
 *   token   0    1    2    3    4    5
 *   e = 0  .50  .60  .45  .70  .40  .55     all six tokens chose expert 0
 *       1  .30  .25  .35  .10  .20  .05     tokens 0, 1, 2
 *       2  .15  .10  .10  .15  .30  .30     tokens 3, 4, 5
 *       3  .05  .05  .10  .05  .10  .10     none
 *
 * With gamma = 1, C = 3: expert 0 loses three, the others are at or below. */
#include "support/capacity_world.h"

#include <math.h>

static const float example[] = {.50F, .30F, .15F, .05F, .60F, .25F, .10F, .05F,
                                .45F, .35F, .10F, .10F, .70F, .10F, .15F, .05F,
                                .40F, .20F, .30F, .10F, .55F, .05F, .30F, .10F};

static world *worked_example(void) {
  world *w = world_create();
  w->T = 6;
  w->E = 4;
  w->K = 2;
  memcpy(w->scores, example, sizeof example);
  for (int32_t t = 0; t < 6; t++) {
    w->position[t] = t;
  }
  w->num_extra = 2;
  w->extra[0] = 2;
  w->extra[1] = 3;
  return w;
}

/* want: for each token the experts it has, as digits: "12 01 0". */
static void assert_experts(const world *w, const char *want) {
  for (int32_t t = 0; t < w->T; t++) {
    char has[WORLD_E] = {0};
    for (; *want != ' ' && *want != '\0'; want++) {
      has[*want - '0'] = 1;
    }
    if (*want == ' ') want++;
    for (int32_t e = 0; e < w->E; e++) {
      assert_int_equal(has_expert(w, w->ids, t, e), has[e]);
    }
  }
}

static void rounding(void **state) {
  (void)state;
  assert_int_equal(moerun__capacity_of(1000, 10, 2, 8), 3);    /* 2.5 */
  assert_int_equal(moerun__capacity_of(1100, 100, 1, 1), 110); /* not 111 */
  assert_int_equal(moerun__capacity_of(1500, 6, 2, 4), 5);     /* 4.5 */
  assert_int_equal(moerun__capacity_of(1000, 6, 2, 4), 3);
  assert_int_equal(moerun__capacity_of(1001, 6, 2, 4), 4); /* 3.003 */
  assert_int_equal(moerun__capacity_of(1000, 1, 1, 64), 1);
  assert_int_equal(moerun__capacity_of(1000, 0, 8, 64), 1);
  assert_int_equal(moerun__capacity_of(1000000, INT32_MAX, 64, 1),
                   (int64_t)INT32_MAX * 64 * 1000);
}

static void worked_drops(void **state) {
  (void)state;
  world *w = worked_example();
  const struct {
    moerun__capacity_metric metric;
    int32_t gamma;
    int64_t dropped;
    const char *experts;
  } want[] = {
      {MOERUN_METRIC_SCORE, 1000, 3, "1 01 1 02 2 02"},
      {MOERUN_METRIC_FIRST, 1000, 3, "01 01 01 2 2 2"},
      {MOERUN_METRIC_LAST, 1000, 3, "1 1 1 02 02 02"},
      {MOERUN_METRIC_SCORE, 1500, 1, "01 01 01 02 2 02"},
      {MOERUN_METRIC_SCORE, 2000, 0, "01 01 01 02 02 02"},
  };
  for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
    w->options.metric = want[i].metric;
    w->options.gamma = want[i].gamma;
    world_apply(w);
    assert_int_equal(w->counts.dropped, want[i].dropped);
    assert_int_equal(w->counts.candidates, 12);
    assert_int_equal(w->counts.tokens, 6);
    assert_int_equal(w->counts.over, want[i].dropped > 0);
    assert_int_equal(w->capacity.rows_after[0], 6 - want[i].dropped);
    assert_experts(w, want[i].experts);
  }
  world_destroy(w);
}

/* Of expert 0 gamma = 1.5 drops one: by score .40 of token 4, which is .571 of
 * that token's .70; by weight .45 of token 2, which is .5625 of its .80. */
static void weights_are_scores_of_a_token(void **state) {
  (void)state;
  world *w = worked_example();
  w->options.gamma = 1500;
  w->options.metric = MOERUN_METRIC_WEIGHT;
  world_apply(w); /* a gate that does not normalise */
  assert_experts(w, "01 01 01 02 2 02");
  w->normalise = 1;
  world_apply(w);
  assert_experts(w, "01 01 1 02 02 02");
  w->options.metric = MOERUN_METRIC_SCORE;
  world_apply(w);
  assert_experts(w, "01 01 01 02 2 02");
  /* gamma = 1, whoever asks: expert 3 by score .05 .05 .10 .05 .10 .10, by
   * weight .062 .059 .125 .059 .143 .118; with C = 2 token 5 gives way. */
  w->options.metric = MOERUN_METRIC_WEIGHT;
  w->options.expansion = MOERUN_EXPANSION_FILL;
  w->options.most_added = 1;
  w->options.gamma = 500;
  world_apply(w);
  for (int32_t t = 0; t < 6; t++) {
    assert_int_equal(has_expert(w, w->ids, t, 3), t == 2 || t == 4);
  }
  world_destroy(w);
}

static void assert_sums(const world *w, const double *want) {
  const int32_t width = world_width(w);
  for (int32_t t = 0; t < w->T; t++) {
    const double sum =
        moerun__weight_sum(w->ids + t * width, w->weight + t * width, width);
    assert_float_equal((float)sum, (float)want[t], 1e-6F);
  }
}

static void worked_expansions(void **state) {
  (void)state;
  world *w = worked_example();
  w->options.expansion = MOERUN_EXPANSION_PAPER;
  world_apply(w);
  assert_experts(w, "12 01 13 0 23 023");
  assert_sums(w, (const double[]){.45, .85, .45, .70, .40, .95});
  assert_int_equal(w->counts.dropped, 4); /* token 3 lost expert 2 by a tie */
  assert_int_equal(w->counts.offered, 9);
  assert_int_equal(w->counts.added, 4);
  assert_int_equal(w->counts.over, 3);
  assert_float_equal((float)w->counts.mass, 4.85F, 1e-5F);
  assert_float_equal((float)w->counts.mass_dropped, 1.50F, 1e-5F);
  assert_float_equal((float)w->counts.mass_added, .45F, 1e-5F);
  /* In gate order, what was added behind. */
  const int32_t last[] = {0, 2, 3, -1};
  assert_memory_equal(w->ids + 5 * 4, last, sizeof last);
  /* One at most: token 2 asks for 2 alone, token 3 for 3, its only other. */
  w->options.most_added = 1;
  world_apply(w);
  assert_experts(w, "12 01 1 03 23 023");
  assert_int_equal(w->counts.offered, 6);
  assert_int_equal(w->counts.dropped, 4);
  assert_int_equal(w->counts.added, 4);
  world_destroy(w);
}

/* Experts 0, 1 and 2 are full: 3 alone has room. Tokens 0, 2 and 4 lost one. */
static void worked_fills(void **state) {
  (void)state;
  world *w = worked_example();
  w->options.expansion = MOERUN_EXPANSION_FILL;
  world_apply(w);
  assert_experts(w, "13 01 13 02 23 02");
  assert_int_equal(w->counts.offered, 3);
  assert_int_equal(w->counts.dropped, 3);
  assert_int_equal(w->counts.added, 3);
  assert_int_equal(w->counts.over, 1);
  assert_float_equal((float)w->counts.mass_added, .25F, 1e-6F);
  assert_sums(w, (const double[]){.35, .85, .45, .85, .40, .85});
  /* Whoever asks: of the scores .05 .05 .10 .05 .10 .10 three stay. */
  for (w->options.most_added = 1; w->options.most_added < 4;
       w->options.most_added++) {
    world_apply(w);
    assert_experts(w, "1 01 13 02 23 023");
    assert_int_equal(w->counts.offered, 6);
    assert_int_equal(w->counts.dropped, 3);
    assert_int_equal(w->counts.added, 3);
  }
  /* C = 5: one is dropped, and asks for 3 though 1 and 2 have room. */
  w->options.most_added = 0;
  w->options.gamma = 1500;
  world_apply(w);
  assert_experts(w, "01 01 01 02 23 02");
  w->num_extra = 3;
  w->extra[2] = 1;
  world_apply(w);
  assert_experts(w, "01 01 01 02 12 02"); /* .20 there, .10 for 3 */
  /* Nothing dropped: nothing added, and no second round. */
  w->options.gamma = 2000;
  world_apply(w);
  assert_int_equal(w->counts.offered, 0);
  assert_memory_equal(w->ids, w->gate_ids, sizeof(int32_t) * 6 * 4);
  assert_memory_equal(w->weight, w->gate_weight, sizeof(float) * 6 * 4);
  world_destroy(w);
}

/* Places that a token has are the gate's and the most it may ask for. */
static void widths(void **state) {
  (void)state;
  moerun__capacity_options options = {.gamma = 1000};
  assert_int_equal(moerun__capacity_width(&options, 4, 16), 4);
  options.expansion = MOERUN_EXPANSION_PAPER;
  assert_int_equal(moerun__capacity_width(&options, 4, 16), 20);
  options.most_added = 3;
  assert_int_equal(moerun__capacity_width(&options, 4, 16), 7);
  assert_int_equal(moerun__capacity_width(&options, 4, 2), 6);
  options.expansion = MOERUN_EXPANSION_FILL;
  assert_int_equal(moerun__capacity_width(&options, 4, 16), 7);
  options.most_added = 0;
  assert_int_equal(moerun__capacity_width(&options, 4, 16), 8);
  assert_int_equal(moerun__capacity_width(&options, 4, 3), 7);
}

/* Token 0 of the example loses .5 of .5 + .3; token 1 loses nothing. */
static void weight_rules(void **state) {
  (void)state;
  world *w = worked_example();
  w->normalise = 1;
  world_apply(w);
  assert_int_equal(w->ids[0], 1);
  assert_int_equal(w->ids[1], -1);
  assert_memory_equal(w->weight, w->gate_weight + 1, sizeof(float));
  assert_true(w->weight[1] == 0);
  w->options.rule = MOERUN_WEIGHT_POST;
  world_apply(w);
  assert_float_equal(w->weight[0], 1.0F, 1e-6F);
  assert_memory_equal(w->weight + 2, w->gate_weight + 2, 2 * sizeof(float));
  w->options.rule = MOERUN_WEIGHT_NONE;
  world_apply(w);
  assert_true(w->weight[0] == .30F);
  assert_true(w->weight[2] == .60F && w->weight[3] == .25F);
  /* Added experts are on the scale of the gate's: token 2, .45 and .35. */
  w->options.rule = MOERUN_WEIGHT_PRE;
  w->options.expansion = MOERUN_EXPANSION_FILL;
  world_apply(w);
  assert_int_equal(w->ids[2 * 4 + 1], 3);
  assert_float_equal(w->weight[2 * 4 + 1], .10F / .80F, 1e-6F);
  /* A gate that does not normalise: post restores its sum, .80, not 1. */
  w->normalise = 0;
  w->options.expansion = MOERUN_EXPANSION_OFF;
  w->options.rule = MOERUN_WEIGHT_POST;
  world_apply(w);
  assert_float_equal(w->weight[0], .80F, 1e-6F);
  world_destroy(w);
}

/* K = 1 and all tokens want expert 0: those that lose it have nothing. */
static void all_lost_is_nothing(void **state) {
  (void)state;
  for (int rule = MOERUN_WEIGHT_PRE; rule <= MOERUN_WEIGHT_NONE; rule++) {
    world *w = worked_example();
    w->K = 1;
    w->options.rule = (moerun__weight_rule)rule;
    w->normalise = 1;
    world_apply(w); /* C = 2 */
    assert_experts(w, " 0  0  ");
    assert_int_equal(w->counts.lost_all, 4);
    for (int32_t t = 0; t < 6; t++) {
      if (w->ids[t] < 0) assert_true(w->weight[t] == 0);
    }
    w->options.keep_top1 = 1;
    world_apply(w);
    assert_experts(w, "0 0 0 0 0 0");
    assert_int_equal(w->counts.dropped, 0);
    assert_int_equal(w->counts.over, 1);
    world_destroy(w);
  }
}

/* With K = 2 a first choice beats a higher score of a second choice. */
static void first_choices_are_kept(void **state) {
  (void)state;
  world *w = worked_example();
  const float scores[] = {.60F, .40F, 0,    0, .50F, .45F, .05F, 0,
                          .45F, .30F, .25F, 0, .30F, .35F, .34F, .01F};
  w->T = 4; /* expert 0: first of three, second of none; 1 of all: C = 2 */
  memcpy(w->scores, scores, sizeof scores);
  world_apply(w);
  assert_experts(w, "01 01  2");
  assert_int_equal(w->counts.lost_all, 1);
  w->options.keep_top1 = 1;
  world_apply(w);
  assert_experts(w, "0 01 0 12");
  assert_int_equal(w->counts.lost_all, 0);
  assert_int_equal(w->counts.dropped, 2);
  world_destroy(w);
}

static void priority_is_above_the_metric(void **state) {
  (void)state;
  world *w = worked_example();
  for (int32_t t = 0; t < 6; t++) {
    w->priority[t] = (uint8_t)(t == 1 || t == 3 || t == 5); /* the best three */
  }
  world_apply(w);
  assert_experts(w, "01 1 01 2 02 2");
  /* Yet no class lets an expanded candidate displace a gate's choice. */
  memset(w->priority, 1, sizeof w->priority);
  w->priority[0] = 0; /* has the best class, and expert 2 as an extra */
  w->options.expansion = MOERUN_EXPANSION_FILL;
  world_apply(w);
  assert_int_equal(has_expert(w, w->ids, 0, 2), 0);
  assert_int_equal(has_expert(w, w->ids, 3, 2), 1);
  assert_int_equal(has_expert(w, w->ids, 0, 0), 1);
  w->options.expansion = MOERUN_EXPANSION_PAPER;
  world_apply(w);
  assert_int_equal(has_expert(w, w->ids, 0, 2), 1);
  world_destroy(w);
}

static void decoded_tokens_are_left_alone(void **state) {
  (void)state;
  world *w = worked_example();
  w->decoded[0] = 1; /* the least score but two, and not counted in T either */
  w->decoded[4] = 1;
  w->options.expansion = MOERUN_EXPANSION_PAPER;
  w->options.rule = MOERUN_WEIGHT_POST;
  world_apply(w); /* 4 tokens: C = 2; expert 0 keeps tokens 3 and 1 */
  assert_int_equal(w->counts.tokens, 4);
  assert_memory_equal(w->ids, w->gate_ids, 4 * sizeof(int32_t));
  assert_memory_equal(w->weight, w->gate_weight, 4 * sizeof(float));
  assert_memory_equal(w->ids + 16, w->gate_ids + 16, 4 * sizeof(int32_t));
  assert_int_equal(has_expert(w, w->ids, 1, 0), 1);
  assert_int_equal(has_expert(w, w->ids, 2, 0), 0);
  assert_int_equal(w->capacity.rows_after[0], 4);
  w->options.decode = 1;
  world_apply(w);
  assert_int_equal(w->counts.tokens, 6);
  assert_int_equal(has_expert(w, w->ids, 0, 0), 0);
  /* One token alone loses nothing, whatever gamma and level. */
  w->T = 1;
  w->options.expansion = MOERUN_EXPANSION_OFF;
  w->options.gamma = 1;
  for (int level = MOERUN_LEVEL_EXPERT; level <= MOERUN_LEVEL_RANK; level++) {
    w->options.level = (moerun__capacity_level)level;
    world_apply(w);
    assert_int_equal(w->counts.tokens, 1);
    assert_int_equal(w->counts.dropped, 0);
  }
  world_destroy(w);
}

/* Ranks {0, 3} and {1, 2}, C = 3: 6 rows each, which they have. Then gamma
 * .5, C = 2: 4 rows each; by score .70 .60 .55 .50 and .35 .30 .30 .30. */
static void neighbours_lend_their_room(void **state) {
  (void)state;
  world *w = worked_example();
  w->num_ranks = 2;
  w->rank_of_expert[1] = 1;
  w->rank_of_expert[2] = 1;
  w->options.level = MOERUN_LEVEL_RANK;
  world_apply(w);
  assert_int_equal(w->counts.dropped, 0);
  w->options.gamma = 500;
  world_apply(w);
  assert_experts(w, "01 0 1 0 2 02");
  assert_int_equal(w->counts.dropped, 4);
  assert_int_equal(w->counts.over, 2);
  world_destroy(w);
}

static void numbers_that_are_not(void **state) {
  (void)state;
  world *w = worked_example();
  w->scores[3 * 4] = NAN; /* the best one of expert 0; its gate takes 2, 1 */
  w->K = 3;
  w->options.gamma = 500; /* C = 3 (2.25) */
  /* The gate gave token 3 the others; put expert 0 into its row. */
  world_open(w, 0);
  w->ids[3 * 3] = 0;
  w->weight[3 * 3] = NAN;
  moerun__capacity_apply(&w->capacity, &w->rows, &w->counts);
  assert_int_equal(has_expert(w, w->ids, 3, 0), 0);
  assert_int_equal(w->capacity.rows_after[0], 3);
  assert_int_equal(w->counts.not_numbers, 1);
  assert_true(w->counts.mass == w->counts.mass);
  assert_true(w->counts.mass_dropped == w->counts.mass_dropped);
  /* All NaN: the order of positions is left. */
  for (int32_t i = 0; i < 24; i++) {
    w->scores[i] = NAN;
  }
  w->K = 1;
  w->options.gamma = 1000;
  world_apply(w); /* C = 2 */
  assert_experts(w, "0 0    ");
  /* -0 and 0 are the same score. */
  for (int32_t i = 0; i < 24; i++) {
    w->scores[i] = i == 0 ? -0.0F : 0.0F;
  }
  world_apply(w);
  assert_experts(w, "0 0    ");
  world_destroy(w);
}

/* A token for which the gate chose no expert wants none, loses none, and what
 * an expansion adds to it is nobody's first choice. */
static void tokens_without_experts(void **state) {
  (void)state;
  world *w = worked_example();
  w->options.expansion = MOERUN_EXPANSION_PAPER;
  w->options.keep_top1 = 1;
  w->options.gamma = 500; /* C = 2 (1.5) */
  world_open(w, 0);
  w->ids[0] = -1;
  w->ids[1] = -1;
  moerun__capacity_apply(&w->capacity, &w->rows, &w->counts);
  assert_int_equal(w->counts.candidates, 10);
  assert_int_equal(w->ids[0], -1); /* expert 2: tokens 4, 5; 3: 2, 4 */
  assert_int_equal(w->counts.lost_all, 0);
  assert_int_equal(w->capacity.rows_after[2], 2);
  assert_int_equal(w->capacity.rows_after[3], 2);
  world_destroy(w);
}

/* Scores and weights that are all 0 have no scale and no sum to restore. */
static void zeros_stay_zeros(void **state) {
  (void)state;
  world *w = worked_example();
  w->options.expansion = MOERUN_EXPANSION_FILL;
  w->options.rule = MOERUN_WEIGHT_POST;
  memset(w->scores, 0, sizeof w->scores);
  world_apply(w);
  assert_true(w->counts.dropped > 0 && w->counts.added > 0);
  for (int32_t i = 0; i < 6 * 4; i++) {
    assert_true(w->weight[i] == 0);
  }
  world_destroy(w);
}

static void options_are_checked(void **state) {
  (void)state;
  moerun__capacity_options options = {.gamma = 1000, .window = 1};
  assert_int_equal(moerun__capacity_check(&options), MOERUN_OK);
  options.gamma = 0;
  assert_int_equal(moerun__capacity_check(&options), MOERUN_ERR_INVALID);
  options.gamma = 1000001;
  assert_int_equal(moerun__capacity_check(&options), MOERUN_ERR_INVALID);
  options.gamma = 1000;
  options.scope = MOERUN_SCOPE_REQUEST;
  assert_int_equal(moerun__capacity_check(&options), MOERUN_OK);
  options.level = MOERUN_LEVEL_RANK;
  assert_int_equal(moerun__capacity_check(&options), MOERUN_ERR_INVALID);
  options.level = MOERUN_LEVEL_EXPERT;
  options.window = 0;
  assert_int_equal(moerun__capacity_check(&options), MOERUN_ERR_INVALID);
  options.window = 1;
  options.most_added = -1;
  assert_int_equal(moerun__capacity_check(&options), MOERUN_ERR_INVALID);
}

static void rows_are_spread_in_place(void **state) {
  (void)state;
  int32_t ids[12] = {1, 2, 3, 4, 5, 6};
  float weight[12] = {.1F, .2F, .3F, .4F, .5F, .6F};
  const int32_t want_ids[] = {1, 2, -1, -1, 3, 4, -1, -1, 5, 6, -1, -1};
  const float want[] = {.1F, .2F, 0, 0, .3F, .4F, 0, 0, .5F, .6F, 0, 0};
  moerun__capacity_spread(ids, weight, 3, 2, 4);
  assert_memory_equal(ids, want_ids, sizeof ids);
  assert_memory_equal(weight, want, sizeof weight);
  moerun__capacity_spread(ids, weight, 0, 2, 4);
  assert_memory_equal(ids, want_ids, sizeof ids);
}

static void no_tokens(void **state) {
  (void)state;
  world *w = worked_example();
  w->T = 0;
  for (int scope = MOERUN_SCOPE_SOURCE; scope <= MOERUN_SCOPE_REQUEST;
       scope += MOERUN_SCOPE_REQUEST) {
    w->options.scope = (moerun__capacity_scope)scope;
    world_apply(w);
    assert_int_equal(w->counts.tokens, 0);
    assert_int_equal(w->counts.over, 0);
  }
  world_destroy(w);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(rounding),
      cmocka_unit_test(worked_drops),
      cmocka_unit_test(weights_are_scores_of_a_token),
      cmocka_unit_test(worked_expansions),
      cmocka_unit_test(worked_fills),
      cmocka_unit_test(widths),
      cmocka_unit_test(weight_rules),
      cmocka_unit_test(all_lost_is_nothing),
      cmocka_unit_test(first_choices_are_kept),
      cmocka_unit_test(priority_is_above_the_metric),
      cmocka_unit_test(decoded_tokens_are_left_alone),
      cmocka_unit_test(neighbours_lend_their_room),
      cmocka_unit_test(numbers_that_are_not),
      cmocka_unit_test(tokens_without_experts),
      cmocka_unit_test(zeros_stay_zeros),
      cmocka_unit_test(options_are_checked),
      cmocka_unit_test(rows_are_spread_in_place),
      cmocka_unit_test(no_tokens),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
