/* Options are checked before anything is laid out, because sizes follow from
 * them; and compared over ranks, because a session of other sizes would wait
 * for rows that never come. */
#include "runtime/decoder/session_options.h"

/* ---- What one rank can say ---- */

/* Sizes that could have no effect do not pass in silence. */
static moerun_status check_sequences(const moerun_model *model,
                                     const moerun_session_options *options) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(
      options->max_sequences >= 0 && options->max_sequences <= 1 << 20,
      MOERUN_ERR_INVALID, "max_sequences: expected 0 to %d, found %d", 1 << 20,
      options->max_sequences);
  MOERUN_REQUIRE(!model->moe_only || options->max_sequences == 0,
                 MOERUN_ERR_INVALID,
                 "max_sequences: expected 0, because the model has MoE layers "
                 "alone: there is no decoder; found %d",
                 options->max_sequences);
  MOERUN_REQUIRE(options->kv_tokens >= 0, MOERUN_ERR_INVALID,
                 "kv_tokens: expected 0 or more, found %d", options->kv_tokens);
  MOERUN_REQUIRE(options->max_sequences > 0 || options->kv_tokens == 0,
                 MOERUN_ERR_INVALID,
                 "kv_tokens: expected 0, because max_sequences is 0, found %d",
                 options->kv_tokens);
done:
  return status;
}

static moerun_status check_options(const moerun_model *model,
                                   const moerun_session_options *options) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(options->max_tokens >= 1 && options->max_tokens <= 1 << 20,
                 MOERUN_ERR_INVALID, "max_tokens: expected 1 to %d, found %d",
                 1 << 20, options->max_tokens);
  MOERUN_TRY(check_sequences(model, options));
  MOERUN_REQUIRE(options->chunks >= 0 && options->chunks <= MOERUN_MAX_CHUNKS,
                 MOERUN_ERR_INVALID, "chunks: expected 0 to %d, found %d",
                 MOERUN_MAX_CHUNKS, options->chunks);
  MOERUN_REQUIRE(options->balance >= MOERUN_BALANCE_AUTO &&
                     options->balance <= MOERUN_BALANCE_SLICED,
                 MOERUN_ERR_INVALID, "balance: expected 0 to 2, found %d",
                 (int)options->balance);
  MOERUN_REQUIRE(options->slice_bytes <= INT64_C(1) << 46, MOERUN_ERR_INVALID,
                 "slice_bytes: expected at most %lld, found %lld",
                 (long long)(INT64_C(1) << 46),
                 (long long)options->slice_bytes);
  const int slices =
      options->balance == MOERUN_BALANCE_SLICED ||
      (options->balance == MOERUN_BALANCE_AUTO && options->slice_bytes != 0);
  if (slices && model->comm->size > 1) {
    MOERUN_TRY(moerun__slices_check(&model->config));
  }
  MOERUN_REQUIRE(options->guest_bytes <= INT64_C(1) << 46, MOERUN_ERR_INVALID,
                 "guest_bytes: expected at most %lld, found %lld",
                 (long long)(INT64_C(1) << 46),
                 (long long)options->guest_bytes);
  MOERUN_REQUIRE(options->wire == MOERUN_WIRE_FP32 ||
                     options->wire == MOERUN_WIRE_BF16,
                 MOERUN_ERR_INVALID, "wire: expected 0 or 1, found %d",
                 (int)options->wire);
  MOERUN_REQUIRE(options->compute == MOERUN_COMPUTE_FP32 ||
                     options->compute == MOERUN_COMPUTE_BF16,
                 MOERUN_ERR_INVALID, "compute: expected 0 or 1, found %d",
                 (int)options->compute);
  MOERUN_REQUIRE(options->balance == MOERUN_BALANCE_OFF ||
                     model->comm->size <= MOERUN_BALANCE_MOST_RANKS,
                 MOERUN_ERR_INVALID,
                 "balance: expected at most %d ranks that balance, found %d: "
                 "set it to off",
                 MOERUN_BALANCE_MOST_RANKS, model->comm->size);
