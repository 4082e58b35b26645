/* EPLB: its published example slot by slot, what its three steps promise for
 * any loads, and what becomes of its replicas in a placement. */
#include "placement/methods/eplb.h"
#include "support/draw.h"
#include "support/place_world.h"

#include <math.h>
#include <stdio.h>

enum { SEED = 61, MOST_EXPERTS = 48, MOST_REPLICAS = 256 };

/* The example in the README of DeepSeek's EPLB. */
static const int64_t example[2][12] = {
    {90, 132, 40, 61, 104, 165, 39, 4, 73, 56, 183, 86},
    {20, 107, 104, 64, 19, 197, 187, 157, 172, 86, 16, 27}};

static void assert_slots(const int64_t *load, const moerun__eplb_shape *shape,
                         const int32_t *want) {
  int32_t expert_of[16];
  int32_t rank_of[16];
  assert_int_equal(moerun__eplb_layer(expert_of, rank_of, load, shape),
                   MOERUN_OK);
  for (int i = 0; i < 16; i++) {
    assert_int_equal(expert_of[i], want[i]);
    assert_int_equal(rank_of[i], i / 2);
  }
}

static void the_published_example_comes_out(void **state) {
  (void)state;
  static const int32_t want[2][16] = {
      {5, 6, 5, 7, 8, 4, 3, 4, 10, 9, 10, 2, 0, 1, 11, 1},
      {7, 10, 6, 8, 6, 11, 8, 9, 2, 4, 5, 1, 5, 0, 3, 1}};
  /* Of the definition, worked out apart from this code: 2 nodes do not divide
   * 3 groups. EPLB itself has {…, 8, 3, 1, 1} and {…, 8, 8, 9, 7}. */
  static const int32_t flat[2][16] = {
      {10, 6, 10, 7, 0, 2, 11, 4, 5, 9, 5, 4, 8, 1, 1, 3},
      {1, 10, 2, 4, 5, 11, 5, 0, 6, 7, 6, 3, 8, 7, 9, 8}};
  moerun__eplb_shape shape = {.num_experts = 12,
                              .num_replicas = 16,
                              .num_groups = 4,
                              .num_nodes = 2,
                              .num_ranks = 8};
  for (int l = 0; l < 2; l++) {
    shape.num_groups = 4;
    assert_slots(example[l], &shape, want[l]);
    shape.num_groups = 3;
    assert_slots(example[l], &shape, flat[l]);
    /* The same of loads so large that fractions of them have no bits left. */
    int64_t large[12];
    for (int e = 0; e < 12; e++) {
      large[e] = example[l][e] * (INT64_C(1) << 44);
    }
    assert_slots(large, &shape, flat[l]);
  }
}

static int32_t count_of(const int32_t *list, int32_t length, int32_t value) {
  int32_t count = 0;
  for (int32_t i = 0; i < length; i++) {
    count += list[i] == value;
  }
  return count;
}

/* No other counts have a smaller largest load per replica of one node's
 * experts: none with a further replica needed it less than the hottest does,
 * but for those that all ranks of the node have already. */
static void assert_replicas_serve_the_hottest(const int64_t *load,
                                              const int32_t *copies,
                                              const int32_t *node_of,
                                              int32_t num_experts,
                                              int32_t most) {
  for (int32_t a = 0; a < num_experts; a++) {
    for (int32_t b = 0; b < num_experts; b++) {
      if (copies[a] == 1 || copies[b] == most || node_of[a] != node_of[b]) {
        continue;
      }
      assert_true((double)load[a] / (copies[a] - 1) >=
                  (double)load[b] / copies[b]);
    }
  }
}

