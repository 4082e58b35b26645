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
#include "runtime/base/foreign.h"
#include "runtime/base/memory.h"

#include <string.h>

extern char **environ;

enum { NAME_BYTES = 64 };

/* ---- Misspelt names ------------------------------------------------------ */

/* What a message says behind a name that is no option. */
enum { ADVICE_BYTES = 128 };

/* Files and variables may have keys of any subcommand. */
static const unsigned any_subcommand = ~0U;

/* Writes ": did you mean X?" with the option nearest to name[length], spelt as
 * a flag, a variable or a key; "" where none is near. */
static void advise(char out[ADVICE_BYTES], const moerun__config_schema *schema,
                   unsigned used_by, const char *name, size_t length,
                   const char *prefix_of_key) {
  const int nearest = moerun__config_nearest(schema, used_by, name, length);
  if (nearest < 0) {
    out[0] = '\0';
    return;
  }
  const char *key = moerun__config_row_at(schema, nearest)->key;
  int used = snprintf(out, ADVICE_BYTES, ": did you mean %s", prefix_of_key);
  for (; *key != '\0' && used < ADVICE_BYTES - 2; key++) {
    char c = *key;
    if (prefix_of_key[0] == '-' && c == '_') c = '-';
    if (prefix_of_key[0] == 'M' && c >= 'a' && c <= 'z')
      c = (char)(c - 'a' + 'A');
    out[used++] = c;
  }
  out[used++] = '?';
  out[used] = '\0';
}

