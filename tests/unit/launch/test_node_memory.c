/* What a node has left, from made-up trees of /proc and /sys, and the line of
 * ranks that do not fit. */
#include "launch/run/node_memory.h"
#include "support/cmocka.h"
#include "support/temp_dir.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const int64_t mib = 1 << 20;

static temp_dir folder;
static const char *const root = folder.path;

/* A file below the root, with the folders that lead to it. */
static void put(const char *path, const char *text) {
  char whole[8192];
  (void)snprintf(whole, sizeof whole, "%s%s", root, path);
  for (char *at = whole + strlen(root) + 1; (at = strchr(at, '/')) != NULL;
       at++) {
    *at = '\0';
    (void)mkdir(whole, 0777);
    *at = '/';
  }
  FILE *file = fopen(whole, "w");
  assert_non_null(file);
  assert_true(fputs(text, file) >= 0);
  assert_int_equal(fclose(file), 0);
}

static void begin(void) {
  assert_true(temp_dir_create(&folder));
}

static void expect_left(int64_t bytes, const char *source) {
  moerun__memory_left left;
  assert_int_equal(moerun__memory_left_read(&left, root), MOERUN_OK);
  assert_int_equal(left.bytes, bytes);
  if (strstr(left.source, source) == NULL) {
    fail_msg("expected %s, found %s", source, left.source);
  }
  temp_remove(root, 9);
}

static void nothing_known_limits_nothing(void **state) {
  (void)state;
  begin();
  expect_left(INT64_MAX, "");
}

static void the_system_says_what_is_available(void **state) {
  (void)state;
  begin();
  put("/proc/meminfo", "MemTotal:  9000 kB\nMemFree: 1 kB\n"
                       "MemAvailable:    4096 kB\n");
  put("/proc/self/cgroup", "0::/none\n");
  expect_left(4 * mib, "MemAvailable");
}

/* The tightest of a group and those above it, less what it uses beyond files
 * that can be dropped. */
static void version_2_counts_parents(void **state) {
  (void)state;
  begin();
  put("/proc/meminfo", "MemAvailable: 1048576 kB\n");
  put("/proc/self/cgroup", "0::/slurm/job_7/step_0\n");
  put("/sys/fs/cgroup/slurm/job_7/step_0/memory.max", "max\n");
  put("/sys/fs/cgroup/slurm/job_7/memory.max", "104857600\n"); /* 100 MiB */
  put("/sys/fs/cgroup/slurm/job_7/memory.current", "41943040\n");
  put("/sys/fs/cgroup/slurm/job_7/memory.stat",
      "anon 1\nfile 31457280\ninactive_file 10485760\n"
      "active_file 20971520\n");
  put("/sys/fs/cgroup/slurm/memory.max", "209715200\n");
  expect_left(90 * mib, "/sys/fs/cgroup/slurm/job_7/memory.max is 0.1 GiB");
}

/* A container sees its own group as the root, and another path. */
static void the_root_counts_in_a_container(void **state) {
  (void)state;
  begin();
  put("/proc/self/cgroup", "0::/../../kubepods/pod1\n");
  put("/sys/fs/cgroup/memory.max", "67108864\n");
  put("/sys/fs/cgroup/memory.current", "1048576\n");
  expect_left(63 * mib, "/sys/fs/cgroup/memory.max");
}

static void version_1_counts_parents(void **state) {
  (void)state;
  begin();
  put("/proc/meminfo", "MemAvailable: 1048576 kB\n");
  put("/proc/self/cgroup", "5:cpu,cpuacct:/x\n4:hugetlb,memory:/user/job\n"
                           "0::/\n");
  put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  put("/sys/fs/cgroup/memory/user/memory.limit_in_bytes", "33554432\n");
  put("/sys/fs/cgroup/memory/user/memory.usage_in_bytes", "99999999\n");
  put("/sys/fs/cgroup/memory/user/memory.stat",
      "inactive_file 0\ntotal_inactive_file 99999998\n");
  expect_left(32 * mib - 1, "memory/user/memory.limit_in_bytes");
}

