/* Requests from JSON lines, or from lines of plain text. Ids are compared by
 * hash first; only requests with equal hashes are read again to be told
 * apart. */
#include "launch/requests/prompts_input.h"

#include "launch/lines.h"
#include "launch/requests/prompt_settings.h"
#include "launch/requests/prompt_stops.h"
#include "runtime/base/digest.h"
#include "runtime/base/file.h"
#include "runtime/base/foreign.h"
#include "runtime/base/json.h"
#include "runtime/base/memory.h"
#include "runtime/base/number.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 1 << 16, ORIGIN_BYTES = 512, MOST_SAMPLES = 128 };

/* ---- One line ------------------------------------------------------------ */

/* What a key is called here that other programs have for it. */
static const char *hint_of(const char *key) {
  static const struct {
    const char *key;
    const char *hint;
  } table[] = {
      {"max_tokens", "; here it is max_new_tokens"},
      {"max_completion_tokens", "; here it is max_new_tokens"},
      {"min_tokens", "; here it is min_new_tokens"},
      {"max_length", "; here it is max_new_tokens, without the prompt's"},
      {"prompt_token_ids", "; here it is tokens"},
      {"input_ids", "; here it is tokens"},
      {"token_ids", "; here it is tokens"},
      {"text", "; here it is prompt"},
      {"custom_id", "; here it is id (a file whose first line has custom_id "
                    "is a batch file, all of it)"},
      {"best_of", "; n samples are there, and none is the best"},
  };
  for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
    if (strcmp(table[i].key, key) == 0) return table[i].hint;
  }
  return "";
}

/* Keys of a line that are no settings. */
static const char *const plain_keys[] = {"id",
                                         "prompt",
                                         "tokens",
                                         "messages",
                                         "tools",
                                         "documents",
                                         "priority",
                                         "n",
                                         "stop",
                                         "stop_token_ids",
                                         "add_generation_prompt",
                                         "chat_template_kwargs"};

static int is_known(const char *key) {
  size_t i = 0;
  while (i < sizeof plain_keys / sizeof *plain_keys &&
         strcmp(plain_keys[i], key) != 0) {
    i++;
  }
  return i < sizeof plain_keys / sizeof *plain_keys ||
         moerun__setting_of(key) < MOERUN_SETTINGS;
}

/* "id, prompt, tokens, messages, …" */
static moerun_status print_keys(moerun__text *out) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__text_print(out, "id, prompt, tokens, messages"));
  for (int i = 0; i < MOERUN_SETTINGS; i++) {
    MOERUN_TRY(moerun__text_print(
        out, ", %s", moerun__setting_key((moerun__prompt_setting)i)));
  }
  MOERUN_TRY(moerun__text_print(
      out, ", stop, stop_token_ids, n, priority, or beside messages tools, "
           "documents, add_generation_prompt and chat_template_kwargs"));
done:
  return status;
}

static moerun_status check_keys(json_t *object, const char *origin) {
  moerun_status status = MOERUN_OK;
  moerun__text keys = {0};
  const char *key = NULL;
  json_t *value = NULL;
  json_object_foreach(object, key, value) {
    if (is_known(key)) continue;
    MOERUN_TRY(print_keys(&keys));
    MOERUN_REQUIRE(0, MOERUN_ERR_FORMAT,
                   "%s: unknown key \"%s\": expected %s%s", origin, key,
                   keys.bytes, hint_of(key));
  }
done:
  moerun__text_clear(&keys);
  return status;
}

static moerun_status read_id(moerun__prompt *out, const json_t *object,
                             const char *origin) {
  moerun_status status = MOERUN_OK;
  const json_t *id = json_object_get(object, "id");
  out->has_id = id != NULL;
  if (json_is_string(id)) {
    MOERUN_TRY(moerun__text_json(&out->id, json_string_value(id),
                                 json_string_length(id)));
    goto done;
  }
  MOERUN_REQUIRE(id == NULL || json_is_integer(id), MOERUN_ERR_FORMAT,
                 "%s: key \"id\": expected a string or an integer, found %s",
                 origin, moerun__json_kind(id));
  MOERUN_TRY(moerun__text_print(&out->id, "%lld",
                                id != NULL ? (long long)json_integer_value(id)
                                           : (long long)out->place.line));
done:
  return status;
}

