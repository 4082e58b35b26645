/* What unfinished requests have generated: that it is there again, that damage
 * costs time and never gives other tokens, and that nobody else's file is
 * touched. */
#include "launch/results/unfinished.h"
#include "launch/run/work_left.h"
#include "runtime/base/memory.h"
#include "runtime/base/timer.h"
#include "support/scratch.h"
#include "support/temp_dir.h"
#include "support/warnings.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

enum { REQUESTS = 4, MOST = 9, VOCABULARY = 50 };

static temp_dir dir;
static char path[TEMP_PATH];   /* of the results */
static char beside[TEMP_PATH]; /* and of what is kept */
static moerun__prompts *prompts;
static moerun__results *results;
static const uint64_t weights = 0x0123456789abcdef;

/* Of request 2 nothing is. */
static const int32_t generated[REQUESTS][MOST - 1] = {
    {3, 14, 15}, {9}, {0}, {49, 0, 48, 1, 47, 2, 46, 3}};
static const int32_t count_of[REQUESTS] = {3, 1, 0, 8};

static moerun__prompt_options settings(void) {
  return (moerun__prompt_options){.text_bos = -1,
                                  .tokens_bos = -1,
                                  .vocab_size = VOCABULARY,
                                  .max_positions = 64,
                                  .kv_tokens = 64,
                                  .max_new_tokens = MOST,
                                  .sampling.top_p = 1};
}

static int set_up(void **state) {
  (void)state;
  const moerun__prompt_options options = settings();
  const moerun__results_options none = {.path = NULL};
  if (!temp_dir_create(&dir)) return -1;
  (void)temp_path(path, &dir, "prompts");
  scratch_write(path, "{\"tokens\":[1]}\n{\"tokens\":[2,3]}\n"
                      "{\"tokens\":[4]}\n{\"tokens\":[5,6,7]}\n");
  if (moerun__prompts_open(&prompts, path, &options) != MOERUN_OK ||
      moerun__results_open(&results, prompts, NULL, &none) != MOERUN_OK) {
    return -1;
  }
  (void)temp_path(path, &dir, "out");
  (void)temp_path(beside, &dir, "out.unfinished");
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  moerun__results_destroy(results);
  moerun__prompts_destroy(prompts);
  temp_dir_remove(&dir);
  return 0;
}

static int clear(void **state) {
  (void)state;
  (void)unlink(beside);
  warnings_begin();
  return 0;
}

static moerun_status try_open(moerun__unfinished **out, int resume,
                              int overwrite) {
  const moerun__unfinished_options options = {.path = path,
                                              .resume = resume,
                                              .overwrite = overwrite,
                                              .vocab_size = VOCABULARY};
  return moerun__unfinished_open(out, prompts, results, &options);
}

static moerun__unfinished *open_as(int resume, int overwrite) {
  moerun__unfinished *u = NULL;
  assert_int_equal(try_open(&u, resume, overwrite), MOERUN_OK);
  assert_non_null(u);
  return u;
}

static void put(moerun__unfinished *u, int64_t index) {
  const moerun__completion so_far = {.index = index,
                                     .finish = MOERUN_FINISH_NOT,
                                     .num_tokens = count_of[index],
                                     .token = generated[index]};
  assert_int_equal(moerun__unfinished_put(u, &so_far), MOERUN_OK);
}

static void expect_counts(const moerun__unfinished *u, int64_t requests,
                          int64_t tokens) {
  const moerun__unfinished_counts counts = moerun__unfinished_count(u);
  assert_int_equal(counts.requests, requests);
  assert_int_equal(counts.tokens, tokens);
}

/* How many requests go on; each does with its tokens or begins anew. */
static int32_t count_going_on(const moerun__unfinished *u) {
  moerun__prompt prompt = {0};
  int32_t going = 0;
  for (int64_t i = 0; i < REQUESTS; i++) {
    assert_int_equal(moerun__prompts_read(prompts, &prompt, i), MOERUN_OK);
    const int32_t length = prompt.request.num_prompt;
    assert_int_equal(moerun__unfinished_continue(u, &prompt), MOERUN_OK);
    assert_int_equal(prompt.request.num_prompt, length);
    const int32_t kept = prompt.request.num_kept;
    if (kept == 0) continue;
    assert_int_equal(kept, count_of[i]);
    assert_memory_equal(prompt.request.prompt + length, generated[i],
                        (size_t)kept * sizeof(int32_t));
    going++;
  }
  moerun__prompt_clear(&prompt);
  return going;
}

