/* Results: the same bytes whatever the order and the interruptions, and
 * nothing lost or mixed in. */
#include "launch/run/work_left.h"
#include "runtime/base/memory.h"
#include "runtime/base/rng.h"
#include "support/scratch.h"

#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { REQUESTS = 6, SEED = 11 };

static const char demo_model[] = MOERUN_TEST_DATA "/../../launch/demo/model";
static moerun__tokenizer *tokenizer;
static moerun__prompts *prompts;
static moerun__prompts *windows;
static char path[SCRATCH_PATH];

static const uint64_t weights = 0x0123456789abcdef;
static const moerun__results_options fresh = {.path = path};
static const moerun__model_config model = {
    .vocab_size = 272, .num_eos = 1, .eos_token = {257}};
static const moerun__results_options resume = {
    .path = path, .model = &model, .resume = 1};
static const moerun__results_options overwrite = {.path = path, .overwrite = 1};

static const char wanted[] =
    "{\"index\":0,\"id\":\"a\",\"prompt_tokens\":2,\"tokens\":[104,105],"
    "\"text\":\"hi\",\"finish\":\"length\",\"digest\":\"";

static int set_up(void **state) {
  (void)state;
  moerun__prompt_options options = {.text_bos = 256,
                                    .tokens_bos = -1,
                                    .vocab_size = 272,
                                    .max_positions = 64,
                                    .kv_tokens = 64,
                                    .max_new_tokens = 8,
                                    .sampling.top_p = 1};
  if (moerun__tokenizer_load(&tokenizer, demo_model) != MOERUN_OK) return -1;
  options.tokenizer = tokenizer;
  scratch_create(path);
  scratch_write(path,
                "{\"id\":\"a\",\"prompt\":\"x\",\"max_new_tokens\":2}\n"
                "{\"prompt\":\"1\"}\n"
                "{\"id\":\"c\\n\",\"tokens\":[1,2],\"max_new_tokens\":4}\n"
                "{\"prompt\":\"3\"}\n{\"prompt\":\"4\",\"max_new_tokens\":2}\n"
                "{\"prompt\":\"5\",\"max_new_tokens\":4}\n");
  if (moerun__prompts_open(&prompts, path, &options) != MOERUN_OK) return -1;
  scratch_write(path, "abcdefghij");
  if (moerun__prompts_open_score(&windows, path, 4, &options) != MOERUN_OK) {
    return -1;
  }
  return unlink(path);
}

static int tear_down(void **state) {
  (void)state;
  (void)unlink(path);
  moerun__prompts_destroy(prompts);
  moerun__prompts_destroy(windows);
  moerun__tokenizer_destroy(tokenizer);
  return 0;
}

/* What request `index` generates: a function of the index alone. */
static moerun_status append(moerun__results *results, int64_t index) {
  static const int32_t tokens[REQUESTS][4] = {
      {104, 105}, {0xC3, 0xA9, 257}, {0xFF, 10, 34, 271},
      {257},      {0xF0, 0x9F},      {65, 66, 67, 68}};
  static const int32_t count[REQUESTS] = {2, 3, 4, 1, 2, 4};
  const moerun__completion c = {.index = index,
                                .rank = (int32_t)(index % 3),
                                .finish = index == 1 || index == 3
                                              ? MOERUN_FINISH_EOS
                                              : MOERUN_FINISH_LENGTH,
                                .num_prompt = 2,
                                .num_tokens = count[index],
                                .token = tokens[index]};
  return moerun__results_append(results, &c);
}

static void read_all(char **text, size_t *bytes) {
  assert_int_equal(moerun__file_read(text, bytes, path, 1U << 20), MOERUN_OK);
}

/* Finishes what is missing, in a random order, and ends. */
static moerun_status end(moerun__results *results) {
  moerun__outputs outputs = {0};
  moerun_status status = moerun__results_end(results, &outputs);
  if (status == MOERUN_OK) status = moerun__outputs_commit(&outputs);
  return status;
}

