/* A step finds stretches of a text that it looks for, and those between them; a
 * rule says which of them become words of their own, join their neighbours or
 * are left out. A word goes through the remaining steps as soon as it is found,
 * so no list of words is kept, however long the text is.
 *
 * Each kind of stage is a row of a table: how its members are read, and how it
 * cuts. Sequences are laid out flat. */
#include "runtime/text/split.h"

#include "runtime/base/json.h"
#include "runtime/base/memory.h"
#include "runtime/text/regex.h"
#include "runtime/text/stages.h"
#include "runtime/text/unicode.h"

#include <string.h>

typedef enum rule {
  ISOLATED,
  REMOVED,
  MERGED_WITH_PREVIOUS,
  MERGED_WITH_NEXT,
  CONTIGUOUS,
  NUM_RULES,
} rule;

static const char *const rule_names[NUM_RULES] = {
    "Isolated", "Removed", "MergedWithPrevious", "MergedWithNext",
    "Contiguous"};

typedef enum prefix { PREFIX_NEVER, PREFIX_FIRST, PREFIX_ALWAYS } prefix;

typedef struct cutter cutter;

typedef struct kind {
  const char *type;
  moerun_status (*read)(moerun__split_step *step, const json_t *stage,
                        const char *where);
  moerun_status (*run)(cutter *c, const char *text, size_t bytes, int is_start);
} kind;

struct moerun__split_step {
  const kind *kind;
  moerun__pattern *pattern; /* NULL: by `is_sought`, or not cut at all */
  int (*is_sought)(int32_t c);
  rule rule;
  int is_inverted; /* what is between the stretches is looked for */
  char replacement[MOERUN_CHARACTER_BYTES + 1]; /* of a blank; or "" */
  prefix prefix;                                /* a blank in front */
};

/* One step at work on one text. */
struct cutter {
  const moerun__splitter *splitter;
  size_t at; /* the step's number */
  moerun__split_room *room;
  const moerun__word_sink *sink;
  const char *origin;
  const char *text;
  int is_start;
  int is_held; /* [held, held_end) waits for what comes behind it */
  int was_sought;
  size_t held;
  size_t held_end;
};

/* ---- Stretches to words -------------------------------------------------- */

static moerun_status pass_on(const cutter *c, size_t start, size_t end) {
  moerun_status status = MOERUN_OK;
  const moerun__splitter *s = c->splitter;
  const char *word = c->text + start;
  const size_t bytes = end - start;
  if (bytes == 0) goto done;
  if (c->at + 1 == s->count) {
    MOERUN_TRY(c->sink->take(c->sink->self, word, bytes, c->origin));
    goto done;
  }
  cutter next = *c;
  next.at++;
  MOERUN_TRY(s->step[next.at].kind->run(&next, word, bytes,
                                        c->is_start && start == 0));
done:
  return status;
}

static void begin(cutter *c, const char *text, int is_start) {
  c->text = text;
  c->is_start = is_start;
  c->is_held = 0;
  c->was_sought = 0;
}

static moerun_status release(cutter *c) {
  const int is_held = c->is_held;
  c->is_held = 0;
  return is_held ? pass_on(c, c->held, c->held_end) : MOERUN_OK;
}

static void hold(cutter *c, size_t start, size_t end) {
  c->is_held = 1;
  c->held = start;
  c->held_end = end;
}

/* Whether a stretch joins the one that is held. */
static int joins(const cutter *c, rule by, int is_sought) {
  if (!c->is_held) return 0;
  switch (by) {
  case MERGED_WITH_PREVIOUS: return is_sought && !c->was_sought;
  case MERGED_WITH_NEXT: return !is_sought && c->was_sought;
  case CONTIGUOUS: return is_sought == c->was_sought;
  default: return 0;
  }
}

