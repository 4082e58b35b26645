/* What the metrics and the table say of balancing and of lossy routing, of a
 * ledger made by hand in which no two numbers are alike. */
#include "launch/run/balance_table.h"
#include "runtime/base/json.h"
#include "support/json_number.h"
#include "support/scratch.h"

#include <math.h>

enum { R = 4, E = 8, LAYERS = 2, MORE = 3 };

static moerun__ledger_entry layers[LAYERS] = {
    {.plans = 60,
     .moved = 11,
     .way = {{46, 0}, {5, 5 << 20}, {9, 77}},
     .rows = 4000,
     .peak_expert = 1500,
     .empty = 7,
     .peak_routed = 2500,
     .peak_planned = 1100,
     .deviation_routed = 300,
     .deviation_planned = 40,
     .rows_told = 4000,
     .peak_told = 1200,
     .unplanned = 9,
     .time_routed = 150000,
     .time_planned = 66000,
     .rows_moved = 700,
     .weights_sent = 12,
     .weight_bytes = 3 << 20,
     .uneven = 4,
     .no_room = 1,
     .waiting_rows = 80,
     .room_rows = 20,
     .price_rows = 240,
     .kind_changes = 8,
     .speed_changes = 2,
     .offered = 1000,
     .dropped = 30,
     .mass = 512 * MOERUN_MASS_ONE,
     .mass_dropped = 16 * MOERUN_MASS_ONE,
     .busy_most_us = 2000000,
     .busy_sum_us = 6000000},
    {.plans = 20,
     .rows = 1000,
     .peak_expert = 200,
     .peak_routed = 300,
     .peak_planned = 300,
     .rows_told = 1000,
     .peak_told = 300,
     .time_routed = 24000,
     .time_planned = 22000,
     .busy_most_us = 500000,
     .busy_sum_us = 1000000,
     .last = 3},
};
static moerun__ledger_entry steps[MOERUN_LEDGER_STEPS];
static moerun__speed_change changes[MOERUN_LEDGER_CHANGES];
static int64_t last_count[R] = {5, 10, 60, 25};
static moerun__histogram duration[R];
static double speed[R] = {1, 0.5, 2, 1.5};
static moerun__ledger ledger = {.num_layers = LAYERS,
                                .num_ranks = R,
                                .num_experts = E,
                                .row_seconds = 1e-4,
                                .num_steps = MOERUN_LEDGER_STEPS + MORE,
                                .steps = steps,
                                .layers = layers,
                                .last_count = last_count,
                                .duration = duration,
                                .num_changes = MOERUN_LEDGER_CHANGES + MORE,
                                .changes = changes};
static moerun__gate_counts of_layer[LAYERS] = {{.capacity = {.tokens = 1}},
                                               {.capacity = {.tokens = 2}}};
/* The third has bytes that nobody foretells. */
static const moerun__way made = {.name = "made", .did = "ranks made it up"};
static const moerun__way_table ways = {
    .way = {&moerun__way_whole, &moerun__way_sliced, &made}, .count = 3};
static moerun__report report = {.num_ranks = R,
                                .num_moe_layers = LAYERS,
                                .num_experts = E,
                                .rows_moved = 701,
                                .weights_sent = 13,
                                .weight_bytes = 14,
                                .way_bytes = {16, 15, 17},
                                .ways = &ways,
                                .speed = speed,
                                .gate = {.capacity = {.tokens = 400,
                                                      .candidates = 800,
                                                      .dropped = 20,
                                                      .offered = 790,
                                                      .added = 6,
                                                      .lost_all = 5,
                                                      .over = 4,
                                                      .not_numbers = 3,
                                                      .mass = 320,
                                                      .mass_dropped = 4,
                                                      .mass_added = 1.5},
                                         .width = {.terms = 1600,
                                                   .removed = 200,
                                                   .mass = 500,
                                                   .mass_lost = 10}},
                                .gate_of_layer = of_layer,
                                .is_lossy = 1,
                                .ledger = &ledger};

