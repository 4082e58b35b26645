/* The first stage counts: what follows from broken numbers is broken as well and
 * says nothing about the cause. */
#include "runtime/decoder/broken.h"

#include "runtime/base/finite.h"

void moerun__broken_mark(const moerun__broken_rows *rows, int32_t t) {
  if (rows->stage_of[t] == MOERUN_BROKEN_NOT) rows->stage_of[t] = rows->stage;
}

void moerun__broken_note(const moerun__broken_rows *rows, int32_t t,
                         const float *x, size_t width) {
  if (rows->stage_of[t] != MOERUN_BROKEN_NOT) return;
  if (!moerun__all_sound(x, width)) rows->stage_of[t] = rows->stage;
}

void moerun__broken_note_rows(const moerun__broken_rows *rows, const float *x,
                              size_t width, int32_t T) {
  for (int32_t t = 0; t < T; t++) {
    moerun__broken_note(rows, t, x + (size_t)t * width, width);
  }
}
