/* What moves numbers or looks at them: exactly that, in every set. */
#include "support/draw.h"
#include "support/kernel_sets.h"
#include "support/queues.h"

#include <string.h>

enum { ROWS = 21, HEADS = 2, WIDTH = 6, PAGES = 3, OUTPUTS = 37, INPUTS = 19 };

static void rows_of_a_weight(void **state) {
  (void)state;
  static const int32_t wanted[] = {36, 0, 31, 32, 31};
  enum { M = sizeof wanted / sizeof *wanted, STRIDE = INPUTS + 3 };
  _Alignas(64) static float panels[2 * MOERUN_PANEL * INPUTS];
  float rows[OUTPUTS * INPUTS];
  draw from = {5, 0};
  draw_floats(&from, rows, OUTPUTS * INPUTS, -1, 1);
  moerun__weight_pack(panels, MOERUN_DTYPE_F32, INPUTS, 0, OUTPUTS, rows);
  const moerun__weight weight =
      moerun__weight_at(panels, MOERUN_DTYPE_F32, OUTPUTS, INPUTS);
  for (int set = 0; moerun__kernels_at(set) != NULL; set++) {
    const moerun__kernels *k = moerun__kernels_at(set);
    float x[M * STRIDE];
    memset(x, 0, sizeof x);
    k->embed(plain_queue(), x, STRIDE, &weight, wanted, M);
    for (size_t m = 0; m < M; m++) {
      assert_same_bits(x + m * STRIDE, rows + (size_t)wanted[m] * INPUTS,
                       INPUTS, k->name, "embed");
      assert_true(x[m * STRIDE + INPUTS] == 0);
    }
  }
}

/* Positions 5 .. 25 on pages 2, 0 and 1; nothing else is written. */
static void positions_go_to_their_pages(void **state) {
  (void)state;
  enum { KV = HEADS * WIDTH, PAGE = KV * MOERUN_PAGE_POSITIONS, FIRST = 5 };
  static const int32_t page[PAGES] = {2, 0, 1};
  static float keys[PAGES * PAGE];
  static float values[PAGES * PAGE];
  float both[ROWS * 2 * KV];
  draw from = {6, 0};
  draw_floats(&from, both, ROWS * 2 * KV, 1, 2);
  const moerun__attention_shape shape = {HEADS, HEADS, WIDTH, 1};
  const moerun__kv_view view = {keys, values, PAGE, page};
  const moerun__kv_rows rows = {both, both + KV, 2 * KV, ROWS, FIRST};
  for (int set = 0; moerun__kernels_at(set) != NULL; set++) {
    const moerun__kernels *k = moerun__kernels_at(set);
    memset(keys, 0, sizeof keys);
    memset(values, 0, sizeof values);
    k->kv_store(plain_queue(), &rows, &view, &shape);
    int written = 0;
    for (size_t i = 0; i < PAGES * PAGE; i++) {
      written += (keys[i] != 0) + (values[i] != 0);
    }
    assert_int_equal(written, 2 * ROWS * KV);
    for (size_t i = 0; i < ROWS; i++) {
      const size_t t = FIRST + i;
      const size_t slot = t % MOERUN_PAGE_POSITIONS;
      for (size_t c = 0; c < KV; c++) {
        const size_t start = (size_t)page[t / MOERUN_PAGE_POSITIONS] * PAGE +
                             c / WIDTH * WIDTH * MOERUN_PAGE_POSITIONS;
        const size_t d = c % WIDTH;
        assert_true(keys[start + d * MOERUN_PAGE_POSITIONS + slot] ==
                    both[i * 2 * KV + c]);
        assert_true(values[start + slot * WIDTH + d] ==
                    both[i * 2 * KV + KV + c]);
      }
    }
  }
}

static void numbers_are_clamped(void **state) {
  (void)state;
  static const float wanted[] = {-2, -2, 1.5F, 2, 2, 0};
  for (int set = 0; moerun__kernels_at(set) != NULL; set++) {
    const moerun__kernels *k = moerun__kernels_at(set);
    float x[] = {-INFINITY, -2.5F, 1.5F, 2, 7, 0, NAN, 9};
    k->clip(plain_queue(), x, 7, 2);
    assert_same_bits(x, wanted, 6, k->name, "clip");
    assert_true(isnan(x[6]) && x[7] == 9);
  }
}

/* The first note stays, and what lies between rows does not count. */
static void unsound_rows_are_noted(void **state) {
  (void)state;
  enum { M = 5, N = 3, STRIDE = 4 };
  static const int32_t wanted[M] = {0, 8, 8, 3, 8};
  for (int set = 0; moerun__kernels_at(set) != NULL; set++) {
    const moerun__kernels *k = moerun__kernels_at(set);
    float x[M][STRIDE] = {{1, 2, 0x1p54F, NAN},
                          {1, NAN, 2, 0},
                          {1, 2, -INFINITY, 0},
                          {NAN, 2, 3, 0},
                          {0x1p55F, 2, 3, 0}};
    int32_t note[M] = {0, 0, 0, 3, 0};
    k->note_unsound(plain_queue(), note, 8, x[0], STRIDE, M, N);
    assert_memory_equal(note, wanted, sizeof note);
    k->note_unsound(plain_queue(), note, 9, x[0], STRIDE, 0, N);
    assert_memory_equal(note, wanted, sizeof note);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(rows_of_a_weight),
      cmocka_unit_test(positions_go_to_their_pages),
      cmocka_unit_test(numbers_are_clamped),
      cmocka_unit_test(unsound_rows_are_noted),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
