/* What stands beside a trace's array: trace.json (README.md), read and written
 * here, or .seqs.tsv. Every number is compared with the array before it is
 * used. */
#include "placement/trace/trace.h"

#include "runtime/base/json.h"
#include "runtime/base/limits.h"
#include "runtime/base/memory.h"
#include "runtime/base/number.h"

#include <string.h>

#define FORMAT_NAME "moerun-trace"

enum { FORMAT_VERSION = 1 };

/* ---- JSON ---------------------------------------------------------------- */

/* Those that are described in README.md; the others are for people. */
static const char *const known_keys[] = {
    "format",      "version",     "model",      "architecture",
    "num_layers",  "num_experts", "tokens",     "experts_per_token",
    "phase",       "layers",      "gate_order", "sequence_offset",
    "prompt_rows", "index",       "id",         "num_ranks",
    "rank",
};

static moerun_status check_keys(const json_t *root, const char *origin) {
  moerun_status status = MOERUN_OK;
  const size_t known = sizeof known_keys / sizeof *known_keys;
  for (void *at = json_object_iter((json_t *)root); at != NULL;
       at = json_object_iter_next((json_t *)root, at)) {
    const char *key = json_object_iter_key(at);
    size_t k = 0;
    while (k < known && strcmp(key, known_keys[k]) != 0) {
      k++;
    }
    MOERUN_REQUIRE(k < known, MOERUN_ERR_FORMAT, "%s: unknown key \"%.64s\"",
                   origin, key);
  }
done:
  return status;
}

/* The key must say what the array shows. */
static moerun_status check_size(const json_t *root, const char *key,
                                int64_t expected, const char *origin) {
  moerun_status status = MOERUN_OK;
  int64_t value = 0;
  MOERUN_TRY(
      moerun__json_int(&value, root, key, INT64_MIN, INT64_MAX, NULL, origin));
  MOERUN_REQUIRE(value == expected, MOERUN_ERR_FORMAT,
                 "%s: key \"%s\": expected %lld, as the array has, found %lld",
                 origin, key, (long long)expected, (long long)value);
done:
  return status;
}

/* The array of integers `key`, of `count` entries from low to high; count < 0:
 * of any number. NULL where it is missing and not required. */
static moerun_status read_integers(int64_t **out, int64_t *num,
                                   const json_t *root, const char *key,
                                   int64_t count, int64_t high,
                                   const char *origin) {
  moerun_status status = MOERUN_OK;
  json_t *list = NULL;
  int64_t *value = NULL;
  *out = NULL;
  MOERUN_TRY(moerun__json_array(&list, root, key, origin));
  const size_t size = json_array_size(list);
  MOERUN_REQUIRE(count < 0 || size == (size_t)count, MOERUN_ERR_FORMAT,
                 "%s: key \"%s\": expected %lld entries, found %zu", origin,
                 key, (long long)count, size);
  MOERUN_TRY(moerun__alloc(&value, size, sizeof *value));
  for (size_t i = 0; i < size; i++) {
    const json_t *entry = json_array_get(list, i);
    MOERUN_REQUIRE(json_is_integer(entry), MOERUN_ERR_FORMAT,
                   "%s: %s[%zu]: expected an integer, found %s", origin, key, i,
                   moerun__json_kind(entry));
    value[i] = (int64_t)json_integer_value(entry);
    MOERUN_REQUIRE(value[i] >= 0 && value[i] <= high, MOERUN_ERR_FORMAT,
                   "%s: %s[%zu]: expected 0 to %lld, found %lld", origin, key,
                   i, (long long)high, (long long)value[i]);
  }
  *num = (int64_t)size;
  *out = value;
  value = NULL;
done:
  moerun__free(value);
  return status;
}

