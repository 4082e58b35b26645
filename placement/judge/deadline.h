/* A point in time after which a search returns the best that it has. */
#ifndef MOERUN_JUDGE_DEADLINE_H
#define MOERUN_JUDGE_DEADLINE_H

#include <math.h>
#include <stddef.h>

/* Seconds since some start; placement has no clock of its own. It is asked
 * again and again, without a limit too, so that a caller can show how long a
 * search has taken. */
typedef double (*moerun__clock)(void);

typedef struct moerun__deadline {
  moerun__clock clock; /* NULL: never */
  double at;
} moerun__deadline;

static inline moerun__deadline moerun__deadline_after(moerun__clock clock,
                                                      double seconds) {
  moerun__deadline deadline = {NULL, 0};
  if (clock == NULL) return deadline;
  deadline.clock = clock;
  deadline.at = seconds > 0 ? clock() + seconds : HUGE_VAL;
  return deadline;
}

static inline int moerun__deadline_passed(const moerun__deadline *deadline) {
  return deadline->clock != NULL && deadline->clock() >= deadline->at;
}

/* Seconds for a solver's own limit: 0 for none, else at least a millisecond. */
static inline double moerun__deadline_left(const moerun__deadline *deadline) {
  if (deadline->clock == NULL || isinf(deadline->at)) return 0;
  const double left = deadline->at - deadline->clock();
  return left > 1e-3 ? left : 1e-3;
}

#endif
