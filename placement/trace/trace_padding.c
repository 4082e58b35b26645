/* What stands in an array of routed experts without being routing.
 *
 * Servers return a row for every token and layer, and fill in what they did not
 * record: rows of zeros for the last token of an answer, which no layer ever
 * saw, and for dense layers; -1 for what was not captured, which is 255 in an
 * unsigned byte; and the id of a fused shared expert, one more than the last
 * routed one, in a term of its own. None of these may become an expert.
 *
 * A row without routing has no id, or the same id two times or more: experts of
 * a token are distinct, so no gate has chosen that. A single id is a choice,
 * even 0. 255 alone is an expert of a model with 256 or more; where the number
 * of experts is unknown, only what no gate can do tells that it is none. */
#include "placement/trace/trace.h"

#include "runtime/base/log.h"
#include "runtime/base/memory.h"

#include <string.h>

enum {
  BYTE_NONE = 255,  /* -1 in an unsigned byte */
  TELLING_ROWS = 32 /* with fewer a routed expert may be in all by chance */
};

static int64_t row_count(const moerun__trace *trace) {
  return trace->num_tokens * trace->num_layers;
}

static int16_t *row_at(const moerun__trace *trace, int64_t row) {
  return trace->ids + (size_t)row * (size_t)trace->num_terms;
}

static int is_routed(const int16_t *row, int32_t num_terms) {
  int32_t count = 0;
  int16_t first = -1;
  for (int32_t k = 0; k < num_terms; k++) {
    if (row[k] == -1) continue;
    if (count++ == 0) first = row[k];
    if (row[k] != first) return 1;
  }
  return count == 1;
}

static int row_has(const int16_t *row, int32_t num_terms, int32_t id) {
  for (int32_t k = 0; k < num_terms; k++) {
    if (row[k] == id) return 1;
  }
  return 0;
}

/* ---- Rows without routing ------------------------------------------------ */

/* Which tokens route at all; and which layers are not dense, where one id in
 * all terms has to be 0. */
static void find_routed(const moerun__trace *trace, int *layer, int *token) {
  const int32_t L = trace->num_layers;
  for (int64_t row = 0; row < row_count(trace); row++) {
    const int16_t *at = row_at(trace, row);
    const int routed = is_routed(at, trace->num_terms);
    if (routed) token[row / L] = 1;
    if (routed || (at[0] > 0 && at[0] != BYTE_NONE)) layer[row % L] = 1;
  }
}

/* Moves what is kept together. */
static void keep_rows(moerun__trace *trace, const int *layer,
                      const int *token) {
  const int32_t L = trace->num_layers;
  const size_t K = (size_t)trace->num_terms;
  int64_t next = 0; /* row written next */
  int64_t s = 0;
  int64_t kept = 0; /* tokens */
  int32_t num_layers = 0;
  for (int64_t t = 0; t <= trace->num_tokens; t++) {
    while (s <= trace->num_sequences && trace->sequence_offset[s] == t) {
      trace->sequence_offset[s++] = kept;
    }
    if (t == trace->num_tokens || !token[t]) continue;
    for (int32_t l = 0; l < L; l++) {
      if (!layer[l]) continue;
      memmove(row_at(trace, next++), row_at(trace, t * L + l),
              K * sizeof *trace->ids);
    }
    kept++;
  }
  for (int32_t l = 0; l < L; l++) {
    num_layers += layer[l];
  }
  trace->num_tokens = kept;
  trace->num_layers = num_layers;
}

static moerun_status leave_out_rows(moerun__trace *trace, int64_t *left_out,
                                    const char *origin) {
  moerun_status status = MOERUN_OK;
  int *layer = NULL;
  int *token = NULL;
  const int64_t before = trace->num_tokens;
  MOERUN_TRY(moerun__alloc(&layer, (size_t)trace->num_layers, sizeof *layer));
  MOERUN_TRY(moerun__alloc(&token, (size_t)before, sizeof *token));
  find_routed(trace, layer, token);
  int any = 0;
  for (int64_t t = 0; t < before; t++) {
    any |= token[t];
  }
  MOERUN_REQUIRE(any, MOERUN_ERR_FORMAT,
                 "%s: expected routing, found none in any token and layer: no "
                 "expert, or one in all terms",
                 origin);
  keep_rows(trace, layer, token);
  *left_out += before - trace->num_tokens;
done:
  moerun__free(layer);
  moerun__free(token);
  return status;
}

int64_t moerun__trace_unsigned_none(moerun__npy_type type) {
  if (type == MOERUN_NPY_U16) return INT64_C(0xffff);
  return type == MOERUN_NPY_U32 ? INT64_C(0xffffffff) : -1;
}

/* ---- Ids that are no experts --------------------------------------------- */

/* Every row has the id: in any term, or in term k where that is not
 * negative. */
static int is_everywhere(const moerun__trace *trace, int32_t id, int32_t k) {
  for (int64_t row = 0; row < row_count(trace); row++) {
    const int16_t *at = row_at(trace, row);
    if (k >= 0 ? at[k] != id : !row_has(at, trace->num_terms, id)) return 0;
  }
  return 1;
}

static int is_twice(const moerun__trace *trace, int32_t id) {
  for (int64_t row = 0; row < row_count(trace); row++) {
    int32_t count = 0;
    for (int32_t k = 0; k < trace->num_terms; k++) {
      count += row_at(trace, row)[k] == id;
    }
    if (count > 1) return 1;
  }
  return 0;
}

