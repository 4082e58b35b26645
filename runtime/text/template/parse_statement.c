/* Tags: what stands between {% and %}, with everything up to its end tag. */
#include "runtime/text/template/parser.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* ---- Tokens -------------------------------------------------------------- */

moerun_status moerun__parser_node(moerun__syntax **out, moerun__parser *p,
                                  moerun__syntax_kind kind) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__pool_take(p->pool, out, sizeof **out));
  (*out)->kind = kind;
  (*out)->line = p->at->line;
done:
  return status;
}

moerun_status moerun__parser_symbol(int *out, moerun__parser *p,
                                    const char *name) {
  moerun_status status = MOERUN_OK;
  moerun__symbols *symbols = p->symbols;
  enum { MOST = 4096 };
  for (size_t i = 0; i < symbols->count; i++) {
    if (strcmp(symbols->name[i], name) == 0) {
      *out = (int)i;
      goto done;
    }
  }
  MOERUN_REQUIRE(symbols->count < MOST, MOERUN_ERR_UNSUPPORTED,
                 "more than %d names of variables", MOST);
  if (symbols->count == symbols->room) {
    const char **larger = NULL;
    const size_t room = symbols->room * 2 + 32;
    MOERUN_TRY(moerun__pool_take(p->pool, &larger, room * sizeof *larger));
    if (symbols->count > 0) {
      memcpy(larger, symbols->name, symbols->count * sizeof *larger);
    }
    symbols->name = larger;
    symbols->room = room;
  }
  *out = (int)symbols->count;
  symbols->name[symbols->count++] = name;
done:
  return status;
}

void moerun__parser_next(moerun__parser *p) {
  if (p->at->kind != TOKEN_END) p->at++;
  *p->line = p->at->line;
}

static int sees(const moerun__parser *p, moerun__token_kind kind,
                const char *text) {
  return p->at->kind == kind && strcmp(p->at->text, text) == 0;
}

int moerun__parser_sees(const moerun__parser *p, const char *operation) {
  return sees(p, TOKEN_OPERATOR, operation);
}

int moerun__parser_sees_name(const moerun__parser *p, const char *name) {
  return sees(p, TOKEN_NAME, name);
}

int moerun__parser_skip(moerun__parser *p, const char *operation) {
  const int found = moerun__parser_sees(p, operation);
  if (found) moerun__parser_next(p);
  return found;
}

int moerun__parser_skip_name(moerun__parser *p, const char *name) {
  const int found = moerun__parser_sees_name(p, name);
  if (found) moerun__parser_next(p);
  return found;
}

moerun_status moerun__parser_unexpected(const moerun__parser *p,
                                        const char *what) {
  static const char *const spelt[] = {
      [TOKEN_DATA] = "text",        [TOKEN_PRINT_BEGIN] = "\"{{\"",
      [TOKEN_PRINT_END] = "\"}}\"", [TOKEN_BLOCK_BEGIN] = "\"{%\"",
      [TOKEN_BLOCK_END] = "\"%}\"", [TOKEN_VALUE] = "a literal",
      [TOKEN_END] = "the end"};
  char found[48];
  if (p->at->kind == TOKEN_NAME || p->at->kind == TOKEN_OPERATOR) {
    (void)snprintf(found, sizeof found, "\"%.40s\"", p->at->text);
  } else {
    (void)snprintf(found, sizeof found, "%s", spelt[p->at->kind]);
  }
  return moerun__fail(MOERUN_ERR_FORMAT, __FILE__, __LINE__,
                      "expected %s, found %s", what, found);
}

moerun_status moerun__parser_expect(moerun__parser *p, const char *operation) {
  char what[8];
  if (moerun__parser_skip(p, operation)) return MOERUN_OK;
  (void)snprintf(what, sizeof what, "\"%s\"", operation);
  return moerun__parser_unexpected(p, what);
}

moerun_status moerun__parser_expect_name(const char **name, moerun__parser *p) {
  if (p->at->kind != TOKEN_NAME) return moerun__parser_unexpected(p, "a name");
  *name = p->at->text;
  moerun__parser_next(p);
  return MOERUN_OK;
}

