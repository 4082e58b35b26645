/* safetensors files, read as hostile input: 8 bytes of header length (little
 * endian), a JSON header, then the tensors without gaps to the end of the file
 * (format of the safetensors library, whose limits are kept). Names, types,
 * shapes, offsets, their products and sums are checked before any is used.
 *
 * pread into the caller's buffer instead of mmap: a file that shrinks while it
 * is read gives a message instead of a SIGBUS, parallel file systems serve a
 * few large reads better than page faults, and the memory that loading takes is
 * exactly the caller's buffer. Each rank reads only the ranges it asks for; all
 * ranks read all headers (a few MB for the largest models). Files stay open
 * from the header's reading on, so that the ranges belong to the same bytes. */
#include "runtime/model/shard.h"

#include "runtime/base/digest.h"
#include "runtime/base/file.h"
#include "runtime/base/foreign.h"
#include "runtime/base/json.h"
#include "runtime/base/memory.h"
#include "runtime/base/number.h"
#include "runtime/model/shard_folder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "weights are little endian and are read as they are"
#endif

enum {
  MAX_HEADER_BYTES = 100000000, /* as in the reference implementation */
  MAX_INDEX_BYTES = 100000000,
  LENGTH_BYTES = 8,
};

typedef struct shard_file {
  char *path;
  char *base;  /* the part of path after the directory */
  char *names; /* the names of this file's tensors, one after the other */
  int descriptor;
  int64_t bytes;
  size_t names_bytes;
  size_t num_tensors;
} shard_file;

struct moerun__shards {
  char *directory;
  char *index_path; /* NULL: a single file without an index */
  int32_t num_files;
  shard_file *files; /* [num_files] */
  size_t num_tensors;
  moerun__tensor *tensors; /* [num_tensors] ascending by name */
};

/* Exactly `bytes` bytes. */
static moerun_status read_at(void *buffer, const shard_file *file,
                             int64_t offset, size_t bytes) {
  moerun_status status = MOERUN_OK;
  size_t got = 0;
  MOERUN_TRY(moerun__file_get(&got, buffer, bytes, file->descriptor, offset,
                              file->path));
  MOERUN_REQUIRE(got == bytes, MOERUN_ERR_IO,
                 "%s: cannot be read: it shrank meanwhile", file->path);
done:
  return status;
}

/* ---- One header ---------------------------------------------------------- */

/* shape, and *elements = its product. */
static moerun_status read_shape(moerun__tensor *tensor, int64_t *elements,
                                const json_t *shape, const char *origin) {
  moerun_status status = MOERUN_OK;
  const size_t num_dims = json_array_size(shape);
  *elements = 1;
  MOERUN_REQUIRE(json_is_array(shape) && num_dims <= INT32_MAX,
                 MOERUN_ERR_FORMAT,
                 "%s: tensor \"%s\": shape: expected an array, found %s",
                 origin, tensor->name, moerun__json_kind(shape));
  tensor->num_dims = (int32_t)num_dims;
  for (size_t d = 0; d < num_dims; d++) {
    const json_t *item = json_array_get(shape, d);
    const int64_t size = json_integer_value(item);
    MOERUN_REQUIRE(json_is_integer(item), MOERUN_ERR_FORMAT,
                   "%s: tensor \"%s\": shape: expected integers, found %s",
                   origin, tensor->name, moerun__json_kind(item));
    MOERUN_REQUIRE(size >= 0, MOERUN_ERR_FORMAT,
                   "%s: tensor \"%s\": shape: expected sizes of at least 0, "
                   "found %lld",
                   origin, tensor->name, (long long)size);
    MOERUN_REQUIRE(size == 0 || *elements <= INT64_MAX / 64 / size,
                   MOERUN_ERR_FORMAT,
                   "%s: tensor \"%s\": shape: the product of the sizes does "
                   "not fit 64 bits",
                   origin, tensor->name);
    *elements *= size;
    if (d < MOERUN_SHARD_DIMS) tensor->shape[d] = size;
  }
done:
  return status;
}