static void finish(moerun__results *results, uint64_t round) {
  int64_t order[REQUESTS];
  for (uint32_t i = 0; i < REQUESTS; i++) {
    uint32_t r[4];
    moerun__philox(r, SEED, round, i);
    const uint32_t j = r[0] % (i + 1);
    order[i] = order[j];
    order[j] = i;
  }
  assert_int_equal(moerun__results_begin(results, &weights), MOERUN_OK);
  for (int i = 0; i < REQUESTS; i++) {
    if (moerun__results_has(results, order[i])) continue;
    assert_int_equal(append(results, order[i]), MOERUN_OK);
  }
  assert_int_equal(moerun__results_count(results), REQUESTS);
  assert_int_equal(end(results), MOERUN_OK);
}

static void make_reference(char **text, size_t *bytes) {
  moerun__results *results = NULL;
  (void)unlink(path);
  assert_int_equal(moerun__results_open(&results, prompts, tokenizer, &fresh),
                   MOERUN_OK);
  assert_int_equal(moerun__results_begin(results, &weights), MOERUN_OK);
  for (int64_t i = 0; i < REQUESTS; i++) {
    assert_int_equal(append(results, i), MOERUN_OK);
  }
  assert_int_equal(end(results), MOERUN_OK);
  moerun__results_destroy(results);
  read_all(text, bytes);
}

static void lines_hold_what_they_should(void **state) {
  (void)state;
  char *text = NULL;
  size_t bytes = 0;
  char digest[64];
  make_reference(&text, &bytes);
  assert_memory_equal(text, wanted, sizeof wanted - 1);
  (void)snprintf(digest, sizeof digest, "\"digest\":\"%016llx%016llx\"}\n",
                 (unsigned long long)moerun__prompts_digest(prompts, 0),
                 (unsigned long long)weights);
  assert_memory_equal(strchr(text, '\n') - strlen(digest) + 1, digest,
                      strlen(digest));
  assert_non_null(strstr(text, "\n{\"index\":1,\"id\":1,\"prompt_tokens\":2,"
                               "\"tokens\":[195,169,257],\"text\":\"\xC3\xA9\","
                               "\"finish\":\"eos\","));
  assert_non_null(strstr(text, "\n{\"index\":2,\"id\":\"c\\n\","));
  assert_non_null(strstr(text, "\"tokens\":[255,10,34,271],"
                               "\"text\":\"\xEF\xBF\xBD\\n\\\"\","));
  assert_non_null(strstr(text, "\"tokens\":[257],\"text\":\"\",\"finish\":"
                               "\"eos\""));
  moerun__free(text);
  moerun__results *results = NULL;
  (void)unlink(path);
  assert_int_equal(moerun__results_open(&results, prompts, NULL, &fresh),
                   MOERUN_OK);
  assert_int_equal(moerun__results_begin(results, &weights), MOERUN_OK);
  assert_int_equal(append(results, 0), MOERUN_OK);
  moerun__results_destroy(results);
  read_all(&text, &bytes);
  assert_non_null(strstr(text, "\"tokens\":[104,105],\"finish\":"));
  moerun__free(text);
}

/* A run that fails before its first result leaves no empty file that the same
 * command would then refuse; results, and the file of a run that ends, stay. */
static void a_file_without_results_is_no_output(void **state) {
  (void)state;
  for (int round = 0; round < 3; round++) {
    moerun__results *results = NULL;
    (void)unlink(path);
    assert_int_equal(moerun__results_open(&results, prompts, NULL, &fresh),
                     MOERUN_OK);
    assert_int_equal(moerun__results_begin(results, &weights), MOERUN_OK);
    assert_int_equal(access(path, F_OK), 0);
    if (round == 1) assert_int_equal(append(results, 0), MOERUN_OK);
    if (round == 2) assert_int_equal(end(results), MOERUN_OK);
    moerun__results_destroy(results);
    assert_int_equal(access(path, F_OK), round == 0 ? -1 : 0);
  }
}

/* Where a killed process may have left the file: around every end of a line,
 * and at some bytes of each (a sync per round takes its time). */
static int is_cut_tried(const char *text, size_t cut, size_t size) {
  if (cut % 23 == 0 || cut == size) return 1;
  return text[cut] == '\n' || text[cut - 1] == '\n';
}

