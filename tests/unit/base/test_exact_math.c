/* The exact functions against the C library in long double, over fixed sweeps
 * and seeded random arguments; and a checksum of their bits, which must be the
 * same on every machine. */
#include "runtime/base/exact_math.h"
#include "runtime/base/rng.h"
#include "support/cmocka.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

enum { CASES = 200000 };

static uint64_t hash_double(uint64_t hash, double value) {
  uint64_t bits = 0;
  memcpy(&bits, &value, sizeof bits);
  for (int i = 0; i < 8; i++) {
    hash = (hash ^ ((bits >> (8 * i)) & 0xffU)) * 0x100000001b3U;
  }
  return hash;
}

static void assert_relative(double found, long double expected,
                            long double limit) {
  const long double error =
      fabsl((long double)found - expected) / fabsl(expected);
  if (!(error <= limit)) {
    fail_msg("found %.17g expected %.17Lg: relative error %.2Lg > %.2Lg", found,
             expected, error, limit);
  }
}

static void log_is_close_and_handles_edges(void **state) {
  (void)state;
  for (uint64_t i = 0; i < CASES; i++) {
    const double near_one = 0.5 + moerun__uniform(1, 0, i);
    assert_relative(moerun__exact_log(near_one), logl(near_one), 1e-15L);
    const double wide = ldexp(near_one, (int)(i % 2098) - 1074);
    if (wide > 0 && wide != 1) {
      assert_relative(moerun__exact_log(wide), logl(wide), 1e-15L);
    }
  }
  assert_true(moerun__exact_log(1) == 0);
  assert_true(moerun__exact_log(0) == -HUGE_VAL);
  assert_true(moerun__exact_log(HUGE_VAL) == HUGE_VAL);
  assert_true(isnan(moerun__exact_log(-1)));
  assert_true(isnan(moerun__exact_log(NAN)));
}

static void exp_is_close_and_handles_edges(void **state) {
  (void)state;
  for (uint64_t i = 0; i < CASES; i++) {
    const double x = -745 + 1454.7 * moerun__uniform(2, 0, i);
    const long double expected = expl(x);
    const long double spacing = x < -708 ? 5e-324L / expected : 0;
    assert_relative(moerun__exact_exp(x), expected, 1e-15L + spacing);
    const double small = moerun__uniform(2, 1, i) - 0.5;
    assert_relative(moerun__exact_exp(small), expl(small), 1e-15L);
  }
  assert_true(moerun__exact_exp(0) == 1);
  assert_true(moerun__exact_exp(-HUGE_VAL) == 0);
  assert_true(moerun__exact_exp(HUGE_VAL) == HUGE_VAL);
  assert_true(isnan(moerun__exact_exp(NAN)));
}

static void sincos_is_close(void **state) {
  (void)state;
  for (uint64_t i = 0; i < CASES; i++) {
    const double draw = moerun__uniform(3, 0, i);
    const double angle = i % 2 == 0 ? 2e6 * draw : 10 * draw;
    const long double limit = 1e-15L * (1 + (long double)angle * 1e-6L);
    double s = 0;
    double c = 0;
    moerun__exact_sincos(angle, &s, &c);
    assert_true(fabsl(s - sinl(angle)) <= limit);
    assert_true(fabsl(c - cosl(angle)) <= limit);
  }
  double s = 1;
  double c = 0;
  moerun__exact_sincos(0, &s, &c);
  assert_true(s == 0 && c == 1);
}

static void pow_is_close(void **state) {
  (void)state;
  for (uint64_t i = 0; i < CASES; i++) {
    const double base = 1e7 * moerun__uniform(4, 0, i) + 1e-3;
    const double y = 4 * moerun__uniform(4, 1, i) - 2;
    const long double size = fabsl(y * logl(base));
    assert_relative(moerun__exact_pow(base, y), powl(base, y),
                    1e-15L * (1 + size));
  }
  assert_true(moerun__exact_pow(1e6, 0) == 1);
}

static void bits_are_the_same_everywhere(void **state) {
  (void)state;
  uint64_t hash = 0xcbf29ce484222325U;
  for (uint64_t i = 0; i < 20000; i++) {
    const double draw = moerun__uniform(5, 0, i);
    double s = 0;
    double c = 0;
    moerun__exact_sincos(2e6 * draw, &s, &c);
    hash = hash_double(hash_double(hash, s), c);
    hash = hash_double(hash, moerun__exact_exp(1400 * draw - 700));
    hash = hash_double(hash, moerun__exact_log(draw + 1e-9));
    hash = hash_double(hash, moerun__exact_pow(1e6, -draw));
  }
  assert_true(hash == 0x49997ae9bae203bcU);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(log_is_close_and_handles_edges),
      cmocka_unit_test(exp_is_close_and_handles_edges),
      cmocka_unit_test(sincos_is_close),
      cmocka_unit_test(pow_is_close),
      cmocka_unit_test(bits_are_the_same_everywhere),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
