/* The values of options. A value is kept as its text and, parsed once when it
 * is set, as a number. The options themselves are a schema that the program
 * hands over; config_load.c says where values come from. */
#include "runtime/base/config_table.h"

#include "runtime/base/memory.h"
#include "runtime/base/spelling.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- The table ----------------------------------------------------------- */

const moerun__config_row *
moerun__config_row_at(const moerun__config_schema *schema, int i) {
  for (int g = 0; schema->groups[g] != NULL; g++) {
    if (i < schema->groups[g]->num_rows) return &schema->groups[g]->rows[i];
    i -= schema->groups[g]->num_rows;
  }
  return NULL;
}

static int count_rows(const moerun__config_schema *schema) {
  int count = 0;
  for (int g = 0; schema->groups[g] != NULL; g++) {
    count += schema->groups[g]->num_rows;
  }
  return count;
}

static int is_key(const char *key, const char *name, size_t length) {
  size_t n = 0;
  while (n < length && key[n] != '\0' &&
         key[n] == (name[n] == '-' ? '_' : name[n])) {
    n++;
  }
  return n == length && key[n] == '\0';
}

int moerun__config_find(const moerun__config_schema *schema, unsigned used_by,
                        const char *name, size_t length) {
  const moerun__config_row *row = NULL;
  int first = -1;
  for (int i = 0; (row = moerun__config_row_at(schema, i)) != NULL; i++) {
    if (!is_key(row->key, name, length)) continue;
    if ((row->used_by & used_by) != 0) return i;
    if (first < 0) first = i;
  }
  return first;
}

/* The row whose key another program calls so; -1: none. */
static int find_alias(const moerun__config_schema *schema, unsigned used_by,
                      const char *name, size_t length) {
  const moerun__config_alias *alias = schema->aliases;
  for (; alias != NULL && alias->name != NULL; alias++) {
    if (!is_key(alias->name, name, length)) continue;
    const int row =
        moerun__config_find(schema, used_by, alias->key, strlen(alias->key));
    if (row >= 0 &&
        (moerun__config_row_at(schema, row)->used_by & used_by) != 0) {
      return row;
    }
  }
  return -1;
}

int moerun__config_nearest(const moerun__config_schema *schema,
                           unsigned used_by, const char *name, size_t length) {
  const moerun__config_row *row = NULL;
  int nearest = -1;
  int least = 0;
  const int alias = find_alias(schema, used_by, name, length);
  if (alias >= 0) return alias;
  for (int i = 0; (row = moerun__config_row_at(schema, i)) != NULL; i++) {
    if ((row->used_by & used_by) == 0) continue;
    const int distance = moerun__spelling_distance(name, length, row->key);
    if (distance < 0 || (nearest >= 0 && distance >= least)) continue;
    nearest = i;
    least = distance;
  }
  return nearest;
}

/* ---- One value ----------------------------------------------------------- */

enum { EXPECTED_BYTES = 1024 };

/* Word number i of "a|b|c". */
static const char *word_at(const char *words, int i, size_t *length) {
  const char *word = words;
  for (; i > 0 && *word != '\0'; i--) {
    word += strcspn(word, "|");
    word += *word == '|';
  }
  *length = strcspn(word, "|");
  return *word != '\0' ? word : NULL;
}

const char *moerun__config_choice(const moerun__config_row *row, int i,
                                  size_t *length) {
  if (row->choice_at == NULL) return word_at(row->choices, i, length);
  const char *choice = row->choice_at(i);
  *length = choice != NULL ? strlen(choice) : 0;
  return choice;
}

void moerun__config_list_choices(char *out, size_t bytes,
                                 const moerun__config_row *row,
                                 const char *separator) {
  size_t used = 0;
  size_t length = 0;
  const char *choice = NULL;
  out[0] = '\0';
  for (int i = 0; (choice = moerun__config_choice(row, i, &length)) != NULL;
       i++) {
    const int n = snprintf(out + used, bytes - used, "%s%.*s",
                           i > 0 ? separator : "", (int)length, choice);
    if (n < 0 || (size_t)n >= bytes - used) return;
    used += (size_t)n;
  }
}

/* Whether text is one of the words of "a|b|c". */
static int is_word(const char *words, const char *text) {
  size_t length = 0;
  const char *word = NULL;
  for (int i = 0; (word = word_at(words, i, &length)) != NULL; i++) {
    if (length == strlen(text) && memcmp(word, text, length) == 0) return 1;
  }
  return 0;
}

static int is_choice(const moerun__config_row *row, const char *text) {
  size_t length = 0;
  const char *choice = NULL;
  for (int i = 0; (choice = moerun__config_choice(row, i, &length)) != NULL;
       i++) {
    if (length == strlen(text) && memcmp(choice, text, length) == 0) return 1;
  }
  return 0;
}

