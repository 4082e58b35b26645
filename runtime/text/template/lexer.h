/* The text of a template as tokens, with the whitespace control of the
 * environment that Hugging Face transformers renders chats with: a newline
 * behind a block is dropped, and so are blanks in front of a block that stands
 * first in its line. */
#ifndef MOERUN_TEXT_TEMPLATE_LEXER_H
#define MOERUN_TEXT_TEMPLATE_LEXER_H

#include "runtime/text/template/value.h"

typedef enum moerun__token_kind {
  TOKEN_DATA,        /* text between tags */
  TOKEN_PRINT_BEGIN, /* {{ */
  TOKEN_PRINT_END,
  TOKEN_BLOCK_BEGIN, /* {% */
  TOKEN_BLOCK_END,
  TOKEN_NAME,
  TOKEN_VALUE,    /* a text or number */
  TOKEN_OPERATOR, /* text is its spelling */
  TOKEN_END
} moerun__token_kind;

typedef struct moerun__token {
  moerun__token_kind kind;
  int line;
  const char *text;    /* NAME, OPERATOR: a string that ends in NUL */
  moerun__value value; /* DATA, VALUE */
} moerun__token;

typedef struct moerun__tokens {
  moerun__token *at; /* the last one is TOKEN_END */
  size_t count;
  size_t room;
} moerun__tokens;

/* Everything lies in the pool. On failure *line is where, and the message does
 * not name it. `source` is valid UTF-8. */
moerun_status moerun__template_tokens(moerun__tokens *out, int *line,
                                      moerun__pool *pool, const char *source,
                                      size_t count);

#endif
