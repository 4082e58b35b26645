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

#include "launch/options/bos.h"
#include "launch/options/effect.h"
#include "launch/options/gate_options.h"
#include "launch/options/input_options.h"
#include "launch/options/placements.h"
#include "launch/run/fingerprint.h"
#include "launch/run/memory_left.h"
#include "launch/run/metrics.h"
#include "launch/run/node_memory.h"
#include "launch/run/progress.h"
#include "launch/run/signals.h"
#include "launch/run/trace_file.h"
#include "launch/run/unfinished.h"
#include "launch/run/work_left.h"
#include "runtime/base/log.h"
#include "runtime/base/memory.h"
#include "runtime/base/number.h"
#include "runtime/base/stop.h"
#include "runtime/base/timer.h"
#include "runtime/decoder/session.h"
#include "runtime/serve/replace.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

typedef struct run {
  moerun__invocation *invocation;
  const moerun__config *config;
  moerun_comm *comm;
  const char *model_path;
  int is_profile;
  unsigned how; /* MOERUN_RUN_* */
  moerun__model_config model_config;
  const moerun__kernels *kernels;
  moerun__faults faults;
  moerun_placement *placement;
  moerun__work_left left; /* the work: rank 0 only */
  moerun__kv_cache *cache;
  moerun__reserve reserve; /* what the session will take */
  moerun_model *model;
  moerun_session *session;
  moerun__replacer *replacer; /* NULL: experts stay where they are */
  moerun__progress progress;
  moerun__report *report;
  double load_seconds;
  double run_seconds;
  /* Rank 0 only. */
  moerun__tokenizer *tokenizer;
  moerun__spool input;
  moerun__prompts *prompts;
  moerun__results *results;
  moerun__unfinished *unfinished; /* NULL: there is no --resume */
  moerun__trace_file *trace;
  moerun__prediction *predicted; /* [R] */
  moerun__prompt prompt;         /* handed out last */
  moerun__progress_bar bar;
  int64_t resumed;
  int64_t next;
} run;

/* ---- Settings ------------------------------------------------------------------------- */

static int given(const run *r, const char *key) {
  return moerun__config_text(r->config, key)[0] != '\0';
}

static moerun__effect_facts effects_of(const run *r) {
  return (moerun__effect_facts){.subcommand = r->invocation->subcommand,
                                .config = r->config,
                                .num_ranks = moerun_comm_size(r->comm),
                                .model = &r->model_config,
                                .sampled = moerun__prompts_sampled(r->prompts)};
}

static moerun_status check_settings(run *r) {
  moerun_status status = MOERUN_OK;
  const moerun__config *c = r->config;
  const int overwrite = moerun__config_bool(c, "overwrite");
  const moerun__effect_facts effects = effects_of(r);
  const int64_t max_sequences = moerun__config_int(c, "max_sequences");
  const int64_t max_tokens = moerun__config_int(c, "max_tokens");
  MOERUN_TRY(moerun__input_check(c));
  MOERUN_TRY(moerun__progress_check(c));
  MOERUN_REQUIRE(!moerun__results_resume(c) || !overwrite, MOERUN_ERR_INVALID,
                 "expected one of --resume and --overwrite, found both");
  MOERUN_REQUIRE(max_sequences <= max_tokens, MOERUN_ERR_INVALID,
                 "--max-sequences: expected at most --max-tokens (%lld), found "
                 "%lld",
                 (long long)max_tokens, (long long)max_sequences);
  MOERUN_TRY(moerun__gate_options_check(c));
  MOERUN_TRY(moerun__effect_check(&effects, MOERUN_EFFECT_OPTIONS));
  if (r->is_profile) {
    MOERUN_TRY(moerun__trace_file_check(moerun__config_text(c, "trace")));
  }
  if (given(r, "fault")) {
    MOERUN_TRY(
        moerun__faults_parse(&r->faults, moerun__config_text(c, "fault")));
    MOERUN_TRY(moerun__faults_check(&r->faults, moerun_comm_size(r->comm)));
  }
done:
  return status;
}

