#include "launch/balance_table.h"

/* ---- Derived numbers ----------------------------------------------------------- */

static double ratio(double a, double b) {
  return b > 0 ? a / b : 0;
}

/* Rows of the busiest rank over the mean. */
static double over_mean(const moerun__ledger *ledger, int64_t peak,
                        int64_t rows) {
  return ratio((double)peak * ledger->num_ranks, (double)rows);
}

/* Share of the ranks' time that they wait for the one that is busy for
 * longest. */
static double idle(const moerun__ledger *ledger,
                   const moerun__ledger_entry *entry) {
  const double all = (double)entry->busy_most_us * (double)ledger->num_ranks;
  return all > 0 ? 1 - (double)entry->busy_sum_us / all : 0;
}

static moerun__ledger_entry total_of(const moerun__ledger *ledger) {
  moerun__ledger_entry total = {0};
  for (int32_t l = 0; l < ledger->num_layers; l++) {
    const moerun__ledger_entry *entry = &ledger->layers[l];
    total.plans += entry->plans;
    total.moved += entry->moved;
    total.sliced += entry->sliced;
    total.rows += entry->rows;
    total.peak_routed += entry->peak_routed;
    total.peak_planned += entry->peak_planned;
    total.time_routed += entry->time_routed;
    total.time_planned += entry->time_planned;
    total.busy_most_us += entry->busy_most_us;
    total.busy_sum_us += entry->busy_sum_us;
  }
  return total;
}

/* ---- JSON ------------------------------------------------------------------------ */

static moerun_status put_entry(moerun__text *out, const moerun__ledger *ledger,
                               const moerun__ledger_entry *e) {
  return moerun__text_print(
      out,
      "\"plans\": %lld, \"moved\": %lld, \"sliced\": %lld, \"rows\": %lld, "
      "\"rank_max_over_mean\": {\"routed\": %.6g, \"planned\": %.6g}, "
      "\"time_over_best\": {\"routed\": %.6g, \"planned\": %.6g}, "
      "\"busy_seconds\": {\"max\": %.6f, \"mean\": %.6f}, \"idle\": %.4f",
      (long long)e->plans, (long long)e->moved, (long long)e->sliced,
      (long long)e->rows, over_mean(ledger, e->peak_routed, e->rows),
      over_mean(ledger, e->peak_planned, e->rows),
      ratio((double)e->time_routed, 1000 * (double)e->plans),
      ratio((double)e->time_planned, 1000 * (double)e->plans),
      1e-6 * (double)e->busy_most_us,
      1e-6 * ratio((double)e->busy_sum_us, ledger->num_ranks), idle(ledger, e));
}

static moerun_status put_ranks(moerun__text *out,
                               const moerun__report *report) {
  moerun_status status = MOERUN_OK;
  const moerun__ledger *ledger = report->ledger;
  MOERUN_TRY(moerun__text_print(out, ",\n    \"ranks\": ["));
  for (int32_t r = 0; r < ledger->num_ranks; r++) {
    MOERUN_TRY(moerun__text_print(
        out,
        "%s{\"speed\": %.4g, \"layers_last\": %lld, \"busy_seconds_p50\": "
        "%.3g, \"busy_seconds_p99\": %.3g}",
        r > 0 ? ",\n      " : "", report->speed[r],
        (long long)ledger->last_count[r],
        moerun__ledger_quantile(ledger, r, 0.5),
        moerun__ledger_quantile(ledger, r, 0.99)));
  }
  MOERUN_TRY(moerun__text_print(out, "]"));
done:
  return status;
}

static moerun_status put_layers(moerun__text *out,
                                const moerun__ledger *ledger) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__text_print(out, ",\n    \"layers\": ["));
  for (int32_t l = 0; l < ledger->num_layers; l++) {
    MOERUN_TRY(moerun__text_print(out, l > 0 ? ",\n      {" : "{"));
    MOERUN_TRY(put_entry(out, ledger, &ledger->layers[l]));
    MOERUN_TRY(moerun__text_print(out, "}"));
  }
  MOERUN_TRY(moerun__text_print(out, "]"));
done:
  return status;
}

static moerun_status put_steps(moerun__text *out,
                               const moerun__ledger *ledger) {
  moerun_status status = MOERUN_OK;
  const int64_t first = ledger->num_steps > MOERUN_LEDGER_STEPS
                            ? ledger->num_steps - MOERUN_LEDGER_STEPS
                            : 0;
  MOERUN_TRY(moerun__text_print(out, ",\n    \"steps\": ["));
  for (int64_t s = first; s < ledger->num_steps; s++) {
    const moerun__ledger_entry *entry = &ledger->steps[s % MOERUN_LEDGER_STEPS];
    MOERUN_TRY(moerun__text_print(out, "%s{\"step\": %lld, \"last\": %d, ",
                                  s > first ? ",\n      " : "", (long long)s,
                                  entry->last));
    MOERUN_TRY(put_entry(out, ledger, entry));
    MOERUN_TRY(moerun__text_print(out, "}"));
  }
  MOERUN_TRY(moerun__text_print(out, "]"));
done:
  return status;
}

