/* Top-p on hand-made rows: weights .5 .25 .125 .125 have sums .5 .75 .875 1,
 * all exact, so that the thresholds can be met to the bit. */
#include "runtime/plan/width.h"
#include "support/cmocka.h"

#include <math.h>
#include <moerun/moerun.h>
#include <stdio.h>
#include <string.h>

#include "support/draw.h"

static const int32_t four[] = {7, 2, 5, 0};
static const float halves[] = {.5F, .25F, .125F, .125F};

static int32_t kept(double top_p, int32_t most) {
  const moerun__width width = {most, top_p, MOERUN_WEIGHT_PRE};
  return moerun__width_of(&width, four, halves, 4);
}

static void thresholds(void **state) {
  (void)state;
  assert_int_equal(kept(.0001, 4), 1);
  assert_int_equal(kept(.5, 4), 1);
  assert_int_equal(kept(.5000001, 4), 2);
  assert_int_equal(kept(.75, 4), 2);
  assert_int_equal(kept(.8, 4), 3);
  assert_int_equal(kept(.9, 4), 4);
  assert_int_equal(kept(1, 4), 4);
  assert_int_equal(kept(1, 3), 3);
  assert_int_equal(kept(1, 1), 1);
  assert_int_equal(kept(.8, 2), 2);
  assert_int_equal(kept(.5, 2), 1);
  assert_int_equal(kept(1, 64), 4);
}

static void odd_rows(void **state) {
  (void)state;
  const moerun__width width = {4, .5, MOERUN_WEIGHT_PRE};
  const int32_t holes[] = {-1, 3, -1, 1};
  const float weight[] = {0, .5F, 0, .5F};
  const int32_t none[] = {-1, -1, -1, -1};
  const float zeros[] = {0, 0, 0, 0};
  const float bad[] = {NAN, NAN, NAN, NAN};
  assert_int_equal(moerun__width_of(&width, holes, weight, 4), 1);
  assert_int_equal(moerun__width_of(&width, none, zeros, 4), 0);
  assert_int_equal(moerun__width_of(&width, four, zeros, 4), 1);
  assert_int_equal(moerun__width_of(&width, four, bad, 4), 4);
}

/* Scores of 8 experts; the gate took 7, 2, 5, 0 and divided by their sum. */
static void cut_and_weigh(void **state) {
  (void)state;
  const float scores[] = {.1F, .05F, .2F, .03F, .01F, .1F, .01F, .4F};
  const struct {
    moerun__weight_rule rule;
    float weight[2];
  } want[] = {{MOERUN_WEIGHT_PRE, {.5F, .25F}},
              {MOERUN_WEIGHT_POST, {2.0F / 3, 1.0F / 3}},
              {MOERUN_WEIGHT_NONE, {.4F, .2F}}};
  for (int i = 0; i < 3; i++) {
    int32_t ids[5] = {7, 2, 5, 0, -1};
    float weight[5] = {.5F, .25F, .125F, .125F, 0};
    moerun__width_counts counts = {0};
    const moerun__width_rows rows = {1, 4, 5, 8, ids, weight, scores};
    const moerun__width width = {8, .75, want[i].rule};
    const int32_t want_ids[] = {7, 2, -1, -1, -1};
    moerun__width_cut(&rows, &width, &counts);
    assert_memory_equal(ids, want_ids, sizeof ids);
    assert_float_equal(weight[0], want[i].weight[0], 1e-6);
    assert_float_equal(weight[1], want[i].weight[1], 1e-6);
    assert_true(weight[2] == 0 && weight[3] == 0 && weight[4] == 0);
    assert_int_equal(counts.terms, 4);
    assert_int_equal(counts.removed, 2);
    assert_true(counts.mass == 1 && counts.mass_lost == .25);
  }
}

