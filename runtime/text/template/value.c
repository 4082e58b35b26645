/* What values are made of and how they compare. A mapping is a list of pairs in
 * the order of insertion: those of messages and tools have a handful of
 * keys. */
#include "runtime/text/template/value.h"

#include <math.h>
#include <string.h>

int moerun__value_is(const moerun__value *value, const char *text) {
  return value->kind == VALUE_TEXT && value->text.count == strlen(text) &&
         memcmp(value->text.bytes, text, value->text.count) == 0;
}

int moerun__is_hashable(const moerun__value *value) {
  switch (value->kind) {
  case VALUE_LIST:
  case VALUE_DICT:
  case VALUE_ABSENT: return 0;
  case VALUE_TUPLE:
    for (size_t i = 0; i < value->sequence->count; i++) {
      /* Tuples of tuples are no keys here. */
      if (value->sequence->at[i].kind == VALUE_TUPLE ||
          !moerun__is_hashable(&value->sequence->at[i])) {
        return 0;
      }
    }
    return 1;
  default: return 1;
  }
}

const char *moerun__kind_name(const moerun__value *value) {
  static const char *const names[VALUE_KINDS] = {
      [VALUE_ABSENT] = "nothing",     [VALUE_UNDEFINED] = "undefined",
      [VALUE_NONE] = "None",          [VALUE_BOOL] = "bool",
      [VALUE_INTEGER] = "int",        [VALUE_REAL] = "float",
      [VALUE_TEXT] = "str",           [VALUE_LIST] = "list",
      [VALUE_TUPLE] = "tuple",        [VALUE_VIEW] = "dict view",
      [VALUE_ITERATOR] = "generator", [VALUE_RANGE] = "range",
      [VALUE_DICT] = "dict",          [VALUE_NAMESPACE] = "namespace",
      [VALUE_MACRO] = "macro",        [VALUE_FUNCTION] = "function",
      [VALUE_METHOD] = "method",      [VALUE_LOOP] = "loop",
      [VALUE_JOINER] = "joiner",
  };
  return names[value->kind];
}

int moerun__is_true(const moerun__value *value) {
  switch (value->kind) {
  case VALUE_ABSENT:
  case VALUE_UNDEFINED:
  case VALUE_NONE: return 0;
  case VALUE_BOOL: return value->truth;
  case VALUE_INTEGER: return value->integer != 0;
  case VALUE_REAL: return value->real != 0;
  case VALUE_TEXT: return value->text.count > 0;
  case VALUE_LIST:
  case VALUE_TUPLE:
  case VALUE_VIEW: return value->sequence->count > 0;
  case VALUE_RANGE: return value->range->count > 0;
  case VALUE_DICT: return value->dict->count > 0;
  default: return 1;
  }
}

moerun_status moerun__text_value(moerun__value *out, moerun__pool *pool,
                                 const char *bytes, size_t count) {
  moerun_status status = MOERUN_OK;
  char *copy = NULL;
  MOERUN_TRY(moerun__pool_take(pool, &copy, count));
  if (count > 0) memcpy(copy, bytes, count);
  *out = moerun__borrowed_text(copy, count);
done:
  return status;
}

moerun_status moerun__values_make(moerun__value *out, moerun__pool *pool,
                                  moerun__value_kind kind, size_t room) {
  moerun_status status = MOERUN_OK;
  moerun__values *sequence = NULL;
  MOERUN_TRY(moerun__pool_take(pool, &sequence, sizeof *sequence));
  if (room > 0) {
    MOERUN_REQUIRE(room < SIZE_MAX / 64, MOERUN_ERR_NOMEM,
                   "out of memory: a list of %zu values", room);
    MOERUN_TRY(
        moerun__pool_take(pool, &sequence->at, room * sizeof *sequence->at));
  }
  sequence->room = room;
  *out = (moerun__value){.kind = kind, .sequence = sequence};
done:
  return status;
}

moerun_status moerun__values_append(moerun__values *sequence,
                                    moerun__pool *pool,
                                    const moerun__value *value) {
  moerun_status status = MOERUN_OK;
  if (sequence->count == sequence->room) {
    moerun__value *larger = NULL;
    const size_t room = sequence->room * 2 + 4;
    MOERUN_TRY(moerun__pool_take(pool, &larger, room * sizeof *larger));
    if (sequence->count > 0) {
      memcpy(larger, sequence->at, sequence->count * sizeof *larger);
    }
    sequence->at = larger;
    sequence->room = room;
  }
  sequence->at[sequence->count++] = *value;
done:
  return status;
}

moerun_status moerun__pair_value(moerun__value *out, moerun__pool *pool,
                                 const moerun__value *first,
                                 const moerun__value *second) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__values_make(out, pool, VALUE_TUPLE, 2));
  out->sequence->at[0] = *first;
  out->sequence->at[1] = *second;
  out->sequence->count = 2;
done:
  return status;
}