/* ---- File ---------------------------------------------------------------- */

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
  const int row = moerun__config_find(config->schema, config->subcommand_bit,
                                      name, strlen(name));
  char advice[ADVICE_BYTES];
  advise(advice, config->schema, any_subcommand, name, strlen(name), "");
  MOERUN_REQUIRE(row >= 0, MOERUN_ERR_INVALID,
                 "%s: expected a configuration key, found \"%.100s\"%s", where,
                 name, advice);
  moerun__config_value *value = &config->values[row];
  const char *key = moerun__config_row_at(config->schema, row)->key;
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
  for (size_t begin = moerun__byte_order_mark(text, bytes); begin < bytes;
       number++) {
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

/* ---- Environment --------------------------------------------------------- */

static const char prefix[] = "MOERUN_";
enum { PREFIX_LENGTH = sizeof prefix - 1 };

/* The key of the variable name[length]: what follows MOERUN_, in small letters.
 * Returns whether it was written in capitals, as it has to be. */
static int key_of_variable(char key[NAME_BYTES], const char *name,
                           size_t length) {
  const char *rest = name + PREFIX_LENGTH;
  size_t n = 0;
  int is_capital = length - PREFIX_LENGTH < NAME_BYTES;
  for (; n + PREFIX_LENGTH < length && n < NAME_BYTES - 1; n++) {
    const char c = rest[n];
    if ((c >= 'a' && c <= 'z') || c == '-') is_capital = 0;
    key[n] = (char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  }
  key[n] = '\0';
  return is_capital;
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
  char key[NAME_BYTES];
  char advice[ADVICE_BYTES];
  const size_t length = strcspn(variable, "=");
  const int is_capital = key_of_variable(key, variable, length);
  const int row =
      is_capital ? moerun__config_find(config->schema, config->subcommand_bit,
                                       key, strlen(key))
                 : -1;
  (void)snprintf(name, sizeof name, "%.*s", (int)length, variable);
  advise(advice, config->schema, any_subcommand, key, strlen(key), prefix);
  MOERUN_REQUIRE(row >= 0 && variable[length] == '=', MOERUN_ERR_INVALID,
                 "environment variable %s: no such configuration key%s", name,
                 advice);
  if (variable[length + 1] == '\0') goto done; /* as if it were not set */
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

/* ---- Flags --------------------------------------------------------------- */

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
  char advice[ADVICE_BYTES];
  char otherwise[ADVICE_BYTES];
  const char *word = name + strspn(name, "-");
  advise(advice, config->schema, used_by, word, strcspn(word, "="), "--");
  (void)snprintf(otherwise, sizeof otherwise,
                 "; `moerun %s --help` lists the options", config->subcommand);
  MOERUN_REQUIRE(strncmp(name, "--", 2) == 0, MOERUN_ERR_INVALID,
                 "expected an option, which begins with --, found "
                 "\"%.100s\"%s%s",
                 name,
                 strcmp(name, "-n") == 0 || strcmp(name, "-np") == 0
                     ? ": the number of ranks is an option of mpirun"
                     : "",
                 name[0] == '-' && advice[0] != '\0' ? advice : otherwise);
  const size_t length = strcspn(name + 2, "=");
  const int has_value = name[2 + length] == '=';
  const char *next = num_arguments > 1 ? arguments[1] : NULL;
  *out = (flag){
      .row = moerun__config_find(config->schema, used_by, name + 2, length),
      .used = 1};
  const moerun__config_row *row =
      out->row >= 0 ? moerun__config_row_at(config->schema, out->row) : NULL;
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
    out->row =
        moerun__config_find(config->schema, used_by, name + 5, length - 3);
    row =
        out->row >= 0 ? moerun__config_row_at(config->schema, out->row) : NULL;
    if (row != NULL && row->type != MOERUN_CONFIG_BOOL) row = NULL;
    out->text = "false";
  }
  MOERUN_REQUIRE(row != NULL, MOERUN_ERR_INVALID, "unknown option %.*s%s",
                 (int)(length < 100 ? length : 100) + 2, name,
                 advice[0] != '\0' ? advice : otherwise);
done:
  return status;
}

/* A flag of another subcommand was typed for this one by mistake. */
static moerun_status check_use(const moerun__config *config, int row,
                               const char *name) {
  moerun_status status = MOERUN_OK;
  const char *key = moerun__config_row_at(config->schema, row)->key;
  const moerun__config_row *other = NULL;
  unsigned used_by = 0;
  char others[ADVICE_BYTES];
  const char *subcommand = NULL;
  int used = 0;
  for (int i = 0; (other = moerun__config_row_at(config->schema, i)) != NULL;
       i++) {
    if (strcmp(other->key, key) == 0) used_by |= other->used_by;
  }
  for (int s = 0; (subcommand = config->schema->subcommands[s]) != NULL; s++) {
    if ((used_by >> s & 1U) == 0) continue;
    used += snprintf(others + used, sizeof others - (size_t)used, "%s%s",
                     used > 0 ? ", " : "", subcommand);
  }
  MOERUN_REQUIRE((used_by & config->subcommand_bit) != 0, MOERUN_ERR_INVALID,
                 "%s: not an option of `moerun %s`, but of %s%s", name,
                 config->subcommand, others,
                 strcmp(key, "ranks") == 0 ? "; mpirun -n starts ranks" : "");
done:
  return status;
}

/* A word behind a value is the rest of it, as a shell cuts it at blanks. */
static moerun_status check_quoted(const char *word, const char *const *before) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(word[0] == '-', MOERUN_ERR_INVALID,
                 "expected an option, which begins with --, found \"%.100s\" "
                 "behind %.60s %.100s: a value of several words needs quotes",
                 word, before[0], before[1]);
done:
  return status;
}

/* A file whose name is empty was meant: a script's variable that was not set
 * would leave the option out in silence. An empty --config stands for no file,
 * whatever MOERUN_CONFIG names. */
static moerun_status check_given(const moerun__config_row *row,
                                 const char *text, const char *name) {
  moerun_status status = MOERUN_OK;
  static const char *const files[] = {"file", "folder", "path", "target"};
  if (text[0] != '\0' || row->type != MOERUN_CONFIG_TEXT ||
      strcmp(row->key, "config") == 0) {
    goto done;
  }
  for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
    MOERUN_REQUIRE(strcmp(row->unit, files[i]) != 0, MOERUN_ERR_INVALID,
                   "%s: expected a %s, found nothing", name, row->unit);
  }
done:
  return status;
}

