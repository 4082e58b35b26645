/* The table of what is read and written: that it has every option that names a
 * file, and that two names of one file are found out. */
#include "launch/options/options.h"
#include "launch/options/paths.h"
#include "runtime/base/config_table.h"
#include "runtime/base/memory.h"
#include "support/scratch.h"
#include "support/temp_dir.h"

#include <fcntl.h>
#include <sys/stat.h>

enum { MOST_WORDS = 12 };

static temp_dir dir;
static char before[TEMP_PATH];

static void make(const char *name) {
  assert_int_equal(moerun__file_write(name, "x", 1), MOERUN_OK);
}

/* Names in the tests are of this folder. */
static int set_up(void **state) {
  (void)state;
  if (getcwd(before, sizeof before) == NULL || !temp_dir_create(&dir) ||
      chdir(dir.path) != 0 || mkdir("m", 0700) != 0 || mkdir("d", 0700) != 0 ||
      symlink("a.jsonl", "link") != 0 || symlink("new", "dangling") != 0 ||
      symlink("m", "model") != 0 ||
      symlink("a.jsonl.unfinished", "kept") != 0 ||
      symlink("../blob", "m/x.safetensors") != 0) {
    return -1;
  }
  make("a.jsonl");
  make("blob");
  make("m/config.json");
  make("m/notes");
  make("t.npy");
  make("a.jsonl.unfinished");
  scratch_write("told", "{\"format\": \"moerun-metrics\", \"version\": 1}");
  return link("a.jsonl", "hard") == 0 ? 0 : -1;
}

static int tear_down(void **state) {
  (void)state;
  if (chdir(before) != 0) return -1;
  temp_dir_remove(&dir);
  return 0;
}

/* `line` is a subcommand and its options. */
static moerun_status check(const char *line, moerun__phase *phase) {
  char words[512];
  const char *word[MOST_WORDS] = {NULL};
  static const char *const environment[] = {NULL};
  moerun__config *config = NULL;
  int count = 0;
  (void)snprintf(words, sizeof words, "%s", line);
  char *at = words;
  while (at != NULL) {
    assert_true(count < MOST_WORDS);
    word[count++] = at;
    at = strchr(at, ' ');
    if (at != NULL) *at++ = '\0';
  }
  assert_int_equal(moerun__config_load(&config, &moerun__options, word[0],
                                       count - 1, word + 1, environment),
                   MOERUN_OK);
  moerun__invocation invocation = {.subcommand = word[0], .config = config};
  const moerun_status status = moerun__paths_check(&invocation);
  *phase = invocation.phase;
  moerun__config_destroy(config);
  return status;
}

static void every_option_that_names_a_file_is_known(void **state) {
  (void)state;
  static const char *const subcommands[] = {"run", "profile", "info", "synth",
                                            "place"};
  static const char *const names[] = {"file", "folder", "path", "target",
                                      "list"};
  moerun__config *config = NULL;
  const moerun__config_row *row = NULL;
  for (size_t s = 0; s < 5; s++) {
    assert_int_equal(
        moerun__config_create(&config, &moerun__options, subcommands[s]),
        MOERUN_OK);
    for (int i = 0; (row = moerun__config_row_at(&moerun__options, i)) != NULL;
         i++) {
      int is_file = 0;
      if ((row->used_by & config->subcommand_bit) == 0) continue;
      for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
        is_file = is_file || strcmp(row->unit, names[n]) == 0;
      }
      if (moerun__paths_know(subcommands[s], row->key) != is_file) {
        fail_msg("--%s of %s", row->key, subcommands[s]);
      }
    }
    moerun__config_destroy(config);
  }
}

/* Both options, in the order of the message, and a part of the line. */
typedef struct refusal {
  const char *line;
  const char *words;
} refusal;

