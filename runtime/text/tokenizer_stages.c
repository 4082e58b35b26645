/* A tokenizer.json describes a pipeline (normalizer, pre-tokenizer, model,
 * post-processor, decoder) of which a part is understood here; a stage that is
 * present and not understood changes the ids, so it is refused by name rather
 * than skipped. */
#include "runtime/text/tokenizer_stages.h"

#include "runtime/base/json.h"

#include <string.h>

static moerun_status expect_absent(const json_t *object, const char *key,
                                   const char *origin) {
  moerun_status status = MOERUN_OK;
  const json_t *value = json_object_get(object, key);
  const char *type = json_string_value(json_object_get(value, "type"));
  const int absent = value == NULL || json_is_null(value) ||
                     (json_is_string(value) && json_string_length(value) == 0);
  MOERUN_REQUIRE(absent, MOERUN_ERR_UNSUPPORTED,
                 "%s: \"%s\": expected null, found %s%s%s, which is not "
                 "supported: give token ids instead of text",
                 origin, key, moerun__json_kind(value),
                 type != NULL ? " of type " : "", type != NULL ? type : "");
done:
  return status;
}

moerun_status moerun__tokenizer_expect_flag(const json_t *object,
                                            const char *key, int wanted,
                                            int fallback, const char *stage,
                                            const char *origin) {
  moerun_status status = MOERUN_OK;
  int value = 0;
  MOERUN_TRY(moerun__json_bool(&value, object, key, &fallback, origin));
  MOERUN_REQUIRE(value == wanted, MOERUN_ERR_UNSUPPORTED,
                 "%s: %s: \"%s\": %s is not supported: give token ids instead "
                 "of text",
                 origin, stage, key, value ? "true" : "false");
done:
  return status;
}

static moerun_status expect_type(const json_t *stage, const char *name,
                                 const char *wanted, const char *origin) {
  moerun_status status = MOERUN_OK;
  const char *type = NULL;
  MOERUN_TRY(moerun__json_text(&type, stage, "type", 1, origin));
  MOERUN_REQUIRE(strcmp(type, wanted) == 0, MOERUN_ERR_UNSUPPORTED,
                 "%s: %s of type \"%s\" is not supported: expected \"%s\", or "
                 "give token ids instead of text",
                 origin, name, type, wanted);
done:
  return status;
}

/* ---- The post-processor --------------------------------------------------------- */

/* The id of the special token `name` of a template. */
static moerun_status read_special(int32_t *out, const json_t *template,
                                  const char *name, const char *origin) {
  moerun_status status = MOERUN_OK;
  const json_t *tokens = json_object_get(template, "special_tokens");
  const json_t *ids = json_object_get(json_object_get(tokens, name), "ids");
  const json_t *id = json_array_get(ids, 0);
  const json_int_t value = json_integer_value(id);
  MOERUN_REQUIRE(json_array_size(ids) == 1 && json_is_integer(id) &&
                     value >= 0 && value <= INT32_MAX,
                 MOERUN_ERR_UNSUPPORTED,
                 "%s: post_processor: special token \"%s\": expected one token "
                 "id, found %s",
                 origin, name, json_array_size(ids) > 1 ? "several" : "none");
  *out = (int32_t)value;
done:
  return status;
}

/* "single": the text, with at most one special token in front of it. */
static moerun_status read_template(int32_t *front, const json_t *template,
                                   const char *origin) {
  moerun_status status = MOERUN_OK;
  json_t *pieces = NULL;
  MOERUN_TRY(moerun__json_array(&pieces, template, "single", origin));
  const size_t count = json_array_size(pieces);
  const json_t *text =
      json_object_get(json_array_get(pieces, count - 1), "Sequence");
  const char *which = json_string_value(json_object_get(text, "id"));
  const json_t *special =
      json_object_get(json_array_get(pieces, 0), "SpecialToken");
  const char *name = json_string_value(json_object_get(special, "id"));
  const int is_known = which != NULL && strcmp(which, "A") == 0 &&
                       (count == 1 || (count == 2 && name != NULL));
  MOERUN_REQUIRE(is_known, MOERUN_ERR_UNSUPPORTED,
                 "%s: post_processor: expected a text with at most one special "
                 "token in front of it, found another template of %zu pieces: "
                 "give token ids instead of text",
                 origin, count);
  if (count == 1) goto done;
  MOERUN_REQUIRE(*front < 0, MOERUN_ERR_UNSUPPORTED,
                 "%s: post_processor: expected one template with a token in "
                 "front of the text, found two",
                 origin);
  MOERUN_TRY(read_special(front, template, name, origin));
done:
  return status;
}