/* The file of a killed process is cut, resumed in a random order, ended. */
static void any_interruption_gives_the_same_bytes(void **state) {
  (void)state;
  char *reference = NULL;
  char *unordered = NULL;
  char *text = NULL;
  size_t size = 0;
  size_t bytes = 0;
  print_message("seed %d\n", SEED);
  make_reference(&reference, &size);
  moerun__results *results = NULL;
  assert_int_equal(
      moerun__results_open(&results, prompts, tokenizer, &overwrite),
      MOERUN_OK);
  assert_int_equal(moerun__results_begin(results, &weights), MOERUN_OK);
  static const int order[REQUESTS] = {4, 0, 5, 2, 1, 3};
  for (int i = 0; i < REQUESTS; i++) {
    assert_int_equal(append(results, order[i]), MOERUN_OK);
  }
  moerun__results_destroy(results); /* killed before the end */
  read_all(&unordered, &bytes);
  assert_int_equal(bytes, size);
  assert_memory_not_equal(unordered, reference, size);
  for (size_t cut = 0; cut <= size; cut++) {
    if (!is_cut_tried(unordered, cut, size)) continue;
    assert_int_equal(moerun__file_write(path, unordered, cut), MOERUN_OK);
    assert_int_equal(
        moerun__results_open(&results, prompts, tokenizer, &resume), MOERUN_OK);
    finish(results, cut);
    moerun__results_destroy(results);
    read_all(&text, &bytes);
    assert_int_equal(bytes, size);
    assert_memory_equal(text, reference, size);
    moerun__free(text);
  }
  moerun__free(reference);
  moerun__free(unordered);
}

/* A pipe stands for /dev/null and for what a shell puts in place of a file. */
static void pipes_take_lines_as_they_come(void **state) {
  (void)state;
  const moerun__results_options options = {.path = path};
  moerun__results *results = NULL;
  char found[1 << 16] = "";
  (void)unlink(path);
  assert_int_equal(mkfifo(path, 0600), 0);
  const int reader = open(path, O_RDWR | O_NONBLOCK);
  assert_true(reader >= 0);
  assert_int_equal(moerun__results_open(&results, prompts, tokenizer, &options),
                   MOERUN_OK);
  assert_int_equal(moerun__results_begin(results, &weights), MOERUN_OK);
  for (int64_t i = REQUESTS - 1; i >= 0; i--) {
    assert_int_equal(append(results, i), MOERUN_OK);
  }
  assert_int_equal(end(results), MOERUN_OK);
  moerun__results_destroy(results);
  assert_true(read(reader, found, sizeof found - 1) > 0);
  assert_memory_equal(found, "{\"index\":5,", 11);
  assert_non_null(strstr(found, "\n{\"index\":4,"));
  assert_non_null(strstr(found, "\n{\"index\":0,"));
  (void)close(reader);
  (void)unlink(path);
}

/* Errors stand in the place of results; to go on judges them anew, whether
 * they are right by now or not. */
static void errors_hold_a_place(void **state) {
  (void)state;
  static const char line[] =
      "{\"index\":1,\"id\":1,\"error\":\"f:2: not \\\"valid\\\"\"}\n";
  char *reference = NULL;
  char *text = NULL;
  size_t bytes = 0;
  moerun__results *results = NULL;
  make_reference(&reference, &bytes);
  (void)unlink(path);
  for (int round = 0; round < 3; round++) {
    assert_int_equal(
        moerun__results_open(&results, prompts, tokenizer, &resume), MOERUN_OK);
    assert_int_equal(moerun__results_has(results, 1), 0);
    assert_int_equal(moerun__results_count(results), round == 0 ? 0 : 5);
    assert_int_equal(moerun__results_begin(results, &weights), MOERUN_OK);
    if (round < 2) {
      assert_int_equal(
          moerun__results_append_error(results, 1, "1", "f:2: not \"valid\""),
          MOERUN_OK);
      assert_int_equal(moerun__results_has(results, 1), 1);
    }
    for (int64_t i = 5; i >= 0; i--) {
      if (moerun__results_has(results, i)) continue;
      assert_int_equal(append(results, i), MOERUN_OK);
    }
    assert_int_equal(end(results), MOERUN_OK);
    moerun__results_destroy(results);
    read_all(&text, &bytes);
    const char *second = strchr(text, '\n') + 1;
    if (round < 2) {
      assert_memory_equal(second, line, strlen(line));
    } else {
      assert_string_equal(text, reference);
    }
    moerun__free(text);
  }
  moerun__free(reference);
}

