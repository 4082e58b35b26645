/* The problem behind the objective fanout: one layer, items in parts, and the
 * tokens that take them. A token visits each part that holds one of its items,
 * once, however many of them it holds. */
#ifndef MOERUN_SEARCH_VISITS_H
#define MOERUN_SEARCH_VISITS_H

#include "placement/search/split.h"

/* Letters: n items, P parts; words of 64 tokens. Sets of tokens are rows of
 * `stride` words, in an order in which any first part of them is an even sample
 * of the whole; the first `words` are looked at. */
typedef struct moerun__visits {
  const moerun__problem *problem; /* borrowed */
  moerun__split *split;           /* borrowed */
  int32_t layer;
  int32_t num_items; /* n */
  int32_t num_parts; /* P */
  size_t stride;
  size_t all_words; /* that hold tokens of this layer; <= stride */
  int64_t terms;    /* of these tokens */
  size_t words;     /* looked at; <= all_words */
  uint64_t *takes;  /* [n] tokens that take the item */
  int32_t *item_of; /* [64 * stride][K] the items of each token; -1: none */
  int64_t *load;    /* [n] blanks: 0 */
  const int32_t *expert_of; /* [n] of the split's layer */
  const int64_t *cap;       /* [P] */
  /* The state; all derived from part_of. */
  int32_t *part_of;   /* [n] */
  uint64_t *absent;   /* [P] tokens that do not visit the part */
  uint64_t *once;     /* [P] tokens that visit it for one item alone */
  int32_t *alone;     /* [n] tokens that visit the item's part only for it */
  int32_t *without;   /* [P][n] tokens of the item that do not visit the part */
  int64_t *part_load; /* [P] */
  int32_t *part_blanks; /* [P] */
  /* Scratch. */
  int32_t *item_of_expert; /* [E] */
  uint64_t *was_absent;    /* [stride] */
} moerun__visits;

/* For any layer of the split; loaded with none. */
moerun_status moerun__visits_create(moerun__visits **out,
                                    const moerun__problem *problem,
                                    moerun__split *split);
void moerun__visits_destroy(moerun__visits *visits);

/* The layer's tokens, and the split's parts as first state. */
void moerun__visits_load(moerun__visits *visits, int32_t layer);
/* Looks at so many words from now on (as many as there are, if fewer), and
 * derives everything from part_of. */
void moerun__visits_look_at(moerun__visits *visits, size_t words);

/* Visits of all tokens looked at. */
int64_t moerun__visits_count(const moerun__visits *visits);

/* Caps and blanks after items i and k, in different parts, change places. */
int moerun__visits_swap_allowed(const moerun__visits *visits, int32_t i,
                                int32_t k);
/* Visits added by that, at least: exact where no token takes both. */
static inline int32_t moerun__visits_least_loss(const moerun__visits *visits,
                                                int32_t i, int32_t k) {
  const size_t n = (size_t)visits->num_items;
  const int32_t *of_a = visits->without + (size_t)visits->part_of[i] * n;
  const int32_t *of_b = visits->without + (size_t)visits->part_of[k] * n;
  return of_a[k] + of_b[i] - visits->alone[i] - visits->alone[k];
}
/* Exactly. */
int32_t moerun__visits_loss(const moerun__visits *visits, int32_t i, int32_t k);
void moerun__visits_swap(moerun__visits *visits, int32_t i, int32_t k);

/* Visits that a second copy of the item in another part saves at most: those to
 * the item's own part for it alone, of tokens that visit the other. */
int32_t moerun__visits_saved(const moerun__visits *visits, int32_t item,
                             int32_t part);

/* Splits every layer with few visits, from the state that the split has. */
moerun_status moerun__visits_search(moerun__split *split,
                                    const moerun__problem *problem,
                                    const moerun__method_options *options,
                                    const moerun__deadline *deadline);

#endif
