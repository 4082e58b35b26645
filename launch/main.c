/* The program `moerun`: finds the subcommand, gives every rank the same
 * configuration, and ends all ranks with one line and one exit code.
 *
 * Only rank 0 reads flags, variables and the configuration file; the others
 * get its values, because they may run where those are missing. At the end the
 * ranks agree on the gravest failure (failures before stops, then the larger
 * exit code, then the lower rank), and its rank alone prints. When
 * communication itself has failed there is nothing left to agree by, and
 * MPI_Abort ends the job. */
#include "launch/command.h"
#include "launch/options/options.h"

#include "comm/comm.h"
#include "launch/help.h"
#include "launch/launcher.h"
#include "launch/options/paths.h"
#include "launch/run/signals.h"
#include "runtime/base/file.h"
#include "runtime/base/log.h"
#include "runtime/base/memory.h"
#include "runtime/base/number.h"
#include "runtime/base/spelling.h"

#include <moerun/moerun_mpi.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Documented in launch/README.md; numbers after sysexits.h where it has one. */
enum {
  EXIT_USAGE = 2,
  EXIT_BAD_INPUT = 65,
  EXIT_NO_INPUT = 66,
  EXIT_INTERNAL = 70,
  EXIT_MEMORY = 71,
  EXIT_OUTPUT = 74,
  EXIT_STOPPED = 75,
  EXIT_PEER_LOST = 77,
};

typedef struct subcommand {
  const char *name; /* as in the configuration and in help.c */
  int uses_mpi;
  int writes; /* files, without MPI */
  moerun_status (*run)(moerun__invocation *invocation);
} subcommand;

static const subcommand subcommands[] = {
    {"run", 1, 0, moerun__cmd_run},
    {"profile", 1, 0, moerun__cmd_run},
    {"chat", 1, 0, moerun__cmd_chat},
    {"place", 0, 1, moerun__cmd_place},
    {"info", 0, 0, moerun__cmd_info},
    {"synth", 0, 1, moerun__cmd_synth},
    {"tokenize", 0, 1, moerun__cmd_tokenize},
    {"detokenize", 0, 1, moerun__cmd_tokenize},
};
enum { NUM_SUBCOMMANDS = sizeof subcommands / sizeof *subcommands };

static const subcommand *find_subcommand(const char *name) {
  for (int i = 0; i < NUM_SUBCOMMANDS; i++) {
    if (strcmp(subcommands[i].name, name) == 0) return &subcommands[i];
  }
  return NULL;
}

/* ---- The end ------------------------------------------------------------- */

/* MOERUN_ERR_PEER is nobody's own failure: 0, the rank at fault has the
 * code. */
static int exit_code(moerun_status status,
                     const moerun__invocation *invocation) {
  const moerun__phase phase = invocation->phase;
  switch (status) {
  case MOERUN_OK: return invocation->stopped ? EXIT_STOPPED : EXIT_SUCCESS;
  case MOERUN_ERR_INVALID:
    return phase == MOERUN_PHASE_USAGE || phase == MOERUN_PHASE_SOLVE
               ? EXIT_USAGE
               : EXIT_BAD_INPUT;
  case MOERUN_ERR_IO: return EXIT_NO_INPUT;
  case MOERUN_ERR_OUTPUT: return EXIT_OUTPUT;
  case MOERUN_ERR_INFEASIBLE:
  case MOERUN_ERR_UNSUPPORTED:
    return phase == MOERUN_PHASE_SOLVE ? EXIT_USAGE : EXIT_BAD_INPUT;
  case MOERUN_ERR_SHAPE:
  case MOERUN_ERR_FORMAT:
  case MOERUN_ERR_OVERFLOW: return EXIT_BAD_INPUT;
  case MOERUN_ERR_NOMEM: return EXIT_MEMORY;
  case MOERUN_ERR_COMM:
  case MOERUN_ERR_TIMEOUT: return EXIT_PEER_LOST;
  case MOERUN_ERR_STOPPED: return EXIT_STOPPED;
  case MOERUN_ERR_PEER: return EXIT_SUCCESS;
  }
  return EXIT_INTERNAL;
}

