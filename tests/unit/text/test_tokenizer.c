/* Tokenizer: the demo model's bytes, frozen answers of the Hugging Face
 * library, merging against the obvious loop, and hostile files. */
#include "runtime/base/file.h"
#include "runtime/base/json.h"
#include "runtime/base/memory.h"
#include "runtime/base/rng.h"
#include "runtime/text/merges.h"
#include "runtime/text/tokenizer.h"
#include "support/cmocka.h"
#include "support/temp_dir.h"

#include <stdio.h>
#include <string.h>

static const char folder[] = MOERUN_TEST_DATA "/tokenizer";
static const char demo_model[] = MOERUN_TEST_DATA "/../../launch/demo/model";

static void demo_tokens_are_bytes(void **state) {
  (void)state;
  moerun__tokenizer *t = NULL;
  moerun__token_list ids = {0};
  moerun__text text = {0};
  size_t bytes = 0;
  char all[256];
  for (int b = 0; b < 256; b++) {
    all[b] = (char)b;
  }
  assert_int_equal(moerun__tokenizer_load(&t, demo_model), MOERUN_OK);
  assert_non_null(moerun__tokenizer_text(t, 257, &bytes));
  assert_null(moerun__tokenizer_text(t, 258, &bytes));
  assert_int_equal(moerun__tokenizer_front(t)->count, 0);
  assert_int_equal(moerun__tokenizer_bos(t), -1);
  assert_int_equal(moerun__tokenizer_add_bos_key(t), -1);
  assert_int_equal(moerun__tokenizer_encode(t, &ids, all, sizeof all, "x"),
                   MOERUN_OK);
  assert_int_equal(ids.count, 256);
  for (int b = 0; b < 256; b++) {
    assert_int_equal(ids.id[b], b);
  }
  /* <bos>, <eos> and the padding of the vocabulary have no bytes. */
  assert_int_equal(moerun__token_list_append(&ids, 256), MOERUN_OK);
  assert_int_equal(moerun__token_list_append(&ids, 257), MOERUN_OK);
  assert_int_equal(moerun__token_list_append(&ids, 271), MOERUN_OK);
  assert_int_equal(moerun__tokenizer_decode(t, &text, ids.id, ids.count, 0),
                   MOERUN_OK);
  assert_int_equal(text.count, 256);
  assert_memory_equal(text.bytes, all, 256);
  moerun__text_clear(&text);
  moerun__token_list_clear(&ids);
  moerun__tokenizer_destroy(t);
}

/* The integers of a JSON array as bytes in `text`. */
static void bytes_of(moerun__text *text, const json_t *array) {
  text->count = 0;
  assert_int_equal(moerun__text_append(text, "", 0), MOERUN_OK);
  for (size_t i = 0; i < json_array_size(array); i++) {
    const char c = (char)json_integer_value(json_array_get(array, i));
    assert_int_equal(moerun__text_append(text, &c, 1), MOERUN_OK);
  }
}

static void agrees_with_the_library(void **state) {
  (void)state;
  moerun__tokenizer *t = NULL;
  moerun__token_list ids = {0};
  moerun__text text = {0};
  moerun__text decoded = {0};
  json_t *root = NULL;
  json_t *cases = NULL;
  json_t *one = NULL;
  size_t i = 0;
  assert_int_equal(moerun__tokenizer_load(&t, folder), MOERUN_OK);
  assert_int_equal(moerun__json_load(&root,
                                     MOERUN_TEST_DATA "/tokenizer/cases.json",
                                     1U << 20),
                   MOERUN_OK);
  assert_int_equal(moerun__json_array(&cases, root, "cases", "cases.json"),
                   MOERUN_OK);
  assert_true(json_array_size(cases) >= 14);
  json_array_foreach(cases, i, one) {
    const json_t *want = json_object_get(one, "ids");
    bytes_of(&text, json_object_get(one, "bytes"));
    ids.count = 0;
    assert_int_equal(
        moerun__tokenizer_encode(t, &ids, text.bytes, text.count, "x"),
        MOERUN_OK);
    assert_int_equal(ids.count, json_array_size(want));
    for (size_t k = 0; k < ids.count; k++) {
      assert_int_equal(ids.id[k], json_integer_value(json_array_get(want, k)));
    }
    bytes_of(&text, json_object_get(one, "decoded"));
    decoded.count = 0;
    assert_int_equal(
        moerun__tokenizer_decode(t, &decoded, ids.id, ids.count, 0), MOERUN_OK);
    assert_int_equal(decoded.count, text.count);
    if (text.count > 0) {
      assert_memory_equal(decoded.bytes, text.bytes, text.count);
    }
  }
  json_decref(root);
  moerun__text_clear(&text);
  moerun__text_clear(&decoded);
  moerun__token_list_clear(&ids);
  moerun__tokenizer_destroy(t);
}

