/* When each option matters. Every option of every subcommand stands in a row,
 * and be it in the first ones, which say that it always matters: a unit test
 * compares this table with that of all options, so that a new one has to be
 * decided.
 *
 * Refused is what belongs to something that was not asked for, because its user
 * expects a run that this one is not. What goes by without harm is said: much
 * of it is typed once and used for many runs, with and without balancing, on
 * one rank and on eight. Limits that keep harm away (time, memory, launchers)
 * always matter, as insurance does that nobody claims. */
#include "launch/options/effect.h"

#include "launch/options/choices.h"
#include "launch/options/gate_options.h"
#include "launch/place/place_loads.h"
#include "launch/tools/prediction.h"
#include "placement/methods/method.h"
#include "runtime/base/output.h"
#include "runtime/model/arch.h"
#include "runtime/plan/width.h"

#include <string.h>

/* ---- What was asked for -------------------------------------------------- */

typedef moerun__effect_facts facts;

static const char *text_of(const facts *f, const char *key) {
  return moerun__config_text(f->config, key);
}

static int given(const facts *f, const char *key) {
  return text_of(f, key)[0] != '\0';
}

static int is(const facts *f, const char *key, const char *value) {
  return strcmp(text_of(f, key), value) == 0;
}

/* ---- Requests ---- */

static int reads_lines(const facts *f) {
  return given(f, "prompts");
}

static int scores(const facts *f) {
  return given(f, "score");
}

static int generates(const facts *f) {
  return !scores(f);
}

/* Lines may ask, too. */
static int asks_logprobs(const facts *f) {
  return generates(f) && (reads_lines(f) || given(f, "tokens") ||
                          moerun__config_bool(f->config, "logprobs") ||
                          moerun__config_bool(f->config, "prompt_logprobs"));
}

/* With --score nothing is generated, which is said of it before. */
static int samples(const facts *f) {
  return scores(f) || f->sampled > 0;
}

static int draws(const facts *f) {
  return samples(f) || (moerun__config_double(f->config, "capacity") > 0 &&
                        is(f, "capacity_metric", "hash"));
}

/* Else each row has to answer, or its result is not its own. */
static int shares_prefixes(const facts *f) {
  return generates(f) && moerun__config_double(f->config, "capacity") <= 0;
}

static int chunk_fits(const facts *f) {
  return moerun__config_int(f->config, "prefill_chunk") <=
         moerun__config_int(f->config, "max_tokens");
}

/* A line of --prompts may have a length of its own. */
static int may_reach_least(const facts *f) {
  return moerun__config_int(f->config, "min_new_tokens") <=
         moerun__config_int(f->config, "max_new_tokens");
}

static int never(const facts *f) {
  (void)f;
  return 0;
}

/* ---- Files ---- */

static int has_results(const facts *f) {
  return given(f, "output");
}

/* A device and a pipe have nothing beside them. */
static int has_results_file(const facts *f) {
  moerun__target target = {0};
  int is_file = 1;
  if (has_results(f) &&
      moerun__target_find(&target, text_of(f, "output")) == MOERUN_OK) {
    is_file = !target.is_direct;
  }
  moerun__target_clear(&target);
  return is_file;
}

static int isolates(const facts *f) {
  return moerun__gate_options_isolate(f->config);
}

static int writes(const facts *f) {
  return given(f, "output") || given(f, "metrics");
}

static int place_writes(const facts *f) {
  return given(f, "output") || given(f, "json") || given(f, "export") ||
         given(f, "convert");
}

/* ---- Ranks ---- */

static int has_others(const facts *f) {
  return f->num_ranks != 1;
}

static int balances(const facts *f) {
  return moerun__balance_of(f->config) != MOERUN_BALANCE_OFF;
}

static int replaces(const facts *f) {
  return moerun__replaces(f->config, f->num_ranks > 0 ? f->num_ranks : 2);
}

/* Unless every layer of every step is sliced. */
static int moves_rows(const facts *f) {
  return moerun__balance_of(f->config) != MOERUN_BALANCE_SLICED ||
         moerun__config_int(f->config, "slice_memory") > 0;
}

