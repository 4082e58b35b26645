/* With the scope request, what a request keeps follows from the request alone.
 * The attacks here succeed with other scopes (or else their failure would prove
 * nothing): a neighbour who comes first, one whose scores are higher, and one
 * who sends the same tokens. */
#include "runtime/base/digest.h"
#include "support/capacity_world.h"

#include <math.h>

enum { OTHERS = 63, VICTIM_T = 24, CASES = 10000 };

/* A request's tokens, and what it kept of them when it was alone. */
typedef struct victim {
  int32_t T;
  float scores[VICTIM_T * WORLD_E];
  int32_t position[VICTIM_T];
  uint8_t priority[VICTIM_T];
  int32_t ids[VICTIM_T * WORLD_W];
  float weight[VICTIM_T * WORLD_W];
} victim;

static void put_victim(world *w, int32_t t, const victim *v, int32_t i,
                       int32_t request) {
  memcpy(w->scores + t * w->E, v->scores + i * w->E,
         (size_t)w->E * sizeof(float));
  w->position[t] = v->position[i];
  w->priority[t] = v->priority[i];
  w->request[t] = request;
  w->decoded[t] = 0;
}

static void run_alone(world *w, victim *v) {
  const size_t entries = (size_t)v->T * (size_t)world_width(w);
  w->T = v->T;
  for (int32_t i = 0; i < v->T; i++) {
    put_victim(w, i, v, i, 0);
  }
  world_apply(w);
  memcpy(v->ids, w->ids, entries * sizeof *v->ids);
  memcpy(v->weight, w->weight, entries * sizeof *v->weight);
}

/* Entries of the victim, token i of which is row row_of[i], that are not what
 * they were when it was alone. */
static int32_t changes(const world *w, const victim *v, const int32_t *row_of) {
  const int32_t width = world_width(w);
  int32_t n = 0;
  for (int32_t i = 0; i < v->T; i++) {
    for (int32_t j = 0; j < width; j++) {
      const int32_t at = row_of[i] * width + j;
      n +=
          w->ids[at] != v->ids[i * width + j] ||
          memcmp(w->weight + at, v->weight + i * width + j, sizeof(float)) != 0;
    }
  }
  return n;
}

static void draw_options(world *w, draw *from) {
  w->E = draw_int(from, 2, 8);
  w->K = draw_int(from, 1, w->E < 3 ? w->E : 3);
  w->normalise = draw_int(from, 0, 1);
  w->num_extra = 0;
  for (int32_t e = 0; e < w->E; e++) {
    if (draw_int(from, 0, 2) == 0) w->extra[w->num_extra++] = e;
  }
  w->options = (moerun__capacity_options){
      .gamma = draw_int(from, 500, 2000),
      .scope = MOERUN_SCOPE_REQUEST,
      .metric = (moerun__capacity_metric)draw_int(from, 0, 4),
      .expansion = (moerun__capacity_expansion)draw_int(from, 0, 2),
      .rule = (moerun__weight_rule)draw_int(from, 0, 2),
      .most_added = draw_int(from, 0, 2),
      .window = draw_int(from, 3, 16),
      .keep_top1 = draw_int(from, 0, 3) == 0,
      .seed = (uint64_t)draw_int(from, 0, 1000)};
}

static void draw_victim(victim *v, world *w, draw *from) {
  v->T = draw_int(from, 1, 12);
  const int32_t first = draw_int(from, 0, 20);
  for (int32_t i = 0; i < v->T; i++) {
    draw_scores(w, i, from, draw_int(from, 0, 1));
    v->position[i] = first + i;
    v->priority[i] = (uint8_t)draw_int(from, 0, 1);
  }
  memcpy(v->scores, w->scores, (size_t)(v->T * w->E) * sizeof(float));
}

/* One neighbour of a few tokens, some decoded, some copies of the victim's. */
static void append_other(world *w, const victim *v, int32_t request,
                         draw *from) {
  const int32_t kind = draw_int(from, 0, 4);
  const int32_t first = draw_int(from, 0, 20);
  for (int32_t n = draw_int(from, 1, 6); n > 0; n--) {
    const int32_t t = w->T++;
    if (kind == 0) {
      put_victim(w, t, v, draw_int(from, 0, v->T - 1), request);
    } else {
      draw_scores(w, t, from, kind == 1);
    }
    w->request[t] = request;
    w->position[t] = first + n;
    w->priority[t] = (uint8_t)draw_int(from, 0, 1);
    w->decoded[t] = kind == 2;
  }
}

