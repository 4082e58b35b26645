/* A state's linear value is the sum of its experts' gains at their ranks. The
 * experts are taken in two halves: the sums of all splits of a half are
 * tabulated once (R^(E/2) entries), so that each state then costs two look-ups
 * instead of E. */
#include "placement/search/states.h"

#include "runtime/base/memory.h"

#include <string.h>

typedef struct listing {
  moerun__states *states;
  int32_t fewest;
  int32_t most;
  int32_t room;              /* states allocated; 0: only counting */
  int32_t rank_of[INT8_MAX]; /* of the experts so far */
  int32_t count[INT8_MAX];   /* per rank */
} listing;

/* Experts that the ranks still lack must not exceed those left. */
static int can_finish(const listing *list, int32_t expert) {
  int32_t lacking = 0;
  for (int32_t r = 0; r < list->states->num_ranks; r++) {
    if (list->count[r] < list->fewest) lacking += list->fewest - list->count[r];
  }
  return lacking <= list->states->num_experts - expert;
}

static void add_state(listing *list) {
  moerun__states *states = list->states;
  const int32_t s = states->count++;
  if (s >= list->room) return;
  const size_t E = (size_t)states->num_experts;
  uint8_t *rank_of = states->rank_of + (size_t)s * E;
  for (int32_t e = 0; e < states->num_experts; e++) {
    int32_t *part = e < states->half ? &states->left[s] : &states->right[s];
    *part = *part * states->num_ranks + list->rank_of[e];
    rank_of[e] = (uint8_t)list->rank_of[e];
  }
}

/* All states in lexicographic order, up to one more than the most; expert by
 * expert, without recursion: rank_of[e] is the rank tried for e. */
static void list_states(listing *list) {
  const int32_t E = list->states->num_experts;
  const int32_t R = list->states->num_ranks;
  int32_t e = 0;
  list->rank_of[0] = -1;
  list->states->count = 0;
  while (e >= 0 && list->states->count <= MOERUN_MOST_STATES) {
    if (list->rank_of[e] >= 0) list->count[list->rank_of[e]]--;
    list->rank_of[e]++;
    if (list->rank_of[e] == R) {
      e--;
      continue;
    }
    list->count[list->rank_of[e]]++;
    if (list->count[list->rank_of[e]] > list->most) continue;
    if (!can_finish(list, e + 1)) continue;
    if (e + 1 < E) {
      list->rank_of[++e] = -1;
    } else {
      add_state(list);
    }
  }
}

static int32_t power(int32_t base, int32_t exponent) {
  int64_t product = 1;
  for (int32_t i = 0; i < exponent && product <= INT32_MAX / base; i++) {
    product *= base;
  }
  return (int32_t)product;
}

static int is_small(const moerun__problem *problem) {
  return problem->num_experts < INT8_MAX && problem->num_ranks < INT8_MAX;
}

int32_t moerun__states_count(const moerun__problem *problem) {
  moerun__states states = {.num_experts = problem->num_experts,
                           .num_ranks = problem->num_ranks};
  listing list = {.states = &states,
                  .fewest = problem->fewest_slots,
                  .most = problem->most_slots};
  if (!is_small(problem)) return MOERUN_MOST_STATES + 1;
  list_states(&list);
  return states.count;
}

moerun_status moerun__states_create(moerun__states **out,
                                    const moerun__problem *problem) {
  moerun_status status = MOERUN_OK;
  moerun__states *states = NULL;
  listing list = {.fewest = problem->fewest_slots,
                  .most = problem->most_slots,
                  .room = moerun__states_count(problem)};
  *out = NULL;
  MOERUN_REQUIRE(list.room <= MOERUN_MOST_STATES, MOERUN_ERR_UNSUPPORTED,
                 "placement: exact: expected at most %d splits of %d experts "
                 "into %d ranks, found more: use another method",
                 MOERUN_MOST_STATES, problem->num_experts, problem->num_ranks);
  MOERUN_TRY(moerun__alloc(&states, 1, sizeof *states));
  list.states = states;
  states->num_experts = problem->num_experts;
  states->num_ranks = problem->num_ranks;
  states->count = list.room;
  states->half = (problem->num_experts + 1) / 2;
  const size_t count = (size_t)states->count;
  states->num_left = power(states->num_ranks, states->half);
  states->num_right =
      power(states->num_ranks, states->num_experts - states->half);
  MOERUN_TRY(
      moerun__alloc(&states->rank_of, count * (size_t)states->num_experts, 1));
  MOERUN_TRY(moerun__alloc(&states->left, count, sizeof *states->left));
  MOERUN_TRY(moerun__alloc(&states->right, count, sizeof *states->right));
  list_states(&list);
  *out = states;
  states = NULL;
done:
  moerun__states_destroy(states);
  return status;
}

void moerun__states_destroy(moerun__states *states) {
  if (states == NULL) return;
  moerun__free(states->rank_of);
  moerun__free(states->left);
  moerun__free(states->right);
  moerun__free(states);
}

/* Sums of all splits of experts first .. end - 1, the first one's rank being
 * the most significant digit of the index; grown from the last expert on. */
static void tabulate(double *table, const moerun__states *states,
                     const double *gain, int32_t first, int32_t end) {
  const int32_t R = states->num_ranks;
  int32_t size = 1;
  table[0] = 0;
  for (int32_t e = end - 1; e >= first; e--) {
    for (int32_t r = R - 1; r >= 0; r--) {
      for (int32_t i = 0; i < size; i++) {
        table[r * size + i] = table[i] + gain[e * R + r];
      }
    }
    size *= R;
  }
}

void moerun__states_value(double *value, const moerun__states *states,
                          const double *gain, double *table) {
  double *right = table + states->num_left;
  tabulate(table, states, gain, 0, states->half);
  tabulate(right, states, gain, states->half, states->num_experts);
  for (int32_t s = 0; s < states->count; s++) {
    value[s] += table[states->left[s]] + right[states->right[s]];
  }
}

int moerun__states_allowed(const moerun__states *states,
                           const moerun__problem *problem, int32_t layer,
                           int32_t s) {
  const size_t E = (size_t)states->num_experts;
  const size_t R = (size_t)states->num_ranks;
  const uint8_t *rank_of = states->rank_of + (size_t)s * E;
  const int64_t *load = problem->load + (size_t)layer * E;
  const int64_t *cap = problem->cap + (size_t)layer * R;
  int64_t filled[INT8_MAX] = {0};
  for (size_t e = 0; e < E; e++) {
    filled[rank_of[e]] += load[e];
  }
  for (size_t r = 0; r < R; r++) {
    if (filled[r] > cap[r]) return 0;
  }
  return 1;
}
