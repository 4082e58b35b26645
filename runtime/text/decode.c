/* Each kind of stage is a row of a table: how its members are read, and how it
 * makes a list of parts from another one. Sequences are laid out flat.
 *
 * Where bytes are no whole character, ByteFallback gives U+FFFD for each of
 * them, as the Hugging Face library does. ByteLevel gives the bytes themselves,
 * so that what is cut can be put together again; where they are written as
 * JSON, they become what the library has made of them here already. */
#include "runtime/text/decode.h"

#include "runtime/base/json.h"
#include "runtime/base/memory.h"
#include "runtime/text/byte_alphabet.h"
#include "runtime/text/regex.h"
#include "runtime/text/unicode.h"

#include <stdlib.h>
#include <string.h>

/* No text becomes longer by more than this factor and number of bytes. */
enum { MAX_STEPS = 32, MAX_NESTED = 8, MAX_GROWTH = 64, MAX_MORE = 1 << 16 };

typedef struct kind {
  const char *type;
  moerun_status (*read)(moerun__decode_step *step, const json_t *stage,
                        const char *where);
  moerun_status (*run)(const moerun__decode_step *step, moerun__parts *out,
                       const moerun__parts *in);
} kind;

struct moerun__decode_step {
  const kind *kind;
  moerun__byte_alphabet *alphabet; /* ByteLevel */
  moerun__pattern *pattern;        /* Replace */
  char *content;                   /* Replace, Strip, Metaspace */
  size_t content_bytes;
  int64_t strips_left;
  int64_t strips_right;
  int drops_first; /* Metaspace: blanks of the first token */
  int is_last;     /* of all steps: bytes may stay what they are */
};

/* ---- Parts --------------------------------------------------------------- */

moerun_status moerun__parts_end(moerun__parts *parts) {
  moerun_status status = MOERUN_OK;
  if (parts->count == parts->room) {
    const size_t room = parts->room < 64 ? 64 : parts->room + parts->room / 2;
    MOERUN_TRY(
        moerun__resize(&parts->end, parts->room, room, sizeof *parts->end));
    parts->room = room;
  }
  parts->end[parts->count++] = parts->text.count;
done:
  return status;
}

void moerun__parts_clear(moerun__parts *parts) {
  moerun__text_clear(&parts->text);
  moerun__free(parts->end);
  memset(parts, 0, sizeof *parts);
}

/* *bytes bytes of part i. */
static const char *part_of(const moerun__parts *parts, size_t i,
                           size_t *bytes) {
  const size_t start = i > 0 ? parts->end[i - 1] : 0;
  *bytes = parts->end[i] - start;
  return parts->text.bytes + start;
}

static moerun_status put(moerun__parts *out, const char *text, size_t bytes) {
  return moerun__text_append(&out->text, text, bytes);
}

/* ---- The kinds ----------------------------------------------------------- */

static moerun_status read_byte_level(moerun__decode_step *step,
                                     const json_t *stage, const char *where) {
  moerun_status status = MOERUN_OK;
  (void)stage;
  (void)where;
  MOERUN_TRY(moerun__alloc(&step->alphabet, 1, sizeof *step->alphabet));
  moerun__byte_alphabet_fill(step->alphabet);
done:
  return status;
}

/* U+FFFD for each part that is not UTF-8, as later steps look at characters. */
static moerun_status mend(moerun__text *text) {
  moerun_status status = MOERUN_OK;
  moerun__text mended = {0};
  for (size_t at = 0; at < text->count;) {
    const int length = moerun__utf8_length(text->bytes + at, text->count - at);
    const size_t bytes = (size_t)(length > 0 ? length : -length);
    MOERUN_TRY(length > 0
                   ? moerun__text_append(&mended, text->bytes + at, bytes)
                   : moerun__text_append(&mended, "\xEF\xBF\xBD", 3));
    at += bytes;
  }
  text->count = 0;
  MOERUN_TRY(moerun__text_append(text, mended.bytes, mended.count));
done:
  moerun__text_clear(&mended);
  return status;
}

