/* Where configuration values come from. Each source (file, environment, flags)
 * is read completely and in rising precedence, so that a mistake is reported
 * even where a later source would have hidden it.
 *
 * A key that the subcommand does not use is an error as a flag, because it was
 * typed for this very call, but not in a file or in the environment, which
 * several subcommands share. The environment is walked, not asked for names:
 * a misspelt MOERUN_ variable is found that way. No other file reads it. */
#include "runtime/base/config_table.h"

#include "runtime/base/file.h"
#include "runtime/base/memory.h"

#include <string.h>

extern char **environ;

enum { NAME_BYTES = 64 };

/* ---- File ------------------------------------------------------------------- */

static int is_blank(char c) {
  return c == ' ' || c == '\t' || c == '\r';
}

/* A copy of text[length] without the blanks at both ends. */
static moerun_status copy_trimmed(char **out, const char *text, size_t length) {
  moerun_status status = MOERUN_OK;
  while (length > 0 && is_blank(text[length - 1])) {
    length--;
  }
  while (length > 0 && is_blank(text[0])) {
    text++;
    length--;
  }
  MOERUN_TRY(moerun__alloc(out, length + 1, 1));
  memcpy(*out, text, length);
done:
  return status;
}

/* Bytes of line[length] before a comment: '#' at its start or after a blank. */
static size_t without_comment(const char *line, size_t length) {
  for (size_t i = 0; i < length; i++) {
    if (line[i] == '#' && (i == 0 || is_blank(line[i - 1]))) return i;
  }
  return length;
}

/* `where` is "file:line". */
static moerun_status set_from_line(moerun__config *config, const char *name,
                                   const char *text, const char *where,
                                   int number) {
  moerun_status status = MOERUN_OK;
  char *place = NULL;
  const int row =
      moerun__config_find(config->subcommand_bit, name, strlen(name));
  MOERUN_REQUIRE(row >= 0, MOERUN_ERR_INVALID,
                 "%s: expected a configuration key, found \"%.100s\"", where,
                 name);
  moerun__config_value *value = &config->values[row];
  const char *key = moerun__config_row_at(row)->key;
  MOERUN_REQUIRE(strcmp(key, "config") != 0, MOERUN_ERR_INVALID,
                 "%s: config: a configuration file cannot name another", where);
  MOERUN_REQUIRE(value->line == 0, MOERUN_ERR_INVALID,
                 "%s: %s: expected once, found on line %d before", where, key,
                 value->line);
  const size_t place_bytes = strlen(where) + NAME_BYTES;
  MOERUN_TRY(moerun__alloc(&place, place_bytes, 1));
  (void)snprintf(place, place_bytes, "%s: %s", where, key);
  MOERUN_TRY(moerun__config_set(config, row, text, MOERUN_CONFIG_FILE, place));
  value->line = number;
done:
  moerun__free(place);
  return status;
}

static moerun_status parse_line(moerun__config *config, const char *line,
                                size_t length, const char *origin, int number) {
  moerun_status status = MOERUN_OK;
  char *name = NULL;
  char *text = NULL;
  char *where = NULL;
  length = without_comment(line, length);
  const char *equals = memchr(line, '=', length);
  const size_t name_bytes = equals != NULL ? (size_t)(equals - line) : length;
  const size_t where_bytes = strlen(origin) + NAME_BYTES;
  MOERUN_TRY(moerun__alloc(&where, where_bytes, 1));
  (void)snprintf(where, where_bytes, "%s:%d", origin, number);
  MOERUN_REQUIRE(memchr(line, '\0', length) == NULL, MOERUN_ERR_INVALID,
                 "%s: expected text, found a NUL byte", where);
  MOERUN_TRY(copy_trimmed(&name, line, name_bytes));
  if (equals == NULL && name[0] == '\0') goto done;
  MOERUN_REQUIRE(equals != NULL, MOERUN_ERR_INVALID,
                 "%s: expected `key = value`, found \"%.100s\"", where, name);
  MOERUN_TRY(copy_trimmed(&text, equals + 1, length - name_bytes - 1));
  MOERUN_TRY(set_from_line(config, name, text, where, number));
done:
  moerun__free(name);
  moerun__free(text);
  moerun__free(where);
  return status;
}

