/* Chat templates: rendering by the language's rules, limits, and what is
 * refused with which line. */
#include "runtime/base/json.h"
#include "runtime/base/memory.h"
#include "runtime/text/template/search.h"
#include "runtime/text/template/template.h"
#include "support/cmocka.h"
#include "support/draw.h"

#include <stdio.h>
#include <string.h>

/* Friday, 4 July 2025, 13:05:09. */
static const struct tm clock_of_tests = {.tm_year = 125,
                                         .tm_mon = 6,
                                         .tm_mday = 4,
                                         .tm_hour = 13,
                                         .tm_min = 5,
                                         .tm_sec = 9,
                                         .tm_wday = 5,
                                         .tm_yday = 184};

static moerun_status render_within(moerun__text *out, const char *source,
                                   const char *variables,
                                   const moerun__template_limits *limits) {
  moerun__template *template = NULL;
  json_t *json = json_loads(variables, 0, NULL);
  assert_non_null(json);
  moerun_status status =
      moerun__template_create(&template, source, strlen(source), "here");
  if (status == MOERUN_OK) {
    status =
        moerun__template_render(template, out, json, &clock_of_tests, limits);
  }
  moerun__template_destroy(template);
  json_decref(json);
  return status;
}

static void expect(const char *source, const char *variables,
                   const char *expected) {
  moerun__text out = {0};
  const moerun_status status =
      render_within(&out, source, variables, &moerun__template_usual_limits);
  if (status != MOERUN_OK) fail_msg("%s: %s", source, moerun_last_error());
  assert_string_equal(out.bytes != NULL ? out.bytes : "", expected);
  moerun__text_clear(&out);
}

static void refuse(const char *source, moerun_status code, const char *line) {
  moerun__text out = {0};
  const moerun_status status =
      render_within(&out, source, "{\"n\": 5, \"l\": [1, 2, 3], \"d\": {}}",
                    &moerun__template_usual_limits);
  if (status == MOERUN_OK) fail_msg("%s: gave %s", source, out.bytes);
  assert_string_equal(moerun_last_error(), line);
  assert_int_equal(status, code);
  assert_int_equal(out.count, 0);
  moerun__text_clear(&out);
}

static const char two_turns[] =
    "{\"messages\": [{\"role\": \"system\", \"content\": \"Be brief.\"},"
    " {\"role\": \"user\", \"content\": \" Hi \"}],"
    " \"bos_token\": \"<|begin_of_text|>\", \"add_generation_prompt\": true}";

static void chatml(void **state) {
  (void)state;
  expect("{% for message in messages %}{{'<|im_start|>' + message['role'] + "
         "'\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}"
         "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
         "{% endif %}",
         two_turns,
         "<|im_start|>system\nBe brief.<|im_end|>\n"
         "<|im_start|>user\n Hi <|im_end|>\n<|im_start|>assistant\n");
}

static void headers_and_trimmed_contents(void **state) {
  (void)state;
  expect("{% set loop_messages = messages %}{% for message in loop_messages %}"
         "{% set content = '<|start_header_id|>' + message['role'] + "
         "'<|end_header_id|>\\n\\n'+ message['content'] | trim + "
         "'<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token "
         "+ content %}{% endif %}{{ content }}{% endfor %}"
         "{% if add_generation_prompt %}"
         "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}"
         "{% endif %}",
         two_turns,
         "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n"
         "Be brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
         "Hi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n");
}

/* Everything that jinja2 makes of small templates; what is an error there is
 * one here. */
