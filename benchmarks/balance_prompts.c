#include "benchmarks/balance.h"

#include "runtime/base/file.h"
#include "runtime/base/memory.h"
#include "runtime/base/timer.h"

enum { MOST_TEXT = 1 << 26 };

static moerun_status load_text(bench_prompts *p, const bench_options *o) {
  moerun_status status = MOERUN_OK;
  moerun__tokenizer *tokenizer = NULL;
  char *text = NULL;
  size_t bytes = 0;
  MOERUN_TRY(moerun__tokenizer_load(&tokenizer, o->model));
  MOERUN_TRY(moerun__file_read(&text, &bytes, o->text, MOST_TEXT));
  MOERUN_TRY(
      moerun__tokenizer_encode(tokenizer, &p->text, text, bytes, o->text));
  MOERUN_REQUIRE(p->text.count >= (size_t)p->longest, MOERUN_ERR_INVALID,
                 "%s: expected at least the %d tokens of a prompt, found %zu",
                 o->text, p->longest, p->text.count);
done:
  moerun__free(text);
  moerun__tokenizer_destroy(tokenizer);
  return status;
}

moerun_status bench_prompts_create(bench_prompts *p, bench *b) {
  moerun_status status = MOERUN_OK;
  const char *path = b->options.model;
  moerun_model_shape shape = {.struct_size = sizeof shape};
  *p = (bench_prompts){.comm = b->comm, .batches = 1};
  MOERUN_TRY(moerun_model_shape_load(&shape, path));
  p->longest = shape.max_positions;
  const size_t rows = BENCH_PROMPTS * (size_t)p->longest;
  MOERUN_TRY(moerun_placement_create_block(&p->placement, shape.num_moe_layers,
                                           shape.num_experts, b->comm->size));
  MOERUN_TRY(moerun_model_load(&p->model, b->comm, p->placement, path, NULL));
  MOERUN_TRY(moerun__alloc(&p->token, rows, sizeof *p->token));
  MOERUN_TRY(moerun__alloc(&p->sequence, rows, sizeof *p->sequence));
  MOERUN_TRY(moerun__alloc(&p->position, rows, sizeof *p->position));
  MOERUN_TRY(moerun__alloc(&p->logit_row, rows, sizeof *p->logit_row));
  status = load_text(p, &b->options);
  MOERUN_TRY(moerun__comm_agree(b->comm, status));
done:
  return status;
}

void bench_prompts_destroy(bench_prompts *p) {
  moerun__token_list_clear(&p->text);
  moerun__free(p->token);
  moerun__free(p->sequence);
  moerun__free(p->position);
  moerun__free(p->logit_row);
  moerun_model_destroy(p->model);
  moerun_placement_destroy(p->placement);
}

moerun_status bench_prompts_session(moerun_session **out,
                                    const bench_prompts *p,
                                    moerun_balance balance,
                                    const moerun__gate_options *gate) {
  const moerun_session_options options = {.max_tokens =
                                              BENCH_PROMPTS * p->longest,
                                          .max_sequences = BENCH_PROMPTS,
                                          .balance = balance};
  moerun__session_extra extra = {0};
  if (gate != NULL) extra.gate = *gate;
  return moerun__session_create_with(out, p->model, &options, &extra);
}

/* Prompt s of rank r is window (r * BENCH_PROMPTS + s) * batches + batch. */
static void write_prompts(bench_prompts *p, int32_t batch, int32_t repeated) {
  const size_t batches = (size_t)p->batches;
  const size_t windows = BENCH_PROMPTS * (size_t)p->comm->size * batches;
  const size_t first = (size_t)p->comm->rank * BENCH_PROMPTS;
  const size_t stride = (p->text.count - (size_t)p->length) / (windows - 1);
  for (int32_t s = 0; s < BENCH_PROMPTS; s++) {
    const size_t window = (first + (size_t)s) * batches + (size_t)batch;
    const int32_t *text = p->text.id + window * stride;
    for (int32_t t = 0; t < p->length; t++) {
      const int32_t row = s * p->length + t;
      p->token[row] = repeated < 0 ? text[t] : repeated;
      p->sequence[row] = s;
      p->position[row] = t;
    }
  }
}

void bench_prompts_write(bench_prompts *p, int32_t length, int32_t repeated) {
  p->length = length;
  write_prompts(p, 0, repeated);
}

void bench_prompts_deal(bench_prompts *p, int32_t most) {
  const size_t prompts = BENCH_PROMPTS * (size_t)p->comm->size;
  const size_t each = p->text.count / prompts;
  const size_t longest = (size_t)p->longest;
  const size_t length = each < longest ? each : longest;
  size_t batches = each / length;
  if (most > 0 && (size_t)most < batches) batches = (size_t)most;
  p->length = (int32_t)length;
  p->batches = (int32_t)batches;
  bench_prompts_write_batch(p, 0);
}

void bench_prompts_write_batch(bench_prompts *p, int32_t batch) {
  write_prompts(p, batch, -1);
}

moerun_status bench_prompts_time(double *seconds, bench_prompts *p,
                                 moerun_session *session, int32_t num_logits,
                                 float *logits) {
  moerun_status status = MOERUN_OK;
  moerun_batch batch = {.num_tokens = BENCH_PROMPTS * p->length,
                        .token = p->token,
                        .sequence = p->sequence,
                        .position = p->position,
                        .logit_row = p->logit_row};
  for (int32_t s = 1; s <= BENCH_PROMPTS; s++) {
    for (int32_t i = num_logits; i > 0; i--) {
      p->logit_row[batch.num_logits++] = s * p->length - i;
    }
  }
  MOERUN_TRY(bench_together(p->comm));
  *seconds = -moerun__now();
  MOERUN_TRY(moerun_forward(session, &batch, logits));
  *seconds += moerun__now();
  MOERUN_TRY(bench_slowest(seconds, p->comm));
done:
  return status;
}

size_t bench_prompts_logits(const bench_prompts *p) {
  return BENCH_PROMPTS * (size_t)p->length *
         (size_t)p->model->config.vocab_size;
}
