/* Files that are not quite what their readers expect: byte order marks and
 * numbers that no reader asks for are passed over, other kinds of files are
 * called what they are. */
#include "launch/options/options.h"
#include "runtime/base/config.h"
#include "runtime/base/file.h"
#include "runtime/base/json.h"
#include "runtime/base/memory.h"
#include "runtime/base/npy.h"
#include "runtime/model/shard.h"
#include "support/cmocka.h"
#include "support/temp_dir.h"

#define MARK "\xEF\xBB\xBF"

static json_t *parse(const char *text) {
  json_t *root = NULL;
  assert_int_equal(moerun__json_parse(&root, text, strlen(text), "f"),
                   MOERUN_OK);
  return root;
}

static void refuse(const char *text, const char *message) {
  json_t *root = NULL;
  assert_int_equal(moerun__json_parse(&root, text, strlen(text), "f"),
                   MOERUN_ERR_FORMAT);
  assert_string_equal(moerun_last_error(), message);
}

static void marks_in_front_of_json_are_skipped(void **state) {
  (void)state;
  json_t *root = parse(MARK "{\"a\": 5}");
  assert_int_equal(json_integer_value(json_object_get(root, "a")), 5);
  json_decref(root);
  refuse(MARK, "f: line 1, column 0: not valid JSON: '[' or '{' expected near "
               "end of file");
  refuse(MARK MARK "{}", "f: line 1, column 1: not valid JSON: '[' or '{' "
                         "expected near '" MARK "'");
}

/* transformers writes 1e30 as an integer where a length has no limit. */
static void integers_of_any_length_are_read(void **state) {
  (void)state;
  json_t *root = parse(
      "{\"model_max_length\": 1000000000000000019884624838656, \"a\": "
      "9223372036854775807, \"b\": -9223372036854775809, \"s\\\\\": "
      "\"\\\"99999999999999999999\", \"r\": 12345678901234567890.5, \"e\": "
      "1E2, \"l\":[18446744073709551616]}");
  const json_t *length = json_object_get(root, "model_max_length");
  assert_true(json_is_real(length) && json_real_value(length) == 1e30);
  assert_true(json_integer_value(json_object_get(root, "a")) == INT64_MAX);
  assert_true(json_real_value(json_object_get(root, "b")) ==
              -9223372036854775808.0);
  assert_string_equal(json_string_value(json_object_get(root, "s\\")),
                      "\"99999999999999999999");
  assert_true(json_real_value(json_object_get(root, "e")) == 100);
  assert_true(json_real_value(json_object_get(root, "r")) ==
              12345678901234567890.5);
  assert_true(json_real_value(json_array_get(json_object_get(root, "l"), 0)) ==
              18446744073709551616.0);
  json_decref(root);
  refuse("[1e999]", "f: line 1, column 6: not valid JSON: real number overflow "
                    "near '1e999'");
  refuse("[\"x\\u0000y\"]",
         "f: line 1, column 11: expected texts without a NUL "
         "character, found \\u0000");
}

static void bytes_of_zero_are_called_so(void **state) {
  (void)state;
  json_t *root = NULL;
  static const char blank[300] = {0};
  assert_int_equal(moerun__json_parse(&root, "{\"a\": 1}\0\0", 10, "f"),
                   MOERUN_ERR_FORMAT);
  assert_string_equal(moerun_last_error(),
                      "f: expected JSON, which has no byte of 0, found one "
                      "after 8 others");
  assert_int_equal(moerun__json_parse(&root, MARK "[1,\0", 7, "f"),
                   MOERUN_ERR_FORMAT);
  assert_string_equal(moerun_last_error(),
                      "f: expected JSON, which has no byte of 0, found one "
                      "after 6 others");
  static const size_t sizes[] = {1, 256, sizeof blank};
  for (size_t i = 0; i < 3; i++) {
    assert_int_equal(moerun__json_parse(&root, blank, sizes[i], "f"),
                     MOERUN_ERR_FORMAT);
    assert_string_equal(moerun_last_error(),
                        "f: expected JSON, found nothing but bytes of 0, as a "
                        "crash of the machine leaves: copy or make the file "
                        "again");
  }
}

/* Where the text ends at its last byte. */
static void widening_stays_within_the_text(void **state) {
  (void)state;
  static const char *const ends[] = {"[99999999999999999999,1.5",
                                     "[99999999999999999999,\"\\",
                                     "[99999999999999999999"};
  for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
    const size_t bytes = strlen(ends[i]);
    char *exact = malloc(bytes); /* without a NUL */
    json_t *root = NULL;
    assert_non_null(exact);
    memcpy(exact, ends[i], bytes);
    assert_int_equal(moerun__json_parse(&root, exact, bytes, "f"),
                     MOERUN_ERR_FORMAT);
    free(exact);
  }
}