/* A token with a character that stands for no byte is meant as it is. */
static moerun_status run_byte_level(const moerun__decode_step *step,
                                    moerun__parts *out,
                                    const moerun__parts *in) {
  moerun_status status = MOERUN_OK;
  moerun__text *text = &out->text;
  MOERUN_TRY(moerun__text_append(text, "", 0));
  for (size_t i = 0; i < in->count; i++) {
    size_t bytes = 0;
    const char *part = part_of(in, i, &bytes);
    MOERUN_TRY(put(out, part, bytes));
    char *last = text->bytes + text->count - bytes;
    const int64_t count =
        moerun__alphabet_bytes(step->alphabet, last, part, bytes);
    if (count < 0) {
      memcpy(last, part, bytes);
    } else {
      text->count -= bytes - (size_t)count;
    }
  }
  if (!step->is_last) MOERUN_TRY(mend(text));
  MOERUN_TRY(moerun__parts_end(out));
done:
  return status;
}

static moerun_status read_content(moerun__decode_step *step,
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

static moerun_status read_replace(moerun__decode_step *step,
                                  const json_t *stage, const char *where) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__pattern_read(&step->pattern, stage, where));
  MOERUN_TRY(read_content(step, stage, "content", where));
done:
  return status;
}

static moerun_status run_replace(const moerun__decode_step *step,
                                 moerun__parts *out, const moerun__parts *in) {
  moerun_status status = MOERUN_OK;
  for (size_t i = 0; i < in->count; i++) {
    moerun__search search = {0};
    size_t copied = 0;
    int found = 0;
    search.text = part_of(in, i, &search.bytes);
    while (search.bytes > 0) {
      MOERUN_TRY(
          moerun__pattern_next(step->pattern, &found, &search, "a token"));
      if (!found) break;
      MOERUN_TRY(put(out, search.text + copied, search.start - copied));
      MOERUN_TRY(put(out, step->content, step->content_bytes));
      copied = search.end;
    }
    MOERUN_TRY(put(out, search.text + copied, search.bytes - copied));
    MOERUN_TRY(moerun__parts_end(out));
  }
done:
  return status;
}

static moerun_status read_nothing(moerun__decode_step *step,
                                  const json_t *stage, const char *where) {
  (void)step;
  (void)stage;
  (void)where;
  return MOERUN_OK;
}

/* The byte that <0x1F> means, or -1. */
static int byte_of(const char *part, size_t bytes) {
  char digits[3] = "";
  if (bytes != 6 || memcmp(part, "<0x", 3) != 0 || part[5] != '>') return -1;
  memcpy(digits, part + 3, 2);
  if (strspn(digits, "0123456789abcdefABCDEF") != 2) return -1;
  return (int)strtol(digits, NULL, 16);
}

/* Ends a run of bytes: one part if it is UTF-8, else U+FFFD for each. */
static moerun_status put_bytes(moerun__parts *out, moerun__text *run) {
  moerun_status status = MOERUN_OK;
  size_t at = 0;
  int length = 1;
  while (at < run->count && length > 0) {
    length = moerun__utf8_length(run->bytes + at, run->count - at);
    if (length > 0) at += (size_t)length;
  }
  if (at == run->count && at > 0) {
    MOERUN_TRY(put(out, run->bytes, run->count));
    MOERUN_TRY(moerun__parts_end(out));
  }
  for (size_t i = 0; at < run->count && i < run->count; i++) {
    MOERUN_TRY(put(out, "\xEF\xBF\xBD", 3));
    MOERUN_TRY(moerun__parts_end(out));
  }
  run->count = 0;
done:
  return status;
}

