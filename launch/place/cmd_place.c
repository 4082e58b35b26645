/* `moerun place`: from recorded routing to a placement and its certificate.
 *
 * Solved for one half of the sequences and judged by both, because a placement
 * that has learnt its trace by heart looks better on it than it will be. All
 * numbers come from moerun__judge, which sees the trace and the placement and
 * nothing of the method. */
#include "launch/command.h"

#include "launch/options/choices.h"
#include "launch/options/effect.h"
#include "launch/options/known_file.h"
#include "launch/options/paths.h"
#include "launch/options/placements.h"
#include "launch/place/describe_table.h"
#include "launch/place/place_checks.h"
#include "launch/place/place_loads.h"
#include "launch/place/place_speeds.h"
#include "launch/place/place_table.h"
#include "launch/run/progress.h"
#include "launch/run/signals.h"
#include "placement/bound/bound.h"
#include "placement/map/export.h"
#include "placement/map/import.h"
#include "placement/methods/method.h"
#include "placement/methods/program.h"
#include "placement/methods/replica_split.h"
#include "runtime/base/memory.h"
#include "runtime/base/timer.h"
#include "runtime/decoder/session_options.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { AUTO_BOUND_SECONDS = 2 };

typedef struct place {
  moerun__invocation *invocation;
  const moerun__config *config;
  const moerun__method *method;
  moerun__text topology_line;
  moerun__topology *topology;
  moerun__trace *trace;
  moerun__trace *train;    /* the same as trace, or a half of it */
  moerun__trace *held_out; /* NULL: none */
  moerun__problem *problem;
  moerun_placement *blocks;
  moerun_placement *placement;
  moerun_placement *compared; /* NULL: none */
  moerun__export_rows rows;   /* of a map for the model; none without one */
  int32_t *row_of;            /* what rows points to */
  moerun__place_facts facts;
  moerun__progress_bar bar;
} place;

static const char *text_of(const place *p, const char *key) {
  return moerun__config_text(p->config, key);
}

static int given(const place *p, const char *key) {
  return text_of(p, key)[0] != '\0';
}

/* ---- Settings ------------------------------------------------------------ */

static moerun_status read_topology(place *p) {
  moerun_status status = MOERUN_OK;
  const int64_t ranks = moerun__config_int(p->config, "ranks");
  const int has_line = given(p, "topology");
  const int has_none =
      moerun__config_origin_of(p->config, "ranks") == MOERUN_CONFIG_DEFAULT;
  MOERUN_REQUIRE(has_line != (ranks > 0), MOERUN_ERR_INVALID,
                 "expected one of --topology and --ranks, found %s%s",
                 has_line   ? "both"
                 : has_none ? "none"
                            : "--ranks 0",
                 !has_line && given(p, "placement")
                     ? "; a certificate in the file of --placement names the "
                       "topology that it is for"
                     : "");
  if (has_line) {
    MOERUN_TRY(
        moerun__text_print(&p->topology_line, "%s", text_of(p, "topology")));
  } else {
    MOERUN_TRY(moerun__text_print(&p->topology_line, "%lld rank%s",
                                  (long long)ranks, ranks == 1 ? "" : "s"));
  }
  /* The line is an option, not a file: a mistake in it is one of usage. */
  const moerun_status parsed =
      moerun__topology_parse(&p->topology, p->topology_line.bytes);
  MOERUN_TRY(parsed == MOERUN_ERR_FORMAT ? MOERUN_ERR_INVALID : parsed);
  if (!given(p, "speeds")) goto done;
  MOERUN_REQUIRE(strstr(p->topology_line.bytes, "speed") == NULL,
                 MOERUN_ERR_INVALID,
                 "expected one of --speeds and the speeds of --topology, found "
                 "both: %s and \"%s\"",
                 text_of(p, "speeds"), p->topology_line.bytes);
  MOERUN_TRY(moerun__place_speeds(&p->topology_line, text_of(p, "speeds"),
                                  p->topology->num_ranks));
  moerun__topology_destroy(p->topology);
  MOERUN_TRY(moerun__topology_parse(&p->topology, p->topology_line.bytes));
done:
  return status;
}

