/* Random tokens under every combination of options, against a second,
 * quadratic statement of the rules, and against themselves: other orders of
 * rows, other numbers of experts, other cuts of the tokens into ranks. */
#include "support/capacity_world.h"

enum { RANKS = 4 };

/* A world of T tokens of a few requests, in any order of rows. */
static void draw_world(world *w, draw *from, int32_t max_tokens) {
  w->T = draw_int(from, 0, max_tokens);
  w->E = draw_int(from, 2, WORLD_E);
  w->K = draw_int(from, 1, w->E < 4 ? w->E : 4);
  w->normalise = draw_int(from, 0, 1);
  w->num_devices = draw_int(from, 1, 5);
  const int coarse = draw_int(from, 0, 1);
  const int32_t requests = draw_int(from, 1, 6);
  int32_t next[6] = {0};
  for (int32_t t = 0; t < w->T; t++) {
    const int32_t request = draw_int(from, 0, requests - 1);
    draw_scores(w, t, from, coarse);
    w->request[t] = request;
    w->position[t] = next[request]++;
    w->priority[t] = (uint8_t)(draw_int(from, 0, 3) == 0);
    w->decoded[t] = (uint8_t)(draw_int(from, 0, 7) == 0);
  }
  w->num_extra = 0;
  for (int32_t e = 0; e < w->E; e++) {
    w->device[e] = draw_int(from, 0, w->num_devices - 1);
    if (draw_int(from, 0, 2) == 0) w->extra[w->num_extra++] = e;
  }
  w->options = (moerun__capacity_options){
      .gamma = draw_int(from, 300, 2500),
      .level = (moerun__capacity_level)draw_int(from, 0, 1),
      .metric = (moerun__capacity_metric)draw_int(from, 0, 2),
      .expansion = (moerun__capacity_expansion)draw_int(from, 0, 2),
      .rule = (moerun__weight_rule)draw_int(from, 0, 2),
      .window = draw_int(from, 1, 9),
      .keep_top1 = draw_int(from, 0, 3) == 0,
      .decode = draw_int(from, 0, 1),
      .seed = (uint64_t)draw_int(from, 0, 1000)};
  if (w->options.level == MOERUN_LEVEL_EXPERT && draw_int(from, 0, 1) == 1) {
    w->options.scope = MOERUN_SCOPE_REQUEST;
  }
}

/* ---- The rules a second time --------------------------------------------------- */

typedef struct candidate {
  int32_t t;
  int32_t expert;
  int chosen; /* by the gate */
  int pinned;
} candidate;

static int member(const world *w, int32_t t) {
  return w->options.decode || !w->decoded[t];
}

static int together(const world *w, int32_t a, int32_t b) {
  const int32_t window = w->options.window;
  return w->options.scope != MOERUN_SCOPE_REQUEST ||
         (w->request[a] == w->request[b] &&
          w->position[a] / window == w->position[b] / window);
}

static int64_t compare(int64_t a, int64_t b) {
  return (a > b) - (a < b);
}

static int comes_before(const world *w, const candidate *a,
                        const candidate *b) {
  const float x = w->scores[a->t * w->E + a->expert];
  const float y = w->scores[b->t * w->E + b->expert];
  const int64_t first = (int64_t)w->request[a->t] * 100000 + w->position[a->t];
  const int64_t second = (int64_t)w->request[b->t] * 100000 + w->position[b->t];
  int64_t order[7] = {b->pinned - a->pinned};
  if (w->options.expansion == MOERUN_EXPANSION_FILL) {
    order[1] = b->chosen - a->chosen;
  }
  order[2] = compare(w->priority[a->t], w->priority[b->t]);
  if (w->options.metric == MOERUN_METRIC_SCORE) order[3] = (x < y) - (x > y);
  if (w->options.metric == MOERUN_METRIC_FIRST) order[3] = first - second;
  if (w->options.metric == MOERUN_METRIC_LAST) order[3] = second - first;
  order[4] = compare(w->position[a->t], w->position[b->t]);
  order[5] = compare(w->request[a->t], w->request[b->t]);
  order[6] = compare(a->expert, b->expert);
  for (int i = 0; i < 7; i++) {
    if (order[i] != 0) return order[i] < 0;
  }
  return 0;
}

static int32_t list_candidates(candidate *out, const world *w) {
  const int32_t width = world_width(w);
  int32_t n = 0;
  for (int32_t t = 0; t < w->T; t++) {
    if (!member(w, t)) continue;
    for (int32_t j = 0; j < w->K; j++) {
      out[n++] = (candidate){t, w->gate_ids[t * width + j], 1,
                             w->options.keep_top1 && j == 0};
    }
    for (int32_t i = 0; i < w->num_extra && width > w->K; i++) {
      if (has_expert(w, w->gate_ids, t, w->extra[i])) continue;
      out[n++] = (candidate){t, w->extra[i], 0, 0};
    }
  }
  return n;
}

