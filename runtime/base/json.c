#include "runtime/base/json.h"

#include "runtime/base/file.h"
#include "runtime/base/foreign.h"
#include "runtime/base/memory.h"
#include "runtime/base/text.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PLACE_BYTES = 64 };

const char *moerun__json_kind(const json_t *value) {
  if (value == NULL) return "nothing";
  switch (json_typeof(value)) {
  case JSON_OBJECT: return "an object";
  case JSON_ARRAY: return "an array";
  case JSON_STRING: return "a string";
  case JSON_INTEGER: return "an integer";
  case JSON_REAL:
    return fabs(json_real_value(value)) < 9.2e18 ? "a real number"
                                                 : "a number beyond 64 bits";
  case JSON_TRUE:
  case JSON_FALSE: return "a boolean";
  case JSON_NULL: return "null";
  }
  return "an unknown value";
}

static int is_of_real(char c) {
  return (c >= '0' && c <= '9') || c == '.' || c == 'e' || c == 'E' ||
         c == '+' || c == '-';
}

/* Digits of the integer that begins at text[at], its sign excluded; 0 if it is
 * none or goes on as a real number. */
static size_t integer_digits(const char *text, size_t bytes, size_t at) {
  size_t end = at;
  while (end < bytes && text[end] >= '0' && text[end] <= '9') {
    end++;
  }
  const int is_real =
      end < bytes && (text[end] == '.' || text[end] == 'e' || text[end] == 'E');
  return is_real ? 0 : end - at;
}

/* Whether the integer of so many digits at text[at] fits 64 bits. */
static int fits(const char *text, size_t at, size_t digits) {
  enum { SURE = 18, MOST = 19 };
  char number[MOST + 2];
  const int is_negative = at > 0 && text[at - 1] == '-';
  if (digits <= SURE || digits > MOST) return digits <= SURE;
  (void)snprintf(number, sizeof number, "%s%.*s", is_negative ? "-" : "",
                 (int)digits, text + at);
  errno = 0;
  (void)strtoll(number, NULL, 10);
  return errno == 0;
}

/* A copy of the text in which integers beyond 64 bits, such as transformers'
 * model_max_length of 1e30, are real numbers: ".0" behind them. */
static moerun_status widen_integers(moerun__text *out, const char *text,
                                    size_t bytes) {
  moerun_status status = MOERUN_OK;
  int in_string = 0;
  size_t from = 0; /* of what is not copied yet */
  size_t at = 0;
  while (at < bytes) {
    const char c = text[at];
    if (in_string) {
      in_string = c != '"';
      at += c == '\\' ? 2 : 1;
      continue;
    }
    in_string = c == '"';
    if (c < '0' || c > '9') {
      at++;
      continue;
    }
    const size_t digits = integer_digits(text, bytes, at);
    const int is_wide = digits > 0 && !fits(text, at, digits);
    at += digits;
    while (digits == 0 && at < bytes && is_of_real(text[at])) {
      at++;
    }
    if (!is_wide) continue;
    MOERUN_TRY(moerun__text_append(out, text + from, at - from));
    MOERUN_TRY(moerun__text_append(out, ".0", 2));
    from = at;
  }
  MOERUN_TRY(moerun__text_append(out, text + from, bytes - from));
done:
  return status;
}

/* "line 2, column 5"; of a text that is one line of a file, which `origin`
 * names, the column alone. */
static void print_place(char out[PLACE_BYTES], const json_error_t *error,
                        const char *text, size_t bytes, const char *origin) {
  const char *colon = strrchr(origin, ':');
  const int is_of_line = memchr(text, '\n', bytes) == NULL && colon != NULL &&
                         colon[1] != '\0' &&
                         colon[1 + strspn(colon + 1, "0123456789")] == '\0';
  if (is_of_line) {
    (void)snprintf(out, PLACE_BYTES, "column %d", error->column);
  } else {
    (void)snprintf(out, PLACE_BYTES, "line %d, column %d", error->line,
                   error->column);
  }
}

