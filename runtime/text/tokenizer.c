/* The pipeline: which stage comes after which, as in the Hugging Face library.
 *
 * A text is searched for added tokens that are not normalized; what is between
 * is normalized and searched for the others; what is between those is cut into
 * words, each of which the model makes into ids. Decoding joins the spellings
 * of the tokens by the decoder. */
#include "runtime/text/tokenizer.h"

#include "runtime/base/digest.h"
#include "runtime/base/file.h"
#include "runtime/base/json.h"
#include "runtime/base/memory.h"
#include "runtime/text/added_tokens.h"
#include "runtime/text/decode.h"
#include "runtime/text/post.h"
#include "runtime/text/split.h"
#include "runtime/text/unicode.h"
#include "runtime/text/word_model.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
  FILE_LIMIT = 64 << 20,
  CONFIG_LIMIT = 4 << 20,
  ROOM_KEPT = 1 << 20, /* bytes of a text whose room is kept for the next */
};

/* What decoding does with a token. */
enum {
  SKIPPED = 1, /* unless special tokens are kept */
  RESPELT = 2, /* it is spelt as its normalized content */
  SHOWN = 4,   /* and no longer skipped */
};

/* Room that encoding works in. */
typedef struct room {
  moerun__normal_room normal;
  moerun__split_room split;
} room;

struct moerun__tokenizer {
  moerun__vocabulary vocabulary;
  char *special; /* [size of the vocabulary] SKIPPED, … */
  moerun__added_set added;
  moerun__normalizer normalizer;
  moerun__splitter splitter;
  moerun__word_model *model;
  moerun__post post;
  moerun__decoder decoder;
  room *room;
  char *refusal; /* why texts cannot be encoded; NULL: they can */
  int looks_at_characters;
  int32_t bos_token; /* of tokenizer_config.json; -1: none */
  int add_bos_key;   /* its add_bos_token: 0, 1; -1: it is not there */
  uint64_t digest;   /* of tokenizer.json */
};

/* ---- Reading ------------------------------------------------------------- */

static moerun_status read_added_token(moerun__tokenizer *t, const json_t *value,
                                      const char *origin) {
  moerun_status status = MOERUN_OK;
  moerun__vocabulary *v = &t->vocabulary;
  const char *content = NULL;
  const char *spelling = NULL;
  const int no = 0;
  int special = 0;
  MOERUN_TRY(moerun__json_text(&content, value, "content", 1, origin));
  const int32_t id = (int32_t)json_integer_value(json_object_get(value, "id"));
  MOERUN_TRY(moerun__json_bool(&special, value, "special", &no, origin));
  const size_t bytes = strlen(content);
  MOERUN_REQUIRE(bytes > 0, MOERUN_ERR_FORMAT,
                 "%s: added token %d: expected a content, found nothing",
                 origin, id);
  const int32_t known = moerun__vocabulary_find(v, content, bytes);
  MOERUN_REQUIRE(known == id || (known < 0 && v->length[id] < 0),
                 MOERUN_ERR_FORMAT,
                 "%s: added token \"%s\": its id %d does not agree with the "
                 "vocabulary or another added token",
                 origin, content, id);
  moerun__vocabulary_add(v, id, content, bytes, &spelling);
  t->special[id] = (char)(special ? SKIPPED : 0);
  MOERUN_TRY(moerun__added_set_add(&t->added, value, special, spelling, bytes,
                                   id, origin));
done:
  return status;
}

