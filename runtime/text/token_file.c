/* A vocabulary of 200,000 tokens takes Jansson most of a second, as it makes an
 * object of each text. So the model's "vocab" and "merges" are read here, text
 * by text, and Jansson has what is left. Where anything is wrong, Jansson reads
 * the whole file, for its message. */
#include "runtime/text/token_file.h"

#include "runtime/base/foreign.h"
#include "runtime/base/json.h"
#include "runtime/base/memory.h"
#include "runtime/base/text.h"
#include "runtime/text/unicode.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A place in the text, which ends in NUL. */
typedef struct reader {
  const char *at;
  const char *end;
  const char *where; /* "FILE: model" */
  moerun__token_file *file;
  size_t pool_used;
  size_t token_room;
  size_t merge_room;
  moerun__text rest; /* all but vocab and merges */
  const char *from;  /* what is not in `rest` yet */
} reader;

/* ---- Signs --------------------------------------------------------------- */

static void skip_blanks(reader *r) {
  r->at += strspn(r->at, " \t\r\n");
}

static const char *kind_at(const reader *r) {
  switch (*r->at) {
  case '"': return "a string";
  case '{': return "an object";
  case '[': return "an array";
  case 't':
  case 'f': return "a boolean";
  case 'n': return "null";
  default: return "a real number";
  }
}

static moerun_status expect(reader *r, char sign) {
  moerun_status status = MOERUN_OK;
  skip_blanks(r);
  MOERUN_REQUIRE(*r->at == sign, MOERUN_ERR_FORMAT,
                 "%s: expected a \"%c\", found \"%c\"", r->where, sign, *r->at);
  r->at++;
done:
  return status;
}

/* Behind a member: whether there is another one, or `close` ends the list. */
static moerun_status go_on(reader *r, int *more, char close) {
  moerun_status status = MOERUN_OK;
  skip_blanks(r);
  *more = *r->at == ',';
  if (*more) {
    r->at++;
  } else {
    MOERUN_TRY(expect(r, close));
  }
done:
  return status;
}

/* Behind the sign that opens a list: whether it has no members. */
static int ends_at_once(reader *r, char close) {
  skip_blanks(r);
  if (*r->at != close) return 0;
  r->at++;
  return 1;
}

/* ---- Texts --------------------------------------------------------------- */

static int hex_of(const char *digits) {
  int value = 0;
  for (int i = 0; i < 4; i++) {
    const char c = digits[i];
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                             : -1;
    if (digit < 0) return -1;
    value = value * 16 + digit;
  }
  return value;
}

/* \uD83D\uDE00 from its backslash; -1: that is no character. */
static int32_t read_escaped(reader *r) {
  const int high = hex_of(r->at + 2);
  r->at += 6;
  if (high < 0 || (high >= 0xDC00 && high < 0xE000)) return -1;
  if (high < 0xD800 || high >= 0xE000) return high;
  const int low = r->at[0] == '\\' && r->at[1] == 'u' ? hex_of(r->at + 2) : -1;
  if (low < 0xDC00 || low >= 0xE000) return -1;
  r->at += 6;
  return 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
}

/* What a backslash and the sign behind it stand for, into the pool; 0:
 * nothing. */
static int put_escape(reader *r) {
  static const char letters[] = "\"\\/bfnrt";
  static const char meant[] = "\"\\/\b\f\n\r\t";
  char *out = r->file->pool + r->pool_used;
  const char letter = r->at[1];
  const char *found = letter != '\0' ? strchr(letters, letter) : NULL;
  if (found != NULL) {
    out[0] = meant[found - letters];
    r->pool_used++;
    r->at += 2;
    return 1;
  }
  const int32_t c = letter == 'u' ? read_escaped(r) : -1;
  if (c < 0) return 0;
  r->pool_used += (size_t)moerun__write_code_point(out, c);
  return 1;
}

