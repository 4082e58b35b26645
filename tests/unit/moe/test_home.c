/* What becomes of a row's choices that need no dispatch: by hand, and random
 * ones against sums in double. */
#include "runtime/base/memory.h"
#include "runtime/moe/home.h"
#include "support/cmocka.h"
#include "support/draw.h"
#include "support/queues.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Choices: 0..2 placed, 3..7 null, 8 zero, 9 and 10 copy, 11..13 constant. */
enum { E = 3, K = 5, H = 37, CONSTANTS = 3, CHOICES = 14, T = 40 };

typedef struct bench {
  moerun__model_config config;
  moerun__home home;
  moerun__layer layer;
  float mix[2 * CONSTANTS * H];
  float constant[CONSTANTS * H];
  float x[T * H];
  void *panels;
  void *block;
  float *scratch;
  moerun__home_counts counts;
} bench;

static void lay_out(bench *b) {
  moerun__arena arena = {NULL, 0};
  moerun__home_lay_out(&b->home, &arena, T);
  if (b->block == NULL) {
    assert_int_equal(moerun__alloc(&b->block, arena.used, 1), MOERUN_OK);
  }
  arena = (moerun__arena){b->block, 0};
  moerun__home_lay_out(&b->home, &arena, T);
}

static void open_bench(bench *b, int renormalise) {
  draw from = {20261104, 0};
  memset(b, 0, sizeof *b);
  b->config = (moerun__model_config){
      .num_experts = E,
      .num_home = {5, 1, 2, CONSTANTS},
      .experts_per_token = K,
      .hidden_width = H,
      .gate_rule = {.renormalise = renormalise, .scale = 1.0F}};
  assert_int_equal(moerun__config_choices(&b->config), CHOICES);
  draw_floats(&from, b->mix, 2 * CONSTANTS * H, -.5, .5);
  draw_floats(&from, b->constant, CONSTANTS * H, -1, 1);
  draw_floats(&from, b->x, T * H, -1, 1);
  const size_t bytes = moerun__weight_bytes(MOERUN_DTYPE_F32, 2 * CONSTANTS, H);
  assert_int_equal(moerun__alloc(&b->panels, bytes, 1), MOERUN_OK);
  moerun__weight_pack(b->panels, MOERUN_DTYPE_F32, H, 0, 2 * CONSTANTS, b->mix);
  assert_int_equal(
      moerun__alloc(&b->scratch, moerun__linear_scratch(H), sizeof(float)),
      MOERUN_OK);
  b->layer.mix =
      moerun__weight_at(b->panels, MOERUN_DTYPE_F32, 2 * CONSTANTS, H);
  b->layer.constant = b->constant;
  const moerun__kernels *kernels = NULL;
  assert_int_equal(moerun__kernels_find(&kernels, "portable"), MOERUN_OK);
  moerun__home_init(&b->home, &b->config, kernels, plain_queue());
  lay_out(b);
}

static void close_bench(bench *b) {
  moerun__free(b->panels);
  moerun__free(b->block);
  moerun__free(b->scratch);
}

static void take(bench *b, int32_t *ids, float *weight, int32_t rows) {
  const moerun__home_choices choices = {
      .T = rows, .x = b->x, .ids = ids, .weight = weight};
  assert_int_equal(
      moerun__home_take(&b->home, &b->layer, &choices, b->scratch, &b->counts),
      MOERUN_OK);
}

