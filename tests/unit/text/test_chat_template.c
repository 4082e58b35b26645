/* Published chat templates, and some made in the manner of others, over
 * conversations of all kinds: what Hugging Face transformers renders is
 * rendered, and what fails there fails here. Then, where a checkpoint's
 * template is found. */
#include "runtime/base/digest.h"
#include "runtime/base/file.h"
#include "runtime/base/json.h"
#include "runtime/base/memory.h"
#include "runtime/text/chat_template.h"
#include "support/cmocka.h"
#include "support/temp_dir.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static const char ours[] = MOERUN_TEST_DATA "/templates";
static const char *folder = ours;

enum { TEXTS_MIN = 40 }; /* conversations that a template makes texts of */

/* Friday, 4 July 2025, 13:05:09. */
static const struct tm clock_of_tests = {.tm_year = 125,
                                         .tm_mon = 6,
                                         .tm_mday = 4,
                                         .tm_hour = 13,
                                         .tm_min = 5,
                                         .tm_sec = 9,
                                         .tm_wday = 5,
                                         .tm_yday = 184};

static json_t *load(const char *name) {
  char path[TEMP_PATH];
  json_t *json = NULL;
  (void)snprintf(path, sizeof path, "%s/%s", folder, name);
  if (moerun__json_load(&json, path, (size_t)64 << 20) != MOERUN_OK) {
    fail_msg("%s", moerun_last_error());
  }
  return json;
}

/* The template of a file, as a tokenizer_config.json would have it. */
static moerun__chat_template *chat_of(const char *name) {
  moerun__chat_template *chat = NULL;
  char path[TEMP_PATH];
  char *source = NULL;
  size_t bytes = 0;
  (void)snprintf(path, sizeof path, "%s/%s", folder, name);
  assert_int_equal(moerun__file_read(&source, &bytes, path, (size_t)1 << 20),
                   MOERUN_OK);
  json_t *config =
      json_pack("{s:s%, s:s, s:{s:s}}", "chat_template", source, bytes,
                "bos_token", "<s>", "eos_token", "content", "</s>");
  assert_non_null(config);
  if (moerun__chat_template_parse(&chat, config, name) != MOERUN_OK) {
    fail_msg("%s", moerun_last_error());
  }
  json_decref(config);
  moerun__free(source);
  return chat;
}

/* Everything of a line of conversations.json but what has a member of its
 * own. */
static moerun_status apply(const moerun__chat_template *chat, moerun__text *out,
                           const json_t *line) {
  json_t *more = json_copy((json_t *)line);
  (void)json_object_del(more, "messages");
  (void)json_object_del(more, "tools");
  (void)json_object_del(more, "documents");
  (void)json_object_del(more, "add_generation_prompt");
  const moerun__conversation conversation = {
      .messages = json_object_get(line, "messages"),
      .tools = json_object_get(line, "tools"),
      .documents = json_object_get(line, "documents"),
      .more = more,
      .add_generation_prompt =
          json_is_true(json_object_get(line, "add_generation_prompt"))};
  const moerun_status status =
      moerun__chat_template_apply(chat, out, &conversation, &clock_of_tests);
  json_decref(more);
  return status;
}

/* `expected`: a digest, or "!" and what is said in the failure. */
static void check_one(const moerun__chat_template *chat, const char *name,
                      size_t i, const json_t *line, const char *expected,
                      const char *text) {
  moerun__text out = {0};
  char digest[24];
  const moerun_status status = apply(chat, &out, line);
  if (expected[0] == '!') {
    if (status == MOERUN_OK) fail_msg("%s, %zu: gave %s", name, i, out.bytes);
    assert_true(status == MOERUN_ERR_INVALID ||
                status == MOERUN_ERR_UNSUPPORTED);
    if (strchr(expected, '\n') == NULL &&
        strstr(moerun_last_error(), expected + 1) == NULL) {
      fail_msg("%s, %zu: expected %s, found %s", name, i, expected,
               moerun_last_error());
    }
    assert_int_equal(out.count, 0);
  } else {
    if (status != MOERUN_OK) {
      fail_msg("%s, %zu: %s", name, i, moerun_last_error());
    }
    if (text != NULL) assert_string_equal(out.bytes, text);
    (void)snprintf(digest, sizeof digest, "%016llx",
                   (unsigned long long)moerun__digest_bytes(
                       MOERUN_DIGEST_START, out.bytes, out.count));
    if (strcmp(digest, expected) != 0) {
      fail_msg("%s, %zu: another text: %s", name, i, out.bytes);
    }
  }
  moerun__text_clear(&out);
}