static void language_as_jinja2(void **state) {
  (void)state;
  json_t *file = NULL;
  if (moerun__json_load(&file, MOERUN_TEST_DATA "/templates/language.json",
                        (size_t)1 << 20) != MOERUN_OK) {
    fail_msg("%s", moerun_last_error());
  }
  const json_t *cases = json_object_get(file, "cases");
  size_t failures = 0;
  for (size_t i = 0; i < json_array_size(cases); i++) {
    const json_t *one = json_array_get(cases, i);
    const char *source = json_string_value(json_object_get(one, "template"));
    const json_t *text = json_object_get(one, "text");
    moerun__template *template = NULL;
    moerun__text out = {0};
    moerun_status status =
        moerun__template_create(&template, source, strlen(source), "here");
    if (status == MOERUN_OK) {
      status = moerun__template_render(
          template, &out, json_object_get(file, "variables"), &clock_of_tests,
          &moerun__template_usual_limits);
    }
    if (text != NULL && status != MOERUN_OK) {
      fail_msg("%s: %s", source, moerun_last_error());
    } else if (text == NULL && status == MOERUN_OK) {
      fail_msg("%s: gave %s", source, out.bytes);
    } else if (text != NULL &&
               (out.count != json_string_length(text) ||
                (out.count > 0 &&
                 memcmp(out.bytes, json_string_value(text), out.count) != 0))) {
      fail_msg("%s: expected %s, found %s", source, json_string_value(text),
               out.bytes);
    }
    failures += text == NULL;
    moerun__text_clear(&out);
    moerun__template_destroy(template);
  }
  assert_int_equal(json_array_size(cases), 158);
  assert_int_equal(failures, 47);
  json_decref(file);
}

static void refusals_name_the_line(void **state) {
  (void)state;
  refuse("a\n{{ raise_exception('no ' ~ n) }}", MOERUN_ERR_INVALID,
         "here: line 2: the chat template says: no 5");
  refuse("{{ n\n|nope }}", MOERUN_ERR_UNSUPPORTED,
         "here: line 1: the filter \"nope\" is not known");
  refuse("\n\n{% include 'x' %}", MOERUN_ERR_UNSUPPORTED,
         "here: line 3: the tag \"include\" is not known");
  refuse("{{ x.y }}", MOERUN_ERR_INVALID, "here: line 1: \"x\" is not defined");
  refuse("{{ d.x.y }}", MOERUN_ERR_INVALID, "here: line 1: dict has no \"x\"");
  refuse("{{ l.append(4) }}", MOERUN_ERR_INVALID,
         "here: line 1: list has no method \"append\" that a template may "
         "call");
  refuse("{% if n %}", MOERUN_ERR_FORMAT,
         "here: line 1: expected a tag of these: elif else endif; found the "
         "end");
  refuse("{% macro m(a) %}{{ a }}{% endmacro %}\n{{ m(1, b=2) }}",
         MOERUN_ERR_INVALID,
         "here: line 2: the macro \"m\" takes no argument \"b\"");
  refuse("{{ l|join(x=1) }}", MOERUN_ERR_INVALID,
         "here: line 1: the filter \"join\" takes no argument \"x\"");
  refuse("{{ 'a'.encode() }}", MOERUN_ERR_UNSUPPORTED,
         "here: line 1: the method \"encode\" of a str is not known");
  refuse("{{ n is odder }}", MOERUN_ERR_UNSUPPORTED,
         "here: line 1: the test \"odder\" is not known");
  refuse("{{ cycler(1) }}", MOERUN_ERR_UNSUPPORTED,
         "here: line 1: the function \"cycler\" is not known");
  refuse("{{ 'a' < n }}", MOERUN_ERR_INVALID,
         "here: line 1: str and int have no order");
  refuse("{{ 'a' + n }}", MOERUN_ERR_INVALID,
         "here: line 1: \"+\" is not for str and int");
  refuse("{{ 3000000000 * 5000000000 }}", MOERUN_ERR_UNSUPPORTED,
         "here: line 1: an integer of more than 64 bits");
  refuse("{{ '\u03a3'|lower }}", MOERUN_ERR_UNSUPPORTED,
         "here: line 1: the case of the character U+03A3 is not known");
  refuse("{% for i in l %}\n{% for a, b in l %}{% endfor %}{% endfor %}",
         MOERUN_ERR_INVALID, "here: line 2: a int cannot be gone through");
  refuse("{% break %}", MOERUN_ERR_FORMAT,
         "here: line 1: \"break\" outside of a loop");
  refuse("a\xff", MOERUN_ERR_FORMAT, "here: line 1: byte 1 is not valid UTF-8");
  refuse("{{ n + }}", MOERUN_ERR_FORMAT,
         "here: line 1: expected an expression, found \"}}\"");
}

/* Macros that call themselves, brackets in brackets and lists in lists end with
 * a line instead of the stack. */
