/* Lines of plain text, and settings of the run that hold whatever a line
 * says. */
#include "support/prompts_rig.h"

static void plain_lines_are_prompts(void **state) {
  (void)state;
  static const int32_t first[] = {256, '{', ' '};
  static const int32_t second[] = {256, ' ', 'b', '\r'};
  moerun__prompt_options options = defaults();
  moerun__prompts *prompts = NULL;
  moerun__prompt prompt = {0};
  options.plain = 1;
  options.name = "stdin";
  scratch_write(path, "\xEF\xBB\xBF{ \r\n\n\r\n b\r\r\n");
  assert_int_equal(moerun__prompts_open(&prompts, path, &options), MOERUN_OK);
  assert_int_equal(moerun__prompts_count(prompts), 2);
  assert_int_equal(moerun__prompts_read(prompts, &prompt, 1), MOERUN_OK);
  expect_tokens(&prompt, second, 4);
  assert_string_equal(prompt.id.bytes, "1");
  assert_int_equal(prompt.request.max_new_tokens, 8);
  assert_int_equal(moerun__prompts_read(prompts, &prompt, 0), MOERUN_OK);
  expect_tokens(&prompt, first, 3);
  moerun__prompt_clear(&prompt);
  moerun__prompts_destroy(prompts);
  scratch_write(path, "a\n");
  options.tokenizer = NULL;
  assert_int_equal(moerun__prompts_open(&prompts, path, &options),
                   MOERUN_ERR_UNSUPPORTED);
  expect_words("stdin:1: key \"prompt\": a text needs the model's tokenizer");
}

/* Each setting by itself and all of two: what is fixed holds, and counts where
 * it differs. The second line has none, the third the run's. */
static void fixed_settings_hold(void **state) {
  (void)state;
  scratch_write(
      path,
      "{\"prompt\":\"a\",\"max_new_tokens\":2,\"temperature\":0,"
      "\"top_p\":1,\"seed\":9,\"top_k\":5,\"min_p\":0.25,"
      "\"repetition_penalty\":1.5,\"presence_penalty\":-2,"
      "\"frequency_penalty\":2,\"min_new_tokens\":2,\"logprobs\":true,"
      "\"prompt_logprobs\":true,\"top_logprobs\":20}\n{\"prompt\":\"b\"}\n"
      "{\"prompt\":\"c\",\"max_new_tokens\":8,\"temperature\":0.5,"
      "\"top_p\":0.75,\"seed\":3,\"top_k\":0,\"min_p\":-0.0,"
      "\"repetition_penalty\":1,\"presence_penalty\":0,"
      "\"frequency_penalty\":null}\n");
  for (unsigned fixed = 0; fixed < 1U << MOERUN_SETTINGS; fixed++) {
    moerun__prompt_options options = defaults();
    moerun__prompts *prompts = NULL;
    moerun__prompt prompt = {0};
    options.fixed = fixed;
    assert_int_equal(moerun__prompts_open(&prompts, path, &options), MOERUN_OK);
    assert_int_equal(moerun__prompts_read(prompts, &prompt, 0), MOERUN_OK);
    const moerun__request *r = &prompt.request;
    const moerun__sampling *s = &r->sampling;
    assert_int_equal(r->max_new_tokens, fixed & 1U ? 8 : 2);
    assert_true(s->temperature == (fixed & 2U ? 0.5 : 0));
    assert_true(s->top_p == (fixed & 4U ? 0.75 : 1));
    assert_int_equal(s->seed, fixed & 8U ? 3 : 9);
    assert_int_equal(s->top_k, fixed & 16U ? 0 : 5);
    assert_true(s->min_p == (fixed & 32U ? 0 : 0.25));
    assert_true(s->repetition_penalty == (fixed & 64U ? 1 : 1.5));
    assert_true(s->presence_penalty == (fixed & 128U ? 0 : -2));
    assert_true(s->frequency_penalty == (fixed & 256U ? 0 : 2));
    assert_int_equal(r->min_new_tokens, fixed & 512U ? 0 : 2);
    assert_int_equal(r->logprobs.generated, fixed & 1024U ? 0 : 1);
    assert_int_equal(r->logprobs.prompt, fixed & 2048U ? 0 : 1);
    assert_int_equal(r->logprobs.top, fixed & 4096U ? 0 : 20);
    assert_int_equal(moerun__prompts_logprobs_width(prompts),
                     (fixed & 3072U) == 3072U ? 0
                     : fixed & 4096U          ? 1
                                              : 21);
    for (unsigned i = 0; i < MOERUN_SETTINGS; i++) {
      assert_int_equal(
          moerun__prompts_overruled(prompts, (moerun__prompt_setting)i),
          fixed >> i & 1U);
    }
    moerun__prompt_clear(&prompt);
    moerun__prompts_destroy(prompts);
  }
}

