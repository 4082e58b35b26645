/* `moerun run` and `moerun profile`.
 *
 * Everything that can be wrong with files and settings is found before the
 * first weight is read, and nothing on disk changes until the session stands.
 * Rank 0 alone reads prompts and writes results; the others see requests only
 * as they come from the engine. Each part ends in an agreement, so that a
 * failure of one rank is the verdict of all. Every rank reports a signal at the
 * next step boundary, or agreement before the first step; all stop there
 * together. */
#include "launch/command.h"

#include "launch/options/effect.h"
#include "launch/options/gate_options.h"
#include "launch/options/input_options.h"
#include "launch/options/placements.h"
#include "launch/run/memory_left.h"
#include "launch/run/metrics.h"
#include "launch/run/node_memory.h"
#include "launch/run/run.h"
#include "launch/run/signals.h"
#include "runtime/base/log.h"
#include "runtime/base/memory.h"
#include "runtime/base/number.h"
#include "runtime/base/stop.h"
#include "runtime/base/timer.h"

#include <string.h>

typedef moerun__run run;

/* ---- Settings ------------------------------------------------------------ */

static int given(const run *r, const char *key) {
  return moerun__config_text(r->config, key)[0] != '\0';
}

static moerun__effect_facts effects_of(const run *r) {
  return (moerun__effect_facts){.subcommand = r->invocation->subcommand,
                                .config = r->config,
                                .num_ranks = moerun_comm_size(r->comm),
                                .model = &r->model_config,
                                .sampled =
                                    moerun__prompts_sampled(r->files.prompts)};
}

static moerun_status check_settings(run *r) {
  moerun_status status = MOERUN_OK;
  const moerun__config *c = r->config;
  const int overwrite = moerun__config_bool(c, "overwrite");
  const moerun__effect_facts effects = effects_of(r);
  const int64_t max_sequences = moerun__max_sequences(c);
  const int64_t max_tokens = moerun__config_int(c, "max_tokens");
  MOERUN_TRY(moerun__input_check(c));
  MOERUN_TRY(moerun__progress_check(c));
  MOERUN_REQUIRE(!moerun__results_resume(c) || !overwrite, MOERUN_ERR_INVALID,
                 "expected one of --resume and --overwrite, found both");
  MOERUN_REQUIRE(max_sequences <= max_tokens, MOERUN_ERR_INVALID,
                 "--max-sequences: expected at most --max-tokens (%lld), found "
                 "%lld",
                 (long long)max_tokens, (long long)max_sequences);
  if (given(r, "prompt")) moerun__input_say_length(c);
  MOERUN_TRY(moerun__gate_options_check(c));
  MOERUN_TRY(moerun__effect_check(&effects, MOERUN_EFFECT_OPTIONS));
  if (r->is_profile) {
    MOERUN_TRY(
        moerun__trace_file_check(moerun__config_text(c, "trace"), "--trace"));
  }
  if (given(r, "fault")) {
    MOERUN_TRY(
        moerun__faults_parse(&r->faults, moerun__config_text(c, "fault")));
    MOERUN_TRY(moerun__faults_check(&r->faults, moerun_comm_size(r->comm)));
  }
done:
  return status;
}

/* Rank 0: the settings beside what model and requests are. */
static moerun_status check_fit(run *r) {
  moerun_status status = MOERUN_OK;
  const moerun__effect_facts effects = effects_of(r);
  r->invocation->phase = MOERUN_PHASE_USAGE;
  MOERUN_TRY(
      moerun__gate_options_fit(r->config, r->model_config.num_moe_layers));
  MOERUN_TRY(moerun__effect_check(&effects, (unsigned)MOERUN_EFFECT_MODEL |
                                                MOERUN_EFFECT_REQUESTS));
  r->invocation->phase = MOERUN_PHASE_FILES;
done:
  return status;
}

/* ---- Before the weights -------------------------------------------------- */

