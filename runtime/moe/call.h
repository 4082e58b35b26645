/* A call of a layer, which goes as it is from whoever makes it down to the
 * gate, the agreement between ranks and the exchange. */
#ifndef MOERUN_MOE_CALL_H
#define MOERUN_MOE_CALL_H

#include "runtime/model/model.h"

/* What capacity may know of a row besides its scores. NULLs: requests are rows,
 * at position 0, all of class 0 and none decoded. */
typedef struct moerun__row_tags {
  const int32_t *request;  /* [T] */
  const int32_t *position; /* [T] within the request */
  const uint8_t *priority; /* [T] 0 is dropped last */
  const uint8_t *decoded;  /* [T] 1: not of a prompt */
} moerun__row_tags;

/* A caller's choice in place of the gate's: K experts of each row, in the order
 * in which their results are summed. */
typedef struct moerun__given_choice {
  const int32_t *ids;  /* [T][K] of what the gate may choose; -1: none */
  const float *weight; /* [T][K]; not read beside -1 */
} moerun__given_choice;

/* All pointers are borrowed until the call is over. */
typedef struct moerun__layer_call {
  const moerun__layer *layer; /* one that has experts */
  int32_t T;
  const float *x; /* [T][H] */
  moerun__row_tags tags;
  const moerun__given_choice *given; /* NULL: the model's gate chooses */
  int names_layer; /* 1: a program says which layer it is, which it may say
                      wrongly on some ranks: so they compare it            */
  /* This rank's status so far: a rank that is not OK sends no rows but tells
   * the others, who then return MOERUN_ERR_PEER. */
  moerun_status failed;
} moerun__layer_call;

/* Rows that take part. */
static inline int32_t moerun__call_rows(const moerun__layer_call *call) {
  return call->failed == MOERUN_OK ? call->T : 0;
}

#endif
