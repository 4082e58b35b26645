/* Python's two ways to put values into a text: "…%s…" % values, and
 * "…{}…".format(values). */
#include "runtime/text/template/render.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How one value is written. */
typedef struct spec {
  char flags[8]; /* of printf */
  int width;
  int precision; /* -1: none */
  char type;
} spec;

enum { MOST_WIDTH = 200 };

/* Text with blanks beside it, cut to the precision. */
static moerun_status put_text(moerun__buffer *out, moerun__render *r,
                              const moerun__value *text, const spec *s,
                              int left) {
  moerun_status status = MOERUN_OK;
  size_t count = text->text.count;
  if (s->precision >= 0) {
    count =
        moerun__character_start(text->text.bytes, count, (size_t)s->precision);
  }
  const size_t characters = moerun__character_count(text->text.bytes, count);
  const size_t blanks =
      (size_t)s->width > characters ? (size_t)s->width - characters : 0;
  for (size_t i = 0; !left && i < blanks; i++) {
    MOERUN_TRY(moerun__buffer_append(out, &r->pool, " ", 1));
  }
  MOERUN_TRY(moerun__buffer_append(out, &r->pool, text->text.bytes, count));
  for (size_t i = 0; left && i < blanks; i++) {
    MOERUN_TRY(moerun__buffer_append(out, &r->pool, " ", 1));
  }
done:
  return status;
}

/* A number through printf, whose flags and types Python has taken over. */
static moerun_status put_number(moerun__buffer *out, moerun__render *r,
                                const moerun__value *value, const spec *s) {
  moerun_status status = MOERUN_OK;
  char format[48];
  char made[MOST_WIDTH * 2 + 512];
  const int whole = strchr("dioxX", s->type) != NULL;
  const char *size = whole ? "ll" : "";
  const int known = whole || strchr("feEgGF", s->type) != NULL;
  MOERUN_REQUIRE(known && s->type != '\0', MOERUN_ERR_UNSUPPORTED,
                 "the format '%c' is not known", s->type);
  MOERUN_REQUIRE(moerun__is_number(value), MOERUN_ERR_INVALID,
                 "a %s is no number to format", moerun__kind_name(value));
  if (s->precision >= 0) {
    (void)snprintf(format, sizeof format, "%%%s%d.%d%s%c", s->flags, s->width,
                   s->precision, size, s->type);
  } else if (s->width > 0) {
    (void)snprintf(format, sizeof format, "%%%s%d%s%c", s->flags, s->width,
                   size, s->type);
  } else {
    (void)snprintf(format, sizeof format, "%%%s%s%c", s->flags, size, s->type);
  }
  if (whole) {
    MOERUN_REQUIRE(moerun__is_integral(value) || s->type == 'd' ||
                       s->type == 'i',
                   MOERUN_ERR_INVALID, "a float is no integer to format");
    const double real = moerun__real_of(value);
    MOERUN_REQUIRE(real > -9.2e18 && real < 9.2e18, MOERUN_ERR_UNSUPPORTED,
                   "an integer of more than 64 bits");
    const long long integer = moerun__is_integral(value)
                                  ? (long long)moerun__integer_of(value)
                                  : (long long)real;
    MOERUN_REQUIRE(integer >= 0 || s->type == 'd' || s->type == 'i',
                   MOERUN_ERR_UNSUPPORTED,
                   "a negative number in another base than 10");
    (void)snprintf(made, sizeof made, format, integer);
  } else {
    (void)snprintf(made, sizeof made, format, moerun__real_of(value));
  }
  MOERUN_TRY(moerun__buffer_append(out, &r->pool, made, strlen(made)));
done:
  return status;
}

static int read_number(const char **at, const char *end) {
  int number = 0;
  while (*at < end && **at >= '0' && **at <= '9' && number <= MOST_WIDTH) {
    number = number * 10 + (*(*at)++ - '0');
  }
  return number;
}

/* ---- % ------------------------------------------------------------------- */

typedef struct percent {
  const moerun__value *value; /* what stands behind the % */
  size_t next;                /* of its parts, if it is a tuple */
} percent;

