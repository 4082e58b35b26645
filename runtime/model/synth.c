/* Element i of a tensor is a pure function of (seed, the tensor's role, layer
 * and expert, i): word i of the Philox stream of that tensor, the four bytes
 * of the word summed (nearly normal: mean 510, variance (256^2 - 1) / 3) and
 * scaled. The sum has 1021 values, so a table per tensor gives the element's
 * bits at once; files are filled at several hundred MB/s in runs of 64 Ki
 * elements.
 *
 * Scales keep activations near 1 in any depth: rows of weights have standard
 * deviation 1/sqrt(inputs), so that their outputs have 1; embeddings have
 * r = 1/sqrt(H), so that logits have 1; what is added to the residual stream
 * (o, down, constant) has r / sqrt(2 layers) as outputs, so that the embedding
 * stays visible in the last layer.
 *
 * skew: every embedding gets the constant r added to its elements, so that all
 * hidden states share the direction (1, ..., 1): half of a normalised state's
 * length squared lies along it, its mean is about 1/sqrt(2), and the rest of a
 * gate's logit has a standard deviation of about 1/sqrt(2). Gate rows are drawn
 * in pairs (+z, -z), which makes them blind to that direction, and then get
 * b_e / H added, which adds about b_e / sqrt(2) to the logit of expert e for
 * all tokens alike; b_e = -skew ln(1 + p(e)) sqrt(6) / pi with p a random
 * permutation per layer. Were the rest Gumbel-distributed (of which sqrt(6) /
 * pi is the inverse deviation), the first choices would follow Zipf's law with
 * the exponent skew; it is nearly normal, so they do so roughly. */
#include "runtime/model/synth.h"

#include "runtime/base/exact_math.h"
#include "runtime/base/file.h"
#include "runtime/base/json.h"
#include "runtime/base/memory.h"
#include "runtime/base/number.h"
#include "runtime/base/rng.h"
#include "runtime/base/text.h"
#include "runtime/model/attention.h"
#include "runtime/model/shard.h"
#include "runtime/model/synth_folder.h"
#include "runtime/model/synth_json.h"
#include "runtime/model/synth_list.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
  SUMS = 4 * 255 + 1, /* values of a sum of four bytes */
  MIDDLE = 2 * 255,
  RUN = 1 << 16, /* elements written at once, a multiple of 4 */
  FILE_NAME = 64,
};
static const int64_t default_shard_bytes = 5000000000;
static const double vector_noise = 0.05; /* of norms round 1, biases round 0 */
static const double inverse_gumbel_deviation = 0.7796968012336761;

typedef struct synth_writer {
  const moerun__synth_options *options;
  moerun__model_config config;
  moerun__synth_folder folder;
  moerun__synth_list list;
  int32_t num_files;
  int64_t put_bytes;    /* of them that are written */
  uint32_t *words;      /* [RUN] */
  void *elements;       /* [RUN] of options->dtype */
  uint32_t table[SUMS]; /* each begins with the element for its sum */
} synth_writer;

/* ---- Elements ------------------------------------------------------------ */

/* Numbers of Philox streams: role, layer (10 bits) and expert (15 bits). */
static uint64_t stream_of(moerun__role role, int32_t layer, int32_t expert) {
  return (uint64_t)role | (uint64_t)layer << 8 | (uint64_t)expert << 24;
}

/* table[s] = element with this mean and deviation for the sum s. */
static void fill_table(uint32_t *table, moerun__dtype dtype, double mean,
                       double deviation) {
  const double unit = deviation / sqrt((256.0 * 256.0 - 1.0) / 3.0);
  for (int s = 0; s < SUMS; s++) {
    const float value = (float)(mean + (s - MIDDLE) * unit);
    moerun__narrow(&table[s], dtype, 0, &value, 1);
  }
}

static uint32_t byte_sum(uint32_t word) {
  const uint32_t pairs = (word & 0x00ff00ffU) + (word >> 8 & 0x00ff00ffU);
  return (pairs & 0xffffU) + (pairs >> 16);
}

/* Sums for words first .. first + count - 1 of a stream; first is a multiple
 * of 4. */
static void draw(uint32_t *sums, uint64_t seed, uint64_t stream, int64_t first,
                 int32_t count) {
  for (int32_t i = 0; i < count; i += 4) {
    uint32_t words[4];
    moerun__philox(words, seed, stream, (uint64_t)(first + i) / 4);
    for (int j = 0; j < 4; j++) {
      sums[i + j] = byte_sum(words[j]);
    }
  }
}

