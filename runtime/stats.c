#include "runtime/stats.h"

#include "runtime/base/memory.h"
#include "runtime/base/timer.h"
#include "runtime/session.h"

#include <math.h>
#include <string.h>

const char *moerun__stage_name(moerun__stage stage) {
  static const char *const names[] = {
#define STAGE_NAME(name, text) text,
      MOERUN_STAGE_MAP(STAGE_NAME)
#undef STAGE_NAME
  };
  return names[stage];
}

void moerun__stage_begin(moerun__stats *stats) {
  stats->mark = moerun__now();
}

void moerun__stage_end(moerun__stats *stats, moerun__stage stage) {
  const double now = moerun__now();
  stats->seconds[stage] += now - stats->mark;
  stats->mark = now;
}

moerun__stats *moerun__session_stats(moerun_session *session) {
  return &session->stats;
}

void moerun__session_stats_reset(moerun_session *session) {
  const moerun__model_config *config = &session->model->config;
  int64_t *expert_rows = session->stats.expert_rows;
  memset(&session->stats, 0, sizeof session->stats);
  session->stats.expert_rows = expert_rows;
  memset(expert_rows, 0,
         (size_t)config->num_moe_layers * (size_t)config->num_experts *
             sizeof(int64_t));
  memset(&session->moe.gate.counts, 0, sizeof session->moe.gate.counts);
  if (session->moe.balances) moerun__ledger_clear(&session->moe.ledger);
}

double moerun__max_over_mean(const int64_t *counts, int32_t n) {
  int64_t sum = 0;
  int64_t most = 0;
  for (int32_t i = 0; i < n; i++) {
    sum += counts[i];
    if (counts[i] > most) most = counts[i];
  }
  return sum > 0 ? (double)most * (double)n / (double)sum : 1.0;
}

/* ---- Over the ranks ---------------------------------------------------------- */

/* What a rank sends, followed by expert_rows. */
typedef struct rank_part {
  moerun__stats stats;
  moerun__comm_count count;
  int64_t resident_bytes;
  int64_t speed_changes;
  int64_t speed; /* as in moerun__speed */
  moerun__gate_counts gate;
} rank_part;

static void spread_add(moerun__spread *spread, double value, int32_t rank,
                       int32_t num_ranks) {
  if (rank == 0 || value < spread->minimum) spread->minimum = value;
  if (rank == 0 || value > spread->maximum) {
    spread->maximum = value;
    spread->rank_of_maximum = rank;
  }
  spread->mean += value / num_ranks;
}

static void add_gate(moerun__gate_counts *sum, const moerun__gate_counts *part,
                     int32_t rank) {
  moerun__capacity_counts *c = &sum->capacity;
  const moerun__capacity_counts *p = &part->capacity;
  c->tokens += p->tokens;
  c->candidates += p->candidates;
  c->offered += p->offered;
  c->dropped += p->dropped;
  c->added += p->added;
  c->lost_all += p->lost_all;
  if (rank == 0) c->over = p->over;
  c->not_numbers += p->not_numbers;
  c->mass += p->mass;
  c->mass_dropped += p->mass_dropped;
  c->mass_added += p->mass_added;
  sum->width.terms += part->width.terms;
  sum->width.removed += part->width.removed;
  sum->width.mass += part->width.mass;
  sum->width.mass_lost += part->width.mass_lost;
  sum->home.rows += part->home.rows;
  sum->home.terms += part->home.terms;
  sum->home.rows_alone += part->home.rows_alone;
  for (int kind = 0; kind < MOERUN_HOME_KINDS; kind++) {
    sum->home.chosen[kind] += part->home.chosen[kind];
  }
}

