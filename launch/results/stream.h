/* The text of requests as it is generated, on stdout (--stream): that of one
 * request plainly, those of several in pieces, an object a line. Rank 0
 * only. */
#ifndef MOERUN_RESULTS_STREAM_H
#define MOERUN_RESULTS_STREAM_H

#include "launch/results/unfinished.h"

typedef struct moerun__stream moerun__stream;

/* What is borrowed outlives the stream. unfinished: NULL, or what requests
 * begin with. */
moerun_status moerun__stream_create(moerun__stream **out,
                                    const moerun__prompts *prompts,
                                    const moerun__tokenizer *tokenizer,
                                    const moerun__unfinished *unfinished);
/* A token of a request that goes on: writes what its text has now for
 * certain. */
moerun_status moerun__stream_token(moerun__stream *stream,
                                   const moerun__completion *next);
/* The request has ended: writes the rest. */
moerun_status moerun__stream_end(moerun__stream *stream,
                                 const moerun__completion *done);
void moerun__stream_destroy(moerun__stream *stream);

#endif
