/* Made-up plans and their rows for tests of transports. Every rank can compute
 * every other rank's counts and bytes. */
#ifndef MOERUN_TESTS_COMM_ROWS_H
#define MOERUN_TESTS_COMM_ROWS_H

#include "support/mpi_test.h"

#include "comm/comm.h"
#include "runtime/base/rng.h"

#include <string.h>

enum {
  SEED = 20, /* of all plans and contents; printed by main */
  MAX_RANKS = 16,
  MAX_ROWS = 48,  /* from one rank to another */
  MAX_ROW = 4099, /* bytes */
  GUARD = 0xA5,
};

typedef enum plan {
  PLAN_NONE,   /* nobody sends anything             */
  PLAN_OWN,    /* rows for the own rank only        */
  PLAN_TO_ONE, /* all rows go to the last rank      */
  PLAN_RAGGED, /* 0 .. MAX_ROWS, about half of them 0 */
  PLAN_EVEN,   /* 3 rows for everybody              */
  PLAN_COUNT,
} plan;

static inline uint32_t draw(uint64_t a, uint64_t b) {
  uint32_t r[4];
  moerun__philox(r, SEED, a, b);
  return r[0];
}

static inline int32_t rows_from_to(plan p, int from, int to) {
  const uint32_t r = draw((uint64_t)from, (uint64_t)to);
  switch (p) {
  case PLAN_OWN: return from == to ? 5 : 0;
  case PLAN_TO_ONE: return to == test_size() - 1 ? 7 + from : 0;
  case PLAN_RAGGED: return r % 2 == 0 ? 0 : (int32_t)(r / 2 % (MAX_ROWS + 1));
  case PLAN_EVEN: return 3;
  default: return 0;
  }
}

static inline void fill(unsigned char *row, size_t bytes, int from, int to,
                        int32_t number) {
  const uint32_t first =
      draw(((uint64_t)from << 20) + (uint64_t)to, (uint64_t)number + 1000);
  for (size_t i = 0; i < bytes; i++) {
    row[i] = (unsigned char)(first + i * (first >> 16));
  }
}

/* One rank's rows out and in for a plan. */
typedef struct rows {
  size_t row_bytes;
  int32_t send_offset[MAX_RANKS + 1];
  int32_t receive_offset[MAX_RANKS + 1];
  unsigned char *send;
  unsigned char *receive;
} rows;

static inline void rows_create(rows *x, plan p, size_t row_bytes) {
  const int rank = test_rank();
  const int R = test_size();
  x->row_bytes = row_bytes;
  x->send_offset[0] = 0;
  x->receive_offset[0] = 0;
  for (int q = 0; q < R; q++) {
    x->send_offset[q + 1] = x->send_offset[q] + rows_from_to(p, rank, q);
    x->receive_offset[q + 1] = x->receive_offset[q] + rows_from_to(p, q, rank);
  }
  const size_t out = (size_t)x->send_offset[R] * row_bytes;
  const size_t in = (size_t)x->receive_offset[R] * row_bytes;
  x->send = malloc(out + 1);
  x->receive = malloc(in + 1);
  if (x->send == NULL || x->receive == NULL) abort();
  memset(x->receive, GUARD, in + 1);
  for (int q = 0; q < R; q++) {
    for (int32_t i = x->send_offset[q]; i < x->send_offset[q + 1]; i++) {
      fill(x->send + (size_t)i * row_bytes, row_bytes, rank, q,
           i - x->send_offset[q]);
    }
  }
}

static inline void rows_destroy(rows *x) {
  free(x->send);
  free(x->receive);
}

static inline moerun__row_list send_list(const rows *x) {
  return (moerun__row_list){.rows = x->send,
                            .row_bytes = x->row_bytes,
                            .offset = x->send_offset,
                            .last_peer = test_size()};
}

static inline moerun__row_list receive_list(const rows *x) {
  return (moerun__row_list){.rows = x->receive,
                            .row_bytes = x->row_bytes,
                            .offset = x->receive_offset,
                            .last_peer = test_size()};
}

/* Rows of first .. last-1 have arrived; own rows and what lies behind the last
 * row were left alone. */
static inline int rows_arrived(const rows *x, int first, int last) {
  unsigned char expected[MAX_ROW];
  for (int q = first; q < last; q++) {
    for (int32_t i = x->receive_offset[q]; i < x->receive_offset[q + 1]; i++) {
      memset(expected, GUARD, x->row_bytes);
      if (q != test_rank()) {
        fill(expected, x->row_bytes, q, test_rank(), i - x->receive_offset[q]);
      }
      const unsigned char *row = x->receive + (size_t)i * x->row_bytes;
      if (memcmp(row, expected, x->row_bytes) != 0) return 0;
    }
  }
  const size_t end = (size_t)x->receive_offset[test_size()] * x->row_bytes;
  return x->receive[end] == GUARD;
}

/* Whether a call ended with this code and a message that contains text. */
static inline int says(moerun_status status, moerun_status code,
                       const char *text) {
  if (status == code && strstr(moerun_last_error(), text) != NULL) return 1;
  (void)fprintf(stderr, "rank %d: expected %d \"%s\", found %d \"%s\"\n",
                test_rank(), code, text, status, moerun_last_error());
  return 0;
}

/* Byte i that stands for a rank. */
static inline unsigned char letter(int rank, size_t i) {
  return (unsigned char)((size_t)rank * 31 + i * 7 + (i >> 13));
}

static inline int holds(const unsigned char *bytes, size_t count, int rank) {
  for (size_t i = 0; i < count; i++) {
    if (bytes[i] != letter(rank, i)) return 0;
  }
  return 1;
}

#endif
