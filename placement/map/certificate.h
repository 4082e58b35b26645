/* How a placement was found and what it is worth, kept in its file: enough to
 * repeat the solve and to check every number by the trace. */
#ifndef MOERUN_MAP_CERTIFICATE_H
#define MOERUN_MAP_CERTIFICATE_H

#include "runtime/base/text.h"

#include <jansson.h>

typedef enum moerun__objective {
  MOERUN_OBJECTIVE_FANOUT = 0, /* distinct ranks that a token's K experts are
                                  on, per layer: rows of home mode           */
  MOERUN_OBJECTIVE_CUT,        /* all K^2 pairs (term of layer l, term of layer
                                  l + 1) on different ranks: coherent mode   */
  MOERUN_OBJECTIVE_WEIGHTED,   /* the same pairs weighted by distance: 0 same
                                  rank, a same node, b other node            */
  MOERUN_OBJECTIVE_TAIL,       /* the same pairs, between two layers on the link
                                  of two ranks that has the most of them     */
} moerun__objective;

/* What a placement does to a trace (train or held out), replicas included. */
typedef struct moerun__judgement {
  double fanout;      /* distinct ranks per token and layer, mean            */
  double remote;      /* of them not the home rank: rows out                 */
  double returned;    /* terms served by another rank than the home: rows
                         back with the exact combine                         */
  double node_fanout; /* distinct nodes per token and layer                  */
  double cut;         /* share of pairs on different ranks                   */
  double node_cut;    /* share of pairs on different nodes                   */
  double weighted;    /* mean distance weight of a pair                      */
  double tail;        /* largest traffic of a (rank, other rank) link between
                         two layers, summed over the boundaries, relative to
                         an even spread of all pairs over R^2 links          */
  double load;        /* max/mean rank load per unit of speed, mean over
                         layers                                              */
  double worst_load;  /* max over layers                                     */
  double row_load;    /* the same two in rows, whatever the speeds           */
  double worst_row_load;
  int64_t rows_out;  /* with homes given: remote, summed                    */
  int64_t rows_back; /* with homes given: returned, summed                  */
} moerun__judgement;

/* Judged on the sequences trained on, and on the others. */
enum { MOERUN_TRAIN, MOERUN_HELD_OUT, MOERUN_NUM_HALVES };

typedef struct moerun__certificate {
  char *topology;        /* one line, see moerun__topology_parse  */
  char *objective;       /* "fanout", "cut", "weighted", "tail"   */
  char *train;           /* "even" (sequences 0, 2, …) or "all"   */
  uint64_t trace_digest; /* of the whole trace                    */
  int64_t seed;
  double slack;
  double seconds; /* the solve took                        */
  double cost;    /* the objective on what was trained on  */
  double bound;   /* no placement within the caps costs less; < 0: none known */
  double gap;     /* moerun__gap, < 0: none                                   */
  int32_t proven; /* 1: no placement within the caps costs less than this one */
  int32_t has_held_out;
  moerun__judgement before[MOERUN_NUM_HALVES]; /* contiguous blocks */
  moerun__judgement after[MOERUN_NUM_HALVES];
} moerun__certificate;

moerun_status moerun__certificate_create(moerun__certificate **out,
                                         const char *topology,
                                         const char *objective,
                                         const char *train);
void moerun__certificate_destroy(moerun__certificate *certificate);

/* The share of the traffic avoided, at best, that the placement leaves on the
 * wire: (cost - bound) / (worst - bound), where `worst` is what the objective
 * costs when nothing is avoided. -1 without a bound. */
double moerun__gap(double cost, double bound, double worst);

/* "fanout", …; by name -1 for none. */
const char *moerun__objective_name(moerun__objective objective);
int moerun__objective_find(const char *name);

/* Number i of a judgement's values with its name, in the file and in tables;
 * 0 beyond the last. */
int moerun__judgement_at(const moerun__judgement *judgement, int i,
                         const char **name, double *value);
/* All of them as a member `name` of an object in JSON. */
moerun_status moerun__judgement_print(moerun__text *out, const char *name,
                                      const moerun__judgement *judgement);

/* As a JSON object; `indent` goes in front of every line but the first. */
moerun_status moerun__certificate_print(moerun__text *out,
                                        const moerun__certificate *certificate,
                                        const char *indent);
/* *out: destroyed by the caller. */
moerun_status moerun__certificate_read(moerun__certificate **out,
                                       const json_t *object,
                                       const char *origin);

#endif