/* Every token as if it were alone; the fewest experts that reach p. */
static void each_token_by_itself(void **state) {
  (void)state;
  enum { T = 500, K = 6, STRIDE = 8 };
  draw from = {20250411, 0};
  int32_t ids[T * STRIDE];
  float weight[T * STRIDE];
  int32_t one_ids[STRIDE];
  float one[STRIDE];
  int64_t removed = 0;
  moerun__width_counts counts = {0};
  const moerun__width width = {5, .6, MOERUN_WEIGHT_POST};
  print_message("seed %llu\n", (unsigned long long)from.seed);
  for (int32_t t = 0; t < T; t++) {
    float left = 1;
    for (int32_t j = 0; j < STRIDE; j++) {
      ids[t * STRIDE + j] = j < K ? j : -1;
      weight[t * STRIDE + j] = j < K ? left * draw_float(&from, .2, .9) : 0;
      left -= weight[t * STRIDE + j];
    }
  }
  float before[T * STRIDE];
  memcpy(before, weight, sizeof before);
  const moerun__width_rows all = {T, K, STRIDE, K, ids, weight, NULL};
  moerun__width_cut(&all, &width, &counts);
  for (int32_t t = 0; t < T; t++) {
    moerun__width_counts alone = {0};
    memcpy(one, before + t * STRIDE, sizeof one);
    for (int32_t j = 0; j < STRIDE; j++) {
      one_ids[j] = j < K ? j : -1;
    }
    const moerun__width_rows row = {1, K, STRIDE, K, one_ids, one, NULL};
    moerun__width_cut(&row, &width, &alone);
    assert_memory_equal(one_ids, ids + t * STRIDE, sizeof one_ids);
    assert_memory_equal(one, weight + t * STRIDE, sizeof one);
    double sum = 0;
    double all_of_it = 0;
    for (int32_t j = 0; j < K; j++) {
      all_of_it += (double)before[t * STRIDE + j];
    }
    for (int32_t j = 0; j < K; j++) {
      /* Before it was reached: kept, unless there are 5. */
      assert_int_equal(one_ids[j] >= 0, sum < .6 * all_of_it && j < 5);
      sum += (double)before[t * STRIDE + j];
      removed += one_ids[j] < 0;
    }
  }
  assert_int_equal(counts.removed, removed);
  assert_int_equal(counts.terms, T * K);
  assert_true(removed > T);
}

/* ---- Limits by layer ----------------------------------------------------- */

static void limits_of_texts(void **state) {
  (void)state;
  moerun__width_limits limits;
  int32_t most = 7;
  assert_int_equal(moerun__width_parse(&most, &limits, "32767"), MOERUN_OK);
  assert_int_equal(most, 32767);
  assert_int_equal(limits.count, 0);
  assert_int_equal(moerun__width_parse(&most, &limits, "8-25:4,0-6:12,7:1"),
                   MOERUN_OK);
  assert_int_equal(most, 0);
  assert_int_equal(limits.count, 3);
  const int32_t want[] = {12, 12, 12, 12, 12, 12, 12, 1, 4};
  for (int32_t l = 0; l < 9; l++) {
    assert_int_equal(moerun__width_limit(&limits, l), want[l]);
  }
  assert_int_equal(moerun__width_limit(&limits, 25), 4);
  assert_int_equal(moerun__width_limit(&limits, 26), 0);
  assert_int_equal(moerun__width_limits_check(&limits, 26), MOERUN_OK);
  assert_int_equal(moerun__width_limits_check(&limits, 25), MOERUN_ERR_INVALID);
  assert_non_null(
      strstr(moerun_last_error(), "expected MoE layers 0 to 24, found 25"));
}

static void bad_texts(void **state) {
  (void)state;
  static const struct {
    const char *text;
    const char *found;
  } bad[] = {
      {"", "found \"\""},
      {"0", "found \"0\""},
      {"-1", "found \"-1\""},
      {"32768", "found \"32768\""},
      {"99999999999999999999", "found \"99999999999999999999\""},
      {"2 ", "found \"2 \""},
      {"0-1", "found \"0-1\""},
      {"0:0", "found \"0:0\""},
      {"3-2:1", "found \"3-2:1\""},
      {"0-1:2,", "found \"\""},
      {"0-1:2,x", "found \"x\""},
      {"0-1:2;2:1", "found \"0-1:2;2:1\""},
      {"40000:1", "found \"40000:1\""},
      {"0-3:2,3-4:1", "expected layer 3 once"},
      {"5-9:2,0-6:1", "expected layer 5 once"},
      {"4:2,4:2", "expected layer 4 once"},
  };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    moerun__width_limits limits;
    int32_t most = 0;
    assert_int_equal(moerun__width_parse(&most, &limits, bad[i].text),
                     MOERUN_ERR_INVALID);
    assert_non_null(strstr(moerun_last_error(), bad[i].found));
    assert_int_equal(limits.count, 0);
  }
}

