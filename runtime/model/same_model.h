/* That all ranks load the same model in the same way, as far as that is known
 * before weights are read. */
#ifndef MOERUN_MODEL_SAME_MODEL_H
#define MOERUN_MODEL_SAME_MODEL_H

#include "comm/comm.h"
#include "placement/map/placement.h"
#include "runtime/model/arch.h"
#include "runtime/model/shard.h"

typedef struct moerun__model_identity {
  const moerun__model_config *config;
  const moerun__shards *shards; /* NULL: the model is from memory */
  const moerun_placement *placement;
  int32_t moe_only;
  const char *path; /* of the checkpoint, or what it is made of, for messages */
} moerun__model_identity;

/* [collective] A rank that has read something else than rank 0 fails with a
 * line that says what; the caller agrees on it. */
moerun_status moerun__same_model(moerun_comm *comm,
                                 const moerun__model_identity *identity);

#endif
