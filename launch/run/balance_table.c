#include "launch/run/balance_table.h"

#include "launch/table_line.h"

#include <math.h>

static const double mib = 1048576.0;

/* ---- Derived numbers ----------------------------------------------------- */

static double ratio(double a, double b) {
  return b > 0 ? a / b : 0;
}

/* ---- JSON ---------------------------------------------------------------- */

/* Plans by the way that they chose, but for whole experts. */
static moerun_status put_ways(moerun__text *out, const moerun__way_table *ways,
                              const moerun__ledger_entry *e) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__text_print(out, "\"plans\": %lld, \"moved\": %lld, ",
                                (long long)e->plans, (long long)e->moved));
  for (int32_t w = 1; w < ways->count; w++) {
    MOERUN_TRY(moerun__text_print(out, "\"%s\": %lld, ", ways->way[w]->name,
                                  (long long)e->way[w].plans));
  }
done:
  return status;
}

/* What ranks sent for each way of which that is foretold. */
static moerun_status put_way_bytes(moerun__text *out,
                                   const moerun__way_table *ways,
                                   const moerun__ledger_entry *e) {
  moerun_status status = MOERUN_OK;
  for (int32_t w = 1; w < ways->count; w++) {
    const char *key = ways->way[w]->bytes_key;
    if (key == NULL) continue;
    MOERUN_TRY(moerun__text_print(out, ", \"%s\": %lld", key,
                                  (long long)e->way[w].bytes));
  }
done:
  return status;
}

static moerun_status put_rows(moerun__text *out, const moerun__ledger *ledger,
                              const moerun__ledger_entry *e) {
  const int32_t R = ledger->num_ranks;
  return moerun__text_print(
      out,
      "\"rows\": %lld, \"rows_computed\": %lld, \"unplanned_rows\": %lld, "
      "\"expert_max_over_mean\": %.6g, \"empty_experts\": %lld, "
      "\"rank_max_over_mean\": {\"routed\": %.6g, \"planned\": %.6g, "
      "\"computed\": %.6g}, \"rank_deviation_over_mean\": {\"routed\": %.6g, "
      "\"planned\": %.6g}",
      (long long)e->rows, (long long)e->rows_told, (long long)e->unplanned,
      moerun__peak_over_mean(e->peak_expert, e->rows, ledger->num_experts),
      (long long)e->empty, moerun__peak_over_mean(e->peak_routed, e->rows, R),
      moerun__peak_over_mean(e->peak_planned, e->rows, R),
      moerun__peak_over_mean(e->peak_told, e->rows_told, R),
      ratio(e->deviation_routed * R, (double)e->rows),
      ratio(e->deviation_planned * R, (double)e->rows));
}

static moerun_status put_times(moerun__text *out, const moerun__ledger *ledger,
                               const moerun__ledger_entry *e) {
  return moerun__text_print(
      out,
      ", \"time_over_best\": {\"routed\": %.6g, \"planned\": %.6g}, "
      "\"busy_seconds\": {\"max\": %.6f, \"mean\": %.6f}, \"idle\": %.4f",
      ratio((double)e->time_routed, 1000 * (double)e->plans),
      ratio((double)e->time_planned, 1000 * (double)e->plans),
      1e-6 * (double)e->busy_most_us,
      1e-6 * ratio((double)e->busy_sum_us, ledger->num_ranks),
      moerun__ledger_idle(ledger, e));
}

static moerun_status put_changes(moerun__text *out,
                                 const moerun__way_table *ways,
                                 const moerun__ledger_entry *e) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__text_print(
      out,
      ", \"rows_moved\": %lld, \"weights_sent\": %lld, \"weight_bytes\": %lld",
      (long long)e->rows_moved, (long long)e->weights_sent,
      (long long)e->weight_bytes));
  MOERUN_TRY(put_way_bytes(out, ways, e));
  MOERUN_TRY(moerun__text_print(
      out, ", \"plan_changes\": %lld, \"speed_changes\": %lld",
      (long long)e->kind_changes, (long long)e->speed_changes));
done:
  return status;
}

