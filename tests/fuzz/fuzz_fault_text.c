/* Texts of --fault and --gate-top-k: what is accepted stays in its bounds. */
#include "runtime/plan/fault.h"
#include "runtime/plan/width.h"
#include "support/fuzz.h"

#include <string.h>

static void check_faults(const char *text) {
  moerun__faults faults;
  const moerun_status status = moerun__faults_parse(&faults, text);
  fuzz_verdict(status);
  if (status != MOERUN_OK) return;
  fuzz_require(faults.count >= 1 && faults.count <= MOERUN_MOST_FAULTS);
  for (int32_t i = 0; i < faults.count; i++) {
    const moerun__fault *fault = &faults.fault[i];
    fuzz_require(fault->rank >= 0 && fault->compute >= 1);
    fuzz_require(fault->sleep_us >= 0 && fault->stall_ms >= 0);
    fuzz_require(fault->from >= 0 && fault->to > fault->from);
    fuzz_require(fault->flap >= 0);
    const moerun__slowness slow =
        moerun__faults_at(&faults, fault->rank, fault->from);
    fuzz_require(slow.compute >= 1 && slow.sleep_us >= fault->sleep_us);
  }
}

static void check_limits(const char *text) {
  int32_t most = 0;
  moerun__width_limits limits;
  const moerun_status status = moerun__width_parse(&most, &limits, text);
  fuzz_verdict(status);
  if (status != MOERUN_OK) return;
  fuzz_require((most > 0) == (limits.count == 0));
  fuzz_require(limits.count <= MOERUN_WIDTH_RANGES);
  for (int32_t i = 0; i < limits.count; i++) {
    const moerun__width_range *range = &limits.range[i];
    fuzz_require(range->first >= 0 && range->first <= range->last);
    fuzz_require(moerun__width_limit(&limits, range->first) == range->most);
    fuzz_require(moerun__width_limit(&limits, range->last) == range->most);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  char text[512] = "";
  if (size >= sizeof text) return 0;
  if (size > 0) memcpy(text, bytes, size);
  check_faults(text);
  check_limits(text);
  return 0;
}