/* The file with all that is to be kept. */
static void save_all(void) {
  moerun__unfinished *u = open_as(1, 0);
  assert_int_equal(moerun__unfinished_begin(u, &weights), MOERUN_OK);
  for (int64_t i = 0; i < REQUESTS; i++) {
    if (count_of[i] > 0) put(u, i);
  }
  moerun__unfinished_save(u);
  expect_counts(u, 3, 12);
  moerun__unfinished_destroy(u);
}

static void read_file(char **text, size_t *bytes) {
  assert_int_equal(moerun__file_read(text, bytes, beside, 1U << 16), MOERUN_OK);
}

static void expect_content(const char *wanted) {
  char *text = NULL;
  size_t bytes = 0;
  read_file(&text, &bytes);
  assert_string_equal(text, wanted);
  moerun__free(text);
}

/* ---- A run after another ------------------------------------------------- */

static void what_was_kept_is_there_again(void **state) {
  (void)state;
  char *text = NULL;
  size_t bytes = 0;
  save_all();
  moerun__unfinished *u = open_as(1, 0);
  assert_int_equal(moerun__unfinished_begin(u, &weights), MOERUN_OK);
  assert_int_equal(count_going_on(u), 3);
  const moerun__unfinished_counts counts = moerun__unfinished_count(u);
  assert_int_equal(counts.requests_before, 3);
  assert_int_equal(counts.tokens_before, 12);
  read_file(&text, &bytes);
  assert_memory_equal(text,
                      "{\"format\":\"moerun-unfinished\",\"version\":1}\n"
                      "{\"index\":0,\"tokens\":[3,14,15],\"digest\":\"",
                      70);
  moerun__free(text);
  /* One is finished, one goes on, one has begun; the fourth waits. */
  const int32_t more[] = {9, 10};
  const moerun__completion so_far = {
      .index = 1, .num_tokens = 2, .token = more};
  moerun__unfinished_drop(u, 0);
  moerun__unfinished_drop(u, 2);
  assert_int_equal(moerun__unfinished_put(u, &so_far), MOERUN_OK);
  moerun__unfinished_end(u, 1);
  expect_counts(u, 2, 10);
  moerun__unfinished_destroy(u);
  u = open_as(1, 0);
  expect_counts(u, 2, 10);
  assert_int_equal(moerun__unfinished_begin(u, &weights), MOERUN_OK);
  moerun__unfinished_end(u, 0);
  expect_counts(u, 0, 0);
  moerun__unfinished_destroy(u);
  assert_int_equal(access(beside, F_OK), -1);
  assert_int_equal(temporaries_of(beside), 0);
  assert_string_equal(warnings_text, "");
}

/* A stop without anything to keep leaves no file. */
static void nothing_needs_no_file(void **state) {
  (void)state;
  save_all();
  moerun__unfinished *u = open_as(1, 0);
  assert_int_equal(moerun__unfinished_begin(u, &weights), MOERUN_OK);
  for (int64_t i = 0; i < REQUESTS; i++) {
    moerun__unfinished_drop(u, i);
  }
  moerun__unfinished_end(u, 1);
  expect_counts(u, 0, 0);
  moerun__unfinished_destroy(u);
  assert_int_equal(access(beside, F_OK), -1);
}

static void expect_left(const moerun__results *done,
                        const moerun__unfinished *kept, int64_t requests,
                        int64_t prompt_tokens, int64_t new_tokens) {
  moerun__work_left left;
  assert_int_equal(moerun__work_left_of(&left, prompts, done, kept, 16, 1),
                   MOERUN_OK);
  assert_int_equal(left.work.requests, requests);
  assert_int_equal(left.work.prompt_tokens, prompt_tokens);
  assert_int_equal(left.work.new_tokens, new_tokens);
}

