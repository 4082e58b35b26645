/* The chat templates of a checkpoint, found and applied as Hugging Face
 * transformers does. What a rendering says about the beginning of a text it
 * says itself: no token is to be put in front of it. */
#ifndef MOERUN_TEXT_CHAT_TEMPLATE_H
#define MOERUN_TEXT_CHAT_TEMPLATE_H

#include "runtime/base/text.h"

#include <jansson.h>
#include <time.h>

typedef struct moerun__chat_template moerun__chat_template;

/* From a checkpoint's folder: chat_template.jinja and
 * chat_templates/tool_use.jinja if either is there, else "chat_template" of
 * tokenizer_config.json. *out is NULL and the status MOERUN_OK if the folder
 * has none. */
moerun_status moerun__chat_template_load(moerun__chat_template **out,
                                         const char *model_dir);
/* From the object of a tokenizer_config.json alone; `origin` names it in
 * messages. *out may be NULL as above. */
moerun_status moerun__chat_template_parse(moerun__chat_template **out,
                                          const json_t *config,
                                          const char *origin);
void moerun__chat_template_destroy(moerun__chat_template *chat);

/* Whether the template that conversations take, with or without tools, has
 * `role` in quotes. */
int moerun__chat_template_names(const moerun__chat_template *chat,
                                int with_tools, const char *role);

/* A conversation. Everything is borrowed for the call; what may be NULL is then
 * None for the template. */
typedef struct moerun__conversation {
  const json_t *messages;  /* an array of objects, at least one */
  const json_t *tools;     /* an array, or NULL */
  const json_t *documents; /* an array, or NULL */
  const json_t *more;      /* an object of further variables, or NULL */
  int add_generation_prompt;
  int joins_parts; /* contents that are parts of text become one text, a line
                      for each, where the template goes through no parts */
} moerun__conversation;

/* Appends the text of a conversation to `out`, which is unchanged after a
 * failure; `clock` is the local time. Members of messages that are null are
 * left out, and reasoning is known by all of its names. Errors as those of
 * moerun__template_render; they begin with the template's file and line. */
moerun_status moerun__chat_template_apply(const moerun__chat_template *chat,
                                          moerun__text *out,
                                          const moerun__conversation *c,
                                          const struct tm *clock);

#endif