/* The next of the values, or that of the key in brackets at *at. */
static moerun_status next_value(moerun__value *out, moerun__render *r,
                                percent *p, const char **at, const char *end) {
  moerun_status status = MOERUN_OK;
  if (*at < end && **at == '(') {
    const char *close = memchr(*at, ')', (size_t)(end - *at));
    MOERUN_REQUIRE(close != NULL && p->value->kind == VALUE_DICT,
                   MOERUN_ERR_INVALID, "a format with names needs a mapping");
    const moerun__value key =
        moerun__borrowed_text(*at + 1, (size_t)(close - *at) - 1);
    MOERUN_TRY(moerun__render_look_up(r, p->value->dict, &key));
    const moerun__value *found = moerun__dict_find(p->value->dict, &key);
    MOERUN_REQUIRE(found != NULL, MOERUN_ERR_INVALID,
                   "a format has a name that is not given");
    *out = *found;
    *at = close + 1;
  } else if (p->value->kind == VALUE_TUPLE) {
    MOERUN_REQUIRE(p->next < p->value->sequence->count, MOERUN_ERR_INVALID,
                   "a format has more places than values");
    *out = p->value->sequence->at[p->next++];
  } else {
    MOERUN_REQUIRE(p->next++ == 0, MOERUN_ERR_INVALID,
                   "a format has more places than values");
    *out = *p->value;
  }
done:
  return status;
}

static moerun_status put_percent(moerun__buffer *out, moerun__render *r,
                                 percent *p, const char **at, const char *end) {
  moerun_status status = MOERUN_OK;
  moerun__value value = {.kind = VALUE_ABSENT};
  spec s = {.precision = -1};
  size_t flags = 0;
  if (*at < end && **at == '%') {
    (*at)++;
    MOERUN_TRY(moerun__buffer_append(out, &r->pool, "%", 1));
    goto done;
  }
  MOERUN_TRY(next_value(&value, r, p, at, end));
  while (*at < end && **at != '\0' && strchr("-+ #0", **at) != NULL &&
         flags < 5) {
    s.flags[flags++] = *(*at)++;
  }
  s.width = read_number(at, end);
  if (*at < end && **at == '.') {
    (*at)++;
    s.precision = read_number(at, end);
  }
  MOERUN_REQUIRE(s.width <= MOST_WIDTH && s.precision <= MOST_WIDTH,
                 MOERUN_ERR_UNSUPPORTED, "a format wider than %d characters",
                 MOST_WIDTH);
  MOERUN_REQUIRE(*at < end, MOERUN_ERR_INVALID, "a format has no end");
  s.type = *(*at)++;
  if (s.type == 's' || s.type == 'r') {
    moerun__buffer quoted = {0};
    moerun__value text;
    if (s.type == 'r') {
      MOERUN_TRY(moerun__print_quoted(&quoted, r, &value));
      text = moerun__borrowed_text(quoted.bytes, quoted.count);
    } else {
      MOERUN_TRY(moerun__as_text(&text, r, &value));
    }
    MOERUN_TRY(moerun__render_spend(r, 1 + text.text.count / 32));
    MOERUN_TRY(put_text(out, r, &text, &s, strchr(s.flags, '-') != NULL));
  } else {
    MOERUN_TRY(put_number(out, r, &value, &s));
  }
done:
  return status;
}

moerun_status moerun__format_percent(moerun__value *out, moerun__render *r,
                                     const moerun__value *text,
                                     const moerun__value *value) {
  moerun_status status = MOERUN_OK;
  moerun__buffer made = {0};
  percent p = {.value = value};
  const char *at = text->text.bytes;
  const char *const end = at + text->text.count;
  MOERUN_TRY(moerun__render_spend(r, text->text.count / 16));
  while (at < end) {
    const char *sign = memchr(at, '%', (size_t)(end - at));
    const char *stop = sign != NULL ? sign : end;
    MOERUN_TRY(moerun__buffer_append(&made, &r->pool, at, (size_t)(stop - at)));
    at = stop;
    if (sign != NULL) {
      at++;
      MOERUN_TRY(put_percent(&made, r, &p, &at, end));
    }
  }
  /* A mapping may have more than the format asks for; so may a list, because
   * both could be looked into by names. */
  MOERUN_REQUIRE(value->kind == VALUE_DICT || value->kind == VALUE_LIST ||
                     (value->kind == VALUE_TUPLE
                          ? p.next == value->sequence->count
                          : p.next == 1),
                 MOERUN_ERR_INVALID, "a format has fewer places than values");
  *out = moerun__borrowed_text(made.bytes, made.count);
done:
  return status;
}

/* ---- {} ------------------------------------------------------------------ */

