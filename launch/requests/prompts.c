/* Requests in general: limits, digests, and reading one again. What differs
 * between kinds of input stands in prompts_jsonl.c, prompts_rows.c and
 * prompts_windows.c.
 *
 * A file of many GB must not cost its size in memory, so a request is read
 * twice: once to be checked, before anything of the run exists, and once when
 * its turn comes. The digest guards the time between. */
#include "launch/requests/prompts_input.h"

#include "launch/requests/prompt_settings.h"
#include "launch/requests/prompt_stops.h"
#include "runtime/base/digest.h"
#include "runtime/base/file.h"
#include "runtime/base/memory.h"
#include "runtime/base/number.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

moerun_status moerun__prompts_create(moerun__prompts **out, const char *path,
                                     const moerun__prompts_input *input,
                                     const moerun__prompt_options *options) {
  moerun_status status = MOERUN_OK;
  moerun__prompts *prompts = NULL;
  *out = NULL;
  MOERUN_TRY(moerun__alloc(&prompts, 1, sizeof *prompts));
  prompts->input = input;
  prompts->options = *options;
  prompts->reports_bad = options->on_error == MOERUN_ON_ERROR_LINE;
  prompts->file = -1;
  MOERUN_TRY(moerun__copy_text(&prompts->path, path));
  MOERUN_TRY(moerun__copy_text(&prompts->name,
                               options->name != NULL ? options->name : path));
  prompts->options.name = prompts->name;
  *out = prompts;
  prompts = NULL;
done:
  moerun__prompts_destroy(prompts);
  return status;
}

void moerun__prompts_destroy(moerun__prompts *prompts) {
  if (prompts == NULL) return;
  if (prompts->file >= 0) (void)close(prompts->file);
  moerun__npy_close(prompts->array);
  moerun__token_list_clear(&prompts->text);
  moerun__free(prompts->path);
  for (int64_t i = 0; prompts->bad != NULL && i < prompts->count; i++) {
    moerun__free(prompts->bad[i].reason);
    moerun__free(prompts->bad[i].id);
  }
  moerun__free(prompts->bad);
  moerun__free(prompts->name);
  moerun__free(prompts->offset);
  moerun__free(prompts->digest);
  moerun__free(prompts->positions);
  moerun__free(prompts->new_tokens);
  moerun__free(prompts->place);
  moerun__free(prompts);
}

void moerun__prompt_clear(moerun__prompt *prompt) {
  moerun__text_clear(&prompt->id);
  moerun__text_clear(&prompt->line);
  moerun__text_clear(&prompt->batch.model);
  moerun__text_clear(&prompt->batch.text);
  moerun__token_list_clear(&prompt->tokens);
  moerun__token_list_clear(&prompt->stop_tokens);
  moerun__text_clear(&prompt->stop_text);
  json_decref(prompt->parsed);
  memset(prompt, 0, sizeof *prompt);
}

void moerun__prompt_begin(moerun__prompt *prompt,
                          const moerun__prompt_options *options) {
  prompt->id.count = 0;
  prompt->has_id = 0;
  prompt->has_seed = 0;
  prompt->tokens.count = 0;
  prompt->stop_tokens.count = 0;
  prompt->stop_text.count = 0;
  prompt->overruled = 0;
  prompt->blames_model = 0;
  prompt->place = (moerun__prompt_place){.parts = 1};
  prompt->samples = 1;
  prompt->batch.is_chat = 0;
  prompt->batch.echoes = 0;
  prompt->batch.is_echo = 0;
  prompt->batch.model.count = 0;
  prompt->batch.text.count = 0;
  prompt->request = (moerun__request){.max_new_tokens = options->max_new_tokens,
                                      .min_new_tokens = options->min_new_tokens,
                                      .sampling = options->sampling,
                                      .logprobs = options->logprobs};
}

