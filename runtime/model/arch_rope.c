/* The base of the rotary positions. Files have it in three places: beside the
 * other keys (transformers 4), in rope_scaling or in rope_parameters
 * (transformers 5). As in transformers 5 (modeling_rope_utils.py), rope_scaling
 * stands in for rope_parameters where it is there and not empty, and a base
 * inside the one that counts wins over one outside; so it is with the part of a
 * head that is rotated, where the family has one. Whatever else may stand in
 * them and changes the arithmetic is refused: a part of the head in other
 * families, of which only scaled positions look at it, and parameters by kind
 * of layer, whose base would otherwise be missed, in families without them. */
#include "runtime/base/json.h"
#include "runtime/base/text.h"
#include "runtime/model/arch_row.h"
#include "runtime/model/rope_kinds.h"

#include <stdio.h>
#include <string.h>

static const double least_theta = 1.0;
static const double most_theta = 1e15;

static moerun_status require_whole_head(const json_t *object, const char *what,
                                        const char *origin) {
  moerun_status status = MOERUN_OK;
  const double one = 1.0;
  double factor = 1.0;
  char found[MOERUN_NUMBER_TEXT];
  MOERUN_TRY(moerun__json_double(&factor, object, "partial_rotary_factor", 0.0,
                                 1.0, &one, origin));
  MOERUN_REQUIRE(factor == 1.0, MOERUN_ERR_UNSUPPORTED,
                 "%s: %s: expected 1, found %s", origin, what,
                 moerun__number_text(found, factor));
done:
  return status;
}

/* "full_attention": {…}: a set of parameters for each kind of layer. */
static moerun_status refuse_kinds(json_t *rope, const char *key,
                                  const char *origin) {
  moerun_status status = MOERUN_OK;
  const char *name = NULL;
  json_t *value = NULL;
  json_object_foreach(rope, name, value) {
    MOERUN_REQUIRE(!json_is_object(value), MOERUN_ERR_UNSUPPORTED,
                   "%s: key \"%s\": expected one set of parameters for all "
                   "layers, found parameters by kind of layer (\"%s\")",
                   origin, key, name);
  }
done:
  return status;
}

/* The rule of an object that is not empty, or NULL. key: of it, for
 * messages. */
static moerun_status read_name(const char **name, const json_t *rope,
                               const char *key, const char *origin) {
  moerun_status status = MOERUN_OK;
  const char *type = NULL;
  MOERUN_TRY(moerun__json_text(&type, rope, "rope_type", 0, origin));
  if (type == NULL) { /* the key's older name */
    MOERUN_TRY(moerun__json_text(&type, rope, "type", 0, origin));
  }
  MOERUN_REQUIRE(type != NULL || json_object_get(rope, "factor") == NULL,
                 MOERUN_ERR_FORMAT,
                 "%s: key \"%s\": expected a rope_type, found a factor without "
                 "one",
                 origin, key);
  *name = type;
done:
  return status;
}

/* *out: the object at `key`, if it is there and not empty. */
static moerun_status read_object(json_t **out, const json_t *root,
                                 const char *key, const char *origin) {
  moerun_status status = MOERUN_OK;
  json_t *rope = json_object_get(root, key);
  if (rope == NULL || json_is_null(rope)) goto done;
  MOERUN_REQUIRE(json_is_object(rope), MOERUN_ERR_FORMAT,
                 "%s: key \"%s\": expected an object or null, found %s", origin,
                 key, moerun__json_kind(rope));
  if (json_object_size(rope) > 0) *out = rope;
done:
  return status;
}

/* The part of each head that is rotated: what the object that counts says, then
 * what stands beside it, then the family's. */