static int sends_weights(const facts *f) {
  return moerun__config_int(f->config, "guest_memory") >= 0 || replaces(f);
}

/* ---- Lossy routing ---- */

static int drops(const facts *f) {
  return moerun__config_double(f->config, "capacity") > 0;
}

/* One rank has an even share of all rows, which is all of them. */
static int drops_if_at_all(const facts *f) {
  const moerun__gate_options options = moerun__gate_options_of(f->config);
  return has_others(f) || options.capacity.gamma < 1000 ||
         options.capacity.level == MOERUN_LEVEL_EXPERT ||
         options.capacity.expansion == MOERUN_EXPANSION_PAPER;
}

/* Each expert has room for every token of a step. */
static int leaves_any_out(const facts *f) {
  const moerun__gate_options options = moerun__gate_options_of(f->config);
  const int64_t share =
      (int64_t)options.capacity.gamma * f->model->experts_per_token;
  return !drops(f) || !drops_if_at_all(f) /* which is said already */ ||
         options.capacity.expansion == MOERUN_EXPANSION_PAPER ||
         share < 1000 * (int64_t)moerun__config_choices(f->model);
}

static int expands(const facts *f) {
  return moerun__gate_options_of(f->config).capacity.expansion !=
         MOERUN_EXPANSION_OFF;
}

static int drops_by_request(const facts *f) {
  return moerun__gate_options_of(f->config).capacity.scope ==
         MOERUN_SCOPE_REQUEST;
}

static int loses_experts(const facts *f) {
  return drops(f) || given(f, "gate_top_k") ||
         moerun__config_double(f->config, "gate_top_p") < 1;
}

/* --gate-top-k leaves out an expert of some layer. */
static int narrows(const facts *f) {
  const moerun__gate_options options = moerun__gate_options_of(f->config);
  const int32_t usual = f->model->experts_per_token;
  if (options.limits.count == 0) return options.width.most < usual;
  for (int32_t i = 0; i < options.limits.count; i++) {
    if (options.limits.range[i].most < usual) return 1;
  }
  return 0;
}

/* ---- info and synth ---- */

static int shows_page(const facts *f) {
  return moerun__config_bool(f->config, "config_table") ||
         moerun__config_bool(f->config, "list_models");
}

static int shows_no_page(const facts *f) {
  return !shows_page(f);
}

static int shows_model(const facts *f) {
  return given(f, "model") && !shows_page(f);
}

static const moerun__arch *arch_of(const facts *f) {
  return moerun__arch_find(moerun__config_text(f->config, "arch"));
}

static int has_shared(const facts *f) {
  const moerun__arch *arch = arch_of(f);
  return arch == NULL || moerun__arch_has_shared(arch);
}

static int may_have_dense(const facts *f) {
  const moerun__arch *arch = arch_of(f);
  return arch == NULL || moerun__arch_has_dense(arch);
}

static int has_dense(const facts *f) {
  return moerun__config_int(f->config, "dense_layers") > 0;
}

/* ---- place ---- */

static int describes(const facts *f) {
  return given(f, "describe");
}

static int places(const facts *f) {
  return !describes(f);
}

static int has_routing(const facts *f) {
  return !given(f, "loads");
}

static int solves(const facts *f) {
  return !given(f, "placement");
}

/* A placement is judged by load caps, which spare slots change only where
 * speeds differ. */
static int has_room_for_spare(const facts *f) {
  return solves(f) || given(f, "speeds") ||
         strstr(text_of(f, "topology"), "speed") != NULL;
}

static int has_rows_of_model(const facts *f) {
  return given(f, "model");
}

static int bounds_in_time(const facts *f) {
  return is(f, "bound", "sdp");
}

/* A method that there is not is somebody else's error. */
static const moerun__method *method_of(const facts *f) {
  return moerun__method_find(moerun__place_method(f->config));
}

static int fills_slots(const facts *f) {
  const moerun__method *method = method_of(f);
  return method == NULL || method->fills_slots;
}

