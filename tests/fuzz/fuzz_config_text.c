/* A configuration file of any bytes either parses or is refused with a line. */
#include "launch/options/options.h"
#include "runtime/base/config.h"
#include "support/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  moerun__config *config = NULL;
  fuzz_require(moerun__config_create(&config, &moerun__options, "run") ==
               MOERUN_OK);
  fuzz_verdict(moerun__config_parse(config, (const char *)bytes, size, "fuzz"));
  moerun__config_destroy(config);
  return 0;
}
