#include "launch/lines.h"

#include "runtime/base/file.h"
#include "runtime/base/memory.h"
#include "runtime/base/stop.h"

#include <string.h>

moerun_status moerun__lines_begin(moerun__lines *lines, int file,
                                  const char *path) {
  memset(lines, 0, sizeof *lines);
  lines->file = file;
  lines->path = path;
  return moerun__alloc_unset(&lines->block, MOERUN_LINE_BLOCK, 1);
}

void moerun__lines_clear(moerun__lines *lines) {
  moerun__text_clear(&lines->line);
  moerun__free(lines->block);
  memset(lines, 0, sizeof *lines);
}

/* Makes the block hold what stands at lines->end, nothing at the file's end. */
static moerun_status fill_block(moerun__lines *lines) {
  moerun_status status = MOERUN_OK;
  const int64_t block_end = lines->block_offset + (int64_t)lines->block_count;
  if (lines->end < block_end) goto done;
  MOERUN_TRY(moerun__stop_check(lines->path, "it was read"));
  lines->block_offset = lines->end;
  MOERUN_TRY(moerun__file_get(&lines->block_count, lines->block,
                              MOERUN_LINE_BLOCK, lines->file, lines->end,
                              lines->path));
done:
  return status;
}

moerun_status moerun__lines_next(moerun__lines *lines, int *has) {
  moerun_status status = MOERUN_OK;
  const char *newline = NULL;
  int is_long = 0;
  lines->line.count = 0;
  lines->offset = lines->end;
  lines->number++;
  /* What was made of the line before may have taken long. */
  MOERUN_TRY(moerun__stop_check(lines->path, "it was read"));
  while (newline == NULL) {
    MOERUN_TRY(fill_block(lines));
    if (lines->block_count == 0) break;
    const char *from = lines->block + (lines->end - lines->block_offset);
    const size_t left =
        lines->block_count - (size_t)(lines->end - lines->block_offset);
    newline = memchr(from, '\n', left);
    const size_t length = newline != NULL ? (size_t)(newline - from) : left;
    is_long |= lines->line.count + length > MOERUN_LINE_LIMIT;
    if (!is_long) {
      MOERUN_TRY(moerun__text_append(&lines->line, from, length));
    }
    lines->end += (int64_t)length + (newline != NULL);
  }
  *has = lines->end > lines->offset;
  lines->is_torn = newline == NULL;
  MOERUN_REQUIRE(!is_long, MOERUN_ERR_FORMAT,
                 "%s:%lld: expected a line of at most %d MiB, found %lld bytes",
                 lines->path, (long long)lines->number, MOERUN_LINE_LIMIT >> 20,
                 (long long)(lines->end - lines->offset - (newline != NULL)));
done:
  return status;
}
