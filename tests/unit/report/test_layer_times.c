/* The times of layers and of the processor, by numbers made by hand. */
#include "runtime/report/counters.h"
#include "support/cmocka.h"

#include <math.h>
#include <string.h>

/* Seconds of a stage in layer 0 and 1: all differ, and each sum of some. */
static double seconds_of(int32_t layer, int32_t stage) {
  return (layer + 1) * exp2(stage - MOERUN_FIRST_LAYER_STAGE);
}

static int is_one_of(int32_t stage, const char *const *names, size_t count) {
  for (size_t i = 0; i < count; i++) {
    if (strcmp(moerun__stage_name((moerun__stage)stage), names[i]) == 0) {
      return 1;
    }
  }
  return 0;
}

/* One layer's seconds go to the stages, then to its end. */
static void end_layer(moerun__stats *stats, int32_t layer) {
  for (int32_t i = 0; i < MOERUN_NUM_LAYER_STAGES; i++) {
    const int32_t stage = MOERUN_FIRST_LAYER_STAGE + i;
    stats->seconds[stage] += seconds_of(layer, stage);
  }
  stats->seconds[MOERUN_STAGE_ATTENTION] += 1000; /* of no MoE layer */
  moerun__layer_end(stats);
}

/* Each layer's time is its own, not that of those before it as well. */
static void layers_are_told_apart(void **state) {
  (void)state;
  static const char *const waits[] = {"count_wait", "rows_wait", "weights_wait",
                                      "results_wait"};
  moerun__stats stats = {0};
  double wait = 0;
  double whole = 0;
  for (int32_t i = 0; i < MOERUN_NUM_LAYER_STAGES; i++) {
    const int32_t stage = MOERUN_FIRST_LAYER_STAGE + i;
    const double seconds = seconds_of(1, stage);
    whole += seconds;
    if (is_one_of(stage, waits, 4)) wait += seconds;
  }
  end_layer(&stats, 0);
  const moerun__histogram *time = stats.layer_time;
  assert_true(time[MOERUN_LAYER_WAITS].longest == wait / 2);
  assert_true(time[MOERUN_LAYER_WHOLE].longest == whole / 2);
  end_layer(&stats, 1);
  assert_true(time[MOERUN_LAYER_WAITS].longest == wait);
  assert_true(time[MOERUN_LAYER_WHOLE].longest == whole);
  for (int32_t i = 0; i < MOERUN_NUM_LAYER_TIMES; i++) {
    assert_int_equal(moerun__histogram_total(&time[i]), 2);
    if (i >= MOERUN_NUM_LAYER_STAGES) continue;
    assert_true(time[i].longest == seconds_of(1, MOERUN_FIRST_LAYER_STAGE + i));
  }
}

/* The processor's time is read in the first step and every so many after it. */
static void few_steps_look_at_the_processor(void **state) {
  (void)state;
  moerun__stats stats = {0};
  double looked = 0;
  for (int32_t i = 0; i < 3 * MOERUN_CPU_EVERY; i++) {
    stats.steps++;
    stats.seconds[MOERUN_STAGE_EXPERTS] += 1; /* between the looks */
    moerun__cpu_begin(&stats);
    stats.seconds[MOERUN_STAGE_EXPERTS] += 2;
    moerun__cpu_end(&stats);
    looked += i % MOERUN_CPU_EVERY == 0 ? 2 : 0;
    assert_true(stats.cpu_wall == looked);
  }
  assert_true(stats.cpu_seconds >= 0 && stats.cpu_seconds < 60);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(layers_are_told_apart),
      cmocka_unit_test(few_steps_look_at_the_processor),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
