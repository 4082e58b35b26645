/* Configuration: precedence, every refusal with its message, the packed form,
 * and the table itself. */
#include "launch/options/options.h"
#include "launch/options/shapes.h"
#include "runtime/base/config.h"
#include "runtime/base/config_table.h"
#include "runtime/base/file.h"
#include "runtime/base/memory.h"
#include "support/cmocka.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

static const char *const no_variables[] = {NULL};

static char file_path[] = "/tmp/moerun_config_XXXXXX";

static int make_file(void **state) {
  (void)state;
  const int file = mkstemp(file_path);
  if (file >= 0) (void)close(file);
  return file >= 0 ? 0 : -1;
}

static int remove_file(void **state) {
  (void)state;
  return unlink(file_path);
}

static void precedence_is_flag_environment_file_default(void **state) {
  (void)state;
  static const char text[] = "# all four\n"
                             "  model = /from/file # and a comment\r\n"
                             "\n"
                             "max-tokens=11\n"
                             "chunks = 2\n"
                             "prompts = a#b c = d\n"
                             "ranks = 4"; /* not of run: fine in a file */
  /* An empty variable is none. */
  const char *const environment[] = {
      "HOME=/",         "MOERUN_CHUNKS=3",        "MOERUN_MAX_TOKENS=12",
      "MOERUN_TRACE=t", "MOERUN_MAX_SEQUENCES=",  "MOERUN_MODEL=",
      "MOERUN_WIRE=",   "MOERUN_CAPACITY_SCOPE=", NULL};
  const char *const arguments[] = {
      "--config",      file_path, "--resume", "--chunks=5", "--no-overwrite",
      "--temperature", "0.5",     "--chunks", "5"};
  moerun__config *config = NULL;
  assert_int_equal(moerun__file_write(file_path, text, sizeof text - 1),
                   MOERUN_OK);
  assert_int_equal(moerun__config_load(&config, &moerun__options, "run",
                                       COUNT(arguments), arguments,
                                       environment),
                   MOERUN_OK);
  assert_string_equal(moerun__config_text(config, "model"), "/from/file");
  assert_string_equal(moerun__config_text(config, "prompts"), "a#b c = d");
  assert_int_equal(moerun__config_int(config, "max_tokens"), 12);
  assert_int_equal(moerun__config_int(config, "chunks"), 5);
  assert_int_equal(moerun__config_int(config, "max_sequences"), 16);
  assert_true(moerun__config_double(config, "temperature") == 0.5);
  assert_int_equal(moerun__config_bool(config, "resume"), 1);
  assert_int_equal(moerun__config_bool(config, "overwrite"), 0);
  assert_string_equal(moerun__config_text(config, "wire"), "fp32");
  assert_string_equal(moerun__config_text(config, "output"), "");
  assert_int_equal(moerun__config_origin_of(config, "model"),
                   MOERUN_CONFIG_FILE);
  assert_int_equal(moerun__config_origin_of(config, "max_tokens"),
                   MOERUN_CONFIG_ENVIRONMENT);
  assert_int_equal(moerun__config_origin_of(config, "chunks"),
                   MOERUN_CONFIG_FLAG);
  assert_int_equal(moerun__config_origin_of(config, "wire"),
                   MOERUN_CONFIG_DEFAULT);
  moerun__config_destroy(config);
}

static void environment_may_name_the_file(void **state) {
  (void)state;
  static const char text[] = "chunks = 7\n";
  char variable[64];
  (void)snprintf(variable, sizeof variable, "MOERUN_CONFIG=%s", file_path);
  const char *const environment[] = {variable, NULL};
  const char *const none[] = {"--config="};
  moerun__config *config = NULL;
  assert_int_equal(moerun__file_write(file_path, text, sizeof text - 1),
                   MOERUN_OK);
  assert_int_equal(moerun__config_load(&config, &moerun__options, "info", 0,
                                       NULL, environment),
                   MOERUN_OK);
  assert_int_equal(moerun__config_int(config, "chunks"), 7);
  moerun__config_destroy(config);
  assert_int_equal(moerun__config_load(&config, &moerun__options, "info", 1,
                                       none, environment),
                   MOERUN_OK);
  assert_int_equal(moerun__config_int(config, "chunks"), 1);
  moerun__config_destroy(config);
}

typedef struct refusal {
  const char *given;
  const char *message;
} refusal;

