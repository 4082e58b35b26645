/* State of the fan-out problem of one layer, in sets of tokens: a bit for each
 * token, 64 to a word. Two tables of set sizes bound what a swap can gain by
 * four look-ups, which refuses most proposals; the rest takes one pass over
 * four sets. A swap that is made derives the sets of both parts anew and counts
 * the rows of the tables that they change: some ten microseconds for ten
 * thousand tokens, where walking over the tokens of both items with a counter
 * for each token and part takes several times as long. Sets are also easily
 * sampled: their words are ordered such that any first part of them is spread
 * evenly over the trace. */
#include "placement/search/visits.h"

#include "placement/search/token_set.h"
#include "runtime/base/memory.h"

#include <string.h>

/* ---- Sets ---------------------------------------------------------------- */

/* An item that takes the tokens of `set` joins a part. */
static void join_part(uint64_t *absent, uint64_t *once, const uint64_t *set,
                      size_t words) {
  for (size_t w = 0; w < words; w++) {
    once[w] = (once[w] & ~set[w]) | (absent[w] & set[w]);
    absent[w] &= ~set[w];
  }
}

/* ---- Making -------------------------------------------------------------- */

moerun_status moerun__visits_create(moerun__visits **out,
                                    const moerun__problem *problem,
                                    moerun__split *split) {
  moerun_status status = MOERUN_OK;
  moerun__visits *visits = NULL;
  const int64_t tokens = problem->trace->num_tokens;
  *out = NULL;
  MOERUN_REQUIRE(tokens <= INT32_MAX / 4, MOERUN_ERR_UNSUPPORTED,
                 "placement: fanout: expected at most %d tokens, found %lld",
                 INT32_MAX / 4, (long long)tokens);
  const size_t n = (size_t)split->num_items;
  const size_t P = (size_t)split->num_parts;
  const size_t words =
      (size_t)(tokens + MOERUN_WORD_BITS - 1) / MOERUN_WORD_BITS;
  MOERUN_TRY(moerun__alloc(&visits, 1, sizeof *visits));
  visits->problem = problem;
  visits->split = split;
  visits->num_items = split->num_items;
  visits->num_parts = split->num_parts;
  visits->stride = words;
  MOERUN_TRY(moerun__alloc(&visits->takes, n * words, sizeof(uint64_t)));
  MOERUN_TRY(moerun__alloc(&visits->item_of,
                           words * MOERUN_WORD_BITS *
                               (size_t)problem->trace->num_terms,
                           sizeof(int32_t)));
  MOERUN_TRY(moerun__alloc(&visits->load, n, sizeof(int64_t)));
  MOERUN_TRY(moerun__alloc(&visits->part_of, n, sizeof(int32_t)));
  MOERUN_TRY(moerun__alloc(&visits->absent, P * words, sizeof(uint64_t)));
  MOERUN_TRY(moerun__alloc(&visits->once, P * words, sizeof(uint64_t)));
  MOERUN_TRY(moerun__alloc(&visits->alone, n, sizeof(int32_t)));
  MOERUN_TRY(moerun__alloc(&visits->without, P * n, sizeof(int32_t)));
  MOERUN_TRY(moerun__alloc(&visits->part_load, P, sizeof(int64_t)));
  MOERUN_TRY(moerun__alloc(&visits->part_blanks, P, sizeof(int32_t)));
  MOERUN_TRY(moerun__alloc(&visits->item_of_expert,
                           (size_t)problem->num_experts, sizeof(int32_t)));
  MOERUN_TRY(moerun__alloc(&visits->was_absent, words, sizeof(uint64_t)));
  *out = visits;
  visits = NULL;
done:
  moerun__visits_destroy(visits);
  return status;
}

void moerun__visits_destroy(moerun__visits *visits) {
  if (visits == NULL) return;
  moerun__free(visits->takes);
  moerun__free(visits->item_of);
  moerun__free(visits->load);
  moerun__free(visits->part_of);
  moerun__free(visits->absent);
  moerun__free(visits->once);
  moerun__free(visits->alone);
  moerun__free(visits->without);
  moerun__free(visits->part_load);
  moerun__free(visits->part_blanks);
  moerun__free(visits->item_of_expert);
  moerun__free(visits->was_absent);
  moerun__free(visits);
}

/* A step through the numbers 0 .. count - 1 that comes to each of them, and
 * evenly: near the golden section of the count, and without a common
 * divisor. */