static void depth_is_bounded(void **state) {
  (void)state;
  char brackets[2048] = "{{ ";
  memset(brackets + 3, '(', 1000);
  (void)snprintf(brackets + 1003, sizeof brackets - 1003, "1 }}");
  refuse(brackets, MOERUN_ERR_UNSUPPORTED,
         "here: line 1: more than 128 brackets are open");
  (void)snprintf(brackets + 103, sizeof brackets - 103, "1");
  memset(brackets + 104, ')', 100);
  (void)snprintf(brackets + 204, sizeof brackets - 204, " }}");
  refuse(brackets, MOERUN_ERR_UNSUPPORTED,
         "here: line 1: more than 120 levels of nesting");
  refuse("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
         MOERUN_ERR_UNSUPPORTED,
         "here: line 1: calls and expressions are nested more than 1000 deep");
  refuse("{% set s = namespace(a=[]) %}{% for i in range(2000) %}"
         "{% set s.a = [s.a] %}{% endfor %}\n{{ s.a }}",
         MOERUN_ERR_UNSUPPORTED,
         "here: line 2: calls and expressions are nested more than 1000 deep");
  refuse("{% set s = namespace(a=[1], b=[1]) %}{% for i in range(200) %}"
         "{% set s.a = [s.a, s.a] %}{% set s.b = [s.b, s.b] %}{% endfor %}\n"
         "{{ s.a == s.b }}",
         MOERUN_ERR_UNSUPPORTED,
         "here: line 2: the template takes too many steps to compare values");
}

static void limits_end_a_rendering(void **state) {
  (void)state;
  static const char loops[] = "{% for i in range(1000) %}{% for j in "
                              "range(1000) %}x{% endfor %}{% endfor %}";
  moerun__template_limits limits = moerun__template_usual_limits;
  moerun__text out = {0};
  limits.steps = 5000;
  assert_int_equal(render_within(&out, loops, "{}", &limits),
                   MOERUN_ERR_UNSUPPORTED);
  assert_string_equal(moerun_last_error(),
                      "here: line 1: the template takes more than 5000 steps");
  limits = moerun__template_usual_limits;
  limits.output_bytes = 1234;
  assert_int_equal(render_within(&out, loops, "{}", &limits),
                   MOERUN_ERR_UNSUPPORTED);
  assert_string_equal(moerun_last_error(),
                      "here: line 1: the template writes more than 1234 bytes");
  limits = moerun__template_usual_limits;
  limits.memory_bytes = 100000;
  assert_int_equal(render_within(&out, "\n{{ 'x' * 200000 }}", "{}", &limits),
                   MOERUN_ERR_UNSUPPORTED);
  assert_string_equal(moerun_last_error(),
                      "here: line 2: a chat template asks for more than 100000 "
                      "bytes of memory");
  assert_int_equal(out.count, 0);
  moerun__text_clear(&out);
}

/* What looks at all bytes of a text takes steps for them, and a text of one
 * letter, in which nearly the same is looked for, no more of them. */
static void work_is_counted_by_bytes(void **state) {
  (void)state;
  static const char *const looks[] = {
      "t.find(p)",      "t.rfind(p)",
      "t.split(p)",     "t.rsplit(p)",
      "t.partition(p)", "t.rpartition(p)",
      "t.count(p)",     "t.replace(p, 'c')",
      "p in t",         "t == u",
      "t < u",          "t|length",
      "t[9]",           "t[1:]",
      "t[::2]",         "t.strip('a')",
      "t.endswith(u)",  "t.removeprefix(u)",
      "{u: 1}[t]",      "{u: 1}.get(t)",
      "t.isalpha()",    "'%s' % t",
      "'{}'.format(t)", "t|indent",
      "t|title",        "t.splitlines()",
      "t.split()",      "b|int",
      "{u: 1}|tojson",  "t is lower",
  };
  enum { TEXT = 1 << 17 };
  static char text[TEXT];
  moerun__template_limits limits = moerun__template_usual_limits;
  memset(text, 'a', sizeof text);
  moerun__text variables = {0};
  moerun__text out = {0};
  assert_int_equal(
      moerun__text_print(&variables,
                         "{\"t\": \"%.*s\", \"u\": \"%.*s\", \"p\": "
                         "\"%.*sb%.*s\", \"b\": \"%*s\"}",
                         TEXT, text, TEXT, text, TEXT / 4, text, TEXT / 4, text,
                         TEXT, "1"),
      MOERUN_OK);
  for (size_t i = 0; i < sizeof looks / sizeof *looks; i++) {
    char source[64];
    (void)snprintf(source, sizeof source, "{%% set x = %s %%}", looks[i]);
    limits.steps = TEXT / 70;
    if (render_within(&out, source, variables.bytes, &limits) !=
        MOERUN_ERR_UNSUPPORTED) {
      fail_msg("%s takes few steps", looks[i]);
    }
    assert_non_null(strstr(moerun_last_error(), " steps"));
    limits.steps = 2 * TEXT;
    if (render_within(&out, source, variables.bytes, &limits) != MOERUN_OK) {
      fail_msg("%s: %s", looks[i], moerun_last_error());
    }
  }
  moerun__text_clear(&variables);
  moerun__text_clear(&out);
}

