/* Lines of results as OpenAI's Batch API has them: one for each line of the
 * batch file, with all its choices, or with what was wrong with it.
 *
 * Nothing in a line comes from a clock or from chance. Its "id" has the 32
 * digits that this program's own results call a digest: 16 of the line's
 * requests and all that their outputs depend on but the weights, 16 of the
 * weights (0 where there is no answer). By them --resume finds the line that a
 * result is of. The tokens are not there, so that printing anew could not tell
 * whether somebody has changed it; "request_id" has 16 digits of all other
 * bytes of the line for that. "created" is 0. */
#include "launch/results/result_line.h"

#include "launch/results/result_batch_logprobs.h"
#include "runtime/base/digest.h"
#include "runtime/base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char start[] = "{\"id\":\"batch_req_";
static const char after_digits[] = "\",\"custom_id\":";
static const char check_key[] = "\"request_id\":\"req_";
static const char no_check[] = "0000000000000000";
static const char no_weights[] = "0000000000000000";
static const char to_do[] =
    "without this line its request runs again; --overwrite starts afresh";

enum { CHECK_DIGITS = sizeof no_check - 1 };

/* The digits of a line, and its first request. */
typedef struct moerun__batch_digest {
  char text[MOERUN_REQUEST_DIGITS + 1];
  int64_t index;
} moerun__batch_digest;

static void digits_of(char out[MOERUN_REQUEST_DIGITS + 1],
                      const moerun__prompts *prompts, int64_t index) {
  const int32_t parts = moerun__prompts_place(prompts, index).parts;
  uint64_t digest = MOERUN_DIGEST_START;
  for (int32_t i = 0; i < parts; i++) {
    digest = moerun__digest_int(
        digest, (int64_t)moerun__prompts_digest(prompts, index + i));
  }
  (void)snprintf(out, MOERUN_REQUEST_DIGITS + 1, "%016llx",
                 (unsigned long long)digest);
}

/* ---- Printing ------------------------------------------------------------ */

static moerun_status print_head(moerun__result_line *line, const char *digits,
                                const char *weights, const char *id, int code) {
  line->text.count = 0;
  return moerun__text_print(
      &line->text, "%s%s%s%s%s,\"response\":{\"status_code\":%d,%s%s\",", start,
      digits, weights, after_digits, id, code, check_key, no_check);
}

/* Where the digits that check the line stand; NULL: nowhere. */
static const char *check_of(const char *bytes, size_t count) {
  const size_t length = sizeof check_key - 1;
  for (size_t i = 0; i + length + CHECK_DIGITS <= count; i++) {
    if (memcmp(bytes + i, check_key, length) == 0) return bytes + i + length;
  }
  return NULL;
}

/* The digits of all bytes but these. */
static void print_check(char out[CHECK_DIGITS + 1], const char *bytes,
                        size_t count, const char *check) {
  const size_t before = (size_t)(check - bytes);
  uint64_t digest = moerun__digest_bytes(MOERUN_DIGEST_START, bytes, before);
  digest = moerun__digest_bytes(digest, check + CHECK_DIGITS,
                                count - before - CHECK_DIGITS);
  (void)snprintf(out, CHECK_DIGITS + 1, "%016llx", (unsigned long long)digest);
}

/* Ends the line and puts its check in. */
static moerun_status print_end(moerun__result_line *line) {
  moerun_status status = MOERUN_OK;
  moerun__text *text = &line->text;
  char check[CHECK_DIGITS + 1];
  const char *place = check_of(text->bytes, text->count);
  print_check(check, text->bytes, text->count, place);
  memcpy(text->bytes + (place - text->bytes), check, CHECK_DIGITS);
  MOERUN_TRY(moerun__text_append(text, "\n", 1));
done:
  return status;
}

/* The text of an answer: what was generated, behind the prompt if it echoes. */
static moerun_status print_answer(moerun__result_line *line,
                                  const moerun__completion *c) {
  moerun_status status = MOERUN_OK;
  const moerun__prompt *prompt = &line->prompt;
  const moerun__prompt_batch *b = &prompt->batch;
  moerun__text *part = &line->part;
  part->count = 0;
  if (b->echoes && b->text.count > 0) {
    MOERUN_TRY(moerun__text_append(part, b->text.bytes, b->text.count));
  } else if (b->echoes) {
    MOERUN_TRY(moerun__tokenizer_decode(line->tokenizer, part,
                                        prompt->request.prompt,
                                        (size_t)c->num_prompt, 0));
  }
  if (!b->is_echo) {
    MOERUN_TRY(moerun__result_text(line, c));
  }
  MOERUN_TRY(moerun__text_json(&line->text, part->bytes, part->count));
done:
  return status;
}

