/* A session: every buffer a step needs, made once. */
#ifndef MOERUN_DECODER_SESSION_H
#define MOERUN_DECODER_SESSION_H

#include "runtime/decoder/attention.h"
#include "runtime/model/model.h"
#include "runtime/moe/moe.h"
#include "runtime/report/counters.h"

/* What rows are multiplied by. */
typedef enum moerun__row_scale {
  MOERUN_SCALE_EMBEDDING = 0,
  MOERUN_SCALE_RESIDUAL, /* what a block adds */
  MOERUN_SCALE_HEAD,     /* what the head reads */
  MOERUN_SCALES,
} moerun__row_scale;

struct moerun_session {
  const moerun_model *model; /* borrowed */
  const moerun__kernels *kernels;
  const moerun__device *device;   /* borrowed */
  moerun__queue queue;            /* of it; rounds as options.compute says */
  moerun_session_options options; /* with the defaults filled in */
  moerun__arenas memory;          /* all buffers below, but for the cache */
  moerun__moe moe;
  moerun__kv_sizes kv;         /* of the cache */
  moerun__kv_cache *cache;     /* borrowed, or own_cache; NULL: moe_only */
  moerun__kv_cache *own_cache; /* NULL: the caller's is used */
  moerun__stats stats;
  moerun__comm_count count_before; /* what the comm had sent by then */
  int32_t records_trace;           /* 1: there is a trace */
  int16_t *trace;  /* [max_tokens][num_moe_layers][terms] ids of the last
                            step; NULL without                              */
  int32_t *broken; /* [T] MOERUN_BROKEN_… of the last step's rows */
  float *x;        /* [T][H] the residual stream; for kernels alone, as all
                            floats here are */
  float *h;        /* [T][H] normed input of a block, or its output */
  float *y;        /* [T][H] output of the MoE layer */
  float *scales; /* [MOERUN_SCALES][T] factors, the same of all rows; NULL: the
                          model has none                                    */
  float *dense;  /* [tile] outputs of gate_up, then h; dense layers only */
  void *attention; /* what the kind of attention works in */
  char *seen;      /* [max_sequences] scratch of the batch check */
  float *scratch;  /* for linear and attention */
};

/* The memory of a session's steps, its cache excepted, taken before there is a
 * model. */
typedef struct moerun__reserve {
  moerun__arenas memory; /* bases NULL: none, or a session has taken it */
  const moerun__device *device; /* borrowed: `host` and `device` are its */
  moerun_comm *comm;            /* borrowed: `traffic` and `rows` are its */
  moerun__memory rows;          /* whose memory `rows` is                */
} moerun__reserve;

/* What no session took; before the comm goes. */
void moerun__reserve_clear(moerun__reserve *reserve);

/* Settings that the command has and the public options do not, and what only
 * those give who make a session in C beside the library: `device` with its
 * `kernels`, `tier` and `ways`, for which there is no option. */
typedef struct moerun__session_extra {
  const moerun__device *device;   /* borrowed; NULL: the host */
  const moerun__kernels *kernels; /* of it; NULL: the host's fastest here */
  int32_t record_trace;
  int32_t max_positions;    /* of a sequence; 0: the model's */
  moerun__kv_cache *cache;  /* borrowed, with what is in it: the sizes of the
                               options and max_positions are the cache's own
                               then; NULL: the session has one of its own     */
  moerun__reserve *reserve; /* that the session may take; NULL: none */
  int32_t max_slots;        /* room for so many experts of a layer here, for
                        placements to come; less than the present: those   */
  const moerun__plan_options *plan; /* when balancing pays; NULL: measured,
                                       but for the two below                 */
  int32_t threshold; /* as in moerun__plan_options; 0: its default */
  int32_t min_rows;  /* 0: measured */
  const moerun__slice_costs *slice_costs; /* for `plan`; NULL: zeros */
  const moerun__faults *faults;           /* borrowed; NULL: none */
  const moerun__expert_shape *expert; /* the largest of the model, which guests
                                         have room for unless guest_bytes says
                                         how much; NULL: one in fp32          */
  const moerun__tier *tier;      /* of experts, asked before all others; self is
                               borrowed; NULL: none                          */
  moerun__gate_options gate;     /* lossy; zeros: off */
  const moerun__way_table *ways; /* that a layer may go, borrowed; NULL:
                                    moerun__ways_known                        */
} moerun__session_extra;

/* A cache with room for what the options and extra ask: the one that a session
 * would have of its own. */
moerun_status moerun__session_cache_create(
    moerun__kv_cache **out, const moerun__model_config *config,
    const moerun_session_options *options, const moerun__session_extra *extra);

/* [collective] moerun_session_create with what the command has beyond; extra
 * may be NULL. ERR_SHAPE if the cache given is not one for this model. */
moerun_status moerun__session_create_with(moerun_session **out,
                                          const moerun_model *model,
                                          const moerun_session_options *options,
                                          const moerun__session_extra *extra);

/* Takes the memory that a session of `model` will need, of which config,
 * placement, comm and moe_only are enough; *out is zeroed before and cleared
 * after, also after a failure. */
moerun_status moerun__session_reserve(moerun__reserve *out,
                                      const moerun_model *model,
                                      const moerun_session_options *options,
                                      const moerun__session_extra *extra);

/* What a session takes of the host's memory and, where its device has a memory
 * of its own, of that. On the processor all is the host's. */
typedef struct moerun__session_size {
  size_t host_bytes;
  size_t device_bytes;
  size_t cache_bytes; /* keys and values, of the host's */
} moerun__session_size;

/* The size of a session of `model`, whose weights need not be loaded: config,
 * placement, comm and moe_only are enough. *out gets its sizes but no buffers:
 * enough for moerun__kv_bytes and moerun__engine_bytes. A cache of the
 * session's own counts. */
moerun__session_size
moerun__session_predict(moerun_session *out, const moerun_model *model,
                        const moerun_session_options *options,
                        const moerun__session_extra *extra);
/* All bytes together. */
size_t moerun__session_bytes_with(const moerun_model *model,
                                  const moerun_session_options *options,
                                  const moerun__session_extra *extra);

/* [collective] moerun_forward for rows of which a capacity is to know more than
 * a batch says; tags: NULL: their sequences are requests. */
moerun_status moerun__session_forward(moerun_session *session,
                                      const moerun_batch *batch,
                                      const moerun__row_tags *tags,
                                      float *logits);

/* The statistics of a session; borrowed. */
moerun__stats *moerun__session_stats(moerun_session *session);
/* What the comm has sent since the session was made or reset: all that goes
 * over it, and not what it took to make the session. */
static inline moerun__comm_count
moerun__session_sent(const moerun_session *session) {
  return moerun__comm_count_since(&session->model->comm->count,
                                  &session->count_before);
}
/* Everything back to zero (after a warm-up); what the comm has counted by then
 * no longer counts as the session's. */
void moerun__session_stats_reset(moerun_session *session);

#endif
