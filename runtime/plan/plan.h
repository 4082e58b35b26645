/* Which rank computes which rows of one MoE layer in one step: a pure function
 * of integers that every rank knows, so that all come to the same plan.
 *
 * Only where work is done changes, never its result. What is moved are rows of
 * one replica of an expert: to another replica of it, or to a rank that holds
 * or is sent a copy of its weights for a while, a guest. The method is
 * least-loaded expert parallelism (LLEP, arXiv 2601.17111) with time in place
 * of rows, so that slow ranks get less and ranks that wait for weights too, and
 * four repairs: a rank gives away its excess and no more; a crumb never sends
 * an expert; a rank gets each expert once; and a plan that would not end sooner
 * is dropped. */
#ifndef MOERUN_PLAN_PLAN_H
#define MOERUN_PLAN_PLAN_H

#include "runtime/base/limits.h"
#include "runtime/plan/guest_table.h"

enum {
  MOERUN_WAY_WHOLE = 0, /* whole experts, as routed or with rows moved */
};

enum {
  MOERUN_SPEED_OCTAVE = 16, /* steps of speed from one power of 2 to the next */
  MOERUN_SLOWEST = 80,      /* steps behind the fastest rank that count */
  MOERUN_SPEED_NOISE = 2,   /* steps behind the fastest rank that do not */
  MOERUN_SPEED_BITS = 16,
  MOERUN_SPEED_ONE = 1 << MOERUN_SPEED_BITS, /* of the fastest rank, in plans */
};

typedef struct moerun__plan_options {
  int32_t threshold; /* plan if the slowest rank would take this over the mean
                        time, in thousandths: lambda                         */
  int32_t threshold_held; /* the same for rows that move to where the weights
                             are already                                     */
  int32_t slack;         /* budget over the even share, in thousandths: alpha */
  int32_t min_rows;      /* fewest rows that an expert's weights are sent for;
                            of a slow rank as many as take it that long      */
  int32_t min_rows_held; /* the same where the weights are already */
  int32_t weight_rows;   /* rows that the fastest rank computes while one
                            expert's weights are sent                    */
} moerun__plan_options;

typedef struct moerun__plan moerun__plan;
typedef struct moerun__demand moerun__demand;

/* Another way than whole experts, for one layer of a step. */
typedef struct moerun__way_offer {
  int32_t way;       /* its number, above MOERUN_WAY_WHOLE */
  int32_t is_spread; /* 1: all ranks compute a part of every row, as much as
                        their speeds say; 0: rows are computed where they are
                        routed                                              */
  /* Nanoseconds by which the layer is over sooner than by the plan so far, as
   * far as that is certain; below 1: not, INT64_MAX: take it in any case. A
   * pure function of what all ranks know. */
  int64_t (*gain)(const void *self, moerun__plan *plan,
                  const moerun__demand *demand);
  const void *self; /* borrowed */
} moerun__way_offer;

/* What a plan is made of: all ranks know the same, but for `own` and `before`,
 * which only say what of the plan is this rank's (plan_split). Replica h is
 * replica first_replica + h of the placement: all of the layer's, in its
 * order. */
struct moerun__demand {
  int32_t layer;        /* MoE layer */
  int32_t num_ranks;    /* R */
  int32_t num_replicas; /* P */
  int32_t num_experts;  /* E */
  int32_t first_replica;
  const int32_t *
      replica_of_expert; /* [E + 1] first replica of each, plus first_replica */
  const int32_t *rank_of; /* [P] ascending for each expert */
  const int32_t *slot_of; /* [P] */
  const int32_t *rows;    /* [P] of all ranks for each replica */
  const int32_t *own;     /* [P] of them those of this rank */
  const int32_t *before;  /* [P] and those of the ranks below it */
  const int32_t *speed; /* [R] logarithm of the rank's speed in sixteenths of a
                             factor of 2                                     */
  const moerun__way_offer *offers; /* [num_offers] by number of the way */
  int32_t num_offers;
};

/* `rows` rows of a replica go to `rank`. */
typedef struct moerun__move {
  int32_t replica;
  int32_t rank;
  int32_t rows;
  int32_t slot;  /* among the rank's own slots; guest: MOERUN_NO_GUEST */
  int32_t guest; /* among its guests, or MOERUN_NO_GUEST */
  int32_t sends; /* 1: the rank is sent the weights */
} moerun__move;

/* An expert's weights to the rank of a move. A rank sends and receives in the
 * order of the plan's sends, in which weights come to a rank before they leave
 * it: nothing waits in a circle. */
typedef struct moerun__send {
  int32_t move;
  int32_t from;      /* rank */
  int32_t from_slot; /* among its own slots; a guest: MOERUN_NO_GUEST */
  int32_t from_move; /* to it, whose guest it is; -1: none */
  int32_t turn;      /* that it arrives in, from 1; each takes weight_rows */
} moerun__send;

/* Moves of one expert whose weights are there or are sent: see tree.h. */
typedef struct moerun__tree {
  int32_t first_replica; /* of the expert */
  int32_t last_replica;
  int32_t first; /* of plan->places */
  int32_t next;  /* to be sent the weights */
  int32_t last;
} moerun__tree;

/* Where rows of one source and one replica go: `rows` of them to (rank,
 * slot). */
typedef struct moerun__portion {
  int32_t rank;
  int32_t slot;
  int32_t guest;
  int32_t rows;
} moerun__portion;

