/* The post-processor of a tokenizer.json: the tokens that it puts in front of a
 * text and behind it. */
#ifndef MOERUN_TEXT_POST_H
#define MOERUN_TEXT_POST_H

#include "runtime/text/token_list.h"

#include <jansson.h>

typedef struct moerun__post {
  moerun__token_list front;
  moerun__token_list behind;
} moerun__post;

/* From the value of key "post_processor": null, one stage or a Sequence.
 * `where` names it in messages. All zero before; cleared by the caller, also
 * after a failure. ERR_UNSUPPORTED names a stage that is not known. */
moerun_status moerun__post_read(moerun__post *post, const json_t *value,
                                const char *where);
void moerun__post_clear(moerun__post *post);

#endif
