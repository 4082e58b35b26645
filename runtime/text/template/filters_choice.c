/* Filters that look at each item: map, select and their like, with the paths to
 * members that they take; default and attr. */
#include "runtime/text/template/member_path.h"

#include <string.h>

static moerun_status index_of(moerun__value *out, moerun__render *r,
                              const char *part, size_t length) {
  moerun_status status = MOERUN_OK;
  int64_t number = 0;
  int digits = length > 0 && length < 18;
  (void)r;
  for (size_t i = 0; digits && i < length; i++) {
    digits = part[i] >= '0' && part[i] <= '9';
    number = number * 10 + (part[i] - '0');
  }
  *out = digits ? moerun__integer(number) : moerun__borrowed_text(part, length);
  return status;
}

moerun_status moerun__member_at(moerun__value *out, moerun__render *r,
                                const moerun__value *value,
                                const moerun__value *path) {
  moerun_status status = MOERUN_OK;
  moerun__value at = *value;
  if (path->kind != VALUE_TEXT) {
    MOERUN_REQUIRE(path->kind == VALUE_INTEGER, MOERUN_ERR_INVALID,
                   "expected a name or number as attribute, found a %s",
                   moerun__kind_name(path));
    MOERUN_TRY(moerun__item(out, r, value, path));
    goto done;
  }
  const char *part = path->text.bytes;
  const char *const end = part + path->text.count;
  for (int more = 1; more;) {
    const char *dot =
        part < end ? memchr(part, '.', (size_t)(end - part)) : NULL;
    const char *stop = dot != NULL ? dot : end;
    moerun__value index;
    moerun__value member;
    MOERUN_TRY(index_of(&index, r, part, (size_t)(stop - part)));
    MOERUN_TRY(moerun__item(&member, r, &at, &index));
    at = member;
    more = dot != NULL;
    part = stop + 1;
  }
  *out = at;
done:
  return status;
}

/* A name of a filter or test among the arguments, as a string. */
static moerun_status name_of(const char **out, moerun__render *r,
                             const moerun__value *value) {
  moerun_status status = MOERUN_OK;
  char *name = NULL;
  MOERUN_TRY(moerun__want_text(value, "the name of a filter or test"));
  MOERUN_TRY(moerun__pool_take(&r->pool, &name, value->text.count + 1));
  if (value->text.count > 0) {
    memcpy(name, value->text.bytes, value->text.count);
  }
  *out = name;
done:
  return status;
}

/* What is given behind the first `skipped` arguments. */
static moerun__arguments rest_of(const moerun__arguments *given,
                                 size_t skipped) {
  moerun__arguments rest = *given;
  rest.at = given->count > skipped ? given->at + skipped : NULL;
  rest.count = given->count > skipped ? given->count - skipped : 0;
  return rest;
}

static moerun_status map_member(moerun__value *out, moerun__render *r,
                                const moerun__values *all,
                                const moerun__arguments *given) {
  moerun_status status = MOERUN_OK;
  const moerun__value *path = NULL;
  const moerun__value *fallback = NULL;
  for (size_t i = 0; i < given->named_count; i++) {
    const moerun__named *named = &given->named[i];
    if (moerun__value_is(&named->name, "attribute")) {
      path = &named->value;
    } else {
      MOERUN_REQUIRE(moerun__value_is(&named->name, "default"),
                     MOERUN_ERR_INVALID, "map takes no argument \"%.*s\"",
                     moerun__shown_bytes(&named->name), named->name.text.bytes);
      fallback = &named->value;
    }
  }
  MOERUN_REQUIRE(path != NULL, MOERUN_ERR_INVALID,
                 "map needs a filter or an attribute");
  for (size_t i = 0; i < all->count; i++) {
    moerun__value item;
    MOERUN_TRY(moerun__member_at(&item, r, &all->at[i], path));
    if (item.kind == VALUE_UNDEFINED && fallback != NULL &&
        fallback->kind != VALUE_NONE) {
      item = *fallback;
    }
    MOERUN_TRY(moerun__values_append(out->sequence, &r->pool, &item));
  }
done:
  return status;
}

static moerun_status filter_map(moerun__value *out, moerun__render *r,
                                const moerun__value *subject,
                                const moerun__value *a,
                                const moerun__arguments *given) {
  moerun_status status = MOERUN_OK;
  const moerun__values *all = NULL;
  const char *name = NULL;
  (void)a;
  MOERUN_TRY(moerun__values_make(out, &r->pool, VALUE_ITERATOR, 0));
  if (!moerun__is_true(subject)) goto done; /* None too, as in Jinja */
  MOERUN_TRY(moerun__elements(&all, r, subject));
  if (given->count == 0) {
    MOERUN_TRY(map_member(out, r, all, given));
    goto done;
  }
  MOERUN_TRY(name_of(&name, r, &given->at[0]));
  const moerun__builtin *filter = moerun__filter_find(name);
  const moerun__arguments rest = rest_of(given, 1);
  MOERUN_REQUIRE(filter != NULL, MOERUN_ERR_UNSUPPORTED,
                 "the filter \"%.40s\" is not known", name);
  for (size_t i = 0; i < all->count; i++) {
    moerun__value item;
    MOERUN_TRY(
        moerun__builtin_apply(&item, r, filter, "filter", &all->at[i], &rest));
    MOERUN_TRY(moerun__values_append(out->sequence, &r->pool, &item));
  }
done:
  return status;
}

