/* Functions that every template has: those of Jinja, and those that Hugging
 * Face transformers adds for chats. */
#include "runtime/text/template/render.h"

#include <string.h>

static moerun_status function_range(moerun__value *out, moerun__render *r,
                                    const moerun__value *subject,
                                    const moerun__value *a,
                                    const moerun__arguments *given) {
  enum { MOST = 100000 }; /* as in Jinja's sandbox */
  moerun_status status = MOERUN_OK;
  moerun__range *range = NULL;
  int64_t start = 0;
  int64_t stop = 0;
  int64_t step = 1;
  const int64_t far = (int64_t)1 << 61;
  const int one = a[1].kind == VALUE_ABSENT;
  (void)subject;
  (void)given;
  MOERUN_TRY(moerun__want_integer(one ? &stop : &start, &a[0], 0, "range"));
  if (!one) MOERUN_TRY(moerun__want_integer(&stop, &a[1], 0, "range"));
  MOERUN_TRY(moerun__want_integer(&step, &a[2], 1, "range"));
  MOERUN_REQUIRE(step != 0, MOERUN_ERR_INVALID, "range: a step of 0");
  MOERUN_REQUIRE(start > -far && start < far && stop > -far && stop < far &&
                     step > -far && step < far,
                 MOERUN_ERR_UNSUPPORTED, "range: numbers beyond 2^61");
  const int64_t way = step > 0 ? stop - start : start - stop;
  const int64_t size = step > 0 ? step : -step;
  const int64_t count = way > 0 ? (way - 1) / size + 1 : 0;
  MOERUN_REQUIRE(count <= MOST, MOERUN_ERR_INVALID,
                 "range: expected at most %d numbers, found %lld", MOST,
                 (long long)count);
  MOERUN_TRY(moerun__pool_take(&r->pool, &range, sizeof *range));
  *range = (moerun__range){start, step, (size_t)count};
  *out = (moerun__value){.kind = VALUE_RANGE, .range = range};
done:
  return status;
}

/* A mapping of what is given: a mapping or pairs, and names. */
static moerun_status gather(moerun__value *out, moerun__render *r,
                            moerun__value_kind kind,
                            const moerun__arguments *given) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__dict_value(out, &r->pool, kind, 0));
  MOERUN_REQUIRE(given->count <= 1, MOERUN_ERR_INVALID,
                 "dict and namespace take one argument without a name");
  if (given->count == 1 && given->at[0].kind == VALUE_DICT) {
    const moerun__dict *from = given->at[0].dict;
    for (size_t i = 0; i < from->count; i++) {
      MOERUN_TRY(moerun__render_look_up(r, out->dict, &from->at[i].key));
      MOERUN_TRY(moerun__dict_set(out->dict, &r->pool, &from->at[i].key,
                                  &from->at[i].value));
    }
  } else if (given->count == 1) {
    const moerun__values *pairs = NULL;
    MOERUN_REQUIRE(given->at[0].kind != VALUE_UNDEFINED, MOERUN_ERR_INVALID,
                   "\"%.60s\" is not defined", given->at[0].missing.name);
    MOERUN_TRY(moerun__elements(&pairs, r, &given->at[0]));
    for (size_t i = 0; i < pairs->count; i++) {
      const moerun__values *pair = NULL;
      MOERUN_TRY(moerun__elements(&pair, r, &pairs->at[i]));
      MOERUN_REQUIRE(pair->count == 2 && moerun__is_hashable(&pair->at[0]),
                     MOERUN_ERR_INVALID,
                     "dict: expected pairs of a key and a value");
      MOERUN_TRY(moerun__render_look_up(r, out->dict, &pair->at[0]));
      MOERUN_TRY(
          moerun__dict_set(out->dict, &r->pool, &pair->at[0], &pair->at[1]));
    }
  }
  for (size_t i = 0; i < given->named_count; i++) {
    MOERUN_TRY(moerun__dict_set(out->dict, &r->pool, &given->named[i].name,
                                &given->named[i].value));
  }
done:
  return status;
}

static moerun_status function_dict(moerun__value *out, moerun__render *r,
                                   const moerun__value *subject,
                                   const moerun__value *a,
                                   const moerun__arguments *given) {
  (void)subject;
  (void)a;
  return gather(out, r, VALUE_DICT, given);
}

static moerun_status function_namespace(moerun__value *out, moerun__render *r,
                                        const moerun__value *subject,
                                        const moerun__value *a,
                                        const moerun__arguments *given) {
  moerun_status status = MOERUN_OK;
  (void)subject;
  (void)a;
  MOERUN_TRY(gather(out, r, VALUE_NAMESPACE, given));
  for (size_t i = 0; i < out->dict->count; i++) {
    const moerun__value *name = &out->dict->at[i].key;
    MOERUN_REQUIRE(name->kind != VALUE_TEXT || name->text.count == 0 ||
                       name->text.bytes[0] != '_',
                   MOERUN_ERR_INVALID,
                   "a name that begins with \"_\" cannot be in a namespace");
  }
done:
  return status;
}

