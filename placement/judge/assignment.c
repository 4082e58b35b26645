/* The Hungarian method by shortest augmenting paths (Jonker and Volgenant,
 * Computing 38, 1987), with columns that take several rows. Rows are added one
 * at a time; a path ends at the first column with room. A full column is
 * entered once and then all of its rows are scanned, which takes
 * O(rows * columns) a path instead of the O(rows^2) of equal copies of the
 * columns. Potentials are integers, so the optimum is exact. */
#include "placement/judge/assignment.h"

#include "runtime/base/memory.h"

#include <stddef.h>
#include <string.h>

typedef struct search {
  const int64_t *gain; /* [rows][columns] */
  int32_t rows;
  int32_t columns;
  const int32_t *room;
  int32_t *column_of; /* [rows] -1: not yet */
  int32_t *count;     /* [columns] rows assigned */
  int32_t *first_row; /* [columns] list of them, -1 at its end */
  int32_t *next_row;  /* [rows] */
  int64_t *row_price; /* [rows] cost - row_price - column_price >= 0, and 0 */
  int64_t *column_price; /* [columns] where assigned; cost = -gain          */
  int64_t *distance;     /* [columns] from the row being added */
  int32_t *through;      /* [columns] row that the shortest path comes from */
  uint8_t *settled;      /* [columns] */
} search;

static moerun_status allocate(search *s) {
  moerun_status status = MOERUN_OK;
  const size_t rows = (size_t)s->rows;
  const size_t columns = (size_t)s->columns;
  MOERUN_TRY(moerun__alloc(&s->count, columns, sizeof *s->count));
  MOERUN_TRY(moerun__alloc(&s->first_row, columns, sizeof *s->first_row));
  MOERUN_TRY(moerun__alloc(&s->next_row, rows, sizeof *s->next_row));
  MOERUN_TRY(moerun__alloc(&s->row_price, rows, sizeof *s->row_price));
  MOERUN_TRY(moerun__alloc(&s->column_price, columns, sizeof *s->column_price));
  MOERUN_TRY(moerun__alloc(&s->distance, columns, sizeof *s->distance));
  MOERUN_TRY(moerun__alloc(&s->through, columns, sizeof *s->through));
  MOERUN_TRY(moerun__alloc(&s->settled, columns, sizeof *s->settled));
done:
  return status;
}

static void release(search *s) {
  moerun__free(s->count);
  moerun__free(s->first_row);
  moerun__free(s->next_row);
  moerun__free(s->row_price);
  moerun__free(s->column_price);
  moerun__free(s->distance);
  moerun__free(s->through);
  moerun__free(s->settled);
}

/* Edges from a row whose own distance is `base`. */
static void scan_row(search *s, int32_t row, int64_t base) {
  const int64_t *gain = s->gain + (size_t)row * (size_t)s->columns;
  const int64_t price = s->row_price[row];
  for (int32_t c = 0; c < s->columns; c++) {
    if (s->settled[c]) continue;
    const int64_t length = base - gain[c] - price - s->column_price[c];
    if (length < s->distance[c]) {
      s->distance[c] = length;
      s->through[c] = row;
    }
  }
}

static int32_t nearest_column(const search *s) {
  int32_t best = -1;
  for (int32_t c = 0; c < s->columns; c++) {
    if (s->settled[c]) continue;
    if (best < 0 || s->distance[c] < s->distance[best]) best = c;
  }
  return best;
}

static void enter(search *s, int32_t row, int32_t column) {
  s->next_row[row] = s->first_row[column];
  s->first_row[column] = row;
  s->column_of[row] = column;
}

static void leave(search *s, int32_t row) {
  int32_t *link = &s->first_row[s->column_of[row]];
  while (*link != row) {
    link = &s->next_row[*link];
  }
  *link = s->next_row[row];
}

/* Shifts rows along the path that ends in `column`; the added row is the one
 * without a column. */
static void augment(search *s, int32_t column) {
  s->count[column]++;
  for (;;) {
    const int32_t row = s->through[column];
    const int32_t before = s->column_of[row];
    if (before >= 0) leave(s, row);
    enter(s, row, column);
    if (before < 0) return;
    column = before;
  }
}

static void add_row(search *s, int32_t added) {
  memset(s->settled, 0, (size_t)s->columns);
  for (int32_t c = 0; c < s->columns; c++) {
    s->distance[c] = INT64_MAX;
  }
  scan_row(s, added, 0);
  int32_t end = nearest_column(s);
  while (s->count[end] == s->room[end]) {
    s->settled[end] = 1;
    for (int32_t row = s->first_row[end]; row >= 0; row = s->next_row[row]) {
      scan_row(s, row, s->distance[end]);
    }
    end = nearest_column(s);
  }
  const int64_t total = s->distance[end];
  s->row_price[added] += total;
  for (int32_t c = 0; c < s->columns; c++) {
    if (!s->settled[c]) continue;
    const int64_t slack = total - s->distance[c];
    s->column_price[c] -= slack;
    for (int32_t row = s->first_row[c]; row >= 0; row = s->next_row[row]) {
      s->row_price[row] += slack;
    }
  }
  augment(s, end);
}

moerun_status moerun__transport_until(int32_t *column_of, int *is_whole,
                                      const int64_t *gain, int32_t rows,
                                      int32_t columns, const int32_t *room,
                                      const moerun__deadline *deadline) {
  moerun_status status = MOERUN_OK;
  search s = {.gain = gain,
              .rows = rows,
              .columns = columns,
              .room = room,
              .column_of = column_of};
  MOERUN_TRY(allocate(&s));
  for (int32_t c = 0; c < columns; c++) {
    s.first_row[c] = -1;
  }
  for (int32_t row = 0; row < rows; row++) {
    column_of[row] = -1;
  }
  *is_whole = 0;
  for (int32_t row = 0; row < rows; row++) {
    if (moerun__deadline_passed(deadline)) goto done;
    add_row(&s, row);
  }
  *is_whole = 1;
done:
  release(&s);
  return status;
}

moerun_status moerun__transport(int32_t *column_of, const int64_t *gain,
                                int32_t rows, int32_t columns,
                                const int32_t *room) {
  static const moerun__deadline never;
  int is_whole = 0;
  return moerun__transport_until(column_of, &is_whole, gain, rows, columns,
                                 room, &never);
}
