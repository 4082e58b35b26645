/* The ways that a layer may go: how rows come to experts, and who computes with
 * them. The plan of a layer says which by its number in the session's table;
 * what is done of a layer that goes a way stands in its row. What a session
 * settles of slices before (slice_bytes, and for plans slice_costs and
 * always_slices) has members of its own in moe/moe.h and moe/balance.h. */
#ifndef MOERUN_MOE_WAY_H
#define MOERUN_MOE_WAY_H

#include "runtime/model/model.h"
#include "runtime/moe/exchange.h"
#include "runtime/plan/plan.h"
#include "runtime/report/counters.h"

/* What computes the rows that an exchange brings. It knows of the exchange
 * what moerun__wave says, and `share`. */
typedef struct moerun__expert_stage {
  /* Takes memory of its own; moe->shape is complete, and the store laid out.
   * Returns what its operations find as moe->stage.work; NULL while the bases
   * are NULL, when it only counts. */
  void *(*lay_out)(const moerun__moe *moe, moerun__arenas *arenas);
  /* The rows of the wave through their experts: its results, and of each part
   * how many there are. `wave`: its number, from 0 in each layer. */
  moerun_status (*compute)(moerun__moe *moe, const moerun__layer *layer,
                           int32_t wave);
} moerun__expert_stage;

/* One way. Rows may have an exchange or a stage in common, which then keeps its
 * memory once. */
typedef struct moerun__way {
  const char *name; /* a word, in reports and as a key of metrics */
  const moerun__exchange_ops *exchange;
  const moerun__expert_stage *stage;

  /* ---- Unless it is MOERUN_WAY_WHOLE, which is taken unless another is the
   * sooner one. `did` and `offer` must be there; NULL, of the others: none of
   * it ---- */

  const char *did;       /* what ranks did in layers that went this way */
  const char *bytes_key; /* of metrics: bytes that ranks sent for that */
  /* [collective] Learns as a session is made what offers go by; `weights`:
   * seconds to send an expert's; is_counted: speeds are counted and not
   * measured. */
  moerun_status (*measure)(moerun__moe *moe, double weights, int is_counted);
  /* A word that is added up over ranks before the plan of each layer, of the
   * experts' rows that this rank has in it. */
  int32_t (*word)(const moerun__moe *moe, int32_t terms);
  /* Fills *out but for its way, for a layer of a step of so many rows on all
   * ranks, or returns 0: it cannot go this way. `work`: the stage's. What *out
   * borrows stays until the layer is planned. */
  int (*offer)(void *work, moerun__way_offer *out, moerun__moe *moe,
               int32_t moe_layer, int64_t rows);
  /* Bytes that all ranks together send if the layer agreed on goes this way,
   * of so many experts' rows; `sum`: of the words. NULL: they are not
   * foretold. */
  int64_t (*bytes)(const moerun__moe *moe, int64_t terms, int64_t sum);
} moerun__way;

/* The first row is MOERUN_WAY_WHOLE. */
typedef struct moerun__way_table {
  const moerun__way *way[MOERUN_MOST_WAYS];
  int32_t count;
} moerun__way_table;

/* Those of this build. */
extern const moerun__way_table moerun__ways_known;
extern const moerun__way moerun__way_whole;
extern const moerun__way moerun__way_sliced;

/* The ways of a layer's session. */
typedef struct moerun__ways {
  const moerun__way_table *table; /* borrowed */
  int32_t now;                    /* of the layer under way */
  void *exchange_work[MOERUN_MOST_WAYS];
  void *stage_work[MOERUN_MOST_WAYS];
} moerun__ways;

/* The stage of the layer under way. */
typedef struct moerun__current_stage {
  const moerun__expert_stage *now;
  void *work; /* its own */
} moerun__current_stage;

/* The buffers of all exchanges and stages, as moerun__exchange_lay_out. */
void moerun__ways_lay_out(moerun__moe *moe, moerun__arenas *arenas);
/* Operations of moe->exchange and moe->stage are those of this way from now
 * on. */
void moerun__ways_take(moerun__moe *moe, int32_t way);

#endif
