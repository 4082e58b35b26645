/* Statements. A body writes to the buffer at hand; break and continue come back
 * as jumps. Each run of a loop's body has a scope of its own, as in Jinja: what
 * is set in it is gone in the next one, and never seen behind the loop. */
#include "runtime/text/template/render.h"

#include <string.h>

enum { JUMP_NONE, JUMP_BREAK, JUMP_CONTINUE };

moerun_status moerun__render_spend(moerun__render *r, size_t steps) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(steps <= (size_t)r->steps, MOERUN_ERR_UNSUPPORTED,
                 "the template takes more than %lld steps",
                 (long long)r->most_steps);
  r->steps -= (int64_t)steps;
done:
  return status;
}

static size_t key_bytes(const moerun__value *key) {
  size_t bytes = key->kind == VALUE_TEXT ? key->text.count : 0;
  for (size_t i = 0; key->kind == VALUE_TUPLE && i < key->sequence->count;
       i++) {
    bytes += 32 + key_bytes(&key->sequence->at[i]);
  }
  return bytes;
}

moerun_status moerun__render_look_up(moerun__render *r,
                                     const moerun__dict *dict,
                                     const moerun__value *key) {
  return moerun__render_spend(r, (1 + dict->count / 8) *
                                     (1 + key_bytes(key) / 64));
}

moerun_status moerun__render_deeper(moerun__render *r) {
  enum { MOST = 1000 };
  moerun_status status = MOERUN_OK;
  r->depth++;
  MOERUN_REQUIRE(r->depth < MOST, MOERUN_ERR_UNSUPPORTED,
                 "calls and expressions are nested more than %d deep", MOST);
done:
  return status;
}

moerun_status moerun__render_write(moerun__render *r, const char *bytes,
                                   size_t count) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(count <= r->most_written &&
                     r->written <= r->most_written - count,
                 MOERUN_ERR_UNSUPPORTED,
                 "the template writes more than %zu bytes", r->most_written);
  r->written += count;
  MOERUN_TRY(moerun__buffer_append(r->out, &r->pool, bytes, count));
done:
  return status;
}

/* ---- Scopes -------------------------------------------------------------- */

moerun_status moerun__scope_open(moerun__render *r, moerun__scope *around) {
  moerun_status status = MOERUN_OK;
  moerun__scope *scope = NULL;
  MOERUN_TRY(moerun__pool_take(&r->pool, &scope, sizeof *scope));
  scope->around = around;
  r->scope = scope;
done:
  return status;
}

static moerun__value *find_here(const moerun__scope *scope, int symbol) {
  for (size_t i = 0; i < scope->count; i++) {
    if (scope->symbol[i] == symbol) return &scope->value[i];
  }
  return NULL;
}

const moerun__value *moerun__scope_find(const moerun__scope *scope,
                                        int symbol) {
  for (; scope != NULL; scope = scope->around) {
    const moerun__value *found = find_here(scope, symbol);
    if (found != NULL) return found;
  }
  return NULL;
}

moerun_status moerun__scope_set(moerun__render *r, int symbol,
                                const moerun__value *value) {
  moerun_status status = MOERUN_OK;
  moerun__scope *scope = r->scope;
  moerun__value *found = find_here(scope, symbol);
  if (found != NULL) {
    *found = *value;
    goto done;
  }
  if (scope->count == scope->room) {
    int *symbols = NULL;
    moerun__value *values = NULL;
    const size_t room = scope->room * 2 + 4;
    MOERUN_TRY(moerun__pool_take(&r->pool, &symbols, room * sizeof *symbols));
    MOERUN_TRY(moerun__pool_take(&r->pool, &values, room * sizeof *values));
    if (scope->count > 0) {
      memcpy(symbols, scope->symbol, scope->count * sizeof *symbols);
      memcpy(values, scope->value, scope->count * sizeof *values);
    }
    scope->symbol = symbols;
    scope->value = values;
    scope->room = room;
  }
  scope->symbol[scope->count] = symbol;
  scope->value[scope->count++] = *value;
done:
  return status;
}

static moerun_status assign_member(moerun__render *r,
                                   const moerun__syntax *target,
                                   const moerun__value *value) {
  moerun_status status = MOERUN_OK;
  const moerun__value *space = moerun__scope_find(r->scope, target->symbol);
  const moerun__value name =
      moerun__borrowed_text(target->name, strlen(target->name));
  MOERUN_REQUIRE(space != NULL && space->kind == VALUE_NAMESPACE,
                 MOERUN_ERR_INVALID, "\"%.40s\" is set in what is no namespace",
                 target->name);
  MOERUN_REQUIRE(target->name[0] != '_', MOERUN_ERR_INVALID,
                 "\"%.40s\" cannot be set in a namespace", target->name);
  MOERUN_TRY(moerun__dict_set(space->dict, &r->pool, &name, value));
done:
  return status;
}

