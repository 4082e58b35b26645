/* Rows to the ranks of their experts: each once to a rank, with the slots wanted
 * there behind it, and a result home for every expert of it.
 *
 * Memory is bounded for any skew: a rank receives in waves of peers whose rows
 * fit its buffer, and asks for the next wave when one is worked off. Senders
 * need no buffer beyond their own copies, which the transport keeps, because a
 * rendezvous message waits for its receive. No deadlock: every rank begins to
 * receive its result rows before it waits for anything, and waits for its sends
 * last. */
#include "runtime/moe/exchange_whole.h"

/* ---- Waves ------------------------------------------------------------------- */

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

/* The rows of a wave's peers. */
static moerun__row_list wave_rows(const moerun__moe *moe, int32_t c,
                                  int32_t first, int32_t last) {
  const moerun__moe_chunk *chunk = &moe->exchange.chunk[c];
  char *received =
      chunk->rows + (size_t)moe->shape.chunk_tokens * moe->shape.row_bytes;
  return (moerun__row_list){received, moe->shape.row_bytes,
                            chunk->receive_offset, first, last};
}

/* ---- Rows out ---------------------------------------------------------------- */

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
  const moerun__row_list home = {chunk->results, moe->shape.result_bytes,
                                 route->result_offset, 0, R};
  const moerun__row_list in = wave_rows(moe, c, 0, size_wave(moe, c, 0));
  const moerun__row_plan out = {.rows = chunk->rows,
                                .stride_bytes = moe->shape.row_bytes,
                                .row_bytes = moe->shape.slots_at,
                                .num_rows = chunk->num_tokens,
                                .to_offset = route->to_offset,
                                .to = route->to,
                                .tails = route->slots,
                                .tail_bytes =
                                    moerun__slots_bytes(moe->gate.width),
                                .wire_bytes = moe->shape.row_bytes};
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

static moerun_status begin(moerun__moe *moe, const float *x) {
  moerun_status status = MOERUN_OK;
  count_rows(moe);
  moe->exchange.wave = (moerun__wave){0};
  for (int32_t c = 0; c < moe->shape.num_chunks; c++) {
    MOERUN_TRY(begin_dispatch(moe, c, x));
    moerun__stage_end(moe->stats, MOERUN_STAGE_DISPATCH);
  }
done:
  return status;
}

/* ---- Rows in ----------------------------------------------------------------- */

static moerun_status next_wave(moerun__moe *moe, const float *x, int *more) {
  moerun_status status = MOERUN_OK;
  const moerun__comm_ops *ops = moe->model->comm->ops;
  const int32_t R = moe->model->comm->size;
  moerun__wave *wave = &moe->exchange.wave;
  (void)x; /* all rows have left */
  if (wave->last == R) *wave = (moerun__wave){.chunk = wave->chunk + 1};
  *more = wave->chunk < moe->shape.num_chunks;
  if (!*more) goto done;
  moerun__moe_chunk *chunk = &moe->exchange.chunk[wave->chunk];
  wave->first = wave->last;
  wave->last = size_wave(moe, wave->chunk, wave->first);
  if (wave->first > 0) {
    const moerun__row_list in =
        wave_rows(moe, wave->chunk, wave->first, wave->last);
    MOERUN_TRY(ops->receive_begin(chunk->dispatch,
                                  MOERUN_TAG_DISPATCH + wave->chunk, &in));
  }
  MOERUN_TRY(moerun__store_forward_until(&moe->store, chunk->dispatch));
  moe->stats->rows_in += chunk->receive_offset[wave->last];
  moe->stats->waves++;
  moerun__stage_end(moe->stats, MOERUN_STAGE_ROWS_WAIT);
done:
  return status;
}

moerun__peer_rows moerun__peer_rows_of(const moerun__moe *moe, int32_t peer) {
  const moerun__moe_chunk *chunk =
      &moe->exchange.chunk[moe->exchange.wave.chunk];
  const moerun__route *route = &chunk->route;
  const int32_t R = moe->model->comm->size;
  if (peer == moe->model->comm->rank) {
    return (moerun__peer_rows){1, 0, chunk->num_tokens,
                               route->result_offset[peer]};
  }
  const int32_t first = chunk->receive_offset[peer];
  return (moerun__peer_rows){0, moe->shape.chunk_tokens + first,
                             chunk->receive_offset[peer + 1] - first,
                             route->result_offset[R] +
                                 chunk->reply_offset[peer]};
}

const void *moerun__peer_slots(const moerun__moe *moe,
                               const moerun__peer_rows *rows, int32_t i) {
  const moerun__moe_chunk *chunk =
      &moe->exchange.chunk[moe->exchange.wave.chunk];
  if (rows->is_own) {
    const int32_t copy = chunk->route.own_copy[i];
    if (copy < 0) return NULL;
    return chunk->route.slots + (size_t)copy * (size_t)moe->gate.width;
  }
  return chunk->rows + (size_t)(rows->first_row + i) * moe->shape.row_bytes +
         moe->shape.slots_at;
}

/* ---- Results ----------------------------------------------------------------- */

static moerun_status reply(moerun__moe *moe) {
  moerun_status status = MOERUN_OK;
  const moerun__comm_ops *ops = moe->model->comm->ops;
  const int32_t R = moe->model->comm->size;
  const moerun__wave *wave = &moe->exchange.wave;
  const moerun__moe_chunk *chunk = &moe->exchange.chunk[wave->chunk];
  char *replies = chunk->results + (size_t)chunk->route.result_offset[R] *
                                       moe->shape.result_bytes;
  const moerun__row_list out = {replies, moe->shape.result_bytes,
                                chunk->reply_offset, wave->first, wave->last};
  MOERUN_TRY(
      ops->send_begin(chunk->combine, MOERUN_TAG_COMBINE + wave->chunk, &out));
  moe->stats->results_out += chunk->reply_offset[wave->last];
  /* The next wave overwrites what these results are sent from. */
  if (wave->last < R) MOERUN_TRY(ops->wait_sent(chunk->combine));
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
    .name = "whole",
    .begin = begin,
    .next_wave = next_wave,
    .reply = reply,
    .collect = collect,
    .finish = finish,
};
