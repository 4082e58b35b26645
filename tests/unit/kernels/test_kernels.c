/* Every set against every other bit for bit, and against the oracle within
 * the tolerances; the properties of the small operations. Attention and the
 * gate have files of their own. */
#include "kernels/cpu/lanes.h"
#include "kernels/kernels.h"
#include "runtime/base/memory.h"
#include "support/activate.h"
#include "support/draw.h"
#include "support/kernel_sets.h"
#include "support/queues.h"
#include "support/tolerance.h"

#include <string.h>

enum { SEED = 20240, SENTINEL = -12345 };

static float *floats(size_t count) {
  float *p = NULL;
  assert_int_equal(moerun__alloc(&p, count, sizeof *p), MOERUN_OK);
  return p;
}

/* ---- linear -------------------------------------------------------------- */

typedef struct linear_case {
  moerun__weight weight;
  void *panels;
  float *x;
  float *y[5]; /* one per set */
  float *scratch;
  size_t x_stride;
  size_t y_stride;
  int32_t M;
} linear_case;

static void linear_case_create(linear_case *c, draw *from, moerun__dtype dtype,
                               int32_t M, int32_t N, int32_t D) {
  memset(c, 0, sizeof *c);
  char *rows = NULL;
  const size_t row_bytes = moerun__dtype_bytes(dtype, (size_t)D);
  assert_int_equal(moerun__alloc(&rows, (size_t)N, row_bytes), MOERUN_OK);
  draw_elements(from, rows, (size_t)N * (size_t)D, dtype);
  assert_int_equal(
      moerun__alloc(&c->panels, moerun__weight_bytes(dtype, N, D), 1),
      MOERUN_OK);
  const int32_t cut = draw_int(from, 0, N);
  moerun__weight_pack(c->panels, dtype, D, 0, cut, rows);
  moerun__weight_pack(c->panels, dtype, D, cut, N - cut,
                      rows + (size_t)cut * row_bytes);
  c->weight = moerun__weight_at(c->panels, dtype, N, D);
  c->M = M;
  c->x_stride = (size_t)D + (size_t)draw_int(from, 0, 3);
  c->y_stride = (size_t)N + (size_t)draw_int(from, 0, 3);
  c->x = floats((size_t)M * c->x_stride);
  draw_floats(from, c->x, (size_t)M * c->x_stride, -1, 1);
  c->scratch = floats(moerun__linear_scratch(D));
  float *row = floats((size_t)D);
  for (int32_t n = 0; n < N; n++) {
    moerun__weight_row(row, &c->weight, n);
    for (size_t d = 0; d < (size_t)D; d++) {
      assert_true(row[d] ==
                  moerun__element(rows, dtype, (size_t)n * (size_t)D + d));
    }
  }
  moerun__free(row);
  moerun__free(rows);
  for (int i = 0; moerun__kernels_at(i) != NULL; i++) {
    c->y[i] = floats((size_t)M * c->y_stride);
    for (size_t j = 0; j < (size_t)M * c->y_stride; j++) {
      c->y[i][j] = SENTINEL;
    }
    moerun__kernels_at(i)->linear(plain_queue(), c->y[i], c->y_stride, c->x,
                                  c->x_stride, M, &c->weight, c->scratch);
  }
}

static void linear_case_destroy(linear_case *c) {
  for (int i = 0; i < 5; i++) {
    moerun__free(c->y[i]);
  }
  moerun__free(c->panels);
  moerun__free(c->x);
  moerun__free(c->scratch);
}

/* The contract itself, for one row: a chain of fused multiply-adds from 0. */
static void assert_chains(const linear_case *c, size_t m) {
  const size_t D = (size_t)c->weight.num_inputs;
  float *w = floats(D);
  for (int32_t n = 0; n < c->weight.num_outputs; n++) {
    float chain = 0;
    moerun__weight_row(w, &c->weight, n);
    for (size_t d = 0; d < D; d++) {
      chain = fmaf(c->x[m * c->x_stride + d], w[d], chain);
    }
    assert_same_bits(&c->y[FIRST_SET][m * c->y_stride + (size_t)n], &chain, 1,
                     moerun__kernels_at(FIRST_SET)->name, "linear, one chain");
  }
  moerun__free(w);
}

