/* moerun_bench_place: every placement method on the same routing, solved for
 * every second sequence and judged by the others. The routing is recorded
 * (--trace, or the .npy files of the folder that MOERUN_TRACES names) or, for
 * a size that no recording here has, drawn. All values are moerun__judge's,
 * from the raw trace. What the columns are: README.md. */
#ifdef MOERUN_METIS
#include "benchmarks/place_metis.h"
#endif
#include "benchmarks/place_bound.h"
#include "placement/map/certificate.h"
#include "placement/methods/method.h"
#include "runtime/base/config.h"
#include "runtime/base/file.h"
#include "runtime/base/memory.h"
#include "runtime/base/text.h"
#include "runtime/base/timer.h"
#include "support/synthetic_trace.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_ENTRIES = 64, NAME_BYTES = 32, POLISH = 20 };

typedef struct options {
  const char *trace;    /* NULL: those of MOERUN_TRACES */
  const char *cases;    /* names with commas between; NULL: all */
  const char *methods;  /* the same; NAME+ROUNDS: with polish */
  const char *topology; /* NULL: the cases of the table */
  const char *objective;
  const char *json;
  double time_limit_s;
  double bound_s; /* 0: no bounds */
  int64_t seed;
  int help;
} options;

static const char usage[] =
    "usage: moerun_bench_place [options]\n"
    "  --trace FILE       recorded routing            (all of MOERUN_TRACES)\n"
    "  --case NAMES       cut8, cut16, fanout8, fanout8+1, nodes      (all)\n"
    "  --topology LINE    in place of the cases: this cluster\n"
    "  --objective NAME   with --topology: fanout, cut, weighted or tail\n"
    "                                                           (fanout)\n"
    "  --method NAMES     with commas between; NAME+N: N rounds of polish\n"
    "                     on top                                     (all)\n"
    "  --time-limit S     seconds for each method                     (60)\n"
    "  --bound-time S     seconds for each case's certified bound      (0)\n"
    "  --seed N                                                        (0)\n"
    "  --json FILE        the same numbers as JSON\n";

/* ---- Cases --------------------------------------------------------------- */

typedef struct bench_case {
  const char *name;
  int is_drawn; /* 0: on every recorded trace */
  const char *topology;
  moerun__objective objective;
  int32_t spare_slots;
} bench_case;

static const bench_case cases[] = {
    {"cut8", 0, "8 ranks", MOERUN_OBJECTIVE_CUT, 0},
    {"cut16", 0, "16 ranks", MOERUN_OBJECTIVE_CUT, 0},
    {"fanout8", 0, "8 ranks", MOERUN_OBJECTIVE_FANOUT, 0},
    {"fanout8+1", 0, "8 ranks", MOERUN_OBJECTIVE_FANOUT, 1},
    {"nodes", 1, "8 nodes x 8 ranks, intra 40 GB/s, inter 3 GB/s",
     MOERUN_OBJECTIVE_WEIGHTED, 0},
};
enum { NUM_CASES = sizeof cases / sizeof *cases };

static const synthetic drawn = {.tokens = 16000,
                                .sequence_tokens = 100,
                                .layers = 58,
                                .experts = 256,
                                .terms = 8,
                                .classes = 64,
                                .affinity = 1.8,
                                .seed = 1,
                                .sample = 2};

/* A method, with rounds of polish on top. */
typedef struct entry {
  char name[NAME_BYTES];
  const moerun__method *method;
  int32_t polish;
} entry;

typedef struct bench {
  options options;
  entry entries[MAX_ENTRIES];
  int num_entries;
  moerun__text json;
  int num_rows; /* of the JSON so far */
} bench;

/* What one case is run on. */
typedef struct world {
  const bench_case *of;
  const char *trace_name;
  moerun__trace *train;
  moerun__trace *held_out;
  moerun__topology *topology;
  moerun__problem *problem;
} world;

typedef struct row {
  const char *name;
  moerun__judgement train;
  moerun__judgement held_out;
  double cost; /* objective */
  double held_out_cost;
  double seconds;
  double bound; /* < 0: none */
  double gap;
  int32_t proven;
} row;

static double now(void) {
  return moerun__now();
}

/* ---- Options ------------------------------------------------------------- */

