/* Spellings lie one behind another in a pool, and an open-addressing table
 * leads from a spelling to its id: merges name their tokens by spelling, and
 * there are hundreds of thousands of them. */
#include "runtime/text/vocabulary.h"

#include "runtime/base/json.h"
#include "runtime/base/memory.h"
#include "runtime/base/number.h"

#include <string.h>
#include <xxhash.h>

enum { MAX_ID = 1 << 22 };

/* The place of the spelling, or the empty one where it belongs. */
static size_t find_place(const moerun__vocabulary *v, const char *spelling,
                         size_t bytes) {
  size_t i = (size_t)XXH3_64bits(spelling, bytes) & v->mask;
  while (v->place[i] >= 0) {
    const int32_t id = v->place[i];
    if ((size_t)v->length[id] == bytes &&
        memcmp(v->pool + v->start[id], spelling, bytes) == 0) {
      break;
    }
    i = (i + 1) & v->mask;
  }
  return i;
}

static moerun_status check_id(int64_t id, const char *token,
                              const char *origin) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(id >= 0 && id < MAX_ID, MOERUN_ERR_FORMAT,
                 "%s: token \"%s\": expected an id of 0 to %d, found %lld",
                 origin, token, MAX_ID - 1, (long long)id);
done:
  return status;
}

/* Ids and bytes of spellings, counted before anything is entered. */
typedef struct sizes {
  int32_t ids;
  size_t tokens;
  size_t bytes;
} sizes;

static moerun_status count_tokens(sizes *s, const moerun__token_file *file,
                                  const char *origin) {
  moerun_status status = MOERUN_OK;
  for (size_t i = 0; i < file->num_tokens; i++) {
    const moerun__file_token *token = &file->token[i];
    MOERUN_TRY(check_id(token->id, file->pool + token->start, origin));
    if (token->id >= s->ids) s->ids = (int32_t)token->id + 1;
    s->bytes += token->bytes;
  }
  s->tokens = file->num_tokens;
done:
  return status;
}

static moerun_status count_added(sizes *s, const json_t *added,
                                 const char *origin) {
  moerun_status status = MOERUN_OK;
  const json_t *value = NULL;
  size_t i = 0;
  json_array_foreach(added, i, value) {
    const char *content = NULL;
    const json_t *id = json_object_get(value, "id");
    MOERUN_TRY(moerun__json_text(&content, value, "content", 1, origin));
    MOERUN_REQUIRE(json_is_integer(id), MOERUN_ERR_FORMAT,
                   "%s: token \"%s\": expected an integer id, found %s", origin,
                   content, moerun__json_kind(id));
    MOERUN_TRY(check_id(json_integer_value(id), content, origin));
    if (json_integer_value(id) >= s->ids) {
      s->ids = (int32_t)json_integer_value(id) + 1;
    }
    s->bytes += strlen(content);
  }
done:
  return status;
}

static moerun_status make_room(moerun__vocabulary *v, const sizes *s) {
  moerun_status status = MOERUN_OK;
  size_t places = 16;
  while (places < 2 * s->tokens) {
    places *= 2;
  }
  v->size = s->ids;
  v->mask = places - 1;
  MOERUN_TRY(moerun__alloc_unset(&v->pool, s->bytes, 1));
  MOERUN_TRY(moerun__alloc_unset(&v->start, (size_t)s->ids, sizeof *v->start));
  MOERUN_TRY(
      moerun__alloc_unset(&v->length, (size_t)s->ids, sizeof *v->length));
  MOERUN_TRY(moerun__alloc_unset(&v->place, places, sizeof *v->place));
  for (int32_t id = 0; id < s->ids; id++) {
    v->length[id] = -1;
  }
  for (size_t i = 0; i < places; i++) {
    v->place[i] = -1;
  }
done:
  return status;
}

static void put(moerun__vocabulary *v, int32_t id, const char *spelling,
                size_t bytes) {
  memcpy(v->pool + v->pool_used, spelling, bytes);
  v->start[id] = v->pool_used;
  v->length[id] = moerun__to_int((int64_t)bytes);
  v->pool_used += bytes;
}

static moerun_status enter(moerun__vocabulary *v, int32_t id,
                           const char *spelling, size_t bytes, int may_repeat,
                           const char *origin) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(v->length[id] < 0, MOERUN_ERR_FORMAT,
                 "%s: token \"%s\": id %d belongs to another token too", origin,
                 spelling, id);
  int32_t *place = &v->place[find_place(v, spelling, bytes)];
  MOERUN_REQUIRE(*place < 0 || may_repeat, MOERUN_ERR_FORMAT,
                 "%s: token \"%s\" has the ids %d and %d", origin, spelling,
                 *place, id);
  put(v, id, spelling, bytes);
  *place = id; /* of two tokens that are spelt alike, the later one counts */
done:
  return status;
}

moerun_status moerun__vocabulary_read(moerun__vocabulary *v,
                                      const moerun__token_file *file,
                                      const json_t *added, const char *origin) {
  moerun_status status = MOERUN_OK;
  sizes s = {0};
  MOERUN_TRY(count_tokens(&s, file, origin));
  MOERUN_TRY(count_added(&s, added, origin));
  MOERUN_REQUIRE(s.ids > 0, MOERUN_ERR_FORMAT,
                 "%s: expected at least one token, found none", origin);
  MOERUN_TRY(make_room(v, &s));
  for (size_t i = 0; i < file->num_tokens; i++) {
    const moerun__file_token *token = &file->token[i];
    MOERUN_TRY(enter(v, (int32_t)token->id, file->pool + token->start,
                     token->bytes, file->has_scores, origin));
  }
done:
  return status;
}

void moerun__vocabulary_add(moerun__vocabulary *v, int32_t id,
                            const char *content, size_t bytes,
                            const char **spelling) {
  put(v, id, content, bytes);
  *spelling = v->pool + v->start[id];
}

void moerun__vocabulary_clear(moerun__vocabulary *v) {
  moerun__free(v->pool);
  moerun__free(v->start);
  moerun__free(v->length);
  moerun__free(v->place);
  memset(v, 0, sizeof *v);
}

int32_t moerun__vocabulary_find(const moerun__vocabulary *v,
                                const char *spelling, size_t bytes) {
  return v->place[find_place(v, spelling, bytes)];
}

const char *moerun__vocabulary_text(const moerun__vocabulary *v, int32_t id,
                                    size_t *bytes) {
  const int has_text = id >= 0 && id < v->size && v->length[id] > 0;
  *bytes = has_text ? (size_t)v->length[id] : 0;
  return has_text ? v->pool + v->start[id] : NULL;
}

int32_t moerun__vocabulary_search(const moerun__vocabulary *v,
                                  const char *spelling) {
  const size_t bytes = strlen(spelling);
  for (int32_t id = 0; id < v->size; id++) {
    if (v->length[id] >= 0 && (size_t)v->length[id] == bytes &&
        memcmp(v->pool + v->start[id], spelling, bytes) == 0) {
      return id;
    }
  }
  return -1;
}
