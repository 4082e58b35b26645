/* Prompts: every kind of input, its refusals, and reading requests again. */
#include "launch/requests/spool.h"
#include "runtime/base/memory.h"
#include "runtime/base/npy.h"
#include "support/npy_file.h"
#include "support/prompts_rig.h"

#include <signal.h>
#include <sys/resource.h>

static void lines_become_requests(void **state) {
  (void)state;
  static const int32_t first[] = {256, 'a', 0xC3, 0xA9};
  static const int32_t second[] = {5, 271, 256};
  const moerun__prompt_options options = defaults();
  moerun__prompts *prompts = NULL;
  moerun__prompt prompt = {0};
  scratch_write(path,
                "\n{\"prompt\": \"a\xC3\xA9\"}\r\n  \t\n"
                "{\"id\": \"x\\n\", \"tokens\": [5, 271, 256], "
                "\"max_new_tokens\": 2, \"temperature\": 0, \"top_p\": 1, "
                "\"seed\": 9007199254740993}\n\n"
                "{\"id\": -7, \"prompt\": \"\"}");
  assert_int_equal(moerun__prompts_open(&prompts, path, &options), MOERUN_OK);
  assert_int_equal(moerun__prompts_count(prompts), 3);
  /* Out of order, with the same buffers. */
  assert_int_equal(moerun__prompts_read(prompts, &prompt, 1), MOERUN_OK);
  expect_tokens(&prompt, second, 3);
  assert_string_equal(prompt.id.bytes, "\"x\\n\"");
  assert_int_equal(prompt.request.index, 1);
  assert_int_equal(prompt.request.max_new_tokens, 2);
  assert_int_equal(prompt.request.score_only, 0);
  assert_true(prompt.request.sampling.temperature == 0 &&
              prompt.request.sampling.top_p == 1);
  assert_true(prompt.request.sampling.seed == 9007199254740993U);
  assert_true(prompt.digest == moerun__prompts_digest(prompts, 1));
  assert_int_equal(moerun__prompts_read(prompts, &prompt, 0), MOERUN_OK);
  expect_tokens(&prompt, first, 4);
  assert_string_equal(prompt.id.bytes, "0");
  assert_int_equal(prompt.request.max_new_tokens, 8);
  assert_true(prompt.request.sampling.temperature == 0.5);
  assert_true(prompt.request.sampling.top_p == 0.75);
  assert_int_equal(prompt.request.sampling.seed, 3);
  assert_int_equal(moerun__prompts_read(prompts, &prompt, 2), MOERUN_OK);
  expect_tokens(&prompt, first, 1);
  assert_string_equal(prompt.id.bytes, "-7");
  moerun__prompt_clear(&prompt);
  moerun__prompts_destroy(prompts);
}

/* A byte order mark is no part of the first line, nor a line of its own. */
static void marks_are_skipped(void **state) {
  (void)state;
  static const int32_t first[] = {256, 'a'};
  const moerun__prompt_options options = defaults();
  static const char *const texts[] = {"\xEF\xBB\xBF{\"prompt\": \"a\"}\n",
                                      "\xEF\xBB\xBF\n{\"prompt\": \"a\"}\n"};
  for (size_t i = 0; i < 2; i++) {
    moerun__prompts *prompts = NULL;
    moerun__prompt prompt = {0};
    scratch_write(path, texts[i]);
    assert_int_equal(moerun__prompts_open(&prompts, path, &options), MOERUN_OK);
    assert_int_equal(moerun__prompts_count(prompts), 1);
    assert_int_equal(moerun__prompts_read(prompts, &prompt, 0), MOERUN_OK);
    expect_tokens(&prompt, first, 2);
    moerun__prompt_clear(&prompt);
    moerun__prompts_destroy(prompts);
  }
}

