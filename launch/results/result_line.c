/* A line that is there is taken for a result only if printing what it says
 * gives the same bytes. Its digest covers the request and the weights and not
 * what they yielded, so that a line which an editor or a script has changed
 * would be kept for ever; printing it again compares the id, the text, the
 * reason it ended for, the keys and the spacing at once, whatever is added to
 * lines one day. What no printing can tell is checked before: numbers of
 * tokens, their range, and where a sequence may end. Without a tokenizer
 * nothing says which tokens were generated but they themselves.
 *
 * The last line may be torn, and is then cut off the file: so it has to begin
 * like one of this run, or it is somebody's only copy of something else. */
#include "launch/results/result_line.h"

#include "launch/results/result_logprobs.h"
#include "runtime/base/memory.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { ORIGIN_BYTES = 512, LONGEST_INDEX = 18, SHOWN = 24 };
static const char start[] = "{\"index\":";
static const char to_do[] =
    "without this line its request runs again; --overwrite starts afresh";

void moerun__result_line_clear(moerun__result_line *line) {
  moerun__text_clear(&line->text);
  moerun__text_clear(&line->part);
  moerun__stop_watch_clear(&line->watch);
  moerun__prompt_clear(&line->prompt);
  moerun__token_list_clear(&line->tokens);
  moerun__free(line->logprob);
  line->logprob = NULL;
  line->logprob_room = 0;
  moerun__free(line->digest);
  line->digest = NULL;
}

/* ---- Printing ------------------------------------------------------------ */

moerun_status moerun__result_start(moerun__text *out,
                                   const moerun__prompts *prompts,
                                   int64_t index, const char *id) {
  moerun_status status = MOERUN_OK;
  const moerun__prompt_place place = moerun__prompts_place(prompts, index);
  MOERUN_TRY(moerun__text_print(out, "%s%lld,\"id\":%s,", start,
                                (long long)place.line, id));
  if (place.parts > 1) {
    MOERUN_TRY(moerun__text_print(out, "\"sample\":%d,", place.part));
  }
done:
  return status;
}

static moerun_status print_start(moerun__result_line *line, int64_t index,
                                 const char *id) {
  line->text.count = 0;
  return moerun__result_start(&line->text, line->prompts, index, id);
}

/* Up to where the first generated token, or the log-probability, stands. */
static moerun_status print_head(moerun__result_line *line, int64_t index) {
  moerun_status status = MOERUN_OK;
  const moerun__prompt *prompt = &line->prompt;
  MOERUN_TRY(moerun__prompts_read(line->prompts, &line->prompt, index));
  MOERUN_TRY(print_start(line, index, prompt->id.bytes));
  MOERUN_TRY(moerun__text_print(
      &line->text,
      prompt->request.score_only ? "\"scored_tokens\":%d,"
                                   "\"log_probability\":"
                                 : "\"prompt_tokens\":%d,\"tokens\":[",
      prompt->request.num_prompt - (prompt->request.score_only ? 1 : 0)));
done:
  return status;
}

/* Where the generated tokens end by the stops of line->prompt: *count of them;
 * more than there are: nowhere. */
static moerun_status watch_stops(int32_t *count, moerun__result_line *line,
                                 const int32_t *token, int32_t num_tokens) {
  moerun_status status = MOERUN_OK;
  const moerun__request *request = &line->prompt.request;
  int ends = 0;
  int32_t i = 0;
  *count = num_tokens + 1;
  if (moerun__stops_bytes(&request->stops) == 0) goto done;
  MOERUN_TRY(moerun__stop_watch_begin(
      &line->watch, &request->stops, request->min_new_tokens, line->tokenizer));
  for (; i < num_tokens && !ends; i++) {
    MOERUN_TRY(moerun__stop_watch_put(&line->watch, &ends, token[i]));
  }
  if (ends) *count = i;
done:
  return status;
}

moerun_status moerun__result_text(moerun__result_line *line,
                                  const moerun__completion *c) {
  moerun_status status = MOERUN_OK;
  const moerun__text *text = &line->watch.text;
  int32_t count = 0;
  if (c->finish != MOERUN_FINISH_STOP) {
    return moerun__tokenizer_decode(line->tokenizer, &line->part, c->token,
                                    (size_t)c->num_tokens, 0);
  }
  MOERUN_TRY(watch_stops(&count, line, c->token, c->num_tokens));
  if (text->count == 0) goto done;
  MOERUN_TRY(moerun__text_append(&line->part, text->bytes, text->count));
done:
  return status;
}

