/* Splits layers with few visits: descent by swaps, and annealing. A swap is
 * dear to make because sets of tokens are derived anew, and cheap to refuse.
 * While the temperature is high, most swaps are made and a sample of the tokens
 * tells good from bad well enough; so annealing begins with few tokens and goes
 * on with more, as the differences that still matter become smaller, and ends
 * with descent on all of them. Layers do not depend on each other. */
#include "placement/search/visits.h"

#include "placement/search/cooling.h"
#include "runtime/base/memory.h"

#include <string.h>

enum {
  STEPS_PER_SWAP = 70,  /* proposals of a round for a possible swap */
  FEWEST_STEPS = 16384, /* for a layer */
  MOST_STEPS = 400000,
  BLOCK = 256, /* proposals at one temperature */
  NUM_STAGES = 3,
};

/* Share of random swaps that are made when annealing begins. */
#define HEAT 0.1

/* Tokens that take an item, on average, in the sample of a stage; its share of
 * the proposals. The temperature halves within each. */
static const struct {
  int64_t terms_of_item;
  double steps;
} stages[NUM_STAGES] = {{64, 0.5}, {256, 0.4}, {INT32_MAX, 0.1}};

static size_t words_of_stage(const moerun__visits *visits, int stage) {
  const double terms = (double)stages[stage].terms_of_item * visits->num_items;
  const double share = terms / (double)visits->terms;
  return 1 + (size_t)(share * (double)visits->all_words);
}

static int64_t steps_of_round(const moerun__visits *visits) {
  const int64_t n = visits->num_items;
  const int64_t steps = STEPS_PER_SWAP * n * (n - n / visits->num_parts) / 2;
  if (steps < FEWEST_STEPS) return FEWEST_STEPS;
  return steps < MOST_STEPS ? steps : MOST_STEPS;
}

/* Two items in different parts. */
static void draw_swap(int32_t *i, int32_t *k, const moerun__visits *visits,
                      moerun__random *random) {
  do {
    const uint64_t bits = moerun__random_bits(random);
    *i = moerun__random_below(bits, visits->num_items);
    *k = moerun__random_below(bits << 32, visits->num_items);
  } while (visits->part_of[*i] == visits->part_of[*k]);
}

/* loss[MOERUN_COOLING_SAMPLES] is scratch. */
static double find_start(const moerun__visits *visits, moerun__random *random,
                         double *loss) {
  int32_t i = 0;
  int32_t k = 0;
  for (int s = 0; s < MOERUN_COOLING_SAMPLES; s++) {
    draw_swap(&i, &k, visits, random);
    loss[s] = moerun__visits_loss(visits, i, k);
  }
  return moerun__cooling_temperature(loss, MOERUN_COOLING_SAMPLES, HEAT);
}

/* The loss that is accepted is drawn first, so that most proposals are refused
 * by the least that they can lose. */
static void propose(moerun__visits *visits, moerun__random *random,
                    double temperature) {
  int32_t i = 0;
  int32_t k = 0;
  draw_swap(&i, &k, visits, random);
  const double least = moerun__visits_least_loss(visits, i, k);
  if (least > 30 * temperature) return; /* one in 10^13 would be made */
  const double most = moerun__cooling_most(temperature, random);
  if (least >= most || !moerun__visits_swap_allowed(visits, i, k)) return;
  if (moerun__visits_loss(visits, i, k) >= most) return;
  moerun__visits_swap(visits, i, k);
}

/* On the tokens looked at, until the temperature has halved. */
static void cool(moerun__visits *visits, moerun__random *random,
                 double temperature, int64_t steps,
                 const moerun__deadline *deadline) {
  const double factor = pow(0.5, BLOCK / (double)steps);
  for (int64_t s = 0; s < steps; s += BLOCK) {
    if (moerun__deadline_passed(deadline)) return;
    for (int x = 0; x < BLOCK; x++) {
      propose(visits, random, temperature);
    }
    temperature *= factor;
  }
}

