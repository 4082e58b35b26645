/* Expressions, and calls of what they name. */
#include "runtime/text/template/render.h"

#include <string.h>

/* ---- Names and literals -------------------------------------------------- */

static moerun_status find_name(moerun__value *out, moerun__render *r,
                               const moerun__syntax *node) {
  const moerun__value *found = moerun__scope_find(r->scope, node->symbol);
  const moerun__builtin *builtin = NULL;
  if (found != NULL) {
    *out = *found;
  } else if ((builtin = moerun__function_find(node->name)) != NULL) {
    *out = (moerun__value){.kind = VALUE_FUNCTION, .builtin = builtin};
  } else {
    *out = moerun__undefined(node->name, NULL);
  }
  return MOERUN_OK;
}

static moerun_status make_sequence(moerun__value *out, moerun__render *r,
                                   const moerun__syntax *node) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__values_make(
      out, &r->pool, node->kind == SYNTAX_LIST ? VALUE_LIST : VALUE_TUPLE, 0));
  for (const moerun__syntax *at = node->list; at != NULL; at = at->next) {
    moerun__value value;
    MOERUN_TRY(moerun__evaluate(&value, r, at));
    MOERUN_TRY(moerun__values_append(out->sequence, &r->pool, &value));
  }
done:
  return status;
}

static moerun_status make_dict(moerun__value *out, moerun__render *r,
                               const moerun__syntax *node) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__dict_value(out, &r->pool, VALUE_DICT, 0));
  for (const moerun__syntax *at = node->list; at != NULL; at = at->next->next) {
    moerun__value key;
    moerun__value value;
    MOERUN_TRY(moerun__evaluate(&key, r, at));
    MOERUN_TRY(moerun__evaluate(&value, r, at->next));
    MOERUN_REQUIRE(moerun__is_hashable(&key), MOERUN_ERR_INVALID,
                   "a %s is no key", moerun__kind_name(&key));
    MOERUN_TRY(moerun__render_look_up(r, out->dict, &key));
    MOERUN_TRY(moerun__dict_set(out->dict, &r->pool, &key, &value));
  }
done:
  return status;
}

/* ---- Operators ----------------------------------------------------------- */

static moerun_status join_texts(moerun__value *out, moerun__render *r,
                                const moerun__syntax *node) {
  moerun_status status = MOERUN_OK;
  moerun__buffer text = {0};
  for (const moerun__syntax *at = node->list; at != NULL; at = at->next) {
    moerun__value value;
    MOERUN_TRY(moerun__evaluate(&value, r, at));
    MOERUN_TRY(moerun__print(&text, r, &value));
  }
  *out = moerun__borrowed_text(text.bytes, text.count);
done:
  return status;
}

static moerun_status compare_all(moerun__value *out, moerun__render *r,
                                 const moerun__syntax *node) {
  moerun_status status = MOERUN_OK;
  moerun__value left;
  int holds = 1;
  MOERUN_TRY(moerun__evaluate(&left, r, node->a));
  for (const moerun__syntax *at = node->list; holds && at != NULL;
       at = at->next) {
    moerun__value right;
    MOERUN_TRY(moerun__evaluate(&right, r, at->a));
    MOERUN_TRY(moerun__compare(&holds, r, at->operation, &left, &right));
    left = right;
  }
  *out = moerun__truth(holds);
done:
  return status;
}

static moerun_status with_sign(moerun__value *out, moerun__render *r,
                               const moerun__syntax *node) {
  moerun_status status = MOERUN_OK;
  moerun__value value;
  const moerun__value zero = moerun__integer(0);
  const int negative = node->kind == SYNTAX_NEGATIVE;
  MOERUN_TRY(moerun__evaluate(&value, r, node->a));
  MOERUN_REQUIRE(moerun__is_number(&value), MOERUN_ERR_INVALID,
                 "a %s has no sign", moerun__kind_name(&value));
  if (value.kind == VALUE_REAL) {
    *out = moerun__real(negative ? -value.real : value.real);
  } else {
    MOERUN_TRY(moerun__operate(out, r, negative ? '-' : '+', &zero, &value));
  }
done:
  return status;
}

