/* Lines for people: words, in lines that a terminal of 80 columns does not
 * break. */
#ifndef MOERUN_BASE_WRAP_H
#define MOERUN_BASE_WRAP_H

#include <stdio.h>

enum { MOERUN_WRAP_WIDTH = 80 };

/* Prints the words of text from `column` on, and goes on in column `indent` of
 * the next line where a word would pass the width. A word that is longer than a
 * line has one of its own. No blank is printed before a word that begins in
 * column `indent`. Returns the column behind the last word. */
int moerun__wrap_words(FILE *stream, const char *text, int column, int indent);

#endif
