/* Speeds of three ranks: a list, or the metrics file of a run. What is accepted
 * is three positive numbers behind a topology. */
#include "launch/place/place_speeds.h"
#include "support/fuzz.h"

#include <math.h>
#include <string.h>

static temp_dir dir;

static void remove_dir(void) {
  temp_dir_remove(&dir);
}

static void check(const char *speeds) {
  enum { RANKS = 3 };
  static const char begin[] = ", speed";
  moerun__text line = {0};
  const moerun_status status = moerun__place_speeds(&line, speeds, RANKS);
  fuzz_verdict(status);
  if (status == MOERUN_OK) {
    fuzz_require(strncmp(line.bytes, begin, sizeof begin - 1) == 0);
    char *at = line.bytes + sizeof begin - 1;
    for (int r = 0; r < RANKS; r++) {
      const double speed = strtod(at, &at);
      fuzz_require(speed > 0 && isfinite(speed));
    }
    fuzz_require(*at == '\0');
  }
  moerun__text_clear(&line);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  char path[TEMP_PATH];
  char text[256] = "";
  if (dir.path[0] == '\0') {
    fuzz_require(temp_dir_create(&dir));
    fuzz_require(atexit(remove_dir) == 0);
  }
  fuzz_write(&dir, "metrics.json", bytes, size);
  check(temp_path(path, &dir, "metrics.json"));
  if (size > 0 && size < sizeof text) memcpy(text, bytes, size);
  if (strspn(text, "0123456789., ") == strlen(text)) check(text);
  return 0;
}