/* Opening and refusing changes nothing. */
static void looking_does_not_touch(void **state) {
  (void)state;
  static const char torn[] = "{\"index\":0,";
  moerun__results *results = NULL;
  char *text = NULL;
  size_t bytes = 0;
  scratch_write(path, torn);
  assert_int_equal(moerun__results_open(&results, prompts, tokenizer, &fresh),
                   MOERUN_ERR_INVALID);
  expect_words("exists already: --resume goes on with it, --overwrite ");
  assert_int_equal(
      moerun__results_open(&results, prompts, tokenizer, &overwrite),
      MOERUN_OK);
  moerun__results_destroy(results);
  assert_int_equal(moerun__results_open(&results, prompts, tokenizer, &resume),
                   MOERUN_OK);
  moerun__results_destroy(results);
  read_all(&text, &bytes);
  assert_string_equal(text, torn);
  moerun__free(text);
  (void)unlink(path);
  assert_int_equal(moerun__results_open(&results, prompts, tokenizer, &fresh),
                   MOERUN_OK);
  moerun__results_destroy(results);
  assert_int_equal(access(path, F_OK), -1);
}

static void expect_no_resume(const char *content, const char *words) {
  moerun__results *results = NULL;
  char *text = NULL;
  size_t bytes = 0;
  const size_t live = moerun__alloc_live();
  scratch_write(path, content);
  assert_int_equal(moerun__results_open(&results, prompts, tokenizer, &resume),
                   MOERUN_ERR_FORMAT);
  assert_null(results);
  expect_words(words);
  expect_words(path);
  assert_int_equal(moerun__alloc_live(), live);
  read_all(&text, &bytes);
  assert_string_equal(text, content);
  moerun__free(text);
}

/* A line of request 0 or 1. */
static void print_line(char out[256], int index) {
  static const char *const begin[] = {
      wanted, "{\"index\":1,\"id\":1,\"prompt_tokens\":2,\"tokens\":[195,169,"
              "257],\"text\":\"\xC3\xA9\",\"finish\":\"eos\",\"digest\":\""};
  (void)snprintf(out, 256, "%s%016llx%016llx\"}\n", begin[index],
                 (unsigned long long)moerun__prompts_digest(prompts, index),
                 (unsigned long long)weights);
}

static void other_results_are_refused(void **state) {
  (void)state;
  char line[2][256];
  char two[800];
  for (int i = 0; i < 2; i++) {
    print_line(line[i], i);
  }
  (void)snprintf(two, sizeof two, "%s%s%s", line[1], line[0], line[1]);
  expect_no_resume(two, ":3: cannot resume: request 1 has a result already");
  (void)snprintf(
      two, sizeof two,
      "%s{\"index\":1,\"digest\":\"00000000000000000123456789abcdef\"}"
      "\n",
      line[0]);
  expect_no_resume(two,
                   ":2: cannot resume: this result was made by another "
                   "request than number 1 of this run (model, prompt, "
                   "--add-bos, --max-new-tokens, sampling, --wire, "
                   "--compute, --kernels, --gate-top-k or --capacity differ); "
                   "--overwrite starts afresh");
  (void)snprintf(two, sizeof two,
                 "%s{\"index\":1,\"digest\":\"%016llx0123456789abcdee\"}\n",
                 line[0],
                 (unsigned long long)moerun__prompts_digest(prompts, 1));
  expect_no_resume(two, ":2: cannot resume: this result was made with other "
                        "weights than those before it");
  expect_no_resume("{\"index\":0,\"digest\":\"0123456789abcdef\"}\n",
                   ":1: cannot resume: digest: expected 32 digits, found 16");
  expect_no_resume("{\"index\":6,\"digest\":\"\"}\n",
                   ":1: key \"index\": expected 0 to 5, found 6");
  expect_no_resume("{\"index\":0}\n", "key \"digest\": expected a string");
  expect_no_resume("[]\n", ":1: expected a JSON object, found an array");
  expect_no_resume("not JSON\n{}", ":1: column 3: not valid JSON");
  expect_no_resume("\n", ":1: column 0: not valid JSON");
}

/* Known only when the weights are: before the file is touched, a torn line
 * included. */
