/* Follow one token: gate (ids and weights at home) -> route (which ranks) ->
 * dispatch (its row goes once to each of those ranks, with the slots wanted
 * there) -> experts (rows grouped by slot, three GEMMs) -> combine (K result
 * rows come home and are summed in gate order).
 *
 * A row carries its own slots, so the count exchange is one integer per peer
 * and chunk, and one status word. Own rows never move: the expert stage reads
 * them where dispatch packed them and writes their results where combine reads.
 *
 * Memory is bounded for any skew: a rank receives in waves of peers whose rows
 * fit its buffer, and asks for the next wave when one is worked off. Senders
 * need no buffer beyond their own copies, because a rendezvous message waits
 * for its receive. No deadlock: every rank posts the receives of its result
 * rows before it waits for anything, and waits for its sends last. */
#include "runtime/moe.h"

#include "runtime/base/number.h"

#include <string.h>

/* ---- Buffers ---------------------------------------------------------------- */

static int32_t chunk_copies(const moerun__moe *moe) {
  return moerun__route_max_copies(moe->chunk_tokens,
                                  moe->model->config.experts_per_token,
                                  moe->model->comm->size);
}

static void lay_out_chunk(moerun__moe *moe, moerun__moe_chunk *chunk,
                          moerun__arena *arena) {
  const size_t R = (size_t)moe->model->comm->size;
  const int32_t K = moe->model->config.experts_per_token;
  const size_t copies = (size_t)chunk_copies(moe);
  const size_t capacity = (size_t)moe->receive_capacity;
  const size_t home_results = (size_t)moe->chunk_tokens * (size_t)K;
  moerun__route_lay_out(&chunk->route, arena, moe->chunk_tokens, K,
                        moe->model->comm->size);
  chunk->rows = moerun__arena_take(arena, copies + capacity, moe->row_bytes);
  chunk->results = moerun__arena_take(
      arena, home_results + capacity * (size_t)moe->terms, moe->result_bytes);
  chunk->receive_offset = moerun__arena_take(arena, R + 1, sizeof(int32_t));
  chunk->reply_offset = moerun__arena_take(arena, R + 1, sizeof(int32_t));
}

static size_t padded(size_t bytes) {
  return (size_t)moerun__round_up((int64_t)bytes, 16);
}

size_t moerun__copy_bytes(const moerun__model_config *config,
                          moerun__dtype wire) {
  const size_t H = (size_t)config->hidden_width;
  const size_t K = (size_t)config->experts_per_token;
  return padded(H * moerun__dtype_bytes(wire) + K * sizeof(int16_t));
}

size_t moerun__result_bytes(const moerun__model_config *config,
                            moerun__dtype wire) {
  return padded((size_t)config->hidden_width * moerun__dtype_bytes(wire));
}

void moerun__moe_lay_out(moerun__moe *moe, moerun__arena *arena) {
  const moerun__model_config *config = &moe->model->config;
  const int32_t R = moe->model->comm->size;
  const size_t H = (size_t)config->hidden_width;
  const size_t F = (size_t)config->expert_width;
  const size_t T = (size_t)moe->max_tokens;
  const size_t K = (size_t)config->experts_per_token;
  moe->row_bytes = moerun__copy_bytes(config, moe->wire);
  moe->result_bytes = moerun__result_bytes(config, moe->wire);
  moe->max_slots = moerun__placement_max_slots(moe->model->placement,
                                               moe->model->comm->rank);
  if (moe->max_slots < moe->slots_wanted) moe->max_slots = moe->slots_wanted;
  moe->terms = moe->max_slots < config->experts_per_token
                   ? moe->max_slots
                   : config->experts_per_token;
  moe->chunk_tokens = (moe->max_tokens + moe->num_chunks - 1) / moe->num_chunks;
  /* Room for the rows of an even load, and for all rows of any one peer. */
  moe->receive_capacity = R > 1 && moe->terms > 0 ? chunk_copies(moe) : 0;
  for (int32_t c = 0; c < moe->num_chunks; c++) {
    lay_out_chunk(moe, &moe->chunk[c], arena);
  }
  const size_t width = 1 + (size_t)moe->num_chunks;
  moe->count_out = moerun__arena_take(arena, (size_t)R * width, 4);
  moe->count_in = moerun__arena_take(arena, (size_t)R * width, 4);
  moe->ids = moerun__arena_take(arena, T * K, sizeof(int32_t));
  moe->weight = moerun__arena_take(arena, T * K, sizeof(float));
  moe->logits =
      moerun__arena_take(arena, T * (size_t)config->num_experts, sizeof(float));
  moe->expert_of_slot = moerun__arena_take(
      arena, (size_t)config->num_moe_layers * (size_t)moe->max_slots,
      sizeof(int32_t));
  const size_t pairs =
      ((size_t)chunk_copies(moe) + (size_t)moe->receive_capacity) *
      (size_t)moe->terms;
  moe->slot_offset =
      moerun__arena_take(arena, (size_t)moe->max_slots + 1, sizeof(int32_t));
  moe->row_index = moerun__arena_take(arena, pairs, sizeof(int32_t));
  moe->result_index = moerun__arena_take(arena, pairs, sizeof(int32_t));
  const size_t tile = MOERUN_FFN_TILE;
  moe->tile_x = moerun__arena_take(arena, tile * H, sizeof(float));
  moe->tile_gate_up = moerun__arena_take(arena, tile * 2 * F, sizeof(float));
  moe->tile_h = moerun__arena_take(arena, tile * F, sizeof(float));
  moe->tile_y = moerun__arena_take(arena, tile * H, sizeof(float));
  moe->scratch = moerun__arena_take(
      arena, moerun__linear_scratch((int32_t)(H > F ? H : F)), sizeof(float));
}

