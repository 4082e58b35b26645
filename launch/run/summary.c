/* The table at the end of a run, for people: one line a fact, every number
 * with its unit, and where it varies over ranks or layers the extremes and
 * where they are. */
#include "launch/run/metrics.h"

#include "launch/run/balance_table.h"
#include "launch/table_line.h"
#include "runtime/base/memory.h"

#include <string.h>

enum { SHOWN_RANKS = 16 };
static const double mib = 1048576.0;

static void print_fact(FILE *stream, const char *label,
                       const moerun__table_line *line) {
  moerun__table_line_print(stream, label, MOERUN_TABLE_INDENT, line);
}

/* What is kept of unfinished requests; where that was nothing new, and no
 * request was finished either, what would help. */
static void add_unfinished(moerun__table_line *line,
                           const moerun__run_facts *f) {
  const moerun__unfinished_counts *kept = &f->ended.unfinished;
  const int is_score = moerun__config_text(f->config, "score")[0] != '\0';
  const int has_lossy = moerun__config_double(f->config, "capacity") > 0;
  if (f->ended.is_resumable) {
    moerun__table_line_add(line, "; the same command with --resume goes on");
  }
  if (f->ended.keeps && kept->requests > 0) {
    moerun__table_line_add(line,
                           "; %lld tokens of %lld unfinished requests are kept",
                           (long long)kept->tokens, (long long)kept->requests);
  }
  if (f->ended.is_resumable && !f->ended.keeps && !is_score && has_lossy) {
    moerun__table_line_add(
        line, "; what unfinished ones have generated is not kept, because "
              "with --capacity it depends on those computed beside them: "
              "--isolation route would change that");
  }
  if (f->progress.finished > 0 || f->progress.steps == 0) return;
  if (!f->ended.keeps) {
    moerun__table_line_add(
        line,
        "; none was finished in this run: give it more time, or fewer requests "
        "at once (--max-sequences), or %s",
        is_score ? "shorter windows (--window)"
                 : "less to generate (--max-new-tokens)");
  } else if (kept->tokens <= kept->tokens_before) {
    moerun__table_line_add(
        line, "; nothing was generated in this run: give it more time, or "
              "fewer requests at once (--max-sequences)");
  }
}

static void print_outcome(FILE *stream, const moerun__run_facts *f) {
  moerun__table_line line = {0};
  const long long finished = f->ended.resumed + f->progress.finished;
  moerun__table_line_add(&line, "%lld of %lld finished", finished,
                         (long long)f->ended.requests);
  if (f->ended.resumed > 0) {
    moerun__table_line_add(&line, ", %lld of them before this run",
                           (long long)f->ended.resumed);
  }
  if (f->ended.bad > 0) {
    moerun__table_line_add(&line, "; %lld %s wrong", (long long)f->ended.bad,
                           f->ended.bad == 1 ? "was" : "were");
  }
  if (f->ended.stopped) {
    moerun__table_line_add(&line, "; stopped by a signal");
    add_unfinished(&line, f);
  }
  print_fact(stream, "requests", &line);
  line = (moerun__table_line){0};
  moerun__table_line_add(&line, "%d, transport %s, kernels %s, placement %s",
                         f->num_ranks, f->transport, f->kernels,
                         f->placement->method);
  print_fact(stream, "ranks", &line);
  if (!f->is_scored) return;
  line = (moerun__table_line){0};
  moerun__table_line_add(&line, "%.4f over %lld tokens", moerun__perplexity(f),
                         (long long)f->score.tokens);
  if (f->scored_bytes > 0) {
    moerun__table_line_add(&line, "; %.4f bits per byte over %lld bytes",
                           moerun__bits_per_byte(f),
                           (long long)f->scored_bytes);
  }
  print_fact(stream, "perplexity", &line);
}