static int set_up(void **state) {
  (void)state;
  for (int64_t s = 0; s < ledger.num_steps; s++) {
    steps[s % MOERUN_LEDGER_STEPS] =
        (moerun__ledger_entry){.plans = s + 100, .last = (int32_t)(s % R)};
  }
  for (int64_t c = 0; c < ledger.num_changes; c++) {
    changes[c % MOERUN_LEDGER_CHANGES] =
        (moerun__speed_change){c + 7, (int32_t)(c % R), (int32_t)-c};
  }
  for (int i = 1; i <= 100; i++) { /* two of a hundred are long */
    moerun__histogram_add(&duration[1], i <= 98 ? 3e-9 : 1);
  }
  return 0;
}

typedef struct wanted {
  const char *path;
  double value;
} wanted;

/* Sums of both layers, maxima and means of R ranks or E experts. */
static const wanted totals[] = {
    {"plans", 80},
    {"moved", 11},
    {"sliced", 5},
    {"made", 9},
    {"rows", 5000},
    {"rows_computed", 5000},
    {"unplanned_rows", 9},
    {"expert_max_over_mean", 1700.0 * E / 5000},
    {"empty_experts", 7},
    {"rank_max_over_mean.routed", 2800.0 * R / 5000},
    {"rank_max_over_mean.planned", 1400.0 * R / 5000},
    {"rank_max_over_mean.computed", 1500.0 * R / 5000},
    {"rank_deviation_over_mean.routed", 300.0 * R / 5000},
    {"rank_deviation_over_mean.planned", 40.0 * R / 5000},
    {"time_over_best.routed", 2.175},
    {"time_over_best.planned", 1.1},
    {"busy_seconds.max", 2.5},
    {"busy_seconds.mean", 1.75},
    {"idle", 0.3},
    {"rows_moved", 700},
    {"weights_sent", 12},
    {"weight_bytes", 3 << 20},
    {"slice_bytes", 5 << 20},
    {"plan_changes", 8},
    {"speed_changes", 2},
    {"uneven.plans", 4},
    {"uneven.no_room", 1},
    {"uneven.waiting_ms", 8},
    {"uneven.no_room_ms", 2},
    {"uneven.weights_ms", 24},
    {"assignments", 1000},
    {"dropped", 30},
    {"mass", 512},
    {"mass_dropped", 16},
    {"said_by_ranks.rows_moved", 701},
    {"said_by_ranks.weights_sent", 13},
    {"said_by_ranks.weight_bytes", 14},
    {"said_by_ranks.slice_bytes", 15},
    {"ranks.1.speed", 0.5},
    {"ranks.2.layers_last", 60},
    {"ranks.1.busy_seconds_p50", 3e-9},
    {"ranks.1.busy_seconds_p99", 1},
    {"layers.0.rows_moved", 700},
    {"layers.1.plans", 20},
    {"layers.1.idle", 0.5},
    {"steps.0.step", MORE},
    {"steps.0.plans", 100 + MORE},
    {"steps.0.last", MORE % R},
    {"steps.1.plans", 101 + MORE},
    {"speeds.0.step", 7 + MORE},
    {"speeds.0.rank", MORE % R},
    {"speeds.1.step", 8 + MORE},
};

static json_t *parse(moerun_status (*print)(moerun__text *out,
                                            const moerun__report *report)) {
  moerun__text text = {0};
  json_t *root = NULL;
  assert_int_equal(moerun__text_print(&text, "{\"first\": 0"), MOERUN_OK);
  assert_int_equal(print(&text, &report), MOERUN_OK);
  assert_int_equal(moerun__text_print(&text, "}"), MOERUN_OK);
  assert_int_equal(moerun__json_parse(&root, text.bytes, text.count, "t"),
                   MOERUN_OK);
  moerun__text_clear(&text);
  return root;
}

static void expect(const json_t *root, const wanted *of, size_t count) {
  for (size_t i = 0; i < count; i++) {
    const double found = number_at(root, of[i].path);
    if (!(fabs(found - of[i].value) <= 1e-5 * fabs(of[i].value))) {
      fail_msg("%s: expected %g, found %g", of[i].path, of[i].value, found);
    }
  }
}