done:
  return status;
}

/* Rows of all experts of all tokens are counted in 32 bits. */
moerun_status moerun__session_check(const moerun_model *model,
                                    const moerun_session_options *options,
                                    const moerun__session_extra *extra) {
  moerun_status status = MOERUN_OK;
  const int32_t T = options->max_tokens;
  const int32_t R = model->comm->size;
  const int32_t slots = moerun__moe_most_slots(model, extra->max_slots);
  MOERUN_REQUIRE(extra->tier == NULL ||
                     options->balance == MOERUN_BALANCE_OFF || R == 1,
                 MOERUN_ERR_UNSUPPORTED,
                 "balance: expected off with experts from tier %s, whose "
                 "weights other ranks cannot be sent",
                 extra->tier->ops->name);
  MOERUN_TRY(check_options(model, options));
  MOERUN_TRY(moerun__gate_check(&extra->gate, model, slots));
  const int32_t width = moerun__gate_width(&extra->gate, model, slots);
  MOERUN_REQUIRE((int64_t)T * width * (R > 4 ? R : 4) <= INT32_MAX,
                 MOERUN_ERR_INVALID,
                 "max_tokens: %d rows of %d experts each on %d ranks are too "
                 "many for one step",
                 T, width, R);
done:
  return status;
}

/* ---- What ranks must agree on ---- */

/* Whether `value` is the same on all ranks. */
static moerun_status agree_on(moerun_comm *comm, int64_t value,
                              const char *name) {
  moerun_status status = MOERUN_OK;
  int64_t low = value;
  int64_t high = -value;
  MOERUN_TRY(comm->ops->minimum(comm, &low));
  MOERUN_TRY(comm->ops->minimum(comm, &high));
  MOERUN_REQUIRE(low == -high, MOERUN_ERR_INVALID,
                 "%s: expected the same on all ranks, found %lld to %lld", name,
                 (long long)low, (long long)-high);
done:
  return status;
}

moerun_status moerun__session_agree(const moerun_session *session) {
  moerun_status status = MOERUN_OK;
  moerun_comm *comm = session->model->comm;
  const moerun_session_options *options = &session->options;
  MOERUN_TRY(agree_on(comm, options->max_tokens, "max_tokens"));
  MOERUN_TRY(agree_on(comm, options->max_sequences, "max_sequences"));
  MOERUN_TRY(agree_on(comm, options->kv_tokens, "kv_tokens"));
  MOERUN_TRY(agree_on(comm, options->chunks, "chunks"));
  MOERUN_TRY(agree_on(comm, (int64_t)options->wire, "wire"));
  MOERUN_TRY(agree_on(comm, (int64_t)options->compute, "compute"));
  MOERUN_TRY(agree_on(comm, (int64_t)options->balance, "balance"));
  MOERUN_TRY(agree_on(comm, options->guest_bytes, "guest_bytes"));
  MOERUN_TRY(agree_on(comm, options->slice_bytes, "slice_bytes"));
done:
  return status;
}

moerun_status moerun__session_agree_on_plan(const moerun_session *session) {
  moerun_status status = MOERUN_OK;
  moerun_comm *comm = session->model->comm;
  const moerun__plan_options *options = &session->moe.balance.options;
  MOERUN_TRY(agree_on(comm, options->threshold, "balance_threshold"));
  MOERUN_TRY(agree_on(comm, options->threshold_held, "threshold_held"));
  MOERUN_TRY(agree_on(comm, options->slack, "slack"));
  MOERUN_TRY(agree_on(comm, options->min_rows, "balance_rows"));
  MOERUN_TRY(agree_on(comm, options->min_rows_held, "min_rows_held"));
  MOERUN_TRY(agree_on(comm, options->weight_rows, "weight_rows"));
done:
  return status;
}
