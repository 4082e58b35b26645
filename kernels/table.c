/* Which sets this machine runs, slowest first, so that "auto" is the last. The
 * question is put to the processor and the operating system together (the
 * compiler's run-time support checks that the wide registers are saved). */
#include "kernels/sets.h"

#include <stdio.h>
#include <string.h>

#ifdef MOERUN_KERNELS_X86
#include <cpuid.h>

static int runs_avx2(void) {
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  /* F16C by hand: not every compiler's __builtin_cpu_supports knows it. */
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}

static int runs_avx512(void) {
  return runs_avx2() && __builtin_cpu_supports("avx512f") &&
         __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512dq");
}

static int runs_avx512_bf16(void) {
  return runs_avx512() && __builtin_cpu_supports("avx512bf16");
}
#endif

static int runs_anywhere(void) {
  return 1;
}

static const struct set {
  const moerun__kernels *kernels;
  int (*runs)(void);
} sets[] = {
    {&moerun__kernels_ref, runs_anywhere},
    {&moerun__kernels_portable, runs_anywhere},
#ifdef MOERUN_KERNELS_X86
    {&moerun__kernels_avx2, runs_avx2},
    {&moerun__kernels_avx512, runs_avx512},
    {&moerun__kernels_avx512_bf16, runs_avx512_bf16},
#endif
};

enum { NUM_SETS = sizeof sets / sizeof sets[0] };

const moerun__kernels *moerun__kernels_at(int i) {
  for (int s = 0; s < NUM_SETS && i >= 0; s++) {
    if (sets[s].runs() && i-- == 0) return sets[s].kernels;
  }
  return NULL;
}

moerun_status moerun__kernels_find(const moerun__kernels **out,
                                   const char *name) {
  moerun_status status = MOERUN_OK;
  const moerun__kernels *found = NULL;
  char names[128] = "auto";
  size_t length = strlen(names);
  *out = NULL;
  for (int i = 0; moerun__kernels_at(i) != NULL; i++) {
    const moerun__kernels *set = moerun__kernels_at(i);
    if (strcmp(name, set->name) == 0 || strcmp(name, "auto") == 0) found = set;
    const int wrote =
        snprintf(names + length, sizeof names - length, ", %s", set->name);
    length += wrote > 0 ? (size_t)wrote : 0;
  }
  MOERUN_REQUIRE(found != NULL, MOERUN_ERR_UNSUPPORTED,
                 "kernel set \"%s\": expected one that this machine runs: %s",
                 name, names);
  *out = found;
done:
  return status;
}
