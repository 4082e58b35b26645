/* Arithmetic, concatenation and comparison, with Python's results: "/" makes a
 * float, "//" and "%" round down, integers of more than 64 bits are refused. */
#include "runtime/text/template/search.h"

#include <math.h>
#include <string.h>

static moerun_status no_operation(int operation, const moerun__value *a,
                                  const moerun__value *b) {
  static const struct {
    int operation;
    const char *spelt;
  } spelt[] = {{'+', "+"},
               {'-', "-"},
               {'*', "*"},
               {'/', "/"},
               {'%', "%"},
               {OPERATION_FLOOR, "//"},
               {OPERATION_POWER, "**"}};
  const char *sign = "?";
  for (size_t i = 0; i < sizeof spelt / sizeof *spelt; i++) {
    if (spelt[i].operation == operation) sign = spelt[i].spelt;
  }
  for (int i = 0; i < 2; i++) {
    const moerun__value *side = i == 0 ? a : b;
    if (side->kind == VALUE_UNDEFINED) {
      return moerun__fail(MOERUN_ERR_INVALID, __FILE__, __LINE__,
                          "\"%.60s\" is not defined", side->missing.name);
    }
  }
  return moerun__fail(MOERUN_ERR_INVALID, __FILE__, __LINE__,
                      "\"%s\" is not for %s and %s", sign, moerun__kind_name(a),
                      moerun__kind_name(b));
}

/* ---- Numbers ------------------------------------------------------------- */

static int multiply_overflows(int64_t *out, int64_t a, int64_t b) {
  return __builtin_mul_overflow(a, b, out);
}

static int power_overflows(int64_t *out, int64_t base, int64_t exponent) {
  int64_t result = 1;
  int overflow = 0;
  while (exponent > 0) {
    if (exponent % 2 == 1) {
      overflow |= multiply_overflows(&result, result, base);
      if (overflow) return 1;
    }
    exponent /= 2;
    if (exponent > 0 && multiply_overflows(&base, base, base)) return 1;
  }
  *out = result;
  return overflow;
}

static moerun_status operate_integers(moerun__value *out, int operation,
                                      int64_t a, int64_t b) {
  moerun_status status = MOERUN_OK;
  int64_t result = 0;
  int overflow = 0;
  const int divides =
      operation == '/' || operation == '%' || operation == OPERATION_FLOOR;
  MOERUN_REQUIRE(!divides || b != 0, MOERUN_ERR_INVALID, "division by zero");
  if (divides && operation != '/' && b == -1) { /* -2^63 / -1 traps */
    overflow = operation != '%' && __builtin_sub_overflow(0, a, &result);
    if (operation == '%') result = 0;
  } else {
    switch (operation) {
    case '+': overflow = __builtin_add_overflow(a, b, &result); break;
    case '-': overflow = __builtin_sub_overflow(a, b, &result); break;
    case '*': overflow = multiply_overflows(&result, a, b); break;
    case OPERATION_FLOOR:
      result = a / b - (a % b != 0 && (a < 0) != (b < 0));
      break;
    case '%':
      result = a % b;
      if (result != 0 && (result < 0) != (b < 0)) result += b;
      break;
    case '/': *out = moerun__real((double)a / (double)b); goto done;
    default:
      if (b < 0) {
        MOERUN_REQUIRE(a != 0, MOERUN_ERR_INVALID, "division by zero");
        *out = moerun__real(pow((double)a, (double)b));
        goto done;
      }
      overflow = power_overflows(&result, a, b);
      break;
    }
  }
  MOERUN_REQUIRE(!overflow, MOERUN_ERR_UNSUPPORTED,
                 "an integer of more than 64 bits");
  *out = moerun__integer(result);
done:
  return status;
}

static double floor_modulo(double a, double b) {
  double rest = fmod(a, b);
  if (rest != 0 && (rest < 0) != (b < 0)) rest += b;
  return rest == 0 ? copysign(0.0, b) : rest;
}