/* The definition: look for the best pair again after each merge. */
static size_t merge_slowly(int32_t *id, size_t count,
                           const moerun__merge *merge, size_t num_merges) {
  for (;;) {
    size_t best_rank = num_merges;
    size_t best_at = 0;
    for (size_t i = 0; i + 1 < count; i++) {
      for (size_t r = 0; r < best_rank; r++) {
        if (merge[r].left == id[i] && merge[r].right == id[i + 1]) {
          best_rank = r;
          best_at = i;
        }
      }
    }
    if (best_rank == num_merges) return count;
    id[best_at] = merge[best_rank].joined;
    memmove(id + best_at + 1, id + best_at + 2,
            (count - best_at - 2) * sizeof *id);
    count--;
  }
}

enum { SEED = 20240, LETTERS = 3, MERGES = 40, LENGTH = 120 };

static uint32_t draw(uint64_t counter, uint32_t below) {
  uint32_t r[4];
  moerun__philox(r, SEED, 0, counter);
  return r[0] % below;
}

/* One random set of merges (each joins tokens known by then, to a token of its
 * own) and one random text. */
static void check_random_merges(uint64_t *counter) {
  moerun__merge merge[MERGES];
  size_t count = 0;
  while (count < MERGES) {
    const uint32_t known = LETTERS + (uint32_t)count;
    moerun__merge m = {.left = (int32_t)draw((*counter)++, known),
                       .right = (int32_t)draw((*counter)++, known),
                       .joined = (int32_t)known};
    int fresh = 1;
    for (size_t i = 0; i < count; i++) {
      if (merge[i].left == m.left && merge[i].right == m.right) fresh = 0;
    }
    if (fresh) merge[count++] = m;
  }
  /* Rank and depth are independent in a hostile file: shuffle. */
  for (size_t i = MERGES - 1; i > 0; i--) {
    const size_t j = draw((*counter)++, (uint32_t)i + 1);
    const moerun__merge m = merge[i];
    merge[i] = merge[j];
    merge[j] = m;
  }
  int32_t id[LENGTH];
  int32_t want[LENGTH];
  /* Short lists and long ones are joined in two ways. */
  int32_t length = 1 + (int32_t)draw((*counter)++, LENGTH);
  for (int32_t i = 0; i < length; i++) {
    id[i] = (int32_t)draw((*counter)++, LETTERS);
    want[i] = id[i];
  }
  moerun__merges *merges = NULL;
  assert_int_equal(moerun__merges_create(&merges, merge, MERGES), MOERUN_OK);
  const size_t left = merge_slowly(want, (size_t)length, merge, MERGES);
  assert_int_equal(moerun__merges_apply(merges, id, &length), MOERUN_OK);
  assert_int_equal(length, left);
  assert_memory_equal(id, want, left * sizeof *want);
  moerun__merges_destroy(merges);
}

static void merges_like_the_definition(void **state) {
  (void)state;
  uint64_t counter = 0;
  print_message("seed %d\n", SEED);
  for (int i = 0; i < 400; i++) {
    check_random_merges(&counter);
  }
}

/* ---- Hostile files ------------------------------------------------------- */

#define HEAD                                                                   \
  "{\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"ByteLevel\","            \
  "\"add_prefix_space\":false,\"use_regex\":false},"
