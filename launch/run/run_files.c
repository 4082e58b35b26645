/* Everything that can be wrong with prompts and outputs is found when they are
 * opened, and nothing on disk changes until moerun__run_files_begin. */
#include "launch/run/run_files.h"

#include "launch/options/bos.h"
#include "launch/options/input_options.h"
#include "launch/options/sampling_options.h"
#include "launch/run/fingerprint.h"
#include "runtime/base/log.h"
#include "runtime/base/number.h"

#include <string.h>
#include <unistd.h>

static int given(const moerun__run_files *f, const char *key) {
  return moerun__config_text(f->invocation->config, key)[0] != '\0';
}

static int is_profile(const moerun__run_files *f) {
  return strcmp(f->invocation->subcommand, "profile") == 0;
}

void moerun__run_files_init(moerun__run_files *files,
                            moerun__invocation *invocation,
                            moerun__progress_bar *bar) {
  *files = (moerun__run_files){
      .invocation = invocation,
      .model_path = moerun__config_text(invocation->config, "model"),
      .bar = bar};
}

/* ---- Input --------------------------------------------------------------- */

moerun_status moerun__run_files_open_input(moerun__run_files *f,
                                           const moerun__model_config *model,
                                           const char *kernels) {
  moerun_status status = MOERUN_OK;
  const moerun__config *c = f->invocation->config;
  f->model = model;
  MOERUN_TRY(moerun__input_open(&f->input, c));
  const char *path = f->input.path.bytes;
  const int is_score = given(f, "score");
  const int is_tokens = given(f, "tokens");
  const int64_t kv_tokens = moerun__config_int(c, "kv_tokens");
  const int64_t whole_pages =
      moerun__round_up(kv_tokens, MOERUN_PAGE_POSITIONS);
  int is_array = 0;
  if (is_score) MOERUN_TRY(moerun__prompts_is_array(&is_array, path));
  const int has_text = !is_tokens && !is_array;
  MOERUN_TRY(moerun__input_tokenizer(&f->tokenizer, f->model_path, has_text));
  if (has_text) {
    moerun__input_say_vocabulary(f->tokenizer, f->model->vocab_size,
                                 f->model_path);
  }
  moerun__prompt_options options = {
      .tokenizer = f->tokenizer,
      .vocab_size = f->model->vocab_size,
      .max_positions = f->model->max_positions,
      .kv_tokens = kv_tokens > 0 && whole_pages < INT32_MAX
                       ? moerun__to_int(whole_pages)
                       : INT32_MAX,
      .max_new_tokens = moerun__to_int(moerun__config_int(c, "max_new_tokens")),
      .min_new_tokens = moerun__to_int(moerun__config_int(c, "min_new_tokens")),
      .stop = given(f, "stop") ? moerun__config_text(c, "stop") : NULL,
      .sampling = moerun__sampling_of(c),
      .drops = moerun__config_double(c, "capacity") > 0,
      .logprobs = moerun__logprobs_of(c),
      .on_error = moerun__input_on_error(c),
      .fixed = moerun__input_fixed(c),
      .open = moerun__input_open_settings(c),
      .plain = given(f, "prompts") && moerun__config_bool(c, "lines"),
      .name = f->input.name.bytes};
  if (has_text && !is_score) {
    MOERUN_TRY(moerun__input_chat(&options.chat, &f->chat, &f->no_chat,
                                  f->model_path));
  }
  MOERUN_TRY(moerun__generation_config_apply(&options.sampling, c));
  MOERUN_TRY(moerun__bos_choose(&options, c, f->model_path, f->model->bos_token,
                                has_text));
  MOERUN_TRY(moerun__run_digest(&options.run_digest, c, kernels,
                                f->tokenizer != NULL));
  if (is_score) {
    const int32_t window = moerun__to_int(moerun__config_int(c, "window"));
    MOERUN_TRY(moerun__prompts_open_score(&f->prompts, path, window, &options));
  } else if (is_tokens) {
    MOERUN_TRY(moerun__prompts_open_tokens(&f->prompts, path, &options));
  } else {
    MOERUN_TRY(moerun__prompts_open(&f->prompts, path, &options));
  }
  moerun__input_say_overruled(f->prompts, &f->input, c);
done:
  return status;
}

/* ---- Output -------------------------------------------------------------- */

static int streams(const moerun__run_files *f) {
  return !is_profile(f) && moerun__config_bool(f->invocation->config, "stream");
}

int moerun__run_files_have_results(const moerun__run_files *files) {
  return !streams(files) || given(files, "output");
}

