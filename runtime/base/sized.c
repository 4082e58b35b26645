/* A forgotten size is refused instead of being taken for that of the first
 * version: members that were added later would be left out without a word. */
#include "runtime/base/sized.h"

#include <string.h>

enum { MOST_BYTES = 4096 }; /* more was never set */

static moerun_status read_size(size_t *bytes, const void *given,
                               const char *type) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(given != NULL, MOERUN_ERR_INVALID, "%s is NULL", type);
  memcpy(bytes, given, sizeof *bytes);
  MOERUN_REQUIRE(
      *bytes >= sizeof *bytes && *bytes <= MOST_BYTES, MOERUN_ERR_INVALID,
      "%s: struct_size: expected sizeof(%s), found %zu", type, type, *bytes);
done:
  return status;
}

moerun_status moerun__sized_read(void *own, size_t own_bytes, const void *given,
                                 const char *type) {
  moerun_status status = MOERUN_OK;
  const unsigned char *bytes = given;
  size_t count = 0;
  memset(own, 0, own_bytes);
  MOERUN_TRY(read_size(&count, given, type));
  for (size_t i = own_bytes; i < count; i++) {
    MOERUN_REQUIRE(bytes[i] == 0, MOERUN_ERR_UNSUPPORTED,
                   "%s: expected at most %zu bytes, as this library has, found "
                   "one set at %zu: the program was built for a later version",
                   type, own_bytes, i);
  }
  memcpy(own, given, count < own_bytes ? count : own_bytes);
  memcpy(own, &own_bytes, sizeof own_bytes);
done:
  return status;
}

moerun_status moerun__sized_write(void *given, const void *own,
                                  size_t own_bytes, const char *type) {
  moerun_status status = MOERUN_OK;
  size_t count = 0;
  MOERUN_TRY(read_size(&count, given, type));
  memset(given, 0, count);
  memcpy(given, own, count < own_bytes ? count : own_bytes);
  memcpy(given, &count, sizeof count);
done:
  return status;
}
