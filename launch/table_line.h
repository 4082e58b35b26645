/* A line of a table for people that is put together in pieces, and wrapped at
 * 80 columns under its own beginning. */
#ifndef MOERUN_LAUNCH_TABLE_LINE_H
#define MOERUN_LAUNCH_TABLE_LINE_H

#include <stdio.h>

enum { MOERUN_TABLE_INDENT = 17 }; /* where facts of a run begin */

/* All zero: empty. What does not fit is cut off. */
typedef struct moerun__table_line {
  char text[2048];
  int count;
} moerun__table_line;

void moerun__table_line_add(moerun__table_line *line, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Prints the label, the words from column `indent` on, and a line feed. */
void moerun__table_line_print(FILE *stream, const char *label, int indent,
                              const moerun__table_line *line);

#endif