/* Tokens, and what decoding needs. */
static moerun_status read_decoding(moerun__tokenizer *t,
                                   const moerun__token_file *file,
                                   const char *where, const char *origin) {
  moerun_status status = MOERUN_OK;
  const json_t *root = file->root;
  json_t *model = NULL;
  json_t *added = json_object_get(root, "added_tokens");
  const json_t *value = NULL;
  size_t i = 0;
  if (json_is_null(added)) added = NULL;
  if (added != NULL) {
    MOERUN_TRY(moerun__json_array(&added, root, "added_tokens", origin));
  }
  MOERUN_TRY(moerun__decoder_read(&t->decoder, json_object_get(root, "decoder"),
                                  where));
  MOERUN_TRY(moerun__json_object(&model, root, "model", origin));
  const json_t *vocab = json_object_get(model, "vocab");
  MOERUN_REQUIRE(json_is_object(vocab) || json_is_array(vocab),
                 MOERUN_ERR_FORMAT,
                 "%s: key \"vocab\": expected an object, found %s", origin,
                 moerun__json_kind(vocab));
  MOERUN_TRY(moerun__vocabulary_read(&t->vocabulary, file, added, origin));
  MOERUN_TRY(moerun__alloc(&t->special, (size_t)t->vocabulary.size, 1));
  MOERUN_TRY(
      moerun__added_set_begin(&t->added, json_array_size(added), origin));
  json_array_foreach(added, i, value) {
    MOERUN_TRY(read_added_token(t, value, origin));
  }
done:
  return status;
}

static moerun_status expect_null(const json_t *root, const char *key,
                                 const char *origin) {
  moerun_status status = MOERUN_OK;
  const json_t *value = json_object_get(root, key);
  MOERUN_REQUIRE(value == NULL || json_is_null(value), MOERUN_ERR_UNSUPPORTED,
                 "%s: \"%s\": expected null, found %s, which is not "
                 "supported: give token ids instead of text",
                 origin, key, moerun__json_kind(value));
done:
  return status;
}

static moerun_status check_ids(const moerun__tokenizer *t,
                               const moerun__token_list *list,
                               const char *place, const char *origin) {
  moerun_status status = MOERUN_OK;
  for (size_t i = 0; i < list->count; i++) {
    MOERUN_REQUIRE(list->id[i] < t->vocabulary.size, MOERUN_ERR_FORMAT,
                   "%s: post_processor: expected the id of a token %s, found "
                   "%d",
                   origin, place, list->id[i]);
  }
done:
  return status;
}

/* Decoding spells a token as it is looked for, and then skips it only where a
 * special token's content is spelt alike, as the Hugging Face library does. */
static void respell(moerun__tokenizer *t, const moerun__added_token *token) {
  const int32_t same =
      moerun__vocabulary_find(&t->vocabulary, token->content, token->bytes);
  t->special[token->id] |= RESPELT;
  if (same < 0 || (t->special[same] & SKIPPED) == 0) {
    t->special[token->id] |= SHOWN;
  }
}

/* What encoding needs; where[] is room for the name of a stage. */
static moerun_status read_encoding(moerun__tokenizer *t,
                                   const moerun__token_file *file,
                                   moerun__text *where, const char *origin) {
  moerun_status status = MOERUN_OK;
  static const char *const keys[] = {"normalizer", "pre_tokenizer", "model",
                                     "post_processor"};
  const json_t *root = file->root;
  MOERUN_TRY(expect_null(root, "truncation", origin));
  MOERUN_TRY(expect_null(root, "padding", origin));
  for (int i = 0; i < 4; i++) {
    const json_t *value = json_object_get(root, keys[i]);
    where->count = 0;
    MOERUN_TRY(moerun__text_print(where, "%s: %s", origin, keys[i]));
    const moerun__model_source source = {.json = value,
                                         .file = file,
                                         .vocabulary = &t->vocabulary,
                                         .is_bytewise = t->splitter.is_bytewise,
                                         .where = where->bytes};
    switch (i) {
    case 0:
      MOERUN_TRY(moerun__normalizer_read(&t->normalizer, value, where->bytes));
      break;
    case 1:
      MOERUN_TRY(moerun__splitter_read(&t->splitter, value, where->bytes));
      break;
    case 2: MOERUN_TRY(moerun__word_model_read(&t->model, &source)); break;
    default: MOERUN_TRY(moerun__post_read(&t->post, value, where->bytes));
    }
  }
  MOERUN_TRY(check_ids(t, &t->post.front, "in front", origin));
  MOERUN_TRY(check_ids(t, &t->post.behind, "behind", origin));
  MOERUN_TRY(moerun__added_set_end(&t->added, &t->normalizer, origin));
  for (size_t i = 0; i < t->added.count; i++) {
    const moerun__added_token *token = &t->added.token[i];
    if (token->is_changed) respell(t, token);
  }
  t->looks_at_characters =
      !t->splitter.is_bytewise || t->splitter.looks_at_characters ||
      t->normalizer.count > 0 || t->added.looks_at_characters;
  MOERUN_TRY(moerun__alloc(&t->room, 1, sizeof *t->room));
done:
  return status;
}