void moerun__moe_adopt_placement(moerun__moe *moe) {
  for (int32_t l = 0; l < moe->model->config.num_moe_layers; l++) {
    (void)moerun__placement_experts(
        moe->model->placement, l, moe->model->comm->rank,
        moe->expert_of_slot + (size_t)l * (size_t)moe->max_slots);
  }
}

moerun_status moerun__moe_create_transfers(moerun__moe *moe) {
  moerun_status status = MOERUN_OK;
  moerun_comm *comm = moe->model->comm;
  for (int32_t c = 0; c < moe->num_chunks; c++) {
    moerun__moe_chunk *chunk = &moe->chunk[c];
    MOERUN_TRY(comm->ops->transfer_create(&chunk->dispatch_out, comm));
    MOERUN_TRY(comm->ops->transfer_create(&chunk->dispatch_in, comm));
    MOERUN_TRY(comm->ops->transfer_create(&chunk->combine_out, comm));
    MOERUN_TRY(comm->ops->transfer_create(&chunk->combine_in, comm));
  }
done:
  return status;
}

void moerun__moe_destroy_transfers(moerun__moe *moe) {
  const moerun__comm_ops *ops = moe->model->comm->ops;
  for (int32_t c = 0; c < moe->num_chunks; c++) {
    moerun__moe_chunk *chunk = &moe->chunk[c];
    ops->transfer_destroy(chunk->dispatch_out);
    ops->transfer_destroy(chunk->dispatch_in);
    ops->transfer_destroy(chunk->combine_out);
    ops->transfer_destroy(chunk->combine_in);
  }
}

/* ---- Gate and counts ---------------------------------------------------------- */

static void gate(moerun__moe *moe, const moerun__layer *layer, int32_t T,
                 const float *x) {
  const moerun__model_config *config = &moe->model->config;
  const size_t H = (size_t)config->hidden_width;
  const size_t E = (size_t)config->num_experts;
  moe->linear(moe->logits, E, x, H, T, &layer->gate, moe->scratch);
  moe->kernels->gate(moe->ids, moe->weight, moe->logits, T, config->num_experts,
                     config->experts_per_token, config->gate_rule);
  moerun__stage_end(moe->stats, MOERUN_STAGE_GATE);
}

/* Cuts T tokens into chunks and solves each chunk's route. */
static void route_chunks(moerun__moe *moe, int32_t moe_layer, int32_t T) {
  const int32_t K = moe->model->config.experts_per_token;
  const int32_t C = moe->num_chunks;
  for (int32_t c = 0; c < C; c++) {
    moerun__moe_chunk *chunk = &moe->chunk[c];
    chunk->first_token = moerun__to_int((int64_t)T * c / C);
    chunk->num_tokens =
        moerun__to_int((int64_t)T * (c + 1) / C) - chunk->first_token;
    moerun__route_solve(&chunk->route, moe->model->placement, moe_layer,
                        moe->model->comm->rank,
                        moe->ids + (size_t)chunk->first_token * (size_t)K,
                        chunk->num_tokens, K);
  }
}