/* Where a text or ids begin with the bos token there is no second one. */
static void there_is_one_bos(void **state) {
  (void)state;
  static const int32_t want[] = {256, 'a'};
  static const char *const lines =
      "{\"prompt\": \"a\"}\n{\"prompt\": \"<bos>a\"}\n"
      "{\"tokens\": [97]}\n{\"tokens\": [256, 97]}\n";
  moerun__prompt_options options = defaults();
  moerun__prompts *prompts = NULL;
  moerun__prompt prompt = {0};
  options.tokens_bos = 256;
  scratch_write(path, lines);
  assert_int_equal(moerun__prompts_open(&prompts, path, &options), MOERUN_OK);
  for (int64_t i = 0; i < 4; i++) {
    assert_int_equal(moerun__prompts_read(prompts, &prompt, i), MOERUN_OK);
    expect_tokens(&prompt, want, 2);
  }
  moerun__prompts_destroy(prompts);
  /* Two of them were asked for. */
  scratch_write(path, "{\"prompt\": \"<bos><bos>a\"}");
  assert_int_equal(moerun__prompts_open(&prompts, path, &options), MOERUN_OK);
  assert_int_equal(moerun__prompts_read(prompts, &prompt, 0), MOERUN_OK);
  assert_int_equal(prompt.request.num_prompt, 3);
  moerun__prompt_clear(&prompt);
  moerun__prompts_destroy(prompts);
}

/* ---- Refusals ------------------------------------------------------------ */

typedef struct refusal {
  const char *text;
  const char *words;
} refusal;

static const refusal refused_lines[] = {
    {"", "expected at least one request, found none"},
    {"\n \n\n", "expected at least one request, found none"},
    {"{\"prompt\":\"a\"}\n\n[1]\n",
     ":3: expected a JSON object, found an array"},
    {"{\"prompt\":\"a\"}\n{\"prompt\":\"a\"", ":2: column 13: not valid JSON"},
    {"{\"prompt\":\"\\u0000\"}", ":1: column"},
    {"{\"prompt\":\"a\",\"prompt\":\"b\"}", "duplicate object key"},
    {"{\"prompt\":\"\xFF\"}", "not valid JSON"},
    {"{}", ":1: expected one of \"prompt\", \"messages\" and \"tokens\""},
    {"{\"prompt\":\"a\",\"tokens\":[1]}", "\"tokens\", found several"},
    {"{\"prompt\":5}", "key \"prompt\": expected a string, found an integer"},
    {"{\"prompt\":\"a\",\"temprature\":1}",
     ":1: unknown key \"temprature\": expected id, prompt, tokens, "},
    {"{\"prompt\":\"a\",\"max_tokens\":1}",
     "kwargs; here it is max_new_tokens"},
    {"{\"prompt_token_ids\":[1]}", "kwargs; here it is tokens"},
    {"{\"text\":\"a\"}", "kwargs; here it is prompt"},
    {"{\"prompt\":\"a\",\"tools\":[1]}",
     "key \"tools\": expected beside \"messages\" alone"},
    {"{\"prompt\":[1,2]}",
     "key \"prompt\": expected a string, found an array; ids of tokens are "
     "given as \"tokens\""},
    {"{\"prompt\":\"a\",\"seed\":18446744073709551615}",
     "\"seed\": expected 0 to 9223372036854775807, found 1.84467e+19"},
    {"{\"prompt\":\"a\",\"id\":1.5}",
     "key \"id\": expected a string or an integer, found a real number"},
    {"{\"prompt\":\"a\",\"id\":null}", "found null"},
    {"{\"tokens\":[]}", "expected at least one token, found an empty prompt"},
    {"{\"tokens\":[1,-1]}",
     "key \"tokens\", element 1: expected a token id, found -1"},
    {"{\"tokens\":[1,\"2\"]}", "element 1: expected a token id, found a str"},
    {"{\"tokens\":[2147483648]}", "element 0: expected a token id"},
    {"{\"tokens\":[1,272]}",
     ":1: token 1: expected an id of 0 to 271, found 272"},
    {"{\"prompt\":\"a\",\"max_new_tokens\":0}",
     "key \"max_new_tokens\": expected 1 to 1048576, found 0"},
    {"{\"prompt\":\"a\",\"max_new_tokens\":63}",
     ":1: expected at most 64 tokens (the model's max_position_embeddings), "
     "found 2 of the prompt and max_new_tokens 63"},
    {"{\"prompt\":\"a\",\"temperature\":-1}",
     "key \"temperature\": expected 0 to 100, found -1"},
    {"{\"prompt\":\"a\",\"top_p\":0}", "key \"top_p\": expected 1e-06 to 1"},
    {"{\"prompt\":\"a\",\"top_p\":1.0000001}",
     "key \"top_p\": expected 1e-06 to 1, found 1.0000001"},
    {"{\"prompt\":\"a\",\"top_k\":-1}", "key \"top_k\": expected 0 to "},
    {"{\"prompt\":\"a\",\"min_p\":1.5}", "key \"min_p\": expected 0 to 1"},
    {"{\"prompt\":\"a\",\"repetition_penalty\":0}",
     "key \"repetition_penalty\": expected 0.01 to 100, found 0"},
    {"{\"prompt\":\"a\",\"presence_penalty\":2.5}",
     "key \"presence_penalty\": expected -2 to 2"},
    {"{\"prompt\":\"a\",\"frequency_penalty\":-3}",
     "key \"frequency_penalty\": expected -2 to 2"},
    {"{\"prompt\":\"a\",\"logprobs\":5}",
     "key \"logprobs\": expected true or false"},
    {"{\"prompt\":\"a\",\"logprobs\":true,\"top_logprobs\":21}",
     "key \"top_logprobs\": expected 0 to 20, found 21"},
    {"{\"prompt\":\"a\",\"top_logprobs\":2}",
     "key \"top_logprobs\": expected \"logprobs\" or \"prompt_logprobs\" to"},
    {"{\"prompt\":\"a\",\"seed\":-1}", "key \"seed\": expected 0 to "},
    {"{\"prompt\":\"a\",\"id\":1}\n{\"prompt\":\"a\"}",
     ":2: expected an id, because its number, 1, which stands for one, is "},
    {"{\"prompt\":\"a\",\"id\":\"u\"}\n\n{\"prompt\":\"a\",\"id\":\"v\"}\n"
     "{\"prompt\":\"a\",\"id\":\"\\u0075\"}",
     ":4: id \"u\" stands in line 1 already"},
};

