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

/* ---- Transfers ----------------------------------------------------------- */

/* One of each chunk's transfers: where it is, and what it is created with. */
typedef struct chunk_transfer {
  moerun__transfer **at;
  size_t plan_bytes;
  moerun__memory memory;
} chunk_transfer;

enum { CHUNK_TRANSFERS = 2 };

/* The list of them, which counting, creating and destroying go by. Of the
 * dispatch: the copies that leave this rank, the largest chunk's. */
static void list_transfers(chunk_transfer out[CHUNK_TRANSFERS],
                           moerun__moe_chunk *chunk, const moerun__moe *moe) {
  const int32_t others = moe->model->comm->size - 1;
  const size_t copies = (size_t)moerun__route_max_copies(
      moe->shape.chunk_tokens, moe->gate.width, others);
  out[0] = (chunk_transfer){&chunk->dispatch, copies * moe->shape.row_bytes,
                            moe->shape.memory};
  out[1] = (chunk_transfer){&chunk->combine, 0, MOERUN_MEMORY_HOST};
}

size_t moerun__exchange_bytes(const moerun__moe *moe) {
  const moerun_comm *comm = moe->model->comm;
  moerun__moe_chunk chunk = {0};
  chunk_transfer list[CHUNK_TRANSFERS];
  size_t sum = 0;
  list_transfers(list, &chunk, moe);
  for (int i = 0; i < CHUNK_TRANSFERS; i++) {
    sum += comm->ops->transfer_bytes(comm, list[i].plan_bytes, list[i].memory);
  }
  return (size_t)moe->shape.num_chunks * sum;
}

moerun_status moerun__exchange_create(moerun__moe *moe) {
  moerun_status status = MOERUN_OK;
  moerun_comm *comm = moe->model->comm;
  for (int32_t c = 0; c < moe->shape.num_chunks; c++) {
    chunk_transfer list[CHUNK_TRANSFERS];
    list_transfers(list, &moe->exchange.chunk[c], moe);
    for (int i = 0; i < CHUNK_TRANSFERS; i++) {
      MOERUN_TRY(comm->ops->transfer_create(
          list[i].at, comm, list[i].plan_bytes, list[i].memory));
    }
  }
done:
  return status;
}

void moerun__exchange_destroy(moerun__moe *moe) {
  const moerun__comm_ops *ops = moe->model->comm->ops;
  for (int32_t c = 0; c < moe->shape.num_chunks; c++) {
    chunk_transfer list[CHUNK_TRANSFERS];
    list_transfers(list, &moe->exchange.chunk[c], moe);
    for (int i = 0; i < CHUNK_TRANSFERS; i++) {
      ops->transfer_destroy(*list[i].at);
    }
  }
}
