/* Tokenizers of published families against what the Hugging Face library made
 * of 2,400 texts with them: ids, decodings with and without special tokens, and
 * what is put in front. tests/data/tokenizers/README.md says how the files were
 * made, and how to print the ids of any of these texts.
 *
 * A text that is answered otherwise is printed with the family's name and its
 * number; the ids are printed where the files have those of the library in
 * full. */
#include "support/frozen_texts.h"

enum { MAX_PRINTED = 8 };

/* ---- Families ------------------------------------------------------------ */

static const char *const families[] = {
    "claude2",     "deepseek",     "deepseek_v2_like",
    "gemma_like",  "glm4",         "gpt2",
    "gpt_oss",     "granite_like", "kimi_k2",
    "llama3_like", "llama4_like",  "mixtral_v1",
    "mixtral_v3",  "olmo2",        "olmoe",
    "phi3_like",   "phi4",         "qwen3",
    "qwen36",      "tekken",       "unigram_bytes_like",
    "unigram_like"};

enum { NUM_FAMILIES = sizeof families / sizeof families[0] };

/* ---- What was frozen ----------------------------------------------------- */

typedef struct family {
  const char *name;
  json_t *strings; /* all files' "strings" and "broken" */
  json_t *cases;   /* of this family */
  moerun__tokenizer *tokenizer;
  int differences;
} family;

static void open_family(family *f, const char *name) {
  json_t *tree = frozen_load(name, ".json");
  *f = (family){.name = name};
  f->strings = frozen_load("strings", ".json");
  f->cases = frozen_load(name, ".cases.json");
  f->tokenizer = frozen_parse(tree, name);
  json_decref(tree);
}

static void close_family(family *f) {
  moerun__tokenizer_destroy(f->tokenizer);
  json_decref(f->cases);
  json_decref(f->strings);
}

static const json_t *frozen(const family *f, const char *table, size_t i) {
  char key[24];
  (void)snprintf(key, sizeof key, "%zu", i);
  return json_object_get(json_object_get(f->cases, table), key);
}

/* ---- Comparing ----------------------------------------------------------- */

/* Counts a difference; whether it is to be printed. */
static int begin_difference(family *f, size_t i, const char *what) {
  moerun__text quoted = {0};
  const json_t *string =
      json_array_get(json_object_get(f->strings, "strings"), i);
  if (++f->differences > MAX_PRINTED) return 0;
  assert_int_equal(moerun__text_json(&quoted, json_string_value(string),
                                     json_string_length(string)),
                   MOERUN_OK);
  print_error("%s, text %zu, %.300s: %s\n", f->name, i, quoted.bytes, what);
  moerun__text_clear(&quoted);
  return 1;
}

static void print_ids(const moerun__token_list *ids, const json_t *want) {
  for (size_t k = 0; k < ids->count; k++) {
    const json_t *id = json_array_get(want, k);
    if (want != NULL && json_integer_value(id) != ids->id[k]) {
      print_error("  from id %zu on: found %d, expected %lld\n", k, ids->id[k],
                  id == NULL ? -1LL : (long long)json_integer_value(id));
      return;
    }
    if (want == NULL) print_error(" %d", ids->id[k]);
  }
  print_error(" (%zu ids)\n", ids->count);
}

static void compare_ids(family *f, size_t i, const moerun__token_list *ids) {
  char found[17];
  const json_t *digests = json_object_get(f->cases, "digests");
  (void)snprintf(found, sizeof found, "%016llx",
                 (unsigned long long)frozen_digest(ids));
  if (strncmp(found, frozen_row(digests, i), 16) != 0 &&
      begin_difference(f, i, "other ids")) {
    print_ids(ids, frozen(f, "shown", i));
  }
}

static void compare_decoded(family *f, size_t i, const moerun__token_list *ids,
                            int keeps_special) {
  moerun__text text = {0};
  const char *table = keeps_special ? "decoded_with_special" : "decoded";
  const json_t *want = frozen(f, table, i);
  if (want == NULL) want = frozen(f, "decoded", i);
  if (want == NULL) {
    want = json_array_get(json_object_get(f->strings, "strings"), i);
  }
  frozen_decode(f->tokenizer, &text, ids, keeps_special);
  if ((text.count != json_string_length(want) ||
       (text.count > 0 &&
        memcmp(text.bytes, json_string_value(want), text.count) != 0)) &&
      begin_difference(f, i, table)) {
    frozen_print("  found", text.bytes, text.count);
  }
  moerun__text_clear(&text);
}

