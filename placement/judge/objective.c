/* What a placement does to a trace, counted term by term from the raw ids with
 * the replicas that moerun__placement_choose picks; no solver's statistics are
 * used. The home of a token matters only for rows that stay at home and for
 * the choice between replicas. Without replicas one pass serves all homes:
 * every rank that a token visits is its home in one case of R. With replicas
 * every home is tried, or 64 of them spread evenly, shifted by one from each
 * token to the next, where R is larger. Layers are counted one boundary at a
 * time, so that the R x R link counters are needed once only. */
#include "placement/judge/problem.h"

#include "runtime/base/memory.h"

#include <math.h>
#include <string.h>

enum { MOST_HOMES = 64 };

/* Sums over tokens and the homes tried. */
typedef struct tally {
  const moerun_placement *placement;
  const moerun__trace *trace;
  const moerun__topology *topology;
  const int32_t *home_of_sequence; /* or NULL */
  int32_t num_homes;               /* tried per token */
  int32_t all_homes;  /* 1: no home was chosen; each rank counts as 1/R home */
  int32_t *rank_of;   /* [K] of the terms of this layer; -1: none */
  int32_t *next_rank; /* [K] of the next layer */
  int32_t *ids;       /* [K] scratch */
  int64_t *rank_seen; /* [R] last visit that saw the rank */
  int64_t *node_seen; /* [nodes] */
  int64_t visit;      /* (token, home) pairs so far, all layers */
  int64_t *load;      /* [R] of this layer */
  int64_t *link;      /* [R][R] pairs over this boundary */
  int64_t terms;      /* totals of all layers from here on */
  int64_t ranks;
  int64_t nodes;
  int64_t home_ranks;
  int64_t home_terms;
  int64_t pairs;
  int64_t near_pairs; /* same rank */
  int64_t node_pairs; /* same node */
  int64_t most_link;  /* largest link, summed over boundaries */
  double load_sum;
  double worst_load;
  double row_load_sum;
  double worst_row_load;
} tally;

static int has_replicas(const moerun_placement *placement) {
  const int32_t entries = placement->num_layers * placement->num_experts;
  return placement->replica_offset[entries] > entries;
}

/* Rank number of the i-th home tried for a token. */
static int32_t home_of(const tally *sums, int64_t token, int64_t sequence,
                       int32_t i) {
  if (sums->home_of_sequence != NULL) return sums->home_of_sequence[sequence];
  const int64_t R = sums->placement->num_ranks;
  return (int32_t)((token + i * R / sums->num_homes) % R);
}

static void choose_ranks(const tally *sums, int32_t *rank_of, int32_t layer,
                         int64_t token, int32_t home) {
  const moerun__trace *trace = sums->trace;
  const size_t row = (size_t)token * (size_t)trace->num_layers + (size_t)layer;
  const int16_t *ids = trace->ids + row * (size_t)trace->num_terms;
  for (int32_t j = 0; j < trace->num_terms; j++) {
    sums->ids[j] = ids[j];
  }
  moerun__placement_choose(rank_of, sums->placement, layer, home, sums->ids,
                           trace->num_terms);
  for (int32_t j = 0; j < trace->num_terms; j++) {
    if (rank_of[j] >= 0) rank_of[j] = sums->placement->rank_of[rank_of[j]];
  }
}

/* Ranks, nodes and loads of one token in one layer. */
static void count_ranks(tally *sums, int32_t home) {
  sums->visit++;
  for (int32_t j = 0; j < sums->trace->num_terms; j++) {
    const int32_t rank = sums->rank_of[j];
    if (rank < 0) continue;
    sums->terms++;
    sums->load[rank]++;
    sums->home_terms += rank == home;
    if (sums->rank_seen[rank] == sums->visit) continue;
    sums->rank_seen[rank] = sums->visit;
    sums->ranks++;
    sums->home_ranks += rank == home;
    const int32_t node = sums->topology->node_of[rank];
    sums->nodes += sums->node_seen[node] != sums->visit;
    sums->node_seen[node] = sums->visit;
  }
}