static moerun_status print_choice(moerun__result_line *line,
                                  const moerun__completion *c, int32_t at) {
  moerun_status status = MOERUN_OK;
  moerun__text *text = &line->text;
  const moerun__prompt_batch *b = &line->prompt.batch;
  MOERUN_TRY(
      moerun__text_print(text, "%s{\"index\":%d,", at > 0 ? "," : "", at));
  MOERUN_TRY(moerun__text_print(
      text, b->is_chat ? "\"message\":{\"role\":\"assistant\",\"content\":"
                       : "\"text\":"));
  MOERUN_TRY(print_answer(line, c));
  MOERUN_TRY(moerun__text_print(text, b->is_chat
                                          ? ",\"refusal\":null},\"logprobs\":"
                                          : ",\"logprobs\":"));
  MOERUN_TRY(moerun__batch_logprobs_print(line, c));
  MOERUN_TRY(moerun__text_print(
      text, ",\"finish_reason\":\"%s\"}",
      c->finish == MOERUN_FINISH_LENGTH || b->is_echo ? "length" : "stop"));
done:
  return status;
}

/* Each prompt counts once, whatever its samples. */
static moerun_status print_usage(moerun__result_line *line,
                                 const moerun__completion *all, int32_t parts) {
  int64_t prompt = 0;
  int64_t generated = 0;
  for (int32_t i = 0; i < parts; i++) {
    if (i % line->prompt.samples == 0) prompt += all[i].num_prompt;
    if (!line->prompt.batch.is_echo) generated += all[i].num_tokens;
  }
  const int64_t total = prompt + generated;
  return moerun__text_print(&line->text,
                            "\"usage\":{\"prompt_tokens\":%lld,"
                            "\"completion_tokens\":%lld,\"total_tokens\":%lld}",
                            (long long)prompt, (long long)generated,
                            (long long)total);
}

static moerun_status print_answers(moerun__result_line *line,
                                   const moerun__completion *all) {
  moerun_status status = MOERUN_OK;
  const int64_t index = all->index;
  const int32_t parts = moerun__prompts_place(line->prompts, index).parts;
  const moerun__prompt *prompt = &line->prompt;
  const moerun__prompt_batch *b = &prompt->batch;
  char digits[MOERUN_REQUEST_DIGITS + 1];
  digits_of(digits, line->prompts, index);
  MOERUN_TRY(moerun__prompts_read(line->prompts, &line->prompt, index));
  MOERUN_TRY(
      print_head(line, digits, line->weights.text, prompt->id.bytes, 200));
  MOERUN_TRY(moerun__text_print(
      &line->text,
      "\"body\":{\"id\":\"%s-%s\",\"object\":\"%s\",\"created\":0,\"model\":%s,"
      "\"choices\":[",
      b->is_chat ? "chatcmpl" : "cmpl", digits,
      b->is_chat ? "chat.completion" : "text_completion",
      b->model.count > 0 ? b->model.bytes : "\"\""));
  for (int32_t i = 0; i < parts; i++) {
    if (i > 0) {
      MOERUN_TRY(moerun__prompts_read(line->prompts, &line->prompt, index + i));
    }
    MOERUN_TRY(print_choice(line, &all[i], i));
  }
  MOERUN_TRY(moerun__text_print(&line->text, "],"));
  MOERUN_TRY(print_usage(line, all, parts));
  MOERUN_TRY(moerun__text_print(&line->text,
                                ",\"system_fingerprint\":\"fp_%.16s\"}},"
                                "\"error\":null}",
                                line->weights.text));
  MOERUN_TRY(print_end(line));
done:
  return status;
}

/* Readers look at one of two places for what went wrong: both have it. */
static moerun_status print_error(moerun__result_line *line, int64_t index,
                                 const char *id, const char *reason) {
  moerun_status status = MOERUN_OK;
  moerun__text message = {0};
  char digits[MOERUN_REQUEST_DIGITS + 1];
  uint64_t digest = moerun__digest_text(MOERUN_DIGEST_START, id);
  (void)index;
  digest = moerun__digest_text(digest, reason);
  (void)snprintf(digits, sizeof digits, "%016llx", (unsigned long long)digest);
  MOERUN_TRY(moerun__text_json(&message, reason, strlen(reason)));
  MOERUN_TRY(print_head(line, digits, no_weights, id, 400));
  MOERUN_TRY(moerun__text_print(
      &line->text,
      "\"body\":{\"error\":{\"message\":%s,\"type\":\"invalid_request_error\","
      "\"param\":null,\"code\":null}}},\"error\":{\"code\":"
      "\"invalid_request_error\",\"message\":%s}}",
      message.bytes, message.bytes));
  MOERUN_TRY(print_end(line));
done:
  moerun__text_clear(&message);
  return status;
}

/* ---- What is there ------------------------------------------------------- */

static int compare_digests(const void *a, const void *b) {
  const moerun__batch_digest *x = a;
  const moerun__batch_digest *y = b;
  return strcmp(x->text, y->text);
}