/* Prompts have 1, 2, 1 and 3 tokens; what is kept is fed with them. */
static void what_is_left_is_counted_in_tokens(void **state) {
  (void)state;
  expect_left(results, NULL, 4, 7, 4 * MOST);
  save_all();
  moerun__unfinished *u = open_as(1, 0);
  expect_left(results, u, 4, 7 + 12, 4 * MOST - 12);
  moerun__unfinished_destroy(u);
}

/* As many as it may generate are finished: the line is of another run. */
static void a_finished_request_is_not_kept(void **state) {
  (void)state;
  static const int32_t all[MOST] = {1};
  const moerun__completion so_far = {
      .index = 1, .num_tokens = MOST, .token = all};
  moerun__unfinished *u = open_as(1, 0);
  assert_int_equal(moerun__unfinished_begin(u, &weights), MOERUN_OK);
  assert_int_equal(moerun__unfinished_put(u, &so_far), MOERUN_OK);
  moerun__unfinished_save(u);
  moerun__unfinished_destroy(u);
  assert_int_equal(try_open(&u, 1, 0), MOERUN_ERR_FORMAT);
  expect_words("out.unfinished:2: tokens: expected 1 to 8, found 9");
}

static void requests_that_are_finished_stay_so(void **state) {
  (void)state;
  const moerun__results_options none = {.path = NULL};
  const moerun__completion done = {.index = 3,
                                   .finish = MOERUN_FINISH_LENGTH,
                                   .num_tokens = 8,
                                   .token = generated[3]};
  moerun__results *more = NULL;
  moerun__unfinished *u = NULL;
  const moerun__unfinished_options options = {
      .path = path, .resume = 1, .vocab_size = VOCABULARY};
  save_all();
  assert_int_equal(moerun__results_open(&more, prompts, NULL, &none),
                   MOERUN_OK);
  assert_int_equal(moerun__results_begin(more, &weights), MOERUN_OK);
  assert_int_equal(moerun__results_append(more, &done), MOERUN_OK);
  assert_int_equal(moerun__unfinished_open(&u, prompts, more, &options),
                   MOERUN_OK);
  expect_counts(u, 2, 4);
  assert_int_equal(count_going_on(u), 2);
  expect_left(more, u, 3, 4 + 4, 3 * MOST - 4);
  moerun__unfinished_destroy(u);
  moerun__results_destroy(more);
}

/* ---- Damage -------------------------------------------------------------- */

static int32_t going_on_with(const char *text, size_t bytes) {
  warnings_begin();
  assert_int_equal(moerun__file_write(beside, text, bytes), MOERUN_OK);
  moerun__unfinished *u = open_as(1, 0);
  const int32_t going = count_going_on(u);
  moerun__unfinished_destroy(u);
  return going;
}

/* Cut, or with bytes of 0 from there on, as a crash of the node leaves it. */
static void a_cut_file_gives_no_other_tokens(void **state) {
  (void)state;
  static const char words[] = ": 1 of its lines are damaged: the requests ";
  static char blank[1 << 16];
  char *text = NULL;
  size_t bytes = 0;
  int32_t most = 0;
  save_all();
  read_file(&text, &bytes);
  for (size_t cut = 0; cut < bytes; cut++) {
    const int32_t going = going_on_with(text, cut);
    assert_in_range(going, most, 3);
    most = going;
    const int is_whole = cut == 0 || text[cut - 1] == '\n';
    assert_true(is_whole ? !warnings_text[0] : !!strstr(warnings_text, words));
    assert_in_range(going_on_with(blank, bytes), 0, going);
    assert_non_null(strstr(warnings_text, words));
    blank[cut] = text[cut];
  }
  assert_int_equal(going_on_with(text, bytes), 3);
  moerun__free(text);
}