static void renders_as_transformers(void **state) {
  (void)state;
  json_t *file = load("conversations.json");
  const json_t *conversations = json_object_get(file, "conversations");
  json_t *renderings = load("renderings.json");
  const char *name = NULL;
  json_t *expected = NULL;
  size_t texts = 0;
  size_t failures = 0;
  json_object_foreach(renderings, name, expected) {
    moerun__chat_template *chat = chat_of(name);
    const size_t before = texts;
    const json_t *digests = json_object_get(expected, "digests");
    assert_int_equal(json_array_size(digests), json_array_size(conversations));
    for (size_t i = 0; i < json_array_size(digests); i++) {
      char number[24];
      const char *digest = json_string_value(json_array_get(digests, i));
      (void)snprintf(number, sizeof number, "%zu", i);
      check_one(chat, name, i, json_array_get(conversations, i), digest,
                json_string_value(json_object_get(
                    json_object_get(expected, "texts"), number)));
      texts += digest[0] != '!';
      failures += digest[0] == '!';
    }
    if (texts - before < TEXTS_MIN && folder == ours) {
      fail_msg("%s: %zu texts alone", name, texts - before);
    }
    moerun__chat_template_destroy(chat);
  }
  if (folder == ours) {
    assert_int_equal(texts, 2815);
    assert_int_equal(failures, 251);
  }
  json_decref(renderings);
  json_decref(file);
}

/* ---- Where a template is found ------------------------------------------- */

static void write_text(const temp_dir *dir, const char *name,
                       const char *text) {
  char path[TEMP_PATH];
  FILE *file = fopen(temp_path(path, dir, name), "wb");
  assert_non_null(file);
  assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
  assert_int_equal(fclose(file), 0);
}

/* What the folder's template makes of one message, with tools or without. */
static void expect_text(const temp_dir *dir, int tools, const char *expected) {
  moerun__chat_template *chat = NULL;
  moerun__text out = {0};
  json_t *line =
      json_loads("{\"messages\": [{\"role\": \"user\", \"content\": \"hi\", "
                 "\"name\": null}]}",
                 0, NULL);
  if (tools) json_object_set_new(line, "tools", json_array());
  if (moerun__chat_template_load(&chat, dir->path) != MOERUN_OK) {
    fail_msg("%s", moerun_last_error());
  }
  assert_non_null(chat);
  if (apply(chat, &out, line) != MOERUN_OK) {
    fail_msg("%s", moerun_last_error());
  }
  assert_string_equal(out.bytes, expected);
  moerun__text_clear(&out);
  moerun__chat_template_destroy(chat);
  json_decref(line);
}