/* Why ranks wait although there is a plan: rows of the fastest rank's time.
 * All 0 where the plan ends evenly. */
typedef struct moerun__plan_obstacle {
  int32_t is_room;      /* 1: there is too little memory for guests; 0: their
                           weights would take too long                      */
  int64_t waiting_rows; /* that the last rank works on when all could have
                           ended                                            */
  int64_t weight_rows;  /* in whose time the weights would come that would
                           make an end of that                              */
} moerun__plan_obstacle;

struct moerun__plan {
  int32_t num_ranks;
  int32_t max_moves;
  int32_t way;       /* number of the way that the layer goes; only
                        MOERUN_WAY_WHOLE has moves                          */
  int32_t is_spread; /* 1: all ranks compute a part of every row */
  int32_t num_moves;
  moerun__move *moves; /* [max_moves] by replica, then rank */
  int64_t *before;     /* [R] rows of each rank as routed */
  int64_t *load;       /* [R] and as planned */
  int64_t *budget;     /* [R] */
  int32_t *speed;      /* [R] of MOERUN_SPEED_ONE */
  int32_t num_sends;
  moerun__send *sends;       /* [max_moves] by turn on each rank */
  int32_t *staying;          /* [2 * max_moves] see plan_stay */
  moerun__portion *portions; /* [2 * max_moves] of this rank, see plan_split */
  int32_t *portion_of;       /* [P + 1] first portion of each replica */
  int32_t *next_portion;     /* [P] */
  int64_t *replica_rows;     /* [P] rows of each replica, as routed */
  int64_t *kept;    /* [P] scratch: of them that it has not given away */
  int32_t *holders; /* [P] scratch: of expert e, ranks that hold it */
  moerun__plan_obstacle obstacle;
  int32_t *order;   /* [max(P, R)] scratch */
  int32_t *guests;  /* [R] scratch: guests this plan uses */
  int64_t *reserve; /* [R] rows left out of the budget for time it waits */
  int64_t *best;    /* [R] scratch: reserves of the best plan so far */
  int64_t *lost;    /* [R] rows it could compute while it waits for weights */
  int64_t *late;    /* [R] scratch */
  int32_t *link;    /* [2][R] scratch: last turn of a rank, out and in */
  int32_t *places;  /* [max_moves] scratch: moves, by tree */
  int32_t *turn;    /* [max_moves] scratch: in which the weights come */
  moerun__tree *trees; /* [max_moves] scratch */
};

void moerun__plan_lay_out(moerun__plan *plan, moerun__arena *arena,
                          int32_t num_ranks, int32_t max_replicas);

/* Steps that a rank of this speed counts as behind the fastest: within what a
 * measurement is off by (MOERUN_SPEED_NOISE), none. */
static inline int32_t moerun__plan_behind(int32_t fastest, int32_t speed) {
  const int32_t behind = fastest - speed;
  return behind > MOERUN_SPEED_NOISE ? behind : 0;
}

/* Relative speed of a rank `behind` steps behind the fastest. */
int32_t moerun__plan_speed(int32_t behind);

/* share[R] of `total` rows so that all end at once, as whole rows that add up
 * to the total: largest remainders, ties to the lower rank. */
void moerun__plan_shares(int64_t *share, int64_t total, const int32_t *speed,
                         int32_t num_ranks);
/* That of one rank where all speeds are equal. */
int64_t moerun__plan_even_share(int64_t total, int32_t num_ranks, int32_t rank);

/* The plan for all ranks: moves, none if that is best, or of the ways offered
 * the one that gains most on either, of equals the first. `guests` is brought
 * up to date with what the plan sends; per_rank may be 0. */
void moerun__plan_solve(moerun__plan *plan, moerun__guest_table *guests,
                        const moerun__demand *demand,
                        const moerun__plan_options *options);

/* After plan_solve with moves: how many rows stay on the rank that they are of,
 * for each rank to which a replica's rows go. Writes this rank's into
 * plan->staying and 0 for all others, and returns how many words these are, on
 * all ranks the same: they are then to be summed over ranks. */
int32_t moerun__plan_stay(moerun__plan *plan, const moerun__demand *demand,
                          int32_t rank);

/* After that: where the rows of `rank` go. Those of replica h are, in the order
 * of its tokens, the portions portion_of[h] .. portion_of[h + 1] - 1; no
 * portions: all go to the replica. A source's rows go to its own rank first, so
 * that moving them costs no traffic. */
void moerun__plan_split(moerun__plan *plan, const moerun__demand *demand,
                        int32_t rank);

/* After plan_split, once for each row of a replica in the order of tokens:
 * where it goes, or NULL if the replica's rows are not moved. Borrowed. */
const moerun__portion *moerun__plan_next(moerun__plan *plan, int32_t replica);

/* Rows of the busiest rank, as routed and as planned; and the time of the rank
 * that ends last over that of ranks which all end at once, in thousandths. */
typedef struct moerun__plan_peaks {
  int64_t rows_before;
  int64_t rows_after;
  int64_t total;
  int64_t time_before;
  int64_t time_after;
} moerun__plan_peaks;
moerun__plan_peaks moerun__plan_peaks_of(const moerun__plan *plan);

/* Tells plans apart: ranks compare it before they act. */
uint32_t moerun__plan_digest(const moerun__plan *plan);

#endif