static moerun_status read_part(moerun__rope *rope,
                               const moerun__model_config *config,
                               const json_t *root, const json_t *inside,
                               double usual, const char *origin) {
  moerun_status status = MOERUN_OK;
  static const char key[] = "partial_rotary_factor";
  const moerun__arch *arch = config->arch;
  double part = usual > 0.0 ? usual : 1.0;
  int32_t width = 0;
  rope->width = config->head_dim;
  if (!arch->has_part_rotary) goto done;
  if (arch->rotary_dim_key != NULL) {
    const int64_t whole = config->head_dim;
    MOERUN_TRY(moerun__arch_read_size(&width, root, arch->rotary_dim_key, whole,
                                      &whole, origin));
    part = (double)width / (double)config->head_dim;
  }
  /* As transformers has it, null is not what a missing key is. */
  if (usual > 0.0 && json_is_null(json_object_get(root, key))) {
    part = 1.0;
  }
  MOERUN_TRY(moerun__json_double(&part, root, key, 0.0, 1.0, &part, origin));
  if (inside != NULL) {
    MOERUN_TRY(
        moerun__json_double(&part, inside, key, 0.0, 1.0, &part, origin));
  }
  rope->width = (int32_t)(config->head_dim * part);
  MOERUN_REQUIRE(rope->width >= 2 && rope->width % 2 == 0,
                 MOERUN_ERR_UNSUPPORTED,
                 "%s: key \"%s\": expected an even part of the head width %d, "
                 "found %d",
                 origin, key, config->head_dim, rope->width);
done:
  return status;
}

/* One set: `inside` has its keys, or is NULL. */
static moerun_status read_set(moerun__rope *rope, moerun__model_config *config,
                              const json_t *root, const json_t *inside,
                              const moerun__usual_rope *usual, const char *key,
                              const char *origin) {
  moerun_status status = MOERUN_OK;
  const char *name = NULL;
  double theta = usual->theta;
  MOERUN_TRY(moerun__json_double(&theta, root, "rope_theta", least_theta,
                                 most_theta, &theta, origin));
  if (inside != NULL) {
    MOERUN_TRY(read_name(&name, inside, key, origin));
    MOERUN_TRY(moerun__json_double(&theta, inside, "rope_theta", least_theta,
                                   most_theta, &theta, origin));
  }
  rope->theta = theta;
  MOERUN_TRY(read_part(rope, config, root, inside, usual->part, origin));
  MOERUN_TRY(moerun__rope_kind_read(rope, config, name, inside, root, origin));
  if (rope->kind != NULL && !config->arch->has_part_rotary) {
    MOERUN_TRY(
        require_whole_head(root, "key \"partial_rotary_factor\"", origin));
    MOERUN_TRY(require_whole_head(
        inside, "partial_rotary_factor of the rotary positions", origin));
  }
done:
  return status;
}

/* ---- One set for each kind of layer -------------------------------------- */

/* Set 0 is that of layers that see everything, set 1 of those with a window;
 * that of a kind without layers is not looked at. The longest context is as far
 * as every scaled set goes. */
static moerun_status read_kinds(moerun__model_config *config,
                                const json_t *root, const json_t *rope,
                                const char *key, const char *origin) {
  moerun_status status = MOERUN_OK;
  static const char *const kinds[] = {"full_attention", "sliding_attention"};
  const int32_t positions = config->max_positions;
  const moerun__usual_rope plain = {config->arch->default_theta, 0.0};
  int32_t reach = 0;
  int has[2] = {0};
  for (int32_t l = 0; l < config->num_layers; l++) {
    config->attention_layer[l].rope = config->attention_layer[l].window != 0;
    has[config->attention_layer[l].rope] = 1;
  }
  config->num_ropes = 2;
  for (int i = 0; i < 2; i++) {
    moerun__rope *to = &config->rope[i];
    const json_t *inside = json_object_get(rope, kinds[i]);
    MOERUN_REQUIRE(rope == NULL || !has[i] || json_is_object(inside),
                   MOERUN_ERR_FORMAT,
                   "%s: key \"%s\": expected an object \"%s\" for such layers, "
                   "found %s",
                   origin, key, kinds[i], moerun__json_kind(inside));
    config->max_positions = positions;
    if (!has[i]) inside = NULL;
    MOERUN_TRY(read_set(to, config, root, inside,
                        rope == NULL ? &config->arch->usual_rope[i] : &plain,
                        kinds[i], origin));
    if (to->kind != NULL && (reach == 0 || config->max_positions < reach)) {
      reach = config->max_positions;
    }
  }
  config->max_positions = reach > 0 ? reach : positions;
done:
  return status;
}