static void flags_are_refused_with_their_name(void **state) {
  (void)state;
  static const refusal cases[] = {
      {"--chunks=9", "--chunks: expected an integer from 1 to 8, found \"9\""},
      {"--chunks=0x1",
       "--chunks: expected an integer from 1 to 8, found \"0x1\""},
      {"--chunks= 1",
       "--chunks: expected an integer from 1 to 8, found \" 1\""},
      {"--chunks=", "--chunks: expected an integer from 1 to 8, found \"\""},
      {"--chunks=1.5", "--chunks: expected an integer from 1 to 8, found "
                       "\"1.5\""},
      {"--chunks=99999999999999999999",
       "--chunks: expected an integer from 1 to 8, found "
       "\"99999999999999999999\""},
      {"--temperature=nan",
       "--temperature: expected a number from 0 to 100, found \"nan\""},
      {"--temperature=1e999",
       "--temperature: expected a number from 0 to 100, found \"1e999\""},
      {"--temperature=-1",
       "--temperature: expected a number from 0 to 100, found \"-1\""},
      {"--temperature=1x",
       "--temperature: expected a number from 0 to 100, found \"1x\""},
      {"--wire=fp8", "--wire: expected one of fp32|bf16, found \"fp8\""},
      {"--wire=fp", "--wire: expected one of fp32|bf16, found \"fp\""},
      {"--wire=fp32|bf16",
       "--wire: expected one of fp32|bf16, found \"fp32|bf16\""},
      {"--resume=maybe", "--resume: expected true or false, found \"maybe\""},
      {"--chunk=1", "unknown option --chunk: did you mean --chunks?"},
      {"--promts=x", "unknown option --promts: did you mean --prompts?"},
      {"--kv_tokns=1", "unknown option --kv_tokns: did you mean --kv-tokens?"},
      {"--max-new=1", "unknown option --max-new: did you mean "
                      "--max-new-tokens?"},
      {"--no-wire", "unknown option --no-wire: did you mean --wire?"},
      {"--no-such", "unknown option --no-such; `moerun run --help` lists the "
                    "options"},
      {"--", "unknown option --; `moerun run --help` lists the options"},
      {"-model", "expected an option, which begins with --, found \"-model\": "
                 "did you mean --model?"},
      {"--chunks", "--chunks: expected a value, found none"},
      {"-n",
       "expected an option, which begins with --, found \"-n\": the number "
       "of ranks is an option of mpirun; `moerun run --help` lists the "
       "options"},
      {"model", "expected an option, which begins with --, found \"model\"; "
                "`moerun run --help` lists the options"},
      {"--ranks=2",
       "--ranks: not an option of `moerun run`, but of info, place; mpirun "
       "-n starts ranks"},
      {"--output=", "--output: expected a path, found nothing"},
      {"--metrics=", "--metrics: expected a file, found nothing"},
      {"--model=other",
       "--model: given twice, with m and with other: give it once"},
  };
  const size_t live = moerun__alloc_live();
  for (int i = 0; i < COUNT(cases); i++) {
    const char *const arguments[] = {"--model=m", cases[i].given};
    moerun__config *config = NULL;
    assert_int_equal(moerun__config_load(&config, &moerun__options, "run", 2,
                                         arguments, no_variables),
                     MOERUN_ERR_INVALID);
    assert_null(config);
    assert_string_equal(moerun_last_error(), cases[i].message);
  }
  const char *const nothing[] = {"--model="};
  moerun__config *config = NULL;
  assert_int_equal(moerun__config_load(&config, &moerun__options, "run", 1,
                                       nothing, no_variables),
                   MOERUN_ERR_INVALID);
  assert_string_equal(moerun_last_error(),
                      "--model: expected a folder, found nothing");
  assert_int_equal(moerun__config_load(&config, &moerun__options, "run", 0,
                                       nothing, no_variables),
                   MOERUN_ERR_INVALID);
  assert_string_equal(moerun_last_error(),
                      "--model: expected a folder, found none; `moerun help "
                      "run` has examples");
  const char *const arguments[] = {"--wire", "--model"};
  assert_int_equal(moerun__config_load(&config, &moerun__options, "run", 2,
                                       arguments, no_variables),
                   MOERUN_ERR_INVALID);
  assert_string_equal(moerun_last_error(),
                      "--wire: expected a value, found --model");
  assert_int_equal(moerun__config_load(&config, &moerun__options, "runs", 0,
                                       NULL, no_variables),
                   MOERUN_ERR_INVALID);
  assert_int_equal(moerun__alloc_live(), live);
}