static moerun_status operate_reals(moerun__value *out, int operation, double a,
                                   double b) {
  moerun_status status = MOERUN_OK;
  double result = 0;
  const int divides =
      operation == '/' || operation == '%' || operation == OPERATION_FLOOR;
  MOERUN_REQUIRE(!divides || b != 0, MOERUN_ERR_INVALID, "division by zero");
  switch (operation) {
  case '+': result = a + b; break;
  case '-': result = a - b; break;
  case '*': result = a * b; break;
  case '/': result = a / b; break;
  case '%': result = floor_modulo(a, b); break;
  case OPERATION_FLOOR: {
    const double quotient = (a - floor_modulo(a, b)) / b;
    result = floor(quotient);
    if (quotient - result > 0.5) result += 1;
    break;
  }
  default:
    result = pow(a, b);
    MOERUN_REQUIRE(!isnan(result) && (a != 0 || b >= 0), MOERUN_ERR_INVALID,
                   "a power that is no real number");
    break;
  }
  *out = moerun__real(result);
done:
  return status;
}

/* ---- Sequences ----------------------------------------------------------- */

static moerun_status add_sequences(moerun__value *out, moerun__render *r,
                                   const moerun__value *a,
                                   const moerun__value *b) {
  moerun_status status = MOERUN_OK;
  const size_t x = a->sequence->count;
  const size_t y = b->sequence->count;
  MOERUN_TRY(moerun__render_spend(r, (x + y) / 8));
  MOERUN_TRY(moerun__values_make(out, &r->pool, a->kind, x + y));
  if (x > 0) {
    memcpy(out->sequence->at, a->sequence->at, x * sizeof(moerun__value));
  }
  if (y > 0) {
    memcpy(out->sequence->at + x, b->sequence->at, y * sizeof(moerun__value));
  }
  out->sequence->count = x + y;
done:
  return status;
}

static moerun_status add_texts(moerun__value *out, moerun__render *r,
                               const moerun__value *a, const moerun__value *b) {
  moerun_status status = MOERUN_OK;
  char *joined = NULL;
  const size_t x = a->text.count;
  const size_t y = b->text.count;
  MOERUN_TRY(moerun__render_spend(r, (x + y) / 64));
  MOERUN_TRY(moerun__pool_take(&r->pool, &joined, x + y));
  if (x > 0) memcpy(joined, a->text.bytes, x);
  if (y > 0) memcpy(joined + x, b->text.bytes, y);
  *out = moerun__borrowed_text(joined, x + y);
done:
  return status;
}

/* Beside a text that is safe, one that is not is escaped. */
static moerun_status add_any_texts(moerun__value *out, moerun__render *r,
                                   const moerun__value *a,
                                   const moerun__value *b) {
  moerun_status status = MOERUN_OK;
  moerun__value x = *a;
  moerun__value y = *b;
  const int safe = a->text.safe || b->text.safe;
  if (safe && !a->text.safe) MOERUN_TRY(moerun__escape(&x, r, a));
  if (safe && !b->text.safe) MOERUN_TRY(moerun__escape(&y, r, b));
  MOERUN_TRY(add_texts(out, r, &x, &y));
  out->text.safe = safe;
done:
  return status;
}

/* A text or list, many times over. */
static moerun_status repeat(moerun__value *out, moerun__render *r,
                            const moerun__value *whole, int64_t times) {
  moerun_status status = MOERUN_OK;
  const int is_text = whole->kind == VALUE_TEXT;
  const size_t size = is_text ? whole->text.count : whole->sequence->count;
  const size_t n = times > 0 && size > 0 ? (size_t)times : 0;
  MOERUN_REQUIRE(n == 0 || size <= ((size_t)1 << 40) / n,
                 MOERUN_ERR_UNSUPPORTED, "a text or list is repeated %zu times",
                 n);
  MOERUN_TRY(moerun__render_spend(r, size * n / (is_text ? 64 : 8)));
  if (is_text) {
    char *bytes = NULL;
    MOERUN_TRY(moerun__pool_take(&r->pool, &bytes, size * n));
    for (size_t i = 0; i < n; i++) {
      memcpy(bytes + i * size, whole->text.bytes, size);
    }
    *out = moerun__borrowed_text(bytes, size * n);
  } else {
    MOERUN_TRY(moerun__values_make(out, &r->pool, whole->kind, size * n));
    for (size_t i = 0; i < n; i++) {
      memcpy(out->sequence->at + i * size, whole->sequence->at,
             size * sizeof(moerun__value));
    }
    out->sequence->count = size * n;
  }
done:
  return status;
}