static moerun_status read_stages(moerun__tokenizer *t,
                                 const moerun__token_file *file,
                                 const char *origin) {
  moerun_status status = MOERUN_OK;
  moerun__text where = {0};
  MOERUN_TRY(moerun__text_print(&where, "%s: decoder", origin));
  MOERUN_TRY(read_decoding(t, file, where.bytes, origin));
  status = read_encoding(t, file, &where, origin);
  if (status == MOERUN_ERR_UNSUPPORTED) {
    status = moerun__copy_text(&t->refusal, moerun_last_error());
  }
done:
  moerun__text_clear(&where);
  return status;
}

moerun_status moerun__tokenizer_parse(moerun__tokenizer **out, const char *text,
                                      size_t bytes, const char *origin) {
  moerun_status status = MOERUN_OK;
  moerun__tokenizer *t = NULL;
  moerun__token_file file = {0};
  *out = NULL;
  MOERUN_TRY(moerun__token_file_read(&file, text, bytes, origin));
  MOERUN_REQUIRE(json_is_object(file.root), MOERUN_ERR_FORMAT,
                 "%s: expected a JSON object, found %s", origin,
                 moerun__json_kind(file.root));
  MOERUN_TRY(moerun__alloc(&t, 1, sizeof *t));
  t->bos_token = -1;
  t->add_bos_key = -1;
  t->digest = moerun__digest_bytes(MOERUN_DIGEST_START, text, bytes);
  MOERUN_TRY(read_stages(t, &file, origin));
  *out = t;
  t = NULL;
done:
  moerun__tokenizer_destroy(t);
  moerun__token_file_clear(&file);
  return status;
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
  if (text != NULL) {
    t->bos_token = moerun__vocabulary_search(&t->vocabulary, text);
  }
done:
  json_decref(root);
  return status;
}

moerun_status moerun__tokenizer_other(moerun__text *out,
                                      const char *model_dir) {
  moerun_status status = MOERUN_OK;
  const struct dirent *entry = NULL;
  DIR *folder = opendir(model_dir);
  const size_t before = out->count;
  /* The stream is this function's own. NOLINTNEXTLINE(concurrency-mt-unsafe) */
  while (folder != NULL && (entry = readdir(folder)) != NULL) {
    const char *name = entry->d_name;
    const size_t length = strlen(name);
    const int is_other = moerun__name_ends_in(name, length, ".model") ||
                         moerun__name_ends_in(name, length, ".tiktoken") ||
                         strcmp(name, "tekken.json") == 0;
    if (!is_other || out->count > before) continue;
    MOERUN_TRY(moerun__text_append(out, name, length));
  }
done:
  if (folder != NULL) (void)closedir(folder);
  return status;
}