static moerun_status choose(moerun__value *out, moerun__render *r,
                            const moerun__syntax *node) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__evaluate(out, r, node->a));
  const int truth = moerun__is_true(out);
  if (node->kind == SYNTAX_NOT) {
    *out = moerun__truth(!truth);
  } else if (truth == (node->kind == SYNTAX_AND)) {
    MOERUN_TRY(moerun__evaluate(out, r, node->b));
  }
done:
  return status;
}

/* "a if b else c" */
static moerun_status choose_branch(moerun__value *out, moerun__render *r,
                                   const moerun__syntax *node) {
  moerun_status status = MOERUN_OK;
  moerun__value condition;
  MOERUN_TRY(moerun__evaluate(&condition, r, node->b));
  if (moerun__is_true(&condition)) {
    MOERUN_TRY(moerun__evaluate(out, r, node->a));
  } else if (node->c != NULL) {
    MOERUN_TRY(moerun__evaluate(out, r, node->c));
  } else {
    *out = moerun__undefined("an if without else", NULL);
  }
done:
  return status;
}

static moerun_status take_slice(moerun__value *out, moerun__render *r,
                                const moerun__syntax *node) {
  moerun_status status = MOERUN_OK;
  moerun__value value;
  moerun__value part[3] = {{0}};
  size_t i = 0;
  MOERUN_TRY(moerun__evaluate(&value, r, node->a));
  for (const moerun__syntax *at = node->list; at != NULL; at = at->next, i++) {
    if (at->a != NULL) MOERUN_TRY(moerun__evaluate(&part[i], r, at->a));
  }
  MOERUN_TRY(moerun__slice(out, r, &value, part));
done:
  return status;
}

/* ---- Calls --------------------------------------------------------------- */

static moerun_status add_named(moerun__value *names, moerun__value *values,
                               moerun__render *r, const moerun__value *name,
                               const moerun__value *value) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(name->kind == VALUE_TEXT, MOERUN_ERR_INVALID,
                 "a %s is no name of an argument", moerun__kind_name(name));
  MOERUN_TRY(moerun__values_append(names->sequence, &r->pool, name));
  MOERUN_TRY(moerun__values_append(values->sequence, &r->pool, value));
done:
  return status;
}

static moerun_status add_argument(moerun__value lists[3], moerun__render *r,
                                  const moerun__syntax *node) {
  moerun_status status = MOERUN_OK;
  moerun__value value;
  MOERUN_TRY(moerun__evaluate(&value, r, node->a));
  if (node->name != NULL) {
    const moerun__value name =
        moerun__borrowed_text(node->name, strlen(node->name));
    MOERUN_TRY(add_named(&lists[1], &lists[2], r, &name, &value));
  } else if (node->operation == OPERATION_STAR) {
    const moerun__values *all = NULL;
    MOERUN_TRY(moerun__elements(&all, r, &value));
    for (size_t i = 0; i < all->count; i++) {
      MOERUN_TRY(
          moerun__values_append(lists[0].sequence, &r->pool, &all->at[i]));
    }
  } else if (node->operation == OPERATION_TWO_STARS) {
    MOERUN_REQUIRE(value.kind == VALUE_DICT, MOERUN_ERR_INVALID,
                   "expected a mapping behind \"**\", found a %s",
                   moerun__kind_name(&value));
    for (size_t i = 0; i < value.dict->count; i++) {
      MOERUN_TRY(add_named(&lists[1], &lists[2], r, &value.dict->at[i].key,
                           &value.dict->at[i].value));
    }
  } else {
    MOERUN_TRY(moerun__values_append(lists[0].sequence, &r->pool, &value));
  }
done:
  return status;
}

