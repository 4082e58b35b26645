/* Attention: sets agree bit for bit, the oracle is near, and a row's bits
 * depend on its own visible positions alone: not on how the prompt was cut,
 * not on which pages hold it, not on what lies beyond it or before its
 * window. */
#include "kernels/kernels.h"
#include "runtime/base/memory.h"
#include "support/draw.h"
#include "support/queues.h"
#include "support/tolerance.h"

enum { SEED = 777, FIRST_SET = 1, MAX_PAGES = 8, SPARE_PAGES = 3 };

typedef struct attention_case {
  moerun__attention_shape shape;
  int32_t positions;
  int32_t window;
  float *sinks; /* [heads] or NULL */
  size_t q_width;
  size_t kv_width;
  float *q;     /* [positions][q_width] */
  float *key;   /* [positions][kv_width] */
  float *value; /* [positions][kv_width] */
  float *scratch;
  moerun__kv_view view;
  int32_t page[MAX_PAGES];
} attention_case;

static float *floats(size_t count) {
  float *p = NULL;
  assert_int_equal(moerun__alloc(&p, count, sizeof *p), MOERUN_OK);
  return p;
}

static void attention_case_create(attention_case *c, draw *from,
                                  moerun__attention_shape shape,
                                  int32_t positions) {
  memset(c, 0, sizeof *c);
  c->shape = shape;
  c->positions = positions;
  c->q_width = (size_t)shape.num_heads * (size_t)shape.head_dim;
  c->kv_width = (size_t)shape.num_kv_heads * (size_t)shape.head_dim;
  const size_t rows = (size_t)positions;
  c->q = floats(rows * c->q_width);
  c->key = floats(rows * c->kv_width);
  c->value = floats(rows * c->kv_width);
  draw_floats(from, c->q, rows * c->q_width, -3, 3);
  draw_floats(from, c->key, rows * c->kv_width, -1, 1);
  draw_floats(from, c->value, rows * c->kv_width, -1, 1);
  c->scratch = floats(moerun__attention_scratch(&shape, positions));
  c->view.page_stride = c->kv_width * MOERUN_PAGE_POSITIONS;
  const size_t all = (MAX_PAGES + SPARE_PAGES) * c->view.page_stride;
  c->view.keys = floats(all);
  c->view.values = floats(all);
  c->view.page = c->page;
}

static void attention_case_destroy(attention_case *c) {
  moerun__free(c->sinks);
  moerun__free(c->q);
  moerun__free(c->key);
  moerun__free(c->value);
  moerun__free(c->scratch);
  moerun__free(c->view.keys);
  moerun__free(c->view.values);
}

/* Fills the whole cache with `garbage` and deals pages in an order of its
 * own. */
static void forget(attention_case *c, float garbage, int32_t first_page) {
  for (size_t i = 0; i < (MAX_PAGES + SPARE_PAGES) * c->view.page_stride; i++) {
    c->view.keys[i] = garbage;
    c->view.values[i] = garbage;
  }
  for (int32_t p = 0; p < MAX_PAGES; p++) {
    c->page[p] = (first_page + 3 * p) % (MAX_PAGES + SPARE_PAGES);
  }
}

static void feed(attention_case *c, const moerun__kernels *set, float *out,
                 int32_t first, int32_t count) {
  for (int32_t t = first; t < first + count; t++) {
    moerun__kv_store(&c->view, &c->shape, t, c->key + (size_t)t * c->kv_width,
                     c->value + (size_t)t * c->kv_width);
  }
  const moerun__attention_rows rows = {
      .out = out + (size_t)first * c->q_width,
      .q = c->q + (size_t)first * c->q_width,
      .q_stride = c->q_width,
      .num_rows = count,
      .first_position = first,
      .window = c->window,
      .sinks = c->sinks,
  };
  set->attention(plain_queue(), &rows, &c->view, &c->shape, c->scratch);
}

/* Fills the pages that rows from `first` on do not see. */
static void forget_unseen(attention_case *c, int32_t first) {
  const int32_t seen = moerun__first_seen(first, c->window);
  for (int32_t p = 0; p < seen / MOERUN_PAGE_POSITIONS; p++) {
    const size_t at = (size_t)c->page[p] * c->view.page_stride;
    for (size_t i = at; i < at + c->view.page_stride; i++) {
      c->view.keys[i] = NAN;
      c->view.values[i] = NAN;
    }
  }
}

static void assert_equal_rows(const attention_case *c, const float *found,
                              const float *expected, const char *set,
                              const char *how) {
  for (size_t i = 0; i < (size_t)c->positions * c->q_width; i++) {
    if (moerun__f32_to_bits(found[i]) != moerun__f32_to_bits(expected[i])) {
      fail_msg("set %s, %s: row %zu element %zu is %a, expected %a", set, how,
               i / c->q_width, i % c->q_width, found[i], expected[i]);
    }
  }
}

