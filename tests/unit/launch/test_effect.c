/* Options without effect: that each is refused or said where it has none, and
 * not where it has one, and that the table decides every option there is. */
#include "launch/options/effect.h"
#include "launch/options/options.h"
#include "runtime/base/config_table.h"
#include "runtime/base/memory.h"
#include "support/cmocka.h"
#include "support/warnings.h"

#include <string.h>

enum {
  MOST_WORDS = 16,
  LINE = 512,
  VALUE = 32,
  MOST_ROWS = 128,
  MOST_KEYS = 32
};

static const char *const no_variables[] = {NULL};
static const moerun__model_config model = {
    .num_moe_layers = 4, .num_experts = 8, .experts_per_token = 4};

/* ---- One option ---------------------------------------------------------- */

/* A value that is neither the default nor asks for nothing. */
static void choose(char out[VALUE], const moerun__config_row *row) {
  static const char *const texts[][2] = {
      {"gate_top_k", "4"}, {"method", "eplb"}, {"capacity_scope", "global"}};
  const char *text = NULL;
  size_t length = 0;
  switch (row->type) {
  case MOERUN_CONFIG_INT: (void)snprintf(out, VALUE, "%.0f", row->high); return;
  case MOERUN_CONFIG_DOUBLE:
    (void)snprintf(out, VALUE, "%g",
                   strcmp(row->fallback, "1") == 0 ? row->low : row->high);
    return;
  case MOERUN_CONFIG_BOOL: (void)snprintf(out, VALUE, "true"); return;
  case MOERUN_CONFIG_TEXT: (void)snprintf(out, VALUE, "x"); break;
  case MOERUN_CONFIG_CHOICE:
    for (int i = 0; (text = moerun__config_choice(row, i, &length)) != NULL;
         i++) {
      (void)snprintf(out, VALUE, "%.*s", (int)length, text);
    }
    break;
  }
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    if (strcmp(row->key, texts[i][0]) == 0) {
      (void)snprintf(out, VALUE, "%s", texts[i][1]);
    }
  }
}

/* `line` is how many ranks and sampled requests there are, a subcommand, and
 * its options; the variables of `environment` are added. */
static moerun_status check(const char *line, const char *const *environment) {
  char words[LINE];
  const char *word[MOST_WORDS] = {NULL};
  int count = 0;
  moerun__config *config = NULL;
  (void)snprintf(words, sizeof words, "%s", line);
  char *at = words;
  while (at != NULL) {
    assert_true(count < MOST_WORDS);
    word[count++] = at;
    at = strchr(at, ' ');
    if (at != NULL) *at++ = '\0';
  }
  if (moerun__config_load(&config, &moerun__options, word[2], count - 3,
                          word + 3, environment) != MOERUN_OK) {
    fail_msg("%s: %s", line, moerun_last_error());
  }
  const moerun__effect_facts facts = {.subcommand = word[2],
                                      .config = config,
                                      .num_ranks = word[0][0] - '0',
                                      .model = &model,
                                      .sampled = word[1][0] - '0'};
  warnings_begin();
  const moerun_status status = moerun__effect_check(
      &facts, (unsigned)MOERUN_EFFECT_OPTIONS | MOERUN_EFFECT_MODEL |
                  MOERUN_EFFECT_REQUESTS);
  warnings_end();
  moerun__config_destroy(config);
  return status;
}

/* ---- All options --------------------------------------------------------- */

static void every_option_is_decided(void **state) {
  (void)state;
  const char *subcommand = NULL;
  const moerun__config_row *option = NULL;
  const moerun__effect_row *row = NULL;
  for (int s = 0; (subcommand = moerun__options.subcommands[s]) != NULL; s++) {
    for (int i = 0;
         (option = moerun__config_row_at(&moerun__options, i)) != NULL; i++) {
      int count = 0;
      for (int r = 0; (row = moerun__effect_row_at(r)) != NULL; r++) {
        count += moerun__effect_row_is_of(row, subcommand, option->key);
      }
      if ((option->used_by >> s & 1U) != (count > 0) &&
          moerun__config_find(&moerun__options, 1U << s, option->key,
                              strlen(option->key)) == i) {
        fail_msg("--%s of %s stands in %d rows of effect_rows.c", option->key,
                 subcommand, count);
      }
    }
  }
}

/* ---- Every row ----------------------------------------------------------- */

