/* Recorded routing: which experts each token took in each MoE layer. Pure
 * memory; files are read and written by trace_file.c and trace_routed.c, and
 * trace_padding.c leaves out what is no routing. */
#ifndef MOERUN_TRACE_TRACE_H
#define MOERUN_TRACE_TRACE_H

#include "runtime/base/npy.h"
#include "runtime/base/output.h"
#include "runtime/base/status.h"
#include "runtime/base/text.h"

/* Ids are 16 bits. */
enum { MOERUN_TRACE_MAX_EXPERTS = 32767 };

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
  int32_t may_be_turned; /* 1: a file with fewer tokens than layers, and nothing
                            beside it that says so: layers may come first     */
  int32_t num_ranks;     /* R of the run that was recorded; 0: unknown */
  int32_t *home;         /* [num_sequences] rank each ran on; NULL: unknown */
} moerun__trace;

/* All of these sizes, one sequence, ids 0, no homes: to be filled in. */
moerun_status moerun__trace_create(moerun__trace **out, int64_t num_tokens,
                                   int32_t num_layers, int32_t num_experts,
                                   int32_t num_terms);
void moerun__trace_destroy(moerun__trace *trace);

/* Leaves out sequences without tokens, which show nothing. */
void moerun__trace_drop_empty(moerun__trace *trace);

/* sequence_offset[num_sequences + 1] is copied. */
moerun_status moerun__trace_set_sequences(moerun__trace *trace,
                                          int64_t num_sequences,
                                          const int64_t *sequence_offset);

/* E from the largest id. */
void moerun__trace_find_experts(moerun__trace *trace);

/* Every id is -1 or 0..E-1, distinct per (token, layer); every layer has one;
 * offsets ascending from 0 to N; homes 0..R-1. MOERUN_ERR_FORMAT names the
 * first token, layer and value that is not; `origin` starts the message. */
moerun_status moerun__trace_check(const moerun__trace *trace,
                                  const char *origin);
/* Of these, the offsets and homes alone. */
moerun_status moerun__trace_check_sequences(const moerun__trace *trace,
                                            const char *origin);

/* What is no routing goes: tokens and layers whose rows have no id, or one id
 * in all terms; 255 where it is -1 in an unsigned byte; ids of shared experts
 * beyond num_experts, which every row has; terms that are empty then; and
 * sequences without tokens. A line is logged for each kind but layers.
 * num_experts: what the file or the caller says; 0: unknown, and E follows the
 * largest id. Offsets are checked first, ids are not (moerun__trace_check).
 * ERR_FORMAT where nothing is left. */
moerun_status moerun__trace_leave_out_padding(moerun__trace *trace,
                                              int32_t num_experts,
                                              const char *origin);

/* What -1 became in integers without a sign that are wide enough to have no
 * such expert; -1: nothing, and those of a byte may have one. */
int64_t moerun__trace_unsigned_none(moerun__npy_type type);

/* The sequences number first, first + stride, … : (0, 2) for training, (1, 2)
 * held out. Splitting is by sequence, never by token. ERR_INVALID where the
 * trace has no sequence of number `first`. */
moerun_status moerun__trace_select(moerun__trace **out,
                                   const moerun__trace *trace, int64_t first,
                                   int64_t stride, const char *origin);

/* Tells traces apart: sizes, sequences and ids. */
uint64_t moerun__trace_digest(const moerun__trace *trace);

/* trace.npy with its sidecar (trace.json, or .seqs.tsv), or an .npy of other
 * tools: any integer type; 3-D [N][L][K], 2-D [N][L] as top-1, there also with
 * ids that count on from layer to layer (l * E + e, as ExFlow's); or .jsonl of
 * routed experts as SGLang and vLLM return them. num_experts: what the file
 * does not say; 0: largest id + 1. See placement/README.md. */
moerun_status moerun__trace_load(moerun__trace **out, const char *path,
                                 int32_t num_experts);
/* A line where it may be turned, for those who have no model to compare
 * with. */
void moerun__trace_warn_if_turned(const moerun__trace *trace, const char *path);
/* NAME.npy as int16 and NAME.json beside it, two of the outputs. */
moerun_status moerun__trace_save(const moerun__trace *trace,
                                 moerun__outputs *outputs, const char *path);

/* What stands beside an array whose N, L and K are in the trace already (and
 * E, where it was given; else 0): fills in the rest. */
moerun_status moerun__trace_parse_json(moerun__trace *trace, const char *text,
                                       size_t bytes, const char *origin);
moerun_status moerun__trace_parse_tsv(moerun__trace *trace, const char *text,
                                      size_t bytes, const char *origin);
/* Appends the .json of a trace, whose ids are not looked at. `more`: further
 * members that nothing here reads, each with ",\n" before it; or "". */
moerun_status moerun__trace_print_json(moerun__text *out,
                                       const moerun__trace *trace,
                                       const char *more);
/* The whole of a .jsonl. */
moerun_status moerun__trace_parse_routed(moerun__trace **out, const char *text,
                                         size_t bytes, const char *origin,
                                         int32_t num_experts);

#endif
