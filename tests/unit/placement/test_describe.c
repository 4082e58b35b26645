/* What is said of a trace: loads, affinity and fan-out of traces small enough
 * to do by hand, caches against searches that try everything. */
#include "placement/trace/describe.h"
#include "runtime/base/memory.h"
#include "support/cmocka.h"
#include "support/draw.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { SEED = 21, MOST_EXPERTS = 5, MOST_ACCESSES = 10 };

static moerun__trace *make_trace(int64_t N, int32_t L, int32_t E, int32_t K,
                                 const int16_t *ids) {
  moerun__trace *trace = NULL;
  assert_int_equal(moerun__trace_create(&trace, N, L, E, K), MOERUN_OK);
  memcpy(trace->ids, ids, (size_t)(N * L * K) * sizeof *ids);
  assert_int_equal(moerun__trace_check(trace, "made"), MOERUN_OK);
  return trace;
}

static moerun__description *describe(const moerun__trace *trace,
                                     int32_t num_ranks, int32_t segment) {
  moerun__description *out = NULL;
  assert_int_equal(moerun__describe(&out, trace, num_ranks, segment),
                   MOERUN_OK);
  return out;
}

static void assert_near(double found, double expected) {
  if (fabs(found - expected) > 1e-12) {
    fail_msg("found %.17g expected %.17g", found, expected);
  }
}

/* Four tokens, two layers; the second layer repeats the first. */
static void by_hand(void **state) {
  (void)state;
  static const int16_t ids[] = {0, 1, 0, 1, 0, 1, 0, 1, 2, 3, 2, 3, 0, 2, 0, 2};
  moerun__trace *trace = make_trace(4, 2, 4, 2, ids);
  moerun__description *d = describe(trace, 2, 2);
  const moerun__layer_facts *first = &d->layer[0];
  /* loads 3 2 2 1: mean 2, variance 1/2 */
  assert_int_equal(first->hottest, 0);
  assert_int_equal(first->unused, 0);
  assert_near(first->peak, 1.5);
  assert_near(first->variation, sqrt(0.5) / 2);
  /* rows of pairs, over loads (3 2 2 1)/8: expert 0 (6 pairs) has 3 2 1 0,
   * expert 1 (4) 2 2 0 0, expert 2 (4) 1 0 2 1, expert 3 (2) 0 0 1 1 */
  const double row0 = (1 / 8. + 2 / 24. + 2 / 24. + 1 / 8.) / 2;
  const double row1 = (1 / 8. + 1 / 4. + 1 / 4. + 1 / 8.) / 2;
  const double row2 = (1 / 8. + 1 / 4. + 1 / 4. + 1 / 8.) / 2;
  const double row3 = (3 / 8. + 1 / 4. + 1 / 4. + 3 / 8.) / 2;
  assert_near(first->affinity,
              (6 * row0 + 4 * row1 + 4 * row2 + 2 * row3) / 16);
  assert_near(d->layer[1].affinity, 0);
  assert_near(d->mean.affinity, first->affinity);
  /* Of two layers that are alike; the boundary is one. */
  assert_near(d->mean.peak, first->peak);
  assert_near(d->mean.variation, first->variation);
  assert_near(d->mean.together, first->together);
  assert_near(d->mean.together_by_chance, first->together_by_chance);
  assert_near(d->mean.affinity_by_chance, first->affinity_by_chance);
  assert_int_equal(d->mean.unused, 0);
  assert_int_equal(d->mean.hottest, -1);
  /* others of the token: 0 has 1 1 2; 1 has 0 0; 2 has 3 0; 3 has 2 */
  const double with0 =
      (fabs(2 / 3. - 2 / 5.) + fabs(1 / 3. - 2 / 5.) + 1 / 5.) / 2;
  const double with1 = (1 - 3 / 6. + 2 / 6. + 1 / 6.) / 2;
  const double with2 = (0 + 2 / 6. + fabs(1 / 2. - 1 / 6.)) / 2;
  const double with3 = (1 - 2 / 7. + 3 / 7. + 2 / 7.) / 2;
  assert_near(first->together,
              (3 * with0 + 2 * with1 + 2 * with2 + 1 * with3) / 8);
  /* blocks {0 1} {2 3}: 1 1 1 2 ranks */
  assert_int_equal(d->num_blocks, 1);
  assert_int_equal(d->block[0].num_ranks, 2);
  assert_near(d->block[0].fanout, 1.25);
  assert_near(d->block[0].uniform, 2 * (1 - 2 * 1 / (4. * 3)));
  assert_near(d->block[0].load, 5 / 4.);
  /* sizes 1, 2, 3; segments of tokens 0 1 and 2 3 */
  assert_int_equal(d->num_segments, 2);
  assert_int_equal(d->num_caches, 3);
  assert_int_equal(d->cache[1].size, 2);
  assert_near(d->cache[1].fixed, 5 / 8.);
  assert_near(d->cache[1].segment, (4 + 3) / 8.);
  /* 0 1 0 1 2 3 0 2: LRU of 2 serves 2; looking ahead, 0 and 2 stay */
  assert_near(d->cache[1].recent, 2 / 8.);
  assert_near(d->cache[1].best, 3 / 8.);
  moerun__description_destroy(d);
  moerun__trace_destroy(trace);
}

