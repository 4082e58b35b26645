#include "launch/table_line.h"

#include "runtime/base/wrap.h"

#include <stdarg.h>

void moerun__table_line_add(moerun__table_line *line, const char *format, ...) {
  va_list arguments;
  const int room = (int)sizeof line->text - line->count;
  va_start(arguments, format);
  const int length =
      vsnprintf(line->text + line->count, (size_t)room, format, arguments);
  va_end(arguments);
  if (length > 0) line->count += length < room ? length : room - 1;
}

void moerun__table_line_print(FILE *stream, const char *label, int indent,
                              const moerun__table_line *line) {
  (void)fprintf(stream, "%-*s", indent, label);
  (void)moerun__wrap_words(stream, line->text, indent, indent);
  (void)fputc('\n', stream);
}
