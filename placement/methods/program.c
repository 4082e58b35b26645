/* The one file that knows GLPK (Makhorin's GNU Linear Programming Kit). What it
 * takes care of:
 *
 * - GLPK ends the process on an internal error unless an error hook jumps out
 *   of it; after the jump the environment is good for nothing but being freed.
 *   So the GLPK object lives within one call, between setjmp and glp_free_env,
 *   and nothing of ours is allocated in between.
 * - It prints: errors even with the terminal off. A hook takes the text, and
 *   the first line of it becomes the message.
 * - glp_intopt with its presolver ignores the time limit in the first linear
 *   program. That one is solved here, and the integer search goes on from its
 *   basis.
 * - It can begin with a solution only by a callback, where heuristics report
 *   theirs; that needs the columns as they are, too.
 * - The best bound is gone when glp_intopt returns: the callback notes it. */
#include "placement/methods/program.h"

#include "runtime/base/memory.h"

#include <math.h>

#ifdef MOERUN_GLPK
#include <glpk.h>
#include <limits.h>
#include <setjmp.h>
#include <string.h>
#endif

typedef struct bounds {
  double low;
  double high;
} bounds;

/* Rows and columns count from 0 here and from 1 in GLPK. Entries begin with an
 * unused one, because GLPK never reads the first of an array. */
struct moerun__program {
  int32_t num_columns;
  int32_t num_rows;
  int32_t num_entries; /* with the unused one */
  int32_t column_room;
  int32_t row_room;
  int32_t entry_room;
  bounds *column; /* [columns] */
  double *cost;
  int32_t *is_integer;
  double *value;
  bounds *row;           /* [rows] */
  int32_t *row_offset;   /* [rows] its first entry */
  int32_t *entry_column; /* [entries] from 1 */
  double *entry_weight;
};

enum { FIRST_ROOM = 64, MOST_ROOM = 1 << 26 };

/* ---- Building ------------------------------------------------------------ */

/* The next size that `count` fits into. */
static moerun_status room_for(int32_t *room, int32_t had, int64_t count) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(count <= MOST_ROOM, MOERUN_ERR_UNSUPPORTED,
                 "placement: program: expected at most %d rows, columns and "
                 "entries each, found %lld",
                 MOST_ROOM, (long long)count);
  *room = had;
  while (*room < count) {
    *room = *room == 0 ? FIRST_ROOM : 2 * *room;
  }
done:
  return status;
}

static moerun_status grow_columns(moerun__program *p, int64_t count) {
  moerun_status status = MOERUN_OK;
  int32_t room = 0;
  const size_t had = (size_t)p->column_room;
  MOERUN_TRY(room_for(&room, p->column_room, count));
  if (room == p->column_room) goto done;
  MOERUN_TRY(moerun__resize(&p->column, had, (size_t)room, sizeof *p->column));
  MOERUN_TRY(moerun__resize(&p->cost, had, (size_t)room, sizeof *p->cost));
  MOERUN_TRY(
      moerun__resize(&p->is_integer, had, (size_t)room, sizeof *p->is_integer));
  MOERUN_TRY(moerun__resize(&p->value, had, (size_t)room, sizeof *p->value));
  p->column_room = room;
done:
  return status;
}

static moerun_status grow_rows(moerun__program *p, int64_t count) {
  moerun_status status = MOERUN_OK;
  int32_t room = 0;
  const size_t had = (size_t)p->row_room;
  MOERUN_TRY(room_for(&room, p->row_room, count));
  if (room == p->row_room) goto done;
  MOERUN_TRY(moerun__resize(&p->row, had, (size_t)room, sizeof *p->row));
  MOERUN_TRY(
      moerun__resize(&p->row_offset, had, (size_t)room, sizeof *p->row_offset));
  p->row_room = room;
done:
  return status;
}