static int64_t even_step(int64_t count) {
  int64_t step = (int64_t)(0.6180339887498949 * (double)count);
  for (step += step == 0;; step++) {
    int64_t a = count;
    int64_t b = step;
    while (b != 0) {
      const int64_t rest = a % b;
      a = b;
      b = rest;
    }
    if (a == 1) return step;
  }
}

/* Tokens with fewer than two items make the same number of visits whatever is
 * done, and are left out. */
static void collect_tokens(moerun__visits *visits) {
  const moerun__trace *trace = visits->problem->trace;
  const size_t K = (size_t)trace->num_terms;
  const int64_t step = even_step(trace->num_tokens);
  size_t found = 0;
  int64_t t = 0;
  visits->terms = 0;
  for (int64_t i = 0; i < trace->num_tokens; i++) {
    const size_t row =
        (size_t)t * (size_t)trace->num_layers + (size_t)visits->layer;
    const int16_t *ids = trace->ids + row * K;
    int32_t *item_of = visits->item_of + found * K;
    size_t items = 0;
    for (size_t k = 0; k < K; k++) {
      const int32_t item = ids[k] < 0 ? -1 : visits->item_of_expert[ids[k]];
      if (item >= 0) item_of[items++] = item;
    }
    t = t + step < trace->num_tokens ? t + step : t + step - trace->num_tokens;
    if (items < 2) continue;
    for (size_t k = items; k < K; k++) {
      item_of[k] = -1;
    }
    for (size_t k = 0; k < items; k++) {
      visits->takes[(size_t)item_of[k] * visits->stride +
                    found / MOERUN_WORD_BITS] |= UINT64_C(1)
                                                 << found % MOERUN_WORD_BITS;
    }
    visits->terms += (int64_t)items;
    found++;
  }
  visits->all_words = (found + MOERUN_WORD_BITS - 1) / MOERUN_WORD_BITS;
  for (size_t i = found * K; i < visits->all_words * MOERUN_WORD_BITS * K;
       i++) {
    visits->item_of[i] = -1;
  }
}

void moerun__visits_load(moerun__visits *visits, int32_t layer) {
  const moerun__problem *problem = visits->problem;
  const size_t n = (size_t)visits->num_items;
  const size_t E = (size_t)problem->num_experts;
  visits->layer = layer;
  visits->expert_of = visits->split->expert_of + (size_t)layer * n;
  visits->cap = visits->split->cap + (size_t)layer * (size_t)visits->num_parts;
  memcpy(visits->part_of, visits->split->part_of + (size_t)layer * n,
         n * sizeof *visits->part_of);
  for (size_t e = 0; e < E; e++) {
    visits->item_of_expert[e] = -1;
  }
  for (size_t i = 0; i < n; i++) {
    const int32_t expert = visits->expert_of[i];
    visits->load[i] = 0;
    if (expert < 0) continue;
    visits->load[i] = problem->load[(size_t)layer * E + (size_t)expert];
    visits->item_of_expert[expert] = (int32_t)i;
  }
  memset(visits->takes, 0, n * visits->stride * sizeof *visits->takes);
  collect_tokens(visits);
  moerun__visits_look_at(visits, visits->all_words);
}

/* ---- State --------------------------------------------------------------- */

static const uint64_t *takes_of(const moerun__visits *visits, int32_t item) {
  return visits->takes + (size_t)item * visits->stride;
}

/* The sets of the part and its items' `alone`, after part_of has changed. */
static void derive_sets(moerun__visits *visits, int32_t part) {
  const size_t words = visits->words;
  uint64_t *absent = visits->absent + (size_t)part * visits->stride;
  uint64_t *once = visits->once + (size_t)part * visits->stride;
  memset(absent, 0xff, words * sizeof *absent);
  memset(once, 0, words * sizeof *once);
  for (int32_t i = 0; i < visits->num_items; i++) {
    if (visits->part_of[i] != part) continue;
    join_part(absent, once, takes_of(visits, i), words);
  }
  for (int32_t i = 0; i < visits->num_items; i++) {
    if (visits->part_of[i] != part) continue;
    visits->alone[i] = moerun__set_common(takes_of(visits, i), once, words);
  }
}

static void count_without(moerun__visits *visits, int32_t part) {
  int32_t *without = visits->without + (size_t)part * (size_t)visits->num_items;
  const uint64_t *absent = visits->absent + (size_t)part * visits->stride;
  for (int32_t i = 0; i < visits->num_items; i++) {
    without[i] = moerun__set_common(takes_of(visits, i), absent, visits->words);
  }
}

/* `without` of the part's items follows the tokens that `absent` has gained or
 * lost. */
