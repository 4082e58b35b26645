/* The step that coordinate descent is made of: a transport problem, which gives
 * the best split of a layer by counts alone, then a repair of the loads. A
 * linear program with the load caps in it has fractional solutions nearly
 * always; swaps by loss per excess reach the caps and lose little.
 *
 * Blanks fill up the counts where the experts do not divide evenly; a part may
 * hold most_blanks of them. So the transport problem has two columns a part
 * then: one for that many items of any kind, one for experts only. */
#include "placement/search/chain_layer.h"

#include "placement/judge/assignment.h"
#include "placement/judge/packing.h"
#include "runtime/base/memory.h"

#include <math.h>
#include <string.h>

/* Gains with groups are not whole numbers; rounded to 1/64 they are. */
#define GROUP_SCALE 64.0

/* ---- Making -------------------------------------------------------------- */

moerun_status moerun__chain_layer_create(moerun__chain_layer **out,
                                         const moerun__chain *chain) {
  moerun_status status = MOERUN_OK;
  moerun__chain_layer *at = NULL;
  *out = NULL;
  MOERUN_TRY(moerun__alloc(&at, 1, sizeof *at));
  at->chain = chain;
  const int32_t P = chain->num_parts;
  const size_t n = (size_t)chain->num_items;
  at->num_columns = chain->most_blanks > 0 ? 2 * P : P;
  const size_t columns = (size_t)at->num_columns;
  MOERUN_TRY(moerun__alloc(&at->gain, n * columns, sizeof *at->gain));
  MOERUN_TRY(moerun__alloc(&at->room, columns, sizeof *at->room));
  MOERUN_TRY(moerun__alloc(&at->part_of, n, sizeof *at->part_of));
  MOERUN_TRY(moerun__alloc(&at->part_load, (size_t)P, sizeof *at->part_load));
  MOERUN_TRY(moerun__alloc(&at->blanks, (size_t)P, sizeof *at->blanks));
  for (int32_t p = 0; p < P; p++) {
    at->room[p] = chain->per_part;
    if (at->num_columns == P) continue;
    at->room[p] = chain->most_blanks;
    at->room[P + p] = chain->per_part - chain->most_blanks;
  }
  *out = at;
  at = NULL;
done:
  moerun__chain_layer_destroy(at);
  return status;
}

void moerun__chain_layer_destroy(moerun__chain_layer *at) {
  if (at == NULL) return;
  moerun__free(at->gain);
  moerun__free(at->room);
  moerun__free(at->part_of);
  moerun__free(at->part_load);
  moerun__free(at->blanks);
  moerun__free(at);
}

/* ---- Gains --------------------------------------------------------------- */

static int is_blank(const moerun__chain_layer *at, int32_t item) {
  const size_t row = (size_t)at->layer * (size_t)at->chain->num_items;
  return at->chain->expert_of[row + (size_t)item] < 0;
}

static int64_t load_of(const moerun__chain_layer *at, int32_t item) {
  const size_t row = (size_t)at->layer * (size_t)at->chain->num_items;
  return at->chain->load[row + (size_t)item];
}

static int64_t cap_of(const moerun__chain_layer *at, int32_t part) {
  const size_t row = (size_t)at->layer * (size_t)at->chain->num_parts;
  return at->chain->cap[row + (size_t)part];
}

static int64_t *gain_of(const moerun__chain_layer *at, int32_t item,
                        int32_t part) {
  return at->gain + (size_t)item * (size_t)at->num_columns + (size_t)part;
}

/* The second columns: as the first for experts, closed to blanks. */
static void close_to_blanks(moerun__chain_layer *at) {
  const int32_t P = at->chain->num_parts;
  if (at->num_columns == P) return;
  for (int32_t i = 0; i < at->chain->num_items; i++) {
    for (int32_t p = 0; p < P; p++) {
      *gain_of(at, i, P + p) =
          is_blank(at, i) ? -MOERUN_FORBIDDEN : *gain_of(at, i, p);
    }
  }
}

void moerun__chain_layer_load(moerun__chain_layer *at, int32_t layer) {
  const moerun__chain *chain = at->chain;
  const size_t n = (size_t)chain->num_items;
  at->layer = layer;
  for (int32_t p = 0; p < chain->num_parts; p++) {
    const int32_t *gain =
        chain->gain +
        ((size_t)layer * (size_t)chain->num_parts + (size_t)p) * n;
    const int32_t *group = NULL;
    if (chain->group_gain != NULL) {
      const size_t first = (size_t)layer * (size_t)chain->num_groups;
      group = chain->group_gain + (first + (size_t)chain->group_of[p]) * n;
    }
    for (int32_t i = 0; i < chain->num_items; i++) {
      *gain_of(at, i, p) =
          group == NULL
              ? gain[i]
              : (int64_t)llround(GROUP_SCALE * (chain->part_worth * gain[i] +
                                                chain->group_worth * group[i]));
    }
  }
  close_to_blanks(at);
}