static void other_weights_are_refused(void **state) {
  (void)state;
  moerun__results *results = NULL;
  char content[300];
  char *text = NULL;
  size_t bytes = 0;
  const uint64_t others = weights ^ 1U;
  print_line(content, 0);
  (void)strcat(content, "{\"index\":1,\"id");
  scratch_write(path, content);
  assert_int_equal(moerun__results_open(&results, prompts, tokenizer, &resume),
                   MOERUN_OK);
  assert_int_equal(moerun__results_begin(results, &others), MOERUN_ERR_FORMAT);
  expect_words("cannot resume: these results were made with other weights than "
               "the model has now; --overwrite starts afresh");
  moerun__results_destroy(results);
  read_all(&text, &bytes);
  assert_string_equal(text, content);
  moerun__free(text);
}

static void bad_paths_are_named(void **state) {
  (void)state;
  moerun__results *results = NULL;
  moerun__results_options options = {.path = "nowhere/x", .resume = 1};
  assert_int_equal(moerun__results_open(&results, prompts, tokenizer, &options),
                   MOERUN_OK);
  assert_int_equal(moerun__results_begin(results, &weights), MOERUN_ERR_OUTPUT);
  moerun__results_destroy(results);
  assert_string_equal(moerun_last_error(),
                      "nowhere/x: cannot be created: no such file or "
                      "directory");
  options.path = "/dev/null";
  assert_int_equal(moerun__results_open(&results, prompts, tokenizer, &options),
                   MOERUN_ERR_OUTPUT);
  expect_words("/dev/null: expected a regular file for --resume");
  options.path = "/tmp";
  assert_int_equal(moerun__results_open(&results, prompts, tokenizer, &options),
                   MOERUN_ERR_OUTPUT);
  expect_words("it is a directory");
}

static void one_process_writes(void **state) {
  (void)state;
  moerun__results *results = NULL;
  (void)unlink(path);
  assert_int_equal(moerun__results_open(&results, prompts, tokenizer, &fresh),
                   MOERUN_OK);
  assert_int_equal(moerun__results_begin(results, &weights), MOERUN_OK);
  const pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    moerun__results *other = NULL;
    const moerun_status status =
        moerun__results_open(&other, prompts, tokenizer, &resume);
    _exit(status == MOERUN_ERR_OUTPUT &&
                  strstr(moerun_last_error(), "another process is writing")
              ? 0
              : 1);
  }
  int code = -1;
  assert_int_equal(waitpid(child, &code, 0), child);
  assert_int_equal(code, 0);
  moerun__results_destroy(results);
}

static void a_full_disk_is_named(void **state) {
  (void)state;
  moerun__results *results = NULL;
  struct rlimit before;
  char *text = NULL;
  size_t bytes = 0;
  (void)unlink(path);
  assert_int_equal(moerun__results_open(&results, prompts, tokenizer, &fresh),
                   MOERUN_OK);
  assert_int_equal(moerun__results_begin(results, &weights), MOERUN_OK);
  assert_int_equal(append(results, 1), MOERUN_OK);
  (void)signal(SIGXFSZ, SIG_IGN);
  assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
  const struct rlimit small = {.rlim_cur = 200, .rlim_max = before.rlim_max};
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
  assert_int_equal(append(results, 0), MOERUN_ERR_OUTPUT);
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
  expect_words(": cannot be written: ");
  assert_int_equal(moerun__results_has(results, 0), 0);
  moerun__results_destroy(results);
  /* What was torn by it does not hinder. */
  assert_int_equal(moerun__results_open(&results, prompts, tokenizer, &resume),
                   MOERUN_OK);
  assert_int_equal(moerun__results_count(results), 1);
  finish(results, 0);
  moerun__results_destroy(results);
  read_all(&text, &bytes);
  assert_memory_equal(text, wanted, sizeof wanted - 1);
  moerun__free(text);
}

static void unexpected_results_are_refused(void **state) {
  (void)state;
  moerun__results *results = NULL;
  const moerun__results_options none = {.path = NULL};
  assert_int_equal(moerun__results_open(&results, prompts, tokenizer, &none),
                   MOERUN_OK);
  assert_int_equal(moerun__results_begin(results, &weights), MOERUN_OK);
  assert_int_equal(append(results, 2), MOERUN_OK);
  assert_int_equal(append(results, 2), MOERUN_ERR_INVALID);
  const moerun__completion beyond = {.index = REQUESTS};
  assert_int_equal(moerun__results_append(results, &beyond),
                   MOERUN_ERR_INVALID);
  assert_int_equal(end(results), MOERUN_OK);
  moerun__results_destroy(results);
}