static void print_expected(char out[EXPECTED_BYTES],
                           const moerun__config_row *row) {
  int used = 0;
  switch (row->type) {
  case MOERUN_CONFIG_INT:
    (void)snprintf(out, EXPECTED_BYTES, "an integer from %.0f to %.0f",
                   row->low, row->high);
    break;
  case MOERUN_CONFIG_DOUBLE:
    (void)snprintf(out, EXPECTED_BYTES, "a number from %g to %g", row->low,
                   row->high);
    break;
  case MOERUN_CONFIG_BOOL:
    (void)snprintf(out, EXPECTED_BYTES, "true or false");
    break;
  case MOERUN_CONFIG_TEXT:
    (void)snprintf(out, EXPECTED_BYTES, "the name of a %s", row->unit);
    break;
  case MOERUN_CONFIG_CHOICE:
    used = snprintf(out, EXPECTED_BYTES, "one of ");
    moerun__config_list_choices(out + used, EXPECTED_BYTES - (size_t)used, row,
                                "|");
    break;
  }
}

/* Decimal notation only, and the whole text: strtoll and strtod would take
 * leading blanks, hexadecimal, "inf" and "nan". */
static int parse_int(int64_t *out, const char *text) {
  char *end = NULL;
  if (text[strspn(text, "-0123456789")] != '\0') return 0;
  errno = 0;
  *out = strtoll(text, &end, 10);
  return end != text && *end == '\0' && errno == 0;
}

static int parse_double(double *out, const char *text) {
  char *end = NULL;
  if (text[strspn(text, "+-.0123456789eE")] != '\0') return 0;
  errno = 0;
  *out = strtod(text, &end) + 0.0; /* minus zero is zero */
  return end != text && *end == '\0' && errno == 0;
}

static int parse_value(moerun__config_value *out, const moerun__config_row *row,
                       const char *text) {
  switch (row->type) {
  case MOERUN_CONFIG_INT:
    return parse_int(&out->integer, text) && (double)out->integer >= row->low &&
           (double)out->integer <= row->high;
  case MOERUN_CONFIG_DOUBLE:
    return parse_double(&out->real, text) && out->real >= row->low &&
           out->real <= row->high;
  case MOERUN_CONFIG_BOOL:
    out->integer = is_word("true|yes|on|1", text);
    return out->integer || is_word("false|no|off|0", text);
  case MOERUN_CONFIG_TEXT: return 1;
  case MOERUN_CONFIG_CHOICE: return is_choice(row, text);
  }
  return 0;
}

moerun_status moerun__config_set(moerun__config *config, int row,
                                 const char *text, moerun__config_origin origin,
                                 const char *where) {
  moerun_status status = MOERUN_OK;
  char *copy = NULL;
  char expected[EXPECTED_BYTES];
  moerun__config_value *value = &config->values[row];
  print_expected(expected, moerun__config_row_at(config->schema, row));
  MOERUN_REQUIRE(
      parse_value(value, moerun__config_row_at(config->schema, row), text),
      MOERUN_ERR_INVALID, "%s: expected %s, found \"%.100s\"", where, expected,
      text);
  MOERUN_TRY(moerun__copy_text(&copy, text));
  moerun__free(value->text);
  value->text = copy;
  value->origin = origin;
done:
  return status;
}

moerun_status moerun__config_create(moerun__config **out,
                                    const moerun__config_schema *schema,
                                    const char *subcommand) {
  moerun_status status = MOERUN_OK;
  moerun__config *config = NULL;
  *out = NULL;
  MOERUN_TRY(moerun__alloc(&config, 1, sizeof *config));
  config->schema = schema;
  config->num_values = count_rows(schema);
  MOERUN_TRY(moerun__alloc(&config->values, (size_t)config->num_values,
                           sizeof *config->values));
  for (int i = 0; schema->subcommands[i] != NULL; i++) {
    if (strcmp(schema->subcommands[i], subcommand) != 0) continue;
    config->subcommand = schema->subcommands[i];
    config->subcommand_bit = 1U << i;
  }
  MOERUN_REQUIRE(config->subcommand_bit != 0, MOERUN_ERR_INVALID,
                 "%.100s: no such subcommand", subcommand);
  for (int i = 0; i < config->num_values; i++) {
    const moerun__config_row *row = moerun__config_row_at(config->schema, i);
    MOERUN_TRY(moerun__config_set(config, i, row->fallback,
                                  MOERUN_CONFIG_DEFAULT, row->key));
  }
  *out = config;
  config = NULL;
done:
  moerun__config_destroy(config);
  return status;
}

