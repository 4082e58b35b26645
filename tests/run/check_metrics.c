/* check_metrics FILE EXPERT_BYTES REQUESTS [NAME...]: that the numbers of a
 * metrics file agree with each other, as launch/README.md has it. Weights of
 * one expert take EXPERT_BYTES; so many requests generated; and the sums of the
 * named keys of `balance` are not 0, so that what is compared is something.
 * Prints what does not agree. */
#include "runtime/base/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures;

static void expect(int holds, const char *what, double found, double wanted) {
  if (holds) return;
  (void)printf("%s: found %.17g, expected %.17g\n", what, found, wanted);
  failures++;
}

static void expect_equal(const char *what, double found, double wanted) {
  expect(found == wanted, what, found, wanted);
}

/* The value at "a.b"; ends the program if there is none. */
static const json_t *at(const json_t *object, const char *path) {
  char key[64];
  const char *rest = path;
  while (*rest != '\0') {
    const size_t n = strcspn(rest, ".");
    (void)snprintf(key, sizeof key, "%.*s", (int)n, rest);
    object = json_object_get(object, key);
    if (object == NULL) {
      (void)printf("no key '%s'\n", path);
      exit(1);
    }
    rest += n + (rest[n] == '.');
  }
  return object;
}

static double number(const json_t *object, const char *path) {
  return json_number_value(at(object, path));
}

/* Sum of a key over an array's objects. */
static double sum_of(const json_t *array, const char *key) {
  double sum = 0;
  for (size_t i = 0; i < json_array_size(array); i++) {
    sum += number(json_array_get(array, i), key);
  }
  return sum;
}

/* Of an array of numbers. */
static double sum(const json_t *array) {
  double total = 0;
  for (size_t i = 0; i < json_array_size(array); i++) {
    total += json_number_value(json_array_get(array, i));
  }
  return total;
}

/* ---- Balance ------------------------------------------------------------- */

static const char *const sums[] = {
    "plans",         "moved",         "sliced",      "rows",
    "rows_computed", "empty_experts", "rows_moved",  "unplanned_rows",
    "weights_sent",  "weight_bytes",  "slice_bytes", "plan_changes",
    "speed_changes"};
static const char *const under_capacity[] = {"assignments", "dropped"};

static void check_sums(const json_t *balance, const char *const *keys,
                       size_t count) {
  for (size_t i = 0; i < count; i++) {
    const double total = number(balance, keys[i]);
    expect_equal(keys[i], sum_of(at(balance, "layers"), keys[i]), total);
    expect_equal(keys[i], sum_of(at(balance, "steps"), keys[i]), total);
  }
}

/* What plans say against what ranks counted. */
static void check_rows(const json_t *root, double expert_bytes) {
  const json_t *balance = at(root, "balance");
  const json_t *layers = at(balance, "layers");
  const json_t *said = at(balance, "said_by_ranks");
  expect_equal("unplanned_rows", number(balance, "unplanned_rows"), 0);
  for (size_t l = 0; l < json_array_size(layers); l++) {
    const json_t *layer = json_array_get(layers, l);
    const double rows = number(layer, "rows");
    expect_equal("rows_computed of a layer", number(layer, "rows_computed"),
                 rows);
    expect_equal("expert_rows of a layer",
                 sum(json_array_get(at(root, "load.expert_rows"), l)), rows);
    expect_equal("rank_rows of a layer",
                 sum(json_array_get(at(root, "load.rank_rows"), l)), rows);
  }
  expect_equal("rows_moved", number(said, "rows_moved"),
               number(balance, "rows_moved"));
  expect_equal("weights_sent", number(said, "weights_sent"),
               number(balance, "weights_sent"));
  expect_equal("weight_bytes", number(said, "weight_bytes"),
               number(balance, "weight_bytes"));
  expect_equal("slice_bytes", number(said, "slice_bytes"),
               number(balance, "slice_bytes"));
  expect_equal("weight_bytes", number(balance, "weight_bytes"),
               expert_bytes * number(balance, "weights_sent"));
  expect(number(balance, "slice_bytes") <= number(root, "exchange.row_bytes"),
         "slice_bytes", number(balance, "slice_bytes"),
         number(root, "exchange.row_bytes"));
}

