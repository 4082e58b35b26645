#include "launch/place/place_table.h"

#include "launch/table_line.h"
#include "placement/methods/method.h"

#include <string.h>

/* ---- For people ---------------------------------------------------------- */

/* In the order of moerun__judgement_at. */
static const char *const labels[] = {
    "ranks a token visits",      "  of them remote (rows out)",
    "results from remote ranks", "nodes a token visits",
    "pairs on different ranks",  "pairs on different nodes",
    "pairs by distance",         "busiest links, over even",
    "rank load max/mean",        "  in the worst layer",
};

/* What the placement stands beside: [MOERUN_NUM_HALVES] judgements. */
typedef struct beside {
  const char *name;
  const moerun__judgement *judged;
} beside;

static void print_columns(FILE *stream, const moerun__place_facts *facts,
                          const beside *other) {
  const moerun__certificate *c = facts->placement->certificate;
  const char *method = facts->placement->method;
  (void)fprintf(stream, "\n  %-27s %21s", "",
                facts->is_solved ? "sequences solved for"
                                 : "sequences of --train");
  if (c->has_held_out) (void)fprintf(stream, "   %21s", "other sequences");
  (void)fprintf(stream, "\n  %-27s %10s %10.10s", "", other->name, method);
  if (c->has_held_out) {
    (void)fprintf(stream, "   %10s %10.10s", other->name, method);
  }
  (void)fputc('\n', stream);
}

static void print_judgements(FILE *stream, const moerun__certificate *c,
                             const beside *other) {
  const char *name = NULL;
  double value = 0;
  for (int i = 0; moerun__judgement_at(&c->after[0], i, &name, &value); i++) {
    (void)fprintf(stream, "  %-27s", labels[i]);
    for (int h = 0; h <= c->has_held_out; h++) {
      (void)moerun__judgement_at(&other->judged[h], i, &name, &value);
      (void)fprintf(stream, "%s %10.4f", h > 0 ? "  " : "", value);
      (void)moerun__judgement_at(&c->after[h], i, &name, &value);
      (void)fprintf(stream, " %10.4f", value);
    }
    (void)fputc('\n', stream);
  }
}

/* The same loads in rows: what a slow rank has less than the others. */
static void print_rows(FILE *stream, const moerun__place_facts *facts,
                       const beside *other) {
  const moerun__certificate *c = facts->placement->certificate;
  static const char *const names[] = {"  in rows, speeds aside",
                                      "  in the worst layer"};
  for (int line = 0; facts->is_uneven && line < 2; line++) {
    (void)fprintf(stream, "  %-27s", names[line]);
    for (int h = 0; h <= c->has_held_out; h++) {
      const moerun__judgement *before = &other->judged[h];
      const moerun__judgement *after = &c->after[h];
      (void)fprintf(stream, "%s %10.4f %10.4f", h > 0 ? "  " : "",
                    line == 0 ? before->row_load : before->worst_row_load,
                    line == 0 ? after->row_load : after->worst_row_load);
    }
    (void)fputc('\n', stream);
  }
}

static void print_beside(FILE *stream, const moerun__place_facts *facts,
                         const beside *other) {
  print_columns(stream, facts, other);
  print_judgements(stream, facts->placement->certificate, other);
  print_rows(stream, facts, other);
}

static void print_compared(FILE *stream, const moerun__place_facts *facts) {
  const beside other = {"compared", facts->compared};
  moerun__table_line line = {0};
  if (facts->compared_name == NULL) return;
  (void)fputc('\n', stream);
  moerun__table_line_add(&line, "compared: %s", facts->compared_name);
  moerun__table_line_print(stream, "", 2, &line);
  print_beside(stream, facts, &other);
}

/* What the loads could be if the tokens of replicated experts were shared out
 * for that alone. */
static void print_even(FILE *stream, const moerun__place_facts *facts) {
  const int columns = facts->placement->certificate->has_held_out ? 2 : 1;
  static const char *const names[] = {"  replicas sharing evenly",
                                      "  in the worst layer"};
  for (int line = 0; facts->has_even && line < 2; line++) {
    (void)fprintf(stream, "  %-27s", names[line]);
    for (int h = 0; h < columns; h++) {
      (void)fprintf(stream, "%s %10s %10.4f", h > 0 ? "  " : "", "",
                    line == 0 ? facts->even_load[h] : facts->even_worst[h]);
    }
    (void)fputc('\n', stream);
  }
}

