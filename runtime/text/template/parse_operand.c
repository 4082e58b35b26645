/* The operands of expressions: literals, names and brackets, with the members,
 * calls, filters and tests behind them, which bind stronger than any
 * operator. */
#include "runtime/text/template/parser.h"

#include "runtime/text/template/builtin.h"

#include <stddef.h>
#include <string.h>

void moerun__syntax_append(moerun__syntax_list *list, moerun__syntax *node) {
  if (list->first == NULL) {
    list->first = node;
  } else {
    list->last->next = node;
  }
  list->last = node;
}

/* ---- Literals, names and brackets ---------------------------------------- */

static moerun_status constant(moerun__syntax **out, moerun__parser *p,
                              moerun__value value) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__parser_node(out, p, SYNTAX_CONSTANT));
  (*out)->constant = value;
done:
  return status;
}

/* Texts side by side are one. */
static moerun_status parse_literal(moerun__syntax **out, moerun__parser *p) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(constant(out, p, p->at->value));
  moerun__parser_next(p);
  if ((*out)->constant.kind != VALUE_TEXT || p->at->kind != TOKEN_VALUE) {
    goto done;
  }
  moerun__buffer joined = {0};
  MOERUN_TRY(moerun__buffer_append(&joined, p->pool,
                                   (*out)->constant.text.bytes,
                                   (*out)->constant.text.count));
  while (p->at->kind == TOKEN_VALUE && p->at->value.kind == VALUE_TEXT) {
    MOERUN_TRY(moerun__buffer_append(&joined, p->pool, p->at->value.text.bytes,
                                     p->at->value.text.count));
    moerun__parser_next(p);
  }
  (*out)->constant = moerun__borrowed_text(joined.bytes, joined.count);
done:
  return status;
}

static moerun_status parse_name(moerun__syntax **out, moerun__parser *p) {
  static const struct {
    const char *name;
    moerun__value_kind kind;
    int truth;
  } constants[] = {{"true", VALUE_BOOL, 1},  {"True", VALUE_BOOL, 1},
                   {"false", VALUE_BOOL, 0}, {"False", VALUE_BOOL, 0},
                   {"none", VALUE_NONE, 0},  {"None", VALUE_NONE, 0}};
  moerun_status status = MOERUN_OK;
  for (size_t i = 0; i < sizeof constants / sizeof *constants; i++) {
    if (strcmp(p->at->text, constants[i].name) == 0) {
      const moerun__value value = {.kind = constants[i].kind,
                                   .truth = constants[i].truth};
      MOERUN_TRY(constant(out, p, value));
      moerun__parser_next(p);
      goto done;
    }
  }
  MOERUN_TRY(moerun__parser_node(out, p, SYNTAX_NAME));
  (*out)->name = p->at->text;
  MOERUN_TRY(moerun__parser_symbol(&(*out)->symbol, p, p->at->text));
  if ((*out)->symbol < SYMBOLS) p->uses |= 1 << (*out)->symbol;
  moerun__parser_next(p);
done:
  return status;
}

static moerun_status parse_list(moerun__syntax **out, moerun__parser *p) {
  moerun_status status = MOERUN_OK;
  moerun__syntax_list list = {0};
  MOERUN_TRY(moerun__parser_node(out, p, SYNTAX_LIST));
  MOERUN_TRY(moerun__parser_expect(p, "["));
  while (!moerun__parser_sees(p, "]")) {
    moerun__syntax *element = NULL;
    if (list.first != NULL) MOERUN_TRY(moerun__parser_expect(p, ","));
    if (moerun__parser_sees(p, "]")) break;
    MOERUN_TRY(moerun__parse_expression(&element, p, 1));
    moerun__syntax_append(&list, element);
  }
  MOERUN_TRY(moerun__parser_expect(p, "]"));
  (*out)->list = list.first;
done:
  return status;
}

