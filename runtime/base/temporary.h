/* Files and folders that must not outlive the work they belong to: each has a
 * name that no other process uses, and whoever ends the program on a signal
 * removes those that are there. */
#ifndef MOERUN_BASE_TEMPORARY_H
#define MOERUN_BASE_TEMPORARY_H

#include "runtime/base/status.h"

#include <signal.h>

/* All zero: none. It stays where it is while it stands for something. */
typedef struct moerun__temporary {
  char *path;
  struct moerun__temporary *previous;
  struct moerun__temporary *next;
} moerun__temporary;

/* Creates a file beside `path`, with permissions as the umask says, and opens
 * it for writing. */
moerun_status moerun__temporary_file(moerun__temporary *out, int *file,
                                     const char *path);
/* Creates a folder beside `path`. */
moerun_status moerun__temporary_folder(moerun__temporary *out,
                                       const char *path);
/* Counts `path` among the temporaries, which the caller has created or is about
 * to. */
moerun_status moerun__temporary_adopt(moerun__temporary *out, const char *path);

/* Removes it from the disk if it is still there; a folder has to be empty. */
void moerun__temporary_remove(moerun__temporary *temporary);
/* Leaves on the disk what has got its own name. */
void moerun__temporary_forget(moerun__temporary *temporary);

/* Between the two no temporary is removed by a signal, which ends the program
 * before or after them. *before is the caller's until the end; such pairs may
 * stand within each other. */
void moerun__temporaries_hold(sigset_t *before);
void moerun__temporaries_release(const sigset_t *before);

/* Removes those of the whole process. To be called from a signal handler that
 * blocks all signals and ends the program, and from nowhere else: it waits for
 * whoever holds them, and nobody gets to them afterwards. */
void moerun__temporaries_remove(void);

#endif
