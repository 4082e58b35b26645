/* A general graph partitioner as a yardstick. For pairs between layers the
 * graph is the whole chain, and for fan-out each layer by itself; vertices
 * weigh their load. METIS keeps neither counts nor caps of each layer, so its
 * answer is mended layer by layer: experts move out of ranks that have too
 * many, then pairs are swapped until every cap holds, each time what costs
 * least for what it mends. */
#include "benchmarks/place_metis.h"

#include "runtime/base/memory.h"
#include "runtime/base/number.h"

#include <metis.h>
#include <string.h>

/* ---- The graph ----------------------------------------------------------- */

typedef struct graph {
  const moerun__problem *problem;
  idx_t *first;  /* [vertices + 1] */
  idx_t *to;     /* [edges] */
  idx_t *weight; /* [edges] */
  idx_t *load;   /* [vertices] */
  idx_t *part;   /* [vertices] */
  idx_t num_vertices;
  idx_t num_edges;
} graph;

static int is_chain(const moerun__problem *problem) {
  return problem->objective != MOERUN_OBJECTIVE_FANOUT;
}

static const int64_t *pairs_of(const moerun__problem *problem, int32_t layer) {
  const size_t E = (size_t)problem->num_experts;
  const int64_t *pairs =
      is_chain(problem) ? problem->follow : problem->together;
  return pairs + (size_t)layer * E * E;
}

static void add_edge(graph *to, int64_t vertex, int64_t weight) {
  if (weight == 0) return;
  to->to[to->num_edges] = (idx_t)vertex;
  to->weight[to->num_edges++] =
      (idx_t)(weight < INT32_MAX / 4 ? weight : INT32_MAX / 4);
}

/* Layers first_layer .. end_layer - 1. */
static void build(graph *to, int32_t first_layer, int32_t end_layer) {
  const moerun__problem *p = to->problem;
  const int32_t E = p->num_experts;
  to->num_vertices = 0;
  to->num_edges = 0;
  for (int32_t l = first_layer; l < end_layer; l++) {
    const int64_t base = (int64_t)(l - first_layer) * E;
    for (int32_t e = 0; e < E; e++) {
      to->load[to->num_vertices] = (idx_t)(p->load[l * E + e] + 1);
      to->first[to->num_vertices++] = to->num_edges;
      for (int32_t j = 0; j < E && !is_chain(p); j++) {
        add_edge(to, base + j,
                 pairs_of(p, l)[(size_t)e * (size_t)E + (size_t)j]);
      }
      for (int32_t j = 0; j < E && is_chain(p) && l > 0; j++) {
        const int64_t *pairs = pairs_of(p, l - 1);
        add_edge(to, base - E + j, pairs[(size_t)j * (size_t)E + (size_t)e]);
      }
      for (int32_t j = 0; j < E && is_chain(p) && l + 1 < end_layer; j++) {
        const int64_t *pairs = pairs_of(p, l);
        add_edge(to, base + E + j, pairs[(size_t)e * (size_t)E + (size_t)j]);
      }
    }
  }
  to->first[to->num_vertices] = to->num_edges;
}

static moerun_status partition(graph *of, uint64_t seed) {
  moerun_status status = MOERUN_OK;
  idx_t parts = of->problem->num_ranks;
  idx_t constraints = 1;
  idx_t cut = 0;
  idx_t settings[METIS_NOPTIONS];
  real_t imbalance = 1.05F;
  if (parts == 1) goto done;
  (void)METIS_SetDefaultOptions(settings);
  settings[METIS_OPTION_SEED] = (idx_t)(seed % INT32_MAX);
  const int verdict = METIS_PartGraphKway(
      &of->num_vertices, &constraints, of->first, of->to, of->load, NULL,
      of->weight, &parts, NULL, &imbalance, settings, &cut, of->part);
  MOERUN_REQUIRE(verdict == METIS_OK, MOERUN_ERR_UNSUPPORTED,
                 "metis: ended with code %d", verdict);
done:
  return status;
}

/* ---- Mending ------------------------------------------------------------- */

