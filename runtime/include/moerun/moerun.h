/* moerun.h - expert-parallel Mixture-of-Experts inference.
 *
 * Letters used in every comment, message and benchmark column:
 *   R  ranks                          E  experts of one layer (global ids)
 *   T  token rows of this rank        L  expert slots hosted by this rank
 *   K  experts per token (top-k)      V  vocabulary size
 *   H  hidden width                   F  expert FFN width
 * Arrays are row-major: x[T][H] is T rows of H contiguous elements.
 * Sizes named *_bytes are bytes; every other count is in elements or rows.
 * [collective] functions are called by all R ranks in the same order and fail
 * on all or none (healthy ranks with ERR_PEER); every other function is local.
 *
 * A struct that may grow begins with struct_size, which whoever makes one sets:
 *   moerun_counters counters = {.struct_size = sizeof counters};
 * moerun then reads, or fills, the members that both know. In a struct that it
 * reads, 0 means the default written beside the member. What a call reads may
 * be NULL only where it says so, and is refused otherwise; objects, and where
 * results go, are not checked. Where a call fails, *out is NULL; but for
 * ERR_TIMEOUT and ERR_COMM the objects that it was given may be used on.
 *
 * Threads. A call works, and calls MPI, on the thread that makes it alone:
 * MPI_THREAD_FUNNELED is enough for the main thread, SERIALIZED for others. A
 * comm, its models and their sessions are used by one thread at a time; with
 * MPI_THREAD_MULTIPLE others may use other comms, or MPI, meanwhile. Placements
 * never change and may be read by all threads. Errors are kept by thread. */
#ifndef MOERUN_MOERUN_H
#define MOERUN_MOERUN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MOERUN_VERSION_MAJOR 0
#define MOERUN_VERSION_MINOR 1
#define MOERUN_VERSION_PATCH 0

#if defined(__GNUC__)
#define MOERUN_API        __attribute__((visibility("default")))
#define MOERUN_MUST_CHECK __attribute__((warn_unused_result))
#else
#define MOERUN_API
#define MOERUN_MUST_CHECK
#endif

/* ---- Status ------------------------------------------------------------- */

#define MOERUN_ERROR_MAP(X)                                                    \
  X(ERR_INVALID, -1, "invalid argument")                                       \
  X(ERR_SHAPE, -2, "shapes do not agree")                                      \
  X(ERR_NOMEM, -3, "out of memory")                                            \
  X(ERR_IO, -4, "file could not be read")                                      \
  X(ERR_FORMAT, -5, "file contents are not valid")                             \
  X(ERR_COMM, -6, "communication failed")                                      \
  X(ERR_TIMEOUT, -7, "another rank did not answer in time")                    \
  X(ERR_OVERFLOW, -8, "more rows than the session was sized for")              \
  X(ERR_UNSUPPORTED, -9, "not supported")                                      \
  X(ERR_PEER, -10, "another rank reported an error")                           \
  X(ERR_INFEASIBLE, -11, "no placement satisfies the constraints")             \
  X(ERR_STOPPED, -12, "stopped before it was done")                            \
  X(ERR_OUTPUT, -13, "file could not be written")
#define MOERUN_STATUS_MAP(X) X(OK, 0, "success") MOERUN_ERROR_MAP(X)

typedef enum moerun_status {
  MOERUN_OK = 0
#define MOERUN_STATUS_ENUM(name, value, text) , MOERUN_##name = (value)
  MOERUN_ERROR_MAP(MOERUN_STATUS_ENUM)
#undef MOERUN_STATUS_ENUM
} moerun_status;

/* Never NULL. */
MOERUN_API const char *moerun_status_string(moerun_status status);

/* What failed last on this thread, in a line that the next failure replaces. */
MOERUN_API const char *moerun_last_error(void);

/* ---- Objects: opaque, each freed by its _destroy, which accepts NULL ----- */

typedef struct moerun_comm moerun_comm;           /* the ranks, one transport */
typedef struct moerun_placement moerun_placement; /* replica -> (rank, slot)  */
typedef struct moerun_model moerun_model;         /* this rank's weights      */
typedef struct moerun_session moerun_session;     /* buffers reused by steps  */