#define TAIL "\"decoder\":{\"type\":\"ByteLevel\"},"
#define MODEL(vocab, merges)                                                   \
  "\"model\":{\"type\":\"BPE\",\"vocab\":" vocab ",\"merges\":" merges "}}"
#define ABC         "{\"a\":0,\"b\":1,\"ab\":2}"
#define ADDED(list) "\"added_tokens\":" list ","
#define TEXT        "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}"
#define BOS         "{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}}"
#define STEP(pieces)                                                           \
  "{\"type\":\"TemplateProcessing\",\"single\":[" pieces "],\"pair\":[],"      \
  "\"special_tokens\":{\"<s>\":{\"id\":\"<s>\",\"ids\":[2],\"tokens\":"        \
  "[\"<s>\"]}}}"
#define TEMPLATE(pieces) "\"post_processor\":" STEP(pieces) ","

typedef struct hostile {
  const char *text;
  const char *message; /* NULL: accepted */
} hostile;

static const hostile hostile_files[] = {
    {HEAD TAIL MODEL(ABC, "[\"a b\"]"), NULL},
    {HEAD TAIL MODEL(ABC, "[[\"a\",\"b\"]]"), NULL},
    {"{\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[]},"
     "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
     "\"use_regex\":false}," TAIL MODEL(ABC, "[]"),
     NULL},
    {HEAD TAIL ADDED("[{\"id\":3,\"content\":\"<x>\",\"normalized\":true},"
                     "{\"id\":4,\"content\":\"<x>\",\"normalized\":false}]")
         MODEL(ABC, "[]"),
     "t: added tokens 4 and 3 have the same content"},
    {"[]", "t: expected a JSON object, found an array"},
    {"{\"a\":1,\"a\":2}",
     "t: line 1, column 10: not valid JSON: duplicate object key near '\"a\"'"},
    {"{\"normalizer\":{\"type\":\"Precompiled\"}," MODEL(ABC, "[]"),
     "t: normalizer of type \"Precompiled\" is not supported: give token ids "
     "instead of text"},
    {"{\"truncation\":5," MODEL(ABC, "[]"),
     "t: \"truncation\": expected null, found an integer, which is not "
     "supported: give token ids instead of text"},
    {"{\"pre_tokenizer\":{\"type\":\"UnicodeScripts\"}," MODEL(ABC, "[]"),
     "t: pre_tokenizer of type \"UnicodeScripts\" is not supported: give token "
     "ids instead of text"},
    {"{\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":["
     "{\"type\":\"ByteLevel\"},{\"type\":\"Digits\"}]}," MODEL(ABC, "[]"),
     "t: pre_tokenizer of type \"Digits\" behind one of type \"ByteLevel\" is "
     "not supported: give token ids instead of text"},
    {HEAD "\"post_processor\":{\"type\":\"Other\"}," MODEL(ABC, "[]"),
     "t: post_processor of type \"Other\" is not supported: give token ids "
     "instead of text"},
    {HEAD TEMPLATE("") TAIL MODEL(ABC, "[]"),
     "t: post_processor: expected a template with the text, found none: give "
     "token ids instead of text"},
    {HEAD TEMPLATE("{\"Sequence\":{\"id\":\"B\"}}") TAIL MODEL(ABC, "[]"),
     "t: post_processor: expected a template of one text and special tokens, "
     "found another piece 0: give token ids instead of text"},
    {HEAD TEMPLATE("{\"SpecialToken\":{\"id\":\"<x>\"}}," TEXT)
         TAIL MODEL(ABC, "[]"),
     "t: post_processor: special token \"<x>\": expected a token id, found "
     "none"},
    {HEAD TEMPLATE(BOS "," TEXT) TAIL MODEL("{\"a\":0}", "[]"),
     "t: post_processor: expected the id of a token in front, found 2"},
    {HEAD TEMPLATE(TEXT) TAIL MODEL(ABC, "[]"), NULL},
    {HEAD "\"decoder\":{\"type\":\"CTC\"}," MODEL(ABC, "[]"),
     "t: decoder of type \"CTC\" is not supported"},
    {HEAD "\"model\":{}}",
     "t: key \"vocab\": expected an object, found nothing"},
    {HEAD TAIL "\"model\":{\"type\":\"WordLevel\",\"vocab\":{\"a\":0}}}",
     "t: model of type \"WordLevel\" is not supported: give token ids instead "
     "of text"},
    {HEAD TAIL "\"model\":{\"type\":\"BPE\",\"dropout\":0.1,\"vocab\":" ABC
               "}}",
     "t: model: \"dropout\": expected null, found a real number, which is not "
     "supported: give token ids instead of text"},
    {HEAD TAIL MODEL("{}", "[]"), "t: expected at least one token, found none"},
    {HEAD TAIL MODEL("{\"a\":\"x\"}", "[]"),
     "t: model: token \"a\": expected an integer id, found a string"},
    {HEAD TAIL MODEL("{\"a\":-1}", "[]"),
     "t: token \"a\": expected an id of 0 to 4194303, found -1"},
    {HEAD TAIL MODEL("{\"a\":4194304}", "[]"),
     "t: token \"a\": expected an id of 0 to 4194303, found 4194304"},
    {HEAD TAIL MODEL("{\"a\":0,\"b\":0}", "[]"),
     "t: token \"b\": id 0 belongs to another token too"},
    {HEAD TAIL MODEL("{\"a\":0,\"a\":1}", "[]"),
     "t: token \"a\" has the ids 0 and 1"},
    {HEAD TAIL MODEL("[[\"a\",0]]", "[]"), NULL},
    {HEAD TAIL MODEL("[[\"a\",\"b\"]]", "[]"),
     "t: model: token \"a\": expected a score, found a string"},
    {HEAD TAIL MODEL("{\"\\u0061\":0,\"\\ud83d\\ude00\":1}", "[]"), NULL},
    {HEAD TAIL MODEL("{\"\\ud83d\":0}", "[]"),
     "t: line 1, column 169: not valid JSON: invalid Unicode '\\uD83D' near "
     "'\"\\ud83d\"'"},
    {HEAD TAIL MODEL(ABC, "{}"),
     "t: model: key \"merges\": expected an array, found an object"},
    {HEAD TAIL MODEL(ABC, "[7]"),
     "t: model: merge 0: expected \"a b\" or [\"a\", \"b\"], found a number"},
    {HEAD TAIL MODEL(ABC, "[\"a b\",\"ab\"]"),
     "t: model: merge 1: expected \"a b\" or [\"a\", \"b\"], found a string"},
    {HEAD TAIL MODEL(ABC, "[\"a c\"]"),
     "t: model: merge 0: token \"c\" is not in the vocabulary"},
    {HEAD TAIL MODEL(ABC, "[\"b a\"]"),
     "t: model: merge 0: token \"ba\" is not in the vocabulary"},
    {HEAD TAIL ADDED("5") MODEL(ABC, "[]"),
     "t: key \"added_tokens\": expected an array, found an integer"},
    {HEAD TAIL ADDED("[{\"id\":3}]") MODEL(ABC, "[]"),
     "t: key \"content\": expected a string, found nothing"},
    {HEAD TAIL ADDED("[{\"id\":3,\"content\":\"\"}]") MODEL(ABC, "[]"),
     "t: added token 3: expected a content, found nothing"},
    {HEAD TAIL ADDED("[{\"id\":2,\"content\":\"<x>\"}]") MODEL(ABC, "[]"),
     "t: added token \"<x>\": its id 2 does not agree with the vocabulary or "
     "another added token"},
    {HEAD TAIL ADDED("[{\"id\":3,\"content\":\"<x>\"},"
                     "{\"id\":4,\"content\":\"<x>\"}]") MODEL(ABC, "[]"),
     "t: added tokens 3 and 4 have the same content"},
};

static void hostile_files_are_named(void **state) {
  (void)state;
  const size_t live = moerun__alloc_live();
  for (size_t i = 0; i < sizeof hostile_files / sizeof *hostile_files; i++) {
    const hostile *h = &hostile_files[i];
    moerun__tokenizer *t = NULL;
    moerun__token_list ids = {0};
    moerun_status status =
        moerun__tokenizer_parse(&t, h->text, strlen(h->text), "t");
    if (status == MOERUN_OK && h->message != NULL) {
      status = moerun__tokenizer_encode(t, &ids, "a", 1, "x");
      assert_int_equal(status, MOERUN_ERR_UNSUPPORTED);
      moerun__tokenizer_destroy(t);
      t = NULL;
    }
    if (h->message == NULL) {
      assert_int_equal(status, MOERUN_OK);
      assert_non_null(t);
    } else {
      assert_true(status == MOERUN_ERR_FORMAT ||
                  status == MOERUN_ERR_UNSUPPORTED);
      assert_null(t);
      assert_string_equal(moerun_last_error(), h->message);
    }
    moerun__tokenizer_destroy(t);
  }
  assert_int_equal(moerun__alloc_live(), live);
  moerun__tokenizer *t = NULL;
  assert_int_equal(moerun__tokenizer_load(&t, "nowhere"), MOERUN_ERR_IO);
  assert_string_equal(moerun_last_error(),
                      "nowhere/tokenizer.json: cannot be opened: no such "
                      "file or directory");
}

/* What stands in front of a text, by the post-processor alone. */
static void templates_put_a_token_in_front(void **state) {
  (void)state;
  static const struct {
    const char *text;
    int32_t front;
    size_t behind;
  } cases[] = {
      {HEAD TEMPLATE(TEXT) TAIL MODEL(ABC, "[]"), -1, 0},
      {HEAD TEMPLATE(BOS "," TEXT) TAIL MODEL(ABC, "[]"), 2, 0},
      {HEAD "\"post_processor\":{\"type\":\"Sequence\",\"processors\":["
            "{\"type\":\"ByteLevel\"}," STEP(BOS "," TEXT) "]}," TAIL MODEL(
                ABC, "[]"),
       2, 0},
      {HEAD
       "\"post_processor\":{\"type\":\"ByteLevel\"}," TAIL MODEL(ABC, "[]"),
       -1, 0},
      {HEAD TEMPLATE(TEXT "," BOS "," BOS) TAIL MODEL(ABC, "[]"), -1, 2},
      {HEAD "\"post_processor\":{\"type\":\"RobertaProcessing\",\"sep\":["
            "\"<s>\",2],\"cls\":[\"<s>\",2]}," TAIL MODEL(ABC, "[]"),
       2, 1},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    moerun__tokenizer *t = NULL;
    size_t bytes = 0;
    assert_int_equal(
        moerun__tokenizer_parse(&t, cases[i].text, strlen(cases[i].text), "t"),
        MOERUN_OK);
    const moerun__token_list *front = moerun__tokenizer_front(t);
    assert_int_equal(front->count, cases[i].front >= 0);
    if (front->count > 0) assert_int_equal(front->id[0], cases[i].front);
    assert_int_equal(moerun__tokenizer_bos(t), cases[i].front);
    const moerun__token_list *behind = moerun__tokenizer_behind(t);
    assert_int_equal(behind->count, cases[i].behind);
    for (size_t k = 0; k < behind->count; k++) {
      assert_int_equal(behind->id[k], 2);
    }
    assert_memory_equal(moerun__tokenizer_text(t, 2, &bytes), "ab", 2);
    assert_int_equal(bytes, 2);
    assert_null(moerun__tokenizer_text(t, 3, &bytes));
    assert_null(moerun__tokenizer_text(t, -1, &bytes));
    moerun__tokenizer_destroy(t);
  }
}

/* Tokens that overlap, some looked for first and some second. */
static void overlaps_agree_with_the_library(void **state) {
  (void)state;
  json_t *root = NULL;
  json_t *sets = NULL;
  const json_t *set = NULL;
  size_t i = 0;
  assert_int_equal(moerun__json_load(&root,
                                     MOERUN_TEST_DATA "/tokenizer/added.json",
                                     1U << 20),
                   MOERUN_OK);
  assert_int_equal(moerun__json_array(&sets, root, "sets", "added.json"),
                   MOERUN_OK);
  assert_true(json_array_size(sets) >= 12);
  json_array_foreach(sets, i, set) {
    char *text = json_dumps(json_object_get(set, "tokenizer"), 0);
    const json_t *cases = json_object_get(set, "cases");
    moerun__tokenizer *t = NULL;
    moerun__token_list ids = {0};
    assert_non_null(text);
    assert_int_equal(moerun__tokenizer_parse(&t, text, strlen(text), "t"),
                     MOERUN_OK);
    assert_true(json_array_size(cases) >= 25);
    for (size_t c = 0; c < json_array_size(cases); c++) {
      const json_t *one = json_array_get(cases, c);
      const char *said = json_string_value(json_array_get(one, 0));
      const json_t *want = json_array_get(one, 1);
      ids.count = 0;
      assert_int_equal(
          moerun__tokenizer_encode(t, &ids, said, strlen(said), "x"),
          MOERUN_OK);
      assert_int_equal(ids.count, json_array_size(want));
      for (size_t k = 0; k < ids.count; k++) {
        assert_int_equal(ids.id[k],
                         json_integer_value(json_array_get(want, k)));
      }
    }
    moerun__token_list_clear(&ids);
    moerun__tokenizer_destroy(t);
    free(text);
  }
  json_decref(root);
}

/* tokenizer_config.json as transformers 5 writes it. */
static void the_config_beside_is_read(void **state) {
  (void)state;
  static const struct {
    const char *text;
    int32_t bos;
    int key;
  } cases[] = {
      {"{\"bos_token\": \"<bos>\", \"model_max_length\": "
       "1000000000000000019884624838656}",
       256, -1},
      {"\xEF\xBB\xBF{\"bos_token\": {\"content\": \"<eos>\"}, "
       "\"add_bos_token\": true}",
       257, 1},
      {"{\"bos_token\": null, \"add_bos_token\": false}", -1, 0},
      {"{\"bos_token\": \"<unknown>\", \"add_bos_token\": null}", -1, -1},
  };
  temp_dir dir;
  char from[TEMP_PATH];
  char to[TEMP_PATH];
  assert_true(temp_dir_create(&dir));
  (void)snprintf(from, sizeof from, "%s/tokenizer.json", demo_model);
  assert_int_equal(symlink(from, temp_path(to, &dir, "tokenizer.json")), 0);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    moerun__tokenizer *t = NULL;
    assert_int_equal(
        moerun__file_write(temp_path(to, &dir, "tokenizer_config.json"),
                           cases[i].text, strlen(cases[i].text)),
        MOERUN_OK);
    assert_int_equal(moerun__tokenizer_load(&t, dir.path), MOERUN_OK);
    assert_int_equal(moerun__tokenizer_bos(t), cases[i].bos);
    assert_int_equal(moerun__tokenizer_add_bos_key(t), cases[i].key);
    assert_int_equal(moerun__tokenizer_front(t)->count, 0);
    moerun__tokenizer_destroy(t);
  }
  temp_dir_remove(&dir);
}

