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

#include <limits.h>
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
static const int64_t most_bytes = (int64_t)1 << 50;
static const double vector_noise = 0.05; /* of norms round 1, biases round 0 */
static const double inverse_gumbel_deviation = 0.7796968012336761;

/* One tensor of the files to be written, in order. */
typedef struct synth_entry {
  moerun__role role;
  int32_t layer;
  int32_t expert;
  int32_t file;
  int64_t bytes;
} synth_entry;

typedef struct synth_writer {
  const moerun__synth_options *options;
  moerun__model_config config;
  moerun__synth_folder folder;
  size_t num_entries;
  synth_entry *entries; /* NULL while they are counted */
  int32_t num_files;
  int64_t total_bytes;
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
                          writer->total_bytes);
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
  const int64_t count = num_dims == 1 ? shape[0] : shape[0] * shape[1];
  const double residual = 1.0 / sqrt((double)config->hidden_width);
  const int is_bias =
      is_attention_bias(config, role) || role == MOERUN_ROLE_CHOICE_BIAS;
  double mean = num_dims == 1 && !is_bias ? 1.0 : 0.0;
  double deviation =
      num_dims == 1 ? vector_noise : 1.0 / sqrt((double)shape[1]);
  if (role == MOERUN_ROLE_EMBEDDING) {
    deviation = residual;
    mean = writer->options->skew > 0.0 ? residual : 0.0;
  } else if (role == MOERUN_ROLE_CONSTANT) {
    mean = 0.0;
    deviation = residual / sqrt(2.0 * config->num_layers);
  } else if (role == MOERUN_ROLE_O || role == MOERUN_ROLE_EXPERT_DOWN ||
             role == MOERUN_ROLE_DENSE_DOWN ||
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

static moerun_status put_entry(synth_writer *writer, const synth_entry *entry,
                               int file) {
  moerun_status status = MOERUN_OK;
  const int32_t E = writer->config.num_experts;
  const int32_t l = entry->layer;
  switch (entry->role) {
  case MOERUN_ROLE_GATE: MOERUN_TRY(put_gate(writer, l, file)); break;
  case MOERUN_ROLE_FUSED_GATE_UP:
    for (int32_t e = 0; e < E; e++) {
      MOERUN_TRY(put_tensor(writer, MOERUN_ROLE_EXPERT_GATE, l, e, file));
      MOERUN_TRY(put_tensor(writer, MOERUN_ROLE_EXPERT_UP, l, e, file));
    }
    break;
  case MOERUN_ROLE_FUSED_DOWN:
    for (int32_t e = 0; e < E; e++) {
      MOERUN_TRY(put_tensor(writer, MOERUN_ROLE_EXPERT_DOWN, l, e, file));
    }
    break;
  default:
    MOERUN_TRY(put_tensor(writer, entry->role, l, entry->expert, file));
    break;
  }
done:
  return status;
}

/* ---- The list of tensors ------------------------------------------------- */

/* Counts the tensor, or also notes it where the list exists by now. */
static moerun_status add_entry(synth_writer *writer, moerun__role role,
                               int32_t layer, int32_t expert) {
  moerun_status status = MOERUN_OK;
  int64_t shape[MOERUN_MAX_DIMS];
  const int num_dims =
      moerun__config_tensor_shape(shape, &writer->config, role);
  int64_t bytes = (int64_t)moerun__dtype_bytes(writer->options->dtype, 1);
  for (int d = 0; d < num_dims; d++) {
    bytes *= shape[d];
  }
  writer->total_bytes += bytes;
  MOERUN_REQUIRE(writer->total_bytes <= most_bytes, MOERUN_ERR_INVALID,
                 "synth: expected at most %lld bytes of weights, found more",
                 (long long)most_bytes);
  if (writer->entries != NULL) {
    writer->entries[writer->num_entries] =
        (synth_entry){role, layer, expert, 0, bytes};
  }
  writer->num_entries++;
done:
  return status;
}

/* The tensors of attention whose roles are below `end` and not below
 * `first`. */
static moerun_status list_attention(synth_writer *writer, int32_t l,
                                    moerun__role first, int end) {
  moerun_status status = MOERUN_OK;
  const moerun__attention_tensor *tensor = NULL;
  for (int32_t i = 0;
       (tensor = moerun__attention_at(&writer->config, i)) != NULL; i++) {
    if (tensor->role < first || (int)tensor->role >= end) continue;
    MOERUN_TRY(add_entry(writer, tensor->role, l, 0));
  }
done:
  return status;
}

/* What some architectures have beside the rest of a layer. */
static moerun_status list_extras(synth_writer *writer, int32_t l) {
  moerun_status status = MOERUN_OK;
  const moerun__model_config *config = &writer->config;
  const int moe = config->moe_layer[l] >= 0;
  const int shared = moe && config->shared_width > 0;
  const struct {
    moerun__role first;
    moerun__role last;
    int wanted;
  } extras[] = {
      {MOERUN_ROLE_CHOICE_BIAS, MOERUN_ROLE_CHOICE_BIAS,
       moe && config->has_choice_bias},
      {MOERUN_ROLE_SHARED_GATE, MOERUN_ROLE_SHARED_DOWN, shared},
      {MOERUN_ROLE_SHARED_WEIGHT, MOERUN_ROLE_SHARED_WEIGHT,
       shared && config->shared_is_weighted},
  };
  for (size_t i = 0; i < sizeof extras / sizeof *extras; i++) {
    for (int r = extras[i].first; extras[i].wanted && r <= (int)extras[i].last;
         r++) {
      MOERUN_TRY(add_entry(writer, (moerun__role)r, l, 0));
    }
  }
done:
  return status;
}

static moerun_status list_layer(synth_writer *writer, int32_t l) {
  moerun_status status = MOERUN_OK;
  const moerun__model_config *config = &writer->config;
  static const moerun__role fused[] = {MOERUN_ROLE_FUSED_GATE_UP,
                                       MOERUN_ROLE_FUSED_DOWN};
  const int moe = config->moe_layer[l] >= 0;
  MOERUN_TRY(add_entry(writer, MOERUN_ROLE_ATTENTION_NORM, l, 0));
  MOERUN_TRY(list_attention(writer, l, MOERUN_ROLE_ATTENTION_NORM,
                            MOERUN_ROLE_FFN_NORM));
  MOERUN_TRY(add_entry(writer, MOERUN_ROLE_FFN_NORM, l, 0));
  for (int r = MOERUN_ROLE_DENSE_GATE; r <= MOERUN_ROLE_GATE; r++) {
    if ((r == MOERUN_ROLE_GATE) != moe) continue;
    MOERUN_TRY(add_entry(writer, (moerun__role)r, l, 0));
  }
  MOERUN_TRY(list_attention(writer, l, MOERUN_ROLE_FFN_NORM, INT_MAX));
  MOERUN_TRY(list_extras(writer, l));
  if (!moe) goto done;
  for (int32_t e = 0; e < config->num_home[MOERUN_HOME_CONSTANT]; e++) {
    MOERUN_TRY(add_entry(writer, MOERUN_ROLE_CONSTANT_MIX, l, e));
    MOERUN_TRY(add_entry(writer, MOERUN_ROLE_CONSTANT, l, e));
  }
  for (int i = 0; writer->options->fused && i < 2; i++) {
    MOERUN_TRY(add_entry(writer, fused[i], l, 0));
  }
  if (writer->options->fused) goto done;
  for (int32_t e = 0; e < config->num_experts; e++) {
    for (int r = MOERUN_ROLE_EXPERT_GATE; r <= MOERUN_ROLE_EXPERT_DOWN; r++) {
      MOERUN_TRY(add_entry(writer, (moerun__role)r, l, e));
    }
  }
done:
  return status;
}

static moerun_status list_model(synth_writer *writer) {
  moerun_status status = MOERUN_OK;
  writer->num_entries = 0;
  writer->total_bytes = 0;
  MOERUN_TRY(add_entry(writer, MOERUN_ROLE_EMBEDDING, 0, 0));
  for (int32_t l = 0; l < writer->config.num_layers; l++) {
    MOERUN_TRY(list_layer(writer, l));
  }
  MOERUN_TRY(add_entry(writer, MOERUN_ROLE_FINAL_NORM, 0, 0));
  if (!writer->config.tied_head) {
    MOERUN_TRY(add_entry(writer, MOERUN_ROLE_HEAD, 0, 0));
  }
done:
  return status;
}

/* Fills files in order, each up to the limit or with one tensor. */
static moerun_status deal_files(synth_writer *writer) {
  moerun_status status = MOERUN_OK;
  const int64_t limit = writer->options->files.shard_bytes != 0
                            ? writer->options->files.shard_bytes
                            : default_shard_bytes;
  int64_t used = 0;
  writer->num_files = 1;
  for (size_t i = 0; i < writer->num_entries; i++) {
    synth_entry *entry = &writer->entries[i];
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
    const synth_entry *entry = &writer->entries[i];
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
    MOERUN_TRY(put_entry(writer, &writer->entries[i], file));
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
      (long long)writer->total_bytes));
  for (size_t i = 0; i < writer->num_entries; i++) {
    const synth_entry *entry = &writer->entries[i];
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
    while (end < writer->num_entries && writer->entries[end].file == f) {
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
  MOERUN_TRY(list_model(writer));
  MOERUN_TRY(moerun__alloc(&writer->entries, writer->num_entries,
                           sizeof *writer->entries));
  MOERUN_TRY(list_model(writer));
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
                                        writer.total_bytes));
  MOERUN_TRY(write_files(&writer, &config));
  MOERUN_TRY(moerun__synth_folder_end(&writer.folder));
done:
  moerun__synth_folder_clear(&writer.folder);
  moerun__text_clear(&config);
  moerun__model_config_clear(&writer.config);
  moerun__free(writer.entries);
  moerun__free(writer.words);
  moerun__free(writer.elements);
  return status;
}
