/* Tokens on several ranks: the scope global decides as if one rank had them
 * all, from the records that matter alone, and the scope source drops no
 * less. */
#include "runtime/plan/capacity_select.h"
#include "support/capacity_world.h"

enum { RANKS = 4 };

typedef struct ranks {
  world *rank[RANKS];
  int32_t rank_of[WORLD_T]; /* token t of the whole is row row_of[t] there */
  int32_t row_of[WORLD_T];
  moerun__capacity_record gathered[WORLD_T * WORLD_W];
} ranks;

/* Rank r has the tokens with rank_of[t] = r. */
static void deal(ranks *all, const world *whole) {
  for (int32_t r = 0; r < RANKS; r++) {
    world *w = all->rank[r];
    char *block = w->block;
    *w = *whole;
    w->block = block;
    w->T = 0;
  }
  for (int32_t t = 0; t < whole->T; t++) {
    world *w = all->rank[all->rank_of[t]];
    const int32_t n = w->T++;
    all->row_of[t] = n;
    w->request[n] = whole->request[t];
    w->position[n] = whole->position[t];
    w->priority[n] = whole->priority[t];
    w->decoded[n] = whole->decoded[t];
    memcpy(w->scores + n * w->E, whole->scores + t * w->E,
           (size_t)w->E * sizeof(float));
  }
}

/* A rank sends no more records of a group than the group may take, and those
 * that are pinned. Returns how many it has kept for itself. */
static int64_t check_sent(const moerun__capacity *capacity) {
  for (int32_t g = 0; g < capacity->num_groups; g++) {
    int64_t sent = 0;
    int64_t pinned = 0;
    for (int32_t i = 0; i < capacity->num_records; i++) {
      if (capacity->records[i].group != g) continue;
      sent++;
      pinned += (capacity->records[i].standing & MOERUN_NOT_PINNED) == 0;
    }
    assert_true(sent <= capacity->limit[g] || sent == pinned);
  }
  return capacity->num_records;
}

/* One round of what the caller does with MPI; ranks stand in the order of
 * `order`. Returns how many candidates of groups over capacity stayed at
 * home. */
static int64_t apply_round(ranks *all, const int32_t *order) {
  int64_t total[WORLD_E + 1] = {0};
  int64_t first[RANKS];
  int64_t wanted = 0;
  int64_t n = 0;
  for (int32_t r = 0; r < RANKS; r++) {
    const moerun__capacity *capacity = &all->rank[r]->capacity;
    for (int32_t g = 0; g <= capacity->num_groups; g++) {
      total[g] += capacity->demand[g];
    }
  }
  for (int32_t i = 0; i < RANKS; i++) {
    moerun__capacity *capacity = &all->rank[order[i]]->capacity;
    moerun__capacity_collect(capacity, &all->rank[order[i]]->rows, total);
    first[order[i]] = n;
    memcpy(all->gathered + n, capacity->records,
           (size_t)capacity->num_records * sizeof *all->gathered);
    n += check_sent(capacity);
  }
  for (int32_t r = 0; r < RANKS; r++) {
    moerun__capacity *capacity = &all->rank[r]->capacity;
    assert_int_equal(moerun__capacity_cut(capacity, all->gathered, n, first[r]),
                     MOERUN_OK);
    if (capacity->num_over == 0) assert_int_equal(n, 0);
  }
  for (int32_t g = 0; g < all->rank[0]->capacity.num_groups; g++) {
    if (total[g] > all->rank[0]->capacity.limit[g]) wanted += total[g];
  }
  return wanted - n;
}

static int64_t apply_globally(ranks *all, const int32_t *order) {
  int64_t at_home = 0;
  int more = 1;
  for (int32_t r = 0; r < RANKS; r++) {
    world *w = all->rank[r];
    world_open(w, WORLD_T * WORLD_W);
    moerun__capacity_offer(&w->capacity, &w->rows);
  }
  while (more) {
    at_home += apply_round(all, order);
    for (int32_t r = 0; r < RANKS; r++) {
      world *w = all->rank[r];
      const int goes_on = moerun__capacity_goes_on(&w->capacity, &w->rows);
      assert_true(r == 0 || goes_on == more);
      more = goes_on;
    }
  }
  for (int32_t r = 0; r < RANKS; r++) {
    world *w = all->rank[r];
    moerun__capacity_finish(&w->capacity, &w->rows, &w->counts);
  }
  return at_home;
}

static ranks *ranks_create(void) {
  ranks *all = NULL;
  assert_int_equal(moerun__alloc(&all, 1, sizeof *all), MOERUN_OK);
  for (int32_t r = 0; r < RANKS; r++) {
    all->rank[r] = world_create();
  }
  return all;
}

static void ranks_destroy(ranks *all) {
  for (int32_t r = 0; r < RANKS; r++) {
    world_destroy(all->rank[r]);
  }
  moerun__free(all);
}

