/* `moerun info`: the build, the table of configuration keys, what a model is,
 * and the memory that each rank will take, all before anything is loaded. */
#include "launch/command.h"
#include "launch/options/options.h"

#include "kernels/kernels.h"
#include "launch/options/effect.h"
#include "launch/options/gate_options.h"
#include "launch/options/placements.h"
#include "launch/run/node_fit.h"
#include "launch/tools/prediction.h"
#include "placement/methods/program.h"
#include "runtime/base/memory.h"
#include "runtime/base/wrap.h"
#include "runtime/model/arch.h"
#include "runtime/model/attention.h"
#include "runtime/model/model.h"
#include "runtime/text/chat_template.h"
#include "runtime/text/tokenizer.h"

#include <mpi.h>
#include <string.h>

/* ---- Build --------------------------------------------------------------- */

void moerun__print_build(FILE *stream) {
  char library[MPI_MAX_LIBRARY_VERSION_STRING] = "";
  int length = 0;
  (void)MPI_Get_library_version(library, &length);
  library[strcspn(library, ",\n")] = '\0';
  (void)fprintf(stream, "moerun %d.%d.%d\nMPI: %s\ncompiler: %s\nkernels:",
                MOERUN_VERSION_MAJOR, MOERUN_VERSION_MINOR,
                MOERUN_VERSION_PATCH, library, MOERUN_COMPILER);
  const moerun__kernels *set = NULL;
  for (int i = 0; (set = moerun__kernels_at(i)) != NULL; i++) {
    (void)fprintf(stream, " %s", set->name);
  }
  (void)fprintf(stream, "\nlinear programs: %s\n", moerun__program_solver());
}

/* ---- Model --------------------------------------------------------------- */

/* Parameters, in millions. */
typedef struct parameter_count {
  double all;
  double active; /* that one token meets */
} parameter_count;

/* Of a layer: shared experts, their weight, and the bias of the choice. */
static double shared_parameters(const moerun__model_config *c) {
  const double H = c->hidden_width;
  return (double)moerun__expert_elements(c, c->shared_width) +
         (c->shared_is_weighted ? H : 0) +
         (c->has_choice_bias ? c->num_experts : 0);
}

static parameter_count count_parameters(const moerun__model_config *c) {
  const double H = c->hidden_width;
  const double expert = (double)moerun__expert_elements(c, c->expert_width);
  const double attention = (double)moerun__attention_elements(c) + 2 * H;
  const double dense = (double)moerun__expert_elements(c, c->dense_width);
  const int32_t dense_layers = c->num_layers - c->num_moe_layers;
  const double head = H * c->vocab_size;
  const double shared =
      (c->tied_head ? 1 : 2) * head + H + c->num_layers * attention +
      dense_layers * dense + c->num_moe_layers * H * moerun__config_choices(c) +
      c->num_moe_layers * 3 * H * c->num_home[MOERUN_HOME_CONSTANT] +
      c->num_moe_layers * shared_parameters(c);
  const double experts = c->num_moe_layers * expert;
  return (parameter_count){
      .all = (shared + experts * c->num_experts) / 1e6,
      .active = (shared + experts * moerun__config_terms(c)) / 1e6,
  };
}

/* Every family: what config.json calls it, and the class of transformers that
 * computes the same. */
static void print_families(void) {
  const moerun__arch *arch = NULL;
  (void)printf("%-18s %-30s %-8s %s\n", "model_type", "class", "shared",
               "layers without experts");
  for (int i = 0; (arch = moerun__arch_at(i)) != NULL; i++) {
    (void)printf("%-18s %-30s %-8s %s\n", moerun__arch_name(arch),
                 moerun__arch_class(arch),
                 moerun__arch_has_shared(arch) ? "yes" : "no",
                 moerun__arch_has_dense(arch) ? "yes" : "no");
  }
}

static void print_model(const char *path, const moerun__model_config *c) {
  const parameter_count count = count_parameters(c);
  (void)printf("\nmodel %s\n", path);
  (void)printf("  architecture  %s\n", moerun__arch_name(c->arch));
  (void)printf("  parameters    %.1f million, %.1f million of them for one "
               "token\n",
               count.all, count.active);
  (void)printf("  layers        %d, %d of them with experts\n", c->num_layers,
               c->num_moe_layers);
  (void)printf("  experts       %d a layer, %d a token, width %d\n",
               c->num_experts, c->experts_per_token, c->expert_width);
  for (int kind = 0; kind < MOERUN_HOME_KINDS; kind++) {
    if (c->num_home[kind] == 0) continue;
    (void)printf("  and           %d %s expert%s, computed at home\n",
                 c->num_home[kind], moerun__home_name((moerun__home_kind)kind),
                 c->num_home[kind] == 1 ? "" : "s");
  }
  if (c->shared_width > 0) {
    (void)printf("  shared        width %d for every token%s\n",
                 c->shared_width, c->shared_is_weighted ? ", weighted" : "");
  }
  (void)printf("  hidden width  %d\n", c->hidden_width);
  if (c->num_heads > 0) {
    (void)printf(
        "  attention     %d heads and %d key/value heads of width %d\n",
        c->num_heads, c->num_kv_heads, c->head_dim);
  } else {
    (void)printf("  attention     %s\n", c->attention->name);
  }
  (void)printf("  vocabulary    %d\n", c->vocab_size);
  (void)printf("  context       %d tokens\n", c->max_positions);
}

