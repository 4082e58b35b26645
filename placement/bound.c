/* From bounds of the pairs kept together to a bound of the objective.
 *
 * cut: all pairs less those kept on a rank. weighted: a pair on one rank saves
 * node_weight against one on its node, and that saves far_weight - node_weight
 * against one between nodes, so ranks and nodes are bounded each by itself. tail:
 * the busiest of the R (R - 1) links between ranks carries the mean at least.
 *
 * fanout: a token of k terms on f ranks has at least p(f) pairs of them on one
 * rank, by an even split. For any price of a pair, f + price * pairs >= least(k)
 * = min over f of f + price * p(f); summed over all tokens, ranks visited >=
 * sum of least(k) - price * (pairs kept), and the best price is the slope of
 * one of the edges of the convex hull of (p(f), f). */
#include "placement/bound.h"

#include "placement/bound_level.h"
#include "runtime/base/memory.h"

#include <math.h>
#include <string.h>

enum { MAX_LEVELS = 2 };

static const char *const kind_names[] = {"none", "sdp"};

typedef struct search {
  const moerun__problem *problem;
  const moerun__bound_options *options;
  moerun__bound_level level[MAX_LEVELS];
  double saves[MAX_LEVELS]; /* what a pair kept on this level saves */
  int num_levels;
  double total;       /* pairs of neighbouring layers */
  double most;        /* weighted: what a pair costs at most */
  int64_t *tokens_of; /* [K + 1] fanout: (token, layer)s of k terms */
  int64_t step;
  double best;
} search;

const char *moerun__bound_kind_name(moerun__bound_kind kind) {
  return kind_names[kind];
}

int moerun__bound_kind_find(const char *name) {
  for (int i = 0; i < (int)(sizeof kind_names / sizeof *kind_names); i++) {
    if (strcmp(name, kind_names[i]) == 0) return i;
  }
  return -1;
}

/* ---- Fan-out ---------------------------------------------------------------- */

/* Pairs on one rank when k terms are split evenly over f ranks. */
static int32_t even_pairs(int32_t k, int32_t f) {
  const int32_t each = k / f;
  const int32_t more = k % f; /* of the ranks have a term more */
  return f * (each * (each - 1) / 2) + more * each;
}

static double least_charge(int32_t k, int32_t most_ranks, double price) {
  double least = k > 0 ? INFINITY : 0;
  for (int32_t f = 1; f <= k && f <= most_ranks; f++) {
    least = fmin(least, f + price * even_pairs(k, f));
  }
  return least;
}

static double least_fanout(const search *s) {
  const int32_t K = s->problem->trace->num_terms;
  const int32_t R = s->problem->num_ranks;
  double best = 0;
  for (int32_t f = 1; f < K && f < R; f++) {
    const int32_t fewer = even_pairs(K, f) - even_pairs(K, f + 1);
    if (fewer == 0) continue;
    double visits = 0;
    double ranks = -s->level[0].kept / fewer;
    for (int32_t k = 0; k <= K; k++) {
      visits += (double)s->tokens_of[k];
      ranks += (double)s->tokens_of[k] * least_charge(k, R, 1.0 / fewer);
    }
    best = fmax(best, ranks / visits * (1 - 1e-12));
  }
  return best;
}

static moerun_status count_terms(search *s) {
  moerun_status status = MOERUN_OK;
  const moerun__trace *trace = s->problem->trace;
  const size_t K = (size_t)trace->num_terms;
  const size_t visits = (size_t)trace->num_tokens * (size_t)trace->num_layers;
  MOERUN_TRY(moerun__alloc(&s->tokens_of, K + 1, sizeof *s->tokens_of));
  for (size_t v = 0; v < visits; v++) {
    size_t terms = 0;
    for (size_t k = 0; k < K; k++) {
      terms += trace->ids[v * K + k] >= 0;
    }
    s->tokens_of[terms]++;
  }
done:
  return status;
}

/* ---- Levels ----------------------------------------------------------------- */

static moerun_status add_level(search *s, int32_t ranks_per_part, int within,
                               double saves) {
  moerun_status status = MOERUN_OK;
  const int32_t width = within                  ? 1
                        : s->options->width > 0 ? s->options->width
                                                : 3;
  MOERUN_TRY(moerun__bound_level_create(&s->level[s->num_levels++], s->problem,
                                        ranks_per_part, within, width));
  s->saves[s->num_levels - 1] = saves;
done:
  return status;
}

