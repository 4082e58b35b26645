/* Lines of results that are there already: every line that this run would have
 * written is kept, anything else is refused and stays as it is. */
#include "launch/results/results.h"
#include "runtime/base/memory.h"
#include "support/scratch.h"
#include "support/temp_dir.h"

enum { REQUESTS = 4, MOST = 4, BYTES = 4096 };

static const char demo_model[] = MOERUN_TEST_DATA "/../../launch/demo/model";
static const uint64_t weights = 0x0123456789abcdef;
static const moerun__model_config model = {
    .vocab_size = 272, .num_eos = 2, .eos_token = {257, 7}};

static temp_dir dir;
static char path[TEMP_PATH];
static moerun__tokenizer *tokenizer;
static moerun__prompts *prompts; /* the third of which is wrong */
static moerun__prompts *windows;
static char line[REQUESTS][BYTES]; /* as the program writes them */
static char window[BYTES];

static moerun_status resume(moerun__results **out, const moerun__prompts *of,
                            const moerun__tokenizer *with) {
  const moerun__results_options options = {
      .path = path, .model = &model, .resume = 1};
  return moerun__results_open(out, of, with, &options);
}

/* What the program writes for one request, from an empty file on. */
static void write_one(char out[BYTES], const moerun__prompts *of,
                      const moerun__completion *c) {
  moerun__results *results = NULL;
  char *text = NULL;
  size_t bytes = 0;
  const char *id = NULL;
  const char *reason = moerun__prompts_error(of, c->index, &id);
  (void)unlink(path);
  assert_int_equal(resume(&results, of, tokenizer), MOERUN_OK);
  assert_int_equal(moerun__results_begin(results, &weights), MOERUN_OK);
  assert_int_equal(reason == NULL ? moerun__results_append(results, c)
                                  : moerun__results_append_error(
                                        results, c->index, id, reason),
                   MOERUN_OK);
  moerun__results_destroy(results);
  assert_int_equal(moerun__file_read(&text, &bytes, path, BYTES - 1),
                   MOERUN_OK);
  memcpy(out, text, bytes + 1);
  moerun__free(text);
}

static int set_up(void **state) {
  (void)state;
  static const int32_t tokens[REQUESTS][MOST] = {
      {104, 105, 10, 271}, {34, 7}, {0}, {257}};
  static const int32_t count[REQUESTS] = {4, 2, 0, 1};
  moerun__prompt_options options = {.text_bos = 256,
                                    .tokens_bos = -1,
                                    .vocab_size = 272,
                                    .max_positions = 64,
                                    .kv_tokens = 64,
                                    .max_new_tokens = MOST,
                                    .sampling.top_p = 1,
                                    .on_error = MOERUN_ON_ERROR_LINE};
  if (!temp_dir_create(&dir) ||
      moerun__tokenizer_load(&tokenizer, demo_model) != MOERUN_OK) {
    return -1;
  }
  options.tokenizer = tokenizer;
  (void)temp_path(path, &dir, "prompts");
  scratch_write(path,
                "{\"id\":\"a\\\"\",\"prompt\":\"x\"}\n{\"prompt\":\"1\"}\n"
                "{\"id\":\"b\",\"tokens\":[-1]}\n{\"tokens\":[5,6]}\n");
  assert_int_equal(moerun__prompts_open(&prompts, path, &options), MOERUN_OK);
  scratch_write(path, "abcdefghij");
  assert_int_equal(moerun__prompts_open_score(&windows, path, 4, &options),
                   MOERUN_OK);
  (void)temp_path(path, &dir, "out");
  for (int i = 0; i < REQUESTS; i++) {
    const moerun__completion c = {
        .index = i,
        .finish = i == 1 || i == 3 ? MOERUN_FINISH_EOS : MOERUN_FINISH_LENGTH,
        .num_tokens = count[i],
        .token = tokens[i]};
    write_one(line[i], prompts, &c);
  }
  const moerun__completion c = {
      .index = 1, .finish = MOERUN_FINISH_SCORED, .log_probability = -0.1};
  write_one(window, windows, &c);
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  moerun__prompts_destroy(prompts);
  moerun__prompts_destroy(windows);
  moerun__tokenizer_destroy(tokenizer);
  temp_dir_remove(&dir);
  return 0;
}