/* "no bound" and why, "at least …: certified gap …", or "optimal" where it is
 * proven. */
static void print_verdict(FILE *stream, const moerun__place_facts *facts) {
  const moerun__certificate *c = facts->placement->certificate;
  moerun__table_line line = {0};
  moerun__table_line_add(&line, "%s: %s, slack %g", facts->placement->method,
                         c->objective, c->slack);
  if (facts->is_solved) {
    moerun__table_line_add(&line, ", seed %lld, %.2f s: %.6g; ",
                           (long long)c->seed, c->seconds, c->cost);
  } else {
    moerun__table_line_add(&line, ": %.6g; given, not solved here; ", c->cost);
  }
  if (c->proven) {
    moerun__table_line_add(&line, "optimal, proven");
  } else if (c->bound >= 0) {
    moerun__table_line_add(
        &line, "bound %.6g: certified gap %.1f %% of what can be avoided",
        c->bound, 100 * c->gap);
  } else if (facts->breaks_caps) {
    moerun__table_line_add(&line,
                           "no bound applies, because the placement breaks the "
                           "load caps of slack %g or the counts of experts",
                           c->slack);
  } else {
    moerun__table_line_add(&line, "no bound");
  }
  (void)fputc('\n', stream);
  moerun__table_line_print(stream, "", 2, &line);
}

/* Where blocks cost less: why, and what would change it. */
static void print_wider(FILE *stream, const moerun__place_facts *facts) {
  const moerun__place_slack *wider = &facts->wider;
  const char *method = facts->placement->method;
  moerun__table_line line = {0};
  if (!wider->is_worse) return;
  moerun__table_line_add(&line,
                         "blocks cost less, %.6g, but break the load caps of "
                         "slack %g; ",
                         wider->blocks_cost,
                         facts->placement->certificate->slack);
  if (wider->slack < 0) {
    moerun__table_line_add(&line, "no slack allows them on slow ranks");
  } else {
    moerun__table_line_add(&line, "--slack %g allows them, and %s finds %.6g",
                           wider->slack, method, wider->cost);
  }
  moerun__table_line_print(stream, "", 2, &line);
}

static int64_t bytes_of(const moerun__place_facts *facts,
                        const moerun__judgement *judgement) {
  return judgement->rows_out * facts->copy_bytes +
         judgement->rows_back * facts->result_bytes;
}

static void print_home_row(FILE *stream, const moerun__place_facts *facts,
                           const char *name,
                           const moerun__judgement *judgement) {
  (void)fprintf(stream, "  %-27.27s %10lld %10lld", name,
                (long long)judgement->rows_out,
                (long long)judgement->rows_back);
  if (facts->copy_bytes > 0) {
    (void)fprintf(stream, " %14lld", (long long)bytes_of(facts, judgement));
  }
  (void)fputc('\n', stream);
}

/* What the transport would count, sent from all ranks to others. */
static void print_homes(FILE *stream, const moerun__place_facts *facts) {
  if (!facts->has_homes) return;
  (void)fprintf(stream, "\n  %-27s %10s %10s%s\n", "the recorded run again",
                "copies", "results",
                facts->copy_bytes > 0 ? "          bytes" : "");
  print_home_row(stream, facts, "contiguous", &facts->before_at_home);
  if (facts->compared_name != NULL) {
    print_home_row(stream, facts, "compared", &facts->compared_at_home);
  }
  print_home_row(stream, facts, facts->placement->method,
                 &facts->after_at_home);
}

void moerun__place_print(FILE *stream, const moerun__place_facts *facts) {
  const moerun_placement *p = facts->placement;
  const beside blocks = {"contiguous", p->certificate->before};
  moerun__table_line line = {0};
  moerun__table_line_add(&line, "of %d MoE layers of %d experts on %s",
                         p->num_layers, p->num_experts,
                         p->certificate->topology);
  moerun__table_line_print(stream, "placement", 10, &line);
  line = (moerun__table_line){0};
  moerun__table_line_add(
      &line, "%s: %lld tokens in %lld sequences, %d experts a token",
      facts->trace_name, (long long)facts->trace->num_tokens,
      (long long)facts->trace->num_sequences, facts->trace->num_terms);
  moerun__table_line_print(stream, "", 2, &line);
  line = (moerun__table_line){0};
  moerun__table_line_add(&line, "%s %lld tokens in %lld sequences",
                         facts->is_solved ? "solved for" : "judged by",
                         (long long)facts->train->num_tokens,
                         (long long)facts->train->num_sequences);
  if (facts->held_out != NULL) {
    moerun__table_line_add(&line,
                           facts->is_solved ? ", judged by the other %lld too"
                                            : ", and by the other %lld",
                           (long long)facts->held_out->num_sequences);
  }
  moerun__table_line_print(stream, "", 2, &line);
  print_beside(stream, facts, &blocks);
  print_even(stream, facts);
  print_compared(stream, facts);
  print_homes(stream, facts);
  print_verdict(stream, facts);
  print_wider(stream, facts);
}