static moerun_status sort_digests(moerun__result_line *line) {
  moerun_status status = MOERUN_OK;
  const moerun__prompts *prompts = line->prompts;
  const int64_t count = moerun__prompts_count(prompts);
  const char *id = NULL;
  if (line->digest != NULL) goto done;
  MOERUN_TRY(moerun__alloc(&line->digest, (size_t)count, sizeof *line->digest));
  line->num_digests = 0;
  for (int64_t i = 0; i < count; i++) {
    if (moerun__prompts_place(prompts, i).part > 0 ||
        moerun__prompts_error(prompts, i, &id) != NULL) {
      continue;
    }
    moerun__batch_digest *d = &line->digest[line->num_digests++];
    digits_of(d->text, prompts, i);
    d->index = i;
  }
  qsort(line->digest, line->num_digests, sizeof *line->digest, compare_digests);
done:
  return status;
}

/* The first request of the line with these digits; -1: this run has none. */
static int64_t find(const moerun__result_line *line, const char *digits) {
  moerun__batch_digest wanted = {.index = -1};
  memcpy(wanted.text, digits, MOERUN_REQUEST_DIGITS);
  const moerun__batch_digest *found = bsearch(
      &wanted, line->digest, line->num_digests, sizeof wanted, compare_digests);
  return found != NULL ? found->index : -1;
}

static int is_error(const char *digits) {
  return memcmp(digits + MOERUN_REQUEST_DIGITS, no_weights,
                MOERUN_REQUEST_DIGITS) == 0;
}

/* Whether a line is as this program left it. */
static moerun_status check_line(const char *bytes, size_t count,
                                const char *origin) {
  moerun_status status = MOERUN_OK;
  char check[CHECK_DIGITS + 1] = "";
  const size_t head = sizeof start - 1 + MOERUN_RESULT_DIGITS;
  const int is_begun =
      count > head && memcmp(bytes, start, sizeof start - 1) == 0;
  MOERUN_REQUIRE(is_begun, MOERUN_ERR_FORMAT,
                 "%s: cannot resume: expected an answer of a batch file, as "
                 "this program writes it: %s",
                 origin, to_do);
  const char *place = check_of(bytes, count);
  if (place != NULL) print_check(check, bytes, count, place);
  MOERUN_REQUIRE(
      place != NULL && memcmp(place, check, CHECK_DIGITS) == 0,
      MOERUN_ERR_FORMAT,
      "%s: cannot resume: \"request_id\": expected req_%s, which the other "
      "bytes of the line give: it was changed since it was written: %s",
      origin, check, to_do);
done:
  return status;
}

static moerun_status read_line(moerun__result_found *out,
                               moerun__result_line *line,
                               const moerun__lines *lines, const char *origin) {
  moerun_status status = MOERUN_OK;
  moerun__weights_digits *weights = &line->weights;
  const char *bytes = lines->line.bytes;
  MOERUN_TRY(sort_digests(line));
  MOERUN_TRY(check_line(bytes, lines->line.count, origin));
  const char *digits = bytes + sizeof start - 1;
  out->is_error = is_error(digits);
  if (out->is_error) goto done;
  out->index = find(line, digits);
  MOERUN_REQUIRE(out->index >= 0, MOERUN_ERR_FORMAT,
                 "%s: cannot resume: this result was made by another request "
                 "than any of this run (model, line, --add-bos, "
                 "--max-new-tokens, sampling, --wire, --compute, --kernels, "
                 "--gate-top-k or --capacity differ); --overwrite starts "
                 "afresh",
                 origin);
  const char *found = digits + MOERUN_REQUEST_DIGITS;
  if (weights->text[0] == '\0') {
    memcpy(weights->text, found, sizeof weights->text - 1);
    weights->text[sizeof weights->text - 1] = '\0';
  }
  MOERUN_REQUIRE(
      memcmp(found, weights->text, sizeof weights->text - 1) == 0,
      MOERUN_ERR_FORMAT,
      "%s: cannot resume: this result was made with other weights than those "
      "before it; --overwrite starts afresh",
      origin);
done:
  return status;
}

/* Nothing else begins with the digits of a request of this run. */
static moerun_status may_be_ours(int *is_ours, int64_t *index,
                                 moerun__result_line *line, const char *bytes,
                                 size_t count) {
  moerun_status status = MOERUN_OK;
  const size_t length = sizeof start - 1;
  const size_t digits = length + MOERUN_RESULT_DIGITS;
  const size_t more = sizeof after_digits - 1;
  MOERUN_TRY(sort_digests(line));
  *is_ours = memcmp(bytes, start, count < length ? count : length) == 0;
  if (!*is_ours || count < digits) goto done;
  *is_ours = memcmp(bytes + digits, after_digits,
                    count - digits < more ? count - digits : more) == 0;
  if (!*is_ours || is_error(bytes + length)) goto done;
  *index = find(line, bytes + length);
  *is_ours = *index >= 0;
done:
  return status;
}

const moerun__result_form moerun__result_batch = {.print = print_answers,
                                                  .print_error = print_error,
                                                  .read = read_line,
                                                  .may_be = may_be_ours};
