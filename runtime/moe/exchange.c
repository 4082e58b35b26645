/* What all exchanges share: the memory of the chunks and the transfers that
 * they send by. */
#include "runtime/moe/exchange.h"

#include "runtime/base/number.h"
#include "runtime/moe/moe.h"

/* ---- Sizes --------------------------------------------------------------- */

static size_t padded(size_t bytes) {
  return (size_t)moerun__round_up((int64_t)bytes, 16);
}

size_t moerun__elements_bytes(const moerun__model_config *config,
                              moerun__dtype wire) {
  return moerun__ids_at(wire, config->hidden_width);
}

size_t moerun__slots_bytes(int32_t width) {
  return (size_t)width * sizeof(int16_t);
}

size_t moerun__row_bytes(const moerun__model_config *config, moerun__dtype wire,
                         int32_t width) {
  return padded(moerun__elements_bytes(config, wire) +
                moerun__slots_bytes(width));
}

size_t moerun__copy_bytes(const moerun__model_config *config,
                          moerun__dtype wire) {
  return moerun__row_bytes(config, wire, config->experts_per_token);
}

size_t moerun__result_bytes(const moerun__model_config *config,
                            moerun__dtype wire) {
  return padded(moerun__elements_bytes(config, wire));
}

/* ---- Memory -------------------------------------------------------------- */

static void lay_out_chunk(moerun__moe *moe, moerun__moe_chunk *chunk,
                          moerun__arenas *arenas) {
  moerun__arena *arena = &arenas->host;
  const size_t R = (size_t)moe->model->comm->size;
  const int32_t W = moe->gate.width;
  const size_t own = (size_t)moe->shape.chunk_tokens;
  const size_t capacity = (size_t)moe->shape.receive_capacity;
  const size_t home_results = (size_t)moe->shape.chunk_tokens * (size_t)W;
  moerun__route_lay_out(&chunk->route, arena, moe->shape.chunk_tokens, W,
                        moe->model->comm->size);
  chunk->rows =
      moerun__arena_take(&arenas->rows, own + capacity, moe->shape.row_bytes);
  chunk->results = moerun__arena_take(
      &arenas->rows, home_results + capacity * (size_t)moe->shape.terms,
      moe->shape.result_bytes);
  chunk->receive_offset = moerun__arena_take(arena, R + 1, sizeof(int32_t));
  chunk->reply_offset = moerun__arena_take(arena, R + 1, sizeof(int32_t));
}

void moerun__exchange_lay_out(moerun__moe *moe, moerun__arenas *arenas) {
  for (int32_t c = 0; c < moe->shape.num_chunks; c++) {
    lay_out_chunk(moe, &moe->exchange.chunk[c], arenas);
  }
  moe->exchange.wave.part =
      moerun__arena_take(&arenas->host, (size_t)moe->model->comm->size,
                         sizeof *moe->exchange.wave.part);
}

/* Copies that leave this rank, the largest chunk's. */
static size_t dispatch_bytes(const moerun__moe *moe) {
  const int32_t others = moe->model->comm->size - 1;
  return (size_t)moerun__route_max_copies(moe->shape.chunk_tokens,
                                          moe->gate.width, others) *
         moe->shape.row_bytes;
}

size_t moerun__exchange_bytes(const moerun__moe *moe) {
  const moerun_comm *comm = moe->model->comm;
  return (size_t)moe->shape.num_chunks *
         (comm->ops->transfer_bytes(comm, dispatch_bytes(moe),
                                    moe->shape.memory) +
          comm->ops->transfer_bytes(comm, 0, MOERUN_MEMORY_HOST));
}

moerun_status moerun__exchange_create(moerun__moe *moe) {
  moerun_status status = MOERUN_OK;
  moerun_comm *comm = moe->model->comm;
  for (int32_t c = 0; c < moe->shape.num_chunks; c++) {
    moerun__moe_chunk *chunk = &moe->exchange.chunk[c];
    MOERUN_TRY(comm->ops->transfer_create(
        &chunk->dispatch, comm, dispatch_bytes(moe), moe->shape.memory));
    MOERUN_TRY(comm->ops->transfer_create(&chunk->combine, comm, 0,
                                          MOERUN_MEMORY_HOST));
  }
done:
  return status;
}

void moerun__exchange_destroy(moerun__moe *moe) {
  const moerun__comm_ops *ops = moe->model->comm->ops;
  for (int32_t c = 0; c < moe->shape.num_chunks; c++) {
    ops->transfer_destroy(moe->exchange.chunk[c].dispatch);
    ops->transfer_destroy(moe->exchange.chunk[c].combine);
  }
}
