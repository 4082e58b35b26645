/* From source to text. Messages of the parser and of the interpreter do not say
 * where: the place is added here, because it is known here for all of them. */
#include "runtime/text/template/template.h"

#include "runtime/base/memory.h"
#include "runtime/text/template/render.h"

#include <stdio.h>
#include <string.h>

enum { SYNTAX_BYTES = 64 << 20, MESSAGE_BYTES = 900 };

const moerun__template_limits moerun__template_usual_limits = {
    .steps = 50000000,
    .output_bytes = (size_t)64 << 20,
    .memory_bytes = (size_t)512 << 20};

struct moerun__template {
  char *origin;
  char *source;
  moerun__pool pool;
  moerun__symbols symbols;
  const moerun__syntax *body;
};

/* The last message, with its place in front. */
static moerun_status place_message(moerun_status code, const char *origin,
                                   int line) {
  char message[MESSAGE_BYTES];
  (void)snprintf(message, sizeof message, "%s", moerun_last_error());
  return moerun__fail(code, __FILE__, __LINE__, "%s: line %d: %s", origin, line,
                      message);
}

moerun_status moerun__template_create(moerun__template **out,
                                      const char *source, size_t bytes,
                                      const char *origin) {
  moerun_status status = MOERUN_OK;
  moerun__template *template = NULL;
  int line = 1;
  *out = NULL;
  MOERUN_TRY(moerun__alloc(&template, 1, sizeof *template));
  template->pool.limit = SYNTAX_BYTES;
  MOERUN_TRY(moerun__copy_text(&template->origin, origin));
  MOERUN_TRY(moerun__alloc(&template->source, bytes + 1, 1));
  memcpy(template->source, source, bytes);
  status = moerun__template_parse(&template->body, &template->symbols, &line,
                                  &template->pool, source, bytes);
  if (status != MOERUN_OK) {
    MOERUN_TRY(place_message(status, origin, line));
  }
  *out = template;
  template = NULL;
done:
  moerun__template_destroy(template);
  return status;
}

void moerun__template_destroy(moerun__template *template) {
  if (template == NULL) return;
  moerun__pool_clear(&template->pool);
  moerun__free(template->origin);
  moerun__free(template->source);
  moerun__free(template);
}

int moerun__template_names(const moerun__template *template, const char *word) {
  const size_t bytes = strlen(word);
  const char *at = template->source;
  for (; bytes > 0 && (at = strstr(at, word)) != NULL; at++) {
    const int quote = at > template->source ? at[-1] : 0;
    if ((quote == '"' || quote == '\'') && at[bytes] == quote) return 1;
  }
  return 0;
}

/* The variables that the template names, in the outermost scope. */
static moerun_status set_variables(moerun__render *r, const json_t *variables) {
  moerun_status status = MOERUN_OK;
  for (size_t i = 0; i < r->symbols->count; i++) {
    moerun__value value;
    const json_t *json = json_object_get(variables, r->symbols->name[i]);
    if (json == NULL) continue;
    MOERUN_TRY(moerun__json_value(&value, &r->pool, json));
    MOERUN_TRY(moerun__scope_set(r, (int)i, &value));
  }
done:
  return status;
}

moerun_status moerun__template_render(const moerun__template *template,
                                      moerun__text *out,
                                      const json_t *variables,
                                      const struct tm *clock,
                                      const moerun__template_limits *limits) {
  moerun_status status = MOERUN_OK;
  moerun__buffer written = {0};
  int jump = 0;
  moerun__render r = {.pool.limit = limits->memory_bytes,
                      .symbols = &template->symbols,
                      .out = &written,
                      .most_written = limits->output_bytes,
                      .steps = limits->steps,
                      .most_steps = limits->steps,
                      .line = 1,
                      .clock = clock};
  MOERUN_TRY(moerun__scope_open(&r, NULL));
  MOERUN_TRY(set_variables(&r, variables));
  MOERUN_TRY(moerun__scope_open(&r, r.scope));
  MOERUN_TRY(moerun__render_body(&jump, &r, template->body));
  MOERUN_TRY(moerun__text_append(out, written.bytes, written.count));
done:
  if (status != MOERUN_OK) {
    status = place_message(status, template->origin, r.line);
  }
  moerun__pool_clear(&r.pool);
  return status;
}