/* The options `keys` without effect in the run `idle`, and with one in `busy`;
 * what the line says. */
typedef struct example {
  const char *keys;
  const char *words;
  const char *idle;
  const char *busy; /* NULL: in no run of this kind */
} example;

#define GATE                                                                   \
  "capacity_scope capacity_level capacity_metric capacity_window "             \
  "capacity_decode expanded keep_best"
#define SETTINGS                                                               \
  "max_new_tokens stop temperature top_p top_k min_p repetition_penalty "      \
  "presence_penalty frequency_penalty generation_config logprobs "             \
  "prompt_logprobs seed"
#define NO_OTHER "one rank hosts all experts"
#define STAYS    "experts stay where they are"

static const example examples[] = {
    {"lines", "lines of --prompts", "2 0 run --model m --tokens t",
     "2 0 run --model m --prompts p"},
    {"window", "the text of --score", "2 0 run --model m --prompts p",
     "2 0 run --model m --score t"},
    {"on_error", "has no lines", "2 0 run --model m --score t",
     "2 0 run --model m --tokens t"},
    {"stream", "nothing is generated", "2 0 run --model m --score t",
     "2 0 run --model m --tokens t"},
    {"resume", "expected --output", "2 0 run --model m --prompts p",
     "2 0 run --model m --prompts p --output o"},
    {"keep_every", "beside which", "2 0 run --model m --prompts p",
     "2 0 run --model m --prompts p --output o"},
    {"keep_every", "nothing is generated",
     "2 0 run --model m --score t --output o",
     "2 0 run --model m --prompts p --output o"},
    {"keep_every", "beside a device or a pipe",
     "2 0 run --model m --prompts p --output /dev/null",
     "2 0 run --model m --prompts p --output o"},
    {"keep_every", "depends on those beside it",
     "2 0 run --model m --prompts p --output o --capacity 1",
     "2 0 run --model m --prompts p --output o --capacity 1 --isolation route"},
    {"overwrite", "writes no file", "2 0 run --model m --prompts p",
     "2 0 run --model m --prompts p --metrics j"},
    {SETTINGS, "nothing is generated", "2 1 run --model m --score t",
     "2 1 run --model m --prompts p"},
    {"min_new_tokens", "nothing is generated", "2 1 run --model m --score t",
     "2 1 run --model m --prompts p --max-new-tokens 1048576"},
    {"min_new_tokens", "--max-new-tokens ends", "2 1 run --model m --prompts p",
     "2 1 run --model m --prompts p --max-new-tokens 1048576"},
    {"max_sequences", "one request at a time", "2 1 chat --model m", NULL},
    {"top_logprobs", "expected --logprobs or", "2 0 run --model m --prompt p",
     "2 0 run --model m --prompt p --logprobs"},
    {"top_p top_k min_p", "at a temperature of 0",
     "2 0 run --model m --prompts p", "2 1 run --model m --prompts p"},
    {"seed", "nothing is drawn", "2 0 run --model m --prompts p",
     "2 1 run --model m --prompts p"},
    {"seed", "nothing is drawn",
     "2 0 run --model m --prompts p --capacity-metric first --capacity 1",
     "2 0 run --model m --prompts p --capacity-metric hash --capacity 1"},
    {"model", "print a page alone", "0 0 info --config-table", "0 0 info"},
    {"ranks max_tokens max_sequences kv_tokens node_memory placement "
     "replace_every "
     "replace_window spare_slots balance guest_memory slice_memory wire "
     "compute chunks gate_top_p",
     "the build alone", "0 0 info", "2 0 info --model m"},
    {"capacity", "the build alone", "0 0 info",
     "2 0 info --model m --expanded paper"},
    {"isolation", "the build alone", "0 0 info",
     "2 0 info --model m --capacity 1"},
    {GATE, "the build alone", "0 0 info",
     "2 0 info --model m --capacity 1 --isolation route"},
    {"drop_weights", "the build alone", "0 0 info",
     "2 0 info --model m --gate-top-p 0.5"},
    {"expanded_most", "the build alone", "0 0 info",
     "2 0 info --model m --capacity 1 --expanded fill"},
    {"gate_top_k", "the build alone", "0 0 info", NULL},
    {"prefill_chunk", "no more than --max-tokens rows",
     "2 0 run --model m --prompts p",
     "2 0 run --model m --prompts p --max-tokens 1048576"},
    {"prefix_cache", "every row of a prompt", "2 0 run --model m --score t",
     "2 0 run --model m --prompts p"},
    {"prefix_cache", "every row of a prompt",
     "2 0 run --model m --prompts p --capacity 1",
     "2 0 run --model m --prompts p"},
    {"replace_every replace_window spare_slots balance slice_memory "
     "guest_memory",
     NO_OTHER, "1 0 info --model m", "2 0 info --model m"},
    {"balance_threshold balance_rows", NO_OTHER,
     "1 0 run --model m --prompts p", "2 0 run --model m --prompts p"},
    {"spare_slots replace_window", STAYS, "2 0 info --model m --balance off",
     "2 0 info --model m --balance off --replace-every 8"},
    {"spare_slots replace_window", STAYS,
     "2 0 info --model m --replace-every 0",
     "2 0 info --model m --replace-every -1"},
    {"spare_slots replace_window", STAYS,
     "2 0 run --model m --score t "
     "--capacity 1",
     "2 0 run --model m --score t --capacity 1 "
     "--replace-every 9"},
    {"guest_memory", "moves no rows", "2 0 info --model m --balance off",
     "2 0 info --model m"},
    {"balance_threshold balance_rows", "moves no rows",
     "2 0 run --model m --prompts p --balance off",
     "2 0 run --model m --prompts p"},
    {"slice_memory", "slices no experts", "2 0 info --model m --balance off",
     "2 0 info --model m --balance sliced"},
    {"guest_memory", "slices every layer",
     "2 0 info --model m --balance sliced",
     "2 0 info --model m --balance sliced --slice-memory 9"},
    {"balance_threshold balance_rows", "slices every layer",
     "2 0 run --model m --prompts p --balance sliced",
     "2 0 run --model m --prompts p --balance sliced --slice-memory 9"},
    {"balance_rows", "no room for weights",
     "2 0 run --model m --prompts p --guest-memory -1 --replace-every 0",
     "2 0 run --model m --prompts p --guest-memory -1"},
    {"chunks", "no rows travel", "1 0 info --model m", "2 0 info --model m"},
    {"capacity", "room for all rows", "1 0 info --model m",
     "1 0 info --model m --expanded paper"},
    {"capacity", "room for all tokens", "2 0 info --model m",
     "2 0 info --model m --expanded paper"},
    {"capacity", "room for all tokens",
     "1 0 info --model m --capacity-level expert",
     "1 0 info --model m --capacity-level expert --expanded paper"},
    {"capacity_scope", "those of all ranks",
     "1 0 info --model m --capacity 0.5", "2 0 info --model m --capacity 0.5"},
    {"isolation", "no request changes another's", "2 0 info --model m",
     "2 0 info --model m --capacity 1"},
    {GATE, "nothing is dropped", "2 0 run --model m --prompts p",
     "2 0 run --model m --prompts p --capacity 1 --isolation route"},
    {"capacity_window", "within windows of a request",
     "2 0 run --model m --prompts p --capacity 1",
     "2 0 run --model m --prompts p --capacity 1 --capacity-scope request"},
    {"capacity_decode", "nothing is generated",
     "2 0 run --model m --score t --capacity 1",
     "2 0 run --model m --prompts p --capacity 1"},
    {"expanded_most", "expected --expanded",
     "2 0 run --model m --prompts p --capacity 1",
     "2 0 run --model m --prompts p --capacity 1 --expanded fill"},
    {"drop_weights", "no token loses experts", "2 0 run --model m --prompts p",
     "2 0 run --model m --prompts p --gate-top-k 1"},
    {"drop_weights", "no token loses experts", "2 0 run --model m --prompts p",
     "2 0 run --model m --prompts p --gate-top-p 0.99"},
    {"gate_top_k", "no limit of the tokens", "2 0 run --model m --prompts p",
     NULL},
    {"trace loads topology speeds method objective slack spare_slots "
     "time_limit seed "
     "bound output export model placement compare train",
     "places nothing", "0 0 place --describe t", "0 0 place"},
    {"wire", "places nothing", "0 0 place --describe t", "0 0 place --model m"},
    {"slots expert_groups", "places nothing", "0 0 place --describe t",
     "0 0 place --method eplb"},
    {"polish", "places nothing", "0 0 place --describe t", "0 0 place"},
    {"bound_time", "places nothing", "0 0 place --describe t",
     "0 0 place --bound sdp"},
    {"segment", "segments of --describe", "0 0 place --trace t",
     "0 0 place --describe t"},
    {"trace_experts", "a number for each expert", "0 0 place --loads l",
     "0 0 place --trace t"},
    {"placement convert model", "found --loads", "0 0 place --loads l",
     "0 0 place --trace t"},
    {"objective train bound", "nothing of tokens", "0 0 place --loads l",
     "0 0 place --trace t"},
    {"bound_time", "nothing of tokens", "0 0 place --loads l",
     "0 0 place --trace t --bound sdp"},
    {"wire", "nothing of tokens", "0 0 place --loads l",
     "0 0 place --trace t --model m"},
    {"method time_limit polish seed", "none is solved",
     "0 0 place --trace t --placement p", "0 0 place --trace t"},
    {"spare_slots", "none is solved", "0 0 place --trace t --placement p",
     "0 0 place --trace t --placement p --speeds 1,2"},
    {"slots expert_groups", "none is solved",
     "0 0 place --trace t --placement p", "0 0 place --trace t --method eplb"},
    {"slots expert_groups", "--method eplb fills", "0 0 place --trace t",
     "0 0 place --loads l --method eplb"},
    {"polish", "rounds of annealing", "0 0 place --trace t --method greedy",
     "0 0 place --trace t --method cd"},
    {"seed", "draws no random numbers", "0 0 place --trace t --method lpt",
     "0 0 place --trace t --method random"},
    {"slack", "load caps", "0 0 place --loads l --method eplb",
     "0 0 place --loads l --method lpt"},
    {"slack", "load caps", "0 0 place --trace t --method random --bound none",
     "0 0 place --trace t --method random"},
    {"slack", "load caps", "0 0 place --trace t --method random --bound none",
     "0 0 place --trace t --method random --bound none --spare-slots 1"},
    {"slack", "load caps",
     "0 0 place --trace t --method eplb --bound none --spare-slots 1", NULL},
    {"bound_time", "the time for --bound sdp", "0 0 place --trace t",
     "0 0 place --trace t --bound sdp"},
    {"wire", "expected --model", "0 0 place --trace t",
     "0 0 place --trace t --model m"},
    {"overwrite", "no file is written", "0 0 place --trace t",
     "0 0 place --trace t --export eplb:m"},
    {"shared_experts", "no shared experts", "0 0 synth --output m",
     "0 0 synth --output m --arch dots1"},
    {"dense_layers", "experts in every layer",
     "0 0 synth --output m --arch mixtral", "0 0 synth --output m"},
    {"dense_width", "experts in every layer",
     "0 0 synth --output m --arch mixtral",
     "0 0 synth --output m --dense-layers 1"},
    {"dense_width", "expected --dense-layers", "0 0 synth --output m",
     "0 0 synth --output m --dense-layers 1"},
};

