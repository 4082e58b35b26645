/* The JSON of a run. Every number is in SI units or bytes, as its key says;
 * what varies over ranks is min, mean, max and the rank of the max. A reader
 * can rely on keys while "version" stays; new keys may be added. */
#include "launch/run/metrics.h"

#include "launch/run/balance_table.h"
#include "runtime/base/file.h"
#include "runtime/base/memory.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

enum { VERSION = 1 };

/* ---- Derived numbers ----------------------------------------------------- */

static double ratio(double a, double b) {
  return b > 0 ? a / b : 0;
}

double moerun__prefill_rate(const moerun__run_facts *f) {
  return ratio((double)f->progress.prompt_tokens, f->progress.prefill_seconds);
}

double moerun__decode_rate(const moerun__run_facts *f) {
  return ratio((double)f->progress.decode_tokens, f->progress.decode_seconds);
}

/* Rows that were fed to the model. */
static double fed_tokens(const moerun__run_facts *f) {
  return ratio((double)f->report->home_rows, f->model->num_moe_layers);
}

double moerun__bytes_per_token(const moerun__run_facts *f) {
  return ratio((double)f->report->count.row_bytes, fed_tokens(f));
}

double moerun__perplexity(const moerun__run_facts *f) {
  return exp(-ratio(f->score.log_probability, (double)f->score.tokens));
}

double moerun__bits_per_byte(const moerun__run_facts *f) {
  return -ratio(f->score.log_probability, (double)f->scored_bytes) / log(2.0);
}

void moerun__rows_of_ranks(int64_t *out, const moerun__report *report) {
  const size_t R = (size_t)report->num_ranks;
  memset(out, 0, R * sizeof *out);
  for (size_t i = 0; i < (size_t)report->num_moe_layers * R; i++) {
    out[i % R] += report->rank_rows[i];
  }
}

/* ---- Pieces -------------------------------------------------------------- */

static moerun_status put_text(moerun__text *out, const char *key,
                              const char *value) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__text_print(out, "\"%s\": ", key));
  MOERUN_TRY(moerun__text_json(out, value, strlen(value)));
done:
  return status;
}

static moerun_status put_spread(moerun__text *out, const char *key,
                                const moerun__spread *s) {
  return moerun__text_print(out,
                            "\"%s\": {\"min\": %.9g, \"mean\": %.9g, "
                            "\"max\": %.9g, \"rank_of_max\": %d}",
                            key, s->minimum, s->mean, s->maximum,
                            s->rank_of_maximum);
}

/* One array per MoE layer. */
static moerun_status put_rows(moerun__text *out, const char *key,
                              const int64_t *rows, int32_t num_layers,
                              int32_t width) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__text_print(out, "\"%s\": [", key));
  for (int32_t l = 0; l < num_layers; l++) {
    MOERUN_TRY(
        moerun__text_append(out, l == 0 ? "[" : ",\n    [", l == 0 ? 1 : 7));
    for (int32_t i = 0; i < width; i++) {
      MOERUN_TRY(moerun__text_print(out, i == 0 ? "%lld" : ",%lld",
                                    (long long)*rows++));
    }
    MOERUN_TRY(moerun__text_append(out, "]", 1));
  }
  MOERUN_TRY(moerun__text_append(out, "]", 1));
done:
  return status;
}

static moerun_status put_imbalance(moerun__text *out, const char *key,
                                   const int64_t *rows, int32_t num_layers,
                                   int32_t width) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__text_print(out, "\"%s\": [", key));
  for (int32_t l = 0; l < num_layers; l++) {
    const int64_t *layer = rows + (size_t)l * (size_t)width;
    MOERUN_TRY(moerun__text_print(out, l == 0 ? "%.6g" : ",%.6g",
                                  moerun__max_over_mean(layer, width)));
  }
  MOERUN_TRY(moerun__text_append(out, "]", 1));
done:
  return status;
}

