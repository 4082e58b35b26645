/* Checkpoint files as hostile input: headers, indexes and reads. */
#include "runtime/base/file.h"
#include "runtime/base/memory.h"
#include "runtime/model/shard.h"
#include "support/cmocka.h"
#include "support/dtype_names.h"
#include "support/temp_dir.h"

#include <sys/stat.h>

enum { MOST_BYTES = 8192, LINE = 2 * TEMP_PATH };

static const char single[] = "model.safetensors";
static const char index_name[] = "model.safetensors.index.json";

/* Length, header, then `tail` bytes 0, 1, 2, … */
static size_t compose(unsigned char *out, const char *header, size_t tail) {
  const size_t length = strlen(header);
  assert_true(8 + length + tail <= MOST_BYTES);
  for (int i = 0; i < 8; i++) {
    out[i] = (unsigned char)(length >> (8 * i));
  }
  memcpy(out + 8, header, length);
  for (size_t i = 0; i < tail; i++) {
    out[8 + length + i] = (unsigned char)i;
  }
  return 8 + length + tail;
}

static void write_bytes(const temp_dir *dir, const char *name,
                        const void *bytes, size_t count) {
  char path[TEMP_PATH];
  assert_int_equal(moerun__file_write(temp_path(path, dir, name), bytes, count),
                   MOERUN_OK);
}

static void write_shard(const temp_dir *dir, const char *name,
                        const char *header, size_t tail) {
  unsigned char bytes[MOST_BYTES];
  write_bytes(dir, name, bytes, compose(bytes, header, tail));
}

static void write_text(const temp_dir *dir, const char *name,
                       const char *text) {
  write_bytes(dir, name, text, strlen(text));
}

/* Loading fails and the message is dir/name followed by `rest`. */
static void expect_refusal(const temp_dir *dir, const char *name,
                           const char *rest) {
  moerun__shards *shards = NULL;
  char line[LINE];
  const size_t live = moerun__alloc_live();
  const moerun_status status = moerun__shards_load(&shards, dir->path);
  (void)snprintf(line, sizeof line, "%s/%s%s", dir->path, name, rest);
  assert_string_equal(moerun_last_error(), line);
  assert_true(status == MOERUN_ERR_FORMAT || status == MOERUN_ERR_IO);
  assert_null(shards);
  assert_int_equal(moerun__alloc_live(), live);
}

static void tensors_are_found_and_read(void **state) {
  (void)state;
  temp_dir dir;
  moerun__shards *shards = NULL;
  unsigned char bytes[16];
  assert_true(temp_dir_create(&dir));
  write_shard(&dir, single,
              "{\"__metadata__\":{\"format\":\"pt\"},"
              "\"b\":{\"dtype\":\"F32\",\"shape\":[2,1],"
              "\"data_offsets\":[6,14]},"
              "\"a\":{\"dtype\":\"BF16\",\"shape\":[3],"
              "\"data_offsets\":[0,6]},"
              "\"empty\":{\"dtype\":\"F16\",\"shape\":[0,9],"
              "\"data_offsets\":[14,14]},"
              "\"scalar\":{\"dtype\":\"I64\",\"shape\":[],"
              "\"data_offsets\":[14,22]},"
              "\"later\":{\"dtype\":\"F4_NEW\",\"shape\":[1,1,1,1,5],"
              "\"data_offsets\":[22,25]}}  ",
              25);
  const size_t before = moerun__alloc_live_bytes();
  assert_int_equal(moerun__shards_load(&shards, dir.path), MOERUN_OK);
  assert_int_equal(moerun__alloc_live_bytes() - before,
                   moerun__shards_bytes(shards));
  const moerun__tensor *a = moerun__shards_find(shards, "a");
  const moerun__tensor *b = moerun__shards_find(shards, "b");
  assert_non_null(a);
  assert_non_null(b);
  assert_null(moerun__shards_find(shards, "c"));
  assert_null(moerun__shards_find(shards, "__metadata__"));
  assert_string_equal(moerun__shards_at(shards, 3)->name, "later");
  assert_int_equal(moerun__shards_at(shards, 3)->num_dims, 5);
  assert_null(moerun__shards_at(shards, 5));
  assert_string_equal(a->dtype, "BF16");
  assert_int_equal(b->num_dims, 2);
  assert_true(b->shape[0] == 2 && b->shape[1] == 1 && b->bytes == 8);
  assert_int_equal(moerun__shards_read(bytes, shards, b, 3, 5), MOERUN_OK);
  for (int i = 0; i < 5; i++) {
    assert_int_equal(bytes[i], 6 + 3 + i);
  }
  assert_int_equal(moerun__shards_read(bytes, shards, b, 8, 0), MOERUN_OK);
  assert_int_equal(moerun__shards_read(bytes, shards, b, 4, 5),
                   MOERUN_ERR_INVALID);
  assert_int_equal(moerun__shards_read(bytes, shards, b, -1, 1),
                   MOERUN_ERR_INVALID);
  moerun__shards_destroy(shards);
  temp_dir_remove(&dir);
}

