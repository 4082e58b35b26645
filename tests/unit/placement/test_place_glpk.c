/* The methods that need GLPK, held against enumeration, dynamic programming and
 * each other. */
#include "placement/judge/relabel.h"
#include "placement/methods/ilp.h"
#include "placement/search/split.h"
#include "placement/search/states.h"
#include "placement/search/tail.h"
#include "support/place_program.h"

#include <stdio.h>

enum { SEED = 61 };

/* ---- The whole problem --------------------------------------------------- */

static const synthetic tiny = {.tokens = 300,
                               .layers = 3,
                               .experts = 4,
                               .terms = 2,
                               .classes = 3,
                               .affinity = 1.8,
                               .seed = SEED,
                               .sample = SEED};

/* The least judged value over all sequences of splits, within the caps or
 * not. */
static double least_of_all(const place_world *w, int within_caps) {
  moerun__states *states = NULL;
  assert_int_equal(moerun__states_create(&states, w->problem), MOERUN_OK);
  const int32_t L = w->problem->num_layers;
  const int32_t E = w->problem->num_experts;
  int32_t rank_of[64];
  double least = INFINITY;
  int64_t all = 1;
  for (int32_t l = 0; l < L; l++) {
    all *= states->count;
  }
  for (int64_t n = 0; n < all; n++) {
    int64_t rest = n;
    for (int32_t l = 0; l < L; l++) {
      for (int32_t e = 0; e < E; e++) {
        rank_of[l * E + e] = states->rank_of[rest % states->count * E + e];
      }
      rest /= states->count;
    }
    if (within_caps &&
        moerun__solution_check(w->problem, rank_of) != MOERUN_OK) {
      continue;
    }
    const double value = judged_value(w, rank_of);
    if (value < least) least = value;
  }
  moerun__states_destroy(states);
  return least;
}

static void all_exact_methods_agree(void **state) {
  (void)needs_glpk(state);
  static const char *const topologies[] = {"2 ranks", "2 ranks, speed 1.5 0.5",
                                           "3 ranks"};
  for (int round = 0; round < 6; round++) {
    place_world w;
    synthetic make = tiny;
    make.seed += (uint64_t)round;
    place_world_create(
        &w, &make, topologies[round % 3],
        (moerun__problem_options){.objective = MOERUN_OBJECTIVE_CUT});
    const double least = least_of_all(&w, 1);
    const moerun__deadline never = {0};
    int32_t rank_of[3 * 4] = {0};
    for (int form = MOERUN_ILP_CUT; form <= MOERUN_ILP_RLT; form++) {
      moerun__solution found = {.rank_of = rank_of, .bound = -1};
      if (moerun__ilp(&found, w.problem, (moerun__ilp_form)form, NULL,
                      &never) != MOERUN_OK) {
        fail_msg("%s", moerun_last_error());
      }
      assert_int_equal(found.proven, 1);
      assert_close(found.bound, least);
      assert_close(judged_value(&w, rank_of), least);
      assert_int_equal(moerun__solution_check(w.problem, rank_of), MOERUN_OK);
    }
    static const char *const methods[] = {"exact", "ilp", "cd"};
    for (int m = 0; m < 3; m++) {
      moerun_placement *p = NULL;
      const moerun__judgement judged = place_and_judge(
          &p, &w, methods[m], &w.trace, (moerun__method_options){.seed = 1});
      assert_close(judged.cut, least);
      moerun_placement_destroy(p);
    }
    place_world_destroy(&w);
  }
}

static double clock_that_ran_out(void) {
  static double now = 0;
  return now += 1;
}

/* What cd found is returned, with a bound below it, when time is short. */
static void ilp_keeps_its_start(void **state) {
  (void)needs_glpk(state);
  place_world w;
  synthetic make = tiny;
  make.experts = 8;
  make.layers = 4;
  place_world_create(
      &w, &make, "4 ranks",
      (moerun__problem_options){.objective = MOERUN_OBJECTIVE_CUT});
  int32_t start[4 * 8];
  int32_t rank_of[4 * 8];
  const moerun__method_options cd = {.seed = 1};
  moerun__solution found = {.rank_of = start, .bound = -1};
  const moerun__method *method = moerun__method_find("cd");
  assert_non_null(method);
  assert_int_equal(method->solve(&found, w.problem, &cd), MOERUN_OK);
  found.rank_of = rank_of;
  const moerun__deadline soon = {clock_that_ran_out, 1};
  assert_int_equal(moerun__ilp(&found, w.problem, MOERUN_ILP_RLT, start, &soon),
                   MOERUN_OK);
  assert_int_equal(found.proven, 0);
  assert_true(judged_value(&w, rank_of) <= judged_value(&w, start) + 1e-9);
  assert_true(found.bound <= judged_value(&w, rank_of) + 1e-9);
  assert_int_equal(moerun__ilp(&found, w.problem, MOERUN_ILP_RLT, NULL, &soon),
                   MOERUN_ERR_UNSUPPORTED);
  place_world_destroy(&w);
}