/* Tokens that are alike where they are near each other: chance is looked for
 * half of the trace away, where each goes with each as often. */
static void neighbours_are_no_chance(void **state) {
  (void)state;
  static const int16_t of_token[] = {0, 0, 1, 1, 0, 0, 1, 1,
                                     0, 0, 0, 0, 1, 1, 1, 1};
  enum { N = sizeof of_token / sizeof *of_token };
  int16_t ids[2 * N];
  for (int t = 0; t < N; t++) {
    ids[2 * t] = ids[2 * t + 1] = of_token[t];
  }
  moerun__trace *trace = make_trace(N, 2, 2, 1, ids);
  moerun__description *d = describe(trace, 2, 2);
  assert_near(d->layer[0].affinity, 0.5);
  assert_near(d->layer[0].affinity_by_chance, 0);
  moerun__description_destroy(d);
  moerun__trace_destroy(trace);
}

/* Loads 2 3 3 1: the first of the hottest. */
static void the_hottest_has_the_most_rows(void **state) {
  (void)state;
  static const int16_t ids[] = {0, 0, 1, 1, 1, 2, 2, 2, 3};
  moerun__trace *trace = make_trace(9, 1, 4, 1, ids);
  moerun__description *d = describe(trace, 2, 2);
  assert_int_equal(d->layer[0].hottest, 1);
  assert_int_equal(d->layer[0].unused, 0);
  assert_near(d->layer[0].peak, 3 / 2.25);
  moerun__description_destroy(d);
  moerun__trace_destroy(trace);
}

/* Independent draws: what is found by chance is all there is. */
static void chance_is_told_apart(void **state) {
  (void)state;
  enum { N = 4000, E = 8 };
  moerun__trace *trace = NULL;
  draw from = {.seed = SEED};
  assert_int_equal(moerun__trace_create(&trace, N, 2, E, 2), MOERUN_OK);
  for (int i = 0; i < 2 * N; i++) {
    const int32_t first = draw_int(&from, 0, E - 1);
    trace->ids[2 * i] = (int16_t)first;
    trace->ids[2 * i + 1] = (int16_t)((first + draw_int(&from, 1, E - 1)) % E);
  }
  moerun__description *d = describe(trace, 4, 256);
  assert_true(d->mean.affinity > 0 && d->mean.affinity < 0.05);
  assert_true(fabs(d->mean.affinity - d->mean.affinity_by_chance) < 0.01);
  assert_true(fabs(d->mean.together - d->mean.together_by_chance) < 0.02);
  assert_true(fabs(d->block[0].fanout - d->block[0].uniform) < 0.02);
  moerun__description_destroy(d);
  /* now the second layer follows the first */
  for (int i = 0; i < N; i++) {
    memcpy(trace->ids + 4 * i + 2, trace->ids + 4 * i, 2 * sizeof(int16_t));
  }
  d = describe(trace, 4, 256);
  assert_true(d->mean.affinity > 0.3 && d->mean.affinity_by_chance < 0.05);
  moerun__description_destroy(d);
  moerun__trace_destroy(trace);
}

static void terms_that_are_none_do_not_count(void **state) {
  (void)state;
  static const int16_t ids[] = {0, -1, -1, -1, 1, 0};
  moerun__trace *trace = make_trace(3, 1, 2, 2, ids);
  moerun__description *d = describe(trace, 0, 1);
  assert_near(d->layer[0].peak, 2 / 1.5);
  assert_near(d->layer[0].affinity, 0);
  assert_int_equal(d->num_blocks, 1);
  assert_near(d->block[0].fanout, 1);
  assert_int_equal(d->num_caches, 1);
  assert_near(d->cache[0].segment, 2 / 3.);
  moerun__description_destroy(d);
  moerun__trace_destroy(trace);
}

/* ---- Caches -------------------------------------------------------------- */