/* Sets agree (gaps between rows included: nobody writes there), the oracle is
 * near, and a row alone has the bits that it has in the batch. */
static void linear_case_check(const linear_case *c) {
  const size_t N = (size_t)c->weight.num_outputs;
  const size_t D = (size_t)c->weight.num_inputs;
  const size_t all = (size_t)c->M * c->y_stride;
  for (size_t i = 0; i < all; i++) {
    assert_within(TOLERANCE_LINEAR, c->y[FIRST_SET][i], c->y[0][i], (double)D);
  }
  if (c->M > 0) assert_chains(c, (size_t)c->M - 1);
  float *alone = floats(N);
  for (int i = FIRST_SET; moerun__kernels_at(i) != NULL; i++) {
    const moerun__kernels *set = moerun__kernels_at(i);
    assert_same_bits(c->y[i], c->y[FIRST_SET], all, set->name, "linear");
    if (c->M == 0) continue;
    const size_t m = (size_t)c->M / 2;
    set->linear(plain_queue(), alone, N, c->x + m * c->x_stride, c->x_stride, 1,
                &c->weight, c->scratch);
    assert_same_bits(alone, c->y[i] + m * c->y_stride, N, set->name,
                     "linear, one row alone");
  }
  moerun__free(alone);
}

static void linear_agrees(void **state) {
  (void)state;
  static const moerun__dtype dtypes[] = {MOERUN_DTYPE_F32, MOERUN_DTYPE_BF16,
                                         MOERUN_DTYPE_F16};
  draw from = {SEED, 0};
  for (int32_t M = 0; M <= 40; M++) {
    for (int d = 0; d < 3; d++) {
      linear_case c;
      linear_case_create(&c, &from, dtypes[d], M, draw_int(&from, 1, 170),
                         draw_int(&from, 1, 90));
      linear_case_check(&c);
      linear_case_destroy(&c);
    }
  }
}

/* More inputs than a block, more panels than a block, more rows than are
 * packed at a time. */
static void linear_agrees_beyond_blocks(void **state) {
  (void)state;
  static const struct {
    int32_t M;
    int32_t N;
    int32_t D;
    moerun__dtype dtype;
  } shapes[] = {{1, 130, 1111, MOERUN_DTYPE_BF16},
                {14, 33, 777, MOERUN_DTYPE_BF16},
                {25, 545, 257, MOERUN_DTYPE_BF16},
                {100, 40, 513, MOERUN_DTYPE_F16},
                {193, 37, 300, MOERUN_DTYPE_F32}};
  draw from = {SEED + 1, 0};
  for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
    linear_case c;
    linear_case_create(&c, &from, shapes[i].dtype, shapes[i].M, shapes[i].N,
                       shapes[i].D);
    linear_case_check(&c);
    linear_case_destroy(&c);
  }
}

/* ---- exp and silu -------------------------------------------------------- */

enum { PATTERN_STEP = 1021 };

/* The relative error where fp32 has its full precision; beyond, the result is
 * asserted here. */
static double exp_error(float found, double expected) {
  if (expected > 3.4028235677973366e38) { /* rounds to infinity */
    assert_true(found == HUGE_VALF);
    return 0;
  }
  if (expected < 0x1p-126) {
    assert_true(fabs(found - expected) <= 0x1p-149);
    return 0;
  }
  assert_within(TOLERANCE_EXP, found, expected, 0);
  return isnan(expected) ? 0 : fabs(found - expected) / expected;
}

static void exp_is_close_for_all_floats(void **state) {
  (void)state;
  double worst = 0;
  for (uint64_t bits = 0; bits <= UINT32_MAX;) {
    float in[LANES];
    float out[LANES];
    for (int l = 0; l < LANES; l++, bits += PATTERN_STEP) {
      in[l] = moerun__bits_to_f32((uint32_t)bits);
    }
    lanes_store(out, lanes_exp(lanes_load(in)));
    for (int l = 0; l < LANES; l++) {
      worst = fmax(worst, exp_error(out[l], exp((double)in[l])));
    }
  }
  printf("exp: worst relative error %.2f * 2^-24\n", worst * 0x1p24);
  const lanes edge = lanes_exp(lanes_set(-HUGE_VALF));
  assert_true(lanes_highest(edge) == 0.0F);
  assert_true(lanes_sum(lanes_exp(lanes_set(0.0F))) == (float)LANES);
  assert_true(isnan(lanes_sum(lanes_exp(lanes_set(NAN)))));
}