static void assert_layer(const int64_t *load, const moerun__eplb_shape *s) {
  int32_t expert_of[MOST_REPLICAS];
  int32_t rank_of[MOST_REPLICAS];
  int32_t copies[MOST_EXPERTS];
  int32_t node_of[MOST_EXPERTS] = {0};
  const int levels = s->num_groups % s->num_nodes == 0;
  const int32_t P = s->num_replicas;
  const int32_t per_node = s->num_ranks / s->num_nodes;
  const int32_t group = s->num_experts / s->num_groups;
  assert_int_equal(moerun__eplb_layer(expert_of, rank_of, load, s), MOERUN_OK);
  for (int32_t e = 0; e < s->num_experts; e++) {
    copies[e] = count_of(expert_of, P, e);
    assert_true(copies[e] >= 1);
  }
  for (int32_t p = 0; p < P; p++) {
    assert_true(p == 0 || rank_of[p] >= rank_of[p - 1]);
    for (int32_t q = 0; q < p; q++) { /* once on a rank at most */
      assert_true(expert_of[q] != expert_of[p] || rank_of[q] != rank_of[p]);
    }
    if (levels) node_of[expert_of[p]] = rank_of[p] / per_node;
  }
  for (int32_t p = 0; p < P && levels; p++) {
    const int32_t first = expert_of[p] / group * group;
    assert_int_equal(rank_of[p] / per_node, node_of[first]);
  }
  for (int32_t r = 0; r < s->num_ranks; r++) {
    const int32_t count = count_of(rank_of, P, r);
    assert_true(count == P / s->num_ranks ||
                count == (P + s->num_ranks - 1) / s->num_ranks);
  }
  assert_replicas_serve_the_hottest(load, copies, node_of, s->num_experts,
                                    levels ? per_node : s->num_ranks);
}

static void any_layer_is_replicated_and_packed(void **state) {
  (void)state;
  draw from = {SEED, 0};
  for (int round = 0; round < 300; round++) {
    int64_t load[MOST_EXPERTS];
    moerun__eplb_shape s;
    s.num_nodes = draw_int(&from, 1, 4);
    s.num_ranks = s.num_nodes * draw_int(&from, 1, 6);
    s.num_groups = draw_int(&from, 1, 8);
    s.num_experts = s.num_groups * draw_int(&from, 1, 6);
    const int32_t spare = draw_int(&from, 0, 3);
    s.num_replicas = s.num_experts + s.num_ranks * spare;
    if (s.num_replicas > moerun__eplb_most(&s)) {
      s.num_replicas = (int32_t)moerun__eplb_most(&s);
    }
    s.speed = NULL;
    const int64_t unit = INT64_C(1) << draw_int(&from, 0, 33);
    for (int32_t e = 0; e < s.num_experts; e++) {
      load[e] = draw_int(&from, 0, 99) * unit;
    }
    assert_layer(load, &s);
  }
}

/* The fullest rank of a layer, its experts' replicas sharing evenly. */
static double fullest(const int64_t *load, const int32_t *expert_of,
                      const int32_t *rank_of, int32_t replicas,
                      int32_t num_ranks) {
  double filled[MOST_REPLICAS] = {0};
  double most = 0;
  for (int32_t p = 0; p < replicas; p++) {
    filled[rank_of[p]] += (double)load[expert_of[p]] /
                          count_of(expert_of, replicas, expert_of[p]);
  }
  for (int32_t r = 0; r < num_ranks; r++) {
    most = fmax(most, filled[r]);
  }
  return most;
}

/* A plain packing, by the definition: each time the heaviest replica that is
 * left, onto the lightest rank that has room and lacks the expert. 0: none
 * has. */
static double pack_plainly(const int64_t *load, int32_t E, int32_t R,
                           int32_t slots) {
  int32_t copies[MOST_EXPERTS];
  int32_t left[MOST_EXPERTS];
  int32_t count[MOST_REPLICAS] = {0};
  uint8_t holds[MOST_REPLICAS][MOST_EXPERTS] = {{0}};
  double filled[MOST_REPLICAS] = {0};
  double most = 0;
  for (int32_t e = 0; e < E; e++) {
    copies[e] = 1;
  }
  for (int32_t p = E; p < R * slots; p++) {
    int32_t hot = -1;
    for (int32_t e = 0; e < E; e++) {
      if (copies[e] == R) continue;
      if (hot < 0 ||
          (double)load[e] / copies[e] > (double)load[hot] / copies[hot]) {
        hot = e;
      }
    }
    copies[hot]++;
  }
  memcpy(left, copies, sizeof left);
  for (int32_t p = 0; p < R * slots; p++) {
    int32_t next = -1;
    int32_t to = -1;
    for (int32_t e = 0; e < E; e++) {
      if (left[e] == 0) continue;
      if (next < 0 ||
          (double)load[e] / copies[e] > (double)load[next] / copies[next]) {
        next = e;
      }
    }
    for (int32_t r = 0; r < R; r++) {
      if (count[r] == slots || holds[r][next]) continue;
      if (to < 0 || filled[r] < filled[to]) to = r;
    }
    if (to < 0) return 0;
    left[next]--;
    count[to]++;
    holds[to][next] = 1;
    filled[to] += (double)load[next] / copies[next];
    most = fmax(most, filled[to]);
  }
  return most;
}