/* ---- Published methods --------------------------------------------------- */

static void the_same_seed_gives_the_same(void **state) {
  (void)needs_glpk(state);
  static const char *const methods[] = {"exflow", "moetuner", "topo"};
  static const char *const topologies[] = {"1 rank", "4 ranks",
                                           "2 nodes x 3 ranks", "9 ranks",
                                           "3 ranks, speed 1.5 1 0.5"};
  synthetic make = tiny;
  make.experts = 8;
  for (int t = 0; t < 5; t++) {
    place_world w;
    place_world_create(
        &w, &make, topologies[t],
        (moerun__problem_options){.objective = MOERUN_OBJECTIVE_WEIGHTED,
                                  .node_weight = 0.25,
                                  .far_weight = 1});
    const int32_t R = w.problem->num_ranks;
    for (int m = 0; m < 3; m++) {
      if (moerun__topology_is_uneven(w.topology) &&
          moerun__method_find(methods[m])->ignores_speed) {
        continue;
      }
      moerun_placement *p[2] = {NULL};
      for (int again = 0; again < 2; again++) {
        (void)place_and_judge(&p[again], &w, methods[m], &w.trace,
                              (moerun__method_options){.seed = 5});
      }
      assert_memory_equal(p[0]->rank_of, p[1]->rank_of,
                          3 * 8 * sizeof(int32_t));
      for (int32_t n = 0; n < 3 * R;
           n++) { /* as many experts as there is room */
        assert_in_range(p[0]->slot_count[n], 0, (8 + R - 1) / R);
      }
      moerun_placement_destroy(p[0]);
      moerun_placement_destroy(p[1]);
    }
    place_world_destroy(&w);
  }
}

/* One expert a token, two ranks: one halving, whose program is solved whole. */
static void exflow_finds_its_optimum(void **state) {
  (void)needs_glpk(state);
  for (int round = 0; round < 4; round++) {
    place_world w;
    moerun_placement *p = NULL;
    synthetic make = tiny;
    make.terms = 1;
    make.seed += (uint64_t)round;
    place_world_create(
        &w, &make, "2 ranks",
        (moerun__problem_options){.objective = MOERUN_OBJECTIVE_CUT});
    const moerun__judgement judged = place_and_judge(
        &p, &w, "exflow", &w.trace, (moerun__method_options){.seed = 1});
    assert_close(judged.cut, least_of_all(&w, 0));
    moerun_placement_destroy(p);
    place_world_destroy(&w);
  }
}

/* Sum over the ranks of |load - share| in one layer. */
static double unevenness(const place_world *w, int32_t layer,
                         const int32_t *rank_of) {
  const moerun__problem *p = w->problem;
  double load[8] = {0};
  double total = 0;
  double sum = 0;
  for (int32_t e = 0; e < p->num_experts; e++) {
    const double tokens = (double)p->load[layer * p->num_experts + e];
    load[rank_of[e]] += tokens;
    total += tokens;
  }
  for (int32_t r = 0; r < p->num_ranks; r++) {
    sum += fabs(load[r] - total * w->topology->speed[r] / p->num_ranks);
  }
  return sum;
}

static void moetuner_evens_loads(void **state) {
  (void)needs_glpk(state);
  place_world w;
  moerun_placement *p = NULL;
  synthetic make = tiny;
  make.experts = 8;
  place_world_create(
      &w, &make, "2 ranks",
      (moerun__problem_options){.objective = MOERUN_OBJECTIVE_CUT});
  (void)place_and_judge(&p, &w, "moetuner", &w.trace,
                        (moerun__method_options){.seed = 1});
  moerun__states *states = NULL;
  assert_int_equal(moerun__states_create(&states, w.problem), MOERUN_OK);
  for (int32_t l = 0; l < 3; l++) {
    double least = INFINITY;
    for (int32_t s = 0; s < states->count; s++) {
      int32_t rank_of[8];
      for (int32_t e = 0; e < 8; e++) {
        rank_of[e] = states->rank_of[s * 8 + e];
      }
      least = fmin(least, unevenness(&w, l, rank_of));
    }
    const double found = unevenness(&w, l, p->rank_of + l * 8);
    assert_true(found <= least * 1.03 + 1e-6);
  }
  moerun__states_destroy(states);
  moerun_placement_destroy(p);
  place_world_destroy(&w);
}