typedef struct mender {
  const moerun__problem *problem;
  int32_t layer;
  int32_t *rank_of;    /* [L][E] of all layers */
  int64_t *gain;       /* [E][R] weight of e's pairs that rank r would keep */
  int32_t *slot_count; /* [R] */
  int64_t *rank_load;  /* [R] */
} mender;

static void add_pairs(mender *m, const int64_t *pairs, const int32_t *other,
                      int is_column) {
  const size_t E = (size_t)m->problem->num_experts;
  const size_t R = (size_t)m->problem->num_ranks;
  for (size_t e = 0; e < E; e++) {
    for (size_t j = 0; j < E; j++) {
      const int64_t weight = is_column ? pairs[j * E + e] : pairs[e * E + j];
      m->gain[e * R + (size_t)other[j]] += weight;
    }
  }
}

static void count(mender *m) {
  const moerun__problem *p = m->problem;
  const int32_t E = p->num_experts;
  const int32_t l = m->layer;
  const size_t R = (size_t)p->num_ranks;
  const int32_t *own = m->rank_of + (ptrdiff_t)l * E;
  memset(m->gain, 0, (size_t)E * R * sizeof *m->gain);
  memset(m->slot_count, 0, R * sizeof *m->slot_count);
  memset(m->rank_load, 0, R * sizeof *m->rank_load);
  for (int32_t e = 0; e < E; e++) {
    m->slot_count[own[e]]++;
    m->rank_load[own[e]] += p->load[l * E + e];
  }
  if (!is_chain(p)) {
    add_pairs(m, pairs_of(p, l), own, 0);
    return;
  }
  if (l > 0) add_pairs(m, pairs_of(p, l - 1), own - E, 1);
  if (l + 1 < p->num_layers) add_pairs(m, pairs_of(p, l), own + E, 0);
}

static int64_t gain_of(const mender *m, int32_t expert, int32_t rank) {
  return m->gain[(size_t)expert * (size_t)m->problem->num_ranks + (size_t)rank];
}

/* Moves one expert from a rank with too many, or to one with too few; 0: the
 * counts are right. */
static int move_one(mender *m) {
  const moerun__problem *p = m->problem;
  const int32_t E = p->num_experts;
  int32_t *own = m->rank_of + (ptrdiff_t)m->layer * E;
  int32_t best = -1;
  int32_t best_rank = -1;
  int64_t most = INT64_MIN;
  for (int32_t e = 0; e < E; e++) {
    for (int32_t r = 0; r < p->num_ranks; r++) {
      const int32_t from = m->slot_count[own[e]];
      const int is_over =
          from > p->most_slots && m->slot_count[r] < p->most_slots;
      const int is_under =
          m->slot_count[r] < p->fewest_slots && from > p->fewest_slots;
      const int64_t gain = gain_of(m, e, r) - gain_of(m, e, own[e]);
      if (!(is_over || is_under) || gain <= most) continue;
      best = e;
      best_rank = r;
      most = gain;
    }
  }
  if (best < 0) return 0;
  own[best] = best_rank;
  return 1;
}

static int64_t excess(const mender *m, int32_t rank, int64_t change) {
  const moerun__problem *p = m->problem;
  const int64_t over =
      m->rank_load[rank] + change - p->cap[m->layer * p->num_ranks + rank];
  return over > 0 ? over : 0;
}

/* What swapping experts e and f takes off the excess, and the loss of it. */
static int64_t relief(const mender *m, int32_t e, int32_t f, double *loss) {
  const int32_t *own =
      m->rank_of + (ptrdiff_t)m->layer * m->problem->num_experts;
  const int64_t *load =
      m->problem->load + (size_t)m->layer * (size_t)m->problem->num_experts;
  const int64_t change = load[f] - load[e];
  *loss = (double)(gain_of(m, e, own[e]) + gain_of(m, f, own[f]) -
                   gain_of(m, e, own[f]) - gain_of(m, f, own[e]));
  return excess(m, own[e], 0) + excess(m, own[f], 0) -
         excess(m, own[e], change) - excess(m, own[f], -change);
}

