/* Each kind of stage is a row of a table: how its members are read, and what it
 * writes for a text. Sequences are laid out flat.
 *
 * Unicode's normal forms (UAX 15) are utf8proc's. A text is looked through for
 * characters that may change or join; only what lies between two that do not is
 * given to the library, so that English and Chinese cost a look. */
#include "runtime/text/normalize.h"

#include "runtime/base/json.h"
#include "runtime/base/memory.h"
#include "runtime/text/regex.h"
#include "runtime/text/stages.h"
#include "runtime/text/unicode.h"

#include <string.h>
#include <utf8proc.h>

/* No text becomes longer by more than this factor and number of bytes. */
enum { MAX_STEPS = 64, MAX_GROWTH = 64, MAX_MORE = 1 << 16 };

/* What a step may write: `out` is empty before. */
typedef struct span {
  const char *text;
  size_t bytes;
  size_t whole; /* bytes of the text in front of all steps */
  const char *origin;
} span;

typedef struct kind {
  const char *type;
  moerun_status (*read)(moerun__normal_step *step, const json_t *stage,
                        const char *where);
  moerun_status (*run)(const moerun__normal_step *step, moerun__text *out,
                       const span *in);
} kind;

struct moerun__normal_step {
  const kind *kind;
  moerun__pattern *pattern; /* Replace */
  char *content;            /* Replace, Prepend */
  size_t content_bytes;
  int composes;      /* the forms C */
  int is_compatible; /* the forms K */
  int strips_left;
  int strips_right;
};

/* ---- Normal forms -------------------------------------------------------- */

static moerun_status read_form(moerun__normal_step *step, const json_t *stage,
                               const char *where) {
  const char *type = json_string_value(json_object_get(stage, "type"));
  const size_t bytes = strlen(type);
  (void)where;
  step->composes = type[bytes - 1] == 'C';
  step->is_compatible = type[bytes - 2] == 'K';
  return MOERUN_OK;
}

/* Whether the character stays as it is, and joins no other one before it. */
static int is_settled(const moerun__normal_step *step, int32_t c) {
  if (c < 0xA0) return 1;
  if (c < 0x300 && step->composes && !step->is_compatible) return 1;
  if (c >= 0x4E00 && c <= 0x9FFF) return 1;
  if (c >= 0xAC00 && c <= 0xD7A3) return step->composes;
  const int is_jamo = (c >= 0x1100 && c <= 0x11FF) ||
                      (c >= 0xA960 && c <= 0xA97F) ||
                      (c >= 0xD7B0 && c <= 0xD7FF);
  const utf8proc_property_t *property = utf8proc_get_property(c);
  const int is_mark = property->category >= UTF8PROC_CATEGORY_MN &&
                      property->category <= UTF8PROC_CATEGORY_ME;
  return !is_jamo && !is_mark && property->combining_class == 0 &&
         property->decomp_seqindex == UINT16_MAX;
}

static moerun_status put_form(const moerun__normal_step *step,
                              moerun__text *out, const char *text,
                              size_t bytes) {
  moerun_status status = MOERUN_OK;
  utf8proc_int32_t *point = NULL;
  utf8proc_option_t options = UTF8PROC_STABLE;
  options |= step->composes ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE;
  if (step->is_compatible) options |= UTF8PROC_COMPAT;
  const utf8proc_uint8_t *from = (const utf8proc_uint8_t *)text;
  utf8proc_ssize_t count =
      utf8proc_decompose(from, (utf8proc_ssize_t)bytes, NULL, 0, options);
  MOERUN_REQUIRE(count >= 0, MOERUN_ERR_INVALID,
                 "a text of %zu bytes cannot be normalized: %s", bytes,
                 utf8proc_errmsg(count));
  /* The library writes UTF-8 over the points, with NUL behind. */
  MOERUN_TRY(moerun__alloc_unset(&point, (size_t)count + 1, sizeof *point));
  (void)utf8proc_decompose(from, (utf8proc_ssize_t)bytes, point, count,
                           options);
  count = utf8proc_reencode(point, count, options);
  MOERUN_TRY(moerun__text_append(out, (const char *)point, (size_t)count));
done:
  moerun__free(point);
  return status;
}

