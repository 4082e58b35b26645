/* Operators, by precedence as in Jinja, which is not Python's: "~" binds
 * stronger than "+", and "**" goes from left to right. */
#include "runtime/text/template/parser.h"

#include <stddef.h>
#include <string.h>

static moerun_status binary(moerun__syntax **out, moerun__parser *p,
                            moerun__syntax_kind kind, int operation,
                            moerun__syntax *left, moerun__syntax *right) {
  moerun_status status = MOERUN_OK;
  moerun__syntax *node = NULL;
  MOERUN_TRY(moerun__parser_node(&node, p, kind));
  node->line = left->line;
  node->operation = operation;
  node->a = left;
  node->b = right;
  *out = node;
done:
  return status;
}

typedef struct level_operator {
  const char *spelt;
  int operation;
} level_operator;

/* Operators from left to right, weakest first; a level ends with a NULL. */
static const level_operator levels[][5] = {
    {{"+", '+'}, {"-", '-'}, {NULL, 0}},
    {{"~", '~'}, {NULL, 0}},
    {{"*", '*'}, {"/", '/'}, {"//", OPERATION_FLOOR}, {"%", '%'}, {NULL, 0}},
    {{"**", OPERATION_POWER}, {NULL, 0}},
};
enum { LEVELS = sizeof levels / sizeof *levels };

static int operation_at(const moerun__parser *p,
                        const level_operator *operators) {
  for (; operators->spelt != NULL; operators++) {
    if (moerun__parser_sees(p, operators->spelt)) return operators->operation;
  }
  return 0;
}

static moerun_status parse_level(moerun__syntax **out, moerun__parser *p,
                                 int level) {
  moerun_status status = MOERUN_OK;
  if (level == LEVELS) return moerun__parse_operand(out, p, 1);
  MOERUN_TRY(parse_level(out, p, level + 1));
  int operation = operation_at(p, levels[level]);
  if (operation == '~') {
    moerun__syntax_list texts = {0};
    moerun__syntax *join = NULL;
    MOERUN_TRY(moerun__parser_node(&join, p, SYNTAX_JOIN));
    moerun__syntax_append(&texts, *out);
    while (moerun__parser_skip(p, "~")) {
      moerun__syntax *text = NULL;
      MOERUN_TRY(parse_level(&text, p, level + 1));
      moerun__syntax_append(&texts, text);
    }
    join->list = texts.first;
    *out = join;
    goto done;
  }
  for (; operation != 0; operation = operation_at(p, levels[level])) {
    moerun__syntax *right = NULL;
    moerun__parser_next(p);
    MOERUN_TRY(parse_level(&right, p, level + 1));
    MOERUN_TRY(binary(out, p, SYNTAX_OPERATION, operation, *out, right));
  }
done:
  return status;
}

static int comparison_at(moerun__parser *p) {
  static const level_operator operators[] = {{"==", OPERATION_EQUAL},
                                             {"!=", OPERATION_UNEQUAL},
                                             {"<", OPERATION_LESS},
                                             {"<=", OPERATION_AT_MOST},
                                             {">", OPERATION_GREATER},
                                             {">=", OPERATION_AT_LEAST},
                                             {NULL, 0}};
  int operation = operation_at(p, operators);
  if (operation != 0) {
    moerun__parser_next(p);
  } else if (moerun__parser_skip_name(p, "in")) {
    operation = OPERATION_IN;
  } else if (moerun__parser_sees_name(p, "not") &&
             p->at[1].kind == TOKEN_NAME && strcmp(p->at[1].text, "in") == 0) {
    moerun__parser_next(p);
    moerun__parser_next(p);
    operation = OPERATION_NOT_IN;
  }
  return operation;
}

static moerun_status parse_compare(moerun__syntax **out, moerun__parser *p) {
  moerun_status status = MOERUN_OK;
  moerun__syntax_list compared = {0};
  moerun__syntax *compare = NULL;
  MOERUN_TRY(parse_level(out, p, 0));
  for (int operation = comparison_at(p); operation != 0;
       operation = comparison_at(p)) {
    moerun__syntax *right = NULL;
    moerun__syntax *term = NULL;
    MOERUN_TRY(parse_level(&right, p, 0));
    MOERUN_TRY(moerun__parser_node(&term, p, SYNTAX_COMPARED));
    term->operation = operation;
    term->a = right;
    moerun__syntax_append(&compared, term);
  }
  if (compared.first == NULL) goto done;
  MOERUN_TRY(moerun__parser_node(&compare, p, SYNTAX_COMPARE));
  compare->line = (*out)->line;
  compare->a = *out;
  compare->list = compared.first;
  *out = compare;
done:
  return status;
}

static moerun_status parse_not(moerun__syntax **out, moerun__parser *p) {
  moerun_status status = MOERUN_OK;
  int negations = 0;
  while (moerun__parser_skip_name(p, "not"))
    negations++;
  MOERUN_TRY(parse_compare(out, p));
  negations = negations > 2 ? 2 - negations % 2 : negations;
  for (; negations > 0; negations--) {
    moerun__syntax *node = NULL;
    MOERUN_TRY(moerun__parser_node(&node, p, SYNTAX_NOT));
    node->a = *out;
    *out = node;
  }
done:
  return status;
}

static moerun_status parse_and(moerun__syntax **out, moerun__parser *p) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(parse_not(out, p));
  while (moerun__parser_skip_name(p, "and")) {
    moerun__syntax *right = NULL;
    MOERUN_TRY(parse_not(&right, p));
    MOERUN_TRY(binary(out, p, SYNTAX_AND, 0, *out, right));
  }
done:
  return status;
}

static moerun_status parse_or(moerun__syntax **out, moerun__parser *p) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(parse_and(out, p));
  while (moerun__parser_skip_name(p, "or")) {
    moerun__syntax *right = NULL;
    MOERUN_TRY(parse_and(&right, p));
    MOERUN_TRY(binary(out, p, SYNTAX_OR, 0, *out, right));
  }
done:
  return status;
}

moerun_status moerun__parse_expression(moerun__syntax **out, moerun__parser *p,
                                       int choice) {
  moerun_status status = MOERUN_OK;
  p->depth++;
  MOERUN_REQUIRE(p->depth < MOERUN_SYNTAX_DEPTH, MOERUN_ERR_UNSUPPORTED,
                 "more than %d levels of nesting", MOERUN_SYNTAX_DEPTH);
  MOERUN_TRY(parse_or(out, p));
  while (choice && moerun__parser_skip_name(p, "if")) {
    moerun__syntax *condition = NULL;
    moerun__syntax *otherwise = NULL;
    MOERUN_TRY(parse_or(&condition, p));
    if (moerun__parser_skip_name(p, "else")) {
      MOERUN_TRY(moerun__parse_expression(&otherwise, p, 1));
    }
    MOERUN_TRY(binary(out, p, SYNTAX_CHOICE, 0, *out, condition));
    (*out)->c = otherwise;
  }
done:
  p->depth--;
  return status;
}