/* data_offsets, relative to `begin`, the end of the header. */
static moerun_status read_offsets(moerun__tensor *tensor, const json_t *offsets,
                                  int64_t begin, const shard_file *file) {
  moerun_status status = MOERUN_OK;
  const int64_t limit = file->bytes - begin;
  MOERUN_REQUIRE(json_is_array(offsets) && json_array_size(offsets) == 2,
                 MOERUN_ERR_FORMAT,
                 "%s: tensor \"%s\": data_offsets: expected an array of two "
                 "integers, found %s",
                 file->path, tensor->name, moerun__json_kind(offsets));
  const json_t *begins = json_array_get(offsets, 0);
  const json_t *ends = json_array_get(offsets, 1);
  MOERUN_REQUIRE(
      json_is_integer(begins) && json_is_integer(ends), MOERUN_ERR_FORMAT,
      "%s: tensor \"%s\": data_offsets: expected two integers, found "
      "%s and %s",
      file->path, tensor->name, moerun__json_kind(begins),
      moerun__json_kind(ends));
  const int64_t first = json_integer_value(begins);
  const int64_t last = json_integer_value(ends);
  MOERUN_REQUIRE(first >= 0 && first <= last && last <= limit,
                 MOERUN_ERR_FORMAT,
                 "%s: tensor \"%s\": data_offsets: expected 0 <= begin <= end "
                 "<= %lld (the file's end), found [%lld, %lld]",
                 file->path, tensor->name, (long long)limit, (long long)first,
                 (long long)last);
  tensor->offset = begin + first;
  tensor->bytes = last - first;
done:
  return status;
}

static moerun_status read_tensor(moerun__tensor *tensor, const json_t *entry,
                                 int64_t begin, const shard_file *file) {
  moerun_status status = MOERUN_OK;
  int64_t elements = 0;
  MOERUN_REQUIRE(json_is_object(entry), MOERUN_ERR_FORMAT,
                 "%s: tensor \"%s\": expected an object, found %s", file->path,
                 tensor->name, moerun__json_kind(entry));
  const json_t *dtype = json_object_get(entry, "dtype");
  MOERUN_REQUIRE(json_is_string(dtype), MOERUN_ERR_FORMAT,
                 "%s: tensor \"%s\": dtype: expected a string, found %s",
                 file->path, tensor->name, moerun__json_kind(dtype));
  (void)snprintf(tensor->dtype, sizeof tensor->dtype, "%s",
                 json_string_value(dtype));
  MOERUN_TRY(read_shape(tensor, &elements, json_object_get(entry, "shape"),
                        file->path));
  MOERUN_TRY(read_offsets(tensor, json_object_get(entry, "data_offsets"), begin,
                          file));
  const int64_t bits = moerun__tensor_bits(json_string_value(dtype));
  const int64_t expected = elements * bits / 8;
  MOERUN_REQUIRE(bits == 0 || tensor->bytes == expected, MOERUN_ERR_FORMAT,
                 "%s: tensor \"%s\": data_offsets: expected %lld bytes for its "
                 "shape and type, found %lld",
                 file->path, tensor->name, (long long)expected,
                 (long long)tensor->bytes);
done:
  return status;
}

static uint64_t read_length(const char *bytes) {
  uint64_t value = 0;
  for (int i = LENGTH_BYTES - 1; i >= 0; i--) {
    value = value << 8 | (unsigned char)bytes[i];
  }
  return value;
}

/* Says so if the file is a pointer, a page or weights of another format. What
 * could be a length and a header is not asked for: a length may begin with any
 * two bytes, those of a pickle or of an archive too. */
static moerun_status refuse_foreign(const shard_file *file) {
  moerun_status status = MOERUN_OK;
  char start[MOERUN_FOREIGN_START];
  char name[MOERUN_FOREIGN_TEXT];
  size_t got = 0;
  MOERUN_TRY(moerun__file_get(&got, start, sizeof start, file->descriptor, 0,
                              file->path));
  if (got > LENGTH_BYTES && start[LENGTH_BYTES] == '{' &&
      read_length(start) <= MAX_HEADER_BYTES) {
    goto done;
  }
  MOERUN_REQUIRE(!moerun__foreign_weights(name, start, got), MOERUN_ERR_FORMAT,
                 "%s: expected a safetensors file, found %s", file->path, name);
done:
  return status;
}

