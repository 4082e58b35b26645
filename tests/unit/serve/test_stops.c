/* Where a request ends by its stops, against a search of the whole text after
 * each token, over texts with cut characters, runs of bytes and blanks that
 * decoders take away. */
#include "runtime/serve/stops.h"
#include "support/cmocka.h"
#include "support/draw.h"
#include "support/naive_stops.h"

#include <string.h>

enum { MOST_TOKENS = 24, MOST_STOP = 3 };

static moerun__tokenizer *tokenizer_of(size_t decoder) {
  moerun__tokenizer *t = NULL;
  assert_int_equal(naive_tokenizer(&t, decoder), MOERUN_OK);
  return t;
}

/* ---- What is to be found ------------------------------------------------- */

/* The text of the first `count` tokens. */
static const char *text_of(moerun__text *out, const moerun__tokenizer *t,
                           const int32_t *token, int32_t count) {
  assert_int_equal(naive_text(out, t, token, (size_t)count), MOERUN_OK);
  return out->bytes;
}

/* ---- One request --------------------------------------------------------- */

typedef struct trial {
  int32_t token[MOST_TOKENS];
  int32_t stop_token[2];
  char stop_text[MOST_STOP * 8];
  moerun__stops stops;
  int32_t min_tokens;
} trial;

static void draw_trial(trial *t, draw *from) {
  static const char *const pieces[] = {"a", "b", " ", "\xC3\xA9", "ab"};
  size_t at = 0;
  memset(t, 0, sizeof *t);
  for (int i = 0; i < MOST_TOKENS; i++) {
    t->token[i] = draw_int(from, 0, NAIVE_VOCABULARY);
  }
  t->stops.num_texts = draw_int(from, 0, MOST_STOP);
  for (int32_t i = 0; i < t->stops.num_texts; i++) {
    const int32_t length = draw_int(from, 1, 3);
    for (int32_t k = 0; k < length; k++) {
      const char *piece = pieces[draw_int(from, 0, 4)];
      memcpy(t->stop_text + at, piece, strlen(piece));
      at += strlen(piece);
    }
    t->stop_text[at++] = '\0';
  }
  t->stops.text = t->stop_text;
  t->stops.text_bytes = (int32_t)at;
  t->stops.num_tokens = draw_int(from, -3, 1) > 0;
  t->stop_token[0] = draw_int(from, 0, NAIVE_VOCABULARY);
  t->stops.token = t->stop_token;
  t->min_tokens = draw_int(from, -6, 9);
  if (t->min_tokens < 0) t->min_tokens = 0;
}

/* Whether it ended by a stop. What is shown early is never taken back. */
static int run_trial(const trial *t, const moerun__tokenizer *tokenizer,
                     moerun__stop_watch *watch) {
  moerun__text text = {0};
  char shown[MOST_TOKENS * 8] = "";
  size_t num_shown = 0;
  size_t passed = 0;
  int ends = 0;
  assert_int_equal(
      moerun__stop_watch_begin(watch, &t->stops, t->min_tokens, tokenizer),
      MOERUN_OK);
  for (int32_t i = 0; i < MOST_TOKENS && !ends; i++) {
    const char *whole = text_of(&text, tokenizer, t->token, i + 1);
    const int may_end = i >= t->min_tokens;
    const int by_token = may_end && moerun__stops_have(&t->stops, t->token[i]);
    int64_t at = may_end ? naive_stop_in(&text, passed, &t->stops) : -1;
    if (!may_end) passed = text.count;
    assert_int_equal(moerun__stop_watch_put(watch, &ends, t->token[i]),
                     MOERUN_OK);
    assert_int_equal(ends, by_token || at >= 0);
    if (by_token) {
      whole = text_of(&text, tokenizer, t->token, i);
      at = (int64_t)text.count;
    }
    const size_t count = at >= 0 ? (size_t)at : text.count;
    assert_int_equal(watch->text.count, count);
    if (count > 0) assert_memory_equal(watch->text.bytes, whole, count);
    assert_true(num_shown <= count);
    if (num_shown > 0) assert_memory_equal(whole, shown, num_shown);
    if (ends) break;
    num_shown = moerun__stop_watch_shown(watch);
    assert_in_range(num_shown, 0, count);
    if (num_shown > 0) memcpy(shown, watch->text.bytes, num_shown);
  }
  moerun__text_clear(&text);
  return ends;
}

static void ends_where_the_whole_text_has_a_stop(void **state) {
  (void)state;
  enum { TRIALS = 4000 };
  draw from = {20261130, 0};
  moerun__stop_watch watch = {0};
  print_message("seed %llu\n", (unsigned long long)from.seed);
  for (size_t d = 0; d < NAIVE_DECODERS; d++) {
    moerun__tokenizer *tokenizer = tokenizer_of(d);
    int ended = 0;
    for (int i = 0; i < TRIALS; i++) {
      trial t;
      draw_trial(&t, &from);
      ended += run_trial(&t, tokenizer, &watch);
    }
    assert_in_range(ended, TRIALS / 4, TRIALS - TRIALS / 16);
    moerun__tokenizer_destroy(tokenizer);
  }
  moerun__stop_watch_clear(&watch);
}

/* What begins a stop waits, and comes when it was none. */
static void what_may_become_a_stop_is_not_shown(void **state) {
  (void)state;
  static const int32_t token[] = {0, 1, 1, 3, 0};
  static const size_t shown[] = {0, 0, 2, 3, 5};
  static const char text[] = "aba\0baba";
  const moerun__stops stops = {.num_texts = 2, .text_bytes = 9, .text = text};
  moerun__tokenizer *tokenizer = tokenizer_of(1);
  moerun__stop_watch watch = {0};
  int ends = 0;
  assert_int_equal(moerun__stop_watch_begin(&watch, &stops, 0, tokenizer),
                   MOERUN_OK);
  for (int i = 0; i < 5; i++) {
    assert_int_equal(moerun__stop_watch_put(&watch, &ends, token[i]),
                     MOERUN_OK);
    assert_int_equal(ends, 0);
    assert_int_equal(moerun__stop_watch_shown(&watch), shown[i]);
  }
  moerun__stop_watch_clear(&watch);
  moerun__tokenizer_destroy(tokenizer);
}

/* Without a tokenizer there are tokens alone. */
static void tokens_need_no_tokenizer(void **state) {
  (void)state;
  static const int32_t ids[] = {7, 9};
  const moerun__stops stops = {.num_tokens = 2, .token = ids};
  moerun__stop_watch watch = {0};
  int ends = 1;
  assert_int_equal(moerun__stop_watch_begin(&watch, &stops, 1, NULL),
                   MOERUN_OK);
  assert_int_equal(moerun__stop_watch_put(&watch, &ends, 9), MOERUN_OK);
  assert_int_equal(ends, 0);
  assert_int_equal(moerun__stop_watch_put(&watch, &ends, 8), MOERUN_OK);
  assert_int_equal(ends, 0);
  assert_int_equal(moerun__stop_watch_put(&watch, &ends, 9), MOERUN_OK);
  assert_int_equal(ends, 1);
  moerun__stop_watch_clear(&watch);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(ends_where_the_whole_text_has_a_stop),
      cmocka_unit_test(what_may_become_a_stop_is_not_shown),
      cmocka_unit_test(tokens_need_no_tokenizer),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
