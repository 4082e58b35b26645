/* Requests from a batch file, as OpenAI's Batch API takes them: "custom_id",
 * "method", "url" and "body", whose keys are those of the API at this URL. What
 * a body asks for and is not done here is refused, line by line, so that no
 * answer is to another question than was asked; null is as if the key were not
 * there. A list of prompts and "n" samples of each are so many requests. */
#include "launch/requests/prompts_input.h"

#include "launch/requests/prompt_settings.h"
#include "launch/requests/prompt_stops.h"
#include "runtime/base/foreign.h"
#include "runtime/base/memory.h"
#include "runtime/base/number.h"
#include "runtime/base/spelling.h"

#include <stdio.h>
#include <string.h>

enum {
  TEXT = 1,
  CHAT = 2,
  MOST_PROMPTS = 2048,
  DEFAULT_MAX_TOKENS = 16,
  ADVICE_BYTES = 128,
};

/* ---- Keys ---------------------------------------------------------------- */

typedef enum meaning {
  READ = 0,  /* it is looked at below, or is a setting */
  NOTHING,   /* about who asks and what is billed: it changes no answer */
  ONLY_THIS, /* the value that asks for nothing is taken, and no other */
} meaning;

typedef struct key_row {
  const char *key;
  int urls; /* TEXT, CHAT */
  meaning meaning;
  const char *only[2]; /* JSON; NULL: none */
} key_row;

/* Keys that are no settings. */
static const key_row keys[] = {
    {"model", TEXT | CHAT, READ, {NULL}},
    {"prompt", TEXT, READ, {NULL}},
    {"messages", CHAT, READ, {NULL}},
    {"tools", CHAT, READ, {NULL}},
    {"documents", CHAT, READ, {NULL}},
    {"add_generation_prompt", CHAT, READ, {NULL}},
    {"chat_template_kwargs", CHAT, READ, {NULL}},
    {"n", TEXT | CHAT, READ, {NULL}},
    {"stop", TEXT | CHAT, READ, {NULL}},
    {"stop_token_ids", TEXT | CHAT, READ, {NULL}},
    {"echo", TEXT, READ, {NULL}},
    {"logprobs", TEXT, READ, {NULL}},
    {"max_completion_tokens", CHAT, READ, {NULL}},
    {"user", TEXT | CHAT, NOTHING, {NULL}},
    {"metadata", TEXT | CHAT, NOTHING, {NULL}},
    {"store", TEXT | CHAT, NOTHING, {NULL}},
    {"service_tier", TEXT | CHAT, NOTHING, {NULL}},
    {"safety_identifier", TEXT | CHAT, NOTHING, {NULL}},
    {"prompt_cache_key", TEXT | CHAT, NOTHING, {NULL}},
    {"stream_options", TEXT | CHAT, NOTHING, {NULL}},
    {"stream", TEXT | CHAT, ONLY_THIS, {"false"}},
    {"best_of", TEXT, ONLY_THIS, {"1"}},
    {"suffix", TEXT, ONLY_THIS, {"\"\""}},
    {"logit_bias", TEXT | CHAT, ONLY_THIS, {"{}"}},
    {"response_format", TEXT | CHAT, ONLY_THIS, {"{\"type\":\"text\"}"}},
    {"tool_choice", CHAT, ONLY_THIS, {"\"auto\"", "\"none\""}},
    {"parallel_tool_calls", CHAT, ONLY_THIS, {"true", "false"}},
    {"ignore_eos", TEXT | CHAT, ONLY_THIS, {"false"}},
    {"skip_special_tokens", TEXT | CHAT, ONLY_THIS, {"true"}},
    {"modalities", CHAT, ONLY_THIS, {"[\"text\"]"}},
};

/* What the API calls settings. Log-probabilities of a text are asked for by a
 * number, which is read below. */
