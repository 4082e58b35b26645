/* How long a run will still take, from what is left to do and how fast each
 * kind of step is. Rank 0 only; no clock of its own. */
#ifndef MOERUN_RUN_ESTIMATE_H
#define MOERUN_RUN_ESTIMATE_H

#include "runtime/serve/engine.h"

/* What requests need that are left to run. */
typedef struct moerun__work {
  int64_t requests;
  int64_t prompt_tokens; /* of prompts, to be fed or taken from others */
  int64_t new_tokens;    /* to be generated, at most */
} moerun__work;

/* Recent steps of one kind: sums in which older steps count less. */
typedef struct moerun__recent {
  double seconds;
  double prompt_tokens;
  double new_tokens;
} moerun__recent;

typedef struct moerun__estimate {
  moerun__work all;       /* when the run began */
  int64_t ended_early;    /* requests that stopped before their last token */
  int64_t spared;         /* tokens that those did not generate */
  moerun__progress seen;  /* what was told last */
  moerun__recent prefill; /* steps that fed rows of prompts */
  moerun__recent decode;  /* the other steps */
  double end;             /* by the clock, smoothed; negative: not known */
  double told;            /* clock of the last step */
} moerun__estimate;

void moerun__estimate_begin(moerun__estimate *estimate,
                            const moerun__work *work);
/* A request has ended after `generated` of at most `most` tokens. One that is
 * broken says nothing of when others end. */
void moerun__estimate_ended(moerun__estimate *estimate, int32_t generated,
                            int32_t most, int is_broken);
/* After each step; now: by a clock. */
void moerun__estimate_step(moerun__estimate *estimate,
                           const moerun__progress *progress, double now);

/* Seconds left; negative: not known yet. */
double moerun__estimate_left(const moerun__estimate *estimate, double now);
/* Whether that is for requests which all generate as much as they may, because
 * none has ended early so far. */
int moerun__estimate_is_bound(const moerun__estimate *estimate);

#endif
