/* A setting is a row here, one of moerun__prompt_setting, and an option of the
 * same key; what it means is with who uses the member of the request that the
 * row names. Digests leave out settings that ask for nothing, so that a setting
 * which is added one day does not make the results of before those of other
 * requests. */
#include "launch/requests/prompt_settings.h"

#include "runtime/base/digest.h"
#include "runtime/base/number.h"

#include <string.h>

typedef enum kind { FLAG, INT, LONG, REAL } kind;

typedef struct row {
  const char *key;
  kind kind;  /* int32_t of 0 or 1, int32_t, uint64_t, double */
  size_t at;  /* of the member in a moerun__request */
  double low; /* a LONG has 0 to INT64_MAX */
  double high;
  double nothing; /* asks for nothing, and counts in no digest; ALWAYS: no
                     value does                                              */
} row;

#define AT(member) offsetof(moerun__request, member)
#define ALWAYS     (-1e9)

static const row rows[MOERUN_SETTINGS] = {
    [MOERUN_SETTING_MAX_NEW_TOKENS] = {"max_new_tokens", INT,
                                       AT(max_new_tokens), 1, 1048576, ALWAYS},
    [MOERUN_SETTING_TEMPERATURE] = {"temperature", REAL,
                                    AT(sampling.temperature), 0, 100, ALWAYS},
    [MOERUN_SETTING_TOP_P] = {"top_p", REAL, AT(sampling.top_p), 1e-6, 1,
                              ALWAYS},
    [MOERUN_SETTING_SEED] = {"seed", LONG, AT(sampling.seed), 0, 0, ALWAYS},
    [MOERUN_SETTING_TOP_K] = {"top_k", INT, AT(sampling.top_k), 0, INT32_MAX,
                              0},
    [MOERUN_SETTING_MIN_P] = {"min_p", REAL, AT(sampling.min_p), 0, 1, 0},
    [MOERUN_SETTING_REPETITION_PENALTY] = {"repetition_penalty", REAL,
                                           AT(sampling.repetition_penalty),
                                           0.01, 100, 1},
    [MOERUN_SETTING_PRESENCE_PENALTY] = {"presence_penalty", REAL,
                                         AT(sampling.presence_penalty), -2, 2,
                                         0},
    [MOERUN_SETTING_FREQUENCY_PENALTY] = {"frequency_penalty", REAL,
                                          AT(sampling.frequency_penalty), -2, 2,
                                          0},
    [MOERUN_SETTING_MIN_NEW_TOKENS] = {"min_new_tokens", INT,
                                       AT(min_new_tokens), 0, 1048576, 0},
    [MOERUN_SETTING_LOGPROBS] = {"logprobs", FLAG, AT(logprobs.generated), 0, 1,
                                 0},
    [MOERUN_SETTING_PROMPT_LOGPROBS] = {"prompt_logprobs", FLAG,
                                        AT(logprobs.prompt), 0, 1, 0},
    [MOERUN_SETTING_TOP_LOGPROBS] = {"top_logprobs", INT, AT(logprobs.top), 0,
                                     20, 0},
};

const char *moerun__setting_key(moerun__prompt_setting setting) {
  return rows[setting].key;
}

moerun__prompt_setting moerun__setting_of(const char *key) {
  int i = 0;
  while (i < MOERUN_SETTINGS && strcmp(rows[i].key, key) != 0) {
    i++;
  }
  return (moerun__prompt_setting)i;
}

/* ---- The member of a request --------------------------------------------- */

static size_t bytes_of(const row *r) {
  return r->kind <= INT ? sizeof(int32_t) : sizeof(double);
}

static void *member(moerun__request *request, const row *r) {
  return (char *)request + r->at;
}

static const void *member_read(const moerun__request *request, const row *r) {
  return (const char *)request + r->at;
}