static moerun_status read_step(int32_t *front, const json_t *step,
                               const char *origin) {
  moerun_status status = MOERUN_OK;
  const char *type = NULL;
  MOERUN_TRY(moerun__json_text(&type, step, "type", 1, origin));
  /* ByteLevel only trims offsets, which nobody asks for here. */
  if (strcmp(type, "ByteLevel") == 0) goto done;
  MOERUN_REQUIRE(strcmp(type, "TemplateProcessing") == 0,
                 MOERUN_ERR_UNSUPPORTED,
                 "%s: post_processor of type \"%s\" is not supported: expected "
                 "\"ByteLevel\" or \"TemplateProcessing\", or give token ids "
                 "instead of text",
                 origin, type);
  MOERUN_TRY(read_template(front, step, origin));
done:
  return status;
}

/* One step, or a Sequence of them. */
static moerun_status read_processor(int32_t *front, const json_t *root,
                                    const char *origin) {
  moerun_status status = MOERUN_OK;
  const json_t *stage = json_object_get(root, "post_processor");
  const char *type = NULL;
  json_t *steps = NULL;
  *front = -1;
  if (stage == NULL || json_is_null(stage)) goto done;
  MOERUN_TRY(moerun__json_text(&type, stage, "type", 1, origin));
  if (strcmp(type, "Sequence") != 0) {
    MOERUN_TRY(read_step(front, stage, origin));
    goto done;
  }
  MOERUN_TRY(moerun__json_array(&steps, stage, "processors", origin));
  for (size_t i = 0; i < json_array_size(steps); i++) {
    MOERUN_TRY(read_step(front, json_array_get(steps, i), origin));
  }
done:
  return status;
}

/* ---- All of them ------------------------------------------------------------------ */

moerun_status moerun__tokenizer_check_stages(int32_t *front, const json_t *root,
                                             const char *origin) {
  moerun_status status = MOERUN_OK;
  json_t *stage = NULL;
  MOERUN_TRY(expect_absent(root, "truncation", origin));
  MOERUN_TRY(expect_absent(root, "padding", origin));
  stage = json_object_get(json_object_get(root, "normalizer"), "normalizers");
  if (!json_is_array(stage) || json_array_size(stage) > 0) { /* or a Sequence
                                                                of none */
    MOERUN_TRY(expect_absent(root, "normalizer", origin));
  }
  MOERUN_TRY(moerun__json_object(&stage, root, "pre_tokenizer", origin));
  MOERUN_TRY(expect_type(stage, "pre_tokenizer", "ByteLevel", origin));
  MOERUN_TRY(moerun__tokenizer_expect_flag(stage, "use_regex", 0, 1,
                                           "pre_tokenizer", origin));
  MOERUN_TRY(moerun__tokenizer_expect_flag(stage, "add_prefix_space", 0, 1,
                                           "pre_tokenizer", origin));
  MOERUN_TRY(read_processor(front, root, origin));
  MOERUN_TRY(moerun__json_object(&stage, root, "decoder", origin));
  MOERUN_TRY(expect_type(stage, "decoder", "ByteLevel", origin));
  MOERUN_TRY(moerun__json_object(&stage, root, "model", origin));
  MOERUN_TRY(expect_type(stage, "model", "BPE", origin));
  MOERUN_TRY(expect_absent(stage, "dropout", origin));
  MOERUN_TRY(expect_absent(stage, "continuing_subword_prefix", origin));
  MOERUN_TRY(expect_absent(stage, "end_of_word_suffix", origin));
  MOERUN_TRY(moerun__tokenizer_expect_flag(stage, "byte_fallback", 0, 0,
                                           "model", origin));
  MOERUN_TRY(moerun__tokenizer_expect_flag(stage, "ignore_merges", 0, 0,
                                           "model", origin));
done:
  return status;
}