/* Tells every rank how many rows come from here, and learns the same. */
static moerun_status exchange_counts(moerun__moe *moe, moerun_status failed) {
  moerun_status status = MOERUN_OK;
  moerun_comm *comm = moe->model->comm;
  const int32_t width = 1 + moe->num_chunks;
  for (int32_t r = 0; r < comm->size; r++) {
    int32_t *count = moe->count_out + (size_t)r * (size_t)width;
    count[0] = (int32_t)failed;
    for (int32_t c = 0; c < moe->num_chunks; c++) {
      const int32_t *offset = moe->chunk[c].route.copy_offset;
      count[1 + c] = failed != MOERUN_OK ? 0 : offset[r + 1] - offset[r];
    }
  }
  moerun__stage_end(moe->stats, MOERUN_STAGE_DISPATCH);
  MOERUN_TRY(
      comm->ops->exchange_counts(comm, moe->count_in, moe->count_out, width));
  moerun__stage_end(moe->stats, MOERUN_STAGE_COUNT_WAIT);
  if (failed != MOERUN_OK) return failed; /* its message is already written */
  for (int32_t r = 0; r < comm->size; r++) {
    const int32_t *count = moe->count_in + (size_t)r * (size_t)width;
    MOERUN_REQUIRE(count[0] == MOERUN_OK, MOERUN_ERR_PEER,
                   "rank %d reported: %s", r,
                   moerun_status_string((moerun_status)count[0]));
    for (int32_t c = 0; c < moe->num_chunks; c++) {
      MOERUN_REQUIRE(count[1 + c] >= 0 && count[1 + c] <= moe->chunk_tokens,
                     MOERUN_ERR_COMM,
                     "rank %d announced %d rows: expected at most %d", r,
                     count[1 + c], moe->chunk_tokens);
    }
  }
done:
  return status;
}

/* ---- Dispatch ------------------------------------------------------------------ */

static moerun__wire_rows wire_rows(const moerun__moe *moe, char *base,
                                   size_t stride_bytes) {
  return (moerun__wire_rows){base, stride_bytes, moe->wire};
}

/* Writes the copies of a chunk with their slots behind the row. */
static void pack(moerun__moe *moe, moerun__moe_chunk *chunk, const float *x) {
  const int32_t H = moe->model->config.hidden_width;
  const size_t K = (size_t)moe->model->config.experts_per_token;
  const size_t slots_at = (size_t)H * moerun__dtype_bytes(moe->wire);
  const int32_t copies = chunk->route.copy_offset[moe->model->comm->size];
  const moerun__wire_rows rows = wire_rows(moe, chunk->rows, moe->row_bytes);
  for (int32_t i = 0; i < copies; i++) {
    const int32_t token = chunk->first_token + chunk->route.copy_token[i];
    moe->kernels->scatter(&rows, &i, x + (size_t)token * (size_t)H, 1, H);
    memcpy(chunk->rows + (size_t)i * moe->row_bytes + slots_at,
           chunk->route.copy_slot + (size_t)i * K, K * sizeof(int16_t));
  }
}

static moerun_status begin_dispatch(moerun__moe *moe, int32_t c,
                                    const float *x) {
  moerun_status status = MOERUN_OK;
  moerun__moe_chunk *chunk = &moe->chunk[c];
  const moerun__comm_ops *ops = moe->model->comm->ops;
  const int32_t R = moe->model->comm->size;
  pack(moe, chunk, x);
  const moerun__row_list home = {chunk->results, moe->result_bytes,
                                 chunk->route.result_offset, 0, R};
  const moerun__row_list out = {chunk->rows, moe->row_bytes,
                                chunk->route.copy_offset, 0, R};
  MOERUN_TRY(
      ops->receive_begin(chunk->combine_in, MOERUN_TAG_COMBINE + c, &home));
  MOERUN_TRY(
      ops->send_begin(chunk->dispatch_out, MOERUN_TAG_DISPATCH + c, &out));
done:
  return status;
}

