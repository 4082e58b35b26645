/* Which speeds have lasted: what placements follow. A step's plan follows what
 * ranks tell at once; weights that move are worth it only for a slowness that
 * stays. Pure, and the same on all ranks, which see the same integers. */
#ifndef MOERUN_PLAN_LASTING_H
#define MOERUN_PLAN_LASTING_H

#include "runtime/base/arena.h"

/* Steps without a change after which placements are looked at: first, then
 * after twice as many each time, and last. */
enum { MOERUN_LASTING_FIRST = 8, MOERUN_LASTING_LAST = 1024 };

typedef struct moerun__lasting {
  int32_t num_ranks;  /* R */
  int32_t *speed;     /* [R] that placements follow, as moerun__speed.applied */
  int32_t *told;      /* [R] in the last step that was watched */
  int32_t calm;       /* steps since any of them changed */
  int64_t *changes;   /* [R] of the rank's speed up to the last look */
  double *relative;   /* [R] of the fastest rank's, those within the dead band
                        of it 1                                            */
  int32_t is_weighed; /* 1: some rank is slow or has been: loads and time count,
                        or nothing would come back to a rank that recovers */
} moerun__lasting;

void moerun__lasting_lay_out(moerun__lasting *lasting, moerun__arena *arena,
                             int32_t num_ranks);
/* All ranks as fast as each other. */
void moerun__lasting_clear(moerun__lasting *lasting);
/* At a look, for each rank: the speed that it applies and how often that has
 * changed. It is followed if it has not since the last look, and if it is
 * outside the dead band (MOERUN_SPEED_NOISE) of what was followed. */
void moerun__lasting_see(moerun__lasting *lasting, int32_t rank, int32_t speed,
                         int64_t changes);
/* After all ranks were seen. Returns 1 if what is followed has changed. */
int moerun__lasting_conclude(moerun__lasting *lasting);

/* In each step, with what all ranks told in it: speed[R]. Returns 1 where a
 * look is due: some rank is slow, or placements were made for one that was, and
 * nothing has changed for FIRST steps, for twice as many, and so on up to LAST.
 * What has lasted for n steps is taken to last for n more, so that moves which
 * do not repay at the first of these looks may at the next. */
int moerun__lasting_watch(moerun__lasting *lasting, const int32_t *speed);

#endif
