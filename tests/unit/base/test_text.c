/* Growable text, and JSON strings from arbitrary bytes. */
#include "runtime/base/json.h"
#include "runtime/base/memory.h"
#include "runtime/base/rng.h"
#include "runtime/base/spelling.h"
#include "runtime/base/text.h"
#include "runtime/base/wrap.h"
#include "support/cmocka.h"

#include <string.h>

#define BAD "\xEF\xBF\xBD"

typedef struct sample {
  const char *bytes;
  size_t count;
  const char *json;
} sample;

#define SAMPLE(bytes, json)                                                    \
  { (bytes), sizeof(bytes) - 1, "\"" json "\"" }

static const sample samples[] = {
    SAMPLE("", ""),
    SAMPLE("plain \x7f", "plain \x7f"),
    SAMPLE("\"\\/\b\f\n\r\t\x01\x1f", "\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\\u001f"),
    SAMPLE("a\0b", "a" BAD "b"),
    SAMPLE("\xC3\xA9\xE2\x82\xAC\xF0\x9F\x99\x82",
           "\xC3\xA9\xE2\x82\xAC\xF0\x9F\x99\x82"),
    /* The Unicode Standard, table 3-8 and its neighbours. */
    SAMPLE("\x61\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64",
           "a" BAD BAD BAD "b" BAD "c" BAD BAD "d"),
    SAMPLE("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41",
           BAD BAD BAD BAD BAD BAD BAD BAD "A"),
    SAMPLE("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41",
           BAD BAD BAD BAD BAD BAD BAD BAD "A"),
    SAMPLE("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42",
           BAD BAD BAD BAD BAD "A" BAD BAD "B"),
    SAMPLE("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41", BAD BAD BAD BAD "A"),
    SAMPLE("end \xF0\x9F\x99", "end " BAD),
};

static void bytes_become_valid_json(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof samples / sizeof *samples; i++) {
    moerun__text text = {0};
    assert_int_equal(
        moerun__text_json(&text, samples[i].bytes, samples[i].count),
        MOERUN_OK);
    assert_string_equal(text.bytes, samples[i].json);
    assert_int_equal(text.count, strlen(samples[i].json));
    moerun__text_clear(&text);
    assert_null(text.bytes);
  }
}

enum { SEED = 7, ROUNDS = 3000, LENGTH = 24 };

static void any_bytes_parse_back(void **state) {
  (void)state;
  moerun__text text = {0};
  print_message("seed %d\n", SEED);
  for (uint64_t round = 0; round < ROUNDS; round++) {
    char bytes[LENGTH];
    for (uint64_t i = 0; i < LENGTH; i += 4) {
      uint32_t r[4];
      moerun__philox(r, SEED, round, i);
      for (int k = 0; k < 4; k++) {
        /* Mostly lead and continuation bytes. */
        bytes[i + (uint64_t)k] =
            (char)(r[k] % 8 == 0 ? r[k] >> 8 : 0x80U | (r[k] >> 8));
      }
    }
    json_t *root = NULL;
    text.count = 0;
    assert_int_equal(moerun__text_print(&text, "[%d,", 1), MOERUN_OK);
    assert_int_equal(moerun__text_json(&text, bytes, LENGTH), MOERUN_OK);
    assert_int_equal(moerun__text_append(&text, "]", 1), MOERUN_OK);
    assert_int_equal(moerun__json_parse(&root, text.bytes, text.count, "t"),
                     MOERUN_OK);
    json_decref(root);
  }
  moerun__text_clear(&text);
}

static void failed_growth_leaves_the_text(void **state) {
  (void)state;
  moerun__text text = {0};
  char long_part[200];
  memset(long_part, 'x', sizeof long_part);
  assert_int_equal(moerun__text_append(&text, "kept", 4), MOERUN_OK);
  moerun__alloc_fail_nth(0);
  assert_int_equal(moerun__text_append(&text, long_part, sizeof long_part),
                   MOERUN_ERR_NOMEM);
  moerun__alloc_fail_nth(-1);
  assert_string_equal(text.bytes, "kept");
  assert_int_equal(moerun__text_append(&text, NULL, SIZE_MAX / 2),
                   MOERUN_ERR_NOMEM);
  assert_int_equal(text.count, 4);
  moerun__text_clear(&text);
}

static void slips_of_the_pen_are_near(void **state) {
  (void)state;
  static const struct {
    const char *text;
    const char *word;
    int distance;
  } cases[] = {
      {"prompts", "prompts", 0},
      {"promts", "prompts", 1},
      {"prmopts", "prompts", 1},
      {"promptss", "prompts", 1},
      {"max-tokens", "max_tokens", 0},
      {"max-new", "max_new_tokens", 1},
      {"rnu", "run", 1},
      {"ma", "max_tokens", -1},
      {"walk", "run", -1},
      {"", "run", -1},
      {"fp", "of", -1},
      {"kv_tokesn", "kv_tokens", 1},
      {"ots", "tok", -1},
      {"abcdef", "badcfe", -1},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    const char *text = cases[i].text;
    assert_int_equal(
        moerun__spelling_distance(text, strlen(text), cases[i].word),
        cases[i].distance);
  }
  char long_text[200];
  memset(long_text, 'a', sizeof long_text);
  assert_int_equal(moerun__spelling_distance(long_text, sizeof long_text, "a"),
                   -1);
}

/* Words begin in column 76 and go on in column 76 of the next line. */
static void words_are_wrapped(void **state) {
  (void)state;
  static const char *const texts[] = {"a bc def gh longer-than-a-line",
                                      "\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9 i"};
  static const char *const lines[] = {"a bc",
                                      "def",
                                      "gh",
                                      "longer-than-a-line",
                                      "\xC3\xA9\xC3\xA9\xC3\xA9\xC3\xA9",
                                      "i"};
  size_t next = 0;
  for (int t = 0; t < 2; t++) {
    char printed[512] = "";
    FILE *stream = fmemopen(printed, sizeof printed, "w");
    assert_non_null(stream);
    const int behind = moerun__wrap_words(stream, texts[t], 76, 76);
    assert_int_equal(fclose(stream), 0);
    assert_int_equal(behind, t == 0 ? 76 + 18 : 77);
    char *rest = printed;
    for (char *line = strtok_r(printed, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
      assert_string_equal(line + strspn(line, " "), lines[next++]);
    }
  }
  assert_int_equal(next, sizeof lines / sizeof *lines);
}

static void integers_are_those_of_printf(void **state) {
  (void)state;
  static const int32_t values[] = {0,  -1,        9,         10,        -10,
                                   99, INT32_MAX, INT32_MIN, 123456789, 7};
  const size_t count = sizeof values / sizeof *values;
  moerun__text text = {0};
  moerun__text wanted = {0};
  assert_int_equal(moerun__text_integers(&text, values, 0), MOERUN_OK);
  assert_int_equal(text.count, 0);
  for (size_t i = 0; i < count; i++) {
    assert_int_equal(
        moerun__text_print(&wanted, i == 0 ? "%d" : ",%d", values[i]),
        MOERUN_OK);
  }
  assert_int_equal(moerun__text_integers(&text, values, count), MOERUN_OK);
  assert_string_equal(text.bytes, wanted.bytes);
  moerun__text_clear(&text);
  moerun__text_clear(&wanted);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(integers_are_those_of_printf),
      cmocka_unit_test(bytes_become_valid_json),
      cmocka_unit_test(any_bytes_parse_back),
      cmocka_unit_test(slips_of_the_pen_are_near),
      cmocka_unit_test(words_are_wrapped),
      cmocka_unit_test(failed_growth_leaves_the_text),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
