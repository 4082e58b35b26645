/* Each function reduces its argument exactly to a short interval round 0 and
 * sums a Taylor series there, long enough that the first term left out is
 * below half a unit in the last place. Coefficients are quotients of small
 * integers, so there is no table to trust. A constant that is multiplied by
 * the reduction's integer is split so that its leading parts have few enough
 * bits for exact products (Cody and Waite 1980). */
#include "runtime/base/exact_math.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

/* ln 2 = LN2_HIGH (32 bits) + LN2_LOW; 11 more bits keep n * LN2_HIGH exact. */
#define LN2_HIGH 0x1.62e42feep-1
#define LN2_LOW  0x1.a39ef35793c76p-33
#define LOG2_E   0x1.71547652b82fep+0

/* pi / 2 in parts of 29, 30 and 53 bits; 21 more keep n times the first two
 * exact. */
#define HALF_PI_1 0x1.921fb54p+0
#define HALF_PI_2 0x1.10b46118p-30
#define HALF_PI_3 0x1.313198a2e037p-61
#define TWO_BY_PI 0x1.45f306dc9c883p-1

/* 2^n for -1022 <= n <= 1023. */
static double power_of_two(int n) {
  const uint64_t bits = (uint64_t)(n + 1023) << 52;
  double value = 0;
  memcpy(&value, &bits, sizeof value);
  return value;
}

double moerun__exact_log(double x) {
  if (!(x > 0)) return x == 0 ? -HUGE_VAL : NAN;
  if (x > 1.7976931348623157e308) return x; /* infinity */
  int n = 0;
  if (x < 0x1p-1022) { /* subnormal */
    x *= 0x1p54;
    n = -54;
  }
  uint64_t bits = 0;
  memcpy(&bits, &x, sizeof bits);
  n += (int)(bits >> 52) - 1023;
  bits = (bits & 0xfffffffffffffU) | 0x3ff0000000000000U;
  double m = 0;
  memcpy(&m, &bits, sizeof m);
  if (m > 1.4142135623730951) {
    m *= 0.5;
    n++;
  }
  /* log m = 2 artanh(s); with f = m - 1: 2 s = f - s f, so that the rounding
   * of s only touches the small second term. */
  const double f = m - 1.0;
  const double s = f / (2.0 + f);
  const double z = s * s;
  double series = 0;
  for (int k = 12; k >= 1; k--) {
    series = z * (2.0 / (2 * k + 1) + series);
  }
  const double small = n * LN2_LOW - s * (f - series);
  return n * LN2_HIGH + (f + small);
}

double moerun__exact_exp(double x) {
  if (x != x) return x;
  if (x > 709.79) return HUGE_VAL;
  if (x < -745.2) return 0.0;
  const double n = floor(x * LOG2_E + 0.5);
  const double high = x - n * LN2_HIGH; /* exact */
  const double low = n * LN2_LOW;
  const double r = high - low;
  /* e^r - 1 - r = r^2 / 2 + ..., then the small terms before the large. */
  double series = 0;
  for (int k = 14; k >= 2; k--) {
    series = r / k * (1.0 + series);
  }
  const double value = 1.0 + (high + (r * series - low));
  const int half = (int)n / 2;
  return value * power_of_two(half) * power_of_two((int)n - half);
}

void moerun__exact_sincos(double angle, double *sine, double *cosine) {
  const double n = floor(angle * TWO_BY_PI + 0.5);
  const double r = ((angle - n * HALF_PI_1) - n * HALF_PI_2) - n * HALF_PI_3;
  const double z = r * r;
  double s = 0;
  double c = 0;
  for (int k = 9; k >= 1; k--) {
    s = -z / (2 * k * (2 * k + 1)) * (1.0 + s);
    c = -z / ((2 * k - 1) * 2 * k) * (1.0 + c);
  }
  s = r + r * s;
  c = 1.0 + c;
  const int quarter = (int)(n - 4.0 * floor(n * 0.25));
  *sine = (quarter & 1) != 0 ? c : s;
  *cosine = (quarter & 1) != 0 ? s : c;
  if (quarter >= 2) *sine = -*sine;
  if (quarter == 1 || quarter == 2) *cosine = -*cosine;
}

double moerun__exact_pow(double base, double y) {
  return moerun__exact_exp(y * moerun__exact_log(base));
}