moerun_status moerun__prompt_put_bos(moerun__prompt *prompt, int32_t bos) {
  moerun_status status = MOERUN_OK;
  moerun__token_list *tokens = &prompt->tokens;
  const size_t count = tokens->count;
  if (bos < 0 || (count > 0 && tokens->id[0] == bos)) goto done;
  MOERUN_TRY(moerun__token_list_append(tokens, bos));
  memmove(tokens->id + 1, tokens->id, count * sizeof *tokens->id);
  tokens->id[0] = bos;
done:
  return status;
}

moerun_status moerun__prompt_put_around(moerun__prompt *prompt,
                                        const moerun__prompt_options *o) {
  moerun_status status = MOERUN_OK;
  moerun__token_list *tokens = &prompt->tokens;
  const size_t count = tokens->count;
  const int has_bos = count > 0 && tokens->id[0] == o->text_bos;
  const size_t front = o->text_front != NULL ? o->text_front->count - 1 : 0;
  const size_t behind = o->text_behind != NULL ? o->text_behind->count : 0;
  MOERUN_TRY(moerun__token_list_reserve(tokens, front + behind));
  if (!has_bos && front > 0) {
    memmove(tokens->id + front, tokens->id, count * sizeof *tokens->id);
    memcpy(tokens->id, o->text_front->id + 1, front * sizeof *tokens->id);
    tokens->count += front;
  }
  if (!has_bos) MOERUN_TRY(moerun__prompt_put_bos(prompt, o->text_bos));
  for (size_t i = 0; i < behind; i++) {
    MOERUN_TRY(moerun__token_list_append(tokens, o->text_behind->id[i]));
  }
done:
  return status;
}

/* The stream of draws that the id names. */
static uint64_t stream_of_id(const moerun__prompt *prompt) {
  return moerun__digest_span(MOERUN_DIGEST_START, prompt->id.bytes,
                             prompt->id.count);
}

/* Everything that the result of a request depends on, and its id. What does not
 * count, such as a seed where nothing is drawn, has its default here, so that
 * --resume asks for nothing that made no difference. */
static uint64_t digest_of(const moerun__prompts *prompts,
                          const moerun__prompt *prompt) {
  const moerun__request *r = &prompt->request;
  const moerun__prompt_batch *b = &prompt->batch;
  moerun__request effective = *r;
  if (!(r->sampling.temperature > 0)) {
    effective.sampling.top_p = 1;
    effective.sampling.top_k = 0;
    effective.sampling.min_p = 0;
    effective.sampling.seed = 0;
    effective.sampling.stream = stream_of_id(prompt);
  }
  const int priority = prompts->options.drops ? r->priority : 0;
  uint64_t d = moerun__digest_int(MOERUN_DIGEST_START,
                                  (int64_t)prompts->options.run_digest);
  d = moerun__digest_span(d, prompt->id.bytes, prompt->id.count);
  d = moerun__digest_int(d, (int64_t)prompt->tokens.count);
  for (size_t i = 0; i < prompt->tokens.count; i++) {
    d = moerun__digest_int(d, prompt->tokens.id[i]);
  }
  d = moerun__digest_int(d, r->score_only);
  if (priority > 0) d = moerun__digest_int(d, priority);
  d = moerun__settings_digest(d, &effective);
  d = moerun__stops_digest(d, &r->stops);
  d = moerun__digest_int(d, (int64_t)effective.sampling.stream);
  if (prompt->place.part > 0) d = moerun__digest_int(d, prompt->place.part);
  if (!moerun__prompts_are_batch(prompts)) return d;
  d = moerun__digest_int(d, 2 * b->echoes + b->is_echo);
  d = moerun__digest_int(d, b->is_chat);
  d = moerun__digest_span(d, b->text.bytes, b->text.count);
  return moerun__digest_span(d, b->model.bytes, b->model.count);
}

/* The stream of a request: the first sample's, and one apart for each other. */
static uint64_t stream_of(const moerun__prompt *prompt) {
  const int32_t sample = prompt->place.part % prompt->samples;
  const uint64_t first = prompt->has_seed ? 0 : stream_of_id(prompt);
  return sample == 0 ? first : moerun__digest_int(first, sample);
}

