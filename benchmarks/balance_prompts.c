/* attack: prompts that repeat one token send all their rows through the same
 * few experts, because all their states are alike, and so make every prompt in
 * the batch wait (RepetitionCurse). The token is the worst of the first that
 * the vocabulary has for bytes, tried one after the other with short prompts.
 * Prefill of whole contexts, ordinary text against the attack, with balancing
 * and without, turn by turn. */
#include "benchmarks/balance.h"

#include "runtime/base/file.h"
#include "runtime/base/memory.h"
#include "runtime/base/timer.h"
#include "runtime/tokenizer.h"

#include <string.h>

enum {
  SEQUENCES = 2, /* of each rank */
  PROBE = 32,    /* tokens of a prompt that looks for the worst token */
  CANDIDATES = 256,
  KINDS = 2, /* ordinary, attack */
  WAYS = 2,  /* without balancing, with it */
  TURNS = KINDS * WAYS,
  WARM_UP = 2,
  MOST_TEXT = 1 << 26,
};

typedef struct attack {
  moerun_comm *comm;
  moerun_placement *placement;
  moerun_model *model;
  moerun_session *session[WAYS];
  moerun__token_list text;
  int32_t length; /* of a prompt */
  int32_t worst;  /* token */
  int32_t *token;
  int32_t *sequence;
  int32_t *position;
  float *logits;
  double *seconds; /* [KINDS][WAYS][repetitions] */
} attack;

/* ---- Steps ------------------------------------------------------------------- */

/* `length` tokens of each sequence: `repeated`, or the text's if negative. */
static void write_batch(attack *a, int32_t length, int32_t repeated) {
  const size_t windows = SEQUENCES * (size_t)a->comm->size;
  const size_t stride = (a->text.count - (size_t)length) / windows;
  for (int32_t s = 0; s < SEQUENCES; s++) {
    const size_t window = (size_t)a->comm->rank * SEQUENCES + (size_t)s;
    for (int32_t t = 0; t < length; t++) {
      const int32_t row = s * length + t;
      a->token[row] =
          repeated < 0 ? a->text.id[window * stride + (size_t)t] : repeated;
      a->sequence[row] = s;
      a->position[row] = t;
    }
  }
}

static moerun_status prefill(double *seconds, attack *a, int way,
                             int32_t length) {
  moerun_status status = MOERUN_OK;
  int32_t logit_row[SEQUENCES];
  for (int32_t s = 0; s < SEQUENCES; s++) {
    logit_row[s] = (s + 1) * length - 1;
  }
  const moerun_batch batch = {.num_tokens = SEQUENCES * length,
                              .token = a->token,
                              .sequence = a->sequence,
                              .position = a->position,
                              .num_logits = SEQUENCES,
                              .logit_row = logit_row};
  MOERUN_TRY(bench_together(a->comm));
  *seconds = -moerun__now();
  MOERUN_TRY(moerun_forward(a->session[way], &batch, a->logits));
  *seconds += moerun__now();
  MOERUN_TRY(bench_slowest(seconds, a->comm));
done:
  return status;
}

/* The first of the tokens with the most rows on one rank. All ranks see the
 * same counts. */
static moerun_status find_worst(attack *a) {
  moerun_status status = MOERUN_OK;
  const int32_t V = a->model->config.vocab_size;
  double most = 0;
  for (int32_t token = 0; token < CANDIDATES && token < V; token++) {
    double seconds = 0;
    write_batch(a, PROBE, token);
    MOERUN_TRY(prefill(&seconds, a, 1, PROBE));
    const double peak = bench_peak(a->session[1], 0);
    if (peak <= most) continue;
    most = peak;
    a->worst = token;
  }
done:
  return status;
}

/* ---- Set-up --------------------------------------------------------------------- */

static moerun_status load_text(attack *a, const bench_options *o) {
  moerun_status status = MOERUN_OK;
  moerun__tokenizer *tokenizer = NULL;
  char *text = NULL;
  size_t bytes = 0;
  MOERUN_TRY(moerun__tokenizer_load(&tokenizer, o->model));
  MOERUN_TRY(moerun__file_read(&text, &bytes, o->text, MOST_TEXT));
  MOERUN_TRY(moerun__tokenizer_encode(tokenizer, &a->text, text, bytes));
  MOERUN_REQUIRE(a->text.count >= (size_t)a->length, MOERUN_ERR_INVALID,
                 "%s: expected at least the %d tokens of a prompt, found %zu",
                 o->text, a->length, a->text.count);
done:
  moerun__free(text);
  moerun__tokenizer_destroy(tokenizer);
  return status;
}

