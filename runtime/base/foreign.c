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

/* What its first bytes alone tell. */
static const char *find_magic(const char *start, size_t bytes) {
  static const struct {
    const char *magic;
    size_t bytes;
    const char *name;
  } table[] = {
      {"GGUF", 4,
       "a GGUF file of llama.cpp, which is not read: take the checkpoint's "
       "safetensors files"},
      {"PK\x03\x04", 4,
       "a zip archive, such as PyTorch's .bin and .pth, which is not read: "
       "take the checkpoint's safetensors files"},
      {"\x80\x02", 2,
       "a Python pickle, such as PyTorch's .bin and .pth, which is not read: "
       "take the checkpoint's safetensors files"},
      {"\x1F\x8B", 2, "a gzip archive: unpack it"},
      {"\x93NUMPY", 6, "a NumPy array"},
      {"\xFF\xFE", 2, "text in UTF-16: save it as UTF-8"},
      {"\xFE\xFF", 2, "text in UTF-16: save it as UTF-8"},
  };
  for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
    if (bytes >= table[i].bytes &&
        memcmp(start, table[i].magic, table[i].bytes) == 0) {
      return table[i].name;
    }
  }
  return NULL;
}

int moerun__foreign_name(char out[MOERUN_FOREIGN_TEXT], const char *start,
                         size_t bytes) {
  char text[MOERUN_FOREIGN_START + 1];
  const size_t count =
      bytes < MOERUN_FOREIGN_START ? bytes : MOERUN_FOREIGN_START;
  const char *name = find_magic(start, bytes);
  out[0] = '\0';
  if (count > 0) memcpy(text, start, count);
  text[count] = '\0';
  if (name == NULL && is_web_page(text)) {
    name = "a web page, such as a server's error, in its place: download the "
           "file again";
  }
  if (name != NULL) {
    (void)snprintf(out, MOERUN_FOREIGN_TEXT, "%s", name);
    return 1;
  }
  return name_pointer(out, text);
}
