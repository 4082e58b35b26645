/* The table of methods made of the rows in methods.h, and what is common to
 * all: the check of what a method returns and the making of the placement from
 * it. */
#include "placement/methods/methods.h"

#include "placement/methods/program.h"
#include "placement/search/replicas.h"
#include "runtime/base/memory.h"
#include "runtime/base/number.h"
#include "runtime/base/text.h"

#include <string.h>

#define ROW(method, text, ...)                                                 \
  {.name = #method,                                                            \
   .summary = (text),                                                          \
   .solve = moerun__solve_##method,                                            \
   __VA_ARGS__},
static const moerun__method methods[] = {MOERUN_METHOD_MAP(ROW)};
#undef ROW

const moerun__method *moerun__method_at(int i) {
  const int count = (int)(sizeof methods / sizeof *methods);
  return i >= 0 && i < count ? &methods[i] : NULL;
}

const moerun__method *moerun__method_find(const char *name) {
  for (int i = 0; moerun__method_at(i) != NULL; i++) {
    if (strcmp(methods[i].name, name) == 0) return &methods[i];
  }
  return NULL;
}

moerun_status moerun__method_named(const moerun__method **out, const char *name,
                                   const char *what) {
  moerun_status status = MOERUN_OK;
  moerun__text names = {0};
  const moerun__method *method = NULL;
  *out = moerun__method_find(name);
  for (int i = 0; (method = moerun__method_at(i)) != NULL; i++) {
    MOERUN_TRY(
        moerun__text_print(&names, "%s%s", i > 0 ? ", " : "", method->name));
  }
  MOERUN_REQUIRE(*out != NULL, MOERUN_ERR_INVALID,
                 "%s: expected one of %s, found \"%.100s\"", what, names.bytes,
                 name);
done:
  moerun__text_clear(&names);
  return status;
}

/* Replicas of an expert in ascending rank order; one on the same rank as
 * another is dropped. */
static moerun_status make_placement(moerun_placement **out,
                                    const moerun__problem *problem,
                                    const moerun__solution *solution,
                                    int32_t spare_slots, const char *name) {
  moerun_status status = MOERUN_OK;
  int32_t *offset = NULL;
  int32_t *rank_of = NULL;
  uint8_t *hosts = NULL; /* [E][R] of one layer */
  const int32_t L = problem->num_layers;
  const int32_t E = problem->num_experts;
  const int32_t R = problem->num_ranks;
  const int32_t width =
      solution->copies_per_rank > 0 ? solution->copies_per_rank : spare_slots;
  const size_t spare = (size_t)(solution->copies != NULL ? width : 0);
  const size_t entries = (size_t)L * (size_t)E;
  const size_t ranks = (size_t)R;
  const size_t copies = (size_t)L * ranks * spare;
  MOERUN_REQUIRE(entries + copies <= MOERUN_PLACEMENT_MAX_REPLICAS,
                 MOERUN_ERR_INVALID,
                 "placement: expected at most %d replicas, found %zu",
                 MOERUN_PLACEMENT_MAX_REPLICAS, entries + copies);
  MOERUN_TRY(moerun__alloc(&offset, entries + 1, sizeof *offset));
  MOERUN_TRY(moerun__alloc(&rank_of, entries + copies, sizeof *rank_of));
  MOERUN_TRY(moerun__alloc(&hosts, (size_t)E * ranks, sizeof *hosts));
  int32_t next = 0;
  for (int32_t l = 0; l < L; l++) {
    memset(hosts, 0, (size_t)E * ranks);
    for (int32_t e = 0; e < E; e++) {
      hosts[(size_t)e * ranks + (size_t)solution->rank_of[l * E + e]] = 1;
    }
    for (size_t i = 0; i < ranks * spare; i++) {
      const int32_t e = solution->copies[(size_t)l * ranks * spare + i];
      if (e >= 0) hosts[(size_t)e * ranks + i / spare] = 1;
    }
    for (int32_t e = 0; e < E; e++) {
      offset[l * E + e] = next;
      for (int32_t r = 0; r < R; r++) {
        if (hosts[(size_t)e * ranks + (size_t)r]) rank_of[next++] = r;
      }
    }
  }
  offset[entries] = next;
  MOERUN_TRY(moerun__placement_create(out, L, E, R, offset, rank_of, name));
done:
  moerun__free(offset);
  moerun__free(rank_of);
  moerun__free(hosts);
  return status;
}

