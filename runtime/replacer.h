/* Inside of replace.h: what its files share. */
#ifndef MOERUN_RUNTIME_REPLACER_H
#define MOERUN_RUNTIME_REPLACER_H

#include "runtime/balance/lasting.h"
#include "runtime/replace.h"

/* Letters: L MoE layers, R ranks. */

/* In front of a rank's rows. */
typedef struct moerun__box_head {
  int64_t rows_fed; /* since the last look */
  int64_t speed;    /* as in moerun__speed: applied, and its changes */
  int64_t speed_changes;
} moerun__box_head;

/* What a rank has decided for its layers; behind it for each of them int32_t
 * changes (0: it stays as it is) and the new hosted[R][slots], expert or -1. */
typedef struct moerun__part_head {
  int64_t status;
  moerun__replace_count count; /* to be added */
} moerun__part_head;

struct moerun__replacer {
  moerun_session *session;
  moerun_model *model;
  moerun__replace_options options;
  int32_t capacity;    /* rows kept of this rank */
  int32_t slots;       /* most of a (layer, rank) in a new placement */
  int32_t spare_slots; /* of these beyond ceil(E / R) */
  size_t row_bytes;    /* of one row: L * K ids */
  size_t box_bytes;    /* head and rows */
  void *block;
  char *box;   /* own; rows in a ring */
  char *boxes; /* [R][box_bytes] */
  char *part;  /* own decision */
  char *parts; /* [R][part_bytes], on rank 0 */
  size_t part_bytes;
  size_t layer_ints;     /* of one layer in a part */
  int32_t own_layers;    /* this rank decides for */
  int64_t *expert_bytes; /* [own_layers] of packed weights */
  moerun__lasting lasting;
  int64_t rows_fed;
  int32_t steps; /* since the last look */
  moerun__replace_count count;
  moerun_placement *current;      /* NULL: the one the model came with */
  moerun_placement *retired;      /* the one before, if it was made here */
  const moerun_placement *before; /* placement before the move of the last look;
                                     NULL: nothing moved                     */
};

/* A rank decides for the layers number rank, rank + R, …: how many there are. */
int32_t moerun__replacer_layers(const moerun_placement *placement,
                                int32_t rank);

/* Rows that a ring holds after so many. */
static inline int32_t moerun__replacer_kept(const moerun__replacer *r,
                                            int64_t rows_fed) {
  return rows_fed < r->capacity ? (int32_t)rows_fed : r->capacity;
}

/* Fills r->part behind its head from r->boxes, `stride` bytes each, and counts
 * for this rank's layers what the last move has saved; with `decides` also what
 * the next one moves and saves. */
moerun_status moerun__replacer_decide(moerun__replacer *r,
                                      moerun__replace_count *count,
                                      size_t stride, int decides);

#endif
