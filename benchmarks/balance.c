/* moerun_bench_balance: what balancing gains and costs, beside plain expert
 * parallelism of the same build in the same run, turn by turn, because the
 * machine is noisy. Cases and columns: README.md. The text is what gnuplot
 * reads (balance.gp): blocks with their names in a comment, two empty lines
 * between them. */
#include "benchmarks/balance.h"

#include "runtime/base/file.h"
#include "runtime/base/memory.h"

#include <moerun/moerun_mpi.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char usage[] =
    "usage: mpirun -n R moerun_bench_balance [options]\n"
    "  --case NAME    skew, balanced, slices, slow, replay, replay_slow,\n"
    "                 attack, gamma or isolation           (all)\n"
    "  -n N           times each is measured               (11)\n"
    "  --steps N      steps of each series of slow         (100)\n"
    "  --tokens N     tokens of each rank, one layer       (1024)\n"
    "  --experts N    experts of skew and balanced         (64)\n"
    "  --hidden N     hidden width                         (512)\n"
    "  --width N      expert width                         (1024)\n"
    "  --guests N     experts of others a rank has room for (as by default)\n"
    "  --model DIR    checkpoint of attack, gamma and isolation, which are\n"
    "                 left out without it\n"
    "  --weight-rows N\n"
    "                 replay, replay_slow: rows in whose time an expert's\n"
    "                 weights arrive; calls of replay then cost nothing\n"
    "                                     (measured; 11 or 12 in replay_slow)\n"
    "  --text FILE    ordinary prompts for them\n"
    "  --batches N    of gamma and isolation, at most; 0: as many as the\n"
    "                 text has                             (0)\n"
    "  --series FILE  the steps of slow, one a line\n"
    "  --json FILE    the same numbers as JSON\n";

/* ---- Options ------------------------------------------------------------- */

static moerun_status parse_number(int64_t *out, const char *flag,
                                  const char *text, int64_t low, int64_t high) {
  moerun_status status = MOERUN_OK;
  char *end = NULL;
  const int64_t value = text == NULL ? -1 : strtoll(text, &end, 10);
  MOERUN_REQUIRE(text != NULL && end != text && *end == '\0' && value >= low &&
                     value <= high,
                 MOERUN_ERR_INVALID, "%s: expected %lld to %lld, found \"%s\"",
                 flag, (long long)low, (long long)high,
                 text == NULL ? "" : text);
  *out = value;
done:
  return status;
}

static moerun_status parse_option(bench_options *o, const char *flag,
                                  const char *value) {
  moerun_status status = MOERUN_OK;
  const struct {
    const char *name;
    int64_t *value;
    int64_t low, high;
  } numbers[] = {
      {"-n", &o->repetitions, 1, 10000},
      {"--steps", &o->steps, 20, MOERUN_LEDGER_STEPS},
      {"--tokens", &o->tokens, 64, 1 << 20},
      {"--experts", &o->experts, 2, 4096},
      {"--hidden", &o->hidden_width, 32, 1 << 14},
      {"--width", &o->expert_width, 32, 1 << 15},
      {"--batches", &o->batches, 0, 1 << 20},
      {"--guests", &o->guests, 0, 1 << 16},
      {"--weight-rows", &o->weight_rows, 1, 1 << 20},
  };
  const struct {
    const char *name;
    const char **value;
  } texts[] = {{"--case", &o->case_name},
               {"--model", &o->model},
               {"--text", &o->text},
               {"--series", &o->series},
               {"--json", &o->json}};
  for (size_t k = 0; k < sizeof numbers / sizeof *numbers; k++) {
    if (strcmp(flag, numbers[k].name) != 0) continue;
    return parse_number(numbers[k].value, flag, value, numbers[k].low,
                        numbers[k].high);
  }
  for (size_t k = 0; k < sizeof texts / sizeof *texts; k++) {
    if (strcmp(flag, texts[k].name) != 0 || value == NULL) continue;
    *texts[k].value = value;
    return MOERUN_OK;
  }
  MOERUN_REQUIRE(0, MOERUN_ERR_INVALID, "unknown or incomplete option %s",
                 flag);
done:
  return status;
}

