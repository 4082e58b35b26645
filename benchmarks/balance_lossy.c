/* What dropping costs, counted: quality against logits without it, rows of the
 * busiest, what the gate gave and lost. Nothing here depends on the machine. */
#include "benchmarks/balance.h"

#include <math.h>

/* ---- Quality ------------------------------------------------------------- */

static const double unit = 4294967296.0; /* of sums that ranks add up */

static double log_sum(const float *logits, int32_t V) {
  double most = logits[0];
  double sum = 0;
  for (int32_t v = 1; v < V; v++) {
    if (logits[v] > most) most = logits[v];
  }
  for (int32_t v = 0; v < V; v++) {
    sum += exp(logits[v] - most);
  }
  return most + log(sum);
}

static int32_t best_of(const float *logits, int32_t V) {
  int32_t best = 0;
  for (int32_t v = 1; v < V; v++) {
    if (logits[v] > logits[best]) best = v;
  }
  return best;
}

/* One row: KL of `found` from `exact`, surprise at the next token in both. */
static void judge_row(bench_quality *q, const float *exact, const float *found,
                      int32_t V, int32_t next) {
  const double of_exact = log_sum(exact, V);
  const double of_found = log_sum(found, V);
  double divergence = 0;
  for (int32_t v = 0; v < V; v++) {
    const double log_p = exact[v] - of_exact;
    divergence += exp(log_p) * (log_p - (found[v] - of_found));
  }
  q->rows++;
  q->surprise_exact += (int64_t)(unit * (of_exact - exact[next]));
  q->surprise += (int64_t)(unit * (of_found - found[next]));
  q->divergence += (int64_t)(unit * divergence);
  q->agree += best_of(exact, V) == best_of(found, V);
}

static void judge(bench_quality *q, const bench_prompts *p, const float *exact,
                  const float *found) {
  const int32_t V = p->model->config.vocab_size;
  for (int32_t row = 0; row < BENCH_PROMPTS * p->length; row++) {
    if ((row + 1) % p->length == 0) continue;
    const size_t at = (size_t)row * (size_t)V;
    judge_row(q, exact + at, found + at, V, p->token[row + 1]);
  }
}

static moerun_status judge_all(bench_quality *q, moerun_comm *comm) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(bench_sum(&q->rows, comm));
  MOERUN_TRY(bench_sum(&q->surprise_exact, comm));
  MOERUN_TRY(bench_sum(&q->surprise, comm));
  MOERUN_TRY(bench_sum(&q->divergence, comm));
  MOERUN_TRY(bench_sum(&q->agree, comm));
  const double rows = (double)q->rows;
  q->perplexity = exp((double)q->surprise / unit / rows);
  q->perplexity_x =
      exp((double)(q->surprise - q->surprise_exact) / unit / rows);
  q->kl = (double)q->divergence / unit / rows;
  q->top1 = (double)q->agree / rows;
done:
  return status;
}

/* ---- Loads --------------------------------------------------------------- */

static moerun_status busiest(int64_t *rows, moerun_comm *comm) {
  *rows = -*rows;
  const moerun_status status = comm->ops->minimum(comm, rows);
  *rows = -*rows;
  return status;
}

/* Adds what the session counted in the one step since its reset. */
static moerun_status add_counts(bench_lossy *out,
                                const moerun_session *session) {
  moerun_status status = MOERUN_OK;
  moerun_comm *comm = session->model->comm;
  const moerun__model_config *config = &session->model->config;
  const moerun__capacity_counts *c = &session->moe.gate.counts.capacity;
  const int32_t E = config->num_experts;
  int64_t all = 0;
  for (int32_t l = 0; l < config->num_moe_layers; l++) {
    const int64_t *rows = session->stats.expert_rows + (size_t)l * (size_t)E;
    int64_t most = 0;
    int64_t sum = 0;
    for (int32_t e = 0; e < E; e++) {
      sum += rows[e];
      if (rows[e] > most) most = rows[e];
    }
    all += sum;
    MOERUN_TRY(busiest(&most, comm));
    MOERUN_TRY(busiest(&sum, comm));
    out->expert += most;
    out->rank += sum;
  }
  MOERUN_TRY(bench_sum(&all, comm));
  out->all += all;
  const int64_t mine[] = {c->candidates, c->dropped, c->added,
                          (int64_t)(c->mass * 1048576),
                          (int64_t)(c->mass_dropped * 1048576)};
  int64_t *sums[] = {&out->candidates, &out->dropped, &out->added, &out->mass,
                     &out->mass_dropped};
  for (size_t i = 0; i < sizeof mine / sizeof *mine; i++) {
    int64_t sum = mine[i];
    MOERUN_TRY(bench_sum(&sum, comm));
    *sums[i] += sum;
  }
done:
  return status;
}

double bench_percent(int64_t part, int64_t whole) {
  return whole > 0 ? 100 * (double)part / (double)whole : 0;
}

/* ---- The text ------------------------------------------------------------ */

moerun_status bench_read_text(bench_quality *quality, bench_lossy *lossy,
                              bench_prompts *p, moerun_session *session,
                              float *exact, float *found) {
  moerun_status status = MOERUN_OK;
  *quality = (bench_quality){0};
  *lossy = (bench_lossy){0};
  for (int32_t batch = 0; batch < p->batches; batch++) {
    float *right = exact + (size_t)batch * bench_prompts_logits(p);
    float *here = found != NULL ? found : right;
    double seconds = 0;
    bench_prompts_write_batch(p, batch);
    moerun__session_stats_reset(session);
    MOERUN_TRY(bench_prompts_time(&seconds, p, session, p->length, here));
    MOERUN_TRY(add_counts(lossy, session));
    judge(quality, p, right, here);
  }
  MOERUN_TRY(judge_all(quality, p->comm));
done:
  return status;
}
