/* What users read about the options: the page docs/options.md and the options
 * of `moerun SUBCOMMAND --help`, both from the rows alone. */
#include "runtime/base/config_table.h"

#include "runtime/base/wrap.h"

#include <string.h>

/* ---- What a value may be ------------------------------------------------- */

enum { RANGE_BYTES = 1024 };

static void print_range(char out[RANGE_BYTES], const moerun__config_row *row) {
  switch (row->type) {
  case MOERUN_CONFIG_INT:
    (void)snprintf(out, RANGE_BYTES, "%.0f to %.0f", row->low, row->high);
    break;
  case MOERUN_CONFIG_DOUBLE:
    (void)snprintf(out, RANGE_BYTES, "%g to %g", row->low, row->high);
    break;
  case MOERUN_CONFIG_BOOL:
    (void)snprintf(out, RANGE_BYTES, "true, false");
    break;
  case MOERUN_CONFIG_TEXT:
    (void)snprintf(out, RANGE_BYTES, "%s", row->unit);
    break;
  case MOERUN_CONFIG_CHOICE:
    moerun__config_list_choices(out, RANGE_BYTES, row, ", ");
    break;
  }
}

enum { HELP_BYTES = 1024 };

/* The help text with its names in it. */
static void print_help(char out[HELP_BYTES], const moerun__config_row *row) {
  const char *mark = row->help_at != NULL ? strstr(row->help, "%s") : NULL;
  const char *name = NULL;
  const size_t before =
      mark != NULL ? (size_t)(mark - row->help) : strlen(row->help);
  int used = snprintf(out, HELP_BYTES, "%.*s", (int)before, row->help);
  for (int i = 0; mark != NULL && (name = row->help_at(i)) != NULL; i++) {
    const char *separator = row->help_at(i + 1) != NULL ? ", " : " and ";
    if (used >= HELP_BYTES) return;
    used += snprintf(out + used, (size_t)(HELP_BYTES - used), "%s%s",
                     i > 0 ? separator : "", name);
  }
  if (mark == NULL || used >= HELP_BYTES) return;
  (void)snprintf(out + used, (size_t)(HELP_BYTES - used), "%s", mark + 2);
}

/* ---- The page ------------------------------------------------------------ */

static const char page_begin[] =
    "# Options\n"
    "\n"
    "<!-- Written by `moerun info --config-table > docs/options.md`. -->\n"
    "\n"
    "Every option `--some-key` is also a variable `MOERUN_SOME_KEY` and a key "
    "`some_key` of the file that `--config` or `MOERUN_CONFIG` names (lines "
    "`key = value`, comments after `#`). An option on the command line is "
    "stronger than a variable, a variable is stronger than the file, and the "
    "file is stronger than the default. Only rank 0 reads them; the other "
    "ranks follow. A variable that is empty counts as unset. A key that does "
    "not exist and a value out of range are "
    "errors, whatever a stronger source says. A key that a subcommand does not "
    "use is an error on its command line, but not in the file or in a "
    "variable, which several subcommands may share. The same holds for an "
    "option that can have no effect in a run, such as `--window` without "
    "`--score`: on the command line it is an error or, where it does no harm, "
    "a warning, unless its value is the default.\n"
    "\n"
    "A truth value is `--some-key` or `--no-some-key` on the command line, and "
    "`true` or `false` elsewhere, or `yes`, `on`, `1` and `no`, `off`, `0`.\n";

static void print_cells(FILE *stream, const moerun__config_schema *schema,
                        const moerun__config_row *row) {
  char range[RANGE_BYTES];
  char help[HELP_BYTES];
  const char *separator = "";
  const char *name = NULL;
  print_range(range, row);
  print_help(help, row);
  (void)fprintf(stream, "| `%s` | %s | %s | %s | ", row->key, range,
                row->fallback,
                row->type == MOERUN_CONFIG_TEXT ? "" : row->unit);
  for (int s = 0; (name = schema->subcommands[s]) != NULL; s++) {
    if ((row->used_by >> s & 1U) == 0) continue;
    (void)fprintf(stream, "%s%s", separator, name);
    separator = ", ";
  }
  (void)fprintf(stream, " | %s |\n", help);
}

