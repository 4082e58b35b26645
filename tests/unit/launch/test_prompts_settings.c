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

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(plain_lines_are_prompts),
      cmocka_unit_test(fixed_settings_hold),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