/* Stops of a line and that of the option, and what is wrong with them. */
static void stops_are_read(void **state) {
  (void)state;
  static const struct {
    const char *keys;
    const char *words;
  } wrong[] = {
      {"\"stop\":\"\"", ":1: key \"stop\": expected 1 to 256 bytes, found 0"},
      {"\"stop\":[\"a\",\"\"]", "expected 1 to 256 bytes, found 0"},
      {"\"stop\":7", "expected a string or an array of strings, found"},
      {"\"stop\":[\"a\",7]", "\"stop\", element 1: expected a string, found"},
      {"\"stop\":[\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\","
       "\"a\",\"a\",\"a\",\"a\",\"a\",\"a\",\"a\"]",
       "key \"stop\": expected at most 16 texts, found more"},
      {"\"stop_token_ids\":1", "\"stop_token_ids\": expected an array"},
      {"\"stop_token_ids\":[1,\"a\"]", "element 1: expected a token id"},
      {"\"stop_token_ids\":[1,272]",
       "\"stop_token_ids\", element 1: expected an id of 0 to 271, found 272"},
  };
  moerun__prompt_options options = defaults();
  moerun__prompts *prompts = NULL;
  moerun__prompt prompt = {0};
  char line[512];
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    (void)snprintf(line, sizeof line, "{\"prompt\":\"a\",%s}\n", wrong[i].keys);
    scratch_write(path, line);
    assert_int_equal(moerun__prompts_open(&prompts, path, &options),
                     MOERUN_ERR_FORMAT);
    expect_words(wrong[i].words);
  }
  scratch_write(path, "{\"tokens\":[5],\"stop\":[\"x\",\"yz\"],"
                      "\"stop_token_ids\":[9,0]}\n{\"tokens\":[6]}\n"
                      "{\"tokens\":[6],\"stop\":null}\n");
  assert_int_equal(moerun__prompts_open(&prompts, path, &options), MOERUN_OK);
  const uint64_t without = moerun__prompts_digest(prompts, 1);
  assert_int_equal(moerun__prompts_stop_bytes(prompts), 2 * 4 + 2 + 3);
  moerun__prompts_destroy(prompts);
  options.stop = "\n";
  assert_int_equal(moerun__prompts_open(&prompts, path, &options), MOERUN_OK);
  assert_true(moerun__prompts_have_stop_texts(prompts));
  assert_int_equal(moerun__prompts_stop_bytes(prompts), 2 * 4 + 2 + 3 + 2);
  assert_true(moerun__prompts_digest(prompts, 1) != without);
  assert_int_equal(moerun__prompts_read(prompts, &prompt, 0), MOERUN_OK);
  const moerun__stops *stops = &prompt.request.stops;
  assert_int_equal(stops->num_texts, 3);
  assert_memory_equal(stops->text, "x\0yz\0\n", 8);
  assert_int_equal(stops->num_tokens, 2);
  assert_true(stops->token[0] == 9 && stops->token[1] == 0);
  assert_int_equal(moerun__prompts_read(prompts, &prompt, 2), MOERUN_OK);
  assert_int_equal(prompt.request.stops.num_texts, 1);
  moerun__prompts_destroy(prompts);
  options.tokenizer = NULL;
  assert_int_equal(moerun__prompts_open(&prompts, path, &options),
                   MOERUN_ERR_UNSUPPORTED);
  expect_words(":1: --stop: a text needs the model's tokenizer.json");
  options.stop = NULL;
  assert_int_equal(moerun__prompts_open(&prompts, path, &options),
                   MOERUN_ERR_UNSUPPORTED);
  expect_words(":1: key \"stop\": a text needs the model's tokenizer.json");
  moerun__prompt_clear(&prompt);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(plain_lines_are_prompts),
      cmocka_unit_test(fixed_settings_hold),
      cmocka_unit_test(stops_are_read),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
