/* A conversation becomes a prompt as the checkpoint's own template writes it.
 * The template says how a text begins, and its special tokens are found in it:
 * so no token goes around it. */
#include "launch/requests/prompts_input.h"

#include "runtime/base/json.h"

#include <string.h>

static moerun_status check_chat(const moerun__prompt_chat *chat,
                                const char *origin) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(chat->by != NULL || chat->refused == NULL,
                 MOERUN_ERR_UNSUPPORTED,
                 "%s: key \"messages\": the model's chat template cannot be "
                 "used: %s",
                 origin, chat->refused);
  MOERUN_REQUIRE(chat->by != NULL, MOERUN_ERR_UNSUPPORTED,
                 "%s: key \"messages\": the model has no chat template "
                 "(chat_template.jinja, or in tokenizer_config.json): give the "
                 "text as \"prompt\"",
                 origin);
done:
  return status;
}

/* Parts of text are read; images and the like are not. */
static moerun_status check_parts(const json_t *parts, size_t message,
                                 const char *origin) {
  moerun_status status = MOERUN_OK;
  for (size_t i = 0; i < json_array_size(parts); i++) {
    const json_t *part = json_array_get(parts, i);
    const char *type = json_string_value(json_object_get(part, "type"));
    const json_t *text = json_object_get(part, "text");
    MOERUN_REQUIRE(type == NULL || strcmp(type, "text") == 0,
                   MOERUN_ERR_UNSUPPORTED,
                   "%s: message %zu: part %zu: expected the type \"text\", "
                   "found \"%.40s\": nothing but text is read",
                   origin, message, i + 1, type);
    MOERUN_REQUIRE(type != NULL && json_is_string(text), MOERUN_ERR_FORMAT,
                   "%s: message %zu: part %zu: expected {\"type\": \"text\", "
                   "\"text\": \"…\"}",
                   origin, message, i + 1);
  }
done:
  return status;
}

/* A text or parts; an answer may be calls of tools alone, and what a tool says
 * may be an object, for templates that take one. */
static moerun_status check_content(const json_t *content, const char *role,
                                   size_t message, const char *origin) {
  moerun_status status = MOERUN_OK;
  const int may_lack = strcmp(role, "assistant") == 0;
  const int may_be_object = strcmp(role, "tool") == 0;
  const int is_none = content == NULL || json_is_null(content);
  MOERUN_REQUIRE(json_is_string(content) || json_is_array(content) ||
                     (may_lack && is_none) ||
                     (may_be_object && json_is_object(content)),
                 MOERUN_ERR_FORMAT,
                 "%s: message %zu: key \"content\": expected a string or an "
                 "array of parts, found %s",
                 origin, message, moerun__json_kind(content));
  MOERUN_TRY(check_parts(content, message, origin));
done:
  return status;
}

/* Roles are those of the API and those that the template knows: it would write
 * another one, which no model has learnt, without a word. */
static moerun_status check_messages(const moerun__conversation *c,
                                    const moerun__chat_template *chat,
                                    const char *origin) {
  moerun_status status = MOERUN_OK;
  for (size_t i = 0; i < json_array_size(c->messages); i++) {
    const json_t *message = json_array_get(c->messages, i);
    const json_t *role = json_object_get(message, "role");
    const char *name = json_string_value(role);
    MOERUN_REQUIRE(json_is_object(message), MOERUN_ERR_FORMAT,
                   "%s: message %zu: expected an object, found %s", origin,
                   i + 1, moerun__json_kind(message));
    MOERUN_REQUIRE(name != NULL, MOERUN_ERR_FORMAT,
                   "%s: message %zu: key \"role\": expected a string, such as "
                   "\"user\", found %s",
                   origin, i + 1, moerun__json_kind(role));
    MOERUN_REQUIRE(
        moerun__words_have("system developer user assistant tool function",
                           name) ||
            moerun__chat_template_names(chat, c->tools != NULL, name),
        MOERUN_ERR_FORMAT,
        "%s: message %zu: key \"role\": expected system, developer, user, "
        "assistant, tool or function, or another one that the chat template "
        "names, found \"%.40s\"",
        origin, i + 1, name);
    MOERUN_TRY(check_content(json_object_get(message, "content"), name, i + 1,
                             origin));
  }
done:
  return status;
}

/* The members of the object that a template is given. */
static moerun_status read_conversation(moerun__conversation *out,
                                       const json_t *object,
                                       const moerun__chat_template *chat,
                                       const char *origin) {
  moerun_status status = MOERUN_OK;
  static const int by_default = 1;
  json_t *messages = NULL;
  json_t *more = json_object_get(object, "chat_template_kwargs");
  MOERUN_TRY(moerun__json_array(&messages, object, "messages", origin));
  MOERUN_REQUIRE(json_array_size(messages) > 0, MOERUN_ERR_FORMAT,
                 "%s: key \"messages\": expected at least one, found none",
                 origin);
  MOERUN_REQUIRE(more == NULL || json_is_object(more), MOERUN_ERR_FORMAT,
                 "%s: key \"chat_template_kwargs\": expected an object, found "
                 "%s",
                 origin, moerun__json_kind(more));
  *out = (moerun__conversation){
      .messages = messages, .more = more, .joins_parts = 1};
  const char *const lists[] = {"tools", "documents"};
  const json_t **list[] = {&out->tools, &out->documents};
  for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
    json_t *value = json_object_get(object, lists[i]);
    if (value == NULL || json_is_null(value)) continue;
    MOERUN_TRY(moerun__json_array(&value, object, lists[i], origin));
    *list[i] = value;
  }
  MOERUN_TRY(moerun__json_bool(&out->add_generation_prompt, object,
                               "add_generation_prompt", &by_default, origin));
  MOERUN_TRY(check_messages(out, chat, origin));
done:
  return status;
}

moerun_status moerun__messages_render(moerun__text *out, const json_t *object,
                                      const moerun__prompt_chat *chat,
                                      const char *origin) {
  moerun_status status = MOERUN_OK;
  moerun__conversation conversation;
  MOERUN_TRY(check_chat(chat, origin));
  MOERUN_TRY(read_conversation(&conversation, object, chat->by, origin));
  status =
      moerun__chat_template_apply(chat->by, out, &conversation, &chat->clock);
  /* What a template cannot do with these messages is the fault of their line.
   */
  if (status == MOERUN_ERR_INVALID) status = MOERUN_ERR_FORMAT;
  if (status != MOERUN_OK) status = moerun__say_where(status, origin);
done:
  return status;
}

moerun_status moerun__prompt_read_messages(moerun__prompt *out,
                                           const json_t *object,
                                           const moerun__prompts *prompts,
                                           const char *origin) {
  moerun_status status = MOERUN_OK;
  const moerun__prompt_options *o = &prompts->options;
  moerun__text text = {0};
  MOERUN_REQUIRE(!prompts->ids_only, MOERUN_ERR_FORMAT,
                 "%s: key \"messages\": expected \"tokens\" in a file of token "
                 "ids; --prompts takes conversations",
                 origin);
  MOERUN_REQUIRE(o->tokenizer != NULL, MOERUN_ERR_UNSUPPORTED,
                 "%s: key \"messages\": a text needs the model's "
                 "tokenizer.json, which is not there",
                 origin);
  out->blames_model = o->chat.refused != NULL;
  MOERUN_TRY(moerun__messages_render(&text, object, &o->chat, origin));
  MOERUN_TRY(moerun__tokenizer_encode(o->tokenizer, &out->tokens, text.bytes,
                                      text.count, origin));
done:
  moerun__text_clear(&text);
  return status;
}