/* Opens the file and reads its header as text (with its length). */
static moerun_status read_header(char **text, int64_t *header_bytes,
                                 shard_file *file) {
  moerun_status status = MOERUN_OK;
  char length[LENGTH_BYTES];
  MOERUN_TRY(moerun__file_open(&file->descriptor, &file->bytes, file->path, 0));
  MOERUN_TRY(refuse_foreign(file));
  MOERUN_REQUIRE(file->bytes >= LENGTH_BYTES, MOERUN_ERR_FORMAT,
                 "%s: expected at least %d bytes, found %lld", file->path,
                 LENGTH_BYTES, (long long)file->bytes);
  MOERUN_TRY(read_at(length, file, 0, LENGTH_BYTES));
  const uint64_t value = read_length(length);
  const int64_t most = file->bytes - LENGTH_BYTES;
  const int64_t limit = most < MAX_HEADER_BYTES ? most : MAX_HEADER_BYTES;
  MOERUN_REQUIRE(value <= (uint64_t)limit, MOERUN_ERR_FORMAT,
                 "%s: header length: expected at most %lld bytes, found %llu",
                 file->path, (long long)limit, (unsigned long long)value);
  *header_bytes = (int64_t)value;
  MOERUN_TRY(moerun__alloc_unset(text, (size_t)value + 1, 1));
  MOERUN_TRY(read_at(*text, file, LENGTH_BYTES, (size_t)value));
done:
  return status;
}

typedef struct span {
  int64_t begin;
  int64_t end;
  size_t tensor;
} span;

static int by_place(const void *left, const void *right) {
  const span *a = left;
  const span *b = right;
  if (a->begin != b->begin) return a->begin < b->begin ? -1 : 1;
  if (a->end != b->end) return a->end < b->end ? -1 : 1;
  return (a->tensor > b->tensor) - (a->tensor < b->tensor);
}

/* Tensors cover the file from the header's end to its own end, each byte
 * once. */
static moerun_status check_cover(const moerun__tensor *tensors, int64_t begin,
                                 const shard_file *file) {
  moerun_status status = MOERUN_OK;
  span *spans = NULL;
  MOERUN_TRY(moerun__alloc(&spans, file->num_tensors, sizeof *spans));
  for (size_t i = 0; i < file->num_tensors; i++) {
    spans[i].begin = tensors[i].offset - begin;
    spans[i].end = spans[i].begin + tensors[i].bytes;
    spans[i].tensor = i;
  }
  qsort(spans, file->num_tensors, sizeof *spans, by_place);
  int64_t at = 0;
  for (size_t i = 0; i < file->num_tensors; i++) {
    MOERUN_REQUIRE(spans[i].begin == at, MOERUN_ERR_FORMAT,
                   "%s: tensor \"%s\": data_offsets: expected to begin at %lld "
                   "(no gaps, no overlaps), found %lld",
                   file->path, tensors[spans[i].tensor].name, (long long)at,
                   (long long)spans[i].begin);
    at = spans[i].end;
  }
  MOERUN_REQUIRE(
      at == file->bytes - begin, MOERUN_ERR_FORMAT,
      "%s: expected the last tensor to end at the file's end (%lld), "
      "found %lld",
      file->path, (long long)(file->bytes - begin), (long long)at);
done:
  moerun__free(spans);
  return status;
}

static const char metadata_key[] = "__metadata__";

/* Strings by name, as the format has it; they are not used. */
static moerun_status check_metadata(json_t *metadata, const char *path) {
  moerun_status status = MOERUN_OK;
  const char *key = NULL;
  json_t *value = NULL;
  MOERUN_REQUIRE(json_is_object(metadata), MOERUN_ERR_FORMAT,
                 "%s: \"%s\": expected an object of strings, found %s", path,
                 metadata_key, moerun__json_kind(metadata));
  json_object_foreach(metadata, key, value) {
    MOERUN_REQUIRE(json_is_string(value), MOERUN_ERR_FORMAT,
                   "%s: \"%s\": key \"%.64s\": expected a string, found %s",
                   path, metadata_key, key, moerun__json_kind(value));
  }
done:
  return status;
}