moerun_status moerun__evaluate_arguments(moerun__arguments *out,
                                         moerun__render *r,
                                         const moerun__syntax *list) {
  moerun_status status = MOERUN_OK;
  moerun__value lists[3]; /* those without a name; names; values of names */
  *out = (moerun__arguments){0};
  if (list == NULL) goto done;
  for (int i = 0; i < 3; i++) {
    MOERUN_TRY(moerun__values_make(&lists[i], &r->pool, VALUE_LIST, 0));
  }
  for (; list != NULL; list = list->next) {
    MOERUN_TRY(add_argument(lists, r, list));
  }
  out->at = lists[0].sequence->at;
  out->count = lists[0].sequence->count;
  out->named_count = lists[1].sequence->count;
  if (out->named_count > 0) {
    MOERUN_TRY(moerun__pool_take(&r->pool, &out->named,
                                 out->named_count * sizeof *out->named));
  }
  for (size_t i = 0; i < out->named_count; i++) {
    out->named[i].name = lists[1].sequence->at[i];
    out->named[i].value = lists[2].sequence->at[i];
    for (size_t k = 0; k < i; k++) {
      int equal = 0;
      MOERUN_TRY(moerun__value_equal(&equal, &out->named[i].name,
                                     &out->named[k].name, 0, &r->steps));
      MOERUN_REQUIRE(!equal, MOERUN_ERR_INVALID,
                     "an argument is given twice: %.*s",
                     moerun__shown_bytes(&out->named[i].name),
                     out->named[i].name.text.bytes);
    }
  }
done:
  return status;
}

/* Parameters of a macro that the call did not give. */
static moerun_status set_defaults(moerun__render *r,
                                  const moerun__syntax *parameters) {
  moerun_status status = MOERUN_OK;
  const moerun__syntax *at = parameters;
  for (; at != NULL; at = at->next) {
    const moerun__value *given = moerun__scope_find(r->scope, at->symbol);
    moerun__value value = moerun__undefined(at->name, NULL);
    if (given->kind != VALUE_ABSENT) continue;
    if (at->a != NULL) MOERUN_TRY(moerun__evaluate(&value, r, at->a));
    MOERUN_TRY(moerun__scope_set(r, at->symbol, &value));
  }
done:
  return status;
}

/* What is given beyond the parameters: varargs, kwargs, caller. */
static moerun_status set_rest(moerun__render *r, const moerun__arguments *given,
                              size_t taken, const char *used) {
  moerun_status status = MOERUN_OK;
  moerun__value rest;
  moerun__value named;
  moerun__value caller = moerun__undefined("caller", NULL);
  MOERUN_TRY(moerun__values_make(&rest, &r->pool, VALUE_TUPLE, 0));
  MOERUN_TRY(moerun__dict_value(&named, &r->pool, VALUE_DICT, 0));
  for (size_t i = taken; i < given->count; i++) {
    MOERUN_TRY(moerun__values_append(rest.sequence, &r->pool, &given->at[i]));
  }
  for (size_t i = 0; i < given->named_count; i++) {
    const moerun__named *argument = &given->named[i];
    if (used[i]) continue;
    if (moerun__value_is(&argument->name, "caller")) {
      caller = argument->value;
    } else {
      MOERUN_TRY(moerun__dict_set(named.dict, &r->pool, &argument->name,
                                  &argument->value));
    }
  }
  MOERUN_TRY(moerun__scope_set(r, SYMBOL_CALLER, &caller));
  MOERUN_TRY(moerun__scope_set(r, SYMBOL_VARARGS, &rest));
  MOERUN_TRY(moerun__scope_set(r, SYMBOL_KWARGS, &named));
done:
  return status;
}

static moerun_status check_rest(const moerun__syntax *macro,
                                const moerun__arguments *given, size_t taken,
                                const char *used) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(
      taken >= given->count || (macro->operation & 1 << SYMBOL_VARARGS) != 0,
      MOERUN_ERR_INVALID, "the macro \"%.40s\" takes at most %zu arguments",
      macro->name, taken);
  for (size_t i = 0; i < given->named_count; i++) {
    const moerun__value *name = &given->named[i].name;
    if (used[i]) continue;
    const int symbol =
        moerun__value_is(name, "caller") ? SYMBOL_CALLER : SYMBOL_KWARGS;
    MOERUN_REQUIRE((macro->operation & 1 << symbol) != 0, MOERUN_ERR_INVALID,
                   "the macro \"%.40s\" takes no argument \"%.*s\"",
                   macro->name, moerun__shown_bytes(name), name->text.bytes);
  }
