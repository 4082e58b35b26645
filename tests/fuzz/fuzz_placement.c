/* A placement file: what is accepted keeps all invariants. */
#include "placement/map/placement.h"
#include "support/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  moerun_placement *placement = NULL;
  const moerun_status status =
      moerun__placement_parse(&placement, (const char *)bytes, size, "fuzz");
  fuzz_verdict(status);
  fuzz_require((placement != NULL) == (status == MOERUN_OK));
  if (placement != NULL) {
    fuzz_require(moerun__placement_check(placement) == MOERUN_OK);
  }
  moerun_placement_destroy(placement);
  return 0;
}