static moerun_status end_block(moerun__parser *p) {
  if (p->at->kind != TOKEN_BLOCK_END) {
    return moerun__parser_unexpected(p, "\"%}\"");
  }
  moerun__parser_next(p);
  return MOERUN_OK;
}

/* ---- Bodies -------------------------------------------------------------- */

static moerun_status parse_tag(moerun__syntax **out, moerun__parser *p);

/* Whether the tag at hand is one of `words`, a blank between two. */
static int sees_tag(const moerun__parser *p, const char *words) {
  if (p->at->kind != TOKEN_BLOCK_BEGIN || p->at[1].kind != TOKEN_NAME) return 0;
  const char *name = p->at[1].text;
  const size_t length = strlen(name);
  for (const char *word = words; word != NULL;) {
    const char *blank = strchr(word, ' ');
    const size_t size = blank != NULL ? (size_t)(blank - word) : strlen(word);
    if (size == length && memcmp(word, name, size) == 0) return 1;
    word = blank != NULL ? blank + 1 : NULL;
  }
  return 0;
}

/* Statements up to a tag that is one of `ends`, or the end if that is NULL. */
static moerun_status parse_body(const moerun__syntax **out, moerun__parser *p,
                                const char *ends) {
  moerun_status status = MOERUN_OK;
  moerun__syntax_list list = {0};
  p->depth++;
  MOERUN_REQUIRE(p->depth < MOERUN_SYNTAX_DEPTH, MOERUN_ERR_UNSUPPORTED,
                 "more than %d levels of nesting", MOERUN_SYNTAX_DEPTH);
  while (p->at->kind != TOKEN_END && (ends == NULL || !sees_tag(p, ends))) {
    moerun__syntax *node = NULL;
    moerun__syntax *printed = NULL;
    switch (p->at->kind) {
    case TOKEN_DATA:
      MOERUN_TRY(moerun__parser_node(&node, p, SYNTAX_TEXT));
      node->constant = p->at->value;
      moerun__parser_next(p);
      break;
    case TOKEN_PRINT_BEGIN:
      MOERUN_TRY(moerun__parser_node(&node, p, SYNTAX_PRINT));
      moerun__parser_next(p);
      MOERUN_TRY(moerun__parse_tuple(&printed, p, 1, NULL));
      node->a = printed;
      if (p->at->kind != TOKEN_PRINT_END) {
        MOERUN_TRY(moerun__parser_unexpected(p, "\"}}\""));
      }
      moerun__parser_next(p);
      break;
    default: MOERUN_TRY(parse_tag(&node, p)); break;
    }
    moerun__syntax_append(&list, node);
  }
  MOERUN_REQUIRE(ends == NULL || p->at->kind != TOKEN_END, MOERUN_ERR_FORMAT,
                 "expected a tag of these: %s; found the end", ends);
  *out = list.first;
done:
  p->depth--;
  return status;
}

/* The tag `end` alone, behind a body. */
static moerun_status parse_end(moerun__parser *p) {
  moerun__parser_next(p);
  moerun__parser_next(p);
  return end_block(p);
}

static moerun_status parse_body_to(const moerun__syntax **out,
                                   moerun__parser *p, const char *end) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(end_block(p));
  MOERUN_TRY(parse_body(out, p, end));
  MOERUN_TRY(parse_end(p));
done:
  return status;
}

/* A body that is called: no break or continue may leave it, and the node knows
 * which of varargs, kwargs and caller it names. */
static moerun_status parse_called_body(moerun__syntax *node, moerun__parser *p,
                                       const char *end) {
  const int loops = p->loops;
  const int uses = p->uses;
  p->loops = 0;
  p->uses = 0;
  const moerun_status status = parse_body_to(&node->body, p, end);
  node->operation = p->uses;
  p->loops = loops;
  p->uses |= uses;
  return status;
}

/* ---- Targets ------------------------------------------------------------- */

