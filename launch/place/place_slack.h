/* What a larger --slack would buy where load caps make a placement cost more
 * than contiguous blocks, which break them. */
#ifndef MOERUN_PLACE_PLACE_SLACK_H
#define MOERUN_PLACE_PLACE_SLACK_H

#include "placement/methods/method.h"

typedef struct moerun__place_slack {
  int is_worse;       /* 1: blocks cost less and break the caps */
  double blocks_cost; /* of the problem's objective */
  double slack;       /* with which blocks are allowed; < 0: none is */
  double cost;        /* what the method finds with that */
} moerun__place_slack;

/* `cost` is that of what the method found for the problem, and blocks_cost that
 * of `blocks`. Methods that look at loads alone are not asked. */
moerun_status moerun__place_slack_find(moerun__place_slack *out,
                                       const moerun__problem *problem,
                                       const moerun__method *method,
                                       const moerun__method_options *options,
                                       const moerun_placement *blocks,
                                       double cost, double blocks_cost);

#endif
