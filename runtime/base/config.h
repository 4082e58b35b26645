/* Every option once: its key, type, default, unit, range and help stand in one
 * row of a schema (config_table.h), which feeds the configuration file, the
 * MOERUN_* variables, the --flags, --help and the page of all options.
 * Precedence: flag > environment > file > preset > default; a preset is a list
 * of values that one option names. An unknown key and a value that does not
 * parse or is out of range are errors that say where the value came from. */
#ifndef MOERUN_BASE_CONFIG_H
#define MOERUN_BASE_CONFIG_H

#include "runtime/base/status.h"

#include <stdio.h>

typedef struct moerun__config moerun__config;

/* All options that there are, and the subcommands that use them;
 * config_table.h. */
typedef struct moerun__config_schema moerun__config_schema;

typedef enum moerun__config_origin {
  MOERUN_CONFIG_DEFAULT = 0,
  MOERUN_CONFIG_PRESET,
  MOERUN_CONFIG_FILE,
  MOERUN_CONFIG_ENVIRONMENT,
  MOERUN_CONFIG_FLAG,
} moerun__config_origin;

/* The schema is borrowed. Values for `subcommand` from the arguments after it,
 * `environment` (strings NAME=value and a NULL at the end; a NULL pointer: this
 * process's own) and the file that --config or MOERUN_CONFIG names. */
moerun_status moerun__config_load(moerun__config **out,
                                  const moerun__config_schema *schema,
                                  const char *subcommand, int num_arguments,
                                  const char *const *arguments,
                                  const char *const *environment);
void moerun__config_destroy(moerun__config *config);

/* Defaults alone, and the lines `key = value` of a file on top of them. */
moerun_status moerun__config_create(moerun__config **out,
                                    const moerun__config_schema *schema,
                                    const char *subcommand);
moerun_status moerun__config_parse(moerun__config *config, const char *text,
                                   size_t bytes, const char *origin);

/* All values as bytes, so that every rank can have those of rank 0: the other
 * ranks may run where neither the file nor the variables are. *out: freed with
 * moerun__free. */
moerun_status moerun__config_pack(char **out, size_t *bytes,
                                  const moerun__config *config);
moerun_status moerun__config_unpack(moerun__config **out,
                                    const moerun__config_schema *schema,
                                    const char *subcommand, const char *packed,
                                    size_t bytes);

/* The key must be in the table and have this type. Text is "" where nothing
 * was given, and borrowed; a choice is text. */
int64_t moerun__config_int(const moerun__config *config, const char *key);
double moerun__config_double(const moerun__config *config, const char *key);
int moerun__config_bool(const moerun__config *config, const char *key);
const char *moerun__config_text(const moerun__config *config, const char *key);
moerun__config_origin moerun__config_origin_of(const moerun__config *config,
                                               const char *key);

/* Whether the subcommand has this option; the value of no other is asked
 * for. */
int moerun__config_has(const moerun__config *config, const char *key);

/* Whether the value is another than the default, wherever it comes from. */
int moerun__config_is_changed(const moerun__config *config, const char *key);

/* Key number i of the table in use by the subcommand, with its value as text,
 * for records of a run; 0 beyond the last. */
int moerun__config_at(const moerun__config *config, int i, const char **key,
                      const char **value, moerun__config_origin *origin);

/* A page of all options, and the options of one subcommand for --help:
 * grouped, in lines of at most 80 columns. */
void moerun__config_print_page(FILE *stream,
                               const moerun__config_schema *schema);
void moerun__config_print_options(FILE *stream,
                                  const moerun__config_schema *schema,
                                  const char *subcommand);

/* A variable that other software sets (MPI launchers, Slurm), or NULL. */
const char *moerun__config_environment(const char *name);

#endif
