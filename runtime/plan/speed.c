/* Readings beyond the dead band are what counts. Two slower ones in a row are
 * no accident; the first two of all count only where they say less than half
 * the speed, because the first steps are slow everywhere. Sixteen faster ones
 * of twenty are no pause of whatever slowed the rank, though others may come
 * between. Their mean is then applied, so nothing lags behind as a running
 * average would. */
#include "runtime/plan/speed.h"

#include "runtime/plan/plan.h"

#include <math.h>

/* What takes less is measured too badly. */
#define LEAST_SECONDS 1e-3

/* A tenth, as a logarithm to base 2. */
static const double dead_band = 0.1375;

/* Half the speed. */
static const double plain = -1;

void moerun__speed_expect(moerun__speed *speed, double one_row, double many,
                          int32_t rows) {
  const double slope = rows > 1 ? (many - one_row) / (rows - 1) : 0;
  *speed = (moerun__speed){.last = 1};
  speed->row_seconds = slope > 0 ? slope : many / rows;
  speed->call_seconds =
      one_row > speed->row_seconds ? one_row - speed->row_seconds : 0;
}

double moerun__speed_expected(const moerun__speed *speed, int32_t experts,
                              int64_t rows) {
  return experts * speed->call_seconds + (double)rows * speed->row_seconds;
}

void moerun__speed_add(moerun__speed *speed, int32_t experts, int64_t rows,
                       double fraction, double seconds) {
  speed->expected += fraction * moerun__speed_expected(speed, experts, rows);
  speed->rows += rows;
  speed->seconds += seconds;
}

static void apply(moerun__speed *speed, double logarithm) {
  const int32_t steps = (int32_t)lround(logarithm * MOERUN_SPEED_OCTAVE);
  speed->changes += steps != speed->applied;
  speed->applied = steps;
  speed->slow = 0;
  speed->sum = 0;
  speed->count = 0;
}

/* By how much a logarithm is above what is applied. */
static double over_applied(const moerun__speed *speed, double logarithm) {
  return logarithm - (double)speed->applied / MOERUN_SPEED_OCTAVE;
}

/* Applies the mean of the recent readings that say faster, if they are
 * enough. */
static void recover(moerun__speed *speed) {
  int32_t fast = 0;
  double sum = 0;
  for (int64_t i = 0; i < speed->count && i < MOERUN_SPEED_WINDOW; i++) {
    if (over_applied(speed, speed->recent[i]) <= dead_band) continue;
    fast++;
    sum += speed->recent[i];
  }
  if (fast >= MOERUN_SPEED_FAST) apply(speed, sum / fast);
}

/* A rank that counts as slow has its speed mended within the dead band once
 * there are enough readings: a mean of two is off by more than of eight. */
static void mend(moerun__speed *speed) {
  double sum = 0;
  if (speed->applied >= -MOERUN_SPEED_NOISE ||
      speed->count != MOERUN_SPEED_MENDING) {
    return;
  }
  for (int i = 0; i < MOERUN_SPEED_MENDING; i++) {
    if (fabs(over_applied(speed, speed->recent[i])) > dead_band) return;
    sum += speed->recent[i];
  }
  const double mean = sum / MOERUN_SPEED_MENDING;
  if (fabs(over_applied(speed, mean)) * MOERUN_SPEED_OCTAVE > 0.75) {
    apply(speed, mean);
  }
}

static void read_speed(moerun__speed *speed, double ratio) {
  const double most = MOERUN_SLOWEST / (double)MOERUN_SPEED_OCTAVE;
  const double logarithm = fmin(fmax(log2(ratio), -most), most);
  const int is_early = speed->readings <= MOERUN_SPEED_SKIPPED;
  const int is_slow = over_applied(speed, logarithm) < -dead_band;
  if (is_early && logarithm >= plain) {
    speed->slow = 0;
    speed->sum = 0;
    return;
  }
  speed->recent[speed->count++ % MOERUN_SPEED_WINDOW] = logarithm;
  speed->slow = is_slow ? speed->slow + 1 : 0;
  speed->sum = is_slow ? speed->sum + logarithm : 0;
  if (speed->slow >= MOERUN_SPEED_SLOW_RUN) {
    apply(speed, is_early ? logarithm : speed->sum / speed->slow);
  } else {
    recover(speed);
    mend(speed);
  }
}

int moerun__speed_starves(const moerun__speed *speed) {
  return speed->applied < 0 && speed->steps >= MOERUN_SPEED_STARVED;
}

void moerun__speed_step(moerun__speed *speed) {
  speed->steps++;
  if (speed->rows < MOERUN_SPEED_LEAST_ROWS ||
      speed->expected < LEAST_SECONDS || !(speed->seconds > 0)) {
    return;
  }
  speed->last = speed->expected / speed->seconds;
  speed->readings++;
  read_speed(speed, speed->last);
  speed->steps = 0;
  speed->expected = 0;
  speed->rows = 0;
  speed->seconds = 0;
}
