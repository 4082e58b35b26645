/* A file that was given in the place of another: what it is, and which option
 * takes it. */
#ifndef MOERUN_OPTIONS_KNOWN_FILE_H
#define MOERUN_OPTIONS_KNOWN_FILE_H

#include "runtime/base/status.h"

typedef enum moerun__file_kind {
  MOERUN_FILE_TRACE = 0,
  MOERUN_FILE_LOADS,
  MOERUN_FILE_PLACEMENT,
  MOERUN_FILE_OTHER,
} moerun__file_kind;

/* Adds to the failure of a reader that wanted a file of the kind `wanted` what
 * the file is instead, if that is known. Returns `status`. */
moerun_status moerun__known_file_advise(moerun_status status, const char *path,
                                        moerun__file_kind wanted);

#endif