static void count_changes(moerun__visits *visits, int32_t part,
                          const uint64_t *was_absent) {
  const size_t K = (size_t)visits->problem->trace->num_terms;
  const uint64_t *absent = visits->absent + (size_t)part * visits->stride;
  int32_t *without = visits->without + (size_t)part * (size_t)visits->num_items;
  for (size_t w = 0; w < visits->words; w++) {
    uint64_t changed = absent[w] ^ was_absent[w];
    for (; changed != 0; changed &= changed - 1) {
      const int bit = __builtin_ctzll(changed);
      const int32_t by = (absent[w] >> bit & 1) != 0 ? 1 : -1;
      const int32_t *item_of =
          visits->item_of + (w * MOERUN_WORD_BITS + (size_t)bit) * K;
      for (size_t k = 0; k < K && item_of[k] >= 0; k++) {
        without[item_of[k]] += by;
      }
    }
  }
}

static void update_part(moerun__visits *visits, int32_t part) {
  const uint64_t *absent = visits->absent + (size_t)part * visits->stride;
  memcpy(visits->was_absent, absent, visits->words * sizeof *absent);
  derive_sets(visits, part);
  count_changes(visits, part, visits->was_absent);
}

void moerun__visits_look_at(moerun__visits *visits, size_t words) {
  const size_t P = (size_t)visits->num_parts;
  visits->words = words < visits->all_words ? words : visits->all_words;
  memset(visits->part_load, 0, P * sizeof *visits->part_load);
  memset(visits->part_blanks, 0, P * sizeof *visits->part_blanks);
  for (int32_t i = 0; i < visits->num_items; i++) {
    visits->part_load[visits->part_of[i]] += visits->load[i];
    visits->part_blanks[visits->part_of[i]] += visits->expert_of[i] < 0;
  }
  for (int32_t p = 0; p < visits->num_parts; p++) {
    derive_sets(visits, p);
    count_without(visits, p);
  }
}

/* Bits beyond the last token are in `absent`, too. */
int64_t moerun__visits_count(const moerun__visits *visits) {
  int64_t count = (int64_t)visits->words * MOERUN_WORD_BITS * visits->num_parts;
  for (int32_t p = 0; p < visits->num_parts; p++) {
    count -= moerun__set_size(visits->absent + (size_t)p * visits->stride,
                              visits->words);
  }
  return count;
}

int moerun__visits_swap_allowed(const moerun__visits *visits, int32_t i,
                                int32_t k) {
  const int32_t a = visits->part_of[i];
  const int32_t b = visits->part_of[k];
  const int64_t moved = visits->load[i] - visits->load[k];
  const int32_t blanks =
      (visits->expert_of[i] < 0) - (visits->expert_of[k] < 0);
  const int32_t most = visits->split->most_blanks;
  if (moved > 0 && visits->part_load[b] + moved > visits->cap[b]) return 0;
  if (moved < 0 && visits->part_load[a] - moved > visits->cap[a]) return 0;
  if (blanks > 0) return visits->part_blanks[b] < most;
  if (blanks < 0) return visits->part_blanks[a] < most;
  return 1;
}

int32_t moerun__visits_loss(const moerun__visits *visits, int32_t i,
                            int32_t k) {
  const uint64_t *once_a =
      visits->once + (size_t)visits->part_of[i] * visits->stride;
  const uint64_t *once_b =
      visits->once + (size_t)visits->part_of[k] * visits->stride;
  return moerun__visits_least_loss(visits, i, k) +
         moerun__set_common_twice(takes_of(visits, i), takes_of(visits, k),
                                  once_a, once_b, visits->words);
}

int32_t moerun__visits_saved(const moerun__visits *visits, int32_t item,
                             int32_t part) {
  const uint64_t *once =
      visits->once + (size_t)visits->part_of[item] * visits->stride;
  const uint64_t *absent = visits->absent + (size_t)part * visits->stride;
  return visits->alone[item] - moerun__set_common_three(takes_of(visits, item),
                                                        once, absent,
                                                        visits->words);
}

void moerun__visits_swap(moerun__visits *visits, int32_t i, int32_t k) {
  const int32_t a = visits->part_of[i];
  const int32_t b = visits->part_of[k];
  const int64_t moved = visits->load[i] - visits->load[k];
  const int32_t blanks =
      (visits->expert_of[i] < 0) - (visits->expert_of[k] < 0);
  visits->part_load[a] -= moved;
  visits->part_load[b] += moved;
  visits->part_blanks[a] -= blanks;
  visits->part_blanks[b] += blanks;
  visits->part_of[i] = b;
  visits->part_of[k] = a;
  update_part(visits, a);
  update_part(visits, b);
}
