/* Which template a checkpoint means, and what it is given. A folder may have
 * one template or two, of which "tool_use" is for conversations with tools;
 * files of their own count before tokenizer_config.json. */
#include "runtime/text/chat_template.h"

#include "runtime/base/file.h"
#include "runtime/base/json.h"
#include "runtime/base/memory.h"
#include "runtime/text/template/template.h"

#include <string.h>

enum { SOURCE_LIMIT = 4 << 20, CONFIG_LIMIT = 16 << 20 };

struct moerun__chat_template {
  moerun__template *plain;    /* NULL: there is none but for tools */
  moerun__template *tool_use; /* NULL: tools take the plain one too */
  json_t *tokens;             /* an object of the special tokens' texts */
  char *origin;
};

/* ---- Reading ------------------------------------------------------------- */

/* The texts of the special tokens that a template may name. */
static moerun_status read_tokens(json_t *out, const json_t *config) {
  static const char *const names[] = {"bos_token", "eos_token", "unk_token",
                                      "sep_token", "pad_token", "cls_token",
                                      "mask_token"};
  moerun_status status = MOERUN_OK;
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    json_t *token = json_object_get(config, names[i]);
    if (json_is_object(token)) token = json_object_get(token, "content");
    if (!json_is_string(token)) continue;
    MOERUN_REQUIRE(json_object_set(out, names[i], token) == 0, MOERUN_ERR_NOMEM,
                   "out of memory: a special token");
  }
done:
  return status;
}

static moerun_status create_empty(moerun__chat_template **out,
                                  const char *origin) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__alloc(out, 1, sizeof **out));
  MOERUN_TRY(moerun__copy_text(&(*out)->origin, origin));
  (*out)->tokens = json_object();
  MOERUN_REQUIRE((*out)->tokens != NULL, MOERUN_ERR_NOMEM,
                 "out of memory: special tokens");
done:
  return status;
}

/* One member of "chat_template", if it is a list: {"name": …, "template":
 * …}. */
static moerun_status read_named(moerun__chat_template *chat,
                                const json_t *named, const char *origin) {
  moerun_status status = MOERUN_OK;
  const char *name = NULL;
  const char *source = NULL;
  MOERUN_REQUIRE(json_is_object(named), MOERUN_ERR_FORMAT,
                 "%s: chat_template: expected objects, found %s", origin,
                 moerun__json_kind(named));
  MOERUN_TRY(moerun__json_text(&name, named, "name", 1, origin));
  MOERUN_TRY(moerun__json_text(&source, named, "template", 1, origin));
  moerun__template **const place = strcmp(name, "default") == 0 ? &chat->plain
                                   : strcmp(name, "tool_use") == 0
                                       ? &chat->tool_use
                                       : NULL;
  if (place == NULL) goto done; /* rag and the like are never taken unasked */
  MOERUN_REQUIRE(*place == NULL, MOERUN_ERR_FORMAT,
                 "%s: chat_template: \"%s\" is there twice", origin, name);
  MOERUN_TRY(moerun__template_create(place, source, strlen(source), origin));
done:
  return status;
}

/* "chat_template" of a tokenizer_config.json: a text or a list of them. */
static moerun_status read_templates(moerun__chat_template *chat,
                                    const json_t *config, const char *origin) {
  moerun_status status = MOERUN_OK;
  const json_t *found = json_object_get(config, "chat_template");
  if (json_is_string(found)) {
    MOERUN_TRY(moerun__template_create(&chat->plain, json_string_value(found),
                                       json_string_length(found), origin));
  } else if (json_is_array(found)) {
    for (size_t i = 0; i < json_array_size(found); i++) {
      MOERUN_TRY(read_named(chat, json_array_get(found, i), origin));
    }
  } else {
    MOERUN_REQUIRE(found == NULL || json_is_null(found), MOERUN_ERR_FORMAT,
                   "%s: chat_template: expected a text or a list, found %s",
                   origin, moerun__json_kind(found));
  }
done:
  return status;
}

/* Gives the templates away, or frees them where there are none or an error. */
static moerun_status finish(moerun__chat_template **out,
                            moerun__chat_template *chat, moerun_status status) {
  const int keeps =
      status == MOERUN_OK && (chat->plain != NULL || chat->tool_use != NULL);
  *out = keeps ? chat : NULL;
  if (!keeps) moerun__chat_template_destroy(chat);
  return status;
}

moerun_status moerun__chat_template_parse(moerun__chat_template **out,
                                          const json_t *config,
                                          const char *origin) {
  moerun_status status = MOERUN_OK;
  moerun__chat_template *chat = NULL;
  MOERUN_REQUIRE(json_is_object(config), MOERUN_ERR_FORMAT,
                 "%s: expected an object, found %s", origin,
                 moerun__json_kind(config));
  MOERUN_TRY(create_empty(&chat, origin));
  MOERUN_TRY(read_tokens(chat->tokens, config));
  MOERUN_TRY(read_templates(chat, config, origin));
done:
  return finish(out, chat, status);
}