void moerun__config_destroy(moerun__config *config) {
  if (config == NULL) return;
  for (int i = 0; config->values != NULL && i < config->num_values; i++) {
    moerun__free(config->values[i].text);
  }
  moerun__free(config->values);
  moerun__free(config);
}

/* ---- Packed -------------------------------------------------------------- */

/* Per row, in the order of the table: a digit for the origin, the text, NUL. */

moerun_status moerun__config_pack(char **out, size_t *bytes,
                                  const moerun__config *config) {
  moerun_status status = MOERUN_OK;
  size_t used = 0;
  *out = NULL;
  *bytes = 0;
  for (int i = 0; i < config->num_values; i++) {
    *bytes += strlen(config->values[i].text) + 2;
  }
  MOERUN_TRY(moerun__alloc(out, *bytes, 1));
  for (int i = 0; i < config->num_values; i++) {
    const moerun__config_value *value = &config->values[i];
    (*out)[used++] = (char)('0' + (int)value->origin);
    memcpy(*out + used, value->text, strlen(value->text) + 1);
    used += strlen(value->text) + 1;
  }
done:
  return status;
}

moerun_status moerun__config_unpack(moerun__config **out,
                                    const moerun__config_schema *schema,
                                    const char *subcommand, const char *packed,
                                    size_t bytes) {
  moerun_status status = MOERUN_OK;
  moerun__config *config = NULL;
  size_t used = 0;
  *out = NULL;
  MOERUN_TRY(moerun__config_create(&config, schema, subcommand));
  for (int i = 0; i < config->num_values; i++) {
    const char *end =
        used < bytes ? memchr(packed + used, '\0', bytes - used) : NULL;
    MOERUN_REQUIRE(end != NULL && packed[used] >= '0' &&
                       packed[used] - '0' <= (int)MOERUN_CONFIG_FLAG,
                   MOERUN_ERR_INVALID,
                   "configuration from rank 0: expected %d values, found %d; "
                   "is this the same moerun?",
                   config->num_values, i);
    MOERUN_TRY(
        moerun__config_set(config, i, packed + used + 1,
                           (moerun__config_origin)(packed[used] - '0'),
                           moerun__config_row_at(config->schema, i)->key));
    used = (size_t)(end - packed) + 1;
  }
  *out = config;
  config = NULL;
done:
  moerun__config_destroy(config);
  return status;
}

/* ---- Use ----------------------------------------------------------------- */

static const moerun__config_value *value_of(const moerun__config *config,
                                            const char *key) {
  const int i = moerun__config_find(config->schema, config->subcommand_bit, key,
                                    strlen(key));
  assert(i >= 0);
  return &config->values[i];
}

int64_t moerun__config_int(const moerun__config *config, const char *key) {
  return value_of(config, key)->integer;
}

double moerun__config_double(const moerun__config *config, const char *key) {
  return value_of(config, key)->real;
}

int moerun__config_bool(const moerun__config *config, const char *key) {
  return value_of(config, key)->integer != 0;
}

const char *moerun__config_text(const moerun__config *config, const char *key) {
  return value_of(config, key)->text;
}

moerun__config_origin moerun__config_origin_of(const moerun__config *config,
                                               const char *key) {
  return value_of(config, key)->origin;
}

int moerun__config_has(const moerun__config *config, const char *key) {
  return moerun__config_find(config->schema, config->subcommand_bit, key,
                             strlen(key)) >= 0;
}

int moerun__config_is_changed(const moerun__config *config, const char *key) {
  const int i = moerun__config_find(config->schema, config->subcommand_bit, key,
                                    strlen(key));
  moerun__config_value standard = {0};
  assert(i >= 0);
  const moerun__config_row *row = moerun__config_row_at(config->schema, i);
  const moerun__config_value *value = &config->values[i];
  (void)parse_value(&standard, row, row->fallback);
  switch (row->type) {
  case MOERUN_CONFIG_INT:
  case MOERUN_CONFIG_BOOL: return value->integer != standard.integer;
  case MOERUN_CONFIG_DOUBLE: return value->real != standard.real;
  case MOERUN_CONFIG_TEXT:
  case MOERUN_CONFIG_CHOICE: break;
  }
  return strcmp(value->text, row->fallback) != 0;
}

int moerun__config_at(const moerun__config *config, int i, const char **key,
                      const char **value, moerun__config_origin *origin) {
  const moerun__config_row *row = NULL;
  for (int r = 0; (row = moerun__config_row_at(config->schema, r)) != NULL;
       r++) {
    if ((row->used_by & config->subcommand_bit) == 0 || i-- > 0) continue;
    *key = row->key;
    *value = config->values[r].text;
    *origin = config->values[r].origin;
    return 1;
  }
  return 0;
}
