/* Why ranks waited all the same: the numbers of a run's table and metrics, from
 * demands whose answer is known to the plan that met them. A row takes 10 us on
 * the fastest rank. */
#include "launch/run/balance_table.h"
#include "runtime/base/memory.h"
#include "support/cmocka.h"

#include <string.h>

enum {
  R = 2,
  E = 2,
  LAYERS = 2,
  WEIGHT_ROWS = 2000, /* an expert's weights take 20 ms */
};

typedef struct rig {
  char *block;
  moerun__ledger ledger;
  moerun__plan plan;
  moerun__guest_table guests;
  int32_t told[R][MOERUN_TOLD_WORDS];
} rig;

static void lay_out(rig *r, moerun__arena *arena, int32_t guests) {
  moerun__ledger_lay_out(&r->ledger, arena, LAYERS, R, E);
  moerun__plan_lay_out(&r->plan, arena, R, E);
  moerun__guest_table_lay_out(&r->guests, arena, R, LAYERS, guests);
}

static void set_up(rig *r, int32_t guests) {
  moerun__arena arena = {NULL, 0};
  *r = (rig){0};
  lay_out(r, &arena, guests);
  assert_int_equal(moerun__alloc(&r->block, arena.used, 1), MOERUN_OK);
  arena = (moerun__arena){r->block, 0};
  lay_out(r, &arena, guests);
  moerun__guest_table_clear(&r->guests);
  moerun__ledger_clear(&r->ledger);
  r->ledger.row_seconds = 1e-5;
  moerun__ledger_begin_step(&r->ledger);
}

/* Expert e is rank e's; rank 1 is so many sixteenths of an octave behind. */
static void add(rig *r, int32_t layer, int32_t rows0, int32_t rows1,
                int32_t behind) {
  static const int32_t replica_of_expert[E + 1] = {0, 1, 2};
  static const int32_t rank_of[E] = {0, 1};
  static const int32_t slot_of[E] = {0, 0};
  static const moerun__plan_options options = {.threshold = 1300,
                                               .threshold_held = 1100,
                                               .slack = 1000,
                                               .min_rows = 32,
                                               .min_rows_held = 8,
                                               .weight_rows = WEIGHT_ROWS};
  static const moerun__plan_bytes bytes = {1000, 0};
  static const moerun__told_sums sums;
  const int32_t rows[E] = {rows0, rows1};
  const int32_t speed[R] = {0, -behind};
  r->told[1][MOERUN_TOLD_SPEED] = -behind;
  const moerun__demand demand = {.layer = layer,
                                 .num_ranks = R,
                                 .num_replicas = E,
                                 .num_experts = E,
                                 .replica_of_expert = replica_of_expert,
                                 .rank_of = rank_of,
                                 .slot_of = slot_of,
                                 .rows = rows,
                                 .speed = speed};
  moerun__plan_solve(&r->plan, &r->guests, &demand, &options);
  moerun__ledger_add(&r->ledger, &r->plan, &demand, r->told[0], &sums, &bytes);
}

/* The line of the table, with single spaces. */
static void assert_line(const rig *r, const char *want) {
  const moerun__report report = {
      .num_ranks = R, .ways = &moerun__ways_known, .ledger = &r->ledger};
  char text[4096];
  char line[4096] = "";
  FILE *stream = tmpfile();
  assert_non_null(stream);
  moerun__balance_print(stream, &report);
  rewind(stream);
  text[fread(text, 1, sizeof text - 1, stream)] = '\0';
  (void)fclose(stream);
  const char *from = strstr(text, "uneven");
  if (want == NULL) {
    assert_null(from);
    return;
  }
  assert_non_null(from);
  const char *end = strstr(from, "idle");
  size_t length = 0;
  for (; from < end; from++) {
    const int is_space = *from == ' ' || *from == '\n';
    if (is_space && length > 0 && line[length - 1] == ' ') continue;
    line[length] = *from;
    if (is_space) line[length] = ' ';
    length++;
  }
  while (length > 0 && line[length - 1] == ' ') {
    length--;
  }
  line[length] = '\0';
  assert_string_equal(line, want);
}

