/* A configuration file of any bytes either parses or is refused with a line. */
#include "runtime/base/config.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  moerun__config *config = NULL;
  if (moerun__config_create(&config, "run") != MOERUN_OK) abort();
  if (moerun__config_parse(config, (const char *)bytes, size, "fuzz") !=
          MOERUN_OK &&
      moerun_last_error()[0] == '\0') {
    abort();
  }
  moerun__config_destroy(config);
  return 0;
}
