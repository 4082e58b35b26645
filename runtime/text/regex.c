/* The Hugging Face library matches by Oniguruma. PCRE2 is in every
 * distribution, compiles to machine code and knows Unicode's properties; what
 * the two read differently is rewritten or refused (regex_rewrite.c).
 *
 * The library goes from match to match as follows, and so does this: the next
 * search starts at the end of the last match, and an empty match there does not
 * count. */
#include "runtime/text/regex.h"

#include "runtime/base/json.h"
#include "runtime/base/memory.h"
#include "runtime/text/unicode.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <string.h>

/* Backtracking beyond these ends with an error instead of hours; the stack of
 * compiled patterns grows up to its limit only as far as it is used. */
enum {
  MATCH_LIMIT = 10000000,
  HEAP_KIB = 1 << 20,
  STACK_START = 32 << 10,
  STACK_LIMIT = 256 << 20,
};

struct moerun__pattern {
  char *literal; /* NULL: a regular expression */
  size_t literal_bytes;
  pcre2_code *code;
  pcre2_match_data *match;
  pcre2_match_context *context;
  pcre2_jit_stack *stack;
  int is_compiled; /* to machine code */
};

moerun_status moerun__pattern_literal(moerun__pattern **out, const char *text,
                                      size_t bytes) {
  moerun_status status = MOERUN_OK;
  moerun__pattern *pattern = NULL;
  *out = NULL;
  MOERUN_TRY(moerun__alloc(&pattern, 1, sizeof *pattern));
  MOERUN_TRY(moerun__alloc(&pattern->literal, bytes + 1, 1));
  memcpy(pattern->literal, text, bytes);
  pattern->literal_bytes = bytes;
  *out = pattern;
  pattern = NULL;
done:
  moerun__pattern_destroy(pattern);
  return status;
}

/* PCRE2's own memory goes through the project's. */
static void *take_memory(size_t bytes, void *unused) {
  void *memory = NULL;
  (void)unused;
  return moerun__alloc_unset(&memory, bytes, 1) == MOERUN_OK ? memory : NULL;
}

static void give_memory(void *memory, void *unused) {
  (void)unused;
  moerun__free(memory);
}

static moerun_status prepare(moerun__pattern *pattern,
                             pcre2_general_context *memory) {
  moerun_status status = MOERUN_OK;
  pattern->match = pcre2_match_data_create(1, memory);
  pattern->context = pcre2_match_context_create(memory);
  MOERUN_REQUIRE(pattern->match != NULL && pattern->context != NULL,
                 MOERUN_ERR_NOMEM, "out of memory for a regular expression");
  (void)pcre2_set_match_limit(pattern->context, MATCH_LIMIT);
  (void)pcre2_set_heap_limit(pattern->context, HEAP_KIB);
  pattern->is_compiled =
      pcre2_jit_compile(pattern->code, PCRE2_JIT_COMPLETE) == 0;
  if (pattern->is_compiled) {
    pattern->stack = pcre2_jit_stack_create(STACK_START, STACK_LIMIT, memory);
    MOERUN_REQUIRE(pattern->stack != NULL, MOERUN_ERR_NOMEM,
                   "out of memory for a regular expression");
    pcre2_jit_stack_assign(pattern->context, NULL, pattern->stack);
  }
done:
  return status;
}

moerun_status moerun__pattern_regex(moerun__pattern **out, const char *regex,
                                    const char *where) {
  moerun_status status = MOERUN_OK;
  moerun__pattern *pattern = NULL;
  moerun__text spelt = {0};
  pcre2_general_context *memory = NULL;
  pcre2_compile_context *settings = NULL;
  PCRE2_UCHAR reason[128] = "";
  int error = 0;
  PCRE2_SIZE at = 0;
  *out = NULL;
  MOERUN_TRY(moerun__regex_rewrite(&spelt, regex, where));
  MOERUN_TRY(moerun__alloc(&pattern, 1, sizeof *pattern));
  memory = pcre2_general_context_create(take_memory, give_memory, NULL);
  if (memory != NULL) settings = pcre2_compile_context_create(memory);
  MOERUN_REQUIRE(settings != NULL, MOERUN_ERR_NOMEM,
                 "out of memory for a regular expression");
  (void)pcre2_set_newline(settings, PCRE2_NEWLINE_LF);
  pattern->code = pcre2_compile((PCRE2_SPTR)spelt.bytes, spelt.count,
                                PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE |
                                    PCRE2_NO_AUTO_CAPTURE,
                                &error, &at, settings);
  MOERUN_REQUIRE(error != PCRE2_ERROR_HEAP_FAILED, MOERUN_ERR_NOMEM,
                 "out of memory for a regular expression");
  (void)pcre2_get_error_message(error, reason, sizeof reason);
  MOERUN_REQUIRE(pattern->code != NULL, MOERUN_ERR_UNSUPPORTED,
                 "%s: the regular expression \"%.200s\" cannot be read: %s",
                 where, regex, (const char *)reason);
  MOERUN_TRY(prepare(pattern, memory));
  *out = pattern;
  pattern = NULL;
done:
  pcre2_compile_context_free(settings);
  pcre2_general_context_free(memory);
  moerun__pattern_destroy(pattern);
  moerun__text_clear(&spelt);
  return status;
}