static int polishes(const facts *f) {
  const moerun__method *method = method_of(f);
  return method == NULL || method->polishes;
}

static int method_draws(const facts *f) {
  const moerun__method *method = method_of(f);
  return method == NULL || method->draws;
}

/* Load caps hold a method that keeps them, replicas that are filled in, and a
 * bound. */
static int has_caps(const facts *f) {
  const moerun__method *method = method_of(f);
  return method == NULL || method->keeps_caps ||
         (moerun__config_int(f->config, "spare_slots") > 0 &&
          !method->replicates) ||
         (has_routing(f) && !is(f, "bound", "none"));
}

/* ---- The table ----------------------------------------------------------- */

#define ALWAYS(subcommands, keys)                                              \
  {                                                                            \
    subcommands, keys, MOERUN_EFFECT_ALWAYS, MOERUN_EFFECT_OPTIONS, NULL,      \
        NULL, NULL                                                             \
  }
#define SAY(subcommands, keys, matters, none, reason)                          \
  {                                                                            \
    subcommands, keys, MOERUN_EFFECT_SAY, MOERUN_EFFECT_OPTIONS, matters,      \
        none, reason                                                           \
  }
#define REFUSE(subcommands, keys, matters, reason)                             \
  {                                                                            \
    subcommands, keys, MOERUN_EFFECT_REFUSE, MOERUN_EFFECT_OPTIONS, matters,   \
        NULL, reason                                                           \
  }