static int32_t largest_id(const moerun__trace *trace) {
  int32_t largest = -1;
  const size_t count = (size_t)row_count(trace) * (size_t)trace->num_terms;
  for (size_t i = 0; i < count; i++) {
    if (trace->ids[i] > largest) largest = trace->ids[i];
  }
  return largest;
}

static int is_byte_none(const moerun__trace *trace, int32_t num_experts) {
  if (num_experts > 0) return num_experts <= BYTE_NONE;
  if (largest_id(trace) != BYTE_NONE) return 0;
  for (int32_t k = 0; k < trace->num_terms; k++) {
    if (is_everywhere(trace, BYTE_NONE, k)) return 1;
  }
  return is_twice(trace, BYTE_NONE);
}

/* The id becomes none, and what is left of each row stands in front, in the
 * same order. Returns how many there were. */
static int64_t drop_id(moerun__trace *trace, int32_t id) {
  int64_t count = 0;
  for (int64_t row = 0; row < row_count(trace); row++) {
    int16_t *at = row_at(trace, row);
    int32_t next = 0;
    if (!row_has(at, trace->num_terms, id)) continue;
    for (int32_t k = 0; k < trace->num_terms; k++) {
      count += at[k] == id;
      if (at[k] != id && at[k] != -1) at[next++] = at[k];
    }
    while (next < trace->num_terms) {
      at[next++] = -1;
    }
  }
  return count;
}

/* Terms that no row has are none. */
static void drop_empty_terms(moerun__trace *trace) {
  const int32_t K = trace->num_terms;
  int32_t kept = 0;
  for (int32_t k = 0; k < K; k++) {
    if (is_everywhere(trace, -1, k)) continue;
    for (int64_t row = 0; kept < k && row < row_count(trace); row++) {
      row_at(trace, row)[kept] = row_at(trace, row)[k];
    }
    kept++;
  }
  for (int64_t row = 0; kept < K && row < row_count(trace); row++) {
    memmove(trace->ids + (size_t)row * (size_t)kept, row_at(trace, row),
            (size_t)kept * sizeof *trace->ids);
  }
  trace->num_terms = kept;
}

/* Shared experts beyond a known number of experts are left out; of an unknown
 * number, the last ones are suspected. */
static void look_for_shared(moerun__trace *trace, int32_t num_experts,
                            const char *origin) {
  const int32_t last = largest_id(trace);
  int32_t first = last + 1;
  if (row_count(trace) < TELLING_ROWS) return;
  for (int32_t e = last; num_experts > 0 && e >= num_experts; e--) {
    if (!is_everywhere(trace, e, -1)) continue;
    (void)drop_id(trace, e);
    LOG_ROOT(MOERUN_LOG_WARN,
             "%s: expert %d, which every token takes in every layer, is not "
             "one of the %d experts: it is left out as a shared one",
             origin, e, num_experts);
  }
  if (num_experts > 0) return;
  while (last + 1 > trace->num_terms && first > 1 &&
         is_everywhere(trace, first - 1, -1)) {
    first--;
  }
  if (first > last) return;
  LOG_ROOT(MOERUN_LOG_WARN,
           "%s: expert %d is taken by every token in every layer, as shared "
           "experts are: --trace-experts %d leaves it out",
           origin, first, first);
}

/* ---- Sequences without tokens -------------------------------------------- */

static void leave_out_sequences(moerun__trace *trace, const char *origin) {
  int64_t kept = 0;
  int64_t *offset = trace->sequence_offset;
  const int64_t before = trace->num_sequences;
  for (int64_t s = 0; s < before; s++) {
    if (offset[s + 1] == offset[kept]) continue;
    if (trace->home != NULL) trace->home[kept] = trace->home[s];
    offset[++kept] = offset[s + 1];
  }
  trace->num_sequences = kept;
  if (kept == before) return;
  LOG_ROOT(MOERUN_LOG_WARN,
           "%s: %lld of %lld sequences have no tokens and are left out", origin,
           (long long)(before - kept), (long long)before);
}

/* ---- All ----------------------------------------------------------------- */

moerun_status moerun__trace_leave_out_padding(moerun__trace *trace,
                                              int32_t num_experts,
                                              const char *origin) {
  moerun_status status = MOERUN_OK;
  const int64_t before = trace->num_tokens;
  int64_t left_out = 0;
  MOERUN_TRY(moerun__trace_check_sequences(trace, origin));
  MOERUN_TRY(leave_out_rows(trace, &left_out, origin));
  if (is_byte_none(trace, num_experts)) {
    const int64_t count = drop_id(trace, BYTE_NONE);
    if (count > 0) {
      LOG_ROOT(MOERUN_LOG_WARN,
               "%s: 255, which is -1 in an unsigned byte, is read as no expert "
               "(%lld times)",
               origin, (long long)count);
    }
  }
  look_for_shared(trace, num_experts, origin);
  MOERUN_TRY(leave_out_rows(trace, &left_out, origin));
  if (left_out > 0) {
    LOG_ROOT(MOERUN_LOG_WARN,
             "%s: %lld of %lld tokens have no routing (no expert, or one in "
             "all terms, in every layer) and are left out",
             origin, (long long)left_out, (long long)before);
  }
  drop_empty_terms(trace);
  leave_out_sequences(trace, origin);
  if (num_experts == 0) moerun__trace_find_experts(trace);
done:
  return status;
}
