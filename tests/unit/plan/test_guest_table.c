/* Where guests are kept: which entries layers share, who gives way, what fewer
 * entries mean, and how many there are by default. */
#include "runtime/base/memory.h"
#include "runtime/moe/guests.h"
#include "runtime/plan/guest_table.h"
#include "runtime/plan/plan.h"
#include "support/cmocka.h"

enum { R = 3, LAYERS = 6 };

static moerun__guest_table table;
static char *block;

static void set_up(int32_t per_rank) {
  moerun__arena arena = {NULL, 0};
  moerun__guest_table_lay_out(&table, &arena, R, LAYERS, per_rank);
  assert_int_equal(moerun__alloc(&block, arena.used, 1), MOERUN_OK);
  arena = (moerun__arena){block, 0};
  moerun__guest_table_lay_out(&table, &arena, R, LAYERS, per_rank);
  moerun__guest_table_clear(&table);
}

/* Two are shared and what layers do not divide; none below that. */
static void entries_are_divided(void **state) {
  (void)state;
  static const int32_t wanted[][4] = {
      {0, 0, 0, 0}, {2, 0, 2, 2}, {7, 0, 7, 7}, {8, 1, 2, 3}, {19, 2, 7, 9}};
  for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
    set_up(wanted[i][0]);
    assert_int_equal(table.reserved, wanted[i][1]);
    assert_int_equal(table.shared, wanted[i][2]);
    assert_int_equal(table.per_layer, wanted[i][3]);
    moerun__free(block);
  }
}

/* With 7 entries a layer could use all, but there is memory for the lists of 3
 * guests alone. */
static void fewer_entries_never_are_more_guests(void **state) {
  (void)state;
  set_up(8);
  moerun__guest_table_use(&table, 1, 0, 2, 5);
  moerun__guest_table_shrink(&table, 7);
  assert_int_equal(table.per_rank, 7);
  assert_int_equal(table.reserved, 0);
  assert_int_equal(table.shared, 3);
  assert_int_equal(table.per_layer, 3);
  for (int32_t r = 0; r < R; r++) {
    assert_int_equal(moerun__guest_table_find(&table, r, 0, 5),
                     MOERUN_NO_GUEST);
  }
  moerun__free(block);
}

/* Weights that are timed overwrite the last guest of each rank. */
static void the_last_guest_is_forgotten(void **state) {
  (void)state;
  set_up(8);
  for (int32_t r = 0; r < R; r++) {
    for (int32_t g = 0; g < 3; g++) {
      moerun__guest_table_use(&table, r, LAYERS - 1, g, 100 + g);
    }
  }
  moerun__guest_table_forget_last(&table);
  for (int32_t r = 0; r < R; r++) {
    assert_int_equal(moerun__guest_table_find(&table, r, LAYERS - 1, 100), 0);
    assert_int_equal(moerun__guest_table_find(&table, r, LAYERS - 1, 101), 1);
    assert_int_equal(moerun__guest_table_find(&table, r, LAYERS - 1, 102),
                     MOERUN_NO_GUEST);
  }
  moerun__free(block);
}

static void the_one_unused_for_longest_gives_way(void **state) {
  (void)state;
  set_up(9);
  assert_int_equal(table.per_layer, 4);
  assert_int_equal(moerun__guest_table_oldest(&table, 2, 1), 0);
  table.plans = 1;
  moerun__guest_table_use(&table, 2, 1, 0, 7);
  assert_int_equal(moerun__guest_table_oldest(&table, 2, 1), 1);
  table.plans = 2;
  moerun__guest_table_use(&table, 2, 1, 1, 8);
  moerun__guest_table_use(&table, 2, 1, 2, 9);
  table.plans = 3;
  moerun__guest_table_use(&table, 2, 4, 3, 10); /* shared by all layers */
  assert_int_equal(moerun__guest_table_oldest(&table, 2, 1), 0);
  table.plans = 4;
  moerun__guest_table_use(&table, 2, 1, 0, 7);
  assert_int_equal(moerun__guest_table_oldest(&table, 2, 1), 1);
  moerun__free(block);
}

/* Two replicas of an expert give rows to its guest on one rank: that is one of
 * the two that this has room for, and another expert comes beside it. */
