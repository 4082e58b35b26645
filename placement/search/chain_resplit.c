/* Exact re-splits of two parts: of each layer up to four items of part a and
 * four of part b are set free, everything else stays. Then all splits of the
 * free items of a layer are the states (70 at most), free pairs in neighbouring
 * layers the costs of a step from state to state, and Viterbi's recursion finds
 * the best of all 70^L combinations; caps rule states out. So items of many
 * layers move at once where each move alone would lose. With four items a part
 * or fewer nothing is left out and the result is optimal for the two parts. */
#include "placement/search/chain.h"

#include "placement/search/random.h"
#include "runtime/base/memory.h"

#include <string.h>

enum {
  MOST_LAYERS = 25000,        /* solved in all: about a second */
  MOST_FREE = 4,              /* of each part */
  MOST_ITEMS = 2 * MOST_FREE, /* of both */
  MOST_STATES = 70,           /* choose(8, 4) */
};

typedef struct resplit {
  moerun__chain *chain;
  moerun__random random;
  int32_t a;
  int32_t b;
  int32_t num_free;  /* of each part: min(4, per_part) */
  int32_t num_items; /* twice that */
  int32_t num_states;
  uint32_t state[MOST_STATES]; /* bit i: free item i is in part a */
  int32_t unchanged;           /* number of the state as it stands */
  double stay;                 /* worth of that state in all layers */
  double worth_together;       /* of one pair that is in one of the two parts */
  int32_t *item;               /* [L][8] free ones; of part a first */
  double *lean;                /* [L][8] worth of being in a rather than b */
  double *best;                /* [L][70] of a prefix that ends in the state;
                                  below -1e300: the state breaks a cap        */
  uint8_t *before;             /* [L][70] state of the layer before */
  int32_t *drawn;              /* [per_part] scratch */
} resplit;

#define NOT_ALLOWED (-1e301)

static void list_states(resplit *r) {
  r->num_states = 0;
  for (uint32_t bits = 0; bits < 1U << r->num_items; bits++) {
    int32_t count = 0;
    for (int32_t i = 0; i < r->num_items; i++) {
      count += (int32_t)(bits >> i & 1U);
    }
    if (count != r->num_free) continue;
    if (bits == (1U << r->num_free) - 1) r->unchanged = r->num_states;
    r->state[r->num_states++] = bits;
  }
}

static const int32_t *gains(const moerun__chain *chain, int32_t layer,
                            int32_t part) {
  return chain->gain +
         ((size_t)layer * (size_t)chain->num_parts + (size_t)part) *
             (size_t)chain->num_items;
}

/* Worth of an item being in a rather than b, as the neighbours stand. */
static double lean_of(const resplit *r, int32_t layer, int32_t item) {
  const moerun__chain *chain = r->chain;
  const int32_t parts =
      gains(chain, layer, r->a)[item] - gains(chain, layer, r->b)[item];
  if (chain->group_gain == NULL) return chain->part_worth * parts;
  const size_t n = (size_t)chain->num_items;
  const int32_t *group =
      chain->group_gain + (size_t)layer * (size_t)chain->num_groups * n;
  const int32_t groups =
      group[(size_t)chain->group_of[r->a] * n + (size_t)item] -
      group[(size_t)chain->group_of[r->b] * n + (size_t)item];
  return chain->part_worth * parts + chain->group_worth * groups;
}

/* `num_free` items of a part; of two drawn the one that leans more to the other
 * part is preferred. sign: +1 for part b, whose items lean to a. */
static void draw_free(resplit *r, int32_t layer, int32_t part, double sign,
                      int32_t *out) {
  const moerun__chain *chain = r->chain;
  const int32_t *part_of =
      chain->part_of + (size_t)layer * (size_t)chain->num_items;
  int32_t left = 0;
  for (int32_t i = 0; i < chain->num_items; i++) {
    if (part_of[i] == part) r->drawn[left++] = i;
  }
  for (int32_t f = 0; f < r->num_free; f++) {
    const uint64_t bits = moerun__random_bits(&r->random);
    int32_t take = moerun__random_below(bits, left);
    const int32_t other = moerun__random_below(bits << 32, left);
    if (sign * lean_of(r, layer, r->drawn[other]) >
        sign * lean_of(r, layer, r->drawn[take])) {
      take = other;
    }
    out[f] = r->drawn[take];
    r->drawn[take] = r->drawn[--left];
  }
}

static const int32_t *pairs_of(const resplit *r, int32_t layer, int32_t i) {
  const size_t n = (size_t)r->chain->num_items;
  const int32_t item = r->item[layer * MOST_ITEMS + i];
  return r->chain->follow + ((size_t)layer * n + (size_t)item) * n;
}

