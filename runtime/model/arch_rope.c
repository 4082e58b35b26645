/* The base of the rotary positions. Files have it in three places: beside the
 * other keys (transformers 4), in rope_scaling or in rope_parameters
 * (transformers 5). As in transformers 5 (modeling_rope_utils.py), rope_scaling
 * stands in for rope_parameters where it is there and not empty, and a base
 * inside the one that counts wins over one outside; so it is with the part of a
 * head that is rotated, where the family has one. Whatever else may stand in
 * them and changes the arithmetic is refused: a part of the head in other
 * families, of which only scaled positions look at it, and parameters by kind
 * of layer, whose base would otherwise be missed. */
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

/* *out: the object at `key`, if it is there and not empty; *name: of its rule,
 * or NULL. */
static moerun_status read_object(json_t **out, const char **name,
                                 const json_t *root, const char *key,
                                 const char *origin) {
  moerun_status status = MOERUN_OK;
  json_t *rope = json_object_get(root, key);
  const char *type = NULL;
  if (rope == NULL || json_is_null(rope)) goto done;
  MOERUN_REQUIRE(json_is_object(rope), MOERUN_ERR_FORMAT,
                 "%s: key \"%s\": expected an object or null, found %s", origin,
                 key, moerun__json_kind(rope));
  if (json_object_size(rope) == 0) goto done;
  MOERUN_TRY(refuse_kinds(rope, key, origin));
  MOERUN_TRY(moerun__json_text(&type, rope, "rope_type", 0, origin));
  if (type == NULL) { /* the key's older name */
    MOERUN_TRY(moerun__json_text(&type, rope, "type", 0, origin));
  }
  MOERUN_REQUIRE(type != NULL || json_object_get(rope, "factor") == NULL,
                 MOERUN_ERR_FORMAT,
                 "%s: key \"%s\": expected a rope_type, found a factor without "
                 "one",
                 origin, key);
  *out = rope;
  *name = type;
done:
  return status;
}

/* The part of each head that is rotated: what the object that counts says, then
 * what stands beside it, then the family's. */
static moerun_status read_part(moerun__rope *rope,
                               const moerun__model_config *config,
                               const json_t *root, const json_t *inside,
                               const char *origin) {
  moerun_status status = MOERUN_OK;
  static const char key[] = "partial_rotary_factor";
  const moerun__arch *arch = config->arch;
  double part = arch->default_rotary > 0.0 ? arch->default_rotary : 1.0;
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
  if (arch->default_rotary > 0.0 && json_is_null(json_object_get(root, key))) {
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

/* One set: the rule of this name (NULL: none) with the keys of `inside`. */
static moerun_status read_set(moerun__rope *rope, moerun__model_config *config,
                              const json_t *root, const json_t *inside,
                              const char *name, const char *origin) {
  moerun_status status = MOERUN_OK;
  double theta = config->arch->default_theta;
  MOERUN_TRY(moerun__json_double(&theta, root, "rope_theta", least_theta,
                                 most_theta, &theta, origin));
  if (inside != NULL) {
    MOERUN_TRY(moerun__json_double(&theta, inside, "rope_theta", least_theta,
                                   most_theta, &theta, origin));
  }
  rope->theta = theta;
  MOERUN_TRY(read_part(rope, config, root, inside, origin));
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

moerun_status moerun__arch_read_rope(moerun__model_config *config,
                                     const json_t *root, const char *origin) {
  moerun_status status = MOERUN_OK;
  json_t *inside = NULL;
  const char *name = NULL;
  MOERUN_TRY(read_object(&inside, &name, root, "rope_parameters", origin));
  MOERUN_TRY(read_object(&inside, &name, root, "rope_scaling", origin));
  config->num_ropes = 1;
  MOERUN_TRY(read_set(&config->rope[0], config, root, inside, name, origin));
done:
  return status;
}
