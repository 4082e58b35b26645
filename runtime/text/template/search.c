/* The algorithm of Knuth, Morris and Pratt, from either side: a text of one
 * letter in which a part of the same letter is looked for must not cost their
 * product, because what a template does is bounded by its steps. */
#include "runtime/text/template/search.h"

#include <string.h>

moerun_status moerun__search_begin(moerun__text_search *s, moerun__render *r,
                                   const moerun__value *text,
                                   const moerun__value *part, int from_end) {
  moerun_status status = MOERUN_OK;
  const size_t n = part->text.count;
  s->render = r;
  s->text = text->text.bytes;
  s->bytes = text->text.count;
  s->part = part->text.bytes;
  s->part_bytes = n;
  s->from_end = from_end;
  s->searched = 0;
  s->border = s->room;
  if (n > s->bytes) goto done; /* there is nothing to find */
  MOERUN_TRY(moerun__render_spend(r, n / 16));
  if (n > sizeof s->room / sizeof *s->room) {
    MOERUN_TRY(moerun__pool_take(&r->pool, &s->border, n * sizeof *s->border));
  }
  const char *const first = from_end ? s->part + n - 1 : s->part;
  const ptrdiff_t step = from_end ? -1 : 1;
  size_t matched = 0;
  s->border[0] = 0;
  for (size_t i = 1; i < n; i++) {
    const char c = first[step * (ptrdiff_t)i];
    while (matched > 0 && c != first[step * (ptrdiff_t)matched]) {
      matched = s->border[matched - 1];
    }
    matched += c == first[step * (ptrdiff_t)matched];
    s->border[i] = matched;
  }
done:
  return status;
}

moerun_status moerun__search_next(const char **out, moerun__text_search *s) {
  moerun_status status = MOERUN_OK;
  const size_t before = s->searched;
  const size_t n = s->part_bytes;
  const ptrdiff_t step = s->from_end ? -1 : 1;
  size_t matched = 0;
  *out = NULL;
  if (n > s->bytes - s->searched) goto done;
  const char *const first = s->from_end ? s->part + n - 1 : s->part;
  const char *at = s->from_end ? s->text + s->bytes - 1 - s->searched
                               : s->text + s->searched;
  while (matched < n && s->searched < s->bytes) {
    while (matched > 0 && *at != first[step * (ptrdiff_t)matched]) {
      matched = s->border[matched - 1];
    }
    matched += *at == first[step * (ptrdiff_t)matched];
    s->searched++;
    if (s->searched < s->bytes) at += step;
  }
  MOERUN_TRY(moerun__render_spend(s->render, 1 + (s->searched - before) / 16));
  if (matched < n) goto done;
  *out = s->from_end ? s->text + s->bytes - s->searched
                     : s->text + s->searched - n;
done:
  return status;
}
