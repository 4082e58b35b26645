/* Two passes over the T * W gate choices: count, then place, as in a counting
 * sort. O(T W^2 + R) at most, nothing allocated; the order of everything
 * follows from (rank, token, j) alone, so that a route is the same wherever it
 * is made. */
#include "runtime/plan/route.h"

#include <string.h>

int32_t moerun__route_max_copies(int32_t tokens, int32_t W, int32_t num_ranks) {
  return tokens * (W < num_ranks ? W : num_ranks);
}

void moerun__route_lay_out(moerun__route *route, moerun__arena *arena,
                           int32_t max_tokens, int32_t W, int32_t num_ranks) {
  const size_t R = (size_t)num_ranks;
  const size_t pairs = (size_t)max_tokens * (size_t)W;
  const size_t copies =
      (size_t)moerun__route_max_copies(max_tokens, W, num_ranks);
  const size_t tokens = (size_t)max_tokens;
  route->to_offset = moerun__arena_take(arena, tokens + 1, sizeof(int32_t));
  route->to = moerun__arena_take(arena, copies, sizeof(int32_t));
  route->slots = moerun__arena_take(arena, copies * (size_t)W, sizeof(int16_t));
  route->copy_offset = moerun__arena_take(arena, R + 1, sizeof(int32_t));
  route->own_copy = moerun__arena_take(arena, tokens, sizeof(int32_t));
  route->result_offset = moerun__arena_take(arena, R + 1, sizeof(int32_t));
  route->result_of = moerun__arena_take(arena, pairs, sizeof(int32_t));
  route->replica_of = moerun__arena_take(arena, pairs, sizeof(int32_t));
  route->rank_of = moerun__arena_take(arena, pairs, sizeof(int32_t));
  route->slot_of = moerun__arena_take(arena, pairs, sizeof(int32_t));
  route->copy_of_rank = moerun__arena_take(arena, R, sizeof(int32_t));
}

/* Counts of pass 1 become offsets; offset[r + 1] is then where pass 2 puts the
 * next item of rank r and ends as the offset of rank r + 1. */
static void counts_to_cursors(int32_t *offset, int32_t num_ranks) {
  int32_t sum = 0;
  for (int32_t r = 0; r < num_ranks; r++) {
    const int32_t count = offset[r + 1];
    offset[r + 1] = sum;
    sum += count;
  }
}

void moerun__route_choose(moerun__route *route,
                          const moerun_placement *placement, int32_t layer,
                          int32_t home, const int32_t *ids, int32_t T,
                          int32_t W) {
  for (int32_t t = 0; t < T; t++) {
    moerun__placement_choose(route->replica_of + (size_t)t * (size_t)W,
                             placement, layer, home,
                             ids + (size_t)t * (size_t)W, W);
  }
  for (int32_t i = 0; i < T * W; i++) {
    const int32_t replica = route->replica_of[i];
    route->rank_of[i] = replica < 0 ? -1 : placement->rank_of[replica];
    route->slot_of[i] = replica < 0 ? -1 : placement->slot_of[replica];
  }
}

/* The ranks of each token, and the copies and results of each rank as counts at
 * offset[rank + 1]. A token has few ranks, so each is put in its place among
 * those found so far. */
static void find_ranks(moerun__route *route, int32_t T, int32_t W) {
  int32_t *to = route->to;
  int32_t end = 0;
  for (int32_t t = 0; t < T; t++) {
    const int32_t first = end;
    route->to_offset[t] = first;
    for (int32_t i = t * W; i < (t + 1) * W; i++) {
      const int32_t rank = route->rank_of[i];
      int32_t at = end;
      if (rank < 0) continue;
      route->result_offset[rank + 1]++;
      while (at > first && to[at - 1] > rank) {
        at--;
      }
      if (at > first && to[at - 1] == rank) continue;
      for (int32_t c = end++; c > at; c--) {
        to[c] = to[c - 1];
      }
      to[at] = rank;
      route->copy_offset[rank + 1]++;
    }
  }
  route->to_offset[T] = end;
}

void moerun__route_solve(moerun__route *route, int32_t num_ranks, int32_t home,
                         int32_t T, int32_t W) {
  const size_t ranks = (size_t)num_ranks;
  memset(route->copy_offset, 0, (ranks + 1) * sizeof(int32_t));
  memset(route->result_offset, 0, (ranks + 1) * sizeof(int32_t));
  find_ranks(route, T, W);
  for (int32_t r = 0; r < num_ranks; r++) {
    route->copy_offset[r + 1] += route->copy_offset[r];
  }
  counts_to_cursors(route->result_offset, num_ranks);
  memset(route->slots, 0xff,
         (size_t)route->to_offset[T] * (size_t)W * sizeof(int16_t));
  for (int32_t t = 0; t < T; t++) {
    route->copy_of_rank[home] = -1;
    for (int32_t c = route->to_offset[t]; c < route->to_offset[t + 1]; c++) {
      route->copy_of_rank[route->to[c]] = c;
    }
    route->own_copy[t] = route->copy_of_rank[home];
    for (int32_t j = 0; j < W; j++) {
      const int32_t i = t * W + j;
      const int32_t rank = route->rank_of[i];
      route->result_of[i] = -1;
      if (rank < 0) continue;
      route->result_of[i] = route->result_offset[rank + 1]++;
      const size_t copy = (size_t)route->copy_of_rank[rank];
      route->slots[copy * (size_t)W + (size_t)j] = (int16_t)route->slot_of[i];
    }
  }
}