/* Rows that the group of candidate c may take: C in long division. */
static int64_t room(const world *w, const candidate *c) {
  int64_t tokens = 0;
  int64_t experts = 0;
  for (int32_t t = 0; t < w->T; t++) {
    tokens += member(w, t) && together(w, t, c->t);
  }
  for (int32_t e = 0; e < w->E; e++) {
    experts += w->options.level == MOERUN_LEVEL_DEVICE
                   ? w->device[e] == w->device[c->expert]
                   : e == c->expert;
  }
  int64_t C = 0;
  while (C * 1000 * w->E < (int64_t)w->options.gamma * tokens * w->K) {
    C++;
  }
  return experts * (C > 1 ? C : 1);
}

static void check_against_rules(const world *w) {
  static candidate all[WORLD_T * WORLD_W];
  const int32_t n = list_candidates(all, w);
  int64_t dropped = 0;
  int64_t added = 0;
  for (int32_t i = 0; i < n; i++) {
    int64_t ahead = 0;
    for (int32_t k = 0; k < n; k++) {
      const int rivals =
          together(w, all[i].t, all[k].t) &&
          (w->options.level == MOERUN_LEVEL_DEVICE
               ? w->device[all[i].expert] == w->device[all[k].expert]
               : all[i].expert == all[k].expert);
      ahead += rivals && comes_before(w, &all[k], &all[i]);
    }
    const int stays = all[i].pinned || ahead < room(w, &all[i]);
    assert_int_equal(has_expert(w, w->ids, all[i].t, all[i].expert), stays);
    dropped += all[i].chosen && !stays;
    added += !all[i].chosen && stays;
  }
  assert_int_equal(w->counts.dropped, dropped);
  assert_int_equal(w->counts.added, added);
  assert_int_equal(w->counts.candidates + w->counts.offered, n);
}

/* Rows have their form: the gate's order, then `extra`'s, then nothing; and
 * weights that were not touched are the same bits. */
static void check_rows(const world *w) {
  const int32_t width = world_width(w);
  int64_t rows = 0;
  for (int32_t t = 0; t < w->T; t++) {
    const int32_t *ids = w->ids + t * width;
    const float *weight = w->weight + t * width;
    int32_t last = -1;
    int ended = 0;
    int32_t kept = 0;
    for (int32_t j = 0; j < width; j++) {
      ended |= ids[j] < 0;
      if (ended) {
        assert_int_equal(ids[j], -1);
        assert_true(weight[j] == 0);
        continue;
      }
      rows++;
      int32_t place = -1;
      for (int32_t i = 0; i < w->K; i++) {
        if (w->gate_ids[t * width + i] == ids[j]) place = i;
      }
      kept += place >= 0;
      for (int32_t i = 0; i < w->num_extra && place < 0; i++) {
        if (w->extra[i] == ids[j]) place = w->K + i;
      }
      assert_true(place > last);
      last = place;
      if (w->options.rule == MOERUN_WEIGHT_PRE && place < w->K) {
        assert_memory_equal(weight + j, w->gate_weight + t * width + place, 4);
      }
    }
    if (kept == w->K && (kept == width || ids[w->K] < 0) &&
        w->options.rule != MOERUN_WEIGHT_NONE) {
      assert_memory_equal(weight, w->gate_weight + t * width,
                          (size_t)width * sizeof(float));
    }
    if (ids[0] >= 0 && member(w, t) && w->options.rule == MOERUN_WEIGHT_POST) {
      assert_float_equal(moerun__weight_sum(ids, weight, width),
                         moerun__weight_sum(w->gate_ids + t * width,
                                            w->gate_weight + t * width, width),
                         1e-5);
    }
  }
  for (int32_t e = 0; e < w->E; e++) {
    rows -= w->capacity.rows_after[e];
  }
  assert_int_equal(rows, 0);
}

static void any_options_follow_the_rules(void **state) {
  (void)state;
  draw from = {20250311, 0};
  int64_t dropped = 0;
  int64_t added = 0;
  print_message("seed %llu\n", (unsigned long long)from.seed);
  world *w = world_create();
  for (int round = 0; round < 1500; round++) {
    draw_world(w, &from, 40);
    world_apply(w);
    check_against_rules(w);
    check_rows(w);
    dropped += w->counts.dropped;
    added += w->counts.added;
  }
  assert_true(dropped > 1500 && added > 1500);
  world_destroy(w);
}

/* ---- Against itself ---------------------------------------------------------------- */

