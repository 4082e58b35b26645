/* The files that a command writes: all of them appear at its end, or none.
 *
 * Each is written beside its place under a name of its own and renamed when
 * all are complete, so that readers see the old file or the new one, never a
 * part, and of several processes that write one file the last one wins.
 * Symbolic links are followed: what they point to is replaced, and they stay.
 * What is there and no file, such as /dev/stdout, /dev/null or a named pipe,
 * is written to as it is, at once.
 *
 * Hours may lie between the look at what has these names and their end. Where a
 * file that may not be replaced has taken one since, it stays: then none of the
 * outputs appears, all are kept under the names that they were written by, and
 * the error says which those are. */
#ifndef MOERUN_BASE_OUTPUT_H
#define MOERUN_BASE_OUTPUT_H

#include "runtime/base/status.h"

/* All zero: none yet. */
typedef struct moerun__outputs {
  struct moerun__output *first;
  int only_new; /* what has the name of an output by the end is not replaced */
} moerun__outputs;

/* Begins the file that will be at `path`; *file is open for writing, and
 * belongs to `outputs`. */
moerun_status moerun__outputs_begin(moerun__outputs *outputs, int *file,
                                    const char *path);
/* The same in place of `old`, an open file, and of nothing else: not even of
 * nothing, if `old` has lost its name since. -1: as moerun__outputs_begin. */
moerun_status moerun__outputs_begin_over(moerun__outputs *outputs, int *file,
                                         const char *path, int old);
/* As moerun__outputs_begin, with all that will be in it. */
moerun_status moerun__outputs_put(moerun__outputs *outputs, const char *path,
                                  const void *content, size_t bytes);
/* Brings all to disk and gives them their names. Where the system refuses a
 * name after it gave others, new files are taken away again, and the message
 * says which old ones have been replaced. */
moerun_status moerun__outputs_commit(moerun__outputs *outputs);
/* Removes what was not committed. */
void moerun__outputs_clear(moerun__outputs *outputs);

/* ---- What the name of an output stands for ------------------------------- */

typedef struct moerun__target {
  char *path;    /* behind symbolic links; it need not exist */
  int stream;    /* such as 1 for /dev/stdout; -1: none */
  int exists;    /* there is something of this name */
  int is_direct; /* and it is written to as it is */
  int is_folder;
  int permissions; /* of what is there */
} moerun__target;

moerun_status moerun__target_find(moerun__target *out, const char *path);
/* Opens one that is written to as it is. */
moerun_status moerun__target_open(int *file, const moerun__target *target);
void moerun__target_clear(moerun__target *target);

/* Whether the program could write a file of this name, as far as can be told
 * without doing so. */
moerun_status moerun__output_check(const char *path);

#endif
