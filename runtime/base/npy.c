/* The format (NEP 1): the six bytes \x93NUMPY, version, header length, then a
 * Python dictionary literal and the raw elements. The literal is parsed by a
 * small scanner that knows exactly the three keys; all lengths are checked
 * against the size of the file before anything is allocated or read. An array
 * in Fortran order is read as a whole when it is opened, because its elements
 * stand in the file in another order than callers ask for; of all others only
 * the parts asked for are read. */
#include "runtime/base/npy.h"

#include "runtime/base/file.h"
#include "runtime/base/foreign.h"
#include "runtime/base/memory.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "elements are copied as they are in the file");

enum {
  MAGIC_BYTES = 6,
  MAX_HEADER = 65536,
  WRITTEN_HEADER = 192, /* a multiple of 64, room for four 64-bit numbers */
  CHUNK = 4096,         /* bytes widened at a time */
};

static const char magic[] = "\x93NUMPY";

struct moerun__npy_reader {
  int file; /* -1: it is in memory */
  const char *content;
  size_t bytes; /* of content */
  char *path;
  int64_t start; /* of the elements, in the file */
  int64_t count;
  moerun__npy_type type;
  int is_swapped; /* big-endian */
  int is_fortran; /* until `elements` has them in C order */
  char *elements; /* NULL: they are read from the file */
};

size_t moerun__npy_type_bytes(moerun__npy_type type) {
  switch (type) {
#define TYPE_BYTES(name, text, bytes)                                          \
  case MOERUN_NPY_##name: return bytes;
    MOERUN_NPY_MAP(TYPE_BYTES)
#undef TYPE_BYTES
  }
  return 0;
}

const char *moerun__npy_type_name(moerun__npy_type type) {
  switch (type) {
#define TYPE_NAME(name, text, bytes)                                           \
  case MOERUN_NPY_##name: return text;
    MOERUN_NPY_MAP(TYPE_NAME)
#undef TYPE_NAME
  }
  return "?";
}

int64_t moerun__npy_count(const moerun__npy_shape *shape) {
  int64_t count = 1;
  for (int i = 0; i < shape->num_dims; i++) {
    count *= shape->dim[i];
  }
  return count;
}

/* ---- The dictionary ------------------------------------------------------ */

typedef struct scanner {
  const char *at; /* the text ends in NUL */
} scanner;

static void skip_blanks(scanner *s) {
  while (*s->at == ' ' || *s->at == '\n' || *s->at == '\t') {
    s->at++;
  }
}

/* Whether `c` comes next (after blanks); then it is passed. */
static int take(scanner *s, char c) {
  skip_blanks(s);
  if (*s->at != c) return 0;
  s->at++;
  return 1;
}

/* A quoted string of fewer than `room` characters; 0 if there is none. */
static int take_string(scanner *s, char *out, size_t room) {
  skip_blanks(s);
  const char quote = *s->at;
  if (quote != '\'' && quote != '"') return 0;
  const char *end = strchr(s->at + 1, quote);
  if (end == NULL || (size_t)(end - s->at - 1) >= room) return 0;
  const size_t length = (size_t)(end - s->at - 1);
  memcpy(out, s->at + 1, length);
  out[length] = '\0';
  s->at = end + 1;
  return 1;
}

static int take_word(scanner *s, const char *word) {
  skip_blanks(s);
  const size_t length = strlen(word);
  if (strncmp(s->at, word, length) != 0) return 0;
  s->at += length;
  return 1;
}

/* INT64_MAX where the number is so large or larger. */
static int take_number(scanner *s, int64_t *out) {
  skip_blanks(s);
  int64_t value = 0;
  const char *begin = s->at;
  for (; *s->at >= '0' && *s->at <= '9'; s->at++) {
    const int fits = value <= (INT64_MAX - 9) / 10;
    value = fits ? value * 10 + (*s->at - '0') : INT64_MAX;
  }
  *out = value;
  return s->at > begin;
}

static int take_shape(scanner *s, moerun__npy_shape *shape) {
  shape->num_dims = 0;
  if (!take(s, '(')) return 0;
  while (!take(s, ')')) {
    if (shape->num_dims == MOERUN_NPY_DIMS) return 0;
    if (!take_number(s, &shape->dim[shape->num_dims++])) return 0;
    if (!take(s, ',')) return take(s, ')');
  }
  return 1;
}

static int is_real(moerun__npy_type type) {
  return type == MOERUN_NPY_F32 || type == MOERUN_NPY_F64;
}