static void count_pairs(tally *sums) {
  const int32_t K = sums->trace->num_terms;
  const moerun__topology *topology = sums->topology;
  const size_t R = (size_t)sums->placement->num_ranks;
  for (int32_t a = 0; a < K; a++) {
    const int32_t from = sums->rank_of[a];
    if (from < 0) continue;
    for (int32_t b = 0; b < K; b++) {
      const int32_t to = sums->next_rank[b];
      if (to < 0) continue;
      sums->pairs++;
      sums->near_pairs += from == to;
      sums->node_pairs += moerun__topology_same_node(topology, from, to);
      sums->link[(size_t)from * R + (size_t)to]++;
    }
  }
}

/* Most loaded rank against the mean, per unit of speed and in rows. */
static void end_layer(tally *sums) {
  const int32_t R = sums->placement->num_ranks;
  int64_t total = 0;
  int64_t most = 0;
  double fullest = 0;
  for (int32_t r = 0; r < R; r++) {
    total += sums->load[r];
    const double full = (double)sums->load[r] / sums->topology->speed[r];
    if (full > fullest) fullest = full;
    if (sums->load[r] > most) most = sums->load[r];
  }
  const double load = total > 0 ? fullest * R / (double)total : 1;
  const double row_load = total > 0 ? (double)most * R / (double)total : 1;
  sums->load_sum += load;
  sums->worst_load = fmax(sums->worst_load, load);
  sums->row_load_sum += row_load;
  sums->worst_row_load = fmax(sums->worst_row_load, row_load);
}

static void end_boundary(tally *sums) {
  const size_t R = (size_t)sums->placement->num_ranks;
  int64_t most = 0;
  for (size_t i = 0; i < R * R; i++) {
    if (i % (R + 1) != 0 && sums->link[i] > most) most = sums->link[i];
  }
  sums->most_link += most;
}

static void count_layer(tally *sums, int32_t layer) {
  const moerun__trace *trace = sums->trace;
  const size_t R = (size_t)sums->placement->num_ranks;
  const int last = layer + 1 == trace->num_layers;
  memset(sums->load, 0, R * sizeof *sums->load);
  memset(sums->link, 0, R * R * sizeof *sums->link);
  int64_t sequence = 0;
  for (int64_t t = 0; t < trace->num_tokens; t++) {
    while (sums->home_of_sequence != NULL &&
           trace->sequence_offset[sequence + 1] <= t) {
      sequence++;
    }
    for (int32_t i = 0; i < sums->num_homes; i++) {
      const int32_t home = home_of(sums, t, sequence, i);
      choose_ranks(sums, sums->rank_of, layer, t, home);
      count_ranks(sums, home);
      if (last) continue;
      choose_ranks(sums, sums->next_rank, layer + 1, t, home);
      count_pairs(sums);
    }
  }
  end_layer(sums);
  if (!last) end_boundary(sums);
}

static double ratio(double part, double whole) {
  return whole > 0 ? part / whole : 0;
}

static void conclude(moerun__judgement *out, const tally *sums,
                     double node_weight, double far_weight) {
  const double R = sums->placement->num_ranks;
  const double visits = (double)sums->visit;
  const double pairs = (double)sums->pairs;
  const int32_t layers = sums->trace->num_layers;
  memset(out, 0, sizeof *out);
  out->fanout = (double)sums->ranks / visits;
  out->node_fanout = (double)sums->nodes / visits;
  if (sums->all_homes) {
    out->remote = out->fanout * (1 - 1 / R);
    out->returned = (double)sums->terms / visits * (1 - 1 / R);
  } else {
    out->remote = (double)(sums->ranks - sums->home_ranks) / visits;
    out->returned = (double)(sums->terms - sums->home_terms) / visits;
  }
  if (sums->home_of_sequence != NULL) {
    out->rows_out = sums->ranks - sums->home_ranks;
    out->rows_back = sums->terms - sums->home_terms;
  }
  out->cut = ratio((double)(sums->pairs - sums->near_pairs), pairs);
  out->node_cut = ratio((double)(sums->pairs - sums->node_pairs), pairs);
  out->weighted =
      node_weight * (out->cut - out->node_cut) + far_weight * out->node_cut;
  out->tail = ratio((double)sums->most_link * R * R, pairs);
  out->load = sums->load_sum / layers;
  out->worst_load = sums->worst_load;
  out->row_load = sums->row_load_sum / layers;
  out->worst_row_load = sums->worst_row_load;
}

