/* The world of the first test: 3 ranks, 4 experts (0 on rank 0, 1 on rank 1, 2
 * and 3 on rank 2), 3 tokens of home rank 1 with K = 2:
 *   token 0 -> experts 3, 2     both on rank 2: one copy, two results
 *   token 1 -> experts 1, 0     ranks 1 (home) and 0
 *   token 2 -> expert 2, none   rank 2
 * Copies: t0 to rank 2, t1 to ranks 0 and 1, t2 to rank 2. */
#include "runtime/base/rng.h"
#include "runtime/plan/route.h"
#include "support/cmocka.h"

#include <stdlib.h>
#include <string.h>

typedef struct world {
  moerun_placement *placement;
  moerun__route route;
  char *block;
} world;

static void set_up(world *w, moerun_placement *placement, int32_t T,
                   int32_t K) {
  moerun__arena arena = {NULL, 0};
  w->placement = placement;
  moerun__route_lay_out(&w->route, &arena, T, K, placement->num_ranks);
  assert_int_equal(moerun__alloc(&w->block, arena.used, 1), MOERUN_OK);
  arena = (moerun__arena){w->block, 0};
  moerun__route_lay_out(&w->route, &arena, T, K, placement->num_ranks);
}

static void solve(world *w, int32_t home, const int32_t *ids, int32_t T,
                  int32_t K) {
  moerun__route_choose(&w->route, w->placement, 0, home, ids, T, K);
  moerun__route_solve(&w->route, w->placement->num_ranks, home, T, K);
}

static void tear_down(world *w) {
  moerun__free(w->block);
  moerun_placement_destroy(w->placement);
}

static void assert_ints(const int32_t *found, const int32_t *want, int n) {
  for (int i = 0; i < n; i++) {
    assert_int_equal(found[i], want[i]);
  }
}

static void worked_example(void **state) {
  (void)state;
  world w;
  moerun_placement *placement = NULL;
  const int32_t rank_of_expert[] = {0, 1, 2, 2};
  const int32_t ids[] = {3, 2, 1, 0, 2, -1};
  assert_int_equal(moerun_placement_create(&placement, 1, 4, 3, rank_of_expert),
                   MOERUN_OK);
  set_up(&w, placement, 3, 2);
  solve(&w, 1, ids, 3, 2);
  assert_ints(w.route.copy_offset, (const int32_t[]){0, 1, 2, 4}, 4);
  assert_ints(w.route.to_offset, (const int32_t[]){0, 1, 3, 4}, 4);
  assert_ints(w.route.to, (const int32_t[]){2, 0, 1, 2}, 4);
  assert_ints(w.route.own_copy, (const int32_t[]){-1, 2, -1}, 3);
  const int16_t slots[] = {1, 0, -1, 0, 0, -1, 0, -1};
  assert_memory_equal(w.route.slots, slots, sizeof slots);
  assert_ints(w.route.result_offset, (const int32_t[]){0, 1, 2, 5}, 4);
  assert_ints(w.route.result_of, (const int32_t[]){2, 3, 1, 0, 4, -1}, 6);
  tear_down(&w);
}

static void no_tokens_no_rows(void **state) {
  (void)state;
  world w;
  moerun_placement *placement = NULL;
  assert_int_equal(moerun_placement_create_block(&placement, 1, 4, 3),
                   MOERUN_OK);
  set_up(&w, placement, 1, 2);
  solve(&w, 0, NULL, 0, 2);
  assert_int_equal(w.route.to_offset[0], 0);
  assert_ints(w.route.copy_offset, (const int32_t[]){0, 0, 0, 0}, 4);
  assert_ints(w.route.result_offset, (const int32_t[]){0, 0, 0, 0}, 4);
  tear_down(&w);
}

static uint64_t draw(uint64_t seed, uint64_t *counter, uint64_t below) {
  return (uint64_t)(moerun__uniform(seed, 1, (*counter)++) * (double)below);
}

/* Every expert on one to three distinct ranks. */
static moerun_placement *random_placement(uint64_t seed, uint64_t *counter,
                                          int32_t E, int32_t R) {
  int32_t offset[65];
  int32_t rank_of[192];
  int32_t n = 0;
  for (int32_t e = 0; e < E; e++) {
    offset[e] = n;
    const int32_t first = (int32_t)draw(seed, counter, (uint64_t)R);
    const int32_t most = R < 3 ? R : 3;
    const int32_t count = 1 + (int32_t)draw(seed, counter, (uint64_t)most);
    for (int32_t r = 0; r < R; r++) { /* ascending, `count` of them, cyclic */
      if ((r - first + R) % R < count) rank_of[n++] = r;
    }
  }
  offset[E] = n;
  moerun_placement *placement = NULL;
  assert_int_equal(
      moerun__placement_create(&placement, 1, E, R, offset, rank_of, "random"),
      MOERUN_OK);
  return placement;
}

