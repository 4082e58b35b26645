/* Tells weights from others of the same names and shapes: a number for all
 * bytes that a model is loaded from, the same whatever the number of ranks and
 * the placement, and whether the ranks read the same ones. No defence against
 * intent. */
#ifndef MOERUN_MODEL_WEIGHTS_DIGEST_H
#define MOERUN_MODEL_WEIGHTS_DIGEST_H

#include "comm/comm.h"
#include "placement/map/placement.h"

#include <stddef.h>
#include <stdint.h>

enum {
  /* Of each tensor of each expert, all ranks compare so much of its start. */
  MOERUN_SAMPLE_BYTES = 4096,
};

/* What one rank has read: sums, modulo 2^64, over ranges of bytes. */
typedef struct moerun__weights_digest {
  uint64_t shared;  /* what every rank reads */
  uint64_t samples; /* a sample of every expert, which every rank reads, too */
  uint64_t experts; /* the experts that this rank counts */
  uint64_t *expert; /* [E] each one of the layer at hand that this rank holds;
                       borrowed, and 0 before the first layer */
} moerun__weights_digest;

/* Adds the bytes of a tensor from `offset` on. A range counts with its place,
 * so that ranges may come in any order, but the same bytes cut into other
 * ranges give another sum. */
void moerun__digest_piece(uint64_t *sum, const char *tensor, int64_t offset,
                          const void *bytes, size_t count);

/* [collective] After the experts of a MoE layer: the ranks that hold one
 * compare all of its bytes. Where they differ, all ranks fail with
 * MOERUN_ERR_FORMAT and a line that names the expert and the layer as number
 * `name` of `path`. Each expert then counts on the rank of its first replica,
 * and digest->expert is 0 again. */
moerun_status moerun__weights_digest_layer(moerun__weights_digest *digest,
                                           moerun_comm *comm,
                                           const moerun_placement *placement,
                                           int32_t layer, int32_t name,
                                           const char *path);

/* [collective] A rank that has read something else than rank 0 so far, of what
 * all read, fails with `code` and a line that begins with `what`; the caller
 * agrees on it. */
moerun_status moerun__weights_digest_compare(moerun_comm *comm,
                                             const moerun__weights_digest *mine,
                                             moerun_status code,
                                             const char *what);

/* [collective] *out = one number for what all ranks have read together, each
 * expert counted by one rank, and for `names`, the digest of all names and
 * shapes. A rank that read something else than rank 0 of what all read fails
 * with a line that names the checkpoint at `path`; the others
 * MOERUN_ERR_PEER. */
moerun_status moerun__weights_digest_agree(uint64_t *out, moerun_comm *comm,
                                           const moerun__weights_digest *mine,
                                           uint64_t names, const char *path);

#endif