/* Skewed loads, as routing has them: no fuller than a plain packing, but for
 * what the order of equal weights does. */
static void loads_are_as_even_as_a_plain_packing(void **state) {
  (void)state;
  static const int32_t shapes[][3] = {{48, 6, 1}, {40, 8, 2}, {24, 12, 1}};
  draw from = {SEED, 1};
  int packed = 0;
  for (int round = 0; round < 300; round++) {
    const int32_t *s3 = shapes[round % 3];
    const moerun__eplb_shape s = {.num_experts = s3[0],
                                  .num_replicas = s3[0] + s3[1] * s3[2],
                                  .num_groups = 1,
                                  .num_nodes = 1,
                                  .num_ranks = s3[1]};
    int64_t load[MOST_EXPERTS];
    int32_t expert_of[MOST_REPLICAS];
    int32_t rank_of[MOST_REPLICAS];
    const double tail = round % 2 == 0 ? 1.2 : 2;
    for (int32_t e = 0; e < s.num_experts; e++) {
      load[e] =
          (int64_t)(1e3 * pow(draw_int(&from, 1, 9999) * 1e-4, -1 / tail));
    }
    assert_int_equal(moerun__eplb_layer(expert_of, rank_of, load, &s),
                     MOERUN_OK);
    const double plain = pack_plainly(load, s.num_experts, s.num_ranks,
                                      s.num_replicas / s.num_ranks);
    if (!(plain > 0)) continue;
    assert_true(fullest(load, expert_of, rank_of, s.num_replicas,
                        s.num_ranks) <= 1.01 * plain);
    packed++;
  }
  assert_true(packed > 250);
}

/* The two hot experts go on three ranks each. When the last replica comes, the
 * one rank with room holds its expert: another rank takes it in, and moves the
 * other hot expert. */
static void the_last_replica_finds_room(void **state) {
  (void)state;
  static const int64_t load[4] = {6, 2, 2, 6};
  const moerun__eplb_shape shape = {.num_experts = 4,
                                    .num_replicas = 8,
                                    .num_groups = 1,
                                    .num_nodes = 1,
                                    .num_ranks = 4};
  int32_t expert_of[8];
  int32_t rank_of[8];
  assert_int_equal(moerun__eplb_layer(expert_of, rank_of, load, &shape),
                   MOERUN_OK);
  for (int i = 0; i < 8; i += 2) {
    assert_true(expert_of[i] != expert_of[i + 1]);
  }
  assert_close(fullest(load, expert_of, rank_of, 8, 4), 4);
}

/* Twice as fast, twice the load: of equal experts, by counts alone. */
/* The second replica of expert 2 finds room on rank 0 alone, where the first
 * is: experts 0, 1 and 3 could make room on rank 1, all for the same loads. */
static void ties_go_to_the_lower_index(void **state) {
  (void)state;
  static const int64_t load[] = {1, 1, 2, 1, 2};
  static const int32_t want[] = {4, 0, 2, 1, 3, 2};
  static const moerun__eplb_shape shape = {.num_experts = 5,
                                           .num_replicas = 6,
                                           .num_groups = 1,
                                           .num_nodes = 1,
                                           .num_ranks = 2};
  int32_t expert_of[6];
  int32_t rank_of[6];
  assert_int_equal(moerun__eplb_layer(expert_of, rank_of, load, &shape),
                   MOERUN_OK);
  assert_memory_equal(expert_of, want, sizeof want);
  for (int i = 0; i < 6; i++) {
    assert_int_equal(rank_of[i], i / 3);
  }
}