static int32_t token_of(const moerun__route *route, int32_t copy) {
  int32_t t = 0;
  while (route->to_offset[t + 1] <= copy) {
    t++;
  }
  return t;
}

/* What a receiver does with the plan must reach each (token, j) once, at an
 * expert's slot on a rank that has it, and the results must be numbered as the
 * receiver numbers them. */
static void check_plan(const world *w, const int32_t *ids, int32_t T, int32_t K,
                       int32_t home) {
  const int32_t R = w->placement->num_ranks;
  const moerun__route *route = &w->route;
  int32_t experts[64];
  char *seen = calloc((size_t)T * (size_t)K + 1, 1);
  for (int32_t r = 0; r < R; r++) {
    int32_t result = route->result_offset[r];
    int32_t copies = 0;
    const int32_t L = moerun__placement_experts(w->placement, 0, r, experts);
    for (int32_t c = 0; c < route->to_offset[T]; c++) {
      const int32_t t = token_of(route, c);
      assert_in_range(route->to[c], 0, R - 1);
      if (c > route->to_offset[t]) assert_true(route->to[c - 1] < route->to[c]);
      if (route->to[c] != r) continue;
      copies++;
      if (r == home) assert_int_equal(route->own_copy[t], c);
      int32_t terms = 0;
      for (int32_t j = 0; j < K; j++) {
        const int32_t slot = route->slots[c * K + j];
        if (slot < 0) continue;
        assert_true(slot < L);
        assert_int_equal(experts[slot], ids[t * K + j]);
        assert_int_equal(route->result_of[t * K + j], result++);
        assert_int_equal(seen[t * K + j]++, 0);
        terms++;
      }
      assert_true(terms > 0);
    }
    assert_int_equal(result, route->result_offset[r + 1]);
    assert_int_equal(copies, route->copy_offset[r + 1] - route->copy_offset[r]);
  }
  for (int32_t t = 0; t < T; t++) {
    const int32_t own = route->own_copy[t];
    if (own < 0) continue;
    assert_int_equal(token_of(route, own), t);
    assert_int_equal(route->to[own], home);
  }
  for (int32_t i = 0; i < T * K; i++) {
    assert_int_equal(seen[i], ids[i] >= 0);
    if (ids[i] < 0) assert_int_equal(route->result_of[i], -1);
  }
  /* A replica at home is used: no copy leaves for such an expert. */
  const int32_t L = moerun__placement_experts(w->placement, 0, home, experts);
  for (int32_t c = 0; c < route->to_offset[T]; c++) {
    if (route->to[c] == home) continue;
    for (int32_t j = 0; j < K; j++) {
      if (route->slots[c * K + j] < 0) continue;
      for (int32_t s = 0; s < L; s++) {
        assert_int_not_equal(experts[s], ids[token_of(route, c) * K + j]);
      }
    }
  }
  free(seen);
}

static void any_plan_reaches_every_expert_once(void **state) {
  (void)state;
  const uint64_t seed = 20240117;
  uint64_t counter = 0;
  print_message("seed %llu\n", (unsigned long long)seed);
  for (int round = 0; round < 300; round++) {
    const int32_t R = 1 + (int32_t)draw(seed, &counter, 9);
    const int32_t E = 1 + (int32_t)draw(seed, &counter, 40);
    const int32_t K =
        1 + (int32_t)draw(seed, &counter, E < 8 ? (uint64_t)E : 8);
    const int32_t T = (int32_t)draw(seed, &counter, 30);
    const int32_t home = (int32_t)draw(seed, &counter, (uint64_t)R);
    int32_t ids[30 * 8];
    for (int32_t t = 0; t < T; t++) {
      const int32_t start = (int32_t)draw(seed, &counter, (uint64_t)E);
      for (int32_t j = 0; j < K; j++) {
        ids[t * K + j] = draw(seed, &counter, 10) == 0 ? -1 : (start + j) % E;
      }
    }
    world w;
    set_up(&w, random_placement(seed, &counter, E, R), T + 1, K);
    solve(&w, home, ids, T, K);
    check_plan(&w, ids, T, K, home);
    tear_down(&w);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(worked_example),
      cmocka_unit_test(no_tokens_no_rows),
      cmocka_unit_test(any_plan_reaches_every_expert_once),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