static void bad_lines_are_named(void **state) {
  (void)state;
  const moerun__prompt_options options = defaults();
  const size_t live = moerun__alloc_live();
  for (size_t i = 0; i < sizeof refused_lines / sizeof *refused_lines; i++) {
    moerun__prompts *prompts = NULL;
    scratch_write(path, refused_lines[i].text);
    assert_int_equal(moerun__prompts_open(&prompts, path, &options),
                     MOERUN_ERR_FORMAT);
    assert_null(prompts);
    expect_words(refused_lines[i].words);
    expect_words(path);
  }
  assert_int_equal(moerun__alloc_live(), live);
}

static void limits_of_the_run_are_named(void **state) {
  (void)state;
  moerun__prompts *prompts = NULL;
  moerun__prompt_options options = defaults();
  scratch_write(path, "{\"prompt\":\"a\",\"id\":\"1\"}\n{\"prompt\":\"a\","
                      "\"id\":1}");
  assert_int_equal(moerun__prompts_open(&prompts, path, &options), MOERUN_OK);
  moerun__prompts_destroy(prompts);
  options.kv_tokens = 9;
  assert_int_equal(moerun__prompts_open(&prompts, path, &options),
                   MOERUN_ERR_FORMAT);
  expect_words(
      "expected at most 9 tokens (--kv-tokens, the cache of one rank), "
      "found 2 of the prompt and max_new_tokens 8");
  options = defaults();
  options.tokenizer = NULL;
  assert_int_equal(moerun__prompts_open(&prompts, path, &options),
                   MOERUN_ERR_UNSUPPORTED);
  expect_words("a text needs the model's tokenizer.json");
  assert_int_equal(moerun__prompts_open_score(&prompts, path, 4, &options),
                   MOERUN_ERR_UNSUPPORTED);
  assert_int_equal(moerun__prompts_open_tokens(&prompts, path, &options),
                   MOERUN_ERR_FORMAT);
  expect_words("key \"prompt\": expected \"tokens\" in a file of token ids");
  assert_int_equal(moerun__prompts_open(&prompts, "nowhere", &options),
                   MOERUN_ERR_IO);
  assert_int_equal(moerun__prompts_open(&prompts, "/tmp", &options),
                   MOERUN_ERR_IO);
  assert_int_equal(moerun__prompts_open_score(&prompts, "nowhere", 4, &options),
                   MOERUN_ERR_IO);
}