static void types_and_shapes_are_checked(void **state) {
  (void)state;
  static const struct {
    const char *name;
    int64_t shape[4];
    int num_dims;
    const char *rest;
  } cases[] = {
      {"a", {32, 128}, 2, ": tensor \"a\": expected [32, 128], found [3, 2]"},
      {"a", {3}, 1, ": tensor \"a\": expected [3], found [3, 2]"},
      {"a", {2, 3}, 2, ": tensor \"a\": expected [2, 3], found [3, 2]"},
      {"i",
       {2},
       1,
       ": tensor \"i\": expected " DTYPE_NAMES ", found I8 of quantised "
       "weights, which are not read: take a checkpoint that is not quantised"},
      {"wide",
       {1},
       1,
       ": tensor \"wide\": expected " DTYPE_NAMES ", found F64"},
      {"deep",
       {1, 1, 1},
       3,
       ": tensor \"deep\": expected [1, 1, 1], found [1, 1, 1, 1, ...]"},
  };
  temp_dir dir;
  moerun__shards *shards = NULL;
  moerun__dtype dtype = MOERUN_DTYPE_F32;
  assert_true(temp_dir_create(&dir));
  write_shard(&dir, single,
              "{\"a\":{\"dtype\":\"F16\",\"shape\":[3,2],"
              "\"data_offsets\":[0,12]},"
              "\"i\":{\"dtype\":\"I8\",\"shape\":[2],"
              "\"data_offsets\":[12,14]},"
              "\"deep\":{\"dtype\":\"F16\",\"shape\":[1,1,1,1,1],"
              "\"data_offsets\":[14,16]},"
              "\"wide\":{\"dtype\":\"F64\",\"shape\":[1],"
              "\"data_offsets\":[16,24]}}",
              24);
  assert_int_equal(moerun__shards_load(&shards, dir.path), MOERUN_OK);
  const int64_t right[] = {3, 2};
  assert_int_equal(moerun__tensor_check(&dtype, shards,
                                        moerun__shards_find(shards, "a"), right,
                                        2),
                   MOERUN_OK);
  assert_int_equal(dtype, MOERUN_DTYPE_F16);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char line[LINE];
    const moerun__tensor *tensor = moerun__shards_find(shards, cases[i].name);
    assert_true(moerun__tensor_check(&dtype, shards, tensor, cases[i].shape,
                                     cases[i].num_dims) != MOERUN_OK);
    (void)snprintf(line, sizeof line, "%s/%s%s", dir.path, single,
                   cases[i].rest);
    assert_string_equal(moerun_last_error(), line);
  }
  moerun__shards_destroy(shards);
  temp_dir_remove(&dir);
}

#define TENSOR(name, dtype, shape, offsets)                                    \
  "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape                     \
  ",\"data_offsets\":" offsets "}"

