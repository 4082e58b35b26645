/* Sampling: greedy ties, NaN, nucleus sets worked out by hand, independence of
 * everything but (seed, index), frequencies; and what transformers' logits
 * processors leave of made-up logits, frozen by tests/data/sampling. */
#include "runtime/base/json.h"
#include "runtime/base/rng.h"
#include "runtime/decoder/sample.h"
#include "support/cmocka.h"

#include <math.h>
#include <string.h>

/* Found once: to ask the processor what it has takes long on virtual
 * machines. */
static const moerun__kernels *kernels(void) {
  static const moerun__kernels *k = NULL;
  if (k == NULL) assert_int_equal(moerun__kernels_find(&k, "auto"), MOERUN_OK);
  return k;
}

static int32_t sample(const float *logits, int32_t V, moerun__sampling how,
                      int32_t before) {
  float copy[64];
  int32_t heap[64];
  const moerun__history history = {NULL, 0, before};
  memcpy(copy, logits, (size_t)V * sizeof *logits);
  return moerun__sample(kernels(), copy, V, &how, &history, heap);
}

/* Temperature, top_p and seed. */
static moerun__sampling draws(double temperature, double top_p, uint64_t seed,
                              uint64_t stream) {
  return (moerun__sampling){.temperature = temperature,
                            .top_p = top_p,
                            .seed = seed,
                            .stream = stream};
}

static void greedy_takes_the_largest_then_the_lowest_id(void **state) {
  (void)state;
  const moerun__sampling greedy = draws(0, 1, 0, 0);
  assert_int_equal(sample((const float[]){1, 3, 3, 2}, 4, greedy, 0), 1);
  assert_int_equal(sample((const float[]){NAN, -5, NAN, -4}, 4, greedy, 0), 3);
  assert_int_equal(sample((const float[]){NAN, NAN}, 2, greedy, 0), 0);
  assert_int_equal(
      sample((const float[]){-INFINITY, -INFINITY, 0}, 3, greedy, 0), 2);
}

/* p = 0.5, 0.25, 0.125, 0.125: top_p 0.6 keeps the first two, weights 2:1. */
static void nucleus_keeps_the_smallest_set(void **state) {
  (void)state;
  const float logits[] = {(float)log(0.125), (float)log(0.5), (float)log(0.125),
                          (float)log(0.25)};
  int count[4] = {0};
  for (int32_t i = 0; i < 3000; i++) {
    count[sample(logits, 4, draws(1, 0.6, 7, 0), i)]++;
  }
  assert_int_equal(count[0], 0);
  assert_int_equal(count[2], 0);
  assert_in_range(count[1], 1900, 2100); /* 2000 +- 4 standard deviations */
  /* A set of one: always the most probable, ties to the lower id. */
  for (int32_t i = 0; i < 100; i++) {
    assert_int_equal(sample(logits, 4, draws(1, 0.1, 7, 0), i), 1);
    assert_int_equal(sample((const float[]){0, 0}, 2, draws(1, 0.3, 7, 0), i),
                     0);
    /* What reaches the mass exactly is enough. */
    assert_int_equal(sample((const float[]){0, 0}, 2, draws(1, 0.5, 7, 0), i),
                     0);
  }
}

static void whole_distribution_has_its_frequencies(void **state) {
  (void)state;
  const float logits[] = {(float)log(0.1), (float)log(0.2), (float)log(0.7),
                          -INFINITY};
  int count[4] = {0};
  for (int32_t i = 0; i < 10000; i++) {
    count[sample(logits, 4, draws(1, 1, 11, 0), i)]++;
  }
  assert_in_range(count[0], 880, 1120);
  assert_in_range(count[1], 1840, 2160);
  assert_in_range(count[2], 6816, 7184);
  assert_int_equal(count[3], 0);
}

static void temperature_sharpens_and_flattens(void **state) {
  (void)state;
  const float logits[] = {1, 0};
  int sharp = 0;
  int flat = 0;
  for (int32_t i = 0; i < 2000; i++) {
    sharp += sample(logits, 2, draws(0.1, 1, 3, 0), i) == 0;
    flat += sample(logits, 2, draws(100, 1, 3, 0), i) == 0;
  }
  assert_true(sharp >= 1999);       /* 1 - 4.5e-5 each */
  assert_in_range(flat, 915, 1095); /* 0.5025 each */
}

static void a_draw_depends_on_seed_stream_and_index_only(void **state) {
  (void)state;
  float logits[40];
  int differs_by_seed = 0;
  int differs_by_index = 0;
  int differs_by_stream = 0;
  for (int i = 0; i < 40; i++) {
    logits[i] = (float)(i % 7) * 0.3F;
  }
  for (int32_t i = 0; i < 50; i++) {
    const int32_t a = sample(logits, 40, draws(1, 0.9, 5, 0), i);
    const int32_t b = sample(logits, 40, draws(1, 0.9, 5, 0), i);
    assert_int_equal(a, b);
    differs_by_seed += a != sample(logits, 40, draws(1, 0.9, 6, 0), i);
    differs_by_stream += a != sample(logits, 40, draws(1, 0.9, 5, 1), i);
    differs_by_index += a != sample(logits, 40, draws(1, 0.9, 5, 0), i + 50);
  }
  assert_true(differs_by_seed > 25);
  assert_true(differs_by_stream > 25);
  assert_true(differs_by_index > 25);
}