/* The request's fields that follow from its tokens. */
static void complete(moerun__prompt *prompt, const moerun__prompts *prompts,
                     int64_t index) {
  prompt->request.index = index;
  prompt->request.num_prompt = moerun__to_int((int64_t)prompt->tokens.count);
  prompt->request.prompt = prompt->tokens.id;
  prompt->request.sampling.stream = stream_of(prompt);
  prompt->digest = digest_of(prompts, prompt);
}

static moerun_status check_limits(const moerun__prompts *prompts,
                                  const moerun__prompt *prompt,
                                  const char *origin) {
  moerun_status status = MOERUN_OK;
  const moerun__prompt_options *o = &prompts->options;
  const int64_t length = (int64_t)prompt->tokens.count;
  const int32_t more = prompt->request.max_new_tokens;
  const char *name =
      moerun__prompts_are_batch(prompts) ? "max_tokens" : "max_new_tokens";
  MOERUN_REQUIRE(length >= 1, MOERUN_ERR_FORMAT,
                 "%s: expected at least one token, found an empty prompt",
                 origin);
  for (size_t i = 0; i < prompt->tokens.count; i++) {
    const int32_t id = prompt->tokens.id[i];
    MOERUN_REQUIRE(id >= 0 && id < o->vocab_size, MOERUN_ERR_FORMAT,
                   "%s: token %zu: expected an id of 0 to %d, found %d", origin,
                   i, o->vocab_size - 1, id);
  }
  MOERUN_REQUIRE(prompts->window == 0 || length <= o->max_positions,
                 MOERUN_ERR_FORMAT,
                 "%s: expected at most %d tokens (the model's "
                 "max_position_embeddings), found %lld: a smaller --window has "
                 "room",
                 origin, o->max_positions, (long long)length);
  MOERUN_REQUIRE(prompt->request.logprobs.top <= o->vocab_size,
                 MOERUN_ERR_FORMAT,
                 "%s: top_logprobs: expected at most the vocabulary's %d, "
                 "found %d",
                 origin, o->vocab_size, prompt->request.logprobs.top);
  MOERUN_REQUIRE(length + more <= o->max_positions, MOERUN_ERR_FORMAT,
                 "%s: expected at most %d tokens (the model's "
                 "max_position_embeddings), found %lld of the prompt and "
                 "%s %d",
                 origin, o->max_positions, (long long)length, name, more);
  MOERUN_REQUIRE(length + more <= o->kv_tokens, MOERUN_ERR_FORMAT,
                 "%s: expected at most %d tokens (--kv-tokens, the cache of "
                 "one rank), found %lld of the prompt and "
                 "%s %d: a larger --kv-tokens%s has room",
                 origin, o->kv_tokens, (long long)length, name, more,
                 prompts->window > 0 ? " or a smaller --window" : "");
done:
  return status;
}

/* Room for `count` requests and the end of the last. */
static moerun_status reserve(moerun__prompts *prompts, size_t count) {
  moerun_status status = MOERUN_OK;
  if (count < prompts->room) goto done;
  const size_t room = count < 64 ? 64 : count + count / 2;
  const size_t old = prompts->room;
  MOERUN_TRY(
      moerun__resize(&prompts->offset, old, room, sizeof *prompts->offset));
  MOERUN_TRY(
      moerun__resize(&prompts->digest, old, room, sizeof *prompts->digest));
  MOERUN_TRY(moerun__resize(&prompts->bad, old, room, sizeof *prompts->bad));
  memset(prompts->bad + old, 0, (room - old) * sizeof *prompts->bad);
  MOERUN_TRY(
      moerun__resize(&prompts->place, old, room, sizeof *prompts->place));
  MOERUN_TRY(moerun__resize(&prompts->positions, old, room,
                            sizeof *prompts->positions));
  MOERUN_TRY(moerun__resize(&prompts->new_tokens, old, room,
                            sizeof *prompts->new_tokens));
  prompts->room = room;
done:
  return status;
}