/* Unsettled parts begin with the settled character before them. */
static moerun_status run_form(const moerun__normal_step *step,
                              moerun__text *out, const span *in) {
  moerun_status status = MOERUN_OK;
  size_t copied = 0; /* up to here everything is in `out` */
  size_t last = 0;   /* the last settled character */
  int is_open = 0;   /* an unsettled one has come behind it */
  int length = 0;
  for (size_t at = 0; at < in->bytes; at += (size_t)length) {
    const int32_t c = moerun__code_point(in->text + at, &length);
    if (!is_settled(step, c)) {
      is_open = 1;
      continue;
    }
    if (is_open) {
      MOERUN_TRY(moerun__text_append(out, in->text + copied, last - copied));
      MOERUN_TRY(put_form(step, out, in->text + last, at - last));
      copied = at;
      is_open = 0;
    }
    last = at;
  }
  if (!is_open) last = in->bytes;
  MOERUN_TRY(moerun__text_append(out, in->text + copied, last - copied));
  if (is_open) {
    MOERUN_TRY(put_form(step, out, in->text + last, in->bytes - last));
  }
done:
  return status;
}

/* ---- Other steps --------------------------------------------------------- */

static moerun_status read_content(moerun__normal_step *step,
                                  const json_t *stage, const char *key,
                                  const char *where) {
  moerun_status status = MOERUN_OK;
  const char *content = NULL;
  MOERUN_TRY(moerun__json_text(&content, stage, key, 1, where));
  MOERUN_TRY(moerun__copy_text(&step->content, content));
  step->content_bytes = strlen(content);
done:
  return status;
}

static moerun_status read_prepend(moerun__normal_step *step,
                                  const json_t *stage, const char *where) {
  return read_content(step, stage, "prepend", where);
}

static moerun_status run_prepend(const moerun__normal_step *step,
                                 moerun__text *out, const span *in) {
  moerun_status status = MOERUN_OK;
  if (in->bytes == 0) goto done;
  MOERUN_TRY(moerun__text_append(out, step->content, step->content_bytes));
  MOERUN_TRY(moerun__text_append(out, in->text, in->bytes));
done:
  return status;
}

static moerun_status read_replace(moerun__normal_step *step,
                                  const json_t *stage, const char *where) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__pattern_read(&step->pattern, stage, where));
  MOERUN_TRY(read_content(step, stage, "content", where));
done:
  return status;
}

/* `bytes` are to be written. */
static moerun_status check_growth(const span *in, size_t bytes) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(bytes / MAX_GROWTH <= in->whole + MAX_MORE,
                 MOERUN_ERR_UNSUPPORTED,
                 "%s: a text of %zu bytes becomes one of %zu or more by the "
                 "tokenizer's normalizer",
                 in->origin, in->whole, bytes);
done:
  return status;
}

static moerun_status run_replace(const moerun__normal_step *step,
                                 moerun__text *out, const span *in) {
  moerun_status status = MOERUN_OK;
  moerun__search search = {.text = in->text, .bytes = in->bytes};
  size_t copied = 0;
  int found = 0;
  if (in->bytes == 0) goto done;
  for (;;) {
    MOERUN_TRY(
        moerun__pattern_next(step->pattern, &found, &search, in->origin));
    if (!found) break;
    MOERUN_TRY(check_growth(in, out->count + search.start - copied +
                                    step->content_bytes));
    MOERUN_TRY(
        moerun__text_append(out, in->text + copied, search.start - copied));
    MOERUN_TRY(moerun__text_append(out, step->content, step->content_bytes));
    copied = search.end;
  }
  MOERUN_TRY(moerun__text_append(out, in->text + copied, in->bytes - copied));
done:
  return status;
}

static moerun_status read_strip(moerun__normal_step *step, const json_t *stage,
                                const char *where) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(
      moerun__json_bool(&step->strips_left, stage, "strip_left", NULL, where));
  MOERUN_TRY(moerun__json_bool(&step->strips_right, stage, "strip_right", NULL,
                               where));
