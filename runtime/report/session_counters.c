/* What a program may know of a session without a report: this rank's part of
 * it, which costs no message. */
#include "runtime/base/sized.h"
#include "runtime/decoder/session.h"

#include <string.h>

_Static_assert((int)MOERUN_NUM_STAGES <= (int)MOERUN_MAX_STAGES,
               "the public array has room for all stages");

const char *moerun_stage_name(int32_t stage) {
  if (stage < 0 || stage >= MOERUN_NUM_STAGES) return NULL;
  return moerun__stage_name((moerun__stage)stage);
}

moerun_status moerun_session_counters(const moerun_session *session,
                                      moerun_counters *counters) {
  const moerun__stats *stats = &session->stats;
  const moerun__comm_count sent = moerun__session_sent(session);
  const moerun__model_config *config = &session->model->config;
  moerun_counters own = {.steps = stats->steps,
                         .home_rows = stats->home_rows,
                         .rows_local = stats->rows_local,
                         .rows_out = stats->rows_out,
                         .rows_in = stats->rows_in,
                         .results_out = stats->results_out,
                         .rows_moved = stats->rows_moved,
                         .weights_out = stats->weights_out,
                         .messages = sent.messages,
                         .row_bytes = sent.row_bytes,
                         .other_bytes = sent.count_bytes + sent.control_bytes,
                         .rows_of_expert = stats->expert_rows};
  const size_t experts =
      (size_t)config->num_moe_layers * (size_t)config->num_experts;
  for (size_t i = 0; i < experts; i++) {
    own.expert_rows += stats->expert_rows[i];
  }
  memcpy(own.seconds, stats->seconds, sizeof stats->seconds);
  return moerun__sized_write(counters, &own, sizeof own, "moerun_counters");
}
