/* A run of readings beyond the dead band, all on one side, is what counts: two
 * slower ones are no accident, and sixteen faster ones are no pause of whatever
 * slowed the rank. The mean of the run is then applied, so nothing lags behind
 * as a running average would. */
#include "runtime/balance/speed.h"

#include "runtime/balance/plan.h"

#include <math.h>

/* What takes less is measured too badly. */
#define LEAST_SECONDS 1e-3

/* A tenth, as a logarithm to base 2. */
static const double dead_band = 0.1375;

void moerun__speed_expect(moerun__speed *speed, double one_row, double many,
                          int32_t rows) {
  const double slope = rows > 1 ? (many - one_row) / (rows - 1) : 0;
  *speed = (moerun__speed){.last = 1};
  speed->row_seconds = slope > 0 ? slope : many / rows;
  speed->call_seconds =
      one_row > speed->row_seconds ? one_row - speed->row_seconds : 0;
}

double moerun__speed_expected(const moerun__speed *speed, int64_t rows) {
  return speed->call_seconds + (double)rows * speed->row_seconds;
}

void moerun__speed_add(moerun__speed *speed, int64_t rows, double seconds) {
  speed->calls++;
  speed->rows += rows;
  speed->seconds += seconds;
}

static void apply(moerun__speed *speed, double logarithm) {
  const int32_t steps = (int32_t)lround(logarithm * MOERUN_SPEED_OCTAVE);
  speed->changes += steps != speed->applied;
  speed->applied = steps;
  speed->slow = 0;
  speed->fast = 0;
  speed->sum = 0;
}

static void read_speed(moerun__speed *speed, double ratio) {
  const double most = MOERUN_SLOWEST / (double)MOERUN_SPEED_OCTAVE;
  const double logarithm = fmin(fmax(log2(ratio), -most), most);
  const double over = logarithm - (double)speed->applied / MOERUN_SPEED_OCTAVE;
  const int is_slow = over < -dead_band;
  const int is_fast = over > dead_band;
  if ((!is_slow && speed->slow > 0) || (!is_fast && speed->fast > 0)) {
    speed->sum = 0; /* the run is over */
  }
  speed->slow = is_slow ? speed->slow + 1 : 0;
  speed->fast = is_fast ? speed->fast + 1 : 0;
  if (is_slow || is_fast) speed->sum += logarithm;
  if (speed->slow >= MOERUN_SPEED_SLOW_RUN) {
    apply(speed, speed->sum / speed->slow);
  } else if (speed->fast >= MOERUN_SPEED_FAST_RUN) {
    apply(speed, speed->sum / speed->fast);
  }
}

void moerun__speed_step(moerun__speed *speed) {
  const double expected = (double)speed->calls * speed->call_seconds +
                          (double)speed->rows * speed->row_seconds;
  if (speed->rows < MOERUN_SPEED_LEAST_ROWS || expected < LEAST_SECONDS ||
      !(speed->seconds > 0)) {
    return;
  }
  speed->last = expected / speed->seconds;
  speed->readings++;
  if (speed->readings > MOERUN_SPEED_SKIPPED) read_speed(speed, speed->last);
  speed->calls = 0;
  speed->rows = 0;
  speed->seconds = 0;
}
