/* Columns are characters, not bytes: what follows the first byte of a UTF-8
 * sequence takes no column. */
#include "runtime/base/wrap.h"

#include <string.h>

static int count_columns(const char *word, int length) {
  int columns = 0;
  for (int i = 0; i < length; i++) {
    columns += ((unsigned char)word[i] & 0xC0U) != 0x80U;
  }
  return columns;
}

int moerun__wrap_words(FILE *stream, const char *text, int column, int indent) {
  while (*text != '\0') {
    const int length = (int)strcspn(text, " ");
    const int columns = count_columns(text, length);
    if (column > indent && column + 1 + columns > MOERUN_WRAP_WIDTH) {
      (void)fprintf(stream, "\n%*s", indent, "");
      column = indent;
    } else if (column > indent) {
      (void)fputc(' ', stream);
      column++;
    }
    (void)fprintf(stream, "%.*s", length, text);
    column += columns;
    text += length + (text[length] == ' ');
  }
  return column;
}