/* Appends the tensors of the parsed header to the table. */
static moerun_status add_tensors(moerun__shards *shards, int32_t index,
                                 json_t *header, int64_t begin) {
  moerun_status status = MOERUN_OK;
  shard_file *file = &shards->files[index];
  const char *key = NULL;
  json_t *entry = NULL;
  size_t names_bytes = 0;
  size_t count = 0;
  json_object_foreach(header, key, entry) {
    if (strcmp(key, metadata_key) == 0) {
      MOERUN_TRY(check_metadata(entry, file->path));
      continue;
    }
    names_bytes += strlen(key) + 1;
    count++;
  }
  file->num_tensors = count;
  file->names_bytes = names_bytes;
  MOERUN_TRY(moerun__alloc(&file->names, names_bytes, 1));
  MOERUN_TRY(moerun__resize(&shards->tensors, shards->num_tensors,
                            shards->num_tensors + count,
                            sizeof *shards->tensors));
  moerun__tensor *tensors = shards->tensors + shards->num_tensors;
  shards->num_tensors += count;
  char *name = file->names;
  count = 0;
  json_object_foreach(header, key, entry) {
    if (strcmp(key, metadata_key) == 0) continue;
    const size_t bytes = strlen(key) + 1;
    memcpy(name, key, bytes);
    tensors[count].name = name;
    tensors[count].file = index;
    MOERUN_TRY(read_tensor(&tensors[count], entry, begin, file));
    name += bytes;
    count++;
  }
  MOERUN_TRY(check_cover(tensors, begin, file));
done:
  return status;
}

static moerun_status load_file(moerun__shards *shards, int32_t index) {
  moerun_status status = MOERUN_OK;
  shard_file *file = &shards->files[index];
  char *text = NULL;
  json_t *header = NULL;
  int64_t header_bytes = 0;
  MOERUN_TRY(read_header(&text, &header_bytes, file));
  MOERUN_TRY(
      moerun__json_parse(&header, text, (size_t)header_bytes, file->path));
  MOERUN_REQUIRE(json_is_object(header), MOERUN_ERR_FORMAT,
                 "%s: header: expected a JSON object, found %s", file->path,
                 moerun__json_kind(header));
  MOERUN_TRY(add_tensors(shards, index, header, LENGTH_BYTES + header_bytes));
done:
  json_decref(header);
  moerun__free(text);
  return status;
}

/* ---- The directory ------------------------------------------------------- */

static moerun_status join(char **out, const char *directory, const char *name) {
  moerun_status status = MOERUN_OK;
  const size_t bytes = strlen(directory) + strlen(name) + 2;
  MOERUN_TRY(moerun__alloc(out, bytes, 1));
  (void)snprintf(*out, bytes, "%s/%s", directory, name);
done:
  return status;
}

static moerun_status add_file(moerun__shards *shards, const char *name) {
  moerun_status status = MOERUN_OK;
  const int32_t index = shards->num_files;
  MOERUN_TRY(moerun__resize(&shards->files, (size_t)index, (size_t)index + 1,
                            sizeof *shards->files));
  shards->num_files++;
  shards->files[index].descriptor = -1;
  MOERUN_TRY(join(&shards->files[index].path, shards->directory, name));
  shards->files[index].base =
      shards->files[index].path + strlen(shards->directory) + 1;
done:
  return status;
}

static int32_t find_file(const moerun__shards *shards, const char *name) {
  for (int32_t f = 0; f < shards->num_files; f++) {
    if (strcmp(shards->files[f].base, name) == 0) return f;
  }
  return -1;
}

/* The distinct files that weight_map names. A name is one inside the
 * directory: no separators, not "." or "..". */