static void print_error(int rank) {
  if (rank > 0) {
    (void)fprintf(stderr, "moerun: rank %d: %s\n", rank, moerun_last_error());
  } else {
    (void)fprintf(stderr, "moerun: %s\n", moerun_last_error());
  }
}

/* Whether the other end of a pipe was closed. */
static int is_reader_gone(void) {
  struct pollfd out = {.fd = STDOUT_FILENO, .events = POLLOUT};
  return poll(&out, 1, 0) == 1 && (out.revents & POLLERR) != 0;
}

/* What did not reach stdout is a failure; but where that was a table, help or
 * the like, a reader who has gone (`moerun info | head`) has seen enough.
 * Results are written by results.c, which does not let that pass. */
static moerun_status flush_output(int has_results) {
  moerun_status status = MOERUN_OK;
  errno = 0;
  int lost = fflush(stdout) != 0 || ferror(stdout);
  const char *reason = errno != 0 ? moerun__file_reason() : "";
  if (lost && !has_results && is_reader_gone()) lost = 0;
  MOERUN_REQUIRE(!lost, MOERUN_ERR_OUTPUT, "stdout: cannot be written%s%s",
                 reason[0] != '\0' ? ": " : "", reason);
done:
  return status;
}

/* The command and, if it succeeded, what it leaves behind. */
static moerun_status run_command(const subcommand *command,
                                 moerun__invocation *invocation) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(command->run(invocation));
  moerun__signals_last_words(NULL); /* from here on some may be */
  MOERUN_TRY(moerun__outputs_commit(&invocation->outputs));
  MOERUN_TRY(flush_output(invocation->results_on_stdout));
done:
  moerun__outputs_clear(&invocation->outputs);
  return status;
}

static void begin_log(const moerun__config *config) {
  static const char *const levels[] = {"error", "warn", "info", "debug"};
  static const char *const origins[] = {"default", "preset", "file",
                                        "environment", "flag"};
  const char *level = moerun__config_text(config, "log_level");
  const char *key = NULL;
  const char *value = NULL;
  moerun__config_origin origin = MOERUN_CONFIG_DEFAULT;
  for (int i = MOERUN_LOG_ERROR; i <= (int)MOERUN_LOG_DEBUG; i++) {
    if (strcmp(level, levels[i]) == 0) {
      moerun__log_set_level((moerun__log_level)i);
    }
  }
  for (int i = 0; moerun__config_at(config, i, &key, &value, &origin); i++) {
    LOG_ROOT(MOERUN_LOG_DEBUG, "%s = %s (%s)", key, value, origins[origin]);
  }
}

/* ---- One process --------------------------------------------------------- */

/* Whether this process does the work. Under a launcher the first one alone
 * does, so that it is done and printed once and two never write one file. */
static int has_work(const subcommand *command, const moerun__config *config,
                    const moerun__launcher *launcher) {
  const int each = moerun__config_bool(config, "allow_singletons");
  if (launcher->variable != NULL && launcher->is_first && command->writes &&
      !each) {
    LOG_ROOT(MOERUN_LOG_WARN,
             "%s works in one process: the other %ld of this job have nothing "
             "to do (MOERUN_ALLOW_SINGLETONS=1 lets each work by itself)",
             command->name, launcher->value - 1);
  }
  return each || launcher->is_first;
}

static int run_alone(const subcommand *command, int num_arguments,
                     const char *const *arguments,
                     const moerun__launcher *launcher) {
  moerun_status status = MOERUN_OK;
  moerun__config *config = NULL;
  moerun__invocation invocation = {.subcommand = command->name,
                                   .is_mute = !launcher->is_first};
  moerun__signals_bear_limits();
  MOERUN_TRY(moerun__config_load(&config, &moerun__options, command->name,
                                 num_arguments, arguments, NULL));
  begin_log(config);
  if (!has_work(command, config, launcher)) goto done;
  invocation.is_mute = 0;
  invocation.config = config;
  if (launcher->variable != NULL && launcher->is_first &&
      !moerun__config_bool(config, "allow_singletons")) {
    invocation.launched = moerun__to_int(launcher->value);
  }
  invocation.outputs.only_new = !moerun__config_bool(config, "overwrite");
  MOERUN_TRY(moerun__paths_check(&invocation));
  if (command->writes) moerun__signals_last_words("nothing was written");
  MOERUN_TRY(run_command(command, &invocation));
done:
  if (status != MOERUN_OK && !invocation.is_mute) print_error(0);
  moerun__config_destroy(config);
  /* What is wrong with the options, the first process says. A launcher would
   * end that one, perhaps before it has, if another had failed. */
  return invocation.is_mute ? EXIT_SUCCESS : exit_code(status, &invocation);
}