static void silu_agrees_for_all_floats(void **state) {
  (void)state;
  enum { F = 4096 };
  float *gate_up = floats((size_t)2 * F);
  float *first = floats(F);
  float *h = floats(F);
  for (uint64_t bits = 0; bits <= UINT32_MAX;) {
    for (size_t f = 0; f < F; f++, bits += PATTERN_STEP) {
      gate_up[f] = moerun__bits_to_f32((uint32_t)bits);
      gate_up[F + f] = 1.0F;
    }
    activate(moerun__kernels_at(FIRST_SET), first, gate_up, 1, F);
    for (int i = FIRST_SET + 1; moerun__kernels_at(i) != NULL; i++) {
      activate(moerun__kernels_at(i), h, gate_up, 1, F);
      assert_same_bits(h, first, F, moerun__kernels_at(i)->name, "silu");
    }
    activate(ref(), h, gate_up, 1, F);
    for (size_t f = 0; f < F; f++) {
      /* below -88 the sets give -0 where the oracle still has a subnormal */
      assert_within(TOLERANCE_SWIGLU, first[f], h[f], 1e-30);
    }
  }
  moerun__free(gate_up);
  moerun__free(first);
  moerun__free(h);
}

/* ---- Row operations ------------------------------------------------------ */

/* Runs one operation on all sets: outputs of sets 1 .. must be the same bits,
 * and near that of the oracle. `operate` fills out[count]. */
typedef void (*row_operation)(const moerun__kernels *set, float *out,
                              const float *in, int32_t M, int32_t width);

static void compare_sets(row_operation operate, int tolerance, const float *in,
                         int32_t M, int32_t width, double scale) {
  const size_t count = (size_t)M * (size_t)width;
  float *expected = floats(count);
  float *first = floats(count);
  float *out = floats(count);
  operate(ref(), expected, in, M, width);
  operate(moerun__kernels_at(FIRST_SET), first, in, M, width);
  for (size_t i = 0; i < count; i++) {
    assert_within(tolerance, first[i], expected[i], scale);
  }
  for (int i = FIRST_SET + 1; moerun__kernels_at(i) != NULL; i++) {
    operate(moerun__kernels_at(i), out, in, M, width);
    assert_same_bits(out, first, count, moerun__kernels_at(i)->name,
                     tolerance_table[tolerance].operation);
  }
  moerun__free(expected);
  moerun__free(first);
  moerun__free(out);
}

/* `in` holds 2 M width numbers; what an operation needs beside its rows it
 * takes from the second half. */
static void run_swiglu(const moerun__kernels *set, float *out, const float *in,
                       int32_t M, int32_t width) {
  activate(set, out, in, M, width);
}

static void run_rmsnorm(const moerun__kernels *set, float *out, const float *in,
                        int32_t M, int32_t width) {
  set->rmsnorm(plain_queue(), out, (size_t)width, in, (size_t)width, M,
               &(moerun__norm){in + (size_t)M * (size_t)width, width, 1e-6F});
}

static void run_rmsnorm_in_place(const moerun__kernels *set, float *out,
                                 const float *in, int32_t M, int32_t width) {
  memcpy(out, in, (size_t)M * (size_t)width * sizeof *out);
  set->rmsnorm(plain_queue(), out, (size_t)width, out, (size_t)width, M,
               &(moerun__norm){in + (size_t)M * (size_t)width, width, 1e-6F});
}

static void run_rope(const moerun__kernels *set, float *out, const float *in,
                     int32_t M, int32_t width) {
  const size_t count = (size_t)M * (size_t)width;
  memcpy(out, in, count * sizeof *out);
  /* two heads where the width allows, else one; odd widths: rows of width-1 */
  const int32_t heads = width % 4 == 0 ? 2 : 1;
  const int32_t head_dim = width / heads / 2 * 2;
  set->rope(plain_queue(), out, (size_t)width, in + count,
            in + count + count / 2, M, heads, head_dim);
}

