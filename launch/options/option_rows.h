/* How the options of the program are written down. An option is ONE row in one
 * group:
 *
 *   option_rows_run.c     groups of run, profile and info, and what all share
 *   option_rows_place.c   groups of place and synth
 *
 * Everything else follows from the row: the flag, the variable, the key of the
 * file, --help and docs/options.md (written by `moerun info --config-table`).
 * Rows stand in the order in which --help shows them, everyday options first.
 * A help text is a sentence or two that says whose value it is and what the
 * special values mean; range, unit and default are printed after it.
 *
 * A key that means different things in different subcommands has a row for
 * each meaning. Rows of one key are used by different subcommands and have
 * the same type, because a configuration file may serve all subcommands. */
#ifndef MOERUN_OPTIONS_OPTION_ROWS_H
#define MOERUN_OPTIONS_OPTION_ROWS_H

#include "runtime/base/config_table.h"

enum {
  RUN = 1U,
  PROFILE = 2U,
  INFO = 4U,
  SYNTH = 8U,
  PLACE = 16U,
  TOKENIZE = 32U,
  DETOKENIZE = 64U,
  CHAT = 128U,
  TEXTS = TOKENIZE | DETOKENIZE,
  RUNS = RUN | PROFILE,
  WORKS = RUN | PROFILE | CHAT,
  SIZED = RUN | PROFILE | CHAT | INFO,
  ALL = RUN | PROFILE | CHAT | INFO | SYNTH | PLACE | TEXTS,
};

#define INT_MAX_32 2147483647.0
#define INT_MAX_53 9007199254740991.0
#define INT_ROW(key, fallback, unit, low, high, used_by, help)                 \
  INT_ROW_OF(key, fallback, unit, low, high, used_by, help, NULL)
/* %s in `help` stands for the names of help_at. */
#define INT_ROW_OF(key, fallback, unit, low, high, used_by, help, help_at)     \
  {                                                                            \
    key, MOERUN_CONFIG_INT, fallback, unit, low, high, "", used_by, 0, help,   \
        NULL, help_at                                                          \
  }
#define DOUBLE_ROW(key, fallback, unit, low, high, used_by, help)              \
  {                                                                            \
    key, MOERUN_CONFIG_DOUBLE, fallback, unit, low, high, "", used_by, 0,      \
        help, NULL, NULL                                                       \
  }
#define BOOL_ROW(key, used_by, help)                                           \
  {                                                                            \
    key, MOERUN_CONFIG_BOOL, "false", "", 0, 0, "", used_by, 0, help, NULL,    \
        NULL                                                                   \
  }
#define TEXT_ROW(key, names, used_by, required_by, help)                       \
  {                                                                            \
    key, MOERUN_CONFIG_TEXT, "", names, 0, 0, "", used_by, required_by, help,  \
        NULL, NULL                                                             \
  }
#define NAME_ROW(key, fallback, names, used_by, help)                          \
  {                                                                            \
    key, MOERUN_CONFIG_TEXT, fallback, names, 0, 0, "", used_by, 0, help,      \
        NULL, NULL                                                             \
  }
#define CHOICE_ROW(key, fallback, choices, used_by, help)                      \
  {                                                                            \
    key, MOERUN_CONFIG_CHOICE, fallback, "", 0, 0, choices, used_by, 0, help,  \
        NULL, NULL                                                             \
  }
/* The choices are the names of a table that stands elsewhere. */
#define TABLE_CHOICE_ROW(key, fallback, choice_at, used_by, help)              \
  {                                                                            \
    key, MOERUN_CONFIG_CHOICE, fallback, "", 0, 0, "", used_by, 0, help,       \
        choice_at, NULL                                                        \
  }

/* The group of rows[]. */
#define GROUP(title, rows)                                                     \
  { title, rows, (int)(sizeof(rows) / sizeof *(rows)) }

extern const moerun__config_group moerun__options_input;
extern const moerun__config_group moerun__options_output;
extern const moerun__config_group moerun__options_generation;
extern const moerun__config_group moerun__options_memory;
extern const moerun__config_group moerun__options_placement;
extern const moerun__config_group moerun__options_balance;
extern const moerun__config_group moerun__options_machine;
extern const moerun__config_group moerun__options_capacity;
extern const moerun__config_group moerun__options_fewer;
extern const moerun__config_group moerun__options_cluster;
extern const moerun__config_group moerun__options_method;
extern const moerun__config_group moerun__options_certificate;
extern const moerun__config_group moerun__options_model;
extern const moerun__config_group moerun__options_other;

#endif
