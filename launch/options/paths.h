/* Which files each subcommand reads and writes, and that no output of a command
 * is one of its inputs or another output of it. */
#ifndef MOERUN_OPTIONS_PATHS_H
#define MOERUN_OPTIONS_PATHS_H

#include "launch/command.h"

/* main.c calls it on rank 0 as soon as there is a configuration; nothing on
 * the disk has changed by then. Two options that name the same file, of which
 * one is written, are an error; so is an output that exists without
 * --overwrite, and one that cannot be written. */
moerun_status moerun__paths_check(moerun__invocation *invocation);

/* Whether the table has this option of a subcommand. */
int moerun__paths_know(const char *subcommand, const char *key);

/* Whether path is a NAME.npy without the NAME.json that `profile` writes beside
 * it. */
int moerun__paths_lack_json(const char *path);

#endif
