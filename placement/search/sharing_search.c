/* Replicas for few visits, by annealing: which expert stands in which slot, the
 * primaries with the copies, because a copy changes where its neighbours should
 * be. The samples of tokens are as in visits_search.c. Visits and loads are
 * estimates here (sharing.h); each result is counted by the rule itself, and
 * where a rank is over its cap then, the caps of the estimate are lowered by as
 * much and the search goes on. A layer whose loads do not come within the caps
 * stays as it was. */
#include "placement/search/sharing.h"

#include "placement/search/cooling.h"
#include "placement/search/replicas.h"
#include "runtime/base/memory.h"

#include <math.h>
#include <string.h>

enum {
  STEPS_PER_SLOT = 800, /* proposals of a round */
  MOST_STEPS = 100000,  /* for a layer */
  BLOCK = 64,           /* proposals at one temperature */
  NUM_STAGES = 3,
  SAMPLES = 1024,   /* changes that the start is found from */
  TRIES = 7,        /* to bring loads within the caps */
  MOST_DRAWS = 200, /* for one proposal */
};

/* Share of random changes that are made when annealing begins: less than for
 * primaries alone, which it begins with. */
#define HEAT 0.03

/* As good as none. */
#define COLD 1e-3

/* What the caps are lowered by at least, of the cap; doubled with every try. */
#define MARGIN 0.001

/* As in visits_search.c. */
static const struct {
  int64_t terms_of_item;
  double steps;
} stages[NUM_STAGES] = {{64, 0.5}, {256, 0.4}, {INT32_MAX, 0.1}};

typedef struct search {
  const moerun__problem *problem;
  const moerun__deadline *deadline;
  moerun__visits *visits;
  moerun__sharing *sharing;
  moerun__replicas *replicas;
  moerun__random random;
  double *loss;    /* [SAMPLES] */
  int64_t *load;   /* [R] */
  int32_t *before; /* [R][room] slots that a layer's search begins with */
  double *best;    /* [L] cost of the layer by the rule */
} search;

/* An expert in place of a copy or of nothing, or two slots of one node change
 * places. 0: none was found; where every rank holds every expert there is
 * none. */
static int draw_change(moerun__slot_change *c, search *by) {
  const moerun__sharing *s = by->sharing;
  const moerun__topology *topology = by->problem->topology;
  for (int draws = 0; draws < MOST_DRAWS; draws++) {
    const uint64_t bits = moerun__random_bits(&by->random);
    const uint64_t more = moerun__random_bits(&by->random);
    c->a = moerun__random_below(bits, by->problem->num_ranks);
    c->slot_a = moerun__random_below(bits << 32, s->room);
    c->b = -1;
    c->slot_b = -1;
    c->expert = moerun__random_below(more, by->problem->num_experts);
    const int32_t held = s->slot[c->a * s->room + c->slot_a];
    if (held >= 0 && (s->host_count[held] == 1 || more % 2 != 0)) {
      const int32_t *first = topology->first_rank + topology->node_of[c->a];
      c->b = first[0] + moerun__random_below(more, first[1] - first[0]);
      c->slot_b = moerun__random_below(more << 32, s->room);
    }
    if (moerun__sharing_allowed(s, c)) return 1;
  }
  return 0;
}

static void propose(search *by, double temperature) {
  moerun__slot_change change;
  if (!draw_change(&change, by)) return;
  const double loss = moerun__sharing_try(by->sharing, &change);
  if (moerun__cooling_takes(loss, temperature, &by->random)) {
    moerun__sharing_keep(by->sharing);
  } else {
    moerun__sharing_revert(by->sharing);
  }
}

static double find_start(search *by) {
  for (int i = 0; i < SAMPLES; i++) {
    moerun__slot_change change;
    if (!draw_change(&change, by)) return COLD;
    by->loss[i] = moerun__sharing_try(by->sharing, &change);
    moerun__sharing_revert(by->sharing);
  }
  return moerun__cooling_temperature(by->loss, SAMPLES, HEAT);
}

/* While the temperature goes to `end` times itself. */
static void cool(search *by, double temperature, double end, int64_t steps) {
  const double factor = pow(end, BLOCK / (double)steps);
  for (int64_t i = 0; i < steps; i += BLOCK) {
    if (moerun__deadline_passed(by->deadline)) return;
    for (int x = 0; x < BLOCK; x++) {
      propose(by, temperature);
    }
    temperature *= factor;
  }
}

static void look_at(search *by, int stage) {
  const moerun__visits *v = by->visits;
  const double terms = (double)stages[stage].terms_of_item * v->num_items;
  const double words = terms / (double)v->terms * (double)v->all_words;
  by->visits->words = 1 + (size_t)words;
  if (v->words > v->all_words) by->visits->words = v->all_words;
  moerun__sharing_derive(by->sharing);
}

static void anneal(search *by, int64_t steps) {
  double temperature = 0; /* for each word looked at */
  for (int stage = 0; stage < NUM_STAGES; stage++) {
    look_at(by, stage);
    const double words = (double)by->visits->words;
    if (stage == 0) {
      cool(by, COLD, 1, steps / 10); /* empty slots are filled */
      temperature = find_start(by) / words;
    }
    cool(by, temperature * words, 0.5,
         (int64_t)(stages[stage].steps * (double)steps));
    temperature /= 2;
  }
  cool(by, COLD, 1, steps / 20);
}

