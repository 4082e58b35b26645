/* Routed experts as inference servers return them, one JSON object a line:
 *
 *   {"prompt_routed_experts": [[[3, 7], ...], ...], "routed_experts": [...]}
 *   {"meta_info": {"routed_experts": "AwAAAAcAAAA..."}, "num_layers": 26,
 *    "experts_per_token": 6}
 *
 *   {"prompt_routed_experts": [...], "choices": [{"routed_experts": [...]}]}
 *   {"choices": [...], "sglext": {"routed_experts": "AwAA..."}, ...}
 *
 * An array is [tokens][layers][terms], as vLLM returns it, or the base64 of an
 * .npy of that shape, as newer ones do, or of its little-endian integers, as
 * SGLang does; SGLang's has no shape, so the line must give it. A line is one
 * sequence, its prompt first, or, as a whole response, one for each choice.
 * What servers put in where they have recorded nothing is left out by
 * trace_padding.c. */
#include "placement/trace/trace.h"

#include "runtime/base/foreign.h"
#include "runtime/base/json.h"
#include "runtime/base/limits.h"
#include "runtime/base/log.h"
#include "runtime/base/memory.h"
#include "runtime/base/npy.h"
#include "runtime/base/number.h"

#include <stdio.h>
#include <string.h>

enum { CHUNK = 512 }; /* ids of an array read at a time */

typedef struct reader {
  char origin[4096];  /* file:line */
  int32_t num_layers; /* 0: not known before the first token */
  int32_t num_terms;
  int16_t *ids; /* [num_ids] */
  size_t num_ids;
  size_t room;
  int64_t *offset; /* [num_sequences + 1] */
  size_t offset_room;
  int64_t num_sequences;
  int64_t num_aborted; /* requests, which are no sequences */
} reader;

/* ---- One id -------------------------------------------------------------- */

static moerun_status append_id(reader *in, int64_t id) {
  moerun_status status = MOERUN_OK;
  const int64_t width = (int64_t)in->num_layers * in->num_terms;
  const int64_t at = (int64_t)in->num_ids - in->offset[in->num_sequences];
  MOERUN_REQUIRE(id >= -1 && id < MOERUN_TRACE_MAX_EXPERTS, MOERUN_ERR_FORMAT,
                 "%s: token %lld, layer %lld, term %lld: expected an expert "
                 "from 0 to %d, or -1 for none, found %lld",
                 in->origin, (long long)(at / width),
                 (long long)(at % width / in->num_terms),
                 (long long)(at % in->num_terms), MOERUN_TRACE_MAX_EXPERTS - 1,
                 (long long)id);
  if (in->num_ids == in->room) {
    const size_t room = in->room < 4096 ? 4096 : in->room * 2;
    MOERUN_TRY(moerun__resize(&in->ids, in->room, room, sizeof *in->ids));
    in->room = room;
  }
  in->ids[in->num_ids++] = (int16_t)id;
done:
  return status;
}

/* The first array says how many, all others must agree. */
static moerun_status agree(int32_t *size, size_t found, int64_t high,
                           const char *what, const char *origin) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(found >= 1 && found <= (size_t)high, MOERUN_ERR_FORMAT,
                 "%s: expected 1 to %lld %s, found %zu", origin,
                 (long long)high, what, found);
  if (*size == 0) *size = moerun__to_int((int64_t)found);
  MOERUN_REQUIRE((size_t)*size == found, MOERUN_ERR_FORMAT,
                 "%s: expected %d %s, as before, found %zu", origin, *size,
                 what, found);
done:
  return status;
}

/* ---- Nested lists -------------------------------------------------------- */

static moerun_status require_list(const json_t *list, const char *what,
                                  const char *origin) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(json_is_array(list), MOERUN_ERR_FORMAT,
                 "%s: expected %s, found %s", origin, what,
                 moerun__json_kind(list));
done:
  return status;
}

