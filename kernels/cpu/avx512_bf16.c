/* The avx512_bf16 set: avx512 with the instruction that multiplies and adds
 * pairs of BF16, for linear where it rounds. */
#define SET_AVX512
#define SET_BF16_PAIRS
#define SET_NAME  "avx512_bf16"
#define SET_TABLE moerun__kernels_avx512_bf16
#include "kernels/cpu/set.h"
