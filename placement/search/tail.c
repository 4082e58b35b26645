/* Annealing on the busiest links. A swap of two experts moves pairs between two
 * columns of the link matrix before their layer and two rows of the one behind
 * it; what each expert brings with it is kept up to date, so that a proposal
 * costs a pass over both matrices. The busiest link alone gives a search no
 * direction as long as a swap does not touch it: so the mean of all links
 * counts as well, and the best state by the tail alone is what is returned. */
#include "placement/search/tail.h"

#include "placement/search/cooling.h"
#include "placement/search/random.h"
#include "runtime/base/memory.h"

#include <string.h>

enum {
  STEPS_PER_SWAP = 40, /* proposals of a round for a possible swap of a layer */
  FEWEST_STEPS = 20000, /* for a layer */
  MOST_LINKS = 1 << 25, /* looked at by them for a layer: R^2 each */
};

#define HEAT        0.05 /* share taken at the start of swaps that lose */
#define MEAN_WEIGHT 0.3  /* of the mean link beside the busiest one */

/* Letters: L layers, E experts, R ranks. */
typedef struct tail {
  const moerun__problem *problem;
  int32_t *rank_of;   /* [L][E] */
  int64_t *link;      /* [L - 1][R][R] pairs between ranks */
  int64_t *before;    /* [L][E][R] pairs of an expert with the layer before */
  int64_t *behind;    /* [L][E][R] and with the next one */
  int64_t *most;      /* [L - 1] busiest link */
  int64_t *sum;       /* [L - 1] all links between different ranks */
  int64_t *rank_load; /* [L][R] */
  int64_t count;      /* most, summed */
} tail;

/* A swap of experts i and k of one layer, and what it does to the boundaries
 * before and behind. */
typedef struct swap {
  int32_t layer;
  int32_t i;
  int32_t k;
  int64_t most[2];
  int64_t sum[2];
} swap;

static size_t expert_at(const tail *t, int32_t layer, int32_t e) {
  return (size_t)layer * (size_t)t->problem->num_experts + (size_t)e;
}

static int64_t *link_of(const tail *t, int32_t boundary) {
  const size_t R = (size_t)t->problem->num_ranks;
  return t->link + (size_t)boundary * R * R;
}

/* ---- The state ----------------------------------------------------------- */

static void derive_boundary(tail *t, int32_t boundary) {
  const size_t E = (size_t)t->problem->num_experts;
  const size_t R = (size_t)t->problem->num_ranks;
  const int64_t *follow = t->problem->follow + (size_t)boundary * E * E;
  const int32_t *from = t->rank_of + expert_at(t, boundary, 0);
  const int32_t *to = from + E;
  int64_t *link = link_of(t, boundary);
  for (size_t i = 0; i < E; i++) {
    int64_t *behind = t->behind + (expert_at(t, boundary, 0) + i) * R;
    for (size_t j = 0; j < E; j++) {
      const int64_t pairs = follow[i * E + j];
      t->before[(expert_at(t, boundary + 1, 0) + j) * R + (size_t)from[i]] +=
          pairs;
      behind[to[j]] += pairs;
      link[(size_t)from[i] * R + (size_t)to[j]] += pairs;
    }
  }
  for (size_t n = 0; n < R * R; n++) {
    if (n % (R + 1) == 0) continue;
    t->sum[boundary] += link[n];
    if (link[n] > t->most[boundary]) t->most[boundary] = link[n];
  }
  t->count += t->most[boundary];
}

static void derive(tail *t) {
  const moerun__problem *p = t->problem;
  const size_t L = (size_t)p->num_layers;
  const size_t E = (size_t)p->num_experts;
  const size_t R = (size_t)p->num_ranks;
  memset(t->link, 0, (L - 1) * R * R * sizeof *t->link);
  memset(t->before, 0, L * E * R * sizeof *t->before);
  memset(t->behind, 0, L * E * R * sizeof *t->behind);
  memset(t->most, 0, (L - 1) * sizeof *t->most);
  memset(t->sum, 0, (L - 1) * sizeof *t->sum);
  memset(t->rank_load, 0, L * R * sizeof *t->rank_load);
  t->count = 0;
  for (size_t n = 0; n < L * E; n++) {
    t->rank_load[n / E * R + (size_t)t->rank_of[n]] += p->load[n];
  }
  for (int32_t l = 0; l + 1 < p->num_layers; l++) {
    derive_boundary(t, l);
  }
}

static void tail_clear(tail *t) {
  moerun__free(t->rank_of);
  moerun__free(t->link);
  moerun__free(t->before);
  moerun__free(t->behind);
  moerun__free(t->most);
  moerun__free(t->sum);
  moerun__free(t->rank_load);
}

