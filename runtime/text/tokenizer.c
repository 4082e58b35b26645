/* Reader of tokenizer.json: the stages of its pipeline (tokenizer_stages.c), the
 * vocabulary and the merges of its model, and added tokens (added_tokens.c).
 *
 * Byte-level models spell each byte as one printable character: those of
 * ASCII and Latin-1 that print stand for themselves, the other 68 bytes for
 * U+0100 onwards in order (Radford et al. 2019, GPT-2's encoder). */
#include "runtime/text/tokenizer.h"

#include "runtime/base/file.h"
#include "runtime/base/json.h"
#include "runtime/base/memory.h"
#include "runtime/base/number.h"
#include "runtime/text/added_tokens.h"
#include "runtime/text/bpe.h"
#include "runtime/text/tokenizer_stages.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
  FILE_LIMIT = 64 << 20,
  CONFIG_LIMIT = 4 << 20,
  MAX_ID = 1 << 22,
  ALPHABET = 256 + 68, /* code points that stand for a byte lie below */
};

struct moerun__tokenizer {
  moerun__bpe *bpe;
  int32_t size;    /* ids 0..size-1 */
  char *pool;      /* the bytes of all tokens */
  size_t *start;   /* [size] into pool */
  int32_t *length; /* [size]; -1: no token has this id */
  char *special;   /* [size] 1: skipped when decoding */
  moerun__added_set added;
  int32_t front;     /* that the post-processor puts in front; -1: none */
  int32_t bos_token; /* of tokenizer_config.json; -1: none */
  int add_bos_key;   /* its add_bos_token: 0, 1; -1: it is not there */
};

/* ---- Lists ---------------------------------------------------------------- */

moerun_status moerun__token_list_reserve(moerun__token_list *list,
                                         size_t more) {
  moerun_status status = MOERUN_OK;
  if (list->room - list->count >= more && list->id != NULL) goto done;
  const size_t needed = list->count + more;
  const size_t room = needed < 64 ? 64 : needed + needed / 2;
  MOERUN_TRY(moerun__resize(&list->id, list->room, room, sizeof *list->id));
  list->room = room;
done:
  return status;
}

moerun_status moerun__token_list_append(moerun__token_list *list, int32_t id) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__token_list_reserve(list, 1));
  list->id[list->count++] = id;
done:
  return status;
}

void moerun__token_list_clear(moerun__token_list *list) {
  moerun__free(list->id);
  memset(list, 0, sizeof *list);
}

/* ---- The byte alphabet ------------------------------------------------------ */

static int stands_for_itself(int byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) ||
         byte >= 0xAE;
}

/* byte_of[c] = the byte that code point c stands for, -1: none. */
static void fill_alphabet(int16_t byte_of[ALPHABET]) {
  int next = 256;
  for (int c = 0; c < ALPHABET; c++) {
    byte_of[c] = -1;
  }
  for (int byte = 0; byte < 256; byte++) {
    byte_of[stands_for_itself(byte) ? byte : next++] = (int16_t)byte;
  }
}

/* Writes the bytes that `text` spells to out (room for strlen(text)); returns
 * their number, or -1 if a character stands for no byte. */
static int32_t spell_bytes(char *out, const char *text,
                           const int16_t byte_of[ALPHABET]) {
  int32_t count = 0;
  while (*text != '\0') {
    unsigned c = (unsigned char)*text++;
    if (c >= 0xC0 && c < 0xE0) {
      c = (c & 0x1FU) << 6 | ((unsigned char)*text++ & 0x3FU);
    } else if (c >= 0x80) {
      return -1;
    }
    if (c >= ALPHABET || byte_of[c] < 0) return -1;
    out[count++] = (char)byte_of[c];
  }
  return count;
}

/* ---- Vocabulary --------------------------------------------------------------- */

