/* Each kind of stage is a row of a table. A stage of a Sequence works on what
 * those before it have made of the text, so its tokens stand outside theirs. */
#include "runtime/text/post.h"

#include "runtime/base/json.h"
#include "runtime/text/stages.h"

#include <string.h>

enum { MAX_TOKENS = 64 };

static moerun_status put(moerun__token_list *list, size_t at,
                         const json_t *value, const char *where) {
  moerun_status status = MOERUN_OK;
  const json_int_t id = json_integer_value(value);
  MOERUN_REQUIRE(json_is_integer(value) && id >= 0 && id <= INT32_MAX &&
                     list->count < MAX_TOKENS,
                 MOERUN_ERR_FORMAT, "%s: expected a token id, found %s", where,
                 moerun__json_kind(value));
  MOERUN_TRY(moerun__token_list_append(list, (int32_t)id));
  memmove(list->id + at + 1, list->id + at,
          (list->count - 1 - at) * sizeof *list->id);
  list->id[at] = (int32_t)id;
done:
  return status;
}

/* ---- TemplateProcessing -------------------------------------------------- */

/* The ids of the special token `name`, put at list[at ...]. */
static moerun_status put_special(moerun__token_list *list, size_t *at,
                                 const json_t *template, const char *name,
                                 const char *where) {
  moerun_status status = MOERUN_OK;
  const json_t *tokens = json_object_get(template, "special_tokens");
  const json_t *ids = json_object_get(json_object_get(tokens, name), "ids");
  MOERUN_REQUIRE(json_array_size(ids) > 0, MOERUN_ERR_FORMAT,
                 "%s: special token \"%s\": expected a token id, found none",
                 where, name);
  for (size_t i = 0; i < json_array_size(ids); i++) {
    MOERUN_TRY(put(list, (*at)++, json_array_get(ids, i), where));
  }
done:
  return status;
}

/* "single": the text $A, with special tokens in front of it and behind it. */
static moerun_status read_template(moerun__post *post, const json_t *stage,
                                   const char *where) {
  moerun_status status = MOERUN_OK;
  json_t *pieces = NULL;
  int has_text = 0;
  size_t front = 0;
  size_t behind = post->behind.count;
  MOERUN_TRY(moerun__json_array(&pieces, stage, "single", where));
  for (size_t i = 0; i < json_array_size(pieces); i++) {
    const json_t *piece = json_array_get(pieces, i);
    const char *text = json_string_value(
        json_object_get(json_object_get(piece, "Sequence"), "id"));
    const char *name = json_string_value(
        json_object_get(json_object_get(piece, "SpecialToken"), "id"));
    const int is_text = text != NULL && strcmp(text, "A") == 0 && !has_text;
    MOERUN_REQUIRE(is_text || (text == NULL && name != NULL),
                   MOERUN_ERR_UNSUPPORTED,
                   "%s: expected a template of one text and special tokens, "
                   "found another piece %zu: give token ids instead of text",
                   where, i);
    if (is_text) {
      has_text = 1;
    } else if (has_text) {
      MOERUN_TRY(put_special(&post->behind, &behind, stage, name, where));
    } else {
      MOERUN_TRY(put_special(&post->front, &front, stage, name, where));
    }
  }
  MOERUN_REQUIRE(has_text, MOERUN_ERR_UNSUPPORTED,
                 "%s: expected a template with the text, found none: give "
                 "token ids instead of text",
                 where);
done:
  return status;
}

/* ---- BERT's and RoBERTa's ------------------------------------------------ */

/* ["text", id] of the key. */
static moerun_status read_pair(const json_t **out, const json_t *stage,
                               const char *key, const char *where) {
  moerun_status status = MOERUN_OK;
  json_t *pair = NULL;
  MOERUN_TRY(moerun__json_array(&pair, stage, key, where));
  *out = json_array_get(pair, 1);
done:
  return status;
}

static moerun_status read_bert(moerun__post *post, const json_t *stage,
                               const char *where) {
  moerun_status status = MOERUN_OK;
  const json_t *cls = NULL;
  const json_t *sep = NULL;
  MOERUN_TRY(read_pair(&cls, stage, "cls", where));
  MOERUN_TRY(read_pair(&sep, stage, "sep", where));
  MOERUN_TRY(put(&post->front, 0, cls, where));
  MOERUN_TRY(put(&post->behind, post->behind.count, sep, where));
done:
  return status;
}

/* ---- All of them --------------------------------------------------------- */

/* ByteLevel only trims offsets, which nobody asks for here. */
static moerun_status read_byte_level(moerun__post *post, const json_t *stage,
                                     const char *where) {
  (void)post;
  (void)stage;
  (void)where;
  return MOERUN_OK;
}

typedef struct kind {
  const char *type;
  moerun_status (*read)(moerun__post *post, const json_t *stage,
                        const char *where);
} kind;

static const kind kinds[] = {
    {"BertProcessing", read_bert},
    {"ByteLevel", read_byte_level},
    {"RobertaProcessing", read_bert},
    {"TemplateProcessing", read_template},
};

static moerun_status take_stage(void *self, const void *found,
                                const json_t *stage, const char *where) {
  const kind *of = found;
  return of->read(self, stage, where);
}

static const moerun__stage_kinds stages = {
    .list = "processors",
    .kind = kinds,
    .count = sizeof kinds / sizeof *kinds,
    .size = sizeof *kinds,
    .most = SIZE_MAX,
    .instead = ": give token ids instead of text",
    .take = take_stage};

moerun_status moerun__post_read(moerun__post *post, const json_t *value,
                                const char *where) {
  return moerun__stages_read(post, &stages, value, where);
}

void moerun__post_clear(moerun__post *post) {
  moerun__token_list_clear(&post->front);
  moerun__token_list_clear(&post->behind);
}