/* `bytes`, those of an element, is a constant wherever this is called. */
static inline void look_up(char *out, const synth_writer *writer, int32_t count,
                           const size_t bytes) {
  for (int32_t i = 0; i < count; i++) {
    memcpy(out + (size_t)i * bytes, &writer->table[writer->words[i]], bytes);
  }
}

static moerun_status put_elements(synth_writer *writer, int32_t count,
                                  int file) {
  moerun_status status = MOERUN_OK;
  const moerun__dtype dtype = writer->options->dtype;
  switch (moerun__dtype_bytes(dtype, 1)) {
  case 1: look_up(writer->elements, writer, count, 1); break;
  case 2: look_up(writer->elements, writer, count, 2); break;
  default: look_up(writer->elements, writer, count, 4); break;
  }
  const size_t bytes = moerun__dtype_bytes(dtype, (size_t)count);
  MOERUN_TRY(moerun__file_put(file, writer->elements, bytes,
                              writer->folder.label.bytes));
  writer->put_bytes += (int64_t)bytes;
  moerun__byte_watch_tell(writer->options->files.watch, writer->put_bytes,
                          writer->list.total_bytes);
done:
  return status;
}

static int is_attention_bias(const moerun__model_config *config,
                             moerun__role role) {
  const moerun__attention_tensor *tensor =
      moerun__attention_find(config->attention, role);
  return tensor != NULL &&
         moerun__attention_form_of(config->attention, tensor) ==
             MOERUN_ATTENTION_BIAS;
}

static moerun_status put_tensor(synth_writer *writer, moerun__role role,
                                int32_t layer, int32_t expert, int file) {
  moerun_status status = MOERUN_OK;
  const moerun__model_config *config = &writer->config;
  int64_t shape[MOERUN_MAX_DIMS];
  const int num_dims = moerun__config_tensor_shape(shape, config, role);
  /* Of a transposed tensor of all experts it is one of them. */
  const int64_t count = num_dims == 1   ? shape[0]
                        : num_dims == 2 ? shape[0] * shape[1]
                                        : shape[1] * shape[2];
  const double residual = 1.0 / sqrt((double)config->hidden_width);
  const int is_bias =
      is_attention_bias(config, role) || role == MOERUN_ROLE_CHOICE_BIAS;
  double mean = num_dims == 1 && !is_bias ? 1.0 : 0.0;
  double deviation =
      num_dims == 1 || is_bias ? vector_noise : 1.0 / sqrt((double)shape[1]);
  if (role == MOERUN_ROLE_EMBEDDING) {
    deviation = residual;
    mean = writer->options->skew > 0.0 ? residual : 0.0;
  } else if (role == MOERUN_ROLE_CONSTANT) {
    mean = 0.0;
    deviation = residual / sqrt(2.0 * config->num_layers);
  } else if (role == MOERUN_ROLE_O || role == MOERUN_ROLE_EXPERT_DOWN ||
             role == MOERUN_ROLE_DENSE_DOWN || role == MOERUN_ROLE_FUSED_DOWN ||
             role == MOERUN_ROLE_SHARED_DOWN) {
    deviation *= residual / sqrt(2.0 * config->num_layers);
  }
  fill_table(writer->table, writer->options->dtype, mean, deviation);
  for (int64_t at = 0; at < count; at += RUN) {
    const int64_t left = count - at;
    const int32_t length = left < RUN ? (int32_t)left : RUN;
    draw(writer->words, writer->options->seed, stream_of(role, layer, expert),
         at, length);
    MOERUN_TRY(put_elements(writer, length, file));
  }
done:
  return status;
}

/* place[E]: how far from the most popular each expert is. */
static void permute(int32_t *place, int32_t E, uint64_t seed, int32_t layer) {
  for (int32_t e = 0; e < E; e++) {
    const double u = moerun__uniform(
        seed, stream_of(MOERUN_ROLE_GATE, layer, 1), (uint64_t)e);
    const int32_t other = (int32_t)(u * (e + 1));
    place[e] = place[other];
    place[other] = e;
  }
}