moerun_status moerun__tokenizer_load(moerun__tokenizer **out,
                                     const char *model_dir) {
  moerun_status status = MOERUN_OK;
  moerun__text path = {0};
  moerun__text other = {0};
  char *text = NULL;
  size_t bytes = 0;
  *out = NULL;
  MOERUN_TRY(moerun__text_print(&path, "%s/tokenizer.json", model_dir));
  if (access(path.bytes, F_OK) != 0 && errno == ENOENT) {
    MOERUN_TRY(moerun__tokenizer_other(&other, model_dir));
  }
  MOERUN_REQUIRE(other.count == 0, MOERUN_ERR_UNSUPPORTED,
                 "%s: not there, and \"%s\" beside it is of another kind, "
                 "which is not read: save_pretrained of transformers makes a "
                 "tokenizer.json of it",
                 path.bytes, other.bytes);
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
  moerun__text_clear(&other);
  moerun__free(text);
  return status;
}

void moerun__tokenizer_destroy(moerun__tokenizer *t) {
  if (t == NULL) return;
  moerun__word_model_destroy(t->model);
  moerun__splitter_clear(&t->splitter);
  moerun__normalizer_clear(&t->normalizer);
  moerun__post_clear(&t->post);
  moerun__decoder_clear(&t->decoder);
  moerun__added_set_clear(&t->added);
  moerun__vocabulary_clear(&t->vocabulary);
  if (t->room != NULL) {
    moerun__normal_room_clear(&t->room->normal);
    moerun__split_room_clear(&t->room->split);
  }
  moerun__free(t->room);
  moerun__free(t->special);
  moerun__free(t->refusal);
  moerun__free(t);
}

/* ---- Encode -------------------------------------------------------------- */

/* One text on its way. */
typedef struct encoding {
  const moerun__tokenizer *tokenizer;
  moerun__token_list *out;
  const char *origin;
} encoding;

static moerun_status take_word(void *self, const char *word, size_t bytes,
                               const char *origin) {
  const encoding *e = self;
  return moerun__word_model_encode(e->tokenizer->model, e->out, word, bytes,
                                   origin);
}

/* Text between tokens of the second pass. */
static moerun_status encode_words(encoding *e, const char *text, size_t bytes,
                                  int is_start) {
  const moerun__tokenizer *t = e->tokenizer;
  const moerun__word_sink sink = {.take = take_word, .self = e};
  return moerun__splitter_run(&t->splitter, &t->room->split, &sink, text, bytes,
                              is_start, e->origin);
}

/* Text between tokens of the first pass: those of the second cut it. */
static moerun_status encode_rest(encoding *e, const char *text, size_t bytes,
                                 int is_start) {
  moerun_status status = MOERUN_OK;
  const moerun__tokenizer *t = e->tokenizer;
  const moerun__added_token *token = NULL;
  moerun__added_search s = {0};
  MOERUN_TRY(moerun__normalizer_run(&t->normalizer, &t->room->normal, &s.text,
                                    &s.bytes, text, bytes, e->origin));
  do {
    token = moerun__added_set_next(&t->added, MOERUN_ADDED_NORMALIZED, &s);
    const size_t end = token != NULL ? s.start : s.bytes;
    if (s.from < end) {
      MOERUN_TRY(encode_words(e, s.text + s.from, end - s.from,
                              is_start && s.from == 0));
    }
    if (token != NULL) MOERUN_TRY(moerun__token_list_append(e->out, token->id));
  } while (token != NULL);
done:
  return status;
}

moerun_status moerun__tokenizer_encode(const moerun__tokenizer *t,
                                       moerun__token_list *out,
                                       const char *text, size_t bytes,
                                       const char *origin) {
  moerun_status status = MOERUN_OK;
  encoding e = {.tokenizer = t, .out = out, .origin = origin};
  moerun__added_search s = {.text = text, .bytes = bytes};
  const moerun__added_token *token = NULL;
  MOERUN_REQUIRE(t->refusal == NULL, MOERUN_ERR_UNSUPPORTED, "%s", t->refusal);
  if (t->looks_at_characters) {
    MOERUN_TRY(moerun__expect_utf8(text, bytes, origin));
  }
  do {
    token = moerun__added_set_next(&t->added, MOERUN_ADDED_AS_IS, &s);
    const size_t end = token != NULL ? s.start : s.bytes;
    if (s.from < end) {
      MOERUN_TRY(encode_rest(&e, text + s.from, end - s.from, s.from == 0));
    }
    if (token != NULL) MOERUN_TRY(moerun__token_list_append(out, token->id));
  } while (token != NULL);
done:
  /* A long text has copies there, and a run goes on for hours behind it. */
  if (bytes > ROOM_KEPT) {
    moerun__normal_room_clear(&t->room->normal);
    moerun__split_room_clear(&t->room->split);
  }
  return status;
}

