/* Members of values. As in Jinja, x.name looks for a method first and for an
 * item then, x["name"] the other way round; what is not there is undefined, and
 * what is asked of something undefined is an error. Names that begin with two
 * underscores are never found as methods. */
#include "runtime/text/template/render.h"

#include <stdio.h>
#include <string.h>

int64_t moerun__length(const moerun__value *value) {
  switch (value->kind) {
  case VALUE_UNDEFINED: return 0;
  case VALUE_TEXT:
    return (int64_t)moerun__character_count(value->text.bytes,
                                            value->text.count);
  case VALUE_LIST:
  case VALUE_TUPLE:
  case VALUE_VIEW: return (int64_t)value->sequence->count;
  case VALUE_RANGE: return (int64_t)value->range->count;
  case VALUE_DICT: return (int64_t)value->dict->count;
  default: return -1;
  }
}

moerun_status moerun__required_length(int64_t *out, moerun__render *r,
                                      const moerun__value *value) {
  moerun_status status = MOERUN_OK;
  if (value->kind == VALUE_TEXT) {
    MOERUN_TRY(moerun__render_spend(r, value->text.count / 64));
  }
  *out = moerun__length(value);
  MOERUN_REQUIRE(*out >= 0, MOERUN_ERR_INVALID, "a %s has no length",
                 moerun__kind_name(value));
done:
  return status;
}

/* ---- Iteration ----------------------------------------------------------- */

static moerun_status characters(moerun__values *out, moerun__render *r,
                                const moerun__value *text) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__render_spend(r, text->text.count / 8));
  for (size_t at = 0; at < text->text.count;) {
    size_t length = 0;
    (void)moerun__character_at(text->text.bytes + at, &length);
    const moerun__value character =
        moerun__borrowed_text(text->text.bytes + at, length);
    MOERUN_TRY(moerun__values_append(out, &r->pool, &character));
    at += length;
  }
done:
  return status;
}

static moerun_status list_of(moerun__values *out, moerun__render *r,
                             const moerun__value *value) {
  moerun_status status = MOERUN_OK;
  switch (value->kind) {
  case VALUE_UNDEFINED: break;
  case VALUE_TEXT: MOERUN_TRY(characters(out, r, value)); break;
  case VALUE_RANGE:
    for (size_t i = 0; i < value->range->count; i++) {
      const moerun__value at = moerun__integer(value->range->start +
                                               (int64_t)i * value->range->step);
      MOERUN_TRY(moerun__values_append(out, &r->pool, &at));
    }
    break;
  case VALUE_DICT:
    for (size_t i = 0; i < value->dict->count; i++) {
      MOERUN_TRY(moerun__values_append(out, &r->pool, &value->dict->at[i].key));
    }
    break;
  case VALUE_ITERATOR:
    for (moerun__values *s = value->sequence; s->next < s->count; s->next++) {
      MOERUN_TRY(moerun__values_append(out, &r->pool, &s->at[s->next]));
    }
    break;
  default:
    MOERUN_REQUIRE(0, MOERUN_ERR_INVALID, "a %s cannot be gone through",
                   moerun__kind_name(value));
  }
done:
  return status;
}

moerun_status moerun__elements(const moerun__values **out, moerun__render *r,
                               const moerun__value *value) {
  moerun_status status = MOERUN_OK;
  moerun__value made;
  if (moerun__is_sequence(value) || value->kind == VALUE_VIEW) {
    *out = value->sequence;
    MOERUN_TRY(moerun__render_spend(r, 1 + value->sequence->count / 8));
    goto done;
  }
  MOERUN_TRY(moerun__values_make(&made, &r->pool, VALUE_LIST, 0));
  MOERUN_TRY(list_of(made.sequence, r, value));
  MOERUN_TRY(moerun__render_spend(r, 1 + made.sequence->count / 8));
  *out = made.sequence;
done:
  return status;
}

/* ---- Items --------------------------------------------------------------- */

/* "dict object" and the like, for messages about what it lacks. */
static const char *holder_of(const moerun__value *value) {
  return moerun__kind_name(value);
}

static moerun_status refuse_undefined(const moerun__value *value) {
  moerun_status status = MOERUN_OK;
  if (value->kind != VALUE_UNDEFINED) goto done;
  MOERUN_REQUIRE(value->missing.holder != NULL, MOERUN_ERR_INVALID,
                 "\"%.60s\" is not defined", value->missing.name);
  MOERUN_REQUIRE(0, MOERUN_ERR_INVALID, "%s has no \"%.60s\"",
                 value->missing.holder, value->missing.name);
done:
  return status;
}

