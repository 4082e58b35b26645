/* The table of all knobs and their values. A value is kept as its text and,
 * parsed once when it is set, as a number. config_load.c says where values
 * come from.
 *
 * One table for all subcommands: a key means the same wherever it is used, and
 * a configuration file can serve several of them. */
#include "runtime/base/config_table.h"

#include "runtime/base/memory.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- The table -------------------------------------------------------------- */

enum {
  RUN = 1U,
  PROFILE = 2U,
  INFO = 4U,
  SYNTH = 8U,
  PLACE = 16U,
  RUNS = RUN | PROFILE,
  SIZED = RUN | PROFILE | INFO,
  ALL = RUN | PROFILE | INFO | SYNTH | PLACE,
};

/* In the order of the bits above. */
static const char *const subcommand_names[] = {"run", "profile", "info",
                                               "synth", "place"};
enum { NUM_SUBCOMMANDS = sizeof subcommand_names / sizeof *subcommand_names };

#define INT_MAX_32 2147483647.0
#define INT_MAX_53 9007199254740991.0
#define INT_ROW(key, fallback, unit, low, high, used_by, help)                 \
  { key, MOERUN_CONFIG_INT, fallback, unit, low, high, "", used_by, 0, help }
#define DOUBLE_ROW(key, fallback, unit, low, high, used_by, help)              \
  { key, MOERUN_CONFIG_DOUBLE, fallback, unit, low, high, "", used_by, 0, help }
#define BOOL_ROW(key, used_by, help)                                           \
  { key, MOERUN_CONFIG_BOOL, "false", "", 0, 0, "", used_by, 0, help }
#define TEXT_ROW(key, names, used_by, required_by, help)                       \
  { key, MOERUN_CONFIG_TEXT, "", names, 0, 0, "", used_by, required_by, help }
#define NAME_ROW(key, fallback, names, used_by, help)                          \
  { key, MOERUN_CONFIG_TEXT, fallback, names, 0, 0, "", used_by, 0, help }
#define CHOICE_ROW(key, fallback, choices, used_by, help)                      \
  { key, MOERUN_CONFIG_CHOICE, fallback, "", 0, 0, choices, used_by, 0, help }