static moerun_status run_byte_fallback(const moerun__decode_step *step,
                                       moerun__parts *out,
                                       const moerun__parts *in) {
  moerun_status status = MOERUN_OK;
  moerun__text run = {0};
  (void)step;
  for (size_t i = 0; i < in->count; i++) {
    size_t bytes = 0;
    const char *part = part_of(in, i, &bytes);
    const int byte = byte_of(part, bytes);
    if (byte >= 0) {
      const char c = (char)byte;
      MOERUN_TRY(moerun__text_append(&run, &c, 1));
      continue;
    }
    MOERUN_TRY(put_bytes(out, &run));
    MOERUN_TRY(put(out, part, bytes));
    MOERUN_TRY(moerun__parts_end(out));
  }
  MOERUN_TRY(put_bytes(out, &run));
done:
  moerun__text_clear(&run);
  return status;
}

static moerun_status run_fuse(const moerun__decode_step *step,
                              moerun__parts *out, const moerun__parts *in) {
  moerun_status status = MOERUN_OK;
  (void)step;
  MOERUN_TRY(put(out, in->text.bytes, in->text.count));
  MOERUN_TRY(moerun__parts_end(out));
done:
  return status;
}

static moerun_status read_strip(moerun__decode_step *step, const json_t *stage,
                                const char *where) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(read_content(step, stage, "content", where));
  MOERUN_REQUIRE(step->content_bytes > 0 &&
                     (size_t)moerun__character_bytes(*step->content) ==
                         step->content_bytes,
                 MOERUN_ERR_FORMAT,
                 "%s: key \"content\": expected one character, found \"%s\"",
                 where, step->content);
  MOERUN_TRY(moerun__json_int(&step->strips_left, stage, "start", 0, INT32_MAX,
                              NULL, where));
  MOERUN_TRY(moerun__json_int(&step->strips_right, stage, "stop", 0, INT32_MAX,
                              NULL, where));
done:
  return status;
}

static moerun_status run_strip(const moerun__decode_step *step,
                               moerun__parts *out, const moerun__parts *in) {
  moerun_status status = MOERUN_OK;
  const size_t length = step->content_bytes;
  for (size_t i = 0; i < in->count; i++) {
    size_t bytes = 0;
    const char *part = part_of(in, i, &bytes);
    for (int64_t k = 0; k < step->strips_left && bytes >= length &&
                        memcmp(part, step->content, length) == 0;
         k++) {
      part += length;
      bytes -= length;
    }
    for (int64_t k = 0;
         k < step->strips_right && bytes >= length &&
         memcmp(part + bytes - length, step->content, length) == 0;
         k++) {
      bytes -= length;
    }
    MOERUN_TRY(put(out, part, bytes));
    MOERUN_TRY(moerun__parts_end(out));
  }
done:
  return status;
}

static moerun_status read_metaspace(moerun__decode_step *step,
                                    const json_t *stage, const char *where) {
  moerun_status status = MOERUN_OK;
  const int yes = 1;
  const char *scheme = NULL;
  int has_prefix = 0;
  MOERUN_TRY(read_content(step, stage, "replacement", where));
  MOERUN_TRY(
      moerun__json_bool(&has_prefix, stage, "add_prefix_space", &yes, where));
  MOERUN_TRY(moerun__json_text(&scheme, stage, "prepend_scheme", 0, where));
  step->drops_first =
      scheme != NULL ? strcmp(scheme, "never") != 0 : has_prefix;
done:
  return status;
}

static moerun_status run_metaspace(const moerun__decode_step *step,
                                   moerun__parts *out,
                                   const moerun__parts *in) {
  moerun_status status = MOERUN_OK;
  const size_t length = step->content_bytes;
  for (size_t i = 0; i < in->count; i++) {
    size_t bytes = 0;
    size_t at = 0;
    const char *part = part_of(in, i, &bytes);
    while (at < bytes) {
      const int is_blank = length > 0 && bytes - at >= length &&
                           memcmp(part + at, step->content, length) == 0;
      if (!is_blank) {
        MOERUN_TRY(put(out, part + at, 1));
      } else if (i > 0 || !step->drops_first) {
        MOERUN_TRY(put(out, " ", 1));
      }
      at += is_blank ? length : 1;
    }
    MOERUN_TRY(moerun__parts_end(out));
  }
done:
  return status;
}