/* The layer of the placement gets what is in the slots. */
static void store(search *by, const int32_t *slot) {
  const moerun__sharing *s = by->sharing;
  moerun__replicas *replicas = by->replicas;
  for (int32_t e = 0; e < by->problem->num_experts; e++) {
    int32_t count = 0;
    const int32_t *ranks = moerun__replicas_of(replicas, e, &count);
    for (; count > 0; count--) {
      moerun__replicas_take(replicas, e, ranks[0]);
    }
  }
  for (int32_t x = 0; x < by->problem->num_ranks * s->room; x++) {
    if (slot[x] >= 0) {
      moerun__replicas_add(replicas, NULL, slot[x], x / s->room);
    }
  }
}

/* Lowers the caps of ranks that are over theirs by the rule; 0: none is. */
static int lower_caps(search *by, int32_t homes, double margin) {
  const int32_t R = by->problem->num_ranks;
  const int64_t *cap = by->problem->cap + (size_t)by->visits->layer * (size_t)R;
  int lowered = 0;
  for (int32_t r = 0; r < R; r++) {
    if (by->load[r] <= cap[r] * homes) continue;
    const double over = (double)by->load[r] / homes - (double)cap[r];
    by->sharing->cap[r] -= over + margin * (double)cap[r];
    lowered = 1;
  }
  return lowered;
}

/* The slots within the caps, or 0. */
static int settle(search *by, int64_t steps, double *cost) {
  double margin = MARGIN;
  for (int i = 0; i < TRIES; i++) {
    store(by, by->sharing->slot);
    const int32_t homes = moerun__replicas_count(by->replicas, cost, by->load);
    if (!lower_caps(by, homes, margin)) return 1;
    if (moerun__deadline_passed(by->deadline)) return 0;
    cool(by, COLD, 1, steps / 20);
    margin *= 2;
  }
  return 0;
}

static void search_layer(search *by, int32_t layer, uint64_t seed,
                         int64_t rounds) {
  const moerun__sharing *s = by->sharing;
  const size_t slots = (size_t)by->problem->num_ranks * (size_t)s->room;
  const int64_t all = STEPS_PER_SLOT * (int64_t)slots;
  const int64_t steps = rounds * (all < MOST_STEPS ? all : MOST_STEPS);
  double cost = 0;
  by->replicas->layer = layer;
  by->random = moerun__random_start(seed, 0x10000 + (uint64_t)layer);
  moerun__visits_load(by->visits, layer);
  if (by->visits->words == 0) return;
  moerun__sharing_start(by->sharing, by->replicas);
  memcpy(by->before, s->slot, slots * sizeof *s->slot);
  anneal(by, steps);
  if (settle(by, steps, &cost) && cost < by->best[layer]) {
    by->best[layer] = cost;
  } else {
    store(by, by->before);
  }
}

static moerun_status allocate(search *by, int32_t spare_slots) {
  moerun_status status = MOERUN_OK;
  const moerun__problem *problem = by->problem;
  const size_t L = (size_t)problem->num_layers;
  const size_t R = (size_t)problem->num_ranks;
  const size_t room = (size_t)by->replicas->room;
  MOERUN_TRY(
      moerun__sharing_create(&by->sharing, problem, by->visits, spare_slots));
  MOERUN_TRY(moerun__alloc(&by->loss, SAMPLES, sizeof *by->loss));
  MOERUN_TRY(moerun__alloc(&by->load, R, sizeof *by->load));
  MOERUN_TRY(moerun__alloc(&by->before, R * room, sizeof *by->before));
  MOERUN_TRY(moerun__alloc(&by->best, L, sizeof *by->best));
  for (size_t l = 0; l < L; l++) {
    by->best[l] = INFINITY;
  }
done:
  return status;
}

moerun_status moerun__sharing_search(moerun__replicas *replicas,
                                     const int32_t *rank_of,
                                     const moerun__method_options *options,
                                     const moerun__deadline *deadline) {
  moerun_status status = MOERUN_OK;
  const moerun__problem *problem = replicas->problem;
  moerun__split *split = NULL;
  search by = {.problem = problem, .deadline = deadline, .replicas = replicas};
  int64_t rounds = 1;
  int64_t left = options->polish;
  MOERUN_TRY(moerun__split_of_ranks(&split, problem, rank_of));
  MOERUN_TRY(moerun__visits_create(&by.visits, problem, split));
  MOERUN_TRY(allocate(&by, options->spare_slots));
  for (uint64_t lot = 0; rounds > 0; lot++) {
    if (moerun__deadline_passed(deadline)) break;
    for (int32_t l = 0; l < problem->num_layers; l++) {
      if (moerun__deadline_passed(deadline)) break;
      search_layer(&by, l, options->seed + (lot << 32), rounds);
    }
    rounds = lot == 0 ? 1 : 2 * rounds;
    if (rounds > left) rounds = left;
    left -= rounds;
  }
done:
  moerun__sharing_destroy(by.sharing);
  moerun__visits_destroy(by.visits);
  moerun__split_destroy(split);
  moerun__free(by.loss);
  moerun__free(by.load);
  moerun__free(by.before);
  moerun__free(by.best);
  return status;
}