static moerun_status grow_entries(moerun__program *p, int64_t count) {
  moerun_status status = MOERUN_OK;
  int32_t room = 0;
  const size_t had = (size_t)p->entry_room;
  MOERUN_TRY(room_for(&room, p->entry_room, count));
  if (room == p->entry_room) goto done;
  MOERUN_TRY(moerun__resize(&p->entry_column, had, (size_t)room,
                            sizeof *p->entry_column));
  MOERUN_TRY(moerun__resize(&p->entry_weight, had, (size_t)room,
                            sizeof *p->entry_weight));
  p->entry_room = room;
done:
  return status;
}

moerun_status moerun__program_create(moerun__program **out) {
  moerun_status status = MOERUN_OK;
  moerun__program *program = NULL;
  *out = NULL;
  MOERUN_TRY(moerun__alloc(&program, 1, sizeof *program));
  MOERUN_TRY(grow_entries(program, 1));
  program->num_entries = 1;
  *out = program;
  program = NULL;
done:
  moerun__program_destroy(program);
  return status;
}

void moerun__program_destroy(moerun__program *program) {
  if (program == NULL) return;
  moerun__free(program->column);
  moerun__free(program->cost);
  moerun__free(program->is_integer);
  moerun__free(program->value);
  moerun__free(program->row);
  moerun__free(program->row_offset);
  moerun__free(program->entry_column);
  moerun__free(program->entry_weight);
  moerun__free(program);
}

moerun_status moerun__program_add_columns(int32_t *first,
                                          moerun__program *program,
                                          int32_t count, double low,
                                          double high, int is_integer) {
  moerun_status status = MOERUN_OK;
  *first = program->num_columns;
  MOERUN_TRY(grow_columns(program, (int64_t)program->num_columns + count));
  for (int32_t c = *first; c < *first + count; c++) {
    program->column[c] = (bounds){low, high};
    program->cost[c] = 0;
    program->is_integer[c] = is_integer;
    program->value[c] = 0;
  }
  program->num_columns += count;
done:
  return status;
}

void moerun__program_set_cost(moerun__program *program, int32_t column,
                              double cost) {
  program->cost[column] = cost;
}

void moerun__program_set_bounds(moerun__program *program, int32_t column,
                                double low, double high) {
  program->column[column] = (bounds){low, high};
}

moerun_status moerun__program_add_row(moerun__program *program, double low,
                                      double high) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(grow_rows(program, (int64_t)program->num_rows + 1));
  program->row[program->num_rows] = (bounds){low, high};
  program->row_offset[program->num_rows] = program->num_entries;
  program->num_rows++;
done:
  return status;
}

moerun_status moerun__program_add_term(moerun__program *program, int32_t column,
                                       double weight) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(grow_entries(program, (int64_t)program->num_entries + 1));
  program->entry_column[program->num_entries] = column + 1;
  program->entry_weight[program->num_entries] = weight;
  program->num_entries++;
done:
  return status;
}

double moerun__program_value(const moerun__program *program, int32_t column) {
  return program->value[column];
}

/* ---- Solving ------------------------------------------------------------- */

#ifdef MOERUN_GLPK

enum { TEXT_BYTES = 160 };

/* A solve in progress: all that lives on both sides of the jump. */
typedef struct attempt {
  moerun__program *program;
  moerun__program_options options;
  moerun__program_result result;
  double bound; /* as far as the callback knows */
  int64_t nodes;
  const double *start;   /* [1 + columns] not yet given; NULL: none, or given */
  int code;              /* what GLPK returned where that is an error */
  char text[TEXT_BYTES]; /* what it had to say */
  jmp_buf out;
} attempt;

static int take_text(void *place, const char *text) {
  attempt *a = place;
  if (a->text[0] == '\0') {
    const size_t n = strcspn(text, "\n");
    size_t kept = n < TEXT_BYTES ? n : TEXT_BYTES - 1;
    while (kept > 0 && text[kept - 1] == ' ') {
      kept--;
    }
    memcpy(a->text, text, kept);
    a->text[kept] = '\0';
  }
  return 1; /* not printed */
}

static void jump_out(void *place) {
  attempt *a = place;
  longjmp(a->out, 1);
}

static int bound_type(bounds b) {
  if (b.low == b.high) return GLP_FX;
  if (isinf(b.low)) return isinf(b.high) ? GLP_FR : GLP_UP;
  return isinf(b.high) ? GLP_LO : GLP_DB;
}