static void a_changed_file_is_noticed(void **state) {
  (void)state;
  const moerun__prompt_options options = defaults();
  moerun__prompts *prompts = NULL;
  moerun__prompt prompt = {0};
  scratch_write(path, "{\"prompt\":\"ab\"}\n{\"prompt\":\"c\"}\n");
  assert_int_equal(moerun__prompts_open(&prompts, path, &options), MOERUN_OK);
  /* Written in place: the file that is open changes. */
  FILE *file = fopen(path, "r+");
  assert_non_null(file);
  assert_int_equal(fseek(file, 11, SEEK_SET), 0);
  assert_int_equal(fputc('X', file), 'X');
  assert_int_equal(fclose(file), 0);
  assert_int_equal(moerun__prompts_read(prompts, &prompt, 1), MOERUN_OK);
  assert_int_equal(moerun__prompts_read(prompts, &prompt, 0),
                   MOERUN_ERR_FORMAT);
  expect_words("request 0: the file was changed while the run was reading it");
  /* Nor is what is not a request any more called one that was never right. */
  file = fopen(path, "r+");
  assert_non_null(file);
  assert_int_equal(fputc('[', file), '[');
  assert_int_equal(fclose(file), 0);
  assert_int_equal(moerun__prompts_read(prompts, &prompt, 0),
                   MOERUN_ERR_FORMAT);
  expect_words("request 0: the file was changed while the run was reading it");
  assert_int_equal(truncate(path, 16), 0);
  assert_int_equal(moerun__prompts_read(prompts, &prompt, 1),
                   MOERUN_ERR_FORMAT);
  expect_words("request 1: the file was changed while the run was reading it");
  moerun__prompt_clear(&prompt);
  moerun__prompts_destroy(prompts);
}

/* Lines longer than the blocks the file is read in, and many of them. */
static void long_files_are_cut_right(void **state) {
  (void)state;
  enum { LINES = 700, LONG = 150000 };
  moerun__prompt_options options = defaults();
  moerun__prompts *prompts = NULL;
  moerun__prompt prompt = {0};
  options.max_positions = LONG + 100;
  options.kv_tokens = LONG + 100;
  FILE *file = fopen(path, "w");
  assert_non_null(file);
  for (int i = 0; i < LINES; i++) {
    (void)fprintf(file, "{\"id\":\"line %d\",\"prompt\":\"%*s\"}\n", i,
                  i == 350 ? LONG : i, "");
    if (i % 3 == 0) (void)fputc('\n', file);
  }
  assert_int_equal(fclose(file), 0);
  assert_int_equal(moerun__prompts_open(&prompts, path, &options), MOERUN_OK);
  assert_int_equal(moerun__prompts_count(prompts), LINES);
  for (int i = LINES - 1; i >= 0; i--) {
    char id[32];
    (void)snprintf(id, sizeof id, "\"line %d\"", i);
    assert_int_equal(moerun__prompts_read(prompts, &prompt, i), MOERUN_OK);
    assert_string_equal(prompt.id.bytes, id);
    assert_int_equal(prompt.request.num_prompt, 1 + (i == 350 ? LONG : i));
  }
  moerun__prompt_clear(&prompt);
  moerun__prompts_destroy(prompts);
}

/* ---- Digests ------------------------------------------------------------- */

static uint64_t digest_of(const char *line,
                          const moerun__prompt_options *options) {
  moerun__prompts *prompts = NULL;
  scratch_write(path, line);
  assert_int_equal(moerun__prompts_open(&prompts, path, options), MOERUN_OK);
  const uint64_t digest = moerun__prompts_digest(prompts, 0);
  moerun__prompts_destroy(prompts);
  return digest;
}