moerun_status moerun__json_parse(json_t **out, const char *text, size_t bytes,
                                 const char *origin) {
  moerun_status status = MOERUN_OK;
  json_error_t error = {0}; /* not all of it is set where memory runs out */
  moerun__text wide = {0};
  char foreign[MOERUN_FOREIGN_TEXT] = "";
  char place[PLACE_BYTES];
  const size_t mark = moerun__byte_order_mark(text, bytes);
  text += mark;
  bytes -= mark;
  *out = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
  if (*out == NULL && json_error_code(&error) == json_error_numeric_overflow) {
    MOERUN_TRY(widen_integers(&wide, text, bytes));
    *out = json_loadb(wide.bytes, wide.count, JSON_REJECT_DUPLICATES, &error);
  }
  /* Jansson often has no code and no text for a failed allocation. */
  MOERUN_REQUIRE(
      *out != NULL || (error.text[0] != '\0' &&
                       json_error_code(&error) != json_error_out_of_memory),
      MOERUN_ERR_NOMEM, "%s: out of memory while reading JSON", origin);
  MOERUN_REQUIRE(*out != NULL || !moerun__foreign_name(foreign, text, bytes),
                 MOERUN_ERR_FORMAT, "%s: expected JSON, found %s", origin,
                 foreign);
  print_place(place, &error, text, bytes, origin);
  const char *nul = memchr(text, '\0', bytes);
  MOERUN_REQUIRE(*out != NULL || nul == NULL, MOERUN_ERR_FORMAT,
                 "%s: expected JSON, which has no byte of 0, found one after "
                 "%zu others",
                 origin, mark + (size_t)(nul - text));
  MOERUN_REQUIRE(*out != NULL ||
                     json_error_code(&error) != json_error_null_character,
                 MOERUN_ERR_FORMAT,
                 "%s: %s: expected texts without a NUL "
                 "character, found \\u0000",
                 origin, place);
  MOERUN_REQUIRE(*out != NULL, MOERUN_ERR_FORMAT, "%s: %s: not valid JSON: %s",
                 origin, place, error.text);
done:
  moerun__text_clear(&wide);
  return status;
}

moerun_status moerun__json_load(json_t **out, const char *path,
                                size_t limit_bytes) {
  moerun_status status = MOERUN_OK;
  char *text = NULL;
  size_t bytes = 0;
  *out = NULL;
  MOERUN_TRY(moerun__file_read(&text, &bytes, path, limit_bytes));
  MOERUN_TRY(moerun__json_parse(out, text, bytes, path));
  MOERUN_REQUIRE(json_is_object(*out), MOERUN_ERR_FORMAT,
                 "%s: expected a JSON object, found %s", path,
                 moerun__json_kind(*out));
done:
  moerun__free(text);
  if (status != MOERUN_OK) {
    json_decref(*out);
    *out = NULL;
  }
  return status;
}

/* The member, or NULL for a missing one or null. */
static json_t *member(const json_t *object, const char *key) {
  json_t *value = json_object_get(object, key);
  return json_is_null(value) ? NULL : value;
}

moerun_status moerun__json_int(int64_t *out, const json_t *object,
                               const char *key, int64_t low, int64_t high,
                               const int64_t *fallback, const char *origin) {
  moerun_status status = MOERUN_OK;
  const json_t *value = member(object, key);
  if (value == NULL && fallback != NULL) {
    *out = *fallback;
    goto done;
  }
  const double real = json_real_value(value);
  MOERUN_REQUIRE(real > -9.2e18 && real < 9.2e18, MOERUN_ERR_FORMAT,
                 "%s: key \"%s\": expected %lld to %lld, found %g", origin, key,
                 (long long)low, (long long)high, real); /* a wide integer */
  MOERUN_REQUIRE(json_is_integer(value), MOERUN_ERR_FORMAT,
                 "%s: key \"%s\": expected an integer, found %s", origin, key,
                 moerun__json_kind(value));
  *out = (int64_t)json_integer_value(value);
  MOERUN_REQUIRE(*out >= low && *out <= high, MOERUN_ERR_FORMAT,
                 "%s: key \"%s\": expected %lld to %lld, found %lld", origin,
                 key, (long long)low, (long long)high, (long long)*out);
done:
  return status;
}

