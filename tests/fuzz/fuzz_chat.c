/* A conversation of any bytes that are JSON is rendered by a template that
 * looks into everything it is given, or refused with a line. */
#include "runtime/base/json.h"
#include "runtime/text/chat_template.h"
#include "support/fuzz.h"

#include <stdlib.h>
#include <string.h>

static const char config[] =
    "{\"bos_token\": \"<s>\", \"chat_template\": \""
    "{%- macro all(x) %}{% if x is string %}{{ x|trim }}{{ x[1:-1] }}"
    "{{ x.split(' ')|length }}{{ x|title if x is lower }}"
    "{% elif x is mapping %}{% for k, v in x.items() %}{{ k }}={{ all(v) }}"
    "{% if not loop.last %}, {% endif %}{% endfor %}"
    "{% elif x is iterable %}{% for v in x %}{{ all(v) }};{% endfor %}"
    "{% elif x is number and x is not boolean %}{{ x + 1 }}{{ -x }}"
    "{% else %}{{ x }}{% endif %}{% endmacro %}"
    "{{ bos_token }}{% for m in messages %}"
    "{{ (m.role or 'none') ~ ': ' ~ m.content }}{{ m|tojson(indent=2) }}"
    "{{ m|string|replace('a', 'bb') }}{{ all(m) }}"
    "{% for call in m.tool_calls if call.function is defined %}"
    "{{ call.function.arguments|tojson }}{{ call.function.name|upper }}"
    "{% endfor %}{% endfor %}{{ messages|map(attribute='role')|join(',') }}"
    "{{ messages[0] == messages[-1] }}{{ tools|tojson if tools }}\"}";

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  static const struct tm clock_of_tests = {.tm_year = 125, .tm_mday = 4};
  moerun__chat_template *chat = NULL;
  json_t *read = json_loads(config, 0, NULL);
  json_t *json = NULL;
  fuzz_require(read != NULL);
  fuzz_require(moerun__chat_template_parse(&chat, read, "fuzz") == MOERUN_OK);
  if (moerun__json_parse(&json, (const char *)bytes, size, "fuzz") ==
      MOERUN_OK) {
    moerun__text out = {0};
    const json_t *tools = json_object_get(json, "tools");
    const moerun__conversation conversation = {
        .messages = json_object_get(json, "messages"),
        .tools = json_is_array(tools) ? tools : NULL,
        .add_generation_prompt = 1};
    const moerun_status status =
        moerun__chat_template_apply(chat, &out, &conversation, &clock_of_tests);
    fuzz_verdict(status);
    fuzz_require(status == MOERUN_OK || out.count == 0);
    moerun__text_clear(&out);
  }
  json_decref(json);
  moerun__chat_template_destroy(chat);
  json_decref(read);
  return 0;
}