/* ---- Input: rank 0 ------------------------------------------------------------------------ */

static moerun_status open_input(run *r) {
  moerun_status status = MOERUN_OK;
  const moerun__config *c = r->config;
  MOERUN_TRY(moerun__input_open(&r->input, c));
  const char *path = r->input.path.bytes;
  const int is_score = given(r, "score");
  const int is_tokens = given(r, "tokens");
  const int64_t kv_tokens = moerun__config_int(c, "kv_tokens");
  const int64_t whole_pages =
      moerun__round_up(kv_tokens, MOERUN_PAGE_POSITIONS);
  int is_array = 0;
  if (is_score) MOERUN_TRY(moerun__prompts_is_array(&is_array, path));
  const int has_text = !is_tokens && !is_array;
  MOERUN_TRY(moerun__input_tokenizer(&r->tokenizer, r->model_path, has_text));
  moerun__prompt_options options = {
      .tokenizer = r->tokenizer,
      .vocab_size = r->model_config.vocab_size,
      .max_positions = r->model_config.max_positions,
      .kv_tokens = kv_tokens > 0 && whole_pages < INT32_MAX
                       ? moerun__to_int(whole_pages)
                       : INT32_MAX,
      .max_new_tokens = moerun__to_int(moerun__config_int(c, "max_new_tokens")),
      .temperature = moerun__config_double(c, "temperature"),
      .top_p = moerun__config_double(c, "top_p"),
      .seed = (uint64_t)moerun__config_int(c, "seed"),
      .reports_bad = !is_score &&
                     strcmp(moerun__config_text(c, "bad_lines"), "report") == 0,
      .fixed = moerun__input_fixed(c),
      .plain = given(r, "prompts") && moerun__config_bool(c, "lines"),
      .name = r->input.name.bytes};
  MOERUN_TRY(moerun__bos_choose(&options, c, r->model_path,
                                r->model_config.bos_token, has_text));
  MOERUN_TRY(moerun__run_digest(&options.run_digest, c, r->kernels->name,
                                r->tokenizer != NULL));
  if (is_score) {
    const int32_t window = moerun__to_int(moerun__config_int(c, "window"));
    MOERUN_TRY(moerun__prompts_open_score(&r->prompts, path, window, &options));
  } else if (is_tokens) {
    MOERUN_TRY(moerun__prompts_open_tokens(&r->prompts, path, &options));
  } else {
    MOERUN_TRY(moerun__prompts_open(&r->prompts, path, &options));
  }
  moerun__input_say_overruled(r->prompts, &r->input, c);
  const moerun__effect_facts effects = effects_of(r);
  r->invocation->phase = MOERUN_PHASE_USAGE;
  MOERUN_TRY(moerun__gate_options_fit(c, r->model_config.num_moe_layers));
  MOERUN_TRY(moerun__effect_check(&effects, (unsigned)MOERUN_EFFECT_MODEL |
                                                MOERUN_EFFECT_REQUESTS));
  r->invocation->phase = MOERUN_PHASE_FILES;
done:
  return status;
}

/* ---- Output: rank 0 ------------------------------------------------------------------------ */

/* Whether lines of results go to stdout, by default or by its name. */
static moerun_status find_results(run *r) {
  moerun_status status = MOERUN_OK;
  moerun__target target = {0};
  int *on_stdout = &r->invocation->results_on_stdout;
  *on_stdout = !moerun__prompts_are_scored(r->prompts);
  if (!given(r, "output")) goto done;
  MOERUN_TRY(
      moerun__target_find(&target, moerun__config_text(r->config, "output")));
  *on_stdout = target.stream == STDOUT_FILENO;
done:
  moerun__target_clear(&target);
  return status;
}