static moerun_status parse_target_name(moerun__syntax **out, moerun__parser *p,
                                       int members) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__parser_node(out, p, SYNTAX_NAME));
  MOERUN_TRY(moerun__parser_expect_name(&(*out)->name, p));
  const char *const name = (*out)->name;
  MOERUN_REQUIRE(strcmp(name, "true") != 0 && strcmp(name, "false") != 0 &&
                     strcmp(name, "none") != 0 && strcmp(name, "True") != 0 &&
                     strcmp(name, "False") != 0 && strcmp(name, "None") != 0,
                 MOERUN_ERR_FORMAT, "\"%.40s\" cannot be set", name);
  MOERUN_TRY(moerun__parser_symbol(&(*out)->symbol, p, name));
  if (members && moerun__parser_skip(p, ".")) {
    (*out)->kind = SYNTAX_MEMBER;
    MOERUN_TRY(moerun__parser_expect_name(&(*out)->name, p));
  }
done:
  return status;
}

/* A name, a namespace's attribute if `members`, or several in a tuple. */
static moerun_status parse_target(moerun__syntax **out, moerun__parser *p,
                                  int members) {
  moerun_status status = MOERUN_OK;
  moerun__syntax_list list = {0};
  int is_tuple = 0;
  p->depth++;
  MOERUN_REQUIRE(p->depth < MOERUN_SYNTAX_DEPTH, MOERUN_ERR_UNSUPPORTED,
                 "more than %d levels of nesting", MOERUN_SYNTAX_DEPTH);
  do {
    moerun__syntax *target = NULL;
    if (is_tuple && p->at->kind != TOKEN_NAME && !moerun__parser_sees(p, "(")) {
      break;
    }
    if (is_tuple && moerun__parser_sees_name(p, "in")) break;
    if (moerun__parser_skip(p, "(")) {
      MOERUN_TRY(parse_target(&target, p, members));
      MOERUN_TRY(moerun__parser_expect(p, ")"));
    } else {
      MOERUN_TRY(parse_target_name(&target, p, members));
    }
    moerun__syntax_append(&list, target);
    is_tuple |= moerun__parser_sees(p, ",");
  } while (moerun__parser_skip(p, ","));
  *out = list.first;
  if (is_tuple) {
    MOERUN_TRY(moerun__parser_node(out, p, SYNTAX_TUPLE));
    (*out)->list = list.first;
  }
done:
  p->depth--;
  return status;
}

/* ---- Tags ---------------------------------------------------------------- */

/* From "if" or "elif" to its end; each elif is an if in the other branch. */
static moerun_status parse_if(moerun__syntax *node, moerun__parser *p) {
  moerun_status status = MOERUN_OK;
  for (;;) {
    moerun__syntax *condition = NULL;
    MOERUN_TRY(moerun__parse_tuple(&condition, p, 0, NULL));
    node->a = condition;
    MOERUN_TRY(end_block(p));
    MOERUN_TRY(parse_body(&node->body, p, "elif else endif"));
    if (!sees_tag(p, "elif")) break;
    moerun__syntax *other = NULL;
    moerun__parser_next(p);
    moerun__parser_next(p);
    MOERUN_TRY(moerun__parser_node(&other, p, SYNTAX_IF));
    node->other = other;
    node = other;
  }
  if (sees_tag(p, "else")) {
    MOERUN_TRY(parse_end(p));
    MOERUN_TRY(parse_body(&node->other, p, "endif"));
  }
  MOERUN_TRY(parse_end(p));
done:
  return status;
}

static moerun_status parse_for(moerun__syntax *node, moerun__parser *p) {
  moerun_status status = MOERUN_OK;
  moerun__syntax *part = NULL;
  MOERUN_TRY(parse_target(&part, p, 0));
  node->a = part;
  if (!moerun__parser_skip_name(p, "in")) {
    MOERUN_TRY(moerun__parser_unexpected(p, "\"in\""));
  }
  MOERUN_TRY(moerun__parse_tuple(&part, p, 0, "recursive"));
  node->b = part;
  if (moerun__parser_skip_name(p, "if")) {
    MOERUN_TRY(moerun__parse_expression(&part, p, 1));
    node->c = part;
  }
  node->recursive = moerun__parser_skip_name(p, "recursive");
  MOERUN_TRY(end_block(p));
  p->loops++;
  MOERUN_TRY(parse_body(&node->body, p, "else endfor"));
  p->loops--;
  if (sees_tag(p, "else")) {
    MOERUN_TRY(parse_end(p));
    MOERUN_TRY(parse_body(&node->other, p, "endfor"));
  }
  MOERUN_TRY(parse_end(p));
done:
  return status;
}