/* ---- Waves ------------------------------------------------------------------------ */

/* Rows that peer p announced for chunk c. */
static int32_t announced(const moerun__moe *moe, int32_t c, int32_t p) {
  return moe->count_in[p * (1 + moe->num_chunks) + 1 + c];
}

/* Posts the receives of the peers from first on whose rows fit together;
 * returns the first peer of the next wave. Own rows are of no size here. */
static int32_t size_wave(moerun__moe *moe, int32_t c, int32_t first) {
  moerun__moe_chunk *chunk = &moe->chunk[c];
  const int32_t R = moe->model->comm->size;
  int32_t rows = 0;
  int32_t p = first;
  chunk->receive_offset[first] = 0;
  for (; p < R; p++) {
    const int32_t count =
        p == moe->model->comm->rank ? 0 : announced(moe, c, p);
    if (rows + count > moe->receive_capacity) break;
    rows += count;
    chunk->receive_offset[p + 1] = rows;
  }
  return p;
}

static char *received_rows(const moerun__moe *moe,
                           const moerun__moe_chunk *chunk) {
  return chunk->rows +
         (size_t)chunk->route.copy_offset[moe->model->comm->size] *
             moe->row_bytes;
}

static moerun_status begin_wave(moerun__moe *moe, int32_t c, int32_t first,
                                int32_t last) {
  moerun__moe_chunk *chunk = &moe->chunk[c];
  const moerun__row_list in = {received_rows(moe, chunk), moe->row_bytes,
                               chunk->receive_offset, first, last};
  return moe->model->comm->ops->receive_begin(chunk->dispatch_in,
                                              MOERUN_TAG_DISPATCH + c, &in);
}

/* ---- Experts -------------------------------------------------------------------------- */

/* A peer's rows in a wave, own ones included: where they and their results
 * are, as row numbers of chunk->rows and chunk->results. */
typedef struct segment {
  int32_t first_row;
  int32_t count;
  int32_t first_result;
} segment;

static segment segment_of(const moerun__moe *moe, int32_t c, int32_t peer) {
  const moerun__moe_chunk *chunk = &moe->chunk[c];
  const moerun__route *route = &chunk->route;
  const int32_t R = moe->model->comm->size;
  if (peer == moe->model->comm->rank) {
    const int32_t first = route->copy_offset[peer];
    return (segment){first, route->copy_offset[peer + 1] - first,
                     route->result_offset[peer]};
  }
  const int32_t first = chunk->receive_offset[peer];
  return (segment){route->copy_offset[R] + first,
                   chunk->receive_offset[peer + 1] - first,
                   route->result_offset[R] + chunk->reply_offset[peer]};
}

static void slots_of_row(int16_t *slots, const moerun__moe *moe,
                         const moerun__moe_chunk *chunk, int32_t row) {
  const size_t K = (size_t)moe->model->config.experts_per_token;
  const size_t slots_at =
      (size_t)moe->model->config.hidden_width * moerun__dtype_bytes(moe->wire);
  memcpy(slots, chunk->rows + (size_t)row * moe->row_bytes + slots_at,
         K * sizeof(int16_t));
}

enum { MAX_K = 64 };

/* Pass 1 over the wave's rows: rows per slot, result rows per peer. */
static moerun_status count_slots(moerun__moe *moe, int32_t c, int32_t num_slots,
                                 int32_t first, int32_t last) {
  moerun_status status = MOERUN_OK;
  moerun__moe_chunk *chunk = &moe->chunk[c];
  const int32_t K = moe->model->config.experts_per_token;
  int16_t slots[MAX_K];
  memset(moe->slot_offset, 0, ((size_t)num_slots + 1) * sizeof(int32_t));
  chunk->reply_offset[first] = 0;
  for (int32_t p = first; p < last; p++) {
    const segment rows = segment_of(moe, c, p);
    int32_t results = 0;
    for (int32_t i = 0; i < rows.count; i++) {
      slots_of_row(slots, moe, chunk, rows.first_row + i);
      for (int32_t j = 0; j < K; j++) {
        if (slots[j] < 0) continue;
        MOERUN_REQUIRE(slots[j] < num_slots, MOERUN_ERR_COMM,
                       "rank %d asked for expert slot %d: expected below %d", p,
                       slots[j], num_slots);
        moe->slot_offset[slots[j] + 1]++;
        results++;
      }
    }
    if (p == moe->model->comm->rank) results = 0; /* they are home already */
    chunk->reply_offset[p + 1] = chunk->reply_offset[p] + results;
  }
  for (int32_t s = 0; s < num_slots; s++) {
    moe->slot_offset[s + 1] += moe->slot_offset[s];
  }
done:
  return status;
}

