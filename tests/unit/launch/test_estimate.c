/* The estimate of the time left against made-up runs, whose steps take known
 * times, so that the true end is known: waves of requests that begin and end
 * together, requests that end early, ranks that become slow. */
#include "support/cmocka.h"
#include "support/draw.h"

#include "launch/run/estimate.h"

#include <math.h>

enum { SLOTS = 16, CHUNK = 256, MOST_REQUESTS = 400 };

/* A run of requests, SLOTS at a time, as the engine would do it. */
typedef struct made_run {
  int requests;
  int prompt;  /* tokens of each */
  int most;    /* tokens that each may generate */
  double ends; /* chance that a token is the last */
  double step; /* seconds of a step without rows, then of a row */
  double row;
  double slow_from; /* when steps begin to take twice as long; 0: never */
  double judged_from;
  /* What was seen. */
  double worst; /* error of the end over the time left, in the middle 80 % */
  double jump;  /* largest change of the end in a second, over the time left */
  int bounds;   /* estimates that call themselves bounds */
  int estimates;
} made_run;

typedef struct slot {
  int fed;
  int generated;
  int length; /* it ends after so many tokens; 0: the slot is free */
} slot;

static int length_of(const made_run *run, draw *rng) {
  int length = 1;
  while (length < run->most &&
         moerun__uniform(rng->seed, 0, rng->next++) >= run->ends) {
    length++;
  }
  return length;
}

/* One step of all slots; adds to p. Returns its seconds. */
static double take_step(const made_run *run, slot *slots, moerun__progress *p,
                        double now) {
  int rows = 0;
  int prompt_rows = 0;
  int generated = 0;
  for (int i = 0; i < SLOTS; i++) {
    slot *s = &slots[i];
    if (s->length == 0) continue;
    int count = 1;
    if (s->fed < run->prompt) {
      count = run->prompt - s->fed;
      if (count > CHUNK - rows) count = CHUNK - rows;
      s->fed += count;
      prompt_rows += count;
    }
    rows += count;
    if (s->fed < run->prompt) continue;
    s->generated++;
    generated++;
  }
  double seconds = run->step + run->row * rows;
  if (run->slow_from > 0 && now > run->slow_from) seconds *= 2;
  p->prompt_tokens += prompt_rows;
  p->generated_tokens += generated;
  if (prompt_rows > 0) {
    p->prefill_seconds += seconds;
  } else {
    p->decode_seconds += seconds;
    p->decode_tokens += generated;
  }
  return seconds;
}

/* Ends what is at its end and begins what waits. */
static void turn(const made_run *run, slot *slots, int *begun,
                 moerun__estimate *estimate, moerun__progress *p, draw *rng) {
  for (int i = 0; i < SLOTS; i++) {
    slot *s = &slots[i];
    if (s->length > 0 && s->generated == s->length) {
      if (estimate != NULL) {
        moerun__estimate_ended(estimate, s->generated, run->most, 0);
      }
      p->finished++;
      *s = (slot){0};
    }
    if (s->length == 0 && *begun < run->requests) {
      *s = (slot){.length = length_of(run, rng)};
      (*begun)++;
    }
  }
}

/* Runs it once; with `end` > 0, the true one, judges the estimates. */
static double play(made_run *run, double end) {
  slot slots[SLOTS] = {{0}};
  moerun__progress p = {0};
  moerun__estimate estimate;
  draw rng = {.seed = 7};
  const moerun__work work = {run->requests,
                             (int64_t)run->requests * run->prompt,
                             (int64_t)run->requests * run->most};
  double now = 0;
  double before = -1;
  double second = 0;
  int begun = 0;
  moerun__estimate_begin(&estimate, &work);
  turn(run, slots, &begun, NULL, &p, &rng);
  while (p.finished < run->requests) {
    now += take_step(run, slots, &p, now);
    turn(run, slots, &begun, &estimate, &p, &rng);
    moerun__estimate_step(&estimate, &p, now);
    const double left = moerun__estimate_left(&estimate, now);
    if (end <= 0 || left < 0 || now < 0.1 * end || now > 0.9 * end) continue;
    if (now >= run->judged_from) {
      const double error = fabs(now + left - end) / (end - now);
      if (error > run->worst) run->worst = error;
    }
    run->estimates++;
    run->bounds += moerun__estimate_is_bound(&estimate);
    if (now - second < 1) continue;
    if (before >= 0 && now - second < 2) {
      const double jump = fabs(now + left - before) / (end - now);
      if (jump > run->jump) run->jump = jump;
    }
    before = now + left;
    second = now;
  }
  assert_true(moerun__estimate_left(&estimate, now) < 2);
  return now;
}

