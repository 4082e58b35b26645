/* The gate: every set against every other bit for bit and against the oracle,
 * and what the rule means. */
#include "support/draw.h"
#include "support/kernel_sets.h"
#include "support/queues.h"
#include "support/tolerance.h"

#include <string.h>

enum { SEED = 20260, MAX_ROWS = 3, MAX_EXPERTS = 130 };

typedef struct gate_case {
  int32_t M;
  int32_t E;
  int32_t K;
  moerun__gate_rule rule;
  const float *bias;
  float biases[MAX_EXPERTS];
  float logits[MAX_ROWS * MAX_EXPERTS];
} gate_case;

typedef struct gate_result {
  int32_t ids[MAX_ROWS * MAX_EXPERTS];
  float weight[MAX_ROWS * MAX_EXPERTS];
} gate_result;

static void run_gate(gate_result *out, const moerun__kernels *set,
                     const gate_case *c) {
  float work[MAX_ROWS * MAX_EXPERTS];
  memcpy(work, c->logits, sizeof work);
  set->gate(plain_queue(), &(moerun__choice){out->ids, out->weight, c->K}, work,
            c->M, c->E, &c->rule, c->bias);
}

/* Groups of equal size, at least 2, of which the best have K experts. */
static void draw_groups(gate_case *c, draw *from) {
  const int32_t size = draw_int(from, 2, 8);
  c->rule.num_groups = draw_int(from, 2, MAX_EXPERTS / size);
  c->E = c->rule.num_groups * size;
  c->rule.best_groups = draw_int(from, 1, c->rule.num_groups);
  const int32_t most = c->rule.best_groups * size;
  c->K = draw_int(from, 1, most < 9 ? most : 8);
}

static void draw_case(gate_case *c, draw *from, int number) {
  memset(c, 0, sizeof *c);
  c->M = draw_int(from, 0, MAX_ROWS);
  c->E = draw_int(from, 1, MAX_EXPERTS);
  c->K = draw_int(from, 1, c->E < 9 || number % 10 == 0 ? c->E : 8);
  c->rule.score = (moerun__gate_score)draw_int(from, 0, 1);
  c->rule.renormalise = draw_int(from, 0, 1);
  c->rule.scale = number % 3 == 1 ? 2.5F : 1.0F;
  if (number % 4 == 0) draw_groups(c, from);
  draw_floats(from, c->biases, MAX_EXPERTS, -0.6, 0.6);
  draw_floats(from, c->logits, (size_t)c->M * (size_t)c->E, -6, 6);
  if (number % 3 == 0) { /* many ties */
    for (int32_t j = 0; j < c->M * c->E; j++) {
      c->logits[j] = floorf(c->logits[j] / 3);
    }
    for (int32_t e = 0; e < MAX_EXPERTS; e++) {
      c->biases[e] = floorf(c->biases[e] * 4) / 4;
    }
  }
  if (number % 2 == 0) c->bias = c->biases;
}

/* Whether rounding of scores in the last bit may change an id: two experts
 * of a row, or two groups, that are not tied are nearly so. */
static int is_close(const gate_case *c) {
  const int by_logits = c->bias == NULL && c->rule.num_groups < 2;
  const int32_t size = c->rule.num_groups > 1 ? c->E / c->rule.num_groups : 1;
  float score[MAX_EXPERTS];
  double sum[MAX_EXPERTS];
  if (by_logits) return 0;
  for (int32_t m = 0; m < c->M; m++) {
    const float *row = c->logits + m * c->E;
    if (c->rule.score == MOERUN_SCORE_SIGMOID) {
      ref()->sigmoid(plain_queue(), score, row, (size_t)c->E);
    } else {
      ref()->softmax(score, row, c->E, 1.0F);
    }
    for (int32_t e = 0; e < c->E; e++) {
      if (c->bias != NULL) score[e] += c->bias[e];
    }
    for (int32_t a = 0; a < c->E; a++) {
      for (int32_t b = 0; b < a; b++) {
        if (score[a] != score[b] && fabsf(score[a] - score[b]) < 1e-6F) {
          return 1;
        }
      }
    }
    for (int32_t g = 0; size > 1 && g < c->rule.num_groups; g++) {
      double best = -HUGE_VAL;
      double second = -HUGE_VAL;
      for (int32_t e = g * size; e < (g + 1) * size; e++) {
        const double x = score[e];
        second = fmax(second, fmin(best, x));
        best = fmax(best, x);
      }
      sum[g] = best + second;
      for (int32_t other = 0; other < g; other++) {
        if (fabs(sum[g] - sum[other]) < 1e-6) return 1;
      }
    }
  }
  return 0;
}

