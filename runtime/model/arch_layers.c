/* Which layers have experts and which a dense feed-forward block instead: the
 * families say it in different keys, each rule is a function here. */
#include "runtime/base/json.h"
#include "runtime/base/memory.h"
#include "runtime/model/arch_row.h"

#include <string.h>

/* ---- The rules: moe_layer of a dense layer becomes -1 -------------------- */

/* mlp_only_layers. Layers that the model has not may be named, as in
 * transformers. */
static moerun_status mark_named(moerun__model_config *config,
                                const json_t *root, const char *origin) {
  moerun_status status = MOERUN_OK;
  static const char key[] = "mlp_only_layers";
  const json_t *list = json_object_get(root, key);
  if (list == NULL || json_is_null(list)) goto done;
  MOERUN_REQUIRE(json_is_array(list), MOERUN_ERR_FORMAT,
                 "%s: key \"%s\": expected an array, found %s", origin, key,
                 moerun__json_kind(list));
  for (size_t i = 0; i < json_array_size(list); i++) {
    const json_t *item = json_array_get(list, i);
    MOERUN_REQUIRE(json_is_integer(item), MOERUN_ERR_FORMAT,
                   "%s: key \"%s\": element %zu: expected an integer, found %s",
                   origin, key, i, moerun__json_kind(item));
    const json_int_t layer = json_integer_value(item);
    if (layer >= 0 && layer < config->num_layers) config->moe_layer[layer] = -1;
  }
done:
  return status;
}

static moerun_status mark_listed(moerun__model_config *config,
                                 const json_t *root, const char *origin) {
  moerun_status status = MOERUN_OK;
  const int64_t one = 1;
  int64_t step = 1;
  MOERUN_TRY(moerun__json_int(&step, root, "decoder_sparse_step", 1, INT32_MAX,
                              &one, origin));
  MOERUN_TRY(mark_named(config, root, origin));
  for (int32_t l = 0; l < config->num_layers; l++) {
    if ((l + 1) % step != 0) config->moe_layer[l] = -1;
  }
done:
  return status;
}

static moerun_status mark_leading(moerun__model_config *config,
                                  const json_t *root, const char *origin) {
  moerun_status status = MOERUN_OK;
  int64_t leading = 0;
  MOERUN_TRY(moerun__json_int(&leading, root, "first_k_dense_replace", 0,
                              INT32_MAX, &config->arch->default_leading,
                              origin));
  for (int32_t l = 0; l < config->num_layers && l < leading; l++) {
    config->moe_layer[l] = -1;
  }
done:
  return status;
}

/* mlp_layer_types: "dense" or "sparse" for each layer. */
static moerun_status mark_types(moerun__model_config *config,
                                const json_t *root, const char *origin) {
  moerun_status status = MOERUN_OK;
  static const char key[] = "mlp_layer_types";
  const json_t *list = json_object_get(root, key);
  if (list == NULL || json_is_null(list)) {
    config->moe_layer[0] = -1;
    goto done;
  }
  MOERUN_REQUIRE(json_is_array(list), MOERUN_ERR_FORMAT,
                 "%s: key \"%s\": expected an array, found %s", origin, key,
                 moerun__json_kind(list));
  MOERUN_REQUIRE(json_array_size(list) >= (size_t)config->num_layers,
                 MOERUN_ERR_FORMAT,
                 "%s: key \"%s\": expected the types of %d layers, found %zu",
                 origin, key, config->num_layers, json_array_size(list));
  for (int32_t l = 0; l < config->num_layers; l++) {
    const char *type = json_string_value(json_array_get(list, (size_t)l));
    const int dense = type != NULL && strcmp(type, "dense") == 0;
    MOERUN_REQUIRE(dense || (type != NULL && strcmp(type, "sparse") == 0),
                   MOERUN_ERR_FORMAT,
                   "%s: key \"%s\": element %d: expected \"dense\" or "
                   "\"sparse\", found \"%s\"",
                   origin, key, l, type != NULL ? type : "no string");
    if (dense) config->moe_layer[l] = -1;
  }
done:
  return status;
}

/* moe_layer_start_index, moe_layer_end_index (-1: the last layer),
 * moe_layer_interval. */
static moerun_status mark_range(moerun__model_config *config,
                                const json_t *root, const char *origin) {
  moerun_status status = MOERUN_OK;
  const int64_t one = 1;
  const int64_t last = -1;
  int64_t start = 0;
  int64_t end = 0;
  int64_t interval = 0;
  MOERUN_TRY(moerun__json_int(&start, root, "moe_layer_start_index", 0,
                              INT32_MAX, &one, origin));
  MOERUN_TRY(moerun__json_int(&end, root, "moe_layer_end_index", -1, INT32_MAX,
                              &last, origin));
  MOERUN_TRY(moerun__json_int(&interval, root, "moe_layer_interval", 1,
                              INT32_MAX, &one, origin));
  if (end == -1) end = config->num_layers - 1;
  for (int32_t l = 0; l < config->num_layers; l++) {
    const int has_experts = (l + 1) % interval == 0 && l >= start && l <= end;
    if (!has_experts) config->moe_layer[l] = -1;
  }
done:
  return status;
}

/* ---- Numbers ------------------------------------------------------------- */

moerun_status moerun__arch_read_layers(moerun__model_config *config,
                                       const json_t *root, const char *origin) {
  moerun_status status = MOERUN_OK;
  static const struct {
    moerun_status (*mark)(moerun__model_config *config, const json_t *root,
                          const char *origin);
    const char *keys;
  } rules[MOERUN_DENSE_RULES] = {
      [MOERUN_DENSE_LISTED] = {mark_listed,
                               "mlp_only_layers and decoder_sparse_step leave"},
      [MOERUN_DENSE_LEADING] = {mark_leading,
                                "first_k_dense_replace layers leave"},
      [MOERUN_DENSE_TYPES] = {mark_types, "mlp_layer_types leave"},
      [MOERUN_DENSE_RANGE] = {mark_range,
                              "moe_layer_start_index, moe_layer_end_index and "
                              "moe_layer_interval leave"},
  };
  const moerun__dense_rule rule = config->arch->dense;
  MOERUN_TRY(moerun__alloc(&config->moe_layer, (size_t)config->num_layers,
                           sizeof *config->moe_layer));
  if (rules[rule].mark != NULL) {
    MOERUN_TRY(rules[rule].mark(config, root, origin));
  }
  for (int32_t l = 0; l < config->num_layers; l++) {
    if (config->moe_layer[l] == 0) {
      config->moe_layer[l] = config->num_moe_layers++;
    }
  }
  MOERUN_REQUIRE(config->num_moe_layers > 0, MOERUN_ERR_UNSUPPORTED,
                 "%s: %s none of the %d layers with experts, and models "
                 "without any are not run",
                 origin, rules[rule].keys, config->num_layers);
  if (config->num_moe_layers < config->num_layers) {
    MOERUN_TRY(moerun__arch_read_size(&config->dense_width, root,
                                      "intermediate_size", MOERUN_MAX_WIDTH,
                                      NULL, origin));
  }
done:
  return status;
}
