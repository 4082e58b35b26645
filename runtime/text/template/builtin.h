/* What templates may call by name: filters, tests, functions, and methods of
 * texts and mappings. Each is a row of a table with the names of its
 * parameters, so that what is given too much, twice or not at all is told in
 * one place (arguments.c). */
#ifndef MOERUN_TEXT_TEMPLATE_BUILTIN_H
#define MOERUN_TEXT_TEMPLATE_BUILTIN_H

#include "runtime/text/template/value.h"

struct moerun__render;

/* What a call gives. */
typedef struct moerun__named {
  moerun__value name; /* a text */
  moerun__value value;
} moerun__named;
typedef struct moerun__arguments {
  moerun__value *at;
  size_t count;
  moerun__named *named;
  size_t named_count;
} moerun__arguments;

/* How many bytes of a name stand in a message. */
static inline int moerun__shown_bytes(const moerun__value *name) {
  enum { MOST = 60 };
  return (int)(name->text.count < MOST ? name->text.count : MOST);
}

enum { MOERUN_MOST_PARAMETERS = 6 };

/* `subject` is what is filtered, tested, or has the method; NULL for functions.
 * `a` is of the parameters of the row, VALUE_ABSENT where one was not given.
 * `given` is what the call gave, for those that take anything. */
typedef moerun_status moerun__builtin_call(moerun__value *out,
                                           struct moerun__render *r,
                                           const moerun__value *subject,
                                           const moerun__value *a,
                                           const moerun__arguments *given);

typedef struct moerun__builtin {
  const char *name;
  moerun__builtin_call *call;
  const char *parameters; /* names with a blank between two; "*": anything */
  int required;           /* how many of them have no default */
} moerun__builtin;

typedef struct moerun__bound_method {
  const moerun__builtin *builtin;
  moerun__value subject;
} moerun__bound_method;

/* NULL if there is none of this name. */
const moerun__builtin *moerun__filter_find(const char *name);
const moerun__builtin *moerun__test_find(const char *name);
const moerun__builtin *moerun__function_find(const char *name);
/* The method `name` of a kind of value. *known: Python has one, even if NULL is
 * returned because it is not known here. */
const moerun__builtin *moerun__member_method(int *known,
                                             moerun__value_kind kind,
                                             const char *name, size_t length);

/* Calls a row with what was given. `what` is "filter", "test", … */
moerun_status moerun__builtin_apply(moerun__value *out,
                                    struct moerun__render *r,
                                    const moerun__builtin *builtin,
                                    const char *what,
                                    const moerun__value *subject,
                                    const moerun__arguments *given);

/* The rows of the tables, each ended by one without a name. */
extern const moerun__builtin moerun__text_filters[];
extern const moerun__builtin moerun__list_filters[];
extern const moerun__builtin moerun__choice_filters[];
extern const moerun__builtin moerun__number_filters[];
extern const moerun__builtin moerun__tests[];
extern const moerun__builtin moerun__functions[];
extern const moerun__builtin moerun__text_methods[];
extern const moerun__builtin moerun__dict_methods[];
extern const moerun__builtin moerun__list_methods[];
extern const moerun__builtin moerun__loop_methods[];

#endif