static moerun_status parse_set(moerun__syntax *node, moerun__parser *p) {
  moerun_status status = MOERUN_OK;
  moerun__syntax *part = NULL;
  MOERUN_TRY(parse_target(&part, p, 1));
  node->a = part;
  if (moerun__parser_skip(p, "=")) {
    MOERUN_TRY(moerun__parse_tuple(&part, p, 1, NULL));
    node->b = part;
    MOERUN_TRY(end_block(p));
  } else {
    node->kind = SYNTAX_SET_BLOCK;
    MOERUN_TRY(moerun__parse_filters(&part, p, NULL, 0));
    node->b = part;
    MOERUN_TRY(parse_body_to(&node->body, p, "endset"));
  }
done:
  return status;
}

/* "(a, b=1)" of a macro or call block. */
static moerun_status parse_parameters(const moerun__syntax **out,
                                      moerun__parser *p) {
  moerun_status status = MOERUN_OK;
  moerun__syntax_list list = {0};
  MOERUN_TRY(moerun__parser_expect(p, "("));
  while (!moerun__parser_sees(p, ")")) {
    moerun__syntax *parameter = NULL;
    if (list.first != NULL) MOERUN_TRY(moerun__parser_expect(p, ","));
    MOERUN_TRY(parse_target_name(&parameter, p, 0));
    parameter->kind = SYNTAX_PARAMETER;
    if (moerun__parser_skip(p, "=")) {
      moerun__syntax *value = NULL;
      MOERUN_TRY(moerun__parse_expression(&value, p, 1));
      parameter->a = value;
    } else {
      MOERUN_REQUIRE(list.last == NULL || list.last->a == NULL,
                     MOERUN_ERR_FORMAT,
                     "parameter \"%.40s\" has no default, but the one before "
                     "it has",
                     parameter->name);
    }
    moerun__syntax_append(&list, parameter);
  }
  MOERUN_TRY(moerun__parser_expect(p, ")"));
  *out = list.first;
done:
  return status;
}

static moerun_status parse_macro(moerun__syntax *node, moerun__parser *p) {
  moerun_status status = MOERUN_OK;
  moerun__syntax *name = NULL;
  MOERUN_TRY(parse_target_name(&name, p, 0));
  node->name = name->name;
  node->symbol = name->symbol;
  MOERUN_TRY(parse_parameters(&node->list, p));
  MOERUN_TRY(parse_called_body(node, p, "endmacro"));
done:
  return status;
}

static moerun_status parse_call_block(moerun__syntax *node, moerun__parser *p) {
  moerun_status status = MOERUN_OK;
  moerun__syntax *call = NULL;
  if (moerun__parser_sees(p, "(")) {
    MOERUN_TRY(parse_parameters(&node->list, p));
  }
  MOERUN_TRY(moerun__parse_call(&call, p));
  MOERUN_REQUIRE(call->kind == SYNTAX_CALL, MOERUN_ERR_FORMAT,
                 "expected a call behind \"call\"");
  node->a = call;
  node->name = "caller";
  MOERUN_TRY(parse_called_body(node, p, "endcall"));
done:
  return status;
}

static moerun_status parse_filter_block(moerun__syntax *node,
                                        moerun__parser *p) {
  moerun_status status = MOERUN_OK;
  moerun__syntax *filters = NULL;
  MOERUN_TRY(moerun__parse_filters(&filters, p, NULL, 1));
  node->b = filters;
  MOERUN_TRY(parse_body_to(&node->body, p, "endfilter"));
done:
  return status;
}