static moerun_status open_output(run *r) {
  moerun_status status = MOERUN_OK;
  const moerun__config *c = r->config;
  MOERUN_TRY(find_results(r));
  const int on_stdout = r->invocation->results_on_stdout;
  const int is_file = given(r, "output") && !on_stdout;
  const int resumes = moerun__results_resume(c) && given(r, "output");
  const moerun__results_options options = {
      .path = is_file ? moerun__config_text(c, "output") : NULL,
      .stream = on_stdout ? stdout : NULL,
      .model = &r->model_config,
      .resume = moerun__results_resume(c),
      .overwrite = moerun__config_bool(c, "overwrite"),
      .is_passing = r->is_profile};
  MOERUN_REQUIRE(!resumes || is_file, MOERUN_ERR_OUTPUT,
                 "%s: expected a regular file for --resume",
                 moerun__config_text(c, "output"));
  MOERUN_TRY(
      moerun__results_open(&r->results, r->prompts, r->tokenizer, &options));
  if (r->is_profile) {
    MOERUN_TRY(moerun__trace_file_open(
        &r->trace, moerun__config_text(c, "trace"), r->prompts,
        &r->model_config, r->model_path, moerun_comm_size(r->comm)));
  } else if (is_file) {
    const moerun__unfinished_options beside = {
        .path = options.path,
        .resume = options.resume,
        .overwrite = options.overwrite,
        .vocab_size = r->model_config.vocab_size,
        .interval_s = moerun__config_double(c, "keep_every")};
    MOERUN_TRY(moerun__unfinished_open(&r->unfinished, r->prompts, r->results,
                                       &beside));
  }
  r->resumed = moerun__results_count(r->results);
done:
  return status;
}

static moerun_status begin_output(run *r) {
  moerun_status status = MOERUN_OK;
  if (moerun_comm_rank(r->comm) != 0) goto done;
  const uint64_t *weights = r->model != NULL ? &r->model->digest : NULL;
  MOERUN_TRY(moerun__results_begin(r->results, weights));
  /* Only now: it removes what --overwrite replaces. */
  MOERUN_TRY(moerun__unfinished_begin(r->unfinished, weights));
  if (r->model == NULL) {
    LOG_ROOT(MOERUN_LOG_INFO, "no request is left: the weights were not read%s",
             r->resumed > 0 ? ", nor compared with those that made the results"
                            : "");
  }
  for (int64_t i = 0; i < moerun__prompts_count(r->prompts); i++) {
    const char *id = NULL;
    const char *reason = moerun__prompts_error(r->prompts, i, &id);
    if (reason == NULL) continue;
    MOERUN_TRY(moerun__results_append_error(r->results, i, id, reason));
  }
  if (r->trace != NULL) MOERUN_TRY(moerun__trace_file_begin(r->trace));
done:
  return status;
}

static moerun_status end_output(run *r) {
  moerun_status status = MOERUN_OK;
  moerun__outputs *outputs = &r->invocation->outputs;
  if (moerun_comm_rank(r->comm) != 0) goto done;
  MOERUN_TRY(moerun__results_end(r->results, outputs));
  moerun__unfinished_end(r->unfinished, r->invocation->stopped);
  if (r->trace != NULL) MOERUN_TRY(moerun__trace_file_end(r->trace, outputs));
  const moerun_status broken = moerun__results_check(r->results);
  /* The others' results are whole all the same. */
  if (broken != MOERUN_OK) MOERUN_TRY(moerun__outputs_commit(outputs));
  MOERUN_TRY(broken);
done:
  return status;
}

/* ---- Before the weights ----------------------------------------------------------------------- */

static int is_talkative(const run *r) {
  const char *level = moerun__config_text(r->config, "log_level");
  return strcmp(level, "info") == 0 || strcmp(level, "debug") == 0;
}