/* A text into the pool, without a NUL behind it. */
static moerun_status read_text(reader *r) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(expect(r, '"'));
  while (*r->at != '"') {
    int length = 1;
    if (*r->at == '\\') {
      length = put_escape(r) ? 0 : -1;
    } else if ((unsigned char)*r->at < 0x20) {
      length = -1;
    } else if (*r->at < 0) {
      length = moerun__utf8_length(r->at, (size_t)(r->end - r->at));
    }
    MOERUN_REQUIRE(length >= 0, MOERUN_ERR_FORMAT,
                   "%s: expected a text, found what is none", r->where);
    memcpy(r->file->pool + r->pool_used, r->at, (size_t)length);
    r->pool_used += (size_t)length;
    r->at += length;
  }
  r->at++;
done:
  return status;
}

/* Any value that is not asked for. */
static moerun_status skip_value(reader *r) {
  moerun_status status = MOERUN_OK;
  int depth = 0;
  skip_blanks(r);
  for (;;) {
    r->at += strcspn(r->at, "\"{}[],");
    const char sign = *r->at;
    MOERUN_REQUIRE(sign != '\0', MOERUN_ERR_FORMAT,
                   "%s: the file ends too early", r->where);
    if (depth == 0 && (sign == ',' || sign == '}' || sign == ']')) break;
    r->at++;
    if (sign == '{' || sign == '[') depth++;
    if (sign == '}' || sign == ']') depth--;
    while (sign == '"' && *r->at != '"' && *r->at != '\0') {
      r->at += *r->at == '\\' && r->at[1] != '\0' ? 2 : 1;
    }
    if (sign == '"' && *r->at == '"') r->at++;
  }
done:
  return status;
}

/* ---- Tokens -------------------------------------------------------------- */

/* A whole number, or with `as_real` any; *is_number = 0: it is another
 * value. */
static void read_number(reader *r, moerun__file_token *token, int *is_number,
                        int as_real) {
  char *end = NULL;
  skip_blanks(r);
  const size_t digits = strspn(r->at + (*r->at == '-'), "0123456789");
  const char *behind = r->at + (*r->at == '-') + digits;
  const int is_whole = *behind != '.' && *behind != 'e' && *behind != 'E';
  *is_number = digits > 0 && ((is_whole && digits <= 18) || as_real);
  if (!*is_number) return;
  if (as_real) {
    token->score = strtod(r->at, &end);
  } else {
    token->id = strtoll(r->at, &end, 10);
  }
  r->at = end;
}

static moerun_status begin_token(reader *r, moerun__file_token **token) {
  moerun_status status = MOERUN_OK;
  moerun__token_file *f = r->file;
  if (f->num_tokens == r->token_room) {
    const size_t room = r->token_room < 1024 ? 1024 : 2 * r->token_room;
    MOERUN_TRY(
        moerun__resize(&f->token, r->token_room, room, sizeof *f->token));
    r->token_room = room;
  }
  *token = &f->token[f->num_tokens];
  **token = (moerun__file_token){.start = r->pool_used};
  MOERUN_TRY(read_text(r));
  (*token)->bytes = r->pool_used - (*token)->start;
  f->pool[r->pool_used++] = '\0';
  f->num_tokens++;
done:
  return status;
}

static moerun_status read_id(reader *r) {
  moerun_status status = MOERUN_OK;
  moerun__file_token *token = NULL;
  int is_number = 0;
  MOERUN_TRY(begin_token(r, &token));
  MOERUN_TRY(expect(r, ':'));
  read_number(r, token, &is_number, 0);
  MOERUN_REQUIRE(is_number, MOERUN_ERR_FORMAT,
                 "%s: token \"%s\": expected an integer id, found %s", r->where,
                 r->file->pool + token->start, kind_at(r));
done:
  return status;
}

static moerun_status read_score(reader *r) {
  moerun_status status = MOERUN_OK;
  moerun__file_token *token = NULL;
  int is_number = 0;
  MOERUN_TRY(expect(r, '['));
  MOERUN_TRY(begin_token(r, &token));
  MOERUN_TRY(expect(r, ','));
  read_number(r, token, &is_number, 1);
  MOERUN_REQUIRE(is_number, MOERUN_ERR_FORMAT,
                 "%s: token \"%s\": expected a score, found %s", r->where,
                 r->file->pool + token->start, kind_at(r));
  token->id = (int64_t)r->file->num_tokens - 1;
  MOERUN_TRY(expect(r, ']'));
done:
  return status;
}

