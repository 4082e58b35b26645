/* Inside of the MPI transport: what its files share. */
#ifndef MOERUN_COMM_MPI_COMM_H
#define MOERUN_COMM_MPI_COMM_H

#include <moerun/moerun_mpi.h>

#include "comm/comm.h"
#include "comm/patience.h"

/* Tags of messages that callers do not see. */
enum {
  MOERUN_TAG_ROLL_CALL = MOERUN_TAG_END,
  MOERUN_TAG_ASTRAY, /* between ranks that have decided differently */
  MOERUN_TAG_TELL,   /* what is merged on the way */
  MOERUN_TAG_COUNTS, /* and counts: by turns this one and the next */
};

enum { MOERUN_ROW_TYPES = 16 }; /* sizes of rows known at a time */

typedef struct moerun__row_type {
  size_t bytes; /* 0: free */
  MPI_Datatype type;
} moerun__row_type;

/* To one peer: that it should come to bound news. */
typedef struct moerun__question {
  int64_t word;        /* number of the news asked for last; 0: none yet */
  MPI_Request request; /* until it is complete MPI may read the word */
} moerun__question;

typedef struct moerun__mpi_comm {
  moerun_comm base; /* first */
  MPI_Comm comm;
  double timeout_s;
  moerun_status broken; /* since a failure whose line is `why` */
  char why[512];
  MPI_Request pending; /* the collective under way */
  MPI_Request telling; /* the message of one that goes out */
  MPI_Status received; /* of the message waited for last */
  int32_t count_turn;  /* 0 or 1: which tag counts have */
  int64_t collectives; /* so far: the same on all ranks */
  int64_t call_word;   /* what tells others of this rank in a roll call */
  int64_t bound;       /* number of the last bound news that this rank told */
  int64_t asked_to; /* the last that others have asked this rank to come to */
  int32_t asked_by;
  moerun__question *question; /* [R] */
  const char *doubt;          /* of the last news with one */
  int64_t reduced[2];         /* minimum: in, out */
  char root_word; /* wait_for_root: says nothing but that it has come */
  moerun__row_type row_types[MOERUN_ROW_TYPES];
  int next_row_type;          /* the one to give up when all are taken */
  MPI_Request *count_request; /* [R] of counts that go out */
  int *share_count;           /* [R] of share_rows */
  int *heard;                 /* [R] of a roll call */
} moerun__mpi_comm;

/* Ranks in a message: "1, 3", the first few by number. */
enum { MOERUN_NAMED_PEERS = 8 };
typedef struct moerun__peer_names {
  int32_t count;
  char text[160];
} moerun__peer_names;

void moerun__peer_names_add(moerun__peer_names *names, int32_t rank);
/* After the last: how many are not named. */
void moerun__peer_names_end(moerun__peer_names *names);

/* The ranks that do not wait in the collective *request, whose limit has
 * passed; *done = 1 if it has ended after all. */
moerun_status moerun__mpi_call_roll(moerun__peer_names *missing,
                                    moerun__mpi_comm *self,
                                    MPI_Request *request, int *done);

/* In a wait: if it has lasted, whether this rank or another has passed by bound
 * news that others wait in. */
moerun_status moerun__mpi_look_astray(moerun__mpi_comm *self,
                                      const moerun__patience *waited,
                                      int is_collective);
/* [R] questions that nobody has been asked. */
moerun_status moerun__mpi_questions_create(moerun__question **out,
                                           int32_t num_ranks);
/* While there is MPI. At once: those that a peer has not received yet, and may
 * never, keep their memory, because MPI may still read it. Accepts NULL. */
void moerun__mpi_questions_destroy(moerun__question *question,
                                   int32_t num_ranks);

/* The comm is broken by what moerun_last_error says; returns `status`. What is
 * broken stays so: the first reason counts. */
moerun_status moerun__mpi_break(moerun__mpi_comm *self, moerun_status status);
/* The failure that broke the comm, with its line; MOERUN_OK: none has. */
moerun_status moerun__mpi_usable(const moerun__mpi_comm *self);
/* MOERUN_OK for MPI_SUCCESS, else a failure during `what` that breaks the comm;
 * the comm is NULL while there is none yet. */
moerun_status moerun__mpi_result(moerun__mpi_comm *self, int code,
                                 const char *what);
/* Until *request is complete, for timeout_s at most (negative: any time): a
 * part of the collective under way, or all of it. */
moerun_status moerun__mpi_await(moerun__mpi_comm *comm, MPI_Request *request,
                                double timeout_s, const char *what);
moerun_status moerun__mpi_finish(moerun__mpi_comm *comm, MPI_Request *request,
                                 double timeout_s, const char *what);
/* The committed type of rows of this size. */
moerun_status moerun__mpi_row_type(MPI_Datatype *out, moerun__mpi_comm *self,
                                   size_t row_bytes);

/* Of moerun__comm_ops. */
moerun_status moerun__mpi_tell(moerun_comm *comm, const moerun__news *news);
moerun_status moerun__mpi_share_rows(moerun_comm *comm,
                                     const moerun__row_list *list);
moerun_status moerun__mpi_minimum(moerun_comm *comm, int64_t *value);
moerun_status moerun__mpi_gather(moerun_comm *comm, void *receive,
                                 const void *send, size_t bytes);
moerun_status moerun__mpi_scatter(moerun_comm *comm, void *receive,
                                  const void *send, size_t bytes);
moerun_status moerun__mpi_broadcast(moerun_comm *comm, void *buffer,
                                    size_t bytes);
moerun_status moerun__mpi_wait_for_root(moerun_comm *comm);
moerun_status moerun__mpi_split(moerun_comm **out, moerun_comm *comm,
                                moerun__comm_level level);

#endif
