/* A load table says how often each expert was chosen and not by which tokens:
 * enough to even out loads, nothing to predict rows between ranks by. So the
 * placement gets no certificate, and what is printed is the balance alone. */
#include "launch/place/place_loads.h"

#include "launch/options/known_file.h"
#include "launch/place/place_table.h"
#include "launch/table_line.h"
#include "placement/map/export.h"
#include "placement/map/import.h"
#include "placement/trace/load_table.h"
#include "runtime/base/memory.h"
#include "runtime/base/text.h"
#include "runtime/base/timer.h"

#include <string.h>

/* Rank load max/mean, on average over layers and in the worst one. */
typedef struct balance {
  double load;
  double worst_load;
} balance;

typedef struct loads {
  moerun__invocation *invocation;
  const char *topology_line;
  moerun__load_table *table;
  moerun__problem *problem;
  moerun_placement *blocks;
  moerun_placement *placement;
  moerun_placement *compared; /* NULL: none */
  int32_t *copies; /* slots of each of its replicas; NULL: one each */
  double seconds;
  balance before; /* contiguous blocks */
  balance beside; /* the placement that is compared */
  balance after;
} loads;

static const char *text_of(const loads *p, const char *key) {
  return moerun__config_text(p->invocation->config, key);
}

const char *moerun__place_method(const moerun__config *config) {
  const int is_open =
      moerun__config_origin_of(config, "method") == MOERUN_CONFIG_DEFAULT;
  return is_open && moerun__config_text(config, "loads")[0] != '\0'
             ? "eplb"
             : moerun__config_text(config, "method");
}

static moerun_status solve(loads *p, const moerun__method *method,
                           const moerun__method_options *options,
                           const moerun__topology *topology) {
  moerun_status status = MOERUN_OK;
  const int32_t L = p->table->num_layers;
  const int32_t E = p->table->num_experts;
  MOERUN_TRY(moerun__problem_create_loads(
      &p->problem, p->table->load, L, E, topology,
      moerun__config_double(p->invocation->config, "slack")));
  const double began = moerun__now();
  MOERUN_TRY(
      moerun__place(&p->placement, NULL, NULL, p->problem, method, options));
  p->seconds = moerun__now() - began;
  MOERUN_TRY(
      moerun_placement_create_block(&p->blocks, L, E, topology->num_ranks));
  MOERUN_TRY(moerun__judge_loads(&p->before.load, &p->before.worst_load,
                                 p->blocks, NULL, p->problem));
  MOERUN_TRY(moerun__judge_loads(&p->after.load, &p->after.worst_load,
                                 p->placement, NULL, p->problem));
done:
  return status;
}

/* The map that one runs today, of the same experts, judged as the system that
 * it is from shares loads: evenly over all slots, those on one rank too. */
static moerun_status compare(loads *p, int32_t num_ranks) {
  moerun_status status = MOERUN_OK;
  const moerun__export_rows rows = {p->table->num_rows, p->table->row_of};
  const moerun__import_sizes sizes = {p->table->num_layers,
                                      p->table->num_experts, num_ranks, &rows,
                                      text_of(p, "loads")};
  if (text_of(p, "compare")[0] == '\0') goto done;
  MOERUN_TRY(moerun__known_file_advise(
      moerun__placement_import(&p->compared, &p->copies, text_of(p, "compare"),
                               &sizes),
      text_of(p, "compare"), MOERUN_FILE_PLACEMENT));
  MOERUN_TRY(moerun__judge_loads(&p->beside.load, &p->beside.worst_load,
                                 p->compared, p->copies, p->problem));
done:
  return status;
}

static int32_t first_dense(const moerun__load_table *table) {
  int32_t row = 0;
  while (row < table->num_layers && table->row_of[row] == row) {
    row++;
  }
  return row;
}

/* What was made of the file. */
static void print_rows(FILE *stream, const moerun__load_table *table) {
  const int32_t dense = table->num_rows - table->num_layers;
  if (table->num_steps > 1) {
    (void)fprintf(stream, "  the sum of %lld steps\n",
                  (long long)table->num_steps);
  }
  if (dense == 0) return;
  (void)fprintf(
      stream,
      "  %d of %d layers without any load, the first number %d, are "
      "taken to be dense\n  and left out; an exported map has experts "
      "in their order there\n",
      dense, table->num_rows, first_dense(table));
}