moerun_status moerun__prompt_put_ids(moerun__prompt *out, const json_t *tokens,
                                     int32_t bos, const char *key,
                                     const char *origin) {
  moerun_status status = MOERUN_OK;
  for (size_t i = 0; i < json_array_size(tokens); i++) {
    const json_t *id = json_array_get(tokens, i);
    MOERUN_REQUIRE(json_is_integer(id), MOERUN_ERR_FORMAT,
                   "%s: key \"%s\", element %zu: expected a token id, "
                   "found %s",
                   origin, key, i, moerun__json_kind(id));
    const int64_t value = json_integer_value(id);
    MOERUN_REQUIRE(value >= 0 && value <= INT32_MAX, MOERUN_ERR_FORMAT,
                   "%s: key \"%s\", element %zu: expected a token id, "
                   "found %lld",
                   origin, key, i, (long long)value);
    MOERUN_TRY(moerun__token_list_append(&out->tokens, moerun__to_int(value)));
  }
  /* No ids are a mistake; an empty text may stand for its BOS alone. */
  if (out->tokens.count > 0) MOERUN_TRY(moerun__prompt_put_bos(out, bos));
done:
  return status;
}

static moerun_status read_tokens(moerun__prompt *out, const json_t *object,
                                 int32_t bos, const char *origin) {
  moerun_status status = MOERUN_OK;
  json_t *tokens = NULL;
  MOERUN_TRY(moerun__json_array(&tokens, object, "tokens", origin));
  MOERUN_TRY(moerun__prompt_put_ids(out, tokens, bos, "tokens", origin));
done:
  return status;
}

moerun_status moerun__prompt_read_samples(moerun__prompt *out,
                                          const json_t *object,
                                          const char *origin) {
  moerun_status status = MOERUN_OK;
  const int64_t one = 1;
  int64_t samples = 0;
  MOERUN_TRY(
      moerun__json_int(&samples, object, "n", 1, MOST_SAMPLES, &one, origin));
  out->samples = moerun__to_int(samples);
done:
  return status;
}

moerun_status moerun__prompt_encode(moerun__prompt *out, const char *text,
                                    size_t bytes,
                                    const moerun__prompts *prompts,
                                    const char *origin) {
  moerun_status status = MOERUN_OK;
  const moerun__prompt_options *o = &prompts->options;
  MOERUN_REQUIRE(o->tokenizer != NULL, MOERUN_ERR_UNSUPPORTED,
                 "%s: key \"prompt\": a text needs the model's tokenizer.json, "
                 "which is not there: give token ids: "
                 "--tokens, or \"tokens\" in a line of --prompts",
                 origin);
  MOERUN_TRY(moerun__tokenizer_encode(o->tokenizer, &out->tokens, text, bytes,
                                      origin));
  MOERUN_TRY(moerun__prompt_put_around(out, o));
done:
  return status;
}

static moerun_status read_text(moerun__prompt *out, const json_t *object,
                               const moerun__prompts *prompts,
                               const char *origin) {
  moerun_status status = MOERUN_OK;
  const char *text = NULL;
  MOERUN_REQUIRE(
      !json_is_array(json_object_get(object, "prompt")), MOERUN_ERR_FORMAT,
      "%s: key \"prompt\": expected a string, found an array; ids of "
      "tokens are given as \"tokens\"",
      origin);
  MOERUN_TRY(moerun__json_text(&text, object, "prompt", 1, origin));
  MOERUN_REQUIRE(!prompts->ids_only, MOERUN_ERR_FORMAT,
                 "%s: key \"prompt\": expected \"tokens\" in a file of token "
                 "ids; --prompts takes texts",
                 origin);
  MOERUN_TRY(moerun__prompt_encode(out, text, strlen(text), prompts, origin));
done:
  return status;
}

