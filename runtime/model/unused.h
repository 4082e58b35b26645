/* What a checkpoint holds beyond what its config.json describes. A layer or a
 * bias that nothing computes with means that config.json is another model's:
 * what it describes would run, and say nonsense. */
#ifndef MOERUN_MODEL_UNUSED_H
#define MOERUN_MODEL_UNUSED_H

#include "runtime/model/weight_reader.h"

/* The tensors that are left out, by why. */
typedef struct moerun__unused {
  size_t known;   /* buffers that are computed anew, layers that predict more
                     tokens at once */
  size_t unknown; /* outside the decoder's layers */
  const char *first_known; /* names, of the checkpoint's table */
  const char *first_unknown;
} moerun__unused;

/* Refuses a checkpoint with tensors of used layers or modules, or of layers
 * beyond the last, that are not used; else *out = the others. Whether all that
 * is used is there is for the reader to see. */
moerun_status moerun__unused_find(moerun__unused *out,
                                  const moerun__weight_reader *reader);

/* A line for each kind that is left out. */
void moerun__unused_say(const moerun__unused *unused, const char *path);

#endif
