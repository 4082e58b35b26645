/* The sets behind moerun__kernels_find; one table symbol per source file. */
#ifndef MOERUN_KERNELS_SETS_H
#define MOERUN_KERNELS_SETS_H

#include "kernels/kernels.h"

extern const moerun__kernels moerun__kernels_ref;
extern const moerun__kernels moerun__kernels_portable;
#ifdef MOERUN_KERNELS_X86
extern const moerun__kernels moerun__kernels_avx2;
extern const moerun__kernels moerun__kernels_avx512;
extern const moerun__kernels moerun__kernels_avx512_bf16;
#endif

#endif
