/* A conversation becomes a prompt as the checkpoint's own template writes it.
 * The template says how a text begins, and its special tokens are found in it:
 * so no token goes around it. */
#include "launch/run/prompts_input.h"

#include "runtime/base/json.h"

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

/* The members of the object that a template is given. */
static moerun_status read_conversation(moerun__conversation *out,
                                       const json_t *object,
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
  *out = (moerun__conversation){.messages = messages, .more = more};
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
done:
  return status;
}

moerun_status moerun__messages_render(moerun__text *out, const json_t *object,
                                      const moerun__prompt_chat *chat,
                                      const char *origin) {
  moerun_status status = MOERUN_OK;
  moerun__conversation conversation;
  MOERUN_TRY(check_chat(chat, origin));
  MOERUN_TRY(read_conversation(&conversation, object, origin));
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
