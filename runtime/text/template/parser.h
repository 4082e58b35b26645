/* What the parsers of expressions and of statements share. */
#ifndef MOERUN_TEXT_TEMPLATE_PARSER_H
#define MOERUN_TEXT_TEMPLATE_PARSER_H

#include "runtime/text/template/lexer.h"
#include "runtime/text/template/syntax.h"

typedef struct moerun__parser {
  const moerun__token *at; /* the current token */
  moerun__pool *pool;
  moerun__symbols *symbols;
  int *line;
  int depth; /* of expressions and statements within each other */
  int loops; /* that a break may leave */
  int uses;  /* bits of the fixed symbols that a macro's body names */
} moerun__parser;

enum { MOERUN_SYNTAX_DEPTH = 120 };

/* The end of a list of nodes that grows. */
typedef struct moerun__syntax_list {
  moerun__syntax *first;
  moerun__syntax *last;
} moerun__syntax_list;
void moerun__syntax_append(moerun__syntax_list *list, moerun__syntax *node);

moerun_status moerun__parser_node(moerun__syntax **out, moerun__parser *p,
                                  moerun__syntax_kind kind);
moerun_status moerun__parser_symbol(int *out, moerun__parser *p,
                                    const char *name);
/* Goes to the next token. */
void moerun__parser_next(moerun__parser *p);
int moerun__parser_sees(const moerun__parser *p, const char *operation);
int moerun__parser_sees_name(const moerun__parser *p, const char *name);
/* Goes on if the operator or name is there; returns whether it was. */
int moerun__parser_skip(moerun__parser *p, const char *operation);
int moerun__parser_skip_name(moerun__parser *p, const char *name);
/* The same, and an error if it is not there. */
moerun_status moerun__parser_expect(moerun__parser *p, const char *operation);
moerun_status moerun__parser_expect_name(const char **name, moerun__parser *p);
/* "expected WHAT, found TOKEN" */
moerun_status moerun__parser_unexpected(const moerun__parser *p,
                                        const char *what);

/* An expression; with choice 0 without "a if b else c" at its top. */
moerun_status moerun__parse_expression(moerun__syntax **out, moerun__parser *p,
                                       int choice);
/* An expression, or a tuple of them without brackets. It ends where
 * `end_word`, if not NULL, stands. */
moerun_status moerun__parse_tuple(moerun__syntax **out, moerun__parser *p,
                                  int choice, const char *end_word);
/* "|name(…)…" of the subject, which may be NULL (a block's text). The first one
 * has no "|" where `starts`. */
moerun_status moerun__parse_filters(moerun__syntax **out, moerun__parser *p,
                                    moerun__syntax *subject, int starts);
/* "(…)" of a call. */
moerun_status moerun__parse_arguments(moerun__syntax_list *out,
                                      moerun__parser *p);
/* An operand with its sign, members and calls, and its filters and tests if
 * `filters`. */
moerun_status moerun__parse_operand(moerun__syntax **out, moerun__parser *p,
                                    int filters);
/* A primary expression with its members and calls. */
moerun_status moerun__parse_call(moerun__syntax **out, moerun__parser *p);

#endif