/* One expert a rank: groups are given, and ranks by assignment are the optimum;
 * so is the sum of the boundaries' linear programs. */
static void one_expert_a_rank_is_assignment(void **state) {
  (void)needs_glpk(state);
  place_world w;
  moerun_placement *p = NULL;
  synthetic make = tiny;
  make.experts = 7;
  place_world_create(
      &w, &make, "7 ranks",
      (moerun__problem_options){.objective = MOERUN_OBJECTIVE_CUT});
  double cut = 0;
  double pairs = 0;
  for (int32_t l = 0; l < 2; l++) {
    const int64_t *follow = w.problem->follow + (ptrdiff_t)l * 49;
    moerun__program *program = program_of(49, 1, 0);
    for (int32_t n = 0; n < 14; n++) { /* rows and columns of the square */
      assert_int_equal(moerun__program_add_row(program, 1, 1), MOERUN_OK);
      for (int32_t o = 0; o < 7; o++) {
        const int32_t at = n < 7 ? n * 7 + o : o * 7 + n - 7;
        assert_int_equal(moerun__program_add_term(program, at, 1), MOERUN_OK);
      }
    }
    for (int32_t n = 0; n < 49; n++) {
      moerun__program_set_cost(program, n, -(double)follow[n]);
      pairs += (double)follow[n];
    }
    cut += solve_it(program, NULL).cost;
    moerun__program_destroy(program);
  }
  cut = (pairs + cut) / pairs;
  static const char *const methods[] = {"moetuner", "exact"};
  for (int m = 0; m < 2; m++) {
    const moerun__judgement judged = place_and_judge(
        &p, &w, methods[m], &w.trace, (moerun__method_options){.seed = 1});
    assert_close(judged.cut, cut);
    moerun_placement_destroy(p);
  }
  place_world_destroy(&w);
}

/* MoETuner's second stage as it is printed: u >= pairs * (y + y' - 1) for
 * groups on two ranks, the sum of u least. Columns: y[3][R][R], then u[2]. */
static double least_tail(const int64_t *pairs) {
  enum { R = 3, NAMES = 3 * R * R };
  int32_t u = 0;
  moerun__program *p = program_of(NAMES, 1, 1);
  assert_int_equal(moerun__program_add_columns(&u, p, 2, 0, INFINITY, 0),
                   MOERUN_OK);
  for (int32_t n = 0; n < NAMES;
       n++) { /* each group and each rank of a layer */
    const int32_t first = n / (R * R) * R * R;
    if (n % R != 0) continue;
    for (int side = 0; side < 2; side++) {
      assert_int_equal(moerun__program_add_row(p, 1, 1), MOERUN_OK);
      for (int32_t o = 0; o < R; o++) {
        const int32_t at = side == 0 ? n + o : first + o * R + n / R % R;
        assert_int_equal(moerun__program_add_term(p, at, 1), MOERUN_OK);
      }
    }
  }
  for (int32_t n = 0; n < 2 * R * R * R * R; n++) {
    const int32_t boundary = n / (R * R * R * R);
    const int32_t c = n / (R * R * R) % R;
    const int32_t d = n / (R * R) % R;
    const int32_t g = n / R % R;
    const int32_t h = n % R;
    const double weight = (double)pairs[(boundary * R + c) * R + d];
    if (g == h) continue;
    assert_int_equal(moerun__program_add_row(p, -weight, INFINITY), MOERUN_OK);
    assert_int_equal(moerun__program_add_term(p, u + boundary, 1), MOERUN_OK);
    assert_int_equal(
        moerun__program_add_term(p, (boundary * R + c) * R + g, -weight),
        MOERUN_OK);
    assert_int_equal(
        moerun__program_add_term(p, ((boundary + 1) * R + d) * R + h, -weight),
        MOERUN_OK);
  }
  moerun__program_set_cost(p, u, 1);
  moerun__program_set_cost(p, u + 1, 1);
  const moerun__program_result result = solve_it(p, NULL);
  assert_int_equal(result.outcome, MOERUN_OUTCOME_OPTIMAL);
  moerun__program_destroy(p);
  return result.cost;
}