static void print(FILE *stream, const loads *p) {
  const char *method = p->placement->method;
  moerun__table_line line = {0};
  moerun__table_line_add(&line, "of %d MoE layers of %d experts on %s",
                         p->placement->num_layers, p->placement->num_experts,
                         p->topology_line);
  moerun__table_line_print(stream, "placement", 10, &line);
  line = (moerun__table_line){0};
  moerun__table_line_add(&line,
                         "%s: loads alone; nothing is known of the traffic",
                         text_of(p, "loads"));
  moerun__table_line_print(stream, "", 2, &line);
  print_rows(stream, p->table);
  (void)fprintf(stream, "\n  %-27s %10s", "", "contiguous");
  if (p->compared != NULL) (void)fprintf(stream, " %10s", "compared");
  (void)fprintf(stream, " %10.10s\n  %-27s %10.4f", method,
                "rank load max/mean", p->before.load);
  if (p->compared != NULL) (void)fprintf(stream, " %10.4f", p->beside.load);
  (void)fprintf(stream, " %10.4f\n  %-27s %10.4f", p->after.load,
                "  in the worst layer", p->before.worst_load);
  if (p->compared != NULL) {
    (void)fprintf(stream, " %10.4f", p->beside.worst_load);
  }
  (void)fprintf(stream, " %10.4f\n", p->after.worst_load);
  (void)fprintf(stream,
                "\n  %s: seed %lld, %.2f s; replicas are taken to share "
                "evenly\n",
                method,
                (long long)moerun__config_int(p->invocation->config, "seed"),
                p->seconds);
}

static moerun_status write_json(const loads *p, const char *path) {
  moerun_status status = MOERUN_OK;
  moerun__text out = {0};
  const char *table = text_of(p, "loads");
  MOERUN_TRY(moerun__text_print(
      &out, "{\"format\": \"moerun-place\", \"version\": %d,\n  \"loads\": ",
      MOERUN_PLACE_VERSION));
  MOERUN_TRY(moerun__text_json(&out, table, strlen(table)));
  MOERUN_TRY(moerun__text_print(
      &out,
      ", \"method\": \"%s\", \"solved\": true,\n  \"num_layers\": %d, "
      "\"num_experts\": %d, \"num_ranks\": %d, \"seconds\": %.3f,\n",
      p->placement->method, p->placement->num_layers, p->placement->num_experts,
      p->placement->num_ranks, p->seconds));
  MOERUN_TRY(moerun__text_print(
      &out, "  \"contiguous\": {\"load\": %.9g, \"worst_load\": %.9g},\n",
      p->before.load, p->before.worst_load));
  if (p->compared != NULL) {
    MOERUN_TRY(moerun__text_print(
        &out, "  \"compared\": {\"load\": %.9g, \"worst_load\": %.9g},\n",
        p->beside.load, p->beside.worst_load));
  }
  MOERUN_TRY(moerun__text_print(
      &out, "  \"placed\": {\"load\": %.9g, \"worst_load\": %.9g}}\n",
      p->after.load, p->after.worst_load));
  MOERUN_TRY(
      moerun__outputs_put(&p->invocation->outputs, path, out.bytes, out.count));
done:
  moerun__text_clear(&out);
  return status;
}

static moerun_status report(const loads *p) {
  moerun_status status = MOERUN_OK;
  const char *target = text_of(p, "export");
  const char *output = text_of(p, "output");
  const char *json = text_of(p, "json");
  moerun__outputs *outputs = &p->invocation->outputs;
  if (target[0] != '\0') {
    const moerun__export_rows rows = {p->table->num_rows, p->table->row_of};
    MOERUN_TRY(moerun__placement_export(p->placement, outputs, target, &rows));
  }
  if (output[0] != '\0') {
    MOERUN_TRY(moerun__placement_put(p->placement, outputs, output));
  }
  if (json[0] != '\0') MOERUN_TRY(write_json(p, json));
  print(stdout, p);
done:
  return status;
}

moerun_status moerun__place_loads(moerun__invocation *invocation,
                                  const moerun__method *method,
                                  const moerun__method_options *options,
                                  const moerun__topology *topology,
                                  const char *topology_line) {
  moerun_status status = MOERUN_OK;
  loads p = {.invocation = invocation, .topology_line = topology_line};
  invocation->phase = MOERUN_PHASE_FILES;
  MOERUN_TRY(moerun__known_file_advise(
      moerun__load_table_load(&p.table, text_of(&p, "loads")),
      text_of(&p, "loads"), MOERUN_FILE_LOADS));
  invocation->phase = MOERUN_PHASE_SOLVE;
  MOERUN_TRY(solve(&p, method, options, topology));
  invocation->phase = MOERUN_PHASE_FILES;
  MOERUN_TRY(compare(&p, topology->num_ranks));
  MOERUN_TRY(report(&p));
done:
  moerun__load_table_destroy(p.table);
  moerun__problem_destroy(p.problem);
  moerun_placement_destroy(p.blocks);
  moerun_placement_destroy(p.placement);
  moerun_placement_destroy(p.compared);
  moerun__free(p.copies);
  return status;
}