static void other_kinds_of_files_are_named(void **state) {
  (void)state;
  refuse(
      "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize "
      "7031645\n",
      "f: expected JSON, found a Git LFS pointer, not the file of 7.0 MB that "
      "it stands for: run `git lfs pull` in its folder");
  refuse("  <!doctype HTML>",
         "f: expected JSON, found a web page, such as a server's error, in its "
         "place: download the file again");
  refuse("\xFF\xFE{",
         "f: expected JSON, found text in UTF-16: save it as UTF-8");
  refuse("PK\x03\x04",
         "f: expected JSON, found a zip archive, such as PyTorch's .pt, .bin "
         "and .pth, which is not read: save what it holds as .npy or JSON");
  refuse("\x80\x02}q",
         "f: expected JSON, found a Python pickle, such as PyTorch's .pt, .bin "
         "and .pth, which is not read: save what it holds as .npy or JSON");
  refuse("GGUF\x03", "f: expected JSON, found a GGUF file of llama.cpp, which "
                     "is not read: take the checkpoint's safetensors files");
  refuse("GGUF", "f: line 1, column 4: not valid JSON: '[' or '{' expected "
                 "near 'GGUF'");
  refuse("\x93NUMPY\x01", "f: expected JSON, found a NumPy array");
  refuse("<x>", "f: line 1, column 1: not valid JSON: '[' or '{' expected near "
                "'<'");
}

static void arrays_are_told_from_pointers(void **state) {
  (void)state;
  static const char pointer[] =
      "version https://git-lfs.github.com/spec/v1\nsize 2000000\n";
  temp_dir dir;
  char path[TEMP_PATH];
  char line[2 * TEMP_PATH];
  moerun__npy_reader *reader = NULL;
  moerun__npy_shape shape;
  assert_true(temp_dir_create(&dir));
  temp_path(path, &dir, "a.npy");
  assert_int_equal(moerun__file_write(path, pointer, strlen(pointer)),
                   MOERUN_OK);
  assert_int_equal(moerun__npy_open(&reader, &shape, path, MOERUN_NPY_INTEGERS),
                   MOERUN_ERR_FORMAT);
  (void)snprintf(line, sizeof line,
                 "%s: expected a .npy file, found a Git LFS pointer, not the "
                 "file of 2.0 MB that it stands for: run `git lfs pull` in its "
                 "folder",
                 path);
  assert_string_equal(moerun_last_error(), line);
  temp_dir_remove(&dir);
}

/* The first bytes of a shard are a length, which may begin as other files
 * do. */
static void lengths_are_told_from_other_files(void **state) {
  (void)state;
  static const char header[] =
      "{\"x\":{\"dtype\":\"BF16\",\"shape\":[1],\"data_offsets\":[0,2]}}";
  /* Pickles, gzip, UTF-16 twice, half of a zip archive's. */
  static const size_t lengths[] = {0x0280, 0x10280, 0x8b1f,
                                   0xfeff, 0xfffe,  0x4b50};
  static char bytes[8 + 0x10280 + 2];
  temp_dir dir;
  char path[TEMP_PATH];
  assert_true(temp_dir_create(&dir));
  temp_path(path, &dir, "model.safetensors");
  for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
    moerun__shards *shards = NULL;
    memset(bytes, ' ', sizeof bytes);
    for (size_t b = 0; b < 8; b++) {
      bytes[b] = (char)(lengths[i] >> 8 * b & 0xff);
    }
    memcpy(bytes + 8, header, sizeof header - 1);
    assert_int_equal(moerun__file_write(path, bytes, 8 + lengths[i] + 2),
                     MOERUN_OK);
    if (moerun__shards_load(&shards, dir.path) != MOERUN_OK) {
      fail_msg("length %zx: %s", lengths[i], moerun_last_error());
    }
    assert_non_null(moerun__shards_find(shards, "x"));
    moerun__shards_destroy(shards);
  }
  temp_dir_remove(&dir);
}

static void marks_in_front_of_settings_are_skipped(void **state) {
  (void)state;
  static const char text[] = MARK "seed = 7\n";
  moerun__config *config = NULL;
  assert_int_equal(moerun__config_create(&config, &moerun__options, "run"),
                   MOERUN_OK);
  assert_int_equal(
      moerun__config_parse(config, text, sizeof text - 1, "settings"),
      MOERUN_OK);
  assert_int_equal(moerun__config_int(config, "seed"), 7);
  moerun__config_destroy(config);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(marks_in_front_of_json_are_skipped),
      cmocka_unit_test(integers_of_any_length_are_read),
      cmocka_unit_test(bytes_of_zero_are_called_so),
      cmocka_unit_test(widening_stays_within_the_text),
      cmocka_unit_test(other_kinds_of_files_are_named),
      cmocka_unit_test(arrays_are_told_from_pointers),
      cmocka_unit_test(lengths_are_told_from_other_files),
      cmocka_unit_test(marks_in_front_of_settings_are_skipped),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