/* ---- As JSON ------------------------------------------------------------- */

static moerun_status put_home(moerun__text *out,
                              const moerun__place_facts *facts,
                              const char *name,
                              const moerun__judgement *judgement) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__text_print(
      out, "\"%s\": {\"copies_sent\": %lld, \"results_sent\": %lld", name,
      (long long)judgement->rows_out, (long long)judgement->rows_back));
  if (facts->copy_bytes > 0) {
    MOERUN_TRY(moerun__text_print(out, ", \"row_bytes\": %lld",
                                  (long long)bytes_of(facts, judgement)));
  }
  MOERUN_TRY(moerun__text_print(out, "}"));
done:
  return status;
}

static moerun_status put_homes(moerun__text *out,
                               const moerun__place_facts *facts) {
  moerun_status status = MOERUN_OK;
  if (!facts->has_homes) goto done;
  MOERUN_TRY(moerun__text_print(out, ",\n  \"recorded_run\": {"));
  MOERUN_TRY(put_home(out, facts, "contiguous", &facts->before_at_home));
  MOERUN_TRY(moerun__text_print(out, ",\n    "));
  if (facts->compared_name != NULL) {
    MOERUN_TRY(put_home(out, facts, "compared", &facts->compared_at_home));
    MOERUN_TRY(moerun__text_print(out, ",\n    "));
  }
  MOERUN_TRY(put_home(out, facts, "placed", &facts->after_at_home));
  MOERUN_TRY(moerun__text_print(out, "}"));
done:
  return status;
}

static moerun_status put_even(moerun__text *out,
                              const moerun__place_facts *facts) {
  moerun_status status = MOERUN_OK;
  static const char *const names[] = {"train", "held_out"};
  const int halves = facts->placement->certificate->has_held_out ? 2 : 1;
  if (!facts->has_even) goto done;
  MOERUN_TRY(moerun__text_print(out, ",\n  \"replicas_sharing_evenly\": {"));
  for (int h = 0; h < halves; h++) {
    MOERUN_TRY(moerun__text_print(
        out, "%s\"%s\": {\"load\": %.9g, \"worst_load\": %.9g}",
        h > 0 ? ", " : "", names[h], facts->even_load[h],
        facts->even_worst[h]));
  }
  MOERUN_TRY(moerun__text_print(out, "}"));
done:
  return status;
}

static moerun_status put_rows(moerun__text *out,
                              const moerun__place_facts *facts) {
  moerun_status status = MOERUN_OK;
  const moerun__certificate *c = facts->placement->certificate;
  static const char *const names[] = {"train", "held_out"};
  const int halves = c->has_held_out ? 2 : 1;
  if (!facts->is_uneven) goto done;
  MOERUN_TRY(moerun__text_print(out, ",\n  \"row_load\": {"));
  for (int h = 0; h < halves; h++) {
    const moerun__judgement *before = &c->before[h];
    const moerun__judgement *after = &c->after[h];
    MOERUN_TRY(moerun__text_print(
        out,
        "%s\"%s\": {\"contiguous\": {\"load\": %.9g, \"worst_load\": %.9g}, "
        "\"placed\": {\"load\": %.9g, \"worst_load\": %.9g}}",
        h > 0 ? ",\n    " : "", names[h], before->row_load,
        before->worst_row_load, after->row_load, after->worst_row_load));
  }
  MOERUN_TRY(moerun__text_print(out, "}"));
done:
  return status;
}

static moerun_status put_broken_caps(moerun__text *out,
                                     const moerun__place_facts *facts) {
  if (!facts->breaks_caps) return MOERUN_OK;
  return moerun__text_print(out, ",\n  \"breaks_caps\": true");
}