/* ---- Input --------------------------------------------------------------- */

static moerun_status load_trace(place *p, const char *key) {
  moerun_status status = MOERUN_OK;
  const int64_t experts = moerun__config_int(p->config, "trace_experts");
  moerun__progress_phase(&p->bar, "reading the trace");
  MOERUN_TRY(moerun__known_file_advise(
      moerun__trace_load(&p->trace, text_of(p, key), (int32_t)experts),
      text_of(p, key), MOERUN_FILE_TRACE));
  if (!given(p, "model")) {
    moerun__trace_warn_if_turned(p->trace, text_of(p, key));
  }
done:
  return status;
}

static moerun_status split_trace(place *p) {
  moerun_status status = MOERUN_OK;
  const char *path = text_of(p, "trace");
  if (strcmp(text_of(p, "train"), "all") == 0) {
    p->train = p->trace;
    goto done;
  }
  MOERUN_REQUIRE(p->trace->num_sequences >= 2, MOERUN_ERR_INVALID,
                 "%s: expected 2 sequences or more, to solve for some and "
                 "judge by the others, found 1%s; --train all solves for it",
                 path,
                 moerun__paths_lack_json(path)
                     ? " (it has no .json beside it, which says where "
                       "sequences begin)"
                     : "");
  MOERUN_TRY(moerun__trace_select(&p->train, p->trace, 0, 2, path));
  MOERUN_TRY(moerun__trace_select(&p->held_out, p->trace, 1, 2, path));
done:
  return status;
}

/* The sizes of rows, from a model that goes with the trace. */
static moerun_status read_model(place *p) {
  moerun_status status = MOERUN_OK;
  moerun__model_config model = {0};
  const char *path = text_of(p, "model");
  const moerun__dtype wire = moerun__wire_dtype(moerun__wire_of(p->config));
  if (path[0] == '\0') goto done;
  MOERUN_TRY(moerun__model_config_load(&model, path));
  MOERUN_REQUIRE(model.num_moe_layers == p->trace->num_layers &&
                     model.num_experts == p->trace->num_experts &&
                     moerun__config_terms(&model) == p->trace->num_terms,
                 MOERUN_ERR_SHAPE,
                 "%s: expected %d MoE layers of %d experts, %d a token, as in "
                 "%s, found %d of %d, %d a token",
                 path, p->trace->num_layers, p->trace->num_experts,
                 p->trace->num_terms, text_of(p, "trace"), model.num_moe_layers,
                 model.num_experts, moerun__config_terms(&model));
  p->facts.copy_bytes = (int64_t)moerun__copy_bytes(&model, wire);
  p->facts.result_bytes = (int64_t)moerun__result_bytes(&model, wire);
  MOERUN_TRY(moerun__rows_of_model(&p->rows, &p->row_of, &model));
done:
  moerun__model_config_clear(&model);
  return status;
}

/* ---- Solve --------------------------------------------------------------- */

static moerun_status create_problem(place *p) {
  moerun_status status = MOERUN_OK;
  const int objective = moerun__objective_find(text_of(p, "objective"));
  const moerun__problem_options options = {
      .objective = (moerun__objective)objective,
      .slack = moerun__config_double(p->config, "slack"),
      .spare_slots = (int32_t)moerun__config_int(p->config, "spare_slots")};
  MOERUN_TRY(
      moerun__problem_create(&p->problem, p->train, p->topology, &options));
  MOERUN_TRY(moerun_placement_create_block(&p->blocks, p->trace->num_layers,
                                           p->trace->num_experts,
                                           p->topology->num_ranks));
done:
  return status;
}

static moerun__method_options options_of(const moerun__config *config) {
  return (moerun__method_options){
      .seed = (uint64_t)moerun__config_int(config, "seed"),
      .time_limit_s = moerun__config_double(config, "time_limit"),
      .clock = moerun__progress_clock,
      .spare_slots = (int32_t)moerun__config_int(config, "spare_slots"),
      .slots = (int32_t)moerun__config_int(config, "slots"),
      .expert_groups = (int32_t)moerun__config_int(config, "expert_groups"),
      .polish = (int32_t)moerun__config_int(config, "polish")};
}

