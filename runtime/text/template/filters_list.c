/* Filters of lists and of whatever else can be gone through. Where Jinja gives
 * a generator, so do these: it has no length, is true, and is empty the second
 * time. */
#include "runtime/text/template/render.h"

#include "runtime/text/template/member_path.h"

#include <string.h>

static moerun_status filter_length(moerun__value *out, moerun__render *r,
                                   const moerun__value *subject,
                                   const moerun__value *a,
                                   const moerun__arguments *given) {
  moerun_status status = MOERUN_OK;
  int64_t length = 0;
  (void)a;
  (void)given;
  MOERUN_TRY(moerun__required_length(&length, r, subject));
  *out = moerun__integer(length);
done:
  return status;
}

static moerun_status filter_first(moerun__value *out, moerun__render *r,
                                  const moerun__value *subject,
                                  const moerun__value *a,
                                  const moerun__arguments *given) {
  moerun_status status = MOERUN_OK;
  const moerun__values *all = NULL;
  (void)a;
  (void)given;
  if (subject->kind == VALUE_ITERATOR) {
    moerun__values *items = subject->sequence;
    *out = items->next < items->count
               ? items->at[items->next++]
               : moerun__undefined("first", "an empty sequence");
    goto done;
  }
  MOERUN_TRY(moerun__elements(&all, r, subject));
  *out = all->count > 0 ? all->at[0]
                        : moerun__undefined("first", "an empty sequence");
done:
  return status;
}

static moerun_status filter_last(moerun__value *out, moerun__render *r,
                                 const moerun__value *subject,
                                 const moerun__value *a,
                                 const moerun__arguments *given) {
  moerun_status status = MOERUN_OK;
  const moerun__values *all = NULL;
  (void)a;
  (void)given;
  MOERUN_REQUIRE(
      subject->kind != VALUE_ITERATOR && subject->kind != VALUE_UNDEFINED,
      MOERUN_ERR_INVALID, "a %s has no last value", moerun__kind_name(subject));
  MOERUN_TRY(moerun__elements(&all, r, subject));
  *out = all->count > 0 ? all->at[all->count - 1]
                        : moerun__undefined("last", "an empty sequence");
done:
  return status;
}

static moerun_status filter_join(moerun__value *out, moerun__render *r,
                                 const moerun__value *subject,
                                 const moerun__value *a,
                                 const moerun__arguments *given) {
  moerun_status status = MOERUN_OK;
  moerun__buffer made = {0};
  const moerun__values *all = NULL;
  (void)given;
  MOERUN_TRY(moerun__elements(&all, r, subject));
  for (size_t i = 0; i < all->count; i++) {
    moerun__value item = all->at[i];
    if (a[1].kind != VALUE_ABSENT && a[1].kind != VALUE_NONE) {
      MOERUN_TRY(moerun__member_at(&item, r, &all->at[i], &a[1]));
    }
    if (i > 0 && a[0].kind != VALUE_ABSENT) {
      MOERUN_TRY(moerun__print(&made, r, &a[0]));
    }
    MOERUN_TRY(moerun__print(&made, r, &item));
  }
  *out = moerun__borrowed_text(made.bytes, made.count);
done:
  return status;
}

/* A list of what is gone through, which may be changed. */
static moerun_status copy_list(moerun__value *out, moerun__render *r,
                               const moerun__value *subject) {
  moerun_status status = MOERUN_OK;
  const moerun__values *all = NULL;
  MOERUN_TRY(moerun__elements(&all, r, subject));
  MOERUN_TRY(moerun__values_make(out, &r->pool, VALUE_LIST, all->count));
  if (all->count > 0) {
    memcpy(out->sequence->at, all->at, all->count * sizeof *all->at);
  }
  out->sequence->count = all->count;
done:
  return status;
}

static moerun_status filter_list(moerun__value *out, moerun__render *r,
                                 const moerun__value *subject,
                                 const moerun__value *a,
                                 const moerun__arguments *given) {
  (void)a;
  (void)given;
  return copy_list(out, r, subject);
}