static const moerun__config_row table[] = {
    TEXT_ROW("config", "file", ALL, 0,
             "read lines `key = value` from this file"),
    TEXT_ROW("model", "folder", SIZED | PLACE, RUNS,
             "Hugging Face folder: config.json and safetensors; place: to "
             "give rows in bytes"),
    TEXT_ROW("prompts", "file", RUNS, 0,
             "JSONL, one object with \"prompt\" a line"),
    TEXT_ROW("tokens", "file", RUNS, 0,
             "token ids in place of prompts, .npy or JSONL"),
    TEXT_ROW("score", "file", RUNS, 0, "text whose perplexity is measured"),
    INT_ROW("window", "256", "tokens", 2, 1048576, RUNS,
            "score: length of the pieces the text is cut into"),
    TEXT_ROW("output", "path", RUNS | SYNTH | PLACE, SYNTH,
             "results as JSONL, else to stdout; synth: folder to create; "
             "place: placement file to write"),
    TEXT_ROW("placement", "file", SIZED | PLACE, 0,
             "which rank hosts which expert, else contiguous blocks; place: "
             "judge this one instead of solving"),
    INT_ROW("max_new_tokens", "128", "tokens", 1, 1048576, RUNS,
            "most tokens generated for one prompt"),
    DOUBLE_ROW("temperature", "0", "", 0, 100, RUNS,
               "of sampling; 0 takes the likeliest token"),
    DOUBLE_ROW("top_p", "1", "", 1e-6, 1, RUNS,
               "sample among the likeliest tokens of this total probability"),
    INT_ROW("seed", "0", "", 0, INT_MAX_53, RUNS | SYNTH | PLACE,
            "of sampling; synth: of the weights; place: of the method"),
    BOOL_ROW("resume", RUNS, "keep the results that output holds already"),
    BOOL_ROW("overwrite", RUNS, "replace output where it exists"),
    CHOICE_ROW("add_bos", "auto", "auto|yes|no", RUNS,
               "begin-of-sequence token; auto: before texts, if there is one"),
    TEXT_ROW("trace", "file", PROFILE | PLACE, PROFILE,
             "recorded routing: this .npy, and a .json beside it; place: "
             "what other tools write, too"),
    INT_ROW("trace_experts", "0", "experts", 0, 32767, PLACE,
            "of a layer, where the trace does not say; 0: its largest id + 1"),
    TEXT_ROW("loads", "file", PLACE, 0,
             "in place of a trace: loads of experts alone, [layers][experts] "
             "as .npy or JSON, such as EPLB's and SGLang's"),
    TEXT_ROW("describe", "file", PLACE, 0,
             "say what this trace shows of its model, and end"),
    INT_ROW("segment", "256", "tokens", 1, 1048576, PLACE,
            "describe: length of the segments that a cache is filled for"),
    TEXT_ROW("topology", "line", PLACE, 0,
             "the cluster, such as \"2 nodes x 4 ranks\"; see "
             "placement/README.md"),
    TEXT_ROW("speeds", "list", PLACE, 0,
             "of the ranks, such as \"1,1,0.25,1\", or the metrics file of a "
             "run that balanced: loads follow them"),
    NAME_ROW("method", "cd", "name", PLACE,
             "how to place, or list: the methods there are"),
    CHOICE_ROW("objective", "fanout", "fanout|cut|weighted|tail", PLACE,
               "the traffic to keep small: ranks that a token visits in a "
               "layer, pairs of its experts in neighbouring layers on "
               "different ranks, those by distance, or those on the busiest "
               "links"),
    DOUBLE_ROW("slack", "0.05", "", 1e-6, 100, PLACE,
               "how far the load of a rank may exceed its share"),
    CHOICE_ROW("train", "even", "even|all", PLACE,
               "sequences to solve for: every second, so that the others "
               "can judge, or all"),
    DOUBLE_ROW("time_limit", "0", "s", 0, 1e6, PLACE,
               "of the method; what is best by then counts; 0: none"),
    INT_ROW("polish", "0", "rounds", 0, 1048576, PLACE,
            "of annealing beyond the method's own"),
    INT_ROW("spare_slots", "0", "experts", 0, 32767, SIZED | PLACE,
            "experts that a rank has room for in each layer beyond an even "
            "share: replicas, and where speeds differ, those of slow ranks; "
            "of a run with --replace-every"),
    INT_ROW("slots", "0", "slots", 0, 4194304, PLACE,
            "eplb: the number of slots of all ranks together in each layer, "
            "every rank having as many, in place of --spare-slots; replicas "
            "fill those that are more than experts; 0: --spare-slots says it"),
    INT_ROW("expert_groups", "1", "groups", 1, 32767, PLACE,
            "eplb: groups of neighbouring experts, each on one node if the "
            "nodes divide them"),
    CHOICE_ROW("bound", "auto", "auto|none|sdp", PLACE,
               "what no placement costs less than, by semidefinite relaxation; "
               "auto: for 2 s, where that is worth anything"),
    DOUBLE_ROW("bound_time", "30", "s", 0, 1e6, PLACE,
               "of --bound sdp; 0: until it hardly grows"),
    TEXT_ROW("export", "target", PLACE, 0,
             "write the placement as eplb:FILE (SGLang too) or exflow:FILE"),
    TEXT_ROW("convert", "file", PLACE, 0,
             "write the trace as this .npy with a .json beside it"),
    TEXT_ROW("json", "file", PLACE, 0, "the tables as JSON"),
    TEXT_ROW("metrics", "file", RUNS, 0, "times, bytes and loads as JSON"),
    CHOICE_ROW("progress", "auto", "auto|on|off", RUNS,
               "progress bar; auto: when stderr is a terminal"),
    INT_ROW("max_tokens", "256", "tokens", 1, 1048576, SIZED,
            "most rows of one step on one rank"),
    INT_ROW("max_sequences", "16", "requests", 1, 65536, SIZED,
            "on one rank at once"),
    INT_ROW("kv_tokens", "0", "tokens", 0, INT_MAX_32, SIZED,
            "KV cache of one rank; 0: max_sequences whole contexts"),
    INT_ROW("prefill_chunk", "0", "tokens", 0, 1048576, RUNS,
            "most prompt rows of one request in a step; 0: max_tokens"),
    INT_ROW("replace_every", "0", "steps", 0, INT_MAX_32, SIZED,
            "from one look at the routing to the next, after which experts "
            "move where it repays; 0: they stay"),
    INT_ROW("replace_window", "8192", "tokens", 1, 16777216, SIZED,
            "the latest of all ranks together that such a look sees"),
    CHOICE_ROW("wire", "fp32", "fp32|bf16", SIZED | PLACE,
               "rows between ranks; bf16 halves the bytes"),
    CHOICE_ROW(
        "compute", "fp32", "fp32|bf16", SIZED,
        "activations in products; bf16 rounds them: faster on AVX512-BF16"),
    INT_ROW("chunks", "1", "", 1, 8, SIZED,
            "parts of a step in flight at once"),
    CHOICE_ROW(
        "balance", "auto", "auto|off|sliced", SIZED,
        "auto: ranks that would end last give rows to others, with the "
        "experts' weights where it pays, or all ranks compute a slice of "
        "each expert; sliced: always that; the same bits, sooner"),
    INT_ROW("guest_memory", "0", "MiB", -1, 1 << 26, SIZED,
            "of one rank for experts of others; 0: two experts in fp32; -1: "
            "none"),
    INT_ROW("slice_memory", "0", "MiB", -1, 1 << 26, SIZED,
            "of one rank for slices of all experts, of as many layers as there "
            "is room for; -1: all; 0: none, all with --balance sliced"),
    DOUBLE_ROW("balance_threshold", "1.3", "", 1, 1000, RUNS,
               "balance where the slowest rank would take this over the mean"),
    INT_ROW("balance_rows", "0", "rows", 0, INT_MAX_32, RUNS,
            "fewest that an expert's weights are sent for; 0: measured"),
    DOUBLE_ROW("capacity", "0", "", 0, 1000, SIZED,
               "LOSSY: most rows of an expert over an even share, such as "
               "1.5; what is more is dropped; 0: no limit"),
    CHOICE_ROW("capacity_scope", "source", "source|global|request", SIZED,
               "who competes: tokens of one rank, of all ranks, or of one "
               "request alone"),
    CHOICE_ROW("capacity_level", "auto", "auto|expert|device", SIZED,
               "a limit for each expert, or for those of a rank together; "
               "auto: of a rank, but with the scope request"),
    CHOICE_ROW("capacity_metric", "auto", "auto|weight|score|first|last|hash",
               SIZED,
               "who stays: highest gate weight or softmax score, first or last "
               "position, or drawn; auto: weight, but score with --expanded "
               "paper"),
    INT_ROW("capacity_window", "128", "tokens", 1, 1048576, SIZED,
            "scope request: positions that are decided together"),
    BOOL_ROW("capacity_decode", SIZED,
             "limit tokens that are being generated, too"),
    CHOICE_ROW("expanded", "off", "off|fill|paper", SIZED,
               "capacity: experts of the own rank with room take tokens, "
               "after those the gate sent or in competition with them"),
    INT_ROW("expanded_most", "0", "experts", 0, 64, SIZED,
            "that a token may ask for so; 0: fill: as many as it lost; paper: "
            "all of the own rank"),
    CHOICE_ROW("drop_weights", "pre", "pre|post|none", SIZED,
               "gate weights after a drop: as before, scaled to their sum "
               "before, or plain scores"),
    BOOL_ROW("keep_best", SIZED, "never drop a token's best expert"),
    CHOICE_ROW("isolation", "off", "off|route|bitwise", SIZED,
               "no request changes another's output, whatever is dropped: "
               "scope request; without a capacity it is so anyway"),
    TEXT_ROW("top_k", "text", SIZED, 0,
             "LOSSY: most experts of a token, in all MoE layers or by layer as "
             "in 0-7:8,8-25:4; layers not named keep the model's"),
    DOUBLE_ROW("gate_top_p", "1", "", 1e-6, 1, SIZED,
               "LOSSY: only a token's best experts that together have this "
               "part of its gate weights"),
    TEXT_ROW("fault", "text", RUNS, 0,
             "slow ranks on purpose, such as rank=2,compute=4x,from=10; see "
             "launch/README.md"),
    CHOICE_ROW("kernels", "auto", "auto|portable|avx2|avx512|avx512_bf16|ref",
               RUNS, "instruction set; all but ref give the same bits"),
    CHOICE_ROW("transport", "auto", "auto|self|mpi", RUNS,
               "auto: self on one rank, else mpi"),
    BOOL_ROW("allow_singletons", RUNS,
             "go on where a launcher started several processes that MPI does "
             "not know of; each does all of the work by itself"),
    DOUBLE_ROW("timeout_s", "120", "s", 0, 1e9, RUNS,
               "longest wait for another rank; 0: for ever"),
    INT_ROW("ranks", "0", "ranks", 0, 1048576, INFO | PLACE,
            "to predict memory for; 0: those of the placement, else 1; place: "
            "in place of a topology, all on one node"),
    CHOICE_ROW("arch", "qwen3_moe", "qwen3_moe|mixtral|olmoe|qwen2_moe|dots1",
               SYNTH, "architecture of the checkpoint"),
    INT_ROW("layers", "4", "", 1, 65536, SYNTH, "decoder layers"),
    INT_ROW("dense_layers", "0", "", 0, 65536, SYNTH,
            "how many of the first layers have no experts (qwen3_moe, "
            "qwen2_moe, dots1)"),
    INT_ROW("dense_width", "0", "", 0, 1048576, SYNTH,
            "FFN width of those; 0: experts_per_token * expert_width"),
    INT_ROW("hidden", "512", "", 1, 1048576, SYNTH, "hidden width"),
    INT_ROW("heads", "8", "", 1, 65536, SYNTH, "attention heads"),
    INT_ROW("kv_heads", "0", "", 0, 65536, SYNTH,
            "key and value heads; 0: as many as heads"),
    INT_ROW("head_dim", "0", "", 0, 65536, SYNTH,
            "width of a head; 0: hidden / heads"),
    INT_ROW("experts", "16", "", 1, 65536, SYNTH, "experts of a layer"),
    INT_ROW("experts_per_token", "4", "", 1, 64, SYNTH,
            "how many of them a token meets"),
    INT_ROW("null_experts", "0", "experts", 0, 32767, SYNTH,
            "that a gate may choose beside them: nothing, left out of the "
            "weights' sum"),
    INT_ROW("zero_experts", "0", "experts", 0, 32767, SYNTH, "nothing"),
    INT_ROW("copy_experts", "0", "experts", 0, 32767, SYNTH, "the row itself"),
    INT_ROW("constant_experts", "0", "experts", 0, 16, SYNTH,
            "a mixture of the row and a constant"),
    INT_ROW("expert_width", "256", "", 1, 1048576, SYNTH,
            "FFN width of an expert"),
    INT_ROW("shared_experts", "1", "", 1, 65536, SYNTH,
            "width of the shared experts, in expert widths (qwen2_moe, "
            "dots1)"),
    INT_ROW("vocab", "4096", "tokens", 2, INT_MAX_32, SYNTH,
            "from 258 on with a byte-level tokenizer"),
    INT_ROW("positions", "4096", "tokens", 1, INT_MAX_32, SYNTH,
            "longest context"),
    CHOICE_ROW("dtype", "bf16", "bf16|f16|f32", SYNTH, "type of the weights"),
    BOOL_ROW("tied", SYNTH, "the head is the embedding"),
    BOOL_ROW("fused", SYNTH, "all experts of a layer in one tensor"),
    DOUBLE_ROW("skew", "0", "", 0, 100, SYNTH,
               "bias of the gates; 0: all experts equally popular"),
    DOUBLE_ROW("shard_gb", "5", "GB", 1e-6, 1e6, SYNTH,
               "most weights in one file"),
    BOOL_ROW("config_table", INFO, "print this table and end"),
    CHOICE_ROW("log_level", "info", "error|warn|info|debug", ALL,
               "least urgent messages shown on stderr"),
};
enum { NUM_ROWS = sizeof table / sizeof *table };

