/* Coordinate descent on a chain: layers are placed one after the other by their
 * pairs with the layer before, then improved in turn with both neighbours
 * fixed. In between the labels of all later layers are permuted as a whole,
 * which no step of a single layer could do: with equal caps that is an
 * assignment problem of the parts on each boundary. */
#include "placement/search/chain_layer.h"

#include "placement/judge/assignment.h"
#include "runtime/base/memory.h"

#include <string.h>

enum { MOST_SWEEPS = 50 };

/* Takes the layer at hand into the chain if that keeps more. */
static int accept(moerun__chain *chain, const moerun__chain_layer *at) {
  const int32_t *before =
      chain->part_of + (size_t)at->layer * (size_t)chain->num_items;
  if (moerun__chain_layer_kept(at, at->part_of) <=
      moerun__chain_layer_kept(at, before)) {
    return 0;
  }
  moerun__chain_set_layer(chain, at->layer, at->part_of);
  return 1;
}

/* From where part_of stands: repaired and climbed, or, where repair fails,
 * climbed from the chain's own split of the layer. */
static void finish(moerun__chain_layer *at) {
  const moerun__chain *chain = at->chain;
  if (!moerun__chain_layer_repair(at)) {
    moerun__chain_layer_set(at, chain->part_of + (size_t)at->layer *
                                                     (size_t)chain->num_items);
  }
  moerun__chain_layer_climb(at);
}

/* ---- Relabelling --------------------------------------------------------- */

typedef struct relabelling {
  int64_t *pairs; /* [P][P] part of the later layer, part of the earlier one */
  int32_t *label; /* [P] new one of each part of the later layer */
  int32_t *room;  /* [P] all 1 */
} relabelling;

static moerun_status relabel_boundary(moerun__chain *chain, int32_t layer,
                                      relabelling *by, int *changed,
                                      const moerun__deadline *deadline) {
  moerun_status status = MOERUN_OK;
  int is_whole = 0;
  const size_t n = (size_t)chain->num_items;
  const size_t P = (size_t)chain->num_parts;
  const int32_t *from = chain->part_of + (size_t)layer * n;
  const int32_t *to = from + n;
  const int32_t *follow = chain->follow + (size_t)layer * n * n;
  memset(by->pairs, 0, P * P * sizeof *by->pairs);
  for (size_t i = 0; i < n; i++) {
    for (size_t k = 0; k < n; k++) {
      by->pairs[(size_t)to[k] * P + (size_t)from[i]] += follow[i * n + k];
    }
  }
  MOERUN_TRY(moerun__transport_until(by->label, &is_whole, by->pairs,
                                     chain->num_parts, chain->num_parts,
                                     by->room, deadline));
  if (!is_whole) goto done;
  int64_t gained = 0;
  for (size_t p = 0; p < P; p++) {
    gained += by->pairs[p * P + (size_t)by->label[p]] - by->pairs[p * P + p];
  }
  if (gained <= 0) goto done;
  *changed = 1;
  for (size_t i = ((size_t)layer + 1) * n; i < (size_t)chain->num_layers * n;
       i++) {
    chain->part_of[i] = by->label[chain->part_of[i]];
  }
done:
  return status;
}

/* The labels of a part mean nothing but its cap and its group. */
static moerun_status relabel(moerun__chain *chain, int *changed,
                             const moerun__deadline *deadline) {
  moerun_status status = MOERUN_OK;
  relabelling by = {0};
  const size_t P = (size_t)chain->num_parts;
  if (!chain->even_caps || chain->group_gain != NULL) return MOERUN_OK;
  MOERUN_TRY(moerun__alloc(&by.pairs, P * P, sizeof *by.pairs));
  MOERUN_TRY(moerun__alloc(&by.label, P, sizeof *by.label));
  MOERUN_TRY(moerun__alloc(&by.room, P, sizeof *by.room));
  for (size_t p = 0; p < P; p++) {
    by.room[p] = 1;
  }
  for (int32_t l = 0; l + 1 < chain->num_layers; l++) {
    if (moerun__deadline_passed(deadline)) break;
    MOERUN_TRY(relabel_boundary(chain, l, &by, changed, deadline));
  }
  if (*changed) moerun__chain_derive(chain);
done:
  moerun__free(by.pairs);
  moerun__free(by.label);
  moerun__free(by.room);
  return status;
}

moerun_status moerun__chain_relabel(moerun__chain *chain,
                                    const moerun__deadline *deadline) {
  int changed = 0;
  return relabel(chain, &changed, deadline);
}

/* ---- First placement ----------------------------------------------------- */

static moerun_status
place_forward(moerun__chain *chain,
              moerun_status (*first_guess)(moerun__chain_layer *at,
                                           const moerun__deadline *deadline),
              const moerun__deadline *deadline) {
  moerun_status status = MOERUN_OK;
  moerun__chain_layer *at = NULL;
  MOERUN_TRY(moerun__chain_layer_create(&at, chain));
  for (int32_t l = 1; l < chain->num_layers; l++) {
    if (moerun__deadline_passed(deadline)) goto done;
    moerun__chain_layer_load_back(at, l);
    MOERUN_TRY(first_guess(at, deadline));
    finish(at);
    (void)accept(chain, at);
  }
  MOERUN_TRY(moerun__chain_relabel(chain, deadline));
done:
  moerun__chain_layer_destroy(at);
  return status;
}

moerun_status moerun__chain_forward(moerun__chain *chain,
                                    const moerun__deadline *deadline) {
  return place_forward(chain, moerun__chain_layer_transport, deadline);
}

moerun_status moerun__chain_greedy(moerun__chain *chain) {
  static const moerun__deadline never;
  return place_forward(chain, moerun__chain_layer_greedy, &never);
}

/* ---- Descent ------------------------------------------------------------- */

moerun_status moerun__chain_sweep(moerun__chain *chain,
                                  const moerun__deadline *deadline) {
  moerun_status status = MOERUN_OK;
  moerun__chain_layer *at = NULL;
  int changed = 1;
  MOERUN_TRY(moerun__chain_layer_create(&at, chain));
  for (int sweep = 0; changed && sweep < MOST_SWEEPS; sweep++) {
    changed = 0;
    MOERUN_TRY(relabel(chain, &changed, deadline));
    for (int32_t i = 0; i < chain->num_layers; i++) {
      if (moerun__deadline_passed(deadline)) goto done;
      const int32_t l = sweep % 2 == 0 ? i : chain->num_layers - 1 - i;
      moerun__chain_layer_load(at, l);
      MOERUN_TRY(moerun__chain_layer_transport(at, deadline));
      finish(at);
      if (accept(chain, at)) changed = 1;
    }
  }
done:
  moerun__chain_layer_destroy(at);
  return status;
}