static size_t list_length(const moerun__syntax *list) {
  size_t length = 0;
  for (; list != NULL; list = list->next) {
    length++;
  }
  return length;
}

moerun_status moerun__assign(moerun__render *r, const moerun__syntax *target,
                             const moerun__value *value) {
  moerun_status status = MOERUN_OK;
  if (target->kind == SYNTAX_NAME) {
    return moerun__scope_set(r, target->symbol, value);
  }
  if (target->kind == SYNTAX_MEMBER) return assign_member(r, target, value);
  const moerun__values *parts = NULL;
  MOERUN_TRY(moerun__elements(&parts, r, value));
  const size_t expected = list_length(target->list);
  MOERUN_REQUIRE(parts->count == expected, MOERUN_ERR_INVALID,
                 "expected %zu values to unpack, found %zu", expected,
                 parts->count);
  const moerun__syntax *name = target->list;
  for (size_t i = 0; i < parts->count; i++, name = name->next) {
    MOERUN_TRY(moerun__assign(r, name, &parts->at[i]));
  }
done:
  return status;
}

/* ---- Captured text ------------------------------------------------------- */

moerun_status moerun__capture(moerun__value *out, int *jump, moerun__render *r,
                              const moerun__syntax *body) {
  moerun__buffer text = {0};
  moerun__buffer *const before = r->out;
  r->out = &text;
  const moerun_status status = moerun__render_body(jump, r, body);
  r->out = before;
  *out = moerun__borrowed_text(text.bytes, text.count);
  return status;
}

/* The filters of a block on its text: the innermost has no subject. */
static moerun_status filter_text(moerun__value *text, moerun__render *r,
                                 const moerun__syntax *filters) {
  moerun_status status = MOERUN_OK;
  if (filters == NULL) return MOERUN_OK;
  moerun__arguments given = {0};
  MOERUN_TRY(filter_text(text, r, filters->a));
  MOERUN_REQUIRE(filters->builtin != NULL, MOERUN_ERR_UNSUPPORTED,
                 "the filter \"%.40s\" is not known", filters->name);
  MOERUN_TRY(moerun__evaluate_arguments(&given, r, filters->list));
  const moerun__value subject = *text;
  MOERUN_TRY(moerun__builtin_apply(text, r, filters->builtin, "filter",
                                   &subject, &given));
done:
  return status;
}

/* A body in a scope of its own, as text. */
static moerun_status capture_scoped(moerun__value *out, int *jump,
                                    moerun__render *r,
                                    const moerun__syntax *node) {
  moerun_status status = MOERUN_OK;
  moerun__scope *const around = r->scope;
  MOERUN_TRY(moerun__scope_open(r, around));
  MOERUN_TRY(moerun__capture(out, jump, r, node->body));
  if (*jump == JUMP_NONE) MOERUN_TRY(filter_text(out, r, node->b));
done:
  r->scope = around;
  return status;
}

/* ---- Loops --------------------------------------------------------------- */

moerun_status moerun__loop_fill(moerun__render *r, moerun__loop *loop,
                                size_t count) {
  moerun_status status = MOERUN_OK;
  moerun__scope *const scope = r->scope;
  const moerun__syntax *node = loop->syntax;
  if (loop->items->count >= count || loop->seen == loop->all->count) goto done;
  MOERUN_TRY(moerun__scope_open(r, loop->scope));
  while (loop->items->count < count && loop->seen < loop->all->count) {
    const moerun__value *item = &loop->all->at[loop->seen++];
    moerun__value condition = moerun__truth(1);
    if (node->c != NULL) {
      MOERUN_TRY(moerun__assign(r, node->a, item));
      MOERUN_TRY(moerun__evaluate(&condition, r, node->c));
    }
    if (moerun__is_true(&condition)) {
      MOERUN_TRY(moerun__values_append(loop->items, &r->pool, item));
    }
  }
done:
  r->scope = scope;
  return status;
}

static moerun_status create_loop(moerun__loop **out, moerun__render *r,
                                 const moerun__syntax *node,
                                 const moerun__value *items, int depth) {
  moerun_status status = MOERUN_OK;
  moerun__loop *loop = NULL;
  moerun__value chosen;
  MOERUN_TRY(moerun__pool_take(&r->pool, &loop, sizeof *loop));
  MOERUN_TRY(moerun__values_make(&chosen, &r->pool, VALUE_LIST, 0));
  loop->syntax = node;
  loop->scope = r->scope;
  loop->depth = depth;
  loop->items = chosen.sequence;
  MOERUN_TRY(moerun__elements(&loop->all, r, items));
  *out = loop;
done:
  return status;
}

