/* State of the chain problem. gain[l][p][i] is kept for every item and part, so
 * that a swap is valued by four look-ups and done by adding rows of the pair
 * counts to rows of gains; the counts are there twice, by row and by column, so
 * that both neighbouring layers are updated in order of memory. */
#include "placement/search/chain.h"

#include "runtime/base/memory.h"

#include <string.h>

/* ---- Making -------------------------------------------------------------- */

static moerun_status allocate(moerun__chain *chain) {
  moerun_status status = MOERUN_OK;
  const size_t L = (size_t)chain->num_layers;
  const size_t n = (size_t)chain->num_items;
  const size_t P = (size_t)chain->num_parts;
  MOERUN_TRY(moerun__alloc(&chain->expert_of, L * n, sizeof(int32_t)));
  MOERUN_TRY(moerun__alloc(&chain->follow, (L - 1) * n * n, sizeof(int32_t)));
  MOERUN_TRY(moerun__alloc(&chain->precede, (L - 1) * n * n, sizeof(int32_t)));
  MOERUN_TRY(moerun__alloc(&chain->load, L * n, sizeof(int64_t)));
  MOERUN_TRY(moerun__alloc(&chain->cap, L * P, sizeof(int64_t)));
  MOERUN_TRY(moerun__alloc(&chain->part_of, L * n, sizeof(int32_t)));
  MOERUN_TRY(moerun__alloc(&chain->gain, L * P * n, sizeof(int32_t)));
  MOERUN_TRY(moerun__alloc(&chain->part_load, L * P, sizeof(int64_t)));
  MOERUN_TRY(moerun__alloc(&chain->part_blanks, L * P, sizeof(int32_t)));
done:
  return status;
}

/* Halvings after which no gain can leave 32 bits: an expert's pairs with one
 * neighbouring layer are at most its load times K. */
static int halvings(const moerun__problem *problem) {
  int64_t most = 0;
  const size_t entries =
      (size_t)problem->num_layers * (size_t)problem->num_experts;
  for (size_t i = 0; i < entries; i++) {
    if (problem->load[i] > most) most = problem->load[i];
  }
  int count = 0;
  while ((most >> count) > INT32_MAX / 8 / problem->trace->num_terms) {
    count++;
  }
  return count;
}

static void copy_boundary(moerun__chain *chain, const moerun__problem *problem,
                          int32_t layer, int halved) {
  const size_t n = (size_t)chain->num_items;
  const size_t E = (size_t)problem->num_experts;
  const int64_t *counts = problem->follow + (size_t)layer * E * E;
  const int32_t *from = chain->expert_of + (size_t)layer * n;
  const int32_t *to = from + n;
  int32_t *follow = chain->follow + (size_t)layer * n * n;
  int32_t *precede = chain->precede + (size_t)layer * n * n;
  for (size_t i = 0; i < n; i++) {
    if (from[i] < 0) continue;
    for (size_t k = 0; k < n; k++) {
      if (to[k] < 0) continue;
      const int64_t pairs = counts[(size_t)from[i] * E + (size_t)to[k]];
      follow[i * n + k] = (int32_t)(pairs >> halved);
      precede[k * n + i] = follow[i * n + k];
    }
  }
}