static moerun_status put_gate(synth_writer *writer, int32_t layer, int file) {
  moerun_status status = MOERUN_OK;
  const int32_t E = moerun__config_choices(&writer->config);
  const int32_t H = writer->config.hidden_width;
  const int64_t row_words = moerun__round_up((H + 1) / 2, 4);
  const uint64_t seed = writer->options->seed;
  int32_t *place = NULL;
  MOERUN_TRY(moerun__alloc(&place, (size_t)E, sizeof *place));
  permute(place, E, seed, layer);
  for (int32_t e = 0; e < E; e++) {
    const double bias = -writer->options->skew * inverse_gumbel_deviation *
                        moerun__exact_log(1.0 + place[e]);
    fill_table(writer->table, writer->options->dtype, bias / H,
               1.0 / sqrt((double)H));
    for (int32_t at = 0; at < H; at += RUN) {
      const int32_t length = H - at < RUN ? H - at : RUN;
      uint32_t *half = writer->words + RUN / 2;
      draw(half, seed, stream_of(MOERUN_ROLE_GATE, layer, 0),
           e * row_words + at / 2, (length + 1) / 2);
      /* words[2j], [2j + 1] from half[j]: the source stays ahead. */
      for (int32_t i = 0; i < length; i++) {
        const uint32_t sum = half[i / 2];
        writer->words[i] = i % 2 == 0 ? sum : 2 * MIDDLE - sum;
      }
      MOERUN_TRY(put_elements(writer, length, file));
    }
  }
done:
  moerun__free(place);
  return status;
}

/* Tensors that are put as those which they hold, one behind the other. */
static const struct {
  moerun__role role;
  int num_parts;
  moerun__role parts[3];
} joined[] = {
    {MOERUN_ROLE_FUSED_GATE_UP,
     2,
     {MOERUN_ROLE_EXPERT_GATE, MOERUN_ROLE_EXPERT_UP}},
    {MOERUN_ROLE_FUSED_DOWN, 1, {MOERUN_ROLE_EXPERT_DOWN}},
    {MOERUN_ROLE_SHARED_GATE_UP,
     2,
     {MOERUN_ROLE_SHARED_GATE, MOERUN_ROLE_SHARED_UP}},
    {MOERUN_ROLE_QKV, 3, {MOERUN_ROLE_Q, MOERUN_ROLE_K, MOERUN_ROLE_V}},
    {MOERUN_ROLE_QKV_BIAS,
     3,
     {MOERUN_ROLE_Q_BIAS, MOERUN_ROLE_K_BIAS, MOERUN_ROLE_V_BIAS}},
};

static moerun_status put_joined(synth_writer *writer, moerun__role role,
                                int32_t l, int32_t expert, int file) {
  moerun_status status = MOERUN_OK;
  for (size_t i = 0; i < sizeof joined / sizeof *joined; i++) {
    if (joined[i].role != role) continue;
    for (int p = 0; p < joined[i].num_parts; p++) {
      MOERUN_TRY(put_tensor(writer, joined[i].parts[p], l, expert, file));
    }
    goto done;
  }
  MOERUN_TRY(put_tensor(writer, role, l, expert, file));
done:
  return status;
}

static moerun_status put_entry(synth_writer *writer,
                               const moerun__synth_entry *entry, int file) {
  moerun_status status = MOERUN_OK;
  const int32_t l = entry->layer;
  const int is_fused = entry->role == MOERUN_ROLE_FUSED_GATE_UP ||
                       entry->role == MOERUN_ROLE_FUSED_DOWN;
  const int32_t E = is_fused ? writer->config.num_experts : 1;
  if (entry->role == MOERUN_ROLE_GATE) {
    MOERUN_TRY(put_gate(writer, l, file));
    goto done;
  }
  for (int32_t e = entry->expert; e < entry->expert + E; e++) {
    MOERUN_TRY((is_fused && moerun__arch_is_transposed(writer->config.arch)
                    ? put_tensor
                    : put_joined)(writer, entry->role, l, e, file));
  }
done:
  return status;
}

/* ---- Files of tensors ---------------------------------------------------- */

/* Fills files in order, each up to the limit or with one tensor. */
static moerun_status deal_files(synth_writer *writer) {
  moerun_status status = MOERUN_OK;
  const int64_t limit = writer->options->files.shard_bytes != 0
                            ? writer->options->files.shard_bytes
                            : default_shard_bytes;
  int64_t used = 0;
  writer->num_files = 1;
  for (size_t i = 0; i < writer->list.num_entries; i++) {
    moerun__synth_entry *entry = &writer->list.entries[i];
    if (used > 0 && entry->bytes > limit - used) {
      writer->num_files++;
      used = 0;
    }
    entry->file = writer->num_files - 1;
    used += entry->bytes;
  }
  MOERUN_REQUIRE(writer->num_files <= MOERUN_SHARD_FILES, MOERUN_ERR_INVALID,
                 "synth: shard_bytes %lld: expected at most %d files, found %d",
                 (long long)limit, MOERUN_SHARD_FILES, writer->num_files);
done:
  return status;
}

