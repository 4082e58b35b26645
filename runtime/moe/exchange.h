/* Rows of a layer on their way to experts, and their results on the way home:
 * their memory, and the exchanges that there are. All messages of an exchange
 * are in its file. */
#ifndef MOERUN_MOE_EXCHANGE_H
#define MOERUN_MOE_EXCHANGE_H

#include "comm/comm.h"
#include "kernels/kernels.h"
#include "runtime/base/arena.h"
#include "runtime/moe/call.h"
#include "runtime/plan/route.h"

enum { MOERUN_MAX_CHUNKS = 8 };

/* The rows of a step are cut into chunks so that one chunk's rows travel while
 * another's are computed. Each chunk has buffers of its own. */
typedef struct moerun__moe_chunk {
  int32_t first_token;
  int32_t num_tokens;
  moerun__route route;
  /* [chunk_tokens own, as they are sent | received][row_bytes]: own rows at
   * the token's number, if they go anywhere; their slots are in the route. In
   * memory as moe->shape has it, like the results. */
  char *rows;
  char *results;           /* [T * W home | for others][result_bytes] */
  int32_t *receive_offset; /* [R + 1] rows from each rank behind the own; own
                              rank's are not received                         */
  int32_t *reply_offset;   /* [R + 1] result rows for each rank of a wave     */
  moerun__transfer *dispatch; /* rows to experts */
  moerun__transfer *combine;  /* results home    */
} moerun__moe_chunk;

/* The rows of a wave that come from one rank, own ones included. */
typedef struct moerun__wave_part {
  int32_t peer;
  int32_t first_row; /* number of the first among the wave's rows */
  int32_t count;
  /* The host's. The W slots, of 16 bits, that row i wants begin at slots + i *
   * stride_bytes; with `copy` at slots + copy[i] * stride_bytes, and copy[i] =
   * -1: none. */
  const char *slots;
  size_t stride_bytes;
  const int32_t *copy;
  /* Own results of whole experts are home at once: the exchange says from
   * which number on. The expert stage numbers all others, and says how many
   * there are. */
  int32_t first_result;
  int32_t num_results;
} moerun__wave_part;

/* Rows that are here to be computed. The exchange says where they and their
 * results lie, and the expert stage knows no more of it than this. */
typedef struct moerun__wave {
  int32_t chunk;
  char *rows;          /* [..][row_bytes] */
  char *results;       /* [..][result_bytes] */
  size_t result_bytes; /* of a result, or of what is computed of it here */
  /* Number of the first result for others: they follow one another from there
   * on, by part, row and place in gate order. */
  int32_t first_reply;
  moerun__wave_part *part; /* [num_parts], room for all ranks */
  int32_t num_parts;
  int32_t next_peer; /* of the chunk: where the next wave begins */
} moerun__wave;

typedef struct moerun__moe moerun__moe;

/* How the rows of a layer travel, called in this order; ranks take part in all
 * of it together, and all in the same way. A new one is a file that fills this,
 * its name below and a row of moe/way.h that has it. If its waves bring rows
 * for whole experts, as moerun__wave has them, experts.c computes them; else
 * the row has an expert stage of its own, as slices do. Each exchange that it
 * begins has both directions, and, as comm/comm.h has it, no waves where the
 * transport begins at once. */
typedef struct moerun__exchange_ops {
  /* An exchange counts what it sends and receives: rows_local, rows_out,
   * rows_in, results_out and waves of report/counters.h. */

  /* Beside the chunks, which every way has: what it keeps of a session, and
   * buffers of its own; moe->shape is complete, and the store laid out. Returns
   * what its operations find as moe->exchange.work; NULL while the bases are
   * NULL, when it only counts. NULL member: nothing. */
  void *(*lay_out)(moerun__moe *moe, moerun__arenas *arenas);
  /* Begins to send the rows of the call, as agreed, and to receive. */
  moerun_status (*begin)(moerun__moe *moe, const moerun__layer_call *call);
  /* Until the next rows are here to be computed; *more = 0: there are none any
   * more. */
  moerun_status (*next_wave)(moerun__moe *moe, const moerun__layer_call *call,
                             int *more);
  /* Messages move only when the transport is called: now and then during long
   * work. */
  moerun_status (*progress)(moerun__moe *moe);
  /* Sends the results of these rows home. */
  moerun_status (*reply)(moerun__moe *moe);
  /* [collective] In the middle of a stage's work: rows[offset[R]][row_bytes] in
   * memory as moe->shape has it, those of this rank filled, become all ranks'
   * everywhere. NULL: no stage asks it. */
  moerun_status (*share)(moerun__moe *moe, void *rows, size_t row_bytes,
                         const int32_t *offset);
  /* Until all results of chunk c are home, in the chunk. */
  moerun_status (*collect)(moerun__moe *moe, int32_t c);
  /* Until chunk c's buffers are free for the next layer. */
  moerun_status (*finish)(moerun__moe *moe, int32_t c);
} moerun__exchange_ops;

typedef struct moerun__exchange {
  const moerun__exchange_ops *now; /* of the layer under way, see moe/way.h */
  void *work;                      /* what it keeps                         */
  moerun__moe_chunk chunk[MOERUN_MAX_CHUNKS];
  moerun__wave wave;
  int32_t *count_out; /* [R][chunks] rows of each chunk for each rank */
  int32_t *count_in;  /* [R][chunks] and from each */
  int32_t *scratch;   /* to tell and hear these, and the news of moe/agree.c */
  size_t room;        /* words of a message that it is for */
} moerun__exchange;

extern const moerun__exchange_ops moerun__exchange_whole;
extern const moerun__exchange_ops moerun__exchange_sliced;

/* The elements of a row, and the slots of `width` terms behind them. */
size_t moerun__elements_bytes(const moerun__model_config *config,
                              moerun__dtype wire);
size_t moerun__slots_bytes(int32_t width);
/* What a copy of a token's row and what a result row take on the wire, and a
 * row with the slots of `width` terms. */
size_t moerun__copy_bytes(const moerun__model_config *config,
                          moerun__dtype wire);
size_t moerun__result_bytes(const moerun__model_config *config,
                            moerun__dtype wire);
size_t moerun__row_bytes(const moerun__model_config *config, moerun__dtype wire,
                         int32_t width);

/* The buffers of the chunks; moe->shape is complete, and the store laid out. */
void moerun__exchange_lay_out(moerun__moe *moe, moerun__arenas *arenas);
/* Bytes of what moerun__exchange_create creates. */
size_t moerun__exchange_bytes(const moerun__moe *moe);
moerun_status moerun__exchange_create(moerun__moe *moe);
void moerun__exchange_destroy(moerun__moe *moe);

#endif