void moerun__chain_layer_load_back(moerun__chain_layer *at, int32_t layer) {
  const moerun__chain *chain = at->chain;
  const size_t n = (size_t)chain->num_items;
  const int32_t *before = chain->part_of + (size_t)(layer - 1) * n;
  const int32_t *pairs = chain->precede + (size_t)(layer - 1) * n * n;
  at->layer = layer;
  memset(at->gain, 0, n * (size_t)at->num_columns * sizeof *at->gain);
  for (int32_t i = 0; i < chain->num_items; i++) {
    for (int32_t k = 0; k < chain->num_items; k++) {
      *gain_of(at, i, before[k]) += pairs[(size_t)i * n + (size_t)k];
    }
  }
  close_to_blanks(at);
}

int64_t moerun__chain_layer_kept(const moerun__chain_layer *at,
                                 const int32_t *part_of) {
  int64_t kept = 0;
  for (int32_t i = 0; i < at->chain->num_items; i++) {
    kept += *gain_of(at, i, part_of[i]);
  }
  return kept;
}

/* ---- Steps --------------------------------------------------------------- */

void moerun__chain_layer_set(moerun__chain_layer *at, const int32_t *part_of) {
  const size_t P = (size_t)at->chain->num_parts;
  memset(at->part_load, 0, P * sizeof *at->part_load);
  memset(at->blanks, 0, P * sizeof *at->blanks);
  for (int32_t i = 0; i < at->chain->num_items; i++) {
    at->part_of[i] = part_of[i];
    at->part_load[part_of[i]] += load_of(at, i);
    at->blanks[part_of[i]] += is_blank(at, i);
  }
}

moerun_status moerun__chain_layer_transport(moerun__chain_layer *at,
                                            const moerun__deadline *deadline) {
  moerun_status status = MOERUN_OK;
  int is_whole = 0;
  const int32_t P = at->chain->num_parts;
  MOERUN_TRY(moerun__transport_until(at->part_of, &is_whole, at->gain,
                                     at->chain->num_items, at->num_columns,
                                     at->room, deadline));
  if (!is_whole) {
    moerun__chain_layer_set(
        at,
        at->chain->part_of + (size_t)at->layer * (size_t)at->chain->num_items);
    goto done;
  }
  for (int32_t i = 0; i < at->chain->num_items; i++) {
    at->part_of[i] %= P;
  }
  moerun__chain_layer_set(at, at->part_of);
done:
  return status;
}

/* Best part for the item among those with room, and with load to spare if there
 * is one; equal gains: the least loaded. */
static int32_t best_part(const moerun__chain_layer *at, int32_t item,
                         const int32_t *count) {
  const moerun__chain *chain = at->chain;
  int32_t best = -1;
  int fits_best = 0;
  for (int32_t p = 0; p < chain->num_parts; p++) {
    if (count[p] == chain->per_part) continue;
    if (is_blank(at, item) && at->blanks[p] == chain->most_blanks) continue;
    const int fits = at->part_load[p] + load_of(at, item) <= cap_of(at, p);
    const int64_t more =
        best < 0 ? 1 : *gain_of(at, item, p) - *gain_of(at, item, best);
    const int lighter = best >= 0 && at->part_load[p] < at->part_load[best];
    if (fits < fits_best) continue;
    if (fits > fits_best || more > 0 || (more == 0 && lighter)) {
      best = p;
      fits_best = fits;
    }
  }
  return best;
}

moerun_status moerun__chain_layer_greedy(moerun__chain_layer *at,
                                         const moerun__deadline *deadline) {
  moerun_status status = MOERUN_OK;
  (void)deadline; /* takes no long steps */
  const moerun__chain *chain = at->chain;
  const size_t P = (size_t)chain->num_parts;
  int32_t *order = NULL;
  int32_t *count = NULL;
  MOERUN_TRY(moerun__alloc(&order, (size_t)chain->num_items, sizeof *order));
  MOERUN_TRY(moerun__alloc(&count, P, sizeof *count));
  memset(at->part_load, 0, P * sizeof *at->part_load);
  memset(at->blanks, 0, P * sizeof *at->blanks);
  moerun__heaviest_first(
      order, chain->load + (size_t)at->layer * (size_t)chain->num_items,
      chain->num_items);
  /* Blanks weigh nothing, but so may experts: blanks first, while there is
   * room for them. */
  for (int pass = 0; pass < 2; pass++) {
    for (int32_t i = 0; i < chain->num_items; i++) {
      const int32_t item = order[i];
      if (is_blank(at, item) != (pass == 0)) continue;
      const int32_t part = best_part(at, item, count);
      at->part_of[item] = part;
      at->part_load[part] += load_of(at, item);
      at->blanks[part] += is_blank(at, item);
      count[part]++;
    }
  }
done:
  moerun__free(order);
  moerun__free(count);
  return status;
}

