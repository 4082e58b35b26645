/* A trace in memory: its invariants, its halves, its digest. Readers build one
 * with whatever a file says and let moerun__trace_check find what is wrong, so
 * that there is one list of rules and one wording of each. */
#include "placement/trace/trace.h"

#include "runtime/base/digest.h"
#include "runtime/base/limits.h"
#include "runtime/base/memory.h"

#include <assert.h>
#include <string.h>

static size_t row_width(const moerun__trace *trace) {
  return (size_t)trace->num_layers * (size_t)trace->num_terms;
}

/* ---- Create -------------------------------------------------------------- */

moerun_status moerun__trace_create(moerun__trace **out, int64_t num_tokens,
                                   int32_t num_layers, int32_t num_experts,
                                   int32_t num_terms) {
  moerun_status status = MOERUN_OK;
  moerun__trace *trace = NULL;
  *out = NULL;
  MOERUN_REQUIRE(num_tokens >= 1, MOERUN_ERR_FORMAT,
                 "trace: expected at least one token, found %lld",
                 (long long)num_tokens);
  MOERUN_REQUIRE(num_layers >= 1 && num_layers <= MOERUN_PLACEMENT_MAX_LAYERS,
                 MOERUN_ERR_FORMAT,
                 "trace: expected 1 to %d MoE layers, found %d",
                 MOERUN_PLACEMENT_MAX_LAYERS, num_layers);
  MOERUN_REQUIRE(num_experts >= 0 && num_experts <= MOERUN_TRACE_MAX_EXPERTS,
                 MOERUN_ERR_FORMAT, "trace: expected 1 to %d experts, found %d",
                 MOERUN_TRACE_MAX_EXPERTS, num_experts);
  MOERUN_REQUIRE(num_terms >= 1 && num_terms <= MOERUN_TRACE_MAX_EXPERTS,
                 MOERUN_ERR_FORMAT,
                 "trace: expected 1 to %d experts per token, found %d",
                 MOERUN_TRACE_MAX_EXPERTS, num_terms);
  MOERUN_TRY(moerun__alloc(&trace, 1, sizeof *trace));
  assert(trace != NULL); /* alloc succeeded */
  trace->num_tokens = num_tokens;
  trace->num_layers = num_layers;
  trace->num_experts = num_experts;
  trace->num_terms = num_terms;
  MOERUN_REQUIRE(num_tokens <= INT64_MAX / 4 / (int64_t)row_width(trace),
                 MOERUN_ERR_NOMEM, "out of memory: a trace of %lld tokens",
                 (long long)num_tokens);
  MOERUN_TRY(moerun__copy_text(&trace->model, ""));
  MOERUN_TRY(moerun__alloc(&trace->ids, (size_t)num_tokens * row_width(trace),
                           sizeof *trace->ids));
  MOERUN_TRY(moerun__trace_set_sequences(trace, 1, (int64_t[]){0, num_tokens}));
  *out = trace;
  trace = NULL;
done:
  moerun__trace_destroy(trace);
  return status;
}

void moerun__trace_destroy(moerun__trace *trace) {
  if (trace == NULL) return;
  moerun__free(trace->model);
  moerun__free(trace->ids);
  moerun__free(trace->sequence_offset);
  moerun__free(trace->home);
  moerun__free(trace);
}

moerun_status moerun__trace_set_sequences(moerun__trace *trace,
                                          int64_t num_sequences,
                                          const int64_t *sequence_offset) {
  moerun_status status = MOERUN_OK;
  int64_t *copy = NULL;
  const size_t count = (size_t)num_sequences + 1;
  MOERUN_TRY(moerun__alloc(&copy, count, sizeof *copy));
  memcpy(copy, sequence_offset, count * sizeof *copy);
  moerun__free(trace->sequence_offset);
  trace->sequence_offset = copy;
  trace->num_sequences = num_sequences;
done:
  return status;
}

void moerun__trace_drop_empty(moerun__trace *trace) {
  int64_t kept = 0;
  for (int64_t s = 0; s < trace->num_sequences; s++) {
    const int64_t end = trace->sequence_offset[s + 1];
    if (end == trace->sequence_offset[kept]) continue;
    if (trace->home != NULL) trace->home[kept] = trace->home[s];
    trace->sequence_offset[++kept] = end;
  }
  trace->num_sequences = kept;
}

