/* Filters that make numbers. */
#include "runtime/text/template/member_path.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The text without underscores between digits, as a string; 0: it is too long
 * for a number or has a NUL. */
static int plain_number(char out[64], const moerun__value *text) {
  size_t length = 0;
  const char *bytes = text->text.bytes;
  for (size_t i = 0; i < text->text.count; i++) {
    const int between = i > 0 && i + 1 < text->text.count &&
                        bytes[i - 1] >= '0' && bytes[i - 1] <= '9' &&
                        bytes[i + 1] >= '0' && bytes[i + 1] <= '9';
    if (bytes[i] == '_' && between) continue;
    if (bytes[i] == '\0' || length + 1 >= 64) return 0;
    out[length++] = bytes[i];
  }
  out[length] = '\0';
  return length > 0;
}

/* float(text) of Python. */
static int text_to_real(double *out, const moerun__value *text) {
  char spelt[64];
  char *end = NULL;
  if (!plain_number(spelt, text)) return 0;
  /* strtod also reads hexadecimal numbers and "nan(…)". */
  if (strpbrk(spelt, "xXpP(") != NULL) return 0;
  *out = strtod(spelt, &end);
  return *end == '\0';
}

/* int(text, base) of Python; base 10 takes no prefix. */
static int text_to_integer(int64_t *out, const moerun__value *text, int base) {
  char spelt[64];
  char *end = NULL;
  if (!plain_number(spelt, text)) return 0;
  if (base == 10 && strpbrk(spelt, "xX") != NULL) return 0;
  errno = 0;
  *out = strtoll(spelt, &end, base);
  return *end == '\0' && errno == 0;
}

static int real_to_integer(int64_t *out, double real) {
  if (!(real > -9.2e18 && real < 9.2e18)) return 0;
  *out = (int64_t)real;
  return 1;
}

static moerun_status filter_int(moerun__value *out, moerun__render *r,
                                const moerun__value *subject,
                                const moerun__value *a,
                                const moerun__arguments *given) {
  moerun_status status = MOERUN_OK;
  int64_t base = 10;
  int64_t integer = 0;
  double real = 0;
  const moerun__value blanks = {.kind = VALUE_ABSENT};
  moerun__value text;
  (void)given;
  MOERUN_TRY(moerun__want_integer(&base, &a[1], 10, "int"));
  MOERUN_REQUIRE(base == 10 || base == 16 || base == 8, MOERUN_ERR_UNSUPPORTED,
                 "int: the base %lld is not known", (long long)base);
  MOERUN_REQUIRE(subject->kind != VALUE_UNDEFINED, MOERUN_ERR_INVALID,
                 "\"%.60s\" is not defined", subject->missing.name);
  *out = a[0].kind != VALUE_ABSENT ? a[0] : moerun__integer(0);
  if (moerun__is_integral(subject)) {
    *out = moerun__integer(moerun__integer_of(subject));
  } else if (subject->kind == VALUE_REAL) {
    if (real_to_integer(&integer, subject->real)) {
      *out = moerun__integer(integer);
    }
  } else if (subject->kind == VALUE_TEXT) {
    MOERUN_TRY(moerun__strip(&text, r, subject, &blanks, 3));
    if (text_to_integer(&integer, &text, (int)base) ||
        (text_to_real(&real, &text) && real_to_integer(&integer, real))) {
      *out = moerun__integer(integer);
    }
  }
done:
  return status;
}

static moerun_status filter_float(moerun__value *out, moerun__render *r,
                                  const moerun__value *subject,
                                  const moerun__value *a,
                                  const moerun__arguments *given) {
  moerun_status status = MOERUN_OK;
  double real = 0;
  const moerun__value blanks = {.kind = VALUE_ABSENT};
  moerun__value text;
  (void)given;
  MOERUN_REQUIRE(subject->kind != VALUE_UNDEFINED, MOERUN_ERR_INVALID,
                 "\"%.60s\" is not defined", subject->missing.name);
  *out = a[0].kind != VALUE_ABSENT ? a[0] : moerun__real(0);
  if (moerun__is_number(subject)) {
    *out = moerun__real(moerun__real_of(subject));
  } else if (subject->kind == VALUE_TEXT) {
    MOERUN_TRY(moerun__strip(&text, r, subject, &blanks, 3));
    if (text_to_real(&real, &text)) *out = moerun__real(real);
  }
done:
  return status;
}