/* The place of an index in a length, from the end if negative; -1: outside. */
static int64_t place_of(int64_t index, int64_t length) {
  if (index < 0) index += length;
  return index >= 0 && index < length ? index : -1;
}

/* value[index] as Python has it; *found 0 where it raises a lookup or type
 * error. */
static void find_item(moerun__value *out, int *found,
                      const moerun__value *value, const moerun__value *index) {
  *found = 0;
  if (value->kind == VALUE_DICT) {
    const moerun__value *item = moerun__is_hashable(index)
                                    ? moerun__dict_find(value->dict, index)
                                    : NULL;
    *found = item != NULL;
    if (*found) *out = *item;
    return;
  }
  if (!moerun__is_integral(index)) return;
  const int64_t i = moerun__integer_of(index);
  if (moerun__is_sequence(value)) {
    const int64_t at = place_of(i, (int64_t)value->sequence->count);
    *found = at >= 0;
    if (*found) *out = value->sequence->at[at];
  } else if (value->kind == VALUE_RANGE) {
    const int64_t at = place_of(i, (int64_t)value->range->count);
    *found = at >= 0;
    if (*found) {
      *out = moerun__integer(value->range->start + at * value->range->step);
    }
  } else if (value->kind == VALUE_TEXT) {
    const int64_t at = place_of(i, moerun__length(value));
    *found = at >= 0;
    if (*found) {
      const size_t start = moerun__character_start(
          value->text.bytes, value->text.count, (size_t)at);
      size_t length = 0;
      (void)moerun__character_at(value->text.bytes + start, &length);
      *out = moerun__borrowed_text(value->text.bytes + start, length);
    }
  }
}

/* What Python's getattr finds. */
static moerun_status find_attribute(moerun__value *out, int *found,
                                    moerun__render *r,
                                    const moerun__value *value,
                                    const char *name, size_t length) {
  moerun_status status = MOERUN_OK;
  moerun__bound_method *method = NULL;
  int known = 0;
  *found = 0;
  if (value->kind == VALUE_NAMESPACE) {
    const moerun__value key = moerun__borrowed_text(name, length);
    const moerun__value *item = moerun__dict_find(value->dict, &key);
    *found = item != NULL;
    if (*found) *out = *item;
    goto done;
  }
  const moerun__builtin *builtin =
      moerun__member_method(&known, value->kind, name, length);
  if (!known) goto done;
  MOERUN_REQUIRE(builtin != NULL, MOERUN_ERR_UNSUPPORTED,
                 "the method \"%.*s\" of a %s is not known", (int)length, name,
                 moerun__kind_name(value));
  *found = 1;
  if (builtin->call == NULL) { /* it would change the value */
    *out = moerun__undefined(builtin->name, holder_of(value));
    goto done;
  }
  MOERUN_TRY(moerun__pool_take(&r->pool, &method, sizeof *method));
  method->builtin = builtin;
  method->subject = *value;
  *out = (moerun__value){.kind = VALUE_METHOD, .method = method};
done:
  return status;
}

moerun_status moerun__attribute(moerun__value *out, moerun__render *r,
                                const moerun__value *value, const char *name) {
  moerun_status status = MOERUN_OK;
  int found = 0;
  const moerun__value key = moerun__borrowed_text(name, strlen(name));
  MOERUN_TRY(refuse_undefined(value));
  MOERUN_TRY(moerun__loop_member(out, &found, r, value, name));
  if (!found) {
    MOERUN_TRY(find_attribute(out, &found, r, value, name, strlen(name)));
  }
  if (!found && value->kind == VALUE_DICT) {
    MOERUN_TRY(moerun__render_look_up(r, value->dict, &key));
    find_item(out, &found, value, &key);
  }
  if (!found) *out = moerun__undefined(name, holder_of(value));
done:
  return status;
}

