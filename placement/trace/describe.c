/* The statistics of a trace, layer by layer. What a cache could serve is in
 * describe_cache.c.
 *
 * Affinity is the total variation distance between two distributions over the
 * next layer's experts: given one expert of this layer, and whatever the
 * expert. Counted from a finite trace it is above zero even for experts drawn
 * independently, so the same count over pairs of different tokens stands
 * beside it: what exceeds that is structure a placement can use. */
#include "placement/trace/describe.h"

#include "placement/trace/describe_cache.h"
#include "runtime/base/blocks.h"
#include "runtime/base/limits.h"
#include "runtime/base/memory.h"

#include <math.h>
#include <string.h>

/* ---- Counts -------------------------------------------------------------- */

typedef struct counter {
  const moerun__trace *trace;
  int64_t *load; /* [L][E] */
  int64_t *pair; /* [E][E] of the pair of layers at hand */
} counter;

static const int16_t *terms_of(const moerun__trace *trace, int64_t token,
                               int32_t layer) {
  const size_t row = (size_t)token * (size_t)trace->num_layers + (size_t)layer;
  return trace->ids + row * (size_t)trace->num_terms;
}

static const int64_t *loads_of(const counter *from, int32_t layer) {
  return from->load + (size_t)layer * (size_t)from->trace->num_experts;
}

static void count_loads(counter *to) {
  const moerun__trace *trace = to->trace;
  const size_t E = (size_t)trace->num_experts;
  for (int64_t t = 0; t < trace->num_tokens; t++) {
    for (int32_t l = 0; l < trace->num_layers; l++) {
      const int16_t *ids = terms_of(trace, t, l);
      for (int32_t k = 0; k < trace->num_terms; k++) {
        if (ids[k] >= 0) to->load[(size_t)l * E + (size_t)ids[k]]++;
      }
    }
  }
}

/* Terms a[K] with terms b[K]; of one layer, a term is no pair with itself. */
static void count_terms(counter *to, const int16_t *a, const int16_t *b,
                        int is_one_layer) {
  const int32_t K = to->trace->num_terms;
  const size_t E = (size_t)to->trace->num_experts;
  for (int32_t i = 0; i < K; i++) {
    if (a[i] < 0) continue;
    int64_t *row = to->pair + (size_t)a[i] * E;
    for (int32_t j = 0; j < K; j++) {
      if (b[j] >= 0 && !(is_one_layer && a[i] == b[j])) row[b[j]]++;
    }
  }
}

/* Each token's terms in layer `from` with those in layer `to_layer` of the
 * token `shift` later, in a circle. */
static void count_pairs(counter *to, int32_t from, int32_t to_layer,
                        int64_t shift) {
  const moerun__trace *trace = to->trace;
  const size_t E = (size_t)trace->num_experts;
  memset(to->pair, 0, E * E * sizeof *to->pair);
  for (int64_t t = 0; t < trace->num_tokens; t++) {
    const int64_t other = (t + shift) % trace->num_tokens;
    count_terms(to, terms_of(trace, t, from), terms_of(trace, other, to_layer),
                from == to_layer);
  }
}

/* Total variation distance of each row of pair[E][E], taken as a distribution,
 * from the loads `base`, mean over the rows by their weight. skip_self: the
 * diagonal is no part of either. */
static double distance(const counter *from, const int64_t *base,
                       int skip_self) {
  const int32_t E = from->trace->num_experts;
  double all = 0;
  double sum = 0;
  double weight = 0;
  for (int32_t j = 0; j < E; j++) {
    all += (double)base[j];
  }
  for (int32_t i = 0; i < E; i++) {
    const int64_t *row = from->pair + (size_t)i * (size_t)E;
    const double rest = skip_self ? all - (double)base[i] : all;
    double row_sum = 0;
    double difference = 0;
    for (int32_t j = 0; j < E; j++) {
      row_sum += (double)row[j];
    }
    if (row_sum == 0 || rest == 0) continue;
    for (int32_t j = 0; j < E; j++) {
      if (skip_self && j == i) continue;
      difference += fabs((double)row[j] / row_sum - (double)base[j] / rest);
    }
    sum += row_sum * difference / 2;
    weight += row_sum;
  }
  return weight > 0 ? sum / weight : 0;
}