/* ---- Many ranks ---------------------------------------------------------- */

/* Processes that were started as one job with another MPI, or without its
 * launcher, each believe to be alone and would write the same files. */
static moerun_status refuse_singletons(const moerun__config *config,
                                       const moerun__launcher *launcher) {
  moerun_status status = MOERUN_OK;
  const int allowed = moerun__config_bool(config, "allow_singletons");
  MOERUN_REQUIRE(launcher->variable == NULL || allowed, MOERUN_ERR_INVALID,
                 "%s is %ld, but MPI knows 1 rank here, so every process of "
                 "this job would do all of the work: start with the mpirun of "
                 "the MPI that `moerun --version` names, or with an srun that "
                 "serves it (--mpi=pmix); MOERUN_ALLOW_SINGLETONS=1 lets each "
                 "go on by itself",
                 launcher->variable, launcher->value);
done:
  return status;
}

/* The verdict of all ranks before there is a comm. */
static moerun_status agree(moerun_status status) {
  int gravest = (int)status;
  MPI_Allreduce(MPI_IN_PLACE, &gravest, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
  if (status == MOERUN_OK && gravest != (int)MOERUN_OK) {
    status = moerun__fail(MOERUN_ERR_PEER, __FILE__, __LINE__,
                          "another rank refused the configuration");
  }
  return status;
}

/* Experts are placed anew on a thread beside the steps (replace_solve.c). */
static moerun_status check_threads(int level) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(level >= MPI_THREAD_FUNNELED, MOERUN_ERR_INVALID,
                 "this MPI serves programs without threads alone: expected one "
                 "that provides MPI_THREAD_FUNNELED");
done:
  return status;
}

/* Ranks of two subcommands would send each other what the other does not
 * expect, or write less than was asked for. */