/* The swap that loses least for the excess it takes off: 1; 0: the caps hold,
 * or no swap helps. */
static int swap_one(mender *m) {
  const int32_t E = m->problem->num_experts;
  int32_t *own = m->rank_of + (ptrdiff_t)m->layer * E;
  int32_t pair[2] = {-1, -1};
  double least = 0;
  for (int32_t e = 0; e < E; e++) {
    if (excess(m, own[e], 0) == 0) continue;
    for (int32_t f = 0; f < E; f++) {
      double loss = 0;
      if (own[f] == own[e]) continue;
      const int64_t off = relief(m, e, f, &loss);
      if (off <= 0) continue;
      const double price = loss < 0 ? loss : loss / (double)off;
      if (pair[0] >= 0 && price >= least) continue;
      pair[0] = e;
      pair[1] = f;
      least = price;
    }
  }
  if (pair[0] < 0) return 0;
  const int32_t rank = own[pair[0]];
  own[pair[0]] = own[pair[1]];
  own[pair[1]] = rank;
  return 1;
}

static void mend(mender *m) {
  do {
    count(m);
  } while (move_one(m));
  do {
    count(m);
  } while (swap_one(m));
}

/* ---- The method ---------------------------------------------------------- */

static moerun_status allocate(graph *g, mender *m) {
  moerun_status status = MOERUN_OK;
  const size_t L = (size_t)g->problem->num_layers;
  const size_t E = (size_t)g->problem->num_experts;
  const size_t R = (size_t)g->problem->num_ranks;
  const size_t edges = (is_chain(g->problem) ? 2 * L : 1) * E * E;
  MOERUN_REQUIRE(edges < INT32_MAX, MOERUN_ERR_UNSUPPORTED,
                 "metis: expected fewer than %d edges, found %zu", INT32_MAX,
                 edges);
  MOERUN_TRY(moerun__alloc(&g->first, L * E + 1, sizeof *g->first));
  MOERUN_TRY(moerun__alloc(&g->load, L * E, sizeof *g->load));
  MOERUN_TRY(moerun__alloc(&g->part, L * E, sizeof *g->part));
  MOERUN_TRY(moerun__alloc(&g->to, edges, sizeof *g->to));
  MOERUN_TRY(moerun__alloc(&g->weight, edges, sizeof *g->weight));
  MOERUN_TRY(moerun__alloc(&m->gain, E * R, sizeof *m->gain));
  MOERUN_TRY(moerun__alloc(&m->slot_count, R, sizeof *m->slot_count));
  MOERUN_TRY(moerun__alloc(&m->rank_load, R, sizeof *m->rank_load));
done:
  return status;
}

static moerun_status solve(moerun__solution *solution,
                           const moerun__problem *problem,
                           const moerun__method_options *options) {
  moerun_status status = MOERUN_OK;
  graph g = {.problem = problem};
  mender m = {.problem = problem, .rank_of = solution->rank_of};
  const int32_t L = problem->num_layers;
  const int32_t E = problem->num_experts;
  const int32_t step = is_chain(problem) ? L : 1;
  MOERUN_TRY(allocate(&g, &m));
  for (int32_t l = 0; l < L; l += step) {
    build(&g, l, l + step);
    MOERUN_TRY(partition(&g, options->seed));
    for (int32_t v = 0; v < g.num_vertices; v++) {
      solution->rank_of[l * E + v] = moerun__to_int(g.part[v]);
    }
  }
  for (int32_t l = 0; l < L; l++) {
    m.layer = l;
    mend(&m);
  }
done:
  moerun__free(g.first);
  moerun__free(g.load);
  moerun__free(g.part);
  moerun__free(g.to);
  moerun__free(g.weight);
  moerun__free(m.gain);
  moerun__free(m.slot_count);
  moerun__free(m.rank_load);
  return status;
}

const moerun__method moerun__metis = {
    .name = "metis",
    .summary = "METIS k-way, mended to counts and load caps",
    .keeps_caps = 0, /* where no swap helps, an excess remains */
    .solve = solve};