static void files_of_their_own_come_first(void **state) {
  (void)state;
  temp_dir dir;
  char path[TEMP_PATH];
  moerun__chat_template *chat = NULL;
  assert_true(temp_dir_create(&dir));
  assert_int_equal(moerun__chat_template_load(&chat, dir.path), MOERUN_OK);
  assert_null(chat);
  write_text(&dir, "tokenizer_config.json", "{\"bos_token\": \"<b>\"}");
  assert_int_equal(moerun__chat_template_load(&chat, dir.path), MOERUN_OK);
  assert_null(chat);
  write_text(&dir, "tokenizer_config.json",
             "{\"bos_token\": \"<b>\", \"eos_token\": {\"content\": \"<e>\"},"
             " \"pad_token\": null, \"chat_template\": \"{{ bos_token }}1"
             "{{ messages[0] }}{{ eos_token }}{{ pad_token }}\"}");
  expect_text(&dir, 0, "<b>1{'role': 'user', 'content': 'hi'}<e>");
  expect_text(&dir, 1, "<b>1{'role': 'user', 'content': 'hi'}<e>");
  write_text(&dir, "tokenizer_config.json",
             "{\"chat_template\": [{\"name\": \"tool_use\", \"template\": "
             "\"two\"}, {\"name\": \"rag\", \"template\": \"{{\"}, {\"name\": "
             "\"default\", \"template\": \"one{{ tools }}\"}]}");
  expect_text(&dir, 0, "oneNone");
  expect_text(&dir, 1, "two");
  write_text(&dir, "chat_template.jinja", "file\r\n{{ bos_token }}!\n");
  expect_text(&dir, 0, "file\n!");
  expect_text(&dir, 1, "file\n!");
  assert_int_equal(mkdir(temp_path(path, &dir, "chat_templates"), 0700), 0);
  write_text(&dir, "chat_templates/tool_use.jinja", "tools");
  expect_text(&dir, 0, "file\n!");
  expect_text(&dir, 1, "tools");
  temp_dir_remove(&dir);
}

static void refuse_config(const char *config, const char *line) {
  moerun__chat_template *chat = NULL;
  json_t *json = json_loads(config, 0, NULL);
  assert_non_null(json);
  assert_int_not_equal(moerun__chat_template_parse(&chat, json, "c.json"),
                       MOERUN_OK);
  assert_null(chat);
  assert_string_equal(moerun_last_error(), line);
  json_decref(json);
}

static void refuse_chat(const char *line, const char *expected) {
  moerun__chat_template *chat = NULL;
  moerun__text out = {0};
  json_t *config = json_loads("{\"chat_template\": \"x\"}", 0, NULL);
  json_t *json = json_loads(line, 0, NULL);
  assert_int_equal(moerun__chat_template_parse(&chat, config, "c.json"),
                   MOERUN_OK);
  assert_int_equal(apply(chat, &out, json), MOERUN_ERR_INVALID);
  assert_string_equal(moerun_last_error(), expected);
  moerun__chat_template_destroy(chat);
  json_decref(config);
  json_decref(json);
}

static void refusals(void **state) {
  (void)state;
  refuse_config("{\"chat_template\": 3}",
                "c.json: chat_template: expected a text or a list, found an "
                "integer");
  refuse_config("{\"chat_template\": [3]}",
                "c.json: chat_template: expected objects, found an integer");
  refuse_config("{\"chat_template\": \"a\\n{{ b\"}",
                "c.json: line 2: a tag is not closed by }}");
  refuse_config("{\"chat_template\": [{\"name\": \"default\", \"template\": "
                "\"\"}, {\"name\": \"default\", \"template\": \"\"}]}",
                "c.json: chat_template: \"default\" is there twice");
  moerun__chat_template *chat = NULL;
  json_t *config = json_pack("{s:s}", "chat_template", "'x'.y \"robot\" 'no\"");
  assert_int_equal(moerun__chat_template_parse(&chat, config, "c.json"),
                   MOERUN_OK);
  json_decref(config);
  assert_true(moerun__chat_template_names(chat, 0, "robot"));
  assert_true(moerun__chat_template_names(chat, 1, "x"));
  assert_false(moerun__chat_template_names(chat, 0, "y"));
  assert_false(moerun__chat_template_names(chat, 0, "no"));
  assert_false(moerun__chat_template_names(chat, 0, ""));
  moerun__chat_template_destroy(chat);
  refuse_chat("{\"messages\": []}", "a conversation has no messages");
  refuse_chat("{\"messages\": [{}, 3]}",
              "message 2: expected an object, found an integer");
}

