/* A node's memory is what /proc/meminfo says is available, which counts pages
 * that the system would give up. A control group's is its limit less what it
 * uses, of every group above the process's own, in both versions of groups;
 * pages of files that it could give up are not counted as used. */
#include "launch/node_memory.h"

#include "runtime/base/digest.h"
#include "runtime/base/memory.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- This node ----------------------------------------------------------------- */

/* The number behind `key` in a file of lines, or with the key "" the file's
 * first number; -1: there is none. */
static int64_t number_in(const char *path, const char *key) {
  char line[256];
  int64_t found = -1;
  FILE *file = fopen(path, "re");
  if (file == NULL) return -1;
  while (found < 0 && fgets(line, sizeof line, file) != NULL) {
    const size_t length = strlen(key);
    if (strncmp(line, key, length) != 0) continue;
    char *end = NULL;
    const long long value = strtoll(line + length, &end, 10);
    if (end != line + length && value >= 0) found = value;
  }
  (void)fclose(file);
  return found;
}

/* What the group in this folder leaves; INT64_MAX: it has no limit. */
static int64_t left_in_group(const char *folder, const char *limit_name,
                             const char *used_name, const char *given_up) {
  char path[PATH_MAX + 64];
  (void)snprintf(path, sizeof path, "%s/%s", folder, limit_name);
  const int64_t limit = number_in(path, "");
  (void)snprintf(path, sizeof path, "%s/%s", folder, used_name);
  int64_t used = number_in(path, "");
  if (limit < 0 || used < 0) return INT64_MAX;
  (void)snprintf(path, sizeof path, "%s/memory.stat", folder);
  const int64_t files = number_in(path, given_up);
  used -= files > 0 && files < used ? files : 0;
  return used < limit ? limit - used : 0;
}

/* Of the group at `name` below `root` and of all groups above it. */
static int64_t left_in_groups(const char *root, char *name,
                              const char *limit_name, const char *used_name,
                              const char *given_up) {
  int64_t least = INT64_MAX;
  for (;;) {
    char folder[PATH_MAX];
    (void)snprintf(folder, sizeof folder, "%s%s", root, name);
    const int64_t left = left_in_group(folder, limit_name, used_name, given_up);
    if (left < least) least = left;
    char *last = strrchr(name, '/');
    if (last == NULL) break;
    *last = '\0';
  }
  return least;
}

int64_t moerun__node_memory_left(void) {
  char line[PATH_MAX];
  const int64_t kib = number_in("/proc/meminfo", "MemAvailable:");
  int64_t least = kib < 0 ? INT64_MAX : kib * 1024;
  FILE *file = fopen("/proc/self/cgroup", "re");
  while (file != NULL && fgets(line, sizeof line, file) != NULL) {
    int64_t left = INT64_MAX;
    line[strcspn(line, "\n")] = '\0';
    char *name = strrchr(line, ':');
    if (name == NULL) continue;
    if (strncmp(line, "0::", 3) == 0) {
      left = left_in_groups("/sys/fs/cgroup", name + 1, "memory.max",
                            "memory.current", "inactive_file ");
    } else if (strstr(line, ":memory:") != NULL) {
      left = left_in_groups("/sys/fs/cgroup/memory", name + 1,
                            "memory.limit_in_bytes", "memory.usage_in_bytes",
                            "total_inactive_file ");
    }
    if (left < least) least = left;
  }
  if (file != NULL) (void)fclose(file);
  return least;
}

/* ---- All nodes ----------------------------------------------------------------- */

/* Of rank `rank`'s node, for each of its ranks. */
static int64_t share_of_node(const moerun__prediction *ranks,
                             const uint64_t *node, const int64_t *left,
                             int32_t num_ranks, int32_t rank) {
  int64_t least = INT64_MAX;
  size_t taken = 0;
  int64_t count = 0;
  for (int32_t r = 0; r < num_ranks; r++) {
    if (node[r] != node[rank]) continue;
    moerun__prediction without = ranks[r];
    without.guest_bytes = 0;
    taken += moerun__prediction_total(&without);
    if (left[r] < least) least = left[r];
    count++;
  }
  if (least == INT64_MAX) return least;
  return (size_t)least > taken ? (least - (int64_t)taken) / (2 * count) : 0;
}

int64_t moerun__guests_that_fit(int64_t wanted, const moerun__prediction *ranks,
                                const uint64_t *node, const int64_t *left,
                                int32_t num_ranks) {
  int64_t least = wanted;
  for (int32_t r = 0; r < num_ranks; r++) {
    if (r > 0 && node[r] == node[r - 1]) continue; /* as a rule */
    const int64_t share = share_of_node(ranks, node, left, num_ranks, r);
    if (share < least) least = share;
  }
  return least;
}

/* A rank's node and what is left there. */
typedef struct place {
  uint64_t node;
  int64_t left;
} place;

/* A node is what boots together under one name. */
static place own_place(void) {
  char boot[64] = "";
  char name[256] = "";
  FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
  if (file != NULL) {
    if (fgets(boot, sizeof boot, file) == NULL) boot[0] = '\0';
    (void)fclose(file);
  }
  (void)gethostname(name, sizeof name - 1);
  const uint64_t digest = moerun__digest_text(MOERUN_DIGEST_START, boot);
  return (place){moerun__digest_text(digest, name), moerun__node_memory_left()};
}

typedef struct places {
  place *of_rank; /* [R], on rank 0 like the others */
  uint64_t *node;
  int64_t *left;
} places;

static moerun_status make_places(places *p, const moerun_comm *comm) {
  moerun_status status = MOERUN_OK;
  const size_t R = comm->rank == 0 ? (size_t)comm->size : 0;
  MOERUN_TRY(moerun__alloc(&p->of_rank, R, sizeof *p->of_rank));
  MOERUN_TRY(moerun__alloc(&p->node, R, sizeof *p->node));
  MOERUN_TRY(moerun__alloc(&p->left, R, sizeof *p->left));
done:
  return status;
}

/* On rank 0: what fits becomes what is predicted. */
static int64_t fit(moerun__prediction *predicted, const places *p,
                   int32_t num_ranks) {
  for (int32_t r = 0; r < num_ranks; r++) {
    p->node[r] = p->of_rank[r].node;
    p->left[r] = p->of_rank[r].left;
  }
  const int64_t bytes =
      moerun__guests_that_fit((int64_t)predicted[0].guest_bytes, predicted,
                              p->node, p->left, num_ranks);
  for (int32_t r = 0; r < num_ranks; r++) {
    predicted[r].guest_bytes = (size_t)bytes;
  }
  return bytes > 0 ? bytes : -1; /* none: 0 would be the default */
}

moerun_status moerun__guests_agree(int64_t *bytes,
                                   moerun__prediction *predicted,
                                   const moerun__config *config,
                                   moerun_comm *comm) {
  moerun_status status = MOERUN_OK;
  const place own = own_place();
  places all = {0};
  *bytes = moerun__config_int(config, "guest_memory") << 20;
  if (*bytes != 0 || comm->size == 1) goto done;
  MOERUN_TRY(moerun__comm_agree(comm, make_places(&all, comm)));
  MOERUN_TRY(comm->ops->gather(comm, all.of_rank, &own, sizeof own));
  if (comm->rank == 0) *bytes = fit(predicted, &all, comm->size);
  MOERUN_TRY(comm->ops->broadcast(comm, bytes, sizeof *bytes));
done:
  moerun__free(all.of_rank);
  moerun__free(all.node);
  moerun__free(all.left);
  return status;
}
