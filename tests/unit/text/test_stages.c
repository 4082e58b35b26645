/* Each stage of a tokenizer.json alone and beside others, against what the
 * Hugging Face library answers (tests/data/tokenizer/make_stages.py), and what
 * makes a stage refuse. */
#include "runtime/base/json.h"
#include "runtime/base/memory.h"
#include "runtime/text/detokenizer.h"
#include "runtime/text/regex.h"
#include "support/cmocka.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The tokenizer.json of a set: its stages, and its model with some changes. */
static moerun__tokenizer *tokenizer_of(const json_t *set,
                                       const json_t *models) {
  const char *name = json_string_value(json_object_get(set, "model"));
  json_t *root = json_copy(json_object_get(set, "stages"));
  json_t *model = json_copy(json_object_get(models, name));
  moerun__tokenizer *t = NULL;
  assert_int_equal(json_object_update(model, json_object_get(set, "changes")),
                   0);
  assert_int_equal(json_object_set_new(root, "model", model), 0);
  char *text = json_dumps(root, 0);
  assert_non_null(text);
  assert_int_equal(moerun__tokenizer_parse(&t, text, strlen(text), "t"),
                   MOERUN_OK);
  free(text);
  json_decref(root);
  return t;
}

/* 0 where the text has other ids, or these another text. */
static int answers(const moerun__tokenizer *t, const json_t *one) {
  moerun__token_list ids = {0};
  moerun__text back = {0};
  const json_t *text = json_array_get(one, 0);
  const json_t *want = json_array_get(one, 1);
  const json_t *decoded = json_array_get(one, 2);
  int same =
      moerun__tokenizer_encode(t, &ids, json_string_value(text),
                               json_string_length(text), "x") == MOERUN_OK &&
      ids.count == json_array_size(want);
  for (size_t k = 0; same && k < ids.count; k++) {
    same = ids.id[k] == json_integer_value(json_array_get(want, k));
  }
  assert_int_equal(moerun__text_append(&back, "", 0), MOERUN_OK);
  assert_int_equal(moerun__tokenizer_decode(t, &back, ids.id, ids.count, 1),
                   MOERUN_OK);
  moerun__text quoted = {0};
  moerun__text wanted = {0};
  assert_int_equal(moerun__text_json(&quoted, back.bytes, back.count),
                   MOERUN_OK);
  assert_int_equal(moerun__text_json(&wanted, json_string_value(decoded),
                                     json_string_length(decoded)),
                   MOERUN_OK);
  same = same && strcmp(quoted.bytes, wanted.bytes) == 0;
  moerun__text_clear(&quoted);
  moerun__text_clear(&wanted);
  moerun__text_clear(&back);
  moerun__token_list_clear(&ids);
  return same;
}

static void stages_answer_as_the_library(void **state) {
  (void)state;
  json_t *root = NULL;
  json_t *sets = NULL;
  const json_t *set = NULL;
  size_t i = 0;
  int differences = 0;
  assert_int_equal(moerun__json_load(&root,
                                     MOERUN_TEST_DATA "/tokenizer/stages.json",
                                     1U << 20),
                   MOERUN_OK);
  assert_int_equal(moerun__json_array(&sets, root, "sets", "stages.json"),
                   MOERUN_OK);
  assert_true(json_array_size(sets) >= 60);
  json_array_foreach(sets, i, set) {
    const json_t *cases = json_object_get(set, "cases");
    moerun__tokenizer *t = tokenizer_of(set, json_object_get(root, "models"));
    assert_true(json_array_size(cases) >= 15);
    for (size_t k = 0; k < json_array_size(cases); k++) {
      const json_t *one = json_array_get(cases, k);
      if (answers(t, one)) continue;
      print_error("%s: \"%s\"\n",
                  json_string_value(json_object_get(set, "name")),
                  json_string_value(json_array_get(one, 0)));
      differences++;
    }
    moerun__tokenizer_destroy(t);
  }
  json_decref(root);
  assert_int_equal(differences, 0);
}

/* ---- Regular expressions ------------------------------------------------- */

