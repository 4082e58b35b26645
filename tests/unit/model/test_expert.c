/* An expert's bytes: the same by its shape, by its weights, by the memory that
 * a list of experts takes, and by the slices of all ranks together. */
#include "runtime/base/memory.h"
#include "runtime/model/expert.h"
#include "support/cmocka.h"

#include <string.h>

/* Experts of odd and of even panels, in all pairs of types. */
typedef struct sizes {
  int32_t hidden_width;
  int32_t width;
} sizes;

static const sizes all_sizes[] = {{64, 32}, {96, 64}, {40, 24}, {1, 1}};
enum { NUM_SIZES = sizeof all_sizes / sizeof *all_sizes };
static const moerun__dtype types[] = {MOERUN_DTYPE_F32, MOERUN_DTYPE_BF16,
                                      MOERUN_DTYPE_F16};
enum { NUM_TYPES = sizeof types / sizeof *types };

static moerun__expert_shape shape_of(const sizes *s, moerun__dtype gate_up,
                                     moerun__dtype down) {
  const moerun__model_config config = {.hidden_width = s->hidden_width,
                                       .expert_width = s->width};
  moerun__expert_shape shape = moerun__expert_whole(&config, gate_up);
  shape.dtype[MOERUN_PIECE_DOWN] = down;
  return shape;
}

static size_t bytes_of(const moerun__weight *weight) {
  return moerun__weight_bytes(weight->dtype, weight->num_outputs,
                              weight->num_inputs);
}

/* 2F outputs of H inputs, then H outputs of F inputs, one behind the other. */
static void check_shape(const moerun__expert_shape *shape, const sizes *s) {
  static const char room[1];
  const moerun__expert expert = moerun__expert_at(shape, room);
  assert_int_equal(expert.columns, s->width);
  assert_int_equal(expert.gate_up.num_outputs, 2 * s->width);
  assert_int_equal(expert.gate_up.num_inputs, s->hidden_width);
  assert_int_equal(expert.down.num_outputs, s->hidden_width);
  assert_int_equal(expert.down.num_inputs, s->width);
  assert_ptr_equal(expert.gate_up.panels, room);
  assert_ptr_equal(expert.down.panels, room + bytes_of(&expert.gate_up));
  assert_int_equal(moerun__expert_bytes(shape),
                   bytes_of(&expert.gate_up) + bytes_of(&expert.down));
  assert_int_equal(moerun__expert_piece_bytes(shape, MOERUN_PIECE_DOWN),
                   bytes_of(&expert.down));
  assert_ptr_equal(moerun__expert_weight(&expert, MOERUN_PIECE_GATE_UP),
                   &expert.gate_up);
  assert_ptr_equal(moerun__expert_weight(&expert, MOERUN_PIECE_DOWN),
                   &expert.down);
}

/* A list takes what was said, and its neighbours are neighbours in memory. */
static void check_list(const moerun__expert_shape *shape, size_t count) {
  const size_t before = moerun__alloc_live_bytes();
  moerun__expert *experts = NULL;
  assert_int_equal(moerun__experts_create(&experts, shape, count), MOERUN_OK);
  assert_int_equal(moerun__alloc_live_bytes() - before,
                   moerun__experts_bytes(shape, count));
  for (size_t i = 0; i < count; i++) {
    for (int p = 0; p < MOERUN_EXPERT_PIECES; p++) {
      const moerun__expert_piece piece = (moerun__expert_piece)p;
      const size_t bytes = moerun__expert_piece_bytes(shape, piece);
      const char *first = moerun__expert_weight(&experts[0], piece)->panels;
      char *panels = (char *)moerun__expert_weight(&experts[i], piece)->panels;
      assert_ptr_equal(panels, first + i * bytes);
      memset(panels, 1, bytes);
    }
  }
  assert_true((experts == NULL) == (count == 0));
  moerun__experts_destroy(experts);
  assert_int_equal(moerun__alloc_live_bytes(), before);
}

