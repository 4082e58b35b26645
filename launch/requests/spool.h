/* Input that can be read only once, such as a pipe or stdin: kept in a file
 * without a name, because requests are checked before a run and read again when
 * their turn comes. */
#ifndef MOERUN_REQUESTS_SPOOL_H
#define MOERUN_REQUESTS_SPOOL_H

#include "runtime/base/text.h"

typedef struct moerun__spool {
  moerun__text path; /* to open, as often as needed */
  moerun__text name; /* for messages, and so is */
  moerun__text copy; /* that of the file, where there is one */
  int file;          /* -1: the path is that of the input itself */
} moerun__spool;

/* "-" is stdin. What is neither a pipe nor a terminal stays where it is, and is
 * judged by who reads it. All zero before; freed by moerun__spool_clear. */
moerun_status moerun__spool_open(moerun__spool *spool, const char *path);
/* The same for text that is there already. */
moerun_status moerun__spool_text(moerun__spool *spool, const char *text,
                                 size_t bytes, const char *name);
void moerun__spool_clear(moerun__spool *spool);

#endif
