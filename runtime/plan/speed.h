/* How fast this rank computes experts, from the wall-clock time of the expert
 * stage alone: a rank that waits for a slow one is not slow itself, and time of
 * the processor does not see that it was taken away. What is told to the others
 * follows slowness at once and recovery late, and changes in steps, because
 * every change moves work. Pure. */
#ifndef MOERUN_PLAN_SPEED_H
#define MOERUN_PLAN_SPEED_H

#include <stdint.h>

enum {
  MOERUN_SPEED_SKIPPED = 2, /* first readings: pages are touched, caches fill;
                               less than half the speed is believed even so  */
  MOERUN_SPEED_MENDING = 8, /* readings after a change, by whose mean the
                               applied speed is corrected                    */
  MOERUN_SPEED_LEAST_ROWS = 32, /* fewest rows that make a reading */
  MOERUN_SPEED_SLOW_RUN =
      2,                    /* readings in a row that say slower are believed */
  MOERUN_SPEED_FAST = 16,   /* readings that say faster, of the last */
  MOERUN_SPEED_WINDOW = 20, /* so many, end a slowness              */
  MOERUN_SPEED_STARVED = 8, /* steps without a reading after which a slow rank
                               works for the sake of one                  */
};

typedef struct moerun__speed {
  double call_seconds; /* expected for one expert called, whatever its rows */
  double row_seconds;  /* expected beside that for each row of the call */
  int64_t readings;
  int64_t changes;
  int32_t applied; /* logarithm of the speed, in sixteenths of a factor of 2;
                      0: as expected                                        */
  int32_t slow;    /* readings in a row below what is applied */
  double sum;      /* of the logarithms to base 2 of those readings */
  double recent[MOERUN_SPEED_WINDOW]; /* logarithms since the last change,
                                         number i at i % WINDOW            */
  int64_t count;                      /* readings since the last change */
  double last;     /* the last reading: measured over expected speed */
  int32_t steps;   /* since the last reading */
  double expected; /* seconds that the work since then should have taken */
  int64_t rows;    /* of that work */
  double seconds;  /* that it took */
} moerun__speed;

/* Begins with the seconds that a call takes with one row and with `rows` rows;
 * 0 means that they are unknown, and the speed is never read then. */
void moerun__speed_expect(moerun__speed *speed, double one_row, double many,
                          int32_t rows);
/* `fraction` of the work of so many experts with `rows` rows together was done
 * in so long. */
void moerun__speed_add(moerun__speed *speed, int32_t experts, int64_t rows,
                       double fraction, double seconds);
/* Seconds that so many rows of so many experts should take. */
double moerun__speed_expected(const moerun__speed *speed, int32_t experts,
                              int64_t rows);
/* Between two steps: what was added since the last reading is one, unless it is
 * too little: then it is kept for the next. */
void moerun__speed_step(moerun__speed *speed);

/* Whether the rank counts as slow and has long had too little work to show that
 * it is so no more. */
int moerun__speed_starves(const moerun__speed *speed);

#endif
