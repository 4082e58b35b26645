#include "launch/place/describe_table.h"

#include "launch/table_line.h"

#include <string.h>

enum { VERSION = 1 };

/* ---- For people ---------------------------------------------------------- */

/* Nothing follows the last layer. */
static void print_layer(FILE *stream, const moerun__layer_facts *layer,
                        int is_followed) {
  (void)fprintf(stream, "%7.2f  %9.2f  %6d  ", layer->peak, layer->variation,
                layer->unused);
  if (is_followed) {
    (void)fprintf(stream, "%8.3f  %6.3f", layer->affinity,
                  layer->affinity_by_chance);
  } else {
    (void)fprintf(stream, "%8s  %6s", "-", "-");
  }
  (void)fprintf(stream, "  %8.3f  %6.3f\n", layer->together,
                layer->together_by_chance);
}

static void print_layers(FILE *stream, const moerun__description *d) {
  (void)fputs(
      "\n         hottest expert       load          next layer's    others of "
      "the token\n"
      "  layer  expert  max/mean  variation  unused  affinity  chance  "
      "affinity  chance\n",
      stream);
  for (int32_t l = 0; l < d->num_layers; l++) {
    (void)fprintf(stream, "  %5d  %6d   ", l, d->layer[l].hottest);
    print_layer(stream, &d->layer[l], l + 1 < d->num_layers);
  }
  (void)fprintf(stream, "  %5s  %6s   ", "mean", "");
  print_layer(stream, &d->mean, d->num_layers > 1);
}

static void print_blocks(FILE *stream, const moerun__description *d) {
  (void)fputs("\n  in blocks over  ranks a token  drawn at  rank load\n"
              "           ranks         visits    random   max/mean\n",
              stream);
  for (int32_t b = 0; b < d->num_blocks; b++) {
    const moerun__block_facts *block = &d->block[b];
    (void)fprintf(stream, "  %14d  %13.3f  %8.3f  %9.3f\n", block->num_ranks,
                  block->fanout, block->uniform, block->load);
  }
}

static void print_caches(FILE *stream, const moerun__description *d) {
  (void)fprintf(
      stream,
      "\n  share of a layer's terms that a cache of so many experts "
      "serves\n"
      "  (%lld segments of up to %d tokens)\n"
      "  experts  fixed  best of each segment    LRU  best possible\n",
      (long long)d->num_segments, d->segment_tokens);
  for (int32_t c = 0; c < d->num_caches; c++) {
    const moerun__cache_facts *cache = &d->cache[c];
    (void)fprintf(stream, "  %7d  %5.3f  %20.3f  %5.3f  %13.3f\n", cache->size,
                  cache->fixed, cache->segment, cache->recent, cache->best);
  }
}

void moerun__describe_print(FILE *stream, const char *name,
                            const moerun__trace *trace,
                            const moerun__description *description) {
  moerun__table_line line = {0};
  (void)fprintf(stream, "trace %s\n", name);
  moerun__table_line_add(&line,
                         "%lld tokens in %lld sequences, %d MoE layers of %d "
                         "experts, %d a token",
                         (long long)trace->num_tokens,
                         (long long)trace->num_sequences, trace->num_layers,
                         trace->num_experts, trace->num_terms);
  moerun__table_line_print(stream, "", 2, &line);
  print_layers(stream, description);
  print_blocks(stream, description);
  print_caches(stream, description);
}

/* ---- As JSON ------------------------------------------------------------- */

static moerun_status put_layer(moerun__text *out,
                               const moerun__layer_facts *layer) {
  return moerun__text_print(
      out,
      "\"unused\": %d, \"max_over_mean\": %.6g, \"variation\": %.6g, "
      "\"affinity\": %.6g, \"affinity_by_chance\": %.6g, \"together\": %.6g, "
      "\"together_by_chance\": %.6g}",
      layer->unused, layer->peak, layer->variation, layer->affinity,
      layer->affinity_by_chance, layer->together, layer->together_by_chance);
}

static moerun_status put_layers(moerun__text *out,
                                const moerun__description *d) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__text_print(out, ",\n  \"layers\": ["));
  for (int32_t l = 0; l < d->num_layers; l++) {
    MOERUN_TRY(moerun__text_print(out, "%s{\"hottest\": %d, ",
                                  l > 0 ? ",\n    " : "\n    ",
                                  d->layer[l].hottest));
    MOERUN_TRY(put_layer(out, &d->layer[l]));
  }
  MOERUN_TRY(moerun__text_print(out, "],\n  \"mean\": {"));
  MOERUN_TRY(put_layer(out, &d->mean));
done:
  return status;
}

moerun_status moerun__describe_json(moerun__text *out, const char *name,
                                    const moerun__trace *trace,
                                    const moerun__description *d) {
  moerun_status status = MOERUN_OK;
  const char *gap = "\n    ";
  MOERUN_TRY(moerun__text_print(
      out,
      "{\"format\": \"moerun-description\", \"version\": %d,\n  \"trace\": ",
      VERSION));
  MOERUN_TRY(moerun__text_json(out, name, strlen(name)));
  MOERUN_TRY(moerun__text_print(
      out,
      ", \"digest\": \"%016llx\", \"tokens\": %lld, \"sequences\": %lld, "
      "\"num_layers\": %d, \"num_experts\": %d, \"experts_per_token\": %d",
      (unsigned long long)moerun__trace_digest(trace),
      (long long)trace->num_tokens, (long long)trace->num_sequences,
      trace->num_layers, trace->num_experts, trace->num_terms));
  MOERUN_TRY(put_layers(out, d));
  MOERUN_TRY(moerun__text_print(out, ",\n  \"blocks\": ["));
  for (int32_t b = 0; b < d->num_blocks; b++, gap = ",\n    ") {
    const moerun__block_facts *block = &d->block[b];
    MOERUN_TRY(moerun__text_print(
        out,
        "%s{\"ranks\": %d, \"fanout\": %.6g, \"fanout_at_random\": %.6g, "
        "\"load\": %.6g}",
        gap, block->num_ranks, block->fanout, block->uniform, block->load));
  }
  MOERUN_TRY(moerun__text_print(out,
                                "],\n  \"segment_tokens\": %d, \"segments\": "
                                "%lld,\n  \"caches\": [",
                                d->segment_tokens, (long long)d->num_segments));
  gap = "\n    ";
  for (int32_t c = 0; c < d->num_caches; c++, gap = ",\n    ") {
    const moerun__cache_facts *cache = &d->cache[c];
    MOERUN_TRY(moerun__text_print(
        out,
        "%s{\"experts\": %d, \"fixed\": %.6g, \"segment\": %.6g, \"lru\": "
        "%.6g, \"best\": %.6g}",
        gap, cache->size, cache->fixed, cache->segment, cache->recent,
        cache->best));
  }
  MOERUN_TRY(moerun__text_print(out, "]}\n"));
done:
  return status;
}
