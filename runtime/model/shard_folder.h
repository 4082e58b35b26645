/* Private to shard.c: why a folder has no checkpoint. */
#ifndef MOERUN_MODEL_SHARD_FOLDER_H
#define MOERUN_MODEL_SHARD_FOLDER_H

#include "runtime/base/status.h"

/* An error that names what stands in the folder in place of model.safetensors
 * or model.safetensors.index.json, and what to do. */
moerun_status moerun__shards_explain(const char *path);

#endif