static void sets_agree(void **state) {
  (void)state;
  draw from = {SEED, 0};
  int compared = 0;
  for (int i = 0; i < 400; i++) {
    gate_case c;
    gate_result expected;
    gate_result first;
    draw_case(&c, &from, i);
    const size_t count = (size_t)c.M * (size_t)c.K;
    run_gate(&expected, ref(), &c);
    run_gate(&first, moerun__kernels_at(FIRST_SET), &c);
    const int close = is_close(&c);
    compared += !close;
    for (size_t j = 0; !close && j < count; j++) {
      assert_int_equal(first.ids[j], expected.ids[j]);
      assert_within(TOLERANCE_GATE, first.weight[j], expected.weight[j], 1e-9);
    }
    for (int s = FIRST_SET + 1; moerun__kernels_at(s) != NULL; s++) {
      const moerun__kernels *set = moerun__kernels_at(s);
      gate_result found;
      run_gate(&found, set, &c);
      assert_memory_equal(found.ids, first.ids, count * sizeof *found.ids);
      assert_same_bits(found.weight, first.weight, count, set->name, "gate");
    }
  }
  assert_true(compared > 250);
}

/* A row has in a batch what it has alone. */
static void rows_do_not_see_each_other(void **state) {
  (void)state;
  draw from = {SEED + 1, 0};
  for (int i = 0; i < 100; i++) {
    gate_case c;
    gate_result all;
    gate_result alone;
    draw_case(&c, &from, i);
    const moerun__kernels *set = moerun__kernels_at(FIRST_SET);
    run_gate(&all, set, &c);
    const int32_t M = c.M;
    for (int32_t m = 0; m < M; m++) {
      gate_case one = c;
      one.M = 1;
      memcpy(one.logits, c.logits + m * c.E, (size_t)c.E * sizeof(float));
      run_gate(&alone, set, &one);
      assert_memory_equal(alone.ids, all.ids + m * c.K,
                          (size_t)c.K * sizeof(int32_t));
      assert_memory_equal(alone.weight, all.weight + m * c.K,
                          (size_t)c.K * sizeof(float));
    }
  }
}

static void ties_and_nan(void **state) {
  (void)state;
  const moerun__gate_rule renormalised = {.renormalise = 1, .scale = 1};
  const moerun__gate_rule plain = {.scale = 1};
  for (int i = 0; moerun__kernels_at(i) != NULL; i++) {
    const moerun__kernels *set = moerun__kernels_at(i);
    int32_t ids[6];
    float weight[6];
    float ties[6] = {1, 2, 2, -0.0F, 0.0F, 2};
    set->gate(plain_queue(), &(moerun__choice){ids, weight, 6}, ties, 1, 6,
              &renormalised, NULL);
    const int32_t order[6] = {1, 2, 5, 0, 3, 4};
    assert_memory_equal(ids, order, sizeof order);
    assert_true(weight[0] == weight[1] && weight[1] == weight[2]);
    float total = 0;
    for (int j = 0; j < 6; j++) {
      total += weight[j];
    }
    assert_within(TOLERANCE_GATE, total, 1, 0);
    float with_nan[6] = {NAN, -HUGE_VALF, NAN, 5, NAN, -3};
    set->gate(plain_queue(), &(moerun__choice){ids, weight, 5}, with_nan, 1, 6,
              &plain, NULL);
    const int32_t last[5] = {3, 5, 1, 0, 2};
    assert_memory_equal(ids, last, sizeof last);
    assert_true(isnan(weight[0])); /* the sum was poisoned, not hidden */
  }
}

/* sigmoid(0), sigmoid(ln 3), sigmoid(ln 9), sigmoid(ln 19) */
#define HALF                0.0F
#define THREE_QUARTERS      1.0986123F
#define NINE_TENTHS         2.1972246F
#define NINETEEN_TWENTIETHS 2.9444390F