/* to's token t is from's token row[t], its expert e from's new_id[e]. */
static void rearrange(world *to, const world *from, const int32_t *row,
                      const int32_t *new_id) {
  char *block = to->block;
  *to = *from;
  to->block = block;
  for (int32_t t = 0; t < from->T; t++) {
    to->request[t] = from->request[row[t]];
    to->position[t] = from->position[row[t]];
    to->priority[t] = from->priority[row[t]];
    to->decoded[t] = from->decoded[row[t]];
    for (int32_t e = 0; e < from->E; e++) {
      to->scores[t * from->E + new_id[e]] = from->scores[row[t] * from->E + e];
    }
  }
  for (int32_t e = 0; e < from->E; e++) {
    to->device[new_id[e]] = from->device[e];
  }
  for (int32_t i = 0; i < from->num_extra; i++) {
    to->extra[i] = new_id[from->extra[i]];
  }
}

static void shuffle(int32_t *order, int32_t n, draw *from) {
  for (int32_t i = 0; i < n; i++) {
    order[i] = i;
  }
  for (int32_t i = n - 1; i > 0; i--) {
    const int32_t j = draw_int(from, 0, i);
    const int32_t moved = order[i];
    order[i] = order[j];
    order[j] = moved;
  }
}

static void assert_same_but_for_order(const world *a, const world *b,
                                      const int32_t *row,
                                      const int32_t *new_id) {
  const int32_t width = world_width(a);
  for (int32_t t = 0; t < a->T; t++) {
    for (int32_t j = 0; j < width; j++) {
      const int32_t was = a->ids[row[t] * width + j];
      assert_int_equal(b->ids[t * width + j], was < 0 ? -1 : new_id[was]);
    }
    assert_memory_equal(b->weight + t * width, a->weight + row[t] * width,
                        (size_t)width * sizeof(float));
  }
  assert_int_equal(a->counts.dropped, b->counts.dropped);
  assert_int_equal(a->counts.over, b->counts.over);
}

/* Rows in any order: every metric. Experts under other numbers: where no tie
 * between experts is decided by them. */
static void order_has_no_say(void **state) {
  (void)state;
  draw from = {20250312, 0};
  print_message("seed %llu\n", (unsigned long long)from.seed);
  world *a = world_create();
  world *b = world_create();
  int32_t row[WORLD_T];
  int32_t new_id[WORLD_E];
  for (int round = 0; round < 1000; round++) {
    draw_world(a, &from, 60);
    a->options.metric = (moerun__capacity_metric)draw_int(&from, 0, 3);
    shuffle(row, a->T, &from);
    for (int32_t e = 0; e < a->E; e++) {
      new_id[e] = e;
    }
    if (round % 2 == 0 && a->options.metric != MOERUN_METRIC_HASH) {
      a->options.level = MOERUN_LEVEL_EXPERT;
      shuffle(new_id, a->E, &from);
      for (int32_t i = 0; i < a->T * a->E; i++) {
        a->scores[i] = draw_float(&from, 0, 1); /* the gate must not tie */
      }
    }
    rearrange(b, a, row, new_id);
    world_apply(a);
    world_apply(b);
    assert_same_but_for_order(a, b, row, new_id);
  }
  world_destroy(a);
  world_destroy(b);
}

static void hashes_are_drawn_by_seed_and_layer(void **state) {
  (void)state;
  draw from = {20250313, 0};
  world *w = world_create();
  int32_t times[8] = {0};
  int32_t even[8];
  int32_t differ = 0;
  w->T = 8;
  w->E = 4;
  w->K = 1;
  w->options.metric = MOERUN_METRIC_HASH; /* C = 2 */
  for (int32_t t = 0; t < w->T; t++) {
    draw_scores(w, t, &from, 0);
    w->scores[t * 4] = 2;
    w->position[t] = t;
  }
  for (uint64_t seed = 0; seed < 400; seed++) {
    w->options.seed = seed / 2;
    world_open(w, 0);
    w->rows.layer = (int32_t)(seed % 2);
    moerun__capacity_apply(&w->capacity, &w->rows, &w->counts);
    if (seed % 2 == 0) memcpy(even, w->ids, sizeof even);
    differ += seed % 2 == 1 && memcmp(even, w->ids, sizeof even) != 0;
    assert_int_equal(w->capacity.rows_after[0], 2);
    for (int32_t t = 0; t < w->T; t++) {
      times[t] += w->ids[t] == 0;
    }
  }
  for (int32_t t = 0; t < w->T; t++) {
    assert_in_range(times[t], 60, 140); /* 100 expected, deviation 8.7 */
  }
  assert_true(differ > 150); /* of 200: by chance 1 in 28 is the same */
  world_destroy(w);
}