/* One rank, no MPI. moerun_mpi.h has moerun_comm_create_mpi(MPI_Comm). */
MOERUN_MUST_CHECK MOERUN_API moerun_status
moerun_comm_create_self(moerun_comm **out);
MOERUN_API int32_t moerun_comm_rank(const moerun_comm *comm);
MOERUN_API int32_t moerun_comm_size(const moerun_comm *comm);
MOERUN_API void moerun_comm_destroy(moerun_comm *comm); /* [collective] */

/* ---- Placement: pure, no communication ----------------------------------- */

/* Blocks: expert e on rank e * R / E (a rank may host none). */
MOERUN_MUST_CHECK MOERUN_API moerun_status
moerun_placement_create_block(moerun_placement **out, int32_t num_layers,
                              int32_t num_experts, int32_t num_ranks);

/* rank_of_expert[num_layers][E], each 0..R-1; copied. Slots are given out in
 * ascending expert order on each rank. */
MOERUN_MUST_CHECK MOERUN_API moerun_status moerun_placement_create(
    moerun_placement **out, int32_t num_layers, int32_t num_experts,
    int32_t num_ranks, const int32_t *rank_of_expert);

/* The JSON file that placement/README.md describes; may hold replicas. */
MOERUN_MUST_CHECK MOERUN_API moerun_status
moerun_placement_load(moerun_placement **out, const char *path);
MOERUN_MUST_CHECK MOERUN_API moerun_status
moerun_placement_save(const moerun_placement *placement, const char *path);
MOERUN_API void moerun_placement_destroy(moerun_placement *placement);
/* Its sizes, and the slot of an expert on a rank; -1: it is not there. */
MOERUN_API int32_t moerun_placement_num_layers(const moerun_placement *of);
MOERUN_API int32_t moerun_placement_num_experts(const moerun_placement *of);
MOERUN_API int32_t moerun_placement_num_ranks(const moerun_placement *of);
MOERUN_API int32_t moerun_placement_slot(const moerun_placement *of,
                                         int32_t layer, int32_t expert,
                                         int32_t rank);

/* The routing of all ranks, known in one of three ways, and what is wanted. */
typedef struct moerun_placement_problem {
  size_t struct_size;
  const char *trace_path; /* as `moerun profile` writes it; or               */
  const int32_t *ids;     /* [num_tokens][num_layers][K] expert or -1; or    */
  const int64_t *counts;  /* [num_layers][E] rows, 2^53 a layer: loads alone */
  int64_t num_tokens;
  int32_t num_layers; /* MoE layers; a file says it itself, as what follows  */
  int32_t num_experts;
  int32_t experts_per_token;
  int32_t num_ranks;     /* on one node; or                                  */
  const char *topology;  /* such as "2 nodes x 4 ranks"                      */
  const char *method;    /* NULL: "cd", of counts "eplb"                      */
  const char *objective; /* NULL: "fanout"; not of counts                    */
  int32_t spare_slots;   /* experts of a layer on a rank beyond E / R        */
  double slack;          /* load of a rank beyond its share; 0: 0.05         */
  double seconds; /* 0: no limit; "exact" and "topo" fail after it           */
  uint64_t seed;
} moerun_placement_problem;

/* placement/README.md has the methods and objectives. The same problem without
 * a limit of time has the same solution on all ranks. */
MOERUN_MUST_CHECK MOERUN_API moerun_status moerun_placement_solve(
    moerun_placement **out, const moerun_placement_problem *problem);

/* ---- Model --------------------------------------------------------------- */

typedef struct moerun_model_options {
  size_t struct_size;
  int32_t moe_only; /* 1: gates and experts alone, no decoder               */
} moerun_model_options;

/* What config.json says, in the letters above. */
typedef struct moerun_model_shape {
  size_t struct_size;
  int32_t num_layers;
  int32_t num_moe_layers;
  int32_t num_experts;       /* E */
  int32_t experts_per_token; /* K */
  int32_t hidden_width;      /* H */
  int32_t expert_width;      /* F */
  int32_t vocab_size;        /* V */
  int32_t max_positions;     /* longest context the model was made for */
} moerun_model_shape;

