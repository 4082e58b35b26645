/* config.json, read by the feature table (arch_rows.c). Sizes without which no
 * model can be built are required here, although the Hugging Face classes fall
 * back to those of one release. What changes the arithmetic and is not
 * implemented is refused (rotary scaling, a window in force, a bias of the
 * output projection, quantisation, code of its own), never ignored. Every size
 * is bounded so that any product of three of them and an element's bytes fits
 * 63 bits. */
#include "runtime/model/arch.h"

#include "runtime/base/json.h"
#include "runtime/base/memory.h"
#include "runtime/base/number.h"
#include "runtime/base/text.h"
#include "runtime/model/arch_row.h"
#include "runtime/model/attention.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

moerun_status moerun__arch_read_size(int32_t *out, const json_t *root,
                                     const char *key, int64_t high,
                                     const int64_t *fallback,
                                     const char *origin) {
  moerun_status status = MOERUN_OK;
  int64_t value = 0;
  MOERUN_TRY(moerun__json_int(&value, root, key, 1, high, fallback, origin));
  *out = moerun__to_int(value);
done:
  return status;
}

static moerun_status find_row(const moerun__arch **out, const json_t *root,
                              const char *origin) {
  moerun_status status = MOERUN_OK;
  const char *type = NULL;
  const char *name = NULL;
  moerun__text known = {0};
  MOERUN_TRY(moerun__json_text(&type, root, "model_type", 1, origin));
  *out = moerun__arch_find(type);
  if (*out != NULL) goto done;
  for (int i = 0; (name = moerun__arch_name_at(i)) != NULL; i++) {
    MOERUN_TRY(moerun__text_print(&known, "%s%s", i > 0 ? ", " : "", name));
  }
  MOERUN_REQUIRE(0, MOERUN_ERR_UNSUPPORTED,
                 "%s: key \"model_type\": expected one of %s, found \"%s\"",
                 origin, known.bytes, type);
done:
  moerun__text_clear(&known);
  return status;
}

/* transformers 5 maps num_experts and num_local_experts onto each other and
 * may save either. */
static moerun_status read_experts(moerun__model_config *config,
                                  const json_t *root, const char *origin) {
  moerun_status status = MOERUN_OK;
  static const char *const keys[] = {"num_experts", "num_local_experts"};
  const char *key = config->arch->experts_key;
  for (int i = 0; i < 2; i++) {
    if (json_object_get(root, key) == NULL &&
        json_object_get(root, keys[i]) != NULL) {
      key = keys[i];
    }
  }
  MOERUN_TRY(moerun__arch_read_size(&config->num_experts, root, key,
                                    MOERUN_MAX_EXPERTS, NULL, origin));
  for (int i = 0; i < 2; i++) {
    const int64_t same = config->num_experts;
    int32_t found = 0;
    MOERUN_TRY(moerun__arch_read_size(&found, root, keys[i], MOERUN_MAX_EXPERTS,
                                      &same, origin));
    MOERUN_REQUIRE(found == same, MOERUN_ERR_FORMAT,
                   "%s: key \"%s\": expected %d as in \"%s\", found %d", origin,
                   keys[i], config->num_experts, key, found);
  }
  MOERUN_TRY(moerun__arch_read_home(config, root, origin));
  const char *top_k = config->arch->top_k_key != NULL ? config->arch->top_k_key
                                                      : "num_experts_per_tok";
  MOERUN_TRY(moerun__arch_read_size(&config->experts_per_token, root, top_k,
                                    moerun__config_choices(config), NULL,
                                    origin));
  MOERUN_REQUIRE(config->experts_per_token <= MOERUN_MAX_TERMS,
                 MOERUN_ERR_UNSUPPORTED,
                 "%s: key \"%s\": expected at most %d experts of a token, "
                 "found %d",
                 origin, top_k, MOERUN_MAX_TERMS, config->experts_per_token);
done:
  return status;
}

static int is_class(const moerun__arch *arch, const char *name) {
  return strcmp(name, arch->class_name) == 0 ||
         (arch->other_class != NULL && strcmp(name, arch->other_class) == 0);
}

/* A checkpoint that was written for other code than the family's own, which
 * may compute anything. */
static moerun_status refuse_other_classes(const moerun__arch *arch,
                                          const json_t *root,
                                          const char *origin) {
  moerun_status status = MOERUN_OK;
  const json_t *map = json_object_get(root, "auto_map");
  const json_t *classes = json_object_get(root, "architectures");
  MOERUN_REQUIRE(map == NULL || json_is_null(map) ||
                     (json_is_object(map) && json_object_size(map) == 0),
                 MOERUN_ERR_UNSUPPORTED,
                 "%s: key \"auto_map\": expected none, found code of the "
                 "checkpoint's own, which is not run: remove the key if that "
                 "code computes what %s of transformers does",
                 origin, arch->class_name);
  if (classes == NULL || json_is_null(classes)) goto done;
  MOERUN_REQUIRE(json_is_array(classes), MOERUN_ERR_FORMAT,
                 "%s: key \"architectures\": expected an array, found %s",
                 origin, moerun__json_kind(classes));
  for (size_t i = 0; i < json_array_size(classes); i++) {
    const char *name = json_string_value(json_array_get(classes, i));
    MOERUN_REQUIRE(name != NULL && is_class(arch, name), MOERUN_ERR_UNSUPPORTED,
                   "%s: key \"architectures\": expected \"%s\" for "
                   "model_type \"%s\", found \"%s\"",
                   origin, arch->class_name, arch->name,
                   name != NULL ? name : "no string");
  }
done:
  return status;
}

