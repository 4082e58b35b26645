/* Unigram language model (Kudo 2018, arXiv:1804.10959): of all ways to cut a
 * word into tokens, the one whose scores have the largest sum, found by dynamic
 * programming over the ends of tokens (Viterbi). A character that no token of
 * its own stands for may be cut off at the lowest score less 10; neighbours of
 * this kind become one piece, which the vocabulary, the tokens of its bytes or
 * the unknown token stand for.
 *
 * Tokens that begin at a place are walked through in a trie, which is a table
 * of (node, byte) to node. */
#include "runtime/text/word_model.h"

#include "runtime/base/json.h"
#include "runtime/base/memory.h"
#include "runtime/base/number.h"
#include "runtime/text/byte_alphabet.h"
#include "runtime/text/unicode.h"

#include <string.h>

#define UNKNOWN_PENALTY 10.0

/* A way from a node by a byte; to = 0: an empty place. Node 0 is the root. */
typedef struct branch {
  int32_t from;
  int32_t to;
  uint8_t byte;
} branch;

/* The best way to cut what ends here. */
typedef struct ending {
  double score;
  int64_t start; /* of the last token; -1: not reached */
  int32_t id;
} ending;

typedef struct unigram {
  const moerun__vocabulary *vocabulary;
  double *score;     /* [size] */
  int32_t *token_at; /* [num_nodes] the token that ends at a node; -1: none */
  int32_t num_nodes;
  size_t mask; /* places of branches - 1, a power of two minus one */
  branch *place;
  double lowest;
  int32_t unknown; /* -1: none */
  int falls_back;
  int32_t byte_token[256];
  ending *end; /* [room + 1] */
  size_t room;
} unigram;

static void destroy(void *model) {
  unigram *u = model;
  if (u == NULL) return;
  moerun__free(u->score);
  moerun__free(u->token_at);
  moerun__free(u->place);
  moerun__free(u->end);
  moerun__free(u);
}

/* ---- The trie ------------------------------------------------------------ */

static branch *find_branch(const unigram *u, int32_t from, uint8_t byte) {
  uint64_t x = ((uint64_t)(uint32_t)from << 8 | byte) * 0x9E3779B97F4A7C15U;
  size_t i = (size_t)(x >> 20) & u->mask;
  while (u->place[i].to != 0 &&
         (u->place[i].from != from || u->place[i].byte != byte)) {
    i = (i + 1) & u->mask;
  }
  return &u->place[i];
}

static void enter(unigram *u, const char *text, size_t bytes, int32_t id) {
  int32_t node = 0;
  for (size_t i = 0; i < bytes; i++) {
    branch *b = find_branch(u, node, (uint8_t)text[i]);
    if (b->to == 0) {
      *b = (branch){.from = node, .to = u->num_nodes, .byte = (uint8_t)text[i]};
      u->token_at[u->num_nodes++] = -1;
    }
    node = b->to;
  }
  if (node > 0) u->token_at[node] = id;
}

static moerun_status make_trie(unigram *u, size_t count) {
  moerun_status status = MOERUN_OK;
  const moerun__vocabulary *v = u->vocabulary;
  size_t nodes = 1;
  size_t places = 16;
  for (size_t id = 0; id < count; id++) {
    nodes += (size_t)(v->length[id] > 0 ? v->length[id] : 0);
  }
  while (places < 2 * nodes) {
    places *= 2;
  }
  u->mask = places - 1;
  MOERUN_TRY(moerun__alloc(&u->place, places, sizeof *u->place));
  MOERUN_TRY(moerun__alloc_unset(&u->token_at, nodes, sizeof *u->token_at));
  u->token_at[u->num_nodes++] = -1;
  for (size_t id = 0; id < count; id++) {
    size_t bytes = 0;
    const int32_t token = moerun__to_int((int64_t)id);
    const char *text = moerun__vocabulary_text(v, token, &bytes);
    enter(u, text, bytes, token);
  }
done:
  return status;
}

/* ---- Reading ------------------------------------------------------------- */

static moerun_status read_scores(unigram *u, const moerun__token_file *file) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__alloc(&u->score, file->num_tokens, sizeof *u->score));
  for (size_t i = 0; i < file->num_tokens; i++) {
    u->score[i] = file->token[i].score;
    if (i == 0 || u->score[i] < u->lowest) u->lowest = u->score[i];
  }
  MOERUN_TRY(make_trie(u, file->num_tokens));
done:
  return status;
}

