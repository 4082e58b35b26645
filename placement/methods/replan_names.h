/* Which rank each part of a solved layer becomes. */
#ifndef MOERUN_METHODS_REPLAN_NAMES_H
#define MOERUN_METHODS_REPLAN_NAMES_H

#include "placement/methods/replan.h"

typedef struct moerun__naming {
  const moerun_placement *solved; /* parts as ranks of any name */
  const moerun_placement *current;
  const moerun__trace *trace; /* with homes */
  const moerun__replan_costs *costs;
  const double *speed; /* [R] parts stay on ranks of their own speed */
  double horizon;      /* times that the trace's rows are to come */
} moerun__naming;

/* What was solved, on the ranks where most weights can stay and most rows are
 * at home, in bytes. */
moerun_status moerun__replan_name(moerun_placement **out,
                                  const moerun__naming *naming);

#endif