const moerun__config_row *moerun__config_row_at(int i) {
  return i < NUM_ROWS ? &table[i] : NULL;
}

int moerun__config_find(const char *name, size_t length) {
  for (int i = 0; i < NUM_ROWS; i++) {
    const char *key = table[i].key;
    size_t n = 0;
    while (n < length && key[n] != '\0' &&
           key[n] == (name[n] == '-' ? '_' : name[n])) {
      n++;
    }
    if (n == length && key[n] == '\0') return i;
  }
  return -1;
}

/* ---- One value --------------------------------------------------------------- */

enum { EXPECTED_BYTES = 128 };

/* Whether text is one of "a|b|c". */
static int is_choice(const char *choices, const char *text) {
  const size_t length = strlen(text);
  const char *choice = choices;
  while (*choice != '\0') {
    const size_t n = strcspn(choice, "|");
    if (n == length && strncmp(choice, text, n) == 0) return 1;
    choice += n + (choice[n] == '|');
  }
  return 0;
}

static void print_expected(char out[EXPECTED_BYTES],
                           const moerun__config_row *row) {
  switch (row->type) {
  case MOERUN_CONFIG_INT:
    (void)snprintf(out, EXPECTED_BYTES, "an integer from %.0f to %.0f",
                   row->low, row->high);
    break;
  case MOERUN_CONFIG_DOUBLE:
    (void)snprintf(out, EXPECTED_BYTES, "a number from %g to %g", row->low,
                   row->high);
    break;
  case MOERUN_CONFIG_BOOL:
    (void)snprintf(out, EXPECTED_BYTES, "true or false");
    break;
  case MOERUN_CONFIG_TEXT:
    (void)snprintf(out, EXPECTED_BYTES, "the name of a %s", row->unit);
    break;
  case MOERUN_CONFIG_CHOICE:
    (void)snprintf(out, EXPECTED_BYTES, "one of %s", row->choices);
    break;
  }
}

