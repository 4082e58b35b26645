/* An estimate by finished requests jumps when a wave of them ends, one by the
 * last seconds when prefill and decode steps alternate. So this one counts
 * tokens, and knows two kinds of steps: those that feed rows of prompts, and
 * pure decode steps. A token of a prompt, fed or taken from another request,
 * takes so many seconds, and brings so many generated tokens with it, as in
 * recent steps of the first kind; what else is to be generated takes as long as
 * in recent steps of the second.
 *
 * How much will be generated: a request may end before its last token. Each
 * token is taken to be the last with the same chance h, estimated as requests
 * that ended early over tokens generated in all, those of unfinished requests
 * included, so that short requests, which end first, do not mislead. With m
 * tokens left at most, 1 + (1-h) + ... + (1-h)^(m-1) are expected.
 *
 * Last, the end of the run by the clock moves towards where it is seen to be,
 * by a part that grows with the time since it was moved last; quickly at first,
 * when little is known, and at the end. */
#include "launch/run/estimate.h"

#include <math.h>

static const double memory_s = 60;  /* of a kind of step */
static const double settled_s = 1;  /* of steps before anything is said */
static const double slowest_s = 15; /* of smoothing */
static const double fastest_s = 1;

void moerun__estimate_begin(moerun__estimate *estimate,
                            const moerun__work *work) {
  *estimate = (moerun__estimate){.all = *work, .end = -1};
}

void moerun__estimate_ended(moerun__estimate *estimate, int32_t generated,
                            int32_t most, int is_broken) {
  if (generated >= most) return;
  if (!is_broken) estimate->ended_early++;
  estimate->spared += most - generated;
}

/* Tokens of prompts that need no row any more: fed, or taken from others. */
static double prompts_done(const moerun__progress *p) {
  return (double)(p->prompt_tokens + p->reused_tokens);
}

static void remember(moerun__recent *recent, const moerun__recent *more) {
  const double kept = exp(-more->seconds / memory_s);
  recent->seconds = recent->seconds * kept + more->seconds;
  recent->prompt_tokens = recent->prompt_tokens * kept + more->prompt_tokens;
  recent->new_tokens = recent->new_tokens * kept + more->new_tokens;
}

/* Tokens that are expected to be generated yet. */
static double new_tokens_left(const moerun__estimate *e) {
  const moerun__progress *p = &e->seen;
  const double most =
      (double)(e->all.new_tokens - e->spared - p->generated_tokens);
  const double requests = (double)(e->all.requests - p->finished);
  if (!(most > 0) || !(requests > 0)) return 0;
  if (e->ended_early == 0) return most;
  const double chance =
      (double)e->ended_early / (double)(p->generated_tokens + e->ended_early);
  const double expected =
      requests * -expm1(most / requests * log1p(-chance)) / chance;
  return expected < most ? expected : most;
}

/* Seconds of the work that is left; negative where a kind of step that it needs
 * has not been seen yet. */
static double seconds_left(const moerun__estimate *e) {
  const moerun__progress *p = &e->seen;
  double prompt = (double)e->all.prompt_tokens - prompts_done(p);
  double others = new_tokens_left(e);
  double seconds = 0;
  if (p->finished >= e->all.requests) return 0;
  if (prompt > 0) {
    if (!(e->prefill.prompt_tokens > 0)) return -1;
    prompt /= e->prefill.prompt_tokens;
    seconds += prompt * e->prefill.seconds;
    others -= prompt * e->prefill.new_tokens;
  }
  if (others > 0) {
    if (!(e->decode.new_tokens > 0)) return -1;
    seconds += others / e->decode.new_tokens * e->decode.seconds;
  }
  return seconds;
}

static void move_end(moerun__estimate *e, double now) {
  const double left = seconds_left(e);
  const double elapsed = now - e->told;
  e->told = now;
  const double known = e->seen.prefill_seconds + e->seen.decode_seconds;
  if (left < 0 || known < settled_s) return;
  if (e->end < 0) {
    e->end = now + left;
    return;
  }
  const double smoothing =
      fmax(fastest_s, fmin(slowest_s, fmin(left, known) / 4));
  e->end += (now + left - e->end) * -expm1(-elapsed / smoothing);
}

void moerun__estimate_step(moerun__estimate *e, const moerun__progress *p,
                           double now) {
  const moerun__progress *before = &e->seen;
  const double decoded = (double)(p->decode_tokens - before->decode_tokens);
  const double generated =
      (double)(p->generated_tokens - before->generated_tokens);
  const moerun__recent prefill = {
      .seconds = p->prefill_seconds - before->prefill_seconds,
      .prompt_tokens = prompts_done(p) - prompts_done(before),
      .new_tokens = generated - decoded};
  const moerun__recent decode = {.seconds =
                                     p->decode_seconds - before->decode_seconds,
                                 .new_tokens = decoded};
  remember(&e->prefill, &prefill);
  remember(&e->decode, &decode);
  e->seen = *p;
  move_end(e, now);
}

double moerun__estimate_left(const moerun__estimate *estimate, double now) {
  if (estimate->end < 0) return -1;
  return estimate->end > now ? estimate->end - now : 0;
}

int moerun__estimate_is_bound(const moerun__estimate *estimate) {
  return estimate->all.new_tokens > 0 && estimate->ended_early == 0;
}