moerun_status moerun__prompts_add(moerun__prompts *prompts,
                                  moerun__prompt *prompt, int64_t offset,
                                  const char *origin) {
  moerun_status status = MOERUN_OK;
  moerun__prompts_sums *sums = &prompts->sums;
  MOERUN_TRY(check_limits(prompts, prompt, origin));
  if (prompt->place.part % prompt->samples ==
      0) { /* else it was ended before */
    MOERUN_TRY(moerun__prompt_end_stops(prompt, &prompts->options, origin));
  }
  MOERUN_TRY(reserve(prompts, (size_t)prompts->count + 1));
  complete(prompt, prompts, prompts->count);
  prompts->offset[prompts->count] = offset;
  prompts->digest[prompts->count] = prompt->digest;
  for (unsigned i = 0; i < MOERUN_SETTINGS && prompt->place.part == 0; i++) {
    sums->overruled[i] += prompt->overruled >> i & 1U;
  }
  sums->sampled += prompt->request.sampling.temperature > 0;
  const int32_t width = moerun__logprobs_width(&prompt->request.logprobs);
  if (width > sums->logprobs_width) sums->logprobs_width = width;
  prompts->num_lines += prompt->place.part == 0;
  prompts->place[prompts->count] = prompt->place;
  prompts->place[prompts->count].line = prompts->num_lines - 1;
  const moerun__stops *stops = &prompt->request.stops;
  const int32_t stop_bytes = moerun__stops_bytes(stops);
  if (stop_bytes > sums->stop_bytes) sums->stop_bytes = stop_bytes;
  sums->has_stop_texts |= stops->num_texts > 0;
  prompts->positions[prompts->count] =
      prompt->request.num_prompt + prompt->request.max_new_tokens;
  prompts->new_tokens[prompts->count] = prompt->request.max_new_tokens;
  prompts->count++;
done:
  return status;
}

/* "FILE:7: …" as "line 7: …": where the file lies is no part of a result. */
static moerun_status copy_reason(char **out, const char *name,
                                 const char *message) {
  moerun_status status = MOERUN_OK;
  static const char line[] = "line ";
  const size_t length = strlen(name);
  const int names_line = strncmp(message, name, length) == 0 &&
                         message[length] == ':' && message[length + 1] >= '0' &&
                         message[length + 1] <= '9';
  const char *rest = names_line ? message + length + 1 : message;
  const size_t bytes = sizeof line + strlen(rest);
  MOERUN_TRY(moerun__alloc(out, bytes, 1));
  (void)snprintf(*out, bytes, "%s%s", names_line ? line : "", rest);
done:
  return status;
}

moerun_status moerun__prompts_settle_at(moerun__prompts *prompts, int64_t index,
                                        const char *id, moerun_status status) {
  moerun__bad_prompt *bad = &prompts->bad[index];
  const int is_wrong =
      status == MOERUN_ERR_FORMAT || status == MOERUN_ERR_UNSUPPORTED;
  if (!is_wrong || !prompts->reports_bad) return status;
  MOERUN_TRY(copy_reason(&bad->reason, prompts->name, moerun_last_error()));
  MOERUN_TRY(moerun__copy_text(&bad->id, id));
  prompts->num_bad++;
done:
  return status;
}

moerun_status moerun__prompts_settle(moerun__prompts *prompts,
                                     const moerun__prompt *prompt,
                                     int64_t offset, moerun_status status) {
  const int64_t index = prompts->count;
  char place[32];
  if (status == MOERUN_OK || prompt->blames_model) return status;
  (void)snprintf(place, sizeof place, "%lld", (long long)prompts->num_lines);
  const moerun_status reserved = reserve(prompts, (size_t)index + 1);
  if (reserved != MOERUN_OK) return reserved;
  const char *none = moerun__prompts_are_batch(prompts) ? "null" : place;
  MOERUN_TRY(moerun__prompts_settle_at(
      prompts, index, prompt->id.count > 0 ? prompt->id.bytes : none, status));
  prompts->place[index] =
      (moerun__prompt_place){.line = prompts->num_lines++, .parts = 1};
  prompts->offset[index] = offset;
  prompts->digest[index] = 0;
  prompts->positions[index] = 0;
  prompts->new_tokens[index] = 0;
  prompts->count++;
done:
  return status;
}