static void replicas_share_a_guest(void **state) {
  (void)state;
  enum { P = 4 };
  static const int32_t replica_of_expert[] = {0, 2, 3, P};
  static const int32_t rank_of[P] = {0, 1, 1, 2};
  static const int32_t slot_of[P] = {0, 0, 1, 0};
  static const int32_t rows[P] = {450, 200, 400, 0};
  static const int32_t speed[R];
  const moerun__demand demand = {.num_ranks = R,
                                 .num_replicas = P,
                                 .num_experts = 3,
                                 .replica_of_expert = replica_of_expert,
                                 .rank_of = rank_of,
                                 .slot_of = slot_of,
                                 .rows = rows,
                                 .speed = speed};
  const moerun__plan_options options = {
      .threshold = 1000, .slack = 1000, .min_rows = 1, .min_rows_held = 1};
  moerun__plan plan;
  moerun__arena arena = {NULL, 0};
  char *room = NULL;
  moerun__plan_lay_out(&plan, &arena, R, P);
  assert_int_equal(moerun__alloc(&room, arena.used, 1), MOERUN_OK);
  arena = (moerun__arena){room, 0};
  moerun__plan_lay_out(&plan, &arena, R, P);
  set_up(2);
  moerun__guest_table_use(&table, 2, 0, 0, 0); /* expert 0 is there already */
  moerun__plan_solve(&plan, &table, &demand, &options);
  assert_int_equal(plan.num_moves, 3);
  for (int32_t r = 0; r < R; r++) {
    assert_int_equal(plan.load[r], 350);
  }
  assert_int_equal(plan.moves[0].guest, 0);
  assert_int_equal(plan.moves[1].guest, 0);
  assert_int_equal(plan.moves[2].guest, 1);
  moerun__free(room);
  moerun__free(block);
}

/* ---- How many ------------------------------------------------------------ */

/* What a quarter of the ranks give away, shared by the others, and two more. */
static void a_quarter_of_ranks_may_be_slow(void **state) {
  (void)state;
  static const struct {
    int32_t ranks;
    int32_t experts; /* that a rank has room for */
  } wanted[] = {{1, 0},  {2, 6 * 16 + 2}, {4, 6 * 3 + 2},
                {5, 32}, {8, 6 * 2 + 2},  {32, 6 * 1 + 2}};
  const moerun__model_config config = {.hidden_width = 64, .expert_width = 32};
  const moerun__expert_shape expert =
      moerun__expert_whole(&config, MOERUN_DTYPE_BF16);
  const size_t each = moerun__weight_bytes(MOERUN_DTYPE_BF16, 2 * 32, 64) +
                      moerun__weight_bytes(MOERUN_DTYPE_BF16, 64, 32);
  for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
    moerun_placement *placement = NULL;
    assert_int_equal(
        moerun_placement_create_block(&placement, 6, 32, wanted[i].ranks),
        MOERUN_OK);
    assert_int_equal(moerun__guests_default(placement, &expert),
                     each * (size_t)wanted[i].experts);
    moerun_placement_destroy(placement);
  }
}

/* Slots are 16-bit numbers, those of own experts included. */
static void slots_of_guests_have_16_bits(void **state) {
  (void)state;
  moerun_comm comm = {.size = 2};
  moerun_model model = {.comm = &comm,
                        .config = {.hidden_width = 32,
                                   .expert_width = 32,
                                   .num_moe_layers = 1,
                                   .num_experts = 20000}};
  moerun__guests guests;
  moerun__guests_init(&guests, &model, NULL, SIZE_MAX / 4);
  assert_int_equal(guests.most_guests + 20000 + 1, INT16_MAX);
  model.config.num_experts = 8; /* no more than there are, and the shared */
  moerun__guests_init(&guests, &model, NULL, SIZE_MAX / 4);
  assert_int_equal(guests.most_guests, 8 + MOERUN_SHARED_GUESTS);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(entries_are_divided),
      cmocka_unit_test(fewer_entries_never_are_more_guests),
      cmocka_unit_test(the_last_guest_is_forgotten),
      cmocka_unit_test(the_one_unused_for_longest_gives_way),
      cmocka_unit_test(replicas_share_a_guest),
      cmocka_unit_test(a_quarter_of_ranks_may_be_slow),
      cmocka_unit_test(slots_of_guests_have_16_bits),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
