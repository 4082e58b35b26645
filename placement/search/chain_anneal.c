/* Simulated annealing (Kirkpatrick et al., Science 220, 1983) by swaps within a
 * layer. A proposal costs four look-ups and is refused in most cases, so tens
 * of millions fit in a second. The temperature falls geometrically from the
 * value at which a given share of random swaps would be taken from the state
 * at hand, so that one schedule suits any trace, whatever its counts. */
#include "placement/search/chain.h"

#include "placement/search/cooling.h"
#include "placement/search/random.h"
#include "runtime/base/memory.h"

#include <math.h>
#include <string.h>

/* Proposals made to one layer before the next is drawn: the pair counts of a
 * layer with its neighbours stay in cache for that long. */
enum { STAY = 1024 };

/* Two items of the layer in different parts? */
static int propose(int32_t *i, int32_t *k, const moerun__chain *chain,
                   int32_t layer, uint64_t bits) {
  const int32_t n = chain->num_items;
  const int32_t *part_of = chain->part_of + (size_t)layer * (size_t)n;
  *i = moerun__random_below(bits, n);
  *k = moerun__random_below(bits << 32, n);
  return part_of[*i] != part_of[*k];
}

static int32_t draw_layer(const moerun__chain *chain, moerun__random *random) {
  return moerun__random_below(moerun__random_bits(random), chain->num_layers);
}

static moerun_status find_start(double *out, const moerun__chain *chain,
                                moerun__random *random, double heat) {
  moerun_status status = MOERUN_OK;
  double *loss = NULL;
  int32_t i = 0;
  int32_t k = 0;
  MOERUN_TRY(moerun__alloc(&loss, MOERUN_COOLING_SAMPLES, sizeof *loss));
  for (int count = 0; count < MOERUN_COOLING_SAMPLES;) {
    const int32_t layer = draw_layer(chain, random);
    if (!propose(&i, &k, chain, layer, moerun__random_bits(random))) continue;
    loss[count++] = -moerun__chain_swap_worth(chain, layer, i, k);
  }
  *out = moerun__cooling_temperature(loss, MOERUN_COOLING_SAMPLES, heat);
done:
  moerun__free(loss);
  return status;
}

static void take_block(moerun__chain *chain, moerun__random *random,
                       double temperature) {
  int32_t layer = 0;
  int32_t i = 0;
  int32_t k = 0;
  for (int s = 0; s < MOERUN_COOLING_BLOCK; s++) {
    if (s % STAY == 0) layer = draw_layer(chain, random);
    if (!propose(&i, &k, chain, layer, moerun__random_bits(random))) continue;
    const double worth = moerun__chain_swap_worth(chain, layer, i, k);
    if (!moerun__cooling_takes(-worth, temperature, random)) continue;
    if (!moerun__chain_swap_allowed(chain, layer, i, k)) continue;
    moerun__chain_swap(chain, layer, i, k);
  }
}

/* Swaps that gain, until there is none. */
static void climb(moerun__chain *chain) {
  const int32_t n = chain->num_items;
  for (int climbing = 1; climbing;) {
    climbing = 0;
    for (int32_t l = 0; l < chain->num_layers; l++) {
      const int32_t *part_of = chain->part_of + (size_t)l * (size_t)n;
      for (int32_t pair = 0; pair < n * n; pair++) {
        const int32_t i = pair / n;
        const int32_t k = pair % n;
        if (i >= k || part_of[i] == part_of[k]) continue;
        if (moerun__chain_swap_worth(chain, l, i, k) <= 0) continue;
        if (!moerun__chain_swap_allowed(chain, l, i, k)) continue;
        moerun__chain_swap(chain, l, i, k);
        climbing = 1;
      }
    }
  }
}

moerun_status moerun__chain_anneal(moerun__chain *chain, uint64_t seed,
                                   int64_t steps, double heat,
                                   const moerun__deadline *deadline) {
  moerun_status status = MOERUN_OK;
  int32_t *before = NULL;
  const size_t entries = (size_t)chain->num_layers * (size_t)chain->num_items;
  moerun__random random = moerun__random_start(seed, 1);
  double temperature = 0;
  if (chain->num_parts == 1) return MOERUN_OK;
  MOERUN_TRY(moerun__alloc(&before, entries, sizeof *before));
  memcpy(before, chain->part_of, entries * sizeof *before);
  const double kept = moerun__chain_kept(chain);
  MOERUN_TRY(find_start(&temperature, chain, &random, heat));
  const double factor = moerun__cooling_factor(steps);
  for (int64_t s = 0; s < steps; s += MOERUN_COOLING_BLOCK) {
    if (moerun__deadline_passed(deadline)) break;
    take_block(chain, &random, temperature);
    temperature *= factor;
  }
  climb(chain);
  if (moerun__chain_kept(chain) < kept) {
    memcpy(chain->part_of, before, entries * sizeof *before);
    moerun__chain_derive(chain);
  }
done:
  moerun__free(before);
  return status;
}