static const moerun__setting_names names = {
    .key = {[MOERUN_SETTING_MAX_NEW_TOKENS] = "max_tokens",
            [MOERUN_SETTING_TEMPERATURE] = "temperature",
            [MOERUN_SETTING_TOP_P] = "top_p",
            [MOERUN_SETTING_SEED] = "seed",
            [MOERUN_SETTING_TOP_K] = "top_k",
            [MOERUN_SETTING_MIN_P] = "min_p",
            [MOERUN_SETTING_REPETITION_PENALTY] = "repetition_penalty",
            [MOERUN_SETTING_PRESENCE_PENALTY] = "presence_penalty",
            [MOERUN_SETTING_FREQUENCY_PENALTY] = "frequency_penalty",
            [MOERUN_SETTING_MIN_NEW_TOKENS] = "min_tokens",
            [MOERUN_SETTING_LOGPROBS] = "logprobs",
            [MOERUN_SETTING_TOP_LOGPROBS] = "top_logprobs"}};

static moerun__setting_names names_of(const moerun__prompt *out,
                                      const json_t *body) {
  moerun__setting_names own = names;
  if (!out->batch.is_chat) {
    own.key[MOERUN_SETTING_LOGPROBS] = NULL;
    own.key[MOERUN_SETTING_TOP_LOGPROBS] = NULL;
  } else if (json_object_get(body, "max_completion_tokens") != NULL) {
    own.key[MOERUN_SETTING_MAX_NEW_TOKENS] = "max_completion_tokens";
  }
  return own;
}

static int is_setting(const char *key, int is_chat) {
  for (int i = 0; i < MOERUN_SETTINGS; i++) {
    const int of_chat =
        i == MOERUN_SETTING_LOGPROBS || i == MOERUN_SETTING_TOP_LOGPROBS;
    if (names.key[i] != NULL && strcmp(names.key[i], key) == 0) {
      return is_chat || !of_chat;
    }
  }
  return 0;
}

static const key_row *row_of(const char *key, int is_chat) {
  for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
    if (strcmp(keys[i].key, key) == 0 &&
        (keys[i].urls & (is_chat ? CHAT : TEXT)) != 0) {
      return &keys[i];
    }
  }
  return NULL;
}

static int is_value(const json_t *value, const char *json) {
  json_t *wanted =
      json != NULL ? json_loads(json, JSON_DECODE_ANY, NULL) : NULL;
  const int is_same = wanted != NULL && json_equal(value, wanted);
  json_decref(wanted);
  return is_same;
}

/* What may have been meant by a key that is not known at this URL. */
static void advise(char out[ADVICE_BYTES], const char *key, int is_chat) {
  const char *best = NULL;
  int least = 0;
  for (size_t i = 0; i < sizeof keys / sizeof *keys + MOERUN_SETTINGS; i++) {
    const size_t at = i - sizeof keys / sizeof *keys;
    const char *word =
        i < sizeof keys / sizeof *keys ? keys[i].key : names.key[at];
    if (word == NULL ||
        (row_of(word, is_chat) == NULL && !is_setting(word, is_chat))) {
      continue;
    }
    const int far = moerun__spelling_distance(key, strlen(key), word);
    if (far < 0 || (best != NULL && far >= least)) continue;
    best = word;
    least = far;
  }
  const int is_of_other =
      row_of(key, !is_chat) != NULL || is_setting(key, !is_chat);
  if (is_of_other) {
    (void)snprintf(out, ADVICE_BYTES, "it is a key of %s",
                   is_chat ? "/v1/completions" : "/v1/chat/completions");
  } else if (strcmp(key, "reasoning_effort") == 0 && is_chat) {
    (void)snprintf(out, ADVICE_BYTES,
                   "a template that takes it has it from "
                   "\"chat_template_kwargs\"");
  } else if (best != NULL) {
    (void)snprintf(out, ADVICE_BYTES, "did you mean \"%s\"?", best);
  } else {
    (void)snprintf(out, ADVICE_BYTES, "it asks for what is not done here");
  }
}