moerun_status moerun__dict_value(moerun__value *out, moerun__pool *pool,
                                 moerun__value_kind kind, size_t room) {
  moerun_status status = MOERUN_OK;
  moerun__dict *dict = NULL;
  MOERUN_TRY(moerun__pool_take(pool, &dict, sizeof *dict));
  if (room > 0) {
    MOERUN_TRY(moerun__pool_take(pool, &dict->at, room * sizeof *dict->at));
  }
  dict->room = room;
  *out = (moerun__value){.kind = kind, .dict = dict};
done:
  return status;
}

moerun__value *moerun__dict_find(const moerun__dict *dict,
                                 const moerun__value *key) {
  for (size_t i = 0; i < dict->count; i++) {
    int equal = 0;
    const moerun__value *other = &dict->at[i].key;
    if (key->kind == VALUE_TEXT && other->kind == VALUE_TEXT) {
      equal = key->text.count == other->text.count &&
              memcmp(key->text.bytes, other->text.bytes, key->text.count) == 0;
    } else if (moerun__value_equal(&equal, key, other, 0, NULL) != MOERUN_OK) {
      equal = 0; /* keys are hashable, and those are not deep */
    }
    if (equal) return &dict->at[i].value;
  }
  return NULL;
}

static moerun_status dict_append(moerun__dict *dict, moerun__pool *pool,
                                 const moerun__value *key,
                                 const moerun__value *value) {
  moerun_status status = MOERUN_OK;
  if (dict->count == dict->room) {
    moerun__pair *larger = NULL;
    const size_t room = dict->room * 2 + 4;
    MOERUN_TRY(moerun__pool_take(pool, &larger, room * sizeof *larger));
    if (dict->count > 0) memcpy(larger, dict->at, dict->count * sizeof *larger);
    dict->at = larger;
    dict->room = room;
  }
  dict->at[dict->count++] = (moerun__pair){*key, *value};
done:
  return status;
}

moerun_status moerun__dict_set(moerun__dict *dict, moerun__pool *pool,
                               const moerun__value *key,
                               const moerun__value *value) {
  moerun__value *found = moerun__dict_find(dict, key);
  if (found == NULL) return dict_append(dict, pool, key, value);
  *found = *value;
  return MOERUN_OK;
}

/* ---- JSON ---------------------------------------------------------------- */

static moerun_status from_json(moerun__value *out, moerun__pool *pool,
                               const json_t *json, int depth) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(depth < MOERUN_VALUE_DEPTH, MOERUN_ERR_UNSUPPORTED,
                 "a chat template's variables are nested more than %d deep",
                 MOERUN_VALUE_DEPTH);
  switch (json_typeof(json)) {
  case JSON_OBJECT: {
    const char *key = NULL;
    json_t *member = NULL;
    MOERUN_TRY(
        moerun__dict_value(out, pool, VALUE_DICT, json_object_size(json)));
    json_object_foreach((json_t *)json, key, member) {
      const moerun__value name = moerun__borrowed_text(key, strlen(key));
      moerun__value value;
      MOERUN_TRY(from_json(&value, pool, member, depth + 1));
      /* The keys of an object are all different. */
      MOERUN_TRY(dict_append(out->dict, pool, &name, &value));
    }
    break;
  }
  case JSON_ARRAY:
    MOERUN_TRY(
        moerun__values_make(out, pool, VALUE_LIST, json_array_size(json)));
    for (size_t i = 0; i < json_array_size(json); i++) {
      MOERUN_TRY(from_json(&out->sequence->at[i], pool, json_array_get(json, i),
                           depth + 1));
      out->sequence->count++;
    }
    break;
  case JSON_STRING:
    *out = moerun__borrowed_text(json_string_value(json),
                                 json_string_length(json));
    break;
  case JSON_INTEGER: *out = moerun__integer(json_integer_value(json)); break;
  case JSON_REAL: *out = moerun__real(json_real_value(json)); break;
  case JSON_TRUE: *out = moerun__truth(1); break;
  case JSON_FALSE: *out = moerun__truth(0); break;
  case JSON_NULL: *out = moerun__none(); break;
  }
done:
  return status;
}

moerun_status moerun__json_value(moerun__value *out, moerun__pool *pool,
                                 const json_t *json) {
  return from_json(out, pool, json, 0);
}

/* ---- Comparison ---------------------------------------------------------- */

static int numbers_order(int *unordered, const moerun__value *a,
                         const moerun__value *b) {
  *unordered = 0;
  if (moerun__is_integral(a) && moerun__is_integral(b)) {
    const int64_t x = moerun__integer_of(a);
    const int64_t y = moerun__integer_of(b);
    return (x > y) - (x < y);
  }
  const double x = moerun__real_of(a);
  const double y = moerun__real_of(b);
  *unordered = isnan(x) || isnan(y);
  return (x > y) - (x < y);
}

static size_t shared_bytes(const moerun__value *a, const moerun__value *b) {
  if (a->kind != VALUE_TEXT || b->kind != VALUE_TEXT) return 0;
  return a->text.count < b->text.count ? a->text.count : b->text.count;
}