/* ---- A base for each layer ----------------------------------------------- */

/* Which set has this base: one that is there, or a new one. */
static moerun_status find_base(int32_t *out, moerun__model_config *config,
                               double theta, const char *origin) {
  moerun_status status = MOERUN_OK;
  int32_t i = 0;
  while (i < config->num_ropes && config->rope[i].theta != theta) {
    i++;
  }
  MOERUN_REQUIRE(i < MOERUN_MAX_ROPES, MOERUN_ERR_UNSUPPORTED,
                 "%s: key \"%s\": expected at most %d different bases, found "
                 "more",
                 origin, config->arch->layer_theta_key, MOERUN_MAX_ROPES);
  if (i == config->num_ropes) {
    config->rope[i] = config->rope[0];
    config->rope[i].theta = theta;
    config->num_ropes++;
  }
  *out = i;
done:
  return status;
}

static moerun_status read_bases(moerun__model_config *config,
                                const json_t *root, const char *origin) {
  moerun_status status = MOERUN_OK;
  const char *key = config->arch->layer_theta_key;
  const json_t *list = json_object_get(root, key);
  const size_t layers = (size_t)config->num_layers;
  char found[MOERUN_NUMBER_TEXT];
  if (list == NULL || json_is_null(list)) goto done;
  MOERUN_REQUIRE(
      json_is_array(list) && json_array_size(list) >= layers, MOERUN_ERR_FORMAT,
      "%s: key \"%s\": expected an array of %zu numbers, one a layer", origin,
      key, layers);
  /* The rules of scaling go by the base, or have numbers of their own. */
  MOERUN_REQUIRE(
      config->rope[0].kind == NULL, MOERUN_ERR_UNSUPPORTED,
      "%s: key \"%s\": expected null beside scaled rotary positions, "
      "found an array",
      origin, key);
  for (size_t l = 0; l < layers; l++) {
    const json_t *item = json_array_get(list, l);
    const double theta = json_number_value(item);
    int32_t *rope = &config->attention_layer[l].rope;
    *rope = -1;
    MOERUN_REQUIRE(
        json_is_number(item) &&
            (theta == 0.0 || (theta >= least_theta && theta <= most_theta)),
        MOERUN_ERR_FORMAT,
        "%s: key \"%s\": element %zu: expected 0 or a base of at "
        "least 1, found %s",
        origin, key, l, moerun__number_text(found, theta));
    if (theta != 0.0) MOERUN_TRY(find_base(rope, config, theta, origin));
  }
done:
  return status;
}

/* ---- All of it ----------------------------------------------------------- */

moerun_status moerun__arch_read_rope(moerun__model_config *config,
                                     const json_t *root, const char *origin) {
  moerun_status status = MOERUN_OK;
  const moerun__arch *arch = config->arch;
  const moerun__usual_rope usual = {arch->default_theta, arch->default_rotary};
  static const char *const keys[] = {"rope_parameters", "rope_scaling"};
  const char *key = keys[0];
  json_t *rope = NULL;
  for (int i = 0; i < 2; i++) {
    json_t *before = rope;
    MOERUN_TRY(read_object(&rope, root, keys[i], origin));
    if (rope != before) key = keys[i];
  }
  if (arch->usual_rope[0].theta > 0.0) {
    MOERUN_TRY(read_kinds(config, root, rope, key, origin));
    goto done;
  }
  if (rope != NULL) MOERUN_TRY(refuse_kinds(rope, key, origin));
  config->num_ropes = 1;
  MOERUN_TRY(
      read_set(&config->rope[0], config, root, rope, &usual, key, origin));
  for (int32_t l = 0; arch->rotates_windows_only && l < config->num_layers;
       l++) {
    moerun__attention_layer *layer = &config->attention_layer[l];
    layer->rope = layer->window != 0 ? 0 : -1;
  }
  if (arch->layer_theta_key != NULL) {
    MOERUN_TRY(read_bases(config, root, origin));
  }
done:
  return status;
}