static moerun_status want_number(const moerun__value *value,
                                 const char *filter) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(moerun__is_number(value), MOERUN_ERR_INVALID,
                 "%s: expected a number, found a %s", filter,
                 moerun__kind_name(value));
done:
  return status;
}

static moerun_status filter_abs(moerun__value *out, moerun__render *r,
                                const moerun__value *subject,
                                const moerun__value *a,
                                const moerun__arguments *given) {
  moerun_status status = MOERUN_OK;
  const moerun__value zero = moerun__integer(0);
  (void)a;
  (void)given;
  MOERUN_TRY(want_number(subject, "abs"));
  if (subject->kind == VALUE_REAL) {
    *out = moerun__real(fabs(subject->real));
  } else if (moerun__integer_of(subject) < 0) {
    MOERUN_TRY(moerun__operate(out, r, '-', &zero, subject));
  } else {
    *out = moerun__integer(moerun__integer_of(subject));
  }
done:
  return status;
}

/* Python's round: to the nearest decimal number, an even one if two are. */
static double rounded(double real, int digits) {
  char spelt[400];
  (void)snprintf(spelt, sizeof spelt, "%.*f", digits, real);
  return strtod(spelt, NULL);
}

static moerun_status filter_round(moerun__value *out, moerun__render *r,
                                  const moerun__value *subject,
                                  const moerun__value *a,
                                  const moerun__arguments *given) {
  moerun_status status = MOERUN_OK;
  int64_t digits = 0;
  (void)r;
  (void)given;
  MOERUN_TRY(want_number(subject, "round"));
  MOERUN_TRY(moerun__want_integer(&digits, &a[0], 0, "round"));
  MOERUN_REQUIRE(digits >= 0 && digits <= 20, MOERUN_ERR_UNSUPPORTED,
                 "round: expected a precision of 0 to 20, found %lld",
                 (long long)digits);
  const double real = moerun__real_of(subject);
  const double scale = pow(10, (double)digits);
  if (a[1].kind == VALUE_ABSENT || moerun__value_is(&a[1], "common")) {
    *out = subject->kind == VALUE_REAL
               ? moerun__real(rounded(real, (int)digits))
               : *subject;
    if (subject->kind == VALUE_BOOL) *out = moerun__integer(subject->truth);
  } else {
    const int up = moerun__value_is(&a[1], "ceil");
    MOERUN_REQUIRE(up || moerun__value_is(&a[1], "floor"), MOERUN_ERR_INVALID,
                   "round: expected \"common\", \"ceil\" or \"floor\"");
    *out =
        moerun__real((up ? ceil(real * scale) : floor(real * scale)) / scale);
  }
done:
  return status;
}

static moerun_status filter_sum(moerun__value *out, moerun__render *r,
                                const moerun__value *subject,
                                const moerun__value *a,
                                const moerun__arguments *given) {
  moerun_status status = MOERUN_OK;
  const moerun__values *all = NULL;
  (void)given;
  MOERUN_TRY(moerun__elements(&all, r, subject));
  *out = a[1].kind != VALUE_ABSENT ? a[1] : moerun__integer(0);
  MOERUN_REQUIRE(out->kind != VALUE_TEXT, MOERUN_ERR_INVALID,
                 "sum: texts are joined, not summed");
  for (size_t i = 0; i < all->count; i++) {
    moerun__value item = all->at[i];
    const moerun__value before = *out;
    if (a[0].kind != VALUE_ABSENT && a[0].kind != VALUE_NONE) {
      MOERUN_TRY(moerun__member_at(&item, r, &all->at[i], &a[0]));
    }
    MOERUN_TRY(moerun__operate(out, r, '+', &before, &item));
  }
done:
  return status;
}

const moerun__builtin moerun__number_filters[] = {
    {"int", filter_int, "default base", 0},
    {"float", filter_float, "default", 0},
    {"abs", filter_abs, "", 0},
    {"round", filter_round, "precision method", 0},
    {"sum", filter_sum, "attribute start", 0},
    {NULL, NULL, NULL, 0}};