static void print_speed(FILE *stream, const moerun__run_facts *f) {
  const moerun__progress *p = &f->progress;
  moerun__table_line line = {0};
  moerun__table_line_add(&line, "%.2f s load, %.2f s in %lld steps",
                         f->load_seconds, f->run_seconds, (long long)p->steps);
  print_fact(stream, "time", &line);
  line = (moerun__table_line){0};
  moerun__table_line_add(&line,
                         "%.1f tokens/s (%lld tokens; steps with prompt rows)",
                         moerun__prefill_rate(f), (long long)p->prompt_tokens);
  print_fact(stream, "prefill", &line);
  if (p->reused_tokens > 0) {
    line = (moerun__table_line){0};
    moerun__table_line_add(
        &line,
        "%lld tokens of prompts were in the cache, %.1f %% of all prompts",
        (long long)p->reused_tokens,
        100.0 * (double)p->reused_tokens /
            (double)(p->reused_tokens + p->prompt_tokens));
    print_fact(stream, "prefix cache", &line);
  }
  if (p->decode_tokens == 0) return;
  line = (moerun__table_line){0};
  moerun__table_line_add(&line, "%.1f tokens/s (%lld tokens; the other steps)",
                         moerun__decode_rate(f), (long long)p->decode_tokens);
  print_fact(stream, "decode", &line);
}

static void print_latency(FILE *stream, const moerun__report *report) {
  const moerun__histogram *first = &report->first_token;
  const moerun__histogram *next = &report->per_token;
  if (moerun__histogram_total(first) == 0) return;
  moerun__table_line line = {0};
  moerun__table_line_add(&line, "first token %.3f / %.3f s",
                         moerun__histogram_quantile(first, 0.5),
                         moerun__histogram_quantile(first, 0.99));
  if (moerun__histogram_total(next) > 0) {
    moerun__table_line_add(&line, ", then %.2f / %.2f ms a token",
                           1e3 * moerun__histogram_quantile(next, 0.5),
                           1e3 * moerun__histogram_quantile(next, 0.99));
  }
  moerun__table_line_add(&line, ", p50/p99 over requests");
  print_fact(stream, "latency", &line);
}

/* max/mean of one kind of load: mean over layers, and the worst layer. */
static void print_load(FILE *stream, const char *name, const int64_t *rows,
                       int32_t width, const moerun__run_facts *f) {
  double worst = 0;
  double sum = 0;
  int32_t worst_layer = 0;
  const int32_t layers = f->report->num_moe_layers;
  for (int32_t l = 0; l < f->model->num_layers; l++) {
    const int32_t moe_layer = f->model->moe_layer[l];
    if (moe_layer < 0) continue;
    const double value =
        moerun__max_over_mean(rows + (size_t)moe_layer * (size_t)width, width);
    sum += value;
    if (value > worst) {
      worst = value;
      worst_layer = l;
    }
  }
  moerun__table_line line = {0};
  moerun__table_line_add(
      &line, "max/mean %.2f on average over layers, %.2f in layer %d",
      sum / layers, worst, worst_layer);
  print_fact(stream, name, &line);
}

static moerun_status print_rank_shares(FILE *stream,
                                       const moerun__report *report) {
  moerun_status status = MOERUN_OK;
  int64_t *rows = NULL;
  int64_t sum = 0;
  const int32_t R = report->num_ranks;
  MOERUN_TRY(moerun__alloc(&rows, (size_t)R, sizeof *rows));
  moerun__rows_of_ranks(rows, report);
  for (int32_t r = 0; r < R; r++) {
    sum += rows[r];
  }
  moerun__table_line line = {0};
  moerun__table_line_add(&line, "max/mean %.2f over all layers",
                         moerun__max_over_mean(rows, R));
  for (int32_t r = 0; r < R && R <= SHOWN_RANKS && sum > 0; r++) {
    moerun__table_line_add(&line, "%s%.1f %%", r == 0 ? "; by rank " : ", ",
                           100.0 * (double)rows[r] / (double)sum);
  }
  print_fact(stream, "rank load", &line);
done:
  moerun__free(rows);
  return status;
}