static void added_tokens_are_found_longest_first(void **state) {
  (void)state;
  static const char text[] = HEAD TAIL ADDED(
      "[{\"id\":2,\"content\":\"ab\"},{\"id\":5,\"content\":\"abba\"},"
      "{\"id\":4,\"content\":\"<s>\",\"special\":true}]") MODEL(ABC, "[]");
  static const int32_t want[] = {5, 2, 4, 0, 1};
  moerun__tokenizer *t = NULL;
  moerun__token_list ids = {0};
  moerun__text decoded = {0};
  assert_int_equal(moerun__tokenizer_parse(&t, text, sizeof text - 1, "t"),
                   MOERUN_OK);
  assert_int_equal(moerun__tokenizer_encode(t, &ids, "abbaab<s>a", 10, "x"),
                   MOERUN_OK);
  assert_int_equal(moerun__tokenizer_encode(t, &ids, "b", 1, "x"), MOERUN_OK);
  assert_int_equal(ids.count, 5);
  assert_memory_equal(ids.id, want, sizeof want);
  assert_int_equal(moerun__tokenizer_decode(t, &decoded, ids.id, 5, 0),
                   MOERUN_OK);
  assert_string_equal(decoded.bytes, "abbaabab");
  decoded.count = 0;
  assert_int_equal(moerun__tokenizer_decode(t, &decoded, ids.id, 5, 1),
                   MOERUN_OK);
  assert_string_equal(decoded.bytes, "abbaab<s>ab");
  ids.count = 0;
  assert_int_equal(moerun__tokenizer_encode(t, &ids, "\x03", 1, "f:7"),
                   MOERUN_ERR_FORMAT);
  assert_string_equal(
      moerun_last_error(),
      "f:7: the tokenizer has no token for byte 0x03 of the text");
  assert_int_equal(ids.count, 0);
  moerun__text_clear(&decoded);
  moerun__token_list_clear(&ids);
  moerun__tokenizer_destroy(t);
}