static moerun_status filter_reverse(moerun__value *out, moerun__render *r,
                                    const moerun__value *subject,
                                    const moerun__value *a,
                                    const moerun__arguments *given) {
  moerun_status status = MOERUN_OK;
  const moerun__value back[3] = {
      {.kind = VALUE_ABSENT}, {.kind = VALUE_ABSENT}, moerun__integer(-1)};
  (void)a;
  (void)given;
  if (subject->kind == VALUE_TEXT) {
    MOERUN_TRY(moerun__slice(out, r, subject, back));
    goto done;
  }
  moerun__value all;
  MOERUN_TRY(copy_list(&all, r, subject));
  MOERUN_TRY(moerun__slice(out, r, &all, back));
  if (subject->kind != VALUE_ITERATOR) out->kind = VALUE_ITERATOR;
done:
  return status;
}

static moerun_status filter_items(moerun__value *out, moerun__render *r,
                                  const moerun__value *subject,
                                  const moerun__value *a,
                                  const moerun__arguments *given) {
  moerun_status status = MOERUN_OK;
  (void)a;
  (void)given;
  MOERUN_REQUIRE(subject->kind == VALUE_DICT ||
                     subject->kind == VALUE_UNDEFINED,
                 MOERUN_ERR_INVALID, "items: expected a mapping, found a %s",
                 moerun__kind_name(subject));
  MOERUN_TRY(moerun__values_make(out, &r->pool, VALUE_ITERATOR, 0));
  if (subject->kind == VALUE_UNDEFINED) goto done;
  for (size_t i = 0; i < subject->dict->count; i++) {
    moerun__value pair;
    MOERUN_TRY(moerun__pair_value(&pair, &r->pool, &subject->dict->at[i].key,
                                  &subject->dict->at[i].value));
    MOERUN_TRY(moerun__values_append(out->sequence, &r->pool, &pair));
  }
done:
  return status;
}

/* ---- Order --------------------------------------------------------------- */

typedef struct sorting {
  moerun__render *r;
  moerun__value *key; /* of each item */
  int members;        /* they are members of items */
  int descending;
} sorting;

/* What an item is compared by: a member of it, in lower case as a rule. */
static moerun_status key_of(moerun__value *out, moerun__render *r,
                            const moerun__value *item,
                            const moerun__value *member, int case_sensitive) {
  moerun_status status = MOERUN_OK;
  *out = *item;
  if (member->kind != VALUE_ABSENT && member->kind != VALUE_NONE) {
    MOERUN_REQUIRE(
        member->kind != VALUE_TEXT || member->text.count == 0 ||
            memchr(member->text.bytes, ',', member->text.count) == NULL,
        MOERUN_ERR_UNSUPPORTED, "several attributes to sort by are not known");
    MOERUN_TRY(moerun__member_at(out, r, item, member));
  }
  if (!case_sensitive && out->kind == VALUE_TEXT) {
    MOERUN_TRY(moerun__change_case(out, r, out, CASE_LOWER));
  }
done:
  return status;
}

/* Merges the sorted halves of place[0 .. count). */
static moerun_status merge(const sorting *s, size_t *place, size_t *spare,
                           size_t half, size_t count) {
  moerun_status status = MOERUN_OK;
  size_t left = 0;
  size_t right = half;
  memcpy(spare, place, count * sizeof *spare);
  for (size_t i = 0; i < count; i++) {
    int takes_right = left == half;
    if (left < half && right < count) {
      int order = 0;
      int equal = 0;
      const moerun__value *a = &s->key[spare[left]];
      const moerun__value *b = &s->key[spare[right]];
      if (s->members) { /* equal ones need no order, such as undefined ones */
        MOERUN_TRY(moerun__value_equal(&equal, a, b, 0, &s->r->steps));
      }
      if (!equal) {
        MOERUN_TRY(moerun__value_compare(&order, a, b, 0, &s->r->steps));
      }
      takes_right = s->descending ? order < 0 : order > 0;
    }
    place[i] = takes_right ? spare[right++] : spare[left++];
  }
done:
  return status;
}