static moerun_status read(void **out, const moerun__model_source *source) {
  moerun_status status = MOERUN_OK;
  const json_t *json = source->json;
  const int no = 0;
  const int64_t none = -1;
  int64_t unknown = -1;
  unigram *u = NULL;
  *out = NULL;
  MOERUN_REQUIRE(!source->is_bytewise, MOERUN_ERR_UNSUPPORTED,
                 "%s of type \"Unigram\" behind a pre_tokenizer of type "
                 "\"ByteLevel\" is not supported: give token ids instead of "
                 "text",
                 source->where);
  MOERUN_TRY(moerun__alloc(&u, 1, sizeof *u));
  u->vocabulary = source->vocabulary;
  MOERUN_TRY(moerun__json_bool(&u->falls_back, json, "byte_fallback", &no,
                               source->where));
  MOERUN_TRY(moerun__json_int(&unknown, json, "unk_id", 0,
                              source->vocabulary->size - 1, &none,
                              source->where));
  u->unknown = (int32_t)unknown;
  for (int i = 0; i < 256; i++) {
    char code[MOERUN_BYTE_CODE + 1];
    moerun__byte_code(code, (unsigned)i);
    u->byte_token[i] =
        moerun__vocabulary_find(u->vocabulary, code, MOERUN_BYTE_CODE);
  }
  MOERUN_REQUIRE(source->file->has_scores, MOERUN_ERR_FORMAT,
                 "%s: key \"vocab\": expected an array of texts and scores",
                 source->where);
  MOERUN_TRY(read_scores(u, source->file));
  *out = u;
  u = NULL;
done:
  destroy(u);
  return status;
}

/* ---- Words --------------------------------------------------------------- */

static void reach(ending *end, double score, size_t start, int32_t id) {
  if (end->start >= 0 && score <= end->score) return;
  *end = (ending){.score = score, .start = (int64_t)start, .id = id};
}

/* Fills u->end[bytes + 1]. */
static void cut(unigram *u, const char *word, size_t bytes) {
  size_t length = 0;
  for (size_t i = 0; i <= bytes; i++) {
    u->end[i] = (ending){.start = -1};
  }
  for (size_t at = 0; at < bytes; at += length) {
    const double so_far = u->end[at].score;
    int has_single = 0;
    int32_t node = 0;
    length = (size_t)moerun__character_bytes(word[at]);
    for (size_t i = at; i < bytes; i++) {
      node = find_branch(u, node, (uint8_t)word[i])->to;
      if (node == 0) break;
      const int32_t id = u->token_at[node];
      if (id < 0) continue;
      reach(&u->end[i + 1], so_far + u->score[id], at, id);
      has_single = has_single || i + 1 == at + length;
    }
    if (!has_single) {
      reach(&u->end[at + length], so_far + u->lowest - UNKNOWN_PENALTY, at,
            u->unknown);
    }
  }
}

/* A piece of characters that no token was found for. */
static moerun_status put_unknown(const unigram *u, moerun__token_list *out,
                                 const char *text, size_t bytes,
                                 const char *origin) {
  moerun_status status = MOERUN_OK;
  int32_t id = moerun__vocabulary_find(u->vocabulary, text, bytes);
  int is_spelt = id < 0 && u->falls_back;
  for (size_t i = 0; i < bytes; i++) {
    is_spelt = is_spelt && u->byte_token[(unsigned char)text[i]] >= 0;
  }
  for (size_t i = 0; is_spelt && i < bytes; i++) {
    out->id[out->count++] = u->byte_token[(unsigned char)text[i]];
  }
  if (is_spelt) goto done;
  if (id < 0) id = u->unknown;
  MOERUN_REQUIRE(id >= 0, MOERUN_ERR_FORMAT,
                 "%s: the tokenizer has no token for byte 0x%02x of the text",
                 origin, (unsigned)(unsigned char)*text);
  out->id[out->count++] = id;
done:
  return status;
}

/* Turns the way back into the way there: the ending of each token's start. */
static void turn(unigram *u, size_t bytes) {
  int64_t at = (int64_t)bytes;
  int64_t behind = -1;
  while (at >= 0) {
    const int64_t start = at > 0 ? u->end[at].start : -1;
    u->end[at].start = behind; /* where the next token ends */
    behind = at;
    at = start;
  }
}

static moerun_status encode(void *model, moerun__token_list *out,
                            const char *word, size_t bytes,
                            const char *origin) {
  moerun_status status = MOERUN_OK;
  unigram *u = model;
  const size_t before = out->count;
  if (bytes > u->room) {
    MOERUN_TRY(moerun__resize(&u->end, u->room > 0 ? u->room + 1 : 0, bytes + 1,
                              sizeof *u->end));
    u->room = bytes;
  }
  MOERUN_TRY(moerun__token_list_reserve(out, bytes));
  cut(u, word, bytes);
  turn(u, bytes);
  size_t at = 0;
  while (at < bytes) {
    size_t next = (size_t)u->end[at].start;
    const int32_t id = u->end[next].id;
    if (id != u->unknown) {
      out->id[out->count++] = id;
      at = next;
      continue;
    }
    while (next < bytes && u->end[u->end[next].start].id == u->unknown) {
      next = (size_t)u->end[next].start;
    }
    MOERUN_TRY(put_unknown(u, out, word + at, next - at, origin));
    at = next;
  }
done:
  if (status != MOERUN_OK) out->count = before;
  return status;
}

const moerun__model_kind moerun__unigram_kind = {
    .type = "Unigram", .read = read, .encode = encode, .destroy = destroy};
