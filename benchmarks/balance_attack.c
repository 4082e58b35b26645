/* attack: prompts that repeat one token send all their rows through the same
 * few experts, because all their states are alike, and so make every prompt in
 * the batch wait (RepetitionCurse). The token is the worst of the first that
 * the vocabulary has for bytes, tried one after the other with short prompts.
 * Prefill of whole contexts, ordinary text against the attack, with balancing
 * and without, turn by turn. */
#include "benchmarks/balance.h"

#include "runtime/base/memory.h"

#include <string.h>

enum {
  PROBE = 32, /* tokens of a prompt that looks for the worst token */
  CANDIDATES = 256,
  KINDS = 2, /* ordinary, attack */
  WAYS = 2,  /* without balancing, with it */
  TURNS = KINDS * WAYS,
  WARM_UP = 2,
};

typedef struct attack {
  bench_prompts prompts;
  moerun_session *session[WAYS];
  int32_t worst; /* token */
  float *logits;
  double *seconds; /* [KINDS][WAYS][repetitions] */
} attack;

/* The first of the tokens with the most rows on one rank. All ranks see the
 * same counts. */
static moerun_status find_worst(attack *a) {
  moerun_status status = MOERUN_OK;
  const int32_t V = a->prompts.model->config.vocab_size;
  double most = 0;
  for (int32_t token = 0; token < CANDIDATES && token < V; token++) {
    double seconds = 0;
    bench_prompts_write(&a->prompts, PROBE, token);
    MOERUN_TRY(
        bench_prompts_time(&seconds, &a->prompts, a->session[1], 1, a->logits));
    const double peak = bench_peak(a->session[1], 0);
    if (peak <= most) continue;
    most = peak;
    a->worst = token;
  }
done:
  return status;
}

/* peak[kind][planned]: of the session with balancing. */
static moerun_status repeat(attack *a, int64_t n, double peak[KINDS][2]) {
  moerun_status status = MOERUN_OK;
  for (int64_t i = -WARM_UP; i < n; i++) {
    for (int turn = 0; turn < TURNS; turn++) {
      const int at = (int)((turn + i + WARM_UP) % TURNS);
      const int kind = at / WAYS;
      const int way = at % WAYS;
      double seconds = 0;
      bench_prompts_write(&a->prompts, a->prompts.longest,
                          kind == 0 ? -1 : a->worst);
      MOERUN_TRY(bench_prompts_time(&seconds, &a->prompts, a->session[way], 1,
                                    a->logits));
      if (i >= 0) a->seconds[(int64_t)at * n + i] = seconds;
      for (int planned = 0; planned <= 1 && way == 1; planned++) {
        peak[kind][planned] = bench_peak(a->session[1], planned);
      }
    }
  }
done:
  return status;
}

static moerun_status create(attack *a, bench *b) {
  moerun_status status = MOERUN_OK;
  static const moerun_balance balance[WAYS] = {MOERUN_BALANCE_OFF,
                                               MOERUN_BALANCE_AUTO};
  const size_t times = (size_t)TURNS * (size_t)b->options.repetitions;
  MOERUN_TRY(bench_prompts_create(&a->prompts, b));
  for (int way = 0; way < WAYS; way++) {
    MOERUN_TRY(bench_prompts_session(&a->session[way], &a->prompts,
                                     balance[way], NULL));
  }
  MOERUN_TRY(moerun__alloc(
      &a->logits, BENCH_PROMPTS * (size_t)a->prompts.model->config.vocab_size,
      sizeof *a->logits));
  MOERUN_TRY(moerun__alloc(&a->seconds, times, sizeof *a->seconds));
done:
  return status;
}

static void destroy(attack *a) {
  moerun__free(a->logits);
  moerun__free(a->seconds);
  for (int way = 0; way < WAYS; way++) {
    moerun_session_destroy(a->session[way]);
  }
  bench_prompts_destroy(&a->prompts);
}

static const char *const names[] = {"ordinary_ms", "attack_ms", "ratio",
                                    "min_ratio",   "peak",      "peak_atk"};
enum { NAMES = sizeof names / sizeof *names };

moerun_status bench_attack(bench *b) {
  moerun_status status = MOERUN_OK;
  const int64_t n = b->options.repetitions;
  double peak[KINDS][2] = {{0}};
  attack a;
  memset(&a, 0, sizeof a);
  MOERUN_TRY(create(&a, b));
  MOERUN_TRY(find_worst(&a));
  MOERUN_TRY(repeat(&a, n, peak));
  MOERUN_TRY(bench_list_begin(b, "attack"));
  if (b->comm->rank == 0) {
    (void)printf("# %d prompts of %d tokens a rank; the token repeated is %d\n",
                 BENCH_PROMPTS, a.prompts.longest, a.worst);
  }
  bench_heading(b, names, NAMES);
  for (int way = 0; way < WAYS; way++) {
    double *ordinary = a.seconds + way * n;
    double *attacked = a.seconds + (int64_t)(WAYS + way) * n;
    const double ms[KINDS] = {1e3 * bench_quantile(ordinary, n, 0.5),
                              1e3 * bench_quantile(attacked, n, 0.5)};
    const double values[NAMES] = {ms[0],         ms[1],
                                  ms[1] / ms[0], attacked[0] / ordinary[0],
                                  peak[0][way],  peak[1][way]};
    MOERUN_TRY(bench_line(b, way == 0 ? "off" : "auto", names, values, NAMES));
  }
  MOERUN_TRY(bench_list_end(b));
done:
  destroy(&a);
  return status;
}
