/* The time limit of a wait by a clock that the tests set. */
#include "support/cmocka.h"

#include "comm/patience.h"

#include <stddef.h>

static double now;
static double step; /* from one look to the next */

static double clock_of_test(void) {
  now += step;
  return now;
}

/* Seconds by the clock until the wait is over; *looks as many. */
static double wait_for_nobody(double limit_s, double seconds_between,
                              int64_t *looks) {
  moerun__patience p = {0};
  now = 1000;
  step = seconds_between;
  *looks = 0;
  while (!moerun__patience_is_over(&p, limit_s)) {
    (*looks)++;
    assert_true(*looks < 100000);
  }
  return now - 1000;
}

static int set_clock(void **state) {
  (void)state;
  moerun__patience_set_clock(clock_of_test);
  return 0;
}

static int reset_clock(void **state) {
  (void)state;
  moerun__patience_set_clock(NULL);
  return 0;
}

static void a_dead_peer_is_waited_for_as_long_as_asked(void **state) {
  (void)state;
  static const double limits[] = {0.5, 6, 120, 3600};
  for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
    int64_t looks = 0;
    const double limit = limits[i];
    const double waited = wait_for_nobody(limit, limit / 10000, &looks);
    assert_true(waited > limit);
    assert_true(waited < 1.03 * limit); /* and the last polls */
  }
}

/* Starved of its core a rank still finds a dead peer. */
static void gaps_alone_end_too(void **state) {
  (void)state;
  int64_t looks = 0;
  (void)wait_for_nobody(6, 50, &looks);
  /* 200 polls without a look, the first look, 16 gaps for nothing, 8 of 6 / 8 s
   * each that reach the limit, and 200 last ones beyond it. */
  assert_int_equal(looks, 200 + 1 + 16 + 8 + 200);
}

/* Polls until the wait has lasted so many seconds. */
static void wait_until(moerun__patience *p, double limit_s, double seconds) {
  while (p->waited_s < seconds) {
    assert_false(moerun__patience_is_over(p, limit_s));
  }
}

static void time_in_which_the_rank_was_stopped_does_not_count(void **state) {
  (void)state;
  moerun__patience p = {0};
  now = 1000;
  step = 0.001;
  wait_until(&p, 6, 5.5);
  for (int i = 0; i < 5; i++) {
    now += 3600;
    assert_false(moerun__patience_is_over(&p, 6));
  }
  assert_true(p.waited_s < 5.6);
  wait_until(&p, 6, 5.99);
}

/* Before the first look, too. */
static void a_stop_at_the_start_does_not_count(void **state) {
  (void)state;
  moerun__patience p = {0};
  now = 1000;
  step = 0.001;
  for (int i = 0; i < 100; i++) {
    assert_false(moerun__patience_is_over(&p, 6));
  }
  now += 3600;
  wait_until(&p, 6, 5.9);
}

/* What has come by the end of the limit is found by the polls after it. */
static void others_are_asked_once_more(void **state) {
  (void)state;
  moerun__patience p = {0};
  now = 1000;
  step = 0.001;
  wait_until(&p, 6, 6);
  int polls = 0;
  while (!moerun__patience_is_over(&p, 6)) {
    polls++;
  }
  assert_in_range(polls, 100, 400);
}

static void no_limit_is_never_over(void **state) {
  (void)state;
  moerun__patience p = {0};
  step = 1e6;
  for (int i = 0; i < 5000; i++) {
    assert_false(moerun__patience_is_over(&p, -1));
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_dead_peer_is_waited_for_as_long_as_asked),
      cmocka_unit_test(gaps_alone_end_too),
      cmocka_unit_test(time_in_which_the_rank_was_stopped_does_not_count),
      cmocka_unit_test(a_stop_at_the_start_does_not_count),
      cmocka_unit_test(others_are_asked_once_more),
      cmocka_unit_test(no_limit_is_never_over),
  };
  return cmocka_run_group_tests(tests, set_clock, reset_clock);
}