moerun_status moerun__balance_json(moerun__text *out,
                                   const moerun__report *report) {
  moerun_status status = MOERUN_OK;
  const moerun__ledger *ledger = report->ledger;
  if (ledger == NULL) goto done;
  const moerun__ledger_entry total = total_of(ledger);
  MOERUN_TRY(moerun__text_print(out, ",\n  \"balance\": {"));
  MOERUN_TRY(put_entry(out, ledger, &total));
  MOERUN_TRY(moerun__text_print(
      out,
      ",\n    \"rows_moved\": %lld, \"weights_sent\": %lld, "
      "\"speed_changes\": %lld",
      (long long)report->rows_moved, (long long)report->weights_sent,
      (long long)report->speed_changes));
  MOERUN_TRY(put_ranks(out, report));
  MOERUN_TRY(put_layers(out, ledger));
  MOERUN_TRY(put_steps(out, ledger));
  MOERUN_TRY(moerun__text_print(out, "}"));
done:
  return status;
}

/* ---- For people --------------------------------------------------------------------- */

void moerun__balance_print(FILE *stream, const moerun__report *report) {
  const moerun__ledger *ledger = report->ledger;
  if (ledger == NULL) return;
  const moerun__ledger_entry total = total_of(ledger);
  int32_t last = 0;
  int64_t layers = 0;
  for (int32_t r = 0; r < ledger->num_ranks; r++) {
    layers += ledger->last_count[r];
    if (ledger->last_count[r] > ledger->last_count[last]) last = r;
  }
  (void)fprintf(stream,
                "balance          max/mean %.2f as routed, %.2f as run; %lld "
                "rows and %lld experts moved in %lld of %lld layers\n",
                over_mean(ledger, total.peak_routed, total.rows),
                over_mean(ledger, total.peak_planned, total.rows),
                (long long)report->rows_moved, (long long)report->weights_sent,
                (long long)total.moved, (long long)total.plans);
  if (total.sliced > 0) {
    (void)fprintf(
        stream,
        "sliced           all ranks computed a part of each expert in "
        "%lld of %lld layers\n",
        (long long)total.sliced, (long long)total.plans);
  }
  (void)fprintf(stream,
                "idle             %.1f %% of the expert stage; rank %d was "
                "last in %.0f %% of layers; %lld changes of speed\n",
                100 * idle(ledger, &total), last,
                100 * ratio((double)ledger->last_count[last], (double)layers),
                (long long)report->speed_changes);
}

/* ---- Lossy routing ------------------------------------------------------------------ */

moerun_status moerun__lossy_json(moerun__text *out,
                                 const moerun__report *report) {
  moerun_status status = MOERUN_OK;
  const moerun__capacity_counts *c = &report->gate.capacity;
  const moerun__width_counts *w = &report->gate.width;
  if (!report->is_lossy) goto done;
  MOERUN_TRY(moerun__text_print(
      out,
      ",\n  \"lossy\": {\"capacity\": {\"tokens\": %lld, \"assignments\": "
      "%lld, \"dropped\": %lld, \"offered\": %lld, \"added\": %lld, "
      "\"lost_all\": %lld,\n    \"over\": %lld, \"not_numbers\": %lld, "
      "\"mass\": %.9g, \"mass_dropped\": %.9g, \"mass_added\": %.9g},",
      (long long)c->tokens, (long long)c->candidates, (long long)c->dropped,
      (long long)c->offered, (long long)c->added, (long long)c->lost_all,
      (long long)c->over, (long long)c->not_numbers, c->mass, c->mass_dropped,
      c->mass_added));
  MOERUN_TRY(moerun__text_print(
      out,
      "\n    \"width\": {\"assignments\": %lld, \"removed\": %lld, "
      "\"mass\": %.9g, \"mass_lost\": %.9g}}",
      (long long)w->terms, (long long)w->removed, w->mass, w->mass_lost));
done:
  return status;
}

void moerun__lossy_print(FILE *stream, const moerun__report *report) {
  const moerun__capacity_counts *c = &report->gate.capacity;
  const moerun__width_counts *w = &report->gate.width;
  if (!report->is_lossy) return;
  if (c->candidates > 0) {
    (void)fprintf(
        stream,
        "dropped          %.2f %% of assignments, %.2f %% of gate weight; "
        "%lld added; %lld tokens with no expert left\n",
        100 * ratio((double)c->dropped, (double)c->candidates),
        100 * ratio(c->mass_dropped, c->mass), (long long)c->added,
        (long long)c->lost_all);
  }
  if (w->terms > 0) {
    (void)fprintf(stream,
                  "left out         %.2f %% of assignments, %.2f %% of gate "
                  "weight, by tokens that need fewer experts\n",
                  100 * ratio((double)w->removed, (double)w->terms),
                  100 * ratio(w->mass_lost, w->mass));
  }
}
