/* The names of the table of element types, as messages quote them: here alone
 * in the tests. */
#ifndef MOERUN_TESTS_DTYPE_NAMES_H
#define MOERUN_TESTS_DTYPE_NAMES_H

#define DTYPES_BUT_LAST "F32, BF16"
#define LAST_DTYPE      "F16"
#define DTYPE_NAMES     DTYPES_BUT_LAST " or " LAST_DTYPE
/* With others of a test's own behind them. */
#define DTYPES_THEN DTYPES_BUT_LAST ", " LAST_DTYPE

#endif
