/* A line that says how far something is, made to fit: fields in the order in
 * which they are read, of which the least important go first where the line is
 * too long for the terminal. */
#ifndef MOERUN_RUN_PROGRESS_LINE_H
#define MOERUN_RUN_PROGRESS_LINE_H

#include <stddef.h>
#include <stdint.h>

enum { MOERUN_PROGRESS_FIELDS = 10, MOERUN_PROGRESS_FIELD = 64 };

typedef struct moerun__progress_field {
  char text[MOERUN_PROGRESS_FIELD];
  int order;  /* when it goes: the largest first, 0 never */
  int is_bar; /* a blank follows it, not a comma */
} moerun__progress_field;

/* All zero: empty. */
typedef struct moerun__progress_line {
  moerun__progress_field field[MOERUN_PROGRESS_FIELDS];
  int count;
} moerun__progress_line;

/* Fields beyond MOERUN_PROGRESS_FIELDS, and characters beyond a field, are left
 * out. */
void moerun__progress_add(moerun__progress_line *line, int order,
                          const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* "[##......]": part of all is done. */
void moerun__progress_add_bar(moerun__progress_line *line, int order,
                              double part, double all);
/* "12:30 left", with hours and days where there are some; `bound`: "at
 * most". */
void moerun__progress_add_left(moerun__progress_line *line, int order,
                               double seconds, int bound);
/* "WHAT 1.2 of 12.3 GB" */
void moerun__progress_add_bytes(moerun__progress_line *line, int order,
                                const char *what, int64_t part, int64_t all);

/* The line in at most `columns` characters, and in room - 1; returns how many
 * fields are left out. */
int moerun__progress_fit(char *out, size_t room,
                         const moerun__progress_line *line, int columns);

#endif