static void variables_are_refused_with_their_name(void **state) {
  (void)state;
  static const refusal cases[] = {
      {"MOERUN_CHUNKS=0",
       "MOERUN_CHUNKS: expected an integer from 1 to 8, found \"0\""},
      {"MOERUN_CHUNK=1",
       "environment variable MOERUN_CHUNK: no such configuration key: did you "
       "mean MOERUN_CHUNKS?"},
      {"MOERUN_chunks=1",
       "environment variable MOERUN_chunks: no such configuration key: did you "
       "mean MOERUN_CHUNKS?"},
      {"MOERUN_MAX-TOKENS=1",
       "environment variable MOERUN_MAX-TOKENS: no such configuration key: did "
       "you mean MOERUN_MAX_TOKENS?"},
      {"MOERUN_CHUNK=",
       "environment variable MOERUN_CHUNK: no such configuration key: did you "
       "mean MOERUN_CHUNKS?"},
      {"MOERUN_=1", "environment variable MOERUN_: no such configuration key"},
      {"MOERUN_CONFIG=nowhere/x.conf",
       "nowhere/x.conf: cannot be opened: no such file or directory"},
  };
  for (int i = 0; i < COUNT(cases); i++) {
    const char *const environment[] = {cases[i].given, NULL};
    /* The flag would overrule the variable; its mistake is reported still. */
    const char *const arguments[] = {"--chunks=2"};
    moerun__config *config = NULL;
    assert_int_not_equal(moerun__config_load(&config, &moerun__options, "info",
                                             1, arguments, environment),
                         MOERUN_OK);
    assert_null(config);
    assert_string_equal(moerun_last_error(), cases[i].message);
  }
}

static void lines_are_refused_with_file_and_number(void **state) {
  (void)state;
  static const refusal cases[] = {
      {"\n\nchunks = 9\n",
       "x:3: chunks: expected an integer from 1 to 8, found \"9\""},
      {"chunk = 9", "x:1: expected a configuration key, found \"chunk\": did "
                    "you mean chunks?"},
      {" = 9", "x:1: expected a configuration key, found \"\""},
      {"chunks 9", "x:1: expected `key = value`, found \"chunks 9\""},
      {"chunks # = 9", "x:1: expected `key = value`, found \"chunks\""},
      {"chunks = 1\nchunks = 1",
       "x:2: chunks: expected once, found on line 1 before"},
      {"config = y", "x:1: config: a configuration file cannot name another"},
  };
  for (int i = 0; i < COUNT(cases); i++) {
    moerun__config *config = NULL;
    assert_int_equal(moerun__config_create(&config, &moerun__options, "run"),
                     MOERUN_OK);
    assert_int_equal(moerun__config_parse(config, cases[i].given,
                                          strlen(cases[i].given), "x"),
                     MOERUN_ERR_INVALID);
    assert_string_equal(moerun_last_error(), cases[i].message);
    moerun__config_destroy(config);
  }
  moerun__config *config = NULL;
  assert_int_equal(moerun__config_create(&config, &moerun__options, "run"),
                   MOERUN_OK);
  assert_int_equal(moerun__config_parse(config, "wire = bf16\0", 12, "x"),
                   MOERUN_ERR_INVALID);
  assert_string_equal(moerun_last_error(),
                      "x:1: expected text, found a NUL byte");
  moerun__config_destroy(config);
}

static void packed_values_are_the_same(void **state) {
  (void)state;
  const char *const arguments[] = {"--model", "a\nb # c", "--top-p=0.25",
                                   "--resume", "--seed=9007199254740991"};
  moerun__config *config = NULL;
  moerun__config *copy = NULL;
  char *packed = NULL;
  size_t bytes = 0;
  assert_int_equal(moerun__config_load(&config, &moerun__options, "run",
                                       COUNT(arguments), arguments,
                                       no_variables),
                   MOERUN_OK);
  assert_int_equal(moerun__config_pack(&packed, &bytes, config), MOERUN_OK);
  assert_int_equal(
      moerun__config_unpack(&copy, &moerun__options, "run", packed, bytes),
      MOERUN_OK);
  const char *key = NULL;
  const char *value = NULL;
  moerun__config_origin origin = MOERUN_CONFIG_DEFAULT;
  int used = 0;
  for (; moerun__config_at(config, used, &key, &value, &origin); used++) {
    assert_string_equal(moerun__config_text(copy, key), value);
    assert_int_equal(moerun__config_origin_of(copy, key), origin);
  }
  assert_true(used > 20);
  assert_int_equal(moerun__config_int(copy, "seed"), 9007199254740991);
  assert_true(moerun__config_double(copy, "top_p") == 0.25);
  assert_int_equal(moerun__config_bool(copy, "resume"), 1);
  moerun__config_destroy(copy);
  for (size_t shorter = 0; shorter < bytes; shorter++) {
    assert_int_equal(
        moerun__config_unpack(&copy, &moerun__options, "run", packed, shorter),
        MOERUN_ERR_INVALID);
    assert_null(copy);
  }
  moerun__free(packed);
  moerun__config_destroy(config);
}