/* Milliseconds of rows of the fastest rank. */
static double ms_of(const moerun__ledger *ledger, int64_t rows) {
  return 1e3 * ledger->row_seconds * (double)rows;
}

static moerun_status put_uneven(moerun__text *out, const moerun__ledger *ledger,
                                const moerun__ledger_entry *e) {
  return moerun__text_print(
      out,
      ", \"uneven\": {\"plans\": %lld, \"no_room\": %lld, "
      "\"waiting_ms\": %.6g, \"no_room_ms\": %.6g, \"weights_ms\": %.6g}",
      (long long)e->uneven, (long long)e->no_room,
      ms_of(ledger, e->waiting_rows), ms_of(ledger, e->room_rows),
      ms_of(ledger, e->price_rows));
}

static double mass_of(int64_t units) {
  return (double)units / MOERUN_MASS_ONE;
}

static moerun_status put_drops(moerun__text *out,
                               const moerun__ledger_entry *e) {
  return moerun__text_print(
      out,
      ", \"assignments\": %lld, \"dropped\": %lld, \"mass\": %.9g, "
      "\"mass_dropped\": %.9g",
      (long long)e->offered, (long long)e->dropped, mass_of(e->mass),
      mass_of(e->mass_dropped));
}

static moerun_status put_entry(moerun__text *out, const moerun__report *report,
                               const moerun__ledger_entry *e) {
  moerun_status status = MOERUN_OK;
  const moerun__ledger *ledger = report->ledger;
  MOERUN_TRY(put_ways(out, report->ways, e));
  MOERUN_TRY(put_rows(out, ledger, e));
  MOERUN_TRY(put_times(out, ledger, e));
  MOERUN_TRY(put_changes(out, report->ways, e));
  MOERUN_TRY(put_uneven(out, ledger, e));
  if (report->is_lossy) MOERUN_TRY(put_drops(out, e));
done:
  return status;
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
        moerun__histogram_quantile(&ledger->duration[r], 0.5),
        moerun__histogram_quantile(&ledger->duration[r], 0.99)));
  }
  MOERUN_TRY(moerun__text_print(out, "]"));
done:
  return status;
}

static moerun_status put_layers(moerun__text *out,
                                const moerun__report *report) {
  moerun_status status = MOERUN_OK;
  const moerun__ledger *ledger = report->ledger;
  MOERUN_TRY(moerun__text_print(out, ",\n    \"layers\": ["));
  for (int32_t l = 0; l < ledger->num_layers; l++) {
    MOERUN_TRY(moerun__text_print(out, l > 0 ? ",\n      {" : "{"));
    MOERUN_TRY(put_entry(out, report, &ledger->layers[l]));
    MOERUN_TRY(moerun__text_print(out, "}"));
  }
  MOERUN_TRY(moerun__text_print(out, "]"));
done:
  return status;
}

static moerun_status put_steps(moerun__text *out,
                               const moerun__report *report) {
  moerun_status status = MOERUN_OK;
  const moerun__ledger *ledger = report->ledger;
  const int64_t first = ledger->num_steps > MOERUN_LEDGER_STEPS
                            ? ledger->num_steps - MOERUN_LEDGER_STEPS
                            : 0;
  MOERUN_TRY(moerun__text_print(out, ",\n    \"steps\": ["));
  for (int64_t s = first; s < ledger->num_steps; s++) {
    const moerun__ledger_entry *entry = &ledger->steps[s % MOERUN_LEDGER_STEPS];
    MOERUN_TRY(moerun__text_print(out, "%s{\"step\": %lld, \"last\": %d, ",
                                  s > first ? ",\n      " : "", (long long)s,
                                  entry->last));
    MOERUN_TRY(put_entry(out, report, entry));
    MOERUN_TRY(moerun__text_print(out, "}"));
  }
  MOERUN_TRY(moerun__text_print(out, "]"));
done:
  return status;
}