/* The line as it stands, but for the byte order mark of a file and the carriage
 * return of a DOS line end. */
static moerun_status read_plain(moerun__prompt *out,
                                const moerun__prompts *prompts,
                                const moerun__text *line, const char *origin) {
  moerun_status status = MOERUN_OK;
  const size_t mark = moerun__byte_order_mark(line->bytes, line->count);
  size_t bytes = line->count - mark;
  if (bytes > 0 && line->bytes[line->count - 1] == '\r') bytes--;
  MOERUN_TRY(moerun__text_print(&out->id, "%lld", (long long)out->place.line));
  MOERUN_TRY(
      moerun__prompt_encode(out, line->bytes + mark, bytes, prompts, origin));
done:
  return status;
}

/* Whether the line can be meant as JSON; if not, what it should look like. Web
 * pages and the like are left to the parser, which names them. */
static moerun_status check_form(const moerun__text *line, int ids_only,
                                const char *origin) {
  moerun_status status = MOERUN_OK;
  char foreign[MOERUN_FOREIGN_TEXT];
  const char *first =
      line->bytes + moerun__byte_order_mark(line->bytes, line->count);
  first += strspn(first, " \t");
  const int is_plain = strchr("{[", *first) == NULL &&
                       !moerun__foreign_name(foreign, line->bytes, line->count);
  MOERUN_REQUIRE(!is_plain || !ids_only, MOERUN_ERR_FORMAT,
                 "%s: expected a line such as {\"tokens\": [1, 2, 3]}, found "
                 "\"%.20s\"; --prompts takes texts",
                 origin, first);
  MOERUN_REQUIRE(!is_plain, MOERUN_ERR_FORMAT,
                 "%s: expected a line such as {\"prompt\": \"a text\"}, found "
                 "\"%.20s\"; with --lines each line is a prompt as it stands",
                 origin, first);
done:
  return status;
}

/* A file that is one array or object over several lines ends its first one in
 * the middle. */
static moerun_status advise_line(moerun_status status,
                                 const moerun__text *line) {
  size_t end = line->count;
  while (end > 0 && strchr(" \t\r\n", line->bytes[end - 1]) != NULL) {
    end--;
  }
  if (status != MOERUN_ERR_FORMAT || end == 0 ||
      strchr("[{,", line->bytes[end - 1]) == NULL) {
    return status;
  }
  return moerun__say_more(status,
                          ": expected one object a line, and each in one line, "
                          "such as {\"prompt\": \"a text\"}");
}

/* One of the ways to give a prompt, and what belongs to it alone. */
static moerun_status check_given(const json_t *object, const char *origin) {
  moerun_status status = MOERUN_OK;
  static const char *const of_messages[] = {
      "tools", "documents", "add_generation_prompt", "chat_template_kwargs"};
  const int has_messages = json_object_get(object, "messages") != NULL;
  const int given = has_messages + (json_object_get(object, "prompt") != NULL) +
                    (json_object_get(object, "tokens") != NULL);
  MOERUN_REQUIRE(given == 1, MOERUN_ERR_FORMAT,
                 "%s: expected one of \"prompt\", \"messages\" and "
                 "\"tokens\", found %s",
                 origin, given > 1 ? "several" : "none");
  for (size_t i = 0; i < sizeof of_messages / sizeof *of_messages; i++) {
    MOERUN_REQUIRE(
        has_messages || json_object_get(object, of_messages[i]) == NULL,
        MOERUN_ERR_FORMAT, "%s: key \"%s\": expected beside \"messages\" alone",
        origin, of_messages[i]);
  }
done:
  return status;
}