/* ---- Files --------------------------------------------------------------- */

static void weight_file_name(char out[FILE_NAME], const synth_writer *writer,
                             int32_t f) {
  if (writer->num_files == 1) {
    (void)snprintf(out, FILE_NAME, "model.safetensors");
  } else {
    (void)snprintf(out, FILE_NAME, "model-%05d-of-%05d.safetensors", f + 1,
                   writer->num_files);
  }
}

/* Late errors of network file systems. */
static moerun_status close_file(int *file, const char *name) {
  moerun_status status = MOERUN_OK;
  const int closed = close(*file);
  *file = -1;
  MOERUN_REQUIRE(closed == 0, MOERUN_ERR_OUTPUT, "%s: cannot be written: %s",
                 name, moerun__file_reason());
done:
  return status;
}

static moerun_status write_text(synth_writer *writer, const char *name,
                                const moerun__text *text) {
  moerun_status status = MOERUN_OK;
  int file = -1;
  MOERUN_TRY(moerun__synth_folder_create(&file, &writer->folder, name));
  MOERUN_TRY(moerun__file_put(file, text->bytes, text->count,
                              writer->folder.label.bytes));
  MOERUN_TRY(close_file(&file, writer->folder.label.bytes));
done:
  if (file >= 0) (void)close(file);
  return status;
}

/* Entries begin .. end - 1 as a header, padded to 8 bytes as the format
 * asks. */