static moerun_status parse_dict(moerun__syntax **out, moerun__parser *p) {
  moerun_status status = MOERUN_OK;
  moerun__syntax_list list = {0};
  MOERUN_TRY(moerun__parser_node(out, p, SYNTAX_DICT));
  MOERUN_TRY(moerun__parser_expect(p, "{"));
  while (!moerun__parser_sees(p, "}")) {
    moerun__syntax *key = NULL;
    moerun__syntax *value = NULL;
    if (list.first != NULL) MOERUN_TRY(moerun__parser_expect(p, ","));
    if (moerun__parser_sees(p, "}")) break;
    MOERUN_TRY(moerun__parse_expression(&key, p, 1));
    MOERUN_TRY(moerun__parser_expect(p, ":"));
    MOERUN_TRY(moerun__parse_expression(&value, p, 1));
    moerun__syntax_append(&list, key);
    moerun__syntax_append(&list, value);
  }
  MOERUN_TRY(moerun__parser_expect(p, "}"));
  (*out)->list = list.first;
done:
  return status;
}

static int ends_tuple(const moerun__parser *p, const char *end_word) {
  return p->at->kind == TOKEN_PRINT_END || p->at->kind == TOKEN_BLOCK_END ||
         moerun__parser_sees(p, ")") ||
         (end_word != NULL && moerun__parser_sees_name(p, end_word));
}

/* `empty`: nothing is a tuple of no values. */
static moerun_status parse_tuple(moerun__syntax **out, moerun__parser *p,
                                 int choice, const char *end_word, int empty) {
  moerun_status status = MOERUN_OK;
  moerun__syntax_list list = {0};
  int is_tuple = 0;
  const int line = p->at->line;
  while (!ends_tuple(p, end_word)) {
    moerun__syntax *element = NULL;
    MOERUN_TRY(moerun__parse_expression(&element, p, choice));
    moerun__syntax_append(&list, element);
    if (!moerun__parser_skip(p, ",")) break;
    is_tuple = 1;
  }
  *out = list.first;
  if (list.first != NULL && !is_tuple) goto done;
  if (list.first == NULL && !empty) {
    MOERUN_TRY(moerun__parser_unexpected(p, "an expression"));
  }
  MOERUN_TRY(moerun__parser_node(out, p, SYNTAX_TUPLE));
  (*out)->line = line;
  (*out)->list = list.first;
done:
  return status;
}

moerun_status moerun__parse_tuple(moerun__syntax **out, moerun__parser *p,
                                  int choice, const char *end_word) {
  return parse_tuple(out, p, choice, end_word, 0);
}

static moerun_status parse_primary(moerun__syntax **out, moerun__parser *p) {
  moerun_status status = MOERUN_OK;
  if (p->at->kind == TOKEN_NAME) {
    MOERUN_TRY(parse_name(out, p));
  } else if (p->at->kind == TOKEN_VALUE) {
    MOERUN_TRY(parse_literal(out, p));
  } else if (moerun__parser_sees(p, "(")) {
    moerun__parser_next(p);
    MOERUN_TRY(parse_tuple(out, p, 1, NULL, 1));
    MOERUN_TRY(moerun__parser_expect(p, ")"));
  } else if (moerun__parser_sees(p, "[")) {
    MOERUN_TRY(parse_list(out, p));
  } else if (moerun__parser_sees(p, "{")) {
    MOERUN_TRY(parse_dict(out, p));
  } else {
    MOERUN_TRY(moerun__parser_unexpected(p, "an expression"));
  }
done:
  return status;
}

/* ---- Members, calls, filters, tests -------------------------------------- */

