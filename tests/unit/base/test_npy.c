/* .npy files: what NumPy wrote, what this writer writes, hostile headers. */
#include "runtime/base/file.h"
#include "runtime/base/memory.h"
#include "runtime/base/npy.h"
#include "support/cmocka.h"
#include "support/npy_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FOLDER MOERUN_TEST_DATA "/npy/"

typedef struct known {
  const char *path;
  moerun__npy_shape shape;
  int64_t count;
  int64_t element[8];
} known;

static const known arrays[] = {
    {FOLDER "u1.npy", {MOERUN_NPY_U8, 1, {3}}, 3, {0, 1, 255}},
    {FOLDER "u2.npy", {MOERUN_NPY_U16, 2, {1, 2}}, 2, {1, 65535}},
    {FOLDER "u4.npy", {MOERUN_NPY_U32, 1, {1}}, 1, {4294967295}},
    {FOLDER "u8.npy",
     {MOERUN_NPY_U64, 1, {2}},
     2,
     {(int64_t)1 << 40, INT64_MAX}},
    {FOLDER "i1.npy", {MOERUN_NPY_I8, 2, {2, 2}}, 4, {-128, -1, 0, 127}},
    {FOLDER "i2.npy",
     {MOERUN_NPY_I16, 3, {2, 2, 2}},
     8,
     {-4, -3, -2, -1, 0, 1, 2, 3}},
    {FOLDER "i4.npy", {MOERUN_NPY_I32, 1, {2}}, 2, {INT32_MIN, INT32_MAX}},
    {FOLDER "i8.npy", {MOERUN_NPY_I64, 0, {0}}, 1, {-((int64_t)1 << 40)}},
    {FOLDER "big_endian.npy", {MOERUN_NPY_I32, 1, {3}}, 3, {1, -2, 1 << 30}},
    {FOLDER "fortran.npy",
     {MOERUN_NPY_I16, 3, {2, 1, 4}},
     8,
     {0, 1, 2, 3, 4, 5, 6, 7}},
    {FOLDER "version2.npy", {MOERUN_NPY_I32, 2, {2, 3}}, 6, {0, 1, 2, 3, 4, 5}},
    {FOLDER "version3.npy", {MOERUN_NPY_I32, 2, {2, 3}}, 6, {0, 1, 2, 3, 4, 5}},
};

static void numpy_integers_are_read(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) {
    const known *k = &arrays[i];
    moerun__npy_reader *reader = NULL;
    moerun__npy_shape shape;
    int64_t element[8];
    assert_int_equal(
        moerun__npy_open(&reader, &shape, k->path, MOERUN_NPY_NUMBERS),
        MOERUN_OK);
    assert_int_equal(shape.type, k->shape.type);
    assert_int_equal(shape.num_dims, k->shape.num_dims);
    assert_memory_equal(shape.dim, k->shape.dim, sizeof shape.dim);
    assert_int_equal(moerun__npy_count(&shape), k->count);
    assert_int_equal(moerun__npy_read_integers(reader, element, 0, k->count),
                     MOERUN_OK);
    assert_memory_equal(element, k->element, (size_t)k->count * 8);
    assert_int_equal(
        moerun__npy_read_integers(reader, element, k->count - 1, 1), MOERUN_OK);
    assert_int_equal(element[0], k->element[k->count - 1]);
    assert_int_equal(moerun__npy_read(reader, element, k->count, 1),
                     MOERUN_ERR_INVALID);
    assert_int_equal(moerun__npy_read(reader, element, -1, 1),
                     MOERUN_ERR_INVALID);
    moerun__npy_close(reader);
  }
}