static moerun_status refuse_others(const moerun__arch *arch, const json_t *root,
                                   const char *origin) {
  moerun_status status = MOERUN_OK;
  const char *activation = NULL;
  int bias = 0;
  const int no = 0;
  const json_t *quantised = json_object_get(root, "quantization_config");
  char dtypes[MOERUN_DTYPE_NAMES];
  moerun__dtype_names(dtypes);
  MOERUN_TRY(moerun__json_text(&activation, root, "hidden_act", 0, origin));
  MOERUN_REQUIRE(activation == NULL || strcmp(activation, "silu") == 0 ||
                     strcmp(activation, "swish") == 0, /* its other name */
                 MOERUN_ERR_UNSUPPORTED,
                 "%s: key \"hidden_act\": expected \"silu\", found \"%s\"",
                 origin, activation);
  MOERUN_TRY(moerun__json_bool(&bias, root, "attention_bias", &no, origin));
  MOERUN_REQUIRE(!bias || arch->ignores_attention_bias, MOERUN_ERR_UNSUPPORTED,
                 "%s: key \"attention_bias\": expected false (a bias of the "
                 "output projection is not implemented), found true",
                 origin);
  bias = 0;
  if (arch->bias_switch != NULL) {
    MOERUN_TRY(moerun__json_bool(&bias, root, arch->bias_switch, &no, origin));
  }
  MOERUN_REQUIRE(!bias, MOERUN_ERR_UNSUPPORTED,
                 "%s: key \"%s\": expected false (biases of feed-forward "
                 "blocks are not implemented), found true",
                 origin, arch->bias_switch);
  MOERUN_REQUIRE(quantised == NULL || json_is_null(quantised),
                 MOERUN_ERR_UNSUPPORTED,
                 "%s: key \"quantization_config\": expected null (weights in "
                 "%s), found %s",
                 origin, dtypes, moerun__json_kind(quantised));
done:
  return status;
}

static moerun_status read_sizes(moerun__model_config *config,
                                const json_t *root, const char *origin) {
  moerun_status status = MOERUN_OK;
  const moerun__arch *arch = config->arch;
  const int64_t none = 0;
  int64_t extra = 0;
  const struct {
    int32_t *out;
    const char *key;
    int64_t high;
    const int64_t *fallback;
  } sizes[] = {
      {&config->num_layers, "num_hidden_layers", MOERUN_MAX_LAYERS, NULL},
      {&config->hidden_width, "hidden_size", MOERUN_MAX_WIDTH, NULL},
      {&config->vocab_size, "vocab_size", MOERUN_MAX_VOCAB, NULL},
      {&config->expert_width, arch->width_key, MOERUN_MAX_WIDTH, NULL},
      {&config->max_positions, "max_position_embeddings", MOERUN_MAX_POSITIONS,
       &arch->default_positions},
  };
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    MOERUN_TRY(moerun__arch_read_size(sizes[i].out, root, sizes[i].key,
                                      sizes[i].high, sizes[i].fallback,
                                      origin));
  }
  MOERUN_TRY(moerun__json_int(&extra, root, "num_nextn_predict_layers", 0,
                              MOERUN_MAX_LAYERS, &none, origin));
  config->num_prediction_layers = moerun__to_int(extra);
done:
  return status;
}

/* What the row's functions read: the object with its aliases as the keys that
 * they stand for. To be released by the caller. */
static moerun_status resolve_aliases(json_t **out, const moerun__arch *arch,
                                     const json_t *root, const char *origin) {
  moerun_status status = MOERUN_OK;
  json_t *copy = json_deep_copy(root);
  *out = copy;
  MOERUN_REQUIRE(copy != NULL, MOERUN_ERR_NOMEM, "%s: out of memory", origin);
  for (size_t i = 0; i < sizeof arch->alias / sizeof *arch->alias; i++) {
    const char *key = arch->alias[i].key;
    const char *alias = arch->alias[i].alias;
    json_t *value = alias != NULL ? json_object_get(copy, alias) : NULL;
    const json_t *same = value != NULL ? json_object_get(copy, key) : NULL;
    if (value == NULL) continue;
    MOERUN_REQUIRE(same == NULL || json_equal(same, value), MOERUN_ERR_FORMAT,
                   "%s: key \"%s\": expected the value of \"%s\", which it is "
                   "another name of, found another",
                   origin, alias, key);
    MOERUN_REQUIRE(json_object_set(copy, key, value) == 0, MOERUN_ERR_NOMEM,
                   "%s: out of memory", origin);
  }
done:
  return status;
}