/* ---- Parts --------------------------------------------------------------- */

static moerun_status put_configuration(moerun__text *out,
                                       const moerun__config *config) {
  moerun_status status = MOERUN_OK;
  const char *key = NULL;
  const char *value = NULL;
  moerun__config_origin origin = MOERUN_CONFIG_DEFAULT;
  MOERUN_TRY(moerun__text_print(out, ",\n  \"configuration\": {"));
  for (int i = 0; moerun__config_at(config, i, &key, &value, &origin); i++) {
    if (i > 0) MOERUN_TRY(moerun__text_append(out, ", ", 2));
    MOERUN_TRY(put_text(out, key, value));
  }
  MOERUN_TRY(moerun__text_append(out, "}", 1));
done:
  return status;
}

static moerun_status put_setting(moerun__text *out,
                                 const moerun__run_facts *f) {
  moerun_status status = MOERUN_OK;
  const moerun__model_config *m = f->model;
  MOERUN_TRY(moerun__text_print(out, ",\n  \"model\": {"));
  MOERUN_TRY(put_text(out, "path", moerun__config_text(f->config, "model")));
  MOERUN_TRY(moerun__text_print(
      out,
      ", \"architecture\": \"%s\", \"layers\": %d, \"moe_layers\": %d, "
      "\"experts\": %d, \"experts_per_token\": %d, \"hidden_width\": %d, "
      "\"expert_width\": %d, \"vocabulary\": %d}",
      moerun__arch_name(m->arch), m->num_layers, m->num_moe_layers,
      m->num_experts, m->experts_per_token, m->hidden_width, m->expert_width,
      m->vocab_size));
  MOERUN_TRY(moerun__text_print(
      out, ",\n  \"ranks\": %d, \"transport\": \"%s\", \"kernels\": \"%s\", ",
      f->num_ranks, f->transport, f->kernels));
  MOERUN_TRY(put_text(out, "placement", f->placement->method));
done:
  return status;
}

static moerun_status put_outcome(moerun__text *out,
                                 const moerun__run_facts *f) {
  moerun_status status = MOERUN_OK;
  const moerun__progress *p = &f->progress;
  const moerun__unfinished_counts *kept = &f->ended.unfinished;
  MOERUN_TRY(moerun__text_print(
      out,
      ",\n  \"requests\": {\"total\": %lld, \"resumed\": %lld, \"finished\": "
      "%lld, \"bad\": %lld, \"stopped\": %s, \"kept_before\": %lld, "
      "\"kept\": %lld}",
      (long long)f->ended.requests, (long long)f->ended.resumed,
      (long long)p->finished, (long long)f->ended.bad,
      f->ended.stopped ? "true" : "false", (long long)kept->requests_before,
      (long long)kept->requests));
  MOERUN_TRY(moerun__text_print(
      out,
      ",\n  \"tokens\": {\"prompt\": %lld, \"prompt_reused\": %lld, "
      "\"generated\": %lld, \"generated_in_decode_steps\": %lld, "
      "\"kept_before\": %lld, "
      "\"kept\": %lld},\n  \"steps\": %lld",
      (long long)p->prompt_tokens, (long long)p->reused_tokens,
      (long long)p->generated_tokens, (long long)p->decode_tokens,
      (long long)kept->tokens_before, (long long)kept->tokens,
      (long long)p->steps));
  MOERUN_TRY(moerun__text_print(
      out,
      ",\n  \"seconds\": {\"load\": %.6f, \"run\": %.6f, \"prefill_steps\": "
      "%.6f, \"decode_steps\": %.6f}",
      f->load_seconds, f->run_seconds, p->prefill_seconds, p->decode_seconds));
  MOERUN_TRY(moerun__text_print(
      out, ",\n  \"tokens_per_second\": {\"prefill\": %.6g, \"decode\": %.6g}",
      moerun__prefill_rate(f), moerun__decode_rate(f)));
  if (f->is_scored) {
    MOERUN_TRY(moerun__text_print(
        out,
        ",\n  \"score\": {\"tokens\": %lld, \"bytes\": %lld, "
        "\"log_probability\": %.17g, \"perplexity\": %.9g",
        (long long)f->score.tokens, (long long)f->scored_bytes,
        f->score.log_probability, moerun__perplexity(f)));
    if (f->scored_bytes > 0) {
      MOERUN_TRY(moerun__text_print(out, ", \"bits_per_byte\": %.9g",
                                    moerun__bits_per_byte(f)));
    }
    MOERUN_TRY(moerun__text_append(out, "}", 1));
  }
done:
  return status;
}