static moerun_status parse_argument(moerun__syntax **out, moerun__parser *p) {
  moerun_status status = MOERUN_OK;
  moerun__syntax *value = NULL;
  MOERUN_TRY(moerun__parser_node(out, p, SYNTAX_ARGUMENT));
  if (moerun__parser_skip(p, "*")) {
    (*out)->operation = OPERATION_STAR;
  } else if (moerun__parser_skip(p, "**")) {
    (*out)->operation = OPERATION_TWO_STARS;
  } else if (p->at->kind == TOKEN_NAME && p->at[1].kind == TOKEN_OPERATOR &&
             strcmp(p->at[1].text, "=") == 0) {
    (*out)->name = p->at->text;
    moerun__parser_next(p);
    moerun__parser_next(p);
  }
  MOERUN_TRY(moerun__parse_expression(&value, p, 1));
  (*out)->a = value;
done:
  return status;
}

moerun_status moerun__parse_arguments(moerun__syntax_list *out,
                                      moerun__parser *p) {
  moerun_status status = MOERUN_OK;
  int named = 0;
  MOERUN_TRY(moerun__parser_expect(p, "("));
  while (!moerun__parser_sees(p, ")")) {
    moerun__syntax *argument = NULL;
    if (out->first != NULL) MOERUN_TRY(moerun__parser_expect(p, ","));
    if (moerun__parser_sees(p, ")")) break;
    MOERUN_TRY(parse_argument(&argument, p));
    const int is_named = argument->name != NULL || argument->operation != 0;
    MOERUN_REQUIRE(is_named || !named, MOERUN_ERR_FORMAT,
                   "a named argument stands before one without a name");
    named |= is_named;
    moerun__syntax_append(out, argument);
  }
  MOERUN_TRY(moerun__parser_expect(p, ")"));
done:
  return status;
}

/* One of the three parts of a slice, or the whole index. */
static moerun_status parse_slice_part(moerun__syntax_list *parts,
                                      moerun__parser *p) {
  moerun_status status = MOERUN_OK;
  moerun__syntax *part = NULL;
  moerun__syntax *value = NULL;
  MOERUN_TRY(moerun__parser_node(&part, p, SYNTAX_ARGUMENT));
  if (!moerun__parser_sees(p, ":") && !moerun__parser_sees(p, "]")) {
    MOERUN_TRY(moerun__parse_expression(&value, p, 1));
  }
  part->a = value;
  moerun__syntax_append(parts, part);
done:
  return status;
}

/* x[a, b] is x[(a, b)], and x[] is x[()]. */
static moerun_status parse_tuple_index(moerun__syntax_list *parts,
                                       moerun__parser *p) {
  moerun_status status = MOERUN_OK;
  moerun__syntax_list list = {0};
  moerun__syntax *tuple = NULL;
  MOERUN_TRY(moerun__parser_node(&tuple, p, SYNTAX_TUPLE));
  for (moerun__syntax *part = parts->first; part->a != NULL;) {
    moerun__syntax *element = NULL;
    MOERUN_TRY(moerun__parser_node(&element, p, SYNTAX_CHOICE));
    *element = *part->a;
    moerun__syntax_append(&list, element);
    if (!moerun__parser_skip(p, ",")) break;
    MOERUN_TRY(parse_slice_part(parts, p));
    part = parts->last;
    MOERUN_REQUIRE(!moerun__parser_sees(p, ":"), MOERUN_ERR_UNSUPPORTED,
                   "an index of several slices is not known");
    if (part->a == NULL) {
      MOERUN_TRY(moerun__parser_unexpected(p, "an expression"));
    }
  }
  tuple->list = list.first;
  parts->first->a = tuple;
done:
  return status;
}

static moerun_status parse_index(moerun__syntax **node, moerun__parser *p) {
  moerun_status status = MOERUN_OK;
  moerun__syntax_list parts = {0};
  moerun__syntax *index = NULL;
  int colons = 0;
  MOERUN_TRY(moerun__parser_expect(p, "["));
  MOERUN_TRY(parse_slice_part(&parts, p));
  while (colons < 2 && moerun__parser_skip(p, ":")) {
    MOERUN_TRY(parse_slice_part(&parts, p));
    colons++;
  }
  if (colons == 0 && (parts.first->a == NULL || moerun__parser_sees(p, ","))) {
    MOERUN_TRY(parse_tuple_index(&parts, p));
  }
  MOERUN_TRY(moerun__parser_expect(p, "]"));
  MOERUN_TRY(
      moerun__parser_node(&index, p, colons > 0 ? SYNTAX_SLICE : SYNTAX_ITEM));
  index->line = (*node)->line;
  index->a = *node;
  if (colons > 0) {
    index->list = parts.first;
  } else {
    index->b = parts.first->a;
  }
  *node = index;
done:
  return status;
}