static void one_file_by_two_names_is_refused(void **state) {
  (void)state;
  static const refusal cases[] = {
      {"run --model m --prompts a.jsonl --output a.jsonl --overwrite",
       "--output (a.jsonl) and --prompts (a.jsonl) are the same file"},
      {"run --model m --prompts a.jsonl --output link --overwrite",
       "--output (link) and --prompts (a.jsonl) are the same file"},
      {"run --model m --score hard --output ./d/../a.jsonl --resume",
       "--output (./d/../a.jsonl) and --score (hard) are the same file"},
      {"run --model m --tokens t.npy --metrics t.npy --overwrite",
       "--metrics (t.npy) and --tokens (t.npy)"},
      {"run --model m --prompts a.jsonl --output new --metrics dangling",
       "--metrics (dangling) and --output (new)"},
      {"run --model m --prompts a.jsonl --output d/../n --metrics ./n",
       "--metrics (./n) and --output (d/../n)"},
      {"run --model m --prompts p --output no/n --metrics no/n",
       "--metrics (no/n) and --output (no/n)"},
      {"run --model m --prompts p --placement a.jsonl --metrics link",
       "--metrics (link) and --placement (a.jsonl)"},
      {"run --model m --prompts p --output m/config.json --overwrite",
       "--output (m/config.json) and a file of --model (m/config.json)"},
      {"run --model model --prompts p --output m/config.json --overwrite",
       "--output (m/config.json) and a file of --model (model/config.json)"},
      {"run --model m --prompts p --metrics blob --overwrite",
       "--metrics (blob) and a file of --model (m/x.safetensors)"},
      {"run --model m --prompts p --output model/tokenizer.json",
       "--output: model/tokenizer.json would be a file of --model (m)"},
      {"run --model m --prompts p --output n --metrics n.unfinished",
       "--metrics (n.unfinished) and the .unfinished beside --output"},
      {"run --model m --prompts kept --output link --overwrite",
       "the .unfinished beside --output (a.jsonl.unfinished) and --prompts"},
      {"profile --model m --prompts p --trace n.npy --output n.json",
       "the .json beside --trace (n.json) and --output (n.json)"},
      {"profile --model m --prompts p --trace n.npy --metrics n.json",
       "the .json beside --trace (n.json) and --metrics (n.json)"},
      {"profile --model m --prompts p --trace n.npy --output n.npy",
       "--trace (n.npy) and --output (n.npy)"},
      {"place --trace t.npy --ranks 2 --output t.npy --overwrite",
       "--output (t.npy) and --trace (t.npy)"},
      {"place --trace t.npy --ranks 2 --json t.json",
       "--json (t.json) and the .json beside --trace (t.json)"},
      {"place --trace t.npy --ranks 2 --json t.seqs.tsv",
       "--json (t.seqs.tsv) and the .seqs.tsv beside --trace (t.seqs.tsv)"},
      {"place --trace t.ids.npy --ranks 2 --json t.seqs.tsv",
       "--json (t.seqs.tsv) and the .seqs.tsv beside --trace (t.seqs.tsv)"},
      {"place --describe t.npy --json t.npy --overwrite",
       "--json (t.npy) and --describe (t.npy)"},
      {"place --trace t.npy --ranks 2 --export eplb:t.json",
       "--export (t.json) and the .json beside --trace (t.json)"},
      {"place --trace t.npy --ranks 2 --convert c.npy --json c.json",
       "--json (c.json) and the .json beside --convert (c.json)"},
      {"place --trace t.npy --convert t.npy --overwrite",
       "--convert (t.npy) and --trace (t.npy)"},
      {"place --loads hard --ranks 2 --json link --overwrite",
       "--json (link) and --loads (hard)"},
      {"place --trace t.npy --ranks 2 --speeds a.jsonl --json a.jsonl",
       "--json (a.jsonl) and --speeds (a.jsonl)"},
      {"place --trace t.npy --ranks 2 --placement a.jsonl --output a.jsonl",
       "--output (a.jsonl) and --placement (a.jsonl)"},
      {"place --trace t.npy --ranks 2 --export exflow:n --output ./n",
       "--output (./n) and --export (n)"},
      {"place --trace t.npy --ranks 2 --model m --json m/config.json",
       "--json (m/config.json) and a file of --model (m/config.json)"},
  };
  const size_t live = moerun__alloc_live();
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    moerun__phase phase = MOERUN_PHASE_FILES;
    print_message("%s\n", cases[i].line);
    assert_int_equal(check(cases[i].line, &phase), MOERUN_ERR_INVALID);
    assert_int_equal(phase, MOERUN_PHASE_USAGE);
    expect_words(cases[i].words);
    assert_int_equal(moerun__alloc_live(), live);
  }
}

/* Stdout by a number of its own is another stream to the same file. */
static void what_stdout_writes_is_refused(void **state) {
  (void)state;
  char line[128];
  moerun__phase phase = MOERUN_PHASE_FILES;
  (void)fflush(stdout);
  const int kept = dup(STDOUT_FILENO);
  const int file = open("a.jsonl", O_WRONLY);
  assert_true(kept >= 0 && file >= 0);
  assert_int_equal(dup2(file, STDOUT_FILENO), STDOUT_FILENO);
  (void)snprintf(line, sizeof line,
                 "run --model m --prompts p --output /dev/fd/%d", file);
  const moerun_status by_number = check(line, &phase);
  const moerun_status by_name =
      check("run --model m --prompts p --output /dev/fd/1", &phase);
  assert_int_equal(dup2(kept, STDOUT_FILENO), STDOUT_FILENO);
  (void)close(kept);
  (void)close(file);
  assert_int_equal(by_name, MOERUN_OK);
  assert_int_equal(by_number, MOERUN_ERR_INVALID);
  expect_words("and stdout are the same file");
}