static moerun_status put_exchange(moerun__text *out,
                                  const moerun__run_facts *f) {
  const moerun__report *r = f->report;
  const moerun__comm_count *c = &r->count;
  return moerun__text_print(
      out,
      ",\n  \"exchange\": {\"row_bytes\": %lld, \"rows\": %lld, \"messages\": "
      "%lld, \"count_bytes\": %lld, \"control_bytes\": %lld,\n    "
      "\"row_bytes_per_token\": %.6g, \"home_rows\": %lld, \"copies_sent\": "
      "%lld, \"copies_kept\": %lld, \"results_sent\": %lld, \"waves\": %lld}",
      (long long)c->row_bytes, (long long)c->rows, (long long)c->messages,
      (long long)c->count_bytes, (long long)c->control_bytes,
      moerun__bytes_per_token(f), (long long)r->home_rows,
      (long long)r->rows_out, (long long)r->rows_local,
      (long long)r->results_out, (long long)r->waves);
}

static moerun_status put_replaced(moerun__text *out,
                                  const moerun__replace_count *c) {
  if (c == NULL) return MOERUN_OK;
  return moerun__text_print(
      out,
      ",\n  \"replacement\": {\"looks\": %lld, \"moves\": %lld, "
      "\"experts_moved\": %lld, \"bytes_moved\": %lld,\n    "
      "\"row_bytes_saved_predicted\": %lld, \"row_bytes_saved_counted\": "
      "%lld, \"last_rank_rows_saved_predicted\": %lld}",
      (long long)c->looks, (long long)c->moves, (long long)c->experts_moved,
      (long long)c->bytes_moved, (long long)c->bytes_predicted,
      (long long)c->bytes_counted, (long long)c->rows_predicted);
}

static moerun_status put_stages(moerun__text *out, const moerun__report *r) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__text_print(out, ",\n  \"stage_seconds\": {"));
  for (int s = 0; s < MOERUN_NUM_STAGES; s++) {
    MOERUN_TRY(moerun__text_print(out, s == 0 ? "\n    " : ",\n    "));
    MOERUN_TRY(put_spread(out, moerun_stage_name(s), &r->seconds[s]));
  }
  MOERUN_TRY(moerun__text_append(out, "}", 1));
done:
  return status;
}

/* An array over ranks for each quantile. */
static moerun_status put_layer_time(moerun__text *out, const moerun__report *r,
                                    int32_t time) {
  moerun_status status = MOERUN_OK;
  static const char *const names[] = {"p50", "p90", "p99", "max"};
  const moerun__quantiles *of_rank =
      r->layer_time + (size_t)time * (size_t)r->num_ranks;
  MOERUN_TRY(
      moerun__text_print(out, "\"%s\": {", moerun__layer_time_name(time)));
  for (int q = 0; q < 4; q++) {
    MOERUN_TRY(
        moerun__text_print(out, "%s\"%s\": [", q == 0 ? "" : ", ", names[q]));
    for (int32_t p = 0; p < r->num_ranks; p++) {
      const double value[] = {of_rank[p].p50, of_rank[p].p90, of_rank[p].p99,
                              of_rank[p].longest};
      MOERUN_TRY(moerun__text_print(out, p == 0 ? "%.4g" : ",%.4g", value[q]));
    }
    MOERUN_TRY(moerun__text_append(out, "]", 1));
  }
  MOERUN_TRY(moerun__text_append(out, "}", 1));
done:
  return status;
}

