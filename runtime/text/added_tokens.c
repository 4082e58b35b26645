#include "runtime/text/added_tokens.h"

#include "runtime/base/json.h"
#include "runtime/base/memory.h"
#include "runtime/text/unicode.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_ADDED = 1 << 16 };

moerun_status moerun__added_set_begin(moerun__added_set *set, size_t most,
                                      const char *origin) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(most <= MAX_ADDED, MOERUN_ERR_FORMAT,
                 "%s: key \"added_tokens\": expected at most %d, found %zu",
                 origin, MAX_ADDED, most);
  MOERUN_TRY(moerun__alloc(&set->token, most, sizeof *set->token));
done:
  return status;
}

moerun_status moerun__added_set_add(moerun__added_set *set, const json_t *value,
                                    int is_special, const char *content,
                                    size_t bytes, int32_t id,
                                    const char *origin) {
  moerun_status status = MOERUN_OK;
  const int usual = !is_special;
  const int no = 0;
  int normalized = 0;
  moerun__added_token token = {
      .start = set->pool.count,
      .bytes = bytes,
      .id = id,
      /* The library enters special tokens before the others. */
      .order = (int)set->count - (is_special ? MAX_ADDED : 0)};
  MOERUN_TRY(
      moerun__json_bool(&normalized, value, "normalized", &usual, origin));
  MOERUN_TRY(
      moerun__json_bool(&token.single_word, value, "single_word", &no, origin));
  MOERUN_TRY(moerun__json_bool(&token.lstrip, value, "lstrip", &no, origin));
  MOERUN_TRY(moerun__json_bool(&token.rstrip, value, "rstrip", &no, origin));
  MOERUN_TRY(moerun__text_append(&set->pool, content, bytes));
  token.pass = normalized ? MOERUN_ADDED_NORMALIZED : MOERUN_ADDED_AS_IS;
  if (token.single_word || token.lstrip || token.rstrip) {
    set->looks_at_characters = 1;
  }
  set->token[set->count++] = token;
done:
  return status;
}

static int compare_contents(const moerun__added_token *x,
                            const moerun__added_token *y) {
  const int first = (unsigned char)*x->content - (unsigned char)*y->content;
  if (first != 0) return first;
  if (x->bytes != y->bytes) return x->bytes > y->bytes ? -1 : 1;
  return memcmp(x->content, y->content, x->bytes);
}

static int compare_added(const void *a, const void *b) {
  const moerun__added_token *x = a;
  const moerun__added_token *y = b;
  if (x->pass != y->pass) return x->pass - y->pass;
  const int contents = compare_contents(x, y);
  return contents != 0 ? contents : x->order - y->order;
}

/* The same content twice, in whatever passes. */
static moerun_status refuse_doubles(const moerun__added_set *set,
                                    const char *origin) {
  moerun_status status = MOERUN_OK;
  size_t y = 0;
  while (y < set->count && set->token[y].pass == MOERUN_ADDED_AS_IS) {
    y++;
  }
  for (size_t k = 0; k + 1 < set->count; k++) {
    const moerun__added_token *token = &set->token[k];
    MOERUN_REQUIRE(
        token->pass != token[1].pass || compare_contents(token, token + 1) != 0,
        MOERUN_ERR_FORMAT, "%s: added tokens %d and %d have the same content",
        origin, set->token[k].id, set->token[k + 1].id);
  }
  for (size_t x = 0; y < set->count && set->token[x].pass == MOERUN_ADDED_AS_IS;
       x++) {
    while (y < set->count &&
           compare_contents(&set->token[y], &set->token[x]) < 0) {
      y++;
    }
    MOERUN_REQUIRE(y == set->count ||
                       compare_contents(&set->token[y], &set->token[x]) != 0,
                   MOERUN_ERR_FORMAT,
                   "%s: added tokens %d and %d have the same content", origin,
                   set->token[x].id, set->token[y].id);
  }
done:
  return status;
}