static moerun_status agree_on_subcommand(const subcommand *command) {
  moerun_status status = MOERUN_OK;
  const int number = (int)(command - subcommands);
  int least[2] = {number, -number};
  MPI_Allreduce(MPI_IN_PLACE, least, 2, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
  MOERUN_REQUIRE(least[0] == -least[1], MOERUN_ERR_INVALID,
                 "expected one subcommand for all ranks of a job, found %s and "
                 "%s",
                 subcommands[least[0]].name, subcommands[-least[1]].name);
done:
  return status;
}

static moerun_status share_config(moerun__config **out, const char *name,
                                  int num_arguments,
                                  const char *const *arguments, int rank) {
  moerun_status status = MOERUN_OK;
  char *packed = NULL;
  size_t bytes = 0;
  if (rank == 0) {
    status = moerun__config_load(out, &moerun__options, name, num_arguments,
                                 arguments, NULL);
    if (status == MOERUN_OK)
      status = moerun__config_pack(&packed, &bytes, *out);
  }
  MOERUN_TRY(agree(status));
  int64_t length = (int64_t)bytes;
  MPI_Bcast(&length, 1, MPI_INT64_T, 0, MPI_COMM_WORLD);
  bytes = (size_t)length;
  if (rank != 0) status = moerun__alloc(&packed, bytes, 1);
  MOERUN_TRY(agree(status));
  MPI_Bcast(packed, moerun__to_int(length), MPI_CHAR, 0, MPI_COMM_WORLD);
  if (rank != 0) {
    status = moerun__config_unpack(out, &moerun__options, name, packed, bytes);
  }
  MOERUN_TRY(agree(status));
done:
  moerun__free(packed);
  return status;
}

/* [collective] */
static moerun_status create_comm(moerun_comm **out,
                                 const moerun__config *config, int size) {
  moerun_status status = MOERUN_OK;
  const char *transport = moerun__config_text(config, "transport");
  const double timeout_s = moerun__config_double(config, "timeout_s");
  const MPI_Comm world = MPI_COMM_WORLD;
  const moerun__comm_setting setting = {
      .mpi_comm = &world, .timeout_s = timeout_s > 0 ? timeout_s : -1};
  const moerun__comm_ops *ops = moerun__transport_for(transport, size);
  MOERUN_REQUIRE(size <= ops->max_ranks, MOERUN_ERR_INVALID,
                 "--transport: %s: expected at most %d rank%s, found %d",
                 ops->name, ops->max_ranks, ops->max_ranks == 1 ? "" : "s",
                 size);
  MOERUN_TRY(ops->create(out, &setting));
done:
  return status;
}

/* Every rank notices alone that another is lost. The lowest speaks at once and
 * ends the job, which the others, who give it time, see as a signal. */
static int is_ended_by_another(int rank) {
  enum { TURN_MS = 500, MOST_TURNS = 4 };
  const int was_stopped = moerun__signals_ask_to_stop();
  for (int i = 0; i < rank && i < MOST_TURNS; i++) {
    (void)poll(NULL, 0, TURN_MS);
    if (!was_stopped && moerun__signals_ask_to_stop()) return 1;
  }
  return 0;
}

/* [collective] The exit code of all ranks; the rank at fault prints. A failure
 * outweighs a stop, then the larger code counts, then the lower rank. */
static int finish(moerun_status status, const moerun__invocation *invocation,
                  int rank, int size) {
  enum { CODES = 256 }; /* of ranks that print: once for stops, then failures */
  const int64_t step = (int64_t)1 << 32;
  const int code = exit_code(status, invocation);
  const int weight = status == MOERUN_OK ? 0
                     : status == MOERUN_ERR_STOPPED || status == MOERUN_ERR_PEER
                         ? 1
                         : 2;
  const int64_t own = code + weight * CODES;
  int64_t verdict = -(own * step + size - rank);
  int is_lost = code == EXIT_PEER_LOST;
  if (!is_lost && invocation->comm != NULL) {
    moerun_comm *comm = invocation->comm;
    (void)comm->ops->wait_for_root(comm); /* its stdout may be a slow pipe */
    is_lost = comm->ops->minimum(comm, &verdict) != MOERUN_OK;
  } else if (!is_lost) {
    MPI_Allreduce(MPI_IN_PLACE, &verdict, 1, MPI_INT64_T, MPI_MIN,
                  MPI_COMM_WORLD);
  }
  if (is_lost) {
    if (!is_ended_by_another(rank)) print_error(rank);
    MPI_Abort(MPI_COMM_WORLD, EXIT_PEER_LOST);
  }
  const int agreed = (int)(-verdict / step);
  if (agreed >= CODES && !invocation->is_mute &&
      rank == size - (int)(-verdict % step)) {
    print_error(rank);
  }
  if (agreed == CODES) return EXIT_INTERNAL; /* every rank blames another */
  return agreed % CODES;
}

static int run_on_ranks(const subcommand *command, int *argc, char ***argv) {
  moerun_status status = MOERUN_OK;
  moerun__config *config = NULL;
  moerun_comm *comm = NULL;
  moerun__invocation invocation = {.subcommand = command->name};
  moerun__launcher launcher = {.speaks = 1, .is_first = 1};
  int level = 0;
  int rank = 0;
  int size = 1;
  moerun__signals_catch();
  MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &level);
  moerun__signals_bear_limits();
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  moerun__log_set_rank(rank, size);
  if (size == 1) launcher = moerun__launcher_find(NULL);
  moerun__signals_answer(rank == 0 && launcher.speaks, size);
  MOERUN_TRY(agree(check_threads(level)));
  MOERUN_TRY(agree_on_subcommand(command));
  MOERUN_TRY(share_config(&config, command->name, *argc - 2,
                          (const char *const *)*argv + 2, rank));
  begin_log(config);
  status = refuse_singletons(config, &launcher);
  invocation.is_mute = status != MOERUN_OK && !launcher.speaks;
  MOERUN_TRY(status);
  invocation.config = config;
  invocation.outputs.only_new = !moerun__config_bool(config, "overwrite");
  if (rank == 0) status = moerun__paths_check(&invocation);
  MOERUN_TRY(agree(status));
  MOERUN_TRY(create_comm(&comm, config, size));
  invocation.comm = comm;
  MOERUN_TRY(run_command(command, &invocation));
done:;
  const int code = finish(status, &invocation, rank, size);
  moerun_comm_destroy(comm);
  moerun__config_destroy(config);
  MPI_Finalize();
  return code;
}

