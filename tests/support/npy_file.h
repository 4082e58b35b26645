/* An .npy file with these elements. */
#ifndef MOERUN_TESTS_NPY_FILE_H
#define MOERUN_TESTS_NPY_FILE_H

#include "runtime/base/file.h"
#include "runtime/base/npy.h"
#include "runtime/base/output.h"
#include "support/cmocka.h"

static inline void npy_file_write(const char *path,
                                  const moerun__npy_shape *shape,
                                  const void *elements) {
  const size_t bytes =
      (size_t)moerun__npy_count(shape) * moerun__npy_type_bytes(shape->type);
  moerun__outputs outputs = {0};
  int file = -1;
  assert_int_equal(moerun__outputs_begin(&outputs, &file, path), MOERUN_OK);
  assert_int_equal(moerun__npy_put_header(file, shape, path), MOERUN_OK);
  assert_int_equal(moerun__file_put(file, elements, bytes, path), MOERUN_OK);
  assert_int_equal(moerun__outputs_commit(&outputs), MOERUN_OK);
}

#endif