static moerun_status check_key(const char *key, const json_t *value,
                               int is_chat, const char *origin) {
  moerun_status status = MOERUN_OK;
  char advice[ADVICE_BYTES] = "";
  const key_row *row = row_of(key, is_chat);
  if (row == NULL && is_setting(key, is_chat)) goto done;
  if (row == NULL) advise(advice, key, is_chat);
  MOERUN_REQUIRE(row != NULL, MOERUN_ERR_FORMAT,
                 "%s: body: unknown key \"%.60s\": %s", origin, key, advice);
  if (row->meaning != ONLY_THIS) goto done;
  MOERUN_REQUIRE(is_value(value, row->only[0]) || is_value(value, row->only[1]),
                 MOERUN_ERR_UNSUPPORTED,
                 "%s: body: key \"%s\": expected %s%s%s, or no such key: "
                 "nothing else is done here",
                 origin, key, row->only[0], row->only[1] != NULL ? " or " : "",
                 row->only[1] != NULL ? row->only[1] : "");
done:
  return status;
}

/* Takes null out, and -1 where it asks for nothing. */
static void take_out_nothing(json_t *body) {
  const char *key = NULL;
  json_t *value = NULL;
  void *next = NULL;
  json_object_foreach_safe(body, next, key, value) {
    const int is_all_k = strcmp(key, "top_k") == 0 && is_value(value, "-1");
    if (json_is_null(value) || is_all_k) (void)json_object_del(body, key);
  }
}

static moerun_status check_keys(json_t *body, int is_chat, const char *origin) {
  moerun_status status = MOERUN_OK;
  const char *key = NULL;
  json_t *value = NULL;
  json_object_foreach(body, key, value) {
    MOERUN_TRY(check_key(key, value, is_chat, origin));
  }
done:
  return status;
}

/* ---- The line ------------------------------------------------------------ */

int moerun__prompts_is_batch_line(int *is_object, const moerun__text *line) {
  const size_t mark = moerun__byte_order_mark(line->bytes, line->count);
  json_t *object = line->count > mark ? json_loadb(line->bytes + mark,
                                                   line->count - mark, 0, NULL)
                                      : NULL;
  const int has_both = json_object_get(object, "url") != NULL &&
                       json_object_get(object, "body") != NULL;
  const int is_batch = has_both || json_object_get(object, "custom_id") != NULL;
  *is_object = json_is_object(object);
  json_decref(object);
  return is_batch;
}

static moerun_status read_id(moerun__prompt *out, const json_t *object,
                             const char *origin) {
  moerun_status status = MOERUN_OK;
  const json_t *id = json_object_get(object, "custom_id");
  MOERUN_REQUIRE(json_is_string(id), MOERUN_ERR_FORMAT,
                 "%s: key \"custom_id\": expected a string, found %s: every "
                 "line of a batch file has one of its own",
                 origin, moerun__json_kind(id));
  out->has_id = 1;
  MOERUN_TRY(moerun__text_json(&out->id, json_string_value(id),
                               json_string_length(id)));
done:
  return status;
}

/* *body, borrowed, and what is asked of it. */
static moerun_status read_envelope(json_t **body, moerun__prompt *out,
                                   json_t *object, const char *origin) {
  moerun_status status = MOERUN_OK;
  const char *key = NULL;
  json_t *value = NULL;
  const char *method = NULL;
  const char *url = NULL;
  json_object_foreach(object, key, value) {
    MOERUN_REQUIRE(moerun__words_have("custom_id method url body", key),
                   MOERUN_ERR_FORMAT,
                   "%s: unknown key \"%s\": expected custom_id, method, url "
                   "and body, as in all lines of a batch file",
                   origin, key);
  }
  MOERUN_TRY(moerun__json_text(&method, object, "method", 1, origin));
  MOERUN_REQUIRE(strcmp(method, "POST") == 0, MOERUN_ERR_FORMAT,
                 "%s: key \"method\": expected POST, found %.40s", origin,
                 method);
  MOERUN_TRY(moerun__json_text(&url, object, "url", 1, origin));
  out->batch.is_chat = strcmp(url, "/v1/chat/completions") == 0;
  MOERUN_REQUIRE(out->batch.is_chat || strcmp(url, "/v1/completions") == 0,
                 MOERUN_ERR_UNSUPPORTED,
                 "%s: key \"url\": expected /v1/chat/completions or "
                 "/v1/completions, found %.80s",
                 origin, url);
  MOERUN_TRY(moerun__json_object(body, object, "body", origin));
done:
  return status;
}

