/* Recorded routing: which experts each token took in each MoE layer. Pure
 * memory; files are read by trace_file.c. */
#ifndef MOERUN_PLACEMENT_TRACE_H
#define MOERUN_PLACEMENT_TRACE_H

#include "runtime/base/status.h"

/* Letters: N tokens, L MoE layers here (not slots), E experts, K terms. */
typedef struct moerun__trace {
  char *model;         /* "" if unknown */
  int64_t num_tokens;  /* N */
  int32_t num_layers;  /* L */
  int32_t num_experts; /* E */
  int32_t num_terms;   /* K */
  int32_t gate_order;  /* 1: term 0 is the largest weight; 0: no known order */
  int16_t *ids;        /* [N][L][K] expert or -1 for none, distinct per token
                         and layer                                          */
  int64_t num_sequences;
  int64_t *sequence_offset; /* [num_sequences + 1] first token of each */
} moerun__trace;

/* Every id is -1 or 0..E-1, distinct per (token, layer), offsets ascending;
 * MOERUN_ERR_FORMAT names the first token, layer and value that is not. */
moerun_status moerun__trace_check(const moerun__trace *trace,
                                  const char *origin);
/* The sequences number first, first + stride, … : (0, 2) for training, (1, 2)
 * held out. Splitting is by sequence, never by token. */
moerun_status moerun__trace_select(moerun__trace **out,
                                   const moerun__trace *trace, int64_t first,
                                   int64_t stride);
void moerun__trace_destroy(moerun__trace *trace);

/* trace.npy with its sidecar (trace.json, or .seqs.tsv), or an .npy of other
 * tools: u8, u16, i16, i32; 3-D [N][L][K], 2-D [N][L] as top-1. num_experts:
 * what the sidecar does not say; 0: largest id + 1. See placement/README.md. */
moerun_status moerun__trace_load(moerun__trace **out, const char *path,
                                 int32_t num_experts);

#endif
