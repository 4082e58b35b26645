/* How rotary positions reach beyond the context of the training: the rules of
 * Hugging Face transformers (modeling_rope_utils.py), a row each. Frequencies
 * are computed in double by exact_math.h, as the angles are that follow from
 * them, so that tables are exact at any position that a model may have; what
 * transformers computes in fp32 is within its rounding.
 *
 * Two rules depend on how long a sequence becomes. Here a frequency is the same
 * at every position, so that a prompt may be cut anywhere: "dynamic" differs
 * from the plain rule only beyond max_position_embeddings, where no request
 * goes; and "longrope" has its short factors, with contexts up to
 * original_max_position_embeddings. */
#include "runtime/model/rope_kinds.h"

#include "runtime/base/exact_math.h"
#include "runtime/base/json.h"
#include "runtime/base/log.h"
#include "runtime/base/memory.h"

#include <math.h>
#include <string.h>

static const double two_pi = 6.283185307179586476925;
static const double most_factor = 1e6;

/* What is read: the object of the rule, and what stands beside it; and whose
 * longest context the rule may change. */
typedef struct source {
  moerun__model_config *config;
  const json_t *inside;
  const json_t *root;
  const char *origin;
} source;

struct moerun__rope_kind {
  const char *name;
  moerun_status (*read)(moerun__rope *rope, const source *from);
  /* Frequency number i, of which the plain one is given. */
  double (*frequency)(const moerun__rope *rope, int32_t i, double plain);
};

/* ---- What several have --------------------------------------------------- */

static moerun_status read_number(double *out, const source *from,
                                 const char *key, double low, double high,
                                 const double *fallback) {
  moerun_status status = MOERUN_OK;
  const json_t *value = json_object_get(from->inside, key);
  MOERUN_REQUIRE(fallback != NULL || json_is_number(value), MOERUN_ERR_FORMAT,
                 "%s: key \"%s\" of the rotary positions: expected a number, "
                 "found %s",
                 from->origin, key, moerun__json_kind(value));
  MOERUN_TRY(moerun__json_double(out, from->inside, key, low, high, fallback,
                                 from->origin));
done:
  return status;
}

/* The context of the training: what stands beside the object wins. */
static moerun_status read_original(moerun__rope *rope, const source *from) {
  moerun_status status = MOERUN_OK;
  static const char key[] = "original_max_position_embeddings";
  const int64_t all = from->config->max_positions;
  int64_t original = all;
  MOERUN_TRY(moerun__json_int(&original, from->inside, key, 1,
                              MOERUN_MAX_POSITIONS, &all, from->origin));
  MOERUN_TRY(moerun__json_int(&original, from->root, key, 1,
                              MOERUN_MAX_POSITIONS, &original, from->origin));
  rope->original = (double)original;
done:
  return status;
}

/* A missing or null factor is the ratio of the contexts. */
static moerun_status read_ratio(moerun__rope *rope, const source *from) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(read_original(rope, from));
  const double ratio = (double)from->config->max_positions / rope->original;
  MOERUN_TRY(
      read_number(&rope->factor, from, "factor", 1.0, most_factor, &ratio));
done:
  return status;
}

static moerun_status read_factor(moerun__rope *rope, const source *from) {
  return read_number(&rope->factor, from, "factor", 1.0, most_factor, NULL);
}

/* ---- The rules ----------------------------------------------------------- */

static double divided(const moerun__rope *rope, int32_t i, double plain) {
  (void)i;
  return plain / rope->factor;
}

static moerun_status read_llama3(moerun__rope *rope, const source *from) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(read_factor(rope, from));
  MOERUN_TRY(read_original(rope, from));
  MOERUN_TRY(read_number(&rope->low, from, "low_freq_factor", 1e-6, 1e6, NULL));
  MOERUN_TRY(
      read_number(&rope->high, from, "high_freq_factor", 1e-6, 1e6, NULL));
  MOERUN_REQUIRE(rope->high > rope->low, MOERUN_ERR_FORMAT,
                 "%s: key \"high_freq_factor\": expected more than "
                 "low_freq_factor",
                 from->origin);
done:
  return status;
}

/* Short waves stay, long ones are stretched, those between are mixed. */
static double llama3(const moerun__rope *rope, int32_t i, double plain) {
  const double turns = rope->original * plain / two_pi; /* in that context */
  (void)i;
  if (turns > rope->high) return plain;
  if (turns < rope->low) return plain / rope->factor;
  const double smooth = (turns - rope->low) / (rope->high - rope->low);
  return (1.0 - smooth) * plain / rope->factor + smooth * plain;
}

static double mscale_of(double factor, double by) {
  return factor <= 1.0 ? 1.0 : 0.1 * by * moerun__exact_log(factor) + 1.0;
}