static moerun_status read_id(int32_t *out, const json_t *value,
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

/* Counts ids and bytes, then allocates the table of tokens. */
static moerun_status size_tokens(moerun__tokenizer *t, json_t *vocab,
                                 const json_t *added, const char *origin) {
  moerun_status status = MOERUN_OK;
  const char *token = NULL;
  json_t *value = NULL;
  size_t i = 0;
  size_t pool_bytes = 0;
  int32_t id = 0;
  json_object_foreach(vocab, token, value) {
    MOERUN_TRY(read_id(&id, value, token, origin));
    if (id >= t->size) t->size = id + 1;
    pool_bytes += strlen(token);
  }
  json_array_foreach(added, i, value) {
    const char *content = NULL;
    MOERUN_TRY(moerun__json_text(&content, value, "content", 1, origin));
    MOERUN_TRY(read_id(&id, json_object_get(value, "id"), content, origin));
    if (id >= t->size) t->size = id + 1;
    pool_bytes += strlen(content);
  }
  MOERUN_REQUIRE(t->size > 0, MOERUN_ERR_FORMAT,
                 "%s: expected at least one token, found none", origin);
  const size_t size = (size_t)t->size;
  MOERUN_TRY(moerun__alloc(&t->pool, pool_bytes, 1));
  MOERUN_TRY(moerun__alloc(&t->start, size, sizeof *t->start));
  MOERUN_TRY(moerun__alloc(&t->length, size, sizeof *t->length));
  MOERUN_TRY(moerun__alloc(&t->special, size, 1));
  for (size_t k = 0; k < size; k++) {
    t->length[k] = -1;
  }
done:
  return status;
}

/* Enters the vocabulary; byte_token[b] = the id of byte b alone. */
static moerun_status read_vocab(moerun__tokenizer *t, size_t *pool_used,
                                int32_t byte_token[256], json_t *vocab,
                                const char *origin) {
  moerun_status status = MOERUN_OK;
  int16_t byte_of[ALPHABET];
  const char *token = NULL;
  json_t *value = NULL;
  fill_alphabet(byte_of);
  for (int b = 0; b < 256; b++) {
    byte_token[b] = -1;
  }
  json_object_foreach(vocab, token, value) {
    const int32_t id = (int32_t)json_integer_value(value);
    char *bytes = t->pool + *pool_used;
    MOERUN_REQUIRE(t->length[id] < 0, MOERUN_ERR_FORMAT,
                   "%s: token \"%s\": id %d belongs to another token too",
                   origin, token, id);
    int32_t length = spell_bytes(bytes, token, byte_of);
    if (length < 0) { /* a token that is spelt out, such as a chat mark */
      length = moerun__to_int((int64_t)strlen(token));
      memcpy(bytes, token, (size_t)length);
    } else if (length == 1) {
      byte_token[(unsigned char)*bytes] = id;
    }
    t->start[id] = *pool_used;
    t->length[id] = length;
    *pool_used += (size_t)length;
  }
done:
  return status;
}

/* ---- Merges ------------------------------------------------------------------- */

/* The two tokens of merge number i: ["a", "b"] or, in older files, "a b". */
static moerun_status split_merge(moerun__text *left, moerun__text *right,
                                 const json_t *merge, size_t i,
                                 const char *origin) {
  moerun_status status = MOERUN_OK;
  left->count = 0;
  right->count = 0;
  const char *whole = json_string_value(merge);
  const char *gap = whole != NULL ? strchr(whole, ' ') : NULL;
  const char *a = json_string_value(json_array_get(merge, 0));
  const char *b = json_string_value(json_array_get(merge, 1));
  const int is_pair = json_array_size(merge) == 2 && a != NULL && b != NULL;
  MOERUN_REQUIRE(is_pair || (gap != NULL && strchr(gap + 1, ' ') == NULL),
                 MOERUN_ERR_FORMAT,
                 "%s: merge %zu: expected \"a b\" or [\"a\", \"b\"], found %s",
                 origin, i, moerun__json_kind(merge));
  if (is_pair) {
    MOERUN_TRY(moerun__text_append(left, a, strlen(a)));
    MOERUN_TRY(moerun__text_append(right, b, strlen(b)));
  } else {
    MOERUN_TRY(moerun__text_append(left, whole, (size_t)(gap - whole)));
    MOERUN_TRY(moerun__text_append(right, gap + 1, strlen(gap + 1)));
  }
done:
  return status;
}

static moerun_status look_up(int32_t *id, const json_t *vocab,
                             const char *token, size_t i, const char *origin) {
  moerun_status status = MOERUN_OK;
  const json_t *found = json_object_get(vocab, token);
  MOERUN_REQUIRE(found != NULL, MOERUN_ERR_FORMAT,
                 "%s: merge %zu: token \"%s\" is not in the vocabulary", origin,
                 i, token);
  *id = (int32_t)json_integer_value(found);
done:
  return status;
}

static moerun_status read_merges(moerun__tokenizer *t,
                                 const int32_t byte_token[256],
                                 const json_t *vocab, const json_t *merges,
                                 const char *origin) {
  moerun_status status = MOERUN_OK;
  moerun__text left = {0};
  moerun__text right = {0};
  moerun__bpe_merge *merge = NULL;
  json_t *value = NULL;
  size_t i = 0;
  MOERUN_TRY(moerun__alloc(&merge, json_array_size(merges), sizeof *merge));
  json_array_foreach(merges, i, value) {
    MOERUN_TRY(split_merge(&left, &right, value, i, origin));
    MOERUN_TRY(look_up(&merge[i].left, vocab, left.bytes, i, origin));
    MOERUN_TRY(look_up(&merge[i].right, vocab, right.bytes, i, origin));
    MOERUN_TRY(moerun__text_append(&left, right.bytes, right.count));
    MOERUN_TRY(look_up(&merge[i].joined, vocab, left.bytes, i, origin));
  }
  MOERUN_TRY(
      moerun__bpe_create(&t->bpe, byte_token, merge, json_array_size(merges)));
done:
  moerun__text_clear(&left);
  moerun__text_clear(&right);
  moerun__free(merge);
  return status;
}

/* ---- Added tokens ------------------------------------------------------------- */

static moerun_status read_added_token(moerun__tokenizer *t, size_t *pool_used,
                                      const json_t *value, const json_t *vocab,
                                      const char *origin) {
  moerun_status status = MOERUN_OK;
  const char *content = NULL;
  const int no = 0;
  int special = 0;
  MOERUN_TRY(moerun__json_text(&content, value, "content", 1, origin));
  const int32_t id = (int32_t)json_integer_value(json_object_get(value, "id"));
  MOERUN_TRY(moerun__json_bool(&special, value, "special", &no, origin));
  const size_t bytes = strlen(content);
  MOERUN_REQUIRE(bytes > 0, MOERUN_ERR_FORMAT,
                 "%s: added token %d: expected a content, found nothing",
                 origin, id);
  const json_t *known = json_object_get(vocab, content);
  const int same = known != NULL && json_integer_value(known) == id;
  MOERUN_REQUIRE(same || (known == NULL && t->length[id] < 0),
                 MOERUN_ERR_FORMAT,
                 "%s: added token \"%s\": its id %d does not agree with the "
                 "vocabulary or another added token",
                 origin, content, id);
  t->start[id] = *pool_used;
  t->length[id] = moerun__to_int((int64_t)bytes);
  t->special[id] = (char)special;
  memcpy(t->pool + *pool_used, content, bytes);
  MOERUN_TRY(moerun__added_set_add(&t->added, value, special,
                                   t->pool + *pool_used, bytes, id, origin));
  *pool_used += bytes;
done:
  return status;
}

static moerun_status read_added(moerun__tokenizer *t, size_t *pool_used,
                                const json_t *added, const json_t *vocab,
                                const char *origin) {
  moerun_status status = MOERUN_OK;
  json_t *value = NULL;
  size_t i = 0;
  MOERUN_TRY(
      moerun__added_set_begin(&t->added, json_array_size(added), origin));
  json_array_foreach(added, i, value) {
    MOERUN_TRY(read_added_token(t, pool_used, value, vocab, origin));
  }
  MOERUN_TRY(moerun__added_set_end(&t->added, origin));
done:
  return status;
}

/* ---- The whole file ----------------------------------------------------------- */

static moerun_status read_root(moerun__tokenizer *t, const json_t *root,
                               const char *origin) {
  moerun_status status = MOERUN_OK;
  json_t *model = NULL;
  json_t *vocab = NULL;
  json_t *merges = NULL;
  const json_t *added = NULL;
  size_t pool_used = 0;
  int32_t byte_token[256];
  MOERUN_TRY(moerun__tokenizer_check_stages(&t->front, root, origin));
  MOERUN_TRY(moerun__json_object(&model, root, "model", origin));
  MOERUN_TRY(moerun__json_object(&vocab, model, "vocab", origin));
  MOERUN_TRY(moerun__json_array(&merges, model, "merges", origin));
  added = json_object_get(root, "added_tokens");
  MOERUN_REQUIRE(added == NULL || json_is_array(added) || json_is_null(added),
                 MOERUN_ERR_FORMAT,
                 "%s: key \"added_tokens\": expected an array, found %s",
                 origin, moerun__json_kind(added));
  MOERUN_TRY(size_tokens(t, vocab, added, origin));
  MOERUN_TRY(read_vocab(t, &pool_used, byte_token, vocab, origin));
  MOERUN_TRY(read_merges(t, byte_token, vocab, merges, origin));
  MOERUN_TRY(read_added(t, &pool_used, added, vocab, origin));
  MOERUN_REQUIRE(t->front < t->size, MOERUN_ERR_FORMAT,
                 "%s: post_processor: expected the id of a token in front, "
                 "found %d",
                 origin, t->front);
done:
  return status;
}

moerun_status moerun__tokenizer_parse(moerun__tokenizer **out, const char *text,
                                      size_t bytes, const char *origin) {
  moerun_status status = MOERUN_OK;
  moerun__tokenizer *t = NULL;
  json_t *root = NULL;
  *out = NULL;
  MOERUN_TRY(moerun__json_parse(&root, text, bytes, origin));
  MOERUN_REQUIRE(json_is_object(root), MOERUN_ERR_FORMAT,
                 "%s: expected a JSON object, found %s", origin,
                 moerun__json_kind(root));
  MOERUN_TRY(moerun__alloc(&t, 1, sizeof *t));
  t->front = -1;
  t->bos_token = -1;
  t->add_bos_key = -1;
  MOERUN_TRY(read_root(t, root, origin));
  *out = t;
  t = NULL;
done:
  moerun__tokenizer_destroy(t);
  json_decref(root);
  return status;
}

/* The token whose text this is, -1: none. */
static int32_t find_token(const moerun__tokenizer *t, const char *text) {
  const size_t bytes = strlen(text);
  for (int32_t id = 0; id < t->size; id++) {
    if (t->length[id] >= 0 && (size_t)t->length[id] == bytes &&
        memcmp(t->pool + t->start[id], text, bytes) == 0) {
      return id;
    }
  }
  return -1;
}

/* bos_token (a text, or an object with it) and add_bos_token of
 * tokenizer_config.json, which may be missing. */
static moerun_status read_config(moerun__tokenizer *t, const char *path) {
  moerun_status status = MOERUN_OK;
  json_t *root = NULL;
  if (access(path, F_OK) != 0 && errno == ENOENT) goto done;
  MOERUN_TRY(moerun__json_load(&root, path, CONFIG_LIMIT));
  MOERUN_TRY(moerun__json_bool(&t->add_bos_key, root, "add_bos_token",
                               &t->add_bos_key, path));
  const json_t *bos = json_object_get(root, "bos_token");
  const char *text = json_string_value(
      json_is_object(bos) ? json_object_get(bos, "content") : bos);
  if (text != NULL) t->bos_token = find_token(t, text);
done:
  json_decref(root);
  return status;
}

moerun_status moerun__tokenizer_load(moerun__tokenizer **out,
                                     const char *model_dir) {
  moerun_status status = MOERUN_OK;
  moerun__text path = {0};
  char *text = NULL;
  size_t bytes = 0;
  *out = NULL;
  MOERUN_TRY(moerun__text_print(&path, "%s/tokenizer.json", model_dir));
  MOERUN_TRY(moerun__file_read(&text, &bytes, path.bytes, FILE_LIMIT));
  MOERUN_TRY(moerun__tokenizer_parse(out, text, bytes, path.bytes));
  path.count = 0;
  MOERUN_TRY(moerun__text_print(&path, "%s/tokenizer_config.json", model_dir));
  MOERUN_TRY(read_config(*out, path.bytes));
done:
  if (status != MOERUN_OK) {
    moerun__tokenizer_destroy(*out);
    *out = NULL;
  }
  moerun__text_clear(&path);
  moerun__free(text);
  return status;
}

void moerun__tokenizer_destroy(moerun__tokenizer *t) {
  if (t == NULL) return;
  moerun__bpe_destroy(t->bpe);
  moerun__free(t->pool);
  moerun__free(t->start);
  moerun__free(t->length);
  moerun__free(t->special);
  moerun__added_set_clear(&t->added);
  moerun__free(t);
}

/* ---- Encode, decode ------------------------------------------------------------ */

/* Text without tokens of the first pass: those of the second cut it, the model
 * splits what is between. */
static moerun_status encode_rest(const moerun__tokenizer *t,
                                 moerun__token_list *out, const char *text,
                                 size_t bytes, const char *origin) {
  moerun_status status = MOERUN_OK;
  while (bytes > 0) {
    size_t at = 0;
    const moerun__added_token *token = moerun__added_set_find(
        &t->added, MOERUN_ADDED_NORMALIZED, &at, text, bytes);
    MOERUN_TRY(moerun__bpe_encode(t->bpe, out, text, at, origin));
    if (token == NULL) break;
    MOERUN_TRY(moerun__token_list_append(out, token->id));
    text += at + token->bytes;
    bytes -= at + token->bytes;
  }
done:
  return status;
}

moerun_status moerun__tokenizer_encode(const moerun__tokenizer *t,
                                       moerun__token_list *out,
                                       const char *text, size_t bytes,
                                       const char *origin) {
  moerun_status status = MOERUN_OK;
  while (bytes > 0) {
    size_t at = 0;
    const moerun__added_token *token =
        moerun__added_set_find(&t->added, MOERUN_ADDED_AS_IS, &at, text, bytes);
    MOERUN_TRY(encode_rest(t, out, text, at, origin));
    if (token == NULL) break;
    MOERUN_TRY(moerun__token_list_append(out, token->id));
    text += at + token->bytes;
    bytes -= at + token->bytes;
  }
done:
  return status;
}

moerun_status moerun__tokenizer_decode(const moerun__tokenizer *t,
                                       moerun__text *out, const int32_t *id,
                                       size_t count) {
  moerun_status status = MOERUN_OK;
  for (size_t i = 0; i < count; i++) {
    if (id[i] < 0 || id[i] >= t->size || t->special[id[i]]) continue;
    if (t->length[id[i]] <= 0) continue;
    MOERUN_TRY(moerun__text_append(out, t->pool + t->start[id[i]],
                                   (size_t)t->length[id[i]]));
  }
done:
  return status;
}

int32_t moerun__tokenizer_front(const moerun__tokenizer *t) {
  return t->front;
}

int32_t moerun__tokenizer_bos(const moerun__tokenizer *t) {
  return t->bos_token >= 0 ? t->bos_token : t->front;
}

int moerun__tokenizer_add_bos_key(const moerun__tokenizer *t) {
  return t->add_bos_key;
}

const char *moerun__tokenizer_text(const moerun__tokenizer *t, int32_t id,
                                   size_t *bytes) {
  const int has_text = id >= 0 && id < t->size && t->length[id] > 0;
  *bytes = has_text ? (size_t)t->length[id] : 0;
  return has_text ? t->pool + t->start[id] : NULL;
}
