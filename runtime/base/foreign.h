/* What a file is that was taken for another: a page that a server answered
 * with in place of a download, a Git LFS pointer, weights in another format. */
#ifndef MOERUN_BASE_FOREIGN_H
#define MOERUN_BASE_FOREIGN_H

#include <stddef.h>

enum {
  MOERUN_FOREIGN_TEXT = 192,
  MOERUN_FOREIGN_START = 256, /* bytes of a file that are enough to tell */
};

/* "a Git LFS pointer …: what to do", from the file's first bytes; an empty
 * text and 0 if they are none of what is known here. */
int moerun__foreign_name(char out[MOERUN_FOREIGN_TEXT], const char *start,
                         size_t bytes);

/* The same of a file in the place of weights. */
int moerun__foreign_weights(char out[MOERUN_FOREIGN_TEXT], const char *start,
                            size_t bytes);

/* 3 if the text begins with UTF-8's byte order mark, which Windows editors
 * write and no reader should see, else 0. */
size_t moerun__byte_order_mark(const char *text, size_t bytes);

#endif
