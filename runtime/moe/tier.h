/* A tier of the store: one place where weights of experts may be. Own slots,
 * guests and slices fill this table today; whatever keeps weights elsewhere
 * fills it again and is added to the store: neither the store nor the expert
 * stage changes. With a tier that is added, no rows move and no experts do:
 * balancing and replacing send weights from the model's own slots.
 *
 * A slot is a place of one layer. Slots 0 .. num_slots - 1 are those of the
 * placement, those behind them are guests as the plan numbers them, and those
 * from MOERUN_FIRST_SLICE on are this rank's slices, by expert. */
#ifndef MOERUN_MOE_TIER_H
#define MOERUN_MOE_TIER_H

#include "comm/comm.h"
#include "runtime/base/arena.h"
#include "runtime/model/model.h"
#include "runtime/plan/plan.h"

enum {
  MOERUN_NO_SLOT = -1,
  MOERUN_FIRST_SLICE = 1 << 16, /* rows name whole experts, by 16 bits */
};

/* Whose memory weights of experts lie in, where kernels use them and where
 * messages of them begin and end: the host's, locked for the device. */
#define MOERUN_MEMORY_WEIGHTS MOERUN_MEMORY_HOST

/* Where the weights of a slot are, as one tier sees it. */
typedef enum moerun__presence {
  MOERUN_ABSENT = 0, /* not in this tier */
  MOERUN_COMING,     /* here after a wait */
  MOERUN_HERE,
} moerun__presence;

/* `self` is the tier. All but get may be NULL: then there is nothing to do. */
typedef struct moerun__tier_ops {
  const char *name;

  /* ---- A session is made, in this order, and goes ---- */

  /* Takes memory from the arenas; while their bases are NULL it only counts,
   * maybe for another session, and what the tier has stays as it is. */
  void (*lay_out)(void *self, moerun__arenas *arenas);
  /* The model's placement is known, or has changed between two steps. */
  void (*adopt_placement)(void *self);
  /* Kernels of this device compute with its experts until close: what lies
   * outside the arenas is locked for them, what open will allocate too. */
  moerun_status (*adopt_device)(void *self, const moerun__device *device);
  /* Transfers that create_transfers creates, each for 0 bytes of its own; known
   * once memory has been counted. */
  int32_t (*num_transfers)(const void *self);
  moerun_status (*create_transfers)(void *self);
  /* [collective] Learns of the other ranks what it must before the first step.
   * `row_seconds`: of one row through an expert here; 0 on any rank: all are
   * equally fast. get may be asked even before. */
  moerun_status (*open)(void *self, double row_seconds);
  /* Bytes that open allocates beside the arenas, if whole experts are of this
   * shape and all ranks equally fast. */
  size_t (*open_bytes)(const void *self, const moerun__expert_shape *whole);
  /* Frees what create_transfers and open have made and unlocks what is locked;
   * also after any of these failed or was not called. */
  void (*close)(void *self);

  /* ---- A layer and its waves ---- */

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
  void *self; /* borrowed, and of one session at a time */
} moerun__tier;

#endif