/* The request that `line` describes. */
static moerun_status read_object(moerun__prompt *out,
                                 const moerun__prompts *prompts,
                                 const moerun__text *line, const char *origin) {
  moerun_status status = MOERUN_OK;
  json_t *object = NULL;
  const int64_t no_priority = 0;
  int64_t priority = 0;
  if (prompts->options.plain) {
    return read_plain(out, prompts, line, origin);
  }
  MOERUN_TRY(check_form(line, prompts->ids_only, origin));
  MOERUN_TRY(advise_line(
      moerun__json_parse(&object, line->bytes, line->count, origin), line));
  MOERUN_REQUIRE(json_is_object(object), MOERUN_ERR_FORMAT,
                 "%s: expected a JSON object, found %s: one such as "
                 "{\"%s}, each in a line of its own",
                 origin, moerun__json_kind(object),
                 prompts->ids_only || json_is_integer(json_array_get(object, 0))
                     ? "tokens\": [1, 2, 3]"
                     : "prompt\": \"a text\"");
  MOERUN_TRY(read_id(out, object, origin)); /* named if another key is
                                                      wrong */
  MOERUN_TRY(check_keys(object, origin));
  MOERUN_TRY(check_given(object, origin));
  MOERUN_TRY(
      moerun__settings_read(out, object, NULL, prompts->options.fixed, origin));
  MOERUN_TRY(moerun__prompt_read_samples(out, object, origin));
  out->place.parts = out->samples;
  MOERUN_TRY(moerun__prompt_read_stops(out, object, origin));
  MOERUN_TRY(moerun__json_int(&priority, object, "priority", 0, UINT8_MAX,
                              &no_priority, origin));
  out->request.priority = moerun__to_int(priority);
  if (json_object_get(object, "messages") != NULL) {
    MOERUN_TRY(moerun__prompt_read_messages(out, object, prompts, origin));
  } else if (json_object_get(object, "prompt") != NULL) {
    MOERUN_TRY(read_text(out, object, prompts, origin));
  } else {
    MOERUN_TRY(read_tokens(out, object, prompts->options.tokens_bos, origin));
  }
done:
  json_decref(object);
  return status;
}

moerun_status moerun__prompts_read_line(const moerun__prompts *prompts,
                                        moerun__prompt *out, int64_t index,
                                        const char *origin) {
  moerun_status status = MOERUN_OK;
  char block[BLOCK];
  const moerun__prompt_place *place = &prompts->place[index];
  const int64_t line_end = prompts->offset[index - place->part + place->parts];
  int64_t at = prompts->offset[index];
  const char *end = NULL;
  const int has_line = out->parsed != NULL && out->line.count > 0 &&
                       out->parsed_line == place->line;
  if (has_line) {
    at = line_end; /* once for all its prompts */
  } else {
    out->line.count = 0;
  }
  while (end == NULL && at < line_end) {
    size_t got = 0;
    const int64_t left = line_end - at;
    MOERUN_TRY(moerun__file_get(&got, block,
                                left < BLOCK ? (size_t)left : BLOCK,
                                prompts->file, at, prompts->name));
    MOERUN_REQUIRE(got > 0, MOERUN_ERR_FORMAT,
                   "%s: the file was changed while the run was reading it",
                   origin);
    end = memchr(block, '\n', got);
    MOERUN_TRY(moerun__text_append(&out->line, block,
                                   end != NULL ? (size_t)(end - block) : got));
    at += (int64_t)got;
  }
  MOERUN_TRY(prompts->input->parse(out, prompts, &out->line, origin));
done:
  return status;
}

const moerun__prompts_input moerun__prompts_jsonl = {
    .read = moerun__prompts_read_line, .parse = read_object, .id_key = "id"};

/* ---- Unique ids ---------------------------------------------------------- */

typedef struct id_place {
  uint64_t hash;
  int64_t index;
  int64_t line; /* from 1 */
} id_place;

/* What a scan of the file carries from line to line. */
typedef struct scan {
  moerun__prompts *prompts;
  moerun__prompt prompt;
  int64_t line; /* being read, from 1 */
  const moerun__text *text;
  id_place *place; /* of the requests that are right */
  size_t num_places;
  size_t room;
} scan;

