/* The most rows that an expert takes in one layer of one step, and which
 * assignments of tokens to experts go or come to keep it: a pure function
 * without communication. Lossy: nothing here runs unless it was asked for.
 *
 * Which of an expert's assignments stay follows from a total order:
 *
 *   the token's best expert, with keep_top1
 *   priority class, low first
 *   metric
 *   position, then request, then expert, each low first
 *
 * so that neither the order of rows nor a tie has a say, and never more than C
 * stay (but for keep_top1). A score that is NaN is the lowest of all. With
 * MOERUN_EXPANSION_FILL what is added goes through the same a second time, for
 * what the gate's choices left of each C. */
#ifndef MOERUN_PLAN_CAPACITY_H
#define MOERUN_PLAN_CAPACITY_H

#include "runtime/base/arena.h"
#include "runtime/plan/weight.h"

/* Whose tokens C is a share of, and who competes. */
typedef enum moerun__capacity_scope {
  MOERUN_SCOPE_SOURCE = 0, /* the tokens of one rank, before they leave it */
  MOERUN_SCOPE_GLOBAL,     /* the tokens of all ranks                      */
  MOERUN_SCOPE_REQUEST,    /* the tokens of one request in one window of
                              positions: other requests have no say        */
} moerun__capacity_scope;

typedef enum moerun__capacity_level {
  MOERUN_LEVEL_EXPERT = 0, /* at most C rows for each expert              */
  MOERUN_LEVEL_RANK,       /* at most C times its experts for each rank */
} moerun__capacity_level;

typedef enum moerun__capacity_metric {
  MOERUN_METRIC_SCORE = 0, /* highest score first */
  MOERUN_METRIC_FIRST,     /* lowest (request, position) first */
  MOERUN_METRIC_LAST,      /* highest (request, position) first */
  MOERUN_METRIC_HASH,      /* at random by (seed, layer, expert, request,
                              position), without the request in its scope */
  MOERUN_METRIC_WEIGHT, /* highest gate weight first: where a gate normalises,
                           flat scores do not put a token behind others      */
} moerun__capacity_metric;

/* Whether experts that the gate did not choose are candidates too. */
typedef enum moerun__capacity_expansion {
  MOERUN_EXPANSION_OFF = 0,
  MOERUN_EXPANSION_PAPER, /* they compete with the gate's choices */
  MOERUN_EXPANSION_FILL,  /* they take what room the gate's choices leave; a
                             token that lost experts asks for as many of its
                             best candidates                                  */
} moerun__capacity_expansion;

typedef struct moerun__capacity_options {
  int32_t gamma; /* capacity over the even share, in thousandths */
  moerun__capacity_scope scope;
  moerun__capacity_level level;
  moerun__capacity_metric metric;
  moerun__capacity_expansion expansion;
  moerun__weight_rule rule;
  int32_t most_added; /* most experts that a token may ask for in an
                         expansion, its best ones; 0: as many as it lost
                         (MOERUN_EXPANSION_FILL) or all candidates       */
  int32_t window;     /* positions, for the scope request */
  int keep_top1;      /* never drop a token's first expert */
  int decode;         /* 0: tokens that are decoded are left as they are */
  uint64_t seed;      /* of the metric hash */
} moerun__capacity_options;

/* The rows of one layer: real tokens only. (request, position) names a token
 * and is the same on whatever rank it is. */
typedef struct moerun__capacity_rows {
  int32_t T;
  int32_t layer;
  int32_t *ids;        /* [T][W] the first K from the gate, the rest not read */
  float *weight;       /* [T][W] */
  const float *scores; /* [T][choices] softmax over all, or sigmoid */
  const int32_t *request;  /* [T] */
  const int32_t *position; /* [T] within the request */
  const uint8_t *priority; /* [T] class, 0 dropped last; NULL: all are 0 */
  const uint8_t *decoded;  /* [T] 1: not of a prompt; NULL: all are 0 */
  const int32_t *extra;    /* [num_extra] distinct candidates of an expansion:
                              experts of this rank, or in the scope request a
                              list that is fixed by configuration           */
  int32_t num_extra;
  const int32_t *rank_of_expert; /* [E] for the level rank */
} moerun__capacity_rows;

/* Sums; the caller sets them to 0. Masses are gate weights, NaN taken as 0. */
typedef struct moerun__capacity_counts {
  int64_t tokens;      /* that a capacity was enforced on */
  int64_t candidates;  /* their assignments from the gate */
  int64_t offered;     /* candidates of an expansion */
  int64_t dropped;     /* of candidates */
  int64_t added;       /* of offered */
  int64_t lost_all;    /* tokens with no expert left */
  int64_t over;        /* experts or ranks with more candidates than C; for
                         the scope global the same number on every rank    */
  int64_t not_numbers; /* candidates whose score is NaN */
  double mass;         /* of the gate's choices */
  double mass_dropped;
  double mass_added;
} moerun__capacity_counts;