static moerun_status put_layer_times(moerun__text *out,
                                     const moerun__report *r) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__text_print(out, ",\n  \"layer_seconds\": {"));
  for (int32_t i = 0; i < MOERUN_NUM_LAYER_TIMES; i++) {
    MOERUN_TRY(moerun__text_print(out, i == 0 ? "\n    " : ",\n    "));
    MOERUN_TRY(put_layer_time(out, r, i));
  }
  MOERUN_TRY(moerun__text_print(out, "},\n  \"experts_wall_over_cpu\": ["));
  for (int32_t p = 0; p < r->num_ranks; p++) {
    MOERUN_TRY(moerun__text_print(out, p == 0 ? "%.4g" : ",%.4g",
                                  r->wall_over_cpu[p]));
  }
  MOERUN_TRY(moerun__text_append(out, "]", 1));
done:
  return status;
}

static moerun_status put_latency(moerun__text *out, const char *key,
                                 const moerun__histogram *h) {
  return moerun__text_print(
      out,
      "\"%s\": {\"requests\": %lld, \"p50\": %.4g, \"p90\": %.4g, \"p99\": "
      "%.4g, \"max\": %.4g}",
      key, (long long)moerun__histogram_total(h),
      moerun__histogram_quantile(h, 0.5), moerun__histogram_quantile(h, 0.9),
      moerun__histogram_quantile(h, 0.99), h->longest);
}

static moerun_status put_latencies(moerun__text *out, const moerun__report *r) {
  moerun_status status = MOERUN_OK;
  if (moerun__histogram_total(&r->first_token) == 0) goto done;
  MOERUN_TRY(moerun__text_print(out, ",\n  \"latency_seconds\": {"));
  MOERUN_TRY(put_latency(out, "first_token", &r->first_token));
  MOERUN_TRY(moerun__text_print(out, ",\n    "));
  MOERUN_TRY(put_latency(out, "per_token", &r->per_token));
  MOERUN_TRY(moerun__text_append(out, "}", 1));
done:
  return status;
}

static moerun_status put_load(moerun__text *out, const moerun__report *r) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__text_print(out, ",\n  \"load\": {"));
  MOERUN_TRY(put_imbalance(out, "expert_max_over_mean", r->expert_rows,
                           r->num_moe_layers, r->num_experts));
  MOERUN_TRY(moerun__text_print(out, ",\n    "));
  MOERUN_TRY(put_imbalance(out, "rank_max_over_mean", r->rank_rows,
                           r->num_moe_layers, r->num_ranks));
  MOERUN_TRY(moerun__text_print(out, ",\n    "));
  MOERUN_TRY(put_rows(out, "expert_rows", r->expert_rows, r->num_moe_layers,
                      r->num_experts));
  MOERUN_TRY(moerun__text_print(out, ",\n    "));
  MOERUN_TRY(put_rows(out, "rank_rows", r->rank_rows, r->num_moe_layers,
                      r->num_ranks));
  MOERUN_TRY(moerun__text_append(out, "}", 1));
done:
  return status;
}

static moerun_status put_memory(moerun__text *out, const moerun__run_facts *f) {
  moerun_status status = MOERUN_OK;
  moerun__spread predicted = {0};
  for (int32_t r = 0; r < f->num_ranks; r++) {
    const double bytes = (double)moerun__prediction_total(&f->predicted[r]);
    if (r == 0 || bytes < predicted.minimum) predicted.minimum = bytes;
    if (r == 0 || bytes > predicted.maximum) {
      predicted.maximum = bytes;
      predicted.rank_of_maximum = r;
    }
    predicted.mean += bytes / f->num_ranks;
  }
  MOERUN_TRY(moerun__text_print(out, ",\n  \"memory_bytes\": {"));
  MOERUN_TRY(put_spread(out, "predicted", &predicted));
  if (f->report != NULL) {
    MOERUN_TRY(moerun__text_print(out, ",\n    "));
    MOERUN_TRY(put_spread(out, "peak_resident", &f->report->resident_bytes));
  }
  MOERUN_TRY(moerun__text_append(out, "}", 1));
done:
  return status;
}

