/* A line is short beside what a request has in the cache of its rank, and only
 * lines of which a request runs or is next wait: so memory is no concern. */
#include "launch/results/result_group.h"

#include "runtime/base/memory.h"

#include <string.h>

typedef struct group {
  int32_t parts;
  int32_t count;            /* that have come */
  moerun__completion all[]; /* [parts]; index -1: it has not come */
} group;

struct moerun__result_groups {
  const moerun__prompts *prompts; /* borrowed */
  group **of;                     /* [requests] under the first one of a line;
                                     NULL: none of it waits */
};

moerun_status moerun__result_groups_create(moerun__result_groups **out,
                                           const moerun__prompts *prompts) {
  moerun_status status = MOERUN_OK;
  moerun__result_groups *groups = NULL;
  *out = NULL;
  if (!moerun__prompts_are_batch(prompts)) goto done;
  MOERUN_TRY(moerun__alloc(&groups, 1, sizeof *groups));
  groups->prompts = prompts;
  MOERUN_TRY(moerun__alloc(&groups->of, (size_t)moerun__prompts_count(prompts),
                           sizeof(group *)));
  *out = groups;
  groups = NULL;
done:
  moerun__result_groups_destroy(groups);
  return status;
}

/* The copies of a completion. */
static void clear(moerun__completion *c) {
  void *token = NULL; /* made here, where they were not const */
  void *logprob = NULL;
  memcpy(&token, &c->token, sizeof token);
  memcpy(&logprob, &c->logprob, sizeof logprob);
  moerun__free(token);
  moerun__free(logprob);
  *c = (moerun__completion){.index = -1};
}

void moerun__result_groups_drop(moerun__result_groups *groups, int64_t index) {
  group *g = groups != NULL ? groups->of[index] : NULL;
  if (g == NULL) return;
  for (int32_t i = 0; i < g->parts; i++) {
    clear(&g->all[i]);
  }
  moerun__free(g);
  groups->of[index] = NULL;
}

void moerun__result_groups_destroy(moerun__result_groups *groups) {
  if (groups == NULL) return;
  const int64_t count = moerun__prompts_count(groups->prompts);
  for (int64_t i = 0; groups->of != NULL && i < count; i++) {
    moerun__result_groups_drop(groups, i);
  }
  moerun__free(groups->of);
  moerun__free(groups);
}

/* The group of a line, new if it has none. */
static moerun_status find_group(group **out, moerun__result_groups *groups,
                                int64_t first, int32_t parts) {
  moerun_status status = MOERUN_OK;
  group *g = groups->of[first];
  *out = g;
  if (g != NULL) goto done;
  MOERUN_TRY(moerun__alloc(&g, sizeof *g + (size_t)parts * sizeof *g->all, 1));
  g->parts = parts;
  for (int32_t i = 0; i < parts; i++) {
    g->all[i].index = -1;
  }
  groups->of[first] = g;
  *out = g;
done:
  return status;
}

static moerun_status copy(moerun__completion *out,
                          const moerun__completion *from) {
  moerun_status status = MOERUN_OK;
  int32_t *token = NULL;
  moerun__logprob *logprob = NULL;
  const size_t count = (size_t)from->num_tokens;
  const size_t numbers =
      (size_t)(from->num_prompt_logprobs + from->num_logprobs) *
      (size_t)from->logprobs_width;
  MOERUN_TRY(moerun__alloc(&token, count, sizeof *token));
  MOERUN_TRY(moerun__alloc(&logprob, numbers, sizeof *logprob));
  if (count > 0) memcpy(token, from->token, count * sizeof *token);
  if (numbers > 0) memcpy(logprob, from->logprob, numbers * sizeof *logprob);
  *out = *from;
  out->token = token;
  out->logprob = logprob;
  out->num_traced = 0;
  out->trace = NULL;
  token = NULL;
  logprob = NULL;
done:
  moerun__free(token);
  moerun__free(logprob);
  return status;
}

moerun_status moerun__result_groups_put(const moerun__completion **all,
                                        moerun__result_groups *groups,
                                        const moerun__completion *completion) {
  moerun_status status = MOERUN_OK;
  group *g = NULL;
  const int64_t index = completion->index;
  *all = completion;
  if (groups == NULL) goto done;
  const moerun__prompt_place place =
      moerun__prompts_place(groups->prompts, index);
  if (place.parts == 1) goto done;
  *all = NULL;
  MOERUN_TRY(find_group(&g, groups, index - place.part, place.parts));
  MOERUN_TRY(copy(&g->all[place.part], completion));
  g->count++;
  if (g->count == g->parts) *all = g->all;
done:
  return status;
}

int moerun__result_groups_has(const moerun__result_groups *groups,
                              int64_t index) {
  if (groups == NULL) return 0;
  const moerun__prompt_place place =
      moerun__prompts_place(groups->prompts, index);
  const group *g = groups->of[index - place.part];
  return g != NULL && g->all[place.part].index == index;
}