/* Tokens on any ranks, ranks in any order: as if one rank had them all and all
 * candidates in sight. */
static void global_knows_no_ranks(void **state) {
  (void)state;
  draw from = {20250315, 0};
  int64_t at_home = 0;
  print_message("seed %llu\n", (unsigned long long)from.seed);
  world *whole = world_create();
  ranks *all = ranks_create();
  for (int round = 0; round < 400; round++) {
    int32_t order[RANKS];
    draw_world(whole, &from, 80);
    whole->options.scope = MOERUN_SCOPE_GLOBAL;
    whole->options.metric = (moerun__capacity_metric)draw_int(&from, 0, 4);
    for (int32_t t = 0; t < whole->T; t++) {
      all->rank_of[t] = draw_int(&from, 0, round % RANKS);
    }
    deal(all, whole);
    shuffle(order, RANKS, &from);
    at_home += apply_globally(all, order);
    world_apply(whole);
    const int32_t width = world_width(whole);
    for (int32_t t = 0; t < whole->T; t++) {
      const world *w = all->rank[all->rank_of[t]];
      const int32_t at = all->row_of[t] * width;
      assert_memory_equal(w->ids + at, whole->ids + t * width,
                          (size_t)width * 4);
      assert_memory_equal(w->weight + at, whole->weight + t * width,
                          (size_t)width * 4);
    }
  }
  assert_true(at_home > 1000);
  ranks_destroy(all);
  world_destroy(whole);
}

/* By convexity, where C needs no rounding; each rank has a multiple of 4 E
 * tokens and gamma is a multiple of a quarter. With rounding a rank's C may be
 * up to one row more than its part of the global C. */
static void a_source_drops_no_less_than_all(void **state) {
  (void)state;
  draw from = {20250316, 0};
  int64_t more = 0;
  print_message("seed %llu\n", (unsigned long long)from.seed);
  world *whole = world_create();
  ranks *all = ranks_create();
  for (int round = 0; round < 200; round++) {
    draw_world(whole, &from, 1);
    whole->E = draw_int(&from, 4, 8);
    whole->K = draw_int(&from, 1, 3);
    whole->T = 0;
    for (int32_t r = 0; r < RANKS; r++) {
      for (int32_t i = 4 * whole->E * draw_int(&from, 0, 3); i > 0; i--) {
        const int32_t t = whole->T++;
        draw_scores(whole, t, &from, 0);
        whole->scores[t * whole->E + r] *= 2; /* each rank has its favourite */
        whole->request[t] = r;
        whole->position[t] = t;
        whole->decoded[t] = 0;
        all->rank_of[t] = r;
      }
    }
    whole->options = (moerun__capacity_options){
        .gamma = 250 * draw_int(&from, 2, 8),
        .level = (moerun__capacity_level)draw_int(&from, 0, 1)};
    for (int32_t e = 0; e < whole->E; e++) {
      whole->rank_of_expert[e] = e % whole->num_ranks;
    }
    world_apply(whole);
    deal(all, whole);
    int64_t dropped = 0;
    for (int32_t r = 0; r < RANKS; r++) {
      world_apply(all->rank[r]);
      dropped += all->rank[r]->counts.dropped;
    }
    assert_true(dropped >= whole->counts.dropped);
    more += dropped - whole->counts.dropped;
  }
  assert_true(more > 0);
  ranks_destroy(all);
  world_destroy(whole);
}

static void records_are_checked(void **state) {
  (void)state;
  draw from = {20250317, 0};
  world *w = world_create();
  w->T = 20;
  w->E = 4;
  w->K = 2;
  for (int32_t t = 0; t < w->T; t++) {
    draw_scores(w, t, &from, 0);
    w->position[t] = t;
  }
  w->options.scope = MOERUN_SCOPE_GLOBAL;
  w->options.gamma = 500;
  world_open(w, 0);
  moerun__capacity *capacity = &w->capacity;
  moerun__capacity_offer(capacity, &w->rows);
  moerun__capacity_collect(capacity, &w->rows, capacity->demand);
  const int32_t n = capacity->num_records;
  assert_true(n > 0);
  assert_int_equal(moerun__capacity_cut(capacity, capacity->records, n, 1),
                   MOERUN_ERR_COMM);
  assert_int_equal(moerun__capacity_cut(capacity, capacity->records,
                                        capacity->sizes.max_records + 1, 0),
                   MOERUN_ERR_COMM);
  capacity->records[n - 1].group = 4;
  assert_int_equal(moerun__capacity_cut(capacity, capacity->records, n, 0),
                   MOERUN_ERR_COMM);
  assert_int_equal(w->counts.tokens, 0);
  world_destroy(w);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(global_knows_no_ranks),
      cmocka_unit_test(a_source_drops_no_less_than_all),
      cmocka_unit_test(records_are_checked),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
