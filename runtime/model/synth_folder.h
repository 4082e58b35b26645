/* The folder that synth.c writes: it has its name when all files are in it, and
 * until then it is a temporary one beside its place. */
#ifndef MOERUN_MODEL_SYNTH_FOLDER_H
#define MOERUN_MODEL_SYNTH_FOLDER_H

#include "runtime/base/output.h"
#include "runtime/base/temporary.h"
#include "runtime/base/text.h"

/* All zero: none. */
typedef struct moerun__synth_folder {
  const char *name; /* as it was given, borrowed */
  moerun__target target;
  moerun__temporary folder;
  moerun__text label; /* of the file created last, for messages */
  struct moerun__synth_file *first;
} moerun__synth_folder;

/* Creates the temporary folder, for files of so many bytes together. What is at
 * `path` already is an error, unless `overwrite` is set and it is a folder with
 * nothing but files that synth writes. ERR_OUTPUT where the file system has
 * less room. */
moerun_status moerun__synth_folder_begin(moerun__synth_folder *out,
                                         const char *path, int overwrite,
                                         int64_t bytes);
/* A new file in it, open for writing; the caller closes it. */
moerun_status moerun__synth_folder_create(int *file,
                                          moerun__synth_folder *folder,
                                          const char *name);
/* Gives it its name. */
moerun_status moerun__synth_folder_end(moerun__synth_folder *folder);
/* Removes what has not got its name. */
void moerun__synth_folder_clear(moerun__synth_folder *folder);

#endif