static void digests_cover_what_matters(void **state) {
  (void)state;
  static const char *const others[] = {
      "{\"prompt\":\"b\"}",
      "{\"prompt\":\"a\",\"id\":\"0\"}",
      "{\"prompt\":\"a\",\"max_new_tokens\":9}",
      "{\"prompt\":\"a\",\"temperature\":0.25}",
      "{\"prompt\":\"a\",\"top_p\":1}",
      "{\"prompt\":\"a\",\"seed\":4}",
      "{\"prompt\":\"a\",\"top_k\":4}",
      "{\"prompt\":\"a\",\"min_new_tokens\":4}",
      "{\"prompt\":\"a\",\"logprobs\":true}",
      "{\"prompt\":\"a\",\"prompt_logprobs\":true}",
      "{\"prompt\":\"a\",\"min_p\":0.5}",
      "{\"prompt\":\"a\",\"repetition_penalty\":2}",
      "{\"prompt\":\"a\",\"presence_penalty\":1}",
      "{\"prompt\":\"a\",\"frequency_penalty\":1}",
      "{\"tokens\":[97]}",
  };
  moerun__prompt_options options = defaults();
  const uint64_t digest = digest_of("{\"prompt\":\"a\"}", &options);
  for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
    assert_true(digest != digest_of(others[i], &options));
  }
  /* The same request, written differently. A seed of its own has other
   * draws. */
  assert_true(digest == digest_of("\n{ \"id\": 0,\"tokens\": "
                                  "[256,97],\"max_new_tokens\": 8 }",
                                  &options));
  assert_true(digest != digest_of("{\"prompt\":\"a\",\"seed\":3}", &options));
  assert_true(digest_of("{\"prompt\":\"a\",\"temperature\":-0.0}", &options) ==
              digest_of("{\"prompt\":\"a\",\"temperature\":0}", &options));
  options.run_digest++;
  assert_true(digest != digest_of("{\"prompt\":\"a\"}", &options));
}

/* ---- Arrays and windows -------------------------------------------------- */

static void rows_become_requests(void **state) {
  (void)state;
  static const int32_t id[] = {1, 2, 3, 4, -1, -9};
  static const int32_t padded[] = {1, 2, 3, -1, -1, -1};
  static const int32_t with_bos[] = {256, 4};
  const moerun__npy_shape shape = {MOERUN_NPY_I32, 2, {2, 3}};
  const moerun__npy_shape flat = {MOERUN_NPY_I32, 1, {4}};
  moerun__prompt_options options = defaults();
  moerun__prompts *prompts = NULL;
  moerun__prompt prompt = {0};
  npy_file_write(path, &shape, id);
  assert_int_equal(moerun__prompts_open_tokens(&prompts, path, &options),
                   MOERUN_OK);
  assert_int_equal(moerun__prompts_count(prompts), 2);
  assert_int_equal(moerun__prompts_read(prompts, &prompt, 1), MOERUN_OK);
  expect_tokens(&prompt, id + 3, 1);
  assert_string_equal(prompt.id.bytes, "1");
  assert_int_equal(moerun__prompts_read(prompts, &prompt, 0), MOERUN_OK);
  expect_tokens(&prompt, id, 3);
  moerun__prompts_destroy(prompts);
  options.tokens_bos = 256;
  assert_int_equal(moerun__prompts_open_tokens(&prompts, path, &options),
                   MOERUN_OK);
  assert_int_equal(moerun__prompts_read(prompts, &prompt, 1), MOERUN_OK);
  expect_tokens(&prompt, with_bos, 2);
  moerun__prompts_destroy(prompts);
  /* No ids do not become a request of BOS alone. */
  npy_file_write(path, &shape, padded);
  assert_int_equal(moerun__prompts_open_tokens(&prompts, path, &options),
                   MOERUN_ERR_FORMAT);
  expect_words("expected at least one token, found an empty prompt");
  scratch_write(path, "{\"tokens\":[]}");
  assert_int_equal(moerun__prompts_open_tokens(&prompts, path, &options),
                   MOERUN_ERR_FORMAT);
  expect_words("expected at least one token, found an empty prompt");
  options.tokens_bos = -1;
  npy_file_write(path, &flat, id);
  assert_int_equal(moerun__prompts_open_tokens(&prompts, path, &options),
                   MOERUN_OK);
  assert_int_equal(moerun__prompts_count(prompts), 1);
  assert_int_equal(moerun__prompts_read(prompts, &prompt, 0), MOERUN_OK);
  expect_tokens(&prompt, id, 4);
  moerun__prompts_destroy(prompts);
  scratch_write(path, "{\"tokens\":[1,2,3,4]}");
  assert_int_equal(moerun__prompts_open_tokens(&prompts, path, &options),
                   MOERUN_OK);
  assert_int_equal(moerun__prompts_read(prompts, &prompt, 0), MOERUN_OK);
  expect_tokens(&prompt, id, 4);
  moerun__prompts_destroy(prompts);
  moerun__prompt_clear(&prompt);
}

