/* Assignment and transport problems, solved exactly in integers. */
#ifndef MOERUN_JUDGE_ASSIGNMENT_H
#define MOERUN_JUDGE_ASSIGNMENT_H

#include "placement/judge/deadline.h"
#include "runtime/base/status.h"

/* Gains of at least this in size do not occur in a sum that is a solution: a
 * row is kept out of a column by the gain -MOERUN_FORBIDDEN. */
#define MOERUN_FORBIDDEN (INT64_C(1) << 48)

/* Each row to one column, no column to more than room[c] rows, the sum of
 * gain[rows][columns] as large as possible. Sizes |gain| <= 2^48; the rooms add
 * up to at least `rows`. Ties are broken the same way every time. */
moerun_status moerun__transport(int32_t *column_of, const int64_t *gain,
                                int32_t rows, int32_t columns,
                                const int32_t *room);
/* The same until the deadline, looked at for every row: *is_whole is 0 where it
 * has passed and some rows have no column, -1. */
moerun_status moerun__transport_until(int32_t *column_of, int *is_whole,
                                      const int64_t *gain, int32_t rows,
                                      int32_t columns, const int32_t *room,
                                      const moerun__deadline *deadline);

#endif