static moerun_status read_yarn(moerun__rope *rope, const source *from) {
  moerun_status status = MOERUN_OK;
  const double none = 0.0;
  const int yes = 1;
  double by = 0.0;
  double by_all = 0.0;
  int truncate = 1;
  MOERUN_TRY(read_ratio(rope, from));
  MOERUN_REQUIRE(rope->theta > 1.0, MOERUN_ERR_UNSUPPORTED,
                 "%s: key \"rope_theta\": expected more than 1 with yarn",
                 from->origin);
  MOERUN_TRY(read_number(&by, from, "mscale", 0.0, 1e3, &none));
  MOERUN_TRY(read_number(&by_all, from, "mscale_all_dim", 0.0, 1e3, &none));
  const double usual =
      by > 0.0 && by_all > 0.0
          ? mscale_of(rope->factor, by) / mscale_of(rope->factor, by_all)
          : mscale_of(rope->factor, 1.0);
  MOERUN_TRY(read_number(&rope->amplitude, from, "attention_factor", 0.0, 1e6,
                         &usual));
  MOERUN_TRY(read_number(&rope->high, from, "beta_fast", 0.0, 1e6, &none));
  MOERUN_TRY(read_number(&rope->low, from, "beta_slow", 0.0, 1e6, &none));
  if (rope->high == 0.0) rope->high = 32.0;
  if (rope->low == 0.0) rope->low = 1.0;
  if (json_is_null(json_object_get(from->inside, "truncate"))) {
    truncate = 0; /* unlike a missing key */
  } else {
    MOERUN_TRY(moerun__json_bool(&truncate, from->inside, "truncate", &yes,
                                 from->origin));
  }
  rope->truncate = truncate;
  const double reach = rope->factor * rope->original;
  if (reach > from->config->max_positions && reach <= MOERUN_MAX_POSITIONS) {
    from->config->max_positions = (int32_t)reach;
  }
done:
  return status;
}

/* Number of the frequency that turns so often in the context of the
 * training. */
static double place_of(const moerun__rope *rope, double turns) {
  return rope->width * moerun__exact_log(rope->original / (turns * two_pi)) /
         (2.0 * moerun__exact_log(rope->theta));
}

static double yarn(const moerun__rope *rope, int32_t i, double plain) {
  double first = place_of(rope, rope->high);
  double last = place_of(rope, rope->low);
  if (rope->truncate) {
    first = floor(first);
    last = ceil(last);
  }
  if (first < 0.0) first = 0.0;
  if (last > rope->width - 1) last = rope->width - 1;
  if (first == last) last += 0.001;
  double ramp = (i - first) / (last - first);
  ramp = ramp < 0.0 ? 0.0 : ramp > 1.0 ? 1.0 : ramp;
  return plain / rope->factor * ramp + plain * (1.0 - ramp);
}

static moerun_status read_longrope(moerun__rope *rope, const source *from) {
  moerun_status status = MOERUN_OK;
  static const char key[] = "short_factor";
  const json_t *list = json_object_get(from->inside, key);
  const size_t half = (size_t)rope->width / 2;
  MOERUN_TRY(read_ratio(rope, from));
  MOERUN_REQUIRE(json_is_array(list) && json_array_size(list) == half,
                 MOERUN_ERR_FORMAT,
                 "%s: key \"%s\" of the rotary positions: expected an array of "
                 "%zu numbers",
                 from->origin, key, half);
  MOERUN_TRY(moerun__alloc(&rope->each, half, sizeof *rope->each));
  for (size_t i = 0; i < half; i++) {
    const json_t *item = json_array_get(list, i);
    rope->each[i] = json_number_value(item);
    MOERUN_REQUIRE(rope->each[i] >= 0.1, MOERUN_ERR_FORMAT,
                   "%s: key \"%s\" of the rotary positions: element %zu: "
                   "expected a number of at least 0.1",
                   from->origin, key, i);
  }
  const double usual = rope->factor > 1.0 && rope->original > 1.0
                           ? sqrt(1.0 + moerun__exact_log(rope->factor) /
                                            moerun__exact_log(rope->original))
                           : 1.0;
  MOERUN_TRY(read_number(&rope->amplitude, from, "attention_factor", 0.0, 1e6,
                         &usual));
  if (rope->original < from->config->max_positions) {
    from->config->max_positions = (int32_t)rope->original;
    LOG_ROOT(MOERUN_LOG_WARN,
             "%s: longrope: contexts end at the %d tokens of the short factors",
             from->origin, from->config->max_positions);
  }
done:
  return status;
}

static double by_each(const moerun__rope *rope, int32_t i, double plain) {
  return plain / rope->each[i];
}

/* ---- The table ----------------------------------------------------------- */

static const moerun__rope_kind kinds[] = {
    {"linear", read_factor, divided},     {"dynamic", read_factor, NULL},
    {"llama3", read_llama3, llama3},      {"yarn", read_yarn, yarn},
    {"longrope", read_longrope, by_each},
};

const char *moerun__rope_kind_name(const moerun__rope_kind *kind) {
  return kind->name;
}

moerun_status moerun__rope_kind_read(moerun__rope *rope,
                                     moerun__model_config *config,
                                     const char *name, const json_t *inside,
                                     const json_t *root, const char *origin) {
  moerun_status status = MOERUN_OK;
  const source from = {config, inside, root, origin};
  moerun__text known = {0};
  rope->factor = 1.0;
  rope->amplitude = 1.0;
  if (name == NULL || strcmp(name, "default") == 0) goto done;
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    MOERUN_TRY(moerun__text_print(&known, ", %s", kinds[i].name));
    if (strcmp(name, kinds[i].name) == 0) rope->kind = &kinds[i];
  }
  MOERUN_REQUIRE(rope->kind != NULL, MOERUN_ERR_UNSUPPORTED,
                 "%s: rope_type: expected one of default%s, found \"%s\"",
                 origin, known.bytes, name);
  MOERUN_TRY(rope->kind->read(rope, &from));
done:
  moerun__text_clear(&known);
  return status;
}

double moerun__rope_frequency(const moerun__rope *rope, int32_t i) {
  const moerun__rope_kind *kind = rope->kind;
  const double plain =
      moerun__exact_pow(rope->theta, -2.0 * (double)i / (double)rope->width);
  return kind != NULL && kind->frequency != NULL
             ? kind->frequency(rope, i, plain)
             : plain;
}
