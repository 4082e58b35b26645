/* The tensors of a checkpoint directory: where each one's bytes are, and reads
 * of byte ranges. The directory holds model.safetensors, or
 * model.safetensors.index.json and the files that it names. */
#ifndef MOERUN_MODEL_SHARD_H
#define MOERUN_MODEL_SHARD_H

#include "runtime/base/dtype.h"
#include "runtime/base/status.h"

/* Files of a checkpoint, open, and the sorted table of their tensors. */
typedef struct moerun__shards moerun__shards;

enum {
  MOERUN_SHARD_DIMS = 4,
  MOERUN_SHARD_FILES = 1024, /* most files of a checkpoint */
};

typedef struct moerun__tensor {
  const char *name;
  char dtype[16];   /* as the file spells it: "BF16", "I64", …; may be cut, to
                       what no element type is called */
  int32_t num_dims; /* may exceed MOERUN_SHARD_DIMS: then shape is cut */
  int64_t shape[MOERUN_SHARD_DIMS];
  int64_t offset; /* of the first byte in the file */
  int64_t bytes;
  int32_t file; /* index, for moerun__shards_file */
} moerun__tensor;

/* Opens the files and reads and checks their headers; no weights yet. */
moerun_status moerun__shards_load(moerun__shards **out, const char *path);
void moerun__shards_destroy(moerun__shards *shards);

/* Bytes that the table holds in memory. */
size_t moerun__shards_bytes(const moerun__shards *shards);

/* NULL if there is none of this name. */
const moerun__tensor *moerun__shards_find(const moerun__shards *shards,
                                          const char *name);
/* Number i in ascending order of names, NULL beyond the last. */
const moerun__tensor *moerun__shards_at(const moerun__shards *shards, size_t i);
/* Path of the file that holds the tensor, for messages. */
const char *moerun__shards_file(const moerun__shards *shards,
                                const moerun__tensor *tensor);
/* One number for names, element types and shapes of all tensors. */
uint64_t moerun__shards_digest(const moerun__shards *shards);

/* Bits per element; 0 for types that this version has not heard of, whose
 * length is not checked (a model that uses one is refused later). */
int64_t moerun__tensor_bits(const char *dtype);
/* Whether the tensor has an element type that weights may have (*out), and
 * this shape[num_dims]; else one line with what was expected and found. */
moerun_status moerun__tensor_check(moerun__dtype *out,
                                   const moerun__shards *shards,
                                   const moerun__tensor *tensor,
                                   const int64_t *shape, int num_dims);

/* Bytes first .. first + count - 1 of the tensor into buffer[count]. */
moerun_status moerun__shards_read(void *buffer, const moerun__shards *shards,
                                  const moerun__tensor *tensor, int64_t first,
                                  int64_t count);

#endif