static const moerun__config_row *option_of(const char *line, const char *key) {
  char name[VALUE] = "";
  (void)sscanf(line, "%*s %*s %31s", name);
  moerun__config *config = NULL;
  assert_int_equal(moerun__config_create(&config, &moerun__options, name),
                   MOERUN_OK);
  const int i = moerun__config_find(&moerun__options, config->subcommand_bit,
                                    key, strlen(key));
  assert_true(i >= 0);
  moerun__config_destroy(config);
  return moerun__config_row_at(&moerun__options, i);
}

/* Which word of `list` it is; -1: none. */
static int word_of(const char *list, const char *key) {
  const size_t length = strlen(key);
  for (int word = 0;; word++) {
    const size_t n = strcspn(list, " ");
    if (n == length && strncmp(list, key, n) == 0) return word;
    if (list[n] == '\0') return -1;
    list += n + 1;
  }
}

/* Both lines for one option; the row that it was found by is marked. */
static void try_option(const example *x, const char *key,
                       char seen[MOST_ROWS][MOST_KEYS]) {
  char value[VALUE];
  char flag[VALUE];
  char line[LINE];
  choose(value, option_of(x->idle, key));
  (void)snprintf(flag, sizeof flag, "--%s", key);
  (void)snprintf(line, sizeof line, "%s %s=%s", x->idle, flag, value);
  const moerun_status status = check(line, no_variables);
  const char *found = status == MOERUN_OK ? warnings_text : moerun_last_error();
  const moerun__effect_row *row = NULL;
  int hits = 0;
  for (char *c = flag + 2; *c != '\0'; c++) {
    if (*c == '_') *c = '-';
  }
  for (int i = 0; (row = moerun__effect_row_at(i)) != NULL; i++) {
    if (row->reason == NULL || strstr(found, row->reason) == NULL ||
        strstr(found, flag) == NULL || strstr(row->reason, x->words) == NULL) {
      continue;
    }
    const int word = word_of(row->keys, key);
    if (word < 0) continue;
    assert_int_equal(status, row->verdict == MOERUN_EFFECT_REFUSE
                                 ? MOERUN_ERR_INVALID
                                 : MOERUN_OK);
    seen[i][word] = 1;
    hits++;
  }
  if (hits == 0)
    fail_msg("%s: expected \"%s\", found %s", line, x->words, found);
  if (x->busy == NULL) return;
  (void)snprintf(line, sizeof line, "%s %s=%s", x->busy, flag, value);
  if (check(line, no_variables) != MOERUN_OK) {
    fail_msg("%s: %s", line, moerun_last_error());
  }
  if (strstr(warnings_text, flag) != NULL) {
    fail_msg("%s: %s", line, warnings_text);
  }
}