moerun_status moerun__pattern_read(moerun__pattern **out, const json_t *stage,
                                   const char *where) {
  moerun_status status = MOERUN_OK;
  json_t *pattern = NULL;
  *out = NULL;
  MOERUN_TRY(moerun__json_object(&pattern, stage, "pattern", where));
  const json_t *literal = json_object_get(pattern, "String");
  const char *regex = json_string_value(json_object_get(pattern, "Regex"));
  if (json_is_string(literal)) {
    MOERUN_TRY(moerun__pattern_literal(out, json_string_value(literal),
                                       json_string_length(literal)));
    goto done;
  }
  MOERUN_REQUIRE(regex != NULL, MOERUN_ERR_UNSUPPORTED,
                 "%s: key \"pattern\": expected a \"String\" or a \"Regex\", "
                 "found another kind",
                 where);
  MOERUN_TRY(moerun__pattern_regex(out, regex, where));
done:
  return status;
}

void moerun__pattern_destroy(moerun__pattern *pattern) {
  if (pattern == NULL) return;
  moerun__free(pattern->literal);
  pcre2_match_data_free(pattern->match);
  pcre2_match_context_free(pattern->context);
  pcre2_jit_stack_free(pattern->stack);
  pcre2_code_free(pattern->code);
  moerun__free(pattern);
}

static int find_literal(const moerun__pattern *pattern, moerun__search *s) {
  const size_t length = pattern->literal_bytes;
  size_t at = s->from;
  while (length > 0 && s->bytes - at >= length) {
    const char *first =
        memchr(s->text + at, *pattern->literal, s->bytes - at - length + 1);
    if (first == NULL) return 0;
    at = (size_t)(first - s->text);
    if (memcmp(first, pattern->literal, length) == 0) {
      s->start = at;
      s->end = at + length;
      s->from = s->end;
      return 1;
    }
    at++;
  }
  return 0;
}

/* One search; *found 0 where there is no further match. */
static moerun_status match_once(moerun__pattern *pattern, int *found,
                                moerun__search *s, const char *origin) {
  moerun_status status = MOERUN_OK;
  const PCRE2_SPTR text = (PCRE2_SPTR)s->text;
  int rc = PCRE2_ERROR_JIT_STACKLIMIT;
  if (pattern->is_compiled) {
    rc = pcre2_jit_match(pattern->code, text, s->bytes, s->from, 0,
                         pattern->match, pattern->context);
  }
  if (rc == PCRE2_ERROR_JIT_STACKLIMIT) {
    rc = pcre2_match(pattern->code, text, s->bytes, s->from,
                     PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, pattern->match,
                     pattern->context);
  }
  MOERUN_REQUIRE(rc != PCRE2_ERROR_NOMEMORY, MOERUN_ERR_NOMEM,
                 "%s: out of memory for a regular expression", origin);
  MOERUN_REQUIRE(rc >= 0 || rc == PCRE2_ERROR_NOMATCH, MOERUN_ERR_INVALID,
                 "%s: behind byte %zu, the tokenizer's regular expression "
                 "takes too many steps or too much memory",
                 origin, s->from);
  *found = rc >= 0;
  if (*found) {
    const PCRE2_SIZE *place = pcre2_get_ovector_pointer(pattern->match);
    s->start = place[0];
    s->end = place[1];
  }
done:
  return status;
}

moerun_status moerun__pattern_next(moerun__pattern *pattern, int *found,
                                   moerun__search *s, const char *origin) {
  moerun_status status = MOERUN_OK;
  *found = 0;
  if (pattern->literal != NULL) {
    *found = find_literal(pattern, s);
    goto done;
  }
  while (s->from <= s->bytes) {
    MOERUN_TRY(match_once(pattern, found, s, origin));
    if (!*found) break;
    if (s->end > s->start || s->last_end != s->end + 1) {
      s->from = s->end;
      s->last_end = s->end + 1;
      break;
    }
    *found = 0;
    s->from += s->from < s->bytes
                   ? (size_t)moerun__character_bytes(s->text[s->from])
                   : 1;
  }
done:
  return status;
}
