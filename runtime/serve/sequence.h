/* The requests a rank is working on: their tokens, what to feed next, and the
 * messages in which they come from and go back to rank 0: of whole units, which
 * is how their lengths are told. No communication. */
#ifndef MOERUN_SERVE_SEQUENCE_H
#define MOERUN_SERVE_SEQUENCE_H

#include "runtime/base/arena.h"
#include "runtime/serve/engine.h"

enum { MOERUN_WIRE_UNIT = 8 }; /* bytes */

/* A request on the wire, followed by the ids of its prompt and those that it
 * comes with, and its stops, padded. */
typedef struct moerun__request_part {
  moerun__request request; /* pointers not meaningful */
  int64_t bytes;           /* of this part, padding included */
} moerun__request_part;

/* A completion on the wire, followed by token ids, log-probabilities and trace
 * ids, padded. */
typedef struct moerun__completion_part {
  moerun__completion completion; /* pointers not meaningful */
  int64_t bytes;
} moerun__completion_part;

typedef struct moerun__sequence {
  int32_t active;
  moerun__request request;  /* prompt points into `token`, stops into `stop` */
  int32_t num_tokens;       /* prompt and generated so far */
  int32_t num_fed;          /* of them already in the cache */
  int32_t *token;           /* [max_positions] */
  char *stop;               /* [stop_bytes] */
  moerun__stop_watch watch; /* that it has watched from its start */
  int32_t is_watched;       /* 0: not yet */
  double log_probability;
  int32_t broken; /* as in moerun__completion */
  int32_t broken_position;
  double mark;              /* when it came, then when its first token did */
  moerun__logprob *logprob; /* [max_positions][logprobs_width] of the token at
                               each position; NULL: none                   */
  int16_t *trace;           /* [max_positions][trace_width]; NULL: none */
} moerun__sequence;

typedef struct moerun__sequences {
  int32_t max_sequences;  /* seats */
  int32_t max_positions;  /* longest prompt + generation of one request */
  size_t trace_width;     /* ids per fed row; 0: no trace is kept */
  int32_t logprobs_width; /* of a token at most; 0: none are kept */
  int32_t stop_bytes;     /* of a request at most */
  moerun__sequence *sequence;
  int32_t *order; /* [num_active] seats, oldest first */
  int32_t num_active;
  int32_t promised_pages; /* of the cache, to those */
  char *finished;         /* completions of the last step, on the wire */
  size_t finished_bytes;
} moerun__sequences;

/* Counts, or hands out, the buffers of so many seats; the sizes are the members
 * of these names. */
void moerun__sequences_lay_out(moerun__sequences *out, int32_t max_sequences,
                               int32_t max_positions, size_t trace_width,
                               const moerun__engine_options *options,
                               moerun__arena *arena);
/* All seats are free, and nothing else was theirs; the end of that. */
void moerun__sequences_begin(moerun__sequences *sequences);
void moerun__sequences_end(moerun__sequences *sequences);

/* Pages of the cache that a request takes at most. */
int32_t moerun__request_pages(const moerun__request *request);
/* num_ids: of the prompt, and those that the request comes with; stop_bytes: of
 * its stops. */
size_t moerun__request_part_bytes(int32_t num_ids, int32_t stop_bytes);
/* Room for the requests of one step: 1 MiB, or the longest request. */
size_t moerun__request_box_bytes(const moerun__sequences *sequences);
/* Most bytes of the completions of one step of one rank. */
size_t moerun__finished_box_bytes(const moerun__sequences *sequences);
/* Writes a request to `out`, which has moerun__request_part_bytes. */
void moerun__request_write(char *out, const moerun__request *request);
/* Reads one at `part`, which its pointers point into. Returns its bytes. */
size_t moerun__request_read(moerun__request *request, const char *part);

/* Takes a request into a free seat; returns the seat. */
int32_t moerun__sequence_start(moerun__sequences *sequences,
                               const moerun__request *request);
/* Ends a sequence: writes its completion behind `finished`, frees the seat. */
void moerun__sequence_finish(moerun__sequences *sequences, int32_t seat,
                             moerun__finish finish, int32_t rank);
/* Writes the last token of a sequence that goes on behind `finished`. */
void moerun__sequence_tell(moerun__sequences *sequences, int32_t seat,
                           int32_t rank);
/* Writes what the sequences that have generated something in this run have so
 * far behind `finished`, without traces; they go on. */
void moerun__sequences_show(moerun__sequences *sequences, int32_t rank);
/* Tokens that a sequence begins with: all that is fed before it generates. */
int32_t moerun__sequence_given(const moerun__sequence *sequence);
/* Where the log-probabilities of the token at `position` belong. */
moerun__logprob *moerun__sequence_logprob(const moerun__sequences *sequences,
                                          const moerun__sequence *sequence,
                                          int32_t position);
/* Reads a completion at `part`; pointers point into it. Returns its bytes. */
size_t moerun__completion_read(moerun__completion *completion, const char *part,
                               size_t trace_width);

#endif
