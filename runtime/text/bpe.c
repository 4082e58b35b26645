/* Byte-pair encoding of a word: its characters, or in byte-level vocabularies
 * its bytes, each a token to begin with, and the merges (merges.c). Where
 * `ignore_merges` is set, a word that is a token as a whole is that token.
 *
 * SentencePiece's vocabularies spell a blank as U+2581 and give a character
 * without a token the tokens of its bytes, <0x00> to <0xFF>, or the unknown
 * token. They see a text as one word. As a rule none of their merges joins
 * anything to a blank behind it; where that is so, the text is cut in front of
 * such blanks, which changes no id and leaves short words to be merged. */
#include "runtime/text/word_model.h"

#include "runtime/base/json.h"
#include "runtime/base/memory.h"
#include "runtime/base/number.h"
#include "runtime/text/byte_alphabet.h"
#include "runtime/text/merges.h"
#include "runtime/text/unicode.h"

#include <string.h>

static const char blank[] = "\xE2\x96\x81"; /* U+2581 */
enum { BLANK = sizeof blank - 1 };

typedef struct bpe {
  const moerun__vocabulary *vocabulary;
  moerun__merges *merges;
  moerun__byte_alphabet alphabet;
  int32_t short_token[256]; /* of a byte, or of a character of ASCII; or -1 */
  int32_t byte_token[256];  /* <0x00> to <0xFF>; -1: there is none */
  int32_t unknown;          /* -1: none */
  int is_bytewise;
  int falls_back;
  int fuses_unknown;
  int ignores_merges;
  int cuts_blanks; /* no merge joins anything but blanks to a blank behind it */
  moerun__text spelling;
} bpe;

static void destroy(void *model) {
  bpe *b = model;
  if (b == NULL) return;
  moerun__merges_destroy(b->merges);
  moerun__text_clear(&b->spelling);
  moerun__free(b);
}

/* ---- Merges -------------------------------------------------------------- */

static moerun_status look_up(int32_t *id, const bpe *b, const char *token,
                             size_t bytes, size_t i, const char *where) {
  moerun_status status = MOERUN_OK;
  *id = moerun__vocabulary_find(b->vocabulary, token, bytes);
  MOERUN_REQUIRE(*id >= 0, MOERUN_ERR_FORMAT,
                 "%s: merge %zu: token \"%.*s\" is not in the vocabulary",
                 where, i, (int)(bytes < 200 ? bytes : 200), token);
done:
  return status;
}

static int begins_blank(const char *text, size_t bytes) {
  return bytes >= BLANK && memcmp(text, blank, BLANK) == 0;
}

static moerun_status read_merges(bpe *b, const json_t *json,
                                 const moerun__token_file *file,
                                 const char *where) {
  moerun_status status = MOERUN_OK;
  moerun__merge *merge = NULL;
  json_t *merges = NULL; /* an empty array: the file has what was in it */
  MOERUN_TRY(moerun__json_array(&merges, json, "merges", where));
  MOERUN_TRY(moerun__alloc(&merge, file->num_merges, sizeof *merge));
  for (size_t i = 0; i < file->num_merges; i++) {
    moerun__merge *m = &merge[i];
    const char *text = file->pool + file->merge[i].start;
    const size_t left = file->merge[i].left_bytes;
    const size_t bytes = file->merge[i].bytes;
    MOERUN_TRY(look_up(&m->left, b, text, left, i, where));
    MOERUN_TRY(look_up(&m->right, b, text + left, bytes - left, i, where));
    MOERUN_TRY(look_up(&m->joined, b, text, bytes, i, where));
    if (begins_blank(text + left, bytes - left) &&
        !(left >= BLANK && begins_blank(text + left - BLANK, BLANK))) {
      b->cuts_blanks = 0;
    }
  }
  MOERUN_TRY(moerun__merges_create(&b->merges, merge, file->num_merges));
done:
  moerun__free(merge);
  return status;
}

