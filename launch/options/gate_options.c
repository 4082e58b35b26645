#include "launch/options/gate_options.h"

#include "runtime/base/text.h"

#include "runtime/base/digest.h"

#include <math.h>

/* Number of the choice among names[], which end with NULL. */
static int choice(const moerun__config *config, const char *key,
                  const char *const *names) {
  const char *value = moerun__config_text(config, key);
  int i = 0;
  while (names[i + 1] != NULL && strcmp(names[i], value) != 0) {
    i++;
  }
  return i;
}

static int is(const moerun__config *config, const char *key,
              const char *value) {
  return strcmp(moerun__config_text(config, key), value) == 0;
}

static int isolates(const moerun__config *config) {
  return !is(config, "isolation", "off");
}

static moerun__capacity_scope scope_of(const moerun__config *config) {
  static const char *const names[] = {"source", "global", "request", NULL};
  if (isolates(config)) return MOERUN_SCOPE_REQUEST;
  return (moerun__capacity_scope)choice(config, "capacity_scope", names);
}

/* auto: a rank's experts together drop less for the same time. */
static moerun__capacity_level level_of(const moerun__config *config) {
  if (is(config, "capacity_level", "auto")) {
    return scope_of(config) == MOERUN_SCOPE_REQUEST ? MOERUN_LEVEL_EXPERT
                                                    : MOERUN_LEVEL_RANK;
  }
  return is(config, "capacity_level", "rank") ? MOERUN_LEVEL_RANK
                                              : MOERUN_LEVEL_EXPERT;
}

static moerun__weight_rule rule_of(const moerun__config *config) {
  static const char *const names[] = {"pre", "post", "none", NULL};
  return (moerun__weight_rule)choice(config, "drop_weights", names);
}

/* auto: the published expansion with the published metric; else weights, which
 * lose less where a gate normalises and are scores where it does not. */
static moerun__capacity_metric metric_of(const moerun__config *config) {
  static const char *const names[] = {"score", "first",  "last",
                                      "hash",  "weight", NULL};
  if (is(config, "capacity_metric", "auto")) {
    return is(config, "expanded", "paper") ? MOERUN_METRIC_SCORE
                                           : MOERUN_METRIC_WEIGHT;
  }
  return (moerun__capacity_metric)choice(config, "capacity_metric", names);
}

static moerun_status read_top_k(moerun__gate_options *options,
                                const moerun__config *config) {
  const char *text = moerun__config_text(config, "gate_top_k");
  options->width.most = 0;
  options->limits.count = 0;
  if (text[0] == '\0') return MOERUN_OK;
  return moerun__width_parse(&options->width.most, &options->limits, text);
}

moerun__gate_options moerun__gate_options_of(const moerun__config *config) {
  static const char *const expansions[] = {"off", "paper", "fill", NULL};
  const double top_p = moerun__config_double(config, "gate_top_p");
  moerun__gate_options options = {
      .capacity = {.gamma = (int32_t)lround(
                       1000 * moerun__config_double(config, "capacity")),
                   .scope = scope_of(config),
                   .level = level_of(config),
                   .metric = metric_of(config),
                   .expansion = (moerun__capacity_expansion)choice(
                       config, "expanded", expansions),
                   .rule = rule_of(config),
                   .most_added =
                       (int32_t)moerun__config_int(config, "expanded_most"),
                   .window =
                       (int32_t)moerun__config_int(config, "capacity_window"),
                   .keep_top1 = moerun__config_bool(config, "keep_best"),
                   .decode = moerun__config_bool(config, "capacity_decode"),
                   .seed = (uint64_t)moerun__config_int(config, "seed")},
      .width = {.top_p = top_p < 1 ? top_p : 0, .rule = rule_of(config)}};
  (void)read_top_k(&options, config); /* checked before */
  return options;
}