static moerun_status put_home(moerun__text *out, const moerun__report *r) {
  moerun_status status = MOERUN_OK;
  const moerun__home_counts *c = &r->gate.home;
  if (c->terms == 0) goto done;
  MOERUN_TRY(moerun__text_print(out,
                                ",\n  \"home_experts\": {\"assignments\": %lld",
                                (long long)c->terms));
  for (int kind = 0; kind < MOERUN_HOME_KINDS; kind++) {
    MOERUN_TRY(moerun__text_print(out, ", \"%s\": %lld",
                                  moerun__home_name((moerun__home_kind)kind),
                                  (long long)c->chosen[kind]));
  }
  MOERUN_TRY(moerun__text_print(
      out, ", \"rows\": %lld, \"rows_without_others\": %lld}",
      (long long)c->rows, (long long)c->rows_alone));
done:
  return status;
}

/* ---- The whole ----------------------------------------------------------- */

moerun_status moerun__metrics_print(moerun__text *out,
                                    const moerun__run_facts *f) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__text_print(
      out,
      MOERUN_METRICS_START ", \"version\": %d, \"moerun\": "
                           "\"%d.%d.%d\", \"subcommand\": \"%s\"",
      VERSION, MOERUN_VERSION_MAJOR, MOERUN_VERSION_MINOR, MOERUN_VERSION_PATCH,
      f->subcommand));
  MOERUN_TRY(put_configuration(out, f->config));
  MOERUN_TRY(put_setting(out, f));
  MOERUN_TRY(put_outcome(out, f));
  MOERUN_TRY(put_memory(out, f));
  if (f->report != NULL) {
    MOERUN_TRY(put_exchange(out, f));
    MOERUN_TRY(put_replaced(out, f->replaced));
    MOERUN_TRY(put_latencies(out, f->report));
    MOERUN_TRY(put_stages(out, f->report));
    MOERUN_TRY(put_layer_times(out, f->report));
    MOERUN_TRY(put_load(out, f->report));
    MOERUN_TRY(moerun__balance_json(out, f->report));
    MOERUN_TRY(put_home(out, f->report));
    MOERUN_TRY(moerun__lossy_json(out, f->report));
  }
  MOERUN_TRY(moerun__text_append(out, "}\n", 2));
done:
  return status;
}

int moerun__metrics_open(const char *path) {
  static const char start[] = MOERUN_METRICS_START;
  char found[sizeof start];
  size_t got = 0;
  int file = -1;
  if (moerun__file_open(&file, NULL, path, 0) != MOERUN_OK) return -1;
  if (moerun__file_get(&got, found, sizeof start - 1, file, 0, path) ==
          MOERUN_OK &&
      got == sizeof start - 1 && memcmp(found, start, got) == 0) {
    return file;
  }
  (void)close(file);
  return -1;
}

moerun_status moerun__metrics_put(moerun__outputs *outputs, const char *path,
                                  const moerun__run_facts *facts) {
  moerun_status status = MOERUN_OK;
  moerun__text out = {0};
  int file = -1;
  const int old =
      moerun__results_resume(facts->config) ? moerun__metrics_open(path) : -1;
  MOERUN_TRY(moerun__metrics_print(&out, facts));
  MOERUN_TRY(moerun__outputs_begin_over(outputs, &file, path, old));
  MOERUN_TRY(moerun__file_put(file, out.bytes, out.count, path));
done:
  if (old >= 0) (void)close(old);
  moerun__text_clear(&out);
  return status;
}