static moerun_status load_flags(moerun__config *config, int num_arguments,
                                const char *const *arguments) {
  moerun_status status = MOERUN_OK;
  flag given = {0};
  for (int i = 0; i < num_arguments; i += given.used) {
    char name[NAME_BYTES];
    if (given.used == 2) {
      MOERUN_TRY(check_quoted(arguments[i], arguments + i - 2));
    }
    MOERUN_TRY(parse_flag(&given, config, num_arguments - i, arguments + i));
    (void)snprintf(name, sizeof name, "%.*s", (int)strcspn(arguments[i], "="),
                   arguments[i]);
    MOERUN_TRY(check_use(config, given.row, name));
    MOERUN_TRY(check_given(moerun__config_row_at(config->schema, given.row),
                           given.text, name));
    const moerun__config_value *before = &config->values[given.row];
    MOERUN_REQUIRE(before->origin != MOERUN_CONFIG_FLAG ||
                       strcmp(before->text, given.text) == 0,
                   MOERUN_ERR_INVALID,
                   "%s: given twice, with %.100s and with %.100s: give it once",
                   name, before->text, given.text);
    MOERUN_TRY(moerun__config_set(config, given.row, given.text,
                                  MOERUN_CONFIG_FLAG, name));
  }
done:
  return status;
}

/* ---- Preset -------------------------------------------------------------- */

/* Sets what nothing else has set, of words "key=value". */
static moerun_status set_preset(moerun__config *config,
                                const moerun__config_preset *preset) {
  moerun_status status = MOERUN_OK;
  char value[NAME_BYTES];
  for (const char *word = preset->values; *word != '\0';) {
    const size_t length = strcspn(word, " ");
    const size_t key_bytes = strcspn(word, "=");
    const int row = moerun__config_find(config->schema, config->subcommand_bit,
                                        word, key_bytes);
    MOERUN_REQUIRE(
        row >= 0 && key_bytes < length && length - key_bytes < sizeof value,
        MOERUN_ERR_INVALID, "preset %s: expected key=value, found \"%.*s\"",
        preset->name, (int)length, word);
    if (config->values[row].origin == MOERUN_CONFIG_DEFAULT) {
      (void)snprintf(value, sizeof value, "%.*s", (int)(length - key_bytes - 1),
                     word + key_bytes + 1);
      MOERUN_TRY(moerun__config_set(config, row, value, MOERUN_CONFIG_PRESET,
                                    preset->name));
    }
    word += length + strspn(word + length, " ");
  }
done:
  return status;
}

static moerun_status load_preset(moerun__config *config) {
  moerun_status status = MOERUN_OK;
  const moerun__config_schema *schema = config->schema;
  if (schema->preset_key == NULL ||
      !moerun__config_has(config, schema->preset_key)) {
    goto done;
  }
  const char *name = moerun__config_text(config, schema->preset_key);
  for (const moerun__config_preset *p = schema->presets; p->name != NULL; p++) {
    if (strcmp(p->name, name) == 0) MOERUN_TRY(set_preset(config, p));
  }
done:
  return status;
}

/* ---- All of them --------------------------------------------------------- */

static moerun_status check_required(const moerun__config *config) {
  moerun_status status = MOERUN_OK;
  const moerun__config_row *row = NULL;
  for (int i = 0; (row = moerun__config_row_at(config->schema, i)) != NULL;
       i++) {
    MOERUN_REQUIRE((row->required_by & config->subcommand_bit) == 0 ||
                       config->values[i].text[0] != '\0',
                   MOERUN_ERR_INVALID,
                   "--%s: expected a %s, found none; `moerun help %s` has "
                   "examples",
                   row->key, row->unit, config->subcommand);
  }
done:
  return status;
}

moerun_status moerun__config_load(moerun__config **out,
                                  const moerun__config_schema *schema,
                                  const char *subcommand, int num_arguments,
                                  const char *const *arguments,
                                  const char *const *environment) {
  moerun_status status = MOERUN_OK;
  moerun__config *config = NULL;
  moerun__config *flags = NULL;
  *out = NULL;
  if (environment == NULL) environment = (const char *const *)environ;
  MOERUN_TRY(moerun__config_create(&config, schema, subcommand));
  /* The flags are read twice: they may name the file that they overrule. */
  MOERUN_TRY(moerun__config_create(&flags, schema, subcommand));
  MOERUN_TRY(load_flags(flags, num_arguments, arguments));
  const char *path = find_in(environment, "MOERUN_CONFIG"); /* or empty */
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
  MOERUN_TRY(load_preset(config));
  MOERUN_TRY(check_required(config));
  *out = config;
  config = NULL;
done:
  moerun__config_destroy(flags);
  moerun__config_destroy(config);
  return status;
}
