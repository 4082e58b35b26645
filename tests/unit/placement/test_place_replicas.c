/* Replicas in spare slots: what the searches count against the judge, and what
 * they make of it. */
#include "placement/search/sharing.h"

#include "placement/search/token_set.h"
#include "support/draw.h"
#include "support/place_world.h"
#include "support/temp_dir.h"

#include <stdio.h>

enum { SEED = 67, L = 3, E = 22 };

static const synthetic middle = {.tokens = 300,
                                 .layers = L,
                                 .experts = E,
                                 .terms = 4,
                                 .classes = 12,
                                 .affinity = 1.8,
                                 .seed = SEED,
                                 .sample = SEED};

static moerun__problem_options objective(int number) {
  return (moerun__problem_options){.objective = (moerun__objective)number,
                                   .node_weight = 0.3,
                                   .far_weight = 1};
}

static moerun__judgement judged(const place_world *w,
                                const moerun_placement *p) {
  moerun__judgement j = {0};
  assert_int_equal(moerun__judge(&j, p, &w->trace, w->topology,
                                 w->problem->node_weight,
                                 w->problem->far_weight, NULL),
                   MOERUN_OK);
  return j;
}

/* What the judge's objective is a mean of, for all homes of R <= 8 ranks. */
static double judged_sum(const place_world *w,
                         const moerun__replicas *replicas) {
  moerun_placement *p = NULL;
  const moerun__problem *problem = w->problem;
  assert_int_equal(moerun__placement_create(&p, L, E, problem->num_ranks,
                                            replicas->map.replica_offset,
                                            replicas->map.rank_of, "test"),
                   MOERUN_OK);
  const moerun__judgement j = judged(w, p);
  double count = (double)(L * w->trace.num_tokens);
  if (problem->objective != MOERUN_OBJECTIVE_FANOUT) {
    count = 0;
    for (int32_t i = 0; i < (L - 1) * E * E; i++) {
      count += (double)problem->follow[i];
    }
  }
  moerun_placement_destroy(p);
  return moerun__judged(problem, &j) * count * problem->num_ranks;
}

/* ---- Counting ------------------------------------------------------------ */

static void predicted_changes_are_judged_changes(void **state) {
  (void)state;
  draw from = {SEED, 0};
  for (int i = 0; i < 6; i++) {
    place_world w;
    moerun__replicas *replicas = NULL;
    int32_t rank_of[L * E];
    place_world_create(&w, &middle, i < 3 ? "5 ranks" : "3 nodes x 2 ranks",
                       objective(i % 3));
    const int32_t R = w.problem->num_ranks;
    int64_t load[8];
    moerun__change change = {.load = load};
    assert_int_equal(moerun__start_ranks(rank_of, w.problem), MOERUN_OK);
    assert_int_equal(
        moerun__replicas_create(&replicas, w.problem, NULL, rank_of, 4),
        MOERUN_OK);
    double before = judged_sum(&w, replicas);
    for (int32_t l = 0; l < L; l++) {
      moerun__replicas_enter(replicas, l);
      for (int s = 0; s < 8; s++) {
        const int32_t e = draw_int(&from, 0, E - 1);
        const int32_t r = draw_int(&from, 0, R - 1);
        if (moerun__replicas_holds(replicas, e, r)) continue;
        moerun__replicas_estimate(replicas, &change, e, r, INT64_MAX);
        moerun__replicas_add(replicas, &change, e, r);
        assert_true(moerun__replicas_holds(replicas, e, r));
        const double after = judged_sum(&w, replicas);
        assert_close(after - before, change.cost);
        before = after;
      }
      double cost = 0;
      int64_t recount[8];
      assert_int_equal(moerun__replicas_count(replicas, &cost, recount), R);
      assert_memory_equal(replicas->load, recount, (size_t)R * sizeof *recount);
    }
    moerun__replicas_destroy(replicas);
    place_world_destroy(&w);
  }
}