static moerun_status print_header(moerun__text *out, const synth_writer *writer,
                                  size_t begin, size_t end) {
  moerun_status status = MOERUN_OK;
  int64_t offset = 0;
  MOERUN_TRY(moerun__text_print(out, "{\"__metadata__\":{\"format\":\"pt\"}"));
  for (size_t i = begin; i < end; i++) {
    const moerun__synth_entry *entry = &writer->list.entries[i];
    char name[MOERUN_TENSOR_NAME];
    int64_t shape[MOERUN_MAX_DIMS];
    const int num_dims =
        moerun__config_tensor_shape(shape, &writer->config, entry->role);
    (void)moerun__arch_tensor_name(name, writer->config.arch, entry->role,
                                   entry->layer, entry->expert, 0);
    MOERUN_TRY(moerun__text_print(out, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[",
                                  name,
                                  moerun__dtype_name(writer->options->dtype)));
    for (int d = 0; d < num_dims; d++) {
      MOERUN_TRY(moerun__text_print(out, "%s%lld", d > 0 ? "," : "",
                                    (long long)shape[d]));
    }
    MOERUN_TRY(moerun__text_print(out, "],\"data_offsets\":[%lld,%lld]}",
                                  (long long)offset,
                                  (long long)(offset + entry->bytes)));
    offset += entry->bytes;
  }
  const int pad = 7 - (int)(out->count % 8);
  MOERUN_TRY(moerun__text_print(out, "}%*s", pad, ""));
done:
  return status;
}

static moerun_status write_weights(synth_writer *writer, int32_t f,
                                   size_t begin, size_t end) {
  moerun_status status = MOERUN_OK;
  moerun__text header = {0};
  char name[FILE_NAME];
  unsigned char length[8];
  int file = -1;
  weight_file_name(name, writer, f);
  MOERUN_TRY(print_header(&header, writer, begin, end));
  for (int i = 0; i < 8; i++) {
    length[i] = (unsigned char)((uint64_t)header.count >> (8 * i));
  }
  MOERUN_TRY(moerun__synth_folder_create(&file, &writer->folder, name));
  const char *label = writer->folder.label.bytes;
  MOERUN_TRY(moerun__file_put(file, length, sizeof length, label));
  MOERUN_TRY(moerun__file_put(file, header.bytes, header.count, label));
  for (size_t i = begin; i < end; i++) {
    MOERUN_TRY(put_entry(writer, &writer->list.entries[i], file));
  }
  MOERUN_TRY(close_file(&file, label));
done:
  if (file >= 0) (void)close(file);
  moerun__text_clear(&header);
  return status;
}

static moerun_status write_index(synth_writer *writer) {
  moerun_status status = MOERUN_OK;
  moerun__text text = {0};
  MOERUN_TRY(moerun__text_print(
      &text, "{\n  \"metadata\": {\"total_size\": %lld},\n  \"weight_map\": {",
      (long long)writer->list.total_bytes));
  for (size_t i = 0; i < writer->list.num_entries; i++) {
    const moerun__synth_entry *entry = &writer->list.entries[i];
    char name[MOERUN_TENSOR_NAME];
    char base[FILE_NAME];
    (void)moerun__arch_tensor_name(name, writer->config.arch, entry->role,
                                   entry->layer, entry->expert, 0);
    weight_file_name(base, writer, entry->file);
    MOERUN_TRY(moerun__text_print(&text, "%s\n    \"%s\": \"%s\"",
                                  i > 0 ? "," : "", name, base));
  }
  MOERUN_TRY(moerun__text_print(&text, "\n  }\n}\n"));
  MOERUN_TRY(write_text(writer, "model.safetensors.index.json", &text));
done:
  moerun__text_clear(&text);
  return status;
}

static moerun_status write_files(synth_writer *writer, moerun__text *config) {
  moerun_status status = MOERUN_OK;
  moerun__text text = {0};
  MOERUN_TRY(write_text(writer, "config.json", config));
  if (writer->config.vocab_size >= MOERUN_SYNTH_TOKENS) {
    MOERUN_TRY(moerun__synth_generation(&text));
    MOERUN_TRY(write_text(writer, "generation_config.json", &text));
    moerun__text_clear(&text);
    MOERUN_TRY(moerun__synth_tokenizer(&text));
    MOERUN_TRY(write_text(writer, "tokenizer.json", &text));
  }
  size_t begin = 0;
  for (int32_t f = 0; f < writer->num_files; f++) {
    size_t end = begin;
    while (end < writer->list.num_entries &&
           writer->list.entries[end].file == f) {
      end++;
    }
    MOERUN_TRY(write_weights(writer, f, begin, end));
    begin = end;
  }
  if (writer->num_files > 1) MOERUN_TRY(write_index(writer));
done:
  moerun__text_clear(&text);
  return status;
}

/* ---- All together -------------------------------------------------------- */

/* Sizes, the list of tensors, buffers; nothing on disk yet. */
static moerun_status writer_begin(synth_writer *writer, moerun__text *config) {
  moerun_status status = MOERUN_OK;
  const moerun__synth_options *options = writer->options;
  json_t *root = NULL;
  char found[MOERUN_NUMBER_TEXT];
  MOERUN_REQUIRE(options->skew >= 0.0 && options->skew <= 100.0,
                 MOERUN_ERR_INVALID, "synth: skew: expected 0 to 100, found %s",
                 moerun__number_text(found, options->skew));
  MOERUN_REQUIRE(options->files.shard_bytes >= 0, MOERUN_ERR_INVALID,
                 "synth: shard_bytes: expected at least 0, found %lld",
                 (long long)options->files.shard_bytes);
  MOERUN_TRY(moerun__synth_config(config, options));
  MOERUN_TRY(moerun__json_parse(&root, config->bytes, config->count, "synth"));
  MOERUN_TRY(moerun__model_config_parse(&writer->config, root, "synth"));
  writer->list = (moerun__synth_list){
      .config = &writer->config,
      .fused = options->fused,
      .element_bytes = (int64_t)moerun__dtype_bytes(options->dtype, 1)};
  MOERUN_TRY(moerun__synth_list_make(&writer->list));
  MOERUN_TRY(moerun__alloc(&writer->list.entries, writer->list.num_entries,
                           sizeof *writer->list.entries));
  MOERUN_TRY(moerun__synth_list_make(&writer->list));
  MOERUN_TRY(deal_files(writer));
  MOERUN_TRY(moerun__alloc_unset(&writer->words, RUN, sizeof *writer->words));
  MOERUN_TRY(moerun__alloc_unset(&writer->elements, RUN,
                                 moerun__dtype_bytes(options->dtype, 1)));
done:
  json_decref(root);
  return status;
}

moerun_status moerun__synth_write(const moerun__synth_options *options) {
  moerun_status status = MOERUN_OK;
  synth_writer writer = {.options = options};
  moerun__text config = {0};
  MOERUN_TRY(writer_begin(&writer, &config));
  MOERUN_TRY(moerun__synth_folder_begin(&writer.folder, options->path,
                                        options->files.overwrite,
                                        writer.list.total_bytes));
  MOERUN_TRY(write_files(&writer, &config));
  MOERUN_TRY(moerun__synth_folder_end(&writer.folder));
done:
  moerun__synth_folder_clear(&writer.folder);
  moerun__text_clear(&config);
  moerun__model_config_clear(&writer.config);
  moerun__free(writer.list.entries);
  moerun__free(writer.words);
  moerun__free(writer.elements);
  return status;
}