/* ---- Start --------------------------------------------------------------- */

/* A number of the three that is closed would be given to the next file or to a
 * pipe of MPI, which then got what is written to stdout. Whatever is written to
 * these fails as it would have. */
static void open_closed_streams(void) {
  int file = 0;
  while (file >= 0 && file <= STDERR_FILENO) {
    file = open("/dev/null", O_RDONLY);
  }
  if (file >= 0) (void)close(file);
}

static int is_help(const char *argument) {
  return strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0;
}

static int has_help(int argc, char **argv) {
  for (int i = 2; i < argc; i++) {
    if (is_help(argv[i])) return 1;
  }
  return 0;
}

/* Beside the subcommands. */
static const char *const other_words[] = {"help", "version"};
enum { NUM_OTHER_WORDS = sizeof other_words / sizeof *other_words };

/* The first argument is none of the subcommands. */
static int refuse_subcommand(const char *name) {
  const char *nearest = NULL;
  int least = -1;
  const char *bare = name + strspn(name, "-");
  for (int i = 0; i < NUM_SUBCOMMANDS + NUM_OTHER_WORDS; i++) {
    const char *word = i < NUM_SUBCOMMANDS ? subcommands[i].name
                                           : other_words[i - NUM_SUBCOMMANDS];
    const int distance = moerun__spelling_distance(bare, strlen(bare), word);
    if (distance < 0 || (least >= 0 && distance >= least)) continue;
    least = distance;
    nearest = word;
  }
  if (nearest != NULL) {
    (void)fprintf(
        stderr,
        "moerun: expected a subcommand, found \"%.100s\": did you mean "
        "`moerun %s`?\n",
        name, nearest);
  } else {
    (void)fprintf(
        stderr,
        "moerun: expected a subcommand, found \"%.100s\"; `moerun help` "
        "lists them\n",
        name);
  }
  return EXIT_USAGE;
}

/* `moerun help [SUBCOMMAND]`, `moerun SUBCOMMAND --help`, `moerun --help`. */
static int help(int argc, char **argv) {
  const char *name = NULL;
  if (find_subcommand(argv[1]) != NULL) name = argv[1];
  if (name == NULL && argc > 2 && !is_help(argv[2])) name = argv[2];
  if (name != NULL && find_subcommand(name) == NULL) {
    return refuse_subcommand(name);
  }
  if (name != NULL) {
    moerun__help_print_subcommand(stdout, name);
  } else {
    moerun__help_print(stdout);
  }
  return EXIT_SUCCESS;
}

int main(int argc, char **argv) {
  int code = EXIT_SUCCESS;
  open_closed_streams();
  const moerun__launcher launcher = moerun__launcher_find(NULL);
  if (argc < 2) {
    if (!launcher.is_first) return EXIT_SUCCESS; /* the first says it */
    moerun__help_print(stderr);
    return EXIT_USAGE;
  }
  const subcommand *command = find_subcommand(argv[1]);
  const int wants_help = strcmp(argv[1], "help") == 0 || is_help(argv[1]) ||
                         (command != NULL && has_help(argc, argv));
  moerun__signals_clean_up();
  if (command != NULL && !wants_help) {
    return command->uses_mpi
               ? run_on_ranks(command, &argc, &argv)
               : run_alone(command, argc - 2, (const char *const *)argv + 2,
                           &launcher);
  }
  if (!launcher.is_first) return EXIT_SUCCESS;
  if (wants_help) {
    code = help(argc, argv);
  } else if (strcmp(argv[1], "--version") == 0 ||
             strcmp(argv[1], "version") == 0) {
    moerun__print_build(stdout);
  } else {
    code = refuse_subcommand(argv[1]);
  }
  if (code != EXIT_SUCCESS) return code;
  moerun__invocation invocation = {0};
  const moerun_status status = flush_output(0);
  if (status != MOERUN_OK) print_error(0);
  return exit_code(status, &invocation);
}