/* ---- Layers -------------------------------------------------------------- */

static void describe_load(moerun__layer_facts *out, const int64_t *load,
                          int32_t E) {
  double sum = 0;
  double squares = 0;
  for (int32_t e = 0; e < E; e++) {
    if (load[e] > load[out->hottest]) out->hottest = e;
    out->unused += load[e] == 0;
    sum += (double)load[e];
    squares += (double)load[e] * (double)load[e];
  }
  const double mean = sum / E;
  const double variance = squares / E - mean * mean;
  out->peak = (double)load[out->hottest] / mean;
  out->variation = variance > 0 ? sqrt(variance) / mean : 0;
}

static void describe_layer(moerun__layer_facts *out, counter *counts,
                           int32_t l) {
  const int32_t L = counts->trace->num_layers;
  const int64_t away = counts->trace->num_tokens / 2;
  describe_load(out, loads_of(counts, l), counts->trace->num_experts);
  count_pairs(counts, l, l, 0);
  out->together = distance(counts, loads_of(counts, l), 1);
  count_pairs(counts, l, l, away);
  out->together_by_chance = distance(counts, loads_of(counts, l), 1);
  if (l + 1 == L) return;
  count_pairs(counts, l, l + 1, 0);
  out->affinity = distance(counts, loads_of(counts, l + 1), 0);
  count_pairs(counts, l, l + 1, away);
  out->affinity_by_chance = distance(counts, loads_of(counts, l + 1), 0);
}

static void mean_of_layers(moerun__description *out) {
  const int32_t L = out->num_layers;
  const double boundaries = L > 1 ? L - 1 : 1;
  out->mean.hottest = -1;
  for (int32_t l = 0; l < L; l++) {
    const moerun__layer_facts *layer = &out->layer[l];
    out->mean.unused += layer->unused;
    out->mean.peak += layer->peak / L;
    out->mean.variation += layer->variation / L;
    out->mean.affinity += layer->affinity / boundaries;
    out->mean.affinity_by_chance += layer->affinity_by_chance / boundaries;
    out->mean.together += layer->together / L;
    out->mean.together_by_chance += layer->together_by_chance / L;
  }
}

/* ---- Blocks -------------------------------------------------------------- */

/* Ranks that a token visits if K of E experts are drawn at random and rank r
 * holds n of them: 1 - (choose K of the E - n others) / (choose K of E). */
static double uniform_fanout(int32_t E, int32_t K, int32_t R) {
  double sum = 0;
  for (int64_t r = 0; r < R; r++) {
    const int64_t n = (r + 1) * E / R - r * E / R;
    double missed = 1;
    for (int32_t k = 0; k < K; k++) {
      const double others = (double)(E - n - k);
      missed *= others > 0 ? others / (double)(E - k) : 0;
    }
    sum += 1 - missed;
  }
  return sum;
}

/* Of blocks; last[R] is scratch, zeroed. */
static double count_fanout(const moerun__trace *trace, int32_t R,
                           int64_t *last) {
  const int32_t E = trace->num_experts;
  const int64_t rows = trace->num_tokens * trace->num_layers;
  int64_t visits = 0;
  for (int64_t row = 0; row < rows; row++) {
    const int16_t *ids = trace->ids + (size_t)row * (size_t)trace->num_terms;
    for (int32_t k = 0; k < trace->num_terms; k++) {
      if (ids[k] < 0) continue;
      const int32_t rank = moerun__block_rank(ids[k], E, R);
      visits += last[rank] != row + 1;
      last[rank] = row + 1;
    }
  }
  return (double)visits / (double)rows;
}