/* Of the same numbers, in the steps as in all. */
static void check_ratios(const json_t *entry, double ranks, double experts) {
  const double rows = number(entry, "rows");
  if (rows == 0) return;
  const double expert = number(entry, "expert_max_over_mean");
  const double planned = number(entry, "rank_max_over_mean.planned");
  expect(expert >= 1 && expert <= experts, "expert_max_over_mean", expert, 1);
  expect(planned >= 1 && planned <= ranks, "planned max/mean", planned, 1);
  if (number(entry, "sliced") == 0) {
    const double computed = number(entry, "rank_max_over_mean.computed");
    expect(fabs(computed - planned) < 1e-5 * planned, "computed max/mean",
           computed, planned);
  }
  const double idle = number(entry, "idle");
  expect(idle >= 0 && idle < 1, "idle", idle, 0);
}

static void check_balance(const json_t *root, double expert_bytes) {
  const json_t *balance = at(root, "balance");
  const json_t *steps = at(balance, "steps");
  const json_t *ranks = at(balance, "ranks");
  const double experts = number(root, "model.experts");
  check_sums(balance, sums, sizeof sums / sizeof *sums);
  check_rows(root, expert_bytes);
  expect_equal("steps", (double)json_array_size(steps), number(root, "steps"));
  expect_equal("layers_last", sum_of(ranks, "layers_last"),
               number(balance, "plans"));
  check_ratios(balance, number(root, "ranks"), experts);
  for (size_t s = 0; s < json_array_size(steps); s++) {
    check_ratios(json_array_get(steps, s), number(root, "ranks"), experts);
  }
  const double changes = (double)json_array_size(at(balance, "speeds"));
  expect_equal("speeds", changes,
               number(root, "ranks") + number(balance, "speed_changes"));
}

/* ---- The rest ------------------------------------------------------------ */

static void check_lossy(const json_t *root) {
  const json_t *lossy = json_object_get(root, "lossy");
  const json_t *balance = at(root, "balance");
  if (lossy == NULL || number(lossy, "capacity.assignments") == 0) return;
  check_sums(balance, under_capacity, 2);
  for (int i = 0; i < 2; i++) {
    const char *key = under_capacity[i];
    char path[64];
    (void)snprintf(path, sizeof path, "capacity.%s", key);
    expect_equal(path, sum_of(at(lossy, "layers"), path), number(lossy, path));
    expect_equal(path, number(balance, key), number(lossy, path));
  }
  /* Each rank rounds each layer's to a 1024th. */
  const double wanted = number(lossy, "capacity.mass_dropped");
  const double found = number(balance, "mass_dropped");
  const double rounding =
      number(balance, "plans") * number(root, "ranks") / 2048;
  expect(fabs(found - wanted) <= rounding, "mass_dropped", found, wanted);
}

static void check_times(const json_t *root, double requests) {
  static const char *const quantiles[] = {"p50", "p90", "p99", "max"};
  const json_t *times = at(root, "layer_seconds");
  const char *name = NULL;
  json_t *time = NULL;
  json_object_foreach((json_t *)times, name, time) {
    for (size_t r = 0; r < (size_t)number(root, "ranks"); r++) {
      double before = 0;
      for (int q = 0; q < 4; q++) {
        const json_t *values = at(time, quantiles[q]);
        const double value = json_number_value(json_array_get(values, r));
        expect(value >= before, name, value, before);
        before = value;
      }
    }
  }
  expect(sum(at(times, "layer.p50")) > 0, "layer.p50",
         sum(at(times, "layer.p50")), 1);
  expect_equal("first_token",
               number(root, "latency_seconds.first_token.requests"), requests);
}

int main(int argc, char **argv) {
  json_t *root = NULL;
  if (argc < 4 || moerun__json_load(&root, argv[1], 1 << 26) != MOERUN_OK) {
    (void)printf("%s\n", moerun_last_error());
    return 1;
  }
  check_balance(root, strtod(argv[2], NULL));
  check_lossy(root);
  check_times(root, strtod(argv[3], NULL));
  for (int i = 4; i < argc; i++) {
    const double found = number(at(root, "balance"), argv[i]);
    expect(found > 0, argv[i], found, 1);
  }
  json_decref(root);
  return failures > 0;
}
