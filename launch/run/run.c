/* Before the first weight is read all memory is taken, and each part ends in an
 * agreement, so that a failure of one rank is the verdict of all. */
#include "launch/run/run.h"

#include "launch/run/memory_left.h"
#include "launch/run/node_memory.h"
#include "runtime/base/memory.h"
#include "runtime/base/number.h"
#include "runtime/base/stop.h"
#include "runtime/base/timer.h"

#include <math.h>
#include <string.h>

typedef moerun__run run;

void moerun__run_init(moerun__run *r, moerun__invocation *invocation) {
  memset(r, 0, sizeof *r);
  r->invocation = invocation;
  r->config = invocation->config;
  r->comm = invocation->comm;
  r->model_path = moerun__config_text(invocation->config, "model");
  moerun__run_files_init(&r->files, invocation, &r->bar);
}

int moerun__run_is_talkative(const moerun__run *r) {
  const char *level = moerun__config_text(r->config, "log_level");
  return strcmp(level, "info") == 0 || strcmp(level, "debug") == 0;
}

static void print_prediction(run *r) {
  /* Who talks wants to, and no tables. */
  const int is_chat = strcmp(r->invocation->subcommand, "chat") == 0;
  if (is_chat || !moerun__run_is_talkative(r)) return;
  moerun__progress_hide(&r->bar);
  (void)fprintf(stderr, "moerun: memory of a rank, predicted\n");
  moerun__prediction_print(stderr, r->predicted, moerun_comm_size(r->comm));
}

/* Every rank looks for the stops of its requests. */
static moerun_status load_tokenizer(run *r) {
  return moerun_comm_rank(r->comm) != 0
             ? moerun__tokenizer_load(&r->tokenizer, r->model_path)
             : MOERUN_OK;
}

/* [collective] Where the spellings of a rank are others than those of rank 0,
 * its requests would run over their stops, or end too early. */
static moerun_status same_tokenizer(const run *r) {
  moerun_status status = MOERUN_OK;
  const int is_root = moerun_comm_rank(r->comm) == 0;
  const uint64_t mine =
      moerun__tokenizer_digest(is_root ? r->files.tokenizer : r->tokenizer);
  uint64_t first = mine;
  MOERUN_TRY(r->comm->ops->broadcast(r->comm, &first, sizeof first));
  MOERUN_REQUIRE(mine == first, MOERUN_ERR_SHAPE,
                 "%s: expected tokenizer.json as on rank 0, found another",
                 r->model_path);
done:
  return status;
}

/* [collective] */
static moerun_status open_tokenizers(run *r) {
  moerun_status status = MOERUN_OK;
  if (!r->left.need.has_stop_texts) goto done;
  MOERUN_TRY(moerun__comm_agree(r->comm, load_tokenizer(r)));
  MOERUN_TRY(moerun__comm_agree(r->comm, same_tokenizer(r)));
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

moerun_status moerun__run_load(moerun__run *r) {
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
  MOERUN_TRY(open_tokenizers(r));
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

void moerun__run_clear(moerun__run *r) {
  moerun__progress_close(&r->bar);
  moerun_session_destroy(r->session);
  moerun__kv_destroy(r->cache);
  moerun_model_destroy(r->model);
  moerun__replacer_destroy(r->replacer);
  moerun_placement_destroy(r->placement);
  moerun__report_destroy(r->report);
  moerun__run_files_clear(&r->files);
  moerun__tokenizer_destroy(r->tokenizer);
  moerun__free(r->predicted);
  moerun__reserve_clear(&r->reserve);
  moerun__model_config_clear(&r->model_config);
}