/* What `template` makes of one message of two parts, joined if it may be. */
static void expect_parts(const char *template, const char *expected) {
  moerun__chat_template *chat = NULL;
  moerun__text out = {0};
  json_t *config = json_pack("{s:s}", "chat_template", template);
  json_t *messages =
      json_loads("[{\"role\": \"user\", \"content\": [{\"type\": \"text\", "
                 "\"text\": \"a\"}, {\"type\": \"text\", \"text\": \"b\"}]}]",
                 0, NULL);
  const moerun__conversation conversation = {.messages = messages,
                                             .joins_parts = 1};
  assert_int_equal(moerun__chat_template_parse(&chat, config, "c.json"),
                   MOERUN_OK);
  if (moerun__chat_template_apply(chat, &out, &conversation, &clock_of_tests) !=
      MOERUN_OK) {
    fail_msg("%s", moerun_last_error());
  }
  assert_string_equal(out.bytes, expected);
  moerun__text_clear(&out);
  moerun__chat_template_destroy(chat);
  json_decref(messages);
  json_decref(config);
}

static void parts_are_joined_for_templates_of_texts(void **state) {
  (void)state;
  expect_parts("{{ messages[0].content }}!", "a\nb!");
  expect_parts("{{ '<' + messages[0].content }}", "<a\nb");
  expect_parts("{{ messages[0].content | tojson }}", "\"a\\nb\"");
  expect_parts("{% for p in messages[0].content %}<{{ p.text }}>{% endfor %}",
               "<a><b>");
  expect_parts("{% if messages[0].content is string %}{{ messages[0].content }}"
               "{% else %}{% for p in messages[0].content %}{{ p.text }},"
               "{% endfor %}{% endif %}",
               "a,b,");
}

static void failed_allocations_leave_nothing(void **state) {
  (void)state;
  json_t *config =
      json_loads("{\"bos_token\": \"<b>\", \"chat_template\": [{\"name\": "
                 "\"default\", \"template\": \"{{ bos_token }}\"}, "
                 "{\"name\": \"tool_use\", \"template\": \"x\"}]}",
                 0, NULL);
  json_t *line = json_loads(
      "{\"messages\": [{\"role\": \"user\", \"thinking\": \"t\"}]}", 0, NULL);
  assert_non_null(config);
  assert_non_null(line);
  const size_t before = moerun__alloc_live();
  moerun_status status = MOERUN_ERR_NOMEM;
  for (long nth = 0; status != MOERUN_OK; nth++) {
    moerun__chat_template *chat = NULL;
    moerun__text out = {0};
    assert_true(nth < 50);
    moerun__alloc_fail_nth(nth);
    status = moerun__chat_template_parse(&chat, config, "c.json");
    if (status == MOERUN_OK) status = apply(chat, &out, line);
    moerun__alloc_fail_nth(-1);
    assert_true(status == MOERUN_OK || status == MOERUN_ERR_NOMEM);
    if (status == MOERUN_OK) assert_string_equal(out.bytes, "<b>");
    moerun__text_clear(&out);
    moerun__chat_template_destroy(chat);
    assert_int_equal(moerun__alloc_live(), before);
  }
  json_decref(line);
  json_decref(config);
}

/* An argument is a folder like that of the tests: its templates alone are
 * rendered (make_renderings.py --against). */
int main(int argc, char **argv) {
  const struct CMUnitTest given[] = {
      cmocka_unit_test(renders_as_transformers),
  };
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(renders_as_transformers),
      cmocka_unit_test(files_of_their_own_come_first),
      cmocka_unit_test(refusals),
      cmocka_unit_test(parts_are_joined_for_templates_of_texts),
      cmocka_unit_test(failed_allocations_leave_nothing),
  };
  if (argc > 1) {
    folder = argv[1];
    return cmocka_run_group_tests(given, NULL, NULL);
  }
  return cmocka_run_group_tests(tests, NULL, NULL);
}