done:
  return status;
}

/* Sets the parameters in the scope at hand. */
static moerun_status set_parameters(moerun__render *r,
                                    const moerun__syntax *macro,
                                    const moerun__arguments *given) {
  moerun_status status = MOERUN_OK;
  char *used = NULL;
  size_t taken = 0;
  MOERUN_TRY(moerun__pool_take(&r->pool, &used, given->named_count + 1));
  for (const moerun__syntax *at = macro->list; at != NULL; at = at->next) {
    moerun__value value = {.kind = VALUE_ABSENT};
    const int by_place = taken < given->count;
    if (by_place) value = given->at[taken];
    for (size_t i = 0; i < given->named_count; i++) {
      if (!moerun__value_is(&given->named[i].name, at->name)) continue;
      MOERUN_REQUIRE(!by_place, MOERUN_ERR_INVALID,
                     "the macro \"%.40s\" is given \"%.40s\" twice",
                     macro->name, at->name);
      value = given->named[i].value;
      used[i] = 1;
    }
    taken++;
    MOERUN_TRY(moerun__scope_set(r, at->symbol, &value));
  }
  MOERUN_TRY(check_rest(macro, given, taken, used));
  MOERUN_TRY(set_rest(r, given, taken, used));
  MOERUN_TRY(set_defaults(r, macro->list));
done:
  return status;
}

moerun_status moerun__call_macro(moerun__value *out, moerun__render *r,
                                 const moerun__macro *macro,
                                 const moerun__arguments *given) {
  moerun_status status = MOERUN_OK;
  moerun__scope *const before = r->scope;
  int jump = 0;
  MOERUN_TRY(moerun__render_deeper(r));
  MOERUN_TRY(moerun__scope_open(r, macro->scope));
  MOERUN_TRY(set_parameters(r, macro->syntax, given));
  MOERUN_TRY(moerun__capture(out, &jump, r, macro->syntax->body));
done:
  r->depth--;
  r->scope = before;
  return status;
}

moerun_status moerun__call(moerun__value *out, moerun__render *r,
                           const moerun__value *callee,
                           const moerun__arguments *given) {
  moerun_status status = MOERUN_OK;
  switch (callee->kind) {
  case VALUE_MACRO:
    MOERUN_TRY(moerun__call_macro(out, r, callee->macro, given));
    break;
  case VALUE_FUNCTION:
    MOERUN_TRY(moerun__builtin_apply(out, r, callee->builtin, "function", NULL,
                                     given));
    break;
  case VALUE_METHOD:
    MOERUN_TRY(moerun__builtin_apply(out, r, callee->method->builtin, "method",
                                     &callee->method->subject, given));
    break;
  case VALUE_LOOP:
    MOERUN_REQUIRE(given->count == 1 && given->named_count == 0,
                   MOERUN_ERR_INVALID, "a loop takes one argument");
    MOERUN_TRY(moerun__call_loop(out, r, callee->loop, &given->at[0]));
    break;
  case VALUE_JOINER:
    if (callee->joiner->used) {
      *out = callee->joiner->between;
    } else {
      *out = moerun__borrowed_text("", 0);
    }
    callee->joiner->used = 1;
    break;
  case VALUE_UNDEFINED:
    MOERUN_REQUIRE(callee->missing.holder == NULL, MOERUN_ERR_INVALID,
                   "%s has no method \"%.40s\" that a template may call",
                   callee->missing.holder, callee->missing.name);
    MOERUN_REQUIRE(0, MOERUN_ERR_INVALID, "\"%.40s\" is not defined",
                   callee->missing.name);
  default:
    MOERUN_REQUIRE(0, MOERUN_ERR_INVALID, "a %s cannot be called",
                   moerun__kind_name(callee));
  }
done:
  return status;
}