/* The next stretch; each begins where the last one ended. */
static moerun_status take_stretch(cutter *c, size_t start, size_t end,
                                  int is_found) {
  moerun_status status = MOERUN_OK;
  const moerun__split_step *step = &c->splitter->step[c->at];
  const int is_sought = is_found != step->is_inverted;
  if (step->rule == ISOLATED) {
    MOERUN_TRY(pass_on(c, start, end));
  } else if (step->rule == REMOVED) {
    if (!is_sought) MOERUN_TRY(pass_on(c, start, end));
  } else if (joins(c, step->rule, is_sought)) {
    c->held_end = end;
  } else {
    MOERUN_TRY(release(c));
    hold(c, start, end);
  }
  c->was_sought = is_sought;
done:
  return status;
}

static moerun_status cut_by_pattern(cutter *c, const char *text, size_t bytes,
                                    int is_start) {
  moerun_status status = MOERUN_OK;
  moerun__pattern *pattern = c->splitter->step[c->at].pattern;
  moerun__search search = {.text = text, .bytes = bytes};
  size_t behind = 0; /* the last match */
  int found = 0;
  begin(c, text, is_start);
  for (;;) {
    MOERUN_TRY(moerun__pattern_next(pattern, &found, &search, c->origin));
    if (!found) break;
    if (search.start > behind)
      MOERUN_TRY(take_stretch(c, behind, search.start, 0));
    MOERUN_TRY(take_stretch(c, search.start, search.end, 1));
    behind = search.end;
  }
  if (behind < bytes) MOERUN_TRY(take_stretch(c, behind, bytes, 0));
  MOERUN_TRY(release(c));
done:
  return status;
}

/* Every character that is looked for is a stretch of its own. */
static moerun_status cut_by_character(cutter *c, const char *text, size_t bytes,
                                      int is_start) {
  moerun_status status = MOERUN_OK;
  int (*is_sought)(int32_t) = c->splitter->step[c->at].is_sought;
  size_t from = 0;
  int length = 0;
  begin(c, text, is_start);
  for (size_t at = 0; at < bytes; at += (size_t)length) {
    if (!is_sought(moerun__code_point(text + at, &length))) continue;
    if (from < at) MOERUN_TRY(take_stretch(c, from, at, 0));
    from = at + (size_t)length;
    MOERUN_TRY(take_stretch(c, at, from, 1));
  }
  if (from < bytes) MOERUN_TRY(take_stretch(c, from, bytes, 0));
  MOERUN_TRY(release(c));
done:
  return status;
}

/* ---- Blanks in front ----------------------------------------------------- */

/* The text with its blanks replaced and, where the step says so, one in front;
 * then it is cut by the step's pattern, if it has one. */
static moerun_status cut_blanks(cutter *c, const char *text, size_t bytes,
                                int is_start) {
  moerun_status status = MOERUN_OK;
  const moerun__split_step *step = &c->splitter->step[c->at];
  const char *blank = step->replacement[0] != '\0' ? step->replacement : " ";
  const size_t length = strlen(blank);
  moerun__text *changed = &c->room->text[c->at];
  const int has_blank =
      *text == ' ' || (bytes >= length && memcmp(text, blank, length) == 0);
  const int adds = !has_blank && (step->prefix == PREFIX_ALWAYS ||
                                  (step->prefix == PREFIX_FIRST && is_start));
  if (adds || step->replacement[0] != '\0') {
    changed->count = 0;
    if (adds) MOERUN_TRY(moerun__text_append(changed, blank, length));
    for (size_t at = 0; at < bytes;) {
      const char *next = memchr(text + at, ' ', bytes - at);
      const size_t end = next != NULL ? (size_t)(next - text) : bytes;
      MOERUN_TRY(moerun__text_append(changed, text + at, end - at));
      if (next != NULL) MOERUN_TRY(moerun__text_append(changed, blank, length));
      at = end + 1;
    }
    text = changed->bytes;
    bytes = changed->count;
  }
  if (step->pattern != NULL) {
    MOERUN_TRY(cut_by_pattern(c, text, bytes, is_start));
  } else {
    begin(c, text, is_start);
    MOERUN_TRY(pass_on(c, 0, bytes));
  }
done:
  return status;
}

/* ---- What the kinds read ------------------------------------------------- */

