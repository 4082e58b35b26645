/* Householder's reduction to a tridiagonal matrix, then the implicit QL method
 * with Wilkinson's shift (Bowdler, Martin, Reinsch and Wilkinson, 1968). All
 * inner loops run along rows and add nothing up, so that compilers vectorise
 * them without changing a bit: the result is the same on every machine. */
#include "placement/bound/eigen.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum { MOST_SWEEPS = 60 }; /* of QL for one value; 2 are usual */

/* The tridiagonal matrix has diagonal[n] and beside[n - 1]. */
typedef struct reduction {
  int32_t n;
  double *matrix; /* [n][n]; row k, from column k + 1: reflection k */
  double *vector; /* [n][n] or NULL */
  double *diagonal;
  double *beside;
  double *factor; /* [n] of each reflection: I - factor v v' */
  double *product;
} reduction;

static double *row_of(double *matrix, int32_t n, int32_t i) {
  return matrix + (size_t)i * (size_t)n;
}

/* x[0 .. count) becomes v, I - factor v v' maps it to (result, 0, 0, ...). */
static double reflect(double *x, int32_t count, double *result) {
  double largest = 0;
  double rest = 0;
  for (int32_t i = 0; i < count; i++) {
    largest = fmax(largest, fabs(x[i]));
  }
  *result = count > 0 ? x[0] : 0;
  if (count < 2 || !(largest > DBL_MIN / DBL_EPSILON)) return 0;
  for (int32_t i = 1; i < count; i++) {
    rest += x[i] / largest * (x[i] / largest);
  }
  if (!(rest > 0)) return 0;
  const double head = x[0] / largest;
  const double length = sqrt(head * head + rest);
  const double lead = head + (head < 0 ? -length : length);
  *result = head < 0 ? length * largest : -length * largest;
  for (int32_t i = 1; i < count; i++) {
    x[i] = x[i] / largest / lead;
  }
  x[0] = 1;
  return lead * lead * 2 / (lead * lead + rest);
}

/* Rows and columns from `first`: matrix -= v w' + w v' with w = factor (A v -
 * factor / 2 (v' A v) v). */
static void reduce_rest(reduction *r, int32_t first, const double *v,
                        double factor) {
  const int32_t n = r->n;
  const int32_t count = n - first;
  double *w = r->product;
  double along = 0;
  memset(w, 0, (size_t)count * sizeof *w);
  for (int32_t i = 0; i < count; i++) {
    const double *row = row_of(r->matrix, n, first + i) + first;
    const double by = factor * v[i];
    for (int32_t j = 0; j < count; j++) {
      w[j] += by * row[j];
    }
  }
  for (int32_t i = 0; i < count; i++) {
    along += v[i] * w[i];
  }
  for (int32_t i = 0; i < count; i++) {
    w[i] -= factor / 2 * along * v[i];
  }
  for (int32_t i = 0; i < count; i++) {
    double *row = row_of(r->matrix, n, first + i) + first;
    const double a = v[i];
    const double b = w[i];
    for (int32_t j = 0; j < count; j++) {
      row[j] -= a * w[j] + b * v[j];
    }
  }
}

static void reduce(reduction *r) {
  const int32_t n = r->n;
  for (int32_t k = 0; k < n; k++) {
    double *row = row_of(r->matrix, n, k);
    double *v = row + k + 1;
    double result = 0;
    r->diagonal[k] = row[k];
    r->factor[k] = reflect(v, n - k - 1, &result);
    r->beside[k] = result;
    if (r->factor[k] != 0) reduce_rest(r, k + 1, v, r->factor[k]);
  }
}

/* vector = the product of all reflections, from the last one back. */
static void accumulate(reduction *r) {
  const int32_t n = r->n;
  memset(r->vector, 0, (size_t)n * (size_t)n * sizeof *r->vector);
  for (int32_t i = 0; i < n; i++) {
    row_of(r->vector, n, i)[i] = 1;
  }
  for (int32_t k = n - 2; k >= 0; k--) {
    const double *v = row_of(r->matrix, n, k) + k + 1;
    const int32_t first = k + 1;
    const int32_t count = n - first;
    double *sum = r->product;
    if (!(r->factor[k] != 0)) continue;
    memset(sum, 0, (size_t)count * sizeof *sum);
    for (int32_t i = 0; i < count; i++) {
      const double *row = row_of(r->vector, n, first + i) + first;
      for (int32_t j = 0; j < count; j++) {
        sum[j] += v[i] * row[j];
      }
    }
    for (int32_t i = 0; i < count; i++) {
      double *row = row_of(r->vector, n, first + i) + first;
      const double by = r->factor[k] * v[i];
      for (int32_t j = 0; j < count; j++) {
        row[j] -= by * sum[j];
      }
    }
  }
  for (int32_t i = 0; i < n; i++) {
    for (int32_t j = 0; j < i; j++) {
      const double above = row_of(r->vector, n, j)[i];
      row_of(r->vector, n, j)[i] = row_of(r->vector, n, i)[j];
      row_of(r->vector, n, i)[j] = above;
    }
  }
}

