/* Rows to the ranks of their experts: each once to a rank, with the slots
 * wanted there behind it, and a result home for every expert of it.
 *
 * Memory is bounded for any skew: a rank receives in waves of peers whose rows
 * fit its buffer, and asks for the next wave when one is worked off. Senders
 * need no buffer beyond their own copies, which the transport keeps, because a
 * rendezvous message waits for its receive. No deadlock: every rank begins to
 * receive its result rows before it waits for anything, and waits for its sends
 * last. Over a transport that begins an exchange at once there is room for all
 * rows, and so one wave; all ranks begin the exchanges of rows by chunk, and
 * then those of results by chunk. */
#include "runtime/moe/moe.h"

/* ---- Memory -------------------------------------------------------------- */

/* The slots that came with the rows of a wave, int16_t[receive_capacity][W],
 * where the rows lie in memory in which the host cannot read them; else
 * NULL. */
static void *lay_out(moerun__moe *moe, moerun__arenas *arenas) {
  if (moe->shape.memory == MOERUN_MEMORY_HOST) return NULL;
  return moerun__arena_take(&arenas->host, (size_t)moe->shape.receive_capacity,
                            moe->shape.slots_bytes);
}

/* ---- Waves --------------------------------------------------------------- */

/* Rows that peer p announced for chunk c. */
static int32_t announced(const moerun__moe *moe, int32_t c, int32_t p) {
  return moe->exchange.count_in[p * moe->shape.num_chunks + c];
}

/* The peers from first on whose rows fit together; returns the first peer of
 * the next wave. Own rows are of no size here. */
static int32_t size_wave(moerun__moe *moe, int32_t c, int32_t first) {
  moerun__moe_chunk *chunk = &moe->exchange.chunk[c];
  const int32_t R = moe->model->comm->size;
  int32_t rows = 0;
  int32_t p = first;
  chunk->receive_offset[first] = 0;
  for (; p < R; p++) {
    const int32_t count =
        p == moe->model->comm->rank ? 0 : announced(moe, c, p);
    if (rows + count > moe->shape.receive_capacity) break;
    rows += count;
    chunk->receive_offset[p + 1] = rows;
  }
  return p;
}

/* What the transport receives of peers first .. last - 1. */
static moerun__row_list wave_rows(const moerun__moe *moe, int32_t c,
                                  int32_t first, int32_t last) {
  const moerun__moe_chunk *chunk = &moe->exchange.chunk[c];
  char *received =
      chunk->rows + (size_t)moe->shape.chunk_tokens * moe->shape.row_bytes;
  return (moerun__row_list){
      received, moe->shape.row_bytes, chunk->receive_offset + first, first,
      last,     moe->shape.memory};
}

/* ---- Rows out ------------------------------------------------------------ */

/* Rows of a chunk that go anywhere, as they are sent. */
static void write_rows(moerun__moe *moe, moerun__moe_chunk *chunk,
                       const float *x) {
  const int32_t H = moe->model->config.hidden_width;
  const moerun__wire_rows rows =
      moerun__moe_rows(moe, chunk->rows, moe->shape.row_bytes);
  const moerun__dispatch what = {
      .x = x + (size_t)chunk->first_token * (size_t)H,
      .num_rows = chunk->num_tokens,
      .row_width = H,
      .to_offset = chunk->route.to_offset,
  };
  moe->kernels->dispatch(moe->queue, &rows, &what);
}

static moerun_status begin_dispatch(moerun__moe *moe, int32_t c,
                                    const float *x) {
  moerun_status status = MOERUN_OK;
  moerun__moe_chunk *chunk = &moe->exchange.chunk[c];
  const moerun__comm_ops *ops = moe->model->comm->ops;
  const moerun__route *route = &chunk->route;
  const int32_t R = moe->model->comm->size;
  const moerun__row_list home = {
      chunk->results,   moe->shape.result_bytes, route->result_offset, 0, R,
      moe->shape.memory};
  const moerun__row_list in = wave_rows(moe, c, 0, size_wave(moe, c, 0));
  const moerun__row_plan out = {.rows = chunk->rows,
                                .stride_bytes = moe->shape.row_bytes,
                                .row_bytes = moe->shape.slots_at,
                                .num_rows = chunk->num_tokens,
                                .to_offset = route->to_offset,
                                .to = route->to,
                                .tails = route->slots,
                                .tail_bytes = moe->shape.slots_bytes,
                                .wire_bytes = moe->shape.row_bytes,
                                .memory = moe->shape.memory};
  write_rows(moe, chunk, x);
  MOERUN_TRY(moe->queue->device->wait(moe->queue));
  MOERUN_TRY(
      ops->exchange_begin(chunk->dispatch, MOERUN_TAG_DISPATCH + c, &out, &in));
  MOERUN_TRY(ops->receive_begin(chunk->combine, MOERUN_TAG_COMBINE + c, &home));
done:
  return status;
}