/* Of the first line no byte can change unseen: the file could be another's. */
static void a_changed_byte_gives_no_other_tokens(void **state) {
  (void)state;
  char *text = NULL;
  size_t bytes = 0;
  save_all();
  read_file(&text, &bytes);
  const size_t first = (size_t)(strchr(text, '\n') - text) + 1;
  for (size_t at = 0; at < bytes; at++) {
    moerun__unfinished *u = NULL;
    const char before = text[at];
    text[at] = (char)(before ^ 1 << at % 7);
    assert_int_equal(moerun__file_write(beside, text, bytes), MOERUN_OK);
    const moerun_status status = try_open(&u, 1, 0);
    if (at < first) {
      assert_int_equal(status, MOERUN_ERR_FORMAT);
      expect_words("out.unfinished: cannot resume: expected unfinished ");
    } else {
      assert_int_equal(status, MOERUN_OK);
      assert_in_range(count_going_on(u), 1, 2);
    }
    moerun__unfinished_destroy(u);
    text[at] = before;
  }
  moerun__free(text);
}

/* ---- Others' ------------------------------------------------------------- */

static void expect_refusal(const char *content, const char *words) {
  moerun__unfinished *u = NULL;
  const size_t live = moerun__alloc_live();
  scratch_write(beside, content);
  assert_int_equal(try_open(&u, 1, 0), MOERUN_ERR_FORMAT);
  assert_null(u);
  expect_words(words);
  expect_words(beside);
  assert_int_equal(moerun__alloc_live(), live);
  expect_content(content);
}

static void anothers_file_is_left_alone(void **state) {
  (void)state;
  moerun__unfinished *u = NULL;
  expect_refusal("my notes\n",
                 "cannot resume: expected unfinished requests of");
  expect_refusal("\n", "cannot resume: expected unfinished requests of");
  expect_refusal("{\"format\":\"moerun-unfinished\",\"version\":2}\n",
                 "move this file away, or --overwrite replaces it");
  expect_refusal("{\"format\":\"moerun-unfinished\",\"version\":1}x\n",
                 "move this file away, or --overwrite replaces it");
  /* A part of the first line is this program's only where the file ends. */
  expect_refusal("{\n", "move this file away, or --overwrite replaces it");
  expect_refusal("{\n  \"my\": \"settings\"\n}\n",
                 "move this file away, or --overwrite replaces it");
  expect_refusal("{\"format\":\n\"mine\"}\n",
                 "move this file away, or --overwrite replaces it");
  assert_int_equal(try_open(&u, 0, 0), MOERUN_ERR_INVALID);
  expect_words(
      "exists already: --resume goes on with it, --overwrite replaces");
  u = open_as(0, 1);
  assert_int_equal(access(beside, F_OK), 0); /* looking changes nothing */
  assert_int_equal(moerun__unfinished_begin(u, &weights), MOERUN_OK);
  assert_int_equal(access(beside, F_OK), -1);
  moerun__unfinished_destroy(u);
}

static void a_pipe_without_a_writer_is_refused(void **state) {
  (void)state;
  moerun__unfinished *u = NULL;
  (void)unlink(beside);
  assert_int_equal(mkfifo(beside, 0600), 0);
  (void)alarm(60); /* in place of a wait without an end */
  assert_int_equal(try_open(&u, 1, 0), MOERUN_ERR_IO);
  (void)alarm(0);
  expect_words("out.unfinished: expected a regular file");
  assert_int_equal(unlink(beside), 0);
}

/* While the run goes on, too: what has the name by then is neither replaced nor
 * removed; what is gone is written again. */
static void a_name_that_was_taken_is_left_alone(void **state) {
  (void)state;
  char moved[TEMP_PATH];
  for (int is_begun = 0; is_begun < 2; is_begun++) {
    if (is_begun) save_all();
    moerun__unfinished *u = open_as(1, 0);
    assert_int_equal(moerun__unfinished_begin(u, &weights), MOERUN_OK);
    if (is_begun) {
      assert_int_equal(rename(beside, temp_path(moved, &dir, "moved")), 0);
    }
    scratch_write(beside, "my notes");
    put(u, 0);
    moerun__unfinished_save(u);
    assert_non_null(strstr(warnings_text, "out.unfinished: is another file "
                                          "since the run began, which is left "
                                          "alone; what unfinished requests "));
    expect_content("my notes");
    assert_int_equal(temporaries_of(beside), 0);
    moerun__unfinished_end(u, 0);
    expect_content("my notes");
    assert_int_equal(unlink(beside), 0);
    moerun__unfinished_destroy(u);
    u = open_as(1, 0);
    assert_int_equal(moerun__unfinished_begin(u, &weights), MOERUN_OK);
    put(u, 0);
    moerun__unfinished_save(u);
    assert_int_equal(unlink(beside), 0);
    put(u, 1);
    moerun__unfinished_end(u, 1);
    expect_counts(u, 2, 4);
    moerun__unfinished_destroy(u);
    assert_int_equal(unlink(beside), 0);
    warnings_begin();
  }
}