/* The items that are `wanted` by a test, or by their truth; by_member: it is a
 * member of each item that is looked at, and the first argument says which. */
static moerun_status select_items(moerun__value *out, moerun__render *r,
                                  const moerun__value *subject,
                                  const moerun__arguments *given, int by_member,
                                  int wanted) {
  moerun_status status = MOERUN_OK;
  const moerun__values *all = NULL;
  const moerun__builtin *test = NULL;
  const char *name = NULL;
  const size_t first = by_member ? 1 : 0;
  const moerun__arguments rest = rest_of(given, first + 1);
  MOERUN_TRY(moerun__values_make(out, &r->pool, VALUE_ITERATOR, 0));
  if (!moerun__is_true(subject)) goto done; /* None too, as in Jinja */
  MOERUN_REQUIRE(given->count >= first, MOERUN_ERR_INVALID,
                 "the name of an attribute is missing");
  if (given->count > first) {
    MOERUN_TRY(name_of(&name, r, &given->at[first]));
    test = moerun__test_find(name);
    MOERUN_REQUIRE(test != NULL, MOERUN_ERR_UNSUPPORTED,
                   "the test \"%.40s\" is not known", name);
  }
  MOERUN_TRY(moerun__elements(&all, r, subject));
  for (size_t i = 0; i < all->count; i++) {
    moerun__value looked_at = all->at[i];
    moerun__value verdict;
    if (by_member) {
      MOERUN_TRY(moerun__member_at(&looked_at, r, &all->at[i], &given->at[0]));
    }
    verdict = looked_at;
    if (test != NULL) {
      MOERUN_TRY(
          moerun__builtin_apply(&verdict, r, test, "test", &looked_at, &rest));
    }
    if (moerun__is_true(&verdict) == wanted) {
      MOERUN_TRY(moerun__values_append(out->sequence, &r->pool, &all->at[i]));
    }
  }
done:
  return status;
}

static moerun_status filter_select(moerun__value *out, moerun__render *r,
                                   const moerun__value *subject,
                                   const moerun__value *a,
                                   const moerun__arguments *given) {
  (void)a;
  return select_items(out, r, subject, given, 0, 1);
}

static moerun_status filter_reject(moerun__value *out, moerun__render *r,
                                   const moerun__value *subject,
                                   const moerun__value *a,
                                   const moerun__arguments *given) {
  (void)a;
  return select_items(out, r, subject, given, 0, 0);
}

static moerun_status filter_selectattr(moerun__value *out, moerun__render *r,
                                       const moerun__value *subject,
                                       const moerun__value *a,
                                       const moerun__arguments *given) {
  (void)a;
  return select_items(out, r, subject, given, 1, 1);
}

static moerun_status filter_rejectattr(moerun__value *out, moerun__render *r,
                                       const moerun__value *subject,
                                       const moerun__value *a,
                                       const moerun__arguments *given) {
  (void)a;
  return select_items(out, r, subject, given, 1, 0);
}

static moerun_status filter_default(moerun__value *out, moerun__render *r,
                                    const moerun__value *subject,
                                    const moerun__value *a,
                                    const moerun__arguments *given) {
  (void)r;
  (void)given;
  *out = *subject;
  if (subject->kind == VALUE_UNDEFINED ||
      (moerun__is_true(&a[1]) && !moerun__is_true(subject))) {
    *out = a[0].kind != VALUE_ABSENT ? a[0] : moerun__borrowed_text("", 0);
  }
  return MOERUN_OK;
}

static moerun_status filter_attr(moerun__value *out, moerun__render *r,
                                 const moerun__value *subject,
                                 const moerun__value *a,
                                 const moerun__arguments *given) {
  moerun_status status = MOERUN_OK;
  const char *name = NULL;
  (void)given;
  MOERUN_TRY(name_of(&name, r, &a[0]));
  if (subject->kind == VALUE_DICT) { /* its items are no attributes */
    const moerun__value empty = {.kind = VALUE_DICT,
                                 .dict = &(moerun__dict){.count = 0}};
    MOERUN_TRY(moerun__attribute(out, r, &empty, name));
    if (out->kind == VALUE_METHOD) {
      MOERUN_TRY(moerun__attribute(out, r, subject, name));
    }
  } else {
    MOERUN_TRY(moerun__attribute(out, r, subject, name));
  }
done:
  return status;
}

const moerun__builtin moerun__choice_filters[] = {
    {"map", filter_map, "*", 0},
    {"select", filter_select, "*", 0},
    {"reject", filter_reject, "*", 0},
    {"selectattr", filter_selectattr, "*", 0},
    {"rejectattr", filter_rejectattr, "*", 0},
    {"default", filter_default, "default_value boolean", 0},
    {"d", filter_default, "default_value boolean", 0},
    {"attr", filter_attr, "name", 1},
    {NULL, NULL, NULL, 0}};