static void every_row_refuses_or_says(void **state) {
  (void)state;
  static char seen[MOST_ROWS][MOST_KEYS];
  const moerun__effect_row *row = NULL;
  for (size_t i = 0; i < sizeof examples / sizeof *examples; i++) {
    char keys[LINE];
    char *rest = NULL;
    (void)snprintf(keys, sizeof keys, "%s", examples[i].keys);
    for (char *key = strtok_r(keys, " ", &rest); key != NULL;
         key = strtok_r(NULL, " ", &rest)) {
      try_option(&examples[i], key, seen);
    }
  }
  for (int i = 0; (row = moerun__effect_row_at(i)) != NULL; i++) {
    int word = 0;
    assert_true(i < MOST_ROWS);
    for (const char *c = row->keys; row->reason != NULL; c++) {
      if (*c != ' ' && *c != '\0') continue;
      assert_true(word < MOST_KEYS);
      if (!seen[i][word]) {
        fail_msg("word %d of \"%s\" (%s) was never without effect", word,
                 row->keys, row->reason);
      }
      word++;
      if (*c == '\0') break;
    }
  }
}

/* ---- What does not count ------------------------------------------------- */

static void defaults_and_nothing_asked_for_pass(void **state) {
  (void)state;
  static const char *const lines[] = {
      "2 0 run --model m --prompts p --seed 0 --top-p 1.0 --window 256",
      "2 0 run --model m --prompts p --spare-slots 0 --replace-every 0",
      "1 0 run --model m --prompts p --balance off --guest-memory -1",
      "2 0 run --model m --prompts p --balance off --guest-memory -1",
      "2 0 run --model m --prompts p --capacity-scope source",
      "2 0 run --model m --prompts p --no-keep-best --no-resume",
      "2 0 run --model m --prompts p --gate-top-k 0-1:4,2:3",
      "0 0 info --model m --replace-window 9 --spare-slots 1",
      "2 0 run --model m --prompts p --memory-check off --node-memory 9",
      "0 0 place --loads l --bound none",
      "0 0 place --trace t --slots 0"};
  for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
    if (check(lines[i], no_variables) != MOERUN_OK) {
      fail_msg("%s: %s", lines[i], moerun_last_error());
    }
    if (warnings_text[0] != '\0') fail_msg("%s: %s", lines[i], warnings_text);
  }
}