static void print_memory(FILE *stream, const moerun__run_facts *f) {
  const moerun__spread *s = &f->report->resident_bytes;
  double predicted = 0;
  for (int32_t r = 0; r < f->num_ranks; r++) {
    const double bytes = (double)moerun__prediction_total(&f->predicted[r]);
    if (bytes > predicted) predicted = bytes;
  }
  moerun__table_line line = {0};
  moerun__table_line_add(
      &line,
      "%.1f / %.1f / %.1f MiB min/mean/max a rank (most on rank %d), predicted "
      "%.1f MiB and the program",
      s->minimum / mib, s->mean / mib, s->maximum / mib, s->rank_of_maximum,
      predicted / mib);
  print_fact(stream, "memory", &line);
}

static void print_stages(FILE *stream, const moerun__report *report) {
  (void)fprintf(stream, "%-16s %10s %10s %10s  %s\n", "stage, seconds", "min",
                "mean", "max", "on rank");
  for (int i = 0; i < MOERUN_NUM_STAGES; i++) {
    const moerun__spread *s = &report->seconds[i];
    if (s->maximum <= 0) continue;
    (void)fprintf(stream, "%-16s %10.3f %10.3f %10.3f  %d\n",
                  moerun_stage_name(i), s->minimum, s->mean, s->maximum,
                  s->rank_of_maximum);
  }
}

static void print_replaced(FILE *stream, const moerun__replace_count *c) {
  if (c == NULL) return;
  moerun__table_line line = {0};
  moerun__table_line_add(
      &line, "moves after %lld of %lld looks, %lld experts (%.2f MiB)",
      (long long)c->moves, (long long)c->looks, (long long)c->experts_moved,
      (double)c->bytes_moved / mib);
  if (c->moves > 0) {
    moerun__table_line_add(&line,
                           "; rows saved to the next look: %.2f MiB "
                           "predicted, %.2f MiB counted",
                           (double)c->bytes_predicted / mib,
                           (double)c->bytes_counted / mib);
  }
  if (c->rows_predicted > 0) {
    moerun__table_line_add(&line,
                           "; for slow ranks: %lld rows of time "
                           "predicted",
                           (long long)c->rows_predicted);
  }
  print_fact(stream, "replacement", &line);
}

/* Of models that have such experts. */
static void print_home(FILE *stream, const moerun__home_counts *c) {
  const char *gap = "";
  if (c->terms == 0) return;
  const double percent = 100.0 / (double)c->terms;
  moerun__table_line line = {0};
  for (int kind = 0; kind < MOERUN_HOME_KINDS; kind++) {
    if (c->chosen[kind] == 0) continue;
    moerun__table_line_add(&line, "%s%.2f %% %s", gap,
                           percent * (double)c->chosen[kind],
                           moerun__home_name((moerun__home_kind)kind));
    gap = ", ";
  }
  moerun__table_line_add(&line,
                         "%s of assignments, none of them dispatched; %.2f %% "
                         "of rows had no others",
                         gap[0] == '\0' ? "none" : "",
                         100.0 * (double)c->rows_alone / (double)c->rows);
  print_fact(stream, "home experts", &line);
}

moerun_status moerun__summary_print(FILE *stream, const moerun__run_facts *f) {
  moerun_status status = MOERUN_OK;
  print_outcome(stream, f);
  if (f->report == NULL) goto done;
  print_speed(stream, f);
  print_latency(stream, f->report);
  moerun__table_line line = {0};
  moerun__table_line_add(
      &line, "%.1f bytes/token between ranks, %.2f MiB in all",
      moerun__bytes_per_token(f), (double)f->report->count.row_bytes / mib);
  print_fact(stream, "exchange", &line);
  print_replaced(stream, f->replaced);
  print_load(stream, "expert load", f->report->expert_rows,
             f->report->num_experts, f);
  MOERUN_TRY(print_rank_shares(stream, f->report));
  moerun__balance_print(stream, f->report);
  print_home(stream, &f->report->gate.home);
  moerun__lossy_print(stream, f->report);
  print_memory(stream, f);
  print_stages(stream, f->report);
done:
  return status;
}
