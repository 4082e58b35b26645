/* Dwell and dead band of what placements follow; what a rank tells of itself
 * has its own already (speed.c). */
#include "runtime/plan/lasting.h"

#include "runtime/plan/plan.h"

#include <stdlib.h>
#include <string.h>

void moerun__lasting_lay_out(moerun__lasting *lasting, moerun__arena *arena,
                             int32_t num_ranks) {
  const size_t R = (size_t)num_ranks;
  lasting->num_ranks = num_ranks;
  lasting->changes = moerun__arena_take(arena, R, sizeof *lasting->changes);
  lasting->relative = moerun__arena_take(arena, R, sizeof *lasting->relative);
  lasting->speed = moerun__arena_take(arena, R, sizeof *lasting->speed);
  lasting->told = moerun__arena_take(arena, R, sizeof *lasting->told);
}

void moerun__lasting_clear(moerun__lasting *lasting) {
  lasting->is_weighed = 0;
  lasting->calm = 0;
  for (int32_t r = 0; r < lasting->num_ranks; r++) {
    lasting->speed[r] = 0;
    lasting->told[r] = 0;
    lasting->changes[r] = 0;
    lasting->relative[r] = 1;
  }
}

void moerun__lasting_see(moerun__lasting *lasting, int32_t rank, int32_t speed,
                         int64_t changes) {
  const int has_lasted = changes == lasting->changes[rank];
  lasting->changes[rank] = changes;
  if (!has_lasted) return;
  if (abs(speed - lasting->speed[rank]) <= MOERUN_SPEED_NOISE) return;
  lasting->speed[rank] = speed;
}

static int32_t fastest_of(const int32_t *speed, int32_t num_ranks) {
  int32_t fastest = speed[0];
  for (int32_t r = 1; r < num_ranks; r++) {
    if (speed[r] > fastest) fastest = speed[r];
  }
  return fastest;
}

int moerun__lasting_conclude(moerun__lasting *lasting) {
  const int32_t fastest = fastest_of(lasting->speed, lasting->num_ranks);
  int changes = 0;
  for (int32_t r = 0; r < lasting->num_ranks; r++) {
    const int32_t behind = moerun__plan_behind(fastest, lasting->speed[r]);
    const double relative =
        (double)moerun__plan_speed(behind) / (double)MOERUN_SPEED_ONE;
    changes |= relative != lasting->relative[r];
    lasting->relative[r] = relative;
    if (behind > 0) lasting->is_weighed = 1;
  }
  return changes;
}

int moerun__lasting_watch(moerun__lasting *lasting, const int32_t *speed) {
  const int32_t fastest = fastest_of(speed, lasting->num_ranks);
  int is_uneven = lasting->is_weighed;
  int changes = 0;
  for (int32_t r = 0; r < lasting->num_ranks; r++) {
    is_uneven |= moerun__plan_behind(fastest, speed[r]) > 0;
    changes |= speed[r] != lasting->told[r];
    lasting->told[r] = speed[r];
  }
  if (changes) lasting->calm = 0;
  if (lasting->calm <= MOERUN_LASTING_LAST) lasting->calm++;
  return is_uneven && lasting->calm >= MOERUN_LASTING_FIRST &&
         lasting->calm <= MOERUN_LASTING_LAST &&
         (lasting->calm & (lasting->calm - 1)) == 0;
}