/* The type of an element, "<i4" or ">i4" or "|u1"; 0: another. */
static int find_type(moerun__npy_reader *reader, const char *text) {
  static const char *const types[] = {
#define TYPE_TEXT(name, text, bytes) text,
      MOERUN_NPY_MAP(TYPE_TEXT)
#undef TYPE_TEXT
  };
  if (text[0] == '\0' || strchr("<>|=", text[0]) == NULL) return 0;
  for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
    if (strcmp(types[i] + 1, text + 1) != 0) continue;
    reader->type = (moerun__npy_type)i;
    reader->is_swapped = text[0] == '>';
    return 1;
  }
  return 0;
}

static moerun_status read_type(moerun__npy_reader *reader, scanner *s,
                               moerun__npy_kind kind) {
  moerun_status status = MOERUN_OK;
  char type[16] = "";
  MOERUN_REQUIRE(take_string(s, type, sizeof type), MOERUN_ERR_UNSUPPORTED,
                 "%s: header: expected a plain element type", reader->path);
  const int known = find_type(reader, type);
  MOERUN_REQUIRE(
      known && (kind == MOERUN_NPY_NUMBERS || !is_real(reader->type)),
      MOERUN_ERR_FORMAT,
      "%s: expected elements that are integers of 1, 2, 4 or 8 bytes%s, found "
      "%s",
      reader->path,
      kind == MOERUN_NPY_NUMBERS ? ", or floating-point numbers of 4 or 8 bytes"
                                 : "",
      strcmp(type, "|b1") == 0 ? "|b1 (bool)" : type);
done:
  return status;
}

static moerun_status read_shape(moerun__npy_shape *shape, scanner *s,
                                const char *path) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(take_shape(s, shape), MOERUN_ERR_FORMAT,
                 "%s: header: expected a shape of at most %d dimensions", path,
                 MOERUN_NPY_DIMS);
  for (int i = 0; i < shape->num_dims; i++) {
    MOERUN_REQUIRE(shape->dim[i] < INT64_MAX, MOERUN_ERR_FORMAT,
                   "%s: header: expected a size that a file can have as "
                   "dimension %d of the shape, found 2^63 - 10 or more",
                   path, i);
  }
done:
  return status;
}

/* One "key: value"; *seen gathers one bit per key, none may come twice. */
static moerun_status take_entry(scanner *s, moerun__npy_reader *reader,
                                moerun__npy_shape *shape, unsigned *seen,
                                moerun__npy_kind kind) {
  moerun_status status = MOERUN_OK;
  char key[16] = "";
  const int named = take_string(s, key, sizeof key) && take(s, ':');
  const unsigned bit = strcmp(key, "descr") == 0           ? 1U
                       : strcmp(key, "fortran_order") == 0 ? 2U
                       : strcmp(key, "shape") == 0         ? 4U
                                                           : 0U;
  MOERUN_REQUIRE(named && bit != 0 && (*seen & bit) == 0, MOERUN_ERR_FORMAT,
                 "%s: header: expected each of the keys descr, fortran_order "
                 "and shape once, found '%s'",
                 reader->path, key);
  *seen |= bit;
  if (bit == 1U) {
    MOERUN_TRY(read_type(reader, s, kind));
  } else if (bit == 2U) {
    reader->is_fortran = take_word(s, "True");
    MOERUN_REQUIRE(
        reader->is_fortran || take_word(s, "False"), MOERUN_ERR_FORMAT,
        "%s: header: expected True or False as fortran_order", reader->path);
  } else {
    MOERUN_TRY(read_shape(shape, s, reader->path));
  }
done:
  return status;
}

static moerun_status parse_header(moerun__npy_reader *reader,
                                  moerun__npy_shape *shape, const char *text,
                                  moerun__npy_kind kind) {
  moerun_status status = MOERUN_OK;
  assert(text != NULL); /* read_header succeeded */
  scanner s = {.at = text};
  const char *path = reader->path;
  unsigned seen = 0;
  MOERUN_REQUIRE(take(&s, '{'), MOERUN_ERR_FORMAT,
                 "%s: header: expected a dictionary; was the file finished?",
                 path);
  int more = !take(&s, '}');
  while (more) {
    MOERUN_TRY(take_entry(&s, reader, shape, &seen, kind));
    const int comma = take(&s, ',');
    more = !take(&s, '}');
    MOERUN_REQUIRE(comma || !more, MOERUN_ERR_FORMAT,
                   "%s: header: expected ',' or '}'", path);
  }
  skip_blanks(&s);
  MOERUN_REQUIRE(*s.at == '\0' && seen == 7U, MOERUN_ERR_FORMAT,
                 "%s: header: expected the keys descr, fortran_order and "
                 "shape and nothing else",
                 path);
  shape->type = reader->type;
done:
  return status;
}