static void nth_allocation_fails_cleanly(void **state) {
  (void)state;
  const size_t live = moerun__alloc_live();
  char *text = NULL;
  size_t bytes = 0;
  assert_int_equal(
      moerun__file_read(&text, &bytes,
                        MOERUN_TEST_DATA "/tokenizer/tokenizer.json", 1U << 20),
      MOERUN_OK);
  moerun_status status = MOERUN_ERR_NOMEM;
  long nth = 0;
  for (; status != MOERUN_OK && nth < 100; nth++) {
    moerun__tokenizer *t = NULL;
    moerun__token_list ids = {0};
    moerun__alloc_fail_nth(nth);
    status = moerun__tokenizer_parse(&t, text, bytes, "t");
    if (status == MOERUN_OK) {
      status = moerun__tokenizer_encode(t, &ids, "the other", 9, "x");
    }
    moerun__alloc_fail_nth(-1);
    assert_true(status == MOERUN_OK || status == MOERUN_ERR_NOMEM);
    moerun__token_list_clear(&ids);
    moerun__tokenizer_destroy(t);
    assert_int_equal(moerun__alloc_live(), live + 1);
  }
  assert_int_equal(status, MOERUN_OK);
  assert_true(nth > 8);
  moerun__free(text);
}

/* A text that a normalizer makes larger and larger is refused before it is
 * made. */