static void print_prediction(run *r) {
  if (!is_talkative(r)) return;
  moerun__progress_hide(&r->bar);
  (void)fprintf(stderr, "moerun: memory of a rank, predicted\n");
  moerun__prediction_print(stderr, r->predicted, moerun_comm_size(r->comm));
}

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
  MOERUN_TRY(open_input(r));
  MOERUN_TRY(open_output(r));
  MOERUN_TRY(moerun__work_left_of(
      &r->left, r->prompts, r->results, r->unfinished,
      moerun__to_int(moerun__config_int(r->config, "max_sequences")), R));
  MOERUN_TRY(moerun__predict(&r->predicted, r->config, r->placement,
                             &r->left.need, r->how));
done:
  return status;
}

/* ---- The engine's callbacks ---------------------------------------------------------------------- */

static moerun_status next_request(void *context, moerun__request *request,
                                  int *has) {
  moerun_status status = MOERUN_OK;
  run *r = context;
  const int64_t count = moerun__prompts_count(r->prompts);
  while (r->next < count && moerun__results_has(r->results, r->next)) {
    r->next++;
  }
  *has = r->next < count;
  if (!*has) goto done;
  MOERUN_TRY(moerun__prompts_read(r->prompts, &r->prompt, r->next));
  r->next++;
  MOERUN_TRY(moerun__unfinished_continue(r->unfinished, &r->prompt));
  *request = r->prompt.request;
done:
  return status;
}

static moerun_status take_completion(void *context,
                                     const moerun__completion *completion) {
  moerun_status status = MOERUN_OK;
  run *r = context;
  moerun__progress_ended(
      &r->bar, completion,
      moerun__prompts_new_tokens(r->prompts, completion->index));
  if (r->invocation->results_on_stdout) moerun__progress_hide(&r->bar);
  MOERUN_TRY(moerun__results_append(r->results, completion));
  moerun__unfinished_drop(r->unfinished, completion->index);
  if (r->trace != NULL && completion->finish != MOERUN_FINISH_BROKEN) {
    MOERUN_TRY(moerun__trace_file_append(r->trace, completion));
  }
done:
  return status;
}

static moerun_status take_unfinished(void *context,
                                     const moerun__completion *part) {
  const run *r = context;
  return moerun__unfinished_put(r->unfinished, part);
}

static moerun_status save_unfinished(void *context) {
  const run *r = context;
  moerun__unfinished_save(r->unfinished);
  return MOERUN_OK;
}

static int is_unfinished_wanted(void *context) {
  const run *r = context;
  return moerun__unfinished_ask(r->unfinished);
}

static void show_progress(void *context, const moerun__progress *progress) {
  run *r = context;
  moerun__progress_step(&r->bar, progress);
}

static int is_stop_requested(void *context) {
  (void)context;
  return moerun__signals_ask_to_stop();
}

/* ---- The work -------------------------------------------------------------------------------------- */

/* [collective] Whether any request is left to run, and what those need. */
static moerun_status find_work(run *r, int *has) {
  moerun_status status = MOERUN_OK;
  int64_t left = 0;
  if (moerun_comm_rank(r->comm) == 0) {
    left = moerun__prompts_count(r->prompts) -
           moerun__prompts_num_bad(r->prompts) - r->resumed;
  }
  MOERUN_TRY(r->comm->ops->broadcast(r->comm, &left, sizeof left));
  MOERUN_TRY(
      r->comm->ops->broadcast(r->comm, &r->left.need, sizeof r->left.need));
  *has = left > 0;
done:
  return status;
}

/* The cache and the buffers of steps, before the first weight is read. */
static moerun_status reserve(run *r, const moerun_session_options *options,
                             moerun__session_extra *extra) {
  const moerun_model unread = {
      .comm = r->comm, .placement = r->placement, .config = r->model_config};
  moerun_status status =
      moerun__session_cache_create(&r->cache, &r->model_config, options, extra);
  extra->cache = r->cache;
  extra->reserve = &r->reserve;
  if (status == MOERUN_OK) {
    status = moerun__session_reserve(&r->reserve, &unread, options, extra);
  }
  return moerun__memory_advise(
      status,
      "smaller --max-sequences, --kv-tokens and --max-tokens need less");
}

