/* What is used is marked by the names that the loader looks for, in the
 * spelling that it takes; whatever is left is judged by its name:
 *
 *   in a decoder layer                      refused (a bias, a norm of q and k,
 *                                           a shared expert, experts beyond the
 *                                           last: with them the layer computes
 *                                           something else)
 *   in a layer beyond num_hidden_layers     refused, unless config.json has as
 *                                           many num_nextn_predict_layers
 *   the bias of a module that is used       refused
 *   rotary_emb.inv_freq, mtp.*              left out: the first is computed of
 *                                           rope_theta, the second only
 *                                           predicts more tokens at once
 *   anything else (a value head, a scale)   left out with a warning, because it
 *                                           may be computed from the decoder's
 *                                           output */
#include "runtime/model/unused.h"

#include "runtime/base/log.h"
#include "runtime/base/memory.h"
#include "runtime/model/attention.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct search {
  const moerun__weight_reader *reader;
  unsigned char *is_used; /* [tensors] */
} search;

/* ---- Marking ------------------------------------------------------------- */

static size_t number_of(const search *s, const moerun__tensor *tensor) {
  return (size_t)(tensor - moerun__shards_at(s->reader->shards, 0));
}

/* Whether the tensor is there. */
static int mark(const search *s, moerun__role role, int32_t layer,
                int32_t expert) {
  const moerun__tensor *tensor =
      moerun__reader_find(s->reader, role, layer, expert);
  if (tensor != NULL) s->is_used[number_of(s, tensor)] = 1;
  return tensor != NULL;
}

static void mark_range(const search *s, moerun__role first, moerun__role last,
                       int32_t layer) {
  for (int role = (int)first; role <= (int)last; role++) {
    (void)mark(s, (moerun__role)role, layer, 0);
  }
}

static void mark_attention(const search *s, int32_t layer) {
  const moerun__model_config *config = s->reader->config;
  const moerun__attention_tensor *tensor = NULL;
  for (int32_t i = 0; (tensor = moerun__attention_at(config, i)) != NULL; i++) {
    (void)mark(s, tensor->role, layer, 0);
  }
  for (int32_t p = 0; p < config->attention->num_parts; p++) {
    const moerun__role joined = config->attention->parts[p].joined;
    if (joined == MOERUN_ROLE_EMBEDDING) continue;
    if (config->attention->has(config, p)) (void)mark(s, joined, layer, 0);
  }
  static const moerun__role norms[] = {
      MOERUN_ROLE_ATTENTION_NORM, MOERUN_ROLE_FFN_NORM,
      MOERUN_ROLE_ATTENTION_AFTER, MOERUN_ROLE_FFN_AFTER};
  for (size_t i = 0; i < sizeof norms / sizeof *norms; i++) {
    if (!moerun__config_has_norm(config, norms[i])) continue;
    (void)mark(s, norms[i], layer, 0);
  }
}

/* One that is missing ends the search: its layer is not loaded. */
static void mark_experts(const search *s, int32_t layer) {
  const moerun__model_config *config = s->reader->config;
  if (mark(s, MOERUN_ROLE_FUSED_GATE_UP, layer, 0)) {
    (void)mark(s, MOERUN_ROLE_FUSED_DOWN, layer, 0);
    return;
  }
  for (int32_t e = 0; e < config->num_experts; e++) {
    const int has_gate = mark(s, MOERUN_ROLE_EXPERT_GATE, layer, e);
    const int has_up = mark(s, MOERUN_ROLE_EXPERT_UP, layer, e);
    if (!mark(s, MOERUN_ROLE_EXPERT_DOWN, layer, e) || !has_gate || !has_up) {
      break;
    }
  }
}

static void mark_block(const search *s, int32_t layer) {
  const moerun__model_config *config = s->reader->config;
  (void)mark(s, MOERUN_ROLE_GATE, layer, 0);
  if (config->has_choice_bias) (void)mark(s, MOERUN_ROLE_CHOICE_BIAS, layer, 0);
  if (config->shared_width > 0) {
    mark_range(s, MOERUN_ROLE_SHARED_GATE, MOERUN_ROLE_SHARED_DOWN, layer);
    (void)mark(s, MOERUN_ROLE_SHARED_GATE_UP, layer, 0);
  }
  if (config->shared_width > 0 && config->shared_is_weighted) {
    (void)mark(s, MOERUN_ROLE_SHARED_WEIGHT, layer, 0);
  }
  for (int32_t e = 0; e < config->num_home[MOERUN_HOME_CONSTANT]; e++) {
    (void)mark(s, MOERUN_ROLE_CONSTANT_MIX, layer, e);
    (void)mark(s, MOERUN_ROLE_CONSTANT, layer, e);
  }
  mark_experts(s, layer);
}

static void mark_all(const search *s) {
  const moerun__model_config *config = s->reader->config;
  mark_range(s, MOERUN_ROLE_EMBEDDING, MOERUN_ROLE_HEAD, 0);
  for (int32_t layer = 0; layer < config->num_layers; layer++) {
    mark_attention(s, layer);
    if (config->moe_layer[layer] >= 0) {
      mark_block(s, layer);
    } else {
      mark_range(s, MOERUN_ROLE_DENSE_GATE, MOERUN_ROLE_DENSE_DOWN, layer);
    }
  }
}

/* ---- Judging ------------------------------------------------------------- */