static moerun_status read_integer(void *out, const row *r, const char *key,
                                  const json_t *object, const char *origin) {
  moerun_status status = MOERUN_OK;
  int32_t small = 0;
  uint64_t large = 0;
  int64_t value = 0;
  memcpy(&small, out, sizeof small);
  if (r->kind == LONG) memcpy(&large, out, sizeof large);
  const int64_t fallback = r->kind == LONG ? (int64_t)large : small;
  MOERUN_TRY(moerun__json_int(&value, object, key, (int64_t)r->low,
                              r->kind == LONG ? INT64_MAX : (int64_t)r->high,
                              &fallback, origin));
  small = r->kind == LONG ? 0 : moerun__to_int(value);
  large = (uint64_t)value;
  memcpy(out, r->kind == LONG ? (const void *)&large : &small, bytes_of(r));
done:
  return status;
}

static moerun_status read_flag(void *out, const char *key, const json_t *object,
                               const char *origin) {
  moerun_status status = MOERUN_OK;
  int32_t flag = 0;
  int value = 0;
  memcpy(&flag, out, sizeof flag);
  const int fallback = flag;
  MOERUN_TRY(moerun__json_bool(&value, object, key, &fallback, origin));
  flag = value != 0;
  memcpy(out, &flag, sizeof flag);
done:
  return status;
}

static moerun_status read_real(void *out, const row *r, const char *key,
                               const json_t *object, const char *origin) {
  moerun_status status = MOERUN_OK;
  double value = 0;
  memcpy(&value, out, sizeof value);
  const double fallback = value;
  MOERUN_TRY(moerun__json_double(&value, object, key, r->low, r->high,
                                 &fallback, origin));
  value += 0.0; /* -0 is 0 */
  memcpy(out, &value, sizeof value);
done:
  return status;
}

void moerun__settings_overrule(moerun__prompt *out,
                               const moerun__request *given, unsigned fixed) {
  for (unsigned i = 0; i < MOERUN_SETTINGS; i++) {
    const row *r = &rows[i];
    void *mine = member(&out->request, r);
    const void *holds = member_read(given, r);
    if ((fixed >> i & 1U) == 0) continue;
    if (memcmp(mine, holds, bytes_of(r)) != 0) out->overruled |= 1U << i;
    memcpy(mine, holds, bytes_of(r));
  }
}

moerun_status moerun__settings_read(moerun__prompt *out, const json_t *object,
                                    const moerun__setting_names *names,
                                    unsigned fixed, const char *origin) {
  moerun_status status = MOERUN_OK;
  const moerun__request given = out->request;
  const moerun__logprobs_asked *asked = &out->request.logprobs;
  for (int i = 0; i < MOERUN_SETTINGS; i++) {
    const row *r = &rows[i];
    void *mine = member(&out->request, r);
    const char *key = names != NULL ? names->key[i] : r->key;
    if (key == NULL) continue;
    MOERUN_TRY(r->kind == REAL   ? read_real(mine, r, key, object, origin)
               : r->kind == FLAG ? read_flag(mine, key, object, origin)
                                 : read_integer(mine, r, key, object, origin));
  }
  MOERUN_REQUIRE(json_object_get(object, "top_logprobs") == NULL ||
                     asked->top == 0 || asked->generated || asked->prompt,
                 MOERUN_ERR_FORMAT,
                 "%s: key \"top_logprobs\": expected \"logprobs\" or "
                 "\"prompt_logprobs\" to be true beside it",
                 origin);
  moerun__settings_overrule(out, &given, fixed);
  out->has_seed = json_object_get(object, "seed") != NULL &&
                  (fixed >> MOERUN_SETTING_SEED & 1U) == 0;
done:
  return status;
}

/* ---- Digests ------------------------------------------------------------- */

uint64_t moerun__settings_digest(uint64_t digest,
                                 const moerun__request *request) {
  for (int i = 0; i < MOERUN_SETTINGS; i++) {
    const row *r = &rows[i];
    int32_t small = 0;
    uint64_t large = 0;
    double real = 0;
    const void *mine = member_read(request, r);
    if (r->kind <= INT) memcpy(&small, mine, sizeof small);
    if (r->kind == LONG) memcpy(&large, mine, sizeof large);
    if (r->kind == REAL) memcpy(&real, mine, sizeof real);
    if (r->kind == REAL ? real == r->nothing : small == r->nothing) continue;
    digest = moerun__digest_int(digest, i);
    digest = r->kind == REAL
                 ? moerun__digest_double(digest, real)
                 : moerun__digest_int(digest,
                                      r->kind <= INT ? small : (int64_t)large);
  }
  return digest;
}