/* Decimal notation only, and the whole text: strtoll and strtod would take
 * leading blanks, hexadecimal, "inf" and "nan". */
static int parse_int(int64_t *out, const char *text) {
  char *end = NULL;
  if (text[strspn(text, "-0123456789")] != '\0') return 0;
  errno = 0;
  *out = strtoll(text, &end, 10);
  return end != text && *end == '\0' && errno == 0;
}

static int parse_double(double *out, const char *text) {
  char *end = NULL;
  if (text[strspn(text, "+-.0123456789eE")] != '\0') return 0;
  errno = 0;
  *out = strtod(text, &end);
  return end != text && *end == '\0' && errno == 0;
}

static int parse_value(moerun__config_value *out, const moerun__config_row *row,
                       const char *text) {
  switch (row->type) {
  case MOERUN_CONFIG_INT:
    return parse_int(&out->integer, text) && (double)out->integer >= row->low &&
           (double)out->integer <= row->high;
  case MOERUN_CONFIG_DOUBLE:
    return parse_double(&out->real, text) && out->real >= row->low &&
           out->real <= row->high;
  case MOERUN_CONFIG_BOOL:
    out->integer = is_choice("true|yes|on|1", text);
    return out->integer || is_choice("false|no|off|0", text);
  case MOERUN_CONFIG_TEXT: return 1;
  case MOERUN_CONFIG_CHOICE: return is_choice(row->choices, text);
  }
  return 0;
}

