/* Inside of replace.h: what its files share. */
#ifndef MOERUN_SERVE_REPLACER_H
#define MOERUN_SERVE_REPLACER_H

#include "runtime/plan/lasting.h"
#include "runtime/serve/replace.h"

#include <stdatomic.h>
#include <threads.h>

/* Letters: L MoE layers, R ranks. */

/* In front of a rank's rows. */
typedef struct moerun__box_head {
  int64_t rows_fed;  /* since the last look, or the move that it led to */
  int64_t rows_calm; /* since any rank's speed changed */
  int64_t speed;     /* as in moerun__speed: applied, and its changes */
  int64_t speed_changes;
} moerun__box_head;

/* What a rank has decided for its layers; behind it for each of them int32_t
 * changes (0: it stays as it is) and the new hosted[R][slots], expert or -1. */
typedef struct moerun__part_head {
  int64_t status;
  moerun__replace_count count; /* to be added */
} moerun__part_head;

/* The thread that decides beside the steps. It reads boxes, the speeds that are
 * followed, what a look has noted and the placement, none of which changes
 * meanwhile, and writes the part. */
typedef struct moerun__solver {
  thrd_t thread;
  int is_running;   /* from start until it was joined */
  atomic_int ended; /* 1: it can be joined without a wait */
  atomic_int stops; /* 1: it shall look at no further layer */
  moerun_status status;
  moerun__replace_count count;
  char error[256]; /* a thread has a last error of its own */
} moerun__solver;

/* What a step does: the same on all ranks. */
typedef enum moerun__replacer_phase {
  MOERUN_REPLACER_WATCHES, /* until a look is due       */
  MOERUN_REPLACER_DECIDES, /* until all ranks have      */
  MOERUN_REPLACER_MOVES,   /* until no layer is left    */
} moerun__replacer_phase;

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
  char *boxes; /* [R][stride] as of the last look */
  size_t stride;
  char *part;  /* own decision */
  char *parts; /* [R][part_bytes], on rank 0 */
  size_t part_bytes;
  size_t layer_ints;     /* of one layer in a part */
  int32_t own_layers;    /* this rank decides for */
  int64_t *expert_bytes; /* [own_layers] of packed weights */
  moerun__lasting lasting;
  int64_t rows_fed; /* as in the head */
  int64_t rows_calm;
  int32_t steps; /* since the last look, or the move that it led to */
  moerun__replacer_phase phase;
  int32_t rows_per_expert; /* what sending weights is worth, as of the look:
                              steps measure it anew meanwhile                */
  int32_t decides;  /* 0: the look under way only accounts for the last move */
  int32_t is_quick; /* 1: no new replicas are looked for, because a speed has
                       changed                                             */
  moerun__solver solver;
  moerun__replace_count count;
  moerun_placement *next;    /* the one that is being moved to; NULL: none */
  moerun_placement *current; /* NULL: the one the model came with */
  moerun_placement *retired; /* `before`, if it was made here */
  const moerun_placement *before; /* placement before the move of the last look;
                                     NULL: nothing moved                     */
};

/* A rank decides for the layers number rank, rank + R, …: how many there
 * are. */
int32_t moerun__replacer_layers(const moerun_placement *placement,
                                int32_t rank);

/* Rows that a ring holds after so many. */
static inline int32_t moerun__replacer_kept(const moerun__replacer *r,
                                            int64_t rows_fed) {
  return rows_fed < r->capacity ? (int32_t)rows_fed : r->capacity;
}

/* hosted[R][slots] of a layer in the part of the rank that decides for it; its
 * [-1] says whether the layer changes. */
static inline int32_t *moerun__replacer_hosted(const moerun__replacer *r,
                                               char *part, int32_t layer) {
  return (int32_t *)(part + sizeof(moerun__part_head)) +
         (size_t)(layer / r->model->comm->size) * r->layer_ints + 1;
}

/* Decides for one of this rank's layers from r->boxes: writes it into r->part
 * if it changes, and adds to *count what the last move has saved in it, and
 * with r->decides what the next one moves and saves. */
moerun_status moerun__replacer_decide(moerun__replacer *r,
                                      moerun__replace_count *count,
                                      int32_t layer);

/* For all of its layers, in a thread if that is wanted and can be had. */
void moerun__replacer_start(moerun__replacer *r);
/* [collective] *ended: whether all ranks have decided. */
moerun_status moerun__replacer_ended(moerun__replacer *r, int *ended);
/* Until it has; it looks at no further layer if it `stops`. */
void moerun__replacer_join(moerun__replacer *r, int stops);

/* [collective] Puts together what all ranks have decided and counts it. *next:
 * the placement to move to, the caller's; NULL: nothing moves. */
moerun_status moerun__replacer_agree(moerun__replacer *r,
                                     moerun_placement **next);

#endif