/* ---- Decode -------------------------------------------------------------- */

static const char *find_added(const moerun__added_set *added, int32_t id,
                              size_t *bytes) {
  size_t i = 0;
  while (added->token[i].id != id) {
    i++;
  }
  *bytes = added->token[i].bytes;
  return added->token[i].content;
}

const char *moerun__tokenizer_spelling(const moerun__tokenizer *t, int32_t id,
                                       int keeps_special, size_t *bytes) {
  const moerun__vocabulary *v = &t->vocabulary;
  if (id < 0 || id >= v->size) return NULL;
  const int is_skipped = (t->special[id] & (SKIPPED | SHOWN)) == SKIPPED;
  if (is_skipped && !keeps_special) return NULL;
  return (t->special[id] & RESPELT) != 0
             ? find_added(&t->added, id, bytes)
             : moerun__vocabulary_text(v, id, bytes);
}

int moerun__tokenizer_byte(const moerun__tokenizer *t, int32_t id) {
  size_t bytes = 0;
  const char *spelling = moerun__tokenizer_spelling(t, id, 1, &bytes);
  return spelling == NULL ? -1
                          : moerun__decoder_byte(&t->decoder, spelling, bytes);
}

const moerun__decoder *moerun__tokenizer_decoder(const moerun__tokenizer *t) {
  return &t->decoder;
}

moerun_status moerun__tokenizer_decode(const moerun__tokenizer *t,
                                       moerun__text *out, const int32_t *id,
                                       size_t count, int keeps_special) {
  moerun_status status = MOERUN_OK;
  moerun__decoding decoding = {0};
  MOERUN_TRY(moerun__decoding_begin(&decoding, &t->decoder));
  for (size_t i = 0; i < count; i++) {
    size_t bytes = 0;
    const char *spelling =
        moerun__tokenizer_spelling(t, id[i], keeps_special, &bytes);
    if (spelling == NULL) continue;
    MOERUN_TRY(moerun__decoding_put(&decoding, out, spelling, bytes));
  }
  MOERUN_TRY(moerun__decoding_end(&decoding, out));
done:
  moerun__decoding_clear(&decoding);
  return status;
}

/* ---- What callers ask ---------------------------------------------------- */

const moerun__token_list *moerun__tokenizer_front(const moerun__tokenizer *t) {
  return &t->post.front;
}

const moerun__token_list *moerun__tokenizer_behind(const moerun__tokenizer *t) {
  return &t->post.behind;
}

int32_t moerun__tokenizer_bos(const moerun__tokenizer *t) {
  const moerun__token_list *front = &t->post.front;
  return t->bos_token >= 0  ? t->bos_token
         : front->count > 0 ? front->id[0]
                            : -1;
}

int moerun__tokenizer_add_bos_key(const moerun__tokenizer *t) {
  return t->add_bos_key;
}

uint64_t moerun__tokenizer_digest(const moerun__tokenizer *t) {
  return t->digest;
}

int32_t moerun__tokenizer_size(const moerun__tokenizer *t) {
  return t->vocabulary.size;
}

const char *moerun__tokenizer_text(const moerun__tokenizer *t, int32_t id,
                                   size_t *bytes) {
  return moerun__vocabulary_text(&t->vocabulary, id, bytes);
}