void moerun__trace_find_experts(moerun__trace *trace) {
  const size_t count = (size_t)trace->num_tokens * row_width(trace);
  int32_t largest = -1;
  for (size_t i = 0; i < count; i++) {
    if (trace->ids[i] > largest) largest = trace->ids[i];
  }
  trace->num_experts = largest + 1;
}

/* ---- Check --------------------------------------------------------------- */

moerun_status moerun__trace_check_sequences(const moerun__trace *trace,
                                            const char *origin) {
  moerun_status status = MOERUN_OK;
  const int64_t *offset = trace->sequence_offset;
  const int64_t num = trace->num_sequences;
  MOERUN_REQUIRE(num >= 1, MOERUN_ERR_FORMAT,
                 "%s: expected at least one sequence, found %lld", origin,
                 (long long)num);
  MOERUN_REQUIRE(offset[0] == 0, MOERUN_ERR_FORMAT,
                 "%s: sequence 0: expected to begin at token 0, found %lld",
                 origin, (long long)offset[0]);
  for (int64_t s = 0; s < num; s++) {
    MOERUN_REQUIRE(offset[s + 1] >= offset[s], MOERUN_ERR_FORMAT,
                   "%s: sequence %lld: expected to end at token %lld or later, "
                   "found %lld",
                   origin, (long long)s, (long long)offset[s],
                   (long long)offset[s + 1]);
  }
  MOERUN_REQUIRE(offset[num] == trace->num_tokens, MOERUN_ERR_FORMAT,
                 "%s: sequence %lld: expected to end at token %lld, the last, "
                 "found %lld",
                 origin, (long long)num - 1, (long long)trace->num_tokens,
                 (long long)offset[num]);
  for (int64_t s = 0; trace->home != NULL && s < num; s++) {
    MOERUN_REQUIRE(trace->home[s] >= 0 && trace->home[s] < trace->num_ranks,
                   MOERUN_ERR_FORMAT,
                   "%s: sequence %lld: expected a rank from 0 to %d, found %d",
                   origin, (long long)s, trace->num_ranks - 1, trace->home[s]);
  }
done:
  return status;
}

/* The K terms of one token in one layer; seen[E] holds, per expert, the last
 * row that had it, counted from 1. */
static moerun_status check_terms(const moerun__trace *trace, int64_t row,
                                 int64_t *seen, int *any, const char *origin) {
  moerun_status status = MOERUN_OK;
  const int32_t K = trace->num_terms;
  const int16_t *ids = trace->ids + (size_t)row * (size_t)K;
  const long long token = (long long)(row / trace->num_layers);
  const int32_t layer = (int32_t)(row % trace->num_layers);
  for (int32_t k = 0; k < K; k++) {
    if (ids[k] == -1) continue;
    MOERUN_REQUIRE(ids[k] >= 0 && ids[k] < trace->num_experts,
                   MOERUN_ERR_FORMAT,
                   "%s: token %lld, layer %d, term %d: expected an expert from "
                   "0 to %d, or -1 for none, found %d",
                   origin, token, layer, k, trace->num_experts - 1, ids[k]);
    MOERUN_REQUIRE(seen[ids[k]] != row + 1, MOERUN_ERR_FORMAT,
                   "%s: token %lld, layer %d: expected distinct experts, found "
                   "%d twice",
                   origin, token, layer, ids[k]);
    seen[ids[k]] = row + 1;
    *any = 1;
  }
done:
  return status;
}

