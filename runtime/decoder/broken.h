/* Where a row first held a number that is infinite or NaN. Weights that are
 * broken, or that overflow, are the cause: no such row may become a token. */
#ifndef MOERUN_DECODER_BROKEN_H
#define MOERUN_DECODER_BROKEN_H

/* Numbers from MOERUN_BROKEN_LAYER on are decoder layers. */
enum {
  MOERUN_BROKEN_NOT = 0,
  MOERUN_BROKEN_EMBEDDING,
  MOERUN_BROKEN_HEAD, /* the final norm and the head */
  MOERUN_BROKEN_LAYER,
};

#endif
