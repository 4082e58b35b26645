/* A file that is not what its name says fails somewhere deep in its reader, in
 * words of that reader: a header that is too long, a bracket that is missing.
 * The first bytes tell what happened; readers ask here before they complain. */
#include "runtime/base/foreign.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

size_t moerun__byte_order_mark(const char *text, size_t bytes) {
  return bytes >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;
}

/* "version https://git-lfs…", "oid …", "size N", a line each. */
static int name_pointer(char out[MOERUN_FOREIGN_TEXT], const char *start) {
  static const char version[] = "version https://git-lfs.github.com/spec/";
  static const char size_line[] = "\nsize ";
  if (strncmp(start, version, sizeof version - 1) != 0) return 0;
  const char *line = strstr(start, size_line);
  const double bytes =
      line != NULL ? strtod(line + sizeof size_line - 1, NULL) : 0;
  char size[32] = "";
  if (bytes >= 1 && bytes < 1e15) {
    const int is_large = bytes >= 1e8;
    (void)snprintf(size, sizeof size, " of %.1f %s",
                   bytes / (is_large ? 1e9 : 1e6), is_large ? "GB" : "MB");
  }
  (void)snprintf(out, MOERUN_FOREIGN_TEXT,
                 "a Git LFS pointer, not the file%s that it stands for: run "
                 "`git lfs pull` in its folder",
                 size);
  return 1;
}

static int is_web_page(const char *start) {
  static const char *const tags[] = {"<!doctype", "<html", "<head", "<body",
                                     "<?xml"};
  start += moerun__byte_order_mark(start, strlen(start));
  start += strspn(start, " \t\r\n");
  for (size_t i = 0; i < sizeof tags / sizeof *tags; i++) {
    if (strncasecmp(start, tags[i], strlen(tags[i])) == 0) return 1;
  }
  return 0;
}

/* A magic number in front of its version: a text may begin with the letters. */
static int is_gguf(const char *start, size_t bytes) {
  return bytes > 4 && memcmp(start, "GGUF", 4) == 0 && start[4] > 0 &&
         start[4] < '\t';
}

/* What its first bytes alone tell; *is_tensors: of one that may hold them. */
static const char *find_magic(int *is_tensors, const char *start,
                              size_t bytes) {
  static const struct {
    const char *magic;
    size_t bytes;
    int is_tensors;
    const char *name;
  } table[] = {
      {"PK\x03\x04", 4, 1,
       "a zip archive, such as PyTorch's .pt, .bin and .pth"},
      {"\x80\x02", 2, 1,
       "a Python pickle, such as PyTorch's .pt, .bin and .pth"},
      {"\x1F\x8B", 2, 0, "a gzip archive: unpack it"},
      {"\x93NUMPY", 6, 0, "a NumPy array"},
      {"\xFF\xFE", 2, 0, "text in UTF-16: save it as UTF-8"},
      {"\xFE\xFF", 2, 0, "text in UTF-16: save it as UTF-8"},
  };
  *is_tensors = 0;
  if (is_gguf(start, bytes)) {
    return "a GGUF file of llama.cpp, which is not read: take the "
           "checkpoint's safetensors files";
  }
  for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
    if (bytes >= table[i].bytes &&
        memcmp(start, table[i].magic, table[i].bytes) == 0) {
      *is_tensors = table[i].is_tensors;
      return table[i].name;
    }
  }
  return NULL;
}

/* What stands in a file whose bytes did not reach the disk before a crash. */
static int is_blank(const char *start, size_t count) {
  size_t i = 0;
  while (i < count && start[i] == '\0') {
    i++;
  }
  return count > 0 && i == count;
}

/* `instead`: what to do in place of giving a file of tensors. */
static int find_name(char out[MOERUN_FOREIGN_TEXT], const char *start,
                     size_t bytes, const char *instead) {
  char text[MOERUN_FOREIGN_START + 1];
  int is_tensors = 0;
  const size_t count =
      bytes < MOERUN_FOREIGN_START ? bytes : MOERUN_FOREIGN_START;
  const char *name = find_magic(&is_tensors, start, bytes);
  out[0] = '\0';
  if (count > 0) memcpy(text, start, count);
  text[count] = '\0';
  if (is_blank(text, count)) {
    name = "nothing but bytes of 0, as a crash of the machine leaves: copy or "
           "make the file again";
  } else if (name == NULL && is_web_page(text)) {
    name = "a web page, such as a server's error, in its place: download the "
           "file again";
  }
  if (name != NULL) {
    (void)snprintf(out, MOERUN_FOREIGN_TEXT, "%s%s%s", name,
                   is_tensors ? ", which is not read: " : "",
                   is_tensors ? instead : "");
    return 1;
  }
  return name_pointer(out, text);
}

int moerun__foreign_name(char out[MOERUN_FOREIGN_TEXT], const char *start,
                         size_t bytes) {
  return find_name(out, start, bytes, "save what it holds as .npy or JSON");
}

int moerun__foreign_weights(char out[MOERUN_FOREIGN_TEXT], const char *start,
                            size_t bytes) {
  return find_name(out, start, bytes,
                   "take the checkpoint's safetensors files");
}