static void compare_text(family *f, size_t i, const json_t *string) {
  moerun__token_list ids = {0};
  const moerun_status status =
      moerun__tokenizer_encode(f->tokenizer, &ids, json_string_value(string),
                               json_string_length(string), f->name);
  if (status == MOERUN_OK) {
    compare_ids(f, i, &ids);
    compare_decoded(f, i, &ids, 0);
    compare_decoded(f, i, &ids, 1);
  } else {
    (void)begin_difference(f, i, moerun_last_error());
  }
  moerun__token_list_clear(&ids);
}

static void compare_list(const moerun__token_list *found, const json_t *cases,
                         const char *key) {
  const json_t *want = json_object_get(cases, key);
  assert_int_equal(found->count, json_array_size(want));
  for (size_t k = 0; k < found->count; k++) {
    assert_int_equal(found->id[k], json_integer_value(json_array_get(want, k)));
  }
}

/* ---- Tests --------------------------------------------------------------- */

static void answer_as_the_library(void **state) {
  (void)state;
  int differences = 0;
  for (size_t n = 0; n < NUM_FAMILIES; n++) {
    family f;
    size_t i = 0;
    const json_t *string = NULL;
    open_family(&f, families[n]);
    const json_t *strings = json_object_get(f.strings, "strings");
    assert_true(json_array_size(strings) >= 2000);
    assert_int_equal(json_array_size(json_object_get(f.cases, "digests")),
                     (json_array_size(strings) + 7) / 8);
    compare_list(moerun__tokenizer_front(f.tokenizer), f.cases, "front");
    compare_list(moerun__tokenizer_behind(f.tokenizer), f.cases, "behind");
    json_array_foreach(strings, i, string) {
      compare_text(&f, i, string);
    }
    if (f.differences > 0) {
      print_error("%s: %d differences\n", f.name, f.differences);
    }
    differences += f.differences;
    close_family(&f);
  }
  assert_int_equal(differences, 0);
}

/* Each of them looks at characters. */
static void refuse_broken_utf8(void **state) {
  (void)state;
  for (size_t n = 0; n < NUM_FAMILIES; n++) {
    family f;
    size_t i = 0;
    const json_t *broken = NULL;
    open_family(&f, families[n]);
    json_array_foreach(json_object_get(f.strings, "broken"), i, broken) {
      moerun__token_list ids = {0};
      char bytes[64];
      size_t count = 0;
      const char *hex = json_string_value(broken);
      for (; hex[2 * count] != '\0'; count++) {
        const char two[3] = {hex[2 * count], hex[2 * count + 1], '\0'};
        assert_true(count < sizeof bytes);
        bytes[count] = (char)strtoul(two, NULL, 16);
      }
      if (moerun__tokenizer_encode(f.tokenizer, &ids, bytes, count, "broken") !=
          MOERUN_ERR_FORMAT) {
        print_error("%s, bytes %s: expected to be refused\n", f.name, hex);
        f.differences++;
      }
      moerun__token_list_clear(&ids);
    }
    assert_int_equal(f.differences, 0);
    close_family(&f);
  }
}

/* Any ids, which cut characters, one by one and all at once. Most vocabularies
 * make a text of an id at once: these hold back little. */
static void stream_any_ids(void **state) {
  (void)state;
  enum { LISTS = 40, IDS = 24 };
  uint64_t draw = 20261130;
  print_message("seed %llu\n", (unsigned long long)draw);
  for (size_t n = 0; n < NUM_FAMILIES; n++) {
    family f;
    size_t early = 0;
    size_t all = 0;
    open_family(&f, families[n]);
    for (int list = 0; list < LISTS; list++) {
      moerun__token_list ids = {0};
      moerun__text whole = {0};
      for (int k = 0; k < IDS; k++) {
        draw = draw * 6364136223846793005U + 1442695040888963407U;
        const int32_t below = list % 2 == 0 ? 270 : 1200;
        const int32_t id = (int32_t)((draw >> 33U) % (uint64_t)below);
        assert_int_equal(moerun__token_list_append(&ids, id), MOERUN_OK);
      }
      assert_int_equal(
          moerun__tokenizer_decode(f.tokenizer, &whole, ids.id, ids.count, 0),
          MOERUN_OK);
      early += frozen_check_stream(f.tokenizer, &ids, &whole);
      all += whole.count;
      moerun__text_clear(&whole);
      moerun__token_list_clear(&ids);
    }
    if (early * 2 < all) print_error("%s: %zu of %zu\n", f.name, early, all);
    assert_true(all > 0 && early * 2 >= all);
    close_family(&f);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(answer_as_the_library),
      cmocka_unit_test(refuse_broken_utf8),
      cmocka_unit_test(stream_any_ids),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