/* ---- What transformers leaves -------------------------------------------- */

enum { V = 24, MOST_TOKENS = 16, SEEDS = 400 };

static double number_of(const json_t *object, const char *key) {
  const json_t *value = json_object_get(object, key);
  assert_true(json_is_number(value));
  return json_number_value(value);
}

static int32_t ids_of(int32_t *out, const json_t *object, const char *key) {
  const json_t *ids = json_object_get(object, key);
  const size_t count = json_array_size(ids);
  assert_in_range(count, 0, MOST_TOKENS / 2);
  for (size_t i = 0; i < count; i++) {
    out[i] = (int32_t)json_integer_value(json_array_get(ids, i));
  }
  return (int32_t)count;
}

/* The token of a uniform number by the frozen probabilities; -1: too near to a
 * border to say. */
static int32_t token_of(const json_t *kept, double uniform) {
  double sum = 0;
  for (size_t i = 0; i < json_array_size(kept); i++) {
    const json_t *pair = json_array_get(kept, i);
    sum += json_number_value(json_array_get(pair, 1));
    if (fabs(sum - uniform) < 2e-6) return -1;
    if (sum > uniform) {
      return (int32_t)json_integer_value(json_array_get(pair, 0));
    }
  }
  return -1;
}

static void expect_case(const json_t *c, int32_t *compared) {
  float logits[V];
  int32_t heap[V];
  int32_t token[MOST_TOKENS];
  moerun__history history = {.token = token};
  moerun__sampling how = {
      .temperature = number_of(c, "temperature"),
      .top_p = number_of(c, "top_p"),
      .top_k = (int32_t)number_of(c, "top_k"),
      .min_p = number_of(c, "min_p"),
      .repetition_penalty = number_of(c, "repetition_penalty"),
      .presence_penalty = number_of(c, "presence_penalty"),
      .frequency_penalty = number_of(c, "frequency_penalty")};
  history.num_prompt = ids_of(token, c, "prompt");
  const int32_t generated = ids_of(token + history.num_prompt, c, "completion");
  history.num_tokens = history.num_prompt + generated;
  for (int32_t s = 0; s < SEEDS; s++) {
    how.seed = (uint64_t)s;
    for (size_t i = 0; i < V; i++) {
      logits[i] = (float)json_number_value(
          json_array_get(json_object_get(c, "logits"), i));
    }
    const int32_t expected =
        how.temperature > 0
            ? token_of(json_object_get(c, "kept"),
                       moerun__uniform(how.seed, 0, (uint64_t)generated))
            : (int32_t)number_of(c, "greedy");
    const int32_t found =
        moerun__sample(kernels(), logits, V, &how, &history, heap);
    if (expected < 0) continue;
    assert_int_equal(found, expected);
    (*compared)++;
  }
}

static void settings_leave_what_transformers_leaves(void **state) {
  (void)state;
  json_t *root = NULL;
  int32_t compared = 0;
  assert_int_equal(moerun__json_load(
                       &root, MOERUN_TEST_DATA "/sampling/cases.json", 1 << 20),
                   MOERUN_OK);
  const json_t *cases = json_object_get(root, "cases");
  const size_t count = json_array_size(cases);
  assert_int_equal(count, 160);
  for (size_t i = 0; i < count; i++) {
    expect_case(json_array_get(cases, i), &compared);
  }
  assert_true(compared > (int32_t)count * SEEDS - 100);
  json_decref(root);
}

static void log_probability_is_the_softmax(void **state) {
  (void)state;
  const float logits[] = {2, -1, 0.5F, -120};
  const double sum = exp(2) + exp(-1) + exp(0.5);
  for (int32_t i = 0; i < 4; i++) {
    float copy[4];
    memcpy(copy, logits, sizeof copy);
    const double found = moerun__log_probability(kernels(), copy, 4, i);
    assert_true(fabs(found - ((double)logits[i] - log(sum))) < 1e-6);
  }
}

/* By the way that takes all of a vocabulary, with ties. */
static void logprobs_are_the_likeliest_in_order(void **state) {
  (void)state;
  static const float logits[] = {1, 3, -2, 3, 0.5F, -120};
  moerun__logprob found[7];
  int32_t heap[6];
  static const int32_t order[] = {1, 3, 0, 4, 2, 5};
  for (int32_t count = 1; count <= 7; count++) {
    float copy[6];
    memcpy(copy, logits, sizeof copy);
    moerun__logprobs(found, count, kernels(), copy, 6, 4, heap);
    assert_int_equal(found[0].token, 4);
    for (int32_t i = 0; i < count; i++) {
      if (i > 0) assert_int_equal(found[i].token, order[i - 1]);
      memcpy(copy, logits, sizeof copy);
      const double exact =
          moerun__log_probability(kernels(), copy, 6, found[i].token);
      assert_true(found[i].value == (float)exact);
    }
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(greedy_takes_the_largest_then_the_lowest_id),
      cmocka_unit_test(nucleus_keeps_the_smallest_set),
      cmocka_unit_test(whole_distribution_has_its_frequencies),
      cmocka_unit_test(temperature_sharpens_and_flattens),
      cmocka_unit_test(a_draw_depends_on_seed_stream_and_index_only),
      cmocka_unit_test(logprobs_are_the_likeliest_in_order),
      cmocka_unit_test(settings_leave_what_transformers_leaves),
      cmocka_unit_test(log_probability_is_the_softmax),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