static moerun_status read_tokens(reader *r) {
  moerun_status status = MOERUN_OK;
  const int has_scores = *r->at == '[';
  const char close = has_scores ? ']' : '}';
  int more = 1;
  r->file->has_scores = has_scores;
  r->at++;
  if (ends_at_once(r, close)) goto done;
  while (more) {
    MOERUN_TRY(has_scores ? read_score(r) : read_id(r));
    MOERUN_TRY(go_on(r, &more, close));
  }
done:
  return status;
}

/* ---- Merges -------------------------------------------------------------- */

/* "a b", with one blank in it. */
static moerun_status read_joined(reader *r, moerun__file_merge *merge) {
  moerun_status status = MOERUN_OK;
  char *pool = r->file->pool;
  MOERUN_TRY(read_text(r));
  const size_t length = r->pool_used - merge->start;
  char *gap = memchr(pool + merge->start, ' ', length);
  const size_t left = gap != NULL ? (size_t)(gap - pool) - merge->start : 0;
  const int is_pair =
      gap != NULL && memchr(gap + 1, ' ', length - left - 1) == NULL;
  MOERUN_REQUIRE(is_pair, MOERUN_ERR_FORMAT,
                 "%s: merge %zu: expected \"a b\" or [\"a\", \"b\"], found a "
                 "string",
                 r->where, r->file->num_merges);
  memmove(gap, gap + 1, length - left - 1);
  merge->left_bytes = left;
  r->pool_used--;
done:
  return status;
}

static moerun_status read_pair(reader *r, moerun__file_merge *merge) {
  moerun_status status = MOERUN_OK;
  r->at++;
  MOERUN_TRY(read_text(r));
  merge->left_bytes = r->pool_used - merge->start;
  MOERUN_TRY(expect(r, ','));
  MOERUN_TRY(read_text(r));
  MOERUN_TRY(expect(r, ']'));
done:
  return status;
}

static moerun_status read_merge(reader *r) {
  moerun_status status = MOERUN_OK;
  moerun__token_file *f = r->file;
  if (f->num_merges == r->merge_room) {
    const size_t room = r->merge_room < 1024 ? 1024 : 2 * r->merge_room;
    MOERUN_TRY(
        moerun__resize(&f->merge, r->merge_room, room, sizeof *f->merge));
    r->merge_room = room;
  }
  moerun__file_merge *merge = &f->merge[f->num_merges];
  *merge = (moerun__file_merge){.start = r->pool_used};
  skip_blanks(r);
  MOERUN_REQUIRE(*r->at == '"' || *r->at == '[', MOERUN_ERR_FORMAT,
                 "%s: merge %zu: expected \"a b\" or [\"a\", \"b\"], found %s",
                 r->where, f->num_merges,
                 *r->at >= '0' && *r->at <= '9' ? "a number" : kind_at(r));
  MOERUN_TRY(*r->at == '[' ? read_pair(r, merge) : read_joined(r, merge));
  merge->bytes = r->pool_used - merge->start;
  f->num_merges++;
done:
  return status;
}

static moerun_status read_merges(reader *r) {
  moerun_status status = MOERUN_OK;
  int more = 1;
  r->at++;
  if (ends_at_once(r, ']')) goto done;
  while (more) {
    MOERUN_TRY(read_merge(r));
    MOERUN_TRY(go_on(r, &more, ']'));
  }
done:
  return status;
}

/* ---- The file ------------------------------------------------------------ */

