/* Every poll beyond the first few looks at the clock. Where much time lies
 * between two looks, this rank did not run, and cannot say that others did not
 * answer: by the time it asks again they may have, or they were stopped with
 * it. Such a gap counts as no wait. A rank that hardly ever gets its core sees
 * nothing but gaps, so their number is limited, and a dead peer ends the wait
 * even then.
 *
 * Past the limit the peer is asked a last few times: what came during a stop is
 * found then, whatever the clock says. */
#include "comm/patience.h"

#include "runtime/base/timer.h"

#include <sched.h>
#include <stddef.h>

enum {
  EAGER_POLLS = 200, /* before the core is offered to others */
  LAST_POLLS = 200,  /* after the limit */
  GAP_PART = 8,      /* a gap is longer than this part of the limit */
  FREE_GAPS = 16,    /* that count as nothing; each further one as limit / 8 */
};

static double (*test_clock)(void);

void moerun__patience_set_clock(double (*clock)(void)) {
  test_clock = clock;
}

int moerun__patience_is_over(moerun__patience *p, double limit_s) {
  p->polls++;
  if (p->polls <= EAGER_POLLS) return 0;
  (void)sched_yield(); /* ranks may outnumber cores */
  const double now = test_clock != NULL ? test_clock() : moerun__now();
  const double longest = limit_s / GAP_PART;
  double passed = p->look > 0 ? now - p->look : 0;
  p->look = now;
  if (limit_s < 0) return 0;
  if (passed > longest) {
    p->gaps++;
    passed = p->gaps > FREE_GAPS ? longest : 0;
  }
  p->waited_s += passed;
  if (p->waited_s <= limit_s) return 0;
  p->last_polls++;
  return p->last_polls > LAST_POLLS;
}