/* The texts on stdout; the table of the run must not be among them. */
static moerun_status open_stream(moerun__run_files *f) {
  moerun_status status = MOERUN_OK;
  if (!streams(f)) goto done;
  MOERUN_REQUIRE(f->tokenizer != NULL, MOERUN_ERR_UNSUPPORTED,
                 "--stream: texts need the model's tokenizer.json, which is "
                 "not there");
  MOERUN_REQUIRE(!moerun__prompts_are_batch(f->prompts), MOERUN_ERR_UNSUPPORTED,
                 "--stream: %s: answers to a batch file come as a whole: leave "
                 "--stream out, or give the requests as lines with \"prompt\" "
                 "or \"messages\"",
                 f->input.name.bytes);
  MOERUN_TRY(moerun__stream_create(&f->stream, f->prompts, f->tokenizer,
                                   f->unfinished));
  f->invocation->results_on_stdout = 1;
done:
  return status;
}

/* Whether lines of results go to stdout, by default or by its name. */
static moerun_status find_results(moerun__run_files *f) {
  moerun_status status = MOERUN_OK;
  moerun__target target = {0};
  int *on_stdout = &f->invocation->results_on_stdout;
  *on_stdout = !moerun__prompts_are_scored(f->prompts);
  if (!given(f, "output")) goto done;
  MOERUN_TRY(moerun__target_find(
      &target, moerun__config_text(f->invocation->config, "output")));
  *on_stdout = target.stream == STDOUT_FILENO;
  MOERUN_REQUIRE(!streams(f) || !*on_stdout, MOERUN_ERR_INVALID,
                 "--stream: stdout carries the text already: expected another "
                 "--output, or none");
done:
  moerun__target_clear(&target);
  return status;
}

moerun_status moerun__run_files_open_output(moerun__run_files *f) {
  moerun_status status = MOERUN_OK;
  const moerun__config *c = f->invocation->config;
  MOERUN_TRY(find_results(f));
  const int on_stdout = f->invocation->results_on_stdout;
  const int is_file = given(f, "output") && !on_stdout;
  const int resumes = moerun__results_resume(c) && given(f, "output");
  const moerun__results_options options = {
      .path = is_file ? moerun__config_text(c, "output") : NULL,
      .stream = on_stdout && !streams(f) ? stdout : NULL,
      .model = f->model,
      .resume = moerun__results_resume(c),
      .overwrite = moerun__config_bool(c, "overwrite"),
      .is_passing = is_profile(f)};
  MOERUN_REQUIRE(!resumes || is_file, MOERUN_ERR_OUTPUT,
                 "%s: expected a regular file for --resume",
                 moerun__config_text(c, "output"));
  MOERUN_TRY(
      moerun__results_open(&f->results, f->prompts, f->tokenizer, &options));
  if (is_profile(f)) {
    MOERUN_TRY(moerun__trace_file_open(
        &f->trace, moerun__config_text(c, "trace"), f->prompts, f->model,
        f->model_path, moerun_comm_size(f->invocation->comm)));
  } else if (is_file) {
    const moerun__unfinished_options beside = {
        .path = options.path,
        .resume = options.resume,
        .overwrite = options.overwrite,
        .vocab_size = f->model->vocab_size,
        .interval_s = moerun__config_double(c, "keep_every")};
    MOERUN_TRY(moerun__unfinished_open(&f->unfinished, f->prompts, f->results,
                                       &beside));
  }
  f->resumed = moerun__results_count(f->results);
  MOERUN_TRY(open_stream(f));
done:
  return status;
}

moerun_status moerun__run_files_begin(moerun__run_files *f,
                                      const uint64_t *weights) {
  moerun_status status = MOERUN_OK;
  const int has_results = moerun__run_files_have_results(f);
  MOERUN_TRY(moerun__results_begin(f->results, weights));
  /* Only now: it removes what --overwrite replaces. */
  MOERUN_TRY(moerun__unfinished_begin(f->unfinished, weights));
  if (weights == NULL) {
    LOG_ROOT(MOERUN_LOG_INFO, "no request is left: the weights were not read%s",
             f->resumed > 0 ? ", nor compared with those that made the results"
                            : "");
  }
  for (int64_t i = 0; i < moerun__prompts_count(f->prompts); i++) {
    const char *id = NULL;
    const char *reason = moerun__prompts_error(f->prompts, i, &id);
    if (reason == NULL) continue;
    if (!has_results) LOG_ROOT(MOERUN_LOG_ERROR, "%s", reason);
    MOERUN_TRY(moerun__results_append_error(f->results, i, id, reason));
  }
  if (f->trace != NULL) MOERUN_TRY(moerun__trace_file_begin(f->trace));
done:
  return status;
}