/* Leans without the free items of the neighbours, which will move. */
static void set_leans(resplit *r) {
  const int32_t m = r->num_items;
  for (int32_t l = 0; l < r->chain->num_layers; l++) {
    for (int32_t i = 0; i < m; i++) {
      const int32_t at = l * MOST_ITEMS + i;
      r->lean[at] = lean_of(r, l, r->item[at]);
    }
  }
  for (int32_t l = 0; l + 1 < r->chain->num_layers; l++) {
    for (int32_t i = 0; i < m; i++) {
      const int32_t *pairs = pairs_of(r, l, i);
      for (int32_t k = 0; k < m; k++) {
        const double worth =
            r->worth_together * pairs[r->item[(l + 1) * MOST_ITEMS + k]];
        r->lean[l * MOST_ITEMS + i] -= k < r->num_free ? worth : -worth;
        r->lean[(l + 1) * MOST_ITEMS + k] -= i < r->num_free ? worth : -worth;
      }
    }
  }
}

/* Worth of a state of one layer by its fixed neighbours, or NOT_ALLOWED. */
static double worth_alone(const resplit *r, int32_t layer, uint32_t state) {
  const moerun__chain *chain = r->chain;
  const size_t row = (size_t)layer * (size_t)chain->num_items;
  const size_t parts = (size_t)layer * (size_t)chain->num_parts;
  double worth = 0;
  int64_t moved = 0; /* load from a to b */
  int32_t blanks = 0;
  for (int32_t i = 0; i < r->num_items; i++) {
    const int32_t item = r->item[layer * MOST_ITEMS + i];
    const int in_a = (int)(state >> i & 1U);
    const int blank = chain->expert_of[row + (size_t)item] < 0;
    if (in_a) worth += r->lean[layer * MOST_ITEMS + i];
    if (in_a == (i < r->num_free)) continue;
    moved += in_a ? -chain->load[row + (size_t)item]
                  : chain->load[row + (size_t)item];
    blanks += in_a ? -blank : blank;
  }
  const size_t a = parts + (size_t)r->a;
  const size_t b = parts + (size_t)r->b;
  if (chain->part_load[b] + moved > chain->cap[b] && moved > 0) {
    return NOT_ALLOWED;
  }
  if (chain->part_load[a] - moved > chain->cap[a] && moved < 0) {
    return NOT_ALLOWED;
  }
  if (chain->part_blanks[b] + blanks > chain->most_blanks ||
      chain->part_blanks[a] - blanks > chain->most_blanks) {
    return NOT_ALLOWED;
  }
  return worth;
}

/* What the state `from` of the layer before makes it worth that free item k of
 * this layer is in a rather than b. */
static void pull_of(double *pull, const resplit *r, int32_t layer,
                    uint32_t from) {
  for (int32_t k = 0; k < r->num_items; k++) {
    pull[k] = 0;
  }
  for (int32_t i = 0; i < r->num_items; i++) {
    const int32_t *pairs = pairs_of(r, layer - 1, i);
    const double sign =
        (from >> i & 1U) ? r->worth_together : -r->worth_together;
    for (int32_t k = 0; k < r->num_items; k++) {
      pull[k] += sign * pairs[r->item[layer * MOST_ITEMS + k]];
    }
  }
}

/* Worth of the free pairs if the state `from` of the layer before is followed
 * by one with all items in b. */
static double worth_all_in_b(const resplit *r, int32_t layer, uint32_t from) {
  double worth = 0;
  for (int32_t i = 0; i < r->num_items; i++) {
    if (from >> i & 1U) continue;
    const int32_t *pairs = pairs_of(r, layer - 1, i);
    for (int32_t k = 0; k < r->num_items; k++) {
      worth += r->worth_together * pairs[r->item[layer * MOST_ITEMS + k]];
    }
  }
  return worth;
}

static void step(resplit *r, int32_t layer) {
  double pull[MOST_ITEMS];
  double alone[MOST_STATES];
  double *now = r->best + (size_t)layer * MOST_STATES;
  const double *then = now - MOST_STATES;
  uint8_t *before = r->before + (size_t)layer * MOST_STATES;
  for (int32_t s = 0; s < r->num_states; s++) {
    alone[s] = worth_alone(r, layer, r->state[s]);
    now[s] = NOT_ALLOWED;
  }
  for (int32_t f = 0; f < r->num_states; f++) {
    if (then[f] < -1e300) continue;
    pull_of(pull, r, layer, r->state[f]);
    const double in_b = worth_all_in_b(r, layer, r->state[f]);
    for (int32_t s = 0; s < r->num_states; s++) {
      if (alone[s] < -1e300) continue;
      double worth = in_b + alone[s];
      for (int32_t k = 0; k < r->num_items; k++) {
        if (r->state[s] >> k & 1U) worth += pull[k];
      }
      if (f == r->unchanged && s == r->unchanged) r->stay += worth;
      if (then[f] + worth <= now[s]) continue;
      now[s] = then[f] + worth;
      before[s] = (uint8_t)f;
    }
  }
}