static void judge(made_run *run, double worst, double jump) {
  const double end = play(run, 0);
  (void)play(run, end);
  assert_true(run->estimates > 100);
  if (run->worst > worst || run->jump > jump) {
    print_error("ends after %.1f s: off by up to %.3f of the time left "
                "(expected %.3f), moves by up to %.3f a second (%.3f)\n",
                end, run->worst, worst, run->jump, jump);
    fail();
  }
}

/* All requests of a wave begin and end in the same step, so that none finish
 * for long and then 16 do. */
static void waves_do_not_move_it(void **state) {
  (void)state;
  made_run run = {
      .requests = 160, .prompt = 500, .most = 300, .step = 0.02, .row = 0.001};
  judge(&run, 0.05, 0.01);
  assert_int_equal(run.bounds, run.estimates);
}

/* Prompts take nearly all of the time, or nearly none. */
static void either_kind_of_step_may_rule(void **state) {
  (void)state;
  made_run prompts = {
      .requests = 320, .prompt = 2000, .most = 8, .step = 0.02, .row = 0.001};
  judge(&prompts, 0.02, 0.01);
  made_run tokens = {
      .requests = 64, .prompt = 8, .most = 2000, .step = 0.02, .row = 0.001};
  judge(&tokens, 0.02, 0.01);
}

/* On average after 60 of 1000 tokens: a bound would be 16 times too long. */
static void requests_that_end_early_are_expected(void **state) {
  (void)state;
  made_run run = {.requests = MOST_REQUESTS,
                  .prompt = 100,
                  .most = 1000,
                  .ends = 1.0 / 60,
                  .step = 0.02,
                  .row = 0.001};
  judge(&run, 0.5, 0.05);
  assert_int_equal(run.bounds, 0);
}

/* Half as fast from the 60th second on: what was said before is wrong, and is
 * nearly right again two minutes later, without a jump. */
static void it_follows_a_change_of_speed(void **state) {
  (void)state;
  made_run run = {.requests = 320,
                  .prompt = 500,
                  .most = 300,
                  .step = 0.02,
                  .row = 0.001,
                  .slow_from = 60,
                  .judged_from = 180};
  judge(&run, 0.2, 0.02);
}

static void nothing_is_said_before_it_is_known(void **state) {
  (void)state;
  moerun__estimate e;
  const moerun__work work = {2, 100, 100};
  moerun__progress p = {.prompt_tokens = 50, .prefill_seconds = 10};
  moerun__estimate_begin(&e, &work);
  assert_true(moerun__estimate_left(&e, 0) < 0);
  moerun__estimate_step(&e, &p, 10);
  /* No token has been generated, so nobody knows what one takes. */
  assert_true(moerun__estimate_left(&e, 10) < 0);
  p.generated_tokens = 50;
  p.decode_tokens = 50;
  p.decode_seconds = 5;
  moerun__estimate_step(&e, &p, 15);
  /* 50 rows of prompts at 0.2 s, 50 tokens at 0.1 s. */
  assert_true(fabs(moerun__estimate_left(&e, 15) - 15) < 1e-9);
  assert_true(fabs(moerun__estimate_left(&e, 16) - 14) < 1e-9);
  assert_true(moerun__estimate_is_bound(&e));
}

/* What requests take from others is done, too: 60 tokens in 10 s. */
static void reused_tokens_are_done(void **state) {
  (void)state;
  moerun__estimate e;
  const moerun__work work = {4, 100, 0};
  const moerun__progress p = {.prompt_tokens = 20,
                              .reused_tokens = 40,
                              .prefill_seconds = 10,
                              .finished = 2};
  moerun__estimate_begin(&e, &work);
  moerun__estimate_step(&e, &p, 10);
  assert_true(fabs(moerun__estimate_left(&e, 10) - 10 * 40.0 / 60) < 1e-9);
}