/* The contents as the second pass meets them. */
static moerun_status normalize_contents(moerun__added_set *set,
                                        const moerun__normalizer *normalizer,
                                        const char *origin) {
  moerun_status status = MOERUN_OK;
  moerun__normal_room room = {{{0}}};
  for (size_t k = 0; k < set->count; k++) {
    moerun__added_token *token = &set->token[k];
    const char *content = NULL;
    const size_t bytes = token->bytes;
    if (token->pass != MOERUN_ADDED_NORMALIZED) continue;
    MOERUN_TRY(moerun__normalizer_run(
        normalizer, &room, &content, &token->bytes,
        set->pool.bytes + token->start, token->bytes, origin));
    const size_t start = set->pool.count;
    if (content == set->pool.bytes + token->start) continue;
    MOERUN_TRY(moerun__text_append(&set->pool, content, token->bytes));
    token->is_changed =
        token->bytes != bytes ||
        memcmp(content, set->pool.bytes + token->start, bytes) != 0;
    token->start = start;
  }
done:
  moerun__normal_room_clear(&room);
  return status;
}

static void sort(moerun__added_set *set) {
  for (size_t k = 0; k < set->count; k++) {
    set->token[k].content = set->pool.bytes + set->token[k].start;
  }
  qsort(set->token, set->count, sizeof *set->token, compare_added);
}

moerun_status moerun__added_set_end(moerun__added_set *set,
                                    const moerun__normalizer *normalizer,
                                    const char *origin) {
  moerun_status status = MOERUN_OK;
  sort(set);
  MOERUN_TRY(refuse_doubles(set, origin));
  MOERUN_TRY(normalize_contents(set, normalizer, origin));
  sort(set);
  size_t k = 0;
  for (int pass = 0; pass < MOERUN_ADDED_PASSES; pass++) {
    for (int first = 0; first <= 256; first++) {
      while (k < set->count && set->token[k].pass == pass &&
             (unsigned char)*set->token[k].content < first) {
        k++;
      }
      set->first[pass][first] = k;
    }
  }
done:
  return status;
}

void moerun__added_set_clear(moerun__added_set *set) {
  moerun__free(set->token);
  moerun__text_clear(&set->pool);
  memset(set, 0, sizeof *set);
}

/* The longest token at the start of text[bytes], or NULL. */
static const moerun__added_token *match(const moerun__added_set *set, int pass,
                                        const char *text, size_t bytes) {
  const size_t *range = &set->first[pass][(unsigned char)*text];
  for (size_t k = range[0]; k < range[1]; k++) {
    const moerun__added_token *token = &set->token[k];
    if (token->bytes > 0 && token->bytes <= bytes &&
        memcmp(token->content, text, token->bytes) == 0) {
      return token;
    }
  }
  return NULL;
}

static int has_word_beside(const moerun__added_search *s) {
  int length = 0;
  size_t before = s->start;
  while (before > 0 && ((unsigned char)s->text[--before] & 0xC0U) == 0x80) {
  }
  return (s->start > 0 &&
          moerun__is_word(moerun__code_point(s->text + before, &length))) ||
         (s->end < s->bytes &&
          moerun__is_word(moerun__code_point(s->text + s->end, &length)));
}

const moerun__added_token *moerun__added_set_next(const moerun__added_set *set,
                                                  int pass,
                                                  moerun__added_search *s) {
  s->from = s->end;
  while (s->at < s->bytes) {
    const moerun__added_token *token =
        match(set, pass, s->text + s->at, s->bytes - s->at);
    if (token == NULL) {
      s->at++;
      continue;
    }
    s->start = s->at;
    s->end = s->at + token->bytes;
    s->at = s->end;
    if (token->single_word && has_word_beside(s)) continue;
    if (token->lstrip) {
      s->start -= moerun__white_space_behind(s->text, s->start);
      if (s->start < s->from) s->start = s->from;
    }
    if (token->rstrip) {
      s->end +=
          moerun__white_space_in_front(s->text + s->end, s->bytes - s->end);
    }
    return token;
  }
  return NULL;
}
