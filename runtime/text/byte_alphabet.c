/* Tables by byte and by code point: both ways are taken for every byte of a
 * text or of a completion. */
#include "runtime/text/byte_alphabet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void moerun__byte_code(char out[MOERUN_BYTE_CODE + 1], unsigned byte) {
  (void)snprintf(out, MOERUN_BYTE_CODE + 1, "<0x%02X>", byte & 0xFFU);
}

int moerun__byte_of_code(const char *spelling, size_t bytes) {
  char digits[3] = "";
  if (bytes != MOERUN_BYTE_CODE || memcmp(spelling, "<0x", 3) != 0 ||
      spelling[5] != '>') {
    return -1;
  }
  memcpy(digits, spelling + 3, 2);
  if (strspn(digits, "0123456789abcdefABCDEF") != 2) return -1;
  return (int)strtol(digits, NULL, 16);
}

static int stands_for_itself(int byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) ||
         byte >= 0xAE;
}

void moerun__byte_alphabet_fill(moerun__byte_alphabet *alphabet) {
  int next = 256;
  for (int c = 0; c < MOERUN_ALPHABET; c++) {
    alphabet->byte_of[c] = -1;
  }
  for (int byte = 0; byte < 256; byte++) {
    const int c = stands_for_itself(byte) ? byte : next++;
    alphabet->byte_of[c] = (int16_t)byte;
    alphabet->length[byte] = c < 0x80 ? 1 : 2;
    alphabet->spelling[byte][0] = (char)(c < 0x80 ? c : 0xC0 | c >> 6);
    alphabet->spelling[byte][1] = (char)(0x80 | (c & 0x3F));
  }
}

int64_t moerun__alphabet_bytes(const moerun__byte_alphabet *alphabet, char *out,
                               const char *spelling, size_t bytes) {
  int64_t count = 0;
  for (size_t at = 0; at < bytes; at++) {
    unsigned c = (unsigned char)spelling[at];
    if (c >= 0xC0 && c < 0xE0 && at + 1 < bytes) {
      c = (c & 0x1FU) << 6 | ((unsigned char)spelling[++at] & 0x3FU);
    } else if (c >= 0x80) {
      return -1;
    }
    if (c >= MOERUN_ALPHABET || alphabet->byte_of[c] < 0) return -1;
    out[count++] = (char)alphabet->byte_of[c];
  }
  return count;
}