static moerun_status solve(place *p, moerun__certificate *c) {
  moerun_status status = MOERUN_OK;
  const moerun__method_options options = options_of(p->config);
  const double began = moerun__now();
  moerun__progress_limit(&p->bar, "solving", options.time_limit_s);
  MOERUN_TRY(moerun__place(&p->placement, &c->proven, &c->bound, p->problem,
                           p->method, &options));
  c->seconds = moerun__now() - began;
  MOERUN_TRY(moerun__placement_name_model(p->placement, p->trace->model));
done:
  return status;
}

/* A placement from the file that `key` names. */
static moerun_status load_placement(moerun_placement **out, const place *p,
                                    const char *key) {
  const moerun__import_sizes sizes = {
      p->trace->num_layers, p->trace->num_experts, p->topology->num_ranks,
      p->row_of != NULL ? &p->rows : NULL, text_of(p, "trace")};
  return moerun__known_file_advise(
      moerun__placement_import(out, NULL, text_of(p, key), &sizes),
      text_of(p, key), MOERUN_FILE_PLACEMENT);
}

static moerun_status judge_with(moerun__judgement *out, const place *p,
                                const moerun_placement *placement,
                                const moerun__trace *trace,
                                const int32_t *homes) {
  return moerun__judge(out, placement, trace, p->topology,
                       p->problem->node_weight, p->problem->far_weight, homes);
}

/* The loads that replicas allow, whatever the rule that routes to them. */
static moerun_status judge_even(place *p) {
  moerun_status status = MOERUN_OK;
  const moerun__trace *halves[] = {p->train, p->held_out};
  const int32_t entries = p->placement->num_layers * p->placement->num_experts;
  p->facts.has_even = moerun__program_available() &&
                      p->placement->replica_offset[entries] > entries;
  for (int h = 0; p->facts.has_even && h < MOERUN_NUM_HALVES; h++) {
    if (halves[h] == NULL) continue;
    MOERUN_TRY(moerun__replica_balance(&p->facts.even_load[h],
                                       &p->facts.even_worst[h], p->placement,
                                       halves[h], p->topology));
  }
done:
  return status;
}

/* The same of another placement, beside this one. */
static moerun_status judge_compared(place *p) {
  moerun_status status = MOERUN_OK;
  moerun__place_facts *facts = &p->facts;
  const moerun__trace *halves[] = {p->train, p->held_out};
  if (!given(p, "compare")) goto done;
  MOERUN_TRY(load_placement(&p->compared, p, "compare"));
  facts->compared_name = text_of(p, "compare");
  for (int h = 0; h < MOERUN_NUM_HALVES; h++) {
    if (halves[h] == NULL) continue;
    MOERUN_TRY(
        judge_with(&facts->compared[h], p, p->compared, halves[h], NULL));
  }
  if (!facts->has_homes) goto done;
  MOERUN_TRY(judge_with(&facts->compared_at_home, p, p->compared, p->trace,
                        p->trace->home));
done:
  return status;
}

static moerun_status judge(place *p, moerun__certificate *c) {
  moerun_status status = MOERUN_OK;
  const moerun__trace *halves[] = {p->train, p->held_out};
  const moerun__trace *all = p->trace;
  c->has_held_out = p->held_out != NULL;
  for (int h = 0; h < MOERUN_NUM_HALVES; h++) {
    if (halves[h] == NULL) continue;
    MOERUN_TRY(judge_with(&c->before[h], p, p->blocks, halves[h], NULL));
    MOERUN_TRY(judge_with(&c->after[h], p, p->placement, halves[h], NULL));
  }
  p->facts.has_homes =
      all->home != NULL && all->num_ranks == p->topology->num_ranks;
  if (!p->facts.has_homes) goto done;
  MOERUN_TRY(
      judge_with(&p->facts.before_at_home, p, p->blocks, all, all->home));
  MOERUN_TRY(
      judge_with(&p->facts.after_at_home, p, p->placement, all, all->home));
done:
  return status;
}

static int has_replicas(const moerun_placement *placement) {
  const int32_t entries = placement->num_layers * placement->num_experts;
  return placement->replica_offset[entries] > entries;
}

