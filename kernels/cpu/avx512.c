/* The avx512 set: compiled for AVX-512 F, BW, VL and DQ, so nothing here may be
 * called before table.c has asked the processor. */
#define SET_AVX512
#define SET_NAME  "avx512"
#define SET_TABLE moerun__kernels_avx512
#include "kernels/cpu/set.h"