moerun_status moerun__run_files_end(moerun__run_files *f) {
  moerun_status status = MOERUN_OK;
  moerun__outputs *outputs = &f->invocation->outputs;
  MOERUN_TRY(moerun__results_end(f->results, outputs));
  moerun__unfinished_end(f->unfinished, f->invocation->stopped);
  if (f->trace != NULL) MOERUN_TRY(moerun__trace_file_end(f->trace, outputs));
  const moerun_status broken = moerun__results_check(f->results);
  /* The others' results are whole all the same. */
  if (broken != MOERUN_OK) MOERUN_TRY(moerun__outputs_commit(outputs));
  MOERUN_TRY(broken);
done:
  return status;
}

/* ---- The engine's source and sink ---------------------------------------- */

static moerun_status next_request(void *context, moerun__request *request,
                                  int *has) {
  moerun_status status = MOERUN_OK;
  moerun__run_files *f = context;
  const int64_t count = moerun__prompts_count(f->prompts);
  while (f->next < count && moerun__results_has(f->results, f->next)) {
    f->next++;
  }
  *has = f->next < count;
  if (!*has) goto done;
  MOERUN_TRY(moerun__prompts_read(f->prompts, &f->prompt, f->next));
  f->next++;
  MOERUN_TRY(moerun__unfinished_continue(f->unfinished, &f->prompt));
  *request = f->prompt.request;
done:
  return status;
}

/* What becomes of the tokens that are kept of a request. One that waits for
 * others of its line is kept as if its last token were to come: a run that goes
 * on generates that anew, and its end. */
static moerun_status keep_finished(const moerun__run_files *f,
                                   const moerun__completion *completion) {
  moerun_status status = MOERUN_OK;
  const int64_t index = completion->index;
  const moerun__prompt_place place = moerun__prompts_place(f->prompts, index);
  if (!moerun__results_waits(f->results, index)) {
    for (int32_t i = 0; i < place.parts; i++) {
      const int64_t other = index - place.part + i;
      if (other == index || moerun__results_has(f->results, other)) {
        moerun__unfinished_drop(f->unfinished, other);
      }
    }
  } else if (f->keeps && completion->num_tokens > 1) {
    moerun__completion part = *completion;
    part.num_tokens--;
    MOERUN_TRY(moerun__unfinished_put(f->unfinished, &part));
  }
done:
  return status;
}

static moerun_status take_completion(void *context,
                                     const moerun__completion *completion) {
  moerun_status status = MOERUN_OK;
  moerun__run_files *f = context;
  moerun__progress_ended(
      f->bar, completion,
      moerun__prompts_new_tokens(f->prompts, completion->index));
  if (f->invocation->results_on_stdout) moerun__progress_hide(f->bar);
  if (f->stream != NULL) MOERUN_TRY(moerun__stream_end(f->stream, completion));
  MOERUN_TRY(moerun__results_append(f->results, completion));
  MOERUN_TRY(keep_finished(f, completion));
  if (f->trace != NULL && completion->finish != MOERUN_FINISH_BROKEN) {
    MOERUN_TRY(moerun__trace_file_append(f->trace, completion));
  }
done:
  return status;
}

static moerun_status take_unfinished(void *context,
                                     const moerun__completion *part) {
  const moerun__run_files *f = context;
  return moerun__unfinished_put(f->unfinished, part);
}

static moerun_status take_token(void *context, const moerun__completion *next) {
  const moerun__run_files *f = context;
  return moerun__stream_token(f->stream, next);
}

static moerun_status save_unfinished(void *context) {
  const moerun__run_files *f = context;
  moerun__unfinished_save(f->unfinished);
  return MOERUN_OK;
}

static int is_unfinished_wanted(void *context) {
  const moerun__run_files *f = context;
  return moerun__unfinished_ask(f->unfinished);
}

static void show_progress(void *context, const moerun__progress *progress) {
  const moerun__run_files *f = context;
  moerun__progress_step(f->bar, progress);
}

void moerun__run_files_serve(moerun__run_files *files,
                             moerun__engine_callbacks *callbacks, int keeps) {
  callbacks->context = files;
  callbacks->next = next_request;
  callbacks->finished = take_completion;
  callbacks->progress = show_progress;
  callbacks->streamed = take_token;
  files->keeps = keeps;
  if (!keeps) return;
  callbacks->unfinished = take_unfinished;
  callbacks->unfinished_end = save_unfinished;
  callbacks->unfinished_wanted = is_unfinished_wanted;
}

/* ---- The end ------------------------------------------------------------- */

void moerun__run_files_clear(moerun__run_files *files) {
  moerun__trace_file_destroy(files->trace);
  moerun__stream_destroy(files->stream);
  moerun__unfinished_destroy(files->unfinished);
  moerun__results_destroy(files->results);
  moerun__prompts_destroy(files->prompts);
  moerun__spool_clear(&files->input);
  moerun__tokenizer_destroy(files->tokenizer);
  moerun__chat_template_destroy(files->chat);
  moerun__text_clear(&files->no_chat);
  moerun__prompt_clear(&files->prompt);
}