/* Many homes, of which most are alike; experts of one to four replicas. */
static void counts_of_all_homes_are_the_judges(void **state) {
  (void)state;
  draw from = {SEED, 4};
  for (int number = 0; number < 3; number++) {
    place_world w;
    moerun__replicas *replicas = NULL;
    int32_t rank_of[L * E];
    int64_t load[20];
    double sum = 0;
    synthetic make = middle;
    make.tokens = 60;
    place_world_create(&w, &make, "20 ranks", objective(number));
    assert_int_equal(moerun__start_ranks(rank_of, w.problem), MOERUN_OK);
    assert_int_equal(
        moerun__replicas_create(&replicas, w.problem, NULL, rank_of, 4),
        MOERUN_OK);
    for (int32_t l = 0; l < L; l++) {
      replicas->layer = l;
      for (int s = 0; s < 30; s++) {
        const int32_t e = draw_int(&from, 0, E - 1);
        const int32_t r = draw_int(&from, 0, 19);
        if (moerun__replicas_holds(replicas, e, r)) continue;
        moerun__replicas_add(replicas, NULL, e, r);
      }
    }
    for (int32_t l = 0; l < L; l++) {
      double cost = 0;
      int64_t terms = 0;
      replicas->layer = l;
      assert_int_equal(moerun__replicas_count(replicas, &cost, load), 20);
      for (int32_t r = 0; r < 20; r++) {
        terms += load[r];
      }
      assert_int_equal(terms, 20 * 60 * 4);
      sum += number > 0 ? cost / 2 : cost; /* each pair in two layers' */
    }
    assert_close(sum, judged_sum(&w, replicas));
    moerun__replicas_destroy(replicas);
    place_world_destroy(&w);
  }
}

typedef struct sharing_world {
  place_world place;
  moerun__split *split;
  moerun__visits *visits;
  moerun__replicas *replicas;
  moerun__sharing *sharing;
} sharing_world;

static void sharing_world_create(sharing_world *w, const synthetic *make,
                                 const char *topology, int32_t spare_slots) {
  int32_t rank_of[L * E];
  memset(w, 0, sizeof *w);
  place_world_create(&w->place, make, topology, objective(0));
  const moerun__problem *problem = w->place.problem;
  assert_int_equal(moerun__start_ranks(rank_of, problem), MOERUN_OK);
  assert_int_equal(moerun__split_of_ranks(&w->split, problem, rank_of),
                   MOERUN_OK);
  assert_int_equal(moerun__visits_create(&w->visits, problem, w->split),
                   MOERUN_OK);
  assert_int_equal(moerun__replicas_create(&w->replicas, problem, NULL, rank_of,
                                           spare_slots),
                   MOERUN_OK);
  assert_int_equal(
      moerun__sharing_create(&w->sharing, problem, w->visits, spare_slots),
      MOERUN_OK);
}

static void sharing_world_destroy(sharing_world *w) {
  moerun__sharing_destroy(w->sharing);
  moerun__replicas_destroy(w->replicas);
  moerun__visits_destroy(w->visits);
  moerun__split_destroy(w->split);
  place_world_destroy(&w->place);
}

static void assert_about(double found, double want) {
  if (fabs(found - want) > 1e-6 * (1 + fabs(want))) {
    fail_msg("found %.12g, wanted %.12g", found, want);
  }
}

/* What changes add to: visits, and penalties for loads over the caps. */
static double cost_of(const moerun__sharing *s) {
  const moerun__problem *problem = s->problem;
  double excess = 0;
  double cost = 0;
  for (int32_t r = 0; r < problem->num_ranks; r++) {
    if (s->load[r] > s->cap[r]) excess += s->load[r] - s->cap[r];
    cost += s->base_count[r];
  }
  for (int32_t e = 0; e < problem->num_experts; e++) {
    cost += s->cost[e];
  }
  return cost + MOERUN_SHARING_PENALTY * excess * MOERUN_WORD_BITS *
                    (double)s->visits->words /
                    (double)problem->trace->num_tokens;
}

/* Changes of every kind, kept or reverted, against a state derived anew; every
 * expert is somewhere and nowhere twice, and loads add up. */
