/* What config.json says of attention with heads and rotary positions, as most
 * kinds have it. */
#include "runtime/base/json.h"
#include "runtime/model/arch_row.h"
#include "runtime/model/attention.h"

static moerun_status read_heads(moerun__model_config *config,
                                const json_t *root, const char *origin) {
  moerun_status status = MOERUN_OK;
  const moerun__arch *arch = config->arch;
  const int32_t H = config->hidden_width;
  MOERUN_TRY(moerun__arch_read_size(&config->num_heads, root,
                                    "num_attention_heads", MOERUN_MAX_WIDTH,
                                    NULL, origin));
  /* null, unlike a missing key, means as many as heads. */
  const json_t *kv = json_object_get(root, "num_key_value_heads");
  const int64_t kv_default = kv != NULL || arch->default_kv_heads == 0
                                 ? config->num_heads
                                 : arch->default_kv_heads;
  MOERUN_TRY(moerun__arch_read_size(&config->num_kv_heads, root,
                                    "num_key_value_heads", config->num_heads,
                                    &kv_default, origin));
  MOERUN_REQUIRE(config->num_heads % config->num_kv_heads == 0,
                 MOERUN_ERR_FORMAT,
                 "%s: key \"num_key_value_heads\": expected a divisor of the "
                 "%d attention heads, found %d",
                 origin, config->num_heads, config->num_kv_heads);

  const json_t *explicit_dim = json_object_get(root, "head_dim");
  const int derived = arch->default_head_dim == 0 &&
                      (explicit_dim == NULL || json_is_null(explicit_dim));
  const int64_t per_head = arch->default_head_dim != 0 ? arch->default_head_dim
                                                       : H / config->num_heads;
  MOERUN_REQUIRE(!derived || H % config->num_heads == 0, MOERUN_ERR_FORMAT,
                 "%s: key \"hidden_size\": expected a multiple of the %d "
                 "attention heads (there is no head_dim), found %d",
                 origin, config->num_heads, H);
  MOERUN_TRY(moerun__arch_read_size(&config->head_dim, root, "head_dim",
                                    MOERUN_MAX_HEAD_DIM, &per_head, origin));
  MOERUN_REQUIRE(arch->has_head_dim ||
                     config->head_dim * (int64_t)config->num_heads == H,
                 MOERUN_ERR_UNSUPPORTED,
                 "%s: key \"head_dim\": expected hidden_size / "
                 "num_attention_heads = %lld for %s, found %d",
                 origin, (long long)per_head, arch->name, config->head_dim);
  MOERUN_REQUIRE(config->head_dim % 2 == 0, MOERUN_ERR_UNSUPPORTED,
                 "%s: %s: expected an even head width, found %d", origin,
                 derived ? "hidden_size / num_attention_heads"
                         : "key \"head_dim\"",
                 config->head_dim);
  const int64_t width = (int64_t)config->num_heads * config->head_dim;
  MOERUN_REQUIRE(width <= MOERUN_MAX_WIDTH, MOERUN_ERR_FORMAT,
                 "%s: num_attention_heads * head_dim: expected at most %d, "
                 "found %lld",
                 origin, MOERUN_MAX_WIDTH, (long long)width);
done:
  return status;
}

moerun__attention_layer
moerun__config_attention_layer(const moerun__model_config *config,
                               int32_t layer) {
  const moerun__attention_layer usual = {0, 0};
  return config->attention_layer != NULL ? config->attention_layer[layer]
                                         : usual;
}

moerun_status moerun__arch_read_attention(moerun__model_config *config,
                                          const json_t *root,
                                          const char *origin) {
  moerun_status status = MOERUN_OK;
  const moerun__arch *arch = config->arch;
  const double no_clip = 0.0;
  int has_qk_norm = 1;
  if (arch->qk_norm_key != NULL) {
    MOERUN_TRY(moerun__json_bool(&has_qk_norm, root, arch->qk_norm_key,
                                 &arch->default_qk_norm, origin));
  }
  config->qk_norm = has_qk_norm ? arch->qk_norm : MOERUN_QK_NORM_NONE;
  MOERUN_TRY(read_heads(config, root, origin));
  MOERUN_TRY(moerun__arch_read_layer_types(config, root, origin));
  MOERUN_TRY(moerun__arch_read_rope(config, root, origin));
  MOERUN_TRY(moerun__arch_read_windows(config, root, origin));
  if (arch->qkv_bias_key != NULL) {
    MOERUN_TRY(moerun__json_bool(&config->has_qkv_bias, root,
                                 arch->qkv_bias_key, &arch->default_qkv_bias,
                                 origin));
  }
  if (arch->has_multipliers) {
    const double one = 1.0;
    MOERUN_TRY(moerun__json_double(&config->attention_scale, root,
                                   "attention_multiplier", 1e-30, 1e30, &one,
                                   origin));
  }
  if (arch->has_clip_qkv) {
    MOERUN_TRY(moerun__json_double(&config->clip_qkv, root, "clip_qkv", 1e-30,
                                   1e30, &no_clip, origin));
  }
done:
  return status;
}