moerun_status moerun__json_double(double *out, const json_t *object,
                                  const char *key, double low, double high,
                                  const double *fallback, const char *origin) {
  moerun_status status = MOERUN_OK;
  char least[MOERUN_NUMBER_TEXT];
  char most[MOERUN_NUMBER_TEXT];
  char found[MOERUN_NUMBER_TEXT];
  const json_t *value = member(object, key);
  if (value == NULL && fallback != NULL) {
    *out = *fallback;
    goto done;
  }
  MOERUN_REQUIRE(json_is_number(value), MOERUN_ERR_FORMAT,
                 "%s: key \"%s\": expected a number, found %s", origin, key,
                 moerun__json_kind(value));
  /* Minus zero becomes zero: what is digested has one spelling. */
  *out = json_number_value(value) + 0.0;
  MOERUN_REQUIRE(*out >= low && *out <= high, MOERUN_ERR_FORMAT,
                 "%s: key \"%s\": expected %s%s%s, found %s", origin, key,
                 moerun__number_text(least, low),
                 isinf(high) ? " or more" : " to ",
                 isinf(high) ? "" : moerun__number_text(most, high),
                 moerun__number_text(found, *out));
done:
  return status;
}

moerun_status moerun__json_bool(int *out, const json_t *object, const char *key,
                                const int *fallback, const char *origin) {
  moerun_status status = MOERUN_OK;
  const json_t *value = member(object, key);
  if (value == NULL && fallback != NULL) {
    *out = *fallback;
    goto done;
  }
  MOERUN_REQUIRE(json_is_boolean(value), MOERUN_ERR_FORMAT,
                 "%s: key \"%s\": expected true or false, found %s", origin,
                 key, moerun__json_kind(value));
  *out = json_is_true(value);
done:
  return status;
}

moerun_status moerun__json_text(const char **out, const json_t *object,
                                const char *key, int required,
                                const char *origin) {
  moerun_status status = MOERUN_OK;
  const json_t *value = member(object, key);
  *out = NULL;
  if (value == NULL && !required) goto done;
  MOERUN_REQUIRE(json_is_string(value), MOERUN_ERR_FORMAT,
                 "%s: key \"%s\": expected a string, found %s", origin, key,
                 moerun__json_kind(value));
  *out = json_string_value(value);
done:
  return status;
}

moerun_status moerun__json_name(const char **out, const json_t *object,
                                const char *key, const char *origin) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__json_text(out, object, key, 1, origin));
  MOERUN_REQUIRE(strlen(*out) <= MOERUN_NAME_BYTES, MOERUN_ERR_FORMAT,
                 "%s: key \"%s\": expected a name of at most %d bytes, found "
                 "%zu",
                 origin, key, MOERUN_NAME_BYTES, strlen(*out));
done:
  return status;
}

moerun_status moerun__json_array(json_t **out, const json_t *object,
                                 const char *key, const char *origin) {
  moerun_status status = MOERUN_OK;
  *out = member(object, key);
  MOERUN_REQUIRE(json_is_array(*out), MOERUN_ERR_FORMAT,
                 "%s: key \"%s\": expected an array, found %s", origin, key,
                 moerun__json_kind(*out));
done:
  return status;
}

moerun_status moerun__json_object(json_t **out, const json_t *object,
                                  const char *key, const char *origin) {
  moerun_status status = MOERUN_OK;
  *out = member(object, key);
  MOERUN_REQUIRE(json_is_object(*out), MOERUN_ERR_FORMAT,
                 "%s: key \"%s\": expected an object, found %s", origin, key,
                 moerun__json_kind(*out));
done:
  return status;
}