/* Reads path/config.json only. */
MOERUN_MUST_CHECK MOERUN_API moerun_status
moerun_model_shape_load(moerun_model_shape *out, const char *path);

/* [collective] Reads from the Hugging Face directory `path` the non-expert
 * weights and those experts that the placement puts on this rank. options may
 * be NULL. comm and placement are borrowed and must outlive the model. */
MOERUN_MUST_CHECK MOERUN_API moerun_status moerun_model_load(
    moerun_model **out, moerun_comm *comm, const moerun_placement *placement,
    const char *path, const moerun_model_options *options);

/* An expert, down(silu(gate x) * (up x)): arrays aligned to their elements. */
typedef struct moerun_expert_arrays {
  const void *gate; /* [F][H] */
  const void *up;   /* [F][H] */
  const void *down; /* [H][F] */
} moerun_expert_arrays;

/* MoE layers alone, their weights in the caller's memory: moerun asks for each
 * expert that the placement puts on this rank (on all of them the same numbers)
 * and copies it before it asks for the next, so they may be made on the way. */
typedef struct moerun_model_source {
  size_t struct_size;
  int32_t num_moe_layers;
  int32_t num_experts;       /* E */
  int32_t experts_per_token; /* K */
  int32_t hidden_width;      /* H */
  int32_t expert_width;      /* F */
  const char *dtype;         /* "F32", "BF16" or "F16"; NULL: "F32"          */
  moerun_status (*load_expert)(void *context, int32_t layer, int32_t expert,
                               moerun_expert_arrays *arrays);
  void *context;          /* for both functions                           */
  const char *gate_dtype; /* of the gate; NULL: "F32"                     */
  int32_t renormalise;    /* 1: a row's K weights of the gate add up to 1 */
  /* rows[E][H]; NULL: no gates, for moerun_moe_forward_routed. */
  moerun_status (*load_gate)(void *context, int32_t layer, const void **rows);
} moerun_model_source;

/* [collective] If a function fails on any rank it ends. Layers count from 0,
 * and ranks wait for each: time in functions counts for timeout_s. */
MOERUN_MUST_CHECK MOERUN_API moerun_status moerun_model_create(
    moerun_model **out, moerun_comm *comm, const moerun_placement *placement,
    const moerun_model_source *source);
MOERUN_API void moerun_model_destroy(moerun_model *model);

/* ---- Session, step ------------------------------------------------------- */

typedef enum moerun_wire {
  MOERUN_WIRE_FP32 = 0, /* rows travel as they are                          */
  MOERUN_WIRE_BF16      /* half the bytes; local rows are rounded alike     */
} moerun_wire;

typedef enum moerun_compute {
  MOERUN_COMPUTE_FP32 = 0, /* activations are multiplied as they are        */
  MOERUN_COMPUTE_BF16      /* rounded to BF16 first; sums stay fp32         */
} moerun_compute;

typedef enum moerun_balance {
  MOERUN_BALANCE_AUTO = 0, /* slow or busy ranks give rows, with weights where
                              it pays, to others: the same bits             */
  MOERUN_BALANCE_OFF,      /* every row is computed where its expert is     */
  MOERUN_BALANCE_SLICED    /* all ranks compute a part of each: the same bits */
} moerun_balance;

typedef struct moerun_session_options {
  size_t struct_size;
  int32_t max_tokens;    /* largest T of any step on any rank; required       */
  int32_t max_sequences; /* sequences with a KV cache here; 0: none           */
  int32_t kv_tokens; /* KV positions here; 0: max_sequences * max_positions */
  moerun_wire wire;
  moerun_compute compute;
  int32_t chunks; /* parts of a step in flight at once, 1..8; 0: 1     */
  moerun_balance balance;
  int64_t guest_bytes; /* here, for experts that balancing brings; 0: what a
                          quarter of the ranks need if slow; below 0: none   */
  int64_t slice_bytes; /* here, for slices of all experts of as many layers as
                          fit; below 0: of all; 0: none, but all where SLICED.
                          Slices want F to be a multiple of 32               */
} moerun_session_options;

