/* Lays many arrays out in one block. The same function runs twice: with base
 * NULL it only counts, so the bytes are known before anything is allocated;
 * with the block it hands the arrays out. */
#ifndef MOERUN_BASE_ARENA_H
#define MOERUN_BASE_ARENA_H

#include "runtime/base/memory.h"

typedef struct moerun__arena {
  char *base;
  size_t used;
} moerun__arena;

static inline void *moerun__arena_take(moerun__arena *arena, size_t count,
                                       size_t size) {
  void *taken = arena->base != NULL ? arena->base + arena->used : NULL;
  arena->used +=
      (count * size + MOERUN_ALIGNMENT - 1) & ~(size_t)(MOERUN_ALIGNMENT - 1);
  return taken;
}

/* The memory of an object by who uses it. */
typedef struct moerun__arenas {
  moerun__arena host;    /* the host, and kernels where the host looks after */
  moerun__arena traffic; /* both, and messages */
  moerun__arena rows;    /* kernels and messages: the host looks there only if
                            the session's rows lie in its memory            */
  moerun__arena device;  /* kernels alone: the host cannot look there */
} moerun__arenas;

#endif