/* A number of slots in all. */
static moerun_status check_slots(const moerun__problem *problem,
                                 const moerun__method *method, int32_t slots) {
  moerun_status status = MOERUN_OK;
  const int32_t E = problem->num_experts;
  const int32_t R = problem->num_ranks;
  const long long least = (E + (long long)R - 1) / R * R;
  MOERUN_REQUIRE(method->fills_slots, MOERUN_ERR_UNSUPPORTED,
                 "placement: slots: expected method eplb, which fills any "
                 "number of them, found %s; spare slots are for any method",
                 method->name);
  MOERUN_REQUIRE(slots % R == 0 && slots >= E, MOERUN_ERR_INVALID,
                 "placement: slots: expected as many on each of %d ranks, and "
                 "no fewer than %d experts: %lld, %lld, %lld and so on; found "
                 "%d",
                 R, E, least, least + R, least + 2LL * R, slots);
done:
  return status;
}

static moerun_status check_request(const moerun__problem *problem,
                                   const moerun__method *method,
                                   const moerun__method_options *options) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(problem->trace != NULL || method->by_loads,
                 MOERUN_ERR_UNSUPPORTED,
                 "placement: method %s needs the routing of a trace, not loads "
                 "alone; eplb and lpt take loads",
                 method->name);
  MOERUN_REQUIRE(!method->ignores_speed ||
                     !moerun__topology_is_uneven(problem->topology),
                 MOERUN_ERR_UNSUPPORTED,
                 "placement: method %s does not look at speeds, found ranks "
                 "that differ in speed",
                 method->name);
  MOERUN_REQUIRE(
      options->spare_slots >= 0 && options->spare_slots <= problem->num_experts,
      MOERUN_ERR_INVALID, "placement: spare slots: expected 0 to %d, found %d",
      problem->num_experts, options->spare_slots);
  MOERUN_REQUIRE(options->spare_slots == 0 || method->replicates ||
                     problem->trace != NULL,
                 MOERUN_ERR_UNSUPPORTED,
                 "placement: method %s fills spare slots by the routing of a "
                 "trace, found loads alone",
                 method->name);
  MOERUN_REQUIRE(options->spare_slots == 0 ||
                     (method->by_loads && method->replicates) ||
                     problem->objective != MOERUN_OBJECTIVE_TAIL,
                 MOERUN_ERR_UNSUPPORTED,
                 "placement: method %s does not fill spare slots for the "
                 "objective tail",
                 method->name);
  if (options->slots > 0) {
    MOERUN_TRY(check_slots(problem, method, options->slots));
  }
  MOERUN_REQUIRE(!method->needs_glpk || moerun__program_available(),
                 MOERUN_ERR_UNSUPPORTED,
                 "placement: method %s needs GLPK, which this build is without",
                 method->name);
done:
  return status;
}

/* Of the time limit, filling spare slots has what the method leaves of its
 * half, and the other half. */
static moerun_status solve(moerun__solution *solution,
                           const moerun__problem *problem,
                           const moerun__method *method,
                           const moerun__method_options *options) {
  moerun_status status = MOERUN_OK;
  const int fills = options->spare_slots > 0 && !method->replicates;
  const moerun__deadline deadline =
      moerun__deadline_after(options->clock, options->time_limit_s);
  moerun__method_options for_method = *options;
  if (fills) for_method.time_limit_s /= 2;
  MOERUN_TRY(method->solve(solution, problem, &for_method));
  if (solution->copies != NULL) goto done;
  if (method->keeps_caps) {
    MOERUN_TRY(moerun__solution_check(problem, solution->rank_of));
  }
  if (fills) {
    MOERUN_TRY(moerun__replicas_complete(solution, problem,
                                         options->spare_slots, &deadline));
  }
done:
  return status;
}

moerun_status moerun__place(moerun_placement **out, int32_t *proven,
                            double *bound, const moerun__problem *problem,
                            const moerun__method *method,
                            const moerun__method_options *options) {
  moerun_status status = MOERUN_OK;
  moerun_placement *placement = NULL;
  moerun__solution solution = {.bound = -1};
  const size_t entries =
      (size_t)problem->num_layers * (size_t)problem->num_experts;
  *out = NULL;
  MOERUN_TRY(check_request(problem, method, options));
  MOERUN_TRY(
      moerun__alloc(&solution.rank_of, entries, sizeof *solution.rank_of));
  MOERUN_TRY(solve(&solution, problem, method, options));
  MOERUN_TRY(make_placement(&placement, problem, &solution,
                            options->spare_slots, method->name));
  if (solution.copies != NULL) { /* bounds are of placements without them */
    solution.proven = 0;
    solution.bound = -1;
    if (method->keeps_caps) {
      MOERUN_TRY(
          moerun__replicas_check(problem, placement, options->spare_slots));
    }
  }
  if (proven != NULL) *proven = solution.proven;
  if (bound != NULL) *bound = solution.bound;
  *out = placement;
  placement = NULL;
done:
  moerun_placement_destroy(placement);
  moerun__free(solution.rank_of);
  moerun__free(solution.copies);
  return status;
}