static void numpy_floats_are_read_as_they_are(void **state) {
  (void)state;
  moerun__npy_reader *reader = NULL;
  moerun__npy_shape shape;
  static const char *const files[] = {FOLDER "f4.npy",
                                      FOLDER "big_endian_f4.npy"};
  float value[2];
  int64_t integer = 0;
  for (int i = 0; i < 2; i++) {
    assert_int_equal(
        moerun__npy_open(&reader, &shape, files[i], MOERUN_NPY_NUMBERS),
        MOERUN_OK);
    assert_int_equal(moerun__npy_read(reader, value, 0, 2), MOERUN_OK);
    assert_true(value[0] == 0.5F && value[1] == -2.0F);
    assert_int_equal(moerun__npy_read_integers(reader, &integer, 0, 1),
                     MOERUN_ERR_FORMAT);
    assert_non_null(strstr(moerun_last_error(),
                           "expected elements of an integer type, found <f4"));
    moerun__npy_close(reader);
  }
  assert_int_equal(
      moerun__npy_open(&reader, &shape, FOLDER "f8.npy", MOERUN_NPY_NUMBERS),
      MOERUN_OK);
  assert_int_equal(shape.type, MOERUN_NPY_F64);
  assert_int_equal(shape.dim[0], 0);
  assert_int_equal(shape.dim[1], 7);
  assert_int_equal(moerun__npy_count(&shape), 0);
  moerun__npy_close(reader);
}

/* ---- Hostile files ------------------------------------------------------- */

static void expect_refusal(const char *path, const char *words) {
  moerun__npy_reader *reader = NULL;
  moerun__npy_shape shape;
  const moerun_status status =
      moerun__npy_open(&reader, &shape, path, MOERUN_NPY_NUMBERS);
  assert_true(status == MOERUN_ERR_FORMAT || status == MOERUN_ERR_UNSUPPORTED ||
              status == MOERUN_ERR_IO);
  assert_null(reader);
  if (strstr(moerun_last_error(), words) == NULL) {
    print_error("wanted '%s' in '%s'\n", words, moerun_last_error());
    fail();
  }
  assert_ptr_equal(strstr(moerun_last_error(), path), moerun_last_error());
}

static void other_arrays_are_refused(void **state) {
  (void)state;
  const size_t live = moerun__alloc_live();
  expect_refusal(FOLDER "bool.npy",
                 "integers of 1, 2, 4 or 8 bytes, or floating-point numbers of "
                 "4 or 8 bytes, found |b1 (bool)");
  expect_refusal(FOLDER "record.npy", "expected a plain element type");
  expect_refusal(FOLDER "five_dims.npy", "a shape of at most 4 dimensions");
  expect_refusal(FOLDER "none.npy", "no such file or directory");
  expect_refusal("/tmp", "expected a regular file");
  assert_int_equal(moerun__alloc_live(), live);
}

typedef struct hostile {
  const char *header;
  size_t payload_bytes;
  const char *words;
} hostile;

static const hostile hostile_headers[] = {
    {"", 0, "expected a dictionary"},
    {"   ", 0, "expected a dictionary"},
    {"{", 0, "expected each of the keys"},
    {"{}", 0, "expected the keys descr, fortran_order and shape and"},
    {"{'descr': '<i4'", 0, "expected ',' or '}'"},
    {"{'descr': '<i4', 'shape': (1,)}", 4, "and nothing else"},
    {"{'descr': '<i4', 'descr': '<i4', 'shape': (1,)}", 4,
     "once, found 'descr'"},
    {"{'descr': '<i4', 'other': 1}", 4, "once, found 'other'"},
    {"{'descr: '<i4'}", 4, "found 'descr: '"},
    {"{'a very long key indeed': '<i4'}", 4, "once, found ''"},
    {"{'descr': 'a very long type indeed'}", 4, "a plain element type"},
    {"{'shape': (1}", 4, "a shape of at most 4 dimensions"},
    {"{'shape': 1,}", 4, "a shape of at most 4 dimensions"},
    {"{'shape': (-1,)}", 4, "a shape of at most 4 dimensions"},
    {"{'shape': (1, 99999999999999999999,)}", 4,
     "a file can have as dimension 1 of the shape, found 2^63 - 10 or more"},
    {"{'shape': (9223372036854775807,)}", 4, "found 2^63 - 10 or more"},
    {"{'descr': '|i3'}", 4, "found |i3"},
    {"{'descr': ''}", 4, "integers of 1, 2, 4 or 8"},
    {"{'fortran_order': Maybe}", 4, "expected True or False"},
    {"{'descr': '>i2', 'fortran_order': True, 'shape': (3, 3)}", 16,
     "expected more elements than the 16 bytes"},
    {"{'shape': (,)}", 4, "a shape of at most 4 dimensions"},
    {"{'descr': '<i4', 'fortran_order': False, 'shape': (2,)} x", 8,
     "and nothing else"},
    {"{'descr': '<i4', 'fortran_order': False, 'shape': (2,)}", 7,
     "expected more elements than the 7 bytes"},
    {"{'descr': '<i4', 'fortran_order': False, 'shape': (2,)}", 9,
     "expected 8 bytes behind the header, found 9"},
    {"{'descr': '<i4', 'fortran_order': False, "
     "'shape': (4611686018427387904, 4)}",
     16, "expected more elements than the 16 bytes"},
    {"{'descr': '<i4', 'fortran_order': False, "
     "'shape': (4611686018427387904, 0, 4)}",
     4, "expected 0 bytes behind the header, found 4"},
};