static void fast_ranks_get_more(void **state) {
  (void)state;
  static const double speed[2] = {0.5, 1.5};
  static const int64_t load[4] = {10, 30, 10, 30};
  const moerun__eplb_shape shape = {.num_experts = 4,
                                    .num_replicas = 4,
                                    .num_groups = 1,
                                    .num_nodes = 1,
                                    .num_ranks = 2,
                                    .speed = speed};
  int32_t expert_of[4];
  int32_t rank_of[4];
  assert_int_equal(moerun__eplb_layer(expert_of, rank_of, load, &shape),
                   MOERUN_OK);
  assert_int_equal(load[expert_of[0]] + load[expert_of[1]], 20);
}

static const synthetic skewed = {.tokens = 800,
                                 .layers = 3,
                                 .experts = 24,
                                 .terms = 3,
                                 .classes = 6,
                                 .affinity = 2.5,
                                 .seed = SEED,
                                 .sample = SEED};

/* Any number of slots, as many on each rank; other numbers and other methods
 * are told what is expected. */
static void slots_in_all_are_filled(void **state) {
  (void)state;
  place_world w;
  moerun_placement *p = NULL;
  const moerun__method *eplb = moerun__method_find("eplb");
  moerun__method_options how = {0};
  synthetic make = skewed;
  make.experts = 10;
  place_world_create(&w, &make, "2 nodes x 2 ranks",
                     (moerun__problem_options){0});
  for (how.slots = 12; how.slots <= 40; how.slots += 4) {
    assert_int_equal(moerun__place(&p, NULL, NULL, w.problem, eplb, &how),
                     MOERUN_OK);
    for (int32_t i = 0; i < 3 * 4; i++) {
      assert_int_equal(p->slot_count[i], how.slots / 4);
    }
    moerun_placement_destroy(p);
  }
  static const struct {
    int32_t slots;
    const char *says;
  } bad[] = {{8, "12, 16, 20 and so on; found 8"},
             {13, "12, 16, 20 and so on; found 13"},
             {44, "at most 40"}};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    how.slots = bad[i].slots;
    assert_int_equal(moerun__place(&p, NULL, NULL, w.problem, eplb, &how),
                     MOERUN_ERR_INVALID);
    assert_non_null(strstr(moerun_last_error(), bad[i].says));
  }
  how.slots = 12;
  assert_int_equal(moerun__place(&p, NULL, NULL, w.problem,
                                 moerun__method_find("lpt"), &how),
                   MOERUN_ERR_UNSUPPORTED);
  assert_non_null(strstr(moerun_last_error(), "expected method eplb"));
  place_world_destroy(&w);
}

static void without_spare_slots_it_is_packing(void **state) {
  (void)state;
  place_world w;
  moerun_placement *p[2] = {NULL};
  static const char *const methods[] = {"eplb", "lpt"};
  place_world_create(&w, &skewed, "2 nodes x 2 ranks",
                     (moerun__problem_options){0});
  for (int i = 0; i < 2; i++) {
    (void)place_and_judge(&p[i], &w, methods[i], &w.trace,
                          (moerun__method_options){0});
  }
  assert_memory_equal(p[0]->rank_of, p[1]->rank_of, 3 * 24 * sizeof(int32_t));
  for (int i = 0; i < 2; i++) {
    moerun_placement_destroy(p[i]);
  }
  place_world_destroy(&w);
}

/* Of 7 experts one takes nearly half: packing alone cannot help; with room for
 * 4 replicas it gets 3 more and the second hottest 1. */