moerun_status moerun__trace_check(const moerun__trace *trace,
                                  const char *origin) {
  moerun_status status = MOERUN_OK;
  int64_t *seen = NULL;
  int *any = NULL; /* [L] whether the layer routes at all */
  const int32_t L = trace->num_layers;
  MOERUN_REQUIRE(trace->num_experts >= trace->num_terms, MOERUN_ERR_FORMAT,
                 "%s: expected at most as many terms as experts, found %d "
                 "terms and %d experts",
                 origin, trace->num_terms, trace->num_experts);
  MOERUN_TRY(moerun__trace_check_sequences(trace, origin));
  MOERUN_TRY(moerun__alloc(&seen, (size_t)trace->num_experts, sizeof *seen));
  MOERUN_TRY(moerun__alloc(&any, (size_t)L, sizeof *any));
  for (int64_t row = 0; row < trace->num_tokens * L; row++) {
    MOERUN_TRY(check_terms(trace, row, seen, &any[row % L], origin));
  }
  for (int32_t l = 0; l < L; l++) {
    MOERUN_REQUIRE(any[l], MOERUN_ERR_FORMAT,
                   "%s: layer %d: expected experts, found none in all %lld "
                   "tokens",
                   origin, l, (long long)trace->num_tokens);
  }
done:
  moerun__free(seen);
  moerun__free(any);
  return status;
}

/* ---- Use ----------------------------------------------------------------- */

moerun_status moerun__trace_select(moerun__trace **out,
                                   const moerun__trace *trace, int64_t first,
                                   int64_t stride, const char *origin) {
  moerun_status status = MOERUN_OK;
  moerun__trace *part = NULL;
  int64_t *offset = NULL;
  const int64_t num = trace->num_sequences;
  const size_t width = row_width(trace);
  int64_t count = 0;
  *out = NULL;
  MOERUN_REQUIRE(
      first >= 0 && stride >= 1 && first < num, MOERUN_ERR_INVALID,
      "%s: expected a sequence of number %lld, counted from 0, found %lld in "
      "all",
      origin, (long long)first, (long long)num);
  MOERUN_TRY(moerun__alloc(&offset, (size_t)num + 1, sizeof *offset));
  for (int64_t s = first; s < num; s += stride) {
    offset[count + 1] = offset[count] + trace->sequence_offset[s + 1] -
                        trace->sequence_offset[s];
    count++;
  }
  MOERUN_REQUIRE(offset[count] > 0, MOERUN_ERR_INVALID,
                 "%s: expected tokens in sequence %lld or in one that is a "
                 "multiple of %lld behind it, found none",
                 origin, (long long)first, (long long)stride);
  MOERUN_TRY(moerun__trace_create(&part, offset[count], trace->num_layers,
                                  trace->num_experts, trace->num_terms));
  assert(part != NULL); /* create succeeded */
  MOERUN_TRY(moerun__trace_set_sequences(part, count, offset));
  moerun__free(part->model);
  part->model = NULL;
  MOERUN_TRY(moerun__copy_text(&part->model, trace->model));
  part->gate_order = trace->gate_order;
  if (trace->home != NULL) {
    part->num_ranks = trace->num_ranks;
    MOERUN_TRY(moerun__alloc(&part->home, (size_t)count, sizeof *part->home));
  }
  for (int64_t i = 0; i < count; i++) {
    const int64_t s = first + i * stride;
    if (trace->home != NULL) part->home[i] = trace->home[s];
    memcpy(part->ids + (size_t)offset[i] * width,
           trace->ids + (size_t)trace->sequence_offset[s] * width,
           (size_t)(offset[i + 1] - offset[i]) * width * sizeof *part->ids);
  }
  *out = part;
  part = NULL;
done:
  moerun__free(offset);
  moerun__trace_destroy(part);
  return status;
}

uint64_t moerun__trace_digest(const moerun__trace *trace) {
  const int64_t sizes[] = {trace->num_tokens, trace->num_layers,
                           trace->num_experts, trace->num_terms,
                           trace->num_sequences};
  uint64_t digest = MOERUN_DIGEST_START;
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    digest = moerun__digest_int(digest, sizes[i]);
  }
  for (int64_t s = 0; s < trace->num_sequences; s++) {
    digest = moerun__digest_int(digest, trace->sequence_offset[s + 1]);
  }
  const size_t count = (size_t)trace->num_tokens * row_width(trace);
  for (size_t i = 0; i < count; i++) {
    const unsigned id = (unsigned)trace->ids[i];
    const unsigned char b[] = {(unsigned char)id, (unsigned char)(id >> 8)};
    digest = moerun__digest_bytes(digest, b, sizeof b);
  }
  return digest;
}
