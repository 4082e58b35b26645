/* The small files of a synthetic checkpoint. */
#ifndef MOERUN_MODEL_SYNTH_JSON_H
#define MOERUN_MODEL_SYNTH_JSON_H

#include "runtime/base/text.h"
#include "runtime/model/synth.h"

/* Ids of the byte-level tokenizer: 0..255 are the bytes. */
enum { MOERUN_SYNTH_BOS = 256, MOERUN_SYNTH_EOS, MOERUN_SYNTH_TOKENS };

/* Each appends one JSON document. */
moerun_status moerun__synth_config(moerun__text *out,
                                   const moerun__synth_options *options);
moerun_status moerun__synth_generation(moerun__text *out);
moerun_status moerun__synth_tokenizer(moerun__text *out);

#endif