static void metrics_have_all_numbers(void **state) {
  (void)state;
  json_t *root = parse(moerun__balance_json);
  const json_t *balance = json_object_get(root, "balance");
  expect(balance, totals, sizeof totals / sizeof *totals);
  assert_int_equal(json_array_size(json_object_get(balance, "steps")),
                   MOERUN_LEDGER_STEPS);
  const json_t *speeds = json_object_get(balance, "speeds");
  assert_int_equal(json_array_size(speeds), MOERUN_LEDGER_CHANGES);
  const double slower =
      json_number_value(json_object_get(json_array_get(speeds, 16), "speed"));
  assert_true(fabs(slower / exp2(-(16 + MORE) / 16.0) - 1) < 1e-3);
  json_decref(root);
  report.is_lossy = 0;
  root = parse(moerun__balance_json);
  assert_null(json_object_get(json_object_get(root, "balance"), "assignments"));
  json_decref(root);
  report.is_lossy = 1;
}

static const wanted lossy[] = {
    {"capacity.tokens", 400},       {"capacity.assignments", 800},
    {"capacity.dropped", 20},       {"capacity.offered", 790},
    {"capacity.added", 6},          {"capacity.lost_all", 5},
    {"capacity.over", 4},           {"capacity.not_numbers", 3},
    {"capacity.mass", 320},         {"capacity.mass_dropped", 4},
    {"capacity.mass_added", 1.5},   {"width.assignments", 1600},
    {"width.removed", 200},         {"width.mass", 500},
    {"width.mass_lost", 10},        {"layers.0.capacity.tokens", 1},
    {"layers.1.capacity.tokens", 2}};

static void metrics_have_what_was_lost(void **state) {
  (void)state;
  json_t *root = parse(moerun__lossy_json);
  expect(json_object_get(root, "lossy"), lossy, sizeof lossy / sizeof *lossy);
  json_decref(root);
}

static void expect_table(void (*print)(FILE *stream,
                                       const moerun__report *report),
                         const char *wanted_text) {
  char text[4096] = "";
  FILE *stream = tmpfile();
  assert_non_null(stream);
  print(stream, &report);
  rewind(stream);
  assert_true(fread(text, 1, sizeof text - 1, stream) > 0);
  (void)fclose(stream);
  assert_string_equal(text, wanted_text);
}

static void the_table_says_the_same(void **state) {
  (void)state;
  static const char balance[] =
      "balance          max/mean 2.24 as routed, 1.12 as run; 700 rows and 12 "
      "experts\n"
      "                 (3.00 MiB) moved in 11 of 80 layers\n"
      "sliced           all ranks computed a part of each expert in 5 of 80 "
      "layers;\n"
      "                 5.00 MiB sent for that\n"
      "made             ranks made it up in 9 of 80 layers\n"
      "uneven           4 of 80 layers; in 3 no weights were sent, waiting "
      "takes 2 ms,\n"
      "                 weights would take 8 ms; in 1 there was no room for "
      "guests\n"
      "                 (--guest-memory), waiting takes 2 ms\n"
      "idle             30.0 % of the expert stage; rank 2 was last in 60 % of "
      "layers;\n"
      "                 8 changes of plans, 2 of speed\n";
  static const char drops[] =
      "dropped          2.50 % of assignments, 1.25 % of gate weight; 6 added; "
      "5 tokens\n"
      "                 with no expert left\n"
      "left out         12.50 % of assignments, 2.00 % of gate weight, by "
      "tokens that\n"
      "                 need fewer experts\n";
  expect_table(moerun__balance_print, balance);
  expect_table(moerun__lossy_print, drops);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(metrics_have_all_numbers),
      cmocka_unit_test(metrics_have_what_was_lost),
      cmocka_unit_test(the_table_says_the_same),
  };
  return cmocka_run_group_tests(tests, set_up, NULL);
}