static moerun_status tail_set(tail *t, const moerun__problem *problem,
                              const int32_t *rank_of) {
  moerun_status status = MOERUN_OK;
  const size_t L = (size_t)problem->num_layers;
  const size_t E = (size_t)problem->num_experts;
  const size_t R = (size_t)problem->num_ranks;
  t->problem = problem;
  MOERUN_TRY(moerun__alloc(&t->rank_of, L * E, sizeof *t->rank_of));
  MOERUN_TRY(moerun__alloc(&t->link, (L - 1) * R * R, sizeof *t->link));
  MOERUN_TRY(moerun__alloc(&t->before, L * E * R, sizeof *t->before));
  MOERUN_TRY(moerun__alloc(&t->behind, L * E * R, sizeof *t->behind));
  MOERUN_TRY(moerun__alloc(&t->most, L - 1, sizeof *t->most));
  MOERUN_TRY(moerun__alloc(&t->sum, L - 1, sizeof *t->sum));
  MOERUN_TRY(moerun__alloc(&t->rank_load, L * R, sizeof *t->rank_load));
  memcpy(t->rank_of, rank_of, L * E * sizeof *rank_of);
  derive(t);
done:
  return status;
}

moerun_status moerun__tail_count(int64_t *out, const moerun__problem *problem,
                                 const int32_t *rank_of) {
  moerun_status status = MOERUN_OK;
  tail t = {0};
  MOERUN_TRY(tail_set(&t, problem, rank_of));
  *out = t.count;
done:
  tail_clear(&t);
  return status;
}

/* ---- Swaps --------------------------------------------------------------- */

/* most and sum of the boundary before (side 0) or behind (side 1) the layer,
 * where its rank a gives expert i for expert k of rank b. */
static void measure(swap *s, const tail *t, int side) {
  const int32_t R = t->problem->num_ranks;
  const size_t at = expert_at(t, s->layer, 0);
  const int64_t *pairs = side == 0 ? t->before : t->behind;
  const int64_t *of_i = pairs + (at + (size_t)s->i) * (size_t)R;
  const int64_t *of_k = pairs + (at + (size_t)s->k) * (size_t)R;
  const int32_t a = t->rank_of[at + (size_t)s->i];
  const int32_t b = t->rank_of[at + (size_t)s->k];
  const int32_t boundary = s->layer - 1 + side;
  const int64_t *link = link_of(t, boundary);
  int64_t most = 0;
  int64_t sum = 0;
  for (int32_t q = 0; q < R; q++) { /* rank of the other layer */
    const int64_t change = of_k[q] - of_i[q];
    for (int32_t r = 0; r < R; r++) {
      if (q == r) continue;
      int64_t pairs_now = side == 0 ? link[q * R + r] : link[r * R + q];
      if (r == a) pairs_now += change;
      if (r == b) pairs_now -= change;
      sum += pairs_now;
      if (pairs_now > most) most = pairs_now;
    }
  }
  s->most[side] = most;
  s->sum[side] = sum;
}

/* What the swap would cost more; s->most and s->sum are filled in. */
static double loss_of(swap *s, const tail *t) {
  const double R = t->problem->num_ranks;
  double loss = 0;
  for (int side = 0; side < 2; side++) {
    const int32_t boundary = s->layer - 1 + side;
    if (boundary < 0 || boundary + 1 >= t->problem->num_layers) continue;
    measure(s, t, side);
    loss += (double)(s->most[side] - t->most[boundary]) +
            MEAN_WEIGHT * (double)(s->sum[side] - t->sum[boundary]) / (R * R);
  }
  return loss;
}

static int is_allowed(const swap *s, const tail *t) {
  const size_t at = expert_at(t, s->layer, 0);
  const size_t ranks = (size_t)s->layer * (size_t)t->problem->num_ranks;
  const int32_t a = t->rank_of[at + (size_t)s->i];
  const int32_t b = t->rank_of[at + (size_t)s->k];
  const int64_t moved =
      t->problem->load[at + (size_t)s->i] - t->problem->load[at + (size_t)s->k];
  const int64_t *cap = t->problem->cap + ranks;
  const int64_t *load = t->rank_load + ranks;
  return (moved <= 0 || load[b] + moved <= cap[b]) &&
         (moved >= 0 || load[a] - moved <= cap[a]);
}

/* The boundary's matrix, and what the experts of its other layer see. */
static void move_pairs(tail *t, const swap *s, int side) {
  const size_t E = (size_t)t->problem->num_experts;
  const size_t R = (size_t)t->problem->num_ranks;
  const size_t at = expert_at(t, s->layer, 0);
  const size_t a = (size_t)t->rank_of[at + (size_t)s->i];
  const size_t b = (size_t)t->rank_of[at + (size_t)s->k];
  const int32_t boundary = s->layer - 1 + side;
  const int64_t *follow = t->problem->follow + (size_t)boundary * E * E;
  const size_t other = side == 0 ? at - E : at + E;
  const int64_t *pairs = side == 0 ? t->before : t->behind;
  int64_t *seen = side == 0 ? t->behind : t->before;
  int64_t *link = link_of(t, boundary);
  for (size_t q = 0; q < R; q++) {
    const int64_t change =
        pairs[(at + (size_t)s->k) * R + q] - pairs[(at + (size_t)s->i) * R + q];
    link[side == 0 ? q * R + a : a * R + q] += change;
    link[side == 0 ? q * R + b : b * R + q] -= change;
  }
  for (size_t e = 0; e < E; e++) {
    const size_t i = side == 0 ? e * E + (size_t)s->i : (size_t)s->i * E + e;
    const size_t k = side == 0 ? e * E + (size_t)s->k : (size_t)s->k * E + e;
    const int64_t change = follow[k] - follow[i];
    seen[(other + e) * R + a] += change;
    seen[(other + e) * R + b] -= change;
  }
  t->count += s->most[side] - t->most[boundary];
  t->most[boundary] = s->most[side];
  t->sum[boundary] = s->sum[side];
}

