#include "runtime/base/json.h"

#include "runtime/base/file.h"
#include "runtime/base/memory.h"

#include <string.h>

const char *moerun__json_kind(const json_t *value) {
  if (value == NULL) return "nothing";
  switch (json_typeof(value)) {
  case JSON_OBJECT: return "an object";
  case JSON_ARRAY: return "an array";
  case JSON_STRING: return "a string";
  case JSON_INTEGER: return "an integer";
  case JSON_REAL: return "a real number";
  case JSON_TRUE:
  case JSON_FALSE: return "a boolean";
  case JSON_NULL: return "null";
  }
  return "an unknown value";
}

moerun_status moerun__json_parse(json_t **out, const char *text, size_t bytes,
                                 const char *origin) {
  moerun_status status = MOERUN_OK;
  json_error_t error;
  *out = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
  /* Jansson often has no code and no text for a failed allocation. */
  MOERUN_REQUIRE(
      *out != NULL || (error.text[0] != '\0' &&
                       json_error_code(&error) != json_error_out_of_memory),
      MOERUN_ERR_NOMEM, "%s: out of memory while reading JSON", origin);
  MOERUN_REQUIRE(*out != NULL, MOERUN_ERR_FORMAT,
                 "%s: line %d, column %d: not valid JSON: %s", origin,
                 error.line, error.column, error.text);
done:
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
  const json_t *value = member(object, key);
  if (value == NULL && fallback != NULL) {
    *out = *fallback;
    goto done;
  }
  MOERUN_REQUIRE(json_is_number(value), MOERUN_ERR_FORMAT,
                 "%s: key \"%s\": expected a number, found %s", origin, key,
                 moerun__json_kind(value));
  *out = json_number_value(value);
  MOERUN_REQUIRE(*out >= low && *out <= high, MOERUN_ERR_FORMAT,
                 "%s: key \"%s\": expected %g to %g, found %g", origin, key,
                 low, high, *out);
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