static void spare_slots_even_out_the_load(void **state) {
  (void)state;
  place_world w;
  synthetic make = skewed;
  double load[2];
  double mean = 0;
  make.experts = 7;
  place_world_create(&w, &make, "4 ranks", (moerun__problem_options){0});
  for (int32_t l = 0; l < 3; l++) {
    for (int32_t e = 0; e < 7; e++) {
      w.problem->load[l * 7 + e] = e == l ? 68 : e == 6 ? 26 : 10 + e;
    }
  }
  for (int32_t spare = 0; spare < 2; spare++) {
    moerun_placement *p = NULL;
    (void)place_and_judge(&p, &w, "eplb", &w.trace,
                          (moerun__method_options){.spare_slots = spare});
    assert_int_equal(
        moerun__judge_loads(&mean, &load[spare], p, NULL, w.problem),
        MOERUN_OK);
    for (int32_t l = 0; l < 3; l++) {
      const int32_t *offset = p->replica_offset + (size_t)l * 7;
      assert_int_equal(offset[7] - offset[0], 7 + 4 * spare);
      assert_int_equal(offset[l + 1] - offset[l], spare ? 4 : 1);
      for (int32_t r = 0; r < 4; r++) {
        assert_true(p->slot_count[l * 4 + r] <= 2 + spare);
      }
    }
    moerun_placement_destroy(p);
  }
  assert_true(load[0] > 1.6);
  assert_true(load[1] < 1.2);
  place_world_destroy(&w);
}

/* 5 experts on 2 ranks: the hot one gets 2 replicas, for more would not help;
 * the next ones go to the next hottest, until each rank has all. */
static void a_rank_holds_an_expert_once(void **state) {
  (void)state;
  place_world w;
  moerun_placement *p = NULL;
  synthetic make = skewed;
  make.experts = 5;
  make.layers = 1;
  place_world_create(&w, &make, "2 ranks", (moerun__problem_options){0});
  for (int32_t e = 0; e < 5; e++) {
    w.problem->load[e] = e == 3 ? 1000 : 1 + e;
  }
  for (int32_t spare = 1; spare <= 3; spare++) {
    static const int32_t want[3][6] = {
        {0, 1, 2, 3, 5, 7}, {0, 1, 3, 5, 7, 9}, {0, 2, 4, 6, 8, 10}};
    (void)place_and_judge(&p, &w, "eplb", &w.trace,
                          (moerun__method_options){.spare_slots = spare});
    assert_memory_equal(p->replica_offset, want[spare - 1], sizeof want[0]);
    moerun_placement_destroy(p);
  }
  place_world_destroy(&w);
}

static void groups_stay_on_one_node(void **state) {
  (void)state;
  place_world w;
  moerun_placement *p = NULL;
  const moerun__method *eplb = moerun__method_find("eplb");
  moerun__method_options how = {.spare_slots = 2, .expert_groups = 4};
  place_world_create(&w, &skewed, "2 nodes x 2 ranks",
                     (moerun__problem_options){0});
  (void)place_and_judge(&p, &w, "eplb", &w.trace, how);
  for (int32_t i = 0; i < 3 * 24; i++) {
    const int32_t node = p->rank_of[p->replica_offset[i - i % 6]] / 2;
    for (int32_t j = p->replica_offset[i]; j < p->replica_offset[i + 1]; j++) {
      assert_int_equal(p->rank_of[j] / 2, node);
    }
  }
  moerun_placement_destroy(p);
  how.expert_groups = 5;
  assert_int_equal(moerun__place(&p, NULL, NULL, w.problem, eplb, &how),
                   MOERUN_ERR_INVALID);
  assert_non_null(
      strstr(moerun_last_error(), "expected a divisor of 24 experts, found 5"));
  place_world_destroy(&w);
}

/* The problem of a load table: methods by loads alone see the same loads and
 * caps and place alike; the others are refused, not run on nothing; so
 * are those that know of no speeds. */
static void loads_alone_are_enough(void **state) {
  (void)state;
  place_world w;
  moerun__problem *bare = NULL;
  const char *topology = "2 nodes x 2 ranks, speed 1 1 1 0.5";
  place_world_create(&w, &skewed, topology, (moerun__problem_options){0});
  assert_int_equal(moerun__problem_create_loads(&bare, w.problem->load, 3, 24,
                                                w.topology, 0),
                   MOERUN_OK);
  assert_memory_equal(bare->cap, w.problem->cap, 3 * 4 * sizeof(int64_t));
  const moerun__method *method = NULL;
  for (int i = 0; (method = moerun__method_at(i)) != NULL; i++) {
    moerun_placement *p = NULL;
    moerun_placement *q = NULL;
    const moerun__method_options how = {.seed = 5};
    if (!method->by_loads || method->ignores_speed) {
      assert_int_equal(moerun__place(&p, NULL, NULL, bare, method, &how),
                       MOERUN_ERR_UNSUPPORTED);
      continue;
    }
    const moerun__judgement j =
        place_and_judge(&q, &w, method->name, &w.trace, how);
    double load = 0;
    double worst = 0;
    assert_int_equal(moerun__place(&p, NULL, NULL, bare, method, &how),
                     MOERUN_OK);
    assert_memory_equal(p->rank_of, q->rank_of, 3 * 24 * sizeof(int32_t));
    assert_int_equal(moerun__judge_loads(&load, &worst, p, NULL, bare),
                     MOERUN_OK);
    assert_close(load, j.load); /* without replicas the trace says the same */
    assert_close(worst, j.worst_load);
    moerun_placement_destroy(p);
    moerun_placement_destroy(q);
  }
  moerun__problem_destroy(bare);
  place_world_destroy(&w);
}