static int repeats(const moerun__value *value) {
  return value->kind == VALUE_TEXT || moerun__is_sequence(value);
}

moerun_status moerun__operate(moerun__value *out, moerun__render *r,
                              int operation, const moerun__value *a,
                              const moerun__value *b) {
  if (moerun__is_integral(a) && moerun__is_integral(b)) {
    return operate_integers(out, operation, moerun__integer_of(a),
                            moerun__integer_of(b));
  }
  if (moerun__is_number(a) && moerun__is_number(b)) {
    return operate_reals(out, operation, moerun__real_of(a),
                         moerun__real_of(b));
  }
  if (operation == '+' && a->kind == b->kind) {
    if (a->kind == VALUE_TEXT) return add_any_texts(out, r, a, b);
    if (moerun__is_sequence(a)) return add_sequences(out, r, a, b);
  }
  if (operation == '*' && repeats(a) && moerun__is_integral(b)) {
    return repeat(out, r, a, moerun__integer_of(b));
  }
  if (operation == '*' && repeats(b) && moerun__is_integral(a)) {
    return repeat(out, r, b, moerun__integer_of(a));
  }
  if (operation == '%' && a->kind == VALUE_TEXT) {
    return moerun__format_percent(out, r, a, b);
  }
  return no_operation(operation, a, b);
}

/* ---- Comparison ---------------------------------------------------------- */

static moerun_status text_contains(int *holds, moerun__render *r,
                                   const moerun__value *whole,
                                   const moerun__value *part) {
  moerun_status status = MOERUN_OK;
  moerun__text_search search;
  const char *at = NULL;
  *holds = 1;
  if (part->text.count == 0) goto done;
  MOERUN_TRY(moerun__search_begin(&search, r, whole, part, 0));
  MOERUN_TRY(moerun__search_next(&at, &search));
  *holds = at != NULL;
done:
  return status;
}

moerun_status moerun__contains(int *holds, moerun__render *r,
                               const moerun__value *whole,
                               const moerun__value *part) {
  moerun_status status = MOERUN_OK;
  const moerun__values *all = NULL;
  *holds = 0;
  if (whole->kind == VALUE_TEXT) {
    MOERUN_REQUIRE(part->kind == VALUE_TEXT, MOERUN_ERR_INVALID,
                   "expected a str in front of \"in\", found a %s",
                   moerun__kind_name(part));
    MOERUN_TRY(text_contains(holds, r, whole, part));
  } else if (whole->kind == VALUE_DICT) {
    MOERUN_REQUIRE(moerun__is_hashable(part), MOERUN_ERR_INVALID,
                   "a %s is no key", moerun__kind_name(part));
    MOERUN_TRY(moerun__render_look_up(r, whole->dict, part));
    *holds = moerun__dict_find(whole->dict, part) != NULL;
  } else {
    MOERUN_TRY(moerun__elements(&all, r, whole));
    for (size_t i = 0; !*holds && i < all->count; i++) {
      MOERUN_TRY(moerun__value_equal(holds, &all->at[i], part, 0, &r->steps));
    }
  }
done:
  return status;
}

moerun_status moerun__compare(int *holds, moerun__render *r, int operation,
                              const moerun__value *a, const moerun__value *b) {
  moerun_status status = MOERUN_OK;
  int order = 0;
  switch (operation) {
  case OPERATION_EQUAL:
  case OPERATION_UNEQUAL:
    MOERUN_TRY(moerun__value_equal(holds, a, b, 0, &r->steps));
    *holds ^= operation == OPERATION_UNEQUAL;
    goto done;
  case OPERATION_IN:
  case OPERATION_NOT_IN:
    MOERUN_TRY(moerun__contains(holds, r, b, a));
    *holds ^= operation == OPERATION_NOT_IN;
    goto done;
  default: break;
  }
  MOERUN_TRY(moerun__value_compare(&order, a, b, 0, &r->steps));
  *holds = operation == OPERATION_LESS      ? order < 0
           : operation == OPERATION_AT_MOST ? order <= 0
           : operation == OPERATION_GREATER ? order > 0
                                            : order >= 0;
done:
  return status;
}