static void expect_array_refused(const moerun__npy_shape *shape,
                                 const int32_t *id, const char *words) {
  const moerun__prompt_options options = defaults();
  const size_t live = moerun__alloc_live();
  moerun__prompts *prompts = NULL;
  npy_file_write(path, shape, id);
  assert_int_equal(moerun__prompts_open_tokens(&prompts, path, &options),
                   MOERUN_ERR_FORMAT);
  expect_words(words);
  assert_null(prompts);
  assert_int_equal(moerun__alloc_live(), live);
}

static void bad_rows_are_named(void **state) {
  (void)state;
  static const int32_t id[8] = {1, -1, 2, 272, 0, 0, 0, 0};
  static const int32_t empty[2] = {-1, -1};
  const moerun__npy_shape cube = {MOERUN_NPY_I32, 3, {1, 2, 2}};
  const moerun__npy_shape row = {MOERUN_NPY_I32, 2, {1, 3}};
  const moerun__npy_shape rows = {MOERUN_NPY_I32, 2, {2, 2}};
  const moerun__npy_shape flat = {MOERUN_NPY_I32, 1, {2}};
  const moerun__npy_shape real = {MOERUN_NPY_F32, 1, {2}};
  const moerun__npy_shape wide = {MOERUN_NPY_I64, 1, {1}};
  static const int64_t big[1] = {(int64_t)1 << 40};
  expect_array_refused(&cube, id, "an array of 1 or 2 dimensions, found 3");
  expect_array_refused(&row, id,
                       "row 0: element 2: expected padding (negative) behind "
                       "padding, found id 2");
  expect_array_refused(&rows, id,
                       "row 1: token 1: expected an id of 0 to 271, found 272");
  expect_array_refused(&flat, empty, "row 0: expected at least one token");
  expect_array_refused(
      &real, id, "elements that are integers of 1, 2, 4 or 8 bytes, found <f4");
  expect_array_refused(&wide, (const int32_t *)(const void *)big,
                       "row 0: element 0: expected a token id, found 1099511");
}

/* In whatever form nothing comes. */
static void empty_inputs_are_refused_alike(void **state) {
  (void)state;
  static const int32_t none[1] = {0};
  const moerun__npy_shape flat = {MOERUN_NPY_I32, 1, {0}};
  const moerun__npy_shape rows = {MOERUN_NPY_I32, 2, {0, 4}};
  const moerun__npy_shape columns = {MOERUN_NPY_I32, 2, {4, 0}};
  expect_array_refused(&flat, none,
                       ": expected at least one request, found none");
  expect_array_refused(&rows, none,
                       ": expected at least one request, found none");
  expect_array_refused(&columns, none,
                       ": expected at least one request, found none");
}