static moerun_status print_text(moerun__result_line *line,
                                const moerun__completion *c) {
  moerun_status status = MOERUN_OK;
  line->part.count = 0;
  MOERUN_TRY(moerun__result_text(line, c));
  MOERUN_TRY(moerun__text_print(&line->text, "\"text\":"));
  MOERUN_TRY(
      moerun__text_json(&line->text, line->part.bytes, line->part.count));
  MOERUN_TRY(moerun__text_append(&line->text, ",", 1));
done:
  return status;
}

const char *moerun__finish_name(moerun__finish finish) {
  return finish == MOERUN_FINISH_EOS    ? "eos"
         : finish == MOERUN_FINISH_STOP ? "stop"
                                        : "length";
}

static moerun_status print_generated(moerun__result_line *line,
                                     const moerun__completion *c) {
  moerun_status status = MOERUN_OK;
  moerun__text *text = &line->text;
  MOERUN_TRY(moerun__text_integers(text, c->token, (size_t)c->num_tokens));
  MOERUN_TRY(moerun__text_append(text, "],", 2));
  if (line->tokenizer != NULL) MOERUN_TRY(print_text(line, c));
  MOERUN_TRY(moerun__logprobs_print(text, c, &line->prompt.request));
  MOERUN_TRY(moerun__text_print(text, "\"finish\":\"%s\",",
                                moerun__finish_name(c->finish)));
done:
  return status;
}

static moerun_status print_scored(moerun__result_line *line,
                                  const moerun__completion *c) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(isfinite(c->log_probability), MOERUN_ERR_FORMAT,
                 "window %lld: its log-probability is not a finite number: "
                 "the model's weights are broken or overflow",
                 (long long)c->index);
  MOERUN_TRY(moerun__text_print(&line->text, "%.17g,", c->log_probability));
done:
  return status;
}

static moerun_status print_result(moerun__result_line *line,
                                  const moerun__completion *completion) {
  moerun_status status = MOERUN_OK;
  const moerun__prompt *prompt = &line->prompt;
  MOERUN_TRY(print_head(line, completion->index));
  MOERUN_TRY(prompt->request.score_only ? print_scored(line, completion)
                                        : print_generated(line, completion));
  MOERUN_TRY(moerun__text_print(&line->text, "\"digest\":\"%016llx%s\"}\n",
                                (unsigned long long)prompt->digest,
                                line->weights.text));
done:
  return status;
}

static moerun_status print_error(moerun__result_line *line, int64_t index,
                                 const char *id, const char *reason) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(print_start(line, index, id));
  MOERUN_TRY(moerun__text_print(&line->text, "\"error\":"));
  MOERUN_TRY(moerun__text_json(&line->text, reason, strlen(reason)));
  MOERUN_TRY(moerun__text_append(&line->text, "}\n", 2));
done:
  return status;
}

/* ---- A whole line -------------------------------------------------------- */

moerun_status moerun__result_tokens_read(moerun__token_list *out,
                                         const json_t *object, int32_t most,
                                         int32_t vocab_size,
                                         const char *origin) {
  moerun_status status = MOERUN_OK;
  json_t *tokens = NULL;
  out->count = 0;
  MOERUN_TRY(moerun__json_array(&tokens, object, "tokens", origin));
  const size_t count = json_array_size(tokens);
  MOERUN_REQUIRE(count >= 1 && (int64_t)count <= most, MOERUN_ERR_FORMAT,
                 "%s: tokens: expected 1 to %d, found %zu", origin, most,
                 count);
  for (size_t i = 0; i < count; i++) {
    const json_t *token = json_array_get(tokens, i);
    const json_int_t id =
        json_is_integer(token) ? json_integer_value(token) : (json_int_t)-1;
    MOERUN_REQUIRE(id >= 0 && id < vocab_size, MOERUN_ERR_FORMAT,
                   "%s: token %zu: expected an id of 0 to %d", origin, i,
                   vocab_size - 1);
    MOERUN_TRY(moerun__token_list_append(out, (int32_t)id));
  }
done:
  return status;
}