static void regular_expressions_are_said_to_pcre2(void **state) {
  (void)state;
  static const struct {
    const char *ruby;
    const char *pcre2; /* NULL: refused */
  } cases[] = {
      {"a.b|^c$", "a.b|^c$"},
      {"[a-c&&[^b]]", "(?:(?=[a-c])(?:[^b]))"},
      {"[^a&&b&&c]", "(?:(?!(?=[a])(?=[b])[c])(?s:.))"},
      {"[a[bc]\\S]",
       "(?:[a]|[bc]|[^\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-"
       "\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}])"},
      {"[^\\P{L}\\d]", "[^\\P{L}\\p{Nd}]"},
      {"\\p{Han}\\p{^Lu}\\P{letter}", "[\\p{sc:Han}][^\\p{Lu}][^\\p{L}]"},
      {"a{1,3}+b{2}?c{,4}", "(?:a{1,3})+(?:b{2})?c{0,4}"},
      {"a++b*?c{x", "a++b*?c\\x{7b}x"},
      {"(?m:.)(?<name>a)(b)", "(?s:.)(?:a)(?:b)"},
      {"(x(?i)a|b)c", "(?:x(?i:a|b))c"},
      {"(?i)a", "(?i:a)"},
      {"\\v\\u00e9\\x41\\x{1F600}\\.", "\\x{b}\\x{e9}A\\x{1f600}\\x{2e}"},
      {"[[:digit:][:^cntrl:]]", "[\\p{Nd}\\P{Cc}]"},
      {"[]-]", "[\\x{5d}\\x{2d}]"},
      {"\\k<x>", NULL},
      {"\\1", NULL},
      {"(?x) a", NULL},
      {"(?#comment)", NULL},
      {"a)", NULL},
      {"(a", NULL},
      {"[a", NULL},
      {"[a&&]", NULL},
      {"[b-a]", NULL},
      {"*", NULL},
      {"\\", NULL},
      {"\\x{110000}", NULL},
      {"[[:name:]]", NULL},
      {"\\p{Nothing}", NULL},
      {"(?<!a*)b", NULL},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    moerun__text out = {0};
    moerun__pattern *pattern = NULL;
    const moerun_status status =
        moerun__pattern_regex(&pattern, cases[i].ruby, "where");
    if (cases[i].pcre2 == NULL) {
      assert_int_equal(status, MOERUN_ERR_UNSUPPORTED);
      assert_null(pattern);
      assert_memory_equal(moerun_last_error(), "where: ", 7);
    } else {
      assert_int_equal(status, MOERUN_OK);
      assert_int_equal(moerun__regex_rewrite(&out, cases[i].ruby, "where"),
                       MOERUN_OK);
      assert_string_equal(out.bytes, cases[i].pcre2);
    }
    moerun__pattern_destroy(pattern);
    moerun__text_clear(&out);
  }
}

/* Steps without end are ended. */
static void a_match_takes_so_many_steps(void **state) {
  (void)state;
  moerun__pattern *pattern = NULL;
  char text[64];
  int found = 0;
  memset(text, 'a', sizeof text);
  moerun__search search = {.text = text, .bytes = sizeof text};
  assert_int_equal(moerun__pattern_regex(&pattern, "(a|a|aa)+[bc]", "where"),
                   MOERUN_OK);
  assert_int_equal(moerun__pattern_next(pattern, &found, &search, "f:3"),
                   MOERUN_ERR_INVALID);
  assert_string_equal(moerun_last_error(),
                      "f:3: behind byte 0, the tokenizer's regular expression "
                      "takes too many steps or too much memory");
  moerun__pattern_destroy(pattern);
}

/* ---- Files that ask for too much or too little --------------------------- */

#define VOCAB                                                                  \
  "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1},\"merges\":[]}}"