static moerun_status read_head(moerun__trace *trace, const json_t *root,
                               const char *origin) {
  moerun_status status = MOERUN_OK;
  const char *format = NULL;
  const char *model = NULL;
  const int fallback = 1;
  int64_t value = 0;
  MOERUN_TRY(moerun__json_text(&format, root, "format", 1, origin));
  MOERUN_REQUIRE(strcmp(format, FORMAT_NAME) == 0, MOERUN_ERR_FORMAT,
                 "%s: key \"format\": expected \"" FORMAT_NAME
                 "\", found \"%.64s\"",
                 origin, format);
  MOERUN_TRY(moerun__json_int(&value, root, "version", INT64_MIN, INT64_MAX,
                              NULL, origin));
  MOERUN_REQUIRE(value == FORMAT_VERSION, MOERUN_ERR_FORMAT,
                 "%s: key \"version\": expected %d, found %lld", origin,
                 FORMAT_VERSION, (long long)value);
  MOERUN_TRY(check_keys(root, origin));
  MOERUN_TRY(check_size(root, "tokens", trace->num_tokens, origin));
  MOERUN_TRY(check_size(root, "num_layers", trace->num_layers, origin));
  MOERUN_TRY(check_size(root, "experts_per_token", trace->num_terms, origin));
  MOERUN_TRY(moerun__json_int(&value, root, "num_experts", 1,
                              MOERUN_TRACE_MAX_EXPERTS, NULL, origin));
  MOERUN_REQUIRE(trace->num_experts == 0 || value == trace->num_experts,
                 MOERUN_ERR_FORMAT,
                 "%s: key \"num_experts\": expected %d, as was given, found "
                 "%lld",
                 origin, trace->num_experts, (long long)value);
  trace->num_experts = moerun__to_int(value);
  MOERUN_TRY(moerun__json_bool(&trace->gate_order, root, "gate_order",
                               &fallback, origin));
  MOERUN_TRY(moerun__json_name(&model, root, "model", origin));
  moerun__free(trace->model);
  trace->model = NULL;
  MOERUN_TRY(moerun__copy_text(&trace->model, model));
done:
  return status;
}

static moerun_status read_homes(moerun__trace *trace, const json_t *root,
                                const char *origin) {
  moerun_status status = MOERUN_OK;
  int64_t *rank = NULL;
  int64_t count = 0;
  int64_t R = 0;
  if (json_object_get(root, "rank") == NULL &&
      json_object_get(root, "num_ranks") == NULL) {
    goto done;
  }
  MOERUN_TRY(moerun__json_int(&R, root, "num_ranks", 1,
                              MOERUN_PLACEMENT_MAX_RANKS, NULL, origin));
  MOERUN_TRY(read_integers(&rank, &count, root, "rank", trace->num_sequences,
                           R - 1, origin));
  MOERUN_TRY(moerun__alloc(&trace->home, (size_t)count, sizeof *trace->home));
  for (int64_t s = 0; s < count; s++) {
    trace->home[s] = moerun__to_int(rank[s]);
  }
  trace->num_ranks = moerun__to_int(R);
done:
  moerun__free(rank);
  return status;
}

moerun_status moerun__trace_parse_json(moerun__trace *trace, const char *text,
                                       size_t bytes, const char *origin) {
  moerun_status status = MOERUN_OK;
  json_t *root = NULL;
  int64_t *offset = NULL;
  int64_t count = 0;
  MOERUN_TRY(moerun__json_parse(&root, text, bytes, origin));
  MOERUN_REQUIRE(json_is_object(root), MOERUN_ERR_FORMAT,
                 "%s: expected a JSON object, found %s", origin,
                 moerun__json_kind(root));
  MOERUN_TRY(read_head(trace, root, origin));
  MOERUN_TRY(read_integers(&offset, &count, root, "sequence_offset", -1,
                           trace->num_tokens, origin));
  MOERUN_REQUIRE(count >= 2, MOERUN_ERR_FORMAT,
                 "%s: key \"sequence_offset\": expected at least 2 entries, "
                 "found %lld",
                 origin, (long long)count);
  MOERUN_TRY(moerun__trace_set_sequences(trace, count - 1, offset));
  MOERUN_TRY(read_homes(trace, root, origin));
  MOERUN_TRY(moerun__trace_check_sequences(trace, origin));
  moerun__trace_drop_empty(trace);
done:
  moerun__free(offset);
  json_decref(root);
  return status;
}

/* ---- TSV ----------------------------------------------------------------- */

/* A decimal number of at most 18 digits that ends at `stop`; -1: none. */
static int64_t parse_number(const char *text, const char *stop) {
  int64_t value = 0;
  if (stop == text || stop - text > 18) return -1;
  for (; text < stop; text++) {
    if (*text < '0' || *text > '9') return -1;
    value = value * 10 + (*text - '0');
  }
  return value;
}

/* `domain <tab> first <tab> length` in line[length]; both -1 where it is
 * not. */
static void parse_row(int64_t *first, int64_t *count, const char *line,
                      size_t length) {
  const char *end = line + length;
  const char *tab = memchr(line, '\t', length);
  const char *second =
      tab != NULL ? memchr(tab + 1, '\t', (size_t)(end - tab - 1)) : NULL;
  *first = second != NULL ? parse_number(tab + 1, second) : -1;
  *count = second != NULL ? parse_number(second + 1, end) : -1;
}