static void apply(tail *t, const swap *s) {
  const size_t at = expert_at(t, s->layer, 0);
  const size_t ranks = (size_t)s->layer * (size_t)t->problem->num_ranks;
  const int32_t a = t->rank_of[at + (size_t)s->i];
  const int32_t b = t->rank_of[at + (size_t)s->k];
  const int64_t moved =
      t->problem->load[at + (size_t)s->i] - t->problem->load[at + (size_t)s->k];
  if (s->layer > 0) move_pairs(t, s, 0);
  if (s->layer + 1 < t->problem->num_layers) move_pairs(t, s, 1);
  t->rank_load[ranks + (size_t)a] -= moved;
  t->rank_load[ranks + (size_t)b] += moved;
  t->rank_of[at + (size_t)s->i] = b;
  t->rank_of[at + (size_t)s->k] = a;
}

/* ---- Annealing ----------------------------------------------------------- */

/* 0: the two experts drawn are on one rank. */
static int propose(swap *s, const tail *t, moerun__random *random) {
  const uint64_t bits = moerun__random_bits(random);
  const int32_t E = t->problem->num_experts;
  s->layer =
      moerun__random_below(moerun__random_bits(random), t->problem->num_layers);
  s->i = moerun__random_below(bits, E);
  s->k = moerun__random_below(bits << 32, E);
  const int32_t *rank_of = t->rank_of + expert_at(t, s->layer, 0);
  return rank_of[s->i] != rank_of[s->k];
}

static moerun_status find_start(double *out, const tail *t,
                                moerun__random *random) {
  moerun_status status = MOERUN_OK;
  double *loss = NULL;
  swap s;
  MOERUN_TRY(moerun__alloc(&loss, MOERUN_COOLING_SAMPLES, sizeof *loss));
  int count = 0;
  for (int draw = 0; draw < MOERUN_COOLING_SAMPLES; draw++) {
    if (!propose(&s, t, random)) continue;
    loss[count] = loss_of(&s, t);
    count += loss[count] > 0;
  }
  *out = moerun__cooling_temperature(loss, count, HEAT);
done:
  moerun__free(loss);
  return status;
}

static int64_t steps_of(const moerun__problem *p, int32_t polish) {
  const int64_t E = p->num_experts;
  const int64_t most = MOST_LINKS / ((int64_t)p->num_ranks * p->num_ranks) + 1;
  int64_t steps = STEPS_PER_SWAP * E * E / 2;
  if (steps < FEWEST_STEPS) steps = FEWEST_STEPS;
  if (steps > most) steps = most;
  return steps * p->num_layers * (1 + (int64_t)polish);
}

moerun_status moerun__tail_search(int32_t *rank_of,
                                  const moerun__problem *problem,
                                  const moerun__method_options *options,
                                  const moerun__deadline *deadline) {
  moerun_status status = MOERUN_OK;
  tail t = {0};
  double temperature = 0;
  swap s;
  const size_t entries =
      (size_t)problem->num_layers * (size_t)problem->num_experts;
  const int64_t steps = steps_of(problem, options->polish);
  const double factor = moerun__cooling_factor(steps);
  moerun__random random = moerun__random_start(options->seed, 3);
  if (problem->num_ranks == 1 || problem->num_experts == 1) return MOERUN_OK;
  MOERUN_TRY(tail_set(&t, problem, rank_of));
  MOERUN_TRY(find_start(&temperature, &t, &random));
  int64_t least = t.count;
  for (int64_t step = 0; step < steps; step++) {
    if (step % MOERUN_COOLING_BLOCK == 0) {
      if (moerun__deadline_passed(deadline)) break;
      temperature *= factor;
    }
    if (!propose(&s, &t, &random) || !is_allowed(&s, &t)) continue;
    const double loss = loss_of(&s, &t);
    if (!moerun__cooling_takes(loss, temperature, &random)) continue;
    apply(&t, &s);
    if (t.count >= least) continue;
    least = t.count;
    memcpy(rank_of, t.rank_of, entries * sizeof *rank_of);
  }
done:
  tail_clear(&t);
  return status;
}