static void stages_refuse_by_name(void **state) {
  (void)state;
  static const struct {
    const char *text;
    const char *said;
    const char *message;
  } cases[] = {
      {"{\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},"
       "\"content\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
       "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}"
       "," VOCAB,
       "ab", NULL},
      {"{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(\"},"
       "\"behavior\":\"Isolated\",\"invert\":false}," VOCAB,
       "a", "t: pre_tokenizer: the regular expression leaves a group open"},
      {"{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Other\":\"x\"}}"
       "," VOCAB,
       "a",
       "t: pre_tokenizer: key \"pattern\": expected a \"String\" or a "
       "\"Regex\", found another kind"},
      {"{\"pre_tokenizer\":{\"type\":\"Punctuation\",\"behavior\":\"Kept\"}"
       "," VOCAB,
       "a", "t: pre_tokenizer: \"behavior\": \"Kept\" is not supported"},
      {"{\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"_\","
       "\"prepend_scheme\":\"last\"}," VOCAB,
       "a", "t: pre_tokenizer: \"prepend_scheme\": \"last\" is not supported"},
      {"{\"pre_tokenizer\":null," VOCAB, "ab\xE9",
       "x: byte 3 of the text: expected UTF-8, found 0xe9"},
      {"{\"pre_tokenizer\":null," VOCAB, "abc",
       "x: the tokenizer has no token for byte 0x63 of the text"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    moerun__tokenizer *t = NULL;
    moerun__token_list ids = {0};
    const char *said = cases[i].said;
    assert_int_equal(
        moerun__tokenizer_parse(&t, cases[i].text, strlen(cases[i].text), "t"),
        MOERUN_OK);
    const moerun_status status =
        moerun__tokenizer_encode(t, &ids, said, strlen(said), "x");
    assert_int_equal(status == MOERUN_OK, cases[i].message == NULL);
    if (cases[i].message != NULL) {
      assert_string_equal(moerun_last_error(), cases[i].message);
    }
    moerun__token_list_clear(&ids);
    moerun__tokenizer_destroy(t);
  }
}

/* A chain of stages, each of which makes a text longer, is ended. */
static void texts_grow_within_a_limit(void **state) {
  (void)state;
  static const char step[] = "{\"type\":\"Replace\",\"pattern\":{\"String\":"
                             "\"a\"},\"content\":\"aaaaaaaaaa\"}";
  for (int decodes = 0; decodes < 2; decodes++) {
    moerun__text text = {0};
    moerun__text out = {0};
    moerun__tokenizer *t = NULL;
    moerun__token_list ids = {0};
    const int32_t id = 0;
    assert_int_equal(
        moerun__text_print(&text, "{\"%s\":{\"type\":\"Sequence\",\"%ss\":[",
                           decodes ? "decoder" : "normalizer",
                           decodes ? "decoder" : "normalizer"),
        MOERUN_OK);
    for (int i = 0; i < 20; i++) {
      assert_int_equal(
          moerun__text_print(&text, "%s%s", i > 0 ? "," : "", step), MOERUN_OK);
    }
    assert_int_equal(moerun__text_print(&text, "]}," VOCAB), MOERUN_OK);
    assert_int_equal(moerun__tokenizer_parse(&t, text.bytes, text.count, "t"),
                     MOERUN_OK);
    assert_int_equal(decodes ? moerun__tokenizer_decode(t, &out, &id, 1, 0)
                             : moerun__tokenizer_encode(t, &ids, "a", 1, "x"),
                     decodes ? MOERUN_ERR_INVALID : MOERUN_ERR_UNSUPPORTED);
    assert_non_null(strstr(moerun_last_error(), "1 bytes become"));
    moerun__tokenizer_destroy(t);
    moerun__token_list_clear(&ids);
    moerun__text_clear(&out);
    moerun__text_clear(&text);
  }
}

/* Stages give back what they have taken, whichever allocation fails. Where
 * PCRE2 has no memory to compile to machine code, it does without. */
static void allocations_fail_cleanly(void **state) {
  (void)state;
  static const char text[] =
      "{\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":"
      "\"NFC\"},{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"x+\"},"
      "\"content\":\"a\"},{\"type\":\"Prepend\",\"prepend\":\"a\"}]},"
      "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":"
      "\"Split\",\"pattern\":{\"Regex\":\"[a-y&&[^b]]+\"},\"behavior\":"
      "\"Contiguous\",\"invert\":true},{\"type\":\"Metaspace\","
      "\"replacement\":\"_\"}]},\"post_processor\":{\"type\":"
      "\"BertProcessing\",\"sep\":[\"a\",0],\"cls\":[\"a\",0]},\"decoder\":{"
      "\"type\":\"Sequence\",\"decoders\":[{\"type\":\"ByteFallback\"},{"
      "\"type\":\"Replace\",\"pattern\":{\"Regex\":\"a\"},\"content\":\"b\"},"
      "{\"type\":\"ByteLevel\"},{\"type\":\"Fuse\"}]},\"added_tokens\":[{"
      "\"id\":4,\"content\":\"xyz\",\"normalized\":true}],\"model\":{\"type\":"
      "\"Unigram\",\"unk_id\":0,\"vocab\":[[\"<unk>\",0],[\"a\",-1],[\"b\","
      "-2],[\"ab\",-2.5]]}}";
  const size_t live = moerun__alloc_live();
  int failures = 0;
  for (long nth = 0; nth < 150; nth++) {
    moerun__tokenizer *t = NULL;
    moerun__token_list ids = {0};
    moerun__text out = {0};
    moerun__alloc_fail_nth(nth);
    moerun_status status =
        moerun__tokenizer_parse(&t, text, sizeof text - 1, "t");
    if (status == MOERUN_OK) {
      status = moerun__tokenizer_encode(t, &ids, "e\xCC\x81 xab", 7, "x");
    }
    if (status == MOERUN_OK) {
      status = moerun__tokenizer_decode(t, &out, ids.id, ids.count, 0);
    }
    moerun__alloc_fail_nth(-1);
    assert_true(status == MOERUN_OK || status == MOERUN_ERR_NOMEM);
    failures += status != MOERUN_OK;
    moerun__text_clear(&out);
    moerun__token_list_clear(&ids);
    moerun__tokenizer_destroy(t);
    assert_int_equal(moerun__alloc_live(), live);
  }
  assert_in_range(failures, 40, 149);
}

/* What a decoder makes of each id, with | in front of what comes at the end. */
static const char held_vocab[] =
    "{\"a\": 0, \"_\": 1, \"<0xC3>\": 2, \"<0xA9>\": 3, \"__b\": 4, "
    "\"\u00c3\": 5, \"\u00a9\": 6}";
static const struct {
  const char *decoder;
  int32_t ids[5];
  const char *pieces;
} held_cases[] = {
    {"null", {0, 1, 0, 4, 0}, "a, _, a, __b, a,|"},
    /* A character that is cut. */
    {"{\"type\": \"ByteLevel\"}",
     {0, 5, 6, 5, 0},
     "a,,\xc3\xa9,,\xc3"
     "a,|"},
    {"{\"type\": \"ByteLevel\"}", {0, 5, 6, 0, 5}, "a,,\xc3\xa9,a,,|\xc3"},
    /* Bytes of a run are all marks if one is none. */
    {"{\"type\": \"ByteFallback\"}",
     {2, 3, 0, 2, 0},
     ",,\xc3\xa9"
     "a,,\xef\xbf\xbd"
     "a,|"},
    {"{\"type\": \"ByteFallback\"}", {0, 0, 0, 2, 3}, "a,a,a,,,|\xc3\xa9"},
    {"{\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Fuse\"}, "
     "{\"type\": \"Strip\", \"content\": \"_\", \"start\": 2, \"stop\": 0}]}",
     {1, 4, 1, 1, 0},
     ",_b,_,_,a,|"},
    {"{\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Fuse\"}, "
     "{\"type\": \"Strip\", \"content\": \"_\", \"start\": 0, \"stop\": 2}]}",
     {1, 4, 1, 1, 1},
     ",__,_,b,_,|"},
    {"{\"type\": \"Metaspace\", \"replacement\": \"_\"}",
     {1, 0, 4, 1, 0},
     ",a,  b, ,a,|"},
    {"{\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Fuse\"}, "
     "{\"type\": \"Metaspace\", \"replacement\": \"__\", "
     "\"prepend_scheme\": \"never\"}]}",
     {0, 1, 1, 1, 0},
     "a,, ,,_a,|"},
    {"{\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Fuse\"}, "
     "{\"type\": \"Replace\", \"pattern\": {\"String\": \"aa\"}, "
     "\"content\": \"c\"}]}",
     {0, 0, 1, 0, 0},
     ",,,,,|c_c"},
};

/* What each stage holds back, and no more. */
static void stages_hold_back_what_may_change(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof held_cases / sizeof *held_cases; i++) {
    moerun__text file = {0};
    moerun__text found = {0};
    moerun__tokenizer *t = NULL;
    moerun__detokenizer stream = {0};
    assert_int_equal(
        moerun__text_print(&file,
                           "{\"decoder\": %s, \"model\": {\"type\": \"BPE\", "
                           "\"vocab\": %s, \"merges\": []}}",
                           held_cases[i].decoder, held_vocab),
        MOERUN_OK);
    assert_int_equal(moerun__tokenizer_parse(&t, file.bytes, file.count, "t"),
                     MOERUN_OK);
    assert_int_equal(moerun__detokenizer_begin(&stream, t), MOERUN_OK);
    for (int k = 0; k < 5; k++) {
      assert_int_equal(
          moerun__detokenizer_put(&stream, &found, held_cases[i].ids[k]),
          MOERUN_OK);
      assert_int_equal(moerun__text_append(&found, ",", 1), MOERUN_OK);
    }
    assert_int_equal(moerun__text_append(&found, "|", 1), MOERUN_OK);
    assert_int_equal(moerun__detokenizer_end(&stream, &found), MOERUN_OK);
    assert_string_equal(found.bytes, held_cases[i].pieces);
    moerun__detokenizer_clear(&stream);
    moerun__tokenizer_destroy(t);
    moerun__text_clear(&found);
    moerun__text_clear(&file);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(stages_answer_as_the_library),
      cmocka_unit_test(regular_expressions_are_said_to_pcre2),
      cmocka_unit_test(a_match_takes_so_many_steps),
      cmocka_unit_test(stages_refuse_by_name),
      cmocka_unit_test(texts_grow_within_a_limit),
      cmocka_unit_test(allocations_fail_cleanly),
      cmocka_unit_test(stages_hold_back_what_may_change),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