/* ---- The body ------------------------------------------------------------ */

/* What a text completion asks for beside its settings. */
static moerun_status read_text_settings(moerun__prompt *out, json_t *body,
                                        const char *origin) {
  moerun_status status = MOERUN_OK;
  const int no = 0;
  const int64_t none = -1;
  int64_t logprobs = 0;
  moerun__request *r = &out->request;
  MOERUN_TRY(moerun__json_bool(&out->batch.echoes, body, "echo", &no, origin));
  MOERUN_TRY(
      moerun__json_int(&logprobs, body, "logprobs", 0, 20, &none, origin));
  if (logprobs >= 0) {
    r->logprobs = (moerun__logprobs_asked){.generated = 1,
                                           .prompt = out->batch.echoes,
                                           .top = moerun__to_int(logprobs)};
  }
  /* The prompt alone is asked for; one token is generated and not told of. */
  out->batch.is_echo =
      out->batch.echoes && is_value(json_object_get(body, "max_tokens"), "0");
  if (out->batch.is_echo) (void)json_object_del(body, "max_tokens");
done:
  return status;
}

static moerun_status read_settings(moerun__prompt *out, json_t *body,
                                   const moerun__prompt_options *options,
                                   const char *origin) {
  moerun_status status = MOERUN_OK;
  moerun__request *r = &out->request;
  const json_t *model = json_object_get(body, "model");
  const moerun__request given = *r;
  if ((options->open >> MOERUN_SETTING_TEMPERATURE & 1U) != 0) {
    r->sampling.temperature = 1;
  }
  if (!out->batch.is_chat) {
    if ((options->open >> MOERUN_SETTING_MAX_NEW_TOKENS & 1U) != 0) {
      r->max_new_tokens = DEFAULT_MAX_TOKENS;
    }
    MOERUN_TRY(read_text_settings(out, body, origin));
  }
  const moerun__setting_names own = names_of(out, body);
  MOERUN_TRY(moerun__settings_read(out, body, &own, options->fixed, origin));
  if (!out->batch.is_chat) {
    const unsigned fixed =
        options->fixed &
        (1U << MOERUN_SETTING_LOGPROBS | 1U << MOERUN_SETTING_TOP_LOGPROBS |
         1U << MOERUN_SETTING_PROMPT_LOGPROBS);
    moerun__settings_overrule(out, &given, fixed);
  }
  if (out->batch.is_echo) {
    r->max_new_tokens = 1;
    r->min_new_tokens = 0;
    r->logprobs.generated = 0;
  }
  MOERUN_TRY(moerun__prompt_read_samples(out, body, origin));
  MOERUN_TRY(moerun__prompt_read_stops(out, body, origin));
  MOERUN_REQUIRE(model == NULL || json_is_string(model), MOERUN_ERR_FORMAT,
                 "%s: body: key \"model\": expected a string, found %s", origin,
                 moerun__json_kind(model));
  if (model == NULL) goto done;
  MOERUN_TRY(moerun__text_json(&out->batch.model, json_string_value(model),
                               json_string_length(model)));
done:
  return status;
}

static moerun_status put_prompt(moerun__prompt *out,
                                const moerun__prompts *prompts,
                                const json_t *prompt, const char *origin) {
  moerun_status status = MOERUN_OK;
  if (json_is_array(prompt)) {
    MOERUN_TRY(moerun__prompt_put_ids(out, prompt, prompts->options.tokens_bos,
                                      "prompt", origin));
    goto done;
  }
  MOERUN_REQUIRE(json_is_string(prompt), MOERUN_ERR_FORMAT,
                 "%s: body: key \"prompt\": expected a text, an array of token "
                 "ids, or an array of such prompts, found %s",
                 origin, moerun__json_kind(prompt));
  MOERUN_TRY(moerun__prompt_encode(out, json_string_value(prompt),
                                   json_string_length(prompt), prompts,
                                   origin));
  if (out->batch.echoes) {
    MOERUN_TRY(moerun__text_append(&out->batch.text, json_string_value(prompt),
                                   json_string_length(prompt)));
  }
done:
  return status;
}