/* The experts of one token in one layer. */
static moerun_status read_terms(reader *in, const json_t *terms) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(
      require_list(terms, "a list of experts for each layer", in->origin));
  MOERUN_TRY(agree(&in->num_terms, json_array_size(terms),
                   MOERUN_TRACE_MAX_EXPERTS, "experts per layer", in->origin));
  for (size_t k = 0; k < json_array_size(terms); k++) {
    const json_t *id = json_array_get(terms, k);
    MOERUN_REQUIRE(json_is_integer(id), MOERUN_ERR_FORMAT,
                   "%s: expected expert ids as integers, found %s", in->origin,
                   moerun__json_kind(id));
    MOERUN_TRY(append_id(in, (int64_t)json_integer_value(id)));
  }
done:
  return status;
}

static moerun_status read_token(reader *in, const json_t *token) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(
      require_list(token, "a list of layers for each token", in->origin));
  MOERUN_TRY(agree(&in->num_layers, json_array_size(token),
                   MOERUN_PLACEMENT_MAX_LAYERS, "layers", in->origin));
  for (size_t l = 0; l < json_array_size(token); l++) {
    MOERUN_TRY(read_terms(in, json_array_get(token, l)));
  }
done:
  return status;
}

/* ---- Base64 -------------------------------------------------------------- */

