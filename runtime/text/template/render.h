/* The state of one rendering, and what the parts of the interpreter ask of each
 * other. */
#ifndef MOERUN_TEXT_TEMPLATE_RENDER_H
#define MOERUN_TEXT_TEMPLATE_RENDER_H

#include "runtime/text/template/builtin.h"
#include "runtime/text/template/syntax.h"

#include <time.h>

/* Variables of a body, and those around it. */
typedef struct moerun__scope {
  struct moerun__scope *around;
  int *symbol;
  moerun__value *value;
  size_t count;
  size_t room;
  int kept; /* a macro that was defined in it may look here later */
} moerun__scope;

typedef struct moerun__macro {
  const moerun__syntax *syntax; /* MACRO or CALL_BLOCK */
  moerun__scope *scope;         /* where it was defined */
} moerun__macro;

typedef struct moerun__loop {
  const moerun__syntax *syntax;
  moerun__scope *scope;      /* around the loop, for recursion */
  const moerun__values *all; /* what is gone through */
  size_t seen;               /* how many of them the condition has been asked */
  moerun__values *items;     /* those that it let through so far */
  size_t index;
  int depth;
  moerun__value changed; /* what loop.changed was given last */
} moerun__loop;

typedef struct moerun__render {
  moerun__pool pool;
  const moerun__symbols *symbols;
  moerun__scope *scope;
  moerun__buffer *out;    /* what is written goes here */
  size_t written;         /* bytes, to all buffers */
  size_t most_written;    /* a limit */
  int64_t steps;          /* that are left */
  int64_t most_steps;     /* for the message */
  int depth;              /* of calls and expressions within each other */
  int line;               /* of the template */
  const struct tm *clock; /* for strftime_now */
} moerun__render;

/* Counts work; an error once the template has done too much. */
moerun_status moerun__render_spend(moerun__render *r, size_t steps);
/* Counts the work of looking for a key. */
moerun_status moerun__render_look_up(moerun__render *r,
                                     const moerun__dict *dict,
                                     const moerun__value *key);
moerun_status moerun__render_deeper(moerun__render *r);

moerun_status moerun__render_write(moerun__render *r, const char *bytes,
                                   size_t count);
moerun_status moerun__render_body(int *jump, moerun__render *r,
                                  const moerun__syntax *body);
moerun_status moerun__evaluate(moerun__value *out, moerun__render *r,
                               const moerun__syntax *node);
/* Sets the names of a target, unpacking a tuple. */
moerun_status moerun__assign(moerun__render *r, const moerun__syntax *target,
                             const moerun__value *value);
moerun_status moerun__scope_open(moerun__render *r, moerun__scope *around);
moerun_status moerun__scope_set(moerun__render *r, int symbol,
                                const moerun__value *value);
/* NULL: not there. */
const moerun__value *moerun__scope_find(const moerun__scope *scope, int symbol);

/* What a call, filter or test is given. `list` is of ARGUMENTs. */
moerun_status moerun__evaluate_arguments(moerun__arguments *out,
                                         moerun__render *r,
                                         const moerun__syntax *list);
moerun_status moerun__call(moerun__value *out, moerun__render *r,
                           const moerun__value *callee,
                           const moerun__arguments *given);
moerun_status moerun__call_macro(moerun__value *out, moerun__render *r,
                                 const moerun__macro *macro,
                                 const moerun__arguments *given);
moerun_status moerun__call_loop(moerun__value *out, moerun__render *r,
                                const moerun__loop *loop,
                                const moerun__value *items);
/* Asks the condition of a loop until there are `count` items or no more: only
 * when somebody wants to know, because a body may change what it depends on. */
moerun_status moerun__loop_fill(moerun__render *r, moerun__loop *loop,
                                size_t count);
/* The text that a body writes; *jump is not 0 if the body left a loop. */
moerun_status moerun__capture(moerun__value *out, int *jump, moerun__render *r,
                              const moerun__syntax *body);

/* value.name and value[index]; what is not there is undefined, what is asked of
 * something undefined is an error. */
