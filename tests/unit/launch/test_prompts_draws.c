/* What requests draw: independent of each other, and each by itself alone. */
#include "runtime/decoder/sample.h"
#include "support/prompts_rig.h"

enum { DRAWN = 8192, CELLS = 64, SIDE = 8 };

/* Draw number `number` of a request, in 0 .. CELLS - 1, all equally likely, as
 * the sampler has it. */
static int32_t draw(const moerun__request *request, int32_t number) {
  static const float logits[CELLS] = {0};
  float copy[CELLS];
  int32_t heap[CELLS];
  static const moerun__kernels *kernels = NULL;
  const moerun__sampling sampling = {.temperature = 1,
                                     .top_p = 1,
                                     .seed = request->sampling.seed,
                                     .stream = request->sampling.stream};
  const moerun__history history = {NULL, 0, number};
  if (kernels == NULL) {
    assert_int_equal(moerun__kernels_find(&kernels, "auto"), MOERUN_OK);
  }
  memcpy(copy, logits, sizeof copy);
  return moerun__sample(kernels, copy, CELLS, &sampling, &history, heap);
}

/* 63 degrees of freedom: mean 63, above 120 once in 10^5. */
static void expect_even(const int32_t count[CELLS], int32_t total) {
  double sum = 0;
  for (int i = 0; i < CELLS; i++) {
    const double off = (double)count[i] - (double)total / CELLS;
    sum += off * off / ((double)total / CELLS);
  }
  if (sum >= 120) print_message("chi squared %g of seed 3\n", sum);
  assert_true(sum < 120);
}

/* The first draws of many requests are even, and so are pairs of neighbours and
 * pairs of draws of one request, whatever ids look like. */
static void expect_independent_draws(const char *format) {
  static char text[DRAWN * 64];
  static int32_t first[DRAWN];
  const moerun__prompt_options options = defaults();
  moerun__prompts *prompts = NULL;
  moerun__prompt prompt = {0};
  int32_t alone[CELLS] = {0};
  int32_t neighbours[CELLS] = {0};
  int32_t within[CELLS] = {0};
  size_t used = 0;
  for (int i = 0; i < DRAWN; i++) {
    used += (size_t)snprintf(text + used, sizeof text - used, format, i);
  }
  scratch_write(path, text);
  assert_int_equal(moerun__prompts_open(&prompts, path, &options), MOERUN_OK);
  for (int i = 0; i < DRAWN; i++) {
    assert_int_equal(moerun__prompts_read(prompts, &prompt, i), MOERUN_OK);
    first[i] = draw(&prompt.request, 0);
    alone[first[i]]++;
    within[first[i] / SIDE * SIDE + draw(&prompt.request, 1) / SIDE]++;
    if (i > 0) neighbours[first[i - 1] / SIDE * SIDE + first[i] / SIDE]++;
  }
  expect_even(alone, DRAWN);
  expect_even(within, DRAWN);
  expect_even(neighbours, DRAWN - 1);
  moerun__prompt_clear(&prompt);
  moerun__prompts_destroy(prompts);
}

static void draws_are_independent_over_requests(void **state) {
  (void)state;
  expect_independent_draws("{\"tokens\":[1]}\n");
  expect_independent_draws("{\"tokens\":[1],\"id\":\"request-%06d\"}\n");
}

/* Request `index` of these lines. */
static moerun__request request_of(const char *lines, int64_t index,
                                  uint64_t seed) {
  moerun__prompt_options options = defaults();
  moerun__prompts *prompts = NULL;
  moerun__prompt prompt = {0};
  options.sampling.seed = seed;
  scratch_write(path, lines);
  assert_int_equal(moerun__prompts_open(&prompts, path, &options), MOERUN_OK);
  assert_int_equal(moerun__prompts_read(prompts, &prompt, index), MOERUN_OK);
  const moerun__request request = prompt.request;
  moerun__prompt_clear(&prompt);
  moerun__prompts_destroy(prompts);
  return request;
}

/* How many of 32 draws agree: about half of one by chance. */
static int agreeing(const moerun__request *a, const moerun__request *b) {
  int count = 0;
  for (int32_t i = 0; i < 32; i++) {
    count += draw(a, i) == draw(b, i);
  }
  return count;
}

static void a_request_keeps_its_draws(void **state) {
  (void)state;
  static const char named[] = "{\"tokens\":[1],\"id\":\"x\"}\n";
  const moerun__request x = request_of(named, 0, 3);
  /* Wherever its line stands. */
  const moerun__request moved =
      request_of("{\"tokens\":[1]}\n{\"tokens\":[1],\"id\":\"x\"}\n", 1, 3);
  const moerun__request seeded = request_of(named, 0, 4);
  assert_int_equal(agreeing(&x, &moved), 32);
  assert_true(agreeing(&x, &seeded) < 8);
  /* Its own seed counts alone: neither its id nor the run's seed. */
  const moerun__request own =
      request_of("{\"tokens\":[1],\"id\":\"x\",\"seed\":3}\n", 0, 4);
  const moerun__request other =
      request_of("{\"tokens\":[1]}\n{\"tokens\":[2],\"seed\":3}\n", 1, 5);
  assert_int_equal(agreeing(&own, &other), 32);
  assert_true(agreeing(&own, &x) < 8);
}

static uint64_t digest_of(const char *line,
                          const moerun__prompt_options *options) {
  moerun__prompts *prompts = NULL;
  scratch_write(path, line);
  assert_int_equal(moerun__prompts_open(&prompts, path, options), MOERUN_OK);
  const uint64_t digest = moerun__prompts_digest(prompts, 0);
  moerun__prompts_destroy(prompts);
  return digest;
}

/* Where nothing is drawn, draws are no part of a request; without a capacity
 * priorities are none. */
static void digests_leave_out_what_does_not(void **state) {
  (void)state;
  moerun__prompt_options options = defaults();
  options.sampling.temperature = 0;
  options.sampling.top_p = 1;
  options.sampling.seed = 0;
  const uint64_t digest = digest_of("{\"prompt\":\"a\"}", &options);
  const char *ranked = "{\"prompt\":\"a\",\"priority\":2}";
  assert_true(digest == digest_of(ranked, &options));
  options.sampling.seed = 4;
  options.sampling.top_p = 0.5;
  assert_true(digest == digest_of("{\"prompt\":\"a\"}", &options));
  assert_true(digest == digest_of("{\"prompt\":\"a\",\"seed\":7}", &options));
  options.drops = 1;
  assert_true(digest == digest_of("{\"prompt\":\"a\"}", &options));
  assert_true(digest != digest_of(ranked, &options));
  options.sampling.temperature = 1;
  const uint64_t drawn = digest_of("{\"prompt\":\"a\"}", &options);
  options.sampling.seed = 5;
  assert_true(drawn != digest_of("{\"prompt\":\"a\"}", &options));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(draws_are_independent_over_requests),
      cmocka_unit_test(a_request_keeps_its_draws),
      cmocka_unit_test(digests_leave_out_what_does_not),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