static void run_softmax(const moerun__kernels *set, float *out, const float *in,
                        int32_t M, int32_t width) {
  for (size_t m = 0; m < (size_t)M; m++) {
    const size_t at = m * (size_t)width;
    memcpy(out + at, in + at, (size_t)width * sizeof *out);
    if (m % 2 == 0) {
      set->softmax(out + at, out + at, width, 2.5F);
    } else {
      set->softmax(out + at, in + at, width, 2.5F);
    }
  }
}

static void run_add(const moerun__kernels *set, float *out, const float *in,
                    int32_t M, int32_t width) {
  const size_t count = (size_t)M * (size_t)width;
  memcpy(out, in, count * sizeof *out);
  set->add(plain_queue(), out, in + count, count);
}

/* Factors are the second half's first, or NULL. */
static void run_add_rows(const moerun__kernels *set, float *out,
                         const float *in, int32_t M, int32_t width) {
  const size_t count = (size_t)M * (size_t)width;
  memcpy(out, in, count * sizeof *out);
  set->add_rows(plain_queue(), out, in + count, width % 3 == 0 ? NULL : in, M,
                width);
}

static void run_sigmoid(const moerun__kernels *set, float *out, const float *in,
                        int32_t M, int32_t width) {
  set->sigmoid(plain_queue(), out, in, (size_t)M * (size_t)width);
}

/* Without factors, rows are added as numbers are. */
static void add_rows_without_factors_adds(void **state) {
  (void)state;
  draw from = {SEED + 4, 0};
  float in[3 * 45];
  float rows[3 * 45];
  float all[3 * 45];
  draw_floats(&from, in, 3 * 45, -4, 4);
  draw_floats(&from, rows, 3 * 45, -4, 4);
  memcpy(all, rows, sizeof all);
  for (int i = 0; moerun__kernels_at(i) != NULL; i++) {
    const moerun__kernels *set = moerun__kernels_at(i);
    set->add_rows(plain_queue(), rows, in, NULL, 3, 45);
    set->add(plain_queue(), all, in, sizeof in / sizeof *in);
    assert_same_bits(rows, all, 3 * 45, set->name, "add_rows");
  }
}

static void sigmoid_of_extremes(void **state) {
  (void)state;
  for (int i = 0; moerun__kernels_at(i) != NULL; i++) {
    float p[7] = {HUGE_VALF, -HUGE_VALF, 3e38F, -3e38F, 0.0F, -0.0F, NAN};
    moerun__kernels_at(i)->sigmoid(plain_queue(), p, p, 7);
    assert_true(p[0] == 1 && p[1] == 0 && p[2] == 1 && p[3] == 0);
    assert_true(p[4] == 0.5F && p[5] == 0.5F && isnan(p[6]));
  }
}

static void row_operations_agree(void **state) {
  (void)state;
  draw from = {SEED + 2, 0};
  for (int i = 0; i < 120; i++) {
    const int32_t M = draw_int(&from, 0, 5);
    const int32_t width = i < 40 ? i + 1 : draw_int(&from, 1, 400);
    const size_t count = 2 * (size_t)M * (size_t)width;
    float *in = floats(count);
    draw_floats(&from, in, count, -4, 4);
    compare_sets(run_swiglu, TOLERANCE_SWIGLU, in, M, width, 0);
    compare_sets(run_rmsnorm, TOLERANCE_RMSNORM, in, M, width, 0);
    compare_sets(run_rmsnorm_in_place, TOLERANCE_RMSNORM, in, M, width, 0);
    compare_sets(run_rope, TOLERANCE_ROPE, in, M, width, 32);
    compare_sets(run_softmax, TOLERANCE_SOFTMAX, in, M, width, 1e-9);
    compare_sets(run_add, TOLERANCE_ROPE, in, M, width, 0);
    compare_sets(run_add_rows, TOLERANCE_ROPE, in, M, width, 32);
    compare_sets(run_sigmoid, TOLERANCE_SIGMOID, in, M, width, 0);
    moerun__free(in);
  }
}