static int has_integers(const moerun__program *p) {
  for (int32_t c = 0; c < p->num_columns; c++) {
    if (p->is_integer[c]) return 1;
  }
  return 0;
}

static void copy_program(glp_prob *to, const moerun__program *p) {
  if (p->num_columns > 0) (void)glp_add_cols(to, p->num_columns);
  if (p->num_rows > 0) (void)glp_add_rows(to, p->num_rows);
  for (int32_t c = 0; c < p->num_columns; c++) {
    glp_set_col_bnds(to, c + 1, bound_type(p->column[c]), p->column[c].low,
                     p->column[c].high);
    glp_set_obj_coef(to, c + 1, p->cost[c]);
    if (p->is_integer[c]) glp_set_col_kind(to, c + 1, GLP_IV);
  }
  for (int32_t r = 0; r < p->num_rows; r++) {
    const int32_t first = p->row_offset[r];
    const int32_t end =
        r + 1 < p->num_rows ? p->row_offset[r + 1] : p->num_entries;
    glp_set_row_bnds(to, r + 1, bound_type(p->row[r]), p->row[r].low,
                     p->row[r].high);
    glp_set_mat_row(to, r + 1, end - first, p->entry_column + first - 1,
                    p->entry_weight + first - 1);
  }
}

/* In ms from the start of the attempt. */
static int time_left(const attempt *a, double since) {
  if (!(a->options.time_limit_s > 0)) return INT_MAX;
  const double left =
      1e3 * a->options.time_limit_s - glp_difftime(glp_time(), since) * 1e3;
  if (left < 1) return 1;
  return left < INT_MAX ? (int)left : INT_MAX;
}

static void on_node(glp_tree *tree, void *place) {
  attempt *a = place;
  const int best = glp_ios_best_node(tree);
  if (best > 0) a->bound = fmax(a->bound, glp_ios_node_bound(tree, best));
  switch (glp_ios_reason(tree)) {
  case GLP_IHEUR:
    if (a->start != NULL) (void)glp_ios_heur_sol(tree, a->start);
    a->start = NULL;
    break;
  case GLP_ISELECT:
    a->nodes++;
    if (a->options.node_limit > 0 && a->nodes > a->options.node_limit) {
      glp_ios_terminate(tree);
    }
    break;
  default: break;
  }
}

/* The linear program; integers may follow from its basis, which a presolver
 * would not leave. 1: solved. */
static int solve_linear(attempt *a, glp_prob *problem, int integers,
                        double since) {
  glp_smcp how;
  glp_init_smcp(&how);
  how.msg_lev = GLP_MSG_OFF;
  how.tm_lim = time_left(a, since);
  how.presolve = integers ? GLP_OFF : GLP_ON;
  how.meth = integers ? GLP_DUALP : GLP_PRIMAL;
  if (integers) glp_adv_basis(problem, 0);
  const int code = glp_simplex(problem, &how);
  const int state = glp_get_status(problem);
  if (code == GLP_ENOPFS || (code == 0 && state == GLP_NOFEAS)) {
    a->result.outcome = MOERUN_OUTCOME_INFEASIBLE;
    a->result.bound = INFINITY;
    return 0;
  }
  if (code == 0 && state == GLP_OPT) {
    a->result.outcome = MOERUN_OUTCOME_OPTIMAL;
    a->result.cost = glp_get_obj_val(problem);
    a->result.bound = a->result.cost;
    return 1;
  }
  if (code != GLP_ETMLIM) a->code = code != 0 ? code : GLP_ENODFS;
  return 0;
}