static void names_of_ranks_need_no_program(void **state) {
  (void)needs_glpk(state);
  for (int round = 0; round < 5; round++) {
    place_world w;
    synthetic make = tiny;
    make.experts = 6;
    make.seed += (uint64_t)round;
    place_world_create(
        &w, &make, "3 ranks",
        (moerun__problem_options){.objective = MOERUN_OBJECTIVE_TAIL});
    int32_t rank_of[3 * 6];
    int64_t pairs[2 * 3 * 3] = {0};
    int64_t found = 0;
    assert_int_equal(moerun__start_ranks(rank_of, w.problem), MOERUN_OK);
    for (int32_t n = 0; n < 2 * 6 * 6; n++) {
      const int32_t l = n / 36;
      const int32_t c = rank_of[l * 6 + n / 6 % 6];
      const int32_t d = rank_of[(l + 1) * 6 + n % 6];
      pairs[(l * 3 + c) * 3 + d] += w.problem->follow[n];
    }
    const double least = least_tail(pairs);
    assert_int_equal(moerun__relabel(rank_of, w.problem), MOERUN_OK);
    assert_int_equal(moerun__tail_count(&found, w.problem, rank_of), MOERUN_OK);
    assert_close((double)found, least);
    place_world_destroy(&w);
  }
}

/* What topo minimises, with its hosts. */
static double way_of(const place_world *w, const int32_t *rank_of) {
  const moerun__problem *p = w->problem;
  const int32_t E = p->num_experts;
  const int32_t L = p->num_layers;
  double sum = 0;
  for (int32_t n = 0; n < L * E; n++) {
    const int32_t l = n / E;
    const int32_t next = l + 1 < L ? l + 1 : l;
    const int32_t ends[2] = {l * p->num_ranks / L, next * p->num_ranks / L};
    for (int end = 0; end < 2; end++) {
      const int32_t a = ends[end];
      const int32_t b = rank_of[n];
      const double far = moerun__topology_same_node(w->topology, a, b)
                             ? p->node_weight
                             : p->far_weight;
      sum += a == b ? 0 : far * (double)p->load[n];
    }
  }
  return sum;
}

/* Room for all layers is less than that of each where experts do not divide. */
static void topo_finds_its_optimum(void **state) {
  (void)needs_glpk(state);
  for (int32_t experts = 3; experts < 5; experts++) {
    place_world w;
    moerun_placement *p = NULL;
    synthetic make = tiny;
    make.experts = experts;
    place_world_create(
        &w, &make, "2 nodes x 1 rank",
        (moerun__problem_options){.objective = MOERUN_OBJECTIVE_WEIGHTED});
    (void)place_and_judge(&p, &w, "topo", &w.trace,
                          (moerun__method_options){.seed = 1});
    double least = INFINITY;
    const int32_t entries = 3 * experts;
    for (int32_t bits = 0; bits < 1 << entries; bits++) {
      int32_t rank_of[12];
      int32_t all[2] = {0};
      int32_t most = 0;
      for (int32_t l = 0; l < 3; l++) {
        int32_t count[2] = {0};
        for (int32_t e = 0; e < experts; e++) {
          const int32_t n = l * experts + e;
          rank_of[n] = bits >> n & 1;
          count[rank_of[n]]++;
          all[rank_of[n]]++;
        }
        if (count[0] > most) most = count[0];
        if (count[1] > most) most = count[1];
      }
      const int32_t room = (entries + 1) / 2;
      if (most > 2 || all[0] > room || all[1] > room) continue;
      least = fmin(least, way_of(&w, rank_of));
    }
    assert_close(way_of(&w, p->rank_of), least);
    moerun_placement_destroy(p);
    place_world_destroy(&w);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(all_exact_methods_agree),
      cmocka_unit_test(ilp_keeps_its_start),
      cmocka_unit_test(the_same_seed_gives_the_same),
      cmocka_unit_test(exflow_finds_its_optimum),
      cmocka_unit_test(moetuner_evens_loads),
      cmocka_unit_test(one_expert_a_rank_is_assignment),
      cmocka_unit_test(names_of_ranks_need_no_program),
      cmocka_unit_test(topo_finds_its_optimum),
  };
  (void)printf("seed %d\n", SEED);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
