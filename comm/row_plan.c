/* Rows with several destinations become one list by rank, for transports that
 * send each rank its own copies. Row after row, not rank after rank: a row is
 * read from memory once and then copied from the cache. */
#include "comm/comm.h"

#include <string.h>

/* Rows to rank r as a count at offset[r + 1]; to the own rank none. */
static moerun_status count_rows(int32_t *offset, const moerun_comm *comm,
                                const moerun__row_plan *plan) {
  moerun_status status = MOERUN_OK;
  const int32_t *to = plan->to;
  memset(offset, 0, ((size_t)comm->size + 1) * sizeof *offset);
  for (int32_t i = 0; i < plan->num_rows; i++) {
    int32_t last = -1;
    for (int32_t e = plan->to_offset[i]; e < plan->to_offset[i + 1]; e++) {
      MOERUN_REQUIRE(to[e] > last && to[e] < comm->size, MOERUN_ERR_INVALID,
                     "rows: destinations of row %d: expected ascending ranks "
                     "below %d, found %d after %d",
                     i, comm->size, to[e], last);
      last = to[e];
      offset[last + 1]++;
    }
  }
  offset[comm->rank + 1] = 0;
done:
  return status;
}

/* offset[r + 1] is then where the next row to rank r is put, and ends as the
 * offset of rank r + 1. */
static int64_t counts_to_cursors(int32_t *offset, int32_t num_ranks) {
  int32_t sum = 0;
  for (int32_t r = 0; r < num_ranks; r++) {
    const int32_t count = offset[r + 1];
    offset[r + 1] = sum;
    sum += count;
  }
  return sum;
}

moerun_status moerun__row_plan_count(int32_t *offset, size_t room_bytes,
                                     const moerun_comm *comm,
                                     const moerun__row_plan *plan) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(plan->row_bytes + plan->tail_bytes <= plan->wire_bytes,
                 MOERUN_ERR_INVALID,
                 "rows: expected %zu bytes and %zu behind them within %zu",
                 plan->row_bytes, plan->tail_bytes, plan->wire_bytes);
  MOERUN_TRY(moerun__memory_check(comm, plan->memory));
  MOERUN_TRY(count_rows(offset, comm, plan));
  const int64_t count = counts_to_cursors(offset, comm->size);
  MOERUN_REQUIRE((size_t)count * plan->wire_bytes <= room_bytes,
                 MOERUN_ERR_INVALID,
                 "rows: expected a plan of at most %zu bytes, found %lld rows "
                 "of %zu",
                 room_bytes, (long long)count, plan->wire_bytes);
done:
  return status;
}

void moerun__row_plan_pack(char *packed, int32_t *offset,
                           const moerun_comm *comm,
                           const moerun__row_plan *plan) {
  const char *row = plan->rows;
  const char *tails = plan->tails;
  for (int32_t i = 0; i < plan->num_rows; i++) {
    for (int32_t e = plan->to_offset[i]; e < plan->to_offset[i + 1]; e++) {
      if (plan->to[e] == comm->rank) continue;
      const size_t at = (size_t)offset[plan->to[e] + 1]++;
      char *copy = packed + at * plan->wire_bytes;
      memcpy(copy, row, plan->row_bytes);
      if (plan->tail_bytes == 0) continue;
      memcpy(copy + plan->row_bytes, tails + (size_t)e * plan->tail_bytes,
             plan->tail_bytes);
    }
    row += plan->stride_bytes;
  }
}