/* Whether `name` is one of "a,b,c"; all are in NULL. */
static int is_listed(const char *list, const char *name) {
  const size_t length = strlen(name);
  for (const char *at = list; at != NULL;) {
    const size_t n = strcspn(at, ",");
    if (n == length && strncmp(at, name, n) == 0) return 1;
    at = at[n] == ',' ? at + n + 1 : NULL;
  }
  return list == NULL;
}

static const moerun__method *find_method(const char *name) {
#ifdef MOERUN_METIS
  if (strcmp(name, moerun__metis.name) == 0) return &moerun__metis;
#endif
  return moerun__method_find(name);
}

static moerun_status add_entry(bench *b, const char *name, size_t length) {
  moerun_status status = MOERUN_OK;
  entry *e = &b->entries[b->num_entries];
  MOERUN_REQUIRE(length < NAME_BYTES && b->num_entries < MAX_ENTRIES,
                 MOERUN_ERR_INVALID, "--method: too long, or too many of them");
  memcpy(e->name, name, length);
  char plain[NAME_BYTES] = "";
  memcpy(plain, name, length);
  char *plus = strchr(plain, '+');
  if (plus != NULL) {
    e->polish = (int32_t)strtol(plus + 1, NULL, 10);
    *plus = '\0';
  }
  e->method = find_method(plain);
  MOERUN_REQUIRE(e->method != NULL && (plus == NULL || e->polish > 0),
                 MOERUN_ERR_INVALID,
                 "--method: expected names as `moerun place --method list` "
                 "prints, or NAME+ROUNDS, found \"%s\"",
                 e->name);
  b->num_entries++;
done:
  return status;
}

/* Those listed, else all, and the default method with polish. */
static moerun_status choose_entries(bench *b) {
  moerun_status status = MOERUN_OK;
  const moerun__method *method = NULL;
  const char *list = b->options.methods;
  while (list != NULL) {
    const size_t n = strcspn(list, ",");
    MOERUN_TRY(add_entry(b, list, n));
    list = list[n] == ',' ? list + n + 1 : NULL;
  }
  if (b->num_entries > 0) goto done;
  for (int i = 0; (method = moerun__method_at(i)) != NULL; i++) {
    MOERUN_TRY(add_entry(b, method->name, strlen(method->name)));
  }
  if (find_method("metis") != NULL) MOERUN_TRY(add_entry(b, "metis", 5));
  if (find_method("cd") != NULL) {
    char name[NAME_BYTES];
    const int length = snprintf(name, sizeof name, "cd+%d", POLISH);
    MOERUN_TRY(add_entry(b, name, (size_t)length));
  }
done:
  return status;
}

static moerun_status parse_options(options *o, int argc, char **argv) {
  moerun_status status = MOERUN_OK;
  const char *limit = "60";
  const char *bound = "0";
  const char *seed = "0";
  *o = (options){.objective = "fanout"};
  const struct {
    const char *name;
    const char **value;
  } texts[] = {
      {"--trace", &o->trace},       {"--case", &o->cases},
      {"--topology", &o->topology}, {"--objective", &o->objective},
      {"--method", &o->methods},    {"--json", &o->json},
      {"--time-limit", &limit},     {"--seed", &seed},
      {"--bound-time", &bound},
  };
  const size_t n = sizeof texts / sizeof *texts;
  for (int i = 1; i < argc; i += 2) {
    size_t k = 0;
    o->help |= strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0;
    if (o->help) goto done;
    while (k < n && strcmp(argv[i], texts[k].name) != 0) {
      k++;
    }
    MOERUN_REQUIRE(k < n && argv[i + 1] != NULL, MOERUN_ERR_INVALID,
                   "unknown or incomplete option %s", argv[i]);
    *texts[k].value = argv[i + 1];
  }
  char *end = NULL;
  o->time_limit_s = strtod(limit, &end);
  MOERUN_REQUIRE(end != limit && *end == '\0' && o->time_limit_s > 0,
                 MOERUN_ERR_INVALID,
                 "--time-limit: expected seconds above 0, found \"%s\"", limit);
  o->bound_s = strtod(bound, &end);
  MOERUN_REQUIRE(
      end != bound && *end == '\0' && o->bound_s >= 0, MOERUN_ERR_INVALID,
      "--bound-time: expected seconds from 0 on, found \"%s\"", bound);
  o->seed = strtoll(seed, &end, 10);
  MOERUN_REQUIRE(end != seed && *end == '\0' && o->seed >= 0,
                 MOERUN_ERR_INVALID,
                 "--seed: expected a number from 0 on, found \"%s\"", seed);
  MOERUN_REQUIRE(
      moerun__objective_find(o->objective) >= 0, MOERUN_ERR_INVALID,
      "--objective: expected fanout, cut, weighted or tail, found \"%s\"",
      o->objective);
done:
  return status;
}

