/* The verdict is the one that the ranks would come to if they all ran on one
 * node. What nobody asked for is no reason to end a run: guests, spare slots
 * and, last, moving experts get what is left there (node_memory.c). So there
 * are two sums, with and without these. Where info runs, on a login node as a
 * rule, may be no node of the run, which is why the line names whose memory it
 * is and how one asks of another node. */
#include "launch/run/node_fit.h"

#include "launch/run/node_memory.h"
#include "launch/table_line.h"
#include "runtime/base/memory.h"

static const double gib = 1073741824.0;

moerun_status moerun__node_fit_find(moerun__node_fit *out,
                                    const moerun__prediction *ranks,
                                    const moerun__config *config,
                                    const moerun_placement *placement,
                                    const moerun__cache_need *need) {
  moerun_status status = MOERUN_OK;
  moerun__prediction *least = NULL;
  const int gives_guests = moerun__config_int(config, "guest_memory") == 0;
  const int gives_slots = moerun__config_int(config, "spare_slots") < 0;
  const int may_stay =
      gives_slots && moerun__config_int(config, "replace_every") < 0;
  *out = (moerun__node_fit){.num_ranks = moerun_placement_num_ranks(placement)};
  out->is_given = moerun__config_int(config, "node_memory") > 0;
  MOERUN_TRY(moerun__node_memory_left(&out->left, config));
  MOERUN_TRY(moerun__predict(&least, config, placement, need,
                             may_stay ? MOERUN_RUN_STAYS : 0));
  for (int32_t r = 0; r < moerun_placement_num_ranks(placement); r++) {
    if (gives_guests) least[r].guest_bytes = 0;
    if (gives_slots) least[r].spare_bytes = 0;
    const size_t bytes = moerun__prediction_total(&least[r]);
    out->wanted += moerun__prediction_total(&ranks[r]);
    out->needed += bytes;
    if (bytes > out->largest) out->largest = bytes;
  }
done:
  moerun__free(least);
  return status;
}

int32_t moerun__node_fit_ranks(const moerun__node_fit *fit) {
  if (fit->needed <= (size_t)fit->left.bytes) return fit->num_ranks;
  return (int32_t)((size_t)fit->left.bytes / fit->largest);
}

static void add_ranks(moerun__table_line *line, const moerun__node_fit *fit,
                      int fits) {
  if (fit->num_ranks == 1) {
    moerun__table_line_add(line, "the rank takes ");
  } else {
    moerun__table_line_add(line, "all %d ranks on one node take ",
                           fit->num_ranks);
  }
  moerun__table_line_add(line, "%.2f GiB",
                         (double)(fits ? fit->wanted : fit->needed) / gib);
  if (fits && fit->wanted > (size_t)fit->left.bytes) {
    moerun__table_line_add(line,
                           ", %.2f of them for guests and spare slots, which "
                           "get no more than is left",
                           (double)(fit->wanted - fit->needed) / gib);
  }
}

void moerun__node_fit_print(FILE *stream, const moerun__node_fit *fit) {
  moerun__table_line line = {0};
  const int is_known = fit->left.bytes < INT64_MAX;
  const int fits = fit->needed <= (size_t)fit->left.bytes;
  const char *verdict = !is_known ? "not known"
                        : fits    ? "fits"
                                  : "does not fit";
  moerun__table_line_add(&line, "%s: ", verdict);
  add_ranks(&line, fit, fits);
  if (is_known) {
    moerun__table_line_add(&line, "; %s has %.2f GiB%s (%s)",
                           fit->is_given ? "a node"
                                         : "the node that info runs on",
                           (double)fit->left.bytes / gib,
                           fit->is_given ? "" : " left", fit->left.source);
  }
  if (!fits && fit->num_ranks > 1) {
    moerun__table_line_add(&line, ", so that one like it holds %d of them",
                           moerun__node_fit_ranks(fit));
  }
  if (!fit->is_given) {
    moerun__table_line_add(&line, "; --node-memory MIB asks of other nodes");
  }
  moerun__table_line_print(stream, "verdict", 10, &line);
}
