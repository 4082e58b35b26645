/* bos_token_id and eos_token_id. An id outside the vocabulary is common (the
 * default of a class beside a trimmed vocabulary) and harmless: no text has it
 * and nothing generates it, so it is left out with a warning, as it never
 * matches in transformers. -1 is how some files write "none". */
#include "runtime/base/json.h"
#include "runtime/base/log.h"
#include "runtime/base/number.h"
#include "runtime/model/arch_row.h"

#include <errno.h>
#include <sys/stat.h>

/* *out: -1 for an id that is not in the vocabulary. */
static moerun_status read_token(int32_t *out, const json_t *item,
                                const char *key, int32_t vocab_size,
                                const char *origin) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(json_is_integer(item), MOERUN_ERR_FORMAT,
                 "%s: key \"%s\": expected a token id, found %s", origin, key,
                 moerun__json_kind(item));
  const json_int_t id = json_integer_value(item);
  const int is_inside = id >= 0 && id < vocab_size;
  if (!is_inside && id != -1) {
    LOG_ROOT(MOERUN_LOG_WARN,
             "%s: key \"%s\": token id %lld is ignored: the vocabulary has ids "
             "0 to %d",
             origin, key, (long long)id, vocab_size - 1);
  }
  *out = is_inside ? (int32_t)id : -1;
done:
  return status;
}

/* One id or a list. */
static moerun_status read_eos(moerun__model_config *config, const json_t *eos,
                              const char *origin) {
  moerun_status status = MOERUN_OK;
  const int is_list = json_is_array(eos);
  const size_t count = is_list ? json_array_size(eos) : 1;
  config->num_eos = 0;
  for (size_t i = 0; i < count; i++) {
    int32_t id = -1;
    const json_t *item = is_list ? json_array_get(eos, i) : eos;
    MOERUN_TRY(
        read_token(&id, item, "eos_token_id", config->vocab_size, origin));
    if (id < 0) continue;
    MOERUN_REQUIRE(config->num_eos < MOERUN_MAX_EOS, MOERUN_ERR_UNSUPPORTED,
                   "%s: key \"eos_token_id\": expected at most %d ids, found "
                   "%zu",
                   origin, MOERUN_MAX_EOS, count);
    config->eos_token[config->num_eos++] = id;
  }
done:
  return status;
}

/* A missing key leaves what is there, null means none. */
static moerun_status read_both(moerun__model_config *config, const json_t *root,
                               const char *origin) {
  moerun_status status = MOERUN_OK;
  const json_t *bos = json_object_get(root, "bos_token_id");
  const json_t *eos = json_object_get(root, "eos_token_id");
  if (json_is_null(bos)) {
    config->bos_token = -1;
  } else if (bos != NULL) {
    MOERUN_TRY(read_token(&config->bos_token, bos, "bos_token_id",
                          config->vocab_size, origin));
  }
  if (json_is_null(eos)) {
    config->num_eos = 0;
  } else if (eos != NULL) {
    MOERUN_TRY(read_eos(config, eos, origin));
  }
done:
  return status;
}

moerun_status moerun__arch_read_tokens(moerun__model_config *config,
                                       const json_t *root, const char *origin) {
  const moerun__arch *arch = config->arch;
  config->bos_token = -1;
  if (arch->default_bos < config->vocab_size) {
    config->bos_token = moerun__to_int(arch->default_bos);
  }
  if (arch->default_eos >= 0 && arch->default_eos < config->vocab_size) {
    config->num_eos = 1;
    config->eos_token[0] = moerun__to_int(arch->default_eos);
  }
  return read_both(config, root, origin);
}

moerun_status moerun__arch_load_generation(moerun__model_config *config,
                                           const char *file) {
  moerun_status status = MOERUN_OK;
  struct stat facts;
  json_t *root = NULL;
  if (stat(file, &facts) != 0 && errno == ENOENT) goto done;
  MOERUN_TRY(moerun__json_load(&root, file, MOERUN_MAX_CONFIG_BYTES));
  MOERUN_TRY(read_both(config, root, file));
done:
  json_decref(root);
  return status;
}

int moerun__config_is_eos(const moerun__model_config *config, int32_t token) {
  for (int32_t i = 0; i < config->num_eos; i++) {
    if (config->eos_token[i] == token) return 1;
  }
  return 0;
}