static const struct {
  const char *name;
  moerun_status (*run)(bench *b);
  int least_ranks;
  int needs_model;
} cases[] = {
    {"skew", bench_skew, 2, 0},
    {"balanced", bench_balanced, 2, 0},
    {"slices", bench_slices, 2, 0},
    {"slow", bench_slow, 2, 0},
    {"replay", bench_replay, 2, 0},
    {"replay_slow", bench_replay_slow, 1, 0},
    {"attack", bench_attack, 2, 1},
    {"gamma", bench_gamma, 2, 1},
    {"isolation", bench_isolation, 2, 1},
};
enum { NUM_CASES = sizeof cases / sizeof *cases };

static moerun_status parse_options(bench_options *o, int argc, char **argv) {
  moerun_status status = MOERUN_OK;
  int known = 0;
  *o = (bench_options){.repetitions = 11,
                       .steps = 100,
                       .tokens = 1024,
                       .experts = 64,
                       .hidden_width = 512,
                       .expert_width = 1024,
                       .guests = -1};
  for (int i = 1; i < argc; i += 2) {
    if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
      o->help = 1;
      goto done;
    }
    MOERUN_TRY(parse_option(o, argv[i], argv[i + 1])); /* argv ends in NULL */
  }
  for (int i = 0; i < NUM_CASES; i++) {
    known |= o->case_name == NULL || strcmp(o->case_name, cases[i].name) == 0;
  }
  MOERUN_REQUIRE((o->model == NULL) == (o->text == NULL), MOERUN_ERR_INVALID,
                 "--model: expected together with --text");
  MOERUN_REQUIRE(known, MOERUN_ERR_INVALID,
                 "--case: expected skew, balanced, slices, slow, replay, "
                 "replay_slow, attack, gamma or isolation, found %s",
                 o->case_name);
done:
  return status;
}

/* ---- Output -------------------------------------------------------------- */

moerun_status bench_list_begin(bench *b, const char *name) {
  if (b->comm->rank != 0) return MOERUN_OK;
  (void)printf("\n\n# %s\n", name);
  return moerun__text_print(&b->json, ",\n  \"%s\": [", name);
}

moerun_status bench_list_end(bench *b) {
  if (b->comm->rank != 0) return MOERUN_OK;
  /* Every object left a comma behind it. */
  if (b->json.bytes[b->json.count - 1] == ',') b->json.count--;
  return moerun__text_print(&b->json, "\n  ]");
}

void bench_heading(const bench *b, const char *const *names, int count) {
  if (b->comm->rank != 0) return;
  (void)printf("# %-14s", "case");
  for (int i = 0; i < count; i++) {
    (void)printf(" %9s", names[i]);
  }
  (void)printf("\n");
}

moerun_status bench_line(bench *b, const char *label, const char *const *names,
                         const double *values, int count) {
  moerun_status status = MOERUN_OK;
  if (b->comm->rank != 0) goto done;
  (void)printf("  %-14s", label);
  MOERUN_TRY(moerun__text_print(&b->json, "\n    {\"case\": \"%s\"", label));
  for (int i = 0; i < count; i++) {
    (void)printf(" %9.4g", values[i]);
    MOERUN_TRY(
        moerun__text_print(&b->json, ", \"%s\": %.6g", names[i], values[i]));
  }
  (void)printf("\n");
  (void)fflush(stdout);
  MOERUN_TRY(moerun__text_print(&b->json, "},"));
done:
  return status;
}

/* Load average of the last minute; negative where the system does not say. */
static double load_average(void) {
  char line[64] = "";
  FILE *file = fopen("/proc/loadavg", "r");
  if (file == NULL) return -1;
  const int read = fgets(line, sizeof line, file) != NULL;
  (void)fclose(file);
  return read ? strtod(line, NULL) : -1;
}

