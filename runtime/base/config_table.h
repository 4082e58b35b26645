/* Shared by config.c (the table and the values) and config_load.c (where
 * values come from). */
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

typedef struct moerun__config_row {
  const char *key;
  moerun__config_type type;
  const char *fallback; /* the default */
  const char *unit;     /* of a number; of text: what it names */
  double low;           /* range of a number, both ends included */
  double high;
  const char *choices;  /* "a|b|c" */
  unsigned used_by;     /* a bit per subcommand */
  unsigned required_by; /* there "" is an error */
  const char *help;
} moerun__config_row;

typedef struct moerun__config_value {
  char *text;
  int64_t integer; /* of MOERUN_CONFIG_INT and _BOOL */
  double real;     /* of MOERUN_CONFIG_DOUBLE */
  moerun__config_origin origin;
  int line; /* of the file that gave it; 0: none did */
} moerun__config_value;

struct moerun__config {
  const char *subcommand;
  unsigned subcommand_bit;
  moerun__config_value *values; /* [number of rows] */
};

/* Row number i or NULL beyond the last. */
const moerun__config_row *moerun__config_row_at(int i);

/* Number of the row of name[length], '-' read as '_'; -1: none. */
int moerun__config_find(const char *name, size_t length);

/* `where` starts the message: "--wire", "MOERUN_WIRE", "x.conf:3: wire". */
moerun_status moerun__config_set(moerun__config *config, int row,
                                 const char *text, moerun__config_origin origin,
                                 const char *where);

#endif