/* The sums over all layers come first. */
static void assert_json(const rig *r, const char *want) {
  double speed[R] = {1, 1};
  const moerun__report report = {.num_ranks = R,
                                 .speed = speed,
                                 .ways = &moerun__ways_known,
                                 .ledger = &r->ledger};
  moerun__text out = {0};
  assert_int_equal(moerun__balance_json(&out, &report), MOERUN_OK);
  const char *from = strstr(out.bytes, "\"uneven\"");
  assert_non_null(from);
  assert_memory_equal(from, want, strlen(want));
  moerun__text_clear(&out);
}

/* 1000 and 200 rows: with 600 each the last rank would end 400 rows sooner, but
 * the weights take 2000 rows. When two plans have ended so the third reckons
 * with a third of that and sends them; the fourth finds them there. */
static void weights_that_are_too_dear(void **state) {
  (void)state;
  rig r;
  set_up(&r, 2);
  for (int plan = 0; plan < 4; plan++) {
    add(&r, 0, 1000, 200, 0);
    assert_int_equal(r.plan.num_sends, plan == 2);
  }
  assert_line(&r, "uneven 2 of 4 layers; in 2 no weights were sent, "
                  "waiting takes 4 ms, weights would take 20 ms");
  assert_json(&r, "\"uneven\": {\"plans\": 2, \"no_room\": 0, \"waiting_ms\": "
                  "8, \"no_room_ms\": 0, \"weights_ms\": 40}");
  moerun__free(r.block);
}

/* 100 rows each, of which rank 1 takes 400 of the other's time: all could end
 * after 160. */
static void a_slow_rank_is_waited_for(void **state) {
  (void)state;
  rig r;
  set_up(&r, 2);
  add(&r, 0, 100, 100, 2 * MOERUN_SPEED_OCTAVE);
  assert_line(&r, "uneven 1 of 1 layers; in 1 no weights were sent, "
                  "waiting takes 2.4 ms, weights would take 20 ms");
  moerun__free(r.block);
}

static void memory_that_is_lacking(void **state) {
  (void)state;
  rig r;
  set_up(&r, 0);
  add(&r, 0, 1000, 200, 0);
  assert_line(&r, "uneven 1 of 1 layers; in 1 there was no room for guests "
                  "(--guest-memory), waiting takes 4 ms");
  assert_json(&r, "\"uneven\": {\"plans\": 1, \"no_room\": 1, \"waiting_ms\": "
                  "4, \"no_room_ms\": 4, \"weights_ms\": 0}");
  moerun__free(r.block);
}

/* Each kind has its own means: one does not water down the other. */
static void both_kinds_together(void **state) {
  (void)state;
  rig r;
  set_up(&r, 2);
  add(&r, 0, 1000, 200, 0);
  moerun__guest_table_shrink(&r.guests, 0);
  add(&r, 1, 300, 100, 0);
  assert_line(&r, "uneven 2 of 2 layers; in 1 no weights were sent, "
                  "waiting takes 4 ms, weights would take 20 ms; in 1 there "
                  "was no room for guests "
                  "(--guest-memory), waiting takes 1 ms");
  moerun__free(r.block);
}

static void even_layers_say_nothing(void **state) {
  (void)state;
  rig r;
  set_up(&r, 2);
  add(&r, 0, 100, 100, 0);
  assert_line(&r, NULL);
  moerun__free(r.block);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(weights_that_are_too_dear),
      cmocka_unit_test(a_slow_rank_is_waited_for),
      cmocka_unit_test(memory_that_is_lacking),
      cmocka_unit_test(both_kinds_together),
      cmocka_unit_test(even_layers_say_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
