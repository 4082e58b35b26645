/* moerun_placement_solve: what `moerun place` does before it judges, for
 * programs. The other rooms of placement/ have no clock; this one gives them
 * the system's. */
#include "placement/methods/method.h"
#include "runtime/base/file.h"
#include "runtime/base/limits.h"
#include "runtime/base/sized.h"
#include "runtime/base/text.h"
#include "runtime/base/timer.h"

static moerun_status check_request(const moerun_placement_problem *asked) {
  moerun_status status = MOERUN_OK;
  const int given = (asked->trace_path != NULL) + (asked->ids != NULL) +
                    (asked->counts != NULL);
  MOERUN_REQUIRE(given == 1, MOERUN_ERR_INVALID,
                 "placement: expected one of trace_path, ids and counts, found "
                 "%d",
                 given);
  if (asked->trace_path != NULL) {
    MOERUN_TRY(moerun__path_check(asked->trace_path, "placement: trace_path"));
  }
  MOERUN_REQUIRE((asked->topology != NULL) != (asked->num_ranks != 0),
                 MOERUN_ERR_INVALID,
                 "placement: expected one of topology and num_ranks, found %s",
                 asked->topology != NULL ? "both" : "none");
  MOERUN_REQUIRE(asked->topology != NULL ||
                     (asked->num_ranks >= 1 &&
                      asked->num_ranks <= MOERUN_PLACEMENT_MAX_RANKS),
                 MOERUN_ERR_INVALID,
                 "placement: num_ranks: expected 1 to %d, found %d",
                 MOERUN_PLACEMENT_MAX_RANKS, asked->num_ranks);
  MOERUN_REQUIRE(asked->seconds >= 0, MOERUN_ERR_INVALID,
                 "placement: seconds: expected 0 or more, found %g",
                 asked->seconds);
done:
  return status;
}

/* A mistake in the line is one of the caller, not of a file. */
static moerun_status read_topology(moerun__topology **out,
                                   const moerun_placement_problem *asked) {
  moerun_status status = MOERUN_OK;
  moerun__text line = {0};
  if (asked->topology == NULL) {
    MOERUN_TRY(moerun__text_print(&line, "%d rank%s", asked->num_ranks,
                                  asked->num_ranks == 1 ? "" : "s"));
  }
  status = moerun__topology_parse(out, asked->topology != NULL ? asked->topology
                                                               : line.bytes);
  if (status == MOERUN_ERR_FORMAT) status = MOERUN_ERR_INVALID;
done:
  moerun__text_clear(&line);
  return status;
}

/* Sizes are those of arrays, so that no mistake in them may pass. */
static moerun_status check_sizes(const moerun_placement_problem *asked) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(asked->num_layers >= 1 &&
                     asked->num_layers <= MOERUN_PLACEMENT_MAX_LAYERS &&
                     asked->num_experts >= 1 &&
                     asked->num_experts <= MOERUN_TRACE_MAX_EXPERTS,
                 MOERUN_ERR_INVALID,
                 "placement: expected 1 to %d layers of 1 to %d "
                 "experts, found %d of %d",
                 MOERUN_PLACEMENT_MAX_LAYERS, MOERUN_TRACE_MAX_EXPERTS,
                 asked->num_layers, asked->num_experts);
done:
  return status;
}

/* The ids as a trace, whose terms have 16 bits. */
static moerun_status copy_ids(moerun__trace **out,
                              const moerun_placement_problem *asked) {
  moerun_status status = MOERUN_OK;
  moerun__trace *trace = NULL;
  MOERUN_TRY(check_sizes(asked));
  MOERUN_TRY(moerun__trace_create(&trace, asked->num_tokens, asked->num_layers,
                                  asked->num_experts,
                                  asked->experts_per_token));
  const size_t width = (size_t)trace->num_layers * (size_t)trace->num_terms;
  for (size_t i = 0; i < (size_t)trace->num_tokens * width; i++) {
    MOERUN_REQUIRE(asked->ids[i] >= -1 && asked->ids[i] < asked->num_experts,
                   MOERUN_ERR_INVALID,
                   "placement: ids: token %zu, layer %zu: expected experts -1 "
                   "to %d, found %d",
                   i / width, i % width / (size_t)trace->num_terms,
                   asked->num_experts - 1, asked->ids[i]);
    trace->ids[i] = (int16_t)asked->ids[i];
  }
  MOERUN_TRY(moerun__trace_check(trace, "ids"));
  *out = trace;
  trace = NULL;
done:
  moerun__trace_destroy(trace);
  return status == MOERUN_ERR_FORMAT ? MOERUN_ERR_INVALID : status;
}

/* Beyond it doubles, which loads per unit of speed are, skip whole numbers. */
static const int64_t most_rows = INT64_C(1) << 53;

/* What counts leave open: who goes with whom. */
static moerun_status check_counts_alone(const moerun_placement_problem *asked) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(asked->objective == NULL, MOERUN_ERR_INVALID,
                 "placement: objective: expected none beside counts, which "
                 "say loads alone, found \"%.100s\"",
                 asked->objective);
  MOERUN_REQUIRE(asked->num_tokens == 0 && asked->experts_per_token == 0,
                 MOERUN_ERR_INVALID,
                 "placement: num_tokens, experts_per_token: expected 0 beside "
                 "counts, found %lld and %d",
                 (long long)asked->num_tokens, asked->experts_per_token);
