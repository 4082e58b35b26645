/* Base: errors, memory, JSON access, files, number formats, Philox. */
#include "runtime/base/dtype.h"
#include "runtime/base/file.h"
#include "runtime/base/finite.h"
#include "runtime/base/json.h"
#include "runtime/base/memory.h"
#include "runtime/base/number.h"
#include "runtime/base/rng.h"
#include "runtime/base/text.h"
#include "support/cmocka.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void fail_keeps_one_line(void **state) {
  (void)state;
  assert_int_equal(moerun__fail(MOERUN_ERR_IO, "x.c", 1, "file %s", "a\nb\x01"),
                   MOERUN_ERR_IO);
  assert_string_equal(moerun_last_error(), "file a?b?");
  assert_string_equal(moerun_status_string(MOERUN_ERR_PEER),
                      "another rank reported an error");
}

/* Where and more may be added; what a caller adds to a full line is kept. */
static void a_failure_gets_its_context(void **state) {
  (void)state;
  char path[2000];
  (void)moerun__fail(MOERUN_ERR_FORMAT, "x.c", 1, "key \"a\": found %d", 7);
  assert_int_equal(moerun__say_where(MOERUN_ERR_FORMAT, "a\nb.json"),
                   MOERUN_ERR_FORMAT);
  assert_string_equal(moerun_last_error(), "a?b.json: key \"a\": found 7");
  assert_int_equal(
      moerun__say_more(MOERUN_ERR_IO, ": %s 1 of %d", "expected", 2),
      MOERUN_ERR_IO);
  assert_string_equal(moerun_last_error(),
                      "a?b.json: key \"a\": found 7: expected 1 of 2");
  memset(path, 'p', sizeof path);
  path[sizeof path - 1] = '\0';
  (void)moerun__fail(MOERUN_ERR_IO, "x.c", 1, "no such file");
  (void)moerun__say_where(MOERUN_ERR_IO, path);
  const size_t length = strlen(moerun_last_error());
  assert_string_equal(moerun_last_error() + length - 15, "p: no such file");
  (void)moerun__say_more(MOERUN_ERR_IO, "; look again");
  assert_int_equal(strlen(moerun_last_error()), length);
  assert_string_equal(moerun_last_error() + length - 12, "; look again");
  (void)moerun__say_more(MOERUN_ERR_IO, "%s", path);
  assert_int_equal(strlen(moerun_last_error()), length);
}

static void memory_is_aligned_zeroed_counted(void **state) {
  (void)state;
  const size_t live = moerun__alloc_live();
  const size_t bytes = moerun__alloc_live_bytes();
  char *p = NULL;
  assert_int_equal(moerun__alloc(&p, 100, 3), MOERUN_OK);
  assert_int_equal((uintptr_t)p % MOERUN_ALIGNMENT, 0);
  for (int i = 0; i < 300; i++) {
    assert_int_equal(p[i], 0);
  }
  assert_int_equal(moerun__alloc_live(), live + 1);
  assert_int_equal(moerun__alloc_live_bytes(),
                   bytes + moerun__alloc_bytes(100, 3));
  p[299] = 7;
  assert_int_equal(moerun__resize(&p, 100, 200, 3), MOERUN_OK);
  assert_int_equal(p[299], 7);
  assert_int_equal(p[599], 0);
  moerun__free(p);
  assert_int_equal(moerun__alloc_live_bytes(), bytes);
  assert_int_equal(moerun__alloc(&p, SIZE_MAX / 2, 8), MOERUN_ERR_NOMEM);
  assert_int_equal(moerun__alloc(&p, SIZE_MAX - 1, 1), MOERUN_ERR_NOMEM);
  assert_null(p);
  assert_null(p);
}

/* Of any length; the address sanitizer refuses what the standard does not
 * allow. */
static void streamed_blocks_begin_on_a_huge_page(void **state) {
  (void)state;
  const size_t huge = 2 << 20;
  const size_t before = moerun__alloc_live_bytes();
  const size_t sizes[] = {4 * huge, 4 * huge + 1, 5 * huge - 1};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    char *p = NULL;
    assert_int_equal(moerun__alloc_streamed(&p, sizes[i], 1), MOERUN_OK);
    assert_int_equal((uintptr_t)p % huge, MOERUN_ALIGNMENT);
    assert_int_equal(moerun__alloc_live_bytes(),
                     before + moerun__alloc_bytes(sizes[i], 1));
    p[sizes[i] - 1] = 1;
    moerun__free(p);
  }
  assert_int_equal(moerun__alloc_live_bytes(), before);
}

