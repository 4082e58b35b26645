/* What `moerun help` and `moerun SUBCOMMAND --help` print. */
#ifndef MOERUN_LAUNCH_HELP_H
#define MOERUN_LAUNCH_HELP_H

#include <stdio.h>

/* The subcommands, each with a line. */
void moerun__help_print(FILE *stream);

/* What the subcommand `name` is for, two examples and its options. */
void moerun__help_print_subcommand(FILE *stream, const char *name);

#endif