done:
  return status;
}

static moerun_status check_counts(const moerun_placement_problem *asked) {
  moerun_status status = MOERUN_OK;
  const int64_t E = asked->num_experts;
  int64_t left = 0;
  MOERUN_TRY(check_counts_alone(asked));
  MOERUN_TRY(check_sizes(asked));
  for (int64_t i = 0; i < asked->num_layers * E; i++) {
    MOERUN_REQUIRE(asked->counts[i] >= 0, MOERUN_ERR_INVALID,
                   "placement: counts: layer %lld, expert %lld: expected 0 or "
                   "more, found %lld",
                   (long long)(i / E), (long long)(i % E),
                   (long long)asked->counts[i]);
    if (i % E == 0) left = most_rows;
    MOERUN_REQUIRE(asked->counts[i] <= left, MOERUN_ERR_INVALID,
                   "placement: counts: layer %lld: expected at most 2^53 rows "
                   "in all, found more",
                   (long long)(i / E));
    left -= asked->counts[i];
  }
done:
  return status;
}

/* A file says its sizes itself: whoever says them as well has to agree. */
static moerun_status load_trace(moerun__trace **out,
                                const moerun_placement_problem *asked) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__trace_load(out, asked->trace_path, asked->num_experts));
  const struct {
    const char *name;
    int64_t asked;
    int64_t found;
  } sizes[] = {
      {"num_tokens", asked->num_tokens, (*out)->num_tokens},
      {"num_layers", asked->num_layers, (*out)->num_layers},
      {"experts_per_token", asked->experts_per_token, (*out)->num_terms},
  };
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    MOERUN_REQUIRE(sizes[i].asked == 0 || sizes[i].asked == sizes[i].found,
                   MOERUN_ERR_SHAPE, "%s: %s: expected 0 or %lld, found %lld",
                   asked->trace_path, sizes[i].name, (long long)sizes[i].found,
                   (long long)sizes[i].asked);
  }
  moerun__trace_warn_if_turned(*out, asked->trace_path);
done:
  return status;
}

static moerun_status create_problem(moerun__problem **out,
                                    moerun__trace **trace,
                                    const moerun_placement_problem *asked,
                                    const moerun__topology *topology) {
  moerun_status status = MOERUN_OK;
  const char *name = asked->objective != NULL ? asked->objective : "fanout";
  const int objective = moerun__objective_find(name);
  MOERUN_REQUIRE(objective >= 0, MOERUN_ERR_INVALID,
                 "placement: objective: expected fanout, cut, weighted or "
                 "tail, found \"%.100s\"",
                 name);
  if (asked->counts != NULL) {
    MOERUN_TRY(check_counts(asked));
    MOERUN_TRY(moerun__problem_create_loads(
        out, asked->counts, asked->num_layers, asked->num_experts, topology,
        asked->slack));
    goto done;
  }
  const moerun__problem_options options = {.objective =
                                               (moerun__objective)objective,
                                           .slack = asked->slack,
                                           .spare_slots = asked->spare_slots};
  if (asked->ids != NULL) {
    MOERUN_TRY(copy_ids(trace, asked));
  } else {
    MOERUN_TRY(load_trace(trace, asked));
  }
  MOERUN_TRY(moerun__problem_create(out, *trace, topology, &options));
done:
  return status;
}

static moerun_status solve(moerun_placement **out,
                           const moerun_placement_problem *asked) {
  moerun_status status = MOERUN_OK;
  const moerun__method *method = NULL;
  moerun__topology *topology = NULL;
  moerun__trace *trace = NULL;
  moerun__problem *problem = NULL;
  const char *usual = asked->counts != NULL ? "eplb" : "cd";
  const moerun__method_options options = {.seed = asked->seed,
                                          .time_limit_s = asked->seconds,
                                          .clock = moerun__now,
                                          .spare_slots = asked->spare_slots};
  MOERUN_TRY(check_request(asked));
  MOERUN_TRY(moerun__method_named(&method,
                                  asked->method != NULL ? asked->method : usual,
                                  "placement: method"));
  MOERUN_TRY(read_topology(&topology, asked));
  MOERUN_TRY(create_problem(&problem, &trace, asked, topology));
  MOERUN_TRY(moerun__place(out, NULL, NULL, problem, method, &options));
  if (trace != NULL) {
    MOERUN_TRY(moerun__placement_name_model(*out, trace->model));
  }
done:
  moerun__problem_destroy(problem);
  moerun__trace_destroy(trace);
  moerun__topology_destroy(topology);
  if (status != MOERUN_OK) {
    moerun_placement_destroy(*out);
    *out = NULL;
  }
  return status;
}

moerun_status moerun_placement_solve(moerun_placement **out,
                                     const moerun_placement_problem *problem) {
  moerun_placement_problem asked;
  *out = NULL;
  const moerun_status status = moerun__sized_read(&asked, sizeof asked, problem,
                                                  "moerun_placement_problem");
  return status == MOERUN_OK ? solve(out, &asked) : status;
}