static void trials_are_what_derived_states_say(void **state) {
  (void)state;
  static const char *const topologies[] = {"2 ranks", "5 ranks", "11 ranks"};
  draw from = {SEED, 1};
  int kept = 0;
  for (int i = 0; i < 3; i++) {
    sharing_world w;
    sharing_world_create(&w, &middle, topologies[i], 3);
    moerun__sharing *s = w.sharing;
    const int32_t R = w.place.problem->num_ranks;
    moerun__visits_load(w.visits, 1);
    w.replicas->layer = 1;
    moerun__sharing_start(s, w.replicas);
    s->cap[0] *= 0.9;
    moerun__sharing_derive(s);
    double cost = cost_of(s);
    for (int x = 0; x < 400; x++) {
      const moerun__slot_change change = {
          .a = draw_int(&from, 0, R - 1),
          .slot_a = draw_int(&from, 0, s->room - 1),
          .b = draw_int(&from, -1, R - 1),
          .slot_b = draw_int(&from, 0, s->room - 1),
          .expert = draw_int(&from, -1, E - 1)};
      if (!moerun__sharing_allowed(s, &change)) continue;
      const double loss = moerun__sharing_try(s, &change);
      if (draw_int(&from, 0, 1) == 0) {
        moerun__sharing_revert(s);
      } else {
        moerun__sharing_keep(s);
        cost += loss;
        kept++;
      }
      assert_about(cost_of(s), cost);
      moerun__sharing_derive(s);
      assert_about(cost_of(s), cost);
    }
    double total = 0;
    int32_t seen[E][16] = {{0}};
    for (int32_t r = 0; r < R; r++) {
      total += s->load[r];
      for (int32_t x = 0; x < s->room; x++) {
        const int32_t e = s->slot[r * s->room + x];
        if (e >= 0) assert_int_equal(seen[e][r]++, 0);
      }
    }
    for (int32_t e = 0; e < E; e++) {
      int32_t count = 0;
      for (int32_t r = 0; r < R; r++) {
        count += seen[e][r];
      }
      assert_true(count >= 1);
      assert_int_equal(count, s->host_count[e]);
      total -= (double)w.place.problem->load[E + e];
    }
    assert_about(total, 0);
    sharing_world_destroy(&w);
  }
  assert_true(kept > 100);
}

/* Where one expert alone has replicas, two of them, nothing is left out of the
 * estimate: it is the judge's, for every expert and rank. */
static void estimates_are_exact_for_one_expert(void **state) {
  (void)state;
  sharing_world w;
  sharing_world_create(&w, &middle, "5 ranks", 1);
  moerun__sharing *s = w.sharing;
  w.replicas->layer = 2;
  moerun__visits_load(w.visits, 2);
  const double before = judged_sum(&w.place, w.replicas);
  moerun__sharing_start(s, w.replicas);
  const double none = cost_of(s);
  for (int32_t e = 0; e < E; e++) {
    for (int32_t r = 0; r < 5; r++) {
      if (moerun__replicas_holds(w.replicas, e, r)) continue;
      moerun__replicas_add(w.replicas, NULL, e, r);
      moerun__sharing_start(s, w.replicas);
      for (int32_t x = 0; x < 5; x++) {
        s->cap[x] = 1e9;
      }
      assert_about(5 * (cost_of(s) - none),
                   judged_sum(&w.place, w.replicas) - before);
      moerun__replicas_take(w.replicas, e, r);
    }
  }
  sharing_world_destroy(&w);
}

/* ---- Placements ---------------------------------------------------------- */

/* By the rule alone: loads of all homes within the caps, slots within the
 * room. */
static void assert_within(const place_world *w, const moerun_placement *p,
                          int32_t spare_slots) {
  const moerun__problem *problem = w->problem;
  const int32_t R = problem->num_ranks;
  for (int32_t l = 0; l < problem->num_layers; l++) {
    int64_t load[32] = {0};
    for (int64_t t = 0; t < w->trace.num_tokens; t++) {
      int32_t ids[8];
      int32_t replica[8];
      const int32_t K = w->trace.num_terms;
      for (int32_t k = 0; k < K; k++) {
        ids[k] = w->trace.ids[(t * problem->num_layers + l) * K + k];
      }
      for (int32_t home = 0; home < R; home++) {
        moerun__placement_choose(replica, p, l, home, ids, K);
        for (int32_t k = 0; k < K; k++) {
          load[p->rank_of[replica[k]]]++;
        }
      }
    }
    for (int32_t r = 0; r < R; r++) {
      assert_true(p->slot_count[l * R + r] <=
                  problem->even_slots + spare_slots);
      assert_true(load[r] <= R * problem->cap[l * R + r]);
    }
  }
}

/* Read back from its file. */
static moerun_placement *through_a_file(const moerun_placement *p) {
  moerun_placement *read = NULL;
  temp_dir dir;
  char path[TEMP_PATH];
  assert_true(temp_dir_create(&dir));
  assert_int_equal(moerun_placement_save(p, temp_path(path, &dir, "p.json")),
                   MOERUN_OK);
  assert_int_equal(moerun_placement_load(&read, path), MOERUN_OK);
  temp_dir_remove(&dir);
  return read;
}