static void rotate(double *restrict a, double *restrict b, int32_t n, double c,
                   double s) {
  for (int32_t i = 0; i < n; i++) {
    const double x = a[i];
    const double y = b[i];
    a[i] = c * x - s * y;
    b[i] = s * x + c * y;
  }
}

/* One implicit QL sweep over rows first .. last. */
static void sweep(reduction *r, int32_t first, int32_t last) {
  double *d = r->diagonal;
  double *e = r->beside;
  double g = (d[first + 1] - d[first]) / (2 * e[first]);
  const double h = hypot(g, 1);
  double s = 1;
  double c = 1;
  double p = 0;
  g = d[last] - d[first] + e[first] / (g + (g < 0 ? -h : h));
  for (int32_t i = last - 1; i >= first; i--) {
    double f = s * e[i];
    const double b = c * e[i];
    const double length = sqrt(f * f + g * g);
    e[i + 1] = length;
    if (!(length > 0)) { /* the matrix falls apart here */
      d[i + 1] -= p;
      e[last] = 0;
      return;
    }
    s = f / length;
    c = g / length;
    g = d[i + 1] - p;
    f = (d[i] - g) * s + 2 * c * b;
    p = s * f;
    d[i + 1] = g + p;
    g = c * f - b;
    if (r->vector != NULL) {
      rotate(row_of(r->vector, r->n, i), row_of(r->vector, r->n, i + 1), r->n,
             c, s);
    }
  }
  d[first] -= p;
  e[first] = g;
  e[last] = 0;
}

/* Rows i and i + 1, to rounding; never where anything is not a number. */
static int is_apart(const reduction *r, int32_t i) {
  const double *d = r->diagonal;
  return fabs(r->beside[i]) <= DBL_EPSILON / 2 * (fabs(d[i]) + fabs(d[i + 1]));
}

static int diagonalise(reduction *r) {
  const int32_t n = r->n;
  for (int32_t first = 0; first < n; first++) {
    for (int round = 0;; round++) {
      int32_t last = first;
      while (last + 1 < n && !is_apart(r, last)) {
        last++;
      }
      if (last == first) break;
      if (round == MOST_SWEEPS) return 0;
      sweep(r, first, last);
    }
  }
  return 1;
}

static void sort_ascending(reduction *r) {
  const int32_t n = r->n;
  for (int32_t i = 0; i < n; i++) {
    int32_t least = i;
    for (int32_t k = i + 1; k < n; k++) {
      if (r->diagonal[k] < r->diagonal[least]) least = k;
    }
    if (least == i) continue;
    const double value = r->diagonal[i];
    r->diagonal[i] = r->diagonal[least];
    r->diagonal[least] = value;
    if (r->vector == NULL) continue;
    double *a = row_of(r->vector, n, i);
    double *b = row_of(r->vector, n, least);
    for (int32_t j = 0; j < n; j++) {
      const double x = a[j];
      a[j] = b[j];
      b[j] = x;
    }
  }
}

moerun_status moerun__eigen(double *value, double *vector, double *matrix,
                            int32_t n, double *scratch) {
  moerun_status status = MOERUN_OK;
  reduction r = {.n = n,
                 .matrix = matrix,
                 .vector = vector,
                 .diagonal = value,
                 .beside = scratch,
                 .factor = scratch + n,
                 .product = scratch + (size_t)2 * (size_t)n};
  reduce(&r);
  if (vector != NULL) accumulate(&r);
  MOERUN_REQUIRE(
      diagonalise(&r), MOERUN_ERR_INVALID,
      "eigenvalues: expected a finite matrix of %d rows, found one on "
      "which %d sweeps do not converge",
      n, MOST_SWEEPS);
  for (int32_t i = 0; i < n; i++) {
    MOERUN_REQUIRE(isfinite(value[i]), MOERUN_ERR_INVALID,
                   "eigenvalues: expected a finite matrix of %d rows, found %g "
                   "on its diagonal",
                   n, value[i]);
  }
  sort_ascending(&r);
done:
  return status;
}
