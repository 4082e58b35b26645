/* Chat templates: the part of the Jinja language that those of published models
 * use, with the meaning that it has in Hugging Face transformers. Rendering is
 * a function of the template, its variables and a clock; it reads no files, and
 * steps, output, memory and depth are bounded. What is not known here is an
 * error that names it and the line of the template. */
#ifndef MOERUN_TEXT_TEMPLATE_TEMPLATE_H
#define MOERUN_TEXT_TEMPLATE_TEMPLATE_H

#include "runtime/base/text.h"

#include <jansson.h>
#include <time.h>

typedef struct moerun__template moerun__template;

/* Parses source[bytes]; `origin` names it in messages. MOERUN_ERR_FORMAT for
 * what is no template, MOERUN_ERR_UNSUPPORTED for a tag that is not known. */
moerun_status moerun__template_create(moerun__template **out,
                                      const char *source, size_t bytes,
                                      const char *origin);
void moerun__template_destroy(moerun__template *template);
/* Whether the source has `word` in quotes, as a role that it knows. */
int moerun__template_names(const moerun__template *template, const char *word);

typedef struct moerun__template_limits {
  int64_t steps;       /* statements, expressions, and 64 bytes of text each */
  size_t output_bytes; /* of what is written, also by macros */
  size_t memory_bytes; /* of all values of a rendering */
} moerun__template_limits;

/* Limits that no honest chat comes near: 50 million steps, 64 MiB of output,
 * 512 MiB of memory. */
extern const moerun__template_limits moerun__template_usual_limits;

/* Appends the rendering to `out`, which is unchanged after a failure. Each
 * member of the object `variables` is a variable; it is borrowed for the call.
 * `clock` is the local time that strftime_now tells. What a template refuses
 * (raise_exception) and Python's errors are MOERUN_ERR_INVALID; what is not
 * known here, or beyond the limits, is MOERUN_ERR_UNSUPPORTED. */
moerun_status moerun__template_render(const moerun__template *template,
                                      moerun__text *out,
                                      const json_t *variables,
                                      const struct tm *clock,
                                      const moerun__template_limits *limits);

#endif