static void spare_slots_save_within_the_caps(void **state) {
  (void)state;
  static const struct {
    const char *method;
    const char *topology;
    int objective;
    int32_t spare_slots;
  } cases[] = {{"cd", "5 ranks", 0, 1},
               {"cd", "4 ranks", 0, 3},
               {"cd", "2 nodes x 3 ranks", 0, 1},
               {"cd", "25 ranks", 0, 1},
               {"cd", "4 ranks, speed 1 1 1 0.5", 0, 1},
               {"cd", "5 ranks", 1, 1},
               {"cd", "2 nodes x 3 ranks", 2, 2},
               {"lpt", "5 ranks", 0, 1},
               {"lpt", "12 ranks", 0, 1},
               {"lpt", "12 ranks", 1, 1},
               {"greedy", "5 ranks", 1, 1}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    place_world w;
    moerun_placement *p[2] = {NULL};
    double value[2];
    place_world_create(&w, &middle, cases[i].topology,
                       objective(cases[i].objective));
    for (int spare = 0; spare < 2; spare++) {
      const moerun__method_options how = {
          .seed = 3, .spare_slots = spare * cases[i].spare_slots};
      const moerun__judgement j =
          place_and_judge(&p[spare], &w, cases[i].method, &w.trace, how);
      value[spare] = moerun__judged(w.problem, &j);
    }
    assert_true(value[1] < value[0]);
    moerun_placement *read = through_a_file(p[1]);
    assert_int_equal(moerun__placement_check(read), MOERUN_OK);
    assert_within(&w, read, cases[i].spare_slots);
    const moerun__judgement again = judged(&w, read);
    assert_close(moerun__judged(w.problem, &again), value[1]);
    moerun_placement_destroy(read);
    moerun_placement_destroy(p[0]);
    moerun_placement_destroy(p[1]);
    place_world_destroy(&w);
  }
}

/* A quarter of all terms go to expert 5: more than a rank's share of eight. */
static void hot_experts_have_replicas_first(void **state) {
  (void)state;
  static const char *const methods[] = {"lpt", "cd"};
  for (int m = 0; m < 2; m++) {
    for (int number = 0; number < 2; number++) {
      place_world w;
      moerun_placement *p = NULL;
      synthetic make = middle;
      make.experts = 32;
      place_world_create(&w, &make, "8 ranks", objective(number));
      for (int64_t row = 0; row < make.tokens * L; row++) {
        int16_t *ids = w.trace.ids + row * 4;
        int k = 3;
        for (int x = 0; x < 4; x++) {
          if (ids[x] == 5) k = x;
        }
        ids[k] = 5;
      }
      const moerun__problem_options options = objective(number);
      moerun__problem_destroy(w.problem);
      assert_int_equal(
          moerun__problem_create(&w.problem, &w.trace, w.topology, &options),
          MOERUN_OK);
      (void)place_and_judge(&p, &w, methods[m], &w.trace,
                            (moerun__method_options){.spare_slots = 1});
      for (int32_t l = 0; l < L; l++) {
        const int32_t *offset = p->replica_offset + l * 32 + 5;
        assert_true(offset[1] - offset[0] >= 2);
      }
      assert_within(&w, p, 1);
      moerun_placement_destroy(p);
      place_world_destroy(&w);
    }
  }
}

static void seeds_decide_with_polish_too(void **state) {
  (void)state;
  place_world w;
  moerun_placement *p[4] = {NULL};
  double value[4];
  place_world_create(&w, &middle, "6 ranks", objective(0));
  for (int i = 0; i < 4; i++) {
    const moerun__method_options how = {
        .seed = i == 2 ? 9 : 8, .spare_slots = 1, .polish = i == 3 ? 1 : 0};
    value[i] = place_and_judge(&p[i], &w, "cd", &w.trace, how).fanout;
  }
  const size_t bytes = L * E * sizeof(int32_t);
  assert_memory_equal(p[0]->replica_offset, p[1]->replica_offset, bytes);
  assert_memory_equal(p[0]->rank_of, p[1]->rank_of, bytes);
  assert_true(memcmp(p[0]->rank_of, p[2]->rank_of, bytes) != 0);
  assert_true(value[3] < value[0] + 0.02);
  for (int i = 0; i < 4; i++) {
    moerun_placement_destroy(p[i]);
  }
  place_world_destroy(&w);
}