static void swap_rows(world *w, int32_t a, int32_t b, int32_t *row_of,
                      int32_t victims) {
  for (int32_t e = 0; e < w->E; e++) {
    const float score = w->scores[a * w->E + e];
    w->scores[a * w->E + e] = w->scores[b * w->E + e];
    w->scores[b * w->E + e] = score;
  }
  const int32_t request = w->request[a];
  const int32_t position = w->position[a];
  const uint8_t priority = w->priority[a];
  const uint8_t decoded = w->decoded[a];
  w->request[a] = w->request[b];
  w->position[a] = w->position[b];
  w->priority[a] = w->priority[b];
  w->decoded[a] = w->decoded[b];
  w->request[b] = request;
  w->position[b] = position;
  w->priority[b] = priority;
  w->decoded[b] = decoded;
  for (int32_t i = 0; i < victims; i++) {
    if (row_of[i] == a || row_of[i] == b) row_of[i] = a + b - row_of[i];
  }
}

/* The victim among 0 to 63 others, rows shuffled, under another number. */
static void neighbours_change_nothing(void **state) {
  (void)state;
  draw from = {20250401, 0};
  int64_t dropped = 0;
  int64_t added = 0;
  print_message("seed %llu, %d cases\n", (unsigned long long)from.seed, CASES);
  world *w = world_create();
  for (int round = 0; round < CASES; round++) {
    victim v;
    int32_t row_of[VICTIM_T];
    draw_options(w, &from);
    draw_victim(&v, w, &from);
    run_alone(w, &v);
    dropped += w->counts.dropped;
    added += w->counts.added;
    const int32_t others = draw_int(&from, 0, OTHERS);
    const int32_t number = draw_int(&from, 0, others);
    for (int32_t i = 0; i < v.T; i++) {
      put_victim(w, i, &v, i, number);
      row_of[i] = i;
    }
    for (int32_t r = 0; r < others; r++) {
      append_other(w, &v, r < number ? r : r + 1, &from);
    }
    for (int32_t i = 0; i < v.T; i++) {
      swap_rows(w, row_of[i], draw_int(&from, 0, w->T - 1), row_of, v.T);
    }
    world_apply(w);
    assert_int_equal(changes(w, &v, row_of), 0);
  }
  assert_true(dropped > CASES / 2 && added > CASES / 2);
  world_destroy(w);
}

/* The victim's four tokens want one expert of four each (K = 1, C = 1 and none
 * dropped); the adversary's twelve all want expert 0, with `score`. */
static void put_attack(world *w, victim *v, float score, int32_t attacker,
                       int32_t *row_of) {
  w->E = 4;
  w->K = 1;
  v->T = 4;
  for (int32_t i = 0; i < 4; i++) {
    for (int32_t e = 0; e < 4; e++) {
      v->scores[i * 4 + e] = i == e ? .7F : .1F;
    }
    v->position[i] = i;
    v->priority[i] = 0;
  }
  run_alone(w, v);
  assert_int_equal(w->counts.dropped, 0);
  for (int32_t t = 0; t < 12; t++) {
    put_victim(w, t, v, 0, attacker);
    w->scores[t * 4] = score;
    w->position[t] = t;
  }
  for (int32_t i = 0; i < 4; i++) {
    put_victim(w, 12 + i, v, i, 1);
    row_of[i] = 12 + i;
  }
  w->T = 16;
}

static void attacks_succeed_without_isolation(void **state) {
  (void)state;
  const struct {
    moerun__capacity_metric metric;
    float score;
    int32_t attacker; /* the victim is request 1 */
  } attack[] = {
      {MOERUN_METRIC_FIRST, .4F, 0},
      {MOERUN_METRIC_LAST, .4F, 2},
      {MOERUN_METRIC_SCORE, .9F, 2},
      {MOERUN_METRIC_SCORE, .7F, 0}, /* copies: at the mercy of a tie */
  };
  world *w = world_create();
  for (size_t i = 0; i < sizeof attack / sizeof *attack; i++) {
    for (int scope = MOERUN_SCOPE_SOURCE; scope <= MOERUN_SCOPE_REQUEST;
         scope++) {
      victim v;
      int32_t row_of[VICTIM_T];
      w->options =
          (moerun__capacity_options){.gamma = 1000,
                                     .scope = (moerun__capacity_scope)scope,
                                     .metric = attack[i].metric,
                                     .window = 512};
      put_attack(w, &v, attack[i].score, attack[i].attacker, row_of);
      if (i == 3) w->position[12] = 11; /* of the tie, the last */
      world_apply(w);
      assert_true(w->counts.dropped > 0);
      if (scope == MOERUN_SCOPE_REQUEST) {
        assert_int_equal(changes(w, &v, row_of), 0);
      } else {
        assert_int_equal(changes(w, &v, row_of), 1); /* it lost expert 0 */
        assert_int_equal(w->ids[12], -1);
      }
    }
  }
  world_destroy(w);
}

