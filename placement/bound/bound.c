/* From bounds of the pairs kept together to a bound of the objective.
 *
 * cut: all pairs less those kept on a rank. weighted: a pair on one rank saves
 * node_weight against one on its node, and that saves far_weight - node_weight
 * against one between nodes, so ranks and nodes are bounded each by itself.
 * tail: the busiest of the R (R - 1) links between ranks carries the mean at
 * least.
 *
 * fanout: all terms of tokens less those that find another one of their token
 * on their rank. */
#include "placement/bound/bound.h"

#include "placement/bound/bound_level.h"

#include <math.h>
#include <string.h>

enum { MAX_LEVELS = 2 };

typedef struct search {
  const moerun__problem *problem;
  const moerun__bound_options *options;
  moerun__bound_level level[MAX_LEVELS];
  double saves[MAX_LEVELS]; /* what a pair kept on this level saves */
  int num_levels;
  double total; /* pairs of neighbouring layers */
  double most;  /* weighted: what a pair costs at most */
  int64_t step;
  double best;
} search;

/* ---- Levels -------------------------------------------------------------- */

static moerun_status add_level(search *s, int32_t ranks_per_part,
                               double saves) {
  const int32_t width = s->options->width > 0 ? s->options->width : 3;
  s->saves[s->num_levels] = saves;
  return moerun__bound_level_create(&s->level[s->num_levels++], s->problem,
                                    ranks_per_part, width);
}

static moerun_status begin(search *s) {
  moerun_status status = MOERUN_OK;
  const moerun__problem *p = s->problem;
  const moerun__topology *topology = p->topology;
  const size_t E = (size_t)p->num_experts;
  if (p->objective == MOERUN_OBJECTIVE_FANOUT) {
    MOERUN_TRY(moerun__bound_level_create_terms(&s->level[s->num_levels++], p));
    goto done;
  }
  for (size_t i = 0; i < (size_t)(p->num_layers - 1) * E * E; i++) {
    s->total += (double)p->follow[i];
  }
  if (!(s->total > 0)) goto done;
  if (p->objective == MOERUN_OBJECTIVE_CUT ||
      p->objective == MOERUN_OBJECTIVE_TAIL) {
    MOERUN_TRY(add_level(s, 1, 1));
    goto done;
  }
  /* Nodes of different sizes are no equal parts, which a level is of: there
   * every pair between ranks is taken to cost no more than one within a
   * node. */
  const int has_nodes = topology->num_nodes > 1 && topology->ranks_per_node > 0;
  s->most = has_nodes ? p->far_weight : p->node_weight;
  if (p->node_weight > 0) MOERUN_TRY(add_level(s, 1, p->node_weight));
  if (s->most > p->node_weight) {
    MOERUN_TRY(
        add_level(s, topology->ranks_per_node, p->far_weight - p->node_weight));
  }
done:
  return status;
}

static double least_cost(const search *s) {
  const moerun__problem *p = s->problem;
  double saved = 0;
  if (p->objective == MOERUN_OBJECTIVE_FANOUT) {
    return (s->level[0].terms - s->level[0].kept) /
           ((double)p->trace->num_tokens * p->num_layers);
  }
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

/* ---- Search -------------------------------------------------------------- */

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
    const moerun_status stepped = step(&s, &deadline);
    /* Iterates that are not finite any more lead nowhere; the bounds that were
     * computed before hold all the same. */
    if (stepped == MOERUN_ERR_INVALID) break;
    MOERUN_TRY(stepped);
    if (is_late) break;
  }
  *bound = s.best;
done:
  for (int i = 0; i < s.num_levels; i++) {
    moerun__bound_level_clear(&s.level[i]);
  }
  return status;
}