static moerun_status run_loop(int *jump, moerun__render *r,
                              const moerun__syntax *node,
                              const moerun__value *items, int depth) {
  moerun_status status = MOERUN_OK;
  moerun__scope *const around = r->scope;
  moerun__loop *loop = NULL;
  int finished = 0; /* some body came to its end */
  MOERUN_TRY(create_loop(&loop, r, node, items, depth));
  const moerun__value value = {.kind = VALUE_LOOP, .loop = loop};
  MOERUN_TRY(moerun__scope_open(r, around));
  for (size_t i = 0;; i++) {
    int inner = JUMP_NONE;
    MOERUN_TRY(moerun__loop_fill(r, loop, i + 1));
    if (loop->items->count == i) break;
    if (r->scope->kept) MOERUN_TRY(moerun__scope_open(r, around));
    r->scope->count = 0;
    loop->index = i;
    MOERUN_TRY(moerun__render_spend(r, 1));
    MOERUN_TRY(moerun__scope_set(r, SYMBOL_LOOP, &value));
    MOERUN_TRY(moerun__assign(r, node->a, &loop->items->at[i]));
    MOERUN_TRY(moerun__render_body(&inner, r, node->body));
    finished |= inner == JUMP_NONE;
    if (inner == JUMP_BREAK) break;
  }
  /* As in Jinja, a loop whose bodies were all left early counts as empty. */
  if (!finished && node->other != NULL) {
    MOERUN_TRY(moerun__scope_open(r, around));
    MOERUN_TRY(moerun__render_body(jump, r, node->other));
  }
done:
  r->scope = around;
  return status;
}

moerun_status moerun__call_loop(moerun__value *out, moerun__render *r,
                                const moerun__loop *loop,
                                const moerun__value *items) {
  moerun_status status = MOERUN_OK;
  moerun__scope *const scope = r->scope;
  moerun__buffer text = {0};
  moerun__buffer *const before = r->out;
  int jump = JUMP_NONE;
  MOERUN_REQUIRE(loop->syntax->recursive, MOERUN_ERR_INVALID,
                 "a loop that is not recursive is called");
  MOERUN_TRY(moerun__render_deeper(r));
  r->out = &text;
  r->scope = loop->scope;
  MOERUN_TRY(run_loop(&jump, r, loop->syntax, items, loop->depth + 1));
  *out = moerun__borrowed_text(text.bytes, text.count);
done:
  r->depth--;
  r->scope = scope;
  r->out = before;
  return status;
}

/* ---- Macros -------------------------------------------------------------- */

/* A macro of this scope, which stays as it is from now on. */
static moerun_status define_macro(moerun__value *out, moerun__render *r,
                                  const moerun__syntax *node) {
  moerun_status status = MOERUN_OK;
  moerun__macro *macro = NULL;
  MOERUN_TRY(moerun__pool_take(&r->pool, &macro, sizeof *macro));
  macro->syntax = node;
  macro->scope = r->scope;
  for (moerun__scope *s = r->scope; s != NULL; s = s->around) {
    s->kept = 1;
  }
  *out = (moerun__value){.kind = VALUE_MACRO, .macro = macro};
done:
  return status;
}

static moerun_status run_call_block(moerun__render *r,
                                    const moerun__syntax *node) {
  moerun_status status = MOERUN_OK;
  moerun__value caller;
  moerun__value callee;
  moerun__value result;
  moerun__arguments given = {0};
  moerun__named *named = NULL;
  MOERUN_TRY(define_macro(&caller, r, node));
  MOERUN_TRY(moerun__evaluate(&callee, r, node->a->a));
  MOERUN_TRY(moerun__evaluate_arguments(&given, r, node->a->list));
  MOERUN_TRY(moerun__pool_take(&r->pool, &named,
                               (given.named_count + 1) * sizeof *named));
  if (given.named_count > 0) {
    memcpy(named, given.named, given.named_count * sizeof *named);
  }
  named[given.named_count++] =
      (moerun__named){.name = moerun__borrowed_text("caller", strlen("caller")),
                      .value = caller};
  given.named = named;
  MOERUN_TRY(moerun__call(&result, r, &callee, &given));
  MOERUN_TRY(moerun__print(r->out, r, &result));
done:
  return status;
}

/* ---- Statements ---------------------------------------------------------- */