static void bias_chooses_and_does_not_weigh(void **state) {
  (void)state;
  const moerun__gate_rule plain = {.score = MOERUN_SCORE_SIGMOID, .scale = 1};
  const moerun__gate_rule scaled = {
      .score = MOERUN_SCORE_SIGMOID, .renormalise = 1, .scale = 2.5F};
  const float logits[4] = {HALF, NINE_TENTHS, NINETEEN_TWENTIETHS,
                           THREE_QUARTERS};
  const float bias[4] = {0.5F, 0, -0.5F, 0}; /* 1.0, 0.9, 0.45, 0.75 */
  for (int i = 0; moerun__kernels_at(i) != NULL; i++) {
    const moerun__kernels *set = moerun__kernels_at(i);
    int32_t ids[3];
    float weight[3];
    float work[4];
    memcpy(work, logits, sizeof work);
    set->gate(plain_queue(), &(moerun__choice){ids, weight, 3}, work, 1, 4,
              &plain, NULL);
    const int32_t by_score[3] = {2, 1, 3};
    assert_memory_equal(ids, by_score, sizeof by_score);
    memcpy(work, logits, sizeof work);
    set->gate(plain_queue(), &(moerun__choice){ids, weight, 3}, work, 1, 4,
              &plain, bias);
    const int32_t by_both[3] = {0, 1, 3};
    assert_memory_equal(ids, by_both, sizeof by_both);
    assert_within(TOLERANCE_GATE, weight[0], 0.5, 0);
    assert_within(TOLERANCE_GATE, weight[1], 0.9, 0);
    assert_within(TOLERANCE_GATE, weight[2], 0.75, 0);
    memcpy(work, logits, sizeof work);
    set->gate(plain_queue(), &(moerun__choice){ids, weight, 3}, work, 1, 4,
              &scaled, bias);
    assert_memory_equal(ids, by_both, sizeof by_both);
    assert_within(TOLERANCE_GATE, weight[0], 0.5 / 2.15 * 2.5, 0);
    assert_within(TOLERANCE_GATE, weight[1], 0.9 / 2.15 * 2.5, 0);
  }
}

/* The best expert of all is in a group whose two best are not. */
static void best_groups_have_the_best_pairs(void **state) {
  (void)state;
  const moerun__gate_rule rule = {.score = MOERUN_SCORE_SIGMOID,
                                  .scale = 1,
                                  .num_groups = 3,
                                  .best_groups = 2};
  const float low = -9;
  const float logits[9] = {
      NINETEEN_TWENTIETHS, low,  low, HALF, NINE_TENTHS, low,
      THREE_QUARTERS,      HALF, HALF};
  for (int i = 0; moerun__kernels_at(i) != NULL; i++) {
    const moerun__kernels *set = moerun__kernels_at(i);
    int32_t ids[6];
    float weight[6];
    float work[9];
    memcpy(work, logits, sizeof work);
    set->gate(plain_queue(), &(moerun__choice){ids, weight, 6}, work, 1, 9,
              &rule, NULL);
    const int32_t order[6] = {4, 6, 3, 7, 8, 5};
    assert_memory_equal(ids, order, sizeof order);
    /* A bias may lift the first group over the others. */
    const float bias[9] = {0, 1, 0, 0, 0, 0, 0, 0, 0};
    memcpy(work, logits, sizeof work);
    set->gate(plain_queue(), &(moerun__choice){ids, weight, 3}, work, 1, 9,
              &rule, bias);
    const int32_t lifted[3] = {1, 0, 4};
    assert_memory_equal(ids, lifted, sizeof lifted);
    /* NaN is last in its group, and does not open another. */
    memcpy(work, logits, sizeof work);
    work[5] = NAN;
    set->gate(plain_queue(), &(moerun__choice){ids, weight, 6}, work, 1, 9,
              &rule, NULL);
    assert_memory_equal(ids, order, sizeof order);
    assert_true(isnan(weight[5]) && !isnan(weight[0]));
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(sets_agree),
      cmocka_unit_test(rows_do_not_see_each_other),
      cmocka_unit_test(ties_and_nan),
      cmocka_unit_test(bias_chooses_and_does_not_weigh),
      cmocka_unit_test(best_groups_have_the_best_pairs),
  };
  printf("seed %d\n", SEED);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
