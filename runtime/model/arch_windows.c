/* Which layers see a window only: sliding_window, layer_types, and what stands
 * in for these. It is read in two steps, because other keys go by what kind of
 * layer one is (rotary positions), and the longest context, beyond which no
 * window reaches, follows from some of those. */
#include "runtime/base/json.h"
#include "runtime/base/memory.h"
#include "runtime/base/number.h"
#include "runtime/model/arch_row.h"

#include <string.h>

/* ---- Which window ------------------------------------------------------- */

/* *window: that which is in force, or 0. A window that is not in force may have
 * any value (transformers 5 writes 0); null is none, a missing key the
 * default. */
static moerun_status read_window(int64_t *window,
                                 const moerun__model_config *config,
                                 const json_t *root, const char *origin) {
  moerun_status status = MOERUN_OK;
  const moerun__arch *arch = config->arch;
  static const char key[] = "sliding_window";
  const json_t *value = json_object_get(root, key);
  const int off = 0;
  int in_force = 1;
  *window = 0;
  if (arch->window.on_key != NULL) {
    MOERUN_TRY(
        moerun__json_bool(&in_force, root, arch->window.on_key, &off, origin));
  }
  if (!in_force || (value != NULL && json_is_null(value))) goto done;
  if (value == NULL && arch->default_window == 0) goto done;
  MOERUN_TRY(moerun__json_int(window, root, key, 1, INT32_MAX,
                              &arch->default_window, origin));
done:
  return status;
}

/* ---- Which layers ------------------------------------------------------- */

/* Layers that do are marked by a window that is not yet the right one. */
static const int32_t mark = 1;

static moerun_status mark_by_pattern(moerun__model_config *config,
                                     const json_t *root, const char *origin) {
  moerun_status status = MOERUN_OK;
  const moerun__window_pattern *by = &config->arch->window;
  int64_t first = by->first;
  int64_t end = INT32_MAX;
  int64_t every = by->every;
  if (by->first_key != NULL) {
    MOERUN_TRY(moerun__json_int(&first, root, by->first_key, 0, INT32_MAX,
                                &by->first, origin));
  }
  if (by->end_key != NULL) {
    MOERUN_TRY(moerun__json_int(&end, root, by->end_key, 0, INT32_MAX, &by->end,
                                origin));
  }
  if (by->every_key != NULL) {
    MOERUN_TRY(moerun__json_int(&every, root, by->every_key, 1, INT32_MAX,
                                &by->every, origin));
  }
  for (int32_t l = 0; l < config->num_layers; l++) {
    const int64_t turn = by->from_the_end ? every - 1 : by->turn;
    const int sees_all = (every > 0 && l % every == turn) ||
                         (by->last_sees_all && l + 1 == config->num_layers);
    if (l >= first && l < end && !sees_all) {
      config->attention_layer[l].window = mark;
    }
  }
done:
  return status;
}

/* layer_types, which is there. */
static moerun_status mark_by_types(moerun__model_config *config,
                                   const json_t *types, const char *origin) {
  moerun_status status = MOERUN_OK;
  const int has_windows = config->arch->window.rule == MOERUN_WINDOW_TYPES;
  const char *other = has_windows ? " or \"sliding_attention\"" : "";
  MOERUN_REQUIRE(json_is_array(types), MOERUN_ERR_FORMAT,
                 "%s: key \"layer_types\": expected an array, found %s", origin,
                 moerun__json_kind(types));
  MOERUN_REQUIRE(!has_windows ||
                     json_array_size(types) == (size_t)config->num_layers,
                 MOERUN_ERR_FORMAT,
                 "%s: key \"layer_types\": expected %d elements, one a layer, "
                 "found %zu",
                 origin, config->num_layers, json_array_size(types));
  for (size_t i = 0; i < json_array_size(types); i++) {
    const char *type = json_string_value(json_array_get(types, i));
    const int is_window =
        has_windows && type != NULL && strcmp(type, "sliding_attention") == 0;
    MOERUN_REQUIRE(is_window ||
                       (type != NULL && strcmp(type, "full_attention") == 0),
                   MOERUN_ERR_UNSUPPORTED,
                   "%s: key \"layer_types\": element %zu: expected "
                   "\"full_attention\"%s, found \"%s\"",
                   origin, i, other, type != NULL ? type : "no string");
    if (is_window) config->attention_layer[i].window = mark;
  }
done:
  return status;
}

moerun_status moerun__arch_read_layer_types(moerun__model_config *config,
                                            const json_t *root,
                                            const char *origin) {
  moerun_status status = MOERUN_OK;
  const json_t *types = json_object_get(root, "layer_types");
  const int has_types = types != NULL && !json_is_null(types);
  int64_t window = 0;
  MOERUN_TRY(moerun__alloc(&config->attention_layer, (size_t)config->num_layers,
                           sizeof *config->attention_layer));
  if (has_types) MOERUN_TRY(mark_by_types(config, types, origin));
  if (has_types && config->arch->window.rule == MOERUN_WINDOW_TYPES) goto done;
  MOERUN_TRY(read_window(&window, config, root, origin));
  if (window > 0) MOERUN_TRY(mark_by_pattern(config, root, origin));
done:
  return status;
}

/* ---- Both --------------------------------------------------------------- */

static int is_usual(const moerun__model_config *config) {
  const moerun__attention_layer *layer = config->attention_layer;
  for (int32_t l = 0; l < config->num_layers; l++) {
    if (layer[l].window != 0 || layer[l].rope != 0) return 0;
  }
  return 1;
}

moerun_status moerun__arch_read_windows(moerun__model_config *config,
                                        const json_t *root,
                                        const char *origin) {
  moerun_status status = MOERUN_OK;
  int64_t window = 0;
  int32_t first = 0;
  while (first < config->num_layers &&
         config->attention_layer[first].window == 0) {
    first++;
  }
  if (first < config->num_layers) {
    MOERUN_TRY(read_window(&window, config, root, origin));
    MOERUN_REQUIRE(
        window > 0, MOERUN_ERR_FORMAT,
        "%s: key \"layer_types\": element %d: expected "
        "\"full_attention\", as no sliding_window is in force, found "
        "\"sliding_attention\"",
        origin, first);
  }
  MOERUN_REQUIRE(window == 0 || window >= config->max_positions ||
                     config->arch->window.rule != MOERUN_WINDOW_NONE,
                 MOERUN_ERR_UNSUPPORTED,
                 "%s: key \"sliding_window\": expected null (layers of %s have "
                 "no windows), found %lld",
                 origin, config->arch->name, (long long)window);
  if (window >= config->max_positions) window = 0; /* none is ever left */
  for (int32_t l = first; l < config->num_layers; l++) {
    moerun__attention_layer *layer = &config->attention_layer[l];
    if (layer->window != 0) layer->window = moerun__to_int(window);
  }
  if (is_usual(config)) {
    moerun__free(config->attention_layer);
    config->attention_layer = NULL;
  }
done:
  return status;
}