static void hostile_headers_are_refused(void **state) {
  (void)state;
  static const struct {
    const char *header;
    size_t tail;
    const char *rest;
  } cases[] = {
      {"[1]", 0, ": header: expected a JSON object, found an array"},
      {"{\"a\":3}", 0, ": tensor \"a\": expected an object, found an integer"},
      {"{\"a\":{\"shape\":[],\"data_offsets\":[0,4]}}", 4,
       ": tensor \"a\": dtype: expected a string, found nothing"},
      {"{\"a\":{\"dtype\":16,\"shape\":[],\"data_offsets\":[0,4]}}", 4,
       ": tensor \"a\": dtype: expected a string, found an integer"},
      {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4,
       ": tensor \"a\": shape: expected an array, found nothing"},
      {"{" TENSOR("a", "F32", "4", "[0,4]") "}", 4,
       ": tensor \"a\": shape: expected an array, found an integer"},
      {"{" TENSOR("a", "F32", "[-1]", "[0,4]") "}", 4,
       ": tensor \"a\": shape: expected sizes of at least 0, found -1"},
      {"{" TENSOR("a", "F32", "[1.5]", "[0,4]") "}", 4,
       ": tensor \"a\": shape: expected integers, found a real number"},
      {"{" TENSOR("a", "F32", "[4294967296,4294967296]", "[0,4]") "}", 4,
       ": tensor \"a\": shape: the product of the sizes does not fit 64 bits"},
      {"{" TENSOR("a", "F32", "[9223372036854775807]", "[0,4]") "}", 4,
       ": tensor \"a\": shape: the product of the sizes does not fit 64 bits"},
      {"{" TENSOR("a", "F32", "[1]", "[0]") "}", 4,
       ": tensor \"a\": data_offsets: expected an array of two integers, found "
       "an array"},
      {"{" TENSOR("a", "F32", "[1]", "[0,4.0]") "}", 4,
       ": tensor \"a\": data_offsets: expected two integers, found an integer "
       "and a real number"},
      {"{" TENSOR("a", "F32", "[1]", "null") "}", 4,
       ": tensor \"a\": data_offsets: expected an array of two integers, found "
       "null"},
      {"{" TENSOR("a", "F32", "[1]", "[0,8]") "}", 4,
       ": tensor \"a\": data_offsets: expected 0 <= begin <= end <= 4 (the "
       "file's end), found [0, 8]"},
      {"{" TENSOR("a", "F32", "[1]", "[4,0]") "}", 4,
       ": tensor \"a\": data_offsets: expected 0 <= begin <= end <= 4 (the "
       "file's end), found [4, 0]"},
      {"{" TENSOR("a", "F32", "[1]", "[-4,0]") "}", 4,
       ": tensor \"a\": data_offsets: expected 0 <= begin <= end <= 4 (the "
       "file's end), found [-4, 0]"},
      {"{" TENSOR("a", "F32", "[1]", "[0,9223372036854775807]") "}", 4,
       ": tensor \"a\": data_offsets: expected 0 <= begin <= end <= 4 (the "
       "file's end), found [0, 9223372036854775807]"},
      {"{" TENSOR("a", "F32", "[2]", "[0,4]") "}", 4,
       ": tensor \"a\": data_offsets: expected 8 bytes for its shape and type, "
       "found 4"},
      {"{" TENSOR("a", "BF16", "[1]", "[0,4]") "}", 4,
       ": tensor \"a\": data_offsets: expected 2 bytes for its shape and type, "
       "found 4"},
      {"{" TENSOR("a", "F32", "[1]", "[0,4]") "}", 5,
       ": expected the last tensor to end at the file's end (5), found 4"},
      {"{\"__metadata__\":1}", 0,
       ": \"__metadata__\": expected an object of strings, found an integer"},
      {"{\"__metadata__\":{\"step\":7}}", 0,
       ": \"__metadata__\": key \"step\": expected a string, found an integer"},
      {"{}", 5,
       ": expected the last tensor to end at the file's end (5), found 0"},
      {"{" TENSOR("a", "F32", "[1]", "[0,4]") "," TENSOR("b", "F32", "[1]",
                                                         "[2,6]") "}",
       6,
       ": tensor \"b\": data_offsets: expected to begin at 4 (no gaps, no "
       "overlaps), found 2"},
      {"{" TENSOR("a", "F32", "[1]", "[0,4]") "," TENSOR("b", "F32", "[1]",
                                                         "[0,4]") "}",
       4,
       ": tensor \"b\": data_offsets: expected to begin at 4 (no gaps, no "
       "overlaps), found 0"},
      {"{" TENSOR("a", "F32", "[1]", "[0,4]") "," TENSOR("b", "F32", "[1]",
                                                         "[5,9]") "}",
       9,
       ": tensor \"b\": data_offsets: expected to begin at 4 (no gaps, no "
       "overlaps), found 5"},
  };
  temp_dir dir;
  assert_true(temp_dir_create(&dir));
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    write_shard(&dir, single, cases[i].header, cases[i].tail);
    expect_refusal(&dir, single, cases[i].rest);
  }
  static const char *const texts[] = {"{\"a\":{},\"a\":{}}",
                                      "{\"a\\u0000\":{}}", "{\"\xff\":{}}",
                                      "{} x", "{\"a\":"};
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    moerun__shards *shards = NULL;
    write_shard(&dir, single, texts[i], 0);
    assert_int_equal(moerun__shards_load(&shards, dir.path), MOERUN_ERR_FORMAT);
    assert_non_null(strstr(moerun_last_error(), ": not valid JSON: "));
  }
  write_shard(&dir, single, "", 0);
  expect_refusal(&dir, single,
                 ": expected a safetensors file, found nothing but bytes of 0, "
                 "as a crash of the machine leaves: copy or make the file "
                 "again");
  temp_dir_remove(&dir);
}