moerun_status moerun__chain_create(moerun__chain **out,
                                   const moerun__problem *problem,
                                   const moerun__split *split) {
  moerun_status status = MOERUN_OK;
  moerun__chain *chain = NULL;
  *out = NULL;
  MOERUN_TRY(moerun__alloc(&chain, 1, sizeof *chain));
  chain->num_layers = split->num_layers;
  chain->num_items = split->num_items;
  chain->num_parts = split->num_parts;
  chain->per_part = split->num_items / split->num_parts;
  chain->most_blanks = split->most_blanks;
  chain->part_worth = 1;
  MOERUN_TRY(allocate(chain));
  const size_t n = (size_t)chain->num_items;
  const size_t P = (size_t)chain->num_parts;
  const size_t entries = (size_t)chain->num_layers * n;
  const size_t caps = (size_t)chain->num_layers * P;
  memcpy(chain->expert_of, split->expert_of,
         entries * sizeof *chain->expert_of);
  memcpy(chain->part_of, split->part_of, entries * sizeof *chain->part_of);
  memcpy(chain->cap, split->cap, caps * sizeof *chain->cap);
  chain->even_caps = 1;
  for (size_t i = 0; i < caps; i++) {
    if (chain->cap[i] != chain->cap[i / P * P]) chain->even_caps = 0;
  }
  for (size_t i = 0; i < entries; i++) {
    const size_t layer = i / n * (size_t)problem->num_experts;
    if (chain->expert_of[i] < 0) continue;
    chain->load[i] = problem->load[layer + (size_t)chain->expert_of[i]];
  }
  const int halved = halvings(problem);
  for (int32_t l = 0; l + 1 < chain->num_layers; l++) {
    copy_boundary(chain, problem, l, halved);
  }
  moerun__chain_derive(chain);
  *out = chain;
  chain = NULL;
done:
  moerun__chain_destroy(chain);
  return status;
}

moerun_status moerun__chain_set_groups(moerun__chain *chain,
                                       const int32_t *group_of,
                                       int32_t num_groups, double part_worth,
                                       double group_worth) {
  moerun_status status = MOERUN_OK;
  chain->group_of = group_of;
  chain->num_groups = num_groups;
  chain->part_worth = part_worth;
  chain->group_worth = group_worth;
  const size_t count = (size_t)chain->num_layers * (size_t)chain->num_groups *
                       (size_t)chain->num_items;
  MOERUN_TRY(moerun__alloc(&chain->group_gain, count, sizeof(int32_t)));
  moerun__chain_derive(chain);
done:
  return status;
}

void moerun__chain_destroy(moerun__chain *chain) {
  if (chain == NULL) return;
  moerun__free(chain->expert_of);
  moerun__free(chain->follow);
  moerun__free(chain->precede);
  moerun__free(chain->load);
  moerun__free(chain->cap);
  moerun__free(chain->part_of);
  moerun__free(chain->gain);
  moerun__free(chain->group_gain);
  moerun__free(chain->part_load);
  moerun__free(chain->part_blanks);
  moerun__free(chain);
}

void moerun__chain_keep(moerun__split *split, const moerun__chain *chain) {
  memcpy(split->part_of, chain->part_of,
         (size_t)split->num_layers * (size_t)split->num_items *
             sizeof *split->part_of);
}

/* ---- State --------------------------------------------------------------- */

static void add_row(int32_t *to, const int32_t *row, int32_t n) {
  for (int32_t i = 0; i < n; i++) {
    to[i] += row[i];
  }
}

static void subtract_row(int32_t *from, const int32_t *row, int32_t n) {
  for (int32_t i = 0; i < n; i++) {
    from[i] -= row[i];
  }
}

/* Rows of pair counts of an item with the layer `to`, a neighbour of
 * `layer`. */
static const int32_t *pairs_with(const moerun__chain *chain, int32_t layer,
                                 int32_t item, int32_t to) {
  const size_t n = (size_t)chain->num_items;
  return to > layer ? chain->follow + ((size_t)layer * n + (size_t)item) * n
                    : chain->precede + ((size_t)to * n + (size_t)item) * n;
}

static int32_t *gain_row(const moerun__chain *chain, int32_t layer,
                         int32_t part) {
  return chain->gain +
         ((size_t)layer * (size_t)chain->num_parts + (size_t)part) *
             (size_t)chain->num_items;
}

static int32_t *group_row(const moerun__chain *chain, int32_t layer,
                          int32_t part) {
  return chain->group_gain + ((size_t)layer * (size_t)chain->num_groups +
                              (size_t)chain->group_of[part]) *
                                 (size_t)chain->num_items;
}

