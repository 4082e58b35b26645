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

static moerun_status check_id(int32_t *out, const json_t *value,
                              const char *token, const char *origin) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(json_is_integer(value), MOERUN_ERR_FORMAT,
                 "%s: token \"%s\": expected an integer id, found %s", origin,
                 token, moerun__json_kind(value));
  const int64_t id = json_integer_value(value);
  MOERUN_REQUIRE(id >= 0 && id < MAX_ID, MOERUN_ERR_FORMAT,
                 "%s: token \"%s\": expected an id of 0 to %d, found %lld",
                 origin, token, MAX_ID - 1, (long long)id);
  *out = (int32_t)id;
done:
  return status;
}

/* Ids and bytes of spellings, counted before anything is entered. */
typedef struct sizes {
  int32_t ids;
  size_t tokens;
  size_t bytes;
} sizes;

static moerun_status count_object(sizes *s, json_t *tokens,
                                  const char *origin) {
  moerun_status status = MOERUN_OK;
  const char *token = NULL;
  json_t *value = NULL;
  int32_t id = 0;
  json_object_foreach(tokens, token, value) {
    MOERUN_TRY(check_id(&id, value, token, origin));
    if (id >= s->ids) s->ids = id + 1;
    s->bytes += strlen(token);
  }
  s->tokens = json_object_size(tokens);
done:
  return status;
}

static moerun_status count_pairs(sizes *s, const json_t *tokens,
                                 const char *origin) {
  moerun_status status = MOERUN_OK;
  const json_t *pair = NULL;
  size_t i = 0;
  MOERUN_REQUIRE(json_array_size(tokens) < MAX_ID, MOERUN_ERR_FORMAT,
                 "%s: expected at most %d tokens, found %zu", origin,
                 MAX_ID - 1, json_array_size(tokens));
  json_array_foreach(tokens, i, pair) {
    const char *token = json_string_value(json_array_get(pair, 0));
    MOERUN_REQUIRE(token != NULL && json_array_size(pair) == 2 &&
                       json_is_number(json_array_get(pair, 1)),
                   MOERUN_ERR_FORMAT,
                   "%s: token %zu: expected [\"text\", score], found %s",
                   origin, i, moerun__json_kind(pair));
    s->bytes += strlen(token);
  }
  s->tokens = json_array_size(tokens);
  s->ids = moerun__to_int((int64_t)s->tokens);
done:
  return status;
}

static moerun_status count_added(sizes *s, const json_t *added,
                                 const char *origin) {
  moerun_status status = MOERUN_OK;
  const json_t *value = NULL;
  size_t i = 0;
  int32_t id = 0;
  json_array_foreach(added, i, value) {
    const char *content = NULL;
    MOERUN_TRY(moerun__json_text(&content, value, "content", 1, origin));
    MOERUN_TRY(check_id(&id, json_object_get(value, "id"), content, origin));
    if (id >= s->ids) s->ids = id + 1;
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
                           const char *spelling, const char *origin) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(v->length[id] < 0, MOERUN_ERR_FORMAT,
                 "%s: token \"%s\": id %d belongs to another token too", origin,
                 spelling, id);
  const size_t bytes = strlen(spelling);
  put(v, id, spelling, bytes);
  /* Of two tokens spelt alike, which an array may have, the later one counts. */
  v->place[find_place(v, spelling, bytes)] = id;
done:
  return status;
}

moerun_status moerun__vocabulary_read(moerun__vocabulary *v, json_t *tokens,
                                      const json_t *added, const char *origin) {
  moerun_status status = MOERUN_OK;
  sizes s = {0};
  const char *token = NULL;
  json_t *value = NULL;
  size_t i = 0;
  MOERUN_REQUIRE(json_is_object(tokens) || json_is_array(tokens),
                 MOERUN_ERR_FORMAT,
                 "%s: key \"vocab\": expected an object, found %s", origin,
                 moerun__json_kind(tokens));
  MOERUN_TRY(json_is_object(tokens) ? count_object(&s, tokens, origin)
                                    : count_pairs(&s, tokens, origin));
  MOERUN_TRY(count_added(&s, added, origin));
  MOERUN_REQUIRE(s.ids > 0, MOERUN_ERR_FORMAT,
                 "%s: expected at least one token, found none", origin);
  MOERUN_TRY(make_room(v, &s));
  if (json_is_object(tokens)) {
    json_object_foreach(tokens, token, value) {
      MOERUN_TRY(enter(v, (int32_t)json_integer_value(value), token, origin));
    }
  } else {
    json_array_foreach(tokens, i, value) {
      token = json_string_value(json_array_get(value, 0));
      MOERUN_TRY(enter(v, moerun__to_int((int64_t)i), token, origin));
    }
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