static void expect_file(const char *content, size_t count) {
  char *text = NULL;
  size_t bytes = 0;
  assert_int_equal(moerun__file_read(&text, &bytes, path, 4L * BYTES),
                   MOERUN_OK);
  assert_int_equal(bytes, count);
  assert_memory_equal(text, content, count);
  moerun__free(text);
}

/* Of a file of these bytes: so many results are kept. */
static void expect_kept(const moerun__prompts *of, const char *content,
                        size_t bytes, int64_t count) {
  moerun__results *results = NULL;
  assert_int_equal(moerun__file_write(path, content, bytes), MOERUN_OK);
  if (resume(&results, of, tokenizer) != MOERUN_OK) {
    print_error("'%.*s': %s\n", (int)bytes, content, moerun_last_error());
    fail();
  }
  assert_int_equal(moerun__results_count(results), count);
  moerun__results_destroy(results);
  expect_file(content, bytes);
}

static void expect_refused(const moerun__prompts *of, const char *content,
                           size_t bytes, const char *words) {
  moerun__results *results = NULL;
  const size_t live = moerun__alloc_live();
  assert_int_equal(moerun__file_write(path, content, bytes), MOERUN_OK);
  const moerun_status found = resume(&results, of, tokenizer);
  if (found != MOERUN_ERR_FORMAT) {
    print_error("'%.*s': expected an error, found %d\n", (int)bytes, content,
                (int)found);
    fail();
  }
  expect_words(words);
  expect_words(path);
  assert_int_equal(moerun__alloc_live(), live);
  expect_file(content, bytes);
}

static void expect_text_refused(const char *content, const char *words) {
  expect_refused(prompts, content, strlen(content), words);
}

/* out = whole, the first `from` of which becomes `to`. */
static void change(char out[BYTES], const char *whole, const char *from,
                   const char *to) {
  const char *at = strstr(whole, from);
  assert_non_null(at);
  (void)snprintf(out, BYTES, "%.*s%s%s", (int)(at - whole), whole, to,
                 at + strlen(from));
}

static void every_kind_of_line_is_kept(void **state) {
  (void)state;
  char all[BYTES] = "";
  for (int i = 0; i < REQUESTS; i++) {
    (void)strcat(all, line[i]);
    expect_kept(prompts, all, strlen(all), i < 2 ? i + 1 : i);
  }
  expect_kept(windows, window, strlen(window), 1);
  expect_kept(prompts, "", 0, 0);
}

