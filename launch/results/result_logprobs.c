/* "logprobs" has a number for each generated token, "top_logprobs" a list of
 * [id, number] for each, and the same with "prompt_" in front for the tokens of
 * the prompt, where the first, which nothing stands before, has null. A number
 * is a float with as many digits as tell it from all others, so that a line
 * that is read and printed again has the same bytes. */
#include "launch/results/result_logprobs.h"

#include "runtime/base/memory.h"

#include <math.h>

/* One key with its list, and the other with the lists of the likeliest. */
typedef struct section {
  const char *key;
  const char *top_key;
  int32_t skipped; /* 1: null stands in front */
  int32_t count;
  int32_t width;
  const int32_t *token; /* [count] whose they are */
  int is_asked;
} section;

enum { SECTIONS = 2 };

/* Of the prompt, then what was generated. */
static void sections_of(section out[SECTIONS], const moerun__completion *c,
                        const moerun__request *request) {
  const moerun__logprobs_asked *asked = &request->logprobs;
  out[0] = (section){
      "prompt_logprobs",      "prompt_top_logprobs", 1,
      c->num_prompt_logprobs, c->logprobs_width,     request->prompt + 1,
      asked->prompt != 0};
  out[1] = (section){"logprobs",           "top_logprobs",    0,
                     c->num_logprobs,      c->logprobs_width, c->token,
                     asked->generated != 0};
}

/* ---- Printing ------------------------------------------------------------ */

static moerun_status print_top(moerun__text *out, const moerun__logprob *all,
                               int32_t width) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__text_append(out, "[", 1));
  for (int32_t i = 1; i < width; i++) {
    MOERUN_TRY(moerun__text_print(out, i == 1 ? "[%d,%.9g]" : ",[%d,%.9g]",
                                  all[i].token, (double)all[i].value));
  }
  MOERUN_TRY(moerun__text_append(out, "]", 1));
done:
  return status;
}

static moerun_status print_section(moerun__text *out, const section *s,
                                   const moerun__logprob *all) {
  moerun_status status = MOERUN_OK;
  const char *first = s->skipped ? "null" : "";
  MOERUN_TRY(moerun__text_print(out, "\"%s\":[%s", s->key, first));
  for (int32_t i = 0; i < s->count; i++) {
    const moerun__logprob *own = all + (size_t)i * (size_t)s->width;
    MOERUN_TRY(moerun__text_print(out, i + s->skipped > 0 ? ",%.9g" : "%.9g",
                                  (double)own->value));
  }
  MOERUN_TRY(moerun__text_print(out, "],"));
  if (s->width == 1) goto done;
  MOERUN_TRY(moerun__text_print(out, "\"%s\":[%s", s->top_key, first));
  for (int32_t i = 0; i < s->count; i++) {
    if (i + s->skipped > 0) MOERUN_TRY(moerun__text_append(out, ",", 1));
    MOERUN_TRY(print_top(out, all + (size_t)i * (size_t)s->width, s->width));
  }
  MOERUN_TRY(moerun__text_print(out, "],"));
done:
  return status;
}

moerun_status moerun__logprobs_print(moerun__text *out,
                                     const moerun__completion *completion,
                                     const moerun__request *request) {
  moerun_status status = MOERUN_OK;
  section sections[SECTIONS];
  const moerun__logprob *all = completion->logprob;
  sections_of(sections, completion, request);
  for (int i = 0; i < SECTIONS; i++) {
    const section *s = &sections[i];
    if (!s->is_asked) continue;
    MOERUN_TRY(print_section(out, s, all));
    all += (size_t)s->count * (size_t)s->width;
  }
done:
  return status;
}

/* ---- Reading ------------------------------------------------------------- */

