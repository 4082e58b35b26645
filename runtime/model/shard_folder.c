/* A folder without model.safetensors and without an index often holds the
 * weights all the same: some shards of a broken download, another format, an
 * adapter. Its names tell, and the message says what to get. */
#include "runtime/model/shard_folder.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { NAME_BYTES = 256, PATH_BYTES = 1024, KINDS = 7 };

/* In the order in which they are told: the first that is there. */
static const struct {
  const char *beginning;
  const char *ending;
  const char *advice; /* behind the name of the first such file */
} kinds[KINDS] = {
    {"model-", ".safetensors",
     "without model.safetensors.index.json: download that file, too"},
    {"adapter_model", "",
     "of an adapter, which is no model: merge it into its base model"},
    {"consolidated", ".safetensors",
     "in another layout: take the files in Hugging Face layout"},
    {"", ".safetensors",
     "under another name: a single file is called model.safetensors"},
    {"", ".gguf",
     "of llama.cpp, which is not read: take the checkpoint's safetensors "
     "files"},
    {"", ".bin",
     "of PyTorch, which is not read: take safetensors files or convert it"},
    {"", ".pth",
     "of PyTorch, which is not read: take safetensors files or convert it"},
};

static int is_kind(int kind, const char *name) {
  const size_t begins = strlen(kinds[kind].beginning);
  const size_t ends = strlen(kinds[kind].ending);
  const size_t bytes = strlen(name);
  return bytes >= begins + ends &&
         strncmp(name, kinds[kind].beginning, begins) == 0 &&
         strcmp(name + bytes - ends, kinds[kind].ending) == 0;
}

/* Files of each kind, and the first of them by name. */
static void count_kinds(int count[KINDS], char first[KINDS][NAME_BYTES],
                        DIR *folder) {
  const struct dirent *entry = NULL;
  memset(count, 0, KINDS * sizeof *count);
  /* The stream is this function's own. NOLINTNEXTLINE(concurrency-mt-unsafe) */
  while ((entry = readdir(folder)) != NULL) {
    for (int k = 0; k < KINDS; k++) {
      if (!is_kind(k, entry->d_name)) continue;
      if (count[k] == 0 || strcmp(entry->d_name, first[k]) < 0) {
        (void)snprintf(first[k], NAME_BYTES, "%s", entry->d_name);
      }
      count[k]++;
      break;
    }
  }
}

/* A link whose target is gone, such as into a cache that was cleared. */
static moerun_status refuse_dangling(const char *path, const char *name) {
  moerun_status status = MOERUN_OK;
  struct stat facts;
  char link[PATH_BYTES];
  (void)snprintf(link, sizeof link, "%s/%s", path, name);
  MOERUN_REQUIRE(lstat(link, &facts) != 0, MOERUN_ERR_IO,
                 "%s: expected a file, found a link to one that is not there",
                 link);
done:
  return status;
}

moerun_status moerun__shards_explain(const char *path) {
  moerun_status status = MOERUN_OK;
  int count[KINDS] = {0};
  char first[KINDS][NAME_BYTES];
  int kind = 0;
  DIR *folder = NULL;
  MOERUN_TRY(refuse_dangling(path, "model.safetensors"));
  MOERUN_TRY(refuse_dangling(path, "model.safetensors.index.json"));
  folder = opendir(path);
  if (folder != NULL) count_kinds(count, first, folder);
  while (kind < KINDS && count[kind] == 0) {
    kind++;
  }
  MOERUN_REQUIRE(kind == KINDS, MOERUN_ERR_UNSUPPORTED,
                 "%s: expected model.safetensors or "
                 "model.safetensors.index.json, found %s%s %s",
                 path, first[kind], count[kind] > 1 ? " and others" : "",
                 kinds[kind].advice);
  MOERUN_REQUIRE(0, MOERUN_ERR_IO,
                 "%s: expected model.safetensors or "
                 "model.safetensors.index.json, found neither",
                 path);
done:
  if (folder != NULL) (void)closedir(folder);
  return status;
}