static moerun_status run_print(moerun__render *r, const moerun__syntax *node) {
  moerun_status status = MOERUN_OK;
  moerun__value value;
  moerun__value text;
  MOERUN_TRY(moerun__evaluate(&value, r, node->a));
  MOERUN_TRY(moerun__as_text(&text, r, &value));
  MOERUN_TRY(moerun__render_write(r, text.text.bytes, text.text.count));
done:
  return status;
}

static moerun_status run_if(int *jump, moerun__render *r,
                            const moerun__syntax *node) {
  moerun_status status = MOERUN_OK;
  while (node != NULL && node->kind == SYNTAX_IF) {
    moerun__value condition;
    r->line = node->line;
    MOERUN_TRY(moerun__evaluate(&condition, r, node->a));
    if (moerun__is_true(&condition)) {
      MOERUN_TRY(moerun__render_body(jump, r, node->body));
      goto done;
    }
    /* An "elif" is an if that stands alone in the other branch. */
    if (node->other == NULL || node->other->kind != SYNTAX_IF ||
        node->other->next != NULL) {
      break;
    }
    node = node->other;
  }
  MOERUN_TRY(moerun__render_body(jump, r, node->other));
done:
  return status;
}

static moerun_status run_with(int *jump, moerun__render *r,
                              const moerun__syntax *node) {
  moerun_status status = MOERUN_OK;
  moerun__scope *const around = r->scope;
  moerun__scope *inside = NULL;
  MOERUN_TRY(moerun__scope_open(r, around));
  inside = r->scope;
  for (const moerun__syntax *set = node->list; set != NULL; set = set->next) {
    moerun__value value;
    r->scope = around;
    MOERUN_TRY(moerun__evaluate(&value, r, set->b));
    r->scope = inside;
    MOERUN_TRY(moerun__assign(r, set->a, &value));
  }
  MOERUN_TRY(moerun__render_body(jump, r, node->body));
done:
  r->scope = around;
  return status;
}

static moerun_status run_statement(int *jump, moerun__render *r,
                                   const moerun__syntax *node) {
  moerun_status status = MOERUN_OK;
  moerun__value value;
  switch (node->kind) {
  case SYNTAX_TEXT:
    MOERUN_TRY(moerun__render_write(r, node->constant.text.bytes,
                                    node->constant.text.count));
    break;
  case SYNTAX_PRINT: MOERUN_TRY(run_print(r, node)); break;
  case SYNTAX_IF: MOERUN_TRY(run_if(jump, r, node)); break;
  case SYNTAX_FOR:
    MOERUN_TRY(moerun__evaluate(&value, r, node->b));
    MOERUN_TRY(run_loop(jump, r, node, &value, 1));
    break;
  case SYNTAX_SET:
    MOERUN_TRY(moerun__evaluate(&value, r, node->b));
    MOERUN_TRY(moerun__assign(r, node->a, &value));
    break;
  case SYNTAX_SET_BLOCK:
    MOERUN_TRY(capture_scoped(&value, jump, r, node));
    /* What leaves the loop leaves the block: nothing is set or written. */
    if (*jump == JUMP_NONE) MOERUN_TRY(moerun__assign(r, node->a, &value));
    break;
  case SYNTAX_MACRO:
    MOERUN_TRY(define_macro(&value, r, node));
    MOERUN_TRY(moerun__scope_set(r, node->symbol, &value));
    break;
  case SYNTAX_CALL_BLOCK: MOERUN_TRY(run_call_block(r, node)); break;
  case SYNTAX_FILTER_BLOCK:
    MOERUN_TRY(capture_scoped(&value, jump, r, node));
    if (*jump == JUMP_NONE) MOERUN_TRY(moerun__print(r->out, r, &value));
    break;
  case SYNTAX_WITH:
  case SYNTAX_SCOPE: MOERUN_TRY(run_with(jump, r, node)); break;
  case SYNTAX_BREAK: *jump = JUMP_BREAK; break;
  case SYNTAX_CONTINUE: *jump = JUMP_CONTINUE; break;
  default: MOERUN_REQUIRE(0, MOERUN_ERR_UNSUPPORTED, "an unknown statement");
  }
done:
  return status;
}

moerun_status moerun__render_body(int *jump, moerun__render *r,
                                  const moerun__syntax *body) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__render_deeper(r));
  for (; body != NULL && *jump == JUMP_NONE; body = body->next) {
    r->line = body->line;
    MOERUN_TRY(moerun__render_spend(r, 1));
    MOERUN_TRY(run_statement(jump, r, body));
  }
done:
  r->depth--;
  return status;
}
