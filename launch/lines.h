/* A file line by line, one line in memory at a time. */
#ifndef MOERUN_LAUNCH_LINES_H
#define MOERUN_LAUNCH_LINES_H

#include "runtime/base/text.h"

enum { MOERUN_LINE_LIMIT = 256 << 20, MOERUN_LINE_BLOCK = 1 << 16 };

typedef struct moerun__lines {
  moerun__text line; /* without its newline */
  int64_t number;    /* of that line, from 1 */
  int64_t offset;    /* of that line in the file */
  int64_t end;       /* offset of the next line */
  int is_torn;       /* the file ended before a newline */
  int file;          /* borrowed, and so is path */
  const char *path;
  char *block;
  int64_t block_offset; /* in the file */
  size_t block_count;
} moerun__lines;

/* Begins before the first line of `file`; freed by moerun__lines_clear. */
moerun_status moerun__lines_begin(moerun__lines *lines, int file,
                                  const char *path);
/* Reads the next line; *has = 0 at the end of the file. A line beyond the limit
 * is an error of format, and is passed by: the next call reads the line behind
 * it. */
moerun_status moerun__lines_next(moerun__lines *lines, int *has);
void moerun__lines_clear(moerun__lines *lines);

#endif