static moerun_status create(attack *a, bench *b) {
  moerun_status status = MOERUN_OK;
  static const moerun_balance balance[WAYS] = {MOERUN_BALANCE_OFF,
                                               MOERUN_BALANCE_AUTO};
  moerun_model_shape shape;
  MOERUN_TRY(moerun_model_shape_load(&shape, b->options.model));
  a->comm = b->comm;
  a->length = shape.max_positions;
  const size_t rows = SEQUENCES * (size_t)a->length;
  const size_t times = (size_t)TURNS * (size_t)b->options.repetitions;
  MOERUN_TRY(moerun_placement_create_block(&a->placement, shape.num_moe_layers,
                                           shape.num_experts, b->comm->size));
  MOERUN_TRY(moerun_model_load(&a->model, b->comm, a->placement,
                               b->options.model, NULL));
  const moerun_session_options options = {.max_tokens = SEQUENCES * a->length,
                                          .max_sequences = SEQUENCES};
  for (int way = 0; way < WAYS; way++) {
    moerun_session_options with = options;
    with.balance = balance[way];
    MOERUN_TRY(moerun_session_create(&a->session[way], a->model, &with));
  }
  MOERUN_TRY(moerun__alloc(&a->token, rows, sizeof *a->token));
  MOERUN_TRY(moerun__alloc(&a->sequence, rows, sizeof *a->sequence));
  MOERUN_TRY(moerun__alloc(&a->position, rows, sizeof *a->position));
  MOERUN_TRY(moerun__alloc(&a->logits, SEQUENCES * (size_t)shape.vocab_size,
                           sizeof *a->logits));
  MOERUN_TRY(moerun__alloc(&a->seconds, times, sizeof *a->seconds));
  MOERUN_TRY(moerun__comm_agree(b->comm, load_text(a, &b->options)));
done:
  return status;
}

static void destroy(attack *a) {
  moerun__token_list_clear(&a->text);
  moerun__free(a->token);
  moerun__free(a->sequence);
  moerun__free(a->position);
  moerun__free(a->logits);
  moerun__free(a->seconds);
  for (int way = 0; way < WAYS; way++) {
    moerun_session_destroy(a->session[way]);
  }
  moerun_model_destroy(a->model);
  moerun_placement_destroy(a->placement);
}

/* ---- attack ------------------------------------------------------------------------ */

static const char *const attack_names[] = {
    "ordinary_ms", "attack_ms", "ratio", "min_ratio", "peak", "peak_atk"};
enum { ATTACK_NAMES = sizeof attack_names / sizeof *attack_names };

/* peak[kind][planned]: of the session with balancing. */
static moerun_status repeat(attack *a, int64_t n, double peak[KINDS][2]) {
  moerun_status status = MOERUN_OK;
  for (int64_t i = -WARM_UP; i < n; i++) {
    for (int turn = 0; turn < TURNS; turn++) {
      const int at = (int)((turn + i + WARM_UP) % TURNS);
      const int kind = at / WAYS;
      const int way = at % WAYS;
      double seconds = 0;
      write_batch(a, a->length, kind == 0 ? -1 : a->worst);
      MOERUN_TRY(prefill(&seconds, a, way, a->length));
      if (i >= 0) a->seconds[(int64_t)at * n + i] = seconds;
      for (int planned = 0; planned <= 1 && way == 1; planned++) {
        peak[kind][planned] = bench_peak(a->session[1], planned);
      }
    }
  }
done:
  return status;
}

moerun_status bench_attack(bench *b) {
  moerun_status status = MOERUN_OK;
  const int64_t n = b->options.repetitions;
  double peak[KINDS][2] = {{0}};
  attack a;
  memset(&a, 0, sizeof a);
  if (b->options.model == NULL || b->options.text == NULL) {
    if (b->comm->rank == 0) {
      (void)printf("\n\n# attack: left out without --model and --text\n");
    }
    goto done;
  }
  MOERUN_TRY(create(&a, b));
  MOERUN_TRY(find_worst(&a));
  MOERUN_TRY(repeat(&a, n, peak));
  MOERUN_TRY(bench_list_begin(b, "attack"));
  if (b->comm->rank == 0) {
    (void)printf("# %d prompts of %d tokens a rank; the token repeated is %d\n",
                 SEQUENCES, a.length, a.worst);
  }
  bench_heading(b, attack_names, ATTACK_NAMES);
  for (int way = 0; way < WAYS; way++) {
    double *ordinary = a.seconds + way * n;
    double *attacked = a.seconds + (int64_t)(WAYS + way) * n;
    const double ms[KINDS] = {1e3 * bench_quantile(ordinary, n, 0.5),
                              1e3 * bench_quantile(attacked, n, 0.5)};
    const double values[ATTACK_NAMES] = {
        ms[0],        ms[1],       ms[1] / ms[0], attacked[0] / ordinary[0],
        peak[0][way], peak[1][way]};
    MOERUN_TRY(bench_line(b, way == 0 ? "off" : "auto", attack_names, values,
                          ATTACK_NAMES));
  }
  MOERUN_TRY(bench_list_end(b));
done:
  destroy(&a);
  return status;
}