/* Pass 2: the rows and result rows of each slot, grouped. Afterwards
 * slot_offset[s] is the end of slot s. */
static void group_by_slot(moerun__moe *moe, int32_t c, int32_t first,
                          int32_t last) {
  const moerun__moe_chunk *chunk = &moe->chunk[c];
  const int32_t K = moe->model->config.experts_per_token;
  int16_t slots[MAX_K];
  for (int32_t p = first; p < last; p++) {
    const segment rows = segment_of(moe, c, p);
    int32_t result = rows.first_result;
    for (int32_t i = 0; i < rows.count; i++) {
      slots_of_row(slots, moe, chunk, rows.first_row + i);
      for (int32_t j = 0; j < K; j++) {
        if (slots[j] < 0) continue;
        const int32_t at = moe->slot_offset[slots[j]]++;
        moe->row_index[at] = rows.first_row + i;
        moe->result_index[at] = result++;
      }
    }
  }
}

/* Rows first..last-1 of the grouped lists through one expert. */
static void run_expert(moerun__moe *moe, moerun__moe_chunk *chunk,
                       const moerun__layer *layer, int32_t slot, int32_t first,
                       int32_t last) {
  const moerun__kernels *k = moe->kernels;
  const int32_t H = moe->model->config.hidden_width;
  const int32_t F = moe->model->config.expert_width;
  const moerun__wire_rows rows = wire_rows(moe, chunk->rows, moe->row_bytes);
  const moerun__wire_rows results =
      wire_rows(moe, chunk->results, moe->result_bytes);
  for (int32_t i = first; i < last; i += MOERUN_FFN_TILE) {
    const int32_t M = last - i < MOERUN_FFN_TILE ? last - i : MOERUN_FFN_TILE;
    k->gather(moe->tile_x, &rows, moe->row_index + i, M, H);
    moe->linear(moe->tile_gate_up, 2 * (size_t)F, moe->tile_x, (size_t)H, M,
                &layer->gate_up[slot], moe->scratch);
    k->swiglu(moe->tile_h, moe->tile_gate_up, M, F);
    moe->linear(moe->tile_y, (size_t)H, moe->tile_h, (size_t)F, M,
                &layer->down[slot], moe->scratch);
    k->scatter(&results, moe->result_index + i, moe->tile_y, M, H);
  }
}

static moerun_status run_experts(moerun__moe *moe, int32_t c,
                                 const moerun__layer *layer, int32_t first,
                                 int32_t last) {
  moerun_status status = MOERUN_OK;
  moerun__moe_chunk *chunk = &moe->chunk[c];
  const moerun_model *model = moe->model;
  int64_t *expert_rows =
      moe->stats->expert_rows +
      (size_t)layer->moe_layer * (size_t)model->config.num_experts;
  const int32_t *expert_of_slot =
      moe->expert_of_slot + (size_t)layer->moe_layer * (size_t)moe->max_slots;
  MOERUN_TRY(count_slots(moe, c, layer->num_slots, first, last));
  group_by_slot(moe, c, first, last);
  int32_t begin = 0;
  for (int32_t s = 0; s < layer->num_slots; s++) {
    const int32_t end = moe->slot_offset[s];
    run_expert(moe, chunk, layer, s, begin, end);
    expert_rows[expert_of_slot[s]] += end - begin;
    begin = end;
    /* Messages of other chunks move only when the library is called. */
    int arrived = 0;
    MOERUN_TRY(model->comm->ops->test(chunk->combine_in, &arrived));
  }
done:
  return status;
}

