/* Which rank requests that begin alike were dealt to: what they have in common
 * is in that rank's cache. A hint and no more: it may be gone from there. */
#ifndef MOERUN_SERVE_ALIKE_H
#define MOERUN_SERVE_ALIKE_H

#include "runtime/base/arena.h"
#include "runtime/serve/engine.h"

typedef struct moerun__alike_place {
  uint64_t prefix; /* a number for whole pages of tokens; 0: none */
  int32_t rank;    /* that the last request with these was dealt to */
} moerun__alike_place;

typedef struct moerun__alike {
  moerun__alike_place *place;
} moerun__alike;

/* Counts, or hands out. */
void moerun__alike_lay_out(moerun__alike *out, moerun__arena *arena);
/* Nothing was dealt. */
void moerun__alike_clear(moerun__alike *alike);
/* The rank that was dealt a request which has at least half of this one's
 * prompt in common with it, or -1. */
int32_t moerun__alike_rank(const moerun__alike *alike,
                           const moerun__request *request);
void moerun__alike_dealt(moerun__alike *alike, const moerun__request *request,
                         int32_t rank);

#endif