static void no_bound_holds_with_replicas(void **state) {
  (void)state;
  place_world w;
  moerun_placement *p = NULL;
  int32_t proven = 1;
  double bound = 0;
  synthetic make = middle;
  make.experts = 6;
  place_world_create(&w, &make, "3 ranks", objective(0));
  const moerun__method_options how = {.spare_slots = 1};
  assert_int_equal(moerun__place(&p, &proven, &bound, w.problem,
                                 moerun__method_find("exact"), &how),
                   MOERUN_OK);
  assert_int_equal(proven, 0);
  assert_true(bound < 0);
  assert_true(p->replica_offset[L * 6] > L * 6);
  moerun_placement_destroy(p);
  place_world_destroy(&w);
}

static void what_cannot_be_is_reported(void **state) {
  (void)state;
  place_world w;
  moerun_placement *p = NULL;
  moerun__problem *loads = NULL;
  const moerun__method_options how = {.spare_slots = 1};
  place_world_create(&w, &middle, "5 ranks", objective(0));
  (void)place_and_judge(&p, &w, "cd", &w.trace, how);
  assert_int_equal(moerun__replicas_check(w.problem, p, 1), MOERUN_OK);
  assert_int_equal(moerun__replicas_check(w.problem, p, 0),
                   MOERUN_ERR_INFEASIBLE);
  assert_non_null(strstr(moerun_last_error(), "layer 0, rank"));
  w.problem->cap[2 * 5 + 3] = 10;
  assert_int_equal(moerun__replicas_check(w.problem, p, 1),
                   MOERUN_ERR_INFEASIBLE);
  assert_non_null(strstr(moerun_last_error(), "layer 2, rank 3: expected a "
                                              "load of at most 10"));
  moerun_placement_destroy(p);
  assert_int_equal(moerun__problem_create_loads(&loads, w.problem->load, L, E,
                                                w.topology, 0),
                   MOERUN_OK);
  assert_int_equal(
      moerun__place(&p, NULL, NULL, loads, moerun__method_find("lpt"), &how),
      MOERUN_ERR_UNSUPPORTED);
  assert_null(p);
  moerun__problem_destroy(loads);
  place_world_destroy(&w);
}

static double clock_now;

static double ticking_clock(void) {
  return clock_now += 1;
}

static void a_time_limit_ends_the_search(void **state) {
  (void)state;
  place_world w;
  moerun_placement *p = NULL;
  place_world_create(&w, &middle, "4 ranks", objective(0));
  clock_now = 0;
  (void)place_and_judge(&p, &w, "cd", &w.trace,
                        (moerun__method_options){.seed = 1,
                                                 .polish = 1 << 30,
                                                 .spare_slots = 1,
                                                 .time_limit_s = 1000,
                                                 .clock = ticking_clock});
  assert_within(&w, p, 1);
  assert_true(clock_now > 1000 && clock_now < 1040);
  moerun_placement_destroy(p);
  place_world_destroy(&w);
}

static void failed_allocations_leave_nothing_behind(void **state) {
  (void)state;
  for (int number = 0; number < 2; number++) {
    place_world w;
    synthetic make = middle;
    make.tokens = 60;
    place_world_create(&w, &make, "5 ranks", objective(number));
    /* The limit is over soon: it is memory that this is about. */
    const moerun__method_options how = {
        .time_limit_s = 10, .clock = ticking_clock, .spare_slots = 1};
    const size_t live = moerun__alloc_live();
    for (long nth = 0;; nth++) {
      moerun_placement *p = NULL;
      moerun__alloc_fail_nth(nth);
      const moerun_status status = moerun__place(
          &p, NULL, NULL, w.problem, moerun__method_find("cd"), &how);
      moerun__alloc_fail_nth(-1);
      moerun_placement_destroy(p);
      assert_int_equal(moerun__alloc_live(), live);
      if (status == MOERUN_OK) {
        assert_true(nth > 60);
        break;
      }
      assert_int_equal(status, MOERUN_ERR_NOMEM);
    }
    place_world_destroy(&w);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(predicted_changes_are_judged_changes),
      cmocka_unit_test(counts_of_all_homes_are_the_judges),
      cmocka_unit_test(trials_are_what_derived_states_say),
      cmocka_unit_test(estimates_are_exact_for_one_expert),
      cmocka_unit_test(spare_slots_save_within_the_caps),
      cmocka_unit_test(hot_experts_have_replicas_first),
      cmocka_unit_test(seeds_decide_with_polish_too),
      cmocka_unit_test(no_bound_holds_with_replicas),
      cmocka_unit_test(what_cannot_be_is_reported),
      cmocka_unit_test(a_time_limit_ends_the_search),
      cmocka_unit_test(failed_allocations_leave_nothing_behind),
  };
  (void)printf("seed %d\n", SEED);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
