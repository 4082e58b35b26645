/* How long a wait for other ranks has lasted, in time in which this rank ran
 * itself: a stopped job (scontrol suspend, SIGSTOP, a closed lid) has not
 * waited. */
#ifndef MOERUN_COMM_PATIENCE_H
#define MOERUN_COMM_PATIENCE_H

#include <stdint.h>

/* One wait; all zero at its start. */
typedef struct moerun__patience {
  int64_t polls;
  int64_t gaps;       /* looks at the clock with too long a time before them */
  int64_t last_polls; /* of the last call, once the limit has passed */
  double look;        /* the clock at the last look; 0: not looked yet */
  double waited_s;
} moerun__patience;

/* Called after each poll that found nothing new; gives the core to others once
 * the wait is no longer short. Whether the limit (negative: none) has passed,
 * and the polls after it have not found anything either. */
int moerun__patience_is_over(moerun__patience *patience, double limit_s);

/* For tests: the clock of all waits of this process; NULL: moerun__now. */
void moerun__patience_set_clock(double (*clock)(void));

#endif