/* What a shell has opened as stdin is the file of "-". */
static void what_stdin_reads_is_refused(void **state) {
  (void)state;
  moerun__phase phase = MOERUN_PHASE_FILES;
  const int kept = dup(STDIN_FILENO);
  const int file = open("a.jsonl", O_RDONLY);
  assert_true(kept >= 0 && file >= 0);
  assert_int_equal(dup2(file, STDIN_FILENO), STDIN_FILENO);
  const moerun_status same =
      check("run --model m --prompts - --output link --overwrite", &phase);
  expect_words("--output (link) and --prompts (-) are the same file");
  const moerun_status other =
      check("run --model m --prompts - --output n", &phase);
  assert_int_equal(dup2(kept, STDIN_FILENO), STDIN_FILENO);
  (void)close(kept);
  (void)close(file);
  assert_int_equal(same, MOERUN_ERR_INVALID);
  assert_int_equal(other, MOERUN_OK);
}

static void different_files_pass(void **state) {
  (void)state;
  static const char *const lines[] = {
      "run --model m --prompts a.jsonl --output d/a.jsonl",
      "run --model m --prompts a.jsonl --tokens a.jsonl", /* refused later */
      "run --model m --prompts a.jsonl --output m/results.jsonl",
      "run --model m --prompts a.jsonl --output m/notes --overwrite",
      "run --model m --prompts p --output /dev/null --metrics /dev/null",
      "run --model m --prompts p --output /dev/stdout",
      "run --model m --prompts p --output n --metrics told --resume",
      "profile --model m --prompts p --trace n.npy --metrics t.json",
      "place --trace t.npy --speeds 1,2 --ranks 2 --output 1,2",
      "place --trace t.jsonl --ranks 2 --json t.json",
      "place --trace t.npy --ranks 2 --convert c.npy --json d/c.json",
      "synth --output n/",
      "synth --output m --overwrite", /* synth.c looks into it */
      "info --model m --placement a.jsonl",
  };
  for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
    moerun__phase phase = MOERUN_PHASE_FILES;
    print_message("%s\n", lines[i]);
    const moerun_status status = check(lines[i], &phase);
    if (status != MOERUN_OK) fail_msg("%s", moerun_last_error());
    assert_int_equal(phase, MOERUN_PHASE_USAGE);
  }
}

static void what_exists_needs_overwrite(void **state) {
  (void)state;
  static const char *const lines[] = {
      "run --model m --prompts p --metrics a.jsonl",
      "run --model m --prompts p --metrics link",
      "run --model m --prompts p --metrics told",
      /* --resume replaces metrics and nothing else */
      "run --model m --prompts p --output n --metrics a.jsonl --resume",
      "run --model m --prompts p --output n --metrics link --resume",
      "run --model m --prompts p --output n --metrics begun --resume",
      "profile --model m --prompts p --trace t.npy",
      "profile --model m --prompts p --trace a.npy", /* a.json is there */
      "place --trace n.npy --ranks 2 --output a.jsonl",
      "place --trace n.npy --ranks 2 --json a.jsonl",
      "place --trace n.npy --ranks 2 --export eplb:a.jsonl",
      "place --trace n.npy --ranks 2 --convert t.npy",
      "place --trace n.npy --ranks 2 --convert a.npy",
  };
  make("a.json");
  scratch_write("begun", "{\"format\": \"moerun-\"}");
  for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
    char with[512];
    moerun__phase phase = MOERUN_PHASE_USAGE;
    print_message("%s\n", lines[i]);
    assert_int_equal(check(lines[i], &phase), MOERUN_ERR_INVALID);
    assert_int_equal(phase, MOERUN_PHASE_FILES);
    expect_words("exists already: --overwrite replaces it");
    (void)snprintf(with, sizeof with, "%s --overwrite", lines[i]);
    assert_int_equal(check(with, &phase), MOERUN_OK);
  }
}

static void what_cannot_be_written_is_named(void **state) {
  (void)state;
  static const refusal cases[] = {
      {"run --model m --prompts p --metrics no/n", "no/n: cannot be created"},
      {"run --model m --prompts p --output no/n", "no/n: cannot be created"},
      {"place --trace n.npy --ranks 2 --json d --overwrite",
       "d: cannot be created: it is a directory"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    moerun__phase phase = MOERUN_PHASE_USAGE;
    assert_int_equal(check(cases[i].line, &phase), MOERUN_ERR_OUTPUT);
    assert_int_equal(phase, MOERUN_PHASE_FILES);
    expect_words(cases[i].words);
  }
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_option_that_names_a_file_is_known),
      TEST(one_file_by_two_names_is_refused),
      TEST(what_stdout_writes_is_refused),
      TEST(what_stdin_reads_is_refused),
      TEST(different_files_pass),
      TEST(what_exists_needs_overwrite),
      TEST(what_cannot_be_written_is_named),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