/* Of line->prompt: the tokens, and what they say of the end. */
static moerun_status read_generated(moerun__completion *c,
                                    moerun__result_line *line,
                                    const json_t *object, const char *origin) {
  moerun_status status = MOERUN_OK;
  moerun__token_list *tokens = &line->tokens;
  const int32_t most = line->prompt.request.max_new_tokens;
  int32_t ends = 0;
  int32_t stops = 0;
  MOERUN_TRY(moerun__result_tokens_read(tokens, object, most,
                                        line->model->vocab_size, origin));
  const int32_t count = (int32_t)tokens->count;
  while (ends < count &&
         !moerun__config_is_eos(line->model, tokens->id[ends])) {
    ends++;
  }
  /* A stop in front of the last token would have ended it there. */
  MOERUN_TRY(watch_stops(&stops, line, tokens->id, ends));
  const int is_stopped = ends == count && stops == count;
  const int is_ended = ends == count - 1 || (ends == count && count == most);
  MOERUN_REQUIRE(is_stopped || (is_ended && stops > ends), MOERUN_ERR_FORMAT,
                 "%s: cannot resume: tokens: expected %d, or fewer of which "
                 "the last alone ends a sequence, found %d: %s",
                 origin, most, count, to_do);
  c->finish = is_stopped     ? MOERUN_FINISH_STOP
              : ends < count ? MOERUN_FINISH_EOS
                             : MOERUN_FINISH_LENGTH;
  c->num_tokens = count;
  c->token = tokens->id;
  MOERUN_TRY(moerun__logprobs_read(c, &line->logprob, &line->logprob_room,
                                   &line->prompt.request, object, origin));
done:
  return status;
}

/* The start of the character that byte `at` is of. */
static size_t character_at(const moerun__text *text, size_t at) {
  while (at > 0 && at < text->count &&
         ((unsigned char)text->bytes[at] & 0xC0U) == 0x80) {
    at--;
  }
  return at;
}

/* Compares the line that is there with the one that was printed. */
static moerun_status compare(const moerun__result_line *line,
                             const moerun__lines *lines, const char *origin) {
  moerun_status status = MOERUN_OK;
  const moerun__text *found = &lines->line;
  const moerun__text *text = &line->text;
  const size_t count = text->count - 1; /* its newline is not in `found` */
  size_t same = 0;
  while (same < count && same < found->count &&
         text->bytes[same] == found->bytes[same]) {
    same++;
  }
  if (same == count && same == found->count) goto done;
  same = character_at(text, same);
  const size_t end =
      count - same > SHOWN ? character_at(text, same + SHOWN) : count;
  MOERUN_REQUIRE(same == count, MOERUN_ERR_FORMAT,
                 "%s: cannot resume: from byte %zu on expected %.*s, as this "
                 "program writes it, found something else: %s",
                 origin, same + 1, (int)(end - same), text->bytes + same,
                 to_do);
  MOERUN_REQUIRE(0, MOERUN_ERR_FORMAT,
                 "%s: cannot resume: after byte %zu expected the end of the "
                 "line, found more: %s",
                 origin, same, to_do);
done:
  return status;
}

static moerun_status read_result(moerun__result_found *out,
                                 moerun__result_line *line,
                                 const json_t *object, const char *origin) {
  moerun_status status = MOERUN_OK;
  moerun__completion c = {.index = out->index, .finish = MOERUN_FINISH_SCORED};
  MOERUN_TRY(moerun__result_digest_check(&line->weights, object, line->prompts,
                                         out->index, "this result was",
                                         origin));
  MOERUN_TRY(moerun__prompts_read(line->prompts, &line->prompt, out->index));
  if (line->prompt.request.score_only) {
    MOERUN_TRY(moerun__json_double(&c.log_probability, object,
                                   "log_probability", -HUGE_VAL, 0, NULL,
                                   origin));
    out->scored_tokens = line->prompt.request.num_prompt - 1;
    out->log_probability = c.log_probability;
  } else {
    MOERUN_TRY(read_generated(&c, line, object, origin));
  }
  MOERUN_TRY(print_result(line, &c));
done:
  return status;
}

