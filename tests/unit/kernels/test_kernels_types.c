/* Weights of made-up types (support/made_types.h): what every set computes with
 * them has the bits of the same weights widened to F32. And weights with a
 * bias, and rows on the wire of a type that no loop knows. */
#include "runtime/base/memory.h"
#include "support/draw.h"
#include "support/kernel_sets.h"
#include "support/made_types.h"
#include "support/queues.h"

#include <stdio.h>

enum { SEED = 4711 };

typedef struct made_weight {
  moerun__weight weight; /* of the made-up type */
  moerun__weight wide;   /* the same in F32 */
  void *panels;
  void *wide_panels;
  float *rows; /* [N][D] what both mean */
} made_weight;

static void *zeroed(size_t bytes) {
  void *p = NULL;
  assert_int_equal(moerun__alloc(&p, bytes + 1, 1), MOERUN_OK);
  return p;
}

/* Random blocks and factors, packed in two runs; `tiny`: factors so small that
 * some products with them are subnormal. */
static void create(made_weight *w, draw *from, const moerun__dtype_row *type,
                   int32_t N, int32_t D, int tiny) {
  const moerun__dtype dtype = made_type(type);
  const size_t width = (size_t)D;
  const size_t row_bytes = moerun__dtype_bytes(dtype, width);
  const size_t factors = moerun__dtype_scales(dtype, width);
  unsigned char *blocks = zeroed((size_t)N * row_bytes);
  float *scales = zeroed((size_t)N * factors * sizeof *scales);
  const int32_t cut = draw_int(from, 0, N);
  for (size_t i = 0; i < (size_t)N * row_bytes; i++) {
    blocks[i] = (unsigned char)draw_int(from, 0, 255);
  }
  for (size_t i = 0; type == &made_m4 && i < (size_t)N * row_bytes;
       i += M4_BYTES) {
    const float factor = draw_float(from, -1, 1) * (tiny ? 0x1p-128F : 1.0F);
    memcpy(blocks + i, &factor, sizeof factor);
  }
  for (size_t i = 0; i < (size_t)N * factors; i++) {
    scales[i] = draw_float(from, -1, 1) * (tiny ? 0x1p-128F : 1.0F);
  }
  w->panels = zeroed(moerun__weight_bytes(dtype, N, D));
  moerun__weight_pack(w->panels, dtype, D, 0, cut, blocks);
  moerun__weight_pack(w->panels, dtype, D, cut, N - cut,
                      blocks + (size_t)cut * row_bytes);
  moerun__weight_pack_scales(w->panels, dtype, D, 0, cut, scales);
  moerun__weight_pack_scales(w->panels, dtype, D, cut, N - cut,
                             scales + (size_t)cut * factors);
  w->weight = moerun__weight_at(w->panels, dtype, N, D);
  w->rows = zeroed((size_t)N * width * sizeof *w->rows);
  for (size_t n = 0; n < (size_t)N; n++) {
    moerun__widen(w->rows + n * width, dtype, blocks + n * row_bytes, 0, width);
    for (size_t d = 0; d < width && factors > 0; d++) {
      w->rows[n * width + d] *= scales[n * factors + d / MADE_BLOCK];
    }
  }
  w->wide_panels = zeroed(moerun__weight_bytes(MOERUN_DTYPE_F32, N, D));
  moerun__weight_pack(w->wide_panels, MOERUN_DTYPE_F32, D, 0, N, w->rows);
  w->wide = moerun__weight_at(w->wide_panels, MOERUN_DTYPE_F32, N, D);
  moerun__free(blocks);
  moerun__free(scales);
}

static void destroy(made_weight *w) {
  moerun__free(w->panels);
  moerun__free(w->wide_panels);
  moerun__free(w->rows);
}

static void check_rows(const made_weight *w) {
  const size_t D = (size_t)w->weight.num_inputs;
  float *row = zeroed(D * sizeof *row);
  for (int32_t n = 0; n < w->weight.num_outputs; n++) {
    moerun__weight_row(row, &w->weight, n);
    assert_same_bits(row, w->rows + (size_t)n * D, D, "all", "weight_row");
  }
  moerun__free(row);
}

/* Both products of M rows by both weights. */
static void check_products(const made_weight *w, draw *from, int32_t M) {
  const size_t N = (size_t)w->weight.num_outputs;
  const size_t D = (size_t)w->weight.num_inputs;
  const size_t count = (size_t)M * N;
  float *x = zeroed((size_t)M * D * sizeof *x);
  float *y = zeroed(count * sizeof *y);
  float *expected = zeroed(count * sizeof *y);
  float *scratch = zeroed(moerun__linear_scratch((int32_t)D) * sizeof *scratch);
  draw_floats(from, x, (size_t)M * D, -1, 1);
  for (int i = 0; moerun__kernels_at(i) != NULL; i++) {
    const moerun__kernels *set = moerun__kernels_at(i);
    set->linear(plain_queue(), expected, N, x, D, M, &w->wide, scratch);
    set->linear(plain_queue(), y, N, x, D, M, &w->weight, scratch);
    assert_same_bits(y, expected, count, set->name, "linear");
    set->linear(rounding_queue(), expected, N, x, D, M, &w->wide, scratch);
    set->linear(rounding_queue(), y, N, x, D, M, &w->weight, scratch);
    assert_same_bits(y, expected, count, set->name, "linear of rounded rows");
  }
  moerun__free(x);
  moerun__free(y);
  moerun__free(expected);
  moerun__free(scratch);
}