/* The same file beside other requests, and before other weights. */
static void other_requests_and_weights_are_refused(void **state) {
  (void)state;
  moerun__prompt_options options = settings();
  const moerun__unfinished_options resume = {
      .path = path, .resume = 1, .vocab_size = VOCABULARY};
  const uint64_t others = weights ^ 1U;
  char name[TEMP_PATH];
  moerun__prompts *sampled = NULL;
  moerun__unfinished *u = NULL;
  options.sampling.temperature = 1;
  save_all();
  assert_int_equal(moerun__prompts_open(
                       &sampled, temp_path(name, &dir, "prompts"), &options),
                   MOERUN_OK);
  assert_int_equal(moerun__unfinished_open(&u, sampled, results, &resume),
                   MOERUN_ERR_FORMAT);
  expect_words("out.unfinished:2: cannot resume: what this line keeps was made "
               "by another request than number 0 of this run");
  moerun__prompts_destroy(sampled);
  u = open_as(1, 0);
  assert_int_equal(moerun__unfinished_begin(u, &others), MOERUN_ERR_FORMAT);
  expect_words("out.unfinished: cannot resume: what this file keeps was made "
               "with other weights than the model has now; --overwrite starts");
  moerun__unfinished_destroy(u);
  u = open_as(1, 0);
  assert_int_equal(count_going_on(u), 3);
  moerun__unfinished_destroy(u);
}

/* ---- Where it is --------------------------------------------------------- */

static void pipes_and_devices_keep_nothing(void **state) {
  (void)state;
  moerun__unfinished *u = NULL;
  moerun__prompt prompt = {0};
  const moerun__unfinished_options options = {.path = "/dev/null"};
  assert_int_equal(moerun__unfinished_open(&u, prompts, results, &options),
                   MOERUN_OK);
  assert_null(u);
  assert_int_equal(moerun__unfinished_begin(u, &weights), MOERUN_OK);
  assert_int_equal(moerun__unfinished_continue(u, &prompt), MOERUN_OK);
  moerun__unfinished_drop(u, 0);
  moerun__unfinished_end(u, 1);
  expect_counts(u, 0, 0);
}

/* It stands beside the file that a link leads to. */
static void links_are_followed(void **state) {
  (void)state;
  char name[TEMP_PATH];
  moerun__unfinished *u = NULL;
  const moerun__unfinished_options options = {.path =
                                                  temp_path(name, &dir, "link"),
                                              .resume = 1,
                                              .vocab_size = VOCABULARY};
  save_all();
  assert_int_equal(symlink("out", name), 0);
  assert_int_equal(moerun__unfinished_open(&u, prompts, results, &options),
                   MOERUN_OK);
  assert_int_equal(count_going_on(u), 3);
  moerun__unfinished_destroy(u);
  assert_int_equal(unlink(name), 0);
}

/* The run goes on, and what was there stays. */
static void a_full_disk_is_a_warning(void **state) {
  (void)state;
  struct rlimit before;
  save_all();
  moerun__unfinished *u = open_as(1, 0);
  assert_int_equal(moerun__unfinished_begin(u, &weights), MOERUN_OK);
  moerun__unfinished_drop(u, 1);
  (void)signal(SIGXFSZ, SIG_IGN);
  assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
  const struct rlimit small = {.rlim_cur = 100, .rlim_max = before.rlim_max};
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
  moerun__unfinished_save(u);
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
  assert_non_null(strstr(warnings_text, "out.unfinished: cannot be written: "));
  assert_non_null(strstr(warnings_text,
                         "; what unfinished requests have generated is not "
                         "kept\n"));
  expect_counts(u, 3, 12);
  assert_int_equal(temporaries_of(beside), 0);
  moerun__unfinished_end(u, 1); /* tries again */
  expect_counts(u, 2, 11);
  moerun__unfinished_destroy(u);
}