/* ---- One method ---------------------------------------------------------- */

static moerun_status judge(row *r, const world *w,
                           const moerun_placement *placement) {
  moerun_status status = MOERUN_OK;
  const moerun__problem *p = w->problem;
  MOERUN_TRY(moerun__judge(&r->train, placement, w->train, w->topology,
                           p->node_weight, p->far_weight, NULL));
  MOERUN_TRY(moerun__judge(&r->held_out, placement, w->held_out, w->topology,
                           p->node_weight, p->far_weight, NULL));
  r->cost = moerun__judged(p, &r->train);
  r->held_out_cost = moerun__judged(p, &r->held_out);
  r->gap = moerun__gap(r->cost, r->bound, moerun__worst_cost(p));
done:
  return status;
}

/* ERR_UNSUPPORTED and ERR_INFEASIBLE are results, too: *is_done = 0. */
static moerun_status run_entry(row *r, int *is_done, const bench *b,
                               const world *w, const entry *e) {
  moerun_status status = MOERUN_OK;
  moerun_placement *placement = NULL;
  const moerun__method_options chosen = {.seed = (uint64_t)b->options.seed,
                                         .time_limit_s =
                                             b->options.time_limit_s,
                                         .clock = now,
                                         .spare_slots = w->of->spare_slots,
                                         .polish = e->polish};
  const double began = moerun__now();
  *r = (row){.name = e->name, .bound = -1};
  *is_done = 0;
  status = moerun__place(&placement, &r->proven, &r->bound, w->problem,
                         e->method, &chosen);
  if (status == MOERUN_ERR_UNSUPPORTED || status == MOERUN_ERR_INFEASIBLE) {
    status = MOERUN_OK;
    goto done;
  }
  MOERUN_TRY(status);
  r->seconds = moerun__now() - began;
  MOERUN_TRY(judge(r, w, placement));
  *is_done = 1;
done:
  moerun_placement_destroy(placement);
  return status;
}

/* ---- Report -------------------------------------------------------------- */

static void print_head(const bench *b, const world *w) {
  (void)printf(
      "\n# %s: %s, objective %s, %d spare slots a rank, %s: %d layers "
      "of %d experts, %d a token\n"
      "# solved for %lld tokens in %lld sequences, judged by %lld in "
      "%lld; at most %g s a method, seed %lld\n",
      w->of->name, w->of->topology, moerun__objective_name(w->of->objective),
      w->of->spare_slots, w->trace_name, w->train->num_layers,
      w->train->num_experts, w->train->num_terms,
      (long long)w->train->num_tokens, (long long)w->train->num_sequences,
      (long long)w->held_out->num_tokens, (long long)w->held_out->num_sequences,
      b->options.time_limit_s, (long long)b->options.seed);
  (void)printf("# %-12s %8s %8s | %7s %7s %8s | %6s %6s %6s | %8s | %8s %6s\n",
               "method", "solved", "held-out", "fan-out", "cut", "node cut",
               "load", "held", "worst", "seconds", "bound", "gap %");
}

static void print_row(const row *r) {
  (void)printf(
      "  %-12s %8.4f %8.4f | %7.4f %7.4f %8.4f | %6.3f %6.3f %6.3f | %8.3f |",
      r->name, r->cost, r->held_out_cost, r->held_out.fanout, r->held_out.cut,
      r->held_out.node_cut, r->train.load, r->held_out.load,
      r->train.worst_load, r->seconds);
  if (r->bound < 0) {
    (void)printf(" %8s %6s\n", "-", "-");
  } else {
    (void)printf(" %8.4f %6.1f%s\n", r->bound, 100 * r->gap,
                 r->proven ? " optimal" : "");
  }
  (void)fflush(stdout);
}

