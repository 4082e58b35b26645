/* JSON through Jansson, with messages that name the file, the key, what was
 * expected and what was found. Duplicate keys, invalid UTF-8 and \u0000 are
 * errors. `origin` is the file (and line) that messages start with. A byte
 * order mark in front is skipped, and an integer that does not fit 64 bits is
 * a real number: what is not asked for does no harm. */
#ifndef MOERUN_BASE_JSON_H
#define MOERUN_BASE_JSON_H

#include "runtime/base/status.h"

#include <jansson.h>

/* Text of `bytes` bytes, need not end in NUL. *out: json_decref by the
 * caller. */
moerun_status moerun__json_parse(json_t **out, const char *text, size_t bytes,
                                 const char *origin);
/* A file of at most limit_bytes. */
moerun_status moerun__json_load(json_t **out, const char *path,
                                size_t limit_bytes);

/* Members of the object `object`; a missing key is an error unless `fallback`
 * is given (then *out = *fallback); JSON null counts as missing. */
moerun_status moerun__json_int(int64_t *out, const json_t *object,
                               const char *key, int64_t low, int64_t high,
                               const int64_t *fallback, const char *origin);
moerun_status moerun__json_double(double *out, const json_t *object,
                                  const char *key, double low, double high,
                                  const double *fallback, const char *origin);
moerun_status moerun__json_bool(int *out, const json_t *object, const char *key,
                                const int *fallback, const char *origin);
/* Borrowed from the object; NULL if missing and not required. */
moerun_status moerun__json_text(const char **out, const json_t *object,
                                const char *key, int required,
                                const char *origin);
/* A name of a file or a method: at most MOERUN_NAME_BYTES, so that it can stand
 * in messages and tables. */
enum { MOERUN_NAME_BYTES = 255 };
moerun_status moerun__json_name(const char **out, const json_t *object,
                                const char *key, const char *origin);
moerun_status moerun__json_array(json_t **out, const json_t *object,
                                 const char *key, const char *origin);
moerun_status moerun__json_object(json_t **out, const json_t *object,
                                  const char *key, const char *origin);

/* "an integer", "a string", … for messages. */
const char *moerun__json_kind(const json_t *value);

#endif