static const kind kinds[] = {
    {"ByteFallback", read_nothing, run_byte_fallback},
    {"ByteLevel", read_byte_level, run_byte_level},
    {"Fuse", read_nothing, run_fuse},
    {"Metaspace", read_metaspace, run_metaspace},
    {"Replace", read_replace, run_replace},
    {"Strip", read_strip, run_strip},
};

/* ---- All of them --------------------------------------------------------- */

static moerun_status read_stage(moerun__decoder *d, const json_t *stage,
                                int depth, const char *where) {
  moerun_status status = MOERUN_OK;
  const char *type = NULL;
  json_t *steps = NULL;
  MOERUN_TRY(moerun__json_text(&type, stage, "type", 1, where));
  if (strcmp(type, "Sequence") == 0 && depth < MAX_NESTED) {
    MOERUN_TRY(moerun__json_array(&steps, stage, "decoders", where));
    for (size_t i = 0; i < json_array_size(steps); i++) {
      MOERUN_TRY(read_stage(d, json_array_get(steps, i), depth + 1, where));
    }
    goto done;
  }
  const kind *found = NULL;
  for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
    if (strcmp(kinds[k].type, type) == 0) found = &kinds[k];
  }
  MOERUN_REQUIRE(found != NULL && d->count < MAX_STEPS, MOERUN_ERR_UNSUPPORTED,
                 "%s of type \"%s\" is not supported", where, type);
  moerun__decode_step *step = &d->step[d->count++];
  step->kind = found;
  MOERUN_TRY(found->read(step, stage, where));
done:
  return status;
}

/* Without a decoder there is a blank between two tokens. */
static moerun_status run_blanks(const moerun__decode_step *step,
                                moerun__parts *out, const moerun__parts *in) {
  moerun_status status = MOERUN_OK;
  (void)step;
  for (size_t i = 0; i < in->count; i++) {
    size_t bytes = 0;
    const char *part = part_of(in, i, &bytes);
    if (i > 0) MOERUN_TRY(put(out, " ", 1));
    MOERUN_TRY(put(out, part, bytes));
  }
  MOERUN_TRY(moerun__parts_end(out));
done:
  return status;
}

static const kind blanks = {"null", read_nothing, run_blanks};

moerun_status moerun__decoder_read(moerun__decoder *d, const json_t *value,
                                   const char *where) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__alloc(&d->step, MAX_STEPS, sizeof *d->step));
  if (value == NULL || json_is_null(value)) {
    d->step[d->count++].kind = &blanks;
  } else {
    MOERUN_TRY(read_stage(d, value, 0, where));
  }
  if (d->count > 0) d->step[d->count - 1].is_last = 1;
done:
  return status;
}

void moerun__decoder_clear(moerun__decoder *d) {
  for (size_t i = 0; i < d->count; i++) {
    moerun__free(d->step[i].alphabet);
    moerun__pattern_destroy(d->step[i].pattern);
    moerun__free(d->step[i].content);
  }
  moerun__free(d->step);
  memset(d, 0, sizeof *d);
}

moerun_status moerun__decoder_run(const moerun__decoder *d, moerun__text *out,
                                  moerun__parts *parts) {
  moerun_status status = MOERUN_OK;
  moerun__parts next = {0};
  const size_t bytes = parts->text.count;
  for (size_t i = 0; i < d->count; i++) {
    next.count = 0;
    next.text.count = 0;
    MOERUN_TRY(d->step[i].kind->run(&d->step[i], &next, parts));
    MOERUN_REQUIRE(next.text.count / MAX_GROWTH <= bytes + MAX_MORE,
                   MOERUN_ERR_INVALID,
                   "tokens of %zu bytes become a text of %zu by the "
                   "tokenizer's decoder",
                   bytes, next.text.count);
    const moerun__parts swapped = *parts;
    *parts = next;
    next = swapped;
  }
  MOERUN_TRY(moerun__text_append(out, parts->text.bytes, parts->text.count));
done:
  moerun__parts_clear(&next);
  return status;
}