/* ---- The model's members ------------------------------------------------- */

static moerun_status expect_none(const json_t *json, const char *key,
                                 const char *where) {
  moerun_status status = MOERUN_OK;
  const json_t *value = json_object_get(json, key);
  const int is_none =
      value == NULL || json_is_null(value) ||
      (json_is_string(value) && json_string_length(value) == 0) ||
      (json_is_number(value) && json_number_value(value) == 0);
  MOERUN_REQUIRE(is_none, MOERUN_ERR_UNSUPPORTED,
                 "%s: \"%s\": expected null, found %s, which is not supported: "
                 "give token ids instead of text",
                 where, key, moerun__json_kind(value));
done:
  return status;
}

static moerun_status read_unknown(bpe *b, const json_t *json,
                                  const char *where) {
  moerun_status status = MOERUN_OK;
  const char *text = NULL;
  b->unknown = -1;
  MOERUN_TRY(moerun__json_text(&text, json, "unk_token", 0, where));
  if (text == NULL) goto done;
  b->unknown = moerun__vocabulary_find(b->vocabulary, text, strlen(text));
done:
  return status;
}

/* Tokens of single bytes. */
static void find_short(bpe *b) {
  moerun__byte_alphabet_fill(&b->alphabet);
  for (int i = 0; i < 256; i++) {
    const char self = (char)i;
    char code[MOERUN_BYTE_CODE + 1];
    moerun__byte_code(code, (unsigned)i);
    b->byte_token[i] =
        moerun__vocabulary_find(b->vocabulary, code, MOERUN_BYTE_CODE);
    b->short_token[i] =
        b->is_bytewise
            ? moerun__vocabulary_find(b->vocabulary, b->alphabet.spelling[i],
                                      b->alphabet.length[i])
            : moerun__vocabulary_find(b->vocabulary, &self, 1);
  }
}

static moerun_status read(void **out, const moerun__model_source *source) {
  moerun_status status = MOERUN_OK;
  const json_t *json = source->json;
  const char *where = source->where;
  const int no = 0;
  bpe *b = NULL;
  *out = NULL;
  MOERUN_TRY(expect_none(json, "dropout", where));
  MOERUN_TRY(expect_none(json, "continuing_subword_prefix", where));
  MOERUN_TRY(expect_none(json, "end_of_word_suffix", where));
  MOERUN_TRY(moerun__alloc(&b, 1, sizeof *b));
  b->vocabulary = source->vocabulary;
  b->is_bytewise = source->is_bytewise;
  MOERUN_TRY(
      moerun__json_bool(&b->falls_back, json, "byte_fallback", &no, where));
  MOERUN_TRY(
      moerun__json_bool(&b->fuses_unknown, json, "fuse_unk", &no, where));
  MOERUN_TRY(
      moerun__json_bool(&b->ignores_merges, json, "ignore_merges", &no, where));
  MOERUN_TRY(read_unknown(b, json, where));
  find_short(b);
  b->cuts_blanks = !b->is_bytewise && !b->ignores_merges &&
                   moerun__vocabulary_find(b->vocabulary, blank, BLANK) >= 0;
  MOERUN_TRY(read_merges(b, json, source->file, where));
  *out = b;
  b = NULL;
done:
  destroy(b);
  return status;
}

/* ---- Words --------------------------------------------------------------- */

/* The token of a whole word, -1: none. */
static moerun_status find_whole(bpe *b, int32_t *id, const char *word,
                                size_t bytes) {
  moerun_status status = MOERUN_OK;
  moerun__text *s = &b->spelling;
  if (!b->is_bytewise) {
    *id = moerun__vocabulary_find(b->vocabulary, word, bytes);
    goto done;
  }
  s->count = 0;
  for (size_t i = 0; i < bytes; i++) {
    const unsigned byte = (unsigned char)word[i];
    MOERUN_TRY(moerun__text_append(s, b->alphabet.spelling[byte],
                                   b->alphabet.length[byte]));
  }
  *id = moerun__vocabulary_find(b->vocabulary, s->bytes, s->count);
done:
  return status;
}