/* From the solve on a signal asks to make an end of it: a bound, or a solve
 * beside this one, that is not ready is done without, and what was found is
 * written. */
static void let_stop(void) {
  moerun__signals_promise(MOERUN_PROMISE_PLACEMENT);
  moerun__signals_catch();
  moerun__signals_answer(1, 1);
}

/* All limits have passed once somebody asks to stop. */
static double clock_until_stop(void) {
  const double now = moerun__progress_clock();
  return moerun__signals_ask_to_stop() ? HUGE_VAL : now;
}

/* A few seconds for each step: not unless asked for. Every slot of every rank
 * counts, also where there are more of them than experts. */
static int is_slow_to_bound(const moerun__problem *problem) {
  const double items = (double)problem->num_ranks * problem->most_slots;
  return 8 * items * items * items * problem->num_layers > 2e9;
}

static moerun__bound_options bound_options(const place *p) {
  const int is_auto = strcmp(text_of(p, "bound"), "auto") == 0;
  moerun__bound_options options = {
      .kind = MOERUN_BOUND_SDP,
      .time_limit_s = is_auto ? AUTO_BOUND_SECONDS
                              : moerun__config_double(p->config, "bound_time"),
      .clock = clock_until_stop};
  if (strcmp(text_of(p, "bound"), "none") == 0 ||
      (is_auto &&
       (has_replicas(p->placement) || is_slow_to_bound(p->problem)))) {
    options.kind = MOERUN_BOUND_NONE;
  }
  return options;
}

/* Bounds are of placements within the caps; another may cost less than them. */
static moerun_status check_caps(place *p) {
  moerun_status status = MOERUN_OK;
  int allowed = 1;
  if (!has_replicas(p->placement)) {
    MOERUN_TRY(
        moerun__solution_allowed(&allowed, p->problem, p->placement->rank_of));
  }
  p->facts.breaks_caps = !allowed;
done:
  return status;
}

/* What no placement within the caps costs less than: this one is proven to be
 * the best where it costs no more. */
static moerun_status find_bound(place *p, moerun__certificate *c) {
  moerun_status status = MOERUN_OK;
  moerun__bound_options options = bound_options(p);
  double bound = -1;
  options.cost = c->cost;
  if (options.kind == MOERUN_BOUND_NONE || c->proven || p->facts.breaks_caps ||
      moerun__signals_ask_to_stop()) {
    goto done;
  }
  MOERUN_REQUIRE(!has_replicas(p->placement), MOERUN_ERR_UNSUPPORTED,
                 "--bound: bounds are of placements without replicas, found "
                 "some in %s",
                 text_of(p, "placement"));
  moerun__progress_limit(&p->bar, "bounding from below", options.time_limit_s);
  MOERUN_TRY(moerun__bound(&bound, p->problem, &options));
  if (bound > c->bound) c->bound = bound;
  c->proven = bound >= c->cost;
done:
  return status;
}

/* A bound is of placements within the caps and without replicas, of the sum
 * that a method saw: it can pass the cost of one by a rounding, never by
 * more. */
static void conclude(const place *p, moerun__certificate *c) {
  if (has_replicas(p->placement) || p->facts.breaks_caps) {
    c->proven = 0;
    c->bound = -1;
  }
  if (c->proven || c->bound > c->cost) c->bound = c->cost;
  c->gap = moerun__gap(c->cost, c->bound, moerun__worst_cost(p->problem));
}

/* What a larger slack would allow. */
static moerun_status find_slack(place *p, const moerun__certificate *c) {
  moerun_status status = MOERUN_OK;
  moerun__method_options options = options_of(p->config);
  options.clock = clock_until_stop;
  if (moerun__signals_ask_to_stop()) goto done;
  moerun__progress_limit(&p->bar, "solving with a larger slack",
                         options.time_limit_s);
  MOERUN_TRY(moerun__place_slack_find(
      &p->facts.wider, p->problem, p->method, &options, p->blocks, c->cost,
      moerun__judged(p->problem, &c->before[MOERUN_TRAIN])));
  if (moerun__signals_ask_to_stop()) {
    p->facts.wider = (moerun__place_slack){.slack = -1};
  }
done:
  return status;
}

