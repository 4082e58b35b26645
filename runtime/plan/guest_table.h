/* Who holds whose weights for a while. The same on all ranks, because it
 * follows from the plans, so that a weight is sent only where it is missing.
 *
 * Every layer has entries of its own, which other layers never take: a layer
 * that needed the same guests in every step would else lose them to the layers
 * after it before it was computed again. A few entries are shared by all
 * layers, so that there are guests where memory does not suffice for every
 * layer. */
#ifndef MOERUN_PLAN_GUEST_TABLE_H
#define MOERUN_PLAN_GUEST_TABLE_H

#include "runtime/base/arena.h"

enum {
  MOERUN_NO_GUEST = -1,
  MOERUN_SHARED_GUESTS = 2, /* entries of a rank that all layers share, and the
                               remainder of a division by layers           */
};

typedef struct moerun__guest_table {
  int32_t num_ranks;  /* R */
  int32_t num_layers; /* MoE layers */
  int32_t per_rank;   /* G: entries of a rank */
  int32_t reserved;   /* of them for each layer alone */
  int32_t shared;     /* and those of no layer: G - reserved * layers */
  int32_t
      per_layer; /* reserved + shared: guests that a plan can use on a rank; it
                         numbers them 0.. and those reserved come first     */
  int64_t plans; /* so far */
  int64_t *key;  /* [R][G] layer * E + expert, or -1 */
  int64_t *used; /* [R][G] number of the last plan that used it */
  int32_t *patience; /* [num_layers] plans in a row that ended uneven since
                         weights were last sent: see plan.c              */
} moerun__guest_table;

void moerun__guest_table_lay_out(moerun__guest_table *table,
                                 moerun__arena *arena, int32_t num_ranks,
                                 int32_t num_layers, int32_t per_rank);
/* Fewer entries than there is memory for, from now on; forgets all guests. */
void moerun__guest_table_shrink(moerun__guest_table *table, int32_t per_rank);
void moerun__guest_table_clear(moerun__guest_table *table);

/* Of [R][G]: number `guest` of a plan of the layer on this rank. */
static inline size_t moerun__guest_table_entry(const moerun__guest_table *table,
                                               int32_t rank, int32_t layer,
                                               int32_t guest) {
  const int32_t at =
      guest < table->reserved
          ? layer * table->reserved + guest
          : table->num_layers * table->reserved + guest - table->reserved;
  return (size_t)rank * (size_t)table->per_rank + (size_t)at;
}

/* The number of the guest with this key; MOERUN_NO_GUEST: it is not there. */
int32_t moerun__guest_table_find(const moerun__guest_table *table, int32_t rank,
                                 int32_t layer, int64_t key);

/* Nobody holds the last guest of a rank any more, which all layers share. */
void moerun__guest_table_forget_last(moerun__guest_table *table);

/* The plan under way uses this guest, which has this key from now on. */
void moerun__guest_table_use(moerun__guest_table *table, int32_t rank,
                             int32_t layer, int32_t guest, int64_t key);
/* The guest of the layer that has not been used for longest; ties to the lower
 * number. */
int32_t moerun__guest_table_oldest(const moerun__guest_table *table,
                                   int32_t rank, int32_t layer);

#endif