/* The next place of the part in bytes [from, to), or from their end. */
static const char *look_plainly(const char *from, const char *to,
                                const char *part, size_t n, int from_end) {
  const size_t bytes = (size_t)(to - from);
  for (size_t i = 0; i + n <= bytes; i++) {
    const char *at = from_end ? to - n - i : from + i;
    if (memcmp(at, part, n) == 0) return at;
  }
  return NULL;
}

static void searches_find_what_is_there(void **state) {
  (void)state;
  draw from = {.seed = 20261130};
  moerun__render r = {.pool.limit = 1 << 20, .steps = INT64_MAX};
  for (int trial = 0; trial < 4000; trial++) {
    char text[200];
    char part[80];
    const size_t bytes = (size_t)draw_int(&from, 0, (int)sizeof text);
    const size_t n =
        (size_t)draw_int(&from, 1, trial % 9 == 0 ? (int)sizeof part : 5);
    const int from_end = trial % 2;
    for (size_t i = 0; i < bytes; i++) {
      text[i] = draw_int(&from, 0, 7) == 0 ? 'b' : 'a';
    }
    for (size_t i = 0; i < n; i++) {
      part[i] = draw_int(&from, 0, 15) == 0 ? 'b' : 'a';
    }
    const moerun__value whole = moerun__borrowed_text(text, bytes);
    const moerun__value wanted = moerun__borrowed_text(part, n);
    moerun__text_search search;
    const char *start = text;
    const char *to = text + bytes;
    const char *expected = NULL;
    assert_int_equal(
        moerun__search_begin(&search, &r, &whole, &wanted, from_end),
        MOERUN_OK);
    do {
      const char *found = NULL;
      expected = look_plainly(start, to, part, n, from_end);
      assert_int_equal(moerun__search_next(&found, &search), MOERUN_OK);
      assert_ptr_equal(found, expected);
      if (expected != NULL && from_end) to = expected;
      if (expected != NULL && !from_end) start = expected + n;
    } while (expected != NULL);
  }
  moerun__pool_clear(&r.pool);
}

static void failed_allocations_leave_nothing(void **state) {
  (void)state;
  static const char source[] =
      "{% macro m(x) %}{{ x|upper }}{% endmacro %}{% for a in l %}{{ m(a) ~ "
      "('y' * 9000) }}{% endfor %}";
  const size_t before = moerun__alloc_live();
  for (long nth = 0;; nth++) {
    moerun__text out = {0};
    moerun__alloc_fail_nth(nth);
    const moerun_status status =
        render_within(&out, source, "{\"l\": [\"b\", \"c\"]}",
                      &moerun__template_usual_limits);
    moerun__alloc_fail_nth(-1);
    moerun__text_clear(&out);
    assert_int_equal(moerun__alloc_live(), before);
    if (status == MOERUN_OK) break;
    assert_int_equal(status, MOERUN_ERR_NOMEM);
    assert_true(nth < 100);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(chatml),
      cmocka_unit_test(headers_and_trimmed_contents),
      cmocka_unit_test(language_as_jinja2),
      cmocka_unit_test(refusals_name_the_line),
      cmocka_unit_test(depth_is_bounded),
      cmocka_unit_test(limits_end_a_rendering),
      cmocka_unit_test(work_is_counted_by_bytes),
      cmocka_unit_test(searches_find_what_is_there),
      cmocka_unit_test(failed_allocations_leave_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