static void a_full_group_has_nothing_left(void **state) {
  (void)state;
  begin();
  put("/proc/self/cgroup", "0::/a");
  put("/sys/fs/cgroup/a/memory.max", "1000\n");
  put("/sys/fs/cgroup/a/memory.current", "2000\n");
  expect_left(0, "/sys/fs/cgroup/a/memory.max");
}

/* ---- The comparison ------------------------------------------------------ */

static void ranks_of_a_node_are_compared_together(void **state) {
  (void)state;
  const moerun__prediction one = {.weight_bytes = (size_t)1 << 30,
                                  .expert_bytes = (size_t)2 << 30,
                                  .cache_bytes = (size_t)4 << 30,
                                  .buffer_bytes = (size_t)1 << 29,
                                  .guest_bytes = (size_t)1 << 29};
  const moerun__node node = {.ranks = 2, .sum = (int64_t)16 << 30};
  moerun__memory_left left = {.bytes = node.sum, .source = "the test"};
  assert_int_equal(moerun__node_memory_compare(&node, &one, &left), MOERUN_OK);
  left.bytes--;
  assert_int_equal(moerun__node_memory_compare(&node, &one, &left),
                   MOERUN_ERR_NOMEM);
  static const char *const words[] = {
      "2 ranks of this node", "16.00 GiB together", "weights 1.00",
      "experts 2.00",         "KV cache 4.00",      "buffers 1.00)",
      "found 16.00 left",     "(the test)",         "--max-sequences",
      "--kv-tokens",          "--guest-memory",     "--memory-check off",
      "--slice-memory"};
  for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
    if (strstr(moerun_last_error(), words[i]) == NULL) {
      fail_msg("expected %s in: %s", words[i], moerun_last_error());
    }
  }
}

static void the_largest_of_each_node_is_found(void **state) {
  (void)state;
  enum { R = 6 };
  static const size_t experts[R] = {3, 9, 5, 7, 7, 1};
  static const int32_t node[R] = {0, 1, 0, 1, 0, 5};
  static const size_t most[R] = {7, 9, 7, 9, 7, 1};
  moerun__prediction ranks[R] = {0};
  moerun__prediction largest[R] = {0};
  for (int r = 0; r < R; r++) {
    ranks[r].expert_bytes = experts[r] << 20;
  }
  moerun__largest_of_nodes(largest, ranks, node, R);
  for (int r = 0; r < R; r++) {
    assert_int_equal(largest[r].expert_bytes, most[r] << 20);
  }
}

static void advice_follows_what_was_short(void **state) {
  (void)state;
  assert_int_equal(moerun__memory_advise(MOERUN_OK, "x"), MOERUN_OK);
  (void)moerun__fail(MOERUN_ERR_IO, "f", 1, "broken");
  assert_int_equal(moerun__memory_advise(MOERUN_ERR_IO, "x"), MOERUN_ERR_IO);
  assert_string_equal(moerun_last_error(), "broken");
  (void)moerun__fail(MOERUN_ERR_NOMEM, "f", 1, "out of memory: 7 bytes");
  assert_int_equal(moerun__memory_advise(MOERUN_ERR_NOMEM, "take less"),
                   MOERUN_ERR_NOMEM);
  assert_string_equal(moerun_last_error(), "out of memory: 7 bytes; take less");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(nothing_known_limits_nothing),
      cmocka_unit_test(the_system_says_what_is_available),
      cmocka_unit_test(version_2_counts_parents),
      cmocka_unit_test(the_root_counts_in_a_container),
      cmocka_unit_test(version_1_counts_parents),
      cmocka_unit_test(a_full_group_has_nothing_left),
      cmocka_unit_test(ranks_of_a_node_are_compared_together),
      cmocka_unit_test(the_largest_of_each_node_is_found),
      cmocka_unit_test(advice_follows_what_was_short),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
