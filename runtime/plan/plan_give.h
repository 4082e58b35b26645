/* How a plan comes by its moves: ranks over their budgets give rows away. */
#ifndef MOERUN_PLAN_PLAN_GIVE_H
#define MOERUN_PLAN_PLAN_GIVE_H

#include "runtime/plan/plan.h"

/* How a rank comes by an expert's weights. */
typedef enum moerun__access {
  MOERUN_ACCESS_HOSTS,   /* the rank has the expert */
  MOERUN_ACCESS_HOLDS,   /* it has it as a guest */
  MOERUN_ACCESS_IS_SENT, /* it would be sent it */
  MOERUN_ACCESS_NONE,    /* it has no room for it */
} moerun__access;

/* What a solve looks at all the time. */
typedef struct moerun__giver {
  moerun__plan *plan;
  const moerun__guest_table *guests;
  const moerun__demand *demand;
  moerun__plan_options full_price; /* as asked for */
  moerun__plan_options options;    /* what the plan reckons with */
  moerun__access last_access; /* IS_SENT, or HOLDS where sending does not pay */
  int32_t replica;            /* that gives rows away */
  int32_t expert;
  int32_t first_move; /* of this replica */
} moerun__giver;

/* plan->holders: on how many ranks each expert of the layer is a guest. */
void moerun__plan_see_holders(moerun__giver *s);

/* Rows of this rank that take as long as `rows` rows of the fastest, 1 at
 * least. */
int64_t moerun__plan_fewest(const moerun__plan *plan, int32_t rank,
                            int64_t rows);

/* plan->moves in order and plan->load, for plan->budget. */
void moerun__plan_give(moerun__giver *s);

/* After plan_give: numbers the guests of the moves, those that are there first,
 * so that none of them makes room for a new one. */
void moerun__plan_seat_guests(moerun__plan *plan, moerun__guest_table *guests,
                              const moerun__demand *demand);

#endif
