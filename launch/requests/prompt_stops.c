/* The keys are those of vLLM, and "stop" is OpenAI's as well. A text of --stop
 * stands beside those of a line, so neither has to give way. */
#include "launch/requests/prompt_stops.h"

#include "runtime/base/digest.h"
#include "runtime/base/number.h"

#include <string.h>

static moerun_status add_text(moerun__prompt *out, const char *text,
                              const char *what, const char *origin) {
  moerun_status status = MOERUN_OK;
  moerun__stops *stops = &out->request.stops;
  const size_t bytes = strlen(text);
  MOERUN_REQUIRE(bytes >= 1 && bytes <= MOERUN_MOST_STOP_TEXT,
                 MOERUN_ERR_FORMAT, "%s: %s: expected 1 to %d bytes, found %zu",
                 origin, what, MOERUN_MOST_STOP_TEXT, bytes);
  MOERUN_REQUIRE(stops->num_texts < MOERUN_MOST_STOP_TEXTS, MOERUN_ERR_FORMAT,
                 "%s: %s: expected at most %d texts, found more", origin, what,
                 MOERUN_MOST_STOP_TEXTS);
  MOERUN_TRY(moerun__text_append(&out->stop_text, text, bytes + 1));
  stops->num_texts++;
done:
  return status;
}

static moerun_status read_texts(moerun__prompt *out, const json_t *value,
                                const char *origin) {
  moerun_status status = MOERUN_OK;
  static const char what[] = "key \"stop\"";
  if (value == NULL || json_is_null(value)) goto done;
  if (json_is_string(value)) {
    MOERUN_TRY(add_text(out, json_string_value(value), what, origin));
    goto done;
  }
  MOERUN_REQUIRE(json_is_array(value), MOERUN_ERR_FORMAT,
                 "%s: %s: expected a string or an array of strings, found %s",
                 origin, what, moerun__json_kind(value));
  for (size_t i = 0; i < json_array_size(value); i++) {
    const json_t *text = json_array_get(value, i);
    MOERUN_REQUIRE(json_is_string(text), MOERUN_ERR_FORMAT,
                   "%s: %s, element %zu: expected a string, found %s", origin,
                   what, i, moerun__json_kind(text));
    MOERUN_TRY(add_text(out, json_string_value(text), what, origin));
  }
done:
  return status;
}

static moerun_status read_tokens(moerun__prompt *out, const json_t *object,
                                 const char *origin) {
  moerun_status status = MOERUN_OK;
  static const char key[] = "stop_token_ids";
  const json_t *value = json_object_get(object, key);
  json_t *ids = NULL;
  if (value == NULL || json_is_null(value)) goto done;
  MOERUN_TRY(moerun__json_array(&ids, object, key, origin));
  MOERUN_REQUIRE(json_array_size(ids) <= MOERUN_MOST_STOP_TOKENS,
                 MOERUN_ERR_FORMAT,
                 "%s: key \"%s\": expected at most %d ids, found %zu", origin,
                 key, MOERUN_MOST_STOP_TOKENS, json_array_size(ids));
  for (size_t i = 0; i < json_array_size(ids); i++) {
    const json_t *id = json_array_get(ids, i);
    const json_int_t number =
        json_is_integer(id) ? json_integer_value(id) : (json_int_t)-1;
    MOERUN_REQUIRE(number >= 0 && number <= INT32_MAX, MOERUN_ERR_FORMAT,
                   "%s: key \"%s\", element %zu: expected a token id", origin,
                   key, i);
    MOERUN_TRY(moerun__token_list_append(&out->stop_tokens,
                                         moerun__to_int((int64_t)number)));
  }
done:
  return status;
}

moerun_status moerun__prompt_read_stops(moerun__prompt *out,
                                        const json_t *object,
                                        const char *origin) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(read_texts(out, json_object_get(object, "stop"), origin));
  MOERUN_TRY(read_tokens(out, object, origin));
done:
  return status;
}

moerun_status moerun__prompt_end_stops(moerun__prompt *prompt,
                                       const moerun__prompt_options *options,
                                       const char *origin) {
  moerun_status status = MOERUN_OK;
  const moerun__token_list *ids = &prompt->stop_tokens;
  moerun__stops *stops = &prompt->request.stops;
  if (prompt->request.score_only) goto done;
  if (options->stop != NULL) {
    MOERUN_TRY(add_text(prompt, options->stop, "--stop", origin));
  }
  MOERUN_REQUIRE(stops->num_texts == 0 || options->tokenizer != NULL,
                 MOERUN_ERR_UNSUPPORTED,
                 "%s: %s: a text needs the model's tokenizer.json, which is "
                 "not there; \"stop_token_ids\" needs none",
                 origin, options->stop != NULL ? "--stop" : "key \"stop\"");
  for (size_t i = 0; i < ids->count; i++) {
    MOERUN_REQUIRE(ids->id[i] < options->vocab_size, MOERUN_ERR_FORMAT,
                   "%s: key \"stop_token_ids\", element %zu: expected an id of "
                   "0 to %d, found %d",
                   origin, i, options->vocab_size - 1, ids->id[i]);
  }
  stops->num_tokens = moerun__to_int((int64_t)ids->count);
  stops->token = ids->id;
  stops->text_bytes = moerun__to_int((int64_t)prompt->stop_text.count);
  stops->text = prompt->stop_text.bytes;
done:
  return status;
}

uint64_t moerun__stops_digest(uint64_t digest, const moerun__stops *stops) {
  static const char name[] = "stops";
  if (moerun__stops_bytes(stops) == 0) return digest;
  digest = moerun__digest_span(digest, name, strlen(name));
  digest = moerun__digest_int(digest, stops->num_tokens);
  for (int32_t i = 0; i < stops->num_tokens; i++) {
    digest = moerun__digest_int(digest, stops->token[i]);
  }
  return stops->text_bytes > 0 ? moerun__digest_span(digest, stops->text,
                                                     (size_t)stops->text_bytes)
                               : digest;
}