static moerun_status function_raise(moerun__value *out, moerun__render *r,
                                    const moerun__value *subject,
                                    const moerun__value *a,
                                    const moerun__arguments *given) {
  enum { MOST = 500 };
  moerun_status status = MOERUN_OK;
  moerun__value text;
  (void)out;
  (void)subject;
  (void)given;
  MOERUN_TRY(moerun__as_text(&text, r, &a[0]));
  MOERUN_REQUIRE(0, MOERUN_ERR_INVALID, "the chat template says: %.*s",
                 (int)(text.text.count < MOST ? text.text.count : MOST),
                 text.text.count > 0 ? text.text.bytes : "");
done:
  return status;
}

static moerun_status function_strftime(moerun__value *out, moerun__render *r,
                                       const moerun__value *subject,
                                       const moerun__value *a,
                                       const moerun__arguments *given) {
  moerun_status status = MOERUN_OK;
  char *format = NULL;
  char made[512];
  (void)subject;
  (void)given;
  MOERUN_TRY(moerun__want_text(&a[0], "strftime_now"));
  MOERUN_REQUIRE(a[0].text.count < 128, MOERUN_ERR_UNSUPPORTED,
                 "strftime_now: a format of more than 127 bytes");
  MOERUN_TRY(moerun__pool_take(&r->pool, &format, a[0].text.count + 1));
  if (a[0].text.count > 0) memcpy(format, a[0].text.bytes, a[0].text.count);
  const size_t length = strftime(made, sizeof made, format, r->clock);
  MOERUN_TRY(moerun__text_value(out, &r->pool, made, length));
done:
  return status;
}

static moerun_status function_joiner(moerun__value *out, moerun__render *r,
                                     const moerun__value *subject,
                                     const moerun__value *a,
                                     const moerun__arguments *given) {
  moerun_status status = MOERUN_OK;
  moerun__joiner *joiner = NULL;
  (void)subject;
  (void)given;
  MOERUN_TRY(moerun__pool_take(&r->pool, &joiner, sizeof *joiner));
  joiner->between =
      a[0].kind != VALUE_ABSENT ? a[0] : moerun__borrowed_text(", ", 2);
  *out = (moerun__value){.kind = VALUE_JOINER, .joiner = joiner};
done:
  return status;
}

const moerun__builtin moerun__functions[] = {
    {"range", function_range, "start stop step", 1},
    {"dict", function_dict, "*", 0},
    {"namespace", function_namespace, "*", 0},
    {"raise_exception", function_raise, "message", 1},
    {"strftime_now", function_strftime, "format", 1},
    {"joiner", function_joiner, "sep", 0},
    {"cycler", NULL, "*", 0}, /* not known */
    {"lipsum", NULL, "*", 0},
    {NULL, NULL, NULL, 0}};

/* ---- Methods of loops ---------------------------------------------------- */

static moerun_status loop_cycle(moerun__value *out, moerun__render *r,
                                const moerun__value *subject,
                                const moerun__value *a,
                                const moerun__arguments *given) {
  moerun_status status = MOERUN_OK;
  (void)r;
  (void)a;
  MOERUN_REQUIRE(given->count > 0, MOERUN_ERR_INVALID,
                 "loop.cycle needs an argument");
  *out = given->at[subject->loop->index % given->count];
done:
  return status;
}

static moerun_status loop_changed(moerun__value *out, moerun__render *r,
                                  const moerun__value *subject,
                                  const moerun__value *a,
                                  const moerun__arguments *given) {
  moerun_status status = MOERUN_OK;
  moerun__loop *loop = subject->loop;
  moerun__value now;
  int equal = 0;
  (void)a;
  MOERUN_TRY(moerun__values_make(&now, &r->pool, VALUE_TUPLE, given->count));
  if (given->count > 0) {
    memcpy(now.sequence->at, given->at, given->count * sizeof *given->at);
  }
  now.sequence->count = given->count;
  MOERUN_TRY(moerun__value_equal(&equal, &loop->changed, &now, 0, &r->steps));
  *out = moerun__truth(!equal);
  loop->changed = now;
done:
  return status;
}

const moerun__builtin moerun__loop_methods[] = {
    {"cycle", loop_cycle, "*", 0},
    {"changed", loop_changed, "*", 0},
    {NULL, NULL, NULL, 0}};
