/* The expert stage in slices: every rank a part of every expert. */
#ifndef MOERUN_MOE_SLICED_H
#define MOERUN_MOE_SLICED_H

#include "runtime/moe/moe.h"
#include "runtime/plan/slice_costs.h"

/* Waves bring the rows of all ranks everywhere, with the experts that they want
 * in the place of slots, and go on with this rank's columns of their results.
 * In between inner activations go round by the exchange's `share`, so all ranks
 * come here in each wave. */
extern const moerun__expert_stage moerun__stage_sliced;

/* What a plan is offered of a layer, in the stage's memory; `work`: its own. */
moerun__slice_offer *moerun__sliced_offer_room(void *work);

/* Of h of one row through one expert, the inner activations. */
int64_t moerun__sliced_h_bytes(const moerun__moe *moe);

#endif