static const moerun__effect_row rows[] = {
    ALWAYS("run profile chat info synth place tokenize detokenize",
           "config log_level allow_singletons"),
    ALWAYS("run profile chat synth place", "progress progress_terminal"),

    /* run and profile */
    ALWAYS("run profile",
           "model prompt prompts tokens score add_bos output metrics"),
    ALWAYS("profile", "trace overwrite"),
    REFUSE("run profile", "lines", reads_lines,
           "it is about the lines of --prompts, which is not given"),
    REFUSE("run profile", "window", scores,
           "it is the length of the pieces that the text of --score is cut "
           "into, which is not given"),
    REFUSE("run profile", "on_error", generates,
           "the text of --score has no lines: expected --prompts or --tokens"),
    REFUSE("run", "stream", generates, "nothing is generated with --score"),
    REFUSE("run", "resume", has_results,
           "expected --output with it, which holds the results to go on with"),
    REFUSE("run", "keep_every", has_results,
           "expected --output with it, beside which unfinished requests are "
           "kept"),
    SAY("run", "keep_every", generates, NULL,
        "nothing is generated with --score"),
    SAY("run", "keep_every", has_results_file, "0",
        "nothing is kept beside a device or a pipe"),
    SAY("run", "keep_every", isolates, "0",
        "nothing is kept with --capacity unless with --isolation, because what "
        "a request yields depends on those beside it"),
    SAY("run", "overwrite", writes, NULL, "the run writes no file"),
    SAY("run profile",
        "max_new_tokens min_new_tokens stop temperature top_p top_k min_p "
        "repetition_penalty "
        "presence_penalty frequency_penalty generation_config logprobs "
        "prompt_logprobs seed",
        generates, NULL, "nothing is generated with --score"),
    REFUSE("run profile", "top_logprobs", asks_logprobs,
           "expected --logprobs or --prompt-logprobs with it"),
    SAY("run profile chat", "min_new_tokens", may_reach_least, NULL,
        "--max-new-tokens ends a completion before"),
    {"run profile chat", "top_p top_k min_p", MOERUN_EFFECT_REFUSE,
     MOERUN_EFFECT_REQUESTS, samples, NULL,
     "the likeliest token is taken at a temperature of 0: set --temperature, "
     "too, or leave it out"},
    {"run profile chat", "seed", MOERUN_EFFECT_SAY, MOERUN_EFFECT_REQUESTS,
     draws, NULL,
     "nothing is drawn: no request has a temperature above 0, and no capacity "
     "is by the metric hash"},

    /* info by itself */
    REFUSE("info", "model", shows_no_page,
           "--config-table and --list-models print a page alone"),
    ALWAYS("info", "config_table list_models"),
    REFUSE(
        "info",
        "ranks max_tokens max_sequences kv_tokens node_memory placement "
        "replace_every "
        "replace_window spare_slots balance guest_memory slice_memory wire "
        "compute chunks capacity capacity_scope capacity_level "
        "capacity_metric capacity_window capacity_decode expanded "
        "expanded_most drop_weights keep_best isolation gate_top_k gate_top_p",
        shows_model,
        "expected --model with it: without one, info shows the build alone"),

    /* Memory, ranks and the machine */
    ALWAYS("run profile",
           "max_tokens max_sequences kv_tokens memory_check node_memory "
           "placement wire compute kernels transport timeout_s fault"),
    SAY("run profile chat info", "chunks", has_others, NULL,
        "no rows travel: one rank hosts all experts"),
    SAY("run profile chat", "prefill_chunk", chunk_fits, NULL,
        "a step has no more than --max-tokens rows of a rank"),
    SAY("run", "prefix_cache", shares_prefixes, NULL,
        "every row of a prompt is computed: with --score each has to answer, "
        "and with --capacity what becomes of one depends on others"),
    SAY("run profile chat info",
        "replace_every replace_window spare_slots slice_memory", has_others,
        "0", "one rank hosts all experts, and there is no other"),
    SAY("run profile chat info", "balance", has_others, "off",
        "one rank hosts all experts, and there is no other"),
    SAY("run profile chat info", "guest_memory", has_others, "-1",
        "one rank hosts all experts, and there is no other"),
    SAY("run profile chat", "balance_threshold balance_rows", has_others, NULL,
        "one rank hosts all experts, and there is no other"),
    {"run profile chat info", "spare_slots", MOERUN_EFFECT_REFUSE,
     MOERUN_EFFECT_OPTIONS, replaces, "0",
     "experts stay where they are: set --replace-every to a number of steps, "
     "or to -1 with --balance auto and no --capacity"},
    REFUSE("run profile chat info", "replace_window", replaces,
           "experts stay where they are: set --replace-every to a number of "
           "steps, or to -1 with --balance auto and no --capacity"),
    SAY("run profile chat info", "guest_memory", balances, "-1",
        "--balance off moves no rows to other ranks"),
    SAY("run profile chat info", "slice_memory", balances, NULL,
        "--balance off slices no experts"),
    SAY("run profile chat", "balance_threshold balance_rows", balances, NULL,
        "--balance off moves no rows to other ranks"),
    SAY("run profile chat info", "guest_memory", moves_rows, "-1",
        "--balance sliced slices every layer"),
    SAY("run profile chat", "balance_threshold balance_rows", moves_rows, NULL,
        "--balance sliced slices every layer"),
    SAY("run profile chat", "balance_rows", sends_weights, NULL,
        "--guest-memory -1 leaves no room for weights that are sent"),

    /* Lossy routing */
    SAY("run profile chat info", "capacity", drops_if_at_all, "0",
        "one rank has room for all rows together: set --capacity-level expert, "
        "or a capacity below 1"),
    {"run profile chat info", "capacity", MOERUN_EFFECT_SAY,
     MOERUN_EFFECT_MODEL, leaves_any_out, "0",
     "every expert has room for all tokens: set it below the number of experts "
     "over those of a token"},
    SAY("run profile chat info", "isolation", drops, "off",
        "without --capacity no request changes another's output anyway"),
    REFUSE("run profile chat info",
           "capacity_scope capacity_level capacity_metric capacity_window "
           "capacity_decode expanded keep_best",
           drops,
           "expected --capacity with it: without one nothing is dropped"),
    SAY("run profile chat info", "capacity_scope", has_others, "request",
        "the tokens of one rank are those of all ranks"),
    REFUSE("run profile chat info", "capacity_window", drops_by_request,
           "expected --capacity-scope request or --isolation with it, which "
           "decide within windows of a request"),
    SAY("run profile chat", "capacity_decode", generates, NULL,
        "nothing is generated with --score"),
    REFUSE("run profile chat info", "expanded_most", expands,
           "expected --expanded with it: without one no token asks for other "
           "experts"),
    REFUSE("run profile chat info", "drop_weights", loses_experts,
           "expected --capacity, --gate-top-k or --gate-top-p with it: without "
           "one "
           "no token loses experts"),
    {"run profile chat info", "gate_top_k", MOERUN_EFFECT_REFUSE,
     MOERUN_EFFECT_MODEL, narrows, NULL,
     "the model takes no more experts for a token anyway; it is no limit of "
     "the tokens that are sampled from (--top-k is)"},
    ALWAYS("run profile chat info", "gate_top_p"),

    /* place */
    ALWAYS("place", "describe json ranks"),
    REFUSE("place",
           "trace loads topology speeds method objective slack spare_slots "
           "slots train "
           "time_limit polish expert_groups seed bound bound_time output "
           "export model placement compare wire",
           places, "--describe looks at a trace of its own and places nothing"),
    REFUSE("place", "segment", describes,
           "it is about the segments of --describe, which is not given"),
    REFUSE("place", "trace_experts", has_routing,
           "the table of --loads has a number for each expert"),
    REFUSE("place", "placement", has_routing,
           "expected --trace with it, found --loads: --compare judges it by "
           "loads alone"),
    REFUSE("place", "convert model", has_routing,
           "expected --trace with it, found --loads"),
    {"place", "objective train bound bound_time wire", MOERUN_EFFECT_REFUSE,
     MOERUN_EFFECT_OPTIONS, has_routing, "none",
     "expected --trace with it: --loads say nothing of tokens and traffic"},
    REFUSE("place", "method slots time_limit polish expert_groups seed", solves,
           "--placement is judged as it is, and none is solved"),
    REFUSE("place", "spare_slots", has_room_for_spare,
           "--placement is judged as it is, and none is solved"),
    REFUSE("place", "slots expert_groups", fills_slots,
           "it is about the slots that --method eplb fills: expected that "
           "method with it"),
    REFUSE("place", "polish", polishes,
           "--method cd alone has rounds of annealing"),
    SAY("place", "seed", method_draws, NULL,
        "the method draws no random numbers"),
    SAY("place", "slack", has_caps, NULL,
        "neither the method nor a bound looks at load caps"),
    REFUSE("place", "bound_time", bounds_in_time,
           "it is the time for --bound sdp, which is not given"),
    REFUSE("place", "wire", has_rows_of_model,
           "expected --model with it: without one traffic is given in rows"),
    SAY("place", "overwrite", place_writes, NULL, "no file is written"),

    /* chat */
    ALWAYS(
        "chat",
        "model system chat_template_kwargs max_tokens kv_tokens memory_check "
        "node_memory placement wire compute kernels transport timeout_s "
        "max_new_tokens min_new_tokens stop temperature "
        "repetition_penalty presence_penalty frequency_penalty "
        "generation_config"),
    SAY("chat", "max_sequences", never, NULL,
        "a conversation is one request at a time"),

    /* tokenize and detokenize */
    ALWAYS("tokenize",
           "model prompt prompts lines add_bos text output overwrite"),
    ALWAYS("detokenize", "model tokens keep_special output overwrite"),

    /* synth */
    ALWAYS("synth",
           "output overwrite like arch layers hidden heads kv_heads head_dim "
           "experts experts_per_token expert_width null_experts zero_experts "
           "copy_experts constant_experts vocab positions dtype tied fused "
           "skew shard_gb seed"),
    REFUSE("synth", "shared_experts", has_shared,
           "models of this --arch have no shared experts"),
    REFUSE("synth", "dense_layers dense_width", may_have_dense,
           "models of this --arch have experts in every layer"),
    REFUSE("synth", "dense_width", has_dense,
           "expected --dense-layers with it: without one every layer has "
           "experts"),
};

const moerun__effect_row *moerun__effect_row_at(int i) {
  const int count = (int)(sizeof rows / sizeof *rows);
  return i >= 0 && i < count ? &rows[i] : NULL;
}