static moerun_status list_files(moerun__shards *shards, json_t *weight_map) {
  moerun_status status = MOERUN_OK;
  const char *key = NULL;
  json_t *value = NULL;
  const char *origin = shards->index_path;
  json_object_foreach(weight_map, key, value) {
    const char *name = json_string_value(value);
    MOERUN_REQUIRE(name != NULL, MOERUN_ERR_FORMAT,
                   "%s: tensor \"%s\": expected a file name, found %s", origin,
                   key, moerun__json_kind(value));
    MOERUN_REQUIRE(name[0] != '\0' && strchr(name, '/') == NULL &&
                       strcmp(name, ".") != 0 && strcmp(name, "..") != 0,
                   MOERUN_ERR_FORMAT,
                   "%s: tensor \"%s\": expected a file in the same directory, "
                   "found \"%s\"",
                   origin, key, name);
    if (find_file(shards, name) >= 0) continue;
    MOERUN_REQUIRE(shards->num_files < MOERUN_SHARD_FILES, MOERUN_ERR_FORMAT,
                   "%s: expected at most %d files", origin, MOERUN_SHARD_FILES);
    MOERUN_TRY(add_file(shards, name));
  }
  MOERUN_REQUIRE(shards->num_files > 0, MOERUN_ERR_FORMAT,
                 "%s: key \"weight_map\": expected at least one tensor",
                 origin);
done:
  return status;
}

/* A download that was broken off leaves out whole files. */
static moerun_status require_files(const moerun__shards *shards) {
  moerun_status status = MOERUN_OK;
  int32_t missing = 0;
  const char *first = NULL;
  for (int32_t f = 0; f < shards->num_files; f++) {
    if (moerun__file_exists(shards->files[f].path)) continue;
    if (first == NULL) first = shards->files[f].base;
    missing++;
  }
  MOERUN_REQUIRE(missing == 0, MOERUN_ERR_IO,
                 "%s: names %s, which is not there (%d of %d files are): "
                 "download the checkpoint again",
                 shards->index_path, first, shards->num_files - missing,
                 shards->num_files);
done:
  return status;
}

/* Each tensor is where the index says. */
static moerun_status check_index(const moerun__shards *shards,
                                 json_t *weight_map) {
  moerun_status status = MOERUN_OK;
  const char *key = NULL;
  json_t *value = NULL;
  json_object_foreach(weight_map, key, value) {
    const moerun__tensor *tensor = moerun__shards_find(shards, key);
    MOERUN_REQUIRE(tensor != NULL, MOERUN_ERR_FORMAT,
                   "%s: tensor \"%s\": expected in %s, found in no file",
                   shards->index_path, key, json_string_value(value));
    MOERUN_REQUIRE(
        strcmp(shards->files[tensor->file].base, json_string_value(value)) == 0,
        MOERUN_ERR_FORMAT, "%s: tensor \"%s\": expected in %s, found in %s",
        shards->index_path, key, json_string_value(value),
        shards->files[tensor->file].base);
  }
done:
  return status;
}

static int by_name(const void *left, const void *right) {
  const moerun__tensor *a = left;
  const moerun__tensor *b = right;
  return strcmp(a->name, b->name);
}

static moerun_status sort_tensors(moerun__shards *shards) {
  moerun_status status = MOERUN_OK;
  moerun__tensor *tensors = shards->tensors;
  qsort(tensors, shards->num_tensors, sizeof *tensors, by_name);
  for (size_t i = 1; i < shards->num_tensors; i++) {
    MOERUN_REQUIRE(strcmp(tensors[i - 1].name, tensors[i].name) != 0,
                   MOERUN_ERR_FORMAT,
                   "%s: tensor \"%s\": expected in one file, found also in %s",
                   shards->files[tensors[i].file].path, tensors[i].name,
                   shards->files[tensors[i - 1].file].base);
  }
done:
  return status;
}

moerun_status moerun__shards_load(moerun__shards **out, const char *path) {
  moerun_status status = MOERUN_OK;
  moerun__shards *shards = NULL;
  json_t *index = NULL;
  json_t *weight_map = NULL;
  char *single = NULL;
  *out = NULL;
  MOERUN_TRY(moerun__alloc(&shards, 1, sizeof *shards));
  MOERUN_TRY(moerun__copy_text(&shards->directory, path));
  MOERUN_TRY(join(&single, path, "model.safetensors"));
  if (moerun__file_exists(
          single)) { /* preferred to an index, as in Hugging Face */
    MOERUN_TRY(add_file(shards, "model.safetensors"));
  } else {
    MOERUN_TRY(join(&shards->index_path, path, "model.safetensors.index.json"));
    if (!moerun__file_exists(shards->index_path)) {
      MOERUN_TRY(moerun__shards_explain(path));
    }
    MOERUN_TRY(moerun__json_load(&index, shards->index_path, MAX_INDEX_BYTES));
    MOERUN_TRY(moerun__json_object(&weight_map, index, "weight_map",
                                   shards->index_path));
    MOERUN_TRY(list_files(shards, weight_map));
    MOERUN_TRY(require_files(shards));
  }
  for (int32_t f = 0; f < shards->num_files; f++) {
    MOERUN_TRY(load_file(shards, f));
  }
  MOERUN_TRY(sort_tensors(shards));
  if (weight_map != NULL) MOERUN_TRY(check_index(shards, weight_map));
  *out = shards;
  shards = NULL;
done:
  json_decref(index);
  moerun__free(single);
  moerun__shards_destroy(shards);
  return status;
}