/* A candidate of an expert or rank over its capacity, with its place in the
 * total order. Eight 32-bit integers, sent as they are. */
typedef struct moerun__capacity_record {
  int32_t group; /* expert or rank */
  uint32_t standing;
  uint32_t metric[2];
  int32_t position;
  int32_t request;
  int32_t expert;
  int32_t at; /* t * W + j on its own rank */
} moerun__capacity_record;

typedef struct moerun__capacity_sizes {
  int32_t num_experts;       /* E */
  int32_t num_choices;       /* of the gate: E, or more with experts at home */
  int32_t experts_per_token; /* K */
  int32_t width;             /* W: moerun__capacity_width */
  int32_t num_ranks;         /* for the level rank */
  int32_t max_tokens;
  int64_t max_records; /* for the scope global, of all ranks together; 0:
                          max_tokens * width                             */
} moerun__capacity_sizes;

typedef struct moerun__capacity {
  moerun__capacity_options options;
  moerun__capacity_sizes sizes;
  int32_t num_groups;  /* E or num_ranks */
  int32_t round;       /* 1 while what is added is decided after the rest */
  int32_t num_over;    /* groups with more candidates than room, last round */
  int64_t sum_over;    /* of first rounds */
  int32_t num_records; /* of this rank */
  int64_t *demand;     /* [num_groups + 1] candidates, then tokens; see offer */
  int64_t *limit;      /* [num_groups] rows that a group may take this round */
  int64_t *room;       /* [num_groups] what the gate's choices leave of it */
  int64_t *rows_after; /* [E] of the last call's tokens, decoded ones too */
  uint8_t *kept;       /* [T][W] */
  int32_t *members;    /* [num_members] tokens that it is enforced on */
  int32_t num_members;
  moerun__capacity_record *records; /* [max_tokens * W] of this rank */
  int32_t *queue;                   /* [max_records] records by group */
  int32_t *queue_offset;            /* [num_groups + 1] */
} moerun__capacity;

/* ERR_INVALID for options that mean nothing together. */
moerun_status moerun__capacity_check(const moerun__capacity_options *options);

/* W, the most experts of a token before and after, if an expansion has at most
 * max_extra candidates. */
int32_t moerun__capacity_width(const moerun__capacity_options *options,
                               int32_t K, int32_t max_extra);

/* Counts, or hands out. */
void moerun__capacity_lay_out(moerun__capacity *capacity, moerun__arena *arena,
                              const moerun__capacity_options *options,
                              const moerun__capacity_sizes *sizes);

/* C = max(1, ceil(gamma / 1000 * tokens * K / E)), exactly. E is what the gate
 * chooses among, experts at home included. */
int64_t moerun__capacity_of(int32_t gamma, int64_t tokens, int32_t K,
                            int32_t E);

/* Rows of K entries, one behind the other as the gate writes them, to rows of
 * W, in place: the new entries are -1 and 0. */
void moerun__capacity_spread(int32_t *ids, float *weight, int32_t T, int32_t K,
                             int32_t W);

/* Scopes source and request: all of it. Afterwards ids holds for each token
 * the gate's choices that stay in gate order, those added by score, then -1;
 * weight by the rule, 0 where there is no expert. A token
 * whose experts did not change keeps its weights bit for bit (but for
 * MOERUN_WEIGHT_NONE). */
void moerun__capacity_apply(moerun__capacity *capacity,
                            const moerun__capacity_rows *rows,
                            moerun__capacity_counts *counts);

/* Scope global, in parts with the caller's exchanges between them:
 *
 *   offer    then capacity->demand[num_groups + 1] is summed over all ranks
 *   collect  with that sum; then the num_records of capacity->records are
 *            gathered from all ranks, unless num_over is 0, as all ranks know.
 *            Of a group they are at most what it may take and those pinned
 *   cut      with all records, of which this rank's begin at `first_own`
 *   goes_on  if so, as all ranks know, again from after offer
 *   finish   leaves ids and weight as apply does
 *
 * The order in which ranks stand in `records` does not matter. ERR_COMM if a
 * record is not one. */
void moerun__capacity_offer(moerun__capacity *capacity,
                            const moerun__capacity_rows *rows);
void moerun__capacity_collect(moerun__capacity *capacity,
                              const moerun__capacity_rows *rows,
                              const int64_t *total);
moerun_status moerun__capacity_cut(moerun__capacity *capacity,
                                   const moerun__capacity_record *records,
                                   int64_t num_records, int64_t first_own);
int moerun__capacity_goes_on(moerun__capacity *capacity,
                             const moerun__capacity_rows *rows);
void moerun__capacity_finish(moerun__capacity *capacity,
                             const moerun__capacity_rows *rows,
                             moerun__capacity_counts *counts);

#endif
