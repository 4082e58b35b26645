/* The cluster in one line: "2 nodes x 4 ranks, intra 40 GB/s 2 us, inter 3 GB/s
 * 8 us, speed 1 1 1 0.5 1 1 1 1". Everything after the first part may be left
 * out, "2 nodes x" too (one node), and so may the latencies. Nodes of different
 * sizes are added up, "2 nodes x 4 + 2 ranks" or "4 + 4 + 2 ranks".
 * placement/README.md has the grammar, and every refusal quotes it. Units are
 * decimal: 1 GB/s is 1e9 bytes a second. Speeds are scaled to a mean of 1, so
 * that only their ratios matter. */
#include "runtime/base/topology.h"

#include "runtime/base/limits.h"
#include "runtime/base/memory.h"
#include "runtime/base/number.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct scanner {
  const char *text; /* all of it, for messages */
  const char *at;
} scanner;

static void skip_blanks(scanner *scan) {
  while (*scan->at == ' ' || *scan->at == '\t') {
    scan->at++;
  }
}

static int is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* Takes `word` if it stands next and does not go on. */
static int take_word(scanner *scan, const char *word) {
  skip_blanks(scan);
  const size_t length = strlen(word);
  if (strncmp(scan->at, word, length) != 0) return 0;
  if (is_letter(word[length - 1]) && is_letter(scan->at[length])) return 0;
  scan->at += length;
  return 1;
}

/* Decimal digits with at most one point; no sign, exponent or hexadecimal. */
static int take_number(scanner *scan, double *out) {
  skip_blanks(scan);
  const size_t length = strspn(scan->at, "0123456789.");
  if (length == 0 || length > 30) return 0;
  char copy[32] = {0};
  memcpy(copy, scan->at, length);
  char *end = NULL;
  *out = strtod(copy, &end);
  if (end != copy + length) return 0;
  scan->at += length;
  return 1;
}

#define GRAMMAR                                                                \
  "[NODES nodes x] RANKS ranks [+ more of them] [, intra BANDWIDTH "           \
  "[LATENCY]] "                                                                \
  "[, inter BANDWIDTH [LATENCY]] [, speed S S ...]"

static moerun_status expected(const scanner *scan, const char *what) {
  return moerun__fail(
      MOERUN_ERR_FORMAT, __FILE__, __LINE__,
      "topology \"%.200s\": expected %s at character %d, found \"%.20s\"; the "
      "whole is " GRAMMAR,
      scan->text, what, (int)(scan->at - scan->text) + 1, scan->at);
}

/* The same of what has been taken and began at `begin`. */
static moerun_status expected_at(scanner *scan, const char *begin,
                                 const char *what) {
  scan->at = begin;
  return expected(scan, what);
}

static moerun_status read_count(int32_t *out, scanner *scan) {
  double value = 0;
  skip_blanks(scan);
  const char *begin = scan->at;
  if (!take_number(scan, &value) || value < 1 ||
      value > MOERUN_PLACEMENT_MAX_RANKS || value != floor(value)) {
    return expected_at(scan, begin, "a whole number from 1 to 1048576");
  }
  *out = (int32_t)value;
  return MOERUN_OK;
}

/* Adds `count` nodes of `ranks` ranks each; before there is memory for them
 * they are counted alone. */
static moerun_status add_nodes(moerun__topology *topology, int32_t count,
                               int32_t ranks, const scanner *scan) {
  moerun_status status = MOERUN_OK;
  const int64_t total = topology->num_ranks + (int64_t)count * ranks;
  MOERUN_REQUIRE(total <= MOERUN_PLACEMENT_MAX_RANKS, MOERUN_ERR_FORMAT,
                 "topology \"%.200s\": expected at most %d ranks, found %lld",
                 scan->text, MOERUN_PLACEMENT_MAX_RANKS, (long long)total);
  if (topology->num_nodes == 0) topology->ranks_per_node = ranks;
  if (topology->ranks_per_node != ranks) topology->ranks_per_node = 0;
  for (int32_t r = 0; topology->node_of != NULL && r < count * ranks; r++) {
    topology->node_of[topology->num_ranks + r] =
        topology->num_nodes + r / ranks;
  }
  for (int32_t n = 0; topology->first_rank != NULL && n < count; n++) {
    topology->first_rank[topology->num_nodes + n] =
        topology->num_ranks + n * ranks;
  }
  topology->num_nodes += count;
  topology->num_ranks = (int32_t)total;
done:
  return status;
}

/* [N nodes x] M ranks [+ …]; "ranks" may be left out before a plus. */
static moerun_status read_nodes(moerun__topology *topology, scanner *scan) {
  moerun_status status = MOERUN_OK;
  topology->num_nodes = 0;
  topology->num_ranks = 0;
  for (int more = 1; more;) {
    int32_t nodes = 1;
    int32_t ranks = 1;
    MOERUN_TRY(read_count(&ranks, scan));
    if (take_word(scan, "nodes") || take_word(scan, "node")) {
      nodes = ranks;
      if (!take_word(scan, "x")) MOERUN_TRY(expected(scan, "\"x\""));
      MOERUN_TRY(read_count(&ranks, scan));
    }
    const int is_named = take_word(scan, "ranks") || take_word(scan, "rank");
    more = take_word(scan, "+");
    if (!is_named && !more) MOERUN_TRY(expected(scan, "\"ranks\""));
    MOERUN_TRY(add_nodes(topology, nodes, ranks, scan));
  }
done:
  return status;
}

