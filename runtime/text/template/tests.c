/* Tests: what stands behind "is". */
#include "runtime/text/template/render.h"

#include <string.h>

/* Tests of the subject alone; those that always hold for something undefined
 * follow from the methods that Jinja's Undefined has. */
#define TEST(test, condition)                                                  \
  static moerun_status test(                                                   \
      moerun__value *out, moerun__render *r, const moerun__value *subject,     \
      const moerun__value *a, const moerun__arguments *given) {                \
    (void)r;                                                                   \
    (void)a;                                                                   \
    (void)given;                                                               \
    *out = moerun__truth(condition);                                           \
    return MOERUN_OK;                                                          \
  }

static int is_iterable(const moerun__value *value) {
  return moerun__length(value) >= 0 || value->kind == VALUE_ITERATOR;
}

static int is_indexed(const moerun__value *value) {
  return value->kind == VALUE_TEXT || moerun__is_sequence(value) ||
         value->kind == VALUE_DICT || value->kind == VALUE_RANGE ||
         value->kind == VALUE_UNDEFINED;
}

static int is_callable(const moerun__value *value) {
  switch (value->kind) {
  case VALUE_MACRO:
  case VALUE_FUNCTION:
  case VALUE_METHOD:
  case VALUE_LOOP:
  case VALUE_JOINER:
  case VALUE_UNDEFINED: return 1;
  default: return 0;
  }
}

TEST(test_defined, subject->kind != VALUE_UNDEFINED)
TEST(test_undefined, subject->kind == VALUE_UNDEFINED)
TEST(test_none, subject->kind == VALUE_NONE)
TEST(test_boolean, subject->kind == VALUE_BOOL)
TEST(test_true, subject->kind == VALUE_BOOL && subject->truth)
TEST(test_false, subject->kind == VALUE_BOOL && !subject->truth)
TEST(test_integer, subject->kind == VALUE_INTEGER)
TEST(test_float, subject->kind == VALUE_REAL)
TEST(test_number, moerun__is_number(subject))
TEST(test_string, subject->kind == VALUE_TEXT)
TEST(test_mapping, subject->kind == VALUE_DICT)
TEST(test_sequence, is_indexed(subject))
TEST(test_iterable, is_iterable(subject))
TEST(test_callable, is_callable(subject))

static moerun_status is_remainder(moerun__value *out, moerun__render *r,
                                  const moerun__value *subject,
                                  const moerun__value *divisor,
                                  int64_t wanted) {
  moerun_status status = MOERUN_OK;
  moerun__value rest;
  int equal = 0;
  const moerun__value expected = moerun__integer(wanted);
  MOERUN_REQUIRE(subject->kind != VALUE_TEXT, MOERUN_ERR_INVALID,
                 "a str is neither odd nor even");
  MOERUN_TRY(moerun__operate(&rest, r, '%', subject, divisor));
  MOERUN_TRY(moerun__value_equal(&equal, &rest, &expected, 0, &r->steps));
  *out = moerun__truth(equal);
done:
  return status;
}

static moerun_status test_odd(moerun__value *out, moerun__render *r,
                              const moerun__value *subject,
                              const moerun__value *a,
                              const moerun__arguments *given) {
  const moerun__value two = moerun__integer(2);
  (void)a;
  (void)given;
  return is_remainder(out, r, subject, &two, 1);
}

static moerun_status test_even(moerun__value *out, moerun__render *r,
                               const moerun__value *subject,
                               const moerun__value *a,
                               const moerun__arguments *given) {
  const moerun__value two = moerun__integer(2);
  (void)a;
  (void)given;
  return is_remainder(out, r, subject, &two, 0);
}

static moerun_status test_divisible(moerun__value *out, moerun__render *r,
                                    const moerun__value *subject,
                                    const moerun__value *a,
                                    const moerun__arguments *given) {
  (void)given;
  return is_remainder(out, r, subject, &a[0], 0);
}

static moerun_status is_cased(moerun__value *out, moerun__render *r,
                              const moerun__value *subject, moerun__case to,
                              moerun__case from) {
  moerun_status status = MOERUN_OK;
  moerun__value text;
  moerun__value same;
  moerun__value other;
  int equal = 0;
  int caseless = 0;
  MOERUN_TRY(moerun__as_text(&text, r, subject));
  MOERUN_TRY(moerun__change_case(&same, r, &text, to));
  MOERUN_TRY(moerun__change_case(&other, r, &text, from));
  MOERUN_TRY(moerun__value_equal(&equal, &text, &same, 0, &r->steps));
  MOERUN_TRY(moerun__value_equal(&caseless, &text, &other, 0, &r->steps));
  *out = moerun__truth(equal && !caseless);
done:
  return status;
}

static moerun_status test_lower(moerun__value *out, moerun__render *r,
                                const moerun__value *subject,
                                const moerun__value *a,
                                const moerun__arguments *given) {
  (void)a;
  (void)given;
  return is_cased(out, r, subject, CASE_LOWER, CASE_UPPER);
}