/* A template that is a file of its own, which may be missing. */
static moerun_status load_file(moerun__template **out, const char *model_dir,
                               const char *name) {
  moerun_status status = MOERUN_OK;
  moerun__text path = {0};
  char *source = NULL;
  size_t bytes = 0;
  MOERUN_TRY(moerun__text_print(&path, "%s/%s", model_dir, name));
  if (!moerun__file_exists(path.bytes)) goto done;
  MOERUN_TRY(moerun__file_read(&source, &bytes, path.bytes, SOURCE_LIMIT));
  MOERUN_TRY(moerun__template_create(out, source, bytes, path.bytes));
done:
  moerun__free(source);
  moerun__text_clear(&path);
  return status;
}

moerun_status moerun__chat_template_load(moerun__chat_template **out,
                                         const char *model_dir) {
  moerun_status status = MOERUN_OK;
  moerun__chat_template *chat = NULL;
  moerun__text path = {0};
  json_t *config = NULL;
  MOERUN_TRY(create_empty(&chat, model_dir));
  MOERUN_TRY(load_file(&chat->plain, model_dir, "chat_template.jinja"));
  MOERUN_TRY(
      load_file(&chat->tool_use, model_dir, "chat_templates/tool_use.jinja"));
  MOERUN_TRY(moerun__text_print(&path, "%s/tokenizer_config.json", model_dir));
  if (!moerun__file_exists(path.bytes)) goto done;
  MOERUN_TRY(moerun__json_load(&config, path.bytes, CONFIG_LIMIT));
  MOERUN_TRY(read_tokens(chat->tokens, config));
  if (chat->plain == NULL && chat->tool_use == NULL) {
    MOERUN_TRY(read_templates(chat, config, path.bytes));
  }
done:
  json_decref(config);
  moerun__text_clear(&path);
  return finish(out, chat, status);
}

void moerun__chat_template_destroy(moerun__chat_template *chat) {
  if (chat == NULL) return;
  moerun__template_destroy(chat->plain);
  moerun__template_destroy(chat->tool_use);
  json_decref(chat->tokens);
  moerun__free(chat->origin);
  moerun__free(chat);
}

static const moerun__template *choose(const moerun__chat_template *chat,
                                      int with_tools) {
  return with_tools && chat->tool_use != NULL ? chat->tool_use : chat->plain;
}

int moerun__chat_template_names(const moerun__chat_template *chat,
                                int with_tools, const char *role) {
  const moerun__template *template = choose(chat, with_tools);
  return template != NULL && moerun__template_names(template, role);
}

/* ---- What a template is given -------------------------------------------- */

static moerun_status put(json_t *object, const char *key, json_t *value) {
  moerun_status status = MOERUN_OK;
  /* The value is taken over, also where it cannot be stored. */
  MOERUN_REQUIRE(json_object_set_new(object, key, value) == 0, MOERUN_ERR_NOMEM,
                 "out of memory: a conversation");
done:
  return status;
}

/* Reasoning goes by three names. What the first of them that is there says, all
 * of them say; NULL: the message has none. */
static json_t *reasoning_of(const json_t *message) {
  static const char *const names[] = {"reasoning_content", "thinking",
                                      "reasoning"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    json_t *found = json_object_get(message, names[i]);
    if (found != NULL && !json_is_null(found)) return found;
  }
  return NULL;
}

/* Puts the parts of `content` as one text in place of it; nothing if it is no
 * list of texts. */
static moerun_status join_parts(json_t *message, const json_t *content) {
  moerun_status status = MOERUN_OK;
  moerun__text text = {0};
  if (!json_is_array(content)) goto done;
  for (size_t i = 0; i < json_array_size(content); i++) {
    const json_t *part = json_object_get(json_array_get(content, i), "text");
    if (!json_is_string(part)) goto done;
    if (i > 0) MOERUN_TRY(moerun__text_append(&text, "\n", 1));
    MOERUN_TRY(moerun__text_append(&text, json_string_value(part),
                                   json_string_length(part)));
  }
  MOERUN_TRY(put(message, "content",
                 json_stringn(text.count > 0 ? text.bytes : "", text.count)));
done:
  moerun__text_clear(&text);
  return status;
}

/* The message without members that are null; what it holds is shared. */
static moerun_status plain_message(json_t **out, const json_t *message,
                                   size_t index, int joins_parts) {
  moerun_status status = MOERUN_OK;
  const char *key = NULL;
  json_t *member = NULL;
  json_t *made = json_object();
  MOERUN_REQUIRE(made != NULL, MOERUN_ERR_NOMEM,
                 "out of memory: a conversation");
  MOERUN_REQUIRE(json_is_object(message), MOERUN_ERR_INVALID,
                 "message %zu: expected an object, found %s", index + 1,
                 moerun__json_kind(message));
  json_t *const reasoning = reasoning_of(message);
  if (reasoning != NULL) {
    MOERUN_TRY(put(made, "thinking", json_incref(reasoning)));
  }
  json_object_foreach((json_t *)message, key, member) {
    if (json_is_null(member)) continue;
    MOERUN_TRY(put(made, key, json_incref(member)));
  }
  if (reasoning != NULL) {
    MOERUN_TRY(put(made, "reasoning_content", json_incref(reasoning)));
  }
  if (joins_parts) {
    MOERUN_TRY(join_parts(made, json_object_get(message, "content")));
  }
  *out = made;
  made = NULL;
done:
  json_decref(made);
  return status;
}

