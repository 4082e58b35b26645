/* Deciding beside the steps. What takes long in a look is the search for a
 * placement, and it needs nothing of the steps that come meanwhile: so it runs
 * in a thread of its own, layer by layer, while the rank goes on. The thread
 * never speaks to other ranks: that all of them have ended is asked by the
 * steps' own thread, after each step. */
#include "runtime/serve/replacer.h"

#include <stdio.h>
#include <string.h>

static void solve(moerun__replacer *r) {
  moerun__solver *s = &r->solver;
  const moerun_comm *comm = r->model->comm;
  for (int32_t l = 0; l < r->own_layers && s->status == MOERUN_OK; l++) {
    if (atomic_load(&s->stops)) break;
    s->status =
        moerun__replacer_decide(r, &s->count, l * comm->size + comm->rank);
  }
  if (s->status != MOERUN_OK) {
    (void)snprintf(s->error, sizeof s->error, "%s", moerun_last_error());
  }
  atomic_store(&s->ended, 1);
}

static int run_thread(void *replacer) {
  solve(replacer);
  return 0;
}

static void clear_part(const moerun__replacer *r) {
  for (int32_t l = 0; l < r->own_layers; l++) {
    int32_t *hosted =
        moerun__replacer_hosted(r, r->part, l * r->model->comm->size);
    memset(hosted, 0xff, (r->layer_ints - 1) * sizeof *hosted);
    hosted[-1] = 0;
  }
}

void moerun__replacer_start(moerun__replacer *r) {
  moerun__solver *s = &r->solver;
  memset(&s->count, 0, sizeof s->count);
  s->status = MOERUN_OK;
  atomic_store(&s->ended, 0);
  atomic_store(&s->stops, 0);
  clear_part(r);
  s->is_running = r->options.is_beside && r->decides && r->own_layers > 0 &&
                  thrd_create(&s->thread, run_thread, r) == thrd_success;
  if (!s->is_running) solve(r);
}

moerun_status moerun__replacer_ended(moerun__replacer *r, int *ended) {
  moerun_status status = MOERUN_OK;
  moerun_comm *comm = r->model->comm;
  int64_t all = atomic_load(&r->solver.ended);
  MOERUN_TRY(comm->ops->minimum(comm, &all));
  *ended = all == 1;
done:
  return status;
}

void moerun__replacer_join(moerun__replacer *r, int stops) {
  moerun__solver *s = &r->solver;
  if (!s->is_running) return;
  atomic_store(&s->stops, stops);
  (void)thrd_join(s->thread, NULL);
  s->is_running = 0;
}
