/* The avx2 set: compiled for AVX2, FMA and F16C, so nothing here may be
 * called before table.c has asked the processor. */
#define SET_AVX2
#define SET_NAME  "avx2"
#define SET_TABLE moerun__kernels_avx2
#include "kernels/cpu/set.h"
