#include "launch/options/sampling_options.h"

#include "runtime/base/json.h"
#include "runtime/base/number.h"
#include "runtime/base/text.h"

#include <string.h>

enum { MOST_BYTES = 4 << 20 };

moerun__sampling moerun__sampling_of(const moerun__config *config) {
  return (moerun__sampling){
      .temperature = moerun__config_double(config, "temperature"),
      .top_p = moerun__config_double(config, "top_p"),
      .seed = (uint64_t)moerun__config_int(config, "seed"),
      .top_k = moerun__to_int(moerun__config_int(config, "top_k")),
      .min_p = moerun__config_double(config, "min_p"),
      .repetition_penalty = moerun__config_double(config, "repetition_penalty"),
      .presence_penalty = moerun__config_double(config, "presence_penalty"),
      .frequency_penalty = moerun__config_double(config, "frequency_penalty"),
  };
}

moerun__logprobs_asked moerun__logprobs_of(const moerun__config *config) {
  return (moerun__logprobs_asked){
      .generated = moerun__config_bool(config, "logprobs"),
      .prompt = moerun__config_bool(config, "prompt_logprobs"),
      .top = moerun__to_int(moerun__config_int(config, "top_logprobs"))};
}

static int is_open(const moerun__config *config, const char *key) {
  return moerun__config_origin_of(config, key) == MOERUN_CONFIG_DEFAULT;
}

/* What the file says, or else *out. */
static moerun_status read_real(double *out, const moerun__config *config,
                               const json_t *object, const char *key,
                               double low, double high, const char *origin) {
  const double before = *out;
  return is_open(config, key)
             ? moerun__json_double(out, object, key, low, high, &before, origin)
             : MOERUN_OK;
}

static moerun_status read_file(moerun__sampling *sampling,
                               const moerun__config *config,
                               const json_t *object, const char *origin) {
  moerun_status status = MOERUN_OK;
  const int no = 0;
  const int64_t all = sampling->top_k;
  int samples = 0;
  int64_t top_k = 0;
  MOERUN_TRY(moerun__json_bool(&samples, object, "do_sample", &no, origin));
  if (samples && is_open(config, "temperature")) sampling->temperature = 1;
  if (samples) {
    MOERUN_TRY(read_real(&sampling->temperature, config, object, "temperature",
                         0, 100, origin));
  }
  MOERUN_TRY(
      read_real(&sampling->top_p, config, object, "top_p", 1e-6, 1, origin));
  MOERUN_TRY(
      read_real(&sampling->min_p, config, object, "min_p", 0, 1, origin));
  MOERUN_TRY(read_real(&sampling->repetition_penalty, config, object,
                       "repetition_penalty", 0.01, 100, origin));
  if (is_open(config, "top_k")) {
    MOERUN_TRY(
        moerun__json_int(&top_k, object, "top_k", 0, INT32_MAX, &all, origin));
    sampling->top_k = moerun__to_int(top_k);
  }
done:
  return status;
}

moerun_status moerun__generation_config_apply(moerun__sampling *sampling,
                                              const moerun__config *config) {
  moerun_status status = MOERUN_OK;
  moerun__text path = {0};
  json_t *object = NULL;
  if (strcmp(moerun__config_text(config, "generation_config"), "on") != 0) {
    goto done;
  }
  MOERUN_TRY(moerun__text_print(&path, "%s/generation_config.json",
                                moerun__config_text(config, "model")));
  MOERUN_TRY(moerun__json_load(&object, path.bytes, MOST_BYTES));
  MOERUN_REQUIRE(json_is_object(object), MOERUN_ERR_FORMAT,
                 "%s: expected a JSON object, found %s", path.bytes,
                 moerun__json_kind(object));
  MOERUN_TRY(read_file(sampling, config, object, path.bytes));
done:
  json_decref(object);
  moerun__text_clear(&path);
  return status;
}