/* Local to a rank; what is wrong with the input is found here. */
static moerun_status plan(run *r) {
  moerun_status status = MOERUN_OK;
  const int32_t R = moerun_comm_size(r->comm);
  MOERUN_TRY(check_settings(r));
  r->invocation->phase = MOERUN_PHASE_FILES;
  MOERUN_TRY(moerun__model_config_load(&r->model_config, r->model_path));
  MOERUN_TRY(moerun__kernels_find(&r->kernels,
                                  moerun__config_text(r->config, "kernels")));
  MOERUN_TRY(moerun__placement_for(&r->placement, r->config, R));
  if (moerun_comm_rank(r->comm) != 0) goto done;
  moerun__progress_phase(&r->bar, "reading prompts");
  MOERUN_TRY(moerun__run_files_open_input(&r->files, &r->model_config,
                                          r->kernels->name));
  MOERUN_TRY(check_fit(r));
  MOERUN_TRY(moerun__run_files_open_output(&r->files));
  MOERUN_TRY(moerun__work_left_of(&r->left, r->files.prompts, r->files.results,
                                  r->files.unfinished,
                                  moerun__max_sequences(r->config), R));
  MOERUN_TRY(moerun__predict(&r->predicted, r->config, r->placement,
                             &r->left.need, r->how));
done:
  return status;
}

/* ---- The work ------------------------------------------------------------ */

static int is_stop_requested(void *context) {
  (void)context;
  return moerun__signals_ask_to_stop();
}

/* [collective] Whether any request is left to run, and what those need. */
static moerun_status find_work(run *r, int *has) {
  moerun_status status = MOERUN_OK;
  int64_t left = 0;
  if (moerun_comm_rank(r->comm) == 0) {
    left = moerun__prompts_count(r->files.prompts) -
           moerun__prompts_num_bad(r->files.prompts) - r->files.resumed;
  }
  MOERUN_TRY(r->comm->ops->broadcast(r->comm, &left, sizeof left));
  MOERUN_TRY(
      r->comm->ops->broadcast(r->comm, &r->left.need, sizeof r->left.need));
  *has = left > 0;
done:
  return status;
}

/* What begins and ends with the files of rank 0. */
static moerun_status begin(run *r) {
  const uint64_t *weights = r->model != NULL ? &r->model->digest : NULL;
  return moerun_comm_rank(r->comm) == 0
             ? moerun__run_files_begin(&r->files, weights)
             : MOERUN_OK;
}

static moerun_status end(run *r) {
  return moerun_comm_rank(r->comm) == 0 ? moerun__run_files_end(&r->files)
                                        : MOERUN_OK;
}

/* Rank 0: whether --resume goes on with requests in the middle. A window that
 * is scored has nothing to go on with. */
static int keeps(const run *r) {
  return r->files.unfinished != NULL &&
         !moerun__prompts_are_scored(r->files.prompts) &&
         moerun__gate_options_isolate(r->config);
}

static int streams(const run *r) {
  return !r->is_profile && moerun__config_bool(r->config, "stream");
}

/* [collective] */
static moerun_status generate(run *r) {
  moerun_status status = MOERUN_OK;
  const moerun__engine_stretch stretch = {r->session, r->replacer, 0};
  const moerun__engine_options options = {
      .record_trace = r->is_profile,
      .prefill_chunk =
          moerun__to_int(moerun__config_int(r->config, "prefill_chunk")),
      .logprobs_width = r->left.need.logprobs_width,
      .shares_prefixes =
          !r->is_profile &&
          strcmp(moerun__config_text(r->config, "prefix_cache"), "on") == 0,
      .streams = streams(r),
      .stop_bytes = r->left.need.stop_bytes,
      .tokenizer = r->left.need.has_stop_texts && moerun_comm_rank(r->comm) == 0
                       ? r->files.tokenizer
                       : r->tokenizer};
  moerun__engine_callbacks callbacks = {.stop_requested = is_stop_requested};
  const double began = moerun__now();
  moerun__run_files_serve(&r->files, &callbacks, keeps(r));
  /* It would be in the middle of what is shown. */
  if (streams(r)) moerun__progress_close(&r->bar);
  if (moerun_comm_rank(r->comm) == 0) {
    moerun__progress_run(&r->bar, moerun__prompts_count(r->files.prompts),
                         moerun__results_count(r->files.results),
                         &r->left.work);
  }
  moerun__signals_promise(keeps(r) ? MOERUN_PROMISE_ALL
                          : moerun__run_files_have_results(&r->files)
                              ? MOERUN_PROMISE_FINISHED
                              : MOERUN_PROMISE_SHOWN);
  status = moerun__memory_advise(
      moerun__engine_run(&stretch, &options, &callbacks, &r->progress,
                         &r->invocation->stopped),
      "smaller --max-sequences and --max-tokens need less");
  moerun__signals_promise(MOERUN_PROMISE_OVER);
  moerun__progress_close(&r->bar);
  r->run_seconds = moerun__now() - began;
  return status;
}