static moerun_status check_fit(const moerun_placement *placement,
                               const moerun__trace *trace,
                               const moerun__topology *topology,
                               const int32_t *home_of_sequence) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(placement->num_layers == trace->num_layers &&
                     placement->num_experts == trace->num_experts,
                 MOERUN_ERR_SHAPE,
                 "placement: expected %d layers of %d experts as in the trace, "
                 "found %d of %d",
                 trace->num_layers, trace->num_experts, placement->num_layers,
                 placement->num_experts);
  MOERUN_REQUIRE(placement->num_ranks == topology->num_ranks, MOERUN_ERR_SHAPE,
                 "placement: expected %d ranks as in the topology, found %d",
                 topology->num_ranks, placement->num_ranks);
  MOERUN_REQUIRE(trace->num_tokens >= 1, MOERUN_ERR_INVALID,
                 "placement: expected a trace with tokens, found none");
  for (int64_t s = 0; home_of_sequence != NULL && s < trace->num_sequences;
       s++) {
    MOERUN_REQUIRE(
        home_of_sequence[s] >= 0 && home_of_sequence[s] < placement->num_ranks,
        MOERUN_ERR_INVALID,
        "placement: home of sequence %lld: expected 0 to %d, found %d",
        (long long)s, placement->num_ranks - 1, home_of_sequence[s]);
  }
done:
  return status;
}

/* placement, trace and topology are set before. */
static moerun_status allocate(tally *sums) {
  moerun_status status = MOERUN_OK;
  const size_t ranks = (size_t)sums->placement->num_ranks;
  const size_t K = (size_t)sums->trace->num_terms;
  MOERUN_TRY(moerun__alloc(&sums->rank_of, K, sizeof *sums->rank_of));
  MOERUN_TRY(moerun__alloc(&sums->next_rank, K, sizeof *sums->next_rank));
  MOERUN_TRY(moerun__alloc(&sums->ids, K, sizeof *sums->ids));
  MOERUN_TRY(moerun__alloc(&sums->rank_seen, ranks, sizeof *sums->rank_seen));
  MOERUN_TRY(moerun__alloc(&sums->node_seen, ranks, sizeof *sums->node_seen));
  MOERUN_TRY(moerun__alloc(&sums->load, ranks, sizeof *sums->load));
  MOERUN_TRY(moerun__alloc(&sums->link, ranks * ranks, sizeof *sums->link));
done:
  return status;
}

static void clear(tally *sums) {
  moerun__free(sums->rank_of);
  moerun__free(sums->next_rank);
  moerun__free(sums->ids);
  moerun__free(sums->rank_seen);
  moerun__free(sums->node_seen);
  moerun__free(sums->load);
  moerun__free(sums->link);
}

moerun_status moerun__judge(moerun__judgement *out,
                            const moerun_placement *placement,
                            const moerun__trace *trace,
                            const moerun__topology *topology,
                            double node_weight, double far_weight,
                            const int32_t *home_of_sequence) {
  moerun_status status = MOERUN_OK;
  tally sums = {.placement = placement,
                .trace = trace,
                .topology = topology,
                .home_of_sequence = home_of_sequence,
                .num_homes = 1};
  MOERUN_TRY(check_fit(placement, trace, topology, home_of_sequence));
  const int32_t R = placement->num_ranks;
  if (home_of_sequence == NULL) {
    sums.all_homes = !has_replicas(placement);
    if (!sums.all_homes) sums.num_homes = R < MOST_HOMES ? R : MOST_HOMES;
  }
  MOERUN_TRY(allocate(&sums));
  for (int32_t l = 0; l < trace->num_layers; l++) {
    count_layer(&sums, l);
  }
  conclude(out, &sums, node_weight, far_weight);
done:
  clear(&sums);
  return status;
}

moerun_status moerun__count_rows(int64_t *rows_out, int64_t *rows_back,
                                 const moerun_placement *placement,
                                 const moerun__trace *trace,
                                 const moerun__topology *topology,
                                 const int32_t *home_of_sequence) {
  moerun_status status = MOERUN_OK;
  tally sums = {.placement = placement,
                .trace = trace,
                .topology = topology,
                .home_of_sequence = home_of_sequence,
                .num_homes = 1};
  MOERUN_TRY(check_fit(placement, trace, topology, home_of_sequence));
  MOERUN_TRY(allocate(&sums));
  for (int32_t l = 0; l < trace->num_layers; l++) {
    rows_out[l] = sums.home_ranks - sums.ranks;
    rows_back[l] = sums.home_terms - sums.terms;
    for (int64_t s = 0; s < trace->num_sequences; s++) {
      for (int64_t t = trace->sequence_offset[s];
           t < trace->sequence_offset[s + 1]; t++) {
        choose_ranks(&sums, sums.rank_of, l, t, home_of_sequence[s]);
        count_ranks(&sums, home_of_sequence[s]);
      }
    }
    rows_out[l] += sums.ranks - sums.home_ranks;
    rows_back[l] += sums.terms - sums.home_terms;
  }
done:
  clear(&sums);
  return status;
}

