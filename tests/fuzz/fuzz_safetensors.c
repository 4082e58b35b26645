/* A safetensors file. The first byte says what follows: even, the whole file;
 * odd, one byte with the length of the tensors' part and then the header, whose
 * length is put in front, so that mutations reach beyond the length check. */
#include "runtime/model/shard.h"
#include "support/fuzz.h"

static temp_dir dir;

static void remove_dir(void) {
  temp_dir_remove(&dir);
}

static void write_with_length(const uint8_t *header, size_t size,
                              uint8_t tail) {
  uint8_t *file = calloc(8 + size + tail, 1);
  fuzz_require(file != NULL);
  for (int i = 0; i < 8; i++) {
    file[i] = (uint8_t)((uint64_t)size >> (8 * i));
  }
  memcpy(file + 8, header, size);
  fuzz_write(&dir, "model.safetensors", file, 8 + size + tail);
  free(file);
}

static void check(const moerun__shards *shards, size_t file_size) {
  const moerun__tensor *tensor = NULL;
  for (size_t i = 0; (tensor = moerun__shards_at(shards, i)) != NULL; i++) {
    uint8_t byte = 0;
    moerun__dtype dtype = MOERUN_DTYPE_F32;
    fuzz_require(moerun__shards_find(shards, tensor->name) == tensor);
    fuzz_require(tensor->bytes >= 0 && tensor->offset >= 8);
    fuzz_require((size_t)(tensor->offset + tensor->bytes) <= file_size);
    const int num_dims = tensor->num_dims < MOERUN_SHARD_DIMS
                             ? tensor->num_dims
                             : MOERUN_SHARD_DIMS;
    fuzz_verdict(
        moerun__tensor_check(&dtype, shards, tensor, tensor->shape, num_dims));
    if (tensor->bytes > 0) {
      fuzz_require(moerun__shards_read(&byte, shards, tensor, tensor->bytes - 1,
                                       1) == MOERUN_OK);
    }
    fuzz_require(moerun__shards_read(&byte, shards, tensor, tensor->bytes, 1) ==
                 MOERUN_ERR_INVALID);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  moerun__shards *shards = NULL;
  if (dir.path[0] == '\0') {
    fuzz_require(temp_dir_create(&dir));
    fuzz_require(atexit(remove_dir) == 0);
  }
  size_t file_size = 0;
  if (size >= 2 && bytes[0] % 2 == 1) {
    write_with_length(bytes + 2, size - 2, bytes[1]);
    file_size = 8 + size - 2 + bytes[1];
  } else if (size >= 1) {
    fuzz_write(&dir, "model.safetensors", bytes + 1, size - 1);
    file_size = size - 1;
  } else {
    return 0;
  }
  const moerun_status status = moerun__shards_load(&shards, dir.path);
  fuzz_verdict(status);
  fuzz_require((shards != NULL) == (status == MOERUN_OK));
  if (shards != NULL) check(shards, file_size);
  moerun__shards_destroy(shards);
  return 0;
}