static void scores_add_up_over_interruptions(void **state) {
  (void)state;
  static const double value[] = {-0.1, -1e17, -3};
  moerun__results *results = NULL;
  char *text = NULL;
  size_t bytes = 0;
  (void)unlink(path);
  moerun__completion c = {.finish = MOERUN_FINISH_SCORED};
  for (int i = 2; i >= 0; i--) {
    assert_int_equal(
        moerun__results_open(&results, windows, tokenizer, &resume), MOERUN_OK);
    assert_int_equal(moerun__results_begin(results, &weights), MOERUN_OK);
    c.index = i;
    c.log_probability = NAN;
    assert_int_equal(moerun__results_append(results, &c), MOERUN_ERR_FORMAT);
    expect_words("is not a finite number");
    c.log_probability = value[i];
    assert_int_equal(moerun__results_append(results, &c), MOERUN_OK);
    if (i == 0) assert_int_equal(end(results), MOERUN_OK);
    moerun__work_left left; /* a window's last token is not fed */
    assert_int_equal(moerun__work_left_of(&left, windows, results, NULL, 16, 1),
                     MOERUN_OK);
    assert_int_equal(left.work.prompt_tokens, i * 4);
    const moerun__score score = moerun__results_score(results);
    double sum = 0;
    for (int k = i; k < 3; k++) {
      sum += value[k];
    }
    assert_true(score.log_probability == sum);
    assert_int_equal(score.tokens, i == 2 ? 2 : i == 1 ? 6 : 10);
    moerun__results_destroy(results);
  }
  read_all(&text, &bytes);
  assert_memory_equal(text,
                      "{\"index\":0,\"id\":0,\"scored_tokens\":4,"
                      "\"log_probability\":-0.10000000000000001,\"digest\":",
                      80);
  assert_non_null(strstr(text, "\"log_probability\":-1e+17,"));
  assert_non_null(strstr(text, "\"scored_tokens\":2,\"log_probability\":-3,"));
  moerun__free(text);
}

static void nth_allocation_fails_cleanly(void **state) {
  (void)state;
  const size_t live = moerun__alloc_live();
  moerun_status status = MOERUN_ERR_NOMEM;
  char *reference = NULL;
  size_t size = 0;
  long nth = 0;
  make_reference(&reference, &size);
  for (; status != MOERUN_OK && nth < 100; nth++) {
    moerun__results *results = NULL;
    assert_int_equal(moerun__file_write(path, reference, size / 2), MOERUN_OK);
    moerun__alloc_fail_nth(nth);
    status = moerun__results_open(&results, prompts, tokenizer, &resume);
    if (status == MOERUN_OK) status = moerun__results_begin(results, &weights);
    if (status == MOERUN_OK) status = append(results, REQUESTS - 1);
    moerun__alloc_fail_nth(-1);
    assert_true(status == MOERUN_OK || status == MOERUN_ERR_NOMEM);
    moerun__results_destroy(results);
    assert_int_equal(moerun__alloc_live(), live + 1);
  }
  assert_int_equal(status, MOERUN_OK);
  assert_true(nth > 8);
  moerun__free(reference);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(lines_hold_what_they_should),
      cmocka_unit_test(a_file_without_results_is_no_output),
      cmocka_unit_test(any_interruption_gives_the_same_bytes),
      cmocka_unit_test(errors_hold_a_place),
      cmocka_unit_test(pipes_take_lines_as_they_come),
      cmocka_unit_test(looking_does_not_touch),
      cmocka_unit_test(other_results_are_refused),
      cmocka_unit_test(other_weights_are_refused),
      cmocka_unit_test(bad_paths_are_named),
      cmocka_unit_test(one_process_writes),
      cmocka_unit_test(a_full_disk_is_named),
      cmocka_unit_test(unexpected_results_are_refused),
      cmocka_unit_test(scores_add_up_over_interruptions),
      cmocka_unit_test(nth_allocation_fails_cleanly),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