static void count_rows(moerun__moe *moe) {
  const int32_t R = moe->model->comm->size;
  const int32_t rank = moe->model->comm->rank;
  for (int32_t c = 0; c < moe->shape.num_chunks; c++) {
    const int32_t *offset = moe->exchange.chunk[c].route.copy_offset;
    const int32_t local = offset[rank + 1] - offset[rank];
    moe->stats->rows_local += local;
    moe->stats->rows_out += offset[R] - local;
  }
}

static moerun_status begin(moerun__moe *moe, const moerun__layer_call *call) {
  moerun_status status = MOERUN_OK;
  count_rows(moe);
  moe->exchange.wave.chunk = 0;
  moe->exchange.wave.next_peer = 0;
  for (int32_t c = 0; c < moe->shape.num_chunks; c++) {
    MOERUN_TRY(begin_dispatch(moe, c, call->x));
    moerun__stage_end(moe->stats, MOERUN_STAGE_DISPATCH);
  }
done:
  return status;
}

/* ---- Rows in ------------------------------------------------------------- */

/* The rows of one peer: own ones where they are sent from, at the token's
 * number, with their slots in the route; others' behind them, as they were
 * received. */
static moerun__wave_part part_of(const moerun__moe *moe,
                                 const moerun__moe_chunk *chunk, int32_t peer) {
  const moerun__route *route = &chunk->route;
  if (peer == moe->model->comm->rank) {
    return (moerun__wave_part){.peer = peer,
                               .count = chunk->num_tokens,
                               .slots = (const char *)route->slots,
                               .stride_bytes = moe->shape.slots_bytes,
                               .copy = route->own_copy,
                               .first_result = route->result_offset[peer]};
  }
  const int32_t first = chunk->receive_offset[peer];
  const size_t slots_bytes = moe->shape.slots_bytes;
  const char *fetched = moe->exchange.work;
  moerun__wave_part part = {.peer = peer,
                            .first_row = moe->shape.chunk_tokens + first,
                            .count = chunk->receive_offset[peer + 1] - first};
  if (fetched != NULL) {
    part.slots = fetched + (size_t)first * slots_bytes;
    part.stride_bytes = slots_bytes;
  } else {
    part.slots = chunk->rows + (size_t)part.first_row * moe->shape.row_bytes +
                 moe->shape.slots_at;
    part.stride_bytes = moe->shape.row_bytes;
  }
  return part;
}

/* The slots of the first `count` rows received, once they are here. */
static moerun_status fetch_slots(moerun__moe *moe, int32_t count) {
  moerun_status status = MOERUN_OK;
  const size_t slots_bytes = moe->shape.slots_bytes;
  const moerun__copies slots = {.to = moe->exchange.work,
                                .to_stride = slots_bytes,
                                .from = moe->exchange.wave.rows +
                                        (size_t)moe->shape.chunk_tokens *
                                            moe->shape.row_bytes +
                                        moe->shape.slots_at,
                                .from_stride = moe->shape.row_bytes,
                                .bytes = slots_bytes,
                                .count = count};
  if (moe->shape.memory == MOERUN_MEMORY_HOST) goto done;
  moe->queue->device->copy_rows(moe->queue, &slots);
  MOERUN_TRY(moe->queue->device->wait(moe->queue));
done:
  return status;
}

/* The wave of peers from `first` on. */
static void make_wave(moerun__moe *moe, int32_t first) {
  moerun__wave *wave = &moe->exchange.wave;
  const moerun__moe_chunk *chunk = &moe->exchange.chunk[wave->chunk];
  wave->next_peer = size_wave(moe, wave->chunk, first);
  wave->rows = chunk->rows;
  wave->results = chunk->results;
  wave->result_bytes = moe->shape.result_bytes;
  wave->first_reply = chunk->route.result_offset[moe->model->comm->size];
  wave->num_parts = 0;
  for (int32_t p = first; p < wave->next_peer; p++) {
    wave->part[wave->num_parts++] = part_of(moe, chunk, p);
  }
}