static int texts_order(const moerun__value *a, const moerun__value *b) {
  const size_t x = a->text.count;
  const size_t y = b->text.count;
  const size_t least = shared_bytes(a, b);
  const int order = least > 0 ? memcmp(a->text.bytes, b->text.bytes, least) : 0;
  return order != 0 ? order : (x > y) - (x < y);
}

/* `bytes` of texts are compared, beside values that are `depth` deep. */
static moerun_status spend(int depth, size_t bytes, int64_t *steps) {
  moerun_status status = MOERUN_OK;
  const int64_t work = 1 + (int64_t)(bytes / 64);
  MOERUN_REQUIRE(depth < MOERUN_VALUE_DEPTH, MOERUN_ERR_UNSUPPORTED,
                 "values nested more than %d deep are compared",
                 MOERUN_VALUE_DEPTH);
  if (steps == NULL) goto done;
  MOERUN_REQUIRE(*steps >= work, MOERUN_ERR_UNSUPPORTED,
                 "the template takes too many steps to compare values");
  *steps -= work;
done:
  return status;
}

static moerun_status dicts_equal(int *equal, const moerun__dict *a,
                                 const moerun__dict *b, int depth,
                                 int64_t *steps) {
  moerun_status status = MOERUN_OK;
  *equal = a->count == b->count;
  for (size_t i = 0; *equal && i < a->count; i++) {
    const moerun__value *other = moerun__dict_find(b, &a->at[i].key);
    *equal = other != NULL;
    if (*equal) {
      MOERUN_TRY(
          moerun__value_equal(equal, &a->at[i].value, other, depth + 1, steps));
    }
  }
done:
  return status;
}

static moerun_status sequences_equal(int *equal, const moerun__values *a,
                                     const moerun__values *b, int depth,
                                     int64_t *steps) {
  moerun_status status = MOERUN_OK;
  *equal = a->count == b->count;
  for (size_t i = 0; *equal && i < a->count; i++) {
    MOERUN_TRY(
        moerun__value_equal(equal, &a->at[i], &b->at[i], depth + 1, steps));
  }
done:
  return status;
}

moerun_status moerun__value_equal(int *equal, const moerun__value *a,
                                  const moerun__value *b, int depth,
                                  int64_t *steps) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(spend(depth, shared_bytes(a, b), steps));
  *equal = 0;
  if (moerun__is_number(a) && moerun__is_number(b)) {
    int unordered = 0;
    *equal = numbers_order(&unordered, a, b) == 0 && !unordered;
  } else if (a->kind != b->kind) {
    goto done;
  } else if (a->kind == VALUE_TEXT) {
    *equal = texts_order(a, b) == 0;
  } else if (moerun__is_sequence(a)) {
    MOERUN_TRY(sequences_equal(equal, a->sequence, b->sequence, depth, steps));
  } else if (a->kind == VALUE_DICT) {
    MOERUN_TRY(dicts_equal(equal, a->dict, b->dict, depth, steps));
  } else if (a->kind == VALUE_RANGE) {
    *equal = a->range->count == b->range->count &&
             (a->range->count == 0 ||
              (a->range->start == b->range->start &&
               (a->range->count == 1 || a->range->step == b->range->step)));
  } else if (a->kind == VALUE_UNDEFINED || a->kind == VALUE_NONE) {
    *equal = 1;
  } else {
    *equal = a->loop == b->loop; /* any pointer of the union */
  }
done:
  return status;
}

moerun_status moerun__value_compare(int *order, const moerun__value *a,
                                    const moerun__value *b, int depth,
                                    int64_t *steps) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(spend(depth, shared_bytes(a, b), steps));
  if (moerun__is_number(a) && moerun__is_number(b)) {
    int unordered = 0;
    *order = numbers_order(&unordered, a, b);
    MOERUN_REQUIRE(!unordered, MOERUN_ERR_UNSUPPORTED,
                   "a value that is no number is compared");
    goto done;
  }
  MOERUN_REQUIRE(a->kind == b->kind &&
                     (a->kind == VALUE_TEXT || moerun__is_sequence(a)),
                 MOERUN_ERR_INVALID, "%s and %s have no order",
                 moerun__kind_name(a), moerun__kind_name(b));
  if (a->kind == VALUE_TEXT) {
    *order = texts_order(a, b);
    goto done;
  }
  const size_t x = a->sequence->count;
  const size_t y = b->sequence->count;
  for (size_t i = 0; i < x && i < y; i++) {
    const moerun__value *p = &a->sequence->at[i];
    const moerun__value *q = &b->sequence->at[i];
    int equal = 0;
    MOERUN_TRY(moerun__value_equal(&equal, p, q, depth + 1, steps));
    if (!equal) {
      MOERUN_TRY(moerun__value_compare(order, p, q, depth + 1, steps));
      goto done;
    }
  }
  *order = (x > y) - (x < y);
done:
  return status;
}