/* The argument that a field names: a number, a name, or the next one. */
static moerun_status field_value(moerun__value *out,
                                 const moerun__arguments *given,
                                 const char *name, size_t length, size_t *next,
                                 int *numbered) {
  moerun_status status = MOERUN_OK;
  const char *at = name;
  size_t place = *next;
  if (length > 0 && isdigit((unsigned char)name[0]) != 0) {
    place = (size_t)read_number(&at, name + length);
    MOERUN_REQUIRE(at == name + length, MOERUN_ERR_UNSUPPORTED,
                   "a field of a format that is not known");
    *numbered = 1;
  } else if (length > 0) {
    for (size_t i = 0; i < given->named_count; i++) {
      if (given->named[i].name.text.count == length &&
          memcmp(given->named[i].name.text.bytes, name, length) == 0) {
        *out = given->named[i].value;
        goto done;
      }
    }
    MOERUN_REQUIRE(0, MOERUN_ERR_INVALID,
                   "a format has a name that is not given: %.*s",
                   (int)(length < 60 ? length : 60), name);
  } else {
    (*next)++;
  }
  MOERUN_REQUIRE(!*numbered || *next == 0, MOERUN_ERR_INVALID,
                 "a format has places with numbers and without");
  MOERUN_REQUIRE(place < given->count, MOERUN_ERR_INVALID,
                 "a format has more places than values");
  *out = given->at[place];
done:
  return status;
}

/* What stands behind the colon: [0][width][.precision][type], [<>]width. */
static moerun_status put_field(moerun__buffer *out, moerun__render *r,
                               const moerun__value *value, const char *at,
                               const char *end) {
  moerun_status status = MOERUN_OK;
  moerun__value text = *value;
  spec s = {.precision = -1};
  int left = value->kind == VALUE_TEXT;
  if (at == end) {
    MOERUN_TRY(moerun__print(out, r, value));
    goto done;
  }
  if (at < end && (*at == '<' || *at == '>')) left = *at++ == '<';
  if (at < end && *at == '0') s.flags[0] = *at++;
  s.width = read_number(&at, end);
  if (at < end && *at == '.') {
    at++;
    s.precision = read_number(&at, end);
  }
  if (at < end) s.type = *at++;
  MOERUN_REQUIRE(at == end && s.width <= MOST_WIDTH &&
                     s.precision <= MOST_WIDTH &&
                     (s.flags[0] == '\0' || s.type != '\0'),
                 MOERUN_ERR_UNSUPPORTED, "a format that is not known");
  if (s.type == '\0' && value->kind == VALUE_INTEGER && s.precision < 0) {
    s.type = 'd';
  }
  if (s.type == 's' || (s.type == '\0' && value->kind == VALUE_TEXT)) {
    MOERUN_TRY(moerun__want_text(value, "format"));
    MOERUN_TRY(moerun__render_spend(r, 1 + text.text.count / 32));
    MOERUN_TRY(put_text(out, r, &text, &s, left));
  } else {
    if (left) s.flags[0] = '-';
    MOERUN_TRY(put_number(out, r, value, &s));
  }
done:
  return status;
}

moerun_status moerun__format_braces(moerun__value *out, moerun__render *r,
                                    const moerun__value *text,
                                    const moerun__arguments *given) {
  moerun_status status = MOERUN_OK;
  moerun__buffer made = {0};
  size_t next = 0;
  int numbered = 0;
  const char *at = text->text.bytes;
  const char *const end = at + text->text.count;
  MOERUN_TRY(moerun__render_spend(r, text->text.count / 8));
  while (at < end) {
    const int doubled = at + 1 < end && at[1] == at[0];
    if (*at != '{' && *at != '}') {
      MOERUN_TRY(moerun__buffer_append(&made, &r->pool, at, 1));
      at++;
      continue;
    }
    if (doubled) {
      MOERUN_TRY(moerun__buffer_append(&made, &r->pool, at, 1));
      at += 2;
      continue;
    }
    const char *close = memchr(at, '}', (size_t)(end - at));
    MOERUN_REQUIRE(*at == '{' && close != NULL, MOERUN_ERR_INVALID,
                   "a format has a single '%c'", *at);
    const char *colon = memchr(at, ':', (size_t)(close - at));
    const char *stop = colon != NULL ? colon : close;
    moerun__value value = {.kind = VALUE_ABSENT};
    MOERUN_REQUIRE(memchr(at + 1, '{', (size_t)(close - at) - 1) == NULL &&
                       memchr(at, '!', (size_t)(stop - at)) == NULL,
                   MOERUN_ERR_UNSUPPORTED, "a format that is not known");
    MOERUN_TRY(field_value(&value, given, at + 1, (size_t)(stop - at) - 1,
                           &next, &numbered));
    MOERUN_TRY(
        put_field(&made, r, &value, colon != NULL ? colon + 1 : close, close));
    at = close + 1;
  }
  *out = moerun__borrowed_text(made.bytes, made.count);
done:
  return status;
}
