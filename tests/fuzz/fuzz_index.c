/* model.safetensors.index.json over two sound files, "one" with tensor x and
 * "two" with y and z. */
#include "runtime/model/shard.h"
#include "support/fuzz.h"

static temp_dir dir;

static void remove_dir(void) {
  temp_dir_remove(&dir);
}

static void write_sound(const char *name, const char *header, size_t tail) {
  uint8_t file[512] = {(uint8_t)strlen(header)};
  fuzz_require(strlen(header) < 256);
  memcpy(file + 8, header, strlen(header));
  fuzz_write(&dir, name, file, 8 + strlen(header) + tail);
}

static void begin(void) {
  fuzz_require(temp_dir_create(&dir));
  fuzz_require(atexit(remove_dir) == 0);
  write_sound("one",
              "{\"x\":{\"dtype\":\"F16\",\"shape\":[1],"
              "\"data_offsets\":[0,2]}}",
              2);
  write_sound("two",
              "{\"y\":{\"dtype\":\"F16\",\"shape\":[1],"
              "\"data_offsets\":[0,2]},\"z\":{\"dtype\":\"F32\","
              "\"shape\":[2],\"data_offsets\":[2,10]}}",
              10);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  moerun__shards *shards = NULL;
  if (dir.path[0] == '\0') begin();
  fuzz_write(&dir, "model.safetensors.index.json", bytes, size);
  const moerun_status status = moerun__shards_load(&shards, dir.path);
  fuzz_verdict(status);
  fuzz_require((shards != NULL) == (status == MOERUN_OK));
  if (shards != NULL) { /* then it names one of the files, or both */
    const int known = (moerun__shards_find(shards, "x") != NULL) +
                      2 * (moerun__shards_find(shards, "y") != NULL) +
                      4 * (moerun__shards_find(shards, "z") != NULL);
    fuzz_require(known == 1 || known == 6 || known == 7);
    fuzz_require(moerun__shards_at(shards, 3) == NULL);
  }
  moerun__shards_destroy(shards);
  return 0;
}
