/* Bounds grow fast at first and hardly at the end: shown at 1, 2, 4, ... s. */
#include "benchmarks/place_bound.h"

#include "placement/bound/bound.h"
#include "placement/map/certificate.h"
#include "runtime/base/timer.h"

#include <stdio.h>
#include <string.h>

typedef struct record {
  moerun__text *json;
  int *num_rows;
  const place_bound_case *of;
  double began;
  double shown_at; /* seconds of the next line */
  double best;
  moerun_status status;
} record;

static double now(void) {
  return moerun__now();
}

static moerun_status show(record *r, double seconds) {
  moerun_status status = MOERUN_OK;
  const place_bound_case *of = r->of;
  const double worst = moerun__worst_cost(of->problem);
  const double gap = moerun__gap(of->cost, r->best, worst);
  (void)printf("  %-12s %8s %8s | %7s %7s %8s | %6s %6s %6s | %8.3f | %8.5f "
               "%6.2f\n",
               "bound", "", "", "", "", "", "", "", "", seconds, r->best,
               100 * gap);
  MOERUN_TRY(moerun__text_print(r->json,
                                "%s\n    {\"case\": \"%s\", \"trace\": ",
                                (*r->num_rows)++ > 0 ? "," : "", of->name));
  MOERUN_TRY(
      moerun__text_json(r->json, of->trace_name, strlen(of->trace_name)));
  MOERUN_TRY(moerun__text_print(r->json,
                                ", \"method\": \"bound\", \"seconds\": %.4f, "
                                "\"bound\": %.9g, \"gap\": %.6g}",
                                seconds, r->best, gap));
done:
  return status;
}

static void observe(void *context, int64_t step, double bound) {
  record *r = context;
  const double seconds = moerun__now() - r->began;
  (void)step;
  if (bound > r->best) r->best = bound;
  if (seconds < r->shown_at || r->status != MOERUN_OK) return;
  r->status = show(r, seconds);
  while (r->shown_at <= seconds) {
    r->shown_at *= 2;
  }
}

moerun_status place_bound_run(moerun__text *json, int *num_rows,
                              const place_bound_case *of) {
  moerun_status status = MOERUN_OK;
  record r = {.json = json,
              .num_rows = num_rows,
              .of = of,
              .began = moerun__now(),
              .shown_at = 1,
              .best = -1,
              .status = MOERUN_OK};
  const moerun__bound_options options = {.kind = MOERUN_BOUND_SDP,
                                         .time_limit_s = of->seconds,
                                         .clock = now,
                                         .cost = of->cost,
                                         .observe = observe,
                                         .context = &r};
  double bound = -1;
  MOERUN_TRY(moerun__bound(&bound, of->problem, &options));
  MOERUN_TRY(r.status);
  r.best = bound;
  MOERUN_TRY(show(&r, moerun__now() - r.began));
done:
  return status;
}
