/* Random checkpoints in Hugging Face layout, of any size, for scaling runs and
 * tests. The same options give the same bytes on every machine. */
#ifndef MOERUN_MODEL_SYNTH_H
#define MOERUN_MODEL_SYNTH_H

#include "runtime/base/byte_watch.h"
#include "runtime/base/dtype.h"
#include "runtime/base/status.h"
#include "runtime/model/arch.h"

typedef struct moerun__synth_heads {
  int32_t num_heads;
  int32_t num_kv_heads; /* 0: num_heads                                      */
  int32_t head_dim;     /* 0: hidden_width / num_heads                       */
} moerun__synth_heads;

typedef struct moerun__synth_files {
  int64_t shard_bytes; /* most tensor bytes of one file; 0: 5 * 10^9         */
  int32_t
      overwrite; /* replace an existing folder, if synth could have made it */
  const moerun__byte_watch *watch; /* of the weights; or NULL */
} moerun__synth_files;

typedef struct moerun__synth_options {
  const char *path; /* folder to create                        */
  const char *arch; /* "qwen3_moe", … : a row of arch_rows.c   */
  uint64_t seed;
  moerun__dtype dtype;
  double skew;   /* >= 0; see synth.c. 0: experts equally popular      */
  int32_t fused; /* 1: experts in the fused layout of arch.h           */
  int32_t num_layers;
  int32_t num_dense;   /* the first of them without experts; only where the
                          architecture has such layers                       */
  int32_t dense_width; /* of those; 0: experts_per_token * expert_width      */
  int32_t hidden_width;
  moerun__synth_heads heads;
  int32_t num_experts;
  int32_t num_home[MOERUN_HOME_KINDS]; /* null, zero, copy, constant experts */
  int32_t experts_per_token;
  int32_t expert_width;
  int32_t shared_experts; /* width of the shared experts, in expert widths;
                             only where the architecture has some. 0: 1      */
  int32_t vocab_size;     /* from 258 on with a byte-level tokenizer.json     */
  int32_t max_positions;  /* 0: 4096                                          */
  int32_t tied_head;
  moerun__synth_files files;
} moerun__synth_options;

/* Writes a folder beside `path` and renames it, so that `path` is whole or
 * absent. Takes
 * about a MiB of memory, and some more per thousand tensors. Sizes are checked
 * as those of a config.json are, and messages name its keys. */
moerun_status moerun__synth_write(const moerun__synth_options *options);

#endif