void moerun__shards_destroy(moerun__shards *shards) {
  if (shards == NULL) return;
  for (int32_t f = 0; f < shards->num_files; f++) {
    shard_file *file = &shards->files[f];
    if (file->descriptor >= 0) (void)close(file->descriptor);
    moerun__free(file->names);
    moerun__free(file->path);
  }
  moerun__free(shards->files);
  moerun__free(shards->tensors);
  moerun__free(shards->index_path);
  moerun__free(shards->directory);
  moerun__free(shards);
}

size_t moerun__shards_bytes(const moerun__shards *shards) {
  size_t bytes =
      moerun__alloc_bytes(1, sizeof *shards) +
      moerun__alloc_bytes(strlen(shards->directory) + 1, 1) +
      moerun__alloc_bytes((size_t)shards->num_files, sizeof *shards->files) +
      moerun__alloc_bytes(shards->num_tensors, sizeof *shards->tensors);
  if (shards->index_path != NULL) {
    bytes += moerun__alloc_bytes(strlen(shards->index_path) + 1, 1);
  }
  for (int32_t f = 0; f < shards->num_files; f++) {
    const shard_file *file = &shards->files[f];
    bytes += moerun__alloc_bytes(strlen(file->path) + 1, 1) +
             moerun__alloc_bytes(file->names_bytes, 1);
  }
  return bytes;
}

/* ---- Tensors ------------------------------------------------------------- */

const moerun__tensor *moerun__shards_find(const moerun__shards *shards,
                                          const char *name) {
  const moerun__tensor key = {.name = name};
  if (shards->num_tensors == 0) return NULL;
  return bsearch(&key, shards->tensors, shards->num_tensors, sizeof key,
                 by_name);
}

const moerun__tensor *moerun__shards_at(const moerun__shards *shards,
                                        size_t i) {
  return i < shards->num_tensors ? &shards->tensors[i] : NULL;
}

const char *moerun__shards_file(const moerun__shards *shards,
                                const moerun__tensor *tensor) {
  return shards->files[tensor->file].path;
}

uint64_t moerun__shards_digest(const moerun__shards *shards) {
  uint64_t hash = MOERUN_DIGEST_START;
  for (size_t i = 0; i < shards->num_tensors; i++) {
    const moerun__tensor *tensor = &shards->tensors[i];
    hash = moerun__digest_text(hash, tensor->name);
    hash = moerun__digest_text(hash, tensor->dtype);
    hash = moerun__digest_int(hash, tensor->num_dims);
    for (int d = 0; d < MOERUN_SHARD_DIMS; d++) {
      hash = moerun__digest_int(hash, tensor->shape[d]);
    }
  }
  return hash;
}

moerun_status moerun__shards_read(void *buffer, const moerun__shards *shards,
                                  const moerun__tensor *tensor, int64_t first,
                                  int64_t count) {
  moerun_status status = MOERUN_OK;
  const shard_file *file = &shards->files[tensor->file];
  MOERUN_REQUIRE(first >= 0 && count >= 0 && first <= tensor->bytes &&
                     count <= tensor->bytes - first,
                 MOERUN_ERR_INVALID,
                 "%s: tensor \"%s\": bytes %lld + %lld are not within its %lld",
                 file->path, tensor->name, (long long)first, (long long)count,
                 (long long)tensor->bytes);
  MOERUN_TRY(read_at(buffer, file, tensor->offset + first, (size_t)count));
done:
  return status;
}