/* Moves the free items of one layer to where the state has them. */
static void apply(resplit *r, int32_t layer, uint32_t state) {
  for (;;) {
    int32_t out = -1; /* of a */
    int32_t in = -1;
    for (int32_t i = 0; i < r->num_items; i++) {
      const int32_t item = r->item[layer * MOST_ITEMS + i];
      const size_t row = (size_t)layer * (size_t)r->chain->num_items;
      const int is_in = r->chain->part_of[row + (size_t)item] == r->a;
      const int wanted = (int)(state >> i & 1U);
      if (is_in && !wanted) out = item;
      if (!is_in && wanted) in = item;
    }
    if (out < 0) return;
    moerun__chain_swap(r->chain, layer, out, in);
  }
}

/* 1: the pair is split better than before. */
static int solve_pair(resplit *r) {
  const moerun__chain *chain = r->chain;
  const int32_t last = chain->num_layers - 1;
  r->worth_together = chain->part_worth;
  if (chain->group_of != NULL &&
      chain->group_of[r->a] != chain->group_of[r->b]) {
    r->worth_together += chain->group_worth;
  }
  for (int32_t l = 0; l <= last; l++) {
    draw_free(r, l, r->a, -1, r->item + (size_t)l * MOST_ITEMS);
    draw_free(r, l, r->b, 1,
              r->item + (size_t)l * MOST_ITEMS + (size_t)r->num_free);
  }
  set_leans(r);
  for (int32_t s = 0; s < r->num_states; s++) {
    r->best[s] = worth_alone(r, 0, r->state[s]);
  }
  r->stay = r->best[r->unchanged];
  for (int32_t l = 1; l <= last; l++) {
    step(r, l);
  }
  const double *end = r->best + (size_t)last * MOST_STATES;
  int32_t s = 0;
  for (int32_t k = 1; k < r->num_states; k++) {
    if (end[k] > end[s]) s = k;
  }
  if (end[s] <= r->stay) return 0;
  for (int32_t l = last; l >= 0; l--) {
    apply(r, l, r->state[s]);
    if (l > 0) s = r->before[(size_t)l * MOST_STATES + (size_t)s];
  }
  return 1;
}

static moerun_status allocate(resplit *r) {
  moerun_status status = MOERUN_OK;
  const size_t L = (size_t)r->chain->num_layers;
  MOERUN_TRY(moerun__alloc(&r->item, L * MOST_ITEMS, sizeof *r->item));
  MOERUN_TRY(moerun__alloc(&r->lean, L * MOST_ITEMS, sizeof *r->lean));
  MOERUN_TRY(moerun__alloc(&r->best, L * MOST_STATES, sizeof *r->best));
  MOERUN_TRY(moerun__alloc(&r->before, L * MOST_STATES, sizeof *r->before));
  MOERUN_TRY(
      moerun__alloc(&r->drawn, (size_t)r->chain->per_part, sizeof *r->drawn));
done:
  return status;
}

moerun_status moerun__chain_resplit(moerun__chain *chain, uint64_t seed,
                                    const moerun__deadline *deadline) {
  moerun_status status = MOERUN_OK;
  resplit r = {.chain = chain, .random = moerun__random_start(seed, 2)};
  r.num_free = chain->per_part < MOST_FREE ? chain->per_part : MOST_FREE;
  r.num_items = 2 * r.num_free;
  MOERUN_TRY(allocate(&r));
  list_states(&r);
  /* P + 1 has no factor in common with P * P: this visits every pair once in P
   * * P steps. */
  const int64_t P = chain->num_parts;
  const int64_t steps = P * P;
  int64_t at = moerun__random_below(moerun__random_bits(&r.random), (int32_t)P);
  int64_t left = MOST_LAYERS / chain->num_layers;
  for (int64_t idle = 0; idle < steps && left > 0; idle++) {
    at = (at + P + 1) % steps;
    r.a = (int32_t)(at / P);
    r.b = (int32_t)(at % P);
    if (r.a >= r.b) continue;
    if (moerun__deadline_passed(deadline)) break;
    if (solve_pair(&r)) idle = 0;
    left--;
  }
done:
  moerun__free(r.item);
  moerun__free(r.lean);
  moerun__free(r.best);
  moerun__free(r.before);
  moerun__free(r.drawn);
  return status;
}