/* Rank 0: what was done, as a table and as a file. */
static moerun_status report(const run *r) {
  moerun_status status = MOERUN_OK;
  if (moerun_comm_rank(r->comm) != 0) goto done;
  const int is_scored = moerun__prompts_are_scored(r->files.prompts);
  const int64_t count = moerun__prompts_count(r->files.prompts);
  moerun__replace_count replaced = {0};
  if (r->replacer != NULL) replaced = moerun__replacer_count(r->replacer);
  const int is_told =
      replaced.looks > 0 || moerun__config_int(r->config, "replace_every") > 0;
  const moerun__run_facts facts = {
      .subcommand = r->invocation->subcommand,
      .config = r->config,
      .model = &r->model_config,
      .placement = r->placement,
      .kernels = r->kernels->name,
      .transport = r->comm->ops->name,
      .num_ranks = moerun_comm_size(r->comm),
      .predicted = r->predicted,
      .ended = {.requests = count,
                .bad = moerun__prompts_num_bad(r->files.prompts),
                .resumed = r->files.resumed,
                .stopped = r->invocation->stopped,
                .is_resumable = r->files.unfinished != NULL,
                .keeps = keeps(r),
                .unfinished = moerun__unfinished_count(r->files.unfinished)},
      .load_seconds = r->load_seconds,
      .run_seconds = r->run_seconds,
      .progress = r->progress,
      .report = r->report,
      .replaced = is_told ? &replaced : NULL,
      .is_scored =
          is_scored && moerun__results_count(r->files.results) == count,
      .score = moerun__results_score(r->files.results),
      .scored_bytes = moerun__prompts_scored_bytes(r->files.prompts)};
  /* The table must not be among results, and is as loud as the log there. */
  const int on_stdout = r->invocation->results_on_stdout;
  if (!on_stdout || moerun__run_is_talkative(r)) {
    MOERUN_TRY(moerun__summary_print(on_stdout ? stderr : stdout, &facts));
  }
  const int is_in_vain =
      r->files.trace != NULL && moerun__trace_file_count(r->files.trace) == 0;
  if (given(r, "metrics") && !is_in_vain) {
    MOERUN_TRY(moerun__metrics_put(&r->invocation->outputs,
                                   moerun__config_text(r->config, "metrics"),
                                   &facts));
  }
  /* They are whole whatever judge_input finds. */
  MOERUN_TRY(moerun__outputs_commit(&r->invocation->outputs));
done:
  return status;
}

/* Rank 0, once all is written: requests that were reported as wrong are a
 * failure of the whole, unless it was stopped and goes on. */
static moerun_status judge_input(const run *r) {
  const int judges = moerun_comm_rank(r->comm) == 0 && !r->invocation->stopped;
  return judges
             ? moerun__prompts_check(r->files.prompts,
                                     moerun__run_files_have_results(&r->files))
             : MOERUN_OK;
}

moerun_status moerun__cmd_run(moerun__invocation *invocation) {
  moerun_status status = MOERUN_OK;
  int has_work = 0;
  run r;
  moerun__run_init(&r, invocation);
  r.is_profile = strcmp(invocation->subcommand, "profile") == 0;
  if (r.is_profile) r.how = MOERUN_RUN_RECORDS;
  if (moerun_comm_rank(r.comm) == 0) moerun__progress_start(&r.bar, r.config);
  MOERUN_TRY(moerun__comm_agree_after_root(r.comm, plan(&r)));
  MOERUN_TRY(find_work(&r, &has_work));
  if (has_work) MOERUN_TRY(moerun__run_load(&r));
  MOERUN_TRY(moerun__comm_agree_after_root(r.comm, begin(&r)));
  if (has_work) MOERUN_TRY(generate(&r));
  MOERUN_TRY(moerun__comm_agree_after_root(r.comm, end(&r)));
  if (has_work) {
    MOERUN_TRY(
        moerun__report_collect(&r.report, r.session, moerun__memory_peak()));
  }
  MOERUN_TRY(moerun__comm_agree_after_root(r.comm, report(&r)));
  MOERUN_TRY(moerun__comm_agree_after_root(r.comm, judge_input(&r)));
done:
  moerun__run_clear(&r);
  return status;
}