/* With twice the even share each of 8 experts has room for all tokens, which
 * are 4 experts each. */
static void a_capacity_for_all_tokens_is_said(void **state) {
  (void)state;
  assert_int_equal(check("2 0 info --model m --capacity 1.999", no_variables),
                   MOERUN_OK);
  assert_string_equal(warnings_text, "");
  assert_int_equal(check("2 0 info --model m --capacity 2", no_variables),
                   MOERUN_OK);
  assert_non_null(strstr(warnings_text, "--capacity 2 has no effect here: "
                                        "every expert has room"));
}

/* In no layer is anything left out. */
static void a_limit_that_no_layer_reaches_is_refused(void **state) {
  (void)state;
  assert_int_equal(
      check("2 0 run --model m --prompts p --gate-top-k 0-1:4,2-3:4",
            no_variables),
      MOERUN_ERR_INVALID);
  assert_non_null(strstr(moerun_last_error(), "no more experts for a token"));
}

/* Before the requests are read nobody knows how many are sampled. */
static void a_row_waits_for_what_it_is_about(void **state) {
  (void)state;
  static const char *const arguments[] = {"--model=m", "--prompts=p",
                                          "--top-p=0.5"};
  moerun__config *config = NULL;
  assert_int_equal(moerun__config_load(&config, &moerun__options, "run", 3,
                                       arguments, no_variables),
                   MOERUN_OK);
  const moerun__effect_facts facts = {
      .subcommand = "run", .config = config, .num_ranks = 2};
  assert_int_equal(moerun__effect_check(&facts, MOERUN_EFFECT_OPTIONS),
                   MOERUN_OK);
  assert_int_equal(moerun__effect_check(&facts, MOERUN_EFFECT_REQUESTS),
                   MOERUN_ERR_INVALID);
  moerun__config_destroy(config);
}