static moerun_status put_row(bench *b, const world *w, const row *r) {
  moerun_status status = MOERUN_OK;
  moerun__text *out = &b->json;
  MOERUN_TRY(moerun__text_print(
      out,
      "%s\n    {\"case\": \"%s\", \"method\": \"%s\", \"topology\": \"%s\", "
      "\"objective\": \"%s\", \"spare_slots\": %d, \"trace\": ",
      b->num_rows++ > 0 ? "," : "", w->of->name, r->name, w->of->topology,
      moerun__objective_name(w->of->objective), w->of->spare_slots));
  MOERUN_TRY(moerun__text_json(out, w->trace_name, strlen(w->trace_name)));
  MOERUN_TRY(moerun__text_print(
      out,
      ", \"cost\": %.9g, \"held_out_cost\": %.9g, \"fanout\": %.9g, \"cut\": "
      "%.9g, \"node_cut\": %.9g, \"load\": %.6g, \"held_out_load\": %.6g, "
      "\"worst_load\": %.6g, \"seconds\": %.4f",
      r->cost, r->held_out_cost, r->held_out.fanout, r->held_out.cut,
      r->held_out.node_cut, r->train.load, r->held_out.load,
      r->train.worst_load, r->seconds));
  if (r->bound >= 0) {
    MOERUN_TRY(moerun__text_print(
        out, ", \"bound\": %.9g, \"gap\": %.6g, \"proven\": %s", r->bound,
        r->gap, r->proven ? "true" : "false"));
  }
  MOERUN_TRY(moerun__text_print(out, "}"));
done:
  return status;
}

/* ---- One case ------------------------------------------------------------ */

/* Of placements without spare slots; `cost`: of the best within the caps. */
static moerun_status run_bound(bench *b, const world *w, double cost) {
  const place_bound_case of = {.name = w->of->name,
                               .trace_name = w->trace_name,
                               .problem = w->problem,
                               .cost = cost,
                               .seconds = b->options.bound_s};
  if (!(of.seconds > 0) || w->of->spare_slots > 0) return MOERUN_OK;
  return place_bound_run(&b->json, &b->num_rows, &of);
}

static moerun_status run_case(bench *b, const bench_case *of,
                              const char *trace_name,
                              const moerun__trace *trace) {
  moerun_status status = MOERUN_OK;
  world w = {.of = of, .trace_name = trace_name};
  const moerun__problem_options how = {.objective = of->objective};
  MOERUN_TRY(moerun__topology_parse(&w.topology, of->topology));
  MOERUN_TRY(moerun__trace_select(&w.train, trace, 0, 2, "trace"));
  MOERUN_TRY(moerun__trace_select(&w.held_out, trace, 1, 2, "trace"));
  MOERUN_TRY(moerun__problem_create(&w.problem, w.train, w.topology, &how));
  double least = moerun__worst_cost(w.problem);
  print_head(b, &w);
  for (int i = 0; i < b->num_entries; i++) {
    row r;
    int is_done = 0;
    MOERUN_TRY(run_entry(&r, &is_done, b, &w, &b->entries[i]));
    if (!is_done) {
      (void)printf("  %-12s %s\n", b->entries[i].name, moerun_last_error());
      continue;
    }
    print_row(&r);
    MOERUN_TRY(put_row(b, &w, &r));
    if (b->entries[i].method->keeps_caps && r.cost < least) least = r.cost;
  }
  MOERUN_TRY(run_bound(b, &w, least));
done:
  moerun__problem_destroy(w.problem);
  moerun__trace_destroy(w.train);
  moerun__trace_destroy(w.held_out);
  moerun__topology_destroy(w.topology);
  return status;
}

/* All cases on recorded routing, or the one that was asked for. */
static moerun_status run_recorded(bench *b, const char *path) {
  moerun_status status = MOERUN_OK;
  moerun__trace *trace = NULL;
  const char *slash = strrchr(path, '/');
  const char *name = slash != NULL ? slash + 1 : path;
  const options *o = &b->options;
  MOERUN_TRY(moerun__trace_load(&trace, path, 0));
  if (o->topology != NULL) {
    const bench_case asked = {
        .name = "asked",
        .topology = o->topology,
        .objective = (moerun__objective)moerun__objective_find(o->objective)};
    MOERUN_TRY(run_case(b, &asked, name, trace));
    goto done;
  }
  for (int i = 0; i < NUM_CASES; i++) {
    if (cases[i].is_drawn || !is_listed(o->cases, cases[i].name)) continue;
    MOERUN_TRY(run_case(b, &cases[i], name, trace));
  }
done:
  moerun__trace_destroy(trace);
  return status;
}