/* Writes magic, version, length, header and a payload of zeros. */
static void write_file(const char *path, int version, size_t length,
                       const char *header, size_t payload_bytes) {
  char file[4096] = "\x93NUMPY";
  size_t used = 8;
  file[6] = (char)version;
  for (int i = 0; i < (version == 1 ? 2 : 4); i++) {
    file[used++] = (char)(length >> 8 * i & 0xffU);
  }
  memcpy(file + used, header, strlen(header));
  used += strlen(header) + payload_bytes;
  assert_true(used <= sizeof file);
  assert_int_equal(moerun__file_write(path, file, used), MOERUN_OK);
}

static void make_path(char path[32]) {
  (void)snprintf(path, 32, "/tmp/moerun_npy_XXXXXX");
  const int file = mkstemp(path);
  assert_true(file >= 0);
  (void)close(file);
}

static void hostile_headers_are_refused(void **state) {
  (void)state;
  const size_t live = moerun__alloc_live();
  char path[32];
  make_path(path);
  for (size_t i = 0; i < sizeof hostile_headers / sizeof *hostile_headers;
       i++) {
    const hostile *h = &hostile_headers[i];
    write_file(path, 1, strlen(h->header), h->header, h->payload_bytes);
    expect_refusal(path, h->words);
  }
  write_file(path, 1, 100, "{", 0);
  expect_refusal(path, "expected a header of 100 bytes, found 1");
  write_file(path, 2, 0xfffffff0U, "{", 0);
  expect_refusal(path, "expected a header of at most 65536 bytes");
  write_file(path, 2, 65537, "{", 0);
  expect_refusal(path, "expected a header of at most 65536 bytes, found 65537");
  write_file(path, 4, 1, "{", 8);
  expect_refusal(path, "version 1.0, 2.0 or 3.0, found 4.0");
  write_file(path, 1, 8, "{", 7);
  expect_refusal(path, "found a NUL byte");
  assert_int_equal(moerun__file_write(path, "\x93NUMPY", 6), MOERUN_OK);
  expect_refusal(path, "expected a .npy file");
  assert_int_equal(moerun__file_write(path, "", 0), MOERUN_OK);
  expect_refusal(path, "expected a .npy file");
  assert_int_equal(moerun__alloc_live(), live);
  (void)unlink(path);
}