/* A row of the model with a reason behind it, which may be long. */
static void print_reason(const char *name, const char *text,
                         const char *reason) {
  enum { INDENT = 16 };
  (void)printf("  %-14s", name);
  const int column = moerun__wrap_words(stdout, text, INDENT, INDENT);
  (void)moerun__wrap_words(stdout, reason, column, INDENT);
  (void)printf("\n");
}

/* Whether texts and conversations can be given to the model. */
static moerun_status print_texts(const char *path) {
  moerun_status status = MOERUN_OK;
  moerun__tokenizer *tokenizer = NULL;
  moerun__chat_template *chat = NULL;
  moerun__token_list ids = {0};
  status = moerun__tokenizer_load(&tokenizer, path);
  if (status == MOERUN_OK) {
    status = moerun__tokenizer_encode(tokenizer, &ids, "a", 1, path);
  }
  if (status == MOERUN_ERR_NOMEM) goto done;
  print_reason("tokenizer",
               status == MOERUN_OK ? "reads and writes texts"
               : tokenizer != NULL ? "writes texts, and reads none:"
                                   : "none that is read, for token ids alone:",
               status == MOERUN_OK ? "" : moerun_last_error());
  status = moerun__chat_template_load(&chat, path);
  if (status == MOERUN_ERR_NOMEM) goto done;
  print_reason("chat template",
               chat != NULL          ? "for conversations"
               : status == MOERUN_OK ? "none"
                                     : "cannot be used:",
               status == MOERUN_OK ? "" : moerun_last_error());
  status = MOERUN_OK;
done:
  moerun__token_list_clear(&ids);
  moerun__chat_template_destroy(chat);
  moerun__tokenizer_destroy(tokenizer);
  return status;
}

/* ---- Ranks --------------------------------------------------------------- */

/* Under a launcher the run in question is the one that it would start. */
static int is_launched(const moerun__invocation *invocation) {
  return invocation->launched > 0 &&
         moerun__config_int(invocation->config, "ranks") == 0;
}

/* 0: nobody says. */
static int32_t ranks_asked_for(const moerun__invocation *invocation) {
  if (is_launched(invocation)) return invocation->launched;
  return (int32_t)moerun__config_int(invocation->config, "ranks");
}

moerun_status moerun__cmd_info(moerun__invocation *invocation) {
  moerun_status status = MOERUN_OK;
  moerun__model_config model = {0};
  moerun_placement *placement = NULL;
  moerun__prediction *ranks = NULL;
  moerun__cache_need need = {0};
  moerun__model_size size = {0};
  moerun__node_fit fit = {0};
  const moerun__config *config = invocation->config;
  const char *path = moerun__config_text(config, "model");
  moerun__effect_facts effects = {.subcommand = invocation->subcommand,
                                  .config = config};
  const int lists = moerun__config_bool(config, "list_models");
  if (path[0] == '\0' || lists || moerun__config_bool(config, "config_table")) {
    MOERUN_TRY(moerun__effect_check(&effects, MOERUN_EFFECT_OPTIONS));
  }
  if (moerun__config_bool(config, "config_table")) {
    moerun__config_print_page(stdout, &moerun__options);
    goto done;
  }
  if (lists) {
    print_families();
    goto done;
  }
  if (path[0] == '\0') {
    moerun__print_build(stdout);
    goto done;
  }
  MOERUN_TRY(moerun__gate_options_check(config));
  invocation->phase = MOERUN_PHASE_FILES;
  MOERUN_TRY(moerun__model_config_load(&model, path));
  MOERUN_TRY(
      moerun__placement_for(&placement, config, ranks_asked_for(invocation)));
  effects.num_ranks = moerun_placement_num_ranks(placement);
  effects.model = &model;
  invocation->phase = MOERUN_PHASE_USAGE;
  MOERUN_TRY(moerun__gate_options_fit(config, model.num_moe_layers));
  MOERUN_TRY(moerun__effect_check(&effects, (unsigned)MOERUN_EFFECT_OPTIONS |
                                                MOERUN_EFFECT_MODEL));
  invocation->phase = MOERUN_PHASE_FILES;
  const int assumes = moerun__config_int(config, "kv_tokens") == 0;
  if (assumes) need = moerun__cache_need_assumed(model.max_positions);
  MOERUN_TRY(moerun__model_size_load(&size, path, placement, 0, 0));
  MOERUN_TRY(moerun__predict(&ranks, config, placement, &need, 0));
  MOERUN_TRY(moerun__node_fit_find(&fit, ranks, config, placement, &need));
  moerun__print_build(stdout);
  model.tied_head = size.tied_head;
  print_model(path, &model);
  MOERUN_TRY(print_texts(path));
  (void)printf("\nmemory per rank, %d rank%s, placement %s\n",
               moerun_placement_num_ranks(placement),
               moerun_placement_num_ranks(placement) == 1 ? "" : "s",
               placement->method);
  if (is_launched(invocation)) {
    (void)printf("as many ranks as a launcher has started; --ranks N asks of "
                 "others\n");
  }
  moerun__prediction_print(stdout, ranks,
                           moerun_placement_num_ranks(placement));
  if (assumes) {
    (void)printf("KV cache: assumed for --max-sequences %d of %d tokens "
                 "each;\na run takes what its requests need, or --kv-tokens\n",
                 moerun__max_sequences(config), need.max_positions);
  }
  moerun__node_fit_print(stdout, &fit);
done:
  moerun__free(ranks);
  moerun_placement_destroy(placement);
  moerun__model_config_clear(&model);
  return status;
}
