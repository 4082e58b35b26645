/* Which tensors of a checkpoint make which weight of a model. A walk is opened,
 * which counts; may be read, once; and is cleared. */
#ifndef MOERUN_MODEL_MODEL_WALK_H
#define MOERUN_MODEL_MODEL_WALK_H

#include "runtime/model/model.h"
#include "runtime/model/unused.h"
#include "runtime/model/weight_reader.h"

/* It points into itself: it must not be moved. */
typedef struct moerun__model_walk {
  moerun__weight_reader reader;
  moerun__shards *shards;
  const moerun_placement *placement; /* borrowed */
  int32_t rank;
  int32_t moe_only;
  int32_t *experts;             /* [most slots of this rank] */
  size_t expert_bytes;          /* reader.bytes: of all weights */
  moerun__expert_shape largest; /* expert of any layer */
  moerun__role embedding; /* whose name the embedding has in the checkpoint */
  int has_both_heads;     /* although config.json says that they are one */
  moerun__unused unused;
  moerun__weights_digest digest;
  moerun__reading reading;
} moerun__model_walk;

/* Opens the checkpoint at `path` (borrowed, as placement) and reads its
 * config.json into *config, which must last as long as the walk; checks all
 * tensors that `rank` would read, and counts their bytes. To be cleared after a
 * failure, too. */
moerun_status moerun__model_walk_open(moerun__model_walk *walk,
                                      moerun__model_config *config,
                                      const char *path,
                                      const moerun_placement *placement,
                                      int32_t rank, int32_t moe_only);
/* Takes MOERUN_STAGING_BYTES, which reading needs. */
moerun_status moerun__model_walk_stage(moerun__model_walk *walk);
/* [collective] Reads the weights of a staged walk into the model. watch: of the
 * bytes that this rank reads, or NULL. */
moerun_status moerun__model_walk_read(moerun_model *model,
                                      moerun__model_walk *walk,
                                      moerun_comm *comm,
                                      const moerun__byte_watch *watch);
void moerun__model_walk_clear(moerun__model_walk *walk);

#endif