static moerun_status put_speeds(moerun__text *out,
                                const moerun__ledger *ledger) {
  moerun_status status = MOERUN_OK;
  const int64_t end = ledger->num_changes;
  const int64_t first =
      end > MOERUN_LEDGER_CHANGES ? end - MOERUN_LEDGER_CHANGES : 0;
  MOERUN_TRY(moerun__text_print(out, ",\n    \"speeds\": ["));
  for (int64_t c = first; c < end; c++) {
    const moerun__speed_change *change =
        &ledger->changes[c % MOERUN_LEDGER_CHANGES];
    MOERUN_TRY(moerun__text_print(
        out, "%s{\"step\": %lld, \"rank\": %d, \"speed\": %.4g}",
        c > first ? ", " : "", (long long)change->step, change->rank,
        exp2((double)change->speed / MOERUN_SPEED_OCTAVE)));
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
  const moerun__ledger_entry total = moerun__ledger_total(ledger);
  moerun__ledger_entry said = {0};
  for (int32_t w = 0; w < MOERUN_MOST_WAYS; w++) {
    said.way[w].bytes = report->way_bytes[w];
  }
  MOERUN_TRY(moerun__text_print(out, ",\n  \"balance\": {"));
  MOERUN_TRY(put_entry(out, report, &total));
  MOERUN_TRY(moerun__text_print(
      out,
      ",\n    \"said_by_ranks\": {\"rows_moved\": %lld, \"weights_sent\": "
      "%lld, \"weight_bytes\": %lld",
      (long long)report->rows_moved, (long long)report->weights_sent,
      (long long)report->weight_bytes));
  MOERUN_TRY(put_way_bytes(out, report->ways, &said));
  MOERUN_TRY(moerun__text_print(out, "}"));
  MOERUN_TRY(put_ranks(out, report));
  MOERUN_TRY(put_speeds(out, ledger));
  MOERUN_TRY(put_layers(out, report));
  MOERUN_TRY(put_steps(out, report));
  MOERUN_TRY(moerun__text_print(out, "}"));
done:
  return status;
}

/* ---- For people ---------------------------------------------------------- */

static void print_fact(FILE *stream, const char *label,
                       const moerun__table_line *line) {
  moerun__table_line_print(stream, label, MOERUN_TABLE_INDENT, line);
}

/* Why ranks waited although rows could have moved; means over such plans.
 * Weights that would take less than the wait are not sent either where they are
 * for too few rows, or where the layer would end no sooner with them. */
static void print_uneven(FILE *stream, const moerun__ledger *ledger,
                         const moerun__ledger_entry *total) {
  const int64_t dear = total->uneven - total->no_room;
  moerun__table_line line = {0};
  if (total->uneven == 0) return;
  moerun__table_line_add(&line, "%lld of %lld layers", (long long)total->uneven,
                         (long long)total->plans);
  if (dear > 0) {
    moerun__table_line_add(
        &line,
        "; in %lld no weights were sent, waiting takes %.3g ms, weights would "
        "take %.3g ms",
        (long long)dear,
        ms_of(ledger, total->waiting_rows - total->room_rows) / (double)dear,
        ms_of(ledger, total->price_rows) / (double)dear);
  }
  if (total->no_room > 0) {
    moerun__table_line_add(
        &line,
        "; in %lld there was no room for guests (--guest-memory), waiting "
        "takes %.3g ms",
        (long long)total->no_room,
        ms_of(ledger, total->room_rows) / (double)total->no_room);
  }
  print_fact(stream, "uneven", &line);
}

/* A line for each way that any layer went but whole experts. */
static void print_ways(FILE *stream, const moerun__way_table *ways,
                       const moerun__ledger_entry *total) {
  for (int32_t w = 1; w < ways->count; w++) {
    const moerun__way *way = ways->way[w];
    moerun__table_line line = {0};
    if (total->way[w].plans == 0) continue;
    moerun__table_line_add(&line, "%s in %lld of %lld layers", way->did,
                           (long long)total->way[w].plans,
                           (long long)total->plans);
    if (way->bytes != NULL) {
      moerun__table_line_add(&line, "; %.2f MiB sent for that",
                             (double)total->way[w].bytes / mib);
    }
    print_fact(stream, way->name, &line);
  }
}

void moerun__balance_print(FILE *stream, const moerun__report *report) {
  const moerun__ledger *ledger = report->ledger;
  if (ledger == NULL) return;
  const moerun__ledger_entry total = moerun__ledger_total(ledger);
  const int32_t R = ledger->num_ranks;
  int32_t last = 0;
  int64_t layers = 0;
  for (int32_t r = 0; r < ledger->num_ranks; r++) {
    layers += ledger->last_count[r];
    if (ledger->last_count[r] > ledger->last_count[last]) last = r;
  }
  moerun__table_line line = {0};
  moerun__table_line_add(
      &line,
      "max/mean %.2f as routed, %.2f as run; %lld rows and %lld experts (%.2f "
      "MiB) moved in %lld of %lld layers",
      moerun__peak_over_mean(total.peak_routed, total.rows, R),
      moerun__peak_over_mean(total.peak_planned, total.rows, R),
      (long long)total.rows_moved, (long long)total.weights_sent,
      (double)total.weight_bytes / mib, (long long)total.moved,
      (long long)total.plans);
  print_fact(stream, "balance", &line);
  print_ways(stream, report->ways, &total);
  print_uneven(stream, ledger, &total);
  line = (moerun__table_line){0};
  moerun__table_line_add(
      &line,
      "%.1f %% of the expert stage; rank %d was last in %.0f %% of layers; "
      "%lld changes of plans, %lld of speed",
      100 * moerun__ledger_idle(ledger, &total), last,
      100 * ratio((double)ledger->last_count[last], (double)layers),
      (long long)total.kind_changes, (long long)total.speed_changes);
  print_fact(stream, "idle", &line);
}

/* ---- Lossy routing ------------------------------------------------------- */

static moerun_status put_lossy(moerun__text *out,
                               const moerun__gate_counts *counts) {
  moerun_status status = MOERUN_OK;
  const moerun__capacity_counts *c = &counts->capacity;
  const moerun__width_counts *w = &counts->width;
  MOERUN_TRY(moerun__text_print(
      out,
      "\"capacity\": {\"tokens\": %lld, \"assignments\": "
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
      "\"mass\": %.9g, \"mass_lost\": %.9g}",
      (long long)w->terms, (long long)w->removed, w->mass, w->mass_lost));
done:
  return status;
}

moerun_status moerun__lossy_json(moerun__text *out,
                                 const moerun__report *report) {
  moerun_status status = MOERUN_OK;
  if (!report->is_lossy) goto done;
  MOERUN_TRY(moerun__text_print(out, ",\n  \"lossy\": {"));
  MOERUN_TRY(moerun__text_print(out, "\"layers\": ["));
  for (int32_t l = 0; l < report->num_moe_layers; l++) {
    MOERUN_TRY(moerun__text_print(out, l > 0 ? ",\n    {" : "{"));
    MOERUN_TRY(put_lossy(out, &report->gate_of_layer[l]));
    MOERUN_TRY(moerun__text_print(out, "}"));
  }
  MOERUN_TRY(moerun__text_print(out, "],\n    "));
  MOERUN_TRY(put_lossy(out, &report->gate));
  MOERUN_TRY(moerun__text_append(out, "}", 1));
done:
  return status;
}

void moerun__lossy_print(FILE *stream, const moerun__report *report) {
  const moerun__capacity_counts *c = &report->gate.capacity;
  const moerun__width_counts *w = &report->gate.width;
  if (!report->is_lossy) return;
  if (c->candidates > 0) {
    moerun__table_line line = {0};
    moerun__table_line_add(
        &line,
        "%.2f %% of assignments, %.2f %% of gate weight; %lld added; %lld "
        "tokens with no expert left",
        100 * ratio((double)c->dropped, (double)c->candidates),
        100 * ratio(c->mass_dropped, c->mass), (long long)c->added,
        (long long)c->lost_all);
    print_fact(stream, "dropped", &line);
  }
  if (w->terms > 0) {
    moerun__table_line line = {0};
    moerun__table_line_add(&line,
                           "%.2f %% of assignments, %.2f %% of gate weight, by "
                           "tokens that need fewer experts",
                           100 * ratio((double)w->removed, (double)w->terms),
                           100 * ratio(w->mass_lost, w->mass));
    print_fact(stream, "left out", &line);
  }
}