/* A character without a token: those of its bytes or the unknown one, which
 * waits in *unknown for others to be fused with it. */
static moerun_status put_missing(const bpe *b, moerun__token_list *out,
                                 int *has_unknown, const char *text,
                                 size_t bytes, const char *origin) {
  moerun_status status = MOERUN_OK;
  int is_spelt = b->falls_back;
  for (size_t i = 0; i < bytes; i++) {
    is_spelt = is_spelt && b->byte_token[(unsigned char)text[i]] >= 0;
  }
  for (size_t i = 0; is_spelt && i < bytes; i++) {
    out->id[out->count++] = b->byte_token[(unsigned char)text[i]];
  }
  if (is_spelt) goto done;
  MOERUN_REQUIRE(b->unknown >= 0, MOERUN_ERR_FORMAT,
                 "%s: the tokenizer has no token for byte 0x%02x of the text",
                 origin, (unsigned)(unsigned char)*text);
  if (*has_unknown && !b->fuses_unknown) out->id[out->count++] = b->unknown;
  *has_unknown = 1;
done:
  return status;
}

static moerun_status encode(void *model, moerun__token_list *out,
                            const char *word, size_t bytes,
                            const char *origin) {
  moerun_status status = MOERUN_OK;
  bpe *b = model;
  const size_t before = out->count;
  int has_unknown = 0;
  size_t length = 1;
  int32_t id = -1;
  MOERUN_REQUIRE(bytes < INT32_MAX / 4, MOERUN_ERR_INVALID,
                 "%s: a text of %zu bytes is too long to be tokenized: "
                 "expected at most %d",
                 origin, bytes, INT32_MAX / 4);
  if (b->ignores_merges) MOERUN_TRY(find_whole(b, &id, word, bytes));
  /* One more than bytes, for the unknown token that waits. */
  MOERUN_TRY(moerun__token_list_reserve(out, bytes + 1));
  if (id >= 0) {
    out->id[out->count++] = id;
    goto done;
  }
  for (size_t at = 0; at < bytes; at += length) {
    length = b->is_bytewise ? 1 : (size_t)moerun__character_bytes(word[at]);
    id = length == 1
             ? b->short_token[(unsigned char)word[at]]
             : moerun__vocabulary_find(b->vocabulary, word + at, length);
    if (id < 0) {
      status = put_missing(b, out, &has_unknown, word + at, length, origin);
      if (status != MOERUN_OK) break;
      continue;
    }
    if (has_unknown) out->id[out->count++] = b->unknown;
    has_unknown = 0;
    out->id[out->count++] = id;
  }
  if (status != MOERUN_OK) {
    out->count = before;
    goto done;
  }
  if (has_unknown) out->id[out->count++] = b->unknown;
  int32_t count = moerun__to_int((int64_t)(out->count - before));
  MOERUN_TRY(moerun__merges_apply(b->merges, out->id + before, &count));
  out->count = before + (size_t)count;
done:
  return status;
}

/* Up to the first blank behind something else. */
static size_t part(const void *model, const char *word, size_t bytes) {
  const bpe *b = model;
  size_t at = 0;
  if (!b->cuts_blanks) return bytes;
  while (begins_blank(word + at, bytes - at)) {
    at += BLANK;
  }
  while (at < bytes) {
    const char *next = memchr(word + at, blank[0], bytes - at);
    if (next == NULL) return bytes;
    at = (size_t)(next - word);
    if (at > 0 && begins_blank(next, bytes - at)) return at;
    at++;
  }
  return bytes;
}

const moerun__model_kind moerun__bpe_kind = {.type = "BPE",
                                             .read = read,
                                             .encode = encode,
                                             .part = part,
                                             .destroy = destroy};
