/* Whether a misspelt name was meant to be one that exists: for "did you
 * mean". */
#ifndef MOERUN_BASE_SPELLING_H
#define MOERUN_BASE_SPELLING_H

#include <stddef.h>

/* How far text[length] is from `word` if it may be a slip of the pen for it;
 * -1: it is too far. A letter that is missing, too many, wrong or swapped with
 * the next counts 1, and a third of the letters may be so. The beginning of a
 * word, from 3 letters on, counts 1. '-' and '_' are equal. */
int moerun__spelling_distance(const char *text, size_t length,
                              const char *word);

#endif
