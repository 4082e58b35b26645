/* The texts of tests/data/tokenizers, and tokenizers from JSON trees. */
#ifndef MOERUN_TESTS_FROZEN_TEXTS_H
#define MOERUN_TESTS_FROZEN_TEXTS_H

#include "runtime/text/detokenizer.h"
#include "support/cmocka.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* A file of tests/data/tokenizers, whose strings may have NUL; json_decref by
 * the caller. */
static inline json_t *frozen_load(const char *name, const char *ending) {
  char path[512];
  json_error_t error;
  (void)snprintf(path, sizeof path, "%s/tokenizers/%s%s", MOERUN_TEST_DATA,
                 name, ending);
  json_t *root = json_load_file(path, JSON_ALLOW_NUL, &error);
  if (root == NULL) print_error("%s: %s\n", path, error.text);
  assert_non_null(root);
  return root;
}

static inline moerun__tokenizer *frozen_parse(const json_t *tree,
                                              const char *name) {
  moerun__tokenizer *tokenizer = NULL;
  char *text = json_dumps(tree, JSON_COMPACT);
  assert_non_null(text);
  const moerun_status status =
      moerun__tokenizer_parse(&tokenizer, text, strlen(text), name);
  if (status != MOERUN_OK) print_error("%s\n", moerun_last_error());
  assert_int_equal(status, MOERUN_OK);
  free(text);
  return tokenizer;
}

/* Digest number i of rows of eight, 16 hexadecimal digits each. */
static inline const char *frozen_row(const json_t *digests, size_t i) {
  const json_t *row = json_array_get(digests, i / 8);
  assert_true(json_string_length(row) >= 16 * (i % 8 + 1));
  return json_string_value(row) + 16 * (i % 8);
}

/* Appends bytes as the library does, which gives strings: each maximal part of
 * them that is not UTF-8 is one U+FFFD. */
static inline void frozen_append_lossy(moerun__text *out, const char *bytes,
                                       size_t count) {
  while (count > 0) {
    const int length = moerun__utf8_length(bytes, count);
    const size_t taken = (size_t)(length > 0 ? length : -length);
    assert_int_equal(length > 0 ? moerun__text_append(out, bytes, taken)
                                : moerun__text_append(out, "\xef\xbf\xbd", 3),
                     MOERUN_OK);
    bytes += taken;
    count -= taken;
  }
}

/* Whether a character, or what is to be mended as one, ends at `at`. */
static inline int frozen_is_end(const moerun__text *text, size_t at) {
  size_t end = 0;
  while (end < at) {
    const int length =
        moerun__utf8_length(text->bytes + end, text->count - end);
    end += (size_t)(length > 0 ? length : -length);
  }
  return end == at;
}

/* Checks that the ids one by one give `whole`, a piece at a time: each as if
 * the text ended with it, too, wherever a copy is asked. Returns the bytes that
 * came before the end. */
static inline size_t frozen_check_stream(const moerun__tokenizer *tokenizer,
                                         const moerun__token_list *ids,
                                         const moerun__text *whole) {
  moerun__detokenizer stream = {0};
  moerun__detokenizer ended = {0};
  moerun__text joined = {0};
  moerun__text part = {0};
  moerun__text so_far = {0};
  assert_int_equal(moerun__detokenizer_begin(&stream, tokenizer), MOERUN_OK);
  for (size_t k = 0; k < ids->count; k++) {
    assert_int_equal(moerun__detokenizer_put(&stream, &joined, ids->id[k]),
                     MOERUN_OK);
    assert_true(joined.count <= whole->count);
    assert_true(frozen_is_end(whole, joined.count));
    if (k % 5 != 2) continue;
    part.count = 0;
    so_far.count = 0;
    assert_int_equal(moerun__text_append(&part, joined.bytes, joined.count),
                     MOERUN_OK);
    assert_int_equal(moerun__detokenizer_copy(&ended, &stream), MOERUN_OK);
    assert_int_equal(moerun__detokenizer_end(&ended, &part), MOERUN_OK);
    assert_int_equal(
        moerun__tokenizer_decode(tokenizer, &so_far, ids->id, k + 1, 0),
        MOERUN_OK);
    assert_int_equal(part.count, so_far.count);
    if (part.count > 0) {
      assert_memory_equal(part.bytes, so_far.bytes, part.count);
    }
  }
  const size_t before = joined.count;
  assert_int_equal(moerun__detokenizer_end(&stream, &joined), MOERUN_OK);
  assert_int_equal(joined.count, whole->count);
  if (whole->count > 0) {
    assert_memory_equal(joined.bytes, whole->bytes, whole->count);
  }
  moerun__detokenizer_clear(&stream);
  moerun__detokenizer_clear(&ended);
  moerun__text_clear(&joined);
  moerun__text_clear(&part);
  moerun__text_clear(&so_far);
  return before;
}

/* Decodes ids and appends what the library would give. */
static inline void frozen_decode(const moerun__tokenizer *tokenizer,
                                 moerun__text *out,
                                 const moerun__token_list *ids,
                                 int keeps_special) {
  moerun__text bytes = {0};
  assert_int_equal(moerun__tokenizer_decode(tokenizer, &bytes, ids->id,
                                            ids->count, keeps_special),
                   MOERUN_OK);
  if (!keeps_special) (void)frozen_check_stream(tokenizer, ids, &bytes);
  frozen_append_lossy(out, bytes.bytes, bytes.count);
  moerun__text_clear(&bytes);
}

/* XXH3 of the ids as little-endian numbers of 32 bits. */
static inline uint64_t frozen_digest(const moerun__token_list *ids) {
  moerun__text bytes = {0};
  for (size_t k = 0; k < ids->count; k++) {
    const uint32_t id = (uint32_t)ids->id[k];
    const char le[4] = {(char)(id & 255U), (char)(id >> 8U & 255U),
                        (char)(id >> 16U & 255U), (char)(id >> 24U)};
    assert_int_equal(moerun__text_append(&bytes, le, sizeof le), MOERUN_OK);
  }
  const uint64_t result = XXH3_64bits(bytes.bytes, bytes.count);
  moerun__text_clear(&bytes);
  return result;
}

/* As a JSON string, cut where it is long. */
static inline void frozen_print(const char *what, const char *bytes,
                                size_t count) {
  moerun__text quoted = {0};
  assert_int_equal(moerun__text_json(&quoted, bytes, count), MOERUN_OK);
  print_error("%s %.300s\n", what, quoted.bytes);
  moerun__text_clear(&quoted);
}

#endif
