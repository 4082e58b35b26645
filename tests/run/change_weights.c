/* change_weights FILE NAME HOW [ELEMENT]: changes a safetensors file in place,
 * in all tensors whose names contain NAME, which are BF16 or F32:
 *   sign         flips the sign of every element
 *   bit ELEMENT  flips the highest bit of the exponent of one element
 * Prints how many tensors it changed; none is a failure. */
#include "runtime/base/dtype.h"

#include <jansson.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void require(int holds, const char *what) {
  if (holds) return;
  (void)fprintf(stderr, "change_weights: %s\n", what);
  exit(1);
}

static unsigned char *read_all(size_t *bytes, FILE *file) {
  require(fseek(file, 0, SEEK_END) == 0, "cannot be read");
  const long size = ftell(file);
  require(size >= 8, "too short");
  unsigned char *all = malloc((size_t)size);
  require(all != NULL, "no memory");
  rewind(file);
  require(fread(all, 1, (size_t)size, file) == (size_t)size, "cannot be read");
  *bytes = (size_t)size;
  return all;
}

/* Sign and exponent are in the upper bytes of every type. */
static void change(unsigned char *data, size_t bytes, size_t width,
                   const char *how, size_t element) {
  const size_t upper = width - 1;
  if (strcmp(how, "sign") == 0) {
    for (size_t i = upper; i < bytes; i += width) {
      data[i] ^= 0x80U;
    }
    return;
  }
  require(strcmp(how, "bit") == 0, "expected sign or bit");
  require((element + 1) * width <= bytes, "no such element");
  data[element * width + upper] ^= 0x40U;
}

int main(int argc, char **argv) {
  require(argc >= 4, "expected FILE NAME HOW [ELEMENT]");
  FILE *file = fopen(argv[1], "r+b");
  require(file != NULL, "cannot be opened");
  size_t bytes = 0;
  unsigned char *all = read_all(&bytes, file);
  size_t header = 0;
  for (int i = 7; i >= 0; i--) {
    header = header << 8 | all[i];
  }
  require(header <= bytes - 8, "no safetensors");
  json_t *root = json_loadb((const char *)all + 8, header, 0, NULL);
  const char *name = NULL;
  json_t *tensor = NULL;
  int changed = 0;
  json_object_foreach(root, name, tensor) {
    const json_t *at = json_object_get(tensor, "data_offsets");
    const char *type = json_string_value(json_object_get(tensor, "dtype"));
    moerun__dtype dtype = MOERUN_DTYPE_F32;
    if (at == NULL || strstr(name, argv[2]) == NULL) continue;
    require(moerun__dtype_find(&dtype, type), "unknown element type");
    const size_t first = (size_t)json_integer_value(json_array_get(at, 0));
    const size_t last = (size_t)json_integer_value(json_array_get(at, 1));
    require(first <= last && last <= bytes - 8 - header, "bad offsets");
    change(all + 8 + header + first, last - first,
           moerun__dtype_bytes(dtype, 1), argv[3],
           argc > 4 ? strtoul(argv[4], NULL, 10) : 0);
    changed++;
  }
  json_decref(root);
  rewind(file);
  require(fwrite(all, 1, bytes, file) == bytes && fclose(file) == 0,
          "cannot be written");
  free(all);
  (void)printf("%d tensors changed\n", changed);
  return changed == 0;
}