/* Twice: for the numbers, and for who is where. */
static moerun_status read_shape(moerun__topology *topology, scanner *scan) {
  moerun_status status = MOERUN_OK;
  scanner again = *scan;
  MOERUN_TRY(read_nodes(topology, scan));
  MOERUN_TRY(moerun__alloc(&topology->node_of, (size_t)topology->num_ranks,
                           sizeof *topology->node_of));
  MOERUN_TRY(moerun__alloc(&topology->first_rank,
                           (size_t)topology->num_nodes + 1,
                           sizeof *topology->first_rank));
  MOERUN_TRY(read_nodes(topology, &again));
  topology->first_rank[topology->num_nodes] = topology->num_ranks;
done:
  return status;
}

typedef struct unit {
  const char *name;
  double factor;
} unit;

/* B GB/s [T us] */
static moerun_status read_link(double *bytes_per_second, double *seconds,
                               scanner *scan) {
  static const unit rates[] = {{"TB/s", 1e12}, {"GB/s", 1e9}, {"MB/s", 1e6}};
  static const unit times[] = {{"ns", 1e-9}, {"us", 1e-6}, {"ms", 1e-3}};
  double value = 0;
  skip_blanks(scan);
  const char *begin = scan->at;
  if (!take_number(scan, &value) || !(value > 0)) {
    return expected_at(scan, begin, "a bandwidth above 0");
  }
  for (size_t i = 0; i < sizeof rates / sizeof *rates; i++) {
    if (take_word(scan, rates[i].name)) {
      *bytes_per_second = value * rates[i].factor;
    }
  }
  if (!(*bytes_per_second > 0)) return expected(scan, "TB/s, GB/s or MB/s");
  if (!take_number(scan, &value)) return MOERUN_OK;
  for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
    if (take_word(scan, times[i].name)) {
      *seconds = value * times[i].factor;
      return MOERUN_OK;
    }
  }
  return expected(scan, "ns, us or ms");
}

static moerun_status read_speeds(moerun__topology *topology, scanner *scan) {
  double sum = 0;
  for (int32_t r = 0; r < topology->num_ranks; r++) {
    skip_blanks(scan);
    const char *begin = scan->at;
    if (!take_number(scan, &topology->speed[r]) || !(topology->speed[r] > 0)) {
      return expected_at(scan, begin, "one speed above 0 for each rank");
    }
    sum += topology->speed[r];
  }
  for (int32_t r = 0; r < topology->num_ranks; r++) {
    topology->speed[r] *= topology->num_ranks / sum;
  }
  return MOERUN_OK;
}

/* , intra … , inter … , speed …: each at most once, in any order */
static moerun_status read_parts(moerun__topology *topology, scanner *scan) {
  moerun_status status = MOERUN_OK;
  int speeds = 0;
  while (take_word(scan, ",")) {
    if (!(topology->intra_bytes_per_second > 0) && take_word(scan, "intra")) {
      MOERUN_TRY(read_link(&topology->intra_bytes_per_second,
                           &topology->intra_seconds, scan));
    } else if (!(topology->inter_bytes_per_second > 0) &&
               take_word(scan, "inter")) {
      MOERUN_TRY(read_link(&topology->inter_bytes_per_second,
                           &topology->inter_seconds, scan));
    } else if (!speeds && take_word(scan, "speed")) {
      speeds = 1;
      MOERUN_TRY(read_speeds(topology, scan));
    } else {
      MOERUN_TRY(expected(scan, "intra, inter or speed, each once"));
    }
  }
  if (*scan->at != '\0') MOERUN_TRY(expected(scan, "a comma or the end"));
done:
  return status;
}

moerun_status moerun__topology_parse(moerun__topology **out, const char *text) {
  moerun_status status = MOERUN_OK;
  moerun__topology *topology = NULL;
  scanner scan = {text, text};
  *out = NULL;
  MOERUN_TRY(moerun__alloc(&topology, 1, sizeof *topology));
  MOERUN_TRY(read_shape(topology, &scan));
  MOERUN_TRY(moerun__alloc(&topology->speed, (size_t)topology->num_ranks,
                           sizeof *topology->speed));
  for (int32_t r = 0; r < topology->num_ranks; r++) {
    topology->speed[r] = 1;
  }
  MOERUN_TRY(read_parts(topology, &scan));
  *out = topology;
  topology = NULL;
done:
  moerun__topology_destroy(topology);
  return status;
}

int moerun__topology_is_uneven(const moerun__topology *topology) {
  for (int32_t r = 1; r < topology->num_ranks; r++) {
    if (topology->speed[r] < topology->speed[0] ||
        topology->speed[r] > topology->speed[0]) {
      return 1;
    }
  }
  return 0;
}

void moerun__topology_destroy(moerun__topology *topology) {
  if (topology == NULL) return;
  moerun__free(topology->speed);
  moerun__free(topology->node_of);
  moerun__free(topology->first_rank);
  moerun__free(topology);
}