moerun_status moerun__config_set(moerun__config *config, int row,
                                 const char *text, moerun__config_origin origin,
                                 const char *where) {
  moerun_status status = MOERUN_OK;
  char *copy = NULL;
  char expected[EXPECTED_BYTES];
  moerun__config_value *value = &config->values[row];
  print_expected(expected, &table[row]);
  MOERUN_REQUIRE(parse_value(value, &table[row], text), MOERUN_ERR_INVALID,
                 "%s: expected %s, found \"%.100s\"", where, expected, text);
  MOERUN_TRY(moerun__copy_text(&copy, text));
  moerun__free(value->text);
  value->text = copy;
  value->origin = origin;
done:
  return status;
}

moerun_status moerun__config_create(moerun__config **out,
                                    const char *subcommand) {
  moerun_status status = MOERUN_OK;
  moerun__config *config = NULL;
  *out = NULL;
  MOERUN_TRY(moerun__alloc(&config, 1, sizeof *config));
  MOERUN_TRY(moerun__alloc(&config->values, NUM_ROWS, sizeof *config->values));
  for (int i = 0; i < NUM_SUBCOMMANDS; i++) {
    if (strcmp(subcommand_names[i], subcommand) != 0) continue;
    config->subcommand = subcommand_names[i];
    config->subcommand_bit = 1U << i;
  }
  MOERUN_REQUIRE(config->subcommand_bit != 0, MOERUN_ERR_INVALID,
                 "%.100s: no such subcommand", subcommand);
  for (int i = 0; i < NUM_ROWS; i++) {
    MOERUN_TRY(moerun__config_set(config, i, table[i].fallback,
                                  MOERUN_CONFIG_DEFAULT, table[i].key));
  }
  *out = config;
  config = NULL;
done:
  moerun__config_destroy(config);
  return status;
}