/* A byte order mark and a bos token in front are no part of the text. */
static void windows_begin_with_the_text(void **state) {
  (void)state;
  static const int32_t want[] = {256, 'a', 'b', 'c', 'd'};
  static const int32_t id[] = {256, 'a', 'b', 'c', 'd', 'e'};
  const moerun__npy_shape flat = {MOERUN_NPY_I32, 1, {6}};
  moerun__prompt_options options = defaults();
  moerun__prompts *prompts = NULL;
  moerun__prompt prompt = {0};
  scratch_write(path, "\xEF\xBB\xBF<bos>abcdefghij");
  assert_int_equal(moerun__prompts_open_score(&prompts, path, 4, &options),
                   MOERUN_OK);
  assert_int_equal(moerun__prompts_count(prompts), 3);
  assert_int_equal(moerun__prompts_scored_bytes(prompts), 10);
  assert_int_equal(moerun__prompts_read(prompts, &prompt, 0), MOERUN_OK);
  expect_tokens(&prompt, want, 5);
  moerun__prompts_destroy(prompts);
  options.tokens_bos = 256;
  npy_file_write(path, &flat, id);
  assert_int_equal(moerun__prompts_open_score(&prompts, path, 4, &options),
                   MOERUN_OK);
  assert_int_equal(moerun__prompts_count(prompts), 2);
  assert_int_equal(moerun__prompts_read(prompts, &prompt, 0), MOERUN_OK);
  expect_tokens(&prompt, want, 5);
  moerun__prompts_destroy(prompts);
  moerun__prompt_clear(&prompt);
  scratch_write(path, "version https://git-lfs.github.com/spec/v1\nsize 9\n");
  assert_int_equal(moerun__prompts_open_score(&prompts, path, 4, &options),
                   MOERUN_ERR_FORMAT);
  expect_words(": expected a text, found a Git LFS pointer");
}

static void texts_become_windows(void **state) {
  (void)state;
  static const int32_t last[] = {256, 'i', 'j'};
  moerun__prompt_options options = defaults();
  moerun__prompts *prompts = NULL;
  moerun__prompt prompt = {0};
  scratch_write(path, "abcdefghij");
  assert_int_equal(moerun__prompts_open_score(&prompts, path, 4, &options),
                   MOERUN_OK);
  assert_int_equal(moerun__prompts_count(prompts), 3);
  assert_int_equal(moerun__prompts_scored_bytes(prompts), 10);
  assert_int_equal(moerun__prompts_read(prompts, &prompt, 2), MOERUN_OK);
  expect_tokens(&prompt, last, 3);
  assert_int_equal(prompt.request.score_only, 1);
  assert_int_equal(prompt.request.max_new_tokens, 0);
  assert_string_equal(prompt.id.bytes, "2");
  moerun__prompts_destroy(prompts);
  /* Without bos a window's first token is given, and a window of one token
   * has nothing to score. */
  options.text_bos = -1;
  assert_int_equal(moerun__prompts_open_score(&prompts, path, 3, &options),
                   MOERUN_OK);
  assert_int_equal(moerun__prompts_count(prompts), 3);
  assert_int_equal(moerun__prompts_scored_bytes(prompts), 6);
  assert_int_equal(moerun__prompts_read(prompts, &prompt, 2), MOERUN_OK);
  assert_int_equal(prompt.request.num_prompt, 3);
  moerun__prompts_destroy(prompts);
  scratch_write(path, "a");
  assert_int_equal(moerun__prompts_open_score(&prompts, path, 3, &options),
                   MOERUN_ERR_FORMAT);
  expect_words("expected a text of at least 2 tokens to score, found 1");
  options.text_bos = 256;
  assert_int_equal(moerun__prompts_open_score(&prompts, path, 64, &options),
                   MOERUN_OK);
  moerun__prompts_destroy(prompts);
  scratch_write(path, "0123456789012345678901234567890123456789"
                      "0123456789012345678901234567890123456789");
  assert_int_equal(moerun__prompts_open_score(&prompts, path, 64, &options),
                   MOERUN_ERR_FORMAT);
  expect_words("window 0: expected at most 64 tokens");
  moerun__prompt_clear(&prompt);
}

