/* Dwell and dead band of what placements follow; what a rank tells of itself has
 * its own already (speed.c). */
#include "runtime/balance/lasting.h"

#include "runtime/balance/plan.h"

#include <stdlib.h>
#include <string.h>

void moerun__lasting_lay_out(moerun__lasting *lasting, moerun__arena *arena,
                             int32_t num_ranks) {
  const size_t R = (size_t)num_ranks;
  lasting->num_ranks = num_ranks;
  lasting->changes = moerun__arena_take(arena, R, sizeof *lasting->changes);
  lasting->relative = moerun__arena_take(arena, R, sizeof *lasting->relative);
  lasting->speed = moerun__arena_take(arena, R, sizeof *lasting->speed);
}

void moerun__lasting_clear(moerun__lasting *lasting) {
  lasting->counts = 0;
  for (int32_t r = 0; r < lasting->num_ranks; r++) {
    lasting->speed[r] = 0;
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

void moerun__lasting_conclude(moerun__lasting *lasting) {
  int32_t fastest = lasting->speed[0];
  for (int32_t r = 1; r < lasting->num_ranks; r++) {
    if (lasting->speed[r] > fastest) fastest = lasting->speed[r];
  }
  for (int32_t r = 0; r < lasting->num_ranks; r++) {
    const int32_t behind = fastest - lasting->speed[r];
    const int is_slow = behind > MOERUN_SPEED_NOISE;
    lasting->relative[r] = (double)moerun__plan_speed(is_slow ? behind : 0) /
                           (double)MOERUN_SPEED_ONE;
    if (is_slow) lasting->counts = 1;
  }
}
