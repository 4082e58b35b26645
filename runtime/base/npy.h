/* Arrays as NumPy's .npy files, up to 4 dimensions. Files of either byte order
 * and of C or Fortran order are read; written are little-endian ones in C
 * order. */
#ifndef MOERUN_BASE_NPY_H
#define MOERUN_BASE_NPY_H

#include "runtime/base/status.h"

#define MOERUN_NPY_MAP(X)                                                      \
  X(U8, "|u1", 1)                                                              \
  X(U16, "<u2", 2)                                                             \
  X(U32, "<u4", 4)                                                             \
  X(U64, "<u8", 8)                                                             \
  X(I8, "|i1", 1)                                                              \
  X(I16, "<i2", 2)                                                             \
  X(I32, "<i4", 4)                                                             \
  X(I64, "<i8", 8)                                                             \
  X(F32, "<f4", 4)                                                             \
  X(F64, "<f8", 8)

typedef enum moerun__npy_type {
#define MOERUN_NPY_ENUM(name, text, bytes) MOERUN_NPY_##name,
  MOERUN_NPY_MAP(MOERUN_NPY_ENUM)
#undef MOERUN_NPY_ENUM
} moerun__npy_type;

enum { MOERUN_NPY_DIMS = 4 };

typedef struct moerun__npy_shape {
  moerun__npy_type type;
  int32_t num_dims;             /* 0: a single number */
  int64_t dim[MOERUN_NPY_DIMS]; /* [num_dims] */
} moerun__npy_shape;

size_t moerun__npy_type_bytes(moerun__npy_type type);
/* "<i2", … */
const char *moerun__npy_type_name(moerun__npy_type type);
/* Elements of an array of this shape, which a reader has checked to fit. */
int64_t moerun__npy_count(const moerun__npy_shape *shape);

/* ---- Reader: header checked at open, elements read when asked for -------- */

typedef struct moerun__npy_reader moerun__npy_reader;

/* What the caller can use; any other type is refused by a line that names those
 * it can. */
typedef enum moerun__npy_kind {
  MOERUN_NPY_INTEGERS = 0,
  MOERUN_NPY_NUMBERS, /* of either sort, integers or floating point */
} moerun__npy_kind;

moerun_status moerun__npy_open(moerun__npy_reader **out,
                               moerun__npy_shape *shape, const char *path,
                               moerun__npy_kind kind);
/* The same of a whole file in memory, which is borrowed until the reader is
 * closed; `origin` stands for its path in messages. */
moerun_status moerun__npy_open_bytes(moerun__npy_reader **out,
                                     moerun__npy_shape *shape,
                                     const char *content, size_t bytes,
                                     const char *origin, moerun__npy_kind kind);
/* Elements first .. first + count - 1 of the array flattened in C order, in
 * this machine's byte order. */
moerun_status moerun__npy_read(const moerun__npy_reader *reader, void *out,
                               int64_t first, int64_t count);
/* The same of an integer type, widened; ERR_FORMAT for floating point and for
 * what 64 bits with a sign do not hold. */
moerun_status moerun__npy_read_integers(const moerun__npy_reader *reader,
                                        int64_t *out, int64_t first,
                                        int64_t count);
void moerun__npy_close(moerun__npy_reader *reader);

/* ---- Writer -------------------------------------------------------------- */

/* Writes what stands in front of the elements, which the caller puts behind it
 * in C order. `path` is for messages. */
moerun_status moerun__npy_put_header(int file, const moerun__npy_shape *shape,
                                     const char *path);

#endif