static void nth_allocation_fails_once(void **state) {
  (void)state;
  char *a = NULL;
  char *b = NULL;
  moerun__alloc_fail_nth(1);
  assert_int_equal(moerun__alloc(&a, 1, 1), MOERUN_OK);
  assert_int_equal(moerun__alloc(&b, 1, 1), MOERUN_ERR_NOMEM);
  assert_int_equal(moerun__alloc(&b, 1, 1), MOERUN_OK);
  moerun__free(a);
  moerun__free(b);
}

static void json_messages_name_file_key_and_values(void **state) {
  (void)state;
  static const char text[] =
      "{\"n\": 5, \"s\": \"x\", \"z\": null, \"f\": 1.5, \"b\": true}";
  json_t *root = NULL;
  int64_t n = 0;
  const int64_t nine = 9;
  double f = 0;
  int b = 0;
  const char *s = NULL;
  assert_int_equal(moerun__json_parse(&root, text, sizeof text - 1, "f.json"),
                   MOERUN_OK);
  assert_int_equal(moerun__json_int(&n, root, "n", 0, 9, NULL, "f.json"),
                   MOERUN_OK);
  assert_int_equal(n, 5);
  assert_int_equal(moerun__json_int(&n, root, "z", 0, 9, &nine, "f.json"),
                   MOERUN_OK);
  assert_int_equal(n, 9);
  assert_int_equal(moerun__json_double(&f, root, "f", 0, 9, NULL, "f.json"),
                   MOERUN_OK);
  assert_true(f == 1.5);
  assert_int_equal(moerun__json_bool(&b, root, "b", NULL, "f.json"), MOERUN_OK);
  assert_int_equal(b, 1);
  assert_int_equal(moerun__json_text(&s, root, "s", 1, "f.json"), MOERUN_OK);
  assert_string_equal(s, "x");
  assert_int_equal(moerun__json_int(&n, root, "n", 6, 9, NULL, "f.json"),
                   MOERUN_ERR_FORMAT);
  assert_string_equal(moerun_last_error(),
                      "f.json: key \"n\": expected 6 to 9, found 5");
  assert_int_equal(moerun__json_int(&n, root, "s", 6, 9, NULL, "f.json"),
                   MOERUN_ERR_FORMAT);
  assert_string_equal(moerun_last_error(),
                      "f.json: key \"s\": expected an integer, found a string");
  json_decref(root);
}

/* A number beyond a limit never prints as the limit. */
static void numbers_in_messages_read_back(void **state) {
  (void)state;
  static const double values[] = {1,    1.0000001,     0.1,
                                  1e-6, 9.99999999e-4, -3e300};
  static const char *const texts[] = {"1",     "1.0000001",      "0.1",
                                      "1e-06", "0.000999999999", "-3e+300"};
  for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
    char text[MOERUN_NUMBER_TEXT];
    assert_string_equal(moerun__number_text(text, values[i]), texts[i]);
  }
}

static void long_names_are_refused(void **state) {
  (void)state;
  enum { LONGEST = MOERUN_NAME_BYTES };
  char name[LONGEST + 2];
  const char *found = NULL;
  memset(name, 'n', sizeof name);
  name[LONGEST + 1] = '\0';
  json_t *root = json_pack("{s:s}", "model", name);
  assert_non_null(root);
  assert_int_equal(moerun__json_name(&found, root, "model", "f.json"),
                   MOERUN_ERR_FORMAT);
  assert_string_equal(moerun_last_error(),
                      "f.json: key \"model\": expected a name of at most 255 "
                      "bytes, found 256");
  assert_int_equal(json_object_set_new(root, "model", json_string(name + 1)),
                   0);
  assert_int_equal(moerun__json_name(&found, root, "model", "f.json"),
                   MOERUN_OK);
  assert_string_equal(found, name + 1);
  json_decref(root);
}

static void json_rejects_duplicates_and_garbage(void **state) {
  (void)state;
  static const char *const bad[] = {
      "{\"a\":1,\"a\":2}",   "{\"a\":1",         "",
      "{\"a\":\"\\u0000\"}", "{\"a\":\"\xff\"}", "{} {}"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    json_t *root = NULL;
    assert_int_equal(
        moerun__json_parse(&root, bad[i], strlen(bad[i]), "f.json"),
        MOERUN_ERR_FORMAT);
    assert_null(root);
  }
}