/* All waves of one chunk: receive, compute, send the results home. */
static moerun_status work_off(moerun__moe *moe, int32_t c,
                              const moerun__layer *layer) {
  moerun_status status = MOERUN_OK;
  moerun__moe_chunk *chunk = &moe->chunk[c];
  const moerun__comm_ops *ops = moe->model->comm->ops;
  const int32_t R = moe->model->comm->size;
  int32_t first = 0;
  while (first < R) {
    const int32_t last = size_wave(moe, c, first);
    if (first > 0) MOERUN_TRY(begin_wave(moe, c, first, last));
    MOERUN_TRY(ops->wait(chunk->dispatch_in));
    moe->stats->rows_in += chunk->receive_offset[last];
    moe->stats->waves++;
    moerun__stage_end(moe->stats, MOERUN_STAGE_ROWS_WAIT);
    MOERUN_TRY(run_experts(moe, c, layer, first, last));
    moerun__stage_end(moe->stats, MOERUN_STAGE_EXPERTS);
    char *replies = chunk->results +
                    (size_t)chunk->route.result_offset[R] * moe->result_bytes;
    const moerun__row_list out = {replies, moe->result_bytes,
                                  chunk->reply_offset, first, last};
    MOERUN_TRY(
        ops->send_begin(chunk->combine_out, MOERUN_TAG_COMBINE + c, &out));
    moe->stats->results_out += chunk->reply_offset[last];
    /* The next wave overwrites what these results are sent from. */
    if (last < R) MOERUN_TRY(ops->wait(chunk->combine_out));
    moerun__stage_end(moe->stats, MOERUN_STAGE_RESULTS_WAIT);
    first = last;
  }
done:
  return status;
}

/* ---- Combine and the whole ------------------------------------------------------ */

static moerun_status combine(moerun__moe *moe, int32_t c, float *y) {
  moerun_status status = MOERUN_OK;
  moerun__moe_chunk *chunk = &moe->chunk[c];
  const moerun__comm_ops *ops = moe->model->comm->ops;
  const int32_t H = moe->model->config.hidden_width;
  const int32_t K = moe->model->config.experts_per_token;
  const size_t first = (size_t)chunk->first_token;
  MOERUN_TRY(ops->wait(chunk->combine_in));
  moerun__stage_end(moe->stats, MOERUN_STAGE_RESULTS_WAIT);
  const moerun__wire_rows results =
      wire_rows(moe, chunk->results, moe->result_bytes);
  moe->kernels->combine(y + first * (size_t)H, &results, chunk->route.result_of,
                        moe->weight + first * (size_t)K, chunk->num_tokens, K,
                        H);
  moerun__stage_end(moe->stats, MOERUN_STAGE_COMBINE);
  MOERUN_TRY(ops->wait(chunk->dispatch_out));
  MOERUN_TRY(ops->wait(chunk->combine_out));
  moerun__stage_end(moe->stats, MOERUN_STAGE_RESULTS_WAIT);
done:
  return status;
}

static void count_rows(moerun__moe *moe, int32_t T) {
  const int32_t R = moe->model->comm->size;
  const int32_t rank = moe->model->comm->rank;
  moe->stats->home_rows += T;
  for (int32_t c = 0; c < moe->num_chunks; c++) {
    const int32_t *offset = moe->chunk[c].route.copy_offset;
    const int32_t local = offset[rank + 1] - offset[rank];
    moe->stats->rows_local += local;
    moe->stats->rows_out += offset[R] - local;
  }
}

moerun_status moerun__moe_forward(moerun__moe *moe, int32_t layer_index,
                                  int32_t T, const float *x, float *y,
                                  moerun_status failed) {
  moerun_status status = MOERUN_OK;
  const moerun__layer *layer = &moe->model->layers[layer_index];
  if (failed == MOERUN_OK) {
    gate(moe, layer, T, x);
    route_chunks(moe, layer->moe_layer, T);
    count_rows(moe, T);
  }
  MOERUN_TRY(exchange_counts(moe, failed));
  for (int32_t c = 0; c < moe->num_chunks; c++) {
    MOERUN_TRY(begin_wave(moe, c, 0, size_wave(moe, c, 0)));
    MOERUN_TRY(begin_dispatch(moe, c, x));
    moerun__stage_end(moe->stats, MOERUN_STAGE_DISPATCH);
  }
  for (int32_t c = 0; c < moe->num_chunks; c++) {
    MOERUN_TRY(work_off(moe, c, layer));
  }
  for (int32_t c = 0; c < moe->num_chunks; c++) {
    MOERUN_TRY(combine(moe, c, y));
  }
done:
  return status;
}