moerun_status moerun__prompts_is_array(int *out, const char *path) {
  moerun_status status = MOERUN_OK;
  char start[6];
  size_t got = 0;
  const int file = open(path, O_RDONLY | O_CLOEXEC);
  MOERUN_REQUIRE(file >= 0, MOERUN_ERR_IO, "%s: cannot be opened: %s", path,
                 moerun__file_reason());
  MOERUN_TRY(moerun__file_get(&got, start, sizeof start, file, 0, path));
  *out = got == sizeof start && memcmp(start, "\x93NUMPY", got) == 0;
done:
  if (file >= 0) (void)close(file);
  return status;
}

static moerun_status finish_open(moerun__prompts **out, moerun_status status) {
  if (status != MOERUN_OK) {
    moerun__prompts_destroy(*out);
    *out = NULL;
  }
  return status;
}

moerun_status moerun__prompts_open(moerun__prompts **out, const char *path,
                                   const moerun__prompt_options *options) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(
      moerun__prompts_create(out, path, &moerun__prompts_jsonl, options));
  MOERUN_TRY(moerun__prompts_scan_jsonl(*out));
done:
  return finish_open(out, status);
}

moerun_status
moerun__prompts_open_tokens(moerun__prompts **out, const char *path,
                            const moerun__prompt_options *options) {
  moerun_status status = MOERUN_OK;
  int is_array = 0;
  *out = NULL;
  MOERUN_TRY(moerun__prompts_is_array(&is_array, path));
  const moerun__prompts_input *input =
      is_array ? &moerun__prompts_rows : &moerun__prompts_jsonl;
  MOERUN_TRY(moerun__prompts_create(out, path, input, options));
  (*out)->ids_only = 1;
  MOERUN_TRY(is_array ? moerun__prompts_scan_rows(*out)
                      : moerun__prompts_scan_jsonl(*out));
done:
  return finish_open(out, status);
}

moerun_status
moerun__prompts_open_score(moerun__prompts **out, const char *path,
                           int32_t window,
                           const moerun__prompt_options *options) {
  moerun_status status = MOERUN_OK;
  int is_array = 0;
  *out = NULL;
  MOERUN_TRY(moerun__prompts_is_array(&is_array, path));
  MOERUN_TRY(
      moerun__prompts_create(out, path, &moerun__prompts_windows, options));
  (*out)->window = window;
  MOERUN_TRY(moerun__prompts_scan_windows(*out, is_array));
done:
  return finish_open(out, status);
}

int64_t moerun__prompts_count(const moerun__prompts *prompts) {
  return prompts->count;
}

moerun__prompt_place moerun__prompts_place(const moerun__prompts *prompts,
                                           int64_t index) {
  return prompts->place[index];
}

int64_t moerun__prompts_find(const moerun__prompts *prompts, int64_t line,
                             int32_t part) {
  int64_t low = 0;
  int64_t high = prompts->count - 1;
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    const moerun__prompt_place *p = &prompts->place[middle];
    if (p->line < line || (p->line == line && p->part < part)) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  const moerun__prompt_place *found = &prompts->place[low];
  return found->line == line && found->part == part ? low : -1;
}

int moerun__prompts_are_batch(const moerun__prompts *prompts) {
  return prompts->input == &moerun__prompts_batch;
}

int64_t moerun__prompts_num_lines(const moerun__prompts *prompts) {
  return prompts->num_lines;
}

int64_t moerun__prompts_num_bad(const moerun__prompts *prompts) {
  return prompts->num_bad;
}

