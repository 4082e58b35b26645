/* Whole small files in and out, and the parts that other readers and writers
 * are made of. */
#ifndef MOERUN_BASE_FILE_H
#define MOERUN_BASE_FILE_H

#include "runtime/base/status.h"

/* ERR_INVALID for a caller's path that is NULL or empty. what: whose it is, for
 * the message. */
moerun_status moerun__path_check(const char *path, const char *what);

/* Opens a regular file for reading (and for writing if `writable`, whose
 * failure is that of an output). *bytes: its size; may be NULL. *out: -1 on
 * failure. */
moerun_status moerun__file_open(int *out, int64_t *bytes, const char *path,
                                int writable);
/* Reads a regular file of at most limit_bytes; *out is NUL-terminated beyond
 * *bytes and freed with moerun__free. */
moerun_status moerun__file_read(char **out, size_t *bytes, const char *path,
                                size_t limit_bytes);
/* Writes one output by itself (output.h). */
moerun_status moerun__file_write(const char *path, const void *content,
                                 size_t bytes);

/* Whether there is something of this name. */
int moerun__file_exists(const char *path);

/* Whether this name leads to the open file. As long as it is open, no other
 * file is taken for it. */
int moerun__file_is_at(int file, const char *path);

/* The name that an open file has now, as the system knows it, into out[bytes];
 * 0: it has none any more, or none that is known or fits. */
int moerun__file_name(char *out, size_t bytes, int file);

/* Words for errno in a message (strerror is not thread-safe). */
const char *moerun__file_reason(void);

/* Up to `bytes` bytes from `offset`; *got is less only at the end of the file.
 * `path` is for messages, here and below. */
moerun_status moerun__file_get(size_t *got, void *out, size_t bytes, int file,
                               int64_t offset, const char *path);
/* Waits until `file`, such as a pipe, has bytes or its end to read (writes = 0)
 * or room for more. ERR_STOPPED if the program is asked to end meanwhile. */
moerun_status moerun__file_wait(int file, int writes, const char *path);
/* All bytes at the file's position; waits as above where it is no file. */
moerun_status moerun__file_put(int file, const void *content, size_t bytes,
                               const char *path);
#endif
