/* What a trace says about its model: how uneven the loads are, how far one
 * layer's experts foretell the next one's, how many ranks a token visits, and
 * what a cache of experts could serve. Pure functions of the trace. */
#ifndef MOERUN_TRACE_DESCRIBE_H
#define MOERUN_TRACE_DESCRIBE_H

#include "placement/trace/trace.h"

enum {
  MOERUN_DESCRIBE_ROWS = 8,
  MOERUN_DESCRIBE_MAX_EXPERTS = 4096, /* tables of E^2 are counted */
};

/* One layer. `by_chance` is what the same statistic shows where there is
 * nothing to find: tokens paired with other tokens of the trace. */
typedef struct moerun__layer_facts {
  int32_t hottest;  /* expert */
  int32_t unused;   /* experts without a token */
  double peak;      /* load of the hottest, max/mean */
  double variation; /* standard deviation of the loads, relative to the mean */
  double affinity;  /* total variation distance of P(expert of the next layer |
                       expert of this one) from P(expert of the next layer),
                       mean over this layer's terms; 0 in the last layer */
  double affinity_by_chance;
  double together; /* the same of P(another expert of the token and layer |
                      this one)                                            */
  double together_by_chance;
} moerun__layer_facts;

/* Experts in blocks over R ranks. */
typedef struct moerun__block_facts {
  int32_t num_ranks;
  double fanout;  /* distinct ranks per token and layer */
  double uniform; /* the same if a token's experts were drawn at random */
  double load;    /* rank load max/mean, mean over layers */
} moerun__block_facts;

/* Of all terms, mean over layers, those that find their expert among `size`
 * experts of the layer. */
typedef struct moerun__cache_facts {
  int32_t size;
  double fixed;   /* the most loaded of the whole trace, never changed */
  double segment; /* the most loaded of each segment, known beforehand */
  double recent;  /* those used last (LRU), one term after the other */
  double best;    /* whatever is needed again last gives way (Belady, 1966) */
} moerun__cache_facts;

typedef struct moerun__description {
  int32_t num_layers;
  int32_t segment_tokens;
  int64_t num_segments;
  moerun__layer_facts *layer; /* [num_layers] */
  moerun__layer_facts mean;   /* over layers; hottest: -1; unused: sum */
  int32_t num_blocks;
  moerun__block_facts block[MOERUN_DESCRIBE_ROWS];
  int32_t num_caches;
  moerun__cache_facts cache[MOERUN_DESCRIBE_ROWS]; /* ascending sizes */
} moerun__description;

/* num_ranks: the R of the blocks; 0: 2, 4, 8, … 64 as far as E goes. Segments
 * are of segment_tokens tokens of one sequence, the last of each what is
 * left. */
moerun_status moerun__describe(moerun__description **out,
                               const moerun__trace *trace, int32_t num_ranks,
                               int32_t segment_tokens);
void moerun__description_destroy(moerun__description *description);

/* How many terms of one layer, access[count] as expert ids, a cache of `size`
 * of the E experts serves; a miss brings the expert in. */
moerun_status moerun__count_recent(int64_t *hits_by_size, const int16_t *access,
                                   int64_t count, int32_t num_experts);
moerun_status moerun__count_best(int64_t *hits, const int16_t *access,
                                 int64_t count, int32_t num_experts,
                                 int32_t size);

#endif