moerun_status moerun__config_parse(moerun__config *config, const char *text,
                                   size_t bytes, const char *origin) {
  moerun_status status = MOERUN_OK;
  int number = 1;
  for (size_t begin = 0; begin < bytes; number++) {
    const char *newline = memchr(text + begin, '\n', bytes - begin);
    const size_t length =
        newline != NULL ? (size_t)(newline - text) - begin : bytes - begin;
    MOERUN_TRY(parse_line(config, text + begin, length, origin, number));
    begin += length + 1;
  }
done:
  return status;
}

static moerun_status load_file(moerun__config *config, const char *path) {
  moerun_status status = MOERUN_OK;
  char *text = NULL;
  size_t bytes = 0;
  MOERUN_TRY(moerun__file_read(&text, &bytes, path, (size_t)1 << 20));
  MOERUN_TRY(moerun__config_parse(config, text, bytes, path));
done:
  moerun__free(text);
  return status;
}

/* ---- Environment ----------------------------------------------------------------- */

static const char prefix[] = "MOERUN_";
enum { PREFIX_LENGTH = sizeof prefix - 1 };

/* Row of the variable name[length]: MOERUN_ and the key in capitals; -1: none. */
static int find_variable(const moerun__config *config, const char *name,
                         size_t length) {
  char key[NAME_BYTES];
  if (length - PREFIX_LENGTH >= sizeof key) return -1;
  const size_t n = length - PREFIX_LENGTH;
  for (size_t i = 0; i < n; i++) {
    const char c = name[PREFIX_LENGTH + i];
    if ((c >= 'a' && c <= 'z') || c == '-') return -1;
    key[i] = (char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  }
  return moerun__config_find(config->subcommand_bit, key, n);
}

/* Variables of the tests and benchmarks, which may be set for good. */
static int is_for_others(const char *variable) {
  static const char traces[] =
      "MOERUN_TRACES="; /* folder of recorded routing */
  return strncmp(variable, traces, sizeof traces - 1) == 0;
}

static moerun_status load_variable(moerun__config *config,
                                   const char *variable) {
  moerun_status status = MOERUN_OK;
  char name[2 * NAME_BYTES];
  const size_t length = strcspn(variable, "=");
  const int row = find_variable(config, variable, length);
  (void)snprintf(name, sizeof name, "%.*s", (int)length, variable);
  MOERUN_REQUIRE(row >= 0 && variable[length] == '=', MOERUN_ERR_INVALID,
                 "environment variable %s: no such configuration key", name);
  MOERUN_TRY(moerun__config_set(config, row, variable + length + 1,
                                MOERUN_CONFIG_ENVIRONMENT, name));
done:
  return status;
}

/* The value of `name` among strings NAME=value, or NULL. */
static const char *find_in(const char *const *environment, const char *name) {
  const size_t length = strlen(name);
  for (size_t i = 0; environment != NULL && environment[i] != NULL; i++) {
    if (strncmp(environment[i], name, length) == 0 &&
        environment[i][length] == '=') {
      return environment[i] + length + 1;
    }
  }
  return NULL;
}

const char *moerun__config_environment(const char *name) {
  return find_in((const char *const *)environ, name);
}

/* ---- Flags ---------------------------------------------------------------------- */

typedef struct flag {
  int row;
  const char *text; /* value */
  int used;         /* arguments taken: 1 or 2 */
} flag;

/* The flag arguments[0]; its value stands in it (--key=value; --key and
 * --no-key of a boolean) or in the next argument. */
static moerun_status parse_flag(flag *out, const moerun__config *config,
                                int num_arguments,
                                const char *const *arguments) {
  moerun_status status = MOERUN_OK;
  const unsigned used_by = config->subcommand_bit;
  const char *name = arguments[0];
  MOERUN_REQUIRE(strncmp(name, "--", 2) == 0, MOERUN_ERR_INVALID,
                 "expected an option such as --model, found \"%.100s\"", name);
  const size_t length = strcspn(name + 2, "=");
  const int has_value = name[2 + length] == '=';
  const char *next = num_arguments > 1 ? arguments[1] : NULL;
  *out =
      (flag){.row = moerun__config_find(used_by, name + 2, length), .used = 1};
  const moerun__config_row *row =
      out->row >= 0 ? moerun__config_row_at(out->row) : NULL;
  if (has_value) {
    out->text = name + 2 + length + 1;
  } else if (row != NULL && row->type == MOERUN_CONFIG_BOOL) {
    out->text = "true";
  } else if (row != NULL) {
    MOERUN_REQUIRE(next != NULL && strncmp(next, "--", 2) != 0,
                   MOERUN_ERR_INVALID, "%.100s: expected a value, found %.100s",
                   name, next != NULL ? next : "none");
    out->text = next;
    out->used = 2;
  } else if (strncmp(name, "--no-", 5) == 0) {
    out->row = moerun__config_find(used_by, name + 5, length - 3);
    row = out->row >= 0 ? moerun__config_row_at(out->row) : NULL;
    if (row != NULL && row->type != MOERUN_CONFIG_BOOL) row = NULL;
    out->text = "false";
  }
  MOERUN_REQUIRE(row != NULL, MOERUN_ERR_INVALID, "%.100s: no such option",
                 name);
done:
  return status;
}

static moerun_status load_flags(moerun__config *config, int num_arguments,
                                const char *const *arguments) {
  moerun_status status = MOERUN_OK;
  flag given = {0};
  for (int i = 0; i < num_arguments; i += given.used) {
    char name[NAME_BYTES];
    MOERUN_TRY(parse_flag(&given, config, num_arguments - i, arguments + i));
    (void)snprintf(name, sizeof name, "%.*s", (int)strcspn(arguments[i], "="),
                   arguments[i]);
    MOERUN_REQUIRE((moerun__config_row_at(given.row)->used_by &
                    config->subcommand_bit) != 0,
                   MOERUN_ERR_INVALID, "%s: not an option of `moerun %s`", name,
                   config->subcommand);
    MOERUN_TRY(moerun__config_set(config, given.row, given.text,
                                  MOERUN_CONFIG_FLAG, name));
  }
done:
  return status;
}

/* ---- All of them ----------------------------------------------------------------- */

static moerun_status check_required(const moerun__config *config) {
  moerun_status status = MOERUN_OK;
  const moerun__config_row *row = NULL;
  for (int i = 0; (row = moerun__config_row_at(i)) != NULL; i++) {
    MOERUN_REQUIRE((row->required_by & config->subcommand_bit) == 0 ||
                       config->values[i].text[0] != '\0',
                   MOERUN_ERR_INVALID, "--%s: expected a %s, found none",
                   row->key, row->unit);
  }
done:
  return status;
}

moerun_status moerun__config_load(moerun__config **out, const char *subcommand,
                                  int num_arguments,
                                  const char *const *arguments,
                                  const char *const *environment) {
  moerun_status status = MOERUN_OK;
  moerun__config *config = NULL;
  moerun__config *flags = NULL;
  *out = NULL;
  if (environment == NULL) environment = (const char *const *)environ;
  MOERUN_TRY(moerun__config_create(&config, subcommand));
  /* The flags are read twice: they may name the file that they overrule. */
  MOERUN_TRY(moerun__config_create(&flags, subcommand));
  MOERUN_TRY(load_flags(flags, num_arguments, arguments));
  const char *path = find_in(environment, "MOERUN_CONFIG");
  if (moerun__config_origin_of(flags, "config") == MOERUN_CONFIG_FLAG) {
    path = moerun__config_text(flags, "config");
  }
  if (path != NULL && path[0] != '\0') MOERUN_TRY(load_file(config, path));
  for (size_t i = 0; environment != NULL && environment[i] != NULL; i++) {
    if (strncmp(environment[i], prefix, PREFIX_LENGTH) == 0 &&
        !is_for_others(environment[i])) {
      MOERUN_TRY(load_variable(config, environment[i]));
    }
  }
  MOERUN_TRY(load_flags(config, num_arguments, arguments));
  MOERUN_TRY(check_required(config));
  *out = config;
  config = NULL;
done:
  moerun__config_destroy(flags);
  moerun__config_destroy(config);
  return status;
}