static void check_case(attention_case *c, draw *from) {
  const size_t count = (size_t)c->positions * c->q_width;
  float *expected = floats(count);
  float *first = floats(count);
  float *out = floats(count);
  forget(c, 0.0F, 0);
  feed(c, moerun__kernels_at(0), expected, 0, c->positions);
  for (int i = FIRST_SET; moerun__kernels_at(i) != NULL; i++) {
    const moerun__kernels *set = moerun__kernels_at(i);
    forget(c, NAN, i);
    feed(c, set, i == FIRST_SET ? first : out, 0, c->positions);
    if (i > FIRST_SET) assert_equal_rows(c, out, first, set->name, "whole");
    forget(c, NAN, i + 1);
    for (int32_t t = 0; t < c->positions; t++) {
      forget_unseen(c, t);
      feed(c, set, out, t, 1);
    }
    assert_equal_rows(c, out, first, set->name, "row by row");
    forget(c, HUGE_VALF, i + 2);
    for (int32_t t = 0; t < c->positions;) {
      const int32_t chunk = draw_int(from, 0, c->positions - t);
      feed(c, set, out, t, chunk);
      t += chunk;
    }
    assert_equal_rows(c, out, first, set->name, "in chunks");
  }
  for (size_t i = 0; i < count; i++) {
    assert_within(TOLERANCE_ATTENTION, first[i], expected[i], 1);
  }
  moerun__free(expected);
  moerun__free(first);
  moerun__free(out);
}

static void rows_depend_on_their_past_alone(void **state) {
  (void)state;
  static const struct {
    int32_t heads;
    int32_t kv_heads;
    int32_t head_dim;
    int32_t positions;
    int32_t window;
    int has_sinks;
  } shapes[] = {
      {1, 1, 2, 40, 0, 0},    {4, 2, 8, 33, 0, 0},    {6, 2, 16, 17, 0, 1},
      {8, 1, 64, 50, 0, 0},   {2, 2, 80, 39, 0, 0},   {16, 2, 32, 65, 0, 1},
      {5, 5, 36, 20, 0, 0},   {3, 1, 130, 70, 0, 0},  {12, 1, 48, 16, 0, 0},
      {1, 1, 2, 90, 1, 1},    {4, 4, 8, 60, 3, 0},    {6, 2, 16, 77, 16, 1},
      {16, 2, 32, 97, 17, 1}, {5, 5, 36, 120, 37, 0}, {3, 1, 130, 70, 33, 1},
      {12, 1, 48, 40, 40, 0}, {2, 1, 20, 128, 5, 1}};
  draw from = {SEED, 0};
  for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
    attention_case c;
    const moerun__attention_shape shape = {
        shapes[i].heads, shapes[i].kv_heads, shapes[i].head_dim,
        1.0F / sqrtf((float)shapes[i].head_dim)};
    attention_case_create(&c, &from, shape, shapes[i].positions);
    c.window = shapes[i].window;
    if (shapes[i].has_sinks) {
      c.sinks = floats((size_t)shape.num_heads);
      draw_floats(&from, c.sinks, (size_t)shape.num_heads, -4, 4);
    }
    check_case(&c, &from);
    attention_case_destroy(&c);
  }
}

/* One position: the output is its value, exactly. */
static void one_position_returns_its_value(void **state) {
  (void)state;
  draw from = {SEED + 1, 0};
  attention_case c;
  attention_case_create(&c, &from, (moerun__attention_shape){4, 2, 12, 0.25F},
                        1);
  float out[4 * 12];
  for (int i = 0; moerun__kernels_at(i) != NULL; i++) {
    forget(&c, NAN, i);
    feed(&c, moerun__kernels_at(i), out, 0, 1);
    for (size_t e = 0; e < sizeof out / sizeof out[0]; e++) {
      assert_true(out[e] == c.value[e / 24 * 12 + e % 12]);
    }
    feed(&c, moerun__kernels_at(i), out, 1, 0); /* M = 0: nothing is touched */
  }
  attention_case_destroy(&c);
}

/* By hand: 4 positions of width 2 with keys of zeros, of which the last two are
 * seen; a sink of log 2 is as much as both. */
static void a_sink_takes_its_part(void **state) {
  (void)state;
  draw from = {SEED + 2, 0};
  attention_case c;
  attention_case_create(&c, &from, (moerun__attention_shape){1, 1, 2, 1}, 4);
  for (size_t i = 0; i < 8; i++) {
    c.key[i] = 0.0F;
    c.value[i] = (float)i;
  }
  c.window = 2;
  c.sinks = floats(1);
  c.sinks[0] = logf(2.0F);
  for (int i = 0; moerun__kernels_at(i) != NULL; i++) {
    float out[8];
    forget(&c, NAN, i);
    feed(&c, moerun__kernels_at(i), out, 0, 4);
    assert_within(TOLERANCE_ATTENTION, out[1], 1.0F / 3, 1);
    assert_within(TOLERANCE_ATTENTION, out[2], (0.0F + 2) / 4, 1);
    assert_within(TOLERANCE_ATTENTION, out[6], (4.0F + 6) / 4, 1);
    assert_within(TOLERANCE_ATTENTION, out[7], (5.0F + 7) / 4, 1);
  }
  attention_case_destroy(&c);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(rows_depend_on_their_past_alone),
      cmocka_unit_test(one_position_returns_its_value),
      cmocka_unit_test(a_sink_takes_its_part),
  };
  printf("seed %d\n", SEED);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