moerun_status moerun__item(moerun__value *out, moerun__render *r,
                           const moerun__value *value,
                           const moerun__value *index) {
  moerun_status status = MOERUN_OK;
  int found = 0;
  MOERUN_TRY(refuse_undefined(value));
  if (value->kind == VALUE_TEXT) {
    MOERUN_TRY(moerun__render_spend(r, value->text.count / 32));
  } else if (value->kind == VALUE_DICT) {
    MOERUN_TRY(moerun__render_look_up(r, value->dict, index));
  }
  find_item(out, &found, value, index);
  if (!found && index->kind == VALUE_TEXT) {
    char *name = NULL;
    MOERUN_TRY(moerun__pool_take(&r->pool, &name, index->text.count + 1));
    if (index->text.count > 0) {
      memcpy(name, index->text.bytes, index->text.count);
    }
    MOERUN_TRY(moerun__loop_member(out, &found, r, value, name));
    if (!found) {
      MOERUN_TRY(
          find_attribute(out, &found, r, value, name, index->text.count));
    }
    if (!found) *out = moerun__undefined(name, holder_of(value));
  } else if (!found) {
    char number[32] = "item";
    char *name = NULL;
    if (index->kind == VALUE_INTEGER) {
      (void)snprintf(number, sizeof number, "[%lld]",
                     (long long)index->integer);
    }
    MOERUN_TRY(moerun__pool_take(&r->pool, &name, sizeof number));
    memcpy(name, number, sizeof number);
    *out = moerun__undefined(name, holder_of(value));
  }
done:
  return status;
}

/* ---- Slices -------------------------------------------------------------- */

typedef struct span {
  int64_t start;
  int64_t step;
  int64_t count;
} span;

static moerun_status slice_part(int64_t *out, const moerun__value *part,
                                int64_t fallback) {
  moerun_status status = MOERUN_OK;
  *out = fallback;
  if (part->kind == VALUE_ABSENT || part->kind == VALUE_NONE) goto done;
  MOERUN_REQUIRE(moerun__is_integral(part), MOERUN_ERR_INVALID,
                 "a slice has a %s, expected an integer",
                 moerun__kind_name(part));
  *out = moerun__integer_of(part);
done:
  return status;
}

static int64_t clamped(int64_t at, int64_t length, int64_t low, int64_t high) {
  if (at < 0) at = at < -length ? low : at + length;
  if (at < low) return low;
  return at > high ? high : at;
}

/* The places that [start:stop:step] takes of a length. */
static moerun_status span_of(span *out, const moerun__value part[3],
                             int64_t length) {
  moerun_status status = MOERUN_OK;
  int64_t start = 0;
  int64_t stop = 0;
  int64_t step = 0;
  MOERUN_TRY(slice_part(&step, &part[2], 1));
  MOERUN_REQUIRE(step != 0, MOERUN_ERR_INVALID, "the step of a slice is 0");
  const int back = step < 0;
  const int64_t low = back ? -1 : 0;
  const int64_t high = back ? length - 1 : length;
  /* Left out, they are the two ends of the way. */
  const int64_t first = back ? high : low;
  const int64_t last = back ? low : high;
  MOERUN_TRY(slice_part(&start, &part[0], first));
  MOERUN_TRY(slice_part(&stop, &part[1], last));
  if (part[0].kind == VALUE_INTEGER || part[0].kind == VALUE_BOOL) {
    start = clamped(start, length, low, high);
  }
  if (part[1].kind == VALUE_INTEGER || part[1].kind == VALUE_BOOL) {
    stop = clamped(stop, length, low, high);
  }
  if (step > length + 1) step = length + 1;
  if (step < -length - 1) step = -length - 1;
  const int64_t way = back ? start - stop : stop - start;
  const int64_t size = back ? -step : step;
  *out = (span){start, step, way > 0 ? (way + size - 1) / size : 0};
done:
  return status;
}

static moerun_status slice_text(moerun__value *out, moerun__render *r,
                                const moerun__value *text, span taken) {
  moerun_status status = MOERUN_OK;
  const char *bytes = text->text.bytes;
  const size_t count = text->text.count;
  if (taken.count == 0) {
    *out = moerun__borrowed_text("", 0);
  } else if (taken.step == 1) {
    const size_t from =
        moerun__character_start(bytes, count, (size_t)taken.start);
    *out = moerun__borrowed_text(
        bytes + from, moerun__character_start(bytes + from, count - from,
                                              (size_t)taken.count));
  } else {
    moerun__value all;
    moerun__buffer made = {0};
    MOERUN_TRY(moerun__values_make(&all, &r->pool, VALUE_LIST, 0));
    MOERUN_TRY(characters(all.sequence, r, text));
    for (int64_t i = 0; i < taken.count; i++) {
      const moerun__value *at = &all.sequence->at[taken.start + i * taken.step];
      MOERUN_TRY(moerun__buffer_append(&made, &r->pool, at->text.bytes,
                                       at->text.count));
    }
    *out = moerun__borrowed_text(made.bytes, made.count);
  }
done:
  return status;
}

