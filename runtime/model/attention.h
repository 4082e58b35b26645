/* A kind of attention, as far as the files of a model are concerned: the
 * tensors of a layer, how they make the layer's weights, and what a position
 * takes in the cache. Each kind is one file of decoder/, which fills one of
 * these; a row of arch_rows.c chooses it. Whatever reads, checks, counts or
 * writes the tensors of a layer goes by this description alone. */
#ifndef MOERUN_MODEL_ATTENTION_H
#define MOERUN_MODEL_ATTENTION_H

#include "runtime/model/arch.h"

enum { MOERUN_ATTENTION_WEIGHTS = 8 }; /* most weights of a layer */

/* A tensor of a layer. */
typedef struct moerun__attention_tensor {
  moerun__role
      role; /* one of arch.h, or MOERUN_ROLE_OWN + i of the kind's own */
  const char *suffix; /* of its name, behind "model.layers.N." */
} moerun__attention_tensor;

typedef enum moerun__attention_form {
  MOERUN_ATTENTION_MATRIX = 0, /* rows are outputs; packed for the kernels */
  MOERUN_ATTENTION_BIAS,       /* a vector that is added                   */
  MOERUN_ATTENTION_NORM,       /* a vector that scales                     */
} moerun__attention_form;

/* A weight of a layer: tensors first .. first + count - 1 of the kind, joined
 * along their outputs. */
typedef struct moerun__attention_part {
  moerun__attention_form form;
  int32_t first;
  int32_t count;
  moerun__role joined; /* of a tensor that has them all, where a family spells
                          one; EMBEDDING: there is none */
} moerun__attention_part;

struct moerun__attention_ops; /* decoder/attention.h */

typedef struct moerun__attention_kind {
  const char *name;
  const moerun__attention_tensor *tensors; /* those of part 0, part 1, … */
  int32_t num_parts;                       /* 1 .. MOERUN_ATTENTION_WEIGHTS */
  const moerun__attention_part *parts;
  /* Reads config.json into the members of *config that the kind goes by: those
   * of these names, or own[]. Layers, widths outside attention and positions
   * have been read. What the kind cannot compute is refused. `origin`: the
   * file, for messages. */
  moerun_status (*read)(moerun__model_config *config, const json_t *root,
                        const char *origin);
  /* Whether a model of this configuration has a part. */
  int (*has)(const moerun__model_config *config, int32_t part);
  /* Fills shape[MOERUN_MAX_DIMS] of a tensor as the file has it (row = one
   * output) and returns the number of dimensions. */
  int (*shape)(int64_t *shape, const moerun__model_config *config,
               moerun__role role);
  /* Floats that one position of one layer takes in the cache, a multiple of
   * 2. */
  size_t (*position_floats)(const moerun__model_config *config);
  const struct moerun__attention_ops *ops;
} moerun__attention_kind;

/* A weight in memory: what is not of its form is NULL or zeros, and so is what
 * the model does not have. */
typedef struct moerun__attention_weight {
  moerun__weight matrix;
  float *vector;
} moerun__attention_weight;

/* `read` of attention with heads and rotary positions (arch_attention.c), as
 * far as the row of the architecture says: heads, base, biases, clamp, and no
 * windows. */
moerun_status moerun__arch_read_attention(moerun__model_config *config,
                                          const json_t *root,
                                          const char *origin);

/* The kinds. */
extern const moerun__attention_kind moerun__attention_gqa;

/* The tensor that has this role, or NULL: the kind has none. */
const moerun__attention_tensor *
moerun__attention_find(const moerun__attention_kind *kind, moerun__role role);
/* The form of the weight that this tensor is a part of. */
moerun__attention_form
moerun__attention_form_of(const moerun__attention_kind *kind,
                          const moerun__attention_tensor *tensor);
/* Number i of the tensors that a model of this configuration has in each layer,
 * in the order of the parts; NULL beyond the last. */
const moerun__attention_tensor *
moerun__attention_at(const moerun__model_config *config, int32_t i);
/* Elements of the matrices and biases of a layer. */
int64_t moerun__attention_elements(const moerun__model_config *config);

#endif