done:
  return status;
}

static moerun_status run_strip(const moerun__normal_step *step,
                               moerun__text *out, const span *in) {
  const size_t front =
      step->strips_left ? moerun__white_space_in_front(in->text, in->bytes) : 0;
  const size_t rest = in->bytes - front;
  const size_t behind = step->strips_right
                            ? moerun__white_space_behind(in->text + front, rest)
                            : 0;
  return moerun__text_append(out, in->text + front, rest - behind);
}

static moerun_status read_nothing(moerun__normal_step *step,
                                  const json_t *stage, const char *where) {
  (void)step;
  (void)stage;
  (void)where;
  return MOERUN_OK;
}

static moerun_status run_lowercase(const moerun__normal_step *step,
                                   moerun__text *out, const span *in) {
  moerun_status status = MOERUN_OK;
  int length = 0;
  (void)step;
  for (size_t at = 0; at < in->bytes; at += (size_t)length) {
    const int32_t c = moerun__code_point(in->text + at, &length);
    if (c == 0x130) { /* the only one that becomes two */
      MOERUN_TRY(moerun__text_append(out, "i\xCC\x87", 3));
    } else {
      MOERUN_TRY(moerun__put_code_point(out, utf8proc_tolower(c)));
    }
  }
done:
  return status;
}

static const kind kinds[] = {
    {"Lowercase", read_nothing, run_lowercase},
    {"NFC", read_form, run_form},
    {"NFD", read_form, run_form},
    {"NFKC", read_form, run_form},
    {"NFKD", read_form, run_form},
    {"Prepend", read_prepend, run_prepend},
    {"Replace", read_replace, run_replace},
    {"Strip", read_strip, run_strip},
};

/* ---- All of them --------------------------------------------------------- */

static moerun_status take_stage(void *self, const void *found,
                                const json_t *stage, const char *where) {
  moerun__normalizer *n = self;
  moerun__normal_step *step = &n->step[n->count++];
  step->kind = found;
  return step->kind->read(step, stage, where);
}

static const moerun__stage_kinds stages = {
    .list = "normalizers",
    .kind = kinds,
    .count = sizeof kinds / sizeof *kinds,
    .size = sizeof *kinds,
    .most = MAX_STEPS,
    .instead = ": give token ids instead of text",
    .take = take_stage};

moerun_status moerun__normalizer_read(moerun__normalizer *n,
                                      const json_t *value, const char *where) {
  moerun_status status = MOERUN_OK;
  if (value == NULL || json_is_null(value)) goto done;
  MOERUN_TRY(moerun__alloc(&n->step, MAX_STEPS, sizeof *n->step));
  MOERUN_TRY(moerun__stages_read(n, &stages, value, where));
done:
  return status;
}

void moerun__normalizer_clear(moerun__normalizer *n) {
  for (size_t i = 0; i < n->count; i++) {
    moerun__pattern_destroy(n->step[i].pattern);
    moerun__free(n->step[i].content);
  }
  moerun__free(n->step);
  memset(n, 0, sizeof *n);
}

moerun_status moerun__normalizer_run(const moerun__normalizer *n,
                                     moerun__normal_room *room,
                                     const char **out, size_t *out_bytes,
                                     const char *text, size_t bytes,
                                     const char *origin) {
  moerun_status status = MOERUN_OK;
  *out = text;
  *out_bytes = bytes;
  for (size_t i = 0; i < n->count; i++) {
    moerun__text *next = &room->text[i % 2];
    const span in = {
        .text = *out, .bytes = *out_bytes, .whole = bytes, .origin = origin};
    next->count = 0;
    MOERUN_TRY(moerun__text_append(next, "", 0));
    MOERUN_TRY(n->step[i].kind->run(&n->step[i], next, &in));
    MOERUN_TRY(check_growth(&in, next->count));
    *out = next->bytes;
    *out_bytes = next->count;
  }
done:
  return status;
}

void moerun__normal_room_clear(moerun__normal_room *room) {
  moerun__text_clear(&room->text[0]);
  moerun__text_clear(&room->text[1]);
}
