/* The first stage counts: what follows from broken numbers is broken as well
 * and says nothing about the cause. */
#include "runtime/decoder/broken.h"

void moerun__broken_mark(const moerun__broken_rows *rows, int32_t t) {
  if (rows->stage_of[t] == MOERUN_BROKEN_NOT) rows->stage_of[t] = rows->stage;
}

void moerun__broken_note(const moerun__broken_rows *rows, int32_t t,
                         const float *x, size_t width) {
  rows->kernels->note_unsound(rows->queue, rows->stage_of + t, rows->stage, x,
                              width, 1, (int32_t)width);
}

void moerun__broken_note_rows(const moerun__broken_rows *rows, const float *x,
                              size_t width, int32_t T) {
  rows->kernels->note_unsound(rows->queue, rows->stage_of, rows->stage, x,
                              width, T, (int32_t)width);
}
