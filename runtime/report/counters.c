/* How the time of a step is told apart into stages. */
#include "runtime/report/counters.h"

#include "runtime/base/timer.h"

const char *moerun__stage_name(moerun__stage stage) {
  static const char *const names[] = {
#define STAGE_NAME(name, text) text,
      MOERUN_STAGE_MAP(STAGE_NAME)
#undef STAGE_NAME
  };
  return names[stage];
}

void moerun__stage_begin(moerun__stats *stats) {
  stats->mark = moerun__now();
}

void moerun__stage_end(moerun__stats *stats, moerun__stage stage) {
  const double now = moerun__now();
  stats->seconds[stage] += now - stats->mark;
  stats->mark = now;
}

const char *moerun__layer_time_name(int32_t time) {
  if (time == MOERUN_LAYER_WAITS) return "waits";
  if (time == MOERUN_LAYER_WHOLE) return "layer";
  return moerun__stage_name((moerun__stage)(MOERUN_FIRST_LAYER_STAGE + time));
}

static int is_wait(int32_t stage) {
  return stage == MOERUN_STAGE_COUNT_WAIT || stage == MOERUN_STAGE_ROWS_WAIT ||
         stage == MOERUN_STAGE_WEIGHTS_WAIT ||
         stage == MOERUN_STAGE_RESULTS_WAIT;
}

void moerun__layer_end(moerun__stats *stats) {
  double waits = 0;
  double whole = 0;
  for (int32_t i = 0; i < MOERUN_NUM_LAYER_STAGES; i++) {
    const int32_t stage = MOERUN_FIRST_LAYER_STAGE + i;
    const double seconds = stats->seconds[stage] - stats->layer_began[i];
    stats->layer_began[i] = stats->seconds[stage];
    whole += seconds;
    if (is_wait(stage)) waits += seconds;
    moerun__histogram_add(&stats->layer_time[i], seconds);
  }
  moerun__histogram_add(&stats->layer_time[MOERUN_LAYER_WAITS], waits);
  moerun__histogram_add(&stats->layer_time[MOERUN_LAYER_WHOLE], whole);
}

/* steps counts the one under way: the first is looked at. */
static int sees_cpu(const moerun__stats *stats) {
  return stats->steps % MOERUN_CPU_EVERY == 1;
}

void moerun__cpu_begin(moerun__stats *stats) {
  if (!sees_cpu(stats)) return;
  stats->cpu_wall_mark = stats->seconds[MOERUN_STAGE_EXPERTS];
  stats->cpu_mark = moerun__thread_seconds();
}

void moerun__cpu_end(moerun__stats *stats) {
  if (!sees_cpu(stats)) return;
  stats->cpu_seconds += moerun__thread_seconds() - stats->cpu_mark;
  stats->cpu_wall +=
      stats->seconds[MOERUN_STAGE_EXPERTS] - stats->cpu_wall_mark;
}