static moerun_status certify(place *p) {
  moerun_status status = MOERUN_OK;
  moerun__certificate *c = NULL;
  MOERUN_TRY(moerun__certificate_create(&c, p->topology_line.bytes,
                                        text_of(p, "objective"),
                                        text_of(p, "train")));
  p->facts.is_solved = !given(p, "placement");
  if (p->facts.is_solved) {
    p->invocation->phase = MOERUN_PHASE_SOLVE;
    MOERUN_TRY(solve(p, c));
  } else {
    MOERUN_TRY(load_placement(&p->placement, p, "placement"));
  }
  c->seed = moerun__config_int(p->config, "seed");
  c->slack = moerun__config_double(p->config, "slack");
  c->trace_digest = moerun__trace_digest(p->trace);
  let_stop();
  p->invocation->phase = MOERUN_PHASE_FILES;
  moerun__progress_phase(&p->bar, "judging");
  MOERUN_TRY(judge(p, c));
  MOERUN_TRY(judge_even(p));
  MOERUN_TRY(judge_compared(p));
  c->cost = moerun__judged(p->problem, &c->after[MOERUN_TRAIN]);
  if (p->facts.is_solved) MOERUN_TRY(find_slack(p, c));
  MOERUN_TRY(check_caps(p));
  MOERUN_TRY(find_bound(p, c));
  p->invocation->stopped = moerun__signals_ask_to_stop();
  moerun__signals_promise(MOERUN_PROMISE_OVER);
  conclude(p, c);
  moerun__certificate_destroy(p->placement->certificate);
  p->placement->certificate = c;
  c = NULL;
done:
  moerun__certificate_destroy(c);
  return status;
}

/* ---- Output -------------------------------------------------------------- */

static moerun_status write_json(const place *p, const moerun__text *text) {
  return moerun__outputs_put(&p->invocation->outputs, text_of(p, "json"),
                             text->bytes, text->count);
}

static moerun_status convert(const place *p) {
  if (!given(p, "convert")) return MOERUN_OK;
  return moerun__trace_save(p->trace, &p->invocation->outputs,
                            text_of(p, "convert"));
}

/* What a solve has found is not lost because another format cannot say it. */
static moerun_status keep_solved(const place *p, moerun_status failure) {
  moerun_status status = MOERUN_OK;
  moerun__outputs outputs = {0};
  MOERUN_TRY(
      moerun__placement_put(p->placement, &outputs, text_of(p, "output")));
  MOERUN_TRY(moerun__outputs_commit(&outputs));
  status = moerun__say_more(failure, "; the placement is in %s all the same",
                            text_of(p, "output"));
done:
  moerun__outputs_clear(&outputs);
  return status;
}

static moerun_status export_placement(const place *p) {
  moerun_status status = MOERUN_OK;
  const char *target = text_of(p, "export");
  if (!given(p, "export")) goto done;
  status = moerun__placement_export(
      p->placement, &p->invocation->outputs, target,
      moerun__export_needs_rows(target) ? &p->rows : NULL);
  if (status == MOERUN_ERR_INVALID && p->facts.is_solved &&
      given(p, "output")) {
    MOERUN_TRY(keep_solved(p, status));
  }
done:
  return status;
}

static moerun_status report(place *p) {
  moerun_status status = MOERUN_OK;
  moerun__progress_close(&p->bar);
  moerun__text json = {0};
  moerun__outputs *outputs = &p->invocation->outputs;
  p->facts.trace_name = text_of(p, "trace");
  p->facts.trace = p->trace;
  p->facts.train = p->train;
  p->facts.held_out = p->held_out;
  p->facts.placement = p->placement;
  p->facts.is_uneven = moerun__topology_is_uneven(p->topology);
  MOERUN_TRY(convert(p));
  MOERUN_TRY(export_placement(p));
  if (given(p, "output")) {
    MOERUN_TRY(
        moerun__placement_put(p->placement, outputs, text_of(p, "output")));
  }
  if (given(p, "json")) {
    MOERUN_TRY(moerun__place_json(&json, &p->facts));
    MOERUN_TRY(write_json(p, &json));
  }
  moerun__place_print(stdout, &p->facts);
done:
  moerun__text_clear(&json);
  return status;
}

