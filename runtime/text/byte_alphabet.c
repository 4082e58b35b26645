/* Tables by byte and by code point: both ways are taken for every byte of a
 * text or of a completion. */
#include "runtime/text/byte_alphabet.h"

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

size_t moerun__alphabet_spell(const moerun__byte_alphabet *alphabet, char *out,
                              const char *text, size_t bytes) {
  size_t count = 0;
  for (size_t i = 0; i < bytes; i++) {
    const unsigned byte = (unsigned char)text[i];
    out[count++] = alphabet->spelling[byte][0];
    if (alphabet->length[byte] > 1) out[count++] = alphabet->spelling[byte][1];
  }
  return count;
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