typedef enum kind {
  KNOWN = 0, /* left out */
  UNKNOWN,   /* left out with a warning */
  BEYOND,    /* refused: of a layer that config.json does not have */
  WITHIN,    /* refused: of one that it has, or the bias of what is used */
  NUM_KINDS,
} kind;

/* The number in "model.layers.N.", or -1. */
static int64_t layer_of(const char *name) {
  static const char prefix[] = "model.layers.";
  const size_t length = sizeof prefix - 1;
  char *end = NULL;
  if (strncmp(name, prefix, length) != 0) return -1;
  if (name[length] < '0' || name[length] > '9') return -1;
  const long long layer = strtoll(name + length, &end, 10);
  return *end == '.' ? layer : -1;
}

static int ends_with(const char *name, const char *ending) {
  const size_t bytes = strlen(name);
  const size_t length = strlen(ending);
  return bytes >= length && strcmp(name + bytes - length, ending) == 0;
}

/* Whether X.bias stands beside an X.weight that is used. */
static int is_bias_of_used(const search *s, const char *name) {
  static const char ending[] = ".bias";
  char weight[MOERUN_TENSOR_NAME];
  if (!ends_with(name, ending)) return 0;
  const int kept = (int)(strlen(name) - (sizeof ending - 1));
  const int length = snprintf(weight, sizeof weight, "%.*s.weight", kept, name);
  if (length >= (int)sizeof weight) return 0;
  const moerun__tensor *tensor = moerun__shards_find(s->reader->shards, weight);
  return tensor != NULL && s->is_used[number_of(s, tensor)];
}

/* A tensor without elements adds nothing: those of no shared experts. */
static kind judge(const search *s, const moerun__tensor *tensor) {
  const moerun__model_config *config = s->reader->config;
  const char *name = tensor->name;
  const int64_t layer = layer_of(name);
  if (tensor->bytes == 0 || ends_with(name, "rotary_emb.inv_freq") ||
      strncmp(name, "mtp.", 4) == 0 || strncmp(name, "model.mtp", 9) == 0) {
    return KNOWN;
  }
  if (layer < 0) return is_bias_of_used(s, name) ? WITHIN : UNKNOWN;
  if (layer < config->num_layers) return WITHIN;
  return layer < config->num_layers + config->num_prediction_layers ? KNOWN
                                                                    : BEYOND;
}

/* " and 3 others", or nothing. */
static const char *others(char out[48], size_t count) {
  out[0] = '\0';
  if (count > 1) {
    (void)snprintf(out, 48, " and %zu other%s", count - 1,
                   count > 2 ? "s" : "");
  }
  return out;
}

moerun_status moerun__unused_find(moerun__unused *out,
                                  const moerun__weight_reader *reader) {
  moerun_status status = MOERUN_OK;
  search s = {.reader = reader};
  const moerun__tensor *first[NUM_KINDS] = {0};
  size_t count[NUM_KINDS] = {0};
  char more[48];
  size_t num_tensors = 0;
  while (moerun__shards_at(reader->shards, num_tensors) != NULL) {
    num_tensors++;
  }
  MOERUN_TRY(moerun__alloc(&s.is_used, num_tensors, 1));
  mark_all(&s);
  for (size_t i = 0; i < num_tensors; i++) {
    const moerun__tensor *tensor = moerun__shards_at(reader->shards, i);
    if (s.is_used[i]) continue;
    const kind found = judge(&s, tensor);
    if (count[found]++ == 0) first[found] = tensor;
  }
  MOERUN_REQUIRE(count[BEYOND] == 0, MOERUN_ERR_FORMAT,
                 "%s: tensor \"%s\"%s: expected %d as the number of layers, "
                 "which config.json has in \"num_hidden_layers\", found more: "
                 "take config.json and the weights "
                 "from one checkpoint",
                 moerun__shards_file(reader->shards, first[BEYOND]),
                 first[BEYOND]->name, others(more, count[BEYOND]),
                 reader->config->num_layers);
  MOERUN_REQUIRE(
      count[WITHIN] == 0, MOERUN_ERR_FORMAT,
      "%s: tensor \"%s\"%s: expected only what a %s with this config.json "
      "computes with, found what it would leave out: take config.json and the "
      "weights from one checkpoint",
      moerun__shards_file(reader->shards, first[WITHIN]), first[WITHIN]->name,
      others(more, count[WITHIN]), moerun__arch_name(reader->config->arch));
  *out = (moerun__unused){
      .known = count[KNOWN],
      .unknown = count[UNKNOWN],
      .first_known = count[KNOWN] > 0 ? first[KNOWN]->name : NULL,
      .first_unknown = count[UNKNOWN] > 0 ? first[UNKNOWN]->name : NULL};
done:
  moerun__free(s.is_used);
  return status;
}

void moerun__unused_say(const moerun__unused *unused, const char *path) {
  char more[48];
  if (unused->known > 0) {
    LOG_ROOT(MOERUN_LOG_INFO,
             "%s: tensor \"%s\"%s: not needed for generation, left out", path,
             unused->first_known, others(more, unused->known));
  }
  if (unused->unknown > 0) {
    LOG_ROOT(MOERUN_LOG_WARN,
             "%s: tensor \"%s\"%s: the model does not use it; left out", path,
             unused->first_unknown, others(more, unused->unknown));
  }
}
