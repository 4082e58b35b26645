/* Linear programs, with or without integer variables, solved by GLPK: the cost
 * of the columns is minimised within bounds of columns and rows. A program is
 * built here, without GLPK; only the solve needs it, and whatever goes wrong in
 * there comes back as a status, never as an end of the program. The thread must
 * not use GLPK for anything else: a solve ends with its environment freed. */
#ifndef MOERUN_METHODS_PROGRAM_H
#define MOERUN_METHODS_PROGRAM_H

#include "runtime/base/status.h"

typedef struct moerun__program moerun__program;

typedef enum moerun__outcome {
  MOERUN_OUTCOME_NONE = 0,   /* no solution within the limits */
  MOERUN_OUTCOME_INFEASIBLE, /* there is none */
  MOERUN_OUTCOME_FEASIBLE,   /* the best one found within the limits */
  MOERUN_OUTCOME_OPTIMAL,    /* up to relative_gap */
} moerun__outcome;

typedef struct moerun__program_options {
  double time_limit_s; /* 0: none */
  int64_t node_limit;  /* of the search for integers; 0: none */
  double relative_gap; /* integers: good enough is within this of the bound */
  const double *start; /* [columns] a solution to begin with, which becomes the
                          cutoff (integers only); NULL: none                 */
} moerun__program_options;

typedef struct moerun__program_result {
  moerun__outcome outcome;
  double cost;  /* of the solution, if there is one */
  double bound; /* no solution costs less; -INFINITY: none known */
} moerun__program_result;

/* Whether this build has GLPK; else moerun__program_solve returns
 * ERR_UNSUPPORTED. */
int moerun__program_available(void);
/* "GLPK 5.0", or "none". */
const char *moerun__program_solver(void);

moerun_status moerun__program_create(moerun__program **out);
void moerun__program_destroy(moerun__program *program);

/* `count` columns of cost 0, low <= x <= high (-INFINITY, INFINITY: none).
 * *first: number of the first of them. */
moerun_status moerun__program_add_columns(int32_t *first,
                                          moerun__program *program,
                                          int32_t count, double low,
                                          double high, int is_integer);
void moerun__program_set_cost(moerun__program *program, int32_t column,
                              double cost);
void moerun__program_set_bounds(moerun__program *program, int32_t column,
                                double low, double high);

/* low <= sum of weight * x <= high; terms go to the row added last, each column
 * at most once in a row. */
moerun_status moerun__program_add_row(moerun__program *program, double low,
                                      double high);
moerun_status moerun__program_add_term(moerun__program *program, int32_t column,
                                       double weight);

/* options may be NULL. */
moerun_status moerun__program_solve(moerun__program_result *result,
                                    moerun__program *program,
                                    const moerun__program_options *options);

/* Of the solution found last. */
double moerun__program_value(const moerun__program *program, int32_t column);

#endif