static moerun_status describe(place *p) {
  moerun_status status = MOERUN_OK;
  moerun__description *description = NULL;
  moerun__text json = {0};
  const char *path = text_of(p, "describe");
  p->invocation->phase = MOERUN_PHASE_FILES;
  MOERUN_TRY(load_trace(p, "describe"));
  moerun__progress_phase(&p->bar, "counting");
  MOERUN_TRY(moerun__describe(
      &description, p->trace, (int32_t)moerun__config_int(p->config, "ranks"),
      (int32_t)moerun__config_int(p->config, "segment")));
  moerun__progress_close(&p->bar);
  MOERUN_TRY(convert(p));
  if (given(p, "json")) {
    MOERUN_TRY(moerun__describe_json(&json, path, p->trace, description));
    MOERUN_TRY(write_json(p, &json));
  }
  moerun__describe_print(stdout, path, p->trace, description);
done:
  moerun__text_clear(&json);
  moerun__description_destroy(description);
  return status;
}

static moerun_status run(place *p) {
  moerun_status status = MOERUN_OK;
  const moerun__effect_facts effects = {.subcommand = p->invocation->subcommand,
                                        .config = p->config};
  if (strcmp(text_of(p, "method"), "list") == 0) {
    moerun__place_print_methods(stdout);
    goto done;
  }
  MOERUN_TRY(moerun__place_check_outputs(p->config));
  MOERUN_TRY(moerun__progress_check(p->config));
  MOERUN_TRY(moerun__effect_check(&effects, MOERUN_EFFECT_OPTIONS));
  if (given(p, "describe")) {
    MOERUN_TRY(describe(p));
    goto done;
  }
  MOERUN_REQUIRE(given(p, "trace") + given(p, "loads") == 1, MOERUN_ERR_INVALID,
                 "expected one of --trace, --loads and --describe, found %s",
                 given(p, "trace") ? "--trace and --loads" : "none");
  MOERUN_TRY(moerun__method_named(&p->method, moerun__place_method(p->config),
                                  "--method"));
  MOERUN_TRY(moerun__place_check_slots(p->config));
  MOERUN_TRY(read_topology(p));
  if (given(p, "loads")) {
    const moerun__method_options options = options_of(p->config);
    moerun__progress_close(&p->bar); /* that takes no time to speak of */
    MOERUN_TRY(moerun__place_loads(p->invocation, p->method, &options,
                                   p->topology, p->topology_line.bytes));
    goto done;
  }
  MOERUN_TRY(moerun__place_check_bound(p->config));
  p->invocation->phase = MOERUN_PHASE_FILES;
  MOERUN_TRY(load_trace(p, "trace"));
  p->invocation->phase = MOERUN_PHASE_USAGE;
  MOERUN_TRY(moerun__place_check_export(p->config, p->topology->num_ranks,
                                        p->trace->num_experts));
  p->invocation->phase = MOERUN_PHASE_FILES;
  MOERUN_TRY(read_model(p));
  MOERUN_TRY(split_trace(p));
  MOERUN_TRY(create_problem(p));
  MOERUN_TRY(certify(p));
  MOERUN_TRY(report(p));
done:
  return status;
}

moerun_status moerun__cmd_place(moerun__invocation *invocation) {
  place p = {.invocation = invocation, .config = invocation->config};
  moerun__progress_start(&p.bar, p.config);
  const moerun_status status = run(&p);
  moerun__progress_close(&p.bar);
  moerun__text_clear(&p.topology_line);
  moerun__topology_destroy(p.topology);
  if (p.train != p.trace) moerun__trace_destroy(p.train);
  moerun__trace_destroy(p.held_out);
  moerun__trace_destroy(p.trace);
  moerun__free(p.row_of);
  moerun__problem_destroy(p.problem);
  moerun_placement_destroy(p.blocks);
  moerun_placement_destroy(p.placement);
  moerun_placement_destroy(p.compared);
  return status;
}