static void softmax_of_infinities(void **state) {
  (void)state;
  for (int i = 0; moerun__kernels_at(i) != NULL; i++) {
    const moerun__kernels *set = moerun__kernels_at(i);
    float p[20];
    for (int j = 0; j < 20; j++) {
      p[j] = j == 3 || j == 18 ? -7.0F : -HUGE_VALF;
    }
    set->softmax(p, p, 20, 1.0F);
    for (int j = 0; j < 20; j++) {
      assert_true(p[j] == (j == 3 || j == 18 ? 0.5F : 0.0F));
    }
    const float extreme[3] = {3e38F, -3e38F, 0.0F};
    set->softmax(p, extreme, 3, 1.0F);
    assert_true(p[0] == 1.0F && p[1] == 0.0F && p[2] == 0.0F);
    const float all[2] = {-HUGE_VALF, -HUGE_VALF};
    set->softmax(p, all, 2, 1.0F);
    assert_true(isnan(p[0]) && isnan(p[1]));
  }
}

/* ---- Wire rows ----------------------------------------------------------- */

enum { WIRE_ROWS = 5, WIRE_WIDTH = 37, WIRE_ALL = 7 };

/* x to the rows of `dtype` and back: rounded once, and no byte beside them. */
static void wire_there_and_back(const moerun__kernels *set, moerun__dtype dtype,
                                const float *x) {
  enum { STRIDE = WIRE_WIDTH * 4 + 8 };
  const int32_t index[WIRE_ROWS] = {6, 0, 3, 1, 4}; /* 2 and 5 stay untouched */
  const int is_untouched[WIRE_ALL] = {0, 0, 1, 0, 0, 1, 0};
  char bytes[WIRE_ALL][STRIDE];
  float back[WIRE_ROWS * WIRE_WIDTH];
  memset(bytes, 0x5a, sizeof bytes);
  const moerun__wire_rows rows = {bytes, STRIDE, dtype};
  set->scatter(plain_queue(), &rows, index, x, WIRE_ROWS, WIRE_WIDTH);
  set->gather(plain_queue(), back, &rows, index, WIRE_ROWS, WIRE_WIDTH);
  for (size_t j = 0; j < (size_t)WIRE_ROWS * WIRE_WIDTH; j++) {
    const float expected = dtype == MOERUN_DTYPE_F32
                               ? x[j]
                               : moerun__bf16_to_f32(moerun__f32_to_bf16(x[j]));
    assert_memory_equal(&back[j], &expected, sizeof expected);
  }
  const size_t used = moerun__dtype_bytes(dtype, WIRE_WIDTH);
  for (size_t r = 0; r < WIRE_ALL; r++) {
    for (size_t b = is_untouched[r] ? 0 : used; b < STRIDE; b++) {
      assert_int_equal(bytes[r][b], 0x5a);
    }
  }
}

static void wire_rounds_and_comes_back(void **state) {
  (void)state;
  draw from = {SEED + 4, 0};
  float x[WIRE_ROWS * WIRE_WIDTH];
  draw_floats(&from, x, (size_t)WIRE_ROWS * WIRE_WIDTH, -100, 100);
  static const float special[] = {
      0.0F,          -0.0F,     HUGE_VALF, -HUGE_VALF,   0x1p-149F,
      0x1.fffp-130F, 0x1.01p0F, 0x1.03p0F, 0x1.01001p0F, 3.4028235e38F};
  memcpy(x + 20, special, sizeof special);
  for (int i = 0; moerun__kernels_at(i) != NULL; i++) {
    const moerun__kernels *set = moerun__kernels_at(i);
    wire_there_and_back(set, MOERUN_DTYPE_F32, x);
    wire_there_and_back(set, MOERUN_DTYPE_BF16, x);
    uint16_t half[LANES + 1] = {0};
    float nan[LANES + 1];
    for (int l = 0; l <= LANES; l++) {
      nan[l] = moerun__bits_to_f32(0x7f800001U); /* signalling */
    }
    const moerun__wire_rows one = {half, sizeof half, MOERUN_DTYPE_BF16};
    const int32_t row = 0;
    set->scatter(plain_queue(), &one, &row, nan, 1, LANES + 1);
    assert_int_equal(half[0], 0x7fc0);
    assert_int_equal(half[LANES], 0x7fc0);
  }
}

enum { COMBINE_T = 3, COMBINE_K = 4, COMBINE_H = 45, COMBINE_ROWS = 9 };