static moerun_status parse_member(moerun__syntax **node, moerun__parser *p) {
  moerun_status status = MOERUN_OK;
  moerun__syntax *member = NULL;
  moerun__parser_next(p);
  if (p->at->kind == TOKEN_NAME) {
    MOERUN_TRY(moerun__parser_node(&member, p, SYNTAX_ATTRIBUTE));
    member->name = p->at->text;
  } else if (p->at->kind == TOKEN_VALUE && p->at->value.kind == VALUE_INTEGER) {
    moerun__syntax *index = NULL;
    MOERUN_TRY(constant(&index, p, p->at->value));
    MOERUN_TRY(moerun__parser_node(&member, p, SYNTAX_ITEM));
    member->b = index;
  } else {
    MOERUN_TRY(moerun__parser_unexpected(p, "a name or number behind '.'"));
  }
  member->line = (*node)->line;
  member->a = *node;
  moerun__parser_next(p);
  *node = member;
done:
  return status;
}

static moerun_status parse_call_of(moerun__syntax **node, moerun__parser *p) {
  moerun_status status = MOERUN_OK;
  moerun__syntax_list arguments = {0};
  moerun__syntax *call = NULL;
  MOERUN_TRY(moerun__parser_node(&call, p, SYNTAX_CALL));
  MOERUN_TRY(moerun__parse_arguments(&arguments, p));
  call->line = (*node)->line;
  call->a = *node;
  call->list = arguments.first;
  *node = call;
done:
  return status;
}

static moerun_status parse_postfix(moerun__syntax **node, moerun__parser *p) {
  moerun_status status = MOERUN_OK;
  for (;;) {
    if (moerun__parser_sees(p, ".")) {
      MOERUN_TRY(parse_member(node, p));
    } else if (moerun__parser_sees(p, "[")) {
      MOERUN_TRY(parse_index(node, p));
    } else if (moerun__parser_sees(p, "(")) {
      MOERUN_TRY(parse_call_of(node, p));
    } else {
      break;
    }
  }
done:
  return status;
}

moerun_status moerun__parse_call(moerun__syntax **out, moerun__parser *p) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(parse_primary(out, p));
  MOERUN_TRY(parse_postfix(out, p));
done:
  return status;
}

/* The name of a filter or test, which may have dots in it. */
static moerun_status parse_dotted_name(const char **out, moerun__parser *p) {
  moerun_status status = MOERUN_OK;
  moerun__buffer name = {0};
  MOERUN_TRY(moerun__parser_expect_name(out, p));
  if (!moerun__parser_sees(p, ".")) goto done;
  MOERUN_TRY(moerun__buffer_append(&name, p->pool, *out, strlen(*out)));
  while (moerun__parser_skip(p, ".")) {
    const char *part = NULL;
    MOERUN_TRY(moerun__parser_expect_name(&part, p));
    MOERUN_TRY(moerun__buffer_append(&name, p->pool, ".", 1));
    MOERUN_TRY(moerun__buffer_append(&name, p->pool, part, strlen(part)));
  }
  MOERUN_TRY(moerun__buffer_append(&name, p->pool, "", 1));
  *out = name.bytes;
done:
  return status;
}