/* Line 0 has all tokens, line 1 an end of a sequence, line 2 an error. */
static void a_changed_line_is_refused(void **state) {
  (void)state;
  static const struct {
    int line;
    const char *from;
    const char *to;
    const char *words;
  } changes[] = {
      {0, "[104,105,", "[", "tokens: expected 4, or fewer of which the last"},
      {0, "104,", "-1,", "token 0: expected an id of 0 to 271"},
      {0, "104,", "2147483648,", "token 0: expected an id of 0 to 271"},
      {0, "104,", "272,", "token 0: expected an id of 0 to 271"},
      {0, "104,", "104.0,", "token 0: expected an id of 0 to 271"},
      {0, "104,105,10,271", "", "tokens: expected 1 to 4, found 0"},
      {0, "104,", "1,104,", "tokens: expected 1 to 4, found 5"},
      {0, "104,", "257,", "tokens: expected 4, or fewer of which the last"},
      {0, "104,", "103,", "expected gi\\n"},
      {0, "\"hi", "\"ho", "expected i\\n"},
      {0, "length", "eos", "expected length\",\"digest\":"},
      {0, "length", "foo", "expected length\",\"digest\":"},
      {0, "\"a\\\"\"", "\"b\"", "from byte 18 on expected a\\\"\""},
      {0, "\"a\\\"\"", "1", "from byte 17 on expected \"a\\\"\""},
      {0, ":2,", ":-1,", "expected 2,\"tokens\":[104"},
      {0, ":2,", ":3,", "expected 2,\"tokens\":[104"},
      {0, "}", ",\"more\":1}", "expected }"},
      {0, "{", "{\"more\":1,", "from byte 3 on expected index\":0,"},
      {0, ",", ", ", "from byte 12 on expected \"id\""},
      {0, "}", "} ", "expected the end of the line"},
      {0, "}", "}\r", "expected the end of the line"},
      {1, "34,7", "35,7", "expected #\\u0007\",\"finish\""},
      {1, "34,7", "7", "expected u0007\",\"finish\""},
      {1, "34,7", "7,7", "tokens: expected 4, or fewer of which the last"},
      {1, "eos", "length", "expected eos\""},
      {1, "\"text\":\"\\\"\\u0007\",", "", "expected text\":\""},
      {2, "b", "b\\u0020", "from byte 19 on"},
      {2, "}", ",\"tokens\":[1]}", "expected }"},
      {2, "\"b\"", "[]", "key \"id\": expected a string or an integer"},
      {2, "\"error\"", "\"error\":1,\"e\"", "key \"error\": expected a string"},
      {2, ",\"id\":\"b\"", "", "key \"id\": expected a string or an integer"},
  };
  char text[BYTES];
  for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
    change(text, line[changes[i].line], changes[i].from, changes[i].to);
    expect_text_refused(text, changes[i].words);
  }
  static const struct {
    const char *from;
    const char *to;
    const char *words;
  } scores[] = {
      {"-0.10000000000000001", "-0.1", "expected 0000000000000001,"},
      {"-0.10000000000000001", "0.5", "expected -inf to 0, found 0.5"},
      {"-0.10000000000000001", "null", "log_probability"},
      {"\"scored_tokens\":4", "\"scored_tokens\":3", "expected 4,"},
      {"}", ",\"tokens\":[1]}", "expected }"},
  };
  for (size_t i = 0; i < sizeof scores / sizeof *scores; i++) {
    change(text, window, scores[i].from, scores[i].to);
    expect_refused(windows, text, strlen(text), scores[i].words);
  }
  expect_refused(windows, line[0], strlen(line[0]), "by another request");
}

/* Wherever a line is torn it is taken off, with zeros behind it too. */
static void a_torn_line_is_taken_off(void **state) {
  (void)state;
  const char *const torn[] = {line[0], line[1], line[2], line[3]};
  char text[2 * BYTES];
  for (int i = 0; i < REQUESTS; i++) {
    const char *before = line[i == 0 ? 1 : 0];
    const size_t length = strlen(before);
    memcpy(text, before, length);
    for (size_t cut = 1; cut < strlen(torn[i]); cut++) {
      memcpy(text + length, torn[i], cut);
      expect_kept(prompts, text, length + cut, 1);
      if (cut % 7 != 0) continue;
      memset(text + length + cut, 0, 9);
      expect_kept(prompts, text, length + cut + 9, 1);
    }
  }
  for (size_t cut = 1; cut < strlen(window); cut++) {
    expect_kept(windows, window, cut, 0);
  }
  /* Of a line whose bytes had not reached the disk zeros alone are there. */
  memset(text, 0, 9);
  expect_kept(prompts, text, 9, 0);
  /* It was wrong, had no id for that, and has been mended. */
  static const char mended[] = "{\"index\":0,\"id\":0,\"error\":\"out:1: no";
  expect_kept(prompts, mended, sizeof mended - 1, 0);
}