/* Weights of these rows are exact, their sums too. */
static void null_experts_leave_the_sum(void **state) {
  (void)state;
  for (int renormalise = 0; renormalise < 2; renormalise++) {
    bench b;
    int32_t ids[3][K] = {{0, 3, 9, 8, 1}, {3, 4, 5, 6, 7}, {2, 8, 0, 9, 1}};
    float weight[3][K] = {{.25F, .5F, .125F, .0625F, .0625F},
                          {.5F, .25F, .125F, .0625F, .0625F},
                          {.5F, .25F, .125F, .0625F, .0625F}};
    const int32_t want_ids[3][K] = {
        {0, -1, -1, -1, 1}, {-1, -1, -1, -1, -1}, {2, -1, 0, -1, 1}};
    const float f = renormalise ? 2.0F : 1.0F;
    const float want[3][K] = {
        {.25F * f, 0, 0, 0, .0625F * f}, {0}, {.5F, 0, .125F, 0, .0625F}};
    float y[3 * H];
    open_bench(&b, renormalise);
    take(&b, &ids[0][0], &weight[0][0], 3);
    assert_memory_equal(ids, want_ids, sizeof ids);
    assert_memory_equal(weight, want, sizeof weight);
    const int64_t chosen[] = {6, 2, 2, 0};
    assert_memory_equal(b.counts.chosen, chosen, sizeof chosen);
    assert_int_equal(b.counts.rows, 3);
    assert_int_equal(b.counts.terms, 3 * K);
    assert_int_equal(b.counts.rows_alone, 1);
    for (int i = 0; i < 3 * H; i++) {
      y[i] = -0.0F;
    }
    moerun__home_add(&b.home, &b.layer, y, b.x, 0, 3);
    for (int i = 0; i < H; i++) {
      assert_true(y[i] == .125F * f * b.x[i]);
      assert_true(y[H + i] == 0 && signbit(y[H + i])); /* never touched */
      assert_true(y[2 * H + i] == .0625F * b.x[2 * H + i]);
    }
    close_bench(&b);
  }
}

/* Capacity and fewer experts may ask for scores in place of weights, for the
 * rows that they are enforced on. */
static void scores_replace_weights(void **state) {
  (void)state;
  bench b;
  float scores[2][CHOICES] = {{0}};
  int32_t ids[2][K] = {{0, 9, 10, 8, 1}, {0, 9, 10, 8, 1}};
  float weight[2][K] = {{.5F, .25F, .125F, .0625F, .0625F},
                        {.5F, .25F, .125F, .0625F, .0625F}};
  const uint8_t as_given[] = {0, 1};
  float y[2 * H] = {0};
  scores[0][9] = scores[1][9] = .03125F;
  scores[0][10] = scores[1][10] = .015625F;
  open_bench(&b, 1);
  const moerun__home_choices choices = {.T = 2,
                                        .x = b.x,
                                        .ids = &ids[0][0],
                                        .weight = &weight[0][0],
                                        .scores = &scores[0][0],
                                        .as_given = as_given};
  assert_int_equal(
      moerun__home_take(&b.home, &b.layer, &choices, b.scratch, &b.counts),
      MOERUN_OK);
  moerun__home_add(&b.home, &b.layer, y, b.x, 0, 2);
  for (int i = 0; i < H; i++) {
    assert_float_equal(y[i], .046875F * b.x[i], 1e-7);
    assert_float_equal(y[H + i], .375F * b.x[H + i], 1e-7);
  }
  close_bench(&b);
}

/* ---- Random rows --------------------------------------------------------- */

static void draw_rows(int32_t *ids, float *weight) {
  draw from = {77, 0};
  for (int32_t t = 0; t < T; t++) {
    int32_t all[CHOICES];
    for (int32_t i = 0; i < CHOICES; i++) {
      all[i] = i;
    }
    for (int32_t j = 0; j < K; j++) {
      const int32_t k = draw_int(&from, j, CHOICES - 1);
      const int32_t taken = all[k];
      all[k] = all[j];
      all[j] = ids[t * K + j] = taken;
      weight[t * K + j] = draw_float(&from, .01, .3);
    }
  }
}