static moerun_status run_drawn(bench *b) {
  moerun_status status = MOERUN_OK;
  moerun__trace made = {0};
  for (int i = 0; i < NUM_CASES; i++) {
    if (!cases[i].is_drawn || !is_listed(b->options.cases, cases[i].name)) {
      continue;
    }
    if (made.ids == NULL) made = synthetic_create(&drawn);
    MOERUN_TRY(run_case(b, &cases[i], "drawn", &made));
  }
done:
  synthetic_free(&made);
  return status;
}

/* ---- Main ---------------------------------------------------------------- */

static int is_array(const struct dirent *item) {
  const size_t length = strlen(item->d_name);
  return length > 4 && strcmp(item->d_name + length - 4, ".npy") == 0;
}

/* Every .npy of the folder, in the order of their names. */
static moerun_status run_folder(bench *b, const char *folder) {
  moerun_status status = MOERUN_OK;
  moerun__text path = {0};
  struct dirent **items = NULL;
  const int count = scandir(folder, &items, is_array, alphasort);
  MOERUN_REQUIRE(count >= 0, MOERUN_ERR_IO,
                 "MOERUN_TRACES: %s: cannot be opened: %s", folder,
                 moerun__file_reason());
  MOERUN_REQUIRE(count > 0, MOERUN_ERR_IO,
                 "MOERUN_TRACES: %s: expected .npy files, found none", folder);
  for (int i = 0; i < count; i++) {
    moerun__text_clear(&path);
    MOERUN_TRY(moerun__text_print(&path, "%s/%s", folder, items[i]->d_name));
    MOERUN_TRY(run_recorded(b, path.bytes));
  }
done:
  for (int i = 0; i < count; i++) {
    free(items[i]);
  }
  free(items);
  moerun__text_clear(&path);
  return status;
}

static moerun_status run_all(bench *b) {
  moerun_status status = MOERUN_OK;
  const options *o = &b->options;
  const char *folder = moerun__config_environment("MOERUN_TRACES");
  char host[256] = "";
  (void)gethostname(host, sizeof host - 1);
  MOERUN_TRY(moerun__text_print(
      &b->json,
      "{\n  \"benchmark\": \"place\",\n  \"schema\": 1,\n  \"version\": "
      "\"%d.%d.%d\",\n  \"host\": ",
      MOERUN_VERSION_MAJOR, MOERUN_VERSION_MINOR, MOERUN_VERSION_PATCH));
  MOERUN_TRY(moerun__text_json(&b->json, host, strlen(host)));
  MOERUN_TRY(moerun__text_print(
      &b->json,
      ",\n  \"cores\": %ld, \"seed\": %lld, \"time_limit_s\": %g,\n  "
      "\"rows\": [",
      sysconf(_SC_NPROCESSORS_ONLN), (long long)o->seed, o->time_limit_s));
  if (o->trace != NULL) {
    MOERUN_TRY(run_recorded(b, o->trace));
  } else if (folder != NULL) {
    MOERUN_TRY(run_folder(b, folder));
  } else {
    (void)printf("# recorded routing: skipped, MOERUN_TRACES is not set\n");
  }
  if (o->topology == NULL) MOERUN_TRY(run_drawn(b));
  MOERUN_TRY(moerun__text_print(&b->json, "\n  ]\n}\n"));
  if (o->json != NULL) {
    MOERUN_TRY(moerun__file_write(o->json, b->json.bytes, b->json.count));
  }
done:
  return status;
}

int main(int argc, char **argv) {
  moerun_status status = MOERUN_OK;
  static bench b;
  MOERUN_TRY(parse_options(&b.options, argc, argv));
  if (b.options.help) {
    (void)fputs(usage, stdout);
    goto done;
  }
  MOERUN_TRY(choose_entries(&b));
  MOERUN_TRY(run_all(&b));
done:
  moerun__text_clear(&b.json);
  if (status != MOERUN_OK) {
    (void)fprintf(stderr, "moerun_bench_place: %s\n", moerun_last_error());
  }
  return status == MOERUN_OK ? 0 : 1;
}