/* More room for each expert, or room that experts share, never drops more. */
static void a_device_drops_no_more_than_its_experts(void **state) {
  (void)state;
  draw from = {20250314, 0};
  int64_t saved = 0;
  print_message("seed %llu\n", (unsigned long long)from.seed);
  world *w = world_create();
  for (int round = 0; round < 600; round++) {
    draw_world(w, &from, 60);
    w->options.scope = MOERUN_SCOPE_SOURCE;
    w->options.keep_top1 = 0;
    if (w->options.expansion == MOERUN_EXPANSION_PAPER) {
      w->options.expansion = MOERUN_EXPANSION_FILL;
    }
    w->options.level = MOERUN_LEVEL_EXPERT;
    world_apply(w);
    const int64_t by_expert = w->counts.dropped;
    if (w->counts.over > 0 && w->options.expansion == MOERUN_EXPANSION_OFF) {
      assert_true(by_expert >= w->counts.over);
    }
    w->options.level = MOERUN_LEVEL_DEVICE;
    world_apply(w);
    assert_true(w->counts.dropped <= by_expert);
    saved += by_expert - w->counts.dropped;
    /* A fill takes nothing away. */
    const int64_t dropped = w->counts.dropped;
    w->options.expansion = MOERUN_EXPANSION_OFF;
    world_apply(w);
    assert_int_equal(w->counts.dropped, dropped);
  }
  assert_true(saved > 0);
  world_destroy(w);
}

/* ---- Ranks -------------------------------------------------------------------------- */

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

/* What the caller does with MPI; ranks stand in the order of `order`. */
static void apply_globally(ranks *all, const int32_t *order) {
  int64_t total[WORLD_E + 1] = {0};
  int64_t first[RANKS];
  int64_t n = 0;
  for (int32_t r = 0; r < RANKS; r++) {
    world *w = all->rank[r];
    world_open(w, WORLD_T * WORLD_W);
    moerun__capacity_offer(&w->capacity, &w->rows);
    for (int32_t g = 0; g <= w->capacity.num_groups; g++) {
      total[g] += w->capacity.demand[g];
    }
  }
  for (int32_t i = 0; i < RANKS; i++) {
    moerun__capacity *capacity = &all->rank[order[i]]->capacity;
    moerun__capacity_collect(capacity, &all->rank[order[i]]->rows, total);
    first[order[i]] = n;
    memcpy(all->gathered + n, capacity->records,
           (size_t)capacity->num_records * sizeof *all->gathered);
    n += capacity->num_records;
  }
  for (int32_t r = 0; r < RANKS; r++) {
    world *w = all->rank[r];
    assert_int_equal(moerun__capacity_cut(&w->capacity, &w->rows, all->gathered,
                                          n, first[r], &w->counts),
                     MOERUN_OK);
    assert_int_equal(n > 0, w->capacity.num_over > 0);
  }
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

/* Tokens on any ranks, ranks in any order: as if one rank had them all. */
static void global_knows_no_ranks(void **state) {
  (void)state;
  draw from = {20250315, 0};
  print_message("seed %llu\n", (unsigned long long)from.seed);
  world *whole = world_create();
  ranks *all = ranks_create();
  for (int round = 0; round < 400; round++) {
    int32_t order[RANKS];
    draw_world(whole, &from, 80);
    whole->options.scope = MOERUN_SCOPE_GLOBAL;
    whole->options.metric = (moerun__capacity_metric)draw_int(&from, 0, 3);
    for (int32_t t = 0; t < whole->T; t++) {
      all->rank_of[t] = draw_int(&from, 0, round % RANKS);
    }
    deal(all, whole);
    shuffle(order, RANKS, &from);
    apply_globally(all, order);
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
      whole->device[e] = e % whole->num_devices;
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
  assert_int_equal(moerun__capacity_cut(capacity, &w->rows, capacity->records,
                                        n, 1, &w->counts),
                   MOERUN_ERR_COMM);
  assert_int_equal(moerun__capacity_cut(capacity, &w->rows, capacity->records,
                                        capacity->max_records + 1, 0,
                                        &w->counts),
                   MOERUN_ERR_COMM);
  capacity->records[n - 1].group = 4;
  assert_int_equal(moerun__capacity_cut(capacity, &w->rows, capacity->records,
                                        n, 0, &w->counts),
                   MOERUN_ERR_COMM);
  assert_int_equal(w->counts.tokens, 0);
  world_destroy(w);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(any_options_follow_the_rules),
      cmocka_unit_test(order_has_no_say),
      cmocka_unit_test(hashes_are_drawn_by_seed_and_layer),
      cmocka_unit_test(a_device_drops_no_more_than_its_experts),
      cmocka_unit_test(global_knows_no_ranks),
      cmocka_unit_test(a_source_drops_no_less_than_all),
      cmocka_unit_test(records_are_checked),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