static void every_allocation_may_fail(void **state) {
  (void)state;
  static const char text[] = "chunks = 7\nwire = bf16\n";
  const char *const environment[] = {"MOERUN_SEED=5", NULL};
  const char *const arguments[] = {"--config", file_path, "--model=m"};
  const size_t live = moerun__alloc_live();
  moerun_status status = MOERUN_ERR_NOMEM;
  assert_int_equal(moerun__file_write(file_path, text, sizeof text - 1),
                   MOERUN_OK);
  long nth = 0;
  for (; status != MOERUN_OK; nth++) {
    moerun__config *config = NULL;
    moerun__alloc_fail_nth(nth);
    status = moerun__config_load(&config, &moerun__options, "run",
                                 COUNT(arguments), arguments, environment);
    moerun__alloc_fail_nth(-1);
    assert_true(status == MOERUN_OK ? config != NULL
                                    : status == MOERUN_ERR_NOMEM);
    moerun__config_destroy(config);
    assert_int_equal(moerun__alloc_live(), live);
  }
  assert_true(nth > 20);
}

/* Every preset is read whole, and is weaker than whatever was given. */
static void presets_are_defaults(void **state) {
  (void)state;
  const char *const own[] = {"--output=o", "--like=glm-4.5", "--layers=4",
                             "--arch=qwen3_moe"};
  const char *const variables[] = {"MOERUN_EXPERTS=9", NULL};
  const char *name = NULL;
  moerun__config *config = NULL;
  assert_int_equal(moerun__config_load(&config, &moerun__options, "synth",
                                       COUNT(own), own, variables),
                   MOERUN_OK);
  assert_string_equal(moerun__config_text(config, "arch"), "qwen3_moe");
  assert_int_equal(moerun__config_int(config, "layers"), 4);
  assert_int_equal(moerun__config_int(config, "experts"), 9);
  assert_int_equal(moerun__config_int(config, "hidden"), 5120);
  assert_int_equal(moerun__config_int(config, "dense_width"), 12288);
  assert_int_equal(moerun__config_origin_of(config, "hidden"),
                   MOERUN_CONFIG_PRESET);
  assert_int_equal(moerun__config_origin_of(config, "layers"),
                   MOERUN_CONFIG_FLAG);
  moerun__config_destroy(config);
  for (int i = 0; (name = moerun__shape_name_at(i)) != NULL; i++) {
    char like[64];
    (void)snprintf(like, sizeof like, "--like=%s", name);
    const char *const arguments[] = {"--output=o", like};
    assert_int_equal(moerun__config_load(&config, &moerun__options, "synth", 2,
                                         arguments, no_variables),
                     MOERUN_OK);
    assert_int_equal(moerun__config_origin_of(config, "head_dim"),
                     i > 0 ? MOERUN_CONFIG_PRESET : MOERUN_CONFIG_DEFAULT);
    moerun__config_destroy(config);
  }
}

/* A misspelt name shows all that there are. */
static void choices_are_listed_whole(void **state) {
  (void)state;
  const char *const arguments[] = {"--output=o", "--like=qwen3"};
  const char *name = NULL;
  moerun__config *config = NULL;
  assert_int_equal(moerun__config_load(&config, &moerun__options, "synth", 2,
                                       arguments, no_variables),
                   MOERUN_ERR_INVALID);
  for (int i = 0; (name = moerun__shape_name_at(i)) != NULL; i++) {
    assert_non_null(strstr(moerun_last_error(), name));
  }
}

/* The table: keys in [a-z_], each row used somewhere, rows of one key by
 * different subcommands and of one type, defaults that parse (create would
 * fail), a sentence of help with no cell that would break the Markdown
 * table. */