static moerun_status parse_with(moerun__syntax *node, moerun__parser *p) {
  moerun_status status = MOERUN_OK;
  moerun__syntax_list list = {0};
  while (p->at->kind != TOKEN_BLOCK_END) {
    moerun__syntax *set = NULL;
    moerun__syntax *part = NULL;
    if (list.first != NULL) MOERUN_TRY(moerun__parser_expect(p, ","));
    MOERUN_TRY(moerun__parser_node(&set, p, SYNTAX_SET));
    MOERUN_TRY(parse_target_name(&part, p, 0));
    set->a = part;
    MOERUN_TRY(moerun__parser_expect(p, "="));
    MOERUN_TRY(moerun__parse_expression(&part, p, 1));
    set->b = part;
    moerun__syntax_append(&list, set);
  }
  node->list = list.first;
  MOERUN_TRY(parse_body_to(&node->body, p, "endwith"));
done:
  return status;
}

static moerun_status parse_generation(moerun__syntax *node, moerun__parser *p) {
  return parse_called_body(node, p, "endgeneration");
}

static moerun_status parse_jump(moerun__syntax *node, moerun__parser *p) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(p->loops > 0, MOERUN_ERR_FORMAT, "\"%s\" outside of a loop",
                 node->kind == SYNTAX_BREAK ? "break" : "continue");
  MOERUN_TRY(end_block(p));
done:
  return status;
}

static moerun_status parse_tag(moerun__syntax **out, moerun__parser *p) {
  static const struct {
    const char *name;
    moerun__syntax_kind kind;
    moerun_status (*parse)(moerun__syntax *node, moerun__parser *p);
  } tags[] = {
      {"if", SYNTAX_IF, parse_if},
      {"for", SYNTAX_FOR, parse_for},
      {"set", SYNTAX_SET, parse_set},
      {"macro", SYNTAX_MACRO, parse_macro},
      {"call", SYNTAX_CALL_BLOCK, parse_call_block},
      {"filter", SYNTAX_FILTER_BLOCK, parse_filter_block},
      {"with", SYNTAX_WITH, parse_with},
      {"generation", SYNTAX_SCOPE, parse_generation},
      {"break", SYNTAX_BREAK, parse_jump},
      {"continue", SYNTAX_CONTINUE, parse_jump},
  };
  moerun_status status = MOERUN_OK;
  moerun__parser_next(p);
  if (p->at->kind != TOKEN_NAME) {
    MOERUN_TRY(moerun__parser_unexpected(p, "the name of a tag"));
  }
  for (size_t i = 0; i < sizeof tags / sizeof *tags; i++) {
    if (moerun__parser_skip_name(p, tags[i].name)) {
      MOERUN_TRY(moerun__parser_node(out, p, tags[i].kind));
      MOERUN_TRY(tags[i].parse(*out, p));
      goto done;
    }
  }
  MOERUN_REQUIRE(
      strncmp(p->at->text, "end", 3) != 0 && strcmp(p->at->text, "else") != 0 &&
          strcmp(p->at->text, "elif") != 0,
      MOERUN_ERR_FORMAT, "the tag \"%.40s\" ends nothing", p->at->text);
  MOERUN_REQUIRE(0, MOERUN_ERR_UNSUPPORTED, "the tag \"%.40s\" is not known",
                 p->at->text);
done:
  return status;
}

moerun_status moerun__template_parse(const moerun__syntax **out,
                                     moerun__symbols *symbols, int *line,
                                     moerun__pool *pool, const char *source,
                                     size_t count) {
  static const char *const fixed[SYMBOLS] = {[SYMBOL_LOOP] = "loop",
                                             [SYMBOL_CALLER] = "caller",
                                             [SYMBOL_VARARGS] = "varargs",
                                             [SYMBOL_KWARGS] = "kwargs"};
  moerun_status status = MOERUN_OK;
  moerun__tokens tokens = {0};
  MOERUN_TRY(moerun__template_tokens(&tokens, line, pool, source, count));
  moerun__parser p = {
      .at = tokens.at, .pool = pool, .symbols = symbols, .line = line};
  *line = p.at->line;
  for (int i = 0; i < SYMBOLS; i++) {
    int symbol = 0;
    MOERUN_TRY(moerun__parser_symbol(&symbol, &p, fixed[i]));
  }
  MOERUN_TRY(parse_body(out, &p, NULL));
done:
  return status;
}
