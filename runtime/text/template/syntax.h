/* What a template is parsed into. One kind of node serves expressions, targets
 * and statements; which members a kind uses stands beside it. Nodes lie in the
 * template's pool and are not changed by a rendering. */
#ifndef MOERUN_TEXT_TEMPLATE_SYNTAX_H
#define MOERUN_TEXT_TEMPLATE_SYNTAX_H

#include "runtime/text/template/value.h"

typedef enum moerun__syntax_kind {
  /* Expressions: `list` is of operands, elements or arguments. */
  SYNTAX_CONSTANT, /* constant */
  SYNTAX_NAME,     /* symbol, name; also a target */
  SYNTAX_MEMBER,   /* namespace attribute as a target: symbol, name */
  SYNTAX_LIST,     /* list */
  SYNTAX_TUPLE,    /* list; also a target */
  SYNTAX_DICT,     /* list: key, value, key, value, … */
  SYNTAX_CHOICE,   /* a if b else c (c may be NULL) */
  SYNTAX_OR,       /* a or b */
  SYNTAX_AND,
  SYNTAX_NOT,       /* a */
  SYNTAX_COMPARE,   /* a, then list of COMPARED */
  SYNTAX_COMPARED,  /* operation, a */
  SYNTAX_OPERATION, /* operation: a, b */
  SYNTAX_JOIN,      /* list, as texts */
  SYNTAX_NEGATIVE,  /* a */
  SYNTAX_POSITIVE,
  SYNTAX_ATTRIBUTE, /* a.name */
  SYNTAX_ITEM,      /* a[b] */
  SYNTAX_SLICE,     /* a[list: start, stop, step as ARGUMENTs, a may be NULL] */
  SYNTAX_CALL,      /* a(list) */
  SYNTAX_ARGUMENT,  /* a, with a name, or operation '*' or 'd' (two stars) */
  SYNTAX_FILTER,    /* a|name(list); a NULL: of a block's text */
  SYNTAX_TEST,      /* a is name(list) */
  /* Statements: `body` is of statements. */
  SYNTAX_TEXT,         /* constant */
  SYNTAX_PRINT,        /* a */
  SYNTAX_IF,           /* a, body, other */
  SYNTAX_FOR,          /* a: target, b: iterable, c: condition, body, other */
  SYNTAX_SET,          /* a: target, b: value */
  SYNTAX_SET_BLOCK,    /* a: target, b: filters or NULL, body */
  SYNTAX_MACRO,        /* symbol, name, list of PARAMETER, body */
  SYNTAX_PARAMETER,    /* symbol, name, a: default or NULL */
  SYNTAX_CALL_BLOCK,   /* a: call, list of PARAMETER, body */
  SYNTAX_FILTER_BLOCK, /* b: filters, body */
  SYNTAX_WITH,         /* list of SET, body */
  SYNTAX_SCOPE,        /* body, with variables of its own */
  SYNTAX_BREAK,
  SYNTAX_CONTINUE
} moerun__syntax_kind;

typedef struct moerun__syntax {
  moerun__syntax_kind kind;
  int line;
  int operation; /* '+' or one of those below; MACRO: bits of symbols it uses */
  int symbol;    /* the number of a variable's name */
  int recursive; /* FOR */
  const char *name;
  moerun__value constant;
  const struct moerun__builtin *builtin; /* FILTER, TEST; NULL: not known */
  const struct moerun__syntax *a;
  const struct moerun__syntax *b;
  const struct moerun__syntax *c;
  const struct moerun__syntax *list;
  const struct moerun__syntax *body;
  const struct moerun__syntax *other;
  const struct moerun__syntax *next; /* in a list */
} moerun__syntax;

/* Operators of more than one character. */
enum {
  OPERATION_FLOOR = 256, /* // */
  OPERATION_POWER,
  OPERATION_EQUAL,
  OPERATION_UNEQUAL,
  OPERATION_LESS,
  OPERATION_AT_MOST,
  OPERATION_GREATER,
  OPERATION_AT_LEAST,
  OPERATION_IN,
  OPERATION_NOT_IN,
  OPERATION_STAR, /* of arguments */
  OPERATION_TWO_STARS
};

/* Names of variables; a symbol is an index. The first ones are fixed. */
enum { SYMBOL_LOOP, SYMBOL_CALLER, SYMBOL_VARARGS, SYMBOL_KWARGS, SYMBOLS };
typedef struct moerun__symbols {
  const char **name;
  size_t count;
  size_t room;
} moerun__symbols;

/* Parses a template. *out is its first statement, NULL if it is empty. On
 * failure *line is where, and the message does not name it. */
moerun_status moerun__template_parse(const moerun__syntax **out,
                                     moerun__symbols *symbols, int *line,
                                     moerun__pool *pool, const char *source,
                                     size_t count);

#endif
