/* The portable set: C11 and fmaf. Slow where the processor has no fused
 * multiply-add instruction that the compiler may use, but never different. */
#define SET_NAME  "portable"
#define SET_TABLE moerun__kernels_portable
#include "kernels/cpu/set.h"
