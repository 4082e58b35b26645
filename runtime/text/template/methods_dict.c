/* Methods of mappings and lists. A row without a function is a method that
 * would change its value: a template may name it but not call it. */
#include "runtime/text/template/render.h"

#include <string.h>

static moerun_status make_view(moerun__value *out, moerun__render *r,
                               const moerun__value *subject, const char *what) {
  moerun_status status = MOERUN_OK;
  const moerun__dict *dict = subject->dict;
  MOERUN_TRY(moerun__render_spend(r, dict->count / 8));
  MOERUN_TRY(moerun__values_make(out, &r->pool, VALUE_VIEW, dict->count));
  memcpy(out->sequence->view, what, strlen(what) + 1);
  for (size_t i = 0; i < dict->count; i++) {
    moerun__value *made = &out->sequence->at[i];
    if (what[0] == 'k') {
      *made = dict->at[i].key;
    } else if (what[0] == 'v') {
      *made = dict->at[i].value;
    } else {
      MOERUN_TRY(moerun__pair_value(made, &r->pool, &dict->at[i].key,
                                    &dict->at[i].value));
    }
  }
  out->sequence->count = dict->count;
done:
  return status;
}

static moerun_status dict_keys(moerun__value *out, moerun__render *r,
                               const moerun__value *subject,
                               const moerun__value *a,
                               const moerun__arguments *given) {
  (void)a;
  (void)given;
  return make_view(out, r, subject, "keys");
}

static moerun_status dict_values(moerun__value *out, moerun__render *r,
                                 const moerun__value *subject,
                                 const moerun__value *a,
                                 const moerun__arguments *given) {
  (void)a;
  (void)given;
  return make_view(out, r, subject, "values");
}

static moerun_status dict_items(moerun__value *out, moerun__render *r,
                                const moerun__value *subject,
                                const moerun__value *a,
                                const moerun__arguments *given) {
  (void)a;
  (void)given;
  return make_view(out, r, subject, "items");
}

static moerun_status dict_get(moerun__value *out, moerun__render *r,
                              const moerun__value *subject,
                              const moerun__value *a,
                              const moerun__arguments *given) {
  moerun_status status = MOERUN_OK;
  (void)given;
  MOERUN_REQUIRE(moerun__is_hashable(&a[0]), MOERUN_ERR_INVALID,
                 "a %s is no key", moerun__kind_name(&a[0]));
  MOERUN_TRY(moerun__render_look_up(r, subject->dict, &a[0]));
  const moerun__value *found = moerun__dict_find(subject->dict, &a[0]);
  *out = found != NULL               ? *found
         : a[1].kind != VALUE_ABSENT ? a[1]
                                     : moerun__none();
done:
  return status;
}

/* Values do not change: the mapping itself is a copy of it. */
static moerun_status dict_copy(moerun__value *out, moerun__render *r,
                               const moerun__value *subject,
                               const moerun__value *a,
                               const moerun__arguments *given) {
  (void)r;
  (void)a;
  (void)given;
  *out = *subject;
  return MOERUN_OK;
}

static moerun_status list_index(moerun__value *out, moerun__render *r,
                                const moerun__value *subject,
                                const moerun__value *a,
                                const moerun__arguments *given) {
  moerun_status status = MOERUN_OK;
  const moerun__values *items = subject->sequence;
  (void)given;
  for (size_t i = 0; i < items->count; i++) {
    int equal = 0;
    MOERUN_TRY(moerun__value_equal(&equal, &items->at[i], &a[0], 0, &r->steps));
    if (equal) {
      *out = moerun__integer((int64_t)i);
      goto done;
    }
  }
  MOERUN_REQUIRE(0, MOERUN_ERR_INVALID, "index: the value is not there");
done:
  return status;
}

static moerun_status list_count(moerun__value *out, moerun__render *r,
                                const moerun__value *subject,
                                const moerun__value *a,
                                const moerun__arguments *given) {
  moerun_status status = MOERUN_OK;
  const moerun__values *items = subject->sequence;
  int64_t count = 0;
  (void)given;
  for (size_t i = 0; i < items->count; i++) {
    int equal = 0;
    MOERUN_TRY(moerun__value_equal(&equal, &items->at[i], &a[0], 0, &r->steps));
    count += equal;
  }
  *out = moerun__integer(count);
done:
  return status;
}

const moerun__builtin moerun__dict_methods[] = {
    {"keys", dict_keys, "", 0},   {"values", dict_values, "", 0},
    {"items", dict_items, "", 0}, {"get", dict_get, "key default", 1},
    {"copy", dict_copy, "", 0},   {"clear", NULL, "", 0},
    {"pop", NULL, "", 0},         {"popitem", NULL, "", 0},
    {"setdefault", NULL, "", 0},  {"update", NULL, "", 0},
    {NULL, NULL, NULL, 0}};

const moerun__builtin moerun__list_methods[] = {
    {"index", list_index, "value", 1},
    {"count", list_count, "value", 1},
    {"copy", dict_copy, "", 0},
    {"append", NULL, "", 0},
    {"clear", NULL, "", 0},
    {"extend", NULL, "", 0},
    {"insert", NULL, "", 0},
    {"pop", NULL, "", 0},
    {"remove", NULL, "", 0},
    {"reverse", NULL, "", 0},
    {"sort", NULL, "", 0},
    {NULL, NULL, NULL, 0}};