static moerun_status read_rule(rule *out, const json_t *stage,
                               const char *where) {
  moerun_status status = MOERUN_OK;
  const char *name = NULL;
  MOERUN_TRY(moerun__json_text(&name, stage, "behavior", 0, where));
  for (int i = 0; name != NULL && i < NUM_RULES; i++) {
    if (strcmp(rule_names[i], name) == 0) {
      *out = (rule)i;
      goto done;
    }
  }
  MOERUN_REQUIRE(name == NULL, MOERUN_ERR_UNSUPPORTED,
                 "%s: \"behavior\": \"%s\" is not supported", where, name);
done:
  return status;
}

static moerun_status read_split(moerun__split_step *step, const json_t *stage,
                                const char *where) {
  moerun_status status = MOERUN_OK;
  const int no = 0;
  MOERUN_TRY(moerun__pattern_read(&step->pattern, stage, where));
  MOERUN_TRY(read_rule(&step->rule, stage, where));
  MOERUN_TRY(
      moerun__json_bool(&step->is_inverted, stage, "invert", &no, where));
done:
  return status;
}

/* GPT-2's words (Radford et al. 2019). */
static const char byte_level_words[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|"
    "\\s+(?!\\S)|\\s+";

static moerun_status read_byte_level(moerun__split_step *step,
                                     const json_t *stage, const char *where) {
  moerun_status status = MOERUN_OK;
  const int yes = 1;
  int has_regex = 0;
  int has_prefix = 0;
  MOERUN_TRY(moerun__json_bool(&has_regex, stage, "use_regex", &yes, where));
  MOERUN_TRY(
      moerun__json_bool(&has_prefix, stage, "add_prefix_space", &yes, where));
  step->prefix = has_prefix ? PREFIX_ALWAYS : PREFIX_NEVER;
  if (has_regex) {
    MOERUN_TRY(moerun__pattern_regex(&step->pattern, byte_level_words, where));
  }
done:
  return status;
}

static moerun_status read_digits(moerun__split_step *step, const json_t *stage,
                                 const char *where) {
  moerun_status status = MOERUN_OK;
  const int no = 0;
  int individual = 0;
  MOERUN_TRY(
      moerun__json_bool(&individual, stage, "individual_digits", &no, where));
  step->rule = individual ? ISOLATED : CONTIGUOUS;
  step->is_sought = moerun__is_numeric;
done:
  return status;
}

static moerun_status read_punctuation(moerun__split_step *step,
                                      const json_t *stage, const char *where) {
  step->is_sought = moerun__is_punctuation;
  return read_rule(&step->rule, stage, where);
}

static moerun_status read_white_space(moerun__split_step *step,
                                      const json_t *stage, const char *where) {
  (void)stage;
  (void)where;
  step->rule = REMOVED;
  step->is_sought = moerun__is_white_space;
  return MOERUN_OK;
}

/* \w+|[^\w\s]+, where \w is that of Rust, which has the two joiners. */
#define RUST_WORD "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{200c}\\x{200d}"
static const char words_of_rust[] = "[" RUST_WORD "]+|[^" RUST_WORD "\\s]+";

static moerun_status read_words(moerun__split_step *step, const json_t *stage,
                                const char *where) {
  (void)stage;
  step->rule = REMOVED;
  step->is_inverted = 1;
  return moerun__pattern_regex(&step->pattern, words_of_rust, where);
}

/* Files of before 2024 say add_prefix_space instead of prepend_scheme. */
static moerun_status read_metaspace(moerun__split_step *step,
                                    const json_t *stage, const char *where) {
  moerun_status status = MOERUN_OK;
  const int yes = 1;
  const char *text = NULL;
  const char *scheme = NULL;
  int has_prefix = 0;
  int is_cut = 0;
  MOERUN_TRY(moerun__json_text(&text, stage, "replacement", 1, where));
  const size_t bytes = strlen(text);
  MOERUN_REQUIRE(bytes > 0 && (size_t)moerun__character_bytes(*text) == bytes,
                 MOERUN_ERR_FORMAT,
                 "%s: key \"replacement\": expected one character, found "
                 "\"%s\"",
                 where, text);
  memcpy(step->replacement, text, bytes);
  MOERUN_TRY(
      moerun__json_bool(&has_prefix, stage, "add_prefix_space", &yes, where));
  MOERUN_TRY(moerun__json_text(&scheme, stage, "prepend_scheme", 0, where));
  if (scheme == NULL) scheme = has_prefix ? "always" : "never";
  step->prefix = strcmp(scheme, "always") == 0  ? PREFIX_ALWAYS
                 : strcmp(scheme, "first") == 0 ? PREFIX_FIRST
                                                : PREFIX_NEVER;
  MOERUN_REQUIRE(step->prefix != PREFIX_NEVER || strcmp(scheme, "never") == 0,
                 MOERUN_ERR_UNSUPPORTED,
                 "%s: \"prepend_scheme\": \"%s\" is not supported", where,
                 scheme);
  MOERUN_TRY(moerun__json_bool(&is_cut, stage, "split", &yes, where));
  step->rule = MERGED_WITH_NEXT;
  if (is_cut) MOERUN_TRY(moerun__pattern_literal(&step->pattern, text, bytes));
done:
  return status;
}

static const kind kinds[] = {
    {"ByteLevel", read_byte_level, cut_blanks},
    {"Digits", read_digits, cut_by_character},
    {"Metaspace", read_metaspace, cut_blanks},
    {"Punctuation", read_punctuation, cut_by_character},
    {"Split", read_split, cut_by_pattern},
    {"Whitespace", read_words, cut_by_pattern},
    {"WhitespaceSplit", read_white_space, cut_by_character},
};

/* ---- All of them --------------------------------------------------------- */

static moerun_status take_stage(void *self, const void *found,
                                const json_t *stage, const char *where) {
  moerun_status status = MOERUN_OK;
  moerun__splitter *s = self;
  const kind *of = found;
  MOERUN_REQUIRE(!s->is_bytewise, MOERUN_ERR_UNSUPPORTED,
                 "%s of type \"%s\" behind one of type \"ByteLevel\" is not "
                 "supported: give token ids instead of text",
                 where, of->type);
  moerun__split_step *step = &s->step[s->count++];
  step->kind = of;
  MOERUN_TRY(of->read(step, stage, where));
  s->is_bytewise = strcmp(of->type, "ByteLevel") == 0;
  if (step->pattern != NULL || step->is_sought != NULL) {
    s->looks_at_characters = 1;
  }
done:
  return status;
}

static const moerun__stage_kinds stages = {
    .list = "pretokenizers",
    .kind = kinds,
    .count = sizeof kinds / sizeof *kinds,
    .size = sizeof *kinds,
    .most = MOERUN_SPLIT_STEPS,
    .instead = ": give token ids instead of text",
    .take = take_stage};

moerun_status moerun__splitter_read(moerun__splitter *s, const json_t *value,
                                    const char *where) {
  moerun_status status = MOERUN_OK;
  if (value == NULL || json_is_null(value)) goto done;
  MOERUN_TRY(moerun__alloc(&s->step, MOERUN_SPLIT_STEPS, sizeof *s->step));
  MOERUN_TRY(moerun__stages_read(s, &stages, value, where));
done:
  return status;
}

void moerun__splitter_clear(moerun__splitter *s) {
  for (size_t i = 0; i < s->count; i++) {
    moerun__pattern_destroy(s->step[i].pattern);
  }
  moerun__free(s->step);
  memset(s, 0, sizeof *s);
}

moerun_status moerun__splitter_run(const moerun__splitter *s,
                                   moerun__split_room *room,
                                   const moerun__word_sink *sink,
                                   const char *text, size_t bytes, int is_start,
                                   const char *origin) {
  if (bytes == 0) return MOERUN_OK;
  if (s->count == 0) return sink->take(sink->self, text, bytes, origin);
  cutter c = {.splitter = s, .room = room, .sink = sink, .origin = origin};
  return s->step[0].kind->run(&c, text, bytes, is_start);
}

void moerun__split_room_clear(moerun__split_room *room) {
  for (int i = 0; i < MOERUN_SPLIT_STEPS; i++) {
    moerun__text_clear(&room->text[i]);
  }
}
