/* `moerun synth`: a random checkpoint for scaling runs and tests. */
#include "launch/command.h"

#include "launch/options/effect.h"
#include "launch/run/progress.h"
#include "runtime/base/log.h"
#include "runtime/model/synth.h"

#include <string.h>

static int32_t int_of(const moerun__config *config, const char *key) {
  return (int32_t)moerun__config_int(config, key);
}

/* The option has names of types in small letters. */
static moerun__dtype dtype_of(const char *text) {
  int d = 0;
  for (;; d++) {
    const char *option = moerun__dtype_at((moerun__dtype)d)->option;
    if (option != NULL && strcmp(option, text) == 0) break;
  }
  return (moerun__dtype)d;
}

static moerun_status check_heads(const moerun__synth_options *o) {
  moerun_status status = MOERUN_OK;
  const moerun__synth_heads *heads = &o->heads;
  const int32_t derived = o->hidden_width / heads->num_heads;
  const int32_t width = heads->head_dim != 0 ? heads->head_dim : derived;
  const int64_t all = (int64_t)heads->num_heads * width;
  const int32_t kv = heads->num_kv_heads;
  MOERUN_REQUIRE(heads->head_dim != 0 || (width % 2 == 0 && width > 0 &&
                                          width <= MOERUN_MAX_HEAD_DIM),
                 MOERUN_ERR_INVALID,
                 "--heads: expected heads of an even width of 2 to %d, found "
                 "%d of --hidden %d and --heads %d; --head-dim sets the width",
                 MOERUN_MAX_HEAD_DIM, width, o->hidden_width, heads->num_heads);
  MOERUN_REQUIRE(width % 2 == 0, MOERUN_ERR_INVALID,
                 "--head-dim: expected an even width, found %d", width);
  MOERUN_REQUIRE(all <= MOERUN_MAX_WIDTH, MOERUN_ERR_INVALID,
                 "--heads times --head-dim: expected at most %d, found %lld",
                 MOERUN_MAX_WIDTH, (long long)all);
  MOERUN_REQUIRE(kv == 0 || heads->num_heads % kv == 0, MOERUN_ERR_INVALID,
                 "--kv-heads: expected a divisor of the %d of --heads, found "
                 "%d",
                 heads->num_heads, kv);
done:
  return status;
}

/* By the names that were typed; the rest is the model's affair. */
static moerun_status check_sizes(const moerun__synth_options *o) {
  moerun_status status = MOERUN_OK;
  const int64_t shared = (int64_t)o->shared_experts * o->expert_width;
  const int64_t dense = (int64_t)o->experts_per_token * o->expert_width;
  int64_t experts = o->num_experts;
  for (int h = 0; h < MOERUN_HOME_KINDS; h++) {
    experts += o->num_home[h];
  }
  MOERUN_TRY(check_heads(o));
  MOERUN_REQUIRE(experts <= MOERUN_MAX_EXPERTS, MOERUN_ERR_INVALID,
                 "--experts, --null-experts and the like: expected at most %d "
                 "in all, found %lld",
                 MOERUN_MAX_EXPERTS, (long long)experts);
  MOERUN_REQUIRE(o->experts_per_token <= experts, MOERUN_ERR_INVALID,
                 "--experts-per-token: expected at most the %lld of --experts "
                 "and the like, found %d",
                 (long long)experts, o->experts_per_token);
  MOERUN_REQUIRE(shared <= MOERUN_MAX_WIDTH, MOERUN_ERR_INVALID,
                 "--shared-experts times --expert-width: expected at most %d, "
                 "found %lld",
                 MOERUN_MAX_WIDTH, (long long)shared);
  MOERUN_REQUIRE(o->num_dense < o->num_layers, MOERUN_ERR_INVALID,
                 "--dense-layers: expected fewer than the %d of --layers, "
                 "found %d",
                 o->num_layers, o->num_dense);
  MOERUN_REQUIRE(o->num_dense == 0 || o->dense_width != 0 ||
                     dense <= MOERUN_MAX_WIDTH,
                 MOERUN_ERR_INVALID,
                 "--dense-width: expected to be given, because "
                 "--experts-per-token times --expert-width, its default, is "
                 "%lld, more than %d",
                 (long long)dense, MOERUN_MAX_WIDTH);
done:
  return status;
}

moerun_status moerun__cmd_synth(moerun__invocation *invocation) {
  moerun_status status = MOERUN_OK;
  const moerun__config *config = invocation->config;
  moerun__progress_bar bar = {0};
  const moerun__byte_watch watch = {&bar, moerun__progress_watch};
  const moerun__synth_options options = {
      .path = moerun__config_text(config, "output"),
      .arch = moerun__config_text(config, "arch"),
      .seed = (uint64_t)moerun__config_int(config, "seed"),
      .dtype = dtype_of(moerun__config_text(config, "dtype")),
      .skew = moerun__config_double(config, "skew"),
      .fused = moerun__config_bool(config, "fused"),
      .num_layers = int_of(config, "layers"),
      .num_dense = int_of(config, "dense_layers"),
      .dense_width = int_of(config, "dense_width"),
      .hidden_width = int_of(config, "hidden"),
      .heads = {.num_heads = int_of(config, "heads"),
                .num_kv_heads = int_of(config, "kv_heads"),
                .head_dim = int_of(config, "head_dim")},
      .num_experts = int_of(config, "experts"),
      .num_home = {[MOERUN_HOME_NULL] = int_of(config, "null_experts"),
                   [MOERUN_HOME_ZERO] = int_of(config, "zero_experts"),
                   [MOERUN_HOME_COPY] = int_of(config, "copy_experts"),
                   [MOERUN_HOME_CONSTANT] = int_of(config, "constant_experts")},
      .experts_per_token = int_of(config, "experts_per_token"),
      .expert_width = int_of(config, "expert_width"),
      .shared_experts = int_of(config, "shared_experts"),
      .vocab_size = int_of(config, "vocab"),
      .max_positions = int_of(config, "positions"),
      .tied_head = moerun__config_bool(config, "tied"),
      .files = {.shard_bytes =
                    (int64_t)(moerun__config_double(config, "shard_gb") * 1e9),
                .overwrite = moerun__config_bool(config, "overwrite"),
                .watch = &watch},
  };
  const moerun__effect_facts effects = {.subcommand = invocation->subcommand,
                                        .config = config};
  MOERUN_TRY(moerun__progress_check(config));
  MOERUN_TRY(moerun__effect_check(&effects, MOERUN_EFFECT_OPTIONS));
  MOERUN_TRY(check_sizes(&options));
  invocation->phase = MOERUN_PHASE_FILES;
  moerun__progress_start(&bar, config);
  moerun__progress_phase(&bar, "writing");
  MOERUN_TRY(moerun__synth_write(&options));
  LOG_ROOT(MOERUN_LOG_INFO, "%s: written", options.path);
done:
  moerun__progress_close(&bar);
  return status;
}