/* One prompt, or several in an array whose elements are no token ids. */
static moerun_status read_prompt(moerun__prompt *out, const json_t *body,
                                 const moerun__prompts *prompts,
                                 const char *origin) {
  moerun_status status = MOERUN_OK;
  const json_t *prompt = json_object_get(body, "prompt");
  const json_t *first = json_array_get(prompt, 0);
  const size_t count =
      first != NULL && !json_is_integer(first) ? json_array_size(prompt) : 0;
  MOERUN_REQUIRE(count <= MOST_PROMPTS, MOERUN_ERR_FORMAT,
                 "%s: body: key \"prompt\": expected at most %d prompts, found "
                 "%zu",
                 origin, (int)MOST_PROMPTS, count);
  if (count > 0) {
    out->place.parts = (int32_t)count * out->samples;
    prompt = json_array_get(prompt, (size_t)(out->place.part / out->samples));
  } else {
    out->place.parts = out->samples;
  }
  MOERUN_TRY(put_prompt(out, prompts, prompt, origin));
done:
  return status;
}

/* The line as an object. One of several prompts is kept until another line is
 * parsed: each of its prompts would take as long as all. */
static moerun_status parse_line(json_t **object, moerun__prompt *out,
                                const moerun__text *line, const char *origin) {
  moerun_status status = MOERUN_OK;
  if (out->parsed != NULL && out->parsed_line == out->place.line) {
    *object = json_incref(out->parsed);
    goto done;
  }
  json_decref(out->parsed);
  out->parsed = NULL;
  MOERUN_TRY(moerun__json_parse(object, line->bytes, line->count, origin));
  const json_t *body = json_object_get(*object, "body");
  const json_t *prompt = json_object_get(body, "prompt");
  if (json_array_size(prompt) > 1 &&
      !json_is_integer(json_array_get(prompt, 0))) {
    out->parsed = json_incref(*object);
    out->parsed_line = out->place.line;
  }
done:
  return status;
}

static moerun_status read_object(moerun__prompt *out,
                                 const moerun__prompts *prompts,
                                 const moerun__text *line, const char *origin) {
  moerun_status status = MOERUN_OK;
  const moerun__prompt_options *o = &prompts->options;
  json_t *object = NULL;
  json_t *body = NULL;
  json_t *given = NULL;
  MOERUN_TRY(parse_line(&object, out, line, origin));
  MOERUN_REQUIRE(json_is_object(object), MOERUN_ERR_FORMAT,
                 "%s: expected an object with custom_id, method, url and body, "
                 "found %s",
                 origin, moerun__json_kind(object));
  MOERUN_TRY(read_id(out, object, origin)); /* named if another key is wrong */
  MOERUN_TRY(read_envelope(&given, out, object, origin));
  MOERUN_REQUIRE(o->tokenizer != NULL, MOERUN_ERR_UNSUPPORTED,
                 "%s: the answers of a batch file are texts, which need the "
                 "model's tokenizer.json",
                 origin);
  body = json_copy(given); /* keys are taken out of it */
  MOERUN_REQUIRE(body != NULL, MOERUN_ERR_NOMEM, "%s: out of memory", origin);
  take_out_nothing(body);
  MOERUN_TRY(check_keys(body, out->batch.is_chat, origin));
  MOERUN_TRY(read_settings(out, body, o, origin));
  if (out->batch.is_chat) {
    out->place.parts = out->samples;
    MOERUN_TRY(moerun__prompt_read_messages(out, body, prompts, origin));
  } else {
    MOERUN_TRY(read_prompt(out, body, prompts, origin));
  }
done:
  json_decref(body);
  json_decref(object);
  return status;
}

const moerun__prompts_input moerun__prompts_batch = {
    .read = moerun__prompts_read_line,
    .parse = read_object,
    .id_key = "custom_id"};
