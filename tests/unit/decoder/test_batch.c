/* What a step's rows must be: each rule is broken by a batch of its own, and
 * says what it expected; a cache without room says of what. */
#include "runtime/decoder/batch.h"
#include "support/scratch.h"

enum { TOKENS = 8, SEQUENCES = 2, VOCABULARY = 10, LONGEST = 2, PAGES = 3 };

static moerun__kv_cache *cache;
static char seen[SEQUENCES];

/* Sequence 0 has four positions. */
static int set_up(void **state) {
  (void)state;
  static const moerun__kv_sizes sizes = {.num_layers = 1,
                                         .page_floats = 32,
                                         .max_sequences = SEQUENCES,
                                         .max_pages = LONGEST,
                                         .num_pages = PAGES};
  return moerun__kv_create(&cache, &moerun__host, &sizes) == MOERUN_OK &&
                 moerun__kv_extend(cache, 0, 4) == MOERUN_OK
             ? 0
             : -1;
}

static int tear_down(void **state) {
  (void)state;
  moerun__kv_destroy(cache);
  return 0;
}

static moerun_status check(const moerun_batch *batch) {
  const moerun__batch_limits limits = {TOKENS, VOCABULARY, cache, seen};
  return moerun__batch_check(batch, &limits);
}

static const int32_t zero[TOKENS + 1] = {0};
static const int32_t rising[] = {0, 1, 2, 3, 4, 5, 6, 7, 8};