/* Windows are decided as a whole, within a step. */
static moerun_status check_window(const moerun__config *config) {
  moerun_status status = MOERUN_OK;
  static const char *const keys[] = {"max_tokens", "prefill_chunk"};
  static const char *const flags[] = {"--max-tokens", "--prefill-chunk"};
  const int64_t window = moerun__config_int(config, "capacity_window");
  const int is_given = moerun__config_origin_of(config, "capacity_window") !=
                       MOERUN_CONFIG_DEFAULT;
  for (int i = 0; i < 2; i++) {
    const int64_t rows = moerun__config_int(config, keys[i]);
    if (rows == 0 && i > 0) continue; /* of any length */
    MOERUN_REQUIRE(window <= rows || !is_given, MOERUN_ERR_INVALID,
                   "--capacity-window: expected at most %s (%lld), found %lld",
                   flags[i], (long long)rows, (long long)window);
    MOERUN_REQUIRE(
        window <= rows, MOERUN_ERR_INVALID,
        "%s: expected at least %lld, because a capacity of a request "
        "is decided within windows of so many tokens "
        "(--capacity-window), found %lld",
        flags[i], (long long)window, (long long)rows);
  }
done:
  return status;
}

moerun_status moerun__gate_options_check(const moerun__config *config) {
  moerun_status status = MOERUN_OK;
  char found[MOERUN_NUMBER_TEXT];
  const double capacity = moerun__config_double(config, "capacity");
  moerun__gate_options options;
  MOERUN_TRY(read_top_k(&options, config));
  MOERUN_REQUIRE(!isolates(config) ||
                     moerun__config_origin_of(config, "capacity_scope") ==
                         MOERUN_CONFIG_DEFAULT ||
                     is(config, "capacity_scope", "request"),
                 MOERUN_ERR_INVALID,
                 "--isolation: expected --capacity-scope request or none, "
                 "found %s",
                 moerun__config_text(config, "capacity_scope"));
  MOERUN_REQUIRE(scope_of(config) != MOERUN_SCOPE_REQUEST ||
                     is(config, "expanded", "off"),
                 MOERUN_ERR_INVALID,
                 "--expanded: not with the scope request or isolation: which "
                 "experts a rank has depends on the placement");
  MOERUN_REQUIRE(!(capacity > 0) || capacity >= 0.001, MOERUN_ERR_INVALID,
                 "--capacity: expected 0 or at least 0.001, found %s",
                 moerun__number_text(found, capacity));
  if (capacity > 0 && scope_of(config) == MOERUN_SCOPE_REQUEST) {
    MOERUN_TRY(check_window(config));
  }
done:
  return status;
}

moerun_status moerun__gate_options_fit(const moerun__config *config,
                                       int32_t num_moe_layers) {
  moerun_status status = MOERUN_OK;
  moerun__gate_options options;
  MOERUN_TRY(read_top_k(&options, config));
  MOERUN_TRY(moerun__width_limits_check(&options.limits, num_moe_layers));
done:
  return status;
}

int moerun__gate_options_isolate(const moerun__config *config) {
  return !(moerun__config_double(config, "capacity") > 0) ||
         scope_of(config) == MOERUN_SCOPE_REQUEST;
}

/* What does not count beside the other options is 0. */
uint64_t moerun__gate_options_digest(uint64_t digest,
                                     const moerun__config *config) {
  const int generates = is(config, "score", "");
  const moerun__gate_options options = moerun__gate_options_of(config);
  const moerun__capacity_options *c = &options.capacity;
  const moerun__width *w = &options.width;
  const moerun__width_limits *limits = &options.limits;
  const int expands = c->expansion != MOERUN_EXPANSION_OFF;
  const int by_request = c->scope == MOERUN_SCOPE_REQUEST;
  const int draws = c->metric == MOERUN_METRIC_HASH;
  if (c->gamma > 0) {
    const int64_t words[] = {c->gamma,
                             (int64_t)c->scope,
                             (int64_t)c->level,
                             (int64_t)c->metric,
                             (int64_t)c->expansion,
                             (int64_t)c->rule,
                             expands ? c->most_added : 0,
                             by_request ? c->window : 0,
                             c->keep_top1,
                             generates ? c->decode : 0,
                             draws ? (int64_t)c->seed : 0};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
      digest = moerun__digest_int(digest, words[i]);
    }
  }
  if (w->most > 0 || w->top_p > 0 || limits->count > 0) {
    digest = moerun__digest_int(digest, w->most);
    digest = moerun__digest_double(digest, w->top_p);
    digest = moerun__digest_int(digest, (int64_t)w->rule);
  }
  for (int32_t i = 0; i < limits->count; i++) {
    digest = moerun__digest_int(digest, limits->range[i].first);
    digest = moerun__digest_int(digest, limits->range[i].last);
    digest = moerun__digest_int(digest, limits->range[i].most);
  }
  return digest;
}
