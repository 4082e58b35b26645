/* Eigenvalues of dense symmetric matrices. */
#ifndef MOERUN_BOUND_EIGEN_H
#define MOERUN_BOUND_EIGEN_H

#include "runtime/base/status.h"

/* matrix[n][n], symmetric, is overwritten. value[n] ascending; vector[n][n]
 * holds an orthonormal eigenvector per row, or is NULL. scratch[4 * n].
 * Backward stable: each value is one of a matrix that differs from the given
 * one by a small multiple of n times the rounding error, in the Frobenius norm.
 * ERR_INVALID where the matrix is not finite. */
moerun_status moerun__eigen(double *value, double *vector, double *matrix,
                            int32_t n, double *scratch);

#endif