/* ---- Reader -------------------------------------------------------------- */

/* As moerun__file_get, from wherever the array is. */
static moerun_status get(size_t *got, void *out, size_t bytes,
                         const moerun__npy_reader *reader, int64_t offset) {
  if (reader->file >= 0) {
    return moerun__file_get(got, out, bytes, reader->file, offset,
                            reader->path);
  }
  const size_t from =
      (size_t)offset < reader->bytes ? (size_t)offset : reader->bytes;
  *got = bytes < reader->bytes - from ? bytes : reader->bytes - from;
  memcpy(out, reader->content + from, *got);
  return MOERUN_OK;
}

/* The dictionary's text into *text (NUL-terminated), its end into *start. */
static moerun_status read_header(char **text, int64_t *start,
                                 const moerun__npy_reader *reader) {
  moerun_status status = MOERUN_OK;
  const char *path = reader->path;
  unsigned char fixed[MOERUN_FOREIGN_START] = {0};
  char foreign[MOERUN_FOREIGN_TEXT] = "";
  size_t got = 0;
  MOERUN_TRY(get(&got, fixed, sizeof fixed, reader, 0));
  const int is_array = got >= 10 && memcmp(fixed, magic, MAGIC_BYTES) == 0;
  const int is_known =
      !is_array && moerun__foreign_name(foreign, (const char *)fixed, got);
  MOERUN_REQUIRE(is_array, MOERUN_ERR_FORMAT, "%s: expected a .npy file%s%s",
                 path, is_known ? ", found " : "", is_known ? foreign : "");
  const int version = fixed[6];
  MOERUN_REQUIRE(version >= 1 && version <= 3 && fixed[7] == 0,
                 MOERUN_ERR_UNSUPPORTED,
                 "%s: expected .npy version 1.0, 2.0 or 3.0, found %d.%d", path,
                 version, fixed[7]);
  const size_t prefix = version == 1 ? 10 : 12;
  uint32_t length = fixed[8] | (uint32_t)fixed[9] << 8;
  if (version > 1) { /* 3 is 2 with names of fields in UTF-8 */
    length |= (uint32_t)fixed[10] << 16 | (uint32_t)fixed[11] << 24;
  }
  MOERUN_REQUIRE(length <= MAX_HEADER, MOERUN_ERR_FORMAT,
                 "%s: expected a header of at most %d bytes, found %u", path,
                 MAX_HEADER, (unsigned)length);
  MOERUN_TRY(moerun__alloc(text, (size_t)length + 1, 1));
  MOERUN_TRY(get(&got, *text, length, reader, (int64_t)prefix));
  MOERUN_REQUIRE(got == length, MOERUN_ERR_FORMAT,
                 "%s: expected a header of %u bytes, found %zu", path,
                 (unsigned)length, got);
  MOERUN_REQUIRE(strlen(*text) == length, MOERUN_ERR_FORMAT,
                 "%s: header: expected a dictionary, found a NUL byte", path);
  *start = (int64_t)(prefix + length);
done:
  return status;
}

/* Elements of the shape, provided that they fill `bytes` bytes exactly. */
static moerun_status check_size(int64_t *count, const moerun__npy_shape *shape,
                                int64_t bytes, const char *path) {
  moerun_status status = MOERUN_OK;
  const int64_t element = (int64_t)moerun__npy_type_bytes(shape->type);
  int64_t total = 1;
  for (int i = 0; i < shape->num_dims; i++) {
    if (shape->dim[i] == 0) total = 0;
  }
  for (int i = 0; i < shape->num_dims && total > 0; i++) {
    MOERUN_REQUIRE(total <= bytes / element / shape->dim[i], MOERUN_ERR_FORMAT,
                   "%s: expected more elements than the %lld bytes behind the "
                   "header hold: the file is cut short",
                   path, (long long)bytes);
    total *= shape->dim[i];
  }
  MOERUN_REQUIRE(total * element == bytes, MOERUN_ERR_FORMAT,
                 "%s: expected %lld bytes behind the header, found %lld", path,
                 (long long)(total * element), (long long)bytes);
  *count = total;
done:
  return status;
}

