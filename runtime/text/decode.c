/* Each kind of stage is a row of a table: how its members are read, and what
 * becomes of parts, which are spellings of tokens at first. Sequences are laid
 * out flat. Parts come in bytes, each followed by its end, and a step hands on
 * what nothing behind can change any more: so a text can be shown while it is
 * generated, and is the same as of all tokens at once, which come no other way.
 *
 * Most steps look at one part at a time and keep it until it ends. Fuse makes
 * one part of all, which ends with the text; Metaspace and Strip, which stand
 * behind it in published files, hand on such a part in pieces.
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
#include "runtime/text/stages.h"
#include "runtime/text/unicode.h"

#include <string.h>

/* No text becomes longer by more than this factor and number of bytes. */
enum { MAX_STEPS = 32, MAX_GROWTH = 64, MAX_MORE = 1 << 16 };

/* What a kind does with step i of a text. */
typedef struct kind {
  const char *type;
  moerun_status (*read)(moerun__decode_step *step, const json_t *stage,
                        const char *where);
  /* More bytes of a part stand behind flow.held. */
  moerun_status (*more)(moerun__decoding *d, size_t i);
  /* And the part ends. */
  moerun_status (*end_part)(moerun__decoding *d, size_t i);
  /* No part comes any more. */
  moerun_status (*end)(moerun__decoding *d, size_t i);
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

struct moerun__decode_flow {
  moerun__text held; /* of the part that has not ended */
  moerun__text run;  /* ByteFallback, ByteLevel: bytes of parts before it */
  int64_t parts;     /* that have ended */
  int64_t stripped;  /* Strip: at the left of this part; -1: it is over */
  size_t bytes;      /* handed on so far */
};

/* ---- From step to step --------------------------------------------------- */

/* Hands bytes on to the step behind i. */
static moerun_status put(moerun__decoding *d, size_t i, const char *text,
                         size_t bytes) {
  moerun_status status = MOERUN_OK;
  const size_t next = i + 1;
  moerun__decode_flow *flow = &d->flow[i];
  if (bytes == 0) goto done;
  flow->bytes += bytes;
  MOERUN_REQUIRE(flow->bytes / MAX_GROWTH <= d->bytes + MAX_MORE,
                 MOERUN_ERR_INVALID,
                 "tokens of %zu bytes become a text of %zu by the "
                 "tokenizer's decoder",
                 d->bytes, flow->bytes);
  if (next == d->decoder->count) {
    MOERUN_TRY(moerun__text_append(d->out, text, bytes));
  } else {
    MOERUN_TRY(moerun__text_append(&d->flow[next].held, text, bytes));
    MOERUN_TRY(d->decoder->step[next].kind->more(d, next));
  }
done:
  return status;
}

/* The part that was handed on ends. */
static moerun_status put_end(moerun__decoding *d, size_t i) {
  moerun_status status = MOERUN_OK;
  const size_t next = i + 1;
  if (next == d->decoder->count) goto done;
  MOERUN_TRY(d->decoder->step[next].kind->end_part(d, next));
  d->flow[next].held.count = 0;
  d->flow[next].parts++;
done:
  return status;
}

/* Hands on the first bytes of what is held back. */
static moerun_status put_held(moerun__decoding *d, size_t i, size_t bytes) {
  moerun_status status = MOERUN_OK;
  moerun__text *held = &d->flow[i].held;
  if (bytes == 0) goto done;
  MOERUN_TRY(put(d, i, held->bytes, bytes));
  held->count -= bytes;
  memmove(held->bytes, held->bytes + bytes, held->count);
done:
  return status;
}

static moerun_status keep(moerun__decoding *d, size_t i) {
  (void)d;
  (void)i;
  return MOERUN_OK;
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

/* Hands on the run with U+FFFD for each part that is not UTF-8, as later steps
 * look at characters; but for the start of a character, unless nothing comes
 * any more. */
static moerun_status mend(moerun__decoding *d, size_t i, int is_over) {
  moerun_status status = MOERUN_OK;
  moerun__text *run = &d->flow[i].run;
  const size_t count =
      is_over ? run->count : moerun__whole_characters(run->bytes, run->count);
  for (size_t at = 0; at < count;) {
    const int length = moerun__utf8_length(run->bytes + at, run->count - at);
    const size_t bytes = (size_t)(length > 0 ? length : -length);
    MOERUN_TRY(length > 0 ? put(d, i, run->bytes + at, bytes)
                          : put(d, i, "\xEF\xBF\xBD", 3));
    at += bytes;
  }
  run->count -= count;
  if (run->count > 0) memmove(run->bytes, run->bytes + count, run->count);
done:
  return status;
}

/* A token with a character that stands for no byte is meant as it is. */
static moerun_status end_byte_level_part(moerun__decoding *d, size_t i) {
  moerun_status status = MOERUN_OK;
  const moerun__decode_step *step = &d->decoder->step[i];
  moerun__decode_flow *flow = &d->flow[i];
  moerun__text *run = &flow->run;
  const size_t before = run->count;
  const size_t bytes = flow->held.count;
  if (bytes == 0) goto done;
  MOERUN_TRY(moerun__text_append(run, flow->held.bytes, bytes));
  char *last = run->bytes + before;
  const int64_t count =
      moerun__alphabet_bytes(step->alphabet, last, flow->held.bytes, bytes);
  if (count < 0) {
    memcpy(last, flow->held.bytes, bytes);
  } else {
    run->count = before + (size_t)count;
  }
  if (step->is_last) {
    MOERUN_TRY(put(d, i, run->bytes, run->count));
    run->count = 0;
  } else {
    MOERUN_TRY(mend(d, i, 0));
  }
done:
  return status;
}

static moerun_status end_byte_level(moerun__decoding *d, size_t i) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(mend(d, i, 1));
  MOERUN_TRY(put_end(d, i));
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

static moerun_status end_replace_part(moerun__decoding *d, size_t i) {
  moerun_status status = MOERUN_OK;
  const moerun__decode_step *step = &d->decoder->step[i];
  const moerun__text *held = &d->flow[i].held;
  moerun__search search = {.text = held->bytes, .bytes = held->count};
  size_t copied = 0;
  int found = 0;
  while (search.bytes > 0) {
    MOERUN_TRY(moerun__pattern_next(step->pattern, &found, &search, "a token"));
    const size_t end = found ? search.start : search.bytes;
    MOERUN_TRY(put(d, i, search.text + copied, end - copied));
    if (!found) break;
    MOERUN_TRY(put(d, i, step->content, step->content_bytes));
    copied = search.end;
  }
  MOERUN_TRY(put_end(d, i));
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

/* Ends a run of bytes: one part if it is UTF-8, else U+FFFD for each. */
static moerun_status end_run(moerun__decoding *d, size_t i) {
  moerun_status status = MOERUN_OK;
  moerun__text *run = &d->flow[i].run;
  size_t at = 0;
  int length = 1;
  while (at < run->count && length > 0) {
    length = moerun__utf8_length(run->bytes + at, run->count - at);
    if (length > 0) at += (size_t)length;
  }
  if (at == run->count && at > 0) {
    MOERUN_TRY(put(d, i, run->bytes, run->count));
    MOERUN_TRY(put_end(d, i));
  }
  for (size_t k = 0; at < run->count && k < run->count; k++) {
    MOERUN_TRY(put(d, i, "\xEF\xBF\xBD", 3));
    MOERUN_TRY(put_end(d, i));
  }
  run->count = 0;
done:
  return status;
}

static moerun_status end_fallback_part(moerun__decoding *d, size_t i) {
  moerun_status status = MOERUN_OK;
  moerun__decode_flow *flow = &d->flow[i];
  const int byte = moerun__byte_of_code(flow->held.bytes, flow->held.count);
  if (byte >= 0) {
    const char c = (char)byte;
    MOERUN_TRY(moerun__text_append(&flow->run, &c, 1));
    goto done;
  }
  MOERUN_TRY(end_run(d, i));
  MOERUN_TRY(put_held(d, i, flow->held.count));
  MOERUN_TRY(put_end(d, i));
done:
  return status;
}

static moerun_status pass_on(moerun__decoding *d, size_t i) {
  return put_held(d, i, d->flow[i].held.count);
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

/* What may still be stripped at the right is held back. */
static moerun_status strip_more(moerun__decoding *d, size_t i) {
  moerun_status status = MOERUN_OK;
  const moerun__decode_step *step = &d->decoder->step[i];
  moerun__decode_flow *flow = &d->flow[i];
  moerun__text *held = &flow->held;
  const size_t length = step->content_bytes;
  size_t gone = 0;
  while (flow->stripped >= 0 && held->count - gone >= length) {
    const int goes = flow->stripped < step->strips_left &&
                     memcmp(held->bytes + gone, step->content, length) == 0;
    flow->stripped = goes ? flow->stripped + 1 : -1;
    gone += goes ? length : 0;
  }
  held->count -= gone;
  if (gone > 0) memmove(held->bytes, held->bytes + gone, held->count);
  const size_t kept = (size_t)step->strips_right * length;
  if (flow->stripped < 0 && held->count > kept) {
    MOERUN_TRY(put_held(d, i, held->count - kept));
  }
done:
  return status;
}

static moerun_status end_strip_part(moerun__decoding *d, size_t i) {
  moerun_status status = MOERUN_OK;
  const moerun__decode_step *step = &d->decoder->step[i];
  moerun__text *held = &d->flow[i].held;
  const size_t length = step->content_bytes;
  for (int64_t k = 0;
       k < step->strips_right && held->count >= length &&
       memcmp(held->bytes + held->count - length, step->content, length) == 0;
       k++) {
    held->count -= length;
  }
  MOERUN_TRY(put_held(d, i, held->count));
  MOERUN_TRY(put_end(d, i));
  d->flow[i].stripped = 0;
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

/* Hands on what is held, but for the start of a mark if the part goes on. */
static moerun_status unmark(moerun__decoding *d, size_t i, int is_over) {
  moerun_status status = MOERUN_OK;
  const moerun__decode_step *step = &d->decoder->step[i];
  moerun__decode_flow *flow = &d->flow[i];
  moerun__text *held = &flow->held;
  const size_t length = step->content_bytes;
  size_t from = 0;
  size_t at = 0;
  while (at < held->count) {
    const size_t left = held->count - at;
    const size_t seen = left < length ? left : length;
    const int begins = memcmp(held->bytes + at, step->content, seen) == 0;
    if (begins && seen < length && !is_over) break;
    if (!begins || length == 0 || seen < length) {
      at++;
      continue;
    }
    MOERUN_TRY(put(d, i, held->bytes + from, at - from));
    if (flow->parts > 0 || !step->drops_first) MOERUN_TRY(put(d, i, " ", 1));
    at += length;
    from = at;
  }
  if (at > from) MOERUN_TRY(put(d, i, held->bytes + from, at - from));
  held->count -= at;
  if (at > 0) memmove(held->bytes, held->bytes + at, held->count);
done:
  return status;
}

static moerun_status unmark_more(moerun__decoding *d, size_t i) {
  return unmark(d, i, 0);
}

static moerun_status end_metaspace_part(moerun__decoding *d, size_t i) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(unmark(d, i, 1));
  MOERUN_TRY(put_end(d, i));
done:
  return status;
}

/* Without a decoder there is a blank between two tokens. */
static moerun_status end_blanks_part(moerun__decoding *d, size_t i) {
  moerun_status status = MOERUN_OK;
  if (d->flow[i].parts > 0) MOERUN_TRY(put(d, i, " ", 1));
  MOERUN_TRY(pass_on(d, i));
done:
  return status;
}

static const kind kinds[] = {
    {"ByteFallback", read_nothing, keep, end_fallback_part, end_run},
    {"ByteLevel", read_byte_level, keep, end_byte_level_part, end_byte_level},
    {"Fuse", read_nothing, pass_on, keep, put_end},
    {"Metaspace", read_metaspace, unmark_more, end_metaspace_part, keep},
    {"Replace", read_replace, keep, end_replace_part, keep},
    {"Strip", read_strip, strip_more, end_strip_part, keep},
};

static const kind blanks = {"null", read_nothing, keep, end_blanks_part,
                            put_end};

/* ---- All of them --------------------------------------------------------- */

static moerun_status take_stage(void *self, const void *found,
                                const json_t *stage, const char *where) {
  moerun__decoder *d = self;
  moerun__decode_step *step = &d->step[d->count++];
  step->kind = found;
  return step->kind->read(step, stage, where);
}

static const moerun__stage_kinds stages = {.list = "decoders",
                                           .kind = kinds,
                                           .count =
                                               sizeof kinds / sizeof *kinds,
                                           .size = sizeof *kinds,
                                           .most = MAX_STEPS,
                                           .instead = "",
                                           .take = take_stage};

moerun_status moerun__decoder_read(moerun__decoder *d, const json_t *value,
                                   const char *where) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__alloc(&d->step, MAX_STEPS, sizeof *d->step));
  if (value == NULL || json_is_null(value)) {
    d->step[d->count++].kind = &blanks;
  } else {
    MOERUN_TRY(moerun__stages_read(d, &stages, value, where));
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

int moerun__decoder_byte(const moerun__decoder *d, const char *spelling,
                         size_t bytes) {
  for (size_t i = 0; i < d->count; i++) {
    if (d->step[i].kind->end_part == end_fallback_part) {
      return moerun__byte_of_code(spelling, bytes);
    }
  }
  return -1;
}

/* ---- One text ------------------------------------------------------------ */

static void clear_flow(moerun__decode_flow *flow) {
  flow->held.count = 0;
  flow->run.count = 0;
  flow->parts = 0;
  flow->stripped = 0;
  flow->bytes = 0;
}

moerun_status moerun__decoding_begin(moerun__decoding *d,
                                     const moerun__decoder *decoder) {
  moerun_status status = MOERUN_OK;
  const size_t count = decoder->count;
  if (count > d->room) {
    MOERUN_TRY(moerun__resize(&d->flow, d->room, count, sizeof *d->flow));
    memset(d->flow + d->room, 0, (count - d->room) * sizeof *d->flow);
    d->room = count;
  }
  d->decoder = decoder;
  d->bytes = 0;
  for (size_t i = 0; i < count; i++) {
    clear_flow(&d->flow[i]);
  }
done:
  return status;
}

moerun_status moerun__decoding_put(moerun__decoding *d, moerun__text *out,
                                   const char *spelling, size_t bytes) {
  moerun_status status = MOERUN_OK;
  moerun__decode_flow *first = d->flow;
  d->out = out;
  d->bytes += bytes;
  if (d->decoder->count == 0) {
    MOERUN_TRY(moerun__text_append(out, spelling, bytes));
    goto done;
  }
  MOERUN_TRY(moerun__text_append(&first->held, spelling, bytes));
  MOERUN_TRY(d->decoder->step[0].kind->more(d, 0));
  MOERUN_TRY(d->decoder->step[0].kind->end_part(d, 0));
  first->held.count = 0;
  first->parts++;
done:
  return status;
}

moerun_status moerun__decoding_end(moerun__decoding *d, moerun__text *out) {
  moerun_status status = MOERUN_OK;
  d->out = out;
  for (size_t i = 0; i < d->decoder->count; i++) {
    MOERUN_TRY(d->decoder->step[i].kind->end(d, i));
  }
done:
  return status;
}

static moerun_status copy_text(moerun__text *to, const moerun__text *from) {
  to->count = 0;
  return from->count > 0 ? moerun__text_append(to, from->bytes, from->count)
                         : MOERUN_OK;
}

moerun_status moerun__decoding_copy(moerun__decoding *to,
                                    const moerun__decoding *from) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__decoding_begin(to, from->decoder));
  to->bytes = from->bytes;
  for (size_t i = 0; i < from->decoder->count; i++) {
    moerun__decode_flow *flow = &to->flow[i];
    MOERUN_TRY(copy_text(&flow->held, &from->flow[i].held));
    MOERUN_TRY(copy_text(&flow->run, &from->flow[i].run));
    flow->parts = from->flow[i].parts;
    flow->stripped = from->flow[i].stripped;
    flow->bytes = from->flow[i].bytes;
  }
done:
  return status;
}

void moerun__decoding_clear(moerun__decoding *d) {
  for (size_t i = 0; i < d->room; i++) {
    moerun__text_clear(&d->flow[i].held);
    moerun__text_clear(&d->flow[i].run);
  }
  moerun__free(d->flow);
  memset(d, 0, sizeof *d);
}