static void hostile_lengths_are_refused(void **state) {
  (void)state;
  static const struct {
    unsigned char bytes[12];
    size_t count;
    const char *rest;
  } cases[] = {
      {{0}, 0, ": expected at least 8 bytes, found 0"},
      {{2, 0, 0, 0}, 7, ": expected at least 8 bytes, found 7"},
      {{5, 0, 0, 0, 0, 0, 0, 0, '{', '}'},
       10,
       ": header length: expected at most 2 bytes, found 5"},
      {{255, 255, 255, 255, 255, 255, 255, 255, '{', '}'},
       10,
       ": header length: expected at most 2 bytes, found "
       "18446744073709551615"},
      {{0x80, 2, 0, 0, 0, 0, 0, 0, '{', '}'}, /* no pickle */
       10,
       ": header length: expected at most 2 bytes, found 640"},
      {{0, 0, 0, 0, 0, 0, 0, 128, '{', '}'},
       10,
       ": header length: expected at most 2 bytes, found "
       "9223372036854775808"},
  };
  temp_dir dir;
  char path[TEMP_PATH];
  assert_true(temp_dir_create(&dir));
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    write_bytes(&dir, single, cases[i].bytes, cases[i].count);
    expect_refusal(&dir, single, cases[i].rest);
  }
  /* A sparse file longer than any header may be. */
  const unsigned char long_header[8] = {0, 0, 0, 8};
  write_bytes(&dir, single, long_header, 8);
  assert_int_equal(truncate(temp_path(path, &dir, single), 200000000), 0);
  expect_refusal(&dir, single,
                 ": header length: expected at most 100000000 bytes, found "
                 "134217728");
  assert_int_equal(unlink(path), 0);
  assert_int_equal(mkdir(path, 0777), 0);
  expect_refusal(&dir, single, ": expected a regular file, found a folder");
  assert_int_equal(rmdir(path), 0);
  assert_int_equal(mkfifo(path, 0666), 0);
  expect_refusal(&dir, single, ": expected a regular file");
  assert_int_equal(unlink(path), 0);
  char absent[TEMP_PATH];
  assert_int_equal(symlink(temp_path(absent, &dir, "absent"), path), 0);
  expect_refusal(&dir, single,
                 ": expected a file, found a link to one that is not there");
  assert_int_equal(unlink(path), 0);
  moerun__shards *shards = NULL;
  char line[LINE];
  assert_int_equal(moerun__shards_load(&shards, dir.path), MOERUN_ERR_IO);
  (void)snprintf(line, sizeof line,
                 "%s: expected model.safetensors or "
                 "model.safetensors.index.json, found neither",
                 dir.path);
  assert_string_equal(moerun_last_error(), line);
  temp_dir_remove(&dir);
}