static void nothing_else_is_taken_off(void **state) {
  (void)state;
  static const char *const others[] = {
      "{\"important\":\"my only copy\"}",
      "my notes",
      "[",
      "{\"index\":4",
      "{\"index\":10,\"id\"",
      "{\"index\":-1,\"id\"",
      "{\"index\":99999999999999999999999",
      "{\"index\":9223372036854775808,\"id\"",
      "{\"index\":18446744073709551616,\"id\":\"a\\\"\"",
      "{\"index\":00,\"id\"",
      "{\"index\":,",
      "{\"index\":0}",
      "{\"index\": 0",
      "{\"index\":0,\"important\":\"my only copy\"}",
      "{\"index\":0,\"id\":\"b\",\"prompt_tokens\":2",
      "{\"index\":1,\"id\":1,\"prompt_tokens\":3,\"tokens\":[",
      "{\"index\":1,\"id\":1,\"prompt_tokens\":2,\"tokens\":[1,2 my only copy",
      "{\"index\":1,\"id\":1,\"prompt_tokens\":2,\"tokens\":[1],\"more\":1",
      "{\"index\":1,\"id\":1,\"scored_tokens\":1,\"log_probability\":-1",
      "{\"index\":2,\"id\":\"b\",\"prompt_tokens\":1,\"tokens\":[",
      "{\"index\":2,\"id\":\"c\",\"error\":\"",
  };
  static const char words[] = "cannot resume: expected a line end, or the "
                              "start of a result of this run";
  static const char zeros[] = "my\0notes";
  char text[2 * BYTES];
  for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
    expect_text_refused(others[i], words);
    (void)snprintf(text, sizeof text, "%s%s", line[3], others[i]);
    expect_text_refused(text, words);
    expect_words(":2: ");
  }
  expect_refused(prompts, zeros, sizeof zeros - 1, words);
  (void)snprintf(text, sizeof text, "%s%.20s", line[0], line[0]);
  expect_text_refused(text, ":2: cannot resume: request 0 has a result");
  expect_refused(windows, line[3], 60, words);
}

/* ---- Log-probabilities --------------------------------------------------- */

/* As the engine has them for "x" behind <bos>, asked for the prompt's one token
 * and two generated ones, with the two likeliest at each. */
static const moerun__logprob logprobs[] = {
    {120, -0.1F}, {120, -0.1F}, {7, -3},      {9, -2.5F},    {1, -0.25F},
    {9, -2.5F},   {7, 0},       {7, -1e-20F}, {271, -110.5F}};

static moerun__prompts *asking(const char *asked) {
  moerun__prompts *out = NULL;
  char text[256];
  char from[TEMP_PATH];
  const moerun__prompt_options options = {.tokenizer = tokenizer,
                                          .tokens_bos = -1,
                                          .vocab_size = 272,
                                          .max_positions = 64,
                                          .kv_tokens = 64,
                                          .max_new_tokens = MOST,
                                          .sampling.top_p = 1};
  (void)snprintf(text, sizeof text, "{\"tokens\":[256,120],%s}\n", asked);
  (void)temp_path(from, &dir, "asking");
  scratch_write(from, text);
  assert_int_equal(moerun__prompts_open(&out, from, &options), MOERUN_OK);
  return out;
}

static void log_probabilities_are_kept_and_torn(void **state) {
  (void)state;
  static const int32_t tokens[] = {9, 7};
  static const struct {
    const char *asked;
    int32_t prompt, generated, width;
    const char *words;
  } cases[] = {
      {"\"logprobs\":true,\"prompt_logprobs\":true,\"top_logprobs\":2", 1, 2, 3,
       "\"prompt_logprobs\":[null,-0.100000001],\"prompt_top_logprobs\":[null,"
       "[[120,-0.100000001],[7,-3]]],\"logprobs\":[-2.5,0],\"top_logprobs\":"
       "[[[1,-0.25],[9,-2.5]],[[7,-9.99999968e-21],[271,-110.5]]],\"finish\""},
      {"\"prompt_logprobs\":true", 1, 0, 1,
       "7],\"prompt_logprobs\":[null,-0.100000001],\"finish\""},
      {"\"logprobs\":true", 0, 2, 1,
       "7],\"logprobs\":[-0.100000001,-0.100000001],\"finish\""},
  };
  moerun__tokenizer *kept = tokenizer;
  tokenizer = NULL;
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char text[BYTES];
    moerun__prompts *of = asking(cases[i].asked);
    const moerun__completion c = {.finish = MOERUN_FINISH_EOS,
                                  .num_tokens = 2,
                                  .token = tokens,
                                  .logprobs_width = cases[i].width,
                                  .num_prompt_logprobs = cases[i].prompt,
                                  .num_logprobs = cases[i].generated,
                                  .logprob = logprobs};
    write_one(text, of, &c);
    if (strstr(text, cases[i].words) == NULL) fail_msg("%s", text);
    expect_kept(of, text, strlen(text), 1);
    for (size_t cut = 1; cut < strlen(text); cut++) {
      expect_kept(of, text, cut, 0);
    }
    moerun__prompts_destroy(of);
  }
  tokenizer = kept;
}