/* Texts to be scored: nothing is generated, and nothing is a bound. */
static void scoring_is_no_bound(void **state) {
  (void)state;
  moerun__estimate e;
  const moerun__work work = {10, 1000, 0};
  const moerun__progress p = {
      .prompt_tokens = 250, .prefill_seconds = 5, .finished = 2};
  moerun__estimate_begin(&e, &work);
  moerun__estimate_ended(&e, 0, 0, 0);
  moerun__estimate_step(&e, &p, 5);
  assert_true(fabs(moerun__estimate_left(&e, 5) - 15) < 1e-9);
  assert_false(moerun__estimate_is_bound(&e));
}

/* Of what is left at most, requests that ended early have spared theirs; of the
 * rest a little less than all is expected: h = 1 / 851, and the last request's
 * (1 - (1 - h)^100) / h = 94.40 tokens. */
static void what_early_ends_have_spared_is_not_left(void **state) {
  (void)state;
  moerun__estimate e;
  const moerun__work work = {10, 10, 1000};
  moerun__progress p = {.prompt_tokens = 10,
                        .prefill_seconds = 1,
                        .generated_tokens = 850,
                        .decode_tokens = 850,
                        .decode_seconds = 850,
                        .finished = 9};
  moerun__estimate_begin(&e, &work);
  moerun__estimate_ended(&e, 50, 100, 0);
  moerun__estimate_step(&e, &p, 851);
  assert_true(fabs(moerun__estimate_left(&e, 851) - 94.40) < 0.01);
  /* Requests that broke are finished without all rows of their prompts; their
   * tokens are not left, and others are not taken to end as early. */
  moerun__estimate_begin(&e, &work);
  moerun__estimate_ended(&e, 50, 100, 1);
  assert_true(moerun__estimate_is_bound(&e));
  moerun__estimate_step(&e, &p, 851);
  assert_true(fabs(moerun__estimate_left(&e, 851) - 100) < 0.01);
  moerun__estimate_begin(&e, &work);
  p.prompt_tokens = 5;
  p.finished = 10;
  moerun__estimate_step(&e, &p, 851);
  assert_true(moerun__estimate_left(&e, 851) == 0);
}

/* Nothing is told of a first second; soon after the end moves by nearly all of
 * what is new, later slowly. */
static void little_that_is_known_gives_way_to_more(void **state) {
  (void)state;
  moerun__estimate e;
  const moerun__work work = {1, 1, 100000};
  moerun__progress p = {.prompt_tokens = 1, .prefill_seconds = 0.125};
  moerun__estimate_begin(&e, &work);
  p.decode_tokens = p.generated_tokens = 100;
  p.decode_seconds = 0.75;
  moerun__estimate_step(&e, &p, 1);
  assert_true(moerun__estimate_left(&e, 1) < 0);
  p.decode_tokens = p.generated_tokens = 200;
  p.decode_seconds = 2;
  moerun__estimate_step(&e, &p, 2);
  const double before = moerun__estimate_left(&e, 2);
  p.decode_tokens = p.generated_tokens = 600;
  p.decode_seconds = 4;
  moerun__estimate_step(&e, &p, 4);
  const double after = moerun__estimate_left(&e, 4);
  /* 0.01 s a token, then 0.0067; smoothed over a second, of which two are
   * gone. */
  assert_in_range((uintmax_t)before, 950, 1050);
  assert_in_range((uintmax_t)after, 650, 760);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(waves_do_not_move_it),
      cmocka_unit_test(either_kind_of_step_may_rule),
      cmocka_unit_test(requests_that_end_early_are_expected),
      cmocka_unit_test(it_follows_a_change_of_speed),
      cmocka_unit_test(nothing_is_said_before_it_is_known),
      cmocka_unit_test(reused_tokens_are_done),
      cmocka_unit_test(scoring_is_no_bound),
      cmocka_unit_test(what_early_ends_have_spared_is_not_left),
      cmocka_unit_test(little_that_is_known_gives_way_to_more),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