static void table_is_sound(void **state) {
  (void)state;
  moerun__config *config = NULL;
  const moerun__config_row *row = NULL;
  const moerun__config_row *other = NULL;
  assert_int_equal(moerun__config_create(&config, &moerun__options, "run"),
                   MOERUN_OK);
  moerun__config_destroy(config);
  for (int i = 0; (row = moerun__config_row_at(&moerun__options, i)) != NULL;
       i++) {
    const size_t length = strlen(row->key);
    for (unsigned bit = 1; bit <= row->used_by; bit <<= 1U) {
      if ((row->used_by & bit) == 0) continue;
      assert_int_equal(
          moerun__config_find(&moerun__options, bit, row->key, length), i);
    }
    for (int k = 0;
         (other = moerun__config_row_at(&moerun__options, k)) != NULL; k++) {
      if (k == i || strcmp(other->key, row->key) != 0) continue;
      assert_int_equal(other->used_by & row->used_by, 0);
      assert_int_equal(other->type, row->type);
    }
    assert_int_equal(strspn(row->key, "abcdefghijklmnopqrstuvwxyz_"), length);
    assert_true(strncmp(row->key, "no_", 3) != 0 && length < 40);
    assert_int_not_equal(row->used_by, 0);
    assert_int_equal(row->required_by & ~row->used_by, 0);
    assert_null(strpbrk(row->help, "|\n"));
    const size_t help_length = strlen(row->help);
    assert_true(row->help[0] >= 'A' && row->help[0] <= 'Z' &&
                help_length > 10 && row->help[help_length - 1] == '.');
  }
}

/* A key that means different things has a row for each meaning, and each
 * subcommand reads its own. */
static void a_key_may_have_a_row_for_each_meaning(void **state) {
  (void)state;
  const int of_run = moerun__config_find(&moerun__options, 1U << 0, "seed", 4);
  const int of_place =
      moerun__config_find(&moerun__options, 1U << 4, "seed", 4);
  assert_int_not_equal(of_run, of_place);
  assert_int_equal(moerun__config_find(&moerun__options, 0, "no_such", 7), -1);
  static const char *const subcommands[] = {"run", "synth", "place"};
  for (int i = 0; i < COUNT(subcommands); i++) {
    const char *const arguments[] = {"--seed=5", "--output=o", "--model=m"};
    moerun__config *config = NULL;
    assert_int_equal(moerun__config_load(&config, &moerun__options,
                                         subcommands[i], i == 1 ? 2 : 3,
                                         arguments, no_variables),
                     MOERUN_OK);
    assert_int_equal(moerun__config_int(config, "seed"), 5);
    assert_string_equal(moerun__config_text(config, "output"), "o");
    moerun__config_destroy(config);
  }
}

/* Every line of every subcommand's options within 80 columns, with the row of
 * that subcommand alone. */
static void options_are_printed_within_80_columns(void **state) {
  (void)state;
  static char text[1 << 16];
  const char *name = NULL;
  for (int s = 0; (name = moerun__options.subcommands[s]) != NULL; s++) {
    FILE *stream = fmemopen(text, sizeof text, "w");
    assert_non_null(stream);
    moerun__config_print_options(stream, &moerun__options, name);
    assert_int_equal(fclose(stream), 0);
    assert_non_null(strstr(text, "\nOther:\n  --config FILE "));
    const char *line = text;
    for (; *line != '\0'; line += strcspn(line, "\n") + 1) {
      if (strcspn(line, "\n") > 80) print_error("%s: %.100s\n", name, line);
      assert_true(strcspn(line, "\n") <= 80);
    }
    const int has_synth = strstr(text, "random weights") != NULL;
    assert_int_equal(has_synth, strcmp(name, "synth") == 0);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(precedence_is_flag_environment_file_default),
      cmocka_unit_test(environment_may_name_the_file),
      cmocka_unit_test(flags_are_refused_with_their_name),
      cmocka_unit_test(variables_are_refused_with_their_name),
      cmocka_unit_test(lines_are_refused_with_file_and_number),
      cmocka_unit_test(packed_values_are_the_same),
      cmocka_unit_test(every_allocation_may_fail),
      cmocka_unit_test(presets_are_defaults),
      cmocka_unit_test(choices_are_listed_whole),
      cmocka_unit_test(table_is_sound),
      cmocka_unit_test(a_key_may_have_a_row_for_each_meaning),
      cmocka_unit_test(options_are_printed_within_80_columns),
  };
  return cmocka_run_group_tests(tests, make_file, remove_file);
}
