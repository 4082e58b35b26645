/* Speeds that placements follow: after a whole period without a change, outside
 * the dead band; and loads count from the first slow rank on. */
#include "runtime/plan/lasting.h"
#include "runtime/plan/plan.h"
#include "support/cmocka.h"

#include <math.h>

enum { R = 3 };

static max_align_t room[64];

static void start(moerun__lasting *lasting) {
  moerun__arena arena = {NULL, 0};
  moerun__lasting_lay_out(lasting, &arena, R);
  assert_true(arena.used <= sizeof room);
  arena = (moerun__arena){(char *)room, 0};
  moerun__lasting_lay_out(lasting, &arena, R);
  moerun__lasting_clear(lasting);
}

/* A look at which only the last rank has anything to tell. */
static void look(moerun__lasting *lasting, int32_t speed, int64_t changes) {
  moerun__lasting_see(lasting, 0, 0, 0);
  moerun__lasting_see(lasting, 1, 0, 0);
  moerun__lasting_see(lasting, 2, speed, changes);
  moerun__lasting_conclude(lasting);
}

static void only_what_lasts_is_followed(void **state) {
  (void)state;
  moerun__lasting lasting;
  start(&lasting);
  look(&lasting, -32, 1); /* it may have changed a step ago */
  assert_true(lasting.relative[2] == 1 && !lasting.is_weighed);
  look(&lasting, -32, 1);
  assert_true(lasting.relative[0] == 1 && lasting.relative[2] == 0.25);
  assert_int_equal(lasting.is_weighed, 1);
  look(&lasting, -16, 2);
  assert_true(lasting.relative[2] == 0.25);
  look(&lasting, -16, 2);
  assert_true(lasting.relative[2] == 0.5);
}

/* As it was at each look, but not between: a rank that flaps is not
 * followed. */
static void what_comes_and_goes_is_not(void **state) {
  (void)state;
  moerun__lasting lasting;
  start(&lasting);
  for (int64_t i = 1; i < 20; i++) {
    look(&lasting, -32, 2 * i - 1);
    assert_int_equal(lasting.is_weighed, 0);
  }
}

static void the_dead_band_is_left_alone(void **state) {
  (void)state;
  moerun__lasting lasting;
  start(&lasting);
  for (int64_t i = 0; i < 4; i++) {
    look(&lasting, -MOERUN_SPEED_NOISE, 1);
    assert_true(lasting.relative[2] == 1 && !lasting.is_weighed);
  }
  for (int64_t i = 0; i < 4; i++) {
    look(&lasting, -20, 2);
  }
  assert_int_equal(lasting.speed[2], -20);
  for (int64_t i = 0; i < 4; i++) {
    look(&lasting, -20 + MOERUN_SPEED_NOISE, 3);
    assert_int_equal(lasting.speed[2], -20);
  }
  for (int64_t i = 0; i < 2; i++) {
    look(&lasting, -20 + MOERUN_SPEED_NOISE + 1, 4);
  }
  assert_int_equal(lasting.speed[2], -20 + MOERUN_SPEED_NOISE + 1);
}

static void loads_count_from_then_on(void **state) {
  (void)state;
  moerun__lasting lasting;
  start(&lasting);
  look(&lasting, -32, 1);
  look(&lasting, -32, 1);
  assert_int_equal(lasting.is_weighed, 1);
  look(&lasting, 0, 2);
  assert_true(lasting.relative[2] == 0.25 && lasting.is_weighed);
  look(&lasting, 0, 2);
  assert_true(lasting.relative[2] == 1 && lasting.is_weighed);
}

/* The fastest is the measure, though it be slower than all once were. */
static void all_slower_is_equal(void **state) {
  (void)state;
  moerun__lasting lasting;
  start(&lasting);
  for (int64_t i = 0; i < 2; i++) {
    for (int32_t r = 0; r < R; r++) {
      moerun__lasting_see(&lasting, r, -30 - r, 1);
    }
    moerun__lasting_conclude(&lasting);
  }
  assert_int_equal(lasting.is_weighed, 0);
  for (int32_t r = 0; r < R; r++) {
    assert_int_equal(lasting.speed[r], -30 - r);
    assert_true(lasting.relative[r] == 1);
  }
}

/* After 8 steps, 16, … up to 1024, and anew after each change; never while all
 * are and were equal. */
static void looks_are_due_where_slowness_lasts(void **state) {
  (void)state;
  moerun__lasting lasting;
  int32_t speed[R] = {0, 0, 0};
  start(&lasting);
  for (int32_t i = 0; i < 5000; i++) {
    assert_int_equal(moerun__lasting_watch(&lasting, speed), 0);
  }
  speed[1] = -MOERUN_SPEED_NOISE; /* still equal */
  for (int32_t i = 0; i < 100; i++) {
    assert_int_equal(moerun__lasting_watch(&lasting, speed), 0);
  }
  speed[1] = -MOERUN_SPEED_NOISE - 1;
  for (int32_t i = 1; i < 5000; i++) {
    const int due = i == 8 || i == 16 || i == 32 || i == 64 || i == 128 ||
                    i == 256 || i == 512 || i == 1024;
    assert_int_equal(moerun__lasting_watch(&lasting, speed), due);
  }
  for (int32_t i = 0; i < 100; i++) { /* one that flaps is not looked at */
    speed[1] = i / 7 % 2 ? 0 : -32;
    assert_int_equal(moerun__lasting_watch(&lasting, speed), 0);
  }
}

/* A slow rank that experts have left and that is fast again gets them back. */
static void recovery_is_due_too(void **state) {
  (void)state;
  moerun__lasting lasting;
  const int32_t speed[R] = {0, 0, 0};
  start(&lasting);
  look(&lasting, -32, 0);
  assert_int_equal(lasting.is_weighed, 1);
  for (int32_t i = 1; i <= 8; i++) {
    assert_int_equal(moerun__lasting_watch(&lasting, speed), i == 8);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(only_what_lasts_is_followed),
      cmocka_unit_test(what_comes_and_goes_is_not),
      cmocka_unit_test(the_dead_band_is_left_alone),
      cmocka_unit_test(loads_count_from_then_on),
      cmocka_unit_test(all_slower_is_equal),
      cmocka_unit_test(looks_are_due_where_slowness_lasts),
      cmocka_unit_test(recovery_is_due_too),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