/* Exact copies of the victim, before it and after it in every order. */
static void copies_change_nothing(void **state) {
  (void)state;
  draw from = {20250402, 0};
  int64_t dropped = 0;
  print_message("seed %llu\n", (unsigned long long)from.seed);
  world *w = world_create();
  for (int round = 0; round < 1000; round++) {
    victim v;
    int32_t row_of[VICTIM_T];
    draw_options(w, &from);
    draw_victim(&v, w, &from);
    run_alone(w, &v);
    dropped += w->counts.dropped;
    const int32_t copies = draw_int(&from, 2, 20);
    const int32_t number = draw_int(&from, 0, copies - 1);
    w->T = copies * v.T;
    for (int32_t c = 0; c < copies; c++) {
      for (int32_t i = 0; i < v.T; i++) {
        put_victim(w, c * v.T + i, &v, i, c);
      }
    }
    world_apply(w);
    for (int32_t i = 0; i < v.T; i++) {
      row_of[i] = number * v.T + i;
    }
    assert_int_equal(changes(w, &v, row_of), 0);
  }
  assert_true(dropped > 500);
  world_destroy(w);
}

static uint64_t digest(const world *w, int32_t victims) {
  const size_t entries = (size_t)(victims * world_width(w));
  const uint64_t hash =
      moerun__digest_bytes(MOERUN_DIGEST_START, w->ids, entries * 4);
  return moerun__digest_bytes(hash, w->weight, entries * 4);
}

/* Requests of garbage, NaN included, appended one by one. */
static void garbage_changes_nothing(void **state) {
  (void)state;
  draw from = {20250403, 0};
  print_message("seed %llu\n", (unsigned long long)from.seed);
  world *w = world_create();
  for (int round = 0; round < 100; round++) {
    victim v;
    draw_options(w, &from);
    draw_victim(&v, w, &from);
    run_alone(w, &v);
    const uint64_t alone = digest(w, v.T);
    for (int32_t r = 1; r <= 20; r++) {
      const int32_t first = w->T;
      append_other(w, &v, r, &from);
      if (r % 4 == 0) {
        for (int32_t i = first * w->E; i < w->T * w->E; i++) {
          w->scores[i] = r % 8 == 0 ? NAN : 1e30F;
        }
      }
      world_apply(w);
      assert_true(digest(w, v.T) == alone);
    }
  }
  world_destroy(w);
}

/* A prompt that is cut into steps where windows end keeps the same. */
static void cuts_between_windows_change_nothing(void **state) {
  (void)state;
  draw from = {20250404, 0};
  print_message("seed %llu\n", (unsigned long long)from.seed);
  world *w = world_create();
  for (int round = 0; round < 500; round++) {
    victim whole;
    draw_options(w, &from);
    draw_victim(&whole, w, &from);
    run_alone(w, &whole);
    const int32_t width = world_width(w);
    int32_t begin = 0;
    for (int32_t i = 1; i <= whole.T; i++) {
      if (i < whole.T && whole.position[i] % w->options.window != 0) continue;
      w->T = i - begin;
      for (int32_t t = begin; t < i; t++) {
        put_victim(w, t - begin, &whole, t, 5);
      }
      world_apply(w);
      assert_memory_equal(w->ids, whole.ids + begin * width,
                          (size_t)(w->T * width) * 4);
      assert_memory_equal(w->weight, whole.weight + begin * width,
                          (size_t)(w->T * width) * 4);
      begin = i;
    }
  }
  world_destroy(w);
}

/* One token of each request: C is 1 or more, so nothing is ever dropped. */
static void decoding_drops_nothing(void **state) {
  (void)state;
  draw from = {20250405, 0};
  world *w = world_create();
  w->T = 64;
  w->E = 8;
  w->K = 3;
  w->options = (moerun__capacity_options){
      .gamma = 1, .scope = MOERUN_SCOPE_REQUEST, .window = 512, .decode = 1};
  for (int32_t t = 0; t < w->T; t++) {
    draw_scores(w, t, &from, 1);
    w->request[t] = t;
    w->position[t] = 100 + t;
    w->decoded[t] = 1;
  }
  world_apply(w);
  assert_int_equal(w->counts.tokens, 64);
  assert_int_equal(w->counts.dropped, 0);
  assert_memory_equal(w->ids, w->gate_ids, 64 * 3 * sizeof(int32_t));
  w->options.scope = MOERUN_SCOPE_SOURCE; /* where they compete, they do */
  world_apply(w);
  assert_int_equal(w->counts.dropped, 64 * 3 - 8);
  world_destroy(w);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(neighbours_change_nothing),
      cmocka_unit_test(attacks_succeed_without_isolation),
      cmocka_unit_test(copies_change_nothing),
      cmocka_unit_test(garbage_changes_nothing),
      cmocka_unit_test(cuts_between_windows_change_nothing),
      cmocka_unit_test(decoding_drops_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