static moerun_status evaluate_call(moerun__value *out, moerun__render *r,
                                   const moerun__syntax *node) {
  moerun_status status = MOERUN_OK;
  moerun__value callee;
  moerun__arguments given;
  MOERUN_TRY(moerun__evaluate(&callee, r, node->a));
  MOERUN_TRY(moerun__evaluate_arguments(&given, r, node->list));
  r->line = node->line;
  MOERUN_TRY(moerun__call(out, r, &callee, &given));
done:
  return status;
}

/* A filter or a test. */
static moerun_status evaluate_builtin(moerun__value *out, moerun__render *r,
                                      const moerun__syntax *node) {
  moerun_status status = MOERUN_OK;
  moerun__value subject;
  moerun__arguments given;
  const char *what = node->kind == SYNTAX_FILTER ? "filter" : "test";
  MOERUN_REQUIRE(node->builtin != NULL, MOERUN_ERR_UNSUPPORTED,
                 "the %s \"%.40s\" is not known", what, node->name);
  MOERUN_TRY(moerun__evaluate(&subject, r, node->a));
  MOERUN_TRY(moerun__evaluate_arguments(&given, r, node->list));
  r->line = node->line;
  MOERUN_TRY(
      moerun__builtin_apply(out, r, node->builtin, what, &subject, &given));
done:
  return status;
}

/* ---- All of them --------------------------------------------------------- */

static moerun_status evaluate_two(moerun__value *out, moerun__render *r,
                                  const moerun__syntax *node) {
  moerun_status status = MOERUN_OK;
  moerun__value a;
  moerun__value b;
  MOERUN_TRY(moerun__evaluate(&a, r, node->a));
  MOERUN_TRY(moerun__evaluate(&b, r, node->b));
  r->line = node->line;
  if (node->kind == SYNTAX_ITEM) {
    MOERUN_TRY(moerun__item(out, r, &a, &b));
  } else {
    MOERUN_TRY(moerun__operate(out, r, node->operation, &a, &b));
  }
done:
  return status;
}

moerun_status moerun__evaluate(moerun__value *out, moerun__render *r,
                               const moerun__syntax *node) {
  moerun_status status = MOERUN_OK;
  moerun__value value;
  MOERUN_TRY(moerun__render_deeper(r));
  MOERUN_TRY(moerun__render_spend(r, 1));
  switch (node->kind) {
  case SYNTAX_CONSTANT: *out = node->constant; break;
  case SYNTAX_NAME: MOERUN_TRY(find_name(out, r, node)); break;
  case SYNTAX_LIST:
  case SYNTAX_TUPLE: MOERUN_TRY(make_sequence(out, r, node)); break;
  case SYNTAX_DICT: MOERUN_TRY(make_dict(out, r, node)); break;
  case SYNTAX_CHOICE: MOERUN_TRY(choose_branch(out, r, node)); break;
  case SYNTAX_OR:
  case SYNTAX_AND:
  case SYNTAX_NOT: MOERUN_TRY(choose(out, r, node)); break;
  case SYNTAX_COMPARE: MOERUN_TRY(compare_all(out, r, node)); break;
  case SYNTAX_ITEM:
  case SYNTAX_OPERATION: MOERUN_TRY(evaluate_two(out, r, node)); break;
  case SYNTAX_JOIN: MOERUN_TRY(join_texts(out, r, node)); break;
  case SYNTAX_NEGATIVE:
  case SYNTAX_POSITIVE: MOERUN_TRY(with_sign(out, r, node)); break;
  case SYNTAX_ATTRIBUTE:
    MOERUN_TRY(moerun__evaluate(&value, r, node->a));
    r->line = node->line;
    MOERUN_TRY(moerun__attribute(out, r, &value, node->name));
    break;
  case SYNTAX_SLICE: MOERUN_TRY(take_slice(out, r, node)); break;
  case SYNTAX_CALL: MOERUN_TRY(evaluate_call(out, r, node)); break;
  case SYNTAX_FILTER:
  case SYNTAX_TEST: MOERUN_TRY(evaluate_builtin(out, r, node)); break;
  default: MOERUN_REQUIRE(0, MOERUN_ERR_UNSUPPORTED, "an unknown expression");
  }
done:
  r->depth--;
  return status;
}