static void descend(moerun__visits *visits, const moerun__deadline *deadline) {
  for (int descending = 1; descending;) {
    descending = 0;
    for (int32_t i = 0; i < visits->num_items; i++) {
      if (moerun__deadline_passed(deadline)) return;
      for (int32_t k = i + 1; k < visits->num_items; k++) {
        if (visits->part_of[i] == visits->part_of[k]) continue;
        if (moerun__visits_least_loss(visits, i, k) >= 0) continue;
        if (!moerun__visits_swap_allowed(visits, i, k)) continue;
        if (moerun__visits_loss(visits, i, k) >= 0) continue;
        moerun__visits_swap(visits, i, k);
        descending = 1;
      }
    }
  }
}

/* What the search keeps beside the state. */
typedef struct search {
  moerun__visits *visits;
  const moerun__deadline *deadline;
  double *loss;    /* [MOERUN_COOLING_SAMPLES] */
  int32_t *before; /* [n] */
} search;

/* Ends with the better state of this and the one that it leaves. */
static void anneal(const search *by, uint64_t seed, int64_t rounds) {
  moerun__visits *visits = by->visits;
  const size_t n = (size_t)visits->num_items;
  const int64_t steps = rounds * steps_of_round(visits);
  const int64_t count = moerun__visits_count(visits);
  moerun__random random =
      moerun__random_start(seed, 16 + (uint64_t)visits->layer);
  double temperature = 0; /* for each word looked at */
  memcpy(by->before, visits->part_of, n * sizeof *by->before);
  for (int stage = 0; stage < NUM_STAGES; stage++) {
    moerun__visits_look_at(visits, words_of_stage(visits, stage));
    const double words = (double)visits->words;
    if (stage == 0) {
      temperature = find_start(visits, &random, by->loss) / words;
    }
    cool(visits, &random, temperature * words,
         (int64_t)(stages[stage].steps * (double)steps), by->deadline);
    temperature /= 2;
  }
  descend(visits, by->deadline);
  if (moerun__visits_count(visits) <= count) return;
  memcpy(visits->part_of, by->before, n * sizeof *by->before);
}

/* One lot for every layer; 0 rounds: descent alone. */
static void search_layers(const search *by, uint64_t seed, int64_t rounds) {
  moerun__visits *visits = by->visits;
  moerun__split *split = visits->split;
  const size_t n = (size_t)split->num_items;
  for (int32_t l = 0; l < split->num_layers; l++) {
    if (moerun__deadline_passed(by->deadline)) return;
    moerun__visits_load(visits, l);
    if (visits->words == 0) continue;
    if (rounds > 0) {
      anneal(by, seed, rounds);
    } else {
      descend(visits, by->deadline);
    }
    memcpy(split->part_of + (size_t)l * n, visits->part_of,
           n * sizeof *split->part_of);
  }
}

moerun_status moerun__visits_search(moerun__split *split,
                                    const moerun__problem *problem,
                                    const moerun__method_options *options,
                                    const moerun__deadline *deadline) {
  moerun_status status = MOERUN_OK;
  search by = {.deadline = deadline};
  int64_t rounds = 1;
  int64_t left = options->polish;
  if (split->num_parts == 1) return MOERUN_OK;
  MOERUN_TRY(moerun__visits_create(&by.visits, problem, split));
  MOERUN_TRY(moerun__alloc(&by.loss, MOERUN_COOLING_SAMPLES, sizeof *by.loss));
  MOERUN_TRY(
      moerun__alloc(&by.before, (size_t)split->num_items, sizeof *by.before));
  search_layers(&by, options->seed, 0);
  /* One round, and the polish in lots that double, as for cut. */
  for (uint64_t lot = 0; rounds > 0; lot++) {
    if (moerun__deadline_passed(deadline)) break;
    search_layers(&by, options->seed + (lot << 32), rounds);
    rounds = lot == 0 ? 1 : 2 * rounds;
    if (rounds > left) rounds = left;
    left -= rounds;
  }
done:
  moerun__visits_destroy(by.visits);
  moerun__free(by.loss);
  moerun__free(by.before);
  return status;
}