void moerun__config_destroy(moerun__config *config) {
  if (config == NULL) return;
  for (int i = 0; config->values != NULL && i < NUM_ROWS; i++) {
    moerun__free(config->values[i].text);
  }
  moerun__free(config->values);
  moerun__free(config);
}

/* ---- Packed ------------------------------------------------------------------- */

/* Per row, in the order of the table: a digit for the origin, the text, NUL. */

moerun_status moerun__config_pack(char **out, size_t *bytes,
                                  const moerun__config *config) {
  moerun_status status = MOERUN_OK;
  size_t used = 0;
  *out = NULL;
  *bytes = 0;
  for (int i = 0; i < NUM_ROWS; i++) {
    *bytes += strlen(config->values[i].text) + 2;
  }
  MOERUN_TRY(moerun__alloc(out, *bytes, 1));
  for (int i = 0; i < NUM_ROWS; i++) {
    const moerun__config_value *value = &config->values[i];
    (*out)[used++] = (char)('0' + (int)value->origin);
    memcpy(*out + used, value->text, strlen(value->text) + 1);
    used += strlen(value->text) + 1;
  }
done:
  return status;
}

moerun_status moerun__config_unpack(moerun__config **out,
                                    const char *subcommand, const char *packed,
                                    size_t bytes) {
  moerun_status status = MOERUN_OK;
  moerun__config *config = NULL;
  size_t used = 0;
  *out = NULL;
  MOERUN_TRY(moerun__config_create(&config, subcommand));
  for (int i = 0; i < NUM_ROWS; i++) {
    const char *end =
        used < bytes ? memchr(packed + used, '\0', bytes - used) : NULL;
    MOERUN_REQUIRE(end != NULL && packed[used] >= '0' && packed[used] <= '3',
                   MOERUN_ERR_INVALID,
                   "configuration from rank 0: expected %d values, found %d; "
                   "is this the same moerun?",
                   NUM_ROWS, i);
    MOERUN_TRY(moerun__config_set(config, i, packed + used + 1,
                                  (moerun__config_origin)(packed[used] - '0'),
                                  table[i].key));
    used = (size_t)(end - packed) + 1;
  }
  *out = config;
  config = NULL;
done:
  moerun__config_destroy(config);
  return status;
}

/* ---- Use ------------------------------------------------------------------------ */

static const moerun__config_value *value_of(const moerun__config *config,
                                            const char *key) {
  const int i = moerun__config_find(key, strlen(key));
  assert(i >= 0);
  return &config->values[i];
}

int64_t moerun__config_int(const moerun__config *config, const char *key) {
  return value_of(config, key)->integer;
}

double moerun__config_double(const moerun__config *config, const char *key) {
  return value_of(config, key)->real;
}

int moerun__config_bool(const moerun__config *config, const char *key) {
  return value_of(config, key)->integer != 0;
}

const char *moerun__config_text(const moerun__config *config, const char *key) {
  return value_of(config, key)->text;
}

moerun__config_origin moerun__config_origin_of(const moerun__config *config,
                                               const char *key) {
  return value_of(config, key)->origin;
}

