/* A tier of the store: one place where weights of experts may be. Own slots,
 * guests and slices fill this table today; whatever keeps weights elsewhere
 * fills it again, is added to the store, and the expert stage does not change.
 * Only what plans send to other ranks must be in memory at its host.
 *
 * A slot is a place of one layer. Slots 0 .. num_slots - 1 are those of the
 * placement, those behind them are guests as the plan numbers them, and those
 * from MOERUN_FIRST_SLICE on are this rank's slices, by expert. */
#ifndef MOERUN_MOE_TIER_H
#define MOERUN_MOE_TIER_H

#include "comm/comm.h"
#include "runtime/model/model.h"
#include "runtime/plan/plan.h"

enum {
  MOERUN_NO_SLOT = -1,
  MOERUN_FIRST_SLICE = 1 << 16, /* rows name whole experts, by 16 bits */
};

/* Where the weights of a slot are, as one tier sees it. */
typedef enum moerun__presence {
  MOERUN_ABSENT = 0, /* not in this tier */
  MOERUN_COMING,     /* here after a wait */
  MOERUN_HERE,
} moerun__presence;

/* `self` is the tier. All but get may be NULL: then there is nothing to do. */
typedef struct moerun__tier_ops {
  const char *name;

  /* *out: the expert, borrowed until its release; NULL unless it is here. */
  moerun__presence (*get)(const void *self, const moerun__expert **out,
                          const moerun__layer *layer, int32_t slot);

  /* `plan` moves rows of the layer, whose weights come or leave from now on.
   * Both are borrowed until the end. */
  moerun_status (*begin)(void *self, const moerun__layer *layer,
                         const moerun__plan *plan);
  /* Rows for this slot are here: unless its weights are, they begin to come. Of
   * the slots that it has or awaits itself; so are wait and release. */
  moerun_status (*want)(void *self, const moerun__layer *layer, int32_t slot);
  /* The slot whose weights come as number i of those that come, or
   * MOERUN_NO_SLOT. It is asked once all of a wave are wanted, and the answers
   * stay the same until the last of them is released. */
  int32_t (*coming)(const void *self, const moerun__layer *layer, int32_t i);
  /* Until the weights are here. */
  moerun_status (*wait)(void *self, const moerun__layer *layer, int32_t slot);
  /* The rows that were here have gone through the expert. */
  moerun_status (*release)(void *self, const moerun__layer *layer,
                           int32_t slot);

  /* Moves on what can be without waiting. *obstacle: what must be over before
   * more can be, or NULL: nothing is left. */
  moerun_status (*forward)(void *self, moerun__transfer **obstacle);
  /* Until all that began in the layer is over. */
  moerun_status (*end)(void *self);
} moerun__tier_ops;

typedef struct moerun__tier {
  const moerun__tier_ops *ops;
  void *self; /* borrowed */
} moerun__tier;

#endif