/* Blanks stay within their number when i and k change places. */
static int blanks_allow(const moerun__chain_layer *at, int32_t i, int32_t k) {
  const int32_t a = at->part_of[i];
  const int32_t b = at->part_of[k];
  const int32_t moved = is_blank(at, i) - is_blank(at, k);
  return at->blanks[b] + moved <= at->chain->most_blanks &&
         at->blanks[a] - moved <= at->chain->most_blanks;
}

static int64_t swap_gain(const moerun__chain_layer *at, int32_t i, int32_t k) {
  const int32_t a = at->part_of[i];
  const int32_t b = at->part_of[k];
  return *gain_of(at, i, b) - *gain_of(at, i, a) + *gain_of(at, k, a) -
         *gain_of(at, k, b);
}

static void swap(moerun__chain_layer *at, int32_t i, int32_t k) {
  const int32_t a = at->part_of[i];
  const int32_t b = at->part_of[k];
  const int64_t moved = load_of(at, i) - load_of(at, k);
  const int32_t blanks = is_blank(at, i) - is_blank(at, k);
  at->part_of[i] = b;
  at->part_of[k] = a;
  at->part_load[a] -= moved;
  at->part_load[b] += moved;
  at->blanks[a] -= blanks;
  at->blanks[b] += blanks;
}

/* The part that exceeds its cap the most, or -1. */
static int32_t fullest_part(const moerun__chain_layer *at) {
  int32_t worst = -1;
  int64_t most = 0;
  for (int32_t p = 0; p < at->chain->num_parts; p++) {
    const int64_t excess = at->part_load[p] - cap_of(at, p);
    if (excess <= most) continue;
    worst = p;
    most = excess;
  }
  return worst;
}

/* The cheapest swap that relieves part `a` by a lighter item and overfills no
 * other part; 0: there is none. */
static int relieve(moerun__chain_layer *at, int32_t a) {
  const int32_t n = at->chain->num_items;
  const int64_t excess = at->part_load[a] - cap_of(at, a);
  double least = 0;
  int32_t best_i = -1;
  int32_t best_k = -1;
  for (int32_t i = 0; i < n; i++) {
    if (at->part_of[i] != a) continue;
    for (int32_t k = 0; k < n; k++) {
      const int32_t b = at->part_of[k];
      const int64_t moved = load_of(at, i) - load_of(at, k);
      if (b == a || moved <= 0) continue;
      if (at->part_load[b] + moved > cap_of(at, b)) continue;
      if (!blanks_allow(at, i, k)) continue;
      const int64_t removed = moved < excess ? moved : excess;
      const double loss = -(double)swap_gain(at, i, k) / (double)removed;
      if (best_i >= 0 && loss >= least) continue;
      least = loss;
      best_i = i;
      best_k = k;
    }
  }
  if (best_i < 0) return 0;
  swap(at, best_i, best_k);
  return 1;
}

int moerun__chain_layer_repair(moerun__chain_layer *at) {
  for (int32_t a = fullest_part(at); a >= 0; a = fullest_part(at)) {
    if (!relieve(at, a)) return 0;
  }
  return 1;
}

void moerun__chain_layer_climb(moerun__chain_layer *at) {
  const int32_t n = at->chain->num_items;
  for (int climbing = 1; climbing;) {
    climbing = 0;
    for (int32_t i = 0; i < n; i++) {
      for (int32_t k = i + 1; k < n; k++) {
        const int32_t a = at->part_of[i];
        const int32_t b = at->part_of[k];
        if (a == b || swap_gain(at, i, k) <= 0) continue;
        const int64_t moved = load_of(at, i) - load_of(at, k);
        if (at->part_load[b] + moved > cap_of(at, b)) continue;
        if (at->part_load[a] - moved > cap_of(at, a)) continue;
        if (!blanks_allow(at, i, k)) continue;
        swap(at, i, k);
        climbing = 1;
      }
    }
  }
}