static moerun_status read_number(float *out, const json_t *value,
                                 const char *key, size_t at,
                                 const char *origin) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(json_is_number(value) &&
                     isfinite((float)json_number_value(value)),
                 MOERUN_ERR_FORMAT,
                 "%s: key \"%s\", element %zu: expected a "
                 "number, found %s",
                 origin, key, at, moerun__json_kind(value));
  *out = (float)json_number_value(value);
done:
  return status;
}

/* The list of a key, which has to have `count` elements and perhaps one
 * before. */
static moerun_status read_list(json_t **out, const json_t *object,
                               const char *key, const section *s,
                               const char *origin) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__json_array(out, object, key, origin));
  const size_t count = (size_t)s->count + (size_t)s->skipped;
  MOERUN_REQUIRE(json_array_size(*out) == count, MOERUN_ERR_FORMAT,
                 "%s: key \"%s\": expected %zu elements, found %zu", origin,
                 key, count, json_array_size(*out));
done:
  return status;
}

static moerun_status read_top(moerun__logprob *out, const section *s,
                              const json_t *list, size_t at,
                              const char *origin) {
  moerun_status status = MOERUN_OK;
  const size_t count = (size_t)s->width - 1;
  MOERUN_REQUIRE(json_is_array(list) && json_array_size(list) == count,
                 MOERUN_ERR_FORMAT,
                 "%s: key \"%s\", element %zu: expected a list of %zu", origin,
                 s->top_key, at, count);
  for (size_t i = 0; i < count; i++) {
    const json_t *pair = json_array_get(list, i);
    const json_t *id = json_array_get(pair, 0);
    MOERUN_REQUIRE(json_is_integer(id) && json_integer_value(id) >= 0 &&
                       json_integer_value(id) <= INT32_MAX,
                   MOERUN_ERR_FORMAT,
                   "%s: key \"%s\", element %zu: expected ids with numbers",
                   origin, s->top_key, at);
    out[1 + i].token = (int32_t)json_integer_value(id);
    MOERUN_TRY(read_number(&out[1 + i].value, json_array_get(pair, 1),
                           s->top_key, at, origin));
  }
done:
  return status;
}

static moerun_status read_section(moerun__logprob *out, const section *s,
                                  const json_t *object, const char *origin) {
  moerun_status status = MOERUN_OK;
  json_t *own = NULL;
  json_t *top = NULL;
  MOERUN_TRY(read_list(&own, object, s->key, s, origin));
  if (s->width > 1) MOERUN_TRY(read_list(&top, object, s->top_key, s, origin));
  for (int32_t i = 0; i < s->count; i++) {
    const size_t at = (size_t)i + (size_t)s->skipped;
    moerun__logprob *here = out + (size_t)i * (size_t)s->width;
    here->token = s->token[i];
    MOERUN_TRY(
        read_number(&here->value, json_array_get(own, at), s->key, at, origin));
    if (top == NULL) continue;
    MOERUN_TRY(read_top(here, s, json_array_get(top, at), at, origin));
  }
done:
  return status;
}

moerun_status moerun__logprobs_read(moerun__completion *completion,
                                    moerun__logprob **buffer, size_t *room,
                                    const moerun__request *request,
                                    const json_t *object, const char *origin) {
  moerun_status status = MOERUN_OK;
  section sections[SECTIONS];
  moerun__completion_count_logprobs(completion, request);
  sections_of(sections, completion, request);
  const size_t count =
      (size_t)(completion->num_prompt_logprobs + completion->num_logprobs) *
      (size_t)completion->logprobs_width;
  if (count > *room) {
    MOERUN_TRY(moerun__resize(buffer, *room, count, sizeof **buffer));
    *room = count;
  }
  completion->logprob = *buffer;
  moerun__logprob *at = *buffer;
  for (int i = 0; i < SECTIONS; i++) {
    if (!sections[i].is_asked) continue;
    MOERUN_TRY(read_section(at, &sections[i], object, origin));
    at += (size_t)sections[i].count * (size_t)sections[i].width;
  }
done:
  return status;
}