moerun_status moerun__slice(moerun__value *out, moerun__render *r,
                            const moerun__value *value,
                            const moerun__value part[3]) {
  moerun_status status = MOERUN_OK;
  span taken = {0};
  MOERUN_TRY(refuse_undefined(value));
  MOERUN_REQUIRE(value->kind == VALUE_TEXT || moerun__is_sequence(value) ||
                     value->kind == VALUE_RANGE,
                 MOERUN_ERR_INVALID, "a %s cannot be cut into slices",
                 moerun__kind_name(value));
  if (value->kind == VALUE_TEXT) {
    MOERUN_TRY(moerun__render_spend(r, value->text.count / 32));
  }
  MOERUN_TRY(span_of(&taken, part, moerun__length(value)));
  if (value->kind == VALUE_TEXT) {
    MOERUN_TRY(slice_text(out, r, value, taken));
  } else if (value->kind == VALUE_RANGE) {
    moerun__range *range = NULL;
    MOERUN_TRY(moerun__pool_take(&r->pool, &range, sizeof *range));
    range->start = value->range->start + taken.start * value->range->step;
    range->step = value->range->step * taken.step;
    range->count = (size_t)taken.count;
    *out = (moerun__value){.kind = VALUE_RANGE, .range = range};
  } else {
    MOERUN_TRY(moerun__render_spend(r, (size_t)taken.count / 8));
    MOERUN_TRY(
        moerun__values_make(out, &r->pool, value->kind, (size_t)taken.count));
    for (int64_t i = 0; i < taken.count; i++) {
      out->sequence->at[i] = value->sequence->at[taken.start + i * taken.step];
    }
    out->sequence->count = (size_t)taken.count;
  }
done:
  return status;
}

/* ---- Loops and their like ------------------------------------------------ */

static moerun_status loop_member(moerun__value *out, int *found,
                                 moerun__render *r, moerun__loop *loop,
                                 const char *name) {
  moerun_status status = MOERUN_OK;
  if (strcmp(name, "length") == 0 || strncmp(name, "revindex", 8) == 0) {
    MOERUN_TRY(moerun__loop_fill(r, loop, loop->all->count));
  } else if (strcmp(name, "last") == 0 || strcmp(name, "nextitem") == 0) {
    MOERUN_TRY(moerun__loop_fill(r, loop, loop->index + 2));
  }
  const int64_t index = (int64_t)loop->index;
  const int64_t length = (int64_t)loop->items->count;
  const moerun__value *items = loop->items->at;
  const struct {
    const char *name;
    moerun__value value;
  } members[] = {
      {"index", moerun__integer(index + 1)},
      {"index0", moerun__integer(index)},
      {"revindex", moerun__integer(length - index)},
      {"revindex0", moerun__integer(length - index - 1)},
      {"first", moerun__truth(index == 0)},
      {"last", moerun__truth(index + 1 == length)},
      {"length", moerun__integer(length)},
      {"depth", moerun__integer(loop->depth)},
      {"depth0", moerun__integer(loop->depth - 1)},
      {"previtem", index > 0 ? items[index - 1]
                             : moerun__undefined("previtem", "the first item")},
      {"nextitem", index + 1 < length
                       ? items[index + 1]
                       : moerun__undefined("nextitem", "the last item")},
  };
  for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
    if (strcmp(name, members[i].name) == 0) {
      *out = members[i].value;
      *found = 1;
    }
  }
done:
  return status;
}

moerun_status moerun__loop_member(moerun__value *out, int *found,
                                  moerun__render *r, const moerun__value *value,
                                  const char *name) {
  *found = 0;
  if (value->kind == VALUE_LOOP) {
    return loop_member(out, found, r, value->loop, name);
  }
  if (value->kind == VALUE_MACRO && strcmp(name, "name") == 0) {
    const char *macro = value->macro->syntax->name;
    *out = moerun__borrowed_text(macro, strlen(macro));
    *found = 1;
  }
  return MOERUN_OK;
}