/* The item is counted in the gains of layer `to` as if it had left part a, if
 * a >= 0, and were in part b, if b >= 0. */
static void move_gains(moerun__chain *chain, int32_t layer, int32_t item,
                       int32_t to, int32_t a, int32_t b) {
  const int32_t n = chain->num_items;
  if (to < 0 || to >= chain->num_layers) return;
  const int32_t *pairs = pairs_with(chain, layer, item, to);
  if (a >= 0) subtract_row(gain_row(chain, to, a), pairs, n);
  if (b >= 0) add_row(gain_row(chain, to, b), pairs, n);
  if (chain->group_gain == NULL) return;
  if (a >= 0) subtract_row(group_row(chain, to, a), pairs, n);
  if (b >= 0) add_row(group_row(chain, to, b), pairs, n);
}

static void move_item(moerun__chain *chain, int32_t layer, int32_t item,
                      int32_t a, int32_t b) {
  move_gains(chain, layer, item, layer - 1, a, b);
  move_gains(chain, layer, item, layer + 1, a, b);
  const size_t at = (size_t)layer * (size_t)chain->num_items + (size_t)item;
  int64_t *load = chain->part_load + (size_t)layer * (size_t)chain->num_parts;
  int32_t *blanks =
      chain->part_blanks + (size_t)layer * (size_t)chain->num_parts;
  const int blank = chain->expert_of[at] < 0;
  chain->part_of[at] = b;
  if (a >= 0) {
    load[a] -= chain->load[at];
    blanks[a] -= blank;
  }
  load[b] += chain->load[at];
  blanks[b] += blank;
}

void moerun__chain_derive(moerun__chain *chain) {
  const size_t L = (size_t)chain->num_layers;
  const size_t n = (size_t)chain->num_items;
  const size_t P = (size_t)chain->num_parts;
  memset(chain->gain, 0, L * P * n * sizeof *chain->gain);
  memset(chain->part_load, 0, L * P * sizeof *chain->part_load);
  memset(chain->part_blanks, 0, L * P * sizeof *chain->part_blanks);
  if (chain->group_gain != NULL) {
    memset(chain->group_gain, 0,
           L * (size_t)chain->num_groups * n * sizeof *chain->group_gain);
  }
  for (int32_t l = 0; l < chain->num_layers; l++) {
    for (int32_t i = 0; i < chain->num_items; i++) {
      move_item(chain, l, i, -1, chain->part_of[(size_t)l * n + (size_t)i]);
    }
  }
}

double moerun__chain_kept(const moerun__chain *chain) {
  const size_t n = (size_t)chain->num_items;
  int64_t parts = 0;
  int64_t groups = 0;
  for (int32_t l = 0; l < chain->num_layers; l++) {
    const int32_t *part_of = chain->part_of + (size_t)l * n;
    for (int32_t i = 0; i < chain->num_items; i++) {
      parts += gain_row(chain, l, part_of[i])[i];
      if (chain->group_gain != NULL) {
        groups += group_row(chain, l, part_of[i])[i];
      }
    }
  }
  /* Each pair is in the gains of both its layers. */
  return chain->part_worth * (0.5 * (double)parts) +
         chain->group_worth * (0.5 * (double)groups);
}

void moerun__chain_swap(moerun__chain *chain, int32_t layer, int32_t i,
                        int32_t k) {
  const int32_t *part_of =
      chain->part_of + (size_t)layer * (size_t)chain->num_items;
  const int32_t a = part_of[i];
  const int32_t b = part_of[k];
  move_item(chain, layer, i, a, b);
  move_item(chain, layer, k, b, a);
}

void moerun__chain_set_layer(moerun__chain *chain, int32_t layer,
                             const int32_t *part_of) {
  const int32_t *before =
      chain->part_of + (size_t)layer * (size_t)chain->num_items;
  for (int32_t i = 0; i < chain->num_items; i++) {
    if (part_of[i] == before[i]) continue;
    move_item(chain, layer, i, before[i], part_of[i]);
  }
}