int moerun__config_at(const moerun__config *config, int i, const char **key,
                      const char **value, moerun__config_origin *origin) {
  for (int row = 0; row < NUM_ROWS; row++) {
    if ((table[row].used_by & config->subcommand_bit) == 0 || i-- > 0) continue;
    *key = table[row].key;
    *value = config->values[row].text;
    *origin = config->values[row].origin;
    return 1;
  }
  return 0;
}

/* ---- Documentation --------------------------------------------------------------- */

/* What a value may be, for the table and for --help. */
static void print_kind(FILE *stream, const moerun__config_row *row) {
  const char *c = row->choices;
  switch (row->type) {
  case MOERUN_CONFIG_INT:
    (void)fprintf(stream, "%.0f to %.0f", row->low, row->high);
    break;
  case MOERUN_CONFIG_DOUBLE:
    (void)fprintf(stream, "%g to %g", row->low, row->high);
    break;
  case MOERUN_CONFIG_BOOL: (void)fputs("true, false", stream); break;
  case MOERUN_CONFIG_TEXT: (void)fputs(row->unit, stream); break;
  case MOERUN_CONFIG_CHOICE:
    for (; *c != '\0'; c++) {
      (void)fputs(*c == '|' ? ", " : (char[]){*c, '\0'}, stream);
    }
    break;
  }
}

void moerun__config_print_table(FILE *stream) {
  (void)fputs("| key | value | default | unit | used by | meaning |\n"
              "|---|---|---|---|---|---|\n",
              stream);
  for (int i = 0; i < NUM_ROWS; i++) {
    const moerun__config_row *row = &table[i];
    const char *separator = "";
    (void)fprintf(stream, "| `%s` | ", row->key);
    print_kind(stream, row);
    (void)fprintf(stream, " | %s | %s | ", row->fallback,
                  row->type == MOERUN_CONFIG_TEXT ? "" : row->unit);
    for (int s = 0; s < NUM_SUBCOMMANDS; s++) {
      if ((row->used_by >> s & 1U) == 0) continue;
      (void)fprintf(stream, "%s%s", separator, subcommand_names[s]);
      separator = ", ";
    }
    (void)fprintf(stream, " | %s |\n", row->help);
  }
}

static void print_flag(FILE *stream, const char *dashes, const char *key) {
  (void)fputs(dashes, stream);
  for (; *key != '\0'; key++) {
    (void)fputc(*key == '_' ? '-' : *key, stream);
  }
}

static void print_option(FILE *stream, const moerun__config_row *row,
                         int required) {
  print_flag(stream, "  --", row->key);
  if (row->type == MOERUN_CONFIG_BOOL) {
    print_flag(stream, ", --no-", row->key);
    (void)fprintf(stream, "\n      %s\n", row->help);
    return;
  }
  if (row->type == MOERUN_CONFIG_TEXT) {
    (void)fputc(' ', stream);
    for (const char *c = row->unit; *c != '\0'; c++) {
      (void)fputc(*c - 'a' + 'A', stream);
    }
    (void)fprintf(stream, "\n      %s%s", row->help,
                  required ? " (required)" : "");
    if (row->fallback[0] != '\0') {
      (void)fprintf(stream, " (default %s)", row->fallback);
    }
    (void)fputc('\n', stream);
    return;
  }
  (void)fprintf(stream, " %s\n      %s (",
                row->type == MOERUN_CONFIG_CHOICE ? "CHOICE" : "NUMBER",
                row->help);
  print_kind(stream, row);
  (void)fprintf(stream, "%s%s; default %s)\n", row->unit[0] != 0 ? " " : "",
                row->unit, row->fallback);
}

void moerun__config_print_options(FILE *stream, const char *subcommand) {
  for (int s = 0; s < NUM_SUBCOMMANDS; s++) {
    if (strcmp(subcommand_names[s], subcommand) != 0) continue;
    for (int i = 0; i < NUM_ROWS; i++) {
      if ((table[i].used_by >> s & 1U) == 0) continue;
      print_option(stream, &table[i], (int)(table[i].required_by >> s & 1U));
    }
  }
}
