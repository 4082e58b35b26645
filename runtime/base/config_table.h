/* Shared by tables of options and the files of the configuration: config.c (the
 * values of options), config_load.c (where values come from) and
 * config_print.c (the documentation of the options). */
#ifndef MOERUN_BASE_CONFIG_TABLE_H
#define MOERUN_BASE_CONFIG_TABLE_H

#include "runtime/base/config.h"

typedef enum moerun__config_type {
  MOERUN_CONFIG_INT = 0,
  MOERUN_CONFIG_DOUBLE,
  MOERUN_CONFIG_BOOL,
  MOERUN_CONFIG_TEXT,
  MOERUN_CONFIG_CHOICE,
} moerun__config_type;

/* Name number i of a table that stands elsewhere, NULL beyond its last. */
typedef const char *(*moerun__config_name_at)(int i);

typedef struct moerun__config_row {
  const char *key;
  moerun__config_type type;
  const char *fallback; /* the default */
  const char *unit;     /* of a number; of text: what it names */
  double low;           /* range of a number, both ends included */
  double high;
  const char *choices;  /* "a|b|c"; "": those of choice_at */
  unsigned used_by;     /* a bit per subcommand */
  unsigned required_by; /* there "" is an error */
  const char *help;
  moerun__config_name_at choice_at; /* the choices; NULL: those of `choices` */
  moerun__config_name_at help_at;   /* %s in `help` is "a, b and c" of these
                                       names; NULL: it has no %s            */
} moerun__config_row;

/* Options that --help and docs/options.md show under one title. */
typedef struct moerun__config_group {
  const char *title;
  const moerun__config_row *rows;
  int num_rows;
} moerun__config_group;

/* What other programs call an option. */
typedef struct moerun__config_alias {
  const char *name; /* as a key; NULL behind the last */
  const char *key;
} moerun__config_alias;

/* A choice of one option that stands for values of others. */
typedef struct moerun__config_preset {
  const char *name;   /* NULL behind the last */
  const char *values; /* "key=value key=value": no blanks in a value */
} moerun__config_preset;

/* All options of a program. */
struct moerun__config_schema {
  const char *const
      *subcommands; /* names by bit number, NULL behind the last */
  const moerun__config_group *const *groups; /* in the order of --help, NULL
                                                behind the last              */
  const moerun__config_alias *aliases;       /* NULL: none */
  const char *preset_key; /* the option that names a preset; NULL: none does */
  const moerun__config_preset *presets; /* another name presets nothing */
};

typedef struct moerun__config_value {
  char *text;
  int64_t integer; /* of MOERUN_CONFIG_INT and _BOOL */
  double real;     /* of MOERUN_CONFIG_DOUBLE */
  moerun__config_origin origin;
  int line; /* of the file that gave it; 0: none did */
} moerun__config_value;

struct moerun__config {
  const moerun__config_schema *schema; /* borrowed */
  const char *subcommand;
  unsigned subcommand_bit;
  moerun__config_value *values; /* [num_values], in the order of the rows */
  int num_values;
};

/* Row number i of all groups, NULL beyond the last. */
const moerun__config_row *
moerun__config_row_at(const moerun__config_schema *schema, int i);

/* Choice number i of the row and its length, NULL beyond the last. */
const char *moerun__config_choice(const moerun__config_row *row, int i,
                                  size_t *length);
/* All choices of the row, of which out[bytes] takes as much as it has room
 * for. */
void moerun__config_list_choices(char *out, size_t bytes,
                                 const moerun__config_row *row,
                                 const char *separator);

/* Number of the row of name[length], '-' read as '_': the one that a
 * subcommand of `used_by` uses, or else the key's first; -1: no such key. */
int moerun__config_find(const moerun__config_schema *schema, unsigned used_by,
                        const char *name, size_t length);

/* Number of the row that a misspelt name[length] most likely means, among those
 * that a subcommand of `used_by` uses; -1: none is near. */
int moerun__config_nearest(const moerun__config_schema *schema,
                           unsigned used_by, const char *name, size_t length);

/* `where` starts the message: "--wire", "MOERUN_WIRE", "x.conf:3: wire". */
moerun_status moerun__config_set(moerun__config *config, int row,
                                 const char *text, moerun__config_origin origin,
                                 const char *where);

#endif
