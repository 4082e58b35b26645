/* What a kind of attention computes (model/attention.h has what it reads from
 * the files). The decoder norms the rows, calls the kind, and adds what comes
 * back: projections, norms of heads, rotation, windows, and what lies in the
 * cache are the kind's alone. A kind is one file that fills a
 * moerun__attention_kind and these functions. All are local. */
#ifndef MOERUN_DECODER_ATTENTION_H
#define MOERUN_DECODER_ATTENTION_H

#include "runtime/base/arena.h"
#include "runtime/decoder/batch.h"
#include "runtime/decoder/broken.h"
#include "runtime/decoder/kv_cache.h"
#include "runtime/model/attention.h"

/* What a kind knows of the session. */
typedef struct moerun__attention_setting {
  const moerun__model_config *config; /* borrowed, as all here */
  const moerun__kernels *kernels;
  moerun__queue *queue;
  int32_t max_tokens;    /* most rows of a step */
  int32_t max_positions; /* most positions of a sequence, in whole pages */
} moerun__attention_setting;

/* One layer of a step. */
typedef struct moerun__attention_call {
  const moerun_batch *batch;              /* whose positions have their pages */
  int32_t layer;                          /* of the cache */
  const moerun__attention_weight *weight; /* by part of the kind */
  moerun__kv_cache *cache;
  float *rows; /* [T][H] normed; what is to be added to the residual
                                stream takes their place */
  moerun__broken_rows noted; /* to tell of rows that lose their numbers */
  float *scratch;            /* as many floats as `scratch_floats` says */
} moerun__attention_call;

typedef struct moerun__attention_ops {
  /* Counts the kind's buffers into the arenas when their bases are NULL, and
   * returns NULL; else hands them out, fills what never changes, and returns
   * what the other functions get as `work`. */
  void *(*lay_out)(const moerun__attention_setting *setting,
                   moerun__arenas *arenas);
  /* Floats of scratch for a call, those of `linear` included. */
  size_t (*scratch_floats)(const moerun__attention_setting *setting);
  /* Before the first layer of each step: what all layers share. */
  void (*begin)(void *work, const moerun_batch *batch);
  /* Stores the rows' positions in the cache and attends. */
  void (*forward)(void *work, const moerun__attention_call *call);
} moerun__attention_ops;

#endif
