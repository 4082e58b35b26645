/* Double-precision functions made of IEEE basic operations only (+ - * /, no
 * fused multiply-add, no C library beyond floor), so that every machine,
 * compiler and C library returns the same bits. For what must agree between
 * ranks and files but is not worth a vector kernel: rotary tables, sampling,
 * log-probabilities, synthetic weights. */
#ifndef MOERUN_BASE_EXACT_MATH_H
#define MOERUN_BASE_EXACT_MATH_H

/* Natural logarithm, relative error <= 1e-15. 0: -infinity; x < 0: NaN. */
double moerun__exact_log(double x);

/* e^x, relative error <= 1e-15 (subnormal results: half their spacing more);
 * infinity above 709.79, 0 below -745.2. */
double moerun__exact_exp(double x);

/* Sine and cosine of an angle from 0 to 2e6, absolute error <= 1e-15 times
 * (1 + angle * 1e-6). */
void moerun__exact_sincos(double angle, double *sine, double *cosine);

/* base^y for a finite base > 0, relative error <=
 * 1e-15 * (1 + |y log base|). */
double moerun__exact_pow(double base, double y);

#endif