moerun_status moerun__prompts_check(const moerun__prompts *prompts,
                                    int has_results) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(prompts->num_bad == 0, MOERUN_ERR_FORMAT,
                 "%lld of %lld line%s %s wrong%s%s",
                 (long long)prompts->num_bad, (long long)prompts->num_lines,
                 prompts->num_lines == 1 ? "" : "s",
                 prompts->num_bad == 1 ? "was" : "were",
                 !has_results            ? ""
                 : prompts->num_bad == 1 ? " and has"
                                         : " and have",
                 has_results ? " \"error\" in place of a result" : "");
done:
  return status;
}

const char *moerun__prompts_error(const moerun__prompts *prompts, int64_t index,
                                  const char **id) {
  *id = prompts->bad[index].id;
  return prompts->bad[index].reason;
}

int64_t moerun__prompts_overruled(const moerun__prompts *prompts,
                                  moerun__prompt_setting setting) {
  return prompts->sums.overruled[setting];
}

int64_t moerun__prompts_sampled(const moerun__prompts *prompts) {
  return prompts != NULL ? prompts->sums.sampled : 0;
}

uint64_t moerun__prompts_digest(const moerun__prompts *prompts, int64_t index) {
  return prompts->digest[index];
}

int32_t moerun__prompts_stop_bytes(const moerun__prompts *prompts) {
  return prompts->sums.stop_bytes;
}

int moerun__prompts_have_stop_texts(const moerun__prompts *prompts) {
  return prompts->sums.has_stop_texts;
}

int32_t moerun__prompts_logprobs_width(const moerun__prompts *prompts) {
  return prompts->sums.logprobs_width;
}

int32_t moerun__prompts_positions(const moerun__prompts *prompts,
                                  int64_t index) {
  return prompts->positions[index];
}

int32_t moerun__prompts_new_tokens(const moerun__prompts *prompts,
                                   int64_t index) {
  return prompts->new_tokens[index];
}

int moerun__prompts_are_scored(const moerun__prompts *prompts) {
  return prompts->window > 0;
}

int64_t moerun__prompts_scored_bytes(const moerun__prompts *prompts) {
  return prompts->scored_bytes;
}

/* Whether `out` has the sample before request `index`, of the same prompt:
 * reading a long prompt takes its time. Behind its tokens may stand others. */
static int has_sample_before(const moerun__prompts *prompts,
                             const moerun__prompt *out, int64_t index) {
  const moerun__prompt_place *place = &prompts->place[index];
  return place->part > 0 && out->samples > 1 &&
         place->part % out->samples > 0 &&
         out->digest == prompts->digest[index - 1] &&
         out->place.line == place->line && out->place.part + 1 == place->part;
}

moerun_status moerun__prompts_read(const moerun__prompts *prompts,
                                   moerun__prompt *out, int64_t index) {
  moerun_status status = MOERUN_OK;
  char origin[512];
  if (has_sample_before(prompts, out, index)) {
    out->place = prompts->place[index];
    out->tokens.count = (size_t)out->request.num_prompt;
    out->request.num_kept = 0;
    complete(out, prompts, index);
    return status;
  }
  (void)snprintf(origin, sizeof origin, "%s: request %lld", prompts->name,
                 (long long)index);
  moerun__prompt_begin(out, &prompts->options);
  out->place = prompts->place[index];
  status = prompts->input->read(prompts, out, index, origin);
  if (status == MOERUN_OK) {
    status = moerun__prompt_end_stops(out, &prompts->options, origin);
  }
  if (status == MOERUN_OK) complete(out, prompts, index);
  /* What was right before is wrong now, or is another request. */
  const int is_other = status == MOERUN_OK
                           ? out->digest != prompts->digest[index]
                           : status != MOERUN_ERR_NOMEM &&
                                 status != MOERUN_ERR_IO &&
                                 status != MOERUN_ERR_STOPPED;
  MOERUN_REQUIRE(!is_other, MOERUN_ERR_FORMAT,
                 "%s: the file was changed while the run was reading it",
                 origin);
done:
  return status;
}
