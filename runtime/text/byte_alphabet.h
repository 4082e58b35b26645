/* The alphabet of byte-level vocabularies: each byte is spelt as one printable
 * character. Those of ASCII and Latin-1 that print stand for themselves, the
 * other 68 bytes for U+0100 onwards in order (Radford et al. 2019, GPT-2's
 * encoder). Vocabularies on characters have <0x00> to <0xFF> instead, tokens
 * of the bytes of characters that they lack (SentencePiece's byte_fallback). */
#ifndef MOERUN_TEXT_BYTE_ALPHABET_H
#define MOERUN_TEXT_BYTE_ALPHABET_H

#include <stddef.h>
#include <stdint.h>

enum { MOERUN_BYTE_CODE = 6 }; /* characters of <0x1F> */

/* Writes <0x1F> for byte 0x1f. */
void moerun__byte_code(char out[MOERUN_BYTE_CODE + 1], unsigned byte);
/* The byte that spelling[bytes] is the code of, or -1. */
int moerun__byte_of_code(const char *spelling, size_t bytes);

enum { MOERUN_ALPHABET = 256 + 68 }; /* its code points lie below */

typedef struct moerun__byte_alphabet {
  int16_t byte_of[MOERUN_ALPHABET]; /* by code point; -1: none */
  char spelling[256][2];            /* in UTF-8, by byte */
  uint8_t length[256];              /* 1 or 2 bytes of it */
} moerun__byte_alphabet;

void moerun__byte_alphabet_fill(moerun__byte_alphabet *alphabet);

/* Writes the bytes that spelling[bytes] stands for to out, which has room for
 * `bytes`; returns their number, or -1 if a character stands for none. */
int64_t moerun__alphabet_bytes(const moerun__byte_alphabet *alphabet, char *out,
                               const char *spelling, size_t bytes);

#endif
