/* The statistics of all ranks in one message each. Numbers that all ranks know
 * are taken from rank 0 alone. */
#include "runtime/report/report.h"

#include "runtime/base/memory.h"
#include "runtime/moe/agree.h"

#include <math.h>
#include <string.h>

double moerun__max_over_mean(const int64_t *counts, int32_t n) {
  int64_t sum = 0;
  int64_t most = 0;
  for (int32_t i = 0; i < n; i++) {
    sum += counts[i];
    if (counts[i] > most) most = counts[i];
  }
  return sum > 0 ? (double)most * (double)n / (double)sum : 1.0;
}

/* ---- Over the ranks ------------------------------------------------------ */

/* What a rank sends, followed by expert_rows and the gate's counts by layer. */
typedef struct rank_part {
  moerun__stats stats;
  moerun__comm_count count;
  int64_t resident_bytes;
  int64_t weight_bytes;
  int64_t speed;                   /* as in moerun__speed */
  int32_t told[MOERUN_TOLD_WORDS]; /* of the last layer */
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

/* Where ranks may have found the same, rank 0's counts. */
static void add_gate(moerun__gate_counts *sum, const moerun__gate_counts *part,
                     int32_t rank) {
  moerun__gate_counts counted = *part;
  if (rank != 0) counted.capacity.over = 0;
  moerun__gate_counts_add(sum, &counted);
}

static moerun__quantiles quantiles_of(const moerun__histogram *histogram) {
  return (moerun__quantiles){moerun__histogram_quantile(histogram, 0.5),
                             moerun__histogram_quantile(histogram, 0.9),
                             moerun__histogram_quantile(histogram, 0.99),
                             histogram->longest};
}

static void add_times(moerun__report *report, int32_t rank,
                      const moerun__stats *stats) {
  for (int32_t i = 0; i < MOERUN_NUM_LAYER_TIMES; i++) {
    report->layer_time[i * report->num_ranks + rank] =
        quantiles_of(&stats->layer_time[i]);
  }
  if (stats->cpu_seconds > 0) {
    report->wall_over_cpu[rank] = stats->cpu_wall / stats->cpu_seconds;
  }
  moerun__histogram_merge(&report->first_token, &stats->first_token);
  moerun__histogram_merge(&report->per_token, &stats->per_token);
}

static void report_add(moerun__report *report, int32_t rank,
                       const rank_part *part, const int64_t *expert_rows) {
  add_times(report, rank, &part->stats);
  const int32_t R = report->num_ranks;
  for (int s = 0; s < MOERUN_NUM_STAGES; s++) {
    spread_add(&report->seconds[s], part->stats.seconds[s], rank, R);
  }
  spread_add(&report->resident_bytes, (double)part->resident_bytes, rank, R);
  report->rows_moved += part->stats.rows_moved;
  report->weights_sent += part->stats.weights_out;
  report->weight_bytes += part->weight_bytes;
  for (int w = 0; w < MOERUN_MOST_WAYS; w++) {
    report->way_bytes[w] += part->stats.way_bytes[w];
  }
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

static void add_layers(moerun__report *report, int32_t rank,
                       const moerun__gate_counts *of_layer) {
  for (int32_t l = 0; l < report->num_moe_layers; l++) {
    add_gate(&report->gate_of_layer[l], &of_layer[l], rank);
    add_gate(&report->gate, &of_layer[l], rank);
  }
}

static moerun_status report_create(moerun__report **out,
                                   const moerun_session *session) {
  moerun_status status = MOERUN_OK;
  const moerun__model_config *config = &session->model->config;
  moerun__report *report = NULL;
  MOERUN_TRY(moerun__alloc(&report, 1, sizeof *report));
  *out = report;
  report->ways = session->moe.ways.table;
  report->num_ranks = session->model->comm->size;
  report->num_moe_layers = config->num_moe_layers;
  report->num_experts = config->num_experts;
  const size_t layers = (size_t)config->num_moe_layers;
  MOERUN_TRY(moerun__alloc(&report->expert_rows,
                           layers * (size_t)config->num_experts,
                           sizeof(int64_t)));
  MOERUN_TRY(moerun__alloc(&report->speed, (size_t)report->num_ranks,
                           sizeof *report->speed));
  MOERUN_TRY(moerun__alloc(&report->wall_over_cpu, (size_t)report->num_ranks,
                           sizeof *report->wall_over_cpu));
  MOERUN_TRY(moerun__alloc(&report->layer_time,
                           MOERUN_NUM_LAYER_TIMES * (size_t)report->num_ranks,
                           sizeof *report->layer_time));
  MOERUN_TRY(moerun__alloc(&report->gate_of_layer, layers,
                           sizeof *report->gate_of_layer));
  report->is_lossy = moerun__gate_is_lossy(&session->moe.gate.options);
  if (session->moe.balance.is_on) report->ledger = &session->moe.balance.ledger;
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
  const size_t gate_bytes =
      (size_t)config->num_moe_layers * sizeof(moerun__gate_counts);
  rank_part part = {.stats = session->stats,
                    .count = moerun__session_sent(session),
                    .resident_bytes = resident_bytes,
                    .weight_bytes =
                        moerun__store_bytes_sent(&session->moe.store),
                    .speed = session->moe.balance.speed.applied};
  moerun__tell_of_layer(&session->moe, part.told);
  *bytes = sizeof part + rows_bytes + gate_bytes;
  MOERUN_TRY(moerun__alloc(out, *bytes, 1));
  memcpy(*out, &part, sizeof part);
  memcpy(*out + sizeof part, session->stats.expert_rows, rows_bytes);
  memcpy(*out + sizeof part + rows_bytes, session->moe.gate.of_layer,
         gate_bytes);
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
  int32_t *told = NULL;
  size_t bytes = 0;
  *out = NULL;
  status = pack_part(&mine, &bytes, session, resident_bytes);
  if (status == MOERUN_OK && comm->rank == 0) {
    status = moerun__alloc(&all, (size_t)comm->size, bytes);
  }
  if (status == MOERUN_OK && comm->rank == 0) {
    status = moerun__alloc(&told, (size_t)comm->size,
                           sizeof *told * MOERUN_TOLD_WORDS);
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
    memcpy(told + (size_t)r * MOERUN_TOLD_WORDS, part.told, sizeof part.told);
    from += sizeof part;
    report_add(*out, r, &part, (const int64_t *)from);
    from += (size_t)(*out)->num_moe_layers * (size_t)(*out)->num_experts *
            sizeof(int64_t);
    add_layers(*out, r, (const moerun__gate_counts *)from);
  }
  if (comm->rank == 0 && session->moe.balance.is_on) {
    moerun__ledger_end(&session->moe.balance.ledger, told);
  }
done:
  moerun__free(mine);
  moerun__free(all);
  moerun__free(told);
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
  moerun__free(report->wall_over_cpu);
  moerun__free(report->layer_time);
  moerun__free(report->gate_of_layer);
  moerun__free(report);
}