static moerun_status remember_id(scan *s, int64_t index) {
  moerun_status status = MOERUN_OK;
  const moerun__text *id = &s->prompt.id;
  const size_t at = s->num_places;
  if (at >= s->room) {
    const size_t room = at < 64 ? 64 : at + at / 2;
    MOERUN_TRY(moerun__resize(&s->place, s->room, room, sizeof *s->place));
    s->room = room;
  }
  s->place[at] = (id_place){
      .hash = moerun__digest_span(MOERUN_DIGEST_START, id->bytes, id->count),
      .index = index,
      .line = s->line};
  s->num_places++;
done:
  return status;
}

static int compare_places(const void *a, const void *b) {
  const id_place *x = a;
  const id_place *y = b;
  if (x->hash != y->hash) return x->hash < y->hash ? -1 : 1;
  return x->index < y->index ? -1 : x->index > y->index;
}

static moerun_status compare_ids(const scan *s, const id_place *a,
                                 const id_place *b,
                                 const moerun__prompt *other) {
  moerun_status status = MOERUN_OK;
  const int is_same = strcmp(s->prompt.id.bytes, other->id.bytes) == 0;
  MOERUN_REQUIRE(!is_same || other->has_id, MOERUN_ERR_FORMAT,
                 "%s:%lld: expected an id, because its number, %s, which "
                 "stands for one, is the id of line %lld",
                 s->prompts->name, (long long)b->line, other->id.bytes,
                 (long long)a->line);
  MOERUN_REQUIRE(!is_same || s->prompt.has_id, MOERUN_ERR_FORMAT,
                 "%s:%lld: id %s is the number of line %lld, which has no id "
                 "of its own",
                 s->prompts->name, (long long)b->line, other->id.bytes,
                 (long long)a->line);
  MOERUN_REQUIRE(!is_same, MOERUN_ERR_FORMAT,
                 "%s:%lld: %s %s stands in line %lld already", s->prompts->name,
                 (long long)b->line, s->prompts->input->id_key, other->id.bytes,
                 (long long)a->line);
done:
  return status;
}

/* A line that turned out to be wrong is one request, whatever it asked for. */
static void drop_parts(moerun__prompts *prompts) {
  int64_t to = 0;
  int64_t next = 0;
  for (int64_t i = 0; i < prompts->count; i = next) {
    moerun__prompt_place *place = &prompts->place[i];
    const int is_bad = prompts->bad[i].reason != NULL;
    const int32_t kept = is_bad ? 1 : place->parts;
    next = i + place->parts;
    if (is_bad) place->parts = 1;
    for (int32_t k = 0; k < kept && to < i; k++) {
      prompts->bad[to + k] = prompts->bad[i + k];
      prompts->place[to + k] = prompts->place[i + k];
      prompts->offset[to + k] = prompts->offset[i + k];
      prompts->digest[to + k] = prompts->digest[i + k];
      prompts->positions[to + k] = prompts->positions[i + k];
      prompts->new_tokens[to + k] = prompts->new_tokens[i + k];
    }
    to += kept;
  }
  prompts->offset[to] = prompts->offset[prompts->count];
  prompts->count = to;
}

/* Of several lines with one id the first is right. */
static moerun_status check_unique(scan *s) {
  moerun_status status = MOERUN_OK;
  moerun__prompt other = {0};
  const size_t count = s->num_places;
  if (s->place == NULL) goto done;
  qsort(s->place, count, sizeof *s->place, compare_places);
  for (size_t i = 1; i < count; i++) {
    const id_place *a = &s->place[i - 1];
    const id_place *b = &s->place[i];
    if (a->hash != b->hash) continue;
    MOERUN_TRY(moerun__prompts_read(s->prompts, &s->prompt, a->index));
    MOERUN_TRY(moerun__prompts_read(s->prompts, &other, b->index));
    MOERUN_TRY(moerun__prompts_settle_at(s->prompts, b->index, other.id.bytes,
                                         compare_ids(s, a, b, &other)));
  }
  drop_parts(s->prompts);
done:
  moerun__prompt_clear(&other);
  return status;
}

/* ---- The whole file ------------------------------------------------------ */