/* [collective] */
static moerun_status load(run *r) {
  moerun_status status = MOERUN_OK;
  const double began = moerun__now();
  const moerun__byte_watch watch = {&r->bar, moerun__progress_watch};
  moerun_session_options options =
      moerun__session_options_of(r->config, &r->left.need);
  moerun__replace_options replace =
      moerun__replace_options_of(r->config, r->placement);
  moerun__settled settled;
  MOERUN_TRY(moerun__memory_settle(&settled, &r->predicted, r->config,
                                   r->placement, &r->left.need, r->how,
                                   r->comm));
  options.guest_bytes = settled.guest_bytes;
  replace.spare_slots = settled.spare_slots;
  moerun__session_extra extra = moerun__session_extra_of(
      r->config, r->placement, &r->left.need, settled.how);
  extra.kernels = r->kernels;
  extra.threshold = (int32_t)lround(
      1000 * moerun__config_double(r->config, "balance_threshold"));
  extra.min_rows =
      moerun__to_int(moerun__config_int(r->config, "balance_rows"));
  extra.faults = r->faults.count > 0 ? &r->faults : NULL;
  if (settled.replaces) {
    extra.max_slots = moerun__replacer_slots(r->placement, replace.spare_slots);
  }
  if (moerun_comm_rank(r->comm) == 0) print_prediction(r);
  MOERUN_TRY(moerun__node_memory_check(r->comm, r->config, r->predicted));
  moerun__progress_phase(&r->bar, "taking memory");
  MOERUN_TRY(moerun__comm_agree(r->comm, reserve(r, &options, &extra)));
  moerun__progress_phase(&r->bar, moerun_comm_size(r->comm) > 1 ? "rank 0 loads"
                                                                : "loading");
  MOERUN_TRY(moerun__memory_advise(
      moerun__model_load_watched(&r->model, r->comm, r->placement,
                                 r->model_path, &watch),
      "on more ranks each holds fewer experts"));
  moerun__progress_phase(&r->bar, "measuring how fast ranks are");
  MOERUN_TRY(moerun__memory_advise(
      moerun__session_create_with(&r->session, r->model, &options, &extra),
      "smaller --guest-memory and --slice-memory need less"));
  if (settled.replaces) {
    /* Two runs with counted speeds move experts after the same steps. */
    replace.is_beside = !r->faults.counted;
    MOERUN_TRY(moerun__memory_advise(
        moerun__replacer_create(&r->replacer, r->session, r->model, &replace),
        "smaller --spare-slots and --replace-window need less"));
  }
  MOERUN_TRY(moerun__comm_agree(
      r->comm, moerun__stop_check(r->model_path, "the run was prepared")));
  r->load_seconds = moerun__now() - began;
done:
  return status;
}

/* Rank 0: whether --resume goes on with requests in the middle. A window that
 * is scored has nothing to go on with. */
static int keeps(const run *r) {
  return r->unfinished != NULL && !moerun__prompts_are_scored(r->prompts) &&
         moerun__gate_options_isolate(r->config);
}