static void each_rule_says_what_it_expects(void **state) {
  (void)state;
  static const int32_t beyond[] = {0, 0, SEQUENCES};
  static const int32_t below[] = {-1, -1, -1};
  static const int32_t torn[] = {0, 1, 0};
  static const int32_t starts[] = {0, 0, 0};
  static const int32_t other[] = {1, 1};
  static const int32_t two[] = {0, 1, 0};
  static const int32_t late[] = {5, 6, 7};
  static const int32_t gap[] = {4, 6, 7};
  static const int32_t unknown[] = {0, 9, VOCABULARY};
  static const int32_t negative[] = {-1, 0, 0};
  static const int32_t twice[] = {1, 1};
  static const int32_t falling[] = {2, 1};
  static const int32_t three[] = {3};
  static const struct {
    moerun_batch batch;
    moerun_status status;
    const char *words;
  } cases[] = {
      {{3, zero, beyond, two, 0, NULL},
       MOERUN_ERR_INVALID,
       "row 2: expected a sequence of 0 to 1, found 2"},
      {{1, zero, beyond + 2, starts, 0, NULL},
       MOERUN_ERR_INVALID,
       "row 0: expected a sequence of 0 to 1, found 2"},
      {{3, zero, below, rising, 0, NULL},
       MOERUN_ERR_INVALID,
       "row 0: expected a sequence of 0 to 1, found -1"},
      {{3, zero, torn, starts, 0, NULL},
       MOERUN_ERR_INVALID,
       "row 2: the rows of sequence 0 do not stand together"},
      {{TOKENS + 1, zero, zero, rising, 0, NULL},
       MOERUN_ERR_OVERFLOW,
       "expected 0 to 8 rows, found 9"},
      {{-1, zero, zero, rising, 0, NULL},
       MOERUN_ERR_OVERFLOW,
       "expected 0 to 8 rows, found -1"},
      {{3, zero, zero, late, 0, NULL},
       MOERUN_ERR_INVALID,
       "row 0: expected position 0 or 4, found 5"},
      {{2, zero, other, late, 0, NULL},
       MOERUN_ERR_INVALID,
       "row 0: expected position 0, as sequence 1 is empty, found 5"},
      {{3, zero, zero, gap, 0, NULL},
       MOERUN_ERR_INVALID,
       "row 1: expected position 5, found 6"},
      {{3, unknown, zero, rising, 0, NULL},
       MOERUN_ERR_INVALID,
       "row 2: expected a token of 0 to 9, found 10"},
      {{3, negative, zero, rising, 0, NULL},
       MOERUN_ERR_INVALID,
       "row 0: expected a token of 0 to 9, found -1"},
      {{3, zero, zero, rising, 2, twice},
       MOERUN_ERR_INVALID,
       "logit row 1: expected ascending rows, found 1 after 1"},
      {{3, zero, zero, rising, 2, falling},
       MOERUN_ERR_INVALID,
       "logit row 1: expected ascending rows, found 1 after 2"},
      {{3, zero, zero, rising, 1, three},
       MOERUN_ERR_INVALID,
       "logit row 0: expected 0 to 2, found 3"},
      {{3, zero, zero, rising, -1, three},
       MOERUN_ERR_INVALID,
       "num_logits: expected 0 to 3, found -1"},
      {{3, zero, zero, rising, 4, rising},
       MOERUN_ERR_INVALID,
       "num_logits: expected 0 to 3, found 4"},
      {{0, NULL, NULL, NULL, 1, zero},
       MOERUN_ERR_INVALID,
       "num_logits: expected 0 to 0, found 1"},
      {{3, zero, zero, rising, 1, NULL},
       MOERUN_ERR_INVALID,
       "logit_row is NULL"},
      {{3, NULL, zero, rising, 0, NULL},
       MOERUN_ERR_INVALID,
       "token, sequence or position is NULL"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    assert_int_equal(check(&cases[i].batch), cases[i].status);
    expect_words(cases[i].words);
    assert_int_equal(cache->length[0], 4);
    assert_int_equal(cache->num_free, PAGES - 1);
  }
}

static void what_fits_exactly_passes(void **state) {
  (void)state;
  static const int32_t both[] = {1, 1, 1, 1, 0, 0, 0, 0};
  static const int32_t position[] = {0, 1, 2, 3, 4, 5, 6, 7};
  static const int32_t logits[] = {0, 3, 7};
  static const int32_t last[] = {9, 0, 9, 0, 9, 0, 9, 0};
  const moerun_batch full = {TOKENS, last, both, position, 3, logits};
  const moerun_batch none = {0, NULL, NULL, NULL, 0, NULL};
  assert_int_equal(check(&full), MOERUN_OK);
  assert_int_equal(check(&none), MOERUN_OK);
}

/* A sequence has two pages and the pool three. */
static void a_full_cache_says_of_what(void **state) {
  (void)state;
  assert_int_equal(moerun__kv_extend(cache, 0, 28), MOERUN_OK);
  assert_int_equal(cache->length[0], 32);
  assert_int_equal(cache->num_free, 1);
  assert_int_equal(moerun__kv_extend(cache, 0, 1), MOERUN_ERR_OVERFLOW);
  expect_words("sequence 0: expected at most 32 positions, found 33");
  assert_int_equal(moerun__kv_extend(cache, 1, 17), MOERUN_ERR_OVERFLOW);
  expect_words("KV cache: 2 pages of 16 positions needed, 1 left (raise "
               "kv_tokens)");
  assert_int_equal(cache->length[0], 32);
  assert_int_equal(cache->length[1], 0);
  assert_int_equal(moerun__kv_extend(cache, 1, 16), MOERUN_OK);
  assert_int_equal(cache->num_free, 0);
  /* A batch that finds no room for its second sequence leaves the first. */
  static const int32_t both[] = {1, 0};
  static const int32_t next[] = {0, 32};
  const moerun_batch batch = {2, zero, both, next, 0, NULL};
  assert_int_equal(check(&batch), MOERUN_OK);
  assert_int_equal(moerun__batch_extend(cache, &batch), MOERUN_ERR_OVERFLOW);
  expect_words("sequence 0: expected at most 32 positions, found 33");
  assert_int_equal(cache->length[0], 32);
  assert_int_equal(cache->length[1], 0);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
  const struct CMUnitTest tests[] = {
      TEST(each_rule_says_what_it_expects),
      TEST(what_fits_exactly_passes),
      TEST(a_full_cache_says_of_what),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