static moerun_status next_wave(moerun__moe *moe, const moerun__layer_call *call,
                               int *more) {
  moerun_status status = MOERUN_OK;
  const moerun__comm_ops *ops = moe->model->comm->ops;
  const int32_t R = moe->model->comm->size;
  moerun__wave *wave = &moe->exchange.wave;
  (void)call; /* all rows have left */
  if (wave->next_peer == R) {
    wave->chunk++;
    wave->next_peer = 0;
  }
  *more = wave->chunk < moe->shape.num_chunks;
  if (!*more) goto done;
  const moerun__moe_chunk *chunk = &moe->exchange.chunk[wave->chunk];
  const int32_t first = wave->next_peer;
  make_wave(moe, first);
  if (first > 0) {
    const moerun__row_list in =
        wave_rows(moe, wave->chunk, first, wave->next_peer);
    MOERUN_TRY(ops->receive_begin(chunk->dispatch,
                                  MOERUN_TAG_DISPATCH + wave->chunk, &in));
  }
  const int32_t received = chunk->receive_offset[wave->next_peer];
  MOERUN_TRY(moerun__store_forward_until(&moe->store, chunk->dispatch));
  MOERUN_TRY(fetch_slots(moe, received));
  moe->stats->rows_in += received;
  moe->stats->waves++;
  moerun__stage_end(moe->stats, MOERUN_STAGE_ROWS_WAIT);
done:
  return status;
}

static moerun_status progress(moerun__moe *moe) {
  moerun_status status = MOERUN_OK;
  const moerun__comm_ops *ops = moe->model->comm->ops;
  const moerun__moe_chunk *chunk =
      &moe->exchange.chunk[moe->exchange.wave.chunk];
  int done = 0;
  MOERUN_TRY(ops->test(chunk->dispatch, &done));
  if (done) MOERUN_TRY(ops->test_received(chunk->combine, &done));
done:
  return status;
}

/* ---- Results ------------------------------------------------------------- */

static moerun_status reply(moerun__moe *moe) {
  moerun_status status = MOERUN_OK;
  const moerun__comm_ops *ops = moe->model->comm->ops;
  const int32_t R = moe->model->comm->size;
  const moerun__wave *wave = &moe->exchange.wave;
  const moerun__moe_chunk *chunk = &moe->exchange.chunk[wave->chunk];
  const int32_t first = wave->part[0].peer;
  int32_t results = 0;
  chunk->reply_offset[first] = 0;
  for (int32_t i = 0; i < wave->num_parts; i++) {
    const moerun__wave_part *part = &wave->part[i];
    /* Own results are home already. */
    if (part->peer != moe->model->comm->rank) results += part->num_results;
    chunk->reply_offset[part->peer + 1] = results;
  }
  const moerun__row_list out = {wave->results + (size_t)wave->first_reply *
                                                    moe->shape.result_bytes,
                                moe->shape.result_bytes,
                                chunk->reply_offset + first,
                                first,
                                wave->next_peer,
                                moe->shape.memory};
  MOERUN_TRY(
      ops->send_begin(chunk->combine, MOERUN_TAG_COMBINE + wave->chunk, &out));
  moe->stats->results_out += results;
  /* The next wave overwrites what these results are sent from. */
  if (wave->next_peer < R) MOERUN_TRY(ops->wait_sent(chunk->combine));
  moerun__stage_end(moe->stats, MOERUN_STAGE_RESULTS_WAIT);
done:
  return status;
}

static moerun_status collect(moerun__moe *moe, int32_t c) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(
      moe->model->comm->ops->wait_received(moe->exchange.chunk[c].combine));
  moerun__stage_end(moe->stats, MOERUN_STAGE_RESULTS_WAIT);
done:
  return status;
}

static moerun_status finish(moerun__moe *moe, int32_t c) {
  moerun_status status = MOERUN_OK;
  const moerun__comm_ops *ops = moe->model->comm->ops;
  MOERUN_TRY(ops->wait(moe->exchange.chunk[c].dispatch));
  MOERUN_TRY(ops->wait(moe->exchange.chunk[c].combine));
  moerun__stage_end(moe->stats, MOERUN_STAGE_RESULTS_WAIT);
done:
  return status;
}

const moerun__exchange_ops moerun__exchange_whole = {
    .lay_out = lay_out,
    .begin = begin,
    .next_wave = next_wave,
    .progress = progress,
    .reply = reply,
    .collect = collect,
    .finish = finish,
};