static void files_are_whole_or_refused(void **state) {
  (void)state;
  char path[] = "/tmp/moerun_test_XXXXXX";
  const int file = mkstemp(path);
  assert_true(file >= 0);
  (void)close(file);
  char *text = NULL;
  size_t bytes = 0;
  assert_int_equal(moerun__file_write(path, "hello", 5), MOERUN_OK);
  assert_int_equal(moerun__file_read(&text, &bytes, path, 5), MOERUN_OK);
  assert_int_equal(bytes, 5);
  assert_string_equal(text, "hello");
  moerun__free(text);
  assert_int_equal(moerun__file_read(&text, &bytes, path, 4),
                   MOERUN_ERR_FORMAT);
  assert_null(text);
  (void)unlink(path);
  assert_int_equal(moerun__file_read(&text, &bytes, path, 4), MOERUN_ERR_IO);
  assert_int_equal(moerun__file_read(&text, &bytes, "/tmp", 4), MOERUN_ERR_IO);
  assert_int_equal(mkfifo(path, 0600), 0);
  assert_int_equal(moerun__file_read(&text, &bytes, path, 4), MOERUN_ERR_IO);
  (void)unlink(path);
}

static void half_precision_round_trips(void **state) {
  (void)state;
  for (uint32_t h = 0; h < 65536; h++) {
    const float b = moerun__bf16_to_f32((uint16_t)h);
    if (!isnan(b)) assert_int_equal(moerun__f32_to_bf16(b), h);
    const float f = moerun__f16_to_f32((uint16_t)h);
    /* The definition of binary16, in double. */
    const int exponent = (int)(h >> 10 & 31U);
    const double mantissa = (double)(h & 1023U);
    double want = exponent == 0 ? mantissa * 0x1p-24
                                : ldexp(1024.0 + mantissa, exponent - 25);
    if (h & 0x8000U) want = -want;
    if (exponent == 31) {
      assert_true(mantissa != 0 ? isnan(f) : isinf(f));
    } else {
      assert_true((double)f == want);
    }
  }
  assert_int_equal(moerun__f32_to_bf16(1.00390625F), 0x3f80); /* tie to even */
  assert_int_equal(moerun__f32_to_bf16(1.01171875F), 0x3f82);
}

static void sound_numbers_are_told_from_others(void **state) {
  (void)state;
  float x[37] = {0};
  const float fine[] = {-0.0F, 1e-45F, 0x1.fffffep54F, -0x1.fffffep54F};
  const float bad[] = {NAN, -NAN, INFINITY, -INFINITY, 0x1p55F, -3e38F};
  for (size_t i = 0; i < 37; i++) {
    for (size_t c = 0; c < sizeof fine / sizeof *fine; c++) {
      x[i] = fine[c];
      assert_true(moerun__all_sound(x, 37));
    }
    for (size_t c = 0; c < sizeof bad / sizeof *bad; c++) {
      x[i] = bad[c];
      assert_false(moerun__all_sound(x, 37));
      assert_true(moerun__all_sound(x, i));
    }
    x[i] = 0;
  }
}

/* Vectors published with the reference implementation (Random123,
 * kat_vectors). */
static void philox_matches_published_vectors(void **state) {
  (void)state;
  uint32_t r[4];
  moerun__philox(r, 0, 0, 0);
  assert_int_equal(r[0], 0x6627e8d5);
  assert_int_equal(r[1], 0xe169c58d);
  assert_int_equal(r[2], 0xbc57ac4c);
  assert_int_equal(r[3], 0x9b00dbd8);
  moerun__philox(r, UINT64_MAX, UINT64_MAX, UINT64_MAX);
  assert_int_equal(r[0], 0x408f276d);
  assert_int_equal(r[1], 0x41c83b0e);
  assert_int_equal(r[2], 0xa20bc7c6);
  assert_int_equal(r[3], 0x6d5451fd);
  moerun__philox(r, 0x299f31d0a4093822U, 0x0370734413198a2eU,
                 0x85a308d3243f6a88U);
  assert_int_equal(r[0], 0xd16cfe09);
  assert_int_equal(r[1], 0x94fdcceb);
  assert_int_equal(r[2], 0x5001e420);
  assert_int_equal(r[3], 0x24126ea1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(fail_keeps_one_line),
      cmocka_unit_test(a_failure_gets_its_context),
      cmocka_unit_test(memory_is_aligned_zeroed_counted),
      cmocka_unit_test(streamed_blocks_begin_on_a_huge_page),
      cmocka_unit_test(nth_allocation_fails_once),
      cmocka_unit_test(json_messages_name_file_key_and_values),
      cmocka_unit_test(numbers_in_messages_read_back),
      cmocka_unit_test(long_names_are_refused),
      cmocka_unit_test(json_rejects_duplicates_and_garbage),
      cmocka_unit_test(files_are_whole_or_refused),
      cmocka_unit_test(half_precision_round_trips),
      cmocka_unit_test(sound_numbers_are_told_from_others),
      cmocka_unit_test(philox_matches_published_vectors),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