static moerun_status test_upper(moerun__value *out, moerun__render *r,
                                const moerun__value *subject,
                                const moerun__value *a,
                                const moerun__arguments *given) {
  (void)a;
  (void)given;
  return is_cased(out, r, subject, CASE_UPPER, CASE_LOWER);
}

static moerun_status test_sameas(moerun__value *out, moerun__render *r,
                                 const moerun__value *subject,
                                 const moerun__value *a,
                                 const moerun__arguments *given) {
  moerun_status status = MOERUN_OK;
  int same = subject->kind == a[0].kind;
  (void)r;
  (void)given;
  MOERUN_REQUIRE(!same || subject->kind <= VALUE_BOOL ||
                     subject->kind >= VALUE_LIST,
                 MOERUN_ERR_UNSUPPORTED,
                 "whether a %s is the same as another is not known",
                 moerun__kind_name(subject));
  if (same && subject->kind == VALUE_BOOL) same = subject->truth == a[0].truth;
  if (same && subject->kind >= VALUE_LIST) same = subject->loop == a[0].loop;
  *out = moerun__truth(same);
done:
  return status;
}

static moerun_status test_in(moerun__value *out, moerun__render *r,
                             const moerun__value *subject,
                             const moerun__value *a,
                             const moerun__arguments *given) {
  int holds = 0;
  (void)given;
  const moerun_status status =
      moerun__compare(&holds, r, OPERATION_IN, subject, &a[0]);
  *out = moerun__truth(holds);
  return status;
}

static moerun_status test_filter(moerun__value *out, moerun__render *r,
                                 const moerun__value *subject,
                                 const moerun__value *a,
                                 const moerun__arguments *given) {
  moerun_status status = MOERUN_OK;
  char *name = NULL;
  (void)a;
  (void)given;
  MOERUN_TRY(moerun__want_text(subject, "filter"));
  MOERUN_TRY(moerun__pool_take(&r->pool, &name, subject->text.count + 1));
  if (subject->text.count > 0) {
    memcpy(name, subject->text.bytes, subject->text.count);
  }
  *out = moerun__truth(moerun__filter_find(name) != NULL);
done:
  return status;
}

#define COMPARISON(test, operation)                                            \
  static moerun_status test(                                                   \
      moerun__value *out, moerun__render *r, const moerun__value *subject,     \
      const moerun__value *a, const moerun__arguments *given) {                \
    int holds = 0;                                                             \
    (void)given;                                                               \
    const moerun_status status =                                               \
        moerun__compare(&holds, r, operation, subject, &a[0]);                 \
    *out = moerun__truth(holds);                                               \
    return status;                                                             \
  }
COMPARISON(test_equal, OPERATION_EQUAL)
COMPARISON(test_unequal, OPERATION_UNEQUAL)
COMPARISON(test_less, OPERATION_LESS)
COMPARISON(test_at_most, OPERATION_AT_MOST)
COMPARISON(test_greater, OPERATION_GREATER)
COMPARISON(test_at_least, OPERATION_AT_LEAST)

const moerun__builtin moerun__tests[] = {
    {"defined", test_defined, "", 0},
    {"undefined", test_undefined, "", 0},
    {"none", test_none, "", 0},
    {"boolean", test_boolean, "", 0},
    {"true", test_true, "", 0},
    {"false", test_false, "", 0},
    {"integer", test_integer, "", 0},
    {"float", test_float, "", 0},
    {"number", test_number, "", 0},
    {"string", test_string, "", 0},
    {"mapping", test_mapping, "", 0},
    {"sequence", test_sequence, "", 0},
    {"iterable", test_iterable, "", 0},
    {"callable", test_callable, "", 0},
    {"odd", test_odd, "", 0},
    {"even", test_even, "", 0},
    {"divisibleby", test_divisible, "num", 1},
    {"lower", test_lower, "", 0},
    {"upper", test_upper, "", 0},
    {"sameas", test_sameas, "other", 1},
    {"in", test_in, "seq", 1},
    {"filter", test_filter, "", 0},
    {"eq", test_equal, "other", 1},
    {"equalto", test_equal, "other", 1},
    {"==", test_equal, "other", 1},
    {"ne", test_unequal, "other", 1},
    {"!=", test_unequal, "other", 1},
    {"lt", test_less, "other", 1},
    {"lessthan", test_less, "other", 1},
    {"<", test_less, "other", 1},
    {"le", test_at_most, "other", 1},
    {"<=", test_at_most, "other", 1},
    {"gt", test_greater, "other", 1},
    {"greaterthan", test_greater, "other", 1},
    {">", test_greater, "other", 1},
    {"ge", test_at_least, "other", 1},
    {">=", test_at_least, "other", 1},
    {NULL, NULL, NULL, 0}};
