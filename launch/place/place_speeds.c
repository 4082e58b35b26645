/* Speeds count by their ratios. Those of a run are what its ranks believed of
 * themselves at its end; as in the run, a rank within the dead band of the
 * fastest is as fast. */
#include "launch/place/place_speeds.h"

#include "runtime/base/json.h"
#include "runtime/base/memory.h"
#include "runtime/plan/plan.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const size_t file_limit = (size_t)1 << 28;

/* Slower ones would print with an exponent. */
#define LEAST 0.001
#define MOST  1000.0

/* Numbers with commas between, well written or not: a file of such a name can
 * be given as ./NAME. */
int moerun__place_speeds_are_list(const char *speeds) {
  return speeds[strspn(speeds, "0123456789.,+-eE ")] == '\0' &&
         strpbrk(speeds, "0123456789") != NULL;
}

/* Decimal digits with at most one point; 0 at `end` where there are none. */
static double read_number(const char **end, const char *text) {
  text += strspn(text, " ");
  *end = text + strspn(text, "0123456789.");
  char *stop = NULL;
  const double value = strtod(text, &stop);
  return stop == *end ? value : 0;
}

static moerun_status read_list(double *speed, const char *speeds,
                               int32_t num_ranks) {
  moerun_status status = MOERUN_OK;
  const char *at = speeds;
  int32_t count = 1;
  for (const char *c = speeds; *c != '\0'; c++) {
    count += *c == ',';
  }
  MOERUN_REQUIRE(count == num_ranks, MOERUN_ERR_INVALID,
                 "--speeds: expected %d speeds with commas between, one of "
                 "each rank, found %d",
                 num_ranks, count);
  for (int32_t r = 0; r < num_ranks; r++) {
    const char *end = NULL;
    speed[r] = read_number(&end, at);
    end += strspn(end, " ");
    MOERUN_REQUIRE(speed[r] >= LEAST && speed[r] <= MOST &&
                       *end == (r + 1 < num_ranks ? ',' : '\0'),
                   MOERUN_ERR_INVALID,
                   "--speeds: expected %d speeds from %g to %g with commas "
                   "between and without signs and exponents, found \"%.100s\" "
                   "at rank %d",
                   num_ranks, LEAST, MOST, at, r);
    at = end + 1;
  }
done:
  return status;
}

/* What `run --metrics` writes, and of so many ranks. */
static moerun_status check_metrics(const json_t *root, int32_t num_ranks,
                                   const char *path) {
  moerun_status status = MOERUN_OK;
  const char *format = NULL;
  int64_t version = 0;
  int64_t ranks = 0;
  MOERUN_TRY(moerun__json_text(&format, root, "format", 1, path));
  MOERUN_REQUIRE(strcmp(format, "moerun-metrics") == 0, MOERUN_ERR_FORMAT,
                 "%s: key \"format\": expected \"moerun-metrics\", found "
                 "\"%.64s\"",
                 path, format);
  MOERUN_TRY(moerun__json_int(&version, root, "version", INT64_MIN, INT64_MAX,
                              NULL, path));
  MOERUN_REQUIRE(version == 1, MOERUN_ERR_FORMAT,
                 "%s: key \"version\": expected 1, found %lld", path,
                 (long long)version);
  MOERUN_TRY(moerun__json_int(&ranks, root, "ranks", 1, INT32_MAX, NULL, path));
  MOERUN_REQUIRE(ranks == num_ranks, MOERUN_ERR_SHAPE,
                 "%s: key \"ranks\": expected %d ranks as in the topology, "
                 "found %lld",
                 path, num_ranks, (long long)ranks);
done:
  return status;
}

/* A word with a slip in it is taken for the name of a file. */
static moerun_status advise(moerun_status status) {
  if (status != MOERUN_ERR_IO && status != MOERUN_ERR_FORMAT) return status;
  return moerun__say_more(moerun__say_where(status, "--speeds"),
                          ": expected speeds with commas between, or the file "
                          "of --metrics of a run");
}

static moerun_status read_metrics(double *speed, const char *path,
                                  int32_t num_ranks) {
  moerun_status status = MOERUN_OK;
  json_t *root = NULL;
  json_t *balance = NULL;
  json_t *ranks = NULL;
  double fastest = 0;
  moerun__text where = {0};
  MOERUN_TRY(advise(moerun__json_load(&root, path, file_limit)));
  MOERUN_REQUIRE(json_is_object(root), MOERUN_ERR_FORMAT,
                 "%s: expected the metrics of a run, found %s", path,
                 moerun__json_kind(root));
  MOERUN_TRY(check_metrics(root, num_ranks, path));
  MOERUN_REQUIRE(json_object_get(root, "balance") != NULL, MOERUN_ERR_FORMAT,
                 "%s: expected the key \"balance\" of a run that balanced, "
                 "found none",
                 path);
  MOERUN_TRY(moerun__json_object(&balance, root, "balance", path));
  MOERUN_TRY(moerun__json_array(&ranks, balance, "ranks", path));
  MOERUN_REQUIRE(json_array_size(ranks) == (size_t)num_ranks, MOERUN_ERR_SHAPE,
                 "%s: balance: key \"ranks\": expected %d ranks as in the "
                 "topology, found %zu",
                 path, num_ranks, json_array_size(ranks));
  for (int32_t r = 0; r < num_ranks; r++) {
    const json_t *rank = json_array_get(ranks, (size_t)r);
    MOERUN_REQUIRE(json_is_object(rank), MOERUN_ERR_FORMAT,
                   "%s: balance: key \"ranks\": entry %d: expected an object, "
                   "found %s",
                   path, r, moerun__json_kind(rank));
    moerun__text_clear(&where);
    MOERUN_TRY(moerun__text_print(&where, "%s: balance: rank %d", path, r));
    MOERUN_TRY(moerun__json_double(&speed[r], rank, "speed", LEAST, MOST, NULL,
                                   where.bytes));
    fastest = fmax(fastest, speed[r]);
  }
  for (int32_t r = 0; r < num_ranks; r++) {
    const double behind = MOERUN_SPEED_OCTAVE * log2(fastest / speed[r]);
    if (behind < MOERUN_SPEED_NOISE + 0.5) speed[r] = fastest;
  }
done:
  moerun__text_clear(&where);
  json_decref(root);
  return status;
}

moerun_status moerun__place_speeds(moerun__text *line, const char *speeds,
                                   int32_t num_ranks) {
  moerun_status status = MOERUN_OK;
  double *speed = NULL;
  MOERUN_TRY(moerun__alloc(&speed, (size_t)num_ranks, sizeof *speed));
  MOERUN_TRY(moerun__place_speeds_are_list(speeds)
                 ? read_list(speed, speeds, num_ranks)
                 : read_metrics(speed, speeds, num_ranks));
  MOERUN_TRY(moerun__text_print(line, ", speed"));
  for (int32_t r = 0; r < num_ranks; r++) {
    MOERUN_TRY(moerun__text_print(line, " %.6g", speed[r]));
  }
done:
  moerun__free(speed);
  return status;
}