static void report_add(moerun__report *report, int32_t rank,
                       const rank_part *part, const int64_t *expert_rows) {
  const int32_t R = report->num_ranks;
  for (int s = 0; s < MOERUN_NUM_STAGES; s++) {
    spread_add(&report->seconds[s], part->stats.seconds[s], rank, R);
  }
  spread_add(&report->resident_bytes, (double)part->resident_bytes, rank, R);
  add_gate(&report->gate, &part->gate, rank);
  report->rows_moved += part->stats.rows_moved;
  report->weights_sent += part->stats.weights_out;
  report->speed_changes += part->speed_changes;
  report->speed[rank] = exp2((double)part->speed / MOERUN_SPEED_OCTAVE);
  report->rows_out += part->stats.rows_out;
  report->rows_local += part->stats.rows_local;
  report->results_out += part->stats.results_out;
  report->home_rows += part->stats.home_rows;
  report->waves += part->stats.waves;
  report->count.row_bytes += part->count.row_bytes;
  report->count.rows += part->count.rows;
  report->count.messages += part->count.messages;
  report->count.count_bytes += part->count.count_bytes;
  report->count.control_bytes += part->count.control_bytes;
  for (int32_t l = 0; l < report->num_moe_layers; l++) {
    for (int32_t e = 0; e < report->num_experts; e++) {
      const int64_t rows =
          expert_rows[(size_t)l * (size_t)report->num_experts + (size_t)e];
      report
          ->expert_rows[(size_t)l * (size_t)report->num_experts + (size_t)e] +=
          rows;
      report->rank_rows[(size_t)l * (size_t)R + (size_t)rank] += rows;
    }
  }
}

static moerun_status report_create(moerun__report **out,
                                   const moerun_session *session) {
  moerun_status status = MOERUN_OK;
  const moerun__model_config *config = &session->model->config;
  moerun__report *report = NULL;
  MOERUN_TRY(moerun__alloc(&report, 1, sizeof *report));
  *out = report;
  report->num_ranks = session->model->comm->size;
  report->num_moe_layers = config->num_moe_layers;
  report->num_experts = config->num_experts;
  const size_t layers = (size_t)config->num_moe_layers;
  MOERUN_TRY(moerun__alloc(&report->expert_rows,
                           layers * (size_t)config->num_experts,
                           sizeof(int64_t)));
  MOERUN_TRY(moerun__alloc(&report->speed, (size_t)report->num_ranks,
                           sizeof *report->speed));
  report->is_lossy = moerun__gate_is_lossy(&session->moe.gate.options);
  if (session->moe.balances) report->ledger = &session->moe.ledger;
  MOERUN_TRY(moerun__alloc(
      &report->rank_rows, layers * (size_t)report->num_ranks, sizeof(int64_t)));
done:
  return status;
}

/* This rank's part and expert_rows as one message. */
static moerun_status pack_part(char **out, size_t *bytes,
                               const moerun_session *session,
                               int64_t resident_bytes) {
  moerun_status status = MOERUN_OK;
  const moerun__model_config *config = &session->model->config;
  const size_t rows_bytes = (size_t)config->num_moe_layers *
                            (size_t)config->num_experts * sizeof(int64_t);
  const rank_part part = {.stats = session->stats,
                          .count = session->model->comm->count,
                          .resident_bytes = resident_bytes,
                          .speed_changes = session->moe.speed.changes,
                          .speed = session->moe.speed.applied,
                          .gate = session->moe.gate.counts};
  *bytes = sizeof part + rows_bytes;
  MOERUN_TRY(moerun__alloc(out, *bytes, 1));
  memcpy(*out, &part, sizeof part);
  memcpy(*out + sizeof part, session->stats.expert_rows, rows_bytes);
done:
  return status;
}

moerun_status moerun__report_collect(moerun__report **out,
                                     moerun_session *session,
                                     int64_t resident_bytes) {
  moerun_status status = MOERUN_OK;
  moerun_comm *comm = session->model->comm;
  char *mine = NULL;
  char *all = NULL;
  size_t bytes = 0;
  *out = NULL;
  status = pack_part(&mine, &bytes, session, resident_bytes);
  if (status == MOERUN_OK && comm->rank == 0) {
    status = moerun__alloc(&all, (size_t)comm->size, bytes);
  }
  if (status == MOERUN_OK && comm->rank == 0) {
    status = report_create(out, session);
  }
  MOERUN_TRY(moerun__comm_agree(comm, status));
  MOERUN_TRY(comm->ops->gather(comm, all, mine, bytes));
  for (int32_t r = 0; comm->rank == 0 && r < comm->size; r++) {
    rank_part part;
    const char *from = all + (size_t)r * bytes;
    memcpy(&part, from, sizeof part);
    report_add(*out, r, &part, (const int64_t *)(from + sizeof part));
  }
done:
  moerun__free(mine);
  moerun__free(all);
  if (status != MOERUN_OK) {
    moerun__report_destroy(*out);
    *out = NULL;
  }
  return status;
}

void moerun__report_destroy(moerun__report *report) {
  if (report == NULL) return;
  moerun__free(report->expert_rows);
  moerun__free(report->rank_rows);
  moerun__free(report->speed);
  moerun__free(report);
}