moerun_status moerun__parse_filters(moerun__syntax **out, moerun__parser *p,
                                    moerun__syntax *subject, int starts) {
  moerun_status status = MOERUN_OK;
  *out = subject;
  while (starts || moerun__parser_skip(p, "|")) {
    moerun__syntax *filter = NULL;
    moerun__syntax_list arguments = {0};
    starts = 0;
    MOERUN_TRY(moerun__parser_node(&filter, p, SYNTAX_FILTER));
    MOERUN_TRY(parse_dotted_name(&filter->name, p));
    filter->builtin = moerun__filter_find(filter->name);
    if (moerun__parser_sees(p, "(")) {
      MOERUN_TRY(moerun__parse_arguments(&arguments, p));
    }
    filter->list = arguments.first;
    filter->a = *out;
    *out = filter;
  }
done:
  return status;
}

/* A test's argument may stand behind it without brackets. */
static int starts_argument(const moerun__parser *p) {
  if (p->at->kind == TOKEN_NAME) {
    return !moerun__parser_sees_name(p, "else") &&
           !moerun__parser_sees_name(p, "or") &&
           !moerun__parser_sees_name(p, "and");
  }
  return p->at->kind == TOKEN_VALUE || moerun__parser_sees(p, "[") ||
         moerun__parser_sees(p, "{");
}

static moerun_status parse_test(moerun__syntax **node, moerun__parser *p) {
  moerun_status status = MOERUN_OK;
  moerun__syntax_list arguments = {0};
  moerun__syntax *test = NULL;
  moerun__parser_next(p);
  const int negated = moerun__parser_skip_name(p, "not");
  MOERUN_TRY(moerun__parser_node(&test, p, SYNTAX_TEST));
  MOERUN_TRY(parse_dotted_name(&test->name, p));
  test->builtin = moerun__test_find(test->name);
  if (moerun__parser_sees(p, "(")) {
    MOERUN_TRY(moerun__parse_arguments(&arguments, p));
  } else if (starts_argument(p)) {
    moerun__syntax *argument = NULL;
    moerun__syntax *value = NULL;
    MOERUN_REQUIRE(!moerun__parser_sees_name(p, "is"), MOERUN_ERR_FORMAT,
                   "a test stands behind a test");
    MOERUN_TRY(moerun__parser_node(&argument, p, SYNTAX_ARGUMENT));
    MOERUN_TRY(moerun__parse_call(&value, p));
    argument->a = value;
    moerun__syntax_append(&arguments, argument);
  }
  test->list = arguments.first;
  test->a = *node;
  *node = test;
  if (negated) {
    MOERUN_TRY(moerun__parser_node(&test, p, SYNTAX_NOT));
    test->a = *node;
    *node = test;
  }
done:
  return status;
}

moerun_status moerun__parse_operand(moerun__syntax **out, moerun__parser *p,
                                    int filters) {
  moerun_status status = MOERUN_OK;
  p->depth++;
  MOERUN_REQUIRE(p->depth < MOERUN_SYNTAX_DEPTH, MOERUN_ERR_UNSUPPORTED,
                 "more than %d levels of nesting", MOERUN_SYNTAX_DEPTH);
  if (moerun__parser_sees(p, "-") || moerun__parser_sees(p, "+")) {
    moerun__syntax *operand = NULL;
    MOERUN_TRY(moerun__parser_node(
        out, p,
        moerun__parser_sees(p, "-") ? SYNTAX_NEGATIVE : SYNTAX_POSITIVE));
    moerun__parser_next(p);
    MOERUN_TRY(moerun__parse_operand(&operand, p, 0));
    (*out)->a = operand;
  } else {
    MOERUN_TRY(parse_primary(out, p));
  }
  MOERUN_TRY(parse_postfix(out, p));
  while (filters) {
    if (moerun__parser_sees(p, "|")) {
      MOERUN_TRY(moerun__parse_filters(out, p, *out, 0));
    } else if (moerun__parser_sees_name(p, "is")) {
      MOERUN_TRY(parse_test(out, p));
    } else if (moerun__parser_sees(p, "(")) {
      MOERUN_TRY(parse_call_of(out, p));
    } else {
      break;
    }
  }
done:
  p->depth--;
  return status;
}