static void it_is_due_by_its_interval(void **state) {
  (void)state;
  static const double interval[] = {0, 1e9, 1e-9};
  for (int i = 0; i < 3; i++) {
    moerun__unfinished *u = NULL;
    const moerun__unfinished_options options = {
        .path = path, .resume = 1, .interval_s = interval[i]};
    assert_int_equal(moerun__unfinished_open(&u, prompts, results, &options),
                     MOERUN_OK);
    moerun__pause(1);
    assert_int_equal(moerun__unfinished_ask(u), i == 2);
    moerun__unfinished_destroy(u);
  }
}

/* A saving that took a fifth of a second is paid for by ten. */
static void savings_take_a_small_part_of_the_time(void **state) {
  (void)state;
  moerun__unfinished *u = NULL;
  const moerun__unfinished_options options = {
      .path = path, .resume = 1, .interval_s = 1e-9};
  assert_int_equal(moerun__unfinished_open(&u, prompts, results, &options),
                   MOERUN_OK);
  assert_int_equal(moerun__unfinished_begin(u, &weights), MOERUN_OK);
  moerun__pause(1);
  assert_true(moerun__unfinished_ask(u));
  moerun__pause(200000);
  moerun__unfinished_save(u);
  moerun__pause(1);
  assert_false(moerun__unfinished_ask(u));
  moerun__unfinished_destroy(u);
}

/* A stop writes what is new, and leaves alone what is there already. */
static void nothing_new_is_not_written(void **state) {
  (void)state;
  struct stat before;
  struct stat after;
  save_all();
  assert_int_equal(stat(beside, &before), 0);
  moerun__unfinished *u = open_as(1, 0);
  assert_int_equal(moerun__unfinished_begin(u, &weights), MOERUN_OK);
  moerun__unfinished_end(u, 1);
  moerun__unfinished_destroy(u);
  assert_int_equal(stat(beside, &after), 0);
  assert_true(before.st_ino == after.st_ino);
}

/* What a request has generated that is wrong, as its line has changed. */
static void requests_that_are_wrong_now_keep_nothing(void **state) {
  (void)state;
  moerun__prompt_options options = settings();
  const moerun__unfinished_options resume = {
      .path = path, .resume = 1, .vocab_size = VOCABULARY};
  moerun__prompts *changed = NULL;
  moerun__unfinished *u = NULL;
  char name[TEMP_PATH];
  options.on_error = MOERUN_ON_ERROR_LINE;
  save_all();
  scratch_write(temp_path(name, &dir, "changed"),
                "{\"tokens\":[1]}\n{\"tokens\":[2,-3]}\n"
                "{\"tokens\":[4]}\n{\"tokens\":[5,6,7]}\n");
  assert_int_equal(moerun__prompts_open(&changed, name, &options), MOERUN_OK);
  assert_int_equal(moerun__prompts_num_bad(changed), 1);
  assert_int_equal(moerun__unfinished_open(&u, changed, results, &resume),
                   MOERUN_OK);
  expect_counts(u, 2, 11);
  moerun__unfinished_destroy(u);
  moerun__prompts_destroy(changed);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup(name, clear)
  const struct CMUnitTest tests[] = {
      TEST(what_was_kept_is_there_again),
      TEST(nothing_needs_no_file),
      TEST(what_is_left_is_counted_in_tokens),
      TEST(a_finished_request_is_not_kept),
      TEST(requests_that_are_finished_stay_so),
      TEST(a_cut_file_gives_no_other_tokens),
      TEST(a_changed_byte_gives_no_other_tokens),
      TEST(anothers_file_is_left_alone),
      TEST(a_pipe_without_a_writer_is_refused),
      TEST(a_name_that_was_taken_is_left_alone),
      TEST(other_requests_and_weights_are_refused),
      TEST(pipes_and_devices_keep_nothing),
      TEST(links_are_followed),
      TEST(a_full_disk_is_a_warning),
      TEST(it_is_due_by_its_interval),
      TEST(savings_take_a_small_part_of_the_time),
      TEST(nothing_new_is_not_written),
      TEST(requests_that_are_wrong_now_keep_nothing),
  };
#undef TEST
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
