/* A chat template of any bytes is rendered, or refused with a line that says
 * where; within its limits, and the same way every time. */
#include "runtime/text/template/template.h"
#include "support/fuzz.h"

#include <stdlib.h>
#include <string.h>

static const char conversation[] =
    "{\"messages\": [{\"role\": \"system\", \"content\": \"Be \\u00e9.\"},"
    " {\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\":"
    " \" a<b \"}]}, {\"role\": \"assistant\", \"content\": \"x\\ny\","
    " \"tool_calls\": [{\"id\": \"call00001\", \"function\": {\"name\": \"f\","
    " \"arguments\": {\"k\": [1, 2.5, null, true]}}}]},"
    " {\"role\": \"tool\", \"content\": \"12\"}],"
    " \"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"f\","
    " \"parameters\": {\"properties\": {\"k\": {\"type\": \"array\"}}}}}],"
    " \"add_generation_prompt\": true, \"bos_token\": \"<s>\","
    " \"eos_token\": \"</s>\", \"n\": 5, \"l\": [3, 1, 2],"
    " \"d\": {\"b\": 1, \"a\": [\"q\"]}}";

static const moerun__template_limits limits = {
    .steps = 20000, .output_bytes = 1 << 16, .memory_bytes = 4 << 20};

static const struct tm clock_of_tests = {.tm_year = 125, .tm_mday = 4};

static void render(const moerun__template *template, const json_t *variables) {
  moerun__text first = {0};
  moerun__text second = {0};
  const moerun_status status = moerun__template_render(
      template, &first, variables, &clock_of_tests, &limits);
  fuzz_verdict(status);
  fuzz_require(first.count <= limits.output_bytes);
  fuzz_require(status == MOERUN_OK || first.count == 0);
  if (status != MOERUN_OK) {
    fuzz_require(strncmp(moerun_last_error(), "fuzz: line ", 11) == 0);
  }
  fuzz_require(moerun__template_render(template, &second, variables,
                                       &clock_of_tests, &limits) == status);
  fuzz_require(first.count == second.count &&
               (first.count == 0 ||
                memcmp(first.bytes, second.bytes, first.count) == 0));
  for (size_t i = 0; i < first.count;) {
    const int length = moerun__utf8_length(first.bytes + i, first.count - i);
    fuzz_require(length > 0);
    i += (size_t)length;
  }
  moerun__text_clear(&first);
  moerun__text_clear(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  moerun__template *template = NULL;
  json_t *variables = json_loads(conversation, 0, NULL);
  fuzz_require(variables != NULL);
  const moerun_status status =
      moerun__template_create(&template, (const char *)bytes, size, "fuzz");
  fuzz_verdict(status);
  if (status == MOERUN_OK) {
    render(template, variables);
  } else {
    fuzz_require(template == NULL);
    fuzz_require(strncmp(moerun_last_error(), "fuzz: line ", 11) == 0);
  }
  moerun__template_destroy(template);
  json_decref(variables);
  return 0;
}
