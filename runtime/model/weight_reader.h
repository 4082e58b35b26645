/* Turns row ranges of a checkpoint's tensors into packed weights. The same
 * calls with `counting` set check names, types and shapes and count bytes but
 * allocate and read nothing, so that a prediction cannot differ from the
 * loading that it predicts. */
#ifndef MOERUN_MODEL_WEIGHT_READER_H
#define MOERUN_MODEL_WEIGHT_READER_H

#include "kernels/kernels.h"
#include "runtime/base/byte_watch.h"
#include "runtime/model/arch.h"
#include "runtime/model/shard.h"
#include "runtime/model/weights_digest.h"

enum {
  /* Read at once; at least one row of the widest weight fits. */
  MOERUN_STAGING_BYTES = 4 << 20,
  /* Looked at at once; a digest depends on it. */
  MOERUN_BLOCK_BYTES = 256 << 10,
  MOERUN_MAX_PARTS = MOERUN_MAX_CONSTANTS,
};

/* How much is read: counted beforehand, then told after each read. */
typedef struct moerun__reading {
  int64_t all;
  int64_t done;
  const moerun__byte_watch *watch; /* or NULL */
} moerun__reading;

typedef struct moerun__weight_reader {
  const char *path;                   /* of the checkpoint, for messages */
  const moerun__model_config *config; /* borrowed, as all here */
  const moerun__shards *shards;
  int counting;
  void *staging; /* [MOERUN_STAGING_BYTES]; NULL when counting */
  size_t bytes;  /* allocated (or counted) so far */
  moerun__reading *reading;
  /* All that is read is added to this sum, unless it is NULL. */
  uint64_t *digest;
} moerun__weight_reader;

/* Rows of a tensor, each of one output; or, of a transposed one, columns, in as
 * many rows as there are inputs. */
typedef struct moerun__tensor_part {
  const moerun__tensor *tensor;
  int64_t first_row; /* counted over all leading dimensions */
  int32_t num_rows;  /* outputs */
  int32_t is_transposed;
  int32_t has_pairs; /* rows of heads whose neighbours are rotated together */
} moerun__tensor_part;

/* The parts that make one weight, in the order of its outputs; all of one
 * type and one number of inputs. Zeroed before the first part is added. */
typedef struct moerun__tensor_parts {
  int32_t num_parts;
  moerun__tensor_part part[MOERUN_MAX_PARTS];
  moerun__dtype dtype;
  int32_t num_outputs;
  int32_t num_inputs;
} moerun__tensor_parts;

/* Allocates a zeroed array that belongs to the model; NULL when counting. */
moerun_status moerun__reader_array(void *out_pointer,
                                   moerun__weight_reader *reader, size_t count,
                                   size_t size);

/* The tensor of this role in whatever spelling the checkpoint has it, or
 * NULL. */
const moerun__tensor *moerun__reader_find(const moerun__weight_reader *reader,
                                          moerun__role role, int32_t layer,
                                          int32_t expert);

/* Adds the tensor of this role (expert is used by expert roles only), in
 * whatever spelling the checkpoint has it. */
moerun_status moerun__reader_add(moerun__tensor_parts *parts,
                                 const moerun__weight_reader *reader,
                                 moerun__role role, int32_t layer,
                                 int32_t expert);

/* The gate and up projections, or the down projection, of one expert, from
 * tensors of its own or from the fused ones. */
moerun_status moerun__reader_expert(moerun__tensor_parts *gate_up,
                                    moerun__tensor_parts *down,
                                    const moerun__weight_reader *reader,
                                    int32_t layer, int32_t expert);

/* Adds the first MOERUN_SAMPLE_BYTES of each of the parts to *sum; nothing when
 * counting. */
moerun_status moerun__reader_sample(uint64_t *sum,
                                    const moerun__weight_reader *reader,
                                    const moerun__tensor_parts *parts);

/* Allocates panels for a weight of these parts; NULL when counting. */
moerun_status moerun__reader_panels(void **out, moerun__weight_reader *reader,
                                    const moerun__tensor_parts *parts);

/* Packing fills whole panels; what the last one has beyond the weight's outputs
 * is cleared here, beforehand. */
void moerun__clear_last_panel(const moerun__weight *weight);

/* Reads the parts into panels for them; NULL when counting. */
moerun_status moerun__reader_pack(moerun__weight *out,
                                  const moerun__weight_reader *reader,
                                  void *panels,
                                  const moerun__tensor_parts *parts);

/* One vector from `num_roles` roles, one behind the other, widened to fp32;
 * *out is NULL when counting. */
moerun_status moerun__reader_join(float **out, moerun__weight_reader *reader,
                                  int32_t layer, int num_roles,
                                  const moerun__role *roles);

/* A norm's scale, widened to fp32; *out is NULL when counting. */
moerun_status moerun__reader_norm(float **out, moerun__weight_reader *reader,
                                  moerun__role role, int32_t layer);
/* The same for the tensors of experts 0 .. count - 1, one behind the other. */
moerun_status moerun__reader_vectors(float **out, moerun__weight_reader *reader,
                                     moerun__role role, int32_t layer,
                                     int32_t count);

#endif