static double block_load(const counter *from, int32_t l, int32_t R,
                         int64_t *on_rank) {
  const int32_t E = from->trace->num_experts;
  const int64_t *load = loads_of(from, l);
  int64_t sum = 0;
  int64_t most = 0;
  memset(on_rank, 0, (size_t)R * sizeof *on_rank);
  for (int32_t e = 0; e < E; e++) {
    int64_t *rank = &on_rank[moerun__block_rank(e, E, R)];
    *rank += load[e];
    sum += load[e];
    if (*rank > most) most = *rank;
  }
  return (double)most * R / (double)sum;
}

static moerun_status describe_block(moerun__description *out,
                                    const counter *counts, int32_t R) {
  moerun_status status = MOERUN_OK;
  const moerun__trace *trace = counts->trace;
  moerun__block_facts *block = &out->block[out->num_blocks];
  int64_t *per_rank = NULL;
  MOERUN_TRY(moerun__alloc(&per_rank, (size_t)R, sizeof *per_rank));
  block->num_ranks = R;
  block->uniform = uniform_fanout(trace->num_experts, trace->num_terms, R);
  block->fanout = count_fanout(trace, R, per_rank);
  for (int32_t l = 0; l < trace->num_layers; l++) {
    block->load += block_load(counts, l, R, per_rank) / trace->num_layers;
  }
  out->num_blocks++;
done:
  moerun__free(per_rank);
  return status;
}

static moerun_status describe_blocks(moerun__description *out,
                                     const counter *counts, int32_t num_ranks) {
  moerun_status status = MOERUN_OK;
  if (num_ranks > 0) {
    MOERUN_TRY(describe_block(out, counts, num_ranks));
    goto done;
  }
  for (int32_t R = 2; R <= 64 && R <= counts->trace->num_experts; R *= 2) {
    MOERUN_TRY(describe_block(out, counts, R));
  }
done:
  return status;
}

/* ---- All ----------------------------------------------------------------- */

moerun_status moerun__describe(moerun__description **out,
                               const moerun__trace *trace, int32_t num_ranks,
                               int32_t segment_tokens) {
  moerun_status status = MOERUN_OK;
  moerun__description *description = NULL;
  counter counts = {.trace = trace};
  const size_t L = (size_t)trace->num_layers;
  const size_t E = (size_t)trace->num_experts;
  *out = NULL;
  MOERUN_REQUIRE(trace->num_experts <= MOERUN_DESCRIBE_MAX_EXPERTS,
                 MOERUN_ERR_UNSUPPORTED,
                 "trace: expected at most %d experts to describe, found %d",
                 MOERUN_DESCRIBE_MAX_EXPERTS, trace->num_experts);
  MOERUN_TRY(moerun__alloc(&description, 1, sizeof *description));
  MOERUN_TRY(
      moerun__alloc(&description->layer, L, sizeof(moerun__layer_facts)));
  MOERUN_TRY(moerun__alloc(&counts.load, L * E, sizeof *counts.load));
  MOERUN_TRY(moerun__alloc(&counts.pair, E * E, sizeof *counts.pair));
  description->num_layers = trace->num_layers;
  description->segment_tokens = segment_tokens;
  count_loads(&counts);
  for (int32_t l = 0; l < trace->num_layers; l++) {
    describe_layer(&description->layer[l], &counts, l);
  }
  mean_of_layers(description);
  MOERUN_TRY(describe_blocks(description, &counts, num_ranks));
  MOERUN_TRY(moerun__describe_caches(description, trace, counts.load));
  *out = description;
  description = NULL;
done:
  moerun__free(counts.load);
  moerun__free(counts.pair);
  moerun__description_destroy(description);
  return status;
}

void moerun__description_destroy(moerun__description *description) {
  if (description == NULL) return;
  moerun__free(description->layer);
  moerun__free(description);
}
