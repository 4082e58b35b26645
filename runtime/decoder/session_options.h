/* What the options of a session may be. */
#ifndef MOERUN_DECODER_SESSION_OPTIONS_H
#define MOERUN_DECODER_SESSION_OPTIONS_H

#include "runtime/decoder/session.h"

/* The type of rows that travel so. */
static inline moerun__dtype moerun__wire_dtype(moerun_wire wire) {
  return wire == MOERUN_WIRE_BF16 ? MOERUN_DTYPE_BF16 : MOERUN_DTYPE_F32;
}

/* ERR_INVALID names the option, with what is expected. */
moerun_status moerun__session_check(const moerun_model *model,
                                    const moerun_session_options *options,
                                    const moerun__session_extra *extra);

/* [collective] ERR_INVALID where ranks have other options, with the range of
 * what they have. */
moerun_status moerun__session_agree(const moerun_session *session);
/* [collective] The same of when moving rows pays. */
moerun_status moerun__session_agree_on_plan(const moerun_session *session);

#endif