#define ONE(name) "{" TENSOR(name, "F16", "[1]", "[0,2]") "}"

static void hostile_indexes_are_refused(void **state) {
  (void)state;
  static const struct {
    const char *text;
    const char *file; /* that the message begins with */
    const char *rest;
  } cases[] = {
      {"{}", index_name,
       ": key \"weight_map\": expected an object, found nothing"},
      {"{\"weight_map\": []}", index_name,
       ": key \"weight_map\": expected an object, found an array"},
      {"{\"weight_map\": {}}", index_name,
       ": key \"weight_map\": expected at least one tensor"},
      {"[]", index_name, ": expected a JSON object, found an array"},
      {"{\"weight_map\": {\"x\": 1}}", index_name,
       ": tensor \"x\": expected a file name, found an integer"},
      {"{\"weight_map\": {\"x\": \"../x.safetensors\"}}", index_name,
       ": tensor \"x\": expected a file in the same directory, found "
       "\"../x.safetensors\""},
      {"{\"weight_map\": {\"x\": \"/etc/passwd\"}}", index_name,
       ": tensor \"x\": expected a file in the same directory, found "
       "\"/etc/passwd\""},
      {"{\"weight_map\": {\"x\": \"sub/x.safetensors\"}}", index_name,
       ": tensor \"x\": expected a file in the same directory, found "
       "\"sub/x.safetensors\""},
      {"{\"weight_map\": {\"x\": \"\"}}", index_name,
       ": tensor \"x\": expected a file in the same directory, found \"\""},
      {"{\"weight_map\": {\"x\": \"..\"}}", index_name,
       ": tensor \"x\": expected a file in the same directory, found \"..\""},
      {"{\"weight_map\": {\"x\": \"missing.safetensors\"}}", index_name,
       ": names missing.safetensors, which is not there (0 of 1 files are): "
       "download the checkpoint again"},
      {"{\"weight_map\": {\"x\": \"one\", \"y\": \"two\", \"z\": \"two\"}}",
       index_name, ": tensor \"z\": expected in two, found in no file"},
      {"{\"weight_map\": {\"x\": \"two\", \"y\": \"one\"}}", index_name,
       ": tensor \"x\": expected in two, found in one"},
      {"{\"weight_map\": {\"x\": \"one\", \"y\": \"two\", \"w\": \"again\"}}",
       NULL, ": tensor \"x\": expected in one file, found also in "},
  };
  temp_dir dir;
  assert_true(temp_dir_create(&dir));
  write_shard(&dir, "one", ONE("x"), 2);
  write_shard(&dir, "two", ONE("y"), 2);
  write_shard(&dir, "again", ONE("x"), 2);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    write_text(&dir, index_name, cases[i].text);
    if (cases[i].file != NULL) {
      expect_refusal(&dir, cases[i].file, cases[i].rest);
    } else {
      moerun__shards *shards = NULL;
      assert_int_equal(moerun__shards_load(&shards, dir.path),
                       MOERUN_ERR_FORMAT);
      assert_non_null(strstr(moerun_last_error(), cases[i].rest));
    }
  }
  write_text(&dir, index_name,
             "{\"weight_map\": {\"x\": \"one\", \"y\": \"two\"}}");
  moerun__shards *shards = NULL;
  assert_int_equal(moerun__shards_load(&shards, dir.path), MOERUN_OK);
  const moerun__tensor *y = moerun__shards_find(shards, "y");
  assert_non_null(y);
  assert_int_equal(y->num_dims, 1);
  assert_true(strstr(moerun__shards_file(shards, y), "/two") != NULL);
  moerun__shards_destroy(shards);
  /* A single file is preferred, as in Hugging Face. */
  write_shard(&dir, single, ONE("alone"), 2);
  assert_int_equal(moerun__shards_load(&shards, dir.path), MOERUN_OK);
  assert_non_null(moerun__shards_find(shards, "alone"));
  assert_null(moerun__shards_find(shards, "x"));
  moerun__shards_destroy(shards);
  temp_dir_remove(&dir);
}