void moerun__config_print_page(FILE *stream,
                               const moerun__config_schema *schema) {
  const moerun__config_group *group = NULL;
  (void)fputs(page_begin, stream);
  for (int g = 0; (group = schema->groups[g]) != NULL; g++) {
    (void)fprintf(stream,
                  "\n## %s\n\n"
                  "| key | value | default | unit | used by | meaning |\n"
                  "|---|---|---|---|---|---|\n",
                  group->title);
    for (int i = 0; i < group->num_rows; i++) {
      print_cells(stream, schema, &group->rows[i]);
    }
  }
}

/* ---- --help -------------------------------------------------------------- */

enum {
  TEXT_COLUMN = 28, /* where help texts begin */
  NAME_BYTES = 64,
};

/* "  --some-key FILE", with the word that stands for the value. Returns the
 * columns that it takes. */
static int print_name(FILE *stream, const moerun__config_row *row) {
  char name[NAME_BYTES];
  const char *word = "";
  if (row->type == MOERUN_CONFIG_TEXT) word = row->unit;
  if (row->type == MOERUN_CONFIG_CHOICE) word = "choice";
  if (row->type == MOERUN_CONFIG_INT || row->type == MOERUN_CONFIG_DOUBLE) {
    word = "n";
  }
  int length = snprintf(name, sizeof name, "%s",
                        row->type == MOERUN_CONFIG_BOOL ? "[no-]" : "");
  for (const char *c = row->key; *c != '\0' && length < NAME_BYTES - 1; c++) {
    name[length++] = (char)(*c == '_' ? '-' : *c);
  }
  if (word[0] != '\0' && length < NAME_BYTES - 1) name[length++] = ' ';
  for (const char *c = word; *c != '\0' && length < NAME_BYTES - 1; c++) {
    name[length++] = (char)(*c - 'a' + 'A');
  }
  name[length] = '\0';
  return fprintf(stream, "  --%s", name);
}

static void print_option(FILE *stream, const moerun__config_row *row,
                         int is_required) {
  char range[RANGE_BYTES];
  char help[HELP_BYTES];
  char note[RANGE_BYTES + NAME_BYTES];
  int column = print_name(stream, row);
  if (column >= TEXT_COLUMN) {
    (void)fputc('\n', stream);
    column = 0;
  }
  (void)fprintf(stream, "%*s", TEXT_COLUMN - column, "");
  print_help(help, row);
  column = moerun__wrap_words(stream, help, TEXT_COLUMN, TEXT_COLUMN);
  print_range(range, row);
  note[0] = '\0';
  if (is_required) {
    (void)snprintf(note, sizeof note, "(required)");
  } else if (row->type == MOERUN_CONFIG_TEXT && row->fallback[0] != '\0') {
    (void)snprintf(note, sizeof note, "(default %s)", row->fallback);
  } else if (row->type != MOERUN_CONFIG_TEXT &&
             row->type != MOERUN_CONFIG_BOOL) {
    (void)snprintf(note, sizeof note, "(%s%s%s; default %s)", range,
                   row->unit[0] != '\0' ? " " : "", row->unit, row->fallback);
  }
  (void)moerun__wrap_words(stream, note, column, TEXT_COLUMN);
  (void)fputc('\n', stream);
}

void moerun__config_print_options(FILE *stream,
                                  const moerun__config_schema *schema,
                                  const char *subcommand) {
  const moerun__config_group *group = NULL;
  const char *name = NULL;
  unsigned bit = 0;
  for (int s = 0; (name = schema->subcommands[s]) != NULL; s++) {
    if (strcmp(name, subcommand) == 0) bit = 1U << s;
  }
  for (int g = 0; (group = schema->groups[g]) != NULL; g++) {
    int count = 0;
    for (int i = 0; i < group->num_rows; i++) {
      const moerun__config_row *row = &group->rows[i];
      if ((row->used_by & bit) == 0) continue;
      if (count++ == 0) (void)fprintf(stream, "\n%s:\n", group->title);
      print_option(stream, row, (row->required_by & bit) != 0);
    }
  }
}