static moerun_status read_error(moerun__result_line *line, int64_t index,
                                const json_t *object, const char *origin) {
  moerun_status status = MOERUN_OK;
  const json_t *id = json_object_get(object, "id");
  const char *reason = NULL;
  MOERUN_REQUIRE(json_is_string(id) || json_is_integer(id), MOERUN_ERR_FORMAT,
                 "%s: key \"id\": expected a string or an integer", origin);
  MOERUN_TRY(moerun__json_text(&reason, object, "error", 1, origin));
  line->part.count = 0;
  MOERUN_TRY(json_is_string(id)
                 ? moerun__text_json(&line->part, json_string_value(id),
                                     json_string_length(id))
                 : moerun__text_print(&line->part, "%lld",
                                      (long long)json_integer_value(id)));
  MOERUN_TRY(print_error(line, index, line->part.bytes, reason));
done:
  return status;
}

static moerun_status read_line(moerun__result_found *out,
                               moerun__result_line *line,
                               const moerun__lines *lines, const char *origin) {
  moerun_status status = MOERUN_OK;
  json_t *object = NULL;
  const int64_t count = moerun__prompts_count(line->prompts);
  const int64_t last = moerun__prompts_place(line->prompts, count - 1).line;
  const int64_t first = 0;
  int64_t number = 0;
  int64_t sample = 0;
  MOERUN_TRY(moerun__json_parse(&object, lines->line.bytes, lines->line.count,
                                origin));
  MOERUN_REQUIRE(json_is_object(object), MOERUN_ERR_FORMAT,
                 "%s: expected a JSON object, found %s", origin,
                 moerun__json_kind(object));
  MOERUN_TRY(moerun__json_int(&number, object, "index", 0, last, NULL, origin));
  MOERUN_TRY(moerun__json_int(&sample, object, "sample", 0, INT32_MAX, &first,
                              origin));
  out->is_error = json_object_get(object, "error") != NULL;
  out->index = moerun__prompts_find(line->prompts, number, (int32_t)sample);
  MOERUN_REQUIRE(out->index >= 0, MOERUN_ERR_FORMAT,
                 "%s: cannot resume: request %lld of this run has no sample "
                 "%lld: %s",
                 origin, (long long)number, (long long)sample, to_do);
  MOERUN_TRY(out->is_error ? read_error(line, out->index, object, origin)
                           : read_result(out, line, object, origin));
  MOERUN_TRY(compare(line, lines, origin));
done:
  json_decref(object);
  return status;
}

/* ---- A torn line --------------------------------------------------------- */

/* Whether `bytes` and `wanted` are the same as far as both go. */
static int agrees(const char *bytes, size_t count, const char *wanted,
                  size_t length) {
  return memcmp(bytes, wanted, count < length ? count : length) == 0;
}

/* Whether the bytes begin with line->text and go on with some of `letters`,
 * then with `next`, as far as they go. */
static int continues(const moerun__result_line *line, const char *bytes,
                     size_t count, const char *letters, const char *next) {
  const moerun__text *head = &line->text;
  if (!agrees(bytes, count, head->bytes, head->count)) return 0;
  size_t at = head->count;
  while (at < count && strchr(letters, bytes[at]) != NULL) {
    at++;
  }
  return at >= count || agrees(bytes + at, count - at, next, strlen(next));
}

/* Whether it may be what is wrong with request `index`. */
static moerun_status may_be_error(int *out, moerun__result_line *line,
                                  int64_t index, const char *id,
                                  const char *bytes, size_t count) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(print_start(line, index, id));
  MOERUN_TRY(moerun__text_print(&line->text, "\"error\":\""));
  *out |= agrees(bytes, count, line->text.bytes, line->text.count);
done:
  return status;
}

/* What stands behind the tokens of line->prompt. */
static const char *after_tokens(const moerun__result_line *line) {
  const moerun__request *request = &line->prompt.request;
  if (line->tokenizer != NULL) return "],\"text\":\"";
  if (request->logprobs.prompt && request->num_prompt > 1) {
    return "],\"prompt_logprobs\":[null";
  }
  return request->logprobs.generated ? "],\"logprobs\":[" : "],\"finish\":\"";
}

/* Whether `count` bytes that say `index` may be its line. A request may have
 * been wrong and mended since, and its id have become legible by that. */