/* What is no safetensors file is called what it is. */
static void other_files_are_named(void **state) {
  (void)state;
  static const struct {
    const char *text;
    const char *rest;
  } cases[] = {
      {"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n"
       "size 4932307584\n",
       ": expected a safetensors file, found a Git LFS pointer, not the file "
       "of "
       "4.9 GB that it stands for: run `git lfs pull` in its folder"},
      {"version https://git-lfs.github.com/spec/v1\nsize 1048576\n",
       ": expected a safetensors file, found a Git LFS pointer, not the file "
       "of "
       "1.0 MB that it stands for: run `git lfs pull` in its folder"},
      {"<!DOCTYPE html><html><head><title>401</title></head></html>",
       ": expected a safetensors file, found a web page, such as a server's "
       "error, in its place: download the file again"},
      {"\xEF\xBB\xBF \n<HTML>",
       ": expected a safetensors file, found a web page, such as a server's "
       "error, in its place: download the file again"},
      {"GGUF\x03", ": expected a safetensors file, found a GGUF file of "
                   "llama.cpp, which is "
                   "not read: take the checkpoint's safetensors files"},
      {"PK\x03\x04",
       ": expected a safetensors file, found a zip archive, such as PyTorch's "
       ".pt, .bin and .pth, which is not read: take the checkpoint's "
       "safetensors "
       "files"},
  };
  temp_dir dir;
  assert_true(temp_dir_create(&dir));
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    write_text(&dir, single, cases[i].text);
    expect_refusal(&dir, single, cases[i].rest);
  }
  temp_dir_remove(&dir);
}

/* Folders that hold something, but neither the file nor the index: the names
 * are added one after the other, from what is told last to what is told first.
 */
static void other_folders_are_named(void **state) {
  (void)state;
  static const struct {
    const char *name;
    const char *found;
  } cases[] = {
      {"notes.txt", "neither"},
      {"consolidated.00.pth",
       "consolidated.00.pth of PyTorch, which is not read: take safetensors "
       "files or convert it"},
      {"pytorch_model-00002-of-00002.bin",
       "pytorch_model-00002-of-00002.bin of PyTorch, which is not read: take "
       "safetensors files or convert it"},
      {"pytorch_model-00001-of-00002.bin",
       "pytorch_model-00001-of-00002.bin and others of PyTorch, which is not "
       "read: take safetensors files or convert it"},
      {"m-Q4_K_M.gguf",
       "m-Q4_K_M.gguf of llama.cpp, which is not read: take the "
       "checkpoint's safetensors files"},
      {"weights.safetensors",
       "weights.safetensors under another name: a single "
       "file is called model.safetensors"},
      {"consolidated.safetensors",
       "consolidated.safetensors in another layout: take the files in Hugging "
       "Face layout"},
      {"adapter_model.safetensors",
       "adapter_model.safetensors of an adapter, which is no model: merge it "
       "into its base model"},
      {"model-00001-of-00003.safetensors",
       "model-00001-of-00003.safetensors without model.safetensors.index.json: "
       "download that file, too"},
  };
  temp_dir dir;
  assert_true(temp_dir_create(&dir));
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    moerun__shards *shards = NULL;
    char line[LINE];
    write_text(&dir, cases[i].name, "");
    (void)snprintf(line, sizeof line,
                   "%s: expected model.safetensors or "
                   "model.safetensors.index.json, found %s",
                   dir.path, cases[i].found);
    assert_int_equal(moerun__shards_load(&shards, dir.path),
                     i == 0 ? MOERUN_ERR_IO : MOERUN_ERR_UNSUPPORTED);
    assert_string_equal(moerun_last_error(), line);
  }
  temp_dir_remove(&dir);
}