static void solve_integer(attempt *a, glp_prob *problem, double since) {
  glp_iocp how;
  glp_init_iocp(&how);
  how.msg_lev = GLP_MSG_OFF;
  how.tm_lim = time_left(a, since);
  how.mip_gap = a->options.relative_gap;
  how.mir_cuts = GLP_ON;
  how.gmi_cuts = GLP_ON;
  how.cov_cuts = GLP_ON;
  how.clq_cuts = GLP_ON;
  how.cb_func = on_node;
  how.cb_info = a;
  a->bound = a->result.bound;
  a->result.outcome = MOERUN_OUTCOME_NONE;
  const int code = glp_intopt(problem, &how);
  const int state = glp_mip_status(problem);
  const int found = state == GLP_OPT || state == GLP_FEAS;
  if (code != 0 && code != GLP_ETMLIM && code != GLP_ESTOP &&
      code != GLP_EMIPGAP) {
    a->code = code;
    return;
  }
  if (found) {
    a->result.cost = glp_mip_obj_val(problem);
    a->result.outcome = code == 0 || code == GLP_EMIPGAP
                            ? MOERUN_OUTCOME_OPTIMAL
                            : MOERUN_OUTCOME_FEASIBLE;
  } else if (code == 0) {
    a->result.outcome = MOERUN_OUTCOME_INFEASIBLE;
  }
  a->result.bound = a->bound;
  if (found && (code == 0 || a->bound > a->result.cost)) {
    a->result.bound = a->result.cost;
  }
  if (code == 0 && !found) a->result.bound = INFINITY;
}

static void solve(attempt *a) {
  const double since = glp_time();
  moerun__program *p = a->program;
  const int integers = has_integers(p);
  (void)glp_term_out(GLP_OFF);
  glp_term_hook(take_text, a);
  glp_error_hook(jump_out, a);
  glp_prob *problem = glp_create_prob();
  copy_program(problem, p);
  const int solved = solve_linear(a, problem, integers, since);
  if (solved && integers) solve_integer(a, problem, since);
  const int found = a->result.outcome == MOERUN_OUTCOME_OPTIMAL ||
                    a->result.outcome == MOERUN_OUTCOME_FEASIBLE;
  for (int32_t c = 0; found && c < p->num_columns; c++) {
    p->value[c] = integers ? glp_mip_col_val(problem, c + 1)
                           : glp_get_col_prim(problem, c + 1);
  }
  glp_delete_prob(problem);
}

/* 1: GLPK gave up in the middle. */
static int solve_guarded(attempt *a) {
  if (setjmp(a->out) != 0) return 1;
  solve(a);
  return 0;
}

int moerun__program_available(void) {
  return 1;
}

#define AS_TEXT(number)      #number
#define VERSION_OF(from, to) "GLPK " AS_TEXT(from) "." AS_TEXT(to)

const char *moerun__program_solver(void) {
  return VERSION_OF(GLP_MAJOR_VERSION, GLP_MINOR_VERSION);
}

moerun_status moerun__program_solve(moerun__program_result *result,
                                    moerun__program *program,
                                    const moerun__program_options *options) {
  moerun_status status = MOERUN_OK;
  attempt a = {.program = program, .result = {.bound = -INFINITY}};
  double *start = NULL;
  if (options != NULL) a.options = *options;
  if (a.options.start != NULL) {
    MOERUN_TRY(
        moerun__alloc(&start, (size_t)program->num_columns + 1, sizeof *start));
    for (int32_t c = 0; c < program->num_columns; c++) {
      start[c + 1] = a.options.start[c];
    }
    a.start = start;
  }
  const int broken = solve_guarded(&a);
  (void)glp_free_env();
  MOERUN_REQUIRE(!broken, MOERUN_ERR_INVALID, "placement: GLPK: %s", a.text);
  MOERUN_REQUIRE(a.code == 0, MOERUN_ERR_INVALID,
                 "placement: GLPK did not solve the program (its code %d)",
                 a.code);
  *result = a.result;
done:
  moerun__free(start);
  return status;
}

#else

int moerun__program_available(void) {
  return 0;
}

const char *moerun__program_solver(void) {
  return "none";
}

moerun_status moerun__program_solve(moerun__program_result *result,
                                    moerun__program *program,
                                    const moerun__program_options *options) {
  moerun_status status = MOERUN_OK;
  (void)program;
  (void)options;
  *result = (moerun__program_result){.bound = -INFINITY};
  MOERUN_REQUIRE(0, MOERUN_ERR_UNSUPPORTED,
                 "placement: this needs GLPK, which this build is without");
done:
  return status;
}

#endif