static moerun_status print_head(bench *b) {
  moerun_status status = MOERUN_OK;
  const bench_options *o = &b->options;
  char host[256] = "";
  char guests[32] = "the usual";
  if (o->guests >= 0) {
    (void)snprintf(guests, sizeof guests, "%lld", (long long)o->guests);
  }
  (void)gethostname(host, sizeof host - 1);
  (void)printf("# moerun %d.%d.%d, balance, %d ranks, %ld cores, load average "
               "%.2f; %lld tokens a rank, %lld experts, H %lld, F %lld, BF16 "
               "weights, room for %s guests; medians of %lld turns\n",
               MOERUN_VERSION_MAJOR, MOERUN_VERSION_MINOR, MOERUN_VERSION_PATCH,
               b->comm->size, sysconf(_SC_NPROCESSORS_ONLN), load_average(),
               (long long)o->tokens, (long long)o->experts,
               (long long)o->hidden_width, (long long)o->expert_width, guests,
               (long long)o->repetitions);
  MOERUN_TRY(moerun__text_print(
      &b->json,
      "{\n  \"benchmark\": \"balance\",\n  \"schema\": 1,\n"
      "  \"version\": \"%d.%d.%d\",\n  \"host\": ",
      MOERUN_VERSION_MAJOR, MOERUN_VERSION_MINOR, MOERUN_VERSION_PATCH));
  MOERUN_TRY(moerun__text_json(&b->json, host, strlen(host)));
  MOERUN_TRY(moerun__text_print(
      &b->json,
      ",\n  \"cores\": %ld, \"load_average\": %.2f, \"ranks\": %d, \"tokens\": "
      "%lld, \"experts\": %lld, \"hidden\": %lld, \"width\": %lld, \"guests\": "
      "%lld, \"repetitions\": %lld, \"steps\": %lld",
      sysconf(_SC_NPROCESSORS_ONLN), load_average(), b->comm->size,
      (long long)o->tokens, (long long)o->experts, (long long)o->hidden_width,
      (long long)o->expert_width, (long long)o->guests,
      (long long)o->repetitions, (long long)o->steps));
done:
  return status;
}

/* ---- Main ---------------------------------------------------------------- */

static moerun_status write_files(bench *b) {
  moerun_status status = MOERUN_OK;
  const bench_options *o = &b->options;
  if (b->comm->rank != 0) goto done;
  MOERUN_TRY(moerun__text_print(&b->json, "\n}\n"));
  if (o->json != NULL) {
    MOERUN_TRY(moerun__file_write(o->json, b->json.bytes, b->json.count));
  }
  if (o->series != NULL && b->series.count > 0) {
    MOERUN_TRY(moerun__file_write(o->series, b->series.bytes, b->series.count));
  }
done:
  return status;
}

static moerun_status run(bench *b) {
  moerun_status status = MOERUN_OK;
  const char *name = b->options.case_name;
  if (b->comm->rank == 0) MOERUN_TRY(print_head(b));
  for (int i = 0; i < NUM_CASES; i++) {
    if (name != NULL && strcmp(name, cases[i].name) != 0) continue;
    if (cases[i].needs_model && b->options.model == NULL) {
      if (b->comm->rank == 0) {
        (void)printf("\n\n# %s: left out without --model and --text\n",
                     cases[i].name);
      }
      continue;
    }
    MOERUN_REQUIRE(b->comm->size >= cases[i].least_ranks, MOERUN_ERR_INVALID,
                   "%s: expected at least %d ranks, found %d", cases[i].name,
                   cases[i].least_ranks, b->comm->size);
    MOERUN_TRY(cases[i].run(b));
  }
  MOERUN_TRY(write_files(b));
done:
  return status;
}

int main(int argc, char **argv) {
  static bench b;
  int rank = 0;
  if (MPI_Init(&argc, &argv) != MPI_SUCCESS) return EXIT_FAILURE;
  (void)MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  moerun_status status = parse_options(&b.options, argc, argv);
  if (status != MOERUN_OK || b.options.help) { /* the same on all ranks */
    if (rank == 0 && status != MOERUN_OK) {
      (void)fprintf(stderr, "moerun_bench_balance: %s\n", moerun_last_error());
    }
    if (rank == 0) (void)fputs(usage, status == MOERUN_OK ? stdout : stderr);
    (void)MPI_Finalize();
    return status == MOERUN_OK ? EXIT_SUCCESS : EXIT_FAILURE;
  }
  status = moerun_comm_create_mpi(&b.comm, MPI_COMM_WORLD, NULL);
  if (status == MOERUN_OK) status = run(&b);
  if (status != MOERUN_OK && status != MOERUN_ERR_PEER) {
    (void)fprintf(stderr, "moerun_bench_balance: rank %d: %s\n", rank,
                  moerun_last_error());
    (void)MPI_Abort(MPI_COMM_WORLD, EXIT_FAILURE); /* others may wait for us */
  }
  moerun__text_clear(&b.json);
  moerun__text_clear(&b.series);
  moerun_comm_destroy(b.comm);
  (void)MPI_Finalize();
  return status == MOERUN_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}