static moerun_status put_wider(moerun__text *out,
                               const moerun__place_facts *facts) {
  moerun_status status = MOERUN_OK;
  const moerun__place_slack *wider = &facts->wider;
  if (!wider->is_worse) goto done;
  MOERUN_TRY(moerun__text_print(
      out, ",\n  \"blocks_break_caps\": {\"cost\": %.9g", wider->blocks_cost));
  if (wider->slack >= 0) {
    MOERUN_TRY(moerun__text_print(out,
                                  ", \"slack\": %.9g, \"cost_with_slack\": "
                                  "%.9g",
                                  wider->slack, wider->cost));
  }
  MOERUN_TRY(moerun__text_print(out, "}"));
done:
  return status;
}

/* As in a certificate, of the other placement. */
static moerun_status put_compared(moerun__text *out,
                                  const moerun__place_facts *facts) {
  moerun_status status = MOERUN_OK;
  static const char *const names[] = {"train", "held_out"};
  const char *file = facts->compared_name;
  const int halves = facts->placement->certificate->has_held_out ? 2 : 1;
  if (file == NULL) goto done;
  MOERUN_TRY(moerun__text_print(out, ",\n  \"compared\": {\"placement\": "));
  MOERUN_TRY(moerun__text_json(out, file, strlen(file)));
  for (int h = 0; h < halves; h++) {
    MOERUN_TRY(moerun__text_print(out, ",\n    "));
    MOERUN_TRY(moerun__judgement_print(out, names[h], &facts->compared[h]));
  }
  MOERUN_TRY(moerun__text_print(out, "}"));
done:
  return status;
}

moerun_status moerun__place_json(moerun__text *out,
                                 const moerun__place_facts *facts) {
  moerun_status status = MOERUN_OK;
  const moerun_placement *p = facts->placement;
  const int64_t held_out =
      facts->held_out != NULL ? facts->held_out->num_sequences : 0;
  MOERUN_TRY(moerun__text_print(
      out, "{\"format\": \"moerun-place\", \"version\": %d,\n  \"trace\": ",
      MOERUN_PLACE_VERSION));
  MOERUN_TRY(
      moerun__text_json(out, facts->trace_name, strlen(facts->trace_name)));
  MOERUN_TRY(moerun__text_print(out, ", \"method\": "));
  MOERUN_TRY(moerun__text_json(out, p->method, strlen(p->method)));
  MOERUN_TRY(moerun__text_print(
      out,
      ", \"solved\": %s,\n  \"num_layers\": %d, \"num_experts\": %d, "
      "\"experts_per_token\": %d, \"num_ranks\": %d,\n  \"tokens\": %lld, "
      "\"sequences\": %lld, \"sequences_trained_on\": %lld, "
      "\"sequences_held_out\": %lld",
      facts->is_solved ? "true" : "false", p->num_layers, p->num_experts,
      facts->trace->num_terms, p->num_ranks,
      (long long)facts->trace->num_tokens,
      (long long)facts->trace->num_sequences,
      (long long)facts->train->num_sequences, (long long)held_out));
  MOERUN_TRY(put_homes(out, facts));
  MOERUN_TRY(put_rows(out, facts));
  MOERUN_TRY(put_even(out, facts));
  MOERUN_TRY(put_compared(out, facts));
  MOERUN_TRY(put_broken_caps(out, facts));
  MOERUN_TRY(put_wider(out, facts));
  MOERUN_TRY(moerun__text_print(out, ",\n  \"certificate\": "));
  MOERUN_TRY(moerun__certificate_print(out, p->certificate, "  "));
  MOERUN_TRY(moerun__text_print(out, "}\n"));
done:
  return status;
}

/* ---- Methods ------------------------------------------------------------- */

void moerun__place_print_methods(FILE *stream) {
  const moerun__method *method = NULL;
  for (int i = 0; (method = moerun__method_at(i)) != NULL; i++) {
    moerun__table_line line = {0};
    char name[32];
    (void)snprintf(name, sizeof name, "  %s", method->name);
    moerun__table_line_add(&line, "%s%s%s%s", method->summary,
                           method->keeps_caps ? ""
                                              : "; may exceed the load caps",
                           method->by_loads ? "; of --loads too" : "",
                           method->needs_glpk ? "; needs GLPK" : "");
    moerun__table_line_print(stream, name, 14, &line);
  }
}
