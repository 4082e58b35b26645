/* What filters mean by an attribute: "a.b.0" leads to a member of a member. */
#ifndef MOERUN_TEXT_TEMPLATE_MEMBER_PATH_H
#define MOERUN_TEXT_TEMPLATE_MEMBER_PATH_H

#include "runtime/text/template/render.h"

/* The member of a value that a path (a text or an integer) leads to. */
moerun_status moerun__member_at(moerun__value *out, moerun__render *r,
                                const moerun__value *value,
                                const moerun__value *path);

#endif
