/* Values of a template, with Python's meaning: what a variable, an operand or
 * an argument may be. Values are copied freely; what they point to lies in a
 * pool and is never changed, but for namespaces, iterators and loops. */
#ifndef MOERUN_TEXT_TEMPLATE_VALUE_H
#define MOERUN_TEXT_TEMPLATE_VALUE_H

#include "runtime/text/template/pool.h"

#include <jansson.h>

typedef enum moerun__value_kind {
  VALUE_ABSENT, /* an argument that was not given; never seen by a template */
  VALUE_UNDEFINED,
  VALUE_NONE,
  VALUE_BOOL,
  VALUE_INTEGER,
  VALUE_REAL,
  VALUE_TEXT,
  VALUE_LIST,
  VALUE_TUPLE,
  VALUE_VIEW, /* keys(), values(), items() of a mapping: not to be indexed */
  VALUE_ITERATOR, /* to be gone through once: map, select, reverse, … */
  VALUE_RANGE,
  VALUE_DICT,
  VALUE_NAMESPACE,
  VALUE_MACRO,
  VALUE_FUNCTION, /* built in */
  VALUE_METHOD,   /* of a text or mapping */
  VALUE_LOOP,
  VALUE_JOINER,
  VALUE_KINDS
} moerun__value_kind;

typedef struct moerun__value {
  moerun__value_kind kind;
  union {
    int truth;
    int64_t integer;
    double real;
    struct {
      const char *bytes; /* valid UTF-8, need not end in NUL */
      size_t count;
      int safe; /* of "safe" or "escape": "+" escapes what it is joined with */
    } text;
    struct { /* what is not defined, for messages */
      const char *name;
      const char *holder; /* kind of value that has no such member, or NULL */
    } missing;
    struct moerun__values *sequence; /* LIST TUPLE VIEW ITERATOR */
    const struct moerun__range *range;
    struct moerun__dict *dict; /* DICT NAMESPACE */
    const struct moerun__macro *macro;
    const struct moerun__builtin *builtin; /* FUNCTION */
    const struct moerun__bound_method *method;
    struct moerun__loop *loop;
    struct moerun__joiner *joiner;
  };
} moerun__value;

typedef struct moerun__values {
  moerun__value *at;
  size_t count;
  size_t next;  /* ITERATOR: the first that is still to come */
  size_t room;  /* while it is built */
  char view[8]; /* VIEW: "keys", "values", "items" */
} moerun__values;

typedef struct moerun__range {
  int64_t start;
  int64_t step;
  size_t count;
} moerun__range;

typedef struct moerun__pair {
  moerun__value key;
  moerun__value value;
} moerun__pair;

typedef struct moerun__dict {
  moerun__pair *at; /* in the order of insertion */
  size_t count;
  size_t room;
} moerun__dict;

typedef struct moerun__joiner {
  moerun__value between;
  int used;
} moerun__joiner;

static inline moerun__value moerun__none(void) {
  return (moerun__value){.kind = VALUE_NONE};
}
static inline moerun__value moerun__truth(int truth) {
  return (moerun__value){.kind = VALUE_BOOL, .truth = truth != 0};
}
static inline moerun__value moerun__integer(int64_t integer) {
  return (moerun__value){.kind = VALUE_INTEGER, .integer = integer};
}
static inline moerun__value moerun__real(double real) {
  return (moerun__value){.kind = VALUE_REAL, .real = real};
}
static inline moerun__value moerun__borrowed_text(const char *bytes,
                                                  size_t count) {
  return (moerun__value){.kind = VALUE_TEXT, .text = {bytes, count, 0}};
}
static inline moerun__value moerun__undefined(const char *name,
                                              const char *holder) {
  return (moerun__value){.kind = VALUE_UNDEFINED, .missing = {name, holder}};
}
/* VALUE_BOOL counts as 0 or 1 wherever a number is wanted. */
static inline int moerun__is_integral(const moerun__value *value) {
  return value->kind == VALUE_INTEGER || value->kind == VALUE_BOOL;
}
static inline int64_t moerun__integer_of(const moerun__value *value) {
  return value->kind == VALUE_BOOL ? value->truth : value->integer;
}
static inline int moerun__is_number(const moerun__value *value) {
  return moerun__is_integral(value) || value->kind == VALUE_REAL;
}
static inline double moerun__real_of(const moerun__value *value) {
  return value->kind == VALUE_REAL ? value->real
                                   : (double)moerun__integer_of(value);
}
int moerun__value_is(const moerun__value *value, const char *text);
static inline int moerun__is_sequence(const moerun__value *value) {
  return value->kind == VALUE_LIST || value->kind == VALUE_TUPLE;
}
/* A hashable one may be a key. */
int moerun__is_hashable(const moerun__value *value);
/* "str", "dict", … as Python's messages name it. */
const char *moerun__kind_name(const moerun__value *value);

/* Python's truth of a value. */
int moerun__is_true(const moerun__value *value);

/* A copy of bytes. */
moerun_status moerun__text_value(moerun__value *out, moerun__pool *pool,
                                 const char *bytes, size_t count);
/* An empty sequence of the kind with room for `room` values. */
moerun_status moerun__values_make(moerun__value *out, moerun__pool *pool,
                                  moerun__value_kind kind, size_t room);
moerun_status moerun__values_append(moerun__values *sequence,
                                    moerun__pool *pool,
                                    const moerun__value *value);
/* A tuple of two. */
moerun_status moerun__pair_value(moerun__value *out, moerun__pool *pool,
                                 const moerun__value *first,
                                 const moerun__value *second);
moerun_status moerun__dict_value(moerun__value *out, moerun__pool *pool,
                                 moerun__value_kind kind, size_t room);
/* The value of a key, or NULL. Keys are hashable. */
moerun__value *moerun__dict_find(const moerun__dict *dict,
                                 const moerun__value *key);
/* Replaces the value of a key that is there. */
moerun_status moerun__dict_set(moerun__dict *dict, moerun__pool *pool,
                               const moerun__value *key,
                               const moerun__value *value);

/* JSON as values; texts are borrowed from it. */
moerun_status moerun__json_value(moerun__value *out, moerun__pool *pool,
                                 const json_t *json);

/* Equality of Python. *equal is 0 or 1. `depth` is 0; `steps`, what is left of
 * the work that a template may do, may be NULL for keys. */
enum { MOERUN_VALUE_DEPTH = 256 };
moerun_status moerun__value_equal(int *equal, const moerun__value *a,
                                  const moerun__value *b, int depth,
                                  int64_t *steps);
/* *order < 0, 0, > 0; MOERUN_ERR_INVALID where Python has no order. */
moerun_status moerun__value_compare(int *order, const moerun__value *a,
                                    const moerun__value *b, int depth,
                                    int64_t *steps);

/* Code points of a text; the byte where the code point `index` begins. */
size_t moerun__character_count(const char *bytes, size_t count);
size_t moerun__character_start(const char *bytes, size_t count, size_t index);
/* The code point at the start of valid UTF-8, and its bytes. */
int32_t moerun__character_at(const char *bytes, size_t *length);
/* What Python's str.isspace takes for a blank. */
int moerun__is_blank(int32_t character);

#endif