moerun_status moerun__attribute(moerun__value *out, moerun__render *r,
                                const moerun__value *value, const char *name);
moerun_status moerun__item(moerun__value *out, moerun__render *r,
                           const moerun__value *value,
                           const moerun__value *index);
/* Parts are VALUE_ABSENT or VALUE_NONE where they are left out. */
moerun_status moerun__slice(moerun__value *out, moerun__render *r,
                            const moerun__value *value,
                            const moerun__value part[3]);
/* Attributes of loops and macros; *found 0: there is none. */
moerun_status moerun__loop_member(moerun__value *out, int *found,
                                  moerun__render *r, const moerun__value *value,
                                  const char *name);

moerun_status moerun__operate(moerun__value *out, moerun__render *r,
                              int operation, const moerun__value *a,
                              const moerun__value *b);
moerun_status moerun__compare(int *holds, moerun__render *r, int operation,
                              const moerun__value *a, const moerun__value *b);
moerun_status moerun__contains(int *holds, moerun__render *r,
                               const moerun__value *whole,
                               const moerun__value *part);

/* The values of anything that can be iterated: a list of them, or an error. An
 * iterator is used up. */
moerun_status moerun__elements(const moerun__values **out, moerun__render *r,
                               const moerun__value *value);
/* len(); -1 where Python has none. */
int64_t moerun__length(const moerun__value *value);
moerun_status moerun__required_length(int64_t *out, moerun__render *r,
                                      const moerun__value *value);

/* str() and repr() of a value. */
moerun_status moerun__print(moerun__buffer *out, moerun__render *r,
                            const moerun__value *value);
moerun_status moerun__print_quoted(moerun__buffer *out, moerun__render *r,
                                   const moerun__value *value);
/* str() as a text value; a text is itself. */
moerun_status moerun__as_text(moerun__value *out, moerun__render *r,
                              const moerun__value *value);
enum { MOERUN_REAL_TEXT = 64 };
/* Python's repr of a float. */
void moerun__real_text(char out[MOERUN_REAL_TEXT], double real);
/* json.dumps; indent NULL or VALUE_NONE: one line. */
typedef struct moerun__json_style {
  int ascii;
  int sorted;
  const char *indent; /* of one level; NULL: all in one line */
  size_t indent_count;
  moerun__value item_separator;
  moerun__value key_separator;
} moerun__json_style;
moerun_status moerun__print_json(moerun__buffer *out, moerun__render *r,
                                 const moerun__value *value,
                                 const moerun__json_style *style, int depth);
/* text % value of Python. */
moerun_status moerun__format_percent(moerun__value *out, moerun__render *r,
                                     const moerun__value *text,
                                     const moerun__value *value);
/* text.format(…). */
moerun_status moerun__format_braces(moerun__value *out, moerun__render *r,
                                    const moerun__value *text,
                                    const moerun__arguments *given);

/* A text with &, <, >, " and ' escaped, as HTML has it. */
moerun_status moerun__escape(moerun__value *out, moerun__render *r,
                             const moerun__value *text);

typedef enum moerun__case {
  CASE_LOWER,
  CASE_UPPER,
  CASE_TITLE, /* of Python's str.title */
  CASE_CAPITALIZED
} moerun__case;
moerun_status moerun__change_case(moerun__value *out, moerun__render *r,
                                  const moerun__value *text, moerun__case to);
/* strip: `sides` 1 left, 2 right, 3 both; `characters` VALUE_ABSENT or NONE:
 * blanks. */
moerun_status moerun__strip(moerun__value *out, moerun__render *r,
                            const moerun__value *text,
                            const moerun__value *characters, int sides);
moerun_status moerun__replace(moerun__value *out, moerun__render *r,
                              const moerun__value *text,
                              const moerun__value *before,
                              const moerun__value *after, int64_t most);

/* The text, integer or truth of an argument, or an error that names it. */
moerun_status moerun__want_text(const moerun__value *value, const char *what);
moerun_status moerun__want_integer(int64_t *out, const moerun__value *value,
                                   int64_t fallback, const char *what);

#endif
