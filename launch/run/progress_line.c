#include "launch/run/progress_line.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { BAR = 8 };

static moerun__progress_field *next_field(moerun__progress_line *line,
                                          int order) {
  static moerun__progress_field beyond;
  moerun__progress_field *field = &beyond;
  if (line->count < MOERUN_PROGRESS_FIELDS) field = &line->field[line->count++];
  field->order = order;
  field->is_bar = 0;
  return field;
}

void moerun__progress_add(moerun__progress_line *line, int order,
                          const char *format, ...) {
  moerun__progress_field *field = next_field(line, order);
  va_list arguments;
  va_start(arguments, format);
  (void)vsnprintf(field->text, sizeof field->text, format, arguments);
  va_end(arguments);
}

void moerun__progress_add_bar(moerun__progress_line *line, int order,
                              double part, double all) {
  moerun__progress_field *field = next_field(line, order);
  char blocks[BAR + 1] = "........";
  int full = 0;
  while (full < BAR && part * BAR >= all * (full + 1)) {
    blocks[full++] = '#';
  }
  (void)snprintf(field->text, sizeof field->text, "[%s]", blocks);
  field->is_bar = 1;
}

void moerun__progress_add_left(moerun__progress_line *line, int order,
                               double seconds, int bound) {
  const char *most = bound ? "at most " : "";
  const long all = seconds < 8.64e8 ? (long)ceil(seconds) : 864000000L;
  const long hours = all / 3600;
  const long minutes = all / 60 % 60;
  if (hours >= 100) {
    moerun__progress_add(line, order, "%s%ld days left", most, hours / 24);
  } else if (hours > 0) {
    moerun__progress_add(line, order, "%s%ld:%02ld:%02ld left", most, hours,
                         minutes, all % 60);
  } else {
    moerun__progress_add(line, order, "%s%ld:%02ld left", most, minutes,
                         all % 60);
  }
}

void moerun__progress_add_bytes(moerun__progress_line *line, int order,
                                const char *what, int64_t part, int64_t all) {
  const int is_large = all >= 1000000000;
  const double unit = is_large ? 1e9 : 1e6;
  moerun__progress_add(line, order, "%s %.1f of %.1f %s", what,
                       (double)part / unit, (double)all / unit,
                       is_large ? "GB" : "MB");
}

/* ---- To fit -------------------------------------------------------------- */

static const char *gap_after(const moerun__progress_field *field) {
  return field->is_bar ? " " : ", ";
}

/* Writes (out == NULL: measures) the fields that are kept. */
static size_t join(char *out, const moerun__progress_line *line,
                   const int *kept) {
  size_t used = 0;
  const char *gap = "";
  for (int i = 0; i < line->count; i++) {
    if (!kept[i]) continue;
    const char *const piece[] = {gap, line->field[i].text};
    for (int k = 0; k < 2; k++) {
      const size_t length = strlen(piece[k]);
      if (out != NULL) memcpy(out + used, piece[k], length);
      used += length;
    }
    gap = gap_after(&line->field[i]);
  }
  if (out != NULL) out[used] = '\0';
  return used;
}

/* The kept field that goes first; -1: all that are left stay. */
static int find_least(const moerun__progress_line *line, const int *kept) {
  int least = -1;
  for (int i = 0; i < line->count; i++) {
    if (!kept[i] || line->field[i].order == 0) continue;
    if (least < 0 || line->field[i].order >= line->field[least].order) {
      least = i;
    }
  }
  return least;
}

int moerun__progress_fit(char *out, size_t room,
                         const moerun__progress_line *line, int columns) {
  enum { MOST = MOERUN_PROGRESS_FIELDS * (MOERUN_PROGRESS_FIELD + 2) };
  char whole[MOST];
  int kept[MOERUN_PROGRESS_FIELDS];
  int left_out = 0;
  int least = 0;
  size_t width = columns > 0 ? (size_t)columns : 0;
  if (width > room - 1) width = room - 1;
  for (int i = 0; i < line->count; i++) {
    kept[i] = 1;
  }
  while (join(NULL, line, kept) > width &&
         (least = find_least(line, kept)) >= 0) {
    kept[least] = 0;
    left_out++;
  }
  const size_t length = join(whole, line, kept);
  if (width > length) width = length;
  memcpy(out, whole, width);
  out[width] = '\0';
  return left_out;
}