static void changed_log_probabilities_are_refused(void **state) {
  (void)state;
  static const int32_t tokens[] = {9, 7};
  static const struct {
    const char *from;
    const char *to;
    const char *words;
  } changes[] = {
      {"[null,-0.1", "[-1,-0.1", "expected null,-0.1"},
      {"[null,-0.1", "[-0.1",
       "\"prompt_logprobs\": expected 2 elements, found 1"},
      {"[-2.5,0]", "[-2.5]", "key \"logprobs\": expected 2 elements, found 1"},
      {"[-2.5,0]", "[-2.5,\"0\"]", "element 1: expected a number, found a str"},
      {"[-2.5,0]", "[-2.5,1e60]", "element 1: expected a number"},
      {"[-2.5,0]", "[-2.5,0.0]", "expected ],\"top_logprobs\""},
      {"[[1,-0.25],[9,-2.5]]", "[[1,-0.25]]",
       "element 0: expected a list of 2"},
      {"[1,-0.25]", "[1.5,-0.25]", "element 0: expected ids with numbers"},
      {"[1,-0.25]", "[1,-0.25,3]", "expected ],[9,-2.5]"},
      {"[1,-0.25]", "7", "element 0: expected ids with numbers"},
      {"\"top_logprobs\"", "\"top\"", "top_logprobs"},
  };
  char whole[BYTES];
  char text[BYTES];
  moerun__tokenizer *kept = tokenizer;
  moerun__prompts *of =
      asking("\"logprobs\":true,\"prompt_logprobs\":true,\"top_logprobs\":2");
  const moerun__completion c = {.finish = MOERUN_FINISH_EOS,
                                .num_tokens = 2,
                                .token = tokens,
                                .logprobs_width = 3,
                                .num_prompt_logprobs = 1,
                                .num_logprobs = 2,
                                .logprob = logprobs};
  tokenizer = NULL;
  write_one(whole, of, &c);
  for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
    change(text, whole, changes[i].from, changes[i].to);
    expect_refused(of, text, strlen(text), changes[i].words);
  }
  tokenizer = kept;
  moerun__prompts_destroy(of);
}

/* ---- Stops --------------------------------------------------------------- */

/* Behind "stop": "hi" a text ends in front of it, and tokens with it; a line
 * that ends earlier or later is none of this run. */
static void stops_are_found_again(void **state) {
  (void)state;
  static const int32_t tokens[] = {97, 104, 105, 257};
  static const struct {
    int32_t count;
    moerun__finish finish;
    const char *words;
  } cases[] = {
      {3, MOERUN_FINISH_STOP,
       "[97,104,105],\"text\":\"a\",\"finish\":\"stop\","},
      {2, MOERUN_FINISH_STOP, NULL},
      {4, MOERUN_FINISH_EOS, NULL},
      {1, MOERUN_FINISH_STOP,
       "[97],\"text\":\"\",\"finish\":\"stop\",\"digest\""},
      {2, MOERUN_FINISH_EOS, NULL},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char text[BYTES];
    moerun__prompts *of =
        asking(i < 3 ? "\"stop\":[\"hi\"]" : "\"stop_token_ids\":[97]");
    const moerun__completion c = {.finish = cases[i].finish,
                                  .num_tokens = cases[i].count,
                                  .token = tokens};
    write_one(text, of, &c);
    if (cases[i].words == NULL) {
      expect_refused(of, text, strlen(text), "the last alone ends a sequence");
    } else {
      if (strstr(text, cases[i].words) == NULL) fail_msg("%s", text);
      expect_kept(of, text, strlen(text), 1);
    }
    moerun__prompts_destroy(of);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_kind_of_line_is_kept),
      cmocka_unit_test(a_changed_line_is_refused),
      cmocka_unit_test(a_torn_line_is_taken_off),
      cmocka_unit_test(nothing_else_is_taken_off),
      cmocka_unit_test(log_probabilities_are_kept_and_torn),
      cmocka_unit_test(changed_log_probabilities_are_refused),
      cmocka_unit_test(stops_are_found_again),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