static void arrays_become_windows(void **state) {
  (void)state;
  static const int32_t id[] = {1, 2, 3, 4, 272};
  const moerun__npy_shape four = {MOERUN_NPY_I32, 1, {4}};
  const moerun__npy_shape five = {MOERUN_NPY_I32, 1, {5}};
  const moerun__npy_shape rows = {MOERUN_NPY_I32, 2, {2, 2}};
  const moerun__prompt_options options = defaults();
  moerun__prompts *prompts = NULL;
  moerun__prompt prompt = {0};
  npy_file_write(path, &four, id);
  assert_int_equal(moerun__prompts_open_score(&prompts, path, 3, &options),
                   MOERUN_OK);
  /* No bos for ids, so the last window of one token is left out. */
  assert_int_equal(moerun__prompts_count(prompts), 1);
  assert_int_equal(moerun__prompts_scored_bytes(prompts), 0);
  assert_int_equal(moerun__prompts_read(prompts, &prompt, 0), MOERUN_OK);
  expect_tokens(&prompt, id, 3);
  moerun__prompts_destroy(prompts);
  npy_file_write(path, &five, id);
  assert_int_equal(moerun__prompts_open_score(&prompts, path, 3, &options),
                   MOERUN_ERR_FORMAT);
  expect_words("element 4: expected an id of 0 to 271, found 272");
  npy_file_write(path, &rows, id);
  assert_int_equal(moerun__prompts_open_score(&prompts, path, 3, &options),
                   MOERUN_ERR_FORMAT);
  moerun__prompt_clear(&prompt);
}

static void a_copy_that_has_no_room_is_named(void **state) {
  (void)state;
  moerun__spool spool = {0};
  struct rlimit before;
  (void)signal(SIGXFSZ, SIG_IGN);
  assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
  const struct rlimit small = {.rlim_cur = 2, .rlim_max = before.rlim_max};
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
  assert_int_equal(moerun__spool_text(&spool, "abc", 3, "--prompt"),
                   MOERUN_ERR_OUTPUT);
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
  assert_non_null(strstr(moerun_last_error(), "the copy of --prompt in "));
  assert_non_null(strstr(moerun_last_error(), ": cannot be written: file too"));
  moerun__spool_clear(&spool);
}

static void nth_allocation_fails_cleanly(void **state) {
  (void)state;
  const moerun__prompt_options options = defaults();
  const size_t live = moerun__alloc_live();
  moerun_status status = MOERUN_ERR_NOMEM;
  long nth = 0;
  scratch_write(path, "{\"prompt\":\"a\"}\n{\"tokens\":[1]}\n");
  for (; status != MOERUN_OK && nth < 100; nth++) {
    moerun__prompts *prompts = NULL;
    moerun__prompt prompt = {0};
    moerun__alloc_fail_nth(nth);
    status = moerun__prompts_open(&prompts, path, &options);
    if (status == MOERUN_OK) status = moerun__prompts_read(prompts, &prompt, 0);
    moerun__alloc_fail_nth(-1);
    assert_true(status == MOERUN_OK || status == MOERUN_ERR_NOMEM);
    moerun__prompt_clear(&prompt);
    moerun__prompts_destroy(prompts);
    assert_int_equal(moerun__alloc_live(), live);
  }
  assert_int_equal(status, MOERUN_OK);
  assert_true(nth > 8);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(lines_become_requests),
      cmocka_unit_test(marks_are_skipped),
      cmocka_unit_test(there_is_one_bos),
      cmocka_unit_test(bad_lines_are_named),
      cmocka_unit_test(limits_of_the_run_are_named),
      cmocka_unit_test(a_changed_file_is_noticed),
      cmocka_unit_test(long_files_are_cut_right),
      cmocka_unit_test(digests_cover_what_matters),
      cmocka_unit_test(rows_become_requests),
      cmocka_unit_test(bad_rows_are_named),
      cmocka_unit_test(empty_inputs_are_refused_alike),
      cmocka_unit_test(windows_begin_with_the_text),
      cmocka_unit_test(texts_become_windows),
      cmocka_unit_test(arrays_become_windows),
      cmocka_unit_test(a_copy_that_has_no_room_is_named),
      cmocka_unit_test(nth_allocation_fails_cleanly),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