static moerun_status plain_messages(json_t **out, const json_t *messages,
                                    int joins_parts) {
  moerun_status status = MOERUN_OK;
  json_t *made = json_array();
  MOERUN_REQUIRE(made != NULL, MOERUN_ERR_NOMEM,
                 "out of memory: a conversation");
  MOERUN_REQUIRE(json_array_size(messages) > 0, MOERUN_ERR_INVALID,
                 "a conversation has no messages");
  for (size_t i = 0; i < json_array_size(messages); i++) {
    json_t *message = NULL;
    MOERUN_TRY(
        plain_message(&message, json_array_get(messages, i), i, joins_parts));
    MOERUN_REQUIRE(json_array_append_new(made, message) == 0, MOERUN_ERR_NOMEM,
                   "out of memory: a conversation");
  }
  *out = made;
  made = NULL;
done:
  json_decref(made);
  return status;
}

static json_t *or_null(const json_t *value) {
  return value != NULL ? json_incref((json_t *)value) : json_null();
}

static moerun_status gather(json_t *variables,
                            const moerun__chat_template *chat,
                            const moerun__conversation *c) {
  moerun_status status = MOERUN_OK;
  json_t *messages = NULL;
  MOERUN_REQUIRE(json_object_update(variables, chat->tokens) == 0 &&
                     (c->more == NULL ||
                      json_object_update(variables, (json_t *)c->more) == 0),
                 MOERUN_ERR_NOMEM, "out of memory: a conversation");
  MOERUN_TRY(plain_messages(&messages, c->messages, c->joins_parts));
  MOERUN_TRY(put(variables, "messages", messages));
  MOERUN_TRY(put(variables, "tools", or_null(c->tools)));
  MOERUN_TRY(put(variables, "documents", or_null(c->documents)));
  MOERUN_TRY(put(variables, "add_generation_prompt",
                 json_boolean(c->add_generation_prompt)));
done:
  return status;
}

static moerun_status render(const moerun__chat_template *chat,
                            moerun__text *out, const moerun__conversation *c,
                            const struct tm *clock) {
  moerun_status status = MOERUN_OK;
  const moerun__template *template = choose(chat, c->tools != NULL);
  json_t *variables = json_object();
  MOERUN_REQUIRE(variables != NULL, MOERUN_ERR_NOMEM,
                 "out of memory: a conversation");
  MOERUN_REQUIRE(template != NULL, MOERUN_ERR_UNSUPPORTED,
                 "%s: the only chat template is for conversations with tools",
                 chat->origin);
  MOERUN_TRY(gather(variables, chat, c));
  MOERUN_TRY(moerun__template_render(template, out, variables, clock,
                                     &moerun__template_usual_limits));
done:
  json_decref(variables);
  return status;
}

static int have_parts(const json_t *messages) {
  for (size_t i = 0; i < json_array_size(messages); i++) {
    const json_t *message = json_array_get(messages, i);
    if (json_is_array(json_object_get(message, "content"))) return 1;
  }
  return 0;
}

/* Whether the template writes the text of a part, and does not print the list
 * as it stands, where the text would be in quotes. */
static moerun_status goes_through_parts(int *out,
                                        const moerun__chat_template *chat,
                                        const moerun__conversation *c,
                                        const struct tm *clock) {
  static const char word[] = "moerun-part";
  moerun_status status = MOERUN_OK;
  moerun__conversation probe = *c;
  moerun__text text = {0};
  json_t *messages = json_pack("[{s:s, s:[{s:s, s:s}]}]", "role", "user",
                               "content", "type", "text", "text", word);
  *out = 0;
  MOERUN_REQUIRE(messages != NULL, MOERUN_ERR_NOMEM,
                 "out of memory: a conversation");
  probe.messages = messages;
  probe.joins_parts = 0;
  status = render(chat, &text, &probe, clock);
  if (status == MOERUN_OK && text.count > 0) {
    const char *found = strstr(text.bytes, word);
    *out = found != NULL &&
           (found == text.bytes || strchr("\"'", found[-1]) == NULL);
  }
  if (status != MOERUN_ERR_NOMEM) status = MOERUN_OK;
done:
  moerun__text_clear(&text);
  json_decref(messages);
  return status;
}

moerun_status moerun__chat_template_apply(const moerun__chat_template *chat,
                                          moerun__text *out,
                                          const moerun__conversation *c,
                                          const struct tm *clock) {
  moerun_status status = MOERUN_OK;
  moerun__conversation given = *c;
  int takes_parts = 1;
  if (c->joins_parts && have_parts(c->messages)) {
    MOERUN_TRY(goes_through_parts(&takes_parts, chat, c, clock));
  }
  given.joins_parts = !takes_parts;
  MOERUN_TRY(render(chat, out, &given, clock));
done:
  return status;
}