/* The bytes of element i of `count`, reversed. */
static void swap_elements(char *raw, size_t count, size_t bytes) {
  for (size_t i = 0; i < count; i++) {
    char *low = raw + i * bytes;
    for (char *high = low + bytes - 1; low < high; low++, high--) {
      const char kept = *low;
      *low = *high;
      *high = kept;
    }
  }
}

/* raw[] in Fortran order into out[] in C order. */
static void reorder(char *out, const char *raw, const moerun__npy_shape *shape,
                    int64_t count, size_t bytes) {
  int64_t at[MOERUN_NPY_DIMS] = {0};
  for (int64_t i = 0; i < count; i++) {
    int64_t from = 0;
    for (int d = shape->num_dims - 1; d >= 0; d--) {
      from = from * shape->dim[d] + at[d];
    }
    memcpy(out + (size_t)i * bytes, raw + (size_t)from * bytes, bytes);
    for (int d = shape->num_dims - 1; d >= 0; d--) {
      if (++at[d] < shape->dim[d]) break;
      at[d] = 0;
    }
  }
}

/* All elements of an array in Fortran order, into reader->elements. */
static moerun_status read_fortran(moerun__npy_reader *reader,
                                  const moerun__npy_shape *shape) {
  moerun_status status = MOERUN_OK;
  const size_t bytes = moerun__npy_type_bytes(reader->type);
  char *raw = NULL;
  char *elements = NULL;
  MOERUN_TRY(moerun__alloc(&raw, (size_t)reader->count, bytes));
  MOERUN_TRY(moerun__alloc(&elements, (size_t)reader->count, bytes));
  MOERUN_TRY(moerun__npy_read(reader, raw, 0, reader->count));
  reorder(elements, raw, shape, reader->count, bytes);
  reader->elements = elements;
  elements = NULL;
done:
  moerun__free(raw);
  moerun__free(elements);
  return status;
}

/* The header and the size of an array of `bytes` bytes in all. */
static moerun_status begin(moerun__npy_reader *reader, moerun__npy_shape *shape,
                           int64_t bytes, moerun__npy_kind kind) {
  moerun_status status = MOERUN_OK;
  char *text = NULL;
  MOERUN_TRY(read_header(&text, &reader->start, reader));
  MOERUN_TRY(parse_header(reader, shape, text, kind));
  MOERUN_TRY(
      check_size(&reader->count, shape, bytes - reader->start, reader->path));
  if (reader->is_fortran && shape->num_dims > 1) {
    MOERUN_TRY(read_fortran(reader, shape));
  }
done:
  moerun__free(text);
  return status;
}

moerun_status moerun__npy_open_bytes(moerun__npy_reader **out,
                                     moerun__npy_shape *shape,
                                     const char *content, size_t bytes,
                                     const char *origin,
                                     moerun__npy_kind kind) {
  moerun_status status = MOERUN_OK;
  moerun__npy_reader *reader = NULL;
  *out = NULL;
  memset(shape, 0, sizeof *shape);
  MOERUN_TRY(moerun__alloc(&reader, 1, sizeof *reader));
  reader->file = -1;
  reader->content = content;
  reader->bytes = bytes;
  MOERUN_TRY(moerun__copy_text(&reader->path, origin));
  MOERUN_TRY(begin(reader, shape, (int64_t)bytes, kind));
  *out = reader;
  reader = NULL;
done:
  moerun__npy_close(reader);
  return status;
}

moerun_status moerun__npy_open(moerun__npy_reader **out,
                               moerun__npy_shape *shape, const char *path,
                               moerun__npy_kind kind) {
  moerun_status status = MOERUN_OK;
  moerun__npy_reader *reader = NULL;
  int64_t bytes = 0;
  *out = NULL;
  memset(shape, 0, sizeof *shape);
  MOERUN_TRY(moerun__alloc(&reader, 1, sizeof *reader));
  reader->file = -1;
  MOERUN_TRY(moerun__copy_text(&reader->path, path));
  MOERUN_TRY(moerun__file_open(&reader->file, &bytes, path, 0));
  MOERUN_TRY(begin(reader, shape, bytes, kind));
  *out = reader;
  reader = NULL;
done:
  moerun__npy_close(reader);
  return status;
}

