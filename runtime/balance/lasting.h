/* Which speeds have lasted: what placements follow. A step's plan follows what
 * ranks tell at once; weights that move are worth it only for a slowness that
 * stays. Pure, and the same on all ranks, which see the same integers. */
#ifndef MOERUN_RUNTIME_BALANCE_LASTING_H
#define MOERUN_RUNTIME_BALANCE_LASTING_H

#include "runtime/base/arena.h"

typedef struct moerun__lasting {
  int32_t num_ranks; /* R */
  int32_t *speed;    /* [R] that placements follow, as moerun__speed.applied */
  int64_t *changes;  /* [R] of the rank's speed up to the last look */
  double *relative;  /* [R] of the fastest rank's, those within the dead band
                        of it 1                                            */
  int32_t counts;    /* 1: some rank is slow or has been: loads and time count,
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
/* After all ranks were seen. */
void moerun__lasting_conclude(moerun__lasting *lasting);

#endif