/* a and b of constant expert number e for row t. */
static void shares(const bench *b, int32_t t, int32_t e, double share[2]) {
  double z[2] = {0, 0};
  for (int32_t i = 0; i < H; i++) {
    const double x = (double)b->x[t * H + i];
    z[0] += (double)b->mix[(2 * e) * H + i] * x;
    z[1] += (double)b->mix[(2 * e + 1) * H + i] * x;
  }
  share[0] = 1 / (1 + exp(z[1] - z[0]));
  share[1] = 1 - share[0];
}

/* What the choices of row t add to y[H], in double. */
static void expect(const bench *b, double *y, int32_t t, const int32_t *ids,
                   const float *weight) {
  double all = 0;
  double counted = 0;
  for (int32_t j = 0; j < K; j++) {
    all += (double)weight[j];
    if (ids[j] < 3 || ids[j] > 7) counted += (double)weight[j];
  }
  for (int32_t j = 0; j < K; j++) {
    const double w = (double)weight[j] *
                     (b->config.gate_rule.renormalise ? all / counted : 1);
    double share[2] = {ids[j] == 9 || ids[j] == 10, 0};
    if (ids[j] > 10) shares(b, t, ids[j] - 11, share);
    const float *vector = b->constant + (ids[j] > 10 ? ids[j] - 11 : 0) * H;
    for (int32_t i = 0; i < H; i++) {
      y[i] += w * (share[0] * (double)b->x[t * H + i] +
                   share[1] * (double)vector[i]);
    }
  }
}

/* In one piece or several, by every set: the same bits, and close to double. */
static void random_rows(void **state) {
  (void)state;
  for (int renormalise = 0; renormalise < 2; renormalise++) {
    int32_t drawn[T * K];
    float weights[T * K];
    float first[T * H];
    bench b;
    draw_rows(drawn, weights);
    open_bench(&b, renormalise);
    for (int set = 1; moerun__kernels_at(set) != NULL; set++) {
      int32_t ids[T * K];
      float weight[T * K];
      float y[T * H];
      memcpy(ids, drawn, sizeof ids);
      memcpy(weight, weights, sizeof weight);
      for (int32_t i = 0; i < T * H; i++) {
        y[i] = b.x[T * H - 1 - i]; /* what the placed experts gave */
      }
      b.home.kernels = moerun__kernels_at(set);
      b.home.queue = plain_queue();
      take(&b, ids, weight, T);
      for (int32_t t = 0; t < T; t += set) {
        moerun__home_add(&b.home, &b.layer, y, b.x, t,
                         t + set < T ? set : T - t);
      }
      if (set == 1) memcpy(first, y, sizeof first);
      assert_memory_equal(y, first, sizeof first);
    }
    for (int32_t t = 0; t < T; t++) {
      double want[H];
      for (int32_t i = 0; i < H; i++) {
        want[i] = (double)b.x[T * H - 1 - t * H - i];
      }
      expect(&b, want, t, drawn + t * K, weights + t * K);
      for (int32_t i = 0; i < H; i++) {
        assert_true(fabs((double)first[t * H + i] - want[i]) < 2e-6);
      }
    }
    assert_true(b.counts.rows_alone > 0);
    assert_true(b.counts.chosen[MOERUN_HOME_CONSTANT] > T / 2);
    close_bench(&b);
  }
}

/* Nothing is laid out, and by is_used nobody asks for more. */
static void models_without_pay_nothing(void **state) {
  (void)state;
  bench b;
  moerun__arena arena = {NULL, 0};
  open_bench(&b, 1);
  assert_true(b.home.is_used && b.home.choices == CHOICES);
  memset(b.config.num_home, 0, sizeof b.config.num_home);
  moerun__home_init(&b.home, &b.config, b.home.kernels, b.home.queue);
  moerun__home_lay_out(&b.home, &arena, T);
  assert_int_equal(arena.used, 0);
  assert_true(!b.home.is_used && b.home.choices == E);
  close_bench(&b);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(null_experts_leave_the_sum),
      cmocka_unit_test(scores_replace_weights),
      cmocka_unit_test(random_rows),
      cmocka_unit_test(models_without_pay_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
