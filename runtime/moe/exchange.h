/* Rows of a layer on their way to experts, and their results on the way home:
 * their memory, and the ways that there are. All messages with rows of a way are
 * in the file of the way. */
#ifndef MOERUN_MOE_EXCHANGE_H
#define MOERUN_MOE_EXCHANGE_H

#include "comm/comm.h"
#include "kernels/kernels.h"
#include "runtime/base/arena.h"
#include "runtime/model/arch.h"
#include "runtime/plan/route.h"

enum { MOERUN_MAX_CHUNKS = 8 };

/* The rows of a step are cut into chunks so that one chunk's rows travel while
 * another's are computed. Each chunk has buffers of its own. */
typedef struct moerun__moe_chunk {
  int32_t first_token;
  int32_t num_tokens;
  moerun__route route;
  /* [chunk_tokens own, as they are sent | received][row_bytes]: own rows at
   * the token's number, if they go anywhere; their slots are in the route. */
  char *rows;
  char *results;           /* [T * K home | for others][result_bytes] */
  int32_t *receive_offset; /* [R + 1] rows from each rank behind the own; own
                              rank's are not received                         */
  int32_t *reply_offset;   /* [R + 1] result rows for each rank               */
  moerun__transfer *dispatch; /* rows to experts */
  moerun__transfer *combine;  /* results home    */
} moerun__moe_chunk;

/* Rows that are here to be computed: those from peers first .. last - 1. */
typedef struct moerun__wave {
  int32_t chunk;
  int32_t first;
  int32_t last;
} moerun__wave;

typedef struct moerun__exchange {
  moerun__moe_chunk chunk[MOERUN_MAX_CHUNKS];
  moerun__wave wave;
  int32_t *count_out; /* [R][chunks] rows of each chunk for each rank */
  int32_t *count_in;  /* [R][chunks] and from each */
  int32_t *scratch;   /* to tell and hear these, and the news of moe/agree.c */
  size_t room;        /* words of a message that it is for */
} moerun__exchange;

typedef struct moerun__moe moerun__moe;

/* A way for the rows of a layer, called in this order; ranks take part in all of
 * it together, and all in the same way. A new one is a file that fills this, its
 * name below, a row among the ways of moe.c, and the expert stage that computes
 * what its waves bring, which the row names: experts.c and sliced.c have those
 * that there are. */
typedef struct moerun__exchange_ops {
  const char *name;
  /* Begins to send the rows x[T][H], as agreed, and to receive. x stays until
   * finish. */
  moerun_status (*begin)(moerun__moe *moe, const float *x);
  /* Until the next rows are here to be computed; *more = 0: there are none any
   * more. */
  moerun_status (*next_wave)(moerun__moe *moe, const float *x, int *more);
  /* Sends the results of these rows home. */
  moerun_status (*reply)(moerun__moe *moe);
  /* Until all results of chunk c are home, in the chunk. */
  moerun_status (*collect)(moerun__moe *moe, int32_t c);
  /* Until chunk c's buffers are free for the next layer. */
  moerun_status (*finish)(moerun__moe *moe, int32_t c);
} moerun__exchange_ops;

extern const moerun__exchange_ops moerun__exchange_whole;
extern const moerun__exchange_ops moerun__exchange_sliced;

/* The elements of a row, and the slots of `width` terms behind them. */
size_t moerun__elements_bytes(const moerun__model_config *config,
                              moerun__dtype wire);
size_t moerun__slots_bytes(int32_t width);
/* What a copy of a token's row and what a result row take on the wire, and a row
 * with the slots of `width` terms. */
size_t moerun__copy_bytes(const moerun__model_config *config,
                          moerun__dtype wire);
size_t moerun__result_bytes(const moerun__model_config *config,
                            moerun__dtype wire);
size_t moerun__row_bytes(const moerun__model_config *config, moerun__dtype wire,
                         int32_t width);

/* The buffers of the chunks, those with rows in `traffic`; moe->shape is
 * complete. */
void moerun__exchange_lay_out(moerun__moe *moe, moerun__arena *arena,
                              moerun__arena *traffic);
/* Bytes of what moerun__exchange_create creates. */
size_t moerun__exchange_bytes(const moerun__moe *moe);
moerun_status moerun__exchange_create(moerun__moe *moe);
void moerun__exchange_destroy(moerun__moe *moe);

/* Messages move only when the transport is called: now and then during long
 * work. */
moerun_status moerun__exchange_progress(moerun__moe *moe);

#endif