static moerun_status begin(search *s) {
  moerun_status status = MOERUN_OK;
  const moerun__problem *p = s->problem;
  const int32_t per_node = p->topology->ranks_per_node;
  const size_t E = (size_t)p->num_experts;
  if (p->objective == MOERUN_OBJECTIVE_FANOUT) {
    MOERUN_TRY(count_terms(s));
    MOERUN_TRY(add_level(s, 1, 1, 0));
    goto done;
  }
  for (size_t i = 0; i < (size_t)(p->num_layers - 1) * E * E; i++) {
    s->total += (double)p->follow[i];
  }
  if (!(s->total > 0)) goto done;
  if (p->objective == MOERUN_OBJECTIVE_CUT ||
      p->objective == MOERUN_OBJECTIVE_TAIL) {
    MOERUN_TRY(add_level(s, 1, 0, 1));
    goto done;
  }
  s->most = per_node == p->num_ranks ? p->node_weight : p->far_weight;
  if (p->node_weight > 0) MOERUN_TRY(add_level(s, 1, 0, p->node_weight));
  if (s->most > p->node_weight) {
    MOERUN_TRY(add_level(s, per_node, 0, p->far_weight - p->node_weight));
  }
done:
  return status;
}

static double least_cost(const search *s) {
  const moerun__problem *p = s->problem;
  double saved = 0;
  if (p->objective == MOERUN_OBJECTIVE_FANOUT) return least_fanout(s);
  const double cut = (s->total - s->level[0].kept) / s->total;
  if (p->objective == MOERUN_OBJECTIVE_CUT) return cut;
  if (p->objective == MOERUN_OBJECTIVE_TAIL) {
    const double R = p->num_ranks;
    return R > 1 ? cut * R / (R - 1) : 0;
  }
  for (int i = 0; i < s->num_levels; i++) {
    saved += s->saves[i] * fmin(s->level[i].kept / s->total, 1);
  }
  return s->most - saved - 1e-12 * s->most;
}

/* ---- Search ----------------------------------------------------------------- */

static int is_over(const search *s) {
  const moerun__bound_options *o = s->options;
  int over = 1;
  for (int i = 0; i < s->num_levels; i++) {
    over = over && s->level[i].is_done;
  }
  return over || (o->cost > 0 && s->best >= o->cost) ||
         (o->most_steps > 0 && s->step >= o->most_steps);
}

/* All levels take a step; the last one of all is valued. */
static moerun_status step(search *s, const moerun__deadline *deadline) {
  moerun_status status = MOERUN_OK;
  const int32_t most_steps = s->options->most_steps;
  int has_news = 0;
  s->step++;
  for (int i = 0; i < s->num_levels; i++) {
    const int is_last = (most_steps > 0 && s->step >= most_steps) ||
                        moerun__deadline_passed(deadline);
    int is_valued = 0;
    if (s->level[i].is_done) continue;
    MOERUN_TRY(moerun__bound_level_step(&s->level[i], &is_valued, is_last));
    has_news = has_news || is_valued;
  }
  if (!has_news) goto done;
  const double bound = fmax(least_cost(s), 0);
  s->best = fmax(s->best, bound);
  if (s->options->observe != NULL && isfinite(bound)) {
    s->options->observe(s->options->context, s->step, bound);
  }
done:
  return status;
}

moerun_status moerun__bound(double *bound, const moerun__problem *problem,
                            const moerun__bound_options *options) {
  moerun_status status = MOERUN_OK;
  search s = {.problem = problem, .options = options, .best = -1};
  *bound = -1;
  if (options->kind == MOERUN_BOUND_NONE || problem->trace == NULL) {
    return MOERUN_OK;
  }
  const moerun__deadline deadline =
      moerun__deadline_after(options->clock, options->time_limit_s);
  MOERUN_TRY(begin(&s));
  while (!is_over(&s)) {
    const int is_late = moerun__deadline_passed(&deadline);
    MOERUN_TRY(step(&s, &deadline));
    if (is_late) break;
  }
  *bound = s.best;
done:
  for (int i = 0; i < s.num_levels; i++) {
    moerun__bound_level_clear(&s.level[i]);
  }
  moerun__free(s.tokens_of);
  return status;
}