static moerun_status sort_places(const sorting *s, size_t *place, size_t *spare,
                                 size_t count) {
  moerun_status status = MOERUN_OK;
  if (count < 2) goto done;
  const size_t half = count / 2;
  MOERUN_TRY(sort_places(s, place, spare, half));
  MOERUN_TRY(sort_places(s, place + half, spare, count - half));
  MOERUN_TRY(merge(s, place, spare, half, count));
done:
  return status;
}

/* The items in the order of their keys; those of equal keys stay as they
 * are. */
static moerun_status sorted(moerun__value *out, moerun__render *r,
                            const moerun__value *subject,
                            const moerun__value *member, int case_sensitive,
                            int descending) {
  moerun_status status = MOERUN_OK;
  sorting s = {.r = r,
               .members = member->kind != VALUE_ABSENT,
               .descending = descending};
  const moerun__values *all = NULL;
  size_t *place = NULL;
  MOERUN_TRY(moerun__elements(&all, r, subject));
  const size_t n = all->count;
  MOERUN_TRY(moerun__pool_take(&r->pool, &place, 2 * n * sizeof *place));
  MOERUN_TRY(moerun__pool_take(&r->pool, &s.key, n * sizeof *s.key));
  for (size_t i = 0; i < n; i++) {
    place[i] = i;
    MOERUN_TRY(key_of(&s.key[i], r, &all->at[i], member, case_sensitive));
  }
  MOERUN_TRY(sort_places(&s, place, place + n, n));
  MOERUN_TRY(moerun__values_make(out, &r->pool, VALUE_LIST, n));
  for (size_t i = 0; i < n; i++) {
    out->sequence->at[i] = all->at[place[i]];
  }
  out->sequence->count = n;
done:
  return status;
}

static moerun_status filter_sort(moerun__value *out, moerun__render *r,
                                 const moerun__value *subject,
                                 const moerun__value *a,
                                 const moerun__arguments *given) {
  (void)given;
  return sorted(out, r, subject, &a[2], moerun__is_true(&a[1]),
                moerun__is_true(&a[0]));
}

static moerun_status filter_dictsort(moerun__value *out, moerun__render *r,
                                     const moerun__value *subject,
                                     const moerun__value *a,
                                     const moerun__arguments *given) {
  moerun_status status = MOERUN_OK;
  moerun__value items;
  const int by_value = moerun__value_is(&a[1], "value");
  const moerun__value member = moerun__integer(by_value);
  MOERUN_REQUIRE(
      a[1].kind == VALUE_ABSENT || by_value || moerun__value_is(&a[1], "key"),
      MOERUN_ERR_INVALID, "dictsort: expected \"key\" or \"value\" to sort by");
  MOERUN_REQUIRE(subject->kind == VALUE_DICT, MOERUN_ERR_INVALID,
                 "dictsort: expected a mapping, found a %s",
                 moerun__kind_name(subject));
  MOERUN_TRY(filter_items(&items, r, subject, a, given));
  MOERUN_TRY(sorted(out, r, &items, &member, moerun__is_true(&a[0]),
                    moerun__is_true(&a[2])));
done:
  return status;
}

static moerun_status filter_unique(moerun__value *out, moerun__render *r,
                                   const moerun__value *subject,
                                   const moerun__value *a,
                                   const moerun__arguments *given) {
  moerun_status status = MOERUN_OK;
  const moerun__values *all = NULL;
  moerun__value seen;
  (void)given;
  MOERUN_TRY(moerun__elements(&all, r, subject));
  MOERUN_TRY(moerun__values_make(out, &r->pool, VALUE_ITERATOR, 0));
  MOERUN_TRY(moerun__values_make(&seen, &r->pool, VALUE_LIST, 0));
  for (size_t i = 0; i < all->count; i++) {
    moerun__value key;
    int known = 0;
    MOERUN_TRY(key_of(&key, r, &all->at[i], &a[1], moerun__is_true(&a[0])));
    MOERUN_REQUIRE(moerun__is_hashable(&key), MOERUN_ERR_INVALID,
                   "unique: a %s has no hash", moerun__kind_name(&key));
    MOERUN_TRY(moerun__contains(&known, r, &seen, &key));
    if (known) continue;
    MOERUN_TRY(moerun__values_append(seen.sequence, &r->pool, &key));
    MOERUN_TRY(moerun__values_append(out->sequence, &r->pool, &all->at[i]));
  }
done:
  return status;
}