static size_t count_lines(const char *text, size_t bytes) {
  size_t count = 1;
  for (size_t i = 0; i < bytes; i++) {
    count += text[i] == '\n';
  }
  return count;
}

moerun_status moerun__trace_parse_tsv(moerun__trace *trace, const char *text,
                                      size_t bytes, const char *origin) {
  moerun_status status = MOERUN_OK;
  int64_t *offset = NULL;
  int64_t num = 0;
  size_t begin = 0;
  MOERUN_TRY(
      moerun__alloc(&offset, count_lines(text, bytes) + 1, sizeof *offset));
  for (int line = 1; begin < bytes; line++) {
    const char *at = text + begin;
    const char *newline = memchr(at, '\n', bytes - begin);
    size_t length = newline != NULL ? (size_t)(newline - at) : bytes - begin;
    int64_t first = 0;
    int64_t count = 0;
    begin += length + 1;
    if (length > 0 && at[length - 1] == '\r') length--;
    if (length == 0 || (line == 1 && at[0] == '#')) continue;
    parse_row(&first, &count, at, length);
    MOERUN_REQUIRE(first >= 0 && count >= 0, MOERUN_ERR_FORMAT,
                   "%s:%d: expected a name, the first token and the number of "
                   "tokens, with tabs between, found \"%.*s\"",
                   origin, line, (int)(length < 60 ? length : 60), at);
    MOERUN_REQUIRE(first == offset[num], MOERUN_ERR_FORMAT,
                   "%s:%d: expected first token %lld, where the last sequence "
                   "ends, found %lld",
                   origin, line, (long long)offset[num], (long long)first);
    MOERUN_REQUIRE(count > 0, MOERUN_ERR_FORMAT,
                   "%s:%d: sequence \"%.*s\": expected at least one token, "
                   "found none; leave the line out",
                   origin, line, (int)strcspn(at, "\t"), at);
    MOERUN_REQUIRE(
        count <= trace->num_tokens - first, MOERUN_ERR_FORMAT,
        "%s:%d: expected at most %lld tokens, as the array has left, "
        "found %lld",
        origin, line, (long long)(trace->num_tokens - first), (long long)count);
    offset[++num] = first + count;
  }
  MOERUN_REQUIRE(offset[num] == trace->num_tokens, MOERUN_ERR_FORMAT,
                 "%s: expected sequences of %lld tokens in all, as the array "
                 "has, found %lld",
                 origin, (long long)trace->num_tokens, (long long)offset[num]);
  MOERUN_TRY(moerun__trace_set_sequences(trace, num, offset));
done:
  moerun__free(offset);
  return status;
}

/* ---- Writing ------------------------------------------------------------- */

moerun_status moerun__trace_print_json(moerun__text *out,
                                       const moerun__trace *trace,
                                       const char *more) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__text_print(
      out, "{\"format\": \"%s\", \"version\": %d,\n\"model\": ", FORMAT_NAME,
      FORMAT_VERSION));
  MOERUN_TRY(moerun__text_json(out, trace->model, strlen(trace->model)));
  MOERUN_TRY(moerun__text_print(
      out,
      ",\n\"num_experts\": %d, \"experts_per_token\": %d, \"num_layers\": %d,\n"
      "\"tokens\": %lld, \"gate_order\": %s",
      trace->num_experts, trace->num_terms, trace->num_layers,
      (long long)trace->num_tokens, trace->gate_order ? "true" : "false"));
  if (trace->home != NULL) {
    MOERUN_TRY(moerun__text_print(out, ",\n\"num_ranks\": %d, \"rank\": [",
                                  trace->num_ranks));
    for (int64_t s = 0; s < trace->num_sequences; s++) {
      MOERUN_TRY(
          moerun__text_print(out, "%s%d", s > 0 ? "," : "", trace->home[s]));
    }
    MOERUN_TRY(moerun__text_append(out, "]", 1));
  }
  MOERUN_TRY(moerun__text_print(out, ",\n\"sequence_offset\": [0"));
  for (int64_t s = 0; s < trace->num_sequences; s++) {
    MOERUN_TRY(moerun__text_print(out, ",%lld",
                                  (long long)trace->sequence_offset[s + 1]));
  }
  MOERUN_TRY(moerun__text_append(out, "]", 1));
  MOERUN_TRY(moerun__text_append(out, more, strlen(more)));
  MOERUN_TRY(moerun__text_append(out, "}\n", 2));
done:
  return status;
}