/* Slots of a rank that hold the same expert each get a share: of an expert with
 * two on rank 0 and one on rank 1, two thirds and one. */
static void slots_share_evenly(void **state) {
  (void)state;
  static const int64_t counts[] = {9, 4, 1};
  static const int32_t offset[] = {0, 2, 3, 4};
  static const int32_t rank_of[] = {0, 1, 1, 0};
  static const int32_t copies[] = {2, 1, 1, 1};
  moerun__topology *topology = NULL;
  moerun__problem *problem = NULL;
  moerun_placement *p = NULL;
  double load = 0;
  double worst = 0;
  assert_int_equal(moerun__topology_parse(&topology, "2 ranks"), MOERUN_OK);
  assert_int_equal(
      moerun__problem_create_loads(&problem, counts, 1, 3, topology, 0),
      MOERUN_OK);
  assert_int_equal(
      moerun__placement_create(&p, 1, 3, 2, offset, rank_of, "given"),
      MOERUN_OK);
  assert_int_equal(moerun__judge_loads(&load, &worst, p, copies, problem),
                   MOERUN_OK);
  assert_close(load, 1); /* 6 + 1 and 3 + 4 */
  assert_close(worst, 1);
  assert_int_equal(moerun__judge_loads(&load, &worst, p, NULL, problem),
                   MOERUN_OK);
  assert_close(load, 8.5 / 7); /* 4.5 + 1 and 4.5 + 4 */
  moerun_placement_destroy(p);
  moerun__problem_destroy(problem);
  moerun__topology_destroy(topology);
}

static void failed_allocations_leave_nothing_behind(void **state) {
  (void)state;
  place_world w;
  const moerun__method_options how = {.spare_slots = 1};
  place_world_create(&w, &skewed, "4 ranks", (moerun__problem_options){0});
  const size_t live = moerun__alloc_live();
  for (long nth = 0;; nth++) {
    moerun_placement *p = NULL;
    moerun__alloc_fail_nth(nth);
    const moerun_status status = moerun__place(
        &p, NULL, NULL, w.problem, moerun__method_find("eplb"), &how);
    moerun__alloc_fail_nth(-1);
    moerun_placement_destroy(p);
    assert_int_equal(moerun__alloc_live(), live);
    if (status == MOERUN_OK) {
      assert_true(nth > 15);
      break;
    }
    assert_int_equal(status, MOERUN_ERR_NOMEM);
  }
  place_world_destroy(&w);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_published_example_comes_out),
      cmocka_unit_test(any_layer_is_replicated_and_packed),
      cmocka_unit_test(loads_are_as_even_as_a_plain_packing),
      cmocka_unit_test(the_last_replica_finds_room),
      cmocka_unit_test(slots_in_all_are_filled),
      cmocka_unit_test(ties_go_to_the_lower_index),
      cmocka_unit_test(fast_ranks_get_more),
      cmocka_unit_test(without_spare_slots_it_is_packing),
      cmocka_unit_test(spare_slots_even_out_the_load),
      cmocka_unit_test(a_rank_holds_an_expert_once),
      cmocka_unit_test(groups_stay_on_one_node),
      cmocka_unit_test(loads_alone_are_enough),
      cmocka_unit_test(slots_share_evenly),
      cmocka_unit_test(failed_allocations_leave_nothing_behind),
  };
  (void)printf("seed %d\n", SEED);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