/* Who wants integers is not told of other types, and learns at once. */
static void the_types_that_are_wanted_are_named(void **state) {
  (void)state;
  static const char *const files[] = {FOLDER "bool.npy", FOLDER "f4.npy"};
  static const char *const found[] = {"|b1 (bool)", "<f4"};
  moerun__npy_reader *reader = NULL;
  moerun__npy_shape shape;
  for (int i = 0; i < 2; i++) {
    char want[256];
    (void)snprintf(want, sizeof want,
                   "%s: expected elements that are integers of 1, 2, 4 or 8 "
                   "bytes, found %s",
                   files[i], found[i]);
    assert_int_equal(
        moerun__npy_open(&reader, &shape, files[i], MOERUN_NPY_INTEGERS),
        MOERUN_ERR_FORMAT);
    assert_string_equal(moerun_last_error(), want);
  }
  assert_int_equal(moerun__npy_open(&reader, &shape, FOLDER "u8_huge.npy",
                                    MOERUN_NPY_INTEGERS),
                   MOERUN_OK);
  int64_t element[2];
  assert_int_equal(moerun__npy_read_integers(reader, element, 0, 1), MOERUN_OK);
  assert_int_equal(element[0], 3);
  assert_int_equal(moerun__npy_read_integers(reader, element, 0, 2),
                   MOERUN_ERR_FORMAT);
  assert_non_null(strstr(
      moerun_last_error(),
      "element 1: expected at most 2^63 - 1, found 9223372036854775808"));
  moerun__npy_close(reader);
}

/* ---- Writer -------------------------------------------------------------- */

static void rows_come_back(void **state) {
  (void)state;
  static const char header[] =
      "\x93NUMPY\x01\x00\xb6\x00{'descr': '<i2', 'fortran_order': False, "
      "'shape': (700, 3, 2), }";
  const moerun__npy_shape shape = {MOERUN_NPY_I16, 3, {700, 3, 2}};
  moerun__npy_shape found;
  moerun__npy_reader *reader = NULL;
  int16_t row[700 * 6];
  int64_t element[700 * 6];
  char path[32];
  char *text = NULL;
  size_t bytes = 0;
  make_path(path);
  for (int i = 0; i < 700 * 6; i++) {
    row[i] = (int16_t)(i * 31 - 3000);
  }
  npy_file_write(path, &shape, row);
  assert_int_equal(moerun__file_read(&text, &bytes, path, 1U << 20), MOERUN_OK);
  assert_int_equal(bytes, 192 + 700 * 12);
  assert_memory_equal(text, header, sizeof header - 1);
  assert_int_equal(text[191], '\n');
  moerun__free(text);
  assert_int_equal(moerun__npy_open(&reader, &found, path, MOERUN_NPY_NUMBERS),
                   MOERUN_OK);
  assert_int_equal(found.dim[0], 700);
  assert_int_equal(found.dim[2], 2);
  assert_int_equal(moerun__npy_read_integers(reader, element, 0, 4200),
                   MOERUN_OK);
  for (int i = 0; i < 700 * 6; i++) {
    assert_int_equal(element[i], row[i]);
  }
  moerun__npy_close(reader);
  (void)unlink(path);
}

static void failures_of_the_writer(void **state) {
  (void)state;
  const size_t live = moerun__alloc_live();
  moerun__npy_shape shape = {MOERUN_NPY_F32, 0, {0}};
  assert_int_equal(moerun__npy_put_header(-1, &shape, "x.npy"),
                   MOERUN_ERR_INVALID);
  shape.num_dims = 1;
  assert_int_equal(moerun__npy_put_header(-1, &shape, "x.npy"),
                   MOERUN_ERR_OUTPUT);
  assert_string_equal(moerun_last_error(),
                      "x.npy: cannot be written: input/output error");
  for (long nth = 0; nth < 3; nth++) {
    moerun__npy_reader *reader = NULL;
    moerun__alloc_fail_nth(nth);
    assert_int_equal(
        moerun__npy_open(&reader, &shape, FOLDER "i4.npy", MOERUN_NPY_NUMBERS),
        MOERUN_ERR_NOMEM);
    moerun__alloc_fail_nth(-1);
    assert_null(reader);
  }
  assert_int_equal(moerun__alloc_live(), live);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(numpy_integers_are_read),
      cmocka_unit_test(numpy_floats_are_read_as_they_are),
      cmocka_unit_test(other_arrays_are_refused),
      cmocka_unit_test(hostile_headers_are_refused),
      cmocka_unit_test(the_types_that_are_wanted_are_named),
      cmocka_unit_test(rows_come_back),
      cmocka_unit_test(failures_of_the_writer),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