static moerun_status may_be_line(int *out, moerun__result_line *line,
                                 int64_t index, const char *bytes,
                                 size_t count) {
  moerun_status status = MOERUN_OK;
  char place[32];
  const char *id = NULL;
  *out = 0;
  (void)snprintf(place, sizeof place, "%lld", (long long)index);
  if (moerun__prompts_error(line->prompts, index, &id) == NULL) {
    MOERUN_TRY(print_head(line, index));
    id = line->prompt.id.bytes;
    *out =
        line->prompt.request.score_only
            ? continues(line, bytes, count, "0123456789+-.e", ",\"digest\"")
            : continues(line, bytes, count, "0123456789,", after_tokens(line));
  }
  MOERUN_TRY(may_be_error(out, line, index, id, bytes, count));
  MOERUN_TRY(may_be_error(out, line, index, place, bytes, count));
done:
  return status;
}

/* The request that `count` bytes may be the start of a line of: one of those
 * of the line whose number they say, or none that they tell. */
static moerun_status may_be_ours(int *is_ours, int64_t *index,
                                 moerun__result_line *line, const char *bytes,
                                 size_t count) {
  moerun_status status = MOERUN_OK;
  const size_t length = sizeof start - 1;
  size_t at = length;
  int64_t number = 0;
  *is_ours = count == 0 || agrees(bytes, count, start, length);
  while (at < count && at < length + LONGEST_INDEX && bytes[at] >= '0' &&
         bytes[at] <= '9') {
    number = 10 * number + (bytes[at++] - '0');
  }
  const int64_t last = moerun__prompts_count(line->prompts) - 1;
  *is_ours =
      *is_ours && number <= moerun__prompts_place(line->prompts, last).line;
  if (!*is_ours || at >= count) goto done;
  *is_ours = 0;
  const int64_t first = moerun__prompts_find(line->prompts, number, 0);
  if (first < 0) goto done;
  const int32_t parts = moerun__prompts_place(line->prompts, first).parts;
  for (int32_t part = 0; part < parts && !*is_ours; part++) {
    MOERUN_TRY(may_be_line(is_ours, line, first + part, bytes, count));
    *index = first + part;
  }
done:
  return status;
}

static const moerun__result_form own = {.print = print_result,
                                        .print_error = print_error,
                                        .read = read_line,
                                        .may_be = may_be_ours};

/* ---- Of either form ------------------------------------------------------ */

static const moerun__result_form *form_of(const moerun__result_line *line) {
  return moerun__prompts_are_batch(line->prompts) ? &moerun__result_batch
                                                  : &own;
}

int32_t moerun__result_line_parts(const moerun__result_line *line,
                                  int64_t index) {
  return form_of(line) == &own
             ? 1
             : moerun__prompts_place(line->prompts, index).parts;
}

moerun_status moerun__result_line_print(moerun__result_line *line,
                                        const moerun__completion *all) {
  return form_of(line)->print(line, all);
}

moerun_status moerun__result_line_print_error(moerun__result_line *line,
                                              int64_t index, const char *id,
                                              const char *reason) {
  return form_of(line)->print_error(line, index, id, reason);
}

moerun_status moerun__result_line_read(moerun__result_found *out,
                                       moerun__result_line *line,
                                       const moerun__lines *lines) {
  char origin[ORIGIN_BYTES];
  *out = (moerun__result_found){0};
  (void)snprintf(origin, sizeof origin, "%s:%lld", lines->path,
                 (long long)lines->number);
  return form_of(line)->read(out, line, lines, origin);
}

moerun_status moerun__result_line_check_torn(int64_t *index,
                                             moerun__result_line *line,
                                             const moerun__lines *lines) {
  moerun_status status = MOERUN_OK;
  const char *bytes = lines->line.bytes;
  size_t count = lines->line.count;
  int is_ours = 0;
  *index = -1;
  while (count > 0 && bytes[count - 1] == '\0') {
    count--;
  }
  MOERUN_TRY(form_of(line)->may_be(&is_ours, index, line, bytes, count));
  MOERUN_REQUIRE(
      is_ours, MOERUN_ERR_FORMAT,
      "%s:%lld: cannot resume: expected a line end, or the start of "
      "a result of this run, which a killed run leaves behind, found "
      "%zu other bytes: move the file away, or --overwrite replaces "
      "it",
      lines->path, (long long)lines->number, count);
done:
  return status;
}