/* What moerun_session_create takes on this rank; 0: no such session can be. */
MOERUN_API size_t moerun_session_bytes(const moerun_model *model,
                                       const moerun_session_options *options);

/* [collective] The model is borrowed; all ranks give the same options. */
MOERUN_MUST_CHECK MOERUN_API moerun_status
moerun_session_create(moerun_session **out, const moerun_model *model,
                      const moerun_session_options *options);
MOERUN_API void moerun_session_destroy(moerun_session *session);

/* [collective] One layer with experts, counted among all layers: y[T][H] =
 * MoE(x[T][H]) without the residual, both the caller's and apart. T may differ
 * per rank and may be 0; nothing is allocated. K terms are summed at home in
 * gate order, shared experts last: the same bits for every placement and R. */
MOERUN_MUST_CHECK MOERUN_API moerun_status
moerun_moe_forward(moerun_session *session, int32_t layer, int32_t num_tokens,
                   const float *x, float *y);

/* [collective] The same by the caller's own gate: ids[T][K], in a row distinct
 * experts or -1 for none (all of it: y is 0), and weights[T][K], finite, not
 * read beside -1. Terms are summed in this order; what the model's gate chose
 * gives its bits. A bad id or weight on one rank fails on all. */
MOERUN_MUST_CHECK MOERUN_API moerun_status moerun_moe_forward_routed(
    moerun_session *session, int32_t layer, int32_t num_tokens, const float *x,
    const int32_t *ids, const float *weights, float *y);

/* Rows of one step: a sequence's together, in ascending position from where its
 * cache ends; position 0 starts it afresh. */
typedef struct moerun_batch {
  int32_t num_tokens;       /* T, 0..max_tokens                              */
  const int32_t *token;     /* [T] token id, 0..V-1                          */
  const int32_t *sequence;  /* [T] 0..max_sequences-1                        */
  const int32_t *position;  /* [T]                                           */
  int32_t num_logits;       /* rows whose logits are wanted                  */
  const int32_t *logit_row; /* [num_logits] ascending indices into 0..T-1    */
} moerun_batch;

/* [collective] The whole decoder for this rank's rows, T = 0 included, to the
 * caller's logits[num_logits][V]. Allocates nothing. After an error sequences
 * end where they did before it; those that it began may be empty instead. */
MOERUN_MUST_CHECK MOERUN_API moerun_status moerun_forward(
    moerun_session *session, const moerun_batch *batch, float *logits);

enum { MOERUN_MAX_STAGES = 32 };
/* What a session did on this rank, summed over steps and MoE layers. */
typedef struct moerun_counters {
  size_t struct_size;
  int64_t steps;       /* calls of moerun_forward and moerun_moe_forward*    */
  int64_t home_rows;   /* own rows                                           */
  int64_t rows_local;  /* copies of them that stayed here                    */
  int64_t rows_out;    /* copies that went to other ranks                    */
  int64_t rows_in;     /* copies that came from other ranks                  */
  int64_t results_out; /* result rows, or slices of them, that went home     */
  int64_t expert_rows; /* rows that were put through experts here            */
  int64_t rows_moved;  /* of experts here, which balancing gave to others    */
  int64_t weights_out; /* experts whose weights went along with them         */
  int64_t messages;    /* of rows and results, to other ranks                */
  int64_t row_bytes;   /* in these messages                                  */
  int64_t other_bytes; /* of counts, weights and everything else             */
  const int64_t *rows_of_expert; /* [num_moe_layers][E], borrowed            */
  double seconds[MOERUN_MAX_STAGES]; /* by moerun_stage_name */
} moerun_counters;

MOERUN_MUST_CHECK MOERUN_API moerun_status moerun_session_counters(
    const moerun_session *session, moerun_counters *counters);
/* "gate", "dispatch", "experts", …; NULL beyond the last. */
MOERUN_API const char *moerun_stage_name(int32_t stage);

/* Gives a sequence's cache pages back. */
MOERUN_MUST_CHECK MOERUN_API moerun_status
moerun_sequence_reset(moerun_session *session, int32_t sequence);

#ifdef __cplusplus
}
#endif
#endif /* MOERUN_MOERUN_H */
