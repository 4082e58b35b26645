/* Made-up row plans for tests of transports: rows that go to any of the ranks,
 * with a tail for each. Every rank can compute every other rank's plan and
 * bytes. */
#ifndef MOERUN_TESTS_COMM_PLANS_H
#define MOERUN_TESTS_COMM_PLANS_H

#include "support/comm_rows.h"

enum {
  PLAN_ROWS = 40, /* of a rank, at most */
  PLAN_COPIES = PLAN_ROWS * MAX_RANKS,
};

/* Sizes of an exchange; `round` draws another plan. */
typedef struct plan_shape {
  int round;
  size_t stride_bytes;
  size_t row_bytes;
  size_t tail_bytes;
  size_t wire_bytes;
} plan_shape;

static inline uint32_t plan_draw(int round, int from, int32_t row) {
  return draw(((uint64_t)round << 32) + (uint64_t)from, (uint64_t)row + 5000);
}

static inline int32_t plan_rows_of(const plan_shape *s, int from) {
  return (int32_t)(plan_draw(s->round, from, -1) % (PLAN_ROWS + 1));
}

/* Whether row `row` of rank `from` goes to rank `to`: in some rounds most rows
 * go to all ranks, in some to few. */
static inline int plan_names(const plan_shape *s, int from, int32_t row,
                             int to) {
  uint32_t bits = plan_draw(s->round, from, row);
  if (s->round % 3 == 1) bits &= plan_draw(s->round + 1000, from, row);
  if (s->round % 3 == 2) bits |= plan_draw(s->round + 1000, from, row);
  return (int)(bits >> to & 1);
}

/* Byte i of a row (to < 0), or of its tail for a rank. */
static inline unsigned char plan_byte(const plan_shape *s, int from,
                                      int32_t row, int to, size_t i) {
  return (unsigned char)((size_t)s->round * 3 + (size_t)from * 31 +
                         (size_t)row * 7 + (size_t)(to + 1) * 13 + i * 5 +
                         (i >> 8));
}

typedef struct plan_rows {
  plan_shape shape;
  int32_t to_offset[PLAN_ROWS + 1];
  int32_t to[PLAN_COPIES];
  int32_t receive_offset[MAX_RANKS + 1];
  unsigned char *rows;
  unsigned char *tails;
  unsigned char *receive;
} plan_rows;

/* Bytes that a plan of this shape takes on the wire at most. */
static inline size_t plan_room(const plan_shape *s) {
  return (size_t)PLAN_ROWS * (size_t)(test_size() - 1) * s->wire_bytes;
}

static inline void plan_rows_create(plan_rows *x, const plan_shape *s) {
  const int R = test_size();
  const int rank = test_rank();
  const int32_t n = plan_rows_of(s, rank);
  int32_t copies = 0;
  x->shape = *s;
  x->rows = malloc((size_t)n * s->stride_bytes + 1);
  x->tails = malloc(PLAN_COPIES * s->tail_bytes + 1);
  if (x->rows == NULL || x->tails == NULL) abort();
  for (int32_t i = 0; i < n; i++) {
    unsigned char *row = x->rows + (size_t)i * s->stride_bytes;
    x->to_offset[i] = copies;
    memset(row, GUARD, s->stride_bytes);
    for (size_t b = 0; b < s->row_bytes; b++) {
      row[b] = plan_byte(s, rank, i, -1, b);
    }
    for (int q = 0; q < R; q++) {
      if (!plan_names(s, rank, i, q)) continue;
      for (size_t b = 0; b < s->tail_bytes; b++) {
        x->tails[(size_t)copies * s->tail_bytes + b] =
            plan_byte(s, rank, i, q, b);
      }
      x->to[copies++] = q;
    }
  }
  x->to_offset[n] = copies;
  x->receive_offset[0] = 0;
  for (int p = 0; p < R; p++) {
    int32_t count = 0;
    for (int32_t i = 0; i < plan_rows_of(s, p); i++) {
      count += plan_names(s, p, i, rank);
    }
    x->receive_offset[p + 1] = x->receive_offset[p] + count;
  }
  const size_t in = (size_t)x->receive_offset[R] * s->wire_bytes;
  x->receive = malloc(in + 1);
  if (x->receive == NULL) abort();
  memset(x->receive, GUARD, in + 1);
}

static inline void plan_rows_destroy(plan_rows *x) {
  free(x->rows);
  free(x->tails);
  free(x->receive);
}

static inline moerun__row_plan plan_out(const plan_rows *x) {
  return (moerun__row_plan){.rows = x->rows,
                            .stride_bytes = x->shape.stride_bytes,
                            .row_bytes = x->shape.row_bytes,
                            .num_rows = plan_rows_of(&x->shape, test_rank()),
                            .to_offset = x->to_offset,
                            .to = x->to,
                            .tails = x->tails,
                            .tail_bytes = x->shape.tail_bytes,
                            .wire_bytes = x->shape.wire_bytes};
}

static inline moerun__row_list plan_in(const plan_rows *x, int first,
                                       int last) {
  return (moerun__row_list){
      x->receive, x->shape.wire_bytes, x->receive_offset + first, first,
      last,       MOERUN_MEMORY_HOST};
}

/* The rows from peers first .. last-1 have arrived with their tails; own ones
 * and what lies behind the last row were left alone. */
static inline int plan_arrived(const plan_rows *x, int first, int last) {
  const plan_shape *s = &x->shape;
  const int rank = test_rank();
  for (int p = first; p < last; p++) {
    const unsigned char *at =
        x->receive + (size_t)x->receive_offset[p] * s->wire_bytes;
    for (int32_t i = 0; i < plan_rows_of(s, p); i++) {
      if (!plan_names(s, p, i, rank)) continue;
      for (size_t b = 0; b < s->row_bytes + s->tail_bytes; b++) {
        const unsigned char expected =
            p == rank          ? GUARD
            : b < s->row_bytes ? plan_byte(s, p, i, -1, b)
                               : plan_byte(s, p, i, rank, b - s->row_bytes);
        if (at[b] != expected) return 0;
      }
      at += s->wire_bytes;
    }
  }
  return x->receive[(size_t)x->receive_offset[test_size()] * s->wire_bytes] ==
         GUARD;
}

#endif