static void bytes_are_said_once(void **state) {
  (void)state;
  for (int i = 0; i < NUM_SIZES * NUM_TYPES * NUM_TYPES; i++) {
    const sizes *s = &all_sizes[i / (NUM_TYPES * NUM_TYPES)];
    const moerun__expert_shape shape =
        shape_of(s, types[i / NUM_TYPES % NUM_TYPES], types[i % NUM_TYPES]);
    check_shape(&shape, s);
    for (size_t count = 0; count < 4; count++) {
      check_list(&shape, count);
    }
  }
}

/* What ranks hold of an expert that is cut by whole panels is all of it. */
static void slices_are_the_whole(void **state) {
  (void)state;
  const sizes s = {5 * MOERUN_PANEL, 3 * MOERUN_PANEL};
  for (int i = 0; i < NUM_TYPES * NUM_TYPES; i++) {
    const moerun__expert_shape whole =
        shape_of(&s, types[i / NUM_TYPES], types[i % NUM_TYPES]);
    size_t bytes = 0;
    static const int32_t columns[] = {2, 0, 1};
    static const int32_t outputs[] = {1, 4, 0};
    for (int r = 0; r < 3; r++) {
      const moerun__expert_shape slice = moerun__expert_slice(
          &whole, columns[r] * MOERUN_PANEL, outputs[r] * MOERUN_PANEL);
      const moerun__expert expert = moerun__expert_at(&slice, "");
      assert_int_equal(expert.gate_up.num_inputs, s.hidden_width);
      assert_int_equal(expert.down.num_inputs, s.width);
      bytes += moerun__expert_bytes(&slice);
    }
    assert_int_equal(bytes, moerun__expert_bytes(&whole));
  }
}

/* Bands follow one another through both pieces and leave nothing out. */
static void bands_are_the_whole(void **state) {
  (void)state;
  const moerun__expert_shape whole =
      shape_of(&all_sizes[1], MOERUN_DTYPE_F32, MOERUN_DTYPE_F32);
  const moerun__expert expert = moerun__expert_at(&whole, "");
  int32_t next[MOERUN_EXPERT_PIECES] = {0};
  const int bands = moerun__expert_num_bands(&whole);
  assert_in_range(bands, 1, MOERUN_EXPERT_MOST_BANDS);
  for (int i = 0; i < bands; i++) {
    const moerun__expert_band band = moerun__expert_band_at(&whole, i);
    assert_int_equal(band.piece == MOERUN_PIECE_DOWN, i == bands - 1);
    assert_int_equal(band.first, next[band.piece]);
    assert_int_equal(band.count,
                     i == bands - 1 ? whole.outputs : whole.columns);
    next[band.piece] += band.count;
  }
  assert_int_equal(next[MOERUN_PIECE_GATE_UP], expert.gate_up.num_outputs);
  assert_int_equal(next[MOERUN_PIECE_DOWN], expert.down.num_outputs);
}

/* Whichever of its blocks cannot be had, nothing of a list is left. */
static void a_list_comes_whole_or_not(void **state) {
  (void)state;
  const moerun__expert_shape shape =
      shape_of(&all_sizes[0], MOERUN_DTYPE_F32, MOERUN_DTYPE_F32);
  const size_t before = moerun__alloc_live();
  for (long nth = 0; nth < 3; nth++) {
    moerun__expert *experts = NULL;
    moerun__alloc_fail_nth(nth);
    assert_int_equal(moerun__experts_create(&experts, &shape, 2),
                     MOERUN_ERR_NOMEM);
    assert_null(experts);
    assert_int_equal(moerun__alloc_live(), before);
  }
  moerun__alloc_fail_nth(-1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(bytes_are_said_once),
      cmocka_unit_test(slices_are_the_whole),
      cmocka_unit_test(bands_are_the_whole),
      cmocka_unit_test(a_list_comes_whole_or_not),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
