/* cmocka needs these four headers before its own. */
#ifndef MOERUN_TESTS_CMOCKA_H
#define MOERUN_TESTS_CMOCKA_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#endif