static int is_blank(const moerun__text *line) {
  for (size_t i = moerun__byte_order_mark(line->bytes, line->count);
       i < line->count; i++) {
    if (strchr(" \t\r", line->bytes[i]) == NULL || line->bytes[i] == '\0') {
      return 0;
    }
  }
  return 1;
}

/* Reads the requests of s->text, which begins at `offset`: all or none. */
static moerun_status read_requests(scan *s, int64_t offset) {
  moerun_status status = MOERUN_OK;
  char origin[ORIGIN_BYTES];
  moerun__prompts *prompts = s->prompts;
  const moerun__prompts_sums sums = prompts->sums;
  const int64_t line = prompts->num_lines;
  const int64_t first = prompts->count;
  int32_t parts = 1;
  (void)snprintf(origin, sizeof origin, "%s:%lld", prompts->name,
                 (long long)s->line);
  for (int32_t part = 0; part < parts; part++) {
    const int is_same = part > 0 && part % s->prompt.samples > 0;
    if (!is_same) moerun__prompt_begin(&s->prompt, &prompts->options);
    s->prompt.place.line = line;
    s->prompt.place.part = part;
    if (!is_same) {
      MOERUN_TRY(prompts->input->parse(&s->prompt, prompts, s->text, origin));
      parts = s->prompt.place.parts;
    }
    MOERUN_TRY(moerun__prompts_add(prompts, &s->prompt, offset, origin));
  }
  MOERUN_TRY(remember_id(s, first));
done:
  if (status != MOERUN_OK) {
    prompts->sums = sums;
    prompts->count = first;
    prompts->num_lines = line;
  }
  return status;
}

/* Finds out which form the file is of, by its first object. */
static moerun_status choose_input(moerun__prompts *prompts) {
  moerun_status status = MOERUN_OK;
  moerun__lines lines = {0};
  int has = 0;
  int is_object = 0;
  if (prompts->ids_only || prompts->options.plain) goto done;
  MOERUN_TRY(moerun__lines_begin(&lines, prompts->file, prompts->name));
  while (!is_object) {
    const moerun_status found = moerun__lines_next(&lines, &has);
    if (found == MOERUN_ERR_FORMAT) continue; /* of that line alone */
    MOERUN_TRY(found);
    if (!has) break;
    if (moerun__prompts_is_batch_line(&is_object, &lines.line)) {
      prompts->input = &moerun__prompts_batch;
    }
  }
  prompts->reports_bad |= prompts->input == &moerun__prompts_batch &&
                          prompts->options.on_error == MOERUN_ON_ERROR_AUTO;
done:
  moerun__lines_clear(&lines);
  return status;
}

moerun_status moerun__prompts_scan_jsonl(moerun__prompts *prompts) {
  moerun_status status = MOERUN_OK;
  scan s = {.prompts = prompts};
  moerun__lines lines = {0};
  int has = 0;
  MOERUN_TRY(moerun__file_open(&prompts->file, NULL, prompts->path, 0));
  MOERUN_TRY(choose_input(prompts));
  MOERUN_TRY(moerun__lines_begin(&lines, prompts->file, prompts->name));
  for (;;) {
    moerun_status found = moerun__lines_next(&lines, &has);
    if (found == MOERUN_OK && !has) break;
    if (found == MOERUN_OK && is_blank(&lines.line)) continue;
    s.line = lines.number;
    s.text = &lines.line;
    if (found == MOERUN_OK) {
      found = read_requests(&s, lines.offset);
    } else {
      moerun__prompt_begin(&s.prompt, &prompts->options);
    }
    MOERUN_TRY(moerun__prompts_settle(prompts, &s.prompt, lines.offset, found));
  }
  MOERUN_REQUIRE(prompts->count > 0, MOERUN_ERR_FORMAT,
                 "%s: expected at least one request, found none",
                 prompts->name);
  prompts->offset[prompts->count] = lines.end;
  MOERUN_TRY(check_unique(&s));
done:
  moerun__lines_clear(&lines);
  moerun__prompt_clear(&s.prompt);
  moerun__free(s.place);
  return status;
}