/* Most hits of access[i..count) with the set `cache` (a bit per expert), every
 * choice of what gives way tried. */
static int64_t search(const int16_t *access, int i, int count, unsigned cache,
                      int size) {
  if (i == count) return 0;
  const unsigned bit = 1U << access[i];
  if (cache & bit) return 1 + search(access, i + 1, count, cache, size);
  int used = 0;
  int64_t most = 0;
  for (int e = 0; e < MOST_EXPERTS; e++) {
    used += (int)(cache >> e & 1U);
  }
  if (used < size) return search(access, i + 1, count, cache | bit, size);
  for (int e = 0; e < MOST_EXPERTS; e++) {
    if (!(cache >> e & 1U)) continue;
    const int64_t hits =
        search(access, i + 1, count, (cache & ~(1U << e)) | bit, size);
    if (hits > most) most = hits;
  }
  return most;
}

/* LRU as it is told: a stamp per expert. */
static int64_t replay_recent(const int16_t *access, int count, int size) {
  int stamp[MOST_EXPERTS] = {0};
  int used = 0;
  int64_t hits = 0;
  for (int i = 0; i < count; i++) {
    int oldest = -1;
    if (stamp[access[i]] > 0) {
      hits++;
    } else if (used < size) {
      used++;
    } else {
      for (int e = 0; e < MOST_EXPERTS; e++) {
        if (stamp[e] == 0) continue;
        if (oldest < 0 || stamp[e] < stamp[oldest]) oldest = e;
      }
      stamp[oldest] = 0;
    }
    stamp[access[i]] = i + 1;
  }
  return hits;
}

static void caches_serve_what_a_search_says(void **state) {
  (void)state;
  draw from = {.seed = SEED};
  for (int n = 0; n < 300; n++) {
    int16_t access[MOST_ACCESSES] = {0};
    int64_t recent[MOST_EXPERTS + 1];
    const int count = draw_int(&from, 1, MOST_ACCESSES);
    const int32_t E = draw_int(&from, 1, MOST_EXPERTS);
    for (int i = 0; i < count; i++) {
      access[i] = (int16_t)draw_int(&from, 0, E - 1);
    }
    assert_int_equal(moerun__count_recent(recent, access, count, E), MOERUN_OK);
    for (int32_t size = 1; size <= E; size++) {
      int64_t best = 0;
      assert_int_equal(moerun__count_best(&best, access, count, E, size),
                       MOERUN_OK);
      assert_int_equal(best, search(access, 0, count, 0, size));
      assert_int_equal(recent[size], replay_recent(access, count, size));
    }
  }
}

static void too_many_experts_are_refused(void **state) {
  (void)state;
  static const int16_t ids[] = {4096};
  moerun__trace *trace = make_trace(1, 1, 4097, 1, ids);
  moerun__description *d = NULL;
  assert_int_equal(moerun__describe(&d, trace, 0, 256), MOERUN_ERR_UNSUPPORTED);
  assert_string_equal(moerun_last_error(),
                      "trace: expected at most 4096 experts to describe, "
                      "found 4097");
  assert_null(d);
  moerun__trace_destroy(trace);
}

static void failed_allocations_leave_nothing_behind(void **state) {
  (void)state;
  static const int16_t ids[] = {0, 1, 2, 3, 1, 3, 0, 2};
  moerun__trace *trace = make_trace(2, 2, 4, 2, ids);
  const size_t live = moerun__alloc_live();
  for (long nth = 0;; nth++) {
    moerun__description *d = NULL;
    moerun__alloc_fail_nth(nth);
    const moerun_status status = moerun__describe(&d, trace, 0, 1);
    moerun__alloc_fail_nth(-1);
    moerun__description_destroy(d);
    assert_int_equal(moerun__alloc_live(), live);
    if (status == MOERUN_OK) {
      assert_true(nth >= 12);
      break;
    }
    assert_int_equal(status, MOERUN_ERR_NOMEM);
    assert_null(d);
  }
  moerun__trace_destroy(trace);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(by_hand),
      cmocka_unit_test(neighbours_are_no_chance),
      cmocka_unit_test(the_hottest_has_the_most_rows),
      cmocka_unit_test(chance_is_told_apart),
      cmocka_unit_test(terms_that_are_none_do_not_count),
      cmocka_unit_test(caches_serve_what_a_search_says),
      cmocka_unit_test(too_many_experts_are_refused),
      cmocka_unit_test(failed_allocations_leave_nothing_behind),
  };
  (void)printf("seed %d\n", SEED);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