moerun_status moerun__count_loads(int64_t *load,
                                  const moerun_placement *placement,
                                  const moerun__trace *trace,
                                  const moerun__topology *topology,
                                  const int32_t *home_of_sequence) {
  moerun_status status = MOERUN_OK;
  const size_t R = (size_t)placement->num_ranks;
  tally sums = {.placement = placement,
                .trace = trace,
                .topology = topology,
                .home_of_sequence = home_of_sequence,
                .num_homes = 1};
  MOERUN_TRY(check_fit(placement, trace, topology, home_of_sequence));
  MOERUN_TRY(allocate(&sums));
  for (int32_t l = 0; l < trace->num_layers; l++) {
    memset(sums.load, 0, R * sizeof *sums.load);
    for (int64_t s = 0; s < trace->num_sequences; s++) {
      for (int64_t t = trace->sequence_offset[s];
           t < trace->sequence_offset[s + 1]; t++) {
        choose_ranks(&sums, sums.rank_of, l, t, home_of_sequence[s]);
        count_ranks(&sums, home_of_sequence[s]);
      }
    }
    memcpy(load + (size_t)l * R, sums.load, R * sizeof *load);
  }
done:
  clear(&sums);
  return status;
}

moerun_status moerun__judge_loads(double *load, double *worst_load,
                                  const moerun_placement *placement,
                                  const int32_t *copies,
                                  const moerun__problem *problem) {
  moerun_status status = MOERUN_OK;
  double *filled = NULL; /* [R] per unit of speed */
  const int32_t R = placement->num_ranks;
  const int32_t E = placement->num_experts;
  *load = 0;
  *worst_load = 0;
  MOERUN_TRY(moerun__alloc(&filled, (size_t)R, sizeof *filled));
  for (int32_t l = 0; l < placement->num_layers; l++) {
    double total = 0;
    double fullest = 0;
    memset(filled, 0, (size_t)R * sizeof *filled);
    for (int32_t n = l * E; n < (l + 1) * E; n++) {
      const int32_t first = placement->replica_offset[n];
      const int32_t end = placement->replica_offset[n + 1];
      double slots = end - first;
      total += (double)problem->load[n];
      for (int32_t i = first; copies != NULL && i < end; i++) {
        slots += copies[i] - 1;
      }
      for (int32_t i = first; i < end; i++) {
        const int32_t r = placement->rank_of[i];
        const int32_t mine = copies != NULL ? copies[i] : 1;
        filled[r] += (double)problem->load[n] * mine /
                     (slots * problem->topology->speed[r]);
        if (filled[r] > fullest) fullest = filled[r];
      }
    }
    const double here = total > 0 ? fullest * R / total : 1;
    *load += here / placement->num_layers;
    if (here > *worst_load) *worst_load = here;
  }
done:
  moerun__free(filled);
  return status;
}

double moerun__judged(const moerun__problem *problem,
                      const moerun__judgement *judgement) {
  switch (problem->objective) {
  case MOERUN_OBJECTIVE_FANOUT: return judgement->fanout;
  case MOERUN_OBJECTIVE_CUT: return judgement->cut;
  case MOERUN_OBJECTIVE_WEIGHTED: return judgement->weighted;
  case MOERUN_OBJECTIVE_TAIL: return judgement->tail;
  }
  return 0;
}

double moerun__worst_cost(const moerun__problem *problem) {
  const int32_t K = problem->trace->num_terms;
  switch (problem->objective) {
  case MOERUN_OBJECTIVE_FANOUT:
    return K < problem->num_ranks ? K : problem->num_ranks;
  case MOERUN_OBJECTIVE_CUT: return 1;
  case MOERUN_OBJECTIVE_WEIGHTED:
    return problem->far_weight > problem->node_weight ? problem->far_weight
                                                      : problem->node_weight;
  case MOERUN_OBJECTIVE_TAIL:
    return (double)problem->num_ranks * problem->num_ranks;
  }
  return 1;
}