moerun_status moerun__npy_read(const moerun__npy_reader *reader, void *out,
                               int64_t first, int64_t count) {
  moerun_status status = MOERUN_OK;
  const int64_t element = (int64_t)moerun__npy_type_bytes(reader->type);
  size_t got = 0;
  MOERUN_REQUIRE(first >= 0 && count >= 0 && first <= reader->count - count,
                 MOERUN_ERR_INVALID, "%s: elements %lld to %lld wanted of %lld",
                 reader->path, (long long)first, (long long)(first + count - 1),
                 (long long)reader->count);
  if (reader->elements != NULL) {
    memcpy(out, reader->elements + first * element, (size_t)(count * element));
    goto done;
  }
  MOERUN_TRY(get(&got, out, (size_t)(count * element), reader,
                 reader->start + first * element));
  MOERUN_REQUIRE(got == (size_t)(count * element), MOERUN_ERR_IO,
                 "%s: cannot be read: it shrank meanwhile", reader->path);
  if (reader->is_swapped) swap_elements(out, (size_t)count, (size_t)element);
done:
  return status;
}

/* The integer of `type` at `raw`. */
static int64_t widen(const char *raw, moerun__npy_type type) {
  uint64_t bits = 0;
  const size_t bytes = moerun__npy_type_bytes(type);
  memcpy(&bits, raw, bytes);
  switch (type) {
  case MOERUN_NPY_I8: return (int8_t)bits;
  case MOERUN_NPY_I16: return (int16_t)bits;
  case MOERUN_NPY_I32: return (int32_t)bits;
  default: return (int64_t)bits;
  }
}

moerun_status moerun__npy_read_integers(const moerun__npy_reader *reader,
                                        int64_t *out, int64_t first,
                                        int64_t count) {
  moerun_status status = MOERUN_OK;
  char raw[CHUNK];
  const int64_t element = (int64_t)moerun__npy_type_bytes(reader->type);
  MOERUN_REQUIRE(!is_real(reader->type), MOERUN_ERR_FORMAT,
                 "%s: expected elements of an integer type, found %s",
                 reader->path, moerun__npy_type_name(reader->type));
  memset(raw, 0, sizeof raw);
  while (count > 0) {
    const int64_t part = count < CHUNK / element ? count : CHUNK / element;
    MOERUN_TRY(moerun__npy_read(reader, raw, first, part));
    for (int64_t i = 0; i < part; i++) {
      out[i] = widen(raw + i * element, reader->type);
      MOERUN_REQUIRE(
          reader->type != MOERUN_NPY_U64 || out[i] >= 0, MOERUN_ERR_FORMAT,
          "%s: element %lld: expected at most 2^63 - 1, found %llu",
          reader->path, (long long)(first + i), (unsigned long long)out[i]);
    }
    out += part;
    first += part;
    count -= part;
  }
done:
  return status;
}

void moerun__npy_close(moerun__npy_reader *reader) {
  if (reader == NULL) return;
  if (reader->file >= 0) (void)close(reader->file);
  moerun__free(reader->path);
  moerun__free(reader->elements);
  moerun__free(reader);
}

/* ---- Writer -------------------------------------------------------------- */

moerun_status moerun__npy_put_header(int file, const moerun__npy_shape *shape,
                                     const char *path) {
  moerun_status status = MOERUN_OK;
  char header[WRITTEN_HEADER + 1] = "";
  char numbers[MOERUN_NPY_DIMS * 24] = "";
  size_t used = 0;
  MOERUN_REQUIRE(shape->num_dims >= 1 && shape->num_dims <= MOERUN_NPY_DIMS,
                 MOERUN_ERR_INVALID, "%s: an array of %d dimensions", path,
                 shape->num_dims);
  for (int i = 0; i < shape->num_dims; i++) {
    const char *gap = i + 1 < shape->num_dims ? ", " : i == 0 ? "," : "";
    used += (size_t)snprintf(numbers + used, sizeof numbers - used, "%lld%s",
                             (long long)shape->dim[i], gap);
  }
  const int length = WRITTEN_HEADER - MAGIC_BYTES - 4;
  memcpy(header, magic, MAGIC_BYTES);
  header[MAGIC_BYTES] = 1;
  header[MAGIC_BYTES + 2] = (char)(length & 0xff);
  header[MAGIC_BYTES + 3] = (char)(length >> 8);
  char *dictionary = header + MAGIC_BYTES + 4;
  const int used_by_text =
      snprintf(dictionary, (size_t)length,
               "{'descr': '%s', 'fortran_order': False, 'shape': (%s), }",
               moerun__npy_type_name(shape->type), numbers);
  memset(dictionary + used_by_text, ' ', (size_t)(length - used_by_text));
  dictionary[length - 1] = '\n';
  MOERUN_TRY(moerun__file_put(file, header, WRITTEN_HEADER, path));
done:
  return status;
}