/* What rows are multiplied by on their way, and logits divided. */
static moerun_status read_multipliers(moerun__model_config *config,
                                      const json_t *root, const char *origin) {
  moerun_status status = MOERUN_OK;
  const struct {
    double *out;
    const char *key;
  } keys[] = {
      {&config->embedding_scale, "embedding_multiplier"},
      {&config->residual_scale, "residual_multiplier"},
      {&config->logit_divisor, "logits_scaling"},
  };
  const double one = 1.0;
  for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
    *keys[i].out = 1.0;
    if (!config->arch->has_multipliers) continue;
    MOERUN_TRY(moerun__json_double(keys[i].out, root, keys[i].key, 1e-6, 1e6,
                                   &one, origin));
  }
done:
  return status;
}

static moerun_status read_all(moerun__model_config *out, const json_t *root,
                              const char *origin) {
  moerun_status status = MOERUN_OK;
  const moerun__arch *arch = out->arch;
  out->attention = arch->attention;
  out->norms_after = arch->norms_after;
  MOERUN_TRY(refuse_other_classes(arch, root, origin));
  MOERUN_TRY(refuse_others(arch, root, origin));
  MOERUN_TRY(read_sizes(out, root, origin));
  MOERUN_TRY(read_experts(out, root, origin));
  MOERUN_TRY(arch->attention->read(out, root, origin));
  MOERUN_TRY(read_multipliers(out, root, origin));
  MOERUN_TRY(moerun__json_double(&out->norm_eps, root, "rms_norm_eps", 1e-30,
                                 1.0, &arch->default_eps, origin));
  MOERUN_TRY(moerun__json_bool(&out->tied_head, root, "tie_word_embeddings",
                               &arch->default_tied, origin));
  MOERUN_TRY(moerun__arch_read_moe(out, root, origin));
  MOERUN_TRY(moerun__arch_read_layers(out, root, origin));
  MOERUN_TRY(moerun__arch_read_tokens(out, root, origin));
done:
  return status;
}

moerun_status moerun__model_config_parse(moerun__model_config *out,
                                         const json_t *root,
                                         const char *origin) {
  moerun_status status = MOERUN_OK;
  json_t *resolved = NULL;
  memset(out, 0, sizeof *out);
  MOERUN_REQUIRE(json_is_object(root), MOERUN_ERR_FORMAT,
                 "%s: expected a JSON object, found %s", origin,
                 moerun__json_kind(root));
  MOERUN_TRY(find_row(&out->arch, root, origin));
  MOERUN_TRY(resolve_aliases(&resolved, out->arch, root, origin));
  MOERUN_TRY(read_all(out, resolved, origin));
done:
  json_decref(resolved);
  if (status != MOERUN_OK) moerun__model_config_clear(out);
  return status;
}

/* Names of models look like paths, and nothing is downloaded here. */
static moerun_status advise_folder(moerun_status status, const char *path) {
  struct stat facts;
  if (status != MOERUN_ERR_IO) return status;
  if (stat(path, &facts) == 0 && S_ISREG(facts.st_mode)) {
    return moerun__fail(status, __FILE__, __LINE__,
                        "%s: expected the folder of a checkpoint, found a "
                        "file: give the folder that it is in",
                        path);
  }
  return moerun__say_more(
      status,
      ": expected the folder of a checkpoint that was downloaded before");
}

moerun_status moerun__model_config_load(moerun__model_config *out,
                                        const char *path) {
  moerun_status status = MOERUN_OK;
  json_t *root = NULL;
  char *file = NULL;
  const size_t bytes = strlen(path) + sizeof "/generation_config.json";
  memset(out, 0, sizeof *out);
  MOERUN_TRY(moerun__alloc(&file, bytes, 1));
  (void)snprintf(file, bytes, "%s/config.json", path);
  MOERUN_TRY(advise_folder(
      moerun__json_load(&root, file, MOERUN_MAX_CONFIG_BYTES), path));
  MOERUN_TRY(moerun__model_config_parse(out, root, file));
  (void)snprintf(file, bytes, "%s/generation_config.json", path);
  MOERUN_TRY(moerun__arch_load_generation(out, file));
done:
  if (status != MOERUN_OK) moerun__model_config_clear(out);
  json_decref(root);
  moerun__free(file);
  return status;
}

moerun_status moerun__model_name(moerun__text *out, const char *path) {
  size_t end = strlen(path);
  while (end > 1 && path[end - 1] == '/') {
    end--;
  }
  size_t start = end;
  while (start > 0 && path[start - 1] != '/') {
    start--;
  }
  return moerun__text_append(out, path + start, end - start);
}

void moerun__model_config_clear(moerun__model_config *config) {
  moerun__free(config->moe_layer);
  moerun__free(config->attention_layer);
  for (int32_t i = 0; i < MOERUN_MAX_ROPES; i++) {
    moerun__free(config->rope[i].each);
  }
  memset(config, 0, sizeof *config);
}
