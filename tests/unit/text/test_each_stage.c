/* Single stages of a tokenizer.json, and flags of added tokens, each in a
 * tokenizer of its own over one of four small models, against what the Hugging
 * Face library makes of 300 texts with it:
 * tests/data/tokenizers/make_each_stage.py. That program prints the library's
 * answer to a text:
 *
 *   venv/bin/python make_each_stage.py NAME TEXT */
#include "support/frozen_texts.h"

enum { EACH = 8, MAX_PRINTED = 4 };

/* The tokenizer.json of an entry. */
static json_t *tree_of(const json_t *root, const json_t *entry) {
  static const char *const stages[] = {"added_tokens", "normalizer",
                                       "pre_tokenizer", "post_processor",
                                       "decoder"};
  json_t *tree = json_object();
  const char *model = json_string_value(json_object_get(entry, "model"));
  assert_int_equal(
      json_object_set(tree, "model",
                      json_object_get(json_object_get(root, "models"), model)),
      0);
  for (size_t i = 0; i < sizeof stages / sizeof stages[0]; i++) {
    json_t *stage = json_object_get(entry, stages[i]);
    assert_int_equal(
        json_object_set(tree, stages[i], stage == NULL ? json_null() : stage),
        0);
  }
  return tree;
}

static uint32_t low(uint64_t digest) {
  return (uint32_t)(digest & 0xffffffffU);
}

/* Whether a text is answered as the library does. */
static int is_same(const moerun__tokenizer *tokenizer, const char *name,
                   const json_t *string, size_t text, const char *want,
                   int is_printed) {
  moerun__token_list ids = {0};
  moerun__text decoded = {0};
  char found[17] = "";
  const moerun_status status =
      moerun__tokenizer_encode(tokenizer, &ids, json_string_value(string),
                               json_string_length(string), name);
  frozen_decode(tokenizer, &decoded, &ids, 0);
  assert_int_equal(moerun__text_append(&decoded, "", 1), MOERUN_OK);
  const size_t hidden = decoded.count;
  frozen_decode(tokenizer, &decoded, &ids, 1);
  (void)snprintf(found, sizeof found, "%08x%08x", low(frozen_digest(&ids)),
                 low(XXH3_64bits(decoded.bytes, decoded.count)));
  const int same = status == MOERUN_OK && strncmp(found, want, 16) == 0;
  if (!same && is_printed) {
    print_error("%s, text %zu: other %s\n", name, text,
                strncmp(found, want, 8) == 0 ? "decodings" : "ids");
    frozen_print("  text", json_string_value(string),
                 json_string_length(string));
    if (status != MOERUN_OK) print_error("  %s\n", moerun_last_error());
    for (size_t k = 0; k < ids.count && k < 64; k++) {
      print_error(" %d", ids.id[k]);
    }
    print_error("\n");
    frozen_print("  decoded", decoded.bytes, hidden - 1);
    frozen_print("  with special tokens", decoded.bytes + hidden,
                 decoded.count - hidden);
  }
  moerun__text_clear(&decoded);
  moerun__token_list_clear(&ids);
  return same;
}

static int count_differences(const moerun__tokenizer *tokenizer,
                             const char *name, const json_t *entry,
                             const json_t *strings) {
  const json_t *digests = json_object_get(entry, "digests");
  const size_t count = (json_array_size(strings) + EACH - 1) / EACH;
  int differences = 0;
  assert_int_equal(json_array_size(digests), (count + 7) / 8);
  for (size_t i = 0; i < count; i++) {
    if (!is_same(tokenizer, name, json_array_get(strings, i * EACH), i * EACH,
                 frozen_row(digests, i), differences < MAX_PRINTED)) {
      differences++;
    }
  }
  if (differences > 0) print_error("%s: %d differ\n", name, differences);
  return differences;
}

static void do_as_the_library(void **state) {
  (void)state;
  json_t *root = frozen_load("each_stage", ".json");
  json_t *texts = frozen_load("strings", ".json");
  const json_t *strings = json_object_get(texts, "strings");
  const json_t *entries = json_object_get(root, "tokenizers");
  size_t n = 0;
  const json_t *entry = NULL;
  int differences = 0;
  assert_true(json_array_size(entries) >= 100);
  json_array_foreach(entries, n, entry) {
    json_t *tree = tree_of(root, entry);
    const char *name = json_string_value(json_object_get(entry, "name"));
    moerun__tokenizer *tokenizer = frozen_parse(tree, name);
    differences += count_differences(tokenizer, name, entry, strings);
    moerun__tokenizer_destroy(tokenizer);
    json_decref(tree);
  }
  json_decref(texts);
  json_decref(root);
  assert_int_equal(differences, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(do_as_the_library),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