static void files_that_shrink_are_reported(void **state) {
  (void)state;
  temp_dir dir;
  char path[TEMP_PATH];
  char line[LINE];
  unsigned char bytes[8];
  moerun__shards *shards = NULL;
  assert_true(temp_dir_create(&dir));
  write_shard(&dir, single, "{" TENSOR("a", "F32", "[2]", "[0,8]") "}", 8);
  assert_int_equal(moerun__shards_load(&shards, dir.path), MOERUN_OK);
  const moerun__tensor *a = moerun__shards_find(shards, "a");
  assert_non_null(a);
  assert_int_equal(truncate(temp_path(path, &dir, single), a->offset + 4), 0);
  assert_int_equal(moerun__shards_read(bytes, shards, a, 0, 4), MOERUN_OK);
  assert_int_equal(moerun__shards_read(bytes, shards, a, 0, 8), MOERUN_ERR_IO);
  (void)snprintf(line, sizeof line, "%s: cannot be read: it shrank meanwhile",
                 path);
  assert_string_equal(moerun_last_error(), line);
  moerun__shards_destroy(shards);
  temp_dir_remove(&dir);
}

/* The digest sees names, types and shapes, and nothing else. */
static void digest_tells_checkpoints_apart(void **state) {
  (void)state;
  static const char *const headers[] = {
      "{" TENSOR("a", "F16", "[2,3]", "[0,12]") "}",
      "{" TENSOR("a", "BF16", "[2,3]", "[0,12]") "}",
      "{" TENSOR("a", "F16", "[3,2]", "[0,12]") "}",
      "{" TENSOR("b", "F16", "[2,3]", "[0,12]") "}",
      "{\"__metadata__\":{}, " TENSOR("a", "F16", "[2,3]", "[0,12]") "}",
  };
  enum { COUNT = sizeof headers / sizeof *headers };
  uint64_t digest[COUNT];
  temp_dir dir;
  assert_true(temp_dir_create(&dir));
  for (int i = 0; i < COUNT; i++) {
    moerun__shards *shards = NULL;
    write_shard(&dir, single, headers[i], 12);
    assert_int_equal(moerun__shards_load(&shards, dir.path), MOERUN_OK);
    digest[i] = moerun__shards_digest(shards);
    moerun__shards_destroy(shards);
    for (int j = 0; j < i; j++) {
      assert_true((digest[i] == digest[j]) == (i == 4 && j == 0));
    }
  }
  temp_dir_remove(&dir);
}

static void nth_allocation_failure_leaks_nothing(void **state) {
  (void)state;
  temp_dir dir;
  assert_true(temp_dir_create(&dir));
  write_shard(&dir, "one", ONE("x"), 2);
  write_shard(&dir, "two", ONE("y"), 2);
  write_text(&dir, index_name,
             "{\"weight_map\": {\"x\": \"one\", \"y\": \"two\"}}");
  const size_t live = moerun__alloc_live();
  moerun_status status = MOERUN_ERR_NOMEM;
  long n = 0;
  for (; status != MOERUN_OK; n++) {
    moerun__shards *shards = NULL;
    assert_true(n < 1000);
    moerun__alloc_fail_nth(n);
    status = moerun__shards_load(&shards, dir.path);
    assert_true(status == MOERUN_OK || status == MOERUN_ERR_NOMEM);
    assert_true((shards != NULL) == (status == MOERUN_OK));
    moerun__shards_destroy(shards);
    assert_int_equal(moerun__alloc_live(), live);
  }
  moerun__alloc_fail_nth(-1);
  assert_true(n > 10);
  temp_dir_remove(&dir);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(tensors_are_found_and_read),
      cmocka_unit_test(types_and_shapes_are_checked),
      cmocka_unit_test(hostile_headers_are_refused),
      cmocka_unit_test(hostile_lengths_are_refused),
      cmocka_unit_test(hostile_indexes_are_refused),
      cmocka_unit_test(other_files_are_named),
      cmocka_unit_test(other_folders_are_named),
      cmocka_unit_test(files_that_shrink_are_reported),
      cmocka_unit_test(digest_tells_checkpoints_apart),
      cmocka_unit_test(nth_allocation_failure_leaks_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
