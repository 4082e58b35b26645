/* Tells weights from others of the same names and shapes: a number for all bytes
 * that a model is loaded from, the same whatever the number of ranks and the
 * placement, and whether the ranks read the same ones. No defence against
 * intent. */
#ifndef MOERUN_MODEL_WEIGHTS_DIGEST_H
#define MOERUN_MODEL_WEIGHTS_DIGEST_H

#include "comm/comm.h"

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
} moerun__weights_digest;

/* Adds the bytes of a tensor from `offset` on. A range counts with its place, so
 * that ranges may come in any order, but the same bytes cut into other ranges
 * give another sum. */
void moerun__digest_piece(uint64_t *sum, const char *tensor, int64_t offset,
                          const void *bytes, size_t count);

/* [collective] *out = one number for what all ranks have read together, each
 * expert counted by one rank, and for `names`, the digest of all names and
 * shapes. A rank that read something else than rank 0 of what all read fails
 * with a line that names the checkpoint at `path`; the others MOERUN_ERR_PEER. */
moerun_status moerun__weights_digest_agree(uint64_t *out, moerun_comm *comm,
                                           const moerun__weights_digest *mine,
                                           uint64_t names, const char *path);

#endif