static void too_many_ranges(void **state) {
  (void)state;
  char text[8 * (MOERUN_WIDTH_RANGES + 1)] = "";
  moerun__width_limits limits;
  int32_t most = 0;
  size_t used = 0;
  for (int32_t i = 0; i <= MOERUN_WIDTH_RANGES; i++) {
    assert_int_equal(moerun__width_parse(&most, &limits, i > 0 ? text : "1"),
                     MOERUN_OK);
    assert_int_equal(limits.count, i);
    used += (size_t)snprintf(text + used, sizeof text - used, "%s%d:%d",
                             i > 0 ? "," : "", i, i + 1);
  }
  assert_int_equal(moerun__width_parse(&most, &limits, text),
                   MOERUN_ERR_INVALID);
  assert_non_null(strstr(moerun_last_error(), "at most 64 ranges"));
}

/* Random ranges, some of them overlapping, written out and read back: what a
 * plain table of layers says. Then the text with one character changed: never
 * more than one entry a layer, and a line that begins with the key. */
static void random_texts(void **state) {
  (void)state;
  enum { TEXTS = 20000, LAYERS = 24, BYTES = 256 };
  static const char letters[] = "0123456789-:,x ";
  draw from = {20260319, 0};
  int32_t seen[2] = {0, 0};
  print_message("seed %llu\n", (unsigned long long)from.seed);
  for (int32_t i = 0; i < TEXTS; i++) {
    char text[BYTES] = "";
    int32_t table[LAYERS] = {0};
    int overlap = 0;
    size_t used = 0;
    const int32_t count = draw_int(&from, 1, 4);
    for (int32_t r = 0; r < count; r++) {
      const int32_t first = draw_int(&from, 0, LAYERS - 1);
      const int32_t last =
          draw_int(&from, first, first + 3 < LAYERS ? first + 3 : LAYERS - 1);
      const int32_t most = draw_int(&from, 1, 12);
      used += (size_t)snprintf(text + used, sizeof text - used, "%s%d",
                               r > 0 ? "," : "", first);
      if (last > first || draw_int(&from, 0, 1)) {
        used += (size_t)snprintf(text + used, sizeof text - used, "-%d", last);
      }
      used += (size_t)snprintf(text + used, sizeof text - used, ":%d", most);
      for (int32_t l = first; l <= last; l++) {
        overlap |= table[l] != 0;
        table[l] = most;
      }
    }
    moerun__width_limits limits;
    int32_t most = 0;
    const moerun_status status = moerun__width_parse(&most, &limits, text);
    assert_int_equal(status, overlap ? MOERUN_ERR_INVALID : MOERUN_OK);
    for (int32_t l = 0; !overlap && l < LAYERS; l++) {
      assert_int_equal(moerun__width_limit(&limits, l), table[l]);
    }
    seen[overlap]++;
    text[draw_int(&from, 0, (int32_t)used - 1)] =
        letters[draw_int(&from, 0, (int32_t)sizeof letters - 1)];
    if (moerun__width_parse(&most, &limits, text) != MOERUN_OK) {
      assert_non_null(strstr(moerun_last_error(), "--gate-top-k \""));
      assert_null(strchr(moerun_last_error(), '\n'));
      continue;
    }
    assert_true((most > 0) != (limits.count > 0));
    for (int32_t a = 0; a < limits.count; a++) {
      const moerun__width_range *range = &limits.range[a];
      assert_true(range->most > 0 && range->first <= range->last);
      assert_int_equal(moerun__width_limit(&limits, range->first), range->most);
      assert_int_equal(moerun__width_limit(&limits, range->last), range->most);
    }
  }
  assert_true(seen[0] > TEXTS / 4 && seen[1] > TEXTS / 4);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(thresholds),      cmocka_unit_test(odd_rows),
      cmocka_unit_test(cut_and_weigh),   cmocka_unit_test(each_token_by_itself),
      cmocka_unit_test(limits_of_texts), cmocka_unit_test(bad_texts),
      cmocka_unit_test(too_many_ranges), cmocka_unit_test(random_texts),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