/* [collective] */
static moerun_status generate(run *r) {
  moerun_status status = MOERUN_OK;
  const moerun__engine_stretch stretch = {r->session, r->replacer, 0};
  const moerun__engine_options options = {
      .record_trace = r->is_profile,
      .prefill_chunk =
          moerun__to_int(moerun__config_int(r->config, "prefill_chunk"))};
  moerun__engine_callbacks callbacks = {.context = r,
                                        .next = next_request,
                                        .finished = take_completion,
                                        .progress = show_progress,
                                        .stop_requested = is_stop_requested};
  const double began = moerun__now();
  if (keeps(r)) {
    callbacks.unfinished = take_unfinished;
    callbacks.unfinished_end = save_unfinished;
    callbacks.unfinished_wanted = is_unfinished_wanted;
  }
  if (moerun_comm_rank(r->comm) == 0) {
    moerun__progress_run(&r->bar, moerun__prompts_count(r->prompts),
                         moerun__results_count(r->results), &r->left.work);
  }
  moerun__signals_promise(keeps(r) ? MOERUN_PROMISE_ALL
                                   : MOERUN_PROMISE_FINISHED);
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
  const int is_scored = moerun__prompts_are_scored(r->prompts);
  const int64_t count = moerun__prompts_count(r->prompts);
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
      .requests = count,
      .bad = moerun__prompts_num_bad(r->prompts),
      .resumed = r->resumed,
      .stopped = r->invocation->stopped,
      .is_resumable = r->unfinished != NULL,
      .keeps = keeps(r),
      .unfinished = moerun__unfinished_count(r->unfinished),
      .load_seconds = r->load_seconds,
      .run_seconds = r->run_seconds,
      .progress = r->progress,
      .report = r->report,
      .replaced = is_told ? &replaced : NULL,
      .is_scored = is_scored && moerun__results_count(r->results) == count,
      .score = moerun__results_score(r->results),
      .scored_bytes = moerun__prompts_scored_bytes(r->prompts)};
  /* The table must not be among results, and is as loud as the log there. */
  const int on_stdout = r->invocation->results_on_stdout;
  if (!on_stdout || is_talkative(r)) {
    MOERUN_TRY(moerun__summary_print(on_stdout ? stderr : stdout, &facts));
  }
  const int is_in_vain =
      r->trace != NULL && moerun__trace_file_count(r->trace) == 0;
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
  return judges ? moerun__prompts_check(r->prompts) : MOERUN_OK;
}

static void destroy(run *r) {
  moerun__progress_close(&r->bar);
  moerun_session_destroy(r->session);
  moerun__kv_destroy(r->cache);
  moerun_model_destroy(r->model);
  moerun__replacer_destroy(r->replacer);
  moerun_placement_destroy(r->placement);
  moerun__report_destroy(r->report);
  moerun__trace_file_destroy(r->trace);
  moerun__unfinished_destroy(r->unfinished);
  moerun__results_destroy(r->results);
  moerun__prompts_destroy(r->prompts);
  moerun__spool_clear(&r->input);
  moerun__tokenizer_destroy(r->tokenizer);
  moerun__prompt_clear(&r->prompt);
  moerun__free(r->predicted);
  moerun__reserve_clear(&r->reserve);
  moerun__model_config_clear(&r->model_config);
}

moerun_status moerun__cmd_run(moerun__invocation *invocation) {
  moerun_status status = MOERUN_OK;
  int has_work = 0;
  run r = {.invocation = invocation,
           .config = invocation->config,
           .comm = invocation->comm,
           .model_path = moerun__config_text(invocation->config, "model"),
           .is_profile = strcmp(invocation->subcommand, "profile") == 0};
  if (r.is_profile) r.how = MOERUN_RUN_RECORDS;
  if (moerun_comm_rank(r.comm) == 0) moerun__progress_start(&r.bar, r.config);
  MOERUN_TRY(moerun__comm_agree_after_root(r.comm, plan(&r)));
  MOERUN_TRY(find_work(&r, &has_work));
  if (has_work) MOERUN_TRY(load(&r));
  MOERUN_TRY(moerun__comm_agree_after_root(r.comm, begin_output(&r)));
  if (has_work) MOERUN_TRY(generate(&r));
  MOERUN_TRY(moerun__comm_agree_after_root(r.comm, end_output(&r)));
  if (has_work) {
    MOERUN_TRY(
        moerun__report_collect(&r.report, r.session, moerun__memory_peak()));
  }
  MOERUN_TRY(moerun__comm_agree_after_root(r.comm, report(&r)));
  MOERUN_TRY(moerun__comm_agree_after_root(r.comm, judge_input(&r)));
done:
  destroy(&r);
  return status;
}