static void normalizers_grow_no_text_without_end(void **state) {
  (void)state;
#define GROW                                                                   \
  "{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":\"%s\"}"
  char letters[1001] = "";
  char file[8192];
  char text[3000];
  moerun__tokenizer *t = NULL;
  moerun__token_list ids = {0};
  memset(letters, 'a', sizeof letters - 1);
  memset(text, 'a', sizeof text);
  (void)snprintf(file, sizeof file,
                 "{\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[" GROW
                 "," GROW "," GROW "]},\"model\":{\"type\":\"BPE\",\"vocab\":"
                 "{\"a\":0},\"merges\":[]}}",
                 letters, letters, letters);
  assert_int_equal(moerun__tokenizer_parse(&t, file, strlen(file), "t"),
                   MOERUN_OK);
  assert_int_equal(moerun__tokenizer_encode(t, &ids, text, sizeof text, "here"),
                   MOERUN_ERR_UNSUPPORTED);
  assert_string_equal(
      moerun_last_error(),
      "here: a text of 3000 bytes becomes one of 4387000 or more by the "
      "tokenizer's normalizer");
  moerun__token_list_clear(&ids);
  moerun__tokenizer_destroy(t);
#undef GROW
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(demo_tokens_are_bytes),
      cmocka_unit_test(agrees_with_the_library),
      cmocka_unit_test(merges_like_the_definition),
      cmocka_unit_test(hostile_files_are_named),
      cmocka_unit_test(templates_put_a_token_in_front),
      cmocka_unit_test(overlaps_agree_with_the_library),
      cmocka_unit_test(the_config_beside_is_read),
      cmocka_unit_test(added_tokens_are_found_longest_first),
      cmocka_unit_test(normalizers_grow_no_text_without_end),
      cmocka_unit_test(nth_allocation_fails_cleanly),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