/* 0..63, or -1. */
static int digit_of(char c) {
  static const char digits[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const char *at = c != '\0' ? strchr(digits, c) : NULL;
  return at != NULL ? (int)(at - digits) : -1;
}

/* *out: freed with moerun__free. */
static moerun_status decode(unsigned char **out, size_t *bytes,
                            const reader *in, const char *text, size_t length) {
  moerun_status status = MOERUN_OK;
  static const uint32_t shift[] = {16, 8, 0};
  uint32_t group = 0;
  size_t next = 0;
  const size_t padding = length >= 4 ? (size_t)(text[length - 1] == '=') +
                                           (size_t)(text[length - 2] == '=')
                                     : 0;
  MOERUN_REQUIRE(length % 4 == 0, MOERUN_ERR_FORMAT,
                 "%s: key \"routed_experts\": expected base64, whose length is "
                 "a multiple of 4, found %zu characters",
                 in->origin, length);
  *bytes = length / 4 * 3 - padding;
  MOERUN_TRY(moerun__alloc(out, *bytes + 1, sizeof **out));
  for (size_t i = 0; i < length; i++) {
    const int digit = i < length - padding ? digit_of(text[i]) : 0;
    MOERUN_REQUIRE(digit >= 0, MOERUN_ERR_FORMAT,
                   "%s: key \"routed_experts\": expected base64, found "
                   "character %zu of %zu outside it",
                   in->origin, i, length);
    group = group << 6U | (uint32_t)digit;
    for (size_t b = 0; i % 4 == 3 && b < 3 && next < *bytes; b++) {
      (*out)[next++] = (unsigned char)(group >> shift[b] & 0xffU);
    }
  }
done:
  return status;
}

/* Little-endian integers that have no shape of their own. */
static const struct word {
  const char *name;
  size_t bytes;
  int has_sign;
} words[] = {
    {"int32", 4, 1}, /* where nothing is said */
    {"uint32", 4, 0}, {"int16", 2, 1}, {"uint16", 2, 0},
    {"int8", 1, 1},   {"uint8", 1, 0},
};

/* What 255 is in a byte without a sign, trace_padding.c knows. */
static int64_t word_at(const struct word *word, const unsigned char *bytes) {
  const int64_t end = (int64_t)1 << (8 * word->bytes);
  int64_t id = 0;
  for (size_t b = 0; b < word->bytes; b++) {
    id |= (int64_t)bytes[b] << (8 * b);
  }
  if (word->has_sign) return id < end / 2 ? id : id - end;
  return word->bytes > 1 && id == end - 1 ? -1 : id;
}

/* The kind that `holder` names beside its array. */
static moerun_status find_word(const struct word **out, const json_t *holder,
                               const char *origin) {
  moerun_status status = MOERUN_OK;
  const json_t *name = json_object_get(holder, "routed_experts_dtype");
  *out = NULL;
  for (size_t i = 0; *out == NULL && i < sizeof words / sizeof *words; i++) {
    if (name == NULL || json_is_null(name) ||
        (json_is_string(name) &&
         strcmp(json_string_value(name), words[i].name) == 0)) {
      *out = &words[i];
    }
  }
  MOERUN_REQUIRE(*out != NULL, MOERUN_ERR_FORMAT,
                 "%s: key \"routed_experts_dtype\": expected int32, int16 "
                 "or int8, with or without a u in front, found %s",
                 origin,
                 json_is_string(name) ? json_string_value(name)
                                      : moerun__json_kind(name));
done:
  return status;
}

/* Integers of the shape that the line gives. */
static moerun_status read_words(reader *in, const struct word *word,
                                const unsigned char *bytes, size_t count) {
  moerun_status status = MOERUN_OK;
  const size_t width = (size_t)in->num_layers * (size_t)in->num_terms;
  MOERUN_REQUIRE(count % (word->bytes * width) == 0, MOERUN_ERR_FORMAT,
                 "%s: key \"routed_experts\": expected a multiple of %d layers "
                 "x %d experts, found %zu integers and %zu bytes",
                 in->origin, in->num_layers, in->num_terms, count / word->bytes,
                 count % word->bytes);
  for (size_t i = 0; i < count; i += word->bytes) {
    MOERUN_TRY(append_id(in, word_at(word, bytes + i)));
  }
done:
  return status;
}

/* A whole .npy. */
static moerun_status read_array(reader *in, const char *bytes, size_t count) {
  moerun_status status = MOERUN_OK;
  moerun__npy_reader *array = NULL;
  moerun__npy_shape shape;
  MOERUN_TRY(moerun__npy_open_bytes(&array, &shape, bytes, count, in->origin,
                                    MOERUN_NPY_INTEGERS));
  MOERUN_REQUIRE(shape.num_dims == 3, MOERUN_ERR_FORMAT,
                 "%s: key \"routed_experts\": expected an array "
                 "[tokens][layers][terms], found %d dimensions",
                 in->origin, shape.num_dims);
  MOERUN_TRY(agree(&in->num_layers, (size_t)shape.dim[1],
                   MOERUN_PLACEMENT_MAX_LAYERS, "layers", in->origin));
  MOERUN_TRY(agree(&in->num_terms, (size_t)shape.dim[2],
                   MOERUN_TRACE_MAX_EXPERTS, "experts per layer", in->origin));
  const int64_t none = moerun__trace_unsigned_none(shape.type);
  const int64_t total = moerun__npy_count(&shape);
  for (int64_t first = 0; first < total; first += CHUNK) {
    int64_t id[CHUNK];
    const int64_t part = total - first < CHUNK ? total - first : CHUNK;
    MOERUN_TRY(moerun__npy_read_integers(array, id, first, part));
    for (int64_t i = 0; i < part; i++) {
      MOERUN_TRY(append_id(in, id[i] == none ? -1 : id[i]));
    }
  }
done:
  moerun__npy_close(array);
  return status;
}

/* ---- Lines --------------------------------------------------------------- */

static moerun_status read_shape(reader *in, const json_t *line) {
  moerun_status status = MOERUN_OK;
  int64_t layers = 0;
  int64_t terms = 0;
  MOERUN_REQUIRE(json_object_get(line, "num_layers") != NULL &&
                     json_object_get(line, "experts_per_token") != NULL,
                 MOERUN_ERR_FORMAT,
                 "%s: key \"routed_experts\": this base64 does not say its "
                 "shape: add both keys \"num_layers\" and "
                 "\"experts_per_token\" to the line",
                 in->origin);
  MOERUN_TRY(moerun__json_int(&layers, line, "num_layers", 1,
                              MOERUN_PLACEMENT_MAX_LAYERS, NULL, in->origin));
  MOERUN_TRY(moerun__json_int(&terms, line, "experts_per_token", 1,
                              MOERUN_TRACE_MAX_EXPERTS, NULL, in->origin));
  MOERUN_TRY(agree(&in->num_layers, (size_t)layers, MOERUN_PLACEMENT_MAX_LAYERS,
                   "layers", in->origin));
  MOERUN_TRY(agree(&in->num_terms, (size_t)terms, MOERUN_TRACE_MAX_EXPERTS,
                   "experts per layer", in->origin));
done:
  return status;
}

/* The array `routed` of the object `holder` on the line. */
static moerun_status read_routed(reader *in, const json_t *line,
                                 const json_t *holder, const json_t *routed) {
  moerun_status status = MOERUN_OK;
  const struct word *word = NULL;
  unsigned char *bytes = NULL;
  size_t count = 0;
  if (json_is_string(routed)) {
    MOERUN_TRY(decode(&bytes, &count, in, json_string_value(routed),
                      json_string_length(routed)));
    if (count >= 6 && memcmp(bytes, "\x93NUMPY", 6) == 0) {
      MOERUN_TRY(read_array(in, (const char *)bytes, count));
    } else {
      MOERUN_TRY(read_shape(in, line));
      MOERUN_TRY(find_word(&word, holder, in->origin));
      MOERUN_TRY(read_words(in, word, bytes, count));
    }
    goto done;
  }
  MOERUN_TRY(require_list(routed,
                          "key \"routed_experts\" with a list of tokens or a "
                          "base64 string",
                          in->origin));
  for (size_t t = 0; t < json_array_size(routed); t++) {
    MOERUN_TRY(read_token(in, json_array_get(routed, t)));
  }
done:
  moerun__free(bytes);
  return status;
}

/* Whether a server gave the request up, so that it has nothing to say of it. */
static int is_aborted(const json_t *answer) {
  const json_t *reason = json_object_get(answer, "finish_reason");
  if (json_is_object(reason)) reason = json_object_get(reason, "type");
  return json_is_string(reason) &&
         strcmp(json_string_value(reason), "abort") == 0;
}

/* The next sequence: a prompt, unless NULL, and the answer to it. */
static moerun_status read_sequence(reader *in, const json_t *line,
                                   const json_t *prompt, const json_t *answer) {
  moerun_status status = MOERUN_OK;
  const json_t *routed = json_object_get(answer, "routed_experts");
  const int is_missing = routed == NULL || json_is_null(routed);
  if (is_missing && is_aborted(answer)) {
    in->num_aborted++;
    goto done;
  }
  if (prompt != NULL) {
    MOERUN_TRY(read_routed(in, line, answer, prompt));
  }
  MOERUN_TRY(read_routed(in, line, answer, routed));
  if ((size_t)in->num_sequences + 2 > in->offset_room) {
    const size_t room = in->offset_room * 2;
    MOERUN_TRY(
        moerun__resize(&in->offset, in->offset_room, room, sizeof *in->offset));
    in->offset_room = room;
  }
  in->offset[++in->num_sequences] = (int64_t)in->num_ids;
done:
  return status;
}

static int has_routing(const json_t *object) {
  const json_t *routed = json_object_get(object, "routed_experts");
  return routed != NULL && !json_is_null(routed);
}

static const json_t *prompt_of(const json_t *object) {
  const json_t *prompt = json_object_get(object, "prompt_routed_experts");
  return json_is_null(prompt) ? NULL : prompt;
}

/* A choice has its routing itself, or in the "sgl_ext" of an older SGLang. */
static moerun_status find_answer(const json_t **out, const json_t *choice,
                                 const char *origin) {
  moerun_status status = MOERUN_OK;
  const json_t *inner = json_object_get(choice, "sgl_ext");
  MOERUN_REQUIRE(
      !has_routing(choice) || !has_routing(inner), MOERUN_ERR_FORMAT,
      "%s: expected the key \"routed_experts\" in a choice or in its "
      "\"sgl_ext\", found both",
      origin);
  *out = has_routing(inner) ? inner : choice;
done:
  return status;
}

/* Several answers. To one prompt, whose routing is that of the first one: it is
 * in the line, or in each choice, the same; or to several prompts. */
static moerun_status read_choices(reader *in, const json_t *line,
                                  const json_t *choices) {
  moerun_status status = MOERUN_OK;
  const json_t *shared = prompt_of(line);
  const json_t *before = NULL;
  for (size_t i = 0; i < json_array_size(choices); i++) {
    const json_t *choice = json_array_get(choices, i);
    const json_t *own = prompt_of(choice);
    const json_t *answer = NULL;
    MOERUN_REQUIRE(json_is_object(choice), MOERUN_ERR_FORMAT,
                   "%s: choices[%zu]: expected an object, found %s", in->origin,
                   i, moerun__json_kind(choice));
    MOERUN_REQUIRE(shared == NULL || own == NULL, MOERUN_ERR_FORMAT,
                   "%s: expected the key \"prompt_routed_experts\" in the line "
                   "or in its choices, found both",
                   in->origin);
    const json_t *prompt = shared != NULL ? shared : own;
    const int is_same = before != NULL && json_equal(before, prompt);
    const int64_t sequences = in->num_sequences;
    MOERUN_TRY(find_answer(&answer, choice, in->origin));
    MOERUN_TRY(read_sequence(in, line, is_same ? NULL : prompt, answer));
    if (in->num_sequences > sequences) before = prompt; /* not aborted */
  }
done:
  return status;
}

/* Where a line may have the routing of one sequence: in itself and in these. */
static const char *const inner_names[] = {"meta_info", "sglext", "sgl_ext"};

enum { NUM_INNER = sizeof inner_names / sizeof *inner_names };

static int choices_have_routing(const json_t *choices) {
  for (size_t i = 0; i < json_array_size(choices); i++) {
    const json_t *choice = json_array_get(choices, i);
    if (has_routing(choice) ||
        has_routing(json_object_get(choice, "sgl_ext"))) {
      return 1;
    }
  }
  return 0;
}

/* Where a line has its routing: of all places one alone may have any. */
static moerun_status find_routing(const json_t **out, const json_t *line,
                                  const json_t *choices, const char *origin) {
  moerun_status status = MOERUN_OK;
  const int in_choices = choices_have_routing(choices);
  const json_t *from = json_is_array(choices) ? choices : NULL;
  int count = in_choices + has_routing(line);
  for (int i = 0; i < NUM_INNER; i++) {
    const json_t *inner = json_object_get(line, inner_names[i]);
    count += has_routing(inner);
    if (has_routing(inner) || (from == NULL && json_is_object(inner))) {
      from = inner;
    }
  }
  MOERUN_REQUIRE(count <= 1, MOERUN_ERR_FORMAT,
                 "%s: expected the key \"routed_experts\" in one place, the "
                 "line, its \"meta_info\", its \"sglext\" or its \"choices\", "
                 "found it in %d of them",
                 origin, count);
  *out = has_routing(line) || from == NULL ? line : from;
done:
  return status;
}

/* The routing of the prompt has to be in `beside`, where that of the answer
 * is. */
static moerun_status check_prompt(const json_t *line, const json_t *beside,
                                  const char *origin) {
  moerun_status status = MOERUN_OK;
  int elsewhere = beside != line && prompt_of(line) != NULL;
  for (int i = 0; i < NUM_INNER; i++) {
    const json_t *inner = json_object_get(line, inner_names[i]);
    elsewhere |= inner != beside && prompt_of(inner) != NULL;
  }
  MOERUN_REQUIRE(!elsewhere, MOERUN_ERR_FORMAT,
                 "%s: expected the key \"prompt_routed_experts\" beside "
                 "\"routed_experts\", found it elsewhere",
                 origin);
done:
  return status;
}

/* Of one line, or begun on it and spread over several. */
static int is_list(const char *text, size_t bytes) {
  size_t at = moerun__byte_order_mark(text, bytes);
  while (at < bytes && (text[at] == ' ' || text[at] == '\t')) {
    at++;
  }
  return at < bytes && text[at] == '[';
}

static moerun_status read_line(reader *in, const char *text, size_t bytes) {
  moerun_status status = MOERUN_OK;
  json_t *line = NULL;
  const json_t *from = NULL;
  MOERUN_REQUIRE(!is_list(text, bytes), MOERUN_ERR_FORMAT,
                 "%s: expected one JSON object a line, found a list: give each "
                 "of its objects a line of its own, without the brackets and "
                 "commas around them",
                 in->origin);
  MOERUN_TRY(moerun__json_parse(&line, text, bytes, in->origin));
  const json_t *choices = json_object_get(line, "choices");
  MOERUN_TRY(find_routing(&from, line, choices, in->origin));
  MOERUN_TRY(check_prompt(line, from == choices ? line : from, in->origin));
  if (from == choices) {
    MOERUN_TRY(read_choices(in, line, choices));
    in->num_aborted += json_array_size(choices) == 0;
  } else {
    MOERUN_TRY(read_sequence(in, line, prompt_of(from), from));
  }
done:
  json_decref(line);
  return status;
}

static int is_blank(const char *text, size_t length) {
  size_t n = 0;
  while (n < length && strchr(" \t\r", text[n]) != NULL && text[n] != '\0') {
    n++;
  }
  return n == length;
}

/* ids and offset[] in elements. */
static moerun_status read_lines(reader *in, const char *text, size_t bytes,
                                const char *origin) {
  moerun_status status = MOERUN_OK;
  size_t begin = 0;
  in->offset_room = 64;
  MOERUN_TRY(moerun__alloc(&in->offset, in->offset_room, sizeof *in->offset));
  for (int line = 1; begin < bytes; line++) {
    const char *at = text + begin;
    const char *newline = memchr(at, '\n', bytes - begin);
    const size_t length =
        newline != NULL ? (size_t)(newline - at) : bytes - begin;
    begin += length + 1;
    if (is_blank(at, length)) continue;
    (void)snprintf(in->origin, sizeof in->origin, "%s:%d", origin, line);
    MOERUN_TRY(read_line(in, at, length));
  }
  MOERUN_REQUIRE(in->num_ids > 0, MOERUN_ERR_FORMAT,
                 "%s: expected at least one token, found none", origin);
  if (in->num_aborted > 0) {
    LOG_ROOT(MOERUN_LOG_WARN,
             "%s: requests that were aborted have no routing and are passed "
             "over, as are those without choices: %lld",
             origin, (long long)in->num_aborted);
  }
done:
  return status;
}

/* ---- The trace ----------------------------------------------------------- */

moerun_status moerun__trace_parse_routed(moerun__trace **out, const char *text,
                                         size_t bytes, const char *origin,
                                         int32_t num_experts) {
  moerun_status status = MOERUN_OK;
  moerun__trace *trace = NULL;
  reader in = {.num_layers = 0};
  *out = NULL;
  MOERUN_TRY(read_lines(&in, text, bytes, origin));
  const int64_t width = (int64_t)in.num_layers * in.num_terms;
  for (int64_t s = 0; s <= in.num_sequences; s++) {
    in.offset[s] /= width;
  }
  MOERUN_TRY(moerun__trace_create(&trace, in.offset[in.num_sequences],
                                  in.num_layers, num_experts, in.num_terms));
  MOERUN_TRY(moerun__trace_set_sequences(trace, in.num_sequences, in.offset));
  memcpy(trace->ids, in.ids, in.num_ids * sizeof *in.ids);
  MOERUN_TRY(moerun__trace_leave_out_padding(trace, num_experts, origin));
  MOERUN_TRY(moerun__trace_check(trace, origin));
  *out = trace;
  trace = NULL;
done:
  moerun__free(in.ids);
  moerun__free(in.offset);
  moerun__trace_destroy(trace);
  return status;
}