static void made_types_have_the_bits_of_f32(void **state) {
  (void)state;
  static const moerun__dtype_row *const types[] = {&made_m8, &made_m4};
  draw from = {SEED, 0};
  for (int i = 0; i < 60; i++) {
    made_weight w;
    create(&w, &from, types[i % 2], draw_int(&from, 1, 100),
           draw_int(&from, 1, i < 40 ? 100 : 700), i % 3 == 0);
    check_rows(&w);
    check_products(&w, &from, i < 20 ? i : draw_int(&from, 0, 120));
    destroy(&w);
  }
}

/* A run of panels is a weight of its own: what slices rely on. */
static void panels_are_runs_of_bytes(void **state) {
  (void)state;
  enum { PANELS = 3, N = PANELS * MOERUN_PANEL, D = 77 };
  draw from = {SEED + 1, 0};
  made_weight w;
  create(&w, &from, &made_m8, N, D, 0);
  const size_t bytes = moerun__weight_bytes(w.weight.dtype, MOERUN_PANEL, D);
  assert_int_equal(moerun__weight_bytes(w.weight.dtype, N, D), PANELS * bytes);
  for (int32_t p = 0; p < PANELS; p++) {
    const moerun__weight one =
        moerun__weight_at((const char *)w.panels + (size_t)p * bytes,
                          w.weight.dtype, MOERUN_PANEL, D);
    for (int32_t n = 0; n < MOERUN_PANEL; n++) {
      float row[D];
      moerun__weight_row(row, &one, n);
      assert_same_bits(row, w.rows + (size_t)(p * MOERUN_PANEL + n) * D, D,
                       "all", "a panel alone");
    }
  }
  destroy(&w);
}

/* A bias is one addition to what the product is without it. */
static void bias_is_added_last(void **state) {
  (void)state;
  enum { N = 45, D = 33, M = 7 };
  draw from = {SEED + 2, 0};
  float bias[N];
  float x[M * D];
  float y[M * N];
  float expected[M * N];
  float *scratch = zeroed(moerun__linear_scratch(D) * sizeof *scratch);
  draw_floats(&from, bias, N, -1, 1);
  draw_floats(&from, x, (size_t)M * D, -1, 1);
  for (int type = 0; type < 2; type++) {
    made_weight w;
    create(&w, &from, &made_m8, N, D, 0);
    const moerun__weight plain = type == 0 ? w.wide : w.weight;
    moerun__weight biased = plain;
    biased.bias = bias;
    for (int i = 0; moerun__kernels_at(i / 2) != NULL; i++) {
      const moerun__kernels *set = moerun__kernels_at(i / 2);
      moerun__queue *queue = i % 2 == 0 ? plain_queue() : rounding_queue();
      set->linear(queue, expected, N, x, D, M, &plain, scratch);
      for (size_t j = 0; j < (size_t)M * N; j++) {
        expected[j] += bias[j % N];
      }
      set->linear(queue, y, N, x, D, M, &biased, scratch);
      assert_same_bits(y, expected, (size_t)M * N, set->name, "bias");
    }
    destroy(&w);
  }
  moerun__free(scratch);
}

/* F16 rows: no loop has a case for them. */
static void wire_rows_of_other_types(void **state) {
  (void)state;
  enum { ROWS = 3, H = 37 };
  static const int32_t index[ROWS] = {2, 0, 1};
  static const float weight[ROWS] = {0.5F, -1.25F, 3.0F};
  draw from = {SEED + 3, 0};
  float x[ROWS * H];
  draw_floats(&from, x, (size_t)ROWS * H, -100, 100);
  for (int i = 0; moerun__kernels_at(i) != NULL; i++) {
    const moerun__kernels *set = moerun__kernels_at(i);
    uint16_t bytes[ROWS][H + 3];
    float back[ROWS * H];
    float sum[H];
    float expected[H];
    memset(bytes, 0x5a, sizeof bytes);
    const moerun__wire_rows rows = {bytes, sizeof bytes[0], MOERUN_DTYPE_F16};
    set->scatter(plain_queue(), &rows, index, x, ROWS, H);
    set->gather(plain_queue(), back, &rows, index, ROWS, H);
    set->combine(plain_queue(), sum, &rows, index, weight, 1, ROWS, H);
    for (size_t h = 0; h < H; h++) {
      float wide[ROWS];
      for (size_t r = 0; r < ROWS; r++) {
        wide[r] = moerun__f16_to_f32(moerun__f32_to_f16(x[r * H + h]));
        assert_true(back[r * H + h] == wide[r]);
      }
      expected[h] = fmaf(weight[2], wide[2],
                         fmaf(weight[1], wide[1], weight[0] * wide[0]));
      assert_true(fabsf(sum[h] - expected[h]) <= 1e-4F);
    }
    if (i >= FIRST_SET) {
      assert_same_bits(sum, expected, H, set->name, "combine of F16");
    }
    for (size_t r = 0; r < ROWS; r++) {
      assert_int_equal(bytes[r][H], 0x5a5a);
    }
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(made_types_have_the_bits_of_f32),
      cmocka_unit_test(panels_are_runs_of_bytes),
      cmocka_unit_test(bias_is_added_last),
      cmocka_unit_test(wire_rows_of_other_types),
  };
  printf("seed %d\n", SEED);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
