/* Rank 0's side of the engine: takes requests from the source, deals them to
 * ranks with room, and hands completions to the sink. */
#ifndef MOERUN_SERVE_DEALER_H
#define MOERUN_SERVE_DEALER_H

#include "comm/comm.h"
#include "runtime/serve/alike.h"
#include "runtime/serve/sequence.h"

/* Rank -> 0 at a step boundary. */
typedef struct moerun__rank_word {
  int32_t stop;   /* this rank was asked to stop      */
  int32_t active; /* sequences                        */
  int32_t free_sequences;
  int32_t free_pages;     /* not promised to any sequence     */
  int64_t finished_units; /* 8-byte units of completions      */
  int64_t prompt_rows;    /* fed in the last step             */
  int64_t reused;         /* prompt tokens that needed no row */
  int64_t generated;      /* tokens sampled in the last step  */
} moerun__rank_word;

typedef enum moerun__command {
  MOERUN_COMMAND_STEP = 0,
  MOERUN_COMMAND_DONE,
  MOERUN_COMMAND_STOP,
  MOERUN_COMMAND_FAIL, /* rank 0 failed with `status` */
  MOERUN_COMMAND_SHOW, /* no step: the next word comes with requests under way
                          in place of completions                           */
} moerun__command;

/* 0 -> rank, the answer. */
typedef struct moerun__root_word {
  int32_t command; /* moerun__command */
  int32_t status;
  int64_t request_units; /* 8-byte units of new requests */
} moerun__root_word;

typedef struct moerun__staged {
  size_t at; /* where in the inbox */
  size_t bytes;
  int32_t pages;
  int32_t rank; /* dealt to; -1: waits */
} moerun__staged;

typedef struct moerun__dealer {
  const moerun__engine_callbacks *callbacks; /* borrowed, as sequences */
  const moerun__sequences *sequences; /* of this rank: all are sized alike */
  int has_tokenizer;                  /* stops may be texts */
  size_t box_bytes;                   /* of inbox and outbox */
  char *inbox;            /* requests taken from the source, not yet dealt */
  char *outbox;           /* requests by rank */
  moerun__staged *staged; /* [max_staged] */
  int32_t num_staged;
  int32_t max_staged;
  size_t inbox_used;
  int32_t source_dry;
  int32_t stops;  /* a rank was asked to stop */
  int32_t shows;  /* the last answer was MOERUN_COMMAND_SHOW */
  char *received; /* completions of one rank */
  moerun__progress progress;
  double step_began;   /* clock at the last answer */
  double step_seconds; /* since then, while there is no session */
  /* Of the ranks under way. */
  moerun_comm *comm;          /* borrowed, as the transfer */
  moerun__transfer *transfer; /* for messages of control */
  moerun__rank_word *word;    /* [R] */
  moerun__root_word *answer;  /* [R] */
  int32_t *unit_offset;       /* [R + 1] scratch of messages */
  size_t *outbox_at;          /* [R + 1] */
  moerun__alike alike;        /* only with several */
  int looks_alike;            /* 1: dealt by it, too */
} moerun__dealer;

/* Counts, or hands out, what lasts as long as the requests. */
void moerun__dealer_lay_out(moerun__dealer *dealer,
                            const moerun__engine_callbacks *callbacks,
                            const moerun__sequences *sequences,
                            int has_tokenizer, moerun__arena *arena);
/* No request was taken, nothing was done. */
void moerun__dealer_clear(moerun__dealer *dealer);

/* Counts, or hands out, what depends on the ranks that requests are dealt to;
 * what stood there is lost, and nothing of it is needed between steps.
 * looks_alike: it matters which requests a rank has had before. */
void moerun__dealer_lay_out_ranks(moerun__dealer *dealer, moerun_comm *comm,
                                  int looks_alike, moerun__arena *arena);
/* Steps begin, with a transfer of that comm, and end for now: what lies between
 * an end and a begin is no part of any step's time. */
void moerun__dealer_begin(moerun__dealer *dealer, moerun__transfer *transfer);
void moerun__dealer_end(moerun__dealer *dealer);

/* Rank 0, after word[R] arrived: collects completions (`own` are those of rank
 * 0 itself), deals requests, fills answer[R] and outbox. A failure becomes
 * MOERUN_COMMAND_FAIL and is returned. */
moerun_status moerun__dealer_turn(moerun__dealer *dealer, const char *own);
/* Sends the outbox; requests for rank 0 itself are at outbox[0..]. */
moerun_status moerun__dealer_send(moerun__dealer *dealer);

#endif