static const int32_t combine_index[COMBINE_T * COMBINE_K] = {
    0, 8, 3, 4, -1, 2, -1, 7, -1, -1, -1, -1};

/* One chain from 0 in gate order, `wide` being the rows in fp32. */
static float combined(const float *wide, const float *weight, size_t t,
                      size_t h) {
  float sum = 0;
  for (size_t j = t * COMBINE_K; j < (t + 1) * COMBINE_K; j++) {
    if (combine_index[j] < 0) continue;
    sum = fmaf(weight[j], wide[(size_t)combine_index[j] * COMBINE_H + h], sum);
  }
  return sum;
}

static void combine_sums_in_gate_order(void **state) {
  (void)state;
  draw from = {SEED + 5, 0};
  uint16_t halves[COMBINE_ROWS * COMBINE_H];
  float wide[COMBINE_ROWS * COMBINE_H];
  draw_elements(&from, halves, (size_t)COMBINE_ROWS * COMBINE_H,
                MOERUN_DTYPE_BF16);
  for (size_t i = 0; i < (size_t)COMBINE_ROWS * COMBINE_H; i++) {
    wide[i] = moerun__bf16_to_f32(halves[i]);
  }
  float weight[COMBINE_T * COMBINE_K];
  draw_floats(&from, weight, (size_t)COMBINE_T * COMBINE_K, 0, 1);
  weight[4] = NAN; /* of an index -1: never part of a sum */
  const moerun__wire_rows rows[2] = {
      {halves, COMBINE_H * sizeof *halves, MOERUN_DTYPE_BF16},
      {wide, COMBINE_H * sizeof *wide, MOERUN_DTYPE_F32}};
  for (int i = 0; moerun__kernels_at(i / 2) != NULL; i++) {
    const moerun__kernels *set = moerun__kernels_at(i / 2);
    float y[COMBINE_T][COMBINE_H];
    set->combine(plain_queue(), y[0], &rows[i % 2], combine_index, weight,
                 COMBINE_T, COMBINE_K, COMBINE_H);
    for (size_t e = 0; e < (size_t)COMBINE_T * COMBINE_H; e++) {
      const float found = y[e / COMBINE_H][e % COMBINE_H];
      const float expected =
          combined(wide, weight, e / COMBINE_H, e % COMBINE_H);
      if (set == ref()) {
        assert_within(TOLERANCE_COMBINE, found, expected, 1);
      } else {
        assert_memory_equal(&found, &expected, sizeof expected);
      }
    }
  }
}

/* ---- The table ----------------------------------------------------------- */

static void sets_are_found_by_name(void **state) {
  (void)state;
  const moerun__kernels *found = NULL;
  int count = 0;
  assert_null(moerun__kernels_at(-1));
  for (; moerun__kernels_at(count) != NULL; count++) {
    const moerun__kernels *set = moerun__kernels_at(count);
    assert_int_equal(moerun__kernels_find(&found, set->name), MOERUN_OK);
    assert_ptr_equal(found, set);
  }
  assert_true(count >= 2);
  assert_string_equal(ref()->name, "ref");
  assert_int_equal(moerun__kernels_find(&found, "auto"), MOERUN_OK);
  assert_ptr_equal(found, moerun__kernels_at(count - 1));
  assert_int_equal(moerun__kernels_find(&found, "sse9"),
                   MOERUN_ERR_UNSUPPORTED);
  assert_null(found);
  assert_non_null(strstr(moerun_last_error(), "\"sse9\""));
  assert_non_null(strstr(moerun_last_error(), "auto, ref, portable"));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(linear_agrees),
      cmocka_unit_test(linear_agrees_beyond_blocks),
      cmocka_unit_test(exp_is_close_for_all_floats),
      cmocka_unit_test(silu_agrees_for_all_floats),
      cmocka_unit_test(row_operations_agree),
      cmocka_unit_test(add_rows_without_factors_adds),
      cmocka_unit_test(sigmoid_of_extremes),
      cmocka_unit_test(softmax_of_infinities),
      cmocka_unit_test(wire_rounds_and_comes_back),
      cmocka_unit_test(combine_sums_in_gate_order),
      cmocka_unit_test(sets_are_found_by_name),
  };
  printf("seed %d\n", SEED);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