static moerun_status extreme(moerun__value *out, moerun__render *r,
                             const moerun__value *subject,
                             const moerun__value *a, int sign) {
  moerun_status status = MOERUN_OK;
  const moerun__values *all = NULL;
  moerun__value best;
  MOERUN_TRY(moerun__elements(&all, r, subject));
  *out = moerun__undefined("min or max", "an empty sequence");
  for (size_t i = 0; i < all->count; i++) {
    moerun__value key;
    int order = -1;
    MOERUN_TRY(key_of(&key, r, &all->at[i], &a[1], moerun__is_true(&a[0])));
    if (i > 0) {
      MOERUN_TRY(moerun__value_compare(&order, &key, &best, 0, &r->steps));
      order *= sign;
    }
    if (order >= 0) continue;
    best = key;
    *out = all->at[i];
  }
done:
  return status;
}

static moerun_status filter_min(moerun__value *out, moerun__render *r,
                                const moerun__value *subject,
                                const moerun__value *a,
                                const moerun__arguments *given) {
  (void)given;
  return extreme(out, r, subject, a, 1);
}

static moerun_status filter_max(moerun__value *out, moerun__render *r,
                                const moerun__value *subject,
                                const moerun__value *a,
                                const moerun__arguments *given) {
  (void)given;
  return extreme(out, r, subject, a, -1);
}

/* ---- Parts --------------------------------------------------------------- */

static moerun_status filter_batch(moerun__value *out, moerun__render *r,
                                  const moerun__value *subject,
                                  const moerun__value *a,
                                  const moerun__arguments *given) {
  moerun_status status = MOERUN_OK;
  const moerun__values *all = NULL;
  moerun__value row = {0};
  int64_t width = 0;
  (void)given;
  MOERUN_TRY(moerun__want_integer(&width, &a[0], 0, "batch"));
  MOERUN_REQUIRE(width > 0, MOERUN_ERR_INVALID,
                 "batch: expected at least 1, found %lld", (long long)width);
  MOERUN_TRY(moerun__elements(&all, r, subject));
  MOERUN_TRY(moerun__values_make(out, &r->pool, VALUE_ITERATOR, 0));
  for (size_t i = 0; i < all->count; i++) {
    if (i % (size_t)width == 0) {
      MOERUN_TRY(moerun__values_make(&row, &r->pool, VALUE_LIST, 0));
      MOERUN_TRY(moerun__values_append(out->sequence, &r->pool, &row));
    }
    MOERUN_TRY(moerun__values_append(row.sequence, &r->pool, &all->at[i]));
  }
  if (a[1].kind != VALUE_ABSENT && a[1].kind != VALUE_NONE && all->count > 0) {
    while ((int64_t)row.sequence->count < width) {
      MOERUN_TRY(moerun__render_spend(r, 1));
      MOERUN_TRY(moerun__values_append(row.sequence, &r->pool, &a[1]));
    }
  }
done:
  return status;
}

const moerun__builtin moerun__list_filters[] = {
    {"length", filter_length, "", 0},
    {"count", filter_length, "", 0},
    {"first", filter_first, "", 0},
    {"last", filter_last, "", 0},
    {"join", filter_join, "d attribute", 0},
    {"list", filter_list, "", 0},
    {"reverse", filter_reverse, "", 0},
    {"items", filter_items, "", 0},
    {"sort", filter_sort, "reverse case_sensitive attribute", 0},
    {"dictsort", filter_dictsort, "case_sensitive by reverse", 0},
    {"unique", filter_unique, "case_sensitive attribute", 0},
    {"min", filter_min, "case_sensitive attribute", 0},
    {"max", filter_max, "case_sensitive attribute", 0},
    {"batch", filter_batch, "linecount fill_with", 1},
    {NULL, NULL, NULL, 0}};