/* A key and its colon; *is: which of keys[count] it is, or -1. */
static moerun_status read_key(reader *r, int *is, const char *const *keys,
                              int count) {
  moerun_status status = MOERUN_OK;
  const size_t start = r->pool_used;
  *is = -1;
  MOERUN_TRY(read_text(r));
  r->file->pool[r->pool_used] = '\0';
  for (int i = 0; i < count; i++) {
    if (strcmp(r->file->pool + start, keys[i]) == 0) *is = i;
  }
  r->pool_used = start;
  MOERUN_TRY(expect(r, ':'));
  skip_blanks(r);
done:
  return status;
}

/* Tokens or merges, whose place in the rest is empty. */
static moerun_status cut_out(reader *r, int is_merges) {
  moerun_status status = MOERUN_OK;
  const char *empty = *r->at == '{' ? "{}" : "[]";
  MOERUN_TRY(moerun__text_append(&r->rest, r->from, (size_t)(r->at - r->from)));
  MOERUN_TRY(moerun__text_append(&r->rest, empty, 2));
  MOERUN_TRY(is_merges ? read_merges(r) : read_tokens(r));
  r->from = r->at;
done:
  return status;
}

static moerun_status read_model(reader *r) {
  moerun_status status = MOERUN_OK;
  static const char *const keys[] = {"vocab", "merges"};
  int more = 1;
  int is = 0;
  r->at++;
  if (ends_at_once(r, '}')) goto done;
  while (more) {
    MOERUN_TRY(read_key(r, &is, keys, 2));
    const int is_new = is == 0   ? r->file->token == NULL
                       : is == 1 ? r->file->merge == NULL
                                 : 0;
    const int is_list = *r->at == '[' || (is == 0 && *r->at == '{');
    MOERUN_TRY(is_new && is_list ? cut_out(r, is) : skip_value(r));
    MOERUN_TRY(go_on(r, &more, '}'));
  }
done:
  return status;
}

static moerun_status read_file(reader *r) {
  moerun_status status = MOERUN_OK;
  static const char *const keys[] = {"model"};
  int more = 1;
  int is = 0;
  skip_blanks(r);
  more = *r->at == '{';
  r->at += more;
  if (more && ends_at_once(r, '}')) more = 0;
  while (more) {
    MOERUN_TRY(read_key(r, &is, keys, 1));
    MOERUN_TRY(is == 0 && *r->at == '{' ? read_model(r) : skip_value(r));
    MOERUN_TRY(go_on(r, &more, '}'));
  }
  MOERUN_TRY(
      moerun__text_append(&r->rest, r->from, (size_t)(r->end - r->from)));
done:
  return status;
}

moerun_status moerun__token_file_read(moerun__token_file *file,
                                      const char *text, size_t bytes,
                                      const char *origin) {
  moerun_status status = MOERUN_OK;
  moerun__text copy = {0};
  moerun__text where = {0};
  json_t *whole = NULL;
  reader r = {.file = file};
  const size_t mark = moerun__byte_order_mark(text, bytes);
  MOERUN_TRY(moerun__text_print(&where, "%s: model", origin));
  MOERUN_TRY(moerun__text_append(&copy, text + mark, bytes - mark));
  /* Each text is shorter than it is in the file with its quotes. */
  MOERUN_TRY(moerun__alloc_unset(&file->pool, bytes + 2, 1));
  r.where = where.bytes;
  r.at = copy.bytes;
  r.from = r.at;
  r.end = r.at + copy.count;
  status = read_file(&r);
  if (status == MOERUN_OK) {
    status =
        moerun__json_parse(&file->root, r.rest.bytes, r.rest.count, origin);
  }
  if (status == MOERUN_ERR_FORMAT) {
    /* Its line stays if Jansson has nothing to say. */
    const moerun_status reason =
        moerun__json_parse(&whole, text, bytes, origin);
    if (reason != MOERUN_OK) status = reason;
  }
done:
  json_decref(whole);
  moerun__text_clear(&r.rest);
  moerun__text_clear(&copy);
  moerun__text_clear(&where);
  return status;
}

void moerun__token_file_clear(moerun__token_file *file) {
  json_decref(file->root);
  moerun__free(file->pool);
  moerun__free(file->token);
  moerun__free(file->merge);
  memset(file, 0, sizeof *file);
}
