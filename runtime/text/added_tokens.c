#include "runtime/text/added_tokens.h"

#include "runtime/base/json.h"
#include "runtime/base/memory.h"
#include "runtime/text/tokenizer_stages.h"

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
  static const char *const flags[] = {"single_word", "lstrip", "rstrip"};
  const int usual = !is_special;
  int normalized = 0;
  for (size_t f = 0; f < sizeof flags / sizeof *flags; f++) {
    MOERUN_TRY(moerun__tokenizer_expect_flag(value, flags[f], 0, 0,
                                             "added_tokens", origin));
  }
  MOERUN_TRY(
      moerun__json_bool(&normalized, value, "normalized", &usual, origin));
  set->token[set->count++] = (moerun__added_token){
      .content = content,
      .bytes = bytes,
      .id = id,
      .pass = normalized ? MOERUN_ADDED_NORMALIZED : MOERUN_ADDED_AS_IS};
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
  return compare_contents(x, y);
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
    MOERUN_REQUIRE(compare_added(&set->token[k], &set->token[k + 1]) != 0,
                   MOERUN_ERR_FORMAT,
                   "%s: added tokens %d and %d have the same content", origin,
                   set->token[k].id, set->token[k + 1].id);
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

moerun_status moerun__added_set_end(moerun__added_set *set,
                                    const char *origin) {
  moerun_status status = MOERUN_OK;
  qsort(set->token, set->count, sizeof *set->token, compare_added);
  MOERUN_TRY(refuse_doubles(set, origin));
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
  memset(set, 0, sizeof *set);
}

/* The longest token at the start of text[bytes], or NULL. */
static const moerun__added_token *match(const moerun__added_set *set, int pass,
                                        const char *text, size_t bytes) {
  const size_t *range = &set->first[pass][(unsigned char)*text];
  for (size_t k = range[0]; k < range[1]; k++) {
    const moerun__added_token *token = &set->token[k];
    if (token->bytes <= bytes &&
        memcmp(token->content, text, token->bytes) == 0) {
      return token;
    }
  }
  return NULL;
}

const moerun__added_token *moerun__added_set_find(const moerun__added_set *set,
                                                  int pass, size_t *at,
                                                  const char *text,
                                                  size_t bytes) {
  for (*at = 0; *at < bytes; ++*at) {
    const moerun__added_token *token =
        match(set, pass, text + *at, bytes - *at);
    if (token != NULL) return token;
  }
  return NULL;
}
