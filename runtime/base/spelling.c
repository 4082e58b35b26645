/* The distance of a misspelt name from those that exist, by optimal string
 * alignment (Damerau, 1964: a swap of neighbours is one slip), in which each
 * letter is edited once at most. Names are short, so the plain table of
 * prefixes does, three rows of it at a time. */
#include "runtime/base/spelling.h"

#include <string.h>

enum { MOST_LETTERS = 63 };

static int smallest(int a, int b, int c) {
  const int d = a < b ? a : b;
  return d < c ? d : c;
}

static char letter_of(char c) {
  return (char)(c == '-' ? '_' : c);
}

static int count_edits(const char *text, int length, const char *word,
                       int word_length) {
  int rows[3][MOST_LETTERS + 1];
  int *before = rows[0];
  int *last = rows[1];
  int *row = rows[2];
  for (int j = 0; j <= word_length; j++) {
    last[j] = j;
    before[j] = j;
  }
  for (int i = 1; i <= length; i++) {
    row[0] = i;
    for (int j = 1; j <= word_length; j++) {
      const char a = letter_of(text[i - 1]);
      const char b = letter_of(word[j - 1]);
      row[j] = smallest(last[j] + 1, row[j - 1] + 1, last[j - 1] + (a != b));
      if (i > 1 && j > 1 && a == letter_of(word[j - 2]) &&
          letter_of(text[i - 2]) == b && before[j - 2] + 1 < row[j]) {
        row[j] = before[j - 2] + 1;
      }
    }
    int *free_row = before;
    before = last;
    last = row;
    row = free_row;
  }
  return last[word_length];
}

int moerun__spelling_distance(const char *text, size_t length,
                              const char *word) {
  const size_t word_length = strlen(word);
  if (length > MOST_LETTERS || word_length > MOST_LETTERS) return -1;
  const int edits = count_edits(text, (int)length, word, (int)word_length);
  if (length >= 3 && length < word_length &&
      count_edits(text, (int)length, word, (int)length) == 0) {
    return 1;
  }
  return edits <= (int)(length + 2) / 3 && edits < (int)word_length ? edits
                                                                    : -1;
}