static char told[LINE];

static void take(moerun__log_level level, const char *line) {
  (void)level;
  const size_t used = strlen(told);
  (void)snprintf(told + used, sizeof told - used, "%s\n", line);
}

/* What --score makes of no use is said once, and by the row of --score. */
static void a_score_draws_nothing(void **state) {
  (void)state;
  static const char *const arguments[] = {"--model=m", "--score=t",
                                          "--top-p=0.5", "--seed=4"};
  moerun__config *config = NULL;
  assert_int_equal(moerun__config_load(&config, &moerun__options, "run", 4,
                                       arguments, no_variables),
                   MOERUN_OK);
  const moerun__effect_facts facts = {
      .subcommand = "run", .config = config, .num_ranks = 2};
  told[0] = '\0';
  moerun__log_set_callback(take);
  assert_int_equal(moerun__effect_check(&facts, MOERUN_EFFECT_OPTIONS),
                   MOERUN_OK);
  assert_int_equal(moerun__effect_check(&facts, MOERUN_EFFECT_REQUESTS),
                   MOERUN_OK);
  moerun__log_set_callback(NULL);
  const char *first = strstr(told, "nothing is generated with --score");
  assert_non_null(first);
  const char *second = strstr(first + 1, "nothing is generated with --score");
  assert_non_null(second);
  assert_null(strstr(second + 1, "nothing is"));
  moerun__config_destroy(config);
}

/* They may be set for other runs. */
static void variables_are_not_refused(void **state) {
  (void)state;
  static const char *const environment[] = {"MOERUN_WINDOW=8", "MOERUN_SEED=5",
                                            "MOERUN_KEEP_BEST=true", NULL};
  static const char *const arguments[] = {"--model=m", "--prompts=p"};
  moerun__config *config = NULL;
  assert_int_equal(moerun__config_load(&config, &moerun__options, "run", 2,
                                       arguments, environment),
                   MOERUN_OK);
  const moerun__effect_facts facts = {
      .subcommand = "run", .config = config, .num_ranks = 2};
  told[0] = '\0';
  moerun__log_set_level(MOERUN_LOG_INFO);
  moerun__log_set_callback(take);
  assert_int_equal(
      moerun__effect_check(&facts, (unsigned)MOERUN_EFFECT_OPTIONS |
                                       MOERUN_EFFECT_REQUESTS),
      MOERUN_OK);
  moerun__log_set_callback(NULL);
  moerun__config_destroy(config);
  assert_non_null(
      strstr(told, "window = 8 of a variable has no effect here: "));
  assert_non_null(strstr(told, "keep_best = true of a variable"));
  assert_null(strstr(told, "seed"));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_option_is_decided),
      cmocka_unit_test(every_row_refuses_or_says),
      cmocka_unit_test(defaults_and_nothing_asked_for_pass),
      cmocka_unit_test(a_capacity_for_all_tokens_is_said),
      cmocka_unit_test(a_limit_that_no_layer_reaches_is_refused),
      cmocka_unit_test(a_row_waits_for_what_it_is_about),
      cmocka_unit_test(a_score_draws_nothing),
      cmocka_unit_test(variables_are_not_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
